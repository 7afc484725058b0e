"""Who may say so, and what stands where two say it: grants, revocations, gates, limits and acts told by those who may not."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from auditlog.detectors import runbook_of
from auditlog.models import Charge, Event, Finding
from disputes.adjudicate import adjudicate
from tests.integration.test_money_verdict_is_finding import contradictions as of_money
from tests.integration.test_project import fresh_world
from tests.integration.test_verdict_is_finding import accusations, contradictions

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ID, BOTS, OTHER = "https://id.fen.example", "https://bots.fen.example", "https://elsewhere.example"
CAP = {"id": "cap", "scope": "grant", "max_minor": 5_000, "currency": "USD", "interval": "day"}


class Bench:
    def __init__(self, world):
        self.world = world
        self.keys = world.source("keys", "https://keys.fen.example", layers=["authority"])
        self.platform = world.source("platform", "https://platform.example")
        self.runner = world.source("runner", BOTS)
        self.stranger = world.source("stranger", OTHER, speaks_for=[OTHER])
        self.shop = world.source(
            "shop", "https://shop.example", provider="shop", speaks_for=["https://shop.example", BOTS]
        )
        self.fen, self.bot = world.human("fen", issuer=ID), world.agent("bot", issuer=BOTS)
        self.begins = (world.now - timedelta(days=4)).replace(hour=6, minute=0, second=0, microsecond=0)

    def grant(self, **more):
        more = {"actions": ["**"], "at": self.begins, "source": self.keys} | more
        granted = self.world.grant(self.fen, self.bot, **more)
        self.world.send(granted)
        return granted

    def again(self, grant, *, source=None, at=None, **changes):
        said = {k: v for k, v in {**grant.payload["grant"], **changes}.items() if v is not ...}
        signed = self.world.event("delegation.granted", source=source or self.keys, at=self.begins + (at or timedelta()), grant=said,
                                  principal=self.fen, actor=self.fen)  # fmt: skip
        self.world.send(signed)
        return signed

    def act(self, after=HOUR, **more):
        signed = self.signed(after, **more)
        self.world.send(signed)
        return signed

    def signed(self, after=HOUR, *, source=None, amount=None, verb="db.create", target="main", **more):
        money = {"money": {"amount_minor": amount, "currency": "USD"}} if amount is not None else {}
        action = {
            "verb": verb,
            "provider": more.pop("provider", "shop"),
            "target": {"type": "db", "id": target},
            **more.pop("action", {}),
        }
        more.setdefault("actor", self.bot)
        return self.world.event(
            "action.performed",
            source=source or self.platform,
            at=self.begins + after,
            action=action,
            principal=self.fen,
            **money,
            **more,
        )

    def limit(self, kind, limit, *, by, after=MINUTE, source=None, **more):
        said = CAP | {"holder": self.bot.ref, "set_by": by.ref} | limit
        signed = self.world.event(
            f"limit.{kind}",
            source=source or self.platform,
            at=self.begins + after,
            limit=said,
            actor=by,
            principal=self.fen,
            **more,
        )
        self.world.send(signed)
        return signed

    def settles(self):
        self.world.settle()
        self.world.settle(after=2 * MINUTE)

    def found(self, *rules):
        return {
            f.rule
            for f in Finding.objects.filter(tenant=self.world.row).exclude(state="withdrawn")
            if f.rule.startswith(("authority.", "spend."))
        }

    def verdict(self, signed):
        [verdict] = adjudicate(
            self.world.row, [Event.objects.get(tenant=self.world.row, source_event_id=signed.jti).event_id]
        )
        return verdict

    def asked(self, signed, name):
        return next(each for each in self.verdict(signed)["criteria"] if each["id"] == name)


@pytest.fixture
def bench(world):
    return Bench(world)


# --- one grant, stated by two ---------------------------------------------------------------------------------------


def test_a_wider_grant_that_somebody_else_dates_before_the_real_one_acquits_nobody_for_certain(bench):
    grant = bench.grant(actions=["dns.**"])
    bench.again(
        grant, source=bench.runner, at=-HOUR, authorization_details=[{"type": "agent_action", "actions": ["**"]}]
    )
    act = bench.act(grant=grant)
    bench.settles()

    answer = bench.asked(act, "C3")
    assert answer["result"] == "unknown" and "keys.fen.example states grant" in answer["reason"]
    assert bench.verdict(act)["verdict"] == "indeterminate" and bench.found() == set()


def test_a_narrower_grant_that_somebody_else_dates_before_the_real_one_convicts_nobody(bench):
    grant = bench.grant()
    bench.again(grant, source=bench.platform, at=-HOUR, authorization_details=[{"type": "agent_action", "actions": ["dns.**"]}], audience=["dns"],
                expires_at=int(bench.begins.timestamp()) + 60, gates=["purchase"], limits=[CAP | {"max_minor": 1}])  # fmt: skip
    act = bench.act(grant=grant, amount=9_00)
    bench.settles()

    assert bench.verdict(act)["verdict"] == "indeterminate" and bench.found() == set()
    assert {bench.asked(act, name)["result"] for name in ("C3", "C5", "C6", "C7", "C8")} == {"unknown"}


def test_an_act_that_both_statements_allow_or_neither_does_is_judged_for_certain(bench):
    grant = bench.grant(actions=["dns.**"])
    bench.again(
        grant,
        source=bench.runner,
        at=-HOUR,
        authorization_details=[{"type": "agent_action", "actions": ["dns.**", "mail.**"]}],
    )
    inside, outside = bench.act(grant=grant, verb="dns.change"), bench.act(grant=grant, verb="db.drop")
    bench.settles()

    assert bench.verdict(inside)["verdict"] == "within_scope"
    assert bench.verdict(outside)["codes"] == ["action_not_allowed"] and bench.found() == {"authority.out_of_scope"}


def test_what_somebody_else_says_of_a_grant_after_its_issuer_did_changes_nothing(bench):
    grant = bench.grant(actions=["dns.**"], limits=[CAP])
    bench.again(
        grant,
        source=bench.runner,
        at=MINUTE,
        authorization_details=[{"type": "agent_action", "actions": ["**"]}],
        limits=[],
    )
    act, dear = bench.act(grant=grant), bench.act(grant=grant, verb="dns.buy", amount=60_00)
    bench.settles()

    assert bench.verdict(act)["codes"] == ["action_not_allowed"] and bench.verdict(dear)["codes"] == ["over_limit"]


def test_a_second_source_that_tells_less_of_a_grant_says_nothing_else(bench):
    grant = bench.grant(actions=["db.**"], audience=["shop"], limits=[CAP], gates=["purchase"], expires_in=5 * HOUR)
    less = {name: ... for name in ("authorization_details", "audience", "limits", "gates", "expires_at")}
    bench.again(grant, source=bench.platform, at=-MINUTE, **less)
    inside, outside = bench.act(grant=grant), bench.act(grant=grant, verb="mail.send")
    bench.settles()

    assert bench.verdict(inside)["verdict"] == "within_scope"
    assert bench.verdict(outside)["codes"] == ["action_not_allowed"]


def test_a_grant_whose_giver_somebody_else_states_otherwise_is_nobodys_for_certain(bench):
    grant = bench.grant()
    bench.again(
        grant,
        source=bench.runner,
        at=-HOUR,
        subject=bench.world.human("mallory", issuer="https://id.mallory.example").full,
    )
    act = bench.act(grant=grant)
    bench.settles()

    assert bench.asked(act, "C1")["result"] == "unknown" and "whose grant" in bench.asked(act, "C1")["reason"]


@pytest.mark.parametrize(("who", "begins"), [("keys", ...), ("keys", 0), ("runner", 0)])
def test_a_beginning_that_is_moved_back_before_the_act_leaves_it_unknown(bench, who, begins):
    grant = bench.grant(at=bench.begins + 2 * HOUR)
    act = bench.act(HOUR, grant=grant)
    begins = begins if begins is ... else int(bench.begins.timestamp())
    bench.again(grant, source=getattr(bench, who), at=timedelta(), not_before=begins)
    bench.settles()

    assert bench.asked(act, "C6")["result"] == "unknown" and bench.found() == set()


def test_two_contents_of_one_time_are_no_matter_of_who_came_first(bench):
    verdicts = []
    for order in (1, -1):
        grant = bench.grant(id=f"twice{order}", actions=["dns.**"])
        wide = [{"type": "agent_action", "actions": ["**"]}]
        if order < 0:
            bench.again(grant, authorization_details=wide)
        act = bench.act(grant=grant)
        if order > 0:
            bench.again(grant, authorization_details=wide)
        bench.settles()
        verdicts.append((bench.verdict(act)["verdict"], bench.asked(act, "C3")["result"]))

    assert verdicts == [("indeterminate", "unknown")] * 2 and bench.found() == set()


def test_a_token_that_somebody_else_states_otherwise_and_dates_back_proves_nothing(bench):
    narrow, wide = bench.grant(actions=["dns.**"]), bench.grant()
    token = bench.world.token(narrow, at=bench.begins + MINUTE, source=bench.keys)
    bench.world.send(token)
    said = token.payload["token"] | {"grant": wide.id}
    bench.world.send(
        bench.world.event(
            "token.issued", source=bench.runner, at=bench.begins, token=said, principal=bench.fen, actor=bench.bot
        )
    )
    act = bench.act(token=token.id)
    bench.settles()

    assert bench.asked(act, "C1")["result"] == "unknown"


# --- whose word it is -----------------------------------------------------------------------------------------------


def test_a_source_of_other_issuers_ends_nobodys_grant_or_token(bench):
    grant = bench.grant()
    token = bench.world.token(grant, at=bench.begins, source=bench.keys)
    bench.world.send(token, bench.world.revoke(grant, source=bench.stranger, at=bench.begins + MINUTE),
                     bench.world.revoke_token(token, source=bench.stranger, at=bench.begins + MINUTE))  # fmt: skip
    act = bench.act(grant=grant, token=token.id)
    bench.settles()

    assert bench.verdict(act)["verdict"] == "within_scope" and bench.found() == set()


def test_who_stated_a_grant_may_end_it_and_so_may_who_speaks_for_its_giver(bench):
    bench.world.source("home", "https://home.fen.example", speaks_for=[ID])
    mine = bench.world.source("mine", "https://mine.fen.example", speaks_for=["https://mine.fen.example", ID])
    for source, grant in ((bench.world.sources["home"], bench.grant()), (mine, bench.grant(source=mine))):
        bench.world.send(bench.world.revoke(grant, source=source, at=bench.begins + MINUTE))
        act = bench.act(grant=grant)
        bench.settles()
        assert "revocation_not_passed_on" in bench.verdict(act)["codes"]


def test_a_token_for_an_agent_of_another_issuer_is_only_claimed(bench):
    token = bench.world.event("token.issued", source=bench.stranger, at=bench.begins, principal=bench.fen, actor=bench.bot,
                              token={"jti": "made-up", "actor": bench.bot.full, "grant": bench.grant().id})  # fmt: skip
    bench.world.send(token)
    act = bench.act(token="made-up")
    bench.settles()

    assert bench.asked(act, "C1")["result"] == "unknown" and "claimed" in bench.asked(act, "C1")["reason"]


def test_a_gate_that_a_shop_states_of_a_human_it_does_not_speak_for_is_no_approval(bench):
    grant = bench.grant(gates=["purchase"])
    gate = {"kind": "purchase", "by": bench.fen.ref, "at": int(bench.begins.timestamp())}
    told = bench.act(grant=grant, source=bench.shop, amount=5_00, gate=gate)
    bench.settles()

    assert bench.asked(told, "C8")["result"] == "unknown" and bench.found() == set()


def test_a_provider_speaks_of_what_happened_at_itself_and_not_at_others(bench):
    grant = bench.grant(limits=[CAP])
    world = bench.world
    eve = world.human("eve", issuer="https://id.eve.example")
    own = bench.act(grant=grant, source=bench.shop, amount=10_00)
    bench.act(grant=grant, source=bench.shop, provider="rival", amount=90_00, actor=eve)
    bench.settles()

    assert bench.found() == set() and bench.asked(own, "C5")["result"] == "pass"


def test_a_token_that_the_agents_own_server_made_for_it_makes_its_word_no_approval(bench):
    grant = bench.grant(gates=["purchase"])
    world = bench.world
    world.send(world.event("token.issued", source=bench.runner, at=bench.begins, actor=bench.bot, principal=bench.fen,
                           token={"jti": "own", "subject": bench.bot.full, "grant": grant.id}))  # fmt: skip
    yes = world.event("approval.decided", source=bench.runner, at=bench.begins + MINUTE, actor=bench.fen, principal=bench.fen, request_id="r1",
                      gate={"kind": "purchase", "by": bench.fen.ref})  # fmt: skip
    world.send(yes)
    act = bench.act(grant=grant, token="own", request_id="r1", amount=5_00)
    bench.settles()

    assert bench.asked(act, "C8")["result"] == "unknown"


def test_a_source_that_is_no_provider_fills_nobodys_cap_and_says_what_no_human_did_in_person(bench):
    grant = bench.grant(limits=[CAP])
    made_up = bench.act(grant=grant, source=bench.stranger, amount=60_00)
    direct = bench.act(source=bench.stranger, actor=bench.fen, mode="direct")
    own = bench.act(2 * HOUR, grant=grant, amount=10_00)
    bench.settles()

    assert bench.found() == set() and bench.verdict(own)["verdict"] == "within_scope"
    assert {bench.verdict(act)["verdict"] for act in (made_up, direct)} == {"indeterminate"}
    assert bench.asked(made_up, "C5")["result"] != "fail" and bench.asked(direct, "C1")["result"] == "unknown"


@pytest.mark.parametrize("answer_first", [True, False])
def test_an_answer_under_the_same_request_in_another_name_leaves_rule_and_criterion_in_doubt(bench, answer_first):
    eve = bench.world.human("eve", issuer="https://id.eve.example")
    grant = bench.grant(gates=["purchase"])
    act = bench.signed(grant=grant, amount=5_00, request_id="r1")
    yes = bench.world.event("approval.decided", source=bench.platform, at=bench.begins + MINUTE, actor=eve, principal=eve, request_id="r1",
                            gate={"kind": "purchase", "by": eve.ref})  # fmt: skip
    for signed in (yes, act) if answer_first else (act, yes):
        bench.world.send(signed)
        bench.settles()

    assert bench.asked(act, "C8")["result"] == "unknown" and bench.found() == set()


def _charged_twice(bench, teller):
    """Two charges for two requests that one key is said of; the payment system names no key."""
    grant = bench.grant()
    bench.world.source("pay", "https://pay.example")
    for n in range(2):
        bench.act(HOUR + n * MINUTE, grant=grant, amount=5_00, source=teller, request_id=f"q{n}",
                  call={"operation": "buy", "args": {"x": 1}, "idempotency_key": "k"})  # fmt: skip
        paid = bench.world.event("payment.captured", source="pay", at=bench.begins + HOUR + n * MINUTE, request_id=f"q{n}", action={"provider": "shop"},
                                 principal=bench.fen, actor=bench.bot, money={"amount_minor": 5_00, "currency": "USD", "rail": "card", "charge": f"c{n}"})  # fmt: skip
        bench.world.send(paid)
    bench.settles()
    return paid


def test_that_one_key_was_charged_twice_is_the_providers_fault_by_others_word_than_the_agents_own(bench):
    paid = _charged_twice(bench, bench.platform)

    assert bench.verdict(paid)["liability"]["bearer"] == "provider"
    assert bench.found() == {"spend.duplicate_charge"}


def test_by_the_agents_own_word_alone_nobody_is_to_blame_for_a_key_charged_twice(bench):
    paid = _charged_twice(bench, bench.runner)

    answer = bench.asked(paid, "C13")
    assert (
        answer["result"] == "unknown"
        and "only the acting side" in answer["reason"]
        and bench.verdict(paid)["verdict"] == "indeterminate"
    )
    finding = Finding.objects.get(tenant=bench.world.row, rule="spend.duplicate_charge")
    finding.withheld = ()
    assert "which keys it was sent" in runbook_of(finding, None)


# --- limits that are restated ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["the agent", "one below it"])
def test_a_raise_that_the_agents_side_made_in_the_humans_name_is_unknown(bench, by):
    grant = bench.grant(limits=[CAP], redelegate=True)
    maker = bench.bot
    if by == "one below it":
        maker = bench.world.agent("below", issuer="https://other.fen.example")
        bench.world.send(bench.world.grant(bench.bot, maker, parent=grant, at=bench.begins, source=bench.keys))
    raised = bench.world.event("limit.raised", source=bench.platform, at=bench.begins + MINUTE, actor=maker, principal=bench.fen, grant=grant.id,
                               limit=CAP | {"holder": bench.bot.ref, "set_by": bench.fen.ref, "max_minor": 90_000})  # fmt: skip
    bench.world.send(raised)
    act = bench.act(grant=grant, amount=60_00)
    bench.settles()

    assert bench.asked(act, "C5")["result"] == "unknown" and bench.found() == set()


def test_a_humans_raise_that_only_the_agents_own_side_tells_is_unknown(bench):
    grant = bench.grant(limits=[CAP])
    bench.limit("raised", {"max_minor": 90_000}, by=bench.fen, source=bench.runner, grant=grant.id)
    act = bench.act(grant=grant, amount=60_00)
    bench.settles()

    assert bench.asked(act, "C5")["result"] == "unknown" and bench.found() == set()

    bench.limit("raised", {"max_minor": 90_000}, by=bench.fen, source=bench.platform, grant=grant.id)
    later = bench.act(2 * HOUR, grant=grant, amount=10_00)
    bench.settles()
    assert bench.asked(later, "C5")["result"] == "pass"


def test_a_human_who_spends_beyond_a_limit_of_his_own_in_person_is_told_so_and_needed_nobodys_leave(bench):
    world = bench.world
    said = {
        "id": "h",
        "scope": "global",
        "holder": bench.fen.ref,
        "max_minor": 1_000,
        "currency": "USD",
        "interval": "month",
        "set_by": bench.fen.ref,
    }
    world.send(
        world.event(
            "limit.set",
            source=bench.platform,
            at=bench.begins,
            limit=said,
            actor=bench.fen,
            principal=bench.fen,
            mode="direct",
        )
    )
    act = bench.act(actor=bench.fen, mode="direct", amount=15_00)
    bench.settles()

    answer = bench.asked(act, "C5")
    assert bench.verdict(act)["verdict"] == "within_scope" and bench.found() == {"spend.cap_exceeded"}
    assert answer["result"] == "na" and "over by 5.00 USD" in answer["reason"]


def test_a_limit_that_a_human_restates_by_the_hour_of_the_month_counts_by_the_month_from_then_on(bench):
    grant = bench.grant(limits=[CAP])
    acts = [bench.act(timedelta(days=day, hours=3), grant=grant, amount=40_00) for day in (0, 1)]
    bench.limit(
        "set", {"interval": "month", "max_minor": 10_000}, by=bench.fen, after=timedelta(days=2), grant=grant.id
    )
    acts += [bench.act(timedelta(days=2, hours=hour), grant=grant, amount=15_00) for hour in (1, 2)]
    bench.settles()

    assert [bench.asked(act, "C5")["result"] for act in acts] == ["pass", "pass", "pass", "fail"]
    finding = Finding.objects.get(tenant=bench.world.row, rule="spend.cap_exceeded")
    assert (finding.evidence["interval"], finding.money_at_risk_minor) == ("month", 10_00)


@pytest.mark.parametrize(
    "change",
    [
        {"enforcement": "alert_only"},
        {"interval": "once", "max_minor": 4_000},
        {"currency": "EUR"},
        {"scope": "session"},
    ],
)
def test_an_agent_that_changes_the_terms_of_its_limit_is_found_and_the_old_ones_hold(bench, change):
    grant = bench.grant(limits=[CAP])
    bench.limit("set", change, by=bench.bot, grant=grant.id)
    act = bench.act(grant=grant, amount=60_00)
    bench.settles()

    assert bench.verdict(act)["codes"] == ["over_limit"]
    finding = Finding.objects.get(tenant=bench.world.row, rule="spend.self_raise")
    assert "bot" in finding.title and finding.title.count("USD") + finding.title.count("EUR") >= 1


def test_a_grant_stated_anew_with_no_limits_has_none_from_then_on(bench):
    grant = bench.grant(limits=[CAP])
    before = bench.act(HOUR, grant=grant, amount=60_00)
    bench.again(grant, at=2 * HOUR, limits=[])
    after = bench.act(3 * HOUR, grant=grant, amount=60_00)
    bench.settles()

    assert [bench.asked(act, "C5")["result"] for act in (before, after)] == ["fail", "pass"]


def test_whether_a_grant_stated_anew_without_a_word_on_limits_still_has_them_is_unknown(bench):
    grant = bench.grant(limits=[CAP])
    bench.again(grant, at=MINUTE, limits=..., audience=["shop"])
    act = bench.act(HOUR, grant=grant, amount=60_00)
    bench.settles()

    answer = bench.asked(act, "C5")
    assert answer["result"] == "unknown" and "stated anew without it" in answer["reason"] and bench.found() == set()


def test_two_charges_of_one_second_cross_a_cap_in_the_same_order_whoever_told_first(bench):
    codes = []
    for order in (1, -1):
        grant = bench.grant(limits=[CAP], id=f"second{order}")
        acts = {}
        for name in ("a", "b")[::order]:
            acts[name] = bench.act(HOUR, grant=grant, amount=30_00, target=name, request_id=f"{order}{name}",
                                   call={"idempotency_key": f"{order}{name}"})  # fmt: skip
            bench.settles()
        codes.append([bench.verdict(acts[name])["codes"] for name in ("a", "b")])

    assert sorted(codes[0]) == [[], ["over_limit"]]


# --- one invoice for several acts -----------------------------------------------------------------------------------


def test_an_invoice_over_several_acts_says_so_and_blames_nobody_for_a_gap_in_the_record(bench):
    grant, world = bench.grant(), bench.world
    acts = [world.event("usage.metered", source=bench.shop, at=bench.begins + n * HOUR, grant=grant, call={"operation": "infer"}, request_id=f"q{n}",
                        money={"amount_minor": 300, "currency": "USD", "invoice": "in_7", "rail": "card"}) for n in range(3)]  # fmt: skip
    bill = world.event(
        "invoice.paid",
        source=bench.shop,
        at=bench.begins + 9 * HOUR,
        money={"amount_minor": 900, "currency": "USD", "invoice": "in_7", "rail": "card"},
    )
    world.send(*acts, bill)
    bench.settles()

    verdict = bench.verdict(bill)
    assert (verdict["verdict"], verdict["liability"]["bearer"]) == ("indeterminate", "nobody")
    assert "the money of 3 acts" in bench.asked(bill, "C1")["reason"]
    assert {bench.verdict(act)["verdict"] for act in acts} == {"within_scope"}


def test_a_payment_that_names_nobody_and_is_perhaps_that_of_an_act_accuses_nobody(bench):
    world = bench.world
    world.source("pay", "https://pay.example")
    bench.act(grant=bench.grant(), amount=5_00)
    for charge, amount in (("c1", 5_00), ("c2", 90_00)):
        world.send(world.event("payment.captured", source="pay", at=bench.begins + HOUR + MINUTE, actor=None, principal=bench.fen, action={"provider": "shop"},
                               money={"amount_minor": amount, "currency": "USD", "rail": "card", "charge": charge}))  # fmt: skip
    bench.settles()

    [finding] = Finding.objects.filter(tenant=world.row, rule="authority.unattributed")
    assert finding.money_at_risk_minor == 90_00


# --- holds, refunds and retries as cards and clouds tell them ---------------------------------------------------------


def _paying(bench, kind, amount, after, *, source="platform", **more):
    call = {"operation": "pay", "args": {}, "idempotency_key": more.pop("key")} if "key" in more else None
    money = {"rail": "card", "charge": more.pop("charge")} | (
        {"amount_minor": amount, "currency": "USD"} if amount is not None else {}
    )
    named = {} if source == "pay" else {"actor": bench.bot, "grant": more.pop("grant")}
    signed = bench.world.event(f"payment.{kind}", source=source if source == "pay" else bench.platform, at=bench.begins + after, money=money,
                               action={"provider": "shop", "verb": "payment.capture"}, principal=bench.fen, **({"call": call} if call else {}), **named, **more)  # fmt: skip
    bench.world.send(signed)
    return signed


@pytest.mark.parametrize(("amount", "outcome"), [(40_00, "failure"), (None, "failure"), (40_00, "success")])
def test_a_hold_that_was_declined_is_open_no_more_and_convicts_no_retry(bench, amount, outcome):
    bench.world.source("pay", "https://pay.example")
    grant = bench.grant(limits=[CAP])
    _paying(bench, "authorized", 40_00, HOUR, charge="c1", key="k1", grant=grant)
    _paying(bench, "failed", amount, 2 * HOUR, source="pay", charge="c1", outcome=outcome)
    retry = _paying(bench, "captured", 40_00, 3 * HOUR, charge="c2", key="k2", grant=grant)
    bench.settles()

    assert bench.found() == set() and bench.asked(retry, "C5")["result"] == "pass"
    assert spent(bench) == [(40_00, 40_00)]


def test_a_payment_that_failed_gives_nothing_back_of_what_its_charge_took_after_all(bench):
    grant = bench.grant(limits=[CAP])
    _paying(bench, "failed", 40_00, HOUR, charge="c1", grant=grant, outcome="failure")
    _paying(bench, "captured", 40_00, 2 * HOUR, charge="c1", grant=grant)
    bench.settles()

    assert spent(bench) == [(40_00, 40_00)]


def test_a_capture_under_another_id_than_its_hold_and_the_same_key_releases_it(bench):
    bench.world.source("pay", "https://pay.example")
    grant = bench.grant(limits=[CAP])
    _paying(bench, "authorized", 40_00, HOUR, charge="pi_1", key="k1", grant=grant)
    taken = _paying(bench, "captured", 40_00, 2 * HOUR, source="pay", charge="ch_1", key="k1")
    more = bench.act(3 * HOUR, grant=grant, amount=9_00)
    bench.settles()

    assert (
        bench.found() == set()
        and bench.asked(more, "C5")["result"] == "pass"
        and bench.asked(taken, "C5")["result"] != "fail"
    )
    assert spent(bench) == [(49_00, 49_00)]


def test_what_is_perhaps_an_acts_payment_and_came_back_leaves_the_act_in_doubt(bench):
    bench.world.source("pay", "https://pay.example")
    grant = bench.grant(limits=[CAP])
    bench.act(HOUR, grant=grant, amount=40_00)
    _paying(bench, "captured", 40_00, HOUR + MINUTE, source="pay", charge="c1")
    _paying(bench, "refunded", 40_00, 2 * HOUR, source="pay", charge="c1")
    later = bench.act(3 * HOUR, grant=grant, amount=30_00, target="other")
    bench.settles()

    assert spent(bench) == [(30_00, 70_00)]
    assert bench.asked(later, "C5")["result"] == "unknown" and "spend.cap_exceeded" not in bench.found()


def test_another_customers_refund_of_a_charge_of_the_same_number_is_not_ours(bench):
    world = bench.world
    max_, bot2 = world.human("max", issuer="https://id.max.example"), world.agent("bot2", issuer=BOTS)
    theirs = world.grant(max_, bot2, actions=["**"], at=bench.begins, source=bench.keys)
    world.send(theirs)
    mine = _paying(bench, "captured", 30_00, HOUR, charge="1001", grant=bench.grant())
    his = world.event("payment.captured", source=bench.platform, at=bench.begins + HOUR, money={"rail": "card", "charge": "1001", "amount_minor": 30_00, "currency": "USD"},
                      action={"provider": "shop", "verb": "payment.capture"}, principal=max_, actor=bot2, grant=theirs)  # fmt: skip
    back = world.event("payment.refunded", source=bench.platform, at=bench.begins + 2 * HOUR, principal=max_,
                       money={"rail": "card", "charge": "1001", "amount_minor": 30_00, "currency": "USD"})  # fmt: skip
    world.send(his, back)
    bench.settles()

    ids = [Event.objects.get(tenant=world.row, source_event_id=signed.jti).event_id for signed in (mine, his, back)]
    together = adjudicate(world.row, ids)
    assert bench.verdict(mine)["liability"]["amount_minor"] == together[0]["liability"]["amount_minor"] == 30_00
    assert bench.verdict(mine)["digest"] == together[0]["digest"]


def test_what_failed_and_was_tried_again_is_no_disagreement(bench):
    grant, world = bench.grant(), bench.world
    action = {"verb": "vm.create", "provider": "shop", "target": {"type": "vm", "id": "vm-1"}}
    failed = world.event(
        "resource.failed",
        source=bench.shop,
        at=bench.begins + HOUR,
        action=action,
        principal=bench.fen,
        actor=bench.bot,
        outcome="failure",
    )
    world.send(
        failed,
        world.event(
            "resource.provisioned",
            source=bench.platform,
            at=bench.begins + 2 * HOUR,
            action=action,
            principal=bench.fen,
            actor=bench.bot,
            grant=grant,
        ),
    )
    bench.settles()

    assert (
        not Finding.objects.filter(tenant=world.row, rule="integrity.sources_disagree")
        .exclude(state="withdrawn")
        .exists()
    )


def spent(bench):
    """The least and the most that was spent, in minor units."""
    lines = Charge.objects.filter(tenant=bench.world.row, has_spend=True)
    return [(int(sum(line.spent for line in lines)), int(sum(line.at_most for line in lines)))]


# --- rule, criterion and page, whoever states what -------------------------------------------------------------------

STATED = st.builds(
    dict, source=st.sampled_from(["keys", "keys", "platform", "runner"]), at=st.sampled_from([-2, -1, 0, 1, 3]),
    actions=st.sampled_from([["**"], ["db.**"], ["mail.**"]]), audience=st.sampled_from([None, ["shop"], ["mail"]]),
    expires=st.sampled_from([None, 2, 9]), gates=st.sampled_from([None, ["purchase"]]), limit=st.sampled_from([None, "none", 500, 5_000]),
)  # fmt: skip
SILENT = {"audience": None, "gates": None, "limit": None}


# By one statement the act is no longer allowed and by the other not yet, or by one it is the wrong act and by the other too early.
@example(
    [
        SILENT | {"source": "platform", "at": 1, "actions": ["**"], "expires": None},
        SILENT | {"source": "keys", "at": -2, "actions": ["mail.**"], "expires": None},
    ],
    0,
)
@example(
    [
        SILENT | {"source": "keys", "at": 3, "actions": ["**"], "expires": None},
        SILENT | {"source": "platform", "at": -2, "actions": ["**"], "expires": 2},
    ],
    0,
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STATED, min_size=1, max_size=4), st.integers(0, 4))
def test_rule_criterion_and_page_say_the_same_of_a_grant_that_several_state(database, now, stated, before):
    bench = Bench(fresh_world(now))
    made = [_stated(bench, said) for said in stated]
    acts = [bench.signed(hour * HOUR + MINUTE, grant="shared", verb=verb, amount=amount, request_id=f"{hour}{verb}")
            for hour, verb, amount in ((0, "db.create", 400), (2, "db.create", None), (4, "mail.send", 900), (10, "db.create", 300))]  # fmt: skip
    for signed in (*made[:before], acts[0], *made[before:], *acts[1:]):
        bench.world.send(signed)
    bench.settles()

    assert list(contradictions(bench.world)) == []
    assert list(of_money(bench.world)) == []
    assert list(accusations(bench.world)) == []


def _stated(bench, said):
    limits = None if said["limit"] is None else [] if said["limit"] == "none" else [CAP | {"max_minor": said["limit"]}]
    obj = {
        "id": "shared", "root": True, "subject": bench.fen.full, "actor": bench.bot.full, "audience": said["audience"], "gates": said["gates"], "limits": limits,
        "authorization_details": [{"type": "agent_action", "actions": said["actions"]}],
        "expires_at": None if said["expires"] is None else int((bench.begins + said["expires"] * HOUR).timestamp()),
    }  # fmt: skip
    at = bench.begins + said["at"] * HOUR
    return bench.world.event("delegation.granted", source=getattr(bench, said["source"]), at=at, grant={k: v for k, v in obj.items() if v is not None},
                             principal=bench.fen, actor=bench.fen)  # fmt: skip
