"""Project: a fold over leaves in order into typed events, parties, grants, tokens, limits and charges.

The cursor moves in the same transaction as its output, so a projector that dies repeats nothing and skips nothing.
Every derived row is a function of the set of leaves, never of the order they came in: a batch writes its own rows,
then recomputes what they touch (a grant that arrives completes all below it). Queries are per batch, not per event.

A leaf that no longer parses, or whose content the tables do not take, is left out and counted (`UnparsedLeaf`): it stays
in the ledger, and one bad leaf stops nobody.

`rebuild` runs the same fold from leaf zero into a new generation and swaps it in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from uuid import UUID

import structlog
from django.db import DataError, connection, transaction

from auditlog import formats
from auditlog.append import EPOCH
from auditlog.bulk import copy_rows, fetch_rows, upsert_rows
from auditlog.core import party as kinds
from auditlog.core.chain import Path, path_to
from auditlog.core.errors import Refused
from auditlog.core.event import (
    Actor,
    Event,
    GrantObject,
    Limit,
    Party,
    Payload,
    TokenObject,
    encode_payload,
    layer_of,
)
from auditlog.core.holding import Told, told_of
from auditlog.core.money import charges, counted_together
from auditlog.core.statement import (
    Grant,
    History,
    Revocation,
    Statement,
    decode_grant_history,
    decode_token_history,
    encode_history,
    resolve_grant,
    resolve_token,
)
from auditlog.ingest import sender_of
from auditlog.models import ProjectionState, Source, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.payments import COLUMNS, payments_around, rows_where
from auditlog.planner import refresh_statistics
from auditlog.project_sources import (
    KIND_OF_RULE,
    TABLES,
    fold_clocks,
    fold_sequences,
    look_at_all_sources,
    write_heard,
    write_unparsed,
)

log = structlog.get_logger()
BATCH = 4_000
_EVENT = KIND_NUMBERS["event"]
# What the content of a leaf can raise: text that UTF-8 or the database does not take, a number too large, too deep.
POISON = (DataError, ValueError, OverflowError, RecursionError)

EVENT_TYPES = {
    "tenant_id": "int8", "generation": "int4", "leaf_index": "int8", "event_id": "uuid", "source": "varchar",
    "source_event_id": "text", "issuer": "text", "type": "varchar", "occurred_at": "timestamptz",
    "received_at": "timestamptz", "grade": "varchar", "within_remit": "bool", "outcome": "varchar",
    "environment": "varchar", "mode": "varchar", "principal": "text", "principal_claimed": "bool", "actor": "text",
    "actor_kind": "varchar", "claimed_principal": "text", "verb": "text", "provider": "text", "account": "text",
    "target_type": "text", "target": "text", "resource": "text", "operation": "text", "grant": "text", "token": "text",
    "via_grant": "text", "chain_complete": "bool", "chain_proven": "bool", "chain_depth": "int2", "txn": "text",
    "session": "text", "task": "text", "project": "text", "request_id": "text", "trace_id": "text", "ip": "text",
    "ray_id": "text", "idempotency_key": "text", "phase": "varchar", "amount_minor": "int8", "currency": "varchar", "rail": "text",
    "charge": "text", "invoice": "text", "payment_authority": "text", "jkt": "text", "detail": "bytea",
}  # fmt: skip
GRANT_TYPES = {
    "tenant_id": "int8", "generation": "int4", "id": "text", "parent": "text", "stated": "bool", "subject": "text",
    "actor": "text", "principal": "text", "complete": "bool", "proven": "bool", "depth": "int2",
    "granted_at": "timestamptz", "expires_at": "timestamptz", "revoked_at": "timestamptz", "leaf_index": "int8",
    "history": "bytea",
}  # fmt: skip
TOKEN_TYPES = {
    "tenant_id": "int8", "generation": "int4", "jti": "text", "parent_jti": "text", "stated": "bool", "grant": "text",
    "via_grant": "text", "subject": "text", "actor": "text", "issued_at": "timestamptz", "expires_at": "timestamptz",
    "revoked_at": "timestamptz", "leaf_index": "int8", "history": "bytea",
}  # fmt: skip
LIMIT_TYPES = {
    "tenant_id": "int8", "generation": "int4", "leaf_index": "int8", "position": "int2", "event_id": "uuid",
    "verb": "varchar", "holder": "text", "grant": "text", "principal": "text", "scope": "varchar", "scope_id": "text",
    "provider": "text", "currency": "varchar", "interval": "varchar", "zone": "text", "max_minor": "int8",
    "enforcement": "varchar", "set_by": "text", "occurred_at": "timestamptz",
}  # fmt: skip
PARTY_TYPES = {
    "tenant_id": "int8", "generation": "int4", "key": "text", "kinds": "int2", "first_at": "timestamptz",
    "last_at": "timestamptz",
}  # fmt: skip
CHARGE_TYPES = {
    "tenant_id": "int8", "generation": "int4", "rail": "text", "charge": "text", "currency": "varchar", "lead": "uuid",
    "leaf_index": "int8", "at": "timestamptz", "principal": "text", "actor": "text", "provider": "text",
    "grant": "text", "session": "text", "task": "text", "project": "text", "taken_minor": "int8",
    "returned_minor": "int8", "authorized_minor": "int8", "has_spend": "bool", "joined": "uuid[]",
}  # fmt: skip
HOLDING_TYPES = {
    "tenant_id": "int8", "generation": "int4", "provider": "text", "kind": "varchar", "id": "text", "event_id": "uuid",
    "made_at": "timestamptz", "last_made_at": "timestamptz", "how": "varchar", "account": "text", "matched_by": "text",
    "ended_at": "timestamptz", "ended_by": "uuid",
}  # fmt: skip

_GRANTED = frozenset({"delegation.granted", "mandate.issued"})
_GRANT_ENDED = frozenset({"delegation.revoked", "mandate.revoked", "consent.withdrawn"})
_TOKEN_STATED = frozenset({"token.issued", "token.exchanged"})


@dataclass(slots=True)
class Read:
    """One event leaf as read from the ledger, parsed."""

    leaf_index: int
    event_id: UUID
    source: Source
    received_at: datetime
    grade: str
    event: Event
    within_remit: bool  # the source may speak for the event's layer
    key: str  # thumbprint


@dataclass(slots=True)
class Summary:
    """What an event needs to know of the grant it was done under."""

    principal: str
    complete: bool
    proven: bool
    depth: int


@dataclass(slots=True)
class Batch:
    """One batch on its way: what was read, and what it touches."""

    tenant: Tenant
    generation: int
    reads: list[Read]
    last_leaf: int
    dirty: set[tuple[str, str]] = field(default_factory=set)
    unparsed: list[tuple[int, str, str]] = field(default_factory=list)  # leaf index, source, why
    money: list[tuple] = field(default_factory=list)  # its statements about money, in the order of payments.COLUMNS

    @property
    def scope(self) -> list[int]:
        return [self.tenant.pk, self.generation]

    @property
    def first_leaf(self) -> int:
        """Rows of older events lie below it. What a batch writes of its own events is written with all that it brought."""
        return self.reads[0].leaf_index if self.reads else self.last_leaf


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
            look_at_all_sources(tenant, state.generation, rules=list(KIND_OF_RULE), now=now)
        _drop_generations(tenant, keep=fresh.generation)
        return total
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtext('answerable.rebuild'), %s)", [tenant.pk])


def _drop_generations(tenant: Tenant, *, keep: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for table in ("event", "party", "grant", "token", "limit", "charge", "holding", *TABLES, "state"):
            cursor.execute(
                f"DELETE FROM projection_{table} WHERE tenant_id = %s AND generation <> %s", [tenant.pk, keep]
            )


def _advance(tenant: Tenant, state: ProjectionState, *, now: datetime, limit: int) -> int:
    with connection.cursor() as cursor:
        # What a crash takes of a projection it takes with the position, and it is read again; whatever is durable after
        # it, of this or any other transaction, makes it durable too (PostgreSQL manual, "Asynchronous Commit").
        cursor.execute("SET LOCAL synchronous_commit TO off")
    rows = fetch_rows(_READ, [tenant.pk, EPOCH, state.position, limit])
    if not rows:
        return 0
    sources = {source.pk: source for source in Source.objects.select_related("tenant").filter(tenant=tenant)}
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
    write_heard(batch, [(row[0], sources[row[3]].name, row[4], row[6] is None) for row in rows if row[1] == _EVENT])
    write_unparsed(batch)
    _write_dirty(batch, now=now)
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
    """Event leaves, parsed by their source's format. Erased payloads and our own leaves say nothing here."""
    parsers = {pk: (formats.named(source.format).parse, sender_of(source)) for pk, source in sources.items()}
    for leaf_index, kind, event_id, source_id, received_at, grade, raw, headers, key in rows:
        if kind != _EVENT or raw is None:
            continue
        source = sources[source_id]
        parse, sender = parsers[source_id]
        try:
            event = parse(raw, headers, sender)
        except Exception as error:
            # It was accepted once: a newer parser is stricter, or has a fault of its own. Whichever, the others go on.
            _leave_out(batch, leaf_index, source.name, error)
            continue
        remit = not source.layers or layer_of(event.type) in (*source.layers, "source")
        yield Read(leaf_index, event_id, source, received_at, grade, event, remit, key)


def _leave_out(batch: Batch, leaf_index: int, source: str, error: Exception) -> None:
    reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
    batch.unparsed.append((leaf_index, source, reason))
    log.error("leaf no longer parses", tenant=batch.tenant.name, leaf_index=leaf_index, reason=reason[:200])


def _fold(batch: Batch) -> None:
    tokens = _fold_tokens(batch)
    grants = _fold_grants(batch)
    tokens |= _via_grants_of_tokens(batch, tokens)
    _write_events(batch)
    _write_parties(batch)
    _write_limits(batch)
    _reattribute(batch, grants, tokens)
    _fold_charges(batch)
    _fold_holdings(batch)
    fold_sequences(batch)
    fold_clocks(batch)


def _speaks_for(source: Source, party: Party | Actor | None) -> bool:
    return not source.speaks_for or party is None or party.iss in source.speaks_for


# --- grants ---------------------------------------------------------------------------------------------------------


def _fold_grants(batch: Batch) -> set[str]:
    """Merge what the batch says of grants, recompute the paths of those and of all below. Returns their ids."""
    statements: dict[str, list[Statement[GrantObject]]] = {}
    revocations: dict[str, list[Revocation]] = {}
    for read in batch.reads:
        said, event = read.event.payload.grant, read.event
        if event.type in _GRANTED and isinstance(said, GrantObject) and event.payload.outcome == "success":
            proven = read.within_remit and _speaks_for(read.source, said.subject)
            statements.setdefault(said.id, []).append(
                Statement(said, event.occurred_at, read.leaf_index, str(read.event_id), read.source.name,
                               event.issuer, read.grade, proven)
            )  # fmt: skip
        elif event.type in _GRANT_ENDED and said and event.payload.outcome == "success":
            grant_id = said.id if isinstance(said, GrantObject) else said
            revocations.setdefault(grant_id, []).append(_revocation(read))
    changed = statements.keys() | revocations.keys()
    if not changed:
        return set()

    histories = {grant_id: History() for grant_id in changed} | _family(batch, changed)
    for grant_id in changed:
        histories[grant_id] = histories[grant_id].with_more(
            statements.get(grant_id, ()), revocations.get(grant_id, ())
        )
    grants = {grant_id: grant for grant_id, history in histories.items() if (grant := resolve_grant(history))}
    below = _below(changed, {g.id: g.parent for g in grants.values() if g.parent and not g.root})
    rows = [
        _grant_row(batch, grant_id, histories[grant_id], grants.get(grant_id), path_to(grant_id, grants))
        for grant_id in sorted(below)
    ]
    upsert_rows("projection_grant", GRANT_TYPES, rows, key=("tenant_id", "generation", "id"))
    return below


def _revocation(read: Read) -> Revocation:
    # Whether the source may speak for the grant's subject is not asked: a stop that should not have been is visible
    # and reversible, one that was ignored is neither. It must be within the source's layers.
    return Revocation(read.event.occurred_at, read.received_at, read.leaf_index, read.source.name, read.source.provider,
                      read.within_remit)  # fmt: skip


def _family(batch: Batch, ids: Iterable[str]) -> dict[str, History[GrantObject]]:
    """Histories of the grants, of all below them and of all above those: two recursive queries, whatever the depth."""
    with connection.cursor() as cursor:
        cursor.execute(_FAMILY, {"tenant": batch.tenant.pk, "generation": batch.generation, "ids": list(ids),
                                 "parents": _new_parents(batch)})  # fmt: skip
        return {grant_id: decode_grant_history(bytes(history)) for grant_id, history in cursor.fetchall()}


def _new_parents(batch: Batch) -> list[str]:
    return [
        read.event.payload.grant.parent
        for read in batch.reads
        if isinstance(read.event.payload.grant, GrantObject) and read.event.payload.grant.parent
    ]


# UNION (not ALL) keeps a cycle from running for ever: a row seen before adds nothing.
_FAMILY = """
    WITH RECURSIVE down AS (
        SELECT unnest(%(ids)s::text[]) AS id
        UNION
        SELECT g.id FROM projection_grant g JOIN down d ON g.parent = d.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    ), up AS (
        SELECT id FROM down UNION SELECT unnest(%(parents)s::text[])
        UNION
        SELECT g.parent FROM projection_grant g JOIN up u ON g.id = u.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    )
    SELECT g.id, g.history FROM projection_grant g JOIN (SELECT DISTINCT id FROM up) u USING (id)
    WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
"""


def _below(ids: Iterable[str], parents: Mapping[str, str]) -> set[str]:
    """The ids, and all whose parents lead to one of them."""
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found, pending = set(ids), list(ids)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def _grant_row(batch: Batch, grant_id: str, history: History[GrantObject], grant: Grant | None, path: Path) -> tuple:
    revoked, leaf = history.ended.at if history.ended else None, history.last_leaf
    if grant is None:
        return (*batch.scope, grant_id, "", False, "", "", "", False, False, 0, None, None, revoked, leaf,
                encode_history(history))  # fmt: skip
    return (
        *batch.scope,
        grant_id,
        "" if grant.root else grant.parent or "",
        True,
        grant.subject.key if grant.subject else "",
        grant.actor.key if grant.actor else "",
        path.principal.key if path.principal else "",
        path.ends_at_root,
        path.ends_at_root and all(g.standing == "proven" for g in path.grants),
        len(path.grants),
        grant.granted_at,
        grant.expires_at,
        revoked,
        leaf,
        encode_history(history),
    )


# --- tokens ---------------------------------------------------------------------------------------------------------


def _fold_tokens(batch: Batch) -> set[str]:
    """Merge what the batch says of tokens. Returns the ids of those and of all exchanged from them."""
    statements: dict[str, list[Statement[TokenObject]]] = {}
    revocations: dict[str, list[Revocation]] = {}
    for read in batch.reads:
        said, event = read.event.payload.token, read.event
        if event.type in _TOKEN_STATED and isinstance(said, TokenObject) and event.payload.outcome == "success":
            proven = read.within_remit and _speaks_for(read.source, said.subject)
            statements.setdefault(said.jti, []).append(
                Statement(said, event.occurred_at, read.leaf_index, str(read.event_id), read.source.name,
                               event.issuer, read.grade, proven)
            )  # fmt: skip
        elif event.type == "token.revoked" and said and event.payload.outcome == "success":
            revocations.setdefault(said.jti if isinstance(said, TokenObject) else said, []).append(_revocation(read))
    changed = statements.keys() | revocations.keys()
    if not changed:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT jti, history FROM projection_token WHERE tenant_id = %s AND generation = %s AND jti = ANY(%s)",
            [*batch.scope, list(changed)],
        )
        histories = {jti: decode_token_history(bytes(history)) for jti, history in cursor.fetchall()}
    rows = []
    for jti in sorted(changed):
        history = histories.get(jti, History()).with_more(statements.get(jti, ()), revocations.get(jti, ()))
        token = resolve_token(jti, history)
        rows.append(
            (
                *batch.scope,
                jti,
                token.parent or "",
                token.stated,
                token.grant or "",
                "",
                token.subject.key if token.subject else "",
                token.actors[-1].key if token.actors else "",
                token.issued_at,
                token.expires_at,
                token.revoked_at,
                history.last_leaf,
                encode_history(history),
            )
        )
    upsert_rows("projection_token", TOKEN_TYPES, rows, key=("tenant_id", "generation", "jti"))
    return set(changed)


def _via_grants_of_tokens(batch: Batch, changed: set[str]) -> set[str]:
    """Find the grant that answers for each changed token and for all exchanged from it: its own, else a parent's.

    Returns all of those: a token that arrives or ends changes what stands behind every token below it.
    """
    if not changed:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_TOKEN_FAMILY, {"tenant": batch.tenant.pk, "generation": batch.generation, "ids": list(changed)})
        family = {jti: (parent, grant, via) for jti, parent, grant, via in cursor.fetchall()}
        found: dict[str, str] = {}
        for jti in family:
            seen: set[str] = set()
            current = jti
            while current in family and current not in seen and not family[current][1]:
                seen.add(current)
                current = family[current][0]
            found[jti] = family[current][1] if current in family else ""
        moved = [(jti, via) for jti, via in found.items() if via != family[jti][2]]
        cursor.execute(
            'UPDATE projection_token t SET via_grant = m.via FROM unnest(%s::text[], %s::text[]) AS m(jti, via)'
            " WHERE t.tenant_id = %s AND t.generation = %s AND t.jti = m.jti",
            [[jti for jti, _ in moved], [via for _, via in moved], *batch.scope],
        )
    return _below(changed, {jti: parent for jti, (parent, _, _) in family.items() if parent})


_TOKEN_FAMILY = """
    WITH RECURSIVE down AS (
        SELECT unnest(%(ids)s::text[]) AS jti
        UNION
        SELECT t.jti FROM projection_token t JOIN down d ON t.parent_jti = d.jti
        WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.parent_jti <> ''
    ), up AS (
        SELECT jti FROM down
        UNION
        SELECT t.parent_jti FROM projection_token t JOIN up u ON t.jti = u.jti
        WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.parent_jti <> ''
    )
    SELECT t.jti, t.parent_jti, t."grant", t.via_grant FROM projection_token t JOIN (SELECT DISTINCT jti FROM up) u USING (jti)
    WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s
"""


# --- events ---------------------------------------------------------------------------------------------------------


def _write_events(batch: Batch) -> None:
    vias = _vias(batch)
    summaries = _summaries(batch, {via for via in vias.values() if via})
    rows = [_event_row(batch, read, vias[read.leaf_index], summaries.get(vias[read.leaf_index])) for read in batch.reads]
    copy_rows("projection_event", EVENT_TYPES, rows)
    batch.money = [_MONEY(row) for row in rows if row[_AMOUNT] is not None]


_AMOUNT = list(EVENT_TYPES).index("amount_minor")
_MONEY = itemgetter(*(list(EVENT_TYPES).index(name) for name in COLUMNS))


def stated_grant(payload: Payload) -> str:
    return payload.grant.id if isinstance(payload.grant, GrantObject) else payload.grant or ""


def stated_token(payload: Payload) -> str:
    return payload.token.jti if isinstance(payload.token, TokenObject) else payload.token or ""


def _bound_key(payload: Payload) -> str:
    """The key that this event's grant or token object is bound to."""
    stated = [said for said in (payload.token, payload.grant) if isinstance(said, (TokenObject, GrantObject))]
    return next((said.cnf.jkt for said in stated if said.cnf and said.cnf.jkt), "")


def _vias(batch: Batch) -> dict[int, str]:
    """By leaf: the grant that answers for the event, as stated or through its token."""
    by_token = {
        stated_token(read.event.payload) for read in batch.reads if not stated_grant(read.event.payload)
    } - {""}
    found: dict[str, str] = {}
    if by_token:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT jti, via_grant FROM projection_token WHERE tenant_id = %s AND generation = %s AND jti = ANY(%s)",
                [*batch.scope, list(by_token)],
            )
            found = dict(cursor.fetchall())
    return {
        read.leaf_index: stated_grant(read.event.payload) or found.get(stated_token(read.event.payload), "")
        for read in batch.reads
    }


def _summaries(batch: Batch, ids: set[str]) -> dict[str, Summary]:
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, principal, complete, proven, depth FROM projection_grant"
            " WHERE tenant_id = %s AND generation = %s AND id = ANY(%s)",
            [*batch.scope, list(ids)],
        )
        return {grant_id: Summary(*row) for grant_id, *row in cursor.fetchall()}


def claimed_principal(event: Event) -> str:
    """Whose act the sender says it was: `sub_id`, else the human at the far end of its `act` claim."""
    if event.principal_claim is not None:
        return event.principal_claim.key
    oldest = event.payload.actor
    while oldest is not None and oldest.act is not None:
        oldest = oldest.act
    return oldest.key if oldest is not None and oldest.kind == "human" else ""


def _event_row(batch: Batch, read: Read, via: str, summary: Summary | None) -> tuple:
    event, payload = read.event, read.event.payload
    action, money, actor = payload.action, payload.money, payload.actor
    claimed = claimed_principal(event)
    rooted = summary is not None and summary.principal != ""
    target = action.target if action else None
    return (
        batch.tenant.pk,
        batch.generation,
        read.leaf_index,
        read.event_id,
        read.source.name,
        event.source_event_id,
        event.issuer,
        event.type,
        event.occurred_at,
        read.received_at,
        read.grade,
        read.within_remit,
        payload.outcome,
        payload.environment,
        payload.mode,
        summary.principal if rooted else claimed,
        not rooted,
        actor.key if actor else "",
        actor.kind if actor else "unknown",
        claimed,
        action.verb if action else "",
        (action.provider if action else "") or read.source.provider,
        action.account if action else "",
        target.type if target else "",
        target.id if target else "",
        action.resource if action else "",
        payload.call.operation if payload.call else "",
        stated_grant(payload),
        stated_token(payload),
        via,
        summary.complete if summary else False,
        summary.proven if summary else False,
        summary.depth if summary else 0,
        event.txn,
        payload.session,
        payload.task,
        payload.project,
        payload.request_id,
        payload.trace_id,
        payload.client.ip if payload.client else "",
        payload.client.ray_id if payload.client else "",
        payload.call.idempotency_key if payload.call else "",
        money.phase if money else "",
        money.amount_minor if money else None,
        money.currency.upper() if money else "",
        money.rail if money else "",
        money.charge if money else "",
        money.invoice if money else "",
        money.authority if money else "",
        _bound_key(payload),
        encode_payload(payload),
    )


def _reattribute(batch: Batch, grants: set[str], tokens: set[str]) -> None:
    """Give older events the chain that this batch completed or changed, in two statements, and have them looked at."""
    older = {"tenant": batch.tenant.pk, "generation": batch.generation, "below": batch.first_leaf}
    if tokens:
        with connection.cursor() as cursor:
            cursor.execute(
                'UPDATE projection_event e SET via_grant = t.via_grant FROM projection_token t'
                " WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.token = ANY(%(tokens)s) AND e.token <> ''"
                " AND e.leaf_index < %(below)s"
                ' AND e."grant" = \'\' AND t.tenant_id = e.tenant_id AND t.generation = e.generation'
                " AND t.jti = e.token AND e.via_grant <> t.via_grant RETURNING t.via_grant, e.token",
                older | {"tokens": list(tokens)},
            )
            moved = cursor.fetchall()
        grants = grants | {via for via, _ in moved}
        batch.dirty |= {("token", token) for token in tokens}
    if not grants:
        return
    with connection.cursor() as cursor:
        cursor.execute(_REATTRIBUTE, older | {"ids": list(grants)})
        batch.dirty |= {("principal", principal) for (principal,) in cursor.fetchall()}
    batch.dirty |= {("grant", grant_id) for grant_id in grants}


# Returns the principals that events were taken from: what was found of those must be looked at again.
_REATTRIBUTE = """
    WITH moving AS (
        SELECT e.leaf_index, e.principal AS before, coalesce(nullif(g.principal, ''), e.claimed_principal) AS principal,
               g.principal = '' AS claimed, g.complete, g.proven, g.depth
        FROM projection_event e JOIN projection_grant g
          ON g.tenant_id = e.tenant_id AND g.generation = e.generation AND g.id = e.via_grant
        WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.via_grant = ANY(%(ids)s) AND e.via_grant <> ''
          AND e.leaf_index < %(below)s
          AND (e.principal, e.principal_claimed, e.chain_complete, e.chain_proven, e.chain_depth) IS DISTINCT FROM
              (coalesce(nullif(g.principal, ''), e.claimed_principal), g.principal = '', g.complete, g.proven, g.depth)
    ), moved AS (
        UPDATE projection_event e SET principal = m.principal, principal_claimed = m.claimed,
               chain_complete = m.complete, chain_proven = m.proven, chain_depth = m.depth
        FROM moving m WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = m.leaf_index
    )
    SELECT DISTINCT before FROM moving WHERE before <> principal
"""


# --- parties, limits, charges ---------------------------------------------------------------------------------------


def _write_parties(batch: Batch) -> None:
    seen: dict[str, list] = {}
    for read in batch.reads:
        at = read.event.occurred_at
        for party in _parties_in(read.event):
            proven = read.within_remit and _speaks_for(read.source, party)
            mask = kinds.said(party.kind, proven=proven)
            known = seen.get(party.key)
            if known is None:
                seen[party.key] = [mask, at, at]
            else:
                known[0] |= mask
                known[1], known[2] = min(known[1], at), max(known[2], at)
    upsert_rows(
        "projection_party",
        PARTY_TYPES,
        [(*batch.scope, key, *facts) for key, facts in sorted(seen.items())],
        key=("tenant_id", "generation", "key"),
        merge={
            "kinds": "t.kinds | excluded.kinds",
            "first_at": "least(t.first_at, excluded.first_at)",
            "last_at": "greatest(t.last_at, excluded.last_at)",
        },
    )


def _parties_in(event: Event) -> Iterable[Party | Actor]:
    payload = event.payload
    if event.principal_claim:
        yield event.principal_claim
    actor = payload.actor
    while actor is not None:
        yield actor
        actor = actor.act
    if isinstance(payload.grant, GrantObject):
        yield from filter(None, (payload.grant.subject, payload.grant.actor))
    if isinstance(payload.token, TokenObject):
        yield from filter(None, (payload.token.subject, payload.token.actor))
    if payload.limit:
        yield from filter(None, (payload.limit.holder, payload.limit.set_by))
    if payload.gate and payload.gate.by:
        yield payload.gate.by


def _write_limits(batch: Batch) -> None:
    rows = []
    for read in batch.reads:
        event, payload = read.event, read.event.payload
        if event.type.startswith("limit.") and payload.limit:
            setter = payload.limit.set_by or payload.actor
            rows.append(
                _limit_row(batch, read, 0, event.type.removeprefix("limit."), payload.limit, payload.limit.holder,
                           setter.key if setter else "", "")
            )  # fmt: skip
        elif event.type in _GRANTED and isinstance(payload.grant, GrantObject):
            for position, limit in enumerate(payload.grant.limits or ()):
                giver = payload.grant.subject
                rows.append(
                    _limit_row(batch, read, position, "grant", limit, limit.holder or payload.grant.actor,
                               giver.key if giver else "", payload.grant.id)
                )  # fmt: skip
    if rows:
        copy_rows("projection_limit", LIMIT_TYPES, rows)


def _limit_row(
    batch: Batch, read: Read, position: int, verb: str, limit: Limit, holder: Party | None, set_by: str, grant: str
) -> tuple:
    payload = read.event.payload
    return (
        *batch.scope,
        read.leaf_index,
        position,
        read.event_id,
        verb,
        holder.key if holder else "",
        grant or stated_grant(payload),
        "",
        limit.scope,
        {"session": payload.session, "task": payload.task, "project": payload.project}.get(limit.scope, ""),
        limit.provider,
        limit.currency.upper(),
        limit.interval,
        limit.zone,
        limit.max_minor,
        limit.enforcement,
        set_by,
        read.event.occurred_at,
    )


def _fold_charges(batch: Batch) -> None:
    """Recompute every payment that the batch, or a chain it changed, has touched: from all statements of it."""
    moved = [key for kind, key in batch.dirty if kind == "grant"]
    older = "e.via_grant = ANY(%(grants)s) AND e.via_grant <> '' AND e.leaf_index < %(below)s"
    again = rows_where(batch.scope, older, {"grants": moved, "below": batch.first_leaf}) if moved else []
    if not (batch.money or again):
        return
    told = payments_around(batch.scope, [*batch.money, *again], below=batch.first_leaf, is_alone=_is_alone(batch))
    members: dict[tuple[str, str], list[tuple]] = {}
    together = counted_together(told.facts.values())
    for fact in told.facts.values():
        members.setdefault(together[fact.charge_key], []).append(told.rows[fact.event_id])
    lines = []
    for charge in charges(told.facts.values(), together):
        if (charge.rail, charge.charge) not in told.whole:
            continue  # seen beside others, and not touched
        lead = told.rows[charge.lead]
        others = members[charge.rail, charge.charge]
        if len(others) == 1:
            stated = lead[12:18]
        else:
            others.sort(key=lambda row: (row[11] == "", row[3], str(row[0])))
            stated = [next((value for row in (lead, *others) if (value := row[column])), "") for column in range(12, 18)]
        principal, actor, provider, session, task, project = stated
        lines.append(
            (*batch.scope, charge.rail, charge.charge, charge.currency, lead[0], lead[1], charge.at, principal, actor,
             provider, lead[11], session, task, project, charge.taken_minor, charge.returned_minor,
             charge.authorized_minor, charge.has_spend, [UUID(event_id) for event_id in charge.joined])
        )  # fmt: skip
    _drop_charges(batch, told.beside())
    upsert_rows(
        "projection_charge", CHARGE_TYPES, lines, key=("tenant_id", "generation", "rail", "charge", "currency")
    )


def _is_alone(batch: Batch) -> bool:
    """Whether only one source was ever heard: there is nobody whose word on the same money could be another's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT source FROM projection_source WHERE tenant_id = %s AND generation = %s LIMIT 2", batch.scope)
        heard = {source for (source,) in cursor.fetchall()}
    return len(heard | {read.source.name for read in batch.reads}) <= 1


def _drop_charges(batch: Batch, units: list[tuple[str, str]]) -> None:
    """What may have been counted with another, or may be from now on: written anew, in whatever currencies."""
    if units:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM projection_charge c USING unnest(%s::text[], %s::text[]) AS u(rail, charge)"
                " WHERE c.tenant_id = %s AND c.generation = %s AND c.rail = u.rail AND c.charge = u.charge",
                [[rail for rail, _ in units], [charge for _, charge in units], *batch.scope],
            )


def _fold_holdings(batch: Batch) -> None:
    """What was made and what ended. The first making gives the row its event, whatever arrives first."""
    told: dict[tuple[str, str, str], list[tuple[Told, UUID]]] = {}
    for read in batch.reads:
        action = read.event.payload.action
        said = told_of(read.event, (action.provider if action else "") or read.source.provider)
        if said is not None:
            told.setdefault((said.provider, said.kind, said.id), []).append((said, read.event_id))
    rows = []
    for key, many in sorted(told.items()):
        made = sorted(((t.at, event_id, t) for t, event_id in many if t.how), key=lambda each: each[:2])
        ended = sorted((t.at, event_id) for t, event_id in many if not t.how)
        first = made[0] if made else None
        rows.append(
            (*batch.scope, *key, first[1] if first else None, first[0] if first else None, made[-1][0] if made else None,
             first[2].how if first else "", first[2].account if first else "", first[2].matched_by if first else "",
             ended[-1][0] if ended else None, ended[-1][1] if ended else None)
        )  # fmt: skip
    # Row comparison with NULL is NULL, so each side that knows nothing is asked for first.
    earlier = "t.made_at IS NULL OR (excluded.made_at IS NOT NULL AND (excluded.made_at, excluded.event_id) < (t.made_at, t.event_id))"
    later = "t.ended_at IS NULL OR (excluded.ended_at IS NOT NULL AND (excluded.ended_at, excluded.ended_by) > (t.ended_at, t.ended_by))"
    firsts = {c: f"CASE WHEN {earlier} THEN excluded.{c} ELSE t.{c} END" for c in ("event_id", "made_at", "how", "account", "matched_by")}
    lasts = {c: f"CASE WHEN {later} THEN excluded.{c} ELSE t.{c} END" for c in ("ended_at", "ended_by")}
    upsert_rows(
        "projection_holding", HOLDING_TYPES, rows, key=("tenant_id", "generation", "provider", "kind", "id"),
        merge=firsts | lasts | {"last_made_at": "greatest(t.last_made_at, excluded.last_made_at)"},
    )  # fmt: skip


def _write_dirty(batch: Batch, *, now: datetime) -> None:
    if batch.dirty:
        copy_rows(
            "projection_dirty",
            {"tenant_id": "int8", "kind": "varchar", "key": "text", "leaf_index": "int8", "due_at": "timestamptz"},
            ((batch.tenant.pk, kind, key, batch.last_leaf, now) for kind, key in sorted(batch.dirty)),
        )
