"""Match the lines of a bill with the charges on record, each with its reason. Pure.

First by what names one charge or call; then what is left by thing and time, then by amount and time one to one, then a line
with the charges that it adds up (of several agents, say), and several lines with the one charge that they share out. What
is no price of anything done (tax, credits, fees, rounding) is told apart. What equals what in every respect that both state
is told apart by nothing: of three lines and two such charges one line is unexplained, whichever it is.

Every step sorts what it looks at, or looks it up: 100,000 lines take seconds.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from auditlog.core.bills.line import APART, Line

SLACK = timedelta(days=1)  # policy: between when something was done and what its bill says
CENT = Decimal("0.5")  # minor units: half of what a line is rounded to
NONE, HOUR, ALWAYS = timedelta(0), timedelta(hours=1), timedelta.max
MOST_ADDED = 5_000  # charges that one line may add up
MISSING = 3  # charges of a sum that its line may leave out, where they can be told by what they come to
PAIRS, TRIPLES, HALVED = 2_000, 120, 22  # charges among which so many are looked for; any number among the last
GRAIN = Decimal("1e-9")
ADDED_BY: tuple[tuple[str, ...], ...] = (
    ("resource",), ("operation", "agent"), ("operation", "account"), ("operation",), ("agent",), ("account",), (),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the books, with what its statements name. `refs`: charge, request, idempotency key, event."""

    lead: str  # the event that leads it
    at: datetime
    amount: Decimal  # minor units
    currency: str
    refs: frozenset[str] = frozenset()
    invoice: str = ""
    account: str = ""
    resource: str = ""
    operation: str = ""
    agent: str = ""
    principal: str = ""
    has_act: bool = True  # some statement of it is an act, and not only the word of a payment system


@dataclass(slots=True)
class Found:
    """What became of one line. `state`: matched | differs | unexplained | apart."""

    state: str
    reason: str
    charges: list[tuple[Charge, Decimal]] = field(default_factory=list)  # with its share of the line
    difference: Decimal = Decimal(0)  # billed less recorded


@dataclass(frozen=True, slots=True)
class Matched:
    lines: list[Found]  # as the lines given
    missing: list[Charge]  # that no line shows


def match(lines: Sequence[Line], charges: Sequence[Charge]) -> Matched:
    return _Matching(lines, charges).run()


# What of a line and of a charge is to be equal, in words, and which part of it must not be empty.
_Key = tuple[Callable[[Line], tuple[Any, ...]], Callable[[Charge], tuple[Any, ...]], str, int | None]


class _Matching:
    def __init__(self, lines: Sequence[Line], charges: Sequence[Charge]) -> None:
        self.lines = lines
        self.charges = sorted(charges, key=lambda c: (c.at, c.lead))
        self.found: list[Found | None] = [None] * len(lines)
        self.used: set[int] = set()  # places of charges

    def run(self) -> Matched:
        for place, line in enumerate(self.lines):
            if line.kind in APART or not line.amount:
                self.found[place] = Found("apart", line.kind if line.amount else "costs nothing")
        thing: _Key = (
            lambda line: (line.resource, line.amount),
            lambda c: (c.resource, c.amount),
            "thing, amount and time",
            0,
        )
        operation: _Key = (
            lambda line: (_name(line.operation), line.amount), lambda c: (_name(c.operation), c.amount), "operation, amount and time", 0,
        )  # fmt: skip
        amount: _Key = (lambda line: (line.amount,), lambda c: (c.amount,), "amount and time", None)
        cents: _Key = (
            lambda line: (_cents(line.amount),), lambda c: (_cents(c.amount),), "amount, but for rounding, and time", None,
        )  # fmt: skip
        self._by_name()
        # What fits its time comes first, and of that what is said most closely: nothing is taken from a better match.
        for of_line, of_charge, words, need in (thing, operation):
            self._one_to_one(of_line, of_charge, words, need=need, margin=NONE, longest=HOUR)
        self._shared_out(NONE)
        self._one_to_one(*amount[:3], need=None, margin=NONE, longest=HOUR)
        self._added_up(without=0)
        self._added_up(without=MISSING)
        for margin in (NONE, HOUR, SLACK):
            for of_line, of_charge, words, need in (thing, operation, amount, cents):
                self._one_to_one(of_line, of_charge, words, need=need, margin=margin)
        self._shared_out(SLACK)
        self._added_up(without=None)
        found = [each or Found("unexplained", "no charge on record goes with it") for each in self.found]
        return Matched(found, [c for n, c in enumerate(self.charges) if n not in self.used])

    # --- by name --------------------------------------------------------------------------------------------------

    def _by_name(self) -> None:
        """Lines and charges that share a name are one group, however many of each; invoices only where nothing else is shared."""
        places: dict[str, list[int]] = defaultdict(list)
        for n, charge in enumerate(self.charges):
            for ref in charge.refs:
                places[ref].append(n)
        by_charge: dict[int, list[int]] = defaultdict(list)
        lines_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place in self._open():
            line = self.lines[place]
            named = sorted(
                {n for ref in line.refs for n in places.get(ref, ()) if self.charges[n].currency == line.currency}
            )
            if named:
                lines_of[tuple(named)].append(place)
                for n in named:
                    by_charge[n].append(place)
        done: set[int] = set()
        for together in sorted(lines_of):
            for first in together:
                if first in done:
                    continue
                group, asked = {first}, [first]
                mine: set[int] = set()
                while asked:  # what is tied to what, to the end
                    n = asked.pop()
                    done.add(n)
                    for place in by_charge[n]:
                        if place not in mine:
                            mine.add(place)
                            for ref in self.lines[place].refs:
                                for other in places.get(ref, ()):
                                    if (
                                        other not in group
                                        and self.charges[other].currency == self.lines[place].currency
                                    ):
                                        group.add(other)
                                        asked.append(other)
                self._settle(sorted(mine), sorted(group), "named by both")

    # --- one to one -----------------------------------------------------------------------------------------------

    def _one_to_one(
        self, of_line: Callable[[Line], tuple[Any, ...]], of_charge: Callable[[Charge], tuple[Any, ...]], words: str, *, need: int | None,
        margin: timedelta, longest: timedelta = ALWAYS,
    ) -> None:  # fmt: skip
        """Each line with the nearest charge in time that says the same, within its period and `margin`. `need`: which part of
        what they say must not be empty. Lines of a longer time than `longest` are left.
        """
        free: dict[Hashable, list[int]] = defaultdict(list)
        for n, charge in enumerate(self.charges):
            key = of_charge(charge)
            if n not in self.used and (need is None or key[need]):
                free[charge.currency, *key].append(n)
        order = sorted(self._open(), key=lambda p: (self.lines[p].until - self.lines[p].at, self.lines[p].at, p))
        for place in order:
            line = self.lines[place]
            key = of_line(line)
            if line.until - line.at > longest or (need is not None and not key[need]):
                continue
            mine = free.get((line.currency, *key))
            if not mine:
                continue
            low = bisect_left(mine, line.at - margin, key=lambda n: self.charges[n].at)
            fits = [k for k in range(low, min(len(mine), low + 200)) if self._fits(line, self.charges[mine[k]], margin)]
            if not fits:
                continue
            n = mine.pop(min(fits, key=lambda k: (abs(self.charges[mine[k]].at - line.at), k)))
            self.used.add(n)
            self.found[place] = self._one(line, n, words)

    def _fits(self, line: Line, charge: Charge, margin: timedelta) -> bool:
        if not (line.at - margin <= charge.at <= max(line.until, line.at) + margin):
            return False
        return (
            _agree(line.account, charge.account)
            and _agree(line.resource, charge.resource)
            and _agree(line.agent, _name(charge.agent))
        )

    def _one(self, line: Line, n: int, words: str) -> Found:
        charge = self.charges[n]
        return Found("matched", words, [(charge, line.amount)], line.amount - charge.amount)

    # --- one line, several charges -----------------------------------------------------------------------------------

    def _added_up(self, *, without: int | None) -> None:
        """A line that covers a time, with all charges in it that say what it says of thing, operation, account or agent; or with
        all but `without` of them, which then no line shows. None: whatever they come to, what differs is told.
        """
        indexes = {name: _Index(self.charges, name) for name in ("resource", "operation", "agent", "account")}
        for place in sorted(self._open(), key=lambda p: (self.lines[p].until - self.lines[p].at, self.lines[p].at, p)):
            line = self.lines[place]
            if line.until <= line.at:
                continue
            for names in ADDED_BY:
                if not all(getattr(line, name) for name in names):
                    continue
                mine = self._within(line, names, indexes)
                if not mine:
                    continue
                said = " and ".join(names) or "its time"
                words = f"the sum of {len(mine)} charges of {said}" if len(mine) > 1 else f"{said} and time"
                if without is None:
                    if names and names != ("account",):
                        self._settle([place], mine, words)
                        break
                    continue
                total = sum((self.charges[n].amount for n in mine), Decimal(0))
                left = self._left_out(mine, total - line.amount, without)
                if left is not None and len(left) < len(mine):
                    self._settle([place], [n for n in mine if n not in left], words)
                    break

    def _left_out(self, mine: Sequence[int], over: Decimal, most: int) -> set[int] | None:
        """The fewest charges that come to `over` together: exactly, or else but for rounding. None where none do."""
        if abs(over) <= CENT:
            return set()
        if most == 0 or over < 0:
            return None
        for grain in (GRAIN, Decimal(1)):
            amounts = {n: self.charges[n].amount.quantize(grain) for n in mine}
            found = _fewest(amounts, over.quantize(grain), most)
            if found is not None:
                return found
        return None

    def _within(self, line: Line, names: Sequence[str], indexes: dict[str, "_Index"]) -> list[int]:
        if names:
            places = indexes[names[0]].within(getattr(line, names[0]), line.at, line.until)
        else:
            low = bisect_left(self.charges, line.at, key=lambda c: c.at)
            high = bisect_left(self.charges, line.until, key=lambda c: c.at)
            places = range(low, high)
        if len(places) > MOST_ADDED:
            return []
        return [
            n
            for n in places
            if n not in self.used
            and self.charges[n].currency == line.currency
            and all(_name(getattr(self.charges[n], name)) == _name(getattr(line, name)) for name in names[1:])
            and self._agrees(line, self.charges[n])
        ]

    def _agrees(self, line: Line, charge: Charge) -> bool:
        return (
            _agree(line.account, charge.account)
            and _agree(line.agent, _name(charge.agent))
            and _agree(line.resource, charge.resource)
        )

    # --- several lines, one charge -----------------------------------------------------------------------------------

    def _shared_out(self, margin: timedelta) -> None:
        """Lines of one time, thing and description that together come to one charge; and those of one time and account."""
        for grouping in (
            lambda line: (
                line.currency,
                line.at,
                line.until,
                line.resource,
                line.operation,
                line.account,
                line.description,
            ),
            lambda line: (line.currency, line.at, line.until, line.resource, line.account),
            lambda line: (line.currency, line.at, line.account),
        ):
            groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
            for place in self._open():
                groups[grouping(self.lines[place])].append(place)
            free: dict[tuple[str, Decimal], list[int]] = defaultdict(list)
            for n, charge in enumerate(self.charges):
                if n not in self.used:
                    free[charge.currency, _cents(charge.amount)].append(n)
            for _, places in sorted(groups.items(), key=lambda each: each[1]):
                if len(places) < 2:
                    continue
                total = sum((self.lines[p].amount for p in places), Decimal(0))
                line = self.lines[places[0]]
                mine = [
                    n
                    for n in free.get((line.currency, _cents(total)), ())
                    if n not in self.used and self._fits(line, self.charges[n], SLACK)
                ]
                if mine:
                    n = min(mine, key=lambda n: abs(self.charges[n].at - line.at))
                    self._settle(places, [n], f"a share of one charge, with {len(places) - 1} other lines")

    # --- helpers --------------------------------------------------------------------------------------------------

    def _open(self) -> list[int]:
        return [place for place, found in enumerate(self.found) if found is None]

    def _settle(self, places: Sequence[int], mine: Sequence[int], words: str) -> None:
        """These lines are these charges, whatever they come to: what differs is told, and by what."""
        charges = [self.charges[n] for n in mine if n not in self.used]
        self.used.update(mine)
        billed = sum((self.lines[p].amount for p in places), Decimal(0))
        recorded = sum((charge.amount for charge in charges), Decimal(0))
        difference = billed - recorded
        rounding = abs(difference) <= CENT * max(1, len(places))
        for place in places:
            line = self.lines[place]
            share = line.amount / billed if billed else Decimal(1) / len(places)
            parts = [
                (charge, line.amount * (charge.amount / recorded if recorded else Decimal(1) / len(charges)))
                for charge in charges
            ]
            reason = words if not difference else f"{words}; {'rounding' if rounding else 'the price'} differs"
            self.found[place] = Found("matched" if rounding else "differs", reason, parts, difference * share)


def _fewest(amounts: Mapping[int, Decimal], wanted: Decimal, most: int) -> set[int] | None:
    """The fewest of these that come to `wanted`: any number of few, one to `most` of many."""
    by_amount: dict[Decimal, list[int]] = defaultdict(list)
    for n, amount in amounts.items():
        by_amount[amount].append(n)
    if one := by_amount.get(wanted):
        return {one[0]}
    if len(amounts) <= HALVED:
        return _of_few(amounts, wanted)
    if most >= 2 and len(amounts) <= PAIRS:
        for n, amount in amounts.items():
            for other in by_amount.get(wanted - amount, ()):
                if other != n:
                    return {n, other}
    if most >= 3 and len(amounts) <= TRIPLES:
        items = list(amounts.items())
        for k, (n, amount) in enumerate(items):
            for other, second in items[k + 1 :]:
                for third in by_amount.get(wanted - amount - second, ()):
                    if third not in (n, other):
                        return {n, other, third}
    return None


def _of_few(amounts: Mapping[int, Decimal], wanted: Decimal) -> set[int] | None:
    """All sums of the one half, looked up for each sum of the other."""
    items = list(amounts.items())
    left, right = _sums(items[: len(items) // 2]), _sums(items[len(items) // 2 :])
    found = [
        (len(mine) + len(right[rest]), (*mine, *right[rest]))
        for total, mine in left.items()
        if (rest := wanted - total) in right
    ]
    return set(min(found)[1]) if found else None


def _sums(items: Sequence[tuple[int, Decimal]]) -> dict[Decimal, tuple[int, ...]]:
    """By what they come to, the fewest of these."""
    sums: dict[Decimal, tuple[int, ...]] = {Decimal(0): ()}
    for n, amount in items:
        for total, mine in list(sums.items()):
            new = total + amount
            if new not in sums or len(sums[new]) > len(mine) + 1:
                sums[new] = (*mine, n)
    return sums


class _Index:
    """Places of charges by one attribute, in time."""

    def __init__(self, charges: Sequence[Charge], name: str) -> None:
        self.charges = charges
        self.places: dict[str, list[int]] = defaultdict(list)
        for n, charge in enumerate(charges):
            if value := _name(getattr(charge, name)):
                self.places[value].append(n)

    def within(self, value: str, begins: datetime, ends: datetime) -> Sequence[int]:
        mine = self.places.get(_name(value), [])
        low = bisect_left(mine, begins, key=lambda n: self.charges[n].at)
        high = bisect_left(mine, ends, key=lambda n: self.charges[n].at)
        return mine[low:high]


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal(1))


def _name(value: str) -> str:
    """What a party or thing is called, without who says so."""
    return value.rpartition("|")[2].casefold()


def _agree(one: str, other: str) -> bool:
    """Whether nothing that both state differs."""
    return not one or not other or _name(one) == _name(other)


def totals(found: Iterable[Found], lines: Sequence[Line], missing: Iterable[Charge]) -> dict[str, dict[str, Decimal]]:
    """By currency, what each state comes to; what is apart, by its kind."""
    sums: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for line, each in zip(lines, found, strict=True):
        sums[line.currency]["billed"] += line.amount
        sums[line.currency][line.kind if each.state == "apart" else each.state] += line.amount
        sums[line.currency]["difference"] += each.difference
    for charge in missing:
        sums[charge.currency]["missing"] += charge.amount
    return {currency: dict(parts) for currency, parts in sums.items()}
