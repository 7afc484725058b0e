"""Fault 7: retries at once, the same id with other bytes, an answer that got lost."""

import threading

import pytest
from django.db import connections

from auditlog.core.errors import ConflictingEvent
from auditlog.formats import set as set_format
from auditlog.models import Finding, Leaf
from auditlog.models.ledger import KIND_NUMBERS
from tests.faults.fork import die
from tests.faults.test_crash import request
from tests.oracle import Violation


def at_once(log, deliveries):
    """Send all at the same moment, each from a client of its own. Returns what each was told, in their order."""
    told, ready = [None] * len(deliveries), threading.Barrier(len(deliveries))

    def client(number):
        ready.wait()
        try:
            [told[number]] = log.send(deliveries[number])
        except Exception as error:
            told[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(deliveries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_eight_clients_with_the_same_event_are_told_the_same_leaf_and_one_of_them_wrote_it(log):
    for _ in range(5):
        signed = log.event("action.performed")

        told = at_once(log, [signed] * 8)

        assert len({appended.leaf_index for appended in told}) == 1
        assert [appended.repeated for appended in told].count(False) == 1
        log.oracle.saw(signed, told[0].leaf_index)
    log.oracle.sign()
    log.oracle.check()


def test_two_statements_under_one_id_at_once_one_stands_and_the_other_is_kept_refused_and_found(log):
    for _ in range(5):
        one = log.event("action.performed")
        other = log.equivocated(one, outcome="failure")

        told = at_once(log, [one, other] * 4)

        taken = {n % 2 for n, answer in enumerate(told) if not isinstance(answer, Exception)}
        assert len(taken) == 1
        stands = (one, other)[taken.pop()]
        for n, answer in enumerate(told):
            if (one, other)[n % 2] is stands:
                log.oracle.saw(stands, answer.leaf_index)
            else:
                assert isinstance(answer, ConflictingEvent), answer
    assert (
        Leaf.objects.filter(tenant=log.row, kind=KIND_NUMBERS["conflict"]).count() == 5
    )  # once each, however often sent
    log.settle()
    assert Finding.objects.filter(tenant=log.row, rule="integrity.duplicate_conflict").exists()
    log.oracle.sign()
    log.oracle.check()


def test_another_signature_of_the_same_statement_is_a_repeat(log):
    signed = log.event("action.performed")

    told = at_once(log, [signed, *(log.resigned(signed) for _ in range(3))])

    assert len({appended.leaf_index for appended in told}) == 1
    assert Leaf.objects.filter(tenant=log.row, event_id=told[0].event_id).count() == 1


def test_an_answer_that_was_lost_after_the_commit_is_given_again(log):
    signed = log.event("action.performed")
    assert request(log, signed, at="after commit", fault=die) is None

    told = at_once(log, [signed] * 4)

    assert all(appended.repeated for appended in told) and len({appended.leaf_index for appended in told}) == 1
    log.oracle.saw(signed, told[0].leaf_index)
    log.oracle.check()


def test_control_a_log_that_takes_any_content_for_a_repeat_is_caught(log, monkeypatch):
    one = log.event("action.performed")
    other = log.equivocated(one, outcome="failure")
    log.oracle.send(one)
    monkeypatch.setattr(set_format, "content", lambda raw, headers: b"the same")

    [appended] = log.send(other)  # acknowledged, and stored nowhere
    assert appended.repeated
    log.oracle.acked.clear()
    log.oracle.saw(other, appended.leaf_index)

    with pytest.raises(Violation, match="has other bytes"):
        log.oracle.check()
