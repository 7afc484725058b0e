"""Bank: what a network's dispute and a card payment say of themselves that no event has a field for: why, by when it is
to be answered, which card it was.

Read from the bytes as received. Field names: Stripe's Dispute and Charge objects (docs.stripe.com/api, 2026-11).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from auditlog.models import Event, Leaf, Payload, Tenant
from auditlog.projection.generation import generation_of

FORMAT = "stripe"
LAST_TIME = 32_503_680_000  # the year 3000: later is no date
MOST_READ = 500  # events whose bytes are read for one case


@dataclass(frozen=True, slots=True)
class BankDispute:
    """`reason` in the network's word, as `fraudulent`. `due`: when evidence has to be in; None where nobody says."""

    event_id: str
    id: str
    reason: str
    due: datetime | None
    charge: str = ""
    network_reason: str = ""
    status: str = ""
    opened_at: datetime | None = None
    eligible: tuple[str, ...] = ()
    submissions: int = 0
    leaf_index: int = -1


@dataclass(frozen=True, slots=True)
class BankCharge:
    """A card payment. `card`: Stripe's fingerprint of the card, equal for the same card."""

    event_id: str
    charge: str
    card: str = ""
    network: str = ""
    name: str = ""
    email: str = ""
    address: str = ""
    refunded: bool = False


class _Details(Struct):
    due_by: int | None = None
    submission_count: int | None = None


class _Card(Struct):
    fingerprint: str | None = None
    brand: str | None = None
    network_reason_code: str | None = None


class _Method(Struct):
    card: _Card | None = None


class _Address(Struct):
    line1: str | None = None
    line2: str | None = None
    postal_code: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None


class _Billing(Struct):
    name: str | None = None
    email: str | None = None
    address: _Address | None = None


class _Dispute(Struct):
    id: str = ""
    reason: str | None = None
    status: str | None = None
    charge: str | dict | None = None
    network_reason_code: str | None = None
    created: int | None = None
    enhanced_eligibility_types: list[str] | None = None
    evidence_details: _Details | None = None
    payment_method_details: _Method | None = None


class _Charge(Struct):
    id: str = ""
    object: str = ""
    amount_refunded: int | None = None
    payment_method_details: _Method | None = None
    billing_details: _Billing | None = None
    receipt_email: str | None = None


T = TypeVar("T")


class _Data(Struct):
    object: msgspec.Raw = msgspec.Raw(b"null")


class _Told(Struct):
    data: _Data | None = None


_read = msgspec.json.Decoder(_Told).decode


def bank_disputes(tenant: Tenant, event_ids: Sequence[str | UUID]) -> list[BankDispute]:
    """Those among the events that are a network's dispute."""
    return _disputes(tenant, Event.objects.filter(event_id__in=[str(one) for one in event_ids]))


def disputes_of_charges(tenant: Tenant, rail: str, charges: Iterable[str]) -> list[BankDispute]:
    """Of each dispute of these charges what was told of it last, the newest dispute first."""
    wanted = sorted(set(charges) - {""})
    if not wanted:
        return []
    last: dict[str, BankDispute] = {}
    for told in _disputes(tenant, Event.objects.filter(rail=rail, charge__in=wanted)):
        last[told.id] = told
    return sorted(last.values(), key=lambda one: one.leaf_index, reverse=True)


def bank_charges(tenant: Tenant, event_ids: Iterable[str]) -> dict[str, BankCharge]:
    """By event, the card payments that Stripe told of."""
    found = {}
    wanted = list(event_ids)
    events = Event.objects.filter(event_id__in=wanted[:MOST_READ])
    for event_id, _, raw in _bytes(tenant, events):
        said = _decoded(raw, _Charge)
        if said is None or said.object != "charge":
            continue
        card = said.payment_method_details.card if said.payment_method_details else None
        billed = said.billing_details or _Billing()
        found[event_id] = BankCharge(
            event_id,
            said.id[:100],
            (card.fingerprint or "" if card else "")[:100],
            (card.brand or "" if card else "")[:40],
            (billed.name or "")[:300],
            (billed.email or said.receipt_email or "")[:300],
            _written(billed.address),
            (said.amount_refunded or 0) > 0,
        )
    return found


def _disputes(tenant: Tenant, events) -> list[BankDispute]:
    found = []
    for event_id, leaf, raw in _bytes(tenant, events.filter(type__startswith="dispute.")):
        told = _decoded(raw, _Dispute)
        if told is None:
            continue
        details = told.evidence_details or _Details()
        card = told.payment_method_details.card if told.payment_method_details else None
        code = told.network_reason_code or (card.network_reason_code if card else None) or ""
        charge = told.charge if isinstance(told.charge, str) else str((told.charge or {}).get("id") or "")
        found.append(
            BankDispute(
                event_id,
                told.id[:100],
                (told.reason or "")[:100],
                _moment(details.due_by),
                charge[:100],
                code[:40],
                (told.status or "")[:40],
                _moment(told.created),
                tuple(one[:60] for one in (told.enhanced_eligibility_types or ())[:10]),
                max(details.submission_count or 0, 0),
                leaf,
            )
        )
    return found


def _bytes(tenant: Tenant, events) -> list[tuple[str, int, bytes]]:
    """(event, leaf, bytes as received) of those that Stripe told of, within its remit, in the order of the log."""
    rows = list(
        events.filter(tenant=tenant, generation=generation_of(tenant), within_remit=True)
        .order_by("leaf_index")
        .values_list("event_id", "leaf_index")[:MOST_READ]
    )
    leaves = [leaf for _, leaf in rows]
    ours = set(
        Leaf.objects.filter(tenant=tenant, leaf_index__in=leaves, source__format=FORMAT).values_list(
            "leaf_index", flat=True
        )
    )
    held = {
        leaf: bytes(raw)
        for leaf, raw in Payload.objects.filter(tenant=tenant, leaf_index__in=list(ours)).values_list(
            "leaf_index", "raw"
        )
        if raw is not None
    }
    return [(str(event_id), leaf, held[leaf]) for event_id, leaf in rows if leaf in held]


def _decoded(raw: bytes, kind: type[T]) -> T | None:
    try:
        said = _read(raw)
        return msgspec.json.decode(said.data.object, type=kind) if said.data else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds and 0 < seconds < LAST_TIME else None


def _written(address: _Address | None) -> str:
    if address is None:
        return ""
    parts = (address.line1, address.line2, address.postal_code, address.city, address.state, address.country)
    return ", ".join(part[:200] for part in parts if part)
