"""Grants, tokens, and the chains that they make."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec
from django.db import connection

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import NO_PATH, NO_TOKENS, Chain, Path, build_chain, path_to, tokens_to, with_kinds
from auditlog.core.chain.statement import Grant, Token, grant_at, grant_of, restated_of, token_of
from auditlog.core.event import Party, act_chain
from auditlog.core.party import split_party
from auditlog.database.bulk import named_rows
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.parties import kinds_of


def load_grants(tenant: Tenant, ids: Collection[str]) -> dict[str, Grant]:
    """The grants and all above them, as they stand: one recursive query."""
    resolved = ((grant_id, grant_of(history)) for grant_id, history in histories(tenant, ids).items())
    return {grant_id: grant for grant_id, grant in resolved if grant is not None}


def histories(tenant: Tenant, ids: Collection[str]) -> dict[str, bytes]:
    """All that was said of the grants and of all above them: one recursive query."""
    wanted = [grant_id for grant_id in ids if grant_id]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_ABOVE, {"tenant": tenant.pk, "generation": generation_of(tenant), "ids": wanted})
        return {grant_id: bytes(history) for grant_id, history in cursor.fetchall()}


class GrantBook:
    """Paths to grants as of an act's time. Grants that were never stated anew, nearly all, have one path for all acts."""

    def __init__(self, histories: Mapping[str, bytes]) -> None:
        self.histories = histories
        self.standing = {
            grant_id: grant for grant_id, history in histories.items() if (grant := grant_of(history)) is not None
        }
        self.restated = {
            grant_id: history for grant_id, raw in histories.items() if (history := restated_of(raw)) is not None
        }
        self.paths: dict[str, Path] = {}

    def path(self, grant_id: str, *, at: datetime, known_leaf: int) -> Path:
        if not grant_id:
            return NO_PATH
        if grant_id not in self.paths:
            self.paths[grant_id] = path_to(grant_id, self.standing)
        path = self.paths[grant_id]
        if not self.restated or not any(grant.id in self.restated for grant in path.grants):
            return path
        return path_to(grant_id, _AsOf(self, at, known_leaf))


class _AsOf(Mapping[str, Grant]):
    """The grants of a book as they held at one time, as far as `path_to` asks for them."""

    def __init__(self, book: GrantBook, at: datetime, known_leaf: int) -> None:
        self.book, self.at, self.known_leaf = book, at, known_leaf

    def __getitem__(self, grant_id: str) -> Grant:
        history = self.book.restated.get(grant_id)
        if history is None:
            return self.book.standing[grant_id]
        grant = grant_at(self.book.histories[grant_id], *history.as_of(self.at, self.known_leaf))
        if grant is None:
            raise KeyError(grant_id)
        return grant

    def __iter__(self) -> Iterator[str]:
        return iter(self.book.standing)

    def __len__(self) -> int:
        return len(self.book.standing)


_ABOVE = """
    WITH RECURSIVE up AS (
        SELECT unnest(%(ids)s::text[]) AS id
        UNION
        SELECT g.parent FROM projection_grant g JOIN up u ON g.id = u.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    )
    SELECT g.id, g.history FROM projection_grant g JOIN up USING (id)
    WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
"""


def paths_to(tenant: Tenant, ids: Collection[str]) -> dict[str, Path]:
    """By grant id: the path from the root to it, as far as the record knows."""
    grants = load_grants(tenant, ids)
    return {grant_id: path_to(grant_id, grants) for grant_id in ids if grant_id}


def paths_held_by(tenant: Tenant, parties: Collection[str]) -> dict[str, list[Path]]:
    """By party: the paths to every grant that lets it act, in the order of their ids."""
    if not parties:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT actor, id FROM projection_grant WHERE tenant_id = %s AND generation = %s AND actor = ANY(%s) ORDER BY id",
            [tenant.pk, generation_of(tenant), list(parties)],
        )
        rows = cursor.fetchall()
    paths = paths_to(tenant, {grant_id for _, grant_id in rows})
    held: dict[str, list[Path]] = {}
    for actor, grant_id in rows:
        held.setdefault(actor, []).append(paths[grant_id])
    return held


def lineage_of(tenant: Tenant, parties: Collection[str]) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """By party: everybody who stands above it on any path that leads to it, and the issuers that state those paths."""
    held = paths_held_by(tenant, parties).items()
    return (
        {actor: frozenset(key for path in paths for key in path.parties[:-1]) - {actor} for actor, paths in held},
        {
            actor: frozenset(g.attester for path in paths for g in path.grants if g.standing == "proven")
            for actor, paths in held
        },
    )


def load_tokens(tenant: Tenant, jtis: Collection[str]) -> dict[str, Token]:
    """The tokens and all that they were exchanged from, as they stand: one recursive query."""
    wanted = [jti for jti in jtis if jti]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_EXCHANGED_FROM, {"tenant": tenant.pk, "generation": generation_of(tenant), "jtis": wanted})
        return {jti: token_of(jti, bytes(history)) for jti, history in cursor.fetchall()}


_EXCHANGED_FROM = """
    WITH RECURSIVE up AS (
        SELECT unnest(%(jtis)s::text[]) AS jti
        UNION
        SELECT t.parent_jti FROM projection_token t JOIN up u ON t.jti = u.jti
        WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.parent_jti <> ''
    )
    SELECT t.jti, t.history FROM projection_token t JOIN up USING (jti)
    WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s
"""


def chain_of(tenant: Tenant, act: Act) -> Chain:
    """The chain behind an act: its grant path, its tokens, and the actors it names, kinds as the record knows them."""
    return chains_of(tenant, [act])[act.event_id]


def chains_of(tenant: Tenant, acts: Sequence[Act]) -> dict[str, Chain]:
    """By event id: the chains behind acts, in three queries."""
    tokens = load_tokens(tenant, {act.token for act in acts})
    chains = {act.event_id: _chain(act, tokens) for act in acts}
    known = kinds_of(tenant, generation_of(tenant), {hop.party.key for chain in chains.values() for hop in chain.hops})
    return {event_id: with_kinds(chain, known) for event_id, chain in chains.items()}


def _chain(act: Act, tokens: Mapping[str, Token]) -> Chain:
    actor = act.payload.actor
    claimed = act.principal if act.principal_claimed or not act.path.grants else ""
    return build_chain(
        path=act.path,
        tokens=tokens_to(act.token, tokens) if act.token else NO_TOKENS,
        acting=act_chain(actor) if actor else (),
        claimed_principal=Party.of(claimed) if claimed else None,
        grade=act.grade,
        mode=act.payload.mode,
    )


def grants_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    """Grants with what stands of them; the whole statement lies in the event that `event` names."""
    rows = named_rows(
        "SELECT id AS cursor, id, nullif(parent, '') AS parent, stated, subject, actor, principal, complete, proven, depth,"
        " granted_at, expires_at, revoked_at, leaf_index, history FROM projection_grant"
        " WHERE tenant_id = %s AND generation = %s AND id > %s ORDER BY id LIMIT %s",
        [tenant.pk, generation_of(tenant), after, size],
    )
    for row in rows:
        grant = grant_of(bytes(row.pop("history")))
        for name in ("subject", "actor", "principal"):
            row[name] = split_party(row[name])
        row |= {
            "authorization_details": msgspec.to_builtins(grant.details) if grant else None,
            "limits": msgspec.to_builtins(grant.limits) if grant else None,
            "gates": list(grant.gates) if grant and grant.gates else [],
            "standing": grant.standing if grant else "unknown",
            "attester": grant.attester if grant else None,
            "event": grant.event_id if grant else None,
            "conflicts": list(grant.conflicts) if grant else [],
        }
    return rows


def tokens_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    rows = named_rows(
        "SELECT jti AS cursor, jti, nullif(parent_jti, '') AS parent_jti, stated, nullif(via_grant, '') AS \"grant\","
        " subject, actor, issued_at, expires_at, revoked_at, leaf_index FROM projection_token"
        " WHERE tenant_id = %s AND generation = %s AND jti > %s ORDER BY jti LIMIT %s",
        [tenant.pk, generation_of(tenant), after, size],
    )
    for row in rows:
        row |= {"subject": split_party(row["subject"]), "actor": split_party(row["actor"])}
    return rows
