"""Record step: one transition of a case, checked against the table, chained to the one before, committed in the log."""

from datetime import datetime
from typing import Any

from auditlog.core.errors import NotPermitted, NotPossible
from auditlog.ledger.append import append_note
from auditlog.models import Role
from auditlog.reads.access import MAY, Viewer, person_of
from disputes.core.history import Taken
from disputes.core.status import AWAITING, Refusal, Standing, check_transition
from disputes.models import Case, Transition

# Moves of whoever complains; a desk that did not open the case is on the other side.
CLAIMANTS = frozenset({"filed", "withdrawn", "settled", "suspended", "merged"})


def standing_of(case: Case) -> Standing:
    """Where the case is, and whose hands it went through."""
    waiting = case.proposals.filter(approval=None).order_by("-number").values_list("person", flat=True).first()
    return Standing(
        state=case.state,
        proposer=waiting or "",
        took_part=frozenset(case.transitions.values_list("person", flat=True)),
        suspended_from=case.suspended_from,
        was_reopened=case.was_reopened,
    )


def check_step(case: Case, to: str, *, viewer: Viewer, reason: str | None) -> None:
    """Raises NotPermitted when it is not this person's to do, NotPossible when nobody can as things are."""
    refusal = refusal_of(case, to, viewer=viewer, reason=reason)
    if refusal is not None:
        raise (NotPossible if refusal.permitted else NotPermitted)(refusal.reason)


def refusal_of(
    case: Case, to: str, *, viewer: Viewer, reason: str | None, standing: Standing | None = None, person: str = ""
) -> Refusal | None:
    """Why this caller may not move the case to `to`; None when they may. `standing` and `person` where they are known."""
    if (
        to in CLAIMANTS
        and viewer.role == Role.ABUSE
        and not case.transitions.filter(position=0, role=Role.ABUSE).exists()
    ):
        return Refusal(
            f"the desk of the provider that a case is about may not make it {to}: that is the claimant's to do", False
        )
    person = person or person_of(viewer)
    return check_transition(standing or standing_of(case), to, person=person, may=MAY[viewer.role], reason=reason)


def record_step(
    case: Case, to: str, *, viewer: Viewer, reason: str, policy_version: str, now: datetime, **noted: Any
) -> Transition:
    """Move the case, keep the step, append its `case` leaf. The caller holds the case's row and has checked the step.

    `noted` goes into the leaf beside the step.
    """
    last = case.transitions.order_by("-position").first()
    step = Taken(
        case=case.ref,
        position=last.position + 1 if last else 0,
        from_state=case.state,
        to_state=to,
        person=person_of(viewer),
        actor=viewer.name,
        role=str(viewer.role),
        reason=reason.strip(),
        policy_version=policy_version,
        at=now,
        previous=last.digest if last else "",
    )
    digest = step.digest()
    case.suspended_from = case.state if to == "suspended" else ""
    case.was_reopened = case.was_reopened or to == "reopened"
    case.state, case.awaiting = to, AWAITING[to]
    case.save(update_fields=["state", "awaiting", "suspended_from", "was_reopened", "merged_into"])
    # The log's lock is taken here and held until commit: last, after everything that takes time.
    leaf_index = append_note(
        case.tenant,
        "case",
        {"change": "case.moved", "case": case.ref, "from": step.from_state, "to": to, "by": viewer.name,
         "role": step.role, "reason": step.reason, "digest": digest, **noted},
        now=now,
    )  # fmt: skip
    return Transition.objects.create(
        tenant=case.tenant, case=case, position=step.position, from_state=step.from_state, to_state=to,
        person=step.person, actor=step.actor, role=step.role, reason=step.reason, policy_version=policy_version, at=now,
        previous=step.previous, digest=digest, leaf_index=leaf_index,
    )  # fmt: skip
