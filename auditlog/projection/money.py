"""The books, recomputed from all statements around those that came (core.books).

Part of the fold in `project.py`. What only keys hold together is recomputed by itself. A principal whose lines may bear
on one another without a key (an invoice over what was metered, a payment that is perhaps an act's) is recomputed whole.
"""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from django.db import connection

from auditlog.core.money.books import Line, books
from auditlog.database.bulk import copy_rows, fetch_rows
from auditlog.projection.batch import Batch
from auditlog.projection.payments import Payments, payments_around, rows_where

CHARGE_TYPES = {
    "tenant_id": "int8", "generation": "int4", "rail": "text", "charge": "text", "book": "varchar", "currency": "varchar", "lead": "uuid",
    "leaf_index": "int8", "at": "timestamptz", "principal": "text", "actor": "text", "provider": "text", "payee": "text", "account": "text",
    "grant": "text", "session": "text", "task": "text", "project": "text", "authority": "text", "spent": "numeric", "at_most": "numeric",
    "returned": "numeric", "returned_at": "timestamptz[]", "returned_parts": "numeric[]", "held": "numeric", "held_from": "timestamptz",
    "held_until": "timestamptz", "has_spend": "bool", "role": "varchar", "source": "varchar", "is_joined": "bool", "events": "uuid[]",
}  # fmt: skip


def fold_charges(batch: Batch) -> None:
    """Recompute every line that the batch, or a chain it changed, has touched: from all statements of it."""
    moved = [key for kind, key in batch.dirty if kind == "grant"]
    given = [*batch.money, *batch.attributed]
    if moved:
        given += rows_where(batch.scope, "e.via_grant = ANY(%(grants)s) AND e.via_grant <> ''", {"grants": moved})
    if given:
        refold(batch, given)


def refold(batch: Batch, given: Sequence[tuple], *, also: Collection[str] = ()) -> None:
    """Write every line anew that one of these statements may bear on, and the books of the principals in `also` where
    their lines bear on one another.
    """
    told = payments_around(batch.scope, given)
    lines = books(told.facts.values())
    looked: set[str] = set()
    while whole := _to_be_seen_whole(batch.scope, told.principals.union(also), lines) - looked:
        looked |= whole
        more = rows_where(
            batch.scope, "e.principal = ANY(%(principals)s) AND e.principal <> ''", {"principals": list(looked)}
        )
        told = payments_around(batch.scope, [*given, *more])
        lines = books(told.facts.values())
    _write(batch, told, lines, looked)


def _to_be_seen_whole(scope: tuple[int, int], principals: Collection[str], lines: Iterable[Line]) -> set[str]:
    """Principals with lines that may bear on one another: bills and top-ups with what was metered, payments without an act
    with acts without a payment, meters of two sources. As it was before the batch, or is now.
    """
    if not principals:
        return set()
    roles: dict[str, set[str]] = {}
    meters: dict[str, set[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_ROLES, {"tenant": scope[0], "generation": scope[1], "principals": list(principals)})
        for principal, role, first, last in cursor.fetchall():
            if first is not None:
                roles.setdefault(principal, set()).add(role)
                if role == "meter":
                    meters.setdefault(principal, set()).update((first, last))
    for line in lines:
        if line.principal in principals and line.role:
            roles.setdefault(line.principal, set()).add(line.role)
            if line.role == "meter":
                meters.setdefault(line.principal, set()).add(line.source)
    return {
        principal for principal, said in roles.items()
        if {"bill", "pool"} & said or ("loose" in said and {"open", "meter"} & said) or len(meters.get(principal, ())) > 1
    }  # fmt: skip


# A step to the index for each principal and role, whatever there is of it.
_ROLES = """
    SELECT p.principal, r.role, least.source, greatest.source
    FROM unnest(%(principals)s::text[]) AS p(principal) CROSS JOIN unnest(ARRAY['open', 'meter', 'loose', 'bill', 'pool']) AS r(role)
    LEFT JOIN LATERAL (SELECT c.source FROM projection_charge c WHERE c.tenant_id = %(tenant)s AND c.generation = %(generation)s
        AND c.principal = p.principal AND c.role = r.role AND c.role <> '' ORDER BY c.source LIMIT 1) least ON true
    LEFT JOIN LATERAL (SELECT c.source FROM projection_charge c WHERE c.tenant_id = %(tenant)s AND c.generation = %(generation)s
        AND c.principal = p.principal AND c.role = r.role AND c.role <> '' ORDER BY c.source DESC LIMIT 1) greatest ON true
"""


def _write(batch: Batch, told: Payments, lines: Iterable[Line], looked: Collection[str]) -> None:
    seen = {event_id for event_id, fact in told.facts.items() if fact.charge_key in told.whole}
    before = drop_lines(
        batch, [UUID(event_id) for event_id in seen if told.leaves[event_id] < batch.first_leaf], looked
    )
    rows = []
    stated = {fact.principal for fact in told.facts.values() if told.leaves[fact.event_id] >= batch.first_leaf}
    for line in lines:
        if line.lead not in seen or not seen.issuperset(line.events):
            continue  # seen beside others, and not touched
        rows.append((*batch.scope, *row_of(line, told.leaves[line.lead])))
        if line.principal and line.principal not in stated:
            batch.dirty.add(("principal", line.principal))  # its books changed by what others told
    copy_rows("projection_charge", CHARGE_TYPES, rows)
    _look_again_at(batch, told, before, rows)


def _look_again_at(batch: Batch, told: Payments, before: Iterable[tuple], after: Iterable[tuple]) -> None:
    """Older acts of lines that are no longer what they were: what was found of them rests on these."""
    was, is_now = ({row[:6]: row for row in rows} for rows in (before, after))
    changed = {event_id for key in was.keys() | is_now.keys() if was.get(key) != is_now.get(key)
               for row in (was.get(key), is_now.get(key)) if row for event_id in row[-1]}  # fmt: skip
    unknown = [event_id for event_id in changed if str(event_id) not in told.leaves]
    leaves = {told.leaves[str(event_id)] for event_id in changed if str(event_id) in told.leaves}
    if unknown:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT leaf_index FROM projection_event WHERE tenant_id = %s AND generation = %s AND event_id = ANY(%s)",
                [*batch.scope, unknown],
            )
            leaves |= {leaf for (leaf,) in cursor.fetchall()}
    batch.dirty |= {("event", str(leaf)) for leaf in leaves if leaf < batch.first_leaf}


def row_of(line: Line, leaf_index: int) -> tuple:
    return (
        line.rail, line.unit, line.book, line.currency, UUID(line.lead), leaf_index, line.at, line.principal, line.actor, line.provider,
        line.payee, line.account, line.grant, line.session, line.task, line.project, line.authority, line.spent, line.at_most, line.returned,
        [at for at, _ in line.returns], [part for _, part in line.returns], line.held, line.held_from, line.held_until, line.has_spend,
        line.role, line.source, len(line.events) > 1, [UUID(event_id) for event_id in line.events],
    )  # fmt: skip


def drop_lines(batch: Batch, events: list[UUID], principals: Collection[str] = ()) -> list[tuple]:
    """Lines that hold any of these statements, or belong to these principals: they are written anew. Returns what they were."""
    params = {"tenant": batch.scope[0], "generation": batch.scope[1], "events": events, "principals": list(principals)}
    columns = ", ".join(f'"{name}"' for name in CHARGE_TYPES)
    dropped: list[tuple] = []
    for is_asked, condition in (
        (events, "lead = ANY(%(events)s)"),
        (events, "is_joined AND events && %(events)s"),
        (principals, "principal = ANY(%(principals)s)"),
    ):
        if is_asked:
            dropped += fetch_rows(
                "DELETE FROM projection_charge WHERE tenant_id = %(tenant)s AND generation = %(generation)s"
                f" AND {condition} RETURNING {columns}",
                params,
            )
    return dropped
