"""Chains on the real road against a brute-force oracle: random grants in random order, with holes and circles."""

import itertools
import os
from datetime import timedelta
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.models import Event, Grant
from auditlog.projection.project import project, rebuild
from auditlog.reads.access import Viewer
from auditlog.reads.acts import load_acts
from auditlog.reads.reach import Start, descendants, leaves_under
from auditlog.sources.configure import add_tenant
from tests.integration.test_project import snapshot
from tests.world import TenantWorld

_numbers = itertools.count(1)
GRANTS = 8

# For each grant: its parent (None is a root; a number may be any grant, itself, or one that nobody speaks of), and
# whether anybody states it.
graphs = st.lists(
    st.tuples(st.none() | st.integers(0, GRANTS), st.booleans() | st.just(True)), min_size=1, max_size=GRANTS
)


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
        human, agent = (
            world.human(f"human{number}", issuer="https://id.example"),
            world.agent(f"agent{number}", issuer="https://bots.example"),
        )
        said = world.grant(
            human, agent, id=f"g{number}", parent=None if parent is None else f"g{parent}", root=parent is None,
            redelegate=True, at=now - timedelta(hours=9), principal=None,
        )  # fmt: skip
        if is_stated:
            events.append(said)
        acts[number] = world.event(
            "action.performed", grant=f"g{number}", actor=agent, principal=None, at=now - timedelta(hours=1)
        )
        events.append(acts[number])
    order = data.draw(st.permutations(events))
    for signed, size in zip(
        order, data.draw(st.lists(st.integers(0, 4), min_size=len(order), max_size=len(order))), strict=True
    ):
        world.send(signed)
        if size:
            project(world.row, now=now, limit=size)
    world.project()

    for _ in range(2):
        found = {
            e.source_event_id: e
            for e in Event.objects.filter(tenant=world.row, type="action.performed").order_by("generation")
        }
        for number, act in acts.items():
            principal, complete, depth = expected(graph, number)
            event = found[act.jti]
            assert (event.principal, event.chain_complete) == (principal, complete)
            if complete:
                assert (
                    event.chain_depth
                    == depth
                    == Grant.objects.filter(tenant=world.row, id=f"g{number}").latest("generation").depth
                )
            [loaded] = load_acts(world.row, [event.event_id]).values()
            assert loaded.path.cycle == (not complete and loaded.path.missing is None)
        rebuild(world.row, now=now)


# --- tokens and grants, mixed -------------------------------------------------------------------------------------------

TOKENS = 6


def exchanges(rng):
    """For each token: the one it was exchanged from (any, itself, or one that nobody speaks of), the grant it names
    (likewise), and whether anybody states it. Mostly a line, so that what is inherited has far to go.
    """
    parents = [
        rng.choice([number - 1] * 7 + [None, rng.randint(0, TOKENS)])
        if number
        else rng.choice([None, None, TOKENS - 1])
        for number in range(TOKENS)
    ]
    return [
        (parent, rng.randint(0, 4) if rng.random() < (0.2 if number else 0.8) else None, rng.random() < 0.9)
        for number, parent in enumerate(parents)
    ]


def answering(tokens, number):
    """The grant behind a token: its own, else that of the nearest one it was exchanged from. None: nobody says."""
    seen = set()
    while number is not None and number < len(tokens) and number not in seen and tokens[number][2]:
        if tokens[number][1] is not None:
            return tokens[number][1]
        seen.add(number)
        number = tokens[number][0]
    return None


def below(graph, tokens, start):
    """The grants and tokens under a grant, by asking each one whether walking up from it leads there."""
    grants = {start}
    for _ in graph:
        grants |= {n for n, (parent, is_stated) in enumerate(graph) if is_stated and parent in grants}
    under = {n for n, (_, grant, is_stated) in enumerate(tokens) if is_stated and answering(tokens, n) in grants}
    for _ in tokens:
        under |= {n for n, (parent, _, is_stated) in enumerate(tokens) if is_stated and parent in under}
    return grants, under


@given(
    graph=st.lists(st.tuples(st.none() | st.integers(0, 4), st.booleans() | st.just(True)), min_size=1, max_size=4),
    tokens=st.integers(0, 2**32).map(lambda seed: exchanges(Random(seed))),
    data=st.data(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_acts_by_token_are_under_the_grant_that_walking_up_finds_in_any_order_and_after_a_rebuild(
    database, now, graph, tokens, data
):
    world = TenantWorld(add_tenant(f"mix{os.getpid()}-{next(_numbers)}", now=now), now=now)
    world.source("conductor", "https://conductor.example")
    human, agent = (
        world.human("human", issuer="https://id.example"),
        world.agent("agent", issuer="https://bots.example"),
    )
    events, acts, at = [], {}, now - timedelta(hours=9)
    for number, (parent, is_stated) in enumerate(graph):
        said = world.grant(
            human,
            agent,
            id=f"g{number}",
            parent=None if parent is None else f"g{parent}",
            redelegate=True,
            at=at,
            principal=None,
        )
        events += [said] * is_stated
    for number, (parent, grant, is_stated) in enumerate(tokens):
        said = {
            "jti": f"t{number}",
            "parent_jti": None if parent is None else f"t{parent}",
            "grant": None if grant is None else f"g{grant}",
        }
        told = world.event(
            "token.issued",
            token={name: value for name, value in said.items() if value},
            principal=None,
            actor=agent,
            at=at,
        )
        events += [told] * is_stated
        acts[number] = world.event(
            "action.performed", token=f"t{number}", actor=agent, principal=None, at=now - timedelta(hours=1)
        )
        events.append(acts[number])
    events += [world.event("token.revoked", token={"jti": "t0"}, principal=None, at=now - timedelta(hours=2))]
    for signed in data.draw(st.permutations(events)):
        world.send(signed)
        if size := data.draw(st.integers(0, 3)):
            project(world.row, now=now, limit=size)
    world.project()
    viewer = Viewer(world.row, "security", "test")

    for _ in range(2):
        found = {
            e.source_event_id: e.via_grant for e in Event.objects.filter(tenant=world.row, type="action.performed")
        }
        assert found == {act.jti: "" if (via := answering(tokens, n)) is None else f"g{via}" for n, act in acts.items()}
        for start in range(len(graph)):
            grants, under = below(graph, tokens, start)
            led = {
                (row["kind"], row["id"]) for row in descendants(viewer, Start("grant", f"g{start}"), after="", size=100)
            }
            stated = {f"g{n}" for n in grants if n < len(graph) and graph[n][1]}
            assert led == {("grant", grant) for grant in stated} | {("token", f"t{n}") for n in under}
            acted = set(leaves_under(viewer, Start("grant", f"g{start}"), before=None, size=100))
            shown = {
                e.leaf_index
                for e in Event.objects.filter(tenant=world.row, source_event_id__in=[acts[n].jti for n in under])
            }
            assert shown <= acted
        before = snapshot(world.row)
        rebuild(world.row, now=now)
        assert snapshot(world.row) == before
