"""The page of alerts: an admin sets who is told, tests it and sees what became of it; nobody else sees any of it."""

import json

import pytest
from django.test import Client
from django.utils import timezone

from auditlog.alerts import channels
from auditlog.models import Alert, AlertChannel, SealedSecret
from auditlog.sources import configuration
from auditlog.sources.source_secrets import source_secret
from tests.integration.test_alerts import HOOK, bodies, channel, found, key, turn  # noqa: F401  a fixture
from tests.integration.test_dashboard_pages import signed_in, source_of, text_of
from tests.integration.test_stops import taken

pytestmark = pytest.mark.usefixtures("database")


def form(outside, **more):
    return {
        "name": "oncall", "kind": "webhook", "address": f"{outside.url}/hook", "secret": HOOK, "severity": "high", "desks": ["security"],
        "least_minor": "5000", "currency": "EUR", "with_texts": "on", "quiet_zone": "Europe/Berlin", "quiet_from": "22:00", "quiet_to": "07:00",
        "quiet_days": ["0", "4"], "critical_passes": "on", "allow_private": "on", **more,
    }  # fmt: skip


@pytest.mark.parametrize("role", ["security", "finance", "auditor", "abuse"])
def test_nobody_but_an_admin_sees_or_sets_who_is_told(world, outside, role):
    channel(world, outside, name="oncall")
    client = signed_in(world, role, "cloud" if role == "abuse" else "")

    for path, data in (
        ("/alerts/", form(outside, name="mine")),
        ("/alerts/", {"resend": "1"}),
        ("/alerts/oncall/", {"do": "test"}),
        ("/alerts/oncall/", {"do": "remove"}),
    ):
        assert client.get(path).status_code == client.post(path, data).status_code == 403
        assert Client().get(path).status_code == 302
    assert "/alerts/" not in client.get("/").content.decode()
    assert list(AlertChannel.objects.filter(tenant=world.row).values_list("name", flat=True)) == ["oncall"]


def test_an_admin_adds_changes_switches_and_takes_off_a_channel_and_its_secret_is_never_shown(world, outside):
    client = signed_in(world, "admin")
    assert 'href="/alerts/"' in client.get("/").content.decode()
    assert client.post("/alerts/", form(outside)).status_code == 302
    row = AlertChannel.objects.get(tenant=world.row)
    assert (row.desks, row.least_minor, row.quiet_days, row.with_texts) == (["security"], 5_000, [0, 4], True)
    assert row.secret_env == "ALERT_ONCALL" and source_secret("ALERT_ONCALL", world.row).decode() == HOOK
    said = configuration.stated(world.row)["alert channel", row.pk]
    assert "admin" in said.by and HOOK not in json.dumps(said.row)

    page = client.get("/alerts/")
    told = text_of(page)
    assert "22:00–07:00 Europe/Berlin, Mon, Fri" in told and "50.00 EUR" in told and HOOK not in page.content.decode()
    changing = source_of(client.get("/alerts/oncall/"))
    assert 'value="22:00"' in changing and HOOK not in changing and 'name="kind"' not in changing

    again = client.post("/alerts/oncall/", form(outside, secret="", severity="critical", desks=[]))
    row.refresh_from_db()
    assert again.status_code == 302 and (row.severity, row.desks, row.kind) == ("critical", [], "webhook")
    assert source_secret("ALERT_ONCALL", world.row).decode() == HOOK
    for state in ("off", "on"):
        assert client.post("/alerts/oncall/", {"do": state}).status_code == 302
        row.refresh_from_db()
        assert row.state == state
    assert client.post("/alerts/oncall/", {"do": "explode"}).status_code == 422
    assert client.post("/alerts/oncall/", {"do": "remove"}).status_code == 302
    assert (
        not AlertChannel.objects.filter(tenant=world.row).exists()
        and not SealedSecret.objects.filter(tenant=world.row).exists()
    )
    assert client.get("/alerts/oncall/").status_code == 404


def test_what_is_wrong_with_a_channel_is_said_beside_the_form_and_nothing_is_kept(world, outside):
    client = signed_in(world, "admin")
    for wrong, why in (({"quiet_zone": "Mars"}, "no time zone"), ({"secret": "x"}, "whsec_"), ({"address": "ftp://x"}, "https"), ({"quiet_from": "25:99"}, "valid time"),
                       ({"escalate_minutes": "5"}, "both or none"), ({"least_minor": "x"}, "whole number"), ({"name": "Not ok"}, "name")):  # fmt: skip
        answer = client.post("/alerts/", form(outside, **wrong))
        assert answer.status_code == 422 and why in text_of(answer), wrong
    assert (
        not AlertChannel.objects.filter(tenant=world.row).exists()
        and not SealedSecret.objects.filter(tenant=world.row).exists()
    )
    for query in ("?before=zzz", "?state=nothing", "?channel=nobody&state=dead"):
        assert client.get(f"/alerts/{query}").status_code == 200


def test_a_test_is_marked_and_its_answer_shown(world, outside, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    client = signed_in(world, "admin")
    client.post("/alerts/", form(outside))
    got = taken(outside, 200, b"<b>thanks</b>")
    page = client.post("/alerts/oncall/", {"do": "test"}, follow=True)
    assert bodies(got)[0]["type"] == "test" and "oncall took the test: 200 <b>thanks</b>" in text_of(page).replace(
        "&lt;", "<"
    )
    assert "<b>thanks</b>" not in page.content.decode()

    taken(outside, 503, b"later")
    page = client.post("/alerts/oncall/", {"do": "test"}, follow=True)
    assert "did not take the test" in text_of(page) and "503" in text_of(page)
    assert list(Alert.objects.filter(tenant=world.row).order_by("id").values_list("kind", "state")) == [
        ("test", "sent"),
        ("test", "dead"),
    ]


def test_each_number_leads_to_the_alerts_that_it_counts_and_what_was_given_up_is_sent_again(world, outside):
    channel(world, outside, name="oncall")
    taken(outside, 400, b'{"message": "no"}')
    found(world)
    turn(world, outside)
    client = signed_in(world, "admin")
    page = source_of(client.get("/alerts/"))
    assert 'href="?channel=oncall&amp;state=dead#sent">1 dead</a>' in page and 'href="/incidents/INC-000001/"' in page

    listed = text_of(client.get("/alerts/?channel=oncall&state=dead"))
    assert "New incident" in listed and "answered 400, expected 2xx: no" in listed and "Send again" in listed
    assert "New incident" not in text_of(client.get("/alerts/?channel=oncall&state=sent"))
    alert = Alert.objects.get(tenant=world.row)
    assert client.post("/alerts/", {"resend": alert.pk}).status_code == 302
    taken(outside)
    assert turn(world, outside, at=timezone.now()) == 1
    assert "Send again" not in text_of(client.get("/alerts/"))
    assert client.post("/alerts/", {"resend": "999999999"}).status_code == 404


def test_an_admin_of_one_tenant_reaches_no_channel_and_no_alert_of_another(world, outside, now):
    from auditlog.sources.configure import add_tenant

    other = add_tenant(f"other-{world.tenant}", now=now)
    theirs = channels.add(other, "theirs", kind="mail", address="secret@theirs.example", now=now)
    alert = Alert.objects.create(
        tenant=other, channel=theirs, kind="news", state="dead", news=["theirs alone"], created_at=now
    )
    client = signed_in(world, "admin")

    assert "theirs" not in client.get("/alerts/").content.decode()
    assert client.get("/alerts/theirs/").status_code == client.post("/alerts/theirs/", {"do": "off"}).status_code == 404
    assert client.post("/alerts/", {"resend": alert.pk}).status_code == 404
    chosen = client.post("/alerts/", form(outside, escalate_minutes="5", escalate_to="theirs"))
    assert chosen.status_code == 422 and not AlertChannel.objects.filter(tenant=world.row).exists()


def test_the_secrets_page_says_which_channel_uses_a_secret(world, outside):
    channel(world, outside, name="oncall")
    assert "alert channel oncall" in text_of(signed_in(world, "admin").get("/secrets/"))
