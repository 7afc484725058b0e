"""Second factors: who must have one, who has, and their secrets, which are sealed like all others (sealed.py)."""

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction

from auditlog.models import Membership, Role
from auditlog.reads.access import MAY
from auditlog.sources import sealed

STRONG = [role for role in Role if "decide" in MAY[role] or "configure" in MAY[role]]
ABOUT = "second factor"


def must_have(user) -> bool:
    """Admins, superusers and whoever may decide; but for those who are spared by name (quickstart's demo users)."""
    if not settings.SECOND_FACTOR_REQUIRED or user.get_username() in settings.SECOND_FACTOR_SPARES:
        return False
    return user.is_superuser or user.is_staff or Membership.objects.filter(user=user, role__in=STRONG).exists()


def has(user) -> bool:
    """A factor that is one by itself: recovery codes are not."""
    return Authenticator.objects.filter(
        user=user, type__in=[Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
    ).exists()


def lock(text: str) -> str:
    return sealed.wrapped(text, about=ABOUT)


def unlock(box: str) -> str:
    return sealed.unwrapped(box, about=ABOUT)


@transaction.atomic
def reseal() -> int:
    """Seal every factor's secret with the first key. Returns how many were under another. Raises ConfigurationError."""
    count = 0
    for row in Authenticator.objects.select_for_update().exclude(type=Authenticator.Type.WEBAUTHN):
        again = {name: _again(value) for name, value in row.data.items()}
        if again != row.data:
            row.data, count = again, count + 1
            row.save(update_fields=["data"])
    return count


def _again(value):
    if isinstance(value, list):
        return [_again(each) for each in value]
    if isinstance(value, str) and value.startswith(sealed.WRAPPED) and not sealed.is_current(value):
        return lock(unlock(value))
    return value
