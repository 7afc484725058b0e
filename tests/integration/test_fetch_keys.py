"""Keys by JWKS address: what is read there may sign, what left it may not, and nobody can make us ask too often."""

import json
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.test import Client

from auditlog.core.errors import ConfigurationError, UnknownKey, UnknownKid
from auditlog.core.wire.keys import b64url, key_set
from auditlog.formats import Delivery
from auditlog.ingest import receive as road
from auditlog.models import Leaf, Payload, Pull, Source, SourceKey
from auditlog.simulator.signing import Signer
from auditlog.sources.configure import add_source, retire_key
from auditlog.sources.fetch_keys import AGAIN, EVERY, add_source_by_url, fetch_keys
from tests.integration.test_dashboard_pages import signed_in, text_of

pytestmark = pytest.mark.usefixtures("database")
ISSUER = "https://conductor.example"
RSA_1024 = {"kty": "RSA", "kid": "weak", "e": "AQAB", "n": b64url(b"\xc1" + b"\x01" * 127)}


def signer(kid="k1", seed=1):
    return Signer(ISSUER, kid, seed=seed)


def jwks(*keys):
    return json.dumps({"keys": [key if isinstance(key, dict) else key.jwk for key in keys]}).encode()


@pytest.fixture
def publish(outside):
    """Make the host outside publish these keys from now on."""

    def publish(*keys, status=200):
        outside.answer = lambda *_: (status, {}, jwks(*keys))

    publish(signer())
    return publish


@pytest.fixture
def source(tenant, outside, publish, now):
    return add_source_by_url(
        tenant, "conductor", jwks_url=f"{outside.url}/jwks.json", format="set", issuer=ISSUER, allow_private=True, now=now,
        call=outside.call,
    )  # fmt: skip


@pytest.fixture
def statement(tenant, now):
    def make(by, jti="e1"):
        claims = {"iss": ISSUER, "iat": now.timestamp(), "jti": jti, "aud": f"urn:answerable:{tenant.name}",
                  "events": {"urn:answerable:event:action.performed:v1": {"outcome": "success"}}}  # fmt: skip
        return by.sign_set(claims)

    return make


def deliver(source, outside, *raw, now, batch=False):
    delivery = Delivery(raw[0], "application/secevent+jwt", {})
    if batch:
        body = json.dumps({"sets": {f"e{n}": each.decode() for n, each in enumerate(raw)}}).encode()
        delivery = Delivery(body, "application/json", {})
    return road.ingest(source.tenant.name, source.name, delivery, now=now, call=outside.call)


def told(tenant):
    """The notes of our own in the log, in order."""
    leaves = Leaf.objects.filter(tenant=tenant, kind=1).order_by("leaf_index").values_list("leaf_index", flat=True)
    raws = dict(Payload.objects.filter(tenant=tenant).values_list("leaf_index", "raw"))
    return [json.loads(bytes(raws[index])) for index in leaves]


def pull(source):
    return Pull.objects.get(source=source, kind="keys")


# --- what is read ---------------------------------------------------------------------------------------------------


def test_a_source_is_added_with_the_keys_that_are_published_and_each_is_a_leaf(source, outside, statement, now):
    assert deliver(source, outside, statement(signer()), now=now).appended
    assert [path for _, path, *_ in outside.asked] == ["/jwks.json"]
    [added] = [note for note in told(source.tenant) if note["change"] == "key.added"]
    assert (added["kid"], added["by"], added["jwk"]["x"]) == ("k1", "jwks_url", signer().jwk["x"])


def test_the_leaf_of_a_source_says_what_is_called_for_it(source, tenant):
    from auditlog.models.ledger import KIND_NUMBERS

    raws = dict(Payload.objects.filter(tenant=tenant).values_list("leaf_index", "raw"))
    notes = [
        json.loads(bytes(raws[i]))
        for i in Leaf.objects.filter(tenant=tenant, kind=KIND_NUMBERS["config"]).values_list("leaf_index", flat=True)
    ]
    [added] = [note for note in notes if note["change"] == "source.added"]

    assert added["jwks_url"] == source.jwks_url and added["allow_private"] is True


def test_a_source_whose_key_set_cannot_be_read_is_not_added(tenant, outside, publish, now):
    publish(signer(), status=404)
    before = Leaf.objects.filter(tenant=tenant).count()
    how = {"format": "set", "issuer": ISSUER, "now": now, "call": outside.call}

    for url, allow, said in [
        (f"{outside.url}/x", True, "answered 404"), (f"{outside.url}/x", False, "private or loopback"),
        ("http://keys.example/x", False, "https"), ("file:///etc/passwd", True, "https"),
    ]:  # fmt: skip
        with pytest.raises(Exception, match=said):
            add_source_by_url(tenant, "conductor", jwks_url=url, allow_private=allow, **how)

    assert not Source.objects.filter(tenant=tenant).exists() and Leaf.objects.filter(tenant=tenant).count() == before


def test_an_address_that_is_not_https_is_refused_when_it_is_configured(tenant, now):
    with pytest.raises(ConfigurationError, match="jwks_url: expected an https address"):
        add_source(tenant, "x", format="set", issuer=ISSUER, jwks_url="http://keys.example/", now=now)


def test_good_keys_are_taken_beside_bad_ones_and_each_bad_one_is_named(source, outside, publish, now):
    private = dict(signer("private", 5).jwk) | {"d": "c2VjcmV0LXByaXZhdGUtcGFydA"}
    publish(
        signer(), signer("k2", 2), private, RSA_1024, {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXN5bW1ldHJpYw"},
        signer("none", 6).jwk | {"alg": "none"}, signer("hs", 7).jwk | {"alg": "HS256"}, signer("enc", 8).jwk | {"use": "enc"},
        {"kty": "EC", "crv": "P-521", "kid": "curve", "x": "AA", "y": "AA"}, {k: v for k, v in signer("", 9).jwk.items() if k != "kid"},
        signer("k2", 10), signer("k1 again").jwk | {"x": signer().jwk["x"]}, signer("nul\x00", 11),
    )  # fmt: skip

    assert fetch_keys(source, now=now + EVERY, call=outside.call)

    assert sorted(source.keys.values_list("kid", flat=True)) == ["k1", "k2"]
    warning = pull(source).warning
    for said in ("'private' has private parts", "RSA keys have 2048", "found 'oct' for key 'shared'", "'none' says alg 'none'",
                 "'hs' says alg 'HS256'", "'enc' is for 'enc'", "curve P-256, found 'P-521'", "needs a `kid`", "'k2' is there twice",
                 "'k1 again' is there under another name"):  # fmt: skip
        assert said in warning, said
    assert "c2VjcmV0" not in warning + json.dumps(told(source.tenant))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [1]}', b"<html>", b"\xff",
                                  b'{"keys": [' + b"[" * 100_000, b'{"keys": [' + b",".join([b"{}"] * 51) + b"]}"])  # fmt: skip
def test_what_is_no_key_set_changes_nothing_and_is_said(source, outside, body, now):
    outside.answer = lambda *_: (200, {}, body)
    before = Leaf.objects.filter(tenant=source.tenant).count()

    assert not fetch_keys(source, now=now, call=outside.call)

    assert pull(source).error and pull(source).failures == 1
    assert source.keys.get().retired_at is None and Leaf.objects.filter(tenant=source.tenant).count() == before
    with pytest.raises(ConfigurationError):
        key_set(body)


@pytest.mark.parametrize(
    "answer", [(500, {}, b"x"), (302, {"Location": "https://evil.example/"}, b""), (200, {}, b"x" * 300_000)]
)
def test_a_host_that_does_not_answer_well_retires_no_key(source, outside, statement, now, answer):
    outside.answer = lambda *_: answer

    assert not fetch_keys(source, now=now, call=outside.call)

    assert pull(source).error and source.keys.get().retired_at is None
    assert now < pull(source).due_at <= now + timedelta(seconds=10)
    assert deliver(source, outside, statement(signer()), now=now).appended


# --- rotation -------------------------------------------------------------------------------------------------------


def test_a_key_that_left_the_set_is_retired_and_what_it_signed_stays_proven(
    source, outside, publish, statement, tenant, now
):
    deliver(source, outside, statement(signer()), now=now)
    publish(signer("k2", 2))

    assert fetch_keys(source, now=now + EVERY, call=outside.call)

    with pytest.raises(UnknownKey, match="was retired"):
        deliver(source, outside, statement(signer(), "e2"), now=now + EVERY)
    assert deliver(source, outside, statement(signer("k2", 2), "e3"), now=now + EVERY).appended
    assert [(n["change"], n["kid"]) for n in told(tenant)] == [
        ("key.added", "k1"),
        ("key.retired", "k1"),
        ("key.added", "k2"),
    ]


def test_a_key_that_comes_back_is_good_again_and_that_is_a_leaf(source, outside, publish, statement, tenant, now):
    publish(signer("k2", 2))
    fetch_keys(source, now=now + EVERY, call=outside.call)
    publish(signer(), signer("k2", 2))
    fetch_keys(source, now=now + 2 * EVERY, call=outside.call)

    assert deliver(source, outside, statement(signer()), now=now).appended
    assert [n["change"] for n in told(tenant) if n["kid"] == "k1"] == ["key.added", "key.retired", "key.added"]


def test_a_key_that_a_person_retired_stays_retired_though_it_is_still_published(source, outside, statement, now):
    retire_key(source.keys.get(), now=now)

    fetch_keys(source, now=now + EVERY, call=outside.call)

    with pytest.raises(UnknownKey):
        deliver(source, outside, statement(signer()), now=now)
    assert "retired here by hand" in pull(source).warning


def test_keys_that_people_added_are_not_the_sets_to_retire(source, outside, publish, statement, now):
    from auditlog.sources.configure import add_key

    add_key(source, signer("by-hand", 3).jwk, now=now)
    publish(signer("k2", 2))
    fetch_keys(source, now=now + EVERY, call=outside.call)

    assert deliver(source, outside, statement(signer("by-hand", 3)), now=now).appended


def test_a_key_replaced_under_its_own_name_is_replaced_here(source, outside, publish, statement, now):
    publish(signer("k1", 2))
    fetch_keys(source, now=now + EVERY, call=outside.call)

    assert deliver(source, outside, statement(signer("k1", 2)), now=now).appended
    assert SourceKey.objects.filter(source=source, kid="k1").count() == 2


def test_the_same_key_under_another_name_is_known_by_that_name(source, outside, publish, statement, tenant, now):
    publish(signer("renamed").jwk | {"x": signer().jwk["x"]})
    fetch_keys(source, now=now + EVERY, call=outside.call)

    assert SourceKey.objects.get(source=source).kid == "renamed"
    assert (told(tenant)[-1]["change"], told(tenant)[-1]["before"]) == ("key.renamed", "k1")


def test_reading_the_same_set_twice_changes_nothing(source, outside, now):
    before = Leaf.objects.filter(tenant=source.tenant).count()

    assert not fetch_keys(source, now=now + EVERY, call=outside.call)

    assert Leaf.objects.filter(tenant=source.tenant).count() == before
    assert pull(source).due_at == now + 2 * EVERY and pull(source).error == ""


def test_an_older_reading_that_comes_in_late_takes_nothing_back(source, outside, publish, now):
    publish(signer("k2", 2))
    fetch_keys(source, now=now + EVERY, call=outside.call)
    publish(signer())

    assert not fetch_keys(source, now=now + EVERY - timedelta(seconds=5), call=outside.call)

    assert source.keys.get(retired_at=None).kid == "k2"


# --- a kid that is not known ----------------------------------------------------------------------------------------


def test_a_new_key_is_taken_with_the_first_event_that_it_signed(source, outside, publish, statement, now):
    publish(signer(), signer("k2", 2))

    assert deliver(source, outside, statement(signer("k2", 2)), now=now + AGAIN).appended
    assert len(outside.asked) == 2


def test_unknown_kids_cause_one_reading_in_a_while_however_many_come(source, outside, statement, now):
    at = now + AGAIN
    for n in range(5):
        with pytest.raises(UnknownKid):
            deliver(source, outside, statement(signer(f"unknown-{n}", n + 50)), now=at)
    assert len(outside.asked) == 2

    with pytest.raises(UnknownKid):
        deliver(source, outside, statement(signer("unknown", 60)), now=at + AGAIN)
    assert len(outside.asked) == 3


def test_the_limit_holds_over_processes(source, outside, statement, now):
    """It lies in the database: two connections, one reading."""
    stop, refused = threading.Barrier(2), []

    def one(n):
        stop.wait()
        try:
            deliver(source, outside, statement(signer(f"u{n}", n + 50)), now=now + AGAIN)
        except UnknownKid as error:
            refused.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert len(refused) == 2 and len(outside.asked) == 2


def test_the_others_of_a_batch_do_not_wait_and_the_new_keys_event_comes_with_them(
    source, outside, publish, statement, now
):
    publish(signer(), signer("k2", 2))
    raws = [statement(signer(), "e0"), statement(signer("k2", 2), "e1"), statement(signer("k3", 3), "e2")]
    seen = []
    answer = outside.answer
    outside.answer = lambda *asked: (
        seen.append(Leaf.objects.filter(tenant=source.tenant, kind=0).count()),
        connections.close_all(),
        answer(*asked),
    )[2]

    taken = deliver(source, outside, *raws, now=now + AGAIN, batch=True)

    assert list(taken.appended) == ["e0", "e1"] and list(taken.refused) == ["e2"]
    assert seen == [1]  # when the key set was asked for, what needed no new key was in the ledger


def test_a_slow_key_set_holds_up_nobody_whose_key_is_known(source, outside, statement, now):
    waiting, go_on = threading.Event(), threading.Event()

    def slow(*_):
        waiting.set()
        go_on.wait(10)
        return 200, {}, jwks(signer())

    outside.answer = slow

    def unknown():
        try:
            deliver(source, outside, statement(signer("unknown", 60)), now=now + AGAIN)
        except UnknownKid:
            pass
        finally:
            connections.close_all()

    thread = threading.Thread(target=unknown)
    thread.start()
    assert waiting.wait(10)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND usename = current_user"
        )
        [in_transaction] = cursor.fetchone()
    taken = deliver(source, outside, statement(signer()), now=now)

    assert thread.is_alive() and taken.appended and in_transaction == 0
    go_on.set()
    thread.join()


def test_a_retired_kid_and_a_source_without_an_address_cause_no_reading(
    source, outside, publish, statement, tenant, now
):
    publish(signer("k2", 2))
    fetch_keys(source, now=now + EVERY, call=outside.call)
    add_source(tenant, "plain", format="set", issuer="https://plain.example", jwks=signer().jwks(), now=now)
    asked = len(outside.asked)

    with pytest.raises(UnknownKey):
        deliver(source, outside, statement(signer()), now=now + 5 * EVERY)
    with pytest.raises(UnknownKid):
        delivery = Delivery(statement(signer("unknown", 60)), "application/secevent+jwt", {})
        road.ingest(tenant.name, "plain", delivery, now=now, call=outside.call)
    assert len(outside.asked) == asked


# --- the edges ------------------------------------------------------------------------------------------------------


def test_the_front_door_takes_an_event_of_a_new_key(source, outside, publish, statement, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    publish(signer(), signer("k2", 2))

    answer = Client().post(
        f"/ingest/{source.tenant.name}/conductor", statement(signer("k2", 2)), content_type="application/secevent+jwt"
    )

    assert answer.status_code == 202


def test_the_page_of_the_source_tells_of_its_key_set(source, outside, world, now):
    client = signed_in(world, "admin")
    good = text_of(client.get("/sources/conductor/"))
    outside.answer = lambda *_: (503, {}, b"<script>alert(1)</script>")
    fetch_keys(source, now=now, call=outside.call)

    page = client.get("/sources/conductor/")

    assert "its key set" in good and source.jwks_url in good and "from its key set" in good
    assert "localhost answered 503, expected 200" in text_of(page)
    assert "<script>" not in page.content.decode() and " style=" not in page.content.decode()


def test_ask_now_makes_it_due_and_only_for_who_may(source, world, outside, now):
    fetch_keys(source, now=now, call=outside.call)

    assert signed_in(world, "auditor").post("/sources/conductor/", {"act": "ask_now"}).status_code == 403
    assert pull(source).due_at is not None
    assert signed_in(world, "admin").post("/sources/conductor/", {"act": "ask_now"}).status_code == 302
    assert pull(source).due_at is None


def test_a_source_is_added_by_form_with_the_address_of_its_keys(world, outside, publish, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    client = signed_in(world, "admin")
    given = {"format": "set", "name": "new", "issuer": "https://new.example"}

    inside = client.post("/sources/", given | {"jwks_url": f"{outside.url}/jwks.json"})
    plain = client.post("/sources/", given | {"jwks_url": "http://keys.example/"})
    both = client.post("/sources/", given | {"jwks_url": "https://keys.example/", "keys": json.dumps(signer().jwk)})

    # The form opens no private network to whoever may configure a tenant: an operator does that.
    assert inside.status_code == 422 and "private or loopback" in text_of(inside)
    assert plain.status_code == 422 and "expected an https address" in text_of(plain)
    assert both.status_code == 422 and "not both" in text_of(both)
    assert outside.asked == [] and not Source.objects.filter(tenant=world.row, name="new").exists()
