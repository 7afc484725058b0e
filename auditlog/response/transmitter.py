"""The Shared Signals transmitter (OpenID SSF 1.0): its configuration, streams, their status, and polling (RFC 8936).

A stream is a receiver of kind push or poll. Whoever holds the token of one sees and moves that one only; a token of an
administrator makes streams and sees all of its tenant.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Coalesce

from auditlog.core.errors import ConfigurationError, NotFound
from auditlog.core.wire.signal import SENT
from auditlog.models import Receiver, Signal, Tenant
from auditlog.response import receivers
from auditlog.sources import sealed

PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
METHODS = {PUSH: Receiver.Kind.PUSH, POLL: Receiver.Kind.POLL}
MOST = 100  # SETs of one poll
TAKEN = 1_000  # acknowledgements, and errors, of one poll
OPEN = [Signal.State.WAITING, Signal.State.SENT, Signal.State.FAILED]
LONGEST = 300  # characters of a description, an error or a state
INTERVAL = 10  # seconds between verifications of one stream (SSF 1.0 section 8.1.1: min_verification_interval)


def configuration() -> dict[str, Any]:
    """`/.well-known/ssf-configuration` (SSF 1.0 section 7.1)."""
    at = settings.ISSUER
    return {
        "spec_version": "1_0", "issuer": at, "jwks_uri": f"{at}/.well-known/jwks.json", "delivery_methods_supported": [PUSH, POLL],
        "configuration_endpoint": f"{at}/ssf/streams", "status_endpoint": f"{at}/ssf/status", "verification_endpoint": f"{at}/ssf/verify",
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}, {"spec_urn": "urn:ietf:rfc:6750"}], "default_subjects": "ALL",
    }  # fmt: skip


def stream_json(receiver: Receiver) -> dict[str, Any]:
    """A stream's configuration (SSF 1.0 section 8.1.1). The secret under which it is called is never told."""
    is_push = receiver.kind == Receiver.Kind.PUSH
    delivered = [event for event in SENT if not receiver.events or event in receiver.events]
    return {
        "stream_id": str(receiver.stream), "iss": settings.ISSUER, "aud": receiver.audience or f"urn:answerable:receiver:{receiver.stream}",
        "events_supported": list(SENT), "events_requested": receiver.events, "events_delivered": delivered,
        "delivery": {"method": PUSH if is_push else POLL, "endpoint_url": receiver.url if is_push else f"{settings.ISSUER}/ssf/poll?stream_id={receiver.stream}"},
        "min_verification_interval": INTERVAL, **({"description": receiver.description} if receiver.description else {}),
    }  # fmt: skip


@transaction.atomic
def create_stream(tenant: Tenant, said: Mapping[str, Any], *, made_by: str, now: datetime) -> tuple[Receiver, str]:
    """A stream as its receiver asks for it, and the token under which it polls. Raises ConfigurationError.

    Events that we do not send are left out of what is delivered, as the specification has it; nobody is refused for them.
    """
    method = _delivery(said).get("method", POLL)
    if method not in METHODS:
        raise ConfigurationError(f"delivery.method: expected {PUSH} or {POLL}, found {str(method)[:80]!r}")
    name = f"stream-{secrets.token_hex(4)}"
    more = _asked(tenant, name, said, now=now)
    return receivers.add(tenant, name, kind=METHODS[method], made_by=made_by[:200], with_token=True, now=now, **more)


@transaction.atomic
def change_stream(receiver: Receiver, said: Mapping[str, Any], *, replaces: bool, now: datetime) -> Receiver:
    """`replaces`: what is not said goes back to its default (PUT); else it stays (PATCH). Raises ConfigurationError."""
    delivery = _delivery(said)
    if delivery and METHODS.get(delivery.get("method")) != receiver.kind:
        raise ConfigurationError("delivery.method of a stream is not changed: make another")
    more = _asked(receiver.tenant, receiver.name, said, now=now)
    if replaces:
        more = {"events": [], "description": "", **more}
    return receivers.change(receiver, now=now, **more)


def stream_of(tenant: Tenant, stream_id: Any, *, own: Receiver | None) -> Receiver:
    """One stream of those that the caller may see. Raises NotFound."""
    try:
        id = UUID(str(stream_id))
    except ValueError:
        raise NotFound("no stream of this id") from None
    found = None
    if own is None or own.stream == id:
        found = (
            Receiver.objects.select_related("tenant")
            .filter(tenant=tenant, stream=id, kind__in=METHODS.values())
            .first()
        )
    if found is None:
        raise NotFound("no stream of this id")
    return found


def set_status(receiver: Receiver, status: Any, *, now: datetime) -> Receiver:
    if status not in Receiver.State.values:
        raise ConfigurationError(
            f"status: expected one of {', '.join(Receiver.State.values)}, found {str(status)[:40]!r}"
        )
    return receivers.change(receiver, state=status, now=now)


@transaction.atomic
def poll(receiver: Receiver, said: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """What the receiver acknowledges is done; what it could not take is given up and shown; then what waits, oldest first."""
    acknowledged, errors = said.get("ack") or [], said.get("setErrs") or {}
    most = said.get("maxEvents", MOST)
    if (
        not isinstance(acknowledged, list)
        or not isinstance(errors, dict)
        or not isinstance(most, int)
        or isinstance(most, bool)
        or most < 0
    ):
        raise ConfigurationError(
            "expected ack as a list of ids, setErrs as an object and maxEvents as a number, 0 or more"
        )
    open_ = Signal.objects.filter(receiver=receiver, state__in=OPEN)
    done = open_.filter(jti__in=[str(jti)[:64] for jti in acknowledged[:TAKEN]])
    if done.filter(what="test").exists():
        Receiver.objects.filter(pk=receiver.pk).update(tested_at=now)
    done.update(state=Signal.State.ACCEPTED, accepted_at=now)
    for jti, told in list(errors.items())[:TAKEN]:
        code = told.get("err") if isinstance(told, dict) else ""
        why = f"the receiver could not take it: {str(code)[:LONGEST]}".replace("\x00", "")
        open_.filter(jti=str(jti)[:64]).update(state=Signal.State.DEAD, error=why)
    if receiver.state != Receiver.State.ENABLED:
        return {"sets": {}, "moreAvailable": False}
    size = min(most, MOST)
    waiting = list(open_.order_by("id")[: size + 1])
    sets = {signal.jti: signal.body for signal in waiting[:size]}
    open_.filter(jti__in=sets).update(
        state=Signal.State.SENT, sent_at=Coalesce("sent_at", Value(now)), attempts=F("attempts") + 1
    )
    return {"sets": sets, "moreAvailable": len(waiting) > size}


def _delivery(said: Mapping[str, Any]) -> Mapping[str, Any]:
    delivery = said.get("delivery")
    if delivery is not None and not isinstance(delivery, dict):
        raise ConfigurationError("delivery: expected an object")
    return delivery or {}


def _asked(tenant: Tenant, name: str, said: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    more: dict[str, Any] = {}
    delivery = _delivery(said)
    if delivery.get("method") == PUSH:
        if not isinstance(delivery.get("endpoint_url"), str):
            raise ConfigurationError("delivery.endpoint_url: expected an https address")
        more["url"] = delivery["endpoint_url"]
        header = delivery.get("authorization_header")
        if header is not None:
            if not isinstance(header, str) or not header.isascii() or not header.isprintable():
                raise ConfigurationError("delivery.authorization_header: expected printable ASCII")
            more["secret_env"] = f"SIGNAL_{name.replace('-', '_').replace('.', '_').upper()}"
            sealed.seal(tenant, more["secret_env"], header.encode(), now=now)
    if "events_requested" in said:
        events = said["events_requested"]
        if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
            raise ConfigurationError("events_requested: expected a list of event types")
        more["events"] = [event for event in SENT if event in events]
    if "description" in said:
        if not isinstance(said["description"], str):
            raise ConfigurationError("description: expected text")
        more["description"] = said["description"].replace("\x00", "")[:LONGEST]
    return more
