"""Domain errors to HTTP answers, in one table. Problems are RFC 9457; refusals of events RFC 8935 section 2.4."""

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import DataError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponseServerError, JsonResponse
from rest_framework.exceptions import APIException, ValidationError
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
    (errors.NotInForce, 503, "Not in force yet"),
    (errors.NotScanned, 503, "Not scanned"),
    (errors.ConfigurationDiffers, 503, "Configuration is not what the log states"),
    (errors.OutboundError, 502, "Another host did not answer"),
    (errors.AnswerableError, 400, "Bad request"),
    (Http404, 404, "Not found"),
    (ObjectDoesNotExist, 404, "Not found"),
    (PermissionDenied, 403, "Not permitted"),
    (DataError, 400, "Bad request"),  # a value that the database has no room for: NUL, a number too large
    (OperationalError, 503, "Database unavailable"),
    (InterfaceError, 503, "Database unavailable"),
    (InternalError, 503, "Database unavailable"),  # a transaction that slept too long: the database ended it
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
    err = getattr(error, "err", "invalid_request" if status < 500 else "unavailable")
    body = {"err": err, "description": str(error) if known else title}
    response = JsonResponse(body, status=status)
    if isinstance(error, errors.TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    elif status == 503:
        response.headers["Retry-After"] = "2"
    return response


def problem_of(error: Exception, context: dict) -> Response:
    """REST framework's exception handler."""
    headers, more = {}, {}
    if isinstance(error, ValidationError):
        status, title, detail, more = 400, "Bad request", _in_words(error.detail), {"errors": error.detail}
    elif isinstance(error, APIException):
        status, title, detail = error.status_code, error.default_detail, str(error.detail)
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header
        if getattr(error, "wait", None):
            headers["Retry-After"] = str(int(error.wait))
    else:
        status, title = status_of(error)
        detail = str(error) if isinstance(error, errors.AnswerableError) else title
    body = {"type": "about:blank", "title": str(title), "status": status, "detail": detail, **more}
    return Response(body, status=status, headers=headers, content_type="application/problem+json")


def _in_words(detail: object, name: str = "") -> str:
    """What is wrong with a body, as one sentence a field: `detail` of a problem is text (RFC 9457 section 3.1.4)."""
    if isinstance(detail, dict):
        return "; ".join(
            _in_words(value, f"{name}.{key}" if name else str(key)) for key, value in detail.items() if value
        )
    if isinstance(detail, list) and any(isinstance(each, (dict, list)) for each in detail):
        return "; ".join(_in_words(each, f"{name}[{number}]") for number, each in enumerate(detail) if each)
    text = " ".join(str(each) for each in detail) if isinstance(detail, list) else str(detail)
    return f"{name}: {text}" if name and name != "non_field_errors" else text


def server_error(request: HttpRequest):
    """What nobody foresaw. The log has it; the caller gets a problem, never a page where it reads JSON."""
    if request.path.startswith(("/api/", "/ingest/", "/log/")):
        return problem(500, "Internal error", "this is our fault, and it is in our log")
    return HttpResponseServerError("<h1>Something went wrong</h1><p>It is in our log.</p>")


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
