"""Folders outside the state folder, for what cannot be in it. Removed at stop, or at the next start.

Named after the state folder, so that the next supervisor finds what a killed one left. The random end of the
name keeps another user from making the folder before us.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path


def make_scratch(state: Path, place: str, undo: ExitStack) -> Path:
    """Make a folder in `place` for us alone, 0700."""
    scratch = Path(tempfile.mkdtemp(prefix=_prefix(state), dir=place))
    undo.callback(shutil.rmtree, scratch, ignore_errors=True)
    return scratch


def remove_stale(state: Path, places: Iterable[str]) -> None:
    """Remove what killed supervisors of this state folder left. Only while we hold it and its servers are gone."""
    for place in set(places):
        for scratch in Path(place).glob(f"{_prefix(state)}*"):
            if scratch.lstat().st_uid == os.geteuid():
                shutil.rmtree(scratch, ignore_errors=True)  # refuses a symbolic link


def _prefix(state: Path) -> str:
    return f"answerable-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}-"
