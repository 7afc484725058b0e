"""Fetch: what a source announced is asked for, and appended beside the announcement as a statement of its own.

What is announced is read from the ledger itself, leaf by leaf from a position, so that an announcement is never lost;
what is due stands in rows. What comes back and the row's end are one transaction, so nothing is fetched for nothing.
What cannot be had is tried again, later each time, and given up in the open.
"""

import time
from collections.abc import Callable
from datetime import datetime

import structlog
from django.db import connection, transaction

from auditlog import formats
from auditlog.core.errors import NotConfigured, OutboundError, Refused, TooManyRequests, UnexpectedAnswer
from auditlog.formats import Received
from auditlog.ingest.receive import read_by_format, refuse, take
from auditlog.ledger.append import EPOCH
from auditlog.models import LogHead, PendingFetch, Pull, Source
from auditlog.sources import outbound
from auditlog.sources.pull import alone, back_off, expected_ok, failed, locked, pull_of, succeeded, with_key
from auditlog.sources.sender import sender_of

log = structlog.get_logger()
WINDOW = 5_000  # leaves looked at in one transaction
AT_ONCE = 100  # rows of one look
BOUNDS = outbound.Bounds(size=1024 * 1024)
DUE, DONE, GIVEN_UP = PendingFetch.State.DUE, PendingFetch.State.DONE, PendingFetch.State.GIVEN_UP
# Tries until it is given up, by status; any other failure is somebody's outage, and worth two days of them.
TRIES = {410: 1, 404: 4, 403: 30}
TRIES_IF_REFUSED, TRIES_IF_DOWN = 4, 60


def fetch(
    source: Source, *, now: Callable[[], datetime], call: outbound.Call = outbound.call, for_at_most: float = 10.0
) -> int:
    """Fetch what is due of a source, for so many seconds. Returns how much of it came.

    Does nothing while somebody else is at it. What goes wrong is kept for the source's page.
    """
    with alone(source, Pull.Kind.FETCH) as mine:
        if not mine or source.state != Source.State.ACTIVE:
            return 0
        ends = time.monotonic() + for_at_most
        while note_announced(source, now=now()) and time.monotonic() < ends:
            pass
        pull = pull_of(source, Pull.Kind.FETCH)
        if pull.due_at is not None and pull.due_at > now():
            return 0  # the host wants to be left alone, or was away a moment ago
        brought, asked = 0, False
        while (row := _next(source, now=now())) is not None and time.monotonic() < ends:
            asked = True
            try:
                brought += _fetch_one(source, row, now=now(), call=call)
            except _SourceWide as stopped:
                failed(pull, stopped.error, now=now(), asked=stopped.retry_after)
                return brought
            note_announced(source, now=now())  # what came may announce more
        if asked:
            succeeded(pull, brought=brought, due_at=None, now=now())
        return brought


@transaction.atomic
def note_announced(source: Source, *, now: datetime) -> bool:
    """Look at the next leaves for what they announce. Returns whether there are more.

    Rows and position move together: looked at twice, a leaf adds nothing.
    """
    pull = locked(source, Pull.Kind.FETCH)
    size = LogHead.objects.get(tenant_id=source.tenant_id, epoch=EPOCH).size
    if pull.position >= size:
        return False
    end, module, rows = min(pull.position + WINDOW, size), formats.named(source.format), []
    with connection.cursor() as cursor:
        cursor.execute(_READ, [source.tenant_id, EPOCH, pull.position, end, source.pk])
        for leaf_index, raw, headers in cursor.fetchall():
            try:
                found = module.announced(bytes(raw), bytes(headers))
            except Refused as error:  # taken once, by another version of the parser
                log.warning("announcement not read", source=source.name, leaf_index=leaf_index, reason=str(error)[:200])
                continue
            rows += [
                PendingFetch(
                    tenant_id=source.tenant_id,
                    source=source,
                    name=one.name,
                    asks=one.asks,
                    leaf_index=leaf_index,
                    due_at=now,
                )
                for one in found
            ]
    PendingFetch.objects.bulk_create(rows, ignore_conflicts=True)
    pull.position = end
    pull.save(update_fields=["position"])
    return end < size


_READ = """
    SELECT l.leaf_index, p.raw, p.headers FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index >= %s AND l.leaf_index < %s AND l.source_id = %s AND l.kind = 0
    ORDER BY l.leaf_index
"""


class _SourceWide(Exception):
    """What went wrong would go wrong for everything else of this source too."""

    def __init__(self, error: Exception, retry_after: int | None = None) -> None:
        super().__init__(str(error))
        self.error, self.retry_after = error, retry_after


def _next(source: Source, *, now: datetime) -> PendingFetch | None:
    rows = PendingFetch.objects.filter(tenant_id=source.tenant_id, source=source, state=DUE, due_at__lte=now)
    return rows.order_by("due_at", "id").first()


def _fetch_one(source: Source, row: PendingFetch, *, now: datetime, call: outbound.Call) -> int:
    """Returns whether it came: 1 or 0. Raises _SourceWide."""
    module = formats.named(source.format)
    try:
        request = with_key(module.fetch_request(row.asks, source.api_url or module.API), source)
        answer = call(request, allow_private=source.allow_private, bounds=BOUNDS)
        body = expected_ok(answer, request.host, now=now).body
    except NotConfigured as error:
        raise _SourceWide(error) from None
    except UnexpectedAnswer as error:
        if error.status == 401:  # no try of this one: with a good key it may well be there
            raise _SourceWide(error, error.retry_after) from None
        if error.status == 429 or error.status >= 500:
            _later(row, error, tries=TRIES_IF_DOWN, asked=error.retry_after, now=now)
            raise _SourceWide(error, error.retry_after) from None
        _later(row, error, tries=TRIES.get(error.status, TRIES_IF_REFUSED), asked=error.retry_after, now=now)
        return 0
    except OutboundError as error:
        _later(row, error, tries=TRIES_IF_DOWN, now=now)
        raise _SourceWide(error) from None
    try:
        statement = read_by_format(source, lambda: module.fetched(body, row.asks, sender_of(source)))
        with transaction.atomic():
            taken = take(source, Received({statement.source_event_id: statement}), now=now)
            _end(row, GIVEN_UP if taken.refused else DONE, now=now, error="; ".join(map(str, taken.refused.values())))
    except Refused as refused:
        refuse(source, refused, now=now)
        _end(row, GIVEN_UP, now=now, error=f"what came back was refused: {refused}")
        return 0
    except TooManyRequests as error:
        raise _SourceWide(error, error.retry_after) from None
    return len(taken.appended)


def _later(row: PendingFetch, error: Exception, *, tries: int, now: datetime, asked: int | None = None) -> None:
    row.attempts += 1
    if row.attempts >= tries:
        _end(row, GIVEN_UP, now=now, error=f"{error}, {row.attempts} times")
        return
    row.error, row.due_at = str(error)[:2000], now + back_off(row.attempts, asked=asked)
    row.save(update_fields=["attempts", "error", "due_at"])


def _end(row: PendingFetch, state: str, *, now: datetime, error: str = "") -> None:
    row.state, row.error, row.ended_at = state, error.replace("\x00", "")[:2000], now
    row.save(update_fields=["state", "error", "ended_at", "attempts"])
