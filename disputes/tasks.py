"""Celery wake-ups of the argument: what there is to do is read from PostgreSQL."""

from celery import shared_task

from auditlog.database import clock
from disputes.mind import mind_deadlines


@shared_task(name="disputes.mind_deadlines", ignore_result=True)
def mind() -> None:
    """Warn of deadlines that come near, and do what missed ones do."""
    mind_deadlines(now=clock.now())
