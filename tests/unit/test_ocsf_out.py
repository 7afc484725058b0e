"""OCSF out: every event type and finding is valid OCSF 1.7.0, says what we know and no more, and is read back the same."""

import json
import tomllib
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import NO_PATH, build_chain
from auditlog.core.chain.chain import Path as GrantPath
from auditlog.core.chain.statement import Grant
from auditlog.core.event import (
    LAYER_OF_TYPE,
    Action,
    Actor,
    Call,
    Client,
    GrantObject,
    Money,
    Party,
    Payload,
    Target,
    act_chain,
)
from auditlog.core.finding import SEVERITIES, Finding, Kept
from auditlog.core.siem.case_step import CaseStep, Contested
from auditlog.core.siem.ocsf_out import MOST, OVER_BROAD, PRODUCT, case_object, event_object, finding_object, line
from tests.deliveries import event_in
from tests.ocsf_schema import problems

AT = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)
ADA, BOT = Party("https://id.example", "ada", "human"), Party("https://bots.example", "bot-7", "agent")


def act(type="action.performed", *, payload=None, outcome="success", path=NO_PATH, **more) -> Act:
    payload = payload or Payload(
        outcome=outcome,
        actor=Actor(BOT.iss, BOT.sub, "agent"),
        action=Action(verb="dns.create", provider="cloud", account="acct-1", target=Target("zone", "z-1"), resource="acme.io"),
        client=Client("192.0.2.7", "agent/1"), call=Call("POST /zones"), session="s-1", task="t-1", request_id="r-1", trace_id="tr-1",
        money=Money(1100, "EUR", "captured", "invoice", "ch-1"),
    )  # fmt: skip
    action, money, call = payload.action or Action(), payload.money, payload.call or Call()
    target = action.target or Target()
    values = dict(
        event_id="6f1c0000-0000-4000-8000-000000000001", leaf_index=41, type=type, source="conductor", issuer="https://conductor.example",
        grade="A", occurred_at=AT, received_at=AT + timedelta(seconds=1), outcome=payload.outcome, environment=payload.environment,
        principal=ADA.key, principal_claimed=True, actor=f"{payload.actor.iss}|{payload.actor.sub}" if payload.actor else "",
        provider=action.provider, account=action.account, target=target.id, resource=action.resource, stated_verb=action.verb,
        operation=call.operation, grant="", token="", via_grant="", txn="tx-1", session=payload.session, task=payload.task,
        project=payload.project, request_id=payload.request_id, idempotency_key=call.idempotency_key, phase=money.phase if money else "",
        amount_minor=money.amount_minor if money else None, currency=money.currency if money else "", rail=money.rail if money else "",
        charge=money.charge if money else "", within_remit=True, jkt="", payload=payload, path=path,
    )  # fmt: skip
    return Act(**values | more)


def chain(act):
    acting = act_chain(act.payload.actor) if act.payload.actor else ()
    claimed = Party.of(act.principal) if act.principal and not act.path.grants else None
    return build_chain(
        path=act.path, acting=acting, claimed_principal=claimed and replace_kind(claimed), grade=act.grade
    )


def replace_kind(party):
    return Party(party.iss, party.sub, "human")


def written(act) -> dict:
    return json.loads(line(event_object(act, chain(act), tenant="acme", original_uid="src-1")))


def bare(type="action.performed", **more) -> Act:
    """Nobody said anything but that it happened."""
    return act(type, payload=Payload(outcome="unknown"), principal="", txn="", **more)


def granted(**more) -> GrantPath:
    said = {"id": "g-1", "parent": None, "root": True, "subject": ADA, "actor": BOT}
    return GrantPath((grant(**said | more),), None, False)


def grant(**more) -> Grant:
    import inspect

    values = {name: None for name in inspect.signature(Grant).parameters}
    values |= {
        "standing": "proven",
        "attester": "https://id.example",
        "granted_at": AT,
        "grade": "A",
        "conflicts": (),
        "leaf_index": 3,
    }
    return Grant(**values | more)


def kept(rule="spend.retry_loop", state="open", *, change=7, is_first=True, **more) -> Kept:
    finding = Finding(
        rule, "a", "high", "bot-7 paid 3 times", ("6f1c0000-0000-4000-8000-000000000001",), (41,), AT, AT, ADA.key, BOT.key,
        "g-1", "cloud", 3300, "EUR", {"attempts": 3},
    )  # fmt: skip
    return Kept(
        12, replace(finding, **more), 1, state, AT, 50 if state == "withdrawn" else None, change, is_first, "seen"
    )


TYPES = [*LAYER_OF_TYPE, "other.conductor.thing"]


# --- the schema
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("outcome", ["success", "failure", "denied", "pending", "unknown"])
def test_an_event_of_every_type_is_valid_with_all_that_can_be_said(type, outcome):
    assert problems(written(act(type, outcome=outcome, path=granted(), via_grant="g-1"))) == []


@pytest.mark.parametrize("type", TYPES)
def test_an_event_of_every_type_is_valid_with_nothing_said(type):
    assert problems(written(bare(type))) == []


@pytest.mark.parametrize("rule", ["spend.retry_loop", "integrity.source_gap", *sorted(OVER_BROAD)])
@pytest.mark.parametrize("state", ["open", "acknowledged", "resolved", "false_positive", "withdrawn"])
def test_findings_are_valid_in_every_state(rule, state):
    assert problems(finding_object(kept(rule, state), tenant="acme", runbook="Look.")) == []


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_finding_about_nobody_in_particular_is_valid(severity):
    alone = kept("authority.scope_widened", severity=severity, principal=None, actor=None, grant=None, provider=None, events=(), leaves=(),
                 money_at_risk_minor=None, currency=None, evidence={})  # fmt: skip

    assert problems(finding_object(alone, tenant="acme")) == []


def test_the_check_can_fail():
    """Of a missing field, a foreign field, a wrong type, a name that is not the number's."""
    good = written(act())
    bad = [{k: v for k, v in good.items() if k != "src_endpoint"}, good | {"delegation": {"uid": "x"}}, good | {"time": "now"},
           good | {"activity_id": 7}, good | {"status": "Fine"}, good | {"actor": {}}]  # fmt: skip

    assert problems(good) == [] and all(problems(each) for each in bad)


def test_the_version_it_names_is_the_projects():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    assert PRODUCT["version"] == project["version"]


# --- what it says
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "class_uid", "activity"),
    [
        ("session.started", 3002, 1), ("session.ended", 3002, 2), ("token.issued", 3002, 3), ("token.exchanged", 3002, 4),
        ("delegation.granted", 3003, 1), ("delegation.revoked", 3005, 2), ("account.created", 3001, 1), ("limit.raised", 3004, 3),
        ("credential.issued", 3004, 1), ("domain.registered", 6003, 1), ("domain.deleted", 6003, 4), ("payment.captured", 6003, 99),
        ("action.performed", 6003, 1), ("other.conductor.thing", 6003, 99),
    ],
)  # fmt: skip
def test_the_type_gives_class_and_activity(type, class_uid, activity):
    said = written(act(type))

    assert (said["class_uid"], said["activity_id"]) == (class_uid, activity)
    assert said["metadata"]["event_code"] == type


def test_a_grant_outside_of_a_session_is_access_management():
    assert written(act("delegation.granted", session=""))["class_uid"] == 3005


def test_an_event_names_its_ids_times_and_places():
    said = written(act())

    assert (said["time"], said["metadata"]["logged_time"]) == (1_795_176_000_123, 1_795_176_001_123)
    meta = said["metadata"]
    assert (meta["uid"], meta["original_event_uid"], meta["tenant_uid"], meta["sequence"]) == (
        act().event_id,
        "src-1",
        "acme",
        41,
    )
    assert said["src_endpoint"] == {"ip": "192.0.2.7"} and said["api"]["service"] == {"name": "cloud"}
    assert said["resources"] == [{"uid": "z-1", "name": "acme.io", "type": "zone", "role_id": 1, "role": "Target"}]
    assert {(o["name"], o["value"]) for o in said["observables"]} == {
        ("src_endpoint.ip", "192.0.2.7"), ("actor.user.uid", ADA.key), ("resources.uid", "z-1"),
    }  # fmt: skip


def test_the_agent_acts_and_the_human_is_who_it_acts_for():
    said = written(act())

    assert (said["actor"]["user"]["uid"], said["actor"]["user"]["type"], said["actor"]["app_uid"]) == (
        ADA.key,
        "User",
        BOT.key,
    )
    assert said["unmapped"]["ai_agent"] == {"uid": BOT.key, "name": "bot-7"}


def test_delegation_money_and_evidence_are_under_unmapped():
    said = written(act(path=granted(), via_grant="g-1"))["unmapped"]

    assert said["delegation"]["uid"] == "g-1" and said["delegation"]["issuer_uid"] == "https://id.example"
    ours = said["answerable"]
    assert ours["money"] == {
        "amount_minor": 1100,
        "currency": "EUR",
        "phase": "captured",
        "rail": "invoice",
        "charge": "ch-1",
    }
    assert (ours["grade"], ours["leaf_index"], ours["txn"], ours["chain"]["complete"]) == ("A", 41, "tx-1", True)
    assert [(h["sub"], h["standing"]) for h in ours["chain"]["hops"]] == [("ada", "proven"), ("bot-7", "proven")]


def test_what_nobody_said_is_unknown_or_absent():
    said = written(bare())

    assert said["actor"] == {"user": {"name": "Unknown", "type_id": 0, "type": "Unknown"}}
    assert said["src_endpoint"]["name"] == "Unknown" and said["api"] == {"operation": "Unknown"}
    assert (said["activity_id"], said["status_id"], said["status"]) == (0, 0, "Unknown")
    assert not {"resources", "observables", "http_request"} & said.keys()
    assert not {"money", "principal", "actor", "txn"} & said["unmapped"]["answerable"].keys()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("success", (1, "Success")),
        ("failure", (2, "Failure")),
        ("denied", (2, "Failure")),
        ("pending", (99, "Pending")),
        ("unknown", (0, "Unknown")),
    ],
)
def test_the_outcome_is_the_status(outcome, expected):
    said = written(act(outcome=outcome))

    assert (said["status_id"], said["status"]) == expected
    assert said.get("status_detail") == ("denied" if outcome == "denied" else None)


def test_what_is_no_address_is_not_written_as_one():
    odd = act(payload=Payload(outcome="success", client=Client("192.0.2.7, evil")))

    assert written(odd)["src_endpoint"] == {"name": "192.0.2.7, evil"}


@pytest.mark.parametrize(
    ("state", "is_first", "activity", "status"),
    [
        ("open", True, 1, 1), ("open", False, 2, 1), ("acknowledged", False, 2, 2), ("false_positive", False, 3, 3),
        ("resolved", False, 3, 4), ("withdrawn", False, 3, 99), ("withdrawn", True, 3, 99),
    ],
)  # fmt: skip
def test_what_becomes_of_a_finding_is_an_update_of_the_same_finding(state, is_first, activity, status):
    said = finding_object(kept(state=state, is_first=is_first, change=9), tenant="acme")

    assert (said["activity_id"], said["status_id"]) == (activity, status)
    assert (said["finding_info"]["uid"], said["metadata"]["uid"]) == ("finding-12", "finding-12-9")
    assert ("status_detail" in said) == (state == "withdrawn")


@pytest.mark.parametrize(
    ("rule", "class_uid"),
    [("authority.scope_widened", 2008), ("spend.retry_loop", 2004), ("authority.out_of_scope", 2004)],
)
def test_over_broad_delegation_is_an_iam_finding(rule, class_uid):
    said = finding_object(kept(rule), tenant="acme")

    assert said["class_uid"] == class_uid and said["finding_info"]["analytic"]["uid"] == rule
    assert said["unmapped"]["answerable"]["money_at_risk"] == {"amount_minor": 3300, "currency": "EUR"}


# --- hostile text
# -------------------------------------------------------------------------------------------------------

hostile = st.text(st.characters(codec="utf-8"), max_size=60)


@settings(max_examples=150, deadline=None)
@given(hostile.filter(bool), hostile, hostile, hostile)
def test_whatever_a_sender_wrote_is_one_line_of_valid_ocsf(sub, name, agent, error):
    odd = Payload(
        outcome="failure", actor=Actor("https://x", sub, "agent"), action=Action(name, name, name, Target(name, name), name),
        client=Client(name, agent), call=Call(name, error=error),
    )  # fmt: skip
    one = act(payload=odd, provider=name)
    raw = line(event_object(one, chain(one), tenant="acme", original_uid=name))

    assert raw.isascii() and raw.count(b"\n") == 1 and len(raw.decode().splitlines()) == 1
    said = json.loads(raw)
    assert problems(said) == []
    assert said["actor"]["app_uid"] == f"https://x|{sub}"  # an identifier is exact
    for text in (said["actor"]["app_name"], said["message"]):
        assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]


@settings(max_examples=100, deadline=None)
@given(hostile, hostile, st.dictionaries(hostile, hostile, max_size=3))
def test_a_finding_about_hostile_names_is_one_line_of_valid_ocsf(title, grant, evidence):
    raw = line(finding_object(kept(title=title, grant=grant, evidence=evidence), tenant="acme"))

    assert raw.isascii() and len(raw.decode().splitlines()) == 1 and problems(json.loads(raw)) == []


def test_a_long_text_and_a_long_chain_are_cut():
    wide = GrantObject(id="g", actor=BOT)
    one = act("delegation.granted", payload=Payload(outcome="success", grant=wide, call=Call(error="x" * 4000)))

    assert len(written(one)["status_detail"]) == 2001


# --- read back
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("outcome", ["success", "failure", "denied", "pending", "unknown"])
def test_what_we_write_we_read_back_with_the_same_meaning(type, outcome):
    one = act(type, outcome=outcome, path=granted(), via_grant="g-1", grant="g-1", token="jti-1")

    event = event_in("ocsf", written(one))

    payload = event.payload
    assert (event.type, payload.outcome, event.source_event_id) == (type, outcome, one.event_id)
    assert event.occurred_at == AT.replace(microsecond=123_000)  # OCSF has milliseconds
    assert (payload.actor.iss, payload.actor.sub, payload.actor.kind) == (BOT.iss, BOT.sub, "agent")
    assert event.principal_claim == ADA
    action = payload.action
    assert (action.verb, action.provider, action.account, action.target, action.resource) == (
        "dns.create", "cloud", "acct-1", Target("zone", "z-1"), "acme.io",
    )  # fmt: skip
    assert (payload.session, payload.request_id, payload.trace_id, payload.task, event.txn) == (
        "s-1",
        "r-1",
        "tr-1",
        "t-1",
        "tx-1",
    )
    assert (payload.client.ip, payload.client.user_agent, payload.call.operation) == (
        "192.0.2.7",
        "agent/1",
        "POST /zones",
    )
    assert payload.money == one.payload.money
    assert (payload.grant.id if isinstance(payload.grant, GrantObject) else payload.grant) == "g-1"


def test_a_finding_that_comes_back_is_no_act_of_anybody():
    event = event_in("ocsf", finding_object(kept(), tenant="acme"))

    assert event.type == "other.ocsf.Detection Finding: Create" and event.payload.actor is None


def test_nobody_is_read_back_as_nobody():
    event = event_in("ocsf", written(bare()))

    assert (event.payload.actor, event.principal_claim, event.payload.client, event.payload.money) == (
        None,
        None,
        None,
        None,
    )


# --- cases
# ----------------------------------------------------------------------------------------------------------------


def incident(**more) -> CaseStep:
    values = dict(
        uid="D-2026-000001", step=3, leaf_index=60, at=AT, opened_at=AT - timedelta(days=1), kind="scope", state="evidence_open",
        standing="in_progress", awaiting="respondent", title="Wrong name", complaint="I asked for .club", by="sam", role="security", reason="more is needed",
        acts=(Contested("6f1c0000-0000-4000-8000-000000000001", 900, "USD", "out_of_scope"),), principal=ADA.key, actor=BOT.key,
        provider="registrar", claimed_minor=900, claimed_currency="USD", finding=7, finding_title="a finding", severity="high",
    )  # fmt: skip
    return CaseStep(**values | more)


@pytest.mark.parametrize(
    ("standing", "status"),
    [
        ("new", "New"),
        ("in_progress", "In Progress"),
        ("on_hold", "On Hold"),
        ("resolved", "Resolved"),
        ("closed", "Closed"),
    ],
)
def test_a_case_in_every_standing_is_a_valid_incident_finding(standing, status):
    for step in (0, 1):
        said = case_object(incident(standing=standing, step=step), tenant="acme")

        assert problems(said) == []
        assert (said["class_uid"], said["status"], said["activity_name"]) == (
            2005, status, "Close" if standing == "closed" else "Update" if step else "Create",
        )  # fmt: skip
        assert said["unmapped"]["answerable"]["acts"][0] == {
            "event": "6f1c0000-0000-4000-8000-000000000001", "money": {"amount_minor": 900, "currency": "USD"}, "verdict": "out_of_scope",
        }  # fmt: skip
        assert [one["uid"] for one in said["finding_info_list"]] == ["case-acme-D-2026-000001", "finding-7"]
        assert said["metadata"]["uid"] == f"case-acme-D-2026-000001-{step}"


def test_a_case_of_which_little_is_known_claims_nothing():
    said = case_object(
        incident(title="", complaint="", reason="", acts=(), principal="", actor="", provider="", claimed_minor=None, claimed_currency="",
                 finding=None, finding_title="", severity=""), tenant="acme",
    )  # fmt: skip

    assert problems(said) == [] and (said["severity"], said["severity_id"]) == ("Unknown", 0)
    assert {"comment", "verdict", "observables"}.isdisjoint(said) and "claimed" not in said["unmapped"]["answerable"]


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"outcome": "upheld"}, (99, "upheld")),
        ({"merged_into": "D-2026-000009"}, (10, "Duplicate")),
        ({}, (None, None)),
    ],
)
def test_what_was_decided_is_said_in_our_word_and_nothing_before(more, verdict):
    said = case_object(incident(**more), tenant="acme")

    assert problems(said) == [] and (said.get("verdict_id"), said.get("verdict")) == verdict


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text('|\\=\n\r"<\u202e\u2028\x00\x85', max_size=40))
def test_no_claimant_adds_a_line_hides_a_character_or_breaks_the_schema(text):
    said = case_object(incident(title=text, complaint=text, reason=text, by=text, finding_title=text), tenant="acme")
    raw = line(said)

    assert problems(said) == [] and raw.isascii() and raw.count(b"\n") == 1
    for shown in (said["message"], said["finding_info_list"][0].get("desc", ""), said.get("comment", "")):
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in shown)


def test_a_case_is_bounded_however_much_is_written_and_contested():
    acts = tuple(Contested(f"e{n}", 1, "USD", "out_of_scope") for n in range(1000))
    said = case_object(
        incident(title="t" * 10**6, complaint="c" * 10**6, reason="r" * 10**6, by="b" * 10**6, acts=acts), tenant="acme"
    )

    assert len(line(said)) < 40_000 and problems(said) == []
    info = said["finding_info_list"][0]
    assert (len(info["related_events"]), info["related_events_count"], len(said["unmapped"]["answerable"]["acts"])) == (
        MOST,
        1000,
        MOST,
    )


@pytest.mark.parametrize(("dated", "not_before"), [(True, None), (False, None), (True, AT.timestamp() - 60)])
def test_a_grant_that_is_exported_and_read_again_begins_when_it_did(dated, not_before):
    said = GrantObject(id="g-1", root=True, subject=ADA, actor=BOT, not_before=not_before)
    path = granted(dated=dated, not_before=not_before and AT - timedelta(minutes=1))
    told = written(
        act("delegation.granted", payload=Payload(outcome="success", grant=said), path=path, via_grant="g-1")
    )

    again = event_in("ocsf", told)

    assert (again.type, again.payload.grant.id, again.dated, again.payload.grant.not_before) == (
        "delegation.granted",
        "g-1",
        dated,
        not_before,
    )
