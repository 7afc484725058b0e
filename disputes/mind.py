"""Mind: what becomes of cases by themselves. Deadlines are warned of, each warning once; one that is missed decides on
the record, by nobody's hand: the step says that a deadline did it. Beat calls.
"""

from datetime import datetime

import structlog
from django.db import transaction

from disputes.adjudicate import POLICY
from disputes.case.record_step import DEADLINE, record_step
from disputes.core.deadlines import OF_STATES, Clock, next_time, warnings_due
from disputes.decide import effects
from disputes.models import Case, Deadline

log = structlog.get_logger()
AT_ONCE = 200  # deadlines in one round


def mind_deadlines(*, now: datetime) -> int:
    """Give the warnings whose time has come, and take the steps that missed deadlines take. Returns how many steps."""
    due = Deadline.objects.filter(state=Deadline.State.RUNNING, next_at__lte=now).order_by("next_at")[:AT_ONCE]
    steps = 0
    for case_id in dict.fromkeys(due.values_list("case_id", flat=True)):
        try:
            steps += _mind(case_id, now=now)
        except Exception:  # one case that cannot be moved holds up no other; the next round tries it again
            log.exception("deadline not minded", case_id=case_id)
    return steps


@transaction.atomic
def _mind(case_id: int, *, now: datetime) -> bool:
    case = Case.objects.select_for_update().select_related("tenant").get(pk=case_id)
    for one in case.deadlines.filter(state=Deadline.State.RUNNING, next_at__lte=now).order_by("due_at"):
        for warning in warnings_due(Clock(one.begins_at, one.due_at, one.warned), now):
            one.warned = [*one.warned, warning]
            log.info("deadline", case=case.ref, kind=one.kind, warning=warning, due=one.due_at.isoformat())
        one.next_at = next_time(Clock(one.begins_at, one.due_at, one.warned))
        to = OF_STATES[case.state][1] if one.of_state == case.state and case.state in OF_STATES else ""
        if one.due_at <= now and to:
            one.state, one.ended_at, one.next_at = Deadline.State.MISSED, now, None
            one.save(update_fields=["warned", "next_at", "state", "ended_at"])
            reason = f"{one.basis}: it was {one.due_at:%Y-%m-%d %H:%M} UTC, and nobody had moved the case"
            noted = effects(case, to, now=now)
            record_step(case, to, hand=DEADLINE, reason=reason, policy_version=POLICY.version, now=now, **noted)
            return True
        one.save(update_fields=["warned", "next_at"])
    return False
