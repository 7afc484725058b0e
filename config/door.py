"""The door for deliveries: past sessions, users, cookies and forms, none of which a sender has."""

import structlog
from django.http import HttpRequest, HttpResponse

from auditlog.views import ingest_view
from config.errors import refusal

log = structlog.get_logger()


def ingest_first(get_response):
    def middleware(request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith("/ingest/"):
            return get_response(request)
        try:
            return ingest_view(request)
        except Exception as error:
            answer = refusal(error)  # raises again what no row of its table knows
            if answer.status_code >= 500:
                log.error("ingest unavailable", path=request.path_info, error=type(error).__name__)
            return answer

    return middleware
