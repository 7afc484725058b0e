"""The append: gap-free under concurrency, exactly once, and nothing of a failed one."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.utils import DatabaseError, OperationalError

from auditlog.core.log.merkle import Edge
from auditlog.custody.erase import hold, release
from auditlog.custody.verify_ledger import LEDGER_TABLES
from auditlog.ledger import append as appending
from auditlog.ledger.append import EPOCH, Appended, append_note
from auditlog.ledger.stored import read_leaves
from auditlog.models import Leaf, LogHead, Payload
from auditlog.simulator.world import Signed


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


@pytest.fixture
def crowd(world):
    """Callers that arrive while a commit is under way, each in its own thread: what each was told, by jti."""
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")

    def send(many, first):
        told, threads = {}, []

        def one(signed):
            try:
                told[signed.jti] = world.send(signed)[0]
            except Exception as error:
                told[signed.jti] = error
            finally:
                connections.close_all()

        with transaction.atomic(), connection.cursor() as cursor:  # holds the log's lock until all have come
            cursor.execute("SELECT 1 FROM ledger_head WHERE tenant_id = %s FOR UPDATE", [world.row.pk])
            for number, signed in enumerate([first, *many], 1):
                threads.append(threading.Thread(target=one, args=(signed,)))
                threads[-1].start()
                while (gathering := appending._gatherings.get(world.row.pk)) is None or len(
                    gathering._waiting
                ) < number:
                    time.sleep(0.001)
        for thread in threads:
            thread.join()
        return told

    return world, send


def test_callers_that_wait_for_the_log_share_one_transaction(crowd):
    world, send = crowd
    many = [world.event("action.performed") for _ in range(12)]
    first = world.event("action.performed")

    told = send(many, first)

    assert sorted(told[s.jti].leaf_index for s in [first, *many]) == list(
        range(told[first.jti].leaf_index, told[first.jti].leaf_index + 13)
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM ledger_leaf WHERE tenant_id = %s AND leaf_index >= %s",
                       [world.row.pk, told[first.jti].leaf_index])  # fmt: skip
        assert cursor.fetchone()[0] == 1
    assert len(set(derived_root(world.row))) == 1


def test_a_repeat_and_a_conflict_among_callers_that_wait_are_told_to_whom_they_concern(crowd):
    world, send = crowd
    one = world.event("action.performed", jti="same")
    other = world.event("action.performed", jti="same", outcome="failure")
    again = Signed(**{f: getattr(one, f) for f in one.__dataclass_fields__} | {"jti": "again"})

    told = send([one, other, again], world.event("action.performed"))

    assert isinstance(told["same"], Appended | Exception)
    stored = [
        bytes(p.raw) for p in Payload.objects.filter(tenant=world.row, source_event_id="same").order_by("leaf_index")
    ]
    assert stored == [one.raw, other.raw] and told["again"].repeated  # the second is a conflict leaf


def test_what_one_caller_does_wrong_is_told_to_nobody_else(crowd, monkeypatch):
    world, send = crowd
    many, bad = [world.event("action.performed") for _ in range(4)], world.event("action.performed")
    real = appending._write

    def write(tenant_id, rows, head):
        if any(row.raw == bad.raw for row in rows):
            raise ValueError("poison")
        real(tenant_id, rows, head)

    monkeypatch.setattr(appending, "_write", write)

    told = send([*many[:2], bad, *many[2:]], world.event("action.performed"))

    assert isinstance(told[bad.jti], ValueError)
    assert sorted(told[s.jti].leaf_index for s in many) == list(range(4, 8))


def test_a_database_that_goes_is_told_to_all_that_wait(crowd, monkeypatch):
    world, send = crowd
    many = [world.event("action.performed") for _ in range(4)]
    calls = []

    def gone(*_):
        calls.append(1)
        raise OperationalError("the server went away")

    monkeypatch.setattr(appending, "_write", gone)

    told = send(many, world.event("action.performed"))

    assert all(isinstance(each, OperationalError) for each in told.values()) and len(calls) == 1


def test_an_append_that_fails_half_way_leaves_nothing(world, monkeypatch):
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"))
    before = LogHead.objects.get(tenant=world.row).size
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


@pytest.mark.parametrize("table", LEDGER_TABLES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET epoch = 2", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_application_role_cannot_change_ledger_rows(world, table, statement):
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"))

    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table))


@pytest.mark.parametrize("table", ["ledger_leaf", "ledger_payload", "ledger_hold", "ledger_release"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET epoch = 2", "DELETE FROM {}", "TRUNCATE {}"])
def test_not_even_the_owner_can_by_an_ordinary_statement(world, table, statement):
    world.source("conductor", "https://conductor.example")
    [told] = world.send(world.event("action.performed"))
    held = hold(world.row, first=told.leaf_index, last=told.leaf_index, who="sam", reason="dispute", now=world.now)
    release(world.row, held, who="sam", reason="settled", now=world.now)

    owner = connections["owner"]
    with (
        pytest.raises(DatabaseError, match="written once"),
        transaction.atomic(using="owner"),
        owner.cursor() as cursor,
    ):
        cursor.execute(statement.format(table))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger_head SET size = size - 1 WHERE tenant_id = %s", "DELETE FROM ledger_head WHERE tenant_id = %s"],
)
def test_a_head_cannot_shrink_or_go(world, statement):
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, [world.row.pk])


def test_our_own_notes_are_leaves_like_any_other(tenant, now):
    index = append_note(tenant, "config", {"change": "policy", "value": 1}, now=now)

    payload = Payload.objects.get(tenant=tenant, epoch=EPOCH, leaf_index=index)
    assert bytes(payload.raw) == b'{"change":"policy","value":1}'
    assert len(set(derived_root(tenant))) == 1
