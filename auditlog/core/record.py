"""The record around acts: what a detector or the verdict engine may look at besides the acts themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from auditlog.core.act import Act
from auditlog.core.chain import NO_TOKENS, TokenPath, tokens_to
from auditlog.core.limits import LimitFact, Spent
from auditlog.core.statement import Token


@dataclass(frozen=True, slots=True)
class Approval:
    """A gate answered by somebody: an `approval.decided` event, or the gate that an act carries."""

    event_id: str
    leaf_index: int
    kind: str
    by: str  # party key
    by_kind: str  # as the record knows the party, not as the approval says
    at: datetime
    over: str
    request_id: str
    max_price_minor: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Owned:
    """A name or mark of an organisation, and the issuers whose parties belong to it."""

    name: str
    organisation: str
    issuers: frozenset[str]

    def belongs_to(self, party: str) -> bool:
        return party.partition("|")[0] in self.issuers


@dataclass(frozen=True, slots=True)
class Record:
    limits: tuple[LimitFact, ...] = ()
    spending: tuple[Spent, ...] = ()
    approvals: tuple[Approval, ...] = ()
    siblings: tuple[Act, ...] = ()  # other acts with the same charge, request id or target, in leaf order
    kinds: Mapping[str, str] = field(default_factory=dict)  # party key -> kind
    tokens: Mapping[str, Token] = field(default_factory=dict)  # jti -> the token, and all that it was exchanged from
    owned: tuple[Owned, ...] = ()
    lineage: Mapping[str, frozenset[str]] = field(default_factory=dict)  # party key -> all parties above it

    def token_path(self, jti: str) -> TokenPath:
        return tokens_to(jti, self.tokens) if jti else NO_TOKENS

    def kind_of(self, party: str) -> str:
        return self.kinds.get(party, "unknown")
