"""Stored leaves, read back: the exact bytes and what the tree makes of them. For whoever signs, proves or verifies.

Two ways: `read_leaves` gives rows one by one and says which one is wrong; `stored_hashes` gives only the hashes, at
the speed that signing under load needs.
"""

from binascii import b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from django.db import connection
from psycopg import sql

from auditlog.append import EPOCH, OWN, microseconds
from auditlog.core import leaf as leaves
from auditlog.core.errors import LedgerCorrupt
from auditlog.core.leaf import KINDS
from auditlog.core.merkle import leaf_hash
from auditlog.models import Tenant
from auditlog.models.ledger import KIND_NAMES

READ_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class LeafRow:
    """A leaf as stored, with its payload where that still exists."""

    index: int
    kind: str
    source: str
    received_at: datetime
    grade: str
    key: str
    commitment: bytes
    salt: bytes | None
    source_event_id: str
    headers: bytes
    raw: bytes | None

    def checked_hash(self) -> bytes:
        """The leaf hash, after checking that payload and commitment agree. Raises LedgerCorrupt."""
        if self.raw is not None and self.salt is not None:
            made = leaves.commitment(self.salt, self.source_event_id.encode(), self.headers, self.raw)
            if made != self.commitment:
                raise LedgerCorrupt(f"leaf {self.index}: stored payload or salt is not what the leaf commits to")
        return leaf_hash(self.encoded())

    def encoded(self) -> bytes:
        """The leaf's canonical bytes."""
        return leaves.leaf_bytes(
            kind=self.kind,
            source=self.source,
            received_us=microseconds(self.received_at),
            grade=self.grade,
            key=self.key,
            committed=self.commitment,
        )


def read_leaves(tenant: Tenant, start: int, end: int) -> Iterator[LeafRow]:
    """Leaves [start, end) in order. Raises LedgerCorrupt at the first gap."""
    sources = source_names(tenant)
    expected = start
    while expected < end:
        with connection.cursor() as cursor:
            cursor.execute(_LEAVES, [tenant.pk, EPOCH, expected, min(end, expected + READ_AT_ONCE)])
            rows = cursor.fetchall()
        if not rows:
            raise LedgerCorrupt(f"leaf {expected}: missing")
        for index, kind, source_id, received_at, grade, key, committed, salt, event_id, headers, raw in rows:
            if index != expected:
                raise LedgerCorrupt(f"leaf {expected}: missing")
            yield LeafRow(
                index, KIND_NAMES[kind], sources.get(source_id, OWN), received_at, grade, key, bytes(committed),
                bytes(salt) if salt is not None else None, event_id or "", bytes(headers or b""),
                bytes(raw) if raw is not None else None,
            )  # fmt: skip
            expected += 1


_LEAVES = """
    SELECT l.leaf_index, l.kind, l.source_id, l.received_at, l.grade, l.key, l.commitment, p.salt, p.source_event_id,
           p.headers, p.raw
    FROM ledger_leaf l LEFT JOIN ledger_payload p ON p.tenant_id = l.tenant_id AND p.epoch = l.epoch
         AND p.leaf_index = l.leaf_index
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index >= %s AND l.leaf_index < %s ORDER BY l.leaf_index
"""


def source_names(tenant: Tenant) -> dict[int, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, name FROM auditlog_source WHERE tenant_id = %s", [tenant.pk])
        return dict(cursor.fetchall())


def stored_hashes(tenant: Tenant, start: int, end: int, names: dict[int, str]) -> tuple[list[bytes], int]:
    """Leaf hashes of [start, end) from the stored bytes, and how many payloads are gone. Raises LedgerCorrupt at a gap.

    Runs inside a transaction; nothing else may be asked of the connection meanwhile.
    """
    heads: dict[bytes, tuple[bytes, bytes]] = {}
    hashes: list[bytes] = []
    expected, erased = start, 0
    for place, fields, preimage, committed in _rows(tenant, start, end):
        if int.from_bytes(place[:8]) != expected:
            raise LedgerCorrupt(f"leaf {expected}: missing")
        expected += 1
        if preimage is None:
            erased += 1
        elif sha256(preimage).digest() != committed:
            raise LedgerCorrupt(f"leaf {expected - 1}: stored payload or salt is not what the leaf commits to")
        head = heads.get(fields)
        if head is None:
            head = heads[fields] = _head(fields, names)
        at = int.from_bytes(place[8:], signed=True) + _SINCE_2000
        encoded = b2a_base64(committed, newline=False)[:43].translate(_URL_SAFE)
        hashes.append(sha256(b'%b%d%b%b"]' % (head[0], at, head[1], encoded)).digest())
    if expected != end:
        raise LedgerCorrupt(f"leaf {expected}: missing")
    return hashes, erased


_SINCE_2000 = 946_684_800_000_000  # microseconds from 1970 to PostgreSQL's own beginning of time
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _head(fields: bytes, names: dict[int, str]) -> tuple[bytes, bytes]:
    """A leaf's bytes around its time, after the 0x00 of RFC 6962: what leaves of one source and key share."""
    kind, source, grade, key = fields.split(b"|", 3)
    name = names[int(source)] if source else OWN
    return (
        f'\x00["answerable-leaf/1","{KINDS[int(kind)]}","{name}",'.encode(),
        b',"%b","%b","' % (grade, key),
    )


def _rows(tenant: Tenant, start: int, end: int) -> Iterator[tuple[bytes, bytes, bytes | None, bytes]]:
    """(index and time, the other fields, what the commitment is the hash of or None when erased, commitment), in order.

    Two index scans side by side by COPY: whatever the statistics say, a join by look-ups would cost more than the hashes.
    """
    with connection.wrap_database_errors, connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute("SET LOCAL enable_hashjoin = off")
        statement = sql.SQL(_SQL).format(
            tenant=sql.Literal(tenant.pk), epoch=sql.Literal(EPOCH), start=sql.Literal(start), end=sql.Literal(end)
        )
        with cursor.copy(statement) as copy:
            copy.set_types(["bytea", "bytea", "bytea", "bytea"])
            yield from copy.rows()
        cursor.execute("SET LOCAL enable_nestloop = on")
        cursor.execute("SET LOCAL enable_hashjoin = on")


_SQL = """
    COPY (
    SELECT int8send(l.leaf_index) || timestamptz_send(l.received_at),
           convert_to(l.kind || '|' || coalesce(l.source_id::text, '') || '|' || l.grade || '|' || l.key, 'UTF8'),
           p.salt || int4send(octet_length(p.source_event_id)) || convert_to(p.source_event_id, 'UTF8')
             || int4send(octet_length(p.headers)) || p.headers || p.raw,
           l.commitment
    FROM ledger_leaf l LEFT JOIN ledger_payload p ON p.tenant_id = l.tenant_id AND p.epoch = l.epoch
           AND p.leaf_index = l.leaf_index AND p.tenant_id = {tenant} AND p.epoch = {epoch}
           AND p.leaf_index >= {start} AND p.leaf_index < {end}
    WHERE l.tenant_id = {tenant} AND l.epoch = {epoch} AND l.leaf_index >= {start} AND l.leaf_index < {end}
    ORDER BY l.leaf_index
    ) TO STDOUT (FORMAT BINARY)
"""
