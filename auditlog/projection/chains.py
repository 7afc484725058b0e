"""Who let whom act: grants and tokens, from all that was ever said of them, with the paths that they make.

Part of the fold in `project.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from django.db import connection

from auditlog.core.chain.chain import Path, path_to
from auditlog.core.chain.statement import (
    Grant,
    History,
    Revocation,
    Said,
    Statement,
    decode_grant_history,
    decode_token_history,
    encode_history,
    resolve_grant,
    resolve_token,
)
from auditlog.core.event import GRANTED, TOKEN_STATED, Actor, GrantObject, Party, TokenObject
from auditlog.database.bulk import upsert_rows
from auditlog.models import Source
from auditlog.projection.batch import Batch, Read, speaks_for

GRANT_TYPES = {
    "tenant_id": "int8", "generation": "int4", "id": "text", "parent": "text", "stated": "bool", "subject": "text",
    "actor": "text", "principal": "text", "complete": "bool", "proven": "bool", "depth": "int2",
    "granted_at": "timestamptz", "expires_at": "timestamptz", "revoked_at": "timestamptz", "leaf_index": "int8",
    "history": "bytea",
}  # fmt: skip
TOKEN_TYPES = {
    "tenant_id": "int8", "generation": "int4", "jti": "text", "parent_jti": "text", "stated": "bool", "grant": "text",
    "via_grant": "text", "subject": "text", "actor": "text", "issued_at": "timestamptz", "expires_at": "timestamptz",
    "revoked_at": "timestamptz", "leaf_index": "int8", "history": "bytea",
}  # fmt: skip
_GRANT_ENDED = frozenset({"delegation.revoked", "mandate.revoked", "consent.withdrawn"})


# --- grants ---------------------------------------------------------------------------------------------------------


def fold_grants(batch: Batch) -> set[str]:
    """Merge what the batch says of grants, recompute the paths of those and of all below. Returns their ids."""
    statements: dict[str, list[Statement[GrantObject]]] = {}
    revocations: dict[str, list[Revocation]] = {}
    for read in batch.reads:
        said, event = read.event.payload.grant, read.event
        if event.type in GRANTED and isinstance(said, GrantObject) and event.payload.outcome == "success":
            statements.setdefault(said.id, []).append(_statement(read, said))
        elif event.type in _GRANT_ENDED and said and event.payload.outcome == "success":
            grant_id = said.id if isinstance(said, GrantObject) else said
            revocations.setdefault(grant_id, []).append(_revocation(read))
    changed = statements.keys() | revocations.keys()
    if not changed:
        return set()

    histories = {grant_id: History() for grant_id in changed} | _family(batch, changed)
    for grant_id in changed:
        histories[grant_id] = histories[grant_id].with_more(statements.get(grant_id, ()), revocations.get(grant_id, ()))
    return _write_grants(batch, changed, histories)


def _write_grants(batch: Batch, changed: Collection[str], histories: Mapping[str, History[GrantObject]]) -> set[str]:
    """Recompute the paths of the changed grants and of all below. Returns their ids."""
    grants = {grant_id: grant for grant_id, history in histories.items() if (grant := resolve_grant(history))}
    below = _below(changed, {g.id: g.parent for g in grants.values() if g.parent and not g.root})
    rows = [
        _grant_row(batch, grant_id, histories[grant_id], grants.get(grant_id), path_to(grant_id, grants))
        for grant_id in sorted(below)
    ]
    upsert_rows("projection_grant", GRANT_TYPES, rows, key=("tenant_id", "generation", "id"))
    return below


def _statement(read: Read, said: Said) -> Statement[Said]:
    return Statement(
        said, read.event.occurred_at, read.leaf_index, str(read.event_id), read.source.name, read.event.issuer, read.grade,
        read.within_remit and _is_his(read.source, said.subject or said.actor), read.received_at, read.event.dated,
    )  # fmt: skip


def _is_his(source: Source, giver: Party | Actor | None) -> bool:
    """Whether the source may speak of a grant or token of this party; of one that names nobody, if it may speak of all."""
    return not source.speaks_for or (giver is not None and speaks_for(source, giver))


def _revocation(read: Read) -> Revocation:
    # Whose grant or token it is may be told later: whether the source may end it is asked when that is known.
    return Revocation(read.event.occurred_at, read.received_at, read.leaf_index, read.source.name, read.source.provider,
                      read.within_remit, read.event.issuer, sorted(read.source.speaks_for))  # fmt: skip


def _family(batch: Batch, ids: Iterable[str], parents: Sequence[str] = ()) -> dict[str, History[GrantObject]]:
    """Histories of the grants, of all below them and of all above those: two recursive queries, whatever the depth."""
    with connection.cursor() as cursor:
        cursor.execute(_FAMILY, {"tenant": batch.tenant.pk, "generation": batch.generation, "ids": list(ids),
                                 "parents": [*_new_parents(batch), *parents]})  # fmt: skip
        return {grant_id: decode_grant_history(bytes(history)) for grant_id, history in cursor.fetchall()}


def _new_parents(batch: Batch) -> list[str]:
    return [
        read.event.payload.grant.parent
        for read in batch.reads
        if isinstance(read.event.payload.grant, GrantObject) and read.event.payload.grant.parent
    ]


# UNION (not ALL) keeps a cycle from running for ever: a row seen before adds nothing.
_FAMILY = """
    WITH RECURSIVE down AS (
        SELECT unnest(%(ids)s::text[]) AS id
        UNION
        SELECT g.id FROM projection_grant g JOIN down d ON g.parent = d.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    ), up AS (
        SELECT id FROM down UNION SELECT unnest(%(parents)s::text[])
        UNION
        SELECT g.parent FROM projection_grant g JOIN up u ON g.id = u.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    )
    SELECT g.id, g.history FROM projection_grant g JOIN (SELECT DISTINCT id FROM up) u USING (id)
    WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
"""


def _below(ids: Iterable[str], parents: Mapping[str, str]) -> set[str]:
    """The ids, and all whose parents lead to one of them."""
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found, pending = set(ids), list(ids)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def _grant_row(batch: Batch, grant_id: str, history: History[GrantObject], grant: Grant | None, path: Path) -> tuple:
    revoked, leaf = history.ended.at if history.ended else None, history.last_leaf
    if grant is None:
        return (*batch.scope, grant_id, "", False, "", "", "", False, False, 0, None, None, revoked, leaf,
                encode_history(history))  # fmt: skip
    return (
        *batch.scope,
        grant_id,
        "" if grant.root else grant.parent or "",
        True,
        grant.subject.key if grant.subject else "",
        grant.actor.key if grant.actor else "",
        path.principal.key if path.principal else "",
        path.ends_at_root,
        path.ends_at_root and all(g.standing == "proven" for g in path.grants),
        len(path.grants),
        grant.granted_at,
        grant.expires_at,
        revoked,
        leaf,
        encode_history(history),
    )


# --- tokens ---------------------------------------------------------------------------------------------------------


def fold_tokens(batch: Batch) -> set[str]:
    """Merge what the batch says of tokens. Returns the ids of those and of all exchanged from them."""
    statements: dict[str, list[Statement[TokenObject]]] = {}
    revocations: dict[str, list[Revocation]] = {}
    for read in batch.reads:
        said, event = read.event.payload.token, read.event
        if event.type in TOKEN_STATED and isinstance(said, TokenObject) and event.payload.outcome == "success":
            statements.setdefault(said.jti, []).append(_statement(read, said))
        elif event.type == "token.revoked" and said and event.payload.outcome == "success":
            revocations.setdefault(said.jti if isinstance(said, TokenObject) else said, []).append(_revocation(read))
    changed = statements.keys() | revocations.keys()
    if not changed:
        return set()
    histories = _token_histories(batch, changed)
    _write_tokens(batch, {
        jti: histories.get(jti, History()).with_more(statements.get(jti, ()), revocations.get(jti, ())) for jti in changed
    })  # fmt: skip
    return set(changed)


def _token_histories(batch: Batch, ids: Iterable[str]) -> dict[str, History[TokenObject]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT jti, history FROM projection_token WHERE tenant_id = %s AND generation = %s AND jti = ANY(%s)",
            [*batch.scope, list(ids)],
        )
        return {jti: decode_token_history(bytes(history)) for jti, history in cursor.fetchall()}


def _write_tokens(batch: Batch, histories: Mapping[str, History[TokenObject]]) -> None:
    rows = []
    for jti, history in sorted(histories.items()):
        token = resolve_token(jti, history)
        rows.append(
            (
                *batch.scope,
                jti,
                token.parent or "",
                token.stated,
                token.grant or "",
                "",
                token.subject.key if token.subject else "",
                token.actors[-1].key if token.actors else "",
                token.issued_at,
                token.expires_at,
                token.revoked_at,
                history.last_leaf,
                encode_history(history),
            )
        )
    upsert_rows("projection_token", TOKEN_TYPES, rows, key=("tenant_id", "generation", "jti"))


def said_of(reads: Iterable[Read]) -> tuple[set[str], set[str]]:
    """The grants and the tokens that these events state or end."""
    grants, tokens = set(), set()
    for read in reads:
        kind, grant, token = read.event.type, read.event.payload.grant, read.event.payload.token
        if grant and kind in GRANTED | _GRANT_ENDED:
            grants.add(grant.id if isinstance(grant, GrantObject) else grant)
        if token and kind in TOKEN_STATED | {"token.revoked"}:
            tokens.add(token.jti if isinstance(token, TokenObject) else token)
    return grants, tokens


def unsay_tokens(batch: Batch, ids: Iterable[str], leaves: Collection[int]) -> tuple[set[str], set[str]]:
    """Take what these leaves said of these tokens back. Returns all whose chain may have changed, and those of which nothing
    is said any more: their rows are left, empty, until `drop_unsaid`.
    """
    histories = {jti: history.without(leaves) for jti, history in _token_histories(batch, ids).items()}
    _write_tokens(batch, histories)
    return find_grants_of_tokens(batch, set(histories)), {jti for jti, history in histories.items() if history.is_empty}


def unsay_grants(batch: Batch, ids: Iterable[str], leaves: Collection[int]) -> tuple[set[str], set[str]]:
    """The same of grants."""
    changed = set(ids)
    if not changed:
        return set(), set()
    before = _family(batch, changed)
    changed &= before.keys()
    left = {grant_id: before[grant_id].without(leaves) for grant_id in changed}
    parents = [
        statement.said.parent for history in left.values() for statement in history.statements if statement.said.parent
    ]
    histories = _family(batch, changed, parents) | left  # what stands now can lie under another parent
    return _write_grants(batch, changed, histories), {grant_id for grant_id in changed if histories[grant_id].is_empty}


def drop_unsaid(batch: Batch, *, grants: Iterable[str], tokens: Iterable[str]) -> None:
    for table, name, ids in (("grant", "id", grants), ("token", "jti", tokens)):
        with connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM projection_{table} WHERE tenant_id = %s AND generation = %s AND {name} = ANY(%s)",
                [*batch.scope, list(ids)],
            )


def find_grants_of_tokens(batch: Batch, changed: set[str]) -> set[str]:
    """Find the grant that answers for each changed token and for all exchanged from it: its own, else a parent's.

    Returns all of those: a token that arrives or ends changes what stands behind every token below it.
    """
    if not changed:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_TOKEN_FAMILY, {"tenant": batch.tenant.pk, "generation": batch.generation, "ids": list(changed)})
        family = {jti: (parent, grant, via) for jti, parent, grant, via in cursor.fetchall()}
        found: dict[str, str] = {}
        for jti in family:
            seen: set[str] = set()
            current = jti
            while current in family and current not in seen and not family[current][1]:
                seen.add(current)
                current = family[current][0]
            found[jti] = family[current][1] if current in family else ""
        moved = [(jti, via) for jti, via in found.items() if via != family[jti][2]]
        cursor.execute(
            "UPDATE projection_token t SET via_grant = m.via FROM unnest(%s::text[], %s::text[]) AS m(jti, via)"
            " WHERE t.tenant_id = %s AND t.generation = %s AND t.jti = m.jti",
            [[jti for jti, _ in moved], [via for _, via in moved], *batch.scope],
        )
    return _below(changed, {jti: parent for jti, (parent, _, _) in family.items() if parent})


_TOKEN_FAMILY = """
    WITH RECURSIVE down AS (
        SELECT unnest(%(ids)s::text[]) AS jti
        UNION
        SELECT t.jti FROM projection_token t JOIN down d ON t.parent_jti = d.jti
        WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.parent_jti <> ''
    ), up AS (
        SELECT jti FROM down
        UNION
        SELECT t.parent_jti FROM projection_token t JOIN up u ON t.jti = u.jti
        WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.parent_jti <> ''
    )
    SELECT t.jti, t.parent_jti, t."grant", t.via_grant FROM projection_token t JOIN (SELECT DISTINCT jti FROM up) u USING (jti)
    WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s
"""
