"""The front door: bodies as senders and servers really hand them over, handshakes before the first event, pasted secrets."""

import gzip
import io
import json
import zlib
from base64 import b64encode
from hashlib import sha256

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client

from auditlog.formats import Delivery
from auditlog.ingest.receive import MAX_BODY
from auditlog.models import Event, Leaf, NotedDelivery, Payload, RefusalCount
from auditlog.projection.project import project
from auditlog.sources.source_secrets import source_secret
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
    return {"Content-Type": delivery.content_type} | {
        k: v for k, v in delivery.headers.items() if not k.startswith(":") and k != "content-type"
    }


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

    status, content = chunked(
        f"/ingest/{tenant.name}/{row.name}", b"", read=Dribbling(delivery.body), **headers_of(delivery)
    )

    assert status == 202, content


class Endless(io.RawIOBase):
    given = 0

    def read(self, size=-1):
        self.given += size
        return b"x" * size


def test_a_body_without_end_is_read_up_to_the_bound(source, tenant):
    row, stream = source("cloudevents"), Endless()

    status, _ = chunked(
        f"/ingest/{tenant.name}/{row.name}",
        b"",
        read=stream,
        **{"Authorization": TOKEN, "Content-Type": "application/json"},
    )

    assert status == 413 and stream.given <= MAX_BODY + 1


class Broken(io.RawIOBase):
    def read(self, size=-1):
        raise OSError("the peer hung up")


def test_a_sender_that_hangs_up_is_told_so_and_not_that_its_signature_is_wrong(source, tenant):
    row = source("stripe")

    status, content = chunked(
        f"/ingest/{tenant.name}/{row.name}", b"", read=Broken(), **{"Content-Type": "application/json"}
    )

    assert status == 400 and json.loads(content)["err"] == "invalid_request"
    assert not RefusalCount.objects.filter(tenant=tenant, err="authentication_failed").exists()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("identity", bytes),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip, identity", gzip.compress),
        ("gzip", bytes),
        ("deflate", zlib.compress),
        ("Deflate", bytes),
        (" , ", bytes),
    ],
)
def test_content_encodings_are_taken_by_what_they_say(source, tenant, encoding, pack):
    row, body = source("auth0"), json.dumps(AUTH0).encode()

    answer = post(
        tenant,
        row.name,
        Delivery(pack(body), "application/json", {"authorization": TOKEN, "content-encoding": encoding}),
    )

    assert answer.status_code == 202, answer.content


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, deflate", "x" * 9000])
def test_other_encodings_are_refused_by_name_and_what_is_taken_is_said(source, tenant, encoding):
    row = source("auth0")

    answer = post(
        tenant,
        row.name,
        Delivery(
            json.dumps(AUTH0).encode(), "application/json", {"authorization": TOKEN, "content-encoding": encoding}
        ),
    )

    assert (
        answer.status_code == 415
        and "expected Content-Encoding gzip or deflate, or none" in answer.json()["description"]
    )
    assert encoding[:40] in answer.json()["description"] and len(answer.content) < 500
    assert not RefusalCount.objects.filter(tenant=tenant, err="authentication_failed").exists()


def test_identity_is_no_encoding_for_formats_without_any(source, tenant):
    row, sample = source("stripe"), SAMPLES["stripe"]
    delivery = sample.deliver(sample.bodies[0])

    assert (
        post(
            tenant,
            row.name,
            Delivery(delivery.body, delivery.content_type, delivery.headers | {"content-encoding": "identity"}),
        ).status_code
        == 202
    )
    assert (
        post(
            tenant,
            row.name,
            Delivery(delivery.body, delivery.content_type, delivery.headers | {"content-encoding": "br"}),
        ).status_code
        == 415
    )


def test_the_handshake_of_a_cloudevents_webhook_is_answered(source, tenant):
    row = source("cloudevents")
    asked = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}

    answer = Client().options(f"/ingest/{tenant.name}/{row.name}", headers=asked)

    assert answer.status_code == 200 and answer["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer["WebHook-Allowed-Rate"] == "*" or int(answer["WebHook-Allowed-Rate"]) > 0
    assert "POST" in answer["Allow"] and leaves(tenant) == 0
    assert Client().options(f"/ingest/{tenant.name}/{row.name}").status_code == 405  # asks for nothing


GRID = {"id": "2d1781af", "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.EventGrid/topics/t", "subject": "", "dataVersion": "1",
        "metadataVersion": "1", "eventTime": "2026-11-20T10:00:00.1234567Z", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "http://127.0.0.1:1/never-called"}}  # fmt: skip


def ask(tenant, row, body, kind="SubscriptionValidation"):
    return Client().post(
        f"/ingest/{tenant.name}/{row.name}",
        json.dumps(body),
        content_type="application/json",
        headers={"aeg-event-type": kind},
    )


def test_event_grids_question_whether_the_address_is_ours_is_answered_without_a_token_and_leaves_nothing(
    source, tenant
):
    row = source("cloudevents")

    answer = ask(tenant, row, [GRID])

    assert (answer.status_code, answer.json(), answer["Content-Type"]) == (
        200,
        {"validationResponse": GRID["data"]["validationCode"]},
        "application/json",
    )
    assert (
        leaves(tenant) == 0
        and not NotedDelivery.objects.filter(tenant=tenant).exists()
        and not RefusalCount.objects.filter(tenant=tenant).exists()
    )


@pytest.mark.parametrize("body", [
    [], {}, [GRID, GRID], [GRID | {"eventType": "Microsoft.EventGrid.SubscriptionDeletedEvent"}], [GRID | {"data": {}}], [GRID | {"data": None}],
    [GRID | {"data": {"validationCode": "<script>\n"}}], [GRID | {"data": {"validationCode": "x" * 201}}], [GRID | {"subject": "x" * 70_000}],
])  # fmt: skip
def test_a_question_that_is_none_is_refused(source, tenant, body):
    answer = ask(tenant, source("cloudevents"), body)

    assert answer.status_code in (400, 413) and "validationResponse" not in answer.content.decode()


def test_an_event_that_only_looks_like_the_question_needs_the_token_like_others(source, tenant):
    row = source("cloudevents")

    assert ask(tenant, row, [GRID], "Notification").status_code == 400 and leaves(tenant) == 0
    assert ask(tenant, source("auth0"), [GRID]).status_code == 400


def test_events_of_event_grids_own_schema_are_taken(source, tenant, now):
    row, made = (
        source("cloudevents"),
        GRID | {"eventType": "Microsoft.Storage.BlobCreated", "subject": "/blobs/1", "data": {"api": "PutBlob"}},
    )

    taken = post(
        tenant,
        row.name,
        Delivery(
            json.dumps([made, made | {"id": "2", "topic": None}]).encode(),
            "application/json",
            {"authorization": TOKEN, "aeg-event-type": "Notification"},
        ),
    )

    assert taken.json()["ack"] == [f"{GRID['topic']} 2d1781af", "event-grid 2"], taken.content
    project(tenant, now=now)
    event = Event.objects.get(tenant=tenant, source_event_id__startswith="/subs")
    assert (event.type, event.target, event.occurred_at.isoformat()) == (
        "other.cloudevents.Microsoft.Storage.BlobCreated",
        "/blobs/1",
        "2026-11-20T10:00:00.123456+00:00",
    )


def test_formats_without_a_handshake_have_none(source, tenant):
    row = source("auth0")

    assert (
        Client()
        .options(f"/ingest/{tenant.name}/{row.name}", headers={"WebHook-Request-Origin": "x.example"})
        .status_code
        == 405
    )


def test_two_lines_of_a_signed_header_are_read_as_the_sender_signed_them(source, tenant):
    row, body = source("http_signatures"), json.dumps(SIGNED_BODY).encode()
    one, two = "sha-256=:x:", "sha-256=:" + b64encode(sha256(body).digest()).decode() + ":"
    params = '("content-digest");created=1795000000;keyid="k1"'
    base = f'"content-digest": {two}, {two}\n"@signature-params": {params}'
    made = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
    headers = {"content-digest": f"{two},{two}", "signature-input": f"sig1={params}", "signature": f"sig1=:{made}:"}

    answer = post(tenant, row.name, Delivery(body, "application/json", headers))

    assert answer.status_code == 202, answer.content
    assert (
        post(
            tenant, row.name, Delivery(body, "application/json", headers | {"content-digest": f"{one},{two}"})
        ).status_code
        == 400
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\n\n"])
@pytest.mark.parametrize("format", ["stripe", "auth0", "standard_webhooks", "acp"])
def test_a_secret_that_was_pasted_with_its_newline_is_the_secret(source, tenant, monkeypatch, format, end):
    row, sample = source(format), SAMPLES[format]
    monkeypatch.setenv("TEST_SENDER_SECRET", sample.known.secret().decode() + end)

    assert post(tenant, row.name, sample.deliver(sample.bodies[0])).status_code in (200, 202)
    assert source_secret("TEST_SENDER_SECRET", tenant) == sample.known.secret()


def test_a_secret_of_nothing_but_a_newline_is_none(tenant, monkeypatch):
    monkeypatch.setenv("TEST_SENDER_SECRET", "\n")

    assert source_secret("TEST_SENDER_SECRET", tenant) is None


def test_half_a_character_in_a_field_nobody_reads_loses_no_event(source, tenant):
    row = source("cloudevents")
    body = (
        json.dumps(CLOUDEVENT | {"comment": "X"})
        .replace('"X"', '"Lunch \\ud83d", "n": 1e999, "m": 1' + "0" * 40)
        .encode()
    )
    batch = b"[" + body.replace(CLOUDEVENT["id"].encode(), b"ce-77") + b"]"

    answers = [
        post(tenant, row.name, Delivery(body, "application/cloudevents+json", {"authorization": TOKEN}))
        for _ in range(2)
    ]
    assert post(
        tenant, row.name, Delivery(batch, "application/cloudevents-batch+json", {"authorization": TOKEN})
    ).json()["ack"]
    assert (
        Payload.objects.filter(tenant=tenant, raw=body).exists()
        and Payload.objects.filter(tenant=tenant, raw=batch[1:-1]).exists()
    )

    assert [answer.status_code for answer in answers] == [202, 202] and leaves(tenant) == 2


def test_what_was_not_read_of_a_delivery_is_said_on_the_page_of_its_source(source, tenant):
    row = source("cloudevents")

    assert (
        post(
            tenant,
            row.name,
            Delivery(
                json.dumps(CLOUDEVENT | {"traceparent": True}).encode(),
                "application/cloudevents+json",
                {"authorization": TOKEN},
            ),
        ).status_code
        == 202
    )

    [noted] = NotedDelivery.objects.filter(tenant=tenant)
    assert (noted.taken, noted.refused) == (1, 0) and "traceparent" in noted.reason


def test_the_one_time_verification_of_an_event_hook_is_answered(source, tenant):
    row, other = source("okta"), source("auth0")

    answer = Client().get(f"/ingest/{tenant.name}/{row.name}", headers={"X-Okta-Verification-Challenge": "abc123"})

    assert (answer.status_code, answer.json(), answer["Content-Type"]) == (
        200,
        {"verification": "abc123"},
        "application/json",
    )
    assert Client().get(f"/ingest/{tenant.name}/{row.name}").status_code == 405
    assert (
        Client()
        .get(f"/ingest/{tenant.name}/{other.name}", headers={"X-Okta-Verification-Challenge": "abc123"})
        .status_code
        == 405
    )
    assert (
        Client().get(f"/ingest/{tenant.name}/nobody", headers={"X-Okta-Verification-Challenge": "abc123"}).status_code
        == 405
    )
