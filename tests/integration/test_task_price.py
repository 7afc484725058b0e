"""What a task cost against what was asked: a bill of several acts, an act paid for in parts."""

import pytest

from auditlog.models import Finding
from tests.integration.test_whose_money import HOUR, MINUTE, Stage


@pytest.fixture
def stage(world):
    return Stage(world)


def priced(stage, most):
    return stage.grant(intent={"text": "two machines", "max_price_minor": most, "currency": "USD"})


def by_bank(stage, amount, after, grant, *, charge, **money_and_more):
    money = {"charge": charge, "rail": "card"} | (
        {"invoice": money_and_more.pop("invoice")} if "invoice" in money_and_more else {}
    )
    return stage.tell(
        stage.bank, "payment.captured", after, amount=amount, money=money, grant=grant, actor=stage.bot,
        verb="payment.capture", **money_and_more,
    )  # fmt: skip


def found(stage):
    return {
        event
        for finding in Finding.objects.filter(tenant=stage.world.row, rule="intent.price_exceeded").exclude(
            state="withdrawn"
        )
        for event in map(str, finding.event_ids)
    }


def of_one_bill(stage, given, *, pays_after):
    one = stage.buys(3_000, grant=given, money={"invoice": "in_1"})
    two = stage.buys(6_000, grant=given, after=2 * HOUR, target=("vm", "b"), money={"invoice": "in_1"})
    return one, two, by_bank(stage, 9_000, pays_after, given, charge="ch", invoice="in_1")


@pytest.mark.parametrize("pays_after", [30 * MINUTE, 3 * HOUR], ids=["paid first", "paid last"])
def test_a_bill_of_several_acts_is_no_second_price(stage, pays_after):
    told = of_one_bill(stage, priced(stage, 10_000), pays_after=pays_after)
    stage.settled()

    assert stage.spent(stage.mara) == 9_000
    assert not stage.rules()
    assert [stage.result(each, "I1") for each in told] == ["pass"] * 3
    stage.agree()


@pytest.mark.parametrize("pays_after", [30 * MINUTE, 3 * HOUR], ids=["paid first", "paid last"])
def test_the_payment_of_a_bill_stands_with_the_act_that_passed_the_price(stage, pays_after):
    one, two, paid = of_one_bill(stage, priced(stage, 5_000), pays_after=pays_after)
    stage.settled()

    [finding] = Finding.objects.filter(tenant=stage.world.row, rule="intent.price_exceeded")
    assert found(stage) == {stage.event(two), stage.event(paid)}
    assert (finding.money_at_risk_minor, finding.evidence["spent_minor"]) == (4_000, 9_000)
    assert [stage.result(each, "I1") for each in (one, two, paid)] == ["pass", "fail", "fail"]
    stage.agree()


@pytest.mark.parametrize("most, is_over", [(10_000, False), (8_000, True)])
def test_an_act_paid_for_in_halves_has_one_price(stage, most, is_over):
    given = priced(stage, most)
    told = [stage.buys(9_000, grant=given, request_id="rq")]
    told += [by_bank(stage, 4_500, 2 * HOUR + n * MINUTE, given, charge=f"ch{n}", request_id="rq") for n in (1, 2)]
    stage.settled()

    assert stage.spent(stage.mara) == 9_000
    assert found(stage) == ({stage.event(each) for each in told} if is_over else set())
    assert [stage.result(each, "I1") for each in told] == (["fail"] * 3 if is_over else ["pass"] * 3)
    stage.agree()


def test_what_a_bill_takes_beyond_its_acts_counts(stage):
    given = priced(stage, 10_000)
    of_one_bill(stage, given, pays_after=3 * HOUR)
    more = by_bank(stage, 2_500, 4 * HOUR, given, charge="ch2", invoice="in_2")
    stage.settled()

    assert found(stage) == {stage.event(more)}
    assert stage.result(more, "I1") == "fail"
    stage.agree()


def test_a_bill_above_its_acts_adds_the_difference(stage):
    given = priced(stage, 9_500)
    one, two, _ = of_one_bill(stage, given, pays_after=HOUR * 3)
    tip = stage.buys(1_000, grant=given, after=5 * HOUR, target=("vm", "c"), money={"invoice": "in_3"})
    paid = by_bank(stage, 9_600, 6 * HOUR, given, charge="ch3", invoice="in_3")
    stage.settled()

    finding = Finding.objects.get(tenant=stage.world.row, rule="intent.price_exceeded")
    assert finding.evidence["spent_minor"] == stage.spent(stage.mara)
    assert [stage.result(each, "I1") for each in (one, two, tip, paid)] == ["pass", "pass", "fail", "fail"]
    stage.agree()
