"""Configure: tenants, sources and keys. Every change that could shift blame appends a leaf, so nobody makes it unseen."""

import json
import os
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from auditlog import formats
from auditlog.append import EPOCH, append_note
from auditlog.core.errors import ConfigurationError
from auditlog.core.event import LAYERS
from auditlog.core.keys import load, public_jwk
from auditlog.models import (
    Dirty,
    LogHead,
    Membership,
    Organisation,
    OwnedName,
    ProjectionState,
    Source,
    SourceKey,
    Tenant,
)


@transaction.atomic
def add_tenant(name: str, *, title: str = "", now: datetime) -> Tenant:
    """A tenant with an empty log, whose first leaf says so. Raises ConfigurationError."""
    if Tenant.objects.filter(name=name).exists():
        raise ConfigurationError(f"there is a tenant {name!r} already")
    tenant = _checked(Tenant(name=name, title=title, pepper=os.urandom(32)), exclude=["pepper"])
    tenant.save()
    LogHead.objects.create(tenant=tenant, epoch=EPOCH, size=0, edge=b"")
    ProjectionState.objects.create(tenant=tenant, generation=1, is_current=True)
    append_note(tenant, "config", {"change": "tenant.added", "tenant": name}, now=now)
    return tenant


@transaction.atomic
def add_source(
    tenant: Tenant,
    name: str,
    *,
    format: str,
    issuer: str,
    now: datetime,
    jwks: dict[str, Any] | None = None,
    secret_env: str = "",
    provider: str = "",
    layers: list[str] | None = None,
    speaks_for: list[str] | None = None,
    organisation: Organisation | None = None,
    heartbeat_seconds: int | None = None,
    **limits: int,
) -> Source:
    """A source that may send as soon as this commits. Raises ConfigurationError; nothing is changed then.

    `heartbeat_seconds`: it promises to be heard at least this often, and its silence is then found.
    """
    formats.named(format)
    for layer in layers or []:
        if layer not in LAYERS:
            raise ConfigurationError(f"no layer {layer!r}; there are: {', '.join(LAYERS)}")
    if "|" in issuer:
        raise ConfigurationError(f"an issuer contains no '|', found {issuer!r}")
    source = Source(
        tenant=tenant, name=name, format=format, issuer=issuer, secret_env=secret_env, provider=provider,
        layers=layers or [], speaks_for=speaks_for or [], organisation=organisation, heartbeat_seconds=heartbeat_seconds,
        heartbeat_since=now if heartbeat_seconds else None, **limits,
    )  # fmt: skip
    if Source.objects.filter(tenant=tenant, name=name).exists():
        raise ConfigurationError(f"there is a source {name!r} already in tenant {tenant.name!r}")
    if format == "set" and Source.objects.filter(tenant=tenant, format="set", issuer=issuer).exists():
        raise ConfigurationError(f"issuer {issuer!r} belongs to another source of format 'set' already")
    _checked(source).save()
    append_note(
        tenant,
        "config",
        {"change": "source.added", "source": name, "format": format, "issuer": issuer, "provider": provider,
         "layers": source.layers, "speaks_for": source.speaks_for, **({"heartbeat_s": heartbeat_seconds} if heartbeat_seconds else {})},
        now=now,
    )  # fmt: skip
    if heartbeat_seconds:
        _listen(source, now=now)
    for jwk in (jwks or {}).get("keys", []):
        add_key(source, jwk, now=now)
    if format == "set" and not source.keys.exists():
        raise ConfigurationError("a source of format 'set' needs at least one public key: give a JWKS with `keys`")
    return source


@transaction.atomic
def add_key(source: Source, jwk: dict[str, Any], *, now: datetime) -> SourceKey:
    """Let `source` sign with one more key. Raises ConfigurationError."""
    public = public_jwk(jwk)
    kid = public.get("kid") or ""
    if not isinstance(kid, str) or not 0 < len(kid) <= 200:
        raise ConfigurationError("a key needs a `kid` of 1 to 200 characters")
    key = load(public, kid)
    try:
        with transaction.atomic():
            stored = SourceKey.objects.create(source=source, kid=kid, thumbprint=key.thumbprint, jwk=public)
    except IntegrityError:
        raise ConfigurationError(f"source {source.name!r} has key {kid!r}, or the same key material, already") from None
    append_note(
        source.tenant,
        "key",
        {"change": "key.added", "source": source.name, "kid": kid, "thumbprint": key.thumbprint, "jwk": public},
        now=now,
    )
    return stored


@transaction.atomic
def add_keys(source: Source, jwks: list[dict[str, Any]], *, now: datetime) -> list[SourceKey]:
    """All of them, or none when one is no good. Raises ConfigurationError."""
    return [add_key(source, jwk, now=now) for jwk in jwks]


@transaction.atomic
def retire_key(key: SourceKey, *, now: datetime) -> None:
    """Take no new event under `key`. What it signed stays as proven as it was."""
    key.retired_at = now
    key.save(update_fields=["retired_at"])
    append_note(
        key.source.tenant,
        "key",
        {"change": "key.retired", "source": key.source.name, "kid": key.kid, "thumbprint": key.thumbprint},
        now=now,
    )


@transaction.atomic
def set_source_state(source: Source, state: str, *, now: datetime) -> None:
    source.state = state
    source.heartbeat_since = now if source.heartbeat_seconds else None  # its silence while suspended was ours
    source.save(update_fields=["state", "heartbeat_since"])
    append_note(source.tenant, "config", {"change": f"source.{state}", "source": source.name}, now=now)
    if source.heartbeat_seconds:
        _listen(source, now=now)


@transaction.atomic
def promise_heartbeat(source: Source, seconds: int | None, *, now: datetime) -> None:
    """From now on the source is to be heard at least every so many seconds; None takes the promise back."""
    source.heartbeat_seconds, source.heartbeat_since = seconds, now if seconds else None
    _checked(source).save(update_fields=["heartbeat_seconds", "heartbeat_since"])
    append_note(source.tenant, "config", {"change": "source.heartbeat", "source": source.name, "heartbeat_s": seconds or 0}, now=now)
    _listen(source, now=now)


def _listen(source: Source, *, now: datetime) -> None:
    """Have detection look at the source's silence: now, which also plans when to look next."""
    Dirty.objects.create(
        tenant=source.tenant, kind="silence", key=json.dumps([source.name]), leaf_index=-1, due_at=now
    )


def note_source_change(source: Source, fields: list[str], *, now: datetime) -> None:
    """Record what the admin changed of a source: the fields that say whom it may speak for, and when it may speak."""
    append_note(
        source.tenant,
        "config",
        {"change": "source.changed", "source": source.name, "fields": sorted(fields), "state": source.state,
         "provider": source.provider, "layers": source.layers, "speaks_for": source.speaks_for},
        now=now,
    )  # fmt: skip


def note_role_change(membership: Membership, change: str, *, now: datetime) -> None:
    append_note(
        membership.tenant,
        "config",
        {"change": f"role.{change}", "user": str(membership.user_id), "role": membership.role,
         "provider": membership.provider},
        now=now,
    )  # fmt: skip


@transaction.atomic
def add_organisation(
    tenant: Tenant, name: str, *, issuers: list[str], parties: list[str] = (), owned_names: list[str] = (), now: datetime
) -> Organisation:
    organisation = _checked(Organisation(tenant=tenant, name=name, issuers=issuers, parties=list(parties)))
    organisation.save()
    for owned in owned_names:
        OwnedName.objects.create(tenant=tenant, organisation=organisation, name=owned)
    append_note(
        tenant,
        "config",
        {"change": "organisation.added", "organisation": name, "issuers": issuers, "parties": list(parties), "names": list(owned_names)},
        now=now,
    )
    return organisation


def _checked(thing, exclude: list[str] | None = None):
    try:
        thing.full_clean(exclude=exclude, validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        fields = "; ".join(f"{name}: {' '.join(messages)}" for name, messages in error.message_dict.items())
        raise ConfigurationError(fields) from None
    return thing


