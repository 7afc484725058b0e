"""Where things are: the state folder and the addresses of database and broker.

The environment comes first; without it the state folder of a running quickstart is asked (`services.json`).
"""

import os
import secrets
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from config.embedded import find_running


def state_dir() -> Path:
    """`ANSWERABLE_STATE_DIR`, else `/var/lib/answerable` for root and the XDG state folder for others."""
    if given := os.environ.get("ANSWERABLE_STATE_DIR"):
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/answerable")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "answerable"


def services() -> dict[str, str]:
    """Addresses of the servers that a running quickstart started; empty when none runs here or it is not ours to read."""
    try:
        return find_running(state_dir()) or {}
    except OSError:
        return {}


def address(variable: str, key: str) -> str:
    return os.environ.get(variable) or services().get(key, "")


def zone(variable: str, fallback: str) -> str:
    """The name of a time zone (IANA). Raises ImproperlyConfigured for one that there is not."""
    name = os.environ.get(variable) or fallback
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ImproperlyConfigured(
            f"{variable}: there is no time zone {name[:60]!r}; expected one as Europe/Berlin"
        ) from None
    return name


def database(url: str) -> dict[str, Any]:
    """Django's settings of one PostgreSQL URL, unix sockets included (libpq's own parser reads it)."""
    parts = conninfo_to_dict(url) if url else {}
    # What else the URL says is libpq's to do, above all how the server is to be known (sslmode, sslrootcert,
    # channel_binding).
    options = {key: value for key, value in parts.items() if key not in ("dbname", "user", "password", "host", "port")}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.get("dbname", ""),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": str(parts.get("port", "")),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def secret_key(*, workers: int = 1) -> str:
    """Django's key: the environment's, else the state folder's, else one that dies with this process; which several
    workers cannot share: raises ImproperlyConfigured for them.
    """
    if given := os.environ.get("ANSWERABLE_SECRET_KEY"):
        return given
    try:
        return (state_dir() / "secret_key").read_text()
    except OSError:
        if workers > 1:
            raise ImproperlyConfigured(
                f"ANSWERABLE_SECRET_KEY is not set, and {workers} workers would each make up their own: nobody would"
                " stay signed in"
            ) from None
        return secrets.token_urlsafe(48)


def heads_dir() -> Path:
    """Where the last signed heads lie, outside the database's fate: `ANSWERABLE_HEADS_DIR`, else the state folder."""
    return Path(os.environ.get("ANSWERABLE_HEADS_DIR") or state_dir() / "heads")


def log_key_file() -> Path:
    """Where the log's 32-byte signing key lies: `ANSWERABLE_LOG_KEY_FILE`, else the state folder. Never the database."""
    return Path(os.environ.get("ANSWERABLE_LOG_KEY_FILE") or state_dir() / "log.key")
