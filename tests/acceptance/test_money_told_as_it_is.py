"""Money, limits and things on the whole road, told as real systems tell them: spend, findings and verdicts agree."""

from datetime import timedelta

import pytest

from auditlog.models import Event, Finding, Role
from auditlog.projection.project import rebuild
from auditlog.reads.access import Viewer
from auditlog.reads.money import spend_by
from disputes.adjudicate import adjudicate

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Desk:
    """Lena, her agent and those who tell of it: a token server, a platform, a host with a meter, a bank, a support desk."""

    def __init__(self, world):
        self.world = world
        self.keys = world.source("keys", "https://keys.lena.example", layers=["authority"])
        self.platform = world.source("platform", "https://platform.example")
        self.host = world.source("host", "https://host.example", provider="host")
        self.bank = world.source("bank", "https://bank.example", layers=["money", "dispute"])
        self.support = world.source("support", "https://support.example", layers=["dispute"])
        self.lena = world.human("lena", issuer="https://id.lena.example")
        self.bot = world.agent("bot", issuer="https://agents.lena.example")
        self.other = world.agent("runner", issuer="https://agents.lena.example")
        self.begins = (world.now - timedelta(days=12)).replace(hour=6, minute=0, second=0, microsecond=0)

    def grants(self, **more):
        more = {"actions": ["**"], "redelegate": True, "at": self.begins, "source": self.keys} | more
        granted = self.world.grant(self.lena, more.pop("to", self.bot), **more)
        self.world.send(granted)
        return granted

    def tells(
        self,
        source,
        kind,
        *,
        after=HOUR,
        amount=None,
        money=None,
        provider="host",
        target=None,
        account=None,
        verb=None,
        **more,
    ):
        action = {"provider": provider, "verb": verb, "target": target, "account": account}
        stated = ({"amount_minor": amount} if isinstance(amount, int) else {"amount": amount} if amount else {}) | (
            {"currency": "USD"} if amount is not None else {}
        )
        stated |= money or {}
        said = self.world.event(
            kind,
            source=source,
            at=self.begins + after,
            action={k: v for k, v in action.items() if v} or None,
            money=stated or None,
            **more,
        )
        self.world.send(said)
        return said

    def settles(self):
        self.world.settle()
        self.world.settle(after=timedelta(minutes=2))

    def spend(self):
        rows = spend_by(Viewer(self.world.row, Role.ADMIN, "", "tests"), ["principal"])
        return {(row["currency"], row["spent_minor"], row["at_most_minor"]) for row in rows}

    def found(self):
        return {f.rule: f for f in Finding.objects.filter(tenant=self.world.row).exclude(state="withdrawn")}

    def verdict(self, signed):
        event = Event.objects.get(tenant=self.world.row, source_event_id=signed.jti)
        [verdict] = adjudicate(self.world.row, [event.event_id])
        return verdict


@pytest.fixture
def desk(world):
    return Desk(world)


def criterion(verdict, name):
    return next(each for each in verdict["criteria"] if each["id"] == name)


CAP = {"id": "cap", "scope": "global", "max_minor": 5_000, "currency": "USD", "interval": "month"}


# --- a meter and what collects it -----------------------------------------------------------------------------------


def test_a_host_that_meters_and_then_bills_the_month_is_spent_once(desk):
    grant = desk.grants(limits=[CAP])
    calls = [
        desk.tells(
            desk.host,
            "usage.metered",
            after=n * HOUR,
            amount=400,
            grant=grant,
            call={"operation": "gpu.minutes"},
            request_id=f"q{n}",
        )
        for n in range(10)
    ]
    period = {"from": int(desk.begins.timestamp()), "to": int((desk.begins + 7 * DAY).timestamp())}
    desk.tells(
        desk.host,
        "invoice.issued",
        after=7 * DAY,
        amount=4_000,
        money={"invoice": "in-7", "period": period},
        principal=desk.lena,
    )
    desk.tells(desk.bank, "invoice.paid", after=8 * DAY, amount=4_000, money={"invoice": "in-7"}, principal=desk.lena)
    desk.settles()

    assert desk.spend() == {("USD", 4_000, 4_000)} and desk.found() == {}
    assert desk.verdict(calls[-1])["verdict"] == "within_scope"
    rebuild(desk.world.row, now=desk.world.now)
    assert desk.spend() == {("USD", 4_000, 4_000)}


def test_the_invoice_may_come_before_what_it_is_for(desk):
    grant = desk.grants(limits=[CAP])
    period = {"from": int(desk.begins.timestamp()), "to": int((desk.begins + 7 * DAY).timestamp())}
    desk.tells(
        desk.bank,
        "invoice.paid",
        after=8 * DAY,
        amount=4_000,
        money={"invoice": "in-7", "period": period},
        principal=desk.lena,
    )
    desk.settles()
    assert desk.spend() == {("USD", 4_000, 4_000)}
    for n in range(10):
        desk.tells(
            desk.host,
            "usage.metered",
            after=n * HOUR,
            amount=400,
            grant=grant,
            call={"operation": "gpu.minutes"},
            request_id=f"q{n}",
        )
    desk.settles()

    assert desk.spend() == {("USD", 4_000, 4_000)} and "spend.cap_exceeded" not in desk.found()


def test_a_purchase_told_by_the_platform_and_by_the_bank_under_one_key_is_one(desk):
    grant = desk.grants(limits=[CAP])
    bought = desk.tells(
        desk.platform,
        "resource.provisioned",
        amount=3_000,
        grant=grant,
        call={"idempotency_key": "once"},
        money={"rail": "card"},
    )
    paid = desk.tells(
        desk.bank,
        "payment.captured",
        after=2 * HOUR,
        amount=3_000,
        money={"charge": "b-1", "rail": "card"},
        call={"idempotency_key": "once"},
    )
    desk.settles()

    assert desk.spend() == {("USD", 3_000, 3_000)} and desk.found() == {}
    assert desk.verdict(bought)["verdict"] == desk.verdict(paid)["verdict"] == "within_scope"


def test_without_a_common_id_it_is_perhaps_one_and_nobody_is_convicted(desk):
    grant = desk.grants(limits=[CAP])
    desk.tells(desk.platform, "resource.provisioned", amount=3_000, grant=grant)
    paid = desk.tells(
        desk.bank,
        "payment.captured",
        after=2 * HOUR,
        amount=3_000,
        money={"charge": "b-1", "rail": "card"},
        grant=grant,
    )
    desk.settles()

    assert desk.spend() == {("USD", 3_000, 6_000)} and desk.found() == {}
    verdict = desk.verdict(paid)
    assert (verdict["verdict"], criterion(verdict, "C5")["result"]) == ("indeterminate", "unknown")
    assert "perhaps" in criterion(verdict, "C5")["reason"]


def test_a_topup_and_what_is_metered_against_it_is_spent_once(desk):
    grant = desk.grants(limits=[CAP])
    desk.tells(
        desk.platform,
        "payment.captured",
        amount=4_000,
        money={"charge": "t-1", "rail": "card"},
        target={"type": "balance", "id": "main"},
        grant=grant,
    )
    for n in range(8):
        desk.tells(
            desk.host,
            "usage.metered",
            after=2 * HOUR + n * MINUTE,
            amount=500,
            grant=grant,
            call={"operation": "tokens"},
            request_id=f"r{n}",
        )
    desk.settles()

    assert desk.spend() == {("USD", 4_000, 4_000)} and "spend.cap_exceeded" not in desk.found()


def test_calls_of_less_than_a_cent_add_up(desk):
    grant = desk.grants(limits=[CAP | {"max_minor": 100}])
    told = [desk.world.event("usage.metered", source=desk.host, at=desk.begins + HOUR + n * MINUTE, grant=grant, action={"provider": "host"},
                             call={"operation": "embed", "args": {"page": n}}, money={"amount": "0.0025", "currency": "USD"}, request_id=f"p{n}") for n in range(500)]  # fmt: skip
    desk.world.send_together(told)
    desk.settles()

    assert desk.spend() == {("USD", 125, 125)}
    assert desk.found()["spend.cap_exceeded"].money_at_risk_minor == 25


def test_a_bill_in_another_currency_is_said_and_covers_nothing(desk):
    grant = desk.grants()
    for n in range(3):
        desk.tells(
            desk.host,
            "usage.metered",
            after=n * HOUR,
            amount=50,
            grant=grant,
            call={"operation": "infer"},
            request_id=f"r{n}",
        )
    desk.tells(
        desk.bank,
        "invoice.paid",
        after=2 * DAY,
        amount=90_000,
        money={"currency": "EUR", "invoice": "x"},
        principal=desk.lena,
    )
    desk.settles()

    assert desk.spend() == {("USD", 150, 150), ("EUR", 90_000, 90_000)}
    assert "no rate is on record" in desk.found()["spend.bill_differs"].title


def test_a_chargeback_gives_back_and_its_charge_stays_what_it_was(desk):
    grant = desk.grants()
    paid = desk.tells(
        desk.platform, "payment.captured", amount=3_000, money={"charge": "b-1", "rail": "card"}, grant=grant
    )
    lost = desk.tells(
        desk.bank, "dispute.funds_withdrawn", after=3 * DAY, amount=3_000, money={"charge": "b-1", "rail": "card"}
    )
    desk.settles()

    assert desk.spend() == {("USD", 0, 0)}
    assert desk.verdict(paid)["verdict"] == "within_scope"
    assert desk.verdict(lost)["verdict"] in ("within_scope", "indeterminate")


# --- limits bind what they name -------------------------------------------------------------------------------------


def said_limit(desk, kind, limit, *, after=30 * MINUTE, by=None, source=None, **more):
    by = by or desk.lena
    return desk.tells(source or desk.platform, f"limit.{kind}", after=after, provider=None, limit=limit, actor=by, principal=desk.lena,
                      mode="direct" if by.kind == "human" else "delegation", **more)  # fmt: skip


def test_the_humans_raise_of_a_grants_limit_counts_and_the_agents_does_not(desk):
    grant = desk.grants(limits=[CAP])
    raised = CAP | {"id": "x", "max_minor": 50_000, "holder": desk.bot.ref}
    said_limit(desk, "raised", raised | {"set_by": desk.bot.ref}, by=desk.bot, grant=grant.id)
    first = desk.tells(
        desk.platform, "payment.captured", amount=7_000, money={"charge": "1", "rail": "card"}, grant=grant
    )
    said_limit(desk, "raised", raised | {"set_by": desk.lena.ref}, after=2 * HOUR, grant=grant.id)
    second = desk.tells(
        desk.platform,
        "payment.captured",
        after=3 * HOUR,
        amount=7_000,
        money={"charge": "2", "rail": "card"},
        grant=grant,
    )
    desk.settles()

    assert criterion(desk.verdict(first), "C5")["result"] == "fail"
    assert criterion(desk.verdict(second), "C5")["result"] == "pass"
    found = desk.found()
    assert {"spend.self_raise", "spend.cap_exceeded"} <= found.keys()
    assert found["spend.cap_exceeded"].money_at_risk_minor == 2_000


def test_a_limit_told_by_one_who_may_not_set_any_moves_nothing(desk):
    grant = desk.grants()
    said_limit(
        desk, "set", CAP | {"max_minor": 1, "holder": desk.lena.ref, "set_by": desk.lena.ref}, source=desk.support
    )
    paid = desk.tells(
        desk.platform, "payment.captured", amount=7_000, money={"charge": "1", "rail": "card"}, grant=grant
    )
    desk.tells(desk.support, "payment.captured", amount=900_000, money={"charge": "2", "rail": "card"}, grant=grant)
    desk.settles()

    assert desk.spend() == {("USD", 7_000, 7_000)} and "spend.cap_exceeded" not in desk.found()
    assert desk.verdict(paid)["verdict"] == "within_scope"


def test_a_budget_a_session_holds_for_each_session(desk):
    grant = desk.grants()
    said_limit(
        desk,
        "set",
        {
            "id": "s",
            "scope": "session",
            "max_minor": 1_000,
            "currency": "USD",
            "interval": "once",
            "holder": desk.lena.ref,
            "set_by": desk.lena.ref,
        },
        after=MINUTE,
    )
    for n in range(3):
        desk.tells(
            desk.host,
            "usage.metered",
            after=n * DAY + HOUR,
            amount=800,
            grant=grant,
            session=f"s{n}",
            call={"operation": "infer"},
            request_id=f"r{n}",
        )
    desk.settles()
    assert desk.found() == {}

    last = desk.tells(
        desk.host,
        "usage.metered",
        after=2 * DAY + 2 * HOUR,
        amount=800,
        grant=grant,
        session="s2",
        call={"operation": "infer"},
        request_id="r9",
    )
    unnamed = desk.tells(
        desk.host,
        "usage.metered",
        after=2 * DAY + 3 * HOUR,
        amount=800,
        grant=grant,
        call={"operation": "infer"},
        request_id="r10",
    )
    desk.settles()
    assert desk.found().keys() == {"spend.cap_exceeded"}
    assert criterion(desk.verdict(last), "C5")["result"] == "fail"
    assert criterion(desk.verdict(unnamed), "C5")["result"] == "unknown"


def test_an_alert_is_found_louder_the_more_it_is_passed_and_convicts_nobody(desk):
    grant = desk.grants()
    said_limit(
        desk,
        "set",
        CAP | {"enforcement": "alert_only", "max_minor": 1_000, "holder": desk.lena.ref, "set_by": desk.lena.ref},
        after=MINUTE,
    )
    first = desk.tells(
        desk.host, "usage.metered", amount=1_100, grant=grant, call={"operation": "infer"}, request_id="r1"
    )
    desk.settles()
    assert desk.found()["spend.cap_exceeded"].severity == "low"
    desk.tells(
        desk.host,
        "usage.metered",
        after=2 * HOUR,
        amount=90_000,
        grant=grant,
        call={"operation": "infer"},
        request_id="r2",
    )
    desk.settles()

    assert desk.found()["spend.cap_exceeded"].severity == "critical"
    assert criterion(desk.verdict(first), "C5")["result"] == "pass"


def test_two_reservations_that_pass_a_cap_together_are_found_and_a_refund_makes_no_breach_good(desk):
    grant = desk.grants(limits=[CAP])
    held = [
        desk.tells(
            desk.platform,
            "payment.authorized",
            after=n * MINUTE,
            amount=3_000,
            money={"charge": f"h{n}", "rail": "card"},
            grant=grant,
        )
        for n in (1, 2)
    ]
    desk.settles()

    assert desk.found().keys() == {"spend.concurrency_overshoot"}
    assert [criterion(desk.verdict(each), "C5")["result"] for each in held] == ["pass", "fail"]

    for n in (1, 2):
        desk.tells(
            desk.platform,
            "payment.captured",
            after=HOUR,
            amount=3_000,
            money={"charge": f"h{n}", "rail": "card"},
            grant=grant,
        )
    desk.tells(desk.bank, "payment.refunded", after=2 * HOUR, amount=3_000, money={"charge": "h1", "rail": "card"})
    desk.settles()
    assert desk.found().keys() == {"spend.cap_exceeded"}
    assert [criterion(desk.verdict(each), "C5")["result"] for each in held] == ["pass", "fail"]


def test_a_payment_authority_binds_by_its_ceiling_and_its_end(desk):
    grant = desk.grants()
    authority = {"authority": "pa-1", "rail": "card"}
    desk.tells(desk.bank, "payment.authority_granted", after=MINUTE, amount=5_000, money=authority, principal=desk.lena)
    pays = [
        desk.tells(
            desk.bank,
            "payment.captured",
            after=n * HOUR,
            amount=3_000,
            money=authority | {"charge": f"c{n}"},
            grant=grant,
        )
        for n in (1, 2)
    ]
    desk.tells(desk.bank, "payment.authority_ended", after=3 * HOUR, money=authority, principal=desk.lena)
    late = desk.tells(
        desk.bank, "payment.captured", after=4 * HOUR, amount=100, money=authority | {"charge": "c9"}, grant=grant
    )
    desk.settles()

    assert Finding.objects.filter(tenant=desk.world.row, rule="spend.authority_exceeded").count() == 2
    assert [criterion(desk.verdict(each), "C5")["result"] for each in pays] == ["pass", "fail"]
    assert criterion(desk.verdict(late), "C6")["result"] == "fail"
    assert desk.verdict(late)["verdict"] == "out_of_scope"


def test_a_limit_of_an_agent_off_the_path_binds_it_as_its_finding_says(desk):
    grant = desk.grants()
    said_limit(
        desk,
        "set",
        CAP | {"scope": "agent", "max_minor": 1_000, "holder": desk.other.ref, "set_by": desk.lena.ref},
        after=MINUTE,
    )
    used = desk.tells(
        desk.host,
        "usage.metered",
        amount=1_500,
        grant=grant,
        actor=desk.other,
        principal=desk.lena,
        call={"operation": "infer"},
    )
    desk.settles()

    assert desk.found()["spend.cap_exceeded"].money_at_risk_minor == 500
    assert criterion(desk.verdict(used), "C5")["result"] == "fail"


# --- through things ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter_first", [False, True], ids=["made first", "metered first"])
def test_a_meter_that_names_only_the_machine_counts_for_whoever_made_it(desk, meter_first):
    grant = desk.grants(limits=[CAP])
    machine = {"type": "vm", "id": "vm-17"}
    steps = [
        lambda: desk.tells(
            desk.platform, "resource.provisioned", after=0 * HOUR, grant=grant, target=machine, verb="vm.create"
        ),
        lambda: [
            desk.tells(desk.host, "usage.metered", after=n * HOUR, amount=1_500, target=machine, verb="vm.hours")
            for n in range(1, 6)
        ],
    ]
    meters = None
    for step in reversed(steps) if meter_first else steps:
        meters = (
            step()
            if isinstance(made := step(), list) and not meters
            else meters or (made if isinstance(made, list) else None)
        )
        desk.settles()

    found = desk.found()
    assert found.keys() == {"spend.cap_exceeded"} and found["spend.cap_exceeded"].principal == "|".join(desk.lena.key)
    last = Event.objects.filter(tenant=desk.world.row, type="usage.metered").order_by("-occurred_at").first()
    [verdict] = adjudicate(desk.world.row, [last.event_id])
    assert (verdict["verdict"], criterion(verdict, "C1")["result"]) == ("out_of_scope", "pass")


def test_what_names_an_account_that_nobody_made_is_unknown_and_no_fraud(desk):
    desk.grants()
    bill = desk.tells(desk.bank, "invoice.paid", amount=83_000, account="org-old")
    desk.settles()

    verdict = desk.verdict(bill)
    assert (verdict["verdict"], verdict["liability"]["bearer"]) == ("indeterminate", "record_keeper")
    assert "authority.unattributed" not in desk.found()


def test_the_meter_of_a_machine_goes_on_after_a_revocation_and_is_no_use_of_the_grant(desk):
    grant = desk.grants()
    machine = {"type": "vm", "id": "vm-17"}
    desk.tells(desk.platform, "resource.provisioned", after=0 * HOUR, grant=grant, target=machine, verb="vm.create")
    desk.world.send(desk.world.revoke(grant, at=desk.begins + HOUR, source=desk.keys))
    meter = desk.tells(desk.host, "usage.metered", after=5 * HOUR, amount=100, target=machine, verb="vm.hours")
    desk.settles()

    assert "authority.used_after_revocation" not in desk.found()
    assert criterion(desk.verdict(meter), "C9")["result"] != "fail"


# --- ordinary months ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["subscription.renew", "subscription.charge"])
def test_three_months_of_a_subscription_each_for_its_own_period_are_no_repeat(desk, verb):
    grant = desk.grants(at=desk.begins - 70 * DAY)
    paid = []
    for n in range(3):
        begins = int((desk.begins - (60 - 30 * n) * DAY).timestamp())
        period = {"from": begins, "to": begins + 30 * 86_400}
        paid.append(desk.tells(desk.bank, "payment.captured", after=-(60 - 30 * n) * DAY, amount=1_000, verb=verb, grant=grant,
                               money={"charge": f"m{n}", "rail": "card", "subscription": "sub-1", "period": period}))  # fmt: skip
    desk.settles()

    assert desk.spend() == {("USD", 3_000, 3_000)} and desk.found() == {}
    assert {desk.verdict(each)["liability"]["bearer"] for each in paid} == {"principal"}

    again = desk.tells(desk.bank, "payment.captured", after=HOUR, amount=1_000, verb=verb, grant=grant,
                       money={"charge": "m9", "rail": "card", "subscription": "sub-1", "period": period})  # fmt: skip
    desk.settles()
    assert desk.found().keys() == {"spend.duplicate_charge"}
    assert desk.verdict(again)["liability"]["bearer"] == "agent_operator"


def test_payments_of_a_known_invoice_that_name_nobody_are_no_acts_of_nobody(desk):
    grant = desk.grants()
    for n in range(5):
        desk.tells(
            desk.host,
            "usage.metered",
            after=n * HOUR,
            amount=600,
            grant=grant,
            call={"operation": "infer"},
            request_id=f"r{n}",
            money={"invoice": "in-1"},
        )
    desk.tells(desk.host, "invoice.issued", after=DAY, amount=3_300, money={"invoice": "in-1"}, principal=desk.lena)
    for n, amount in ((1, 1_000), (2, 2_300)):
        desk.tells(
            desk.bank,
            "payment.captured",
            after=DAY + n * HOUR,
            amount=amount,
            money={"charge": f"p{n}", "rail": "card", "invoice": "in-1"},
        )
    desk.settles()

    assert desk.spend() == {("USD", 3_300, 3_300)} and desk.found() == {}


# --- liars ------------------------------------------------------------------------------------------------------------


def test_a_request_id_of_somebody_elses_act_hides_nothing_and_asking_together_changes_nothing(desk):
    mine = desk.grants(limits=[CAP])
    thief = desk.world.human("theo", issuer="https://id.theo.example")
    tool = desk.world.agent("tool", issuer="https://agents.theo.example")
    theirs = desk.world.grant(thief, tool, actions=["**"], limits=[CAP], at=desk.begins, source=desk.keys)
    desk.world.send(theirs)
    honest = desk.tells(desk.platform, "resource.provisioned", amount=4_900, grant=mine, request_id="shared")
    stolen = desk.tells(
        desk.platform, "resource.provisioned", after=2 * HOUR, amount=8_000, grant=theirs, request_id="shared"
    )
    desk.tells(
        desk.bank,
        "payment.captured",
        after=3 * HOUR,
        amount=100,
        money={"charge": "x", "rail": "card"},
        request_id="shared",
        principal=thief,
    )
    desk.settles()

    ids = [Event.objects.get(tenant=desk.world.row, source_event_id=s.jti).event_id for s in (honest, stolen)]
    together = {v["event_id"]: v["digest"] for v in adjudicate(desk.world.row, ids)}
    assert together == {str(i): adjudicate(desk.world.row, [i])[0]["digest"] for i in ids}
    rows = spend_by(Viewer(desk.world.row, Role.ADMIN, "", "tests"), ["principal"])
    assert {row["principal"].rpartition("|")[2]: row["spent_minor"] for row in rows}["lena"] == 4_900
    assert desk.verdict(honest)["verdict"] == "within_scope"


def test_an_agent_that_lowers_a_limit_first_has_not_set_what_it_raises(desk):
    grant = desk.grants(limits=[CAP])
    for n, (kind, amount) in enumerate((("lowered", 4_999), ("raised", 900_000))):
        said_limit(
            desk,
            kind,
            {**CAP, "max_minor": amount, "set_by": desk.bot.ref},
            after=(n + 1) * MINUTE,
            by=desk.bot,
            grant=grant.id,
        )
    paid = desk.tells(
        desk.platform, "payment.captured", amount=60_000, money={"charge": "1", "rail": "card"}, grant=grant
    )
    desk.settles()

    assert desk.verdict(paid)["verdict"] != "within_scope"


def test_a_grants_limits_are_stated_again_by_its_issuer_and_by_nobody_else(desk):
    grant = desk.grants(limits=[CAP])
    said = dict(grant.payload["grant"])
    said["limits"] = [CAP | {"max_minor": 900_000}]
    desk.world.send(
        desk.world.event(
            "delegation.granted",
            source=desk.platform,
            at=desk.begins + MINUTE,
            grant=said,
            principal=desk.lena,
            actor=desk.lena,
        )
    )
    paid = desk.tells(
        desk.platform, "payment.captured", amount=6_000, money={"charge": "1", "rail": "card"}, grant=grant
    )
    desk.settles()

    assert criterion(desk.verdict(paid), "C5")["result"] == "fail"


def test_of_charges_under_one_key_the_first_stands_whatever_their_ids(desk):
    grant = desk.grants()
    key = {"idempotency_key": "once", "operation": "buy"}
    desk.tells(
        desk.platform,
        "resource.provisioned",
        amount=1_000,
        grant=grant,
        call=key,
        target={"type": "order", "id": "o-1"},
    )
    paid = [
        desk.tells(
            desk.bank,
            "payment.captured",
            after=n * HOUR,
            amount=1_000,
            money={"charge": f"k{n}", "rail": "card"},
            call=key,
            grant=grant,
        )
        for n in (1, 2, 3)
    ]
    desk.settles()

    assert [criterion(desk.verdict(each), "C13")["result"] for each in paid] == ["pass", "fail", "fail"]
    assert [desk.verdict(each)["liability"]["bearer"] for each in paid] == ["principal", "provider", "provider"]


def test_an_approval_by_request_id_answers_the_payment_that_names_its_charge(desk):
    grant = desk.grants(gates=["purchase"])
    desk.world.send(desk.world.event("approval.decided", source=desk.keys, at=desk.begins + MINUTE, principal=desk.lena, actor=desk.lena, mode="direct", request_id="ask-1",
                                     gate={"kind": "purchase", "by": desk.lena.full}, action={"provider": "host", "target": {"type": "server", "id": "s-1"}}))  # fmt: skip
    paid = desk.tells(
        desk.bank,
        "payment.captured",
        amount=900,
        money={"charge": "c-1", "rail": "card"},
        target={"type": "charge", "id": "c-1"},
        grant=grant,
        request_id="ask-1",
    )
    desk.settles()

    assert "authority.gate_missing" not in desk.found()
    assert criterion(desk.verdict(paid), "C8")["result"] == "pass"
