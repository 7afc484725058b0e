"""Keep: what a case is about is not erased while it goes on: a legal hold from when it is opened until it has ended."""

from datetime import datetime

from auditlog.custody.erase import held_now, hold, release
from auditlog.models import Leaf
from disputes.models import Case

MOST_RANGES = 20  # of scattered acts all that lies between them is held: a hold is a leaf, and is read by every eraser


def hold_acts(case: Case, *, who: str, now: datetime) -> None:
    """Put the contested acts under a hold in the case's name, unless they are."""
    if any(one.case == case.ref for one in held_now(case.tenant)):
        return
    events = case.acts.values_list("event_id", flat=True)
    leaves = sorted(
        Leaf.objects.filter(tenant=case.tenant, event_id__in=list(events)).values_list("leaf_index", flat=True)
    )
    for first, last in _ranges(leaves):
        hold(case.tenant, first=first, last=last, who=who, reason=f"contested in {case.ref}", case=case.ref, now=now)


def release_acts(case: Case, *, who: str, reason: str, now: datetime) -> None:
    for one in held_now(case.tenant):
        if one.case == case.ref:
            release(case.tenant, one.leaf_index, who=who, reason=reason, now=now)


def _ranges(leaves: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for leaf in leaves:
        if found and leaf == found[-1][1] + 1:
            found[-1] = (found[-1][0], leaf)
        else:
            found.append((leaf, leaf))
    return found if len(found) <= MOST_RANGES else [(leaves[0], leaves[-1])]
