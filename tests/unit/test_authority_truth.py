"""What pays for an act, who may say yes or no, what a token is worth, and a grant that was stated anew."""

from dataclasses import replace
from datetime import timedelta

import pytest

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import (
    ended_before,
    expired_before,
    gate_questions,
    gates_required,
    judge_initiators,
    token_widenings,
)
from auditlog.core.chain.chain import NO_TOKENS, TokenPath
from auditlog.core.chain.gates import check_gates, standing_refusal
from auditlog.core.chain.organisation import Organisations
from auditlog.core.chain.other_grant import other_grant
from auditlog.core.chain.record import Approval
from auditlog.core.chain.statement import History, Revocation, Statement, Token, encode_history, grant_at
from auditlog.core.chain.use import answers_for, done_act, done_in_person, is_use, payments_of
from auditlog.core.event import Action, Actor, Gate, GrantObject, Limit, Money, Party, Payload, Target
from tests.unit.test_disputes_core import (
    ADA,
    ANY,
    ASKED,
    BARE,
    BUYER,
    HOUR,
    KINDS,
    NOW,
    SECOND,
    SHOPPER,
    act,
    answer,
    bought,
    details,
    grant,
    path,
    record,
    spent,
    verdict,
)  # fmt: skip

MINUTE = timedelta(minutes=1)
EVE = Party("https://id.other.example", "eve", "human")
BOB = Party(ADA.iss, "bob", "human")
PEOPLE = KINDS | {EVE.key: "human", BOB.key: "human"}


def said_of_money(type="payment.captured", **more) -> Act:
    fields = {
        "event_id": "money-1",
        "leaf_index": 20,
        "stated_verb": "",
        "chain": path(),
        "by": None,
        "provider": "",
        **BARE,
    }
    return bought(type=type, **(fields | more))


# --- an act and what follows it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["payment.authorized", "payment.captured", "payment.settled", "payment.refunded", "invoice.issued",
                                  "invoice.paid", "dispute.opened", "dispute.funds_withdrawn"])  # fmt: skip
def test_every_statement_of_money_is_judged_through_the_act_with_its_charge(type):
    done = bought(event_id="act-9", leaf_index=5)
    told = said_of_money(type, occurred_at=NOW + HOUR)
    around = record(siblings=(done, told, said_of_money("invoice.paid", event_id="inv", leaf_index=21)))

    assert done_act(told, around) is done and not is_use(told, around)
    assert told in payments_of(done, around)


@pytest.mark.parametrize(
    "other",
    [
        said_of_money("invoice.paid"), said_of_money("dispute.opened"), said_of_money("payment.settled"),
        bought(type="approval.decided"), bought(type="limit.reached"), bought(outcome="denied"), bought(principal=BUYER.key),
        bought(environment="test"), bought(within_remit=False), bought(charge="ch-2"),
    ],
)  # fmt: skip
def test_what_is_no_act_of_that_charge_is_never_taken_for_the_act(other):
    payment = bought(event_id="pay", type="payment.captured")
    other = replace(other, event_id="other", leaf_index=3)

    assert done_act(payment, record(siblings=(other,))) is None
    assert is_use(payment, record(siblings=(other,)))
    gated = path(grant(details=ANY, gates=("purchase",)))
    assert answer("C8", replace(payment, path=gated), record(siblings=(other,))).result == "fail"


def test_a_key_that_fits_several_acts_names_none_unless_the_amount_does():
    first, second = (bought(n, event_id=f"a{n}", leaf_index=n, charge="", request_id="r") for n in (100, 200))
    bill = replace(said_of_money(charge="", request_id="r", provider="registrar"), amount_minor=200)

    assert done_act(bill, record(siblings=(first, second))) is second
    assert done_act(replace(bill, amount_minor=300), record(siblings=(first, second))) is None
    assert (
        done_act(bill, record(siblings=(second, replace(second, event_id="a3", leaf_index=3)))) is None
    )  # two that cost the same
    assert done_act(replace(bill, provider="elsewhere"), record(siblings=(second,))) is None


def test_an_invoice_goes_to_the_act_that_it_names():
    done = bought(
        charge="", payload=Payload(outcome="success", money=Money(900, "USD", "captured", "stripe", invoice="in-1"))
    )
    bill = said_of_money(
        "invoice.paid",
        charge="",
        payload=Payload(outcome="success", money=Money(900, "USD", "settled", "stripe", invoice="in-1")),
    )

    assert done_act(bill, record(siblings=(done,))) is done


@pytest.mark.parametrize("ended", [{"revoked_at": NOW + MINUTE, "revoked_leaf": 9}, {"expires_at": NOW + MINUTE}])
@pytest.mark.parametrize("type", ["payment.captured", "invoice.paid", "dispute.opened"])
def test_what_is_billed_after_the_end_of_a_grant_was_done_before_it(ended, type):
    chain = path(grant(details=ANY, **ended))
    done = bought(chain=chain, event_id="act-9", leaf_index=5)
    bill = said_of_money(type, occurred_at=NOW + HOUR, chain=chain, grant="g1")

    assert verdict(bill, record(siblings=(done,))).verdict == "within_scope"
    assert not is_use(bill, record(siblings=(done,)))
    assert verdict(replace(done, occurred_at=NOW + HOUR)).verdict == "out_of_scope"


def test_a_payment_never_takes_the_missing_gate_of_its_act_away():
    gated = path(grant(details=ANY, gates=("purchase",)))
    done = act(
        gated,
        type="action.performed",
        stated_verb="worker.deploy",
        rail="stripe",
        charge="ch-1",
        event_id="act-9",
        leaf_index=5,
    )
    bill = said_of_money("payment.captured")
    around = record(siblings=(done, bill))

    assert verdict(done, around).codes == verdict(bill, around).codes == ("gate_missing",)
    assert check_gates(done, record()) == []  # nothing says that it cost anything


def test_a_dispute_without_an_act_is_judged_through_the_agents_payment_and_an_invoice_that_names_nobody_is_unknown():
    ours = bought(event_id="pay", type="payment.captured")

    assert answers_for(said_of_money("dispute.opened"), record(siblings=(ours,))) is ours
    assert verdict(said_of_money("invoice.paid", charge="")).verdict == "indeterminate"


# --- tokens ---------------------------------------------------------------------------------------------------------


def token(jti, *, parent=None, issued=-HOUR, standing="proven", **more):
    return Token(jti, standing, 4, parent=parent, issued_at=NOW + issued, **more)


def shown(*tokens):
    return {t.jti: t for t in tokens}


def used(last, **more):
    return act(path(grant(details=ANY)), token=last, payload=Payload(outcome="success", token=last), **more)


@pytest.mark.parametrize("dead", ["a", "b", "c"])
def test_a_token_is_no_better_than_any_that_it_was_made_from(dead):
    ended = {"revoked_at": NOW - 30 * MINUTE, "revoked_leaf": 9}
    tokens = shown(
        *(token(j, parent=p, **(ended if j == dead else {})) for j, p in (("a", None), ("b", "a"), ("c", "b")))
    )

    found = verdict(used("c"), record(tokens=tokens))

    assert (found.verdict, found.codes) == ("out_of_scope", ("revocation_not_passed_on",))
    assert (
        ended_before(used("c").path, TokenPath("c", tuple(tokens.values())), NOW, provider="x").name == f"token {dead}"
    )


def test_there_is_no_race_for_a_token_made_out_of_a_revoked_one():
    parent = token("a", revoked_at=NOW - MINUTE, revoked_leaf=9)

    assert verdict(used("b"), record(tokens=shown(parent, token("b", parent="a", issued=-30 * SECOND)))).codes == (
        "revocation_not_passed_on",
    )
    assert verdict(used("b"), record(tokens=shown(parent, token("b", parent="a")))).codes == ("revocation_race",)


def test_the_provider_that_had_notice_of_a_tokens_end_bears_its_use():
    noticed = token("a", revoked_at=NOW - HOUR, revoked_leaf=9, notified={"registrar": NOW - 50 * MINUTE})

    found = verdict(replace(used("a"), amount_minor=5, currency="USD", phase="captured"), record(tokens=shown(noticed)))

    assert (found.codes, found.liability.bearer) == (("revoked",), "provider")


@pytest.mark.parametrize(
    ("expires", "exchanged", "result"),
    [
        (-30 * MINUTE, -45 * MINUTE, "pass"),
        (-30 * MINUTE, -29 * MINUTE, "fail"),
        (-30 * MINUTE, -30 * MINUTE + 20 * SECOND, "pass"),
    ],
)
def test_a_parent_may_end_after_a_proper_exchange_and_not_before_it(expires, exchanged, result):
    tokens = (token("a", expires_at=NOW + expires), token("b", parent="a", issued=exchanged))

    assert answer("C6", used("b"), record(tokens=shown(*tokens))).result == result
    assert (expired_before(used("b").path, TokenPath("b", tokens), NOW) is not None) == (result == "fail")


def test_a_token_used_at_another_provider_fails_and_the_provider_bears_it():
    found = verdict(used("a"), record(tokens=shown(token("a", audience=("mail",)))))

    assert (found.codes, found.liability.bearer) == (("audience",), "provider")
    assert (
        verdict(used("a"), record(tokens=shown(token("a", audience=("mail", "registrar"))))).verdict == "within_scope"
    )
    assert (
        answer("C7", used("a"), record(tokens=shown(token("a", audience=("https://mail.example",))))).result == "pass"
    )


def test_a_claimed_token_convicts_nobody():
    claimed = token("a", standing="claimed", audience=("mail",), expires_at=NOW - HOUR)

    found = verdict(used("a"), record(tokens=shown(claimed)))

    assert found.verdict == "indeterminate" and found.decisive is None


def test_a_parents_token_is_compared_with_its_own_grant_and_not_with_the_childs():
    long, short = (
        grant(details=ANY, redelegate=True, audience=("x", "y")),
        grant("g2", parent="g1", subject=SHOPPER, actor=BUYER, expires_at=NOW, audience=("x",)),
    )
    above = token("a", grant="g1", expires_at=NOW + HOUR, audience=("x", "y"))

    assert (
        token_widenings(TokenPath("b", (above, token("b", parent="a", grant="g2", expires_at=NOW))), path(long, short))
        == []
    )
    assert [
        w.kind
        for w in token_widenings(
            TokenPath("b", (above, token("b", parent="a", grant="g2", expires_at=NOW + SECOND))), path(long, short)
        )
    ] == ["expiry"]


# --- gates and refusals ---------------------------------------------------------------------------------------------

GATED = path(grant(details=ANY, gates=("purchase",)))


def approved(**more):
    return replace(ASKED, principal=ADA.key, issuer="https://desk.example", **more)


@pytest.mark.parametrize(
    ("approval", "organisations", "result"),
    [
        (approved(), Organisations(), "pass"),
        (approved(by=BOB.key), Organisations(), "pass"),  # of the principal's issuer, which nobody maps
        (approved(by=BOB.key), Organisations({ADA.iss: "acme"}), "pass"),
        (approved(by=EVE.key), Organisations(), "unknown"),
        (approved(by=EVE.key), Organisations({ADA.iss: "acme", EVE.iss: "acme"}), "pass"),
        (approved(by=EVE.key), Organisations({ADA.iss: "acme", EVE.iss: "globex"}), "fail"),
        (approved(by=BOB.key), Organisations({}, {ADA.key: "acme", BOB.key: "globex"}), "fail"),
        (approved(by=EVE.key, by_kind="unknown"), Organisations(), "unknown"),
        (replace(approved(), principal=EVE.key), Organisations(), "fail"),
        (replace(approved(), principal=EVE.key, by=EVE.key, principal_is_giver=True), Organisations(), "unknown"),
        (approved(within_remit=False), Organisations(), "fail"),
    ],
)
def test_who_may_approve(approval, organisations, result):
    found = answer(
        "C8", act(GATED, request_id="req-1"), record(kinds=PEOPLE, approvals=(approval,), organisations=organisations)
    )

    assert found.result == result, found.reason


def test_two_strangers_of_a_public_login_are_not_of_one_organisation():
    ada, bob = "https://accounts.google.com|ada", "https://accounts.google.com|bob"

    assert Organisations().are_one(ada, bob) is None
    assert Organisations({}, {ada: "acme", bob: "acme"}).are_one(ada, bob) is True


@pytest.mark.parametrize("issuer", [SHOPPER.iss, SHOPPER.sub, SHOPPER.key])
def test_an_approval_that_only_the_acting_side_tells_is_unknown(issuer):
    given = replace(grant(details=ANY, gates=("purchase",)), attester="https://tokens.example")
    the_act = act(path(given), request_id="req-1", issuer=issuer)
    own = replace(
        the_act, payload=Payload(outcome="success", action=the_act.payload.action, gate=Gate("purchase", by=ADA))
    )
    around = record(approvals=(replace(approved(), issuer=issuer),))

    assert answer("C8", the_act, around).result == answer("C8", own).result == "unknown"
    assert answer("C8", the_act, record(approvals=(approved(),))).result == "pass"
    assert [check.result for check in check_gates(the_act, around)] == ["unknown"]  # so the rule is silent


def test_an_approval_of_another_customer_answers_nothing_judged_alone_or_beside_it():
    hers, his = (
        act(GATED, request_id="req-1", principal=p.key, event_id=p.sub, leaf_index=n) for n, p in enumerate((ADA, BOB))
    )
    hers, his = hers, replace(his, path=path(grant(details=ANY, gates=("purchase",), subject=BOB)))
    alone = record(kinds=PEOPLE, approvals=(approved(),), siblings=(his,))
    both = record(kinds=PEOPLE, approvals=(approved(),), siblings=(hers, his))

    assert answer("C8", his, alone).result == answer("C8", his, both).result == "fail"
    assert answer("C8", hers, both).result == "pass"


def test_a_gate_of_any_kind_is_asked_of_what_is_irreversible_and_one_answer_is_enough_for_several():
    chain = path(grant(details=ANY, gates=("destructive", "dual_control", "purchase", "merge")))
    drop = Payload(outcome="success", action=Action(verb="db.drop", target=Target("db", "main"), irreversible=True))
    the_act = act(
        chain,
        type="action.performed",
        stated_verb="db.drop",
        payload=drop,
        target="main",
        resource="",
        request_id="req-1",
    )

    assert gate_questions(gates_required(the_act)) == [("destructive", "dual_control")]
    assert answer("C8", the_act).codes == ("gate_missing",)
    assert answer("C8", the_act, record(approvals=(replace(approved(), kind="dual_control"),))).result == "pass"
    assert answer("C8", the_act, record(approvals=(approved(),))).result == "fail"  # of another kind
    undo = replace(
        the_act, payload=Payload(outcome="success", action=Action(verb="db.drop", target=Target("db", "main")))
    )
    assert answer("C8", undo).result == "na"


NO = Approval(
    "no-1",
    4,
    "destructive",
    ADA.key,
    "human",
    NOW - HOUR,
    "",
    "req-1",
    None,
    None,
    "refused",
    principal=ADA.key,
    issuer="https://desk.example",
)


@pytest.mark.parametrize(
    ("refusal", "approvals", "result"),
    [
        (NO, (), "fail"),
        (replace(NO, request_id="", verb="domain.register", target="acme.io"), (), "fail"),
        (replace(NO, request_id="", verb="domain.register", target="other.io"), (), None),
        (replace(NO, request_id="", verb="domain.delete", target="acme.io"), (), None),
        (replace(NO, verb="domain.delete", target="acme.io"), (), None),  # one request may hold several questions
        (replace(NO, at=NOW + SECOND), (), None),
        (replace(NO, by=""), (), None),  # it ran out
        (replace(NO, by=SHOPPER.key, by_kind="agent"), (), None),
        (replace(NO, principal=EVE.key), (), None),
        (replace(NO, within_remit=False), (), None),
        (replace(NO, by=EVE.key), (), "unknown"),
        (NO, (replace(approved(), at=NOW - MINUTE),), None),
        (NO, (replace(approved(), at=NOW - 2 * HOUR),), "fail"),
        (NO, (replace(approved(), at=NOW - MINUTE, by=SHOPPER.key, by_kind="agent"),), "fail"),
        (NO, (replace(approved(), at=NOW - MINUTE, by=BOB.key),), "fail"),  # lower than the principal who refused
        (replace(NO, by=BOB.key), (replace(approved(), at=NOW - MINUTE),), None),
    ],
)
def test_no_is_an_answer_though_no_grant_lists_a_gate(refusal, approvals, result):
    around = record(kinds=PEOPLE, refusals=(refusal,), approvals=approvals)
    the_act = act(request_id="req-1")
    found = standing_refusal(the_act, around)

    assert (found and found.result) == result
    assert answer("C8", the_act, around).result == (result or "na")
    assert (verdict(the_act, around).verdict == "out_of_scope") == (result == "fail")


def test_a_lead_may_refuse_what_its_helper_does_and_a_helper_may_not_refuse_its_lead():
    chain = path(grant(details=ANY, redelegate=True), grant("g2", parent="g1", subject=SHOPPER, actor=BUYER))
    no = replace(NO, by=SHOPPER.key, by_kind="agent")

    assert standing_refusal(act(chain, by=BUYER, request_id="req-1"), record(refusals=(no,))).result == "fail"
    assert standing_refusal(act(request_id="req-1"), record(refusals=(replace(no, by=BUYER.key),))) is None


# --- a grant that was stated anew -----------------------------------------------------------------------------------


def stated(leaf, at, *, attester="https://tokens.example", proven=True, **said):
    said = GrantObject("g1", root=True, subject=ADA, actor=SHOPPER, **said)
    return Statement(said, at, leaf, f"ev-{leaf}", "tokens", attester, "A", proven, at)


def at_time(statements, at, *, leaf):
    history = History().with_more(statements, [])
    return grant_at(encode_history(history), *history.as_of(at, leaf))


WIDE, NARROW = details("db.*"), details("db.select")
FIRST, NARROWED = (
    stated(1, NOW - HOUR, authorization_details=list(WIDE)),
    stated(2, NOW, authorization_details=list(NARROW)),
)
WIDENED = stated(3, NOW + HOUR, authorization_details=list(details("**")))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_grant_holds_as_last_stated_from_the_time_of_that_statement(order):
    many = [(FIRST, NARROWED, WIDENED)[n] for n in order]

    assert at_time(many, NOW - SECOND, leaf=99).details == WIDE
    assert at_time(many, NOW, leaf=99).details == NARROW
    assert at_time(many, NOW + 2 * HOUR, leaf=99).details == details("**")
    assert at_time(many, NOW + 2 * HOUR, leaf=99).granted_at == NOW - HOUR
    assert at_time(many, NOW, leaf=99).conflicts == ()


def test_what_is_stated_wider_and_dated_before_an_act_on_record_is_unknown_for_it():
    late = stated(50, NOW - MINUTE, authorization_details=list(details("**")))
    drop = act(path(at_time([FIRST, late], NOW, leaf=10)), stated_verb="mail.send", type="action.performed")

    assert drop.path.grants[0].known_before.details == WIDE
    assert (answer("C3", drop).result, verdict(drop).verdict) == ("unknown", "indeterminate")
    assert verdict(replace(drop, path=path(at_time([FIRST, late], NOW, leaf=60)))).verdict == "within_scope"
    assert answer("C3", replace(drop, stated_verb="db.drop")).result == "pass"  # both allow it


def test_what_is_stated_narrower_binds_though_it_arrives_late():
    late = stated(50, NOW - MINUTE, authorization_details=list(NARROW))

    assert answer("C3", act(path(at_time([FIRST, late], NOW, leaf=10)), stated_verb="db.drop")).result == "fail"


def test_a_beginning_moved_back_after_the_act_is_unknown_and_a_first_grant_that_comes_late_counts():
    given, moved = stated(1, NOW + HOUR), stated(50, NOW - HOUR, authorization_details=list(ANY))
    moved_back = at_time([given, moved], NOW, leaf=10)

    assert answer("C6", act(path(moved_back))).result == "unknown"
    assert answer("C6", act(path(at_time([moved], NOW, leaf=10)))).result == "pass"


def test_statements_conflict_only_of_two_issuers_or_with_two_contents_at_one_time():
    others = stated(4, NOW, attester="https://else.example", authorization_details=list(ANY))
    twice = stated(5, NOW, authorization_details=list(ANY))

    assert at_time([FIRST, NARROWED], NOW, leaf=99).conflicts == ()
    assert at_time([FIRST, NARROWED, others], NOW, leaf=99).conflicts == (4,)
    assert len(at_time([FIRST, NARROWED, twice], NOW, leaf=99).conflicts) == 1
    assert at_time([FIRST, others], NOW + HOUR, leaf=99).details == WIDE  # another issuer's word changes nothing


# --- unknown is not false -------------------------------------------------------------------------------------------


def in_person(**more):
    fields = {"by": ADA, "chain": path(), **BARE}
    payload = Payload(
        outcome="success", mode="direct", actor=Actor(ADA.iss, ADA.sub, "human"), action=Action(verb="order.create")
    )
    return bought(**(fields | {"payload": payload} | more))


def test_what_the_principal_does_in_person_needs_no_grant():
    found = verdict(in_person())

    assert found.verdict == "within_scope"
    assert {r.result for r in found.criteria if r.id in ("C2", "C3", "C4", "C6", "C7", "C8", "C9", "C10")} == {"na"}


@pytest.mark.parametrize(
    ("the_act", "around"),
    [
        (in_person(principal=BOB.key), record()),
        (in_person(grant="g1"), record()),
        (in_person(token="t"), record()),
        (in_person(), record(kinds={ADA.key: "agent"})),
        (in_person(), record(agent_issuers=frozenset({"https://conductor.example"}))),
    ],
)
def test_what_is_told_as_done_in_person_and_cannot_be_taken_for_it_is_unknown(the_act, around):
    assert done_in_person(the_act, around) is None
    assert verdict(the_act, around).verdict == "indeterminate"


def test_a_meter_that_states_no_verb_counted_an_operation():
    meter = act(
        type="usage.metered", stated_verb="", operation="gpu.hours", chain=path(grant(details=details("gpu.*")))
    )

    assert (meter.verb, answer("C3", meter).result) == ("gpu.hours", "pass")
    assert replace(meter, type="action.performed").verb == ""


# --- grants beside those used ---------------------------------------------------------------------------------------

LENDER = Party("https://conductor.example", "lender", "service")


def lent(**more):
    actor = Actor(LENDER.iss, LENDER.sub, "service", act=Actor(SHOPPER.iss, SHOPPER.sub, "agent"))
    payload = Payload(
        outcome="success", actor=actor, action=Action(verb="domain.register", provider="registrar", resource="acme.io")
    )
    return act(path(grant(actor=LENDER, details=ANY)), by=LENDER, payload=payload, **more)


@pytest.mark.parametrize(
    ("own", "result", "criteria"),
    [
        ((path(grant("own", details=ANY)),), "within_scope", set()),
        ((path(grant("own", details=details("mail.*"))),), "out_of_scope", {"C3"}),
        ((path(grant("own", details=details("domain.*", resources=["other.io"]))),), "out_of_scope", {"C4"}),
        ((path(grant("own", details=ANY, revoked_at=NOW - HOUR)),), "out_of_scope", {"C3"}),
        ((path(grant("own", details=details("mail.*"))), path(grant("own2", details=ANY))), "within_scope", set()),
        ((), "indeterminate", set()),
    ],
)
def test_whom_the_deputy_acts_for_puts_its_own_grants_on_the_path(own, result, criteria):
    found = verdict(lent(), record(held={SHOPPER.key: own}))

    assert found.verdict == result
    assert {r.id for r in found.criteria if r.result == "fail"} == criteria
    [initiator] = judge_initiators(lent(), lent().path, {SHOPPER.key: own}, lambda key: "unknown")
    assert (initiator.result == "fail") == bool(criteria)


def beside(**more):
    return path(grant("g9", details=ANY, **({"known_leaf": 2, "known_at": NOW - HOUR} | more)))


@pytest.mark.parametrize(
    ("other", "allowed"),
    [
        (beside(), True),
        (beside(known_leaf=11), False),  # on record only after the act
        (beside(standing="claimed"), False),
        (beside(subject=BOB), False),
        (beside(gates=("purchase",)), False),
        (beside(revoked_at=NOW - HOUR), False),
        (beside(limits=(Limit(max_minor=800),)), False),
        (beside(limits=(Limit(max_minor=1_000),)), True),
    ],
)
def test_another_grant_that_would_have_allowed_it_makes_it_unanticipated(other, allowed):
    forbidden = bought(chain=path(grant(details=details("mail.*"))))
    around = record(others={SHOPPER.key: (other,)})

    assert (other_grant(forbidden, around) is not None) == allowed
    found = verdict(forbidden, around)
    assert (found.verdict, "other_grant" in found.codes) == (
        ("within_scope_unanticipated", True) if allowed else ("out_of_scope", False)
    )


def test_another_grant_cures_no_refusal_and_no_limit():
    forbidden = bought(chain=path(grant(details=details("mail.*"))), request_id="req-1")

    assert verdict(forbidden, record(others={SHOPPER.key: (beside(),)}, refusals=(NO,))).verdict == "out_of_scope"
    full = record(
        others={SHOPPER.key: (beside(limits=(Limit(max_minor=1_000),)),)}, spending=(spent(200, grants=("g9",)),)
    )
    assert verdict(forbidden, full).verdict == "out_of_scope"


def test_what_is_decisive_promises_no_cure_by_a_missing_grant():
    found = verdict(act(path(grant("g2", parent="g1", details=details("mail.*")), missing="g1")))

    assert found.decisive == ("C3",)
    assert found.would_change == ("within scope if grant g2 allowed domain.register",)


# --- the digest -----------------------------------------------------------------------------------------------------


def test_the_digest_holds_tokens_answers_and_what_was_known_of_a_grant():
    base = verdict(used("a", request_id="req-1"), record(tokens=shown(token("a")))).digest

    others = {
        verdict(used("a", request_id="req-1"), record(tokens=shown(token("a", expires_at=NOW + HOUR)))).digest,
        verdict(used("a", request_id="req-1"), record(tokens=shown(token("a", parent="z"), token("z")))).digest,
        verdict(used("a", request_id="req-1"), record(tokens=shown(token("a")), approvals=(approved(),))).digest,
        verdict(
            used("a", request_id="req-1"),
            record(tokens=shown(token("a")), approvals=(replace(approved(), at=NOW - MINUTE),)),
        ).digest,
    }

    assert len(others | {base}) == 5
    elsewhere = replace(approved(), request_id="req-7", event_id="x")
    assert (
        verdict(used("a", request_id="req-1"), record(tokens=shown(token("a")), approvals=(elsewhere,))).digest == base
    )


def test_a_revocation_by_a_claimed_source_ends_nothing():
    history = History().with_more([FIRST], [Revocation(NOW, NOW, 3, "x", "", False)])

    assert grant_at(encode_history(history), 0, 0).revoked_at is None
    assert ended_before(path(grant_at(encode_history(history), 0, 0)), NO_TOKENS, NOW + HOUR, provider="") is None
