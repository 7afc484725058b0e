"""Keys from a seed, and the two signatures senders really use: JWS (RFC 7515, RFC 8037) and Stripe's HMAC.

A key depends only on (seed, issuer, kid), so a world built twice signs the same bytes twice.
"""

import base64
import hashlib
import hmac
from typing import Any

import orjson
from nacl import bindings
from nacl.signing import SigningKey


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))


class Signer:
    """An issuer's Ed25519 key."""

    def __init__(self, issuer: str, kid: str, seed: int | str) -> None:
        self.issuer = issuer
        self.kid = kid
        self._key = SigningKey(hashlib.sha256(f"answerable simulator|{seed}|{issuer}|{kid}".encode()).digest())
        header = {"alg": "EdDSA", "kid": kid, "typ": "secevent+jwt"}
        self._header = b64url(orjson.dumps(header)).encode() + b"."

    @property
    def jwk(self) -> dict[str, str]:
        """The public key (RFC 8037 section 2)."""
        x = b64url(bytes(self._key.verify_key))
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "alg": "EdDSA", "use": "sig"}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        return {"keys": [self.jwk]}

    def sign_set(self, claims: dict[str, Any]) -> bytes:
        """Return `claims` as a compact JWS; the caller states every claim."""
        signing_input = self._header + b64url(orjson.dumps(claims)).encode()
        return signing_input + b"." + b64url(self._key.sign(signing_input).signature).encode()

    def sign_again(self, compact: bytes) -> bytes:
        """Return the same header and payload under another valid signature.

        Ed25519 as specified is deterministic, but a verifier cannot tell how the nonce was chosen: a signer with a
        random nonce (here a hash of the bytes) makes other signatures that verify as well (RFC 8032 section 5.1.6).
        """
        signing_input = compact.rpartition(b".")[0]
        secret = bytearray(hashlib.sha512(bytes(self._key)).digest()[:32])
        secret[0] &= 248
        secret[31] = (secret[31] & 127) | 64
        scalar = bindings.crypto_core_ed25519_scalar_reduce(bytes(secret) + bytes(32))
        nonce = bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(b"another nonce" + compact).digest())
        point = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
        challenge = hashlib.sha512(point + bytes(self._key.verify_key) + signing_input).digest()
        challenge = bindings.crypto_core_ed25519_scalar_reduce(challenge)
        product = bindings.crypto_core_ed25519_scalar_mul(challenge, scalar)
        signature = point + bindings.crypto_core_ed25519_scalar_add(nonce, product)
        return signing_input + b"." + b64url(signature).encode()


class StripeSigner:
    """A webhook endpoint's secret: HMAC-SHA256 over `<t>.<body>`, keyed with the secret string as given."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def headers(self, body: bytes, *, t: int) -> dict[str, str]:
        """`t` is the time of sending, Unix seconds."""
        mac = hmac.new(self.secret.encode(), b"%d." % t + body, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={t},v1={mac}"}
