"""Alerts: each channel is told once of what is news to it, at the hours that it wants, and whoever does not answer is asked again."""

import base64
import email
import io
import json
import os
from datetime import time, timedelta
from email.policy import default

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.urls import resolve
from standardwebhooks import Webhook

from auditlog.alerts import channels, notice, send
from auditlog.core.errors import ConfigurationError, NotPermitted, NotPossible
from auditlog.custody.erase import _redact_findings
from auditlog.incidents.gather import gather_findings
from auditlog.incidents.handle import assign, close, note, reopen
from auditlog.models import Alert, AlertChannel, AlertLook, AlertTold, Finding, Incident, SealedSecret
from auditlog.reads.access import Viewer
from auditlog.sources import configuration, sealed
from auditlog.work import rounds
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_incidents import acts, made, somebody  # noqa: F401  a fixture
from tests.integration.test_stops import taken
from tests.support.smtp import Sink

pytestmark = pytest.mark.usefixtures("database")
HOOK = "whsec_" + base64.b64encode(b"k" * 24).decode()
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", base64.b64encode(os.urandom(32)).decode())
    sealed.forget()


@pytest.fixture
def sink(settings):
    server = Sink()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.DEFAULT_FROM_EMAIL = "answerable@example.org"
    yield server
    server.close()


def channel(world, outside=None, kind="webhook", name="", **more):
    if kind == "webhook":
        more = {"address": f"{outside.url}/hook", "secret": HOOK, **more}
    elif kind == "slack":
        more = {"secret": f"{outside.url}/services/T0/B0/secret", **more}
    elif kind == "pagerduty":
        more = {"address": outside.url, "secret": "R" * 32, **more}
    return channels.add(
        world.row, name or kind, kind=kind, allow_private=True, now=world.now, **{"severity": "low", **more}
    )


def found(world, number=1, *, at=None, **more):
    """A finding of an incident of its own, detected after the channels were made."""
    at = at or world.now + MINUTE
    return made(world, f"f{number}", [number], detected_at=at, first_at=at, last_at=at, **more)


def turn(world, outside=None, *, at=None, after=MINUTE):
    """What the rounds do from `at` on: gather, look, and once the window is over send. Returns how many alerts were taken."""
    at = at or world.now + 2 * MINUTE
    call = outside.call if outside else None
    gathered = world.now = max(world.now, at)
    while gather_findings(world.row, now=gathered):
        pass
    while notice.notice(now=at, tenant=world.row):
        pass
    later, sent = at + after, 0
    for _ in range(3):
        for pk in AlertChannel.objects.filter(tenant=world.row, state="on").order_by("id").values_list("pk", flat=True):
            sent += send.send(pk, now=lambda: later, **({"call": call} if call else {}))
        while notice.notice(now=later, tenant=world.row):
            pass
    world.now = later
    return sent


def bodies(got):
    return [json.loads(body) for *_, body in got]


def states(world, **more):
    return list(Alert.objects.filter(tenant=world.row, **more).order_by("id").values_list("kind", "state"))


def incident(world, ref="INC-000001"):
    return Incident.objects.get(tenant=world.row, ref=ref)


# --- told once ----------------------------------------------------------------------------------------------------------


def test_a_channel_hears_of_an_incident_once_by_a_signed_webhook_and_nothing_repeats_without_news(world, outside):
    channel(world, outside)
    got = taken(outside)
    finding = found(world)
    assert turn(world, outside) == 1

    [(_, path, headers, body)] = got
    said = json.loads(body)
    assert path == "/hook" and said["type"] == "incident.alert" and headers["webhook-id"]
    incident_ = said["data"]["incident"]
    assert incident_["ref"] == "INC-000001" and [each["what"] for each in incident_["news"]] == ["opened"]
    assert resolve(incident_["link"].removeprefix("http://localhost:8000")).url_name == "incident"
    assert "title" not in incident_ and "finding f1" not in body.decode()

    for _ in range(3):  # judged again, and looked at again, without anything new
        Finding.objects.filter(pk=finding.pk).update(title="another title")
        assert turn(world, outside) == 0
    assert len(got) == 1 and states(world) == [("news", "sent")]


def test_what_is_sent_is_signed_so_that_the_libraries_of_standard_webhooks_take_it(world, outside):
    from django.utils import timezone

    channel(world, outside)
    got = taken(outside)
    sent = send.send_test(AlertChannel.objects.get(tenant=world.row), now=timezone.now, call=outside.call)

    [(_, _, headers, body)] = got
    assert (
        Webhook(HOOK).verify(body, headers)["type"] == "test"
        and sent.state == "sent"
        and headers["webhook-id"] == sent.key
    )


def test_many_findings_of_one_incident_within_the_window_are_one_alert(world, outside, acts):  # noqa: F811
    channel(world, outside)
    got = taken(outside)
    for number in range(8):
        made(world, f"g{number}", [1, number + 2], detected_at=world.now + MINUTE)
        while gather_findings(world.row, now=world.now + MINUTE):
            pass
        notice.notice(now=world.now + MINUTE, tenant=world.row)
    assert turn(world, outside) == 1

    assert bodies(got)[0]["data"]["incident"]["findings"] == 8


def test_what_grows_by_a_step_is_told_with_what_it_was_and_the_rest_waits(world, outside):
    channel(world, outside)
    got = taken(outside)
    found(world, money_at_risk_minor=1_000, currency="EUR")
    turn(world, outside)
    found(world, money_at_risk_minor=1_900, currency="EUR")
    assert turn(world, outside) == 0
    found(world, money_at_risk_minor=2_000, currency="EUR", severity="critical")
    assert turn(world, outside) == 1

    news = bodies(got)[-1]["data"]["incident"]["news"]
    assert [each["text"] for each in news] == ["Now critical, was high", "Now 20.00 EUR too much, was 10.00 EUR"]


def test_what_was_open_before_the_channel_is_told_of_only_as_it_grows(world, outside):
    found(world, money_at_risk_minor=1_000, currency="EUR")
    turn(world)
    world.now += MINUTE
    channel(world, outside)
    got = taken(outside)
    assert turn(world, outside, at=world.now) == 0
    found(world, money_at_risk_minor=5_000, currency="EUR")
    assert turn(world, outside) == 1

    assert [each["what"] for each in bodies(got)[0]["data"]["incident"]["news"]] == ["money"]


def test_a_channel_hears_of_what_is_bad_enough_for_its_desk_and_no_other(world, outside):
    channel(world, outside, name="critical", severity="critical")
    channel(world, outside, name="abuse", desks=["abuse"])
    channel(world, outside, name="money", least_minor=100, currency="EUR")
    channel(world, outside, name="switched-off", state="off")
    channel(world, outside, name="all")
    taken(outside)
    found(world, rule="intent.quantity_exceeded")
    turn(world, outside)

    assert set(Alert.objects.filter(tenant=world.row).values_list("channel__name", flat=True)) == {"all"}


def test_what_was_withdrawn_before_it_was_told_is_not_told(world, outside):
    channel(world, outside)
    got = taken(outside)
    finding = found(world)
    while gather_findings(world.row, now=world.now + MINUTE):
        pass
    notice.notice(now=world.now + MINUTE, tenant=world.row)
    assert states(world) == [("news", "waiting")]
    Finding.objects.filter(pk=finding.pk).update(state="withdrawn")
    turn(world, outside)

    assert got == [] and states(world) == [("news", "cancelled")]


def test_the_end_of_the_time_to_undo_is_told_a_day_ahead_and_once(world, outside):
    channel(world, outside)
    got = taken(outside)
    ends = world.now + timedelta(days=3)
    found(world, evidence={"undo_until": ends.isoformat()})
    assert turn(world, outside) == 1
    assert turn(world, outside, at=ends - timedelta(hours=25)) == 0
    assert turn(world, outside, at=ends - timedelta(hours=24)) == 1
    assert turn(world, outside, at=ends - timedelta(hours=3)) == 0

    assert [each["what"] for each in bodies(got)[1]["data"]["incident"]["news"]] == ["due_soon"]


# --- what it comes to ---------------------------------------------------------------------------------------------------


def test_pagerduty_is_triggered_acknowledged_and_resolved_under_one_key_and_triggered_again(world, outside):
    channel(world, outside, "pagerduty")
    got = taken(outside)
    user = signed_in(world, "security") and Viewer(world.row, "security", "sam")
    from django.contrib.auth.models import User

    owner = User.objects.get(username__startswith=f"security-{world.tenant}").username
    found(world)
    turn(world, outside)
    assign(user, "INC-000001", owner=owner, now=world.now)
    turn(world, outside)
    close(user, "INC-000001", outcome="stopped", reason="done", now=world.now)
    turn(world, outside)
    turn(world, outside)
    reopen(user, "INC-000001", reason="not done", now=world.now)
    turn(world, outside)

    assert [path for _, path, *_ in got] == ["/v2/enqueue"] * len(got)
    assert [body["event_action"] for body in bodies(got)] == [
        "trigger",
        "acknowledge",
        "resolve",
        "trigger",
        "acknowledge",
    ]
    assert {body["dedup_key"] for body in bodies(got)} == {f"{world.tenant}/INC-000001"}
    assert {body["routing_key"] for body in bodies(got)} == {"R" * 32}
    assert not Alert.objects.filter(tenant=world.row, body__contains="RRRR").exists()


def test_an_incident_that_became_part_of_an_older_one_is_over_for_pagerduty(world, outside, acts):  # noqa: F811
    channel(world, outside, "pagerduty")
    got = taken(outside)
    found(world, 1)
    found(world, 2)
    turn(world, outside)
    made(world, "link", [1, 2], detected_at=world.now)
    turn(world, outside)

    ends = [(body["event_action"], body["dedup_key"].rpartition("/")[2]) for body in bodies(got)]
    assert ends == [("trigger", "INC-000001"), ("trigger", "INC-000002"), ("resolve", "INC-000002")]


def test_people_are_not_told_that_an_incident_was_closed_and_of_it_again_when_it_opens(world, outside):
    channel(world, outside, "slack")
    got = taken(outside, 200, b"ok")
    found(world)
    turn(world, outside)
    close(somebody(world), "INC-000001", outcome="stopped", reason="done", now=world.now)
    assert turn(world, outside) == 0
    reopen(somebody(world), "INC-000001", reason="not done", now=world.now)
    assert turn(world, outside) == 1

    assert [path for _, path, *_ in got] == ["/services/T0/B0/secret"] * 2
    assert "Open again" in bodies(got)[1]["text"] and Alert.objects.filter(tenant=world.row).last().answer == "200 ok"


def test_pagerduty_hears_nothing_of_an_incident_that_it_was_never_told_of(world, outside):
    channel(world, outside, "pagerduty", severity="critical")
    got = taken(outside)
    found(world)
    turn(world, outside)
    close(somebody(world), "INC-000001", outcome="stopped", reason="done", now=world.now)
    turn(world, outside)

    assert got == []


# --- mail ---------------------------------------------------------------------------------------------------------------


def test_a_mail_is_plain_text_to_those_that_it_is_for_and_nobody_forges_a_header(world, sink):
    channel(world, kind="mail", address="a@example.org, b@example.org", with_texts=True)
    found(world, title="x\r\nBcc: victim@example.org\r\n\r\n<b>y</b>")
    assert turn(world) == 1

    [(to, raw)] = sink.mails
    got = email.message_from_bytes(raw, policy=default)
    assert to == ["a@example.org", "b@example.org"] and "victim@example.org" not in to
    assert got["Subject"] == f"[Answerable {world.tenant}] INC-000001, high: New incident"
    assert got["Bcc"] is None and got.get_content_type() == "text/plain" and got["Auto-Submitted"] == "auto-generated"
    assert got["Message-ID"] == f"<{Alert.objects.get(tenant=world.row).key}@example.org>"
    assert "⟨U+000D⟩" in got.get_content() and "/incidents/INC-000001/" in got.get_content()


def test_a_mail_server_that_refuses_the_recipient_for_good_is_not_asked_again_and_one_that_is_busy_is(world, sink):
    channel(world, kind="mail", address="a@example.org")
    sink.refuses["a@example.org"] = "450 busy"
    found(world)
    assert turn(world) == 0
    assert states(world) == [("news", "failed")]
    sink.refuses["a@example.org"] = "550 no such user"
    turn(world)
    assert states(world) == [("news", "dead")] and "550" in Alert.objects.get(tenant=world.row).answer


def test_without_a_mail_server_a_channel_of_mail_says_so(world, settings):
    settings.EMAIL_HOST = ""
    row = channel(world, kind="mail", address="a@example.org")
    found(world)
    turn(world)

    assert "ANSWERABLE_SMTP" in Alert.objects.get(tenant=world.row).answer
    assert "ANSWERABLE_SMTP" in send.send_test(row, now=lambda: world.now).answer
    assert "No mail server is configured" in signed_in(world, "admin").get("/alerts/").content.decode()


# --- failing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"), [(500, "failed"), (429, "failed"), (302, "failed"), (400, "dead"), (404, "dead")]
)
def test_a_channel_that_does_not_take_it_is_asked_again_with_the_same_key_unless_it_says_no_for_good(
    world, outside, status, state
):
    channel(world, outside)
    got = taken(outside, status, b'{"message": "not <now>"}')
    found(world)
    assert turn(world, outside) == 0
    alert = Alert.objects.get(tenant=world.row)
    assert alert.state == state and str(status) in alert.answer and "not <now>" in alert.answer

    again = taken(outside)
    assert turn(world, outside, after=timedelta(minutes=10)) == (state == "failed")
    if again:
        assert again[0][2]["webhook-id"] == got[0][2]["webhook-id"] and again[0][3] == got[0][3]


def test_what_nobody_took_for_a_day_is_given_up_and_an_admin_sends_it_again(world, outside):
    channel(world, outside)
    got = taken(outside, 503)
    found(world)
    turn(world, outside)
    turn(world, outside, at=world.now + send.GIVEN_UP)
    alert = Alert.objects.get(tenant=world.row)
    assert alert.state == "dead"
    with pytest.raises(NotPermitted):
        send.resend(somebody(world), alert, now=world.now)
    send.resend(Viewer(world.row, "admin", "root"), alert, now=world.now)
    again = taken(outside)
    turn(world, outside)
    assert again[0][2]["webhook-id"] == got[0][2]["webhook-id"] and states(world) == [("news", "sent")]
    with pytest.raises(NotPossible):
        send.resend(Viewer(world.row, "admin", "root"), alert, now=world.now)


class Died(BaseException):
    """The process, at this very place."""


def test_whoever_dies_between_the_note_and_the_call_leaves_a_message_that_is_sent_once(world, outside):
    row = channel(world, outside)
    found(world)
    while gather_findings(world.row, now=world.now + MINUTE):
        pass
    notice.notice(now=world.now + MINUTE, tenant=world.row)

    def dies(*args, **more):
        raise Died

    with pytest.raises(Died):
        send.send(row.pk, now=lambda: world.now + 3 * MINUTE, call=dies)
    left = Alert.objects.get(tenant=world.row)
    assert left.state == "waiting" and left.body and left.tried_at and AlertTold.objects.filter(channel=row).exists()

    got = taken(outside)
    assert turn(world, outside, at=world.now + 4 * MINUTE) == 1 and turn(world, outside) == 0
    assert [headers["webhook-id"] for _, _, headers, _ in got] == [left.key]


def test_a_body_is_forgotten_once_it_was_taken_and_put_anew_where_what_it_rested_on_was_erased(world, outside):
    channel(world, outside, with_texts=True)
    taken(outside, 503)
    found(world, title="somebody's secret")
    turn(world, outside)
    assert "somebody's secret" in Alert.objects.get(tenant=world.row).body
    Finding.objects.filter(tenant=world.row).update(title="Erased")
    _redact_findings(world.row, [10**9])
    assert Alert.objects.get(tenant=world.row).body == ""
    got = taken(outside)
    assert turn(world, outside) == 1

    assert "secret" not in got[0][3].decode() and "New incident" in got[0][3].decode()
    assert Alert.objects.get(tenant=world.row).body == ""


def test_nothing_of_an_incident_overtakes_what_came_before_it(world, outside):
    channel(world, outside, "pagerduty")
    taken(outside, 503)
    found(world)
    turn(world, outside)
    Alert.objects.filter(tenant=world.row, state="failed").update(due_at=world.now + timedelta(hours=2))
    close(somebody(world), "INC-000001", outcome="stopped", reason="done", now=world.now)
    got = taken(outside)
    assert turn(world, outside) == 0 and states(world) == [("news", "failed"), ("resolved", "waiting")]
    assert turn(world, outside, after=timedelta(hours=3)) == 2

    assert [body["event_action"] for body in bodies(got)] == ["trigger", "resolve"]


# --- quiet hours --------------------------------------------------------------------------------------------------------

NIGHT = {"quiet_zone": "UTC", "quiet_from": time(22), "quiet_to": time(7)}


def at_night(world, hour=23, day=0):
    return world.now.replace(hour=hour, minute=0) + timedelta(days=day)


def test_what_opens_in_quiet_hours_is_one_summary_of_what_is_still_open_when_they_end(world, outside):
    night = at_night(world)
    channel(world, outside, **NIGHT)
    got = taken(outside)
    for number in (1, 2, 3):
        found(world, number, at=night, principal=f"https://id.example|p{number}")
    assert turn(world, outside, at=night) == 0
    assert [state for _, state in states(world)] == ["held"] * 3
    close(somebody(world), "INC-000002", outcome="stopped", reason="done", now=night)
    assert turn(world, outside, at=at_night(world, 6)) == 0
    assert turn(world, outside, at=night.replace(hour=7) + timedelta(days=1)) == 1

    [body] = bodies(got)
    assert body["type"] == "incidents.summary"
    assert [each["ref"] for each in body["data"]["incidents"]] == ["INC-000001", "INC-000003"]
    assert sorted(states(world)) == [("news", "cancelled"), ("news", "summed"), ("news", "summed"), ("summary", "sent")]
    assert turn(world, outside) == 0 and len(got) == 1


def test_what_is_critical_passes_through_quiet_hours_unless_the_channel_says_that_it_waits(world, outside):
    night = at_night(world)
    channel(world, outside, name="woken", **NIGHT)
    channel(world, outside, name="asleep", critical_passes=False, **NIGHT)
    got = taken(outside)
    found(world, severity="critical", at=night)
    assert turn(world, outside, at=night) == 1

    assert bodies(got)[0]["data"]["channel"] == "woken"
    assert turn(world, outside, at=night.replace(hour=7) + timedelta(days=1)) == 1
    assert [body["type"] for body in bodies(got)] == ["incident.alert"] * 2  # a single one is no summary


def test_what_becomes_critical_while_it_is_held_goes_out_at_once(world, outside):
    night = at_night(world)
    channel(world, outside, **NIGHT)
    got = taken(outside)
    found(world, at=night)
    turn(world, outside, at=night)
    found(world, severity="critical", at=night)
    assert turn(world, outside) == 1 and bodies(got)[0]["data"]["incident"]["severity"] == "critical"


def test_pagerduty_is_told_of_each_incident_when_quiet_hours_end(world, outside):
    night = at_night(world)
    channel(world, outside, "pagerduty", **NIGHT)
    got = taken(outside)
    for number in (1, 2):
        found(world, number, at=night, principal=f"https://id.example|p{number}")
    turn(world, outside, at=night)
    assert turn(world, outside, at=night.replace(hour=7) + timedelta(days=1)) == 2

    assert {body["event_action"] for body in bodies(got)} == {"trigger"} and len(
        {body["dedup_key"] for body in bodies(got)}
    ) == 2


# --- escalation ---------------------------------------------------------------------------------------------------------


def escalating(world, outside, **more):
    boss = channel(world, outside, name="boss", severity="critical", **more)
    return channel(world, outside, name="desk", escalate_minutes=30, escalate_to=boss)


def test_what_nobody_takes_up_is_told_to_another_channel_once(world, outside):
    escalating(world, outside)
    got = taken(outside)
    found(world)
    turn(world, outside)
    assert turn(world, outside, at=world.now + 28 * MINUTE) == 0
    assert turn(world, outside, at=world.now + 5 * MINUTE) == 1
    assert turn(world, outside, at=world.now + 300 * MINUTE) == 0

    assert [body["data"]["channel"] for body in bodies(got)] == ["desk", "boss"]
    assert "Nobody took it up after desk was told" in [
        each["text"] for each in bodies(got)[1]["data"]["incident"]["news"]
    ]


@pytest.mark.parametrize("how", ["note", "close", "owner", "triage"])
def test_what_somebody_took_up_is_not_escalated(world, outside, how):
    escalating(world, outside)
    taken(outside)
    finding = found(world)
    turn(world, outside)
    if how == "note":
        note(somebody(world), "INC-000001", text="on it", now=world.now)
    elif how == "close":
        close(somebody(world), "INC-000001", outcome="other", reason="done", now=world.now)
    elif how == "owner":
        Incident.objects.filter(pk=incident(world).pk).update(owner="sam")
    else:
        finding.triage.create(by="sam", from_state="open", to_state="acknowledged", reason="seen")
    turn(world, outside, at=world.now + 60 * MINUTE)

    assert not Alert.objects.filter(tenant=world.row, channel__name="boss").exists()


def test_minutes_that_were_changed_count_for_what_waits_already(world, outside):
    desk = escalating(world, outside)
    got = taken(outside)
    found(world)
    turn(world, outside)
    channels.change(desk, escalate_minutes=5, now=world.now)
    turn(world, outside)
    assert turn(world, outside, at=world.now + 6 * MINUTE) == 1 and bodies(got)[1]["data"]["channel"] == "boss"


# --- faults of ours -----------------------------------------------------------------------------------------------------


def test_an_incident_that_cannot_be_read_holds_up_no_other(world, outside, monkeypatch):
    channel(world, outside)
    got = taken(outside)
    facts_of, broken = notice.facts_of, []

    def some(tenant, rows):
        if any(row.ref == "INC-000001" for row in rows) and not broken:
            raise LookupError("broken")
        return facts_of(tenant, rows)

    monkeypatch.setattr(notice, "facts_of", some)
    for number in (1, 2):
        found(world, number, principal=f"https://id.example|p{number}")
    assert turn(world, outside) == 1 and bodies(got)[0]["data"]["incident"]["ref"] == "INC-000002"
    broken.append("mended")
    assert turn(world, outside) == 1 and bodies(got)[1]["data"]["incident"]["ref"] == "INC-000001"


def test_a_message_that_cannot_be_put_holds_up_no_other(world, outside, monkeypatch):
    channel(world, outside)
    got = taken(outside)
    put = send._body

    def some(channel, message):
        if message.entries and message.entries[0].facts.ref == "INC-000001":
            raise LookupError("broken")
        return put(channel, message)

    monkeypatch.setattr(send, "_body", some)
    for number in (1, 2):
        found(world, number, principal=f"https://id.example|p{number}")
    turn(world, outside)

    assert [body["data"]["incident"]["ref"] for body in bodies(got)] == ["INC-000002"]
    assert "a fault of ours" in Alert.objects.get(tenant=world.row, incident__ref="INC-000001").answer


def test_beats_round_looks_for_news_and_sends_it(world, outside, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    row = channel(world, outside)
    got = taken(outside)
    found(world)
    while gather_findings(world.row, now=world.now + MINUTE):
        pass
    assert notice.is_due(now=world.now)
    due = rounds.alerts.due_channels
    monkeypatch.setattr(rounds.alerts, "due_channels", lambda **more: [pk for pk in due(**more) if pk == row.pk])
    for at in (world.now + 2 * MINUTE, world.now + 3 * MINUTE):
        for thread in rounds.start_alerts(now=lambda at=at: at):
            thread.join()

    assert len(got) == 1 and states(world) == [("news", "sent")]


# --- configuring --------------------------------------------------------------------------------------------------------


def test_a_channel_stands_in_the_log_without_its_address_and_its_secret_is_sealed(world, outside):
    row = channel(world, outside, "slack")
    stated = configuration.stated(world.row)["alert channel", row.pk]

    assert stated.change == "alert channel.added" and stated.row["name"] == "slack" and "address" not in stated.row
    assert "secret" not in json.dumps(stated.row).replace("secret_env", "") and "T0" not in json.dumps(stated.row)
    assert configuration.differences(world.row) == {}
    channels.change(
        row, severity="critical", quiet_zone="Europe/Berlin", quiet_from=time(22), quiet_to=time(7), now=world.now
    )
    assert configuration.stated(world.row)["alert channel", row.pk].row["severity"] == "critical"
    pk = row.pk
    channels.remove(row, now=world.now)
    assert configuration.stated(world.row)["alert channel", pk].row is None
    assert not SealedSecret.objects.filter(tenant=world.row).exists() and configuration.differences(world.row) == {}


def test_a_channel_that_was_changed_behind_the_logs_back_is_told_nothing(world, outside):
    from django.db import connections

    row = channel(world, outside)
    got = taken(outside)
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE alert_channel DISABLE TRIGGER configuration_restated")
        cursor.execute("UPDATE alert_channel SET address = 'https://thief.example/' WHERE id = %s", [row.pk])
        cursor.execute("ALTER TABLE alert_channel ENABLE TRIGGER configuration_restated")
    found(world)
    assert turn(world, outside) == 0

    assert got == [] and "address_sha256" in Alert.objects.get(tenant=world.row).answer


def test_a_channel_is_told_nothing_before_a_published_checkpoint_covers_it(world, outside, unpublished):
    channel(world, outside)
    got = taken(outside)
    found(world)
    assert turn(world, outside) == 0 and got == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"kind": "slack", "secret": "http://hooks.example/x"}, "https"),
        ({"kind": "slack", "secret": ""}, "not set"),
        ({"kind": "slack", "secret": "https://h.example/x", "address": "https://h.example/x"}, "as the secret"),
        ({"kind": "pagerduty", "secret": "short"}, "32 letters"),
        ({"kind": "webhook", "secret": HOOK, "address": ""}, "https address"),
        ({"kind": "webhook", "secret": "nothing", "address": "https://h.example/"}, "whsec_"),
        ({"kind": "webhook", "secret": HOOK, "address": "ftp://h.example/"}, "https"),
        ({"kind": "webhook", "secret": HOOK, "address": "https://h.example/", "secret_env": "DATABASE_URL"}, "own"),
        ({"kind": "mail", "address": ""}, "1 to 10"),
        ({"kind": "mail", "address": "a@example.org\r\nBcc: b@example.org"}, "address"),
        ({"kind": "mail", "address": "a@example.org,b"}, "no mail address"),
        ({"kind": "mail", "address": "a@example.org", "desks": ["kitchen"]}, "desks"),
        ({"kind": "mail", "address": "a@example.org", "least_minor": 5}, "both or none"),
        ({"kind": "mail", "address": "a@example.org", "least_minor": -5, "currency": "EUR"}, "0 or more"),
        ({"kind": "mail", "address": "a@example.org", "severity": "awful"}, "severity"),
        ({"kind": "mail", "address": "a@example.org", "quiet_zone": "Mars/Base", "quiet_from": time(1), "quiet_to": time(2)}, "time zone"),
        ({"kind": "mail", "address": "a@example.org", "quiet_zone": "../etc", "quiet_from": time(1), "quiet_to": time(2)}, "time zone"),
        ({"kind": "mail", "address": "a@example.org", "quiet_zone": "UTC"}, "all three"),
        ({"kind": "mail", "address": "a@example.org", "quiet_zone": "UTC", "quiet_from": time(1), "quiet_to": time(1)}, "never end"),
        ({"kind": "mail", "address": "a@example.org", "quiet_days": [7]}, "quiet_days"),
        ({"kind": "mail", "address": "a@example.org", "escalate_minutes": 5}, "both or none"),
        ({"kind": "pigeon"}, "kind"),
        ({"kind": "mail", "address": "a@example.org", "name": "Not A Slug"}, "name"),
    ],
)  # fmt: skip
def test_a_channel_that_could_not_be_written_to_is_refused_and_nothing_of_it_is_kept(world, said, why):
    with pytest.raises(ConfigurationError, match=why) as refused:
        channels.add(world.row, said.pop("name", "c"), now=world.now, **said)

    assert said.get("secret") in (None, "") or said["secret"] not in str(refused.value)
    assert (
        not AlertChannel.objects.filter(tenant=world.row).exists()
        and not SealedSecret.objects.filter(tenant=world.row).exists()
    )


def test_who_is_escalated_to_is_another_channel_of_the_same_tenant_and_is_not_taken_off(world, outside):
    desk = escalating(world, outside)
    with pytest.raises(NotPossible, match="escalates to"):
        channels.remove(desk.escalate_to, now=world.now)
    with pytest.raises(ConfigurationError, match="another channel"):
        channels.change(desk, escalate_to=desk, now=world.now)


def test_switched_off_it_is_told_nothing_of_what_was_on_its_way_and_on_again_of_what_is_new(world, outside):
    row = channel(world, outside)
    got = taken(outside)
    found(world)
    while gather_findings(world.row, now=world.now + MINUTE):
        pass
    notice.notice(now=world.now + MINUTE, tenant=world.row)
    channels.change(row, state="off", now=world.now + MINUTE)
    turn(world, outside)
    assert got == [] and states(world) == [("news", "cancelled")]
    with pytest.raises(NotPossible):
        send.send_test(AlertChannel.objects.get(pk=row.pk), now=lambda: world.now, call=outside.call)
    channels.change(row, state="on", now=world.now + MINUTE)
    found(world, 2, at=world.now + 2 * MINUTE, principal="https://id.example|ben")
    turn(world, outside, at=world.now + 3 * MINUTE)
    assert [body["data"]["incident"]["ref"] for body in bodies(got)] == ["INC-000002"]


def test_a_test_of_pagerduty_leaves_nobody_with_an_alert(world, outside):
    row = channel(world, outside, "pagerduty")
    got = taken(outside, 202, b'{"status": "success", "message": "Event processed"}')
    sent = send.send_test(row, now=lambda: world.now, call=outside.call)

    assert sent.answer == "202 Event processed" and AlertChannel.objects.get(pk=row.pk).tested_at == world.now
    assert [body["event_action"] for body in bodies(got)] == ["trigger", "resolve"]
    assert len({body["dedup_key"] for body in bodies(got)}) == 1 and "TEST" in bodies(got)[0]["payload"]["summary"]


def test_incidents_of_a_tenant_that_has_no_channel_cost_nothing(world):
    found(world)
    turn(world)
    assert not AlertLook.objects.filter(tenant=world.row).exists()


def test_another_tenants_channel_hears_nothing_of_this_ones_incidents(world, outside, now):
    from auditlog.sources.configure import add_tenant

    other = add_tenant(f"other-{world.tenant}", now=now)
    channels.add(
        other,
        "hook",
        kind="webhook",
        address=f"{outside.url}/hook",
        secret=HOOK,
        allow_private=True,
        severity="info",
        now=now,
    )
    got = taken(outside)
    found(world)
    turn(world, outside)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM alert WHERE tenant_id = %s", [other.pk])
        assert cursor.fetchone() == (0,)
    assert got == []


# --- by command ---------------------------------------------------------------------------------------------------------


def run(world, *said, secret=""):
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(secret.encode())))
        call_command("alert", *said, "--tenant", world.tenant, stdout=out)
    return out.getvalue()


def test_channels_are_kept_by_command_and_no_secret_is_printed(world, outside, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    taken(outside, 200, b"ok")
    run(world, "add", "boss", "--kind", "mail", "--address", "boss@example.org")
    run(world, "add", "chat", "--kind", "slack", "--allow-private", "--quiet", "Europe/Berlin", "22:00", "07:00",
        "--escalate", "30", "boss", "--desk", "finance", secret=f"{outside.url}/services/T0/secret\n")  # fmt: skip
    assert "T0" not in run(world, "list") and "chat\tslack\ton\thigh or worse" in run(world, "list")
    assert "took the test: 200 ok" in run(world, "test", "chat")
    run(world, "off", "chat")
    run(world, "remove", "chat")
    assert "chat" not in run(world, "list")
    for wrong in (
        ["remove", "nobody"],
        ["add", "x", "--kind", "mail", "--address", "x"],
        ["add", "x", "--kind", "slack"],
    ):
        with pytest.raises(CommandError):
            run(world, *wrong)
