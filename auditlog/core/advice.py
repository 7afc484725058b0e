"""Advice: what to do about a finding, in words that know its facts and the clock. The static runbook is the same
without them.

A rule that has more to say than its static text has `advise(facts, now)`. What it is not told it does not say: an abuse
desk that may not read a finding's evidence gets the general text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a finding by whoever reads the advice. None: not known to them."""

    first_at: datetime | None = None
    last_at: datetime | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def idle(self, now: datetime | None) -> timedelta | None:
        """How long nothing was done since; None: not known."""
        return now - self.last_at if self.last_at is not None and now is not None else None

    def time(self, name: str) -> datetime | None:
        try:
            return datetime.fromisoformat(str(self.evidence[name]))
        except (KeyError, ValueError):
            return None


class Advised(Protocol):
    runbook: str


def advice(detector: Advised, facts: Facts, now: datetime | None) -> str:
    """The runbook of one finding as of now; None for a text that is kept and read at any time: dates, and no "ago"."""
    advise: Callable[[Facts, datetime | None], str] | None = getattr(detector, "advise", None)
    return advise(facts, now) if advise is not None and facts.last_at is not None else detector.runbook


def for_long(span: timedelta) -> str:
    """`3 days`, `1 hour`, `12 minutes`: in one unit, rounded down."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size * (2 if unit == "day" else 1):
            number = seconds // size
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return "less than a minute"


def left_until(deadline: datetime, now: datetime | None) -> str:
    """`until 2026-11-30 12:00 UTC, 3 days from now`, or that it is over."""
    at = deadline.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now is None:
        return f"until {at}"
    if now >= deadline:
        return f"until {at}, which was {for_long(now - deadline)} ago"
    return f"until {at}, {for_long(deadline - now)} from now"


def last_charge(facts: Facts, now: datetime | None) -> str:
    if facts.last_at is None:
        return ""
    at = facts.last_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now is None:
        return f"The last charge in it was at {at}."
    return f"The last charge in it was {for_long(now - facts.last_at)} ago, at {at}."
