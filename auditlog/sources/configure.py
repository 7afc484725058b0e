"""Configure: tenants, sources and keys. Every change that could shift blame appends a leaf, so nobody makes it unseen."""

import json
import os
import re
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from auditlog import formats
from auditlog.core.errors import AddressRefused, ConfigurationError
from auditlog.core.event import LAYERS
from auditlog.core.wire.keys import kid_of, load, public_jwk
from auditlog.database.dirty import look_again
from auditlog.ledger.append import EPOCH
from auditlog.models import (
    LogHead,
    Membership,
    Organisation,
    OwnedName,
    ProjectionState,
    Pull,
    Source,
    SourceKey,
    Tenant,
)
from auditlog.sources import outbound
from auditlog.sources.configuration import state

# Variables that configure the service itself (help/production.md): their values are never sent anywhere.
OURS = re.compile(r"(ANSWERABLE|DATABASE|CELERY|DJANGO|PG|SSL)(_|[A-Z]*\Z)|PATH\Z|HOME\Z|WEB_CONCURRENCY\Z")


@transaction.atomic
def add_tenant(name: str, *, title: str = "", now: datetime) -> Tenant:
    """A tenant with an empty log, whose first leaf says so. Raises ConfigurationError."""
    if Tenant.objects.filter(name=name).exists():
        raise ConfigurationError(f"there is a tenant {name!r} already")
    tenant = checked(Tenant(name=name, title=title, pepper=os.urandom(32)), exclude=["pepper"])
    tenant.save()
    LogHead.objects.create(tenant=tenant, epoch=EPOCH, size=0, edge=b"")
    ProjectionState.objects.create(tenant=tenant, generation=1, is_current=True)
    state(tenant, tenant, {"change": "tenant.added", "tenant": name}, now=now)
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
    audience: str = "",
    jwks_url: str = "",
    poll_url: str = "",
    poll_seconds: int = 60,
    api_key_env: str = "",
    api_url: str = "",
    allow_private: bool = False,
    **limits: int,
) -> Source:
    """A source that may send as soon as this commits. Raises ConfigurationError; nothing is changed then.

    `heartbeat_seconds`: it promises to be heard at least this often, and its silence is then found.
    `jwks_url`, `poll_url`: its keys are read, its events asked for, from then on; nothing is called here.
    """
    for layer in layers or []:
        if layer not in LAYERS:
            raise ConfigurationError(f"no layer {layer!r}; there are: {', '.join(LAYERS)}")
    if "|" in issuer:
        raise ConfigurationError(f"an issuer contains no '|', found {issuer!r}")
    source = Source(
        tenant=tenant, name=name, format=format, issuer=issuer, secret_env=secret_env, provider=provider,
        layers=layers or [], speaks_for=speaks_for or [], organisation=organisation, heartbeat_seconds=heartbeat_seconds,
        heartbeat_since=now if heartbeat_seconds else None, audience=audience, jwks_url=jwks_url, poll_url=poll_url, poll_seconds=poll_seconds,
        api_key_env=api_key_env, api_url=api_url, allow_private=allow_private, **limits,
    )  # fmt: skip
    check_outward(source)
    if Source.objects.filter(tenant=tenant, name=name).exists():
        raise ConfigurationError(f"there is a source {name!r} already in tenant {tenant.name!r}")
    if format == "set" and Source.objects.filter(tenant=tenant, format="set", issuer=issuer).exists():
        raise ConfigurationError(f"issuer {issuer!r} belongs to another source of format 'set' already")
    checked(source).save()
    state(
        tenant,
        source,
        {"change": "source.added", "source": name, "format": format, "issuer": issuer, "provider": provider,
         "layers": source.layers, "speaks_for": source.speaks_for, **outward(source),
         **({"heartbeat_s": heartbeat_seconds} if heartbeat_seconds else {})},
        now=now,
    )  # fmt: skip
    if heartbeat_seconds:
        _listen(source)
    for jwk in (jwks or {}).get("keys", []):
        add_key(source, jwk, now=now)
    if format in ("set", "caep") and not jwks_url and not source.keys.exists():
        raise ConfigurationError(
            f"a source of format {format!r} needs at least one public key: give a JWKS with `keys`"
        )
    return source


def outward(source: Source) -> dict[str, Any]:
    """What the service calls for a source, and whom its tokens are for, as its leaves tell it; empty for most."""
    said = {
        "audience": source.audience,
        "jwks_url": source.jwks_url, "poll_url": source.poll_url, "poll_s": source.poll_seconds if source.poll_url else 0,
        "api_url": source.api_url, "api_key_env": source.api_key_env, "allow_private": source.allow_private,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value}


def check_outward(source: Source) -> None:
    """Whether what a source says to call can be called at all. Raises ConfigurationError."""
    module = formats.named(source.format)
    if OURS.match(source.api_key_env):
        raise ConfigurationError(
            f"api_key_env: {source.api_key_env} is the service's own, and its value is sent to others"
        )
    for name in ("jwks_url", "poll_url", "api_url"):
        if url := getattr(source, name):
            try:
                outbound.check_url(url)
            except AddressRefused as error:
                raise ConfigurationError(f"{name}: {error}") from None
    if source.poll_url and not hasattr(module, "poll_request"):
        raise ConfigurationError(f"format {source.format!r} is not polled: its sender sends")
    if source.poll_url and not source.api_key_env and getattr(module, "POLL_NEEDS_KEY", True):
        raise ConfigurationError("polling needs our key for that API: name the variable that holds it (api_key_env)")
    if source.api_url and not hasattr(module, "fetch_request"):
        raise ConfigurationError(f"nothing of format {source.format!r} is fetched")


@transaction.atomic
def add_key(source: Source, jwk: dict[str, Any], *, now: datetime, from_url: bool = False) -> SourceKey:
    """Let `source` sign with one more key. `from_url`: its own key set says so. Raises ConfigurationError."""
    public = public_jwk(jwk)
    kid = kid_of(public)
    key = load(public, kid)
    try:
        with transaction.atomic():
            stored = SourceKey.objects.create(
                source=source, kid=kid, thumbprint=key.thumbprint, jwk=public, from_url=from_url
            )
    except IntegrityError:
        raise ConfigurationError(f"source {source.name!r} has key {kid!r}, or the same key material, already") from None
    _note_key(stored, "key.added", now=now, jwk=public, **_by_url(from_url))
    return stored


def _by_url(from_url: bool) -> dict[str, str]:
    return {"by": "jwks_url"} if from_url else {}


def _note_key(key: SourceKey, change: str, *, now: datetime, **more: Any) -> None:
    state(
        key.source.tenant,
        key,
        {"change": change, "source": key.source.name, "kid": key.kid, "thumbprint": key.thumbprint, **more},
        now=now,
        kind="key",
    )


@transaction.atomic
def add_keys(source: Source, jwks: list[dict[str, Any]], *, now: datetime) -> list[SourceKey]:
    """All of them, or none when one is no good. Raises ConfigurationError."""
    return [add_key(source, jwk, now=now) for jwk in jwks]


@transaction.atomic
def retire_key(key: SourceKey, *, now: datetime, left_url: bool = False) -> None:
    """Take no new event under `key`. What it signed stays as proven as it was.

    `left_url`: its source's key set has it no more, and may bring it back; what a person retires stays so.
    """
    key.retired_at, key.left_url = now, left_url
    key.save(update_fields=["retired_at", "left_url"])
    _note_key(key, "key.retired", now=now, **_by_url(left_url))


@transaction.atomic
def bring_back_key(key: SourceKey, kid: str, *, now: datetime) -> None:
    """The source's key set has a key again that had left it, or has it under another name. Raises ConfigurationError."""
    before, again = key.kid, key.retired_at is not None
    key.kid, key.retired_at, key.left_url = kid, None, False
    try:
        with transaction.atomic():
            key.save(update_fields=["kid", "retired_at", "left_url"])
    except IntegrityError:
        raise ConfigurationError(f"source {key.source.name!r} has another key {kid!r} already") from None
    more = {"before": before} if before != kid else {}
    _note_key(key, "key.added" if again else "key.renamed", now=now, jwk=key.jwk, **more, **_by_url(True))


@transaction.atomic
def set_source_state(source: Source, wanted: str, *, now: datetime) -> None:
    source.state = wanted
    source.heartbeat_since = now if source.heartbeat_seconds else None  # its silence while suspended was ours
    source.save(update_fields=["state", "heartbeat_since"])
    state(source.tenant, source, {"change": f"source.{wanted}", "source": source.name}, now=now)
    if source.heartbeat_seconds:
        _listen(source)


@transaction.atomic
def promise_heartbeat(source: Source, seconds: int | None, *, now: datetime) -> None:
    """From now on the source is to be heard at least every so many seconds; None takes the promise back."""
    source.heartbeat_seconds, source.heartbeat_since = seconds, now if seconds else None
    checked(source).save(update_fields=["heartbeat_seconds", "heartbeat_since"])
    state(
        source.tenant,
        source,
        {"change": "source.heartbeat", "source": source.name, "heartbeat_s": seconds or 0},
        now=now,
    )
    _listen(source)


def _listen(source: Source) -> None:
    """Have detection look at the source's silence: now, which also plans when to look next."""
    look_again(source.tenant_id, "silence", json.dumps([source.name]))


def note_source_change(source: Source, fields: list[str], *, now: datetime) -> None:
    """Record what the admin changed of a source: the fields that say whom it may speak for, and when it may speak."""
    state(
        source.tenant,
        source,
        {"change": "source.changed", "source": source.name, "fields": sorted(fields), "state": source.state,
         "provider": source.provider, "layers": source.layers, "speaks_for": source.speaks_for, **outward(source)},
        now=now,
    )  # fmt: skip
    pulls = Pull.objects.filter(tenant=source.tenant, source=source)
    pulls.update(due_at=None)  # what was configured is tried at once
    if "poll_url" in fields:
        pulls.filter(kind=Pull.Kind.POLL).update(state={})  # a position in somebody else's list


@transaction.atomic
def give_role(membership: Membership, *, now: datetime) -> None:
    """Keep a new or changed membership, and state it."""
    change = "changed" if membership.pk else "given"
    membership.save()
    _note_role(membership, change, now=now)


@transaction.atomic
def take_role(membership: Membership, *, now: datetime) -> None:
    id = membership.pk
    membership.delete()
    _note_role(membership, "taken", now=now, id=id)


def _note_role(membership: Membership, change: str, *, now: datetime, id: int | None = None) -> None:
    state(
        membership.tenant,
        membership,
        {"change": f"role.{change}", "user": str(membership.user_id), "role": membership.role,
         "provider": membership.provider},
        now=now, id=id,
    )  # fmt: skip


@transaction.atomic
def add_organisation(
    tenant: Tenant,
    name: str,
    *,
    issuers: list[str],
    parties: list[str] = (),
    owned_names: list[str] = (),
    private_names: list[str] = (),
    now: datetime,
) -> Organisation:
    organisation = checked(Organisation(tenant=tenant, name=name, issuers=issuers, parties=list(parties)))
    organisation.save()
    owned_names = [*owned_names, *private_names]
    for owned in owned_names:
        OwnedName.objects.create(
            tenant=tenant, organisation=organisation, name=owned, is_private=owned in private_names
        )
    state(
        tenant,
        organisation,
        {
            "change": "organisation.added",
            "organisation": name,
            "issuers": issuers,
            "parties": list(parties),
            "names": list(owned_names),
        },
        now=now,
    )
    return organisation


@transaction.atomic
def remove_organisation(organisation: Organisation, *, now: datetime) -> None:
    id = organisation.pk
    said = {"organisation": organisation.name, "issuers": organisation.issuers, "parties": organisation.parties}
    organisation.delete()
    state(organisation.tenant, organisation, {"change": "organisation.removed", **said}, now=now, id=id)


def checked(thing, exclude: list[str] | None = None):
    try:
        thing.full_clean(exclude=exclude, validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        fields = "; ".join(f"{name}: {' '.join(messages)}" for name, messages in error.message_dict.items())
        raise ConfigurationError(fields) from None
    return thing
