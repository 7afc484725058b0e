"""Fault 1: a process dies, or fails, at any step of append and publish, and again while it recovers."""

import pytest
from django.db import OperationalError, connection, transaction

from auditlog.formats import Delivery
from auditlog.ingest.receive import ingest
from auditlog.ledger import append, publish
from auditlog.ledger.publish import take_fence
from auditlog.models import Checkpoint, LogHead, Tile
from tests.faults.fork import die, in_child
from tests.faults.steps import APPEND, PUBLISH, break_at, fail
from tests.oracle import KEY, Violation


def deliver(log, signed):
    """One request, as a sender makes it. Returns the leaf that was acknowledged."""
    taken = ingest(log.tenant, signed.source, Delivery(signed.raw, signed.content_type, {}), now=log.now)
    [appended] = taken.appended.values()
    return appended.leaf_index


def request(log, signed, at="", fault=die):
    """The same in a process that breaks at this step. Returns the acknowledgement, or None."""

    def work():
        break_at(at, fault)
        try:
            return deliver(log, signed)
        except OperationalError:
            return None  # 503

    answer = in_child(work)
    if answer is None:
        log.oracle.unanswered(signed)
    else:
        log.oracle.saw(signed, answer)
    return answer


def size_of(log):
    return LogHead.objects.get(tenant=log.row).size


def broken_at(steps, *, failing):
    """Killed at every step; failed, with the process living on, where something may have been written by then."""
    killed = [pytest.param(step, die, id=f"killed {step}") for step in steps]
    return killed + [pytest.param(step, fail, id=f"failed {step}") for step in steps if step in failing]


@pytest.mark.parametrize(
    ("step", "fault"), broken_at(APPEND, failing=("after leaves", "after head", "before commit", "after commit"))
)
def test_at_any_step_of_append_nothing_is_half_written_and_the_retry_is_taken_once(log, step, fault):
    signed, before = log.event("action.performed"), size_of(log)

    assert request(log, signed, at=step, fault=fault) is None  # never acknowledged
    assert size_of(log) - before == (1 if step == "after commit" else 0)
    log.oracle.check(outside=False)
    # The retry dies too, one step further on; then it is taken.
    request(log, signed, at=APPEND[(APPEND.index(step) + 1) % len(APPEND)])
    log.oracle.check(outside=False)
    again = log.oracle.send(signed)

    assert again.repeated or step != "after commit"
    assert size_of(log) == before + 1
    log.oracle.sign()
    log.oracle.check()


def sign(log, at="", fault=die):
    """A publisher that takes over, signs, and breaks at this step. Returns whether it lived."""

    def work():
        fence = take_fence(log.row)
        break_at(at, fault)
        try:
            return bool(publish.publish(log.row, key=KEY, fence=fence, now=log.now))
        except OperationalError:
            return False

    lived = in_child(work)
    log.oracle.look()  # what it left for the world to see binds us
    return lived


@pytest.fixture
def near_a_tile(log):
    """A few leaves before the first tile is full."""
    with transaction.atomic():
        head = append._lock(log.row.pk)
        notes = [
            append._Row(6, None, None, append.OWN, "", b"", b'{"n":%d}' % n, "F", append.OWN, log.now)
            for n in range(head.size, 250)
        ]
        for index, note in enumerate(notes, head.size):
            note.place(index)
        append._write(log.row.pk, notes, head)
    log.oracle.sign()
    return log


def fill(log, count):
    """One batch of events."""
    batch = [log.event("action.performed") for _ in range(count)]
    raw = b'{"sets":{' + b",".join(b'"%b":"%b"' % (s.jti.encode(), s.raw) for s in batch) + b"}}"
    taken = ingest(log.tenant, "conductor", Delivery(raw, "application/json", {}), now=log.now)
    for signed in batch:
        log.oracle.saw(signed, taken.appended[signed.jti].leaf_index)


@pytest.mark.parametrize(
    ("step", "fault"),
    broken_at(
        PUBLISH, failing=("after edge", "after rename", "before commit of checkpoint", "after commit of checkpoint")
    ),
)
def test_at_any_step_of_publish_no_two_histories_are_signed_and_the_next_publisher_goes_on(near_a_tile, step, fault):
    log = near_a_tile
    fill(log, 9)

    assert not sign(log, at=step, fault=fault)
    log.oracle.check(outside=False)
    fill(log, 2)
    sign(log, at=PUBLISH[(PUBLISH.index(step) + 1) % len(PUBLISH)])
    log.oracle.check(outside=False)
    log.oracle.send(log.event("action.performed"))

    assert log.oracle.sign()
    assert Checkpoint.objects.filter(tenant=log.row).order_by("-size").first().size == size_of(log)
    assert Tile.objects.filter(tenant=log.row, level=0).count() == 1
    log.oracle.check()


# --- controls: the same oracle sees what is broken ---------------------------------------------------------------------


def test_control_leaves_and_head_in_two_transactions_are_caught(log):
    signed = log.event("action.performed")

    def work():
        real = append.Edge.packed

        def packed(self):
            connection.connection.commit()  # the leaves by themselves
            die()
            return real(self)

        append.Edge.packed = packed
        return deliver(log, signed)

    assert in_child(work) is None
    log.oracle.unanswered(signed)

    with pytest.raises(Violation, match="beyond the head"):
        log.oracle.check()


def test_control_an_answer_before_the_commit_is_caught(log):
    signed = log.event("action.performed")

    def work():
        told = []
        real = append._settle
        append._settle = lambda *args, **more: told.append(real(*args, **more)) or told[0]
        break_at("before commit", fail)
        try:
            deliver(log, signed)
        except OperationalError:
            return told[0][0][0].leaf_index  # from memory

    log.oracle.saw(signed, in_child(work))

    with pytest.raises(Violation, match="acknowledged and is in the ledger 0 times"):
        log.oracle.check()


def test_control_a_publisher_that_shows_a_head_before_the_independent_one_has_it_is_caught(log):
    log.oracle.send(log.event("action.performed"))

    def work():
        publish.write_head = lambda *args: None  # afterwards, and then it died
        fence = take_fence(log.row)
        publish.publish(log.row, key=KEY, fence=fence, now=log.now)
        die()

    in_child(work)

    with pytest.raises(Violation, match="a restore would go unseen"):
        log.oracle.check()


def test_control_tiles_that_are_committed_by_themselves_stop_the_next_publisher(near_a_tile):
    log = near_a_tile
    fill(log, 9)

    def work():
        real = publish.copy_rows

        def copy_rows(table, *args):
            real(table, *args)
            connection.connection.commit()
            die()

        fence = take_fence(log.row)
        publish.copy_rows = copy_rows
        publish.publish(log.row, key=KEY, fence=fence, now=log.now)

    in_child(work)

    with pytest.raises(Exception, match="duplicate key"):
        log.oracle.sign()
