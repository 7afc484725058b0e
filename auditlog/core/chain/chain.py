"""Delegation chains: grants and tokens as the record knows them, joined into one line from a human outward.

Our order is oldest first: position 0 is the root. Senders nest the other way round (RFC 8693 section 4.1) or point
to parents; whoever builds a path here has already turned it round. A client is not an actor and `may_act` is not a
hop. Evidence that disagrees is a break that is shown, never a choice made in silence.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from auditlog.core.chain.statement import Grant, Standing, Token
from auditlog.core.event import Party

MAX_DEPTH = 256  # a longer path is cut and reported: real ones have under ten hops
Link = TypeVar("Link", Grant, Token)


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


@dataclass(frozen=True, slots=True)
class TokenPath:
    """The token that was shown and those it was exchanged from (RFC 8693), oldest first."""

    jti: str  # as shown; "" for none
    tokens: tuple[Token, ...] = ()
    missing: str | None = None  # jti that no source ever spoke of
    cycle: bool = False

    @property
    def grant(self) -> str | None:
        """The grant that answers for the token: its own, else the nearest parent's."""
        return next((token.grant for token in reversed(self.tokens) if token.grant), None)


NO_PATH = Path((), None, cycle=False)
NO_TOKENS = TokenPath("")


def path_to(grant_id: str, grants: Mapping[str, Grant]) -> Path:
    """Walk parents from `grant_id` to the root."""
    return Path(*_walk(grant_id, grants.get, lambda grant: None if grant.root else grant.parent))


def tokens_to(jti: str, tokens: Mapping[str, Token]) -> TokenPath:
    """Walk parents from `jti` to the token that was not exchanged from another. One whose end alone is known is missing."""
    return TokenPath(
        jti,
        *_walk(
            jti,
            lambda each: token if (token := tokens.get(each)) and token.stated else None,
            lambda token: token.parent,
        ),
    )


def _walk(
    start: str, find: Callable[[str], Link | None], parent: Callable[[Link], str | None]
) -> tuple[tuple[Link, ...], str | None, bool]:
    """(links oldest first, the missing one, whether it is a circle). No recursion: depth and cycles are bounded here."""
    walked: list[Link] = []
    seen: set[str] = set()
    current: str | None = start
    while current:
        if current in seen or len(walked) >= MAX_DEPTH:
            return tuple(reversed(walked)), None, True
        link = find(current)
        if link is None:
            return tuple(reversed(walked)), current, False
        seen.add(current)
        walked.append(link)
        current = parent(link)
    return tuple(reversed(walked)), None, False


@dataclass(frozen=True, slots=True)
class Hop:
    """One party on the chain of an act, and what made it part of the chain."""

    position: int
    party: Party
    delegated_by: str | None  # party key
    attester: str | None
    grant: str | None
    token: str | None
    standing: Standing
    derived_from: Literal["grant", "token", "act", "sub_id"]
    grade: str | None
    granted_at: datetime | None = None
    expires_at: datetime | None = None
    leaf_index: int | None = None
    known_at: datetime | None = None  # when we first received what it is derived from
    known_leaf: int | None = None
    dated: bool = True  # `granted_at` is when it was given, by its source's word; else only when that was told


@dataclass(frozen=True, slots=True)
class Break:
    """Why a chain does not hold. `hop` is the position of the hop that fails, None when a whole hop is missing.
    `supplier` is the issuer that could supply what is missing, where that is known.
    """

    hop: int | None
    code: str
    reason: str
    leaf_index: int | None = None
    supplier: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    hops: tuple[Hop, ...]
    path: Path
    complete: bool
    proven: bool
    principal: Party | None
    principal_claimed: bool
    breaks: tuple[Break, ...]
    tokens: TokenPath = NO_TOKENS
    mode: str = "delegation"


def build_chain(
    *,
    path: Path,
    tokens: TokenPath = NO_TOKENS,
    acting: Iterable[Party] = (),
    claimed_principal: Party | None = None,
    grade: str = "F",
    mode: str = "delegation",
) -> Chain:
    """The chain of one act, oldest hop first: its grant path, then the parties that only its tokens name, then those
    that only the act's own `act` claim (`acting`, oldest first) names.

    A hop that a grant or a token event states is proven when its source may speak for it; a party that only the act
    itself names is *claimed*: somebody says it acted, nobody is on record as having let it.
    """
    builder = _Builder(path, tokens, grade)
    builder.add_grants(claimed_principal)
    builder.add_tokens()
    builder.add_acting(acting)
    hops, breaks = tuple(builder.hops), tuple(builder.breaks)
    complete = path.ends_at_root and not any(b.code in ("no_actor", "cycle") for b in breaks)
    first = tokens.tokens[0].subject if tokens.tokens else None
    return Chain(
        hops=hops,
        path=path,
        complete=complete,
        proven=complete and all(hop.standing == "proven" for hop in hops),
        principal=path.principal or claimed_principal or (first if not path.grants else None),
        principal_claimed=path.principal is None,
        breaks=breaks,
        tokens=tokens,
        mode=mode,
    )


class _Builder:
    """The hops and breaks of one chain while it grows."""

    def __init__(self, path: Path, tokens: TokenPath, grade: str) -> None:
        self.path, self.tokens, self.grade = path, tokens, grade
        self.hops: list[Hop] = []
        self.breaks: list[Break] = []
        self.known: set[str] = set()
        self.held = {token.holder.key: token.jti for token in tokens.tokens if token.holder}

    def _break(self, hop: int | None, code: str, reason: str, **more: Any) -> None:
        self.breaks.append(Break(hop, code, reason, **more))

    def _add(self, party: Party, **more: Any) -> None:
        more = {
            "delegated_by": self.hops[-1].party.key if self.hops else None,
            "attester": None,
            "grant": None,
            "token": None,
        } | more
        self.hops.append(Hop(len(self.hops), party, **more))
        self.known.add(party.key)

    def add_grants(self, claimed_principal: Party | None) -> None:
        path = self.path
        first = path.grants[0] if path.grants else None
        if path.cycle:
            self._break(0, "cycle", "the grants point at each other in a circle, or further than we follow")
        if path.missing is not None:
            self._break(None, "missing_parent", f"no source ever spoke of grant {path.missing}",
                        supplier=first.attester if first else None)  # fmt: skip
        if first is not None and not first.root and path.missing is None and not path.cycle:
            self._break(
                0, "no_root", f"grant {first.id} names no parent and does not say it is a root", supplier=first.attester
            )
        if first is not None and first.subject is not None:
            self._add(first.subject, attester=first.attester, standing=first.standing, derived_from="grant",
                      grade=first.grade, leaf_index=first.leaf_index, known_at=first.known_at, known_leaf=first.known_leaf)  # fmt: skip
        elif first is None and claimed_principal is not None and not self.tokens.tokens:
            self._add(claimed_principal, standing="claimed", derived_from="sub_id", grade=self.grade)
        for number, grant in enumerate(path.grants):
            self._add_grant(grant, path.grants[number - 1] if number else None, is_last=number == len(path.grants) - 1)

    def _add_grant(self, grant: Grant, above: Grant | None, *, is_last: bool) -> None:
        if grant.actor is None:
            self._break(len(self.hops), "no_actor", f"grant {grant.id} does not say who may act", leaf_index=grant.leaf_index,
                        supplier=grant.attester)  # fmt: skip
            return
        giver = grant.subject.key if grant.subject else None
        if above is not None and giver and above.actor and giver != above.actor.key:
            self._break(len(self.hops), "delegator_mismatch",
                        f"grant {grant.id} is given by {giver}, but its parent went to {above.actor.key}",
                        leaf_index=grant.leaf_index)  # fmt: skip
        if grant.conflicts:
            self._break(len(self.hops), "conflicting_statements",
                        f"grant {grant.id} was stated otherwise too, at {_leaves(grant.conflicts)}", leaf_index=grant.conflicts[0])  # fmt: skip
        if grant.backdated:
            self._break(len(self.hops), "backdated",
                        f"grant {grant.id} was first said to be given later, at {_leaves(grant.backdated)}; its beginning was moved back",
                        leaf_index=grant.leaf_index)  # fmt: skip
        shown = self.tokens.jti if is_last and not self.tokens.tokens else None
        self._add(grant.actor, delegated_by=giver, attester=grant.attester, grant=grant.id,
                  token=self.held.get(grant.actor.key) or shown or None, standing=grant.standing, derived_from="grant",
                  grade=grant.grade, granted_at=grant.granted_at, expires_at=grant.expires_at, leaf_index=grant.leaf_index,
                  known_at=grant.known_at, known_leaf=grant.known_leaf, dated=grant.dated)  # fmt: skip

    def add_tokens(self) -> None:
        tokens, path = self.tokens, self.path
        if tokens.missing is not None:
            self._break(None, "orphan_token", f"no source ever spoke of token {tokens.missing}",
                        supplier=tokens.tokens[0].attester if tokens.tokens else None)  # fmt: skip
        if tokens.cycle:
            self._break(None, "cycle", "the tokens point at each other in a circle, or further than we follow")
        on_path = {grant.id for grant in path.grants}
        for token in tokens.tokens if path.grants else ():
            if token.grant and token.grant not in on_path:
                self._break(len(self.hops) - 1, "token_grant_conflict",
                            f"the act is under grant {path.grants[-1].id}, and token {token.jti} was issued under {token.grant},"
                            " which is not above it", leaf_index=token.leaf_index)  # fmt: skip
        if tokens.tokens and not path.grants and path.missing is None:
            self._break(None, "no_grant", f"no grant stands behind token {tokens.jti}: what it allowed is not known",
                        supplier=tokens.tokens[0].attester)  # fmt: skip
        for number, token in enumerate(tokens.tokens):
            self._add_token(token, tokens.tokens[number - 1] if number else None)

    def _add_token(self, token: Token, parent: Token | None) -> None:
        said = {"attester": token.attester, "token": token.jti, "standing": token.standing, "derived_from": "token",
                "grade": token.grade, "granted_at": token.issued_at, "expires_at": token.expires_at,
                "leaf_index": token.leaf_index, "known_at": token.known_at, "known_leaf": token.known_leaf, "dated": token.dated}  # fmt: skip
        if token.conflicts:
            self._break(None, "conflicting_statements",
                        f"token {token.jti} was stated otherwise too, at {_leaves(token.conflicts)}", leaf_index=token.conflicts[0])  # fmt: skip
        if token.subject is not None and token.subject.key not in self.known:
            if self.hops:
                self._break(0, "subject_conflict",
                            f"token {token.jti} is about {token.subject.key}, whom nothing else on this chain names",
                            leaf_index=token.leaf_index)  # fmt: skip
            else:
                self._add(token.subject, **said | {"token": None})
        # A token that nests who acted before must name the one its parent was issued to (RFC 8693 section 4.1). Who
        # exchanges its own token for another, for less or for elsewhere, has before it whom it had before.
        before = {party.key for party in (parent.actors[-1:] if parent else ())}
        if parent and [p.key for p in token.actors[-1:]] == [p.key for p in parent.actors[-1:]]:
            before |= {party.key for party in parent.actors[-2:-1]}
        if before and len(token.actors) > 1 and token.actors[-2].key not in before:
            self._break(len(self.hops), "act_conflict",
                        f"token {token.jti} says that {token.actors[-2].key} acted before, and it was exchanged from one of"
                        f" {parent.actors[-1].key}", leaf_index=token.leaf_index)  # fmt: skip
        for party in token.actors:
            if party.key not in self.known:
                if self.path.grants:
                    self._break(len(self.hops), "actor_not_granted",
                                f"token {token.jti} names {party.key}, and no grant on the path does", leaf_index=token.leaf_index)  # fmt: skip
                self._add(party, **said)

    def add_acting(self, acting: Iterable[Party]) -> None:
        for party in acting:
            if party.key in self.known:
                continue
            if self.path.grants or self.tokens.tokens:
                named = "grant" if self.path.grants else "token"
                self._break(
                    len(self.hops), "actor_not_granted", f"{party.key} acted, but no {named} on the path names it"
                )
            self._add(party, standing="claimed", derived_from="act", grade=self.grade)


def when_recorded(
    hop: Hop, *, occurred_at: datetime, leaf_index: int
) -> Literal["before", "told", "after", "itself"] | None:
    """When what the hop is derived from came into this ledger: before the act was done, before it was told, or after.

    By our clock and our order, not by anybody's `granted_at`: what is told once an act is done may be made up to fit it.
    "itself": the act is that statement. None: the act alone names the party.
    """
    if hop.known_leaf is None or hop.known_at is None:
        return None
    if hop.known_leaf >= leaf_index:
        return "itself" if hop.known_leaf == leaf_index else "after"
    return "before" if hop.known_at <= occurred_at else "told"


def _leaves(indexes: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, indexes[:5]))
    return f"{'leaf' if len(indexes) == 1 else 'leaves'} {shown}" + (" and more" if len(indexes) > 5 else "")


def with_kinds(chain: Chain, known: Mapping[str, str]) -> Chain:
    """The same chain with each party's kind as the record knows it."""
    hops = tuple(
        replace(hop, party=Party(hop.party.iss, hop.party.sub, known.get(hop.party.key, hop.party.kind)))
        for hop in chain.hops
    )
    return replace(chain, hops=hops)
