"""Incidents as somebody meets them who looks for what does not fit: circles of merge, split, close and reopen; and odd input."""

from datetime import timedelta

import pytest

from auditlog.alerts.facts import facts_of
from auditlog.core.alert.news import news_of
from auditlog.incidents import read
from auditlog.incidents.handle import close, merge, note, snooze, split, suppress
from auditlog.models import Finding, Incident
from tests.integration.test_api import Api, problem
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_incident_pages import now, town  # noqa: F401
from tests.integration.test_incidents import acts, groups, made, refs, somebody, wake  # noqa: F401


@pytest.fixture
def three(world, acts):  # noqa: F811
    """Three incidents of one finding each."""
    found = [made(world, "a", [1, 2]), made(world, "b", [11, 12]), made(world, "c", [21])]
    wake(world)
    return found


def test_two_closed_incidents_that_are_merged_stay_closed_until_more_comes(world, three):
    person = somebody(world)
    for ref in ("INC-000001", "INC-000002"):
        close(person, ref, outcome="accepted", reason="known", now=world.now)

    merge(person, "INC-000002", other="INC-000001", reason="one matter", now=world.now)
    wake(world)
    assert refs(world)[:2] == [("INC-000001", "closed"), ("INC-000002", "merged")]

    made(world, "b", [11, 12, 13])
    wake(world)
    assert refs(world)[0] == ("INC-000001", "open")


def test_what_was_taken_out_of_a_closed_incident_does_not_hide_that_the_rest_grows(world, acts):  # noqa: F811
    made(world, "a", [1])
    many = made(world, "b", [1, 2, 3, 4, 5])
    wake(world)
    person = somebody(world)
    close(person, "INC-000001", outcome="accepted", reason="known", now=world.now)
    split(person, "INC-000001", findings=[many.pk], reason="another matter", now=world.now)
    assert refs(world) == [("INC-000001", "closed"), ("INC-000002", "open")]

    made(world, "a", [1, 6])
    wake(world)

    assert refs(world)[0] == ("INC-000001", "open")


def test_what_was_written_to_an_incident_is_read_in_the_one_that_it_became_part_of(world, three):
    person = somebody(world)
    note(person, "INC-000002", text="the operator was called", now=world.now)

    merge(person, "INC-000002", other="INC-000001", reason="one matter", now=world.now)

    steps = read.steps_of(person, Incident.objects.get(tenant=world.row, ref="INC-000001"))
    assert "the operator was called" in [step.reason for step in steps]
    assert [step.incident.ref for step in steps if step.reason == "the operator was called"] == ["INC-000002"]
    assert [step.pk for step in steps] == sorted(step.pk for step in steps)


def test_merging_and_splitting_in_a_circle_leaves_no_reference_without_an_end(world, three):
    person, client = somebody(world), signed_in(world, "security")
    a, b, c = three
    merge(person, "INC-000003", other="INC-000002", reason="x", now=world.now)
    merge(person, "INC-000002", other="INC-000001", reason="x", now=world.now)
    apart = split(person, "INC-000001", findings=[c.pk], reason="x", now=world.now)
    merge(person, apart.ref, other="INC-000001", reason="x", now=world.now)
    split(person, "INC-000001", findings=[a.pk, b.pk], reason="x", now=world.now)
    wake(world)

    for row in Incident.objects.filter(tenant=world.row):
        page = client.get(f"/incidents/{row.ref}/", follow=True)
        assert page.status_code == 200 and len(page.redirect_chain) <= 1, row.ref
    assert sorted(sum(groups(world), ())) == sorted(each.pk for each in three)


def test_the_heading_counts_every_finding_and_not_only_those_that_are_listed(world, three, monkeypatch):
    made(world, "d", [1])
    made(world, "e", [2])
    wake(world)
    monkeypatch.setattr(read, "LISTED", 2)
    client = signed_in(world, "security")

    assert "3 findings" in text_of(client.get("/incidents/INC-000001/"))
    rows = client.get("/incidents/").context["rows"]
    assert [row["incident"].total for row in rows if row["incident"].ref == "INC-000001"] == [3]


def test_what_is_written_to_an_incident_that_was_merged_meanwhile_is_said_to_be_lost(world, three):
    client = signed_in(world, "security")
    merge(somebody(world), "INC-000002", other="INC-000001", reason="x", now=world.now)

    page = client.post("/incidents/INC-000002/", {"do": "note", "text": "hours of work"}, follow=True)

    assert "was not kept" in text_of(page) and page.redirect_chain == [("/incidents/INC-000001/", 302)]


@pytest.mark.parametrize(
    "ref", ["%00", "INC-000001%00", "INC-%F0%9F%98%80", "inc-000001%20or%201=1", "'" * 30, "%E2%80%AE"]
)
def test_a_reference_that_is_none_is_not_found(world, three, ref):
    client, api = signed_in(world, "security"), Api(world.row, "security")

    missing = 400 if "%00" in ref else 404  # no page is asked for an address with a NUL in it
    assert client.get(f"/incidents/{ref}/").status_code == missing
    assert client.get(f"/incidents/{ref}/verdicts/").status_code == missing
    problem(api.get(f"incidents/{ref}"), missing)
    assert api.post("incidents/INC-000001/merge", {"other": ref, "reason": "x"}).status_code in (400, 404)


def test_a_title_that_an_agent_wrote_is_text_in_a_page_and_no_formula_in_a_table(world, three):
    title = '=HYPERLINK("https://evil.example")<script>alert(1)</script>\u202e'
    Finding.objects.filter(tenant=world.row).update(title=title)
    client = signed_in(world, "security")

    for path in ("/incidents/", "/incidents/INC-000001/"):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page and "\u202e" not in page
    table = client.get("/incidents.csv").content.decode()
    assert '"=HYPERLINK' not in table and ",=HYPERLINK" not in table and "\u202e" not in table


def test_the_first_end_of_the_time_to_undo_is_the_one_that_is_due(town):  # noqa: F811
    first, last = town.now + timedelta(days=1), town.now + timedelta(days=3)
    Finding.objects.filter(pk=town.quantity.pk).update(evidence={"undo_until": first.isoformat()})
    wake(town)

    one = Api(town.row, "finance").get("incidents/INC-000001").json()
    [row] = Api(town.row, "finance").rows("incidents", {"due_before": (first + timedelta(hours=1)).isoformat()})

    assert one["awaiting"]["by"] == first.isoformat().replace("+00:00", "Z")
    assert one["undo_until"] == last.isoformat().replace("+00:00", "Z") and row["ref"] == "INC-000001"
    page = text_of(signed_in(town, "finance").get("/incidents/INC-000001/"))
    assert "first of 2 ends" in page
    facts = facts_of(town.row, [Incident.objects.get(tenant=town.row, ref="INC-000001")])
    assert [each.undo_ends for each in facts.values()] == [(first, last)]


# --- out of the queue ---------------------------------------------------------------------------------------------------


def queue(client, state=""):
    return [row["incident"].ref for row in client.get(f"/incidents/?state={state}").context["rows"]]


def test_what_is_snoozed_leaves_the_queue_until_it_grows_becomes_worse_or_the_day_comes(world, three):
    client, api = signed_in(world, "security"), Api(world.row, "security")
    for ref, body in (("INC-000001", {}), ("INC-000002", {}), ("INC-000003", {"days": 7, "reason": "on Monday"})):
        assert api.post(f"incidents/{ref}/snooze", body).json()["away"] == "snoozed"
    assert queue(client) == [] and len(queue(client, "away")) == 3
    assert [row["ref"] for row in api.rows("incidents", {"away": "no"})] == []

    made(world, "a", [1, 2], title="the same in other words")
    wake(world)
    assert queue(client) == []
    made(world, "a", [1, 2, 3])
    made(world, "b", [11, 12], severity="critical")
    wake(world)
    assert sorted(queue(client)) == ["INC-000001", "INC-000002"]
    log = text_of(client.get("/incidents/INC-000001/")) + text_of(client.get("/incidents/INC-000002/"))
    assert "back in the queue: it grew by 1 act" in log and "back in the queue: it became critical" in log

    Incident.objects.filter(tenant=world.row, ref="INC-000003").update(away_until=world.now - timedelta(days=1))
    assert "INC-000003" in queue(client)


def test_what_is_suppressed_stays_out_though_it_grows_and_needs_a_reason_and_an_end(world, three):
    client, api = signed_in(world, "finance"), Api(world.row, "finance")
    for body in ({}, {"days": 7}, {"days": 7, "reason": " "}, {"days": 0, "reason": "x"}, {"days": 91, "reason": "x"}):
        assert api.post("incidents/INC-000001/suppress", body).status_code in (400, 409), body

    done = api.post("incidents/INC-000001/suppress", {"days": 7, "reason": "a drill"}).json()
    made(world, "a", [1, 2, 3], severity="critical")
    wake(world)

    assert done["away"] == "suppressed" and done["away_until"] and "INC-000001" not in queue(client)
    page = text_of(client.get("/incidents/INC-000001/"))
    assert "Suppressed: not in the queue" in page and "a drill" in page
    assert "in the queue again" in text_of(client.post("/incidents/INC-000001/", {"do": "bring_back"}, follow=True))
    assert "INC-000001" in queue(client)
    problem(api.post("incidents/INC-000001/bring-back", {}), 409)


def test_what_is_in_the_queue_does_not_leave_it_by_being_merged_into_something_suppressed(world, three):
    person, client = somebody(world), signed_in(world, "security")
    suppress(person, "INC-000001", days=30, reason="known", now=world.now)

    merge(person, "INC-000002", other="INC-000001", reason="one matter", now=world.now)

    assert "INC-000001" in queue(client)


def test_no_auditor_and_no_providers_desk_takes_anything_out_of_the_queue(town):  # noqa: F811
    for role, provider in (("auditor", ""), ("abuse", town.bought.provider)):
        api, client = Api(town.row, role, *filter(None, [provider])), signed_in(town, role, *filter(None, [provider]))
        for step, body in (("snooze", {}), ("suppress", {"days": 1, "reason": "x"}), ("bring-back", {})):
            problem(api.post(f"incidents/INC-000001/{step}", body), 403)
        client.post("/incidents/-/many/", {"do": "snooze", "ref": ["INC-000001", "INC-000002"]})
    assert not Incident.objects.filter(tenant=town.row).exclude(away="").exists()


def test_no_channel_hears_of_what_is_out_of_the_queue_until_it_comes_back(world, three):
    [row] = Incident.objects.filter(tenant=world.row, ref="INC-000001")
    snooze(somebody(world), row.ref, days=1, now=world.now)
    row.refresh_from_db()
    facts = facts_of(world.row, [row])[row.pk]

    assert news_of(None, facts, now=world.now) == ()
    assert [each.what for each in news_of(None, facts, now=world.now + timedelta(days=2))] == ["opened"]


def test_one_action_is_done_with_many_and_what_is_refused_is_said_of_each(world, three):
    client = signed_in(world, "security")
    chosen = ["INC-000001", "INC-000002", "INC-000009"]

    page = text_of(
        client.post("/incidents/-/many/", {"do": "mine", "ref": chosen, "query": "order=newest"}, follow=True)
    )
    assert "2 incidents assigned to you" in page and "INC-000009: no incident INC-000009" in page
    owner = Incident.objects.get(tenant=world.row, ref="INC-000001").owner
    assert owner and Incident.objects.filter(tenant=world.row, owner=owner).count() == 2
    refused = client.post("/incidents/-/many/", {"do": "close", "ref": chosen[:2], "outcome": "other"}, follow=True)
    assert "a reason is needed" in text_of(refused)
    client.post("/incidents/-/many/", {"do": "close", "ref": chosen[:2], "outcome": "other", "reason": "a drill"})
    assert refs(world)[:2] == [("INC-000001", "closed"), ("INC-000002", "closed")]
    for wrong in (
        {"do": "mine"},
        {"do": "destroy", "ref": chosen},
        {"do": "mine", "ref": [f"INC-{n}" for n in range(101)]},
    ):
        answer = client.post("/incidents/-/many/", wrong | {"query": "//evil.example"})
        assert answer["Location"] == "/incidents/?//evil.example"
    assert client.get("/incidents/-/many/").status_code == 405
