"""The record around acts: what a detector or the verdict engine may look at besides the acts themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Literal

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import NO_TOKENS, Path, TokenPath, tokens_to
from auditlog.core.chain.organisation import NONE_MAPPED, Organisations
from auditlog.core.chain.statement import Token
from auditlog.core.event import Interval, Party
from auditlog.core.money.limits import (
    Ledger,
    Limit,
    LimitFact,
    RaiseStanding,
    Spent,
    limits_of,
    run,
    widens,
)
from auditlog.core.money.payment_authority import Ceiling, OverAuthority, beyond_authority, refused_raise
from auditlog.core.policy import Policy, Setting, setting_of


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
    target_type: str = ""
    provider: str = ""  # where what was asked for is to be done, where it says so
    environment: str = "live"
    interval: Interval | None = None  # the price is for each of these
    targets: tuple[str, ...] = ()  # what its own intent names
    quantity: int | None = None  # how many of it its own intent asks for
    task: str = ""  # that it is about, where it names neither a request nor a thing
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
    spenders: Mapping[tuple[str, str], frozenset[str]] = field(
        default_factory=dict
    )  # (principal, payment authority) -> who spends under it
    policies: Mapping[str, Policy] = field(default_factory=dict)  # rule -> how the tenant has set it
    history: tuple[Act, ...] = ()  # what the principals of the acts asked about did, as far as a verdict looks at it

    @cached_property
    def memory(self) -> dict[Any, Any]:
        """What was worked out of this record, by whoever worked it out: so that a thousand acts ask for it once."""
        return {}

    def setting(self, rule: str, setting: Setting) -> float:
        """What a rule reads for one of its settings."""
        return setting_of(self.policies, rule, setting)

    def token_path(self, jti: str) -> TokenPath:
        return tokens_to(jti, self.tokens) if jti else NO_TOKENS

    def kind_of(self, party: str) -> str:
        return self.kinds.get(party, "unknown")

    def may_speak_for(self, source: str, party: str) -> bool:
        confined_to = self.remits.get(source)
        return not confined_to or party.partition("|")[0] in confined_to

    def spent_for(self, principal: str) -> list[Spent]:
        """Every line in a principal's name."""
        return [line for line in self._spending.get(principal, []) if line.principal == principal]

    def lines_of(self, event_id: str) -> list[Spent]:
        """The lines in which a statement is counted."""
        return self._lines.get(event_id, [])

    def under_authority(self, authority: str) -> list[Spent]:
        """Every line under a payment authority."""
        return self._by_authority.get(authority, []) if authority else []

    def history_of(self, principal: str) -> list[Act]:
        return self._history.get(principal, [])

    def ledgers_on(self, spending: Iterable[Spent]) -> list[Ledger]:
        """Every limit that a party of these lines holds, or one of their grants carries, with all that counts against it:
        what was spent in the same name. One agent may serve two customers, and neither's limit is the other's.
        """
        found: dict[int, tuple[str, Limit]] = {}
        for spent in spending:
            of = self._limits(spent.principal)
            for key in (*(("holder", key) for key in spent.parties), *(("grant", key) for key in spent.grants)):
                found |= {id(limit): (spent.principal, limit) for limit in of.get(key, ())}
        first = sorted(found.values(), key=lambda each: (each[1].first.leaf_index, each[1].first.key, each[0]))
        return [self.ledger(principal, limit) for principal, limit in first]

    def ledger(self, principal: str, limit: Limit) -> Ledger:
        """All spending of one principal against one limit, run once."""
        known = self._ledgers.get(id(limit))
        if known is None:
            first = limit.first
            lines = self._by_grant.get(first.grant, []) if first.grant else self._spending.get(first.holder, [])
            known = self._ledgers[id(limit)] = run(limit, (line for line in lines if line.principal == principal))
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

    def beyond_authority(self, principal: str, authority: str) -> list[OverAuthority]:
        """What was taken in the principal's name under a payment authority beyond its ceiling or after its end."""
        key = ("beyond authority", principal, authority)
        if key not in self.memory:
            lines = [line for line in self.under_authority(authority) if line.principal == principal]
            judged = partial(self.authority_standing, principal, frozenset(line.actor for line in lines) - {""})
            self.memory[key] = beyond_authority(
                self.ceilings.get(authority, ()), lines, principal=principal, judged=judged
            )
        return self.memory[key]

    def raised_authority(self, act: Act) -> tuple[LimitFact, LimitFact] | None:
        """What an act widened of a payment authority under which its own actor spends, and what stood before."""
        money = act.payload.money
        if money is None or not money.authority or not act.within_remit or act.outcome != "success":
            return None
        actors = self.spenders.get((act.principal, money.authority), frozenset())
        judged = partial(self.authority_standing, act.principal, actors)
        return refused_raise(
            self.ceilings.get(money.authority, ()), act.event_id, principal=act.principal, judged=judged
        )

    def authority_standing(
        self, principal: str, actors: frozenset[str], fact: LimitFact, before: LimitFact | None
    ) -> RaiseStanding:
        """Whether a wider statement of a payment authority counts: made by the principal or a human of its organisation, or
        stated anew by who stated it first. Whoever spends under it (`actors`), and a party below them, raises it for nothing,
        and nobody attests for himself.
        """
        acting = {key for key in actors - {principal} if self.kind_of(key) != "human"}
        issuers = {key.partition("|")[0] for key in acting}
        is_restated = before is not None and before.issuer == fact.issuer
        setter = fact.set_by
        if setter in acting or acting & self.lineage.get(setter, frozenset()):
            return "refused"
        if fact.issuer in issuers and setter.partition("|")[0] != fact.issuer and not is_restated:
            return "unknown"
        if setter and self.kind_of(setter) == "human":
            return "counts" if setter == principal or self.organisations.are_one(setter, principal) else "unknown"
        if any(setter in self.lineage.get(key, frozenset()) for key in acting):
            return "counts"
        return "counts" if is_restated and fact.issuer not in issuers else "unknown"

    def limit_of(self, event_id: str) -> LimitFact | None:
        """What an event said of a limit; not what a grant says that it carries."""
        return self._limit_events.get(event_id)

    def before(self, limit: LimitFact) -> LimitFact | None:
        """What stood of a limit when this was said of it: raises that count for nothing are left out."""
        return self._before(limit.principal).get(limit.event_id)

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

    def _limits_of(self, principal: str) -> list[Limit]:
        """The limits that bind what is spent in a principal's name."""
        key = ("limits of", principal)
        if key not in self.memory:
            said = (fact for fact in self.limits if self._is_said_of(fact, principal))
            facts = [
                replace(fact, doubt=f"{fact.set_by} is not known to set limits here")
                if self._is_strangers(fact, principal)
                else fact
                for fact in said
            ]
            self.memory[key] = limits_of(facts, self.raise_standing)
        return self.memory[key]

    def _is_said_of(self, fact: LimitFact, principal: str) -> bool:
        """Whether a statement is about what is spent in this name; one about the principal itself may be made in the name of
        somebody of its organisation.
        """
        if not fact.may_be_of(principal):
            return False
        is_own = bool(fact.grant) or fact.principal in ("", principal)
        return is_own or self.organisations.are_one(fact.principal, principal) is True

    def _is_strangers(self, fact: LimitFact, principal: str) -> bool:
        """Whether somebody set it who has no part in it, as far as is known: an agent that does not stand above the holder for
        this principal, or a human who is not known to be of the organisation. What such a one narrows, as a sub-agent that
        caps the agent above it, may hold or not; what he widens is judged as any raise.
        """
        holder, setter = fact.holder, fact.set_by
        if fact.verb == "grant" or not holder or setter in ("", holder, principal):
            return False
        if self.kind_of(setter) in ("agent", "workload"):
            if setter not in self.lineage.get(holder, ()):
                return True
            # It may stand above the holder for another customer only.
            chains = [line.parties for line in self._spending.get(holder, ()) if line.principal == principal]
            return bool(chains) and not any(setter in parties for parties in chains)
        return self.kind_of(setter) == "human" and self.organisations.are_one(setter, principal) is not True

    def _before(self, principal: str) -> dict[str, LimitFact | None]:
        key = ("limits before", principal)
        if key in self.memory:
            return self.memory[key]
        found: dict[str, LimitFact | None] = {}
        for limit in self._limits_of(principal):
            stands: LimitFact | None = None
            for fact in (fact for fact in limit.versions if not fact.doubt):
                known = found.get(fact.event_id)
                if stands is not None and (
                    known is None or (stands.at, stands.leaf_index) > (known.at, known.leaf_index)
                ):
                    found[fact.event_id] = stands
                if not widens(fact, stands) or self.raise_standing(fact, stands) == "counts":
                    stands = fact
        self.memory[key] = found
        return found

    def _limits(self, principal: str) -> dict[tuple[str, str], list[Limit]]:
        key = ("limits by holder", principal)
        if key not in self.memory:
            self.memory[key] = _grouped(
                (("grant", limit.first.grant) if limit.first.grant else ("holder", limit.first.holder), limit)
                for limit in self._limits_of(principal)
            )
        return self.memory[key]

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


def subscription_of(act: Act) -> str:
    return act.payload.money.subscription if act.payload.money else ""


def answer_keys(approval: Approval) -> list[tuple[str, ...]]:
    """What an answer can be found by: its digest, its request, and what was asked for in whose name."""
    keys = [("over", approval.over), ("request", approval.request_id)]
    if approval.verb and approval.target:
        keys.append(("asked", approval.principal, approval.verb, approval.target))
    if approval.task:
        keys.append(("task", approval.principal, approval.task))
    return [key for key in keys if key[-1]]


def _ties(act: Act) -> list[tuple[str, ...]]:
    """What acts can have in common."""
    ties = [
        ("charge", act.charge), ("request", act.request_id), ("target", act.target), ("key", act.idempotency_key),
        ("invoice", act.rail, invoice_of(act)), ("subscription", subscription_of(act)),
    ]  # fmt: skip
    return [tie for tie in ties if tie[-1]]


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list]:
    found: dict[Any, list] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
