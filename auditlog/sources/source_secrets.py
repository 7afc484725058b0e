"""Senders' shared secrets: read by the name of their variable when they are needed, in the database only sealed
(sealed.py).

The environment comes first. A quickstart also keeps them in 0600 files of its state folder, so that a source added
beside the running service is accepted at once, though the service was started without its variable.
"""

import os
from pathlib import Path

from django.conf import settings

from auditlog.models import Tenant
from auditlog.sources.sealed import opened


def source_secret(variable: str, tenant: Tenant) -> bytes | None:
    """The secret without the line's end that pasting, `echo >` or a mounted file leaves behind it; None: not set. The
    environment's first, then a kept file's, then what was sealed under that name for this tenant.
    """
    given = _from_outside(variable)
    if given is None:
        return opened(tenant, variable)
    return given.rstrip(b"\r\n") or None


def is_from_outside(variable: str) -> bool:
    """Whether the environment or a kept file gives this secret, before any that is sealed."""
    return _from_outside(variable) is not None


def _from_outside(variable: str) -> bytes | None:
    if given := os.environ.get(variable, "").encode():
        return given
    try:
        return (settings.STATE_DIR / "secrets" / Path(variable).name).read_bytes()
    except OSError:
        return None


def keep_source_secret(variable: str, secret: bytes) -> None:
    """Keep a secret where a running service finds it; does nothing where there is no state folder."""
    if not settings.STATE_DIR.is_dir():
        return
    folder = settings.STATE_DIR / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(folder / Path(variable).name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secret)
