"""Where a one-time link leads: make the account one was invited to, or set a new password."""

from allauth.socialaccount.adapter import get_adapter as providers_of
from django import forms
from django.contrib import messages
from django.contrib.auth.password_validation import password_validators_help_texts
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from auditlog.core.errors import NotFound
from auditlog.database import clock
from auditlog.people import links
from dashboard.pages.account.door import INVITATION, TooOften, allow_providers, as_tried, told
from dashboard.parts.access import error_page


class PasswordForm(forms.Form):
    password = forms.CharField(
        label="Password",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        max_length=1_000,
        strip=False,
    )
    again = forms.CharField(
        label="The same again",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        max_length=1_000,
        strip=False,
    )

    def clean(self):
        said = super().clean()
        if said.get("password") and said.get("again") and said["password"] != said["again"]:
            self.add_error("again", "These are not the same.")
        return said


@never_cache
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, secret: str) -> HttpResponse:
    now, form = clock.now(), PasswordForm(label_suffix="")
    try:
        with as_tried(request, "link", ""):
            row = links.find(secret, now=now)
    except TooOften as error:
        return error_page(request, 429, "Too many tries", " ".join(error.messages))
    except NotFound as error:
        return error_page(request, 404, "This link is not good", str(error))
    status = 200
    if request.method == "POST":
        form = PasswordForm(request.POST, label_suffix="")
        if form.is_valid() and _used(request, form, secret):
            messages.success(request, "Your password is set. Sign in with it.")
            return HttpResponseRedirect("/login/")
        status = 422
    providers = providers_of(request).list_providers(request) if row.kind == row.Kind.INVITATION else []
    if providers:
        request.session[INVITATION] = secret
    shown = {"link": row, "form": form, "hints": password_validators_help_texts(), "providers": providers}
    return allow_providers(render(request, "dashboard/account/join.html", shown, status=status), request)


def _used(request: HttpRequest, form: PasswordForm, secret: str) -> bool:
    try:
        user = links.use(secret, password=form.cleaned_data["password"], now=clock.now())
    except forms.ValidationError as error:
        form.add_error("password", error)
        return False
    told(request, "link.used", user)
    return True
