"""The published format says what ingest does: the schema fits what is signed, and every vector is judged as it says."""

import json
from base64 import urlsafe_b64decode

import jsonschema
import pytest

from auditlog.api import published
from auditlog.core.errors import Refused
from auditlog.core.event import LAYER_OF_TYPE, act_chain
from auditlog.core.wire.keys import load
from auditlog.formats import Delivery, Sender
from auditlog.formats.set import receive
from auditlog.simulator.story import demo_story

VECTORS = json.loads(published.vectors())
SCHEMA = json.loads(published.event_schema())
CHECK = jsonschema.Draft202012Validator(SCHEMA)
SENDER = Sender(
    VECTORS["tenant"], "vectors", VECTORS["issuer"],
    keys={jwk["kid"]: load(jwk, jwk["kid"]) for jwk in VECTORS["jwks"]["keys"]},
)  # fmt: skip


def claims_of(compact):
    payload = compact.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def taken(compact):
    [statement] = receive(Delivery(compact.encode(), "application/secevent+jwt", {}), SENDER).statements.values()
    return statement


def test_the_schema_is_a_schema_and_names_every_type():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    urns = set(SCHEMA["properties"]["events"]["properties"])
    assert urns == {f"urn:answerable:event:{name}:v1" for name in LAYER_OF_TYPE}
    assert "\\\\Z" not in json.dumps(SCHEMA)  # Python's own; other engines read it as the letter Z
    for example in SCHEMA["examples"]:
        CHECK.validate(example)


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_a_valid_vector_is_taken_and_means_what_it_says(vector):
    statement = taken(vector["set"])

    event = statement.event
    assert claims_of(vector["set"]) == vector["claims"]
    assert not list(CHECK.iter_errors(vector["claims"]))
    assert (statement.grade, event.source_event_id) == ("A", vector["claims"]["jti"])
    assert event.type in vector["type"] or event.type == "other.vectors.acme.thing"
    assert (
        [party.key for party in act_chain(event.payload.actor)] == vector["act_chain"]
        if event.payload.actor
        else not vector["act_chain"]
    )


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_a_bad_vector_is_refused_for_the_reason_it_names(vector):
    with pytest.raises(Refused) as refused:
        taken(vector["set"])

    assert refused.value.err == vector["err"]
    assert (not list(CHECK.iter_errors(claims_of(vector["set"])))) == vector["fits_schema"]


def test_vectors_are_the_same_bytes_every_time():
    published.vectors.cache_clear()
    assert json.loads(published.vectors()) == VECTORS


def test_the_private_key_of_the_vectors_signs_them():
    from joserfc import jws
    from joserfc.jwk import OKPKey

    key = OKPKey.import_key(VECTORS["private_jwk"])
    for vector in VECTORS["valid"]:
        assert jws.deserialize_compact(vector["set"], key, algorithms=["EdDSA", "Ed25519"]).payload


def test_everything_the_simulator_signs_fits_the_schema(now):
    story = demo_story(seed=7, now=now, tenant="default")
    own = {spec.name for spec in story.sources if spec.format == "set"}
    tampered = {refusal.position for refusal in story.refusals}
    seen = set()

    for position, signed in enumerate(story.deliveries):
        if signed.source in own and position not in tampered:
            claims = claims_of(signed.raw.decode())
            assert not list(CHECK.iter_errors(claims)), claims
            seen.update(claims["events"])

    assert len(seen) > 10
