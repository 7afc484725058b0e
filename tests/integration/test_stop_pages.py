# ruff: noqa: F811  (fixtures)
"""The pages of a stop: its reach before it is pressed, what became of it, and two people who lift it."""

import pytest

from auditlog.models import Receiver, ResponsePolicy, Stop
from auditlog.sources import sealed
from auditlog.sources.source_secrets import source_secret
from tests.integration.test_api import desk  # noqa: F401  the desk is a fixture
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_siem import find
from tests.integration.test_stops import HOUR, key, of, receiver, send, taken  # noqa: F401  fixtures

pytestmark = pytest.mark.usefixtures("database")


def path(kind, key):
    from urllib.parse import urlencode

    return f"/stops/new/?{urlencode({'kind': kind, 'key': key})}"


def test_whoever_may_stop_finds_the_button_and_nobody_else_does(desk):
    finding = find(desk)
    type(finding).objects.filter(pk=finding.pk).update(grant=desk.root.id, actor=of(desk.lead))
    for role, sees in (("admin", True), ("security", True), ("finance", False), ("auditor", False)):
        client = signed_in(desk, role)
        for page in (
            f"/findings/{finding.pk}/",
            f"/grants/{desk.root.id}/",
            f"/parties/?key={of(desk.lead)}",
            "/timeline/?session=s-1",
        ):
            assert ("/stops/new/" in client.get(page).content.decode()) is sees, (role, page)
        assert client.get(path("grant", desk.root.id)).status_code == (200 if sees else 403)


def test_a_stop_is_pressed_followed_and_lifted_by_two_on_pages(desk, outside):
    receiver(desk, outside)
    taken(outside)
    mia, ben = signed_in(desk, "security"), signed_in(desk, "admin")
    before = text_of(mia.get(path("party", of(desk.lead))))
    assert "never tested" in before and "no known channel" in before
    form = {"kind": "party", "key": of(desk.lead), "reason": ""}
    refused = mia.post("/stops/new/", form)
    assert (
        refused.status_code == 422
        and "Write why" in text_of(refused)
        and not Stop.objects.filter(tenant=desk.row).exists()
    )
    answer = mia.post("/stops/new/", form | {"reason": "it <b>loops</b>"})
    assert answer.status_code == 302 and answer.url == "/stops/S-1/"
    from django.utils import timezone

    assert send(desk, outside, now=timezone.now()) == 2
    page = mia.get("/stops/S-1/")
    assert (
        "Accepted" in text_of(page) and "<b>loops</b>" not in page.content.decode() and "not seen yet" in text_of(page)
    )
    assert "S-1" in text_of(mia.get("/stops/"))

    assert mia.post("/stops/S-1/", {"reason": "checked"}).status_code == 302
    alone = mia.post("/stops/S-1/", {})
    assert alone.status_code == 422 and "another person" in text_of(alone)
    assert ben.post("/stops/S-1/", {}).status_code == 302
    assert "agreed to by" in text_of(ben.get("/stops/S-1/"))


def test_receivers_and_policies_are_kept_on_a_page_by_admins_only(desk, outside):
    admin, other = signed_in(desk, "admin"), signed_in(desk, "security")
    form = {
        "name": "cloud",
        "kind": "webhook",
        "url": f"{outside.url}/hook",
        "secret_env": "CLOUD_SECRET",
        "secret": "whsec_" + "a" * 32,
        "allow_private": "on",
    }
    assert other.post("/receivers/", form).status_code == 403
    assert admin.post("/receivers/", form | {"url": "ftp://x"}).status_code == 422
    assert admin.post("/receivers/", form).status_code == 302
    page = admin.get("/receivers/").content.decode()
    assert "cloud" in page and "whsec_" not in page and "never" in page
    shown = admin.post("/receivers/", {"name": "poller", "kind": "poll"}).content.decode()
    assert "rcv_" in shown and "rcv_" not in admin.get("/receivers/").content.decode()
    assert other.post("/receivers/cloud/", {"do": "test"}).status_code == 302
    assert other.post("/receivers/cloud/", {"do": "paused"}).status_code == 403
    assert admin.post("/receivers/cloud/", {"do": "paused"}).status_code == 302
    assert Receiver.objects.get(tenant=desk.row, name="cloud").state == "paused"
    assert (
        admin.post("/receivers/poller/", {"do": "remove"}).status_code == 302
        and not Receiver.objects.filter(tenant=desk.row, name="poller").exists()
    )

    assert (
        admin.post(
            "/receivers/", {"name": "loops", "rule": "spend.retry_loop", "severity": "high", "subject": "grant"}
        ).status_code
        == 302
    )
    admin.post("/receivers/policies/loops/", {"mode": "live"})
    assert "asks for it to be live" in text_of(admin.get("/receivers/"))
    admin.post("/receivers/policies/loops/", {"mode": "live"})
    assert ResponsePolicy.objects.get(tenant=desk.row, name="loops").mode == "dry_run"  # one person alone
    assert other.post("/receivers/policies/loops/", {"mode": "live"}).status_code == 403


def test_a_page_of_a_stop_that_is_none_says_so(desk):
    client = signed_in(desk, "security")
    for ref in ("S-99", "S-x", "S-99999999999999999999", "nothing"):
        assert client.get(f"/stops/{ref}/").status_code == 404
    assert client.get(path("grant", "no-such-grant")).status_code == 404
    assert client.get("/stops/new/").status_code == 404
    assert client.get("/stops/?before=zzz").status_code == 200


def test_a_receiver_that_is_refused_changes_no_secret(desk, outside):
    admin = signed_in(desk, "admin")
    form = {
        "name": "cloud",
        "kind": "webhook",
        "url": f"{outside.url}/hook",
        "secret_env": "CLOUD_SECRET",
        "secret": "first",
        "allow_private": "on",
    }
    assert admin.post("/receivers/", form).status_code == 302
    assert admin.post("/receivers/", form | {"secret": "second"}).status_code == 422  # there is one of this name
    sealed.forget()
    assert source_secret("CLOUD_SECRET", desk.row) == b"first"
