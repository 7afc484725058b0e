"""Deliver signals: each receiver's in their order, at once, and again later where it fails; given up after a day.

SETs are pushed (RFC 8935) or wait to be polled (RFC 8936, `transmitter.py`); webhooks are signed (Standard Webhooks); APIs are
asked with the receiver's own key. Each request bears the signal's id, so that a second try does nothing twice.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlencode

import structlog
from django.db.models import Min, Q

from auditlog.core.errors import AnswerableError, NotConfigured, UnexpectedAnswer
from auditlog.core.wire.request import Request, Response
from auditlog.formats.standard_webhooks import signature
from auditlog.models import Receiver, Signal
from auditlog.sources import configuration, outbound
from auditlog.sources.pull import alone
from auditlog.sources.source_secrets import source_secret

log = structlog.get_logger()
BOUNDS = outbound.Bounds(connect=3.0, read=8.0, total=10.0, size=64 * 1024)
GIVEN_UP = timedelta(hours=24)
WAITS = (1, 2, 5, 15, 60, 300, 900, 3_600)  # seconds; the last one again and again
MOST = 50  # of one receiver in one round
DUE = Q(state__in=[Signal.State.WAITING, Signal.State.FAILED])
STRIPE, CLOUDFLARE = "https://api.stripe.com", "https://api.cloudflare.com/client/v4"
STRIPE_VERSION = "2025-03-31.basil"


def due_receivers(*, now: datetime) -> list[int]:
    """Receivers with something to send, the longest waiting first."""
    due = Signal.objects.filter(DUE, due_at__lte=now, receiver__state=Receiver.State.ENABLED)
    waiting = due.exclude(receiver__kind=Receiver.Kind.POLL).values("receiver_id").annotate(since=Min("due_at"))
    return list(waiting.order_by("since", "receiver_id").values_list("receiver_id", flat=True))


def deliver(receiver_id: int, *, now: Callable[[], datetime], call: outbound.Call = outbound.call) -> int:
    """Send what one receiver is owed. Returns how many it accepted. Does nothing while somebody else is at it."""
    receiver = Receiver.objects.select_related("tenant").get(pk=receiver_id)
    accepted = 0
    with alone(receiver, "signal") as mine:
        if not mine:
            return 0
        due = Signal.objects.filter(DUE, receiver=receiver, due_at__lte=now()).order_by("id")[:MOST]
        try:
            configuration.refuse_if_differs(receiver.tenant, ("receiver", receiver.pk))
            if configuration.binds(receiver.tenant, ("receiver", receiver.pk)) is not None:
                return 0  # who is told is not published yet
        except AnswerableError as error:
            put_off(receiver_id, str(error), now=now())
            return 0
        for signal in due:
            at = now()
            try:
                answer = call(request_of(receiver, signal, now=at), allow_private=receiver.allow_private, bounds=BOUNDS)
                _check(receiver, answer, now=at)
            except AnswerableError as error:
                _failed(signal, error, now=now())
                log.warning(
                    "signal not accepted", tenant=receiver.tenant.name, receiver=receiver.name, reason=str(error)[:200]
                )
                continue
            _accepted(receiver, signal, sent=at, now=now())
            accepted += 1
    return accepted


def request_of(receiver: Receiver, signal: Signal, *, now: datetime) -> Request:
    """What is sent for a signal. Raises NotConfigured where a secret is missing."""
    kind = receiver.kind
    if kind == Receiver.Kind.PUSH:
        headers = {"Content-Type": "application/secevent+jwt", "Accept": "application/json"}
        if receiver.secret_env:
            headers["Authorization"] = secret_of(receiver)
        return Request(receiver.url, "POST", signal.body.encode(), headers)
    if kind == Receiver.Kind.WEBHOOK:
        body, at = signal.body.encode(), str(int(now.timestamp()))
        signed = f"v1,{signature(secret_of(receiver).encode(), signal.jti, at, body)}"
        headers = {
            "Content-Type": "application/json",
            "webhook-id": signal.jti,
            "webhook-timestamp": at,
            "webhook-signature": signed,
        }
        return Request(receiver.url, "POST", body, headers)
    asked = json.loads(signal.body)
    secret = secret_of(receiver)
    if kind == Receiver.Kind.REVOCATION:
        headers = {"Authorization": secret if " " in secret else f"Basic {b64encode(secret.encode()).decode()}"}
    elif kind == Receiver.Kind.STRIPE:
        headers = {"Authorization": f"Bearer {secret}", "Stripe-Version": STRIPE_VERSION, "Idempotency-Key": signal.jti}
    else:
        headers = {"Authorization": f"Bearer {secret}"}
    body = urlencode(asked["form"]).encode() if "form" in asked else b""
    if body:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    base = receiver.url or {Receiver.Kind.STRIPE: STRIPE, Receiver.Kind.CLOUDFLARE: CLOUDFLARE}.get(kind, "")
    return Request(base.rstrip("/") + asked["path"], asked["method"], body, headers)


def secret_of(receiver: Receiver) -> str:
    """What the receiver is called under. Raises NotConfigured."""
    found = source_secret(receiver.secret_env, receiver.tenant) if receiver.secret_env else None
    if not found:
        raise NotConfigured(
            f"{receiver.secret_env or 'the secret'} of receiver {receiver.name} is not set where the service runs"
        )
    return found.decode("latin-1").strip()


def _check(receiver: Receiver, answer: Response, *, now: datetime) -> None:
    """Raises UnexpectedAnswer unless the receiver took it. Of its body only a code of a known shape is told."""
    if 200 <= answer.status < 300 and (
        receiver.kind != Receiver.Kind.CLOUDFLARE or _json(answer).get("success") is not False
    ):
        return
    said = _json(answer)
    error = said.get("err") or said.get("error")
    code = error if isinstance(error, str) else error.get("code") if isinstance(error, dict) else None
    known = f" ({code[:60]})" if isinstance(code, str) and code.replace("_", "").isalnum() else ""
    raise UnexpectedAnswer(
        f"{receiver.name} answered {answer.status}{known}, expected 2xx",
        status=answer.status,
        retry_after=answer.retry_after(now=now),
    )


def _json(answer: Response) -> dict:
    try:
        said = json.loads(answer.body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _accepted(receiver: Receiver, signal: Signal, *, sent: datetime, now: datetime) -> None:
    signal.state, signal.sent_at, signal.accepted_at, signal.error = Signal.State.ACCEPTED, sent, now, ""
    signal.attempts += 1
    signal.save(update_fields=["state", "sent_at", "accepted_at", "error", "attempts"])
    if signal.what == "test":
        Receiver.objects.filter(pk=receiver.pk).update(tested_at=now)


def _failed(signal: Signal, error: Exception, *, now: datetime) -> None:
    """Tried again soon, later each time. A receiver that says no for good (RFC 8935 section 2.3: 400) is not asked again."""
    signal.attempts += 1
    signal.error = str(error).replace("\x00", "")[:500]
    signal.due_at = now + outbound.wait_after(signal.attempts, error, WAITS)
    refused = getattr(error, "status", 0) in (400, 404, 410, 422)
    signal.state = Signal.State.DEAD if refused or now - signal.created_at > GIVEN_UP else Signal.State.FAILED
    signal.save(update_fields=["attempts", "error", "due_at", "state"])


def put_off(receiver_id: int, fault: str, *, now: datetime) -> None:
    """After a fault of ours: what is due waits a minute, and says why."""
    Signal.objects.filter(DUE, receiver_id=receiver_id).update(
        state=Signal.State.FAILED, error=fault[:500], due_at=now + timedelta(minutes=1)
    )
