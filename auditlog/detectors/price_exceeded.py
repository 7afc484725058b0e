"""intent.price_exceeded: a task cost more than the human asked for, in one charge or in many.

What a task is and what it has cost says core.task, which criterion I1 asks too: an act is in the finding when it passed
the price or came after. So a loop that rephrases each of its calls is found too.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from auditlog.core.acts.repeat import TYPES
from auditlog.core.acts.task import Task, tasks_of
from auditlog.core.advice import Facts, last_charge
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.detectors.base import common_grant, finding, spent_most, told_of

rule = "intent.price_exceeded"
version = 1
title = "A task cost more than was asked for"
runbook = (
    "Ask the human whether the rest was wanted; until then stop the grant. If it was not, open a case on the acts from the "
    "crossing on: what lies within the price is the principal's, what lies above it is the operator's to explain."
)
false_positives = "The human agreed to more in a channel that no source reports; a price that was stated before tax."
of_events = frozenset()  # the price may be the grant's, and what came before is told by other events
types = TYPES
partition = ("principal",)
waits = False


def advise(facts: Facts, now: datetime | None) -> str:
    idle = facts.idle(now)
    stop = (
        "stop the grant until then"
        if idle is None or idle < timedelta(days=1)
        else "make sure that the grant is stopped until then"
    )
    return (
        f"{last_charge(facts, now)} Ask the human whether the rest was wanted, and {stop}. If it was not, open a case on the acts "
        "from the crossing on: what lies within the price is the principal's, what lies above it is the operator's to explain."
    )


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    if not acts:
        return
    for task in tasks_of(record, acts[0].principal, acts).tasks:
        # An agent's own estimate is no price that a human set.
        if task.priced and not task.stated.by_actor:
            yield _finding(task, acts[0].principal)


def _finding(task: Task, principal: str) -> Finding:
    crossing = task.priced[0].first
    cost, last = task.costs[crossing.event_id], task.costs[task.priced[-1].first.event_id]
    total, over = last.before_minor + last.own_minor, task.over_minor
    asked = cost.said if cost.max_minor else "nothing was to be paid"
    period = f" in one {task.stated.intent.interval}" if task.since else ""
    return finding(
        rule,
        f"{principal} {' '.join(task.key)}"[:900],
        [taking.first for taking in task.priced],
        **told_of([*task.priced, *task.paying]),
        severity="critical"
        if cost.max_minor and total > 10 * cost.max_minor
        else "high"
        if total > 2 * cost.max_minor
        else "medium",
        title=f"{amount_text(total, cost.currency)} was spent{period}, where {asked}",
        actor=spent_most([taking.first for taking in task.priced]),
        grant=task.stated.grant or common_grant([taking.first for taking in task.priced]),
        money_at_risk_minor=over,
        currency=cost.currency,
        evidence={
            "max_price_minor": cost.max_minor,
            "spent_minor": total,
            "crossed_by": crossing.event_id,
            "stated_in": task.stated.event_id,
            "intent_leaf": task.stated.leaf_index,
        },
    )
