"""Bills as they are read: each with what its lines were found to be, and who did what was billed."""

from typing import Any

from auditlog.core.amount import minor
from auditlog.database.bulk import named_rows
from auditlog.models import Bill, BillLine, Tenant, Unbilled

STATES = ("matched", "differs", "unexplained", "missing", "apart")


def totals_of(bill: Bill) -> list[dict[str, Any]]:
    """By currency and state, with what is missing in the time that the bill covers."""
    return named_rows(
        "SELECT currency, state, sum(amount) AS amount, sum(difference) AS difference, count(*) AS lines FROM bill_line"
        " WHERE tenant_id = %(tenant)s AND bill_id = %(bill)s GROUP BY 1, 2"
        " UNION ALL SELECT currency, 'missing', sum(amount), 0, count(*) FROM bill_missing WHERE tenant_id = %(tenant)s"
        " AND provider IN (SELECT DISTINCT provider FROM bill_line WHERE bill_id = %(bill)s) AND at BETWEEN %(begins)s AND %(ends)s"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        {"tenant": bill.tenant_id, "bill": bill.pk, "begins": bill.begins, "ends": bill.ends},
    )


def done_by(bill: Bill) -> list[dict[str, Any]]:
    """Billed to you, done by: what was billed, by human, agent and key; what nobody explains under no name."""
    return named_rows(
        "SELECT l.currency, coalesce(s.principal, '') AS principal, coalesce(s.agent, '') AS agent, l.api_key,"
        " sum(coalesce(s.amount, l.amount)) AS amount, count(DISTINCT l.id) AS lines FROM bill_line l"
        " LEFT JOIN bill_share s ON s.line_id = l.id AND s.tenant_id = l.tenant_id"
        " WHERE l.tenant_id = %s AND l.bill_id = %s AND l.state <> 'apart' GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT 500",
        [bill.tenant_id, bill.pk],
    )


def lines_of(bill: Bill, *, state: str = "", after: int = 0, size: int = 100) -> tuple[list[dict[str, Any]], int]:
    """The lines of a state, or all; of `missing`, the charges that none shows. With the place to go on from, 0 at the end."""
    if state == "missing":
        providers = BillLine.objects.filter(bill=bill).values("provider")
        rows = Unbilled.objects.filter(
            tenant=bill.tenant, provider__in=providers, at__gte=bill.begins, at__lte=bill.ends, pk__gt=after
        ).order_by("pk")
        told = [_missing(row) for row in rows[: size + 1]]
    else:
        of_state = {"state": state} if state else {}
        lines = BillLine.objects.filter(bill=bill, position__gt=after, **of_state).order_by("position")
        told = [_line(row) for row in lines.prefetch_related("shares")[: size + 1]]
    return told[:size], told[size - 1]["place"] if len(told) > size else 0


def _line(row: BillLine) -> dict[str, Any]:
    return {
        "place": row.position, "state": row.state or "unmatched", "reason": row.reason, "at": row.at, "until": row.until, "amount_minor": minor(row.amount),
        "currency": row.currency, "kind": row.kind, "difference_minor": minor(row.difference), "provider": row.provider,
        "account": row.account, "resource": row.resource, "operation": row.operation, "refs": row.refs, "api_key": row.api_key,
        "description": row.description,
        "charges": [
            {"event": str(share.lead), "amount_minor": minor(share.amount), "agent": share.agent, "principal": share.principal}
            for share in list(row.shares.all())[:50]
        ],
    }  # fmt: skip


def _missing(row: Unbilled) -> dict[str, Any]:
    return {
        "place": row.pk, "state": "missing", "reason": "no line of the bill shows it" if row.has_act else "a payment without an act, and without a line",
        "at": row.at, "until": row.at, "amount_minor": minor(row.amount), "currency": row.currency, "kind": "", "difference_minor": 0,
        "provider": row.provider, "account": "", "resource": "", "operation": "", "refs": [], "api_key": "", "description": "",
        "charges": [{"event": str(row.lead), "amount_minor": minor(row.amount), "agent": row.agent, "principal": row.principal}],
    }  # fmt: skip


def bill_of(tenant: Tenant, ref: str) -> Bill | None:
    number = ref.removeprefix("B-")
    return (
        Bill.objects.filter(tenant=tenant, number=int(number)).defer("raw").first()
        if number.isdecimal() and len(number) < 10
        else None
    )
