"""spend.cross_provider_cap: each provider stays under its own limit, and the sum goes over the human's global one.

Limits for single providers take precedence over a global one where they are enforced (Stripe Projects does so), so
nobody stops this. Only a view over all providers sees it.
"""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Minor, crossings_of
from auditlog.core.money.money import amount_text
from auditlog.detectors import cap_exceeded

rule = "spend.cross_provider_cap"
version = 1
title = "Providers' limits add up to more than the human's own"
runbook = "Lower the single limits until their sum fits the global one; tell the human what the sum was."
false_positives = "The human knows that single limits take precedence and means the global one as a reminder."
of_events = frozenset()  # terms of limits and other providers
types = cap_exceeded.types
partition = ("principal",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False
of_lines = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    [principal] = {act.principal for act in acts}
    ledgers = record.ledgers_on(record.spent_for(principal))
    seen: set[str] = set()
    for crossing in (c for ledger in ledgers for c in crossings_of(ledger)):
        if crossing.limit.scope != "global" or not cap_exceeded.each_within_own_limit(crossing, ledgers):
            continue
        parts: dict[str, Minor] = {}
        for spent in crossing.counted:
            parts[spent.provider] = parts.get(spent.provider, 0) + spent.gross_minor
        currency = crossing.limit.currency
        listed = ", ".join(
            f"{provider or 'unknown'} {amount_text(part, currency)}" for provider, part in sorted(parts.items())
        )
        raised = cap_exceeded.crossing_finding(
            rule,
            principal,
            crossing,
            title=f"{amount_text(crossing.spent_minor, currency)} was spent over {len(parts)} providers ({listed}), each "
            f"within its own limit; the global limit is {amount_text(crossing.limit.max_minor or 0, currency)}",
            severity="high",
        )
        if raised.anchor not in seen:
            seen.add(raised.anchor)
            yield raised
