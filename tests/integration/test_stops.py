# ruff: noqa: F811  (fixtures)
"""Stopping an agent: who is told, by which message, what became of it, and how two people take it back."""

import base64
import json
import os
from datetime import timedelta
from urllib.parse import parse_qs

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connections, transaction
from django.test import Client
from joserfc import jws
from joserfc.jwk import KeySet
from standardwebhooks import Webhook

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible
from auditlog.core.wire.signal import ACCOUNT_DISABLED, ACCOUNT_ENABLED, SESSION_REVOKED, VERIFICATION
from auditlog.database import clock
from auditlog.models import Event, Finding, Receiver, ResponsePolicy, Signal, Stop
from auditlog.reads.access import Viewer
from auditlog.response import policy as policies
from auditlog.response import receivers
from auditlog.response.deliver import GIVEN_UP, deliver, due_receivers
from auditlog.response.reach import became, reach_of, subject_of
from auditlog.response.stop import keep_in_force, lift, press, resend, send_test
from auditlog.sources import sealed
from auditlog.sources.sealed import seal
from tests.integration.test_api import Api, desk, problem  # noqa: F401  the desk is a fixture
from tests.integration.test_siem import find

pytestmark = pytest.mark.usefixtures("database")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", base64.b64encode(os.urandom(32)).decode())
    sealed.forget()


@pytest.fixture
def people(desk):
    def one(name, role="security"):
        user, _ = User.objects.get_or_create(username=name, defaults={"email": f"{name}@example.org"})
        return Viewer(desk.row, role, name, user.pk)

    return one


def receiver(desk, outside, kind="push", name="", **more):
    if kind not in ("poll", "stripe", "cloudflare"):
        more = {"url": f"{outside.url}/{kind}", **more}
    if kind in ("stripe", "cloudflare"):
        more = {"url": outside.url, **more}
    if kind in ("webhook", "revocation", "stripe", "cloudflare"):
        seal(desk.row, "RECEIVER_SECRET", more.pop("secret", b"whsec_" + base64.b64encode(b"k" * 24)), now=desk.now)
        more["secret_env"] = "RECEIVER_SECRET"
    return receivers.add(desk.row, name or kind, kind=kind, allow_private=True, now=desk.now, **more)[0]


def taken(outside, status=202, body=b""):
    got = []

    def answer(method, path, headers, sent):
        got.append((method, path, {k.lower(): v for k, v in headers.items()}, sent))
        return status, {}, body

    outside.answer = answer
    return got


def send(desk, outside, now=None):
    return sum(
        deliver(pk, now=lambda: now or desk.now, call=outside.call)
        for pk in due_receivers(now=now or desk.now)
        if Receiver.objects.filter(pk=pk, tenant=desk.row).exists()
    )


def opened(token):
    keys = KeySet.import_key_set(
        {"keys": [k for k in Client().get("/.well-known/jwks.json").json()["keys"] if k["kty"] == "RSA"]}
    )
    said = jws.deserialize_compact(token, keys, algorithms=["RS256"])
    assert said.headers()["typ"] == "secevent+jwt" and said.headers()["kid"]
    return json.loads(said.payload)


def of(party):
    return f"{party.iss}|{party.sub}"


def responded(desk):
    return [stop for stop in policies.respond_to_findings(now=lambda: desk.now) if stop.tenant_id == desk.row.pk]


def test_a_stopped_agent_is_told_of_as_caep_and_risc_events_that_our_published_keys_verify(desk, outside, people):
    receiver(desk, outside, audience="https://cloud.example")
    got = taken(outside)
    stop = press(people("mia"), "party", of(desk.lead), reason="it loops", now=desk.now)

    assert send(desk, outside) == 2 and [s.state for s in Signal.objects.filter(stop=stop)] == ["accepted"] * 2
    events = {next(iter(said["events"])): said for said in (opened(body.decode()) for *_, body in got)}
    assert set(events) == {SESSION_REVOKED, ACCOUNT_DISABLED}
    said = events[SESSION_REVOKED]
    assert said["aud"] == "https://cloud.example" and said["sub_id"] == {
        "format": "iss_sub",
        "iss": desk.lead.iss,
        "sub": "lead",
    }
    assert (
        said["events"][SESSION_REVOKED]["initiating_entity"] == "admin"
        and "it loops" in said["events"][SESSION_REVOKED]["reason_admin"]["en"]
    )
    assert all(headers["content-type"] == "application/secevent+jwt" for _, _, headers, _ in got)
    assert "exp" not in said and "sub" not in said  # RFC 8417 section 2.2


def test_a_token_and_a_grant_are_told_of_by_their_ids(desk, outside, people):
    receiver(desk, outside)
    got = taken(outside)
    press(people("mia"), "token", desk.issued.payload["token"]["jti"], reason="leaked", now=desk.now)
    press(people("mia"), "grant", desk.child.id, reason="leaked", now=desk.now)
    press(people("mia"), "session", "s-1", reason="leaked", now=desk.now)
    send(desk, outside)
    token, grant, session = (opened(body.decode())["sub_id"] for *_, body in got)

    assert token["format"] == "jwt_id" and token["jti"] == desk.issued.payload["token"]["jti"] and token["iss"]
    assert grant["session"] == {"format": "opaque", "id": desk.child.id} and grant["user"]["sub"] == "ada"
    assert session["session"]["id"] == "s-1"


def test_before_it_is_pressed_the_reach_says_what_can_be_stopped_by_whom_and_what_by_nobody(desk, outside, people):
    receiver(desk, outside, "revocation", issuer="https://elsewhere.example")
    reach = reach_of(people("mia"), subject_of(people("mia"), "grant", desk.root.id), now=desk.at + HOUR / 6)
    kinds = {line.thing.kind for line in reach.lines}

    assert {"grant", "token", "agent", "domain"} <= kinds
    assert len(reach.without_channel) == len(reach.lines) and reach.receivers == ()  # of another issuer
    receiver(desk, outside, name="registrar", provider=desk.bought.payload["action"]["provider"])
    reach = reach_of(people("mia"), subject_of(people("mia"), "grant", desk.root.id), now=desk.now)
    [domain] = [line for line in reach.lines if line.thing.kind == "domain"]
    assert [r.name for r in domain.channels] == ["registrar"] and [r.name for r in reach.receivers] == ["registrar"]


def test_what_happened_after_the_stop_is_counted_and_a_refusal_makes_it_effective(desk, outside, people):
    receiver(desk, outside, provider="cloud")
    stop = press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now - HOUR)
    before = became(people("mia"), stop)
    assert (before.escaped, before.spent, before.effective) == (0, (), {})
    late = desk.event("action.performed", grant=desk.root, at=desk.now - HOUR / 2, action={"verb": "worker.deploy", "provider": "cloud", "target": {"type": "worker", "id": "w2"}},
                      money={"amount_minor": 70, "currency": "EUR"})  # fmt: skip
    denied = desk.event(
        "action.denied",
        grant=desk.root,
        outcome="denied",
        at=desk.now - HOUR / 4,
        action={"verb": "worker.deploy", "provider": "cloud"},
    )
    desk.send(late, denied)
    desk.settle()
    after = became(people("mia"), stop)

    assert (after.escaped, after.spent, after.refused) == (1, (("EUR", 70),), 1) and set(after.effective) == {"cloud"}
    told = Api(desk.row, "auditor").get(f"stops/{stop.ref}").json()
    assert told["since"]["spent"] == [{"currency": "EUR", "amount_minor": 70}] and {
        s["effective_at"] is not None for s in told["signals"]
    } == {True}


@pytest.mark.parametrize(
    ("status", "state"), [(500, "failed"), (401, "failed"), (429, "failed"), (400, "dead"), (404, "dead")]
)
def test_a_receiver_that_does_not_take_it_is_asked_again_unless_it_says_no_for_good(
    desk, outside, people, status, state
):
    receiver(desk, outside)
    taken(outside, status, b'{"err": "invalid_key"}')
    stop = press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    assert send(desk, outside) == 0
    [signal] = stop.signals.all()

    assert signal.state == state and str(status) in signal.error and "invalid_key" in signal.error
    taken(outside)
    assert send(desk, outside) == 0  # not at once
    assert send(desk, outside, now=desk.now + timedelta(minutes=5)) == (state == "failed")


def test_what_nobody_took_for_a_day_is_given_up_and_shown_and_can_be_sent_again(desk, outside, people):
    receiver(desk, outside)
    taken(outside, 503)
    stop = press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    later = desk.now + GIVEN_UP + HOUR
    send(desk, outside, now=later)
    [signal] = stop.signals.all()
    assert signal.state == "dead"
    with pytest.raises(NotPermitted):
        resend(people("fin", "finance"), signal, now=later)
    resend(people("mia"), signal, now=later)
    taken(outside)
    assert send(desk, outside, now=later) == 1


def test_a_webhook_is_signed_as_standard_webhooks_verify_it(desk, outside, people):
    receiver(desk, outside, "webhook")
    got = taken(outside, 200)
    from django.utils import timezone

    press(people("mia"), "party", of(desk.helper), reason="stop", now=desk.now)
    send(desk, outside, now=timezone.now())
    [(_, _, headers, body)] = got

    said = Webhook("whsec_" + base64.b64encode(b"k" * 24).decode()).verify(body, headers)
    assert said["type"] == "agent.stopped" and said["data"]["subject"]["sub"] == "helper"


def test_tokens_are_revoked_where_their_issuer_says_and_only_those(desk, outside, people):
    issuer = reach_of(
        people("mia"), subject_of(people("mia"), "token", desk.issued.payload["token"]["jti"]), now=desk.at + HOUR / 6
    ).subject.issuer
    receiver(desk, outside, "revocation", issuer=issuer, secret=b"client:secret")
    got = taken(outside, 200)
    press(people("mia"), "grant", desk.child.id, reason="stop", now=desk.at + HOUR / 6)
    send(desk, outside)
    [(method, _, headers, body)] = got

    assert method == "POST" and parse_qs(body.decode())["token"] == [desk.issued.payload["token"]["jti"]]
    assert headers["authorization"] == "Basic " + base64.b64encode(b"client:secret").decode()


def test_stripe_is_asked_to_freeze_the_card_and_cancel_the_hold_and_nothing_a_sender_made_up(desk, outside, people):
    receiver(desk, outside, "stripe", secret=b"sk_test_1")
    desk.send(
        desk.event("payment.authority_granted", grant=desk.root, actor=desk.lead, at=desk.at + HOUR, action={"provider": "stripe"}, money={"authority": "ic_1/../../v1/refunds"}),
        desk.event("payment.authorized", grant=desk.root, actor=desk.lead, at=desk.now - HOUR, action={"provider": "stripe"},
                   money={"amount_minor": 900, "currency": "USD", "rail": "stripe", "charge": "pi_9"}),
    )  # fmt: skip
    desk.settle()
    got = taken(outside, 200)
    press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    send(desk, outside)
    paths = {path: parse_qs(body.decode()) for _, path, _, body in got}

    assert paths.pop("/v1/payment_intents/pi_9/cancel") == {"cancellation_reason": ["requested_by_customer"]}
    assert all(path.startswith("/v1/issuing/cards/ic_1%2F") for path in paths)
    assert all(
        headers["authorization"] == "Bearer sk_test_1" and headers["idempotency-key"] for _, _, headers, _ in got
    )


def test_a_drill_reaches_the_channel_and_stops_nobody(desk, outside, people):
    made = receiver(desk, outside)
    got = taken(outside)
    stop = press(people("mia"), "grant", desk.root.id, reason="quarterly drill", is_drill=True, now=desk.now)
    send(desk, outside)
    [(_, _, _, body)] = got

    assert list(opened(body.decode())["events"]) == [VERIFICATION]
    made.refresh_from_db()
    assert made.tested_at == desk.now
    with pytest.raises(NotPossible, match="drill"):
        lift(people("ben"), stop, reason="x", now=desk.now)
    press(people("mia"), "grant", desk.root.id, reason="for real", now=desk.now)  # a drill is in nobody's way


def test_two_people_lift_a_stop_and_one_does_not(desk, outside, people):
    receiver(desk, outside)
    got = taken(outside)
    stop = press(people("mia"), "party", of(desk.lead), reason="stop", now=desk.now)
    send(desk, outside)
    with pytest.raises(NotPossible, match="stopped already"):
        press(people("ben"), "party", of(desk.lead), reason="again", now=desk.now)
    with pytest.raises(ConfigurationError, match="say why"):
        lift(people("mia"), stop, reason=" ", now=desk.now)
    lift(people("mia"), stop, reason="checked", now=desk.now)
    with pytest.raises(NotPermitted, match="another person"):
        lift(people("mia"), stop, reason="checked", now=desk.now)
    with pytest.raises(NotPermitted, match="without an owner"):
        lift(Viewer(desk.row, "security", "a token"), stop, reason="checked", now=desk.now)
    keep_in_force(people("ben"), stop, now=desk.now)
    lift(people("ben"), stop, reason="checked again", now=desk.now)
    lifted = lift(people("mia"), stop, reason="", now=desk.now)
    got.clear()
    send(desk, outside)

    assert lifted.state == "lifted" and (lifted.lift_who, lifted.lifted_who) == ("ben", "mia")
    assert [next(iter(opened(body.decode())["events"])) for *_, body in got] == [ACCOUNT_ENABLED]
    with pytest.raises(DatabaseError), transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute("UPDATE response_stop SET reason = 'nothing' WHERE id = %s", [stop.pk])
    with pytest.raises(DatabaseError), transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM response_stop WHERE id = %s", [stop.pk])


@pytest.mark.parametrize("role", ["finance", "abuse", "auditor"])
def test_only_admin_and_security_stop(desk, people, role):
    with pytest.raises(NotPermitted):
        press(people("fin", role), "grant", desk.root.id, reason="x", now=desk.now)
    provider = "cloud" if role == "abuse" else ""
    problem(
        Api(desk.row, role, provider=provider).post("stops", {"kind": "grant", "key": desk.root.id, "reason": "x"}), 403
    )
    assert not Stop.objects.filter(tenant=desk.row).exists()


def test_what_is_not_on_record_is_not_stopped(desk, people):
    for kind in ("party", "grant", "token", "session", "planet"):
        with pytest.raises(NotFound):
            press(people("mia"), kind, "nobody|x", reason="x", now=desk.now)
    assert not Stop.objects.filter(tenant=desk.row).exists()


def test_another_tenant_knows_nothing_of_a_stop(desk, people):
    from auditlog.sources.configure import add_tenant

    stop = press(people("mia"), "grant", desk.root.id, reason="x", now=desk.now)
    other = add_tenant("elsewhere", now=desk.now)
    problem(Api(other, "admin").get(f"stops/{stop.ref}"), 404)
    assert Api(other, "admin").get("stops").json()["results"] == []


def test_a_receiver_whose_row_was_changed_behind_the_log_is_told_nothing(desk, outside, people):
    made = receiver(desk, outside)
    got = taken(outside)
    press(people("mia"), "grant", desk.root.id, reason="x", now=desk.now)
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE response_receiver DISABLE TRIGGER configuration_restated")
        cursor.execute("UPDATE response_receiver SET audience = 'https://thief.example' WHERE id = %s", [made.pk])
        cursor.execute("ALTER TABLE response_receiver ENABLE TRIGGER configuration_restated")

    assert send(desk, outside) == 0 and got == []
    assert "is not what leaf" in Signal.objects.get(tenant=desk.row).error


def test_receivers_are_checked_before_they_are_kept(desk):
    for kind, more, why in (
        ("push", {}, "url"), ("push", {"url": "http://plain.example"}, "https"), ("webhook", {"url": "https://x.example"}, "secret_env"),
        ("poll", {"url": "https://x.example"}, "calls us"), ("revocation", {"url": "https://x.example", "secret_env": "A"}, "issuer"),
        ("push", {"url": "https://x.example", "secret_env": "ANSWERABLE_SECRET_KEY"}, "own"), ("push", {"url": "https://x.example", "events": ["x"]}, "not sent"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=why):
            receivers.add(desk.row, "r", kind=kind, now=desk.now, **more)
    with pytest.raises(ObjectDoesNotExist):
        Receiver.objects.get(name="r")


# --- response policies ------------------------------------------------------------------------------------------------


def policy(people, **more):
    more = {"rule": "spend.retry_loop", "severity": "high", "subject": "grant"} | more
    return policies.add(
        people("mia", "admin"), "loops", now=people("mia").tenant.created_at - timedelta(days=30), **more
    )


def found(desk, **more):
    finding = find(desk, **{"rule": "spend.retry_loop", "severity": "high", **more})
    Finding.objects.filter(pk=finding.pk).update(
        grant=desk.root.id, actor=of(desk.lead), money_at_risk_minor=500, currency="USD"
    )
    return finding


def test_a_dry_run_notes_what_it_would_stop_and_stops_nobody(desk, people):
    made, finding = policy(people), found(desk)
    for _ in range(2):
        assert responded(desk) == []
    made.refresh_from_db()

    assert [entry["finding"] for entry in made.would] == [finding.pk] and not Stop.objects.filter(
        tenant=desk.row
    ).exists()


def test_two_people_make_a_policy_live_and_then_it_stops_once_for_each_finding(desk, outside, people):
    receiver(desk, outside)
    made = policy(people)
    policies.set_mode(people("mia", "admin"), made, "live", now=desk.at)
    with pytest.raises(NotPermitted, match="another person"):
        policies.set_mode(people("mia", "admin"), made, "live", now=desk.at)
    with pytest.raises(NotPermitted):
        policies.set_mode(people("fin", "finance"), made, "live", now=desk.at)
    assert policies.set_mode(people("ben", "admin"), made, "live", now=desk.at).mode == ResponsePolicy.Mode.LIVE
    finding = found(desk)
    [stop] = responded(desk)
    got = taken(outside)
    send(desk, outside)

    assert (stop.kind, stop.key, stop.finding_id, stop.who) == ("grant", desk.root.id, finding.pk, "policy loops")
    assert opened(got[0][3].decode())["events"][SESSION_REVOKED]["initiating_entity"] == "policy"
    assert responded(desk) == []
    lift(people("mia"), stop, reason="fine", now=desk.now)
    lift(people("ben"), stop, reason="fine", now=desk.now)
    assert responded(desk) == []  # not again for the same finding


def test_a_policy_asks_no_api_to_undo_what_a_sender_named(desk, outside, people):
    receiver(desk, outside, "stripe", secret=b"sk_test_1")
    desk.send(
        desk.event(
            "payment.authority_granted",
            grant=desk.root,
            actor=desk.lead,
            at=desk.at + HOUR,
            action={"provider": "stripe"},
            money={"authority": "ic_1"},
        )
    )
    desk.settle()
    made = policy(people)
    policies.set_mode(people("mia", "admin"), made, "live", now=desk.at)
    policies.set_mode(people("ben", "admin"), made, "live", now=desk.at)
    found(desk)
    [stop] = responded(desk)
    assert not stop.signals.exists()


def test_what_is_stopped_already_holds_no_other_finding_up(desk, outside, people):
    made = policy(people)
    policies.set_mode(people("mia", "admin"), made, "live", now=desk.at)
    policies.set_mode(people("ben", "admin"), made, "live", now=desk.at)
    press(people("mia"), "grant", desk.root.id, reason="by hand", now=desk.now)
    for number in range(policies.MOST + 1):
        finding = find(desk, number, rule="spend.retry_loop", severity="high")
        Finding.objects.filter(pk=finding.pk).update(grant=desk.root.id)
    last = find(desk, policies.MOST + 2, rule="spend.retry_loop", severity="high")
    Finding.objects.filter(pk=last.pk).update(grant=desk.child.id)

    assert [stop.key for stop in responded(desk)] == [desk.child.id]


def test_a_dry_run_that_is_full_says_no_more_and_begins_anew_when_it_is_switched(desk, people, monkeypatch):
    monkeypatch.setattr(policies, "KEPT", 2)
    made = policy(people)
    for number in range(4):
        finding = find(desk, number, rule="spend.retry_loop", severity="high")
        Finding.objects.filter(pk=finding.pk).update(grant=desk.root.id)
    for _ in range(3):
        responded(desk)
        made.refresh_from_db()
        assert len(made.would) == 2
    assert policies.set_mode(people("mia", "admin"), made, "dry_run", now=desk.now).would == []


def test_a_clock_that_is_set_back_holds_no_signal_up(desk, outside, people):
    receiver(desk, outside)
    taken(outside, 503)
    stop = press(people("mia"), "grant", desk.root.id, reason="stop", now=desk.now)
    send(desk, outside)
    clock.follow(at=desk.now)
    clock.follow(at=desk.now - 2 * HOUR)
    taken(outside)
    assert (
        send(desk, outside, now=desk.now - 2 * HOUR + timedelta(seconds=30)) == 1
        and stop.signals.get().state == "accepted"
    )


def test_a_stop_of_what_was_erased_since_can_still_be_lifted(desk, outside, people):
    receiver(desk, outside)
    stop = press(people("mia"), "session", "s-1", reason="stop", now=desk.now)
    Event.objects.filter(tenant=desk.row, session="s-1").update(session="")
    lift(people("mia"), stop, reason="over", now=desk.now)
    assert lift(people("ben"), stop, reason="over", now=desk.now).state == "lifted"


def test_a_policy_minds_its_severity_amount_and_beginning(desk, people):
    for number, more in enumerate(
        ({"severity": "critical"}, {"minimum_minor": 501, "currency": "USD"}, {"minimum_minor": 1, "currency": "EUR"})
    ):
        made = policies.add(
            people("mia", "admin"),
            f"p{number}",
            now=desk.at,
            **({"rule": "spend.retry_loop", "severity": "high", "subject": "grant"} | more),
        )
        made.mode = "live"
        made.save()
    later = policies.add(
        people("mia", "admin"), "late", rule="spend.retry_loop", severity="low", subject="grant", now=desk.now + HOUR
    )
    later.mode = "live"
    later.save()
    found(desk)
    assert responded(desk) == []
    with pytest.raises(ConfigurationError, match="rule"):
        policies.add(people("mia", "admin"), "x", rule="no.rule", now=desk.now)


def test_a_test_of_a_receiver_says_when_it_was_last_reached(desk, outside, people):
    made = receiver(desk, outside, "cloudflare", secret=b"t", account="acc")
    got = taken(outside, 200, b'{"success": true}')
    send_test(people("mia"), made, now=desk.now)
    send(desk, outside)
    made.refresh_from_db()
    assert made.tested_at == desk.now and got[0][:2] == ("GET", "/accounts/acc/tokens/verify")
    taken(outside, 200, b'{"success": false}')
    send_test(people("mia"), made, now=desk.now)
    assert send(desk, outside) == 0


def test_the_interface_of_responses_presses_previews_and_lists_stops(desk, outside):
    receiver(desk, outside, name="cloud")
    api = Api(desk.row, "security")
    asked = {"stop": {"party": {"iss": desk.lead.iss, "sub": desk.lead.sub}}, "reason": "it loops"}
    preview = api.post("responses", asked | {"dry_run": True})
    assert preview.status_code == 200 and not Stop.objects.filter(tenant=desk.row).exists()
    assert [one["name"] for one in preview.json()["receivers"]] == ["cloud"]

    made = api.post("responses", asked)
    assert made.status_code == 201, made.content
    said = made.json()
    assert (said["kind"], said["target"], said["state"]) == ("stop", {"party": of(desk.lead)}, "in_force")
    assert {one["state"] for one in said["receivers"]} == {"sent"} and said["escaped"] == {"events": 0, "money": []}
    got = taken(outside)
    assert send(desk, outside, now=clock.now()) and got
    assert {one["state"] for one in api.get(f"responses/{said['id']}").json()["receivers"]} == {"accepted"}
    assert [one["id"] for one in api.rows("responses", {"state": "in_force"})] == [said["id"]]
    assert api.rows("responses", {"state": "lifted"}) == []


@pytest.mark.parametrize(
    ("asked", "status"),
    [({"stop": {}, "reason": "r"}, 400), ({"stop": {"planet": "x"}, "reason": "r"}, 400), ({"stop": {"grant": "g", "token": "t"}, "reason": "r"}, 400),
     ({"stop": {"party": {"iss": "a"}}, "reason": "r"}, 400), ({"stop": {"grant": 5}, "reason": "r"}, 400), ({"stop": {"grant": "unknown"}, "reason": "r"}, 404),
     ({"stop": {"grant": "unknown"}}, 400)],
)  # fmt: skip
def test_a_response_that_stops_nothing_is_refused_and_says_why(desk, asked, status):
    problem(Api(desk.row, "security").post("responses", asked), status)
    problem(Api(desk.row, "finance").post("responses", {"stop": {"party": of(desk.lead)}, "reason": "r"}), 403)
    problem(Api(desk.row, "security").get("responses", {"state": "odd"}), 400)
