"""Fetch keys: a source's own key set (JWKS, RFC 7517), read again and again from the address that it publishes it at.

Every key that was ever taken from there is a leaf, and so is its end. Whoever can change what is read here can sign as
the source, so it comes by TLS from the address that an admin configured, and from nowhere that an event names.
"""

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction

from auditlog.core.errors import ConfigurationError, OutboundError
from auditlog.core.wire.keys import KeySet, key_set
from auditlog.core.wire.request import Request
from auditlog.models import Pull, Source, SourceKey, Tenant
from auditlog.sources import outbound
from auditlog.sources.configure import add_key, add_source, bring_back_key, retire_key
from auditlog.sources.pull import claim, expected_ok, failed, locked, pull_of, succeeded

log = structlog.get_logger()
EVERY = timedelta(minutes=10)  # so long a key that left the set may still be taken
AGAIN = timedelta(seconds=30)  # between two readings that deliveries with an unknown `kid` cause, over all processes
EVER = 1_000  # keys of one source: a set that changes each time would fill the log
BOUNDS = outbound.Bounds(connect=3.0, read=5.0, total=8.0, size=256 * 1024)


def read_key_set(url: str, *, allow_private: bool, now: datetime, call: outbound.Call = outbound.call) -> KeySet:
    """The keys that an address publishes. Raises OutboundError, or ConfigurationError when it is no key set."""
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})
    return key_set(expected_ok(call(request, allow_private=allow_private, bounds=BOUNDS), request.host, now=now).body)


def fetch_keys(source: Source, *, now: datetime, call: outbound.Call = outbound.call) -> bool:
    """Read the source's key set and take over what changed. Returns whether anything did.

    What goes wrong is kept for the source's page; the keys from before stay good then.
    """
    try:
        found = read_key_set(source.jwks_url, allow_private=source.allow_private, now=now, call=call)
    except (OutboundError, ConfigurationError) as error:
        log.warning("key set not read", tenant=source.tenant.name, source=source.name, reason=str(error)[:200])
        failed(pull_of(source, Pull.Kind.KEYS), error, now=now)
        return False
    return take_over(source, found, now=now)


def fetch_unknown(source: Source, *, now: datetime, call: outbound.Call = outbound.call) -> bool:
    """The same for a delivery that names a key we do not have: once in a while, however many such deliveries come."""
    return (
        bool(source.jwks_url)
        and claim(source, Pull.Kind.KEYS, every=AGAIN, now=now)
        and fetch_keys(source, now=now, call=call)
    )


@transaction.atomic
def take_over(source: Source, found: KeySet, *, now: datetime) -> bool:
    """Make the set's keys the source's: new ones are added, those that left are retired, those that came back are good
    again. Keys that people added are left alone, and those that people retired stay so.
    """
    pull = locked(source, Pull.Kind.KEYS)
    if pull.succeeded_at is not None and pull.succeeded_at > now:
        return False  # a reading that began later has been here
    mine = {key.thumbprint: key for key in SourceKey.objects.select_related("source__tenant").filter(source=source)}
    published, left_out = {key.thumbprint for _, key in found.keys}, list(found.left_out)
    gone = [key for key in mine.values() if key.from_url and key.retired_at is None and key.thumbprint not in published]
    for key in gone:  # first: a new key may have the name of an old one
        retire_key(key, now=now, left_url=True)
    changed, room = len(gone), EVER - len(mine)
    for jwk, key in found.keys:
        try:
            had = mine.get(key.thumbprint)
            if had is None:
                if room <= 0:
                    raise ConfigurationError(
                        f"key {key.kid!r} is one too many: a source has {EVER:,} keys at most, ever"
                    )
                add_key(source, jwk, now=now, from_url=True)
                room -= 1
            elif had.retired_at is not None and not had.left_url:
                raise ConfigurationError(f"key {key.kid!r} was retired here by hand, and stays so")
            elif had.retired_at is not None or (had.from_url and had.kid != key.kid):
                bring_back_key(had, key.kid, now=now)
            else:
                continue
            changed += 1
        except ConfigurationError as error:
            left_out.append(str(error))
    succeeded(pull, brought=changed, due_at=now + EVERY, warning="; ".join(left_out), now=now)
    return changed > 0


def add_source_by_url(
    tenant: Tenant, name: str, *, jwks_url: str, now: datetime, call: outbound.Call = outbound.call, **more: Any
) -> Source:
    """A source whose key set can be read now, with its keys. Raises OutboundError or ConfigurationError; nothing is
    changed then.
    """
    found = read_key_set(jwks_url, allow_private=more.get("allow_private", False), now=now, call=call)
    with transaction.atomic():
        source = add_source(tenant, name, jwks_url=jwks_url, now=now, **more)
        take_over(source, found, now=now)
    return source
