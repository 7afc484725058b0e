"""Cases: the list, opening one, and one with its acts and moves."""

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from auditlog.core.errors import AnswerableError, ConfigurationError, NotPermitted
from auditlog.reads.access import WHOLE
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE
from disputes.core.status import AWAITING, STATES
from disputes.decide import move
from disputes.models import Case, Proposal
from disputes.open_case import open_case
from disputes.queries import case_page, find_finding, list_cases


class OpenCaseForm(forms.Form):
    finding = forms.IntegerField(widget=forms.HiddenInput)
    kind = forms.ChoiceField(label="About", choices=Case.Kind.choices)
    title = forms.CharField(label="Title", max_length=200)
    complaint = forms.CharField(
        label="Complaint", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 2})
    )


class MoveForm(forms.Form):
    """One step of a case. The choices are the steps that this person may take now."""

    to = forms.ChoiceField(label="Step")
    outcome = forms.ChoiceField(
        label="Outcome",
        required=False,
        choices=[("", "–"), *Proposal.Outcome.choices],
        help_text="When you propose one.",
    )
    reason = forms.CharField(
        label="Reason", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept for ever with your name; most steps need one.",
    )  # fmt: skip
    merged_into = forms.CharField(label="Merged into", required=False, max_length=20)

    def __init__(self, *args, moves, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"].choices = [(move.to, f"{move.verb}: {move.to.replace('_', ' ')}") for move in moves]
        steps = {move.to for move in moves}
        if "proposed" not in steps:
            del self.fields["outcome"]
        if "merged" not in steps:
            del self.fields["merged_into"]


@page
@require_http_methods(["GET", "POST"])
def cases(request: HttpRequest) -> HttpResponse:
    """The list; a POST opens a case about a finding."""
    if request.method == "POST":
        return _open_case(request)
    state, awaiting = request.GET.get("state", ""), request.GET.get("awaiting", "")
    rows, following = list_cases(
        request.viewer, state=state, awaiting=awaiting, before=request.GET.get("before", ""), limit=PAGE
    )
    context = {
        "rows": rows, "next": following, "state": state, "awaiting": awaiting, "states": STATES,
        "awaited": sorted(set(AWAITING.values())),
    }  # fmt: skip
    return render(request, "dashboard/cases.html", context)


def _open_case(request: HttpRequest) -> HttpResponse:
    request.viewer.must("case")
    form = OpenCaseForm(request.POST)
    if not form.is_valid():
        wrong = "; ".join(f"{name}: {' '.join(errors)}" for name, errors in form.errors.items())
        raise ConfigurationError(f"the case was not opened: {wrong}")
    data = form.cleaned_data
    finding = find_finding(request.viewer, data.pop("finding"))
    opened = open_case(request.viewer, finding=finding, now=timezone.now(), **data)
    messages.success(request, f"Case {opened.ref} was opened.")
    return redirect("dashboard:case", ref=opened.ref)


ACTS_A_PAGE = 25


@page
@require_http_methods(["GET", "POST"])
def case(request: HttpRequest, ref: str) -> HttpResponse:
    shown = case_page(request.viewer, ref, now=timezone.now())
    allowed = [move for move in shown.moves if move.allowed]
    form, status = MoveForm(moves=allowed), 200
    if request.method == "POST":
        form = MoveForm(request.POST, moves=allowed)
        status = 422
        if form.is_valid():
            try:
                move(
                    shown.case,
                    form.cleaned_data.pop("to"),
                    viewer=request.viewer,
                    now=timezone.now(),
                    **form.cleaned_data,
                )
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"Case {ref} moved on.")
                return HttpResponseRedirect(request.path)
        elif not allowed:
            raise NotPermitted("your role may take no step here")
    verdict_of = shown.verdict_of
    acts = Paginator(shown.acts, ACTS_A_PAGE).get_page(request.GET.get("acts"))
    context = {
        "may_take_out": request.viewer.may(WHOLE),
        "page": shown, "case": shown.case, "form": form, "allowed": allowed,
        "refused": [one for one in shown.moves if not one.allowed],
        "acts": acts, "verdicts": [(act, verdict_of.get(str(act.event_id))) for act in acts],
    }  # fmt: skip
    return render(request, "dashboard/case.html", context, status=status)
