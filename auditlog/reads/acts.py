"""Acts: projected events with their grant paths, many a query."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import invoice_of
from auditlog.core.event import Payload
from auditlog.database.bulk import fetch_rows
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.chains import GrantBook, histories

decode_payload = msgspec.json.Decoder(Payload).decode


_ACT_COLUMNS = (
    "event_id, leaf_index, type, source, issuer, grade, occurred_at, received_at, outcome, environment, principal,"
    ' principal_claimed, actor, provider, account, target, resource, verb, operation, "grant", token, via_grant, txn,'
    " session, task, project, request_id, idempotency_key, phase, amount_minor, currency, rail, charge, within_remit,"
    " jkt, through, detail"
)


def select_acts(
    tenant: Tenant, where: str, params: Sequence, *, order: str = "leaf_index", limit: int | None = None
) -> list[Act]:
    """Acts by a condition on `projection_event e`, in leaf order, with their grant paths: two queries in all."""
    generation = generation_of(tenant)
    rows = fetch_rows(
        f"SELECT {_ACT_COLUMNS} FROM projection_event e WHERE tenant_id = %s AND generation = %s AND ({where})"
        f" ORDER BY {order} LIMIT %s",
        [tenant.pk, generation, *params, limit],
    )
    book = GrantBook(histories(tenant, {row[21] for row in rows}))
    return [
        Act(
            str(row[0]),
            *row[1:35],
            payload=decode_payload(bytes(row[36])),
            path=book.path(row[21], at=row[6], known_leaf=row[1]),
            through=str(row[35] or ""),
        )
        for row in rows
    ]


def load_acts(tenant: Tenant, event_ids: Iterable[str | UUID]) -> dict[str, Act]:
    """Projected acts by event id; ids that are unknown or not yet projected are absent."""
    wanted = [UUID(str(event_id)) for event_id in event_ids]
    return {act.event_id: act for act in select_acts(tenant, "event_id = ANY(%s)", [wanted])}


def shared_with(acts: Sequence[Act], **more: set[str]) -> tuple[list[str], list]:
    """Conditions, of which one is to hold, and their parameters: what shares a charge, a request, an idempotency key or an
    invoice with these acts, or one of the values of `more` in the column of that name.
    """
    shared = {
        "charge": {act.charge for act in acts},
        "request_id": {act.request_id for act in acts},
        "idempotency_key": {act.idempotency_key for act in acts},
        "invoice": {invoice_of(act) for act in acts},
        **more,
    }
    stated = {column: list(values - {""}) for column, values in shared.items() if values - {""}}
    return [f"({column} = ANY(%s) AND {column} <> '')" for column in stated], list(stated.values())
