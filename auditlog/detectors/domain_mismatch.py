"""intent.domain_mismatch: another name was bought than the one that was asked for."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from auditlog.core.advice import Facts, left_until
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import asked_for, assent_to, names_alike
from auditlog.core.chain.intent import closest
from auditlog.core.chain.record import Approval, Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.core.names.grace import undo_until
from auditlog.detectors.base import finding

rule = "intent.domain_mismatch"
version = 2
title = "A name was registered that differs from the stated intent"
runbook = (
    "Ask the human whether this name is wanted. If not, have the registrar delete it inside the add grace period "
    "(5 days in gTLDs), then register the intended name and open a case on the charge."
)
false_positives = "The human changed their mind in a channel that no source reports, or the name was a stated fallback."
of_events = frozenset({"money_at_risk", "undo_until"})  # the intent may be the grant's
types = frozenset({"domain.registered"})
settled_by = frozenset({"approval.decided"})  # what a human approved by name is what was wanted
partition = ("event_id",)
waits = False

_WORDS = {
    "tld_swap": "the same name under another ending",
    "hyphen": "the same name with other hyphens",
    "confusable": "a name that looks like it",
    "token_added": "the name with words added",
    "token_dropped": "the name with words left out",
    "edit": "a name a letter or two away",
    "unrelated": "an unrelated name",
}


_UNKNOWN = (
    "Ask the human whether this name is wanted. Whether it can be deleted for its price back is not known of this ending: "
    "ask the registrar at once. Then register the intended name and open a case on the charge."
)


def advise(facts: Facts, now: datetime | None) -> str:
    until = facts.time("undo_until")
    if until is None:
        return _UNKNOWN if "relation" in facts.evidence else runbook
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
        yes = assent_to(act, record)
        if yes is not None and yes.names_it:
            continue
        stated = asked_for(act, record)
        approved = [approval for approval in _approvals(act, record) if names_alike(approval, act)]
        said = "approval" if stated is not None and stated.by_approval else "intent"
        names = dict.fromkeys(stated.intent.targets, said) if stated is not None else {}
        names |= {approval.target: "approval" for approval in approved}
        relation, nearest = closest(act.object, names)
        if relation == "not_stated":
            # What the seller quoted says what was meant only where no human's word does.
            names = {
                each.object: "quote" for each in record.told_of(act) if each.type == "payment.quoted" and each.object
            }
            relation, nearest = closest(act.object, names)
        if relation in ("equal", "not_stated"):
            continue
        until = undo_until(act.object, act.occurred_at)
        price = f" for {amount_text(act.amount_minor, act.currency)}" if act.amount_minor is not None else ""
        evidence: dict[str, Any] = {"relation": relation, "intended": list(names)[:20], "stated_in": names[nearest]}
        if names[nearest] == "intent" and stated is not None:
            evidence |= {"intent_leaf": stated.leaf_index, "intent_by_actor": stated.by_actor}
        if names[nearest] == "approval":
            leaves = [each.leaf_index for each in approved if each.target == nearest]
            evidence["approval_leaf"] = leaves[0] if leaves or stated is None else stated.leaf_index
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high",
            title=f"{act.object} was registered{price}, where {nearest} was {_ASKED[names[nearest]]}: {_WORDS[relation]}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence=evidence | ({"undo_until": until.isoformat()} if until is not None else {}),
        )


_ASKED = {"intent": "asked for", "approval": "approved", "quote": "quoted"}


def _approvals(act: Act, record: Record) -> list[Approval]:
    """What humans approved under the act's request before it was done."""
    if not act.request_id:
        return []
    return [
        approval
        for approval in record.answers_to([("request", act.request_id)])
        if approval.answer == "approved" and approval.by_kind == "human" and approval.within_remit
        and approval.at <= act.occurred_at and approval.principal in ("", act.principal)
    ]  # fmt: skip
