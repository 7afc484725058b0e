"""Settings of a test run: PostgreSQL and Valkey of its own in a temporary state folder, then the ordinary settings.

Given DATABASE_URL, DATABASE_OWNER_URL and CELERY_BROKER_URL, those servers are used and none is started. When pytest
runs in several processes, each has servers of its own: what it inherits was started by the process that shares out.
"""

import atexit
import os
import tempfile
from pathlib import Path

from config import embedded

_ADDRESSES = ("DATABASE_URL", "DATABASE_OWNER_URL", "CELERY_BROKER_URL")
if os.environ.get("ANSWERABLE_TESTS_STARTED"):
    for _variable in _ADDRESSES:
        os.environ.pop(_variable, None)

_state = tempfile.TemporaryDirectory(prefix="answerable-tests-", ignore_cleanup_errors=True)
os.environ["ANSWERABLE_STATE_DIR"] = _state.name
os.environ.setdefault("ANSWERABLE_SECRET_KEY", "tests only")
_services = embedded.start(
    Path(_state.name), database="DATABASE_URL" not in os.environ, broker="CELERY_BROKER_URL" not in os.environ
)
atexit.register(_services.stop)
for _variable, _address in zip(
    _ADDRESSES, (_services.database_url, _services.database_owner_url, _services.broker_url), strict=True
):
    if _address:
        os.environ[_variable] = _address
        os.environ["ANSWERABLE_TESTS_STARTED"] = "1"

from config.settings import *  # noqa: E402, F403  the addresses above must be known first
from tests.support.templates import Misspelt  # noqa: E402

PASSWORD_HASHERS = ["tests.support.passwords.QuickScrypt", *PASSWORD_HASHERS[1:]]  # noqa: F405
SECOND_FACTOR_REQUIRED = False  # most tests sign in with a password alone; those about it ask for it

for _engine in TEMPLATES:  # noqa: F405
    _engine["OPTIONS"]["string_if_invalid"] = Misspelt()

# Files are looked for when they are asked for: every test client would list them all at its start.
WHITENOISE_AUTOREFRESH = True
