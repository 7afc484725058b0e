"""Celery wake-ups around the verbs. A message says "look", never what to do: the work list is in PostgreSQL."""

import time

import structlog
from celery import shared_task
from django.utils import timezone
from prometheus_client import Counter

log = structlog.get_logger()
WAKE_EVERY = 0.1  # seconds: at most one wake-up a tenant and process in this time
UNSENT = Counter("answerable_wakeups_unsent", "Wake-ups that the broker did not take; beat drives the work instead")
_last_sent: dict[str, float] = {}
_last_look: dict[str, float] = {}  # of this worker process: when its last look at a tenant began


def wake(tenant: str) -> None:
    """Ask a worker to walk the tenant's road. Never raises: without a broker the work waits for beat."""
    now = time.monotonic()
    if now - _last_sent.get(tenant, -1.0) < WAKE_EVERY:
        return  # the worker that was woken looks again after this long
    _last_sent[tenant] = now
    try:
        drive.apply_async([tenant, time.time()], expires=30, ignore_result=True, retry=False)
    except Exception as error:
        UNSENT.inc()
        log.warning("wake-up not sent", tenant=tenant, error=type(error).__name__)


@shared_task(name="auditlog.drive", ignore_result=True)
def drive(tenant: str, since: float, again: bool = True) -> None:
    """Project and detect, and look once more for what came while further wake-ups were held back.

    A look that began after `since` (seconds since 1970 by the sender's clock) has seen all that this message could
    mean, so it is not repeated. Clocks that differ cost a look, or leave one to beat, which comes every second.
    """
    from auditlog.drive import drive_tenant

    if _last_look.get(tenant, 0.0) < since:
        _last_look[tenant] = time.time()
        drive_tenant(tenant, now=timezone.now)
    if again:
        later = since + WAKE_EVERY
        # By countdown, not by sleeping: other tenants' work goes on meanwhile.
        drive.apply_async([tenant, later, False], countdown=max(0.0, later - time.time()) + 0.02, expires=30, retry=False)


@shared_task(name="auditlog.drive_all", ignore_result=True)
def drive_all() -> None:
    """Beat's round: whatever the wake-ups missed, and what waited for its grace period."""
    from auditlog.drive import drive_every_tenant
    from auditlog.health import beat

    beat("worker", now=timezone.now())
    drive_every_tenant(now=timezone.now)
