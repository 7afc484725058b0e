"""Where things are: the state folder and the addresses of database and broker.

The environment comes first; without it the state folder of a running quickstart is asked (`services.json`).
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict


def state_dir() -> Path:
    """`ANSWERABLE_STATE_DIR`, else `/var/lib/answerable` for root and the XDG state folder for others."""
    if given := os.environ.get("ANSWERABLE_STATE_DIR"):
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/answerable")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "answerable"


def services() -> dict[str, str]:
    """Addresses that a running quickstart wrote down; empty when there is none or it is not ours to read."""
    try:
        return json.loads((state_dir() / "services.json").read_text())
    except (OSError, ValueError):
        return {}


def address(variable: str, key: str) -> str:
    return os.environ.get(variable) or services().get(key, "")


def database(url: str) -> dict[str, Any]:
    """Django's settings of one PostgreSQL URL, unix sockets included (libpq's own parser reads it)."""
    parts = conninfo_to_dict(url) if url else {}
    options = {key: parts[key] for key in ("sslmode", "sslrootcert", "options", "connect_timeout") if key in parts}
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


def secret_key() -> str:
    """Django's key: the environment's, else the state folder's, else one that dies with this process."""
    if given := os.environ.get("ANSWERABLE_SECRET_KEY"):
        return given
    try:
        return (state_dir() / "secret_key").read_text()
    except OSError:
        return secrets.token_urlsafe(48)


def source_secret(variable: str) -> bytes | None:
    """A sender's shared secret by the name of its variable; a quickstart also keeps them in 0600 files."""
    if given := os.environ.get(variable):
        return given.encode()
    try:
        return (state_dir() / "secrets" / Path(variable).name).read_bytes()
    except OSError:
        return None
