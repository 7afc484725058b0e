"""C8: did a human answer every gate, and did nobody entitled refuse."""

from auditlog.core.gates import check_gates
from disputes.core.criteria.base import Contested, CriterionResult


def gates(it: Contested) -> CriterionResult:
    """C8: did a human answer every gate that the path lists for such an act, before it, for it, once."""
    if it.done is not it.act:
        return CriterionResult("C8", "na", f"asked of {it.done.event_id}, which has the same charge", ({"event_id": it.done.event_id, "leaf": it.done.leaf_index},))
    checks = check_gates(it.act, it.record)
    if not checks:
        return CriterionResult("C8", "na", "no grant on the path lists a gate for such an act")
    missing = [check for check in checks if check.approval is None]
    if not missing:
        answered = tuple({"event_id": c.approval.event_id, "leaf": c.approval.leaf_index} for c in checks if c.approval)
        return CriterionResult("C8", "pass", "; ".join(f"{c.kind}: {c.reason}" for c in checks), answered)
    kinds = ", ".join(check.kind for check in missing)
    hop = next(n for n, g in enumerate(it.path.grants, start=1) if missing[0].kind in (g.gates or ()))
    grant = it.path.grants[hop - 1]
    answers = tuple({"event_id": c.answer.event_id, "leaf": c.answer.leaf_index} for c in missing if c.answer and c.state != "asked")
    return CriterionResult(
        "C8", "fail", "; ".join(check.reason for check in missing),
        ({"grant": grant.id, "hop": hop, "leaf": grant.leaf_index}, *answers), ("gate_missing",),
        f"within scope with a {kinds} approval by a human, for this act, before it", hop, it.proven_at(hop),
    )  # fmt: skip
