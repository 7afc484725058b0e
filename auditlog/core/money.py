"""Spend: the one function that every page, rule and criterion counts money with.

Per charge (`rail`, `charge`) spend is the greatest of captured and settled, minus refunded and reversed; without a
charge id each event counts once; only `outcome: success` in `live` counts. Amounts are integer minor units.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

SPENT = frozenset({"captured", "settled"})
GIVEN_BACK = frozenset({"refunded", "reversed"})
CREDIT_RAIL = "credits"


@dataclass(frozen=True, slots=True)
class MoneyFact:
    """One event with `money`, as the spend function needs it."""

    event_id: str
    source: str
    at: datetime
    phase: str
    amount_minor: int
    currency: str
    rail: str
    charge: str
    counts: bool  # outcome success and environment live
    attributed: bool  # the event leads to a grant

    @property
    def charge_key(self) -> tuple[str, str]:
        return (self.rail, self.charge or f"event:{self.event_id}")


@dataclass(frozen=True, slots=True)
class Charge:
    """What one charge came to. `lead` is the event whose chain answers for it; `at` when money first moved."""

    rail: str
    charge: str
    currency: str
    taken_minor: int
    returned_minor: int
    authorized_minor: int
    at: datetime
    lead: str
    has_spend: bool

    @property
    def spent_minor(self) -> int:
        return self.taken_minor - self.returned_minor


def charges(facts: Iterable[MoneyFact]) -> list[Charge]:
    """Fold money events into charges. Order does not matter; a source that says the same twice counts once.

    Captures and settlements are statements of one amount (the greatest stands, whoever says it). Refunds are
    separate acts: summed per source, and of two sources that report them the one that saw more stands. A charge
    that moves in several currencies becomes one row a currency.
    """
    grouped: dict[tuple[str, str, str], list[MoneyFact]] = {}
    for fact in facts:
        if fact.counts:
            grouped.setdefault((*fact.charge_key, fact.currency.upper()), []).append(fact)
    folded = []
    for (rail, charge, currency), members in grouped.items():
        taken = max((m.amount_minor for m in members if m.phase in SPENT), default=0)
        authorized = max((m.amount_minor for m in members if m.phase == "authorized"), default=0)
        returned: dict[str, int] = {}
        for member in members:
            if member.phase in GIVEN_BACK:
                returned[member.source] = returned.get(member.source, 0) + member.amount_minor
        moving = [m for m in members if m.phase in SPENT] or [m for m in members if m.phase == "authorized"] or members
        first = min(moving, key=lambda m: (m.at, m.event_id))
        lead = min(moving, key=lambda m: (not m.attributed, m.at, m.event_id))
        folded.append(
            Charge(
                rail=rail,
                charge=charge,
                currency=currency,
                taken_minor=taken,
                returned_minor=min(taken, max(returned.values(), default=0)),
                authorized_minor=authorized,
                at=first.at,
                lead=lead.event_id,
                has_spend=any(m.phase in SPENT for m in members),
            )
        )
    return folded


def interval_start(at: datetime, interval: str) -> datetime | None:
    """Start of the calendar interval that holds `at`, in `at`'s own zone; None for `once` (no beginning).

    Weeks start on Monday (ISO 8601).
    """
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case "day":
            return day
        case "week":
            return day.fromordinal(day.toordinal() - day.weekday()).replace(tzinfo=at.tzinfo)
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case "once":
            return None
    raise ValueError(f"unknown interval {interval!r}")


def amount_text(amount_minor: int, currency: str) -> str:
    """`12.00 USD`; decimals as ISO 4217 lists them for the currencies that differ from two."""
    places = _PLACES.get(currency.upper(), 2)
    if places == 0:
        return f"{amount_minor:,} {currency}"
    sign = "-" if amount_minor < 0 else ""
    whole, rest = divmod(abs(amount_minor), 10**places)
    return f"{sign}{whole:,}.{rest:0{places}d} {currency}"


_PLACES = dict.fromkeys(["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"], 0) | dict.fromkeys(
    ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3
)
