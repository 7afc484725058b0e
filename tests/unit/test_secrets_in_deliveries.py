"""No secret in anything that is stored of a delivery, whichever format, wherever in it the secret stands."""

import copy
import json
from base64 import b64encode

import pytest

from auditlog.core.errors import Refused
from auditlog.core.wire.redaction import clean_text
from auditlog.formats import NAMES, Statement, named
from tests.deliveries import SAMPLES

MARK = "hunter2Mark99"
PAYMENT_TOKEN = f"spt_1{MARK}"
NONE_TAKEN = (
    "set",
    "caep",
    "ap2",
    "peac",
)  # of what is signed nothing can be taken out; PEAC's records have no other fields
NAMED = ["access_token", "Refresh-Token", "REFRESH_TOKEN", "bearerToken", "github_access_token", "confirmation_secret", "Confirmation-Secret",
         "CONFIRMATIONSECRET", "access_configuration", "accessConfiguration", "cvc", "stripe_payment_token"]  # fmt: skip
TEXTS = [
    PAYMENT_TOKEN,
    f"Bearer {MARK}",
    f"curl -H 'authorization: bearer {MARK}'",
    f"/v1/tokens/{PAYMENT_TOKEN}?x=1",
    f"https://x.example/cb?refresh_token={MARK}",
    f"eyJhbGciOiJFUzI1NiJ9.e30.{MARK}",
    json.dumps({"a": {"access_token": MARK}}),
    b64encode(json.dumps({"access_token": MARK}).encode()).decode(),
]
BODIES = [(name, n) for name in NAMES for n in range(len(SAMPLES[name].bodies))]


def dicts(value):
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from dicts(inner)


def kept(name, document):
    """Everything that we would keep of a delivery; nothing for what is refused."""
    sample = SAMPLES[name]
    body = (
        b"\n".join(json.dumps(one).encode() for one in document)
        if isinstance(document, tuple)
        else json.dumps(document).encode()
    )
    try:
        found = list(named(name).receive(sample.deliver(body), sample.known).statements.values())
    except Refused as refused:
        found = [refused]
    good = [one for one in found if isinstance(one, Statement)]
    told = [clean_text(str(one)[:500]) for one in found if isinstance(one, Refused)]
    return good, "".join(f"{one.raw!r} {one.headers!r} {one.event!r}" for one in good) + " ".join(told)


def opened(name, n):
    body = SAMPLES[name].bodies[n]
    return tuple(json.loads(line) for line in body.split(b"\n")) if b"}\n{" in body else json.loads(body)


@pytest.mark.parametrize(("name", "n"), BODIES)
def test_a_secret_by_its_name_is_stored_nowhere(name, n):
    sample = opened(name, n)
    count = len(list(dicts(list(sample) if isinstance(sample, tuple) else sample)))
    taken = 0
    for place in range(count):
        for secret in NAMED:
            document = copy.deepcopy(sample)
            list(dicts(list(document) if isinstance(document, tuple) else document))[place][secret] = (
                {"deep": [MARK]} if place % 2 and "payment_token" not in secret else MARK
            )
            good, everything = kept(name, document)
            assert MARK not in everything, (place, secret)
            taken += len(good)
    assert taken or name in NONE_TAKEN


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("name", "n"), BODIES)
def test_a_secret_by_its_looks_is_stored_nowhere(name, n, text):
    sample = opened(name, n)
    for place, holder in enumerate(dicts(list(sample) if isinstance(sample, tuple) else sample)):
        for field in [*holder, "more"]:
            document = copy.deepcopy(sample)
            list(dicts(list(document) if isinstance(document, tuple) else document))[place][field] = text
            _, everything = kept(name, document)
            assert (
                MARK not in everything
                and b64encode(json.dumps({"access_token": MARK}).encode()).decode() not in everything
            ), (place, field)


@pytest.mark.parametrize(("name", "n"), BODIES)
def test_a_card_number_is_refused_by_every_format(name, n):
    sample = opened(name, n)
    for place, _ in enumerate(dicts(list(sample) if isinstance(sample, tuple) else sample)):
        for number in (
            "4242424242424242",
            "4242 4242 4242 4242",
            4242424242424242,
            json.dumps({"number": "4242424242424242"}),
        ):
            document = copy.deepcopy(sample)
            list(dicts(list(document) if isinstance(document, tuple) else document))[place]["number"] = number
            _, everything = kept(name, document)
            assert "4242424242424242" not in everything and "4242 4242" not in everything, (place, number)


@pytest.mark.parametrize(("name", "more"), [
    ("cloudtrail", {"requestParameters": {"masterUserPassword": MARK}}), ("cloudtrail", {"requestParameters": {"secretString": MARK}}),
    ("cloudtrail", {"requestParameters": {"tokenCode": MARK, "userData": MARK}}), ("okta", {"debugContext": {"debugData": {"url": f"/cb?code={MARK}&state=x"}}}),
    ("x402", {"payment": {"payload": {"signature": MARK, "authorization": {"from": "0x"}}}}), ("github", {"token": f"ghp_{MARK}0123456789abcdef0123"}),
    ("github", {"config": {"url": f"https://u:{MARK}@x.example/"}}), ("auth0", {"new_password": MARK}), ("keycloak", {"details": {"db_password": MARK}}),
])  # fmt: skip
def test_what_is_a_secret_to_its_sender_is_stored_nowhere(name, more):
    good, stored = kept(name, json.loads(SAMPLES[name].bodies[0]) | more)

    assert good and MARK not in stored
