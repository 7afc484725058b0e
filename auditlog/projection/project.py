"""Project: a fold over leaves in order into typed events, parties, grants, tokens, limits and charges.

The cursor moves in the same transaction as its output, so a projector that dies repeats nothing and skips nothing.
Every derived row is a function of the set of leaves, never of the order they came in: a batch writes its own rows,
then recomputes what they touch (a grant that arrives completes all below it). Queries are per batch, not per event.

A leaf that no longer parses, or whose content the tables do not take, is left out and counted (`UnparsedLeaf`): it stays
in the ledger, and one bad leaf stops nobody.

`rebuild` runs the same fold from leaf zero into a new generation and swaps it in.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import structlog
from django.apps import apps
from django.db import DataError, connection, transaction

from auditlog import formats
from auditlog.core.errors import AnswerableError, LedgerCorrupt, Refused
from auditlog.database.bulk import copy_rows, fetch_rows
from auditlog.database.dirty import AT_ONCE
from auditlog.database.planner import refresh_statistics
from auditlog.ledger.absence import absences
from auditlog.ledger.append import EPOCH
from auditlog.models import ProjectionState, Source, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.projection.acts import (
    attribute_through_things,
    fold_holdings,
    make_events,
    reattribute,
    write_events,
    write_limits,
    write_parties,
)
from auditlog.projection.batch import Batch, Read, may_say
from auditlog.projection.chains import find_grants_of_tokens, fold_grants, fold_tokens
from auditlog.projection.money import fold_charges
from auditlog.projection.sources import (
    KIND_OF_RULE,
    fold_clocks,
    fold_sequences,
    look_at_all_sources,
    write_heard,
    write_unparsed,
)
from auditlog.sources.configuration import refuse_if_judgement_differs, sources_in_force
from auditlog.sources.sender import sender_of

log = structlog.get_logger()
BATCH = 4_000
_EVENT = KIND_NUMBERS["event"]
# What the content of a leaf can raise: text that UTF-8 or the database does not take, a number too large, too deep.
POISON = (DataError, ValueError, OverflowError, RecursionError)


def project(tenant: Tenant, *, now: datetime, limit: int = BATCH) -> int:
    """Project the next batch of the current generation. Returns how many leaves it covered; 0 when caught up.

    Does nothing when another process projects this tenant just now.
    """
    with transaction.atomic():
        state = (
            ProjectionState.objects.select_for_update(skip_locked=True).filter(tenant=tenant, is_current=True).first()
        )
        done = 0 if state is None else _advance(tenant, state, now=now, limit=limit)
    if done:
        refresh_statistics()
    return done


def rebuild(tenant: Tenant, *, now: datetime) -> int:
    """Project everything anew from leaf zero, then swap in one transaction. Returns the number of leaves.

    The old generation serves reads until the swap; findings and people's triage stay.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext('answerable.rebuild'), %s)", [tenant.pk])
        if not cursor.fetchone()[0]:
            raise Refused(f"a rebuild of tenant {tenant.name!r} is under way already")
    try:
        last = ProjectionState.objects.filter(tenant=tenant).order_by("-generation").first()
        _drop_generations(tenant, keep=ProjectionState.objects.get(tenant=tenant, is_current=True).generation)
        with transaction.atomic():
            # An erasure under way holds this row: what begins after it no longer sees the payloads.
            ProjectionState.objects.select_for_update().get(tenant=tenant, is_current=True)
            fresh = ProjectionState.objects.create(tenant=tenant, generation=last.generation + 1)
        total = 0
        while True:
            with transaction.atomic():
                state = ProjectionState.objects.select_for_update().get(tenant=tenant, generation=fresh.generation)
                done = _advance(tenant, state, now=now, limit=BATCH)
            refresh_statistics()
            total += done
            # A batch can be short because of one bad leaf: only having caught up ends this.
            old = ProjectionState.objects.get(tenant=tenant, is_current=True)
            if not done or (done < BATCH and state.position >= old.position):
                break
        with transaction.atomic():
            # Under the old generation's lock nobody projects, so the new one can catch up with it exactly.
            old = ProjectionState.objects.select_for_update().get(tenant=tenant, is_current=True)
            state = ProjectionState.objects.select_for_update().get(tenant=tenant, generation=fresh.generation)
            while state.position < old.position:
                total += _advance(tenant, state, now=now, limit=BATCH)
            ProjectionState.objects.filter(tenant=tenant, generation=old.generation).update(is_current=False)
            ProjectionState.objects.filter(tenant=tenant, generation=state.generation).update(is_current=True)
            look_at_all_sources(tenant, state.generation, rules=list(KIND_OF_RULE))
        _drop_generations(tenant, keep=fresh.generation)
        return total
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtext('answerable.rebuild'), %s)", [tenant.pk])


def _drop_generations(tenant: Tenant, *, keep: int) -> None:
    """Of every table whose rows belong to a generation."""
    tables = sorted(
        model._meta.db_table
        for model in apps.get_app_config("auditlog").get_models()
        if model._meta.db_table.startswith("projection_") and any(f.name == "generation" for f in model._meta.fields)
    )
    with transaction.atomic(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table} WHERE tenant_id = %s AND generation <> %s", [tenant.pk, keep])


def _advance(tenant: Tenant, state: ProjectionState, *, now: datetime, limit: int) -> int:
    with connection.cursor() as cursor:
        # What a crash takes of a projection it takes with the position, and it is read again; whatever is durable after
        # it, of this or any other transaction, makes it durable too (PostgreSQL manual, "Asynchronous Commit").
        cursor.execute("SET LOCAL synchronous_commit TO off")
    rows = fetch_rows(_READ, [tenant.pk, EPOCH, state.position, limit])
    if not rows:
        return 0
    refuse_if_judgement_differs(tenant)
    sources = sources_in_force(tenant)
    batch = Batch(tenant, state.generation, [], rows[-1][0])
    batch.reads = list(_parsed(batch, rows, sources))
    try:
        with transaction.atomic():
            _fold(batch)
    except POISON as error:
        if len(rows) > 1:  # by halves down to the one that it is
            return _advance(tenant, state, now=now, limit=len(rows) // 2)
        batch = Batch(tenant, state.generation, [], rows[-1][0])
        _leave_out(batch, rows[0][0], sources[rows[0][3]].name, error)
    gone = absences(tenant, {row[0]: row[1] for row in rows if row[1] == _EVENT and row[6] is None})
    for row in rows:
        if row[0] in gone and not gone[row[0]].is_authorised:
            _leave_out(batch, row[0], sources[row[3]].name, LedgerCorrupt(gone[row[0]].words()))
    heard = [row for row in rows if row[1] == _EVENT]
    write_heard(
        batch, [(row[0], sources[row[3]].name, row[4], row[0] in gone and gone[row[0]].is_authorised) for row in heard]
    )
    write_unparsed(batch)
    write_dirty(batch)
    state.position = rows[-1][0] + 1
    state.projected_at = now
    ProjectionState.objects.filter(tenant=tenant, generation=state.generation).update(
        position=state.position, projected_at=now
    )
    return len(rows)


_READ = """
    SELECT l.leaf_index, l.kind, l.event_id, l.source_id, l.received_at, l.grade, p.raw, p.headers, l.key
    FROM ledger_leaf l LEFT JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index >= %s ORDER BY l.leaf_index LIMIT %s
"""


def _parsed(batch: Batch, rows: Iterable[tuple], sources: Mapping[int, Source]) -> Iterable[Read]:
    """Event leaves, parsed by their source's format. Payloads that are gone and our own leaves say nothing here."""
    parsers = {pk: (formats.named(source.format).parse, sender_of(source)) for pk, source in sources.items()}
    for leaf_index, kind, event_id, source_id, received_at, grade, raw, headers, key in rows:
        if kind != _EVENT or raw is None:
            continue
        source = sources[source_id]
        parse, sender = parsers[source_id]
        try:
            event = parse(raw, headers, sender).received(received_at)
        except Exception as error:
            # It was accepted once: a newer parser is stricter, or has a fault of its own. Whichever, the others go on.
            _leave_out(batch, leaf_index, source.name, error)
            continue
        yield Read(leaf_index, event_id, source, received_at, grade, event, may_say(source, event), key)


def _leave_out(batch: Batch, leaf_index: int, source: str, error: Exception) -> None:
    reason = str(error) if isinstance(error, AnswerableError) else f"{type(error).__name__}: {error}"
    batch.unparsed.append((leaf_index, source, reason))
    log.error("leaf no longer parses", tenant=batch.tenant.name, leaf_index=leaf_index, reason=reason[:200])


def _fold(batch: Batch) -> None:
    tokens = fold_tokens(batch)
    grants = fold_grants(batch)
    tokens |= find_grants_of_tokens(batch, tokens)
    reattribute(batch, grants, tokens)
    fold_holdings(batch)
    make_events(batch)
    attribute_through_things(batch)
    fold_charges(batch)
    write_parties(batch)
    write_limits(batch)
    fold_sequences(batch)
    fold_clocks(batch)
    write_events(batch)  # last: what asks for events above means those of before this batch


def write_dirty(batch: Batch) -> None:
    if batch.dirty:
        copy_rows(
            "projection_dirty",
            {"tenant_id": "int8", "kind": "varchar", "key": "text", "leaf_index": "int8", "due_at": "timestamptz"},
            ((batch.tenant.pk, kind, key, batch.last_leaf, AT_ONCE) for kind, key in sorted(batch.dirty)),
        )
