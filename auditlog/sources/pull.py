"""Pull: the rows that say what the service asks of others by itself, and when next. What it asked for is in the ledger.

One of a kind and source at a time (an advisory lock, which dies with its process). Nothing here is held during a call.
Exports, which go the other way, keep their rows and are held apart in the same way.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Model

from auditlog.core.errors import NotConfigured, UnexpectedAnswer
from auditlog.core.wire.request import Request, Response
from auditlog.models import Export, ExportStream, Pull, Source
from auditlog.sources.source_secrets import source_secret

ASKED = ("jwks_url", "poll_url", "poll_seconds", "api_url", "api_key_env", "allow_private")  # of a source
LEAST, MOST = timedelta(seconds=10), timedelta(hours=1)  # between two tries of what fails


def pull_of(source: Source, kind: str) -> Pull:
    pull, _ = Pull.objects.get_or_create(source=source, kind=kind, defaults={"tenant_id": source.tenant_id})
    pull.source = source  # as it is being asked, whatever it becomes meanwhile
    return pull


@contextmanager
def alone(row: Model, kind: str) -> Iterator[bool]:
    """Whether nobody else is at this row's `kind` meanwhile."""
    name = f"answerable.pull.{kind}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s), %s)", [name, row.pk])
        [mine] = cursor.fetchone()
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtext(%s), %s)", [name, row.pk])


def back_off(failures: int, *, asked: int | None = None) -> timedelta:
    """How long to wait after so many failures in a row: doubling, and up to half of it less, so that not all come at
    once. `asked`: the seconds that the host wants to be left alone for, which are kept to.
    """
    longest = min(MOST, LEAST * 2 ** min(max(0, failures - 1), 12))
    wait = longest * (1 - random.random() / 2)
    return max(wait, timedelta(seconds=asked)) if asked is not None else wait


def succeeded(pull: Pull, *, brought: int, due_at: datetime, warning: str = "", now: datetime, **more: object) -> None:
    """It went well; `more` fields are written with it."""
    pull.last_at = pull.succeeded_at = now
    pull.brought, pull.failures, pull.error, pull.warning, pull.due_at = (
        brought,
        0,
        "",
        warning.replace("\x00", "")[:2000],
        due_at,
    )
    _save(pull, "succeeded_at", "brought", "warning", **more)


def failed(
    pull: Pull | ExportStream, error: Exception | str, *, now: datetime, asked: int | None = None, **more: object
) -> None:
    """It did not; it is tried again after a while, later each time."""
    pull.last_at, pull.failures, pull.error = now, pull.failures + 1, str(error).replace("\x00", "")[:2000]
    pull.due_at = now + back_off(pull.failures, asked=asked)
    _save(pull, **more)


def _save(pull: Pull | ExportStream, *fields: str, **more: object) -> None:
    for name, value in more.items():
        setattr(pull, name, value)
    keep(pull, "last_at", "failures", "error", "due_at", *fields, *more)


@transaction.atomic
def keep(pull: Pull | ExportStream, *fields: str) -> None:
    """Write these fields of a row. What was configured anew while it was being asked stays: where to go on and when
    next are then those of the new configuration, and not of the address that was asked.
    """
    if isinstance(pull, Pull):
        before = pull.source
        after = Source.objects.select_for_update(no_key=True).get(pk=before.pk)
        if any(getattr(before, name) != getattr(after, name) for name in ASKED):
            fields = tuple(name for name in fields if name not in ("due_at", "state"))
    elif Export.objects.select_for_update(no_key=True).get(pk=pull.export_id).url != pull.export.url:
        fields = tuple(name for name in fields if name != "due_at")
    pull.save(update_fields=list(fields))


def claim(source: Source, kind: str, *, every: timedelta, now: datetime) -> bool:
    """Whether this is the first to ask in `every`, over all processes."""
    pull_of(source, kind)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE source_pull SET asked_at = %s WHERE tenant_id = %s AND source_id = %s AND kind = %s"
            " AND (asked_at IS NULL OR asked_at <= %s)",
            [now, source.tenant_id, source.pk, kind, now - every],
        )
        return cursor.rowcount == 1


def locked(source: Source, kind: str) -> Pull:
    """The row, for the rest of the open transaction."""
    assert transaction.get_connection().in_atomic_block
    pull_of(source, kind)
    return Pull.objects.select_for_update().get(tenant_id=source.tenant_id, source=source, kind=kind)


def with_key(request: Request, source: Source) -> Request:
    """The request under our key for the source's API. Raises NotConfigured where that is not set."""
    if not source.api_key_env:
        return request
    key = source_secret(source.api_key_env, source.tenant)
    if not key:
        raise NotConfigured(f"{source.api_key_env} is not set where the service runs")
    return request.with_headers(Authorization=f"Bearer {key.decode('utf-8', 'replace').strip()}")


def expected_ok(answer: Response, host: str, *, now: datetime) -> Response:
    """Raises UnexpectedAnswer unless the status is 200."""
    if answer.status != 200:
        hint = ": our key for it is not good" if answer.status in (401, 403) else ""
        raise UnexpectedAnswer(
            f"{host} answered {answer.status}, expected 200{hint}",
            status=answer.status, retry_after=answer.retry_after(now=now),
        )  # fmt: skip
    return answer
