"""spend.duplicate_charge: one thing was paid for twice.

One idempotency key charged twice is the provider's fault: it should have answered with the first charge. One order,
invoice, name or subscription period charged again under another key is ours, however long after; so is any other thing
bought again within the hour for the same amount, beyond how many were asked for. What a repeat is says core.repeat, which
criteria C13 and I1 ask too.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from auditlog.core.acts.repeat import TYPES, Past, Repeat, is_own_word, past_of
from auditlog.core.acts.taking import Taking
from auditlog.core.advice import Facts, last_charge
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.detectors.base import finding, told_of

rule = "spend.duplicate_charge"
version = 1
title = "One thing was charged twice"
runbook = (
    "Ask the provider to refund the later charge: one key charged twice is its own fault and it owes the money back; under "
    "different keys the agent's operator sent the payment twice. Have the agent send one idempotency key per purchase."
)
false_positives = (
    "The same thing wanted twice, where no source says how many; payments in parts that happen to be equal."
)
of_events = frozenset({"charges", "kind"})  # what came back is told by other events
types = TYPES
partition = ("principal",)
waits = False

LARGE, SMALL = 1_000_000, 1_000  # minor units


def advise(facts: Facts, now: datetime | None) -> str:
    kind = facts.evidence.get("kind")
    if kind is None:
        return runbook
    if facts.evidence.get("kept_minor") == 0:
        return f"{last_charge(facts, now)} All of what was charged twice came back. Have the agent send one idempotency key per purchase."
    if kind == "key" and facts.evidence.get("key_is_own_word"):
        ask = "Only the agent's own side says that both charges bore this key: ask the provider which keys it was sent. One key is its fault, two are the operator's."
    elif kind == "key":
        ask = "Ask the provider to refund the later charge, with the one idempotency key as proof: it should have answered with the first."
    else:
        ask = "Ask the provider to refund the later charge, and the agent's operator why it was sent under another key."
    return f"{last_charge(facts, now)} {ask}"


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    if not acts:
        return
    past = past_of(record, acts[0].principal, acts)
    groups: dict[tuple[str, str, str], list[Repeat]] = {}
    for repeat in past.repeats:
        # What a loop holds is found as a loop, once.
        if repeat.by_provider or not _is_in_loop(repeat, past):
            groups.setdefault((repeat.kind, repeat.thing, repeat.first.first.event_id), []).append(repeat)
    for (kind, thing, first_id), many in groups.items():
        yield _finding(kind, thing, first_id, many, any(is_own_word(repeat, record) for repeat in many))


def _is_in_loop(repeat: Repeat, past: Past) -> bool:
    one, other = past.loop_of(repeat.taking.first), past.loop_of(repeat.first.first)
    return one is not None and other is not None and one[0] is other[0]


def _finding(kind: str, thing: str, first_id: str, many: Sequence[Repeat], is_claimed: bool) -> Finding:
    first, again = many[0].first, [repeat.taking for repeat in many]
    takings = [first, *again]
    currency = first.currency
    kept, taken = sum(each.net_minor for each in again), sum(each.amount_minor for each in again)
    what = (
        f"Idempotency key {thing}"
        if kind == "key"
        else f"{kind.capitalize()} {thing}"
        if kind in ("order", "invoice")
        else thing
    )
    total = amount_text(sum(each.amount_minor for each in takings), currency)
    back = f"; {amount_text(taken - kept, currency)} of it came back" if kept < taken else ""
    return finding(
        rule,
        f"{first.first.principal} {kind} {thing}"[:700] + f" {first_id}",
        [each.first for each in takings],
        **told_of(takings),
        severity=_severity(kept, taken),
        title=f"{what} was charged {_times(len(takings))} for {total}{back}",
        money_at_risk_minor=kept,
        currency=currency,
        evidence={
            "kind": kind,
            "charges": [_said(each) for each in takings[:100]],
            "repeats": [each.first.event_id for each in again[:1000]],
            "kept_minor": kept,
            **({"key_is_own_word": True} if is_claimed else {}),
        },
    )


def _severity(kept: int, taken: int) -> str:
    if kept == 0:
        return "low"
    if kept >= LARGE:
        return "critical"
    return "high" if taken >= SMALL else "medium"


def _said(taking: Taking) -> dict[str, str | int]:
    charge = next((act.charge for act in taking.acts if act.charge), "")
    return {
        "event_id": taking.first.event_id,
        "charge": charge,
        "amount_minor": taking.amount_minor,
        "at": taking.at.isoformat(),
    }


def _times(number: int) -> str:
    return {2: "twice", 3: "three times"}.get(number, f"{number} times")
