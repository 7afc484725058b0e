"""Alerts: who is told of incidents, whether that works, and what was told last."""

from datetime import time
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from auditlog.alerts import channels as configured
from auditlog.alerts.send import resend, send_test
from auditlog.core.alert.hours import DAYS
from auditlog.core.errors import AnswerableError, NotFound, NotPossible
from auditlog.core.incident import DESKS
from auditlog.core.text import number, visible
from auditlog.database import clock
from auditlog.models import Alert, AlertChannel, Finding
from auditlog.reads.access import Viewer
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE

_SEVERITIES = [(level, level) for level in reversed(Finding.Severity.values)]


class _Clock(forms.TimeField):
    widget = forms.TimeInput(attrs={"type": "time"}, format="%H:%M")


class ChannelForm(forms.Form):
    name = forms.CharField(label="Name", max_length=48)
    kind = forms.ChoiceField(label="Kind", choices=AlertChannel.Kind.choices)
    address = forms.CharField(
        label="Address",
        max_length=500,
        required=False,
        help_text="Mail: who gets it, with commas between. Webhook: an https address. PagerDuty: empty, or https://events.eu.pagerduty.com.",
    )
    secret = forms.CharField(
        label="Secret",
        max_length=4000,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Slack: the address of its incoming webhook. PagerDuty: the integration key. Webhook: whsec_…"
        " Sealed, never shown again.",
    )
    severity = forms.ChoiceField(label="At least", choices=_SEVERITIES, initial="high")
    desks = forms.MultipleChoiceField(
        label="Desks",
        required=False,
        choices=[(desk, desk) for desk in DESKS],
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: all.",
    )
    least_minor = forms.IntegerField(
        label="Too much money at least, in minor units",
        required=False,
        min_value=0,
        max_value=10**18,
        help_text="An incident of which nobody stated an amount does not reach it.",
    )
    currency = forms.CharField(label="Currency", max_length=12, required=False)
    with_texts = forms.BooleanField(
        label="Tell what happened and who",
        required=False,
        help_text="The title, principal and agents, which senders and agents wrote. Without it: our words, counts"
        " and amounts.",
    )
    quiet_zone = forms.CharField(
        label="Quiet hours: time zone",
        max_length=64,
        required=False,
        help_text="Such as Europe/Berlin. Empty: no quiet hours.",
    )
    quiet_from = _Clock(label="Quiet from", required=False)
    quiet_to = _Clock(label="Quiet to", required=False)
    quiet_days = forms.TypedMultipleChoiceField(
        label="Days on which they begin",
        required=False,
        choices=list(enumerate(DAYS)),
        coerce=int,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: every day.",
    )
    critical_passes = forms.BooleanField(
        label="What is critical passes through quiet hours", required=False, initial=True
    )
    escalate_minutes = forms.IntegerField(label="If nobody takes it up, after minutes", required=False, min_value=1)
    escalate_to = forms.ModelChoiceField(
        label="Tell also",
        queryset=AlertChannel.objects.none(),
        required=False,
        empty_label="nobody",
        to_field_name="name",
    )
    allow_private = forms.BooleanField(label="The address may be a private one", required=False)

    def __init__(self, *args: Any, viewer: Viewer, channel: AlertChannel | None = None, **more: Any) -> None:
        if channel is not None:
            names = [field.name for field in AlertChannel._meta.fields]
            more["initial"] = {name: getattr(channel, name) for name in names if name in self.base_fields}
        super().__init__(*args, label_suffix="", **more)
        others = AlertChannel.objects.filter(tenant=viewer.tenant).order_by("name")
        if channel is not None:
            others = others.exclude(pk=channel.pk)
            del self.fields["name"], self.fields["kind"]
            self.fields["secret"].help_text += " Empty: it stays as it is."
        cast(forms.ModelChoiceField, self.fields["escalate_to"]).queryset = others


@page
@sensitive_post_parameters("secret")
@require_http_methods(["GET", "POST"])
def alerts(request: HttpRequest) -> HttpResponse:
    """Channels and the last alerts; add a channel, or send again what was given up."""
    viewer: Viewer = request.viewer
    viewer.must("configure")
    form, status = ChannelForm(viewer=viewer), 200
    if request.method == "POST":
        if "resend" in request.POST:
            _resend(request)
            return HttpResponseRedirect(f"{request.path}#sent")
        form = ChannelForm(request.POST, viewer=viewer)
        if form.is_valid():
            said = form.cleaned_data
            try:
                made = configured.add(viewer.tenant, said.pop("name"), now=clock.now(), **said)
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"{made.name} is told from now on. Send it a test.")
                return HttpResponseRedirect(request.path)
        status = 422
    return render(request, "dashboard/alerts.html", {"form": form, **_shown(request)}, status=status)


@page
@sensitive_post_parameters("secret")
@require_http_methods(["GET", "POST"])
def channel(request: HttpRequest, name: str) -> HttpResponse:
    """Change a channel, test it, switch it on and off, take it off."""
    viewer: Viewer = request.viewer
    viewer.must("configure")
    found = configured.channel_of(viewer.tenant, name)
    form, status = ChannelForm(viewer=viewer, channel=found), 200
    if request.method == "POST":
        form = ChannelForm(request.POST, viewer=viewer, channel=found)
        try:
            if "do" in request.POST:
                _do(request, found, request.POST["do"])
                return HttpResponseRedirect(reverse("dashboard:alerts"))
            if form.is_valid():
                said = form.cleaned_data
                configured.change(found, now=clock.now(), **said)
                messages.success(request, f"{found.name} was changed.")
                return HttpResponseRedirect(reverse("dashboard:alerts"))
        except AnswerableError as error:
            form.add_error(None, str(error))
        status = 422
    return render(request, "dashboard/alert_channel.html", {"form": form, "channel": found}, status=status)


def _do(request: HttpRequest, channel: AlertChannel, what: str) -> None:
    if what == "test":
        alert = send_test(channel, now=clock.now)
        said = visible(alert.answer)
        if alert.state == Alert.State.SENT:
            messages.success(request, f"{channel.name} took the test: {said}")
        else:
            messages.error(request, f"{channel.name} did not take the test: {said}")
    elif what in AlertChannel.State.values:
        configured.change(channel, state=what, now=clock.now())
    elif what == "remove":
        configured.remove(channel, now=clock.now())
        messages.success(request, f"{channel.name} was taken off.")
    else:
        raise NotPossible("expected test, on, off or remove")


def _resend(request: HttpRequest) -> None:
    found = Alert.objects.filter(tenant=request.viewer.tenant, pk=number(request.POST["resend"])).first()
    if found is None:
        raise NotFound("no such alert")
    try:
        resend(request.viewer, found, now=clock.now())
    except NotPossible as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "It is sent again, with the same key.")


def _shown(request: HttpRequest) -> dict[str, Any]:
    tenant = request.viewer.tenant
    rows, counts = configured.channels_of(tenant), configured.counts_of(tenant)
    of, state = request.GET.get("channel", ""), request.GET.get("state", "")
    sent = Alert.objects.filter(tenant=tenant).select_related("channel", "incident", "summary").order_by("-id")
    if of:
        sent = sent.filter(channel__name=of[:48])
    if state in Alert.State.values:
        sent = sent.filter(state=state)
    if (before := number(request.GET.get("before", ""))) is not None:
        sent = sent.filter(pk__lt=before)
    alerts = list(sent[: PAGE + 1])
    return {
        "rows": [{"channel": row, "counts": counts.get(row.pk, {}), "quiet": _quiet(row)} for row in rows],
        "alerts": alerts[:PAGE],
        "more": alerts[PAGE - 1].pk if len(alerts) > PAGE else None,
        "of": of[:48],
        "state": state if state in Alert.State.values else "",
        "lacks_mail": not configured.has_mail() and any(row.kind == AlertChannel.Kind.MAIL for row in rows),
    }


def _quiet(channel: AlertChannel) -> str:
    if channel.quiet_from is None or channel.quiet_to is None:
        return ""
    days = ", ".join(DAYS[day] for day in sorted(channel.quiet_days)) if channel.quiet_days else "daily"
    return f"{_hour(channel.quiet_from)}–{_hour(channel.quiet_to)} {channel.quiet_zone}, {days}"


def _hour(at: time) -> str:
    return at.strftime("%H:%M")
