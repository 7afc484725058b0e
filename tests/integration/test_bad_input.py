"""Bad input over HTTP, for every format: a clear answer, the good kept, nothing half-written, no secret in what we say of it."""

import gzip
import json
import logging
from functools import cache

import pytest

from auditlog.formats import NAMES, named
from auditlog.models import Leaf, NotedDelivery, Payload, RefusalCount
from auditlog.projection.project import project
from tests.deliveries import SAMPLES, with_token
from tests.integration.test_sender_formats import post

RECORDS = [name for name in NAMES if getattr(named(name), "ENCODINGS", ())]
MARK = "hunter2Mark99"
TIMES = {
    "set": ("iat",), "caep": ("iat",), "stripe": ("created",), "auth0": ("data", "date"), "keycloak": ("time",), "ocsf": ("time",),
    "cloudflare": ("ActionTimestamp",), "cloudtrail": ("eventTime",), "standard_webhooks": ("timestamp",), "cloudevents": ("time",),
    "http_signatures": ("time",), "app": ("at",), "projects_cli": ("at",), "ap2": ("iat",), "acp": ("at",), "x402": ("at",), "mpp": ("at",),
    "peac": ("observed_at",), "github": ("@timestamp",), "okta": ("published",), "litellm": ("startTime",),
    "otlp": ("resourceSpans", 0, "scopeSpans", 0, "spans", 0, "startTimeUnixNano"),
}  # fmt: skip


def leaves(tenant):
    return Leaf.objects.filter(tenant=tenant, event_id__isnull=False).count()


def payloads(tenant):
    return Payload.objects.filter(tenant=tenant).count()


def good_line(format):
    body = json.loads(SAMPLES[format].bodies[0])
    return json.dumps(body).encode()


@pytest.mark.parametrize("format", RECORDS)
def test_of_a_mixed_batch_the_good_are_kept_and_each_bad_one_is_told(source, tenant, format):
    row, sample = source(format), SAMPLES[format]
    bad = [
        good_line(format)[:-9],
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a":"\xff"}',
        b'{"a":"' + b"x" * (300 * 1024) + b'"}',
        b'{"number":"4242424242424242"}',
        b'{"a":1,"a":2}',
        b"[1]",
        b'{"at":"Bearer ' + MARK.encode() + b'","time":"Bearer ' + MARK.encode() + b'"}',
    ]
    delivery = sample.deliver(b"\n".join([*bad[:4], good_line(format), *bad[4:]]))

    before = payloads(tenant)
    answers = [post(tenant, row.name, delivery) for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 200, answer.content
        said = answer.json()
        assert len(said["ack"]) == 1 and len(said["setErrs"]) == len(bad)
        assert all(one["err"] and one["description"] for one in said["setErrs"].values())
    assert leaves(tenant) == 1 == payloads(tenant) - before
    assert sum(RefusalCount.objects.filter(tenant=tenant).values_list("count", flat=True)) == 2 * len(bad)
    kept = [
        *RefusalCount.objects.filter(tenant=tenant).values_list("sample", flat=True),
        *NotedDelivery.objects.filter(tenant=tenant).values_list("reason", flat=True),
    ]
    assert kept and not any(MARK in text or "4242424242424242" in text for text in kept)


@pytest.mark.parametrize("format", NAMES)
def test_a_bad_delivery_is_refused_with_a_reason_and_writes_nothing(source, tenant, format, caplog):
    row, sample = source(format), SAMPLES[format]
    body = sample.bodies[0]
    bodies = [body[: len(body) // 2], body.decode().encode("utf-16"), b"\xef\xbb\xbf" + body[:-1], b'{"a":"caf\xe9"}', b"[" * 100_000, b"", b"null",
              b'{"a":1,"a":1}', b'{"access_token":"' + MARK.encode() + b'","at":"Bearer ' + MARK.encode() + b'"}']  # fmt: skip
    if format == "standard_webhooks":
        bodies.pop()  # whatever its sender signs is kept, without its secrets

    before = payloads(tenant)
    with caplog.at_level(logging.DEBUG):
        for bad in bodies:
            answer = post(tenant, row.name, sample.deliver(bad))
            assert 400 <= answer.status_code < 500, (bad[:40], answer.content)
            assert answer.json()["description"], bad[:40]

    assert leaves(tenant) == 0 == payloads(tenant) - before
    assert MARK not in caplog.text
    assert not any(MARK in text for text in RefusalCount.objects.filter(tenant=tenant).values_list("sample", flat=True))


@cache
def bombs():
    """Two bodies of a few hundred kilobytes that open to many megabytes."""
    return gzip.compress(b"0" * (200 << 20), 9), gzip.compress(b"\n" * (40 << 20)) + gzip.compress(b"{}")


@pytest.mark.parametrize("format", RECORDS)
def test_a_gzip_bomb_is_refused_and_writes_nothing(source, tenant, format):
    row = source(format)
    for body in bombs():
        delivery = with_token(body, **{"content-encoding": "gzip"})
        answer = post(tenant, row.name, delivery)
        assert answer.status_code in (400, 413) and answer.json()["description"]
    assert leaves(tenant) == 0


@pytest.mark.parametrize(
    "when",
    [
        0,
        1,
        32_503_679_999,
        10**30,
        -1,
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-02-30T00:00:00Z",
        True,
    ],
)
@pytest.mark.parametrize("format", NAMES)
def test_a_clock_far_off_is_kept_as_it_was_told_or_refused_and_stops_nothing(source, tenant, now, format, when):
    row, sample = source(format), SAMPLES[format]
    document = json.loads(sample.bodies[0])
    holder = document
    for name in TIMES[format][:-1]:
        holder = holder[name]
    holder[TIMES[format][-1]] = when
    answer = post(tenant, row.name, sample.deliver(json.dumps(document).encode()))

    assert answer.status_code in (200, 202, 400), answer.content
    kept = answer.status_code == 202 or (answer.status_code == 200 and len(answer.json()["ack"]))
    assert leaves(tenant) == int(bool(kept))
    post(tenant, row.name, sample.deliver(sample.bodies[-1] if format != "ap2" else sample.bodies[1]))
    project(tenant, now=now)
