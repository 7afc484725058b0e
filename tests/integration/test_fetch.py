"""What a thin event announces is fetched and appended, once, whatever the host, the key or this process does meanwhile."""

import json
import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from auditlog.formats import Delivery
from auditlog.ingest.fetch import TRIES, TRIES_IF_DOWN, fetch
from auditlog.ingest.receive import ingest
from auditlog.models import Charge, Event, Leaf, Payload, PendingFetch, Pull, Source
from auditlog.simulator.signing import StripeSigner
from auditlog.sources.configure import add_source, set_source_state
from auditlog.work import rounds
from tests.integration.test_dashboard_pages import signed_in, text_of

pytestmark = pytest.mark.usefixtures("database")
SECRET, API_KEY = "whsec_of_the_tests", "rk_live_key_of_the_tests"
CHARGE = {"id": "ch_1", "object": "charge", "amount": 5000, "amount_captured": 5000, "currency": "eur", "captured": True, "livemode": True,
          "client_secret": "ch_1_secret_never_kept"}  # fmt: skip


def thin(id="evt_1", **more):
    return {
        "id": id, "object": "v2.core.event", "type": "v1.charge.succeeded", "created": "2026-11-20T11:59:00.000Z", "livemode": True,
        "context": "acct_9", "related_object": {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"},
    } | more  # fmt: skip


def full(id="evt_1", **more):
    who = {"type": "request", "request": {"id": "req_1", "client": {"type": "api_key", "api_key": {"id": "mk_7"}}}}
    return thin(id) | {"reason": who, "data": {"note": "whole"}} | more


class Stripe:
    """Its API: what each path answers. A list is answered one by one, the last for ever."""

    def __init__(self, outside, **paths):
        self.paths = paths or {"/v2/core/events/evt_1": full(), "/v1/charges/ch_1": CHARGE}
        outside.answer = self.answer

    def answer(self, method, path, headers, body):
        found = self.paths.get(path, (404, {}, b"{}"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return (200, {}, json.dumps(found).encode()) if isinstance(found, dict) else found


@pytest.fixture
def source(tenant, outside, now, monkeypatch):
    monkeypatch.setenv("FETCH_TEST_SECRET", SECRET)
    monkeypatch.setenv("FETCH_TEST_KEY", API_KEY)
    return add_source(
        tenant, "stripe", format="stripe", issuer="https://api.stripe.com", secret_env="FETCH_TEST_SECRET",
        api_key_env="FETCH_TEST_KEY", api_url=outside.url, allow_private=True, now=now,
    )  # fmt: skip


def hook(source, event, now):
    body = json.dumps(event).encode()
    headers = {n.lower(): v for n, v in StripeSigner(SECRET).headers(body, t=int(now.timestamp())).items()}
    return ingest(source.tenant.name, source.name, Delivery(body, "application/json", headers), now=now)


def run(source, outside, now, call=None):
    source = Source.objects.select_related("tenant").get(pk=source.pk)
    return fetch(source, now=lambda: now, call=call or outside.call)


def events_in(tenant):
    """(grade, source event id without its digest) of every event in the ledger, in order."""
    ids = dict(Payload.objects.filter(tenant=tenant).values_list("leaf_index", "source_event_id"))
    leaves = Leaf.objects.filter(tenant=tenant, kind=0).order_by("leaf_index")
    return [(leaf.grade, ids[leaf.leaf_index].partition(" ")[0]) for leaf in leaves]


def row(name="evt_1"):
    return PendingFetch.objects.order_by("-id").filter(name=name).first()


ALL_THREE = [("C", "evt_1"), ("E", "evt_1#fetched"), ("E", "evt_1#object")]

# --- what comes -----------------------------------------------------------------------------------------------------


def test_the_event_and_its_object_are_fetched_and_stand_beside_the_thin_one(source, outside, world, now):
    Stripe(outside)
    hook(source, thin(), now)

    assert run(source, outside, now) == 2

    assert events_in(source.tenant) == ALL_THREE
    asked = [(path, headers["authorization"], headers["stripe-context"]) for _, path, headers, _ in outside.asked]
    assert asked == [(path, f"Bearer {API_KEY}", "acct_9") for path in ("/v2/core/events/evt_1", "/v1/charges/ch_1")]
    assert all(headers["stripe-version"] for _, _, headers, _ in outside.asked)
    world.project()
    events = {e.source_event_id.partition(" ")[0]: e for e in Event.objects.filter(tenant=source.tenant)}
    assert events["evt_1#fetched"].actor == "https://api.stripe.com|mk_7"
    charge = Charge.objects.get(tenant=source.tenant)
    assert charge.spent == 5000  # once, though three statements tell of it


def test_nothing_secret_is_kept(source, outside, now):
    Stripe(outside)
    hook(source, thin(), now)
    run(source, outside, now)

    kept = b"".join(bytes(p.raw) + bytes(p.headers) for p in Payload.objects.filter(tenant=source.tenant))
    assert b"secret_never_kept" not in kept and API_KEY.encode() not in kept and SECRET.encode() not in kept


def test_fetching_again_asks_for_nothing_and_adds_nothing(source, outside, now):
    Stripe(outside)
    hook(source, thin(), now)
    run(source, outside, now)
    hook(source, thin(), now)  # Stripe delivers at least once

    assert run(source, outside, now + timedelta(days=1)) == 0

    assert events_in(source.tenant) == ALL_THREE and len(outside.asked) == 2


def test_an_event_of_v2_without_an_object_and_a_snapshot_announce_no_more(source, outside, now):
    Stripe(outside, **{"/v2/core/events/evt_1": full(related_object=None)})
    hook(source, thin(related_object=None), now)
    hook(source, {"id": "evt_9", "object": "event", "type": "x", "created": 1, "data": {"object": {"id": "y"}}}, now)

    assert run(source, outside, now) == 1
    assert [path for _, path, *_ in outside.asked] == ["/v2/core/events/evt_1"]


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/x",
        "https://evil.example/",
        "/v1/../admin",
        "/v3/x",
        "/v1/x?y",
        "@evil.example/",
        "/v1/a b",
        "/v1/%2e%2e/x",
        "",
    ],
)
def test_an_object_is_only_asked_for_under_its_own_api(source, outside, now, path):
    hostile = {"related_object": {"id": "x", "type": "y", "url": path}}
    Stripe(outside, **{"/v2/core/events/evt_1": full(**hostile)})
    hook(source, thin(**hostile), now)

    run(source, outside, now)

    assert [asked for _, asked, *_ in outside.asked] == ["/v2/core/events/evt_1"]


def test_an_object_that_was_refunded_counts_no_refund(source, outside, world, now):
    """The webhook's snapshot says how much of it was new; the object cannot."""
    refunded = {"type": "v1.charge.refunded"}
    Stripe(
        outside, **{"/v2/core/events/evt_1": full(**refunded), "/v1/charges/ch_1": CHARGE | {"amount_refunded": 5000}}
    )
    hook(source, thin(**refunded), now)
    run(source, outside, now)
    world.project()

    told = Event.objects.filter(tenant=source.tenant, type="payment.refunded")
    assert told.count() == 3 and not Charge.objects.filter(tenant=source.tenant).exists()


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}, b"x"),
        (503, {}, b""),
        (200, {}, lambda line: line.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")),
    ],
)
def test_a_host_in_trouble_is_asked_again_later_and_later(source, outside, now, trouble):
    Stripe(outside, **{"/v2/core/events/evt_1": [trouble, trouble, full()], "/v1/charges/ch_1": CHARGE})
    hook(source, thin(), now)

    waits, at = [], now
    for _ in range(2):
        assert run(source, outside, at) == 0
        assert row().error and row().state == "due"
        pull = Pull.objects.get(source=source, kind="fetch")
        assert pull.error and pull.due_at > at
        assert run(source, outside, at) == 0  # not before its time
        waits.append(max(pull.due_at, row().due_at) - at)
        at += waits[-1]
    assert len(outside.asked) == 2 and timedelta(seconds=5) <= waits[0] <= timedelta(seconds=10) <= waits[
        1
    ] <= timedelta(seconds=20)

    assert run(source, outside, at) == 2
    assert events_in(source.tenant) == ALL_THREE
    assert Pull.objects.get(source=source, kind="fetch").error == ""


def test_too_many_requests_leaves_the_host_alone_for_as_long_as_it_says(source, outside, now):
    Stripe(
        outside, **{"/v2/core/events/evt_1": [(429, {"Retry-After": "300"}, b""), full()], "/v1/charges/ch_1": CHARGE}
    )
    hook(source, thin(), now)
    hook(source, thin("evt_2"), now)

    run(source, outside, now)
    assert (
        run(source, outside, now + timedelta(seconds=299)) == 0 and len(outside.asked) == 1
    )  # the other one waits too

    assert run(source, outside, now + timedelta(seconds=301)) == 2


def test_a_key_that_is_not_good_costs_no_tries_and_is_said(source, outside, world, now):
    Stripe(outside, **{"/v2/core/events/evt_1": (401, {}, b"{}")})
    hook(source, thin(), now)

    at = now
    for _ in range(5):
        run(source, outside, at)
        at = Pull.objects.get(source=source, kind="fetch").due_at

    assert row().attempts == 0 and row().state == "due" and len(outside.asked) == 5
    page = text_of(signed_in(world, "admin").get("/sources/stripe/"))
    assert "answered 401, expected 200: our key for it is not good" in page and "5 in a row" in page
    assert API_KEY not in page


def test_a_key_that_is_not_set_asks_nobody_and_is_said(source, outside, now, monkeypatch):
    monkeypatch.delenv("FETCH_TEST_KEY")
    hook(source, thin(), now)

    run(source, outside, now)

    assert (
        outside.asked == []
        and Pull.objects.get(source=source, kind="fetch").error == "FETCH_TEST_KEY is not set where the service runs"
    )
    assert row().state == "due" and row().attempts == 0


def test_one_that_we_may_not_read_does_not_hold_up_the_others(source, outside, now):
    other = full("evt_2", related_object=None)
    Stripe(outside, **{"/v2/core/events/evt_1": (403, {}, b""), "/v2/core/events/evt_2": other})
    hook(source, thin(), now)
    hook(source, thin("evt_2"), now)

    assert run(source, outside, now) == 1
    assert (row("evt_1").state, row("evt_2").state) == ("due", "done") and "403" in row("evt_1").error


@pytest.mark.parametrize(
    ("status", "tries"), [(404, TRIES[404]), (403, TRIES[403]), (410, 1), (302, 4), (418, 4), (500, TRIES_IF_DOWN)]
)
def test_what_is_not_there_is_given_up_in_the_open_and_can_be_tried_again(source, outside, world, now, status, tries):
    stripe = Stripe(outside, **{"/v2/core/events/evt_1": (status, {"Location": f"{outside.url}/elsewhere"}, b"")})
    hook(source, thin(), now)
    at = now
    for _ in range(tries + 3):
        run(source, outside, at)
        at += timedelta(hours=2)

    assert len(outside.asked) == tries and row().state == "given_up" and str(status) in row().error
    client = signed_in(world, "admin")
    page = text_of(client.get("/sources/stripe/"))
    assert "1 given up" in page and f"answered {status}" in page

    stripe.paths = {"/v2/core/events/evt_1": full(), "/v1/charges/ch_1": CHARGE}
    assert signed_in(world, "auditor").post("/sources/stripe/", {"act": "fetch_again"}).status_code == 403
    assert client.post("/sources/stripe/", {"act": "fetch_again"}).status_code == 302
    assert run(source, outside, timezone.now() + timedelta(hours=1)) == 2
    assert events_in(source.tenant) == ALL_THREE


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"id": "evt_other", "type": "x", "created": 1, "object": "v2.core.event"}',
                                  b'{"id": "evt_1"}', b"\xff", b"[" * 100_000])  # fmt: skip
def test_what_cannot_be_read_is_given_up_counted_and_never_stored(source, outside, now, body):
    Stripe(outside, **{"/v2/core/events/evt_1": (200, {}, body)})
    hook(source, thin(), now)

    assert run(source, outside, now) == 0

    assert row().state == "given_up" and "refused" in row().error
    assert events_in(source.tenant) == [("C", "evt_1")]


def test_an_answer_without_end_is_not_read(source, outside, now):
    Stripe(outside, **{"/v2/core/events/evt_1": (200, {}, b"x" * (1 << 21))})
    hook(source, thin(), now)

    run(source, outside, now)

    assert "expected at most" in row().error and row().state == "due"


# --- dying, and being two -------------------------------------------------------------------------------------------


class Died(BaseException):
    pass


@pytest.mark.parametrize(
    "where", ["auditlog.ingest.fetch.take", "auditlog.ingest.fetch._end", "auditlog.ledger.append._write"]
)
@pytest.mark.parametrize("nth", [1, 2])
def test_dying_between_fetch_and_append_loses_and_doubles_nothing(source, outside, now, monkeypatch, where, nth):
    import importlib

    module, _, name = where.rpartition(".")
    real, seen = getattr(importlib.import_module(module), name), []
    Stripe(outside)
    hook(source, thin(), now)

    def dying(*args, **kwargs):
        seen.append(1)
        if len(seen) == nth:
            raise Died
        return real(*args, **kwargs)

    monkeypatch.setattr(where, dying)
    with pytest.raises(Died):
        run(source, outside, now)
    monkeypatch.setattr(where, real)

    run(source, outside, now)

    assert events_in(source.tenant) == ALL_THREE
    assert set(PendingFetch.objects.filter(source=source).values_list("state", flat=True)) == {"done"}


def test_what_was_read_by_one_that_died_before_its_end_was_kept_is_not_kept_either(source, outside, now, monkeypatch):
    from auditlog.ingest import fetch as verb

    Stripe(outside, **{"/v2/core/events/evt_1": full(), "/v1/charges/ch_1": [CHARGE, CHARGE | {"amount": 6000}]})
    hook(source, thin(), now)
    real, seen = verb._end, []

    def dying(*args, **kwargs):
        seen.append(1)
        if len(seen) == 2:
            raise Died
        return real(*args, **kwargs)

    monkeypatch.setattr(verb, "_end", dying)
    with pytest.raises(Died):
        run(source, outside, now)

    run(source, outside, now)

    assert events_in(source.tenant) == ALL_THREE


def test_dying_before_the_announcement_is_noted_loses_nothing(source, outside, now, monkeypatch):
    Stripe(outside)
    hook(source, thin(), now)
    monkeypatch.setattr(
        "auditlog.ingest.fetch.PendingFetch.objects.bulk_create", lambda *a, **k: (_ for _ in ()).throw(Died())
    )
    with pytest.raises(Died):
        run(source, outside, now)
    monkeypatch.undo()
    monkeypatch.setenv("FETCH_TEST_KEY", API_KEY)
    monkeypatch.setenv("FETCH_TEST_SECRET", SECRET)

    assert run(source, outside, now) == 2


def test_an_object_that_changed_between_two_readings_is_kept_as_both(source, outside, now, monkeypatch):
    Stripe(outside, **{"/v2/core/events/evt_1": full(), "/v1/charges/ch_1": [CHARGE, CHARGE | {"amount": 6000}]})
    hook(source, thin(), now)
    run(source, outside, now)
    PendingFetch.objects.filter(source=source).update(state="due")  # as if the end of it had been lost

    run(source, outside, now)

    assert events_in(source.tenant) == [*ALL_THREE, ("E", "evt_1#object")]
    assert not Leaf.objects.filter(tenant=source.tenant, kind=2).exists()  # no conflict


def test_two_at_once_ask_once(source, outside, now):
    Stripe(outside)
    hook(source, thin(), now)
    results, together = [], threading.Barrier(2)

    def one():
        together.wait()
        try:
            results.append(run(source, outside, now))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    run(source, outside, now)  # whoever came too early for the other's end

    assert events_in(source.tenant) == ALL_THREE and len(outside.asked) == 2


def test_no_transaction_is_open_while_the_host_is_waited_for(source, outside, now):
    from django.db import connection

    seen = []

    def call(request, **how):
        seen.append(connection.in_atomic_block)
        return outside.call(request, **how)

    Stripe(outside)
    hook(source, thin(), now)
    run(source, outside, now, call=call)

    assert seen == [False, False]


def test_a_suspended_source_is_not_asked(source, outside, now):
    Stripe(outside)
    hook(source, thin(), now)
    set_source_state(source, "suspended", now=now)

    assert run(source, outside, now) == 0 and outside.asked == []
    assert (source.pk, "fetch") not in rounds.due(now=now)


def test_what_was_announced_before_there_was_a_key_is_fetched_once_there_is_one(source, outside, now):
    Source.objects.filter(pk=source.pk).update(api_key_env="")
    hook(source, thin(), now)
    assert (source.pk, "fetch") not in rounds.due(now=now)
    Source.objects.filter(pk=source.pk).update(api_key_env="FETCH_TEST_KEY")
    Stripe(outside)

    assert (source.pk, "fetch") in rounds.due(now=now)
    assert run(source, outside, now) == 2
    assert (source.pk, "fetch") not in rounds.due(now=now)


def test_beats_round_fetches_what_is_due_in_threads_of_its_own(source, outside, now, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    Stripe(outside)
    hook(source, thin(), now)
    woken = []
    monkeypatch.setattr(
        rounds, "due", lambda now, real=rounds.due: [one for one in real(now=now) if one[0] == source.pk]
    )
    monkeypatch.setattr(rounds, "due_streams", lambda now: [])  # of other tests' tenants

    for thread in rounds.start_due(now=lambda: now, done=woken.append):
        thread.join()

    assert events_in(source.tenant) == ALL_THREE and woken == [source.tenant.name]
    assert rounds.start_due(now=lambda: now, done=woken.append) == []
