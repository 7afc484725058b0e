"""spend.retry_loop: the same intent is charged again and again, through whichever sub-agent or key.

What the same call is, and when calls are a loop, says core.acts.loop, which criterion I1 asks too; what goes on past its
task's price in other words, core.acts.rephrased. Partition is the principal, so a fresh sub-agent does not reset the count.
One finding a loop: it grows while the loop runs, and says when it will count as ended.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from auditlog.core.acts.loop import Loop
from auditlog.core.acts.repeat import TYPES, Past, past_of
from auditlog.core.acts.rephrased import Rephrased, rephrased
from auditlog.core.acts.taking import Taking
from auditlog.core.acts.task import tasks_of
from auditlog.core.advice import Facts, last_charge
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Minor
from auditlog.core.money.money import amount_text
from auditlog.detectors.base import common_grant, finding, spent_most, told_of

rule = "spend.retry_loop"
version = 3
title = "The same call is charged again and again"
runbook = (
    "Revoke the grant or lower its limit while the loop is spending. Ask the provider to void the repeats; show that one "
    "idempotency key would have made them one charge."
)
false_positives = (
    "Polling that is meant to be paid for each time, with arguments that never change; several results of one prompt, asked for "
    "one by one; work that is worth more than the price that was stated for it."
)
of_events = frozenset(
    {"operation", "charges", "agents", "idempotency_keys", "spent_by", "per_hour_minor", "ended_unless_by"}
)  # the price that was asked for may be the grant's
types = TYPES
partition = ("principal",)
waits = False

QUIET = timedelta(minutes=10)  # after so long without a charge, or BEATS times its usual gap, a loop has ended
BEATS = 5


def advise(facts: Facts, now: datetime | None) -> str:
    ask = "Ask the provider to void the repeats; show that one idempotency key would have made them one charge."
    idle, ends = facts.idle(now), facts.time("ended_unless_by")
    if now is not None and ends is not None:
        if now < ends:
            return f"{last_charge(facts, now)} It may still run: revoke the grant or lower its limit now. {ask}"
        return (
            f"It ended: {last_charge(facts, now)[:1].lower()}{last_charge(facts, now)[1:]} "
            f"Revoke the grant or lower its limit, so that it cannot begin again. {ask}"
        )
    if idle is not None and idle < timedelta(hours=1):
        return f"{last_charge(facts, now)} Revoke the grant or lower its limit now, before the next one. {ask}"
    return f"{last_charge(facts, now)} Revoke the grant or lower its limit, so that it cannot begin again. {ask}"


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    if not acts:
        return
    past = past_of(record, acts[0].principal, acts)
    known: set[str] = set()
    for loop in past.loops:
        known |= {act.event_id for act in loop.acts}
        yield _exact(loop, past)
    for task in tasks_of(record, acts[0].principal, acts).tasks:
        for run in rephrased(task):
            # What an exact loop explains is that loop's, and no second finding.
            if 2 * len(known.intersection(act.event_id for act in run.acts)) < len(run.takings):
                yield _in_other_words(run, past)


def _exact(loop: Loop, past: Past) -> Finding:
    currency, spent, allowed = loop.currency, loop.spent_minor, loop.allowed_minor
    first = min(loop.acts, key=lambda act: act.leaf_index)
    against = (
        f", where the task was to cost {amount_text(allowed, currency)}"
        if allowed is not None and loop.is_over_intent
        else ""
    )
    kept = _kept(loop.acts, currency, past)
    names = list(dict.fromkeys(act.operation for act in loop.acts))
    what = names[0] if len(names) == 1 else f"{', '.join(names[:4])} in turn"
    expected = allowed if allowed is not None and loop.is_over_intent else loop.first_round_minor
    back = f", of which {amount_text(spent - kept, currency)} came back" if kept < spent else ""
    return finding(
        rule,
        f"{first.principal} {loop.prints[loop.acts.index(first)]} {first.event_id}",
        loop.acts,
        **told_of([past.taking_of(act) or Taking([act]) for act in loop.acts]),
        severity=_severity(allowed, kept, loop.is_sure or loop.is_over_intent),
        title=f"{what} was charged {len(loop.acts)} times for {amount_text(spent, currency)}{back}{against}",
        actor=spent_most(loop.acts),
        grant=common_grant(loop.acts),
        money_at_risk_minor=max(0, kept - expected),
        currency=currency,
        evidence=_evidence(loop.acts, currency, "same_call" if len(set(loop.prints)) == 1 else "in_turn")
        | {"operation": what, "log_likelihood_ratio": round(loop.peak, 1)},
    )


def _in_other_words(run: Rephrased, past: Past) -> Finding:
    acts = run.acts
    cost = run.task.costs[run.takings[-1].first.event_id]
    first = min(acts, key=lambda act: act.leaf_index)
    spent = sum(act.exact_minor or 0 for act in acts if act.currency == cost.currency)
    total = cost.before_minor + cost.own_minor
    what = run.operations[0] if len(run.operations) == 1 else f"{', '.join(run.operations)} in turn"
    return finding(
        rule,
        f"{first.principal} {' '.join(run.task.key)}"[:800] + f" {first.event_id}",
        acts,
        **told_of(run.takings),
        severity="critical" if cost.max_minor and total > 10 * cost.max_minor else "high",
        title=f"{what} was charged {len(acts)} times in a row with other arguments for {amount_text(spent, cost.currency)}; the task has "
        f"cost {amount_text(total, cost.currency)}, where it was to cost {amount_text(cost.max_minor, cost.currency)}",
        actor=spent_most(acts),
        grant=run.task.stated.grant or common_grant(acts),
        money_at_risk_minor=max(0, min(_kept(acts, cost.currency, past), total - cost.max_minor)),
        currency=cost.currency,
        evidence=_evidence(acts, cost.currency, "other_words")
        | {"operation": what, "max_price_minor": cost.max_minor, "task_minor": total},
    )


def _evidence(acts: Sequence[Act], currency: str, kind: str) -> dict:
    by_agent: dict[str, list[Act]] = defaultdict(list)
    for act in acts:
        by_agent[act.actor].append(act)
    agents = sorted(by_agent.items(), key=lambda each: (-len(each[1]), each[0]))
    times = [act.occurred_at for act in acts]
    gaps = [(after - before).total_seconds() for before, after in pairwise(sorted(times))]
    quiet = max(QUIET, BEATS * timedelta(seconds=median(gaps))) if gaps else QUIET
    return {
        "kind": kind,
        "charges": len(acts),
        "agents": len(by_agent),
        "spent_by": [
            {"agent": agent, "charges": len(many), "amount_minor": _sum(many, currency)} for agent, many in agents[:50]
        ],
        "idempotency_keys": len({act.idempotency_key for act in acts}),
        "per_hour_minor": _per_hour(acts, currency),
        "ended_unless_by": (max(times) + quiet).isoformat(),
    }


def _per_hour(acts: Sequence[Act], currency: str) -> int | None:
    """What it costs an hour while it runs: all but the first charge, over the time since that. None: all at one instant."""
    times = sorted(act.occurred_at for act in acts)
    seconds = (times[-1] - times[0]).total_seconds()
    share = (len(acts) - 1) / len(acts)
    return round(float(_sum(acts, currency)) * share * 3600 / seconds) if seconds else None


def _sum(acts: Iterable[Act], currency: str) -> Minor:
    return sum(act.exact_minor or 0 for act in acts if act.currency == currency)


def _severity(allowed: int | None, kept: Minor, is_sure: bool) -> str:
    if allowed and kept > 10 * allowed:
        return "critical"
    return "high" if kept > 0 and is_sure else "medium"


def _kept(acts: Iterable[Act], currency: str, past: Past) -> Minor:
    """What was not given back of it."""
    kept: Minor = 0
    for act in acts:
        if act.currency == currency:
            taking = past.taking_of(act)
            kept += min(act.exact_minor or 0, taking.net_minor) if taking else act.exact_minor or 0
    return kept
