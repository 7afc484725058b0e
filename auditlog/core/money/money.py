"""Money as statements tell it: amounts, the book each belongs to, and which of them are statements of one unit.

Amounts are exact: integers in minor units where they can be, else decimals of minor units. What units come to is counted
in `core.books`. Statements that share a key (an idempotency key or a request id at the same provider or rail, an invoice
at its rail) are one payment or one reading, see `counted_together`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from msgspec import Struct

from auditlog.core.amount import amount_text, interval_start, minor, whole
from auditlog.core.money.join import MANY, Key

__all__ = [
    "AGREED",
    "CREDIT_RAIL",
    "GIVEN_BACK",
    "RESTORED",
    "SPENT",
    "MoneyFact",
    "Unit",
    "amount_text",
    "book_of",
    "counted_together",
    "failed_refund",
    "interval_start",
    "is_joinable",
    "minor",
    "on_its_rail",
    "phase_of",
    "releases",
    "usable",
    "whole",
]

SPENT = frozenset({"captured", "settled"})
RESTORED = "restored"  # a refund that was told of and failed: what it gave back is the seller's again
GIVEN_BACK = frozenset({"refunded", "reversed", "withdrawn", "reinstated", RESTORED})
CREDIT_RAIL = "credits"
AGREED = timedelta(hours=1)

_BOOKS = {
    "payment.captured": "paid", "payment.settled": "paid", "invoice.paid": "paid", "payment.refunded": "returned",
    "dispute.funds_withdrawn": "returned", "dispute.funds_reinstated": "returned", "payment.authorized": "held",
    "invoice.issued": "billed", "invoice.voided": "billed", "invoice.credited": "billed",
}  # fmt: skip
# What tells of no deed: what was refused, promised or only watched.
_NO_DEED = (
    "payment.",
    "invoice.",
    "dispute.",
    "budget.",
    "limit.",
    "delegation.",
    "token.",
    "consent.",
    "mandate.",
    "approval.",
    "session.",
)
_UNDONE = (".failed", ".denied", ".searched", ".checked", "_failed", ".ended", ".reached")
_IN_NO_BOOK = frozenset({"quoted", "ceiling", "authorized", "disputed"})
_PHASES = {
    "payment.captured": "captured", "payment.settled": "settled", "payment.authorized": "authorized",
    "dispute.funds_withdrawn": "withdrawn", "dispute.funds_reinstated": "reinstated",
}  # fmt: skip


def book_of(event_type: str, phase: str) -> str:
    """The book that money in an event of this type belongs to: incurred | billed | paid | returned | held; "" none.

    The type decides, not `phase` (`DESIGN.md` section 4.1): a price that was only quoted or held is in no book.
    """
    if event_type in _BOOKS:
        return _BOOKS[event_type]
    if phase in _IN_NO_BOOK or event_type.startswith(_NO_DEED) or event_type.endswith(_UNDONE):
        return ""
    return "incurred"


def phase_of(event_type: str, phase: str) -> str:
    """What the statement tells of: of a payment its phase, of an act or invoice its type."""
    if event_type == "payment.refunded":
        return phase if phase in ("reversed", RESTORED) else "refunded"
    if event_type == "invoice.credited" and phase == RESTORED:
        return RESTORED
    return _PHASES.get(event_type, event_type)


def failed_refund(event_type: str, outcome: str, phase: str) -> bool:
    """Whether it tells of a refund that failed after it had been told of: the money is taken (`captured`) again; or of a
    credit that was taken back: the money is owed again. A refund that only did not come about says no such phase, and
    moves nothing.
    """
    return event_type in ("payment.refunded", "invoice.credited") and outcome == "failure" and phase == "captured"


def releases(event_type: str, outcome: str) -> bool:
    """Whether it tells that a payment came to nothing: what was held for it is held no more, and nothing moves."""
    return event_type == "payment.failed" and outcome not in ("pending", "unknown")


class MoneyFact(Struct, frozen=True):
    """One event with money, as the books need it. Amounts are exact, in minor units of `currency`."""

    event_id: str
    source: str
    at: datetime
    phase: str  # what the type says: captured, settled, refunded, reversed, withdrawn, reinstated, authorized; else the type
    amount: Decimal
    currency: str
    rail: str
    charge: str
    counts: bool  # outcome success, environment live, and its source may say so
    attributed: bool  # the event leads to a grant
    keys: tuple[Key, ...] = ()  # by which it may be the money that another statement tells of
    type: str = "payment.captured"
    book: str = "paid"  # core.money.book_of
    invoice: str = ""
    subscription: str = ""
    period_from: datetime | None = None
    period_to: datetime | None = None
    principal: str = ""
    actor: str = ""
    provider: str = ""
    payee: str = ""
    account: str = ""
    thing_type: str = ""
    thing: str = ""
    grant: str = ""
    session: str = ""
    task: str = ""
    project: str = ""
    authority: str = ""
    payment: str = ""  # what the charge is part of at its rail

    @property
    def charge_key(self) -> tuple[str, str]:
        return (self.rail, self.charge or f"event:{self.event_id}")

    @property
    def is_invoice(self) -> bool:
        """Whether it tells of an invoice and not of one payment; also a refund that names an invoice and no charge."""
        return (
            self.book == "billed"
            or self.type.startswith("invoice.")
            or (self.book == "returned" and not self.charge and self.invoice != "")
        )

    @property
    def invoice_keys(self) -> tuple[Key, ...]:
        return tuple(key for key in self.keys if key.kind == "invoice")


def on_its_rail(facts: Iterable[MoneyFact]) -> list[MoneyFact]:
    """Statements that name a charge and no rail, on the one rail where that principal's charge is known. An invoice has an
    id of its own.
    """
    facts = list(facts)
    unsaid = {fact.charge for fact in facts if fact.charge and not fact.rail and not fact.is_invoice}
    rails: dict[str, set[tuple[str, str]]] = {}
    for fact in facts if unsaid else ():
        if fact.rail and fact.charge in unsaid:
            rails.setdefault(fact.charge, set()).add((fact.rail, fact.principal))
    found = []
    for fact in facts:
        known = rails.get(fact.charge, set()) if fact.charge and not fact.rail and not fact.is_invoice else set()
        if len({rail for rail, _ in known}) == 1 and (
            not fact.principal or {p for _, p in known} & {"", fact.principal}
        ):
            fact = msgspec.structs.replace(fact, rail=next(iter(known))[0])
        found.append(fact)
    return found


Unit = tuple[str, str]  # rail and charge; a statement without a charge id is a unit by itself


def counted_together(facts: Iterable[MoneyFact]) -> dict[Unit, Unit]:
    """By unit: the one it is counted with, itself where it stands alone. A function of the set, never of its order.

    For statements of one book. Units are one where their statements share a key (`usable`), nobody tells two of them
    apart, and every two of the statements share a key, name one charge, or agree: the same amount within AGREED. So
    nobody's word alone makes two payments of others one, unless they look like one already; and what one source repeats
    or contradicts takes no join from the others: where it cannot all be one, that is joined which leaves the least to be
    counted twice. In doubt money counts apart. Two statements of one source are one where they are of different phases
    or types and share an idempotency key, or a request and the amount. Credits are joined with nothing.

    What remains to a source that may speak of money: to state more of its own, to state a greater amount or a refund for a
    charge that it names, and to confirm that two like payments within AGREED of each other are one.
    """
    facts = list(facts)
    found = {fact.charge_key: fact.charge_key for fact in facts}
    if not any(_unit_keys(fact) for fact in facts):
        return found
    told: dict[Unit, list[MoneyFact]] = {}
    by_key: dict[Key, list[MoneyFact]] = {}
    for fact in facts:
        if is_joinable(fact):
            told.setdefault(fact.charge_key, []).append(fact)
            for key in _unit_keys(fact):
                by_key.setdefault(key, []).append(fact)
    names: dict[str, set[Key]] = {}  # by event, the keys under which it may be joined
    links: set[tuple[Unit, Unit]] = set()
    for key, many in by_key.items():
        for sharing in map(usable, _runs(many) if key.kind == "thing" else [many]) if len(many) > 1 else ():
            for fact in sharing:
                names.setdefault(fact.event_id, set()).add(key)
            units = sorted({fact.charge_key for fact in sharing})
            links.update((one, other) for n, one in enumerate(units) for other in units[n + 1 :])
    parts = {unit: [unit] for link in links for unit in link}
    taken = {unit: _taken(told[unit]) for unit in parts}
    for one, other in sorted(links, key=lambda link: (-_twice(taken[link[0]], taken[link[1]]), link)):
        left, right = parts[one], parts[other]
        if left is not right and _may_be_one(
            [f for u in left for f in told[u]], [f for u in right for f in told[u]], names
        ):
            left += right
            for unit in right:
                parts[unit] = left
    for group in parts.values():
        if len(group) > 1:
            found[group[0]] = min(group, key=lambda unit: (unit[1].startswith("event:"), unit))
            found |= dict.fromkeys(group, found[group[0]])
    return found


def _unit_keys(fact: MoneyFact) -> list[Key]:
    """Keys that can make two statements one unit. An invoice names one payment, perhaps, but many readings."""
    kinds = ("idempotency", "request", "thing") if fact.book == "incurred" else ("idempotency", "request", "invoice")
    return [key for key in fact.keys if key.kind in kinds]


def _runs(told: Iterable[MoneyFact]) -> list[list[MoneyFact]]:
    """Statements of the making of one thing, apart where more than AGREED lies between two: it may be made again."""
    found: list[list[MoneyFact]] = []
    for fact in sorted(told, key=lambda f: (f.at, f.event_id)):
        if found and fact.at - found[-1][-1].at <= AGREED:
            found[-1].append(fact)
        else:
            found.append([fact])
    return found


def is_joinable(fact: MoneyFact) -> bool:
    return fact.counts and fact.rail != CREDIT_RAIL


def usable(told: Iterable[MoneyFact]) -> list[MoneyFact]:
    """Of the statements that share a key, those for whose source it names one payment. One that tells two payments apart
    under it, or states it more than MANY times, is left out, and takes the key from nobody else.
    """
    by_source: dict[str, list[MoneyFact]] = {}
    for fact in told:
        by_source.setdefault(fact.source, []).append(fact)
    return [fact for own in by_source.values() if len(own) <= MANY and _is_one(own) for fact in own]


def _taken(told: Iterable[MoneyFact]) -> dict[str, Decimal]:
    """By currency, what a unit by itself would count as."""
    most: dict[str, Decimal] = {}
    for fact in told:
        if fact.book in ("paid", "incurred"):
            most[fact.currency] = max(most.get(fact.currency, Decimal(0)), fact.amount)
    return most


def _twice(one: dict[str, Decimal], other: dict[str, Decimal]) -> Decimal:
    """What would be counted twice if these were one and counted apart."""
    return sum((min(amount, other.get(currency, Decimal(0))) for currency, amount in one.items()), Decimal(0))


def _may_be_one(left: list[MoneyFact], right: list[MoneyFact], names: dict[str, set[Key]]) -> bool:
    return _is_one([*left, *right]) and all(_may_pair(one, other, names) for one in left for other in right)


def _may_pair(one: MoneyFact, other: MoneyFact, names: dict[str, set[Key]]) -> bool:
    shared = names.get(one.event_id, set()) & names.get(other.event_id, set())
    if not shared or all(key.kind == "thing" for key in shared):
        apart = one.account and other.account and one.account != other.account  # a name means one thing in one account
        return _agree(one, other) and not (apart and shared)
    if one.source != other.source or any(key.kind == "idempotency" for key in shared):
        return True
    return one.amount == other.amount and one.currency == other.currency  # one request may make several things


def _agree(one: MoneyFact, other: MoneyFact) -> bool:
    return one.amount == other.amount and one.currency == other.currency and abs(one.at - other.at) <= AGREED


def _is_one(told: list[MoneyFact]) -> bool:
    """Whether these can be statements of one payment or reading: nobody tells two of them apart."""
    if len({fact.principal for fact in told} - {""}) > 1:
        return False
    phases: dict[tuple[str, str], Unit] = {}
    rails: dict[str, str] = {}
    for fact in told:
        # Refunds are acts of their own: one payment may have several.
        if (
            fact.phase not in GIVEN_BACK
            and phases.setdefault((fact.source, fact.phase), fact.charge_key) != fact.charge_key
        ):
            return False
        if fact.charge and rails.setdefault(fact.rail, fact.charge) != fact.charge:
            return False
    return True
