"""Signing heads: only what was re-read and re-derived, and never against what was signed before."""

import itertools

import pytest
from django.db import connections, transaction
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerCorrupt, Superseded
from auditlog.core.log.checkpoint import opened, vkey
from auditlog.core.log.merkle import Edge, check_consistency, consistency_proof
from auditlog.core.log.tlog import TILE
from auditlog.custody.verify_ledger import insert_only_faults, verify
from auditlog.formats import Statement
from auditlog.ledger.append import append_statements
from auditlog.ledger.publish import origin_of, publish, take_fence
from auditlog.ledger.stored import read_leaves
from auditlog.models import Checkpoint, LogHead, Tile
from auditlog.sources.configure import add_source

KEY = SigningKey(b"\x07" * 32)
TABLES = ("ledger_leaf", "ledger_payload", "ledger_checkpoint", "ledger_head", "ledger_tile", "ledger_cosignature")


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    return world


def grow(log, count):
    from auditlog.ledger.append import append_note

    for n in range(count):
        append_note(log.row, "config", {"n": n}, now=log.now)


def sign(log, fence=None):
    return publish(log.row, key=KEY, fence=take_fence(log.row) if fence is None else fence, now=log.now)


def vandalise(statement, *params):
    """What only a superuser's or the owner's deliberate hand can do: triggers off, then the deed."""
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, params)
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_a_checkpoint_names_size_and_root_of_the_committed_head(log):
    log.send(*(log.event("action.performed") for _ in range(5)))

    note = sign(log)

    checkpoint = opened(note, origin=origin_of(log.row), public_key=bytes(KEY.verify_key))
    head = LogHead.objects.get(tenant=log.row)
    assert checkpoint.size == head.size
    assert checkpoint.root == Edge.unpacked(head.size, bytes(head.edge)).root()
    assert vkey(origin_of(log.row), bytes(KEY.verify_key)).startswith(origin_of(log.row) + "+")


def test_nothing_new_is_not_signed_again(log):
    fence = take_fence(log.row)

    assert sign(log, fence) and sign(log, fence) is None
    assert Checkpoint.objects.filter(tenant=log.row).count() == 1


def test_checkpoints_across_tile_ends_are_consistent_and_tiles_are_whole(log):
    fence = take_fence(log.row)
    for count in (100, 160, 1, 300):
        grow(log, count)
        sign(log, fence)

    hashes = [row.checked_hash() for row in read_leaves(log.row, 0, LogHead.objects.get(tenant=log.row).size)]

    def node(level, index):
        return Edge(0, ()).extended(hashes[index << level : (index + 1) << level]).root()

    notes = list(Checkpoint.objects.filter(tenant=log.row).order_by("size"))
    for old, new in itertools.pairwise(notes):
        check_consistency(
            old.size, new.size, bytes(old.root), bytes(new.root), consistency_proof(old.size, new.size, node)
        )
    tiles = list(Tile.objects.filter(tenant=log.row, level=0).order_by("number"))
    assert [bytes(tile.hashes) for tile in tiles] == [b"".join(hashes[n * TILE : (n + 1) * TILE]) for n in range(2)]
    assert verify(log.row, public_key=KEY.verify_key).checkpoints == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_payload SET raw = set_byte(raw, 9, (get_byte(raw, 9) + 1) %% 256) WHERE tenant_id = %s AND leaf_index = 4",
        "UPDATE ledger_payload SET salt = set_byte(salt, 0, (get_byte(salt, 0) + 1) %% 256) WHERE tenant_id = %s AND leaf_index = 4",
        "UPDATE ledger_leaf SET commitment = set_byte(commitment, 0, (get_byte(commitment, 0) + 1) %% 256) WHERE tenant_id = %s AND leaf_index = 4",
        "UPDATE ledger_leaf SET received_at = received_at + interval '1 us' WHERE tenant_id = %s AND leaf_index = 4",
        "UPDATE ledger_leaf SET grade = 'F' WHERE tenant_id = %s AND leaf_index = 4",
        "UPDATE ledger_leaf SET key = left(key, 40) || chr(10) WHERE tenant_id = %s AND leaf_index = 4",
        "UPDATE ledger_leaf SET kind = 99 WHERE tenant_id = %s AND leaf_index = 4",
        "DELETE FROM ledger_leaf WHERE tenant_id = %s AND leaf_index = 4",
    ],
)
def test_a_changed_leaf_is_not_signed_and_is_named(log, statement):
    log.send(*(log.event("action.performed") for _ in range(5)))
    vandalise(statement, log.row.pk)

    with pytest.raises(LedgerCorrupt):
        sign(log)
    with pytest.raises(LedgerCorrupt, match=r"leaf (4|7)"):
        verify(log.row, public_key=KEY.verify_key)
    assert not Checkpoint.objects.filter(tenant=log.row).exists()


def test_a_leaf_changed_after_signing_is_found_by_verify(log):
    log.send(*(log.event("action.performed") for _ in range(5)))
    sign(log)
    vandalise("UPDATE ledger_leaf SET grade = 'F' WHERE tenant_id = %s AND leaf_index = 4", log.row.pk)

    with pytest.raises(LedgerCorrupt):
        verify(log.row, public_key=KEY.verify_key)


@pytest.fixture
def tall(log):
    """A log of more than 65,536 leaves, so that two levels of tiles are full, signed at every so many."""
    source = add_source(
        log.row, "bulk", format="ocsf", issuer="https://bulk.example", now=log.now
    )  # whose events claim no signature
    fence = take_fence(log.row)
    for start in range(0, 66_000, 11_000):
        many = [Statement(f"n{n}", n.to_bytes(600), b"", "E", "-", None) for n in range(start, start + 11_000)]
        append_statements(source, many, now=log.now)
        sign(log, fence)
    return log


def test_a_tall_log_is_verified_whole_and_in_windows_that_cut_its_tiles_anywhere(tall):
    whole = verify(tall.row, public_key=KEY.verify_key)

    parts, at = [], 0
    while at < whole.size:
        parts.append(verify(tall.row, public_key=KEY.verify_key, start=at, limit=30_000))
        at = parts[-1].end

    assert (len(parts), sum(part.leaves for part in parts)) == (3, whole.size)
    assert (sum(part.checkpoints for part in parts), parts[-1].root) == (whole.checkpoints, whole.root)


@pytest.mark.parametrize("start", [0, 256 * 200])
def test_an_upper_tile_that_is_not_made_of_those_below_is_found_by_whoever_ends_it(tall, start):
    vandalise(
        "UPDATE ledger_tile SET hashes = set_byte(hashes, 32 * 7, (get_byte(hashes, 32 * 7) + 1) %% 256)"
        " WHERE tenant_id = %s AND level = 1", tall.row.pk,
    )  # fmt: skip

    with pytest.raises(LedgerCorrupt, match=r"leaf 1792: tile 1/0 is not made of the tiles below it"):
        verify(tall.row, start=start)


@pytest.mark.parametrize(("level", "number", "leaf"), [(0, 0, 0), (0, 100, 25_600), (1, 0, 0)])
def test_a_tile_that_was_taken_away_is_missed(tall, level, number, leaf):
    vandalise("DELETE FROM ledger_tile WHERE tenant_id = %s AND level = %s AND number = %s", tall.row.pk, level, number)

    with pytest.raises(LedgerCorrupt, match=f"leaf {leaf}: tile {level}/{number} is missing"):
        verify(tall.row)


def test_a_checkpoint_by_another_key_is_found(log):
    grow(log, 3)
    sign(log)

    with pytest.raises(LedgerCorrupt, match="signature"):
        verify(log.row, public_key=SigningKey(b"\x08" * 32).verify_key)


def test_a_publisher_that_slept_through_a_takeover_signs_nothing(log):
    old = take_fence(log.row)
    take_fence(log.row)
    grow(log, 1)

    with pytest.raises(Superseded, match="fence"):
        sign(log, old)


def test_a_head_behind_what_was_signed_is_not_signed(log):
    grow(log, 5)
    fence = take_fence(log.row)
    sign(log, fence)
    vandalise("UPDATE ledger_head SET size = 0, edge = '' WHERE tenant_id = %s", log.row.pk)

    with pytest.raises(LedgerCorrupt, match="behind"):
        sign(log, fence)


def test_this_role_cannot_change_the_ledger(log):
    assert insert_only_faults() == []


def test_a_missing_trigger_is_reported(log):
    owner = connections["owner"]
    with owner.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_leaf DISABLE TRIGGER ledger_leaf_written_once")
    try:
        assert any("ledger_leaf" in fault for fault in insert_only_faults())
    finally:
        with owner.cursor() as cursor:
            cursor.execute("ALTER TABLE ledger_leaf ENABLE TRIGGER ledger_leaf_written_once")
