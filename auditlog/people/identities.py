"""Identities: which accounts are of one person, as identity providers say and admins know. Only ever added."""

from datetime import datetime

from django.db import transaction

from auditlog.core.errors import ConfigurationError, NotPermitted
from auditlog.database.acting import acting
from auditlog.ledger.append import append_note
from auditlog.models import Identity, Membership, Tenant
from auditlog.reads.access import ADDRESS, Viewer

LINKED = "urn:answerable:linked"  # the issuer of what an admin knows


def told_by_provider(user_id: int, *, issuer: str, subject: str, address: str = "", now: datetime) -> None:
    """An identity provider says that whoever uses this account is its subject, with this verified address. Once said,
    it is kept.
    """
    said = {"said_by": issuer[:200], "at": now}
    Identity.objects.get_or_create(user_id=user_id, issuer=issuer[:300], subject=subject[:300], defaults=said)
    if address:
        Identity.objects.get_or_create(user_id=user_id, issuer=ADDRESS, subject=address.lower()[:300], defaults=said)


@transaction.atomic
def link(viewer: Viewer, one, other, *, reason: str, now: datetime) -> None:
    """An admin knows that two accounts of the tenant are one person's. It cannot be taken back: whoever could would
    have two votes again. Raises NotPermitted, ConfigurationError.
    """
    viewer.must("configure")
    if one.pk == other.pk:
        raise ConfigurationError("these are one account already")
    if not reason.strip():
        raise ConfigurationError("write how you know: it is kept for ever")
    for user in (one, other):
        if not Membership.objects.filter(tenant=viewer.tenant, user=user).exists():
            raise NotPermitted(f"{user.get_username()} does not belong to {viewer.tenant.name}")
    first, second = sorted((one.pk, other.pk))
    for user_id in (first, second):
        Identity.objects.get_or_create(
            user_id=user_id,
            issuer=LINKED,
            subject=f"{first}+{second}",
            defaults={"said_by": acting()[:200], "at": now},
        )
    _note(viewer.tenant, one, other, reason, now=now)


def _note(tenant: Tenant, one, other, reason: str, *, now: datetime) -> None:
    said = {
        "by": acting(), "change": "person.linked", "accounts": [one.pk, other.pk], "reason": reason.strip()[:500],
        "username": f"{one.get_username()}, {other.get_username()}",
    }  # fmt: skip
    append_note(tenant, "config", said, now=now)
