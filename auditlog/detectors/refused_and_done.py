"""authority.refused_and_done: an act that somebody entitled had refused, done all the same. No is an answer."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import standing_refusal
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES, is_use
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "authority.refused_and_done"
version = 1
title = "Done after it was refused"
runbook = (
    "Stop the agent: it went on after a no. Undo the act where it can be undone, and ask whoever ran the gate how the act "
    "could get past the refusal."
)
false_positives = (
    "Who refused it allowed it again where we do not hear of it, or the same request was reused for something else."
)
of_events = frozenset({"money_at_risk"})  # who refused, the approval says
types = USE_TYPES | {"payment.settled"}
partition = ("event_id",)
waits = True  # a yes that was given after the no may arrive a moment later
settled_by = frozenset({"approval.decided"})
gathers = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        refused = standing_refusal(act, record) if act.happened and act.environment == "live" else None
        if refused is None or refused.result != "fail" or not (is_use(act, record) or act.type == "payment.settled"):
            continue
        refusal = refused.refusal
        yield finding(
            rule,
            f"refusal {refusal.event_id}",
            [act],
            severity="critical" if act.payload.action is not None and act.payload.action.irreversible else "high",
            title=f"{act.verb or act.type} on {act.object or 'something unnamed'}: {refused.reason}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"refused_by": refusal.by, "refused_at": refusal.at.isoformat(), "refusal": refusal.event_id,
                      "leaf": refusal.leaf_index, "seconds_late": (act.occurred_at - refusal.at).total_seconds()},
        )  # fmt: skip
