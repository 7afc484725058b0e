"""The hand of somebody with the database's own rights: triggers off, then the deed."""

from dataclasses import replace

from django.db import connections, transaction
from nacl.signing import SigningKey

from auditlog.core.log.checkpoint import Checkpoint as Head
from auditlog.core.log.checkpoint import signed
from auditlog.core.log.leaf import commitment
from auditlog.core.log.merkle import EMPTY
from auditlog.core.log.tlog import TILE
from auditlog.ledger.publish import origin_of
from auditlog.ledger.stored import read_leaves
from auditlog.models import Checkpoint, LogHead

TABLES = (
    "ledger_leaf", "ledger_payload", "ledger_tile", "ledger_checkpoint", "ledger_head", "ledger_log_key",
    "ledger_hold", "ledger_release", "ledger_cosignature",
)  # fmt: skip


def by_force(*statements: tuple[str, list]) -> None:
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement, params in statements:
            cursor.execute(statement, params)
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def flip(table: str, column: str, where: str, params: list, *, byte: int = 0) -> None:
    """Flip one bit."""
    by_force((
        f"UPDATE {table} SET {column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # 1) WHERE {where}", params
    ))  # fmt: skip


def rewrite_history(log, index: int, raw: bytes, *, key: SigningKey, vkey: str = "") -> None:
    """Put other bytes at a leaf and make everything in the database fit them: commitment, tiles, edges, checkpoints
    signed again with `key` (a thief's own, put on record as `vkey`, or the stolen one), and the head.
    """
    pk = log.row.pk
    rows = list(read_leaves(log.row, 0, LogHead.objects.get(tenant=log.row).size))
    old = rows[index]
    committed = commitment(old.salt, old.source_event_id.encode(), old.headers, raw)
    rows[index] = replace(old, raw=raw, commitment=committed)
    hashes = [row.checked_hash() for row in rows]
    deeds: list[tuple[str, list]] = [
        ("UPDATE ledger_payload SET raw = %s WHERE tenant_id = %s AND leaf_index = %s", [raw, pk, index]),
        ("UPDATE ledger_leaf SET commitment = %s WHERE tenant_id = %s AND leaf_index = %s", [committed, pk, index]),
        ("UPDATE ledger_head SET edge = %s WHERE tenant_id = %s", [EMPTY.extended(hashes).packed(), pk]),
    ]
    for checkpoint in Checkpoint.objects.filter(tenant=log.row):
        edge = EMPTY.extended(hashes[: checkpoint.size])
        note = signed(Head(origin_of(log.row), edge.size, edge.root()), key)
        deeds.append((
            "UPDATE ledger_checkpoint SET root = %s, edge = %s, note = %s WHERE tenant_id = %s AND size = %s",
            [edge.root(), edge.packed(), note, pk, edge.size],
        ))  # fmt: skip
        newest = edge.size
    for number in range(len(hashes) // TILE):
        tile = b"".join(hashes[number * TILE : (number + 1) * TILE])
        deeds.append(
            (
                "UPDATE ledger_tile SET hashes = %s WHERE tenant_id = %s AND level = 0 AND number = %s",
                [tile, pk, number],
            )
        )
    partial = b"".join(hashes[newest // TILE * TILE : newest])
    deeds.append(("UPDATE ledger_edge SET hashes = %s WHERE tenant_id = %s AND level = 0", [partial, pk]))
    if vkey:
        deeds.append(("UPDATE ledger_log_key SET vkey = %s WHERE tenant_id = %s", [vkey, pk]))
    by_force(*deeds)
