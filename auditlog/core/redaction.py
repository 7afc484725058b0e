"""Redaction: secrets are taken out before anything is stored, and the digest of what was received stays.

What is removed is a value under a secret's name, or a value that is a credential by its looks (an `Authorization`
value, a compact JWS). A shared payment token becomes its digest, so that what it paid for can still be joined.
A document without secrets comes back as the same bytes.
"""

import json
import re
from binascii import a2b_base64
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
# Values of an Authorization header. A plan may be called "Basic Subscription", so what follows the scheme counts.
_BEARER = re.compile(r"(?i:bearer|dpop) +(?=[^ ]*[0-9])[A-Za-z0-9_.~+/=-]{8,}\Z")
_BASIC = re.compile(r"(?i:basic) +([A-Za-z0-9+/]{4,}={0,2})\Z")
_PAYMENT = re.compile(r"(?i:payment) +eyJ[A-Za-z0-9_-]+={0,2}\Z")
_COMPACT_JWS = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\Z")
_SPACED = re.compile(rb'"[ \t\r\n]+:')
# Stripe's shared payment tokens and ACP's delegated ones: who holds one can charge it.
_PAYMENT_TOKEN = re.compile(r"(spt)_(?!sha256_)[A-Za-z0-9_]+\Z|(vt)_[A-Z0-9]{10,}\Z")


@dataclass(frozen=True, slots=True)
class Redacted:
    """`raw` is what may be stored. `headers` is empty when nothing was removed."""

    raw: bytes
    headers: dict[str, str]


def redact(document: bytes, *, names: frozenset[str] = NEVER_STORED, keep: frozenset[str] = frozenset()) -> Redacted:
    """Remove the secrets of one JSON document. `names` are as `normal` gives them; what is under one in `keep` may
    look like a credential and stays. Raises MalformedEvent when the document cannot be read to look for secrets."""
    try:
        root = [orjson.loads(document)]
    except orjson.JSONDecodeError as error:
        raise MalformedEvent(f"expected JSON: {error}") from None
    removed: list[str] = []
    known, names_seen = _names(names), 0
    pending: list[tuple[Any, str]] = [(root, "")]
    while pending:
        holder, path = pending.pop()
        if type(holder) is dict:
            names_seen += len(holder)
            if not holder.keys() <= known.harmless:
                for name in known.secrets_in(holder):
                    if holder[name] and holder[name] != REMOVED and holder[name] is not True:
                        names_seen += _count_names(holder[name])
                        holder[name] = REMOVED
                        removed.append(f"{path}{name}")
        for name, value in holder.items() if type(holder) is dict else enumerate(holder):
            kind = type(value)
            if kind is dict or kind is list:
                pending.append((value, f"{path}{name}." if holder is not root else ""))
            elif kind is str and (clean := _kept(value)) != value and normal(str(name)) not in keep:
                holder[name] = clean
                removed.append(f"{path}{name}")
    # Of a name that is there twice we saw the last value only, and the first would be stored with the bytes.
    if (document.count(b'":') != names_seen or _is_spaced(document)) and _has_repeated_names(document):
        raise MalformedEvent("an object has the same name twice, so that a secret could hide")
    if not removed:
        return Redacted(document, {})
    told = ", ".join(sorted(removed)[:MAX_TOLD])[:2000]
    return Redacted(orjson.dumps(root[0]), {"received-sha256": sha256(document).hexdigest(), "removed": told})


def _count_names(value: Any) -> int:
    """How many names stand in what is removed: it is not walked any more."""
    count, pending = 0, [value]
    while pending:
        one = pending.pop()
        if type(one) is dict:
            count += len(one)
            pending.extend(one.values())
        elif type(one) is list:
            pending.extend(one)
    return count


def _is_spaced(document: bytes) -> bool:
    """Whether a name may stand apart from its colon, so that counting `":` does not count the names."""
    blanks = any([blank in document for blank in (b'" ', b'"\t', b'"\n', b'"\r')])
    return blanks and _SPACED.search(document) is not None


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


class _Names:
    """Which names are a secret's. The harmless ones are remembered: senders use few names, a hostile one many."""

    def __init__(self, names: frozenset[str]) -> None:
        self.secret = names
        self.harmless: set[str] = set()

    def secrets_in(self, holder: dict[str, Any]) -> list[str]:
        found = [name for name in holder if name not in self.harmless and normal(name) in self.secret]
        if len(self.harmless) < 10_000:
            self.harmless.update(holder.keys() - set(found))
        return found


_names = lru_cache(maxsize=32)(_Names)


def normal(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def payment_token(value: str) -> str:
    """The name under which a shared payment token is known here: its digest, the same in every format."""
    match = _PAYMENT_TOKEN.match(value)
    return f"{match[1] or match[2]}_sha256_{b64url(sha256(value.encode()).digest())}" if match else value


def _kept(value: str) -> str:
    """A value as it may be stored. The first characters tell most of them apart from credentials."""
    first = value[:1]
    if first in "sv":
        return payment_token(value) if value[:4] == "spt_" or value[:3] == "vt_" else value
    if first in "bBpPdDe" and (
        _BEARER.match(value) or _PAYMENT.match(value) or _COMPACT_JWS.match(value) or _is_basic(value)
    ):
        return REMOVED
    return value


def _is_basic(value: str) -> bool:
    """`Basic` and base64 of a name, a colon and a password (RFC 7617)."""
    match = _BASIC.match(value)
    try:
        decoded = a2b_base64(match[1]) if match else b""
    except ValueError:
        return False
    return b":" in decoded and decoded.isascii()
