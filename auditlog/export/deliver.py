"""Deliver: what an export has not sent yet goes out by webhook, in batches of lines, from its position on.

Signed in the way of Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature), or under a token of the
receiver's in `Authorization`, or both; secret and token are in the environment and nowhere else. The position moves
once the receiver has answered 2xx, so a batch may come twice and is never left out: every object has a stable id
(`metadata.uid`, `externalId`), and the same batch the same webhook-id. What fails is tried again, later each time, for
as long as it takes; nothing is given up.
"""

import re
import time
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

import structlog
from django.db import connection

from auditlog.core.errors import AnswerableError, NotConfigured, Refused, UnexpectedAnswer
from auditlog.core.wire.request import Request
from auditlog.export.siem import read_page, streams
from auditlog.export.stream import Page
from auditlog.formats.standard_webhooks import signature
from auditlog.models import Export, ExportStream, Tenant
from auditlog.sources import configuration, outbound
from auditlog.sources.pull import alone, failed
from auditlog.sources.source_secrets import source_secret

log = structlog.get_logger()
BATCH = 500  # objects of one request
BOUNDS = outbound.Bounds(read=20.0, total=30.0, size=64 * 1024)
_TOKEN = re.compile(rb"[!-~]{1,4000}\Z")
CONTENT_TYPES = {"ocsf": "application/x-ndjson", "cef": "text/plain; charset=utf-8"}


def due_streams(*, now: datetime) -> list[int]:
    """Streams that have something to send and may, longest due first."""
    has_more = " ".join(f"WHEN '{stream.name}' THEN {stream.has_more}" for stream in streams().values())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id FROM export_stream s JOIN auditlog_export e ON e.id = s.export_id AND e.tenant_id ="
            " s.tenant_id"
            f" WHERE e.state = 'active' AND (s.due_at IS NULL OR s.due_at <= %s) AND CASE s.what {has_more} END"
            " ORDER BY s.due_at NULLS FIRST, s.last_at NULLS FIRST, s.id",
            [now],
        )
        return [id for (id,) in cursor.fetchall()]


def deliver(
    stream_id: int, *, now: Callable[[], datetime], call: outbound.Call = outbound.call, for_at_most: float = 20.0
) -> int:
    """Send what one stream has not sent, for so many seconds. Returns how many objects went out.

    Does nothing while somebody else is at it. What goes wrong is kept for the page.
    """
    stream = ExportStream.objects.select_related("export", "tenant").get(pk=stream_id)
    with alone(stream, "export") as mine:
        if not mine:
            return 0
        stream.refresh_from_db()
        export, sent, size, ends = stream.export, 0, BATCH, time.monotonic() + for_at_most
        if export.state != Export.State.ACTIVE or (stream.due_at is not None and stream.due_at > now()):
            return 0
        try:
            configuration.refuse_if_differs(stream.tenant, ("export", export.pk))
            if configuration.binds(stream.tenant, ("export", export.pk)) is not None:
                return 0  # where to is not published yet
            more = True
            while more and time.monotonic() < ends:
                page = read_page(stream.tenant, stream.what, format=export.kind, after=stream.position, size=size)
                try:
                    _post(export, stream, page, now=now(), call=call)
                except UnexpectedAnswer as error:
                    if error.status != 413 or size == 1 or len(page.lines) < 2:
                        raise
                    size = max(1, len(page.lines) // 2)  # too large for this receiver
                    continue
                _passed(stream, page, now=now())
                sent, more = sent + len(page.lines), page.more
        except AnswerableError as error:
            failed(stream, error, now=now(), asked=getattr(error, "retry_after", None))
            log.warning(
                "not exported", tenant=stream.tenant.name, export=export.name, what=stream.what, reason=str(error)[:200]
            )
        return sent


def _post(export: Export, stream: ExportStream, page: Page, *, now: datetime, call: outbound.Call) -> None:
    """One batch. Raises OutboundError unless the receiver answers 2xx."""
    if not page.lines:
        return
    body = b"".join(page.lines)
    id = f"{export.pk}-{stream.what}-{stream.position}-{sha256(body).hexdigest()[:24]}"
    at = str(int(now.timestamp()))
    headers = {
        "Content-Type": CONTENT_TYPES[export.kind],
        "webhook-id": id,
        "webhook-timestamp": at,
        "Answerable-Next-Cursor": str(page.next),
    }
    if export.secret_env:
        try:
            headers["webhook-signature"] = f"v1,{signature(_secret(export.secret_env, export.tenant), id, at, body)}"
        except Refused:
            raise NotConfigured(
                f"{export.secret_env} does not hold a secret of Standard Webhooks: expected whsec_ and base64"
            ) from None
    if export.token_env:
        token = _secret(export.token_env, export.tenant).strip()
        if not _TOKEN.match(token):
            raise NotConfigured(f"{export.token_env} does not hold a token: expected visible ASCII without spaces")
        headers["Authorization"] = f"{export.token_scheme} {token.decode()}"
    request = Request(export.url, "POST", body, headers)
    answer = call(request, allow_private=export.allow_private, bounds=BOUNDS)
    if not 200 <= answer.status < 300:
        raise UnexpectedAnswer(
            f"{request.host} answered {answer.status} to {len(page.lines):,} {stream.what}, expected 2xx",
            status=answer.status, retry_after=answer.retry_after(now=now),
        )  # fmt: skip


def _secret(variable: str, tenant: Tenant) -> bytes:
    """Raises NotConfigured."""
    secret = source_secret(variable, tenant)
    if not secret:
        raise NotConfigured(f"{variable} is not set where the service runs")
    return secret


def _passed(stream: ExportStream, page: Page, *, now: datetime) -> None:
    stream.position, stream.sent = page.next, stream.sent + len(page.lines)
    stream.last_at = stream.succeeded_at = now
    stream.failures, stream.error, stream.due_at = 0, "", None
    stream.save(update_fields=["position", "sent", "last_at", "succeeded_at", "failures", "error", "due_at"])
