"""Fault 2: two publishers, one that freezes and wakes up, and two processes that append at once."""

import os
import signal
import time
from random import Random

import pytest
from django.db import connection
from django.utils import timezone

from auditlog.core.errors import Superseded
from auditlog.ledger import append, heads, publish
from auditlog.ledger.heads import read_head
from auditlog.ledger.publish import take_fence
from auditlog.models import Checkpoint, Heartbeat, Leaf, LogHead, PublisherState
from auditlog.work.health import checks
from tests.faults.fork import fork, in_child, stop
from tests.faults.test_crash import deliver, fill
from tests.oracle import KEY, Violation


def size_of(log):
    return LogHead.objects.get(tenant=log.row).size


def freeze_at(log, name, **broken):
    """A publisher that freezes right before `name`, in the middle of publishing. `broken` replaces parts of its code."""

    def work():
        for attribute, value in broken.items():
            setattr(publish, attribute, value)
        fence = take_fence(log.row)
        real, stops = getattr(publish, name), iter([stop])
        setattr(publish, name, lambda *args, **more: (next(stops, bool)(), real(*args, **more))[1])  # at its first call
        try:
            return bool(publish.publish(log.row, key=KEY, fence=fence, now=log.now))
        except Superseded:
            return "superseded"
        except Exception as error:
            return type(error).__name__

    frozen = fork(work)
    frozen.stopped()
    return frozen


def end_frozen_session():
    """What the next in line does to a leader without a sign of life, and a firewall to one behind a cut cable."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND usename = current_user AND state = 'idle in transaction'"
        )
        assert len(cursor.fetchall()) == 1


def test_a_publisher_that_froze_while_it_signed_takes_nothing_back_when_it_wakes(log):
    fill(log, 3)
    old = freeze_at(log, "write_head")
    try:
        end_frozen_session()
        fill(log, 4)
        assert log.oracle.sign()
        old.wake()

        assert old.answer() == "superseded"
    finally:
        old.kill()
    assert (
        read_head(log.tenant).size
        == Checkpoint.objects.filter(tenant=log.row).order_by("-size").first().size
        == size_of(log)
    )
    log.oracle.check()


def test_control_a_head_file_that_anybody_may_take_back_is_caught(log):
    """As it was written once: whoever writes last wins."""

    def last_one_wins(tenant, note):
        heads.head_file(tenant).write_text(note)

    fill(log, 3)
    old = freeze_at(log, "signed", write_head=last_one_wins)
    try:
        end_frozen_session()
        fill(log, 4)
        log.oracle.sign()
        old.wake()
        assert old.answer() != "superseded"
    finally:
        old.kill()

    with pytest.raises(Violation, match="a restore would go unseen"):
        log.oracle.check()


STEPS = (
    "_check_head_file",
    "source_names",
    "stored_hashes",
    "_write_tiles",
    "signed",
    "opened",
    "write_head",
    "copy_rows",
)


@pytest.mark.slow
def test_a_thousand_leaders_that_freeze_anywhere_and_wake_take_nothing_back(log):
    """ANSWERABLE_ROUNDS, ANSWERABLE_SEED. Each round: one freezes at some step, another takes over, the first wakes."""
    seed = int(os.environ.get("ANSWERABLE_SEED") or Random().randrange(10**9))
    rounds, chance, answers = int(os.environ.get("ANSWERABLE_ROUNDS", "1000")), Random(seed), {}
    print(f"\n{rounds} takeovers from seed {seed}")
    for number in range(rounds):
        fill(log, chance.randint(1, 3))
        step = chance.choice(STEPS)
        old = freeze_at(log, step)
        try:
            fill(log, chance.randint(0, 3))
            end_frozen_session()
            wakes_first = chance.random() < 0.5
            if wakes_first:
                old.wake()
            fill(log, chance.randint(0, 1))
            log.oracle.sign()
            if not wakes_first:
                old.wake()
            answer = old.answer()
        finally:
            old.kill()
        answers[str(answer)] = answers.get(str(answer), 0) + 1
        newest = Checkpoint.objects.filter(tenant=log.row).order_by("-size").first()
        assert (read_head(log.tenant).size, newest.size) == (size_of(log), size_of(log)), f"round {number}, at {step}"
        if number % 100 == 99:
            log.oracle.check()
    log.oracle.check()
    assert "True" not in answers, "somebody whose session was ended says that it signed"
    print(f"{rounds} takeovers from seed {seed}: no violation; the ones that woke: {answers}")


def test_a_publisher_that_slept_through_a_takeover_between_two_rounds_signs_nothing(log):
    old = take_fence(log.row)
    fill(log, 2)
    new = take_fence(log.row)

    with pytest.raises(Superseded, match="fence"):
        publish.publish(log.row, key=KEY, fence=old, now=log.now)
    assert log.oracle.sign(new)
    log.oracle.check()


@pytest.fixture
def leaders(log, tmp_path, settings):
    """Real publishers, each a process of its own, that look after this log alone."""
    key = tmp_path / "key"
    key.write_bytes(bytes(KEY))
    settings.LOG_KEY_FILE = key
    Heartbeat.objects.filter(name=publish.ALIVE).delete()
    running = []

    def start(*, takeover):
        def work():
            publish.EVERY = 0.02
            publish.lead(lambda: [log.row], now=timezone.now, stop=lambda: os.getppid() == 1, takeover=takeover)

        running.append(fork(work))
        return running[-1]

    yield start
    for child in running:
        child.kill()


def signed_up_to(log, size):
    """Wait until a checkpoint of so many leaves is there."""
    began = time.monotonic()
    while not Checkpoint.objects.filter(tenant=log.row, size__gte=size).exists():
        assert time.monotonic() - began < 30, "nobody signs"
        time.sleep(0.02)


def fence_of(log):
    return LogHead.objects.get(tenant=log.row).fence


def test_the_next_in_line_takes_over_from_a_frozen_leader_which_steps_back_when_it_wakes(log, leaders):
    first = leaders(takeover=60)
    fill(log, 2)
    signed_up_to(log, size_of(log))
    second = leaders(takeover=0.3)
    os.kill(first.pid, signal.SIGSTOP)
    fill(log, 2)
    signed_up_to(log, size_of(log))
    taken = fence_of(log)
    first.wake()
    for _ in range(5):
        fill(log, 1)
        signed_up_to(log, size_of(log))

    assert fence_of(log) == taken  # the one that woke waits in line again, and takes no fence
    assert PublisherState.objects.get(tenant=log.row).is_signing  # nor did it call the log unsigned
    assert log.tenant not in {c.name: c for c in checks(now=log.now)}["signing"].detail
    second.kill()
    fill(log, 1)
    signed_up_to(log, size_of(log))  # and is there when it is needed
    log.oracle.check()


def test_a_leader_that_finds_another_fence_goes_back_into_the_line_and_calls_no_log_unsigned(log, leaders):
    leaders(takeover=60)
    fill(log, 2)
    signed_up_to(log, size_of(log))

    taken = take_fence(log.row)  # by somebody who did not have to wait for its lock
    fill(log, 2)

    signed_up_to(log, size_of(log))  # nobody else is in the line, so it leads again, under a fence of its own
    assert fence_of(log) == taken + 1
    assert PublisherState.objects.get(tenant=log.row).is_signing
    log.oracle.check()


def test_a_leader_whose_database_goes_away_for_a_moment_signs_on(log, leaders):
    leaders(takeover=60)
    fill(log, 2)
    signed_up_to(log, size_of(log))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE locktype = 'advisory' AND objid = 0 AND objsubid = 2"
            " AND classid = hashtext('answerable.publish')::oid"
        )
    fill(log, 2)

    signed_up_to(log, size_of(log))
    log.oracle.check()


# --- two processes that append ------------------------------------------------------------------------------------------


def appenders(log, events, *, broken=lambda: None):
    """Two processes send the same events at once. Returns what each was told."""

    def work():
        broken()
        told = []
        for signed in events:
            try:
                told.append(deliver(log, signed))
            except Exception:
                told.append(None)
        return told

    children = [fork(work), fork(work)]
    answers = [child.answer() for child in children]
    for told in answers:
        for signed, leaf in zip(events, told, strict=True):
            if leaf is None:
                log.oracle.unanswered(signed)
            else:
                log.oracle.saw(signed, leaf)
    return answers


def test_two_appending_processes_put_every_event_in_once_and_both_are_told_where(log):
    events = [log.event("action.performed") for _ in range(30)]

    one, other = appenders(log, events)

    assert one == other and sorted(one) == list(range(size_of(log) - 30, size_of(log)))
    log.oracle.sign()
    log.oracle.check()


def without_the_lock():
    real = append.connection

    class Unlocked:
        def __getattr__(self, name):
            return getattr(real, name)

        def cursor(self):
            cursor = real.cursor()
            execute = cursor.execute
            cursor.execute = lambda statement, params=None: execute(statement.replace("FOR UPDATE", ""), params)
            return cursor

    append.connection = Unlocked()


def test_without_the_lock_the_constraints_still_keep_two_appenders_from_doubling_anything(log):
    """The lock makes both succeed; that nothing is doubled does not rest on it alone."""
    appenders(log, [log.event("action.performed") for _ in range(30)], broken=without_the_lock)

    log.oracle.check()


def test_control_an_identity_that_differs_between_processes_is_caught(log):
    def broken():
        salt = os.urandom(8)
        real = append.identity
        append.identity = lambda pepper, *args, **more: real(pepper + salt, *args, **more)

    with pytest.raises(Violation, match="now at"):
        appenders(log, [log.event("action.performed") for _ in range(3)], broken=broken)
    assert Leaf.objects.filter(tenant=log.row, event_id__isnull=False).count() == 1 + 6
    with pytest.raises(Violation):
        log.oracle.check()


def test_many_rounds_of_takeovers_leave_one_history(log):
    """Fences change hands at random between a publisher here and one in another process; the old one tries on."""
    random, fences = Random(20), [take_fence(log.row)]
    for _ in range(40):
        if random.random() < 0.4:
            fences.append(take_fence(log.row))
        fill(log, 1)
        fence = random.choice(fences[-3:])
        if fence == fences[-1]:
            log.oracle.sign(fence)
        elif random.random() < 0.2:
            assert in_child(lambda fence=fence: tries_on(log, fence)) == "superseded"
        else:
            assert tries_on(log, fence) == "superseded"
    log.oracle.check()


def tries_on(log, fence):
    try:
        publish.publish(log.row, key=KEY, fence=fence, now=log.now)
    except Superseded:
        return "superseded"
