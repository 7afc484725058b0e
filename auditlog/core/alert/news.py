"""What is news of an incident, against what a channel was told of it last. Nothing repeats without news.

It is news that an incident opened, that it opened again, that it became worse, that its money or its findings grew by a
step that matters, that the time in which it can be undone ends soon, and that nobody took it up. That it was taken or
closed is told to programs that keep a state of their own, and to nobody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from auditlog.core.amount import amount_text
from auditlog.core.incident import rank_of
from auditlog.core.text import visible

TIMES = (
    2  # money and findings are told of again when they are this many times what was told: a hundredfold is seven alerts
)
LEAST_MORE = 3  # findings: 2 instead of 1 is no news
SOON = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Facts:
    """An incident as an alert may tell it. What senders and agents wrote is in `title`, `principal` and `actors` alone,
    and in the codes of currencies.
    """

    ref: str
    severity: str
    findings: int
    events: int
    is_open: bool
    has_owner: bool = False
    over: Mapping[str, int] = field(default_factory=dict)  # by currency: what was too much, in minor units
    rules: tuple[str, ...] = ()
    desks: tuple[str, ...] = ()
    undo_until: datetime | None = None  # the last of `undo_ends`
    undo_ends: tuple[datetime, ...] = ()  # in order; empty where there is only the one above, or none
    is_away: bool = False  # somebody took it out of the queue
    away_until: datetime | None = None
    title: str = ""
    principal: str = ""
    actors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What a channel knows of an incident. `over` and `findings` are those of the last alert, not of the last look."""

    severity: str
    findings: int
    is_open: bool
    over: Mapping[str, int] = field(default_factory=dict)
    undo_told: datetime | None = None  # the end that was announced

    def as_json(self) -> dict[str, Any]:
        at = self.undo_told.isoformat() if self.undo_told else None
        return {
            "severity": self.severity,
            "findings": self.findings,
            "is_open": self.is_open,
            "over": dict(self.over),
            "undo_told": at,
        }


def told_in(data: Mapping[str, Any]) -> Told:
    at = data.get("undo_told")
    over = {str(currency): int(amount) for currency, amount in (data.get("over") or {}).items()}
    return Told(data["severity"], data["findings"], data["is_open"], over, datetime.fromisoformat(at) if at else None)


class News(NamedTuple):
    """One thing that is new, in a word and in a sentence of ours."""

    what: str  # opened | reopened | severity | money | findings | due_soon | escalated
    words: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which incidents a channel is for. What is not stated is not more than nothing: an unknown amount reaches no least
    amount.
    """

    severity: str = "info"
    desks: tuple[str, ...] = ()  # none: all
    least_minor: int | None = None
    currency: str = ""

    def takes(self, facts: Facts) -> bool:
        if rank_of(facts.severity) < rank_of(self.severity):
            return False
        if self.desks and not set(self.desks) & set(facts.desks):
            return False
        return self.least_minor is None or facts.over.get(self.currency, -1) >= self.least_minor


def news_of(told: Told | None, facts: Facts, *, now: datetime, escalated_from: str = "") -> tuple[News, ...]:
    """What is new since. Empty: nothing, and nothing is sent. Only an open incident is news, and none that somebody
    took out of the queue."""
    if not facts.is_open or is_put_away(facts, now=now):
        return ()
    news = []
    if told is None:
        news.append(News("opened", "New incident"))
    elif not told.is_open:
        news.append(News("reopened", "Open again"))
    else:
        if rank_of(facts.severity) > rank_of(told.severity):
            news.append(News("severity", f"Now {facts.severity}, was {told.severity}"))
        for currency, amount in sorted(facts.over.items()):
            before = told.over.get(currency, 0)
            if amount > 0 and amount >= TIMES * before:
                was = f", was {visible(amount_text(before, currency))}" if before else ""
                news.append(News("money", f"Now {visible(amount_text(amount, currency))} too much{was}"))
        if facts.findings >= max(TIMES * told.findings, told.findings + LEAST_MORE):
            news.append(News("findings", f"Now {facts.findings:,} findings, were {told.findings:,}"))
    if (end := due_soon(told, facts, now=now)) is not None:
        what = "Some of it can be undone" if end != facts.undo_until else "Can be undone"
        news.append(News("due_soon", f"{what} until {end:%Y-%m-%d %H:%M} UTC"))
    if escalated_from:
        news.append(News("escalated", f"Nobody took it up after {escalated_from} was told"))
    return tuple(news)


def is_put_away(facts: Facts, *, now: datetime) -> bool:
    return facts.is_away and (facts.away_until is None or facts.away_until > now)


def ends_of(facts: Facts) -> tuple[datetime, ...]:
    return facts.undo_ends or ((facts.undo_until,) if facts.undo_until is not None else ())


def due_soon(told: Told | None, facts: Facts, *, now: datetime) -> datetime | None:
    """The first end within SOON that was not announced. Each is announced once, in order."""
    ends = ends_of(facts)
    before = told.undo_told if told is not None and told.undo_told in ends else None
    return next((end for end in ends if now < end <= now + SOON and (before is None or end > before)), None)


def after(told: Told | None, facts: Facts, *, now: datetime) -> Told:
    """What the channel knows once these facts were told."""
    soon = due_soon(told, facts, now=now)
    return Told(
        facts.severity,
        facts.findings,
        facts.is_open,
        dict(facts.over),
        soon or (told.undo_told if told else None),
    )


def baseline(facts: Facts) -> Told:
    """What a channel that is new knows of an incident that was there before it: told of only as it grows."""
    return Told(facts.severity, facts.findings, facts.is_open, dict(facts.over), facts.undo_until)
