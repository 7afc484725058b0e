"""The front door: bodies as senders and servers really hand them over, handshakes before the first event, pasted secrets."""

import gzip
import io
import json
from base64 import b64encode
from hashlib import sha256

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client

from auditlog.formats import Delivery
from auditlog.ingest import MAX_BODY
from auditlog.models import Leaf, NotedDelivery, Payload, RefusalCount
from auditlog.source_secrets import source_secret
from tests.deliveries import AUTH0, CLOUDEVENT, SAMPLES, SIGNED_BODY, SIGNER, TOKEN
from tests.integration.test_sender_formats import post


def chunked(path, body, *, read=None, **headers):
    """A request as a WSGI server hands on one that came in chunks: no length, and the stream marks its end."""
    answer = []
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": path, "SERVER_NAME": "testserver", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
        "wsgi.input": read or io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.errors": io.StringIO(),
    } | {("" if name == "Content-Type" else "HTTP_") + name.upper().replace("-", "_"): value for name, value in headers.items()}  # fmt: skip
    content = b"".join(WSGIHandler()(environ, lambda status, headers, *_: answer.append(int(status[:3]))))
    return answer[0], content


def leaves(tenant):
    return Leaf.objects.filter(tenant=tenant, event_id__isnull=False).count()


def headers_of(delivery):
    return {"Content-Type": delivery.content_type} | {k: v for k, v in delivery.headers.items() if not k.startswith(":") and k != "content-type"}


@pytest.mark.parametrize("format", ["cloudevents", "stripe", "standard_webhooks", "auth0"])
def test_a_body_without_a_length_is_taken_as_one_with(source, tenant, format):
    row, sample = source(format), SAMPLES[format]
    delivery = sample.deliver(sample.bodies[0])

    status, content = chunked(f"/ingest/{tenant.name}/{row.name}", delivery.body, **headers_of(delivery))

    assert status in (200, 202) and leaves(tenant) == 1, content
    assert not RefusalCount.objects.filter(tenant=tenant).exists()


class Dribbling(io.RawIOBase):
    """A stream that gives a few bytes at a time, as slow senders make servers do."""

    def __init__(self, body):
        self.body, self.given = body, 0

    def read(self, size=-1):
        part = self.body[self.given : self.given + min(7, size)]
        self.given += len(part)
        return part


def test_a_body_that_comes_bit_by_bit_is_read_to_its_end(source, tenant):
    row, delivery = source("cloudevents"), SAMPLES["cloudevents"].deliver(SAMPLES["cloudevents"].bodies[0])

    status, content = chunked(f"/ingest/{tenant.name}/{row.name}", b"", read=Dribbling(delivery.body), **headers_of(delivery))

    assert status == 202, content


class Endless(io.RawIOBase):
    given = 0

    def read(self, size=-1):
        self.given += size
        return b"x" * size


def test_a_body_without_end_is_read_up_to_the_bound(source, tenant):
    row, stream = source("cloudevents"), Endless()

    status, _ = chunked(f"/ingest/{tenant.name}/{row.name}", b"", read=stream, **{"Authorization": TOKEN, "Content-Type": "application/json"})

    assert status == 413 and stream.given <= MAX_BODY + 1


class Broken(io.RawIOBase):
    def read(self, size=-1):
        raise OSError("the peer hung up")


def test_a_sender_that_hangs_up_is_told_so_and_not_that_its_signature_is_wrong(source, tenant):
    row = source("stripe")

    status, content = chunked(f"/ingest/{tenant.name}/{row.name}", b"", read=Broken(), **{"Content-Type": "application/json"})

    assert status == 400 and json.loads(content)["err"] == "invalid_request"
    assert not RefusalCount.objects.filter(tenant=tenant, err="authentication_failed").exists()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("identity", bytes), ("GZIP", gzip.compress), ("x-gzip", gzip.compress), ("gzip, identity", gzip.compress), ("gzip", bytes)]
)
def test_content_encodings_are_taken_by_what_they_say(source, tenant, encoding, pack):
    row, body = source("auth0"), json.dumps(AUTH0).encode()

    answer = post(tenant, row.name, Delivery(pack(body), "application/json", {"authorization": TOKEN, "content-encoding": encoding}))

    assert answer.status_code == 202, answer.content


def test_identity_is_no_encoding_for_formats_without_any(source, tenant):
    row, sample = source("stripe"), SAMPLES["stripe"]
    delivery = sample.deliver(sample.bodies[0])

    assert post(tenant, row.name, Delivery(delivery.body, delivery.content_type, delivery.headers | {"content-encoding": "identity"})).status_code == 202
    assert post(tenant, row.name, Delivery(delivery.body, delivery.content_type, delivery.headers | {"content-encoding": "br"})).status_code == 415


def test_the_handshake_of_a_cloudevents_webhook_is_answered(source, tenant):
    row = source("cloudevents")
    asked = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}

    answer = Client().options(f"/ingest/{tenant.name}/{row.name}", headers=asked)

    assert answer.status_code == 200 and answer["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer["WebHook-Allowed-Rate"] == "*" or int(answer["WebHook-Allowed-Rate"]) > 0
    assert "POST" in answer["Allow"] and leaves(tenant) == 0
    assert Client().options(f"/ingest/{tenant.name}/{row.name}").status_code == 405  # asks for nothing


def test_formats_without_a_handshake_have_none(source, tenant):
    row = source("auth0")

    assert Client().options(f"/ingest/{tenant.name}/{row.name}", headers={"WebHook-Request-Origin": "x.example"}).status_code == 405


def test_two_lines_of_a_signed_header_are_read_as_the_sender_signed_them(source, tenant):
    row, body = source("http_signatures"), json.dumps(SIGNED_BODY).encode()
    one, two = "sha-256=:x:", "sha-256=:" + b64encode(sha256(body).digest()).decode() + ":"
    params = '("content-digest");created=1795000000;keyid="k1"'
    base = f'"content-digest": {two}, {two}\n"@signature-params": {params}'
    made = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
    headers = {"content-digest": f"{two},{two}", "signature-input": f"sig1={params}", "signature": f"sig1=:{made}:"}

    answer = post(tenant, row.name, Delivery(body, "application/json", headers))

    assert answer.status_code == 202, answer.content
    assert post(tenant, row.name, Delivery(body, "application/json", headers | {"content-digest": f"{one},{two}"})).status_code == 400


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\n\n"])
@pytest.mark.parametrize("format", ["stripe", "auth0", "standard_webhooks", "acp"])
def test_a_secret_that_was_pasted_with_its_newline_is_the_secret(source, tenant, monkeypatch, format, end):
    row, sample = source(format), SAMPLES[format]
    monkeypatch.setenv("TEST_SENDER_SECRET", sample.known.secret().decode() + end)

    assert post(tenant, row.name, sample.deliver(sample.bodies[0])).status_code in (200, 202)
    assert source_secret("TEST_SENDER_SECRET") == sample.known.secret()


def test_a_secret_of_nothing_but_a_newline_is_none(monkeypatch):
    monkeypatch.setenv("TEST_SENDER_SECRET", "\n")

    assert source_secret("TEST_SENDER_SECRET") is None


def test_half_a_character_in_a_field_nobody_reads_loses_no_event(source, tenant):
    row = source("cloudevents")
    body = json.dumps(CLOUDEVENT | {"comment": "X"}).replace('"X"', '"Lunch \\ud83d", "n": 1e999, "m": 1' + "0" * 40).encode()
    batch = b"[" + body.replace(CLOUDEVENT["id"].encode(), b"ce-77") + b"]"

    answers = [post(tenant, row.name, Delivery(body, "application/cloudevents+json", {"authorization": TOKEN})) for _ in range(2)]
    assert post(tenant, row.name, Delivery(batch, "application/cloudevents-batch+json", {"authorization": TOKEN})).json()["ack"]
    assert Payload.objects.filter(tenant=tenant, raw=body).exists() and Payload.objects.filter(tenant=tenant, raw=batch[1:-1]).exists()

    assert [answer.status_code for answer in answers] == [202, 202] and leaves(tenant) == 2


def test_what_was_not_read_of_a_delivery_is_said_on_the_page_of_its_source(source, tenant):
    row = source("cloudevents")

    assert post(tenant, row.name, Delivery(json.dumps(CLOUDEVENT | {"traceparent": True}).encode(), "application/cloudevents+json", {"authorization": TOKEN})).status_code == 202

    [noted] = NotedDelivery.objects.filter(tenant=tenant)
    assert (noted.taken, noted.refused) == (1, 0) and "traceparent" in noted.reason


def test_the_one_time_verification_of_an_event_hook_is_answered(source, tenant):
    row, other = source("okta"), source("auth0")

    answer = Client().get(f"/ingest/{tenant.name}/{row.name}", headers={"X-Okta-Verification-Challenge": "abc123"})

    assert (answer.status_code, answer.json(), answer["Content-Type"]) == (200, {"verification": "abc123"}, "application/json")
    assert Client().get(f"/ingest/{tenant.name}/{row.name}").status_code == 405
    assert Client().get(f"/ingest/{tenant.name}/{other.name}", headers={"X-Okta-Verification-Challenge": "abc123"}).status_code == 405
    assert Client().get(f"/ingest/{tenant.name}/nobody", headers={"X-Okta-Verification-Challenge": "abc123"}).status_code == 405
