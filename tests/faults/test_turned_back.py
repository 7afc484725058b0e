"""A wake-up that comes while another process walks the road turns back, and what it came for waits for no beat."""

import threading

from django.db import connections

from auditlog.models import Event
from auditlog.work import drive

# A fixture: pytest finds it by this import.
from tests.integration.test_worker import live  # noqa: F401


def test_what_comes_between_the_last_look_and_the_letting_go_is_seen(live, monkeypatch):  # noqa: F811
    """The second process finds the lock taken, after our last look: it returns, and we look once more."""
    live.source("conductor", "https://conductor.example")
    live.configure("conductor")
    live.send(live.event("action.performed"))
    look, turned = drive.gather_findings, []

    def late(tenant, *, now):
        found = look(tenant, now=now)
        if not found and not turned and Event.objects.filter(tenant=tenant).exists():
            turned.append(True)
            other = threading.Thread(target=another)
            other.start()
            other.join()
        return found

    def another():
        live.send(live.event("action.performed"))
        drive.drive_tenant(live.tenant, now=lambda: live.now)
        connections.close_all()

    monkeypatch.setattr(drive, "gather_findings", late)
    drive.drive_tenant(live.tenant, now=lambda: live.now)

    assert turned and Event.objects.filter(tenant=live.row, type="action.performed").count() == 2


def test_a_road_that_cannot_be_walked_just_now_is_not_tried_for_ever(live, monkeypatch):  # noqa: F811
    live.source("conductor", "https://conductor.example")
    live.configure("conductor")
    live.send(live.event("action.performed"))
    tried = []
    monkeypatch.setattr(drive, "project", lambda tenant, *, now: tried.append(1) or 0)

    assert drive.drive_tenant(live.tenant, now=lambda: live.now) is False
    assert len(tried) == drive.AGAIN
