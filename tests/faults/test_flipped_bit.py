"""Fault 5: one bit flips, on disk or in memory. It is not signed, or it is found and located."""

import pytest

from auditlog.core.errors import LedgerBehind, LedgerCorrupt
from auditlog.core.log.merkle import Edge
from auditlog.custody.inspect_log import verify_next
from auditlog.ledger import append, publish
from auditlog.ledger.heads import head_file
from auditlog.models import Checkpoint, LogHead, PublisherState
from auditlog.work.health import checks
from tests.faults.insider import flip
from tests.faults.test_crash import fill, near_a_tile  # noqa: F401  a fixture
from tests.oracle import KEY, Violation


def round_of_publishing(log, monkeypatch):
    """One round of the leading publisher. Returns why this log is not signed, as /readyz says it; empty when it is."""
    monkeypatch.setattr(publish, "EVERY", 0.0)
    rounds = iter([False, True])
    publish._sign_all(lambda: [log.row], key=KEY, broken=set(), now=lambda: log.now, stop=lambda: next(rounds))
    state = PublisherState.objects.get(tenant=log.row)
    signing = {check.name: check for check in checks(now=log.now)}["signing"]
    assert (f"{log.tenant}: {state.reason}" in signing.detail) == (not state.is_signing)
    assert state.is_signing or not signing.ok
    return state.reason


def is_signed(log):
    newest = Checkpoint.objects.filter(tenant=log.row).order_by("-size").first()
    return newest.size == LogHead.objects.get(tenant=log.row).size


ON_DISK = {
    "payload": ("ledger_payload", "raw", "tenant_id = %s AND leaf_index = 6", 9),
    "salt": ("ledger_payload", "salt", "tenant_id = %s AND leaf_index = 6", 0),
    "leaf": ("ledger_leaf", "commitment", "tenant_id = %s AND leaf_index = 6", 31),
}


@pytest.mark.parametrize("what", ON_DISK)
def test_a_bit_flipped_before_signing_is_not_signed_and_named_by_leaf(log, monkeypatch, what):
    fill(log, 5)
    table, column, where, byte = ON_DISK[what]
    flip(table, column, where, [log.row.pk], byte=byte)

    said = round_of_publishing(log, monkeypatch)

    assert not is_signed(log)
    assert "leaf 6" in said
    assert verify_next(log.row, now=lambda: log.now).problem.startswith("leaf 6:")


@pytest.mark.parametrize("what", ON_DISK)
def test_a_bit_flipped_after_signing_is_found_by_the_nightly_run_and_named_by_leaf(log, what):
    fill(log, 5)
    log.oracle.sign()
    table, column, where, byte = ON_DISK[what]
    flip(table, column, where, [log.row.pk], byte=byte)

    assert "leaf" in verify_next(log.row, now=lambda: log.now).problem
    with pytest.raises(Violation, match=r"leaf (6|\d+: the first)"):
        log.oracle.check()


def test_a_bit_flipped_in_a_tile_is_found_at_its_leaf(near_a_tile):  # noqa: F811
    log = near_a_tile
    fill(log, 9)
    log.oracle.sign()
    flip("ledger_tile", "hashes", "tenant_id = %s AND level = 0", [log.row.pk], byte=77 * 32 + 5)

    assert verify_next(log.row, now=lambda: log.now).problem.startswith("leaf 77: its hash is not the one in tile 0/0")


def test_a_bit_flipped_in_a_partial_tile_never_fills_a_tile_and_is_found(near_a_tile, monkeypatch):  # noqa: F811
    log = near_a_tile
    flip("ledger_edge", "hashes", "tenant_id = %s AND level = 0", [log.row.pk], byte=77 * 32 + 5)
    found = verify_next(log.row, now=lambda: log.now).problem
    fill(log, 9)

    said = round_of_publishing(log, monkeypatch)

    assert found.startswith("leaf 77: its hash is not the one in tile 0/0, which is not full yet")
    assert "partial tile 0/0" in said and not is_signed(log)


@pytest.mark.parametrize(("table", "where"), [
    ("ledger_head", "tenant_id = %s"),
    ("ledger_checkpoint", "tenant_id = %s"),
])  # fmt: skip
def test_a_bit_flipped_in_the_head_or_in_a_checkpoints_edge_is_not_signed(log, monkeypatch, table, where):
    fill(log, 5)
    flip(table, "edge", where, [log.row.pk])

    said = round_of_publishing(log, monkeypatch)

    assert said and not is_signed(log)


def test_a_bit_flipped_in_the_independent_head_stops_the_publisher(log, monkeypatch):
    fill(log, 5)
    note = head_file(log.tenant).read_text()
    origin, size, root, rest = note.split("\n", 3)
    head_file(log.tenant).write_text("\n".join([origin, size, ("A" if root[0] != "A" else "B") + root[1:], rest]))

    said = round_of_publishing(log, monkeypatch)

    assert "not those that were signed" in said and not is_signed(log)
    with pytest.raises(LedgerBehind):
        log.oracle.sign()


def flipped(value, at=3):
    return value[:at] + bytes([value[at] ^ 4]) + value[at + 1 :]


def in_the_appenders_hash(monkeypatch):
    real = Edge.extended
    monkeypatch.setattr(append.Edge, "extended", lambda self, hashes: real(self, [flipped(hashes[0]), *hashes[1:]]))
    return lambda: monkeypatch.setattr(append.Edge, "extended", real)


def in_what_the_publisher_read(monkeypatch):
    real = publish.stored_hashes

    def stored_hashes(*args):
        hashes, erased = real(*args)
        return [flipped(hashes[0]), *hashes[1:]], erased

    monkeypatch.setattr(publish, "stored_hashes", stored_hashes)


def in_the_root_that_is_signed(monkeypatch):
    real = publish.Checkpoint
    monkeypatch.setattr(publish, "Checkpoint", lambda origin, size, root: real(origin, size, flipped(root)))


def in_the_finished_note(monkeypatch):
    real = publish.signed
    monkeypatch.setattr(publish, "signed", lambda *args: flipped(real(*args).encode(), at=-30).decode())


@pytest.mark.parametrize(
    "where", [in_the_appenders_hash, in_what_the_publisher_read, in_the_root_that_is_signed, in_the_finished_note]
)
def test_a_bit_flipped_in_memory_is_not_signed(log, monkeypatch, where):
    repair = where(monkeypatch)
    fill(log, 5)
    if repair:
        repair()  # that machine is gone; what it committed is here

    with pytest.raises(LedgerCorrupt):
        log.oracle.sign()
    assert not is_signed(log)
    assert round_of_publishing(log, monkeypatch)


def test_a_bit_flipped_between_the_senders_signature_and_the_ledger_is_found_by_whoever_checks_that_signature(
    log, monkeypatch
):
    real = append._Row.__init__

    def flipping(self, *args):
        args = [flipped(arg, at=200) if isinstance(arg, bytes) and len(arg) > 300 else arg for arg in args]
        real(self, *args)

    monkeypatch.setattr(append._Row, "__init__", flipping)
    [appended] = log.send(log.event("action.performed"))
    monkeypatch.setattr(append._Row, "__init__", real)
    log.oracle.sign()

    with pytest.raises(Violation, match=f"leaf {appended.leaf_index}: "):
        log.oracle.check_from_outside()


def test_control_a_publisher_that_signs_without_reading_again_is_caught(log, monkeypatch):
    fill(log, 5)
    flip("ledger_payload", "raw", "tenant_id = %s AND leaf_index = 6", [log.row.pk], byte=9)

    def trusting(tenant, start, end, names):
        with publish.connection.cursor() as cursor:
            cursor.execute("SELECT edge FROM ledger_head WHERE tenant_id = %s", [tenant.pk])
            monkeypatch.setattr(Edge, "extended", lambda self, hashes: Edge.unpacked(end, packed))
            packed = bytes(cursor.fetchone()[0])
        return [], 0

    monkeypatch.setattr(publish, "stored_hashes", trusting)
    monkeypatch.setattr(publish, "_write_tiles", lambda *args: None)
    log.oracle.sign()
    monkeypatch.undo()
    assert is_signed(log)

    with pytest.raises(Violation):
        log.oracle.check()
