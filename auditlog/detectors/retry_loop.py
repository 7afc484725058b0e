"""spend.retry_loop: the same intent is charged again and again, through whichever sub-agent or key.

What the same call is, and when a run of them is a loop, says core.repeat, which criterion I1 asks too. Partition is the
principal, so a fresh sub-agent does not reset the count. Alarm comes sooner once the money is beyond what the task was
allowed to cost.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from auditlog.core.acts.repeat import TYPES, Loop, Past, past_of
from auditlog.core.acts.taking import Taking
from auditlog.core.advice import Facts, last_charge
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.detectors.base import common_grant, finding, spent_most, told_of

rule = "spend.retry_loop"
version = 2
title = "The same call is charged again and again"
runbook = (
    "Revoke the grant or lower its limit while the loop is spending. Ask the provider to void the repeats; show that one "
    "idempotency key would have made them one charge."
)
false_positives = "Polling that is meant to be paid for each time, with arguments that never change."
of_events = frozenset(
    {"operation", "charges", "agents", "idempotency_keys", "spent_by"}
)  # the price that was asked for may be the grant's
types = TYPES
partition = ("principal",)
waits = False


def advise(facts: Facts, now: datetime | None) -> str:
    ask = "Ask the provider to void the repeats; show that one idempotency key would have made them one charge."
    idle = facts.idle(now)
    if idle is not None and idle < timedelta(hours=1):
        return f"{last_charge(facts, now)} Revoke the grant or lower its limit now, before the next one. {ask}"
    return f"{last_charge(facts, now)} Revoke the grant or lower its limit, so that it cannot begin again. {ask}"


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    if not acts:
        return
    past = past_of(record, acts[0].principal, acts)
    for loop in past.loops:
        yield _judge(loop, past)


def _judge(loop: Loop, past: Past) -> Finding:
    currency, spent, allowed = loop.currency, loop.spent_minor, loop.allowed_minor
    first = min(loop.acts, key=lambda act: act.leaf_index)
    against = (
        f", where the task was to cost {amount_text(allowed, currency)}"
        if allowed is not None and loop.is_over_intent
        else ""
    )
    kept = _kept(loop, past)
    by_agent: dict[str, list[Act]] = {}
    for act in loop.acts:
        by_agent.setdefault(act.actor, []).append(act)
    expected = allowed if allowed is not None else loop.acts[0].exact_minor or 0
    back = f", of which {amount_text(spent - kept, currency)} came back" if kept < spent else ""
    return finding(
        rule,
        f"{first.principal} {loop.print_} {first.event_id}",
        loop.acts,
        **told_of([past.taking_of(act) or Taking([act]) for act in loop.acts]),
        severity=_severity(allowed, kept),
        title=f"{loop.acts[0].operation} was charged {len(loop.acts)} times for {amount_text(spent, currency)}{back}{against}",
        actor=spent_most(loop.acts),
        grant=common_grant(loop.acts),
        money_at_risk_minor=max(0, kept - expected),
        currency=currency,
        evidence={
            "operation": loop.acts[0].operation, "charges": len(loop.acts), "agents": len(by_agent),
            "spent_by": [
                {"agent": agent, "charges": len(many), "amount_minor": sum(act.exact_minor or 0 for act in many if act.currency == currency)}
                for agent, many in sorted(by_agent.items(), key=lambda each: (-len(each[1]), each[0]))[:50]
            ],
            "idempotency_keys": len({act.idempotency_key for act in loop.acts}), "log_likelihood_ratio": round(loop.peak, 1),
        },
    )  # fmt: skip


def _severity(allowed: int | None, kept: int) -> str:
    if allowed and kept > 10 * allowed:
        return "critical"
    return "high" if kept > 0 else "medium"


def _kept(loop: Loop, past: Past) -> int:
    """What was not given back of it."""
    kept = 0
    for act in loop.acts:
        if act.currency == loop.currency:
            taking = past.taking_of(act)
            kept += min(act.exact_minor or 0, taking.net_minor) if taking else act.exact_minor or 0
    return kept
