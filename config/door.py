"""The door for deliveries: past sessions, users, cookies and forms, none of which a sender has."""

import structlog
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from auditlog import configuration
from auditlog.acting import acting_as
from auditlog.core.errors import AnswerableError, ConfigurationDiffers
from auditlog.views import ingest_view
from config.errors import problem, refusal, status_of

log = structlog.get_logger()
MACHINES = ("/api/", "/log/", "/ingest/", "/.well-known/")


def ingest_first(get_response):
    def middleware(request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith("/ingest/"):
            return get_response(request)
        try:
            answer = ingest_view(request)
        except Exception as error:
            answer = refusal(error)  # raises again what no row of its table knows
            if answer.status_code >= 500:
                log.error("ingest unavailable", path=request.path_info, error=type(error).__name__)
        # Without it every answer is sent in chunks, an empty one in two packets.
        answer.headers["Content-Length"] = str(len(answer.content))
        return answer

    return middleware


def act_as_person(get_response):
    """Whoever is signed in is whom leaves name for what is changed meanwhile; an account that is not what the log states of
    it changes nothing and sees no configuration.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        user = request.user
        if not user.is_authenticated or (request.method in ("GET", "HEAD", "OPTIONS") and not request.path_info.startswith("/admin/")):
            return get_response(request)
        try:
            configuration.refuse_if_differs(None, ("user", user.pk))
        except ConfigurationDiffers as error:
            return render(
                request, "dashboard/error.html", {"status": 403, "title": "Your account is not what the log states", "detail": str(error)}, status=403
            )
        with acting_as(f"{user.get_username()} (account {user.pk})"):
            return get_response(request)

    return middleware


def tell_errors(get_response):
    """Domain errors of pages and public reads, in words: a problem for machines, a page for people."""

    def middleware(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    def process_exception(request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, (AnswerableError, DataError)):
            return None
        status, title = status_of(error)
        detail = str(error) if isinstance(error, AnswerableError) else "It holds what no record can hold."
        if request.path_info.startswith(MACHINES):
            return problem(status, title, detail)
        return render(request, "dashboard/error.html", {"status": status, "title": title, "detail": detail}, status=status)

    middleware.process_exception = process_exception
    return middleware
