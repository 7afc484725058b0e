"""Proofs: that an event is in the signed log, and that one checkpoint extends another. Read from tiles only.

Everything is read in one snapshot: the newest checkpoint, its right edge and the full tiles belong together.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection, transaction

from auditlog.core.errors import NotFound
from auditlog.core.log.merkle import Edge, consistency_proof, inclusion_proof
from auditlog.core.log.tlog import TILE, TileAddress, entry_bundle, subtree_root, tile_of_node
from auditlog.ledger.append import EPOCH
from auditlog.ledger.stored import read_leaves
from auditlog.models import Tenant


@dataclass(frozen=True, slots=True)
class Proof:
    """An audit path from leaf `index` to the root that `note` signs for `size` leaves."""

    index: int
    size: int
    hashes: list[bytes]
    note: str
    tile_reads: int


class NotCovered(NotFound):
    """The leaf is in the ledger, and no signed checkpoint covers it yet."""


@transaction.atomic
def prove_inclusion(tenant: Tenant, index: int, *, size: int | None = None) -> Proof:
    """Raises NotCovered until a checkpoint covers the leaf: within a second, while the publisher runs. `size`: of an
    earlier checkpoint that does.
    """
    _one_snapshot()
    size, note = newest_checkpoint(tenant) if size is None else (size, "")
    if index >= size:
        raise NotCovered(f"leaf {index} is not covered yet: the last checkpoint has {size} leaves")
    node, reads = _nodes(tenant, size)
    return Proof(index, size, inclusion_proof(index, size, node), note, len(reads))


@transaction.atomic
def prove_consistency(tenant: Tenant, old: int, new: int) -> list[bytes]:
    """That the log of `new` leaves extends the one of `old`. Raises NotFound for sizes beyond what is signed."""
    _one_snapshot()
    size, _ = newest_checkpoint(tenant)
    if not 0 < old <= new <= size:
        raise NotFound(f"expected 0 < old <= new <= {size}, found {old} and {new}")
    node, _ = _nodes(tenant, size)
    return consistency_proof(old, new, node)


def newest_checkpoint(tenant: Tenant) -> tuple[int, str]:
    """Size and note of the newest checkpoint. Raises NotCovered when nothing was signed yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT size, note FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s ORDER BY size DESC LIMIT 1",
            [tenant.pk, EPOCH],
        )
        row = cursor.fetchone()
    if row is None:
        raise NotCovered("this log has no signed checkpoint yet")
    return row


@transaction.atomic
def tile_bytes(tenant: Tenant, address: TileAddress) -> bytes:
    """The hashes of a tile, or the leaves of an entry bundle. Raises NotFound beyond the newest checkpoint."""
    _one_snapshot()
    size, _ = newest_checkpoint(tenant)
    level = max(0, address.level)
    there = max(0, min(TILE, (size >> 8 * level) - address.number * TILE))
    if there < address.width:
        raise NotFound(f"tile {address.path()} is not there at {size} leaves")
    if address.level < 0:
        first = address.number * TILE
        return entry_bundle([row.encoded() for row in read_leaves(tenant, first, first + address.width)])
    return b"".join(_tile(tenant, level, address.number)[: address.width])


def _one_snapshot() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _nodes(tenant: Tenant, size: int) -> tuple[Callable[[int, int], bytes], dict]:
    """A lookup of tree nodes, and the tiles that it read. The right edge comes with the checkpoint, not from tiles."""
    read: dict[tuple[int, int], list[bytes]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT edge FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s AND size = %s",
            [tenant.pk, EPOCH, size],
        )
        edge = Edge.unpacked(size, bytes(cursor.fetchone()[0])).nodes()

    def node(level: int, index: int) -> bytes:
        if (level, index) in edge:
            return edge[level, index]
        address, start, end = tile_of_node(level, index)
        key = (address.level, address.number)
        if key not in read:
            read[key] = _tile(tenant, *key)
        return subtree_root(read[key][start:end])

    return node, read


def _tile(tenant: Tenant, level: int, number: int) -> list[bytes]:
    """The hashes of a tile, from the full tiles or from the right edge. Raises NotFound."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT hashes FROM ledger_tile WHERE tenant_id = %(t)s AND epoch = %(e)s AND level = %(l)s AND number ="
            " %(n)s"
            " UNION ALL SELECT hashes FROM ledger_edge WHERE tenant_id = %(t)s AND epoch = %(e)s AND level = %(l)s"
            " AND number = %(n)s",
            {"t": tenant.pk, "e": EPOCH, "l": level, "n": number},
        )
        row = cursor.fetchone()
    if row is None:
        raise NotFound(f"tile {level}/{number} is not there")
    packed = bytes(row[0])
    return [packed[at : at + 32] for at in range(0, len(packed), 32)]
