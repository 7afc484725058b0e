"""Stored leaves, read back: the exact bytes and what the tree makes of them. For whoever signs, proves or verifies.

Two ways: `read_leaves` gives rows one by one and says which one is wrong; `stored_hashes` gives only the hashes, at
the speed that signing under load needs.
"""

from binascii import b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from struct import unpack

from django.db import connection
from psycopg import sql

from auditlog.core.errors import LedgerCorrupt
from auditlog.core.log import leaf as leaves
from auditlog.core.log.leaf import KINDS
from auditlog.core.log.merkle import leaf_hash
from auditlog.ledger.append import EPOCH, OWN, microseconds
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


def stored_hashes(tenant: Tenant, start: int, end: int, names: dict[int, str]) -> tuple[list[bytes], dict[int, int]]:
    """Leaf hashes of [start, end) from the stored bytes, and the leaves whose payload is gone, with their kinds (as
    numbers). Raises LedgerCorrupt at a gap.

    Runs inside a transaction; nothing else may be asked of the connection meanwhile.
    """
    heads: dict[bytes, tuple[bytes, bytes]] = {}
    hashes: list[bytes] = []
    gone: dict[int, int] = {}
    expected = start
    for places, times, fields, lengths, preimages, committed in _tiles(tenant, start, end):
        count = len(places) // 8
        indexes = unpack(f">{count}q", places)
        if indexes != tuple(range(expected, expected + count)):
            missing = next(n for n, found in enumerate(indexes, expected) if n != found)
            raise LedgerCorrupt(f"leaf {missing}: missing")
        made, at = [], 0
        for n, length in enumerate(unpack(f">{count}i", lengths)):
            if length < 0:
                gone[expected + n] = -1
                made.append(committed[n * 32 : n * 32 + 32])
            else:
                made.append(sha256(preimages[at : at + length]).digest())
                at += length
        if b"".join(made) != committed:
            bad = next(n for n in range(count) if made[n] != committed[n * 32 : n * 32 + 32])
            raise LedgerCorrupt(f"leaf {expected + bad}: stored payload or salt is not what the leaf commits to")
        # 33 bytes are 44 characters: with one byte of padding the first 43 are those of the hash alone.
        encoded = b2a_base64(b"\0".join([*made, b""]), newline=False).translate(_URL_SAFE)
        for n, (micros, said) in enumerate(zip(unpack(f">{count}q", times), fields.split(b"\n"), strict=True)):
            head = heads.get(said)
            if head is None:
                try:
                    head = heads[said] = _head(said, names)
                except (ValueError, LookupError):
                    raise LedgerCorrupt(f"leaf {expected + n}: its kind or its source is none that we know") from None
            if expected + n in gone:
                gone[expected + n] = int(said.split(b"|", 1)[0])
            leaf = b'%b%d%b%b"]' % (head[0], micros + _SINCE_2000, head[1], encoded[n * 44 : n * 44 + 43])
            hashes.append(sha256(leaf).digest())
        expected += count
    if expected != end:
        raise LedgerCorrupt(f"leaf {expected}: missing")
    return hashes, gone


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


def _tiles(tenant: Tenant, start: int, end: int) -> Iterator[tuple[bytes, ...]]:
    """Leaves by the tile, each column packed into one value: a row for each leaf costs more to pass on than to hash.

    Indexes (8 bytes each), times (8), the other fields (a line each), lengths of what the commitments are hashes of (4,
    -1 when erased), those bytes, and commitments (32). Two index scans side by side by COPY: whatever the statistics
    say, a join by look-ups would cost more than the hashes.
    """
    with connection.wrap_database_errors, connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute("SET LOCAL enable_hashjoin = off")
        statement = sql.SQL(_SQL).format(
            tenant=sql.Literal(tenant.pk), epoch=sql.Literal(EPOCH), start=sql.Literal(start), end=sql.Literal(end)
        )
        with cursor.copy(statement) as copy:
            copy.set_types(["bytea"] * 6)
            yield from copy.rows()
        cursor.execute("SET LOCAL enable_nestloop = on")
        cursor.execute("SET LOCAL enable_hashjoin = on")


# A tile at a time, so that nothing is sorted and the first can be hashed while the next is read. Its rows come sorted
# into the aggregates, which keep their order (PostgreSQL manual, "Aggregate Functions"); the indexes are looked at
# after.
_SQL = """
    COPY (
    SELECT packed.* FROM generate_series({start} / 256, ({end} - 1) / 256) tile CROSS JOIN LATERAL (
        SELECT string_agg(int8send(leaf_index), ''), string_agg(timestamptz_send(received_at), ''),
               convert_to(string_agg(fields, E'\\n'), 'UTF8'), string_agg(int4send(coalesce(octet_length(preimage), -1)), ''),
               coalesce(string_agg(preimage, ''), ''), string_agg(commitment, '')
        FROM (
            SELECT l.leaf_index, l.received_at, l.commitment,
                   coalesce(translate(l.kind || '|' || coalesce(l.source_id::text, '') || '|' || l.grade || '|' || l.key, E'\\n', ' '), '')
                     AS fields,  -- a line each, whatever an insider put in there
                   p.salt || int4send(octet_length(p.source_event_id)) || convert_to(p.source_event_id, 'UTF8')
                     || int4send(octet_length(p.headers)) || p.headers || p.raw AS preimage
            FROM ledger_leaf l LEFT JOIN ledger_payload p ON p.tenant_id = l.tenant_id AND p.epoch = l.epoch
                   AND p.leaf_index = l.leaf_index AND p.tenant_id = {tenant} AND p.epoch = {epoch}
                   AND p.leaf_index >= tile * 256 AND p.leaf_index < (tile + 1) * 256
            WHERE l.tenant_id = {tenant} AND l.epoch = {epoch}
                  AND l.leaf_index >= greatest({start}, tile * 256) AND l.leaf_index < least({end}, (tile + 1) * 256)
            ORDER BY l.leaf_index
        ) sorted HAVING count(*) > 0
    ) packed
    ) TO STDOUT (FORMAT BINARY)
"""
