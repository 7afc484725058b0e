"""Start and stop: claims the state folder, starts what was asked for, and takes all of it down again."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from config.embedded import postgres, valkey
from config.embedded.account import Account, choose_account
from config.embedded.binaries import COPY_PLACES
from config.embedded.error import EmbeddedError
from config.embedded.folder import StateFolder, claim, find_running
from config.embedded.scratch import make_scratch, remove_stale
from config.embedded.server import Launcher, Server

__all__ = ["Services", "find_running", "start"]

SOCKET_PATH_MAX = 103  # bytes; sun_path is 104 on some systems, 108 on Linux, one of them for the end
SCRATCH_EXAMPLE = "answerable-0123abcd-abcdefgh"


_running: set["Services"] = set()  # whoever keeps only an address has not stopped anything


@dataclass(frozen=True, eq=False, repr=False)  # no repr: the addresses carry passwords
class Services:
    """The running servers. They end when this is stopped, or when the process ends in any way."""

    database_url: str | None  # role `answerable_app`
    database_owner_url: str | None  # role `answerable_owner`
    broker_url: str | None
    pid: int
    servers: tuple[Server, ...]
    _undo: ExitStack

    def check(self) -> None:
        """Raise EmbeddedError if one of the servers died."""
        for server in self.servers:
            server.check()

    def stop(self) -> None:
        """Stop the servers cleanly; does nothing the second time, or in a forked child."""
        if os.getpid() == self.pid:
            self._undo.close()
            _running.discard(self)

    def __enter__(self) -> "Services":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(state_dir: Path, *, database: bool = True, broker: bool = True) -> Services:
    """Start the servers on the data in `state_dir`, made at the first start, and wait until they are ready.

    Raises EmbeddedError; nothing keeps running then. The first start takes about a second.
    """
    try:
        with ExitStack() as undo:
            return _start(Path(state_dir), database=database, broker=broker, undo=undo)
    except OSError as error:
        raise EmbeddedError(f"The embedded services cannot start in {state_dir}: {error}.") from error


def _start(state_dir: Path, *, database: bool, broker: bool, undo: ExitStack) -> Services:
    state = claim(state_dir, undo)
    remove_stale(state.path, (*COPY_PLACES, *_run_places()))
    passwords = state.passwords()
    account = choose_account((state.path / "postgres", state.path / "valkey"))
    launcher = Launcher(account, state.servers_lock, undo)
    (state.path / "log").mkdir(mode=0o700, exist_ok=True)
    run = _make_run(state, account, undo)
    servers: list[Server] = []
    undo.callback(_remove_sockets, run)
    undo.callback(_stop, servers)
    urls: dict[str, str | None] = dict.fromkeys(("database_url", "database_owner_url", "broker_url"))
    if database:  # before the broker: data of another version are refused before anything runs
        postgresql = postgres.start_postgres(state, run=run, passwords=passwords, launcher=launcher, undo=undo)
        servers.append(postgresql)
        for key, role in (("database_url", "answerable_app"), ("database_owner_url", "answerable_owner")):
            urls[key] = postgres.postgres_url(run, role=role, password=passwords[role])
    if broker:
        server = valkey.start_valkey(state, run=run, password=passwords["broker"], launcher=launcher, undo=undo)
        servers.append(server)
        server.await_ready(lambda: valkey.is_ready(run, passwords["broker"]))
        urls["broker_url"] = valkey.valkey_url(run, password=passwords["broker"])
    if database:  # last: PostgreSQL recovers while Valkey starts
        postgresql.await_ready(lambda: postgres.is_ready(postgresql, state.path / "postgres"))
    undo.callback(state.unpublish)
    state.publish({**urls, "pid": os.getpid()})
    services = Services(**urls, pid=os.getpid(), servers=tuple(servers), _undo=undo.pop_all())
    _running.add(services)
    return services


def _stop(servers: list[Server]) -> None:
    for server in servers:
        server.ask_to_stop()  # all at once: one may be writing its last checkpoint
    for server in servers:
        server.stop()


def _remove_sockets(run: Path) -> None:
    """A server that had to be ended by force leaves its socket behind."""
    for path in run.glob("*") if run.is_dir() else ():
        if path.is_socket():
            path.unlink(missing_ok=True)


def _make_run(state: StateFolder, account: Account, undo: ExitStack) -> Path:
    """Return an empty folder for the sockets: in the state folder, unless its path is too long for a socket."""
    shutil.rmtree(state.path / "run", ignore_errors=True)  # sockets and their locks of a killed run
    if _fits(state.path / "run"):
        return state.make("run", account=account)
    for place in _run_places():
        if os.access(place, os.W_OK) and _fits(Path(place) / SCRATCH_EXAMPLE / "run"):
            run = make_scratch(state.path, place, undo) / "run"  # the outer folder stays ours: so we know it again
            run.mkdir(mode=0o700)
            os.chown(run, account.uid, account.gid)
            return run
    raise EmbeddedError(f"The path {state.path} is too long for a socket, and no runtime folder is short enough.")


def _fits(run: Path) -> bool:
    # libpq takes a comma as the end of one host and the beginning of the next.
    return len(os.fsencode(run / postgres.SOCKET)) <= SOCKET_PATH_MAX and "," not in str(run)


def _run_places() -> tuple[str, ...]:
    own = ("/run",) if os.geteuid() == 0 else (os.environ.get("XDG_RUNTIME_DIR", ""),)
    return tuple(place for place in (*own, tempfile.gettempdir(), "/tmp") if os.path.isabs(place))
