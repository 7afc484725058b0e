"""Permissions: who may do what, how two grants differ, and what agents made."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.api.filters import MomentField
from auditlog.core import holding
from auditlog.core.chain.authority import utc_text
from auditlog.core.errors import NotFound
from auditlog.core.money.money import amount_text
from auditlog.models import Holding
from auditlog.reads import standing
from auditlog.reads.access import WHOLE, Viewer
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE, conceal, visible_events


class InventoryFilters(forms.Form):
    kind = forms.ChoiceField(
        label="Kind", required=False, choices=[("", "any"), *((kind, kind) for kind in holding.KINDS)]
    )
    provider = forms.CharField(label="Provider", required=False, max_length=200)
    account = forms.CharField(label="Customer of record", required=False, max_length=500)
    id = forms.CharField(label="What", required=False, max_length=500)
    live = forms.ChoiceField(
        label="Now", required=False, choices=[("", "any"), ("yes", "still there"), ("no", "ended")]
    )
    after = MomentField(required=False, widget=forms.HiddenInput)  # with `beside`: the last row of the page before
    beside = forms.UUIDField(required=False, widget=forms.HiddenInput)


class PermissionFilters(forms.Form):
    principal = forms.CharField(label="In the name of", required=False, max_length=700)
    agent = forms.CharField(label="Agent", required=False, max_length=700)
    show = forms.ChoiceField(
        label="Show",
        required=False,
        choices=[("", "all"), *((name, label) for name, label in standing.QUESTIONS.items())],
    )
    after = forms.CharField(required=False, max_length=600, widget=forms.HiddenInput)


class CompareForm(forms.Form):
    one = forms.CharField(label="Grant", max_length=500)
    other = forms.CharField(label="Beside grant", max_length=500)


def makers(viewer: Viewer, rows: Sequence[Holding]) -> dict[Any, dict[str, Any]]:
    """By event id: who made these, as the viewer may see it."""
    events = (
        visible_events(viewer)
        .filter(event_id__in=[row.event_id for row in rows])
        .values("event_id", "actor", "principal", "principal_claimed")
    )
    return {row["event_id"]: row for row in conceal(viewer, list(events), ("actor", "principal"))}


@page
@require_GET
def inventory(request: HttpRequest) -> HttpResponse:
    """What agents made or linked, and whether it is still there."""
    form = InventoryFilters(request.GET or None)
    rows = standing.holdings(request.viewer)
    if form.is_valid():
        chosen = {
            name: value
            for name, value in form.cleaned_data.items()
            if value and name not in ("live", "after", "beside")
        }
        rows = rows.filter(**chosen)
        if form.cleaned_data["live"]:
            rows = rows.filter(standing.LIVE) if form.cleaned_data["live"] == "yes" else rows.exclude(standing.LIVE)
        if form.cleaned_data["after"] and form.cleaned_data["beside"]:
            rows = standing.made_before(rows, form.cleaned_data["after"], form.cleaned_data["beside"])
    shown = list(rows[: PAGE + 1])
    made_by = makers(request.viewer, shown[:PAGE])
    listed = [(row, made_by.get(row.event_id)) for row in shown[:PAGE]]
    context = {"form": form, "rows": listed, "last": shown[PAGE - 1] if len(shown) > PAGE else None}
    return render(request, "dashboard/inventory.html", context)


@page
@require_GET
def permissions(request: HttpRequest) -> HttpResponse:
    """Who may do what, and who does: grants page by page, a row for each provider and action."""
    form = PermissionFilters(request.GET or None)
    chosen = form.cleaned_data if form.is_valid() else dict.fromkeys(form.fields, "")
    of = {name: chosen[name] for name in ("principal", "agent", "after")}
    rows = standing.permissions(request.viewer, **of, question=chosen["show"], size=PAGE + 1, now=timezone.now())
    grants = list(dict.fromkeys(row["cursor"] for row in rows))[:PAGE]
    more = any(row["cursor"] not in grants for row in rows)
    context = {
        "form": form,
        "rows": [_permission(row) for row in rows if row["cursor"] in grants and standing.answers(chosen["show"], row)],
        "grants": len(grants),
        "next": grants[-1] if more else "",
    }
    return render(request, "dashboard/permissions.html", context)


def _permission(row: dict[str, Any]) -> dict[str, Any]:
    agent = row["agent"]
    return row | {"agent": f"{agent['iss']}|{agent['sub']}" if agent else ""}


@page
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Two grants side by side, hop by hop."""
    request.viewer.must(WHOLE)
    form, context = CompareForm(request.GET if request.GET.get("other") else None, initial=request.GET.dict()), {}
    if form.is_valid():
        try:
            found = standing.compare(request.viewer, **form.cleaned_data)
            context = {"found": found, "hops": [_compared(hop) for hop in found["hops"]]}
        except NotFound as error:
            form.add_error(None, str(error))
    return render(request, "dashboard/compare.html", {"form": form} | context)


_TERMS = {
    "subject": "Given by", "actor": "To", "authorization_details": "Scope", "limits": "Limits", "audience": "For providers",
    "gates": "Gates", "intent": "Intent", "key": "Bound to key", "granted_at": "Given", "dated": "Says when it was given",
    "not_before": "From", "expires_at": "Until", "max_depth": "Hops below, at most", "redelegate": "May be passed on",
    "revoked_at": "Revoked", "standing": "Standing", "attester": "Attested by",
}  # fmt: skip


def _compared(hop: dict[str, Any]) -> dict[str, Any]:
    """One hop as rows of (what, in the one, in the other, whether they differ); a side without that hop is None."""
    sides = hop["one"], hop["other"]
    rows = [
        (label, *(side and _term(name, side[name]) for side in sides), name in hop["differs"])
        for name, label in _TERMS.items()
        if any(side and side[name] is not None for side in sides)  # what neither says is not worth a line
    ]
    return {
        "position": hop["position"],
        "same": hop["same"],
        "grants": [side and side["grant"] for side in sides],
        "rows": rows,
    }


def _term(name: str, value: Any) -> str:
    if value is None:
        return "not said"
    if name in ("subject", "actor"):
        return f"{value['sub']} ({value['iss']})"
    if name == "authorization_details":
        return (
            "; ".join(
                f"{', '.join(d.get('actions') or ['any action'])} on {', '.join(d.get('resources') or ['anything'])}"
                + (f" at {', '.join(d['providers'])}" if d.get("providers") else "")
                + (f", not {json.dumps(d['deny'], ensure_ascii=False)}" if d.get("deny") else "")
                for d in value
            )
            or "nothing"
        )
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if name == "limits":
        return "; ".join(_limit(each) for each in value) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _limit(limit: dict[str, Any]) -> str:
    amount = (
        "no limit"
        if limit.get("max_minor") is None
        else amount_text(limit["max_minor"], limit.get("currency") or "of no stated currency")
    )
    return f"{limit.get('scope') or 'limit'}: {amount} per {limit.get('interval') or 'once'}, {limit.get('enforcement') or 'hard'}"
