"""The simulator signs what it says, and its story holds exactly the incidents it announces.

The readings below are brute force over the decoded deliveries, written apart from the builder and from the detectors.
"""

import hashlib
import hmac
import json
import re
import threading
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import orjson
import pytest
import rfc8785
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from auditlog.simulator.load import load_source, signed_batches, signed_sets
from auditlog.simulator.play import PlayError, play
from auditlog.simulator.signing import Signer, b64url, unb64url
from auditlog.simulator.story import RULES, Refusal, demo_story
from auditlog.simulator.world import World, payload_of

NOW = datetime(2026, 11, 21, 10, 17, 3, tzinfo=UTC)
ADA, MIA, BEN = ("https://id.superseal.example", "ada"), ("https://id.superseal.example", "mia"), (
    "https://id.acme.example",
    "ben",
)  # fmt: skip


def verify(compact: bytes, jwks: dict) -> dict:
    """Check a compact JWS with PyNaCl alone and return its claims."""
    signing_input, _, signature = compact.rpartition(b".")
    header = orjson.loads(unb64url(signing_input.split(b".")[0]))
    [jwk] = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    assert header == {"alg": "EdDSA", "kid": jwk["kid"], "typ": "secevent+jwt"}
    VerifyKey(unb64url(jwk["x"])).verify(signing_input, unb64url(signature))
    return payload_of(compact)


@pytest.fixture(
    scope="module", params=[NOW, datetime(2026, 3, 1, tzinfo=UTC), datetime(2027, 1, 3, 23, 59, 59, 7, UTC)]
)
def story(request):
    return demo_story(now=request.param)


@pytest.fixture
def world():
    return World(now=NOW)


class Reading:
    """The story as a patient reader sees it: accepted statements once each, joined by hand."""

    def __init__(self, story):
        refused = {refusal.position for refusal in story.refusals}
        accepted = {s.jti: s for n, s in enumerate(story.deliveries) if n not in refused}
        self.all = sorted(accepted.values(), key=lambda s: s.at)
        self.sets = [s for s in self.all if s.source != "stripe"]
        self.grants = {s.payload["grant"]["id"]: s for s in self.sets if s.type == "delegation.granted"}
        self.tokens = {s.payload["token"]["jti"]: s for s in self.sets if s.type in ("token.issued", "token.exchanged")}
        self.revoked = {s.payload["grant"]["id"]: s.at for s in self.sets if s.type == "delegation.revoked"}
        # A human's word on a limit names the grant that it is about, and is no act under it.
        self.acts = [
            s for s in self.sets if isinstance(s.payload.get("grant"), str) and s.payload.get("mode") != "direct"
        ]

    def path(self, grant_id):
        """Grant objects, root first."""
        path = []
        while grant_id:
            path.insert(0, self.grants[grant_id].payload["grant"])
            grant_id = path[0].get("parent")
        return path

    def charges(self):
        """(principal, provider, at, amount) of every charge, counted once per (rail, charge)."""
        found = {}
        for s in self.sets:
            money = s.payload.get("money", {})
            if money.get("phase") in ("captured", "settled"):
                who = (s.claims["sub_id"]["iss"], s.claims["sub_id"]["sub"])
                found.setdefault(
                    (money["rail"], money["charge"]),
                    (who, s.payload["action"]["provider"], s.at, money["amount_minor"]),
                )
        return found


@pytest.fixture(scope="module")
def reading(story):
    return Reading(story)


def expected(story, rule, principal):
    [item] = [item for item in story.expected if (item.rule, item.principal) == (rule, principal)]
    return item


def found(items):
    return {s.jti for s in items}


def seconds(numeric):
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=round(numeric * 1_000_000))


# -- signing and the builder


def test_same_seed_and_now_give_the_same_bytes():
    first, second, other = (demo_story(seed=seed, now=NOW) for seed in (7, 7, 8))

    assert [s.raw for s in first.deliveries] == [s.raw for s in second.deliveries]
    assert first == second
    assert {s.raw for s in first.deliveries}.isdisjoint(s.raw for s in other.deliveries)


def test_every_accepted_set_verifies_and_has_its_claims(story):
    specs = {spec.name: spec for spec in story.sources}
    refused = {refusal.position: refusal.kind for refusal in story.refusals}

    for n, s in enumerate(story.deliveries):
        spec = specs[s.source]
        if spec.format == "stripe":
            t, v1 = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", s.headers["Stripe-Signature"]).groups()
            mac = hmac.new(spec.secret.encode(), t.encode() + b"." + s.raw, hashlib.sha256).hexdigest()
            assert mac == v1 and orjson.loads(s.raw) == s.claims
            continue
        if refused.get(n) == "signature_failed":
            with pytest.raises(BadSignatureError):
                verify(s.raw, spec.jwks)
            continue
        claims = verify(s.raw, spec.jwks)
        assert claims == s.claims
        assert {"iss", "iat", "jti", "aud", "toe", "events"} <= claims.keys() and not {"sub", "exp"} & claims.keys()
        assert (claims["iss"], claims["jti"], claims["aud"]) == (spec.issuer, s.jti, ["urn:answerable:default"])
        assert list(claims["events"]) == [f"urn:answerable:event:{s.type}:v1"]
        assert "outcome" in s.payload and len(s.raw) < 16_384


def test_tampering_breaks_the_signature_and_equivocation_does_not(world):
    ada, shopper = world.human("ada", issuer=ADA[0]), world.agent("shopper", issuer="https://conductor.example")
    grant = world.grant(ada, shopper, actions=["domain.register"], resources=["acme.io"])
    bought = world.registers("acme.io", price_minor=900, grant=grant)
    jwks = world.sources["world"].jwks

    tampered = world.tampered(bought, outcome="failure")
    two_faced = world.equivocated(bought, outcome="failure")

    with pytest.raises(BadSignatureError):
        verify(tampered.raw, jwks)
    assert (
        tampered.payload["outcome"] == "failure" and tampered.raw.rpartition(b".")[2] == bought.raw.rpartition(b".")[2]
    )
    assert verify(two_faced.raw, jwks)["jti"] == bought.jti and two_faced.raw != bought.raw
    assert bought.payload["actor"] == shopper.full and bought.claims["sub_id"] == {"format": "iss_sub", **ada.ref}


def test_a_statement_can_carry_another_valid_signature(world):
    event = world.event("session.started")

    again = world.resigned(event)

    assert again.raw != event.raw
    assert again.raw.rpartition(b".")[0] == event.raw.rpartition(b".")[0]
    assert verify(again.raw, world.sources["world"].jwks) == event.claims


def test_an_approval_is_bound_to_the_act(world):
    ada = world.human("ada", issuer=ADA[0])
    action = {
        "verb": "domain.register",
        "provider": "registrar",
        "account": "acct-1",
        "target": {"type": "domain", "id": "acme.io"},
        "resource": "acme.io",
    }

    said = world.approval(ada, action=action | {"irreversible": True}, max_price_minor=900, currency="USD")

    digest = hashlib.sha256(rfc8785.dumps(action | {"max_price_minor": 900, "currency": "USD"})).digest()
    assert said.payload["gate"] == {
        "kind": "purchase",
        "by": ada.ref,
        "at": int(NOW.timestamp()),
        "over": b64url(digest),
    }


def test_sub_agents_nest_their_delegators(world):
    ada = world.human("ada", issuer=ADA[0])
    lead, helper = (world.agent(sub, issuer="https://conductor.example") for sub in ("lead", "helper"))
    root = world.grant(ada, lead, expires_in=timedelta(hours=1))
    child = world.grant(lead, helper, parent=root)

    act = world.event("action.performed", grant=child)

    assert act.payload["actor"] == helper.full | {"act": lead.full}
    assert act.claims["sub_id"]["sub"] == "ada"
    assert root.payload["grant"]["root"] and not child.payload["grant"]["root"]
    assert world.event("action.performed", grant=child, actor=None, principal=None).claims.keys().isdisjoint({"sub_id"})


def test_a_key_depends_on_seed_issuer_and_kid():
    keys = {Signer(*args).jwk["x"] for args in (("i", "k", 1), ("i", "k", 2), ("j", "k", 1), ("i", "l", 1))}

    assert len(keys) == 4
    assert Signer("i", "k", 1).jwk == Signer("i", "k", 1).jwk
    assert Signer("i", "k", 1).jwk.keys() == {"kty", "crv", "x", "kid", "alg", "use"}


# -- the story as a whole


def test_the_story_is_thirty_days_of_two_thousand_events(story, reading):
    first, last = reading.all[0].at, reading.all[-1].at
    built_at = seconds(reading.sets[0].claims["iat"])

    assert 1_900 <= len(reading.all) <= len(story.deliveries) <= 2_300
    assert built_at - timedelta(days=30) <= first and last <= built_at
    assert last - first > timedelta(days=28)


def test_who_is_in_it(story, reading):
    actors, humans = set(), set()
    for s in reading.sets:
        actor = s.payload.get("actor")
        while actor:
            (humans if actor["kind"] == "human" else actors).add((actor["iss"], actor["sub"]))
            actor = actor.get("act")

    assert humans == {ADA, MIA, BEN} == {party.key for party in story.humans}
    assert len(actors) == 8 and actors == {party.key for party in story.agents}
    assert [spec.format for spec in story.sources] == ["set"] * 6 + ["stripe"]
    assert [spec.name for spec in story.sources if spec.provider] == ["registrar", "cloud", "meter"]
    assert {item.issuer for item in story.owned_names} == {ADA[0], BEN[0]}


def test_some_deliveries_come_late_and_some_twice(story):
    position = {}
    for n, s in enumerate(story.deliveries):
        position.setdefault(s.jti, n)
    granted = {s.payload["grant"]["id"]: s for s in story.deliveries if s.type == "delegation.granted"}
    pairs = [(position[granted[s.payload["grant"]["parent"]].jti], position[s.jti]) for s in granted.values()
             if "parent" in s.payload["grant"]]  # fmt: skip

    assert sum(parent > child for parent, child in pairs) >= 5
    assert sum(n > 1 for n in Counter((s.source, s.raw) for s in story.deliveries).values()) >= 30


def test_expectations_name_events_that_were_sent(story, reading):
    sent = found(story.deliveries)

    assert len({(item.rule, item.principal) for item in story.expected}) == len(story.expected) == 18
    for item in story.expected:
        assert item.rule in RULES and item.why and item.jtis and set(item.jtis) <= sent
    assert "spend.duplicate_charge" in story.silent and "spend.retry_loop" not in story.silent
    assert story.allows("squatting.campaign", MIA) and not story.allows("squatting.campaign", ADA)


# -- attribution: what must be found, and nothing else


def test_one_act_has_nobody_behind_it(story, reading):
    # A bill names whom it bills, and no agent.
    nobody = [
        s
        for s in reading.sets
        if not {"actor", "grant", "token"} & s.payload.keys() and not s.type.startswith("invoice.")
    ]

    assert found(nobody) == set(expected(story, "authority.unattributed", None).jtis)


def test_every_grant_and_token_used_is_in_the_story(reading):
    for s in reading.acts:
        assert s.payload["grant"] in reading.grants
        if "token" in s.payload:
            token = reading.tokens[s.payload["token"]]
            assert token.payload["token"]["grant"] == s.payload["grant"]
            assert s.payload["action"].get("provider") in (None, *token.payload["token"]["audience"])
            assert token.at <= s.at < seconds(token.payload["token"]["expires_at"])
    for token in reading.tokens.values():
        assert token.payload["token"]["grant"] in reading.grants
        assert token.payload["token"].get("parent_jti") in (None, *reading.tokens)


def test_each_delegate_is_the_next_delegator(reading):
    for grant_id, s in reading.grants.items():
        path = reading.path(grant_id)
        assert path[0]["root"] and path[0]["subject"]["kind"] == "human"
        for above, below in pairwise(path):
            assert above["actor"] == below["subject"] and above["redelegate"]
            assert below["expires_at"] <= above["expires_at"] and below["not_before"] >= above["not_before"]
        assert all(len(path) - 1 - n <= hop.get("max_depth", 99) for n, hop in enumerate(path))
        assert s.claims["sub_id"]["sub"] == path[0]["subject"]["sub"]


def test_acts_name_the_actor_of_their_grant(reading):
    for s in reading.acts:
        path = reading.path(s.payload["grant"])
        actor, chain = s.payload["actor"], []
        while actor:
            chain.insert(0, {name: value for name, value in actor.items() if name != "act"})
            actor = actor.get("act")
        assert chain == [hop["actor"] for hop in path]


def covers(pattern, value):
    """`**` crosses segments; every pattern of the story is exact, ends in `*` after a dot, or in `**`."""
    return fnmatchcase(value, pattern.replace("**", "*"))


def test_every_act_is_within_every_grant_above_it(reading):
    for s in reading.acts:
        action = s.payload["action"]
        thing = action.get("resource") or action["target"]["id"]
        for hop in reading.path(s.payload["grant"]):
            assert any(
                any(covers(p, action["verb"]) for p in d["actions"])
                and action["provider"] in d["providers"]
                and any(covers(p, thing) for p in d["resources"])
                for d in hop["authorization_details"]
            ), (s.type, action, hop)
            assert action["provider"] in hop.get("audience", [action["provider"]])


def test_one_grant_gave_more_than_it_had(story, reading):
    widened = []
    for grant_id, s in reading.grants.items():
        *_, above, below = [None, None, *reading.path(grant_id)]
        if above is None:
            continue
        fits = all(
            any(
                all(any(covers(p, one) for p in up["actions"]) for one in down["actions"])
                and set(down["providers"]) <= set(up["providers"])
                and all(any(covers(p, one) for p in up["resources"]) for one in down["resources"])
                for up in above["authorization_details"]
            )
            for down in below["authorization_details"]
        )
        if not fits:
            widened.append(s)

    [item] = widened
    assert [item.jti] == list(expected(story, "authority.scope_widened", MIA).jtis)
    assert not [s for s in reading.acts if s.payload["grant"] == item.id]


def test_two_acts_came_too_late(story, reading):
    revoked, expired = [], []
    for s in reading.acts:
        for hop in reading.path(s.payload["grant"]):
            if hop["id"] in reading.revoked and s.at >= reading.revoked[hop["id"]]:
                revoked.append((s.jti, s.at - reading.revoked[hop["id"]]))
            if s.at >= seconds(hop["expires_at"]):
                expired.append(s.jti)

    [after_revocation] = expected(story, "authority.used_after_revocation", ADA).jtis
    stopped = expected(story, "authority.used_after_revocation", MIA).jtis
    refused = [jti for jti, _ in revoked if jti not in (after_revocation, *stopped)]
    assert {jti: late for jti, late in revoked if jti == after_revocation} == {
        after_revocation: timedelta(milliseconds=300)
    }
    assert len(stopped) == 3 and all(late > timedelta(minutes=9) for jti, late in revoked if jti in stopped)
    assert [s.payload["outcome"] for s in reading.acts if s.jti in refused] == ["denied"]
    assert expired == list(expected(story, "authority.used_after_expiry", BEN).jtis)


def test_one_purchase_lacks_its_gate(story, reading):
    approvals = defaultdict(list)
    for s in reading.sets:
        gate = s.payload.get("gate")
        if gate:
            assert gate["by"] == {"iss": s.claims["sub_id"]["iss"], "sub": s.claims["sub_id"]["sub"]}
            approvals[gate["over"]].append(seconds(gate["at"]))
    missing = []
    gated = [s for s in reading.acts if s.payload.get("money") and s.type != "approval.requested"
             and any("purchase" in hop.get("gates", ()) for hop in reading.path(s.payload["grant"]))]  # fmt: skip
    for s in gated:
        action = {name: s.payload["action"][name] for name in ("verb", "provider", "account", "target", "resource")}
        price = {"max_price_minor": s.payload["money"]["amount_minor"], "currency": "USD"}
        answers = approvals[b64url(hashlib.sha256(rfc8785.dumps(action | price)).digest())]
        if not [at for at in answers if at < s.at]:
            missing.append(s)

    assert found(missing) == set(expected(story, "authority.gate_missing", MIA).jtis)
    assert len(gated) == 9 and all(len(answers) <= 1 for answers in approvals.values())


# -- names and intents


def test_two_names_differ_from_what_was_wanted(story, reading):
    wrong = []
    for s in reading.acts:
        if s.type == "domain.registered":
            intent = reading.path(s.payload["grant"])[0]["intent"]
            assert s.payload["money"]["amount_minor"] <= intent["max_price_minor"]
            if "targets" in intent and s.payload["action"]["resource"] not in intent["targets"]:
                wrong.append((intent["targets"], s.payload["action"]["resource"], s.jti))

    assert wrong == [
        (["superseal.club"], "superseal.cc", *expected(story, "intent.domain_mismatch", ADA).jtis),
        (["acme.io"], "acme-corp.io", *expected(story, "intent.domain_mismatch", BEN).jtis),
    ]


def test_forty_names_within_ten_minutes(story, reading):
    bulk = expected(story, "squatting.bulk_registration", MIA)
    bought = [s for s in reading.acts if s.jti in bulk.jtis]
    names = [s.payload["action"]["resource"] for s in bought]
    others = Counter(
        s.claims["sub_id"]["sub"] for s in reading.acts if s.type == "domain.registered" and s not in bought
    )
    lookalikes = {
        s.payload["action"]["resource"] for s in bought if s.jti in expected(story, "squatting.lookalike", MIA).jtis
    }

    assert len(set(names)) == 40 and bought[-1].at - bought[0].at < timedelta(minutes=10)
    assert lookalikes == {name for name in names if name.startswith("ac")} and len(lookalikes) == 5
    assert sum(s.payload["money"]["amount_minor"] for s in bought) == 6_000
    assert len({json.dumps(s.payload["actor"]) for s in bought}) == 1
    assert others == {"ada": 4, "mia": 4, "ben": 3}


def test_only_mia_registers_near_a_brand_that_is_not_hers(story, reading):
    for s in reading.acts:
        if s.type != "domain.registered" or s.claims["txn"] == "txn-mia-names":
            continue
        for owned in story.owned_names:
            near = owned.names[0][:4] in s.payload["action"]["resource"]
            assert not near or s.claims["sub_id"]["iss"] == owned.issuer


# -- money


def test_every_spend_has_a_key_and_every_key_one_charge(reading):
    charges_by_key = defaultdict(set)
    for s in reading.sets:
        if "money" in s.payload and not s.type.startswith("invoice."):
            charges_by_key[s.payload["call"]["idempotency_key"]].add(s.payload["money"].get("charge"))
    for s in reading.all:
        if s.type == "charge.succeeded":
            charges_by_key[s.claims["request"]["idempotency_key"]].add(s.claims["data"]["object"]["id"])

    assert all(len(charges) == 1 for charges in charges_by_key.values())


def test_stripe_and_the_others_speak_of_the_same_charges(reading):
    ours = {charge: amount for (rail, charge), (*_, amount) in reading.charges().items() if rail == "stripe"}
    succeeded = {s.claims["data"]["object"]["id"]: s.claims["data"]["object"] for s in reading.all
                 if s.type == "charge.succeeded"}  # fmt: skip
    refunds = [s.claims["data"] for s in reading.all if s.type == "charge.refunded"]
    [dispute] = [s.claims["data"]["object"] for s in reading.all if s.type == "charge.dispute.created"]

    assert ours == {charge: obj["amount_captured"] for charge, obj in succeeded.items()}
    assert len(refunds) == 3 and all(r["object"]["id"] in ours for r in refunds)
    assert succeeded[dispute["charge"]]["description"] == "Domain superseal.cc"


def test_eighty_charges_of_one_call(story, reading):
    loop = [s for s in reading.acts if s.jti in expected(story, "spend.retry_loop", ADA).jtis]
    volatile = {"request_id", "timestamp"}
    shapes = Counter()
    for s in reading.acts:
        call = s.payload.get("call", {})
        if s.type == "usage.metered" or "operation" in call:
            args = {name: value for name, value in call["args"].items() if name not in volatile}
            who = s.claims["sub_id"]["sub"], s.payload["action"]["provider"], call["operation"]
            shapes[*who, json.dumps(args), s.payload["money"]["charge"]] = 1
    repeats = Counter(shape[:-1] for shape in shapes)

    assert len(loop) == 80 and sum(s.payload["money"]["amount_minor"] for s in loop) == 40_000
    assert repeats.pop(("ada", "meter", "tensor.render", '{"scene": "launch-film", "quality": "final"}')) == 80
    assert max(repeats.values()) == 1
    assert Counter(s.payload["actor"]["sub"] for s in loop) == {"atlas/scribe": 67, "atlas/scribe-two": 13}
    assert {reading.path(s.payload["grant"])[0]["intent"]["max_price_minor"] for s in loop} == {500}


def test_limits_hold_but_where_a_finding_says_so(story, reading):
    changes = defaultdict(list)
    for s in reading.sets:
        if s.type in ("limit.set", "limit.raised", "limit.lowered") and s.payload["limit"]["scope"] != "grant":
            limit = s.payload["limit"]
            who = s.claims["sub_id"]["iss"], s.claims["sub_id"]["sub"]
            changes[who, limit.get("provider", "global")].append((s.at, limit["max_minor"]))
    spent, over = Counter(), set()
    for who, provider, at, amount in sorted(reading.charges().values(), key=lambda charge: charge[2]):
        for what in (provider, "global"):
            spent[who, what, at.month] += amount
            cap = [limit for since, limit in sorted(changes[who, what]) if since <= at][-1]
            if spent[who, what, at.month] > cap:
                over.add((who, what))

    assert over == {(MIA, "cloud"), (BEN, "global")}
    assert expected(story, "spend.cap_exceeded", MIA).count == 1
    assert expected(story, "spend.cross_provider_cap", BEN).count == 1


def test_only_the_caps_story_raises_its_own_limits(story, reading):
    raised = [s for s in reading.sets if s.type == "limit.raised"]
    selves = [s for s in raised if s.payload["limit"]["set_by"]["sub"].startswith("orion")]
    reached = [s for s in reading.sets if s.type == "limit.reached"]

    assert found(selves) == set(expected(story, "spend.self_raise", BEN).jtis)
    assert Counter(s.payload["limit"]["provider"] for s in selves) == {"registrar": 2, "cloud": 2, "meter": 2}
    assert {s.payload["limit"]["set_by"]["sub"] for s in selves} == {"orion", "orion/ops"}
    assert [s.payload["limit"]["set_by"]["sub"] for s in raised if s not in selves] == ["ada", "mia"]
    assert found([*selves, *reached]) == set(expected(story, "spend.cap_creep", BEN).jtis)
    assert max(s.at for s in reading.acts if "money" in s.payload and s.claims["sub_id"]["sub"] == "ben"
               ) < reached[-1].at + timedelta(hours=1)  # fmt: skip


def test_whoever_may_spend_has_a_hard_limit(reading):
    roots = [s.payload["grant"] for s in reading.grants.values() if s.payload["grant"]["root"]]

    assert all(limit["enforcement"] == "hard" and limit["max_minor"] for root in roots for limit in root["limits"])
    assert all(root["limits"] and root["expires_at"] for root in roots)


# -- integrity


def test_one_conflict_and_three_forgeries_must_be_refused(story):
    kinds = Counter(refusal.kind for refusal in story.refusals)
    [conflict] = [story.deliveries[r.position] for r in story.refusals if r.kind == "duplicate_conflict"]
    first = next(s for s in story.deliveries if s.jti == conflict.jti)
    forged = [story.deliveries[r.position] for r in story.refusals if r.kind == "signature_failed"]

    assert kinds == {"duplicate_conflict": 1, "signature_failed": 3}
    assert first is not conflict and first.raw.rpartition(b".")[0] != conflict.raw.rpartition(b".")[0]
    assert (conflict.jti,) == expected(story, "integrity.duplicate_conflict", None).jtis
    assert found(forged) == set(expected(story, "integrity.signature_failed", None).jtis)
    assert all(sum(s.jti == item.jti for s in story.deliveries) == 1 for item in forged)


# -- sending


class Receiver(ThreadingHTTPServer):
    """A small ingest: verifies, remembers, answers in the shapes of RFC 8935 and RFC 8936."""

    daemon_threads = True

    def __init__(self, story):
        self.specs = {spec.name: spec for spec in story.sources}
        self.kept = {}  # (source, id) -> signed content, in order of arrival
        self.paths = Counter()
        self.busy = 2
        super().__init__(("127.0.0.1", 0), Handler)

    def take(self, source, compact):
        """None, or (status, err)."""
        try:
            jti = verify(compact, self.specs[source].jwks)["jti"]
        except BadSignatureError:
            return 400, "authentication_failed"
        content = compact.rpartition(b".")[0]
        return None if self.kept.setdefault((source, jti), content) == content else (409, "duplicate_conflict")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server, source = self.server, self.path.rpartition("/")[2]
        server.paths[self.path, self.headers["Content-Type"]] += 1
        if server.busy:
            server.busy -= 1
            return self.answer(503 if server.busy else 429, {"err": "busy"}, {"Retry-After": "0"})
        if server.specs[source].format == "stripe":
            assert self.headers["Stripe-Signature"]
            server.kept.setdefault((source, orjson.loads(body)["id"]), body)
            return self.answer(202, None, {})
        if self.headers["Content-Type"] == "application/secevent+jwt":
            refused = server.take(source, body)
            return self.answer(refused[0], {"err": refused[1]}, {}) if refused else self.answer(202, None, {})
        results = {jti: server.take(source, compact.encode()) for jti, compact in orjson.loads(body)["sets"].items()}
        ack = [jti for jti, refused in results.items() if not refused]
        errors = {jti: {"err": refused[1], "description": ""} for jti, refused in results.items() if refused}
        return self.answer(200, {"ack": ack, "setErrs": errors, "leaves": {}}, {})

    def answer(self, status, document, headers):
        body = orjson.dumps(document) if document is not None else b""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    servers = []

    def start(story):
        server = Receiver(story)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_whole_story_arrives_once_and_in_order(receiver):
    story = demo_story(now=NOW)
    server, url = receiver(story)
    steps = []

    played = play(story, url, progress=lambda sent, total: steps.append((sent, total)))

    first_seen = list(dict.fromkeys((s.source, s.jti) for n, s in enumerate(story.deliveries)
                                    if n not in {r.position for r in story.refusals}))  # fmt: skip
    assert list(server.kept) == first_seen
    assert played.accepted == len(first_seen) and played.waited == 2
    assert played.accepted + played.repeated + played.refused.total() == len(story.deliveries)
    assert played.refused == {"authentication_failed": 3, "duplicate_conflict": 1}
    assert steps[-1] == (len(story.deliveries),) * 2 and played.requests < 600
    assert {kind for _, kind in server.paths} == {"application/secevent+jwt", "application/json"}


def test_another_tenant_has_its_own_path_and_audience(receiver):
    story = demo_story(now=NOW, tenant="globex")
    story = replace(story, deliveries=story.deliveries[:20], refusals=())
    server, url = receiver(story)

    play(story, url + "/")

    assert all(path.startswith("/ingest/globex/") for path, _ in server.paths)
    assert story.deliveries[0].claims["aud"] == ["urn:answerable:globex"]


def test_what_the_story_does_not_foresee_is_an_error(receiver):
    story = demo_story(now=NOW)
    forged = [story.deliveries[r.position] for r in story.refusals if r.kind == "signature_failed"]
    good = story.deliveries[0]

    with pytest.raises(PlayError, match="expected success, found"):
        unforeseen = replace(story, deliveries=(good, *forged), refusals=())
        play(unforeseen, receiver(story)[1])
    with pytest.raises(PlayError, match="was accepted, expected signature_failed"):
        play(replace(story, deliveries=(good,), refusals=(Refusal(0, "signature_failed"),)), receiver(story)[1])


# -- load


def test_load_is_distinct_signed_and_repeatable():
    bodies = list(signed_batches(250, 100, seed=3, now=NOW))
    sets = [item for body in bodies for item in orjson.loads(body)["sets"].items()]
    claims = [verify(compact.encode(), load_source(seed=3).jwks) for _, compact in sets]

    assert [len(orjson.loads(body)["sets"]) for body in bodies] == [100, 100, 50]
    assert [c["jti"] for c in claims] == [jti for jti, _ in sets] and len({jti for jti, _ in sets}) == 250
    assert 520 <= sum(len(orjson.dumps(c)) for c in claims) / 250 <= 620
    assert bodies == list(signed_batches(250, 100, seed=3, now=NOW))
    assert dict(signed_sets(5, seed=3, now=NOW, first=240)).items() <= {jti: c.encode() for jti, c in sets}.items()
