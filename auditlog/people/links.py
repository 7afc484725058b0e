"""One-time links: how somebody comes in, or back in, where no mail is sent. An admin makes one and hands it over.

The link is shown once and kept as its hash. It is good once, and not for long. Whoever makes one could use it himself:
so it names its maker in the log, and the person finds out, since his own password no longer works.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted
from auditlog.database.acting import acting, acting_as
from auditlog.models import Membership, OneTimeLink, Role
from auditlog.reads.access import Viewer
from auditlog.sources.configure import give_role

INVITED_FOR = timedelta(days=3)
RESET_FOR = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Invited:
    username: str
    role: str
    provider: str = ""
    email: str = ""


def invite(viewer: Viewer, invited: Invited, *, now: datetime) -> str:
    """The secret part of a link by which somebody makes the account. Raises NotPermitted, ConfigurationError."""
    viewer.must("configure")
    user = get_user_model()(username=invited.username, email=invited.email)
    try:
        user.clean_fields(exclude=["password"])
    except ValidationError as error:
        raise ConfigurationError("; ".join(error.messages)) from None
    if get_user_model().objects.filter(username__iexact=invited.username).exists():
        raise ConfigurationError(f"there is an account {invited.username!r} already")
    if invited.role not in Role.values:
        raise ConfigurationError(f"no role {invited.role!r}")
    if (invited.role == Role.ABUSE) != bool(invited.provider):
        raise ConfigurationError("the abuse role names the provider it works for, and no other role does")
    return _made(
        viewer, OneTimeLink.Kind.INVITATION, now=now, ends_at=now + INVITED_FOR, username=invited.username,
        email=invited.email, role=invited.role, provider=invited.provider,
    )  # fmt: skip


def reset(viewer: Viewer, user, *, drops_factors: bool, is_superuser: bool, now: datetime) -> str:
    """The secret part of a link by which a member sets a new password. Raises NotPermitted.

    An admin of one tenant has no power over accounts that other tenants know too, nor over superusers.
    """
    viewer.must("configure")
    if not Membership.objects.filter(tenant=viewer.tenant, user=user).exists():
        raise NotPermitted(f"{user.get_username()} does not belong to {viewer.tenant.name}")
    elsewhere = Membership.objects.filter(user=user).exclude(tenant=viewer.tenant).exists()
    if (user.is_superuser or user.is_staff or elsewhere) and not is_superuser:
        raise NotPermitted("this account reaches beyond the tenant: only a superuser may do this")
    if user.pk == viewer.user_id:
        raise NotPermitted("change your own password on the page of your account")
    return _made(
        viewer, OneTimeLink.Kind.RESET, now=now, ends_at=now + RESET_FOR, user=user, drops_factors=drops_factors
    )


def _made(viewer: Viewer, kind: str, *, now: datetime, **more) -> str:
    secret = secrets.token_urlsafe(32)
    OneTimeLink.objects.create(
        tenant=viewer.tenant, kind=kind, digest=_digest(secret), made_by=acting()[:200], made_at=now, **more
    )
    return secret


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()


def find(secret: str, *, now: datetime) -> OneTimeLink:
    """Raises NotFound for one that is unknown, used or over: which of these is nobody's business."""
    row = (
        OneTimeLink.objects.select_related("tenant", "user")
        .filter(digest=_digest(secret), used_at=None, ends_at__gt=now)
        .first()
    )
    if row is None:
        raise NotFound("this link is not good, or not any more: ask an admin for another")
    return row


def withdraw(viewer: Viewer, link_id: int) -> None:
    """Raises NotPermitted."""
    viewer.must("configure")
    OneTimeLink.objects.filter(tenant=viewer.tenant, pk=link_id, used_at=None).delete()


@transaction.atomic
def use(secret: str, *, password: str, now: datetime) -> AbstractBaseUser:
    """The account, made or given its new password. Raises NotFound, ValidationError; then the link is still good."""
    row = _taken(secret, now=now)
    user = row.user or get_user_model()(username=row.username, email=row.email)
    validate_password(password, user)
    user.set_password(password)
    return _finished(row, user, now=now)


@transaction.atomic
def use_by_provider(secret: str, *, now: datetime) -> AbstractBaseUser:
    """The account of an invitation, to be signed in to by an identity provider only. Raises NotFound."""
    row = _taken(secret, now=now)
    if row.kind != OneTimeLink.Kind.INVITATION:
        raise NotFound("this link sets a password")
    user = get_user_model()(username=row.username, email=row.email)
    user.set_unusable_password()
    return _finished(row, user, now=now)


def _taken(secret: str, *, now: datetime) -> OneTimeLink:
    found = find(secret, now=now)
    row = OneTimeLink.objects.select_for_update().filter(pk=found.pk, used_at=None).first()  # of two at once, one
    if row is None:
        raise NotFound("this link was used")
    return row


def _finished(row: OneTimeLink, user, *, now: datetime) -> AbstractBaseUser:
    with acting_as(f"{user.get_username()}, by a link of {row.made_by}"):
        user.save()
        if row.kind == OneTimeLink.Kind.INVITATION:
            give_role(Membership(tenant=row.tenant, user=user, role=row.role, provider=row.provider), now=now)
        else:
            end_sessions(user)
        if row.drops_factors:
            Authenticator.objects.filter(user=user).delete()
    row.used_at = now
    row.save(update_fields=["used_at"])
    return user


def end_sessions(user, *, but: str = "") -> int:
    """End the sessions of an account, all but one. Returns how many."""
    ended = 0
    for session in UserSession.objects.filter(user=user).exclude(session_key=but):
        session.end()
        ended += 1
    return ended
