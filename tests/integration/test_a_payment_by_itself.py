"""A payment of which no act is known is judged by what it says itself: C3, C4 and authority.out_of_scope."""

from datetime import timedelta

import pytest

from tests.integration.test_verdict_is_finding import accusations, contradictions
from tests.integration.test_who_may_say_so import Bench

HOUR = timedelta(hours=1)


@pytest.fixture
def bench(world):
    return Bench(world)


def paid(bench, grant, *, verb, target=("charge", "ch_1"), after=HOUR, charge="ch_1"):
    signed = bench.world.event(
        "payment.captured",
        source=bench.platform,
        at=bench.begins + after,
        action={"verb": verb, "provider": "shop", "target": dict(zip(("type", "id"), target, strict=True))},
        money={"amount_minor": 900, "currency": "USD", "charge": charge, "rail": "bank"},
        principal=bench.fen,
        actor=bench.bot,
        grant=grant,
    )
    bench.world.send(signed)
    return signed


def said_of(bench, event):
    bench.settles()
    verdict = bench.verdict(event)
    by_id = {c["id"]: c["result"] for c in verdict["criteria"]}
    assert list(contradictions(bench.world)) == []
    assert list(accusations(bench.world)) == []
    return verdict["verdict"], by_id["C3"], by_id["C4"], "authority.out_of_scope" in bench.found()


@pytest.mark.parametrize(
    "verb",
    [
        "payment.capture",
        "payments.create",
        "invoices.pay",
        "order.pay",
        "wallet.topup",
        "CapturePayment",
        "charges:create",
    ],
)
def test_a_verb_that_only_pays_is_within_any_grant(bench, verb):
    grant = bench.grant(actions=["dns.**"])
    assert said_of(bench, paid(bench, grant, verb=verb))[1:] == ("pass", "pass", False)


@pytest.mark.parametrize("verb", ["buy", "order.create", "checkout.complete", "PurchaseProduct"])
def test_a_verb_that_may_be_more_than_paying_is_unknown_where_no_grant_allows_it(bench, verb):
    grant = bench.grant(actions=["dns.**"])
    assert said_of(bench, paid(bench, grant, verb=verb)) == ("indeterminate", "unknown", "pass", False)


@pytest.mark.parametrize("verb", ["domain.register", "subscription.start", "server.create"])
def test_a_payment_that_says_what_else_was_done_is_held_to_the_grants(bench, verb):
    grant = bench.grant(actions=["dns.**"])
    assert said_of(bench, paid(bench, grant, verb=verb)) == ("out_of_scope", "fail", "pass", True)


@pytest.mark.parametrize("verb", ["buy", "domain.register"])
def test_a_verb_that_the_grants_allow_is_within_them(bench, verb):
    grant = bench.grant(actions=["dns.**", "buy", "domain.*"])
    assert said_of(bench, paid(bench, grant, verb=verb))[1:] == ("pass", "pass", False)


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("payment.capture", ("indeterminate", "pass", "unknown", False)),
        ("domain.register", ("out_of_scope", "pass", "fail", True)),
    ],
)
def test_a_payment_for_another_name_than_the_grants_allow(bench, verb, expected):
    grant = bench.grant(actions=["domain.*"], resources=["acme.io"])
    assert said_of(bench, paid(bench, grant, verb=verb, target=("domain", "evil.io"))) == expected


def test_a_charge_or_invoice_as_target_is_no_resource(bench):
    grant = bench.grant(actions=["domain.*"], resources=["acme.io"])
    for kind in ("charge", "invoice", "payment_intent", "issuing.transaction", "checkout.session"):
        assert said_of(bench, paid(bench, grant, verb="payment.capture", target=(kind, "in_7"), charge=kind))[1:] == (
            "pass",
            "pass",
            False,
        )


def test_what_a_grant_denies_a_payment_may_not_do_either(bench):
    grant = bench.grant(actions=["**"], deny={"actions": ["payment.*"]})
    assert said_of(bench, paid(bench, grant, verb="payment.capture"))[1] == "fail"


def test_where_the_act_is_known_it_is_judged_and_not_the_payment(bench):
    grant = bench.grant(actions=["db.**"])
    bench.act(
        grant=grant, amount=None, money={"amount_minor": 900, "currency": "USD", "charge": "ch_1", "rail": "bank"}
    )
    assert said_of(bench, paid(bench, grant, verb="subscription.start", after=2 * HOUR))[1:] == ("pass", "pass", False)
