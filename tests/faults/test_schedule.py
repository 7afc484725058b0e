"""Many faults at random, one after another and on top of each other, against the same oracle. Runs on request:

    pytest -m slow tests/faults/test_schedule.py            (ANSWERABLE_SCHEDULES, ANSWERABLE_SEED)

Each schedule is a log of its own and a seed of its own, which a failure names; that seed alone runs it again.
"""

import os
import random
import time
from contextlib import suppress

import pytest
from django.db import DatabaseError, OperationalError, connections

from auditlog.core.errors import ConflictingEvent, Superseded
from auditlog.ledger import append, publish
from auditlog.ledger.publish import announce_key, take_fence
from auditlog.models import Event
from auditlog.projection.project import rebuild
from auditlog.sources.configure import add_tenant
from config import embedded
from tests.faults.conftest import at
from tests.faults.fork import die, fork, in_child
from tests.faults.steps import APPEND, PUBLISH, break_at, fail
from tests.faults.test_crash import deliver, fill
from tests.faults.test_lost_commit import kill_server
from tests.faults.test_retries import at_once
from tests.oracle import KEY, Oracle, Violation
from tests.world import TenantWorld

SCHEDULES = int(os.environ.get("ANSWERABLE_SCHEDULES", "200"))
SEED = os.environ.get("ANSWERABLE_SEED")


class Schedule:
    """One log and what happens to it."""

    def __init__(self, seed, services, *, now):
        self.random, self.services = random.Random(seed), services
        self.log = TenantWorld(add_tenant(f"s{seed}", now=now), now=now, seed=seed)
        self.log.source("conductor", "https://conductor.example")
        self.log.configure("conductor")
        self.oracle = self.log.oracle = Oracle(self.log)
        self.sent = []  # whatever a sender still holds, acknowledged or not
        announce_key(self.log.row, key=KEY, now=now)
        self.fences = [take_fence(self.log.row)]
        self.told = []

    def run(self):
        for _ in range(self.random.randint(12, 30)):
            [act] = self.random.choices(
                [self.send, self.batch, self.repeat, self.contradict, self.crowd, self.dying_sender, self.sign, self.dying_publisher,
                 self.take_over, self.zombie, self.project, self.start_again, self.server_dies],
                weights=[6, 3, 3, 2, 1, 6, 4, 5, 2, 2, 2, 0.5, 0.4],
            )  # fmt: skip
            self.told.append(act.__name__)
            act()
        # At rest, everybody who was not answered asks again, and is.
        for signed in self.sent:
            with suppress(ConflictingEvent):
                self.oracle.send(signed)
        self.log.project()
        self.oracle.sign()
        self.oracle.check()
        there = set(Event.objects.filter(tenant=self.log.row).values_list("source_event_id", flat=True))
        if missing := {event_id for _, event_id in self.oracle.acked} - there:
            raise Violation(f"acknowledged and never projected: {sorted(missing)}")

    # -- senders

    def new(self):
        self.sent.append(self.log.event("action.performed"))
        return self.sent[-1]

    def send(self):
        self.oracle.send(self.new())

    def batch(self):
        fill(self.log, self.random.choice([2, 5, 60]))

    def repeat(self):
        if not self.sent:
            return
        signed = self.random.choice(self.sent)
        if (signed.source, signed.jti) in self.oracle.acked and self.random.random() < 0.5:
            signed = self.log.resigned(signed)  # once acknowledged, no other signature takes the place of the first
        with suppress(ConflictingEvent):
            self.oracle.send(signed)

    def contradict(self):
        """The same id with other bytes: whichever was first stands."""
        if not self.sent:
            return
        signed = self.random.choice(self.sent)
        other = self.log.equivocated(signed, outcome="failure", task=str(self.random.random()))
        try:
            self.oracle.send(other)
        except ConflictingEvent:
            self.oracle.maybe[signed.source, signed.jti].discard(other.raw)
        else:
            self.sent[self.sent.index(signed)] = other

    def crowd(self):
        signed = self.new()
        for answer in at_once(self.log, [signed] * 4):
            if isinstance(answer, Exception):
                raise answer
            self.oracle.saw(signed, answer.leaf_index)

    def dying_sender(self):
        """A sender's request breaks at some step; sometimes several at once, sometimes again when it is retried."""
        signed, fault = self.new(), self.random.choice([die, fail])
        for _ in range(self.random.choice([1, 1, 2])):
            steps = [self.random.choice(APPEND) for _ in range(self.random.choice([1, 1, 3]))]
            for child in [fork(self._broken(signed, step, fault)) for step in steps]:
                answer = child.answer()
                if answer is None:
                    self.oracle.unanswered(signed)
                else:
                    self.oracle.saw(signed, answer)
        if self.random.random() < 0.5:
            self.oracle.send(signed)

    def _broken(self, signed, step, fault):
        def work():
            break_at(step, fault)
            try:
                return deliver(self.log, signed)
            except DatabaseError:
                return None

        return work

    # -- publishers

    def sign(self):
        self.oracle.sign(self.fences[-1])

    def take_over(self):
        self.fences.append(take_fence(self.log.row))

    def zombie(self):
        """An old publisher tries on, in a process of its own."""
        if len(self.fences) < 2:
            return
        fence = self.random.choice(self.fences[:-1])

        def work():
            try:
                publish.publish(self.log.row, key=KEY, fence=fence, now=self.log.now)
            except Superseded:
                return "superseded"

        if in_child(work) != "superseded":
            raise Violation("a publisher that was superseded signed on")

    def dying_publisher(self):
        step, fault, fence = self.random.choice(PUBLISH), self.random.choice([die, fail]), self.fences[-1]

        def work():
            break_at(step, fault)
            with suppress(OperationalError):
                publish.publish(self.log.row, key=KEY, fence=fence, now=self.log.now)

        in_child(work)
        self.oracle.look()

    # -- everything else

    def project(self):
        self.log.project()

    def start_again(self):
        rebuild(self.log.row, now=self.log.now)

    def server_dies(self):
        """All of the server at once, while somebody appends; and it is started again."""
        signed = self.new()
        sender = fork(self._broken(signed, self.random.choice([*APPEND, "never"]), die))
        time.sleep(self.random.random() * 0.02)
        kill_server(self.services.now)
        answer = sender.answer()
        if answer is None:
            self.oracle.unanswered(signed)
        else:
            self.oracle.saw(signed, answer)
        self.services.start_again()


class Servers:
    """The servers of all schedules; killed and started again in the same folder."""

    def __init__(self, folder):
        self.folder = folder
        self.now = embedded.start(folder, broker=False)

    def start_again(self):
        connections.close_all()
        self.now.stop()
        self.now = embedded.start(self.folder, broker=False)


@pytest.fixture
def servers(server_folder, tmp_path, settings):
    settings.HEADS_DIR = tmp_path / "heads"
    found = Servers(server_folder(tmp_path / "state"))
    with at(found.now):
        yield found
    found.now.stop()


@pytest.mark.slow
def test_random_schedules_of_faults_leave_every_log_whole(servers, now):
    first = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
    count = 1 if SEED else SCHEDULES
    print(f"\n{count} schedules from seed {first}")
    acts, began = {}, time.monotonic()
    for seed in range(first, first + count):
        schedule = Schedule(seed, servers, now=now)
        try:
            schedule.run()
        except BaseException:
            print(f"ANSWERABLE_SEED={seed} failed after: {' '.join(schedule.told)}")
            raise
        for act in schedule.told:
            acts[act] = acts.get(act, 0) + 1
    told = ", ".join(f"{count} {act}" for act, count in sorted(acts.items()))
    print(f"{count} schedules from seed {first}: no violation in {time.monotonic() - began:.0f} s; {told}")


@pytest.mark.slow
def test_control_a_schedule_with_a_broken_append_is_caught(servers, now, monkeypatch):
    """An append that acknowledges and now and then writes nothing."""
    real = append._write

    def forgetful(tenant_id, rows, head):
        if head.size % 7 != 3:
            real(tenant_id, rows, head)

    monkeypatch.setattr(append, "_write", forgetful)
    with pytest.raises(Violation):
        for seed in range(5):
            Schedule(seed, servers, now=now).run()
