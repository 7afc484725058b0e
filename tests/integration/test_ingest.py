"""The front door over HTTP (Django's client, real commits): every answer a sender can get."""

import json
import threading

import pytest
from django.db import connections
from django.test import Client

from auditlog.core.wire.jws import b64url_bytes
from auditlog.core.wire.keys import b64url
from auditlog.detection import detect
from auditlog.ingest.receive import _versions
from auditlog.models import Dirty, Event, Finding, Leaf, Payload, RefusalCount, Source
from auditlog.simulator.signing import Signer
from auditlog.sources.configure import add_key, promise_heartbeat, retire_key, set_source_state


@pytest.fixture
def conductor(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    return world


def post(world, body, *, source="conductor", content_type="application/secevent+jwt", **headers):
    return Client().post(f"/ingest/{world.tenant}/{source}", body, content_type=content_type, headers=headers)


def leaves(world):
    return Leaf.objects.filter(tenant=world.row, event_id__isnull=False).count()


def batch(*signed):
    return json.dumps({"sets": {s.jti: s.raw.decode() for s in signed}})


def test_an_event_is_acknowledged_with_the_address_of_what_is_in_the_ledger(conductor):
    signed = conductor.event("action.performed")

    answer = post(conductor, signed.raw)

    assert (answer.status_code, answer.content) == (202, b"")
    event_id = answer.headers["Location"].rpartition("/")[2]
    leaf = Leaf.objects.get(tenant=conductor.row, event_id=event_id)
    assert bytes(Payload.objects.get(tenant=conductor.row, leaf_index=leaf.leaf_index).raw) == signed.raw


def test_the_same_event_again_is_the_same_place(conductor):
    signed = conductor.event("action.performed")

    places = {post(conductor, signed.raw).headers["Location"] for _ in range(3)}

    assert len(places) == 1 and leaves(conductor) == 1


def test_another_signature_of_the_same_content_is_a_repeat(conductor):
    signed = conductor.event("action.performed")

    answers = [post(conductor, each.raw) for each in (signed, conductor.resigned(signed))]

    assert [answer.status_code for answer in answers] == [202, 202] and leaves(conductor) == 1


def test_other_content_under_the_same_id_is_refused_kept_and_found(conductor):
    signed = conductor.event("action.performed")
    other = conductor.equivocated(signed, outcome="failure")
    post(conductor, signed.raw)

    answers = [post(conductor, other.raw) for _ in range(2)]

    assert [a.status_code for a in answers] == [409, 409]
    assert answers[0].json()["err"] == "duplicate_conflict"
    assert leaves(conductor) == 2  # the event, and the conflict once
    conductor.settle()
    finding = Finding.objects.get(tenant=conductor.row, rule="integrity.duplicate_conflict")
    assert len(finding.event_ids) == 1 and len(finding.leaves) == 2
    assert Event.objects.filter(tenant=conductor.row).count() == 1


def test_a_batch_is_answered_by_jti_and_repeats_name_their_first_leaf(conductor):
    one, two = conductor.event("action.performed"), conductor.event("action.denied")
    [first] = conductor.send(one)

    answer = post(conductor, batch(one, two, conductor.tampered(conductor.event("action.denied"))),
                  content_type="application/json")  # fmt: skip

    body = answer.json()
    assert answer.status_code == 200
    assert set(body["ack"]) == {one.jti, two.jti}
    assert body["leaves"] == {one.jti: first.leaf_index, two.jti: first.leaf_index + 1}
    [error] = body["setErrs"].values()
    assert error["err"] == "authentication_failed" and error["description"]


def test_a_conflict_in_a_batch_is_told_and_the_rest_is_taken(conductor):
    one, two = conductor.event("action.performed"), conductor.event("action.denied")
    conductor.send(one)

    body = post(
        conductor, batch(conductor.equivocated(one, outcome="failure"), two), content_type="application/json"
    ).json()

    assert body["ack"] == [two.jti]
    assert body["setErrs"][one.jti]["err"] == "duplicate_conflict"


def test_every_refusal_has_its_answer_and_leaves_no_leaf(conductor):
    good = conductor.event("action.performed")
    before = Leaf.objects.filter(tenant=conductor.row).count()
    answers = {
        "tampered": post(conductor, conductor.tampered(good).raw),
        "no jws": post(conductor, b"hello"),
        "text": post(conductor, good.raw, content_type="text/plain"),
        "gzip": post(conductor, good.raw, **{"Content-Encoding": "gzip"}),
        "too large": post(conductor, b"x" * 300_000),
        "unknown source": post(conductor, good.raw, source="nobody"),
        "unknown tenant": Client().post("/ingest/nobody/conductor", good.raw, content_type="application/secevent+jwt"),
        "no source": Client().post("/ingest/", good.raw, content_type="application/secevent+jwt"),
        "get": Client().get(f"/ingest/{conductor.tenant}/conductor"),
    }

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "tampered": 400, "no jws": 400, "text": 415, "gzip": 415, "too large": 413, "unknown source": 404,
        "unknown tenant": 404, "no source": 404, "get": 405,
    }  # fmt: skip
    for name, answer in answers.items():
        if answer.status_code != 405:
            assert set(answer.json()) == {"err", "description"}, name
    assert Leaf.objects.filter(tenant=conductor.row).count() == before


def test_a_body_over_16_mib_is_refused_by_its_length(conductor):
    answer = Client().generic(
        "POST",
        f"/ingest/{conductor.tenant}/conductor",
        b"{}",
        content_type="application/json",
        CONTENT_LENGTH="99999999",
    )

    assert answer.status_code == 413


def test_every_answer_says_how_long_it_is(conductor):
    answers = [
        post(conductor, conductor.event("action.performed").raw),
        post(conductor, b"{", source="nobody"),
        post(conductor, b"{"),
    ]

    assert [answer.headers["Content-Length"] for answer in answers] == [str(len(answer.content)) for answer in answers]
    assert answers[0].headers["Content-Length"] == "0"


@pytest.mark.parametrize("name", ["nobody", "con%00ductor", "con%FFductor", "x" * 5000, "%ED%A0%80"])
def test_a_source_that_cannot_be_is_not_found(conductor, name):
    answer = post(conductor, b"{}", source=name)

    assert answer.status_code == 404 and "no source" in answer.json()["description"]


def test_what_asks_for_several_sources_at_once_is_told_of_each(conductor):
    conductor.source("other", "https://other.example")
    conductor.configure("other")
    wanted = [
        ("nowhere", "conductor"),
        (conductor.tenant, "other"),
        (conductor.tenant, "conductor"),
        (conductor.tenant, "other"),
    ]

    nowhere, other, first, again = _versions(lambda: wanted)

    assert nowhere is None and other == again != first
    assert Source.objects.get(pk=other[0]).name == "other" and Source.objects.get(pk=first[0]).name == "conductor"


def test_a_suspended_source_is_refused_at_once_and_taken_again_when_resumed(conductor):
    [source] = conductor.row.source_set.all()
    signed = conductor.event("action.performed")
    post(conductor, conductor.event("action.performed").raw)

    set_source_state(source, "suspended", now=conductor.now)
    refused = post(conductor, signed.raw)
    set_source_state(source, "active", now=conductor.now)

    assert (refused.status_code, refused.json()["err"]) == (403, "access_denied")
    assert post(conductor, signed.raw).status_code == 202


def test_a_new_key_is_good_and_a_retired_one_bad_as_soon_as_that_is_configured(conductor):
    [source] = conductor.row.source_set.all()
    post(conductor, conductor.event("action.performed").raw)
    second = Signer("https://conductor.example", "second", seed=9)
    claims = conductor.event("action.performed").claims

    assert post(conductor, second.sign_set(claims)).json()["err"] == "invalid_key"
    add_key(source, second.jwk, now=conductor.now)
    assert post(conductor, second.sign_set(claims)).status_code == 202

    retire_key(source.keys.get(kid="conductor-1"), now=conductor.now)
    assert post(conductor, conductor.event("action.performed").raw).json()["err"] == "invalid_key"


def test_every_change_of_keys_and_state_is_a_leaf(conductor):
    [source] = conductor.row.source_set.all()
    set_source_state(source, "suspended", now=conductor.now)
    retire_key(source.keys.get(), now=conductor.now)

    bodies = [json.loads(bytes(p.raw)) for p in Payload.objects.filter(tenant=conductor.row).order_by("leaf_index")]

    assert [body["change"] for body in bodies] == [
        "tenant.added", "source.added", "key.added", "source.suspended", "key.retired",
    ]  # fmt: skip


def test_a_flood_is_told_when_to_come_back(world):
    world.source("loud", "https://loud.example")
    world.configure("loud", requests_per_second=3)

    answers = [post(world, world.event("action.performed", source="loud").raw, source="loud") for _ in range(12)]

    assert [a.status_code for a in answers[:3]] == [202, 202, 202]
    refused = [a for a in answers if a.status_code == 429]
    assert refused and all(int(a.headers["Retry-After"]) >= 1 for a in refused)


def test_statements_outside_its_layers_and_issuers_are_kept_as_claimed(world):
    world.source("registrar", "https://registrar.example", layers=["domains"], speaks_for=["https://registrar.example"])
    ada = world.human("ada", issuer="https://id.acme.example")
    bot = world.agent("bot", issuer="https://bots.example")
    grant = world.grant(ada, bot, actions=["domain.register"])

    world.send(grant, world.registers("acme.io", grant=grant, price_minor=900))
    world.project()

    granted, registered = Event.objects.filter(tenant=world.row).order_by("leaf_index")
    assert (granted.within_remit, registered.within_remit) == (False, True)
    assert (registered.chain_complete, registered.chain_proven) == (True, False)


def test_an_issuer_belongs_to_one_set_source_of_a_tenant(world):
    from auditlog.core.errors import ConfigurationError
    from auditlog.sources.configure import add_source

    world.source("one", "https://same.example")
    world.configure("one")

    with pytest.raises(ConfigurationError, match="belongs to another source"):
        add_source(
            world.row, "two", format="set", issuer="https://same.example", jwks=world.sources["one"].jwks, now=world.now
        )
    assert world.row.source_set.count() == 1


def test_forged_deliveries_are_counted_by_source_key_and_hour_and_found_once(conductor):
    for _ in range(3):
        conductor.refused(conductor.tampered(conductor.event("action.performed")))
    conductor.settle()

    [count] = RefusalCount.objects.filter(tenant=conductor.row)
    assert (count.count, count.err, len(count.key)) == (3, "authentication_failed", 43)
    [finding] = Finding.objects.filter(tenant=conductor.row)
    assert finding.rule == "integrity.signature_failed" and finding.evidence["count"] == 3

    conductor.refused(conductor.tampered(conductor.event("action.performed")))
    conductor.settle()
    assert Finding.objects.get(tenant=conductor.row).evidence["count"] == 4


def test_stripe_webhooks_are_taken_and_their_signed_header_is_kept(world):
    world.stripe_source("stripe")
    charge = {
        "id": "ch_1",
        "object": "charge",
        "amount": 900,
        "amount_captured": 900,
        "captured": True,
        "currency": "usd",
    }
    signed = world.stripe_event("charge.succeeded", charge, idempotency_key="k")
    world.configure("stripe")

    answer = post(world, signed.raw, source="stripe", content_type="application/json", **signed.headers)

    assert answer.status_code == 202
    payload = Payload.objects.get(tenant=world.row, source_event_id=signed.jti)
    assert bytes(payload.raw) == signed.raw
    assert json.loads(bytes(payload.headers)) == {"stripe-signature": signed.headers["Stripe-Signature"]}


def test_a_broker_that_is_down_costs_no_event(conductor, monkeypatch):
    from auditlog.work import tasks

    tasks._last_sent.clear()
    before = tasks.UNSENT._value.get()
    monkeypatch.setattr(tasks.drive, "apply_async", lambda *a, **k: (_ for _ in ()).throw(OSError("no broker")))

    answer = post(conductor, conductor.event("action.performed").raw)

    assert answer.status_code == 202
    assert tasks.UNSENT._value.get() == before + 1
    conductor.settle()
    assert Event.objects.filter(tenant=conductor.row).count() == 1


# --- what comes while a round of detection is under way -----------------------------------------------------------------


@pytest.fixture
def held(conductor, monkeypatch):
    """A round of detection that has read the refusals and is not committed: `held.begin()`, then `held.end()`."""
    read, go_on, keep = threading.Event(), threading.Event(), detect._judge_sources

    def paused(*args, **more):
        read.set()
        assert go_on.wait(20)
        return keep(*args, **more)

    def run():
        detect.detect(conductor.row, now=conductor.now)
        connections.close_all()

    thread = threading.Thread(target=run)

    class Held:
        def begin(self):
            monkeypatch.setattr(detect, "_judge_sources", paused)
            thread.start()
            assert read.wait(20)

        def end(self):
            go_on.set()
            thread.join(20)
            monkeypatch.setattr(detect, "_judge_sources", keep)

    yield Held()
    go_on.set()
    thread.join(20)


def forgeries(world):
    found = Finding.objects.filter(tenant=world.row, rule="integrity.signature_failed").exclude(state="withdrawn")
    return sum(finding.evidence["count"] for finding in found)


@pytest.mark.parametrize("first", ["forged", "malformed", "conflict"])
def test_a_forgery_that_comes_while_an_earlier_refusal_is_judged_is_found(conductor, held, first):
    signed = conductor.event("action.performed")
    post(conductor, signed.raw)
    before = {
        "forged": conductor.tampered(signed).raw,
        "malformed": b"x",
        "conflict": conductor.equivocated(signed, outcome="failure").raw,
    }
    post(conductor, before[first])
    conductor.project()

    held.begin()
    post(conductor, conductor.tampered(conductor.event("action.denied")).raw)
    held.end()
    conductor.settle()

    assert forgeries(conductor) == 1 + (first == "forged")


def test_a_flood_of_refusals_between_two_rounds_asks_for_one_look(conductor):
    for _ in range(20):
        post(conductor, conductor.tampered(conductor.event("action.performed")).raw)

    assert Dirty.objects.filter(tenant=conductor.row, kind="refusal").count() == 1


def test_a_source_that_promises_anew_while_its_silence_is_judged_is_looked_at_again(conductor, held):
    source = conductor.row.source_set.get()
    promise_heartbeat(source, 60, now=conductor.now)
    conductor.project()

    held.begin()
    promise_heartbeat(source, 30, now=conductor.now)
    held.end()

    assert Dirty.objects.filter(tenant=conductor.row, kind="silence").exists()


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "RS256"])
def test_a_delivery_under_a_known_key_with_another_algorithm_is_found_as_a_forgery(conductor, algorithm):
    signed = conductor.event("action.performed")
    header, claims, signature = signed.raw.split(b".")
    said = json.loads(b64url_bytes(header.decode())) | {"alg": algorithm}
    forged = b".".join((b64url(json.dumps(said).encode()).encode(), claims, signature))

    refused = post(conductor, forged)
    conductor.settle()

    assert (refused.status_code, refused.json()["err"]) == (400, "invalid_key")
    finding = Finding.objects.get(tenant=conductor.row, rule="integrity.signature_failed")
    assert finding.evidence["key"] == conductor.row.source_set.get().keys.get().thumbprint


def test_an_unknown_name_of_a_key_is_no_forgery_of_a_known_one_whatever_its_algorithm(conductor):
    signed = conductor.event("action.performed")
    header, claims, signature = signed.raw.split(b".")
    said = json.loads(b64url_bytes(header.decode())) | {"alg": "none", "kid": "nobody's"}

    post(conductor, b".".join((b64url(json.dumps(said).encode()).encode(), claims, signature)))
    conductor.settle()

    assert forgeries(conductor) == 0
