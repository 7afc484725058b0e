"""Pages that connect senders: the sources, one source with how to send to it and how its last deliveries went, the formats.

They change what may be believed, so only those who may configure see the sources. What a format is, everybody may read.
"""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog import formats
from auditlog.core.errors import AnswerableError, Refused
from auditlog.custody.inspect_log import source_health
from auditlog.formats import Delivery
from auditlog.formats.trial import TRIALS, trial_command, trial_delivery
from auditlog.ingest.receive import rehearse
from auditlog.models import PendingFetch, Pull, Source, SourceKey
from auditlog.models.directory import DEFAULT_TENANT
from auditlog.reads.source_facts import announced_by, asked_of, pace_by_source, recent_deliveries, refusals_of
from auditlog.sources import configure
from auditlog.sources.fetch_keys import EVERY, add_source_by_url
from auditlog.sources.source_secrets import source_secret
from dashboard import forms
from dashboard.access import page

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
    form, status = forms.SourceForm(initial={"format": request.GET.get("format", "")}), 200
    if request.method == "POST":
        form, status = forms.SourceForm(request.POST), 422
        if form.is_valid():
            try:
                asked = form.asked()
                add = add_source_by_url if asked["jwks_url"] else configure.add_source
                added = add(viewer.tenant, now=now, **asked)
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"Source {added.name} was added. It may send now.")
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
        "key_form": forms.KeyForm(),
        "try_form": forms.TryForm(initial={"content_type": TRIALS[row.format].content_type}),
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
    form = shown["try_form"] = forms.TryForm(request.POST)
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
    form = shown["key_form"] = forms.KeyForm(request.POST)
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
    number = request.POST.get("key", "")
    key = (
        SourceKey.objects.filter(source=row, pk=int(number)).first()
        if number.isascii() and number.isdigit() and len(number) < 19
        else None
    )
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
