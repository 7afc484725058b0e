"""Standing: what privilege is there, who uses it, what differs between two grants, and what agents have made.

The permission matrix lays every grant's allowances beside what was done under it: granted and unused is standing
privilege, which is what a reviewer takes away first.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import F, Q, QuerySet

from auditlog.core.chain.act import verb_of
from auditlog.core.chain.authority import action_matches
from auditlog.core.chain.chain import Path
from auditlog.core.chain.statement import Grant, grant_of
from auditlog.core.errors import NotFound
from auditlog.core.holding import recoverable
from auditlog.core.party import split_party
from auditlog.models import Event, Holding, Role
from auditlog.projection.generation import generation_of
from auditlog.reads.access import WHOLE, Viewer
from auditlog.reads.chains import paths_to
from auditlog.reads.reach import count_children
from auditlog.reads.sight import visible_events

# What a reviewer asks of the matrix, by name.
QUESTIONS = {
    "unused": "allowed, in force and never used",
    "outside": "done without being allowed",
    "endless": "in force without an end",
}


def answers(question: str, row: Mapping[str, Any]) -> bool:
    """Whether a row of the matrix answers one of QUESTIONS; "" is answered by all."""
    match question:
        case "unused":
            # What was passed on may be used below: its own rows there say so.
            return bool(row["allowed"]) and row["live"] and not row["used"] and not row["passed_on"]
        case "outside":
            return row["allowed"] is False
        case "endless":
            return row["live"] and row["ends_at"] is None
    return True


# Questions about what is in force: grants that ended themselves are not read for them, page after page of none.
OF_THE_LIVE = frozenset({"unused", "endless"})


def permissions(
    viewer: Viewer,
    *,
    principal: str = "",
    agent: str = "",
    after: str = "",
    question: str = "",
    size: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """The matrix, a row for each grant, provider and action pattern; `cursor` is the grant's id, pages break between grants.

    With a `question` of OF_THE_LIVE only of grants that have not ended themselves; whether a row answers it, see `answers`.
    """
    viewer.must(WHOLE)
    wanted = [("principal", principal), ("actor", agent)]
    named = [(column, value) for column, value in wanted if value]
    where = "".join(f" AND {column} = %s" for column, _ in named)
    ends: list[datetime] = []
    if question in OF_THE_LIVE:
        where += " AND (revoked_at IS NULL OR revoked_at > %s) AND (expires_at IS NULL OR expires_at > %s)"
        ends = [now, now]
    scope = [viewer.tenant.pk, generation_of(viewer.tenant)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, history FROM projection_grant WHERE tenant_id = %s AND generation = %s AND stated"
            f" AND id > %s{where} ORDER BY id LIMIT %s",
            [*scope, after, *(value for _, value in named), *ends, size],
        )
        grants = [grant for _, history in cursor.fetchall() if (grant := grant_of(bytes(history)))]
        cursor.execute(
            "SELECT via_grant, provider, type, verb, count(*), max(occurred_at) FROM projection_event"
            " WHERE tenant_id = %s AND generation = %s AND via_grant = ANY(%s) AND via_grant <> ''"
            " AND outcome = 'success' AND environment = 'live' GROUP BY 1, 2, 3, 4",
            [*scope, [grant.id for grant in grants]],
        )
        used: dict[str, list[Used]] = {}
        for via, provider, type_, said, count, last in cursor.fetchall():
            if verb := verb_of(type_, said):
                used.setdefault(via, []).append(Used(provider, verb, type_, said, count, last))
    paths = paths_to(viewer.tenant, [grant.id for grant in grants])
    below = count_children(viewer, [grant.id for grant in grants])
    return [
        row
        for grant in grants
        for row in _rows_of(grant, paths[grant.id], used.get(grant.id, []), below.get(grant.id, 0), now)
    ]


class Used(NamedTuple):
    """What was done under one grant, of one kind at one provider."""

    provider: str
    verb: str
    type: str
    said: str  # the verb as the events say it; "" when their type alone does
    count: int
    last: datetime


def _rows_of(grant: Grant, path: Path, used: list[Used], passed_on: int, now: datetime) -> list[dict[str, Any]]:
    """A grant is in force while all above it are. `ended_by` is the first on its path that ended, `ends_at` when it will."""
    ends = [(end, each) for each in path.grants for end in (each.revoked_at, each.expires_at) if end is not None]
    first = min(ends, key=lambda pair: (pair[0], pair[1].id != grant.id), default=None)
    ended = first if first and first[0] <= now else None
    common = {
        "cursor": grant.id,
        "grant": grant.id,
        "agent": split_party(grant.actor.key if grant.actor else ""),
        "granted_at": grant.granted_at,
        "expires_at": grant.expires_at,
        "revoked_at": grant.revoked_at,
        "lifetime_s": int((grant.expires_at - grant.granted_at).total_seconds()) if grant.expires_at else None,
        "live": ended is None and all(each.begins_at is None or each.begins_at <= now for each in path.grants),
        "ends_at": first[0] if first else None,
        "ended_by": ended and {"grant": ended[1].id, "at": ended[0], "revoked": ended[0] == ended[1].revoked_at},
        "passed_on": passed_on,
        "standing": grant.standing,
    }
    rows = []
    denied = {
        u.verb
        for u in used
        for d in grant.details or ()
        if d.deny and any(action_matches(p, u.verb) for p in d.deny.actions)
    }
    for detail in grant.details or ():
        for provider in detail.providers or [""]:
            for action in detail.actions or ["**"]:
                fitting = [
                    u
                    for u in used
                    if (not provider or u.provider == provider)
                    and action_matches(action, u.verb)
                    and u.verb not in denied
                ]
                rows.append(common | {"provider": provider or None, "action": action, "resources": list(detail.resources),
                                      "allowed": True} | _use(fitting))  # fmt: skip
    if grant.details is None:  # inherited, or in a root unknown: what was done is all there is to say
        rows.append(common | {"provider": None, "action": None, "resources": [], "allowed": None} | _use(used))
        return rows
    for one in sorted(used):
        fitting = [d for d in grant.details if any(action_matches(a, one.verb) for a in d.actions or ["**"])]
        if one.verb not in denied and any(not d.providers or one.provider in d.providers for d in fitting):
            continue
        # Where the events name no provider, nobody knows whether it was one of those that the grant allows.
        allowed = None if fitting and not one.provider and one.verb not in denied else False
        rows.append(
            common
            | {"provider": one.provider or None, "action": one.verb, "resources": [], "allowed": allowed}
            | _use([one])
        )
    return rows


def _use(used: list[Used]) -> dict[str, Any]:
    return {
        "used": sum(u.count for u in used),
        "last_used": max((u.last for u in used), default=None),
        "uses": [
            {"provider": u.provider or None, "type": u.type, "verb": u.said or None, "count": u.count}
            for u in sorted(used)[:20]
        ],
    }


def compare(viewer: Viewer, one: str, other: str) -> dict[str, Any]:
    """Two grants hop by hop: what each path says, and where the two differ. Raises NotFound for a grant not on record."""
    viewer.must(WHOLE)
    paths = paths_to(viewer.tenant, [one, other])
    for grant_id in (one, other):
        if not paths[grant_id].grants:
            raise NotFound(f"no source ever spoke of grant {grant_id[:80]}")
    left, right = (_terms(paths[grant_id]) for grant_id in (one, other))
    shared = sum(1 for a, b in zip(paths[one].grants, paths[other].grants, strict=False) if a.id == b.id)
    hops = []
    for place in range(max(len(left), len(right))):
        a, b = (terms[place] if place < len(terms) else None for terms in (left, right))
        differs = (
            sorted(key for key in (a or b) if key != "grant" and (a or {}).get(key) != (b or {}).get(key))
            if place >= shared
            else []
        )
        hops.append({"position": place, "one": a, "other": b, "same": place < shared, "differs": differs})
    missing = {side: paths[grant_id].missing for side, grant_id in (("one", one), ("other", other))}
    return {"one": one, "other": other, "shared_hops": shared, "missing": missing, "hops": hops}


def _terms(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "grant": grant.id,
            "subject": split_party(grant.subject.key if grant.subject else ""),
            "actor": split_party(grant.actor.key if grant.actor else ""),
            "authorization_details": None if grant.details is None else msgspec.to_builtins(grant.details),
            "limits": None if grant.limits is None else msgspec.to_builtins(grant.limits),
            "audience": None if grant.audience is None else list(grant.audience),
            "gates": None if grant.gates is None else list(grant.gates),
            "intent": None if grant.intent is None else msgspec.to_builtins(grant.intent),
            "key": grant.jkt,
            "granted_at": grant.granted_at,
            "dated": grant.dated,
            "not_before": grant.not_before,
            "expires_at": grant.expires_at,
            "max_depth": grant.max_depth,
            "redelegate": grant.redelegate,
            "revoked_at": grant.revoked_at,
            "standing": grant.standing,
            "attester": grant.attester,
        }
        for grant in path.grants
    ]


# --- what there is --------------------------------------------------------------------------------------------------


def holdings(viewer: Viewer) -> QuerySet[Holding]:
    """What was made or linked, newest first; of an abuse desk, at its own provider."""
    rows = Holding.objects.filter(tenant=viewer.tenant, generation=generation_of(viewer.tenant), made_at__isnull=False)
    rows = rows.order_by("-made_at", "-event_id")
    return rows.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else rows


def made_before(rows: QuerySet[Holding], at: datetime, event_id: UUID) -> QuerySet[Holding]:
    """Those that come after this place in the list: several may have been made at one instant."""
    return rows.filter(Q(made_at__lt=at) | Q(made_at=at, event_id__lt=event_id))


LIVE = Q(ended_at__isnull=True) | Q(ended_at__lt=F("last_made_at"))


def makers(viewer: Viewer, rows: list[Holding]) -> Mapping[Any, Event]:
    """By event id: the acts that made these."""
    events = visible_events(viewer).filter(event_id__in=[row.event_id for row in rows]).defer("detail")
    return {event.event_id: event for event in events}


def holding_json(row: Holding, event: Event | None, party) -> dict[str, Any]:
    """One holding. What nobody said is null: unknown stays unknown."""
    return {
        "kind": row.kind,
        "id": row.id,
        "provider": row.provider or None,
        "customer_of_record": row.account or None,
        "how": row.how,
        "matched_by": row.matched_by or None,
        "made_at": row.made_at,
        "live": row.is_live,
        "ended_at": None if row.is_live else row.ended_at,
        "recoverable": recoverable(row.kind, is_live=row.is_live),
        "reachable_without_orchestrator": None,  # no sender says so yet
        "transferable": None,
        "made_by": party(event.actor) if event else None,
        "principal": party(event.principal, claimed=event.principal_claimed) if event else None,
        "grant": (event.via_grant or None) if event else None,
        "event": str(row.event_id),
    }
