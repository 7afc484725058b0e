"""Spend: the one function that every page, rule and criterion counts money with.

Per charge (`rail`, `charge`) spend is the greatest of captured and settled, minus refunded and reversed; without a
charge id each event counts once; only `outcome: success` in `live` counts. Amounts are integer minor units.

Money that several sources tell of is counted once: statements that share an identifying key (an idempotency key or a
request id at the same provider or rail, an invoice at its rail) are one payment, see `counted_together`. Where their
amounts differ the same rule of phases holds over all of them: the greatest of captured and settled.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from auditlog.core.join import MANY, Key

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
    keys: tuple[Key, ...] = ()  # by which it may be the money that another source tells of
    may_join: bool = True  # its source speaks within its layers: what it claims outside them makes nothing count less

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
    joined: tuple[str, ...] = ()  # all events that are counted in it, where they go by several names

    @property
    def spent_minor(self) -> int:
        return self.taken_minor - self.returned_minor


def charges(facts: Iterable[MoneyFact], together: "dict[Unit, Unit] | None" = None) -> list[Charge]:
    """Fold money events into charges. Order does not matter; a source that says the same twice counts once.

    Captures and settlements are statements of one amount (the greatest stands, whoever says it). Refunds are
    separate acts: summed per source, and of two sources that report them the one that saw more stands. A charge
    that moves in several currencies becomes one row a currency. `together` is what `counted_together` says of them.
    """
    facts = list({fact.event_id: fact for fact in facts}.values())
    together = counted_together(facts) if together is None else together
    grouped: dict[tuple[str, str, str], list[MoneyFact]] = {}
    for fact in facts:
        if fact.counts:
            grouped.setdefault((*together[fact.charge_key], fact.currency.upper()), []).append(fact)
    return [_folded(*key, members) for key, members in grouped.items()]


def _folded(rail: str, charge: str, currency: str, members: list[MoneyFact]) -> Charge:
    """One charge in one currency, of all that counts of it."""
    taken = authorized = 0
    returned: dict[str, int] = {}
    spent, reserved = [], []
    for member in members:
        if member.phase in SPENT:
            taken = max(taken, member.amount_minor)
            spent.append(member)
        elif member.phase == "authorized":
            authorized = max(authorized, member.amount_minor)
            reserved.append(member)
        elif member.phase in GIVEN_BACK:
            returned[member.source] = returned.get(member.source, 0) + member.amount_minor
    moving = spent or reserved or members
    return Charge(
        rail=rail,
        charge=charge,
        currency=currency,
        taken_minor=taken,
        returned_minor=min(taken, max(returned.values(), default=0)),
        authorized_minor=authorized,
        at=min(member.at for member in moving),
        lead=min(moving, key=lambda m: (not m.attributed, m.at, m.event_id)).event_id,
        has_spend=bool(spent),
        joined=tuple(sorted(m.event_id for m in members)) if len({m.charge_key for m in members}) > 1 else (),
    )


Unit = tuple[str, str]  # rail and charge; a statement without a charge id is a unit by itself


def counted_together(facts: Iterable[MoneyFact]) -> dict[Unit, Unit]:
    """By unit: the one it is counted with, itself where it stands alone. A function of the set, never of its order.

    Units are one payment when they are connected by keys that identify. A key does not where a source that speaks for
    money states it for two payments of the same phase, where it is stated for two charges of one rail, or by more than
    MANY statements; the same holds for all that is connected. In doubt money counts apart: a key can only be guessed
    to make a sum larger. Statements of one source alone are never joined: without a charge id each counts once.
    Credits are joined with nothing.
    """
    facts = list(facts)
    found = {fact.charge_key: fact.charge_key for fact in facts}
    if not any(fact.keys for fact in facts):
        return found
    told: dict[Unit, list[MoneyFact]] = {}
    by_key: dict[Key, list[MoneyFact]] = {}
    for fact in facts:
        if is_joinable(fact):
            told.setdefault(fact.charge_key, []).append(fact)
            for key in fact.keys:
                by_key.setdefault(key, []).append(fact)
    shared = [members for members in by_key.values() if len(members) > 1 and identifies(members)]
    if not shared:
        return found
    above = dict(found)

    def top(unit: Unit) -> Unit:
        while above[unit] != unit:
            above[unit] = unit = above[above[unit]]
        return unit

    for members in shared:
        first, *others = {fact.charge_key for fact in members}
        for other in others:
            above[top(other)] = top(first)
    groups: dict[Unit, list[Unit]] = {}
    for unit in found:
        groups.setdefault(top(unit), []).append(unit)
    for group in groups.values():
        members = [fact for unit in group for fact in told.get(unit, ())]
        if len(group) > 1 and len({fact.source for fact in members}) > 1 and _is_one(members):
            stands = min(group, key=lambda unit: (unit[1].startswith("event:"), unit))
            found |= dict.fromkeys(group, stands)
    return found


def is_joinable(fact: MoneyFact) -> bool:
    return fact.counts and fact.may_join and fact.phase in _MOVING and fact.rail != CREDIT_RAIL


def identifies(told: Iterable[MoneyFact]) -> bool:
    """Whether a key that these statements share names one payment."""
    told = list(told)
    return len(told) <= MANY and _is_one(told)


_MOVING = SPENT | GIVEN_BACK | {"authorized"}


def _is_one(told: list[MoneyFact]) -> bool:
    """Whether these can be statements of one payment: nobody tells two of them apart."""
    phases: dict[tuple[str, str], Unit] = {}
    rails: dict[str, str] = {}
    for fact in told:
        # Refunds are acts of their own: one payment may have several.
        if fact.phase not in GIVEN_BACK and phases.setdefault((fact.source, fact.phase), fact.charge_key) != fact.charge_key:
            return False
        if fact.charge and rails.setdefault(fact.rail, fact.charge) != fact.charge:
            return False
    return True


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
