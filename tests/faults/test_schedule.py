"""Many faults at random, one after another and on top of each other, against the same oracle. Runs on request:

    pytest -m slow tests/faults/test_schedule.py            (ANSWERABLE_SCHEDULES, ANSWERABLE_SEED)

Each schedule is a log of its own and a seed of its own, which a failure names; that seed alone runs it again.
"""

import asyncio
import json
import os
import random
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError, connections

from auditlog.core.errors import ConfigurationDiffers, ConflictingEvent, LedgerCorrupt, Superseded
from auditlog.custody.erase import erase
from auditlog.custody.verify_ledger import verify
from auditlog.ledger import append, publish
from auditlog.ledger.publish import announce_key, take_fence
from auditlog.models import Event, Leaf, Source
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.projection.project import rebuild
from auditlog.reads.parties import organisations_of
from auditlog.sources.configure import add_organisation, add_tenant
from config import embedded
from tests.faults.conftest import at
from tests.faults.fork import die, fork, in_child
from tests.faults.insider import by_force
from tests.faults.steps import APPEND, PUBLISH, break_at, fail
from tests.faults.test_configuration import MALLORY, behind
from tests.faults.test_crash import deliver, fill
from tests.faults.test_lost_commit import kill_server
from tests.faults.test_retries import at_once
from tests.oracle import KEY, Oracle, Violation
from tests.unit.test_asgi import scope
from tests.world import TenantWorld

JWT = b"application/secevent+jwt"
SCHEDULES = int(os.environ.get("ANSWERABLE_SCHEDULES", "200"))
SEED = os.environ.get("ANSWERABLE_SEED")


def identity_of(log, signed):
    return append.identity(bytes(log.row.pepper), signed.source, signed.jti)


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
        self.erased = set()

    def run(self):
        for _ in range(self.random.randint(12, 30)):
            [act] = self.random.choices(
                [self.send, self.batch, self.repeat, self.contradict, self.crowd, self.dying_sender, self.sign, self.dying_publisher,
                 self.take_over, self.zombie, self.project, self.start_again, self.server_dies, self.clock_steps, self.slow_client,
                 self.swapped_key, self.deleted_payload, self.deleted_tombstone, self.edited_organisation],
                weights=[6, 3, 3, 2, 1, 6, 4, 5, 2, 2, 2, 0.5, 0.4, 1, 1, 1, 1, 1, 1],
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

    def clock_steps(self):
        """The clock of the service is set, up to two hours either way."""
        self.log.now += timedelta(seconds=self.random.randint(-7_200, 7_200))

    def slow_client(self):
        """Half a delivery comes, and then nothing: nobody waits for the rest, and nothing of it is in the log."""
        from config import asgi  # which looks at the database as it is imported

        signed = self.new()
        self.oracle.unanswered(signed)
        messages = iter([{"type": "http.request", "body": signed.raw[: len(signed.raw) // 2], "more_body": True}])

        async def receive():
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            if message.get("status", 400) < 300:
                raise Violation(f"half a delivery was taken: {message}")

        path = f"/ingest/{self.log.tenant}/conductor"
        asyncio.run(asgi.application(scope(path, method="POST", headers=[(b"content-type", JWT)]), receive, send))
        if Leaf.objects.filter(tenant=self.log.row, event_id=identity_of(self.log, signed)).exists():
            raise Violation("half a delivery is in the log")

    # -- an insider, who puts everything back as it was once we have looked: what was found then stays found

    def swapped_key(self):
        key = Source.objects.get(tenant=self.log.row).keys.get()
        swap = "UPDATE auditlog_sourcekey SET jwk = %s WHERE id = %s"
        behind(self.log, (swap, [json.dumps(MALLORY.jwk), key.pk]))
        self._must_differ(lambda: self.log.send(self.log.event("action.performed")))
        behind(self.log, (swap, [json.dumps(key.jwk), key.pk]))

    def edited_organisation(self):
        row = add_organisation(self.log.row, f"o{self.random.random()}", issuers=[], now=self.log.now)
        edit = "UPDATE auditlog_organisation SET issuers = %s WHERE id = %s"
        behind(self.log, (edit, [["https://conductor.example"], row.pk]))
        self._must_differ(lambda: organisations_of(self.log.row))
        behind(self.log, (edit, [[], row.pk]))

    def _must_differ(self, act):
        with suppress(ConfigurationDiffers):
            act()
            raise Violation("what was edited behind the log is gone by")

    def deleted_payload(self):
        if not self.oracle.acked:
            return
        leaf, _ = self.random.choice(list(self.oracle.acked.values()))
        self._is_missed(leaf)

    def deleted_tombstone(self):
        """An event that may go is erased, and then what authorised that is taken away."""
        signed = self.new()
        [appended] = self.log.send(signed)
        self.sent.remove(signed)  # nobody sends it again
        erase(self.log.row, [appended.leaf_index], who="dpo", why="asked", policy="p", now=self.log.now)
        self.erased.add(signed.jti)
        tombstone = Leaf.objects.filter(tenant=self.log.row, kind=KIND_NUMBERS["tombstone"]).latest("leaf_index")
        self._is_missed(tombstone.leaf_index)

    def _is_missed(self, leaf):
        where = "WHERE tenant_id = %s AND leaf_index = %s"
        with connections["owner"].cursor() as cursor:
            cursor.execute(f"SELECT to_jsonb(p) FROM ledger_payload p {where}", [self.log.row.pk, leaf])
            [row] = cursor.fetchone()
        by_force((f"DELETE FROM ledger_payload {where}", [self.log.row.pk, leaf]))
        with suppress(LedgerCorrupt):
            verify(self.log.row, public_key=KEY.verify_key)
            raise Violation(f"the payload of leaf {leaf} was taken away, and nobody missed it")
        by_force(("INSERT INTO ledger_payload SELECT * FROM jsonb_populate_record(NULL::ledger_payload, %s)",
                  [row if isinstance(row, str) else json.dumps(row)]))  # fmt: skip

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
