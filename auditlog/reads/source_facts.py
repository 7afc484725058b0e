"""Reads of how sources are heard: what the rules of source integrity and the Integrity page rest on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Count

from auditlog import formats
from auditlog.core.sequence import Run, gaps
from auditlog.detectors import clock_skew, source_gap, source_silent
from auditlog.ledger.append import EPOCH
from auditlog.models import LogHead, NotedDelivery, PendingFetch, Pull, RefusalCount, Source, SourceActivity, Tenant
from auditlog.projection.generation import generation_of
from auditlog.projection.sources import clock_fact


def gap_facts(tenant: Tenant, source: str, stream: str) -> list[source_gap.Fact]:
    """Every gap of a stream, ripe or not, in order of the numbers."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT first, last, events, leaf_index, received_at, is_linked, begins FROM projection_sequence"
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
    reused = sum(run.events - (run.last - run.first + 1) for run in runs if not run.is_linked)
    heard = SourceActivity.objects.filter(tenant=tenant, generation=generation_of(tenant), source=source).first()
    erased = heard.erased if heard else 0
    return [
        source_gap.Fact(source, stream, gap, str(event_of.get(gap.leaf_index, "")), reused, erased) for gap in found
    ]


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
    """What one source has not sent, over all its streams, ripe or not. Of linked numbers one a gap, which is the least."""

    numbers: int
    streams: int


def missing_by_source(tenant: Tenant) -> dict[str, Missing]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT source, sum(missing)::int8, count(DISTINCT stream) FROM ("
            "  SELECT source, stream, CASE WHEN begins THEN 0"
            "    WHEN is_linked THEN (lag(last) OVER below IS NOT NULL)::int ELSE first - lag(last) OVER below - 1 END AS missing"
            "  FROM projection_sequence WHERE tenant_id = %s AND generation = %s"
            "  WINDOW below AS (PARTITION BY source, stream ORDER BY first)) gaps WHERE missing > 0 GROUP BY source",
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


@dataclass(frozen=True, slots=True)
class Pace:
    """How a source sent over the hours since a time: receipt minus `iat` is its lag."""

    events: int
    least_lag: timedelta
    most_lag: timedelta


def pace_by_source(tenant: Tenant, *, since: datetime) -> dict[str, Pace]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT source, sum(events)::int8, min(least_lag_us), max(most_lag_us) FROM projection_clock"
            " WHERE tenant_id = %s AND generation = %s AND last_at >= %s GROUP BY source",
            [tenant.pk, generation_of(tenant), since],
        )
        return {
            source: Pace(events, timedelta(microseconds=least), timedelta(microseconds=most))
            for source, events, least, most in cursor.fetchall()
        }


@dataclass(frozen=True, slots=True)
class DeliverySeen:
    """One delivery as the source's page tells it. `event_id` is of its last new event."""

    at: datetime
    taken: int
    repeated: int = 0
    refused: int = 0
    err: str = ""
    reason: str = ""
    event_id: UUID | None = None


LOOKED_AT = 5_000  # leaves before the source's last: more than ten deliveries of any but the largest batches


def recent_deliveries(source: Source, *, most: int = 10) -> list[DeliverySeen]:
    """The last deliveries, newest first: those of new events from the leaves they share a time of receipt with, the others
    from what ingest noted of them.
    """
    tenant = source.tenant
    heard = SourceActivity.objects.filter(tenant=tenant, generation=generation_of(tenant), source=source.name).first()
    size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
    after = (heard.leaf_index if heard else size) - LOOKED_AT
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT received_at, count(*), (array_agg(event_id ORDER BY leaf_index DESC))[1] FROM ledger_leaf"
            " WHERE tenant_id = %s AND epoch = %s AND leaf_index > %s AND source_id = %s AND kind = 0"
            " GROUP BY received_at ORDER BY received_at DESC LIMIT %s",
            [tenant.pk, EPOCH, after, source.pk, most],
        )
        taken_at = {at: DeliverySeen(at, taken, event_id=event_id) for at, taken, event_id in cursor.fetchall()}
    noted = []
    for note in NotedDelivery.objects.filter(tenant=tenant, source=source.name).order_by("-id")[:most]:
        leaf = taken_at.pop(note.at, None) if note.taken else None  # one delivery, told by both
        noted.append(
            DeliverySeen(
                note.at, note.taken, note.repeated, note.refused, note.err, note.reason, leaf and leaf.event_id
            )
        )
    return sorted([*noted, *taken_at.values()], key=lambda delivery: delivery.at, reverse=True)[:most]


def refusals_of(source: Source, *, since: datetime) -> list[RefusalCount]:
    """Why deliveries were refused, newest reason first."""
    return list(
        RefusalCount.objects.filter(tenant=source.tenant, source=source.name, last_at__gte=since).order_by("-last_at")[
            :20
        ]
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What the service asks of a source by itself. `pull` is None before the first time."""

    kind: str
    url: str
    pull: Pull | None


def asked_of(source: Source) -> list[Asked]:
    pulls = {pull.kind: pull for pull in Pull.objects.filter(tenant=source.tenant, source=source)}
    fetches = formats.named(source.format)
    urls = {
        Pull.Kind.KEYS: source.jwks_url,
        Pull.Kind.POLL: source.poll_url,
        Pull.Kind.FETCH: source.api_key_env and getattr(fetches, "API", "") and (source.api_url or fetches.API),
    }
    return [Asked(kind.value, url, pulls.get(kind)) for kind, url in urls.items() if url]


@dataclass(frozen=True, slots=True)
class Announced:
    """What a source announced, by what became of it, and the newest of what could not be had."""

    due: int
    done: int
    given_up: int
    troubled: list[PendingFetch]


def announced_by(source: Source, *, most: int = 10) -> Announced | None:
    """None where nothing was ever announced."""
    rows = PendingFetch.objects.filter(tenant=source.tenant, source=source)
    counts = dict(rows.values_list("state").annotate(count=Count("id")))
    if not counts:
        return None
    troubled = list(rows.exclude(error="").exclude(state=PendingFetch.State.DONE).order_by("-id")[:most])
    return Announced(counts.get("due", 0), counts.get("done", 0), counts.get("given_up", 0), troubled)
