"""Names and accounts in bulk, on the real road: whose they are, what is one cluster, and what is none."""

import os
import random
from datetime import timedelta

import pytest

from auditlog.detection import names as engine
from auditlog.detection.detect import detect
from auditlog.models import Finding
from auditlog.projection.project import project
from auditlog.sources.configure import add_organisation, add_tenant
from tests.support.effort import seeds
from tests.whole_record import differences
from tests.world import TenantWorld

ID, BOTS = "https://id.acme.example", "https://bots.example"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_numbers = iter(range(10**9))


@pytest.fixture
def desk(world):
    world.source("conductor", "https://conductor.example")
    add_organisation(world.row, "acme", issuers=[ID], owned_names=["acmecorp.com"], now=world.now)
    for mark in ("globex", "initech", "hooli", "umbrella corp"):
        name = mark.split()[0]
        add_organisation(world.row, name, issuers=[f"https://{name}.example"], owned_names=[mark], now=world.now)
    world.people = [world.human(f"user-{n}", issuer=ID) for n in range(60)]
    world.bots = [world.agent(f"bot-{n}", issuer=BOTS) for n in range(60)]
    world.at = world.now - 20 * DAY
    return world


def granted(world, person, bot, **more):
    grant = world.grant(person, bot, actions=["**"], resources=["**"], redelegate=True, at=world.at - DAY, **more)
    world.send(grant)
    return grant


def bought(world, grant, name, at, **more):
    return world.registers(name, price_minor=99, grant=grant, at=at, **more)


def found(world, rule):
    world.settle()
    return list(Finding.objects.filter(tenant=world.row, rule=rule).exclude(state="withdrawn").order_by("id"))


def test_sixty_new_accounts_with_one_name_each_under_one_agent_are_one_finding(desk):
    grants = [granted(desk, person, desk.bots[0]) for person in desk.people]
    desk.send(
        *(
            bought(desk, g, f"{w}.top", desk.at + n * 10 * MINUTE)
            for n, (g, w) in enumerate(zip(grants, WORDS, strict=False))
        )
    )

    [finding] = found(desk, "squatting.bulk_registration")
    assert finding.events_total == 60 and (finding.principal, finding.actor) == ("", f"{BOTS}|bot-0")


def test_a_flood_of_one_principal_is_no_sign_against_another_whom_the_same_agent_serves(desk):
    flooding, ordinary = (granted(desk, person, desk.bots[0]) for person in desk.people[:2])
    desk.send(*(bought(desk, flooding, f"{word}.top", desk.at + n * MINUTE) for n, word in enumerate(WORDS)))
    desk.send(*(bought(desk, ordinary, f"quillwork{ending}", desk.at + 9 * MINUTE) for ending in (".com", "-shop.com")))

    [finding] = found(desk, "squatting.bulk_registration")
    assert finding.events_total == len(WORDS) and finding.principal == f"{ID}|user-0"


@pytest.mark.parametrize("bots", [1, 5, 50])
def test_a_cluster_over_many_agents_of_one_root_is_one_finding_by_its_fifth_name(desk, bots):
    root = granted(desk, desk.people[0], desk.bots[0])
    below = [
        desk.grant(desk.bots[0], bot, parent=root, actions=["**"], resources=["**"], at=desk.at - HOUR)
        for bot in desk.bots[1 : bots + 1]
    ]
    desk.send(*below)
    several = [
        bought(desk, below[n % bots], f"bbsp{625 + n}.top", desk.at + n * 40 * MINUTE, account=f"account-{n % bots}")
        for n in range(12)
    ]
    desk.send(*several[:5])
    [early] = found(desk, "squatting.bulk_registration")
    desk.send(*several[5:])
    [late] = found(desk, "squatting.bulk_registration")

    assert early.pk == late.pk and (early.events_total, late.events_total) == (5, 12)


def test_look_alikes_of_several_marks_by_one_agent_in_two_weeks_are_one_campaign(desk):
    grant = granted(desk, desk.people[0], desk.bots[0])
    close = ["globex-login.com", "initech.org", "hooli-mail.top", "umbrellacorp.cc", "g1obex.net"]
    desk.send(*(bought(desk, grant, name, desk.at + n * 3 * DAY) for n, name in enumerate(close)))

    [finding] = found(desk, "squatting.campaign")
    assert finding.events_total == 5 and finding.evidence["marks"] == ["globex", "hooli", "initech", "umbrella corp"]
    assert found(desk, "squatting.bulk_registration") == []


def test_two_names_close_to_marks_and_many_by_strangers_to_each_other_are_no_campaign(desk):
    grants = [granted(desk, person, bot) for person, bot in zip(desk.people[:4], desk.bots[:4], strict=True)]
    close = ["globex-login.com", "initech.org", "hooli-mail.top", "umbrellacorp.cc"]
    desk.send(*(bought(desk, grant, name, desk.at) for grant, name in zip(grants, close, strict=True)))
    desk.send(bought(desk, grants[0], "initech.cc", desk.at + DAY))

    assert found(desk, "squatting.campaign") == []


def test_names_that_look_like_ones_own_mark_are_defensive_and_count_for_nothing(desk):
    grant = granted(desk, desk.people[0], desk.bots[0])
    own = [f"acmecorp.{ending}" for ending in ("net", "org", "de", "io", "co.uk", "shop", "xyz")]
    own += [
        f"{name}.com"
        for name in ("acmecorp-login", "acmecorp24", "acmecorp25", "acmecorp26", "acmec0rp", "my-acmecorp", "acmcorp")
    ]
    desk.send(*(bought(desk, grant, name, desk.at + n * 5 * MINUTE) for n, name in enumerate(own)))

    for rule in ("squatting.bulk_registration", "squatting.campaign", "squatting.lookalike"):
        assert found(desk, rule) == []


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("resource.provisioned", {"provider": "mail", "target": {"type": "mailbox", "id": "support{}@quill.example"}}),
        ("account.created", {"provider": "forum", "account": "writer-{}"}),
        (
            "action.performed",
            {"verb": "package.publish", "provider": "registry", "target": {"type": "package", "id": "left{}pad"}},
        ),
    ],
)
def test_many_mailboxes_accounts_or_packages_are_one_finding_also_free_ones(desk, kind, action):
    grant = granted(desk, desk.people[0], desk.bots[0])

    def filled(value, n):
        return {k: filled(v, n) for k, v in value.items()} if isinstance(value, dict) else value.format(n)

    desk.send(
        *(desk.event(kind, grant=grant, action=filled(action, n), at=desk.at + n * 9 * MINUTE) for n in range(30))
    )

    [finding] = found(desk, "squatting.bulk_provisioning")
    assert finding.events_total == 30 and finding.money_at_risk_minor is None


def test_a_few_accounts_a_week_and_machines_by_the_hundred_are_ordinary(desk):
    grant = granted(desk, desk.people[0], desk.bots[0])
    weekly = [
        desk.event(
            "account.created",
            grant=grant,
            action={"provider": "cloud", "account": f"team-{n}"},
            at=desk.at + n * 2 * DAY,
        )
        for n in range(8)
    ]
    machines = [
        desk.event("resource.provisioned", grant=grant, at=desk.at + n * MINUTE,
                   action={"provider": "cloud", "target": {"type": "instance", "id": f"i-{n}"}})
        for n in range(60)
    ]  # fmt: skip
    desk.send(*weekly, *machines)

    assert found(desk, "squatting.bulk_provisioning") == []


@pytest.mark.parametrize("seed", seeds(1, 4))
@pytest.mark.parametrize("most", [5_000, 12])
def test_crowds_of_names_are_judged_as_if_they_had_come_at_once(database, now, seed, most, monkeypatch):
    """Over several principals, agents and keys, late and out of order, with what is large waiting for its turn."""
    monkeypatch.setattr(engine, "MOST", most)
    random_ = random.Random(seed)
    world = TenantWorld(add_tenant(f"crowd-{os.getpid()}-{next(_numbers)}", now=now), now=now)
    world.source("conductor", "https://conductor.example")
    add_organisation(
        world.row, "globex", issuers=["https://globex.example"], owned_names=["globex", "initech", "hooli"], now=now
    )
    people = [world.human(f"user-{n}", issuer=ID) for n in range(4)]
    bots = [world.agent(f"bot-{n}", issuer=BOTS) for n in range(3)]
    start = world.now - 150 * DAY
    grants = [
        world.grant(
            person,
            bot,
            actions=["**"],
            resources=["**"],
            at=start,
            intent={"targets": ["bet9.info"]} if bot is bots[0] else None,
        )
        for person in people
        for bot in bots
    ]
    events = []
    for _ in range(8):
        at, pattern = start + random_.random() * 140 * DAY, random_.choice(PATTERNS)
        mine = random_.sample(grants, random_.choice([1, 1, 3, 6]))
        every = random_.choice([MINUTE, 20 * MINUTE, 5 * HOUR, 2 * DAY])
        for n in range(random_.choice([2, 5, 9, 20])):
            name = pattern.format(n=n, word=random_.choice(WORDS))
            events.append(bought(world, random_.choice(mine), name, at + n * every))
    for n in range(20):
        events.append(world.event("account.created", grant=random_.choice(grants[:2]), at=start + 9 * DAY + n * HOUR,
                                  action={"provider": "forum", "account": f"writer-{n}"}))  # fmt: skip
    events += grants if seed % 2 else []
    random_.shuffle(events)
    clock = world.now
    for signed in ([] if seed % 2 else grants) + events:
        world.send(signed, now=clock)
        if random_.random() < 0.3:
            project(world.row, now=clock)
            detect(world.row, now=clock, limit=random_.choice([1, 5, 50]))
        clock += timedelta(seconds=2)
    for _ in range(4):
        clock += HOUR
        while project(world.row, now=clock) or detect(world.row, now=clock):
            pass

    rules = {f.rule for f in Finding.objects.filter(tenant=world.row).exclude(state="withdrawn")}
    assert "squatting.bulk_registration" in rules
    assert differences(world.row, now=clock) == []


PATTERNS = (
    "bet{n}.info",
    "w{n}xt.top",
    "{word}-loans-{n}.bond",
    "{word}{word}.com",
    "globex-{word}.com",
    "initech{n}.net",
    "hooli-{word}.org",
)
WORDS = (
    "amber anvil apron atlas badge bagel baker basil beach birch bison blaze bloom bonsai brick brook cabin camel candle canyon cedar "
    "chalk cherry cinder clover cobalt comet copper coral cotton crane cricket crystal daisy dune eagle ember falcon feather fern "
    "fjord flint forest fox garnet ginger glacier grape gravel harbor hazel heron holly indigo ivory jade jasmine juniper kelp lagoon "
    "lantern lava lemon lilac linen lotus"
).split()
