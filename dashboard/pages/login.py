"""Signing in and out; the security log is told of both."""

from django.contrib.auth import get_user_model
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest

from auditlog.custody import security
from auditlog.database import clock
from auditlog.models import Membership


class LoginForm(AuthenticationForm):
    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "This user name and password do not belong together. Both are case-sensitive.",
    }


class Login(LoginView):
    template_name = "dashboard/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def form_valid(self, form):
        answer = super().form_valid(form)
        _tell(self.request, "signin.succeeded", form.get_user())
        return answer

    def form_invalid(self, form):
        # What was typed is kept only where an account has that name: it may be a password in the wrong field.
        typed = str(form.data.get("username", ""))[:150].replace("\x00", "")
        _tell(self.request, "signin.failed", get_user_model().objects.filter(username=typed).first())
        return super().form_invalid(form)


class Logout(LogoutView):
    next_page = "/login/"

    def post(self, request, *args, **kwargs):
        if request.user.is_authenticated:
            _tell(request, "signout", request.user)
        return super().post(request, *args, **kwargs)


def _tell(request: HttpRequest, kind: str, user) -> None:
    membership = (
        Membership.objects.select_related("tenant").filter(user=user).order_by("id").first()
        if user is not None
        else None
    )
    security.note(
        membership.tenant if membership else None, kind, who=user.get_username() if user is not None else "a name that no account has",
        user_id=user.pk if user is not None else None, address=request.META.get("REMOTE_ADDR", ""), what=request.path_info,
        is_known=kind != "signin.failed", now=clock.now(),
    )  # fmt: skip
