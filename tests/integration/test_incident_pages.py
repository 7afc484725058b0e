"""Incidents over the API and on pages: what is answered, who may, and what a provider's desk does not get."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from auditlog.incidents.gather import gather_findings
from auditlog.models import Event, Finding, FindingMember, Incident
from auditlog.reads.access import Viewer
from disputes.open_case import open_case
from tests.integration.test_api import Api, problem
from tests.integration.test_dashboard_pages import signed_in, source_of, text_of

ADA = "https://id.acme.example|ada"
PLANTED = "planted-secret-of-elsewhere"


@pytest.fixture
def now():
    return timezone.now() - timedelta(minutes=10)


@pytest.fixture
def town(world):
    """One task in which a wrong name was bought at one provider and a worker deployed at another, and another principal's purchase."""
    world.source("conductor", "https://conductor.example")
    ada = world.human("ada", issuer="https://id.acme.example")
    ben = world.human("ben", issuer="https://id.acme.example")
    shopper = world.agent("shopper", issuer="https://conductor.example")
    grant = world.grant(ada, shopper, actions=["domain.register", "worker.*", "payment.*"], resources=["acme.io"])
    bens = world.grant(ben, shopper, actions=["domain.register"], resources=["ben.io"])
    bought = world.registers("acme-corp.io", grant=grant, price_minor=900, task="task-1")
    deployed = world.event(
        "action.performed",
        grant=grant,
        task="task-1",
        action={"verb": "worker.deploy", "provider": "elsewhere", "target": {"type": "worker", "id": PLANTED}},
    )
    other = world.registers("ben-shop.io", grant=bens, price_minor=1_200, task="task-1")
    world.send(grant, bens, bought, deployed, other)
    world.project()
    events = {event.target or event.resource: event for event in Event.objects.filter(tenant=world.row)}
    world.bought, world.deployed, world.other = events["acme-corp.io"], events[PLANTED], events["ben-shop.io"]
    until = (world.now + timedelta(days=3)).isoformat()
    world.wrong = finding_on(
        world, world.bought, "intent.domain_mismatch", "acme-corp.io was registered, where acme.io was asked for",
        money_at_risk_minor=900, currency="USD", evidence={"intended": ["acme.io"], "undo_until": until},
    )  # fmt: skip
    world.quantity = finding_on(
        world,
        world.bought,
        "intent.quantity_exceeded",
        "One name too many",
        money_at_risk_minor=900,
        currency="USD",
        severity="medium",
    )
    world.far = finding_on(
        world, world.deployed, "authority.out_of_scope", f"{PLANTED} was deployed", severity="critical"
    )
    world.bens = finding_on(
        world,
        world.other,
        "intent.domain_mismatch",
        "ben-shop.io was registered",
        money_at_risk_minor=1_200,
        currency="USD",
    )
    while gather_findings(world.row, now=world.now):
        pass
    return world


def finding_on(world, event, rule, title, **more):
    values = {"severity": "high", "evidence": {}} | more
    row = Finding.objects.create(
        tenant=world.row, rule=rule, rule_version=1, anchor=str(event.event_id), partition="[]", title=title, principal=event.principal,
        actor=event.actor, grant=event.via_grant, provider=event.provider, event_ids=[event.event_id], leaves=[event.leaf_index],
        events_total=1, first_at=event.occurred_at, last_at=event.occurred_at, detected_at=world.now, **values,
    )  # fmt: skip
    FindingMember.objects.create(
        finding=row, tenant=world.row, leaf_index=event.leaf_index, event_id=event.event_id, place=0
    )
    return row


def test_an_incident_is_answered_with_its_money_once_its_agents_and_who_must_act(town):
    api = Api(town.row, "finance")

    found = {row["ref"]: row for row in api.rows("incidents")}
    one = api.get("incidents/INC-000001").json()

    assert set(found) == {"INC-000001", "INC-000002"}
    assert one.pop("log")[0]["kind"] == "opened" and one == found["INC-000001"]
    assert sorted(one["findings"]) == [town.wrong.pk, town.quantity.pk, town.far.pk]
    assert one["rules"][0] == "authority.out_of_scope" and one["severity"] == "critical"
    assert one["principal"] == {"iss": "https://id.acme.example", "sub": "ada"}
    assert [(a["party"]["sub"], a["acts"]) for a in one["actors"]] == [("shopper", 2)]
    assert one["events_total"] == 2 and one["desks"] == ["security", "finance"]
    money = one["money"]
    assert (money["currency"], money["spent_minor"], money["over_minor"]) == ("USD", 900, 900)
    assert one["undo_until"] == money["recoverable_until"] == one["awaiting"]["by"] is not None
    assert one["awaiting"]["who"] == "security or finance" and one["case"] is None and one["owner"] is None
    other = found["INC-000002"]
    assert other["undo_until"] is None and "nothing on record" in other["money"]["unknown"]["recoverable_until"]


def test_a_finding_says_which_incident_it_is_in(town):
    assert Api(town.row, "auditor").get(f"findings/{town.far.pk}").json()["incident"] == "INC-000001"
    page = signed_in(town, "auditor").get(f"/findings/{town.bens.pk}/")
    assert 'href="/incidents/INC-000002/"' in page.content.decode()


def test_the_list_is_filtered_and_paged(town):
    api = Api(town.row, "security")
    refs = lambda query="": [row["ref"] for row in api.rows("incidents", query)]  # noqa: E731

    assert refs() == ["INC-000002", "INC-000001"]
    assert refs({"order": "due"}) == ["INC-000001", "INC-000002"]
    assert refs({"due_before": (timezone.now() + timedelta(days=30)).isoformat()}) == ["INC-000001"]
    assert refs({"due_before": (timezone.now() + timedelta(hours=1)).isoformat()}) == []
    assert refs({"principal": ADA}) == ["INC-000001"]
    assert refs({"desk": "auditor"}) == [] and len(refs({"desk": "finance"})) == 2
    assert refs({"owner": "none", "state": "open"}) == ["INC-000002", "INC-000001"]
    assert refs({"since": (timezone.now() + timedelta(hours=1)).isoformat()}) == []
    for order in ("newest", "due"):
        pages = [[row["ref"] for row in page] for page in api.walk("incidents", f"limit=1&order={order}")]
        assert sorted(pages) == [["INC-000001"], ["INC-000002"]]
    for query in (
        {"colour": "red"},
        {"state": "merged"},
        {"before": "x"},
        {"before": "3", "order": "due"},
        {"desk": "sales"},
    ):
        problem(api.get("incidents", query), 400)


def test_people_own_it_write_to_it_close_it_and_open_it_again(town):
    signed_in(town, "finance")
    member = town.row.membership_set.get(role="finance").user.username
    api = Api(town.row, "security")

    assert api.post("incidents/INC-000001/assign", {"owner": member}).json()["owner"] == member
    assert [row["ref"] for row in api.rows("incidents", {"owner": member})] == ["INC-000001"]
    assert api.post("incidents/INC-000001/note", {"text": "asked the operator"}).status_code == 200
    closed = api.post("incidents/INC-000001/close", {"outcome": "refunded", "reason": "it came back"}).json()
    assert (closed["state"], closed["outcome"], closed["awaiting"]) == ("closed", "refunded", {"who": None, "by": None})
    problem(api.post("incidents/INC-000001/close", {"outcome": "refunded", "reason": "again"}), 409)
    opened = api.post("incidents/INC-000001/reopen", {"reason": "it did not"}).json()

    assert (opened["state"], opened["owner"]) == ("open", member)
    assert [(step["kind"], step["by"], step["reason"]) for step in opened["log"][1:]] == [
        ("assigned", "security", None), ("note", "security", "asked the operator"), ("closed", "security", "it came back"),
        ("reopened", "security", "it did not"),
    ]  # fmt: skip
    assert api.post("incidents/INC-000001/assign", {"owner": None}).json()["owner"] is None
    for step, body in (("assign", {"owner": "nobody-we-know"}), ("close", {"outcome": "refunded", "reason": "  "}),
                       ("close", {"outcome": "won", "reason": "x"}), ("note", {"text": ""}), ("note", {"text": "x" * 5_000})):  # fmt: skip
        assert api.post(f"incidents/INC-000001/{step}", body).status_code in (400, 409), (step, body)
    problem(api.post("incidents/INC-000009/note", {"text": "x"}), 404)


def test_who_may_read_and_who_may_act(town):
    steps = {"assign": {"owner": None}, "note": {"text": "x"}, "close": {"outcome": "other", "reason": "x"}, "reopen": {"reason": "x"},
             "merge": {"other": "INC-000002", "reason": "x"}, "split": {"findings": [town.far.pk], "reason": "x"}}  # fmt: skip
    for role, may in {"admin": True, "security": True, "finance": True, "auditor": False}.items():
        api, client = Api(town.row, role), signed_in(town, role)
        assert api.get("incidents/INC-000001").status_code == 200
        for path in ("/incidents/", "/incidents/INC-000001/", "/incidents.csv", "/incidents/INC-000001/verdicts/"):
            assert client.get(path).status_code == 200, (role, path)
        assert (api.post("incidents/INC-000001/note", steps["note"]).status_code == 200) is may, role
        if may:
            assert api.post("incidents/INC-000001/close", steps["close"]).status_code == 200
            assert api.post("incidents/INC-000001/reopen", steps["reopen"]).status_code == 200
        assert (client.post("/incidents/INC-000001/", {"do": "note", "text": "x"}).status_code == 302) is may, role
    assert Client().get("/incidents/INC-000001/")["Location"].startswith("/login/")
    assert Client().get("/api/v1/incidents").status_code == 401
    auditor = Api(town.row, "auditor")
    for step, body in steps.items():
        problem(auditor.post(f"incidents/INC-000001/{step}", body), 403)


def test_one_that_was_merged_leads_to_the_older(town):
    api, client = Api(town.row, "security"), signed_in(town, "security")
    problem(
        api.post("incidents/INC-000001/merge", {"other": "INC-000002", "reason": "one hand"}), 409
    )  # two principals
    apart = api.post("incidents/INC-000001/split", {"findings": [town.far.pk], "reason": "another matter"}).json()
    assert (apart["ref"], apart["findings"]) == ("INC-000003", [town.far.pk])

    kept = api.post("incidents/INC-000003/merge", {"other": "INC-000001", "reason": "one matter after all"}).json()

    assert kept["ref"] == "INC-000001" and len(kept["findings"]) == 3
    answer = api.get("incidents/INC-000003")
    assert answer.status_code == 301 and answer["Location"].endswith("/api/v1/incidents/INC-000001")
    assert answer.json() == {"ref": "INC-000003", "merged_into": "INC-000001"}
    assert client.get("/incidents/INC-000003/")["Location"] == "/incidents/INC-000001/"
    problem(api.post("incidents/INC-000003/note", {"text": "x"}), 409)
    assert [row["ref"] for row in api.rows("incidents")] == ["INC-000002", "INC-000001"]


def test_the_case_about_it_is_shown_and_says_who_must_act(town):
    now = timezone.now()
    case = open_case(
        Viewer(town.row, "security", "desk"),
        kind="scope",
        title="Wrong name",
        complaint="",
        finding=town.wrong,
        now=now,
    )

    one = Api(town.row, "finance").get("incidents/INC-000001").json()
    page = text_of(signed_in(town, "finance").get("/incidents/INC-000001/"))

    assert (one["case"], one["awaiting"]["who"]) == (case.ref, case.awaiting)
    assert case.ref in page


def test_a_providers_desk_reads_its_own_part_and_nothing_of_the_rest(town):
    desk = Api(town.row, "abuse", town.bought.provider)
    client = signed_in(town, "abuse", town.bought.provider)
    everybody = Api(town.row, "security")
    everybody.post("incidents/INC-000001/note", {"text": f"they also have {PLANTED}"})
    everybody.post("incidents/INC-000001/assign", {"owner": None})

    answers = [desk.get("incidents"), desk.get("incidents/INC-000001"), desk.get("incidents", {"due_before": "2090-01-01T00:00:00Z"}),
               client.get("/incidents/"), client.get("/incidents/INC-000001/"), client.get("/incidents.csv?state=any"),
               client.get("/incidents/INC-000001/verdicts/")]  # fmt: skip

    assert [answer.status_code for answer in answers] == [200] * 7
    for answer in answers:
        text = answer.content.decode()
        for secret in (PLANTED, "elsewhere", str(town.deployed.event_id), "authority.out_of_scope", f"#{town.far.pk}<"):
            assert secret not in text, secret
    one = desk.get("incidents/INC-000001").json()
    assert sorted(one["findings"]) == [town.wrong.pk, town.quantity.pk]
    assert one["severity"] == "high" and one["events_total"] == 1 and [a["acts"] for a in one["actors"]] == [1]
    assert one["money"]["spent_minor"] is None and "abuse desk" in one["money"]["unknown"]["spent_minor"]
    assert [step["kind"] for step in one["log"]] == ["opened"] and one["log"][0]["data"] == {}
    assert (
        desk.post("incidents/INC-000001/note", {"text": "we look at it"}).json()["log"][-1]["reason"] == "we look at it"
    )
    for step, body in {"close": {"outcome": "other", "reason": "x"}, "assign": {"owner": None}, "reopen": {"reason": "x"},
                       "merge": {"other": "INC-000002", "reason": "x"}, "split": {"findings": [town.wrong.pk], "reason": "x"}}.items():  # fmt: skip
        problem(desk.post(f"incidents/INC-000001/{step}", body), 403)
    assert desk.post("incidents/INC-000002/close", {"outcome": "stopped", "reason": "taken down"}).status_code == 200
    nobody = Api(town.row, "abuse", "nobody-at-all")
    assert nobody.rows("incidents") == []
    problem(nobody.get("incidents/INC-000001"), 404)


def test_another_tenants_incidents_are_not_there(town, now):
    from auditlog.sources.configure import add_tenant

    other = Api(add_tenant(town.tenant + "-b", now=now), "admin")

    assert other.rows("incidents") == []
    problem(other.get("incidents/INC-000001"), 404)


def test_the_page_answers_the_six_questions_and_every_button_that_does_not_work_says_why(town):
    client = signed_in(town, "finance")
    page = client.get("/incidents/INC-000001/")
    text = text_of(page)

    for said in ("What happened, against what was asked", "Asked for: acme.io", "Who did it, for whom", "100 %", "shopper", "for ada",
                 "Spent 9.00 USD", "Too much 9.00 USD", "Undo until", "in 2 d", "security or finance", "Was it within scope?",
                 "your role (finance) stops no agent", "there is no case about it yet"):  # fmt: skip
        assert said in text, said
    assert PLANTED in text and "acme-corp.io" in text
    assert "Stop the" in text_of(signed_in(town, "security").get("/incidents/INC-000001/"))
    Incident.objects.filter(tenant=town.row).update(undo_until=None)
    Finding.objects.filter(pk=town.wrong.pk).update(evidence={"undo_until": "2026-10-30T13:13:43+00:00"})
    assert "expired 30 Oct 2026" in text_of(client.get("/incidents/INC-000001/"))


def test_acts_are_judged_beside_the_page_and_the_sentence_is_the_engines(town):
    text = text_of(signed_in(town, "security").get("/incidents/INC-000001/verdicts/"))

    assert "2 acts:" in text and "Preview, not saved" in text


def test_people_act_on_the_page_and_are_told_what_is_wrong(town):
    client = signed_in(town, "security")
    path = "/incidents/INC-000001/"

    for do, said in (({"do": "note", "text": "<b>looked</b> at it"}, "The note was kept."), ({"do": "close", "outcome": "stopped", "reason": "done"}, "The incident was closed."),
                     ({"do": "reopen", "reason": "not done"}, "The incident is open again.")):  # fmt: skip
        assert said in text_of(client.post(path, do, follow=True))
    page = client.get(path)
    assert "<b>looked</b>" not in page.content.decode() and "&lt;b&gt;looked" in source_of(page)
    assert client.post(path, {"do": "close", "outcome": "stopped", "reason": ""}).status_code == 422
    assert client.post(path, {"do": "destroy"}).status_code == 404
    refused = client.post(path, {"do": "merge", "other": "INC-000002", "reason": "x"})
    assert refused.status_code == 422 and "two principals have two incidents" in text_of(refused)
    split = client.post(path, {"do": "split", "findings": [town.far.pk], "reason": "apart"})
    assert split["Location"] == "/incidents/INC-000003/"


def test_the_queue_shows_what_is_open_and_can_be_taken_away_as_a_table(town):
    client = signed_in(town, "finance")

    assert "INC-000001" in text_of(client.get("/incidents/"))
    table = client.get("/incidents.csv").content.decode().splitlines()
    assert table[0].startswith("incident,state,severity") and len(table) == 3
    Api(town.row, "security").post("incidents/INC-000001/close", {"outcome": "other", "reason": "x"})
    assert "INC-000001" not in text_of(client.get("/incidents/"))
    assert "INC-000001" in text_of(client.get("/incidents/?state=any"))
    assert "No incident fits" in text_of(client.get("/incidents/?state=withdrawn"))
    assert client.get("/incidents/?after=9_9_9_9&due_before=x").status_code == 200


def test_no_page_of_incidents_asks_more_than_it_needs(town):
    client = signed_in(town, "security")
    counts = {}
    for path in ("/incidents/", "/incidents/INC-000001/", "/incidents.csv"):
        client.get(path)
        with CaptureQueriesContext(connection) as asked:
            client.get(path)
        counts[path] = [query["sql"][:150] for query in asked]
    for path, asked in counts.items():
        print(path, len(asked), *asked, sep="\n   ")

    assert max(map(len, counts.values())) <= 12  # and one that is sent in binary
