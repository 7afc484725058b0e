"""Bank: what a network's dispute says of itself that no event has a field for: why, and by when it is to be answered.

Read from the bytes as received. Field names: Stripe's Dispute object (docs.stripe.com/api/disputes/object, 2026-11).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from msgspec import Struct

from auditlog.models import Event, Leaf, Payload, Tenant
from auditlog.projection.generation import generation_of

FORMAT = "stripe"


@dataclass(frozen=True, slots=True)
class BankDispute:
    """`reason` in the network's word, as `fraudulent`. `due`: when evidence has to be in; None where nobody says."""

    event_id: str
    id: str
    reason: str
    due: datetime | None


class _Details(Struct):
    due_by: int | None = None


class _Object(Struct):
    id: str = ""
    reason: str = ""
    evidence_details: _Details | None = None


class _Data(Struct):
    object: _Object | None = None


class _Told(Struct):
    data: _Data | None = None


_read = msgspec.json.Decoder(_Told).decode


def bank_disputes(tenant: Tenant, event_ids: Sequence[str | UUID]) -> list[BankDispute]:
    """Those among the events that are a network's dispute."""
    events = Event.objects.filter(
        tenant=tenant,
        generation=generation_of(tenant),
        event_id__in=[str(one) for one in event_ids],
        type__startswith="dispute.",
        within_remit=True,
    ).values_list("event_id", "leaf_index")
    found = []
    for event_id, leaf in events:
        source = Leaf.objects.filter(tenant=tenant, leaf_index=leaf).values_list("source__format", flat=True).first()
        payload = Payload.objects.filter(tenant=tenant, leaf_index=leaf).first()
        if source != FORMAT or payload is None or payload.raw is None:
            continue
        try:
            said = _read(bytes(payload.raw))
        except msgspec.MsgspecError:
            continue
        told = said.data.object if said.data else None
        if told is not None:
            until = told.evidence_details.due_by if told.evidence_details else None
            due = datetime.fromtimestamp(until, UTC) if until and 0 < until < 32_503_680_000 else None
            found.append(BankDispute(str(event_id), told.id[:100], told.reason[:100], due))
    return found
