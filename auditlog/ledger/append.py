"""Append: one transaction under the tenant's log lock (third step of the road).

Indexes have no gaps, an event is in the tree once and for ever, and what was committed is durable before anybody
hears of it. All that does not need the lock (identities, salts, commitments, leaf hashes) is done before it is taken:
a leaf does not contain its index.

A log commits one transaction after another, and each waits for the disk. So what arrives in this process while one is
under way shares the next (group commit): one event a request is not bound by one disk flush a request.
"""

import os
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any

import rfc8785
from django.db import connection, transaction
from msgspec import Struct

from auditlog.core.log import leaf as leaves
from auditlog.core.log.merkle import Edge, leaf_hash
from auditlog.database.gather import Gathering, Take
from auditlog.formats import Statement, named
from auditlog.models import Source, Tenant
from auditlog.models.ledger import KIND_NUMBERS

EPOCH = 1
OWN = "-"  # the source and key of leaves that the service writes itself
TOGETHER = 2_000  # rows of several callers in one transaction
FROZEN = "20s"  # without a word from a process that holds a log's lock
_EVENT, _CONFLICT = KIND_NUMBERS["event"], KIND_NUMBERS["conflict"]
_UUID8_KEEP = ~((0xF << 76) | (0x3 << 62))  # room for the version and variant bits, RFC 9562 section 5.8
_UUID8_SET = (0x8 << 76) | (0x2 << 62)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Appended(Struct, frozen=True):
    """Where a statement lies. `conflict` means it does not: other content has its identity at this leaf."""

    leaf_index: int
    event_id: uuid.UUID
    repeated: bool = False
    conflict: bool = False


def identity(pepper: bytes, source: str, source_event_id: str, *, conflict: bytes = b"") -> uuid.UUID:
    """The event's id: 16 bytes of a peppered hash of its identity, in the form of RFC 9562 version 8.

    A conflict has an id of its own, made with the refused content, so that repeating it adds nothing.
    """
    digest = sha256(b"\x00".join((pepper, source.encode(), source_event_id.encode(), conflict))).digest()
    number = int.from_bytes(digest[:16]) & _UUID8_KEEP | _UUID8_SET
    return uuid.UUID(int=number)


def append_statements(source: Source, statements: Sequence[Statement], *, now: datetime) -> list[Appended]:
    """Append verified statements, in order. Durable once this returns, unless an outer transaction is open.

    A repeat returns the leaf it already has. Other content under a known identity is not taken: it is kept as a
    conflict leaf, and its result says so.
    """
    if not statements:
        return []
    rows = [_Row.of(source, statement, now=now) for statement in statements]
    if connection.in_atomic_block:  # whoever opened that transaction wants these rows in it
        return _append(source.tenant_id, lambda: rows)
    with _gatherings_lock:
        gathering = _gatherings.get(source.tenant_id)
        if gathering is None:
            gathering = _gatherings[source.tenant_id] = Gathering(partial(_append, source.tenant_id), most=TOGETHER)
    return gathering.ask(rows)


def _append(tenant_id: int, take: Take["_Row"]) -> list[Appended]:
    """Append what is waiting once the log is ours: the wait for another process's transaction makes for a larger one."""
    with transaction.atomic():
        head = _lock(tenant_id)
        rows = take()
        results, new = _settle(tenant_id, rows, _known(tenant_id, rows), head.size)
        if new:
            _write(tenant_id, new, head)
    return results


_gatherings: dict[int, Gathering["_Row", Appended]] = {}
_gatherings_lock = threading.Lock()


def append_note(tenant: Tenant, kind: str, body: dict[str, Any], *, now: datetime) -> int:
    """Append a leaf of our own (key, config, case, ...): `body` in JCS. Returns its index."""
    raw = rfc8785.dumps(body)
    row = _Row(KIND_NUMBERS[kind], None, None, OWN, "", b"", raw, "F", OWN, now)
    with transaction.atomic():
        head = _lock(tenant.pk)
        row.place(head.size)
        _write(tenant.pk, [row], head)
    return row.leaf_index


class _Row:
    """A leaf and its payload on their way into the database."""

    __slots__ = (
        "commitment", "event_id", "grade", "hash", "headers", "key", "kind", "leaf_index", "raw", "received_at", "salt",
        "source", "source_event_id", "source_id",
    )  # fmt: skip

    def __init__(self, kind, event_id, source_id, source_name, source_event_id, headers, raw, grade, key, received_at):
        self.kind, self.event_id, self.source_id = kind, event_id, source_id
        self.source_event_id, self.headers, self.raw = source_event_id, headers, raw
        self.grade, self.key, self.received_at = grade, key, received_at
        self.leaf_index = -1
        self.salt = os.urandom(32)
        self.commitment = leaves.commitment(self.salt, source_event_id.encode(), headers, raw)
        self.hash = leaf_hash(
            leaves.leaf_bytes(
                kind=leaves.KINDS[kind],
                source=source_name,
                received_us=microseconds(received_at),
                grade=grade,
                key=key,
                committed=self.commitment,
            )
        )

    @classmethod
    def of(cls, source: Source, statement: Statement, *, now: datetime) -> "_Row":
        row = cls(
            _EVENT,
            identity(source.tenant.pepper, source.name, statement.source_event_id),
            source.pk, source.name, statement.source_event_id, statement.headers, statement.raw, statement.grade,
            statement.key, now,
        )  # fmt: skip
        row.source = source
        return row

    def as_conflict(self) -> "_Row":
        source = self.source
        content = sha256(named(source.format).content(self.raw, self.headers)).digest()
        event_id = identity(source.tenant.pepper, source.name, self.source_event_id, conflict=content)
        return _Row(
            _CONFLICT, event_id, source.pk, source.name, self.source_event_id, self.headers, self.raw, self.grade,
            self.key, self.received_at,
        )  # fmt: skip

    def place(self, leaf_index: int) -> None:
        self.leaf_index = leaf_index


def microseconds(at: datetime) -> int:
    delta = at - _BEGINNING
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _lock(tenant_id: int) -> Edge:
    """Take the log's lock until the transaction ends, and read where the log ends.

    Whoever freezes while holding it loses it, and its transaction, after a while: nobody else could append meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT size, edge, set_config('idle_in_transaction_session_timeout', %s, true) FROM ledger_head"
            " WHERE tenant_id = %s AND epoch = %s FOR UPDATE",
            [FROZEN, tenant_id, EPOCH],
        )
        size, edge, _ = cursor.fetchone()
    return Edge.unpacked(size, bytes(edge))


def _known(tenant_id: int, rows: Sequence[_Row]) -> dict[uuid.UUID, int]:
    """Which identities the ledger already has, and at which leaf."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT event_id, leaf_index FROM ledger_leaf WHERE tenant_id = %s AND event_id = ANY(%s)",
            [tenant_id, [row.event_id for row in rows]],
        )
        return dict(cursor.fetchall())


def _settle(
    tenant_id: int, rows: Sequence[_Row], known: dict[uuid.UUID, int], size: int
) -> tuple[list[Appended], list[_Row]]:
    """Decide for each row: new, a repeat, or a conflict. Rows of one transaction can repeat each other too."""
    results: list[Appended] = []
    new: list[_Row] = []
    fresh: dict[uuid.UUID, _Row] = {}
    stored = _stored(tenant_id, list(known.values())) if known else {}
    for row in rows:
        if (first := fresh.get(row.event_id)) is not None:
            index, before = first.leaf_index, (first.raw, first.headers)
        elif (index := known.get(row.event_id)) is not None:
            before = stored.get(index)
        else:
            row.place(size + len(new))
            fresh[row.event_id] = row
            new.append(row)
            results.append(Appended(row.leaf_index, row.event_id))
            continue
        # An erased payload cannot be compared: the identity alone says it was here.
        if before is None or _says_the_same(row, *before):
            results.append(Appended(index, row.event_id, repeated=True))
            continue
        results.append(Appended(index, row.event_id, conflict=True))
        conflict = row.as_conflict()
        if conflict.event_id not in fresh and not _known(tenant_id, [conflict]):
            conflict.place(size + len(new))
            fresh[conflict.event_id] = conflict
            new.append(conflict)
    return results, new


def _says_the_same(row: _Row, raw: bytes, headers: bytes) -> bool:
    """Whether a row says what is in the ledger under its identity, also where the sender renders it in another version."""
    module = named(row.source.format)
    if module.content(raw, headers) == module.content(row.raw, row.headers):
        return True
    rendering = getattr(module, "is_rendering", None)
    return rendering is not None and rendering(raw, row.raw)


def _stored(tenant_id: int, indexes: list[int]) -> dict[int, tuple[bytes, bytes]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT leaf_index, raw, headers FROM ledger_payload WHERE tenant_id = %s AND epoch = %s AND leaf_index ="
            " ANY(%s)",
            [tenant_id, EPOCH, indexes],
        )
        return {index: (bytes(raw), bytes(headers)) for index, raw, headers in cursor.fetchall()}


def _write(tenant_id: int, rows: Sequence[_Row], head: Edge) -> None:
    """COPY leaves and payloads, then move the head: all of it or nothing."""
    extended = head.extended([row.hash for row in rows])
    # Django does not translate what COPY raises: a full disk must be a 503 here too.
    with connection.wrap_database_errors, connection.cursor() as cursor:
        with cursor.copy(
            "COPY ledger_leaf (tenant_id, epoch, leaf_index, kind, event_id, source_id, received_at, grade, key,"
            " commitment) FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(
                ["int8", "int2", "int8", "int2", "uuid", "int8", "timestamptz", "varchar", "varchar", "bytea"]
            )
            for row in rows:
                copy.write_row(
                    (tenant_id, EPOCH, row.leaf_index, row.kind, row.event_id, row.source_id, row.received_at,
                     row.grade, row.key, row.commitment)
                )  # fmt: skip
        with cursor.copy(
            "COPY ledger_payload (tenant_id, epoch, leaf_index, salt, source_event_id, headers, raw)"
            " FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(["int8", "int2", "int8", "bytea", "text", "bytea", "bytea"])
            for row in rows:
                copy.write_row((tenant_id, EPOCH, row.leaf_index, row.salt, row.source_event_id, row.headers, row.raw))
        cursor.execute(
            "UPDATE ledger_head SET size = %s, edge = %s WHERE tenant_id = %s AND epoch = %s AND size = %s",
            [extended.size, extended.packed(), tenant_id, EPOCH, head.size],
        )
        if cursor.rowcount != 1:
            raise RuntimeError(f"the head of log {tenant_id} moved under its own lock")
