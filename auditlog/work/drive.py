"""Drive: walk a tenant's road from its positions until nothing is left. What tasks, commands and tests call."""

import time
from collections.abc import Callable
from datetime import datetime

import structlog
from django.db import InterfaceError, OperationalError, connection

from auditlog.detection.detect import detect
from auditlog.incidents.gather import gather_findings
from auditlog.models import Tenant
from auditlog.projection.project import project

log = structlog.get_logger()
LEAST = 0.1  # seconds of one tenant's turn
AGAIN = 3  # walks in one go: what cannot be walked just now (a rebuild holds it) is not tried for ever


def drive_tenant(name: str, *, now: Callable[[], datetime], for_at_most: float | None = None) -> bool:
    """Project, detect and gather until caught up, or for so many seconds. Returns whether something was left then.

    Does nothing when another process is at it, which will see our work too: it looks once more when it has let go.
    """
    began = time.monotonic()
    tenant = Tenant.objects.get(name=name)
    for _ in range(AGAIN):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(hashtext('answerable.drive'), %s)", [tenant.pk])
            if not cursor.fetchone()[0]:
                return False
        try:
            is_over = _walk(tenant, now=now, until=None if for_at_most is None else began + for_at_most)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtext('answerable.drive'), %s)", [tenant.pk])
        if is_over:
            return True
        # Whoever came after our last look and before we let go has turned back: theirs is for us to see.
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT EXISTS (SELECT {_WAITING} AND t.id = %(tenant)s)", {"now": now(), "tenant": tenant.pk}
            )
            if not cursor.fetchone()[0]:
                return False
    return False


def _walk(tenant: Tenant, *, now: Callable[[], datetime], until: float | None) -> bool:
    """Whether the time was over before nothing was left."""

    def is_over() -> bool:
        return until is not None and time.monotonic() > until

    while True:
        # Detection keeps up with every batch before the next is projected, whatever each takes at once: findings are
        # never further behind than one batch.
        worked = project(tenant, now=now())
        while found := detect(tenant, now=now()):
            worked += found
            if is_over():
                return True
        # What was found is gathered before more is: an incident is never further behind than its findings.
        while gathered := gather_findings(tenant, now=now()):
            worked += gathered
            if is_over():
                return True
        if not worked:
            return False
        if is_over():
            return True


# Roads with something on them: new leaves, or dirty rows whose time has come.
_WAITING = """
    FROM auditlog_tenant t JOIN ledger_head h ON h.tenant_id = t.id
    JOIN projection_state s ON s.tenant_id = t.id AND s.is_current
    WHERE (h.size > s.position OR s.position > s.detected
        OR EXISTS (SELECT FROM projection_dirty d WHERE d.tenant_id = t.id AND d.due_at <= %(now)s)
        OR EXISTS (SELECT FROM incident_dirty d WHERE d.tenant_id = t.id AND d.due_at <= %(now)s))
"""


def drive_every_tenant(*, now: Callable[[], datetime], for_at_most: float | None = None) -> None:
    """Walk the roads that have something on them.

    The shortest backlog first, so that a long one delays nobody; `for_at_most` seconds are shared by all. What stops
    one tenant is logged, and the others go on.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT t.name {_WAITING} ORDER BY (h.size - s.position) + (h.size - s.detected), t.id",
            {"now": now()},
        )
        names = [name for (name,) in cursor.fetchall()]
    share = None if for_at_most is None else max(LEAST, for_at_most / max(1, len(names)))
    for name in names:
        try:
            drive_tenant(name, now=now, for_at_most=share)
        except (OperationalError, InterfaceError):
            raise  # the database itself: it stops all of them
        except Exception:
            log.exception("tenant not driven", tenant=name)
