"""Stops: press one with its reach before you, follow what became of it, lift it by two; receivers and response
policies.
"""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from auditlog.core.errors import AnswerableError, NotFound
from auditlog.core.text import number
from auditlog.core.wire.signal import KINDS, SENT
from auditlog.database import clock
from auditlog.detectors import DETECTORS
from auditlog.models import Receiver, ResponsePolicy, Signal, Stop
from auditlog.reads.access import STOP, WHOLE, Viewer
from auditlog.response import policy as policies
from auditlog.response import receivers as configured
from auditlog.response.reach import became, reach_of, subject_of, was_effective
from auditlog.response.stop import in_force, keep_in_force, lift, press, resend, send_test, stop_of
from auditlog.sources.sealed import seal
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE, visible_findings

OLD = timedelta(days=90)  # since a channel was last tested: then say so


class PressForm(forms.Form):
    kind = forms.ChoiceField(choices=[(kind, kind) for kind in KINDS], widget=forms.HiddenInput)
    key = forms.CharField(max_length=700, widget=forms.HiddenInput)
    finding = forms.IntegerField(required=False, widget=forms.HiddenInput)
    reason = forms.CharField(
        label="Reason", max_length=2000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Receivers read it, and it is kept for ever with your name and the time.",
        error_messages={"required": "Write why: others judge it by that later."},
    )  # fmt: skip
    is_drill = forms.BooleanField(
        required=False, label="Drill", help_text="Each receiver is sent a test, and nobody is stopped."
    )


class LiftForm(forms.Form):
    reason = forms.CharField(label="Reason", max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))


class ReceiverForm(forms.Form):
    name = forms.CharField(label="Name", max_length=48)
    kind = forms.ChoiceField(label="How it is told", choices=Receiver.Kind.choices)
    url = forms.CharField(
        label="Address",
        max_length=500,
        required=False,
        help_text="By https. A receiver that polls has none; Stripe and Cloudflare have their own.",
    )
    provider = forms.CharField(
        label="Provider that it can stop", max_length=120, required=False, help_text="Empty: any."
    )
    issuer = forms.CharField(
        label="Issuer whose subjects it can stop", max_length=300, required=False, help_text="Empty: anyone's."
    )
    audience = forms.CharField(label="Audience of its events", max_length=300, required=False)
    account = forms.CharField(label="Account at the provider", max_length=120, required=False)
    secret_env = forms.CharField(
        label="Name of its secret", max_length=111, required=False, help_text="Capital letters, digits and underscores."
    )
    secret = forms.CharField(
        label="Secret", max_length=4000, required=False, widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Entered once, sealed and never shown. Empty: it is set already, here or in the environment.",
    )  # fmt: skip
    events = forms.MultipleChoiceField(
        label="Events", required=False, choices=[(event, event.rpartition("/")[2]) for event in SENT], widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: all of them.",
    )  # fmt: skip
    allow_private = forms.BooleanField(label="The address may be a private one", required=False)


class PolicyForm(forms.Form):
    name = forms.CharField(label="Name", max_length=48)
    rule = forms.ChoiceField(
        label="Rule", choices=lambda: [(rule, rule) for rule in sorted({d.rule for d in DETECTORS})]
    )
    severity = forms.ChoiceField(
        label="At least", choices=[(level, level) for level in reversed(policies.SEVERITIES)], initial="high"
    )
    minimum_minor = forms.IntegerField(label="Money at risk at least, in minor units", required=False, min_value=0)
    currency = forms.CharField(label="Currency", max_length=12, required=False)
    subject = forms.ChoiceField(label="Stops", choices=[("grant", "the grant"), ("party", "the agent")])


@page
@require_GET
def stops(request: HttpRequest) -> HttpResponse:
    request.viewer.must(WHOLE)
    found = Stop.objects.filter(tenant=request.viewer.tenant).order_by("-number")
    if (before := number(request.GET.get("before", ""), digits=9)) is not None:
        found = found.filter(number__lt=before)
    rows = list(found[: PAGE + 1])
    dead = (
        Signal.objects.filter(tenant=request.viewer.tenant, state=Signal.State.DEAD)
        .select_related("receiver", "stop")
        .order_by("-id")
    )
    return render(request, "dashboard/stops.html", {
        "rows": rows[:PAGE], "more": rows[PAGE - 1].number if len(rows) > PAGE else None, "dead": dead[:50], "may_stop": request.viewer.may(STOP),
    })  # fmt: skip


@page
@require_http_methods(["GET", "POST"])
def stop_it(request: HttpRequest) -> HttpResponse:
    """The stop before it is pressed: what it reaches and what it does not."""
    viewer: Viewer = request.viewer
    viewer.must(STOP)
    given = request.POST if request.method == "POST" else request.GET
    kind, key = given.get("kind", ""), given.get("key", "")
    subject = subject_of(viewer, kind, key)
    finding = visible_findings(viewer).filter(pk=number(given.get("finding", ""))).first()
    form = PressForm(initial={"kind": kind, "key": key, "finding": finding.pk if finding else None})
    status = 200
    if request.method == "POST":
        form = PressForm(request.POST)
        if form.is_valid():
            said = form.cleaned_data
            try:
                made = press(
                    viewer,
                    kind,
                    key,
                    reason=said["reason"],
                    is_drill=said["is_drill"],
                    finding=finding,
                    now=clock.now(),
                    address=_address(request),
                )
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"{made.ref}: signals are on their way.")
                return HttpResponseRedirect(reverse("dashboard:stop", args=[made.ref]))
        status = 422
    reach = reach_of(viewer, subject, now=clock.now())
    context = {
        "form": form,
        "reach": reach,
        "kind": kind,
        "key": key,
        "finding": finding,
        "before": in_force(viewer.tenant, kind, key),
        "old": clock.now() - OLD,
    }
    return render(request, "dashboard/stop_it.html", context, status=status)


@page
@require_http_methods(["GET", "POST"])
def stop(request: HttpRequest, ref: str) -> HttpResponse:
    viewer: Viewer = request.viewer
    found = stop_of(viewer, ref)
    form, status = LiftForm(), 200
    if request.method == "POST":
        form = LiftForm(request.POST)
        try:
            if "keep" in request.POST:
                keep_in_force(viewer, found, now=clock.now())
            elif "resend" in request.POST:
                resend(viewer, _signal(viewer, request.POST["resend"]), now=clock.now())
            elif form.is_valid():
                lift(viewer, found, reason=form.cleaned_data["reason"], now=clock.now(), address=_address(request))
            return HttpResponseRedirect(request.path)
        except AnswerableError as error:
            form.add_error(None, str(error))
            status = 422
    after = None if found.is_drill else became(viewer, found)
    signals = Signal.objects.filter(stop=found).select_related("receiver").order_by("id")[:500]
    finding = visible_findings(viewer).filter(pk=found.finding_id).first() if found.finding_id else None
    return render(request, "dashboard/stop.html", {
        "stop": found, "signals": [(signal, was_effective(signal, after.effective) if after else None) for signal in signals], "after": after,
        "form": form, "may_stop": viewer.may(STOP), "finding": finding, "events": _events_of(found),
        "policy": ResponsePolicy.objects.filter(tenant=viewer.tenant, pk=found.policy_id).first() if found.policy_id else None,
    }, status=status)  # fmt: skip


def _events_of(stop: Stop) -> str:
    """The acts of the subject, on the events page, from the stop on."""
    name = {"party": "actor", "grant": "grant", "token": "token", "session": "session"}[stop.kind]
    return (
        f"{reverse('dashboard:events')}?{urlencode({name: stop.key, 'since': stop.at.strftime('%Y-%m-%d %H:%M:%S')})}"
    )


@page
@require_http_methods(["GET", "POST"])
def receivers(request: HttpRequest) -> HttpResponse:
    """Who is told to stop an agent, whether that works, and what is stopped without a person."""
    viewer: Viewer = request.viewer
    viewer.must(WHOLE)
    form, policy_form, status, token = ReceiverForm(label_suffix=""), PolicyForm(label_suffix=""), 200, ""
    if request.method == "POST":
        viewer.must("configure")
        if "rule" in request.POST:
            policy_form = PolicyForm(request.POST, label_suffix="")
            made = policy_form.is_valid() and _tried(
                policy_form, lambda: policies.add(viewer, now=clock.now(), **policy_form.cleaned_data)
            )
        else:
            form = ReceiverForm(request.POST, label_suffix="")
            made = form.is_valid() and _tried(form, lambda: _add(viewer, form.cleaned_data))
        if made and isinstance(made, str):
            token = made
        elif made:
            return HttpResponseRedirect(request.path)
        else:
            status = 422
    rows = configured.receivers_of(viewer)
    counts = configured.counts_of(viewer)
    return render(request, "dashboard/receivers.html", {
        "rows": [(row, counts.get(row.pk, {})) for row in rows], "form": form, "policy_form": policy_form, "token": token,
        "policies": ResponsePolicy.objects.filter(tenant=viewer.tenant).order_by("name"), "may_stop": viewer.may(STOP), "may_configure": viewer.may("configure"),
    }, status=status)  # fmt: skip


@page
@require_POST
def receiver(request: HttpRequest, name: str) -> HttpResponse:
    """Test a receiver, pause it, take it off."""
    viewer: Viewer = request.viewer
    viewer.must(WHOLE)
    found = Receiver.objects.select_related("tenant").filter(tenant=viewer.tenant, name=name).first()
    if found is None:
        raise NotFound(f"no receiver {name[:48]}")
    now, what = clock.now(), request.POST.get("do", "")
    if what == "test":
        send_test(viewer, found, now=now)
        messages.success(request, f"A test is on its way to {found.name}. It says below when it was accepted.")
    else:
        viewer.must("configure")
        if what in Receiver.State.values:
            configured.change(found, state=what, now=now)
        elif what == "remove":
            configured.remove(found, now=now)
    return HttpResponseRedirect(reverse("dashboard:receivers"))


@page
@require_POST
def policy(request: HttpRequest, name: str) -> HttpResponse:
    request.viewer.must("configure")
    found = ResponsePolicy.objects.filter(tenant=request.viewer.tenant, name=name).first()
    if found is None:
        raise NotFound(f"no response policy {name[:48]}")
    try:
        changed = policies.set_mode(request.viewer, found, request.POST.get("mode", ""), now=clock.now())
    except AnswerableError as error:
        messages.error(request, str(error))
    else:
        asked = changed.asked_who and "another person has to agree before it is live"
        messages.success(request, f"{changed.name}: {asked or changed.get_mode_display()}.")
    return HttpResponseRedirect(reverse("dashboard:receivers"))


def _tried(form: forms.Form, do: Any) -> Any:
    try:
        return do() or True
    except AnswerableError as error:
        form.add_error(None, str(error))
        return None


@transaction.atomic  # a secret that was there stays where the receiver cannot be
def _add(viewer: Viewer, said: dict[str, Any]) -> Any:
    """The token of a receiver that polls, which is shown this once."""
    secret = said.pop("secret")
    if secret and said["secret_env"]:
        seal(viewer.tenant, said["secret_env"], secret.encode(), now=clock.now())
    polls = said["kind"] == Receiver.Kind.POLL
    _, token = configured.add(viewer.tenant, said.pop("name"), now=clock.now(), with_token=polls, **said)
    return token


def _signal(viewer: Viewer, asked: str) -> Signal:
    found = Signal.objects.filter(tenant=viewer.tenant, pk=number(asked)).first()
    if found is None:
        raise NotFound("no such signal")
    return found


def _address(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR", "")
