"""Verify the ledger: re-derive the tree from the stored bytes, and hold tiles, checkpoints and head against it.

The fast pass recomputes every commitment and leaf hash from stored bytes and compares them a tile at a time; only a
tile that differs is looked at leaf by leaf, to name the first bad one and say what is wrong with it. A run can be cut
into windows and taken up where the last one ended.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Max

from auditlog.core.errors import LedgerCorrupt
from auditlog.core.log.checkpoint import opened, public_key_of
from auditlog.core.log.merkle import EMPTY, Edge
from auditlog.core.log.tlog import TILE, subtree_root
from auditlog.custody.earned import unearned
from auditlog.database import configured
from auditlog.ledger.absence import destroyed
from auditlog.ledger.append import EPOCH
from auditlog.ledger.publish import check_right_edge, origin_of, right_edge
from auditlog.ledger.stored import read_leaves, source_names, stored_hashes
from auditlog.models import Checkpoint, LogKey, Tenant

WINDOW = 65_536  # leaves read at once
LEDGER_TABLES = (
    "ledger_leaf", "ledger_payload", "ledger_tile", "ledger_checkpoint", "ledger_log_key", "ledger_hold", "ledger_release",
    "ledger_cosignature",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verified:
    """What a run covered: leaves [start, end) of a log of `size`."""

    start: int
    end: int
    size: int
    checkpoints: int
    erased: int
    root: bytes | None  # of the whole log, when the run reached its end
    unchecked: int = 0  # leaves of grade C whose shared secret is gone: they cannot be checked any more

    @property
    def leaves(self) -> int:
        return self.end - self.start


@transaction.atomic
def verify(tenant: Tenant, *, public_key=None, start: int = 0, limit: int | None = None) -> Verified:
    """Check leaves [start, start + limit) of a log with all that is signed over them. Raises LedgerCorrupt.

    `start` is where an earlier run ended (a multiple of 256): what lies before is taken from the tiles. `public_key`
    is the log's newest, had from elsewhere; without it the keys on record are used, which a thorough liar could change.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT size, edge FROM ledger_head WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH])
        size, packed = cursor.fetchone()
    if start % TILE:
        raise ValueError(f"a run starts at a multiple of {TILE}, found {start}")
    end = size if limit is None else min(size, start + limit - limit % TILE)
    checkpoints = _checkpoints(tenant, start, end)
    keys = _keys(tenant, public_key)
    signed_size = Checkpoint.objects.filter(tenant=tenant, epoch=EPOCH).aggregate(Max("size"))["size__max"] or 0
    edge, missing, roots = _edge_before(tenant, start, signed_size), {}, {}
    for number, hashes, stored, gone in _tiles_of_leaves(tenant, start, end):
        missing |= gone
        if stored is None and len(hashes) == TILE and (number + 1) * TILE <= signed_size:
            raise _missing(0, number)
        _check_tile(tenant, number, hashes, stored)
        if number == signed_size // TILE:
            _check_unfilled_tile(tenant, number, hashes)
        signed = list(_within(checkpoints, edge.size, edge.size + len(hashes)))
        if len(hashes) == TILE:
            roots[number] = subtree_root(hashes)
        if len(hashes) == TILE and not signed:
            edge = edge.extended([roots[number]], level=8)
            continue
        done = edge.size
        for row in signed:
            edge = edge.extended(hashes[edge.size - done : row.size - done])
            _check_checkpoint(tenant, edge, row, keys)
        edge = edge.extended(hashes[edge.size - done :])
    if end == size:
        if edge.root() != Edge.unpacked(size, bytes(packed)).root():
            raise LedgerCorrupt(f"leaf {max(0, size - 1)}: the stored leaves do not lead to the head's root")
        _nothing_beyond(tenant, size)
        check_right_edge(tenant)
    _check_upper_tiles(tenant, start, end, roots, signed_size)
    for absence in destroyed(tenant, missing)[:1]:
        raise LedgerCorrupt(f"leaf {absence.leaf_index}: {absence.words()}")
    unchecked: Counter[str] = Counter()
    for leaf in unearned(tenant, start, end, unchecked=unchecked):
        raise LedgerCorrupt(f"leaf {leaf.leaf_index}: {leaf.words()}")
    root = edge.root() if end == size else None
    return Verified(start, end, size, len(checkpoints), len(missing), root, unchecked.total())


def _tiles_of_leaves(
    tenant: Tenant, start: int, end: int
) -> Iterator[tuple[int, list[bytes], bytes | None, dict[int, int]]]:
    """Of [start, end) tile by tile: its number, the leaf hashes from the stored bytes, the tile as stored (None: not
    yet published) and the leaves whose payload is gone, with their kinds (all of a window with its first tile).
    """
    names = source_names(tenant)
    for first in range(start, end, WINDOW):
        # A window is read to its end before anything else is asked: one connection carries one stream.
        last = min(end, first + WINDOW)
        hashes, gone = stored_hashes(tenant, first, last, names)
        stored = _stored_tiles(tenant, 0, first // TILE, -(-last // TILE))
        for at in range(0, len(hashes), TILE):
            number = (first + at) // TILE
            yield number, hashes[at : at + TILE], stored.get(number), gone if at == 0 else {}


def _check_tile(tenant: Tenant, number: int, hashes: list[bytes], stored: bytes | None) -> None:
    """Hold derived leaf hashes against the published tile; where they differ, name the first leaf and what is wrong."""
    made = b"".join(hashes)
    if stored is None or stored == made or (len(hashes) < TILE and made.startswith(stored)):
        if stored is None or len(hashes) < TILE:
            _name_bad_leaf(tenant, number, hashes)  # no full tile vouches for these
        return
    _name_bad_leaf(tenant, number, hashes)
    at = next(n for n in range(len(hashes)) if stored[n * 32 : n * 32 + 32] != hashes[n])
    raise LedgerCorrupt(f"leaf {number * TILE + at}: its hash is not the one in tile 0/{number}")


def _check_unfilled_tile(tenant: Tenant, number: int, hashes: list[bytes]) -> None:
    """Hold derived leaf hashes against the last tile of the newest checkpoint, which is not full yet: by leaf."""
    held_number, held = right_edge(tenant).get(0, (number, []))
    for at, (stored, made) in enumerate(zip(held, hashes, strict=False) if held_number == number else ()):
        if stored != made:
            raise LedgerCorrupt(
                f"leaf {number * TILE + at}: its hash is not the one in tile 0/{number}, which is not full yet"
            )


def _name_bad_leaf(tenant: Tenant, number: int, hashes: list[bytes]) -> None:
    """Look at leaves one by one: a payload that does not fit its leaf says so itself."""
    first = number * TILE
    for row, derived in zip(read_leaves(tenant, first, first + len(hashes)), hashes, strict=True):
        if row.checked_hash() != derived:
            raise LedgerCorrupt(f"leaf {row.index}: its bytes and its fields disagree")


def _stored_tiles(tenant: Tenant, level: int, first: int, end: int) -> dict[int, bytes]:
    """The full tiles [first, end) of a level, by number."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT number, hashes FROM ledger_tile WHERE tenant_id = %s AND epoch = %s AND level = %s"
            " AND number >= %s AND number < %s",
            [tenant.pk, EPOCH, level, first, end],
        )
        return {number: bytes(hashes) for number, hashes in cursor.fetchall()}


def _missing(level: int, number: int) -> LedgerCorrupt:
    return LedgerCorrupt(f"leaf {number * TILE ** (level + 1)}: tile {level}/{number} is missing")


def _check_upper_tiles(tenant: Tenant, start: int, end: int, roots: dict[int, bytes], signed_size: int) -> None:
    """Every full tile above the leaves is made of the tiles below it; `roots`: of the lowest, as they were derived."""
    level, first, last = 1, start // TILE, end // TILE
    while last:
        made = dict(roots) if level == 1 else {}
        there = _stored_tiles(tenant, level, first // TILE, last // TILE)
        for number in range(first // TILE, min(last // TILE, signed_size // TILE ** (level + 1))):
            if number not in there:
                raise _missing(level, number)
        for number, hashes in sorted(there.items()):
            below = range(number * TILE, (number + 1) * TILE)
            if any(n not in made for n in below):  # from before this run, or of a higher level
                tiles = _stored_tiles(tenant, level - 1, below.start, below.stop)
                made.update((n, subtree_root(_split(tile))) for n, tile in tiles.items() if n not in made)
            for at, n in enumerate(below):
                if made.get(n) != hashes[at * 32 : at * 32 + 32]:
                    raise LedgerCorrupt(
                        f"leaf {n * TILE**level}: tile {level}/{number} is not made of the tiles below it"
                    )
        level, first, last = level + 1, first // TILE, last // TILE


def _split(packed: bytes) -> list[bytes]:
    return [packed[at : at + 32] for at in range(0, len(packed), 32)]


def _edge_before(tenant: Tenant, start: int, signed_size: int) -> Edge:
    """The edge of the tree of the first `start` leaves, from the newest tiles that make it up; of leaves that nobody
    has signed yet, which have none, from the stored bytes.
    """
    edge = EMPTY
    if not start:
        return edge
    row = Checkpoint.objects.filter(tenant=tenant, epoch=EPOCH, size__lte=start).order_by("-size").first()
    if row is not None:
        edge = Edge.unpacked(row.size, bytes(row.edge))
    while edge.size < start:
        number, offset = divmod(edge.size, TILE)
        tile = _stored_tiles(tenant, 0, number, number + 1).get(number)
        if tile is None:
            if (number + 1) * TILE <= signed_size:
                raise _missing(0, number)
            edge = edge.extended(
                stored_hashes(tenant, edge.size, min(start, edge.size + WINDOW), source_names(tenant))[0]
            )
        else:
            edge = edge.extended(_split(tile)[offset:])
    return edge


def _checkpoints(tenant: Tenant, start: int, end: int) -> list[Checkpoint]:
    rows = Checkpoint.objects.filter(tenant=tenant, epoch=EPOCH, size__gt=start, size__lte=end)
    return list(rows.order_by("size"))


def _within(rows: list[Checkpoint], first: int, last: int) -> Iterator[Checkpoint]:
    """Checkpoints with first < size <= last; `rows` is ordered, so each is looked at once over the whole run."""
    at = bisect_right(rows, first, key=lambda row: row.size)
    while at < len(rows) and rows[at].size <= last:
        yield rows[at]
        at += 1


def _keys(tenant: Tenant, public_key) -> list[tuple[int, bytes]]:
    """The log's public keys, each with the size from which on it signed, oldest first.

    Of the record, the keys before `public_key` are believed: what they signed must fit the same leaves as the newest
    head.
    """
    rows = LogKey.objects.filter(tenant=tenant, epoch=EPOCH).order_by("from_size", "id")
    recorded = [(row.from_size, public_key_of(row.vkey)[1]) for row in rows]
    if public_key is None or (recorded and recorded[-1][1] == bytes(public_key)):
        return recorded
    return [(0, bytes(public_key))]


def _check_checkpoint(tenant: Tenant, edge: Edge, row: Checkpoint, keys: list[tuple[int, bytes]]) -> None:
    if bytes(row.root) != edge.root():
        raise LedgerCorrupt(f"leaf {row.size - 1}: the first {row.size} leaves do not lead to the root signed for them")
    if not keys:
        return
    # The key of its time only: one that was rotated away, and stolen since, signs nothing more.
    key = next((key for from_size, key in reversed(keys) if from_size < row.size), keys[0][1])
    try:
        checkpoint = opened(row.note, origin=origin_of(tenant), public_key=key)
        problem = (
            "" if (checkpoint.size, checkpoint.root) == (row.size, edge.root()) else "it was signed for another head"
        )
    except ValueError as error:
        problem = str(error)
    if problem:
        raise LedgerCorrupt(f"leaf {row.size - 1}: the signature of checkpoint {row.size} does not hold: {problem}")


def _nothing_beyond(tenant: Tenant, size: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(leaf_index) FROM ledger_leaf WHERE tenant_id = %s AND epoch = %s AND leaf_index >= %s",
            [tenant.pk, EPOCH, size],
        )
        [beyond] = cursor.fetchone()
    if beyond is not None:
        raise LedgerCorrupt(f"leaf {beyond}: lies beyond the head, which ends at {size}")


def insert_only_faults() -> list[str]:
    """What lets this connection change ledger rows, in words; empty when nothing does."""
    faults = []
    with connection.cursor() as cursor:
        for table in LEDGER_TABLES:
            for privilege in ("UPDATE", "DELETE", "TRUNCATE"):
                cursor.execute("SELECT has_table_privilege(current_user, %s, %s)", [table, privilege])
                if cursor.fetchone()[0]:
                    faults.append(f"the application role may {privilege} {table}")
            cursor.execute(
                "SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgenabled IN"
                " ('O', 'A')",
                [table],
            )
            if cursor.fetchone()[0] < 2:
                faults.append(f"the triggers that keep {table} insert-only are missing or disabled")
        cursor.execute(_CONFIGURABLE, [list(configured.REMEMBERED)])
        faults += [f"the application role may write {table} without a leaf" for (table,) in cursor.fetchall()]
        cursor.execute(_UNSTATED, [list(configured.REMEMBERED)])
        faults += [
            f"the triggers that state {table} in the log are missing or disabled" for (table,) in cursor.fetchall()
        ]
    return faults


_CONFIGURABLE = """
    SELECT t FROM unnest(%s::text[]) t WHERE has_table_privilege(current_user, t, 'INSERT') OR has_table_privilege(current_user, t, 'UPDATE')
        OR has_table_privilege(current_user, t, 'DELETE') OR has_table_privilege(current_user, t, 'TRUNCATE') ORDER BY t
"""
_UNSTATED = """
    SELECT t FROM unnest(%s::text[]) t WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t::regclass
        AND g.tgname IN ('configuration_stated', 'rule_policy_stated') AND g.tgenabled IN ('O', 'A')) ORDER BY t
"""
