"""Pages that connect senders: the sources, one source with how to send to it and how its last deliveries went, the
formats.

They change what may be believed, so only those who may configure see the sources. What a format is, everybody may read.
"""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog import formats
from auditlog.core.errors import AnswerableError, ConfigurationError, Refused
from auditlog.core.event import LAYERS
from auditlog.core.text import number
from auditlog.core.wire.keys import keys_in
from auditlog.custody.inspect_log import source_health
from auditlog.formats import NAMES, Delivery, named
from auditlog.formats.trial import TRIALS, VARIABLE, trial_command, trial_delivery
from auditlog.ingest.receive import rehearse
from auditlog.models import PendingFetch, Pull, Source, SourceKey
from auditlog.models.directory import DEFAULT_TENANT, slug
from auditlog.reads.source_facts import announced_by, asked_of, pace_by_source, recent_deliveries, refusals_of
from auditlog.sources import configure
from auditlog.sources.fetch_keys import EVERY, add_source_by_url
from auditlog.sources.source_secrets import source_secret
from dashboard.parts.access import page

DAY = timedelta(days=1)


@page
@require_GET
def format_list(request: HttpRequest) -> HttpResponse:
    return render(
        request, "dashboard/formats.html",
        {"formats": [_described(name) for name in formats.NAMES], "may_configure": request.viewer.may("configure")},
    )  # fmt: skip


def _described(name: str) -> dict[str, Any]:
    about = formats.named(name).ABOUT
    return {
        "name": name,
        "about": about,
        "steps": _steps(name, "the source's ingest address", "the source's secret variable"),
    }


def _steps(format: str, address: str, variable: str) -> list[str]:
    return [step.format(address=address, secret=variable) for step in formats.named(format).ABOUT.connect]


@page
@require_http_methods(["GET", "POST"])
def sources(request: HttpRequest) -> HttpResponse:
    """All senders and how they are heard; the form that adds one."""
    viewer, now = request.viewer, timezone.now()
    viewer.must("configure")
    form, status = SourceForm(initial={"format": request.GET.get("format", "")}), 200
    if request.method == "POST":
        form, status = SourceForm(request.POST), 422
        if form.is_valid():
            try:
                asked = form.asked()
                add = add_source_by_url if asked["jwks_url"] else configure.add_source
                added = add(viewer.tenant, now=now, **asked)
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(
                    request,
                    f"Source {added.name} was added. It may send once a published checkpoint covers that: in a second.",
                )
                return redirect("dashboard:source", name=added.name)
    pace = pace_by_source(viewer.tenant, since=now - DAY)
    format_of = dict(Source.objects.filter(tenant=viewer.tenant).values_list("name", "format"))
    rows = [
        {"health": health, "format": format_of[health.name], "pace": pace.get(health.name)}
        for health in source_health(viewer.tenant, now=now)
    ]
    return render(request, "dashboard/sources.html", {"rows": rows, "form": form}, status=status)


@page
@require_http_methods(["GET", "POST"])
def source(request: HttpRequest, name: str) -> HttpResponse:
    viewer, now = request.viewer, timezone.now()
    viewer.must("configure")
    row = Source.objects.select_related("tenant", "organisation").filter(tenant=viewer.tenant, name=name).first()
    if row is None:
        raise Http404
    shown: dict[str, Any] = {
        "key_form": KeyForm(),
        "try_form": TryForm(initial={"content_type": TRIALS[row.format].content_type}),
    }
    if request.method == "POST":
        act = _ACTS.get(request.POST.get("act", ""))
        if act is None:
            raise Http404
        answer = act(request, row, shown, now)
        if answer is not None:
            return answer
    path = f"/ingest/{row.name}" if viewer.tenant.name == DEFAULT_TENANT else f"/ingest/{viewer.tenant.name}/{row.name}"
    address, trial = request.build_absolute_uri(path), TRIALS[row.format]
    [health] = [health for health in source_health(viewer.tenant, now=now) if health.name == row.name]
    context = shown | {
        "source": row,
        "about": formats.named(row.format).ABOUT,
        "address": address,
        "trial": trial,
        "steps": _steps(row.format, address, row.secret_env or "a variable that you still have to name"),
        "command": trial_command(
            row.format, address, row.secret_env, issuer=row.issuer, tenant=viewer.tenant.name, now=now
        ),
        "secret_set": bool(row.secret_env and source_secret(row.secret_env, row.tenant)),
        "keys": row.keys.order_by("retired_at", "-added_at"),
        "health": health,
        "pace": pace_by_source(viewer.tenant, since=now - DAY).get(row.name),
        "asked": asked_of(row),
        "announced": announced_by(row),
        "keys_every": EVERY,
        "key_set": bool(row.api_key_env and source_secret(row.api_key_env, row.tenant)),
        "deliveries": recent_deliveries(row),
        "refusals": refusals_of(row, since=now - DAY),
    }
    return render(request, "dashboard/source.html", context, status=shown.get("status", 200))


def _test(request: HttpRequest, row: Source, shown: dict, now: datetime) -> None:
    """Sign a test delivery with the secret that both sides hold, and let it through the door as far as the ledger."""
    secret = source_secret(row.secret_env, row.tenant) if row.secret_env else None
    try:
        delivery = trial_delivery(row.format, secret, now=now)
    except Refused as refused:
        shown["result"] = [{"refused": refused}]
    else:
        if delivery is None:
            raise Http404
        shown["result"] = _rehearsed(row, delivery)


def _try(request: HttpRequest, row: Source, shown: dict, now: datetime) -> None:
    form = shown["try_form"] = TryForm(request.POST)
    if form.is_valid():
        data = form.cleaned_data
        delivery = Delivery(data["body"].encode(), data["content_type"].strip().lower(), data["headers"])
        shown["result"] = _rehearsed(row, delivery)
    else:
        shown["status"] = 422


def _rehearsed(row: Source, delivery: Delivery) -> list[dict[str, Any]]:
    """What ingest would say of each statement; nothing is written."""
    try:
        found = rehearse(row.tenant.name, row.name, delivery).statements
    except AnswerableError as refused:
        return [{"refused": refused}]
    return [
        {"name": name, "refused": one} if isinstance(one, Refused) else {"name": name, "statement": one}
        for name, one in list(found.items())[:20]
    ]


def _add_key(request: HttpRequest, row: Source, shown: dict, now: datetime) -> HttpResponse | None:
    form = shown["key_form"] = KeyForm(request.POST)
    if form.is_valid():
        try:
            added = configure.add_keys(row, form.cleaned_data["key"], now=now)
        except AnswerableError as error:
            form.add_error("key", str(error))
        else:
            messages.success(
                request,
                f"Added {', '.join(key.kid for key in added)}. The keys from before stay good until you retire them.",
            )
            return HttpResponseRedirect(request.path)
    shown["status"] = 422
    return None


def _retire_key(request: HttpRequest, row: Source, shown: dict, now: datetime) -> HttpResponse:
    key = SourceKey.objects.filter(source=row, pk=number(request.POST.get("key", ""))).first()
    if key is None:
        raise Http404
    if key.retired_at is None:  # the button pressed twice is one retirement
        configure.retire_key(key, now=now)
    messages.success(request, f"Key {key.kid} is retired: nothing new is taken under it.")
    return HttpResponseRedirect(request.path)


def _set_state(request: HttpRequest, row: Source, shown: dict, now: datetime) -> HttpResponse:
    state = {"suspend": Source.State.SUSPENDED, "resume": Source.State.ACTIVE}[request.POST["act"]]
    if row.state != state:
        configure.set_source_state(row, state, now=now)
    messages.success(request, f"Source {row.name} is {state.value} now.")
    return HttpResponseRedirect(request.path)


def _ask_now(request: HttpRequest, row: Source, shown: dict, now: datetime) -> HttpResponse:
    Pull.objects.filter(tenant=row.tenant, source=row).update(due_at=None)
    messages.success(request, f"{row.name} is asked within seconds.")
    return HttpResponseRedirect(request.path + "#asked")


def _fetch_again(request: HttpRequest, row: Source, shown: dict, now: datetime) -> HttpResponse:
    given_up = PendingFetch.objects.filter(tenant=row.tenant, source=row, state=PendingFetch.State.GIVEN_UP)
    count = given_up.update(state=PendingFetch.State.DUE, due_at=now, attempts=0, ended_at=None)
    Pull.objects.filter(tenant=row.tenant, source=row, kind=Pull.Kind.FETCH).update(due_at=None)
    messages.success(request, f"{count} are tried again.")
    return HttpResponseRedirect(request.path + "#asked")


_ACTS = {
    "ask_now": _ask_now,
    "fetch_again": _fetch_again,
    "test": _test,
    "try": _try,
    "add_key": _add_key,
    "retire_key": _retire_key,
    "suspend": _set_state,
    "resume": _set_state,
}


class Keys(forms.CharField):
    """Public keys, pasted as a JWK or a JWKS."""

    def __init__(self, **kwargs) -> None:
        widget = forms.Textarea(
            attrs={"rows": 4, "spellcheck": "false", "placeholder": '{"keys": [{"kty": "OKP", ...}]}'}
        )
        super().__init__(max_length=200_000, widget=widget, **kwargs)

    def clean(self, value):
        try:
            return keys_in(super().clean(value))
        except ConfigurationError as error:
            raise forms.ValidationError(str(error)) from None


# Whoever names both a variable and an address could have any of the service's secrets sent there.
POLLED = tuple(
    name for name in NAMES if hasattr(named(name), "poll_request") and not getattr(named(name), "POLL_NEEDS_KEY", True)
)


class SourceForm(forms.Form):
    """A new sender. What depends on the format is checked where the source is made, too."""

    format = forms.ChoiceField(
        label="Format", help_text="What it sends; Formats says what each carries and how to set it up."
    )
    name = forms.CharField(
        label="Name", max_length=48, validators=[slug], widget=forms.TextInput(attrs={"autocapitalize": "none"}),
        help_text="Stands in its address and in every leaf it causes, so it never changes: a-z, 0-9, dot, dash, underscore.",
    )  # fmt: skip
    issuer = forms.CharField(
        label="Issuer",
        max_length=300,
        help_text="The iss of its events, or a name for the system: https://conductor.example",
    )
    keys = Keys(
        required=False,
        label="Public keys",
        help_text="For senders that sign with a key of their own: a JWK with a kid, or a JWKS.",
    )
    jwks_url = forms.CharField(
        required=False, max_length=500, label="Address of its public keys", widget=forms.URLInput(attrs={"placeholder": "https://conductor.example/jwks.json"}),
        help_text="A JWKS by https, read now and every ten minutes, and when an event names a key that is not known.",
    )  # fmt: skip
    secret_env = forms.RegexField(
        VARIABLE, required=False, label="Variable of the shared secret",
        help_text="For senders with a shared secret or token. The secret itself goes into the service's environment under "
        "this name, never into a form: CONDUCTOR_SECRET",
        error_messages={"invalid": "Use capital letters, digits and underscores, such as CONDUCTOR_SECRET."},
    )  # fmt: skip
    audience = forms.CharField(
        required=False, max_length=300, label="Audience of its tokens", help_text="For CAEP: the aud that its stream was given for us. Empty: urn:answerable: and the tenant's name.",
    )  # fmt: skip
    poll_url = forms.CharField(
        required=False, max_length=500, label="Address to poll", widget=forms.URLInput(),
        help_text="For senders that are asked for their events and do not send them: " + ", ".join(POLLED)
        + ". Where our key for their API is needed, an operator adds the source: which variable is sent where is not decided here.",
    )  # fmt: skip
    poll_seconds = forms.IntegerField(
        label="Polled every (seconds)", required=False, min_value=5, max_value=86_400, help_text="60 when empty."
    )
    provider = forms.CharField(
        label="Provider",
        required=False,
        max_length=120,
        help_text="When it is a provider's own word about itself: the provider.",
    )
    layers = forms.MultipleChoiceField(
        label="Layers it may speak for", required=False, choices=[(layer, layer) for layer in LAYERS],
        widget=forms.CheckboxSelectMultiple, help_text="None ticked: all. What it says outside them is kept as claimed.",
    )  # fmt: skip
    speaks_for = forms.CharField(
        label="Issuers it may speak for", required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One a line; none: any.",
    )  # fmt: skip
    heartbeat_seconds = forms.IntegerField(
        label="Promised to be heard every (seconds)", required=False, min_value=1, max_value=31_536_000,
        help_text="Its silence is then found. Empty: no promise.",
    )  # fmt: skip

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["format"].choices = [
            ("", "choose"),
            *((name, f"{named(name).ABOUT.title} ({name})") for name in NAMES),
        ]

    def clean_speaks_for(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["speaks_for"].splitlines() if line.strip()]

    def clean(self):
        data = super().clean()
        if self.errors:
            return data
        by = TRIALS[data["format"]].by
        if data["keys"] and data["jwks_url"]:
            self.add_error("jwks_url", "Give the keys or their address, not both.")
        if data["poll_url"] and data["format"] not in POLLED:
            self.add_error(
                "poll_url", "This format is not polled without our key for its API: an operator adds such a source."
            )
        if by == "sender" and not data["keys"] and not data["jwks_url"]:
            self.add_error(
                "keys",
                "Events of this format are signed with the sender's own key: paste the public one, or say where it is"
                " published.",
            )
        if by in ("token", "mac") and not data["secret_env"]:
            self.add_error(
                "secret_env", "Deliveries of this format are authenticated by a shared secret: name its variable."
            )
        if by == "webhook" and not data["secret_env"] and not data["keys"] and not data["jwks_url"]:
            self.add_error(None, "This format needs a shared secret (v1) or the sender's public key (v1a).")
        return data

    def asked(self) -> dict:
        data = dict(self.cleaned_data)
        keys = {"jwks": {"keys": data.pop("keys")}} if not data["jwks_url"] else {}
        data.pop("keys", None)
        return data | keys | {"poll_seconds": data["poll_seconds"] or 60}


class KeyForm(forms.Form):
    act = forms.CharField(widget=forms.HiddenInput, initial="add_key")
    key = Keys(
        label="A public key to add", help_text="A JWK with a kid, or a JWKS. Adding a key appends a leaf to the log."
    )


class TryForm(forms.Form):
    """A delivery as its sender would make it, to be looked at and thrown away."""

    act = forms.CharField(widget=forms.HiddenInput, initial="try")
    content_type = forms.CharField(label="Content-Type", max_length=120)
    headers = forms.CharField(
        label="Other headers", required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One a line, as Name: value.",
    )  # fmt: skip
    body = forms.CharField(
        label="Body", max_length=1_000_000, strip=False, widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})
    )

    def clean_headers(self) -> dict[str, str]:
        found = {}
        for line in self.cleaned_data["headers"].splitlines():
            name, colon, value = line.partition(":")
            if line.strip() and not (colon and name.strip()):
                raise forms.ValidationError(f"Expected Name: value, found {line[:60]!r}.")
            if line.strip():
                found[name.strip().lower()] = value.strip()
        return found
