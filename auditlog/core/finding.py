"""A finding: what a detector says. A value, compared by its stable key (rule, anchor)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SEVERITIES = ("info", "low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Finding:
    """`anchor` is defined per rule and makes the key with it; members may grow while the key stays."""

    rule: str
    anchor: str
    severity: str
    title: str
    events: tuple[str, ...]  # event ids, oldest first: the ground it stands on
    leaves: tuple[int, ...]
    first_at: datetime
    last_at: datetime
    principal: str | None = None  # party key
    actor: str | None = None
    grant: str | None = None
    provider: str | None = None
    money_at_risk_minor: int | None = None
    currency: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """A finding as it is kept: what people made of it, and its place among the changes of its tenant's findings."""

    id: int
    finding: Finding
    rule_version: int
    state: str
    detected_at: datetime
    withdrawn_by_leaf: int | None
    change: int  # the number of its last change
    is_first: bool  # nobody was told of it before this change
    comment: str = ""  # the reason that the last person gave

    @property
    def is_closed(self) -> bool:
        return self.state in ("resolved", "false_positive", "withdrawn")

    @property
    def finding_uid(self) -> str:
        """The same for all its changes."""
        return f"finding-{self.id}"

    @property
    def uid(self) -> str:
        """Of this change alone."""
        return f"finding-{self.id}-{self.change}"
