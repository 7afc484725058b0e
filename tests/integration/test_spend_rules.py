"""Rules about money that is spent for nothing, without a limit, or not at all: each with an ordinary day on which it is silent."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from auditlog.detection import past
from auditlog.detectors import declined_storm, uncapped
from auditlog.models import Finding, ProjectionState, Tie
from tests.integration.test_detect import desk, found  # noqa: F401 - a fixture
from tests.whole_record import differences

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def reading(world, n, thing="vm-1", *, minor=50, at=None, **event):
    action = {"provider": "cloud", "target": {"type": "instance", "id": thing}}
    money = {"amount_minor": minor, "currency": "USD", "rail": "cloud"}
    return world.event(
        "usage.metered", action=action, money=money, at=(at or world.at) + n * HOUR, **({"grant": world.root} | event)
    )


def session(world, verb, at, **names):
    return world.event(f"session.{verb}", at=at, principal=world.ada, actor=world.lead, **names)


def declined(world, n, *, every=MINUTE, **event):
    money = {"amount_minor": 900, "currency": "USD", "rail": "card", "charge": world.new_id("ch")}
    action = {"verb": "payment.capture", "provider": "shop", "target": {"type": "order", "id": "o1"}}
    return world.event(
        "payment.failed",
        action=action,
        money=money,
        outcome="failure",
        grant=world.root,
        at=world.at + n * every,
        **event,
    )


# --- paid for after it was over ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_late", [False, True])
def test_what_names_a_session_that_ended_days_ago_is_stranded_whenever_the_end_is_told(desk, is_late):  # noqa: F811
    ended = session(desk, "ended", desk.at, session="s-1", task="t-1")
    readings = [reading(desk, n, session="s-1") for n in range(-3, 60)]
    desk.send(*([*readings, ended] if is_late else [ended, *readings]))

    [finding] = found(desk, "spend.stranded")

    assert finding.events_total == 60 - 25 and finding.money_at_risk_minor == 50 * (60 - 25)
    assert differences(desk.row, now=desk.now + DAY) == []


def test_work_that_goes_on_is_not_stranded(desk):  # noqa: F811
    desk.send(
        session(desk, "ended", desk.at, session="s-1", task="t-1"),
        session(desk, "started", desk.at + HOUR, session="s-2", task="t-1"),
        *(reading(desk, n, "vm-1", task="t-1") for n in range(50)),
        *(reading(desk, n, "vm-2", session="s-1") for n in range(-9, 20)),  # the last readings of it
        *(reading(desk, n, "vm-3") for n in range(50)),  # names no session: it was built to stay
        *(reading(desk, n, "vm-4", session="s-9") for n in range(50)),
    )

    assert found(desk) == []


# --- no limit ---------------------------------------------------------------------------------------------------------


def fleet(world, *, minor=900, things=6, **event):
    return [
        reading(world, n, f"vm-{t}", minor=minor, at=world.at.replace(hour=1), **event)
        for n in range(20)
        for t in range(things)
    ]


def test_a_fleet_without_a_budget_is_found_once_a_month(desk):  # noqa: F811
    desk.send(*fleet(desk))

    [finding] = found(desk, "spend.uncapped")

    assert finding.evidence["things"] == 6 and finding.money_at_risk_minor == 20 * 6 * 900
    assert differences(desk.row, now=desk.now + DAY) == []


@pytest.mark.parametrize("why", ["small", "two things", "a limit", "a price"])
def test_a_fleet_that_somebody_bounded_is_silent(desk, why):  # noqa: F811
    if why == "a limit":
        desk.send(
            desk.limit(
                "set",
                10**9,
                id="cap",
                holder=desk.ada,
                set_by=desk.ada,
                principal=desk.ada,
                interval="month",
                at=desk.at - DAY,
            )
        )
    grant = (
        desk.grant(desk.ada, desk.lead, intent={"max_price_minor": 10**9, "currency": "USD"}, at=desk.at - DAY)
        if why == "a price"
        else desk.root
    )
    desk.send(
        grant, *fleet(desk, grant=grant, minor=800 if why == "small" else 900, things=2 if why == "two things" else 6)
    )

    assert found(desk) == []


def test_a_limit_that_is_told_late_takes_the_finding_back(desk):  # noqa: F811
    desk.send(*fleet(desk))
    assert found(desk) == ["spend.uncapped"]

    desk.send(
        desk.limit(
            "set",
            10**9,
            id="cap",
            holder=desk.ada,
            set_by=desk.ada,
            principal=desk.ada,
            interval="month",
            at=desk.at - DAY,
        )
    )

    assert found(desk) == []


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_hundred_and_twenty_refused_attempts_in_an_hour_are_one_storm(desk):  # noqa: F811
    desk.send(*(declined(desk, n, every=MINUTE / 2) for n in range(120)))

    [finding] = found(desk, "spend.declined_storm")

    assert finding.evidence["attempts"] == 120 and finding.severity == "high"


def test_a_card_that_is_tried_again_for_days_is_no_storm(desk):  # noqa: F811
    desk.send(*(declined(desk, n, every=2 * HOUR) for n in range(30)))

    assert found(desk) == []


@pytest.mark.parametrize("seed", range(4))
def test_storms_and_loops_are_judged_as_if_they_had_come_at_once(desk, seed, monkeypatch):  # noqa: F811
    monkeypatch.setattr(declined_storm, "ATTEMPTS", replace(declined_storm.ATTEMPTS, default=3))
    monkeypatch.setattr(uncapped, "DAY_MINOR", replace(uncapped.DAY_MINOR, default=300))
    monkeypatch.setattr(past, "EDGE", 3)
    rng = random.Random(seed)
    events = [declined(desk, n, every=rng.choice((MINUTE, HOUR, 3 * HOUR))) for n in range(14)]
    events += [reading(desk, n, f"vm-{n % rng.choice((2, 4))}", session=rng.choice(("s-1", "s-2"))) for n in range(60)]
    events += [
        session(desk, rng.choice(("started", "ended")), desk.at + n * HOUR, session=f"s-{1 + n % 2}") for n in range(4)
    ]
    if rng.random() < 0.5:
        events.append(
            desk.limit(
                "set",
                10**9,
                id="cap",
                holder=desk.ada,
                set_by=desk.ada,
                principal=desk.ada,
                interval="month",
                at=desk.at + DAY,
            )
        )
    rng.shuffle(events)
    while events:
        desk.send(*events[:7])
        events = events[7:]
        desk.settle()

    assert differences(desk.row, now=desk.now + DAY) == []
    assert Finding.objects.filter(tenant=desk.row).exclude(state="withdrawn").exists()


def test_a_retry_that_was_charged_without_a_key_is_told_and_a_first_try_is_not(desk):  # noqa: F811
    def paid(attempt, key):
        return desk.payment("captured", 900, grant=desk.root, at=desk.at, provider="shop",
                            action={"verb": "order.pay", "provider": "shop", "target": {"type": "order", "id": desk.new_id("o")}},
                call={"operation": "order.pay", "attempt": attempt, "idempotency_key": key})  # fmt: skip

    desk.send(paid(1, ""), paid(2, "k"), paid(2, ""))

    [finding] = found(desk, "spend.key_missing")
    assert finding.events_total == 1 and finding.severity == "low"


# --- faster than ever -------------------------------------------------------------------------------------------------


def hourly(world, minors, **event):
    at = (world.now - len(minors) * HOUR - HOUR).replace(minute=5)
    more = {"grant": world.root, "provider": "meter"} | event
    return [
        world.metered("tensor.embed", {"text": f"t{n}"}, amount_minor=minor, at=at + n * HOUR, **more)
        for n, minor in enumerate(minors)
        if minor
    ]


def usual(hours, chance):
    return [chance.randrange(700, 1300) for _ in range(hours)]


def test_an_agent_that_spends_faster_than_ever_is_found_once_and_told_what_is_usual(desk):  # noqa: F811
    desk.send(*hourly(desk, usual(150, random.Random(1)) + [6000] * 8 + usual(10, random.Random(2))))

    [finding] = found(desk, "spend.velocity")

    assert finding.evidence["spent_minor"] == 48_000 and 7_000 < finding.evidence["usual_minor"] < 9_000
    assert finding.events_total == 8 and finding.severity == "medium"


def test_a_usual_month_a_nightly_batch_and_a_newcomer_are_not_fast(desk):  # noqa: F811
    nights = [20_000 if n % 24 == 2 else 40 for n in range(150)]
    others = [desk.human(name, issuer="https://id.acme.example") for name in ("mia", "new")]
    mias, news = (
        desk.grant(human, desk.lead, actions=["**"], resources=["**"], at=desk.now - 60 * DAY) for human in others
    )
    desk.send(
        mias,
        news,
        *hourly(desk, usual(150, random.Random(3))),
        *hourly(desk, nights, grant=mias),
        *hourly(desk, [50_000] * 30, grant=news),
    )

    assert found(desk) == []


def test_a_rise_that_a_human_approved_is_silent_and_one_that_is_told_late_is_found(desk):  # noqa: F811
    rise = hourly(desk, usual(150, random.Random(1)) + [6000] * 8)
    yes = desk.event("approval.decided", principal=desk.ada, actor=desk.ada, mode="direct", at=desk.now - 12 * HOUR,
                     intent={"max_price_minor": 60_000, "currency": "USD"}, gate={"kind": "purchase", "by": desk.ada.ref})  # fmt: skip
    desk.send(*rise[150:])
    assert found(desk) == []

    desk.send(*rise[:150])
    assert found(desk) == ["spend.velocity"]

    desk.send(yes)
    assert found(desk) == []


# --- about to be reached ----------------------------------------------------------------------------------------------


def month_of(desk, amounts, *, cap):  # noqa: F811
    """A limit a month, and what is spent at noon of its days from the first on."""
    first = (desk.now.replace(day=1, hour=12, minute=0, second=0, microsecond=0) - DAY).replace(day=1)
    limit = desk.limit(
        "set", cap, id="cap", holder=desk.ada, set_by=desk.ada, principal=desk.ada, interval="month", at=first - DAY
    )
    paid = [desk.payment("captured", minor, at=first + n * DAY, grant=desk.root, provider="shop",
                         action={"verb": "order.pay", "provider": "shop", "target": {"type": "order", "id": desk.new_id("o")}})
            for n, minor in enumerate(amounts) if minor]  # fmt: skip
    return [limit, *paid]


def test_a_limit_that_will_be_reached_is_told_days_ahead_and_taken_back_when_it_will_not(desk):  # noqa: F811
    told = month_of(
        desk, [1000, 1100, 900, 1000, 1050, 950, 1000, 1000] + [0] * 11 + [10, 10, 10, 10, 10, 10], cap=15_000
    )
    desk.send(*told[:9])

    [finding] = found(desk, "spend.forecast_breach")
    assert finding.evidence["hours_soonest"] <= finding.evidence["hours"] <= finding.evidence["hours_latest"]
    assert 24 * 6 <= finding.evidence["hours"] <= 24 * 8 and finding.severity == "low"

    desk.send(*told[9:])
    assert found(desk) == []


@pytest.mark.parametrize(
    "amounts", [[400] * 20, [5000, 10, 10, 10, 10, 10, 10], [1000, 0, 0, 900, 0, 0, 0, 950], [100, 100, 100]]
)
def test_spending_that_will_not_reach_its_limit_is_silent(desk, amounts):  # noqa: F811
    desk.send(*month_of(desk, amounts, cap=15_000))

    assert found(desk) == []


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_of_sums_is_the_same_in_whatever_order_it_came_and_from_nothing(desk, seed):  # noqa: F811
    rng = random.Random(seed)
    events = month_of(desk, [1000] * 9, cap=15_000) + hourly(desk, usual(150, rng) + [9000] * 5)
    rng.shuffle(events)
    while events:
        desk.send(*events[:40])
        events = events[40:]
        desk.settle()
    told = found_of_sums(desk)

    Tie.objects.filter(tenant=desk.row).delete()
    ProjectionState.objects.filter(tenant=desk.row).update(detected=0)
    Finding.objects.filter(tenant=desk.row, rule__in=SUMS).update(state="withdrawn")
    desk.settle()

    assert found_of_sums(desk) == told and {rule for rule, *_ in told} == set(SUMS)


SUMS = ("spend.velocity", "spend.forecast_breach")


def found_of_sums(desk):  # noqa: F811
    rows = Finding.objects.filter(tenant=desk.row, rule__in=SUMS).exclude(state="withdrawn")
    return sorted((row.rule, row.anchor, row.title, row.events_total) for row in rows)
