"""`bench` runs: that what it fills still fits the tables, and that its own checks of what it measures pass. No figure is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


SLOW = [
    pytest.param(what, marks=pytest.mark.slow) for what in ("detect", "verify", "query", "complete", "browse", "live")
]


@pytest.mark.parametrize("what", SLOW)
def test_a_small_bench_ends_with_its_figures(what):
    ran = subprocess.run(
        [sys.executable, "manage.py", "bench", what, "--events", "600", "--seconds", "8", "--rate", "100", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr[-2000:]
    assert all(value is not None for value in json.loads(ran.stdout).values())
