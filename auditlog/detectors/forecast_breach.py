"""spend.forecast_breach: a monthly limit will be reached before its month is over, if money goes on being spent as in the last
week (core.money.forecast). It is taken back when the rate falls, and is settled when the limit is reached.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from auditlog.core.advice import Facts, left_until
from auditlog.core.finding import Finding
from auditlog.core.money.forecast import Forecast
from auditlog.core.money.limits import LimitFact, Spent
from auditlog.core.money.money import amount_text

rule = "spend.forecast_breach"
version = 1
title = "A limit is about to be reached"
runbook = (
    "Ask whether the work is to go on when the limit is reached, and who may raise it: a limit that an agent meets at night stops what is "
    "half done. If the rate is not wanted, lower it now."
)
false_positives = "Work that ends by itself before that; a limit that is meant to be met."
of_events = frozenset[str]()  # what was spent before, and the limit, others say
types = frozenset[str]()
partition = ("limit", "month")
sums = True  # of many acts: no cause by itself (core.incident)
waits = False


def advise(facts: Facts, now: datetime | None) -> str:
    at = facts.time("reached_at")
    return f"At this rate it is reached: {left_until(at, now)}. {runbook}" if at is not None else runbook


def find(principal: str, limit: LimitFact, told: Forecast, lines: Sequence[Spent]) -> Finding:
    day_ends = datetime.combine(told.day + timedelta(days=1), time(), UTC)
    ordered = sorted(lines, key=lambda line: (line.at, line.leaf_index))
    where = f" at {limit.provider}" if limit.provider else ""
    return Finding(
        rule=rule,
        anchor=" ".join((principal, *limit.key, f"{told.day:%Y-%m}"))[:900],
        severity="medium" if told.hours <= 72 else "low",
        title=f"{amount_text(round(told.spent), limit.currency)} of {amount_text(limit.max_minor or 0, limit.currency)} a month was spent{where} by "
        f"{told.day.isoformat()}: at the rate of the last week the rest lasts {told.soonest:.0f} to {told.latest:.0f} hours",
        events=tuple(line.event_id for line in ordered),
        leaves=tuple(line.leaf_index for line in ordered),
        first_at=ordered[0].at if ordered else day_ends,
        last_at=ordered[-1].at if ordered else day_ends,
        principal=principal or None,
        grant=limit.grant or None,
        provider=limit.provider or None,
        money_at_risk_minor=0,
        currency=limit.currency,
        evidence={
            "limit_leaf": limit.leaf_index, "limit_minor": limit.max_minor, "spent_minor": round(told.spent), "per_day_minor": round(told.per_day),
            "hours": round(told.hours), "hours_soonest": round(told.soonest), "hours_latest": round(told.latest),
            "reached_at": (day_ends + timedelta(hours=told.hours)).isoformat(),
        },
    )  # fmt: skip
