"""Spend: the one function that every page, rule and criterion counts money with.

Per charge (`rail`, `charge`) spend is the greatest of captured and settled, minus refunded and reversed; without a
charge id each event counts once; only `outcome: success` in `live` counts. Amounts are integer minor units.

Money that several sources tell of is counted once: statements that share a key (an idempotency key or a
request id at the same provider or rail, an invoice at its rail) are one payment, see `counted_together`. Where their
amounts differ the same rule of phases holds over all of them: the greatest of captured and settled.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from auditlog.core.join import MANY, Key

SPENT = frozenset({"captured", "settled"})
GIVEN_BACK = frozenset({"refunded", "reversed"})
CREDIT_RAIL = "credits"
AGREED = timedelta(hours=1)


class MoneyFact(Struct, frozen=True):
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


class Charge(Struct, frozen=True):
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
        elif member.phase in GIVEN_BACK and member.may_join:  # a claim makes nothing count less
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

    Units are one payment where their statements share a key (`usable`), nobody tells two of them apart, and every two of
    the statements share a key, name one charge, or agree: the same amount within AGREED. So nobody's word alone makes two
    payments of others one, unless they look like one already; and what one source repeats or contradicts takes no join
    from the others: where it cannot all be one, that is joined which leaves the least to be counted twice. In doubt money
    counts apart. Statements of one source alone are never joined: without a charge id each counts once. Credits are
    joined with nothing.

    What remains to a source that may speak of money: to state more of its own, to state a greater amount or a refund for a
    charge that it names, and to confirm that two like payments within AGREED of each other are one.
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
    names: dict[str, set[Key]] = {}  # by event, the keys under which it may be joined
    links: set[tuple[Unit, Unit]] = set()
    for key, many in by_key.items():
        sharing = usable(many) if len(many) > 1 else []
        for fact in sharing:
            names.setdefault(fact.event_id, set()).add(key)
        units = sorted({fact.charge_key for fact in sharing})
        links.update((one, other) for n, one in enumerate(units) for other in units[n + 1 :])
    parts = {unit: [unit] for link in links for unit in link}
    taken = {unit: _taken(told[unit]) for unit in parts}
    for one, other in sorted(links, key=lambda link: (-_twice(taken[link[0]], taken[link[1]]), link)):
        left, right = parts[one], parts[other]
        if left is not right and _may_be_one([f for u in left for f in told[u]], [f for u in right for f in told[u]], names):
            left += right
            for unit in right:
                parts[unit] = left
    for group in parts.values():
        if len(group) > 1 and len({fact.source for unit in group for fact in told[unit]}) > 1:
            found[group[0]] = min(group, key=lambda unit: (unit[1].startswith("event:"), unit))
            found |= dict.fromkeys(group, found[group[0]])
    return found


def is_joinable(fact: MoneyFact) -> bool:
    return fact.counts and fact.may_join and fact.phase in _MOVING and fact.rail != CREDIT_RAIL


def usable(told: Iterable[MoneyFact]) -> list[MoneyFact]:
    """Of the statements that share a key, those for whose source it names one payment. One that tells two payments apart
    under it, or states it more than MANY times, is left out, and takes the key from nobody else.
    """
    by_source: dict[str, list[MoneyFact]] = {}
    for fact in told:
        by_source.setdefault(fact.source, []).append(fact)
    return [fact for own in by_source.values() if len(own) <= MANY and _is_one(own) for fact in own]


def _taken(told: Iterable[MoneyFact]) -> dict[str, int]:
    """By currency, what a unit by itself would count as."""
    most: dict[str, int] = {}
    for fact in told:
        if fact.phase in SPENT:
            currency = fact.currency.upper()
            most[currency] = max(most.get(currency, 0), fact.amount_minor)
    return most


def _twice(one: dict[str, int], other: dict[str, int]) -> int:
    """What would be counted twice if these were one and counted apart."""
    return sum(min(amount, other.get(currency, 0)) for currency, amount in one.items())


def _may_be_one(left: list[MoneyFact], right: list[MoneyFact], names: dict[str, set[Key]]) -> bool:
    return _is_one([*left, *right]) and all(
        not names.get(one.event_id, set()).isdisjoint(names.get(other.event_id, ())) or _agree(one, other) for one in left for other in right
    )


def _agree(one: MoneyFact, other: MoneyFact) -> bool:
    return one.amount_minor == other.amount_minor and one.currency.upper() == other.currency.upper() and abs(one.at - other.at) <= AGREED


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
