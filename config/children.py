"""The processes of a quickstart: web, worker, beat and publisher, each ending when the quickstart ends, however it
ends.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.embedded.server import LAUNCH

ROOT = Path(__file__).resolve().parent.parent
STOP_S = 20


@dataclass(frozen=True, slots=True)
class Child:
    name: str
    process: subprocess.Popen
    log: Path
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # it carries passwords

    def last_lines(self, count: int = 12) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


def commands(port: int, workers: int) -> dict[str, Sequence[str]]:
    """What runs beside PostgreSQL and the broker. Order is that of starting; stopping goes backwards."""
    manage = (sys.executable, str(ROOT / "manage.py"))
    celery = (sys.executable, "-m", "celery", "-A", "config.celery")
    return {
        "publish": (*manage, "publish"),
        "web": (*manage, "serve", "--port", str(port), "--workers", str(workers)),
        "worker": (
            *celery, "worker", "--concurrency", "1", "--loglevel", "WARNING", "--without-gossip", "--without-mingle",
            "--without-heartbeat", "-n", "answerable@localhost",
        ),
        "beat": (*celery, "beat", "--loglevel", "WARNING", "--pidfile", ""),
    }  # fmt: skip


def start(name: str, command: Sequence[str], *, environment: Mapping[str, str], logs: Path) -> Child:
    """Start one, with its output in a file of its own."""
    log = logs / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(LAUNCH),
                str(os.getpid()),
                str(os.geteuid()),
                str(os.getegid()),
                str(int(signal.SIGINT)),
                *command,
            ],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we stop them in order
        )
    return Child(name, process, log, command, environment)


def stop(children: Sequence[Child]) -> None:
    """Stop them, last started first; by force after a while."""
    for child in reversed(children):
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    for child in reversed(children):
        try:
            child.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
