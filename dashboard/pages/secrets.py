"""Secrets of sources and receivers: entered once, sealed, rotated, never shown (auditlog/sources/sealed.py)."""

import os
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from auditlog.core.errors import AnswerableError, ConfigurationError
from auditlog.custody import security
from auditlog.database import clock
from auditlog.database.acting import acting
from auditlog.models import AlertChannel, Export, Receiver, SealedSecret, Source, Tenant
from auditlog.sources import sealed
from auditlog.sources.configure import OURS
from dashboard.parts.access import page


class SecretForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=111,
        help_text="As the source or receiver names it: capital letters, digits, underscores.",
    )
    secret = forms.CharField(
        label="Secret", max_length=sealed.LONGEST, strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Entered once, sealed, never shown again. The one before stays good as NAME_OLD until you remove it.",
    )  # fmt: skip


@page
@sensitive_post_parameters("secret")
@require_http_methods(["GET", "POST"])
def secrets(request: HttpRequest) -> HttpResponse:
    viewer = request.viewer
    viewer.must("configure")
    form, status = SecretForm(label_suffix="", initial={"name": request.GET.get("name", "")[:111]}), 200
    if request.method == "POST":
        form = SecretForm(request.POST, label_suffix="")
        try:
            if _done(request, form):
                return HttpResponseRedirect(request.path)
        except AnswerableError as error:
            form.add_error(None, str(error))
        status = 422
    shown = {"rows": _rows(viewer.tenant), "form": form}
    return render(request, "dashboard/secrets.html", shown, status=status)


def _done(request: HttpRequest, form: SecretForm) -> bool:
    """Raises ConfigurationError, NotFound."""
    tenant = request.viewer.tenant
    if name := request.POST.get("remove", ""):
        sealed.remove(tenant, name[:120])
        _note(request, f"removed {name[:120]}")
        messages.success(request, f"{name[:120]} was removed.")
        return True
    if not form.is_valid():
        return False
    name, secret = form.cleaned_data["name"], form.cleaned_data["secret"]
    if OURS.match(name):
        raise ConfigurationError(f"{name} is the service's own")
    rotated = SealedSecret.objects.filter(tenant=tenant, name=name).exists()
    sealed.seal(tenant, name, secret.encode(), now=clock.now())
    _note(request, f"{'rotated' if rotated else 'set'} {name}")
    messages.success(
        request,
        f"{name} was rotated. The one before stays good as {name}_OLD: remove it once the other side has switched."
        if rotated
        else f"{name} is sealed.",
    )
    return True


def _note(request: HttpRequest, what: str) -> None:
    security.note(
        request.viewer.tenant, "secret.changed", who=acting(), what=f"secret: {what}", user_id=request.user.pk,
        address=request.META.get("REMOTE_ADDR", ""), now=clock.now(),
    )  # fmt: skip


def _rows(tenant: Tenant) -> list[dict[str, Any]]:
    """Every name that is used or sealed: who uses it, since when it is set, and where it is read from."""
    used: dict[str, list[str]] = {}
    for word, model, fields in (
        ("source", Source, ("secret_env", "api_key_env")),
        ("receiver", Receiver, ("secret_env",)),
        ("alert channel", AlertChannel, ("secret_env",)),
        ("export", Export, ("secret_env", "token_env")),
    ):
        for row in model.objects.filter(tenant=tenant).order_by("name"):
            for field in fields:
                if name := getattr(row, field):
                    used.setdefault(name, []).append(f"{word} {row.name}")
    kept = {row.name: row for row in SealedSecret.objects.filter(tenant=tenant)}
    return [
        {
            "name": name, "used_by": used.get(name) or used.get(name.removesuffix("_OLD"), []),
            "sealed": kept.get(name), "is_old": name.endswith("_OLD"),
            "in_environment": name in used and bool(os.environ.get(name)),
        }
        for name in sorted({*used, *kept})
    ]  # fmt: skip
