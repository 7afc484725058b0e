"""The queue of incidents: what has to be done first, then where the most money is; as a table for others too."""

from datetime import datetime

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.core.bills.table import csv_text
from auditlog.core.incident import DESKS
from auditlog.core.text import visible
from auditlog.models import Incident
from dashboard.parts.access import page
from dashboard.parts.forms import Filters, Instant
from dashboard.parts.queries import is_desk
from disputes.incident.read import PLACE, Told, is_place, list_incidents

PAGE = 25
MOST_IN_A_FILE = 1_000
_STATES = [("unclosed", "open or resolved"), *((value, value) for value in Incident.State.values if value != "merged")]


class IncidentFilters(Filters):
    state = forms.ChoiceField(required=False, label="State", choices=[("", "open"), *_STATES, ("any", "any")])
    desk = forms.ChoiceField(required=False, label="Desk", choices=[("", "any"), *((desk, desk) for desk in DESKS)])
    owner = forms.ChoiceField(
        required=False, label="Owner", choices=[("", "anybody"), ("me", "me"), ("none", "nobody")]
    )
    due_before = Instant(label="Due before")
    principal = forms.CharField(
        required=False, max_length=700, label="Principal", widget=forms.TextInput(attrs={"placeholder": "iss|sub"})
    )
    order = forms.ChoiceField(
        required=False, label="Order", choices=[("", "first due, then most money"), ("newest", "newest first")]
    )
    after = forms.RegexField(PLACE, required=False, max_length=120, widget=forms.HiddenInput)

    def asked(self, *, newest: bool) -> dict:
        """What the list is asked by. A place of one order means nothing in the other."""
        data = self.cleaned_data
        order = "newest" if newest or data["order"] == "newest" else "due"
        state = {"": "open", "any": ""}.get(data["state"], data["state"])
        after = data["after"] if is_place(data["after"], order=order) else ""
        return {
            "state": state,
            "desk": data["desk"],
            "owner": data["owner"],
            "due_before": data["due_before"],
            "principal": data["principal"],
            "order": order,
            "after": after,
        }


@page
@require_GET
def incidents(request: HttpRequest) -> HttpResponse:
    form, now = IncidentFilters(request.GET), timezone.now()
    rows: list[Told] = []
    following = ""
    if form.is_valid():
        asked = form.asked(newest=is_desk(request.viewer))
        rows, following = list_incidents(request.viewer, now=now, limit=PAGE, **asked)
    shown = [{"told": told, "incident": told.incident, "awaiting": told.awaiting(now)} for told in rows]
    return render(request, "dashboard/incidents.html", {"form": form, "rows": shown, "next": following, "now": now})


@page
@require_GET
def incidents_csv(request: HttpRequest) -> HttpResponse:
    """The same rows as a table, as many as fit into one file."""
    form, now = IncidentFilters(request.GET), timezone.now()
    cells: list[tuple[object, ...]] = []
    if form.is_valid():
        asked = form.asked(newest=is_desk(request.viewer)) | {"after": ""}
        while len(cells) < MOST_IN_A_FILE:
            rows, following = list_incidents(request.viewer, now=now, limit=200, **asked)
            cells += (_cells(told, now) for told in rows)
            if not following:
                break
            asked["after"] = following
    return HttpResponse(
        csv_text(_CELLS, cells),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="incidents.csv"'},
    )


_CELLS = (
    "incident state severity title principal agents findings acts currency spent_minor over_minor undo_until awaiting"
    " due case owner opened_at"
).split()


def _cells(told: Told, now: datetime) -> tuple[object, ...]:
    each, awaiting = told.incident, told.awaiting(now)
    money = each.money
    return (
        each.ref,
        each.state,
        each.severity,
        visible(each.title),
        visible(each.principal),
        "; ".join(visible(one.actor) for one in each.actors),
        each.total,
        each.events_total,
        money.currency or "",
        "unknown" if money.spent_minor is None else money.spent_minor,
        "unknown" if money.over_minor is None else money.over_minor,
        each.undo_until or "not known",
        awaiting["who"] or "",
        awaiting["by"] or "",
        told.case.ref if told.case else "",
        each.owner,
        each.opened_at,
    )
