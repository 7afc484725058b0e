"""The pages. Each translates: read what was asked, call one query or verb, answer. Rendering is in the templates."""

import base64
import binascii
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.views import LoginView, LogoutView
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import mark_safe
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET, require_http_methods

from auditlog.api.chain_json import authority_breaks, effective_json, gain_of, recorded_when
from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import utc_text
from auditlog.core.chain.chain import Chain, Hop
from auditlog.core.errors import AnswerableError, ConfigurationError, NotFound, NotPermitted
from auditlog.core.event import GRANTED, GrantObject, TokenObject, layer_of
from auditlog.core.money.exposure import exposure_by_day
from auditlog.core.money.money import amount_text
from auditlog.core.reading import Reading
from auditlog.custody import security
from auditlog.custody.inspect_log import inspect
from auditlog.database import clock
from auditlog.detection.triage import triage
from auditlog.detectors import detectors_of, runbook_of
from auditlog.models import Membership
from auditlog.reads import queries as record
from auditlog.reads import reach, standing, threads
from auditlog.reads.access import WHOLE, Viewer
from auditlog.reads.queries import organisations_of
from auditlog.work.tasks import verify_logs
from dashboard import charts, explorer, forms, queries, svg
from dashboard.access import page
from dashboard.plotly_css import guard_ids, style_sheet
from disputes.core.status import AWAITING, STATES
from disputes.decide import move
from disputes.open_case import open_case
from disputes.queries import case_page, cases_of_event, find_finding, list_cases


class Login(LoginView):
    template_name = "dashboard/login.html"
    authentication_form = forms.LoginForm
    redirect_authenticated_user = True

    def form_valid(self, form):
        answer = super().form_valid(form)
        _tell(self.request, "signin.succeeded", form.get_user())
        return answer

    def form_invalid(self, form):
        # What was typed is kept only where an account has that name: it may be a password in the wrong field.
        typed = str(form.data.get("username", ""))[:150].replace("\x00", "")
        _tell(self.request, "signin.failed", get_user_model().objects.filter(username=typed).first())
        return super().form_invalid(form)


class Logout(LogoutView):
    next_page = "/login/"

    def post(self, request, *args, **kwargs):
        if request.user.is_authenticated:
            _tell(request, "signout", request.user)
        return super().post(request, *args, **kwargs)


def _tell(request: HttpRequest, kind: str, user) -> None:
    membership = (
        Membership.objects.select_related("tenant").filter(user=user).order_by("id").first()
        if user is not None
        else None
    )
    security.note(
        membership.tenant if membership else None, kind, who=user.get_username() if user is not None else "a name that no account has",
        user_id=user.pk if user is not None else None, address=request.META.get("REMOTE_ADDR", ""), what=request.path_info,
        is_known=kind != "signin.failed", now=clock.now(),
    )  # fmt: skip


@require_GET
@cache_control(public=True, max_age=86_400)
def plotly_css(request: HttpRequest) -> HttpResponse:
    return HttpResponse(style_sheet(), content_type="text/css; charset=utf-8")


# --- overview -------------------------------------------------------------------------------------------------------


@page
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    viewer, now = request.viewer, timezone.now()
    window = request.GET.get("days", "30")
    window = window if window in queries.WINDOWS else "30"
    first_day = (now - queries.WINDOWS[window]).date() + timedelta(days=1)
    since = datetime.combine(first_day, datetime.min.time(), UTC)
    days = [first_day + timedelta(days=n) for n in range((now.date() - first_day).days + 1)]
    acts = queries.activity(viewer, since=since, until=now + timedelta(days=1))
    spent = queries.spend_by_day(viewer, since=since, until=now + timedelta(days=1))
    counts = queries.finding_counts(viewer)
    log = queries.log_state(viewer)
    context = {
        "now": now,
        "guard_ids": guard_ids(),
        "window": window,
        "windows": list(queries.WINDOWS),
        "since": first_day,
        "acts": acts,
        "unproven": acts["acts"] - acts["proven"],
        "log": log,
        "sources": queries.sources(viewer, acts["by_source"]),
        "by_severity": _by_severity(counts),
        "worst": queries.list_findings(viewer, {"state": "open"}, limit=8).rows,
        "recent": queries.list_events(viewer, {}, limit=8).rows,
        "spend_totals": _totals(spent),
        "newest": queries.newest_event(viewer) if not acts["total"] else None,
        "charts": [
            charts.events_per_day(acts["by_day"], days=days, link=_events_link),
            charts.attribution(acts["attributed"], since=first_day, link=_events_link),
            charts.findings_by_rule(counts, link=_findings_link),
            *charts.spend_per_day(spent, days=days, link=_charges_link),
            *charts.exposure(
                exposure_by_day(days, *record.exposure_facts(viewer), now=now), link=_events_link_of_authorities
            ),
        ],
    }
    return render(request, "dashboard/overview.html", context)


def _by_severity(counts: list[dict]) -> list[tuple[str, int]]:
    return [(name, sum(row["count"] for row in counts if row["severity"] == name)) for name in queries.SEVERITIES]


def _totals(spent: list[tuple]) -> list[tuple[str, int]]:
    totals: dict[str, int] = {}
    for _, _, currency, minor in spent:
        totals[currency] = totals.get(currency, 0) + minor
    return sorted(totals.items())


def _link(name: str, filters: dict[str, Any]) -> str:
    given = {key: value for key, value in filters.items() if value not in ("", None)}
    return reverse(f"dashboard:{name}") + (f"?{urlencode(given)}" if given else "")


def _events_link(**filters: Any) -> str:
    return _link("events", filters)


def _events_link_of_authorities(**filters: Any) -> str:
    return _link("events", {"layer": "money", **filters})


def _charges_link(**filters: Any) -> str:
    return _link("charges", filters)


def _findings_link(**filters: Any) -> str:
    return _link("findings", filters)


# --- findings -------------------------------------------------------------------------------------------------------


@page
@require_GET
def findings(request: HttpRequest) -> HttpResponse:
    rules = sorted(queries.visible_findings(request.viewer).order_by().values_list("rule", flat=True).distinct())
    form = forms.FindingFilters(request.GET, rules=rules)
    listed = queries.Page([])
    if form.is_valid():
        data = form.cleaned_data
        listed = queries.list_findings(request.viewer, form.chosen(), sort=data["sort"], after=data["after"])
    return render(request, "dashboard/findings.html", {"form": form, "page": listed, "anything": bool(rules)})


@page
@require_http_methods(["GET", "POST"])
def finding(request: HttpRequest, finding_id: int) -> HttpResponse:
    view = queries.finding_view(request.viewer, finding_id)
    form = forms.TriageForm(initial={"state": _next_state(view["finding"])})
    status = 200
    if request.method == "POST":
        request.viewer.must("triage")
        form = forms.TriageForm(request.POST)
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
        "evidence": _pretty(view["finding"].evidence) if view["finding"].evidence else "",
        "about": _about(view["finding"].rule),
        "runbook": runbook_of(view["finding"], timezone.now()),
        "case_form": forms.OpenCaseForm(initial={"finding": finding_id, "title": view["case_title"]})
        if request.viewer.may("case")
        else None,
    }
    return render(request, "dashboard/finding.html", context, status=status)


def _next_state(finding: Reading) -> str:
    return "acknowledged" if finding.state == "open" else "resolved"


def _about(rule: str) -> Any:
    """The detector of a rule, for its words; None when this installation no longer has it."""
    return next(iter(detectors_of(rule)), None)


# --- events ---------------------------------------------------------------------------------------------------------


@page
@require_GET
def events(request: HttpRequest) -> HttpResponse:
    form = forms.EventFilters(request.GET)
    listed, chosen = queries.Page([]), {}
    if form.is_valid():
        data, chosen = form.cleaned_data, form.chosen()
        listed = queries.list_events(
            request.viewer, chosen, since=data["since"], until=data["until"], before=data["before"]
        )
    common = ("type", "layer", "provider", "target", "principal", "actor", "since", "until")
    used = [name for name in form.fields if name not in common and name != "before" and request.GET.get(name)]
    context = {
        "form": form,
        "page": listed,
        "common": [form[name] for name in common],
        "more": [form[name] for name in form.fields if name not in common and name != "before"],
        "more_open": bool(used),
        "chosen": chosen,
    }
    return render(request, "dashboard/events.html", context)


@page
@require_GET
def event(request: HttpRequest, event_id: UUID) -> HttpResponse:
    view = queries.event_view(request.viewer, event_id)
    context: dict[str, Any] = {"view": view, "event_id": event_id, "bytes": _reading(view)}
    if view.act:
        keys = {hop.party.key for hop in view.chain.hops} | {view.act.principal}
        seen = queries.seen_parties(request.viewer, keys) if view.hidden else None
        force = _in_force(request, view)
        drawn = replace(view.chain, breaks=(*view.chain.breaks, *force.get("judged", ())))
        gates = record.gates_of(request.viewer.tenant, view.act)
        context |= {
            "act": view.act,
            "chain": view.chain,
            "principal": view.act.principal
            if seen is None or view.act.principal in seen or not view.act.principal
            else queries.stub(request.viewer, view.act.principal),
            "chain_svg": chain_svg(request.viewer, drawn, seen),
            "hops": _hop_rows(request.viewer, view.chain, seen, view.act),
            "gates": gates,
            "ungated": [gate for gate in gates if gate.approval is None and view.act.happened],
            "gate_words": GATE_WORDS,
            **force,
            "joins": _joins(view),
            "story": (story := queries.story_view(request.viewer, event_id)),
            "elsewhere": None if view.chain.complete else _told_better(story, event_id),
            "cases": cases_of_event(request.viewer, str(event_id)),
            "payload": view.act.payload,
            **_stated(view),
            "client": view.act.payload.client,
        }
    return render(request, "dashboard/event.html", context)


def _told_better(story: dict[str, Any], event_id: UUID) -> dict[str, Any] | None:
    """Another source's statement of the same act whose chain leads further, the best there is."""
    others = [row for row in story["members"] if row["event_id"] != event_id and row["via_grant"]]
    return max(others, key=lambda row: (row["chain_proven"], row["chain_complete"], -row["leaf_index"]), default=None)


def _stated(view: queries.EventView) -> dict[str, Any]:
    """The grant or token that the event itself states. A statement of authority does nothing to anything, and says so."""
    act, said = view.act, view.act.payload
    given = said.grant if act.type in GRANTED and isinstance(said.grant, GrantObject) else None
    issued = said.token if isinstance(said.token, TokenObject) else None
    is_statement = layer_of(act.type) == "authority"
    return {
        "is_statement": is_statement,
        "given": None if view.hidden else given,
        "issued": None if view.hidden else issued,
    }


def _in_force(request: HttpRequest, view: queries.EventView) -> dict[str, Any]:
    """What all grants on the path together allowed at the time asked for: the act's own, unless another is chosen."""
    done_at = record.time_of(request.viewer.tenant, view.act)
    form = forms.AtForm(request.GET if "at" in request.GET else None, initial={"at": str(done_at.replace(tzinfo=None))})
    at = (form.cleaned_data["at"] if form.is_valid() else None) or done_at
    if view.hidden or not view.chain.path.grants:
        return {"at_form": form}
    judged = authority_breaks(view.chain, view.act, at)
    exceeded = judged if at == done_at else authority_breaks(view.chain, view.act, done_at)
    return {
        "at_form": form,
        "at": at,
        "effective": effective_json(view.chain, view.act, at),
        "judged": judged,
        "exceeded": exceeded,
    }


def chain_svg(viewer: Viewer, chain: Chain, seen: frozenset[str] | None) -> str:
    """Safe to put into a page: `svg.draw` escapes every text. `seen` are the parties the viewer may see; None is all."""

    def name(hop: Hop) -> str:
        return hop.party.sub if seen is None or hop.party.key in seen else queries.stub(viewer, hop.party.key)

    if seen is not None:  # reasons name grants and parties of others
        breaks = tuple(replace(found, reason=found.code.replace("_", " ")) for found in chain.breaks)
        chain = replace(chain, breaks=breaks)
    return mark_safe(svg.draw(chain, name=name))


RECORDED = {
    "before": "before the act was done",
    "told": "after the act was done, before it was told",
    "after": "only after the act was told",
    "itself": "by this event itself",
}
GATE_WORDS = {
    "approved": "approved",
    "refused": "refused",
    "not_counted": "answered, and it does not count",
    "asked": "asked for, not answered",
    "unknown": "nothing on record",
}


def _hop_rows(
    viewer: Viewer, chain: Chain, seen: frozenset[str] | None, act: Act | None = None
) -> list[dict[str, Any]]:
    organisations = organisations_of(viewer.tenant)
    grants = {grant.id: grant for grant in chain.path.grants}
    rows = []
    for hop in chain.hops:
        is_seen = seen is None or hop.party.key in seen
        recorded = recorded_when(hop, act) or "" if act else None
        rows.append({
            "hop": hop,
            "seen": is_seen,
            "stub": "" if is_seen else queries.stub(viewer, hop.party.key),
            "grant_seen": seen is None,
            "meaning": svg.meaning(hop.standing),
            "organisation": organisations.of_party(hop.party.key) if is_seen else None,
            "gain": gain_of(hop, chain, act, organisations),
            "allows": grants.get(hop.grant or ""),
            "recorded": recorded,
            "recorded_words": RECORDED.get(recorded or "", ""),
        })  # fmt: skip
    return rows


def _joins(view: queries.EventView) -> list[tuple[str, str, str]]:
    """Keys by which this event hangs together with others: (filter, what it is called, value)."""
    names = ("txn", "session", "task", "charge", "invoice", "request_id", "token")
    return [(name, queries.EVENT_KEYS[name], view.row[name]) for name in names if view.row[name]]


def _reading(view: queries.EventView) -> dict[str, Any]:
    """The stored bytes, and what they say, decoded for reading only: what counts is the bytes."""
    if view.raw is None:
        return {"absence": view.absence}
    text = view.raw.decode("utf-8", "backslashreplace")
    reading: dict[str, Any] = {"raw": text, "size": len(view.raw), "headers": "", "parts": []}
    if view.headers:
        reading["headers"] = _pretty(msgspec.json.decode(view.headers))
    pieces = text.split(".")
    if len(pieces) == 3 and "{" not in pieces[0]:
        reading["jws"] = True
        for label, piece in zip(("Header", "Payload", "Signature"), pieces, strict=True):
            reading["parts"].append(
                {"label": label, "size": len(piece), "piece": piece, "text": _decoded(label, piece)}
            )
    else:
        reading["parts"] = [{"label": "Body", "size": len(view.raw), "text": _pretty_json(text)}]
    return reading


def _decoded(label: str, piece: str) -> str:
    try:
        plain = base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4))
    except (binascii.Error, ValueError):
        return "not base64url"
    return plain.hex() if label == "Signature" else _pretty_json(plain.decode("utf-8", "backslashreplace"))


def _pretty_json(text: str) -> str:
    try:
        return _pretty(json.loads(text))
    except ValueError:
        return text


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


# --- spend, parties, grants -----------------------------------------------------------------------------------------


@page
@require_GET
def charges(request: HttpRequest) -> HttpResponse:
    form = forms.ChargeFilters(request.GET)
    listed, totals = queries.Page([]), []
    if form.is_valid():
        data = form.cleaned_data
        listed, totals = queries.list_charges(
            request.viewer,
            form.chosen(),
            now=timezone.now(),
            since=data["since"],
            until=data["until"],
            after=data["after"],
        )
    common = ("principal", "actor", "provider", "currency", "since", "until")
    more = [form[name] for name in form.fields if name not in common and name != "after"]
    context = {
        "form": form, "page": listed, "totals": totals, "common": [form[name] for name in common], "more": more,
        "more_open": any(request.GET.get(field.name) for field in more),
    }  # fmt: skip
    return render(request, "dashboard/charges.html", context)


@page
@require_GET
def sessions(request: HttpRequest) -> HttpResponse:
    """Sessions, tasks or transactions, whose last act was told last first."""
    form = forms.ThreadForm(request.GET)
    rows, kind, more = [], "session", None
    if form.is_valid():
        data = form.cleaned_data
        kind = data["kind"]
        rows = threads.threads_page(
            request.viewer, kind, beginning=data["beginning"], before=data["before"], size=queries.PAGE + 1
        )
        more = rows[queries.PAGE - 1]["last_leaf"] if len(rows) > queries.PAGE else None
    return render(
        request, "dashboard/sessions.html", {"form": form, "kind": kind, "rows": rows[: queries.PAGE], "more": more}
    )


@page
@require_GET
def timeline(request: HttpRequest) -> HttpResponse:
    """One session, task or transaction: lanes by source, one row an act however many tell of it, one exposure figure."""
    named = [(kind, request.GET[kind][:500]) for kind in threads.KINDS if request.GET.get(kind)]
    if len(named) != 1:
        return redirect("dashboard:sessions")
    thread = threads.Thread(*named[0])
    shown = queries.timeline_view(request.viewer, thread, after=request.GET.get("after", ""), now=timezone.now())
    shown["lanes_svg"] = mark_safe(
        svg.draw_lanes(shown["lanes"], shown["told"], link=lambda event_id: reverse("dashboard:event", args=[event_id]))
    )
    return render(request, "dashboard/timeline.html", {"thread": thread, **shown})


@page
@require_GET
def blast_radius(request: HttpRequest) -> HttpResponse:
    """What a grant, token, party or key touched. Its grants unfold one level at a time."""
    form = forms.ReachForm(request.GET or None)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        start = reach.Start(form.cleaned_data["kind"], form.cleaned_data["key"])
        found = reach.blast_radius(request.viewer, start)
        for name in ("agents", "principals"):
            found[name] = [f"{party['iss']}|{party['sub']}" for party in found[name]]
        leaves = reach.leaves_under(request.viewer, start, before=form.cleaned_data["before"], size=queries.PAGE + 1)
        events = queries.events_at(request.viewer, leaves[: queries.PAGE])
        context |= {"start": start, "found": found, "events": events, "now": timezone.now(),
                    "next": leaves[queries.PAGE - 1] if len(leaves) > queries.PAGE else None}  # fmt: skip
        if start.kind == "grant":
            context |= _explorer(request, start.key, request.GET.get("later", ""))
    return render(request, "dashboard/reach.html", context)


@page
@require_GET
def explore(request: HttpRequest) -> HttpResponse:
    """The explorer standing at a grant, to be put into a page."""
    if not request.GET.get("grant"):
        raise NotFound("no grant is named: the explorer stands at one (?grant=...)")
    context = _explorer(request, request.GET["grant"], request.GET.get("after", ""), must_be=True)
    return render(request, "dashboard/parts/explorer.html", context)


def _explorer(request: HttpRequest, grant_id: str, after: str, *, must_be: bool = False) -> dict[str, Any]:
    try:
        tree = explorer.explore(request.viewer, grant_id[:500], after=after[:600], now=timezone.now())
    except NotFound:
        if must_be:
            raise
        return {}
    return {"tree": tree, "tree_svg": explorer.picture(tree)}


@page
@require_GET
def inventory(request: HttpRequest) -> HttpResponse:
    """What agents made or linked, and whether it is still there."""
    form = forms.InventoryFilters(request.GET or None)
    rows = standing.holdings(request.viewer)
    if form.is_valid():
        chosen = {
            name: value
            for name, value in form.cleaned_data.items()
            if value and name not in ("live", "after", "beside")
        }
        rows = rows.filter(**chosen)
        if form.cleaned_data["live"]:
            rows = rows.filter(standing.LIVE) if form.cleaned_data["live"] == "yes" else rows.exclude(standing.LIVE)
        if form.cleaned_data["after"] and form.cleaned_data["beside"]:
            rows = standing.made_before(rows, form.cleaned_data["after"], form.cleaned_data["beside"])
    shown = list(rows[: queries.PAGE + 1])
    makers = queries.makers(request.viewer, shown[: queries.PAGE])
    listed = [(row, makers.get(row.event_id)) for row in shown[: queries.PAGE]]
    context = {"form": form, "rows": listed, "last": shown[queries.PAGE - 1] if len(shown) > queries.PAGE else None}
    return render(request, "dashboard/inventory.html", context)


@page
@require_GET
def permissions(request: HttpRequest) -> HttpResponse:
    """Who may do what, and who does: grants page by page, a row for each provider and action."""
    form = forms.PermissionFilters(request.GET or None)
    chosen = form.cleaned_data if form.is_valid() else dict.fromkeys(form.fields, "")
    of = {name: chosen[name] for name in ("principal", "agent", "after")}
    rows = standing.permissions(
        request.viewer, **of, question=chosen["show"], size=queries.PAGE + 1, now=timezone.now()
    )
    grants = list(dict.fromkeys(row["cursor"] for row in rows))[: queries.PAGE]
    more = any(row["cursor"] not in grants for row in rows)
    context = {
        "form": form,
        "rows": [_permission(row) for row in rows if row["cursor"] in grants and standing.answers(chosen["show"], row)],
        "grants": len(grants),
        "next": grants[-1] if more else "",
    }
    return render(request, "dashboard/permissions.html", context)


def _permission(row: dict[str, Any]) -> dict[str, Any]:
    agent = row["agent"]
    return row | {"agent": f"{agent['iss']}|{agent['sub']}" if agent else ""}


@page
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Two grants side by side, hop by hop."""
    request.viewer.must(WHOLE)
    form, context = forms.CompareForm(request.GET if request.GET.get("other") else None, initial=request.GET.dict()), {}
    if form.is_valid():
        try:
            found = standing.compare(request.viewer, **form.cleaned_data)
            context = {"found": found, "hops": [_compared(hop) for hop in found["hops"]]}
        except NotFound as error:
            form.add_error(None, str(error))
    return render(request, "dashboard/compare.html", {"form": form} | context)


_TERMS = {
    "subject": "Given by", "actor": "To", "authorization_details": "Scope", "limits": "Limits", "audience": "For providers",
    "gates": "Gates", "intent": "Intent", "key": "Bound to key", "granted_at": "Given", "dated": "Says when it was given",
    "not_before": "From", "expires_at": "Until", "max_depth": "Hops below, at most", "redelegate": "May be passed on",
    "revoked_at": "Revoked", "standing": "Standing", "attester": "Attested by",
}  # fmt: skip


def _compared(hop: dict[str, Any]) -> dict[str, Any]:
    """One hop as rows of (what, in the one, in the other, whether they differ); a side without that hop is None."""
    sides = hop["one"], hop["other"]
    rows = [
        (label, *(side and _term(name, side[name]) for side in sides), name in hop["differs"])
        for name, label in _TERMS.items()
        if any(side and side[name] is not None for side in sides)  # what neither says is not worth a line
    ]
    return {
        "position": hop["position"],
        "same": hop["same"],
        "grants": [side and side["grant"] for side in sides],
        "rows": rows,
    }


def _term(name: str, value: Any) -> str:
    if value is None:
        return "not said"
    if name in ("subject", "actor"):
        return f"{value['sub']} ({value['iss']})"
    if name == "authorization_details":
        return (
            "; ".join(
                f"{', '.join(d.get('actions') or ['any action'])} on {', '.join(d.get('resources') or ['anything'])}"
                + (f" at {', '.join(d['providers'])}" if d.get("providers") else "")
                + (f", not {json.dumps(d['deny'], ensure_ascii=False)}" if d.get("deny") else "")
                for d in value
            )
            or "nothing"
        )
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if name == "limits":
        return "; ".join(_limit(each) for each in value) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _limit(limit: dict[str, Any]) -> str:
    amount = (
        "no limit"
        if limit.get("max_minor") is None
        else amount_text(limit["max_minor"], limit.get("currency") or "of no stated currency")
    )
    return f"{limit.get('scope') or 'limit'}: {amount} per {limit.get('interval') or 'once'}, {limit.get('enforcement') or 'hard'}"


@page
@require_GET
def parties(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    if key := request.GET.get("key"):
        return render(request, "dashboard/party.html", queries.party_view(request.viewer, key, now=now) | {"now": now})
    kind, contains = request.GET.get("kind", ""), request.GET.get("q", "")[:300]
    listed = queries.list_parties(request.viewer, kind=kind, contains=contains, after=request.GET.get("after", ""))
    kinds = ("human", "agent", "workload", "service", "unknown")
    return render(request, "dashboard/parties.html", {"page": listed, "kind": kind, "q": contains, "kinds": kinds})


@page
@require_GET
def grant(request: HttpRequest, grant_id: str) -> HttpResponse:
    view = queries.grant_view(request.viewer, grant_id, now=timezone.now())
    view["chain_svg"] = chain_svg(request.viewer, view["chain"], None) if view["chain"] else ""
    view["hops"] = _hop_rows(request.viewer, view["chain"], None) if view["chain"] else []
    return render(request, "dashboard/grant.html", view | {"now": timezone.now()})


# --- search ---------------------------------------------------------------------------------------------------------


@page
@require_GET
def search(request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()
    found = queries.find(request.viewer, text)
    if len(found) == 1:
        return redirect(found[0][2])
    return render(request, "dashboard/search.html", {"q": text, "found": found})


# --- cases ----------------------------------------------------------------------------------------------------------


@page
@require_http_methods(["GET", "POST"])
def cases(request: HttpRequest) -> HttpResponse:
    """The list; a POST opens a case about a finding."""
    if request.method == "POST":
        return _open_case(request)
    state, awaiting = request.GET.get("state", ""), request.GET.get("awaiting", "")
    rows, following = list_cases(
        request.viewer, state=state, awaiting=awaiting, before=request.GET.get("before", ""), limit=queries.PAGE
    )
    context = {
        "rows": rows, "next": following, "state": state, "awaiting": awaiting, "states": STATES,
        "awaited": sorted(set(AWAITING.values())),
    }  # fmt: skip
    return render(request, "dashboard/cases.html", context)


def _open_case(request: HttpRequest) -> HttpResponse:
    request.viewer.must("case")
    form = forms.OpenCaseForm(request.POST)
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
    form, status = forms.MoveForm(moves=allowed), 200
    if request.method == "POST":
        form = forms.MoveForm(request.POST, moves=allowed)
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
        "page": shown, "case": shown.case, "form": form, "allowed": allowed,
        "refused": [one for one in shown.moves if not one.allowed],
        "acts": acts, "verdicts": [(act, verdict_of.get(str(act.event_id))) for act in acts],
    }  # fmt: skip
    return render(request, "dashboard/case.html", context, status=status)


# --- integrity ------------------------------------------------------------------------------------------------------


@page
@require_http_methods(["GET", "POST"])
def integrity(request: HttpRequest) -> HttpResponse:
    """Whether the log holds: its size and signature, witnesses, holds, verification, and which sources are heard."""
    viewer = request.viewer
    viewer.must(WHOLE)
    if request.method == "POST":
        viewer.must("triage")
        verify_logs.apply_async([viewer.tenant.name], expires=600, retry=False)
        messages.success(request, "A verification was asked for. It shows below once a worker has done it.")
        return redirect("dashboard:integrity")
    found = inspect(viewer.tenant, now=timezone.now())
    return render(request, "dashboard/integrity.html", {"log": found, "may_verify": viewer.may("triage")})
