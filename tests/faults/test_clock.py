"""A clock that is set, forwards or back, under Python or under PostgreSQL: order comes from positions, and work goes on."""

import shutil
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from auditlog.database import clock
from auditlog.database.dirty import look_again
from auditlog.detection.detect import GRACE, is_ripe
from auditlog.models import Dirty, Event, Finding, Heartbeat, PendingFetch, Pull, Source
from auditlog.work import tasks
from auditlog.work.drive import drive_tenant

# `live` is a fixture: pytest finds it by this import, and tests below take it by the same name (F401, F811).
from tests.integration.test_worker import Processes, eventually, found, live, mismatch, post, sending_to  # noqa: F401
from tests.support.needs import cannot

HOURS = timedelta(hours=2)


@pytest.fixture
def set_clock(monkeypatch):
    """Sets the database's clock, as this process hears of it."""
    real = clock._of_database
    offset = [timedelta()]
    monkeypatch.setattr(clock, "_of_database", lambda: real() + offset[0])
    monkeypatch.setattr(clock, "AGAIN", 0.0)
    monkeypatch.setattr(clock, "_asked", None)

    def by(delta):
        offset[0] += delta

    yield by
    Heartbeat.objects.filter(name="clock").delete()


def test_the_clock_of_the_service_is_the_databases_and_goes_on_by_itself(database, monkeypatch):
    monkeypatch.setattr(clock, "_asked", None)
    one = clock.now()
    monkeypatch.setattr(clock, "_of_database", lambda: pytest.fail("asked again at once"))

    assert timedelta() <= clock.now() - one < timedelta(seconds=1)
    assert abs(timezone.now() - one) < timedelta(minutes=1)


def test_it_is_known_while_the_database_is_away(database, monkeypatch):
    before = clock.now()
    monkeypatch.setattr(clock, "AGAIN", -1.0)
    monkeypatch.setattr(clock, "_of_database", lambda: (_ for _ in ()).throw(clock.DatabaseError()))

    assert clock.now() >= before


def test_what_was_planned_moves_with_a_clock_that_is_set_back(live, set_clock):  # noqa: F811
    clock.follow(at=clock.now())
    source = Source.objects.get(tenant=live.row)
    at = clock.now()
    look_again(live.row.pk, "silence", '["conductor"]', due_at=at + timedelta(seconds=30))
    Pull.objects.create(tenant=live.row, source=source, kind="poll", due_at=at + timedelta(seconds=60))
    PendingFetch.objects.create(
        tenant=live.row, source=source, name="x", asks={}, leaf_index=0, due_at=at + timedelta(seconds=9)
    )

    set_clock(-HOURS)
    clock.follow(at=clock.now())
    clock.follow(at=clock.now())  # once is all of it

    wanted = at - HOURS
    assert abs(Dirty.objects.get(tenant=live.row, kind="silence").due_at - wanted) < timedelta(seconds=40)
    assert abs(Pull.objects.get(source=source, kind="poll").due_at - wanted) < timedelta(seconds=70)
    assert abs(PendingFetch.objects.get(source=source).due_at - wanted) < timedelta(seconds=20)


@pytest.mark.parametrize("step", [-HOURS, HOURS, timedelta(days=-400), timedelta(days=400)], ids=str)
def test_what_waits_for_its_grace_is_found_whichever_way_the_clock_is_set(live, set_clock, step):  # noqa: F811
    live.now = clock.now()
    clock.follow(at=clock.now())
    live.send(live.event("domain.registered", actor=live.bot, action={"verb": "domain.register", "provider": "p", "target": {"type": "domain", "id": "x.example"}},
                         token="nobody-issued-it"))  # fmt: skip
    drive_tenant(live.tenant, now=clock.now)
    set_clock(step)
    clock.follow(at=clock.now())
    live.send(live.event("domain.registered", actor=live.bot, action={"verb": "domain.register", "provider": "p", "target": {"type": "domain", "id": "y.example"}},
                         token="nor-this"), now=clock.now())  # fmt: skip
    drive_tenant(live.tenant, now=clock.now)
    set_clock(GRACE + timedelta(seconds=1))
    drive_tenant(live.tenant, now=clock.now)

    assert Event.objects.filter(tenant=live.row, type="domain.registered").count() == 2
    assert (
        Finding.objects.filter(tenant=live.row, rule="authority.orphan_token").exclude(state="withdrawn").count() == 2
    )
    assert not Dirty.objects.filter(tenant=live.row, kind="grace").exists()


def test_a_grace_is_over_when_it_is_and_an_act_from_far_ahead_waits_for_nothing(now):
    assert [is_ripe(now, now + delta) for delta in (timedelta(), GRACE / 2, GRACE, -GRACE / 2, -HOURS)] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_nightly_work_is_done_once_a_night_and_caught_up_on(database):
    noon = clock.now().replace(hour=12)
    Heartbeat.objects.filter(name="test-nightly").delete()
    asked = [
        noon,
        noon + timedelta(hours=12),
        noon + timedelta(hours=15),
        noon + timedelta(hours=16),
        noon + timedelta(days=4),
        noon + timedelta(days=1),
    ]

    assert [clock.its_night("test-nightly", hour=2, minute=30, at=at) for at in asked] == [
        False,
        False,
        True,
        False,
        True,
        True,
    ]


def test_a_round_that_waited_in_line_behind_another_is_not_made_twice(monkeypatch):
    monkeypatch.setattr(tasks, "_last_round", {})

    assert [tasks._is_late("x"), tasks._is_late("x"), tasks._is_late("y")] == [False, True, False]


@pytest.fixture
def shim(tmp_path):
    if not (cc := shutil.which("cc")):
        cannot("compiler", "there is no C compiler")
    library = tmp_path / "set_clock.so"
    subprocess.run([cc, "-shared", "-fPIC", "-O1", "-o", library, "tests/faults/set_clock.c", "-ldl"], check=True)
    offset = tmp_path / "offset"
    offset.write_text("0")
    return library, offset


@pytest.mark.parametrize("step", [-7200, 7200], ids=["back", "forwards"])
def test_worker_and_beat_go_on_when_their_hosts_clock_is_set(quiet, live, shim, tmp_path, step):  # noqa: F811
    library, offset = shim

    class Shimmed(Processes):
        def environment(self):
            return super().environment() | {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset)}

    processes = Shimmed(tmp_path)
    try:
        with sending_to(processes.broker.broker_url):
            processes.start("worker", "beat")
            eventually(lambda: Heartbeat.objects.filter(name="worker").exists(), 60)
            post(live, mismatch(live, "wonder0.club"))
            eventually(lambda: found(live) == 1, 30)

            offset.write_text(str(step))
            tasks._quiet_until = float("inf")  # no wake-up is sent: beat alone drives
            post(live, mismatch(live, "wonder1.club"))
            eventually(lambda: found(live) == 2, 60)
    finally:
        tasks._quiet_until = 0.0
        processes.stop()
