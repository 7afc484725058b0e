"""Sealed secrets: shared secrets of sources and receivers, in the database only as a box that nobody opens without the
key.

The box is libsodium's secretbox (XSalsa20-Poly1305). The key is not in the database and in no backup:
`ANSWERABLE_SEAL_KEY`, or the file `ANSWERABLE_SEAL_KEY_FILE` names, or what `ANSWERABLE_SEAL_KEY_COMMAND` prints (the
hook for a KMS), or `seal.key` in the state folder. 32 bytes in base64 each; of several, by lines or commas, the first
seals and all open, so that a key is changed by putting the new one first and sealing anew. In the box stand the tenant
and the name, too: a box that was moved to another row opens for nobody. What was sealed is never shown again.
"""

import base64
import binascii
import json
import os
import re
import shlex
import subprocess
import time
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import structlog
from django.conf import settings
from django.db import transaction
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from auditlog.core.errors import ConfigurationError, NotFound
from auditlog.models import SealedSecret, Tenant

log = structlog.get_logger()
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,110}\Z")
LONGEST = 16_384  # bytes of a secret
WRAPPED = "sealed:"
AGAIN = 1.0  # seconds that an opened secret is used again
_opened: dict[tuple[int, str], tuple[float, bytes | None]] = {}


def seal(tenant: Tenant, name: str, secret: bytes, *, now: datetime) -> None:
    """Keep a secret under a name. What was under it before stays as `<name>_OLD`, which senders may still use. Raises
    ConfigurationError.
    """
    if not NAME.match(name):
        raise ConfigurationError(
            "a secret's name is up to 111 of A-Z, 0-9 and underscore, a letter first, as a variable's"
        )
    secret = secret.rstrip(b"\r\n")
    if not 1 <= len(secret) <= LONGEST:
        raise ConfigurationError(f"a secret has 1 to {LONGEST:,} bytes, found {len(secret):,}")
    with transaction.atomic():
        before = SealedSecret.objects.select_for_update().filter(tenant=tenant, name=name).first()
        if before is not None:
            old = _open(before)
            if old is not None and not name.endswith("_OLD"):
                _keep(tenant, f"{name}_OLD", old, now=now)
        _keep(tenant, name, secret, now=now)
    _opened.clear()


def _keep(tenant: Tenant, name: str, secret: bytes, *, now: datetime) -> None:
    key = _keys()[0]
    said = json.dumps({"tenant": tenant.pk, "name": name, "secret": base64.b64encode(secret).decode()}).encode()
    SealedSecret.objects.update_or_create(
        tenant=tenant,
        name=name,
        defaults={"box": bytes(SecretBox(key).encrypt(said)), "key_id": key_id(key), "changed_at": now},
    )


def remove(tenant: Tenant, name: str) -> None:
    """Raises NotFound."""
    if not SealedSecret.objects.filter(tenant=tenant, name=name).delete()[0]:
        raise NotFound(f"no sealed secret {name!r}")
    _opened.clear()


def reseal() -> int:
    """Seal everything with the first key. Returns how many were under another. Raises ConfigurationError, and then
    nothing is changed.
    """
    current, count = key_id(_keys()[0]), 0
    with transaction.atomic():
        for row in SealedSecret.objects.select_for_update().select_related("tenant").exclude(key_id=current):
            secret = _open(row)
            if secret is None:
                raise ConfigurationError(
                    f"{row.tenant.name}: {row.name} is sealed with key {row.key_id}, which is not among the keys given"
                )
            _keep(row.tenant, row.name, secret, now=row.changed_at)
            count += 1
    return count


def opened(tenant: Tenant, name: str) -> bytes | None:
    """The secret under this name; None where there is none, or none that opens."""
    at, secret = _opened.get((tenant.pk, name), (-10.0, None))
    if time.monotonic() - at < AGAIN:
        return secret
    row = SealedSecret.objects.filter(tenant=tenant, name=name).first()
    secret = _open(row) if row is not None else None
    if len(_opened) > 10_000:
        _opened.clear()
    _opened[tenant.pk, name] = (time.monotonic(), secret)
    return secret


def forget() -> None:
    """Read secrets anew: another process may have sealed one."""
    _opened.clear()


def _open(row: SealedSecret) -> bytes | None:
    try:
        keys = _keys()
    except ConfigurationError as error:
        log.error("sealed secret not opened", tenant=row.tenant_id, name=row.name, reason=str(error))
        return None
    for key in keys:
        try:
            said = json.loads(SecretBox(key).decrypt(bytes(row.box)))
        except (CryptoError, ValueError):
            continue
        if (said.get("tenant"), said.get("name")) == (row.tenant_id, row.name):
            return base64.b64decode(said["secret"])
        log.error("sealed secret lies under another name", tenant=row.tenant_id, name=row.name)
        return None
    log.error(
        "sealed secret not opened", tenant=row.tenant_id, name=row.name, reason=f"it is sealed with key {row.key_id}"
    )
    return None


def wrapped(text: str, *, about: str) -> str:
    """A short text that stands elsewhere in the database, as the secret of a second factor does: sealed, as text.
    `about` says whose it is; it opens for nothing else. Raises ConfigurationError.
    """
    key = _keys()[0]
    said = json.dumps({"about": about, "secret": text}).encode()
    return f"{WRAPPED}{key_id(key)}:{base64.b64encode(bytes(SecretBox(key).encrypt(said))).decode()}"


def unwrapped(box: str, *, about: str) -> str:
    """Raises ConfigurationError for what none of the keys opens, or what was moved here from elsewhere."""
    for key in _keys():
        try:
            said = json.loads(SecretBox(key).decrypt(base64.b64decode(box.rpartition(":")[2], validate=True)))
        except (CryptoError, ValueError, TypeError):
            continue
        if said.get("about") == about:
            return said["secret"]
    raise ConfigurationError("a sealed text does not open: its key is not among the keys given, or it is another's")


def is_current(box: str) -> bool:
    """Whether a wrapped text is under the key that seals now."""
    return box.startswith(f"{WRAPPED}{key_id(_keys()[0])}:")


# --- the key --------------------------------------------------------------------------------------------------------


def key_id(key: bytes) -> str:
    return sha256(b"answerable-seal/1" + key).hexdigest()[:12]


def _keys() -> list[bytes]:
    """The first seals, all open. Raises ConfigurationError, which says where a key was looked for and never what was
    found.
    """
    if given := os.environ.get("ANSWERABLE_SEAL_KEY"):
        return _read(given, "ANSWERABLE_SEAL_KEY")
    if command := os.environ.get("ANSWERABLE_SEAL_KEY_COMMAND"):
        return _read(_asked(command), "what ANSWERABLE_SEAL_KEY_COMMAND printed")
    file = Path(os.environ.get("ANSWERABLE_SEAL_KEY_FILE") or settings.STATE_DIR / "seal.key")
    try:
        return _read(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError):
        pass
    if os.environ.get("ANSWERABLE_SEAL_KEY_FILE") or not settings.STATE_DIR.is_dir():
        raise ConfigurationError(
            f"no key to seal with: {file} cannot be read, and neither ANSWERABLE_SEAL_KEY nor its _COMMAND is set"
        )
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(base64.b64encode(os.urandom(SecretBox.KEY_SIZE)).decode() + "\n")
        return _read(file.read_text(), str(file))
    except OSError as error:
        raise ConfigurationError(f"no key to seal with: {file}: {error.strerror}") from None


@lru_cache(maxsize=4)
def _asked(command: str) -> str:
    """Asked once by each process: a KMS is far away."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigurationError(f"ANSWERABLE_SEAL_KEY_COMMAND gave no key: {type(error).__name__}") from None
    return done.stdout


def _read(text: str, where: str) -> list[bytes]:
    keys = []
    for part in re.split(r"[,\s]+", text.strip()):
        try:
            key = base64.b64decode(part, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != SecretBox.KEY_SIZE:
            raise ConfigurationError(f"expected keys of {SecretBox.KEY_SIZE} bytes in base64 in {where}")
        keys.append(key)
    return keys
