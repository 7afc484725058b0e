"""However a record came, in whatever batches and order, what is found is what judging all of it at once finds."""

import os
import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from auditlog.detection import caps, keys, past
from auditlog.detection import detect as rounds
from auditlog.detection.detect import detect
from auditlog.models import Finding
from auditlog.projection.project import project
from auditlog.sources.configure import add_organisation, add_tenant
from tests.support.effort import seeds
from tests.whole_record import differences
from tests.world import TenantWorld

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ID, BOTS, RAIL = "https://id.acme.example", "https://bots.example", "https://rail.example"


class Office:
    """Two humans with agents, grants that bind, and ways in which each can misbehave. Every statement is one of `kinds`."""

    def __init__(self, world: TenantWorld) -> None:
        self.world = world
        world.source("conductor", "https://conductor.example")
        world.source("rail", RAIL, layers=["money"])
        self.humans = [world.human(name, issuer=ID) for name in ("ada", "mia")]
        self.agents = [world.agent(name, issuer=BOTS) for name in ("lead", "helper", "fresh")]
        self.start = world.now - 40 * DAY
        self.roots, self.children, self.tokens = [], [], []
        for n, human in enumerate(self.humans):
            limits = [{"scope": "provider", "provider": "meter", "max_minor": 60, "currency": "USD", "interval": "day"},
                      {"scope": "global", "max_minor": 700, "currency": "USD", "interval": "month"}]  # fmt: skip
            root = world.grant(
                human, self.agents[0], id=f"root-{n}", actions=["**"], resources=["**"], redelegate=True, at=self.start, limits=limits,
                intent={"max_price_minor": 900, "currency": "USD", "quantity": 2} if n else None, gates=["purchase"] if n else None,
            )  # fmt: skip
            self.roots.append(root)
            self.children.append(
                world.grant(
                    self.agents[0],
                    self.agents[1],
                    id=f"child-{n}",
                    parent=root,
                    actions=["tensor.*", "domain.register"],
                    resources=["**"],
                    expires_in=30 * DAY,
                    at=self.start + MINUTE,
                )
            )
            self.tokens.append(world.token(self.children[n], at=self.start + 2 * MINUTE, expires_in=40 * DAY))
        self.standing = [*self.roots, *self.children, *self.tokens]

    def say(self, kind: str, who: int, at, small: int):
        world, human = self.world, self.humans[who]
        root, child, token = self.roots[who], self.children[who], self.tokens[who]
        grant, agent = (root, self.agents[0]) if small % 2 else (child, self.agents[1])
        match kind:
            case "call":
                return world.metered("tensor.embed", {"text": f"t{small % 3}"}, amount_minor=7 + small, grant=grant, at=at,
                                     client={"ip": f"192.0.{small % 2}.7", "user_agent": f"bot{'s' * (small % 3)}/1.0"})  # fmt: skip
            case "call by token":
                return world.metered("tensor.embed", {"text": f"t{small % 2}"}, amount_minor=9, token=token, actor=agent, at=at,
                                     client={"ip": f"10.{small}.0.7", "user_agent": f"x{small}/1"})  # fmt: skip
            case "buy":
                return world.registers(f"shop{small}.top", price_minor=150, grant=grant, at=at, key=f"buy-{who}-{small % 4}",
                                       request_id=f"rq-{who}-{small % 3}")  # fmt: skip
            case "pay":
                action = {
                    "verb": "plan.buy",
                    "provider": "store",
                    "target": {"type": "plan", "id": f"plan-{small % 2}"},
                }
                return world.payment("captured", 110, charge=f"ch-{who}-{small}", key=f"pay-{small % 3}", grant=grant, at=at, action=action,
                                     provider="store")  # fmt: skip
            case "hold":
                return world.payment(
                    "authorized", 300, charge=f"ch-{who}-{small}", grant=grant, at=at, provider="meter"
                )
            case "refund":
                return world.payment("refunded", 110, charge=f"ch-{who}-{small}", source="rail", at=at)
            case "settle":
                return world.payment("settled", 110, charge=f"ch-{who}-{small}", source="rail", at=at)
            case "approve":
                return world.event("approval.decided", principal=human, actor=human, at=at, request_id=f"rq-{who}-{small % 3}", mode="direct",
                                   gate={"kind": "purchase", "by": human.ref}, outcome="denied" if small % 4 == 3 else "success")  # fmt: skip
            case "limit":
                change = ("set", "raised", "lowered", "reached")[small % 4]
                return world.limit(change, 40 + 30 * small, holder=self.agents[small % 2], set_by=human if small % 3 else agent, id=f"cap-{who}",
                                   provider="meter", interval="day", principal=human, at=at)  # fmt: skip
            case "revoke":
                return world.revoke(child if small % 2 else root, at=at)
            case "revoke token":
                return world.revoke_token(token, at=at)
            case "restate":
                return world.grant(self.agents[0], self.agents[1], id=f"child-{who}", parent=root, actions=["tensor.*"], resources=["**"], at=at,
                                   expires_in=timedelta(days=small))  # fmt: skip
            case "orphan":
                return world.event("action.performed", grant=f"nobody-{small % 2}", actor=agent, principal=human, at=at,
                                   action={"verb": "worker.deploy", "provider": "cloud", "target": {"type": "worker", "id": "w"}})  # fmt: skip
            case "nobody":
                return world.payment("captured", 55, charge=f"ch-{who}-{small}", source="rail", at=at)
            case "deputy":
                return world.metered(
                    "tensor.embed",
                    {"text": "d"},
                    amount_minor=3,
                    grant=child,
                    actor=[self.agents[2], self.agents[1]],
                    at=at,
                )
        raise AssertionError(kind)


KINDS = ["call", "call by token", "buy", "pay", "hold", "refund", "settle", "approve", "limit", "revoke", "revoke token", "restate",
         "orphan", "nobody", "deputy"]  # fmt: skip
said = st.tuples(st.sampled_from(KINDS), st.integers(0, 1), st.integers(0, 7), st.integers(0, 11), st.integers(0, 40))
_numbers = iter(range(10**9))


def office(now) -> Office:
    world = TenantWorld(add_tenant(f"whole-{os.getpid()}-{next(_numbers)}", now=now), now=now)
    world.source("conductor", "https://conductor.example")
    add_organisation(world.row, "acme", issuers=[ID], owned_names=["shop.top"], now=now)
    return Office(world)


def judge_in_steps(here: Office, events, sizes) -> None:
    """Send each event, and project and judge as many leaves as `sizes` says between them; then all that is left."""
    world, clock = here.world, here.world.now
    steps = iter(sizes)
    for signed in events:
        world.send(signed, now=clock)
        for _ in range(next(steps, 0)):
            project(world.row, now=clock, limit=1 + next(steps, 3) % 5)
            detect(world.row, now=clock, limit=1 + next(steps, 3) % 7)
        clock += timedelta(seconds=next(steps, 1) * 2)
    for _ in range(4):  # what is large waits for its turn, and may be found to be large again
        clock += HOUR
        while project(world.row, now=clock) or detect(world.row, now=clock):
            pass
    here.clock = clock


# Each example walks the road, so that shrinking one would take longer than reading it.
@settings(
    max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_whatever_comes_in_whatever_order_is_judged_as_if_it_had_come_at_once(database, now, data):
    here = office(now)
    statements = data.draw(st.lists(said, min_size=1, max_size=24))
    events = [
        here.say(kind, who, here.start + timedelta(days=day, hours=hour, minutes=minute), (day * 5 + hour) % 8)
        for kind, who, day, hour, minute in statements
    ]
    events = data.draw(st.permutations([*here.standing, *events]))
    again = data.draw(st.lists(st.sampled_from(events), max_size=3))  # sent twice

    judge_in_steps(here, [*events, *again], data.draw(st.lists(st.integers(0, 9), max_size=60)))

    assert differences(here.world.row, now=here.clock) == []


def test_a_root_revoked_late_is_one_finding_that_grows_round_by_round(database, now, monkeypatch):
    monkeypatch.setattr(rounds, "BATCH", 4)
    here = office(now)
    calls = [here.say("call", 0, here.start + DAY + n * MINUTE, n % 2) for n in range(30)]
    judge_in_steps(here, [*here.standing, *calls], [])
    here.world.send(here.world.revoke(here.roots[0], at=here.start + HOUR), now=here.clock)
    project(here.world.row, now=here.clock)
    sizes = []
    while detect(here.world.row, now=here.clock, limit=4):
        found = Finding.objects.filter(tenant=here.world.row, rule="authority.used_after_revocation")
        sizes += [row.events_total for row in found]

    assert sizes == sorted(sizes) and len(set(sizes)) > 3 and sizes[-1] == 30
    assert found.get().members.count() == 30
    assert differences(here.world.row, now=here.clock + HOUR) == []


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_party_of_which_it_is_told_late_that_it_is_a_human_is_judged_as_one(database, now, place):
    here = office(now)
    eve = here.world.human("eve", issuer=ID)
    said = {
        "holder": eve,
        "set_by": eve,
        "id": "own",
        "provider": "meter",
        "principal": eve,
        "actor": None,
        "mode": None,
    }
    limits = [
        here.world.limit("set", 100, at=here.start, **said),
        here.world.limit("raised", 900, at=here.start + HOUR, **said),
    ]
    known = here.world.event("session.started", actor=eve, principal=eve, at=here.start + DAY)

    judge_in_steps(here, [*limits[:place], known, *limits[place:], *here.standing], [1, 9, 9] * 12)

    assert differences(here.world.row, now=here.clock) == []


def test_a_name_that_is_said_to_be_owned_later_is_looked_for_in_what_was_registered(database, now, monkeypatch):
    monkeypatch.setattr(rounds, "BATCH", 2)
    here = office(now)
    judge_in_steps(
        here,
        [
            *here.standing,
            here.say("buy", 0, here.start + DAY, 5),
            *(here.say("call", 0, here.start + DAY, n) for n in range(5)),
        ],
        [],
    )
    assert not Finding.objects.filter(tenant=here.world.row, rule="squatting.lookalike").exists()

    add_organisation(
        here.world.row, "globex", issuers=["https://id.globex.example"], owned_names=["shop5.com"], now=here.clock
    )
    while project(here.world.row, now=here.clock) or detect(here.world.row, now=here.clock):
        pass

    assert Finding.objects.filter(tenant=here.world.row, rule="squatting.lookalike", state="open").exists()
    assert differences(here.world.row, now=here.clock + HOUR) == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_grant_that_comes_after_the_raise_leaves_the_raise_found(database, now, place):
    here = office(now)
    agent, human = here.agents[1], here.humans[0]
    limits = [here.world.limit(change, amount, holder=here.agents[0], set_by=setter, id="cap", provider="meter", at=here.start + at * HOUR,
                               principal=human, source="conductor")
              for change, amount, setter, at in (("set", 100, human, 1), ("raised", 900, agent, 2))]  # fmt: skip
    late = [here.roots[0], here.children[0]]
    events = [*late[:place], *limits, *late[place:]]

    judge_in_steps(here, events, [1, 9, 9] * len(events))

    assert differences(here.world.row, now=here.clock) == []


def stream(here: Office, rng: random.Random, count: int) -> list:
    """A busy month: bursts of alike statements, as loops and campaigns are, among single ones; a few of them late or sent twice."""
    events = []
    while len(events) < count:
        kind, who, day, minute = rng.choice(KINDS), rng.randrange(2), rng.randrange(8), rng.randrange(1200)
        small = rng.randrange(8)
        for n in range(rng.choice((1, 1, 1, 2, 6))):
            at = here.start + timedelta(days=day, minutes=minute + n * rng.choice((0, 1, 1, 7)), seconds=n)
            events.append(here.say(kind, who, at, small if rng.random() < 0.7 else rng.randrange(8)))
    return events


@pytest.mark.parametrize("order", ["as it happened", "a few late", "anyhow", "backwards"])
@pytest.mark.parametrize("seed", seeds(1, int(os.environ.get("STREAMS", "2"))))
def test_a_busy_month_is_judged_as_if_it_had_come_at_once(database, now, seed, order, monkeypatch):
    if (seed + len(order)) % 2:  # as if all of it were large
        for room in (past, caps, keys):
            monkeypatch.setattr(room, "BIG", 4)
        monkeypatch.setattr(rounds, "BATCH", 3)
    rng = random.Random(f"{seed} {order}")
    here = office(now)
    events = sorted([*here.standing, *stream(here, rng, 60)], key=lambda signed: signed.at)
    if order == "anyhow":
        rng.shuffle(events)
    elif order == "backwards":
        events.reverse()
    elif order == "a few late":
        late = [events.pop(rng.randrange(len(events))) for _ in range(6)]
        for signed in late:
            events.insert(rng.randrange(len(events) + 1), signed)
    events += rng.sample(events, 3)

    judge_in_steps(here, events, [rng.randrange(10) for _ in range(400)])

    assert differences(here.world.row, now=here.clock) == []


@pytest.mark.parametrize("order", ["as it happened", "a few late", "anyhow", "backwards"])
@pytest.mark.parametrize("seed", seeds(1, int(os.environ.get("STREAMS", "2"))))
def test_loops_in_turn_and_in_other_words_are_judged_as_if_they_had_come_at_once(
    database, now, seed, order, monkeypatch
):
    monkeypatch.setattr(past, "EDGE", 4)  # so that most of what is linked lies beyond what is read at first
    rng = random.Random(f"loops {seed} {order}")
    here = office(now)
    world, at, events = here.world, here.start + DAY, []
    for _ in range(rng.randrange(4, 9)):
        who, period, many = rng.randrange(2), rng.choice((1, 1, 2, 3, 4, 6)), rng.randrange(2, 12)
        words = rng.random() < 0.3
        for n in range(many):
            at += timedelta(seconds=rng.choice((5, 30, 30, 500, 2_000)))
            grant = (here.roots, here.children)[rng.randrange(2)][who]
            args = (
                {"text": f"w{rng.random()}"} if words else {"text": f"t{n % period}", "request_id": f"r{rng.random()}"}
            )
            events.append(world.metered("tensor.embed", args, amount_minor=rng.choice((2, 40, 120)), grant=grant, at=at,
                                        **({"task": f"k{rng.randrange(2)}"} if rng.random() < 0.1 else {})))  # fmt: skip
        at += timedelta(minutes=rng.choice((0, 1, 90, 500)))
    events = [*here.standing, *events]
    if order == "anyhow":
        rng.shuffle(events)
    elif order == "backwards":
        events.reverse()
    elif order == "a few late":
        for signed in [events.pop(rng.randrange(len(events))) for _ in range(6)]:
            events.insert(rng.randrange(len(events) + 1), signed)

    judge_in_steps(here, events, [rng.randrange(10) for _ in range(200)])

    assert differences(here.world.row, now=here.clock) == []
    assert Finding.objects.filter(tenant=world.row, rule="spend.retry_loop").exists()
