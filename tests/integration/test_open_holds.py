"""What is held is decided in one place: overview, charges, party, grant, thread and limits say the same of one hold."""

from datetime import timedelta

from auditlog.core.money.exposure import exposure_at
from auditlog.reads.access import Viewer
from auditlog.reads.money import exposure_facts
from dashboard.pages.spend.charges import list_charges
from dashboard.parts.queries import spent_by, visible_charges


def said_of_it(world, now):
    """In flight as the overview says, held as the list's totals say, and as its only row says."""
    viewer = Viewer(world.row, "finance", "x")
    [total] = spent_by(visible_charges(viewer), "currency", now=now)
    page, _ = list_charges(viewer, {}, now=now)
    _, _, holds = exposure_facts(viewer)
    return exposure_at(now, [], [], holds).get("USD", 0), int(total["held"]), int(page.rows[0].held)


def test_every_page_says_the_same_of_a_hold_and_none_counts_one_that_is_over(world):
    world.source("conductor", "https://conductor.example")
    world.send(
        world.payment(
            "authorized", 700, charge="ch-1", key="k-1", source="conductor", at=world.now - timedelta(hours=1)
        )
    )
    world.settle()

    assert said_of_it(world, world.now) == (700, 700, 700)
    assert said_of_it(world, world.now + timedelta(days=8)) == (0, 0, 0)  # too old to be captured
    assert said_of_it(world, world.now - timedelta(hours=2)) == (0, 0, 0)  # not made yet


def test_a_hold_is_open_from_its_first_instant_to_just_before_its_last(world):
    world.source("conductor", "https://conductor.example")
    world.send(
        world.payment(
            "authorized", 700, charge="ch-1", key="k-1", source="conductor", at=world.now - timedelta(hours=1)
        )
    )
    world.settle()
    hold, instant = visible_charges(Viewer(world.row, "finance", "x")).get(), timedelta(microseconds=1)

    assert said_of_it(world, hold.held_from) == (700, 700, 700)
    assert said_of_it(world, hold.held_from - instant) == (0, 0, 0)
    assert said_of_it(world, hold.held_until - instant) == (700, 700, 700)
    assert said_of_it(world, hold.held_until) == (0, 0, 0)


def test_a_capture_ends_the_hold_everywhere(world):
    world.source("conductor", "https://conductor.example")
    world.send(
        world.payment(
            "authorized", 700, charge="ch-1", key="k-1", source="conductor", at=world.now - timedelta(hours=2)
        )
    )
    world.send(
        world.payment("captured", 500, charge="ch-1", key="k-2", source="conductor", at=world.now - timedelta(hours=1))
    )
    world.settle()

    assert said_of_it(world, world.now) == (0, 0, 0)
