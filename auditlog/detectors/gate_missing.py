"""authority.gate_missing: an act that its grant wanted a human to approve, and none did."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import surely
from auditlog.core.chain.gates import check_gates
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "authority.gate_missing"
version = 1
title = "A human's approval is missing"
runbook = "Ask whoever ran the gate for the approval and what it was bound to; without one they bear the act."
false_positives = "The approval is in a system that does not report to us, or reports late."
of_events = frozenset({"money_at_risk"})  # which gates there are, the grant says
types = USE_TYPES | {"payment.settled"}
partition = ("event_id",)
waits = True
settled_by = frozenset({"approval.decided"})  # an approval that comes late takes the ground from findings made before


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not act.happened or act.environment != "live":
            continue
        missing = surely(
            act, lambda act: [check for check in check_gates(act, record) if check.result == "fail"] or None
        )
        if not missing:
            continue
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high",
            title=f"{act.verb or act.type} on {act.object or 'something unnamed'}: {missing[0].reason}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"gates": [check.kind for check in missing], "reasons": [check.reason for check in missing]},
        )
