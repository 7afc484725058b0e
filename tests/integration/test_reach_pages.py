"""The pages over chains: blast radius, its tree, the inventory, what was in force at a time; and who may not."""

import html
import re
from datetime import timedelta
from urllib.parse import quote

import pytest

from tests.integration.test_dashboard_pages import signed_in, source_of
from tests.integration.test_reach import BOTS, ID, MINUTE
from tests.integration.test_reach import desk as story  # noqa: F401  a fixture of ours


@pytest.fixture
def told(story):  # noqa: F811
    return story


def test_the_blast_radius_page_says_what_was_touched_and_leads_to_it(told):
    page = signed_in(told, "security").get("/reach/", {"kind": "key", "key": "K1"}).content.decode()

    assert "b-1" in page and "removable" in page and "11.00 USD" in page
    assert f"/events/{told.ids['bought']}/" in page


def test_a_reach_without_a_start_explains_itself_and_one_of_nothing_is_empty_not_broken(told):
    client = signed_in(told, "auditor")

    assert "issuer|subject" in source_of(client.get("/reach/"))
    nothing = client.get("/reach/", {"kind": "grant", "key": "nowhere"})
    assert nothing.status_code == 200 and "Nothing was done under it" in nothing.content.decode()
    assert client.get("/reach/", {"kind": "grant"}).status_code == 200


def boxes(page):
    """What the picture's boxes are called, in the order in which they are drawn."""
    return [
        html.unescape(label) for label in re.findall(r'<a href="[^"]*" hx-get="[^"]*"[^>]* aria-label="([^"]*)">', page)
    ]


def test_a_grant_with_many_children_shows_a_bundle_and_the_rest_in_the_order_of_time(told):
    kids = [f"kid-{n:03}" for n in range(60)]
    told.send_together([
        told.grant(told.lead, told.idle, parent=told.root, id=kid, at=told.at + timedelta(seconds=60 - n)) for n, kid in enumerate(kids)
    ])  # fmt: skip
    told.settle()
    client, seen = signed_in(told, "security"), []

    page = source_of(client.get("/reach/", {"kind": "grant", "key": told.root.id}))
    assert "50 later" in boxes(page)[-1] and "earlier" not in "".join(boxes(page))
    while True:
        labels = boxes(page)
        seen += [label.rpartition("grant ")[2] for label in labels if ": stand at grant " in label]
        if " later" not in labels[-1]:
            break
        part = html.unescape(re.findall(r'hx-get="([^"]*)"', page)[-1])
        page = source_of(client.get(part))

    assert len(seen) == len(set(seen)) == 62
    assert [grant for grant in seen if grant.startswith("kid")] == kids[::-1]
    assert "60 earlier: back to the first" in boxes(page)[0]


def test_who_stands_at_one_of_many_sees_the_way_there_and_how_many_are_beside_it(told):
    told.send_together(
        [told.grant(told.lead, told.idle, parent=told.root, id=f"kid-{n:03}", at=told.at) for n in range(40)]
    )
    told.settle()

    page = signed_in(told, "security").get("/reach/explorer/", {"grant": "kid-007"}).content.decode()

    assert "and 41 beside it" in page and "not passed on, as far as any source told" in page
    assert any(told.root.id in label for label in boxes(page))


def test_what_is_broken_below_a_grant_is_said_in_words_and_by_a_cross(told):
    wider = told.grant(told.busy, told.idle, actions=["**"], parent=told.one, id="wider", at=told.at)
    other = told.grant(told.idle, told.busy, parent=told.root, id="by-somebody-else", at=told.at)
    told.send_together([wider, other])
    told.settle()

    root, one = (
        signed_in(told, "auditor").get("/reach/explorer/", {"grant": grant.id}).content.decode()
        for grant in (told.root, told.one)
    )

    drawn = dict(re.findall(r'stand at grant ([\w-]+)">(.*?)(?=<a |</svg>)', root + one))
    assert "c-cross" in drawn["by-somebody-else"] and "is given by" in drawn["by-somebody-else"]
    assert "c-cross" in drawn["wider"] and "above it" in drawn["wider"]
    assert "c-cross" not in drawn[told.two.id]


def test_a_place_in_the_tree_that_is_none_and_a_grant_nobody_spoke_of_get_an_answer(told):
    client = signed_in(told, "auditor")

    assert client.get("/reach/explorer/", {"grant": told.root.id, "after": "yesterday x"}).status_code == 409
    assert client.get("/reach/explorer/", {"grant": "nowhere"}).status_code == 404


def test_the_permissions_page_shows_what_is_never_used_and_every_use_leads_to_its_events(told):
    told.send(
        told.event("action.performed", grant=told.two, action={"verb": "queue.push", "provider": "cloud"}, at=told.at)
    )
    told.settle()
    client = signed_in(told, "security")

    def table(**query):
        body = source_of(client.get("/permissions/", query)).partition("<tbody>")[2]
        rows = re.findall(r"<tr>(.*?)</tr>", body)
        return {re.search(r'data-label="Action">.*?<bdi[^>]*>(.*?)</bdi>', row).group(1): row for row in rows}

    everything, unused, outside = (
        table(principal=f"{ID}|ada"),
        table(agent=f"{BOTS}|idle", show="unused"),
        table(show="outside"),
    )
    assert {"**", "domain.*", "bucket.*", "mail.send"} <= set(everything)
    assert set(unused) == {"mail.send"} and "<b>never</b>" in unused["mail.send"]
    assert set(outside) == {"queue.push", "resource.provision"} and "not allowed" in outside["queue.push"]
    page = source_of(client.get("/permissions/", {"principal": f"{ID}|ada"}))
    counted, links = 0, re.findall(r'<a href="(/events/[^"]*)">(\d+) ×', page)
    for link, count in links:
        events = source_of(client.get(html.unescape(link)))
        assert events.count("data-label=Event") + events.count('data-label="Event"') == int(count)
        counted += int(count)
    assert counted == 3


def test_pages_of_permissions_hold_every_grant_once(told):
    told.send_together(
        [
            told.grant(told.lead, told.idle, parent=told.root, actions=["a.b"], id=f"kid-{n:03}", at=told.at)
            for n in range(70)
        ]
    )
    told.settle()
    client, seen, query = signed_in(told, "auditor"), [], "?agent=" + quote(f"{BOTS}|idle")
    while query:
        page = source_of(client.get(f"/permissions/{query}"))
        seen += re.findall(r'data-label="Grant">.*?>(kid-\d+)<', page)
        query = html.unescape((re.findall(r'href="(\?[^"]*after=[^"]*)"', page) or [""])[0])

    assert sorted(seen) == [f"kid-{n:03}" for n in range(70)]


def test_two_grants_are_shown_beside_each_other_and_what_differs_is_said(told):
    client = signed_in(told, "finance")

    page = source_of(client.get("/compare/", {"one": told.one.id, "other": told.two.id}))
    nowhere = source_of(client.get("/compare/", {"one": told.one.id, "other": "<b>no"}))

    assert "The first 1 hop is the same" in page
    scope = re.search(r'<th scope="row">Scope</th>(.*?)</tr>', page.rpartition("Hop 2")[2]).group(1)
    assert "domain.*, bucket.* on **" in scope and "mail.send" in scope and "<strong>differs</strong>" in scope
    assert "no source ever spoke of grant &lt;b&gt;no" in nowhere
    assert client.get("/compare/", {"one": told.one.id}).status_code == 200


def test_an_abuse_desk_sees_neither_permissions_nor_comparisons(told):
    client = signed_in(told, "abuse", "registrar")

    assert client.get("/permissions/").status_code == client.get("/compare/").status_code == 403
    assert "/permissions/" not in source_of(client.get("/"))


def test_the_inventory_page_filters_and_says_what_is_gone(told):
    told.send(told.removed)
    told.settle()
    client = signed_in(told, "finance")

    whole = source_of(client.get("/inventory/"))
    there = source_of(client.get("/inventory/", {"live": "yes"}))

    assert "b-1" in whole and "ended" in whole and "wonder.club" in whole
    assert "b-1" not in there and "wonder.club" in there
    assert "that fits" in source_of(client.get("/inventory/", {"provider": "nobody"}))


def test_pages_of_the_inventory_hold_everything_once_also_what_was_made_at_one_instant(told):
    told.send_together([
        told.event("resource.provisioned", grant=told.one, at=told.at, action={"provider": "cloud", "target": {"type": "bucket", "id": f"twin-{n:03}"}})
        for n in range(120)
    ])  # fmt: skip
    told.settle()
    client, query, seen = signed_in(told, "finance"), "?kind=resource", []
    while query:
        page = source_of(client.get(f"/inventory/{query}"))
        seen += re.findall(r"<bdi>(twin-\d+)</bdi>", page)
        older = re.search(r'<a href="(\?[^"]*)">Older', page)
        query = older and html.unescape(older[1])

    assert sorted(seen) == [f"twin-{n:03}" for n in range(120)]


def test_an_act_outside_its_authority_is_a_cross_in_the_picture_with_the_reason_below_it(told):
    wider = told.grant(told.busy, told.idle, actions=["**"], parent=told.one, id="wider", at=told.at)
    act = told.event(
        "action.performed",
        grant=wider,
        actor=told.idle,
        at=told.at + MINUTE,
        action={"verb": "mail.send", "provider": "cloud", "resource": "m"},
    )
    *_, done = told.send(wider, act)
    told.settle()
    client = signed_in(told, "security")

    def picture(url, **asked):
        return re.search(r"<svg.*?</svg>", source_of(client.get(url, asked)), re.S)[0]

    sound, broken = picture(f"/events/{told.ids['bought']}/"), picture(f"/events/{done.event_id}/")
    later = picture(f"/events/{told.ids['bought']}/", at=(told.at + timedelta(days=20)).strftime("%Y-%m-%d"))
    assert "c-cross" not in sound and "c-break" not in sound
    assert broken.count("c-cross") == 2  # one hop gave more than it had, and what it had was exceeded
    assert "above it has" in " ".join(re.findall(r"<text[^>]*>(.*?)</text>", broken))
    assert "c-cross" in later and "expired at" in later
    assert "c-cross" in picture("/grants/wider/") and "c-cross" not in picture(f"/grants/{told.two.id}/")


def test_before_a_grant_was_told_of_it_is_not_called_in_force(told):
    said = {
        "id": "no-beginning",
        "root": True,
        "subject": told.ada.full,
        "actor": told.lead.full,
        "authorization_details": [{"type": "agent_action"}],
    }
    late = told.event("delegation.granted", grant=said, told_at=told.at)
    *_, done = told.send(
        late, told.event("action.performed", grant="no-beginning", actor=told.lead, at=told.at + MINUTE)
    )
    told.settle()
    url, before = f"/events/{done.event_id}/", (told.at - timedelta(days=3)).strftime("%Y-%m-%d %H:%M")

    page = source_of(signed_in(told, "security").get(url, {"at": before}))
    found = told.api.get(f"events/{done.event_id}/chain", {"at": before}).json()["effective"]

    assert found["in_force"] is None and found["told_later"]["grant"] == "no-beginning"
    assert "<b>in force</b>" not in page and "was told of" in page
    assert told.api.get(f"events/{done.event_id}/chain").json()["effective"]["in_force"] is True


def test_what_was_in_force_can_be_asked_for_another_time(told):
    told.send(told.revoke(told.root, at=told.at + 5 * MINUTE))
    told.settle()
    client, url = signed_in(told, "security"), f"/events/{told.ids['bought']}/"

    before = source_of(client.get(url))
    after = source_of(client.get(url, {"at": (told.at + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M")}))

    assert "In force when it was done" in before and "not in force" not in before
    assert "not in force" in after and "was revoked at" in after
    assert "2026-05-01" in source_of(client.get(url, {"at": "noon"}))  # says what it wants


def test_hostile_names_are_shown_and_not_run(told):
    evil = told.grant(
        told.lead, told.agent("<script>alert(1)</script>", issuer=BOTS), parent=told.root, id="<img src=x>", at=told.at
    )
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
    assert client.get("/reach/explorer/", {"grant": told.root.id}).status_code == 403
    page = source_of(client.get("/inventory/"))
    assert "wonder.club" in page and "b-1" not in page


def test_attribution_is_shown_by_source(told):
    page = signed_in(told, "auditor").get("/", {"days": "all"}).content.decode()

    assert "Who answers: acts by source" in page and "conductor" in page
