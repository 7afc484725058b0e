"""Edges of the record: the ingest endpoint and the reads of the API. Each translates, calls one verb or query, answers."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.utils import timezone
from django_filters import FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, ParseError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog.api import shapes
from auditlog.api.chain_json import chain_json
from auditlog.api.filters import EventFilter, FindingFilter, HoldingFilter, MomentField
from auditlog.api.serializers import EventSerializer, FindingSerializer, TriageSerializer
from auditlog.api.story_json import story_json
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, NotFound, Refused, UnknownSource
from auditlog.core.log.merkle import leaf_hash
from auditlog.core.log.tlog import proof_text
from auditlog.custody.witness import cosigned_note
from auditlog.database import clock
from auditlog.detection.findings.triage import triage
from auditlog.export import siem
from auditlog.formats import Delivery
from auditlog.incidents.read import incidents_of
from auditlog.ingest import receive as road
from auditlog.ledger.proofs import NotCovered, prove_inclusion
from auditlog.models import Role
from auditlog.models.directory import DEFAULT_TENANT
from auditlog.reads import standing, threads
from auditlog.reads.access import WATCH, WHOLE
from auditlog.reads.acts import load_acts
from auditlog.reads.chains import chain_of, grants_page, tokens_page
from auditlog.reads.leaves import raw_event
from auditlog.reads.money import SPEND_KEYS, limits_page, spend_by
from auditlog.reads.names import MOST_SCORED, score_list
from auditlog.reads.parties import organisations_of, parties_page, sources_page
from auditlog.reads.reach import KINDS as REACH_KINDS
from auditlog.reads.reach import Start, blast_radius, descendants, leaves_under
from auditlog.reads.read_findings import members_of, read_findings
from auditlog.reads.record import gates_of, time_of
from auditlog.reads.sight import Sight, visible_events, visible_findings
from auditlog.work import tasks


def ingest_view(request: HttpRequest) -> HttpResponse:
    """`POST /ingest/<source>` and `/ingest/<tenant>/<source>`: RFC 8935 for one event, RFC 8936 shapes for a batch."""
    parts = request.path_info.removeprefix("/ingest/").strip("/").split("/")
    if len(parts) > 2 or not all(parts):
        raise UnknownSource("expected /ingest/<source> or /ingest/<tenant>/<source>")
    tenant, source = parts if len(parts) == 2 else (DEFAULT_TENANT, parts[0])
    if request.method == "OPTIONS":
        return _handshake(request, road.handshake(tenant, source, {k.lower(): v for k, v in request.headers.items()}))
    if request.method == "GET" and (
        answer := road.verification(tenant, source, {k.lower(): v for k, v in request.headers.items()})
    ):
        return JsonResponse(answer)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    taken = road.ingest(
        tenant, source, _delivery(request), now=clock.now(), address=request.META.get("REMOTE_ADDR", "")
    )
    if taken.answer is not None:
        return JsonResponse(taken.answer)
    tasks.wake(tenant)  # after the commit: a projector that woke earlier would not see the new leaves
    return _batch_answer(taken) if taken.batch else _single_answer(taken)


def _handshake(request: HttpRequest, answer: dict[str, str] | None) -> HttpResponse:
    if answer is None:
        return HttpResponseNotAllowed(["POST"])
    return HttpResponse(status=200, headers={"Allow": "POST, OPTIONS", **answer})


def _body(meta: dict[str, Any]) -> bytes:
    """The request's body, never more than one byte above what is allowed: enough to see that there was more.

    A body may come without a length (`Transfer-Encoding: chunked`): then the server marks its end. One that says
    neither has none (RFC 9112 section 6.3), and reading on would wait for ever.
    """
    length, room = meta.get("CONTENT_LENGTH") or "", road.MAX_BODY + 1
    if length:
        if not (length.isascii() and length.isdigit()):
            raise MalformedEvent(f"expected Content-Length to be a number, found {length[:40]!r}")
        if int(length) > road.MAX_BODY:
            raise DeliveryTooLarge(f"a delivery has at most {road.MAX_BODY:,} bytes, found {int(length):,}")
        room = int(length)
    elif not meta.get("wsgi.input_terminated") and "chunked" not in meta.get("HTTP_TRANSFER_ENCODING", "").lower():
        return b""
    parts: list[bytes] = []
    try:
        while room > 0 and (part := meta["wsgi.input"].read(room)):
            parts.append(part)
            room -= len(part)
    except OSError as error:  # a chunk that is no chunk, or a sender that hung up
        raise MalformedEvent(f"the body could not be read to its end: {type(error).__name__}") from None
    return b"".join(parts)


def _delivery(request: HttpRequest) -> Delivery:
    body = _body(request.META)
    # The request line, under the names of RFC 9113 section 8.3.1: senders sign it (RFC 9421).
    # RAW_URI is the path as it came (config/asgi.py): Django's has been decoded and encoded again.
    pseudo = {":method": request.method, ":authority": request.META.get("HTTP_HOST", ""), ":scheme": request.scheme,
              ":path": request.META.get("RAW_URI") or request.get_full_path()}  # fmt: skip
    return Delivery(body, request.content_type or "", {k.lower(): v for k, v in request.headers.items()} | pseudo)


def _single_answer(taken: road.Taken) -> HttpResponse:
    for refused in taken.refused.values():
        raise refused
    [appended] = taken.appended.values()
    return HttpResponse(status=202, headers={"Location": f"/api/v1/events/{appended.event_id}"})


def _batch_answer(taken: road.Taken) -> HttpResponse:
    return JsonResponse(
        {
            "ack": list(taken.appended),
            "setErrs": {given: _error(refused) for given, refused in taken.refused.items()},
            "leaves": {given: appended.leaf_index for given, appended in taken.appended.items()},
        }
    )


def _error(refused: Refused) -> dict[str, str]:
    return {"err": refused.err, "description": str(refused)}


class PlainText(BaseRenderer):
    media_type, format, charset = "text/plain", "txt", "utf-8"

    def render(self, data, accepted_media_type=None, renderer_context=None) -> bytes:
        return data.encode() if isinstance(data, str) else orjson.dumps(data)


# --- reads ----------------------------------------------------------------------------------------------------------

PAGE = 50
MAX_PAGE = 500


def page_of(
    request: Request, rows: Sequence, *, cursor: Callable[[Any], Any], size: int, name: str = "before"
) -> tuple[list, str | None]:
    """One page of `size` rows and the address of the next; `rows` holds one more when there is a next."""
    shown = list(rows[:size])
    if len(rows) <= size:
        return shown, None
    query = request.query_params.copy()
    query[name] = str(cursor(shown[-1]))
    return shown, request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


def page_size(request: Request, default: int = PAGE) -> int:
    given = request.query_params.get("limit", str(default))
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= MAX_PAGE:
        raise ParseError(f"expected limit between 1 and {MAX_PAGE}, found {given[:20]!r}")
    return int(given)


def before(request: Request) -> int | None:
    given = request.query_params.get("before")
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise ParseError(f"expected before to be a number taken from `next`, found {given[:20]!r}")
    return int(given)


def only(request: Request, *known: str) -> None:
    """Raises ParseError for any other parameter."""
    if unknown := set(request.query_params) - {*known, "format"}:
        raise ParseError(f"no filter {', '.join(sorted(unknown))[:80]}; there are: {', '.join(known)}")


def filtered(filterset: type[FilterSet], request: Request, rows: QuerySet, *, cursor: str = "before") -> QuerySet:
    """Apply a filter set. An unknown parameter is an error: a misspelt filter must not look like an answer."""
    only(request, *filterset.base_filters, "limit", cursor)
    checked = filterset(request.query_params, queryset=rows, request=request)
    if not checked.is_valid():
        raise ParseError("; ".join(f"{name}: {' '.join(errors)}" for name, errors in checked.errors.items()))
    # Who may not see a name must not find it by guessing either.
    named = {request.query_params.get(name, "") for name in ("principal", "actor")} - {""}
    sight = Sight.of(request.viewer, named)
    return checked.qs if all(sight.sees(key) for key in named) else checked.qs.none()


def _events(request: Request, events: list) -> list:
    sight = Sight.of(request.viewer, {key for event in events for key in (event.principal, event.actor)})
    return EventSerializer(events, many=True, context={"sight": sight}).data


def _findings(request: Request, findings: list) -> list:
    context = {"now": timezone.now(), "incidents": incidents_of(request.viewer, [row.pk for row in findings])}
    return FindingSerializer(read_findings(request.viewer, findings), many=True, context=context).data


def _parameters(filterset: type[FilterSet], *, cursor: str = "before") -> list[OpenApiParameter]:
    return [OpenApiParameter(name, str) for name in (*filterset.base_filters, "limit", cursor)]


class EventList(APIView):
    """Events, newest leaf first. A party is written `iss|sub`."""

    @extend_schema(operation_id="events_list", parameters=_parameters(EventFilter), responses=shapes.EVENTS)
    def get(self, request: Request) -> Response:
        size = page_size(request)
        events = filtered(EventFilter, request, visible_events(request.viewer))
        if (cursor := before(request)) is not None:
            events = events.filter(leaf_index__lt=cursor)
        shown, next_ = page_of(request, events.defer("detail")[: size + 1], cursor=lambda e: e.leaf_index, size=size)
        return Response({"results": _events(request, shown), "next": next_})


class EventDetail(APIView):
    @extend_schema(responses=shapes.EVENT)
    def get(self, request: Request, event_id: UUID) -> Response:
        event = visible_events(request.viewer).filter(event_id=event_id).first()
        if event is not None:
            return Response(_events(request, [event])[0])
        raw = raw_event(request.viewer, event_id)  # in the ledger, and the projector is on its way
        return Response(
            {"id": str(event_id), "source": raw.source, "source_event_id": raw.source_event_id,
             "leaf_index": raw.leaf_index, "received_at": raw.received_at, "grade": raw.grade, "projected": False}
        )  # fmt: skip


class EventRaw(APIView):
    """The exact bytes that the source sent: of a SET, the compact JWS."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, event_id: UUID) -> HttpResponse:
        raw = raw_event(request.viewer, event_id)
        if raw.absence is not None:
            raise (Gone if raw.absence.is_authorised else Destroyed)(raw.absence.words())
        content_type = "application/secevent+jwt" if raw.format in ("set", "caep") else "application/octet-stream"
        answer = HttpResponse(raw.raw, content_type=content_type)
        # Never shown as a page: the bytes are whatever a sender wrote.
        answer.headers["Content-Disposition"] = f'attachment; filename="{event_id}"'
        if raw.headers:
            answer.headers["Answerable-Signed-Headers"] = b64encode(raw.headers).decode()
        return answer


class EventProof(APIView):
    """That the event is in the signed log: JSON with standard base64, or a C2SP tlog-proof for `Accept: text/plain`."""

    renderer_classes = [JSONRenderer, PlainText]

    @extend_schema(responses=shapes.PROOF)
    def get(self, request: Request, event_id: UUID) -> Response:
        raw = raw_event(request.viewer, event_id)
        tenant = request.viewer.tenant
        try:
            proof = prove_inclusion(tenant, raw.leaf_index)
        except NotCovered as error:
            raise NotYet(str(error)) from None
        note = cosigned_note(tenant, proof.size)
        if request.accepted_renderer.format == "txt":
            return Response(proof_text(proof.index, proof.hashes, note))
        leaf = raw.encoded_leaf()
        return Response(
            {
                "leaf_index": proof.index,
                "leaf_hash": b64encode(leaf_hash(leaf)).decode(),
                "leaf": b64encode(leaf).decode(),
                "salt": b64encode(raw.salt).decode() if raw.salt is not None else None,
                "absence": raw.absence.words() if raw.absence else None,
                "source_event_id": raw.source_event_id or None,
                "signed_headers": b64encode(raw.headers).decode() or None,
                "tree_size": proof.size,
                "hashes": [b64encode(part).decode() for part in proof.hashes],
                "checkpoint": note,
            }
        )


class EventChain(APIView):
    """Who acted for whom behind an event, oldest hop first, and what was in force `at` a time (default: the act's)."""

    @extend_schema(parameters=[OpenApiParameter("at", str)], responses=shapes.CHAIN)
    def get(self, request: Request, event_id: UUID) -> Response:
        if not visible_events(request.viewer).filter(event_id=event_id).exists():
            raw_event(request.viewer, event_id)
            raise NotYet("the event is in the ledger, and not projected yet; ask again in a second")
        act = load_acts(request.viewer.tenant, [event_id])[str(event_id)]
        try:
            at = MomentField(required=False).clean(request.query_params.get("at", "")) or time_of(
                request.viewer.tenant, act
            )
        except ValidationError as error:
            raise ParseError(error.messages[0]) from None
        chain = chain_of(request.viewer.tenant, act)
        sight = Sight.of(request.viewer, {act.principal, *(hop.party.key for hop in chain.hops)})
        known = organisations_of(request.viewer.tenant)
        gates = gates_of(request.viewer.tenant, act)
        return Response(chain_json(chain, act, at=at, sight=sight, organisations=known, gates=gates))


class PartyList(APIView):
    @extend_schema(responses=shapes.PARTIES)
    def get(self, request: Request) -> Response:
        return _keyed(request, parties_page)


class GrantList(APIView):
    @extend_schema(responses=shapes.GRANTS)
    def get(self, request: Request) -> Response:
        return _keyed(request, grants_page)


class TokenList(APIView):
    @extend_schema(responses=shapes.TOKENS)
    def get(self, request: Request) -> Response:
        return _keyed(request, tokens_page)


class LimitList(APIView):
    @extend_schema(responses=shapes.LIMITS)
    def get(self, request: Request) -> Response:
        return _keyed(request, limits_page)


def _keyed(request: Request, read: Callable, *filters: str, parameter: str = "after") -> Response:
    """A list ordered by its key, a page at a time. The abuse desk sees events, not whole parties and grants."""
    request.viewer.must(WHOLE)
    only(request, *filters, parameter, "limit")
    size = page_size(request)
    rows = read(request.viewer.tenant, after=request.query_params.get(parameter, ""), size=size + 1)
    shown, next_ = rows[:size], None
    if len(rows) > size:
        query = request.query_params.copy()
        query[parameter] = shown[-1]["cursor"]
        next_ = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    return Response({"results": [{k: v for k, v in row.items() if k != "cursor"} for row in shown], "next": next_})


class SourceList(APIView):
    @extend_schema(responses=shapes.SOURCES)
    def get(self, request: Request) -> Response:
        request.viewer.must(WHOLE)
        only(request)
        return Response({"results": sources_page(request.viewer.tenant), "next": None})


class Spend(APIView):
    """What was spent, each obligation once, from `spent_minor` (certain) to `at_most_minor`; currencies are never added
    up.
    """

    @extend_schema(
        parameters=[OpenApiParameter(name, str) for name in ("by", "since", "until")], responses=shapes.SPENT
    )
    def get(self, request: Request) -> Response:
        only(request, "by", "since", "until")
        keys = [key for key in request.query_params.get("by", "").split(",") if key]
        unknown = [key for key in keys if key not in SPEND_KEYS]
        if unknown or len(set(keys)) != len(keys):
            raise ParseError(f"expected `by` of {', '.join(SPEND_KEYS)}, found {','.join(keys)[:80]!r}")
        try:
            since, until = (
                MomentField(required=False).clean(request.query_params.get(n, "")) for n in ("since", "until")
            )
        except ValidationError as error:
            raise ParseError(error.messages[0]) from None
        rows = spend_by(request.viewer, keys, since=since, until=until)
        parties = [key for key in keys if key in ("agent", "principal")]
        sight = Sight.of(request.viewer, {row[key] for row in rows for key in parties})
        return Response(
            {"results": [row | {key: sight.text(row[key]) for key in parties} for row in rows], "next": None}
        )


def _start(request: Request) -> Start:
    named = [(kind, request.query_params[kind]) for kind in REACH_KINDS if request.query_params.get(kind)]
    if len(named) != 1:
        raise ParseError(
            f"expected one of {', '.join(REACH_KINDS)}, found {', '.join(kind for kind, _ in named) or 'none'}"
        )
    return Start(*named[0])


class Reach(APIView):
    """What a grant, token, party (`iss|sub`) or key (`jkt`) touched, in numbers, and what may be had back."""

    @extend_schema(parameters=[OpenApiParameter(kind, str) for kind in REACH_KINDS], responses=shapes.REACH)
    def get(self, request: Request) -> Response:
        only(request, *REACH_KINDS)
        return Response(blast_radius(request.viewer, _start(request)))


class ReachActs(APIView):
    """The events under a grant, token, party or key, newest leaf first."""

    @extend_schema(
        parameters=[OpenApiParameter(kind, str) for kind in (*REACH_KINDS, "limit", "before")],
        responses=shapes.EVENTS,
    )
    def get(self, request: Request) -> Response:
        only(request, *REACH_KINDS, "limit", "before")
        size = page_size(request)
        leaves = leaves_under(request.viewer, _start(request), before=before(request), size=size + 1)
        events = list(visible_events(request.viewer).filter(leaf_index__in=leaves).defer("detail"))
        shown, next_ = page_of(request, events, cursor=lambda e: e.leaf_index, size=size)
        return Response({"results": _events(request, shown), "next": next_})


class ReachDescendants(APIView):
    """The grants and tokens under a grant, token, party or key."""

    @extend_schema(
        parameters=[OpenApiParameter(kind, str) for kind in (*REACH_KINDS, "limit", "after")],
        responses=shapes.DESCENDANTS,
    )
    def get(self, request: Request) -> Response:
        start = _start(request)
        return _keyed(
            request, lambda _, after, size: descendants(request.viewer, start, after=after, size=size), *REACH_KINDS
        )


class GrantCompare(APIView):
    """Two grants hop by hop: `one` and `other`."""

    @extend_schema(
        parameters=[OpenApiParameter("one", str), OpenApiParameter("other", str)], responses=shapes.COMPARISON
    )
    def get(self, request: Request) -> Response:
        only(request, "one", "other")
        one, other = (request.query_params.get(name, "") for name in ("one", "other"))
        if not one or not other:
            raise ParseError("expected two grants, `one` and `other`")
        return Response(standing.compare(request.viewer, one, other))


class Permissions(APIView):
    """Who may do what, and does: a row for each grant, provider and action pattern, by `principal` or `agent`."""

    @extend_schema(
        parameters=[OpenApiParameter(n, str) for n in ("principal", "agent", "limit", "after")],
        responses=shapes.PERMISSIONS,
    )
    def get(self, request: Request) -> Response:
        only(request, "principal", "agent", "limit", "after")
        size = page_size(request)
        of = {name: request.query_params.get(name, "") for name in ("principal", "agent", "after")}
        rows = standing.permissions(request.viewer, **of, size=size + 1, now=timezone.now())
        grants = list(dict.fromkeys(row["cursor"] for row in rows))
        next_ = None
        if len(grants) > size:
            rows = [row for row in rows if row["cursor"] != grants[-1]]
            query = request.query_params.copy()
            query["after"] = grants[-2]
            next_ = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
        return Response({"results": [{k: v for k, v in row.items() if k != "cursor"} for row in rows], "next": next_})


class Inventory(APIView):
    """What agents made or linked, newest first: accounts, domains, subscriptions, resources, credentials."""

    @extend_schema(parameters=_parameters(HoldingFilter, cursor="after"), responses=shapes.INVENTORY)
    def get(self, request: Request) -> Response:
        size, rows = (
            page_size(request),
            filtered(HoldingFilter, request, standing.holdings(request.viewer), cursor="after"),
        )
        if after := request.query_params.get("after", ""):
            at, event_id = _place(after, UUID)
            rows = standing.made_before(rows, at, event_id)
        shown, next_ = page_of(
            request, rows[: size + 1], cursor=lambda r: f"{r.made_at.isoformat()} {r.event_id}", size=size, name="after"
        )
        events = standing.makers(request.viewer, shown)
        sight = Sight.of(request.viewer, {key for event in events.values() for key in (event.principal, event.actor)})
        return Response(
            {"results": [standing.holding_json(r, events.get(r.event_id), sight.party) for r in shown], "next": next_}
        )


class Timeline(APIView):
    """One session, task or transaction across all sources and orchestrators, in the order in which it happened, with
    what others said of the same acts. `belongs` says why an event that does not name it is here; the header
    `Answerable-Cut`, whether what others say was followed to its end.
    """

    @extend_schema(
        parameters=[OpenApiParameter(n, str) for n in (*threads.KINDS, "limit", "after")], responses=shapes.TIMELINE
    )
    def get(self, request: Request) -> Response:
        only(request, *threads.KINDS, "limit", "after")
        thread = _thread(request)
        linked = threads.linked_to(request.viewer, thread)
        size, rows = page_size(request), threads.timeline(request.viewer, thread, linked)
        if after := request.query_params.get("after", ""):
            at, leaf = _place(after, int)
            rows = rows.extra(where=["(occurred_at, leaf_index) > (%s, %s)"], params=[at, leaf])
        shown, next_ = page_of(request, rows.defer("detail")[: size + 1],
                               cursor=lambda e: f"{e.occurred_at.isoformat()} {e.leaf_index}", size=size, name="after")  # fmt: skip
        hidden = request.viewer.role == Role.ABUSE
        results = [
            row
            | {
                "belongs": (
                    ("tells of the same act" if hidden else why) if (why := linked.why.get(event.leaf_index)) else None
                )
            }
            for row, event in zip(_events(request, shown), shown, strict=True)
        ]
        return Response(
            {"results": results, "next": next_}, headers={"Answerable-Cut": "true" if linked.is_partial else "false"}
        )


class TimelineExposure(APIView):
    """What a session, task or transaction has spent and may still cost, over all its orchestrators and providers.
    `at_least`: what others tell of it was not followed to its end, so there may be more.
    """

    @extend_schema(parameters=[OpenApiParameter(n, str) for n in threads.KINDS], responses=shapes.EXPOSURE)
    def get(self, request: Request) -> Response:
        only(request, *threads.KINDS)
        thread = _thread(request)
        linked = threads.linked_to(request.viewer, thread)
        exposure = threads.thread_exposure(request.viewer, thread, linked, at=timezone.now())
        return Response(exposure | {"taken_in": len(linked.why), "more": linked.more, "at_least": linked.is_partial})


def _thread(request: Request) -> threads.Thread:
    named = {name: request.query_params[name] for name in threads.KINDS if request.query_params.get(name)}
    if len(named) != 1:
        raise ParseError(f"expected one of {', '.join(threads.KINDS)}, found {', '.join(named) or 'none'}")
    return threads.Thread(*next(iter(named.items())))


class EventStory(APIView):
    """One act as several sources tell it: who says what by which key, where they contradict each other, and its money."""

    @extend_schema(responses=shapes.STORY)
    def get(self, request: Request, event_id: UUID) -> Response:
        if not visible_events(request.viewer).filter(event_id=event_id).exists():
            raw_event(request.viewer, event_id)
            raise NotYet("the event is in the ledger, and not projected yet; ask again in a second")
        return Response(story_json(request.viewer, event_id, events=lambda rows: _events(request, rows)))


def _place(after: str, key: Callable[[str], Any]) -> tuple[datetime, Any]:
    """A cursor of a time and a key, as `next` gave it."""
    at, _, named = after.partition(" ")
    try:
        moment, found = datetime.fromisoformat(at), key(named)
        if moment.tzinfo is None or (isinstance(found, int) and not 0 <= found < 2**62):
            raise ValueError
    except ValueError:
        raise ParseError(f"expected `after` as taken from `next`, found {after[:60]!r}") from None
    return moment, found


class NdJson(BaseRenderer):
    """JSON lines; of a refusal, which is one object, one."""

    media_type, format = "application/x-ndjson", "ndjson"

    def render(self, data, accepted_media_type=None, renderer_context=None) -> bytes:
        return data if isinstance(data, bytes) else orjson.dumps(data)


class ExportOcsf(APIView):
    """Events, findings or the steps of cases as OCSF 1.7, a line each, from a cursor on: `after`, 0 for the first.

    `Answerable-Next-Cursor` is what to give as `after` the next time, also where nothing came; `Answerable-More` says
    whether there is more already. The same cursor gives the same objects in the same order; a finding that changed
    since comes later, as it stands.
    """

    renderer_classes = [NdJson, JSONRenderer]

    @extend_schema(
        parameters=[OpenApiParameter("what", str, enum=siem.STREAMS, required=True), OpenApiParameter("after", int), OpenApiParameter("limit", int)],
        responses={(200, "application/x-ndjson"): OpenApiTypes.STR},
    )  # fmt: skip
    def get(self, request: Request) -> HttpResponse:
        request.viewer.must(WHOLE)
        only(request, "what", "after", "limit")
        what, after = request.query_params.get("what", ""), request.query_params.get("after", "0")
        if what not in siem.STREAMS:
            raise ParseError(f"expected `what` of {', '.join(siem.STREAMS)}, found {what[:40]!r}")
        if what == "security":
            request.viewer.must(WATCH)
        if not after.isascii() or not after.isdigit() or len(after) > 18:
            raise ParseError(f"expected `after` as given by Answerable-Next-Cursor, found {after[:20]!r}")
        page = siem.read_page(request.viewer.tenant, what, after=int(after), size=page_size(request, MAX_PAGE))
        headers = {"Answerable-Next-Cursor": str(page.next), "Answerable-More": "true" if page.more else "false"}
        return HttpResponse(b"".join(page.lines), content_type="application/x-ndjson", headers=headers)


class FindingList(APIView):
    @extend_schema(operation_id="findings_list", parameters=_parameters(FindingFilter), responses=shapes.FINDINGS)
    def get(self, request: Request) -> Response:
        size = page_size(request)
        findings = filtered(FindingFilter, request, visible_findings(request.viewer))
        if (cursor := before(request)) is not None:
            findings = findings.filter(pk__lt=cursor)
        shown, next_ = page_of(request, findings[: size + 1], cursor=lambda f: f.pk, size=size)
        return Response({"results": _findings(request, shown), "next": next_})


class FindingDetail(APIView):
    @extend_schema(responses=shapes.FINDING)
    def get(self, request: Request, finding_id: int) -> Response:
        finding = visible_findings(request.viewer).filter(pk=finding_id).first()
        if finding is None:
            raise NotFound(f"there is no finding {finding_id}")
        return Response(_findings(request, [finding])[0])


class FindingEvents(APIView):
    """Every event that a finding rests on and that the caller may see, in the finding's order. `after` is taken from
    `next`.
    """

    @extend_schema(
        operation_id="finding_events",
        parameters=[OpenApiParameter(n, str) for n in ("limit", "after")],
        responses=shapes.EVENTS,
    )
    def get(self, request: Request, finding_id: int) -> Response:
        only(request, "limit", "after")
        size = page_size(request)
        finding = visible_findings(request.viewer).filter(pk=finding_id).first()
        if finding is None:
            raise NotFound(f"there is no finding {finding_id}")
        members = members_of(request.viewer, finding, after=_member(request), size=size + 1)
        shown, next_ = page_of(
            request, members, cursor=lambda each: f"{each[0][0]}.{each[0][1]}", size=size, name="after"
        )
        return Response({"results": _events(request, [event for _, event in shown]), "next": next_})


def _member(request: Request) -> tuple[int, int] | None:
    given = request.query_params.get("after")
    if given is None:
        return None
    place, _, leaf = given.partition(".")
    if (
        not (
            place.removeprefix("-").isascii()
            and place.removeprefix("-").isdigit()
            and leaf.isascii()
            and leaf.isdigit()
        )
        or len(given) > 38
    ):
        raise ParseError(f"expected after to be taken from `next`, found {given[:20]!r}")
    return int(place), int(leaf)


class FindingTriage(APIView):
    @extend_schema(request=TriageSerializer, responses=shapes.FINDING)
    def post(self, request: Request, finding_id: int) -> Response:
        given = TriageSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        finding = triage(request.viewer, finding_id, **given.validated_data, now=timezone.now())
        return Response(_findings(request, [finding])[0])


class ScoreSerializer(serializers.Serializer):
    names = serializers.ListField(
        child=serializers.CharField(max_length=4_096, allow_blank=True), max_length=MOST_SCORED
    )
    brands = serializers.ListField(
        child=serializers.CharField(max_length=253), max_length=MOST_SCORED, required=False, default=list,
        help_text="names, marks or domains; replaces all others",
    )  # fmt: skip


SCORED = shapes.shape(
    "ScoredNames",
    results=shapes.many(
        name=shapes.text(),
        brand=shapes.or_null(),
        relation=shapes.or_null(),
        score=serializers.FloatField(),
        tier=serializers.ChoiceField(choices=["alert", "review", "none"]),
    ),
)


class DomainScore(APIView):
    """As the command `score_domains`: one answer for each name, in order, also for what is none (then with `error`)."""

    @extend_schema(operation_id="domains_score", request=ScoreSerializer, responses=SCORED)
    def post(self, request: Request) -> Response:
        given = ScoreSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(
            {"results": score_list(request.viewer, given.validated_data["names"], given.validated_data["brands"])}
        )


class Gone(APIException):
    status_code = 410
    default_detail = "Gone"


class Destroyed(APIException):
    """Not 410: nobody was entitled to take it away, so this is a fault of the record, and whoever asks must not take it
    for an answer.
    """

    status_code = 500
    default_detail = "Evidence destroyed"


class NotYet(APIException):
    status_code = 404
    default_detail = "Not projected yet"
    wait = 1
