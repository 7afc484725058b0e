"""What a human approved is what was wanted: it says more than the intent before it, and its price binds."""

from datetime import timedelta
from hashlib import sha256

import pytest
import rfc8785

from auditlog.core.wire.keys import b64url
from auditlog.models import Finding
from tests.integration.test_whose_money import DAY, HOUR, MINUTE, Stage


class Desk(Stage):
    def approves(
        self, most=None, *, human=None, by=None, after=30 * MINUTE, currency="USD", over=None, source=None, **more
    ):
        human = human or self.mara
        gate = {"kind": "purchase", "by": (by or human).ref, **({"over": over} if over else {})}
        intent = {"max_price_minor": most, "currency": currency} if most is not None else None
        return self.tell(source or self.desk, "approval.decided", after, gate=gate, intent=intent, actor=by or human,
                         principal=human, provider=None, **more)  # fmt: skip

    def registers(self, name, amount, *, grant, after=HOUR, **more):
        return self.tell(self.desk, "domain.registered", after, amount=amount, grant=grant, actor=self.bot, principal=None,
                         verb="domain.register", target=("domain", name), **more)  # fmt: skip

    def reason(self, signed):
        return next(each["reason"] for each in self.verdict(signed)["criteria"] if each["id"] == "I1")


@pytest.fixture
def desk(world):
    return Desk(world)


def bound(verb, type, id, most=None, currency="USD"):
    """`over` of an act at the shop, up to a price where one is given."""
    fields = {"verb": verb, "provider": "shop", "target": {"type": type, "id": id}}
    price = {} if most is None else {"max_price_minor": most, "currency": currency}
    return b64url(sha256(rfc8785.dumps(fields | price)).digest())


def joined(by, most):
    """How an approval of buying vm `a` joins it, and what the act says for that."""
    return {
        "request": ({"request_id": "r1"}, {"request_id": "r1"}),
        "over": ({"over": bound("vm.create", "vm", "a", most)}, {}),
        "task": ({"task": "t1"}, {"task": "t1"}),
    }[by]


@pytest.mark.parametrize("by", ["request", "over", "task"])
@pytest.mark.parametrize("comes", ["before", "late"])
def test_more_than_was_approved_is_found_without_any_gate(desk, by, comes):
    mine = desk.grant()
    said, does = joined(by, 5_000)
    if comes == "before":
        desk.approves(5_000, **said)
    bought = desk.buys(8_000, grant=mine, **does)
    if comes == "late":
        desk.settled().approves(5_000, **said)
    desk.settled()

    verdict = desk.verdict(bought)
    assert (verdict["verdict"], verdict["codes"]) == (
        "within_scope_unanticipated",
        ["intent_divergent", "price_exceeded"],
    )
    assert desk.reason(bought) == "at most 50.00 USD was approved, 80.00 USD was taken"
    [found] = Finding.objects.filter(tenant=desk.world.row, rule="intent.price_exceeded")
    assert found.money_at_risk_minor == 3_000
    desk.agree()


@pytest.mark.parametrize("by", ["request", "over", "task"])
def test_up_to_what_was_approved_is_what_was_asked_for(desk, by):
    mine = desk.grant()
    said, does = joined(by, 5_000)
    desk.approves(5_000, **said)
    bought = desk.buys(5_000, grant=mine, **does)
    desk.settled()

    assert desk.verdict(bought)["verdict"] == "within_scope" and desk.result(bought, "I1") == "pass"
    assert desk.rules() == []
    desk.agree()


def test_a_price_approved_for_a_task_is_for_all_of_it(desk):
    mine = desk.grant()
    desk.approves(5_000, task="t1")
    bought = [desk.buys(3_000, grant=mine, task="t1", after=HOUR * n, target=("vm", str(n))) for n in (1, 2, 3)]
    elsewhere = desk.buys(9_000, grant=mine, task="t2", after=5 * HOUR, target=("vm", "z"))
    desk.settled()

    assert [desk.verdict(each)["verdict"] for each in bought] == ["within_scope"] + ["within_scope_unanticipated"] * 2
    assert desk.verdict(elsewhere)["verdict"] == "within_scope"
    [found] = Finding.objects.filter(tenant=desk.world.row, rule="intent.price_exceeded")
    assert (found.money_at_risk_minor, found.events_total) == (4_000, 2)
    desk.agree()


@pytest.mark.parametrize("by", ["over", "request"])
@pytest.mark.parametrize("comes", ["before", "late"])
def test_another_name_at_another_price_that_a_human_approved_is_what_was_wanted(desk, by, comes):
    mine = desk.grant(intent={"targets": ["acme.com"], "max_price_minor": 1_500, "currency": "USD", "quantity": 1})
    asked = desk.registers("acme.com", 1_200, grant=mine, after=20 * MINUTE)
    said = {
        "over": {"over": bound("domain.register", "domain", "acme.io", 2_500)},
        "request": {"request_id": "r1", "verb": "domain.register", "target": ("domain", "acme.io")},
    }[by]
    if comes == "before":
        desk.approves(2_500, **said)
    bought = desk.registers("acme.io", 2_500, grant=mine, request_id="r1")
    if comes == "late":
        assert desk.settled().rules() == [
            "intent.domain_mismatch", "intent.price_exceeded", "intent.quantity_exceeded",
        ]  # fmt: skip
        desk.approves(2_500, **said)
    desk.settled()

    assert [desk.verdict(each)["verdict"] for each in (asked, bought)] == ["within_scope"] * 2
    assert desk.rules() == []
    desk.agree()


def test_what_was_approved_is_beside_the_price_of_the_task(desk):
    mine = desk.grant(intent={"max_price_minor": 1_500, "currency": "USD"})
    desk.approves(2_500, over=bound("vm.create", "vm", "a", 2_500))
    desk.buys(2_500, grant=mine)
    more = desk.buys(100, grant=mine, after=2 * HOUR, target=("vm", "b"))
    desk.settled()

    assert desk.reason(more) == "the task has cost 1.00 USD of 15.00 USD" and desk.rules() == []
    desk.agree()


def test_a_yes_without_a_price_says_nothing_of_the_price(desk):
    mine = desk.grant(intent={"max_price_minor": 1_500, "currency": "USD"})
    desk.approves(request_id="r1")
    bought = desk.buys(2_500, grant=mine, request_id="r1")
    desk.settled()
    assert desk.reason(bought) == "at most 15.00 USD was asked for, 25.00 USD was taken"
    desk.agree()


def test_a_price_approved_in_other_money_is_unknown_without_a_rate(desk):
    mine = desk.grant()
    desk.approves(5_000, currency="EUR", request_id="r1")
    bought = desk.buys(8_000, grant=mine, request_id="r1")
    desk.settled()
    assert desk.result(bought, "I1") == "unknown" and desk.rules() == []
    desk.agree()


@pytest.mark.parametrize("whose", ["an agent", "another customer", "the acting side", "taken back", "afterwards"])
def test_a_yes_that_does_not_count_excuses_nothing(desk, whose):
    mine = desk.grant(intent={"targets": ["acme.com"]})
    said = {"over": bound("domain.register", "domain", "acme.io", 2_500)}
    if whose == "an agent":
        desk.approves(2_500, by=desk.world.agent("approver", issuer="https://id.one.example"), **said)
    elif whose == "another customer":
        desk.approves(2_500, human=desk.otto, **said)
    elif whose == "the acting side":
        desk.approves(2_500, source=desk.agents, **said)
    elif whose == "afterwards":
        desk.approves(2_500, after=DAY, **said)
    else:
        desk.approves(2_500, **said)
        desk.approves(2_500, after=40 * MINUTE, outcome="denied", **said)
    bought = desk.registers("acme.io", 2_500, grant=mine)
    desk.settled()

    assert desk.result(bought, "I1") == "fail" and "intent.domain_mismatch" in desk.rules()


def test_a_yes_that_does_not_count_convicts_nobody_by_its_price(desk):
    mine = desk.grant()
    desk.approves(100, human=desk.otto, request_id="r1")
    desk.approves(100, source=desk.agents, request_id="r1", after=31 * MINUTE)
    bought = desk.buys(8_000, grant=mine, request_id="r1")
    desk.settled()

    assert desk.verdict(bought)["verdict"] == "within_scope" and desk.rules() == []


def test_the_last_word_of_a_human_is_the_price(desk):
    mine = desk.grant()
    desk.approves(5_000, request_id="r1")
    desk.approves(9_000, request_id="r1", after=30 * MINUTE + timedelta(seconds=30))
    bought = desk.buys(8_000, grant=mine, request_id="r1")
    desk.settled()
    assert desk.verdict(bought)["verdict"] == "within_scope" and desk.rules() == []
    desk.agree()


def test_a_yes_bound_to_the_act_foresaw_it_whoever_named_the_price(desk):
    mine = desk.grant()
    desk.approves(over=bound("vm.create", "vm", "a"))
    desk.approves(5_000, request_id="r1", after=40 * MINUTE)
    bought = desk.buys(5_000, grant=mine, request_id="r1")
    desk.settled()
    assert desk.result(bought, "I2") == "na" and desk.result(bought, "I1") == "pass"
    desk.agree()


@pytest.mark.parametrize("by", ["over", "request"])
@pytest.mark.parametrize("when", ["after the first", "before both", "by another agent"])
def test_the_same_again_with_a_yes_of_its_own_is_no_repeat(desk, by, when):
    mine = desk.grant()
    first = desk.buys(4_000, grant=mine, target=("order", "o-1"), call={"idempotency_key": "k1"}, request_id="r0")
    said = {"over": bound("vm.create", "order", "o-1")} if by == "over" else {"request_id": "r1"}
    after = 30 * MINUTE if when == "before both" else 90 * MINUTE
    other = desk.world.agent("other", issuer="https://agents.example") if when == "by another agent" else None
    verb, target = ("vm.create", ("order", "o-1")) if by == "request" else (None, None)
    desk.approves(4_000, after=after, by=other, verb=verb, target=target, **said)
    second = desk.buys(
        4_000, grant=mine, after=2 * HOUR, target=("order", "o-1"), call={"idempotency_key": "k2"}, request_id="r1"
    )
    desk.settled()

    is_wanted = when == "after the first"
    assert desk.result(first, "I1") in ("na", "pass")
    assert (desk.result(second, "I1") == "fail") is not is_wanted
    assert ("spend.duplicate_charge" in desk.rules()) is not is_wanted
    desk.agree()


def test_a_key_that_was_charged_twice_is_the_providers_whatever_was_approved(desk):
    mine = desk.grant()
    bought = [
        desk.tell(desk.bank, "payment.captured", after, amount=4_000, grant=mine, actor=desk.bot, call={"idempotency_key": "k1"},
                  money={"charge": f"ch{after}", "rail": "card"}, request_id=f"r{after}", verb="payment.capture")
        for after in (HOUR, 2 * HOUR)
    ]  # fmt: skip
    desk.approves(4_000, after=90 * MINUTE, request_id=f"r{2 * HOUR}")
    desk.settled()
    assert "spend.duplicate_charge" in desk.rules() and desk.result(bought[1], "C13") == "fail"


# --- what only an approval says of the things wanted ------------------------------------------------------------------


@pytest.mark.parametrize("by", ["task", "request"])
@pytest.mark.parametrize("names", ["target", "intent"])
@pytest.mark.parametrize("comes", ["before", "late"])
def test_another_name_than_the_one_approved_is_found_where_nothing_else_says_what_was_wanted(desk, by, names, comes):
    mine = desk.grant()
    said = {"task": "t1"} if by == "task" else {"request_id": "r1"}
    wanted = {"target": ("domain", "acme.club")} if names == "target" else {"intent": {"targets": ["acme.club"]}}
    gate = {"kind": "purchase", "by": desk.mara.ref}

    def approve():
        desk.tell(desk.desk, "approval.decided", MINUTE, gate=gate, actor=desk.mara, provider=None, **wanted, **said)

    if comes == "before":
        approve()
    right = desk.registers("acme.club", 900, grant=mine, **said)
    wrong = desk.registers("acme.cc", 900, grant=mine, after=2 * HOUR, **said)
    desk.settled()
    if comes == "late":
        approve()
        desk.settled()

    is_told = not (by == "task" and names == "target")  # an approval of one thing is none of its whole task
    found = Finding.objects.filter(tenant=desk.world.row, rule="intent.domain_mismatch")
    assert [list(map(str, f.event_ids)) for f in found] == ([[desk.event(wrong)]] if is_told else [])
    assert desk.result(right, "I1") in ("pass", "na")
    assert desk.result(wrong, "I1") == ("fail" if is_told else "na")
    desk.agree()


@pytest.mark.parametrize("by", ["task", "request"])
def test_more_than_an_approved_number_is_found(desk, by):
    mine = desk.grant()
    said = {"task": "t1"} if by == "task" else {"request_id": "r1"}
    gate = {"kind": "purchase", "by": desk.mara.ref}
    desk.tell(desk.desk, "approval.decided", MINUTE, gate=gate, actor=desk.mara, provider=None,
              intent={"text": "two machines", "quantity": 2}, **said)  # fmt: skip
    bought = [
        desk.buys(1_000, grant=mine, after=n * 2 * HOUR, target=("vm", f"v{n}"), money={"charge": f"c{n}"}, **said)
        for n in range(1, 4)
    ]
    desk.settled()

    assert [desk.result(each, "I1") for each in bought] == ["pass", "pass", "fail"]
    assert "intent.quantity_exceeded" in desk.rules()
    desk.agree()


def test_what_a_stranger_approved_says_nothing_of_what_was_wanted(desk):
    mine = desk.grant()
    gate = {"kind": "purchase", "by": desk.otto.ref}
    desk.tell(desk.desk, "approval.decided", MINUTE, gate=gate, actor=desk.otto, principal=desk.otto, provider=None,
              intent={"quantity": 1, "targets": ["v1"]}, task="t1")  # fmt: skip
    bought = [
        desk.buys(1_000, grant=mine, after=n * 2 * HOUR, target=("vm", f"v{n}"), money={"charge": f"c{n}"}, task="t1")
        for n in range(1, 4)
    ]
    desk.settled()
    assert not desk.rules() and desk.result(bought[2], "I1") == "na"


def test_two_approvals_of_parts_of_a_task_convict_nobody_below_their_sum(desk):
    mine = desk.grant()
    desk.approves(3_000, after=10 * MINUTE, task="t1")
    desk.approves(5_000, after=20 * MINUTE, task="t1")
    told = [
        desk.buys(amount, grant=mine, after=n * HOUR, target=("vm", f"v{n}"), money={"charge": f"c{n}"}, task="t1")
        for n, amount in enumerate((4_000, 3_500, 2_000), 1)
    ]
    desk.settled()

    assert [desk.result(each, "I1") for each in told] == ["pass", "unknown", "fail"]
    [found] = Finding.objects.filter(tenant=desk.world.row, rule="intent.price_exceeded")
    assert found.money_at_risk_minor == 1_500 and list(map(str, found.event_ids)) == [desk.event(told[2])]
    desk.agree()


def test_a_yes_that_was_said_once_more_adds_nothing(desk):
    """By two sources, or twice: one price is one price."""
    mine = desk.grant()
    for source in (desk.desk, desk.keys):
        desk.approves(5_000, after=10 * MINUTE, task="t1", source=source)
    told = desk.buys(8_000, grant=mine, task="t1")
    desk.settled()
    assert desk.result(told, "I1") == "fail"


def test_an_approval_that_names_the_seller_names_no_other_name(desk):
    mine = desk.grant()
    gate = {"kind": "purchase", "by": desk.mara.ref}
    desk.tell(desk.desk, "approval.decided", MINUTE, gate=gate, actor=desk.mara, provider=None, request_id="r1",
              target=("merchant", "registrar-shop.com"))  # fmt: skip
    bought = desk.registers("acme.cc", 900, grant=mine, request_id="r1")
    desk.settled()
    assert "intent.domain_mismatch" not in desk.rules() and desk.result(bought, "I1") == "na"
    desk.agree()


@pytest.mark.parametrize("when", ["both before", "each before its own"])
def test_two_approvals_of_one_task_want_what_both_name(desk, when):
    mine = desk.grant()
    gate = {"kind": "purchase", "by": desk.mara.ref}
    for n, name in enumerate(("acme.club", "acme.dev")):
        after = MINUTE * (n + 1) if when == "both before" else HOUR * (2 * n + 1) - MINUTE
        desk.tell(desk.desk, "approval.decided", after, gate=gate, actor=desk.mara, provider=None, task="t1",
                  intent={"targets": [name], "quantity": 1})  # fmt: skip
    told = [
        desk.registers(name, 900, grant=mine, after=HOUR * (2 * n + 1), task="t1")
        for n, name in enumerate(("acme.club", "acme.dev", "acme.devs.club"))
    ]
    desk.settled()
    assert [desk.result(each, "I1") for each in told] == ["pass", "pass", "fail"]
    assert {"intent.domain_mismatch"} <= set(desk.rules())
    desk.agree()


def test_an_approved_number_that_was_raised_later_counts_what_was_bought_before(desk):
    mine = desk.grant()
    gate = {"kind": "purchase", "by": desk.mara.ref}
    for n in range(2):
        desk.tell(desk.desk, "approval.decided", HOUR * 3 * n + MINUTE, gate=gate, actor=desk.mara, provider=None, task="t1",
                  intent={"text": "a machine", "quantity": 1})  # fmt: skip
    bought = [
        desk.buys(
            1_000, grant=mine, after=after * HOUR, target=("vm", f"v{after}"), money={"charge": f"c{after}"}, task="t1"
        )
        for after in (1, 4, 7)
    ]
    desk.settled()
    assert [desk.result(each, "I1") for each in bought] == ["pass", "pass", "fail"]
    desk.agree()


def test_what_was_taken_before_a_second_approval_counts_against_both(desk):
    mine = desk.grant()
    desk.approves(3_000, after=10 * MINUTE, task="t1")
    told = [
        desk.buys(amount, grant=mine, after=n * MINUTE, target=("vm", f"a{n}"), money={"charge": f"c{n}"}, task="t1")
        for n, amount in ((30, 2_500), (60, 1_000))
    ]
    desk.approves(5_000, after=2 * HOUR, task="t1")
    told += [
        desk.buys(amount, grant=mine, after=n * HOUR, target=("vm", f"v{n}"), money={"charge": f"v{n}"}, task="t1")
        for n, amount in ((3, 1_000), (4, 2_500), (5, 2_500))
    ]
    desk.settled()
    assert [desk.result(each, "I1") for each in told] == ["pass", "fail", "pass", "unknown", "fail"]
    desk.agree()
