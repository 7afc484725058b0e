"""allauth's forms of codes, behind our throttle: a code has six digits."""

from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AuthenticateWebAuthnForm, LoginWebAuthnForm
from django.core.exceptions import ValidationError

from dashboard.pages.account.door import UNREADABLE, as_tried, told


class CodeForm(AuthenticateForm):
    """The second factor, after the password."""

    def clean_code(self) -> str:
        name = self.user.get_username()
        with as_tried(context.request, "code", name):
            return super().clean_code()

    def _emit_authentication_failed(self, authenticator) -> None:
        told(context.request, "signin.failed", self.user, result="second factor")


class PasskeyForm(AuthenticateWebAuthnForm):
    """A passkey, after the password."""

    def clean_credential(self):
        try:
            return super().clean_credential()
        except (ValidationError, *UNREADABLE) as error:
            told(context.request, "signin.failed", self.user, result="passkey")
            raise ValidationError("That passkey is not one of yours.") from error


class PasskeyAloneForm(LoginWebAuthnForm):
    """A passkey instead of it. Whose it would be is said by whoever sends it, so nobody is named."""

    def clean_credential(self):
        try:
            return super().clean_credential()
        except (ValidationError, *UNREADABLE) as error:
            told(context.request, "signin.failed", None, result="passkey")
            raise ValidationError("No account has that passkey.") from error


class ActivateForm(ActivateTOTPForm):
    def clean_code(self) -> str:
        with as_tried(context.request, "code", self.user.get_username()):
            return super().clean_code()
