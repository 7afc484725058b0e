"""Money seen twice on the real road: the same charges in any order of arrival, in any batches, and after a rebuild."""

import random as chance
from datetime import timedelta

from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.join import MANY
from auditlog.core.money import charges
from auditlog.models import Charge, ProjectionState
from auditlog.payments import fact_of, rows_where
from auditlog.project import project, rebuild
from tests.integration.test_project import fresh_world

SOURCES = ("conductor", "maestro", "books")
MONEY = st.builds(
    dict, source=st.sampled_from(SOURCES), amount=st.sampled_from([500, 700]), phase=st.sampled_from(["authorized", "captured", "settled", "refunded"]),
    key=st.sampled_from(["", "k", "l"]), request=st.sampled_from(["", "r"]), ray=st.sampled_from(["", "", "r"]), invoice=st.sampled_from(["", "i"]),
    charge=st.sampled_from(["", "x", "y"]), rail=st.sampled_from(["stripe", "card"]), currency=st.sampled_from(["USD", "USD", "EUR"]),
)  # fmt: skip


def told(world, n, *, source, amount, phase, key, request, ray, invoice, charge, rail, currency):
    money = {"amount_minor": amount, "currency": currency, "phase": phase, "rail": rail, "charge": charge, "invoice": invoice}
    return world.event(
        f"payment.{phase}", source=source, at=world.now - timedelta(minutes=60 - n), money={k: v for k, v in money.items() if v != ""},
        action={"provider": "cloud"} if n % 2 else None, call={"idempotency_key": key} if key else None,
        request_id=request or None, client={"ray_id": ray} if ray else None,
    )  # fmt: skip


def a_world(now):
    world = fresh_world(now)
    world.source("conductor", "https://conductor.example")
    world.source("maestro", "https://maestro.example")
    world.source("books", "https://books.example", layers=["orchestration"])  # what it says of money is claimed
    return world


def kept(world):
    generation = ProjectionState.objects.get(tenant=world.row, is_current=True).generation
    rows = Charge.objects.filter(tenant=world.row, generation=generation)
    return sorted((r.rail, r.charge, r.currency, r.taken_minor, r.returned_minor, r.authorized_minor, r.has_spend, str(r.lead), r.at, sorted(map(str, r.joined))) for r in rows)


def by_the_one_function(world):
    generation = ProjectionState.objects.get(tenant=world.row, is_current=True).generation
    facts = [fact_of(row) for row in rows_where([world.row.pk, generation], "true", {})]
    return sorted((c.rail, c.charge, c.currency, c.taken_minor, c.returned_minor, c.authorized_minor, c.has_spend, c.lead, c.at, sorted(c.joined)) for c in charges(facts))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MONEY, min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_charges_are_what_the_spend_function_says_of_all_statements_whatever_their_order(database, now, many, random):
    first, second = a_world(now), a_world(now)
    events = {world: [told(world, n, **one) for n, one in enumerate(many)] for world in (first, second)}
    order = list(range(len(many)))
    random.shuffle(order)
    for place in order:
        first.send(events[first][place])
        if random.random() < 0.5:
            project(first.row, now=now)
    first.project()
    second.send(*events[second])
    second.project()

    assert kept(first) == by_the_one_function(first)
    strip = [row[:-3] for row in kept(first) if not row[1].startswith("event:")]
    assert strip == [row[:-3] for row in kept(second) if not row[1].startswith("event:")]
    before = kept(first)
    rebuild(first.row, now=now)
    assert kept(first) == before


def test_a_second_payment_under_the_key_takes_the_join_back_and_money_counts_apart(database, now):
    world = a_world(now)
    common = {"amount": 500, "phase": "captured", "key": "k", "request": "", "ray": "", "invoice": "", "rail": "stripe", "currency": "USD"}
    world.send(told(world, 1, source="conductor", charge="", **common), told(world, 3, source="maestro", charge="ch_1", **common))
    world.project()
    [one] = Charge.objects.filter(tenant=world.row)
    assert one.taken_minor == 500 and len(one.joined) == 2

    world.send(told(world, 5, source="conductor", charge="", **common))
    world.project()

    assert sorted(c.taken_minor for c in Charge.objects.filter(tenant=world.row)) == [500, 500, 500]


def test_a_statement_outside_its_layers_is_kept_and_counts_with_nothing(database, now):
    world = a_world(now)
    common = {"amount": 500, "phase": "captured", "key": "k", "request": "", "ray": "", "invoice": "", "rail": "stripe", "currency": "USD"}
    world.send(told(world, 1, source="books", charge="", **common), told(world, 3, source="maestro", charge="ch_1", **common))
    world.project()

    assert [c.taken_minor for c in Charge.objects.filter(tenant=world.row)] == [500, 500]


def test_a_source_that_floods_anothers_key_neither_hides_nor_doubles_what_others_tell(database, now):
    """On the road: the flood comes before, between and after, and crowds nobody out of what is read."""
    world = a_world(now)
    world.source("liar", "https://liar.example")
    common = {"phase": "captured", "key": "k", "request": "", "ray": "", "invoice": "", "rail": "stripe", "currency": "USD"}

    def flood(first):
        lies = [told(world, 2, source="liar", charge=f"lie-{first + n}", amount=1, **common) for n in range(MANY + 10)]
        world.send_together(lies)
        world.project()

    flood(0)
    world.send(told(world, 2, source="conductor", charge="", amount=500, **common))
    world.project()
    flood(1_000)
    world.send(told(world, 4, source="maestro", charge="ch_1", amount=590, **common))
    world.project()
    flood(2_000)

    charges_ = Charge.objects.filter(tenant=world.row)
    assert [(c.charge, c.taken_minor, len(c.joined)) for c in charges_.exclude(charge__startswith="lie-")] == [("ch_1", 590, 2)]
    assert sum(c.taken_minor for c in charges_) == 590 + 3 * (MANY + 10)
    assert kept(world) == by_the_one_function(world)
    before = kept(world)
    rebuild(world.row, now=now)
    assert kept(world) == before


def test_a_long_key_shared_by_hundreds_costs_a_bounded_read(database, now):
    world = a_world(now)
    common = {"amount": 500, "phase": "captured", "key": "hub", "request": "", "ray": "", "invoice": "", "rail": "stripe", "currency": "USD"}
    many = [told(world, n % 50, source="conductor", charge=f"c{n}", **common) for n in range(300)]
    chance.Random(1).shuffle(many)
    world.send_together(many)
    world.send(told(world, 3, source="maestro", charge="", **common))
    world.project()

    from auditlog.payments import payments_around

    scope = [world.row.pk, ProjectionState.objects.get(tenant=world.row, is_current=True).generation]
    [mine] = rows_where(scope, "e.source = 'maestro'", {})
    assert len(payments_around(scope, [mine]).rows) < 2 * (MANY + 2)
    assert Charge.objects.filter(tenant=world.row).count() == 301
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM projection_charge WHERE tenant_id = %s AND joined <> '{}'", [world.row.pk])
        assert cursor.fetchone() == (0,)
