"""Settings of a test run: PostgreSQL and Valkey of its own in a temporary state folder, then the ordinary settings.

Given DATABASE_URL, DATABASE_OWNER_URL and CELERY_BROKER_URL, those servers are used and none is started.
"""

import atexit
import os
import tempfile
from pathlib import Path

from config import embedded

_state = tempfile.TemporaryDirectory(prefix="answerable-tests-", ignore_cleanup_errors=True)
os.environ["ANSWERABLE_STATE_DIR"] = _state.name
os.environ.setdefault("ANSWERABLE_SECRET_KEY", "tests only")
_services = embedded.start(
    Path(_state.name), database="DATABASE_URL" not in os.environ, broker="CELERY_BROKER_URL" not in os.environ
)
atexit.register(_services.stop)
for _variable, _address in (
    ("DATABASE_URL", _services.database_url),
    ("DATABASE_OWNER_URL", _services.database_owner_url),
    ("CELERY_BROKER_URL", _services.broker_url),
):
    if _address:
        os.environ.setdefault(_variable, _address)

from config.settings import *  # noqa: E402, F403  the addresses above must be known first
