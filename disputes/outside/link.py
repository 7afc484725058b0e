"""Link: one party outside, who has no account, sees one case and hands in to it.

It takes two things: the link, and a code that is sent another way. Both are shown once and kept as hashes. What is seen
there is this case alone, and of it what concerns the party; every use is written down; whoever handles the case can end it
at any time, and it ends by itself.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.db import transaction

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible, TooManyRequests
from auditlog.database import throttle
from auditlog.models import Event
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer, person_of
from auditlog.sources.scan import scan
from disputes.case.hand_in import MOST_BYTES, hand_in_from_outside
from disputes.case.locked import locked
from disputes.case.record_step import Hand, note_of_case
from disputes.core.status import ENDED, OPEN
from disputes.models import Case, Deadline, EvidenceItem, OutsideLink, OutsideUse, Proposal

LONGEST = timedelta(days=90)
STAYS = timedelta(minutes=30)  # after the code was given
MOST_LINKS = 20  # of one case
MOST_ITEMS = 20  # of one link
MOST_ACTS = 200
MOST_PERSON = 170  # characters, as the table of evidence has them
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # none that is read for another


@dataclass(frozen=True, slots=True)
class Made:
    """The only time that these are seen."""

    link: OutsideLink
    secret: str
    code: str


@transaction.atomic
def make_link(case: Case, viewer: Viewer, *, side: str, name: str, ends_at: datetime, now: datetime) -> Made:
    """Raises NotPermitted, NotPossible or ConfigurationError."""
    held = locked(case, viewer)
    if held.state not in OPEN:
        raise NotPossible(f"the case is {held.state}: nobody more is let in")
    if side not in EvidenceItem.Side.values:
        raise ConfigurationError(f"no side {side[:40]!r}; there are: {', '.join(EvidenceItem.Side.values)}")
    if not name.strip():
        raise ConfigurationError("a link is for somebody: give a name")
    if not now < ends_at <= now + LONGEST:
        raise ConfigurationError(f"a link is good until some day from now on, for {LONGEST.days} days at most")
    if held.outside.filter(ended_at=None).count() >= MOST_LINKS:
        raise NotPossible(f"a case has at most {MOST_LINKS} links that are good: end one first")
    secret = secrets.token_urlsafe(24)
    code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(3))
    link = OutsideLink.objects.create(
        tenant=held.tenant, case=held, side=side, name=name.strip()[:120], secret_digest=_digest(secret), code_digest=_code(secret, code),
        made_person=person_of(viewer), made_by=viewer.name, made_at=now, ends_at=ends_at,
    )  # fmt: skip
    said = {"change": "case.link_made", "link": link.pk, "side": side, "for": link.name, "until": ends_at.isoformat()}
    note_of_case(held, viewer.name, said, now=now)
    return Made(link, secret, code)


@transaction.atomic
def end_link(case: Case, viewer: Viewer, link_id: int, *, now: datetime) -> None:
    """From now on it leads nowhere, also for who is in. Raises NotPermitted, NotFound."""
    held = locked(case, viewer)
    link = held.outside.filter(pk=link_id, ended_at=None).first()
    if link is None:
        raise NotFound("there is no such link of this case, or it has ended")
    link.ended_at, link.ended_by = now, viewer.name
    link.save(update_fields=["ended_at", "ended_by"])
    note_of_case(held, viewer.name, {"change": "case.link_ended", "link": link.pk}, now=now)


def find_link(secret: str, *, now: datetime) -> OutsideLink:
    """Raises NotFound, also for one that has ended: nobody outside learns which."""
    link = (
        OutsideLink.objects.select_related("tenant", "case", "case__tenant")
        .filter(secret_digest=_digest(secret), ended_at=None)
        .first()
    )
    if link is None or link.ends_at <= now or link.case.tenant_id != link.tenant_id:
        raise NotFound("this link leads nowhere: it was never made, or it has ended")
    return link


def come_in(link: OutsideLink, secret: str, code: str, *, address: str, now: datetime) -> None:
    """Raises NotPermitted for a wrong code, TooManyRequests after too many of them."""
    door = f"outside:{link.pk}"
    wait = throttle.attempt(door, account=str(link.pk), address=address).wait
    if wait:
        raise TooManyRequests(f"too many wrong codes: wait {wait} seconds", retry_after=wait)
    given = _code(secret, code.strip().lower().replace(" ", ""))
    if not OutsideLink.objects.filter(pk=link.pk, code_digest=given).exists():
        use(link, "wrong code", address=address, now=now)
        raise NotPermitted("this is not the code of this link")
    throttle.succeeded(door, account=str(link.pk), address=address)
    use(link, "came in", address=address, now=now)


def use(link: OutsideLink, what: str, *, address: str, now: datetime) -> None:
    OutsideUse.objects.create(tenant=link.tenant, link=link, at=now, what=what, address=address[:60])


def hand_in(link: OutsideLink, *, title: str, body: bytes, name: str, media_type: str, address: str, now: datetime) -> EvidenceItem:  # fmt: skip
    """A file of the party: submitted at once, under its side. Raises as `stage` does."""
    if len(body) <= MOST_BYTES:
        scan(body)
    # Whoever made the link knows the code too: what comes by it counts as his, so that he cannot let it in himself.
    person = _person(link)
    with transaction.atomic():
        held = OutsideLink.objects.select_for_update().get(pk=link.pk)
        if held.ended_at is not None or held.ends_at <= now:
            raise NotFound("this link leads nowhere: it has ended")
        if held.case.evidence.filter(person=person).count() >= MOST_ITEMS:
            raise NotPossible(f"by one link at most {MOST_ITEMS} files are handed in")
        hand = Hand(person, f"{held.name} (by link)"[:150], "outside")
        item = hand_in_from_outside(
            held.case, hand, side=held.side, title=title, body=body, name=name, media_type=media_type, now=now
        )
        use(held, "handed in", address=address, now=now)
    return item


@dataclass(frozen=True, slots=True)
class Seen:
    """What a party outside sees of its case: what is contested, how far it is, by when something has to come, what it
    handed in itself, and the decision. No names of others, no verdicts that nobody decided on, no other case.
    """

    ref: str
    title: str
    state: str
    is_open: bool
    acts: list[dict[str, Any]]
    more_acts: int
    deadlines: list[Deadline]
    items: list[EvidenceItem]
    decided: Proposal | None


def _person(link: OutsideLink) -> str:
    keys = [f"outside:{link.pk}", *link.made_person.split("+")]
    while len("+".join(keys)) > MOST_PERSON:
        keys.pop()  # a whole account: half of a number is another's
    return "+".join(keys)


def look(link: OutsideLink) -> Seen:
    case = link.case
    contested = list(case.acts.order_by("position")[: MOST_ACTS + 1])
    events = Event.objects.filter(
        tenant=case.tenant, generation=generation_of(case.tenant), event_id__in=[act.event_id for act in contested]
    )
    told = {row["event_id"]: row for row in events.values("event_id", "type", "occurred_at", "provider", "target")}
    acts = [
        {"event_id": str(act.event_id), "amount_minor": act.amount_minor, "currency": act.currency, **_plain(told.get(act.event_id))}
        for act in contested[:MOST_ACTS]
    ]  # fmt: skip
    decided = None
    if case.transitions.filter(to_state__in=["decided", "decided_final", "settled"]).exists():
        decided = case.proposals.filter(approval__result="approved").order_by("-number").first()
    own = case.evidence.filter(role="outside", person__startswith=f"outside:{link.pk}+").defer("body")
    return Seen(
        case.ref, case.title, case.state, case.state in OPEN and case.state not in ENDED, acts,
        max(0, case.acts.count() - MOST_ACTS), list(case.deadlines.filter(state=Deadline.State.RUNNING)), list(own), decided,
    )  # fmt: skip


def _plain(row: dict[str, Any] | None) -> dict[str, Any]:
    """Of an act: what it was, when, where and to what. Not who."""
    return {name: row[name] if row else None for name in ("type", "occurred_at", "provider", "target")}


def _digest(secret: str) -> str:
    return sha256(b"outside\x00" + secret.encode("utf-8", "replace")).hexdigest()


def _code(secret: str, code: str) -> str:
    return sha256(
        b"outside code\x00" + secret.encode("utf-8", "replace") + b"\x00" + code.encode("utf-8", "replace")
    ).hexdigest()
