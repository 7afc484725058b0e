"""What was said of a grant or a token, by whom, and what of it stands.

Senders repeat themselves, contradict one another and arrive in any order; so all that was said is kept, and what
stands is chosen by rules that do not know the order of arrival.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from auditlog.core.event import Detail, GrantObject, Intent, Limit, Party, TokenObject, act_chain, moment

CLOCKS = 30  # seconds that two honest clocks may differ
DISPUTED = 8  # contents of one grant beside what stands that are looked at: more would not make it clearer
Standing = Literal["proven", "claimed", "unknown"]
Said = TypeVar("Said", GrantObject, TokenObject)


class Statement(Struct, Generic[Said], frozen=True):
    """One source's statement of a grant or token. `proven`: the source may speak for its layer and its subject."""

    said: Said
    at: datetime
    leaf_index: int
    event_id: str
    source: str
    attester: str  # issuer of the statement
    grade: str
    proven: bool
    known_at: datetime  # when we received it: no claim of anybody
    dated: bool = True  # `at` is when it was done, by its source's word; else only when it was told


class Revocation(Struct, frozen=True):
    """One source's statement that a grant or token ended. From a provider's own source it is the notice there."""

    at: datetime
    known_at: datetime
    leaf_index: int
    source: str
    provider: str
    proven: bool  # within its source's layers
    issuer: str = ""
    speaks_for: list[str] = []  # issuers its source is confined to; empty: all

    def is_of(self, stands: "Statement | None") -> bool:
        """Whether its source may end this: it stated it itself, or speaks for whoever gave it."""
        if not self.proven:
            return False
        if not self.speaks_for or stands is None or stands.attester == self.issuer:
            return True
        giver = stands.said.subject or (None if isinstance(stands.said, GrantObject) else stands.said.actor)
        return giver is not None and giver.iss in self.speaks_for


class History(Struct, Generic[Said], frozen=True, dict=True):  # with room for what is worked out once
    """All that was ever said of one grant or token, in leaf order."""

    statements: list[Statement[Said]] = []
    revocations: list[Revocation] = []

    def with_more(self, statements: Iterable[Statement[Said]], revocations: Iterable[Revocation]) -> "History[Said]":
        return History(
            sorted([*self.statements, *statements], key=lambda s: s.leaf_index),
            sorted([*self.revocations, *revocations], key=lambda r: r.leaf_index),
        )

    def without(self, leaves: Collection[int]) -> "History[Said]":
        """What is left when these leaves have said nothing."""
        return History(
            [s for s in self.statements if s.leaf_index not in leaves],
            [r for r in self.revocations if r.leaf_index not in leaves],
        )

    @property
    def is_empty(self) -> bool:
        return not (self.statements or self.revocations)

    @cached_property
    def first(self) -> Statement[Said] | None:
        """What was stated first: the proven before the claimed, then the earliest by its own time, then the one with the
        smaller bytes: never the one that happened to arrive first. None when only a revocation is known.
        """
        return min(self.statements, key=lambda s: (not s.proven, *_in_time(s)), default=None)

    @cached_property
    def versions(self) -> list[Statement[Said]]:
        """All statements that stand, each from its own time until the next: the first, and what the same issuer stated
        anew after it. What is only repeated is not among them, and of two contents at one time only the first is.
        """
        first = self.first
        if first is None:
            return []
        again = sorted(
            (
                s
                for s in self.statements
                if s.attester == first.attester and s.proven >= first.proven and s.at > first.at
            ),
            key=_in_time,
        )
        found = [first]
        for statement in again:
            if statement.said != found[-1].said and statement.at > found[-1].at:
                found.append(statement)
        return found

    @property
    def stands(self) -> Statement[Said] | None:
        """What was stated last by whoever stated it first."""
        return next(reversed(self.versions), None)

    def as_of(self, at: datetime, known_leaf: int) -> tuple[int, int]:
        """By place among the versions: what held at `at`, and what did as far as this ledger knew at `known_leaf`.

        The one place where order of arrival counts: what was stated anew and dated before an act may be made up to fit
        it, where the act was on record first. Where nothing was known by then, the first may come late, and counts.
        """
        versions = self.versions
        held = max(bisect_right(self._times, at) - 1, 0)
        known = next(
            (n for n in range(held, -1, -1) if versions[n].leaf_index <= known_leaf and versions[n].at <= at), None
        )
        if known is None:
            known = next((n for n, version in enumerate(versions) if version.leaf_index <= known_leaf), 0)
        return held, known

    @cached_property
    def _times(self) -> list[datetime]:
        return [version.at for version in self.versions]

    def first_known(self, stands: Statement[Said]) -> Statement[Said]:
        """The first that we received of those that say what stands, by sources that may say so if any may. Who says it
        again does not make it younger.
        """
        return self._first_known.get((_bytes(stands), stands.proven), stands)

    @cached_property
    def _first_known(self) -> dict[tuple[bytes, bool], Statement[Said]]:
        found: dict[tuple[bytes, bool], Statement[Said]] = {}
        for s in self.statements:
            found.setdefault((_bytes(s), s.proven), s)
            if s.proven:  # counts for what is only claimed, too
                found.setdefault((_bytes(s), False), s)
        return found

    @property
    def ended(self) -> Revocation | None:
        """The first revocation by a source that may say so."""
        first = self.first
        counted = [r for r in self.revocations if r.is_of(first)]
        return min(counted, key=lambda r: (r.at, r.known_at, r.leaf_index), default=None)

    @property
    def notified(self) -> dict[str, datetime]:
        """By provider: when it said itself that this had ended."""
        found: dict[str, datetime] = {}
        for revocation in self.revocations:
            if revocation.provider:
                found[revocation.provider] = min(revocation.at, found.get(revocation.provider, revocation.at))
        return found

    def conflicts(self, stands: Statement[Said]) -> tuple[int, ...]:
        """Leaves that contradict what stands: another issuer's, or of one time with another content. What its own issuer
        states anew is none.
        """
        mine = _bytes(stands)
        told = ((s, _bytes(s)) for s in self.statements)
        return tuple(
            s.leaf_index
            for s, said in told
            if said != mine and not (s.attester == stands.attester and said in self._contents)
        )

    @cached_property
    def _contents(self) -> frozenset[bytes]:
        return frozenset(_bytes(version) for version in self.versions)

    def otherwise(self, version: int) -> list[tuple[datetime | None, Statement[Said]]]:
        """What may as well hold in place of this version, and from when that bears on an act (None: at any time).

        Whoever stated it first states it anew, and nobody else does. So another issuer's word matters where it had been
        received first, and is later only by the times that both claim; the same issuer's does so of the very same time; and
        so does a later beginning that had been received first. Who leaves out whose it is, or what it is for, does not
        contradict.
        """
        first, versions = self.first, self.versions
        if first is None:
            return []
        seen: set[tuple[bytes, datetime]] = set()
        found: list[tuple[datetime | None, Statement[Said]]] = []
        for s in (*self._received_first, *self._by_time.get(versions[version].at, ())):
            if s.proven < first.proven or s is versions[version]:
                continue
            was_first = s.leaf_index < first.leaf_index
            moved = was_first and s.dated and first.dated and (s.at - first.at).total_seconds() > CLOCKS
            is_rival = was_first if s.attester != first.attester else s.at == versions[version].at
            is_new = is_rival and _bytes(s) not in self._contents
            if not is_new:
                meant = versions[version].said
            elif was_first:  # what had been said first without a term is not known to have had it
                meant = _filled(s.said, versions[version].said, only=_NAMES_OF[type(s.said)])
            else:
                meant = _filled(s.said, versions[version].said)
            mark = (msgspec.json.encode(meant), s.at)
            if (meant != versions[version].said or moved) and mark not in seen:
                seen.add(mark)
                found.append(
                    (
                        None if was_first else s.at,
                        msgspec.structs.replace(s, said=meant, at=s.at if moved else first.at),
                    )
                )
        return sorted(found, key=lambda pair: (pair[1].at, msgspec.json.encode(pair[1].said), pair[1].event_id))[
            :DISPUTED
        ]

    @cached_property
    def _received_first(self) -> list[Statement[Said]]:
        """Received before what is the first by its time: of several with one content the first and the last by time."""
        by_content: dict[tuple[bytes, str], list[Statement[Said]]] = {}
        for s in self.statements:
            if self.first and s.leaf_index < self.first.leaf_index:
                by_content.setdefault((_bytes(s), s.attester), []).append(s)
        ends = [(min(many, key=_in_time), max(many, key=_in_time)) for many in by_content.values()]
        return sorted({s.leaf_index: s for pair in ends for s in pair}.values(), key=_in_time)[: 8 * DISPUTED]

    @cached_property
    def _by_time(self) -> dict[datetime, list[Statement[Said]]]:
        found: dict[datetime, list[Statement[Said]]] = {}
        for s in self.statements:
            if self.first and s.attester == self.first.attester:
                found.setdefault(s.at, []).append(s)
        return found

    def backdated(self, stands: Statement[Said]) -> tuple[int, ...]:
        """Leaves that had said, before what stands came in, that it was given later: the beginning was moved back."""
        if not stands.dated:
            return ()
        return tuple(s.leaf_index for s in self.statements
                     if s.proven and s.dated and s.leaf_index < stands.leaf_index and (s.at - stands.at).total_seconds() > CLOCKS)  # fmt: skip

    @property
    def last_leaf(self) -> int:
        return max((s.leaf_index for s in (*self.statements, *self.revocations)), default=0)


def _bytes(statement: Statement) -> bytes:
    return msgspec.json.encode(statement.said)


def _in_time(statement: Statement) -> tuple[datetime, bytes, str]:
    return statement.at, _bytes(statement), statement.event_id


decode_grant_history = msgspec.json.Decoder(History[GrantObject]).decode
decode_token_history = msgspec.json.Decoder(History[TokenObject]).decode
encode_history = msgspec.json.Encoder().encode


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
    granted_at: datetime  # where not `dated`, when it was told: it may have been given before
    leaf_index: int
    event_id: str
    source: str
    attester: str  # issuer of the statement
    grade: str
    standing: Standing
    known_at: datetime | None = None  # when we first received it, as it stands
    known_leaf: int | None = None
    revoked_at: datetime | None = None
    revoked_known_at: datetime | None = None
    revoked_leaf: int | None = None
    notified: Mapping[str, datetime] = field(default_factory=dict)  # provider -> when it learned of the revocation
    conflicts: tuple[int, ...] = ()  # leaves that say something else under this id
    dated: bool = True
    backdated: tuple[int, ...] = ()  # leaves that had said that it was given later
    known_before: "Grant | None" = None  # as it was known when the act was told, where it was stated anew after that
    # What others state of it, who may say so too, with the time from which that bears on an act (None: any).
    disputed: "tuple[tuple[datetime | None, Grant], ...]" = ()

    @property
    def begins_at(self) -> datetime | None:
        """From when it held: as it says, else from when it was given. None: it was told of late, perhaps."""
        return self.not_before or (self.granted_at if self.dated else None)


def resolve_grant(history: History[GrantObject], version: int = -1) -> Grant | None:
    """The grant as it stands, or as one of its versions states it; None when only its revocation is known.

    It was given when it was first stated: what states it anew changes its terms, and not since when there is one.
    """
    versions = history.versions
    if not versions:
        return None
    stands, rivals = versions[version], history.otherwise(version)
    said = stands.said
    for since, rival in rivals:
        said = _filled(said, rival.said) if since is None else said
    grant = _as_stated(history, stands, versions[0], said)
    disputed = [(since, s) for since, s in rivals if s.said != said or s.at != versions[0].at]
    return (
        replace(grant, disputed=tuple((since, _as_stated(history, s, s, s.said)) for since, s in disputed))
        if disputed
        else grant
    )


def _as_stated(
    history: History[GrantObject], stands: Statement[GrantObject], given: Statement[GrantObject], said: GrantObject
) -> Grant:
    """The grant as one statement has it: `said`, with what it leaves out. `given`: the one whose time is when it was given."""
    first, ended = history.first_known(stands), history.ended
    return Grant(
        id=said.id,
        parent=said.parent or None,
        root=said.root,
        subject=said.subject,
        actor=said.actor,
        details=_tuple(said.authorization_details),
        limits=_tuple(said.limits),
        not_before=moment_or_none(said.not_before),
        expires_at=moment_or_none(said.expires_at),
        audience=_tuple(said.audience),
        max_depth=said.max_depth,
        redelegate=said.redelegate,
        gates=_tuple(said.gates),
        intent=said.intent,
        jkt=said.cnf.jkt if said.cnf and said.cnf.jkt else None,
        granted_at=given.at,
        leaf_index=stands.leaf_index,
        event_id=stands.event_id,
        source=stands.source,
        attester=stands.attester,
        grade=stands.grade,
        standing="proven" if stands.proven else "claimed",
        known_at=first.known_at,
        known_leaf=first.leaf_index,
        revoked_at=ended.at if ended else None,
        revoked_known_at=ended.known_at if ended else None,
        revoked_leaf=ended.leaf_index if ended else None,
        notified=history.notified,
        conflicts=history.conflicts(stands),
        dated=given.dated,
        backdated=history.backdated(stands) if said.not_before is None else (),
    )


@dataclass(frozen=True, slots=True)
class Token:
    """A credential under a grant, or exchanged from another (RFC 8693). `standing` "unknown": no source spoke of it,
    only of its end. None means not stated.
    """

    jti: str
    standing: Standing
    leaf_index: int
    parent: str | None = None
    grant: str | None = None
    subject: Party | None = None
    actors: tuple[Party, ...] = ()  # of its `act` claim, oldest first
    audience: tuple[str, ...] | None = None
    scope: tuple[str, ...] | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None  # exclusive
    jkt: str | None = None
    event_id: str = ""
    source: str = ""
    attester: str = ""
    grade: str = "F"
    known_at: datetime | None = None  # when we first received it, as it stands
    known_leaf: int | None = None
    revoked_at: datetime | None = None
    revoked_known_at: datetime | None = None
    revoked_leaf: int | None = None
    notified: Mapping[str, datetime] = field(default_factory=dict)
    conflicts: tuple[int, ...] = ()
    dated: bool = True  # `issued_at` is when it was issued; else it is when that was told
    disputed_by: str = ""  # the first issuer that states otherwise what it is, and may say so too

    @property
    def stated(self) -> bool:
        return self.standing != "unknown"

    @property
    def holder(self) -> Party | None:
        """Who acts with it: its current actor, else its subject itself."""
        return self.actors[-1] if self.actors else self.subject


def resolve_token(jti: str, history: History[TokenObject]) -> Token:
    """The token as it stands."""
    stands, ended = history.first, history.ended  # a token is what it was issued as
    end = {
        "revoked_at": ended.at if ended else None,
        "revoked_known_at": ended.known_at if ended else None,
        "revoked_leaf": ended.leaf_index if ended else None,
        "notified": history.notified,
    }
    if stands is None:
        return Token(jti, "unknown", history.last_leaf, **end)
    said, first = stands.said, history.first_known(stands)
    return Token(
        jti=jti,
        standing="proven" if stands.proven else "claimed",
        leaf_index=stands.leaf_index,
        parent=said.parent_jti or None,
        grant=said.grant or None,
        subject=said.subject,
        actors=act_chain(said.actor) if said.actor else (),
        audience=_tuple(said.audience),
        scope=None if said.scope is None else tuple(said.scope.split()),
        issued_at=moment_or_none(said.issued_at) or stands.at,
        expires_at=moment_or_none(said.expires_at),
        jkt=said.cnf.jkt if said.cnf and said.cnf.jkt else None,
        event_id=stands.event_id,
        source=stands.source,
        attester=stands.attester,
        grade=stands.grade,
        known_at=first.known_at,
        known_leaf=first.leaf_index,
        conflicts=tuple(s.leaf_index for s in history.statements if s.said != stands.said),
        dated=said.issued_at is not None or stands.dated,
        disputed_by=next((s.attester for _, s in history.otherwise(0) if _is_another(s.said, said)), ""),
        **end,
    )


def _is_another(said: TokenObject, stands: TokenObject) -> bool:
    """Whether two statements of a token differ in more than their clocks."""
    apart = abs((said.expires_at or 0) - (stands.expires_at or 0)) > CLOCKS
    same = msgspec.structs.replace(said, issued_at=stands.issued_at, expires_at=stands.expires_at) == stands
    return apart or not same


@lru_cache(maxsize=1024)
def _decoded(history: bytes) -> History[GrantObject]:
    return decode_grant_history(history)


@lru_cache(maxsize=4096)
def grant_of(history: bytes) -> Grant | None:
    """The grant as it stands by its stored history. Remembered: one round of detection asks for it many times."""
    return resolve_grant(_decoded(history))


@lru_cache(maxsize=4096)
def restated_of(history: bytes) -> History[GrantObject] | None:
    """The history, where the grant was stated anew with other terms: then what held depends on when is asked."""
    decoded = _decoded(history)
    return decoded if len(decoded.versions) > 1 else None


@lru_cache(maxsize=4096)
def stated_by(history: bytes) -> tuple[list[Statement[GrantObject]], list[Statement[GrantObject]]]:
    """The statements of the grant that stand, each for its time; and those that state it otherwise and may do so too."""
    decoded = _decoded(history)
    versions = decoded.versions
    told = {s.event_id: s for n in range(len(versions)) for _, s in decoded.otherwise(n)}
    return versions, [s for s in decoded.statements if s.event_id in told]


@lru_cache(maxsize=16_384)
def grant_at(history: bytes, version: int, known: int) -> Grant | None:
    """The grant as of one of its versions, with what was `known` of it beside that where the two differ."""
    decoded = _decoded(history)
    grant = resolve_grant(decoded, version)
    if grant is None or version == known:
        return grant
    before = resolve_grant(decoded, known)
    # Of what had been stated only for later than the act, it was known that it began later.
    return replace(
        grant, known_before=replace(before, granted_at=decoded.versions[known].at) if known > version else before
    )


@lru_cache(maxsize=4096)
def token_of(jti: str, history: bytes) -> Token:
    return resolve_token(jti, decode_token_history(history))


_NAMES_OF = {
    GrantObject: frozenset({"subject", "actor", "authorization_details", "intent"}),
    TokenObject: frozenset(TokenObject.__struct_fields__),
}


def _filled(said: Said, stands: Said, *, only: frozenset[str] | None = None) -> Said:
    """A statement with what it leaves out as another has it: who says less does not say otherwise."""
    names = only if only is not None else frozenset(said.__struct_fields__)
    absent = {name: getattr(stands, name) for name in names if getattr(said, name) is None}
    if isinstance(said, GrantObject) and not said.root and not said.parent:
        absent |= {"root": stands.root, "parent": stands.parent}
    return msgspec.structs.replace(said, **absent)


def moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def _tuple(values: list | None) -> tuple | None:
    return None if values is None else tuple(values)
