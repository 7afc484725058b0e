"""Decide: people move a case, one proposes an outcome, another approves it or sends it back. The engine never does.

What people decide on is the record as it was sealed. The engine may be run again on what came later; that moves nothing
by itself, and is decided on only where a proposal names the run.
"""

from datetime import datetime

from django.db import transaction

from auditlog.core.errors import ConfigurationError, NotPermitted, NotPossible
from auditlog.core.person import may_be_one
from auditlog.reads.access import Viewer, person_of
from disputes.adjudicate import POLICY, assess
from disputes.case.locked import locked
from disputes.case.record_step import check_step, hand_of, note_of_case, open_offer, record_step
from disputes.core.status import ENDED, OPEN
from disputes.models import Approval, Assessment, Case, Proposal

OF_DECISION = (Proposal.Outcome.UPHELD, Proposal.Outcome.PARTLY_UPHELD, Proposal.Outcome.REJECTED)
OF_APPEAL = (Proposal.Outcome.CONFIRMED, Proposal.Outcome.VARIED, Proposal.Outcome.REMITTED)
MOST_MERGES = 100


@transaction.atomic
def move(
    case: Case,
    to: str,
    *,
    viewer: Viewer,
    now: datetime,
    reason: str = "",
    outcome: str = "",
    merged_into: str = "",
    amount_minor: int | None = None,
    currency: str = "",
    assessment: int | None = None,
) -> Case:
    """Move a case one step. Raises NotPermitted or NotPossible, with the reason; nothing is changed then.

    To `proposed` and `appeal_proposed` takes an `outcome`; out of a proposal it is the second person's word; to
    `settled` the first person offers and the second accepts; to `merged` takes the case that it is `merged_into`.
    Entering `record_sealed` seals the record and runs the engine on it.
    """
    held = locked(case, viewer)
    stated = {"amount_minor": amount_minor, "currency": currency, "assessment": assessment}
    if to in ("proposed", "appeal_proposed"):
        propose(held, viewer=viewer, outcome=outcome, reason=reason, now=now, **stated)
    elif to == "settled":
        settle(held, viewer=viewer, reason=reason, amount_minor=amount_minor, currency=currency, now=now)
    elif to == "decided" and held.state in ("proposed", "review"):
        approve(held, viewer=viewer, reason=reason, now=now)
    elif (held.state, to) in (("review", "assessment"), ("appeal_proposed", "appeal_review")):
        approve(held, viewer=viewer, reason=reason, now=now, result=Approval.Result.RETURNED)
    elif held.state == "appeal_proposed" and to in ("decided_final", "evidence_open"):
        check_step(held, to, viewer=viewer, reason=reason)
        approve(held, viewer=viewer, reason=reason, now=now)
    else:
        check_step(held, to, viewer=viewer, reason=reason)
        noted = effects(held, to, merged_into=merged_into, now=now)
        record_step(held, to, hand=hand_of(viewer), reason=reason, policy_version=POLICY.version, now=now, **noted)
    case.refresh_from_db()
    return case


def effects(case: Case, to: str, *, merged_into: str = "", now: datetime) -> dict[str, str]:
    """What a step does besides being one; returns what its leaf says of it."""
    if case.state == "suspended":
        return {}
    if to == "record_sealed":
        return _seal(case, now=now)
    if to == "assessment" and case.state == "record_sealed":
        # A case that an older version called sealed was judged at no seal.
        return {"assessment": case.sealed_digest} if case.sealed_digest else _seal(case, now=now)
    if to == "merged":
        case.merged_into = _other(case, merged_into).ref
        return {"into": case.merged_into}
    return {}


def _seal(case: Case, *, now: datetime) -> dict[str, str]:
    """Run the engine on the record as it stands, and keep that: what comes later is later, and changes none of it."""
    run = assess(case, now=now)
    case.sealed_at, case.sealed_position, case.sealed_digest = now, run.position, run.digest
    return {"sealed_before_leaf": str(run.position), "assessment": run.digest, "words": run.words}


def _other(case: Case, ref: str) -> Case:
    """The case that this one is merged into: another one, that was not itself merged back into this. Raises."""
    found = Case.objects.filter(tenant=case.tenant, ref=ref).first()
    if found is None or found.ref == case.ref:
        raise ConfigurationError(f"a case is merged into another one, and {ref[:40]!r} is none")
    seen = {case.ref}
    into = found
    for _ in range(MOST_MERGES):
        if into.ref in seen:
            raise NotPossible(f"{ref} was merged into {case.ref}: two cases are not merged into each other")
        seen.add(into.ref)
        following = Case.objects.filter(tenant=case.tenant, ref=into.merged_into).first() if into.merged_into else None
        if following is None:
            break
        into = following
    if into.state in ENDED:
        raise NotPossible(f"{into.ref} is {into.state}: a case is merged into one that goes on")
    return into


@transaction.atomic
def assess_again(case: Case, *, viewer: Viewer, reason: str, now: datetime) -> Assessment:
    """Run the engine on the record of now, beside the sealed one. Raises NotPossible before the seal."""
    held = locked(case, viewer)
    if held.sealed_at is None:
        raise NotPossible("the record was not sealed yet: until then every page shows it as it stands")
    if held.state not in OPEN:
        raise NotPossible(f"the case is {held.state}: what came later can be looked at by who reopens it")
    if not reason.strip():
        raise NotPossible("to run the engine again needs a reason")
    run = assess(held, now=now, person=person_of(viewer), actor=viewer.name, reason=reason.strip())
    said = {
        "change": "case.assessed_again",
        "number": run.number,
        "assessment": run.digest,
        "words": run.words,
        "before_leaf": run.position,
        "why": run.reason,
    }
    note_of_case(held, viewer.name, said, now=now)
    return run


@transaction.atomic
def propose(
    case: Case,
    *,
    viewer: Viewer,
    outcome: str,
    reason: str,
    now: datetime,
    amount_minor: int | None = None,
    currency: str = "",
    assessment: int | None = None,
) -> Proposal:
    """What somebody proposes, with the verdicts that it rests on: of the seal, or of the run that is named.

    In `assessment` a decision; in `appeal_review` what becomes of it on appeal.
    """
    held = locked(case, viewer)
    on_appeal = held.state == "appeal_review"
    to, outcomes = ("appeal_proposed", OF_APPEAL) if on_appeal else ("proposed", OF_DECISION)
    if outcome not in outcomes:
        raise ConfigurationError(f"no outcome {outcome!r} here; there are: {', '.join(outcomes)}")
    check_step(held, to, viewer=viewer, reason=reason)
    run = _run(held, assessment)
    proposal = Proposal.objects.create(
        tenant=held.tenant,
        case=held,
        number=held.proposals.count() + 1,
        outcome=outcome,
        reason=reason.strip(),
        person=person_of(viewer),
        proposer=viewer.name,
        role=str(viewer.role),
        at=now,
        verdicts=run.verdicts,
        assessment_digest=run.digest,
        **_sum(amount_minor, currency),
    )
    noted = {"outcome": outcome, "assessment": run.digest, **_said_sum(proposal)}
    if run.words:
        noted["words"] = run.words
    record_step(held, to, hand=hand_of(viewer), reason=reason, policy_version=POLICY.version, now=now, **noted)
    return proposal


def _run(case: Case, number: int | None) -> Assessment:
    """The run of the engine that a proposal rests on."""
    if number is not None:
        found = case.assessments.filter(number=number).first()
        if found is None or (case.sealed_position is not None and found.position < case.sealed_position):
            raise ConfigurationError(f"there is no assessment {number} of this case since it was sealed last")
        return found
    last = case.assessments.filter(reason="").order_by("-number").first()
    if last is None:
        raise NotPossible("nothing was assessed yet")
    return last


def _sum(amount_minor: int | None, currency: str) -> dict[str, int | str | None]:
    if amount_minor is not None and (amount_minor < 0 or len(currency) != 3):
        raise ConfigurationError("a sum is an amount in minor units, not below zero, with its currency")
    return {"amount_minor": amount_minor, "currency": currency.upper() if amount_minor is not None else ""}


def _said_sum(proposal: Proposal) -> dict[str, str]:
    """As text: the leaf is JCS, which has no whole numbers beyond 2^53."""
    return (
        {}
        if proposal.amount_minor is None
        else {"amount_minor": str(proposal.amount_minor), "currency": proposal.currency}
    )


@transaction.atomic
def settle(
    case: Case, *, viewer: Viewer, reason: str, now: datetime, amount_minor: int | None = None, currency: str = ""
) -> Proposal:
    """Offer a settlement; by another person, accept it. The terms are the reason, and the sum where there is one."""
    held = locked(case, viewer)
    check_step(held, "settled", viewer=viewer, reason=reason)
    offer = open_offer(held)
    if offer is None:
        offer = Proposal.objects.create(
            tenant=held.tenant,
            case=held,
            number=held.proposals.count() + 1,
            outcome=Proposal.Outcome.SETTLED,
            reason=reason.strip(),
            person=person_of(viewer),
            proposer=viewer.name,
            role=str(viewer.role),
            at=now,
            verdicts=[],
            assessment_digest="",
            **_sum(amount_minor, currency),
        )
        said = {
            "change": "case.settlement_offered",
            "proposal": offer.number,
            "terms": offer.reason,
            **_said_sum(offer),
        }
        note_of_case(held, viewer.name, said, now=now)
        return offer
    _answer(held, offer, viewer, Approval.Result.APPROVED, reason, now=now)
    noted = {"proposal": str(offer.number), "terms": offer.reason, **_said_sum(offer)}
    record_step(held, "settled", hand=hand_of(viewer), reason=reason, policy_version=POLICY.version, now=now, **noted)
    return offer


@transaction.atomic
def refuse_settlement(case: Case, *, viewer: Viewer, reason: str, now: datetime) -> None:
    """Refuse an offer, which its own side cannot. The case goes on."""
    held = locked(case, viewer)
    offer = open_offer(held)
    if offer is None:
        raise NotPossible("no settlement is offered")
    if not reason.strip():
        raise NotPossible("to refuse an offer needs a reason")
    if may_be_one(person_of(viewer), offer.person):
        raise NotPermitted("who offered a settlement waits for the other side's word")
    _answer(held, offer, viewer, Approval.Result.RETURNED, reason, now=now)
    note_of_case(
        held,
        viewer.name,
        {"change": "case.settlement_refused", "proposal": offer.number, "why": reason.strip()},
        now=now,
    )


@transaction.atomic
def approve(
    case: Case, *, viewer: Viewer, reason: str, now: datetime, result: str = Approval.Result.APPROVED
) -> Approval:
    """Another person's word on the open proposal: `approved` decides the case, `returned` sends it back.

    A proposal nobody has taken under review yet is taken first. Raises NotPermitted for its proposer.
    """
    held = locked(case, viewer)
    if result not in Approval.Result.values:
        raise ConfigurationError(f"no result {result!r}; there are: {', '.join(Approval.Result.values)}")
    viewer.must("decide")
    if held.state == "proposed":
        check_step(held, "review", viewer=viewer, reason=reason)
        record_step(held, "review", hand=hand_of(viewer), reason="", policy_version=POLICY.version, now=now)
    if held.state not in ("review", "appeal_proposed"):
        raise NotPossible(f"there is no proposal to review: the case is {held.state}")
    proposal = held.proposals.filter(approval=None).exclude(outcome=Proposal.Outcome.SETTLED).order_by("-number").get()
    to = _after(held.state, proposal.outcome, result)
    check_step(held, to, viewer=viewer, reason=reason)
    approval = _answer(held, proposal, viewer, result, reason, now=now)
    noted = {"outcome": proposal.outcome, "result": str(result)}
    record_step(held, to, hand=hand_of(viewer), reason=reason, policy_version=POLICY.version, now=now, **noted)
    return approval


def _after(state: str, outcome: str, result: str) -> str:
    if state == "review":
        return "decided" if result == Approval.Result.APPROVED else "assessment"
    if result != Approval.Result.APPROVED:
        return "appeal_review"
    return "evidence_open" if outcome == Proposal.Outcome.REMITTED else "decided_final"


def _answer(case: Case, proposal: Proposal, viewer: Viewer, result: str, reason: str, *, now: datetime) -> Approval:
    return Approval.objects.create(
        tenant=case.tenant,
        case=case,
        proposal=proposal,
        result=result,
        reason=reason.strip(),
        proposer=proposal.person,
        person=person_of(viewer),
        approver=viewer.name,
        role=str(viewer.role),
        at=now,
    )
