"""Reads of how sources are heard: what the rules of source integrity and the Integrity page rest on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection

from auditlog.append import EPOCH
from auditlog.core.sequence import Run, gaps
from auditlog.detectors import clock_skew, source_gap, source_silent
from auditlog.models import Source, SourceActivity, Tenant
from auditlog.project_sources import clock_fact
from auditlog.queries import generation_of


def gap_facts(tenant: Tenant, source: str, stream: str) -> list[source_gap.Fact]:
    """Every gap of a stream, ripe or not, in order of the numbers."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT first, last, events, leaf_index, received_at FROM projection_sequence"
            " WHERE tenant_id = %s AND generation = %s AND source = %s AND stream = %s ORDER BY first",
            [tenant.pk, generation_of(tenant), source, stream],
        )
        runs = [Run(*row) for row in cursor.fetchall()]
        found = gaps(runs)
        if not found:
            return []
        cursor.execute(
            "SELECT leaf_index, event_id FROM ledger_leaf WHERE tenant_id = %s AND epoch = %s AND leaf_index = ANY(%s)",
            [tenant.pk, EPOCH, [gap.leaf_index for gap in found]],
        )
        event_of = dict(cursor.fetchall())
    reused = sum(run.events - (run.last - run.first + 1) for run in runs)
    heard = SourceActivity.objects.filter(tenant=tenant, generation=generation_of(tenant), source=source).first()
    erased = heard.erased if heard else 0
    return [source_gap.Fact(source, stream, gap, str(event_of.get(gap.leaf_index, "")), reused, erased) for gap in found]


def silence_of(tenant: Tenant, name: str) -> source_silent.Fact | None:
    """How long a source has been silent, whether or not that is too long. None when it promised nothing, or may not send."""
    source = Source.objects.filter(tenant=tenant, name=name).first()
    if source is None or not source.heartbeat_seconds or source.state != Source.State.ACTIVE:
        return None
    every, promised = timedelta(seconds=source.heartbeat_seconds), source.heartbeat_since or source.created_at
    heard = SourceActivity.objects.filter(tenant=tenant, generation=generation_of(tenant), source=name).first()
    if heard is None:
        return source_silent.Fact(name, every, promised, None)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT event_id FROM ledger_leaf WHERE tenant_id = %s AND epoch = %s AND leaf_index = %s",
            [tenant.pk, EPOCH, heard.leaf_index],
        )
        [event_id] = cursor.fetchone()
    return source_silent.Fact(name, every, max(promised, heard.received_at), heard.leaf_index, str(event_id))


def clock_facts(tenant: Tenant, keys: Iterable[tuple[str, str, str]]) -> list[clock_skew.Fact]:
    """The hours with these (source, key, hour in ISO 8601)."""
    keys = list(keys)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT source, key, hour, events, ahead, least_lag_us, most_lag_us, first_at, last_at, leaf_index, event_id"
            " FROM projection_clock WHERE tenant_id = %s AND generation = %s"
            " AND (source, key, hour) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[]))"
            " ORDER BY source, hour, key",
            [tenant.pk, generation_of(tenant), *([key[n] for key in keys] for n in range(3))],
        )
        return [clock_fact(*row) for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Missing:
    """What one source has not sent, over all its streams, ripe or not."""

    numbers: int
    streams: int


def missing_by_source(tenant: Tenant) -> dict[str, Missing]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT source, sum(missing)::int8, count(*) FROM ("
            "  SELECT source, stream, max(last) - min(first) + 1 - sum(last - first + 1) AS missing FROM projection_sequence"
            "  WHERE tenant_id = %s AND generation = %s GROUP BY source, stream) streams WHERE missing > 0 GROUP BY source",
            [tenant.pk, generation_of(tenant)],
        )
        return {source: Missing(numbers, streams) for source, numbers, streams in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Unparsed:
    leaf_index: int
    source: str
    reason: str
    event_id: UUID | None


def unparsed_leaves(tenant: Tenant, *, most: int = 20) -> tuple[int, list[Unparsed]]:
    """How many event leaves no longer parse, and the first of them."""
    with connection.cursor() as cursor:
        scope = [tenant.pk, generation_of(tenant)]
        cursor.execute("SELECT count(*) FROM projection_unparsed WHERE tenant_id = %s AND generation = %s", scope)
        [count] = cursor.fetchone()
        cursor.execute(
            "SELECT u.leaf_index, u.source, u.reason, l.event_id FROM projection_unparsed u"
            " JOIN ledger_leaf l ON l.tenant_id = u.tenant_id AND l.epoch = %s AND l.leaf_index = u.leaf_index"
            " WHERE u.tenant_id = %s AND u.generation = %s ORDER BY u.leaf_index LIMIT %s",
            [EPOCH, *scope, most],
        )
        return count, [Unparsed(*row) for row in cursor.fetchall()]

