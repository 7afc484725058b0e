"""Findings of one cause are one incident: on the demo story, however they come, and whatever people decide of them."""

import random
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from auditlog.incidents import gather as gathering
from auditlog.incidents.gather import gather_findings, gathered_at_once
from auditlog.incidents.handle import close, merge, note, split
from auditlog.models import Finding, FindingMember, Incident, IncidentFinding, IncidentStep
from auditlog.projection.project import rebuild
from auditlog.reads.access import Viewer
from auditlog.simulator.story import demo_story


def somebody(world):
    return Viewer(world.row, "security", "sam")


def groups(world):
    """The findings that stand, by incident, as they are kept."""
    found = {}
    for finding, incident in IncidentFinding.objects.filter(tenant=world.row, stands=True).values_list(
        "finding", "incident"
    ):
        found.setdefault(incident, []).append(finding)
    return sorted(tuple(sorted(ids)) for ids in found.values())


def rules(world):
    """By reference, the rules of the findings in it."""
    found = {}
    for ref, rule in (
        IncidentFinding.objects.filter(tenant=world.row, stands=True)
        .order_by("finding")
        .values_list("incident__ref", "finding__rule")
    ):
        found.setdefault(ref, []).append(rule)
    return found


def with_rule(world, rule, **more):
    """The incidents that findings of a rule are in."""
    return sorted(
        set(
            IncidentFinding.objects.filter(tenant=world.row, finding__rule=rule, **more).values_list(
                "incident__ref", flat=True
            )
        )
    )


def test_the_findings_of_the_demo_are_thirteen_incidents(told):
    kept = rules(told)
    standing = Finding.objects.filter(tenant=told.row).exclude(state="withdrawn").count()

    assert sum(map(len, kept.values())) == standing >= 22
    assert len(kept) == 13
    [loop] = with_rule(told, "spend.retry_loop")
    assert {"intent.price_exceeded", "spend.retry_loop", "spend.velocity"} <= set(kept[loop])
    [raises] = with_rule(told, "spend.cap_creep")
    assert {"spend.cap_creep", "spend.cross_provider_cap"} <= set(kept[raises])
    assert kept[raises].count("spend.self_raise") == 6
    assert len(with_rule(told, "intent.domain_mismatch")) == 2  # ada's superseal.cc and ben's acme-corp.io
    assert len(with_rule(told, "authority.used_after_revocation")) == 2
    assert groups(told) == gathered_at_once(told.row)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_arrival_gives_the_incidents_of_all_at_once(world, seed):
    story = demo_story(seed=7, now=world.now, tenant=world.tenant)
    world.sources |= {spec.name: spec for spec in story.sources}
    bad = {refusal.position for refusal in story.refusals}
    good = [signed for position, signed in enumerate(story.deliveries) if position not in bad]
    random.Random(seed).shuffle(good)
    for start in range(0, len(good), 400):
        world.send(*good[start : start + 400])
        world.settle(after=timedelta(minutes=start / 400))

    world.settle(after=timedelta(hours=1))

    assert groups(world) == gathered_at_once(world.row)
    assert len(groups(world)) == 13


# --- what comes, goes and grows -----------------------------------------------------------------------------------------


def wake(world, **more):
    while gather_findings(world.row, now=world.now, **more):
        pass


def refs(world):
    return list(Incident.objects.filter(tenant=world.row).order_by("number").values_list("ref", "state"))


def kinds(world, ref):
    return [(step.kind, step.data) for step in IncidentStep.objects.filter(tenant=world.row, incident__ref=ref)]


def made(world, anchor, leaves, *, rule="intent.quantity_exceeded", principal="https://id.example|ada", **more):
    """A finding as detection writes it, on leaves that are acts of nobody else."""
    values = {
        "rule_version": 1, "partition": "[]", "severity": "high", "title": f"finding {anchor}", "principal": principal, "leaves": leaves,
        "event_ids": [UUID(int=leaf) for leaf in leaves], "events_total": len(leaves), "first_at": world.now, "last_at": world.now,
        "detected_at": world.now,
    }  # fmt: skip
    row, _ = Finding.objects.update_or_create(
        tenant=world.row, rule=rule, anchor=anchor, defaults=values | {"state": "open"} | more
    )
    FindingMember.objects.filter(finding=row).delete()
    FindingMember.objects.bulk_create(
        FindingMember(finding=row, tenant=world.row, leaf_index=leaf, event_id=UUID(int=leaf), place=n)
        for n, leaf in enumerate(leaves)
    )
    return row


@pytest.fixture
def acts(world, monkeypatch):
    """Acts that state nothing: what links findings is the acts themselves. By leaf, with more where a test says so."""
    stated = {}

    def rows(statement, params):
        if statement is gathering._ACTS:
            blank = ("https://id.example|ada", False, "", "", "registrar", "", "", "", "", "")
            return [stated.get(leaf, (leaf, *blank)) for leaf in params["leaves"]]
        return fetch_rows(statement, params)

    fetch_rows = gathering.fetch_rows
    monkeypatch.setattr(gathering, "fetch_rows", rows)
    return stated


def test_a_finding_that_links_two_incidents_makes_them_one_and_the_older_reference_stays(world, acts):
    made(world, "a", [1, 2])
    made(world, "b", [3, 4])
    wake(world)
    assert refs(world) == [("INC-000001", "open"), ("INC-000002", "open")]

    made(world, "c", [2, 3])
    wake(world)

    assert refs(world) == [("INC-000001", "open"), ("INC-000002", "merged")]
    assert Incident.objects.get(tenant=world.row, ref="INC-000002").merged_into.ref == "INC-000001"
    assert [kind for kind, _ in kinds(world, "INC-000001")] == ["opened", "took_in", "grew"]
    assert kinds(world, "INC-000002")[-1] == ("merged", {"into": "INC-000001"})


def test_what_linked_them_gone_they_are_two_again_and_the_log_says_so(world, acts):
    made(world, "a", [1, 2])
    made(world, "b", [3, 4])
    made(world, "c", [2, 3])
    wake(world)
    assert len(groups(world)) == 1

    Finding.objects.filter(tenant=world.row, anchor="c").update(state="withdrawn")
    wake(world)

    assert len(groups(world)) == 2 and groups(world) == gathered_at_once(world.row)
    assert [kind for kind, _ in kinds(world, "INC-000001")] == ["opened", "split"]
    assert kinds(world, "INC-000002")[0][1]["from"] == ["INC-000001"]


def test_an_incident_whose_findings_are_all_withdrawn_is_withdrawn_and_opens_with_them(world, acts):
    row = made(world, "a", [1])
    wake(world)

    Finding.objects.filter(pk=row.pk).update(state="withdrawn")
    wake(world)
    assert refs(world) == [("INC-000001", "withdrawn")]

    Finding.objects.filter(pk=row.pk).update(state="open")
    wake(world)
    assert refs(world) == [("INC-000001", "open")]
    assert [kind for kind, _ in kinds(world, "INC-000001")] == ["opened", "withdrawn", "reopened"]


def test_an_incident_whose_findings_people_resolved_is_resolved(world, acts):
    row, other = made(world, "a", [1]), made(world, "b", [1, 2])
    wake(world)

    Finding.objects.filter(pk=row.pk).update(state="resolved")
    wake(world)
    assert refs(world) == [("INC-000001", "open")]
    Finding.objects.filter(pk=other.pk).update(state="false_positive")
    wake(world)
    assert refs(world) == [("INC-000001", "resolved")]
    Finding.objects.filter(pk=other.pk).update(state="open")
    wake(world)
    assert refs(world) == [("INC-000001", "open")]


def test_a_closed_incident_opens_when_it_grows_and_says_why_and_not_when_it_is_judged_again(world, acts):
    row = made(world, "a", [1])
    wake(world)
    close(somebody(world), "INC-000001", outcome="accepted", reason="known", now=world.now)

    Finding.objects.filter(pk=row.pk).update(title="the same, in other words")
    wake(world)
    assert refs(world) == [("INC-000001", "closed")]

    made(world, "a", [1, 2, 3])
    wake(world)
    assert refs(world) == [("INC-000001", "open")]
    assert kinds(world, "INC-000001")[-1] == ("reopened", {"why": "grew", "acts": 2})

    close(somebody(world), "INC-000001", outcome="accepted", reason="known", now=world.now)
    new = made(world, "b", [3])
    wake(world)
    assert kinds(world, "INC-000001")[-1] == ("reopened", {"why": "grew", "findings": [new.pk], "acts": 1})


def test_who_owns_it_what_was_written_and_what_was_decided_outlive_a_new_look_at_everything(told):
    [ref] = with_rule(told, "spend.retry_loop")
    person = somebody(told)
    note(person, ref, text="asked the operator", now=told.now)
    before = groups(told)

    with connection.cursor() as cursor:
        cursor.execute("UPDATE finding SET title = title WHERE tenant_id = %s", [told.row.pk])
    wake(told)
    rebuild(told.row, now=told.now)
    told.settle()

    assert groups(told) == before == gathered_at_once(told.row)
    assert [(kind, data) for kind, data in kinds(told, ref)][-1] == ("note", {})
    assert len(kinds(told, ref)) == 2


def test_what_was_taken_apart_by_hand_stays_apart_and_what_was_put_together_together(world, acts):
    one, two = made(world, "a", [1, 2]), made(world, "b", [2, 3])
    three = made(world, "c", [9])
    wake(world)
    person = somebody(world)

    apart = split(person, "INC-000001", findings=[two.pk], reason="another matter", now=world.now)
    assert (apart.ref, groups(world)) == ("INC-000003", [(one.pk,), (two.pk,), (three.pk,)])
    four = made(world, "d", [2])  # links both sides
    made(world, "b", [2, 3, 4])
    wake(world)
    assert groups(world) == [(one.pk, four.pk), (two.pk,), (three.pk,)] == gathered_at_once(world.row)

    kept = merge(person, "INC-000003", other="INC-000002", reason="one matter", now=world.now)
    made(world, "c", [9, 10])
    wake(world)
    assert kept.ref == "INC-000002"
    assert groups(world) == [(one.pk, four.pk), (two.pk, three.pk)] == gathered_at_once(world.row)

    merge(person, "INC-000002", other="INC-000001", reason="it was one after all", now=world.now)
    assert groups(world) == [(one.pk, two.pk, three.pk, four.pk)] == gathered_at_once(world.row)


def test_one_by_one_through_the_database_gives_the_incidents_of_all_at_once(world, acts, monkeypatch):
    chance = random.Random(5)
    monkeypatch.setattr(gathering, "LARGE", 12)  # so that both ways are gone
    sums = {"spend.cap_exceeded"}
    for step in range(60):
        rule = chance.choice(["intent.quantity_exceeded", "spend.retry_loop", *sums])
        made(world, str(chance.randrange(14)), sorted(chance.sample(range(1, 40), chance.randrange(1, 5))), rule=rule,
             state=chance.choice(["open", "open", "open", "withdrawn"]),
             principal=chance.choice(["https://id.example|ada", "https://id.example|ben"]))  # fmt: skip
        if step % 3 == 0:
            wake(world, limit=2)
    wake(world)
    world.now += timedelta(hours=1)  # what was too large for at once has had its turn
    wake(world)

    assert groups(world) == gathered_at_once(world.row)


def test_a_finding_of_100_000_acts_and_10_000_findings_of_one_cause_are_bounded(world, acts):
    big = made(world, "big", list(range(1, 1_001)), events_total=100_000)
    wake(world)
    with CaptureQueriesContext(connection) as few:
        Finding.objects.filter(pk=big.pk).update(last_at=world.now + timedelta(minutes=1), events_total=100_001)
        wake(world)
    Finding.objects.bulk_create(
        Finding(tenant=world.row, rule="intent.unforeseen", rule_version=1, anchor=f"n{n}", partition="[]", severity="low", title="t",
                principal="https://id.example|ada", event_ids=[UUID(int=1)], leaves=[1], events_total=1, first_at=world.now,
                last_at=world.now, detected_at=world.now)
        for n in range(2_000)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO finding_member (tenant_id, finding_id, leaf_index, event_id, place)"
            " SELECT tenant_id, id, 1, %s, 0 FROM finding WHERE tenant_id = %s AND anchor LIKE 'n%%'", [UUID(int=1), world.row.pk]
        )  # fmt: skip
    wake(world)
    assert len(groups(world)) == 1
    with CaptureQueriesContext(connection) as many:
        made(world, "last", [1])
        wake(world)

    assert len(groups(world)[0]) == 2_002
    assert len(many) <= len(few) + 30, (len(few), len(many))


def test_the_log_of_an_incident_cannot_be_changed(world, acts):
    made(world, "a", [1])
    wake(world)

    for statement in ("UPDATE incident_step SET reason = 'x'", "DELETE FROM incident_step"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
