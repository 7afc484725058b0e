"""Whose money, under whose limit, for what: two customers of one agent, payment authorities, parts of a bill, and repeats
that are none.
"""

from datetime import timedelta

import pytest

from auditlog.models import Charge, Event, Finding
from auditlog.sources.configure import add_organisation
from disputes.adjudicate import adjudicate
from tests.integration.test_money_verdict_is_finding import contradictions as of_money
from tests.integration.test_verdict_is_finding import accusations, contradictions

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Stage:
    """Mara and Otto, two customers whose logins are at two providers, and one agent that serves both."""

    def __init__(self, world):
        self.world = world
        self.keys = world.source("keys", "https://keys.example", layers=["authority"])
        self.desk = world.source("desk", "https://desk.example")
        self.bank = world.source("bank", "https://bank.example", layers=["money", "dispute"])
        self.agents = world.source("agents", "https://agents.example")
        self.mara = world.human("mara", issuer="https://id.one.example")
        self.otto = world.human("otto", issuer="https://id.two.example")
        self.bot = world.agent("bot", issuer="https://agents.example")
        self.begins = (world.now - timedelta(days=14)).replace(hour=6, minute=0, second=0, microsecond=0)

    def grant(self, human=None, **more):
        given = self.world.grant(
            human or self.mara, self.bot, **{"actions": ["**"], "at": self.begins, "source": self.keys} | more
        )
        self.world.send(given)
        return given

    def tell(self, source, type, after, *, amount=None, currency="USD", money=None, verb=None, target=None, **more):
        target = {"type": target[0], "id": target[1]} if target else None
        said = {
            "provider": more.pop("provider", "shop"),
            "verb": verb,
            "target": target,
            "account": more.pop("account", None),
        }
        sums = {"amount_minor": amount, "currency": currency} if amount is not None else {}
        more.setdefault("principal", self.mara)
        signed = self.world.event(
            type, source=source, at=self.begins + after, action={k: v for k, v in said.items() if v},
            money=({**sums, **(money or {})}) or None, **{k: v for k, v in more.items() if v is not None},
        )  # fmt: skip
        self.world.send(signed)
        return signed

    def buys(self, amount, *, grant, after=HOUR, source=None, **more):
        return self.tell(source or self.desk, "action.performed", after, amount=amount, grant=grant, actor=self.bot, principal=more.pop("principal", None),
                         verb=more.pop("verb", "vm.create"), target=more.pop("target", ("vm", "a")), **more)  # fmt: skip

    def cap(self, most, *, human, id="cap", holder=None, after=MINUTE):
        said = {"id": id, "scope": "global", "max_minor": most, "currency": "USD", "interval": "month",
                "holder": (holder or self.bot).ref, "set_by": human.ref}  # fmt: skip
        return self.tell(self.desk, "limit.set", after, limit=said, actor=human, principal=human, provider=None)

    def authority(
        self,
        most,
        after=timedelta(),
        *,
        type="payment.authority_granted",
        human=None,
        actor=None,
        source=None,
        id="pa",
        **more,
    ):
        human = human or self.mara
        return self.tell(source or self.bank, type, after, amount=most, money={"authority": id}, actor=actor or human,
                         principal=human, **more)  # fmt: skip

    def takes(self, amount, after, *, grant, charge, type="payment.captured", **more):
        return self.tell(self.bank, type, after, amount=amount, grant=grant, actor=self.bot, principal=None,
                         money={"authority": "pa", "charge": charge, "rail": "card"}, verb="payment.capture", **more)  # fmt: skip

    def settled(self):
        self.world.settle()
        self.world.settle(after=2 * MINUTE)
        return self

    def event(self, signed):
        return str(Event.objects.get(tenant=self.world.row, source_event_id=signed.jti).event_id)

    def verdict(self, signed):
        [found] = adjudicate(self.world.row, [self.event(signed)])
        return found

    def result(self, signed, criterion):
        return next(each["result"] for each in self.verdict(signed)["criteria"] if each["id"] == criterion)

    def rules(self):
        rows = Finding.objects.filter(tenant=self.world.row).exclude(state="withdrawn")
        return sorted(
            rule
            for rule in rows.values_list("rule", flat=True)
            if rule not in ("spend.key_missing", "intent.unforeseen")
        )

    def agree(self):
        """Verdicts alone and together are one, and no finding, verdict or page says what another denies."""
        ids = [str(one) for one in Event.objects.filter(tenant=self.world.row).values_list("event_id", flat=True)]
        together = {each["event_id"]: each["digest"] for each in adjudicate(self.world.row, ids)}
        alone = {one: adjudicate(self.world.row, [one])[0]["digest"] for one in ids}
        assert alone == together
        assert not [*of_money(self.world), *contradictions(self.world), *accusations(self.world)]

    def spent(self, human):
        lines = Charge.objects.filter(tenant=self.world.row, principal=f"{human.iss}|{human.sub}")
        return int(sum(line.spent for line in lines))


@pytest.fixture
def stage(world):
    return Stage(world)


# --- one agent, two customers -----------------------------------------------------------------------------------------


def test_one_customers_cap_on_an_agent_is_not_anothers(stage):
    mine, his = stage.grant(), stage.grant(stage.otto)
    stage.cap(100, human=stage.otto)
    bought = stage.buys(5_000, grant=mine)
    over = stage.buys(200, grant=his, after=2 * HOUR)
    stage.settled()

    assert stage.verdict(bought)["verdict"] == "within_scope" and stage.verdict(over)["verdict"] == "out_of_scope"
    [found] = Finding.objects.filter(tenant=stage.world.row, rule="spend.cap_exceeded")
    assert "otto" in found.principal
    stage.agree()


def test_what_two_customers_spend_through_one_agent_is_not_added_up(stage):
    grants = [stage.grant(), stage.grant(stage.otto)]
    for human in (stage.mara, stage.otto):
        stage.cap(6_000, human=human, id=f"cap-{human.sub}")
    bought = [stage.buys(5_000, grant=grant, after=HOUR * n) for n, grant in enumerate(grants, 1)]
    stage.settled()

    assert stage.rules() == [] and {stage.verdict(each)["verdict"] for each in bought} == {"within_scope"}
    stage.agree()


def test_one_customer_neither_lifts_nor_lowers_anothers_cap(stage):
    mine = stage.grant()
    stage.cap(2_000, human=stage.mara)
    stage.cap(90_000, human=stage.otto, after=2 * MINUTE)
    within = stage.buys(1_500, grant=mine)
    stage.cap(1, human=stage.otto, after=90 * MINUTE)
    over = stage.buys(5_000, grant=mine, after=2 * HOUR)
    stage.settled()

    assert stage.verdict(within)["verdict"] == "within_scope" and stage.verdict(over)["codes"] == ["over_limit"]
    stage.agree()


@pytest.mark.parametrize("who", ["another's agent", "a human of another organisation", "a human of an unmapped issuer"])
@pytest.mark.parametrize("first", [True, False])
def test_a_stranger_who_caps_an_agent_convicts_nobody(stage, who, first):
    mine = stage.grant()
    if who == "another's agent":
        stranger = stage.world.agent("stranger", issuer="https://agents.example")
        stage.world.send(stage.world.grant(stage.otto, stranger, actions=["**"], at=stage.begins, source=stage.keys))
    else:
        stranger = stage.otto
        mapped = (("One", "https://id.one.example"), ("Two", "https://id.two.example"))
        for name, issuer in mapped if who == "a human of another organisation" else ():
            add_organisation(stage.world.row, name, issuers=[issuer], now=stage.world.now)
    if not first:
        stage.cap(9_000, human=stage.mara)
    said = {"id": "cap", "scope": "global", "max_minor": 2_000, "currency": "USD", "interval": "month",
            "holder": stage.bot.ref, "set_by": stranger.ref}  # fmt: skip
    stage.tell(
        stage.desk,
        "limit.set" if first else "limit.lowered",
        2 * MINUTE,
        limit=said,
        actor=stranger,
        principal=stage.mara,
        provider=None,
    )
    bought = stage.buys(5_000, grant=mine, after=2 * HOUR)
    beyond = stage.buys(5_000, grant=mine, after=3 * HOUR, target=("vm", "b"))
    stage.settled()

    assert stage.result(bought, "C5") == "unknown" and stage.verdict(bought)["verdict"] == "indeterminate"
    assert stage.result(beyond, "C5") == ("unknown" if first else "fail")
    assert ("spend.cap_exceeded" in stage.rules()) is not first
    stage.agree()


def test_an_agent_caps_its_own_sub_agent(stage):
    mine = stage.grant(redelegate=True)
    sub = stage.world.agent("sub", issuer="https://agents.example")
    below = stage.world.grant(stage.bot, sub, parent=mine, actions=["**"], at=stage.begins, source=stage.keys)
    stage.world.send(below)
    said = {"id": "cap", "scope": "global", "max_minor": 2_000, "currency": "USD", "interval": "month",
            "holder": sub.ref, "set_by": stage.bot.ref}  # fmt: skip
    stage.tell(stage.desk, "limit.set", MINUTE, limit=said, actor=stage.bot, provider=None)
    over = stage.tell(
        stage.desk, "action.performed", HOUR, amount=5_000, grant=below, actor=sub, principal=None, verb="vm.create"
    )
    stage.settled()
    assert stage.verdict(over)["codes"] == ["over_limit"]


@pytest.mark.parametrize("verb", ["set", "lowered", "raised"])
def test_a_sub_agent_says_nothing_of_the_agent_above_it(stage, verb):
    """What it narrows is unknown, what it widens is refused and found."""
    mine = stage.grant(redelegate=True)
    sub = stage.world.agent("sub", issuer="https://agents.example")
    stage.world.send(stage.world.grant(stage.bot, sub, parent=mine, actions=["**"], at=stage.begins, source=stage.keys))
    if verb != "set":
        stage.cap(9_000, human=stage.mara)
    most = 90_000 if verb == "raised" else 2_000
    said = {"id": "cap", "scope": "global", "max_minor": most, "currency": "USD", "interval": "month",
            "holder": stage.bot.ref, "set_by": sub.ref}  # fmt: skip
    stage.tell(stage.desk, f"limit.{verb}", 2 * MINUTE, limit=said, actor=sub, principal=stage.mara, provider=None)
    bought = stage.buys(5_000, grant=mine, after=2 * HOUR)
    beyond = stage.buys(5_000, grant=mine, after=3 * HOUR, target=("vm", "b"))
    stage.settled()

    assert stage.result(bought, "C5") == ("pass" if verb == "raised" else "unknown")
    assert stage.result(beyond, "C5") == ("unknown" if verb == "set" else "fail")
    assert ("spend.self_raise" in stage.rules()) is (verb == "raised")
    stage.agree()


def test_a_colleague_may_cap_a_human_in_his_own_name(stage):
    mine = stage.grant()
    colleague = stage.world.human("zoe", issuer="https://id.one.example")
    stage.cap(2_000, human=colleague, holder=stage.mara)
    over = stage.buys(5_000, grant=mine, after=2 * HOUR)
    stage.settled()
    assert stage.verdict(over)["codes"] == ["over_limit"]


def test_who_cites_anothers_grant_spends_his_own_money(stage):
    limit = {"scope": "grant", "max_minor": 10_000, "currency": "USD"}
    hers = stage.grant(limits=[limit])
    other = stage.world.agent("other", issuer="https://agents.two.example")
    theft = stage.tell(
        stage.desk,
        "action.performed",
        HOUR,
        amount=9_000,
        grant=hers.id,
        actor=other,
        principal=stage.otto,
        verb="vm.create",
    )
    bought = stage.buys(3_000, grant=hers, after=2 * HOUR)
    stage.settled()

    assert (stage.spent(stage.mara), stage.spent(stage.otto)) == (3_000, 9_000)
    assert stage.verdict(bought)["verdict"] == "within_scope" and "spend.cap_exceeded" not in stage.rules()
    assert stage.verdict(theft)["verdict"] != "within_scope"


def test_the_same_whether_the_grant_or_the_act_comes_first(stage):
    other = stage.world.agent("other", issuer="https://agents.two.example")
    hers = stage.world.grant(stage.mara, stage.bot, actions=["**"], at=stage.begins, source=stage.keys)
    stage.tell(
        stage.desk,
        "action.performed",
        HOUR,
        amount=9_000,
        grant=hers.id,
        actor=other,
        principal=stage.otto,
        verb="vm.create",
    )
    stage.settled()
    stage.world.send(hers)
    stage.settled()
    assert (stage.spent(stage.mara), stage.spent(stage.otto)) == (0, 9_000)


# --- payment authorities ----------------------------------------------------------------------------------------------


def test_two_customers_name_their_authorities_alike(stage):
    mine = stage.grant()
    stage.authority(4_000)
    stage.authority(90_000, MINUTE, human=stage.otto)
    stage.authority(None, 2 * MINUTE, human=stage.otto, type="payment.authority_ended")
    taken = stage.takes(3_000, HOUR, grant=mine, charge="c1")
    over = stage.takes(3_000, 2 * HOUR, grant=mine, charge="c2")
    stage.settled()

    assert stage.verdict(taken)["verdict"] == "within_scope"
    assert stage.verdict(over)["codes"] == ["authority_exceeded"] and stage.rules() == ["spend.authority_exceeded"]
    stage.agree()


@pytest.mark.parametrize("teller", ["agents", "desk"])
def test_an_agent_raises_its_own_authority_for_nothing(stage, teller):
    mine = stage.grant()
    stage.authority(4_000)
    stage.authority(90_000, MINUTE, actor=stage.bot, source=getattr(stage, teller))
    over = stage.takes(30_000, HOUR, grant=mine, charge="c1")
    stage.settled()

    assert stage.verdict(over)["codes"] == ["authority_exceeded"]
    assert stage.rules() == ["spend.authority_exceeded", "spend.self_raise"]
    stage.agree()


def test_a_human_or_the_bank_itself_raises_it(stage):
    mine = stage.grant()
    stage.authority(4_000)
    stage.authority(90_000, MINUTE)
    taken = stage.takes(30_000, HOUR, grant=mine, charge="c1")
    stage.settled()
    assert stage.verdict(taken)["verdict"] == "within_scope" and stage.rules() == []


def test_a_raise_that_is_dated_back_before_what_is_on_record_is_unknown(stage):
    mine = stage.grant()
    stage.authority(4_000)
    over = stage.takes(30_000, HOUR, grant=mine, charge="c1")
    stage.settled()
    assert stage.verdict(over)["codes"] == ["authority_exceeded"]
    stage.authority(90_000, MINUTE)
    stage.settled()
    assert stage.result(over, "C5") == "unknown" and stage.rules() == []
    stage.agree()


def test_two_holds_together_pass_a_ceiling(stage):
    mine = stage.grant()
    stage.authority(4_000)
    first = stage.takes(3_000, HOUR, grant=mine, charge="c1", type="payment.authorized")
    second = stage.takes(3_000, HOUR + MINUTE, grant=mine, charge="c2", type="payment.authorized")
    stage.settled()
    assert stage.verdict(first)["verdict"] == "within_scope" and stage.verdict(second)["codes"] == [
        "authority_exceeded"
    ]
    assert stage.rules() == ["spend.authority_exceeded"]


def test_what_was_held_in_time_is_taken_after_the_end(stage):
    mine = stage.grant()
    stage.authority(4_000)
    stage.takes(3_000, HOUR, grant=mine, charge="c1", type="payment.authorized")
    stage.authority(None, 2 * HOUR, type="payment.authority_ended")
    taken = stage.takes(3_000, 3 * HOUR, grant=mine, charge="c1")
    late = stage.takes(500, 4 * HOUR, grant=mine, charge="c2")
    stage.settled()
    assert stage.verdict(taken)["verdict"] == "within_scope" and stage.result(late, "C6") == "fail"
    stage.agree()


def test_a_ceiling_in_other_money_is_unknown(stage):
    mine = stage.grant()
    stage.authority(4_000, currency="EUR")
    taken = stage.takes(9_000, HOUR, grant=mine, charge="c1")
    stage.settled()
    assert stage.result(taken, "C5") == "unknown" and stage.rules() == []


# --- parts, excesses and repeats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_issued", [True, False])
def test_an_invoice_paid_in_parts_is_no_double_charge(stage, is_issued):
    mine = stage.grant()
    stage.buys(9_000, grant=mine, money={"invoice": "i"})
    if is_issued:
        stage.tell(stage.desk, "invoice.issued", 2 * HOUR, amount=9_000, money={"invoice": "i"})
    parts = [
        stage.tell(stage.bank, "payment.captured", n * DAY, amount=3_000, money={"invoice": "i", "charge": f"p{n}"})
        for n in (1, 2, 3)
    ]
    stage.settled()
    assert stage.rules() == [] and stage.spent(stage.mara) == 9_000
    assert {stage.verdict(each)["verdict"] for each in parts} == {"within_scope"}

    more = stage.tell(stage.bank, "payment.captured", 4 * DAY, amount=3_000, money={"invoice": "i", "charge": "p4"})
    stage.settled()
    assert stage.rules() == ["spend.duplicate_charge"] and "repeat" in stage.verdict(more)["codes"]


@pytest.mark.parametrize("target", [("plan", "pro"), ("order", "1001")])
def test_the_same_thing_for_another_account_is_another_thing(stage, target):
    mine = stage.grant()
    bought = [
        stage.tell(stage.bank, "payment.captured", HOUR + n * MINUTE, amount=2_900, grant=mine, actor=stage.bot, principal=None, verb="plan.buy",
                   account=f"client-{n}", target=target, money={"charge": f"c{n}", "rail": "card"})
        for n in range(4)
    ]  # fmt: skip
    stage.settled()
    assert stage.rules() == [] and stage.verdict(bought[-1])["verdict"] == "within_scope"

    stage.tell(stage.bank, "payment.captured", HOUR + 9 * MINUTE, amount=2_900, grant=mine, actor=stage.bot, principal=None, verb="plan.buy",
               account="client-1", target=target, money={"charge": "c9", "rail": "card"})  # fmt: skip
    stage.settled()
    assert stage.rules() == ["spend.duplicate_charge"]


def test_one_act_charged_twice_through_the_bank_is_found(stage):
    mine = stage.grant()
    stage.buys(4_900, grant=mine, target=("order", "o"), verb="order.pay", request_id="RQ")
    first, second = (
        stage.tell(stage.bank, "payment.captured", HOUR + n * MINUTE, amount=4_900, request_id="RQ", money={"charge": f"c{n}"}) for n in (1, 2)
    )  # fmt: skip
    stage.settled()
    assert stage.rules() == ["spend.duplicate_charge"] and stage.spent(stage.mara) == 9_800
    assert "repeat" in stage.verdict(second)["codes"] and "repeat" not in stage.verdict(first)["codes"]


def test_an_act_paid_for_in_two_halves_through_the_bank_is_silent(stage):
    mine = stage.grant()
    stage.buys(9_800, grant=mine, target=("order", "o"), verb="order.pay", request_id="RQ")
    for n in (1, 2):
        stage.tell(
            stage.bank, "payment.captured", HOUR + n * MINUTE, amount=4_900, request_id="RQ", money={"charge": f"c{n}"}
        )
    stage.settled()
    assert stage.rules() == [] and stage.spent(stage.mara) == 9_800


@pytest.mark.parametrize(("won", "found"), [(False, []), (True, ["spend.duplicate_charge"])])
def test_what_was_charged_back_is_paid_for_again(stage, won, found):
    mine = stage.grant()
    order = {
        "grant": mine,
        "actor": stage.bot,
        "principal": None,
        "verb": "order.pay",
        "target": ("order", "o"),
        "amount": 4_900,
    }
    stage.tell(stage.bank, "payment.captured", HOUR, money={"charge": "c0", "rail": "card"}, **order)
    stage.tell(stage.bank, "dispute.funds_withdrawn", DAY, amount=4_900, money={"charge": "c0", "rail": "card"})
    if won:
        stage.tell(
            stage.bank, "dispute.funds_reinstated", DAY + HOUR, amount=4_900, money={"charge": "c0", "rail": "card"}
        )
    stage.tell(stage.bank, "payment.captured", 2 * DAY, money={"charge": "c1", "rail": "card"}, **order)
    stage.settled()
    assert stage.rules() == found


@pytest.mark.parametrize("names", [{}, {"invoice": "i"}])
def test_what_a_bill_has_more_is_the_bills_own_and_not_the_acts(stage, names):
    limit = {"scope": "grant", "max_minor": 10_000, "currency": "USD", "interval": "month"}
    mine = stage.grant(limits=[limit])
    period = {"from": int(stage.begins.timestamp()), "to": int((stage.begins + DAY).timestamp())}
    used = stage.tell(stage.desk, "usage.metered", HOUR, amount=9_000, grant=mine, actor=stage.bot, principal=None, money=names,
                      call={"operation": "chat"}, request_id="r")  # fmt: skip
    stage.tell(stage.desk, "invoice.issued", 2 * DAY, amount=12_000, money={"invoice": "i", "period": period})
    stage.settled()
    assert stage.spent(stage.mara) == 12_000 and stage.verdict(used)["verdict"] == "within_scope"
    stage.agree()


@pytest.mark.parametrize("rail", ["adyen", None])
def test_a_banks_word_that_names_nobody_is_judged_through_the_act_of_its_charge(stage, rail):
    mine = stage.grant(limits=[{"scope": "grant", "max_minor": 10_000, "currency": "USD"}])
    stage.buys(8_000, grant=mine, money={"charge": "ch_1"})
    paid = stage.tell(
        stage.bank,
        "payment.captured",
        HOUR + MINUTE,
        amount=8_000,
        principal=None,
        money={"charge": "ch_1", "rail": rail} if rail else {"charge": "ch_1"},
    )
    stage.settled()
    assert stage.spent(stage.mara) == 8_000 and stage.verdict(paid)["verdict"] == "within_scope"
    stage.agree()


def test_a_charge_id_that_two_customers_acts_state_is_nobodys(stage):
    for human in (stage.mara, stage.otto):
        stage.buys(8_000, grant=stage.grant(human), money={"charge": "ch_1"})
    paid = stage.tell(
        stage.bank,
        "payment.captured",
        HOUR + MINUTE,
        amount=8_000,
        principal=None,
        money={"charge": "ch_1", "rail": "adyen"},
    )
    stage.settled()
    assert stage.verdict(paid)["verdict"] == "indeterminate"


def test_a_paid_bill_of_a_subscription_is_judged_through_its_start(stage):
    mine = stage.grant()
    period = {"from": int(stage.begins.timestamp()), "to": int((stage.begins + 30 * DAY).timestamp())}
    stage.tell(stage.desk, "subscription.started", HOUR, amount=1_500, grant=mine, actor=stage.bot, principal=None, verb="subscription.start",
               target=("subscription", "s1"), money={"subscription": "s1", "period": period})  # fmt: skip
    stage.tell(
        stage.desk,
        "invoice.issued",
        2 * HOUR,
        amount=1_500,
        money={"invoice": "i1", "subscription": "s1", "period": period},
    )
    paid = stage.tell(stage.bank, "invoice.paid", 3 * HOUR, amount=1_500, money={"invoice": "i1"})
    stage.settled()
    assert stage.spent(stage.mara) == 1_500 and stage.verdict(paid)["verdict"] == "within_scope"
    stage.agree()


@pytest.mark.parametrize(
    ("type", "verb", "kind"),
    [("subscription.changed", "seat.add", "seat"), ("resource.provisioned", "vm.launch", "instance"), ("account.created", "mailbox.create", "mailbox"),
     ("action.performed", "license.assign", "license"), ("domain.transferred", "domain.transfer", "domain")],
)  # fmt: skip
def test_how_many_were_asked_for_is_counted_of_whatever_is_bought(stage, type, verb, kind):
    mine = stage.grant(intent={"text": "three of them", "quantity": 3})
    bought = [
        stage.tell(stage.desk, type, HOUR * n, amount=1_200, grant=mine, actor=stage.bot, principal=None, verb=verb, target=(kind, f"u{n}.example"),
                   money={"charge": f"c{n}"})
        for n in range(1, 5)
    ]  # fmt: skip
    stage.settled()
    assert [stage.result(each, "I1") for each in bought] == ["pass", "pass", "pass", "fail"]
    assert "intent.quantity_exceeded" in stage.rules()


def test_whether_it_is_one_of_those_asked_for_may_be_unknown(stage):
    mine = stage.grant(intent={"text": "three of them", "quantity": 3})
    paid = stage.buys(1_200, grant=mine, verb="thing.frobnicate", target=("widget", "w1"))
    stage.settled()
    assert stage.result(paid, "I1") == "unknown" and stage.verdict(paid)["verdict"] == "within_scope"


def test_a_line_from_before_its_thing_was_made_is_not_of_who_made_it(stage):
    mine = stage.grant()
    before = stage.tell(
        stage.bank, "usage.metered", HOUR, amount=5_000, provider="cloud", principal=None, target=("instance", "i-9")
    )
    stage.tell(
        stage.desk,
        "resource.provisioned",
        3 * DAY,
        grant=mine,
        actor=stage.bot,
        principal=None,
        provider="cloud",
        verb="vm.create",
        target=("instance", "i-9"),
    )
    after = stage.tell(
        stage.bank, "usage.metered", 4 * DAY, amount=700, provider="cloud", principal=None, target=("instance", "i-9")
    )
    stage.settled()
    assert stage.spent(stage.mara) == 700
    assert stage.verdict(before)["verdict"] == "indeterminate" and stage.verdict(after)["verdict"] == "within_scope"


# --- what is given up and made again ----------------------------------------------------------------------------------


LIVES = {
    "domain": ("domain.registered", "domain.deleted", "domain.register"),
    "resource": ("resource.provisioned", "resource.removed", "vm.create"),
}


@pytest.mark.parametrize("kind", LIVES)
@pytest.mark.parametrize("order", ["in time", "backwards", "lines first", "end last"])
def test_a_bill_for_a_thing_that_was_released_and_made_again_is_its_makers_of_that_time(stage, kind, order):
    made, ended, verb = LIVES[kind]
    name = ("domain", "acme.io") if kind == "domain" else ("vm", "i-1")
    mine, his = stage.grant(), stage.grant(stage.otto)

    def makes(grant, after):
        return stage.world.event(made, source=stage.desk, at=stage.begins + after, grant=grant, actor=stage.bot,
                                 action={"provider": "shop", "verb": verb, "target": {"type": name[0], "id": name[1]}})  # fmt: skip

    def line(number, after):
        return stage.world.event("usage.metered", source=stage.desk, at=stage.begins + after, principal=None, request_id=f"m{number}",
                                 action={"provider": "shop", "target": {"type": name[0], "id": name[1]}},
                                 money={"amount_minor": 100 * number, "currency": "USD"})  # fmt: skip

    end = stage.world.event(ended, source=stage.desk, at=stage.begins + 3 * DAY, actor=stage.bot, grant=mine,
                            action={"provider": "shop", "verb": "remove", "target": {"type": name[0], "id": name[1]}})  # fmt: skip
    told = [makes(mine, HOUR), line(1, 2 * DAY), end, line(2, 4 * DAY), makes(his, 6 * DAY), line(4, 7 * DAY)]
    orders = {
        "in time": told,
        "backwards": told[::-1],
        "lines first": [told[i] for i in (1, 3, 5, 0, 2, 4)],
        "end last": [told[i] for i in (0, 1, 3, 4, 5, 2)],
    }
    for signed in orders[order]:
        stage.world.send(signed)
        stage.world.settle()
    stage.settled()

    # What trails after an end is still of what ended.
    assert (stage.spent(stage.mara), stage.spent(stage.otto)) == (100 + 200, 400)
    stage.agree()


def test_a_second_making_without_an_end_takes_nothing_from_the_first(stage):
    mine, his = stage.grant(), stage.grant(stage.otto)
    for grant, after in ((mine, HOUR), (his, 2 * DAY)):
        stage.tell(stage.desk, "resource.provisioned", after, grant=grant, actor=stage.bot, principal=None, verb="vm.create", target=("vm", "i-1"))  # fmt: skip
    stage.tell(stage.desk, "usage.metered", 3 * DAY, amount=100, principal=None, target=("vm", "i-1"))
    stage.settled()
    assert (stage.spent(stage.mara), stage.spent(stage.otto)) == (100, 0)


# --- things of one name, and what was passed on -----------------------------------------------------------------------


def makes(stage, grant, after, *, account=None, type="resource.provisioned", name=("instance", "main"), **more):
    return stage.tell(stage.desk, type, after, grant=grant, actor=stage.bot, principal=None, provider="cloud", account=account,
                      target=name, verb=more.pop("verb", "vm.create"), **more)  # fmt: skip


def meters(stage, amount, after, *, account=None, name=("instance", "main"), type="usage.metered", **more):
    source = stage.bank if type == "usage.metered" else stage.desk
    return stage.tell(source, type, after, amount=amount, provider="cloud", principal=None, account=account, target=name,
                      request_id=f"m{amount}", **more)  # fmt: skip


@pytest.mark.parametrize("lines", ["before", "after"])
def test_a_line_of_one_name_in_two_accounts_is_its_accounts(stage, lines):
    mine, his = stage.grant(), stage.grant(stage.otto)

    def bill():
        meters(stage, 100, 2 * DAY, account="acct-m")
        meters(stage, 200, 2 * DAY, account="acct-o")
        meters(stage, 400, 2 * DAY)
        meters(stage, 800, 2 * DAY, account="acct-z")

    if lines == "before":
        bill()
        stage.settled()
    makes(stage, mine, HOUR, account="acct-m")
    stage.settled()
    makes(stage, his, 2 * HOUR, account="acct-o")
    if lines == "after":
        bill()
    stage.settled()
    assert (stage.spent(stage.mara), stage.spent(stage.otto)) == (
        100,
        200,
    )  # of the other two nobody says whose they are


def test_a_line_without_account_of_one_customers_things_is_that_customers(stage):
    mine = stage.grant()
    makes(stage, mine, HOUR, account="acct-1")
    makes(stage, mine, 2 * HOUR, account="acct-2")
    meters(stage, 400, 2 * DAY)
    stage.settled()
    assert stage.spent(stage.mara) == 400


def test_a_name_that_was_transferred_away_is_billed_to_nobody_known(stage):
    mine, name = stage.grant(), ("domain", "acme.io")
    makes(stage, mine, HOUR, type="domain.registered", name=name, verb="domain.register")
    meters(stage, 100, 2 * DAY, name=name)
    after = meters(stage, 400, 6 * DAY, name=name)
    stage.settled()
    assert stage.spent(stage.mara) == 500
    stage.tell(stage.desk, "domain.transferred", 3 * DAY, provider="cloud", principal=None, target=name)
    last = meters(stage, 200, 3 * DAY + HOUR, name=name)
    stage.settled()
    assert stage.spent(stage.mara) == 300
    assert stage.verdict(last)["verdict"] == "within_scope" and stage.verdict(after)["verdict"] == "indeterminate"


def test_a_renewal_that_names_nobody_is_of_who_registered_the_name(stage):
    mine, name = stage.grant(), ("domain", "acme.io")
    makes(stage, mine, HOUR, type="domain.registered", name=name, verb="domain.register")
    renewed = meters(stage, 1_400, 5 * DAY, type="domain.renewed", name=name)
    stage.settled()
    assert stage.spent(stage.mara) == 1_400
    assert stage.verdict(renewed)["verdict"] == "within_scope"
    stage.agree()
