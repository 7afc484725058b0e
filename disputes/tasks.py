"""Celery wake-ups of the argument: what there is to do is read from PostgreSQL."""

from celery import shared_task

from auditlog.database import clock
from disputes.jobs.assess import run_jobs
from disputes.mind import mind_deadlines


@shared_task(name="disputes.mind_deadlines", ignore_result=True)
def mind() -> None:
    """Warn of deadlines that come near, and do what missed ones do."""
    mind_deadlines(now=clock.now())


@shared_task(name="disputes.run_jobs", ignore_result=True)
def assess_large_cases() -> None:
    """Run the engine over cases that are too large for a request."""
    run_jobs(now=clock.now)
