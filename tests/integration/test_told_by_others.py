"""What several tell of one purchase, and what those tell who leave something out: counted once, and of whom it is."""

from datetime import timedelta

import pytest

from auditlog.models import Charge, Event
from auditlog.projection.project import rebuild
from tests.integration.test_money_verdict_is_finding import contradictions as of_money
from tests.integration.test_verdict_is_finding import contradictions
from tests.integration.test_who_may_say_so import CAP, HOUR, Bench

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def bench(world):
    made = Bench(world)
    world.source("bank", "https://bank.example")
    world.source("registrar", "https://registrar.example")
    made.eve = world.human("eve", issuer="https://id.eve.example")
    made.ebot = world.agent("ebot", issuer="https://ebots.example")
    return made


def tell(
    bench, kind, after, *, source="platform", who=None, by=None, verb="", target=("thing", "t"), money, grant=None
):
    said = {"amount_minor": 500, "currency": "USD", **money}
    action = {"verb": verb, "provider": "shop", "target": dict(zip(("type", "id"), target, strict=True))}
    authority = {"actor": by or bench.bot, "grant": grant} if grant else {}
    signed = bench.world.event(
        kind, source=source, at=bench.begins + after, principal=who or bench.fen, action=action, money=said, **authority
    )
    bench.world.send(signed)
    return signed


def spent(bench):
    return {c.principal.rpartition("|")[2]: 0 for c in Charge.objects.filter(tenant=bench.world.row)} | {
        name: sum(c.spent for c in Charge.objects.filter(tenant=bench.world.row) if c.principal.endswith(f"|{name}"))
        for name in {c.principal.rpartition("|")[2] for c in Charge.objects.filter(tenant=bench.world.row)}
    }


def settled(bench):
    bench.settles()
    assert [*contradictions(bench.world), *of_money(bench.world)] == []


@pytest.mark.parametrize("first", ["platform", "registrar"])
def test_a_name_that_orchestrator_and_registrar_tell_of_is_bought_once(bench, first):
    grant = bench.grant(limits=[CAP | {"max_minor": 800}])
    told = [
        tell(
            bench,
            "domain.registered",
            HOUR + n * SECOND,
            source=source,
            verb="domain.register",
            target=("domain", "acme.io"),
            money={},
            grant=grant,
        )
        for n, source in enumerate(sorted(("platform", "registrar"), key=lambda s: s != first))
    ]
    settled(bench)

    assert spent(bench) == {"fen": 500} and bench.found() == set()
    assert {bench.asked(one, "C5")["result"] for one in told} == {"pass"}


def test_what_was_asked_for_and_then_made_is_bought_once(bench):
    grant = bench.grant(limits=[CAP | {"max_minor": 800}])
    tell(bench, "resource.requested", HOUR, target=("server", "s1"), money={}, grant=grant)
    tell(
        bench, "resource.provisioned", HOUR + 5 * SECOND, source="shop", target=("server", "s1"), money={}, grant=grant
    )
    settled(bench)

    assert spent(bench) == {"fen": 500} and "spend.cap_exceeded" not in bench.found()


def test_two_customers_with_one_invoice_id_each_pay_their_own(bench):
    mine = bench.grant()
    theirs = bench.world.grant(bench.eve, bench.ebot, actions=["**"], at=bench.begins, source=bench.keys)
    bench.world.send(theirs)
    invoice = {"invoice": "in_1", "rail": "stripe"}
    for who, by, grant, amount in ((bench.fen, bench.bot, mine, 500), (bench.eve, bench.ebot, theirs, 700)):
        tell(bench, "subscription.started", HOUR, verb="subscription.start", who=who, by=by, grant=grant, target=("plan", "pro"),
             money=invoice | {"amount_minor": amount})  # fmt: skip
    paid = [
        tell(
            bench,
            "invoice.paid",
            2 * HOUR,
            source="bank",
            who=who,
            target=("invoice", "in_1"),
            money=invoice | {"amount_minor": amount},
        )
        for who, amount in ((bench.fen, 500), (bench.eve, 700))
    ]
    settled(bench)

    assert spent(bench) == {"fen": 500, "eve": 700}
    together = [bench.verdict(one) for one in paid]
    assert [v["verdict"] for v in together] == ["within_scope"] * 2 and {
        c["result"] for v in together for c in v["criteria"] if c["id"] == "C5"
    } == {"pass"}


def test_a_refund_that_leaves_its_rail_out_is_of_its_charge(bench):
    grant = bench.grant()
    charge = {"charge": "ch_1"}
    tell(bench, "payment.refunded", 2 * HOUR, source="bank", target=("charge", "ch_1"), money=charge)
    bench.settles()
    tell(bench, "payment.captured", HOUR, target=("charge", "ch_1"), money=charge | {"rail": "stripe"}, grant=grant)
    settled(bench)

    assert spent(bench) == {"fen": 0} and Charge.objects.get(tenant=bench.world.row).returned == 500


@pytest.mark.parametrize("late", [False, True])
def test_a_renewal_that_only_the_bank_tells_of_is_of_whoever_started_the_subscription(bench, late):
    grant = bench.grant()
    subscription = {"subscription": "sub_1", "rail": "stripe"}

    def start():
        tell(
            bench,
            "subscription.started",
            HOUR,
            verb="subscription.start",
            target=("plan", "pro"),
            money=subscription,
            grant=grant,
        )

    if not late:
        start()
    renewed = bench.world.event("payment.captured", source="bank", at=bench.begins + 3 * DAY, money=subscription | {"amount_minor": 500, "currency": "USD", "charge": "ch_9"})  # fmt: skip
    bench.world.send(renewed)
    bench.settles()
    if late:
        start()
    settled(bench)

    assert bench.verdict(renewed)["verdict"] == "within_scope"
    event = Event.objects.get(tenant=bench.world.row, source_event_id=renewed.jti)
    assert event.principal.endswith("|fen") and event.through is not None
    assert bench.found() == set()


def test_a_subscription_that_two_say_they_started_is_nobodys_in_either_order(bench):
    mine = bench.grant()
    theirs = bench.world.grant(bench.eve, bench.ebot, actions=["**"], at=bench.begins, source=bench.keys)
    bench.world.send(theirs)
    money = {"subscription": "sub_1", "rail": "stripe"}
    tell(
        bench, "subscription.started", HOUR, verb="subscription.start", target=("plan", "pro"), money=money, grant=mine
    )
    renewed = bench.world.event("payment.captured", source="bank", at=bench.begins + 3 * DAY, money=money | {"amount_minor": 500, "currency": "USD", "charge": "ch_9"})  # fmt: skip
    bench.world.send(renewed)
    bench.settles()
    of = Event.objects.filter(tenant=bench.world.row, source_event_id=renewed.jti)
    assert of.get().through is not None
    tell(
        bench,
        "subscription.started",
        2 * HOUR,
        verb="subscription.start",
        who=bench.eve,
        by=bench.ebot,
        target=("plan", "pro"),
        money=money,
        grant=theirs,
    )
    settled(bench)
    assert of.get().through is None and bench.verdict(renewed)["verdict"] == "indeterminate"

    rebuild(bench.world.row, now=bench.world.now)
    assert of.order_by("-generation").first().through is None


@pytest.mark.parametrize(("source", "names_its_grant"), [("platform", True), ("bank", False)])
def test_what_was_held_in_time_may_be_taken_after_the_revocation(bench, source, names_its_grant):
    grant = bench.grant()
    charge = {"charge": "ch_1", "rail": "stripe"}
    tell(bench, "payment.authorized", HOUR, target=("charge", "ch_1"), money=charge, grant=grant)
    revoked(bench, grant)
    taken = tell(
        bench,
        "payment.captured",
        3 * HOUR,
        source=source,
        target=("charge", "ch_1"),
        money=charge,
        grant=grant if names_its_grant else None,
    )
    settled(bench)

    assert bench.verdict(taken)["verdict"] == "within_scope" and bench.found() == set()


def test_more_than_was_held_is_not_taken_under_the_hold(bench):
    grant = bench.grant()
    charge = {"charge": "ch_1", "rail": "stripe"}
    tell(bench, "payment.authorized", HOUR, target=("charge", "ch_1"), money=charge, grant=grant)
    revoked(bench, grant)
    taken = tell(
        bench,
        "payment.captured",
        3 * HOUR,
        target=("charge", "ch_1"),
        money=charge | {"amount_minor": 5_000},
        grant=grant,
    )
    settled(bench)

    assert bench.verdict(taken)["verdict"] == "out_of_scope" and "authority.used_after_revocation" in bench.found()


def revoked(bench, grant):
    said = {"id": grant.payload["grant"]["id"]}
    bench.world.send(
        bench.world.event(
            "delegation.revoked",
            source=bench.keys,
            at=bench.begins + 2 * HOUR,
            grant=said,
            principal=bench.fen,
            actor=bench.fen,
        )
    )
