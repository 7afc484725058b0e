"""Keys and signatures, against Wycheproof's valid and hostile cases."""

import pytest

from auditlog.core.errors import BadSignature, ConfigurationError, UnknownKey
from auditlog.core.wire.keys import b64url, load, public_jwk, thumbprint
from tests import vectors


def accepts(check, message, signature):
    try:
        check(message, signature)
    except BadSignature:
        return False
    return True


def test_ed25519_agrees_with_wycheproof():
    cases = 0
    for group in vectors.read("wycheproof/ed25519_test.json")["testGroups"]:
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes.fromhex(group["publicKey"]["pk"]))}
        check = load(jwk, "k").check_for("EdDSA")
        for case in group["tests"]:
            taken = accepts(check, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert taken == (case["result"] == "valid"), case["comment"]
            cases += 1
    assert cases > 100


def test_es256_agrees_with_wycheproof():
    cases = 0
    for group in vectors.read("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json")["testGroups"]:
        x, y = (bytes.fromhex(group["publicKey"][name])[-32:] for name in ("wx", "wy"))
        jwk = {"kty": "EC", "crv": "P-256", "x": b64url(x.rjust(32, b"\0")), "y": b64url(y.rjust(32, b"\0"))}
        check = load(jwk, "k").check_for("ES256")
        for case in group["tests"]:
            taken = accepts(check, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert taken == (case["result"] == "valid"), case["comment"]
            cases += 1
    assert cases > 100


def test_thumbprint_is_that_of_rfc_7638_section_3_1():
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHz"
        "u6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a"
        "wapJzKnqDKgw",
        "e": "AQAB",
    }

    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_private_key_is_refused_without_repeating_it():
    with pytest.raises(ConfigurationError, match="private") as caught:
        public_jwk({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "d": "c2VjcmV0", "kid": "k"})

    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "use": "enc"},
        "not a key",
    ],
)
def test_keys_that_cannot_sign_for_us_are_refused(jwk):
    with pytest.raises(ConfigurationError):
        public_jwk(jwk)


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "x": b64url(b"\1" * 32)},
        {"kty": "EC", "crv": "P-256", "x": b64url(b"\1" * 32), "y": b64url(b"\1" * 32)},
        {"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"},
        {"kty": "RSA", "n": b64url(b"\xff" * 128), "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519", "x": b64url(b"\1" * 32), "alg": "ES256"},
    ],
)
def test_malformed_and_weak_keys_are_refused(jwk):
    with pytest.raises(ConfigurationError):
        load(jwk, "k")


def test_an_algorithm_that_does_not_fit_the_key_is_refused():
    key = load({"kty": "OKP", "crv": "Ed25519", "x": b64url(b"\1" * 32)}, "k")

    with pytest.raises(UnknownKey, match="RS256"):
        key.check_for("RS256")
