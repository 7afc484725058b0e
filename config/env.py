"""Where things are: the state folder and the addresses of database and broker.

The environment comes first; without it the state folder of a running quickstart is asked (`services.json`).
"""

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
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
        "ENGINE": "auditlog.database.engine",
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


def seconds(variable: str, fallback: int) -> int:
    """A length of time. Raises ImproperlyConfigured for what is none."""
    given = os.environ.get(variable, "")
    if given and not (given.isascii() and given.isdigit() and 60 <= int(given) <= 30 * 24 * 3600):
        raise ImproperlyConfigured(f"{variable}: expected seconds, from 60 to 2592000, found {given[:40]!r}")
    return int(given) if given else fallback


def oidc_apps() -> list[dict[str, Any]]:
    """Identity providers that people may sign in by: one in `ANSWERABLE_OIDC_ISSUER`, `_CLIENT_ID`, `_CLIENT_SECRET`
    and `_NAME`. Raises ImproperlyConfigured.
    """
    issuer = os.environ.get("ANSWERABLE_OIDC_ISSUER", "").rstrip("/")
    if not issuer:
        return []
    client = os.environ.get("ANSWERABLE_OIDC_CLIENT_ID", "")
    secret = os.environ.get("ANSWERABLE_OIDC_CLIENT_SECRET", "")
    file = os.environ.get("ANSWERABLE_OIDC_CLIENT_SECRET_FILE", "")
    if file:
        try:
            secret = Path(file).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"ANSWERABLE_OIDC_CLIENT_SECRET_FILE: {error.strerror}") from None
    if urlsplit(issuer).scheme != "https" or not client:
        raise ImproperlyConfigured("ANSWERABLE_OIDC_ISSUER is an https address, and wants ANSWERABLE_OIDC_CLIENT_ID")
    name = os.environ.get("ANSWERABLE_OIDC_NAME", "single sign-on")
    return [
        {"provider_id": "sso", "name": name, "client_id": client, "secret": secret, "settings": {"server_url": issuer}}
    ]


def mail() -> dict[str, Any]:
    """Django's settings of `ANSWERABLE_SMTP` (smtps://name:password@host:465, or smtp:// with STARTTLS); none: no mail
    is sent, and admins hand out one-time links. Raises ImproperlyConfigured.
    """
    given = os.environ.get("ANSWERABLE_SMTP", "")
    if not given:
        return {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend", "EMAIL_HOST": ""}
    parts = urlsplit(given)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ImproperlyConfigured("ANSWERABLE_SMTP: expected smtps://name:password@host:port, or smtp://")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 587),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_USE_TLS": parts.scheme == "smtp",
        "EMAIL_TIMEOUT": 10,
        "DEFAULT_FROM_EMAIL": os.environ.get("ANSWERABLE_MAIL_FROM", f"answerable@{parts.hostname}"),
    }
