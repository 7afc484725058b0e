"""Projections: functions of the set of leaves, whatever the order, the batches and the repeats."""

import os
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.models import Charge, Event, Grant, Party, ProjectionState, Token
from auditlog.projection.project import project, rebuild
from auditlog.sources.configure import add_tenant
from tests.world import TenantWorld

TABLES = ("event", "party", "grant", "token", "limit", "charge", "holding")
# Where a leaf lies and when it came follows from arrival; everything else must not.
ARRIVAL = {"tenant_id", "generation", "leaf_index", "history"}


def snapshot(tenant, *, ignoring=ARRIVAL):
    """Every projected row of a tenant's current generation, without the columns that arrival decides."""
    found = {}
    generation = ProjectionState.objects.get(tenant=tenant, is_current=True).generation
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(
                f"SELECT * FROM projection_{table} WHERE tenant_id = %s AND generation = %s", [tenant.pk, generation]
            )
            keep = [n for n, column in enumerate(cursor.description) if column.name not in ignoring]
            names = [cursor.description[n].name for n in keep]
            rows = [tuple(str(row[n]) for n in keep) for row in cursor.fetchall()]
            found[table] = (names, sorted(rows))
    return found


def sources(world):
    world.source("tokens", "https://tokens.example")
    world.source("conductor", "https://conductor.example")
    world.stripe_source("stripe")


def a_stream(world):
    """Chains three deep, tokens exchanged twice, charges seen by two sources, refunds, revocations, limits."""
    ada = world.human("ada", issuer="https://id.acme.example")
    lead, buyer, helper = (
        world.agent(name, issuer="https://conductor.example") for name in ("lead", "buyer", "helper")
    )
    at = [world.now - timedelta(hours=10) + timedelta(minutes=10 * n) for n in range(30)]
    cap = {"scope": "provider", "provider": "registrar", "max_minor": 5000, "currency": "USD", "interval": "month"}
    root = world.grant(ada, lead, actions=["**"], resources=["**"], redelegate=True, limits=[cap], at=at[0])
    middle = world.grant(lead, buyer, parent=root, actions=["domain.register"], redelegate=True, at=at[1])
    leaf = world.grant(buyer, helper, parent=middle, at=at[2])
    first = world.token(root, at=at[3])
    second = world.token(leaf, parent=first, at=at[4])
    bought = world.registers("acme.io", price_minor=900, grant=leaf, token=second, at=at[5])
    charge = bought.payload["money"]["charge"]
    return [
        root, middle, leaf, first, second, bought,
        world.event("action.performed", token=second, source="conductor", at=at[6]),
        *(
            world.event(f"resource.{done}", grant=leaf, at=when,
                        action={"provider": "cloud", "account": account, "target": {"type": "bucket", "id": "b-1"}})
            for done, when, account in (("provisioned", at[7], "acct-1"), ("provisioned", at[9], "acct-2"), ("removed", at[8], ""))
        ),
        world.event("action.performed", source="conductor", at=at[6], actor=helper, principal=ada),
        world.event("payment.settled", source="conductor", at=at[7], grant=root,
                    money={"amount_minor": 900, "currency": "USD", "phase": "settled", "rail": "stripe", "charge": charge}),
        world.stripe_event("charge.succeeded", {"id": charge, "object": "charge", "amount": 900, "amount_captured": 900,
                           "captured": True, "currency": "usd"}, at=at[8]),
        world.stripe_event("charge.refunded", {"id": charge, "object": "charge", "amount": 900, "amount_refunded": 300,
                           "currency": "usd"}, at=at[9]),
        world.event("payment.captured", grant=middle, at=at[10],
                    money={"amount_minor": 250, "currency": "EUR", "phase": "captured", "rail": "card"}),
        world.limit("raised", 9000, id="cap", holder=lead, set_by=ada, provider="registrar", at=at[11]),
        world.revoke(middle, at=at[12]),
        world.revoke_token(second, at=at[13]),
        world.event("action.performed", grant="grant_nobody_spoke_of", at=at[14], actor=lead, principal=ada),
        world.grant(lead, helper, id=leaf.id, parent=root, at=at[15]),  # says something else under a known id
    ]  # fmt: skip


numbers = iter(range(1, 1_000_000))


def fresh_world(now):
    tenant = add_tenant(f"p{os.getpid()}-{next(numbers)}", now=now)
    # One pepper for all: event ids are then the same in every tenant, and can be compared.
    tenant.pepper = b"\x01" * 32
    tenant.save()
    world = TenantWorld(tenant, now=now)
    ids: Counter[str] = Counter()

    def new_id(prefix):
        """The same in every tenant, so that projections of two can be compared."""
        ids[prefix] += 1
        return f"{prefix}-{ids[prefix]}"

    world.new_id = new_id
    sources(world)
    return world


def run(now, order, batches):
    """Send the stream in `order` (with repeats), projecting in steps of the given sizes."""
    world = fresh_world(now)
    stream = a_stream(world)
    sizes = iter(batches)
    for place in order:
        world.send(stream[place])
        if (size := next(sizes, 0)) and place % 3 == 0:
            project(world.row, now=now, limit=size)
    world.project()
    return world


@pytest.fixture
def expected(database, now):
    count = len(a_stream(fresh_world(now)))
    return snapshot(run(now, range(count), []).row)


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_any_repeats_and_any_batches_give_the_same_projections(expected, now, data):
    count = 20
    order = data.draw(st.permutations(range(count)))
    repeats = data.draw(st.lists(st.integers(0, count - 1), max_size=8))
    batches = data.draw(st.lists(st.integers(0, 5), max_size=25))

    world = run(now, [*order, *repeats], batches)

    assert snapshot(world.row) == expected
    # And the same fold from zero gives the same rows to the last column.
    before = snapshot(world.row, ignoring={"generation"})
    rebuild(world.row, now=now)
    assert snapshot(world.row, ignoring={"generation"}) == before


def test_the_stream_is_not_trivial(expected):
    rows = {table: len(found) for table, (_, found) in expected.items()}

    assert rows == {"event": 20, "party": 4, "grant": 3, "token": 2, "limit": 2, "charge": 2, "holding": 2}


def test_a_child_before_its_parent_is_incomplete_until_the_parent_comes(world):
    sources(world)
    ada, lead, buyer = (
        world.human("ada", issuer="https://id"),
        world.agent("lead", issuer="https://c"),
        world.agent("b", issuer="https://c"),
    )
    root = world.grant(ada, lead, redelegate=True)
    child = world.grant(lead, buyer, parent=root)
    act = world.event("action.performed", grant=child, principal=None)

    world.send(child, act)
    world.project()
    before = Event.objects.get(tenant=world.row, type="action.performed")
    world.send(root)
    world.project()
    after = Event.objects.get(tenant=world.row, type="action.performed")

    assert (before.chain_complete, before.principal) == (False, "")
    assert (after.chain_complete, after.principal, after.chain_depth) == (True, "https://id|ada", 2)
    assert not after.principal_claimed


def test_a_parent_that_comes_last_completes_all_below_it_in_a_fixed_number_of_queries(
    world, django_assert_max_num_queries
):
    sources(world)
    ada, lead = world.human("ada", issuer="https://id"), world.agent("lead", issuer="https://c")
    root = world.grant(ada, lead, redelegate=True)
    children = [
        world.grant(lead, world.agent(f"a{n}", issuer="https://c"), parent=root, principal=None) for n in range(120)
    ]
    world.send(*children, *(world.event("action.performed", grant=child, principal=None) for child in children))
    world.project()

    world.send(root)
    with django_assert_max_num_queries(60):
        project(world.row, now=world.now)

    assert Event.objects.filter(tenant=world.row, principal="https://id|ada", chain_complete=True).count() == 241


def test_a_cycle_of_grants_ends(world):
    sources(world)
    lead, buyer = world.agent("lead", issuer="https://c"), world.agent("b", issuer="https://c")
    one = world.grant(lead, buyer, id="one", parent="two", principal=None)
    two = world.grant(buyer, lead, id="two", parent="one", principal=None)

    world.send(one, two, world.event("action.performed", grant="one", principal=None, actor=lead))
    world.project()

    assert not Grant.objects.filter(tenant=world.row, complete=True).exists()


def test_money_seen_by_two_sources_counts_once(world):
    sources(world)
    stream = a_stream(world)

    world.send(*stream)
    world.project()

    charge = Charge.objects.get(tenant=world.row, rail="stripe")
    assert (charge.spent, charge.returned, charge.principal) == (600, 300, "https://id.acme.example|ada")


def test_failed_and_test_money_is_no_spend(world):
    sources(world)
    money = {"amount_minor": 5, "currency": "USD", "phase": "captured", "rail": "r", "charge": "c"}

    world.send(
        world.event("payment.captured", outcome="failure", money=money),
        world.event("payment.captured", environment="test", money=money),
    )
    world.project()

    assert not Charge.objects.filter(tenant=world.row).exists()


def test_kinds_are_proven_before_claimed_and_an_agent_cannot_be_called_human(world):
    from auditlog.reads.parties import kinds_of

    world.source("tokens", "https://tokens.example", speaks_for=["https://tokens.example"])
    world.source("bots", "https://bots.example", speaks_for=["https://bots.example"])
    bot = {"iss": "https://bots.example", "sub": "b"}

    world.send(
        world.event("action.performed", source="tokens", actor=bot | {"kind": "human"}),
        world.event("action.performed", source="bots", actor=bot | {"kind": "agent"}),
    )
    world.project()

    assert kinds_of(world.row, 1, ["https://bots.example|b"]) == {"https://bots.example|b": "agent"}
    assert Party.objects.filter(tenant=world.row).count() == 1


def test_a_token_that_arrives_after_its_use_gives_the_act_its_chain(world):
    sources(world)
    ada, lead = world.human("ada", issuer="https://id"), world.agent("lead", issuer="https://c")
    root = world.grant(ada, lead)
    token = world.token(root)
    act = world.event("action.performed", token=token, principal=None, actor=lead)

    world.send(root, act)
    world.project()
    world.send(token)
    world.project()

    event = Event.objects.get(tenant=world.row, type="action.performed")
    assert (event.via_grant, event.principal) == (root.id, "https://id|ada")
    assert Token.objects.get(tenant=world.row).via_grant == root.id


def test_a_rebuild_serves_the_old_rows_until_it_swaps(world):
    sources(world)
    world.send(*a_stream(world))
    world.project()

    assert rebuild(world.row, now=world.now) >= 17

    [state] = ProjectionState.objects.filter(tenant=world.row)
    assert state.generation == 2 and state.is_current
    assert set(Event.objects.filter(tenant=world.row).values_list("generation", flat=True)) == {2}
