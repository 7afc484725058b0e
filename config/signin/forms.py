"""allauth's forms of codes, behind our throttle: a code has six digits."""

from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm

from dashboard.pages.account.door import as_tried, told


class CodeForm(AuthenticateForm):
    """The second factor, after the password."""

    def clean_code(self) -> str:
        name = self.user.get_username()
        with as_tried(context.request, "code", name, field="code"):
            return super().clean_code()

    def _emit_authentication_failed(self, authenticator) -> None:
        told(context.request, "signin.failed", self.user, result="second factor")


class ActivateForm(ActivateTOTPForm):
    def clean_code(self) -> str:
        with as_tried(context.request, "code", self.user.get_username(), field="code"):
            return super().clean_code()
