"""A state folder with a database that was migrated once in a run, to be copied: a first start takes half a minute of a core."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_OURS = ("DATABASE_URL", "DATABASE_OWNER_URL", "CELERY_BROKER_URL", "ANSWERABLE_STATE_DIR", "ANSWERABLE_TESTS_STARTED")
_MAKE = """
import os, sys
from pathlib import Path
from config import embedded
with embedded.start(Path(sys.argv[1]), broker=False) as services:
    os.environ["DATABASE_URL"], os.environ["DATABASE_OWNER_URL"] = services.database_url, services.database_owner_url
    import django
    django.setup()
    from django.core.management import call_command
    call_command("setup_database", verbosity=0)
"""


def copy_migrated(run: Path, place: Path) -> Path:
    """Copy the migrated state folder of this run to `place`, with owners and modes. `run`: a folder that its processes share."""
    made = run / "migrated"
    with (run / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(made)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run(["cp", "-a", made, place], check=True)
    return place


def _make(place: Path) -> None:
    unfinished = place.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    given = {name: value for name, value in os.environ.items() if name not in _OURS}
    given |= {"DJANGO_SETTINGS_MODULE": "config.settings", "ANSWERABLE_STATE_DIR": str(unfinished)}
    subprocess.run([sys.executable, "-c", _MAKE, str(unfinished)], cwd=ROOT, env=given, check=True)
    unfinished.rename(place)
