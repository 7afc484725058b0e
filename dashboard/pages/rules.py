"""Rules: how each is set, how often people found it right, and what another setting would raise, before it is set."""

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog.core.errors import AnswerableError, ConfigurationError, NotFound
from auditlog.core.finding import SEVERITIES
from auditlog.core.policy import Policy
from auditlog.core.text import number
from auditlog.database.policies import RULES, every_policy, policy_of, settings_of
from auditlog.detection import tune
from auditlog.detectors import detectors_of
from auditlog.models import Backtest, RulePolicy
from auditlog.reads.access import WHOLE
from dashboard.parts.access import page

_WHO = (("principal", "Principal"), ("actor", "Agent"), ("provider", "Provider"), ("grant", "Grant"))


class PolicyForm(forms.Form):
    """How a rule is set. Exemptions and tests that are there are kept unless they are taken off."""

    enabled = forms.BooleanField(label="The rule is on", required=False)
    severity = forms.ChoiceField(
        label="Severity at most", required=False, choices=[("", "as the rule says"), *((s, s) for s in SEVERITIES)]
    )
    least_minor = forms.IntegerField(
        label="Silent below", required=False, min_value=0, help_text="Money at risk, in minor units: 4.50 is 450."
    )

    def __init__(self, *args: Any, policy: Policy, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy, self.known = policy, settings_of(policy.rule)
        now = {"enabled": policy.enabled, "severity": policy.severity, "least_minor": policy.least_minor or None}
        for name, value in now.items():
            self.fields[name].initial = value
        if any(getattr(detector, "gathers", False) for detector in detectors_of(policy.rule)):
            del self.fields["least_minor"]
        for setting in self.known:
            self.fields[f"setting-{setting.name}"] = forms.FloatField(
                label=f"{setting.name.replace('_', ' ').capitalize()} ({setting.unit})",
                initial=policy.settings.get(setting.name, setting.default),
                min_value=setting.least,
                max_value=setting.most,
                help_text=f"{setting.words}. As it comes: {setting.default:g}.",
            )
        for place, one in enumerate(policy.exempt):
            self.fields[f"keep-{place}"] = forms.BooleanField(
                label=f"Silent for {_words(one)}", required=False, initial=True, help_text=one.why
            )
        self.fields["who"] = forms.ChoiceField(label="Also silent for", required=False, choices=[("", "–"), *_WHO])
        self.fields["value"] = forms.CharField(
            label="Which", required=False, max_length=1_000, help_text="A party as iss|sub; exactly."
        )
        self.fields["why"] = forms.CharField(label="Because", required=False, max_length=2_000)
        self.fields["until"] = forms.DateField(
            label="Until the end of", required=False, widget=forms.DateInput(attrs={"type": "date"})
        )
        for place, case in enumerate(policy.tests):
            words = "raised" if case.raised else "silent"
            self.fields[f"test-{place}"] = forms.BooleanField(
                label=f"Test: finding #{case.finding} is {words}", required=False, initial=True
            )
        self.fields["finding"] = forms.IntegerField(
            label="New test: finding",
            required=False,
            min_value=1,
            help_text="Its number. What fails a test is not set.",
        )
        self.fields["raised"] = forms.ChoiceField(
            label="must be", required=False, choices=[("raised", "raised"), ("silent", "silent")]
        )
        for name, label in (
            ("runbook", "What to do, in your words"),
            ("false_positives", "When it is wrong, in your words"),
        ):
            self.fields[name] = forms.CharField(
                label=label, required=False, max_length=4_000, initial=getattr(policy, name),
                widget=forms.Textarea(attrs={"rows": 2}),
            )  # fmt: skip
        self.fields["days"] = forms.IntegerField(
            label="Try it on the last days", initial=30, min_value=1, max_value=tune.LONGEST
        )
        self.fields["reason"] = forms.CharField(
            label="Reason",
            required=False,
            max_length=4_000,
            help_text="Kept for ever with your name. Setting it needs one.",
        )

    def said(self) -> dict[str, Any]:
        """The policy as JSON."""
        given = self.cleaned_data
        defaults = {setting.name: setting.default for setting in self.known}
        settings = {name: given[f"setting-{name}"] for name in defaults if given[f"setting-{name}"] != defaults[name]}
        now = self.policy.as_json()
        exempt = [one for place, one in enumerate(now["exempt"]) if given[f"keep-{place}"]]
        if given["who"]:
            until = datetime.combine(given["until"], time(23, 59, 59), UTC).isoformat() if given["until"] else None
            exempt.append({given["who"]: given["value"], "why": given["why"]} | ({"until": until} if until else {}))
        tests = [one for place, one in enumerate(now["tests"]) if given[f"test-{place}"]]
        if given["finding"]:
            tests.append({"finding": given["finding"], "raised": given["raised"] != "silent"})
        return {
            "enabled": given["enabled"],
            "severity": given["severity"] or None,
            "least_minor": given.get("least_minor") or 0,
            "settings": settings,
            "exempt": exempt,
            "runbook": given["runbook"],
            "false_positives": given["false_positives"],
            "tests": tests,
        }


def _words(one: Any) -> str:
    stated = ", ".join(f"{name} {value}" for name, _ in _WHO if (value := getattr(one, name)))
    return stated + (f", until {one.until:%Y-%m-%d}" if one.until else "")


@page
@require_GET
def rules(request: HttpRequest) -> HttpResponse:
    """Every rule with how it is set, and how often people found it right."""
    request.viewer.must(WHOLE)
    told = {each.rule: each for each in tune.precisions(request.viewer)}
    rows = [
        {
            "rule": policy.rule,
            "title": detectors_of(policy.rule)[0].title,
            "policy": policy,
            "told": told.get(policy.rule),
        }
        for policy in every_policy(request.viewer.tenant)
    ]
    return render(request, "dashboard/rules.html", {"rows": rows})


@page
@require_http_methods(["GET", "POST"])
def rule(request: HttpRequest, name: str) -> HttpResponse:
    request.viewer.must(WHOLE)
    if name not in RULES:
        raise NotFound(f"no rule {name[:60]}")
    tenant, status = request.viewer.tenant, 200
    policy = policy_of(tenant, name)
    form = PolicyForm(policy=policy)
    if request.method == "POST":
        form, status = PolicyForm(request.POST, policy=policy), 422
        if form.is_valid():
            try:
                return _done(request, name, form)
            except AnswerableError as error:
                form.add_error(None, str(error))
    tried = _tried(request, name)
    context = {
        "rule": name,
        "about": detectors_of(name)[0],
        "policy": policy,
        "form": form,
        "may_set": request.viewer.may("configure"),
        "may_try": request.viewer.may("triage") and name not in tune.NOT_TRIED,
        "tried": tried,
        "history": RulePolicy.objects.filter(tenant=tenant, rule=name)[:50],
    }
    template = "dashboard/parts/backtest.html" if request.htmx and tried is not None else "dashboard/rule.html"
    return render(request, template, context, status=status)


def _done(request: HttpRequest, name: str, form: PolicyForm) -> HttpResponseRedirect:
    """Try what the form says, or set it. Raises what the verbs raise."""
    said, now = form.said(), timezone.now()
    if request.POST.get("do") == "set":
        made = tune.set_by(request.viewer, name, said, reason=form.cleaned_data["reason"], now=now)
        messages.success(request, f"Version {made.version} is in force. It is applied to the past too.")
        return redirect("dashboard:rule", name=name)
    asked = tune.ask(request.viewer, name, said, days=form.cleaned_data["days"], now=now)
    return HttpResponseRedirect(f"{reverse('dashboard:rule', args=[name])}?tried={asked.pk}#tried")


def _tried(request: HttpRequest, name: str) -> Backtest | None:
    """The back-test that is asked for, else the newest of the rule."""
    pk = number(request.GET.get("tried", ""))
    if pk is not None:
        found = tune.backtest_of(request.viewer, pk)
        if found.rule != name:
            raise ConfigurationError(f"back-test {pk} is of another rule")
    else:
        found = Backtest.objects.filter(tenant=request.viewer.tenant, rule=name).order_by("-id").first()
    for rows in (found.result[kind] for kind in ("added", "gone", "changed")) if found and found.result else ():
        for row in rows:
            row["last_at"] = datetime.fromisoformat(row["last_at"])  # kept as text, shown with its zone
    return found
