"""What the pages read: plain reads over the projection tables, by tenant and current generation.

The abuse desk sees its own provider's events and nothing else; every function here takes the `Viewer` for that reason.
Lists are read a page at a time by key (leaf index, finding id), never by offset, and never a query a row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db import connection
from django.db.models import Case, Count, IntegerField, Max, Min, Q, QuerySet, Sum, Value, When
from django.urls import reverse

from auditlog.api.chain_json import chain_to
from auditlog.api.story_json import story_json
from auditlog.core import party as kinds
from auditlog.core.acts.story import Story, disagreements
from auditlog.core.amount import minor
from auditlog.core.chain.act import ACT_TYPES, Act
from auditlog.core.chain.chain import Chain, with_kinds
from auditlog.core.chain.statement import Grant
from auditlog.core.errors import NotFound, NotPermitted
from auditlog.core.event import LAYER_OF_TYPE, LAYERS, Party, layer_of
from auditlog.core.log import leaf as leaves
from auditlog.core.log.absence import Absence
from auditlog.core.money.exposure import is_open
from auditlog.core.reading import Reading
from auditlog.ledger.absence import absence_of
from auditlog.ledger.append import EPOCH
from auditlog.models import (
    Charge,
    Checkpoint,
    Finding,
    Holding,
    Leaf,
    LogHead,
    Payload,
    ProjectionState,
    Role,
    Source,
    Triage,
)
from auditlog.models import Grant as GrantRow
from auditlog.models import Party as PartyRow
from auditlog.models.ledger import KIND_NAMES
from auditlog.reads import queries as record
from auditlog.reads.access import Viewer
from auditlog.reads.read_findings import read_findings, title_for_every_reader
from auditlog.reads.sight import Sight
from auditlog.reads.stories import stories_around
from auditlog.reads.threads import Linked, Thread, linked_to, thread_exposure, timeline

PAGE = 50
# Filters of the events list that compare one column, as the API names them, with what a reader calls them.
EVENT_KEYS = {
    "type": "Type",
    "verb": "Verb",
    "outcome": "Outcome",
    "environment": "Environment",
    "principal": "Principal",
    "actor": "Actor",
    "provider": "Provider",
    "account": "Account",
    "target": "Target",
    "grant": "Grant",
    "token": "Token",
    "txn": "Transaction",
    "session": "Session",
    "task": "Task",
    "charge": "Charge",
    "invoice": "Invoice",
    "request_id": "Request",
    "ip": "IP address",
    "source": "Source",
    "source_event_id": "Source event id",
}
ROW = (
    "leaf_index", "event_id", "type", "source", "source_event_id", "occurred_at", "received_at", "outcome",
    "environment", "principal", "principal_claimed", "actor", "provider", "target", "verb", "amount_minor", "currency",
    "phase", "book", "grade", "via_grant", "chain_complete", "chain_proven", "chain_depth",
)  # fmt: skip
SEVERITIES = ("critical", "high", "medium", "low", "info")
_RANK = Case(
    *(When(severity=name, then=Value(rank)) for rank, name in enumerate(reversed(SEVERITIES))),
    output_field=IntegerField(),
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, and the key to ask for the next one with; "" when this is the last."""

    rows: list
    next: str = ""


def is_desk(viewer: Viewer) -> bool:
    """Whether the viewer is a provider's abuse desk, which sees only that provider's events."""
    return viewer.role == Role.ABUSE


def stub(viewer: Viewer, key: str) -> str:
    """A party that the viewer may not see, under a name that is the same everywhere and tells nothing."""
    return Sight(bytes(viewer.tenant.pepper), frozenset()).text(key)


def seen_parties(viewer: Viewer, keys: Iterable[str]) -> frozenset[str]:
    """Those of `keys` that the viewer may see by name. One query for an abuse desk, none for others."""
    wanted = frozenset(keys) - {""}
    seen = Sight.of(viewer, wanted).seen if wanted else frozenset()
    return wanted if seen is None else seen


def conceal(viewer: Viewer, rows: list, columns: tuple[str, ...] = ("principal", "actor")) -> list:
    """The rows (dicts or models), parties outside the viewer's sight under their stubs."""
    if not is_desk(viewer):
        return rows
    read = (lambda row, name: row[name]) if rows and isinstance(rows[0], dict) else getattr
    write = (lambda row, name, value: row.__setitem__(name, value)) if rows and isinstance(rows[0], dict) else setattr
    sight = Sight.of(viewer, {read(row, name) for row in rows for name in columns})
    for row in rows:
        for name in columns:
            write(row, name, sight.text(read(row, name)))
    return rows


def guesses(viewer: Viewer, filters: Mapping[str, str]) -> bool:
    """Whether the viewer asks by a name that it may not see: a guess must not be confirmed by what is found."""
    keys = {filters[name] for name in ("principal", "actor") if filters.get(name)}
    return not keys <= seen_parties(viewer, keys)


def named_parties(viewer: Viewer) -> QuerySet:
    """Keys of the parties an abuse desk may see, as a subquery."""
    own = visible_events(viewer)
    return own.values("actor").union(own.values("claimed_principal"))


# --- events ---------------------------------------------------------------------------------------------------------


def visible_events(viewer: Viewer) -> QuerySet:
    return record.visible_events(viewer).order_by()


def list_events(
    viewer: Viewer,
    filters: Mapping[str, str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = PAGE,
) -> Page:
    """Events that fit every filter, the last received first. `before` is the leaf index the previous page ended at."""
    if guesses(viewer, filters):
        return Page([])
    events = visible_events(viewer)
    for name, value in filters.items():
        if name == "grant":
            events = record.under_grant(viewer, events, value)
        elif name == "layer":
            known = [kind for kind, layer in LAYER_OF_TYPE.items() if layer == value]
            events = events.filter(type__in=known) if known else events.exclude(type__in=list(LAYER_OF_TYPE))
        elif name == "chain":
            events = events.filter(type__in=list(ACT_TYPES), environment="live", chain_proven=value == "proven")
        else:
            events = events.filter(**{name: value})
    if since:
        events = events.filter(occurred_at__gte=since)
    if until:
        events = events.filter(occurred_at__lt=until)
    if before is not None:
        events = events.filter(leaf_index__lt=before)
    rows = list(events.order_by("-leaf_index").values(*ROW)[: limit + 1])
    return Page(conceal(viewer, rows[:limit]), str(rows[limit - 1]["leaf_index"]) if len(rows) > limit else "")


def events_by_id(viewer: Viewer, ids: Iterable[UUID]) -> dict[UUID, dict]:
    rows = conceal(viewer, list(visible_events(viewer).filter(event_id__in=list(ids)).values(*ROW)))
    return {row["event_id"]: row for row in rows}


@dataclass(slots=True)
class EventView:
    """One event with everything its page shows."""

    leaf: dict[str, Any]
    raw: bytes | None  # None: gone, and `absence` says how
    headers: bytes
    source_event_id: str
    absence: Absence | None = None
    act: Act | None = None  # None: not yet projected
    row: dict[str, Any] | None = None
    chain: Chain | None = None
    grants: tuple[Grant, ...] = ()
    findings: list[Reading] = field(default_factory=list)
    check: record.LeafCheck | None = None
    key: dict[str, Any] | None = None
    covering: Checkpoint | None = None
    hidden: bool = False  # the viewer sees other hops as stubs only


def event_view(viewer: Viewer, event_id: UUID) -> EventView:
    """Raises NotFound, also for an event the viewer may not see: whether it exists is not theirs to learn."""
    found = Leaf.objects.select_related("source").filter(tenant=viewer.tenant, event_id=event_id).first()
    act = record.load_acts(viewer.tenant, [event_id]).get(str(event_id))
    row = visible_events(viewer).filter(event_id=event_id).values().first()
    if found is None or (is_desk(viewer) and row is None):
        raise NotFound(f"no event {event_id}")
    payload = Payload.objects.filter(tenant=viewer.tenant, epoch=EPOCH, leaf_index=found.leaf_index).first()
    view = EventView(
        leaf=leaf_facts(found),
        raw=bytes(payload.raw) if payload else None,
        headers=bytes(payload.headers) if payload else b"",
        source_event_id=payload.source_event_id if payload else "",
        absence=None if payload else absence_of(viewer.tenant, found.leaf_index, found.kind),
        hidden=is_desk(viewer),
    )
    if found.source_id:
        used = found.source.keys.filter(thumbprint=found.key).values("kid", "added_at", "retired_at").first()
        view.key = used
    view.covering = (
        Checkpoint.objects.filter(tenant=viewer.tenant, epoch=EPOCH, size__gt=found.leaf_index).order_by("size").first()
    )
    if act is None or row is None:
        return view
    view.act, view.row = act, row
    view.check = record.integrity_of(viewer.tenant, [act]).get(act.event_id)
    view.chain = record.chain_of(viewer.tenant, act)
    view.grants = act.path.grants
    resting = (
        visible_findings(viewer).filter(event_ids__contains=[event_id]).annotate(rank=_RANK).order_by("-rank", "id")
    )
    view.findings = read_findings(viewer, list(resting))
    return view


def leaf_facts(leaf: Leaf) -> dict[str, Any]:
    """A leaf in words, with its canonical bytes and their RFC 6962 hash."""
    kind, source = KIND_NAMES[leaf.kind], leaf.source.name if leaf.source_id else "-"
    canonical = record.leaf_bytes_of(kind, source, leaf.received_at, leaf.grade, leaf.key, bytes(leaf.commitment))
    return {
        "index": leaf.leaf_index,
        "kind": kind,
        "source": source,
        "received_at": leaf.received_at,
        "grade": leaf.grade,
        "key": leaf.key,
        "commitment": bytes(leaf.commitment).hex(),
        "hash": sha256(b"\x00" + canonical).hexdigest(),
        "canonical": canonical.decode(),
        "event_id": leaf.event_id,
        "max_bytes": leaves.MAX_BYTES,
    }


# --- stories and threads --------------------------------------------------------------------------------------------

ACTS_SHOWN = 200  # of a thread, on one page


def story_view(viewer: Viewer, event_id: UUID) -> dict[str, Any]:
    """What other sources say of the same act, as the API tells it, with rows of the events list."""
    return story_json(
        viewer, event_id, events=lambda rows: [row | {"id": str(row["event_id"])} for row in _rows_of(viewer, rows)]
    )


def _rows_of(viewer: Viewer, events: Sequence) -> list[dict]:
    known = events_by_id(viewer, [event.event_id for event in events])
    return [known[event.event_id] for event in events]


def timeline_view(viewer: Viewer, thread: Thread, *, after: str, now: datetime) -> dict[str, Any]:
    """One page of a thread: what each act is, who tells of it, what they contradict, and what nobody says. Raises NotFound."""
    linked = linked_to(viewer, thread)
    rows = timeline(viewer, thread, linked)
    if not rows.exists():
        raise NotFound(f"no {thread.kind} {thread.value}")
    at, _, leaf = after.partition(" ")
    try:
        place = (datetime.fromisoformat(at), int(leaf)) if after else None
    except ValueError:
        place = None
    if place and place[0].tzinfo:
        rows = rows.extra(where=["(occurred_at, leaf_index) > (%s, %s)"], params=place)
    listed = conceal(viewer, list(rows.values(*ROW)[: ACTS_SHOWN + 1]))
    more = len(listed) > ACTS_SHOWN
    listed = listed[:ACTS_SHOWN]
    by_id = {str(row["event_id"]): row for row in listed}
    acts = [act for act in record.load_acts(viewer.tenant, by_id).values() if act.event_id in by_id]
    speaking = {
        name: provider for name, provider in Source.objects.filter(tenant=viewer.tenant).values_list("name", "provider")
    }
    told = []
    around = stories_around(viewer.tenant, acts)
    for story in around.stories:
        mine = [by_id[act.event_id] for act in story.acts if act.event_id in by_id]
        if mine:
            told.append(_told(viewer, story, mine, speaking, by_id, linked))
    told.sort(key=lambda one: (one["first"]["occurred_at"], one["first"]["leaf_index"]))
    last = listed[-1] if more else None
    names = sorted({row["source"] for row in listed}, key=lambda name: (speaking.get(name, "") != "", name))
    return {
        "told": told,
        "lanes": [(name, speaking.get(name, "")) for name in names],
        "exposure": thread_exposure(viewer, thread, linked, at=now),
        "linked": linked,
        "cut": around.is_cut,
        "more": f"{last['occurred_at'].isoformat()} {last['leaf_index']}" if last else "",
        "is_first": not after,
        "unattributed": sum(
            1
            for one in told
            if one["main"]["type"] in ACT_TYPES and not any(row["actor"] or row["via_grant"] for row in one["rows"])
        ),
        "several": sum(1 for one in told if len(one["sources"]) > 1),
        "hidden": is_desk(viewer),
    }


def _told(
    viewer: Viewer,
    story: Story,
    mine: list[dict],
    speaking: Mapping[str, str],
    by_id: Mapping[str, dict],
    linked: Linked,
) -> dict[str, Any]:
    """One act of a thread as its rows say it."""
    sources = sorted({row["source"] for row in mine})
    provider = next((row["provider"] for row in mine if row["provider"]), "")
    own = [name for name, of in speaking.items() if of and of == provider]
    main = next((row for row in mine if row["type"] in ACT_TYPES), mine[0])
    seen = {str(row["event_id"]) for row in mine}
    spent = [row for row in mine if row["amount_minor"] is not None and row["book"] and row["type"] != "payment.failed"]
    return {
        "first": mine[0],
        "main": main,
        "rows": mine,
        "sources": sources,
        "keys": []
        if is_desk(viewer)
        else [shared for shared in story.shared if len(shared.sources) + len(shared.claimed_by) > 1][:4],
        "claimed": [row for row in mine if str(row["event_id"]) in story.claimed],
        "disagreements": [each for each in disagreements(story) if set(each.events) <= seen],
        "elsewhere": len(story.acts) - len(mine),
        "money": max(
            spent, key=lambda row: (row["book"] in ("paid", "incurred", "billed"), row["amount_minor"]), default=None
        ),
        "silent": own
        if own and not set(own) & set(sources) and main["type"] in ACT_TYPES and not is_desk(viewer)
        else [],
        "why": "" if is_desk(viewer) else next((why for row in mine if (why := linked.why.get(row["leaf_index"]))), ""),
        "joined_in": all(row["leaf_index"] in linked.why for row in mine),
    }


# --- findings -------------------------------------------------------------------------------------------------------


def visible_findings(viewer: Viewer) -> QuerySet:
    return record.visible_findings(viewer).order_by()


def list_findings(
    viewer: Viewer, filters: Mapping[str, str], *, sort: str = "severity", after: str = "", limit: int = PAGE
) -> Page:
    """The queue. `after` is `<rank>.<id>` (by severity) or `<id>` (newest first) of the last row of the page before."""
    if guesses(viewer, filters):
        return Page([])
    findings = visible_findings(viewer).filter(**filters).annotate(rank=_RANK)
    if sort == "newest":
        order = ("-id",)
        if after:
            findings = findings.filter(id__lt=int(after))
    else:
        order = ("-rank", "-id")
        if after:
            rank, _, last = after.partition(".")
            findings = findings.filter(Q(rank__lt=int(rank)) | Q(rank=int(rank), id__lt=int(last)))
    rows = list(findings.order_by(*order)[: limit + 1])
    if len(rows) <= limit:
        return Page(read_findings(viewer, rows))
    last = rows[limit - 1]
    return Page(read_findings(viewer, rows[:limit]), str(last.pk) if sort == "newest" else f"{last.rank}.{last.pk}")


def finding_counts(viewer: Viewer, *, state: str = "open") -> list[dict]:
    """Findings of one state by rule and severity."""
    rows = visible_findings(viewer).filter(state=state).values("rule", "severity").annotate(count=Count("id"))
    return list(rows.order_by("rule", "severity"))


def open_findings(viewer: Viewer) -> int:
    return visible_findings(viewer).filter(state=Finding.State.OPEN).count()


def finding_view(viewer: Viewer, finding_id: int) -> dict[str, Any]:
    """A finding, its events in leaf order (those the viewer may see), and what people did. Raises NotFound."""
    finding = visible_findings(viewer).filter(pk=finding_id).first()
    if finding is None:
        raise NotFound(f"no finding {finding_id}")
    related = visible_findings(viewer).filter(principal=finding.principal).exclude(pk=finding.pk).order_by("-id")[:10]
    [reading] = read_findings(viewer, [finding])
    rows = events_by_id(viewer, map(UUID, reading.events[:200]))
    return {
        "finding": reading,
        "events": sorted(rows.values(), key=lambda row: row["leaf_index"]),
        "more": len(reading.events) - len(rows),
        "triage": [_step(viewer, step) for step in finding.triage.all()],
        "related": read_findings(viewer, list(related)) if finding.principal else [],
        "case_title": title_for_every_reader(finding)[:200],
    }


def _step(viewer: Viewer, step: Triage) -> dict[str, Any]:
    """What a person did with a finding. An abuse desk reads the reasons that it wrote itself: others may have written of
    what they read, which is more.
    """
    reads = not is_desk(viewer) or step.desk == viewer.provider
    return {
        "at": step.at,
        "by": step.by,
        "from_state": step.from_state,
        "to_state": step.to_state,
        "reason": step.reason if reads else None,
    }


# --- charges --------------------------------------------------------------------------------------------------------

CHARGE_KEYS = {
    "principal": "Principal", "actor": "Actor", "provider": "Provider", "grant": "Grant", "currency": "Currency",
    "rail": "Rail", "session": "Session", "task": "Task", "project": "Project",
}  # fmt: skip


def visible_charges(viewer: Viewer) -> QuerySet:
    charges = Charge.objects.filter(tenant=viewer.tenant, generation=record.generation_of(viewer.tenant))
    return charges.filter(provider=viewer.provider) if is_desk(viewer) else charges


def list_charges(
    viewer: Viewer,
    filters: Mapping[str, str],
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int = PAGE,
) -> tuple[Page, list[dict]]:
    """Charges, the latest first, and what all that fit come to, by currency and rail. Held is what is held `now`."""
    charges = visible_charges(viewer).filter(**filters)
    if guesses(viewer, filters):
        charges = charges.none()
    if since:
        charges = charges.filter(at__gte=since)
    if until:
        charges = charges.filter(at__lt=until)
    totals = spent_by(charges, "currency", now=now)
    if after:
        charges = charges.filter(Q(at__lt=after[0]) | Q(at=after[0], leaf_index__lt=after[1]))
    rows = list(charges.order_by("-at", "-leaf_index")[: limit + 1])
    for row in rows:
        row.held = row.held if is_open(row.held_from, row.held_until, now) else 0
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(conceal(viewer, rows[:limit]), f"{last.at.isoformat()}_{last.leaf_index}" if last else ""), totals


def is_held(at: datetime) -> Q:
    """`core.exposure.is_open`, as the database asks it of all rows at once."""
    return Q(held_from__lte=at) & (Q(held_until=None) | Q(held_until__gt=at))


def spent_by(charges: QuerySet, *columns: str, now: datetime) -> list[dict]:
    """Spend and open authorizations by the given columns; always with the currency among them, largest first."""
    rows = (
        charges.values(*columns)
        .annotate(
            sum_spent=Sum("spent"),
            sum_most=Sum("at_most"),
            sum_returned=Sum("returned"),
            sum_held=Sum("held", filter=is_held(now)),
            count=Count("lead"),
        )
        .order_by()
    )
    found = [
        row
        | {
            "spent": row["sum_spent"],
            "at_most": row["sum_most"],
            "returned": row["sum_returned"],
            "held": row["sum_held"] or 0,
        }
        for row in rows
    ]
    return sorted(found, key=lambda row: (row["currency"], -row["spent"]))


# --- parties and grants ---------------------------------------------------------------------------------------------


def list_parties(viewer: Viewer, *, kind: str = "", contains: str = "", after: str = "", limit: int = PAGE) -> Page:
    """Parties by key. The abuse desk's are those its own provider's events name as actor or principal."""
    generation = record.generation_of(viewer.tenant)
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
    generation = record.generation_of(viewer.tenant)
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
        "organisation": record.organisations_of(viewer.tenant).of_party(key),
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
        "findings": read_findings(viewer, list(findings.annotate(rank=_RANK).order_by("-rank", "-id")[:PAGE])),
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
    known = record.kinds_of(viewer.tenant, record.generation_of(viewer.tenant), {row["key"] for row in rows} - {""})
    rows = [row | {"kind": known.get(row["key"], "unknown")} for row in rows]
    return conceal(viewer, rows, ("key",))


def grant_view(viewer: Viewer, grant_id: str, *, now: datetime) -> dict[str, Any]:
    """A grant as it stands, with those above and below it. Raises NotFound, NotPermitted."""
    if is_desk(viewer):
        raise NotPermitted("an abuse desk sees its own provider's events; grants are another party's papers")
    generation = record.generation_of(viewer.tenant)
    rows = GrantRow.objects.filter(tenant=viewer.tenant, generation=generation)
    row = rows.filter(id=grant_id).first()
    path = record.paths_to(viewer.tenant, [grant_id])[grant_id]
    used = visible_events(viewer).filter(via_grant=grant_id)
    if row is None and not used.exists():
        raise NotFound(f"no grant {grant_id}")
    chain = chain_to(path)
    known = record.kinds_of(viewer.tenant, generation, {hop.party.key for hop in chain.hops})
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


def events_at(viewer: Viewer, leaves: Sequence[int]) -> list[dict[str, Any]]:
    """These events as rows of a list, newest leaf first."""
    return list(visible_events(viewer).filter(leaf_index__in=leaves).order_by("-leaf_index").values(*ROW))


def makers(viewer: Viewer, rows: Sequence[Holding]) -> dict[Any, dict[str, Any]]:
    """By event id: who made these, as the viewer may see it."""
    events = (
        visible_events(viewer)
        .filter(event_id__in=[row.event_id for row in rows])
        .values("event_id", "actor", "principal", "principal_claimed")
    )
    return {row["event_id"]: row for row in conceal(viewer, list(events), ("actor", "principal"))}


# --- overview -------------------------------------------------------------------------------------------------------


def activity(viewer: Viewer, *, since: datetime | None, until: datetime) -> dict[str, Any]:
    """Events by day and layer, by source, and how many acts have a proven chain: one pass over the window."""
    only = " AND provider = %s" if is_desk(viewer) else ""
    after = " AND occurred_at >= %s" if since else ""
    params: list = [viewer.tenant.pk, record.generation_of(viewer.tenant), until]
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
    params: list = [viewer.tenant.pk, record.generation_of(viewer.tenant), until]
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


# --- search ---------------------------------------------------------------------------------------------------------


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
    generation = record.generation_of(viewer.tenant)
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


LAYER_NAMES = (*LAYERS, "other")
WINDOWS = {"1": timedelta(days=1), "7": timedelta(days=7), "30": timedelta(days=30), "90": timedelta(days=90)}
