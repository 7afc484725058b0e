"""Compact JWS (RFC 7515) as other formats carry it: opened strictly, checked under a configured key.

The algorithm is one of ours and the key is named by `kid` or by a thumbprint; a key inside the header is never used.
"""

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from msgspec import Struct

from auditlog.core.document import read_document
from auditlog.core.errors import BadSignature, MalformedEvent, UnknownKid, WrongAlgorithm
from auditlog.core.wire.keys import ALGORITHMS, Key

MAX_JWS = 64 * 1024
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class Jws(Struct, frozen=True):
    header: dict[str, Any]
    claims: dict[str, Any]
    payload: bytes  # of which `claims` were read
    signing_input: bytes
    signature: bytes

    @property
    def kid(self) -> str:
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else ""


def open_jws(compact: str, *, limit: int = MAX_JWS) -> Jws:
    """Read, not verified. Raises MalformedEvent saying which part is wrong."""
    if len(compact) > limit:
        raise MalformedEvent(f"a compact JWS has at most {limit:,} characters here, found {len(compact):,}")
    segments = compact.split(".")
    if len(segments) != 3:
        raise MalformedEvent(f"a compact JWS has 3 segments, found {len(segments)}")
    header, payload = b64url_bytes(segments[0]), b64url_bytes(segments[1])
    return Jws(
        json_object(header, "the JOSE header"),
        json_object(payload, "the JWS payload", read=read_document),
        payload,
        compact.rpartition(".")[0].encode(),
        b64url_bytes(segments[2]),
    )


def check_jws(jws: Jws, key: Key) -> Key:
    """Raises BadSignature or WrongAlgorithm."""
    algorithm = jws.header.get("alg")
    if algorithm not in ALGORITHMS:
        raise WrongAlgorithm(f"expected alg {', '.join(ALGORITHMS)}, found {str(algorithm)[:40]!r}", key=key.thumbprint)
    if "crit" in jws.header:
        raise MalformedEvent("the header marks something as critical, which we do not know")
    try:
        key.check_for(algorithm)(jws.signing_input, jws.signature)
    except BadSignature as refused:
        refused.key = key.thumbprint
        raise
    return key


def key_of(jws: Jws, keys: Mapping[str, Key]) -> Key:
    """The source's key that the header names; its only key when it names none. Raises UnknownKid."""
    key = keys.get(jws.kid) or next((key for key in keys.values() if key.thumbprint == jws.kid), None)
    if key is None and not jws.kid and len(keys) == 1:
        return next(iter(keys.values()))
    if key is None:
        raise UnknownKid(f"key {jws.kid[:80]!r} is not one of this source's keys")
    return key


def b64url_bytes(segment: str) -> bytes:
    """Base64url without padding (RFC 7515 section 2): a padded segment is another text of the same bytes."""
    given = segment.encode("utf-8", "replace")
    if given.translate(None, _ALPHABET):
        raise MalformedEvent("expected base64url without padding")
    try:
        return a2b_base64(given.translate(_TO_STANDARD) + b"=" * (-len(given) % 4))
    except ValueError as error:
        raise MalformedEvent(f"not base64url: {error}") from None


def json_object(document: bytes, what: str, *, read: Callable[[bytes], Any] = orjson.loads) -> dict[str, Any]:
    """With `read_document` what stands in a claim that nobody reads (half a character, a number out of range) loses no
    statement.
    """
    try:
        value = read(document)
    except ValueError as error:
        raise MalformedEvent(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedEvent(f"{what} is not a JSON object")
    return value
