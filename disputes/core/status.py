"""Status: what may become of a case, and through whose hands. One table; everything else reads it.

A case is decided by two people: the handler who proposes, and another who approves. `four_eyes` says whom the second
person may not be: the `proposer`, or for a fresh look anybody who had a part `earlier`. An appeal is judged by somebody
fresh, and what they propose is agreed to by another; so three people bring every case to an end. A settlement takes
two: one offers, another accepts.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from auditlog.core.person import NOBODY_KNOWS, are_one, may_be_one

OPEN = (
    "draft", "filed", "intake", "deficient", "evidence_open", "record_sealed", "assessment", "proposed", "review",
    "decided", "appealed", "appeal_review", "appeal_proposed", "reopened",
)  # fmt: skip
STATES = (
    *OPEN,
    "suspended",
    "decided_final",
    "final",
    "remedy_pending",
    "not_eligible",
    "closed",
    "withdrawn",
    "settled",
    "merged",
)
ENDED = ("closed", "withdrawn", "settled", "merged", "not_eligible")
# What only its own verb may enter: it carries more than a reason.
BY_VERB = {"proposed": "propose", "decided": "approve", "appeal_proposed": "propose", "decided_final": "approve"}

FourEyes = Literal["", "proposer", "earlier"]


@dataclass(frozen=True, slots=True)
class Step:
    """One allowed transition. `who`: case (handlers), decide (deciders)."""

    before: str
    after: str
    who: Literal["case", "decide"]
    needs_reason: bool = True
    four_eyes: FourEyes = ""


TABLE: tuple[Step, ...] = (
    Step("draft", "filed", "case", needs_reason=False),
    Step("filed", "intake", "case", needs_reason=False),
    Step("intake", "deficient", "case"),
    Step("intake", "not_eligible", "case"),
    Step("intake", "evidence_open", "case", needs_reason=False),
    Step("deficient", "intake", "case", needs_reason=False),
    Step("deficient", "closed", "case"),
    Step("evidence_open", "record_sealed", "case", needs_reason=False),
    Step("record_sealed", "assessment", "case", needs_reason=False),
    Step("assessment", "proposed", "case"),
    Step("proposed", "review", "decide", needs_reason=False, four_eyes="proposer"),
    Step("review", "assessment", "decide", four_eyes="proposer"),
    Step("review", "decided", "decide", four_eyes="proposer"),
    Step("decided", "appealed", "case"),
    Step("decided", "final", "decide"),
    Step("appealed", "appeal_review", "decide", needs_reason=False, four_eyes="earlier"),
    Step("appeal_review", "appeal_proposed", "decide", four_eyes="earlier"),
    Step("appeal_proposed", "appeal_review", "decide", four_eyes="proposer"),
    Step("appeal_proposed", "decided_final", "decide", four_eyes="proposer"),
    Step("appeal_proposed", "evidence_open", "decide", four_eyes="proposer"),
    Step("decided_final", "final", "decide", needs_reason=False),
    Step("final", "remedy_pending", "case", needs_reason=False),
    Step("final", "closed", "case"),
    Step("remedy_pending", "closed", "case"),
    Step("final", "reopened", "decide", four_eyes="earlier"),
    Step("closed", "reopened", "decide", four_eyes="earlier"),
    Step("reopened", "evidence_open", "case", needs_reason=False),
    *(Step(state, after, "case") for state in OPEN for after in ("withdrawn", "settled", "suspended", "merged")),
    *(Step("suspended", after, "case") for after in ("withdrawn", "settled", "merged")),
    # Out of suspension a case goes back to where it was, and nowhere else.
    *(Step("suspended", state, "case") for state in OPEN),
)
_STEPS = {(step.before, step.after): step for step in TABLE}

# Whose move it is.
AWAITING = {
    "draft": "claimant", "filed": "handler", "intake": "handler", "deficient": "claimant", "evidence_open": "respondent",
    "record_sealed": "handler", "assessment": "handler", "proposed": "reviewer", "review": "reviewer",
    "decided": "nobody", "appealed": "reviewer", "appeal_review": "reviewer", "appeal_proposed": "reviewer", "decided_final": "nobody",
    "final": "handler", "remedy_pending": "provider", "reopened": "handler", "suspended": "nobody",
    "not_eligible": "nobody", "closed": "nobody", "withdrawn": "nobody", "settled": "nobody", "merged": "nobody",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case is, and whose hands it went through. Persons are keys that differ for different people."""

    state: str
    proposer: str = ""  # of the proposal that is open
    # Who decided or handled it so far; on appeal, until it was appealed: who looks at it afresh goes on looking.
    took_part: Collection[str] = ()
    suspended_from: str = ""
    was_reopened: bool = False
    offered_by: str = ""  # of a settlement that is open
    outcome: str = ""  # of the proposal that is open


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a transition may not be. `permitted` False: not by this person; True: not by anybody as things are."""

    reason: str
    permitted: bool


def check_transition(
    case: Standing, to: str, *, person: str, may: Collection[str], reason: str | None
) -> Refusal | None:
    """None when `person`, whose role allows the acts in `may`, may move the case to `to`.

    `reason` None asks whether it could be done at all, given a reason.
    """
    step = _STEPS.get((case.state, to))
    if step is None or (case.state == "suspended" and to in OPEN and to != case.suspended_from):
        return Refusal(f"a case that is {case.state} cannot become {to}; it can become: {_text(case)}", True)
    if step.who not in may:
        return Refusal(f"this role may not {step.who}", False)
    if to == "reopened" and case.was_reopened and case.state != "suspended":
        return Refusal("a case is reopened once, and this one was", True)
    others = {"proposer": (case.proposer,), "earlier": case.took_part}.get(step.four_eyes, ())
    if step.four_eyes and NOBODY_KNOWS in (person, *others):
        return Refusal(
            "nobody knows whose a token is that had a part in this: it takes two accounts, or tokens that have an owner",
            False,
        )
    if step.four_eyes == "proposer" and are_one(person, case.proposer):
        return Refusal("who proposed an outcome may not review it: another person must", False)
    if step.four_eyes == "earlier" and any(are_one(person, other) for other in case.took_part):
        return Refusal("who had a part in the case may not judge it again: another person must", False)
    on_appeal = case.state == "appeal_proposed" and case.outcome and to in ("evidence_open", "decided_final")
    if on_appeal and (to == "evidence_open") != (case.outcome == "remitted"):
        return Refusal(f"what was proposed on the appeal is {case.outcome}: {to} is another outcome", True)
    if to == "settled" and case.offered_by and may_be_one(person, case.offered_by):
        return Refusal("who offered a settlement may not accept it: another person must", False)
    if step.needs_reason and reason is not None and not reason.strip():
        return Refusal(f"to become {to}, a case needs a reason", True)
    return None


def nexts(case: Standing) -> list[Step]:
    """The steps out of where a case is, in table order."""
    steps = [step for step in TABLE if step.before == case.state]
    if case.state == "suspended":
        steps = [step for step in steps if step.after not in OPEN or step.after == case.suspended_from]
    if case.was_reopened and case.state != "suspended":
        steps = [step for step in steps if step.after != "reopened"]
    return steps


def _text(case: Standing) -> str:
    return ", ".join(step.after for step in nexts(case)) or "nothing else"
