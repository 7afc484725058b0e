"""A finding of very many events: it names the first, says how many there are, and gives the rest page by page."""

from datetime import timedelta

import pytest

from auditlog.detection.findings import gather, keep
from auditlog.models import Finding
from auditlog.reads import read_findings
from tests.integration.test_api import Api

MINUTE = timedelta(minutes=1)


@pytest.fixture
def revoked(world, monkeypatch):
    """Thirty calls under a grant that had been revoked: one in ten at another provider. A finding names ten here."""
    for room in (keep, gather, read_findings):
        monkeypatch.setattr(room, "SHOWN", 10)
    at = world.now - timedelta(days=1)
    ada, lead = world.human("ada", issuer="https://id.example"), world.agent("lead", issuer="https://bots.example")
    root = world.grant(ada, lead, actions=["**"], resources=["**"], at=at)
    calls = [
        world.metered(
            "embed",
            {"n": n},
            amount_minor=2,
            provider="cloud" if n % 10 else "mail",
            grant=root,
            at=at + (n + 2) * MINUTE,
        )
        for n in range(30)
    ]
    world.send(root, world.revoke(root, at=at + MINUTE), *calls)
    world.settle()
    world.finding = Finding.objects.get(tenant=world.row, rule="authority.used_after_revocation")
    return world


def test_it_names_the_first_and_says_how_many_there_are(revoked):
    told = Api(revoked.row, "security").get(f"findings/{revoked.finding.pk}").json()

    assert (len(told["event_ids"]), len(told["leaves"]), told["events_total"], told["others"]) == (10, 10, 30, 0)
    assert told["money_at_risk"] == {"amount_minor": 60, "currency": "USD"}


def test_its_events_are_read_page_by_page_in_their_order(revoked):
    api = Api(revoked.row, "security")
    pages, query = [], {"limit": 7}
    while True:
        page = api.get(f"findings/{revoked.finding.pk}/events", query).json()
        pages += page["results"]
        if page["next"] is None:
            break
        query["after"] = page["next"].partition("after=")[2].partition("&")[0]

    times = [event["occurred_at"] for event in pages]
    assert len({event["id"] for event in pages}) == len(pages) == 30 and times == sorted(times)


def test_an_abuse_desk_gets_its_own_events_only_and_is_told_of_how_many_others(revoked):
    Finding.objects.filter(pk=revoked.finding.pk).update(provider="mail")
    desk = Api(revoked.row, "abuse", "mail")

    told = desk.get(f"findings/{revoked.finding.pk}").json()
    events = desk.get(f"findings/{revoked.finding.pk}/events").json()["results"]

    assert (told["events_total"], told["others"], told["money_at_risk"]) == (3, 27, None)
    assert [event["provider"] for event in events] == ["mail"] * 3


def test_what_is_asked_for_wrongly_is_told_so(revoked):
    api = Api(revoked.row, "security")

    assert api.get(f"findings/{revoked.finding.pk}/events", {"after": "x"}).status_code == 400
    assert api.get("findings/999999999/events").status_code == 404
    assert Api(revoked.row, "abuse", "cloud").get(f"findings/{revoked.finding.pk}/events").status_code == 404
