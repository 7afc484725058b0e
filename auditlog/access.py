"""Who may look: bearer tokens, memberships, roles. A `Viewer` is what queries and verbs are told about the caller."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission

from auditlog import clock, configuration
from auditlog.core.errors import ConfigurationDiffers, NotPermitted
from auditlog.models import ApiToken, Membership, Role, Tenant

# What each role may do beyond reading events. The abuse desk reads its own provider's only (see queries), and nothing
# that shows other parties' papers whole: grants, parties, sources, the state of the log.
WHOLE = "read whole grants, parties or logs"
MAY = {
    Role.ADMIN: frozenset({WHOLE, "triage", "case", "decide", "configure"}),
    Role.SECURITY: frozenset({WHOLE, "triage", "case", "decide"}),
    Role.FINANCE: frozenset({WHOLE, "triage", "case", "decide"}),
    Role.ABUSE: frozenset({"triage", "case"}),
    Role.AUDITOR: frozenset({WHOLE}),
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """The caller: a person or a token, in one tenant."""

    tenant: Tenant
    role: str
    name: str
    user_id: int | None = None
    provider: str = ""  # of the abuse role: the only provider whose events it sees

    is_authenticated = True  # what REST framework asks of a user

    def may(self, act: str) -> bool:
        return act in MAY[self.role]

    def must(self, act: str) -> None:
        """Raises NotPermitted."""
        if not self.may(act):
            raise NotPermitted(f"the role {self.role!r} may not {act}")


def viewer_of(user) -> Viewer | None:
    """The person's first membership; None when they belong to no tenant."""
    membership = Membership.objects.select_related("tenant").filter(user=user).order_by("id").first()
    if membership is None:
        return None
    must_hold(membership.tenant, ("membership", membership.pk), user_id=user.pk)
    return Viewer(membership.tenant, membership.role, user.get_username(), user.pk, membership.provider)


def must_hold(tenant: Tenant, row: configuration.Row, *, user_id: int | None = None) -> None:
    """That a right is what the log states, and in force. Raises NotPermitted."""
    try:
        configuration.refuse_if_differs(tenant, row)
        if user_id is not None:
            configuration.refuse_if_differs(None, ("user", user_id))
    except ConfigurationDiffers as error:
        raise NotPermitted(str(error)) from None
    if (leaf := configuration.binds(tenant, row)) is not None:
        raise NotPermitted(f"this right was given by leaf {leaf}, which waits for the next published checkpoint: try again in a moment")


def issue_token(tenant: Tenant, *, name: str, role: str, expires_at: datetime, provider: str = "") -> str:
    """A new bearer token. This is the only time it is seen: the database keeps its hash."""
    token = "ans_" + secrets.token_urlsafe(32)
    ApiToken.objects.create(
        tenant=tenant, name=name, role=role, provider=provider, expires_at=expires_at,
        digest=sha256(token.encode()).digest(),
    )  # fmt: skip
    return token


class BearerToken(BaseAuthentication):
    """`Authorization: Bearer <token>` (RFC 6750)."""

    def authenticate(self, request):
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = sha256(token.strip()).digest()
        found = ApiToken.objects.select_related("tenant").filter(digest=digest).first()
        if found is None:
            raise AuthenticationFailed("unknown token")
        if found.expires_at <= clock.now():
            raise AuthenticationFailed("the token has expired")
        must_hold(found.tenant, ("token", found.pk))
        return Viewer(found.tenant, found.role, found.name, None, found.provider), found

    def authenticate_header(self, request) -> str:
        return "Bearer"


class IsMember(BasePermission):
    """A token, or a signed-in person with a membership; `request.viewer` says which."""

    def has_permission(self, request, view) -> bool:
        user = request.user
        if isinstance(user, Viewer):
            request.viewer = user
            return True
        if user is None or not user.is_authenticated:
            raise NotAuthenticated()
        viewer = viewer_of(user)
        if viewer is None:
            raise NotPermitted("this account belongs to no tenant")
        request.viewer = viewer
        return True
