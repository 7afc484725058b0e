"""A case as it was after one of its steps: what a SIEM is told. A value; who argues how is not known here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Standing = Literal["new", "in_progress", "on_hold", "resolved", "closed"]


@dataclass(frozen=True, slots=True)
class Contested:
    """One act of it: `amount_minor` of it is contested; `verdict` is the engine's, "" before it was asked."""

    event_id: str
    amount_minor: int | None = None
    currency: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class CaseStep:
    """`uid` stays the same for all its steps, within its tenant. What `title`, `complaint` and `reason` say was written
    by anybody.
    """

    uid: str
    step: int  # 0 for the first
    leaf_index: int  # of the step
    at: datetime
    opened_at: datetime
    kind: str
    state: str  # our word
    standing: Standing
    awaiting: str  # whose move it is: claimant, handler, ..., nobody
    title: str
    complaint: str
    by: str  # who took the step
    role: str
    reason: str
    acts: tuple[Contested, ...]
    principal: str = ""  # party keys and the provider, where all acts agree on one
    actor: str = ""
    provider: str = ""
    claimed_minor: int | None = None
    claimed_currency: str = ""
    outcome: str = ""  # what was decided, where it was
    merged_into: str = ""
    finding: int | None = None  # that it was opened from
    finding_title: str = ""
    severity: str = ""  # that finding's; nobody rates a complaint
