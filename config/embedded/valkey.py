"""A real Valkey on a unix socket: the queue of tasks, kept in an append-only file (at most one second may go)."""

import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIGTERM
from subprocess import PIPE, STDOUT
from urllib.parse import quote

from config.embedded.binaries import find_valkey, reach
from config.embedded.folder import StateFolder
from config.embedded.server import Launcher, Server, inherit, open_log

SOCKET = "broker.sock"
CLEAN_STOP = SIGTERM  # a second SIGINT means "exit at once" to it, and leaves the socket behind
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',  # the append-only file is the only copy
    "maxmemory-policy": "noeviction",  # a queue may refuse, never forget
    "daemonize": "no",
}


def start_valkey(state: StateFolder, *, run: Path, password: str, launcher: Launcher, undo: ExitStack) -> Server:
    folder, _ = reach(find_valkey(), "valkey-server", state=state.path, launcher=launcher, undo=undo)
    data_folder = inherit(state.make("valkey", account=launcher.account), undo)
    run_folder = inherit(run, undo)
    log = state.path / "log" / "valkey.log"
    stream = open_log(log)
    try:
        process = launcher.spawn(
            folder / "valkey-server",
            "-",  # settings from standard input: arguments, and so a password among them, are public
            folders=(data_folder, run_folder),
            stdin=PIPE,
            stdout=stream,
            stderr=STDOUT,
            stop=CLEAN_STOP,
        )
    finally:
        os.close(stream)
    settings = SETTINGS | {"dir": str(data_folder), "unixsocket": f"{run_folder}/{SOCKET}", "requirepass": password}
    with suppress(BrokenPipeError), process.stdin as pipe:  # it died at once: its log will say why
        pipe.write("".join(f"{name} {value}\n" for name, value in settings.items()).encode())
    return Server("Valkey", process, log, CLEAN_STOP)


def is_ready(run: Path, password: str) -> bool:
    """Log in and ping. While Valkey still reads its file it answers LOADING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(run / SOCKET))
            client.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with client.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False


def valkey_url(run: Path, *, password: str) -> str:
    """Return the address in the form that kombu reads: scheme, password, path of the socket."""
    return f"redis+socket://:{quote(password, safe='')}@{quote(str(run / SOCKET))}"
