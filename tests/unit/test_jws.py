"""Compact JWS: opened strictly, checked under configured keys alone."""

import json

import pytest

from auditlog.core.errors import BadSignature, MalformedEvent, UnknownKey
from auditlog.core.wire.jws import check_jws, key_of, open_jws
from tests.deliveries import KEYS, compact_jws

GOOD = compact_jws(b'{"a": 1}').decode()


def test_what_was_signed_opens_and_checks():
    jws = open_jws(GOOD)

    assert jws.claims == {"a": 1} and check_jws(jws, key_of(jws, KEYS)) is KEYS["k1"]


@pytest.mark.parametrize(
    "compact",
    [
        "",
        "a.b",
        GOOD + ".x",
        GOOD.replace(".", "=.", 1),
        GOOD + "=",
        compact_jws(b"[1]").decode(),
        compact_jws(b"no json").decode(),
        "é.é.é",
        "a.a.a",
        "x" * 70_000,
    ],
)
def test_what_is_no_compact_jws_of_an_object_is_refused(compact):
    with pytest.raises(MalformedEvent):
        open_jws(compact)


def test_a_changed_claim_is_refused():
    head, _, signature = GOOD.split(".")
    forged = open_jws(".".join((head, compact_jws(b'{"a": 2}').decode().split(".")[1], signature)))

    with pytest.raises(BadSignature):
        check_jws(forged, KEYS["k1"])


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES256"}, {"alg": 5}, {"crit": ["b64"]}])
def test_algorithms_that_are_not_ours_and_critical_headers_are_refused(header):
    with pytest.raises((UnknownKey, MalformedEvent)):
        check_jws(open_jws(compact_jws(b"{}", **header).decode()), KEYS["k1"])


def test_a_key_is_named_by_its_id_or_thumbprint_and_never_by_the_header_itself():
    thumb = KEYS["k1"].thumbprint
    assert key_of(open_jws(compact_jws(b"{}", kid=thumb).decode()), KEYS) is KEYS["k1"]
    assert key_of(open_jws(compact_jws(b"{}", kid=None).decode()), KEYS) is KEYS["k1"]
    for kid in ("other", json.dumps({})):
        with pytest.raises(UnknownKey):
            key_of(open_jws(compact_jws(b"{}", kid=kid, jwk={"kty": "OKP"}).decode()), KEYS)
    with pytest.raises(UnknownKey):
        key_of(open_jws(compact_jws(b"{}", kid=None).decode()), KEYS | {"k2": KEYS["k1"]})
