"""What it costs to erase one event, by how many the record holds. Run with `-n 0 -s -m slow tests/benchmarks`."""

import random
import statistics
import time

import pytest

from auditlog.custody.erase import erase
from auditlog.models import Event

pytestmark = pytest.mark.slow


def test_what_one_erasure_costs_at_two_sizes_of_the_record(world):
    world.source("conductor", "https://conductor.example")
    world.source("tokens", "https://tokens.example")
    agents = [world.agent(f"agent-{n}", issuer="https://conductor.example") for n in range(50)]
    people = [world.human(f"person-{n}", issuer="https://id.example") for n in range(50)]
    grants = [
        world.grant(person, agent, actions=["**"], resources=["**"])
        for person, agent in zip(people, agents, strict=True)
    ]
    world.send(*grants)
    chance, took = random.Random(1), {}
    for size in (2_000, 20_000):
        missing = size - Event.objects.filter(tenant=world.row).count()
        world.send_together([_one(world, n, agents, grants) for n in range(missing)])
        world.project()
        leaves = list(
            Event.objects.filter(tenant=world.row, type="payment.captured").values_list("leaf_index", flat=True)
        )
        took[size] = [_time(world, leaf) for leaf in chance.sample(leaves, 9)]
        print(f"{size:,} events: one erasure in {statistics.median(took[size]) * 1000:.0f} ms (median of 9)")
    print(f"growth {statistics.median(took[20_000]) / statistics.median(took[2_000]):.2f}")


def _one(world, number, agents, grants):
    grant, money = (
        grants[number % len(grants)],
        {
            "amount_minor": 100 + number,
            "currency": "USD",
            "phase": "captured",
            "rail": "card",
            "charge": f"ch_{number}",
        },
    )
    return world.event(
        "payment.captured", source="conductor", grant=grant, money=money, actor=agents[number % len(agents)]
    )


def _time(world, leaf):
    began = time.perf_counter()
    erase(world.row, [leaf], who="dpo", why="asked", policy="p", now=world.now)
    return time.perf_counter() - began
