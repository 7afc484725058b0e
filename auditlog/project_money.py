"""Payments, each counted once, recomputed from all statements of it that the record holds.

Part of the fold in `project.py`.
"""

from uuid import UUID

from django.db import connection

from auditlog.batch import Batch
from auditlog.bulk import copy_rows, upsert_rows
from auditlog.core.money import charges, counted_together
from auditlog.payments import payments_around, rows_where

CHARGE_TYPES = {
    "tenant_id": "int8", "generation": "int4", "rail": "text", "charge": "text", "currency": "varchar", "lead": "uuid",
    "leaf_index": "int8", "at": "timestamptz", "principal": "text", "actor": "text", "provider": "text",
    "grant": "text", "session": "text", "task": "text", "project": "text", "taken_minor": "int8",
    "returned_minor": "int8", "authorized_minor": "int8", "has_spend": "bool", "joined": "uuid[]",
}  # fmt: skip


def fold_charges(batch: Batch) -> None:
    """Recompute every payment that the batch, or a chain it changed, has touched: from all statements of it."""
    moved = [key for kind, key in batch.dirty if kind == "grant"]
    older = rows_where(batch.scope, "e.via_grant = ANY(%(grants)s) AND e.via_grant <> ''", {"grants": moved}) if moved else []
    if not (batch.money or older):
        return
    told = payments_around(batch.scope, [*batch.money, *older], is_alone=_is_alone(batch))
    members: dict[tuple[str, str], list[tuple]] = {}
    together = counted_together(told.facts.values())
    for fact in told.facts.values():
        members.setdefault(together[fact.charge_key], []).append(told.rows[fact.event_id])
    first: list[tuple] = []  # of which nothing was said before: no row stands in their way
    again: list[tuple] = []
    first_leaf = batch.first_leaf
    for charge in charges(told.facts.values(), together):
        if (charge.rail, charge.charge) not in told.whole:
            continue  # seen beside others, and not touched
        lead = told.rows[charge.lead]
        others = members[charge.rail, charge.charge]
        if len(others) == 1:
            stated, oldest = lead[12:18], lead[1]
        else:
            others.sort(key=lambda row: (row[11] == "", row[3], str(row[0])))
            stated = [next((value for row in (lead, *others) if (value := row[column])), "") for column in range(12, 18)]
            oldest = min(row[1] for row in others)
        principal, actor, provider, session, task, project = stated
        (first if oldest >= first_leaf else again).append(
            (*batch.scope, charge.rail, charge.charge, charge.currency, lead[0], lead[1], charge.at, principal, actor,
             provider, lead[11], session, task, project, charge.taken_minor, charge.returned_minor,
             charge.authorized_minor, charge.has_spend, [UUID(event_id) for event_id in charge.joined])
        )  # fmt: skip
    _drop_charges(batch, told.beside())
    copy_rows("projection_charge", CHARGE_TYPES, first)
    upsert_rows(
        "projection_charge", CHARGE_TYPES, again, key=("tenant_id", "generation", "rail", "charge", "currency")
    )


def _is_alone(batch: Batch) -> bool:
    """Whether only one source was ever heard: there is nobody whose word on the same money could be another's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT source FROM projection_source WHERE tenant_id = %s AND generation = %s LIMIT 2", batch.scope)
        heard = {source for (source,) in cursor.fetchall()}
    return len(heard | {read.source.name for read in batch.reads}) <= 1


def _drop_charges(batch: Batch, units: list[tuple[str, str]]) -> None:
    """What may have been counted with another, or may be from now on: written anew, in whatever currencies."""
    if units:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM projection_charge c USING unnest(%s::text[], %s::text[]) AS u(rail, charge)"
                " WHERE c.tenant_id = %s AND c.generation = %s AND c.rail = u.rail AND c.charge = u.charge",
                [[rail for rail, _ in units], [charge for _, charge in units], *batch.scope],
            )
