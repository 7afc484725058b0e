"""Redaction: what may not be stored is gone, what was received can still be proved, and the rest is untouched."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from binascii import a2b_base64
from hashlib import sha256

import pytest

from auditlog.core.errors import MalformedEvent
from auditlog.core.wire.redaction import NEVER_STORED, payment_token, redact


@pytest.mark.parametrize(
    "name",
    ["access_token", "Refresh-Token", "confirmationSecret", "access_configuration", "client_secret", "Set-Cookie"],
)
@pytest.mark.parametrize("value", ["hunter2", {"deep": ["x"]}, ["y"], 17])
def test_a_secret_by_name_is_removed_however_it_is_written(name, value):
    document = json.dumps({"keep": 1, "a": [{"b": {name: value}}]}).encode()

    clean = redact(document)

    assert json.loads(clean.raw) == {"keep": 1, "a": [{"b": {name: "[removed]"}}]}
    assert clean.headers == {"received-sha256": sha256(document).hexdigest(), "removed": f"a.0.b.{name}"}


@pytest.mark.parametrize(
    "value",
    ["Bearer abc.def-123", "basic QWxhZGRpbjpvcGVu", "Payment eyJjaGFsbGVuZ2UiOjF9", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"],
)
def test_a_credential_by_its_looks_is_removed_under_any_name(value):
    assert json.loads(redact(json.dumps({"note": value, "list": [value]}).encode()).raw) == {
        "note": "[removed]",
        "list": ["[removed]"],
    }


def test_a_shared_payment_token_becomes_its_digest_and_stays_joinable():
    clean = redact(b'{"payment": {"stripe_payment_token": "spt_123abc"}}')

    assert b"spt_123abc" not in clean.raw
    assert b"vt_01J8Z3WXYZ9ABC" not in redact(b'{"id": "vt_01J8Z3WXYZ9ABC"}').raw
    assert b"vt_enabled" in redact(b'{"id": "vt_enabled", "password": "x"}').raw
    assert json.loads(clean.raw)["payment"]["stripe_payment_token"] == payment_token("spt_123abc")
    for n in range(50):  # a digest looks like a token itself, now and then
        once = payment_token(f"spt_{n}")
        assert payment_token(once) == once


@pytest.mark.parametrize(
    "document",
    [
        b'{"a":1}',
        b'{"token_id": "t1", "jti": "x", "token_type": "Bearer"}',
        b'{"password": null, "secret": "", "cookie": false}',
        b"[]",
        b'"token"',
    ],
)
def test_what_holds_no_secret_comes_back_as_the_same_bytes(document):
    clean = redact(document)

    assert clean.raw is document and clean.headers == {}


@pytest.mark.parametrize(
    "text",
    [
        "Basic Subscription",
        "Payment confirmation",
        "Bearer somebody",
        "basic plan: monthly",
        "eyJ.a",
        "Payment 2026-01",
    ],
)
def test_words_that_begin_like_a_credential_stay(text):
    document = json.dumps({"description": text}).encode()

    assert redact(document).raw is document


def test_redacting_twice_changes_nothing_more():
    once = redact(b'{"password": "p", "x": "spt_abc"}')

    assert redact(once.raw).headers == {} and redact(once.raw).raw == once.raw


def test_an_escaped_name_does_not_hide_a_secret():
    assert b"hunter2" not in redact(b'{"pass\\u0077ord": "hunter2"}').raw


@pytest.mark.parametrize(
    "document",
    [
        b'{"password": "x", "password": null}',
        b'{"a": {"password" : "x", "password" : ""}}',
        b'{"token_id": "a:b", "a": 1, "a": 2}',
        b'{"password":"x","password":null,"b" : 1}',
    ],
)
def test_a_name_that_is_there_twice_cannot_hide_a_secret(document):
    with pytest.raises(MalformedEvent, match="twice"):
        redact(document)


def test_colons_in_texts_and_spaces_before_them_are_no_repetition():
    for document in (
        b'{"note": "say \\":\\" twice", "token_id": 1}',
        b'{"token_id" : 1, "b" : 2}',
        b'[{"token_id":1},{"token_id":1}]',
    ):
        assert redact(document).raw == document


def test_a_card_number_does_not_hide_behind_its_name():
    from auditlog.core.wire.cards import refuse_card_numbers

    for escaped in (b"\\u0034", b"4\\u0020", b"4\\u002d", b"4\\u002D"):
        with pytest.raises(MalformedEvent, match="pan"):
            refuse_card_numbers(b'{"pan": "' + escaped + b'242424242424242"}')
    with pytest.raises(MalformedEvent, match="number"):
        refuse_card_numbers(b'{"a": [{"number": "4242 4242 4242 4242", "number": "x"}]}')


def test_what_cannot_be_read_is_refused_and_not_passed_on():
    with pytest.raises(MalformedEvent):
        redact(b'{"password": "x"')


def test_every_secret_name_is_known():
    for name in NEVER_STORED:
        assert b"[removed]" in redact(json.dumps({name: "x"}).encode()).raw, name


def test_a_format_may_name_more_secrets():
    assert (
        redact(b'{"representation": "x"}', names=NEVER_STORED | {"representation"}).raw
        == b'{"representation":"[removed]"}'
    )


def test_deep_documents_do_not_crash():
    with pytest.raises(MalformedEvent):
        redact(b'{"password":' * 5000 + b"1" + b"}" * 5000)


def test_what_a_format_keeps_by_name_stays_though_it_looks_like_a_credential():
    document = b'{"Stripe-Signature-V2":"eyJhbGciOiJFZERTQSJ9.e30.c2ln"}'

    assert redact(document, keep=frozenset({"stripesignaturev2"})).raw is document
    assert b"[removed]" in redact(document).raw


SECRET = "s3cretValue99"
PAYMENT_TOKEN = f"spt_1{SECRET}"


def opened(text):
    """What stands in base64 in a text."""
    words = re.findall(r"[A-Za-z0-9+/]{12,}", text.replace("-", "+").replace("_", "/"))
    return [a2b_base64(word[: len(word) // 4 * 4]) for word in words]


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"access_token": SECRET}),
        json.dumps([{"deep": json.dumps({"Refresh-Token": SECRET})}]),
        '{"a": 1, "access_token": "' + SECRET + '", "cut of',
        '{"password": "' + SECRET + '", "password": null}',
        f"/provisioning/deep_links?a=1&access_token={SECRET}&b=2",
        f"/callback?state=access_token=x&refresh_token={SECRET}",
        f"a=b=access_token={SECRET}",
        f"grant_type=refresh_token&refresh_token={SECRET}==",
        f"/v1/shared_payment/issued_tokens/{PAYMENT_TOKEN}",
        f"cannot charge {PAYMENT_TOKEN} again",
        f"curl -H 'Authorization: Bearer {SECRET}' https://api.example",
        f"bad token eyJhbGciOiJFUzI1NiJ9.e30.{SECRET}",
        f"stripe --api-key sk_live_{SECRET}",
        b64encode(json.dumps({"access_token": SECRET}).encode()).decode(),
        b64encode(b" \n" + json.dumps({"access_token": SECRET, "base64": 1}).encode()).decode(),
        b64encode(json.dumps([{"a": {"token": PAYMENT_TOKEN}}], indent=1).encode()).decode(),
        'Payment id="c1", request="'
        + urlsafe_b64encode(json.dumps({"a": "\u00ff?", "client_secret": SECRET}).encode()).decode().rstrip("=")
        + '"',
    ],
)
def test_a_secret_inside_of_a_text_is_removed(value):
    clean = redact(json.dumps({"note": value, "list": [value], "is": "base64"}).encode())

    assert (
        SECRET.encode() not in clean.raw + b"".join(opened(json.loads(clean.raw)["note"]))
        and clean.headers["removed"] == "list.0, note"
    )
    assert redact(clean.raw).raw == clean.raw


def test_a_payment_token_is_no_name_of_a_field_either():
    clean = redact(json.dumps({"tokens": {PAYMENT_TOKEN: {"a": 1}}}).encode())

    assert json.loads(clean.raw) == {"tokens": {payment_token(PAYMENT_TOKEN): {"a": 1}}}
    assert SECRET not in clean.headers["removed"]


@pytest.mark.parametrize(
    "name",
    ["github_access_token", "newRefreshToken", "refresh.token", "X_CONFIRMATION_SECRET", "Old-Access-Configuration"],
)
def test_a_secrets_name_with_more_before_it_is_a_secrets_name(name):
    assert SECRET.encode() not in redact(json.dumps({"a": [{name: SECRET}]}).encode()).raw


def test_what_stands_where_a_payment_token_belongs_is_not_stored_whatever_it_looks_like():
    assert SECRET.encode() not in redact(json.dumps({"stripe_payment_token": f"tok_{SECRET}"}).encode()).raw
    assert redact(b'{"type":"stripe_payment_token","sharedPaymentToken":null}').headers == {}


@pytest.mark.parametrize(
    "text",
    [
        "a=1&token_type=Bearer",
        '{"id": "evt_1"}',
        "[draft] the plan = free",
        "access_token=null",
        "if x = {y}",
        "{not json}",
        "?next_token=abc",
        '{"password": null}',
    ],
)
def test_texts_without_secrets_stay_as_they_are(text):
    document = json.dumps({"note": text}).encode()

    assert redact(document).raw is document


def test_long_texts_are_searched_in_linear_time():
    for text in (
        "a=" * 60_000,
        "x" * 120_000 + "=",
        "Bearer " * 20_000,
        '{"a":' * 30_000,
        "eyJ" * 40_000,
        "eyJa." * 30_000,
        "spt_" * 30_000,
        "a." * 60_000 + "=",
    ):
        redact(json.dumps({"note": text}).encode())


@pytest.mark.parametrize(
    "document",
    [
        b'{"number": " 4242424242424242 "}',
        b'{"number": 4242424242424242}',
        b'{"payment_method": {"Card_Number" : 4242424242424242}}',
        b'{"n": ' + b"1" * 5000 + b', "number": "4242424242424242"}',
        b'{"n": ' + b"[" * 60_000 + b"]" * 60_000 + b', "number": "4242424242424242"}',
        json.dumps({"raw": json.dumps({"number": "4242 4242 4242 4242"})}).encode(),
        json.dumps({"data_base64": b64encode(b' { "number": "4242424242424242" }').decode()}).encode(),
        json.dumps({"data_base64": b64encode(b'{"number": "4242424242424242"}').decode()}).encode(),
        json.dumps({"challenge": 'Payment request="' + b64encode(b'{"number":"4242424242424242"}').decode()}).encode(),
        json.dumps({"raw": json.dumps([{"raw": json.dumps({"number": 4242424242424242})}])}).encode(),
    ],
)
def test_a_card_number_is_found_however_it_is_written(document):
    from auditlog.core.wire.cards import refuse_card_numbers

    with pytest.raises(MalformedEvent) as refused:
        refuse_card_numbers(document)

    assert "4242" not in str(refused.value)


def test_long_numbers_that_are_no_cards_pass():
    from auditlog.core.wire.cards import refuse_card_numbers

    refuse_card_numbers(
        b'{"sequence": {"number": 1795000000123}, "time": 4242424242424242, "numbers": [4242424242424242], "number": 4242424242424241}'
    )


KEYS = ["sk-proj-0123456789abcdefghij", "sk-ant-api03-0123456789abcdefghij", "sk-0123456789abcdefghijklmn", "ghp_0123456789abcdefghij0123456789abcdef",
        "github_pat_0123456789abcdefghijkl_mnop", "glpat-0123456789abcdefghij", "xoxb-123456789012-abcdefghijkl"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["{}", "Incorrect API key provided: {}.", "curl -u x:{} y", "['{}']"])
def test_a_key_that_says_by_its_beginning_what_it_is_is_removed_from_any_text(key, text):
    clean = redact(json.dumps({"a": {"note": text.format(key)}}).encode())

    assert key.encode() not in clean.raw and clean.headers["removed"] == "a.note"


def test_a_password_in_an_address_is_removed_and_the_address_stays():
    clean = redact(b'{"url":"https://ada:hunter2@x.example/a?b"}')

    assert clean.raw == b'{"url":"https://ada:[removed]@x.example/a?b"}'


@pytest.mark.parametrize("text", ["task-0123456789abcdefghijklmn", "sk-learn and more", "risk-proj-0123456789abcdef", "ghp_short", "https://x.example:8080/a@b",
                                  "https://x.example/a:b@c", "ada@x.example at https://y.example", "sk-abcdefghijklmnopqrstuvwxyz"])  # fmt: skip
def test_words_that_only_look_like_a_key_stay(text):
    document = json.dumps({"note": text}).encode()

    assert redact(document).raw == document
