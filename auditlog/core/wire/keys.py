"""Public keys of senders: JWK in (RFC 7517), a check of signed bytes out. Ed25519 goes through libsodium, which is
twice as fast here and refuses non-canonical signatures and small-order keys; the rest through cryptography.
"""

import json
import re
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from auditlog.core.errors import BadSignature, ConfigurationError, WrongAlgorithm

Check = Callable[[bytes, bytes], None]  # (message, signature); raises BadSignature
# RFC 9864 names Ed25519 fully; RFC 8037's "EdDSA" stays in use for the same thing.
ALGORITHMS = {"Ed25519": "OKP", "EdDSA": "OKP", "ES256": "EC", "RS256": "RSA", "PS256": "RSA"}
_REQUIRED = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
_MEMBER = re.compile(r"[A-Za-z0-9_-]+\Z")  # base64url without padding, or a curve's name
MAX_KEYS = 50  # in one published set
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "k")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def b64url(value: bytes) -> str:
    return b2a_base64(value, newline=False).translate(_URL_SAFE).rstrip(b"=").decode()


def from_b64url(value: str) -> bytes:
    return urlsafe_b64decode(value + "=" * (-len(value) % 4))


@dataclass(frozen=True, slots=True)
class Key:
    """A usable public key. `checks` has one check for each algorithm it may be used with."""

    kid: str
    thumbprint: str  # RFC 7638, SHA-256, base64url
    checks: dict[str, Check]

    def check_for(self, algorithm: str) -> Check:
        check = self.checks.get(algorithm)
        if check is None:
            fit = " or ".join(self.checks)
            raise WrongAlgorithm(
                f"key {self.kid!r} is for {fit}, the header says alg {algorithm!r}"[:200], key=self.thumbprint
            )
        return check


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638: SHA-256 over the required members in lexical order."""
    members = ",".join(f'"{name}":"{jwk[name]}"' for name in _REQUIRED[jwk["kty"]])
    return b64url(sha256(("{" + members + "}").encode()).digest())


def public_jwk(jwk: Any) -> dict[str, Any]:
    """The public members of a JWK that we can use. Raises ConfigurationError saying what is wrong with it."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in _REQUIRED:
        # Not the key itself: of a symmetric one that would be the secret.
        kind = jwk.get("kty") if isinstance(jwk, dict) else type(jwk).__name__
        raise ConfigurationError(f"expected a JWK of kty OKP, EC or RSA, found {str(kind)[:40]!r}{_named(jwk)}")
    if jwk.get("use", "sig") != "sig":
        raise ConfigurationError(f"key {jwk.get('kid')!r} is for {jwk['use']!r}, expected use 'sig'")
    if any(name in jwk for name in _PRIVATE):
        raise ConfigurationError(f"key {jwk.get('kid')!r} has private parts: give the public JWKS only")
    return {name: jwk[name] for name in (*_REQUIRED[jwk["kty"]], "kid", "alg", "use") if name in jwk}


def _named(jwk: Any) -> str:
    return f" for key {str(jwk['kid'])[:80]!r}" if isinstance(jwk, dict) and jwk.get("kid") else ""


def keys_in(text: str) -> list[dict[str, Any]]:
    """The keys of a pasted JWK or JWKS, not looked at yet; none of an empty text. Raises ConfigurationError."""
    if not text.strip():
        return []
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"This is not JSON: {error}.") from None
    keys = given.get("keys") if isinstance(given, dict) and "keys" in given else [given]
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ConfigurationError("Expected one JWK object, or an object whose `keys` is a list of them.")
    return keys


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a published JWKS holds: the keys that may be used, and what was left out, named with the reason."""

    keys: tuple[tuple[dict[str, Any], Key], ...]  # the public members, and the key they make
    left_out: tuple[str, ...]


def key_set(document: bytes) -> KeySet:
    """A JWKS (RFC 7517 section 5) as its owner publishes it. One bad key does not hurt the others.

    Raises ConfigurationError for what is no key set, or for one without any usable key.
    """
    try:
        given = json.loads(document)
    except (ValueError, RecursionError):
        raise ConfigurationError("expected a JWKS, found no JSON") from None
    found = given.get("keys") if isinstance(given, dict) else None
    if not isinstance(found, list):
        raise ConfigurationError('expected a JWKS: {"keys": [...]}')
    if len(found) > MAX_KEYS:
        raise ConfigurationError(f"a JWKS has at most {MAX_KEYS} keys here, found {len(found)}")
    good: dict[str, tuple[dict[str, Any], Key]] = {}
    left_out = []
    for position, jwk in enumerate(found, 1):
        try:
            public = public_jwk(jwk)
            key = load(public, kid_of(public))
            if key.kid in good:
                raise ConfigurationError(f"key {key.kid!r} is there twice")
            if any(key.thumbprint == other.thumbprint for _, other in good.values()):
                raise ConfigurationError(f"key {key.kid!r} is there under another name too")
            good[key.kid] = public, key
        except ConfigurationError as error:
            left_out.append(f"key {position}: {error}"[:300])
    if not good:
        raise ConfigurationError("; ".join(["the key set has no key that can be used", *left_out])[:1000])
    return KeySet(tuple(good.values()), tuple(left_out))


def kid_of(jwk: dict[str, Any]) -> str:
    """Raises ConfigurationError where there is none that could be named in a header and shown to people."""
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 200 or not kid.isprintable():
        raise ConfigurationError("a key needs a `kid` of 1 to 200 characters")
    return kid


def load(jwk: dict[str, Any], kid: str) -> Key:
    """Raises ConfigurationError when the key is malformed, weak, or of a curve we do not take."""
    if any(not isinstance(jwk.get(name), str) or not _MEMBER.match(jwk[name]) for name in _REQUIRED[jwk["kty"]]):
        raise ConfigurationError(
            f"key {kid!r} is not a usable JWK: expected {', '.join(_REQUIRED[jwk['kty']])} in base64url"
        )
    try:
        checks = _LOADERS[jwk["kty"]](jwk)
        stamp = thumbprint(jwk)
    except ConfigurationError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"key {kid!r} is not a usable JWK: {error}") from None
    only = {"Ed25519": ("Ed25519", "EdDSA"), "EdDSA": ("Ed25519", "EdDSA")}.get(jwk.get("alg", ""), (jwk.get("alg"),))
    if "alg" in jwk:
        checks = {name: check for name, check in checks.items() if name in only}
        if not checks:
            raise ConfigurationError(f"key {kid!r} says alg {jwk['alg']!r}, expected one of {', '.join(ALGORITHMS)}")
    return Key(kid, stamp, checks)


def _ed25519(jwk: dict[str, Any]) -> dict[str, Check]:
    if jwk["crv"] != "Ed25519":
        raise ConfigurationError(f"expected curve Ed25519, found {jwk['crv']!r}")
    public = from_b64url(jwk["x"])
    if len(public) != 32:
        raise ConfigurationError(f"an Ed25519 key has 32 bytes, found {len(public)}")

    def check(message: bytes, signature: bytes) -> None:
        if len(signature) != 64:
            raise BadSignature(f"an Ed25519 signature has 64 bytes, found {len(signature)}")
        try:
            crypto_sign_open(signature + message, public)
        except BadSignatureError:
            raise BadSignature("the Ed25519 signature does not fit the received bytes") from None

    return {"Ed25519": check, "EdDSA": check}


def _p256(jwk: dict[str, Any]) -> dict[str, Check]:
    if jwk["crv"] != "P-256":
        raise ConfigurationError(f"expected curve P-256, found {jwk['crv']!r}")
    x, y = from_b64url(jwk["x"]), from_b64url(jwk["y"])
    if len(x) != 32 or len(y) != 32:
        raise ConfigurationError("P-256 coordinates have 32 bytes")
    public = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()).public_key()

    def check(message: bytes, signature: bytes) -> None:
        if len(signature) != 64:
            raise BadSignature(f"an ES256 signature has 64 bytes, found {len(signature)}")
        try:
            der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
            public.verify(der, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            raise BadSignature("the ES256 signature does not fit the received bytes") from None

    return {"ES256": check}


def _rsa(jwk: dict[str, Any]) -> dict[str, Check]:
    numbers = rsa.RSAPublicNumbers(int.from_bytes(from_b64url(jwk["e"])), int.from_bytes(from_b64url(jwk["n"])))
    public = numbers.public_key()
    if public.key_size < 2048:
        raise ConfigurationError(f"RSA keys have 2048 bits or more (RFC 7518 section 3.3), found {public.key_size}")
    if public.key_size > 8192:
        raise ConfigurationError(f"RSA keys of more than 8192 bits take too long to check, found {public.key_size}")

    def checker(pad: padding.AsymmetricPadding, name: str, digest: hashes.HashAlgorithm) -> Check:
        def check(message: bytes, signature: bytes) -> None:
            try:
                public.verify(signature, message, pad, digest)
            except InvalidSignature:
                raise BadSignature(f"the {name} signature does not fit the received bytes") from None

        return check

    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    # PS512 is no algorithm of our events; signed requests use it (rsa-pss-sha512, RFC 9421 section 3.3.1).
    pss512 = padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=64)
    return {
        "RS256": checker(padding.PKCS1v15(), "RS256", hashes.SHA256()),
        "PS256": checker(pss, "PS256", hashes.SHA256()),
        "PS512": checker(pss512, "PS512", hashes.SHA512()),
    }


_LOADERS = {"OKP": _ed25519, "EC": _p256, "RSA": _rsa}
