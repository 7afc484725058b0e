"""Findings: the queue, one finding with what people did about it, and triage."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog.core.errors import AnswerableError, NotFound
from auditlog.core.reading import Reading
from auditlog.database.policies import RULES, policy_of
from auditlog.detection.findings.triage import triage
from auditlog.detectors import detectors_of, runbook_of
from auditlog.incidents.read import incidents_of
from auditlog.models import Finding, Triage
from auditlog.reads.access import Viewer
from auditlog.reads.read_findings import read_findings, title_for_every_reader
from dashboard.pages.cases.case import OpenCaseForm
from dashboard.pages.events import pretty
from dashboard.parts.access import page
from dashboard.parts.forms import Filters
from dashboard.parts.queries import PAGE, RANK, SEVERITIES, Page, events_by_id, guesses, is_desk, visible_findings

ABOUT_NAMES = ("squatting.bulk_registration", "squatting.campaign", "squatting.lookalike")


class FindingFilters(Filters):
    rule = forms.CharField(required=False, max_length=60, label="Rule")
    severity = forms.ChoiceField(
        required=False, label="Severity", choices=[("", "any"), *((name, name) for name in SEVERITIES)]
    )
    state = forms.ChoiceField(
        required=False, label="State", initial="open",
        choices=[("", "open"), *((value, label) for value, label in Finding.State.choices if value != "open"), ("any", "any")],
    )  # fmt: skip
    principal = forms.CharField(
        required=False, max_length=700, label="Principal", widget=forms.TextInput(attrs={"placeholder": "iss|sub"})
    )
    provider = forms.CharField(required=False, max_length=120, label="Provider")
    sort = forms.ChoiceField(required=False, label="Order", choices=[("", "worst first"), ("newest", "newest first")])
    after = forms.RegexField(r"^\d+(\.\d+)?\Z", required=False, max_length=30, widget=forms.HiddenInput)

    def __init__(self, *args, rules: list[str] = (), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["rule"] = forms.ChoiceField(
            required=False, label="Rule", choices=[("", "any"), *((rule, rule) for rule in rules)]
        )
        self.order_fields(("severity", "rule", "state", "principal", "provider", "sort"))

    def clean(self):
        data = super().clean()
        # "newest" counts by id alone, "worst" by rank and id: one list's place means nothing in the other.
        if data.get("after") and ("." in data["after"]) == (data.get("sort") == "newest"):
            data["after"] = ""
        return data

    def chosen(self) -> dict[str, str]:
        chosen = super().chosen()
        if chosen.get("state") == "any":
            del chosen["state"]
        elif "state" not in chosen:
            chosen["state"] = "open"
        return chosen


class TriageForm(forms.Form):
    state = forms.ChoiceField(
        label="New state", choices=[(value, label) for value, label in Finding.State.choices if value != "withdrawn"],
        error_messages={"required": "Choose a state.", "invalid_choice": "There is no such state."},
    )  # fmt: skip
    reason = forms.CharField(
        label="Reason", max_length=2000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept for ever with your name and the time.",
        error_messages={"required": "Write why: the reason is kept with the decision."},
    )  # fmt: skip
    label = forms.ChoiceField(
        label="It was", required=False, help_text="For the precision of the rule; it changes no threshold.",
        choices=[("", "–"), ("true", "true"), ("false", "false"), ("defensive", "defensive: kept for one's own mark")],
    )  # fmt: skip

    def __init__(self, *args: Any, may_label: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_label:
            del self.fields["label"]


def list_findings(
    viewer: Viewer, filters: Mapping[str, str], *, sort: str = "severity", after: str = "", limit: int = PAGE
) -> Page:
    """The queue. `after` is `<rank>.<id>` (by severity) or `<id>` (newest first) of the last row of the page before."""
    if guesses(viewer, filters):
        return Page([])
    findings = visible_findings(viewer).filter(**filters).annotate(rank=RANK)
    if sort == "newest":
        order = ("-id",)
        if after:
            findings = findings.filter(id__lt=int(after))
    else:
        order = ("-rank", "-id")
        if after:
            rank, _, last = after.partition(".")
            findings = findings.filter(Q(rank__lt=int(rank)) | Q(rank=int(rank), id__lt=int(last)))
    rows = list(findings.order_by(*order)[: limit + 1])
    if len(rows) <= limit:
        return Page(read_findings(viewer, rows))
    last = rows[limit - 1]
    return Page(read_findings(viewer, rows[:limit]), str(last.pk) if sort == "newest" else f"{last.rank}.{last.pk}")


def finding_counts(viewer: Viewer, *, state: str = "open") -> list[dict]:
    """Findings of one state by rule and severity."""
    rows = visible_findings(viewer).filter(state=state).values("rule", "severity").annotate(count=Count("id"))
    return list(rows.order_by("rule", "severity"))


def open_findings(viewer: Viewer) -> int:
    return visible_findings(viewer).filter(state=Finding.State.OPEN).count()


def finding_view(viewer: Viewer, finding_id: int) -> dict[str, Any]:
    """A finding, its events in leaf order (those the viewer may see), and what people did. Raises NotFound."""
    finding = visible_findings(viewer).filter(pk=finding_id).first()
    if finding is None:
        raise NotFound(f"no finding {finding_id}")
    related = visible_findings(viewer).filter(principal=finding.principal).exclude(pk=finding.pk).order_by("-id")[:10]
    [reading] = read_findings(viewer, [finding])
    rows = events_by_id(viewer, map(UUID, reading.events[:200]))
    return {
        "finding": reading,
        "events": sorted(rows.values(), key=lambda row: row["leaf_index"]),
        "more": reading.total - len(rows),
        "triage": [_step(viewer, step) for step in finding.triage.all()],
        "related": read_findings(viewer, list(related)) if finding.principal else [],
        "incident": incidents_of(viewer, [finding.pk]).get(finding.pk, ""),
        "case_title": title_for_every_reader(finding)[:200],
    }


def _step(viewer: Viewer, step: Triage) -> dict[str, Any]:
    """What a person did with a finding. An abuse desk reads the reasons that it wrote itself: others may have written
    of what they read, which is more.
    """
    reads = not is_desk(viewer) or step.desk == viewer.provider
    return {
        "at": step.at,
        "by": step.by,
        "from_state": step.from_state,
        "to_state": step.to_state,
        "reason": step.reason if reads else None,
    }


@page
@require_GET
def findings(request: HttpRequest) -> HttpResponse:
    rules = sorted(visible_findings(request.viewer).order_by().values_list("rule", flat=True).distinct())
    form = FindingFilters(request.GET, rules=rules)
    listed = Page([])
    if form.is_valid():
        data = form.cleaned_data
        listed = list_findings(request.viewer, form.chosen(), sort=data["sort"], after=data["after"])
    return render(request, "dashboard/findings.html", {"form": form, "page": listed, "anything": bool(rules)})


@page
@require_http_methods(["GET", "POST"])
def finding(request: HttpRequest, finding_id: int) -> HttpResponse:
    view = finding_view(request.viewer, finding_id)
    labels = not is_desk(request.viewer)
    form = TriageForm(initial={"state": _next_state(view["finding"])}, may_label=labels)
    status = 200
    if request.method == "POST":
        request.viewer.must("triage")
        form = TriageForm(request.POST, may_label=labels)
        if form.is_valid():
            try:
                triage(request.viewer, finding_id, now=timezone.now(), **form.cleaned_data)
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(
                    request, f"Finding #{finding_id} is now {form.cleaned_data['state'].replace('_', ' ')}."
                )
                return HttpResponseRedirect(request.path)
        status = 422
    context = view | {
        "form": form,
        "may_triage": request.viewer.may("triage"),
        "evidence": pretty(view["finding"].evidence) if view["finding"].evidence else "",
        "about": _about(view["finding"].rule),
        "names_page": view["finding"].rule in ABOUT_NAMES,
        "runbook": runbook_of(view["finding"], timezone.now()),
        "ours": policy_of(request.viewer.tenant, view["finding"].rule)
        if labels and view["finding"].rule in RULES
        else None,
        "case_form": OpenCaseForm(initial={"finding": finding_id, "title": view["case_title"]})
        if request.viewer.may("case")
        else None,
    }
    return render(request, "dashboard/finding.html", context, status=status)


def _next_state(finding: Reading) -> str:
    return "acknowledged" if finding.state == "open" else "resolved"


def _about(rule: str) -> Any:
    """The detector of a rule, for its words; None when this installation no longer has it."""
    return next(iter(detectors_of(rule)), None)
