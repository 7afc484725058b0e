"""Rules about authority against chains by the thousand: silent on every valid one, and on every single mutation not."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from auditlog.models import Finding
from tests.chains import MUTATIONS, say, valid_chain

MANY = [200, pytest.param(1_000, marks=pytest.mark.slow)]


@pytest.fixture
def open_world(world):
    world.source("conductor", "https://conductor.example")
    return world


def findings_by_chain(world, events_of):
    """What stands after everything arrived, by the chain that it is about."""
    world.settle(after=timedelta(hours=2))
    owner = {str(a.event_id): number for number, appended in events_of.items() for a in appended}
    found = {}
    for finding in Finding.objects.filter(tenant=world.row).exclude(state="withdrawn"):
        for number in {owner[str(event_id)] for event_id in finding.event_ids}:
            found.setdefault(number, []).append(finding)
    return found


def send_shuffled(world, rng, chains):
    """All events of all chains in one random order: children before parents, revocations before grants."""
    told = [(number, signed) for number, events in chains.items() for signed in events]
    rng.shuffle(told)
    appended = world.send_together([signed for _, signed in told])
    events_of = {}
    for (number, _), done in zip(told, appended, strict=True):
        events_of.setdefault(number, []).append(done)
    return events_of


@pytest.mark.parametrize("many", MANY)
def test_valid_chains_raise_nothing(open_world, many):
    rng = random.Random(7)
    chains = {number: say(open_world, valid_chain(rng, number))[0] for number in range(many)}

    found = findings_by_chain(open_world, send_shuffled(open_world, rng, chains))

    assert {number: [(f.rule, f.title) for f in some] for number, some in found.items()} == {}


@pytest.mark.parametrize("many", MANY)
def test_every_single_mutation_of_many_chains_is_caught_by_its_rule(open_world, many):
    rng = random.Random(11)
    chains, wanted = {}, {}
    number = 0
    while len(wanted) < many:
        plan = valid_chain(rng, number)
        mutation = MUTATIONS[number % len(MUTATIONS)]
        rule = mutation(rng, plan)
        number += 1
        if rule is not None:
            chains[plan.number] = say(open_world, plan)[0]
            wanted[plan.number] = (mutation.__name__, rule)

    found = findings_by_chain(open_world, send_shuffled(open_world, rng, chains))

    missed = {n: how for n, how in wanted.items() if how[1] not in {f.rule for f in found.get(n, ())}}
    assert missed == {}, Counter(name for name, _ in missed.values())
    assert set(Counter(name for name, _ in wanted.values())) == {m.__name__ for m in MUTATIONS}
