"""Delegation chains: grants as the record knows them, joined into paths from a human outward.

Our order is oldest first: position 0 is the root. Senders nest the other way round (RFC 8693 section 4.1) or point
to parents; whoever builds a path here has already turned it round.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from auditlog.core.event import Detail, GrantObject, Intent, Limit, Party, TokenObject, moment

MAX_DEPTH = 256  # a longer path is cut and reported: real ones have under ten hops


@dataclass(frozen=True, slots=True)
class Grant:
    """One hop: `subject` lets `actor` act for it. None means not stated."""

    id: str
    parent: str | None
    root: bool
    subject: Party | None
    actor: Party | None
    details: tuple[Detail, ...] | None
    limits: tuple[Limit, ...] | None
    not_before: datetime | None
    expires_at: datetime | None  # exclusive
    audience: tuple[str, ...] | None
    max_depth: int | None
    redelegate: bool | None
    gates: tuple[str, ...] | None
    intent: Intent | None
    jkt: str | None
    granted_at: datetime
    leaf_index: int
    event_id: str
    source: str
    attester: str  # issuer of the statement
    grade: str
    standing: Literal["proven", "claimed"]
    revoked_at: datetime | None = None
    revoked_known_at: datetime | None = None
    revoked_leaf: int | None = None
    notified: Mapping[str, datetime] = field(default_factory=dict)  # provider -> when it learned of the revocation
    conflicts: tuple[int, ...] = ()  # leaves that say something else under this id


@dataclass(frozen=True, slots=True)
class Path:
    """The grants above and including one, oldest first, as far as the record knows them."""

    grants: tuple[Grant, ...]
    missing: str | None  # id of the parent that no source ever spoke of
    cycle: bool

    @property
    def ends_at_root(self) -> bool:
        """Whether the oldest grant says it is a root. A missing parent and a true root are different things."""
        return bool(self.grants) and self.grants[0].root and self.missing is None and not self.cycle

    @property
    def principal(self) -> Party | None:
        return self.grants[0].subject if self.ends_at_root else None

    @property
    def parties(self) -> tuple[str, ...]:
        """Keys of all parties on the path: the root's subject, then each grant's actor."""
        keys = [self.grants[0].subject.key] if self.grants and self.grants[0].subject else []
        return (*keys, *(grant.actor.key for grant in self.grants if grant.actor))


def path_to(grant_id: str, grants: Mapping[str, Grant]) -> Path:
    """Walk parents from `grant_id` to the root. No recursion: depth and cycles are bounded here."""
    walked: list[Grant] = []
    seen: set[str] = set()
    current: str | None = grant_id
    while current is not None:
        if current in seen or len(walked) >= MAX_DEPTH:
            return Path(tuple(reversed(walked)), None, cycle=True)
        grant = grants.get(current)
        if grant is None:
            return Path(tuple(reversed(walked)), current, cycle=False)
        seen.add(current)
        walked.append(grant)
        current = None if grant.root else grant.parent
    return Path(tuple(reversed(walked)), None, cycle=False)


@dataclass(frozen=True, slots=True)
class Hop:
    """One party on the chain of an act, and what made it part of the chain."""

    position: int
    party: Party
    delegated_by: str | None  # party key
    attester: str | None
    grant: str | None
    token: str | None
    standing: Literal["proven", "claimed", "unknown"]
    derived_from: str  # grant | token | act | sub_id | actor
    grade: str | None
    granted_at: datetime | None = None
    expires_at: datetime | None = None
    leaf_index: int | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """Why a chain does not hold. `hop` is the position of the hop that fails, None when a whole hop is missing."""

    hop: int | None
    code: str
    reason: str
    leaf_index: int | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    hops: tuple[Hop, ...]
    path: Path
    complete: bool
    proven: bool
    principal: Party | None
    principal_claimed: bool
    breaks: tuple[Break, ...]


def build_chain(
    *, path: Path, token: str | None, acting: Iterable[Party], claimed_principal: Party | None, grade: str
) -> Chain:
    """The chain of one act: its grant path, then the parties of its `act` claim that no grant speaks of.

    `acting` is the act's own actor chain, oldest first. A party there that the path already holds is the same hop;
    one that it does not hold is a *claimed* hop: somebody says it acted, nobody granted it anything.
    """
    hops: list[Hop] = []
    breaks: list[Break] = []
    if path.cycle:
        breaks.append(Break(0, "cycle", "the grants point at each other in a circle, or further than we follow"))
    if path.missing is not None:
        breaks.append(Break(None, "missing_parent", f"no source ever spoke of grant {path.missing}"))
    first = path.grants[0] if path.grants else None
    if first is not None and not first.root and path.missing is None and not path.cycle:
        breaks.append(Break(0, "no_root", f"grant {first.id} names no parent and does not say it is a root"))
    if first is not None and first.subject is not None:
        hops.append(
            Hop(0, first.subject, None, first.attester, None, None, first.standing, "grant", first.grade,
                leaf_index=first.leaf_index)
        )
    elif not path.grants and claimed_principal is not None:
        hops.append(Hop(0, claimed_principal, None, None, None, None, "claimed", "sub_id", grade))
    for number, grant in enumerate(path.grants):
        if grant.actor is None:
            breaks.append(Break(len(hops), "no_actor", f"grant {grant.id} does not say who may act", grant.leaf_index))
            continue
        giver = grant.subject.key if grant.subject else None
        if number and giver and path.grants[number - 1].actor and giver != path.grants[number - 1].actor.key:
            breaks.append(
                Break(len(hops), "delegator_mismatch",
                      f"grant {grant.id} is given by {giver}, but its parent went to {path.grants[number - 1].actor.key}",
                      grant.leaf_index)
            )
        last = number == len(path.grants) - 1
        hops.append(
            Hop(len(hops), grant.actor, giver, grant.attester, grant.id, token if last else None, grant.standing,
                "grant", grant.grade, grant.granted_at, grant.expires_at, grant.leaf_index)
        )
    known = {hop.party.key for hop in hops}
    for party in acting:
        if party.key in known:
            continue
        known.add(party.key)
        previous = hops[-1].party.key if hops else None
        if path.grants:
            breaks.append(
                Break(len(hops), "actor_not_granted", f"{party.key} acted, but no grant on the path names it")
            )
        hops.append(Hop(len(hops), party, previous, None, None, None, "claimed", "act", grade))
    complete = path.ends_at_root and not any(b.code in ("no_actor", "cycle") for b in breaks)
    principal = path.principal
    return Chain(
        hops=tuple(hops),
        path=path,
        complete=complete,
        proven=complete and all(hop.standing == "proven" for hop in hops),
        principal=principal or claimed_principal,
        principal_claimed=principal is None,
        breaks=tuple(breaks),
    )


class GrantStatement(Struct, frozen=True):
    """One source's statement of a grant, as kept with its projection."""

    grant: GrantObject
    at: datetime
    leaf_index: int
    event_id: str
    source: str
    attester: str
    grade: str
    proven: bool


class Revocation(Struct, frozen=True):
    """One source's statement that a grant or token ended. From a provider's own source it is the notice there."""

    at: datetime
    known_at: datetime
    leaf_index: int
    source: str
    provider: str
    proven: bool


class GrantRecord(Struct, frozen=True):
    """All that was ever said of one grant id, in leaf order."""

    statements: list[GrantStatement] = []
    revocations: list[Revocation] = []

    def with_more(self, statements: Iterable[GrantStatement], revocations: Iterable[Revocation]) -> "GrantRecord":
        return GrantRecord(
            sorted([*self.statements, *statements], key=lambda s: s.leaf_index),
            sorted([*self.revocations, *revocations], key=lambda r: r.leaf_index),
        )


def moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def resolve(record: GrantRecord) -> Grant | None:
    """The grant as it stands, or None when only its revocation is known.

    Of several statements the proven one stands before the claimed, then the earliest by its own time, then the one
    with the smaller bytes: never the one that happened to arrive first. The others are kept as conflicts where they
    say something else.
    """
    if not record.statements:
        return None
    stands = min(record.statements, key=lambda s: (not s.proven, s.at, msgspec.json.encode(s.grant), s.event_id))
    said = stands.grant
    counted = [r for r in record.revocations if r.proven]
    first = min(counted, key=lambda r: (r.at, r.known_at, r.leaf_index), default=None)
    notified: dict[str, datetime] = {}
    for revocation in record.revocations:
        if revocation.provider:
            at = min(revocation.at, notified.get(revocation.provider, revocation.at))
            notified[revocation.provider] = at
    return Grant(
        id=said.id,
        parent=said.parent or None,
        root=said.root,
        subject=said.subject,
        actor=said.actor,
        details=None if said.authorization_details is None else tuple(said.authorization_details),
        limits=None if said.limits is None else tuple(said.limits),
        not_before=moment_or_none(said.not_before),
        expires_at=moment_or_none(said.expires_at),
        audience=None if said.audience is None else tuple(said.audience),
        max_depth=said.max_depth,
        redelegate=said.redelegate,
        gates=None if said.gates is None else tuple(said.gates),
        intent=said.intent,
        jkt=said.cnf.jkt if said.cnf and said.cnf.jkt else None,
        granted_at=stands.at,
        leaf_index=stands.leaf_index,
        event_id=stands.event_id,
        source=stands.source,
        attester=stands.attester,
        grade=stands.grade,
        standing="proven" if stands.proven else "claimed",
        revoked_at=first.at if first else None,
        revoked_known_at=first.known_at if first else None,
        revoked_leaf=first.leaf_index if first else None,
        notified=notified,
        conflicts=tuple(s.leaf_index for s in record.statements if s.grant != said),
    )


class TokenStatement(Struct, frozen=True):
    token: TokenObject
    at: datetime
    leaf_index: int
    event_id: str
    source: str
    attester: str
    grade: str
    proven: bool


class TokenRecord(Struct, frozen=True):
    statements: list[TokenStatement] = []
    revocations: list[Revocation] = []

    def with_more(self, statements: Iterable[TokenStatement], revocations: Iterable[Revocation]) -> "TokenRecord":
        return TokenRecord(
            sorted([*self.statements, *statements], key=lambda s: s.leaf_index),
            sorted([*self.revocations, *revocations], key=lambda r: r.leaf_index),
        )

    @property
    def stands(self) -> TokenStatement | None:
        """As for grants: proven first, then the earliest by its own time."""
        return min(
            self.statements,
            key=lambda s: (not s.proven, s.at, msgspec.json.encode(s.token), s.event_id),
            default=None,
        )

    @property
    def revoked_at(self) -> datetime | None:
        return min((r.at for r in self.revocations if r.proven), default=None)
