"""Triage: what a person makes of a finding. Every step is kept, with who and why."""

from datetime import datetime

from django.db import transaction

from auditlog.core.errors import NotFound, NotPermitted, NotPossible
from auditlog.models import Finding, Role, Triage
from auditlog.reads.access import Viewer
from auditlog.reads.sight import visible_findings

STATES = ("open", "acknowledged", "resolved", "false_positive")
LABELS = ("true", "false", "defensive")


@transaction.atomic
def triage(viewer: Viewer, finding_id: int, *, state: str, reason: str, now: datetime, label: str = "") -> Finding:
    """Move a finding to `state`. Raises NotPermitted, NotFound or NotPossible.

    `label`: what the finding was, for the precision of its rule. A withdrawn finding cannot be moved: its ground is gone, and it opens again by itself if that comes back.
    """
    viewer.must("triage")
    finding = visible_findings(viewer).select_for_update(of=("self",)).filter(pk=finding_id).first()
    if finding is None:
        raise NotFound(f"there is no finding {finding_id}")
    if state not in STATES:
        raise NotPossible(f"expected one of {', '.join(STATES)}, found {state[:40]!r}")
    if label not in ("", *LABELS):
        raise NotPossible(f"label: expected one of {', '.join(LABELS)}, found {label[:40]!r}")
    if label and viewer.role == Role.ABUSE:
        raise NotPermitted("what a finding was is not for the desk of the provider that it is about to say")
    if finding.state == Finding.State.WITHDRAWN:
        raise NotPossible("this finding was withdrawn: what it stood on is gone")
    if viewer.role == Role.ABUSE and state == "false_positive":
        raise NotPermitted(
            "whether a finding at a provider is a false one is not for that provider's own desk to say: acknowledge it, with the reason"
        )
    if not reason.strip():
        raise NotPossible("a reason is needed: somebody will ask for it later")
    if finding.state == state:
        raise NotPossible(f"the finding is {state} already")
    Triage.objects.create(
        finding=finding, at=now, by=viewer.name, user_id=viewer.user_id, from_state=finding.state, to_state=state,
        reason=reason.strip(), desk=viewer.provider if viewer.role == Role.ABUSE else "", label=label,
    )  # fmt: skip
    finding.state = state
    finding.save(update_fields=["state"])
    return finding
