"""Decide: people move a case, one proposes an outcome, another approves it or sends it back. The engine never does."""

from datetime import datetime

from django.db import transaction

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible
from auditlog.models import Role
from auditlog.reads.access import Viewer, person_of
from disputes.adjudicate import POLICY, assess
from disputes.models import Approval, Case, Proposal
from disputes.record_step import check_step, record_step


@transaction.atomic
def move(
    case: Case, to: str, *, viewer: Viewer, now: datetime, reason: str = "", outcome: str = "", merged_into: str = ""
) -> Case:
    """Move a case one step. Raises NotPermitted or NotPossible, with the reason; nothing is changed then.

    To `proposed` takes an `outcome`; to `decided`, and from `review` back to `assessment`, it is the second person's
    word on the proposal; to `merged` takes the case that it is `merged_into`. Entering `assessment` runs the engine.
    """
    held = _hold(case, viewer)
    if to == "proposed":
        propose(held, viewer=viewer, outcome=outcome, reason=reason, now=now)
    elif to == "decided":
        approve(held, viewer=viewer, reason=reason, now=now)
    elif held.state == "review" and to == "assessment":
        approve(held, viewer=viewer, reason=reason, now=now, result=Approval.Result.RETURNED)
    else:
        check_step(held, to, viewer=viewer, reason=reason)
        noted = _effects(held, to, merged_into=merged_into, now=now)
        record_step(held, to, viewer=viewer, reason=reason, policy_version=POLICY.version, now=now, **noted)
    case.refresh_from_db()
    return case


def _effects(case: Case, to: str, *, merged_into: str, now: datetime) -> dict[str, str]:
    """What a step does besides being one; returns what its leaf says of it."""
    if to == "assessment" and case.state != "suspended":
        return {"assessment": assess(case, now=now).digest}
    if to == "merged":
        if merged_into == case.ref or not Case.objects.filter(tenant=case.tenant, ref=merged_into).exists():
            raise ConfigurationError(f"a case is merged into another one, and {merged_into!r} is none")
        case.merged_into = merged_into
        return {"into": merged_into}
    return {}


@transaction.atomic
def propose(case: Case, *, viewer: Viewer, outcome: str, reason: str, now: datetime) -> Proposal:
    """The handler's proposal, with the verdicts of the last assessment as they stand."""
    held = _hold(case, viewer)
    if outcome not in Proposal.Outcome.values:
        raise ConfigurationError(f"no outcome {outcome!r}; there are: {', '.join(Proposal.Outcome.values)}")
    check_step(held, "proposed", viewer=viewer, reason=reason)
    last = held.assessments.order_by("-number").first()
    if last is None:
        raise NotPossible("nothing was assessed yet")
    proposal = Proposal.objects.create(
        tenant=held.tenant, case=held, number=held.proposals.count() + 1, outcome=outcome, reason=reason.strip(),
        person=person_of(viewer), proposer=viewer.name, role=str(viewer.role), at=now, verdicts=last.verdicts,
        assessment_digest=last.digest,
    )  # fmt: skip
    record_step(held, "proposed", viewer=viewer, reason=reason, policy_version=POLICY.version, now=now,
                outcome=outcome, assessment=last.digest)  # fmt: skip
    return proposal


@transaction.atomic
def approve(
    case: Case, *, viewer: Viewer, reason: str, now: datetime, result: str = Approval.Result.APPROVED
) -> Approval:
    """Another person's word on the open proposal: `approved` decides the case, `returned` sends it back.

    A proposal nobody has taken under review yet is taken first. Raises NotPermitted for its proposer.
    """
    held = _hold(case, viewer)
    if result not in Approval.Result.values:
        raise ConfigurationError(f"no result {result!r}; there are: {', '.join(Approval.Result.values)}")
    viewer.must("decide")
    if held.state == "proposed":
        check_step(held, "review", viewer=viewer, reason=reason)
        record_step(held, "review", viewer=viewer, reason="", policy_version=POLICY.version, now=now)
    to = "decided" if result == Approval.Result.APPROVED else "assessment"
    if held.state != "review":
        raise NotPossible(f"there is no proposal to review: the case is {held.state}")
    check_step(held, to, viewer=viewer, reason=reason)
    proposal = held.proposals.filter(approval=None).order_by("-number").get()
    approval = Approval.objects.create(
        tenant=held.tenant, case=held, proposal=proposal, result=result, reason=reason.strip(),
        proposer=proposal.person, person=person_of(viewer), approver=viewer.name, role=str(viewer.role), at=now,
    )  # fmt: skip
    record_step(held, to, viewer=viewer, reason=reason, policy_version=POLICY.version, now=now,
                outcome=proposal.outcome, result=str(result))  # fmt: skip
    return approval


def _hold(case: Case, viewer: Viewer) -> Case:
    """The case's row, locked until commit: two people moving it at once take turns."""
    viewer.must("case")
    held = Case.objects.select_for_update().select_related("tenant").filter(tenant=viewer.tenant, pk=case.pk).first()
    if held is None:
        raise NotFound(f"no case {case.ref}")
    if viewer.role == Role.ABUSE and held.provider != viewer.provider:
        raise NotPermitted(f"the abuse desk of {viewer.provider} may act on cases at {viewer.provider} only")
    return held
