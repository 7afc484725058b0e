"""The queue of incidents: what has to be done first, then where the most money is; as a table for others too."""

from datetime import datetime

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from auditlog.core.bills.table import csv_text
from auditlog.core.errors import AnswerableError
from auditlog.core.incident import DESKS
from auditlog.core.text import visible
from auditlog.incidents import handle
from auditlog.incidents.read import is_away
from auditlog.models import Incident
from auditlog.reads.access import Viewer
from dashboard.parts.access import page
from dashboard.parts.forms import Filters, Instant
from dashboard.parts.queries import is_desk
from disputes.incident.read import PLACE, Told, is_place, list_incidents

PAGE = 25
MOST_IN_A_FILE = 1_000
MOST_AT_ONCE = 100
_STATES = [
    ("away", "snoozed or suppressed"),
    ("unclosed", "open or resolved"),
    *((value, value) for value in Incident.State.values if value != "merged"),
]


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
        state = {"": "open", "any": "", "away": "open"}.get(data["state"], data["state"])
        after = data["after"] if is_place(data["after"], order=order) else ""
        return {
            "state": state,
            "away": {"": "no", "away": "yes"}.get(data["state"], ""),
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
    shown = [
        {
            "told": told,
            "incident": told.incident,
            "awaiting": told.awaiting(now),
            "is_away": is_away(told.incident, now),
        }
        for told in rows
    ]
    context = {
        "form": form,
        "rows": shown,
        "next": following,
        "now": now,
        "may_act": request.viewer.may("triage"),
        "may_put_away": request.viewer.may("triage") and not is_desk(request.viewer),
        "outcomes": Incident.Outcome.choices,
    }
    return render(request, "dashboard/incidents.html", context)


@page
@require_POST
def incidents_many(request: HttpRequest) -> HttpResponse:
    """One action on all that were chosen. Each is a step of its own, and what may not be done is said of each."""
    viewer, now = request.viewer, timezone.now()
    viewer.must("triage")
    form = ManyForm(request.POST)
    refs = list(dict.fromkeys(request.POST.getlist("ref")))
    query = request.POST.get("query", "")
    back = reverse("dashboard:incidents") + (f"?{query}" if query else "")
    if not form.is_valid():
        messages.error(request, "; ".join(error for errors in form.errors.values() for error in errors))
    elif not 1 <= len(refs) <= MOST_AT_ONCE:
        messages.error(request, f"Choose 1 to {MOST_AT_ONCE} incidents; {len(refs)} are chosen.")
    else:
        done, refused = 0, []
        for ref in refs:
            try:
                _act(viewer, ref, form.cleaned_data, now=now)
                done += 1
            except AnswerableError as error:
                refused.append(f"{visible(ref[:20])}: {error}")
        if done:
            messages.success(
                request, f"{done} {'incident' if done == 1 else 'incidents'} {_DONE[form.cleaned_data['do']]}."
            )
        for each in refused[:10]:
            messages.error(request, each)
        if len(refused) > 10:
            messages.error(request, f"and {len(refused) - 10} more were refused")
    return HttpResponseRedirect(back)


class ManyForm(forms.Form):
    do = forms.ChoiceField(choices=[(each, each) for each in ("mine", "snooze", "suppress", "close")])
    outcome = forms.ChoiceField(choices=[("", ""), *Incident.Outcome.choices], required=False)
    reason = forms.CharField(max_length=handle.LONGEST, required=False)


_DONE = {
    "mine": "assigned to you",
    "snooze": "snoozed until they grow",
    "suppress": "suppressed for a week",
    "close": "closed",
}


def _act(viewer: Viewer, ref: str, asked: dict, *, now: datetime) -> None:
    if asked["do"] == "mine":
        handle.assign(viewer, ref, owner=viewer.name, now=now)
    elif asked["do"] == "snooze":
        handle.snooze(viewer, ref, reason=asked["reason"], now=now)
    elif asked["do"] == "suppress":
        handle.suppress(viewer, ref, days=7, reason=asked["reason"], now=now)
    else:
        handle.close(viewer, ref, outcome=asked["outcome"], reason=asked["reason"], now=now)


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
