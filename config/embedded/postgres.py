"""A real PostgreSQL on a unix socket: made once, durable, with one role that owns and one that only works.

`answerable_owner` owns the database `answerable` and may create more (the tests' own); migrations run as it.
`answerable_app` may log in and nothing else; what it may touch is granted beside the tables.
"""

import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT
from subprocess import DEVNULL, STDOUT
from urllib.parse import quote

from config.embedded.binaries import find_postgres, reach
from config.embedded.error import EmbeddedError
from config.embedded.folder import StateFolder
from config.embedded.server import Inherited, Launcher, Server, inherit, open_log

SOCKET = ".s.PGSQL.5432"
CLEAN_STOP = SIGINT  # fast shutdown: whoever is connected is told to go
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",  # what a start after a crash has to read again
    "wal_compression": "on",
    # A ledger that forgets what it acknowledged is none: said here, so that no file in the data can say otherwise.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",  # stderr is our log file
    "log_destination": "stderr",
}


def start_postgres(
    state: StateFolder, *, run: Path, passwords: dict[str, str], launcher: Launcher, undo: ExitStack
) -> Server:
    """Start PostgreSQL on the state's data, made first if there are none.

    Raises EmbeddedError, with nothing started or changed, if another major version made the data.
    """
    binaries = find_postgres()
    folder, version = reach(binaries, "initdb", state=state.path, launcher=launcher, undo=undo)
    data = state.path / "postgres"
    if data.exists():
        _check_version(data, int(re.search(r"\) (\d+)", version)[1]))
    else:
        _make_data(state, run=run, passwords=passwords, binaries=folder, launcher=launcher)
    state.make("postgres", account=launcher.account)
    _remove_stale_pid(data, launcher)
    log = state.path / "log" / "postgres.log"
    stream = open_log(log)
    try:
        data_folder, run_folder = inherit(data, undo), inherit(run, undo)
        process = launcher.spawn(
            folder / "postgres",
            *("-D", str(data_folder), "-k", str(run_folder)),
            *(argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")),
            folders=(data_folder, run_folder),
            stdin=DEVNULL,
            stdout=stream,
            stderr=STDOUT,
            stop=CLEAN_STOP,
        )
    finally:
        os.close(stream)
    return Server("PostgreSQL", process, log, CLEAN_STOP)


def is_ready(server: Server, data: Path) -> bool:
    """Read the status that the postmaster keeps in its pid file, line 8, as pg_ctl does."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(server.process.pid) and lines[7].strip() == "ready"


def postgres_url(run: Path, *, role: str, password: str) -> str:
    return f"postgresql://{role}:{quote(password, safe='')}@/answerable?host={quote(str(run), safe='')}"


def _make_data(state: StateFolder, *, run: Path, passwords: dict[str, str], binaries: Path, launcher: Launcher) -> None:
    """Run initdb and make the roles and the database, beside the final place: data are there whole or not at all."""
    shutil.rmtree(state.path / "postgres.new", ignore_errors=True)  # of a supervisor that was killed
    draft = state.make("postgres.new", account=launcher.account)
    password_file = run / "initdb.password"
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream, ExitStack() as done:
        done.callback(password_file.unlink)
        os.fchown(descriptor, launcher.account.uid, launcher.account.gid)
        stream.write(passwords["postgres"] + "\n")
        stream.flush()
        data_folder, run_folder = inherit(draft, done), inherit(run, done)
        _run(
            launcher,
            binaries / "initdb",
            # Compared byte by byte: no C library's update can leave an index in another order than it was built in.
            *("-D", str(data_folder), "-k", "-E", "UTF8", "--locale=C.UTF-8", "--lc-collate=C", "--username=postgres"),
            *("--auth-local=scram-sha-256", "--auth-host=reject", f"--pwfile={run_folder}/{password_file.name}"),
            folders=(data_folder, run_folder),
        )
        # In single-user mode, so that the roles are part of the making, not of some later start.
        _run(
            launcher,
            binaries / "postgres",
            *("--single", "-D", str(data_folder), "-c", "exit_on_error=on"),
            *("-c", "log_min_error_statement=panic", "postgres"),  # no statement, with its password, in the output
            folders=(data_folder,),
            text=(
                f"CREATE ROLE answerable_owner LOGIN CREATEDB PASSWORD '{passwords['answerable_owner']}'\n"
                f"CREATE ROLE answerable_app LOGIN PASSWORD '{passwords['answerable_app']}'\n"
                "CREATE DATABASE answerable OWNER answerable_owner\n"
            ),
        )
    draft.rename(state.path / "postgres")
    state.sync()  # a power cut must not bring back the draft's name: the next start would remove it, filled or not


def _run(launcher: Launcher, program: Path, *arguments: str, folders: tuple[Inherited, ...], text: str = "") -> None:
    status, said = launcher.run(program, *arguments, folders=folders, text=text)
    if status != 0:
        raise EmbeddedError(f"PostgreSQL's data could not be made, {program.name} ended with status {status}:\n{said}")


def _check_version(data: Path, major: int) -> None:
    made_by = (data / "PG_VERSION").read_text().strip()
    if made_by != str(major):
        raise EmbeddedError(
            f"The data in {data} were made by PostgreSQL {made_by}, the programs here are PostgreSQL {major}. "
            f"Nothing was changed. Dump with {made_by} (pg_dumpall), move the folder away, start once with {major}, "
            "and restore the dump."
        )


def _remove_stale_pid(data: Path, launcher: Launcher) -> None:
    """Remove the pid file of a postmaster that is gone.

    We hold the servers' lock, so none of ours runs. PostgreSQL itself would refuse to start when any process of
    the same user has that pid by now. A postmaster that someone started by hand on these data is respected.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().splitlines()[0])
    except FileNotFoundError:
        return
    except (ValueError, IndexError):
        pid = 0  # a machine that went down can leave it empty
    if pid > 0 and _works_in(pid, data, launcher):
        raise EmbeddedError(f"Another PostgreSQL, process {pid}, runs on the data in {data}; stop that one first.")
    file.unlink()


def _works_in(pid: int, data: Path, launcher: Launcher) -> bool:
    """Is `data` the working folder of this process, as it is a postmaster's?

    Asked as the servers' account: root in a container may not look into the processes of others, they may.
    """
    with ExitStack() as done:
        folder = inherit(data, done)
        test = '[ "/proc/$0/cwd" -ef "$1" ]'
        status, _ = launcher.run(Path("/bin/sh"), "-c", test, str(pid), str(folder), folders=(folder,))
    return status == 0
