"""Fault 10: somebody with all rights on the database, then with our key; two views of one log; a stolen old key; an
erasure under a hold; a clock that is set back. Whoever holds an earlier head, or only a bundle, sees it.
"""

from datetime import timedelta
from io import BytesIO

import pytest
from django.db import DatabaseError, connection, connections, transaction
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerBehind, LedgerCorrupt, NotPossible
from auditlog.core.log.checkpoint import Checkpoint as Head
from auditlog.core.log.checkpoint import opened, signed, vkey
from auditlog.core.log.merkle import EMPTY
from auditlog.custody import verify_ledger
from auditlog.custody.bundle import export_log
from auditlog.custody.erase import erase, hold
from auditlog.custody.verify_ledger import verify
from auditlog.custody.witness import submit_all
from auditlog.ledger.append import EPOCH, append_note
from auditlog.ledger.heads import head_file
from auditlog.ledger.proofs import newest_checkpoint, prove_consistency
from auditlog.ledger.publish import announce_key, origin_of, publish, take_fence
from auditlog.ledger.stored import read_leaves
from auditlog.models import Checkpoint, Event, LogHead, Payload, Witness
from auditlog.verifier import answerable_verify as verifier
from tests.faults.insider import by_force, rewrite_history
from tests.faults.test_crash import fill
from tests.integration.test_witness import SmallWitness, add
from tests.oracle import KEY, Violation

THIEF = SigningKey(b"\x66" * 32)


def bundle(log, **what):
    file = BytesIO()
    export_log(log.row, file, **what)
    return file


def by_stranger(log, file, key=KEY):
    """What the stand-alone verifier says to somebody who has the log's key from elsewhere."""
    return verifier.verify(file, [vkey(origin_of(log.row), bytes(key.verify_key))])


@pytest.fixture
def guilty(log):
    """A signed and witnessed log with an event at leaf 6 that somebody would rather not have done."""
    log.witness = SmallWitness("w.example")
    add(log, log.witness)
    fill(log, 5)
    log.oracle.sign()
    log.submit = lambda: submit_all(log.row, now=lambda: log.now, post=log.witness.post)
    assert log.submit() == 1
    [target] = [event_id for event_id, (index, _) in log.oracle.acked.items() if index == 6]
    log.deed = target
    log.evidence = bundle(log, leaves=range(6, 7))
    log.old_note = newest_checkpoint(log.row)[1]
    log.whitewash = log.event("action.performed", jti=target[1], outcome="denied").raw
    return log


def test_a_history_rewritten_without_the_logs_key_does_not_hold_under_it(guilty):
    thief = vkey(origin_of(guilty.row), bytes(THIEF.verify_key))
    rewrite_history(guilty, 6, guilty.whitewash, key=THIEF, vkey=thief)

    verify(guilty.row)  # by the keys on record, which the insider changed too
    with pytest.raises(LedgerCorrupt, match="signature"):
        verify(guilty.row, public_key=KEY.verify_key)
    assert by_stranger(guilty, bundle(guilty))["result"] == "bad"
    with pytest.raises(LedgerBehind, match="not those that were signed"):
        guilty.oracle.sign(take_fence(guilty.row))
    with pytest.raises(Violation):
        guilty.oracle.check()


def test_a_history_rewritten_with_the_stolen_key_is_seen_by_every_independent_eye(guilty):
    rewrite_history(guilty, 6, guilty.whitewash, key=KEY)

    # The database alone can no longer tell, and nor can a stranger who never looked before.
    verify(guilty.row, public_key=KEY.verify_key)
    assert by_stranger(guilty, bundle(guilty))["result"] == "ok"

    # The independent head can, so nothing more is signed and /readyz says why.
    with pytest.raises(LedgerBehind, match="not those that were signed"):
        guilty.oracle.sign(take_fence(guilty.row))
    # Somebody with an earlier head can: no proof leads from it to the new one.
    fill(guilty, 1)
    head_file(guilty.tenant).unlink()  # they got at that as well
    guilty.oracle.sign(take_fence(guilty.row))
    public = bytes(KEY.verify_key)
    old = opened(guilty.old_note, origin=origin_of(guilty.row), public_key=public)
    new = opened(newest_checkpoint(guilty.row)[1], origin=origin_of(guilty.row), public_key=public)
    with pytest.raises(ValueError, match="root"):
        verifier.check_consistency(
            old.size, new.size, old.root, new.root, prove_consistency(guilty.row, old.size, new.size)
        )
    # The witness can, and does not sign.
    assert guilty.submit() == 0 and "422" in Witness.objects.get(tenant=guilty.row).last_error
    # And whoever kept the bundle of that one event holds proof of both: of the deed, and of the forgery.
    assert by_stranger(guilty, guilty.evidence)["result"] == "ok"
    with pytest.raises(Violation, match="other bytes"):
        guilty.oracle.check_events()
    with pytest.raises(Violation, match="not consistent"):
        guilty.oracle.check_heads()


def test_control_an_outside_that_kept_nothing_cannot_tell(guilty):
    """What the proof rests on: without an earlier head, a witness or a bundle, the stolen key wins."""
    rewrite_history(guilty, 6, guilty.whitewash, key=KEY)
    guilty.oracle.acked.pop(guilty.deed)
    guilty.oracle.maybe[guilty.deed] = {guilty.whitewash}
    guilty.oracle.notes.clear()
    head_file(guilty.tenant).write_text(newest_checkpoint(guilty.row)[1])

    guilty.oracle.check()


# --- two views ----------------------------------------------------------------------------------------------------------


def other_view(log, raw):
    """Head and root of the same log with another leaf 6, signed with the real key: what one client alone is shown."""
    hashes = [row.checked_hash() for row in read_leaves(log.row, 0, newest_checkpoint(log.row)[0])]
    hashes[6] = verifier.leaf_hash(raw)
    return signed(Head(origin_of(log.row), len(hashes), EMPTY.extended(hashes).root()), KEY)


def test_two_views_of_one_log_come_out_when_two_clients_compare_and_only_one_is_cosigned(guilty):
    theirs = other_view(guilty, guilty.whitewash)
    status, _ = guilty.witness.post("x/add-checkpoint", f"old {guilty.witness.size}\n\n{theirs}".encode())

    assert status == 422  # this witness has signed the other one
    guilty.oracle.notes.append(theirs)
    with pytest.raises(Violation, match="not consistent"):
        guilty.oracle.check_heads()


def test_control_a_witness_that_signs_anything_covers_for_both_and_comparing_still_shows_it(guilty):
    theirs = other_view(guilty, guilty.whitewash)
    guilty.witness.size = 0  # forgets what it saw
    status, _ = guilty.witness.post("x/add-checkpoint", f"old 0\n\n{theirs}".encode())

    assert status == 200
    guilty.oracle.notes.append(theirs)
    with pytest.raises(Violation, match="not consistent"):
        guilty.oracle.check_heads()


# --- a stolen old key ---------------------------------------------------------------------------------------------------


@pytest.fixture
def rotated(log):
    """A log whose key was changed; then somebody got hold of the old one and signs the log's next head with it."""
    second = SigningKey(b"\x09" * 32)
    announce_key(log.row, key=second, now=log.now)
    fence = take_fence(log.row)
    publish(log.row, key=second, fence=fence, now=log.now)
    verify(log.row, public_key=second.verify_key)  # the checkpoints of both keys, each of its time
    with pytest.raises(LedgerCorrupt, match="signature"):
        verify(log.row, public_key=KEY.verify_key)  # whoever still believes in the old one hears of the new
    log.send(log.event("action.performed"))
    hashes = [row.checked_hash() for row in read_leaves(log.row, 0, LogHead.objects.get(tenant=log.row).size)]
    edge = EMPTY.extended(hashes)
    note = signed(Head(origin_of(log.row), edge.size, edge.root()), KEY)
    Checkpoint.objects.create(
        tenant=log.row, epoch=EPOCH, size=edge.size, root=edge.root(), edge=edge.packed(), note=note, signed_at=log.now
    )
    log.second = second
    return log


def test_a_key_that_was_rotated_away_signs_nothing_more(rotated):
    for public in (None, rotated.second.verify_key):
        with pytest.raises(LedgerCorrupt, match="signature of checkpoint"):
            verify(rotated.row, public_key=public)
    assert by_stranger(rotated, bundle(rotated), key=rotated.second)["result"] == "bad"
    report = verifier.verify(bundle(rotated))  # and by the bundle's own account, with no key given
    assert report["result"] == "bad" and "rotated" in report["problem"]["what"]
    with pytest.raises(LedgerCorrupt, match="rotated away"):
        announce_key(rotated.row, key=KEY, now=rotated.now)


def test_control_a_check_that_takes_any_key_the_log_ever_had_is_deceived(rotated, monkeypatch):
    real = verify_ledger._keys
    monkeypatch.setattr(verify_ledger, "_keys", lambda *args: sorted((0, key) for _, key in real(*args))[:1])
    by_force(
        (
            "DELETE FROM ledger_checkpoint WHERE tenant_id = %s AND size < %s",
            [rotated.row.pk, newest_checkpoint(rotated.row)[0]],
        )
    )
    by_force(("DELETE FROM ledger_edge WHERE tenant_id = %s", [rotated.row.pk]))
    monkeypatch.setattr(verify_ledger, "check_right_edge", lambda tenant: None)

    verify(rotated.row)


# --- erasure under a hold, and behind our back --------------------------------------------------------------------------


def tombstone_by_hand(log, leaf):
    return append_note(
        log.row, "tombstone", {"change": "erased", "leaves": [leaf], "who": "x", "why": "x", "policy": "x"}, now=log.now
    )


ERASE = "SELECT ledger_erase(%s, 1::smallint, %s, %s)"


def test_what_is_held_is_not_erased_by_the_verb_nor_by_the_databases_function_nor_by_the_owners_delete(guilty):
    hold(guilty.row, first=5, last=7, who="counsel", reason="case 12", now=guilty.now)

    with pytest.raises(NotPossible, match="legal hold"):
        erase(guilty.row, [6], who="x", why="asked to", policy="p", now=guilty.now)
    grave = tombstone_by_hand(guilty, 6)
    with pytest.raises(DatabaseError, match="legal hold"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ERASE, [guilty.row.pk, 6, grave])
    owner = connections["owner"]
    with (
        pytest.raises(DatabaseError, match="written once"),
        transaction.atomic(using="owner"),
        owner.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM ledger_payload WHERE tenant_id = %s AND leaf_index = 6", [guilty.row.pk])
    assert Payload.objects.filter(tenant=guilty.row, leaf_index=6).exists()
    guilty.oracle.sign()
    guilty.oracle.check()


def test_control_a_function_that_does_not_look_at_holds_is_caught(guilty):
    hold(guilty.row, first=5, last=7, who="counsel", reason="case 12", now=guilty.now)
    grave = tombstone_by_hand(guilty, 6)
    try:
        with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
            cursor.execute("SELECT pg_get_functiondef('ledger_erase'::regproc)")
            [definition] = cursor.fetchone()
            cursor.execute(definition.replace("IF held IS NOT NULL", "IF false"))
            cursor.execute(ERASE, [guilty.row.pk, 6, grave])
            cursor.execute(
                "SELECT count(*) FROM ledger_payload WHERE tenant_id = %s AND leaf_index = 6", [guilty.row.pk]
            )
            assert cursor.fetchone() == (0,)  # it would be gone
            raise RuntimeError("back")
    except RuntimeError:
        pass
    guilty.oracle.check()


def test_a_payload_taken_away_by_force_is_missed_by_the_stand_alone_verifier(guilty):
    by_force(("DELETE FROM ledger_payload WHERE tenant_id = %s AND leaf_index = 6", [guilty.row.pk]))

    with pytest.raises(Violation, match="leaf 6: its payload is left out"):
        guilty.oracle.check_from_outside()


# --- the clock ----------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_a_day_changes_no_order_and_stops_nothing(log):
    fill(log, 3)
    log.oracle.sign()
    log.project()
    log.now -= timedelta(days=1)
    fill(log, 3)

    assert log.oracle.sign()
    log.project()
    assert Event.objects.filter(tenant=log.row).count() == 7
    log.oracle.check()


def test_control_a_reader_that_goes_by_time_of_receipt_passes_them_over(log):
    fill(log, 3)
    log.project()
    newest = Event.objects.filter(tenant=log.row).order_by("-received_at").first().received_at
    log.now -= timedelta(days=1)
    fill(log, 3)
    log.project()

    assert Event.objects.filter(tenant=log.row, received_at__gt=newest).count() == 0
