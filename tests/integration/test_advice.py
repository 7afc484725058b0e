"""Advice before the act: what the engine would say of it, the same that it says once it is done; signed, kept, no promise."""

import base64
import json
import os
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from joserfc import jws
from joserfc.jwk import KeySet

from auditlog.core.errors import MalformedEvent, NotPermitted
from auditlog.models import Event, Leaf, Payload
from auditlog.reads.access import Viewer
from auditlog.reads.money import spending_of
from auditlog.sources import sealed
from disputes.adjudicate import adjudicate
from disputes.advise import TYP, advise

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", base64.b64encode(os.urandom(32)).decode())
    sealed.forget()


@pytest.fixture
def now():
    return timezone.now() - timedelta(seconds=30)


@pytest.fixture
def shop(world):
    world.source("conductor", "https://conductor.example")
    world.ada, world.bot = (
        world.human("ada", issuer="https://id.acme.example"),
        world.agent("bot", issuer="https://conductor.example"),
    )
    world.allowed = world.grant(
        world.ada, world.bot, actions=["domain.register", "plan.buy", "payment.*"], resources=["*.club", "pro", "*.cc"],
        intent={"targets": ["superseal.club", "pro"], "max_price_minor": 2_500, "currency": "USD"},
        limits=[{"scope": "global", "max_minor": 3_000, "currency": "USD"}], at=world.now - timedelta(hours=1),
    )  # fmt: skip
    world.gated = world.grant(
        world.ada, world.bot, actions=["**"], gates=["purchase"], at=world.now - timedelta(hours=1)
    )
    world.send(world.allowed, world.gated)
    world.project()
    return world


def desk(world, role="security", provider=""):
    return Viewer(world.row, role, f"{role}-1", None, provider, (7,))


def asked(world, grant, verb, target, cents=None, type="action.performed", **more):
    said = {
        "type": type, "principal": {"iss": world.ada.iss, "sub": world.ada.sub}, "actor": {"iss": world.bot.iss, "sub": world.bot.sub, "kind": "agent"},
        "action": {"verb": verb, "provider": "registrar", "target": {"type": "thing", "id": target}}, "grant": grant.id,
    }  # fmt: skip
    if cents is not None:
        said["money"] = {
            "amount_minor": cents,
            "currency": "USD",
            "phase": "captured",
            "rail": "card",
            "charge": f"ch_{target}_{cents}",
        }
    return said | more


def done(world, said):
    """The act that was asked about, done."""
    payload = {name: value for name, value in said.items() if name not in ("type", "principal", "actor", "grant")}
    grant = world.allowed if said["grant"] == world.allowed.id else world.gated
    [appended] = world.send(world.event(said["type"], grant=grant, at=timezone.now(), **payload))
    world.project()
    return adjudicate(world.row, [appended.event_id])[0]


def told(verdict):
    return (
        verdict["verdict"], verdict["codes"], verdict["decisive"], verdict["liability"]["bearer"], verdict["liability"]["amount_minor"],
        [(each["id"], each["result"]) for each in verdict["criteria"][1:]],
    )  # fmt: skip


def test_the_advice_is_what_the_verdict_says_once_it_is_done(shop):
    for said in (
        asked(shop, shop.allowed, "domain.register", "superseal.club", 900, "domain.registered"),
        asked(shop, shop.allowed, "domain.register", "superseal.cc", 900, "domain.registered"),
        asked(shop, shop.allowed, "worker.deploy", "pro"),
        asked(shop, shop.allowed, "plan.buy", "basic", 100),
        asked(shop, shop.allowed, "plan.buy", "pro", 2_000),
        asked(shop, shop.gated, "plan.buy", "pro", 50),
        asked(shop, shop.gated, "worker.deploy", "x"),
    ):
        [advice] = advise(desk(shop), said, now=timezone.now())["results"]
        verdict = done(shop, said)
        assert told(advice) == told(verdict), said
        assert advice["event_id"] is None and advice["criteria"][0]["result"] == "na"


def test_asking_changes_nothing_and_stands_in_the_log_under_a_signature_that_our_keys_verify(shop):
    said = asked(shop, shop.allowed, "plan.buy", "pro", 3_500)
    before = Event.objects.filter(tenant=shop.row).count(), spending_of(shop.row, {f"{shop.ada.iss}|{shop.ada.sub}"})
    first, again = (advise(desk(shop), said, now=timezone.now()) for _ in range(2))
    shop.project()

    assert (
        Event.objects.filter(tenant=shop.row).count(),
        spending_of(shop.row, {f"{shop.ada.iss}|{shop.ada.sub}"}),
    ) == before
    assert [one["results"][0]["verdict"] for one in (first, again)] == ["out_of_scope"] * 2
    assert (
        first["advice"]["proposed_sha256"] == again["advice"]["proposed_sha256"]
        and first["advice"]["id"] != again["advice"]["id"]
    )
    keys = KeySet.import_key_set(
        {"keys": [k for k in Client().get("/.well-known/jwks.json").json()["keys"] if k["kty"] == "RSA"]}
    )
    token = jws.deserialize_compact(first["advice"]["jws"], keys, algorithms=["RS256"])
    stated = json.loads(token.payload)
    assert token.headers()["typ"] == TYP and stated["advice"]["verdict"] == "out_of_scope" and "exp" not in stated
    leaf = Leaf.objects.get(tenant=shop.row, leaf_index=first["advice"]["leaf_index"])
    kept = json.loads(bytes(Payload.objects.get(tenant=shop.row, leaf_index=leaf.leaf_index).raw))
    assert (kept["advice"], kept["verdict"], kept["proposed"]["action"]["verb"]) == (
        first["advice"]["id"],
        "out_of_scope",
        "plan.buy",
    )


def test_an_approval_that_comes_with_the_question_counts_for_nothing(shop):
    gate = {"kind": "purchase", "by": {"iss": shop.ada.iss, "sub": shop.ada.sub}, "at": shop.now.timestamp() - 60}
    [advice] = advise(desk(shop), asked(shop, shop.gated, "plan.buy", "pro", 50, gate=gate), now=timezone.now())[
        "results"
    ]
    assert advice["verdict"] == "out_of_scope" and advice["codes"] == ["gate_missing"]


def test_a_secret_in_a_question_is_kept_nowhere(shop):
    said = asked(
        shop,
        shop.allowed,
        "plan.buy",
        "pro",
        50,
        call={"operation": "buy", "args": {"api_key": "sk_live_hunter2hunter2hunter2"}},
    )
    leaf = advise(desk(shop), said, now=timezone.now())["advice"]["leaf_index"]
    assert b"hunter2" not in bytes(Payload.objects.get(tenant=shop.row, leaf_index=leaf).raw)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"type": "delegation.granted"}, "type"), ({"principal": "ada"}, "principal"), ({"grant": {"id": "g"}}, "grant"), ({"outcome": "failure"}, "outcome"),
     ({"environment": "test"}, "environment"), ({"money": {"amount_minor": "x"}}, "money"), ({"session": 5}, "session"), ({"call": {"operation": "x" * 20_000}}, "bytes"),
     ({"action": {"verb": "x", "target": {"id": 2**60}}}, "proposed")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_and_says_what_is_wrong(shop, change, says):
    leaves = Leaf.objects.filter(tenant=shop.row).count()
    with pytest.raises(MalformedEvent, match=says):
        advise(desk(shop), asked(shop, shop.allowed, "plan.buy", "pro", 5) | change, now=timezone.now())
    assert Leaf.objects.filter(tenant=shop.row).count() == leaves


def test_an_abuse_desk_and_an_auditor_do_not_ask(shop):
    said = asked(shop, shop.allowed, "plan.buy", "pro", 5)
    for viewer in (desk(shop, "abuse", "registrar"), desk(shop, "abuse", "cloud"), desk(shop, "auditor")):
        with pytest.raises(NotPermitted):
            advise(viewer, said, now=timezone.now())


def test_over_http_a_question_and_events_are_two_things(shop):
    from tests.integration.test_disputes_api import client, post

    api = client(shop, "security")
    answer = post(api, "adjudications", proposed=asked(shop, shop.allowed, "plan.buy", "pro", 5))
    assert answer.status_code == 200 and answer.json()["results"][0]["verdict"] == "within_scope"
    assert answer.json()["advice"]["note"].endswith("judged when it is done.")
    for body in (
        {},
        {"proposed": {}, "event_ids": ["00000000-0000-8000-8000-000000000000"]},
        {"proposed": 5},
        {"proposed": {"type": "x"}},
    ):
        assert post(api, "adjudications", **body).status_code == 400
