"""Redaction: secrets are taken out before anything is stored, and the digest of what was received stays.

What is removed is a value under a secret's name, or a value that is a credential by its looks (an `Authorization`
value, a compact JWS). A shared payment token becomes its digest, so that what it paid for can still be joined.
A document without secrets comes back as the same bytes.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson

from auditlog.core.errors import MalformedEvent
from auditlog.core.keys import b64url

REMOVED = "[removed]"
# Names are compared in lower case without `_`, `-` and spaces.
NEVER_STORED = frozenset(
    "accesstoken refreshtoken idtoken sessiontoken securitytoken subjecttoken actortoken bearertoken authtoken "
    "authorization proxyauthorization cookie setcookie password passwd passphrase secret clientsecret secretkey "
    "secretaccesskey privatekey apikey assertion clientassertion samlassertion samlresponse codeverifier "
    "confirmationsecret accessconfiguration resourceaccessconfiguration cvc cvv cvv2 trackdata "
    "xapikey xauthtoken xamzsecuritytoken".split()
)
MAX_TOLD = 20  # paths named in the headers
_HINTS = (
    b"token", b"secret", b"passw", b"passphrase", b"authorization", b"cookie", b"private", b"api", b"assertion",
    b"samlresponse", b"verifier", b"accessconfig", b"access_config", b"access-config", b"cvc", b"cvv", b"track",
    b"spt_", b"vt_", b"bearer ", b"basic ", b"payment ", b"eyj", b"\\u",
)  # fmt: skip
_CREDENTIAL = re.compile(r"(?i:bearer|basic|payment|dpop) +[A-Za-z0-9_.~+/=-]{8,}\Z")
_COMPACT_JWS = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\Z")
_SPACED = re.compile(rb'"[ \t\r\n]+:')
# Stripe's shared payment tokens and ACP's delegated ones: who holds one can charge it.
_PAYMENT_TOKEN = re.compile(r"(spt|vt)_(?!sha256_)[A-Za-z0-9_]+\Z")


@dataclass(frozen=True, slots=True)
class Redacted:
    """`raw` is what may be stored. `headers` is empty when nothing was removed."""

    raw: bytes
    headers: dict[str, str]


def redact(document: bytes, *, names: frozenset[str] = NEVER_STORED, keep: frozenset[str] = frozenset()) -> Redacted:
    """Remove the secrets of one JSON document. `names` are as `normal` gives them; what is under one in `keep` may
    look like a credential and stays. Raises MalformedEvent when the document cannot be read to look for secrets."""
    lowered = document.lower()
    for hint in _hints(names):  # a plain loop: one scan in C a hint, and most documents have none
        if hint in lowered:
            break
    else:
        return Redacted(document, {})
    try:
        root = [orjson.loads(document)]
    except orjson.JSONDecodeError as error:
        raise MalformedEvent(f"expected JSON: {error}") from None
    removed: list[str] = []
    is_secret, names_seen = _secrets(names), 0
    pending: list[tuple[Any, str]] = [(root, "")]
    while pending:
        holder, path = pending.pop()
        names_seen += len(holder) if type(holder) is dict else 0
        for name, value in holder.items() if type(holder) is dict else enumerate(holder):
            kind = type(value)
            if type(name) is str and is_secret[name] and kind is not bool and value and value != REMOVED:
                holder[name] = REMOVED
                removed.append(f"{path}{name}")
            elif kind is str:
                # First letters of Bearer, Basic, Payment, DPoP and eyJ: a cheap look before the patterns.
                if (
                    len(value) > 4
                    and (value[0] in "bBpPdDeE" or value[:4] == "spt_" or value[:3] == "vt_")
                    and (kept := _kept(value)) != value
                ):
                    if type(name) is str and normal(name) in keep:
                        continue
                    holder[name] = kept
                    removed.append(f"{path}{name}")
            elif kind is dict or kind is list:
                pending.append((value, f"{path}{name}." if path or holder is not root else ""))
    # Of a name that is there twice we saw the last value only, and the first would be stored with the bytes.
    if (document.count(b'":') != names_seen or _SPACED.search(document)) and _has_repeated_names(document):
        raise MalformedEvent("an object has the same name twice, so that a secret could hide")
    if not removed:
        return Redacted(document, {})
    told = ", ".join(sorted(removed)[:MAX_TOLD])[:2000]
    return Redacted(orjson.dumps(root[0]), {"received-sha256": sha256(document).hexdigest(), "removed": told})


def _has_repeated_names(document: bytes) -> bool:
    """The exact answer, for the few documents whose colons do not tell (spaces before them, colons in texts)."""
    repeated = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len({name for name, _ in pairs}) != len(pairs))

    try:
        json.loads(document, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return True
    return any(repeated)


@lru_cache(maxsize=32)
def _hints(names: frozenset[str]) -> tuple[bytes, ...]:
    """What the first scan looks for. Names beyond NEVER_STORED are single words, so they are their own hint."""
    return (*_HINTS, *(name.encode() for name in sorted(names - NEVER_STORED)))


class _Secrets(dict[str, bool]):
    """Whether a name is a secret's, remembered: senders use few names, a hostile one many."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def __missing__(self, name: str) -> bool:
        if len(self) > 10_000:
            self.clear()
        self[name] = known = normal(name) in self.names
        return known


_secrets = lru_cache(maxsize=32)(_Secrets)


def normal(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def payment_token(value: str) -> str:
    """The name under which a shared payment token is known here: its digest, the same in every format."""
    match = _PAYMENT_TOKEN.match(value)
    return f"{match[1]}_sha256_{b64url(sha256(value.encode()).digest())}" if match else value


def _kept(value: str) -> str:
    if value.startswith(("spt_", "vt_")):
        return payment_token(value)
    if _CREDENTIAL.match(value) or _COMPACT_JWS.match(value):
        return REMOVED
    return value
