"""Proving again who one is, before what matters most: deciding, stopping, taking out, issuing tokens. By the password,
a code, or a passkey; what was about to be sent is sent on with it.
"""

from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.base.forms import ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.forms import ReauthenticateWebAuthnForm
from allauth.mfa.webauthn.internal import auth as webauthn
from allauth.socialaccount.adapter import get_adapter as providers_of
from allauth.usersessions.models import UserSession
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

from auditlog.database import clock
from dashboard.pages.account.door import UNREADABLE, TooOften, allow_providers, as_tried, other_ways, told
from dashboard.parts.access import signed_in

ASKED = ("_password", "_code", "_credential")
MOST_KEPT = 200  # fields of a form that are sent on


def is_recent(request: HttpRequest) -> bool:
    proved = request.session.get("proved")
    return proved is not None and -5 <= clock.now().timestamp() - proved < settings.PROOF_SECONDS


def is_answered(request: HttpRequest) -> bool:
    return request.method == "POST" and any(name in request.POST for name in ASKED)


def prove(request: HttpRequest, *, second: bool = False) -> str:
    """Why it is no proof, or "" and it is noted. `second`: only a second factor is one."""
    user, given = request.user, request.POST
    method = "password" if given.get("_password") and not second else "mfa"
    try:
        with as_tried(request, "proof", user.get_username()):
            _check(request, user, second=second)
    except TooOften as error:
        return " ".join(error.messages)
    except forms.ValidationError as error:
        told(request, "proof.failed", user, result=method)
        return " ".join(error.messages)
    if method == "password":  # allauth's own forms have noted the others
        record_authentication(request, user, method="password", reauthenticated=True)
    else:
        request.session["second"] = True
    before = request.session.session_key
    request.session.cycle_key()  # what somebody may have seen of the session before is good for nothing now
    UserSession.objects.filter(session_key=before).update(session_key=request.session.session_key)
    request.session["proved"] = clock.now().timestamp()
    told(request, "proof.asked", user, result=method)
    return ""


def _check(request: HttpRequest, user, *, second: bool) -> None:
    """Raises ValidationError."""
    given = request.POST
    if given.get("_password") and not second:
        if not user.check_password(given["_password"]):
            raise forms.ValidationError("That is not your password.")
        return
    if given.get("_credential"):
        form = ReauthenticateWebAuthnForm(user=user, data={"credential": given["_credential"]})
        try:
            is_good = form.is_valid()
        except UNREADABLE:  # not what a browser sends
            is_good = False
        if not is_good:
            raise forms.ValidationError("That passkey is not one of yours.")
    else:
        form = ReauthenticateForm(user=user, data={"code": given.get("_code", "")})
        if not form.is_valid():
            raise forms.ValidationError("That code is not good, or not any more.")
    form.save()


def ask(request: HttpRequest, *, wrong: str = "", next: str = "", second: bool = False) -> HttpResponse:
    """The page that asks. Of a form that was sent, its fields go along: nobody writes a reason twice."""
    user = request.user
    types = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    ways = other_ways(request)
    has_passkey = Authenticator.Type.WEBAUTHN in types and ways["passkeys"]
    kept = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in (*ASKED, "csrfmiddlewaretoken", "next")
        for value in values
    ]
    shown = {
        "wrong": wrong, "next": next, "second": second,
        "kept": kept[:MOST_KEPT] if request.method == "POST" and not next else [],
        "has_password": user.has_usable_password() and not second,
        "has_code": bool(types & {Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES}),
        "options": webauthn.begin_authentication(user) if has_passkey else None,
        "providers": providers_of(request).list_providers(request),
        "lost_file": bool(request.FILES),
    }  # fmt: skip
    wait = getattr(request, "wait", 0)
    response = render(request, "dashboard/account/proof.html", shown, status=429 if wait else 403 if wrong else 401)
    response.asks_for_proof = True  # nothing was refused yet
    if wait:
        response.headers["Retry-After"] = str(wait)
    return allow_providers(response, request)


@signed_in
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """The same as a page of its own, which leads on to where somebody wanted to go."""
    asked = request.POST.get("next") or request.GET.get("next", "")
    here = {request.get_host()}
    next = asked if url_has_allowed_host_and_scheme(asked, here, require_https=request.is_secure()) else "/"
    second = "second" in request.GET
    wrong = ""
    if request.method == "POST":
        wrong = prove(request, second=second)
        if not wrong:
            return HttpResponseRedirect(next)
    response = ask(request, wrong=wrong, next=next, second=second)
    if not wrong:
        response.status_code = 200
    return response
