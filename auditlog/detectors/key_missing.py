"""spend.key_missing: a retry was charged, and no idempotency key could have kept it from being charged twice.

Not every payment without a key: most senders of ours never state one. Only what is itself called a further try.
"""

from collections.abc import Iterable, Sequence

from auditlog.core.acts.taking import takes
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "spend.key_missing"
version = 1
title = "A retry was charged without an idempotency key"
runbook = (
    "Ask the operator of the agent to send one idempotency key with all tries of one payment: then the provider charges it once, whatever "
    "happens between them. Check whether the try before was charged as well."
)
false_positives = "A sender that uses a key and does not report it."
of_events = frozenset({"title", "money_at_risk", "attempt", "operation"})
types = frozenset(
    "action.performed domain.registered payment.captured resource.provisioned subscription.started subscription.changed".split()
)
partition = ("event_id",)
waits = False
gathers = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        call = act.payload.call
        if call is None or (call.attempt or 0) < 2 or act.idempotency_key or not takes(act):
            continue
        what = act.operation or act.verb or act.type
        yield finding(
            rule,
            f"{act.principal} {act.actor} {act.provider} {what}"[:900],
            [act],
            severity="low",
            title=f"{what} at {act.provider or 'an unnamed provider'} was charged at try {call.attempt} without an idempotency key",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"operation": what, "attempt": call.attempt},
        )
