"""Processes that may die: forked from the test's own, so that one costs milliseconds and its broken code is its own."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connections


class Died(Exception):
    """The child ended otherwise than by SIGKILL, an answer or a stop."""


@dataclass
class Child:
    """A forked process; what its work returned comes back as JSON."""

    pid: int
    pipe: int
    over: bool = False

    def stopped(self) -> None:
        """Wait until it has sent itself SIGSTOP."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.over = True
            raise Died(f"expected a stopped child, its status is {status}: {self._read()}")

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if not self.over:
            os.kill(self.pid, signal.SIGKILL)
            self.answer()

    def answer(self) -> Any:
        """Wait for the end. Returns what the work returned; None when it was killed."""
        text = self._read()
        _, status = os.waitpid(self.pid, 0)
        self.over = True
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return None
        if status:
            raise Died(text)
        return json.loads(text)

    def _read(self) -> str:
        with os.fdopen(self.pipe) as stream:
            return stream.read()


def fork(work: Callable[[], Any]) -> Child:
    """Run `work` in a child with connections of its own. Nothing it changes in this process's code is seen here."""
    connections.close_all()  # a connection used by two processes is none
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return Child(pid, read)
    try:
        answer = json.dumps(work()).encode()
        status = 0
    except BaseException:
        answer, status = traceback.format_exc()[-4000:].encode(), 1
    os.write(write, answer)
    os._exit(status)  # no farewell: servers and files are the parent's


def in_child(work: Callable[[], Any]) -> Any:
    return fork(work).answer()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """Freeze, as a machine that swaps or a debugger does; somebody else wakes us."""
    os.kill(os.getpid(), signal.SIGSTOP)
