"""Reach: what a grant, a token, a party or a key led to, and what of it can be had back (its blast radius).

Descendants are followed in the database, breadth first and without recursion limits; a node is visited once, so a
circle ends. Reads here are for those who may see whole grants: not for an abuse desk.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from auditlog.core.amount import minor
from auditlog.core.event import GRANTED, TOKEN_STATED
from auditlog.core.holding import recoverable
from auditlog.core.party import split_party
from auditlog.projection.generation import generation_of
from auditlog.reads.access import WHOLE, Viewer

KINDS = ("grant", "token", "party", "key")
SESSION = "session"  # a start too, for a stop: no page asks for what is under one
SHOWN = 50

_BINDING = str(tuple(sorted(GRANTED | TOKEN_STATED)))  # as SQL writes a list of plain names too
_SEEDS = {
    "grant": ("SELECT %(key)s::text", "SELECT NULL::text WHERE false"),
    "token": ("SELECT NULL::text WHERE false", "SELECT %(key)s::text"),
    "party": (  # what it was given, and what it let others do as the one at the root, who was given nothing
        "SELECT id FROM projection_grant WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND actor = %(key)s"
        " UNION SELECT id FROM projection_grant WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND principal = %(key)s",
        "SELECT jti FROM projection_token WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND actor = %(key)s"
        " AND actor <> ''",
    ),
    # What was done in it under a grant or token is under that one, and not all else under that one is of the session.
    SESSION: ("SELECT NULL::text WHERE false", "SELECT NULL::text WHERE false"),
    "key": (  # what is bound to it; an act that was only done with it makes nothing else under its grant suspect
        'SELECT "grant" FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s'
        f" AND jkt = %(key)s AND jkt <> '' AND \"grant\" <> '' AND type IN {_BINDING}",
        "SELECT token FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s"
        f" AND jkt = %(key)s AND jkt <> '' AND token <> '' AND type IN {_BINDING}",
    ),
}
# Tokens below are those issued under a grant below, and those exchanged from a token below. Each step is a look-up for
# each node (OFFSET 0 keeps it one): of a recursion the planner believes that it may be everything, and would read all.
_CLOSURE = """
    WITH RECURSIVE grants AS (
        SELECT id FROM ({grants}) seed(id)
        UNION
        SELECT g.id FROM grants above CROSS JOIN LATERAL (
            SELECT id FROM projection_grant g WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
              AND g.parent = above.id AND g.parent <> '' OFFSET 0
        ) g
    ), seeds AS (
        SELECT jti FROM ({tokens}) seed(jti)
        UNION
        SELECT t.jti FROM grants CROSS JOIN LATERAL (
            SELECT jti FROM projection_token t WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s
              AND t.via_grant = grants.id AND t.via_grant <> '' OFFSET 0
        ) t
    ), tokens AS (
        SELECT jti FROM seeds
        UNION
        SELECT t.jti FROM tokens above CROSS JOIN LATERAL (
            SELECT jti FROM projection_token t WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s
              AND t.parent_jti = above.jti AND t.parent_jti <> '' OFFSET 0
        ) t
    )
    SELECT coalesce((SELECT array_agg(id) FROM grants), '{{}}'), coalesce((SELECT array_agg(jti) FROM tokens), '{{}}')
"""
# What is under a start is found first and given back as arrays: the planner knows how long an array is, and of a
# recursion only that it may be everything.
_BELOW = """
    WITH grants AS (SELECT unnest(%(grants)s::text[]) AS id), tokens AS (SELECT unnest(%(tokens)s::text[]) AS jti)
"""


@dataclass(frozen=True, slots=True)
class Start:
    """What a reach begins at. `kind` is one of KINDS; a party's key is `iss|sub`, a key's its thumbprint."""

    kind: str
    key: str


def leaves_under(viewer: Viewer, start: Start, *, before: int | None, size: int) -> list[int]:
    """Leaf indexes of the events under the start, newest first: by its grants and tokens, and its own."""
    return [
        leaf
        for (leaf,) in _rows(
            viewer, start, _ACTS + " ORDER BY leaf_index DESC LIMIT %(size)s", before=before, size=size
        )
    ]


def descendants(viewer: Viewer, start: Start, *, after: str, size: int) -> list[dict[str, Any]]:
    """The grants and tokens under the start, by kind and id; `cursor` is what the next page comes after."""
    rows = _rows(
        viewer,
        start,
        """SELECT * FROM (
            SELECT 'grant' AS kind, g.id, g.parent, g.subject, g.actor, g.granted_at AS at, g.expires_at, g.revoked_at, g.leaf_index
            FROM grants JOIN projection_grant g ON g.id = grants.id AND g.tenant_id = %(tenant)s AND g.generation = %(generation)s
            UNION ALL
            SELECT 'token', t.jti, t.parent_jti, t.subject, t.actor, t.issued_at, t.expires_at, t.revoked_at, t.leaf_index
            FROM tokens JOIN projection_token t ON t.jti = tokens.jti AND t.tenant_id = %(tenant)s AND t.generation = %(generation)s
        ) found WHERE (kind, id) > (%(kind)s, %(after)s) ORDER BY kind, id LIMIT %(size)s""",
        kind=after.partition(" ")[0],
        after=after.partition(" ")[2],
        size=size,
    )
    return [
        {"cursor": f"{kind} {id}", "kind": kind, "id": id, "parent": parent or None, "subject": split_party(subject),
         "actor": split_party(actor), "at": at, "expires_at": expires_at, "revoked_at": revoked_at, "leaf_index": leaf}
        for kind, id, parent, subject, actor, at, expires_at, revoked_at, leaf in rows
    ]  # fmt: skip


def children(viewer: Viewer, parent: str, *, after: tuple[datetime, str] | None, size: int) -> list[dict[str, Any]]:
    """The grants directly under one in the order in which they were granted, each with how many are under it in turn and
    how much was done under it. `after` is the time and id of the one before the first."""
    viewer.must(WHOLE)
    scope = {"tenant": viewer.tenant.pk, "generation": generation_of(viewer.tenant)}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT g.id, g.actor, g.granted_at, g.expires_at, g.revoked_at,
                   (SELECT count(*) FROM projection_grant c WHERE c.tenant_id = %(tenant)s AND c.generation = %(generation)s
                      AND c.parent = g.id AND c.parent <> '') AS below,
                   (SELECT count(*) FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s
                      AND e.via_grant = g.id AND e.via_grant <> '') AS events
            FROM projection_grant g WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
              AND g.parent = %(parent)s AND g.parent <> '' {"AND (g.granted_at, g.id) > (%(at)s, %(id)s)" if after else ""}
            ORDER BY g.granted_at, g.id LIMIT %(size)s
            """,
            {**scope, "parent": parent, "at": after and after[0], "id": after and after[1], "size": size},
        )
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def count_children(
    viewer: Viewer, parents: Collection[str], *, until: tuple[datetime, str] | None = None
) -> dict[str, int]:
    """How many grants were given directly under each; `until` a time and id: only those up to there."""
    viewer.must(WHOLE)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT g.parent, count(*) FROM projection_grant g WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s"
            f" AND g.parent = ANY(%(parents)s) AND g.parent <> '' {'AND (g.granted_at, g.id) <= (%(at)s, %(id)s)' if until else ''} GROUP BY 1",
            {"tenant": viewer.tenant.pk, "generation": generation_of(viewer.tenant), "parents": list(parents),
             "at": until and until[0], "id": until and until[1]},
        )  # fmt: skip
        return dict(cursor.fetchall())


def blast_radius(viewer: Viewer, start: Start) -> dict[str, Any]:
    """What the start touched, in numbers, and what of it may be had back. Currencies are never added up."""
    below = _Below(viewer, start)
    acts = below.rows(
        f"SELECT count(*), min(e.occurred_at), max(e.occurred_at), array_agg(DISTINCT e.provider), array_agg(DISTINCT e.actor),"
        f" array_agg(DISTINCT e.principal), count(DISTINCT e.source) FROM ({_ACTS}) found JOIN projection_event e USING (leaf_index)"
        f" WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s",
    )
    spent = below.rows(
        f"SELECT c.currency, sum(c.spent), sum(c.held) FROM ({_ACTS}) found"
        " JOIN projection_event e USING (leaf_index) JOIN projection_charge c ON c.lead = e.event_id"
        f" AND c.tenant_id = e.tenant_id AND c.generation = e.generation WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND c.has_spend GROUP BY 1 ORDER BY 1",
    )
    held = below.rows(
        f"SELECT h.kind, h.id, h.provider, h.account, h.how, h.made_at, h.ended_at, h.last_made_at, h.event_id FROM ({_ACTS}) found"
        " JOIN projection_event e USING (leaf_index) JOIN projection_holding h ON h.event_id = e.event_id"
        f" AND h.tenant_id = e.tenant_id AND h.generation = e.generation WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s ORDER BY h.made_at DESC, h.id LIMIT %(size)s",
        size=SHOWN + 1,
    )
    [(count, first_at, last_at, providers, actors, principals, sources)] = acts
    return {
        "of": {"kind": start.kind, "key": start.key},
        "grants": len(below.grants),
        "tokens": len(below.tokens),
        "acts": count,
        "first_at": first_at,
        "last_at": last_at,
        "sources": sources,
        "providers": _named(providers),
        "agents": [split_party(key) for key in _named(actors)[:SHOWN]],
        "agents_count": len(_named(actors)),
        "principals": [split_party(key) for key in _named(principals)[:SHOWN]],
        "spend": [
            {"currency": currency, "amount_minor": minor(sum_), "authorized_minor": minor(held_)}
            for currency, sum_, held_ in spent
        ],
        "holdings": [_held(*row) for row in held[:SHOWN]],
        "holdings_more": len(held) > SHOWN,
    }


def _held(kind, id, provider, account, how, made_at, ended_at, last_made_at, event_id) -> dict[str, Any]:
    is_live = ended_at is None or ended_at < last_made_at
    return {"kind": kind, "id": id, "provider": provider or None, "account": account or None, "how": how, "made_at": made_at,
            "live": is_live, "ended_at": None if is_live else ended_at, "recoverable": recoverable(kind, is_live=is_live),
            "event": str(event_id)}  # fmt: skip


def _named(values: Sequence[str] | None) -> list[str]:
    return sorted(value for value in values or () if value)


# One branch an index: an OR over them would read the whole table.
_ACTS = """
    SELECT leaf_index FROM (
        SELECT e.leaf_index FROM grants JOIN projection_event e ON e.via_grant = grants.id AND e.via_grant <> '' WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s
        UNION
        SELECT e.leaf_index FROM tokens JOIN projection_event e ON e.token = tokens.jti AND e.token <> '' WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s
        UNION
        SELECT e.leaf_index FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND %(start)s = 'party' AND e.actor = %(key)s AND e.actor <> ''
        UNION
        SELECT e.leaf_index FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND %(start)s = 'key' AND e.jkt = %(key)s AND e.jkt <> ''
        UNION
        SELECT e.leaf_index FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND %(start)s = 'session' AND e.session = %(key)s AND e.session <> ''
    ) under WHERE leaf_index < %(before)s
"""


def below(viewer: Viewer, start: Start) -> "_Below":
    """What is under a start, to ask several things of. Raises NotPermitted."""
    return _Below(viewer, start)


def _rows(viewer: Viewer, start: Start, query: str, *, before: int | None = None, **more: Any) -> list[tuple]:
    return _Below(viewer, start).rows(query, before=before, **more)


class _Below:
    """What is under a start, found once and asked many things. Raises NotPermitted for an abuse desk: what it may see
    are single events of its own provider.
    """

    def __init__(self, viewer: Viewer, start: Start) -> None:
        viewer.must(WHOLE)
        self.scope = {
            "tenant": viewer.tenant.pk,
            "generation": generation_of(viewer.tenant),
            "key": start.key,
            "start": start.kind,
        }
        grants, tokens = _SEEDS[start.kind]
        with connection.cursor() as cursor:
            cursor.execute(_CLOSURE.format(grants=grants, tokens=tokens), self.scope)
            self.grants, self.tokens = cursor.fetchone()

    def rows(self, query: str, *, before: int | None = None, **more: Any) -> list[tuple]:
        below = {"grants": self.grants, "tokens": self.tokens, "before": 2**62 if before is None else before}
        with connection.cursor() as cursor:
            cursor.execute(_BELOW + query.replace("{acts}", _ACTS), self.scope | below | more)
            return cursor.fetchall()
