"""Complain: what people and abuse desks outside say about acts on record, taken in without an account.

Whoever has the link of a door may complain, so often; nothing that is said there opens a case or changes one. A person
looks at it, sees which acts it may mean, and opens a case of those or declines, with a reason.
"""

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import xarf
from django.db import IntegrityError, transaction
from django.db.models import Max, Q, QuerySet

from auditlog.core.document import read_document
from auditlog.core.errors import (
    ConfigurationError,
    DeliveryTooLarge,
    MalformedEvent,
    NotFound,
    NotPossible,
    TooManyRequests,
)
from auditlog.custody import security
from auditlog.database import throttle
from auditlog.models import Event, Role, Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from disputes.case.hand_in import stage, submit
from disputes.models import Case, Complaint, ComplaintDoor
from disputes.open_case import open_case

MOST_BYTES = 256 * 1024
MOST_WAITING = 1_000  # complaints that nobody looked at yet, of one door
MOST_SUGGESTED = 20
LONGEST = timedelta(days=366)
_TEST = "lifecycle:test"  # a tag by which senders try whether they are heard


def make_door(viewer: Viewer, *, name: str, ends_at: datetime, now: datetime) -> str:
    """The secret part of a link. This is the only time it is seen. Raises NotPermitted, ConfigurationError."""
    viewer.must("case")
    if not name.strip():
        raise ConfigurationError("a door has a name, so that whoever shuts it knows which one it is")
    if not now < ends_at <= now + LONGEST:
        raise ConfigurationError(f"a door is open until some day from now on, for {LONGEST.days} days at most")
    secret = secrets.token_urlsafe(24)
    ComplaintDoor.objects.create(
        tenant=viewer.tenant, name=name.strip()[:120], provider=viewer.provider if viewer.role == Role.ABUSE else "",
        secret_digest=_digest(secret), made_by=viewer.name, made_at=now, ends_at=ends_at,
    )  # fmt: skip
    security.note(viewer.tenant, "link.made", who=viewer.name, user_id=viewer.user_id, what=f"door for complaints {name.strip()[:120]!r}", now=now)  # fmt: skip
    return secret


def shut_door(viewer: Viewer, door_id: int, *, now: datetime) -> None:
    viewer.must("case")
    door = doors_of(viewer).filter(pk=door_id, ended_at=None).first()
    if door is None:
        raise NotFound("there is no such door, or it is shut")
    door.ended_at, door.ended_by = now, viewer.name
    door.save(update_fields=["ended_at", "ended_by"])


def doors_of(viewer: Viewer) -> QuerySet[ComplaintDoor]:
    doors = ComplaintDoor.objects.filter(tenant=viewer.tenant).order_by("-id")
    return doors.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else doors


def complaints_of(viewer: Viewer) -> QuerySet[Complaint]:
    found = Complaint.objects.filter(tenant=viewer.tenant).select_related("door", "case").defer("body")
    return found.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else found


def find_door(secret: str, *, now: datetime) -> ComplaintDoor:
    """Raises NotFound, also for one that was shut or is over: nobody outside learns which."""
    door = ComplaintDoor.objects.select_related("tenant").filter(secret_digest=_digest(secret), ended_at=None).first()
    if door is None or door.ends_at <= now:
        raise NotFound("this link leads nowhere: it was never made, or it is over")
    return door


def knock(door: ComplaintDoor, address: str) -> None:
    """Count one complaint from an address. Raises TooManyRequests."""
    wait = throttle.attempt("complaint", account=str(door.pk), address=address).wait
    if wait:
        raise TooManyRequests("this comes too often: wait a little", retry_after=wait)


def complain(door: ComplaintDoor, *, reporter: str, contact: str, subject: str, about: str, said: str, now: datetime) -> Complaint:  # fmt: skip
    """From the public form. Raises ConfigurationError, NotPossible."""
    if not (reporter.strip() and subject.strip() and about.strip()):
        raise ConfigurationError("a complaint says who complains, what it is about, and what happened")
    told = {"reporter": reporter, "contact": contact, "subject": subject, "about": about, "said": said}
    body = json.dumps({name: _text(value, 20_000) for name, value in told.items()}, ensure_ascii=False, sort_keys=True).encode()  # fmt: skip
    return _keep(
        door, "form", body, reporter=_text(reporter, 200), contact=_text(contact, 200), subject=_text(subject, 300),
        about=_text(about, 200), said=_text(said, 20_000), now=now,
    )  # fmt: skip


def report(door: ComplaintDoor, body: bytes, *, now: datetime) -> Complaint:
    """An XARF v4 report. The same report id at the same door is taken once. Raises MalformedEvent, DeliveryTooLarge."""
    if len(body) > MOST_BYTES:
        raise DeliveryTooLarge(f"a report has at most {MOST_BYTES:,} bytes here, found {len(body):,}")
    try:
        document = read_document(body)
    except ValueError as error:
        raise MalformedEvent(f"expected an XARF v4 report, which is JSON: {error}"[:300]) from None
    if not isinstance(document, dict):
        raise MalformedEvent("expected an XARF v4 report, which is a JSON object")
    if not str(document.get("xarf_version", "")).startswith("4."):
        raise MalformedEvent(f"expected xarf_version 4, found {str(document.get('xarf_version'))[:20]!r}")
    checked = xarf.parse(document)
    if checked.errors:
        first = checked.errors[0]
        raise MalformedEvent(f"no valid XARF v4 report: {first.field or 'report'}: {first.message}"[:300])
    known = Complaint.objects.filter(tenant=door.tenant, door=door, report_id=str(document["report_id"])[:64]).first()
    if known is not None:
        return known
    by = document["reporter"]
    tags = document.get("tags")
    return _keep(
        door, "xarf", body, reporter=_text(by.get("org"), 200), contact=_text(by.get("contact"), 200),
        subject=_text(document["source_identifier"], 300), about=_text(f"{document['category']}: {document['type']}", 200),
        said=_text(document.get("description"), 20_000), report_id=str(document["report_id"])[:64],
        is_test=isinstance(tags, list) and _TEST in tags, now=now,
    )  # fmt: skip


def _keep(door: ComplaintDoor, channel: str, body: bytes, *, now: datetime, **said: Any) -> Complaint:
    with transaction.atomic():
        held = ComplaintDoor.objects.select_for_update().get(pk=door.pk)
        if (
            Complaint.objects.filter(tenant=held.tenant_id, door=held, state=Complaint.State.WAITING).count()
            >= MOST_WAITING
        ):
            raise TooManyRequests(
                "this desk has more complaints than it can look at: try again later", retry_after=3600
            )
    for _ in range(5):  # two doors of one tenant may want the same number at once
        last = Complaint.objects.filter(tenant=door.tenant_id).aggregate(last=Max("number"))["last"] or 0
        try:
            with transaction.atomic():
                return Complaint.objects.create(
                    tenant=door.tenant, door=door, number=last + 1, channel=channel, provider=door.provider, body=body,
                    sha256=sha256(body).hexdigest(), received_at=now, **said,
                )  # fmt: skip
        except IntegrityError:
            continue
    raise TooManyRequests("too many complain at once: try again", retry_after=1)


def suggested(complaint: Complaint) -> list[Event]:
    """Acts on record that the complaint may mean, the newest first: by event, name, charge or resource, to the letter."""
    subject = _bare(complaint.subject)
    found = Q(target=subject) | Q(charge=complaint.subject) | Q(resource=complaint.subject)
    with suppress(ValueError):
        found |= Q(event_id=UUID(complaint.subject))
    acts = Event.objects.filter(found, tenant=complaint.tenant_id, generation=generation_of(complaint.tenant))
    if complaint.provider:
        acts = acts.filter(provider=complaint.provider)
    return list(acts.order_by("-leaf_index")[:MOST_SUGGESTED])


def _bare(subject: str) -> str:
    """A name out of an address: `https://a.example/x` is about `a.example`."""
    host = subject.strip().partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
    return (host or subject).strip().rstrip(".").lower()


@transaction.atomic
def open_from(viewer: Viewer, number: int, *, event_ids: Sequence[str], kind: str, now: datetime) -> Case:
    """Make a case of a complaint; its bytes go in as evidence of whoever complained. Raises as `open_case` does."""
    complaint = _waiting(viewer, number)
    case = open_case(
        viewer, kind=kind, title=complaint.about, complaint=complaint.said[:4_000], event_ids=event_ids, now=now
    )
    item = stage(
        case, viewer, side="claimant", title=f"The complaint of {complaint.reporter}"[:200], body=bytes(complaint.body),
        name=f"complaint-{complaint.number}.json", media_type="application/json", now=now,
    )  # fmt: skip
    submit(case, item.number, viewer, now=now)
    _answer(complaint, viewer, Complaint.State.OPENED, "", now=now, case=case)
    return case


@transaction.atomic
def decline(viewer: Viewer, number: int, *, why: str, now: datetime) -> None:
    complaint = _waiting(viewer, number)
    if not why.strip():
        raise NotPossible("a complaint is declined with a reason")
    _answer(complaint, viewer, Complaint.State.DECLINED, why.strip()[:4_000], now=now)


def _waiting(viewer: Viewer, number: int) -> Complaint:
    viewer.must("case")
    mine = complaints_of(viewer).select_related(None).defer(None).select_for_update()
    found = mine.filter(number=number).first()
    if found is None:
        raise NotFound(f"no complaint {number}")
    if found.state != Complaint.State.WAITING:
        raise NotPossible(f"complaint {number} was answered already: {found.get_state_display()}")
    return found


def _answer(complaint: Complaint, viewer: Viewer, state: str, why: str, *, now: datetime, case: Case | None = None) -> None:  # fmt: skip
    complaint.state, complaint.case, complaint.answered_by, complaint.answered_why = state, case, viewer.name, why
    complaint.answered_at = now
    complaint.save(update_fields=["state", "case", "answered_by", "answered_why", "answered_at"])


def _text(value: Any, most: int) -> str:
    return value.replace("\x00", "").strip()[:most] if isinstance(value, str) else ""


def _digest(secret: str) -> str:
    return sha256(b"complaint\x00" + secret.encode("utf-8", "replace")).hexdigest()


def waiting_of(tenant: Tenant) -> int:
    return Complaint.objects.filter(tenant=tenant, state=Complaint.State.WAITING).count()
