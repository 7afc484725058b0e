"""RFC 9421: published vectors, the body bound by its digest, what was signed stored and checked again."""

import json
from base64 import b64encode
from hashlib import sha256
from urllib.parse import urlsplit

import pytest

from auditlog.core.errors import BadSignature, Refused, UnknownKey
from auditlog.core.event import act_chain
from auditlog.core.wire.http_signature import check_content_digest, check_signature, signature_base, signatures
from auditlog.core.wire.keys import load, public_jwk
from auditlog.formats import Delivery, http_signatures
from tests import vectors
from tests.deliveries import KEYS, SIGNED_BODY, SIGNER, received, sender_of, signed_request

SENDER = sender_of("http_signatures", keys=KEYS)
BODY = json.dumps(SIGNED_BODY).encode()


def push(delivery, sender=SENDER):
    [statement] = http_signatures.receive(delivery, sender).statements.values()
    return statement


def refusal(delivery, sender=SENDER):
    with pytest.raises(Refused) as caught:
        push(delivery, sender)
    return caught.value


def published():
    for version in ("v1", "v2"):
        for vector in vectors.read(f"http-signatures/web_bot_auth_architecture_{version}.json"):
            url = urlsplit(vector["target_url"])
            headers = {":method": "GET", ":scheme": url.scheme, ":authority": url.netloc, ":path": url.path,
                       "signature": vector["signature"], "signature-input": vector["signature_input"]}  # fmt: skip
            if "signature_agent" in vector:
                headers["signature-agent"] = vector["signature_agent"]
            jwk = {
                name: value for name, value in vector["key"].items() if name not in ("d", "p", "q", "dp", "dq", "qi")
            }
            yield headers, {jwk["kid"]: load(public_jwk(jwk), jwk["kid"])}


def test_all_published_vectors_verify_by_the_keys_thumbprint():
    count = 0
    for headers, keys in published():
        [signed] = signatures(headers)
        assert check_signature(signed, headers, keys).thumbprint == signed.parameters["keyid"]
        count += 1
    assert count == 8


@pytest.mark.parametrize("name", [":authority", "signature-agent", "signature-input", "signature"])
def test_a_change_to_any_signed_part_of_a_published_vector_is_refused(name):
    for headers, keys in published():
        if name not in headers:
            continue
        value = headers[name]
        broken = headers | {name: value.replace("created=1735689600", "created=1735689601") if name == "signature-input"
                            else value.replace(":", ":AAAA", 1) if name == "signature" else value.replace("e", "f")}  # fmt: skip
        with pytest.raises(BadSignature):
            [signed] = signatures(broken)
            check_signature(signed, broken, keys)


def test_a_signed_event_is_grade_b_under_its_key():
    statement = push(signed_request(BODY))

    assert (statement.grade, statement.key) == ("B", KEYS["k1"].thumbprint)
    assert (statement.source_event_id, statement.event.type, statement.event.txn) == (
        "rs-1",
        "payment.captured",
        "txn-1",
    )
    assert [p.sub for p in act_chain(statement.event.payload.actor)] == ["agent-0", "agent-1"]
    assert statement.event.issued_at.timestamp() == 1_795_000_000


def test_what_was_signed_is_stored_and_verifies_again():
    statement = push(signed_request(BODY, **{"x-other": "not signed", "authorization": "Bearer x"}))
    headers = json.loads(statement.headers)

    assert set(headers) == {
        ":method",
        ":authority",
        ":scheme",
        ":path",
        "content-digest",
        "signature",
        "signature-input",
    }
    assert push(Delivery(statement.raw, "application/json", headers)) == statement


def test_a_signature_that_leaves_the_body_out_is_not_enough():
    assert "content-digest" in str(refusal(signed_request(BODY, '"@method" "@authority"')))


def test_another_body_than_the_signed_one_is_refused():
    good = signed_request(BODY)

    assert (
        refusal(Delivery(BODY.replace(b"1200", b"9900"), good.content_type, good.headers)).err
        == "authentication_failed"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {":method": "PUT"},
        {":authority": "elsewhere.example"},
        {":path": "/ingest/other"},
        {"content-digest": ""},
        {"content-digest": "md5=:AAAA:"},
        {"signature": ""},
        {"signature": "sig1=:!!:"},
        {"signature": "sig2=:AAAA:"},
        {"signature-input": "sig1=nonsense"},
        {"signature-input": 'sig1=("content-digest" "content-digest");created=1;keyid="k1"'},
        {"signature-input": 'sig1=("content-digest" "x-absent");created=1;keyid="k1"'},
        {"signature-input": 'sig1=("content-digest");keyid="k1"'},
        {"signature-input": 'sig1=("content-digest";bs);created=1;keyid="k1"'},
        {"signature-input": 'sig1=("' + "a" * 9000},
    ],
)
def test_every_signed_part_counts(changes):
    assert refusal(signed_request(BODY, **changes)).err == "authentication_failed"


def test_keys_that_are_not_the_sources_and_algorithms_that_do_not_fit_are_refused():
    assert refusal(signed_request(BODY), sender_of("http_signatures")).err == "invalid_key"
    with_alg = 'sig1=("content-digest");created=1795000000;keyid="k1";alg='
    assert refusal(signed_request(BODY, **{"signature-input": with_alg + '"hmac-sha256"'})).err == "invalid_key"
    assert refusal(signed_request(BODY, **{"signature-input": with_alg + '"rsa-pss-sha512"'})).err == "invalid_key"


def test_a_proxys_signature_beside_ours_does_no_harm():
    good = signed_request(BODY)
    headers = dict(good.headers)
    headers["signature-input"] = 'proxy=("content-digest");created=1;keyid="px", ' + headers["signature-input"]
    headers["signature"] = "proxy=:AAAA:, " + headers["signature"]

    assert push(Delivery(BODY, "application/json", headers)) == push(good)


def test_derived_components_are_those_of_the_specification():
    # RFC 9421 section 2.2, its own examples.
    headers = {":method": "POST", ":scheme": "https", ":authority": "WWW.Example.com:443", ":path": "/path?param=value&other=x%20y",
               "signature": "s=:AAAA:", "signature-input": 's=("@method" "@target-uri" "@authority" "@scheme" "@request-target" "@path" '
               '"@query" "@query-param";name="param")'}  # fmt: skip
    [signed] = signatures(headers)

    assert signature_base(signed, headers).decode().split("\n")[:-1] == [
        '"@method": POST',
        '"@target-uri": https://www.example.com/path?param=value&other=x%20y',
        '"@authority": www.example.com',
        '"@scheme": https',
        '"@request-target": /path?param=value&other=x%20y',
        '"@path": /path',
        '"@query": ?param=value&other=x%20y',
        '"@query-param";name="param": value',
    ]


def test_the_digest_of_the_specifications_example_fits():
    # RFC 9530 appendix D: the body {"hello": "world"} and a line feed.
    body = b'{"hello": "world"}\n'
    check_content_digest(body, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:")
    with pytest.raises(BadSignature):
        check_content_digest(body[:-1], "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:")


@pytest.mark.parametrize(
    "changes", [{"data": {"outcome": 1}}, {"type": "urn:answerable:event:payment.captured:v1", "data": {}}]
)
def test_bodies_of_wrong_types_are_refused(changes):
    assert refusal(signed_request(json.dumps(SIGNED_BODY | changes).encode())).err == "invalid_request"


def test_a_body_with_a_secret_is_worth_its_channel():
    [statement] = received(
        "http_signatures", SIGNED_BODY | {"api_key": "hunter2"}, sender=SENDER, deliver=signed_request
    ).values()

    assert (statement.grade, statement.key) == ("D", "-") and b"hunter2" not in statement.raw


def test_hostile_headers_are_read_in_linear_time():
    import time

    started = time.perf_counter()
    for hostile in (
        "sig1=(" + '"' * 8000,
        "sig1=(" + "\\" * 8000,
        'sig1=("a"' + ';a="' * 2000,
        "a=(" * 2600,
        "sig1=()" + ';"' * 4000,
        'sig1=("a' + '\\"' * 4000,
    ):
        with pytest.raises((BadSignature, UnknownKey)):
            push(signed_request(BODY, **{"signature-input": hostile}))
    assert time.perf_counter() - started < 1


def test_a_digest_of_a_kind_we_do_not_know_proves_nothing():
    for header in ("", "md5=:AAAA:", "sha-256=AAAA"):
        with pytest.raises(BadSignature, match="expected Content-Digest"):
            check_content_digest(b"", header)


def test_a_component_signed_twice_is_refused():
    headers = {":method": "POST", "signature": "s=:AAAA:", "signature-input": 's=("@method" "@method")'}
    [signed] = signatures(headers)

    with pytest.raises(BadSignature, match="twice"):
        signature_base(signed, headers)


def test_one_member_of_a_dictionary_header_is_signed_alone():
    headers = {"signature-agent": 'one="https://a", two="https://b"', "signature": "s=:AAAA:",
               "signature-input": 's=("signature-agent";key="two")'}  # fmt: skip
    [signed] = signatures(headers)

    assert signature_base(signed, headers).split(b"\n")[0] == b'"signature-agent";key="two": "https://b"'


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key", "x-note"])
def test_a_credential_that_was_signed_along_is_not_stored(name):
    value = "Bearer s3cretValue99"
    components = '"@method" "content-digest" "' + name + '"'
    params = f'({components});created=1795000000;keyid="k1"'
    given = signed_request(BODY)
    base = f'"@method": POST\n"content-digest": {given.headers["content-digest"]}\n"{name}": {value}\n"@signature-params": {params}'
    signature = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
    headers = given.headers | {name: value, "signature-input": f"sig1={params}", "signature": f"sig1=:{signature}:"}

    statement = push(Delivery(BODY, "application/json", headers))

    assert (statement.grade, statement.key) == ("D", "-")
    assert b"s3cretValue99" not in statement.headers + statement.raw
    assert json.loads(statement.headers)["removed"] == f"header {name}"


def test_a_credential_in_the_signed_path_is_not_stored():
    path = "/ingest/robot?access_token=s3cretValue99"
    params = '("@request-target" "content-digest");created=1795000000;keyid="k1"'
    given = signed_request(BODY)
    base = (
        f'"@request-target": {path}\n"content-digest": {given.headers["content-digest"]}\n"@signature-params": {params}'
    )
    signature = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
    headers = given.headers | {":path": path, "signature-input": f"sig1={params}", "signature": f"sig1=:{signature}:"}

    statement = push(Delivery(BODY, "application/json", headers))

    assert statement.grade == "D" and b"s3cretValue99" not in statement.headers


def with_lines(value, signed_as):
    """A request whose `x-trace` came as `value`, signed as `signed_as`."""
    params = '("x-trace" "content-digest");created=1795000000;keyid="k1"'
    plain = signed_request(BODY)
    base = f'"x-trace": {signed_as}\n"content-digest": {plain.headers["content-digest"]}\n"@signature-params": {params}'
    made = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
    return signed_request(
        BODY, **{"x-trace": value, "signature-input": f"sig1={params}", "signature": f"sig1=:{made}:"}
    )


@pytest.mark.parametrize(
    ("handed_on", "signed_as"),
    [
        ("a,b", "a, b"),
        ("a,b", "a,b"),
        ("a, b", "a, b"),
        ("a,b,c", "a,b, c"),
        ("a,b,c", "a, b, c"),
        ("1,2,3,4,5,6", "1, 2, 3, 4, 5, 6"),
    ],
)
def test_a_header_sent_on_several_lines_is_read_as_it_was_signed(handed_on, signed_as):
    statement = push(with_lines(handed_on, signed_as))

    assert (
        statement.grade == "B" and json.loads(statement.headers)["x-trace"] == signed_as
    )  # so it can be checked again


@pytest.mark.parametrize("signed_as", ["a,  b", "a ,b", "a;b", "a, c", "ab"])
def test_nothing_but_one_blank_after_a_comma_is_read_otherwise(signed_as):
    assert refusal(with_lines("a,b", signed_as)).err == "authentication_failed"


def test_a_misspelt_keyid_names_the_key():
    params = '("content-digest"); created=1795000000; keyId="k1"; alg="ed25519"; tag="agent-payer-auth"'
    plain = signed_request(BODY)
    base = f'"content-digest": {plain.headers["content-digest"]}\n"@signature-params": {params}'
    made = b64encode(SIGNER._key.sign(base.encode()).signature).decode()

    statement = push(signed_request(BODY, **{"signature-input": f"sig1={params}", "signature": f"sig1=:{made}:"}))

    assert 'keyId="k1"' in json.loads(statement.headers)["signature-input"]


def test_a_digest_may_have_parameters():
    digest = "sha-256=:" + b64encode(sha256(BODY).digest()).decode() + ":"

    check_content_digest(BODY, f"{digest};note=1;x")
    with pytest.raises(BadSignature):
        check_content_digest(BODY + b" ", f"{digest};note=1")
