"""The door for deliveries: past sessions, users, cookies and forms, none of which a sender has."""

import json

import structlog
from django.db import DatabaseError, DataError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from auditlog.api.views import ingest_view
from auditlog.core.errors import AnswerableError, ConfigurationDiffers
from auditlog.custody import security
from auditlog.database import clock
from auditlog.database.acting import acting_as
from auditlog.models import Membership, Tenant
from auditlog.models.directory import DEFAULT_TENANT
from auditlog.reads.access import Viewer
from auditlog.sources import configuration
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
        if answer.status_code in (400, 401, 403):
            _note_refusal(request, answer)
        return answer

    return middleware


# Refusals that are about who sends, and not about what: RFC 8935 section 2.4.
UNPROVEN = {"authentication_failed", "invalid_key", "access_denied", "invalid_issuer", "invalid_audience"}


def _note_refusal(request: HttpRequest, answer: HttpResponse) -> None:
    """A sender that did not prove itself, or spoke for others. Of a flood the first are told, the others counted."""
    try:
        err = json.loads(answer.content).get("err", "")
    except (ValueError, AttributeError):
        return
    if err not in UNPROVEN:
        return
    parts = request.path_info.split("/")[2:]
    try:
        tenant = Tenant.objects.filter(name=parts[0] if len(parts) > 1 else DEFAULT_TENANT).first()
    except (DatabaseError, InterfaceError):
        tenant = None
    security.note(
        tenant, "delivery.refused", who=f"a sender at /ingest/{'/'.join(parts)[:100]}", what=err, is_known=False,
        address=request.META.get("REMOTE_ADDR", ""), result=str(answer.status_code), now=clock.now(),
    )  # fmt: skip


# What takes something out, by the name of its address.
REVEALED = {"event-raw"}
EXPORTED = {"export-ocsf", "case-packet", "case-evidence-file"}


def watch_the_door(get_response):
    """Keep the security log: refusals, what is taken out, and what is changed by whom. After the answer was made, and
    in no transaction of it, so that nothing that is rolled back takes it along.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if (kind := _kind_of(request, response)) is not None:
            tenant, who, user_id = _asker(request)
            security.note(
                tenant, kind, who=who, user_id=user_id, what=f"{request.method} {request.path_info}", address=request.META.get("REMOTE_ADDR", ""),
                result=str(response.status_code), is_known=who != STRANGER, now=clock.now(),
            )  # fmt: skip
        return response

    return middleware


STRANGER = "nobody who proved it"


def _kind_of(request: HttpRequest, response: HttpResponse) -> str | None:
    if response.status_code in (401, 403):
        return None if getattr(response, "asks_for_proof", False) else "access.refused"
    if response.status_code == 200 and getattr(request, "reveals", False):
        return "record.revealed"
    name = request.resolver_match.url_name if request.resolver_match else None
    # A SIEM that asks again and again and is given nothing has taken nothing.
    if (
        response.status_code == 200
        and (name in REVEALED or name in EXPORTED)
        and (response.streaming or response.content)
    ):
        return "record.revealed" if name in REVEALED else "record.exported"
    changes = request.method in ("POST", "PUT", "PATCH", "DELETE") and request.path_info.startswith(CONFIGURES)
    # Pages answer a change by sending the browser on; 200 is a form that is shown again.
    return (
        "configuration.changed"
        if changes and response.status_code in (201, 204, 301, 302, 303) and _is_somebody(request)
        else None
    )


CONFIGURES = ("/admin/", "/sources/", "/receivers/", "/people/")


def _is_somebody(request: HttpRequest) -> bool:
    return request.user is not None and request.user.is_authenticated  # REST framework puts None there for nobody


def _asker(request: HttpRequest):
    """Tenant, name and account of whoever asked, as far as they proved it."""
    viewer = getattr(request, "viewer", None)
    try:
        if viewer is None and isinstance(request.user, Viewer):
            viewer = request.user
        if viewer is None and _is_somebody(request):
            membership = (
                Membership.objects.select_related("tenant").filter(user_id=request.user.pk).order_by("id").first()
            )
            return membership.tenant if membership else None, request.user.get_username(), request.user.pk
    except (DatabaseError, InterfaceError):
        return None, STRANGER, None
    if viewer is None:
        return None, STRANGER, None
    return viewer.tenant, viewer.name if viewer.user_id is not None else f"token {viewer.name}", viewer.user_id


def act_as_person(get_response):
    """Whoever is signed in is whom leaves name for what is changed meanwhile; an account that is not what the log
    states of it changes nothing and sees no configuration.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        user = request.user
        if not user.is_authenticated or (
            request.method in ("GET", "HEAD", "OPTIONS") and not request.path_info.startswith("/admin/")
        ):
            return get_response(request)
        try:
            configuration.refuse_if_differs(None, ("user", user.pk))
        except ConfigurationDiffers as error:
            return render(
                request,
                "dashboard/error.html",
                {"status": 403, "title": "Your account is not what the log states", "detail": str(error)},
                status=403,
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
        return render(
            request, "dashboard/error.html", {"status": status, "title": title, "detail": detail}, status=status
        )

    middleware.process_exception = process_exception
    return middleware
