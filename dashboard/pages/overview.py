"""The overview: what happened, what was spent, what is open; and the search box."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db import connection
from django.db.models import Q, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET

from auditlog.core.amount import minor
from auditlog.core.chain.act import ACT_TYPES
from auditlog.core.event import layer_of
from auditlog.core.money.exposure import exposure_by_day
from auditlog.ledger.append import EPOCH
from auditlog.models import Checkpoint, Leaf, LogHead, ProjectionState, Source
from auditlog.models import Grant as GrantRow
from auditlog.models import Party as PartyRow
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from auditlog.reads.money import exposure_facts
from dashboard.pages.events import EVENT_KEYS, list_events
from dashboard.pages.findings import finding_counts, list_findings
from dashboard.parts.access import page
from dashboard.parts.queries import SEVERITIES, is_desk, named_parties, visible_events, visible_findings
from dashboard.pictures import charts
from dashboard.pictures.plotly_css import guard_ids, style_sheet


def activity(viewer: Viewer, *, since: datetime | None, until: datetime) -> dict[str, Any]:
    """Events by day and layer, by source, and how many acts have a proven chain: one pass over the window."""
    only = " AND provider = %s" if is_desk(viewer) else ""
    after = " AND occurred_at >= %s" if since else ""
    params: list = [viewer.tenant.pk, generation_of(viewer.tenant), until]
    params += ([since] if since else []) + ([viewer.provider] if only else [])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (occurred_at AT TIME ZONE 'UTC')::date, type, source, environment = 'live', count(*),"
            " count(*) FILTER (WHERE chain_proven), max(received_at)"
            f" FROM projection_event WHERE tenant_id = %s AND generation = %s AND occurred_at < %s{after}{only}"
            " GROUP BY 1, 2, 3, 4",
            params,
        )
        rows = cursor.fetchall()
    by_day: dict[tuple, int] = {}
    by_source: dict[str, dict] = {}
    attributed: dict[str, list[int]] = {}  # by source: acts with a proven chain, and all acts
    acts = proven = total = 0
    for day, event_type, source, live, count, with_chain, last in rows:
        total += count
        by_day[day, layer_of(event_type)] = by_day.get((day, layer_of(event_type)), 0) + count
        heard = by_source.setdefault(source, {"count": 0, "last": last})
        heard["count"] += count
        heard["last"] = max(heard["last"], last)
        if live and event_type in ACT_TYPES:
            acts += count
            proven += with_chain
            mine = attributed.setdefault(source, [0, 0])
            mine[0], mine[1] = mine[0] + with_chain, mine[1] + count
    return {
        "attributed": attributed,
        "by_day": by_day,
        "by_source": by_source,
        "acts": acts,
        "proven": proven,
        "total": total,
    }


def sources(viewer: Viewer, heard: Mapping[str, dict]) -> list[dict]:
    """Configured senders with what the window heard of them. The abuse desk sees its own provider's."""
    rows = Source.objects.filter(tenant=viewer.tenant).order_by("name")
    if is_desk(viewer):
        rows = rows.filter(provider=viewer.provider)
    return [
        {"name": row.name, "state": row.state, "format": row.format, "provider": row.provider,
         "count": heard.get(row.name, {}).get("count", 0), "last": heard.get(row.name, {}).get("last")}
        for row in rows
    ]  # fmt: skip


def log_state(viewer: Viewer) -> dict[str, Any]:
    head = LogHead.objects.filter(tenant=viewer.tenant, epoch=EPOCH).values_list("size", flat=True).first() or 0
    last = Checkpoint.objects.filter(tenant=viewer.tenant, epoch=EPOCH).order_by("-size").first()
    state = ProjectionState.objects.get(tenant=viewer.tenant, is_current=True)
    return {
        "size": head,
        "checkpoint": last,
        "unsigned": head - (last.size if last else 0),
        "unprojected": head - state.position,
        "undetected": max(0, state.position - state.detected),
    }


def spend_by_day(viewer: Viewer, *, since: datetime | None, until: datetime) -> list[tuple]:
    """(day, provider, currency, spent minor units) of charges that moved money."""
    only = " AND provider = %s" if is_desk(viewer) else ""
    after = " AND at >= %s" if since else ""
    params: list = [viewer.tenant.pk, generation_of(viewer.tenant), until]
    params += ([since] if since else []) + ([viewer.provider] if only else [])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (at AT TIME ZONE 'UTC')::date, provider, currency, sum(spent)"
            f" FROM projection_charge WHERE tenant_id = %s AND generation = %s AND has_spend AND at < %s{after}{only}"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            params,
        )
        return [(day, provider, currency, minor(spent)) for day, provider, currency, spent in cursor.fetchall()]


def newest_event(viewer: Viewer) -> datetime | None:
    return visible_events(viewer).order_by("-leaf_index").values_list("occurred_at", flat=True).first()


def find(viewer: Viewer, text: str) -> list[tuple[str, str, str]]:
    """What a pasted word could be: (what it is, the word, where it leads), the surest first."""
    text = text.strip()
    if not text or len(text) > 700:
        return []
    found: list[tuple[str, str, str]] = []
    try:
        event_id = UUID(text)
    except ValueError:
        pass
    else:
        if Leaf.objects.filter(tenant=viewer.tenant, event_id=event_id).exists() and (
            not is_desk(viewer) or visible_events(viewer).filter(event_id=event_id).exists()
        ):
            return [("Event", text, reverse("dashboard:event", args=[event_id]))]
    generation = generation_of(viewer.tenant)
    parties = PartyRow.objects.filter(tenant=viewer.tenant, generation=generation)
    if is_desk(viewer):
        parties = parties.filter(key__in=named_parties(viewer))
    matching = parties.filter(Q(key=text) | Q(key__endswith=f"|{text}")).values_list("key", flat=True)[:10]
    found += [("Party", key, reverse("dashboard:parties") + "?" + urlencode({"key": key})) for key in matching]
    if not is_desk(viewer) and GrantRow.objects.filter(tenant=viewer.tenant, generation=generation, id=text).exists():
        found.append(("Grant", text, reverse("dashboard:grant", args=[text])))
    if text.removeprefix("#").isdigit() and len(text) < 15:
        number = int(text.removeprefix("#"))
        if visible_findings(viewer).filter(pk=number).exists():
            found.append(("Finding", f"#{number}", reverse("dashboard:finding", args=[number])))
        at_leaf = visible_events(viewer).filter(leaf_index=number).values_list("event_id", flat=True).first()
        if at_leaf:
            found.append(("Event at leaf", str(number), reverse("dashboard:event", args=[at_leaf])))
    spellings = {text, text.lower().rstrip("."), text.lower().removeprefix("https://").strip("/").rstrip(".")}
    keys = ("target", "charge", "invoice", "txn", "session", "task", "request_id", "token", "source_event_id",
            "account", "ip", "provider", "type", "source")  # fmt: skip
    events = visible_events(viewer)
    probes = [
        events.filter(**{key: spelling}).order_by().values_list(Value(key), Value(spelling))[:1]
        for key in keys
        for spelling in sorted(spellings)
    ]
    first, *rest = probes
    for key, spelling in first.union(*rest, all=True):
        found.append(
            (
                f"Events by {EVENT_KEYS[key].lower()}",
                spelling,
                reverse("dashboard:events") + "?" + urlencode({key: spelling}),
            )
        )
    return found


WINDOWS = {"1": timedelta(days=1), "7": timedelta(days=7), "30": timedelta(days=30), "90": timedelta(days=90)}


@require_GET
@cache_control(public=True, max_age=86_400)
def plotly_css(request: HttpRequest) -> HttpResponse:
    return HttpResponse(style_sheet(), content_type="text/css; charset=utf-8")


@page
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    viewer, now = request.viewer, timezone.now()
    window = request.GET.get("days", "30")
    window = window if window in WINDOWS else "30"
    first_day = (now - WINDOWS[window]).date() + timedelta(days=1)
    since = datetime.combine(first_day, datetime.min.time(), UTC)
    days = [first_day + timedelta(days=n) for n in range((now.date() - first_day).days + 1)]
    acts = activity(viewer, since=since, until=now + timedelta(days=1))
    spent = spend_by_day(viewer, since=since, until=now + timedelta(days=1))
    counts = finding_counts(viewer)
    log = log_state(viewer)
    context = {
        "now": now,
        "guard_ids": guard_ids(),
        "window": window,
        "windows": list(WINDOWS),
        "since": first_day,
        "acts": acts,
        "unproven": acts["acts"] - acts["proven"],
        "log": log,
        "sources": sources(viewer, acts["by_source"]),
        "by_severity": _by_severity(counts),
        "worst": list_findings(viewer, {"state": "open"}, limit=8).rows,
        "recent": list_events(viewer, {}, limit=8).rows,
        "spend_totals": _totals(spent),
        "newest": newest_event(viewer) if not acts["total"] else None,
        "charts": [
            charts.events_per_day(acts["by_day"], days=days, link=_events_link),
            charts.attribution(acts["attributed"], since=first_day, link=_events_link),
            charts.findings_by_rule(counts, link=_findings_link),
            *charts.spend_per_day(spent, days=days, link=_charges_link),
            *charts.exposure(exposure_by_day(days, *exposure_facts(viewer), now=now), link=_events_link_of_authorities),
        ],
    }
    return render(request, "dashboard/overview.html", context)


def _by_severity(counts: list[dict]) -> list[tuple[str, int]]:
    return [(name, sum(row["count"] for row in counts if row["severity"] == name)) for name in SEVERITIES]


def _totals(spent: list[tuple]) -> list[tuple[str, int]]:
    totals: dict[str, int] = {}
    for _, _, currency, amount in spent:
        totals[currency] = totals.get(currency, 0) + amount
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


@page
@require_GET
def search(request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()
    found = find(request.viewer, text)
    if len(found) == 1:
        return redirect(found[0][2])
    return render(request, "dashboard/search.html", {"q": text, "found": found})
