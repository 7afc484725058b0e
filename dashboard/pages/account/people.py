"""People of a tenant, for its admins: who may do what, invitations and one-time links, and who is one person."""

from typing import Any

from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from auditlog.core.errors import AnswerableError, NotFound
from auditlog.core.text import number
from auditlog.database import clock
from auditlog.models import Identity, Membership, OneTimeLink, Role
from auditlog.people import identities, links
from auditlog.people.factors import must_have
from dashboard.pages.account.door import told
from dashboard.parts.access import page


class InviteForm(forms.Form):
    username = forms.CharField(label="User name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    email = forms.EmailField(
        label="Address", required=False, help_text="Accounts of one address are one person, with one vote."
    )
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.AUDITOR)
    provider = forms.CharField(
        label="Provider", max_length=120, required=False, help_text="Of the abuse role: the one it works for."
    )


class LinkForm(forms.Form):
    one = forms.ModelChoiceField(label="This account", queryset=None)
    other = forms.ModelChoiceField(label="and this", queryset=None)
    reason = forms.CharField(
        label="How you know", max_length=500, help_text="Kept for ever with your name. It cannot be taken back."
    )

    def __init__(self, *args, tenant, **more) -> None:
        super().__init__(*args, **more)
        members = get_user_model().objects.filter(memberships__tenant=tenant).order_by("username")
        self.fields["one"].queryset = self.fields["other"].queryset = members


@page
@require_http_methods(["GET", "POST"])
def people(request: HttpRequest) -> HttpResponse:
    viewer = request.viewer
    viewer.must("configure")
    forms_shown = {
        "form": InviteForm(label_suffix=""),
        "link_form": LinkForm(tenant=viewer.tenant, label_suffix="", prefix="link"),
    }
    handed, status = None, 200
    if request.method == "POST":
        try:
            handed, forms_shown = _done(request, forms_shown)
            wrong = any(form.is_bound and not form.is_valid() for form in forms_shown.values())
        except AnswerableError as error:
            messages.error(request, str(error))
            wrong = True
        if not wrong and handed is None:
            return HttpResponseRedirect(request.path)
        status = 422 if wrong else 200
    shown = {"members": _members(viewer.tenant), "links": _links(viewer.tenant), "handed": handed, **forms_shown}
    return render(request, "dashboard/account/people.html", shown, status=status)


def _done(request: HttpRequest, shown: dict[str, Any]) -> tuple[dict[str, str] | None, dict[str, Any]]:
    """Do what a button says. Returns a link to show once, and the forms. Raises AnswerableError."""
    viewer, given, now = request.viewer, request.POST, clock.now()
    do = given.get("do", "")
    if do == "invite":
        form = shown["form"] = InviteForm(given, label_suffix="")
        if not form.is_valid():
            return None, shown
        secret = links.invite(viewer, links.Invited(**form.cleaned_data), now=now)
        told(request, "link.made", request.user, result=f"invitation of {form.cleaned_data['username']}")
        return _handed(request, secret, form.cleaned_data["username"], "3 days"), shown | {
            "form": InviteForm(label_suffix="")
        }
    if do == "link":
        form = shown["link_form"] = LinkForm(given, tenant=viewer.tenant, label_suffix="", prefix="link")
        if form.is_valid():
            said = form.cleaned_data
            identities.link(viewer, said["one"], said["other"], reason=said["reason"], now=now)
            messages.success(request, "From now on these two are one person, with one vote.")
        return None, shown
    if do == "withdraw":
        links.withdraw(viewer, number(given.get("link", "")) or 0)
        return None, shown
    user = get_user_model().objects.filter(pk=number(given.get("user", "")) or 0, memberships__tenant=viewer.tenant)
    if (found := user.first()) is None or do not in ("reset", "end"):
        raise NotFound("there is no such member")
    if do == "reset":
        drops = bool(given.get("drops_factors"))
        secret = links.reset(viewer, found, drops_factors=drops, is_superuser=request.user.is_superuser, now=now)
        what = "new password and factors" if drops else "new password"
        told(request, "link.made", request.user, result=f"{what} of {found.get_username()}")
        return _handed(request, secret, found.get_username(), "4 hours"), shown
    ended = links.end_sessions(found)
    told(request, "session.ended", request.user, result=f"{ended} of {found.get_username()}")
    messages.success(request, f"{found.get_username()}: {ended} sessions were ended.")
    return None, shown


def _handed(request: HttpRequest, secret: str, who: str, lasts: str) -> dict[str, str]:
    path = reverse("dashboard:join", args=[secret])
    return {"url": request.build_absolute_uri(path), "who": who, "lasts": lasts}


def _members(tenant) -> list[dict[str, Any]]:
    rows = list(Membership.objects.select_related("user").filter(tenant=tenant).order_by("user__username"))
    ids = [row.user_id for row in rows]
    factors: dict[int, set[str]] = {}
    for user_id, kind in Authenticator.objects.filter(user__in=ids).values_list("user_id", "type"):
        factors.setdefault(user_id, set()).add(kind)
    names = {row.user_id: row.user.get_username() for row in rows}
    linked: dict[int, set[str]] = {}
    by_identity: dict[tuple[str, str], set[int]] = {}
    for user_id, issuer, subject in Identity.objects.filter(user_id__in=ids).values_list(
        "user_id", "issuer", "subject"
    ):
        by_identity.setdefault((issuer, subject), set()).add(user_id)
    for together in by_identity.values():
        for user_id in together:
            linked.setdefault(user_id, set()).update(names[other] for other in together - {user_id})
    return [
        {
            "user": row.user, "role": row.get_role_display().partition(":")[0], "provider": row.provider,
            "factors": sorted(factors.get(row.user_id, set()) - {"recovery_codes"}),
            "lacks": must_have(row.user) and not factors.get(row.user_id),
            "is_with": sorted(linked.get(row.user_id, ())),
        }
        for row in rows
    ]  # fmt: skip


def _links(tenant) -> list[OneTimeLink]:
    return list(
        OneTimeLink.objects.select_related("user")
        .filter(tenant=tenant, used_at=None, ends_at__gt=clock.now())
        .order_by("-made_at")[:50]
    )
