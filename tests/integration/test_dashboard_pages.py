"""The pages over a small world: who sees what, who may not, and where every number leads."""

import html
import re
from datetime import timedelta
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from auditlog.models import Event, Finding, Grant, Membership
from tests.world import TenantWorld

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def now():
    return timezone.now() - timedelta(minutes=10)  # the overview shows the last days


@pytest.fixture
def desk(world: TenantWorld):
    """A human, her agent, one registration, one charge at another provider, and a finding made by hand."""
    world.source("conductor", "https://conductor.example")
    ada = world.human("ada", issuer="https://id.acme.example")
    shopper = world.agent("shopper", issuer="https://conductor.example")
    grant = world.grant(ada, shopper, actions=["domain.register", "payment.*"], resources=["acme.io"])
    bought = world.registers("acme-corp.io", grant=grant, price_minor=900)
    other = world.event(
        "action.performed",
        grant=grant,
        action={"verb": "worker.deploy", "provider": "elsewhere", "target": {"type": "worker", "id": "w-1"}},
    )
    claimed = world.event(
        "action.performed", principal=ada, actor=shopper, action={"verb": "x", "provider": "elsewhere"}
    )
    world.send(grant, bought, other, claimed)
    world.project()
    world.ada, world.grant_id = "|".join(ada.key), grant.id
    events = Event.objects.filter(tenant=world.row)
    world.bought = events.get(type="domain.registered")
    world.other = events.filter(provider="elsewhere").order_by("leaf_index").first()
    world.finding = Finding.objects.create(
        tenant=world.row, rule="intent.domain_mismatch", rule_version=1, anchor="a", partition="[]", severity="high",
        title="acme-corp.io was registered, where acme.io was asked for", principal=world.ada, provider=world.bought.provider,
        event_ids=[world.bought.event_id], leaves=[world.bought.leaf_index], first_at=world.now, last_at=world.now,
        detected_at=world.now, evidence={"asked": "acme.io"},
    )  # fmt: skip
    return world


def signed_in(world, role: str, provider: str = "", **more) -> Client:
    user = User.objects.create_user(f"{role}-{world.tenant}-{User.objects.count()}", password="x" * 12, **more)
    if role:
        Membership.objects.create(tenant=world.row, user=user, role=role, provider=provider)
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    """What the page says, as a browser shows it: without tags, each run of spaces and line breaks one space."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def source_of(response) -> str:
    """The page's HTML with each run of spaces and line breaks as one space: how a template is laid out is no fact."""
    return " ".join(response.content.decode().split())


def every_page(world) -> list[str]:
    return [
        "/", "/?days=7", "/incidents/", "/incidents.csv", "/findings/", f"/findings/{world.finding.pk}/", "/events/", f"/events/{world.bought.event_id}/",
        "/spend/", "/parties/", "/parties/?" + urlencode({"key": world.ada}), f"/grants/{quote(world.grant_id)}/",
        "/cases/", "/reach/", "/inventory/", "/search/?q=nothing-of-the-kind",
    ]  # fmt: skip


def test_anonymous_is_sent_to_login_and_back(desk):
    for path in [*every_page(desk), "/cases/D-2026-000001/"]:
        response = Client().get(path)
        assert response.status_code == 302, path
        assert response["Location"].startswith("/login/?next="), path


@pytest.mark.parametrize("role", ["admin", "security", "finance", "auditor"])
def test_every_page_opens_for_every_reading_role(desk, role):
    client = signed_in(desk, role)

    for path in every_page(desk):
        response = client.get(path)
        assert response.status_code == 200, path
        assert "default-src 'none'" in response["Content-Security-Policy"]
        assert not re.search(r"<[^>]+\s(style|on\w+)=", response.content.decode()), f"inline style or handler in {path}"


def test_somebody_without_a_tenant_is_told_so(desk):
    response = signed_in(desk, "").get("/")

    assert response.status_code == 403
    assert "belongs to no tenant" in text_of(response)


def test_another_tenants_things_are_not_there(desk, now):
    from auditlog.sources.configure import add_tenant

    other = TenantWorld(add_tenant(desk.tenant + "-b", now=now), now=now)
    client = signed_in(other, "admin")

    assert client.get(f"/events/{desk.bought.event_id}/").status_code == 404
    assert client.get(f"/findings/{desk.finding.pk}/").status_code == 404
    assert client.get(f"/grants/{quote(desk.grant_id)}/").status_code == 404
    assert client.get("/parties/", {"key": desk.ada}).status_code == 404
    assert "acme-corp.io" not in text_of(client.get("/events/"))


def test_an_abuse_desk_sees_its_own_providers_events_only(desk):
    client = signed_in(desk, "abuse", desk.bought.provider)

    own = client.get(f"/events/{desk.bought.event_id}/")

    assert own.status_code == 200
    assert client.get(f"/events/{desk.other.event_id}/").status_code == 404
    assert "elsewhere" not in text_of(client.get("/events/"))
    assert "elsewhere" not in text_of(client.get("/"))
    assert client.get(f"/grants/{quote(desk.grant_id)}/").status_code == 403
    searched = client.get("/search/", {"q": "elsewhere"})
    assert searched.status_code == 200 and "Nothing in your reach is called" in text_of(searched)
    whole = signed_in(desk, "security").get("/search/", {"q": "elsewhere"})
    assert whole.status_code == 302 and "elsewhere" in whole["Location"]  # there is something to find, for who may
    assert desk.grant_id not in re.sub(r"(?s)<pre.*?</pre>", "", own.content.decode())
    assert client.get("/findings/").status_code == 200


@pytest.mark.parametrize("role", ["admin", "security", "finance", "auditor", "abuse"])
def test_every_place_that_the_navigation_names_can_be_entered(desk, role):
    client = signed_in(desk, role, desk.bought.provider if role == "abuse" else "")
    nav = re.search(r"<nav.*?</nav>", client.get("/").content.decode(), re.DOTALL)[0]
    places = re.findall(r'href="([^"]+)"', nav)

    assert {place: client.get(place).status_code for place in places} == dict.fromkeys(places, 200) and len(places) > 5
    assert nav[: nav.index("<details")].count("<a ") == 6  # what the desk opens all day; the rest stands under one menu


def test_the_menu_says_which_of_its_places_one_is_at(desk):
    client = signed_in(desk, "finance")
    assert "More: Parties" in text_of(client.get("/parties/"))
    assert "More:" not in text_of(client.get("/bills/"))


def test_parties_that_an_abuse_desks_own_events_do_not_name_are_stubs(desk):
    boss = desk.human("boss", issuer="https://id.acme.example")
    lead = desk.agent("lead", issuer="https://conductor.example")
    helper = desk.agent("helper", issuer="https://conductor.example")
    first = desk.grant(boss, lead)
    second = desk.grant(lead, helper, parent=first)
    action = {"verb": "dns.set", "provider": "dnsco", "target": {"type": "zone", "id": "z"}}
    desk.send(
        first, second, desk.event("action.performed", principal=None, actor=helper, grant=second.id, action=action)
    )
    desk.project()
    client = signed_in(desk, "abuse", "dnsco")
    event = Event.objects.get(tenant=desk.row, provider="dnsco")

    page, listed = client.get(f"/events/{event.event_id}/"), client.get("/events/")

    for shown in (page, listed):
        assert "hidden-" in text_of(shown)
        assert "boss" not in shown.content.decode()
    assert "conductor.example|lead" not in page.content.decode()
    assert client.get("/parties/", {"key": "|".join(boss.key)}).status_code == 404
    assert client.get("/parties/", {"key": "|".join(helper.key)}).status_code == 200
    assert "boss" not in text_of(client.get("/parties/"))
    assert client.get("/search/", {"q": "boss"}).status_code == 200


def test_an_abuse_desk_gets_no_finding_of_another_provider(desk):
    client = signed_in(desk, "abuse", "elsewhere")

    assert client.get(f"/findings/{desk.finding.pk}/").status_code == 404
    assert "acme-corp.io" not in text_of(client.get("/findings/?state=any"))
    assert client.post(f"/findings/{desk.finding.pk}/", {"state": "resolved", "reason": "x"}).status_code == 404


def test_an_auditor_reads_but_does_not_triage(desk):
    client = signed_in(desk, "auditor")

    page = client.get(f"/findings/{desk.finding.pk}/")
    answer = client.post(f"/findings/{desk.finding.pk}/", {"state": "resolved", "reason": "looked at it"})

    assert "may read findings, not triage" in text_of(page)
    assert answer.status_code == 403
    desk.finding.refresh_from_db()
    assert desk.finding.state == "open"


def test_triage_keeps_who_and_why(desk):
    client = signed_in(desk, "security")

    without = client.post(f"/findings/{desk.finding.pk}/", {"state": "acknowledged", "reason": ""})
    answer = client.post(f"/findings/{desk.finding.pk}/", {"state": "acknowledged", "reason": "asked Ada"}, follow=True)

    assert without.status_code == 422
    assert "the reason is kept with the decision" in text_of(without)
    assert "asked Ada" in text_of(answer)
    assert desk.finding.triage.get().to_state == "acknowledged"
    assert "No finding fits" in text_of(client.get("/findings/"))
    assert "acme-corp.io" in text_of(client.get("/findings/?state=acknowledged"))


def test_the_event_page_shows_bytes_chain_and_leaf(desk):
    client = signed_in(desk, "auditor")
    page = text_of(client.get(f"/events/{desk.bought.event_id}/"))

    assert "the bytes fit the leaf" in page
    assert "the signature holds" in page
    assert "complete, every hop signed" in page
    assert '"events"' in page  # decoded for reading
    assert desk.grant_id in page


@pytest.mark.parametrize("field", ["type", "target", "grant", "principal", "actor", "provider", "charge", "source"])
def test_the_events_list_is_filtered_by_what_was_asked(desk, field):
    value = getattr(desk.bought, field)
    page = signed_in(desk, "auditor").get("/events/", {field: value})

    assert page.status_code == 200
    assert str(desk.bought.event_id) in page.content.decode()
    assert (
        str(desk.bought.event_id)
        not in signed_in(desk, "auditor").get("/events/", {field: value + "x"}).content.decode()
    )


def test_a_malformed_filter_is_answered_in_words(desk):
    page = signed_in(desk, "auditor").get("/events/", {"since": "yesterday"})

    assert page.status_code == 200
    assert "Write a day as 2026-05-01" in text_of(page)


def test_pages_of_a_list_are_disjoint_and_cover_it(desk, monkeypatch):
    from auditlog.reads.access import Viewer
    from dashboard.pages.events import list_events

    viewer = Viewer(desk.row, "auditor", "x")
    whole = [row["leaf_index"] for row in list_events(viewer, {}).rows]
    walked, before = [], None
    while True:
        page = list_events(viewer, {}, before=before, limit=1)
        walked += [row["leaf_index"] for row in page.rows]
        if not page.next:
            break
        before = int(page.next)

    assert walked == whole
    assert len(whole) == 4


def test_the_queue_pages_by_severity_then_newest(desk):
    from auditlog.reads.access import Viewer
    from dashboard.pages.findings import list_findings

    for number, severity in enumerate(("low", "critical", "high", "critical")):
        Finding.objects.create(
            tenant=desk.row, rule="spend.velocity", rule_version=1, anchor=f"n{number}", partition="[]",
            severity=severity, title=severity, event_ids=[], leaves=[], first_at=desk.now, last_at=desk.now,
            detected_at=desk.now,
        )  # fmt: skip
    viewer = Viewer(desk.row, "auditor", "x")
    walked, after = [], ""
    while True:
        page = list_findings(viewer, {}, after=after, limit=2)
        walked += [row.severity for row in page.rows]
        if not page.next:
            break
        after = page.next

    assert walked == ["critical", "critical", "high", "high", "low"]


def test_search_leads_to_the_right_page(desk):
    client = signed_in(desk, "auditor")

    def leads(word: str) -> str:
        return client.get("/search/", {"q": word}).headers.get("Location", "")

    assert leads(str(desk.bought.event_id)) == f"/events/{desk.bought.event_id}/"
    assert leads(desk.ada).startswith("/parties/?key=")
    assert leads(desk.grant_id) == f"/grants/{desk.grant_id}/"
    assert leads("https://ACME-corp.io/") == "/events/?target=acme-corp.io"
    assert leads(desk.bought.charge) == f"/events/?charge={desk.bought.charge}"
    assert client.get("/search/", {"q": "no such thing"}).status_code == 200


def test_hostile_text_is_escaped_and_made_visible(desk):
    evil = '<script>alert(1)</script>\u202egnp.exe"onload=x'
    grant = Grant.objects.get(tenant=desk.row, id=desk.grant_id)
    desk.send(
        desk.event(
            "action.performed", grant=grant.id, action={"verb": "x", "target": {"type": "t", "id": evil}}, task=evil
        )
    )
    desk.project()
    event = Event.objects.get(tenant=desk.row, target=evil)
    client = signed_in(desk, "auditor")

    for path in (f"/events/{event.event_id}/", "/events/", "/"):
        body = client.get(path).content.decode()
        assert "<script>alert" not in body
        assert "\u202e" not in body
    assert "⟨U+202E⟩" in client.get("/events/").content.decode()


def test_the_overview_costs_the_same_number_of_queries_however_much_there_is(desk, django_assert_max_num_queries):
    client = signed_in(desk, "auditor")

    with django_assert_max_num_queries(45):
        client.get("/")


def test_a_case_opens_from_a_finding_and_an_auditor_may_not(desk):
    asked = {"finding": desk.finding.pk, "kind": "scope", "title": "Not what Ada asked for"}

    refused = signed_in(desk, "auditor").post("/cases/", asked)
    opened = signed_in(desk, "security").post("/cases/", asked, follow=True)

    assert refused.status_code == 403
    assert "Not what Ada asked for" in text_of(opened)
    path = opened.request["PATH_INFO"]
    page = signed_in(desk, "auditor").get(path)
    assert page.status_code == 200
    assert "no step here that you may take" in text_of(page)
    assert signed_in(desk, "abuse", "elsewhere").get(path).status_code == 404
    assert signed_in(desk, "auditor").post(path, {"to": "intake"}).status_code == 403


def test_a_case_moves_by_its_page(desk):
    client = signed_in(desk, "security")
    path = client.post("/cases/", {"finding": desk.finding.pk, "kind": "scope", "title": "x"}, follow=True).request[
        "PATH_INFO"
    ]

    moved = client.post(path, {"to": "intake"}, follow=True)

    assert "moved on" in text_of(moved)
    assert "intake" in text_of(moved)


@pytest.mark.parametrize(
    "path",
    [
        "/search/?q=a%00b", "/events/?target=%00", "/findings/?principal=%00", "/timeline/?session=%00", "/parties/?key=%00", "/parties/?after=%00",
        "/reach/?kind=grant&key=%00", "/reach/explorer/?grant=%00", "/grants/x%00y/", "/cases/?state=%00", "/inventory/?id=%00",
        "/events/?since=0001-01-01T00:00:00%2B14:00", "/events/{event}/?at=0001-01-01T00:00:00%2B14:00", "/events/{event}/?at=9999-12-31T23:59:59-14:00",
    ],
)  # fmt: skip
def test_a_question_that_no_record_can_answer_gets_a_page_and_is_no_fault_of_ours(desk, path):
    client = signed_in(desk, "security")
    client.raise_request_exception = False

    assert client.get(path.format(event=desk.bought.event_id)).status_code in (200, 400, 404)


def test_an_act_of_nobody_says_who_could_supply_what_is_missing(desk):
    [done] = desk.send(
        desk.event("action.performed", principal=None, action={"verb": "bucket.delete", "provider": "elsewhere"})
    )
    desk.project()

    page = source_of(signed_in(desk, "security").get(f"/events/{done.event_id}/"))

    assert "Nobody is known" in page and "<b>conductor</b>, could say whose token or key it was" in page
