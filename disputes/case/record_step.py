"""Record step: one transition of a case, checked against the table, chained to the one before, committed in the log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model

from auditlog.core.errors import NotPermitted, NotPossible
from auditlog.ledger.append import append_note
from auditlog.models import Role
from auditlog.reads.access import MAY, Viewer, person_of
from disputes.case.deadline import moved as deadlines_of_step
from disputes.case.keep import hold_acts, release_acts
from disputes.core.history import Taken
from disputes.core.status import AWAITING, ENDED, Refusal, Standing, check_transition
from disputes.models import Case, Proposal, Transition

_SEALED = ("sealed_at", "sealed_position", "sealed_digest")

# Moves of whoever complains; a desk that did not open the case is on the other side.
CLAIMANTS = frozenset({"filed", "withdrawn", "settled", "suspended", "merged"})
# Who looks at a case afresh may not have had a part in deciding it. To file, appeal or ask for more is no such part.
_SAYING = frozenset({"filed", "appealed", "withdrawn", "suspended"})
# Steps that judge the case: whoever it is about takes none of them.
JUDGING = frozenset({"proposed", "review", "decided", "appeal_review", "appeal_proposed", "decided_final"})


@dataclass(frozen=True, slots=True)
class Hand:
    """Who takes a step."""

    person: str
    name: str
    role: str


DEADLINE = Hand("deadline", "a deadline", "system")


def hand_of(viewer: Viewer) -> Hand:
    return Hand(person_of(viewer), viewer.name, str(viewer.role))


def standing_of(case: Case) -> Standing:
    """Where the case is, and whose hands it went through."""
    waiting = case.proposals.filter(approval=None).order_by("-number")
    open_ = waiting.exclude(outcome=Proposal.Outcome.SETTLED).values_list("person", "outcome").first()
    offer = open_offer(case)
    return Standing(
        state=case.state,
        proposer=open_[0] if open_ else "",
        took_part=_took_part(case),
        suspended_from=case.suspended_from,
        was_reopened=case.was_reopened,
        offered_by=offer.person if offer else "",
        outcome=open_[1] if open_ else "",
    )


def open_offer(case: Case) -> Proposal | None:
    """The settlement that is offered and was not answered. It lapses with a decision: that was made without it."""
    offers = case.proposals.filter(approval=None, outcome=Proposal.Outcome.SETTLED)
    decided = case.transitions.filter(to_state__in=["decided", "decided_final"]).order_by("-position").first()
    if decided is not None:
        offers = offers.filter(at__gt=decided.at)
    return offers.order_by("-number").first()


def _took_part(case: Case) -> frozenset[str]:
    """Who handled or decided the case; while an appeal is looked at, until it was appealed last."""
    steps = list(case.transitions.order_by("position").values_list("to_state", "person"))
    if case.state in ("appealed", "appeal_review", "appeal_proposed"):
        appealed = max((place for place, (to, _) in enumerate(steps) if to == "appealed"), default=len(steps))
        steps = steps[:appealed]
    return frozenset(person for to, person in steps if to not in _SAYING) - {DEADLINE.person}


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
        and not (to == "settled" and open_offer(case))  # what was offered to it, it may accept
    ):
        return Refusal(
            f"the desk of the provider that a case is about may not make it {to}: that is the claimant's to do", False
        )
    person = person or person_of(viewer)
    if to in JUDGING and (why := conflict_of(case, viewer)):
        return Refusal(why, False)
    return check_transition(standing or standing_of(case), to, person=person, may=MAY[viewer.role], reason=reason)


def conflict_of(case: Case, viewer: Viewer) -> str:
    """Why this person may not judge the case: it is about them. "" where nothing says so."""
    if viewer.user_id is None and not viewer.stands_for:
        return ""
    accounts = {viewer.user_id} if viewer.user_id is not None else set(viewer.stands_for)
    addresses = {
        email.lower()
        for email in get_user_model().objects.filter(pk__in=accounts).exclude(email="").values_list("email", flat=True)
    }
    about = {key.partition("|")[2].lower() for key in (case.principal, case.respondent)} - {""}
    return "the case is about them: whoever it is about may not judge it" if addresses & about else ""


def record_step(
    case: Case,
    to: str,
    *,
    reason: str,
    policy_version: str,
    now: datetime,
    hand: Hand,
    **noted: Any,
) -> Transition:
    """Move the case, keep the step, append its `case` leaf. The caller holds the case's row and has checked the step.

    `noted` goes into the leaf beside the step.
    """
    before = case.state
    last = case.transitions.order_by("-position").first()
    step = Taken(
        case=case.ref,
        position=last.position + 1 if last else 0,
        from_state=case.state,
        to_state=to,
        person=hand.person,
        actor=hand.name,
        role=hand.role,
        reason=reason.strip(),
        policy_version=policy_version,
        at=now,
        previous=last.digest if last else "",
    )
    digest = step.digest()
    case.suspended_from = case.state if to == "suspended" else ""
    case.was_reopened = case.was_reopened or to == "reopened"
    case.state, case.awaiting = to, AWAITING[to]
    case.save(update_fields=["state", "awaiting", "suspended_from", "was_reopened", "merged_into", *_SEALED])
    deadlines_of_step(case, before, reason=step.reason, now=now)
    if to in ENDED:
        release_acts(case, who=hand.name, reason=step.reason or f"the case is {to}", now=now)
    elif to == "reopened":
        hold_acts(case, who=hand.name, now=now)
    # The log's lock is taken here and held until commit: last, after everything that takes time.
    leaf_index = append_note(
        case.tenant,
        "case",
        {"change": "case.moved", "case": case.ref, "from": step.from_state, "to": to, "by": hand.name,
         "role": step.role, "reason": step.reason, "digest": digest, **noted},
        now=now,
    )  # fmt: skip
    return Transition.objects.create(
        tenant=case.tenant, case=case, position=step.position, from_state=step.from_state, to_state=to,
        person=step.person, actor=step.actor, role=step.role, reason=step.reason, policy_version=policy_version, at=now,
        previous=step.previous, digest=digest, leaf_index=leaf_index,
    )  # fmt: skip


def note_of_case(case: Case, who: str, said: dict[str, Any], *, now: datetime) -> int:
    """A leaf of kind `case` that is no step. Returns its index."""
    return append_note(case.tenant, "case", {"case": case.ref, "by": who, **said}, now=now)
