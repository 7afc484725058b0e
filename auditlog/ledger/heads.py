"""The independent head: the last note signed for each log, in a file outside the database's fate.

It is written, and on disk, before a checkpoint is published. A database that comes back older than it (a restored
backup, a lagging replica) would sign another history at sizes already signed: the publisher refuses, says so, and goes
on refusing until a person decides (the Venafi incident of 2017).
"""

import fcntl
import os
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from auditlog.core.errors import Superseded
from auditlog.core.log.checkpoint import Checkpoint


def head_file(tenant: str) -> Path:
    return settings.HEADS_DIR / tenant


def write_head(tenant: str, note: str) -> None:
    """Replace the head, durably: file, rename, folder. It only grows: raises Superseded where that would take it back.

    No fence in the database can keep this: a publisher that sleeps right before it writes here, and wakes when another
    one has signed more, would leave a head that hides those later signatures from whoever restores a backup.
    """
    folder = settings.HEADS_DIR
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder / f".{tenant}.lock"):
        there, ours = read_head(tenant), _parsed(note)
        if there is not None and (there.size > ours.size or (there.size == ours.size and there.root != ours.root)):
            raise Superseded(
                f"another publisher signed {there.size} leaves meanwhile, ours would sign {ours.size}: stop"
            )
        fresh = folder / f".{tenant}.new"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, folder / tenant)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One writer at a time. The kernel lets go of it when the process dies, so nobody waits for the dead."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_head(tenant: str) -> Checkpoint | None:
    """What the file says was signed last; None when there is no file. Raises ValueError for one that is no note.

    The signature is not asked for: whoever can write here can at worst stop the publisher.
    """
    try:
        note = head_file(tenant).read_text()
    except FileNotFoundError:
        return None
    return _parsed(note)


def _parsed(note: str) -> Checkpoint:
    origin, size, root, *_ = note.split("\n")
    return Checkpoint(origin, int(size), b64decode(root, validate=True))


def forget_head(tenant: str) -> Path | None:
    """Set the head aside, by a person's decision. Returns where it lies now."""
    file = head_file(tenant)
    if not file.exists():
        return None
    kept = file.with_name(f"{tenant}.set-aside")
    os.replace(file, kept)
    return kept
