"""Hand in: evidence of the sides. Staged, then submitted once; what comes after the seal is late, and is let in by a
person who decides, with a reason. Every hand that a thing went through is a leaf of the log.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import transaction

from auditlog.core.errors import ConfigurationError, DeliveryTooLarge, NotFound, NotPermitted, NotPossible
from auditlog.core.person import may_be_one
from auditlog.models import Payload, Role
from auditlog.reads.access import Viewer, person_of
from auditlog.reads.acts import load_acts
from auditlog.reads.leaves import integrity_of
from auditlog.sources.scan import scan
from disputes.case.locked import locked
from disputes.case.record_step import Hand, hand_of, note_of_case
from disputes.core.status import OPEN
from disputes.models import Case, EvidenceItem

MOST_BYTES = 2 * 1024 * 1024
MOST_ITEMS = 200  # of one case
MOST_OF_ALL = 32 * 1024 * 1024


def stage(case: Case, viewer: Viewer, *, body: bytes | None = None, **said: Any) -> EvidenceItem:
    """Put a file or an event on record beside a case. It counts once it is submitted.

    A file is scanned first, where there is a scanner. Raises NotPermitted, NotFound, NotPossible, ConfigurationError,
    NotScanned or DeliveryTooLarge, with the reason.
    """
    if body is not None and len(body) <= MOST_BYTES:
        scan(body)  # in no transaction: it may take a while
    return _stage(case, viewer, body=body, **said)


@transaction.atomic
def _stage(
    case: Case,
    viewer: Viewer,
    *,
    side: str,
    title: str,
    now: datetime,
    body: bytes | None = None,
    name: str = "",
    media_type: str = "",
    event_id: str | UUID | None = None,
) -> EvidenceItem:
    held = _open(case, viewer)
    if side not in EvidenceItem.Side.values:
        raise ConfigurationError(f"no side {side[:40]!r}; there are: {', '.join(EvidenceItem.Side.values)}")
    if viewer.role == Role.ABUSE and side not in (EvidenceItem.Side.PROVIDER, EvidenceItem.Side.CLAIMANT):
        raise NotPermitted("a provider's desk hands in for the provider, or for whoever complains to it")
    if not title.strip():
        raise ConfigurationError("evidence has a title")
    if (body is None) == (event_id is None):
        raise ConfigurationError("expected a file or an event, one of the two")
    valid: bool | None = None
    if event_id is not None:
        digest, valid, size = _of_event(held, viewer, event_id)
    else:
        digest, size = _of_file(held, body or b"")
    item = Handed(side, title, body, name, media_type, event_id, digest, size, valid)
    return _kept(held, hand_of(viewer), item, now=now)


@dataclass(frozen=True, slots=True)
class Handed:
    """What is handed in, once it was looked at."""

    side: str
    title: str
    body: bytes | None
    name: str
    media_type: str
    event_id: str | UUID | None
    sha256: str
    size: int
    upstream_valid: bool | None


def _kept(case: Case, hand: Hand, item: Handed, *, now: datetime) -> EvidenceItem:
    number, title = case.evidence.count() + 1, item.title.strip()[:200]
    name = item.name.replace("/", "_").replace("\\", "_")[:200]
    said = {
        "change": "case.evidence_staged",
        "number": number,
        "sha256": item.sha256,
        "side": item.side,
        "title": title,
        "event_id": str(item.event_id) if item.event_id else None,
        "name": name or None,
        "media_type": item.media_type[:120] or None,
        "upstream_valid": item.upstream_valid,
        "role": hand.role,
    }
    leaf = note_of_case(case, hand.name, said, now=now)
    return EvidenceItem.objects.create(
        tenant=case.tenant,
        case=case,
        number=number,
        side=item.side,
        title=title,
        event_id=item.event_id,
        name=name,
        media_type=item.media_type[:120],
        body=item.body,
        size=item.size,
        sha256=item.sha256,
        person=hand.person,
        actor=hand.name,
        role=hand.role,
        staged_at=now,
        staged_leaf=leaf,
        upstream_valid=item.upstream_valid,
    )


@transaction.atomic
def hand_in_from_outside(
    case: Case, hand: Hand, *, side: str, title: str, body: bytes, name: str, media_type: str, now: datetime
) -> EvidenceItem:
    """A file of a party outside: staged and submitted at once. The caller has looked at who it is, and scanned it."""
    held = Case.objects.select_for_update().select_related("tenant").get(tenant=case.tenant, pk=case.pk)
    if held.state not in OPEN:
        raise NotPossible(f"the case is {held.state}: nothing more is handed in")
    if not title.strip():
        raise ConfigurationError("evidence has a title")
    digest, size = _of_file(held, body)
    item = _kept(held, hand, Handed(side, title, body, name, media_type, None, digest, size, None), now=now)
    return _submitted(held, item, hand.name, now=now)


def _of_event(case: Case, viewer: Viewer, event_id: str | UUID) -> tuple[str, bool | None, int]:
    act = load_acts(case.tenant, [event_id]).get(str(event_id))
    if act is None or (viewer.role == Role.ABUSE and act.provider != viewer.provider):
        raise NotFound(f"no such event, or not projected yet: {event_id}")
    check = integrity_of(case.tenant, [act]).get(act.event_id)
    payload = Payload.objects.filter(tenant=case.tenant, leaf_index=act.leaf_index).first()
    raw = bytes(payload.raw) if payload and payload.raw is not None else b""
    valid = check.commitment_ok and check.signature_ok is not False if check else None
    return sha256(raw).hexdigest(), valid, len(raw)


def _of_file(case: Case, body: bytes) -> tuple[str, int]:
    if not body:
        raise ConfigurationError("the file is empty")
    if len(body) > MOST_BYTES:
        raise DeliveryTooLarge(f"a file has at most {MOST_BYTES:,} bytes, found {len(body):,}")
    items = list(case.evidence.values_list("size", flat=True))
    if len(items) >= MOST_ITEMS or sum(items) + len(body) > MOST_OF_ALL:
        raise NotPossible(f"a case takes at most {MOST_ITEMS} items and {MOST_OF_ALL:,} bytes of evidence")
    return sha256(body).hexdigest(), len(body)


@transaction.atomic
def submit(case: Case, number: int, viewer: Viewer, *, now: datetime) -> EvidenceItem:
    """Submit what was staged, once. After the seal it is late, and counts only where somebody lets it in."""
    held = _open(case, viewer)
    item = _item(held, number)
    if item.submitted_at is not None:
        raise NotPossible(f"item {number} was submitted already, {item.submitted_at:%Y-%m-%d %H:%M} UTC")
    if viewer.role == Role.ABUSE and item.person != person_of(viewer):
        raise NotPermitted("a provider's desk submits what it handed in itself")
    return _submitted(held, item, viewer.name, now=now)


def _submitted(held: Case, item: EvidenceItem, who: str, *, now: datetime) -> EvidenceItem:
    item.is_late = held.sealed_at is not None
    said = {"change": "case.evidence_submitted", "number": item.number, "sha256": item.sha256, "late": item.is_late}
    item.submitted_at, item.submitted_leaf = now, note_of_case(held, who, said, now=now)
    item.eligible = None if item.is_late else True
    item.save(update_fields=["submitted_at", "submitted_leaf", "is_late", "eligible"])
    return item


@transaction.atomic
def let_in(case: Case, number: int, viewer: Viewer, *, eligible: bool, reason: str, now: datetime) -> EvidenceItem:
    """Say whether an item counts, with the reason: what is late, or does not belong here. Takes the right to decide."""
    held = _open(case, viewer)
    viewer.must("decide")
    item = _item(held, number)
    if item.submitted_at is None:
        raise NotPossible(f"item {number} was not submitted yet")
    if not reason.strip():
        raise NotPossible("whether evidence counts is said with a reason")
    if may_be_one(item.person, person_of(viewer)):
        raise NotPermitted("who handed it in may not say that it counts: another person must")
    said = {
        "change": "case.evidence_let_in" if eligible else "case.evidence_left_out",
        "number": number,
        "why": reason.strip(),
    }
    note_of_case(held, viewer.name, said, now=now)
    item.eligible, item.eligible_why, item.eligible_by = eligible, reason.strip(), viewer.name
    item.save(update_fields=["eligible", "eligible_why", "eligible_by"])
    return item


def _item(case: Case, number: int) -> EvidenceItem:
    found = case.evidence.filter(number=number).first()
    if found is None:
        raise NotFound(f"no item {number} in {case.ref}")
    return found


def _open(case: Case, viewer: Viewer) -> Case:
    held = locked(case, viewer)
    if held.state not in OPEN:
        raise NotPossible(f"the case is {held.state}: nothing more is handed in")
    return held
