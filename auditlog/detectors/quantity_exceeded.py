"""intent.quantity_exceeded: more things were bought than the human asked for.

Things, not calls or readings: what counts as one more says core.task, which criterion I1 asks too.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from auditlog.core.acts.repeat import TYPES
from auditlog.core.acts.taking import Taking
from auditlog.core.acts.task import Task, tasks_of
from auditlog.core.advice import Facts, last_charge, left_until
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.names.grace import last_of
from auditlog.detectors.base import finding, told_of

rule = "intent.quantity_exceeded"
version = 1
title = "More was bought than was asked for"
runbook = (
    "Ask the human which of them are wanted, and give the others back while the seller takes them back: a name can be "
    "deleted within 5 days in gTLDs, an order is often still open on the same day."
)
false_positives = "A number that meant each of several kinds of things; a replacement for something that did not work."
of_events = frozenset({"bought"})  # the number may be the grant's
types = TYPES
partition = ("principal",)
waits = False


def advise(facts: Facts, now: datetime | None) -> str:
    until = facts.time("undo_until")
    ask = f"{last_charge(facts, now)} Ask the human which of them are wanted"
    if until is None:
        return f"{ask}, and give the others back where the seller still takes them back."
    if now is not None and now >= until:
        return f"{ask}. The others can no longer be deleted for their price back: the add grace period ran {left_until(until, now)}."
    return f"{ask}, and have the others deleted: the last of them can be given back {left_until(until, now)} (add grace period)."


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    if not acts:
        return
    for task in tasks_of(record, acts[0].principal, acts).tasks:
        counts = ((taking, task.counts.get(taking.first.event_id)) for taking in task.bought)
        beyond = [taking for taking, count in counts if count is not None and count.is_over]
        if beyond and not task.stated.by_actor:
            yield _finding(task, acts[0].principal, beyond)


def _finding(task: Task, principal: str, beyond: Sequence[Taking]) -> Finding:
    currencies = {taking.currency for taking in beyond}
    until = last_of([(taking.first.object, taking.at) for taking in beyond])
    wanted, number = task.counts[beyond[-1].first.event_id]
    return finding(
        rule,
        f"{principal} {' '.join(task.key)}"[:900],
        [taking.first for taking in beyond],
        **told_of(beyond),
        severity="high" if number > 2 * max(1, wanted) else "medium",
        title=f"{number} were bought, where {wanted} {'was' if wanted == 1 else 'were'} asked for",
        money_at_risk_minor=sum(taking.net_minor for taking in beyond) if len(currencies) == 1 else None,
        currency=next(iter(currencies)) if len(currencies) == 1 else None,
        evidence={
            "quantity": wanted,
            "number": number,
            "bought": [taking.first.object for taking in beyond[:200]],
            "stated_in": task.stated.event_id,
            "intent_leaf": task.stated.leaf_index,
        }
        | (
            {"undo_until": until.isoformat()}
            if until is not None and all(t.first.type == "domain.registered" for t in beyond)
            else {}
        ),
    )
