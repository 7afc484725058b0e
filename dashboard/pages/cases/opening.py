"""Open a case about named acts, or about a finding: the first case about the same acts is offered before a second."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from auditlog.core.errors import AnswerableError, ConfigurationError
from dashboard.parts.access import page
from disputes.models import Case
from disputes.open_case import contested_acts, open_case
from disputes.queries import cases_about, find_finding

MOST_SHOWN = 25  # acts whose contested part can be given on the page


class OpeningForm(forms.Form):
    kind = forms.ChoiceField(label="About", choices=Case.Kind.choices)
    title = forms.CharField(label="Title", max_length=200)
    complaint = forms.CharField(
        label="Complaint", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 4})
    )


@page
@require_http_methods(["GET", "POST"])
def open_it(request: HttpRequest) -> HttpResponse:
    """`event` (any number) or `finding` says what the case is about."""
    request.viewer.must("case")
    asked = request.POST if request.method == "POST" else request.GET
    events = [_event(one) for one in asked.getlist("event") if one]
    number = asked.get("finding", "")
    finding = find_finding(request.viewer, int(number)) if number.isdecimal() and len(number) < 19 else None
    acts = contested_acts(request.viewer, events, finding)
    similar = cases_about(request.viewer, [act.event_id for act in acts])
    form, status = OpeningForm(request.POST or None, initial={"title": finding.title if finding else ""}), 200
    if request.method == "POST":
        status = 422
        if similar and not request.POST.get("another"):
            form.add_error(None, "There is a case about these acts. Go on with that one, or say that you want another.")
        elif form.is_valid():
            try:
                named = [] if finding else [act.event_id for act in acts]
                case = open_case(
                    request.viewer, event_ids=named, finding=finding, parts=_parts(request), now=timezone.now(),
                    **form.cleaned_data,
                )  # fmt: skip
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"Case {case.ref} was opened.")
                return redirect("dashboard:case", ref=case.ref)
    shown = {
        "form": form, "acts": acts[:MOST_SHOWN], "more": max(0, len(acts) - MOST_SHOWN), "similar": similar, "finding": finding,
        "events": events,
    }  # fmt: skip
    return render(request, "dashboard/case_opening.html", shown, status=status)


def _event(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ConfigurationError(f"expected the id of an event, found {text[:40]!r}") from None


def _parts(request: HttpRequest) -> dict[str, int]:
    """Of each act how much is contested, in minor units, where that was said."""
    found = {}
    for name, value in request.POST.items():
        if name.startswith("part:") and value.strip():
            if not value.strip().isdecimal() or len(value.strip()) > 18:
                raise ConfigurationError(f"a contested part is a whole number of minor units, found {value[:20]!r}")
            found[_event(name[5:])] = int(value)
    return found
