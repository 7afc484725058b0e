"""Complaints from outside: the public form, and what people here make of what came in."""

from datetime import UTC, datetime, time

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from auditlog.core.errors import AnswerableError, ConfigurationError, NotFound, TooManyRequests
from dashboard.parts.access import error_page, page
from dashboard.parts.queries import PAGE
from disputes.models import Case, Complaint
from disputes.outside.complain import (
    complain,
    complaints_of,
    decline,
    doors_of,
    find_door,
    knock,
    make_door,
    open_from,
    shut_door,
    suggested,
)
from disputes.queries import cases_about


class ComplaintForm(forms.Form):
    """What anybody with the link is asked."""

    reporter = forms.CharField(
        label="Who you are", max_length=200, help_text="Your name, or that of your organisation."
    )
    contact = forms.CharField(label="How to reach you", required=False, max_length=200)
    subject = forms.CharField(
        label="What it is about",
        max_length=300,
        help_text="A domain name, the number of a charge or order, an address.",
    )
    about = forms.CharField(label="In a few words", max_length=200)
    said = forms.CharField(
        label="What happened", required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 8})
    )


@never_cache
@require_http_methods(["GET", "POST"])
def complain_here(request: HttpRequest, secret: str) -> HttpResponse:
    """The public form: no account, only the link; so often."""
    form, status, taken = ComplaintForm(), 200, None
    try:
        door = find_door(secret, now=timezone.now())
        if request.method == "POST":
            form, status = ComplaintForm(request.POST), 422
            if form.is_valid():
                knock(door, request.META.get("REMOTE_ADDR", ""))
                taken, status = complain(door, now=timezone.now(), **form.cleaned_data), 200
    except NotFound as error:
        return error_page(request, 404, "This link is not good", str(error))
    except TooManyRequests as error:
        response = error_page(request, 429, "Too many at once", str(error))
        response["Retry-After"] = str(error.retry_after)
        return response
    except AnswerableError as error:
        form.add_error(None, str(error))
    return render(request, "dashboard/complain.html", {"form": form, "door": door, "taken": taken}, status=status)


@page
@require_http_methods(["GET"])
def complaints(request: HttpRequest) -> HttpResponse:
    return _listed(request)


def _listed(request: HttpRequest, *, made: str = "") -> HttpResponse:
    request.viewer.must("case")
    state = request.GET.get("state", Complaint.State.WAITING)
    rows = complaints_of(request.viewer).order_by("-id")
    rows = rows.filter(state=state) if state in Complaint.State.values else rows
    shown = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    listed = []
    for one in shown:
        acts = suggested(one) if one.state == Complaint.State.WAITING else []
        listed.append((one, acts, cases_about(request.viewer, [str(act.event_id) for act in acts]) if acts else []))
    context = {
        "page": shown, "listed": listed, "state": state, "states": Complaint.State.choices, "kinds": Case.Kind.choices,
        "doors": doors_of(request.viewer)[:PAGE], "made": request.build_absolute_uri(f"/complain/{made}/") if made else "",
        "made_api": request.build_absolute_uri(f"/api/v1/complaints/{made}") if made else "",
    }  # fmt: skip
    response = render(request, "dashboard/complaints.html", context)
    if made:
        response["Cache-Control"] = "private, no-store"
    return response


@page
@require_POST
def complaint_doors(request: HttpRequest) -> HttpResponse:
    """Make a door, whose link is shown this once, or shut one."""
    request.viewer.must("case")
    now = timezone.now()
    if shut := request.POST.get("shut", ""):
        shut_door(request.viewer, int(shut) if shut.isdecimal() and len(shut) < 19 else 0, now=now)
        messages.success(request, "The door was shut: its link leads nowhere.")
        return redirect("dashboard:complaints")
    try:
        ends_at = datetime.combine(
            datetime.strptime(request.POST.get("until", ""), "%Y-%m-%d").date(), time(23, 59, 59), UTC
        )
        return _listed(
            request, made=make_door(request.viewer, name=request.POST.get("name", ""), ends_at=ends_at, now=now)
        )
    except ValueError:
        messages.error(request, "Until when: expected a date, such as 2027-01-31.")
    except ConfigurationError as error:
        messages.error(request, str(error))
    return redirect("dashboard:complaints")


@page
@require_POST
def complaint(request: HttpRequest, number: int) -> HttpResponse:
    """Make a case of it, or decline."""
    request.viewer.must("case")
    try:
        if request.POST.get("decline"):
            decline(request.viewer, number, why=request.POST.get("why", ""), now=timezone.now())
            messages.success(request, f"Complaint {number} was declined.")
            return redirect("dashboard:complaints")
        events = [one for one in (*request.POST.getlist("act"), *request.POST.get("event", "").split()) if one]
        case = open_from(
            request.viewer, number, event_ids=events, kind=request.POST.get("kind", ""), now=timezone.now()
        )
    except NotFound:
        raise
    except (AnswerableError, ValueError) as error:
        messages.error(request, str(error))
        return redirect("dashboard:complaints")
    messages.success(request, f"Case {case.ref} was opened from complaint {number}.")
    return redirect("dashboard:case", ref=case.ref)
