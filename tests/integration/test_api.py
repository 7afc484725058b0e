"""The API: who may ask, what each answer looks like, and what is refused, over HTTP with real commits."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import jsonschema
import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from auditlog.models import Event, Finding, Leaf, Membership
from auditlog.reads.access import issue_token
from auditlog.sources.configure import add_tenant
from tests.integration.test_dashboard_pages import signed_in
from tests.world import TenantWorld

ID, BOTS = "https://id.acme.example", "https://bots.example"
LISTS = ("events", "parties", "grants", "tokens", "limits", "spend", "sources", "findings")
ROLES = ("admin", "security", "finance", "abuse", "auditor")


class Api:
    """The API as one token sees it."""

    def __init__(self, tenant, role, provider=""):
        self.token = issue_token(
            tenant, name=role, role=role, provider=provider, expires_at=timezone.now() + timedelta(hours=1)
        )
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def get(self, path, query=None, **headers):
        return Client().get(f"/api/v1/{path}", query, headers=self.headers | headers)

    def post(self, path, body):
        return Client().post(f"/api/v1/{path}", json.dumps(body), content_type="application/json", headers=self.headers)

    def rows(self, path, query=None):
        answer = self.get(path, query)
        assert answer.status_code == 200, answer.content
        assert set(answer.json()) == {"results", "next"}
        return answer.json()["results"]

    def walk(self, path, query):
        """Every row of a list, page by page."""
        found, url = [], f"/api/v1/{path}?{query}"
        while url:
            answer = Client().get(url, headers=self.headers)
            assert answer.status_code == 200, answer.content
            found.append(answer.json()["results"])
            following = answer.json()["next"]
            url = following and urlsplit(following)._replace(scheme="", netloc="").geturl()
            yield found[-1]


def problem(answer, status):
    """The body of an RFC 9457 answer."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.content
    body = answer.json()
    assert body["status"] == status and isinstance(body["title"], str) and isinstance(body["detail"], str)
    return body


@pytest.fixture
def desk(world):
    """A human, two agents, a chain of two grants, and acts at two providers."""
    world.source("conductor", "https://conductor.example")
    world.ada = world.human("ada", issuer=ID)
    world.lead, world.helper = world.agent("lead", issuer=BOTS), world.agent("helper", issuer=BOTS)
    world.at = world.now - timedelta(days=1)
    world.root = world.grant(
        world.ada, world.lead, actions=["domain.*", "worker.*"], resources=["**"], redelegate=True, at=world.at
    )
    world.child = world.grant(
        world.lead,
        world.helper,
        actions=["domain.*"],
        resources=["**"],
        parent=world.root,
        at=world.at + timedelta(minutes=1),
    )
    world.issued = world.token(world.child, at=world.at + timedelta(minutes=2))
    world.bought = world.registers(
        "wonder.club", price_minor=1100, grant=world.child, token=world.issued, at=world.at + timedelta(minutes=5), txn="tx-1",
        session="s-1", task="t-1", request_id="r-1", client={"ip": "192.0.2.7"},
    )  # fmt: skip
    world.deployed = world.event(
        "action.performed", grant=world.root, at=world.at + timedelta(minutes=6),
        action={"verb": "worker.deploy", "provider": "cloud", "account": "acct-9", "target": {"type": "worker", "id": "w1"}},
        money={"amount_minor": 5, "currency": "EUR", "phase": "captured", "rail": "invoice", "charge": "ch-eur", "invoice": "in-1"},
    )  # fmt: skip
    appended = world.send(world.root, world.child, world.issued, world.bought, world.deployed)
    world.ids = dict(
        zip(("root", "child", "issued", "bought", "deployed"), (str(a.event_id) for a in appended), strict=True)
    )
    world.settle()
    world.api = Api(world.row, "admin")
    return world


def finding_of(world, **more):
    """A finding as it stands after a detector spoke."""
    world.send(world.registers("won-der.club", price_minor=900, grant=world.child, intent={"targets": ["wonder.club"]},
                               at=world.at + timedelta(minutes=10)))  # fmt: skip
    world.settle()
    return Finding.objects.get(tenant=world.row, rule="intent.domain_mismatch", **more)


# --- who may ask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *LISTS,
        f"events/{UUID(int=0)}",
        f"events/{UUID(int=0)}/raw",
        f"events/{UUID(int=0)}/chain",
        f"events/{UUID(int=0)}/proof",
        "findings/1",
    ],
)
def test_without_a_good_token_nothing_is_answered_and_bearer_is_asked_for(database, path):
    answers = [
        Client().get(f"/api/v1/{path}", headers=headers)
        for headers in (
            {},
            {"Authorization": "Bearer ans_unknown"},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic eDp5"},
        )
    ]

    for answer in answers:
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_expired_token_is_refused(desk):
    token = issue_token(desk.row, name="old", role="admin", expires_at=timezone.now() - timedelta(seconds=1))

    answer = Client().get("/api/v1/events", headers={"Authorization": f"Bearer {token}"})

    assert "expired" in problem(answer, 401)["detail"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_is_kept_as_its_hash_only(desk):
    from django.core import serializers

    from auditlog.models import ApiToken

    assert desk.api.token not in serializers.serialize("json", ApiToken.objects.filter(tenant=desk.row))


def test_a_signed_in_member_may_ask_and_a_stranger_may_not(desk):
    User = get_user_model()
    member, stranger = (User.objects.create_user(f"{name}-{uuid4()}", password="correct horse") for name in "ab")
    Membership.objects.create(tenant=desk.row, user=member, role="auditor")
    clients = Client(), Client()
    for client, user in zip(clients, (member, stranger), strict=True):
        client.force_login(user)

    assert len(clients[0].get("/api/v1/events").json()["results"]) == 5
    problem(clients[1].get("/api/v1/events"), 403)


def test_a_session_needs_its_csrf_token_to_change_anything(desk):
    finding = finding_of(desk)
    user = get_user_model().objects.create_user(f"c-{uuid4()}", password="correct horse")
    Membership.objects.create(tenant=desk.row, user=user, role="security")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    answer = client.post(
        f"/api/v1/findings/{finding.pk}/triage", {"state": "resolved", "reason": "x"}, content_type="application/json"
    )

    assert "CSRF" in problem(answer, 403)["detail"]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reads_what_it_may(desk, role):
    api = Api(desk.row, role, provider="registrar" if role == "abuse" else "")

    statuses = {path: api.get(path).status_code for path in LISTS}

    closed = {"parties", "grants", "tokens", "limits", "sources"} if role == "abuse" else set()
    assert {path for path, status in statuses.items() if status == 403} == closed
    assert {path for path, status in statuses.items() if status == 200} == set(LISTS) - closed


@pytest.mark.parametrize("role", ROLES)
def test_everybody_but_the_auditor_may_triage(desk, role):
    finding = finding_of(desk)

    answer = Api(desk.row, role, provider="registrar").post(
        f"findings/{finding.pk}/triage", {"state": "acknowledged", "reason": "looking"}
    )

    if role == "auditor":
        assert "may not triage" in problem(answer, 403)["detail"]
    else:
        assert (answer.status_code, answer.json()["state"]) == (200, "acknowledged")
    [step] = finding.triage.all() if role != "auditor" else [None]
    assert step is None or (step.by, step.from_state, step.to_state, step.reason) == (
        role,
        "open",
        "acknowledged",
        "looking",
    )


def test_an_abuse_desk_sees_its_own_providers_events_and_findings_only(desk):
    mine = finding_of(desk)
    registrar, cloud = Api(desk.row, "abuse", "registrar"), Api(desk.row, "abuse", "cloud")

    assert {row["provider"] for row in registrar.rows("events")} == {"registrar"}
    assert [row["id"] for row in cloud.rows("events")] == [desk.ids["deployed"]]
    assert [row["id"] for row in registrar.rows("findings")] == [mine.pk]
    assert cloud.rows("findings") == []
    assert {row["currency"] for row in cloud.rows("spend")} == {"EUR"}
    for path in ("", "/raw", "/chain"):
        assert registrar.get(f"events/{desk.ids['bought']}{path}").status_code == 200
        for hidden in (desk.ids["deployed"], desk.ids["root"]):
            problem(registrar.get(f"events/{hidden}{path}"), 404)
    assert "there is no event" in problem(registrar.get(f"events/{desk.ids['deployed']}/proof"), 404)["detail"]
    problem(cloud.get(f"findings/{mine.pk}"), 404)
    problem(cloud.post(f"findings/{mine.pk}/triage", {"state": "resolved", "reason": "x"}), 404)


def test_an_abuse_desk_gets_the_other_hops_of_a_chain_as_stubs(desk):
    # The registrar's event names the agents, and not whose authority stood behind them.
    quiet = desk.event(
        "action.performed", grant=desk.child, actor=desk.helper, principal=None, at=desk.now,
        action={"verb": "domain.check", "provider": "sober", "target": {"type": "domain", "id": "a.example"}},
    )  # fmt: skip
    [appended] = desk.send(quiet)
    desk.settle()
    api = Api(desk.row, "abuse", "sober")

    event = api.get(f"events/{appended.event_id}").json()
    chain = api.get(f"events/{appended.event_id}/chain").json()

    assert event["actor"]["sub"] == "helper"
    assert event["principal"]["hidden"] and event["principal"]["iss"] is None
    assert event["principal"]["sub"].startswith("hidden-")
    assert [hop["party"]["sub"] == "helper" for hop in chain["hops"]] == [False, False, True]
    assert chain["hops"][0]["party"]["sub"] == event["principal"]["sub"]
    text = json.dumps(chain)
    assert ID not in text and "lead" not in text and desk.root.id not in text


def test_an_abuse_desk_learns_no_hidden_name_by_guessing_it_or_by_adding_up(desk):
    """The cloud's own event names its agent; that ada stands behind it is known by the grant alone."""
    quiet = desk.event(
        "payment.captured", grant=desk.child, actor=desk.helper, principal=None, at=desk.now, action={"verb": "mail.send", "provider": "sober"},
        money={"amount_minor": 5, "currency": "EUR", "phase": "captured", "rail": "invoice", "charge": "ch-q"},
    )  # fmt: skip
    made = desk.event("account.created", grant=desk.child, actor=desk.helper, principal=None, at=desk.now,
                      action={"provider": "sober", "account": "acct-q"})  # fmt: skip
    ids = [str(appended.event_id) for appended in desk.send(quiet, made)]
    desk.settle()
    api, client = Api(desk.row, "abuse", "sober"), signed_in(desk, "abuse", "sober")

    guess = {"principal": f"{ID}|ada"}
    assert [api.rows(path, guess) for path in ("events", "findings", "inventory")] == [[], [], []]
    assert (
        len(api.rows("events", {"actor": f"{BOTS}|helper"})) == 2
        and len(Api(desk.row, "finance").rows("events", guess)) > 2
    )
    [by_principal], [by_agent] = api.rows("spend", {"by": "principal"}), api.rows("spend", {"by": "agent"})
    assert by_principal["principal"].startswith("hidden-") and by_agent["agent"] == f"{BOTS}|helper"
    for page in ("/events/", "/findings/", "/spend/"):
        found = client.get(page, guess).content.decode()
        assert "0.05" not in found and not any(event_id in found for event_id in ids)
    assert all(event_id in client.get("/events/").content.decode() for event_id in ids)
    assert "0.05" in client.get("/spend/").content.decode()


def test_another_tenants_token_sees_nothing_of_this_one(desk):
    finding = finding_of(desk)
    other = TenantWorld(add_tenant(f"other-{uuid4().hex[:12]}", now=desk.now), now=desk.now)
    api = Api(other.row, "admin")

    assert {path: api.rows(path) for path in LISTS} == {path: [] for path in LISTS}
    for path in ("", "/raw", "/chain", "/proof"):
        problem(api.get(f"events/{desk.ids['bought']}{path}"), 404)
    problem(api.get(f"findings/{finding.pk}"), 404)
    problem(api.post(f"findings/{finding.pk}/triage", {"state": "resolved", "reason": "x"}), 404)
    finding.refresh_from_db()
    assert finding.state == "open"


# --- events ---------------------------------------------------------------------------------------------------------


def test_an_event_has_the_documented_shape(desk):
    event = desk.api.get(f"events/{desk.ids['bought']}").json()
    leaf = Leaf.objects.get(tenant=desk.row, event_id=desk.ids["bought"])

    documented = {
        "id": desk.ids["bought"],
        "source": "conductor",
        "source_event_id": desk.bought.jti,
        "leaf_index": leaf.leaf_index,
        "type": "domain.registered",
        "occurred_at": "2026-11-19T12:05:00Z",
        "received_at": "2026-11-20T12:00:00Z",
        "outcome": "success",
        "environment": "live",
        "principal": {"iss": ID, "sub": "ada", "claimed": False},
        "provider": "registrar",
        "target": {"type": "domain", "id": "wonder.club"},
        "grant": desk.child.id,
        "token": desk.issued.id,
        "txn": "tx-1",
        "grade": "A",
    }
    assert {name: event[name] for name in documented} == documented
    assert (event["actor"]["iss"], event["actor"]["sub"]) == (BOTS, "helper")
    money = event["money"]
    assert (money["amount_minor"], money["currency"], money["phase"]) == (1100, "USD", "captured")
    assert (event["chain"]["complete"], event["chain"]["depth"]) == (True, 2)
    assert desk.api.rows("events", {"txn": "tx-1"}) == [event]


def test_every_filter_finds_its_event_and_no_other(desk):
    bought, deployed, charge = desk.ids["bought"], desk.ids["deployed"], desk.bought.payload["money"]["charge"]
    cases = {
        ("type", "domain.registered"): [bought],
        ("actor", f"{BOTS}|helper"): [bought],
        ("provider", "cloud"): [deployed],
        ("account", "acct-9"): [deployed],
        ("target", "wonder.club"): [bought],
        ("grant", desk.child.id): [bought],
        ("txn", "tx-1"): [bought],
        ("session", "s-1"): [bought],
        ("task", "t-1"): [bought],
        ("charge", charge): [bought],
        ("invoice", "in-1"): [deployed],
        ("request_id", "r-1"): [bought],
        ("ip", "192.0.2.7"): [bought],
        ("source_event_id", desk.deployed.jti): [deployed],
    }

    for (name, value), expected in cases.items():
        found = [row["id"] for row in desk.api.rows("events", {name: value})]
        assert set(expected) <= set(found), name
        assert not set(found) & ({bought, deployed} - set(expected)), name
        assert desk.api.rows("events", {name: "no such"}) == [], name
    assert desk.ids["issued"] in [row["id"] for row in desk.api.rows("events", {"token": desk.issued.id})]
    assert (
        len(desk.api.rows("events", {"source": "conductor"}))
        == len(desk.api.rows("events", {"principal": f"{ID}|ada"}))
        == 5
    )


def test_a_party_is_split_at_its_first_bar(desk):
    odd = desk.agent("odd|name", issuer=BOTS)
    [appended] = desk.send(desk.event("action.performed", actor=odd, principal=desk.ada))
    desk.settle()

    [event] = desk.api.rows("events", {"actor": f"{BOTS}|odd|name"})

    assert event["id"] == str(appended.event_id)
    assert (event["actor"]["iss"], event["actor"]["sub"]) == (BOTS, "odd|name")


@pytest.mark.parametrize("write", [lambda at: at.isoformat(), lambda at: at.isoformat().replace("+00:00", "Z"),
                                   lambda at: str(at.timestamp()), lambda at: str(int(at.timestamp()))])  # fmt: skip
def test_since_is_inclusive_and_until_exclusive_in_iso_and_numeric_dates(desk, write):
    since, until = write(desk.at + timedelta(minutes=5)), write(desk.at + timedelta(minutes=6))

    assert [row["id"] for row in desk.api.rows("events", {"since": since, "until": until})] == [desk.ids["bought"]]
    assert desk.ids["deployed"] in [row["id"] for row in desk.api.rows("events", {"since": until})]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("events", {"princpal": "x"}), ("events", {"since": "yesterday"}), ("events", {"since": "nan"}),
        ("events", {"until": "1e400"}), ("events", {"limit": "0"}), ("events", {"limit": "501"}), ("events", {"before": "x"}),
        ("events", {"type": "a\x00b"}), ("findings", {"state": "gone"}), ("findings", {"severity": "bad"}),
        ("findings", {"rules": "x"}), ("findings", {"since": "x"}), ("spend", {"by": "agent,agent"}), ("spend", {"by": "currency"}),
        ("spend", {"sinse": "2026"}), ("spend", {"since": "never"}), ("parties", {"after": "a\x00"}), ("parties", {"kind": "x"}),
        ("grants", {"limit": "x"}), ("tokens", {"jti": "x"}), ("sources", {"x": "y"}),
    ],
)  # fmt: skip
def test_a_question_that_is_not_understood_is_told_so_and_not_answered(desk, path, query):
    problem(desk.api.get(path, query), 400)


def test_pages_hold_every_event_exactly_once_while_new_ones_arrive(desk):
    desk.send(*(desk.event("action.denied", principal=desk.ada) for _ in range(23)))
    desk.project()
    before = set(Event.objects.filter(tenant=desk.row).values_list("event_id", flat=True))

    seen = []
    for rows in desk.api.walk("events", "limit=4&source=conductor"):
        seen += [row["id"] for row in rows]
        desk.send(desk.event("action.denied", principal=desk.ada))
        desk.project()

    assert sorted(seen) == sorted(map(str, before))


@pytest.mark.parametrize("path", ["parties", "grants", "tokens", "limits", "findings"])
def test_pages_of_every_other_list_hold_every_row_once(desk, path):
    for n in range(4):
        grant = desk.grant(desk.ada, desk.agent(f"a{n}", issuer=BOTS), limits=[
            {"scope": "global", "max_minor": 5, "currency": "USD", "interval": "day"}])  # fmt: skip
        desk.send(
            grant,
            desk.token(grant),
            desk.registers(f"x{n}.cc", price_minor=900, grant=grant, intent={"targets": ["y.club"]}),
        )
    desk.settle()
    whole = desk.api.rows(path, {"limit": "500"})

    assert len(whole) >= 4
    assert [row for rows in desk.api.walk(path, "limit=2") for row in rows] == whole


def test_raw_is_the_exact_compact_jws(desk):
    answer = desk.api.get(f"events/{desk.ids['bought']}/raw")

    assert (answer.status_code, answer.content) == (200, desk.bought.raw)
    assert answer.headers["Content-Type"] == "application/secevent+jwt"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_an_event_that_is_acknowledged_and_not_yet_projected_is_there_and_says_so(desk):
    signed = desk.registers("late.club", price_minor=1, grant=desk.child)
    [appended] = desk.send(signed)

    detail = desk.api.get(f"events/{appended.event_id}")
    chain = desk.api.get(f"events/{appended.event_id}/chain")

    assert (detail.status_code, detail.json()["projected"]) == (200, False)
    assert detail.json()["source_event_id"] == signed.jti and detail.json()["leaf_index"] == appended.leaf_index
    assert desk.api.get(f"events/{appended.event_id}/raw").content == signed.raw
    problem(chain, 404)
    assert chain.headers["Retry-After"] == "1"
    problem(Api(desk.row, "abuse", "registrar").get(f"events/{appended.event_id}"), 404)  # whose it is is not known yet


@pytest.mark.parametrize(
    "path",
    [
        "events/{}",
        "events/{}/raw",
        "events/{}/chain",
        "events/{}/proof",
        "events/nonsense",
        "findings/999999999999",
        "nothing",
    ],
)
def test_what_is_not_there_is_a_problem_of_404(desk, path):
    problem(desk.api.get(path.format(uuid4())), 404)


# --- chains ---------------------------------------------------------------------------------------------------------


def chain(desk, event_id, **query):
    answer = desk.api.get(f"events/{event_id}/chain", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_chain_runs_from_the_human_to_who_acted_and_names_attesters(desk):
    found = chain(desk, desk.ids["bought"])

    assert found["complete"] and found["breaks"] == []
    assert (found["principal"]["iss"], found["principal"]["sub"]) == (ID, "ada")
    assert [(hop["position"], hop["party"]["sub"], hop["grant"], hop["standing"]) for hop in found["hops"]] == [
        (0, "ada", None, "proven"), (1, "lead", desk.root.id, "proven"), (2, "helper", desk.child.id, "proven"),
    ]  # fmt: skip
    documented = {"position", "party", "delegated_by", "attester", "grant", "token", "scopes", "limits", "granted_at", "expires_at",
                  "standing", "derived_from", "grade", "breaks"}  # fmt: skip
    assert all(documented <= set(hop) for hop in found["hops"])
    last = found["hops"][-1]
    assert last["token"] == desk.issued.id and last["attester"] == "https://conductor.example"
    assert last["delegated_by"] == {"iss": BOTS, "sub": "lead"}
    assert last["scopes"][0]["actions"] == ["domain.*"]
    assert found["effective"]["in_force"] is True


def test_a_revocation_breaks_the_chain_from_its_time_on(desk):
    revoked_at = desk.at + timedelta(hours=1)
    desk.send(desk.revoke(desk.root, at=revoked_at))
    desk.settle()

    before = chain(desk, desk.ids["bought"], at=(revoked_at - timedelta(seconds=1)).isoformat())
    after = chain(desk, desk.ids["bought"], at=str(revoked_at.timestamp()))

    assert chain(desk, desk.ids["bought"])["effective"]["in_force"] is True  # as of the act
    assert (before["effective"]["in_force"], before["breaks"]) == (True, [])
    assert (after["effective"]["in_force"], [(b["hop"], b["code"]) for b in after["breaks"]]) == (
        False,
        [(1, "revoked")],
    )
    assert [b["code"] for b in after["hops"][1]["breaks"]] == ["revoked"]
    assert datetime.fromisoformat(after["effective"]["revoked_at"]) == revoked_at
    problem(desk.api.get(f"events/{desk.ids['bought']}/chain", {"at": "noon"}), 400)


def test_a_widened_hop_is_named(desk):
    wide = desk.grant(desk.lead, desk.helper, actions=["**"], resources=["**"], parent=desk.root, at=desk.at)
    act = desk.event("action.performed", grant=wide, at=desk.now, action={"verb": "mail.send", "provider": "post"})
    *_, appended = desk.send(wide, act)
    desk.settle()

    found = chain(desk, appended.event_id)

    assert (2, "scope_widened") in [(b["hop"], b["code"]) for b in found["breaks"]]
    assert "action_not_allowed" in [b["code"] for b in found["breaks"]]
    assert [hop["position"] for hop in found["hops"] if any(b["code"] == "scope_widened" for b in hop["breaks"])] == [2]


def test_a_missing_parent_leaves_the_chain_incomplete_until_it_arrives(desk):
    missing = desk.grant(desk.ada, desk.lead, actions=["**"], resources=["**"], redelegate=True, at=desk.at)
    child = desk.grant(desk.lead, desk.helper, parent=missing, at=desk.at)
    *_, appended = desk.send(
        child, desk.event("action.performed", grant=child, action={"verb": "a.b", "provider": "p"})
    )
    desk.settle()

    before = chain(desk, appended.event_id)
    desk.send(missing)
    desk.settle()
    after = chain(desk, appended.event_id)

    assert not before["complete"] and [b["code"] for b in before["breaks"]] == ["missing_parent"]
    assert missing.id in before["breaks"][0]["reason"]
    assert before["effective"]["in_force"] is False
    assert after["complete"] and after["breaks"] == [] and after["effective"]["in_force"] is True


def test_an_act_without_grants_is_a_chain_of_claims(desk):
    [appended] = desk.send(desk.event("action.performed", principal=desk.ada, actor=[desk.lead, desk.helper]))
    desk.settle()

    found = chain(desk, appended.event_id)

    assert [(hop["party"]["sub"], hop["standing"]) for hop in found["hops"]] == [
        ("ada", "claimed"), ("lead", "claimed"), ("helper", "claimed"),
    ]  # fmt: skip
    assert found["principal"]["claimed"] is True and found["effective"] is None and not found["complete"]


# --- findings -------------------------------------------------------------------------------------------------------


def test_a_finding_has_the_documented_shape_and_every_filter_works(desk):
    finding = finding_of(desk)

    [row] = desk.api.rows("findings", {"rule": "intent.domain_mismatch"})

    assert set(row) >= {
        "id", "rule", "rule_version", "severity", "state", "title", "principal", "actor", "grant", "provider", "event_ids", "leaves",
        "money_at_risk", "first_at", "last_at", "detected_at", "evidence",
    }  # fmt: skip
    assert row["principal"] == {"iss": ID, "sub": "ada"} and row["money_at_risk"] == {
        "amount_minor": 900,
        "currency": "USD",
    }
    assert len(row["event_ids"]) == len(row["leaves"]) == 1
    assert desk.api.get(f"findings/{finding.pk}").json() == row
    detected = datetime.fromisoformat(row["detected_at"])
    for name, value in (
        ("severity", row["severity"]),
        ("state", "open"),
        ("principal", f"{ID}|ada"),
        ("since", row["detected_at"]),
    ):
        assert row in desk.api.rows("findings", {name: value}), name
    for name, value in (("severity", "critical"), ("state", "resolved"), ("principal", "x|y"), ("rule", "no.such"),
                        ("since", (detected + timedelta(seconds=1)).isoformat())):  # fmt: skip
        assert row not in desk.api.rows("findings", {name: value}), name


@pytest.mark.parametrize(
    "body", [{"state": "resolved", "reason": ""}, {"state": "resolved", "reason": "  "}, {"state": "resolved"}, {"reason": "x"},
             {"state": "withdrawn", "reason": "x"}, {"state": "nonsense", "reason": "x"}, [], "text"],
)  # fmt: skip
def test_a_triage_without_a_reason_or_with_a_state_that_is_not_for_people_is_refused(desk, body):
    finding = finding_of(desk)

    problem(desk.api.post(f"findings/{finding.pk}/triage", body), 400)

    finding.refresh_from_db()
    assert finding.state == "open" and not finding.triage.exists()


def test_a_body_that_is_not_json_is_a_problem(desk):
    finding = finding_of(desk)
    address = f"/api/v1/findings/{finding.pk}/triage"

    problem(Client().post(address, "{", content_type="application/json", headers=desk.api.headers), 400)
    problem(Client().post(address, "x", content_type="text/plain", headers=desk.api.headers), 415)
    problem(Client().get(address, headers=desk.api.headers), 405)


def test_a_withdrawn_finding_cannot_be_moved_and_the_same_state_twice_is_no_step(desk):
    finding = finding_of(desk)
    address = f"findings/{finding.pk}/triage"
    assert desk.api.post(address, {"state": "resolved", "reason": "refunded"}).status_code == 200

    problem(desk.api.post(address, {"state": "resolved", "reason": "again"}), 409)
    Finding.objects.filter(pk=finding.pk).update(state="withdrawn")
    problem(desk.api.post(address, {"state": "open", "reason": "again"}), 409)
    assert finding.triage.count() == 1


# --- the other reads ------------------------------------------------------------------------------------------------


def test_spend_is_grouped_and_currencies_are_never_added_up(desk):
    desk.send(
        desk.registers("more.club", price_minor=400, grant=desk.child, at=desk.at + timedelta(hours=2)),
        desk.registers("euro.club", price_minor=70, currency="EUR", grant=desk.child, at=desk.at + timedelta(hours=3)),
        desk.payment(
            "refunded", 100, charge=desk.bought.payload["money"]["charge"], grant=desk.child, provider="registrar"
        ),
    )
    desk.settle()

    rows = desk.api.rows("spend", {"by": "agent,provider"})

    helper, lead = f"{BOTS}|helper", f"{BOTS}|lead"
    assert {(r["agent"], r["provider"], r["currency"]): (r["spent_minor"], r["returned_minor"], r["charges"]) for r in rows} == {
        (helper, "registrar", "USD"): (1400, 100, 2), (helper, "registrar", "EUR"): (70, 0, 1), (lead, "cloud", "EUR"): (5, 0, 1),
    }  # fmt: skip
    assert {r["currency"]: r["spent_minor"] for r in desk.api.rows("spend")} == {"USD": 1400, "EUR": 75}
    window = {"since": (desk.at + timedelta(hours=1)).isoformat(), "until": (desk.at + timedelta(hours=3)).isoformat()}
    assert [(r["currency"], r["spent_minor"]) for r in desk.api.rows("spend", window)] == [("USD", 400)]


def test_grants_tokens_parties_and_sources_say_what_stands(desk):
    desk.send(desk.revoke(desk.child, at=desk.now))
    desk.settle()

    grants = {row["id"]: row for row in desk.api.rows("grants")}
    assert grants[desk.child.id]["parent"] == desk.root.id and grants[desk.child.id]["event"] == desk.ids["child"]
    assert (
        datetime.fromisoformat(grants[desk.child.id]["revoked_at"]) == desk.now
        and grants[desk.root.id]["revoked_at"] is None
    )
    [token] = desk.api.rows("tokens")
    assert (token["jti"], token["grant"]) == (desk.issued.id, desk.child.id)
    assert {(row["iss"], row["sub"]): row["kind"] for row in desk.api.rows("parties")} == {
        (ID, "ada"): "human", (BOTS, "lead"): "agent", (BOTS, "helper"): "agent",
    }  # fmt: skip
    [source] = desk.api.rows("sources")
    assert (source["name"], source["state"], source["keys"]) == ("conductor", "active", ["conductor-1"])
    assert "secret" not in json.dumps(source)


# --- the schema, its page, our keys ---------------------------------------------------------------------------------


def described():
    """The API's description, and what its generator complained of."""
    from drf_spectacular.drainage import GENERATOR_STATS
    from drf_spectacular.generators import SchemaGenerator

    with GENERATOR_STATS.silence():
        GENERATOR_STATS.reset()
        schema = SchemaGenerator().get_schema(request=None, public=True)
        return schema, [*map(str, GENERATOR_STATS._error_cache), *map(str, GENERATOR_STATS._warn_cache)]


def test_the_schema_renders_without_any_warning(tenant):
    schema, said = described()

    assert said == []
    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert {f"/api/v1/{path}" for path in LISTS} <= set(schema["paths"])
    answer = Client().get("/api/schema", headers=Api(tenant, "auditor").headers)
    assert answer.status_code == 200 and b"openapi: 3" in answer.content


def test_the_schema_describes_every_body_parameter_and_error_and_the_door_for_deliveries(database):
    schema, _ = described()
    bare, undescribed, unanswered = [], [], []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            contents = [
                c
                for status, r in operation["responses"].items()
                if status < "300"
                for c in r.get("content", {}).values()
            ]
            bare += [path for content in contents if content["schema"].get("additionalProperties") == {}]
            undescribed += [(path, p["name"]) for p in operation.get("parameters", ()) if not p.get("description")]
            unanswered += [path for status in ("400", "404") if status not in operation["responses"]]

    assert (bare, undescribed, unanswered) == ([], [], [])
    assert "202" in schema["paths"]["/ingest/{tenant}/{source}"]["post"]["responses"]


def test_what_is_answered_is_what_the_schema_says(desk):
    """Every answer against its description, by the JSON Schema that OpenAPI is; and no field that it does not name."""
    finding = finding_of(desk)
    schema, _ = described()
    paths = {
        "events": "events", "events/{event_id}": f"events/{desk.ids['bought']}",
        "events/{event_id}/chain": f"events/{desk.ids['bought']}/chain", "events/{event_id}/story": f"events/{desk.ids['bought']}/story",
        "findings": "findings", "findings/{finding_id}": f"findings/{finding.pk}", "parties": "parties", "grants": "grants",
        "findings/{finding_id}/events": f"findings/{finding.pk}/events", "stops": "stops",
        "stops/reach": f"stops/reach?kind=grant&key={desk.root.id}",
        "tokens": "tokens", "limits": "limits", "sources": "sources", "spend": "spend", "permissions": "permissions",
        "incidents": "incidents", "inventory": "inventory", "timeline": "timeline?txn=tx-1", "timeline/exposure": "timeline/exposure?txn=tx-1",
        "reach": f"reach?grant={desk.root.id}", "reach/acts": f"reach/acts?grant={desk.root.id}",
        "reach/descendants": f"reach/descendants?grant={desk.root.id}",
        "grants/compare": f"grants/compare?one={desk.root.id}&other={desk.child.id}",
    }  # fmt: skip
    wrong = []
    for path, address in paths.items():
        answer = desk.api.get(address)
        assert answer.status_code == 200, (address, answer.content)
        said = schema["paths"][f"/api/v1/{path}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        checker = jsonschema.Draft202012Validator(as_json_schema(said | {"components": schema["components"]}))
        wrong += [f"{path}: {error.json_path} {error.message[:200]}" for error in checker.iter_errors(answer.json())]

    assert wrong == [], "\n".join(wrong)


def as_json_schema(described):
    """OpenAPI 3.0 as JSON Schema: `nullable` is a type more, and what is not named is not there."""
    if isinstance(described, list):
        return [as_json_schema(each) for each in described]
    if not isinstance(described, dict):
        return described
    made = {key: as_json_schema(value) for key, value in described.items() if key != "nullable"}
    if "properties" in made and isinstance(described.get("type"), str) and "belongs" not in made["properties"]:
        made.setdefault("additionalProperties", False)
    if described.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


def test_the_page_of_the_schema_has_nothing_that_its_csp_refuses(desk):
    page = Client().get("/api/docs", headers=desk.api.headers)
    html = page.content.decode()

    assert page.status_code == 200 and "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "<style" not in html and "<script>" not in html and "http://" not in html and "https://" not in html
    for address in [part.split('"')[0] for part in html.split('src="')[1:]]:
        script = Client().get(address.replace("&amp;", "&"), headers=desk.api.headers)
        assert script.status_code == 200 and "javascript" in script.headers["Content-Type"], address


def test_the_public_key_of_a_log_is_published_and_never_the_private_one(desk):
    from nacl.signing import SigningKey

    from auditlog.core.wire.keys import b64url
    from auditlog.ledger.publish import announce_key

    private = SigningKey(uuid4().bytes * 2)
    announce_key(desk.row, key=private, now=desk.now)

    keys = Client().get("/.well-known/jwks.json").json()["keys"]

    [key] = [key for key in keys if key["x"] == b64url(bytes(private.verify_key))]
    assert (key["kty"], key["crv"], bool(key["kid"])) == ("OKP", "Ed25519", True)
    assert all("d" not in key for key in keys)


def test_what_nobody_foresaw_is_a_problem_too(desk, monkeypatch):
    from auditlog.api import views

    monkeypatch.setattr(views, "visible_events", lambda viewer: 1 / 0)

    answer = Client(raise_request_exception=False).get("/api/v1/events", headers=desk.api.headers)

    assert "ZeroDivision" not in problem(answer, 500)["detail"]


def test_times_are_utc_with_a_zone(desk):
    event = desk.api.get(f"events/{desk.ids['bought']}").json()

    assert datetime.fromisoformat(event["occurred_at"]) == (desk.at + timedelta(minutes=5)).astimezone(UTC)
