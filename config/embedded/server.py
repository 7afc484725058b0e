"""Children that end when we end: the only place where a process is started, watched and stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from config.embedded.account import Account
from config.embedded.error import EmbeddedError

LAUNCH = Path(__file__).with_name("launch.py")
READY_S = 120  # a crash recovery may take long
STOP_S = 60
TAIL_LINES = 8
# Nothing of our environment: it may carry secrets, and PG* variables that change what the servers do.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Launcher:
    """Starts programs as `account`, each holding `lock` for as long as one of its processes lives."""

    def __init__(self, account: Account, lock: int, undo: ExitStack):
        self.account = account
        self._lock = lock
        # The kernel sends the death signal when the *thread* that forked ends, so one thread of our own forks.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-servers")
        undo.callback(self._thread.shutdown)

    def spawn(
        self, program: Path, *arguments: str, folders: Iterable["Inherited"] = (), stop: int = signal.SIGINT, **streams
    ) -> subprocess.Popen:
        account = self.account
        command = [
            sys.executable,
            "-I",
            "-S",
            LAUNCH,
            os.getpid(),
            account.uid,
            account.gid,
            int(stop),
            program,
            *arguments,
        ]
        return self._thread.submit(
            subprocess.Popen,
            [str(part) for part in command],
            cwd="/",
            env=ENVIRONMENT,
            pass_fds=[self._lock, *(folder.descriptor for folder in folders)],
            start_new_session=True,  # Ctrl-C is for us; we stop the servers after those who use them
            **streams,
        ).result()

    def run(
        self, program: Path, *arguments: str, folders: Iterable["Inherited"] = (), text: str = ""
    ) -> tuple[int, str]:
        """Run a program to its end with `text` as its input; return its exit status and all that it said."""
        process = self.spawn(
            program,
            *arguments,
            folders=folders,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = process.communicate(text.encode())
        return process.returncode, output.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class Inherited:
    """A folder that a server reaches through a descriptor, whatever the modes of its parents."""

    descriptor: int

    def __str__(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"


def inherit(folder: Path, undo: ExitStack) -> Inherited:
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    undo.callback(os.close, descriptor)
    return Inherited(descriptor)


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    process: subprocess.Popen
    log: Path
    clean_stop: int  # the signal that the server takes as "finish and end", also when it comes twice

    def check(self) -> None:
        """Raise EmbeddedError with the end of the log if the server died."""
        if (status := self.process.poll()) is not None:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            raise EmbeddedError(f"{self.name} {how}; the end of {self.log}:\n{_tail(self.log)}")

    def await_ready(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name} was not ready after {READY_S} s; the end of {self.log}:\n{_tail(self.log)}"
                )
            time.sleep(0.01)

    def ask_to_stop(self) -> None:
        self.process.send_signal(self.clean_stop)  # our own child: its pid cannot be another's before we waited

    def stop(self) -> None:
        """Stop the server cleanly, or after a minute by force; what was committed is kept either way."""
        for number, seconds in ((self.clean_stop, STOP_S), (signal.SIGQUIT, 10), (signal.SIGKILL, None)):
            self.process.send_signal(number)
            try:
                self.process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue


def open_log(file: Path) -> int:
    """Begin a new log, keep the one before as `.1`."""
    if file.exists():
        os.replace(file, file.with_name(f"{file.name}.1"))
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
