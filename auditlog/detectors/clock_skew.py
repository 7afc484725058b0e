"""integrity.clock_skew: what a source says of the time it signed (`iat`) cannot be, beside the time of receipt.

When something happened (`toe`) says nothing here: it may be long ago. A statement from the future is always wrong. One
from the past may just have waited; only a delay that stays the same over many minutes is a clock that runs behind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from auditlog.core.finding import Finding

rule = "integrity.clock_skew"
version = 1
title = "A source's clock is wrong"
runbook = (
    "Have the source's operator set its clock. Until then, judge its acts by time of receipt where the order matters:"
    " limits, revocations and expiry. If every source is off by the same, look at our own clock first."
)
false_positives = "A sender that delays everything by the same time looks like a clock that runs behind."
of_events = frozenset()  # of all that a source sent
partition = ("source", "key", "hour")
waits = False
AHEAD = timedelta(seconds=60)  # beyond what NTP and rounding explain
BEHIND = timedelta(minutes=5)
STEADY = timedelta(seconds=60)  # a queue's delays spread wider than this
AT_LEAST = 5  # statements, over as many minutes as below, before a steady delay is a clock
OVER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Fact:
    """One source, key and hour of receipt. A lag is receipt minus `iat`; below zero, `iat` lies in the future."""

    source: str
    key: str
    hour: datetime
    events: int
    ahead: int  # statements from the future by more than AHEAD
    least_lag: timedelta
    most_lag: timedelta
    first_at: datetime  # receipts
    last_at: datetime
    leaf_index: int  # of the one with the least lag
    event_id: str


def is_suspicious(fact: Fact) -> bool:
    """Whether there may be something to find, so that an ordinary hour costs nothing."""
    return fact.ahead > 0 or fact.least_lag > BEHIND


def find(facts: Sequence[Fact]) -> Iterable[Finding]:
    """At most one finding a fact: a clock is ahead or behind."""
    for fact in facts:
        if fact.ahead:
            by = -fact.least_lag
            said = f"dated {fact.ahead:,} of {fact.events:,} statements ahead of their receipt, by up to {_long(by)}"
        elif (
            fact.least_lag > BEHIND
            and fact.most_lag - fact.least_lag < STEADY
            and fact.events >= AT_LEAST
            and fact.last_at - fact.first_at >= OVER
        ):
            by = fact.least_lag
            said = f"dated all of {fact.events:,} statements {_long(by)} before their receipt, steadily: its clock runs behind"
        else:
            continue
        yield Finding(
            rule=rule,
            anchor=f"{fact.source} {fact.key} {fact.hour.isoformat()}",
            severity="high" if by >= timedelta(hours=1) else "medium",
            title=f"{fact.source} {said}",
            events=(fact.event_id,),
            leaves=(fact.leaf_index,),
            first_at=fact.first_at,
            last_at=fact.last_at,
            evidence={
                "source": fact.source, "key": fact.key, "statements": fact.events, "ahead": fact.ahead,
                "least_lag_s": fact.least_lag.total_seconds(), "most_lag_s": fact.most_lag.total_seconds(),
            },
        )  # fmt: skip


def _long(time: timedelta) -> str:
    seconds = int(time.total_seconds())
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
