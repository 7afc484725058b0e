"""Verify the ledger: re-derive the tree from the stored bytes, and hold every checkpoint against it."""

from dataclasses import dataclass

from django.db import connection
from nacl.signing import VerifyKey

from auditlog.append import EPOCH
from auditlog.core.checkpoint import opened
from auditlog.core.errors import LedgerCorrupt
from auditlog.core.merkle import EMPTY, Edge
from auditlog.models import Tenant
from auditlog.core.tlog import TILE
from auditlog.publish import origin_of, read_leaves

LEDGER_TABLES = ("ledger_leaf", "ledger_payload", "ledger_tile", "ledger_checkpoint")


@dataclass(frozen=True, slots=True)
class Verified:
    leaves: int
    checkpoints: int
    erased: int
    root: bytes


def verify(tenant: Tenant, *, public_key: VerifyKey | None) -> Verified:
    """Check leaves, head, tiles and checkpoints of a log. Raises LedgerCorrupt naming the first bad leaf.

    Without `public_key` the notes' signatures are not checked, only what they say.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT size, edge FROM ledger_head WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH])
        size, packed = cursor.fetchone()
        cursor.execute(
            "SELECT size, root, note FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s AND size <= %s ORDER BY size",
            [tenant.pk, EPOCH, size],
        )
        checkpoints = cursor.fetchall()
        cursor.execute(
            "SELECT count(*) FROM ledger_leaf WHERE tenant_id = %s AND epoch = %s AND leaf_index >= %s",
            [tenant.pk, EPOCH, size],
        )
        beyond = cursor.fetchone()[0]
    edge, erased, hashes = EMPTY, 0, []
    wanted = {row[0]: row for row in checkpoints}
    for row in read_leaves(tenant, 0, size):
        hashes.append(row.checked_hash())
        erased += row.raw is None
        # Folding at tile ends too keeps the memory small and lets a bad tile be named.
        if row.index + 1 in wanted or len(hashes) == TILE:
            edge, hashes = edge.extended(hashes), []
            if edge.size in wanted:
                _check_checkpoint(tenant, edge, wanted[edge.size], public_key)
    edge = edge.extended(hashes)
    if edge.root() != Edge.unpacked(size, bytes(packed)).root():
        raise LedgerCorrupt(f"leaf {size - 1}: the stored leaves do not lead to the head's root")
    if beyond:
        # Only a size read before a concurrent append explains leaves beyond it; a second look settles that.
        with connection.cursor() as cursor:
            cursor.execute("SELECT size FROM ledger_head WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH])
            if cursor.fetchone()[0] < size + beyond:
                raise LedgerCorrupt(f"leaf {size}: lies beyond the head")
    return Verified(size, len(checkpoints), erased, edge.root())


def _check_checkpoint(tenant: Tenant, edge: Edge, row: tuple, public_key: VerifyKey | None) -> None:
    size, root, note = row
    if bytes(root) != edge.root():
        raise LedgerCorrupt(f"leaf {size - 1}: the first {size} leaves do not lead to the root signed for them")
    if public_key is None:
        return
    try:
        checkpoint = opened(note, origin=origin_of(tenant), public_key=bytes(public_key))
    except ValueError as error:
        raise LedgerCorrupt(f"leaf {size - 1}: checkpoint {size}: {error}") from None
    if (checkpoint.size, checkpoint.root) != (size, edge.root()):
        raise LedgerCorrupt(f"leaf {size - 1}: checkpoint {size} was signed for another head")


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
                "SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgenabled IN ('O', 'A')",
                [table],
            )
            if cursor.fetchone()[0] < 2:
                faults.append(f"the triggers that keep {table} insert-only are missing or disabled")
    return faults
