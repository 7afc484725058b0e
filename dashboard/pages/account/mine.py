"""One's own account: what one signs in with, and where one is signed in."""

from allauth.account.views import PasswordChangeView, PasswordResetView
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from auditlog.core.text import number
from auditlog.people import factors, links
from dashboard.pages.account.door import allow_providers, as_tried, other_ways, told
from dashboard.parts.access import signed_in


@signed_in
@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    user, here = request.user, request.session.session_key or ""
    if request.method == "POST":
        _end(request, user, here)
        return HttpResponseRedirect(request.path)
    sessions = sorted(UserSession.objects.purge_and_list(user), key=lambda one: one.last_seen_at, reverse=True)
    shown = {
        "sessions": [(one, one.session_key == here) for one in sessions],
        "others": sum(one.session_key != here for one in sessions),
        "factors": Authenticator.objects.filter(user=user).order_by("created_at"),
        "must": factors.must_have(user), "has": factors.has(user),
        "spared": user.get_username() in settings.SECOND_FACTOR_SPARES,
        "identities": SocialAccount.objects.filter(user=user), "idle": settings.SESSION_IDLE_SECONDS // 60,
        "longest": settings.SESSION_LONGEST_SECONDS // 3600, **other_ways(request),
    }  # fmt: skip
    return allow_providers(render(request, "dashboard/account/account.html", shown), request)


def _end(request: HttpRequest, user, here: str) -> None:
    """End one session of one's own, or all others."""
    if "others" in request.POST:
        ended = links.end_sessions(user, but=here)
    else:
        found = UserSession.objects.filter(user=user, pk=number(request.POST.get("session", "")) or 0).first()
        ended = 0
        if found is not None:
            found.end()
            ended = 1
    told(request, "session.ended", user, result=f"{ended} by its owner")
    messages.success(request, "1 session was ended." if ended == 1 else f"{ended} sessions were ended.")


class ChangePassword(PasswordChangeView):
    template_name = "dashboard/account/form.html"
    success_url = "/account/"

    def get_context_data(self, **more):
        return super().get_context_data(**more) | {
            "title": "Change your password", "button": "Change it", "back": "/account/",
            "words": "All your other sessions end with it.",
        }  # fmt: skip

    def form_valid(self, form) -> HttpResponse:
        answer = super().form_valid(form)
        messages.success(self.request, "Your password was changed, and your other sessions were ended.")
        return answer


class ForgotPassword(PasswordResetView):
    """By mail where there is a mail server; else it says whom to ask. Never whether there is such an account."""

    template_name = "dashboard/account/forgot.html"

    def get_context_data(self, **more):
        return super().get_context_data(**more) | {"has_mail": bool(settings.EMAIL_HOST)}

    def post(self, request, *args, **kwargs):
        if not settings.EMAIL_HOST:
            return self.get(request, *args, **kwargs)
        with as_tried(request, "reset", request.POST.get("email", "")):
            return super().post(request, *args, **kwargs)
