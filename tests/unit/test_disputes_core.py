"""Criteria, verdicts and liability on acts, paths and records built by hand."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import Path
from auditlog.core.chain.record import Approval, Record
from auditlog.core.chain.statement import Grant, Token
from auditlog.core.event import Action, Actor, Attestation, Deny, Detail, Gate, Intent, Limit, Party, Payload, Target
from auditlog.core.money.limits import LimitFact, Spent
from disputes.core.criteria import NAMES, Integrity, Policy, judge
from disputes.core.verdict import reach

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
POLICY = Policy()
ADA = Party("https://id.acme.example", "ada", "human")
SHOPPER = Party("https://conductor.example", "shopper", "agent")
BUYER = Party("https://conductor.example", "buyer", "agent")
FIT = Integrity(7, True, True, 100, "A")
KINDS = {ADA.key: "human", SHOPPER.key: "agent", BUYER.key: "agent"}


def grant(id="g1", *, subject=ADA, actor=SHOPPER, parent=None, standing="proven", **more) -> Grant:
    base = dict.fromkeys("details limits not_before expires_at audience max_depth redelegate gates intent jkt".split())
    return Grant(
        id=id, parent=parent, root=more.pop("root", parent is None), subject=subject, actor=actor,
        granted_at=more.pop("granted_at", NOW - HOUR), leaf_index=more.pop("leaf_index", 1), event_id=f"ev-{id}", source="conductor",
        attester="https://conductor.example", grade="A", standing=standing, **(base | more),
    )  # fmt: skip


def details(*actions, resources=(), deny=None, providers=()):
    return (Detail(actions=list(actions), resources=list(resources), deny=deny, providers=list(providers)),)


ANY = details("**")


def path(*grants, missing=None, cycle=False) -> Path:
    return Path(tuple(grants), missing, cycle)


def act(chain=None, **more) -> Act:
    chain = path(grant(details=ANY)) if chain is None else chain
    actor = more.pop("by", SHOPPER)
    name = more.pop("name", "acme.io")
    payload = more.pop("payload", None) or Payload(
        outcome=more.get("outcome", "success"),
        actor=Actor(actor.iss, actor.sub, actor.kind) if actor else None,
        action=Action(verb="domain.register", provider="registrar", target=Target("domain", name), resource=name),
        gate=more.pop("gate", None),
        intent=more.pop("intent", None),
        attestation=more.pop("attestation", None),
    )
    fields = dict(
        event_id="act-1", leaf_index=10, type="domain.registered", source="conductor",
        issuer="https://conductor.example", grade="A", occurred_at=NOW, received_at=NOW + SECOND, outcome="success",
        environment="live", principal=ADA.key, principal_claimed=False, actor=actor.key if actor else "",
        provider="registrar", account="", target=name, resource=name, stated_verb="domain.register", operation="",
        grant=chain.grants[-1].id if chain.grants else chain.missing or "", token="",
        via_grant=chain.grants[-1].id if chain.grants else "", txn="", session="", task="", project="", request_id="",
        idempotency_key="", phase="", amount_minor=None, currency="", rail="", charge="", within_remit=True, jkt="",
        payload=payload, path=chain,
    )  # fmt: skip
    return Act(**(fields | more))


def bought(minor=900, chain=None, **more) -> Act:
    return act(chain, amount_minor=minor, currency=more.pop("currency", "USD"), phase=more.pop("phase", "captured"),
               rail="stripe", charge=more.pop("charge", "ch-1"), **more)  # fmt: skip


def record(**more) -> Record:
    return Record(kinds=more.pop("kinds", KINDS), **more)


def answer(criterion, the_act, the_record=None, check=FIT):
    results = {r.id: r for r in judge(the_act, the_record or record(), check, POLICY)}
    return results[criterion]


def verdict(the_act, the_record=None, check=FIT):
    return reach(the_act, the_record or record(), check, POLICY)


def limit_fact(
    max_minor,
    *,
    verb="set",
    holder=SHOPPER,
    at=NOW - HOUR,
    set_by=ADA,
    currency="USD",
    scope="global",
    provider="",
    grant="",
    leaf=2,
    interval="once",
):
    return LimitFact(leaf, f"lim-{leaf}", verb, holder.key, grant, scope, "", provider, currency, interval, "", max_minor, "hard", set_by.key, at)  # fmt: skip


def spent(minor, *, event_id="e", leaf=3, at=NOW - SECOND, provider="registrar", currency="USD", grants=("g1",)):
    return Spent(
        event_id, leaf, at, provider, currency, minor, 0, "stripe", frozenset({ADA.key, SHOPPER.key}), frozenset(grants),
        principal=ADA.key,
    )  # fmt: skip


# --- the order of the answers ---------------------------------------------------------------------------------------


def test_criteria_come_in_their_fixed_order():
    results = judge(act(), record(), FIT, POLICY)

    assert [r.id for r in results] == [*(f"C{n}" for n in range(14)), "I1", "I2"] == list(NAMES)
    assert {r.id for r in results if r.result == "na"} >= {"C11", "C12", "C13", "I1"}
    assert all(r.reason for r in results)


def test_a_plain_act_within_its_grant_is_within_scope():
    found = verdict(bought())

    assert found.verdict == "within_scope"
    assert found.codes == () and found.would_change == () and found.decisive is None
    assert found.liability.as_json() | {"basis": ""} == {
        "bearer": "principal",
        "basis": "",
        "amount_minor": 900,
        "currency": "USD",
    }


def test_the_verdict_has_exactly_its_published_fields():
    found = verdict(act()).as_json()

    assert list(found) == [
        "event_id",
        "verdict",
        "decisive",
        "codes",
        "criteria",
        "liability",
        "would_change",
        "digest",
    ]
    assert set(found["criteria"][0]) == {"id", "name", "result", "reason", "evidence"}
    assert set(found["liability"]) == {"bearer", "basis", "amount_minor", "currency"}


# --- C0, C1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "remit", "result"),
    [
        (FIT, True, "pass"),
        (replace(FIT, signature_ok=None, checkpoint_size=None), True, "pass"),
        (replace(FIT, commitment_ok=False), True, "fail"),
        (replace(FIT, signature_ok=False), True, "fail"),
        (None, True, "unknown"),
        (FIT, False, "unknown"),
    ],
)
def test_c0_record_integrity(check, remit, result):
    the_act = act(within_remit=remit)

    assert answer("C0", the_act, check=check).result == result
    assert (verdict(the_act, check=check).verdict == "indeterminate") == (result != "pass")


BARE = {"grant": "", "via_grant": "", "token": ""}
STRANGER = Party("https://evil.example", "mallory", "agent")


@pytest.mark.parametrize(
    ("the_act", "the_record", "result"),
    [
        (act(), record(), "pass"),
        (act(path(grant(redelegate=True, details=ANY), grant("g2", parent="g1", subject=SHOPPER, actor=BUYER)), by=BUYER), record(), "pass"),
        (act(path(grant(redelegate=True, details=ANY), grant("g2", parent="g1", subject=ADA, actor=BUYER)), by=BUYER), record(), "pass"),
        (act(path(), by=None, **BARE), record(), "unknown"),
        (act(path(), **BARE), record(), "unknown"),
        (act(path(), by=None, **(BARE | {"token": "tok"})), record(), "unknown"),
        (act(path(missing="g9"), by=None), record(), "unknown"),
        (act(path(grant("g2", parent="g1", details=ANY), missing="g1")), record(), "unknown"),
        (act(path(grant(root=False, details=ANY))), record(), "unknown"),
        (act(path(grant(standing="claimed", details=ANY))), record(), "unknown"),
        (act(path(grant(subject=None, details=ANY))), record(), "unknown"),
        (act(path(grant(details=ANY)), by=BUYER), record(), "unknown"),
        (act(path(grant(subject=BUYER, details=ANY))), record(), "fail"),
        (act(path(grant(subject=STRANGER, details=ANY))), record(kinds={STRANGER.key: "human"}), "pass"),
        (act(path(grant(subject=Party("x", "y"), details=ANY))), record(), "unknown"),
        (act(path(grant("a", parent="b"), grant("b", parent="a"), cycle=True)), record(), "fail"),
        (act(path(grant("a", parent="b", standing="claimed"), cycle=True)), record(), "unknown"),
        (act(path(grant(redelegate=True), grant("g2", parent="g1", subject=STRANGER, actor=BUYER)), by=BUYER), record(), "fail"),
        (act(token="tok"), record(), "unknown"),
        (act(token="tok"), record(tokens={"tok": Token("tok", "proven", 4)}), "pass"),
    ],
)  # fmt: skip
def test_c1_chain(the_act, the_record, result):
    found = answer("C1", the_act, the_record)

    assert found.result == result, found.reason


def test_what_the_record_says_of_a_kind_counts_before_the_grant():
    called_human = grant(subject=Party(BUYER.iss, BUYER.sub, "human"), details=ANY)

    assert answer("C1", act(path(called_human))).result == "fail"


def test_an_act_that_names_nobody_is_unknown_and_no_fraud():
    found = verdict(bought(chain=path(), by=None, **BARE))

    assert (found.verdict, found.codes, found.liability.bearer) == ("indeterminate", (), "record_keeper")


def test_an_act_under_a_root_that_no_human_gave_has_no_authority():
    found = verdict(bought(chain=path(grant(subject=BUYER, details=ANY))))

    assert (found.verdict, found.codes, found.liability.bearer) == ("out_of_scope", ("no_authority",), "fraud_track")


def test_a_missing_parent_makes_it_indeterminate_and_names_what_is_missing():
    found = verdict(bought(chain=path(grant("g2", parent="g1", details=ANY), missing="g1")))

    assert found.verdict == "indeterminate"
    assert found.decisive is None
    assert {r.result for r in found.criteria if r.id in ("C2", "C3", "C4", "C5", "C6", "C7", "C9", "C10")} == {
        "unknown"
    }
    assert "g1" in found.would_change[0]
    assert (found.liability.bearer, found.liability.amount_minor) == ("record_keeper", None)


def test_a_fail_that_no_missing_grant_could_cure_is_decisive():
    known = grant("g2", parent="g1", details=details("worker.*"))

    found = verdict(act(path(known, missing="g1")))
    claimed = verdict(act(path(replace(known, standing="claimed"), missing="g1")))

    assert (found.verdict, found.decisive, found.codes) == ("indeterminate", ("C3",), ("action_not_allowed",))
    assert (claimed.verdict, claimed.decisive) == ("indeterminate", None)
    assert verdict(act(path(known, missing="g1")), check=replace(FIT, commitment_ok=False)).decisive is None


def test_what_a_missing_parent_may_allow_is_not_held_against_a_child():
    below = path(
        grant("g2", parent="g1", details=ANY), grant("g3", parent="g2", subject=SHOPPER, actor=BUYER), missing="g1"
    )

    assert answer("C10", act(below, by=BUYER)).result == "unknown"


# --- C2 to C10 ------------------------------------------------------------------------------------------------------


def two(first=None, second=None):
    """Ada to shopper, shopper to buyer."""
    first = grant(**({"redelegate": True, "details": ANY} | (first or {})))
    return path(first, grant("g2", parent="g1", subject=SHOPPER, actor=BUYER, leaf_index=2, **(second or {})))


@pytest.mark.parametrize(
    ("chain", "code"),
    [
        (two({"details": details("domain.register", resources=["acme.io"])}, {"details": ANY}), "scope_widened"),
        (two({"limits": (Limit(max_minor=100),)}, {"limits": (Limit(max_minor=200),)}), "limit_widened"),
        (two({"expires_at": NOW + HOUR}, {"expires_at": NOW + 2 * HOUR}), "outlives_parent"),
        (two({"max_depth": 1}, {"max_depth": 2}), "depth_widened"),
    ],
)
def test_c2_a_sub_agent_wider_than_its_parent(chain, code):
    the_act = act(chain, by=BUYER)

    found = answer("C2", the_act)

    assert (found.result, found.codes, found.hop) == ("fail", (code,), 2)
    assert found.evidence[0]["grant"] == "g2"
    assert verdict(the_act).verdict == "out_of_scope"


def test_c2_narrower_passes():
    assert answer("C2", act(two(second={"details": details("domain.register")}), by=BUYER)).result == "pass"


@pytest.mark.parametrize(
    ("criterion", "chain", "more", "result"),
    [
        ("C3", path(grant(details=details("domain.*"))), {}, "pass"),
        ("C3", path(grant(details=details("worker.*"))), {}, "fail"),
        ("C3", path(grant(details=details("**", deny=Deny(actions=["domain.register"])))), {}, "fail"),
        ("C3", path(grant(details=None)), {}, "unknown"),
        ("C3", path(grant(details=ANY)), {"type": "other.x.y", "stated_verb": ""}, "unknown"),
        ("C4", path(grant(details=details("**", resources=["*.io"]))), {}, "pass"),
        ("C4", path(grant(details=details("**", resources=["ACME.io."]))), {}, "pass"),
        ("C4", path(grant(details=details("**", resources=["acme.com"]))), {}, "fail"),
        ("C4", path(grant(details=details("**", deny=Deny(resources=["acme.*"])))), {}, "fail"),
        ("C4", path(grant(details=details("**", resources=["acme.io"]))), {"target": "", "resource": ""}, "unknown"),
        ("C6", path(grant(details=ANY, expires_at=NOW + HOUR, not_before=NOW - HOUR)), {}, "pass"),
        ("C6", path(grant(details=ANY, expires_at=NOW - 29 * SECOND)), {}, "pass"),
        ("C6", path(grant(details=ANY, expires_at=NOW - 31 * SECOND)), {}, "fail"),
        ("C6", path(grant(details=ANY, not_before=NOW + 31 * SECOND)), {}, "fail"),
        ("C6", path(grant("g2", parent="g1"), missing="g1"), {}, "unknown"),
        ("C7", path(grant(details=ANY, audience=("registrar",))), {}, "pass"),
        ("C7", path(grant(details=ANY, audience=("cloud",))), {}, "fail"),
        ("C7", path(grant(details=ANY, audience=("cloud",))), {"provider": ""}, "unknown"),
        ("C10", two(), {"by": BUYER}, "pass"),
        ("C10", two({"redelegate": None}), {"by": BUYER}, "fail"),
        ("C10", two({"max_depth": 0}), {"by": BUYER}, "fail"),
        ("C10", path(missing="g1"), {}, "unknown"),
    ],
)
def test_scope_window_audience_and_depth(criterion, chain, more, result):
    the_act = act(chain, **more)

    found = answer(criterion, the_act)

    assert found.result == result, found.reason
    if result == "fail":
        assert found.codes and found.cure and found.evidence[0]["grant"]
        assert verdict(the_act).verdict == "out_of_scope"


def test_an_expired_or_revoked_token_is_held_against_the_act():
    used = act(token="tok")

    expired = record(tokens={"tok": Token("tok", "proven", 4, expires_at=NOW - HOUR)})
    revoked = record(tokens={"tok": Token("tok", "proven", 4, revoked_at=NOW - SECOND, revoked_known_at=NOW)})

    assert verdict(used, expired).codes == ("outside_window",)
    assert verdict(used, revoked).codes == ("revocation_race",)


BOUND = path(grant(details=ANY, jkt="K1"))


@pytest.mark.parametrize(
    ("chain", "attested", "token_key", "result"),
    [
        (path(grant(details=ANY)), None, None, "na"),
        (BOUND, None, None, "unknown"),
        (BOUND, "K1", None, "pass"),
        (BOUND, "K2", None, "fail"),
        (BOUND, None, "K1", "pass"),
        (BOUND, None, "K2", "fail"),
        (path(grant(details=ANY)), None, "K1", "pass"),
    ],
)
def test_c11_the_key_that_was_used_must_be_the_one_that_the_grant_binds(chain, attested, token_key, result):
    shown = {"attestation": Attestation("jkt", attested)} if attested else {}
    the_act = act(chain, token="tok" if token_key else "", **shown)

    found = answer(
        "C11", the_act, record(tokens={"tok": Token("tok", "proven", 4, jkt=token_key)} if token_key else {})
    )

    assert found.result == result, found.reason
    assert found.codes == (("key_mismatch",) if result == "fail" else ())


GATED = path(grant(details=ANY, gates=("purchase",)))
ASKED = Approval("ap-1", 5, "purchase", ADA.key, "human", NOW - SECOND, "", "req-1", None, None)


@pytest.mark.parametrize(
    ("the_act", "approvals", "result"),
    [
        (act(), (), "na"),
        (act(GATED, request_id="req-1"), (ASKED,), "pass"),
        (act(GATED, request_id="req-1"), (), "fail"),
        (act(GATED, request_id="req-1"), (replace(ASKED, by=SHOPPER.key, by_kind="agent"),), "fail"),
        (act(GATED, request_id="req-1"), (replace(ASKED, at=NOW + SECOND),), "fail"),
        (act(GATED, request_id="req-2"), (ASKED,), "fail"),
        (act(GATED, gate=Gate("purchase", by=ADA)), (), "pass"),
        (act(GATED, gate=Gate("purchase", by=SHOPPER)), (), "fail"),
        (act(path(grant("g2", parent="g1", details=ANY), missing="g1")), (), "unknown"),
    ],
)
def test_c8_gates(the_act, approvals, result):
    the_record = record(approvals=approvals)

    assert answer("C8", the_act, the_record).result == result
    if result == "fail":
        found = verdict(the_act, the_record)
        assert (found.verdict, found.codes, found.liability.bearer) == (
            "out_of_scope",
            ("gate_missing",),
            "gate_runner",
        )


def revoked(before, *, noticed=None):
    notified = {"registrar": NOW - noticed} if noticed else {}
    return path(
        grant(details=ANY, revoked_at=NOW - before, revoked_known_at=NOW - before, revoked_leaf=9, notified=notified)
    )


@pytest.mark.parametrize(
    ("chain", "code", "bearer"),
    [
        (revoked(timedelta(milliseconds=300)), "revocation_race", "principal"),
        (revoked(HOUR, noticed=59 * SECOND), "revocation_race", "principal"),
        (revoked(HOUR, noticed=61 * SECOND), "revoked", "provider"),
        (revoked(300 * SECOND), "revocation_race", "principal"),
        (revoked(301 * SECOND), "revocation_not_passed_on", "orchestrator"),
        (revoked(HOUR, noticed=-SECOND), "revocation_not_passed_on", "orchestrator"),  # told only after the act
    ],
)
def test_c9_three_times_of_a_revocation(chain, code, bearer):
    found = verdict(bought(chain=chain))

    assert (found.verdict, found.codes, found.liability.bearer) == ("out_of_scope", (code,), bearer)
    c9 = answer("C9", bought(chain=chain))
    assert c9.evidence[0]["leaf"] == 9
    assert c9.reason.startswith("race:") == (code == "revocation_race")


def test_c9_an_act_before_the_revocation_passes():
    assert answer("C9", act(revoked(-SECOND))).result == "pass"


def test_c9_says_when_the_revocation_was_learned_later():
    chain = path(grant(details=ANY, revoked_at=NOW - SECOND, revoked_known_at=NOW + HOUR, revoked_leaf=99))

    assert "learned later" in answer("C9", act(chain)).reason


# --- C5 -------------------------------------------------------------------------------------------------------------


def test_c5_names_the_overrun_and_the_crossing():
    the_record = record(
        limits=(limit_fact(10_000),),
        spending=(spent(9_420, event_id="early"), spent(900, event_id="act-1", leaf=10, at=NOW)),
    )

    found = verdict(bought(), the_record)

    assert found.codes == ("over_limit",)
    assert found.would_change == ("out of scope by 3.20 USD on the global limit",)
    assert {"event_id": "act-1", "leaf": 10} in found.criteria[5].evidence
    assert (found.liability.bearer, found.liability.amount_minor) == ("orchestrator", 320)


def test_c5_counts_what_came_before_and_not_what_came_after():
    later = spent(50_000, event_id="late", leaf=11, at=NOW + SECOND)

    assert answer("C5", bought(), record(limits=(limit_fact(10_000),), spending=(later,))).result == "pass"


def test_c5_each_provider_has_a_limit_of_its_own():
    per_provider = limit_fact(10_000, scope="provider")
    elsewhere = spent(9_900, provider="cloud")

    assert answer("C5", bought(), record(limits=(per_provider,), spending=(elsewhere,))).result == "pass"
    assert (
        answer("C5", bought(), record(limits=(per_provider, limit_fact(10_000)), spending=(elsewhere,))).result
        == "fail"
    )


def test_c5_one_charge_told_twice_counts_once():
    told_by_stripe = bought(event_id="pay-1", type="payment.captured", stated_verb="")
    one = replace(spent(900, event_id="pay-1", at=NOW), joined=frozenset({"pay-1", "act-1"}))
    the_record = record(limits=(limit_fact(1_000),), spending=(one,), siblings=(told_by_stripe,))

    assert answer("C5", bought(), the_record).result == "pass"


def test_c5_what_its_holder_raised_does_not_count():
    low = limit_fact(500)
    by_holder = limit_fact(5_000, verb="raised", set_by=SHOPPER, at=NOW - SECOND, leaf=4)
    by_child = limit_fact(5_000, verb="raised", set_by=BUYER, at=NOW - SECOND, leaf=4)
    by_human = limit_fact(5_000, verb="raised", set_by=ADA, at=NOW - SECOND, leaf=4)
    lineage = {BUYER.key: frozenset({SHOPPER.key, ADA.key})}

    assert answer("C5", bought(), record(limits=(low, by_holder))).result == "fail"
    assert answer("C5", bought(), record(limits=(low, by_child), lineage=lineage)).result == "fail"
    assert answer("C5", bought(), record(limits=(low, by_human), lineage=lineage)).result == "pass"
    assert answer("C5", bought(), record(limits=(by_holder,))).result == "unknown"
    assert SHOPPER.key in answer("C5", bought(), record(limits=(low, by_holder))).reason


def test_c5_a_human_may_raise_a_budget_of_their_own():
    low = limit_fact(500, holder=ADA)
    raised = limit_fact(5_000, verb="raised", holder=ADA, set_by=ADA, at=NOW - SECOND, leaf=4)

    assert answer("C5", bought(), record(limits=(low,))).result == "fail"
    assert answer("C5", bought(), record(limits=(low, raised))).result == "pass"


def test_c5_a_lowered_limit_holds_from_then_on():
    lowered = limit_fact(100, verb="lowered", at=NOW + SECOND, leaf=20)

    assert answer("C5", bought(), record(limits=(limit_fact(5_000), lowered))).result == "pass"
    assert (
        answer("C5", bought(), record(limits=(limit_fact(5_000), replace(lowered, at=NOW - SECOND)))).result == "fail"
    )


def test_c5_another_currency_is_unknown_only_when_no_limit_speaks_of_ours():
    euros = limit_fact(100, currency="EUR")

    assert answer("C5", bought(), record(limits=(euros,))).result == "unknown"
    assert answer("C5", bought(), record(limits=(euros, limit_fact(5_000)))).result == "pass"
    assert answer("C5", act(), record(limits=(euros,))).result == "na"
    assert verdict(bought(), record(limits=(euros,))).verdict == "indeterminate"


def test_c5_counts_within_the_limits_own_interval():
    monthly, ever = limit_fact(1_000, interval="month"), limit_fact(1_000)
    last_month, this_month = (spent(500, event_id="s", at=NOW - timedelta(days=days)) for days in (25, 18))
    old = {"at": NOW - timedelta(days=100)}

    assert answer("C5", bought(), record(limits=(replace(monthly, **old),), spending=(last_month,))).result == "pass"
    assert answer("C5", bought(), record(limits=(replace(monthly, **old),), spending=(this_month,))).result == "fail"
    assert answer("C5", bought(), record(limits=(replace(ever, **old),), spending=(last_month,))).result == "fail"


def test_c5_limits_of_grants_elsewhere_do_not_bind():
    mine, other = (limit_fact(100, verb="grant", grant=g) for g in ("g1", "g9"))

    assert answer("C5", bought(), record(limits=(other,))).result == "pass"
    assert answer("C5", bought(), record(limits=(mine,))).result == "fail"


def test_a_huge_amount_does_not_break_the_digest():
    assert verdict(bought(2**63 - 1), record(limits=(limit_fact(1),))).digest


# --- payments -------------------------------------------------------------------------------------------------------


def test_a_payment_is_judged_through_the_act_it_pays_for():
    forbidden = path(grant(details=details("worker.*")))
    paid_for = bought(chain=forbidden, event_id="act-2")
    payment = bought(
        event_id="pay-1",
        type="payment.captured",
        stated_verb="payment.capture",
        target="ch-1",
        resource="",
        chain=forbidden,
    )

    alone = verdict(payment)
    joined = verdict(payment, record(siblings=(paid_for,)))

    assert alone.verdict == "within_scope"
    assert (joined.verdict, joined.codes) == ("out_of_scope", ("action_not_allowed",))


def test_a_payment_without_a_grant_borrows_the_path_of_its_act():
    payment = bought(
        event_id="pay-1", type="payment.captured", stated_verb="", chain=path(), by=None, provider="", **BARE
    )

    assert verdict(payment).verdict == "indeterminate"
    assert verdict(payment, record(siblings=(bought(event_id="act-2"),))).verdict == "within_scope"


def test_the_payment_systems_word_is_judged_through_the_agents_own():
    ours = bought(event_id="pay-1", type="payment.captured", stated_verb="payment.capture", chain=revoked(SECOND))
    stripes = bought(
        event_id="pay-2", type="payment.captured", stated_verb="", chain=path(), by=None, provider="", **BARE
    )

    assert verdict(stripes, record(siblings=(ours,))).codes == ("revocation_race",)


# --- I1 -------------------------------------------------------------------------------------------------------------


def wanting(*targets, subject=ADA, **more):
    return path(grant(details=ANY, subject=subject, intent=Intent(targets=list(targets), **more)))


@pytest.mark.parametrize(
    ("the_act", "result"),
    [
        (act(), "na"),
        (act(wanting("acme.io")), "pass"),
        (act(wanting("other.com", "ACME.io")), "pass"),
        (act(wanting("acme.com")), "fail"),
        (act(wanting("not a name")), "na"),
        (bought(chain=wanting("acme.io", max_price_minor=500, currency="USD")), "fail"),
        (act(wanting("acme.io"), stated_verb="worker.deploy"), "pass"),
        (act(wanting("acme.com"), stated_verb="worker.deploy"), "na"),
        (act(wanting("acme.io", subject=SHOPPER)), "unknown"),
        (act(wanting("acme.com", subject=SHOPPER)), "fail"),
    ],
)
def test_i1_intent(the_act, result):
    assert answer("I1", the_act).result == result


def test_an_intent_from_the_agent_itself_moves_nothing():
    the_act = act(
        path(
            grant(details=ANY),
            grant("g2", parent="g1", subject=SHOPPER, actor=SHOPPER, intent=Intent(targets=["acme.io"])),
        )
    )
    the_act = replace(the_act, path=path(replace(the_act.path.grants[0], redelegate=True), the_act.path.grants[1]))

    assert answer("I1", the_act).result == "unknown"
    assert verdict(the_act).verdict == "within_scope"


# --- worked examples (reference/disputes.md section 5.5) --------------------------------------------------------------


def asked_for(*, resources=()):
    limits = (Limit(max_minor=2_000, currency="USD"),)
    return path(
        grant(
            details=details("domain.register", resources=resources),
            limits=limits,
            intent=Intent(targets=["superseal.club"]),
        )
    )


TWENTY = record(limits=(limit_fact(2_000, verb="grant", grant="g1"),))


def test_another_ending_under_an_open_grant_is_within_scope_but_not_anticipated():
    found = verdict(bought(1_200, asked_for(), name="superseal.cc"), TWENTY)

    assert (found.verdict, found.codes) == ("within_scope_unanticipated", ("intent_divergent",))
    assert found.liability.bearer == "principal"
    assert found.would_change == ("anticipated if the target had been superseal.club, as asked",)


def test_another_ending_under_an_allow_list_is_out_of_scope_by_c4():
    found = verdict(bought(1_200, asked_for(resources=["superseal.club"]), name="superseal.cc"), TWENTY)

    assert (found.verdict, found.codes) == ("out_of_scope", ("resource_not_allowed",))
    assert (found.liability.bearer, found.liability.amount_minor) == ("provider", 1_200)


def test_a_loop_of_400_passes_up_to_its_cap_of_100_and_not_beyond():
    the_limit = limit_fact(10_000, scope="provider")
    spending = tuple(spent(500, event_id=f"call-{n}", leaf=100 + n, at=NOW + n * SECOND) for n in range(80))
    calls = [
        bought(
            500, event_id=s.event_id, leaf_index=s.leaf_index, occurred_at=s.at, charge=s.event_id, type="usage.metered"
        )
        for s in spending
    ]

    found = [verdict(call, record(limits=(the_limit,), spending=spending)).verdict for call in calls]

    assert found == ["within_scope"] * 20 + ["out_of_scope"] * 60


def test_forty_names_within_budget_are_each_within_scope():
    spending = tuple(spent(100, event_id=f"n-{n}", leaf=100 + n, at=NOW + n * SECOND) for n in range(40))
    names = [
        bought(
            100,
            asked_for(),
            event_id=s.event_id,
            leaf_index=s.leaf_index,
            occurred_at=s.at,
            charge=s.event_id,
            name=f"superseal{n}.com",
        )
        for n, s in enumerate(spending)
    ]
    budget = record(limits=(limit_fact(5_000, verb="grant", grant="g1"),), spending=spending)

    assert {verdict(name, budget).verdict for name in names} == {"within_scope_unanticipated"}


def test_an_act_300_ms_after_revocation_is_a_race():
    found = verdict(bought(chain=revoked(timedelta(milliseconds=300))))

    assert (found.verdict, found.codes) == ("out_of_scope", ("revocation_race",))
    assert found.criteria[9].reason.startswith("race:") and "0.300 s" in found.criteria[9].reason


def test_widening_above_the_last_hop_falls_on_the_operator_that_gave_too_much():
    chain = two({"details": details("domain.register", resources=["acme.com"])}, {"details": ANY})

    found = verdict(bought(chain=chain, by=BUYER))

    assert found.codes == ("scope_widened", "resource_not_allowed")
    assert found.liability.bearer == "agent_operator" and SHOPPER.key in found.liability.basis


def test_what_had_no_effect_has_no_bearer():
    assert verdict(act(path(grant(details=details("worker.*"))), outcome="denied")).liability.bearer == "nobody"


# --- the digest -----------------------------------------------------------------------------------------------------


def busy():
    limits = tuple(limit_fact(10_000 + n, leaf=n, at=NOW - n * SECOND) for n in range(1, 6))
    spending = tuple(spent(3_000, event_id=f"s{n}", leaf=20 + n, at=NOW - n * SECOND) for n in range(1, 6))
    siblings = tuple(bought(event_id=f"x{n}", leaf_index=40 + n, charge="ch-1") for n in range(3))
    approvals = tuple(replace(ASKED, event_id=f"a{n}", leaf_index=n) for n in range(3))
    return record(limits=limits, spending=spending, siblings=siblings, approvals=approvals)


def test_the_digest_does_not_depend_on_the_order_of_the_record():
    the_record, the_act = busy(), bought(chain=GATED, request_id="req-1")
    expected = verdict(the_act, the_record)
    chance = random.Random(1)

    for _ in range(20):
        shuffled = {
            name: tuple(chance.sample(members, len(members)))
            for name in ("limits", "spending", "siblings", "approvals")
            if (members := getattr(the_record, name))
        }
        found = verdict(the_act, replace(the_record, **shuffled))
        assert found.digest == expected.digest
        assert found.verdict == expected.verdict


def test_the_digest_is_the_same_where_ids_and_leaves_differ():
    here, there = verdict(bought()), verdict(bought(event_id="elsewhere", leaf_index=99, received_at=NOW + HOUR))
    moved = path(replace(grant(details=ANY), leaf_index=77, event_id="other"))

    assert here.digest == there.digest == verdict(bought(chain=moved)).digest


def test_the_digest_changes_with_what_was_said_and_found():
    plain = verdict(bought())
    others = [
        verdict(bought(occurred_at=NOW + SECOND)),
        verdict(bought(chain=path(grant(details=details("**", "x"))))),
        verdict(bought(name="acme.com")),
        verdict(bought(), record(limits=(limit_fact(1),))),
        reach(bought(), record(), FIT, replace(POLICY, version="other")),
    ]

    assert len({plain.digest, *(v.digest for v in others)}) == 6


# --- repeats, and what nobody saw coming
# ---------------------------------------------------------------------------------


def payment(number, *, key="", at=NOW, minor=4_900, **more):
    chain = more.pop("chain", path(grant(details=ANY)))
    done = bought(minor, chain, event_id=f"pay-{number}", leaf_index=50 + number, occurred_at=at, charge=f"ch-{number}", type="payment.captured",
                  stated_verb="payments.create", idempotency_key=key, target="o-7", resource="", **more)  # fmt: skip
    said = Action(verb="payments.create", provider="registrar", target=Target("order", "o-7"))
    return replace(done, payload=Payload(outcome="success", action=said))


def test_c13_a_key_charged_twice_is_the_providers_and_fresh_keys_are_the_operators():
    once, again, fresh = (
        payment(1, key="k"),
        payment(2, key="k", at=NOW + SECOND),
        payment(3, key="other", at=NOW + 2 * SECOND),
    )
    told = record(history=(once, again, fresh))

    first, second, third = (verdict(each, told) for each in (once, again, fresh))

    assert first.verdict == "within_scope" and first.liability.bearer == "principal"
    assert (second.verdict, second.codes, second.liability.bearer, second.liability.amount_minor) == (
        "out_of_scope",
        ("key_charged_twice",),
        "provider",
        4_900,
    )
    assert (third.verdict, third.codes, third.liability.bearer) == (
        "within_scope_unanticipated",
        ("repeat",),
        "agent_operator",
    )
    assert answer("C13", act()).result == "na" and answer("C13", once).result == "pass"


def test_a_repeat_that_came_back_costs_nobody_anything():
    once, again = payment(1, key="a"), payment(2, key="b", at=NOW + SECOND)
    back = replace(
        again, event_id="back", leaf_index=60, type="payment.refunded", phase="refunded", occurred_at=NOW + HOUR
    )

    assert verdict(again, record(history=(once, again, back))).liability.amount_minor == 0


def test_of_the_act_that_passes_the_price_only_the_excess_is_the_operators():
    chain = path(grant(details=ANY, intent=Intent(max_price_minor=10_000, currency="USD")))
    many = [
        replace(payment(n, key=f"k{n}", at=NOW + n * SECOND, chain=chain, minor=4_000 + n), target="") for n in range(4)
    ]
    told = record(history=tuple(many))

    found = [verdict(each, told) for each in many]

    assert [each.verdict for each in found] == ["within_scope"] * 2 + ["within_scope_unanticipated"] * 2
    # The same order, for other sums: a repeat says nobody.
    assert [each.liability.amount_minor for each in found] == [4_000, 4_001, 2_003, 4_003]
    assert [each.liability.bearer for each in found] == ["principal"] * 2 + ["agent_operator"] * 2


def past_work(number, *, verb="worker.deploy"):
    done = act(stated_verb=verb, type="action.performed")
    return [
        replace(done, event_id=f"w{n}", leaf_index=100 + n, occurred_at=NOW - timedelta(days=number - n + 1))
        for n in range(number)
    ]


def irreversible(number=0, **more):
    the_act = act(event_id=f"i{number}", leaf_index=500 + number, occurred_at=NOW + number * SECOND, **more)
    return replace(
        the_act,
        payload=msgspec.structs.replace(
            the_act.payload, action=msgspec.structs.replace(the_act.payload.action, irreversible=True)
        ),
    )


@pytest.mark.parametrize(
    ("earlier", "the_act", "result"),
    [
        (past_work(25), irreversible(), "fail"),  # a first irreversible act of its kind
        (past_work(19), irreversible(), "unknown"),
        (past_work(25, verb="domain.register"), irreversible(), "pass"),
        (past_work(25), act(), "pass"),  # nothing is lost by it
        (past_work(25), irreversible(chain=wanting("acme.io")), "na"),
        (
            past_work(25),
            irreversible(chain=path(grant(details=details("domain.register")))),
            "fail",
        ),  # a provider never used
        (past_work(25), irreversible(outcome="denied"), "na"),
    ],
    ids=["first", "too few", "usual", "reversible", "asked for", "named", "denied"],
)
def test_i2_what_nobody_saw_coming(earlier, the_act, result):
    used = (
        [replace(each, provider="cloud") for each in earlier]
        if "domain.register" in str(the_act.path.grants[0].details)
        else earlier
    )

    assert answer("I2", the_act, record(history=(*used, the_act))).result == result


def test_i2_makes_an_act_unanticipated_and_unknown_makes_nothing():
    first = irreversible()

    assert verdict(first, record(history=(*past_work(25), first))).verdict == "within_scope_unanticipated"
    assert verdict(first, record(history=(*past_work(5), first))).verdict == "within_scope"


def test_a_metered_loop_without_a_price_is_the_operators_though_each_call_was_allowed():
    from auditlog.core.event import Call

    call = Call(operation="render", args={"film": msgspec.Raw(b'"a"')})
    calls = [
        replace(bought(500, event_id=f"m{n}", leaf_index=n, occurred_at=NOW + n * 40 * SECOND, charge=f"m{n}", type="usage.metered", operation="render"),
                payload=Payload(outcome="success", call=call))
        for n in range(12)
    ]  # fmt: skip
    found = [verdict(each, record(history=tuple(calls))) for each in calls]

    assert {each.verdict for each in found} == {"within_scope"}
    assert [each.liability.bearer for each in found] == ["principal"] + ["agent_operator"] * 11
    assert found[1].criteria[14].result == "unknown" and "repeat m0" in found[1].criteria[14].reason
