"""Import a bill: each line once, whatever files it comes in; then match the time that it covers (match_bill.py).

Imports explain: a line moves no balance, limit or verdict. A line that is known and says something else now is not taken, and
is counted: a biller that restates sends a correction as a line of its own.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from django.db import connection, transaction

from auditlog.bills.match_bill import Outcome, match_provider
from auditlog.core.bills.line import Line
from auditlog.core.bills.read import mapping_of_file, read_bill
from auditlog.database.acting import acting
from auditlog.database.bulk import copy_rows
from auditlog.ledger.append import append_note
from auditlog.models import Bill, BillLine, BillMapping, Tenant

_LINE_TYPES = {
    "tenant_id": "int8", "bill_id": "int8", "key": "varchar", "said": "varchar", "position": "int4", "at": "timestamptz",
    "until": "timestamptz", "amount": "numeric", "currency": "varchar", "kind": "varchar", "provider": "text", "account": "text",
    "resource": "text", "service": "text", "operation": "text", "invoice": "text", "agent": "text", "api_key": "text", "refs": "text[]",
    "description": "text", "state": "varchar", "reason": "text", "difference": "numeric",
}  # fmt: skip


class Imported(NamedTuple):
    bill: Bill
    outcomes: list[Outcome]  # one a provider


def import_bill(
    tenant: Tenant, raw: bytes, *, file_name: str, format: str, provider: str = "", mapping: Mapping[str, str] | None = None, now: datetime
) -> Imported:  # fmt: skip
    """Raises BadBill; nothing is written then. `mapping` is kept for the provider's next CSV."""
    if format == "csv":
        kept = BillMapping.objects.filter(tenant=tenant, provider=provider).first()
        mapping = mapping or (kept.columns if kept else mapping_of_file(raw))
    lines = read_bill(raw, format=format, provider=provider, mapping=mapping)
    with transaction.atomic():
        _lock(tenant)
        if format == "csv":
            BillMapping.objects.update_or_create(
                tenant=tenant, provider=provider, defaults={"columns": dict(mapping or {})}
            )
        known = dict(
            BillLine.objects.filter(tenant=tenant, key__in=[line.key for line in lines]).values_list("key", "said")
        )
        new = [(position, line) for position, line in enumerate(lines, start=1) if line.key not in known]
        digest = sha256(raw).hexdigest()
        bill = Bill(
            tenant=tenant,
            number=(
                Bill.objects.filter(tenant=tenant).order_by("-number").values_list("number", flat=True).first() or 0
            )
            + 1,
            format=format,
            provider=provider,
            file_name=file_name[:200],
            sha256=digest,
            raw=raw,
            importer=acting()[:200],
            imported_at=now,
            lines=len(lines),
            new_lines=len(new),
            changed_lines=sum(known.get(line.key, _said(line)) != _said(line) for line in lines),
            begins=min(line.at for line in lines),
            ends=max(line.until for line in lines),
        )
        bill.leaf_index = append_note(
            tenant,
            "config",
            {
                "change": "bill.imported", "bill": bill.ref, "by": bill.importer, "format": format, "provider": provider,
                "sha256": digest, "bytes": len(raw), "lines": len(lines), "new_lines": len(new), "grade": bill.grade,
            },
            now=now,
        )  # fmt: skip
        bill.save()
        rows = (
            (tenant.pk, bill.pk, line.key, _said(line), position, *_values(line), "", "", 0) for position, line in new
        )
        copy_rows("bill_line", _LINE_TYPES, rows)
        outcomes = [
            match_provider(tenant, whose, begins=bill.begins, ends=bill.ends, now=now)
            for whose in sorted({line.provider for line in lines})
        ]
    return Imported(bill, outcomes)


def _lock(tenant: Tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('answerable.bills'), %s)", [tenant.pk])


def _values(line: Line) -> tuple:
    names = list(_LINE_TYPES)[5:-4]
    return (*(getattr(line, name) for name in names if name != "refs"), sorted(line.refs), line.description)


def _said(line: Line) -> str:
    return sha256(repr((line.at, line.until, line.amount, line.currency, line.kind)).encode()).hexdigest()
