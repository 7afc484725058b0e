"""Events: the list, and one event with everything that is known about it."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django import forms
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from auditlog.api.chain_json import effective_json
from auditlog.api.story_json import story_json
from auditlog.core.chain.act import ACT_TYPES, Act
from auditlog.core.chain.breaks import authority_breaks
from auditlog.core.chain.chain import Chain
from auditlog.core.chain.statement import Grant
from auditlog.core.errors import NotFound
from auditlog.core.event import GRANTED, LAYER_OF_TYPE, GrantObject, TokenObject, layer_of
from auditlog.core.log import leaf as leaves
from auditlog.core.log.absence import Absence
from auditlog.core.log.merkle import leaf_hash
from auditlog.core.reading import Reading
from auditlog.ledger.absence import absence_of
from auditlog.ledger.append import EPOCH
from auditlog.models import Checkpoint, FindingMember, Leaf, Payload
from auditlog.models.ledger import KIND_NAMES
from auditlog.reads.access import Viewer
from auditlog.reads.acts import load_acts
from auditlog.reads.chains import chain_of
from auditlog.reads.leaves import LeafCheck, integrity_of, leaf_bytes_of
from auditlog.reads.read_findings import read_findings
from auditlog.reads.record import gates_of, time_of
from auditlog.reads.sight import under_grant
from dashboard.parts.access import page
from dashboard.parts.chain import GATE_WORDS, chain_svg, hop_rows
from dashboard.parts.forms import Filters, Instant
from dashboard.parts.queries import (
    LAYER_NAMES,
    PAGE,
    RANK,
    ROW,
    Page,
    conceal,
    events_by_id,
    guesses,
    is_desk,
    seen_parties,
    stub,
    visible_events,
    visible_findings,
)
from disputes.queries import cases_of_event


class EventFilters(Filters):
    layer = forms.ChoiceField(
        required=False, choices=[("", "any layer"), *((name, name) for name in LAYER_NAMES)], label="Layer"
    )
    chain = forms.ChoiceField(
        required=False, label="Acts by chain",
        choices=[("", "all events"), ("proven", "acts, chain proven"), ("unproven", "acts, chain not proven")],
    )  # fmt: skip
    since = Instant(label="Since (UTC)")
    until = Instant(label="Until (UTC), exclusive")
    before = forms.IntegerField(required=False, min_value=0, widget=forms.HiddenInput)

    field_order = ("type", "layer", "provider", "target", "principal", "actor", "grant", "charge", "since", "until")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, label in EVENT_KEYS.items():
            self.fields[name] = forms.CharField(required=False, max_length=700, label=label)
        self.fields["principal"].widget.attrs["placeholder"] = "iss|sub"
        self.fields["actor"].widget.attrs["placeholder"] = "iss|sub"
        self.fields["type"].widget.attrs["placeholder"] = "domain.registered"
        self.order_fields(self.field_order)


class AtForm(forms.Form):
    at = Instant(label="As of (UTC)", widget=forms.TextInput(attrs={"placeholder": "2026-05-01 14:30", "size": 26}))


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
            events = under_grant(viewer, events, value)
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
    check: LeafCheck | None = None
    key: dict[str, Any] | None = None
    covering: Checkpoint | None = None
    hidden: bool = False  # the viewer sees other hops as stubs only


def event_view(viewer: Viewer, event_id: UUID) -> EventView:
    """Raises NotFound, also for an event the viewer may not see: whether it exists is not theirs to learn."""
    found = Leaf.objects.select_related("source").filter(tenant=viewer.tenant, event_id=event_id).first()
    act = load_acts(viewer.tenant, [event_id]).get(str(event_id))
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
    view.check = integrity_of(viewer.tenant, [act]).get(act.event_id)
    view.chain = chain_of(viewer.tenant, act)
    view.grants = act.path.grants
    # By its leaf; what the road itself saw may name an event without resting on its leaf.
    members = FindingMember.objects.filter(tenant=viewer.tenant, leaf_index=act.leaf_index, event_id=event_id)
    named = Q(rule__startswith="integrity.", event_ids__contains=[event_id])
    resting = (
        visible_findings(viewer)
        .filter(Q(pk__in=members.values("finding_id")) | named)
        .annotate(rank=RANK)
        .order_by("-rank", "id")
    )
    view.findings = read_findings(viewer, list(resting))
    return view


def leaf_facts(leaf: Leaf) -> dict[str, Any]:
    """A leaf in words, with its canonical bytes and their RFC 6962 hash."""
    kind, source = KIND_NAMES[leaf.kind], leaf.source.name if leaf.source_id else "-"
    canonical = leaf_bytes_of(kind, source, leaf.received_at, leaf.grade, leaf.key, bytes(leaf.commitment))
    return {
        "index": leaf.leaf_index,
        "kind": kind,
        "source": source,
        "received_at": leaf.received_at,
        "grade": leaf.grade,
        "key": leaf.key,
        "commitment": bytes(leaf.commitment).hex(),
        "hash": leaf_hash(canonical).hex(),
        "canonical": canonical.decode(),
        "event_id": leaf.event_id,
        "max_bytes": leaves.MAX_BYTES,
    }


def story_view(viewer: Viewer, event_id: UUID) -> dict[str, Any]:
    """What other sources say of the same act, as the API tells it, with rows of the events list."""
    return story_json(
        viewer, event_id, events=lambda rows: [row | {"id": str(row["event_id"])} for row in _rows_of(viewer, rows)]
    )


def _rows_of(viewer: Viewer, events: Sequence) -> list[dict]:
    known = events_by_id(viewer, [event.event_id for event in events])
    return [known[event.event_id] for event in events]


@page
@require_GET
def events(request: HttpRequest) -> HttpResponse:
    form = EventFilters(request.GET)
    listed, chosen = Page([]), {}
    if form.is_valid():
        data, chosen = form.cleaned_data, form.chosen()
        listed = list_events(request.viewer, chosen, since=data["since"], until=data["until"], before=data["before"])
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
    view = event_view(request.viewer, event_id)
    request.reveals = view.raw is not None  # config/door.py tells the security log
    context: dict[str, Any] = {"view": view, "event_id": event_id, "bytes": _reading(view)}
    if view.act:
        keys = {hop.party.key for hop in view.chain.hops} | {view.act.principal}
        seen = seen_parties(request.viewer, keys) if view.hidden else None
        force = _in_force(request, view)
        drawn = replace(view.chain, breaks=(*view.chain.breaks, *force.get("judged", ())))
        gates = gates_of(request.viewer.tenant, view.act)
        context |= {
            "act": view.act,
            "chain": view.chain,
            "principal": view.act.principal
            if seen is None or view.act.principal in seen or not view.act.principal
            else stub(request.viewer, view.act.principal),
            "chain_svg": chain_svg(request.viewer, drawn, seen),
            "hops": hop_rows(request.viewer, view.chain, seen, view.act),
            "gates": gates,
            "ungated": [gate for gate in gates if gate.approval is None and view.act.happened],
            "gate_words": GATE_WORDS,
            **force,
            "joins": _joins(view),
            "story": (story := story_view(request.viewer, event_id)),
            "elsewhere": None if view.chain.complete else _told_better(story, event_id),
            "may_contest": str(event_id) if request.viewer.may("case") else "",
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


def _stated(view: EventView) -> dict[str, Any]:
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


def _in_force(request: HttpRequest, view: EventView) -> dict[str, Any]:
    """What all grants on the path together allowed at the time asked for: the act's own, unless another is chosen."""
    done_at = time_of(request.viewer.tenant, view.act)
    form = AtForm(request.GET if "at" in request.GET else None, initial={"at": str(done_at.replace(tzinfo=None))})
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


def _joins(view: EventView) -> list[tuple[str, str, str]]:
    """Keys by which this event hangs together with others: (filter, what it is called, value)."""
    names = ("txn", "session", "task", "charge", "invoice", "request_id", "token")
    return [(name, EVENT_KEYS[name], view.row[name]) for name in names if view.row[name]]


def _reading(view: EventView) -> dict[str, Any]:
    """The stored bytes, and what they say, decoded for reading only: what counts is the bytes."""
    if view.raw is None:
        return {"absence": view.absence}
    text = view.raw.decode("utf-8", "backslashreplace")
    reading: dict[str, Any] = {"raw": text, "size": len(view.raw), "headers": "", "parts": []}
    if view.headers:
        reading["headers"] = pretty(msgspec.json.decode(view.headers))
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
        return pretty(json.loads(text))
    except ValueError:
        return text


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
