"""Chains on the real road against a brute-force oracle: random grants in random order, with holes and circles."""

import itertools
import os
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.configure import add_tenant
from auditlog.models import Event, Grant
from auditlog.project import project, rebuild
from auditlog.queries import load_acts
from tests.world import TenantWorld

_numbers = itertools.count(1)
GRANTS = 8

# For each grant: its parent (None is a root; a number may be any grant, itself, or one that nobody speaks of), and
# whether anybody states it.
graphs = st.lists(st.tuples(st.none() | st.integers(0, GRANTS), st.booleans() | st.just(True)), min_size=1, max_size=GRANTS)


def expected(graph, number):
    """(principal, complete, depth) of an act under a grant, by walking parents one by one."""
    walked, current = [], number
    while True:
        if current >= len(graph) or not graph[current][1]:
            return "", False, len(walked)  # nobody spoke of it
        if current in walked:
            return "", False, len(walked)
        walked.append(current)
        if graph[current][0] is None:
            return f"https://id.example|human{current}", True, len(walked)
        current = graph[current][0]


@given(graph=graphs, data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_act_gets_the_chain_that_walking_its_parents_gives_in_any_order_of_arrival(database, now, graph, data):
    world = TenantWorld(add_tenant(f"dag{os.getpid()}-{next(_numbers)}", now=now), now=now)
    world.source("conductor", "https://conductor.example")
    events, acts = [], {}
    for number, (parent, is_stated) in enumerate(graph):
        human, agent = world.human(f"human{number}", issuer="https://id.example"), world.agent(f"agent{number}", issuer="https://bots.example")
        said = world.grant(
            human, agent, id=f"g{number}", parent=None if parent is None else f"g{parent}", root=parent is None,
            redelegate=True, at=now - timedelta(hours=9), principal=None,
        )  # fmt: skip
        if is_stated:
            events.append(said)
        acts[number] = world.event("action.performed", grant=f"g{number}", actor=agent, principal=None, at=now - timedelta(hours=1))
        events.append(acts[number])
    order = data.draw(st.permutations(events))
    for signed, size in zip(order, data.draw(st.lists(st.integers(0, 4), min_size=len(order), max_size=len(order))), strict=True):
        world.send(signed)
        if size:
            project(world.row, now=now, limit=size)
    world.project()

    for _ in range(2):
        found = {e.source_event_id: e for e in Event.objects.filter(tenant=world.row, type="action.performed").order_by("generation")}
        for number, act in acts.items():
            principal, complete, depth = expected(graph, number)
            event = found[act.jti]
            assert (event.principal, event.chain_complete) == (principal, complete)
            if complete:
                assert event.chain_depth == depth == Grant.objects.filter(tenant=world.row, id=f"g{number}").latest("generation").depth
            [loaded] = load_acts(world.row, [event.event_id]).values()
            assert loaded.path.cycle == (not complete and loaded.path.missing is None)
        rebuild(world.row, now=now)
