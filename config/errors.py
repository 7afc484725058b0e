"""Domain errors to HTTP answers, in one table. Problems are RFC 9457; refusals of events RFC 8935 section 2.4."""

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from auditlog.core import errors

STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.ConflictingEvent, 409, "Conflicting event"),
    (errors.DeliveryTooLarge, 413, "Delivery too large"),
    (errors.WrongContentType, 415, "Unsupported media type"),
    (errors.SourceSuspended, 403, "Source suspended"),
    (errors.Refused, 400, "Event refused"),
    (errors.UnknownSource, 404, "Unknown source"),
    (errors.TooManyRequests, 429, "Too many requests"),
    (errors.NotPermitted, 403, "Not permitted"),
    (errors.NotFound, 404, "Not found"),
    (errors.NotPossible, 409, "Not possible now"),
    (errors.AnswerableError, 400, "Bad request"),
    (Http404, 404, "Not found"),
    (ObjectDoesNotExist, 404, "Not found"),
    (PermissionDenied, 403, "Not permitted"),
    (OperationalError, 503, "Database unavailable"),
    (InterfaceError, 503, "Database unavailable"),
    (DatabaseError, 503, "Database unavailable"),
)


def status_of(error: Exception) -> tuple[int, str]:
    for kind, status, title in STATUS:
        if isinstance(error, kind):
            return status, title
    raise error


def problem(status: int, title: str, detail: str, **more: object) -> JsonResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")


def refusal(error: Exception) -> JsonResponse:
    """The answer to a sender: `{err, description}`."""
    status, title = status_of(error)
    known = isinstance(error, errors.AnswerableError)
    body = {"err": getattr(error, "err", "invalid_request" if known else "unavailable"), "description": str(error) if known else title}
    response = JsonResponse(body, status=status)
    if isinstance(error, errors.TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    elif status == 503:
        response.headers["Retry-After"] = "2"
    return response


def problem_of(error: Exception, context: dict) -> Response:
    """REST framework's exception handler."""
    headers = {}
    if isinstance(error, APIException):
        status, title, detail = error.status_code, error.default_detail, error.detail
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header
        if getattr(error, "wait", None):
            headers["Retry-After"] = str(int(error.wait))
    else:
        status, title = status_of(error)
        detail = str(error) if isinstance(error, errors.AnswerableError) else title
    body = {"type": "about:blank", "title": str(title), "status": status, "detail": detail}
    return Response(body, status=status, headers=headers, content_type="application/problem+json")


def page_not_found(request: HttpRequest, exception: Exception):
    if request.path.startswith(("/api/", "/ingest/", "/log/")):
        return problem(404, "Not found", f"nothing lives at {request.path}")
    from django.shortcuts import render

    return render(request, "dashboard/error.html", {"status": 404, "title": "Nothing lives here"}, status=404)


def permission_denied(request: HttpRequest, exception: Exception):
    if request.path.startswith("/api/"):
        return problem(403, "Not permitted", str(exception))
    from django.shortcuts import render

    return render(
        request, "dashboard/error.html", {"status": 403, "title": "Your role does not allow this"}, status=403
    )
