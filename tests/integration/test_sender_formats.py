"""Every sender format over HTTP: taken, repeated without effect, projected as it was understood, checked again."""

import gzip
import json
from base64 import b64encode
from hashlib import sha256

import pytest
from django.test import Client

from auditlog import formats
from auditlog.core.errors import Refused
from auditlog.formats import NAMES
from auditlog.ingest.poll import poll
from auditlog.models import Event, Leaf, Payload
from auditlog.projection.project import project
from auditlog.reads.leaves import integrity_of
from auditlog.simulator.signing import Signer
from auditlog.sources.fetch_keys import add_source_by_url
from tests.deliveries import CLOUDFLARE_PUSHED, ISSUER, SAMPLES, SESSION_REVOKED, SIGNED_BODY, SIGNER, TOKEN


def post(tenant, name, delivery):
    headers = {
        key: value for key, value in delivery.headers.items() if not key.startswith(":") and key != "content-type"
    }
    return Client().post(
        f"/ingest/{tenant.name}/{name}", delivery.body, content_type=delivery.content_type, headers=headers
    )


@pytest.mark.parametrize("format", [name for name in NAMES if name not in ("set", "http_signatures")])
def test_a_delivery_is_taken_once_and_projected_as_it_was_understood(source, tenant, now, format):
    row, sample = source(format), SAMPLES[format]
    expected = set()
    for body in sample.bodies:
        delivery = sample.deliver(body)
        answers = [post(tenant, row.name, delivery) for _ in range(2)]
        assert [answer.status_code for answer in answers] in ([202, 202], [200, 200]), answers[0].content
        sender = formats.Sender(
            tenant.name,
            row.name,
            ISSUER,
            keys=sample.known.keys,
            secret=sample.known.secret,
            audience=sample.known.audience,
        )
        for statement in formats.named(format).receive(delivery, sender).statements.values():
            assert not isinstance(statement, Refused)
            expected.add((statement.source_event_id, statement.event.type, statement.grade))

    project(tenant, now=now)

    stored = Event.objects.filter(tenant=tenant).values_list("source_event_id", "type", "grade")
    assert set(stored) == expected and stored.count() == len(expected)
    assert Leaf.objects.filter(tenant=tenant, event_id__isnull=False).count() == len(expected)


@pytest.mark.parametrize(("body", "kind"), [(b"\x0a\x00", "application/x-protobuf"), (b"{}", "application/json")])
def test_an_export_of_nothing_is_answered_as_a_collector_answers_it(source, tenant, body, kind):
    source("otlp")
    answer = post(tenant, "otlp", SAMPLES["otlp"].deliver(body, kind))
    assert answer.status_code == 200, answer.content
    assert not Leaf.objects.filter(tenant=tenant, event_id__isnull=False).exists()


def test_logpush_is_answered_as_it_wants_to_be(source, tenant):
    source("cloudflare")
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip"}

    def push(body):
        return Client().post(
            f"/ingest/{tenant.name}/cloudflare", gzip.compress(body), content_type="text/plain", headers=headers
        )

    validation = push(b'{"content":"tests"}')
    records = push(
        b"\n".join(json.dumps(CLOUDFLARE_PUSHED | {"AuditLogID": id}).encode() for id in "ab")
        + b'\n{"AuditLogID": ""}\n'
    )

    assert (validation.status_code, validation.json()["ack"]) == (200, [])
    assert (records.status_code, records.json()["ack"]) == (200, ["a", "b"])
    assert (
        list(records.json()["setErrs"]) == ["record 3"]
        and records.json()["setErrs"]["record 3"]["err"] == "invalid_request"
    )


def test_the_request_line_that_a_sender_signed_is_the_one_we_received(source, tenant):
    source("http_signatures")
    path, body = f"/ingest/{tenant.name}/http-signatures", json.dumps(SIGNED_BODY).encode()
    digest = f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"

    def send(signed_path):
        params = '("@method" "@authority" "@path" "content-digest");created=1795000000;keyid="k1"'
        base = f'"@method": POST\n"@authority": testserver\n"@path": {signed_path}\n"content-digest": {digest}\n"@signature-params": {params}'
        signature = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
        headers = {
            "Host": "testserver",
            "Content-Digest": digest,
            "Signature-Input": f"s={params}",
            "Signature": f"s=:{signature}:",
        }
        return Client().post(path, body, content_type="application/json", headers=headers)

    assert send(path).status_code == 202
    assert send("/ingest/elsewhere").json()["err"] == "authentication_failed"


def test_a_compressed_delivery_is_refused_where_the_format_takes_none(source, tenant):
    source("stripe")

    answer = Client().post(
        f"/ingest/{tenant.name}/stripe", b"x", content_type="application/json", headers={"Content-Encoding": "gzip"}
    )

    assert answer.status_code == 415 and "Content-Encoding" in answer.json()["description"]


@pytest.mark.parametrize("format", ["stripe", "standard_webhooks", "ap2", "app", "acp", "x402", "auth0"])
def test_stored_signatures_are_checked_again_and_no_secret_is_among_the_bytes(source, tenant, format):
    row, sample = source(format), SAMPLES[format]
    for body in sample.bodies:
        post(tenant, row.name, sample.deliver(body))

    leaves = list(Leaf.objects.filter(tenant=tenant, event_id__isnull=False))
    checks = integrity_of(tenant, leaves)
    for leaf in leaves:
        check = checks[str(leaf.event_id)]
        assert check.commitment_ok and check.signature_ok is (None if leaf.key == "-" else True), check
        payload = Payload.objects.get(tenant=tenant, leaf_index=leaf.leaf_index)
        assert TOKEN.encode() not in bytes(payload.raw) + bytes(payload.headers) and b"spt_123abc" not in bytes(
            payload.raw
        )


# --- Shared Signals: pushed and polled --------------------------------------------------------------------------------


def signal(jti="signal-1", signer=SIGNER, **changes):
    return signer.sign_set(SESSION_REVOKED | {"jti": jti} | changes)


def test_a_signal_is_pushed_and_answered_as_rfc_8935_says(source, tenant, now):
    source("caep")

    def push(raw, content_type="application/secevent+jwt"):
        return Client().post(f"/ingest/{tenant.name}/caep", raw, content_type=content_type)

    taken, again = push(signal()), push(signal())
    refused = {
        "invalid_issuer": push(signal("i", iss="https://other.example")),
        "invalid_audience": push(signal("a", aud="somebody else")),
        "invalid_key": push(signal("k", signer=Signer(ISSUER, "k9", seed=9))),
        "authentication_failed": push(signal("f")[:-8] + b"AAAAAAAA"),
        "invalid_request": push(b"not a token"),
    }

    assert (taken.status_code, again.status_code, taken.content) == (202, 202, b"") and taken["Location"] == again[
        "Location"
    ]
    for err, answer in refused.items():
        assert (answer.status_code, answer.json()["err"]) == (400, err) and answer.json()["description"]
    project(tenant, now=now)
    event = Event.objects.get(tenant=tenant)
    assert (event.type, event.session, event.grade) == ("session.ended", "session-7", "A")
    assert integrity_of(tenant, [event])[str(event.event_id)].signature_ok is True


def test_a_signal_is_polled_acknowledged_and_its_new_key_read(tenant, outside, now):
    keys, kept, acked = (
        [SIGNER.jwk],
        {"signal-1": signal().decode(), "signal-2": signal("signal-2", signer=Signer(ISSUER, "k2", seed=2)).decode()},
        [],
    )

    def answer(method, path, headers, body):
        if path == "/jwks":
            return 200, {}, json.dumps({"keys": keys}).encode()
        asked = json.loads(body)
        acked.extend(asked.get("ack", []))
        [kept.pop(jti, None) for jti in asked.get("ack", [])]
        return 200, {}, json.dumps({"sets": kept if asked["maxEvents"] else {}}).encode()

    outside.answer = answer
    row = add_source_by_url(
        tenant, "idp", format="caep", issuer=ISSUER, jwks_url=f"{outside.url}/jwks", poll_url=f"{outside.url}/poll",
        audience="urn:answerable:default", allow_private=True, now=now, call=outside.call,
    )  # fmt: skip
    keys.append(Signer(ISSUER, "k2", seed=2).jwk)  # rotated after we read it

    assert poll(row, now=lambda: now, call=outside.call) == 2
    assert sorted(acked) == ["signal-1", "signal-2"] and not kept


def test_a_verification_event_is_a_heartbeat(source, tenant, now):
    source("caep")
    uri = "https://schemas.openid.net/secevent/ssf/event-type/verification"
    raw = signal("v", events={uri: {"state": "abc"}}, sub_id={"format": "opaque", "id": "stream-1"})

    assert Client().post(f"/ingest/{tenant.name}/caep", raw, content_type="application/secevent+jwt").status_code == 202
    project(tenant, now=now)
    assert Event.objects.get(tenant=tenant).type == "source.heartbeat"


def test_a_signal_in_a_bundle_is_checked_offline(source, tenant, now, tmp_path):
    """The audience is the stream's, so the verifier does not hold it to the tenant's name."""
    source("caep")
    Client().post(f"/ingest/{tenant.name}/caep", signal(), content_type="application/secevent+jwt")
    from auditlog.verifier.answerable_verify import Keys, check_signature

    keys = Keys()
    for payload in Payload.objects.filter(tenant=tenant).order_by("leaf_index"):
        leaf = Leaf.objects.get(tenant=tenant, leaf_index=payload.leaf_index)
        if leaf.kind == 0:
            raw, stamp = bytes(payload.raw), leaf.key
        else:
            keys.learn(payload.leaf_index, "key" if leaf.kind == 1 else "config", bytes(payload.raw), 0)

    assert check_signature(keys, "caep", stamp, "A", "signal-1", b"", raw, tenant.name) == "good"
    with pytest.raises(ValueError, match="does not fit"):
        check_signature(keys, "caep", stamp, "A", "signal-1", b"", raw[:-8] + b"AAAAAAAA", tenant.name)
