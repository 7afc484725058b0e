"""Edges of the record: the ingest endpoint and the reads of the API. Each translates, calls one verb or query, answers."""

import structlog
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from auditlog import ingest as road
from auditlog import tasks
from auditlog.core.errors import DeliveryTooLarge, Refused, WrongContentType
from auditlog.formats import Delivery
from config import errors

log = structlog.get_logger()
DEFAULT_TENANT = "default"


def ingest_first(get_response):
    """Middleware: deliveries skip sessions, users, cookies and forms, none of which they have."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith("/ingest/"):
            return ingest_view(request)
        return get_response(request)

    return middleware


def ingest_view(request: HttpRequest) -> HttpResponse:
    """`POST /ingest/<source>` and `/ingest/<tenant>/<source>`: RFC 8935 for one event, RFC 8936 shapes for a batch."""
    parts = request.path_info.removeprefix("/ingest/").strip("/").split("/")
    if len(parts) > 2 or not all(parts):
        return JsonResponse({"err": "invalid_request", "description": "expected /ingest/<source>"}, status=404)
    if request.method != "POST":
        answer = JsonResponse({"err": "invalid_request", "description": "events are sent by POST"}, status=405)
        answer.headers["Allow"] = "POST"
        return answer
    tenant, source = parts if len(parts) == 2 else (DEFAULT_TENANT, parts[0])
    try:
        delivery = _delivery(request)
        taken = road.ingest(tenant, source, delivery, now=timezone.now())
    except Exception as error:
        answer = errors.refusal(error)  # raises again what no table row knows
        if answer.status_code >= 500:
            log.error("ingest unavailable", tenant=tenant, source=source, error=type(error).__name__)
        return answer
    tasks.wake(tenant)  # after the commit: a projector that woke earlier would not see the new leaves
    return _batch_answer(taken) if taken.batch else _single_answer(taken)


def _delivery(request: HttpRequest) -> Delivery:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and int(length) > road.MAX_BODY:
        raise DeliveryTooLarge(f"a delivery has at most {road.MAX_BODY:,} bytes, found {int(length):,}")
    if encoding := request.headers.get("Content-Encoding"):
        raise WrongContentType(f"expected no Content-Encoding, found {encoding[:40]!r}")
    # One byte more than allowed: enough to see that there was more, without holding it.
    body = request.META["wsgi.input"].read(min(int(length), road.MAX_BODY + 1)) if length.isdigit() else b""
    return Delivery(body, request.content_type or "", {k.lower(): v for k, v in request.headers.items()})


def _single_answer(taken: road.Taken) -> HttpResponse:
    for refused in taken.refused.values():
        return errors.refusal(refused)
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


