"""spend.bill_differs: a bill says what the record does not explain.

Here: an invoice in one currency for what was metered in another. Nothing is covered across currencies without a rate, so
both stand, and somebody has to say which is what. Line by line a bill is compared where it is imported.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Spent
from auditlog.core.money.money import amount_text, minor
from auditlog.detectors import cap_exceeded

rule = "spend.bill_differs"
version = 1
title = "A bill and the record do not say the same"
runbook = (
    "Compare the invoice with what was metered, at the rate of its day: until a rate is on record both count, each in its own money. "
    "If the meter prices too low, whatever limit reads it lets too much pass."
)
false_positives = "Usage that is metered in one currency and always billed in another, at a rate that no source states."
of_events = frozenset()  # what others metered
types = cap_exceeded.types
partition = ("principal",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False

MONTH = timedelta(days=31)  # what an invoice without a period may be for, where there is none before it


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    [principal] = {act.principal for act in acts}
    mine = record.spent_for(principal)
    bills = [line for line in mine if line.book == "billed" and line.gross_minor]
    for place, bill in enumerate(bills):
        before = max((b.at for b in bills[:place] if b.merchant == bill.merchant), default=bill.at - MONTH)
        metered = [
            line for line in mine if line.book == "incurred" and line.merchant == bill.merchant and line.currency != bill.currency
            and before < line.at <= bill.at and line.gross_minor
        ]  # fmt: skip
        if metered and not any(
            line.book == "incurred" and line.currency == bill.currency and before < line.at <= bill.at for line in mine
        ):
            yield _finding(principal, bill, metered)


def _finding(principal: str, bill: Spent, metered: Sequence[Spent]) -> Finding:
    sums: dict[str, int] = {}
    for line in metered:
        sums[line.currency] = sums.get(line.currency, 0) + line.gross_minor
    told = " and ".join(amount_text(amount, currency) for currency, amount in sorted(sums.items()))
    lines = [*metered[-200:], bill]
    return Finding(
        rule=rule,
        anchor=f"{principal} {bill.event_id}",
        severity="medium",
        title=f"{bill.merchant or 'A biller'} billed {amount_text(bill.gross_minor, bill.currency)} where {told} was metered in {len(metered)} "
        f"reading{'s' if len(metered) != 1 else ''}; no rate is on record, so both count",
        events=tuple(line.event_id for line in lines),
        leaves=tuple(line.leaf_index for line in lines),
        first_at=metered[0].at,
        last_at=bill.at,
        principal=principal,
        provider=bill.provider or None,
        money_at_risk_minor=minor(bill.gross_minor),
        currency=bill.currency,
        evidence={
            "billed_minor": minor(bill.gross_minor),
            "metered": {c: minor(a) for c, a in sorted(sums.items())},
            "readings": len(metered),
        },
    )
