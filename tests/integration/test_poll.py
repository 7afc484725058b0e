"""Sources that are asked for their events: RFC 8936, Cloudflare's and the Provisioning API's lists, against real hosts."""

import json
import re
import threading
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connections

from auditlog.core.errors import ConfigurationError
from auditlog.formats import cloudflare
from auditlog.ingest.poll import PAGES, poll
from auditlog.models import Leaf, NotedDelivery, Payload, Pull, RefusalCount, Source
from auditlog.simulator.signing import Signer
from auditlog.sources.configure import add_source, note_source_change, set_source_state
from auditlog.work import rounds
from tests.deliveries import CLOUDFLARE_LISTED
from tests.integration.test_dashboard_pages import signed_in, text_of

pytestmark = pytest.mark.usefixtures("database")
ISSUER = "https://conductor.example"
KEY = "poll_key_of_the_tests"


@pytest.fixture
def add(tenant, outside, now, monkeypatch):
    monkeypatch.setenv("POLL_TEST_KEY", KEY)

    def add(format="set", **more):
        keys = Signer(ISSUER, "k1", seed=1).jwks() if format == "set" else None
        how = {
            "poll_url": f"{outside.url}/poll",
            "api_key_env": "POLL_TEST_KEY",
            "allow_private": True,
            "jwks": keys,
        } | more
        return add_source(tenant, format.replace("_", "-"), format=format, issuer=ISSUER, now=now, **how)

    return add


def run(source, outside, now, call=None):
    source = Source.objects.select_related("tenant").get(pk=source.pk)
    return poll(source, now=lambda: now, call=call or outside.call)


def pull(source):
    return Pull.objects.get(source=source, kind="poll")


def ids(tenant):
    """Source event ids of the events in the ledger, in order."""
    events = Leaf.objects.filter(tenant=tenant, kind=0).values_list("leaf_index", flat=True)
    return list(
        Payload.objects.filter(tenant=tenant, leaf_index__in=list(events))
        .order_by("leaf_index")
        .values_list("source_event_id", flat=True)
    )


class Died(BaseException):
    pass


# --- RFC 8936 -------------------------------------------------------------------------------------------------------


class Transmitter:
    """A conforming one: it keeps a SET until it is acknowledged or refused, and gives at most what is asked for."""

    def __init__(self, outside, tenant, now):
        self.tenant, self.now, self.kept, self.refused, self.acked, self.status = tenant, now, {}, {}, [], None
        self.most, self.always_more, self.only_acks_refused = 1000, False, False
        outside.answer = self.answer

    def add(self, jti, signer=None, **claims):
        signer = signer or Signer(ISSUER, "k1", seed=1)
        said = {"iss": ISSUER, "iat": self.now.timestamp(), "jti": jti, "aud": f"urn:answerable:{self.tenant.name}",
                "events": {"urn:answerable:event:action.performed:v1": {"outcome": "success"}}} | claims  # fmt: skip
        self.kept[jti] = signer.sign_set(said).decode()

    def answer(self, method, path, headers, body):
        asked = json.loads(body)
        assert (method, headers["content-type"], headers["authorization"]) == (
            "POST",
            "application/json",
            f"Bearer {KEY}",
        )
        assert asked["returnImmediately"] is True
        if self.status:
            return self.status
        if self.only_acks_refused and asked["maxEvents"] == 0:
            return 400, {}, b"{}"
        for jti in asked.get("ack", []):
            self.acked.append(jti)
            self.kept.pop(jti, None)
        for jti, error in asked.get("setErrs", {}).items():
            assert set(error) == {"err", "description"}
            self.refused[jti] = error["err"]
            self.kept.pop(jti, None)
        given = dict(list(self.kept.items())[: min(asked["maxEvents"], self.most)])
        more = len(self.kept) > len(given) or self.always_more
        return 200, {}, json.dumps({"sets": given} | ({"moreAvailable": True} if more else {})).encode()


@pytest.fixture
def transmitter(outside, tenant, now):
    return Transmitter(outside, tenant, now)


def test_sets_are_taken_into_the_ledger_and_acknowledged_there_in_one_round(add, transmitter, outside, tenant, now):
    source = add()
    for n in range(3):
        transmitter.add(f"e{n}")

    assert run(source, outside, now) == 3

    assert ids(tenant) == ["e0", "e1", "e2"] and sorted(transmitter.acked) == ["e0", "e1", "e2"]
    assert [json.loads(body)["maxEvents"] for *_, body in outside.asked] == [100, 0]
    assert (pull(source).brought, pull(source).due_at, pull(source).state) == (3, now + timedelta(seconds=60), {})
    assert Leaf.objects.filter(tenant=tenant, kind=0, grade="A").count() == 3


def test_nothing_there_is_one_request_and_no_note(add, transmitter, outside, tenant, now):
    source = add()

    assert run(source, outside, now) == 0

    assert (
        len(outside.asked) == 1
        and pull(source).succeeded_at == now
        and not NotedDelivery.objects.filter(tenant=tenant).exists()
    )


def test_more_than_one_answer_holds_is_drained(add, transmitter, outside, tenant, now):
    source = add()
    for n in range(250):
        transmitter.add(f"e{n}")

    assert run(source, outside, now) == 250

    assert len(ids(tenant)) == 250 and not transmitter.kept


def test_draining_has_a_bound_and_goes_on_at_once(add, transmitter, outside, now):
    source = add()
    transmitter.most = 1
    for n in range(PAGES + 3):
        transmitter.add(f"e{n}")

    assert run(source, outside, now) == PAGES
    assert pull(source).due_at == now
    assert run(source, outside, now) == 3


def test_one_that_always_says_more_is_not_asked_for_ever(add, transmitter, outside, now):
    source = add()
    transmitter.always_more = True

    run(source, outside, now)

    assert len(outside.asked) == 1 and pull(source).due_at == now + timedelta(seconds=60)


def test_bad_sets_are_refused_to_the_transmitter_with_the_codes_of_the_rfc_and_the_good_are_taken(
    add, transmitter, outside, tenant, now
):
    source = add()
    transmitter.add("good")
    transmitter.add("kid", Signer(ISSUER, "unknown", seed=9))
    transmitter.add("issuer", iss="https://other.example")
    transmitter.add("audience", aud="urn:answerable:other")
    transmitter.kept["forged"] = transmitter.kept["good"][:-6] + "AAAAAA"
    transmitter.kept["text"] = "not a token"
    transmitter.kept["other name"] = transmitter.kept["good"]

    assert run(source, outside, now) == 1

    assert transmitter.refused == {
        "kid": "invalid_key", "issuer": "invalid_issuer", "audience": "invalid_audience", "forged": "authentication_failed",
        "text": "invalid_request", "other name": "invalid_request",
    }  # fmt: skip
    assert transmitter.acked == ["good"] and not transmitter.kept
    assert (
        "refused, for example" in pull(source).warning
        and sum(r.count for r in RefusalCount.objects.filter(tenant=tenant)) == 6
    )


def test_another_content_under_a_known_name_is_refused_and_kept_as_a_conflict(add, transmitter, outside, tenant, now):
    source = add()
    transmitter.add("e1")
    run(source, outside, now)
    transmitter.add("e1", txn="another")

    run(source, outside, now + timedelta(minutes=2))

    assert transmitter.refused == {"e1": "invalid_request"} and Leaf.objects.filter(tenant=tenant, kind=2).count() == 1


def test_a_set_whose_key_set_cannot_be_read_now_is_left_with_its_transmitter(add, transmitter, outside, tenant, now):
    new, answers = Signer(ISSUER, "k2", seed=2), {"jwks": (503, {}, b"")}
    answer = outside.answer
    outside.answer = lambda method, path, *rest: answers["jwks"] if path == "/jwks" else answer(method, path, *rest)
    source = add(jwks_url=f"{outside.url}/jwks")
    transmitter.add("later", new)
    transmitter.add("now")

    assert run(source, outside, now) == 1
    assert transmitter.acked == ["now"] and transmitter.refused == {} and list(transmitter.kept) == ["later"]
    assert "left with their sender" in pull(source).warning

    answers["jwks"] = (200, {}, json.dumps({"keys": [new.jwk, Signer(ISSUER, "k1", seed=1).jwk]}).encode())
    assert run(source, outside, now + timedelta(minutes=2)) == 1
    assert transmitter.acked == ["now", "later"] and ids(tenant) == ["now", "later"]


@pytest.mark.parametrize(
    "where",
    [
        "auditlog.ingest.poll.ingest",
        "auditlog.ledger.append._write",
        "auditlog.ingest.poll._answerable",
        "auditlog.ingest.poll._close",
    ],
)
def test_dying_anywhere_loses_and_doubles_nothing_and_nothing_is_acknowledged_too_early(
    add, transmitter, outside, tenant, now, monkeypatch, where
):
    import importlib

    source = add()
    for n in range(3):
        transmitter.add(f"e{n}")
    module, _, name = where.rpartition(".")
    real = getattr(importlib.import_module(module), name)
    monkeypatch.setattr(where, lambda *a, **k: (_ for _ in ()).throw(Died()))
    with pytest.raises(Died):
        run(source, outside, now)
    assert set(transmitter.acked) <= set(ids(tenant))
    monkeypatch.setattr(where, real)

    run(source, outside, now)

    assert ids(tenant) == ["e0", "e1", "e2"] and sorted(set(transmitter.acked)) == ["e0", "e1", "e2"]


def test_acknowledgements_that_are_not_wanted_alone_go_with_the_next_request(add, transmitter, outside, now):
    source = add()
    transmitter.only_acks_refused = True
    transmitter.add("e1")

    run(source, outside, now)
    assert transmitter.acked == [] and "go with the next request" in pull(source).warning and pull(source).error == ""

    run(source, outside, now + timedelta(minutes=2))
    assert transmitter.acked == ["e1"]


@pytest.mark.parametrize(("status", "headers", "least", "said"), [
    (500, {}, 5, "answered 500"), (401, {}, 5, "our key for it is not good"), (429, {"Retry-After": "90"}, 90, "answered 429"),
    (302, {"Location": "https://evil.example/"}, 5, "answered 302"),
])  # fmt: skip
def test_a_host_in_trouble_is_left_alone_for_longer_each_time_and_it_is_said(
    add, transmitter, outside, world, now, status, headers, least, said
):
    source = add()
    transmitter.status = (status, headers, b"x")

    run(source, outside, now)
    first = pull(source).due_at - now
    assert run(source, outside, now) == 0 and len(outside.asked) == 1  # not before its time
    run(source, outside, now + first)

    assert pull(source).failures == 2 and first >= timedelta(seconds=least)
    page = text_of(signed_in(world, "admin").get("/sources/set/"))
    assert said in page and "2 in a row" in page and KEY not in page
    transmitter.status = None
    transmitter.add("e1")
    assert run(source, outside, now + timedelta(hours=2)) == 1 and pull(source).error == ""


@pytest.mark.parametrize("body", [b"", b"[]", b'{"sets": []}', b'{"sets": {"a": 1}}', b"<html>", b"\xff", b'{"sets": {"a": "b"}, "moreAvailable": "yes"}',
                                  b"[" * 100_000])  # fmt: skip
def test_an_answer_that_is_none_takes_nothing_and_is_said(add, transmitter, outside, tenant, now, body):
    source = add()
    transmitter.status = (200, {}, body)

    assert run(source, outside, now) == 0

    assert pull(source).error and pull(source).failures == 1 and ids(tenant) == []


def test_a_transmitter_that_gives_more_than_was_asked_for_is_taken_in_parts(add, transmitter, outside, tenant, now):
    source = add()
    for n in range(1100):
        transmitter.add(f"e{n}")
    answer = transmitter.answer
    outside.answer = lambda m, p, h, body: answer(m, p, h, body) if json.loads(body)["maxEvents"] == 0 else (
        200, {}, json.dumps({"sets": transmitter.kept}).encode())  # fmt: skip

    assert run(source, outside, now) == 1100 and len(transmitter.acked) == 1100


def test_two_at_once_poll_once(add, transmitter, outside, tenant, now):
    source = add()
    transmitter.add("e1")
    together, results = threading.Barrier(2), []

    def one():
        together.wait()
        try:
            results.append(run(source, outside, now))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert sorted(results) == [0, 1] and len(outside.asked) == 2  # the poll and its acknowledgement


def test_a_suspended_source_and_one_without_its_key_are_not_asked(add, transmitter, outside, now, monkeypatch):
    source = add()
    monkeypatch.delenv("POLL_TEST_KEY")
    run(source, outside, now)
    assert outside.asked == [] and pull(source).error == "POLL_TEST_KEY is not set where the service runs"
    monkeypatch.setenv("POLL_TEST_KEY", KEY)
    set_source_state(source, "suspended", now=now)

    assert run(source, outside, now + timedelta(hours=2)) == 0 and outside.asked == []
    assert (source.pk, "poll") not in rounds.due(now=now + timedelta(hours=2))


def test_beat_asks_when_it_is_time_and_not_before(add, transmitter, outside, tenant, now, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    source = add(poll_seconds=30)
    transmitter.add("e1")
    monkeypatch.setattr(
        rounds, "due", lambda now, real=rounds.due: [one for one in real(now=now) if one[0] == source.pk]
    )
    monkeypatch.setattr(rounds, "due_streams", lambda now: [])  # of other tests' tenants
    woken = []

    def round_at(at):
        for thread in rounds.start_due(now=lambda: at, done=woken.append):
            thread.join()

    round_at(now)
    assert ids(tenant) == ["e1"] and woken == [tenant.name] and len(outside.asked) == 2
    round_at(now + timedelta(seconds=29))
    assert len(outside.asked) == 2
    round_at(now + timedelta(seconds=30))
    assert len(outside.asked) == 3


def test_a_position_is_not_taken_to_another_address(add, transmitter, outside, now):
    source = add()
    pull_row = Pull.objects.create(
        tenant=source.tenant, source=source, kind="poll", state={"ack": ["x"]}, due_at=now + timedelta(days=1)
    )

    note_source_change(source, ["poll_url"], now=now)

    pull_row.refresh_from_db()
    assert (pull_row.state, pull_row.due_at) == ({}, None)


def test_an_address_that_is_changed_while_the_old_one_is_asked_is_asked_at_once_and_from_its_beginning(
    add, transmitter, outside, now, monkeypatch
):
    source = add()
    transmitter.only_acks_refused = True  # so that something would be kept for the next request

    def changed(request, **more):
        answer = outside.call(request, **more)
        row = Source.objects.get(pk=source.pk)
        row.poll_url = f"{outside.url}/elsewhere"
        row.save()
        note_source_change(row, ["poll_url"], now=now)
        return answer

    transmitter.add("e1")
    run(source, outside, now, call=changed)

    assert (pull(source).state, pull(source).due_at) == ({}, None)


def test_only_formats_that_are_polled_can_be_and_only_with_a_key(add, outside):
    with pytest.raises(ConfigurationError, match="'auth0' is not polled"):
        add("auth0")
    with pytest.raises(ConfigurationError, match="api_key_env"):
        add("cloudflare", api_key_env="")
    with pytest.raises(ConfigurationError, match="poll_url: expected an https address"):
        add("set", poll_url="http://h.example/")


def test_the_page_says_when_it_was_polled_what_came_and_when_next(add, transmitter, outside, world, now):
    source = add(poll_seconds=45)
    client = signed_in(world, "admin")
    before = text_of(client.get("/sources/set/"))
    transmitter.add("e1")
    run(source, outside, now)

    page = client.get("/sources/set/")

    assert "within seconds" in before and "never" in before
    shown = text_of(page).split("Asked by us")[1].split("Last deliveries")[0]
    assert "its events, every 45 s" in shown and source.poll_url in shown
    assert re.search(
        r"2026-11-20 12:00:00.*2026-11-20 12:00:00.* 1 .*2026-11-20 12:00:45", re.sub(r"\s+", " ", shown)
    ), shown
    assert " style=" not in page.content.decode() and "<script>" not in page.content.decode()


def test_what_a_transmitter_wrote_is_escaped_on_the_page(add, transmitter, outside, world, now):
    source = add()
    hostile = '<img src=x onerror="alert(1)">'
    transmitter.add(hostile, Signer(ISSUER, hostile, seed=9))

    run(source, outside, now)
    page = signed_in(world, "admin").get("/sources/set/").content.decode()

    assert "refused, for example" in page and "<img src=x" not in page and "&lt;img src=x" in page


def test_a_name_that_no_column_can_hold_stops_nothing(add, transmitter, outside, tenant, now):
    source = add()
    transmitter.add("e1")
    transmitter.kept["a\x00b"] = "not a token"

    assert run(source, outside, now) == 1

    assert transmitter.acked == ["e1"] and pull(source).error == "" and list(transmitter.kept) == ["a\x00b"]


def test_a_fault_of_ours_is_said_and_tried_again_later_and_not_every_two_seconds(
    add, transmitter, outside, now, monkeypatch
):
    source = add()
    monkeypatch.setattr(
        rounds, "due", lambda now, real=rounds.due: [one for one in real(now=now) if one[0] == source.pk]
    )
    monkeypatch.setattr(rounds, "due_streams", lambda now: [])  # of other tests' tenants
    monkeypatch.setattr(rounds, "poll", lambda *a, **k: 1 / 0)

    for thread in rounds.start_due(now=lambda: now, done=lambda tenant: None):
        thread.join()

    assert "a fault of ours" in pull(source).error and pull(source).due_at > now
    assert rounds.start_due(now=lambda: now, done=lambda tenant: None) == []


# --- Cloudflare -----------------------------------------------------------------------------------------------------


class Cloudflare:
    """Its audit log: entries appear in it when they are `shown`, which may be after they happened."""

    def __init__(self, outside):
        self.entries, self.page, self.cursors_forgotten, self.failing = [], 2, False, None
        outside.answer = self.answer

    def add(self, id, at, shown=None):
        self.entries.append(
            (
                at,
                shown or at,
                CLOUDFLARE_LISTED | {"id": id, "action": CLOUDFLARE_LISTED["action"] | {"time": at.isoformat()}},
            )
        )

    def answer(self, method, path, headers, body):
        assert (method, headers["authorization"], urlsplit(path).path) == ("GET", f"Bearer {KEY}", "/poll")
        if self.failing:
            return self.failing
        asked = {name: value for name, [value] in parse_qs(urlsplit(path).query).items()}
        since, before = datetime.fromisoformat(asked["since"]), datetime.fromisoformat(asked["before"])
        if asked.get("cursor") and self.cursors_forgotten:
            return 400, {}, b'{"success": false, "errors": [{"code": 1, "message": "<script>"}], "result": null}'
        start = int(asked.get("cursor", "0"))
        found = [
            e for at, shown, e in sorted(self.entries, key=lambda e: e[0]) if since <= at < before and shown < before
        ]
        info = {"count": str(self.page)} | (
            {"cursor": str(start + self.page)} if len(found) > start + self.page else {}
        )
        return (
            200,
            {},
            json.dumps(
                {"success": True, "errors": [], "result": found[start : start + self.page], "result_info": info}
            ).encode(),
        )


@pytest.fixture
def log(outside):
    return Cloudflare(outside)


def test_pages_are_followed_by_their_cursor_and_each_entry_is_there_once_with_grade_e(add, log, outside, tenant, now):
    source = add("cloudflare")
    for n in range(5):
        log.add(f"cf-{n}", now - timedelta(minutes=60 - n))

    assert run(source, outside, now) == 5
    assert run(source, outside, now + timedelta(minutes=2)) == 0

    assert ids(tenant) == [f"cf-{n}" for n in range(5)]
    assert set(Leaf.objects.filter(tenant=tenant, kind=0).values_list("grade", flat=True)) == {"E"}
    assert not NotedDelivery.objects.filter(tenant=tenant).exists()  # an overlap is not a delivery to look at


def test_an_entry_that_shows_late_is_found_by_the_overlap(add, log, outside, tenant, now):
    source = add("cloudflare")
    run(source, outside, now)
    log.add("late", now - timedelta(minutes=20), shown=now + timedelta(seconds=30))

    assert run(source, outside, now + timedelta(minutes=1)) == 1

    since = parse_qs(urlsplit(outside.asked[-1][1]).query)["since"][0]
    assert datetime.fromisoformat(since) == now - cloudflare.OVERLAP


def test_dying_between_pages_goes_on_where_it_was_and_loses_nothing(add, log, outside, tenant, now, monkeypatch):
    source = add("cloudflare")
    for n in range(6):
        log.add(f"cf-{n}", now - timedelta(minutes=60 - n))
    from auditlog.ingest import poll as verb

    real, seen = verb.take, []

    def dying(*args, **kwargs):
        seen.append(1)
        if len(seen) == 2:
            raise Died
        return real(*args, **kwargs)

    monkeypatch.setattr(verb, "take", dying)
    with pytest.raises(Died):
        run(source, outside, now)
    assert ids(tenant) == ["cf-0", "cf-1"] and pull(source).state["cursor"] == "2"

    assert run(source, outside, now) == 4
    assert ids(tenant) == [f"cf-{n}" for n in range(6)]


def test_a_cursor_that_is_no_longer_known_begins_its_window_again(add, log, outside, tenant, now):
    source = add("cloudflare")
    for n in range(4):
        log.add(f"cf-{n}", now - timedelta(minutes=60 - n))
    log.cursors_forgotten = True
    run(source, outside, now)
    assert (
        ids(tenant) == ["cf-0", "cf-1"] and "answered 400" in pull(source).error and "cursor" not in pull(source).state
    )
    log.cursors_forgotten = False

    assert run(source, outside, now + timedelta(minutes=2)) == 2
    assert ids(tenant) == [f"cf-{n}" for n in range(4)]


def test_an_outage_of_days_is_caught_up_on_as_far_back_as_cloudflare_keeps(add, log, outside, tenant, now):
    source = add("cloudflare")
    run(source, outside, now)
    log.add("during", now + timedelta(days=3))

    assert run(source, outside, now + timedelta(days=5)) == 1
    run(source, outside, now + timedelta(days=100))
    since = parse_qs(urlsplit(outside.asked[-1][1]).query)["since"][0]
    assert datetime.fromisoformat(since) == now + timedelta(days=100) - cloudflare.KEPT


@pytest.mark.parametrize("answer", [
    (200, {}, b'{"success": false, "result": null}'), (200, {}, b'{"result": []}'), (200, {}, b"[]"), (200, {}, b""), (403, {}, b"{}"),
    (200, {}, b'{"success": true, "result": [{"no": "entry"}]}'),
    (200, {}, json.dumps({"success": True, "result": [CLOUDFLARE_LISTED], "result_info": {"cursor": "a\x00b"}}).encode()),
])  # fmt: skip
def test_a_page_that_is_none_keeps_the_place_and_is_said(add, log, outside, tenant, now, answer):
    source = add("cloudflare")
    run(source, outside, now)
    place = pull(source).state
    log.failing = answer

    assert run(source, outside, now + timedelta(minutes=2)) == 0

    assert pull(source).state == place and pull(source).error
    log.failing = None
    log.add("cf-1", now + timedelta(minutes=1))
    assert run(source, outside, now + timedelta(hours=3)) == 1


def test_a_bad_entry_among_good_ones_is_refused_counted_and_said(add, log, outside, tenant, now):
    source = add("cloudflare")
    log.failing = (200, {}, json.dumps({"success": True, "result": [CLOUDFLARE_LISTED, {"id": "bad"}]}).encode())

    assert run(source, outside, now) == 1

    assert "refused, for example" in pull(source).warning and RefusalCount.objects.get(tenant=tenant).count == 1


def test_a_cursor_that_names_itself_is_not_followed_for_ever(add, log, outside, now):
    source = add("cloudflare")
    page = {"success": True, "result": [CLOUDFLARE_LISTED], "result_info": {"cursor": "same"}}
    log.failing = (200, {}, json.dumps(page).encode())

    run(source, outside, now)

    assert len(outside.asked) == 2 and "same cursor again" in pull(source).error


# --- the Provisioning API -------------------------------------------------------------------------------------------


def resource(id, status="complete"):
    return {"object": "v2.provisioning.resource", "id": id, "status": status, "provider_name": "neon", "livemode": True}


def test_a_list_is_read_page_by_page_and_only_what_changed_is_new(add, outside, tenant, now):
    source = add("projects_cli")
    things = {
        "": ([resource("res_1")], "/v2/provisioning/resources?page=p2"),
        "page=p2": ([resource("res_2", "pending")], None),
    }

    def answer(method, path, headers, body):
        data, following = things[urlsplit(path).query]
        return 200, {}, json.dumps({"data": data, "next_page_url": following}).encode()

    outside.answer = answer
    assert run(source, outside, now) == 2
    assert run(source, outside, now + timedelta(minutes=2)) == 0  # the same objects, at another time
    things["page=p2"] = ([resource("res_2")], None)

    assert run(source, outside, now + timedelta(minutes=4)) == 1

    assert [id.partition(" ")[0] for id in ids(tenant)] == ["res_1", "res_2", "res_2"]
    assert set(Leaf.objects.filter(tenant=tenant, kind=0).values_list("grade", flat=True)) == {"E"}
    assert all(headers["stripe-version"] for _, _, headers, _ in outside.asked)


@pytest.mark.parametrize("following", ["https://evil.example/x?page=2", "//evil.example?page=2", "/v2/other?page=2"])
def test_the_next_page_is_only_asked_for_at_the_configured_address(add, outside, now, following):
    source = add("projects_cli")
    outside.answer = lambda m, path, *_: (
        200,
        {},
        json.dumps({"data": [resource(path)], "next_page_url": following if "?" not in path else None}).encode(),
    )

    assert run(source, outside, now) == 2
    assert [path for _, path, *_ in outside.asked] == ["/poll", "/poll?page=2"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b'{"data": 1}', b'{"data": [1], "next_page_url": null}', b'{"data": [], "next_page_url": 5}',
                                  b'{"data": [], "next_page_url": "/x?a b\\u0000"}'])  # fmt: skip
def test_what_is_no_list_is_said(add, outside, tenant, now, body):
    source = add("projects_cli")
    outside.answer = lambda *_: (200, {}, body)

    assert run(source, outside, now) == 0 and pull(source).error and ids(tenant) == []


def test_one_object_is_a_list_of_one(add, outside, tenant, now):
    source = add("projects_cli")
    profile = {
        "object": "v2.provisioning.payment_profile",
        "id": "pp_1",
        "usage_limits": {"currency": "usd", "max_amount": "10000", "recurring_interval": "month"},
    }
    outside.answer = lambda *_: (200, {}, json.dumps(profile, indent=2).encode())

    assert run(source, outside, now) == 1


# --- who may have what sent where ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    ["ANSWERABLE_SECRET_KEY", "DATABASE_URL", "DATABASE_OWNER_URL", "CELERY_BROKER_URL", "PGPASSWORD", "PATH"],
)
def test_the_services_own_secrets_are_sent_to_nobody(add, variable):
    with pytest.raises(ConfigurationError, match="the service's own"):
        add("cloudflare", api_key_env=variable)


def test_a_tenants_admin_cannot_have_a_variable_sent_to_an_address(world):
    """Naming both would send any of the service's secrets anywhere. An operator does that, by command or in the admin."""
    client = signed_in(world, "admin")
    given = {
        "name": "x",
        "issuer": "https://x.example",
        "secret_env": "S",
        "poll_url": "https://evil.example/",
        "api_key_env": "ANY_SECRET",
    }

    refused = client.post("/sources/", given | {"format": "cloudflare"})
    keys = json.dumps(Signer("https://x.example", "k1", seed=1).jwk)
    added = client.post("/sources/", given | {"format": "set", "keys": keys, "poll_seconds": "30"})

    assert refused.status_code == 422 and "an operator adds such a source" in text_of(refused)
    assert "api_key_env" not in client.get("/sources/").content.decode()
    assert added.status_code == 302
    source = Source.objects.get(tenant=world.row)
    assert (source.poll_url, source.poll_seconds, source.api_key_env) == ("https://evil.example/", 30, "")


# --- the command ----------------------------------------------------------------------------------------------------


def test_a_polled_source_is_added_by_command(tenant, outside):
    from io import StringIO

    from django.core.management import call_command

    out, err = StringIO(), StringIO()
    call_command("source", "add", "cf", "--format", "cloudflare", "--issuer", "https://api.cloudflare.com", "--tenant", tenant.name,
                 "--poll-url", f"{outside.url}/accounts/a/logs/audit", "--poll-every", "120", "--api-key-env", "POLL_UNSET_KEY", stdout=out, stderr=err)  # fmt: skip

    source = Source.objects.get(tenant=tenant, name="cf")
    assert (source.poll_seconds, source.api_key_env, source.allow_private) == (120, "POLL_UNSET_KEY", False)
    assert "asked every 120 s" in out.getvalue() and "POLL_UNSET_KEY is not set here" in err.getvalue()
