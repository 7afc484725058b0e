# ruff: noqa: F811  (fixtures)
"""What a large case costs: sealed and assessed, its page, its packet and the check of that.

    ANSWERABLE_ACTS=1000 uv run pytest -n 0 -s -m slow tests/benchmarks/test_large_case.py

Each act is a purchase under one grant and one limit, which the later half of them passes.
"""

import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from disputes import queries
from disputes.decide import move
from disputes.open_case import open_case
from disputes.packet import write_packet
from tests.integration.test_disputes_cases import handler, person, shop  # noqa: F401
from tests.integration.test_packet import signs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


@contextmanager
def timed(what):
    begun = time.monotonic()
    yield
    print(
        f"{what}: {time.monotonic() - begun:.1f} s, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


def test_what_a_large_case_costs(shop, handler, tmp_path):
    acts = int(os.environ.get("ANSWERABLE_ACTS", "1000"))
    signs(shop)
    grant = shop.grant_of_shop
    with timed(f"{acts:,} purchases taken in"):
        taken = shop.send_together(
            [shop.registers(f"name-{n}.example", grant=grant, price_minor=1) for n in range(acts)]
        )
        shop.project()
    bought = [str(one.event_id) for one in taken]
    with timed("opened"):
        case = open_case(handler, event_ids=bought, kind="scope", title="Many", now=shop.now)
    for to in ("intake", "evidence_open"):
        move(case, to, viewer=handler, now=shop.now)
    with timed("sealed and assessed"):
        move(case, "record_sealed", viewer=handler, now=shop.now)
    move(case, "assessment", viewer=handler, now=shop.now)
    with timed("its page read"):
        queries.case_page(handler, case.ref, now=shop.now)
    signs(shop)
    path = tmp_path / "case.zip"
    with timed("packet"), path.open("wb") as file:
        write_packet(case, handler, file, now=shop.now)
    print(f"packet: {path.stat().st_size / 1e6:.1f} MB")
    with timed("checked by the stand-alone verifier"):
        done = subprocess.run(
            [sys.executable, "-I", "auditlog/verifier/answerable_verify.py", path],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[:500]
