"""spend.authority_exceeded: a payment authority used above its ceiling or after its end."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text, minor
from auditlog.core.money.payment_authority import OverAuthority
from auditlog.detectors import cap_exceeded

rule = "spend.authority_exceeded"
version = 1
title = "A payment authority was used beyond what it allowed"
runbook = (
    "Ask whoever took the payment why the ceiling or the end was not looked at: both stand in the authority that it was shown. End the "
    "authority where it is still open, and claim back what was taken beyond it."
)
false_positives = "An authority that was granted again, or raised, in a system that does not report to us."
of_events = frozenset()  # the authority's terms
types = cap_exceeded.types | {"payment.authority_granted", "payment.authority_ended"}
partition = ("principal",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False
of_lines = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    [principal] = {act.principal for act in acts}
    mine = record.spent_for(principal)
    for authority in sorted({spent.authority for spent in mine} - {""}):
        over = [each for each in record.beyond_authority(principal, authority) if not each.doubt]
        for ended in (False, True):
            some = [each for each in over if (each.ended is not None) == ended]
            if some:
                yield _finding(principal, authority, some, ended=ended)


def _finding(principal: str, authority: str, over: Sequence[OverAuthority], *, ended: bool) -> Finding:
    lines = [each.spent for each in over]
    currency = lines[0].currency
    taken = sum(line.gross_minor or line.authorized_minor for line in lines if line.currency == currency)
    worst = max(over, key=lambda each: each.over_minor)
    if ended:
        at = over[0].ended.at if over[0].ended else over[0].spent.at
        title = f"{amount_text(taken, currency)} was taken under payment authority {authority} after it had ended at {at:%Y-%m-%d %H:%M} UTC"
        risk = taken
    else:
        allowed = amount_text(worst.ceiling.max_minor or 0, currency)
        title = f"{amount_text(worst.total, currency)} was taken under payment authority {authority}, whose ceiling is {allowed}"
        risk = worst.total - (worst.ceiling.max_minor or 0)
    last = max(lines, key=lambda line: (line.at, line.leaf_index))
    return Finding(
        rule=rule,
        anchor=f"{principal} {authority} {'ended' if ended else 'ceiling'}",
        severity="high",
        title=title,
        events=tuple(line.event_id for line in lines),
        leaves=tuple(line.leaf_index for line in lines),
        first_at=min(line.at for line in lines),
        last_at=last.at,
        principal=principal,
        provider=last.provider or None,
        grant=None,
        money_at_risk_minor=minor(risk),
        currency=currency,
        evidence={"authority": authority, "ceiling_minor": None if worst.ceiling.max_minor is None else minor(worst.ceiling.max_minor),
                  "ceiling_leaf": worst.ceiling.leaf_index, "ended_leaf": over[0].ended.leaf_index if over[0].ended else None,
                  "ended_at": over[0].ended.at.isoformat() if over[0].ended else None},
    )  # fmt: skip
