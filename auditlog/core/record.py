"""The record around acts: what a detector or the verdict engine may look at besides the acts themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from auditlog.core.act import Act
from auditlog.core.chain import NO_TOKENS, Path, TokenPath, tokens_to
from auditlog.core.event import Party
from auditlog.core.limits import LimitFact, Spent
from auditlog.core.statement import Token


@dataclass(frozen=True, slots=True)
class Approval:
    """A gate answered by somebody: an `approval.decided` event, or the gate that an act carries. Also its being asked,
    which nobody has answered by that.
    """

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
    answer: Literal["approved", "refused", "asked"] = "approved"

    @property
    def party(self) -> Party | None:
        return Party(*self.by.split("|", 1), self.by_kind) if self.by else None


@dataclass(frozen=True, slots=True)
class Owned:
    """A name or mark of an organisation, the issuers whose parties belong to it, and single parties that do."""

    name: str
    organisation: str
    issuers: frozenset[str]
    parties: frozenset[str] = frozenset()

    def belongs_to(self, party: str) -> bool:
        return party in self.parties or party.partition("|")[0] in self.issuers


@dataclass(frozen=True)
class Record:
    """Lookups are by key, since one record serves the judging of thousands of acts."""

    limits: tuple[LimitFact, ...] = ()
    spending: tuple[Spent, ...] = ()
    approvals: tuple[Approval, ...] = ()
    refusals: tuple[Approval, ...] = ()  # what was asked for and refused, or only asked for: `answer` says which
    siblings: tuple[Act, ...] = ()  # other acts with the same charge, request id or target, in leaf order
    kinds: Mapping[str, str] = field(default_factory=dict)  # party key -> kind
    tokens: Mapping[str, Token] = field(default_factory=dict)  # jti -> the token, and all that it was exchanged from
    owned: tuple[Owned, ...] = ()
    held: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # by initiator: the paths to its own grants
    lineage: Mapping[str, frozenset[str]] = field(default_factory=dict)  # party key -> all parties above it
    history: tuple[Act, ...] = ()  # what the principals of the acts asked about did, as far as a verdict looks at it

    @cached_property
    def memory(self) -> dict[Any, Any]:
        """What was worked out of this record, by whoever worked it out: so that a thousand acts ask for it once."""
        return {}

    def token_path(self, jti: str) -> TokenPath:
        return tokens_to(jti, self.tokens) if jti else NO_TOKENS

    def kind_of(self, party: str) -> str:
        return self.kinds.get(party, "unknown")

    def spending_of(self, party: str) -> list[Spent]:
        """Every charge that has the party on its chain."""
        return self._spending.get(party, [])

    def history_of(self, principal: str) -> list[Act]:
        return self._history.get(principal, [])

    def limits_on(self, spending: Iterable[Spent]) -> list[LimitFact]:
        """Everything said of limits that are held by a party of these charges, or carried by one of their grants."""
        parties = {party for spent in spending for party in spent.parties}
        grants = {grant for spent in spending for grant in spent.grants}
        found = {id(f): f for key in parties for f in self._limits.get(("holder", key), ())}
        found |= {id(f): f for key in grants for f in self._limits.get(("grant", key), ())}
        return sorted(found.values(), key=lambda f: f.leaf_index)

    def limit_of(self, event_id: str) -> LimitFact | None:
        """What an event said of a limit; not what a grant says that it carries."""
        return self._limit_events.get(event_id)

    def said_of(self, limit: LimitFact) -> list[LimitFact]:
        """Everything said of the same limit."""
        return self._same_limit.get(limit.key, [])

    def siblings_of(self, act: Act) -> list[Act]:
        """Acts that share the charge, the request or the target, in leaf order."""
        found = {s.leaf_index: s for key in _ties(act) for s in self._siblings.get(key, ())}
        return [found[leaf] for leaf in sorted(found)]

    @cached_property
    def _spending(self) -> dict[str, list[Spent]]:
        return _grouped((party, spent) for spent in self.spending for party in spent.parties)

    @cached_property
    def _history(self) -> dict[str, list[Act]]:
        return _grouped((act.principal, act) for act in self.history if act.principal)

    @cached_property
    def _limits(self) -> dict[tuple[str, str], list[LimitFact]]:
        return _grouped(
            pair for f in self.limits for pair in ((("holder", f.holder), f), (("grant", f.grant), f)) if pair[0][1]
        )

    @cached_property
    def _limit_events(self) -> dict[str, LimitFact]:
        return {f.event_id: f for f in self.limits if f.verb != "grant"}

    @cached_property
    def _same_limit(self) -> dict[tuple[str, ...], list[LimitFact]]:
        return _grouped((f.key, f) for f in self.limits)

    @cached_property
    def _siblings(self) -> dict[tuple[str, ...], list[Act]]:
        return _grouped((key, act) for act in self.siblings for key in _ties(act))


def _ties(act: Act) -> list[tuple[str, ...]]:
    """What acts can have in common."""
    ties = [("charge", act.rail, act.charge), ("request", act.request_id), ("target", act.target)]
    return [tie for tie in ties if tie[-1]]


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list]:
    found: dict[Any, list] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
