"""A real worker and a real beat on a real broker: work is done soon after it was acknowledged, whatever dies meanwhile."""

import os
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from kombu import pools

from auditlog.models import Event, Finding, Heartbeat, Leaf, ProjectionState
from auditlog.work import tasks
from config import children, embedded
from config.celery import app
from tests.integration.test_project import ARRIVAL, snapshot
from tests.world import TenantWorld

ROOT = Path(__file__).resolve().parents[2]
WITHIN = 30.0  # seconds; two are what is promised on a quiet machine, and no test asserts a time (bench does)


class Processes:
    """Worker and beat as the quickstart runs them, on a broker of this test's own."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = embedded.start(folder / "state", database=False)
        self.running = {}

    def environment(self):
        # `expires` and the like are judged by these settings: those of the service, not those of the tests.
        return os.environ | {
            "CELERY_BROKER_URL": self.broker.broker_url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(os.path.isdir, sys.path[1:])]),
        }

    def start(self, *names):
        for name in names:
            self.running[name] = children.start(
                name, children.commands(0, 1)[name], environment=self.environment(), logs=self.folder
            ).process

    def kill(self, name):
        """As the kernel does when memory runs out: the whole group at once, no farewell."""
        process = self.running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_broker(self):
        [server] = self.broker.servers
        server.process.kill()
        server.process.wait()

    def restart_broker(self):
        self.broker.stop()
        self.broker = embedded.start(self.folder / "state", database=False)

    def stop(self):
        for name in list(self.running):
            self.kill(name)
        self.broker.stop()


@contextmanager
def sending_to(broker_url):
    """Let this process wake workers through another broker."""
    before = app.conf.broker_url, app.conf.broker_write_url
    _point(broker_url, broker_url)
    try:
        yield
    finally:
        _point(*before)


def _point(url, write_url):
    app.pool.force_close_all()
    pools.reset()  # kombu keeps closed pools by address, and would hand them to later tests
    app._pool = None
    app.amqp._producer_pool = None
    app.conf.broker_url, app.conf.broker_write_url = url, write_url
    tasks._last_sent.clear()
    tasks._quiet_until = 0.0


@pytest.fixture
def processes(quiet, tmp_path):
    found = Processes(tmp_path)
    try:
        with sending_to(found.broker.broker_url):
            yield found
    finally:
        found.stop()


@pytest.fixture
def live(tenant):
    """A world in the present: workers ask the real clock."""
    world = TenantWorld(tenant, now=timezone.now())
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.ada, world.bot = (
        world.human("ada", issuer="https://id.acme.example"),
        world.agent("bot", issuer="https://bots.example"),
    )
    world.root = world.grant(world.ada, world.bot, actions=["**"], resources=["**"], at=world.now - timedelta(days=1))
    world.send(world.root)
    return world


def post(world, signed):
    """Acknowledged, in so many seconds."""
    began = time.monotonic()
    answer = Client().post(f"/ingest/{world.tenant}/conductor", signed.raw, content_type=signed.content_type)
    assert answer.status_code == 202, answer.content
    return time.monotonic() - began


def mismatch(world, name="won-der.club"):
    return world.registers(name, price_minor=900, grant=world.root, intent={"targets": ["wonder.club"]})


def eventually(is_so, seconds):
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, f"did not happen in {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


def is_caught_up(world):
    """Every leaf projected and looked at."""
    state = ProjectionState.objects.get(tenant=world.row, is_current=True)
    return state.position == state.detected == Leaf.objects.filter(tenant=world.row).count()


def found(world):
    return Finding.objects.filter(tenant=world.row, rule="intent.domain_mismatch").exclude(state="withdrawn").count()


def is_awake():
    return Heartbeat.objects.filter(name="worker", at__gt=timezone.now() - timedelta(seconds=2)).exists()


@pytest.fixture
def awake(processes):
    """Worker and beat, past their start."""
    Heartbeat.objects.all().delete()
    processes.start("worker", "beat")
    eventually(is_awake, 60)
    return processes


def test_what_was_acknowledged_is_projected_and_found_by_the_worker_alone(awake, live):
    post(live, mismatch(live))

    eventually(lambda: found(live) == 1, WITHIN)
    assert is_caught_up(live)


def test_a_wake_up_alone_is_enough_and_the_last_event_of_a_burst_is_not_left_behind(processes, live):
    processes.start("worker")  # no beat: nothing else would look again
    post(live, live.event("action.performed", grant=live.root))
    eventually(lambda: is_caught_up(live), 30)

    for round_ in range(3):
        sent = [mismatch(live, f"wonder{round_}x{n}.club") for n in range(12)]
        for signed in sent:
            post(live, signed)
        eventually(lambda: is_caught_up(live), WITHIN)

    assert found(live) == 36


def test_what_came_while_wake_ups_were_held_back_is_looked_at_once_more(live, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.drive, "apply_async", lambda args, **more: sent.append(args))
    tasks._last_sent.clear()
    tasks._quiet_until = 0.0
    post(live, live.event("action.performed", grant=live.root))
    tasks.drive(*sent[0])

    tasks._last_sent[live.tenant] = time.monotonic()  # still within the tenth of a second
    post(live, mismatch(live))
    tasks.wake(live.tenant)
    assert found(live) == 0
    eventually(lambda: len(sent) == 2, 10)
    tasks.drive(*sent[1])

    assert found(live) == 1
    eventually(lambda: not tasks._held_back, 10)  # the round may have asked for one more


def test_wake_ups_are_throttled_to_one_a_tenant_and_a_tenth_of_a_second(live, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.drive, "apply_async", lambda args, **more: sent.append((time.monotonic(), args[0])))
    tasks._last_sent.clear()
    began = time.monotonic()
    while time.monotonic() - began < 0.65:
        tasks.wake(live.tenant)
        tasks.wake("another")

    mine = [at for at, name in sent if name == live.tenant]
    eventually(lambda: not tasks._held_back, 10)
    names = Counter(name for _, name in sent)
    assert names.keys() == {live.tenant, "another"} and all(6 <= count <= 8 for count in names.values()), names
    assert min(b - a for a, b in pairwise(mine)) >= tasks.WAKE_EVERY * 0.95


def test_a_backlog_of_one_tenant_does_not_keep_the_worker_from_the_others(live, monkeypatch):
    from auditlog.work import drive as road

    monkeypatch.setattr(road, "project", lambda tenant, now: time.sleep(0.02) or 1)  # never done
    monkeypatch.setattr(road, "detect", lambda tenant, now: 0)
    monkeypatch.setattr(tasks, "SLICE", 0.1)
    again = []
    monkeypatch.setattr(tasks, "_send", again.append)
    began = time.monotonic()

    tasks.drive(live.tenant)

    assert time.monotonic() - began < 1 and again == [live.tenant]


def test_findings_are_never_further_behind_than_one_batch(live, monkeypatch):
    from auditlog.work import drive as road

    done = []
    backlog = {"project": 3, "detect": 0}

    def project(tenant, now):
        if not backlog["project"]:
            return 0
        backlog["project"] -= 1
        backlog["detect"] += 2  # it takes half as much at once
        done.append("project")
        return 4_000

    def detect(tenant, now):
        if not backlog["detect"]:
            return 0
        backlog["detect"] -= 1
        done.append("detect")
        return 2_000

    monkeypatch.setattr(road, "project", project)
    monkeypatch.setattr(road, "detect", detect)

    assert road.drive_tenant(live.tenant, now=timezone.now) is False
    assert done == ["project", "detect", "detect"] * 3


def test_a_short_backlog_does_not_wait_for_a_long_one_and_all_share_the_time(quiet, live, monkeypatch):
    from auditlog.sources.configure import add_tenant
    from auditlog.work import drive as road

    other = TenantWorld(add_tenant(f"{live.tenant}-b", now=live.now), now=live.now)
    other.source("conductor", "https://conductor.example")
    other.send(other.event("action.performed"))
    live.send(*(live.event("action.performed", grant=live.root) for _ in range(50)))
    turns = []
    monkeypatch.setattr(road, "drive_tenant", lambda name, now, for_at_most: turns.append((name, for_at_most)))

    road.drive_every_tenant(now=timezone.now, for_at_most=2.0)

    assert [name for name, _ in turns] == [f"{live.tenant}-b", live.tenant] and {share for _, share in turns} == {1.0}


def test_one_tenant_that_cannot_be_driven_does_not_stop_the_others(live, monkeypatch):
    from auditlog.work import drive as road

    driven = []

    def breaks(name, **_):
        driven.append(name)
        raise ValueError("this one is broken")

    monkeypatch.setattr(road, "drive_tenant", breaks)
    live.send(live.event("action.performed"))
    from auditlog.sources.configure import add_tenant

    add_tenant(f"{live.tenant}-b", now=live.now)

    road.drive_every_tenant(now=timezone.now)

    assert {live.tenant, f"{live.tenant}-b"} <= set(driven)


def test_running_the_task_twice_changes_nothing(live):
    live.send(mismatch(live))
    tasks.drive(live.tenant)
    before = snapshot(live.row, ignoring=set()), list(Finding.objects.filter(tenant=live.row).values())

    tasks._last_round.clear()
    tasks.drive(live.tenant)
    tasks.drive_all()

    assert found(live) == 1
    assert (snapshot(live.row, ignoring=set()), list(Finding.objects.filter(tenant=live.row).values())) == before


def test_a_dead_broker_holds_no_request_and_beat_drives_what_came_meanwhile(awake, live):
    post(live, mismatch(live, "wonder0.club"))
    eventually(lambda: found(live) == 1, 5)
    unsent = tasks.UNSENT._value.get()

    awake.kill_broker()
    took = []
    for n in range(1, 9):
        tasks._quiet_until = 0.0  # each of them tries
        took.append(post(live, mismatch(live, f"wonder{n}.club")))
        time.sleep(0.11)

    assert max(took) < 5.0  # not the minutes that a dead broker can take
    assert tasks.UNSENT._value.get() >= unsent + 6  # one may have gone into the socket of the dying
    awake.restart_broker()
    eventually(lambda: found(live) == 9, 40)
    assert Event.objects.filter(tenant=live.row, type="domain.registered").count() == 9


def test_a_broker_that_hangs_holds_one_request_and_not_every(processes, live):
    post(live, live.event("action.performed"))
    [server] = processes.broker.servers
    server.process.send_signal(signal.SIGSTOP)
    try:
        took = []
        for _ in range(8):
            took.append(post(live, live.event("action.performed")))
            time.sleep(0.11)
    finally:
        server.process.send_signal(signal.SIGCONT)

    assert sorted(took)[-2] < 1.0 and max(took) < 10.0


def test_a_worker_killed_at_work_loses_nothing_and_doubles_nothing(processes, live):
    processes.start("worker")
    total = 0
    for round_ in range(3):
        batch = [
            live.event(
                "action.performed",
                grant=live.root,
                action={"verb": "file.write", "provider": "disk", "resource": f"{round_}/{n}"},
            )
            for n in range(900)
        ]
        live.send(*batch)
        total += len(batch)
        before = ProjectionState.objects.get(tenant=live.row, is_current=True)
        tasks._last_sent.clear()
        tasks.wake(live.tenant)
        eventually(partial(_is_at_work_on, live, before), 30)
        processes.kill("worker")
        processes.start("worker")
    processes.start("beat")

    eventually(lambda: is_caught_up(live), 60)
    assert Event.objects.filter(tenant=live.row, type="action.performed").count() == total
    rows, findings = snapshot(live.row, ignoring=ARRIVAL), _findings(live)
    processes.kill("worker")
    from auditlog.projection.project import rebuild

    rebuild(live.row, now=timezone.now())
    live.settle()
    assert (snapshot(live.row, ignoring=ARRIVAL), _findings(live)) == (rows, findings)


def _is_at_work_on(world, before):
    """The worker is at this tenant now: its lock is held, or it moved since."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND objsubid = 2", [world.row.pk]
        )
        if cursor.fetchone()[0]:
            return True
    now = ProjectionState.objects.get(tenant=world.row, is_current=True)
    return (now.position, now.detected) != (before.position, before.detected)


def _findings(world):
    return sorted(Finding.objects.filter(tenant=world.row).values_list("rule", "anchor", "state"))
