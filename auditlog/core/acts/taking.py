"""A taking: one time that money was taken, as all statements of it tell. What repeats and tasks are counted in.

Statements are of one taking when they name one charge, when the spend function counted them together, or when one without
a charge shares an idempotency key or request id with another: an act and its payment. Two takings are *told apart* only
by two charge ids at one rail, or by one source that stated both under different keys: in doubt they may be one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from auditlog.core.chain.act import Act
from auditlog.core.money.join import MANY
from auditlog.core.money.limits import Minor, Spent
from auditlog.core.money.money import CREDIT_RAIL

# Types of what one call, page or reading is done to: paid for each time, so that the same one again is no second purchase.
CALL_LIKE = frozenset(
    "api call charge data endpoint event function http invocation job message meter model operation page payment prompt query "
    "request resource run search service task tool transaction url".split()
)
GIVES_BACK = frozenset({"payment.refunded", "dispute.funds_withdrawn", "dispute.funds_reinstated"})


def takes(act: Act) -> bool:
    """Whether this statement says that money was taken or became due for something: no hold, no credits, no bill."""
    return (
        act.spends
        and bool(act.exact_minor)
        and act.phase != "authorized"
        and act.rail != CREDIT_RAIL
        and not act.type.startswith(("invoice.", "dispute.", "payment.authorized", "payment.refunded"))
    )


@dataclass(eq=False)
class Taking:
    """`acts` in the order in which they happened."""

    acts: list[Act]
    spent: Spent | None = None  # as the spend function counts it; None where it does not, or not yet
    returned: list[tuple[datetime, Minor]] = field(default_factory=list)  # what was given back of it, and when
    beside: list[Act] = field(default_factory=list)  # acts of its request that another charge was taken for
    # A payment of what other takings cost already, as a bill of several acts or the second half of one act's price.
    is_within: bool = False
    within: list["Taking"] = field(default_factory=list)  # those takings, where a key says which

    @property
    def first(self) -> Act:
        return self.acts[0]

    @property
    def at(self) -> datetime:
        return self.first.occurred_at

    @property
    def place(self) -> tuple[datetime, int]:
        return self.first.occurred_at, self.first.leaf_index

    @cached_property
    def amount_minor(self) -> Minor:
        return max(act.exact_minor or 0 for act in self.acts if act.currency == self.currency)

    @cached_property
    def paid_minor(self) -> Minor:
        """What the payment was of, where there is one: an act may be paid for in parts."""
        paid = [act.exact_minor or 0 for act in self.acts if act.book == "paid" and act.currency == self.currency]
        return max(paid, default=self.amount_minor)

    @property
    def currency(self) -> str:
        return self.first.currency

    @property
    def line_minor(self) -> Minor:
        """What its line in the books came to before anything came back, perhaps."""
        if self.spent is None:
            return self.amount_minor
        return self.spent.gross_minor + self.spent.doubt_minor

    @property
    def net_minor(self) -> Minor:
        """What of it was kept: as the spend function says, else what was taken less what was given back."""
        kept = max(0, self.amount_minor - sum(amount for _, amount in self.returned))
        if self.spent is None or self.spent.currency != self.currency:
            return kept
        # What is perhaps counted twice did not come back: that is the upper bound.
        most = self.spent.spent_minor if self.spent.at_most_minor is None else self.spent.at_most_minor
        return max(0, min(self.amount_minor, most)) if len(self.spent.joined) < 2 else min(kept, max(0, most))

    @property
    def sure_minor(self) -> Minor:
        """What of it was kept for certain: nothing where it is perhaps the money that another statement tells of."""
        if self.spent is None or self.spent.currency != self.currency or len(self.spent.joined) > 1:
            return self.net_minor
        return max(0, min(self.net_minor, self.spent.spent_minor))

    @property
    def is_perhaps_another(self) -> bool:
        """Whether all of it may be money that another statement tells of."""
        return self.spent is not None and not self.spent.spent_minor and bool(self.spent.at_most_minor)

    def is_given_back(self, at: datetime) -> bool:
        """Whether all of it had been given back by then."""
        return sum(amount for when, amount in self.returned if when <= at) >= self.amount_minor

    @cached_property
    def charges(self) -> dict[str, set[str]]:
        """By rail, the charges that it goes by."""
        found: dict[str, set[str]] = {}
        for act in self.acts:
            if act.charge:
                found.setdefault(act.rail, set()).add(act.charge)
        return found

    @cached_property
    def keys(self) -> frozenset[tuple[str, str]]:
        """Idempotency keys, each where it means something."""
        return frozenset(
            (where, act.idempotency_key) for act in self.acts if act.idempotency_key for where in _places(act)
        )

    @property
    def is_metered(self) -> bool:
        return any(act.type == "usage.metered" for act in self.acts)

    @property
    def is_call(self) -> bool:
        """Paid for each time it is done: a meter's line, or a payment for one call."""
        types = {target.type.lower() for act in self.acts if (target := _target(act)) and target.id not in {*self.ids}}
        return self.is_metered or bool(types & CALL_LIKE) or any("://" in act.target for act in self.acts)

    @cached_property
    def ids(self) -> frozenset[str]:
        """What names this very taking, and nothing that it was taken for."""
        return frozenset(
            {value for act in self.acts for value in (act.charge, act.idempotency_key, act.request_id)} - {""}
        )


def _target(act: Act):
    return act.payload.action.target if act.payload.action else None


def _places(act: Act) -> list[str]:
    return [f"{name}:{value}" for name, value in (("provider", act.provider), ("rail", act.rail)) if value] or [
        f"issuer:{act.issuer}"
    ]


def takings(acts: Iterable[Act], spending: Iterable[Spent] = ()) -> list[Taking]:
    """The acts of one principal as takings, in order of time. A function of the set of acts."""
    acts = sorted({act.event_id: act for act in acts}.values(), key=lambda act: (act.occurred_at, act.leaf_index))
    taking = [act for act in acts if takes(act)]
    above = {act.event_id: act.event_id for act in taking}

    def top(event_id: str) -> str:
        while above[event_id] != event_id:
            above[event_id] = event_id = above[above[event_id]]
        return event_id

    def unite(one: str, other: str) -> None:
        above[top(other)] = top(one)

    by_charge: dict[tuple[str, str], str] = {}
    for act in taking:
        if act.charge:
            unite(by_charge.setdefault((act.rail, act.charge), act.event_id), act.event_id)
    rails: dict[
        str, dict[str, str]
    ] = {}  # by top: its charge at each rail, which two that are joined must not contradict
    for act in taking:
        if act.charge:
            rails.setdefault(top(act.event_id), {})[act.rail] = act.charge

    def unite_unless_apart(one: str, other: str) -> None:
        one, other = top(one), top(other)
        if one == other:
            return
        left, right = rails.get(one, {}), rails.get(other, {})
        if any(left.get(rail, charge) != charge for rail, charge in right.items()):
            return
        above[other] = one
        rails[one] = left | right

    places = {act.event_id: place for place, act in enumerate(taking)}
    for spent in spending:
        together = sorted(
            (event_id for event_id in {spent.event_id, *spent.joined} if event_id in above), key=places.__getitem__
        )
        for event_id in together[1:]:
            unite_unless_apart(together[0], event_id)
    for sharing in _sharing(taking):
        for one, other in sharing:
            unite_unless_apart(one.event_id, other.event_id)
    parts: dict[str, Taking] = {}
    for act in taking:
        parts.setdefault(top(act.event_id), Taking([])).acts.append(act)
    found = sorted(parts.values(), key=lambda each: each.place)
    _give_back(found, acts)
    by_event = {act.event_id: each for each in found for act in each.acts}
    for one, other in _beside(taking):
        if by_event[one.event_id] is not by_event[other.event_id]:
            by_event[one.event_id].beside.append(other)
    for spent in spending:
        for event_id in (spent.event_id, *spent.joined):
            if event_id in by_event and (by_event[event_id].spent is None or spent.event_id == event_id):
                by_event[event_id].spent = spent
    _put_within(found, counts=bool(spending))
    return found


def _put_within(found: Sequence[Taking], *, counts: bool) -> None:
    """Say of which takings the money is in the lines of others. Every statement that takes money has a line in the books, or
    is covered by the lines of several; of those that share one line, the first that the line has room for keeps it.
    """
    by_line: dict[str, list[Taking]] = {}
    for taking in found:
        if taking.spent is not None:
            by_line.setdefault(taking.spent.event_id, []).append(taking)
    for sharing in by_line.values():
        if len(sharing) < 2:
            continue
        first, left = sharing[0], sharing[0].line_minor
        for taking in sharing:
            if taking is not first and left <= 0 and taking.currency == first.currency:
                taking.is_within, taking.within = True, [first]
            left -= taking.amount_minor
    if not counts:
        return
    by_bill: dict[tuple[str, str], list[Taking]] = {}
    for taking in found:
        if taking.spent is not None:
            for bill in _bills(taking):
                by_bill.setdefault(bill, []).append(taking)
    for taking in found:
        if taking.spent is None:
            taking.is_within = True
            of = {id(each): each for bill in _bills(taking) for each in by_bill.get(bill, ())}
            taking.within = sorted(of.values(), key=lambda each: each.place)


def _bills(taking: Taking) -> set[tuple[str, str]]:
    """The invoices that its statements name, each where it means something."""
    return {
        (where, act.payload.money.invoice)
        for act in taking.acts
        if act.payload.money and act.payload.money.invoice
        for where in _places(act)
    }


def _sharing(taking: Sequence[Act]) -> Iterable[list[tuple[Act, Act]]]:
    """Pairs that an idempotency key or a request id makes one: at least one of the two has no charge of its own, or names
    it at another rail. Two metered lines of one source are two, whatever they share: a meter counts what it charges.
    """
    by_key: dict[tuple[str, str, str], list[Act]] = {}
    for act in taking:
        for where in _places(act):
            if act.idempotency_key:
                by_key.setdefault(("key", where, act.idempotency_key), []).append(act)
            if act.request_id:
                by_key.setdefault(("request", where, act.request_id), []).append(act)
    for key in sorted(by_key):
        many = by_key[key]
        if len(many) > MANY:
            continue
        charged = [act for act in many if act.charge]
        yield [
            (one, other)
            for other in many
            for one in (charged or many)[:1] + [c for c in charged[1:] if c.rail != other.rail]
            if one is not other and _may_be_one(one, other)
        ]


def _beside(taking: Sequence[Act]) -> Iterable[tuple[Act, Act]]:
    """Pairs of a charge and an act of one request, where several charges are of that request: each was taken for the act."""
    by_request: dict[tuple[str, str], list[Act]] = {}
    for act in taking:
        for where in _places(act) if act.request_id else ():
            by_request.setdefault((where, act.request_id), []).append(act)
    for many in by_request.values():
        charged = [act for act in many if act.charge and act.book == "paid"]
        done = [act for act in many if not act.charge and act.book == "incurred"]
        if len(charged) > 1 and len(done) == 1 and len(many) <= MANY:
            yield from ((one, done[0]) for one in charged)


def _may_be_one(one: Act, other: Act) -> bool:
    if one.charge and other.charge and one.rail == other.rail:
        return one.charge == other.charge
    if one.source == other.source and one.type == other.type:
        # Said twice by one source: once more of the same, unless it is a meter's second line.
        return one.type != "usage.metered" and not (one.charge and other.charge)
    return True


def _give_back(found: Sequence[Taking], acts: Sequence[Act]) -> None:
    """Refunds, and chargebacks, which are provisional: one that was won is taken again."""
    by_charge = {(rail, charge): each for each in found for rail, charges in each.charges.items() for charge in charges}
    for act in acts:
        if act.type not in GIVES_BACK or not act.charge or act.book != "returned":
            continue
        if (each := by_charge.get((act.rail, act.charge))) is not None:
            amount = act.exact_minor or 0
            each.returned.append((act.occurred_at, -amount if act.type == "dispute.funds_reinstated" else amount))


def told_apart(one: Taking, other: Taking) -> bool:
    """Whether somebody who may know says that these are two."""
    for rail, charges in one.charges.items():
        if rail in other.charges and charges.isdisjoint(other.charges[rail]):
            return True
    if one.charges and other.charges:
        return False
    for left in one.acts:
        for right in other.acts:
            if left.source == right.source and left.type == right.type and not (left.charge and right.charge):
                if left.idempotency_key and right.idempotency_key and left.idempotency_key != right.idempotency_key:
                    return True
                if left.request_id and right.request_id and left.request_id != right.request_id:
                    return True
    return False
