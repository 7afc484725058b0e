"""C12 and C13: what the principal could have done in person, and whether one key was charged twice."""

from auditlog.core.acts.repeat import is_own_word, past_of
from auditlog.core.acts.taking import takes
from disputes.core.criteria.base import Contested, CriterionResult, Evidence
from disputes.core.criteria.intent import told_around


def own_power(it: Contested) -> CriterionResult:
    """C12: no event states what a principal may do in person: without that the question does not arise."""
    return CriterionResult("C12", "na", "nothing on record states what the principal may do in person")


def replay(it: Contested) -> CriterionResult:
    """C13: one idempotency key is one payment. A second charge under it is nobody's act but the provider's.

    Without a key it is `na`; the same thing under another key is a question of I1.
    """
    principal, acts = told_around(it)
    past = past_of(it.record, principal, acts)
    taking, repeat = past.taking_of(it.act), past.repeat_of(it.act)
    here: Evidence = {"event_id": it.act.event_id, "leaf": it.act.leaf_index}
    if repeat is not None and repeat.by_provider:
        first = repeat.first.first
        if is_own_word(repeat, it.record):
            return CriterionResult(
                "C13", "unknown", f"{repeat.words}, by {first.event_id}, as only the acting side says",
                ({"event_id": first.event_id, "leaf": first.leaf_index}, here),
                cure="which idempotency key each charge bore, from the provider or the payment system, would decide",
            )  # fmt: skip
        return CriterionResult(
            "C13", "fail", f"{repeat.words}, by {first.event_id}: this is charge number {repeat.number}",
            ({"event_id": first.event_id, "leaf": first.leaf_index}, here), ("key_charged_twice",),
            "within scope if the provider had answered the key with its first charge",
        )  # fmt: skip
    keyed = it.act.idempotency_key or (taking is not None and taking.keys)
    if not keyed:
        return CriterionResult("C13", "na", "the act names no idempotency key")
    if not takes(it.act) and taking is None:
        return CriterionResult("C13", "na", "nothing was charged by it")
    return CriterionResult("C13", "pass", "its idempotency key was charged once", (here,))
