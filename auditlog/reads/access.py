"""Who may look: bearer tokens, memberships, roles. A `Viewer` is what queries and verbs are told about the caller."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.db.models.functions import Lower
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, Throttled
from rest_framework.permissions import BasePermission

from auditlog.core.errors import ConfigurationDiffers, ConfigurationError, NotPermitted
from auditlog.core.person import NOBODY_KNOWS
from auditlog.database import clock, throttle
from auditlog.models import ApiToken, Identity, Membership, Role, Tenant
from auditlog.sources import configuration

# What each role may do beyond reading events. The abuse desk reads its own provider's only (see queries), and nothing
# that shows other parties' papers whole: grants, parties, sources, the state of the log.
LONGEST = timedelta(days=366)  # of a token
ADDRESS = "urn:answerable:address"  # the issuer of addresses that an identity provider verified
USED_AGAIN = timedelta(minutes=1)
WHOLE = "read whole grants, parties or logs"
WATCH = "read the security log"
STOP = "stop an agent"
IMPORT = "import bills and close months"
MAY = {
    Role.ADMIN: frozenset({WHOLE, "triage", "case", "decide", "configure", STOP, WATCH, IMPORT}),
    Role.SECURITY: frozenset({WHOLE, "triage", "case", "decide", STOP}),
    Role.FINANCE: frozenset({WHOLE, "triage", "case", "decide", IMPORT}),
    Role.ABUSE: frozenset({"triage", "case"}),
    Role.AUDITOR: frozenset({WHOLE, WATCH}),
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """The caller: a person or a token, in one tenant."""

    tenant: Tenant
    role: str
    name: str
    user_id: int | None = None
    provider: str = ""  # of the abuse role: the only provider whose events it sees
    stands_for: tuple[int, ...] = ()  # of a token: the accounts of its owner and of who issued it

    is_authenticated = True  # what REST framework asks of a user

    def may(self, act: str) -> bool:
        return act in MAY[self.role]

    def must(self, act: str) -> None:
        """Raises NotPermitted."""
        if not self.may(act):
            raise NotPermitted(f"the role {self.role!r} may not {act}")


def person_of(viewer: Viewer) -> str:
    """Keys of all accounts that are the caller's, joined: two callers are two people when they share none (`are_one`).

    A token stands for its owner and for who issued it; accounts with one address, or one identity at an identity
    provider, or linked by an admin, are one person's.
    """
    accounts = {viewer.user_id} if viewer.user_id is not None else set(viewer.stands_for)
    if not accounts:
        return NOBODY_KNOWS
    while accounts != (wider := accounts | _of_one_address(accounts) | _of_one_identity(accounts)):
        accounts = wider  # who shares an address with one may share an identity with a third
    return "+".join(f"user:{pk}" for pk in sorted(accounts))


def _of_one_address(accounts: set[int]) -> set[int]:
    """Accounts with an address of these: as their owner wrote it, or verified by an identity provider."""
    users = get_user_model().objects
    written = users.filter(pk__in=accounts).exclude(email="").values_list("email", flat=True)
    verified = Identity.objects.filter(user_id__in=accounts, issuer=ADDRESS).values_list("subject", flat=True)
    mine = {address.lower() for address in (*written, *verified)}
    if not mine:
        return set()
    same = users.annotate(address=Lower("email")).filter(address__in=mine).values_list("pk", flat=True)
    return {*same, *Identity.objects.filter(issuer=ADDRESS, subject__in=mine).values_list("user_id", flat=True)}


def _of_one_identity(accounts: set[int]) -> set[int]:
    """Accounts that one (iss, sub) signed in to, or that an admin linked."""
    mine = list(Identity.objects.filter(user_id__in=accounts).values_list("issuer", "subject"))
    if not mine:
        return set()
    wanted = Q()
    for issuer, subject in mine:
        wanted |= Q(issuer=issuer, subject=subject)
    return set(Identity.objects.filter(wanted).values_list("user_id", flat=True))


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
        raise NotPermitted(
            f"this right was given by leaf {leaf}, which waits for the next published checkpoint: try again in a moment"
        )


def issue_token(
    tenant: Tenant, *, name: str, role: str, expires_at: datetime, provider: str = "", owner=None, issued_by=None
) -> str:
    """A new bearer token. This is the only time it is seen: the database keeps its hash. Raises ConfigurationError.

    `owner` is the account in whose name it acts; without one it reads, and decides nothing.
    """
    if expires_at - clock.now() > LONGEST:
        raise ConfigurationError(f"a token lives for {LONGEST.days} days at most")
    token = "ans_" + secrets.token_urlsafe(32)
    ApiToken.objects.create(
        tenant=tenant, name=name, role=role, provider=provider, expires_at=expires_at, owner=owner, issued_by=issued_by,
        digest=sha256(token.encode()).digest(),
    )  # fmt: skip
    return token


def _note_use(token: ApiToken) -> None:
    """When it was last used, to the minute: a write for each request would cost more than the request."""
    now = clock.now()
    if token.last_used_at is None or not timedelta() <= now - token.last_used_at < USED_AGAIN:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


class BearerToken(BaseAuthentication):
    """`Authorization: Bearer <token>` (RFC 6750)."""

    def authenticate(self, request):
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = sha256(token.strip()).digest()
        found = ApiToken.objects.select_related("tenant").filter(digest=digest).first()
        if found is None:
            # Only what is no token is counted, so that a guesser behind the same address shuts nobody out.
            tried = throttle.attempt("token", address=request.META.get("REMOTE_ADDR", ""))
            if tried.wait:
                raise Throttled(tried.wait, "too many tokens that are none")
            raise AuthenticationFailed("unknown token")
        if found.expires_at <= clock.now():
            raise AuthenticationFailed("the token has expired")
        must_hold(found.tenant, ("token", found.pk))
        _note_use(found)
        stands_for = tuple(pk for pk in (found.owner_id, found.issued_by_id) if pk is not None)
        return Viewer(found.tenant, found.role, found.name, None, found.provider, stands_for), found

    def authenticate_header(self, request) -> str:
        return "Bearer"


class IsMember(BasePermission):
    """A token, or a signed-in person with a membership; `request.viewer` says which."""

    def has_permission(self, request, view) -> bool:
        user = request.user
        if isinstance(user, Viewer):
            request.viewer = _told(request, user)
            return True
        if user is None or not user.is_authenticated:
            raise NotAuthenticated()
        viewer = viewer_of(user)
        if viewer is None:
            raise NotPermitted("this account belongs to no tenant")
        request.viewer = _told(request, viewer)
        return True


def _told(request, viewer: Viewer) -> Viewer:
    """For whoever keeps the security log: Django's request does not know what REST framework's does."""
    getattr(request, "_request", request).viewer = viewer
    return viewer
