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


def wake(tenant: str) -> None:
    """Ask a worker to walk the tenant's road. Never raises: without a broker the work waits for beat."""
    now = time.monotonic()
    if now - _last_sent.get(tenant, -1.0) < WAKE_EVERY:
        return  # the worker that was woken looks again after this long
    _last_sent[tenant] = now
    try:
        drive.apply_async([tenant], expires=30, ignore_result=True, retry=False)
    except Exception as error:
        UNSENT.inc()
        log.warning("wake-up not sent", tenant=tenant, error=type(error).__name__)


@shared_task(name="auditlog.drive", ignore_result=True)
def drive(tenant: str) -> None:
    """Project and detect until nothing is left, then look once more: a wake-up may have been held back meanwhile."""
    from auditlog.drive import drive_tenant

    drive_tenant(tenant, now=timezone.now)
    time.sleep(WAKE_EVERY * 1.5)
    drive_tenant(tenant, now=timezone.now)


@shared_task(name="auditlog.drive_all", ignore_result=True)
def drive_all() -> None:
    """Beat's round: whatever the wake-ups missed, and what waited for its grace period."""
    from auditlog.drive import drive_every_tenant
    from auditlog.health import beat

    beat("worker", now=timezone.now())
    drive_every_tenant(now=timezone.now)
