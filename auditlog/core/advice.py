"""Advice: what to do about a finding, in words that know its facts and the clock. The static runbook is the same without them.

A rule that has more to say than its static text has `advise(facts, now)`. What it is not told it does not say: an abuse
desk that may not read a finding's evidence gets the general text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a finding by whoever reads the advice. None: not known to them."""

    first_at: datetime | None = None
    last_at: datetime | None = None
    state: str = "open"
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def idle(self, now: datetime) -> timedelta | None:
        return now - self.last_at if self.last_at is not None else None

    def time(self, name: str) -> datetime | None:
        try:
            return datetime.fromisoformat(str(self.evidence[name]))
        except (KeyError, ValueError):
            return None


class Advised(Protocol):
    runbook: str


def advice(detector: Advised, facts: Facts, now: datetime) -> str:
    """The runbook of one finding as of now."""
    advise: Callable[[Facts, datetime], str] | None = getattr(detector, "advise", None)
    return advise(facts, now) if advise is not None and facts.last_at is not None else detector.runbook


def for_long(span: timedelta) -> str:
    """`3 days`, `1 hour`, `12 minutes`: in one unit, rounded down."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size * (2 if unit == "day" else 1):
            number = seconds // size
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return "less than a minute"


def left_until(deadline: datetime, now: datetime) -> str:
    """`until 2026-11-30 12:00 UTC, 3 days from now`, or that it is over."""
    at = deadline.strftime("%Y-%m-%d %H:%M UTC")
    if now >= deadline:
        return f"until {at}, which was {for_long(now - deadline)} ago"
    return f"until {at}, {for_long(deadline - now)} from now"


def last_charge(facts: Facts, now: datetime) -> str:
    if facts.last_at is None:
        return ""
    at = facts.last_at.strftime("%Y-%m-%d %H:%M UTC")
    return f"The last charge on record was {for_long(now - facts.last_at)} ago, at {at}."
