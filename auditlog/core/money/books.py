"""Books: what was spent, each obligation counted once (`DESIGN.md` section 4.1). The one function behind every figure.

Money is stated in three books: *incurred* (usage, an agreed price), *billed* (an invoice) and *paid*. Units of one book
add; a later book covers an earlier one and never adds to it. The road from statements to lines:

1. statements -> units: one charge at its rail, one invoice, one reading (`core.money.counted_together`);
2. units -> obligations: a later unit covers the earlier ones that it shares a key with, or that an invoice names;
3. invoices cover what was metered in their period, or since the invoice before; top-ups are drawn down;
4. a payment that equals an open obligation is *perhaps the same*: then spend is a range;
5. obligations -> lines: each act keeps what it incurred, and what a bill has more is the bill's own line.

Everything is a function of the set of statements, never of their order. Amounts are exact, in minor units.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from msgspec import Struct

from auditlog.core.money.join import MANY, Key
from auditlog.core.money.money import CREDIT_RAIL, RESTORED, MoneyFact, Unit, counted_together, on_its_rail

ZERO = Decimal(0)
_LATER_WORD = {"held": 1, "returned": 2}  # what speaks for a line only where nothing else does
GRAIN = Decimal("1e-12")  # of a minor unit: what shares are rounded to; what is left over goes to the last one
TAX = Decimal("1.25")  # policy: a payment may be this much above or below what it pays for (tax, fees)
NEAR = timedelta(days=5)  # policy: and so far from it
SAME_READING = timedelta(minutes=10)  # policy: two meters of one call
HOLD_ENDS = timedelta(days=7)  # policy
MOST_PAIRS = 250_000  # of payments and open obligations of one principal that are looked at one by one
AHEAD = timedelta(days=1)  # a period that begins before this much after the invoice was issued does not lie ahead
IN_ADVANCE = frozenset({"balance", "wallet", "credits", "credit", "prepaid"})


class Line(Struct, frozen=True):
    """One line of the books: what one unit came to, whose it is, and when it counts. Amounts in minor units."""

    rail: str
    unit: str  # charge id, `event:<id>` or `invoice:<id>`
    currency: str
    book: str  # incurred | billed | paid | held; returned: a refund of what nobody told of
    lead: str  # the event whose chain answers for it
    at: datetime
    spent: Decimal  # the lower bound, what came back taken off
    at_most: Decimal  # the upper bound: more than `spent` where another statement is perhaps the same money
    returned: Decimal = ZERO
    returns: tuple[tuple[datetime, Decimal], ...] = ()  # when how much of it came back, oldest first
    held: Decimal = ZERO  # authorized beyond what the line counts already, while it is open
    held_from: datetime | None = None
    held_until: datetime | None = None
    events: tuple[str, ...] = ()  # all statements counted in it, in order of time
    role: str = ""  # what else of its principal may bear on it: open | meter | loose | bill | pool; "" nothing
    source: str = ""  # of the lead
    principal: str = ""
    actor: str = ""
    provider: str = ""
    payee: str = ""
    account: str = ""
    grant: str = ""
    session: str = ""
    task: str = ""
    project: str = ""
    authority: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.rail, self.unit, self.book, self.currency)

    @property
    def has_spend(self) -> bool:
        return self.book not in ("held", "returned")


@dataclass(slots=True, eq=False)
class _Entry:
    """One unit while the books are made."""

    book: str  # incurred | billed | paid
    name: Unit
    facts: list[MoneyFact]  # those that tell of it, oldest first
    currency: str = ""
    amount: Decimal = ZERO  # of an invoice: what was billed; none of it once voided
    paid: Decimal = ZERO  # of an invoice: what `invoice.paid` says
    back: list[MoneyFact] = field(default_factory=list)  # what tells of money given back
    credited: list[MoneyFact] = field(default_factory=list)  # of an invoice: what tells that part of it is owed no more
    holds: list[MoneyFact] = field(default_factory=list)
    covers: "list[_Entry]" = field(default_factory=list)
    by: "list[_Entry]" = field(default_factory=list)  # what covers it
    beside: "list[_Entry]" = field(
        default_factory=list
    )  # of the same obligation, though neither covers the other: a hold and its act
    is_void: bool = False
    taken: Decimal = ZERO  # of a reading: what invoices that name nothing took of it
    known: set[int] = field(default_factory=set)  # ids of what it covers

    @property
    def returns(self) -> list[tuple[datetime, Decimal]]:
        """When how much came back: of a charge that only its act tells of, at most what the act cost; of what an invoice was
        credited with, at most what nobody has paid of it.
        """
        taken = max(self.amount, self.paid)
        given = self.back
        if not _moves(self) and any(_moves(e) for e in self.beside):
            # A hold that was let go gives nothing back of what was captured of it, were it captured afterwards.
            given = [f for f in given if f.phase != "reversed"]
        back = _given_back(
            given, taken if _moves(self) or self.book == "billed" else sum((e.amount for e in self.beside), ZERO)
        )
        if self.credited:
            paid = max(self.paid, sum((e.amount for e in self.covers if e.book == "paid"), ZERO))
            back += _given_back(self.credited, max(self.amount - paid, ZERO))
        return sorted(back)

    @property
    def at(self) -> datetime:
        """When it was done, billed or taken; of what was only held or given back, when that was."""
        return next((f.at for f in self.facts if f.book in ("incurred", "billed", "paid")), self.facts[0].at)

    lead: MoneyFact = field(init=False)
    words: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What was taken or held speaks for it, before what came back.
        self.lead = min(self.facts, key=lambda f: (not f.attributed, f.book == "returned", f.at, f.event_id))

    def said(self, name: str) -> str:
        """What it says of this field: its lead, else the first that says anything."""
        found = self.words.get(name)
        if found is None:
            found = self.words[name] = getattr(self.lead, name) or next(
                (v for f in self.facts if (v := getattr(f, name))), ""
            )
        return found

    @property
    def sellers(self) -> set[str]:
        return {self.said("payee"), self.said("provider")} - {""}

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(key for fact in self.facts for key in fact.keys)

    @property
    def seller(self) -> str:
        return self.said("payee") or self.said("provider")

    @property
    def is_usage(self) -> bool:
        return self.book == "incurred" and all(f.type == "usage.metered" for f in self.facts)

    @property
    def rest(self) -> Decimal:
        """What an invoice that was used up by it left of it."""
        return self.amount - self.taken if self.taken else ZERO

    @property
    def is_topup(self) -> bool:
        return any(f.thing_type.lower() in IN_ADVANCE or f.thing.lower() in IN_ADVANCE for f in self.facts)

    def cover(self, other: "_Entry") -> None:
        if id(other) not in self.known:
            self.known.add(id(other))
            self.covers.append(other)
            other.by.append(self)


def books(facts: Iterable[MoneyFact]) -> list[Line]:
    """Every line that these statements come to. `facts` may repeat and come in any order."""
    counted = sorted({f.event_id: f for f in facts if f.counts and f.book}.values(), key=_in_time)
    counted = on_its_rail(counted)
    credits = [f for f in counted if f.rail == CREDIT_RAIL]
    money = [f for f in counted if f.rail != CREDIT_RAIL]
    found: list[Line] = []
    for some, joins in ((credits, False), (money, True)):
        entries = _entries(some, joins=joins)
        if joins:
            _cover_by_keys(entries)
            _cover_by_invoices(entries)
        drawn = _drawn_down(entries) if joins else {}
        obligations = _obligations(entries)
        for one in obligations:
            one.settle(drawn)
        if joins:
            _doubt(obligations)
        for one in obligations:
            found += one.lines()
    return sorted(found, key=lambda line: (line.at, line.key))


def _in_time(fact: MoneyFact) -> tuple[datetime, str]:
    return fact.at, fact.event_id


# --- 1. units -------------------------------------------------------------------------------------------------------


def _entries(facts: Sequence[MoneyFact], *, joins: bool) -> list[_Entry]:
    """One entry a unit. Refunds, chargebacks and holds belong to the charge that they name, or share a key with."""
    found: list[_Entry] = []
    moving = [f for f in facts if f.book in ("paid", "returned", "held") and not f.is_invoice]
    incurred = [f for f in facts if f.book == "incurred"]
    for book, some in (("paid", moving), ("incurred", incurred)):
        together = counted_together(some) if joins else {f.charge_key: f.charge_key for f in some}
        grouped: dict[Unit, list[MoneyFact]] = {}
        for fact in some:
            grouped.setdefault(together[fact.charge_key], []).append(fact)
        found += [_entry(book, own, some) for name, told in grouped.items() for own, some in _by_principal(name, told)]
    found += _invoices([f for f in facts if f.is_invoice])
    return sorted(found, key=lambda entry: (entry.at, entry.book, entry.name))


def _by_principal(name: Unit, told: list[MoneyFact]) -> list[tuple[Unit, list[MoneyFact]]]:
    """Spend belongs to one principal: who states another's charge in somebody else's name states one of its own."""
    names = list(dict.fromkeys(fact.principal for fact in told if fact.principal))
    if len(names) < 2:
        return [(name, told)]
    first = [fact for fact in told if fact.principal in ("", names[0])]
    return [
        (name, first),
        *(((name[0], f"{name[1]} of {other}"), [f for f in told if f.principal == other]) for other in names[1:]),
    ]


def _apart(one: _Entry, other: _Entry) -> bool:
    """Whether they are of two principals: no key makes one's act another's."""
    return bool(one.said("principal") and other.said("principal") and one.said("principal") != other.said("principal"))


def _entry(book: str, name: Unit, told: list[MoneyFact]) -> _Entry:
    """A charge or a reading. A source's later total corrects its earlier one; of several sources the greatest stands."""
    entry = _Entry(book, name, told)
    entry.holds = [f for f in told if f.book == "held"]
    taking = [f for f in told if f.book in ("paid", "incurred")]
    entry.currency = _one_currency(taking or told)
    entry.amount = _greatest_by_source([f for f in taking if f.currency == entry.currency])
    entry.back = [f for f in told if f.book == "returned" and f.currency == entry.currency]
    return entry


def _one_currency(told: Sequence[MoneyFact]) -> str:
    """A charge that is stated in several currencies is one: as it was settled, else as most of its sources say."""
    by_currency: dict[str, set[str]] = {}
    for fact in told:
        by_currency.setdefault(fact.currency, set()).add(fact.source)
    settled = {f.currency for f in told if f.phase == "settled"}
    return min(by_currency, key=lambda c: (c not in settled, -len(by_currency[c]), c))


def _greatest_by_source(told: Iterable[MoneyFact]) -> Decimal:
    latest: dict[tuple[str, str, str, str], MoneyFact] = {}
    for fact in told:  # in order of time
        # Without an id of its own a reading that is told again is told of as a second one (`counted_together`).
        mark = (fact.source, fact.type, fact.phase, fact.payment)
        before = latest.get(mark)
        if before is None or (fact.at, fact.amount, fact.event_id) >= (before.at, before.amount, before.event_id):
            latest[mark] = fact
    return max((fact.amount for fact in latest.values()), default=ZERO)


def _given_back(back: Sequence[MoneyFact], taken: Decimal) -> list[tuple[datetime, Decimal]]:
    """When how much came back. Refunds of one source add up, of several sources the one that saw more stands; a
    chargeback is provisional; all of it together is at most what was taken.
    """
    kinds: dict[bool, dict[str, list[MoneyFact]]] = {True: {}, False: {}}
    for fact in _standing(back):
        kinds[fact.phase in ("withdrawn", "reinstated")].setdefault(fact.source, []).append(fact)
    moves: list[tuple[datetime, Decimal]] = []
    for by_source in kinds.values():
        told = [
            [(f.at, -f.amount if f.phase in ("reinstated", RESTORED) else f.amount) for f in many]
            for many in by_source.values()
        ]
        moves += max(told, key=lambda many: (sum(amount for _, amount in many), many), default=[])
    found: list[tuple[datetime, Decimal]] = []
    raw = net = ZERO
    for at, amount in sorted(moves):
        raw += amount
        now = min(max(raw, ZERO), taken)
        if now != net:
            found.append((at, now - net))
            net = now
    return found


def _standing(back: Sequence[MoneyFact]) -> list[MoneyFact]:
    """What tells of money given back, less what is said of a failed refund twice, or of one that its source never told of."""
    found: list[MoneyFact] = []
    failed: set[tuple[str, str]] = set()
    left: dict[str, Decimal] = {}  # by source, what it says was refunded and has not failed
    for fact in sorted(back, key=lambda f: (f.at, f.phase == RESTORED, f.event_id)):
        if fact.phase == RESTORED:
            name = (fact.source, fact.thing or fact.event_id)
            if name in failed or left.get(fact.source, ZERO) < fact.amount:
                continue
            failed.add(name)
            left[fact.source] = left.get(fact.source, ZERO) - fact.amount
        elif fact.phase in ("refunded", "invoice.credited"):
            left[fact.source] = left.get(fact.source, ZERO) + fact.amount
        found.append(fact)
    return found


def _invoices(told: Sequence[MoneyFact]) -> list[_Entry]:
    """Invoices by their id where it means something; one without an id is known by its event alone."""
    above: dict[Key, Key] = {}

    def top(key: Key) -> Key:
        while above.setdefault(key, key) != key:
            above[key] = key = above[above[key]]
        return key

    for fact in told:
        names = sorted(fact.invoice_keys)
        for other in names[1:]:
            one, two = sorted((top(names[0]), top(other)))
            above[two] = one
    grouped: dict[Unit, list[MoneyFact]] = {}
    for fact in told:
        names = sorted(fact.invoice_keys)
        name = (top(names[0]).scope, f"invoice:{fact.invoice}") if names else (fact.rail, f"event:{fact.event_id}")
        grouped.setdefault(name, []).append(fact)
    return [_invoice(own, some) for name, facts in grouped.items() for own, some in _by_principal(name, facts)]


def _invoice(name: Unit, told: list[MoneyFact]) -> _Entry:
    entry = _Entry("billed", (told[0].rail, name[1]), told)
    issued, paid = [f for f in told if f.type == "invoice.issued"], [f for f in told if f.type == "invoice.paid"]
    entry.currency = _one_currency([*issued, *paid] or told)
    same = [f for f in told if f.currency == entry.currency]
    billed = _greatest_by_source(f for f in same if f.type == "invoice.issued")
    entry.paid = _greatest_by_source(f for f in same if f.type == "invoice.paid")
    entry.is_void = any(f.type == "invoice.voided" for f in told)
    # What was not paid of a voided one is owed no more, nor was it ever.
    entry.amount = entry.paid if entry.is_void or not issued else max(billed, entry.paid, ZERO)
    entry.credited = [f for f in same if f.type == "invoice.credited"] if not entry.is_void else []
    entry.back = [f for f in same if f.book == "returned" and f.type != "invoice.credited"]
    return entry


# --- 2. what covers what, by keys ------------------------------------------------------------------------------------

_STRONGEST_FIRST = ("charge", "idempotency", "request")


def _cover_by_keys(entries: Sequence[_Entry]) -> None:
    stating = _stating(entries)
    paid = [e for e in entries if e.book == "paid" and _moves(e)]
    for entry in paid:
        _cover_acts_of(entry, stating)
    for entry in entries:
        if entry.book == "paid" and not _moves(entry):
            for act in [*_acts_of(entry, stating), *_payments_of(entry, stating)]:
                entry.beside.append(act)
                act.beside.append(entry)
    covered = {key: [e for e in many if e.book != "billed"] for key, many in stating.items()}
    for entry in entries:
        if entry.book == "billed" and not (entry.is_void and not entry.amount):
            _cover_named(entry, covered)


def _stating(entries: Sequence[_Entry]) -> dict[Key, list[_Entry]]:
    """Entries by the keys they state. A call's id that one source states for very many acts names nothing to that source."""
    said: dict[Key, dict[str, dict[int, _Entry]]] = {}
    for entry in entries:
        for fact in entry.facts:
            keys = fact.keys + ((Key("charge", f"rail:{fact.rail}", fact.charge),) if fact.charge else ())
            for key in keys:
                said.setdefault(key, {}).setdefault(fact.source, {})[id(entry)] = entry
    found: dict[Key, list[_Entry]] = {}
    for key, by_source in said.items():
        named = {
            n: e
            for own in by_source.values()
            if len(own) <= MANY or key.kind in ("invoice", "subscription", "charge", "payment")
            for n, e in own.items()
        }
        found[key] = sorted(named.values(), key=lambda e: (e.at, e.book, e.name))
    return found


def _moves(entry: _Entry) -> bool:
    return any(f.book == "paid" for f in entry.facts)


def _charge_keys(entry: _Entry) -> set[Key]:
    return {Key("charge", f"rail:{f.rail}", f.charge) for f in entry.facts if f.charge}


def _cover_acts_of(payment: _Entry, stating: dict[Key, list[_Entry]]) -> None:
    """A payment covers the acts that it shares its strongest key with, in whatever currency they were priced."""
    if acts := _acts_of(payment, stating):
        for act in acts:
            payment.cover(act)
        return
    named = [e for key in sorted(payment.keys) if key.kind == "invoice" for e in stating.get(key, ())]
    if not any(e.book == "billed" for e in named):  # else the invoice covers them, and the payment is of it
        for entry in {id(e): e for e in named if e.book == "incurred"}.values():
            payment.cover(entry)
    for entry in () if payment.covers else _by_subscription(payment, stating):
        payment.cover(entry)
        return


def _acts_of(payment: _Entry, stating: dict[Key, list[_Entry]]) -> list[_Entry]:
    """The acts that it shares a charge with; failing that an idempotency key; failing that a request."""
    for kind in _STRONGEST_FIRST:
        keys = [
            k
            for k in sorted(payment.keys | _charge_keys(payment))
            if k.kind == kind and any(e is payment for e in stating.get(k, ()))
        ]
        acts = {id(e): e for k in keys for e in stating.get(k, ()) if e.book == "incurred" and not _apart(e, payment)}
        if len({e.said("principal") for e in acts.values()} - {""}) > 1:
            continue  # an id that two principals' acts share says nothing of whose act was paid for
        if kind == "request" and len(acts) > 1:
            acts = _paid_for(payment, acts)
        if acts:
            return list(acts.values())
    return []


def _payments_of(entry: _Entry, stating: dict[Key, list[_Entry]]) -> list[_Entry]:
    """What was taken of the payment that a hold or a refund names: the captures of an authorization, each a charge. Of a
    hold also what bears its idempotency key: what was held and what was taken may be numbered apart.
    """
    kinds = ("payment", "idempotency") if entry.holds else ("payment",)
    found = {
        id(e): e
        for k in sorted(entry.keys)
        if k.kind in kinds
        for e in stating.get(k, ())
        if e.book == "paid" and _moves(e) and not _apart(e, entry)
    }
    return list(found.values())


def _paid_for(payment: _Entry, acts: dict[int, _Entry]) -> dict[int, _Entry]:
    """Of the several acts of one request: the one whose price it is, where just one is; else all of them."""
    equal = {n: e for n, e in acts.items() if (e.amount, e.currency) == (payment.amount, payment.currency)}
    whole = sum((e.amount for e in acts.values()), ZERO)
    return equal if len(equal) == 1 and payment.amount < whole else acts


def _by_subscription(later: _Entry, stating: dict[Key, list[_Entry]]) -> list[_Entry]:
    """What the same subscription incurred for the same period; one that states none is of the period around its time."""
    found = []
    for key in sorted(k for k in later.keys if k.kind == "subscription"):
        for entry in stating.get(key, ()):
            if entry.book == "incurred" and not entry.by and _same_period(later, entry):
                found.append(entry)
    return sorted(found, key=lambda e: (abs(e.at - later.at), e.name))


def _same_period(one: _Entry, other: _Entry) -> bool:
    a, b = _period(one), _period(other)
    if a and b:
        return a[0] == b[0]
    begins, at = (a or b or (None,))[0], (other if a else one).at
    return abs(at - begins) <= NEAR if begins else abs(one.at - other.at) <= NEAR


def _period(entry: _Entry) -> tuple[datetime, datetime] | None:
    return next(((f.period_from, f.period_to) for f in entry.facts if f.period_from and f.period_to), None)


def _cover_named(invoice: _Entry, stating: dict[Key, list[_Entry]]) -> None:
    """What the invoice names: by its own id, a charge, a subscription and period. Payments that name it are restated by it."""
    for key in sorted(invoice.keys | _charge_keys(invoice)):
        for entry in stating.get(key, ()):
            if entry is invoice or entry.book == "billed" or _apart(entry, invoice):
                continue
            if (entry.book == "paid" and key.kind in ("invoice", "charge", "payment") and _moves(entry)) or (
                entry.book == "incurred" and key.kind in ("invoice", "charge") and entry.currency == invoice.currency
            ):
                invoice.cover(entry)
    for entry in _by_subscription(invoice, stating):
        if entry.currency == invoice.currency:
            invoice.cover(entry)
            break


# --- 3. what invoices and top-ups cover of what was metered -----------------------------------------------------------


def _fits(one: _Entry, other: _Entry) -> bool:
    """Whether two may be of one account at one seller; an unstated account fits."""
    a, b = one.said("account"), other.said("account")
    return _seller_fits(one, other) and one.currency == other.currency and (not a or not b or a == b)


def _seller_fits(one: _Entry, other: _Entry) -> bool:
    return not one.sellers.isdisjoint(other.sellers)


def _principal(entry: _Entry) -> str:
    return entry.said("principal") or next((p for e in (*entry.covers, *entry.by) if (p := e.said("principal"))), "")


def _cover_by_invoices(entries: Sequence[_Entry]) -> None:
    """Invoices that name nothing, by their period or since the invoice before; and things that they name."""
    invoices = [e for e in entries if e.book == "billed" and not e.is_void]
    usage: dict[tuple[str, str, str], list[_Entry]] = {}  # by principal, seller and currency, in order of time
    for entry in entries if invoices else ():
        if entry.is_usage and not entry.by:
            for seller in entry.sellers:
                usage.setdefault((entry.said("principal"), seller, entry.currency), []).append(entry)
    before: dict[tuple[str, str, str], list[_Entry]] = {}
    used: dict[tuple[str, str, str], list[_Entry]] = {}  # readings of which an invoice left a rest
    for invoice in invoices:
        principal, period = _principal(invoice), _period(invoice)
        places = [(principal, seller, invoice.currency) for seller in sorted(invoice.sellers)]
        names_acts = any(e.book == "incurred" for e in invoice.covers)
        if principal and not names_acts and not invoice.is_topup and not (period and is_ahead(invoice)):
            earlier = [e for place in places for e in before.get(place, ())[-20:] if _fits(invoice, e)]
            since = max((e.at for e in earlier), default=None)
            begins, ends = period or (since, invoice.at)
            mine = [
                e
                for place in places
                for e in _between(usage.get(place, []), begins, ends, is_period=period is not None)
            ]
            mine += [] if period else [e for place in places for e in used.get(place, ())]
            open_ = sorted(
                {
                    id(e): e for e in mine if (not e.by or e.rest or _billed_for(e, period)) and _fits(invoice, e)
                }.values(),
                key=lambda e: (e.at, e.name),
            )
            if thing := invoice.said("thing"):
                open_ = [e for e in open_ if e.said("thing") == thing] or open_
            for entry, part in ((e, e.amount - e.taken) for e in open_) if period else _up_to(invoice.amount, open_):
                invoice.cover(entry)
                entry.taken += part
                for place in places if entry.rest else ():
                    used.setdefault(place, []).append(entry)
        for place in places:
            before.setdefault(place, []).append(invoice)


def _billed_for(reading: _Entry, period: tuple[datetime, datetime] | None) -> bool:
    """Whether all that covers it are invoices of this very period: a fee and the usage may be billed apart, and which
    invoice is of which nobody says. Together they cover it.
    """
    return period is not None and all(bill.book == "billed" and _period(bill) == period for bill in reading.by)


def _between(many: list[_Entry], begins: datetime | None, ends: datetime, *, is_period: bool) -> list[_Entry]:
    """Of entries in order of time: those of a period, from its beginning; or after one invoice up to another."""
    side = bisect_left if is_period else bisect_right
    first = side(many, begins, key=lambda e: e.at) if begins else 0
    return many[first : side(many, ends, key=lambda e: e.at)]


def is_ahead(invoice: _Entry) -> bool:
    period = _period(invoice)
    return period is not None and period[0] >= invoice.at - AHEAD and period[1] > invoice.at


def _up_to(amount: Decimal, metered: Sequence[_Entry]) -> list[tuple[_Entry, Decimal]]:
    """The oldest that the amount pays for, and how much of each. The one in which it is used up it pays whole where it
    nearly does (tax), else in part.
    """
    found, left = [], amount
    for entry in metered:
        owed = entry.amount - entry.taken
        if owed > left:
            part = owed if owed <= TAX * left else left
            return [*found, (entry, part)] if part else found
        found.append((entry, owed))
        left -= owed
    return found


def _drawn_down(entries: Sequence[_Entry]) -> dict[int, Decimal]:
    """By id of an entry: how much of what was metered had been paid in advance, oldest first."""
    pools = [e for e in entries if (e.book == "paid" and _moves(e) and e.is_topup and not any(b.book == "billed" for b in e.by))
             or (e.book == "billed" and not e.is_void and (e.is_topup or is_ahead(e)))
             or (e.book == "incurred" and e.is_topup and not e.by)]  # fmt: skip
    usage: dict[tuple[str, str], list[_Entry]] = {}
    for entry in entries:
        if pools and entry.is_usage and not entry.by and entry.said("principal"):
            usage.setdefault((entry.said("principal"), entry.currency), []).append(entry)
    drawn: dict[int, Decimal] = {}
    used: dict[tuple[str, str], list[int]] = {
        key: list(range(len(many) + 1)) for key, many in usage.items()
    }  # by place: the next not used up
    for pool in pools:
        key = (_principal(pool), pool.currency)
        many, following = usage.get(key, []), used.get(key, [])
        left = max(pool.amount - sum((amount for _, amount in pool.returns), ZERO), ZERO)
        period = _period(pool) if pool.book == "billed" else None
        place = bisect_left(many, period[0] if period else pool.at, key=lambda e: e.at)
        while (
            left
            and (place := _following(following, place)) < len(many)
            and not (period and many[place].at >= period[1])
        ):
            entry = many[place]
            if _fits(pool, entry):
                part = min(left, entry.amount - drawn.get(id(entry), ZERO))
                drawn[id(entry)] = drawn.get(id(entry), ZERO) + part
                left -= part
                if drawn[id(entry)] >= entry.amount:
                    following[place] = place + 1
            place += 1
    return drawn


def _following(following: list[int], place: int) -> int:
    """The first place from here on that is not used up."""
    seen = []
    while place < len(following) and following[place] != place:
        seen.append(place)
        place = following[place]
    for each in seen:
        following[each] = place
    return place


# --- 4. obligations ---------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Share:
    """What one entry counts for: what becomes a line."""

    entry: _Entry
    amount: Decimal  # before anything came back
    at: datetime
    doubt: Decimal = ZERO  # of `amount`: perhaps counted elsewhere already
    returns: list[tuple[datetime, Decimal]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Obligation:
    entries: list[_Entry]
    shares: list[_Share] = field(default_factory=list)
    currency: str = ""
    role: str = ""
    principal: str = ""

    def of(self, book: str) -> list[_Entry]:
        return [e for e in self.entries if e.book == book]

    @property
    def paid(self) -> list[_Entry]:
        return [e for e in self.of("paid") if _moves(e)]

    @property
    def is_open(self) -> bool:
        """Whether nobody says that it was paid."""
        return not self.paid and not any(e.paid for e in self.of("billed"))

    def _role(self) -> str:
        """What of its principal's other lines may bear on this one, or it on them. A key-closed obligation has none."""
        if any(e.is_topup or (e.book == "billed" and is_ahead(e)) for e in self.entries):
            return "pool"
        if self.of("billed"):
            return "bill"
        if self.paid:
            return "" if self.of("incurred") else "loose"
        if not self.of("incurred"):
            return ""
        return "meter" if any(e.is_usage for e in self.of("incurred")) else "open"

    @property
    def total(self) -> Decimal:
        return sum((share.amount for share in self.shares), ZERO)

    def _principal(self) -> str:
        return next(
            (
                p
                for e in sorted(self.entries, key=lambda e: (not e.lead.attributed, e.at))
                if (p := e.said("principal"))
            ),
            "",
        )

    def settle(self, drawn: dict[int, Decimal]) -> None:
        """Put what the obligation came to on its entries, each unit once."""
        self.role, self.principal = self._role(), self._principal()
        incurred, billed, paid = self.of("incurred"), self.of("billed"), self.paid
        later = [*billed, *paid]
        self.currency = (later or incurred or self.entries)[0].currency
        if not later:
            for entry in incurred:
                self.shares.append(_Share(entry, entry.amount - drawn.get(id(entry), ZERO), entry.at))
        elif billed:
            self._of_invoices(incurred, billed, paid)
        else:
            self._of_payments(incurred, paid)
        self._give_back()

    def _of_invoices(self, incurred: list[_Entry], billed: list[_Entry], paid: list[_Entry]) -> None:
        """Payments restate what they pay of an invoice; what is unpaid of it is still owed."""
        own = {
            id(p): [b for b in billed if id(p) in b.known]
            or [b for b in billed if any(id(act) in b.known for act in p.covers)]
            for p in paid
        }
        totals: list[tuple[_Entry, Decimal]] = []
        for invoice in billed:
            payments = sum((p.amount for p in paid if invoice in own[id(p)][:1]), ZERO)
            totals.append((invoice, max(invoice.amount, invoice.paid, payments)))
        beside = [(p, p.amount) for p in paid if not own[id(p)]]
        self._spread(incurred, totals, beside)

    def _of_payments(self, incurred: list[_Entry], paid: list[_Entry]) -> None:
        self._spread(incurred, [(p, p.amount) for p in paid], [])

    def _spread(
        self, incurred: list[_Entry], totals: list[tuple[_Entry, Decimal]], beside: list[tuple[_Entry, Decimal]]
    ) -> None:
        """Each act keeps what it incurred, scaled down if less was taken; what was taken beyond it is the later unit's."""
        total = sum((amount for _, amount in totals), ZERO)
        first = totals[0][0] if totals else None
        same = [e for e in incurred if e.currency == self.currency]
        other = [e for e in incurred if e.currency != self.currency]
        rest = sum((e.rest for e in same), ZERO)  # that no bill took
        asked = sum((e.amount for e in same), ZERO) - rest
        if (
            other and not same and first is not None
        ):  # priced in other money than it was taken in: it is its acts' all the same
            same, asked, whole = other, sum((e.amount for e in other), ZERO), True
        else:
            whole = False
        # A payment of one act is its price; what a bill has more is the bill's own line.
        of_act = first is not None and (first.book == "paid" or total <= asked)
        if len(same) == 1 and len(totals) == 1 and not rest and of_act:
            self.shares.append(_Share(same[0], total, same[0].at))
        elif same and (whole or total < asked):
            self._scaled(same, asked + rest, total + rest)
        else:
            self.shares += [_Share(e, e.amount, e.at) for e in same]
            left = asked
            for entry, amount in totals:
                more = max(amount - left, ZERO)
                left = max(left - amount, ZERO)
                if more or not same:
                    self.shares.append(_Share(entry, more if same else amount, entry.at))
        self.shares += [_Share(entry, amount, entry.at) for entry, amount in beside]

    def _scaled(self, acts: list[_Entry], asked: Decimal, total: Decimal) -> None:
        left = total
        for number, entry in enumerate(acts):
            last = number == len(acts) - 1
            part = left if last else (total * entry.amount / asked).quantize(GRAIN) if asked else ZERO
            left -= part
            self.shares.append(_Share(entry, part, entry.at))

    def _give_back(self) -> None:
        """Put what came back on the lines of what it was taken for: the later unit's own line first, then the newest act."""
        own = {id(share.entry): share for share in self.shares}
        room = {id(share): share.amount for share in self.shares}
        for entry in self.entries:
            if entry.book == "incurred" or not (entry.back or entry.credited):
                continue
            mine = own.get(id(entry))
            own_acts = {id(e) for e in (*entry.covers, *entry.beside)}
            others = sorted(
                (s for s in self.shares if s is not mine),
                key=lambda s: (id(s.entry) not in own_acts, -s.at.timestamp(), s.entry.name),
            )
            order = [*([mine] if mine else []), *others]
            for at, amount in entry.returns:
                self._return(order, at, amount, room)

    def _return(self, order: Sequence[_Share], at: datetime, amount: Decimal, room: dict[int, Decimal]) -> None:
        for share in order:
            if amount > 0:
                part = min(amount, room[id(share)])
            else:  # a chargeback that was won: it goes back where it came from
                part = -min(-amount, share.amount - room[id(share)])
            if part:
                share.returns.append((at, part))
                room[id(share)] -= part
                amount -= part
            if not amount:
                return

    def lines(self) -> list[Line]:
        found, held = [], self._holds()
        own = {id(share.entry) for share in self.shares}
        within = self._held_within(own | held.keys())
        for share in self.shares:
            found.append(
                self._line(share, held.pop(id(share.entry), None), own, within=within.get(id(share.entry), ()))
            )
        for entry in self.entries:
            if id(entry) in held:
                found.append(self._line(_Share(entry, ZERO, entry.at), held[id(entry)], own, book="held"))
            elif not self.shares and (returns := _unmatched(entry)):
                line = self._line(_Share(entry, ZERO, entry.at), None, own, book="returned")
                found.append(
                    msgspec.structs.replace(
                        line, returned=sum((amount for _, amount in returns), ZERO), returns=returns
                    )
                )
        return found

    def _held_within(self, apart: Collection[int]) -> dict[int, list[_Entry]]:
        """By id of an entry with a share: the holds beside it that add nothing to what it counts. `apart`: those that do."""
        shared = {id(share.entry) for share in self.shares}
        found: dict[int, list[_Entry]] = {}
        for entry in self.entries:
            act = next((e for e in entry.beside if id(e) in shared), None)
            if entry.holds and act is not None and id(entry) not in apart:
                found.setdefault(id(act), []).append(entry)
        return found

    def _line(
        self,
        share: _Share,
        hold: tuple[Decimal, datetime, datetime] | None,
        own: set[int],
        *,
        book: str = "",
        within: Iterable[_Entry] = (),
    ) -> Line:
        """`own`: ids of the entries that have a line of their own. `within`: holds that are counted in this one."""
        entry = share.entry
        returns = tuple(sorted(share.returns))
        back = sum((amount for _, amount in returns), ZERO)
        # Where it is all one line, whatever is known of any statement is known of it.
        told = (
            self.entries
            if len(self.shares) <= 1
            else [entry, *(e for e in entry.by if len(e.covers) == 1 and id(e) not in own)]
        )
        facts = sorted({f.event_id: f for e in (*told, *within) for f in e.facts}.values(), key=_in_time)
        lead = min(facts, key=lambda f: (_LATER_WORD.get(f.book, 0), not f.attributed, f.at, f.event_id))

        def said(name: str) -> str:
            return getattr(lead, name) or next((v for f in (*entry.facts, *facts) if (v := getattr(f, name))), "")

        return Line(
            rail=entry.name[0], unit=entry.name[1], currency=self.currency or entry.currency, book=book or entry.book,
            lead=lead.event_id, at=share.at, spent=share.amount - back - min(share.doubt, share.amount - back),
            at_most=share.amount - back, returned=back, returns=returns, held=hold[0] if hold else ZERO,
            held_from=hold[1] if hold else None, held_until=hold[2] if hold else None,
            events=tuple(f.event_id for f in facts), role=self.role, source=lead.source,
            principal=said("principal") or self.principal,
            **{name: said(name) for name in ("actor", "provider", "payee", "account", "grant", "session", "task", "project", "authority")},
        )  # fmt: skip

    def _holds(self) -> dict[int, tuple[Decimal, datetime, datetime]]:
        """By entry: what is held beyond what its obligation counts already, from when, and until when at the latest."""
        found = {}
        counted = sum((e.amount for e in self.of("incurred")), ZERO)
        for entry in self.entries:
            if not entry.holds:
                continue
            amount = _greatest_by_source(
                [f for f in entry.holds if f.currency == entry.currency]
            ) or _greatest_by_source(entry.holds)
            opened = min(f.at for f in entry.holds)
            # A capture releases the rest of its hold; so does a refusal, or a release told as money given back.
            closed = [f.at for f in entry.facts if f.book == "paid" or (f.book == "returned" and f.at >= opened)]
            until = min([*closed, *(p.at for p in self.paid if p is not entry and p.at >= opened), opened + HOLD_ENDS])
            more = max(amount - counted, ZERO)
            if more:
                found[id(entry)] = (more, opened, max(until, opened))
        return found


def _unmatched(entry: _Entry) -> tuple[tuple[datetime, Decimal], ...]:
    """Refunds of what nobody told of: shown, and taken off nothing."""
    refunds = [f for f in entry.back if f.phase in ("refunded", RESTORED)]
    return tuple(_given_back(refunds, sum((f.amount for f in refunds), ZERO)))


def _obligations(entries: Sequence[_Entry]) -> list[_Obligation]:
    """Entries that are covered by one another or belong to one act, together."""
    seen: set[int] = set()
    found: list[list[_Entry]] = []
    for entry in entries:
        if id(entry) in seen:
            continue
        group, todo = [], [entry]
        seen.add(id(entry))
        while todo:
            one = todo.pop()
            group.append(one)
            for other in (*one.covers, *one.by, *one.beside):
                if id(other) not in seen:
                    seen.add(id(other))
                    todo.append(other)
        found.append(sorted(group, key=lambda e: (e.at, e.book, e.name)))
    return [_Obligation(group) for group in found]


# --- 5. perhaps the same ----------------------------------------------------------------------------------------------


def _doubt(obligations: Sequence[_Obligation]) -> None:
    """Pair what is open with payments that share no key with anything, one to one: exact amounts first, then the nearest."""
    _unnamed_payments(obligations)
    by_principal: dict[str, list[_Obligation]] = {}
    for one in obligations:
        if one.principal and one.shares:
            by_principal.setdefault(one.principal, []).append(one)
    for many in by_principal.values():
        _readings_told_twice(many)
        loose = [o for o in many if not o.of("incurred") and _is_one_payment(o) and not o.shares[0].doubt]
        # An invoice that is said to be paid, and no payment of it known, may have been paid by one of these.
        open_ = [
            o for o in many if (o.is_open and (o.of("incurred") or o.of("billed"))) or (o.of("billed") and not o.paid)
        ]
        _pair(loose, open_)
        _pair_with_sums(
            [o for o in loose if not o.shares[0].doubt], [o for o in open_ if not any(s.doubt for s in o.shares)]
        )


def _unnamed_payments(obligations: Sequence[_Obligation]) -> None:
    """A payment told without its charge, under a key that several charges share, is perhaps one of those, whichever."""
    by_key: dict[Key, list[_Obligation]] = {}
    for one in obligations:
        for key in {k for e in one.paid for k in e.keys if k.kind in ("idempotency", "request")}:
            by_key.setdefault(key, []).append(one)
    taken: set[int] = set()
    for key in sorted(by_key):
        many = by_key[key]
        named = [o for o in many if any(e.facts[0].charge for e in o.paid)]
        for one in many:
            if (
                len(one.shares) != 1
                or one.shares[0].doubt
                or any(e.facts[0].charge for e in one.paid)
                or id(one) in taken
            ):
                continue
            mine = {f.source for e in one.paid for f in e.facts}
            other = next(
                (
                    o
                    for o in named
                    if id(o) not in taken
                    and o.currency == one.currency
                    and o.total
                    and mine.isdisjoint(f.source for e in o.paid for f in e.facts)
                ),
                None,
            )
            if other is not None:
                taken |= {id(one), id(other)}
                one.shares[0].doubt = min(one.shares[0].amount, other.total)


def _is_one_payment(one: _Obligation) -> bool:
    """A payment, or an invoice said to be paid, that covers nothing on record."""
    return (len(one.paid) == 1 and not one.of("billed")) or (
        not one.paid and len(one.of("billed")) == 1 and bool(one.of("billed")[0].paid)
    )


def _alike(payment: _Obligation, other: _Obligation) -> tuple | None:
    """How far a payment is from an obligation that it may be of; None where it is not."""
    one, two = payment.entries[0], other.entries[0]
    if payment is other or not (_fits(one, two) or _unnamed(one, two)):
        return None
    return _distance(payment.total, other.total, min(abs(e.at - one.at) for e in other.entries))


def _unnamed(one: _Entry, two: _Entry) -> bool:
    """Whether one of them does not say with whom it was: then nothing tells them apart."""
    return one.currency == two.currency and not (one.seller and two.seller)


def _distance(paid: Decimal, owed: Decimal, apart: timedelta) -> tuple | None:
    if apart > NEAR or not paid or not owed or max(paid, owed) > TAX * min(paid, owed):
        return None
    return (paid != owed, abs(paid - owed) if paid != owed else ZERO, apart)


def _pair(loose: Sequence[_Obligation], open_: Sequence[_Obligation]) -> None:
    """One to one, the closest first; ties by name, so that the order of arrival does not matter."""
    if len(loose) * len(open_) > MOST_PAIRS:
        _pair_in_order(loose, open_)
        return
    pairs = [
        (how, p.entries[0].name, o.entries[0].name, p, o)
        for p in loose
        for o in open_
        if (how := _alike(p, o)) is not None
    ]
    taken: set[int] = set()
    for _, _, _, payment, other in sorted(pairs, key=lambda pair: pair[:3]):
        if id(payment) in taken or id(other) in taken:
            continue
        taken |= {id(payment), id(other)}
        _perhaps(payment, [other])


def _pair_in_order(loose: Sequence[_Obligation], open_: Sequence[_Obligation]) -> None:
    """Where there are too many to look at every pair: equal amounts in order of time, each with the next that fits."""

    def in_time(one: _Obligation) -> tuple:
        return one.entries[0].at, one.entries[0].name

    waiting: dict[tuple[Decimal, str], list[_Obligation]] = {}
    for other in sorted(open_, key=in_time, reverse=True):
        waiting.setdefault((other.total, other.currency), []).append(other)
    for payment in sorted(loose, key=in_time):
        same = waiting.get((payment.total, payment.currency), [])
        while same and same[-1].entries[0].at < payment.entries[0].at - NEAR:
            same.pop()
        if same and same[-1] is not payment and not same[-1].shares[0].doubt and _alike(payment, same[-1]) is not None:
            _perhaps(payment, [same.pop()])


def _perhaps(payment: _Obligation, others: Sequence[_Obligation]) -> None:
    """If they are the same, the payment replaces the others: what is counted for certain is the payment's amount alone."""
    share = payment.shares[0]
    owed = sum((o.total for o in others), ZERO)
    # What came back of the payment came back of them then too.
    share.doubt = min(share.amount - sum((amount for _, amount in share.returns), ZERO), owed)
    less = owed - share.doubt  # less was paid than was owed
    for one in others:
        for each in one.shares:
            part = min(less, each.amount)
            each.doubt += part
            less -= part


def _pair_with_sums(loose: Sequence[_Obligation], open_: Sequence[_Obligation]) -> None:
    """A payment may also be of everything that is open at its seller since the payment before."""
    waiting: dict[tuple[str, str], list[_Obligation]] = {}
    for one in sorted(open_, key=lambda o: (o.entries[0].at, o.entries[0].name)):
        for seller in one.entries[0].sellers:
            waiting.setdefault((seller, one.currency), []).append(one)
    since: dict[tuple[str, str], datetime] = {}
    taken: set[int] = set()
    for payment in sorted(loose, key=lambda o: (o.entries[0].at, o.entries[0].name)) if waiting else ():
        one = payment.entries[0]
        for place in [(seller, payment.currency) for seller in sorted(one.sellers)]:
            many = waiting.get(place, [])
            first = bisect_right(many, since[place], key=lambda o: o.entries[0].at) if place in since else 0
            last = bisect_right(many, one.at, key=lambda o: o.entries[0].at)
            mine = [o for o in many[first:last] if id(o) not in taken and _fits(one, o.entries[0])]
            since[place] = one.at
            if len(mine) < 2 or payment.shares[0].doubt:
                continue
            apart = one.at - mine[-1].entries[0].at
            if _distance(payment.total, sum((o.total for o in mine), ZERO), apart) is not None:
                _perhaps(payment, mine)
                taken |= {id(o) for o in mine}


def _readings_told_twice(many: Sequence[_Obligation]) -> None:
    """Two sources' meters of almost one time that are perhaps one reading: of the same amount at one provider, where no id
    tells; or of one request, which a gateway and the provider behind it metered, each under its own name and price.
    """
    readings = [o for o in many if len(o.entries) == 1 and o.entries[0].is_usage and o.shares[0].amount]
    sources = {f.source for o in readings for f in o.entries[0].facts}
    if len(sources) < 2:
        return
    taken: set[int] = set()
    by_request: dict[tuple, list[_Obligation]] = {}
    by_amount: dict[tuple, list[_Obligation]] = {}
    for one in readings:
        entry = one.entries[0]
        for value in {key.value for key in entry.keys if key.kind == "request"}:
            by_request.setdefault((value, entry.currency), []).append(one)
        by_amount.setdefault((entry.amount, entry.currency, entry.said("provider")), []).append(one)
    for alike in (*by_request.values(), *by_amount.values()):
        alike.sort(key=lambda o: (o.entries[0].at, o.entries[0].name))
        for number, one in enumerate(alike):
            if id(one) in taken:
                continue
            mine = {f.source for f in one.entries[0].facts}
            for other in alike[number + 1 :]:
                if other.entries[0].at - one.entries[0].at > SAME_READING:
                    break
                theirs = {f.source for f in other.entries[0].facts}
                if id(other) not in taken and not mine & theirs:
                    taken |= {id(one), id(other)}
                    dearer = max(other, one, key=lambda o: o.shares[0].amount)
                    dearer.shares[0].doubt = dearer.shares[0].amount
                    break
