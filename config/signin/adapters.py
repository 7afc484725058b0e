"""What allauth asks of us: who is told of a sign-in, how secrets are kept, how identity providers are called."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.providers.base import AuthProcess
from django.core.exceptions import ValidationError
from django.urls import reverse

from auditlog.core.errors import ConfigurationError, NotFound
from auditlog.database import clock
from auditlog.people import factors, identities, links
from config.signin.guarded import session
from dashboard.pages.account.door import INVITATION, told, welcomed
from dashboard.pages.account.proof import is_recent


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request) -> bool:
        return False  # by invitation only

    def get_client_ip(self, request) -> str:
        # Whoever runs a proxy lets the server take it from there; 0.0.0.0: a request that came by no network.
        return request.META.get("REMOTE_ADDR") or "0.0.0.0"

    def add_message(self, request, level, message_template=None, message_context=None, extra_tags="", message=None):
        if message is not None:  # allauth's own texts of what went well say nothing that the page does not
            super().add_message(request, level, message_context=message_context, extra_tags=extra_tags, message=message)

    def login(self, request, user) -> None:
        super().login(request, user)
        welcomed(request, user)

    def set_password(self, user, password: str) -> None:
        super().set_password(user, password)
        request = context.request
        if not request.user.is_authenticated:  # by a link of mail; a change of one's own is told by the gate
            told(request, "factor.changed", user, result="a new password by mail")
            links.end_sessions(user)

    def is_reauthentication_required(self, *, app: str, **more) -> bool:
        return not is_recent(self.request)

    def get_reauthentication_methods(self, user) -> list[dict]:
        """One page of ours asks for whatever the account has."""
        if not user.is_authenticated:
            return []
        return [{"id": "reauthenticate", "description": "", "url": reverse("account_reauthenticate")}]


class FactorAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        try:
            return factors.lock(text)
        except ConfigurationError as error:
            raise ValidationError(f"Nothing was kept: {error}") from None

    def decrypt(self, encrypted_text: str) -> str:
        try:
            return factors.unlock(encrypted_text)
        except ConfigurationError as error:
            raise ValidationError(f"This factor cannot be checked now: {error}") from None

    def get_totp_label(self, user) -> str:
        return user.get_username()

    def _get_user_identifier(self, user) -> str:
        return user.get_username()

    def can_delete_authenticator(self, authenticator) -> bool:
        """The last factor of somebody who must have one stays, until there is another."""
        user = authenticator.user
        others = [a for a in user.authenticator_set.exclude(pk=authenticator.pk) if a.type != "recovery_codes"]
        return bool(others) or not factors.must_have(user)


class ProviderAdapter(DefaultSocialAccountAdapter):
    """Identity providers (OpenID Connect). They sign in accounts that were connected to them, or invited."""

    def get_requests_session(self):
        return session()

    def pre_social_login(self, request, sociallogin) -> None:
        """Whoever shows an identity is that person: also where it is refused since another account has it already."""
        if request.user.is_authenticated and sociallogin.state.get("process") == AuthProcess.CONNECT:
            _keep_identity(request.user.pk, sociallogin)
        elif sociallogin.is_existing:
            _keep_identity(sociallogin.user.pk, sociallogin)

    def is_open_for_signup(self, request, sociallogin) -> bool:
        try:
            links.find(request.session.get(INVITATION, ""), now=clock.now())
        except NotFound:
            told(request, "signin.failed", None, result="an identity that no account is connected to")
            return False
        return True

    def save_user(self, request, sociallogin, form=None):
        user = links.use_by_provider(request.session.pop(INVITATION), now=clock.now())
        told(request, "link.used", user)
        sociallogin.user = user
        sociallogin.save(request, connect=True)
        _keep_identity(user.pk, sociallogin)
        return user

    def on_authentication_error(self, request, provider, error=None, exception=None, extra_context=None) -> None:
        told(
            request, "signin.failed", None, result=f"{provider.id}: {type(exception).__name__ if exception else error}"
        )

    def get_connect_redirect_url(self, request, socialaccount) -> str:
        return reverse("dashboard:account")


def _keep_identity(user_id: int, sociallogin) -> None:
    """The subject under its issuer, which is what makes it somebody; and the address that the provider verified."""
    data = sociallogin.account.extra_data
    verified = [one.email for one in sociallogin.email_addresses if one.verified]
    identities.told_by_provider(
        user_id, issuer=str(data["id_token"]["iss"]), subject=sociallogin.account.uid,
        address=verified[0] if verified else "", now=clock.now(),
    )  # fmt: skip
