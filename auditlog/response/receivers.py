"""Receivers: who is told to stop an agent. Every change stands in a leaf, so nobody is added or taken off unseen."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.db.models import Count

from auditlog.core.errors import AddressRefused, ConfigurationError, NotPossible
from auditlog.core.wire.signal import SENT
from auditlog.models import Receiver, Signal, Tenant
from auditlog.reads.access import Viewer
from auditlog.sources import configuration, outbound
from auditlog.sources.configure import OURS, checked

_CALLED = (Receiver.Kind.PUSH, Receiver.Kind.WEBHOOK, Receiver.Kind.REVOCATION)
_WITH_SECRET = (Receiver.Kind.WEBHOOK, Receiver.Kind.REVOCATION, Receiver.Kind.STRIPE, Receiver.Kind.CLOUDFLARE)
CHANGEABLE = (
    "url",
    "audience",
    "provider",
    "issuer",
    "account",
    "secret_env",
    "events",
    "allow_private",
    "state",
    "description",
)


@transaction.atomic
def add(
    tenant: Tenant, name: str, *, kind: str, now: datetime, with_token: bool = False, **more: Any
) -> tuple[Receiver, str]:
    """A receiver, and the bearer token under which it calls us ("" unless `with_token`), which is seen this once only.

    Raises ConfigurationError; nothing is changed then.
    """
    token = "rcv_" + secrets.token_urlsafe(32) if with_token else ""
    receiver = Receiver(
        tenant=tenant, name=name, kind=kind, token_digest=sha256(token.encode()).digest() if token else None, **more
    )
    check(receiver)
    if Receiver.objects.filter(tenant=tenant, name=name).exists():
        raise ConfigurationError(f"there is a receiver {name!r} already in tenant {tenant.name!r}")
    receiver.save()
    configuration.state(tenant, receiver, {"change": "receiver.added", "name": name}, now=now)
    return receiver, token


@transaction.atomic
def change(receiver: Receiver, *, now: datetime, **more: Any) -> Receiver:
    """Raises ConfigurationError or NotPossible; nothing is changed then."""
    held = Receiver.objects.select_for_update().get(pk=receiver.pk)
    for name, value in more.items():
        if name not in CHANGEABLE:
            raise NotPossible(f"{name} of a receiver is not changed: add another")
        setattr(held, name, value)
    check(held)
    held.save(update_fields=list(more))
    configuration.state(held.tenant, held, {"change": "receiver.changed", "name": held.name}, now=now)
    return held


@transaction.atomic
def remove(receiver: Receiver, *, now: datetime) -> None:
    """Take a receiver off. One that was sent a stop is kept and disabled: what became of the stop stays readable."""
    if Signal.objects.filter(receiver=receiver, stop__isnull=False).exists():
        change(receiver, state=Receiver.State.DISABLED, now=now)
        return
    id, name = receiver.pk, receiver.name
    receiver.delete()
    configuration.state(receiver.tenant, receiver, {"change": "receiver.removed", "name": name}, now=now, id=id)


def check(receiver: Receiver) -> None:
    """Whether it can be called as it is configured. Raises ConfigurationError."""
    checked(receiver)
    if receiver.secret_env and OURS.match(receiver.secret_env):
        raise ConfigurationError(f"secret_env: {receiver.secret_env} is the service's own")
    if receiver.kind in _WITH_SECRET and not receiver.secret_env:
        raise ConfigurationError(
            f"secret_env: a receiver of kind {receiver.kind} is called under a secret, and none is named"
        )
    if receiver.kind in _CALLED and not receiver.url:
        raise ConfigurationError(f"url: a receiver of kind {receiver.kind} is called at an https address")
    if receiver.kind == Receiver.Kind.POLL and receiver.url:
        raise ConfigurationError("url: a receiver that polls has none: it calls us")
    if receiver.kind == Receiver.Kind.REVOCATION and not receiver.issuer:
        raise ConfigurationError("issuer: whose tokens can be revoked there?")
    unknown = [event for event in receiver.events if event not in SENT]
    if unknown:
        raise ConfigurationError(f"events: {str(unknown[0])[:120]!r} is not sent; there are: {', '.join(SENT)}")
    if receiver.url:
        try:
            outbound.check_url(receiver.url)
        except AddressRefused as error:
            raise ConfigurationError(f"url: {error}") from None


def receiver_by_token(token: str) -> Receiver | None:
    digest = sha256(token.encode()).digest()
    return Receiver.objects.select_related("tenant").filter(token_digest=digest).first()


def receivers_of(viewer: Viewer) -> list[Receiver]:
    return list(Receiver.objects.filter(tenant=viewer.tenant).order_by("name"))


def counts_of(viewer: Viewer) -> Mapping[int, dict[str, int]]:
    """By receiver: how many signals are in each state."""
    found: dict[int, dict[str, int]] = {}
    told = Signal.objects.filter(tenant=viewer.tenant).values_list("receiver_id", "state").annotate(count=Count("id"))
    for receiver_id, state, count in told:
        found.setdefault(receiver_id, {})[state] = count
    return found
