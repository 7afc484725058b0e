"""intent.unforeseen: something that cannot be undone was done, and it is none of what was asked for: the first such act of its
kind in this human's name. What was asked for is no precedent of what was not.

A kind is a verb, a provider and what it was done to. Asked for is what a human's intent names, what a human approved, and
what a grant names by itself. Where nobody stated an intent that names things there is nothing to differ from; of a domain
name that differs from the names asked for intent.domain_mismatch says all there is to say.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from auditlog.core.advice import Facts, left_until
from auditlog.core.chain.act import ACT_TYPES, PAYMENT_TYPES, Act
from auditlog.core.chain.gates import check_gates, said_yes
from auditlog.core.chain.intent import compare_domain, is_listed, stated_intent
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.core.names.grace import undo_until
from auditlog.detectors.base import finding

rule = "intent.unforeseen"
version = 1
title = "A first act of its kind that cannot be undone, and that nobody asked for by name"
runbook = (
    "Ask the human whether this was wanted. If not, undo what still can be undone, narrow the grant to what was asked for, "
    "and have acts of this kind approved from now on."
)
false_positives = "The human asked for it in a channel that no source reports, or it is a step of what was asked for."
of_events = frozenset(
    {"money_at_risk", "undo_until"}
)  # what came first hangs on other events, and the intent is the grant's
types = ACT_TYPES - PAYMENT_TYPES - {"usage.metered", "terms.accepted"}
partition = ("principal",)
waits = False

Kind = tuple[str, str, str, str]  # principal, verb, provider, what it was done to

_FOR_GOOD = frozenset({"domain.registered", "domain.transferred"})


def advise(facts: Facts, now: datetime | None) -> str:
    until = facts.time("undo_until")
    if until is None or now is None:
        return runbook
    if now >= until:
        return f"Ask the human whether this was wanted. It can no longer be given back for its price: that ran {left_until(until, now)}. {_THEN}"
    return f"Ask the human whether this was wanted. If not, have the registrar delete it {left_until(until, now)} (add grace period). {_THEN}"


_THEN = "Narrow the grant to what was asked for, and have acts of this kind approved from now on."


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    first: dict[Kind, Act] = {}
    for act in sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index)):
        if is_unasked(act, record):
            first.setdefault(kind_of(act), act)
    yield from (finding_of(act) for act in first.values())


def kind_of(act: Act) -> Kind:
    target = act.payload.action.target if act.payload.action else None
    what = "domain" if act.type.startswith("domain.") else target.type.lower() if target else ""
    return act.principal, act.verb or act.type, act.provider, what


def is_final(act: Act) -> bool:
    """Whether an agent did something that its source says cannot be undone, or that is undone for a while only."""
    action = act.payload.action
    if not act.happened or act.environment != "live" or act.type not in types or not act.principal:
        return False
    if act.payload.mode == "direct" or act.actor in ("", act.principal):
        return False
    return act.type in _FOR_GOOD or (action is not None and action.irreversible)


def is_unasked(act: Act, record: Record) -> bool:
    """Whether it is such an act and a human's intent names things, of which it is none; doubt is no such act."""
    if not is_final(act):
        return False
    stated = stated_intent(act)
    if stated is None or stated.by_actor or not stated.intent.targets or not act.object:
        return False
    if is_listed(act, stated.intent) or _is_granted_by_name(act):
        return False
    if act.type == "domain.registered" and compare_domain(act, stated).relation != "not_stated":
        return False
    below = any(act.object.startswith(f"{target.rstrip('/')}/") for target in stated.intent.targets)
    return not below and not said_yes(act, record) and all(check.result == "fail" for check in check_gates(act, record))


def _is_granted_by_name(act: Act) -> bool:
    named = {
        resource.lower()
        for grant in act.path.grants
        for detail in grant.details or ()
        for resource in detail.resources or ()
    }
    return bool(named & {act.object.lower().rstrip("."), act.target.lower(), act.resource.lower()})


def finding_of(act: Act) -> Finding:
    stated = stated_intent(act)
    asked = stated.intent.targets if stated is not None else []
    until = undo_until(act.object, act.occurred_at) if act.type == "domain.registered" else None
    price = f" for {amount_text(act.amount_minor, act.currency)}" if act.amount_minor else ""
    at = f" at {act.provider}" if act.provider else ""
    more = f" and {len(asked) - 1} more" if len(asked) > 1 else ""
    _, verb, provider, what = kind_of(act)
    return finding(
        rule,
        act.event_id,
        [act],
        severity="medium" if act.amount_minor else "low",
        title=f"{verb} on {act.object}{at}{price} cannot be undone for long, and {asked[0]}{more} was asked for"
        if until
        else f"{verb} on {act.object}{at}{price} cannot be undone, and {', '.join(asked[:1])}{more} was asked for",
        money_at_risk_minor=act.amount_minor,
        currency=act.currency or None,
        evidence={
            "kind": {"verb": verb, "provider": provider, "what": what},
            "asked_for": list(asked)[:20],
            **({"stated_in": stated.event_id, "intent_leaf": stated.leaf_index} if stated is not None else {}),
            **({"undo_until": until.isoformat()} if until is not None else {}),
        },
    )
