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
from auditlog.core.organisation import NONE_MAPPED, Organisations
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
    principal: str = ""  # whose it is, by its chain or as its source says; "" where nobody says
    principal_is_giver: bool = False  # `principal` is only who gave it: its source may have meant somebody else's
    issuer: str = ""  # whose word it is
    within_remit: bool = True  # its source may speak of approvals; else it is claimed, and counts for nothing
    verb: str = ""  # what was asked for, where it says so
    target: str = ""
    chain: frozenset[str] = frozenset()  # parties of its own path

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
    others: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # by actor: all grants that let it act
    organisations: Organisations = NONE_MAPPED
    agent_issuers: frozenset[str] = frozenset()  # of the issuers asked about, those that name agents

    def token_path(self, jti: str) -> TokenPath:
        return tokens_to(jti, self.tokens) if jti else NO_TOKENS

    def kind_of(self, party: str) -> str:
        return self.kinds.get(party, "unknown")

    def spending_of(self, party: str) -> list[Spent]:
        """Every charge that has the party on its chain."""
        return self._spending.get(party, [])

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
        """Acts that share the charge, the request, a key or the target, in leaf order."""
        return self._sharing(_ties(act))

    def told_of(self, act: Act) -> list[Act]:
        """Those of them that may be of this very act, since they share more than what it was done to."""
        return self._sharing(tie for tie in _ties(act) if tie[0] != "target")

    def _sharing(self, ties: Iterable[tuple[str, ...]]) -> list[Act]:
        found = {s.leaf_index: s for key in ties for s in self._siblings.get(key, ())}
        return [found[leaf] for leaf in sorted(found)]

    @cached_property
    def done_acts(self) -> dict[str, Act | None]:
        """By event id: what `use.done_act` found, which is asked for the same payments again and again."""
        return {}

    def answers_to(self, keys: Iterable[tuple[str, ...]]) -> list[Approval]:
        """Approvals, refusals and questions under any of these keys, in the order of their time."""
        found = {(a.event_id, a.answer): a for key in keys for a in self._answers.get(key, ())}
        return sorted(found.values(), key=lambda a: (a.at, a.leaf_index))

    def prices_asked(self, act: Act) -> frozenset[tuple[int | None, str | None]]:
        """The prices that digests in this principal's name may be over, of those that name no other thing."""
        things = {"", act.target, act.resource}
        return frozenset().union(*(self._prices.get((act.principal, thing), ()) for thing in things))

    @cached_property
    def _prices(self) -> dict[tuple[str, str], set[tuple[int | None, str | None]]]:
        told = _grouped(((a.principal, a.target), (a.max_price_minor, a.currency)) for a in (*self.approvals, *self.refusals) if a.over)
        return {asked: set(prices) for asked, prices in told.items()}

    @cached_property
    def _answers(self) -> dict[tuple[str, ...], list[Approval]]:
        return _grouped((key, a) for a in (*self.approvals, *self.refusals) for key in answer_keys(a))

    @cached_property
    def _spending(self) -> dict[str, list[Spent]]:
        return _grouped((party, spent) for spent in self.spending for party in spent.parties)

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


def invoice_of(act: Act) -> str:
    return act.payload.money.invoice if act.payload.money else ""


def answer_keys(approval: Approval) -> list[tuple[str, ...]]:
    """What an answer can be found by: its digest, its request, and what was asked for in whose name."""
    keys = [("over", approval.over), ("request", approval.request_id)]
    if approval.verb and approval.target:
        keys.append(("asked", approval.principal, approval.verb, approval.target))
    return [key for key in keys if key[-1]]


def _ties(act: Act) -> list[tuple[str, ...]]:
    """What acts can have in common."""
    ties = [
        ("charge", act.rail, act.charge), ("request", act.request_id), ("target", act.target), ("key", act.idempotency_key),
        ("invoice", act.rail, invoice_of(act)),
    ]  # fmt: skip
    return [tie for tie in ties if tie[-1]]


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list]:
    found: dict[Any, list] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
