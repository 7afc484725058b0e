"""spend.retry_loop: the same intent is charged again and again, through whichever sub-agent or key.

Calls are the same when provider, operation and arguments agree once volatile arguments (ids, times, counters, names
for display) are left out. Partition is the principal, so a fresh sub-agent does not reset the count. Evidence is
gathered as a sequential log-likelihood ratio of "repeat" under a loop against an ordinary session; a call counts as a
repeat when one of the last few different calls was the same, so cycles of up to four are seen. Alarm comes sooner once
the money is beyond what the task was allowed to cost.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from math import log

import msgspec
import rfc8785

from auditlog.core.act import Act
from auditlog.core.finding import Finding
from auditlog.core.intent import stated_intent
from auditlog.core.money import amount_text
from auditlog.core.record import Record
from auditlog.detectors import finding

rule = "spend.retry_loop"
version = 1
title = "The same call is charged again and again"
runbook = (
    "Revoke the grant or lower its limit now: the loop is still spending until it is stopped. Ask the provider to void "
    "the repeats; show that one idempotency key would have made them one charge."
)
false_positives = "Polling that is meant to be paid for each time, with arguments that never change."
of_events = frozenset({"operation", "charges", "agents", "idempotency_keys"})  # the price that was asked for may be the grant's
types = frozenset({"usage.metered", "payment.captured", "payment.authorized", "action.performed", "resource.provisioned"})
partition = ("principal",)
waits = False

# Benign base rate: in 1,164 calls of 200 ordinary agent sessions no call came three times in a row, so a repeat is
# well under one call in twenty (tau-bench, the development data of the detectors).
REPEAT_HEALTHY, REPEAT_LOOP = 0.05, 0.9
ALARM = log(1e5)
ALARM_OVER_INTENT = log(1e3)
FORGET = timedelta(hours=6)
CYCLE = 4
_VOLATILE = re.compile(
    r"(^|_)(id|ids|uuid|guid|nonce|ts|time|timestamp|at|date|attempt|retry|retries|seq|sequence|counter|count|trace|"
    r"span|request|title|label|display|name)$",
    re.IGNORECASE,
)
_VOLATILE_CAMEL = re.compile(r"(Id|Uuid|Time|Timestamp|At|Date|Attempt|Name)$")


@dataclass(slots=True)
class Run:
    """Calls of one fingerprint that follow each other closely enough."""

    evidence: float = 0.0
    acts: list[Act] = field(default_factory=list)
    peak: float = 0.0


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    charged = sorted(_charged_once(acts), key=lambda act: (act.occurred_at, act.leaf_index))
    runs: dict[str, Run] = {}
    recent: dict[str, list[str]] = {}
    done: list[tuple[str, Run]] = []
    for act in charged:
        print_ = fingerprint(act)
        run = runs.get(print_)
        if run is not None and act.occurred_at - run.acts[-1].occurred_at > FORGET:
            done.append((print_, run))
            run = None
        last = recent.setdefault(act.provider, [])
        if run is None:
            runs[print_] = Run(acts=[act])
        else:
            repeat = print_ in last[-CYCLE:]
            run.evidence = max(0.0, run.evidence + _weight(repeat))
            run.peak = max(run.peak, run.evidence)
            run.acts.append(act)
        if print_ in last:
            last.remove(print_)
        last.append(print_)
        del last[:-16]
    for print_, run in [*done, *runs.items()]:
        if (raised := _judge(print_, run)) is not None:
            yield raised


def _charged_once(acts: Sequence[Act]) -> Iterable[Act]:
    """Calls that cost something, one a charge: a retry under the same idempotency key is charged once by design."""
    seen: set[tuple[str, str]] = set()
    for act in acts:
        if not act.spends or act.payload.call is None or not act.operation:
            continue
        key = (act.rail, act.charge) if act.charge else ("key", act.idempotency_key or act.event_id)
        if key not in seen:
            seen.add(key)
            yield act


def _weight(repeat: bool) -> float:
    if repeat:
        return log(REPEAT_LOOP / REPEAT_HEALTHY)
    return log((1 - REPEAT_LOOP) / (1 - REPEAT_HEALTHY))


def fingerprint(act: Act) -> str:
    """Provider, operation and arguments without what changes between tries of one thing."""
    call = act.payload.call
    args = {name: _plain(value) for name, value in (call.args or {}).items() if not _is_volatile(name)}
    body = [act.provider, call.operation, args, "" if args else call.args_digest]
    return sha256(rfc8785.dumps(body)).hexdigest()[:32]


def _is_volatile(name: str) -> bool:
    return bool(_VOLATILE.search(name) or _VOLATILE_CAMEL.search(name))


def _plain(raw: msgspec.Raw) -> str:
    """An argument as text, with volatile members of nested objects dropped."""

    def strip(value):
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in sorted(value.items()) if not _is_volatile(key)}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return msgspec.json.encode(strip(msgspec.json.decode(raw))).decode()


def _judge(print_: str, run: Run) -> Finding | None:
    currency = run.acts[0].currency
    spent = sum(act.amount_minor or 0 for act in run.acts if act.currency == currency)
    stated = stated_intent(run.acts[0])
    allowed = stated.intent.max_price_minor if stated else None
    over_intent = allowed is not None and spent > allowed
    if run.peak < (ALARM_OVER_INTENT if over_intent else ALARM):
        return None
    first = min(run.acts, key=lambda act: act.leaf_index)
    against = f", where the task was to cost {amount_text(allowed, currency)}" if over_intent else ""
    agents = len({act.actor for act in run.acts})
    keys = len({act.idempotency_key for act in run.acts})
    return finding(
        rule,
        f"{first.principal} {print_} {first.event_id}",
        run.acts,
        severity="critical" if allowed and spent > 10 * allowed else "high",
        title=f"{run.acts[0].operation} was charged {len(run.acts)} times for {amount_text(spent, currency)}{against}",
        money_at_risk_minor=spent - min(spent, allowed if allowed is not None else run.acts[0].amount_minor or 0),
        currency=currency,
        evidence={"operation": run.acts[0].operation, "charges": len(run.acts), "agents": agents,
                  "idempotency_keys": keys, "log_likelihood_ratio": round(run.peak, 1)},
    )  # fmt: skip
