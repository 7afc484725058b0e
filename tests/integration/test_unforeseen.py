"""intent.unforeseen: the first irreversible act of its kind that nobody asked for by name, and silence otherwise."""

from datetime import timedelta

import pytest
from django.db import connection

from auditlog.custody.erase import erase
from auditlog.models import Event, Finding, Unasked
from auditlog.projection.project import rebuild
from tests.integration.test_what_was_approved import Desk, bound
from tests.integration.test_whose_money import DAY, HOUR, MINUTE

INTENT = {"targets": ["acme.com"]}


@pytest.fixture
def desk(world):
    return Desk(world)


def drops(desk, name, *, grant, after=HOUR, verb="db.drop", irreversible=True, actor=None, **more):
    """Something that its source says cannot be undone."""
    action = {
        "verb": verb,
        "provider": "shop",
        "target": {"type": "database", "id": name},
        "irreversible": irreversible,
    }
    signed = desk.world.event(
        "action.performed",
        source=desk.desk,
        at=desk.begins + after,
        action=action,
        grant=grant,
        actor=actor or desk.bot,
        **more,
    )
    desk.world.send(signed)
    return signed


def raised(desk):
    desk.settled()
    return list(Finding.objects.filter(tenant=desk.world.row, rule="intent.unforeseen").exclude(state="withdrawn"))


@pytest.mark.parametrize("order", ["in time", "backwards"])
def test_the_first_of_its_kind_is_found_and_the_next_ones_are_not(desk, order):
    mine = desk.grant(intent=INTENT)
    told = [("a", HOUR), ("b", DAY), ("c", 2 * DAY)]
    sent = {
        name: drops(desk.settled(), name, grant=mine, after=after)
        for name, after in (told if order == "in time" else told[::-1])
    }

    [found] = raised(desk)
    assert [str(one) for one in found.event_ids] == [desk.event(sent["a"])]
    assert found.title == "db.drop on a at shop cannot be undone, and acme.com was asked for"
    assert found.severity == "low"
    desk.agree()


def test_a_name_at_a_price_says_until_when_it_can_be_given_back(desk):
    mine = desk.grant(intent={"targets": ["project/launch"]})
    bought = desk.registers("acme-corp.com", 1_100, grant=mine, after=2 * HOUR)
    [found] = raised(desk)

    assert [str(one) for one in found.event_ids] == [desk.event(bought)]
    assert (found.severity, found.money_at_risk_minor) == ("medium", 1_100)
    assert found.evidence["undo_until"] == (desk.begins + 2 * HOUR + 5 * DAY).isoformat()
    desk.agree()


def test_another_name_than_the_ones_asked_for_is_said_once(desk):
    mine = desk.grant(intent=INTENT)
    desk.registers("acme-corp.com", 1_100, grant=mine)
    assert raised(desk) == [] and desk.rules() == ["intent.domain_mismatch"]


def test_what_was_asked_for_is_no_precedent(desk):
    mine = desk.grant(intent={"targets": ["a"]})
    drops(desk, "a", grant=mine)
    other = drops(desk, "b", grant=mine, after=2 * HOUR)
    [found] = raised(desk)
    assert [str(one) for one in found.event_ids] == [desk.event(other)]


def test_another_verb_provider_or_human_is_another_kind(desk):
    mine, his = desk.grant(intent=INTENT), desk.grant(desk.otto, intent=INTENT)
    drops(desk, "a", grant=mine)
    drops(desk, "a", grant=mine, verb="db.truncate", after=2 * HOUR)
    drops(desk, "a", grant=his, after=3 * HOUR)
    assert len(raised(desk)) == 3


@pytest.mark.parametrize(
    "why",
    ["no intent", "an intent without names", "the agent's own intent", "named", "granted by name", "approved", "its gate answered",
     "can be undone", "failed", "a test", "in person"],
)  # fmt: skip
def test_silence(desk, why):
    more = {"intent": INTENT}
    act = {}
    if why == "no intent":
        more = {}
    elif why == "an intent without names":
        more = {"intent": {"text": "set up our site", "max_price_minor": 900, "currency": "USD"}}
    elif why == "the agent's own intent":
        more, act = {}, {"intent": INTENT}
    elif why == "named":
        more = {"intent": {"targets": ["acme.com", "a"]}}
    elif why == "granted by name":
        more |= {"resources": ["a", "acme.com"]}
    elif why == "approved":
        desk.approves(over=bound("db.drop", "database", "a"))
    elif why == "its gate answered":
        more |= {"gates": ["destructive"]}
        desk.tell(desk.desk, "approval.decided", 30 * MINUTE, gate={"kind": "destructive", "by": desk.mara.ref}, request_id="r1",
                  actor=desk.mara, provider=None)  # fmt: skip
        act = {"request_id": "r1"}
    elif why == "can be undone":
        act = {"irreversible": False}
    elif why == "failed":
        act = {"outcome": "failure"}
    elif why == "a test":
        act = {"environment": "test"}
    elif why == "in person":
        act = {"actor": desk.mara, "mode": "direct"}
    mine = desk.grant(**more)
    if why == "the agent's own intent":
        signed = desk.world.event("action.performed", source=desk.agents, at=desk.begins + HOUR, grant=mine, actor=desk.bot, intent=INTENT,
                                  action={"verb": "db.drop", "provider": "shop", "target": {"type": "database", "id": "a"}, "irreversible": True})  # fmt: skip
        desk.world.send(signed)
    else:
        drops(desk, "a", grant=mine, **act)
    assert raised(desk) == []


def test_an_approval_that_comes_late_makes_the_next_one_the_first(desk):
    mine = desk.grant(intent=INTENT)
    drops(desk, "a", grant=mine)
    second = drops(desk, "b", grant=mine, after=DAY)
    [before] = raised(desk)
    desk.approves(over=bound("db.drop", "database", "a"))
    [after] = raised(desk)

    assert before.pk != after.pk and [str(one) for one in after.event_ids] == [desk.event(second)]
    desk.agree()


def test_what_is_erased_is_no_first_any_more_and_a_rebuild_says_the_same(desk):
    mine = desk.grant(intent=INTENT)
    first = drops(desk, "a", grant=mine)
    second = drops(desk, "b", grant=mine, after=DAY)
    assert len(raised(desk)) == 1
    leaf = Event.objects.get(tenant=desk.world.row, source_event_id=first.jti).leaf_index
    erase(desk.world.row, [leaf], who="ada", why="asked for", policy="retention", now=desk.world.now)
    [found] = raised(desk)
    assert [str(one) for one in found.event_ids] == [desk.event(second)]

    rebuild(desk.world.row, now=desk.world.now + timedelta(minutes=5))
    desk.settled()
    [again] = raised(desk)
    assert again.pk == found.pk
    assert Unasked.objects.filter(tenant=desk.world.row).count() == 1


def test_old_generations_leave_nothing(desk):
    mine = desk.grant(intent=INTENT)
    desk.registers("acme-corp.com", 1_100, grant=mine)
    drops(desk, "a", grant=mine)
    desk.settled()
    rebuild(desk.world.row, now=desk.world.now + timedelta(minutes=5))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'generation' AND table_name LIKE 'projection%'"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT count(DISTINCT generation) FROM {table} WHERE tenant_id = %s", [desk.world.row.pk])
            assert cursor.fetchone()[0] <= 1, table
