"""Faults that killed real logs, each with a negative control: a deliberately broken variant that the same oracle catches.

The oracle: every acknowledged event is present exactly once at its index with its bytes, and the tree is re-derived.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from auditlog.core.errors import LedgerCorrupt
from auditlog.models import Leaf, LogHead, Payload
from auditlog.verify_ledger import verify
from config import embedded

ROOT = Path(__file__).resolve().parents[2]

# A sender's request in a process of its own that is killed at one step of the append.
APPEND_AND_DIE = """
import json, os, signal, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import django; django.setup()
from contextlib import contextmanager
from django.db import transaction
from django.utils import timezone
import auditlog.append as append
from auditlog.formats import Delivery
from auditlog.ingest import ingest

tenant, source, at, broken = sys.argv[1:5]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def around(name):
    real = getattr(append, name)
    def wrapped(*args, **kwargs):
        if at == "before " + name: die()
        result = real(*args, **kwargs)
        if at == "after " + name: die()
        return result
    setattr(append, name, wrapped)

for name in ("_lock", "_known", "_settle", "_write"):
    around(name)
real_atomic = append.transaction.atomic
class Atomic:
    def __init__(self): self.inner = real_atomic()
    def __enter__(self): return self.inner.__enter__()
    def __exit__(self, *error):
        if at == "before commit": die()
        result = self.inner.__exit__(*error)
        if at == "after commit": die()
        return result
class Transaction:
    atomic = staticmethod(Atomic)
append.transaction = Transaction
real_copy = append.Edge.packed
if broken == "broken":
    # The variant to be caught: leaves are committed by themselves, the head in a transaction of its own.
    import django.db
    def packed(self):
        if not getattr(packed, "done", False) and self.size > 4:
            packed.done = True
            django.db.connection.connection.commit()
            if at == "between": die()
        return real_copy(self)
    append.Edge.packed = packed
body = sys.stdin.buffer.read()
taken = ingest(tenant, source, Delivery(body, "application/secevent+jwt", {}), now=timezone.now())
[appended] = taken.appended.values()
print(json.dumps({"leaf": appended.leaf_index, "repeated": appended.repeated}), flush=True)
"""
STEPS = [f"{when} {name}" for name in ("_lock", "_known", "_settle", "_write", "commit") for when in ("before", "after")]


def request(world, signed, at="", broken=""):
    """One request in a process that may die. Returns what was acknowledged, or None."""
    done = subprocess.run(
        [sys.executable, "-c", APPEND_AND_DIE, world.tenant, signed.source, at, broken], input=signed.raw,
        capture_output=True, cwd=ROOT, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr.decode()[-2000:])
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.send(world.event("action.performed"))
    return world


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_append_nothing_is_half_written_and_the_retry_is_taken_once(log, step):
    signed = log.event("action.performed")
    before = LogHead.objects.get(tenant=log.row).size

    assert request(log, signed, at=step) is None  # never acknowledged
    persisted = LogHead.objects.get(tenant=log.row).size - before
    assert persisted == (1 if step == "after commit" else 0)
    verify(log.row)
    [again] = log.send(signed)

    assert again.repeated == bool(persisted)
    assert Leaf.objects.filter(tenant=log.row, event_id=again.event_id).count() == 1
    assert bytes(Payload.objects.get(tenant=log.row, leaf_index=again.leaf_index).raw) == signed.raw
    assert verify(log.row).size == before + 1


def test_control_leaves_and_head_in_two_transactions_are_caught(log):
    signed = log.event("action.performed")

    assert request(log, signed, at="between", broken="broken") is None

    with pytest.raises(LedgerCorrupt, match="beyond the head"):
        verify(log.row)


# Appends in a loop and tells what was acknowledged, until the server under it is killed.
KEEP_APPENDING = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import django; django.setup()
from django.db import connection
from django.utils import timezone
from auditlog.append import append_note
from auditlog.models import Tenant
tenant = Tenant.objects.get()
with connection.cursor() as cursor:
    cursor.execute("SET synchronous_commit = " + sys.argv[1])
while True:
    print(append_note(tenant, "config", {"n": 1}, now=timezone.now()), flush=True)
"""


def kill_under_load(folder, synchronous_commit):
    """Start a server, append until it is killed -9 as a whole, start it again. Returns (acknowledged, found)."""
    def environment(services):
        return os.environ | {"DATABASE_URL": services.database_url, "DATABASE_OWNER_URL": services.database_owner_url,
                             "PYTHONPATH": str(ROOT), "ANSWERABLE_STATE_DIR": str(folder)}  # fmt: skip

    def run(services, code, *arguments):
        return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment(services),
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip

    with embedded.start(folder, broker=False) as services:
        subprocess.run([sys.executable, "manage.py", "setup_database", "-v0"], cwd=ROOT, env=environment(services), check=True, timeout=60)
        subprocess.run([sys.executable, "manage.py", "tenant", "add", "t"], cwd=ROOT, env=environment(services), check=True, timeout=60,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        sender = run(services, KEEP_APPENDING, synchronous_commit)
        acknowledged = [int(sender.stdout.readline()) for _ in range(150)]
        postmaster = services.servers[0].process.pid
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=False).stdout.split()
        os.kill(postmaster, signal.SIGSTOP)  # nothing may notice that its fellows die and flush what it holds
        for pid in (*map(int, children), postmaster):
            os.kill(pid, signal.SIGKILL)
        acknowledged += [int(line) for line in sender.stdout.read().split()]
        sender.wait(20)
    with embedded.start(folder, broker=False) as services, psycopg.connect(services.database_url) as connection:
        found = {row[0] for row in connection.execute("SELECT leaf_index FROM ledger_leaf").fetchall()}
        size = connection.execute("SELECT size FROM ledger_head").fetchone()[0]
    assert found == set(range(size))
    return set(acknowledged), found


def test_what_was_acknowledged_survives_the_death_of_the_server(tmp_path):
    acknowledged, found = kill_under_load(tmp_path / "state", "on")

    assert len(acknowledged) >= 150 and acknowledged <= found


def test_control_commits_that_do_not_wait_for_the_disk_are_caught(tmp_path):
    for attempt in range(3):  # the writer wakes every 200 ms: a kill may just follow it
        acknowledged, found = kill_under_load(tmp_path / f"state{attempt}", "off")
        if acknowledged - found:
            return
    raise AssertionError("with synchronous_commit=off nothing was lost in three kills: this test cannot see a loss")
