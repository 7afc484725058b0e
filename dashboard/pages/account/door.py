"""Signing in and out. Every try is counted in the database and told to the security log (allauth does the rest)."""

from collections.abc import Iterator
from contextlib import contextmanager

from allauth.account.forms import LoginForm as AllauthForm
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.views import LoginView
from allauth.socialaccount.adapter import get_adapter as providers_of
from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse

from auditlog.custody import security
from auditlog.database import clock, throttle
from auditlog.models import Membership

INVITATION = "invitation"  # in the session: the link under which an identity may become an account
# What is sent as a passkey's answer may be any JSON, and allauth's and fido2's readers take it as they find it.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)
WRONG = "This user name and password do not belong together. Both are case-sensitive."


class TooOften(forms.ValidationError):
    """The door is shut for a while; `wait` says how long."""

    def __init__(self, wait: int) -> None:
        super().__init__(f"Too many tries. The next is looked at in {wait} s.", code="too_often")
        self.wait = wait


def address_of(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR", "")


@contextmanager
def as_tried(request: HttpRequest, door: str, account: str) -> Iterator[None]:
    """One try at something secret: counted before it, forgotten when it is right. Raises TooOften."""
    account, address = account.strip().lower()[:200], address_of(request)
    tried = throttle.attempt(door, account=account, address=address)
    if tried.wait or tried.begins:
        told(request, "signin.slowed", named(account), result=f"{door}: {tried.tries} tries")
    if tried.wait:
        request.wait = tried.wait  # said in a header, too
        raise TooOften(tried.wait)
    yield
    request.tries_before = throttle.succeeded(door, account=account, address=address)


def named(name: str):
    """The account of a name as it was typed, in whichever case; None where there is none."""
    return get_user_model().objects.filter(username__iexact=name.replace("\x00", "")[:150]).first() if name else None


class LoginForm(AllauthForm):
    error_messages = {"invalid_login": WRONG}

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        for field, words in (("login", "username"), ("password", "current-password")):
            self.fields[field].widget.attrs = {"autocomplete": words, "autocapitalize": "none", "maxlength": 300}
        self.fields["login"].widget.attrs["autofocus"] = True
        self.fields["login"].max_length = 150
        self.fields["password"].help_text = ""

    def add_prefix(self, field_name: str) -> str:
        return super().add_prefix("username" if field_name == "login" else field_name)

    def clean_login(self) -> str:
        return self.cleaned_data["login"]

    def _clean_with_password(self, credentials: dict):
        name = credentials["username"]
        with as_tried(self.request, "password", name):
            try:
                return super()._clean_with_password(credentials)
            except forms.ValidationError:
                told(self.request, "signin.failed", get_user_model().objects.filter(username=name).first())
                raise forms.ValidationError(WRONG, code="invalid_login") from None


class Login(LoginView):
    template_name = "dashboard/login.html"
    form_class = LoginForm
    success_url = None

    def get_form_class(self):
        return self.form_class

    def form_invalid(self, form) -> HttpResponse:
        wait = getattr(self.request, "wait", 0)
        answer = self.render_to_response(self.get_context_data(form=form), status=429 if wait else 200)
        if wait:
            answer.headers["Retry-After"] = str(wait)
        return answer

    def get_context_data(self, **kwargs):
        shown = super().get_context_data(**kwargs)
        return shown | {"next": self.get_next_url() or "", **other_ways(self.request)}

    def render_to_response(self, context, **more) -> HttpResponse:
        return allow_providers(super().render_to_response(context, **more), self.request)


def other_ways(request: HttpRequest) -> dict:
    """Beside a password: passkeys, which know no IP addresses, and identity providers."""
    host = request.get_host().partition(":")[0]
    has_name = not (host.replace(".", "").isdigit() or host.startswith("["))
    return {"passkeys": has_name, "providers": providers_of(request).list_providers(request)}


def allow_providers(response: HttpResponse, request: HttpRequest) -> HttpResponse:
    """Let this page's forms lead to the identity providers, which its policy forbids otherwise (config/headers.py)."""
    response.leads_to = [
        provider.app.settings["server_url"] for provider in providers_of(request).list_providers(request)
    ]
    return response


class Logout(LogoutView):
    next_page = "/login/"

    def post(self, request, *args, **kwargs):
        if request.user.is_authenticated:
            told(request, "signout", request.user)
        return super().post(request, *args, **kwargs)


def welcomed(request: HttpRequest, user) -> None:
    """Somebody is in: the log is told, and they are told of the tries that were not theirs."""
    begin(request, user)
    told(request, "signin.succeeded", user)
    if tries := getattr(request, "tries_before", 0):
        words = "1 sign-in with your name failed" if tries == 1 else f"{tries} sign-ins with your name failed"
        messages.warning(request, f"{words} just before this one. If that was not you, change your password.")


def path_of(request: HttpRequest) -> str:
    """Where it was, without the secret that some addresses hold."""
    for holder in ("/join/", "/account/password/forgot/"):
        if request.path_info.startswith(holder):
            return holder
    return request.path_info


def begin(request: HttpRequest, user) -> None:
    """What the session says of how it began (config/signin/sessions.py ends it, gate.py looks at the rest)."""
    now = clock.now().timestamp()
    records = get_authentication_records(request, user)
    request.session.update({"began": now, "seen": now, "proved": now})
    if any(record.get("method") == "mfa" for record in records):
        request.session["second"] = True


def told(request: HttpRequest, kind: str, user, *, result: str = "") -> None:
    """To the security log, of the account's own tenant. What was typed is kept only where an account has that name: it
    may be a password in the wrong field.
    """
    membership = (
        Membership.objects.select_related("tenant").filter(user=user).order_by("id").first()
        if user is not None and user.pk
        else None
    )
    security.note(
        membership.tenant if membership else None, kind, user_id=user.pk if user is not None else None,
        who=user.get_username() if user is not None else "a name that no account has", address=address_of(request),
        what=path_of(request), result=result, is_known=kind not in ("signin.failed", "signin.slowed"), now=clock.now(),
    )  # fmt: skip
