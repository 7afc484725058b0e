"""intent.domain_mismatch: another name was bought than the one that was asked for."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from auditlog.core.advice import Facts, left_until
from auditlog.core.chain.act import Act
from auditlog.core.chain.intent import compare_domain
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.detectors.base import finding
from auditlog.detectors.bulk_registration import ADD_GRACE

rule = "intent.domain_mismatch"
version = 1
title = "A name was registered that differs from the stated intent"
runbook = (
    "Ask the human whether this name is wanted. If not, have the registrar delete it inside the add grace period "
    "(5 days in gTLDs), then register the intended name and open a case on the charge."
)
false_positives = "The human changed their mind in a channel that no source reports, or the name was a stated fallback."
of_events = frozenset({"money_at_risk", "undo_until"})  # the intent may be the grant's
types = frozenset({"domain.registered"})
partition = ("event_id",)
waits = False

_WORDS = {
    "tld_swap": "the same name under another ending",
    "hyphen": "the same name with other hyphens",
    "confusable": "a name that looks like it",
    "token_added": "the name with words added or dropped",
    "edit": "a name a letter or two away",
    "unrelated": "an unrelated name",
}


def advise(facts: Facts, now: datetime | None) -> str:
    until = facts.time("undo_until")
    if until is None:
        return runbook
    if now is not None and now >= until:
        return (
            f"Ask the human whether this name is wanted. If not, it can no longer be deleted for its price back: the add grace period ran {left_until(until, now)}. "
            "Register the intended name, let this one expire, and open a case on the charge."
        )
    return (
        f"Ask the human whether this name is wanted. If not, have the registrar delete it {left_until(until, now)} (add grace period), "
        "then register the intended name and open a case on the charge."
    )


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if act.environment != "live" or act.outcome != "success":
            continue
        comparison = compare_domain(act)
        if comparison.relation in ("equal", "not_stated") or comparison.stated is None:
            continue
        undo_until = act.occurred_at + ADD_GRACE
        price = f" for {amount_text(act.amount_minor, act.currency)}" if act.amount_minor is not None else ""
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high",
            title=f"{act.object} was registered{price}, where {comparison.nearest} was asked for: "
            f"{_WORDS[comparison.relation]}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={
                "relation": comparison.relation,
                "intended": list(comparison.stated.intent.targets[:20]),
                "intent_leaf": comparison.stated.leaf_index,
                "intent_by_actor": comparison.stated.by_actor,
                "undo_until": undo_until.isoformat(),
            },
        )
