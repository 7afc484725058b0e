"""Assess: seal a case of thousands of acts, or run the engine on it again, in a worker, and say how far it is.

What is to be done is a row; a worker takes one at a time. A worker that dies leaves its row touched long ago, and another
takes it: the step is one transaction, so it was taken whole or not at all.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db import IntegrityError, connections, transaction
from django.db.models import Q

from auditlog.core.errors import AnswerableError, NotPermitted, NotPossible
from auditlog.models import Membership
from auditlog.reads.access import Viewer
from disputes.adjudicate import PROGRESS
from disputes.case.record_step import check_step
from disputes.decide import assess_again, move
from disputes.models import AssessmentJob, Case

log = structlog.get_logger()
AT_ONCE = 2_000  # acts that are judged in a request
GIVEN_UP = timedelta(minutes=10)  # after a worker last said that it is at it


def is_for_a_worker(case: Case, to: str) -> bool:
    """Whether this step judges more acts than a request has time for."""
    judges = to == "record_sealed" or (to == "assessment" and case.state == "record_sealed" and not case.sealed_digest)
    return judges and case.acts.count() > AT_ONCE


def ask(case: Case, viewer: Viewer, *, to: str = "", reason: str = "", now: datetime) -> AssessmentJob:
    """Have it done. `to` "": run again. Raises as the step itself would, and NotPossible where one is under way."""
    viewer.must("case")
    if to:
        check_step(case, to, viewer=viewer, reason=reason)
    elif not reason.strip():
        raise NotPossible("to run the engine again needs a reason")
    try:
        with transaction.atomic():
            return AssessmentJob.objects.create(
                tenant=case.tenant, case=case, kind=AssessmentJob.Kind.SEAL if to else AssessmentJob.Kind.AGAIN, to_state=to,
                reason=reason, role=str(viewer.role), name=viewer.name, user_id=viewer.user_id, provider=viewer.provider,
                stands_for=list(viewer.stands_for), asked_at=now, total=case.acts.count(), touched_at=now,
            )  # fmt: skip
    except IntegrityError:
        raise NotPossible("the engine is at this case already: wait until it is done") from None


def run_jobs(*, now: Callable[[], datetime]) -> int:
    """Do what was asked for, one after another. Returns how many."""
    done = 0
    while (job := _take(now())) is not None:
        _run(job, now)
        done += 1
    return done


@transaction.atomic
def _take(at: datetime) -> AssessmentJob | None:
    free = Q(state=AssessmentJob.State.WAITING) | Q(state=AssessmentJob.State.RUNNING, touched_at__lt=at - GIVEN_UP)
    job = AssessmentJob.objects.select_for_update(skip_locked=True).filter(free).order_by("id").first()
    if job is not None:
        job.state, job.judged, job.touched_at = AssessmentJob.State.RUNNING, 0, at
        job.save(update_fields=["state", "judged", "touched_at"])
    return job


def _run(job: AssessmentJob, now: Callable[[], datetime]) -> None:
    case = Case.objects.select_related("tenant").get(tenant_id=job.tenant_id, pk=job.case_id)
    viewer = Viewer(case.tenant, job.role, job.name, job.user_id, job.provider, tuple(job.stands_for))
    told = PROGRESS.set(lambda judged: _tell(job.pk, judged, now()))
    state, error = AssessmentJob.State.DONE, ""
    try:
        if (
            job.user_id
            and not Membership.objects.filter(tenant=case.tenant, user_id=job.user_id, role=job.role).exists()
        ):
            raise NotPermitted(f"{job.name} asked for it, and has that role no more")
        if job.kind == AssessmentJob.Kind.AGAIN:
            assess_again(case, viewer=viewer, reason=job.reason, now=now())
        elif not case.transitions.filter(to_state=job.to_state, at__gte=job.asked_at).exists():  # else it was done
            move(case, job.to_state, viewer=viewer, reason=job.reason, now=now())
    except AnswerableError as refused:
        state, error = AssessmentJob.State.FAILED, str(refused)[:2_000]
    except Exception as failed:
        log.exception("case not assessed", case=case.ref)
        state, error = (
            AssessmentJob.State.FAILED,
            f"the engine could not go through ({type(failed).__name__}): ask again",
        )
    finally:
        PROGRESS.reset(told)
    judged = job.total if state == AssessmentJob.State.DONE else 0
    AssessmentJob.objects.filter(pk=job.pk).update(state=state, error=error, judged=judged, touched_at=now())


def _tell(job_id: int, judged: int, at: datetime) -> None:
    """On a connection of its own: the run itself is one transaction, of which nothing is seen until it is over."""

    def write() -> None:
        try:
            AssessmentJob.objects.filter(pk=job_id).update(judged=judged, touched_at=at)
        finally:
            connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
