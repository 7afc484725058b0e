"""Inspect: is this log whole, signed and watched, and are its sources heard. What the Integrity page shows."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from auditlog.core.errors import LedgerCorrupt
from auditlog.custody.erase import held_now
from auditlog.custody.verify_ledger import Verified, verify
from auditlog.custody.witness import witnessed_size
from auditlog.detectors import SOURCE_DETECTORS
from auditlog.export.siem import StreamHealth, exports_of
from auditlog.ledger.absence import erased_count
from auditlog.ledger.append import EPOCH
from auditlog.models import (
    Checkpoint,
    Finding,
    Hold,
    LogHead,
    PublisherState,
    RefusalCount,
    Source,
    SourceActivity,
    Tenant,
    Verification,
    Witness,
)
from auditlog.projection.generation import generation_of
from auditlog.reads.source_facts import Missing, Unparsed, missing_by_source, unparsed_leaves

WINDOW = 25_000  # leaves at once: with their signatures about two seconds, and others wait for the worker meanwhile


def verify_next(tenant: Tenant, *, now: Callable[[], datetime]) -> Verification:
    """Verify the window after the last one that held; from the beginning once the end was reached, or after a problem."""
    with suppress(LedgerCorrupt):
        verify_window(tenant, start=next_start(tenant), now=now)
    return Verification.objects.filter(tenant=tenant).latest("id")


def next_start(tenant: Tenant) -> int:
    """Where the last verification of a log left off; 0 when it reached the end, or found something wrong."""
    last = Verification.objects.filter(tenant=tenant).order_by("-id").first()
    size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
    return last.end_leaf // 256 * 256 if last and not last.problem and last.end_leaf < size else 0


def verify_window(
    tenant: Tenant, *, start: int, now: Callable[[], datetime], public_key=None, limit: int | None = None
) -> Verified:
    """Verify one window and keep what came of it. Raises LedgerCorrupt, which is kept too."""
    began = time.monotonic()

    def keep(end: int, problem: str = "") -> None:
        Verification.objects.create(
            tenant=tenant, at=now(), first_leaf=start, end_leaf=end, seconds=time.monotonic() - began, problem=problem
        )

    # A run that ended otherwise (a lost connection, Ctrl-C) says nothing of the log, and leaves no row.
    try:
        result = verify(tenant, public_key=public_key, start=start, limit=limit or WINDOW)
    except LedgerCorrupt as corrupt:
        keep(start, str(corrupt))
        raise
    keep(result.end)
    return result


@dataclass(frozen=True, slots=True)
class SourceHealth:
    name: str
    state: str
    every: timedelta | None  # it promised to be heard at least this often
    heard: SourceActivity | None
    late: timedelta | None  # beyond its promise, by so much
    missing: Missing | None
    refused_today: int
    conflicts: int
    found: tuple[Finding, ...]  # open findings about how it is heard


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
    unparsed: int  # event leaves that no longer parse
    unparsed_leaves: list[Unparsed]  # the first of them
    exports: list[StreamHealth]


def inspect(tenant: Tenant, *, now: datetime) -> Inspection:
    """Everything the Integrity page shows, in a fixed number of queries, and one for each stream of an export."""
    size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
    unparsed, examples = unparsed_leaves(tenant)
    checkpoint = Checkpoint.objects.filter(tenant=tenant, epoch=EPOCH).order_by("-size").first()
    return Inspection(
        size=size,
        checkpoint=checkpoint,
        unsigned=size - (checkpoint.size if checkpoint else 0),
        publisher=PublisherState.objects.filter(tenant=tenant).first(),
        witnesses=list(Witness.objects.filter(tenant=tenant).order_by("name")),
        witnessed=witnessed_size(tenant),
        holds=held_now(tenant),
        erased=erased_count(tenant),
        verifications=list(Verification.objects.filter(tenant=tenant).order_by("-id")[:5]),
        sources=source_health(tenant, now=now),
        unparsed=unparsed,
        unparsed_leaves=examples,
        exports=exports_of(tenant),
    )


def source_health(tenant: Tenant, *, now: datetime) -> list[SourceHealth]:
    """Every source by name, and how it is heard."""
    heard = {row.source: row for row in SourceActivity.objects.filter(tenant=tenant, generation=generation_of(tenant))}
    missing = missing_by_source(tenant)
    refused: dict[str, int] = {}
    conflicts: dict[str, int] = {}
    for count in RefusalCount.objects.filter(tenant=tenant, last_at__gte=now - timedelta(days=1)):
        told = conflicts if count.err == "duplicate_conflict" else refused
        told[count.source] = told.get(count.source, 0) + count.count
    found: dict[str, list[Finding]] = {}
    rules = [detector.rule for detector in SOURCE_DETECTORS]
    for finding in Finding.objects.filter(tenant=tenant, rule__in=rules, state__in=("open", "acknowledged")).order_by(
        "id"
    ):
        found.setdefault(finding.evidence["source"], []).append(finding)
    return [
        SourceHealth(
            source.name, source.state, _promise(source), heard.get(source.name), _late(source, heard.get(source.name), now),
            missing.get(source.name), refused.get(source.name, 0), conflicts.get(source.name, 0),
            tuple(found.get(source.name, ())),
        )
        for source in Source.objects.filter(tenant=tenant).order_by("name")
    ]  # fmt: skip


def _promise(source: Source) -> timedelta | None:
    return timedelta(seconds=source.heartbeat_seconds) if source.heartbeat_seconds else None


def _late(source: Source, heard: SourceActivity | None, now: datetime) -> timedelta | None:
    every = _promise(source)
    if every is None or source.state != Source.State.ACTIVE:
        return None
    since = max(filter(None, (source.heartbeat_since or source.created_at, heard and heard.received_at)))
    return now - since - every if now - since > every else None
