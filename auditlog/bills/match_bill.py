"""Match a provider's lines with the charges of the time that they cover, and say what differs (core.bills.match)."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from auditlog.core.amount import amount_text, minor
from auditlog.core.bills.line import Line
from auditlog.core.bills.match import Charge, Found, Matched, match, totals
from auditlog.core.finding import Finding
from auditlog.core.money.money import CREDIT_RAIL
from auditlog.database.bulk import copy_rows
from auditlog.detection.findings.keep import keep_keys
from auditlog.detectors import bill_differs
from auditlog.models import Bill, BillLine, Tenant
from auditlog.projection.generation import generation_of

SLACK = timedelta(days=3)  # around the time that a bill covers: what it may be about
TOLERANCE = Decimal("0.01")  # policy: of what was billed in a month
TOLERANCE_MINOR = 100  # policy: less differs for nobody
SHOWN = 200  # events of a finding
GRAIN = timedelta(microseconds=1)


class Outcome(NamedTuple):
    """Of one provider, in the time that was matched. `totals`: by currency, then matched | differs | unexplained | missing | tax .."""

    provider: str
    lines: dict[str, int]  # by state
    missing: int
    totals: dict[str, dict[str, Decimal]]


def match_provider(tenant: Tenant, provider: str, *, begins: datetime, ends: datetime, now: datetime) -> Outcome:
    """Match all lines of this provider around this time anew, with all charges that they may be about. In a transaction."""
    rows = list(
        BillLine.objects.filter(tenant=tenant, provider=provider, until__gte=begins - SLACK, at__lte=ends + SLACK)
        .order_by("at", "id")
        .select_related(None)
    )
    lines = [_line(row) for row in rows]
    # `until` is exclusive, but of a line that is of a moment.
    covered = min(line.at for line in lines), max(max(line.until - GRAIN, line.at) for line in lines)
    charges, leaves = _charges(tenant, provider, covered[0] - SLACK, covered[1] + SLACK)
    found = match(lines, charges)
    inside = [c for c in found.missing if covered[0] <= c.at <= covered[1]]
    found = Matched(found.lines, inside)
    _write(tenant, provider, rows, found, leaves, covered)
    _tell(tenant, provider, rows, lines, found, leaves, now=now)
    counts: dict[str, int] = defaultdict(int)
    for each in found.lines:
        counts[each.state] += 1
    return Outcome(provider, dict(counts), len(inside), totals(found.lines, lines, inside))


def _line(row: BillLine) -> Line:
    return Line(
        row.key, row.at, row.until, row.amount, row.currency, row.kind, row.provider, row.account, row.resource, row.service, row.operation,
        row.invoice, row.agent, row.api_key, frozenset(row.refs), row.description,
    )  # fmt: skip


def _charges(tenant: Tenant, provider: str, begins: datetime, ends: datetime) -> tuple[list[Charge], dict[str, int]]:
    """Lines of the books at this provider, payee or rail, with what their statements name; and the leaves of their leads."""
    with connection.cursor() as cursor:
        cursor.execute(_CHARGES, {"tenant": tenant.pk, "generation": generation_of(tenant), "provider": provider.casefold(),
                                  "begins": begins, "ends": ends, "credits": CREDIT_RAIL})  # fmt: skip
        rows = cursor.fetchall()
    charges, leaves = [], {}
    for lead, leaf, at, amount, back, back_at, charge, refs, *said in rows:
        own = charge.removeprefix("invoice:").removeprefix("event:")
        names = frozenset({str(lead), own, *(ref for ref in refs if ref)} - {""})
        told = {"refs": names, "invoice": own if charge.startswith("invoice:") else ""}
        told |= dict(zip(_TOLD, said, strict=True))
        charges.append(Charge(str(lead), at, amount.normalize() + 0, **told))
        if back:  # what came back is a line of its own on a bill
            charges.append(Charge(str(lead), back_at or at, -back.normalize() + 0, **told))
        leaves[str(lead)] = leaf
    return charges, leaves


_TOLD = ("currency", "account", "resource", "operation", "agent", "principal", "has_act")  # of the columns, the last
_CHARGES = """
    SELECT c.lead, c.leaf_index, c.at, c.spent + c.returned, c.returned, c.returned_at[cardinality(c.returned_at)], c.charge,
        array_agg(e.charge) || array_agg(e.request_id) || array_agg(e.idempotency_key) || array_agg(e.event_id::text) || array_agg(e.invoice),
        c.currency, c.account, coalesce((array_agg(e.target) FILTER (WHERE e.target NOT IN ('', e.charge)))[1], ''),
        coalesce((array_agg(e.operation) FILTER (WHERE e.operation <> ''))[1], (array_agg(e.verb) FILTER (WHERE e.verb <> ''))[1], ''),
        c.actor, c.principal, bool_or(e.type NOT LIKE 'payment.%%' AND e.type NOT LIKE 'invoice.%%')
    FROM projection_charge c CROSS JOIN LATERAL unnest(c.events) AS told(event_id)
    JOIN projection_event e ON e.tenant_id = c.tenant_id AND e.generation = c.generation AND e.event_id = told.event_id
    WHERE c.tenant_id = %(tenant)s AND c.generation = %(generation)s AND c.at BETWEEN %(begins)s AND %(ends)s AND c.has_spend
      AND c.book <> 'returned' AND c.rail <> %(credits)s AND c.spent + c.returned > 0
      AND (%(provider)s = '' OR lower(c.provider) = %(provider)s OR lower(c.payee) = %(provider)s OR lower(c.rail) = %(provider)s)
    GROUP BY c.rail, c.charge, c.book, c.currency, c.lead, c.leaf_index, c.at, c.spent, c.returned, c.returned_at, c.account, c.actor, c.principal
"""


def _write(
    tenant: Tenant, provider: str, rows: Sequence[BillLine], found: Matched, leaves: dict[str, int], covered: tuple[datetime, datetime]
) -> None:  # fmt: skip
    ids = [row.pk for row in rows]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM bill_share WHERE tenant_id = %s AND line_id = ANY(%s)", [tenant.pk, ids])
        cursor.execute(
            "DELETE FROM bill_missing WHERE tenant_id = %s AND provider = %s AND at BETWEEN %s AND %s",
            [tenant.pk, provider, *covered],
        )
        changed = [
            (row.pk, each.state, each.reason, each.difference)
            for row, each in zip(rows, found.lines, strict=True)
            if (row.state, row.reason, row.difference) != (each.state, each.reason, each.difference)
        ]
        columns = [[row[place] for row in changed] for place in range(4)]
        cursor.execute(
            "UPDATE bill_line l SET state = v.state, reason = v.reason, difference = v.difference"
            " FROM unnest(%s::int8[], %s::text[], %s::text[], %s::numeric[]) AS v(id, state, reason, difference)"
            " WHERE l.id = v.id AND l.tenant_id = %s",
            [*columns, tenant.pk],
        )
    copy_rows(
        "bill_share",
        {
            "tenant_id": "int8",
            "line_id": "int8",
            "lead": "uuid",
            "amount": "numeric",
            "agent": "text",
            "principal": "text",
        },
        (
            (tenant.pk, row.pk, UUID(charge.lead), round(part, 20), charge.agent, charge.principal)
            for row, each in zip(rows, found.lines, strict=True)
            for charge, part in each.charges
        ),
    )
    copy_rows(
        "bill_missing",
        {"tenant_id": "int8", "provider": "text", "lead": "uuid", "leaf_index": "int8", "at": "timestamptz", "amount": "numeric",
         "currency": "varchar", "agent": "text", "principal": "text", "has_act": "bool"},
        ((tenant.pk, provider, UUID(c.lead), leaves[c.lead], c.at, c.amount, c.currency, c.agent, c.principal, c.has_act) for c in found.missing),
    )  # fmt: skip


# --- what is found ----------------------------------------------------------------------------------------------------


def _tell(
    tenant: Tenant, provider: str, rows: Sequence[BillLine], lines: Sequence[Line], found: Matched, leaves: dict[str, int], *, now: datetime
) -> None:  # fmt: skip
    """A finding a month and currency in which bill and record differ by more than the tolerance."""
    parts: dict[tuple[str, str], list[tuple[BillLine, Line, Found]]] = defaultdict(list)
    for row, line, each in zip(rows, lines, found.lines, strict=True):
        parts[_month(line.at), line.currency].append((row, line, each))
    missing: dict[tuple[str, str], list[Charge]] = defaultdict(list)
    for charge in found.missing:
        missing[_month(charge.at), charge.currency].append(charge)
    told: dict[tuple[str, ...], list[Finding]] = {}
    for month, currency in sorted(parts.keys() | missing.keys()):
        key = ("bill", provider, month, currency)
        raised = _finding(tenant, key, parts[month, currency], missing[month, currency], leaves)
        told[key] = [raised] if raised else []
    keep_keys(tenant, bill_differs.rule, bill_differs.version, told, withdrawn_by=0, now=now)


def _month(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m}"


def _finding(
    tenant: Tenant, key: tuple[str, ...], mine: Sequence[tuple[BillLine, Line, Found]], missing: Sequence[Charge], leaves: dict[str, int]
) -> Finding | None:  # fmt: skip
    _, provider, month, currency = key
    billed = sum((line.amount for _, line, each in mine if each.state != "apart"), Decimal(0))
    unexplained = [(row, line) for row, line, each in mine if each.state == "unexplained"]
    differing = [each for _, _, each in mine if each.state == "differs"]
    sums = (
        sum((line.amount for _, line in unexplained), Decimal(0)),
        sum((abs(each.difference) for each in differing), Decimal(0)),
        sum((charge.amount for charge in missing), Decimal(0)),
    )
    if max(map(abs, sums)) <= max(Decimal(TOLERANCE_MINOR), TOLERANCE * abs(billed)):
        return None
    words = [
        f"{amount_text(round(sums[0]), currency)} in {len(unexplained)} lines that no charge on record explains"
        if unexplained
        else "",
        f"{amount_text(round(sums[1]), currency)} of difference in {len(differing)} lines" if differing else "",
        f"{amount_text(round(sums[2]), currency)} in {len(missing)} charges on record that no line shows"
        if missing
        else "",
    ]
    events = sorted({charge.lead for charge in missing}, key=lambda lead: leaves[lead])[:SHOWN]
    bills = Bill.objects.filter(tenant=tenant, pk__in={row.bill_id for row, _, _ in mine}).order_by("number")
    times = [line.at for _, line, _ in mine] + [charge.at for charge in missing]
    principals = {charge.principal for charge in missing}
    return Finding(
        rule=bill_differs.rule,
        anchor=f"bill {provider} {month} {currency}"[:900],
        severity="medium",
        title=f"{provider or 'A biller'} billed {amount_text(round(billed), currency)} for {month}: {'; '.join(w for w in words if w)}",
        events=tuple(events),
        leaves=tuple(leaves[event] for event in events) or tuple(bill.leaf_index for bill in bills[:1]),
        first_at=min(times),
        last_at=max(times),
        principal=principals.pop() or None if len(principals) == 1 else None,
        provider=provider or None,
        money_at_risk_minor=minor(max(Decimal(0), sums[0])),
        currency=currency,
        evidence={
            "month": month, "bills": [bill.ref for bill in bills], "billed_minor": minor(billed), "unexplained_minor": minor(sums[0]),
            "unexplained_lines": len(unexplained), "difference_minor": minor(sums[1]), "missing_minor": minor(sums[2]),
            "missing_charges": len(missing), "tolerance": str(TOLERANCE),
        },
    )  # fmt: skip
