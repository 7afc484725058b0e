"""Auth0 log streams: actor chains, failures, content formats, authentication."""

import copy
import json

import jsonschema
import pytest

from auditlog.core.errors import Refused
from auditlog.core.event import act_chain
from tests import vectors
from tests.deliveries import AUTH0, TOKEN, event_in, received, sender_of, with_token


def log(**changes):
    record = copy.deepcopy(AUTH0)
    details = changes.pop("details", {})
    record["data"] |= changes
    record["data"]["details"] |= details
    return record


def refusal(body, **how):
    with pytest.raises(Refused) as caught:
        received("auth0", body, **how)
    return caught.value


def schema(name):
    return vectors.read(f"auth0/{name}.schema.json")


def test_a_nested_actor_chain_is_read_with_the_deepest_as_the_oldest():
    event = event_in("auth0", AUTH0)

    assert event.type == "token.exchanged" and event.payload.mode == "delegation"
    assert [p.sub for p in act_chain(event.payload.actor)] == ["assistant", "agt_2", "agt_7"]
    assert [p.kind for p in act_chain(event.payload.actor)] == ["unknown", "unknown", "agent"]
    assert (event.principal_claim.sub, event.principal_claim.kind) == ("auth0|ada", "human")


def test_the_issued_token_is_stated_with_subject_actor_audience_and_scope():
    token = event_in("auth0", AUTH0).payload.token

    assert (token.jti, token.subject.sub, token.actor.sub) == ("jti-3", "auth0|ada", "agt_7")
    assert (token.audience, token.scope) == (["https://api.provider.example/"], "worker:write domain:register")


def test_the_clients_address_and_time_are_kept_to_the_millisecond():
    event = event_in("auth0", AUTH0)

    assert (event.payload.client.ip, event.payload.client.user_agent) == ("203.0.113.7", "agent/1")
    assert event.occurred_at.isoformat() == "2026-11-20T10:30:00.250000+00:00"
    assert event.source_event_id == AUTH0["log_id"]


@pytest.mark.parametrize("scope", [["a", "b"], "a b"])
def test_scope_is_a_list_or_one_string(scope):
    assert event_in("auth0", log(scope=scope)).payload.token.scope == "a b"


def test_the_application_is_no_actor_and_may_act_is_no_hop():
    event = event_in("auth0", log(agent_id=None, details={"actor": None, "may_act": {"sub": "somebody"}}))

    assert event.payload.actor is None and event.payload.mode == "impersonation"


def test_a_null_sub_names_nobody_and_the_others_stay():
    event = event_in("auth0", log(details={"actor": {"sub": "agt_7", "act": {"sub": None, "act": {"sub": "first"}}}}))

    assert [p.sub for p in act_chain(event.payload.actor)] == ["first", "agt_7"]


def test_an_agent_without_an_actor_claim_acts_itself():
    assert event_in("auth0", log(details={"actor": None})).payload.actor.key == "https://sender.example|agt_7"


def test_a_machines_own_token_is_direct_and_its_subject_is_a_service():
    event = event_in("auth0", log(type="seccft", agent_id=None, user_id="app1@clients", details={"actor": None}))

    assert (event.type, event.payload.mode, event.principal_claim.kind) == ("token.issued", "direct", "service")


@pytest.mark.parametrize(
    ("name", "native", "outcome"),
    [
        ("success_on_behalf_of_token_exchange", "token.exchanged", "success"),
        ("failed_on_behalf_of_token_exchange", "token.exchange_failed", "failure"),
        ("secte", "token.exchanged", "success"),
        ("fecte", "token.exchange_failed", "failure"),
        ("idjag_exchange_succeeded", "token.exchanged", "success"),
        ("jwt_bearer_exchange_failed", "token.exchange_failed", "failure"),
        ("limit_delegation", "delegation.denied", "denied"),
    ],
)
def test_what_auth0s_own_schemas_allow_is_read(name, native, outcome):
    record = log(type=name, hostname="acme.eu.auth0.com")
    jsonschema.validate(record["data"], schema(name))  # the sample itself is as Auth0 would send it

    event = event_in("auth0", record)

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_the_schemas_minimum_with_a_date_is_enough():
    for name in ("success_on_behalf_of_token_exchange", "secte", "fecte", "limit_delegation"):
        wanted = schema(name)
        record = {field: "x" for field in wanted["required"]} | {
            "type": name,
            "ip": "203.0.113.7",
            "date": "2026-01-01T00:00:00Z",
        }
        record["details"] = {"subject_token_type": "t", "requested_token_type": "t", "actor": {}}
        jsonschema.validate(record, wanted)

        assert event_in("auth0", record).source_event_id == "x"


def test_an_unknown_type_is_kept_under_its_source():
    assert event_in("auth0", log(type="sapi")).type == "other.auth0.sapi"


@pytest.mark.parametrize(
    "body",
    [
        b"\n".join(json.dumps(log() | {"log_id": n}).encode() for n in "abc") + b"\n",
        json.dumps([log() | {"log_id": n} for n in "abc"]).encode(),
        json.dumps({"logs": [log() | {"log_id": n} for n in "abc"]}, indent=2).encode(),
    ],
)
def test_lines_array_and_object_give_the_same_records(body):
    assert list(received("auth0", body)) == ["a", "b", "c"]


def test_a_record_is_kept_as_the_bytes_it_came_in():
    first = b'{"log_id": "a",   "data": ' + json.dumps(AUTH0["data"]).encode() + b"}"
    [statement, _] = received(
        "auth0", b"[" + first + b" ,\n" + json.dumps(log() | {"log_id": "b"}).encode() + b"]"
    ).values()

    assert (statement.raw, statement.headers, statement.grade, statement.key) == (first, b"", "D", "-")


def test_a_bad_record_is_refused_by_its_id_and_the_others_are_kept():
    bad = log(type="") | {"log_id": "b"}
    body = b"\n".join([json.dumps(AUTH0).encode(), json.dumps(bad).encode(), b'{"log_id": ', b"[1]"])

    statements = received("auth0", body)

    assert [name for name, s in statements.items() if isinstance(s, Refused)] == ["b", "record 3", "record 4"]
    assert "a type" in str(statements["b"])


def test_one_id_twice_in_a_delivery_is_two_statements():
    other = log(type="fecte")

    assert len(received("auth0", [AUTH0, other, AUTH0])) == 3


def test_the_token_is_compared_as_it_is_or_after_bearer():
    for given in (TOKEN, f"Bearer {TOKEN}", f"bearer {TOKEN}"):
        event_in("auth0", AUTH0, authorization=given)
    for given in ("", "Bearer", "Basic " + TOKEN, TOKEN + "x", "é"):
        assert refusal(AUTH0, authorization=given).err == "authentication_failed"
    assert refusal(AUTH0, sender=sender_of("auth0", secret=lambda: None)).err == "invalid_key"


def test_bearer_tokens_are_removed_and_the_digest_of_what_came_is_kept():
    from hashlib import sha256

    record = log(
        details={
            "request": {
                "body": {"subject_token": "eyJhbGciOiJub25lIn0.e30.AAAA", "Authorization": "Bearer abcdefghijk"}
            }
        }
    )
    body = json.dumps(record).encode()

    [statement] = received("auth0", body).values()

    assert b"abcdefghijk" not in statement.raw and b"eyJhbG" not in statement.raw
    assert sha256(body).hexdigest().encode() in statement.headers and b"subject_token" in statement.headers
    assert statement.event.payload.token.jti == "jti-3"


def test_the_same_record_spaced_otherwise_is_the_same_statement():
    from auditlog.formats import auth0

    assert auth0.content(json.dumps(AUTH0).encode(), b"") == auth0.content(json.dumps(AUTH0, indent=1).encode(), b"")
    assert auth0.content(json.dumps(AUTH0).encode(), b"") != auth0.content(json.dumps(log(type="fecte")).encode(), b"")


def test_a_chain_deeper_than_64_is_refused():
    actor = {"sub": "x"}
    for _ in range(70):
        actor = {"sub": "x", "act": actor}

    assert "nested deeper" in str(refusal(log(details={"actor": actor})))


@pytest.mark.parametrize("changes", [{"type": None}, {"type": ""}, {"type": 5}])
def test_records_of_wrong_types_are_refused(changes):
    assert refusal(log(**changes)).err == "invalid_request"


def test_only_json_is_taken():
    assert "text/html" in str(refusal(AUTH0, deliver=lambda raw: with_token(raw, "text/html")))


@pytest.mark.parametrize("changes", [{"date": None}, {"date": 7}, {"date": ""}])
def test_a_record_without_a_date_is_dated_by_its_arrival(changes):
    assert not event_in("auth0", log(**changes)).dated


@pytest.mark.parametrize(
    "changes", [{"ip": 5}, {"ip": None}, {"user_agent": {}}, {"scope": 5}, {"audience": [None]}, {"organization_id": 7}]
)
def test_an_optional_field_of_another_type_loses_no_record(changes):
    assert event_in("auth0", log(**changes)).type == "token.exchanged"


@pytest.mark.parametrize(
    ("kind", "native", "outcome"),
    [
        ("ciba_start_succeeded", "approval.requested", "pending"),
        ("ciba_start_failed", "approval.requested", "failure"),
        ("ciba_exchange_succeeded", "token.issued", "success"),
        ("ciba_exchange_failed", "token.issued", "failure"),
        ("sepft", "token.issued", "success"),
        ("fsa", "token.issued", "failure"),
    ],
)
def test_an_approval_on_another_device_and_every_grant_is_read(kind, native, outcome):
    event = event_in("auth0", log(type=kind))

    assert (event.type, event.payload.outcome) == (native, outcome)
