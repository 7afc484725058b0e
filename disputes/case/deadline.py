"""Deadlines of cases: those of a state begin and end with it, others are set by hand. What is done when one comes near
or is missed, `mind.py` does.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Min

from auditlog.core.errors import ConfigurationError, NotPossible
from auditlog.ledger.append import append_note
from auditlog.reads.access import Viewer
from disputes.case.locked import locked
from disputes.core.deadlines import OF_STATES, PRESETS, Clock, Preset, due_at, next_time
from disputes.core.status import OPEN
from disputes.models import Case, Deadline


def moved(case: Case, before: str, *, reason: str, now: datetime) -> None:
    """What a step does to the deadlines of a case: called after every one, with the state that it came from."""
    running = case.deadlines.filter(state=Deadline.State.RUNNING)
    if case.state == "suspended":
        for one in running:
            one.state, one.left, one.why = Deadline.State.PAUSED, max(one.due_at - now, timedelta()), reason
            one.save(update_fields=["state", "left", "why"])
        note_first(case)
        return
    if before == "suspended" and case.state in OPEN:
        for one in case.deadlines.filter(state=Deadline.State.PAUSED):
            one.state, one.due_at, one.left = Deadline.State.RUNNING, now + (one.left or timedelta()), None
            one.next_at = next_time(Clock(one.begins_at, one.due_at, one.warned))
            one.save(update_fields=["state", "due_at", "left", "next_at"])
        note_first(case)
        return
    running.filter(of_state=before).exclude(of_state="").update(state=Deadline.State.MET, ended_at=now)
    if case.state in OF_STATES:
        _start(case, OF_STATES[case.state][0], now=now)
    elif case.state not in ("decided_final", "reopened"):
        case.deadlines.filter(state__in=[Deadline.State.RUNNING, Deadline.State.PAUSED]).update(
            state=Deadline.State.CANCELLED, ended_at=now, why=f"the case is {case.state}"
        )
    note_first(case)


def _start(case: Case, preset: Preset, *, now: datetime) -> None:
    zone = settings.CASE_ZONE
    until = due_at(preset, now, zone)
    Deadline.objects.create(
        tenant=case.tenant,
        case=case,
        kind=preset.kind,
        source=preset.source,
        basis=preset.basis,
        of_state=case.state,
        zone=zone,
        begins_at=now,
        due_at=until,
        next_at=next_time(Clock(now, until)),
    )


def note_first(case: Case) -> None:
    """Keep on the case when the first of its deadlines that run is due."""
    first = case.deadlines.filter(state=Deadline.State.RUNNING).aggregate(first=Min("due_at"))["first"]
    if case.due_at != first:
        case.due_at = first
        case.save(update_fields=["due_at"])


@transaction.atomic
def set_deadline(
    case: Case,
    viewer: Viewer,
    *,
    now: datetime,
    preset: str = "",
    begins_at: datetime | None = None,
    due: datetime | None = None,
    basis: str = "",
) -> Deadline:
    """A deadline beside those of the states: of a preset, from `begins_at` on, or `due` on a date with its `basis`.

    Raises NotPermitted, NotFound or ConfigurationError, with the reason.
    """
    held = locked(case, viewer)
    if held.state not in (*OPEN, "suspended"):
        raise NotPossible(f"the case is {held.state}: there is nothing to wait for")
    zone = settings.CASE_ZONE
    if preset:
        if preset not in PRESETS:
            raise ConfigurationError(f"no preset {preset[:40]!r}; there are: {', '.join(PRESETS)}")
        said = PRESETS[preset]
        begins = begins_at or now
        made = Deadline(
            kind=said.kind,
            source=said.source,
            basis=said.basis,
            begins_at=begins,
            due_at=due or due_at(said, begins, zone),
        )
    else:
        if due is None or not basis.strip():
            raise ConfigurationError("expected a preset, or a date (due) with what it rests on (basis)")
        made = Deadline(
            kind="external", source="contract", basis=basis.strip()[:300], begins_at=begins_at or now, due_at=due
        )
    if made.due_at <= made.begins_at:
        raise ConfigurationError("a deadline ends after it begins")
    made.tenant, made.case, made.zone, made.set_by = held.tenant, held, zone, viewer.name
    made.next_at = next_time(Clock(made.begins_at, made.due_at))
    made.save()
    append_note(
        held.tenant,
        "case",
        {"change": "case.deadline", "case": held.ref, "deadline": made.pk, "kind": made.kind, "basis": made.basis,
         "due": made.due_at.isoformat(), "by": viewer.name},
        now=now,
    )  # fmt: skip
    note_first(held)
    return made
