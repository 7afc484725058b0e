"""C0: is the record of the act what was signed."""

from auditlog.core.chain.act import Act
from disputes.core.criteria.base import CriterionResult, Integrity


def integrity_of(act: Act, check: Integrity | None) -> CriterionResult:
    """C0: are the stored bytes those that were signed and that the tree commits to. No checkpoint yet is no failure."""
    here = ({"event_id": act.event_id, "leaf": act.leaf_index},)
    if check is None:
        return CriterionResult(
            "C0", "unknown", "the act's leaf was not checked", here, cure="a check of the act's leaf would decide"
        )
    if not check.commitment_ok or check.signature_ok is False:
        what = (
            "the bytes are not those that the leaf commits to"
            if not check.commitment_ok
            else "the signature does not fit the bytes"
        )
        return CriterionResult(
            "C0", "fail", check.reason or what, here, ("integrity",), "the original bytes would decide"
        )
    if not act.within_remit:
        return CriterionResult(
            "C0", "unknown", f"source {act.source} may not speak for {act.type}: the act is claimed, not proven", here,
            cure="a statement of the act by a source that may speak for it would decide",
        )  # fmt: skip
    signed = "signature fits" if check.signature_ok else "signature was checked on receipt, not again"
    covered = (
        f"checkpoint {check.checkpoint_size:,} covers it"
        if check.checkpoint_size is not None
        else "no checkpoint covers it yet"
    )
    return CriterionResult("C0", "pass", f"leaf {check.leaf_index}, grade {check.grade}: {signed}, {covered}", here)
