"""Fault 4: the disk is full, in the middle of a batch. A clear 503, nothing acknowledged is lost, and on it goes.

The server's folder, or its write-ahead log alone, lies on a file system of a few megabytes made for the test.
"""

import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone
from structlog.testing import capture_logs

from auditlog.ledger import append
from auditlog.sources.configure import add_tenant
from auditlog.work import tasks
from config import embedded
from tests.faults.conftest import at
from tests.oracle import Oracle, Violation
from tests.support.needs import cannot
from tests.world import TenantWorld

MEGABYTE = 1 << 20


@contextmanager
def small_file_system(folder, *, megabytes):
    """A tmpfs over `folder`, with what lies in it now."""
    aside = folder.with_name(folder.name + "-aside")
    folder.rename(aside)
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        cannot("root", f"a file system of {megabytes} MB cannot be mounted here: {done.stderr.strip()}")
    try:
        shutil.copystat(aside, folder)
        os.chown(folder, aside.stat().st_uid, aside.stat().st_gid)
        subprocess.run(["cp", "-a", f"{aside}/.", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_up(folder, *, leave):
    """Take all room but `leave` bytes. Returns the file to be removed."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - leave))
    return filler


def batches(log, count):
    """Batches of a few large events: about a megabyte each."""
    for _ in range(count):
        batch = [log.event("action.performed", call={"args": {"scene": os.urandom(80_000).hex()}}) for _ in range(5)]
        yield batch, b'{"sets":{' + b",".join(b'"%b":"%b"' % (s.jti.encode(), s.raw) for s in batch) + b"}}"


def post(log, batch, raw):
    """As a sender over HTTP. Returns the status; the oracle hears what was acknowledged."""
    tasks._quiet_until = 0.0
    answer = Client().post(f"/ingest/{log.tenant}/conductor", raw, content_type="application/json")
    leaves = answer.json().get("leaves", {})
    for signed in batch:
        if signed.jti in leaves:
            log.oracle.saw(signed, leaves[signed.jti])
        else:
            log.oracle.unanswered(signed)
    if answer.status_code == 503:
        assert answer.json()["err"] == "unavailable" and int(answer.headers["Retry-After"]) > 0
        connections.close_all()  # between two requests, as a server does
    return answer.status_code


def new_log(name):
    world = TenantWorld(add_tenant(name, now=timezone.now()), now=timezone.now())
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.oracle = Oracle(world)
    return world


@pytest.mark.parametrize("what", ["data", "write-ahead log"])
def test_a_full_disk_loses_nothing_acknowledged_says_so_and_is_over_once_there_is_room(
    server_folder, tmp_path, settings, what
):
    settings.HEADS_DIR = tmp_path / "heads"
    state = server_folder(tmp_path / "state")
    small = state if what == "data" else state / "postgres" / "pg_wal"
    room = {"data": 200, "write-ahead log": 64}[what]
    with small_file_system(small, megabytes=room):
        with embedded.start(state, broker=False) as services, at(services):
            log = new_log(what[:4])
            log.oracle.send(log.event("action.performed"))
            log.oracle.sign()
            filler = fill_up(small, leave=2 * MEGABYTE if what == "data" else 0)
            statuses, failed = [], []
            with capture_logs() as said:
                for batch, raw in batches(log, 100):
                    statuses.append(post(log, batch, raw))
                    if statuses[-1] != 200:
                        failed.append((batch, raw))
                        if len(failed) == 3:
                            break
            with suppress(OperationalError):
                log.oracle.sign()
            died = services.servers[0].process.poll() is not None
            filler.unlink()
            if not died:
                again = [post_again(log, *each) for each in failed]
        if died:
            # It could not even write that it had crashed: somebody makes room and starts it again.
            with embedded.start(state, broker=False) as services, at(services):
                again = [post_again(log, *each) for each in failed]
                finish(log)
        else:
            with embedded.start(state, broker=False) as services, at(services):
                finish(log)

    assert set(statuses) == {200, 503} and statuses[-3:] == [503] * 3
    assert [line for line in said if line["event"] == "ingest unavailable"]
    assert again == [200] * 3


def post_again(log, batch, raw):
    """A sender asks again for as long as it is told to."""
    began = time.monotonic()
    while (status := post(log, batch, raw)) == 503 and time.monotonic() - began < 30:
        time.sleep(0.1)
    return status


def finish(log):
    log.oracle.sign()
    log.oracle.check()


def test_control_an_answer_from_memory_while_the_disk_is_full_is_caught(log, monkeypatch):
    def full(*args):
        raise OperationalError("could not extend file: No space left on device")

    monkeypatch.setattr(append, "_write", full)
    signed = log.event("action.performed")
    real, told = append._settle, []
    monkeypatch.setattr(append, "_settle", lambda *args, **more: told.append(real(*args, **more)) or told[-1])
    with pytest.raises(OperationalError):
        log.oracle.send(signed)
    [(results, _)] = told
    log.oracle.saw(signed, results[0].leaf_index)

    with pytest.raises(Violation, match="in the ledger 0 times"):
        log.oracle.check()
