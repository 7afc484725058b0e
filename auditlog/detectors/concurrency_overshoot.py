"""spend.concurrency_overshoot: authorized in flight above the limit at an instant."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import overshoots_of
from auditlog.core.money.money import amount_text
from auditlog.detectors import cap_exceeded

rule = "spend.concurrency_overshoot"
version = 1
title = "More was authorized at once than a limit allows"
runbook = (
    "Ask whoever enforces the limit why each authorization was checked by itself: reserve before authorizing, and count what is open. "
    "Release the authorizations that are not needed."
)
false_positives = "Holds that a provider places and releases by itself, of which no source tells the release."
of_events = frozenset()  # a limit's terms
types = cap_exceeded.types
partition = ("principal",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False
of_lines = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    [principal] = {act.principal for act in acts}
    seen: set[str] = set()
    for ledger in record.ledgers_on(record.spent_for(principal)):
        for crossing in overshoots_of(ledger):
            limit = crossing.limit
            raised = cap_exceeded.crossing_finding(
                rule,
                principal,
                crossing,
                title=f"{amount_text(crossing.in_flight_minor, limit.currency)} was authorized at once{cap_exceeded.where(crossing)}"
                + (
                    f" beside {amount_text(crossing.spent_minor - crossing.in_flight_minor, limit.currency)} spent"
                    if crossing.spent_minor > crossing.in_flight_minor
                    else ""
                )
                + f", over the limit of {amount_text(limit.max_minor or 0, limit.currency)}{cap_exceeded.per(crossing)}",
                severity="low" if limit.enforcement == "alert_only" else "medium",
            )
            if raised.anchor not in seen:
                seen.add(raised.anchor)
                yield raised
