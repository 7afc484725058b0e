"""Fault 8: commit order against index order. What commits late is not skipped by whoever reads in between."""

import uuid

import pytest
from django.db import connection, connections, transaction

from auditlog.ledger import append
from auditlog.ledger.publish import take_fence
from auditlog.models import Event, LogHead
from config.errors import status_of
from tests.faults.fork import fork, stop
from tests.faults.steps import break_at
from tests.faults.test_crash import deliver, fill
from tests.oracle import Violation


def slow_sender(log, signed):
    """A sender whose transaction has everything but its commit when it freezes."""

    def work():
        break_at("before commit", stop)
        try:
            return deliver(log, signed)
        except Exception as error:
            return f"{status_of(error)[0]}"

    slow = fork(work)
    slow.stopped()
    return slow


def everything_is_projected(log):
    """Raises Violation when a leaf was passed over."""
    log.project()
    there = set(Event.objects.filter(tenant=log.row).values_list("source_event_id", flat=True))
    if missing := {event_id for _, event_id in log.oracle.acked} - there:
        raise Violation(f"acknowledged and never projected: {sorted(missing)}")


def test_a_slow_transaction_is_overtaken_by_nobody_and_skipped_by_nobody(log):
    slow_event, quick_event = log.event("action.performed"), log.event("action.performed")
    before, fence = LogHead.objects.get(tenant=log.row).size, take_fence(log.row)
    slow = slow_sender(log, slow_event)
    quick = fork(lambda: deliver(log, quick_event))
    try:
        everything_is_projected(log)
        assert log.oracle.sign(fence) is None  # what is not committed is not signed
        slow.wake()
        first, second = slow.answer(), quick.answer()
    finally:
        slow.kill()
        quick.kill()

    assert (first, second) == (before, before + 1)
    log.oracle.saw(slow_event, first)
    log.oracle.saw(quick_event, second)
    everything_is_projected(log)
    log.oracle.sign()
    log.oracle.check()


def test_a_sender_frozen_for_good_holds_up_the_log_for_a_while_only(log, monkeypatch):
    monkeypatch.setattr(append, "FROZEN", "300ms")
    frozen_event = log.event("action.performed")
    frozen = slow_sender(log, frozen_event)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '10s'")  # to fail, not to hang, where nobody ends the frozen one
        log.oracle.send(log.event("action.performed"))  # waits, and is taken
        frozen.wake()
        assert frozen.answer() == "503"
    finally:
        frozen.kill()

    log.oracle.unanswered(frozen_event)
    assert not log.oracle.send(frozen_event).repeated
    log.oracle.check()


def insert(cursor, log, index, signed):
    """As a log would that takes its indexes from a sequence: no lock, so commits come in any order."""
    row = append._Row(0, uuid.uuid4(), None, "conductor", signed.jti, b"", signed.raw, "A", "-", log.now)
    cursor.execute("SELECT id FROM auditlog_source WHERE tenant_id = %s", [log.row.pk])
    [source] = cursor.fetchone()
    cursor.execute(
        "INSERT INTO ledger_leaf (tenant_id, epoch, leaf_index, kind, event_id, source_id, received_at, grade, key, commitment)"
        " VALUES (%s, 1, %s, 0, %s, %s, %s, 'A', '-', %s)",
        [log.row.pk, index, row.event_id, source, log.now, row.commitment],
    )
    cursor.execute(
        "INSERT INTO ledger_payload (tenant_id, epoch, leaf_index, salt, source_event_id, headers, raw) VALUES (%s, 1, %s, %s, %s, '', %s)",
        [log.row.pk, index, row.salt, signed.jti, signed.raw],
    )
    log.oracle.saw(signed, index)


def test_control_indexes_given_out_without_the_lock_are_caught(log):
    fill(log, 2)
    log.project()
    size = LogHead.objects.get(tenant=log.row).size
    with transaction.atomic(using="owner"), connections["owner"].cursor() as slow:
        insert(slow, log, size, log.event("action.performed"))
        with transaction.atomic(), connection.cursor() as quick:
            insert(quick, log, size + 1, log.event("action.performed"))
        log.project()  # sees the quick one only

    with pytest.raises(Violation, match="never projected"):
        everything_is_projected(log)
    with pytest.raises(Violation, match="beyond the head"):
        log.oracle.check()
