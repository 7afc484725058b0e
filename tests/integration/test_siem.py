"""Out to a SIEM: by webhook, API and file, from a cursor on; nothing left out, repeats known by their ids."""

import hmac
import json
import os
import re
import threading
from base64 import b64encode
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from auditlog.core.errors import ConfigurationError, NotPossible
from auditlog.detection.findings.triage import triage
from auditlog.export.configure_export import add_export, change_export
from auditlog.export.deliver import BATCH, deliver, due_streams
from auditlog.export.siem import behind, number_changes, read_page
from auditlog.models import Event, Export, ExportStream, Finding, Payload, Role
from auditlog.projection.project import rebuild
from auditlog.reads.access import Viewer
from auditlog.work import rounds
from tests.integration.test_api import ROLES, Api, desk, problem  # noqa: F401  the desk is a fixture
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.ocsf_schema import problems
from tests.unit.test_cef import parsed

pytestmark = pytest.mark.usefixtures("database")
SECRET = b"whsec_" + b64encode(b"0123456789abcdef01234567")


@pytest.fixture
def receiver(outside, monkeypatch):
    """A SIEM's collector that keeps what it takes; `status` is what it answers."""
    monkeypatch.setenv("SIEM_SECRET", SECRET.decode())
    outside.status, outside.more, outside.taken = 200, {}, []

    def answer(method, path, headers, body):
        if 200 <= outside.status < 300:
            outside.taken += [json.loads(line) for line in body.splitlines()]
        return outside.status, outside.more, b"ok"

    outside.answer = answer
    return outside


def export(world, outside, *, what="events", kind="ocsf", **more):
    how = {"url": f"{outside.url}/collect", "secret_env": "SIEM_SECRET", "allow_private": True} | more
    return add_export(world.row, f"siem-{what}-{kind}", kind=kind, what=what, now=world.now, **how)


def run(of, outside, now, **more):
    return sum(deliver(stream.pk, now=lambda: now, call=outside.call, **more) for stream in of.streams.order_by("what"))


def stream(of, what="events"):
    return ExportStream.objects.get(export=of, what=what)


def send_acts(world, count):
    signed = [
        world.event(
            "action.performed",
            grant=world.root,
            at=world.at,
            action={"verb": "dns.read", "provider": "cloud", "target": {"type": "zone", "id": f"z{n}"}},
        )
        for n in range(count)
    ]
    world.send_together(signed)
    world.project()


def find(world, number=1, **more):
    """A finding of its own, kept the way detection keeps it."""
    from auditlog.core import finding as core
    from auditlog.detection.findings.keep import keep_keys

    event = Event.objects.filter(tenant=world.row).first()
    values = dict(rule="spend.retry_loop", anchor=f"a{number}", severity="high", title=f"loop {number}", events=(str(event.event_id),),
                  leaves=(event.leaf_index,), first_at=world.at, last_at=world.at, evidence={"n": 1})  # fmt: skip
    keep_keys(
        world.row,
        "spend.retry_loop",
        1,
        {(f"p{number}",): [core.Finding(**values | more)]},
        withdrawn_by=9,
        now=world.now,
    )
    return Finding.objects.get(tenant=world.row, rule="spend.retry_loop", anchor=f"a{number}")


def withdraw(world, number=1):
    from auditlog.detection.findings.keep import keep_keys

    keep_keys(world.row, "spend.retry_loop", 1, {(f"p{number}",): []}, withdrawn_by=9, now=world.now)


def findings(world, after, **more):
    page = read_page(world.row, "findings", after=after, size=more.pop("size", 100), **more)
    return [json.loads(line) for line in page.lines], page.next


# --- what is given ------------------------------------------------------------------------------------------------------


def test_every_event_and_finding_of_a_desk_is_valid_ocsf_in_leaf_order(desk):  # noqa: F811
    find(desk)
    events = [json.loads(line) for line in read_page(desk.row, "events", size=100).lines]

    assert [e["metadata"]["uid"] for e in events] == list(desk.ids.values())
    assert [problems(e) for e in events] == [[]] * 5
    assert [problems(f) for f in findings(desk, 0)[0]] == [[]] * len(findings(desk, 0)[0])
    bought = events[3]
    assert (bought["class_uid"], bought["activity_id"], bought["unmapped"]["answerable"]["money"]["amount_minor"]) == (
        6003,
        1,
        1100,
    )
    hops = bought["unmapped"]["answerable"]["chain"]["hops"]
    assert [(h["sub"], h["standing"]) for h in hops] == [("ada", "proven"), ("lead", "proven"), ("helper", "proven")]
    assert bought["unmapped"]["delegation"]["parent_uid"] == events[0]["unmapped"]["delegation"]["uid"]
    payload = Payload.objects.get(tenant=desk.row, leaf_index=bought["metadata"]["sequence"])
    assert bought["metadata"]["original_event_uid"] == payload.source_event_id


@pytest.mark.parametrize("rule", ["spend.retry_loop", "integrity.source_gap", "integrity.sources_disagree"])
def test_a_finding_leaves_with_what_to_do_whatever_its_rule_looks_at(desk, rule):  # noqa: F811
    find(desk)
    Finding.objects.filter(tenant=desk.row, anchor="a1").update(rule=rule)

    [told] = [one for one in findings(desk, 0)[0] if one["finding_info"]["title"] == "loop 1"]

    assert len(told["remediation"]["desc"]) > 40


def test_a_page_costs_the_same_number_of_queries_however_many_events_it_has(desk):  # noqa: F811
    with CaptureQueriesContext(connection) as few:
        assert len(read_page(desk.row, "events", size=100).lines) == 5
    send_acts(desk, 50)
    with CaptureQueriesContext(connection) as many:
        assert len(read_page(desk.row, "events", size=100).lines) == 55

    assert len(many) == len(few)


def test_reading_page_by_page_gives_each_event_once_in_the_same_bytes(desk):  # noqa: F811
    send_acts(desk, 20)
    whole, cursor, more, read = read_page(desk.row, "events", size=100), 0, True, []
    while more:
        page = read_page(desk.row, "events", after=cursor, size=3)
        read, cursor, more = read + page.lines, page.next, page.more

    assert read == whole.lines and cursor == whole.next
    assert read_page(desk.row, "events", after=cursor, size=3).lines == []


def test_what_is_not_projected_waits_and_a_rebuild_changes_no_cursor(desk):  # noqa: F811
    cursor = read_page(desk.row, "events", size=100).next
    desk.send(desk.event("action.performed", grant=desk.root, at=desk.at))
    assert read_page(desk.row, "events", after=cursor, size=100).lines == []

    rebuild(desk.row, now=desk.now)

    assert len(read_page(desk.row, "events", after=cursor, size=100).lines) == 1


@pytest.mark.parametrize("what", ["events", "findings"])
def test_a_cursor_that_was_never_given_is_refused_and_not_read_as_the_end(desk, what):  # noqa: F811
    with pytest.raises(NotPossible, match="was an older copy restored"):
        read_page(desk.row, what, after=10**6, size=1)


# --- changes of findings ------------------------------------------------------------------------------------------------


def test_a_finding_comes_again_when_people_or_detection_change_it_and_not_otherwise(desk):  # noqa: F811
    number_changes(desk.row)
    _, cursor = findings(desk, 0)
    row = find(desk)
    [new], cursor = findings(desk, cursor)
    find(desk)  # judged again, with the same result
    same, _ = findings(desk, cursor)

    triage(Viewer(desk.row, "security", "sam"), row.pk, state="acknowledged", reason="on it\nnow", now=desk.now)
    [triaged], cursor = findings(desk, cursor)
    find(desk, severity="critical")
    [worse], cursor = findings(desk, cursor)
    withdraw(desk)
    [gone], cursor = findings(desk, cursor)
    find(desk, severity="critical")
    [back], _ = findings(desk, cursor)

    assert same == []
    seen = [new, triaged, worse, gone, back]
    assert len({f["finding_info"]["uid"] for f in seen}) == 1 and len({f["metadata"]["uid"] for f in seen}) == 5
    assert [f["activity_id"] for f in seen] == [1, 2, 2, 3, 2]
    assert [f["status"] for f in seen] == ["New", "In Progress", "In Progress", "Withdrawn", "New"]
    assert triaged["comment"] == "on it⟨U+000A⟩now" and gone["status_detail"] == "its ground was taken away by leaf 9"
    assert [problems(f) for f in seen] == [[]] * 5


def test_a_change_that_commits_late_is_not_passed_by(desk):  # noqa: F811
    """Two write at once; the one that began first ends last. A number taken when writing would have been passed by then."""
    _, start = findings(desk, 0)
    find(desk, 1)
    first, second = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            find(desk, 2)
            first.set()
            second.wait(20)
        connections.close_all()

    thread = threading.Thread(target=slow)
    thread.start()
    assert first.wait(20)
    find(desk, 3)
    early, cursor = findings(desk, start)
    second.set()
    thread.join()
    late, _ = findings(desk, cursor)

    assert [[f["message"] for f in batch] for batch in (early, late)] == [["loop 1", "loop 3"], ["loop 2"]]


def test_numbers_are_never_given_twice_though_the_newest_finding_changes(desk):  # noqa: F811
    find(desk)
    _, cursor = findings(desk, 0)
    withdraw(desk)

    again, next_ = findings(desk, cursor)

    assert len(again) == 1 and next_ > cursor


# --- by webhook -----------------------------------------------------------------------------------------------------------


def test_what_is_new_is_posted_as_signed_json_lines_and_the_position_moves(desk, receiver):  # noqa: F811
    of = export(desk, receiver)

    assert run(of, receiver, desk.now) == 5

    [(method, path, headers, body)] = receiver.asked
    assert (method, path, headers["content-type"]) == ("POST", "/collect", "application/x-ndjson")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = b64encode(hmac.digest(b"0123456789abcdef01234567", signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{mac}" and int(headers["webhook-timestamp"]) == int(
        desk.now.timestamp()
    )
    assert [e["metadata"]["uid"] for e in receiver.taken] == list(desk.ids.values())
    kept = stream(of)
    assert (kept.sent, kept.error, kept.succeeded_at, behind(desk.row, "events", kept.position)) == (5, "", desk.now, 0)
    assert run(of, receiver, desk.now) == 0 and len(receiver.asked) == 1


def test_it_goes_out_in_bounded_batches(desk, receiver):  # noqa: F811
    send_acts(desk, BATCH + 10)
    of = export(desk, receiver)

    assert run(of, receiver, desk.now) == BATCH + 15

    assert [body.count(b"\n") for *_, body in receiver.asked] == [BATCH, 15]


def test_a_receiver_that_fails_is_tried_later_and_later_and_gets_everything_in_the_end(desk, receiver):  # noqa: F811
    of, now, waits = export(desk, receiver), desk.now, []
    receiver.status = 503
    for _ in range(6):
        assert run(of, receiver, now) == 0 and run(of, receiver, now) == 0  # not before it is time
        waits.append(stream(of).due_at - now)
        now = stream(of).due_at
    failing = stream(of)
    assert (failing.failures, failing.position, len(receiver.asked)) == (6, 0, 6)
    assert "localhost answered 503 to 5 events, expected 2xx" in failing.error and behind(desk.row, "events", 0) > 5
    assert waits[-1] > waits[0] * 4

    receiver.status = 202
    assert run(of, receiver, now) == 5

    assert [e["metadata"]["uid"] for e in receiver.taken] == list(desk.ids.values())
    assert (stream(of).failures, stream(of).error, stream(of).due_at) == (0, "", None)
    assert len({headers["webhook-id"] for _, _, headers, _ in receiver.asked}) == 1  # the same batch each time


def test_retry_after_is_kept_to(desk, receiver):  # noqa: F811
    of = export(desk, receiver)
    receiver.status, receiver.more = 429, {"Retry-After": "7200"}

    run(of, receiver, desk.now)

    assert stream(of).due_at >= desk.now + timedelta(seconds=7200)


def test_a_receiver_for_which_a_batch_is_too_large_gets_smaller_ones(desk, receiver):  # noqa: F811
    send_acts(desk, 20)
    of, take = export(desk, receiver), receiver.answer

    def answer(method, path, headers, body):
        return (413, {}, b"") if body.count(b"\n") > 7 else take(method, path, headers, body)

    receiver.answer = answer

    assert run(of, receiver, desk.now) == 25
    assert len(receiver.taken) == 25 and stream(of).error == ""


def test_an_object_that_is_too_large_by_itself_is_shown_and_not_skipped(desk, receiver):  # noqa: F811
    of = export(desk, receiver)
    receiver.status = 413

    assert run(of, receiver, desk.now) == 0

    assert stream(of).position == 0 and "answered 413 to 1 events" in stream(of).error


def test_an_answer_that_is_lost_means_the_same_ids_again(desk, receiver):  # noqa: F811
    of, take = export(desk, receiver), receiver.answer

    def broken(line):
        raise ConnectionError

    def answer(*asked):
        take(*asked)
        return 200, {}, broken

    receiver.answer = answer
    assert run(of, receiver, desk.now) == 0 and stream(of).error
    receiver.answer = take
    assert run(of, receiver, stream(of).due_at) == 5

    uids = [e["metadata"]["uid"] for e in receiver.taken]
    assert (
        uids == [*desk.ids.values(), *desk.ids.values()]
        and receiver.asked[0][2]["webhook-id"] == receiver.asked[1][2]["webhook-id"]
    )


def test_who_dies_before_the_position_is_kept_sends_the_same_again(desk, receiver, monkeypatch):  # noqa: F811
    class Died(BaseException):
        pass

    def die(*_, **__):
        raise Died

    of = export(desk, receiver)
    with monkeypatch.context() as patched:
        patched.setattr("auditlog.export.deliver._passed", die)
        with pytest.raises(Died):
            run(of, receiver, desk.now)

    assert run(of, receiver, desk.now) == 5 and len(receiver.taken) == 10


def test_two_at_once_are_one(desk, receiver):  # noqa: F811
    of, go, take = export(desk, receiver), threading.Event(), receiver.answer
    inside = threading.Event()

    def answer(*asked):
        inside.set()
        go.wait(20)
        return take(*asked)

    receiver.answer = answer
    sent = []

    def one():
        sent.append(run(of, receiver, desk.now))
        connections.close_all()

    thread = threading.Thread(target=one)
    thread.start()
    assert inside.wait(20)
    assert run(of, receiver, desk.now) == 0
    go.set()
    thread.join()

    assert sent == [5] and len(receiver.asked) == 1


def test_no_transaction_is_open_while_the_receiver_thinks(desk, receiver):  # noqa: F811
    of, seen = export(desk, receiver), []

    def call(request, **how):
        seen.append(connection.in_atomic_block)
        return receiver.call(request, **how)

    deliver(stream(of).pk, now=lambda: desk.now, call=call)

    assert seen == [False]


def test_findings_follow_with_their_changes_and_cef_is_an_option(desk, receiver):  # noqa: F811
    of, lines = export(desk, receiver, what="both", kind="cef"), []
    receiver.answer = lambda m, p, headers, body: (lines.append((headers["content-type"], body)), (200, {}, b""))[1]
    find(desk)
    run(of, receiver, desk.now)
    withdraw(desk)

    assert run(of, receiver, desk.now) == 1

    assert {kind for kind, _ in lines} == {"text/plain; charset=utf-8"}
    header, said = parsed(lines[-1][1])
    assert (header[4], said["outcome"]) == ("spend.retry_loop", "withdrawn")
    assert parsed(lines[0][1].splitlines(keepends=True)[3])[1]["act"] == "domain.register"


def test_one_stream_that_fails_holds_up_no_other(desk, receiver):  # noqa: F811
    of, take = export(desk, receiver, what="both"), receiver.answer
    receiver.answer = lambda m, p, h, body: (500, {}, b"") if b'"class_uid":6003' in body else take(m, p, h, body)
    find(desk)

    run(of, receiver, desk.now)

    assert stream(of, "events").error and stream(of, "findings").error == "" and stream(of, "findings").sent >= 1


def test_without_its_secret_nothing_is_sent_and_it_says_so(desk, receiver, monkeypatch):  # noqa: F811
    of = export(desk, receiver)
    for value, said in (("", "SIEM_SECRET is not set"), ("not base64!", "does not hold a secret of Standard Webhooks")):
        monkeypatch.setenv("SIEM_SECRET", value)
        ExportStream.objects.filter(export=of).update(due_at=None)
        run(of, receiver, desk.now)
        assert said in stream(of).error and "not base64!" not in stream(of).error

    assert receiver.asked == []


def test_a_private_address_is_called_only_where_that_was_allowed(desk, receiver):  # noqa: F811
    of = export(desk, receiver, allow_private=False)

    run(of, receiver, desk.now)

    assert receiver.asked == [] and "private or loopback" in stream(of).error


def test_a_redirect_is_not_followed(desk, receiver):  # noqa: F811
    of = export(desk, receiver)
    receiver.status, receiver.more = 302, {"Location": f"{receiver.url}/elsewhere"}

    run(of, receiver, desk.now)

    assert [path for _, path, *_ in receiver.asked] == ["/collect"] and "answered 302" in stream(of).error


def test_beats_round_sends_what_is_due_and_only_that(desk, receiver, monkeypatch):  # noqa: F811
    of = export(desk, receiver)
    mine = stream(of).pk
    monkeypatch.setattr(rounds, "due", lambda **_: [])  # other tests' sources
    monkeypatch.setattr(rounds, "due_streams", lambda now: [id for id in due_streams(now=now) if id == mine])
    monkeypatch.setattr(rounds, "deliver", lambda id, now: deliver(id, now=now, call=receiver.call))

    for _ in range(2):
        for thread in rounds.start_due(now=lambda: desk.now, done=lambda tenant: None):
            thread.join()

    assert len(receiver.asked) == 1 and mine not in due_streams(now=desk.now)
    find(desk)
    assert mine not in due_streams(now=desk.now)  # it asked for events
    send_acts(desk, 1)
    assert mine in due_streams(now=desk.now)


def test_a_fault_of_ours_is_shown_and_waits(desk, receiver, monkeypatch):  # noqa: F811
    mine = stream(export(desk, receiver)).pk
    monkeypatch.setattr(rounds, "due", lambda **_: [])
    monkeypatch.setattr(rounds, "due_streams", lambda now: [mine])

    def wrong(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr(rounds, "deliver", wrong)
    for thread in rounds.start_due(now=lambda: desk.now, done=lambda tenant: None):
        thread.join()

    row = ExportStream.objects.get(pk=mine)
    assert row.error == "a fault of ours, which is in our log: KeyError" and row.due_at > desk.now


# --- configuring ----------------------------------------------------------------------------------------------------------


def test_adding_changing_and_removing_an_export_are_leaves_without_its_path(desk, receiver):  # noqa: F811
    of = export(desk, receiver, url=f"{receiver.url}/secret-path")
    of.state = "suspended"
    change_export(of, now=desk.now)

    notes = [
        json.loads(bytes(p.raw))
        for p in Payload.objects.filter(tenant=desk.row, source_event_id="").order_by("leaf_index")
    ]
    assert [n["change"] for n in notes[-2:]] == ["export.added", "export.changed"]
    assert (notes[-1]["state"], notes[-1]["host"], notes[-1]["secret_env"]) == ("suspended", "localhost", "SIEM_SECRET")
    assert "secret-path" not in json.dumps(notes)
    assert run(of, receiver, desk.now) == 0 and receiver.asked == []


def test_an_export_may_begin_now(desk, receiver):  # noqa: F811
    find(desk)
    desk.project()
    of = export(desk, receiver, what="both", from_now=True)
    send_acts(desk, 1)

    assert run(of, receiver, desk.now) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "http://siem.example/"}, "https"), ({"url": "https://user:pw@siem.example/"}, "user name"),
        ({"secret_env": "ANSWERABLE_SECRET_KEY"}, "the service's own"), ({"secret_env": ""}, "a variable with a secret to sign with"), ({"kind": "xml"}, "kind"),
        ({"token_env": "DATABASE_URL"}, "the service's own"), ({"token_env": "T", "token_scheme": "Basic"}, "token_scheme"),
        ({"what": "everything"}, "what"),
    ],
)  # fmt: skip
def test_an_export_that_cannot_be_is_not_configured(desk, receiver, more, said):  # noqa: F811
    with pytest.raises(ConfigurationError, match=said):
        export(desk, receiver, **more)

    assert not Export.objects.filter(tenant=desk.row).exists()


def test_staff_configure_exports_in_the_admin_and_others_do_not(desk, receiver):  # noqa: F811
    staff, plain = Client(), Client()
    staff.force_login(User.objects.create_superuser(f"root-{desk.row.name}", password="x" * 12))
    plain.force_login(User.objects.create_user(f"plain-{desk.row.name}", password="x" * 12))
    form = {
        "tenant": desk.row.pk,
        "name": "splunk",
        "kind": "ocsf",
        "what": "both",
        "url": "https://siem.example/x",
        "secret_env": "SIEM_SECRET",
        "token_scheme": "Bearer",
        "state": "active",
    }

    assert (
        plain.post("/admin/auditlog/export/add/", form).status_code == 302
        and not Export.objects.filter(tenant=desk.row).exists()
    )
    wrong = staff.post("/admin/auditlog/export/add/", form | {"url": "http://siem.example"})
    assert wrong.status_code == 200 and "expected an https address" in text_of(wrong)
    assert staff.post("/admin/auditlog/export/add/", form).status_code == 302
    of = Export.objects.get(tenant=desk.row)
    address = f"/admin/auditlog/export/{of.pk}/"
    assert staff.get(f"{address}change/").status_code == 200
    inline = {"streams-TOTAL_FORMS": 0, "streams-INITIAL_FORMS": 0}
    changed = {
        "url": "https://other.example/x",
        "secret_env": "",
        "token_env": "SIEM_TOKEN",
        "token_scheme": "Splunk",
        "state": "suspended",
    }
    assert staff.post(f"{address}change/", changed | inline).status_code == 302
    assert staff.post(f"{address}delete/", {"post": "yes"}).status_code == 302

    notes = [
        json.loads(bytes(p.raw))
        for p in Payload.objects.filter(tenant=desk.row, source_event_id="").order_by("leaf_index")
    ]
    assert [(n["change"], n["host"], n["state"]) for n in notes[-3:]] == [
        ("export.added", "siem.example", "active"), ("export.changed", "other.example", "suspended"), ("export.removed", "other.example", "suspended"),
    ]  # fmt: skip
    assert not ExportStream.objects.filter(tenant=desk.row).exists()


def test_the_integrity_page_shows_how_far_an_export_is_and_what_is_wrong(desk, receiver):  # noqa: F811
    assert "Nothing is sent to a SIEM" in text_of(signed_in(desk, "auditor").get("/integrity/"))
    of = export(desk, receiver)
    receiver.status = 503
    run(of, receiver, desk.now)
    ExportStream.objects.filter(export=of).update(error="<script>x</script>\u202e")

    page = signed_in(desk, "finance").get("/integrity/")

    assert "siem-events-ocsf" in text_of(page) and "(1 in a row)" in text_of(page) and "localhost" in text_of(page)
    assert "<script>x" not in page.content.decode() and "⟨U+202E⟩" in text_of(page)
    assert re.search(rf"\b{behind(desk.row, 'events', 0)}\s+leaves", text_of(page))
    assert "/collect" not in page.content.decode()


def test_an_abuse_desk_does_not_see_where_the_record_is_sent(desk):  # noqa: F811
    assert signed_in(desk, "abuse", provider="registrar").get("/integrity/").status_code == 403


# --- under the receiver's token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "secret_env"), [("Bearer", "SIEM_SECRET"), ("Splunk", "")])
def test_a_token_from_the_environment_is_sent_as_the_receiver_wants_it(desk, receiver, monkeypatch, scheme, secret_env):  # noqa: F811
    monkeypatch.setenv("SIEM_TOKEN", "tok-1.hec/AB==\n")
    of = export(desk, receiver, token_env="SIEM_TOKEN", token_scheme=scheme, secret_env=secret_env)

    assert run(of, receiver, desk.now) == 5

    [(_, _, headers, _)] = receiver.asked
    assert headers["authorization"] == f"{scheme} tok-1.hec/AB=="
    assert ("webhook-signature" in headers) is bool(secret_env) and headers["webhook-id"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM auditlog_export e WHERE e.tenant_id = %s AND e::text LIKE '%%tok-1%%'", [desk.row.pk]
        )
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("value", ["", "two words", "a\r\nX-Evil: 1", "ключ", "x" * 5000])
def test_a_token_that_is_none_is_not_sent_and_not_shown(desk, receiver, monkeypatch, value):  # noqa: F811
    monkeypatch.setenv("SIEM_TOKEN", value)
    of = export(desk, receiver, token_env="SIEM_TOKEN")

    assert run(of, receiver, desk.now) == 0

    assert (
        receiver.asked == [] and "SIEM_TOKEN" in stream(of).error and (not value or value[:9] not in stream(of).error)
    )


def test_a_refused_token_is_said_without_it(desk, receiver, monkeypatch):  # noqa: F811
    monkeypatch.setenv("SIEM_TOKEN", "tok-secret")
    of = export(desk, receiver, token_env="SIEM_TOKEN")
    receiver.status = 401

    run(of, receiver, desk.now)

    assert "answered 401" in stream(of).error and "tok-secret" not in stream(of).error


# --- cases ----------------------------------------------------------------------------------------------------------------


def person(desk, role, number=1):  # noqa: F811
    return Viewer(desk.row, role, f"{role}-{number}", None, "", (1_000_000 + 10 * list(Role).index(role) + number,))


@pytest.fixture
def case(desk):  # noqa: F811
    """Filed over one act, by words that nobody checked."""
    from disputes.open_case import open_case

    event = Event.objects.get(tenant=desk.row, type="domain.registered")
    return open_case(
        person(desk, "security"), event_ids=[event.event_id], kind="scope", title="Wrong\u202e name", complaint="<b>\nCEF:0|x", finding=find(desk),
        claimed_minor=1100, claimed_currency="EUR", now=desk.now,
    )  # fmt: skip


def walk(desk, case):  # noqa: F811
    from disputes.decide import move

    for n, to in enumerate(("intake", "evidence_open", "record_sealed", "assessment"), 1):
        move(case, to, viewer=person(desk, "security"), now=desk.now + timedelta(minutes=n))
    move(
        case,
        "proposed",
        viewer=person(desk, "security"),
        outcome="upheld",
        reason="not asked for",
        now=desk.now + timedelta(minutes=5),
    )
    move(case, "decided", viewer=person(desk, "finance"), reason="so it is", now=desk.now + timedelta(minutes=6))


def told(desk, after=0, size=100):  # noqa: F811
    page = read_page(desk.row, "cases", after=after, size=size)
    return [json.loads(line) for line in page.lines], page


def test_every_step_of_a_case_is_a_valid_incident_in_the_order_of_the_log(desk, case):  # noqa: F811
    walk(desk, case)

    said, page = told(desk)

    assert [problems(one) for one in said] == [[]] * 8 and {one["class_uid"] for one in said} == {2005}
    assert [one["status_detail"] for one in said] == [
        "filed", "intake", "evidence_open", "record_sealed", "assessment", "proposed", "review", "decided",
    ]  # fmt: skip
    assert [one["status"] for one in said] == ["New", *["In Progress"] * 6, "Resolved"]
    assert [one["activity_name"] for one in said] == ["Create", *["Update"] * 7]
    leaves = [one["metadata"]["sequence"] for one in said]
    assert leaves == sorted(leaves) and page.next == leaves[-1] + 1
    assert [one.get("verdict") for one in said] == [*[None] * 7, "upheld"]
    judged = ["verdict" in one["unmapped"]["answerable"]["acts"][0] for one in said]
    assert judged == [False] * 3 + [True] * 5  # with what was known by then: the record is judged when it is sealed
    assert said[0]["finding_info_list"][0]["desc"] == "<b>⟨U+000A⟩CEF:0|x" and "⟨U+202E⟩" in said[0]["message"]
    assert said[0]["finding_info_list"][1]["title"] == "loop 1" and said[0]["severity"] == "High"


def test_steps_are_read_on_from_a_cursor_each_once(desk, case):  # noqa: F811
    whole, _ = told(desk)
    walk(desk, case)
    read, cursor, more = [], 0, True
    while more:
        some, page = told(desk, cursor, 3)
        read, cursor, more = read + some, page.next, page.more

    assert len(read) == 8 and len({one["metadata"]["uid"] for one in read}) == 8 and len(whole) == 1
    assert told(desk, cursor)[0] == [] and behind(desk.row, "cases", 0) == 8 and behind(desk.row, "cases", cursor) == 0
    with pytest.raises(NotPossible, match="was an older copy restored"):
        told(desk, cursor + 1)


def test_a_page_of_steps_costs_the_same_number_of_queries_however_many(desk, case):  # noqa: F811
    with CaptureQueriesContext(connection) as few:
        told(desk)
    walk(desk, case)
    with CaptureQueriesContext(connection) as many:
        assert len(told(desk)[0]) == 8

    assert len(many) == len(few)


def test_another_tenants_cases_are_not_told(desk, case, now):  # noqa: F811
    from auditlog.sources.configure import add_tenant

    other = add_tenant(f"{desk.row.name}-y", now=now)

    assert read_page(other, "cases", size=10).lines == []


def test_a_step_that_commits_late_is_not_passed_by(desk, case):  # noqa: F811
    """Leaves are given under the log's lock until commit: whoever began first has the lower one, and is seen first."""
    from disputes.decide import move
    from disputes.open_case import open_case

    event = Event.objects.get(tenant=desk.row, type="domain.registered")
    second = open_case(person(desk, "security"), event_ids=[event.event_id], kind="scope", title="2", now=desk.now)
    began, go, seen = threading.Event(), threading.Event(), []

    def slow():
        with transaction.atomic():
            move(case, "intake", viewer=person(desk, "security"), now=desk.now)
            began.set()
            go.wait(20)
        connections.close_all()

    def other():
        began.wait(20)
        move(second, "intake", viewer=person(desk, "security"), now=desk.now)
        connections.close_all()

    threads = [threading.Thread(target=one) for one in (slow, other)]
    for thread in threads:
        thread.start()
    assert began.wait(20)
    first, page = told(desk)
    go.set()
    for thread in threads:
        thread.join()
    seen, _ = told(desk, page.next)

    assert len(first) == 2 and [one["status_detail"] for one in seen] == ["intake", "intake"]


def test_cases_go_out_by_webhook_and_only_to_whom_they_were_promised(desk, case, receiver):  # noqa: F811
    both, every = export(desk, receiver, what="both"), export(desk, receiver, what="all")
    mine = {s.what: s.pk for s in every.streams.all()}

    assert mine.keys() == {"events", "findings", "cases"} and not both.streams.filter(what="cases").exists()
    assert mine["cases"] in due_streams(now=desk.now)
    run(every, receiver, desk.now)
    assert [one["metadata"]["uid"] for one in receiver.taken if one["class_uid"] == 2005] == [
        f"case-{desk.row.name}-{case.ref}-0"
    ]
    assert mine["cases"] not in due_streams(now=desk.now) and stream(every, "cases").sent == 1
    walk(desk, case)
    assert mine["cases"] in due_streams(now=desk.now)
    assert run(every, receiver, desk.now) == 7 and stream(every, "cases").position == told(desk)[1].next
    page = text_of(signed_in(desk, "auditor").get("/integrity/"))
    assert "CEF" not in page and re.search(r"\b0\s+steps", page)


def test_cases_are_pulled_and_written_to_files_too(desk, case, tmp_path):  # noqa: F811
    walk(desk, case)
    answer = desk.api.get("export/ocsf", {"what": "cases", "limit": 3})
    assert (answer.content.count(b"\n"), answer.headers["Answerable-More"]) == (3, "true")

    to_file(desk.row, tmp_path / "c.cef", what="cases", format="cef", after=answer.headers["Answerable-Next-Cursor"])

    lines = [parsed(one) for one in (tmp_path / "c.cef").read_bytes().splitlines(keepends=True)]
    assert [(header[4], said["externalId"], said["cn1"]) for header, said in lines] == [
        (f"case.{state}", case.ref, str(n)) for n, state in enumerate(["record_sealed", "assessment", "proposed", "review", "decided"], 3)
    ]  # fmt: skip


def test_every_state_of_a_case_has_a_standing_in_the_words_of_an_incident():
    from disputes.core.status import OPEN, STATES
    from disputes.tell import _STANDINGS

    assert _STANDINGS.keys() <= set(STATES)
    assert {state for state in OPEN if _STANDINGS.get(state) == "closed"} == set()
    ended = set(STATES) - set(OPEN) - {"suspended"}
    assert {_STANDINGS.get(state, "in_progress") for state in ended} == {"resolved", "closed"}


# --- its cursor -----------------------------------------------------------------------------------------------------------


def cursor(desk, *arguments):  # noqa: F811
    out = StringIO()
    call_command(
        "export_cursor", "siem-events-ocsf", "--tenant", desk.row.name, "--what", "events", *arguments, stdout=out
    )
    return out.getvalue().strip()


def test_an_operator_has_an_export_send_again_under_the_same_ids(desk, receiver):  # noqa: F811
    of = export(desk, receiver)
    run(of, receiver, desk.now)
    end = stream(of).position

    said = cursor(desk, "--to", "0")

    assert (
        said
        == f"siem-events-ocsf: the cursor of events was {end} and is 0: events from 0 up to {end} are sent again, under the same ids"
    )
    assert run(of, receiver, desk.now) == 5
    uids = [one["metadata"]["uid"] for one in receiver.taken]
    assert uids == [*desk.ids.values(), *desk.ids.values()]
    note = json.loads(
        bytes(Payload.objects.filter(tenant=desk.row, source_event_id="").order_by("-leaf_index").first().raw)
    )
    assert (note["change"], note["stream"], note["before"], note["after"]) == ("export.moved", "events", end, 0)


def test_what_a_cursor_would_pass_over_is_said_and_takes_a_word(desk, receiver):  # noqa: F811
    of = export(desk, receiver)

    with pytest.raises(CommandError, match="would never be sent: that takes --skip"):
        cursor(desk, "--to-end")
    assert stream(of).position == 0
    assert "are never sent" in cursor(desk, "--to-end", "--skip")

    assert run(of, receiver, desk.now) == 0 and receiver.asked == []
    assert "nothing changes" in cursor(desk, "--to-end")


def test_a_cursor_that_is_none_or_of_nobody_is_an_error(desk, receiver):  # noqa: F811
    of = export(desk, receiver)
    for arguments, said in (
        (["--to", "999999", "--skip"], "a cursor that was given out"),
        (["--to", "-1"], "a cursor that was given out"),
    ):
        with pytest.raises(CommandError, match=said):
            cursor(desk, *arguments)
    for name, what, said in (("nobody", "events", "no export"), ("siem-events-ocsf", "cases", "sends no cases")):
        with pytest.raises(CommandError, match=said):
            call_command("export_cursor", name, "--tenant", desk.row.name, "--what", what, "--to", "0")

    assert stream(of).position == 0


def test_a_cursor_is_not_moved_under_a_delivery_that_would_put_it_back(desk, receiver):  # noqa: F811
    of, tried, take = export(desk, receiver), [], receiver.answer

    def answer(*asked):
        def other():
            try:
                cursor(desk, "--to", "0")
            except CommandError as error:
                tried.append(str(error))
            connections.close_all()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return take(*asked)

    receiver.answer = answer
    run(of, receiver, desk.now)

    assert len(tried) == 1 and "right now" in tried[0]
    assert "sent again" in cursor(desk, "--to", "0")


# --- the API --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_who_may_read_everything_may_pull_and_an_abuse_desk_may_not(desk, role):  # noqa: F811
    api = Api(desk.row, role, "registrar" if role == "abuse" else "")
    for what in ("events", "findings", "cases"):
        answer = api.get("export/ocsf", {"what": what})
        if role == "abuse":
            problem(answer, 403)
        else:
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")


def test_nobody_pulls_without_a_token_or_from_another_tenant(desk, now):  # noqa: F811
    from auditlog.sources.configure import add_tenant

    other = Api(add_tenant(f"{desk.row.name}-x", now=now), "admin")

    assert Client().get("/api/v1/export/ocsf?what=events").status_code == 401
    assert other.get("export/ocsf", {"what": "events"}).content == b""


def test_pulling_goes_on_from_the_cursor_it_gives(desk):  # noqa: F811
    find(desk)
    for what, expected in (("events", 5), ("findings", Finding.objects.filter(tenant=desk.row).count())):
        cursor, more, read = "0", "true", []
        while more == "true":
            answer = desk.api.get(
                "export/ocsf", {"what": what, "after": cursor, "limit": 2}, Accept="application/x-ndjson"
            )
            read += answer.content.splitlines()
            cursor, more = answer.headers["Answerable-Next-Cursor"], answer.headers["Answerable-More"]
        assert len(read) == expected and len({json.loads(line)["metadata"]["uid"] for line in read}) == expected
        end = desk.api.get("export/ocsf", {"what": what, "after": cursor})
        assert (end.content, end.headers["Answerable-Next-Cursor"]) == (b"", cursor)


@pytest.mark.parametrize(
    ("query", "status"),
    [({}, 400), ({"what": "all"}, 400), ({"what": "events", "after": "-1"}, 400), ({"what": "events", "after": "x"}, 400),
     ({"what": "events", "after": "9" * 18}, 409), ({"what": "events", "limit": "501"}, 400), ({"what": "events", "since": "1"}, 400)],
)  # fmt: skip
def test_a_pull_that_cannot_be_meant_is_refused(desk, query, status):  # noqa: F811
    problem(desk.api.get("export/ocsf", query), status)
    problem(desk.api.get("export/ocsf", query, Accept="application/x-ndjson"), status)


# --- by file --------------------------------------------------------------------------------------------------------------


def to_file(tenant, out, **more):
    stdout, stderr = StringIO(), StringIO()
    options = {"tenant": tenant.name, "what": "events", "out": out} | more
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    call_command("export_siem", *arguments, stdout=stdout, stderr=stderr)
    return stdout.getvalue().strip()


def test_a_file_is_appended_to_from_the_cursor_that_was_printed(desk, tmp_path):  # noqa: F811
    out = tmp_path / "events.ndjson"
    cursor = to_file(desk.row, out)
    send_acts(desk, 3)

    last = to_file(desk.row, out, after=cursor)

    assert (
        out.read_bytes() == b"".join(read_page(desk.row, "events", size=100).lines)
        and os.stat(out).st_mode & 0o777 == 0o600
    )
    assert to_file(desk.row, out, after=last) == last and out.read_bytes().count(b"\n") == 8


def test_cef_and_findings_go_into_files_too(desk, tmp_path):  # noqa: F811
    find(desk)
    to_file(desk.row, tmp_path / "f.cef", what="findings", format="cef")

    assert all(
        parsed(line)[0][1] == "Answerable" for line in (tmp_path / "f.cef").read_bytes().splitlines(keepends=True)
    )


def test_a_line_that_a_killed_run_left_is_cut_off_and_a_foreign_file_is_left_alone(desk, tmp_path):  # noqa: F811
    torn, foreign = tmp_path / "torn", tmp_path / "foreign"
    to_file(desk.row, torn)
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-40])
    foreign.write_bytes(b"my notes")

    to_file(desk.row, torn, after=desk_last(desk))
    with pytest.raises(CommandError, match="not from here"):
        to_file(desk.row, foreign)

    assert torn.read_bytes() == whole and foreign.read_bytes() == b"my notes"
    torn.write_bytes(whole[:-40])
    to_file(desk.row, torn, after=read_page(desk.row, "events", size=100).next)  # nothing more to write over it
    assert torn.read_bytes() == whole[: whole[:-1].rindex(b"\n") + 1]


def desk_last(desk):  # noqa: F811
    """The cursor before the last event: what a run that was killed there had been told at most."""
    return Event.objects.filter(tenant=desk.row).order_by("-leaf_index").first().leaf_index


def test_a_cursor_or_tenant_that_is_not_there_is_an_error(desk, tmp_path):  # noqa: F811
    with pytest.raises(CommandError, match="cursor"):
        to_file(desk.row, tmp_path / "x", after=10**9)
    with pytest.raises(CommandError, match="no tenant"):
        call_command("export_siem", "--tenant", "nobody", "--what", "events", "--out", str(tmp_path / "y"))
