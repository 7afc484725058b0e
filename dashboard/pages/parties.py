"""Parties and grants: the lists, and one with everything about it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.core import party as kinds
from auditlog.core.chain.breaks import chain_to
from auditlog.core.chain.chain import with_kinds
from auditlog.core.errors import NotFound, NotPermitted
from auditlog.core.event import Party
from auditlog.models import Grant as GrantRow
from auditlog.models import Party as PartyRow
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from auditlog.reads.chains import paths_to
from auditlog.reads.parties import kinds_of, organisations_of
from auditlog.reads.read_findings import read_findings
from dashboard.parts.access import page
from dashboard.parts.chain import chain_svg, hop_rows
from dashboard.parts.queries import (
    PAGE,
    RANK,
    ROW,
    Page,
    conceal,
    is_desk,
    named_parties,
    seen_parties,
    spent_by,
    visible_charges,
    visible_events,
    visible_findings,
)


def list_parties(viewer: Viewer, *, kind: str = "", contains: str = "", after: str = "", limit: int = PAGE) -> Page:
    """Parties by key. The abuse desk's are those its own provider's events name as actor or principal."""
    generation = generation_of(viewer.tenant)
    parties = PartyRow.objects.filter(tenant=viewer.tenant, generation=generation)
    if is_desk(viewer):
        parties = parties.filter(key__in=named_parties(viewer))
    if kind:
        parties = parties.filter(kinds__in=[mask for mask in range(256) if kinds.kind_of(mask) == kind])
    if contains:
        parties = parties.filter(key__icontains=contains)
    if after:
        parties = parties.filter(key__gt=after)
    rows = list(parties.order_by("key").values("key", "kinds", "first_at", "last_at")[: limit + 1])
    keys = [row["key"] for row in rows[:limit]]
    acted = dict(
        visible_events(viewer)
        .filter(actor__in=keys)
        .values_list("actor")
        .annotate(count=Count("leaf_index"))
        .order_by()
    )
    named = dict(
        visible_events(viewer)
        .filter(principal__in=keys)
        .values_list("principal")
        .annotate(count=Count("leaf_index"))
        .order_by()
    )
    times = _own_times(viewer, keys) if is_desk(viewer) else {}
    for row in rows:
        row |= times.get(row["key"], {}) | {
            "kind": kinds.kind_of(row.pop("kinds")),
            "acted": acted.get(row["key"], 0),
            "named": named.get(row["key"], 0),
        }
    return Page(rows[:limit], rows[limit - 1]["key"] if len(rows) > limit else "")


def _own_times(viewer: Viewer, keys: Iterable[str]) -> dict[str, dict[str, datetime]]:
    """When the viewer's own events name these parties first and last: what others said of them, and when, is theirs."""
    keys, found = set(keys), {}
    named = visible_events(viewer).filter(Q(actor__in=keys) | Q(claimed_principal__in=keys))
    for *pair, first, last in named.values_list("actor", "claimed_principal").annotate(
        Min("occurred_at"), Max("occurred_at")
    ):
        for key in keys.intersection(pair):
            before = found.get(key, {"first_at": first, "last_at": last})
            found[key] = {"first_at": min(first, before["first_at"]), "last_at": max(last, before["last_at"])}
    return found


def party_view(viewer: Viewer, key: str, *, now: datetime) -> dict[str, Any]:
    """Everything about one party. Raises NotFound."""
    generation = generation_of(viewer.tenant)
    known = PartyRow.objects.filter(tenant=viewer.tenant, generation=generation, key=key).first()
    events = visible_events(viewer)
    as_actor, as_principal = events.filter(actor=key), events.filter(principal=key)
    if known is None or key not in seen_parties(viewer, [key]):
        raise NotFound(f"no party {key}")
    kind = kinds.kind_of(known.kinds)
    charges = visible_charges(viewer)
    grants = GrantRow.objects.filter(tenant=viewer.tenant, generation=generation)
    side = "principal" if kind == "human" else "actor"
    named = grants.filter(Q(actor=key) | Q(principal=key)).order_by("-leaf_index")
    findings = visible_findings(viewer).filter(Q(principal=key) | Q(actor=key))
    in_force = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    return {
        "key": key,
        "party": Party.of(key),
        "organisation": organisations_of(viewer.tenant).of_party(key),
        "kind": kind,
        "side": side,
        **(
            _own_times(viewer, [key])[key]
            if is_desk(viewer)
            else {"first_at": known.first_at, "last_at": known.last_at}
        ),
        "agents": _with_kinds(viewer, _others(as_principal.exclude(actor=key), "actor")),
        "principals": _with_kinds(viewer, _others(as_actor.exclude(principal=key), "principal")),
        "spend": spent_by(charges.filter(**{side: key}), "currency", "provider", now=now),
        "grants_open": [] if is_desk(viewer) else list(named.filter(in_force)[: PAGE + 1]),
        "grants_ended": [] if is_desk(viewer) else list(named.exclude(in_force)[:PAGE]),
        "findings": read_findings(viewer, list(findings.annotate(rank=RANK).order_by("-rank", "-id")[:PAGE])),
        "events": conceal(
            viewer, list(events.filter(Q(actor=key) | Q(principal=key)).order_by("-leaf_index").values(*ROW)[:15])
        ),
        "sessions": _latest_sessions(events.filter(Q(actor=key) | Q(principal=key))),
        "hidden": is_desk(viewer),
    }


def _latest_sessions(events: QuerySet) -> list[str]:
    """The sessions of the latest of these events, the last one first."""
    named = events.order_by("-leaf_index").values_list("session", flat=True)[:200]
    return [session for session in dict.fromkeys(named) if session][:8]


def _others(events: QuerySet, column: str) -> list[dict]:
    rows = events.values(column).annotate(count=Count("leaf_index")).order_by("-count", column)[:PAGE]
    return [{"key": row[column], "count": row["count"]} for row in rows]


def _with_kinds(viewer: Viewer, rows: list[dict]) -> list[dict]:
    known = kinds_of(viewer.tenant, generation_of(viewer.tenant), {row["key"] for row in rows} - {""})
    rows = [row | {"kind": known.get(row["key"], "unknown")} for row in rows]
    return conceal(viewer, rows, ("key",))


def grant_view(viewer: Viewer, grant_id: str, *, now: datetime) -> dict[str, Any]:
    """A grant as it stands, with those above and below it. Raises NotFound, NotPermitted."""
    if is_desk(viewer):
        raise NotPermitted("an abuse desk sees its own provider's events; grants are another party's papers")
    generation = generation_of(viewer.tenant)
    rows = GrantRow.objects.filter(tenant=viewer.tenant, generation=generation)
    row = rows.filter(id=grant_id).first()
    path = paths_to(viewer.tenant, [grant_id])[grant_id]
    used = visible_events(viewer).filter(via_grant=grant_id)
    if row is None and not used.exists():
        raise NotFound(f"no grant {grant_id}")
    chain = chain_to(path)
    known = kinds_of(viewer.tenant, generation, {hop.party.key for hop in chain.hops})
    return {
        "id": grant_id,
        "row": row,
        "grant": path.grants[-1] if path.grants and path.grants[-1].id == grant_id else None,
        "path": path,
        "chain": with_kinds(chain, known) if chain.hops or chain.breaks else None,
        "below": list(rows.filter(parent=grant_id).order_by("leaf_index")[:PAGE]),
        "spend": spent_by(visible_charges(viewer).filter(grant=grant_id), "currency", "provider", now=now),
        "events": list(used.order_by("-leaf_index").values(*ROW)[:15]),
        "findings": read_findings(viewer, list(visible_findings(viewer).filter(grant=grant_id).order_by("-id")[:PAGE])),
    }


@page
@require_GET
def parties(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    if key := request.GET.get("key"):
        return render(request, "dashboard/party.html", party_view(request.viewer, key, now=now) | {"now": now})
    kind, contains = request.GET.get("kind", ""), request.GET.get("q", "")[:300]
    listed = list_parties(request.viewer, kind=kind, contains=contains, after=request.GET.get("after", ""))
    kinds = ("human", "agent", "workload", "service", "unknown")
    return render(request, "dashboard/parties.html", {"page": listed, "kind": kind, "q": contains, "kinds": kinds})


@page
@require_GET
def grant(request: HttpRequest, grant_id: str) -> HttpResponse:
    view = grant_view(request.viewer, grant_id, now=timezone.now())
    view["chain_svg"] = chain_svg(request.viewer, view["chain"], None) if view["chain"] else ""
    view["hops"] = hop_rows(request.viewer, view["chain"], None) if view["chain"] else []
    return render(request, "dashboard/grant.html", view | {"now": timezone.now()})
