"""Reads over chains: blast radius, descendants, permissions, comparisons, inventory and timelines, over the API."""

from datetime import timedelta

import pytest

from tests.integration.test_api import Api, problem

ID, BOTS = "https://id.acme.example", "https://bots.example"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def desk(world):
    """Ada lets lead act, lead lets two helpers; one buys and builds, the other does nothing."""
    world.source("conductor", "https://conductor.example")
    world.source("registrar", "https://registrar.example", provider="registrar")
    world.ada = world.human("ada", issuer=ID)
    world.lead, world.busy, world.idle = (world.agent(name, issuer=BOTS) for name in ("lead", "busy", "idle"))
    world.at = world.now - timedelta(days=1)
    world.root = world.grant(
        world.ada, world.lead, actions=["**"], resources=["**"], redelegate=True, at=world.at - 5 * MINUTE
    )
    world.one = world.grant(world.lead, world.busy, actions=["domain.*", "bucket.*"], providers=["registrar", "cloud"], resources=["**"],
                            parent=world.root, at=world.at - 4 * MINUTE, cnf={"jkt": "K1"}, expires_in=timedelta(days=9))  # fmt: skip
    world.two = world.grant(
        world.lead, world.idle, actions=["mail.send"], resources=["**"], parent=world.root, at=world.at - 4 * MINUTE
    )
    world.tok = world.token(world.one, at=world.at - 3 * MINUTE, cnf={"jkt": "K1"})
    thread = {"session": "s-1", "task": "t-1", "txn": "tx-1"}
    world.bought = world.registers(
        "wonder.club", price_minor=1100, grant=world.one, token=world.tok, at=world.at, **thread
    )
    bucket = {"provider": "cloud", "account": "acct-9", "target": {"type": "bucket", "id": "b-1"}}
    world.made = world.event(
        "resource.provisioned", token=world.tok, actor=world.busy, at=world.at + MINUTE, action=bucket, **thread
    )
    world.told = world.event("action.performed", source="registrar", at=world.at + timedelta(seconds=1), txn="tx-1", principal=world.ada,
                             action={"verb": "domain.register", "target": {"type": "domain", "id": "wonder.club"}})  # fmt: skip
    world.removed = world.event(
        "resource.removed", token=world.tok, actor=world.busy, at=world.at + 9 * MINUTE, action=bucket
    )
    appended = world.send(world.root, world.one, world.two, world.tok, world.bought, world.made, world.told)
    names = ("root", "one", "two", "tok", "bought", "made", "told")
    world.ids = dict(zip(names, (str(a.event_id) for a in appended), strict=True))
    world.settle()
    world.api = Api(world.row, "security")
    return world


def test_the_blast_radius_of_a_key_counts_what_it_touched_and_what_can_be_had_back(desk):
    found = desk.api.get("reach", {"key": "K1"}).json()

    assert (found["grants"], found["tokens"], found["acts"]) == (1, 1, 4)  # its grant, its token and two acts
    assert found["providers"] == ["cloud", "registrar"] and [a["sub"] for a in found["agents"]] == ["busy", "lead"]
    assert found["spend"] == [{"currency": "USD", "amount_minor": 1100, "authorized_minor": 0}]
    held = {(h["kind"], h["id"]): (h["live"], h["recoverable"]) for h in found["holdings"]}
    assert held[("resource", "b-1")] == (True, "removable") and held[("domain", "wonder.club")][0] is True


@pytest.mark.parametrize(
    ("start", "grants", "acts"),
    [
        (lambda d: {"grant": d.root.id}, {"root", "one", "two"}, {"root", "one", "two", "tok", "bought", "made"}),
        (lambda d: {"grant": d.two.id}, {"two"}, {"two"}),
        (lambda d: {"token": d.tok.id}, set(), {"tok", "bought", "made"}),
        (lambda d: {"party": f"{BOTS}|busy"}, {"one"}, {"one", "tok", "bought", "made"}),
        (lambda d: {"party": f"{BOTS}|lead"}, {"root", "one", "two"}, {"root", "one", "two", "tok", "bought", "made"}),
    ],
)
def test_descendants_and_acts_of_a_start_are_all_below_it_and_nothing_else(desk, start, grants, acts):
    below = desk.api.rows("reach/descendants", start(desk))
    under = desk.api.rows("reach/acts", start(desk))

    ids = {getattr(desk, name).id for name in ("root", "one", "two")}
    assert {row["id"] for row in below if row["kind"] == "grant"} == {
        getattr(desk, name).id for name in grants
    } and grants | ids
    assert {name for name, event_id in desk.ids.items() if event_id in {row["id"] for row in under}} == acts


def test_pages_of_a_reach_hold_everything_once(desk):
    acts = [row["id"] for page in desk.api.walk("reach/acts", f"grant={desk.root.id}&limit=2") for row in page]
    below = [row["id"] for page in desk.api.walk("reach/descendants", f"grant={desk.root.id}&limit=2") for row in page]

    assert sorted(acts) == sorted(desk.ids[name] for name in ("root", "one", "two", "tok", "bought", "made"))
    assert sorted(below) == sorted([desk.root.id, desk.one.id, desk.two.id, desk.tok.id])


def test_a_circle_of_grants_has_an_end(desk):
    desk.send(
        desk.grant(desk.lead, desk.busy, id="ring-a", parent="ring-b", root=False),
        desk.grant(desk.busy, desk.lead, id="ring-b", parent="ring-a", root=False),
    )
    desk.settle()

    assert desk.api.get("reach", {"grant": "ring-a"}).json()["grants"] == 2


@pytest.mark.parametrize("query", [{}, {"grant": "a", "token": "b"}, {"colour": "red"}])
def test_a_reach_begins_at_exactly_one_thing(desk, query):
    problem(desk.api.get("reach", query), 400)


def test_the_matrix_shows_what_is_granted_and_used_and_what_is_granted_and_is_not(desk):
    rows = desk.api.rows("permissions", {"principal": f"{ID}|ada"})

    used = {(row["agent"]["sub"], row["provider"], row["action"]): row["used"] for row in rows}
    assert used[("busy", "registrar", "domain.*")] == 1 and used[("busy", "cloud", "domain.*")] == 0
    assert used[("idle", None, "mail.send")] == 0
    lifetimes = {row["agent"]["sub"]: row["lifetime_s"] for row in rows}
    assert lifetimes["busy"] == 9 * 86400 and lifetimes["idle"] is None


def test_the_matrix_has_what_was_done_outside_of_what_was_allowed(desk):
    desk.send(
        desk.event("action.performed", grant=desk.two, action={"verb": "queue.push", "provider": "cloud"}, at=desk.at)
    )
    desk.settle()

    outside = [row for row in desk.api.rows("permissions", {"agent": f"{BOTS}|idle"}) if row["allowed"] is False]
    assert [(row["action"], row["provider"], row["used"]) for row in outside] == [("queue.push", "cloud", 1)]


def test_pages_of_the_matrix_break_between_grants(desk):
    rows = [row["grant"] for page in desk.api.walk("permissions", f"principal={ID}|ada&limit=1") for row in page]

    assert sorted(set(rows)) == sorted([desk.root.id, desk.one.id, desk.two.id])
    assert len(rows) == len(desk.api.rows("permissions", {"principal": f"{ID}|ada"}))


def test_two_grants_are_compared_hop_by_hop(desk):
    found = desk.api.get("grants/compare", {"one": desk.one.id, "other": desk.two.id}).json()

    assert found["shared_hops"] == 1 and found["hops"][0]["same"]
    assert {"actor", "authorization_details", "expires_at"} <= set(found["hops"][1]["differs"])
    problem(desk.api.get("grants/compare", {"one": desk.one.id, "other": "nowhere"}), 404)
    problem(desk.api.get("grants/compare", {"one": desk.one.id}), 400)


def test_the_inventory_knows_who_made_what_and_whether_it_is_still_there(desk):
    before = {row["id"]: row for row in desk.api.rows("inventory")}
    desk.send(desk.removed)
    desk.settle()
    after = {row["id"]: row for row in desk.api.rows("inventory")}

    made = before["b-1"]
    assert (made["kind"], made["how"], made["customer_of_record"], made["live"]) == (
        "resource",
        "created",
        "acct-9",
        True,
    )
    assert made["made_by"]["sub"] == "busy" and made["principal"]["sub"] == "ada" and made["event"] == desk.ids["made"]
    assert made["transferable"] is None and made["reachable_without_orchestrator"] is None
    assert (after["b-1"]["live"], after["b-1"]["recoverable"]) == (False, "ended") and after["wonder.club"]["live"]
    assert [row["id"] for row in desk.api.rows("inventory", {"live": "true"})] == ["wonder.club"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [({"actor": f"{BOTS}|busy"}, {"b-1", "wonder.club"}), ({"actor": f"{BOTS}|idle"}, set()), ({"kind": "domain"}, {"wonder.club"}),
     ({"principal": f"{ID}|ada"}, {"b-1", "wonder.club"}), ({"provider": "cloud"}, {"b-1"}), ({"account": "acct-9"}, {"b-1"})],
)  # fmt: skip
def test_filters_of_the_inventory(desk, query, ids):
    assert {row["id"] for row in desk.api.rows("inventory", query)} == ids


def test_pages_of_the_inventory_and_of_a_timeline_hold_everything_once(desk):
    held = [row["id"] for page in desk.api.walk("inventory", "limit=1") for row in page]
    told = [row["id"] for page in desk.api.walk("timeline", "txn=tx-1&limit=1") for row in page]

    assert held == ["b-1", "wonder.club"]
    assert told == [desk.ids[name] for name in ("bought", "told", "made")]  # two sources, in the order of what happened
    problem(desk.api.get("inventory", {"after": "yesterday"}), 400)
    problem(desk.api.get("timeline", {}), 400)


@pytest.mark.parametrize("path", ["reach", "reach/acts", "reach/descendants", "permissions", "grants/compare"])
def test_an_abuse_desk_may_not_read_whole_grants_and_what_they_led_to(desk, path):
    query = (
        {"grant": desk.root.id}
        if path.startswith("reach")
        else {"one": "a", "other": "b"}
        if path == "grants/compare"
        else {}
    )

    problem(Api(desk.row, "abuse", "registrar").get(path, query), 403)


def test_an_abuse_desk_sees_what_was_made_at_its_own_provider_only(desk):
    registrar = Api(desk.row, "abuse", "registrar")

    assert [row["id"] for row in registrar.rows("inventory")] == ["wonder.club"]
    assert {row["provider"] for row in registrar.rows("timeline", {"txn": "tx-1"})} == {"registrar"}
