"""One incident: six answers, the desk's buttons, the findings in it, its acts, and what people did."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog.core.errors import AnswerableError, NotFound
from auditlog.core.money.money import amount_text
from auditlog.core.reading import Reading
from auditlog.core.text import visible
from auditlog.detectors import is_sum
from auditlog.incidents import handle
from auditlog.incidents.read import IncidentReading, is_away, steps_of
from auditlog.models import FindingMember, Incident, IncidentStep
from auditlog.projection.generation import generation_of, reading
from auditlog.reads.access import STOP, WHOLE, Viewer
from dashboard.pages.cases.case import OpenCaseForm
from dashboard.parts.access import page
from dashboard.parts.queries import ROW, conceal, is_desk, visible_events
from disputes.adjudicate import adjudicate
from disputes.core.compare import roll_up
from disputes.incident.read import Told, one_incident, verdicts_of

ACTS_A_PAGE = 10  # on a phone each is a card
JUDGED = 100  # acts that are judged for the answer on the page; a case judges all that it contests
FINDINGS_SHOWN = 50


class NoteForm(forms.Form):
    text = forms.CharField(label="Note", max_length=handle.LONGEST, widget=forms.Textarea(attrs={"rows": 2}))


class AssignForm(forms.Form):
    owner = forms.CharField(label="Owner", max_length=150, required=False, help_text="A name; empty: nobody.")


class CloseForm(forms.Form):
    outcome = forms.ChoiceField(label="Outcome", choices=Incident.Outcome.choices)
    reason = forms.CharField(label="Reason", max_length=handle.LONGEST, widget=forms.Textarea(attrs={"rows": 2}))


def _days(text: str) -> int | None:
    return int(text) if text else None


class SnoozeForm(forms.Form):
    days = forms.TypedChoiceField(
        label="Until it grows or becomes worse",
        required=False,
        coerce=_days,
        empty_value=None,
        choices=[("", "however long"), ("1", "a day at most"), ("7", "a week at most"), ("30", "30 days at most")],
    )
    reason = forms.CharField(label="Reason", max_length=handle.LONGEST, required=False)


class SuppressForm(forms.Form):
    days = forms.TypedChoiceField(
        label="For", coerce=_days, choices=[("1", "a day"), ("7", "a week"), ("30", "30 days"), ("90", "90 days")]
    )
    reason = forms.CharField(label="Reason", max_length=handle.LONGEST, widget=forms.Textarea(attrs={"rows": 2}))


class ReopenForm(forms.Form):
    reason = forms.CharField(label="Reason", max_length=handle.LONGEST, widget=forms.Textarea(attrs={"rows": 2}))


class MergeForm(forms.Form):
    other = forms.CharField(label="The other incident", max_length=20, help_text="The older reference stays.")
    reason = forms.CharField(label="Reason", max_length=handle.LONGEST)


class SplitForm(forms.Form):
    findings = forms.TypedMultipleChoiceField(label="Findings", coerce=int, widget=forms.CheckboxSelectMultiple)
    reason = forms.CharField(label="Reason", max_length=handle.LONGEST)

    def __init__(self, *args: Any, ids: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ChoiceField, self.fields["findings"]).choices = [(id, f"#{id}") for id in ids]


FORMS: dict[str, type[forms.Form]] = {
    "assign": AssignForm,
    "note": NoteForm,
    "close": CloseForm,
    "reopen": ReopenForm,
    "snooze": SnoozeForm,
    "suppress": SuppressForm,
    "bring_back": forms.Form,
    "merge": MergeForm,
    "split": SplitForm,
}
DONE = {
    "assign": "The owner was changed.",
    "note": "The note was kept.",
    "close": "The incident was closed.",
    "reopen": "The incident is open again.",
    "snooze": "It left the queue, and comes back when it grows.",
    "suppress": "It left the queue, and comes back when the time is over.",
    "bring_back": "It is in the queue again.",
    "merge": "The two are one incident now.",
    "split": "It is an incident of its own now.",
}


@page
@require_http_methods(["GET", "POST"])
def incident(request: HttpRequest, ref: str) -> HttpResponse:
    with reading(request.viewer.tenant, generation_of(request.viewer.tenant)):
        return _incident(request, ref)


def _incident(request: HttpRequest, ref: str) -> HttpResponse:
    viewer, now = request.viewer, timezone.now()
    row, told = one_incident(viewer, ref)
    if told is None:
        if request.method == "POST":
            messages.error(request, f"{row.ref} was merged into this one meanwhile: what you entered was not kept.")
        return redirect("dashboard:incident", ref=row.merged_into.ref if row.merged_into else "")
    each = told.incident
    ids = [finding.id for finding in each.findings]
    bound: dict[str, forms.Form] = {}
    status = 200
    if request.method == "POST":
        viewer.must("triage")
        do = request.POST.get("do", "")
        if do not in FORMS:
            raise NotFound("there is no such step")
        form = bound[do] = (
            SplitForm(request.POST, ids=ids, auto_id="split_%s")
            if do == "split"
            else FORMS[do](request.POST, auto_id=f"{do}_%s")
        )
        if form.is_valid():
            try:
                after = getattr(handle, do)(viewer, ref, now=now, **form.cleaned_data)
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, DONE[do])
                return HttpResponseRedirect(reverse("dashboard:incident", args=[after.ref]))
        status = 422
    acts, following = acts_of(viewer, each, after=request.GET.get("after", ""))
    context = {
        "incident": each,
        "case": told.case,
        "asked": asked_of(each.findings),
        "awaiting": told.awaiting(now),
        "now": now,
        "is_over": each.undo_until is not None and each.undo_until <= now,
        "next_undo": each.next_undo(now),
        "share": [
            {"who": one, "percent": None if one.share is None else round(100 * one.share)} for one in each.actors[:8]
        ],
        "more_actors": max(0, len(each.actors) - 8),
        "buttons": buttons(viewer, told),
        "findings": each.findings[:FINDINGS_SHOWN],
        "more_findings": each.more_findings + max(0, len(each.findings) - FINDINGS_SHOWN),
        "acts": acts,
        "next": following,
        "log": [_step(step, row) for step in reversed(steps_of(viewer, row))],
        "forms": {
            name: bound.get(name)
            or (
                SplitForm(ids=ids[:FINDINGS_SHOWN], auto_id="split_%s")
                if name == "split"
                else form(auto_id=f"{name}_%s")
            )
            for name, form in FORMS.items()
        },
        "failed": next(iter(bound), ""),
        "may_act": viewer.may("triage"),
        "is_away": is_away(each, now),
        "may_put_away": viewer.may("triage") and not is_desk(viewer) and each.state == "open",
        "case_form": _case_form(viewer, told),
    }
    return render(request, "dashboard/incident.html", context, status=status)


@page
@require_GET
def verdicts(request: HttpRequest, ref: str) -> HttpResponse:
    """What the engine says of its acts: by the case about it, where there is one, else judged now and kept nowhere."""
    viewer = request.viewer
    _, told = one_incident(viewer, ref)
    if told is None:
        raise NotFound(f"no incident {ref[:20]}")
    said = verdicts_of(told.case) if told.case is not None else None
    events = [id for finding in told.incident.findings if not is_sum(finding.rule) for id in finding.events]
    events = list(dict.fromkeys(events or [id for finding in told.incident.findings for id in finding.events]))
    if said is not None:
        found, position = said.verdicts, said.position
    else:
        provider = viewer.provider if is_desk(viewer) else ""
        found, position = adjudicate(viewer.tenant, events[:JUDGED], provider=provider) if events else [], None
    differs = (
        []
        if is_desk(viewer)
        else [(verdict, one) for verdict in found for one in verdict.get("beside") or () if one["reads"] == "differs"]
    )
    context = {
        "incident": told.incident,
        "case": told.case if said is not None else None,
        "rollup": roll_up(found),
        "position": position,
        "judged": len(found),
        "left": max(0, len(events) - JUDGED) if said is None else 0,
        "differs": differs[:5],
        "more_differs": max(0, len(differs) - 5),
    }
    return render(request, "dashboard/incident_verdicts.html", context)


def asked_of(findings: tuple[Reading, ...]) -> str:
    """What was asked for, as the findings compare with it; "" where none does."""
    for finding in findings:
        evidence = finding.evidence
        if names := evidence.get("intended"):
            return ", ".join(map(str, names[:5])) if isinstance(names, list) else str(names)
        for name in ("max_price_minor", "limit_minor"):
            amount = evidence.get(name)
            if isinstance(amount, int) and finding.currency:
                return (
                    f"at most {amount_text(amount, finding.currency)}{' by a limit' if name == 'limit_minor' else ''}"
                )
    return ""


def acts_of(viewer: Viewer, each: IncidentReading, *, after: str) -> tuple[list[dict], str]:
    """A page of its acts in the order of time, and where the next one begins."""
    causes = [finding.id for finding in each.findings if not is_sum(finding.rule)] or [
        finding.id for finding in each.findings
    ]
    members = FindingMember.objects.filter(tenant=viewer.tenant, finding__in=causes, event_id__isnull=False)
    events = visible_events(viewer).filter(leaf_index__in=members.values("leaf_index"))
    if after:
        at, _, leaf = after.partition("_")
        try:
            when, number = datetime.fromisoformat(at), int(leaf[:18])
        except ValueError:
            raise NotFound("there is no such page") from None
        if when.tzinfo is None:
            raise NotFound("there is no such page")
        later = events.filter(occurred_at__gt=when) | events.filter(occurred_at=when, leaf_index__gt=number)
        events = later
    rows = list(events.order_by("occurred_at", "leaf_index").values(*ROW)[: ACTS_A_PAGE + 1])
    shown = conceal(viewer, rows[:ACTS_A_PAGE])
    last = shown[-1] if len(rows) > ACTS_A_PAGE else None
    return shown, f"{last['occurred_at'].isoformat()}_{last['leaf_index']}" if last else ""


def buttons(viewer: Viewer, told: Told) -> list[dict[str, str]]:
    """What the desk can do from here: each with where it leads, or why it cannot be done."""
    each, case = told.incident, told.case
    grants = {finding.grant for finding in each.findings if finding.grant}
    worst = each.findings[0] if each.findings else None
    stop, why = "", ""
    if not viewer.may(STOP):
        why = f"your role ({viewer.role}) stops no agent"
    elif worst is None:
        why = "nothing in it stands"
    elif len(grants) == 1:
        stop = f"kind=grant&key={_quoted(next(iter(grants)))}&finding={worst.id}"
    elif each.actors:
        stop = f"kind=party&key={_quoted(each.actors[0].actor)}&finding={worst.id}"
    else:
        why = "its acts name no grant and no agent"
    words = "Stop the grant" if len(grants) == 1 else "Stop the agent"
    found = [
        {
            "words": words if stop else "Stop",
            "href": f"{reverse('dashboard:stop_it')}?{stop}" if stop else "",
            "why": why,
        }
    ]
    if case is not None:
        found.append({"words": f"Case {case.ref}", "href": reverse("dashboard:case", args=[case.ref]), "why": ""})
        whole = viewer.may(WHOLE)
        packet = reverse("case-packet", args=[case.ref]) if whole else ""
        found.append(
            {
                "words": "Packet",
                "href": packet,
                "why": "" if whole else f"your role ({viewer.role}) takes out no packet",
            }
        )
    else:
        found.append({"words": "Packet", "href": "", "why": "there is no case about it yet"})
    return found


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _case_form(viewer: Viewer, told: Told) -> OpenCaseForm | None:
    """A case is opened from the worst finding that rests on acts."""
    worst = next((finding for finding in told.incident.findings if finding.events and not is_sum(finding.rule)), None)
    worst = worst or next((finding for finding in told.incident.findings if finding.events), None)
    if told.case is not None or worst is None or not viewer.may("case"):
        return None
    return OpenCaseForm(initial={"finding": worst.id, "title": visible(worst.title)[:200]})


def _step(step: IncidentStep, row: Incident) -> dict[str, Any]:
    where = f"to {step.incident.ref}, which is part of this now: " if step.incident_id != row.pk else ""
    return {"at": step.at, "by": step.by, "reason": step.reason, "words": where + words_of(step)}


def words_of(step: IncidentStep) -> str:
    """A step of the log as a sentence. What it says of names and numbers is ours; reasons stand beside it."""
    data, Kind = step.data, IncidentStep.Kind
    ids = ", ".join(f"#{id}" for id in data.get("findings", ())[:8]) or "findings"
    match step.kind:
        case Kind.OPENED:
            return f"opened, with {ids}" if data else "opened"
        case Kind.GREW:
            return f"grew by {ids}"
        case Kind.MERGED:
            return f"became part of {data.get('into', '?')}, which is linked to it and older"
        case Kind.TOOK_IN:
            return f"took in {data.get('incident', '?')}: what came links the two"
        case Kind.SPLIT:
            return (
                f"{ids} became {data['into']}"
                if "into" in data
                else f"split off from {', '.join(data.get('from', ())) or '?'}"
            )
        case Kind.WITHDRAWN:
            return "withdrawn: every finding in it lost its ground"
        case Kind.RESOLVED:
            return "resolved: every finding in it was resolved or judged false"
        case Kind.REOPENED:
            return {
                "grew": f"opened again: it grew after it was closed{', by ' + ids if data.get('findings') else ''}",
                "ground": "opened again: a finding in it stands again",
                "finding": f"opened again: {ids} is open",
            }.get(data.get("why", ""), "opened again")
        case Kind.ASSIGNED:
            return f"given to {data['owner']}" if data.get("owner") else "given to nobody"
        case Kind.CLOSED:
            return f"closed: {dict(Incident.Outcome.choices).get(data.get('outcome', ''), '')}" if data else "closed"
        case Kind.SNOOZED | Kind.SUPPRESSED:
            until = datetime.fromisoformat(data["until"]).strftime("%Y-%m-%d %H:%M UTC") if data.get("until") else ""
            if step.kind == Kind.SUPPRESSED:
                return f"suppressed until {until}"
            return f"snoozed until it grows{', or until ' + until if until else ''}"
        case Kind.RETURNED:
            grew = f"grew by {data['acts']} act{'' if data['acts'] == 1 else 's'}" if data.get("acts") else ""
            worse = f"became {data['severity']}" if data.get("severity") else ""
            new = f"has {ids} new" if data.get("findings") else ""
            taken = f"took in {data['incident']}" if data.get("incident") else ""
            why = ", ".join(filter(None, (grew, new, worse, taken)))
            return f"back in the queue{': it ' + why if why else ''}"
        case _:
            split, merged = data.get("split"), data.get("merge")
            return (
                f"took {', '.join(f'#{id}' for id in split)} out"
                if split
                else f"put it together with {merged}"
                if merged
                else "note"
            )
