"""Exposure over time: what could still be charged at the end of each day. Pure.

Per payment authority the larger of its unused ceiling and its open authorizations; authorizations without an
authority stand for themselves. Currencies are never added to one another.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta

Ceiling = tuple[str, str, int, datetime, datetime | None]  # authority, currency, minor units, granted, ended
Use = tuple[str, str, int, datetime]  # authority, currency, minor units, at
Hold = tuple[str, str, int, datetime, datetime | None]  # authority, currency, minor units, opened, closed


def is_open(opened: datetime | None, closed: datetime | None, at: datetime) -> bool:
    """Whether a hold is open at `at`: from its first authorization until it was captured, released or too old, by the books
    (core.books, which say both times). Every page, limit and verdict asks here, or the database the same."""
    return opened is not None and opened <= at and (closed is None or at < closed)


def exposure_at(
    at: datetime, ceilings: Iterable[Ceiling], uses: Iterable[Use], holds: Iterable[Hold]
) -> dict[str, int]:
    """Minor units by currency at the instant `at`."""
    used: dict[tuple[str, str], int] = defaultdict(int)
    for authority, currency, amount, when in uses:
        if when <= at:
            used[authority, currency] += amount
    unused: dict[tuple[str, str], int] = {}
    for authority, currency, amount, granted, ended in ceilings:
        if granted <= at and (ended is None or at < ended):
            unused[authority, currency] = max(0, amount - used[authority, currency])
    open_holds: dict[tuple[str, str], int] = defaultdict(int)
    for authority, currency, amount, opened, closed in holds:
        if is_open(opened, closed, at):
            open_holds[authority, currency] += amount
    exposed: dict[str, int] = defaultdict(int)
    for authority, currency in unused.keys() | open_holds.keys():
        held = open_holds.get((authority, currency), 0)
        exposed[currency] += max(unused.get((authority, currency), 0), held) if authority else held
    return dict(exposed)


def exposure_by_day(
    days: Sequence[date],
    ceilings: Sequence[Ceiling],
    uses: Sequence[Use],
    holds: Sequence[Hold],
    *,
    now: datetime,
) -> list[tuple[date, str, int]]:
    """(day, currency, minor units) at the end of each UTC day, of today as of `now`."""
    currencies = sorted({row[1] for row in (*ceilings, *holds)})
    found = []
    for day in days:
        end = min(now, datetime.combine(day + timedelta(days=1), time(), UTC))
        exposed = exposure_at(end, ceilings, uses, holds)
        found += [(day, currency, exposed.get(currency, 0)) for currency in currencies]
    return found
