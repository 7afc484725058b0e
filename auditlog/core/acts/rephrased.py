"""Calls of one operation that go on past the price of their task, with other arguments each time. Pure.

Other arguments are other work for all that the record says, so that these are no loop while the task is within its price. Past
it, a long run of one operation (or of a few in turn: ask, check, ask, check) is what a loop that rephrases itself looks like,
and what an ordinary session does not show: of those of the development data (tau-bench, each call at a tenth of the price)
none had MANY calls of one operation in a row after its tenth call. A price that only an agent stated is no price.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditlog.core.acts.call import called
from auditlog.core.acts.loop import CYCLE, FORGET, may_loop
from auditlog.core.acts.taking import Taking
from auditlog.core.acts.task import Task
from auditlog.core.chain.act import Act

MANY = 8  # calls of one operation in a row
DEAR = 8  # calls that pay the price: where fewer do, fewer in a row are enough, the further it is passed
FEW = ((4, 3), (3, 4), (0, 5))  # (times the price, calls in a row)
IN_TURN = 2  # more cheap calls for each more operation that they take turns with; of dear ones, two rounds at least


@dataclass(frozen=True, slots=True)
class Rephrased:
    """One run of calls, in order of time; `operations` in turn. `alarm_at`: how many it had when it was enough."""

    task: Task
    takings: tuple[Taking, ...]
    operations: tuple[str, ...]
    alarm_at: int

    @property
    def acts(self) -> list[Act]:
        return [_call(taking) for taking in self.takings]


def rephrased(task: Task) -> Iterator[Rephrased]:
    """Runs of calls that went on past the price of this task; each as far as it goes."""
    if not task.priced or task.stated.by_actor:
        return
    past_price = {id(taking) for taking in task.priced}
    calls = [taking for taking in task.takings if may_loop(act := _call(taking)) and called(act) is not None]
    runs = [0] * (CYCLE + 1)  # by period: calls in a row that repeat the operation before
    found: tuple[int, int, int] | None = None  # first, period, alarm
    for place, taking in enumerate(calls):
        for period in range(1, CYCLE + 1):
            follows = place >= period and _same(calls[place - period], taking)
            runs[period] = runs[period] + 1 if follows else 0
        if found is not None and not runs[found[1]]:
            yield _run(task, calls[found[0] : place], found)
            found = None
        if found is None and id(taking) in past_price:
            found = _enough(task, taking, place, runs)
    if found is not None:
        yield _run(task, calls[found[0] :], found)


def _enough(task: Task, taking: Taking, place: int, runs: list[int]) -> tuple[int, int, int] | None:
    cost = task.costs[taking.first.event_id]
    own, price = float(taking.amount_minor), cost.max_minor
    total = float(cost.before_minor + cost.own_minor)
    is_cheap = own * DEAR <= price
    few = MANY if is_cheap else next(calls for times, calls in FEW if total >= times * price)
    for period in range(1, CYCLE + 1):
        length = runs[period] + period if runs[period] else 0
        if length >= (few + IN_TURN * (period - 1) if is_cheap else max(few, 2 * period)):
            return place - length + 1, period, length
    return None


def _run(task: Task, takings: list[Taking], found: tuple[int, int, int]) -> Rephrased:
    _, period, alarm = found
    names = dict.fromkeys(_call(taking).operation for taking in takings[:period])
    return Rephrased(task, tuple(takings), tuple(names), alarm)


def _call(taking: Taking) -> Act:
    return next((act for act in taking.acts if may_loop(act)), taking.first)


def _same(one: Taking, other: Taking) -> bool:
    left, right = _call(one), _call(other)
    near = right.occurred_at - left.occurred_at <= FORGET
    return near and (left.provider, left.operation) == (right.provider, right.operation)
