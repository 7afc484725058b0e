# ruff: noqa: F811  (fixtures)
"""The transmitter, as a receiver of OpenID SSF 1.0 uses it: discovery, streams, status, verification, polling."""

import json

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from auditlog.core.wire.keys import load
from auditlog.core.wire.signal import SESSION_REVOKED, VERIFICATION
from auditlog.formats import Delivery, Sender, named
from auditlog.models import Receiver, Signal
from auditlog.response.stop import press
from tests.integration.test_api import Api, desk  # noqa: F401  the desk is a fixture
from tests.integration.test_stops import key, opened, people, send, taken  # noqa: F401  fixtures
from tests.integration.test_stops import of as key_of

pytestmark = pytest.mark.usefixtures("database")
PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"


@pytest.fixture
def admin(desk):
    return call_as(Api(desk.row, "admin").token)


def call_as(token):
    def call(method, path, body=None, **query):
        address = path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
        said = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        answer = getattr(Client(), method)(address, headers={"Authorization": f"Bearer {token}"}, **said)
        return answer.status_code, answer.json() if answer.content else None

    return call


def test_a_receiver_finds_everything_from_the_well_known_address():
    told = Client().get("/.well-known/ssf-configuration").json()

    assert told["spec_version"] == "1_0" and set(told["delivery_methods_supported"]) == {PUSH, POLL}
    for name in ("configuration_endpoint", "status_endpoint", "verification_endpoint", "jwks_uri"):
        path = told[name].removeprefix(told["issuer"])
        assert Client().get(path).status_code == (200 if name == "jwks_uri" else 401)


def test_a_receiver_makes_a_stream_polls_it_and_acknowledges(desk, people, admin):
    status, stream = admin(
        "post",
        "/ssf/streams",
        {
            "delivery": {"method": POLL},
            "events_requested": [SESSION_REVOKED, "https://unknown.example/x"],
            "description": "cloud",
        },
    )
    assert (
        status == 201
        and stream["events_delivered"] == [SESSION_REVOKED]
        and stream["events_requested"] == [SESSION_REVOKED]
    )
    mine = call_as(stream["answerable_token"])
    press(people("mia"), "party", key_of(desk.lead), reason="stop", now=desk.now)

    path = stream["delivery"]["endpoint_url"].partition("8000")[2]
    status, told = mine("post", path, {"maxEvents": 10, "returnImmediately": True})
    assert status == 200 and told["moreAvailable"] is False and len(told["sets"]) == 1
    [(jti, token)] = told["sets"].items()
    said = opened(token)
    assert (
        said["jti"] == jti
        and said["aud"] == stream["aud"]
        and said["iss"] == stream["iss"]
        and SESSION_REVOKED in said["events"]
    )
    assert mine("post", "/ssf/poll", {})[1]["sets"].keys() == {jti}  # not acknowledged: it comes again
    assert mine("post", "/ssf/poll", {"ack": [jti]})[1] == {"sets": {}, "moreAvailable": False}
    assert Signal.objects.get(jti=jti).state == "accepted"


def test_our_own_format_for_such_events_understands_them(desk, people, admin):
    stream = admin("post", "/ssf/streams", {"delivery": {"method": POLL}})[1]
    press(people("mia"), "party", key_of(desk.lead), reason="stop", now=desk.now)
    sets = call_as(stream["answerable_token"])("post", "/ssf/poll", {})[1]["sets"]
    published = [k for k in Client().get("/.well-known/jwks.json").json()["keys"] if k["kty"] == "RSA"]
    sender = Sender(
        "default", "caep", stream["iss"], audience=stream["aud"], keys={k["kid"]: load(k, k["kid"]) for k in published}
    )
    types = set()
    for token in sets.values():
        received = named("caep").receive(
            Delivery(token.encode(), "application/secevent+jwt", {"content-type": "application/secevent+jwt"}), sender
        )
        [statement] = received.statements.values()
        types.add(statement.event.type)
        assert statement.event.principal_claim.key == key_of(desk.lead)
    assert "session.ended" in types


def test_what_a_receiver_cannot_take_is_given_up_and_shown(desk, people, admin):
    stream = admin("post", "/ssf/streams", {"delivery": {"method": POLL}})[1]
    mine = call_as(stream["answerable_token"])
    press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    [jti] = mine("post", "/ssf/poll", {})[1]["sets"]
    mine("post", "/ssf/poll", {"setErrs": {jti: {"err": "invalid_key", "description": "x"}}})

    assert Signal.objects.get(jti=jti).state == "dead" and "invalid_key" in Signal.objects.get(jti=jti).error


def test_a_pushed_stream_is_called_under_the_header_that_its_receiver_gave(desk, people, admin, outside):
    status, stream = admin(
        "post",
        "/ssf/streams",
        {"delivery": {"method": PUSH, "endpoint_url": f"{outside.url}/events", "authorization_header": "Bearer abc"}},
    )
    assert status == 201 and "abc" not in json.dumps(stream)
    Receiver.objects.filter(stream=stream["stream_id"]).update(allow_private=True)
    got = taken(outside)
    assert admin("post", "/ssf/verify", {"stream_id": stream["stream_id"], "state": "VGhpcw"}) == (204, None)
    send(desk, outside, now=timezone.now())

    [(_, path, headers, body)] = got
    assert (
        path == "/events"
        and headers["authorization"] == "Bearer abc"
        and opened(body.decode())["events"] == {VERIFICATION: {"state": "VGhpcw"}}
    )
    assert admin("post", "/ssf/verify", {"stream_id": stream["stream_id"]})[0] == 429


def test_a_stream_is_read_changed_paused_and_deleted(desk, people, admin):
    stream = admin("post", "/ssf/streams", {"delivery": {"method": POLL}, "description": "one"})[1]
    id = stream["stream_id"]
    mine = call_as(stream["answerable_token"])
    assert [one["stream_id"] for one in mine("get", "/ssf/streams")[1]] == [id]
    assert (
        mine("patch", "/ssf/streams", {"stream_id": id, "events_requested": [SESSION_REVOKED]})[1]["description"]
        == "one"
    )
    changed = mine("put", "/ssf/streams", {"stream_id": id, "delivery": {"method": POLL}})[1]
    assert "description" not in changed and changed["events_requested"] == []
    assert mine("post", "/ssf/status", {"stream_id": id, "status": "paused"})[1]["status"] == "paused"
    press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    assert mine("post", "/ssf/poll", {})[1]["sets"] == {}
    mine("post", "/ssf/status", {"stream_id": id, "status": "enabled"})
    assert len(mine("post", "/ssf/poll", {})[1]["sets"]) == 1  # it waited
    assert mine("get", "/ssf/status", stream_id=id)[1] == {"stream_id": id, "status": "enabled"}
    unused = admin("post", "/ssf/streams", {"delivery": {"method": POLL}})[1]
    assert admin("delete", "/ssf/streams", stream_id=unused["stream_id"])[0] == 204
    assert admin("get", "/ssf/streams", stream_id=unused["stream_id"])[0] == 404


def test_a_receivers_token_opens_its_own_stream_and_nothing_else(desk, admin):
    one, other = (admin("post", "/ssf/streams", {"delivery": {"method": POLL}})[1] for _ in range(2))
    mine = call_as(one["answerable_token"])

    assert mine("get", "/ssf/streams", stream_id=other["stream_id"])[0] == 404
    assert mine("post", "/ssf/poll", {}, stream_id=other["stream_id"])[0] == 404
    assert mine("post", "/ssf/streams", {"delivery": {"method": POLL}})[0] == 403
    assert mine("get", "/api/v1/events")[0] == 401 and mine("get", "/api/v1/stops")[0] == 401
    for role in ("security", "finance", "auditor"):
        assert call_as(Api(desk.row, role).token)("get", "/ssf/streams")[0] == 403
    assert call_as("nonsense")("post", "/ssf/poll", {})[0] == 401


@pytest.mark.parametrize(
    "body",
    [[], "x", {"delivery": []}, {"delivery": {"method": "carrier pigeon"}}, {"delivery": {"method": PUSH}}, {"delivery": {"method": PUSH, "endpoint_url": 5}},
     {"delivery": {"method": PUSH, "endpoint_url": "http://x.example"}}, {"delivery": {"method": POLL}, "events_requested": "all"},
     {"delivery": {"method": POLL}, "description": 7}, {"delivery": {"method": PUSH, "endpoint_url": "https://x.example", "authorization_header": "a\nb"}}],
)  # fmt: skip
def test_a_stream_that_cannot_be_is_refused_with_a_reason(desk, admin, body):
    before = Receiver.objects.count()
    status, told = admin("post", "/ssf/streams", body)
    assert status == 400 and told["title"] and Receiver.objects.count() == before


@pytest.mark.parametrize(
    "body", [{"ack": "x"}, {"setErrs": []}, {"maxEvents": -1}, {"maxEvents": "5"}, {"maxEvents": True}, []]
)
def test_a_poll_that_cannot_be_read_is_refused_and_nothing_is_acknowledged(desk, people, admin, body):
    mine = call_as(admin("post", "/ssf/streams", {"delivery": {"method": POLL}})[1]["answerable_token"])
    press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    assert mine("post", "/ssf/poll", body)[0] in (200, 400)
    assert len(mine("post", "/ssf/poll", {})[1]["sets"]) == 1
    assert mine("post", "/ssf/poll", {"ack": [["x"], 5, None], "maxEvents": 0})[0] == 200


def test_a_token_whose_row_was_changed_behind_the_log_opens_nothing(desk, admin):
    stream = admin("post", "/ssf/streams", {"delivery": {"method": POLL}})[1]
    thief = "rcv_thief"
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE response_receiver DISABLE TRIGGER configuration_restated")
        cursor.execute(
            "UPDATE response_receiver SET token_digest = sha256(%s::bytea) WHERE stream = %s",
            [thief.encode(), stream["stream_id"]],
        )
        cursor.execute("ALTER TABLE response_receiver ENABLE TRIGGER configuration_restated")
    assert call_as(thief)("post", "/ssf/poll", {})[0] == 403
