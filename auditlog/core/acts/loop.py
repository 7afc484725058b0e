"""Loops: charged calls that come again and again, exactly or in turn. Pure; one function for the rule and for I1.

A sequential test over the calls of one principal at one provider, through whichever sub-agent: each call that is the same as
one just before it adds to the evidence, and how much evidence is enough depends on what the next charge would cost: against
the price of its task, or against a plain sum where nobody stated a price. Calls in turn (A B A B, to a period of CYCLE) are
one loop, and so are runs of one operation that follow on each other (A A A B B B). Calls that merely come back between other
work are weighed with more patience, and what a clock or a meter could be doing as well.

Where calls stand further apart than NEAR calls or FORGET, nothing that one does changes what is found of the other: so a loop
is judged from the calls around it, however long the record is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log

from auditlog.core.acts.call import SCHEDULE, fingerprint, is_reading, is_scheduled, other_work
from auditlog.core.acts.taking import Taking, takes
from auditlog.core.chain.act import Act
from auditlog.core.chain.intent import stated_intent
from auditlog.core.money.limits import Minor

LOOP_TYPES = frozenset(
    {"usage.metered", "payment.captured", "payment.authorized", "action.performed", "resource.provisioned"}
)
# In ordinary agent sessions (tau-bench, the development data of the detectors) 11 of 407 calls were the same as one of the
# four before, and never two in a row: a repeat is worth log(LOOP / HEALTHY), and two that follow each other twice that.
HEALTHY, LOOP = 0.03, 0.9
WEIGHT = log(LOOP / HEALTHY)
SURE = 4  # repeats that stand whatever they cost, also between other calls
SURE_OVER_PRICE = 3  # likewise, once the task has cost more than was asked for
DEAR = 0.1  # of the task's price: what costs more is stopped at its first repeat
RARE = 1e-4  # of the price or plain sum: what costs less is waited for longer, by the logarithm
PLAIN_MINOR = 1_000  # policy: stands for the price of a task that nobody priced
FORGET = timedelta(hours=6)
CYCLE = 4  # the longest period: different calls since the same one
NEAR = 16  # calls since the same one, of whatever kind
JOINED = timedelta(hours=1)  # runs of one operation that follow on each other within it are one loop
COUNTED = frozenset("license licence seat share ticket unit voucher".split())  # bought one by one, alike


@dataclass(eq=False)
class Loop:
    """Charged calls that repeat each other, in order of time."""

    acts: list[Act] = field(default_factory=list)
    prints: list[str] = field(default_factory=list)  # what each of them called
    peak: float = 0.0  # of the evidence, as a log-likelihood ratio
    most: int = 0  # repeats of one call
    alarm_at: int | None = None  # how many charges it had when the evidence was enough

    def add(self, act: Act, print_: str) -> None:
        place = len(self.acts)
        while place and _order(self.acts[place - 1]) > _order(act):
            place -= 1
        self.acts.insert(place, act)
        self.prints.insert(place, print_)

    def is_repeat(self, place: int) -> bool:
        """Whether the call at this place was in the loop before."""
        return self.prints[place] in self.prints[:place]

    @property
    def is_metered(self) -> bool:
        return all(act.type == "usage.metered" for act in self.acts)

    @property
    def currency(self) -> str:
        return self.acts[0].currency

    @property
    def spent_minor(self) -> Minor:
        return sum(act.exact_minor or 0 for act in self.acts if act.currency == self.currency)

    @property
    def first_round_minor(self) -> Minor:
        """What it would have cost if nothing had been called again."""
        return sum(
            act.exact_minor or 0
            for place, act in enumerate(self.acts)
            if act.currency == self.currency and not self.is_repeat(place)
        )

    @property
    def allowed_minor(self) -> int | None:
        return _allowed(self.acts[0], self.currency)

    @property
    def is_over_intent(self) -> bool:
        return self.allowed_minor is not None and self.spent_minor > self.allowed_minor

    @property
    def is_sure(self) -> bool:
        """Whether it is a loop whatever it costs: less than that is worth a look, and moves no verdict."""
        return self.most >= (SURE_OVER_PRICE if self.is_over_intent else SURE)

    @property
    def is_alarming(self) -> bool:
        if self.alarm_at is None and not self.is_sure:
            return False
        stated = stated_intent(self.acts[0])
        wanted = stated.intent.quantity if stated and not stated.by_actor else None
        if wanted is not None and len(self.acts) <= wanted and not self.is_over_intent:
            return False
        return not self._is_scheduled

    @property
    def _is_scheduled(self) -> bool:
        """Whether a clock makes these: all together, or each kind of them by itself where several run side by side."""
        if is_scheduled(self.acts):
            return True
        kinds: dict[str, list[Act]] = {}
        for act, print_ in zip(self.acts, self.prints, strict=True):
            kinds.setdefault(print_, []).append(act)
        told = [acts for acts in kinds.values() if len(acts) > SURE]
        return len(kinds) > 1 and bool(told) and all(is_scheduled(acts) for acts in told)


def loops(acts: Iterable[Act], told: Sequence[Taking]) -> list[Loop]:
    """Charged calls that repeat as no ordinary session does."""
    stable = _stable_keys(acts)
    places: dict[str, _Calls] = {}
    for act in sorted(charged_once(acts, told), key=_order):
        print_ = fingerprint(act, keyed=act.idempotency_key in stable)
        if print_ is not None:
            places.setdefault(act.provider, _Calls()).take(act, print_)
    return [loop for calls in places.values() for loop in calls.loops if loop.is_alarming]


@dataclass(eq=False)
class _Call:
    act: Act
    print_: str
    place: int
    before: "_Call | None"  # the call that it came after
    lag: int = 0  # it is the same as one with so many different calls since; 0: as none
    streak: int = 0  # calls in a row that repeat at this lag
    loop: Loop | None = None


class _Calls:
    """The calls to one provider, in order of time."""

    def __init__(self) -> None:
        self.loops: list[Loop] = []
        self.recent: dict[str, _Call] = {}  # the last of each kind, the latest last
        self.latest: _Call | None = None
        self.count = 0

    def take(self, act: Act, print_: str) -> None:
        call = _Call(act, print_, self.count, self.latest)
        same = self.recent.get(print_)
        if same is not None and self._repeats(call, same):
            self._add(call, same)
        self.recent.pop(print_, None)
        self.recent[print_] = call
        if len(self.recent) > NEAR:
            self.recent.pop(next(iter(self.recent)))
        self.latest = call
        self.count += 1

    def _repeats(self, call: _Call, same: _Call) -> bool:
        if call.place - same.place > NEAR or call.act.occurred_at - same.act.occurred_at > FORGET:
            return False
        prints = list(self.recent)
        call.lag = len(prints) - prints.index(call.print_)
        if call.lag > CYCLE or other_work(same.act, call.act):
            call.lag = 0
        return call.lag > 0

    def _add(self, call: _Call, same: _Call) -> None:
        last = call.before
        follows = last is not None and last.lag == call.lag and not (call.lag > 1 and _elsewhere(last.act, call.act))
        call.streak = last.streak + 1 if follows and last is not None else 1
        loop = same.loop
        if loop is None and follows and last is not None:
            loop = last.loop
        if loop is None and same.before is not None and _follows_on(same.before, same):
            loop = same.before.loop
        if loop is None:
            loop = Loop()
            self.loops.append(loop)
        if same.loop is None:
            loop.add(same.act, same.print_)
            same.loop = loop
        loop.add(call.act, call.print_)
        call.loop = loop
        repeats = loop.prints.count(call.print_) - 1
        loop.most = max(loop.most, repeats)
        loop.peak = max(loop.peak, call.streak * WEIGHT)
        gap = (call.act.occurred_at - same.act.occurred_at) / call.lag
        # What a clock may do as well is waited for until each kind of call can be seen to keep its beat, or not.
        streak = call.streak / call.lag if _may_be_regular(call.act, gap) else call.streak
        if loop.alarm_at is None and streak * WEIGHT >= _enough(call.act, gap):
            loop.alarm_at = len(loop.acts)


def _elsewhere(one: Act, other: Act) -> bool:
    """Two sessions of one agent: what they do in turn is chance."""
    return bool(one.session and other.session) and one.session != other.session and one.actor == other.actor


def _follows_on(last: _Call, call: _Call) -> bool:
    return (
        last.loop is not None
        and last.act.operation == call.act.operation
        and call.act.occurred_at - last.act.occurred_at <= JOINED
        and not other_work(last.act, call.act)
    )


def _enough(act: Act, gap: timedelta) -> float:
    """The evidence that is enough, by what one more such charge would cost."""
    if _may_be_regular(act, gap):
        return SURE * WEIGHT
    cost, price = float(act.exact_minor or 0), _allowed(act, act.currency)
    # Half a minor unit: what a tenth of the price was rounded to is no more than a tenth.
    if price is not None and cost - (0.5 if price % 10 and cost >= 5 else 0) > DEAR * price:
        return WEIGHT
    risk = cost / (price or PLAIN_MINOR)
    return min(SURE, 2 + max(0.0, log(RARE / risk)) / WEIGHT) * WEIGHT if risk else SURE * WEIGHT


def _may_be_regular(act: Act, gap: timedelta) -> bool:
    """Far apart, a meter's reading, or a thing of which several alike are bought one by one."""
    target = act.payload.action.target if act.payload.action else None
    return gap >= SCHEDULE or is_reading(act) or (target is not None and target.type.lower() in COUNTED)


def _allowed(act: Act, currency: str) -> int | None:
    """What the task was to cost, by whoever stated it."""
    stated = stated_intent(act)
    price = stated.intent if stated else None
    if price is None or (price.currency and price.currency.upper() != currency):
        return None
    return price.max_price_minor


def charged_once(acts: Iterable[Act], told: Sequence[Taking]) -> Iterable[Act]:
    """Calls that cost something, one a charge: a retry under the same idempotency key is charged once by design."""
    place = {act.event_id: n for n, taking in enumerate(told) for act in taking.acts}
    seen: set[tuple[object, ...]] = set()
    for act in sorted(acts, key=_order):
        if not may_loop(act):
            continue
        key = (
            (act.rail, act.charge)
            if act.charge
            else ("taking", place[act.event_id])
            if takes(act)
            else ("hold", act.idempotency_key or act.event_id)
        )
        if key not in seen and ("taking", place.get(act.event_id)) not in seen:
            seen |= {key, ("taking", place[act.event_id])} if act.event_id in place else {key}
            yield act


def may_loop(act: Act) -> bool:
    """A call that cost something: a failed call that cost nothing is no charge."""
    return (
        act.type in LOOP_TYPES
        and act.spends
        and bool(act.exact_minor)
        and act.payload.call is not None
        and bool(act.operation)
    )


def _stable_keys(acts: Iterable[Act]) -> frozenset[str]:
    """Idempotency keys that were sent on two tries: such a key is the item's, and another key another item."""
    tries: dict[str, set[tuple[int | None, datetime]]] = {}
    for act in acts:
        if act.idempotency_key and act.payload.call is not None and act.payload.call.attempt is not None:
            tries.setdefault(act.idempotency_key, set()).add((act.payload.call.attempt, act.occurred_at))
    return frozenset(key for key, many in tries.items() if len({attempt for attempt, _ in many}) > 1)


def _order(act: Act) -> tuple[datetime, int]:
    return act.occurred_at, act.leaf_index
