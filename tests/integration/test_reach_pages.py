"""The pages over chains: blast radius, its tree, the inventory, what was in force at a time; and who may not."""

import html
import re
from datetime import timedelta

import pytest

from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_reach import BOTS, MINUTE
from tests.integration.test_reach import desk as story  # noqa: F401  a fixture of ours


@pytest.fixture
def told(story):  # noqa: F811
    return story


def test_the_blast_radius_page_says_what_was_touched_and_leads_to_it(told):
    page = signed_in(told, "security").get("/reach/", {"kind": "key", "key": "K1"}).content.decode()

    assert "b-1" in page and "removable" in page and "11.00 USD" in page
    assert f'/events/{told.ids["bought"]}/' in page


def test_a_reach_without_a_start_explains_itself_and_one_of_nothing_is_empty_not_broken(told):
    client = signed_in(told, "auditor")

    assert "issuer|subject" in client.get("/reach/").content.decode()
    nothing = client.get("/reach/", {"kind": "grant", "key": "nowhere"})
    assert nothing.status_code == 200 and "Nothing was done under it" in nothing.content.decode()
    assert client.get("/reach/", {"kind": "grant"}).status_code == 200


def test_a_grant_with_many_children_shows_a_bundle_and_the_rest_when_asked(told):
    told.send_together([told.grant(told.lead, told.idle, parent=told.root, id=f"kid-{n:03}", at=told.at) for n in range(60)])
    told.settle()
    client = signed_in(told, "security")

    first = client.get("/reach/", {"kind": "grant", "key": told.root.id}).content.decode()
    shown, after = [], ""
    while True:
        part = client.get("/reach/children/", {"grant": told.root.id, "after": after}).content.decode()
        shown += [line for line in part.split("<li>") if "details" in line]
        if "Show more under" not in part:
            break
        after = part.rpartition("after=")[2].partition('"')[0]

    assert first.count("<details class=\"branch\"") == 25 and "Show more under" in first
    assert len(shown) == 62


def test_the_inventory_page_filters_and_says_what_is_gone(told):
    told.send(told.removed)
    told.settle()
    client = signed_in(told, "finance")

    whole = client.get("/inventory/").content.decode()
    there = client.get("/inventory/", {"live": "yes"}).content.decode()

    assert "b-1" in whole and "ended" in whole and "wonder.club" in whole
    assert "b-1" not in there and "wonder.club" in there
    assert "that fits" in client.get("/inventory/", {"provider": "nobody"}).content.decode()


def test_pages_of_the_inventory_hold_everything_once_also_what_was_made_at_one_instant(told):
    told.send_together([
        told.event("resource.provisioned", grant=told.one, at=told.at, action={"provider": "cloud", "target": {"type": "bucket", "id": f"twin-{n:03}"}})
        for n in range(120)
    ])  # fmt: skip
    told.settle()
    client, query, seen = signed_in(told, "finance"), "?kind=resource", []
    while query:
        page = client.get(f"/inventory/{query}").content.decode()
        seen += re.findall(r"<bdi>(twin-\d+)</bdi>", page)
        older = re.search(r'<a href="(\?[^"]*)">Older', page)
        query = older and html.unescape(older[1])

    assert sorted(seen) == [f"twin-{n:03}" for n in range(120)]


def test_what_was_in_force_can_be_asked_for_another_time(told):
    told.send(told.revoke(told.root, at=told.at + 5 * MINUTE))
    told.settle()
    client, url = signed_in(told, "security"), f"/events/{told.ids['bought']}/"

    before = client.get(url).content.decode()
    after = client.get(url, {"at": (told.at + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M")}).content.decode()

    assert "In force when it was done" in before and "not in force" not in before
    assert "not in force" in after and "was revoked at" in after
    assert "2026-05-01" in client.get(url, {"at": "noon"}).content.decode()  # says what it wants


def test_hostile_names_are_shown_and_not_run(told):
    evil = told.grant(told.lead, told.agent("<script>alert(1)</script>", issuer=BOTS), parent=told.root, id="<img src=x>", at=told.at)
    bucket = {"provider": "cloud", "target": {"type": "bucket", "id": "<b>bold</b>"}}
    told.send(evil, told.event("resource.provisioned", grant=evil, at=told.at, action=bucket))
    told.settle()
    client = signed_in(told, "security")

    pages = [client.get("/reach/", {"kind": "grant", "key": told.root.id}), client.get("/inventory/"),
             client.get("/reach/", {"kind": "grant", "key": "<img src=x>"})]  # fmt: skip

    for page in pages:
        text = page.content.decode()
        assert "<script>alert" not in text and "<img src=x" not in text and "<b>bold" not in text


def test_an_abuse_desk_may_see_no_reach_and_only_its_own_providers_inventory(told):
    client = signed_in(told, "abuse", "registrar")

    assert client.get("/reach/", {"kind": "grant", "key": told.root.id}).status_code == 403
    assert client.get("/reach/children/", {"grant": told.root.id}).status_code == 403
    page = client.get("/inventory/").content.decode()
    assert "wonder.club" in page and "b-1" not in page


def test_attribution_is_shown_by_source(told):
    page = signed_in(told, "auditor").get("/", {"days": "all"}).content.decode()

    assert "Who answers: acts by source" in page and "conductor" in page
