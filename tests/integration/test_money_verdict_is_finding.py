"""C5, C13 and I1 and the rules about money say the same of one event, over the whole demo and over hostile small streams."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from auditlog.models import Event, Finding
from disputes.adjudicate import adjudicate
from tests.integration.test_project import fresh_world

OF_LIMITS = (
    "spend.cap_exceeded",
    "spend.cross_provider_cap",
    "spend.concurrency_overshoot",
    "spend.authority_exceeded",
)
OF_PRICE, OF_QUANTITY, OF_REPEATS = (
    ("intent.price_exceeded",),
    ("intent.quantity_exceeded",),
    ("spend.duplicate_charge", "spend.retry_loop"),
)


def contradictions(world):
    """What differs between a rule and its criterion, of every statement of money."""
    ids = [
        str(pk)
        for pk in Event.objects.filter(tenant=world.row)
        .exclude(book="")
        .order_by("leaf_index")
        .values_list("event_id", flat=True)
    ]
    verdicts = {v["event_id"]: v for v in adjudicate(world.row, ids)}
    results = {
        event_id: {c["id"]: (c["result"], c["reason"]) for c in v["criteria"]} for event_id, v in verdicts.items()
    }
    found: dict[str, dict[str, Finding]] = {}
    for finding in Finding.objects.filter(tenant=world.row).exclude(state="withdrawn"):
        for event_id in map(str, finding.event_ids):
            found.setdefault(event_id, {})[finding.rule] = finding
        crossed = finding.evidence.get("crossed_by")
        if (
            finding.rule in OF_LIMITS
            and crossed in results
            and finding.evidence.get("enforcement") != "alert_only"
            and results[crossed]["C5"][0] != "fail"
        ):
            yield f"{finding.rule}: {finding.title}; and C5 of the act that crossed it: {results[crossed]['C5']}"
    for event_id, verdict in verdicts.items():
        rules, codes = found.get(event_id, {}).keys(), verdict["codes"]
        said = results[event_id]
        if said["C5"][0] == "fail" and not rules & set(OF_LIMITS):
            yield f"{event_id}: C5 fails and no rule says so: {said['C5'][1]}"
        if said["C13"][0] == "fail" and "spend.duplicate_charge" not in rules:
            yield f"{event_id}: C13 fails and no rule says so: {said['C13'][1]}"
        if "repeat" in codes and not rules & set(OF_REPEATS):
            yield f"{event_id}: I1 says repeat and no rule does: {said['I1'][1]}"
        for code, of_code in (("price_exceeded", OF_PRICE), ("quantity_exceeded", OF_QUANTITY)):
            if code in codes and not rules & set(of_code):
                yield f"{event_id}: I1 says {code} and no rule does: {said['I1'][1]}"


def test_on_the_demo_no_rule_about_money_and_its_criterion_contradict_each_other(told):
    assert list(contradictions(told)) == []


STEP = st.builds(
    dict, kind=st.sampled_from(["payment.authorized", "payment.captured", "payment.captured", "payment.refunded", "usage.metered", "domain.registered", "invoice.paid",
                                "limit.raised", "limit.lowered"]),
    amount=st.sampled_from([300, 600, 900]), charge=st.sampled_from(["a", "b", "c", "d"]), key=st.sampled_from(["", "", "k"]), by_human=st.booleans(),
    session=st.sampled_from(["", "s"]), currency=st.sampled_from(["USD", "USD", "USD", "EUR"]),
)  # fmt: skip


def said(world, n, grant, step):
    at = world.now - timedelta(minutes=60 - n)
    if step["kind"].startswith("limit."):
        by = world.ada if step["by_human"] else world.bot
        limit = {
            "id": "cap",
            "scope": "global",
            "max_minor": step["amount"],
            "currency": "USD",
            "interval": "month",
            "holder": world.bot.ref,
            "set_by": by.ref,
        }
        return world.event(
            step["kind"],
            at=at,
            limit=limit,
            grant=grant.id,
            actor=by,
            principal=world.ada,
            mode="direct" if step["by_human"] else "delegation",
        )
    metered = step["kind"] in ("usage.metered", "domain.registered", "invoice.paid")
    money = {"amount_minor": step["amount"], "currency": step["currency"], "rail": "card"} | (
        {} if metered else {"charge": step["charge"]}
    )
    call = {"operation": "op", "args": {"n": n}} | ({"idempotency_key": step["key"]} if step["key"] else {})
    target = (
        {"target": {"type": "domain", "id": f"n{n}.example"}, "verb": "domain.register"}
        if step["kind"] == "domain.registered"
        else {"verb": "order.pay"}
    )
    return world.event(
        step["kind"],
        at=at,
        money=money,
        call=call,
        grant=grant,
        session=step["session"] or None,
        action={"provider": "shop"} | target,
    )


@pytest.mark.parametrize("scope", ["global", "session"])
@example(
    [{"kind": kind, "amount": 300, "charge": charge, "key": key, "by_human": False, "session": "", "currency": "USD"}
     for kind, charge, key in (("payment.captured", "a", "k"), ("payment.captured", "b", ""), ("payment.captured", "b", "k"))]
)  # fmt: skip
@example(  # a limit that is narrowed between an authorization and its capture
    [{"kind": kind, "amount": amount, "charge": "a", "key": "", "by_human": kind == "limit.raised", "session": "", "currency": "USD"}
     for kind, amount in (("payment.authorized", 300), ("payment.authorized", 600), ("limit.raised", 300), ("payment.captured", 600))]
)  # fmt: skip
@example(  # a hold that its acts outgrow, told again beside them
    [{"kind": kind, "amount": amount, "charge": "a", "key": key, "by_human": False, "session": "", "currency": "USD"}
     for kind, amount, key in (("payment.authorized", 300, ""), ("domain.registered", 900, "k"), ("payment.authorized", 300, "k"), ("domain.registered", 300, "k"))]
)  # fmt: skip
@example(  # a refund that is told before its authorization
    [{"kind": kind, "amount": 300, "charge": charge, "key": "", "by_human": kind == "limit.raised", "session": "", "currency": "USD"}
     for kind, charge in (("payment.authorized", "a"), ("limit.raised", ""), ("payment.refunded", "b"), ("payment.authorized", "b"), ("payment.authorized", "c"))]
)  # fmt: skip
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=2, max_size=7))
def test_on_small_streams_no_rule_about_money_and_its_criterion_contradict_each_other(database, now, scope, steps):
    world = fresh_world(now)
    world.source("conductor", "https://conductor.example")
    world.ada, world.bot = (
        world.human("ada", issuer="https://id.example"),
        world.agent("bot", issuer="https://conductor.example"),
    )
    limit = {
        "id": "cap",
        "scope": scope,
        "max_minor": 1_000,
        "currency": "USD",
        "interval": "month" if scope == "global" else "once",
    }
    grant = world.grant(world.ada, world.bot, actions=["**"], limits=[limit], at=now - timedelta(hours=3))
    world.send(grant, *(said(world, n, grant, step) for n, step in enumerate(steps)))
    world.settle()

    assert list(contradictions(world)) == []


def test_every_statement_of_what_went_beyond_the_intent_is_in_its_finding(world, now):
    orchestrator, rail = (
        world.source("conductor", "https://conductor.example"),
        world.source("rail", "https://rail.example"),
    )
    ada, bot = world.human("ada", issuer="https://id.example"), world.agent("bot", issuer="https://conductor.example")
    asked = {"text": "one name", "quantity": 1, "max_price_minor": 1_000, "currency": "USD"}
    grant = world.grant(
        ada, bot, actions=["**"], resources=["**"], intent=asked, at=now - timedelta(hours=3), source=orchestrator
    )
    world.send(grant)
    for n, name in enumerate(("one.example", "two.example")):
        at = now - timedelta(minutes=60 - n)
        act = {"verb": "domain.register", "provider": "shop", "target": {"type": "domain", "id": name}}
        money = {"amount_minor": 900, "currency": "USD", "rail": "card"}
        call = {"operation": "register", "idempotency_key": f"key-{n}"}
        world.send(
            world.event("domain.registered", at=at, grant=grant, action=act, money=money, call=call, source=orchestrator),
            world.event("payment.captured", at=at + timedelta(seconds=2), grant=grant, action={"verb": "order.pay", "provider": "shop"},
                        money=money | {"charge": f"ch-{n}"}, call=call, source=rail),
        )  # fmt: skip
    world.settle()

    kept = {finding.rule: finding for finding in Finding.objects.filter(tenant=world.row)}
    second = {
        str(pk)
        for pk in Event.objects.filter(tenant=world.row, idempotency_key="key-1").values_list("event_id", flat=True)
    }
    assert len(second) == 2
    assert {str(pk) for pk in kept["intent.quantity_exceeded"].event_ids} == second
    assert {str(pk) for pk in kept["intent.price_exceeded"].event_ids} == second
    assert kept["intent.price_exceeded"].money_at_risk_minor == 800
    assert list(contradictions(world)) == []
