"""The books on the real road: the same lines in any order of arrival, in any batches, and after a rebuild."""

from datetime import timedelta

from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.amount import whole
from auditlog.core.money.books import books
from auditlog.core.money.join import MANY
from auditlog.models import Charge, ProjectionState
from auditlog.projection.payments import fact_of, rows_where
from auditlog.projection.project import project, rebuild
from tests.integration.test_project import fresh_world

SOURCES = ("conductor", "maestro", "papers")
KINDS = ("payment.authorized", "payment.captured", "payment.settled", "payment.refunded", "usage.metered", "domain.registered", "invoice.issued",
         "invoice.paid", "invoice.voided", "dispute.funds_withdrawn")  # fmt: skip
MONEY = st.builds(
    dict, source=st.sampled_from(SOURCES), kind=st.sampled_from(KINDS), amount=st.sampled_from([500, 500, 700]), key=st.sampled_from(["", "", "k", "l"]),
    request=st.sampled_from(["", "r"]), invoice=st.sampled_from(["", "", "i"]), charge=st.sampled_from(["", "x", "y"]), rail=st.sampled_from(["stripe", ""]),
    currency=st.sampled_from(["USD", "USD", "EUR"]), who=st.sampled_from(["ada", "ada", "bo", ""]), period=st.booleans(), thing=st.sampled_from(["", "", "balance", "vm"]),
)  # fmt: skip


def told(
    world,
    n,
    *,
    source,
    kind,
    amount,
    key="",
    request="",
    invoice="",
    charge="",
    rail="stripe",
    currency="USD",
    who="ada",
    period=False,
    thing="",
):
    money = {"amount_minor": amount, "currency": currency, "rail": rail, "charge": charge, "invoice": invoice}
    if period and kind.startswith("invoice."):
        at = (world.now - timedelta(hours=2)).timestamp()
        money["period"] = {"from": int(at), "to": int(at) + 7200}
    action = {"provider": "cloud"} | ({"target": {"type": thing, "id": f"{thing}-1"}} if thing else {})
    return world.event(
        kind, source=source, at=world.now - timedelta(minutes=60 - n), money={k: v for k, v in money.items() if v != ""}, action=action,
        principal=world.human(who, issuer="https://id.example") if who else None, call={"idempotency_key": key} if key else None, request_id=request or None,
    )  # fmt: skip


def a_world(now):
    world = fresh_world(now)
    world.source("conductor", "https://conductor.example")
    world.source("maestro", "https://maestro.example")
    world.source("papers", "https://papers.example", layers=["orchestration"])  # what it says of money is claimed
    return world


def kept(world):
    generation = ProjectionState.objects.get(tenant=world.row, is_current=True).generation
    return sorted(
        (r.rail, r.charge, r.book, r.currency, whole(r.spent), whole(r.at_most), whole(r.returned), whole(r.held), r.held_until, r.at, r.principal, r.role,
         str(r.lead), sorted(map(str, r.events)), r.is_joined)
        for r in Charge.objects.filter(tenant=world.row, generation=generation)
    )  # fmt: skip


def by_the_one_function(world):
    generation = ProjectionState.objects.get(tenant=world.row, is_current=True).generation
    lines = books(fact_of(row) for row in rows_where([world.row.pk, generation], "true", {}))
    return sorted(
        (c.rail, c.unit, c.book, c.currency, whole(c.spent), whole(c.at_most), whole(c.returned), whole(c.held), c.held_until, c.at, c.principal, c.role,
         c.lead, sorted(c.events), len(c.events) > 1)
        for c in lines
    )  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MONEY, min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_lines_are_what_the_books_say_of_all_statements_whatever_their_order(database, now, many, random):
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
    assert kept(second) == by_the_one_function(second)
    sums = [sorted((row[3], row[4], row[5], row[10]) for row in kept(world)) for world in (first, second)]
    assert sums[0] == sums[1]
    before = kept(first)
    rebuild(first.row, now=now)
    assert kept(first) == before


def test_a_second_charge_under_the_key_is_a_second_payment(database, now):
    world = a_world(now)
    common = {"kind": "payment.captured", "amount": 500, "key": "k"}
    world.send(told(world, 1, source="conductor", **common), told(world, 3, source="maestro", charge="ch_1", **common))
    world.project()
    [one] = Charge.objects.filter(tenant=world.row)
    assert one.spent == 500 and len(one.events) == 2

    world.send(told(world, 5, source="maestro", charge="ch_2", **common))
    world.project()

    lines = Charge.objects.filter(tenant=world.row)
    assert sorted(c.spent for c in lines) == [
        0,
        500,
        500,
    ]  # whose charge conductor meant, nobody says: it is one of the two
    assert sum(c.at_most for c in lines) == 1_500


def test_a_statement_outside_its_layers_is_kept_and_counts_for_nothing(database, now):
    world = a_world(now)
    common = {"kind": "payment.captured", "amount": 500, "key": "k"}
    world.send(told(world, 1, source="papers", **common), told(world, 3, source="maestro", charge="ch_1", **common))
    world.project()

    assert [c.spent for c in Charge.objects.filter(tenant=world.row)] == [500]


def test_a_source_that_floods_anothers_key_neither_hides_nor_doubles_what_others_tell(database, now):
    """On the road: the flood comes before, between and after, and crowds nobody out of what is read."""
    world = a_world(now)
    world.source("liar", "https://liar.example")
    common = {"kind": "payment.captured", "key": "k"}

    def flood(first):
        lies = [
            told(world, 2, source="liar", charge=f"lie-{first + n}", amount=1, who="", **common)
            for n in range(MANY + 10)
        ]
        world.send_together(lies)
        world.project()

    flood(0)
    world.send(told(world, 2, source="conductor", kind="domain.registered", amount=500, key="k", rail="stripe"))
    world.project()
    flood(1_000)
    world.send(told(world, 4, source="maestro", charge="ch_1", amount=590, **common))
    world.project()
    flood(2_000)

    lines = Charge.objects.filter(tenant=world.row)
    assert [(len(c.events), c.spent) for c in lines.exclude(charge__startswith="lie-")] == [(2, 590)]
    assert sum(c.spent for c in lines) == 590 + 3 * (MANY + 10)
    assert kept(world) == by_the_one_function(world)
    before = kept(world)
    rebuild(world.row, now=world.now)
    assert kept(world) == before


def test_what_was_counted_apart_until_its_key_arrived_is_one_from_then_on(database, now):
    world = a_world(now)
    world.send(told(world, 1, source="conductor", kind="domain.registered", amount=500, key="k"))
    world.send(told(world, 2, source="maestro", kind="payment.captured", amount=900, charge="c"))
    world.project()
    assert sum(c.spent for c in Charge.objects.filter(tenant=world.row)) == 1_400

    world.send(told(world, 3, source="maestro", kind="payment.settled", amount=900, charge="c", key="k"))
    world.project()

    assert [(c.spent, len(c.events)) for c in Charge.objects.filter(tenant=world.row)] == [(900, 3)]


def test_a_line_is_written_once_and_goes_when_another_takes_its_place(database, now):
    world = a_world(now)
    for n in range(6):
        world.send(told(world, n, source="conductor", kind="usage.metered", amount=100, request=f"r{n}"))
        world.project()
    world.send(told(world, 9, source="maestro", kind="invoice.paid", amount=600, invoice="i"))
    world.project()

    lines = Charge.objects.filter(tenant=world.row)
    assert (sum(c.spent for c in lines), lines.count()) == (600, 6)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM projection_charge WHERE tenant_id = %s AND NOT lead = ANY(events)", [world.row.pk]
        )
        assert cursor.fetchone() == (0,)
