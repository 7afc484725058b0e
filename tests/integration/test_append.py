"""The append: gap-free under concurrency, exactly once, and nothing of a failed one."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.utils import DatabaseError

from auditlog.append import EPOCH, append_note
from auditlog.core.merkle import Edge
from auditlog.models import Leaf, LogHead, Payload
from auditlog.stored import read_leaves


def derived_root(tenant):
    head = LogHead.objects.get(tenant=tenant)
    edge = Edge(0, ()).extended([row.checked_hash() for row in read_leaves(tenant, 0, head.size)])
    return edge.root(), Edge.unpacked(head.size, bytes(head.edge)).root()


def test_eight_senders_of_the_same_and_other_events_leave_no_gap_and_no_double(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    shared = [world.event("action.performed") for _ in range(20)]
    own = [[world.event("action.performed") for _ in range(10)] for _ in range(8)]
    failures = []

    def send(mine):
        try:
            for signed in [s for pair in zip(shared, mine * 2, strict=True) for s in pair]:
                world.send(signed)
        except Exception as error:  # a thread's failure must reach the test
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send, args=(mine,)) for mine in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    indexes = list(Leaf.objects.filter(tenant=world.row).order_by("leaf_index").values_list("leaf_index", flat=True))
    assert indexes == list(range(len(indexes)))
    assert Leaf.objects.filter(tenant=world.row, event_id__isnull=False).count() == 20 + 80
    assert len(set(derived_root(world.row))) == 1


def test_an_append_that_fails_half_way_leaves_nothing(world, monkeypatch):
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"))
    before = LogHead.objects.get(tenant=world.row).size
    import auditlog.append as appending

    real = Edge.packed
    monkeypatch.setattr(appending.Edge, "packed", lambda self: (_ for _ in ()).throw(RuntimeError("power cut")))
    with pytest.raises(RuntimeError):
        world.send(world.event("action.performed"))
    monkeypatch.setattr(appending.Edge, "packed", real)

    assert LogHead.objects.get(tenant=world.row).size == before
    assert Leaf.objects.filter(tenant=world.row).count() == before
    world.send(world.event("action.performed"))
    assert len(set(derived_root(world.row))) == 1


def test_a_repeat_far_later_is_still_a_repeat(world):
    world.source("conductor", "https://conductor.example")
    signed = world.event("action.performed")
    [first] = world.send(signed)
    world.send(*(world.event("action.performed") for _ in range(30)))

    [again] = world.send(signed, now=world.now + timedelta(days=4000))

    assert again.repeated and again.leaf_index == first.leaf_index


def test_the_same_event_id_from_another_source_is_another_event(world):
    world.source("one", "https://one.example")
    world.source("two", "https://two.example")

    results = world.send(*(world.event("action.performed", source=name, jti="same") for name in ("one", "two")))

    assert not any(result.repeated for result in results)


@pytest.mark.parametrize("table", ["ledger_leaf", "ledger_payload", "ledger_tile", "ledger_checkpoint"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET epoch = 2", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_application_role_cannot_change_ledger_rows(world, table, statement):
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"))

    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table))


@pytest.mark.parametrize("table", ["ledger_leaf", "ledger_payload"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET epoch = 2", "DELETE FROM {}", "TRUNCATE {}"])
def test_not_even_the_owner_can_by_an_ordinary_statement(world, table, statement):
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"))

    owner = connections["owner"]
    with pytest.raises(DatabaseError, match="written once"), transaction.atomic(using="owner"), owner.cursor() as cursor:
        cursor.execute(statement.format(table))


@pytest.mark.parametrize(
    "statement", ["UPDATE ledger_head SET size = size - 1 WHERE tenant_id = %s", "DELETE FROM ledger_head WHERE tenant_id = %s"]
)
def test_a_head_cannot_shrink_or_go(world, statement):
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, [world.row.pk])


def test_our_own_notes_are_leaves_like_any_other(tenant, now):
    index = append_note(tenant, "config", {"change": "policy", "value": 1}, now=now)

    payload = Payload.objects.get(tenant=tenant, epoch=EPOCH, leaf_index=index)
    assert bytes(payload.raw) == b'{"change":"policy","value":1}'
    assert len(set(derived_root(tenant))) == 1
