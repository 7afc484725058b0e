"""Inspect: is this log whole, signed and watched, and are its sources heard. What the Integrity page shows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from auditlog.append import EPOCH
from auditlog.core.errors import LedgerCorrupt
from auditlog.erase import held_now
from auditlog.models import Checkpoint, Hold, LogHead, PublisherState, RefusalCount, Tenant, Verification, Witness
from auditlog.queries import generation_of
from auditlog.verify_ledger import verify
from auditlog.witness import witnessed_size

WINDOW = 2_000_000  # leaves a night: a larger log is gone through over several


def verify_next(tenant: Tenant, *, now: Callable[[], datetime]) -> Verification:
    """Verify the window after the last one that held; from the beginning once the end was reached, or after a problem."""
    last = Verification.objects.filter(tenant=tenant).order_by("-id").first()
    size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
    start = last.end_leaf // 256 * 256 if last and not last.problem and last.end_leaf < size else 0
    began, problem, end = time.monotonic(), "", start
    try:
        end = verify(tenant, start=start, limit=WINDOW).end
    except LedgerCorrupt as corrupt:
        problem = str(corrupt)
    return Verification.objects.create(
        tenant=tenant, at=now(), first_leaf=start, end_leaf=end, seconds=time.monotonic() - began, problem=problem
    )


@dataclass(frozen=True, slots=True)
class SourceHealth:
    name: str
    state: str
    last_received_at: datetime | None
    events: int
    refused_today: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class Inspection:
    size: int
    checkpoint: Checkpoint | None
    unsigned: int  # leaves after the last checkpoint
    publisher: PublisherState | None
    witnesses: list[Witness]
    witnessed: int | None
    holds: list[Hold]
    erased: int
    verifications: list[Verification]
    sources: list[SourceHealth]


def inspect(tenant: Tenant, *, now: datetime) -> Inspection:
    """Everything the Integrity page shows, in a fixed number of queries."""
    size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
    checkpoint = Checkpoint.objects.filter(tenant=tenant, epoch=EPOCH).order_by("-size").first()
    return Inspection(
        size=size,
        checkpoint=checkpoint,
        unsigned=size - (checkpoint.size if checkpoint else 0),
        publisher=PublisherState.objects.filter(tenant=tenant).first(),
        witnesses=list(Witness.objects.filter(tenant=tenant).order_by("name")),
        witnessed=witnessed_size(tenant),
        holds=held_now(tenant),
        erased=_erased(tenant),
        verifications=list(Verification.objects.filter(tenant=tenant).order_by("-id")[:5]),
        sources=_sources(tenant, now),
    )


def _erased(tenant: Tenant) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(jsonb_array_length(convert_from(p.raw, 'UTF8')::jsonb -> 'leaves')), 0) FROM ledger_leaf l"
            " JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.kind = 3",
            [tenant.pk, EPOCH],
        )
        return int(cursor.fetchone()[0])


def _sources(tenant: Tenant, now: datetime) -> list[SourceHealth]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.name, s.state, max(e.received_at), count(e.leaf_index) FROM auditlog_source s"
            " LEFT JOIN projection_event e ON e.tenant_id = s.tenant_id AND e.generation = %s AND e.source = s.name"
            " WHERE s.tenant_id = %s GROUP BY 1, 2 ORDER BY 1",
            [generation_of(tenant), tenant.pk],
        )
        rows = cursor.fetchall()
    refused: dict[str, int] = {}
    conflicts: dict[str, int] = {}
    for count in RefusalCount.objects.filter(tenant=tenant, last_at__gte=now - timedelta(days=1)):
        told = conflicts if count.err == "duplicate_conflict" else refused
        told[count.source] = told.get(count.source, 0) + count.count
    return [SourceHealth(*row, refused.get(row[0], 0), conflicts.get(row[0], 0)) for row in rows]
