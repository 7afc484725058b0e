"""Redaction: secrets are taken out before anything is stored, and the digest of what was received stays.

What is removed is a value under a secret's name, or what is a credential by its looks (an `Authorization` value, a
compact JWS), also inside of a text: an address with a query, a form, a command line, JSON as a string or in base64. A
shared payment token becomes its digest, so that what it paid for can still be joined. A document without secrets comes
back as the same bytes.
"""

import json
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson

from auditlog.core.document import read_document
from auditlog.core.errors import MalformedEvent
from auditlog.core.wire.keys import b64url

REMOVED = "[removed]"
# Names are compared in lower case without `_`, `-`, dots and spaces.
NEVER_STORED = frozenset(
    "accesstoken refreshtoken idtoken sessiontoken securitytoken subjecttoken actortoken bearertoken authtoken "
    "authorization proxyauthorization cookie setcookie password passwd passphrase secret clientsecret secretkey "
    "secretaccesskey privatekey apikey assertion clientassertion samlassertion samlresponse codeverifier "
    "confirmationsecret accessconfiguration resourceaccessconfiguration cvc cvv cvv2 trackdata cryptogram "
    "xapikey xauthtoken xamzsecuritytoken".split()
)
# Those that are a secret's whatever stands before them (`github_access_token`), where they are among the names at all.
_ENDINGS = (
    "accesstoken", "refreshtoken", "bearertoken", "clientsecret", "confirmationsecret", "accessconfiguration", "password", "passphrase", "privatekey",
)  # fmt: skip
# What stands here is a payment token, whatever it looks like; one that looks like it becomes its digest.
_TOKEN_NAMES = frozenset(
    ("stripepaymenttoken", "sharedpaymenttoken", "sharedpaymentgrantedtoken", "sharedpaymentissuedtoken")
)
MAX_TEXTS = 4  # JSON in a text in a text: deeper, it is removed
MAX_TOLD = 20  # paths named in the headers
# Values of an Authorization header. A plan may be called "Basic Subscription", so what follows the scheme counts.
_BEARER = re.compile(r"(?i:bearer|dpop) +(?:(?=[^ ]*[0-9])[A-Za-z0-9_.~+/=-]{8,}|[A-Za-z_.~+/=-]{32,})\Z")
_BASIC = re.compile(r"(?i:basic) +([A-Za-z0-9+/]{4,}={0,2})\Z")
_PAYMENT = re.compile(r"(?i:payment) +eyJ[A-Za-z0-9_-]+={0,2}\Z")
_COMPACT_JWS = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\Z")
_SPACED = re.compile(rb'"[ \t\r\n]+:')
# Stripe's shared payment tokens and ACP's delegated ones: who holds one can charge it.
_PAYMENT_TOKEN = re.compile(r"(spt)_(?!sha256_)[A-Za-z0-9_]+\Z|(vt)_[A-Z0-9]{10,}\Z")
# The same inside of a text. Stripe's secret keys are bearer tokens too, as are others'.
_INSIDE = re.compile(
    r"(?<![A-Za-z0-9])(?P<token>spt_(?!sha256_)[A-Za-z0-9_]+)"
    r"|(?<![A-Za-z0-9])(?P<scheme>(?i:bearer|dpop) +)(?:(?=[A-Za-z_.~+/=-]*[0-9])[A-Za-z0-9_.~+/=-]{8,}|[A-Za-z_.~+/=-]{32,})"
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+"
    r"|(?<![A-Za-z0-9+/_-])(?P<base64>eyJ[A-Za-z0-9+/_-]{8,}={0,2})"
    r"|(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{8,}"
    # Keys and tokens that say by their beginning whose they are: model providers', GitHub's, GitLab's, Slack's.
    r"|(?<![A-Za-z0-9_-])sk-(?:(?:proj|ant|svcacct|admin|or|lf|live)-[A-Za-z0-9_-]{8,}|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,})"
    r"|(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,})"
    r"|(?P<user>://[^\s/:@\"'<>]{0,200}:)[^\s/@\"'<>]{1,500}(?=@)"  # an address with a password in it
    r"""|(?<![A-Za-z0-9_.-])(?P<name>[A-Za-z][A-Za-z0-9_.-]{1,60})(?P<is>=["']?|\\?"\s*:\s*\\?")(?P<value>[^\s"'&;,<>#\\=]+=*)"""
)
# Only a document with one of these can hold any of them, or JSON in a text.
_HINTS = (b"=", b"\\", b"spt_", b"earer ", b"eyJ", b"k_live_", b"base64")
# The same for keys and passwords in addresses, whose beginnings stand in many documents without them. Each expression begins
# with what it looks for, which is found several times faster than by one that may begin in several ways.
_KEYS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"://[^\s/:@\"'<>]{0,200}:[^\s/@\"'<>]{1,500}@",
        rb"sk-(?<![A-Za-z0-9_-]sk-)[A-Za-z0-9_-]{11}",
        rb"gh[pousr]_[A-Za-z0-9]{20}",
        rb"github_pat_",
        rb"glpat-",
        rb"xox[abprs]-",
    )
)
BASE64 = re.compile(r"[eWICD][A-Za-z0-9+/_-]{9,}={0,2}\Z")  # of `{`, `[` or a blank
_TO_STANDARD = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class Redacted:
    """`raw` is what may be stored. `headers` is empty when nothing was removed."""

    raw: bytes
    headers: dict[str, str]


def redact(
    document: bytes,
    *,
    names: frozenset[str] = NEVER_STORED,
    keep: frozenset[str] = frozenset(),
    opens: bool = False,
    texts: int = MAX_TEXTS,
) -> Redacted:
    """Remove the secrets of one JSON document. `names` are as `normal` gives them; what is under one in `keep` may
    look like a credential and stays, as does a value in `keep` under a secret's name (the hash of a key). `opens`: every text may be base64 of JSON. Raises MalformedEvent when the document
    cannot be read to look for secrets.
    """
    try:
        root = [read_document(document)]
    except ValueError as error:
        raise MalformedEvent(f"expected JSON: {error}") from None
    removed: list[str] = []
    known, names_seen = _names(names), 0
    may_hide = opens or _may_hide(document)
    pending: list[tuple[Any, str]] = [(root, "")]
    while pending:
        holder, path = pending.pop()
        if type(holder) is dict:
            names_seen += len(holder)
            if may_hide and any("spt_" in name for name in holder):
                given = {
                    _without(name, known, keep, texts) if "spt_" in name else name: value
                    for name, value in holder.items()
                }
                removed += [f"{path}{name}" for name in given if name not in holder]
                if len(given) < len(holder):
                    raise MalformedEvent("an object has names that differ in a secret only")
                holder.clear()
                holder.update(given)
            if not holder.keys() <= known.harmless:
                for name in known.secrets_in(holder):
                    if holder[name] and not _is_harmless(holder[name], keep):
                        names_seen += _count_names(holder[name])
                        holder[name] = REMOVED
                        removed.append(f"{path}{name}")
        for name, value in holder.items() if type(holder) is dict else enumerate(holder):
            kind = type(value)
            if kind is dict or kind is list:
                pending.append((value, f"{path}{name}." if holder is not root else ""))
            elif kind is str:
                clean = _kept(value)
                if may_hide and clean == value and len(value) > 8:
                    clean = _text(value, known, keep, texts)
                if clean != value and normal(str(name)) not in keep:
                    holder[name] = clean
                    removed.append(f"{path}{name}")
    # Of a name that is there twice we saw the last value only, and the first would be stored with the bytes.
    if (document.count(b'":') != names_seen or _is_spaced(document)) and has_repeated_names(document):
        raise MalformedEvent("an object has the same name twice, so that a secret could hide")
    if not removed:
        return Redacted(document, {})
    told = ", ".join(sorted(removed)[:MAX_TOLD])[:2000]
    return Redacted(orjson.dumps(root[0]), {"received-sha256": sha256(document).hexdigest(), "removed": told})


def refuse_secrets(document: bytes, *, keep: frozenset[str] = frozenset()) -> None:
    """Of what is signed nothing can be taken out, so what holds a secret is refused: it would be stored. Raises
    MalformedEvent naming where.
    """
    if removed := redact(document, keep=keep).headers.get("removed"):
        raise MalformedEvent(f"it holds a secret ({removed[:200]}), which cannot be taken out of what is signed")


def redact_headers(
    headers: Mapping[str, str], *, names: frozenset[str] = NEVER_STORED
) -> tuple[dict[str, str], list[str]]:
    """Headers as they may be stored, and the names of those that were changed."""
    known = _names(names)
    clean = {
        name: REMOVED if known.is_secret(name) and value else _without(_kept(value), known, frozenset(), MAX_TEXTS)
        for name, value in headers.items()
    }
    return clean, [name for name, value in clean.items() if value != headers[name]]


def clean_text(text: str) -> str:
    """A text without what is a secret by its looks: for what we say of bytes that were not redacted."""
    return _without(_kept(text), _names(NEVER_STORED), frozenset(), MAX_TEXTS)


def _text(value: str, known: "_Names", keep: frozenset[str], texts: int) -> str:
    """A text without the secrets inside of it; JSON in it is redacted like a document."""
    if value.lstrip()[:1] in ("{", "["):
        inside = value.encode()
        if _is_json(inside):
            clean = _document(inside, known, keep, texts)
            return REMOVED if clean is None else value if clean is inside else clean.decode()
    if BASE64.match(value):
        return _base64(value, known, keep, texts)
    return _without(value, known, keep, texts)


def _is_json(document: bytes) -> bool:
    try:
        read_document(document)
    except ValueError:
        return False
    return True


def _document(document: bytes, known: "_Names", keep: frozenset[str], texts: int) -> bytes | None:
    """A document inside of another, redacted; the very same where nothing was. None where a secret could hide in it."""
    try:
        return redact(document, names=known.secret, keep=keep, opens=True, texts=texts - 1).raw if texts else None
    except MalformedEvent:
        return None


def _base64(value: str, known: "_Names", keep: frozenset[str], texts: int) -> str:
    """The same, where it is base64 of JSON: in the alphabet and with the padding it had."""
    document = from_base64(value)
    if document is None or document.lstrip()[:1] not in (b"{", b"[") or not _is_json(document):
        return value
    clean = _document(document, known, keep, texts)
    if clean is None:
        return REMOVED
    if clean is document:
        return value
    written = b64encode(clean).decode() if "=" in value or "+" in value or "/" in value else b64url(clean)
    return written


def from_base64(value: str) -> bytes | None:
    """Either alphabet, padded or not."""
    plain = value.rstrip("=")
    try:
        return a2b_base64(plain.translate(_TO_STANDARD) + "=" * (-len(plain) % 4))
    except ValueError:
        return None


def _without(text: str, known: "_Names", keep: frozenset[str], texts: int) -> str:
    parts, at = [], 0
    while match := _INSIDE.search(text, at):
        end = match.end()
        if match["token"]:
            clean = payment_token(match[0])
        elif match["scheme"]:
            clean = match["scheme"] + REMOVED
        elif match["user"]:
            clean = match["user"] + REMOVED
        elif match["base64"]:
            clean = _base64(match[0], known, keep, texts)
        elif match["name"] is None:
            clean = REMOVED
        elif known.is_secret(match["name"]) and match["value"] not in ("null", "true", "false"):
            clean = match["name"] + match["is"] + REMOVED
        else:  # the name is harmless; what stands behind it need not be
            end = match.end("is")
            clean = text[match.start() : end]
        parts += [text[at : match.start()], clean]
        at = end
    return "".join(parts) + text[at:] if parts else text


def _may_hide(document: bytes) -> bool:
    """Whether a text in it can hold a secret: a few scans, which most documents pass."""
    if any([hint in document for hint in _HINTS]):
        return True
    return any(key.search(document) is not None for key in _KEYS)


def _is_harmless(value: Any, keep: frozenset[str]) -> bool:
    return value is True or (isinstance(value, str) and (value == REMOVED or value in keep))


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


def has_repeated_names(document: bytes) -> bool:
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
        self.endings = tuple(ending for ending in _ENDINGS if ending in names)
        self.harmless: set[str] = set()

    def is_secret(self, name: str) -> bool:
        plain = normal(name)
        return plain in self.secret or (bool(self.endings) and plain.endswith(self.endings))

    def secrets_in(self, holder: dict[str, Any]) -> list[str]:
        unknown = [name for name in holder if name not in self.harmless]
        tokens = {name for name in unknown if normal(name) in _TOKEN_NAMES}
        found = [name for name in unknown if self.is_secret(name)]
        if len(self.harmless) < 10_000:
            self.harmless.update(holder.keys() - set(found) - tokens)
        return found + [
            name for name in tokens if isinstance(holder[name], str) and not holder[name].startswith("spt_")
        ]


_names = lru_cache(maxsize=32)(_Names)


def normal(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "").replace(".", "")


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
