"""What a test needs and a machine may lack. Without it the test is skipped and the run says so at its end; where
`ANSWERABLE_REQUIRE` names the need (`vectors`, `browser`, `root`, ... or `all`), as CI does, it fails instead.
"""

import os
from typing import NoReturn

import pytest


def cannot(need: str, why: str) -> NoReturn:
    required = os.environ.get("ANSWERABLE_REQUIRE", "").replace(",", " ").split()
    if need in required or "all" in required:
        pytest.fail(f"{need} is required here (ANSWERABLE_REQUIRE), and {why}", pytrace=False)
    pytest.skip(f"{need}: {why}")
