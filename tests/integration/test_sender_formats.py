"""Every sender format over HTTP: taken, repeated without effect, projected as it was understood, checked again."""

import gzip
import json
from base64 import b64encode
from hashlib import sha256

import pytest
from django.test import Client

from auditlog import formats
from auditlog.configure import add_source
from auditlog.core.errors import Refused
from auditlog.formats import NAMES
from auditlog.models import Event, Leaf, Payload
from auditlog.project import project
from auditlog.queries import integrity_of
from tests.deliveries import CLOUDFLARE_PUSHED, ISSUER, SAMPLES, SIGNED_BODY, SIGNER, TOKEN


@pytest.fixture
def source(tenant, now, monkeypatch):
    """A source of the format, with the samples' secret and keys."""

    def add(format):
        sample = SAMPLES[format]
        monkeypatch.setenv("TEST_SENDER_SECRET", sample.known.secret().decode())
        keys = {"keys": [SIGNER.jwk]} if sample.known.keys else None
        return add_source(
            tenant,
            format.replace("_", "-"),
            format=format,
            issuer=ISSUER,
            jwks=keys,
            secret_env="TEST_SENDER_SECRET",
            now=now,
        )

    return add


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
        sender = formats.Sender(tenant.name, row.name, ISSUER, keys=sample.known.keys, secret=sample.known.secret)
        for statement in formats.named(format).receive(delivery, sender).statements.values():
            assert not isinstance(statement, Refused)
            expected.add((statement.source_event_id, statement.event.type, statement.grade))

    project(tenant, now=now)

    stored = Event.objects.filter(tenant=tenant).values_list("source_event_id", "type", "grade")
    assert set(stored) == expected and stored.count() == len(expected)
    assert Leaf.objects.filter(tenant=tenant, event_id__isnull=False).count() == len(expected)


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
        + b'\n{"AuditLogID": "c"}\n'
    )

    assert (validation.status_code, validation.json()["ack"]) == (200, [])
    assert (records.status_code, records.json()["ack"]) == (200, ["a", "b"])
    assert list(records.json()["setErrs"]) == ["c"] and records.json()["setErrs"]["c"]["err"] == "invalid_request"


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
