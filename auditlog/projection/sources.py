"""Project how sources are heard: when last, with which numbers, by which clock, and what no longer parses.

Part of the fold in `project.py`. What these rows say is a function of the set of leaves, like all projections; the rules
of `detectors/source_*.py` and `clock_skew.py` rest on them.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from auditlog.core.sequence import Run, merged, run_of
from auditlog.database.bulk import copy_rows, upsert_rows
from auditlog.database.dirty import AT_ONCE
from auditlog.detectors import clock_skew
from auditlog.models import Tenant
from auditlog.projection.batch import Batch

ACTIVITY_TYPES = {
    "tenant_id": "int8", "generation": "int4", "source": "varchar", "events": "int8", "erased": "int8", "leaf_index": "int8",
    "received_at": "timestamptz",
}  # fmt: skip
UNPARSED_TYPES = {
    "tenant_id": "int8",
    "generation": "int4",
    "leaf_index": "int8",
    "source": "varchar",
    "reason": "text",
}
SEQUENCE_TYPES = {
    "tenant_id": "int8", "generation": "int4", "source": "varchar", "stream": "varchar", "first": "int8", "last": "int8",
    "events": "int8", "leaf_index": "int8", "received_at": "timestamptz", "is_linked": "bool", "begins": "bool",
}  # fmt: skip
CLOCK_TYPES = {
    "tenant_id": "int8", "generation": "int4", "source": "varchar", "key": "varchar", "hour": "timestamptz",
    "events": "int8", "ahead": "int8", "least_lag_us": "int8", "most_lag_us": "int8", "first_at": "timestamptz",
    "last_at": "timestamptz", "leaf_index": "int8", "event_id": "uuid",
}  # fmt: skip
_MICROSECOND = timedelta(microseconds=1)


def write_heard(batch: Batch, heard: Iterable[tuple[int, str, datetime, bool]]) -> None:
    """Event leaves as (leaf index, source, receipt, erased), in order: parsed or not, the source was there."""
    last: dict[str, list] = {}
    for leaf_index, source, received_at, erased in heard:
        known = last.setdefault(source, [0, 0, 0, received_at])
        known[:] = known[0] + 1, known[1] + erased, leaf_index, received_at
    upsert_rows(
        "projection_source", ACTIVITY_TYPES, [(*batch.scope, source, *facts) for source, facts in sorted(last.items())],
        key=("tenant_id", "generation", "source"), merge={"events": "t.events + excluded.events", "erased": "t.erased + excluded.erased"},
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM auditlog_source WHERE tenant_id = %s AND name = ANY(%s) AND heartbeat_seconds IS NOT NULL",
            [batch.tenant.pk, list(last)],
        )
        batch.dirty |= {("silence", key_of(name)) for (name,) in cursor.fetchall()}


def write_unparsed(batch: Batch) -> None:
    if batch.unparsed:
        rows = [
            (*batch.scope, leaf_index, source, reason.replace("\x00", "").encode("utf-8", "replace").decode()[:500])
            for leaf_index, source, reason in batch.unparsed
        ]
        copy_rows("projection_unparsed", UNPARSED_TYPES, rows)


def fold_sequences(batch: Batch) -> None:
    """Put the numbers of the batch to the runs they touch. A stream with a gap, or with one that closed, is looked at."""
    said: dict[tuple[str, str], list[Run]] = {}
    for read in batch.reads:
        if (sequence := read.event.payload.sequence) is not None:
            run = run_of(
                sequence.number,
                previous=sequence.previous,
                begins=sequence.begins,
                leaf_index=read.leaf_index,
                received_at=read.received_at,
            )
            said.setdefault((read.source.name, sequence.stream), []).append(run)
    if not said:
        return
    said = {key: merged(runs) for key, runs in said.items()}
    streams = [source for source, _ in said], [stream for _, stream in said]
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED, {
            "tenant": batch.tenant.pk, "generation": batch.generation, "sources": streams[0], "streams": streams[1],
            "lows": [runs[0].first - 1 for runs in said.values()], "highs": [runs[-1].last + 1 for runs in said.values()],
        })  # fmt: skip
        before: dict[tuple[str, str], list[Run]] = {}
        for source, stream, *row in cursor.fetchall():
            before.setdefault((source, stream), []).append(Run(*row))
    rows = [
        (
            *batch.scope,
            *key,
            run.first,
            run.last,
            run.events,
            run.leaf_index,
            run.received_at,
            run.is_linked,
            run.begins,
        )
        for key, runs in said.items()
        for run in merged([*before.get(key, ()), *runs])
    ]
    copy_rows("projection_sequence", SEQUENCE_TYPES, rows)
    batch.dirty |= {("sequence", key_of(*key)) for key, runs in before.items() if len(runs) > 1}
    with connection.cursor() as cursor:
        cursor.execute(_GAPPED, [*batch.scope, *streams])
        batch.dirty |= {("sequence", key_of(*key)) for key in cursor.fetchall()}


_TOUCHED = """
    DELETE FROM projection_sequence s
    USING unnest(%(sources)s::text[], %(streams)s::text[], %(lows)s::int8[], %(highs)s::int8[]) AS k(source, stream, low, high)
    WHERE s.tenant_id = %(tenant)s AND s.generation = %(generation)s AND s.source = k.source AND s.stream = k.stream
      AND s.last >= k.low AND s.first <= k.high
    RETURNING s.source, s.stream, s.first, s.last, s.events, s.leaf_index, s.received_at, s.is_linked, s.begins
"""
_GAPPED = """
    SELECT s.source, s.stream FROM projection_sequence s WHERE s.tenant_id = %s AND s.generation = %s
      AND (s.source, s.stream) IN (SELECT * FROM unnest(%s::text[], %s::text[])) GROUP BY 1, 2 HAVING count(*) > 1
"""


def fold_clocks(batch: Batch) -> None:
    """Compare `iat` with receipt, by source, key and hour of receipt."""
    at_once: dict[tuple, list[tuple[datetime, int, UUID]]] = {}  # a delivery is received at one time
    for read in batch.reads:
        key = (read.source.name, read.key, read.received_at)
        at_once.setdefault(key, []).append((read.event.issued_at, read.leaf_index, read.event_id))
    hours: dict[tuple[str, str, datetime], list] = {}
    for (source, key, at), many in at_once.items():
        hour, row = (source, key, at.replace(minute=0, second=0, microsecond=0)), _told(at, many)
        hours[hour] = _joined(hours[hour], row) if hour in hours else row
    if not hours:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT source, key, hour, events, ahead, least_lag_us, most_lag_us, first_at, last_at, leaf_index, event_id"
            " FROM projection_clock WHERE tenant_id = %s AND generation = %s"
            " AND (source, key, hour) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[]))",
            [*batch.scope, *map(list, zip(*hours, strict=True))],
        )
        before = {tuple(row[:3]): list(row[3:]) for row in cursor.fetchall()}
    after = {key: _joined(before[key], row) if key in before else row for key, row in hours.items()}
    upsert_rows(
        "projection_clock", CLOCK_TYPES, [(*batch.scope, *key, *row) for key, row in after.items()],
        key=("tenant_id", "generation", "source", "key", "hour"),
    )  # fmt: skip
    batch.dirty |= {
        ("clock", key_of(source, key, hour.isoformat()))
        for (source, key, hour), row in after.items()
        if any(clock_skew.is_suspicious(clock_fact(source, key, hour, *row))
               for row in (row, before.get((source, key, hour), row)))
    }  # fmt: skip


def _told(at: datetime, heard: list[tuple[datetime, int, UUID]]) -> list:
    """What some events of one key, received `at`, say: (issued at, leaf index, event id) of each."""
    said = [issued for issued, _, _ in heard]
    newest = max(said)
    leaf_index, event_id = min((leaf, event_id) for issued, leaf, event_id in heard if issued == newest)
    ahead = sum(issued - at > clock_skew.AHEAD for issued in said) if newest > at else 0
    return [
        len(heard),
        ahead,
        (at - newest) // _MICROSECOND,
        (at - min(said)) // _MICROSECOND,
        at,
        at,
        leaf_index,
        event_id,
    ]


def _joined(one: list, other: list) -> list:
    # The least lag names its leaf; of equal ones the first, so that the order of batches says nothing.
    least = min(one, other, key=lambda row: (row[2], row[6]))
    return [one[0] + other[0], one[1] + other[1], least[2], max(one[3], other[3]), min(one[4], other[4]),
            max(one[5], other[5]), least[6], least[7]]  # fmt: skip


def clock_fact(
    source, key, hour, events, ahead, least_us, most_us, first_at, last_at, leaf_index, event_id
) -> clock_skew.Fact:
    return clock_skew.Fact(
        source, key, hour, events, ahead, least_us * _MICROSECOND, most_us * _MICROSECOND, first_at, last_at, leaf_index,
        str(event_id),
    )  # fmt: skip


def key_of(*parts: str) -> str:
    """The key of a dirty row, which is also the partition of a finding."""
    return json.dumps(parts)


def look_at_all_sources(tenant: Tenant, generation: int, *, rules: Sequence[str]) -> None:
    """After a rebuild: have everything looked at that these rules could find, or found before, in this generation."""
    with connection.cursor() as cursor:
        cursor.execute(_ALL, {"tenant": tenant.pk, "generation": generation})
        keys = {(kind, key_of(*json.loads(parts))) for kind, parts in cursor.fetchall()}
        cursor.execute(
            "SELECT rule, partition FROM finding WHERE tenant_id = %s AND rule = ANY(%s) AND state IN ('open', 'acknowledged')",
            [tenant.pk, list(rules)],
        )
        keys |= {(KIND_OF_RULE[rule], partition) for rule, partition in cursor.fetchall()}
    copy_rows(
        "projection_dirty",
        {"tenant_id": "int8", "kind": "varchar", "key": "text", "leaf_index": "int8", "due_at": "timestamptz"},
        [(tenant.pk, kind, key, -1, AT_ONCE) for kind, key in sorted(keys)],
    )


KIND_OF_RULE = {
    "integrity.source_gap": "sequence", "integrity.source_silent": "silence", "integrity.clock_skew": "clock",
}  # fmt: skip
_ALL = """
    SELECT 'sequence', json_build_array(source, stream)::text FROM projection_sequence
    WHERE tenant_id = %(tenant)s AND generation = %(generation)s GROUP BY source, stream HAVING count(*) > 1
    UNION ALL
    SELECT 'silence', json_build_array(name)::text FROM auditlog_source
    WHERE tenant_id = %(tenant)s AND heartbeat_seconds IS NOT NULL
"""
