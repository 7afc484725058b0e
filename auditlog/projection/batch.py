"""One batch of leaves on its way into the projections: what was read, and what it touches."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from auditlog.core.event import Actor, Event, GrantObject, Party, Payload, TokenObject, layer_of
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
    within_remit: bool  # the source may say this: its layers and issuers
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
    attributed: list[tuple] = field(
        default_factory=list
    )  # older ones that it attributes through a thing, in that order too

    def __post_init__(self) -> None:
        self.scope = (self.tenant.pk, self.generation)

    @property
    def first_leaf(self) -> int:
        """Rows of older events lie below it."""
        return self.reads[0].leaf_index if self.reads else self.last_leaf + 1


def speaks_for(source: Source, party: Party | Actor | None) -> bool:
    return not source.speaks_for or party is None or party.iss in source.speaks_for


def may_say(source: Source, event: Event) -> bool:
    """Whether the source speaks within its layers, and for one of the issuers whose parties the statement is about.

    Of a limit: who set or holds it. Of an approval: who gave it. Of money and of acts: who acted, or for whom. Whether a
    grant or token is proven is looked at with it (project_chains).
    """
    layer = layer_of(event.type)
    if source.layers and layer not in (*source.layers, "source"):
        return False
    # Whether a grant or token is proven, and may be ended, is looked at with it.
    if not source.speaks_for or layer == "source" or (layer == "authority" and not event.type.startswith("approval.")):
        return True
    payload = event.payload
    # What a provider says happened at it is its own to say, and not what happened at another. A source of other issuers
    # that is not known as a provider, nor let in as one by its layers, says nothing of what others did.
    if source.provider:
        at_it = payload.action is None or payload.action.provider in ("", source.provider)
        if at_it and layer in ("domains", "provider", "money"):
            return True
    elif layer in ("domains", "provider") and layer in source.layers:
        return True
    if event.type.startswith("limit.") and payload.limit:
        about = [
            payload.limit.set_by or payload.actor,
            payload.limit.holder,
        ]  # both: nobody lowers another's limit in his own name
    elif event.type.startswith("approval."):
        about = [payload.gate.by if payload.gate and payload.gate.by else payload.actor]
    else:
        about = [payload.actor or event.principal_claim]
    named = [party for party in about if party is not None]
    if not named:  # whose grant or token it is that it cites, a source with issuers of its own cannot say
        return not (stated_grant(payload) or stated_token(payload))
    return all(speaks_for(source, party) for party in named)


def stated_grant(payload: Payload) -> str:
    return payload.grant.id if isinstance(payload.grant, GrantObject) else payload.grant or ""


def stated_token(payload: Payload) -> str:
    return payload.token.jti if isinstance(payload.token, TokenObject) else payload.token or ""
