"""C8: did a human answer every gate, and did nobody entitled refuse."""

from auditlog.core.chain.gates import check_gates, standing_refusal
from disputes.core.criteria.base import Contested, CriterionResult


def gates(it: Contested) -> CriterionResult:
    """C8: did a human answer every gate that the path lists for such an act, before it, for it, once; and did nobody who
    may forbid it refuse just this act. What pays for an act is asked as the act is.
    """
    if (refused := standing_refusal(it.done, it.record, it.path)) is not None:
        here = ({"event_id": refused.refusal.event_id, "leaf": refused.refusal.leaf_index},)
        failed = refused.result == "fail"
        cure = f"within scope with an approval by {refused.refusal.by}, or by somebody above, after that refusal and before the act"
        # A refusal binds whatever the grants say, so no missing grant could cure it.
        return CriterionResult(
            "C8", refused.result, refused.reason, here, ("refused",) if failed else (), cure, None, failed
        )
    checks = check_gates(it.done, it.record, it.path)
    if not checks:
        return CriterionResult("C8", "na", "no grant on the path lists a gate for such an act")
    missing = [check for check in checks if check.approval is None]
    if not missing:
        answered = tuple({"event_id": c.approval.event_id, "leaf": c.approval.leaf_index} for c in checks if c.approval)
        return CriterionResult("C8", "pass", "; ".join(f"{c.kind}: {c.reason}" for c in checks), answered)
    certain = [check for check in missing if check.result == "fail"]
    missing = certain or missing
    kinds = ", ".join(check.kind for check in missing)
    asked = set(missing[0].kind.split(" or "))
    hop = next(n for n, g in enumerate(it.path.grants, start=1) if asked & set(g.gates or ()))
    grant = it.path.grants[hop - 1]
    answers = tuple(
        {"event_id": c.answer.event_id, "leaf": c.answer.leaf_index} for c in missing if c.answer and c.state != "asked"
    )
    return CriterionResult(
        "C8", "fail" if certain else "unknown", "; ".join(check.reason for check in missing),
        ({"grant": grant.id, "hop": hop, "leaf": grant.leaf_index}, *answers), ("gate_missing",) if certain else (),
        f"within scope with a {kinds} approval by a human who may give it, for this act, before it", hop, it.proven_at(hop),
    )  # fmt: skip
