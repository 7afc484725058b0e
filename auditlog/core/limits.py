"""Limits in force, and spending counted against them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from auditlog.core.money import CREDIT_RAIL, interval_start


@dataclass(frozen=True, slots=True)
class LimitFact:
    """One thing said of a limit, by an event or inside a grant. `verb`: set | raised | lowered | reached | grant."""

    leaf_index: int
    event_id: str
    verb: str
    holder: str  # party key; "" unknown
    grant: str
    scope: str
    scope_id: str
    provider: str
    currency: str
    interval: str
    zone: str
    max_minor: int | None
    enforcement: str
    set_by: str
    at: datetime

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two statements speak of one limit: never its id."""
        bound = self.grant if self.verb == "grant" else ""
        return (self.holder, bound, self.scope, self.scope_id, self.provider, self.currency, self.interval)


@dataclass(frozen=True, slots=True)
class Spent:
    """One charge as limits see it (core.money.Charge with what it is attributed to)."""

    event_id: str
    leaf_index: int
    at: datetime
    provider: str
    currency: str
    spent_minor: int
    authorized_minor: int
    rail: str
    parties: frozenset[str]  # keys of all parties on its chain
    grants: frozenset[str]  # ids of all grants on its path
    session: str = ""
    task: str = ""
    project: str = ""
    joined: frozenset[str] = frozenset()  # all events counted in it, where they go by several names


def in_force(facts: Iterable[LimitFact], at: datetime) -> dict[tuple[str, ...], LimitFact]:
    """By limit key, the statement in force at `at`: the latest one by its own time that gives an amount."""
    latest: dict[tuple[str, ...], LimitFact] = {}
    for fact in facts:
        if fact.verb == "reached" or fact.at > at:
            continue
        before = latest.get(fact.key)
        if before is None or (fact.at, fact.leaf_index) >= (before.at, before.leaf_index):
            latest[fact.key] = fact
    return latest


@lru_cache(maxsize=512)
def zone_of(name: str) -> tzinfo:
    """The limit's zone; UTC when it states none, or one that nobody knows."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, KeyError, OSError):
        return UTC


def window_of(limit: LimitFact, at: datetime) -> datetime | None:
    """UTC start of the limit's interval that holds `at`; None for `once`."""
    start = interval_start(at.astimezone(zone_of(limit.zone)), limit.interval)
    return start.astimezone(UTC) if start else None


def binds(limit: LimitFact, spent: Spent) -> bool:
    """Whether a charge counts against a limit: within its grant or below its holder, at its provider, in its money."""
    if spent.currency != limit.currency or spent.rail == CREDIT_RAIL:
        return False
    if limit.provider and spent.provider != limit.provider:
        return False
    if limit.grant and limit.verb == "grant":
        if limit.grant not in spent.grants:
            return False
    elif limit.holder not in spent.parties:
        return False
    if limit.scope in ("session", "task", "project") and limit.scope_id:
        return getattr(spent, limit.scope) == limit.scope_id
    return True


@dataclass(frozen=True, slots=True)
class Crossing:
    """A limit and interval in which spending went over. `crossed_by` is the charge that did it."""

    limit: LimitFact
    provider: str  # of the bucket, for `provider` limits that hold for each provider separately
    start: datetime | None
    spent_minor: int
    crossed_by: Spent
    counted: tuple[Spent, ...]

    @property
    def over_minor(self) -> int:
        return self.spent_minor - (self.limit.max_minor or 0)


def crossings(facts: Sequence[LimitFact], spending: Sequence[Spent]) -> list[Crossing]:
    """Every limit and interval whose sum went over what was in force when a charge was made, earliest first."""
    ordered = sorted((s for s in spending if s.spent_minor > 0), key=lambda s: (s.at, s.leaf_index))
    by_key: dict[tuple[str, ...], list[LimitFact]] = {}
    for fact in facts:
        if fact.verb != "reached":
            by_key.setdefault(fact.key, []).append(fact)
    found: dict[tuple, _Over] = {}
    for key, versions in by_key.items():
        versions.sort(key=lambda f: (f.at, f.leaf_index))
        sums: dict[tuple, list[Spent]] = {}
        totals: dict[tuple, int] = {}
        for spent in ordered:
            limit = next((f for f in reversed(versions) if f.at <= spent.at), None)
            if limit is None or limit.max_minor is None or not binds(limit, spent):
                continue
            each = spent.provider if limit.scope == "provider" and not limit.provider else limit.provider
            bucket = (key, each, window_of(limit, spent.at))
            counted = sums.setdefault(bucket, [])
            counted.append(spent)
            totals[bucket] = total = totals.get(bucket, 0) + spent.spent_minor
            if total > limit.max_minor:
                crossed_by = found[bucket].crossed_by if bucket in found else spent
                found[bucket] = _Over(limit, each, bucket[2], total, crossed_by, counted, len(counted))
    crossed = [Crossing(o.limit, o.provider, o.start, o.total, o.crossed_by, tuple(o.counted[: o.upto])) for o in found.values()]
    return sorted(crossed, key=lambda c: (c.crossed_by.at, c.limit.leaf_index))


class _Over(NamedTuple):
    """A crossing while it grows: `counted` is still being added to, and its first `upto` are what went over."""

    limit: LimitFact
    provider: str
    start: datetime | None
    total: int
    crossed_by: Spent
    counted: list[Spent]
    upto: int
