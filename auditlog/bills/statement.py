"""Statements: what a month came to, signed when it is closed. A closed month is not restated: what comes later is an adjustment,
told in the next statement.
"""

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import sha256
from typing import Any

import rfc8785
from django.db import connection, transaction

from auditlog.core.amount import minor
from auditlog.core.bills.line import BadBill
from auditlog.core.bills.table import FOCUS, JOURNAL, csv_text, focus_row, journal
from auditlog.core.money.money import CREDIT_RAIL
from auditlog.database.acting import acting
from auditlog.database.bulk import named_rows
from auditlog.ledger.append import append_note
from auditlog.models import Statement, Tenant
from auditlog.projection.generation import generation_of
from auditlog.response.keys import signed


def next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def spend_of(tenant: Tenant, month: date) -> list[dict[str, Any]]:
    """By principal, agent, provider, currency and standing (proven | claimed | unattributed): amounts in minor units."""
    rows = _rows(tenant, month, _SPEND)
    return [row | {"amount_minor": minor(row.pop("amount"))} for row in rows]


def body_of(tenant: Tenant, month: date) -> dict[str, Any]:
    """What would be stated of a month now."""
    spend = spend_of(tenant, month)
    totals: dict[str, dict[str, int]] = {}
    for row in spend:
        of = totals.setdefault(row["currency"], {"proven": 0, "claimed": 0, "unattributed": 0})
        of[row["standing"]] += row["amount_minor"]
    bills = _rows(tenant, month, _BILLS)
    for row in bills:
        row["amount_minor"] = minor(row.pop("amount"))
    return {
        "tenant": tenant.name, "month": f"{month:%Y-%m}", "totals": totals, "spend": spend, "bills": bills,
        "adjustments": _adjustments(tenant, month),
    }  # fmt: skip


def _adjustments(tenant: Tenant, month: date) -> list[dict[str, Any]]:
    """Of each month that was closed before: what it comes to now, less what was stated of it and adjusted since."""
    found = []
    earlier = list(Statement.objects.filter(tenant=tenant, month__lt=month).order_by("month"))
    for closed in earlier:
        stated: dict[tuple[str, str], int] = {}
        for currency, of in closed.body["totals"].items():
            for standing, amount in of.items():
                stated[currency, standing] = stated.get((currency, standing), 0) + amount
        for later in earlier:
            for each in later.body["adjustments"]:
                if each["month"] == f"{closed.month:%Y-%m}":
                    key = each["currency"], each["standing"]
                    stated[key] = stated.get(key, 0) + each["amount_minor"]
        now: dict[tuple[str, str], int] = {}
        for row in spend_of(tenant, closed.month):
            key = row["currency"], row["standing"]
            now[key] = now.get(key, 0) + row["amount_minor"]
        for key in sorted(stated.keys() | now.keys()):
            if difference := now.get(key, 0) - stated.get(key, 0):
                found.append(
                    {
                        "month": f"{closed.month:%Y-%m}",
                        "currency": key[0],
                        "standing": key[1],
                        "amount_minor": difference,
                    }
                )
    return found


def close_month(tenant: Tenant, month: date, *, now: datetime) -> Statement:
    """State a month for good. Raises BadBill where it is not over, or is closed."""
    month = month.replace(day=1)
    if now < datetime.combine(next_month(month), time(), UTC):
        raise BadBill(f"{month:%Y-%m} is not over")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('answerable.bills'), %s)", [tenant.pk])
        if Statement.objects.filter(tenant=tenant, month=month).exists():
            raise BadBill(f"{month:%Y-%m} is closed: what came later is an adjustment of a later month")
        if Statement.objects.filter(tenant=tenant, month__gt=month).exists():
            raise BadBill(f"a month after {month:%Y-%m} is closed already: close months in their order")
        body = body_of(tenant, month) | {"closed_at": now.isoformat(), "closed_by": acting()}
        raw = rfc8785.dumps(json.loads(json.dumps(body)))
        leaf = append_note(
            tenant,
            "config",
            {"change": "month.closed", "month": f"{month:%Y-%m}", "by": acting(), "sha256": sha256(raw).hexdigest()},
            now=now,
        )
        return Statement.objects.create(
            tenant=tenant, month=month, body=body, signed=signed(raw, typ="statement+jws"), closed_at=now, closed_by=acting()[:200], leaf_index=leaf
        )  # fmt: skip


def journal_csv(tenant: Tenant, month: date) -> str:
    sums: dict[tuple, Decimal] = {}
    for row in spend_of(tenant, month):
        key = (row["provider"], row["principal"], row["agent"], row["currency"])
        sums[key] = sums.get(key, Decimal(0)) + row["amount_minor"]
    rows = [
        dict(zip(("provider", "principal", "agent", "currency"), key, strict=True)) | {"amount": amount}
        for key, amount in sorted(sums.items())
    ]
    return csv_text(JOURNAL, journal(month, rows))


def focus_csv(tenant: Tenant, month: date) -> str:
    """The charges of a month as FOCUS 1.2, with who did them in columns of ours (`x_`)."""
    return csv_text(FOCUS, (focus_row(row) for row in _rows(tenant, month, _CHARGES)))


def _rows(tenant: Tenant, month: date, sql: str) -> list[dict[str, Any]]:
    params = {
        "tenant": tenant.pk,
        "generation": generation_of(tenant),
        "begins": datetime.combine(month, time(), UTC),
        "ends": datetime.combine(next_month(month), time(), UTC),
        "credits": CREDIT_RAIL,
    }
    return named_rows(sql, params)


_STANDING = """
    CASE WHEN e.chain_proven AND e.chain_complete THEN 'proven' WHEN c.principal <> '' OR c.actor <> '' THEN 'claimed'
         ELSE 'unattributed' END
"""
_FROM = """
    FROM projection_charge c LEFT JOIN projection_event e ON e.tenant_id = c.tenant_id AND e.generation = c.generation AND e.event_id = c.lead
    WHERE c.tenant_id = %(tenant)s AND c.generation = %(generation)s AND c.at >= %(begins)s AND c.at < %(ends)s AND c.has_spend
      AND c.book <> 'returned' AND c.rail <> %(credits)s
"""
_SPEND = f"""
    SELECT c.principal, c.actor AS agent, c.provider, c.currency, {_STANDING} AS standing, sum(c.spent) AS amount, count(*) AS charges
    {_FROM} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
_CHARGES = f"""
    SELECT c.lead::text AS event, c.at, c.at AS until, c.spent AS amount, c.currency, c.provider, c.account, c.principal, c.actor AS agent,
        c."grant", {_STANDING} AS standing, CASE WHEN c.charge LIKE 'event:%%' THEN '' ELSE c.charge END AS charge, e.operation, e.target AS resource,
        e.type = 'usage.metered' AS is_usage {_FROM} ORDER BY c.at, c.leaf_index
"""
_BILLS = """
    SELECT provider, currency, coalesce(nullif(CASE WHEN state = 'apart' THEN kind ELSE state END, ''), 'unmatched') AS what,
        sum(amount) AS amount, count(*) AS lines FROM bill_line
    WHERE tenant_id = %(tenant)s AND at >= %(begins)s AND at < %(ends)s GROUP BY 1, 2, 3
    UNION ALL
    SELECT provider, currency, 'missing', sum(amount), count(*) FROM bill_missing
    WHERE tenant_id = %(tenant)s AND at >= %(begins)s AND at < %(ends)s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
