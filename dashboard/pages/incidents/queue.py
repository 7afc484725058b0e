"""The queue of incidents: what has to be done first, then where the most money is; as a table for others too."""

import csv
import io
from datetime import datetime

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.core.incident import DESKS
from auditlog.models import Incident
from dashboard.parts.access import page
from dashboard.parts.forms import Filters, Instant
from dashboard.parts.queries import is_desk
from disputes.incident.read import Told, list_incidents

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
    after = forms.RegexField(
        r"^(\d{1,18}|[0-9T:.+-]{19,40}_\d{1,38}_-?\d_\d{1,18})\Z",
        required=False,
        max_length=120,
        widget=forms.HiddenInput,
    )

    def clean(self):
        data = super().clean()
        if (after := data.get("after")) and "_" in after:
            try:
                datetime.fromisoformat(after.partition("_")[0])
            except ValueError:
                data["after"] = ""
        return data

    def asked(self, *, newest: bool) -> dict:
        """What the list is asked by. A place of one order means nothing in the other."""
        data = self.cleaned_data
        order = "newest" if newest or data["order"] == "newest" else "due"
        state = {"": "open", "any": ""}.get(data["state"], data["state"])
        after = data["after"] if ("_" in data["after"]) == (order == "due") else ""
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
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(_CELLS)
    if form.is_valid():
        asked = form.asked(newest=is_desk(request.viewer)) | {"after": ""}
        written = 0
        while written < MOST_IN_A_FILE:
            rows, following = list_incidents(request.viewer, now=now, limit=200, **asked)
            table.writerows(_cells(told, now) for told in rows)
            written += len(rows)
            if not following:
                break
            asked["after"] = following
    return HttpResponse(
        out.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="incidents.csv"'},
    )


_CELLS = (
    "incident state severity title principal agents findings acts currency spent_minor over_minor undo_until awaiting"
    " due case owner opened_at"
).split()


def _cells(told: Told, now: datetime) -> list[str]:
    each, awaiting = told.incident, told.awaiting(now)
    money = each.money
    return [
        _safe(str(cell))
        for cell in (
            each.ref,
            each.state,
            each.severity,
            each.title,
            each.principal,
            "; ".join(one.actor for one in each.actors),
            len(each.findings) + each.more_findings,
            each.events_total,
            money.currency or "",
            _or_unknown(money.spent_minor),
            _or_unknown(money.over_minor),
            each.undo_until.isoformat() if each.undo_until else "not known",
            awaiting["who"] or "",
            awaiting["by"].isoformat() if awaiting["by"] else "",
            told.case.ref if told.case else "",
            each.owner,
            each.opened_at.isoformat(),
        )
    ]


def _or_unknown(amount: int | None) -> str:
    return "unknown" if amount is None else str(amount)


def _safe(cell: str) -> str:
    """What a sender wrote is no formula, whichever program opens the table."""
    return f"'{cell}" if cell[:1] in "=+-@\t\r" and cell else cell
