"""The state folder: who holds it, the passwords, and the facts that other commands read.

    embedded.lock    held by the supervisor, never inherited: free at the moment the supervisor is gone
    servers.lock     held by the supervisor and every process of the servers: free when the last one is gone
    passwords.json   made at the first start, 0600
    services.json    while running: the addresses and the supervisor's pid, 0600
    postgres/  valkey/  run/  log/       0700; the first three belong to the servers' account

The two locks are all we need to know who is alive. A pid in a file proves nothing: pids come again.
"""

import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from config.embedded.account import Account, hand_over
from config.embedded.error import EmbeddedError

SERVERS_END_S = 60  # servers of a killed supervisor write their last checkpoint within this
PROBE_S = 1.0  # `find_running` of another command holds the lock for an instant
ACCOUNTS = ("postgres", "answerable_owner", "answerable_app", "broker")


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder held by this process; `servers_lock` is the descriptor that every server inherits."""

    path: Path
    servers_lock: int

    def make(self, name: str, *, account: Account) -> Path:
        """Return the folder `name` of the state, 0700 and owned by `account`."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        hand_over(folder, account)
        return folder

    def passwords(self) -> dict[str, str]:
        """Return the password of every role and of the broker, made up at the first start."""
        file = self.path / "passwords.json"
        if file.exists():
            return json.loads(file.read_text())
        if (self.path / "postgres").exists():
            raise EmbeddedError(f"{file} is missing, and the data in {self.path} cannot be opened without it.")
        passwords = {name: secrets.token_urlsafe(24) for name in ACCOUNTS}
        write_private(file, json.dumps(passwords, indent=2))
        return passwords

    def sync(self) -> None:
        """Make the names in this folder survive a power cut."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self, facts: dict[str, object]) -> None:
        write_private(self.path / "services.json", json.dumps(facts, indent=2))

    def unpublish(self) -> None:
        (self.path / "services.json").unlink(missing_ok=True)


def claim(path: Path, undo: ExitStack) -> StateFolder:
    """Take the state folder for this process, and wait until no server of an earlier supervisor runs in it.

    Raises EmbeddedError if it is not a folder of ours, or another supervisor holds it.
    """
    path = path.absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = path.resolve()
    _check_owner(path)
    supervisor_lock = _open_lock(path / "embedded.lock", undo)
    if not _wait(lambda: _locked(supervisor_lock), PROBE_S):
        pid = os.pread(supervisor_lock, 32, 0).decode().strip() or "unknown"
        raise EmbeddedError(
            f"The state folder {path} is in use by process {pid}; stop that one, or use another folder."
        )
    os.ftruncate(supervisor_lock, 0)
    os.pwrite(supervisor_lock, f"{os.getpid()}\n".encode(), 0)
    servers_lock = _open_lock(path / "servers.lock", undo)
    if not _wait(lambda: _locked(servers_lock), SERVERS_END_S):
        raise EmbeddedError(f"Servers of an earlier run still work in {path} after {SERVERS_END_S} s; stop them first.")
    folder = StateFolder(path, servers_lock)
    folder.unpublish()  # of a supervisor that was killed
    return folder


def find_running(state_dir: Path) -> dict | None:
    """Return the facts of the services that run in `state_dir` now, or None. Starts nothing."""
    try:
        with open(state_dir / "embedded.lock") as lock:
            if _locked(lock.fileno(), fcntl.LOCK_SH):
                return None  # nobody holds it: facts lying there are a killed supervisor's
        return json.loads((state_dir / "services.json").read_text())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedError(f"The state folder {state_dir} belongs to another user: {error}.") from error


def write_private(file: Path, text: str) -> None:
    """Write `file` as 0600, whole or not at all."""
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, file)


def _check_owner(path: Path) -> None:
    info, is_empty = path.stat(), not any(path.iterdir())
    if is_empty and (os.geteuid() == 0 or info.st_uid == os.geteuid()):
        os.chown(path, os.geteuid(), os.getegid())
        path.chmod(0o700)
        return
    # A folder with something in it may be anything, even / by mistake: leave its mode alone, and judge it.
    if info.st_uid != os.geteuid():
        raise EmbeddedError(f"The state folder {path} belongs to uid {info.st_uid}; run as that user, or use another.")
    if info.st_mode & 0o022:
        raise EmbeddedError(f"Others may write in the state folder {path}; use another, or `chmod go-w` it.")


def _open_lock(file: Path, undo: ExitStack) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    undo.callback(os.close, descriptor)
    return descriptor


def _locked(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(is_done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
