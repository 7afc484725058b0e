"""C11: was the act done with the key that its authority is bound to."""

from auditlog.core.chain.authority import key_bound, key_bound_by, key_shown
from disputes.core.criteria.base import Contested, CriterionResult, as_others_state


def actor_binding(it: Contested) -> CriterionResult:
    """C11: was the act done with the key that its last grant or token is bound to (`cnf`). Without `cnf` it is `na`.

    Where the act does not say which key was used, the token that was taken does: it could not be used without its own.
    """
    found = _bound(it)
    return as_others_state(it, _bound, found) or found


def _bound(it: Contested) -> CriterionResult:
    tokens = it.tokens
    bound, shown = key_bound(it.done, tokens), key_shown(it.done, tokens)
    if bound is None:
        return CriterionResult("C11", "na", "neither the token nor the last grant is bound to a key")
    here = ({"event_id": it.done.event_id, "leaf": bound.leaf_index},)
    last = it.path.grants[-1] if it.path.grants else None
    if not shown and bound.name.startswith("token "):
        shown, bound = bound.jkt, key_bound_by(last) or bound
    if not shown:
        return CriterionResult("C11", "unknown", f"{bound.name} is bound to key {bound.jkt}, and the act does not say which key was used",
                               here, cure="which key the act was done with, from whoever took it, would decide")  # fmt: skip
    if shown == bound.jkt:
        return CriterionResult("C11", "pass", f"done with the key that {bound.name} is bound to", here)
    return CriterionResult("C11", "fail", f"done with key {shown}, and {bound.name} is bound to {bound.jkt}", here, ("key_mismatch",),
                           f"within scope if done with key {bound.jkt}", len(it.path.grants) or None, bound.standing == "proven")  # fmt: skip
