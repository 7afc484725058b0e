"""One batch of leaves on its way into the projections: what was read, and what it touches."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from auditlog.core.event import Actor, Event, GrantObject, Party, Payload, TokenObject
from auditlog.models import Source, Tenant


@dataclass(slots=True)
class Read:
    """One event leaf as read from the ledger, parsed."""

    leaf_index: int
    event_id: UUID
    source: Source
    received_at: datetime
    grade: str
    event: Event
    within_remit: bool  # the source may speak for the event's layer
    key: str  # thumbprint


@dataclass(slots=True)
class Batch:
    """One batch on its way: what was read, and what it touches."""

    tenant: Tenant
    generation: int
    reads: list[Read]
    last_leaf: int
    dirty: set[tuple[str, str]] = field(default_factory=set)
    unparsed: list[tuple[int, str, str]] = field(default_factory=list)  # leaf index, source, why
    events: list[tuple] = field(default_factory=list)  # rows in the order of project_acts.EVENT_TYPES, written last
    scope: tuple[int, int] = field(init=False)  # what keys lead with
    money: list[tuple] = field(default_factory=list)  # its statements about money, in the order of payments.COLUMNS

    def __post_init__(self) -> None:
        self.scope = (self.tenant.pk, self.generation)

    @property
    def first_leaf(self) -> int:
        """Rows of older events lie below it."""
        return self.reads[0].leaf_index if self.reads else self.last_leaf + 1


def speaks_for(source: Source, party: Party | Actor | None) -> bool:
    return not source.speaks_for or party is None or party.iss in source.speaks_for


def stated_grant(payload: Payload) -> str:
    return payload.grant.id if isinstance(payload.grant, GrantObject) else payload.grant or ""


def stated_token(payload: Payload) -> str:
    return payload.token.jti if isinstance(payload.token, TokenObject) else payload.token or ""
