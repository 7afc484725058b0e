"""Fault 9: too much, and poison. Whoever sends it is told so; nobody else notices; nothing is dropped in silence."""

import json
import os
import tracemalloc
import uuid
from random import Random

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.test import Client

from auditlog.api.views import ingest_view
from auditlog.ingest import receive as road
from auditlog.ledger.append import Appended
from auditlog.models import Event, Leaf, ProjectionState, RefusalCount, UnparsedLeaf
from auditlog.simulator.signing import b64url
from auditlog.sources.configure import add_tenant
from auditlog.work import tasks
from tests.faults.test_order import slow_sender
from tests.oracle import Oracle, Violation
from tests.world import TenantWorld

URN = "urn:answerable:event:{}:v1"
DEEP = 100_000
CLIENT = Client(raise_request_exception=False)  # what nobody caught is a 500, as for any sender


def signed_bytes(log, claims: bytes) -> bytes:
    """Any bytes at all, properly signed by the source: what a broken or hostile sender can make us parse."""
    signer = log._signers["conductor"]
    message = signer._header + b64url(claims).encode()
    return message + b"." + b64url(signer._key.sign(message).signature).encode()


def claims(log, **changes):
    body = {
        "iss": "https://conductor.example", "iat": 1_795_000_000, "jti": log.new_id("poison"),
        "aud": [f"urn:answerable:{log.tenant}"], "events": {URN.format("action.performed"): {"outcome": "success"}},
    }  # fmt: skip
    return body | changes


def payload(log, kind="action.performed", **fields):
    return claims(log, events={URN.format(kind): {"outcome": "success"} | fields})


def instead(document, marker, raw):
    """The document as JSON, with a marker in it replaced by raw bytes that no JSON library would write."""
    return json.dumps(document).encode().replace(json.dumps(marker).encode(), raw)


def post(log, body, content_type="application/secevent+jwt", **more):
    tasks._quiet_until = 0.0
    return CLIENT.post(f"/ingest/{log.tenant}/conductor", body, content_type=content_type, **more)


NESTED = b"[" * DEEP + b"]" * DEEP
POISON = {
    "deep claims": lambda log: NESTED,
    "deep member": lambda log: instead(claims(log, extra="@"), "@", NESTED),
    "deep payload": lambda log: instead(payload(log, extra="@"), "@", NESTED),
    "deep arguments": lambda log: instead(payload(log, call={"args": {"a": "@"}}), "@", b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "deep actor": lambda log: instead(payload(log, actor="@"), "@", b'{"iss":"i","sub":"s","act":' * 3_000 + b"null" + b"}" * 3_000),
    "deep unknown type": lambda log: instead(claims(log, events={"urn:x": "@"}), "@", NESTED),
    "bad UTF-8 in a name": lambda log: instead(claims(log, jti="@"), "@", b'"\xff\xfe"'),
    "bad UTF-8 in a text": lambda log: instead(payload(log, intent={"text": "@"}), "@", b'"\xc3("'),
    "bad UTF-8 in what nobody reads": lambda log: instead(claims(log, extra="@"), "@", b'"\xed\xa0\x80"'),
    "half a character": lambda log: instead(payload(log, session="@"), "@", rb'"\ud800"'),
    "half a character in the id": lambda log: instead(claims(log, jti="@"), "@", rb'"x\udc00"'),
    "half a character in an unknown type": lambda log: instead(claims(log, events={"@": {}}), "@", rb'"urn:\ud83d"'),
    "NUL": lambda log: instead(payload(log, task="@"), "@", rb'"a\u0000b"'),
    "NUL in an unknown type": lambda log: instead(claims(log, events={"@": {}}), "@", rb'"urn:\u0000"'),
    "a time beyond all times": lambda log: instead(claims(log, iat="@"), "@", b"1e400"),
    "a time of 400 digits": lambda log: instead(claims(log, iat="@"), "@", b"1" * 400),
    "a time before time": lambda log: json.dumps(claims(log, iat=-1)).encode(),
    "a time that is none": lambda log: instead(claims(log, toe="@"), "@", b"NaN"),
    "an amount of 400 digits": lambda log: instead(
        payload(log, "payment.captured", money={"amount_minor": "@", "currency": "EUR", "phase": "captured"}), "@", b"9" * 400),
    "the largest amount and one": lambda log: json.dumps(
        payload(log, "payment.captured", money={"amount_minor": 2**63, "currency": "EUR", "phase": "captured"})).encode(),
    "a depth beyond all": lambda log: instead(
        payload(log, "delegation.granted", grant={"id": "g", "max_depth": "@"}), "@", b"1" + b"0" * 300),
    "an attempt of 400 digits": lambda log: instead(payload(log, call={"attempt": "@"}), "@", b"7" * 400),
    "an amount in a number that nobody reads": lambda log: instead(claims(log, extra="@"), "@", b"1" * 5_000),
    "a grant that is its own parent": lambda log: json.dumps(
        payload(log, "delegation.granted", grant={"id": "loop", "parent": "loop"})).encode(),
    "the same member twice": lambda log: json.dumps(claims(log)).encode()[:-1] + b',"jti":"other"}',
    "a name that is empty": lambda log: json.dumps(claims(log, jti="")).encode(),
    "an id of 501 characters": lambda log: json.dumps(claims(log, jti="x" * 501)).encode(),
    "an id of 500 four-byte characters": lambda log: json.dumps(claims(log, jti="\U0001f980" * 500)).encode(),
    "no object": lambda log: b"null",
    "nothing": lambda log: b"",
    "two documents": lambda log: json.dumps(claims(log)).encode() * 2,
}  # fmt: skip


def test_signed_poison_is_refused_with_words_or_taken_and_projected_and_never_an_error_of_ours(log):
    said = {}
    for name, make in POISON.items():
        answer = post(log, signed_bytes(log, make(log)))
        said[name] = answer.status_code
        assert answer.status_code in (202, 400, 413), (name, answer.status_code, answer.content[:300])
        if answer.status_code != 202:
            assert answer.json()["err"] and answer.json()["description"], name
    log.settle()

    # What was taken is on every page: nothing waits, and nothing had to be left out.
    assert (
        ProjectionState.objects.get(tenant=log.row, is_current=True).position
        == Leaf.objects.filter(tenant=log.row).count()
    )
    assert Event.objects.filter(tenant=log.row).count() == 1 + list(said.values()).count(202)
    assert not UnparsedLeaf.objects.filter(tenant=log.row).exists()
    assert list(said.values()).count(400) >= 15  # odd values of optional fields are taken
    counted = sum(row.count for row in RefusalCount.objects.filter(tenant=log.row))
    assert counted == list(said.values()).count(400) + list(said.values()).count(413)


@pytest.mark.parametrize(("body", "content_type", "expected"), [
    (b"x" * (256 * 1024 + 1), "application/secevent+jwt", 413),
    (b" ", "application/secevent+jwt", 400),
    (b"\xff" * 100, "application/secevent+jwt", 400),
    (b"a.b.c", "text/plain", 415),
    (b"{", "application/json", 400),
    (NESTED, "application/json", 400),
    (b'{"sets":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "application/json", 400),
    (b'{"sets":{"a":"\xff"}}', "application/json", 400),
    (rb'{"sets":{"a":"\ud800"}}', "application/json", 400),
    (b'{"sets":{' + b",".join(b'"%d":"x"' % n for n in range(1_001)) + b"}}", "application/json", 413),
    (b'{"sets":{"a":"a.b.c"},"moreAvailable":true}', "application/json", 400),
])  # fmt: skip
def test_a_delivery_that_is_none_is_refused_as_a_whole(log, body, content_type, expected):
    before = Leaf.objects.filter(tenant=log.row).count()

    answer = post(log, body, content_type)

    assert answer.status_code == expected and answer.json()["description"]
    assert Leaf.objects.filter(tenant=log.row).count() == before


def test_poison_among_good_statements_hurts_none_of_them(log):
    good = [log.event("action.performed") for _ in range(5)]
    bad = {
        f"bad{n}": signed_bytes(log, make(log))
        for n, make in enumerate(
            (POISON["deep claims"], POISON["NUL"], POISON["nothing"], POISON["bad UTF-8 in a name"])
        )
    }
    sets = {signed.jti: signed.raw.decode() for signed in good} | {name: raw.decode() for name, raw in bad.items()}

    answer = post(log, json.dumps({"sets": sets}), "application/json").json()

    assert set(answer["ack"]) == {signed.jti for signed in good} and set(answer["setErrs"]) == set(bad)
    for signed in good:
        log.oracle.saw(signed, answer["leaves"][signed.jti])
    log.oracle.sign()
    log.oracle.check()


def test_random_damage_to_signed_claims_is_refused_or_taken_and_never_an_error_of_ours(log, monkeypatch):
    monkeypatch.setattr(road.strangers, "rate", 0)  # all of it comes from one address
    random, taken = Random(9), set()
    odd = [
        None,
        True,
        -1,
        0,
        1.5,
        2**64,
        "",
        "\U0001f980",
        "x" * 700,
        [],
        {},
        [[]],
        {"a": {}},
        {"iss": "i", "sub": "s"},
    ]

    def damaged(value, depth=0):
        if isinstance(value, dict) and value and random.random() < 0.8:
            key = random.choice(list(value))
            return (
                {**value, key: damaged(value[key], depth + 1)}
                if random.random() < 0.9
                else {k: v for k, v in value.items() if k != key}
            )
        return random.choice(odd)

    whole = payload(
        log, "delegation.granted", actor={"iss": "i", "sub": "s"}, sequence={"stream": "s", "number": 4},
        grant={"id": "g", "subject": {"iss": "i", "sub": "a"}, "limits": [{"max_minor": 3}], "expires_at": 1_795_000_000},
        money={"amount_minor": 3, "currency": "EUR", "phase": "captured"}, intent={"targets": ["x"], "quantity": 3},
    )  # fmt: skip
    for _ in range(150):
        document = damaged(whole | {"jti": log.new_id("damaged")})
        answer = post(log, signed_bytes(log, json.dumps(document).encode()))
        assert answer.status_code in (202, 400), (document, answer.content[:300])
        taken.add(answer.headers.get("Location"))
    log.settle()

    taken.discard(None)
    assert len(taken) > 5
    assert Event.objects.filter(tenant=log.row).count() == 1 + len(taken)
    assert not UnparsedLeaf.objects.filter(tenant=log.row).exists()


# --- too much -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def standing_clock(monkeypatch):
    """No token comes back to a bucket meanwhile."""

    class Clock:
        monotonic = staticmethod(lambda: 1000.0)

    monkeypatch.setattr(road, "time", Clock)


def limited(now, name, *, requests, events=100_000):
    world = TenantWorld(add_tenant(name, now=now), now=now)
    world.source("conductor", "https://conductor.example")
    world.configure("conductor", requests_per_second=requests, events_per_second=events)
    world.oracle = Oracle(world)
    return world


def burst(log, count):
    """So many requests as fast as they go. Returns the statuses; the oracle hears of each."""
    statuses = []
    for _ in range(count):
        signed = log.event("action.performed")
        answer = post(log, signed.raw)
        statuses.append(answer.status_code)
        if answer.status_code == 202:
            event_id = answer.headers["Location"].rsplit("/", 1)[1]
            log.oracle.saw(signed, Leaf.objects.get(tenant=log.row, event_id=event_id).leaf_index)
        else:
            assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1
    return statuses


def test_ten_times_too_much_is_answered_429_and_every_202_is_kept(tenant, now, standing_clock, monkeypatch):
    log = limited(now, f"{tenant.name}-burst", requests=15)

    statuses = burst(log, 150)

    assert statuses == [202] * 15 + [429] * 135
    monkeypatch.setenv("ANSWERABLE_METRICS_TOKEN", "t")
    metrics = CLIENT.get("/metrics", headers={"authorization": "Bearer t"}).content.decode()
    assert f'source="conductor",tenant="{log.tenant}"}} 135.0' in metrics.replace(f'process="{os.getpid()}",', "")
    assert Leaf.objects.filter(tenant=log.row, event_id__isnull=False).count() == 15
    log.oracle.sign()
    log.oracle.check()


def test_a_tenant_that_sends_nearly_everything_takes_nothing_from_another(tenant, now, standing_clock):
    greedy, modest = (
        limited(now, f"{tenant.name}-greedy", requests=10),
        limited(now, f"{tenant.name}-modest", requests=10),
    )

    answers = {"greedy": [], "modest": []}
    for _ in range(8):
        answers["greedy"] += burst(greedy, 19)
        answers["modest"] += burst(modest, 1)

    assert answers["modest"] == [202] * 8
    assert answers["greedy"].count(429) == 8 * 19 - 10
    for log in (greedy, modest):
        log.oracle.check()


def test_what_is_not_a_sources_uses_up_nothing_of_what_the_source_may_send(tenant, now, standing_clock):
    log = limited(now, f"{tenant.name}-garbage", requests=10)
    garbage = [b"", b"{}", b"x.y.z", log.event("action.performed").raw[:-20] + b"A" * 20]

    refused = [post(log, garbage[n % len(garbage)], REMOTE_ADDR="198.51.100.7").status_code for n in range(80)]

    assert set(refused) <= {400, 415}
    assert burst(log, 12) == [202] * 10 + [429] * 2
    log.oracle.check()


@pytest.mark.parametrize(("one", "same", "other"), [
    ("198.51.100.7", "198.51.100.7", "198.51.100.8"), ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"),
])  # fmt: skip
def test_an_address_that_sends_nothing_but_garbage_is_not_listened_to_for_a_while_and_no_other_suffers(
    tenant, now, standing_clock, one, same, other
):
    log = limited(now, f"{tenant.name}-flood", requests=10)

    answers = [post(log, b"garbage", REMOTE_ADDR=one) for _ in range(road.STRANGERS_PER_SECOND + 20)]

    assert [a.status_code for a in answers] == [400] * road.STRANGERS_PER_SECOND + [429] * 20
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert post(log, log.event("action.performed").raw, REMOTE_ADDR=same).status_code == 429
    assert post(log, log.event("action.performed").raw, REMOTE_ADDR=other).status_code == 202
    assert (
        CLIENT.post(f"/ingest/{log.tenant}/nobody", b"", content_type="application/json", REMOTE_ADDR=same).status_code
        == 429
    )


def test_no_more_addresses_are_remembered_than_there_is_room_for():
    strangers = road.Strangers(1, most=5)
    for number in range(100):
        strangers.charge(f"198.51.100.{number}")

    strangers.look("198.51.100.1")
    with pytest.raises(road.TooManyRequests):
        strangers.look("198.51.100.99")


def test_a_tenant_whose_log_is_locked_holds_up_no_other(log, now):
    other = limited(now, f"{log.tenant}-other", requests=100)
    event = log.event("action.performed")
    slow = slow_sender(log, event)  # with the log's lock in its hand
    try:
        assert burst(other, 3) == [202] * 3
    finally:
        slow.wake()
        log.oracle.saw(event, slow.answer())
    log.oracle.check()
    other.oracle.check()


def peak_of(work):
    tracemalloc.start()
    try:
        answer = work()
        return answer, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Endless:
    """A body that goes on for as long as somebody reads."""

    def __init__(self):
        self.given = 0

    def read(self, size=-1):
        assert size >= 0, "read without a bound"
        self.given += size
        return b"x" * size

    readline = read


def push(log, length):
    """A request as the server hands it over, with a body of its own."""
    body = Endless()
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": f"/ingest/{log.tenant}/conductor", "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(length), "wsgi.input": body, "SERVER_NAME": "x", "SERVER_PORT": "80",
    }  # fmt: skip

    def work():
        try:
            return ingest_view(WSGIRequest(environ))
        except Exception as error:
            return error

    answer, peak = peak_of(work)
    return answer, peak, body.given


@pytest.mark.parametrize("length", [road.MAX_BODY + 1, 1 << 40, -5, "1_000", ""])
def test_a_body_too_large_or_of_no_honest_length_is_not_read(log, length):
    answer, peak, read = push(log, length)

    assert type(answer).__name__ in ("DeliveryTooLarge", "MalformedEvent")
    assert read == 0 and peak < 1 << 20


def test_the_largest_body_costs_a_few_times_its_size_and_no_more(log):
    answer, peak, read = push(log, road.MAX_BODY)

    assert type(answer).__name__ == "MalformedEvent"
    assert read == road.MAX_BODY and peak < 3 * road.MAX_BODY


def test_control_a_door_without_a_bound_is_seen_by_its_memory(log, monkeypatch):
    monkeypatch.setattr(road, "MAX_BODY", 1 << 40)

    _, peak, read = push(log, 64 << 20)

    assert read == 64 << 20 and peak > 3 * 16 << 20


def test_control_a_service_that_drops_what_it_has_no_time_for_is_caught(log, monkeypatch):
    real = road.append_statements

    def hurried(source, statements, *, now):
        if len(log.oracle.acked) % 3 == 2:
            return [Appended(99, uuid.uuid4()) for _ in statements]
        return real(source, statements, now=now)

    monkeypatch.setattr(road, "append_statements", hurried)
    for _ in range(3):
        log.oracle.send(log.event("action.performed"))

    with pytest.raises(Violation, match="in the ledger 0 times"):
        log.oracle.check()
