"""The record around acts: what a detector or the verdict engine may look at besides the acts themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import NO_TOKENS, Path, TokenPath, tokens_to
from auditlog.core.chain.organisation import NONE_MAPPED, Organisations
from auditlog.core.chain.statement import Token
from auditlog.core.event import Party
from auditlog.core.money.limits import (
    Ceiling,
    Ledger,
    Limit,
    LimitFact,
    OverAuthority,
    RaiseStanding,
    Spent,
    beyond_authority,
    limits_of,
    run,
    widens,
)


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


@dataclass(frozen=True, slots=True)
class Turn:
    """A session or task that began or ended, as a source says."""

    at: datetime
    ended: bool
    principal: str
    leaf_index: int
    event_id: str


@dataclass(frozen=True)
class Record:
    """Lookups are by key, since one record serves the judging of thousands of acts."""

    limits: tuple[LimitFact, ...] = ()
    spending: tuple[Spent, ...] = ()
    ceilings: Mapping[str, tuple[Ceiling, ...]] = field(
        default_factory=dict
    )  # payment authority -> what was said of it
    approvals: tuple[Approval, ...] = ()
    refusals: tuple[Approval, ...] = ()  # what was asked for and refused, or only asked for: `answer` says which
    siblings: tuple[Act, ...] = ()  # other acts with the same charge, request id or target, in leaf order
    kinds: Mapping[str, str] = field(default_factory=dict)  # party key -> kind
    tokens: Mapping[str, Token] = field(default_factory=dict)  # jti -> the token, and all that it was exchanged from
    owned: tuple[Owned, ...] = ()
    held: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # by initiator: the paths to its own grants
    lineage: Mapping[str, frozenset[str]] = field(default_factory=dict)  # party key -> all parties above it
    attesters: Mapping[str, frozenset[str]] = field(
        default_factory=dict
    )  # party key -> issuers of the grants that let it act
    others: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # by actor: all grants that let it act
    organisations: Organisations = NONE_MAPPED
    remits: Mapping[str, frozenset[str]] = field(default_factory=dict)  # source -> issuers it is confined to; none: all
    agent_issuers: frozenset[str] = frozenset()  # of the issuers asked about, those that name agents
    turns: Mapping[tuple[str, str], tuple[Turn, ...]] = field(
        default_factory=dict
    )  # (session | task, name) -> its beginnings and ends
    history: tuple[Act, ...] = ()  # what the principals of the acts asked about did, as far as a verdict looks at it

    @cached_property
    def memory(self) -> dict[Any, Any]:
        """What was worked out of this record, by whoever worked it out: so that a thousand acts ask for it once."""
        return {}

    def token_path(self, jti: str) -> TokenPath:
        return tokens_to(jti, self.tokens) if jti else NO_TOKENS

    def kind_of(self, party: str) -> str:
        return self.kinds.get(party, "unknown")

    def may_speak_for(self, source: str, party: str) -> bool:
        confined_to = self.remits.get(source)
        return not confined_to or party.partition("|")[0] in confined_to

    def spending_of(self, party: str) -> list[Spent]:
        """Every line that has the party on its chain."""
        return self._spending.get(party, [])

    def lines_of(self, event_id: str) -> list[Spent]:
        """The lines in which a statement is counted."""
        return self._lines.get(event_id, [])

    def under_authority(self, authority: str) -> list[Spent]:
        """Every line under a payment authority."""
        return self._by_authority.get(authority, []) if authority else []

    def history_of(self, principal: str) -> list[Act]:
        return self._history.get(principal, [])

    def ledgers_on(self, spending: Iterable[Spent]) -> list[Ledger]:
        """Every limit that a party of these lines holds, or one of their grants carries, with all that counts against it."""
        parties = {party for spent in spending for party in spent.parties}
        grants = {grant for spent in spending for grant in spent.grants}
        found = {id(limit): limit for key in parties for limit in self._limits.get(("holder", key), ())}
        found |= {id(limit): limit for key in grants for limit in self._limits.get(("grant", key), ())}
        return [
            self.ledger(limit)
            for limit in sorted(found.values(), key=lambda limit: (limit.first.leaf_index, limit.first.key))
        ]

    def ledger(self, limit: Limit) -> Ledger:
        """All spending against one limit, run once."""
        known = self._ledgers.get(id(limit))
        if known is None:
            first = limit.first
            lines = self._by_grant.get(first.grant, []) if first.grant else self._spending.get(first.holder, [])
            known = self._ledgers[id(limit)] = run(limit, lines)
        return known

    def raise_standing(self, fact: LimitFact, before: LimitFact | None) -> RaiseStanding:
        """Whether a raise counts: made by who set the limit for somebody else, by somebody above the holder, or by a human of
        the principal's organisation. An agent's raise of its own limit, or of one above it, counts for nothing; and nobody
        attests for himself: a raise that only the holder's own side tells is unknown, and so is one that the holder made in
        somebody else's name.
        """
        if not fact.set_by:
            return "unknown"
        standing = self._raise_standing(fact, before)
        return (
            "unknown"
            if standing == "counts" and (self._is_own_word(fact, before) or self._is_made_by_holder(fact, before))
            else standing
        )

    def _is_made_by_holder(self, fact: LimitFact, before: LimitFact | None) -> bool:
        """Whether the event names as its actor whoever the limit binds, or a party below, and another as who set it."""
        holder = fact.holder or (before.holder if before else "")
        if fact.verb == "grant" or not fact.actor or fact.actor == fact.set_by:
            return False
        return fact.actor == holder or holder in self.lineage.get(fact.actor, frozenset())

    def _is_own_word(self, fact: LimitFact, before: LimitFact | None) -> bool:
        """Whether only the side of whoever the limit binds says so: its issuer's source, which gave it no authority, states
        no limit of it besides, and is not that of who set the limit.
        """
        holder = fact.holder or (before.holder if before else "")
        if (
            fact.verb == "grant"
            or not fact.issuer
            or holder.partition("|")[0] != fact.issuer
            or fact.set_by.partition("|")[0] == fact.issuer
        ):
            return False
        return fact.issuer not in self.attesters.get(holder, frozenset()) and not (
            before and before.issuer == fact.issuer
        )

    def _raise_standing(self, fact: LimitFact, before: LimitFact | None) -> RaiseStanding:
        holder = fact.holder or (before.holder if before else "")
        above = self.lineage.get(holder, frozenset())
        is_human = self.kind_of(fact.set_by) == "human"
        if fact.set_by in above:
            return "counts"
        if is_human:
            humans = {party for party in above | {holder} if party and self.kind_of(party) == "human"}
            own = {party.partition("|")[0] for party in humans}
            return (
                "counts" if fact.set_by in humans or not humans or fact.set_by.partition("|")[0] in own else "unknown"
            )
        if fact.set_by == holder or holder in self.lineage.get(fact.set_by, frozenset()):
            return "refused"
        return "unknown"

    def beyond_authority(self, authority: str) -> list[OverAuthority]:
        """What was taken under a payment authority beyond its ceiling or after its end."""
        key = ("beyond authority", authority)
        if key not in self.memory:
            self.memory[key] = beyond_authority(self.ceilings.get(authority, ()), self.under_authority(authority))
        return self.memory[key]

    def limit_of(self, event_id: str) -> LimitFact | None:
        """What an event said of a limit; not what a grant says that it carries."""
        return self._limit_events.get(event_id)

    def before(self, limit: LimitFact) -> LimitFact | None:
        """What stood of a limit when this was said of it: raises that count for nothing are left out."""
        return self._before.get(limit.event_id)

    def making_of(self, act: Act) -> Act | None:
        """The act that made the thing through which this one is attributed."""
        return self._by_event.get(act.through) if act.through else None

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
        told = _grouped(
            ((a.principal, a.target), (a.max_price_minor, a.currency))
            for a in (*self.approvals, *self.refusals)
            if a.over
        )
        return {asked: set(prices) for asked, prices in told.items()}

    @cached_property
    def _answers(self) -> dict[tuple[str, ...], list[Approval]]:
        return _grouped((key, a) for a in (*self.approvals, *self.refusals) for key in answer_keys(a))

    @cached_property
    def _spending(self) -> dict[str, list[Spent]]:
        return _grouped((party, spent) for spent in self.spending for party in spent.parties)

    @cached_property
    def _history(self) -> dict[str, list[Act]]:
        return _grouped((act.principal, act) for act in self.history if act.principal)

    @cached_property
    def _by_authority(self) -> dict[str, list[Spent]]:
        return _grouped((spent.authority, spent) for spent in self.spending)

    @cached_property
    def _by_grant(self) -> dict[str, list[Spent]]:
        return _grouped((grant, spent) for spent in self.spending for grant in spent.grants)

    @cached_property
    def _lines(self) -> dict[str, list[Spent]]:
        return _grouped((event_id, spent) for spent in self.spending for event_id in spent.events)

    @cached_property
    def _ledgers(self) -> dict[int, Ledger]:
        return {}

    @cached_property
    def _all_limits(self) -> list[Limit]:
        return limits_of(self.limits, self.raise_standing)

    @cached_property
    def _before(self) -> dict[str, LimitFact | None]:
        found: dict[str, LimitFact | None] = {}
        for limit in self._all_limits:
            stands: LimitFact | None = None
            for fact in (fact for fact in limit.versions if not fact.doubt):
                known = found.get(fact.event_id)
                if stands is not None and (
                    known is None or (stands.at, stands.leaf_index) > (known.at, known.leaf_index)
                ):
                    found[fact.event_id] = stands
                if not widens(fact, stands) or self.raise_standing(fact, stands) == "counts":
                    stands = fact
        return found

    @cached_property
    def _limits(self) -> dict[tuple[str, str], list[Limit]]:
        return _grouped(
            (("grant", limit.first.grant) if limit.first.grant else ("holder", limit.first.holder), limit)
            for limit in self._all_limits
        )

    @cached_property
    def _limit_events(self) -> dict[str, LimitFact]:
        return {f.event_id: f for f in self.limits if f.verb != "grant"}

    @cached_property
    def _by_event(self) -> dict[str, Act]:
        return {act.event_id: act for act in self.siblings}

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
        ("charge", act.charge), ("request", act.request_id), ("target", act.target), ("key", act.idempotency_key),
        ("invoice", act.rail, invoice_of(act)),
    ]  # fmt: skip
    return [tie for tie in ties if tie[-1]]


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list]:
    found: dict[Any, list] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
