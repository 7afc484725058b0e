"""SD-JWTs and chains of them, signed for tests: ES256, disclosures, key binding."""

import json
from base64 import urlsafe_b64encode
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from auditlog.core.wire.keys import load


def b64(value: bytes | str) -> str:
    return urlsafe_b64encode(value.encode() if isinstance(value, str) else value).rstrip(b"=").decode()


def digest(text: str) -> str:
    return b64(sha256(text.encode()).digest())


class P256:
    """A key that signs JWTs."""

    def __init__(self, kid: str, number: int) -> None:
        self.kid = kid
        self._key = ec.derive_private_key(number, ec.SECP256R1())
        public = self._key.public_key().public_numbers()
        self.jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64(public.x.to_bytes(32)),
            "y": b64(public.y.to_bytes(32)),
            "use": "sig",
            "alg": "ES256",
        }

    @property
    def loaded(self):
        return load(self.jwk, self.kid)

    def jwt(self, claims: dict, typ: str = "JWT", **header) -> str:
        message = (
            b64(json.dumps({"alg": "ES256", "typ": typ, "kid": self.kid} | header)) + "." + b64(json.dumps(claims))
        )
        r, s = decode_dss_signature(self._key.sign(message.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{message}.{b64(r.to_bytes(32) + s.to_bytes(32))}"


def disclosure(*parts) -> str:
    return b64(json.dumps(["salt", *parts]))


def token(key: P256, content: dict, *, typ: str = "dc+sd-jwt", hide: bool = True, **claims) -> str:
    """An SD-JWT that delegates `content`, hidden behind a disclosure as AP2's own SDK does it."""
    shown = disclosure(content)
    items = [{"...": digest(shown)}] if hide else [content]
    jwt = key.jwt({"_sd_alg": "sha-256", "delegate_payload": items} | claims, typ)
    return f"{jwt}~{shown}~" if hide else f"{jwt}~"


def hop(key: P256, before: str, content: dict, **claims) -> str:
    """The next token, bound to the one before it."""
    typ = claims.pop("typ", "kb+sd-jwt+kb" if "cnf" in content else "kb+sd-jwt")
    bound = {"iat": 1_795_000_050, "aud": "https://verifier.example", "nonce": "n", "sd_hash": digest(before)} | claims
    return token(key, content, typ=typ, **{k: v for k, v in bound.items() if v is not None})


def chain(*tokens: str) -> str:
    return "~~".join(one.rstrip("~") for one in tokens) + "~"
