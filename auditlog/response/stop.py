"""Stop: tell everybody who can that a subject's authority is over; and lift it again, by two people.

A stop is a statement of this service's users, sent as signals. It changes nothing on record: what became of it is read
from what sources tell afterwards (`reach.became`).
"""

import json
import secrets
from datetime import datetime
from typing import Any
from urllib.parse import quote

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import Max

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible
from auditlog.core.person import NOBODY_KNOWS, may_be_one
from auditlog.core.text import number
from auditlog.core.wire.signal import Subject, claims, events_of, subject_id, verification
from auditlog.custody.security import note
from auditlog.ledger.append import append_note
from auditlog.models import Finding, Receiver, Signal, Stop, Tenant
from auditlog.reads.access import STOP, WHOLE, Viewer, person_of
from auditlog.response.keys import signed
from auditlog.response.reach import Reach, Thing, reach_of, stripe_call, subject_of

log = structlog.get_logger()
LONGEST = 2_000  # characters of a reason
BY_HAND = (Receiver.Kind.REVOCATION, Receiver.Kind.STRIPE, Receiver.Kind.CLOUDFLARE)
SETS = (Receiver.Kind.PUSH, Receiver.Kind.POLL)


def press(
    viewer: Viewer, kind: str, key: str, *, reason: str, now: datetime, is_drill: bool = False, finding: Finding | None = None,
    policy_id: int | None = None, address: str = "",
) -> Stop:  # fmt: skip
    """Stop a party, grant, token or session. Signals are on their way once this commits.

    `is_drill`: receivers are sent a test each and nobody is stopped. Raises NotPermitted, NotFound, NotPossible or
    ConfigurationError, with the reason; nothing is sent then.
    """
    viewer.must(STOP)
    reason = _reason(reason)
    subject = subject_of(viewer, kind, key)
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=viewer.tenant.pk)
        if not is_drill and (before := in_force(viewer.tenant, kind, key)) is not None:
            raise NotPossible(f"{kind} {key} is stopped already, by {before.ref}")
        reach = reach_of(viewer, subject, now=now)
        last = Stop.objects.filter(tenant=viewer.tenant).aggregate(last=Max("number"))["last"] or 0
        stop = Stop.objects.create(
            tenant=viewer.tenant, number=last + 1, kind=kind, key=key, reason=reason, is_drill=is_drill, who=viewer.name,
            person=person_of(viewer) if policy_id is None else f"policy:{policy_id}", at=now, finding_id=finding.pk if finding else None, policy_id=policy_id,
        )  # fmt: skip
        for receiver in reach.receivers:
            if policy_id is not None and receiver.kind in BY_HAND:
                continue  # what it would be asked to undo was named by senders: a person looks first
            _signal(receiver, stop, reach, lifts=False, now=now)
        _state(
            stop,
            "stop.drilled" if is_drill else "stop.pressed",
            who=viewer.name,
            now=now,
            receivers=len(reach.receivers),
        )
        transaction.on_commit(wake)
    note(viewer.tenant, "stop.pressed", who=viewer.name, what=f"{stop.ref} {kind}", address=address, result="drill" if is_drill else "", user_id=viewer.user_id, now=now)  # fmt: skip
    return stop


def stop_of(viewer: Viewer, ref: str) -> Stop:
    """A stop by its reference, as S-3. Raises NotPermitted or NotFound."""
    viewer.must(WHOLE)
    asked = number(ref.removeprefix("S-"), digits=9)
    found = Stop.objects.select_related("tenant").filter(tenant=viewer.tenant, number=asked).first()
    if found is None:
        raise NotFound(f"no stop {ref[:40]}")
    return found


def in_force(tenant: Tenant, kind: str, key: str) -> Stop | None:
    return Stop.objects.filter(tenant=tenant, kind=kind, key=key, is_drill=False, state=Stop.State.IN_FORCE).first()


def lift(viewer: Viewer, stop: Stop, *, reason: str, now: datetime, address: str = "") -> Stop:
    """Propose that a stop be lifted; by another person, lift it. Raises NotPermitted or NotPossible, with the reason.

    Who takes part in events hears of a party that it is enabled again. A revoked session, grant or token stays revoked
    wherever that was done: a new one is issued by whoever issues it.
    """
    viewer.must(STOP)
    person = person_of(viewer)
    if person == NOBODY_KNOWS:
        raise NotPermitted("a token without an owner may be anybody's: it lifts nothing")
    with transaction.atomic():
        held = Stop.objects.select_for_update().filter(tenant=viewer.tenant, pk=stop.pk).first()
        if held is None:
            raise NotFound(f"no stop {stop.ref}")
        if held.state == Stop.State.LIFTED or held.is_drill:
            raise NotPossible(
                f"{held.ref} {'is a drill: it stopped nobody' if held.is_drill else 'was lifted already'}"
            )
        if not held.lift_at:
            held.lift_person, held.lift_who, held.lift_reason, held.lift_at = person, viewer.name, _reason(reason), now
            held.save(update_fields=["lift_person", "lift_who", "lift_reason", "lift_at"])
            _state(held, "stop.lift_proposed", who=viewer.name, now=now)
        elif may_be_one(person, held.lift_person):
            raise NotPermitted(f"{held.lift_who} proposed to lift {held.ref}: another person has to agree")
        else:
            held.state, held.lifted_person, held.lifted_who, held.lifted_at = (
                Stop.State.LIFTED,
                person,
                viewer.name,
                now,
            )
            held.save(update_fields=["state", "lifted_person", "lifted_who", "lifted_at"])
            Signal.objects.filter(stop=held, state__in=[Signal.State.WAITING, Signal.State.FAILED]).update(
                state=Signal.State.CANCELLED
            )
            _tell_lifted(viewer, held, now=now)
            _state(held, "stop.lifted", who=viewer.name, now=now)
            transaction.on_commit(wake)
    note(
        viewer.tenant,
        "stop.lifted",
        who=viewer.name,
        what=held.ref,
        address=address,
        result=held.state,
        user_id=viewer.user_id,
        now=now,
    )
    return held


def keep_in_force(viewer: Viewer, stop: Stop, *, now: datetime) -> Stop:
    """Take a proposal to lift back: the stop stays."""
    viewer.must(STOP)
    with transaction.atomic():
        held = (
            Stop.objects.select_for_update().filter(tenant=viewer.tenant, pk=stop.pk, state=Stop.State.IN_FORCE).first()
        )
        if held is None or not held.lift_at:
            raise NotPossible(f"nobody proposed to lift {stop.ref}")
        held.lift_person, held.lift_who, held.lift_reason, held.lift_at = "", "", "", None
        held.save(update_fields=["lift_person", "lift_who", "lift_reason", "lift_at"])
        _state(held, "stop.kept", who=viewer.name, now=now)
    return held


def send_test(viewer: Viewer, receiver: Receiver, *, now: datetime) -> Signal:
    """Send one receiver a test: events get a verification event, an API a call that changes nothing."""
    viewer.must(STOP)
    if receiver.state == Receiver.State.DISABLED:
        raise NotPossible(f"receiver {receiver.name} is disabled")
    with transaction.atomic():
        found = _test_signal(receiver, None, now=now)
        transaction.on_commit(wake)
    return found


def verify(receiver: Receiver, *, state: str | None, now: datetime) -> Signal:
    """What a receiver asked for at the verification endpoint (SSF 1.0 section 8.1.4)."""
    with transaction.atomic():
        Receiver.objects.filter(pk=receiver.pk).update(verified_at=now)
        found = _verify(receiver, None, "verification", state=state, now=now)
        transaction.on_commit(wake)
    return found


def resend(viewer: Viewer, signal: Signal, *, now: datetime) -> None:
    """A signal that was given up is tried again."""
    viewer.must(STOP)
    changed = Signal.objects.filter(pk=signal.pk, tenant=viewer.tenant, state=Signal.State.DEAD).update(
        state=Signal.State.WAITING, attempts=0, due_at=now, error=""
    )
    if not changed:
        raise NotPossible("only what was given up is sent again")
    wake()


def wake() -> None:
    """Have a worker send what is due, now. Without a broker the next round does it, within a second. Never raises."""
    try:
        current_app.send_task("auditlog.respond", ignore_result=True, retry=False)
    except Exception as error:
        log.warning("wake-up not sent", error=type(error).__name__)


def _reason(reason: str) -> str:
    reason = reason.replace("\x00", "").strip()
    if not reason:
        raise ConfigurationError("reason: say why, so that others can judge it later")
    if len(reason) > LONGEST:
        raise ConfigurationError(f"reason: at most {LONGEST:,} characters, found {len(reason):,}")
    return reason


def _state(stop: Stop, change: str, *, who: str, now: datetime, **more: Any) -> None:
    """The log says that it was stopped and by whom, so that nobody can say later that it was not."""
    said = {"change": change, "stop": stop.ref, "subject": stop.kind, "key": stop.key, "by": who, **more}
    append_note(stop.tenant, "config", said, now=now)


# --- signals ----------------------------------------------------------------------------------------------------------


def _signal(receiver: Receiver, stop: Stop, reach: Reach, *, lifts: bool, now: datetime) -> None:
    if stop.is_drill:
        _test_signal(receiver, stop, now=now)
    elif receiver.kind in SETS:
        for event in events_of(reach.subject, lifts=lifts):
            if not receiver.events or event in receiver.events:
                jti = _jti()
                said = claims(
                    event, issuer=settings.ISSUER, audience=_audience(receiver), jti=jti, txn=f"{stop.tenant.name}/{stop.ref}", subject=reach.subject,
                    at=now, by_policy=stop.policy_id is not None, reason=f"{stop.ref}: {stop.reason}"[:1_000],
                )  # fmt: skip
                _keep(receiver, stop, event, signed(json.dumps(said).encode()), jti=jti, now=now)
    elif receiver.kind == Receiver.Kind.WEBHOOK:
        _keep(
            receiver,
            stop,
            "agent.enabled" if lifts else "agent.stopped",
            _message(stop, reach.subject, lifts=lifts),
            now=now,
        )
    elif not lifts:
        for line in reach.lines:
            if receiver in line.channels:
                _ask(receiver, stop, line.thing, now=now)


def _tell_lifted(viewer: Viewer, stop: Stop, *, now: datetime) -> None:
    try:
        subject = subject_of(viewer, stop.kind, stop.key)
    except NotFound:  # erased since: what was stopped by its id is named by it again
        subject = Subject(stop.kind, stop.key)
    told = Receiver.objects.filter(signals__stop=stop).exclude(state=Receiver.State.DISABLED).distinct()
    for receiver in told:
        _signal(receiver, stop, Reach(subject, ()), lifts=True, now=now)


def _message(stop: Stop, subject: Any, *, lifts: bool) -> str:
    return json.dumps({
        "type": "agent.enabled" if lifts else "agent.stopped",
        "timestamp": ((stop.lifted_at if lifts else stop.at) or stop.at).isoformat(),
        "data": {"stop": stop.ref, "tenant": stop.tenant.name, "subject": subject_id(subject), "kind": stop.kind, "reason": stop.reason},
    })  # fmt: skip


def _ask(receiver: Receiver, stop: Stop, thing: Thing, *, now: datetime) -> None:
    """One request to an API. It is kept as it will be sent, but for the secret."""
    id = quote(thing.id, safe="")  # a sender wrote it
    if receiver.kind == Receiver.Kind.REVOCATION:
        asked = {"method": "POST", "path": "", "form": {"token": thing.id, "token_type_hint": "access_token"}}
    elif receiver.kind == Receiver.Kind.STRIPE and stripe_call(thing) == "card":
        asked = {"method": "POST", "path": f"/v1/issuing/cards/{id}", "form": {"status": "inactive"}}
    elif receiver.kind == Receiver.Kind.STRIPE:
        asked = {
            "method": "POST",
            "path": f"/v1/payment_intents/{id}/cancel",
            "form": {"cancellation_reason": "requested_by_customer"},
        }
    else:
        asked = {"method": "DELETE", "path": f"{_owner(receiver)}/tokens/{id}"}
    _keep(receiver, stop, f"{asked['method']} {thing.kind} {thing.id}"[:160], json.dumps(asked), now=now)


def _owner(receiver: Receiver) -> str:
    return f"/accounts/{quote(receiver.account, safe='')}" if receiver.account else "/user"


def _test_signal(receiver: Receiver, stop: Stop | None, *, now: datetime) -> Signal:
    """What changes nothing at the receiver and shows that it would be reached, and lets us in."""
    if receiver.kind in SETS:
        return _verify(receiver, stop, "test", state="test", now=now)
    if receiver.kind == Receiver.Kind.WEBHOOK:
        said = json.dumps({"type": "test", "timestamp": now.isoformat(), "data": {"tenant": receiver.tenant.name}})
        return _keep(receiver, stop, "test", said, now=now)
    if receiver.kind == Receiver.Kind.REVOCATION:  # RFC 7009 section 2.2: an unknown token is answered 200
        asked = {"method": "POST", "path": "", "form": {"token": f"test-{_jti()}"}}
    elif receiver.kind == Receiver.Kind.STRIPE:
        asked = {"method": "GET", "path": "/v1/balance"}
    else:
        asked = {"method": "GET", "path": f"{_owner(receiver)}/tokens/verify"}
    return _keep(receiver, stop, "test", json.dumps(asked), now=now)


def _verify(receiver: Receiver, stop: Stop | None, what: str, *, state: str | None, now: datetime) -> Signal:
    jti = _jti()
    said = verification(
        issuer=settings.ISSUER, audience=_audience(receiver), jti=jti, stream=str(receiver.stream), at=now, state=state
    )
    return _keep(receiver, stop, what, signed(json.dumps(said).encode()), jti=jti, now=now)


def _keep(receiver: Receiver, stop: Stop | None, what: str, body: str, *, now: datetime, jti: str = "") -> Signal:
    return Signal.objects.create(
        tenant=receiver.tenant,
        receiver=receiver,
        stop=stop,
        jti=jti or _jti(),
        what=what,
        body=body,
        created_at=now,
        due_at=now,
    )


def _audience(receiver: Receiver) -> str:
    return receiver.audience or f"urn:answerable:receiver:{receiver.stream}"


def _jti() -> str:
    return secrets.token_urlsafe(18)
