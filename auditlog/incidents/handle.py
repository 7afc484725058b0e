"""What people do with an incident: own it, write to it, close it, take it apart. Every step is kept, with who and why."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from auditlog.core.errors import NotPermitted, NotPossible
from auditlog.incidents.gather import lock, regather
from auditlog.incidents.read import find_incident, is_away
from auditlog.models import Incident, IncidentFinding, IncidentHand, IncidentStep, Membership, Role
from auditlog.reads.access import MAY, Viewer, person_of

LONGEST = 4_000  # characters of a note or reason
MOST_BY_HAND = 1_000  # findings of an incident that is taken apart
LONGEST_AWAY = 90  # days
Kind, State = IncidentStep.Kind, Incident.State
OUTCOMES = tuple(Incident.Outcome.values)


@transaction.atomic
def assign(viewer: Viewer, ref: str, *, owner: str | None, now: datetime) -> Incident:
    """Give it to somebody who may act on it, or to nobody. Raises NotPermitted, NotFound or NotPossible."""
    row = _locked(viewer, ref, whole=True)
    owner = (owner or "").strip()
    pk = None
    if owner:
        member = Membership.objects.filter(tenant=viewer.tenant, user__username=owner, user__is_active=True).first()
        if member is None or "triage" not in MAY[member.role]:
            raise NotPossible(f"expected the name of somebody who may act on incidents, found {owner[:80]!r}")
        if member.role == Role.ABUSE and not _is_whole(row, member.provider):
            raise NotPossible("the desk of a provider sees only what happened there: this incident is about more")
        pk = member.user_id
    if row.owner == owner:
        raise NotPossible(f"it is {'already with ' + owner if owner else 'with nobody already'}")
    before, row.owner, row.owner_id, row.changed_at = row.owner, owner, pk, now
    row.save(update_fields=["owner", "owner_id", "changed_at"])
    _say(viewer, row, Kind.ASSIGNED, "", {"owner": owner, "before": before}, now=now)
    return row


@transaction.atomic
def note(viewer: Viewer, ref: str, *, text: str, now: datetime) -> Incident:
    """Write to it. A note changes nothing else. Raises NotPermitted, NotFound or NotPossible."""
    row = _locked(viewer, ref)
    _say(viewer, row, Kind.NOTE, _reason(text, "a note needs a text"), {}, now=now)
    return row


@transaction.atomic
def close(viewer: Viewer, ref: str, *, outcome: str, reason: str, now: datetime) -> Incident:
    """Close it until more of it comes. The states of its findings stay. Raises NotPermitted, NotFound or NotPossible."""
    row = _locked(viewer, ref, whole=True)
    if outcome not in OUTCOMES:
        raise NotPossible(f"expected one of {', '.join(OUTCOMES)}, found {outcome[:40]!r}")
    if viewer.role == Role.ABUSE and outcome == Incident.Outcome.FALSE_ALARM:
        raise NotPermitted("whether it was a false alarm is not for the desk of the provider that it is about to say")
    if row.state not in (State.OPEN, State.RESOLVED):
        raise NotPossible(f"the incident is {row.state} already")
    reason = _reason(reason)
    row.state, row.outcome, row.changed_at = State.CLOSED, outcome, now
    row.closed_members = row.members
    row.away, row.away_until, row.away_members, row.away_rank = "", None, None, None
    row.save(
        update_fields=[
            "state",
            "outcome",
            "closed_members",
            "changed_at",
            "away",
            "away_until",
            "away_members",
            "away_rank",
        ]
    )
    _say(viewer, row, Kind.CLOSED, reason, {"outcome": outcome}, now=now)
    return row


@transaction.atomic
def reopen(viewer: Viewer, ref: str, *, reason: str, now: datetime) -> Incident:
    """Open what was closed. Raises NotPermitted, NotFound or NotPossible."""
    row = _locked(viewer, ref, whole=True)
    if row.state != State.CLOSED:
        raise NotPossible(f"only what was closed can be opened again: the incident is {row.state}")
    reason = _reason(reason)
    row.state, row.outcome, row.closed_members, row.changed_at = State.OPEN, "", None, now
    row.save(update_fields=["state", "outcome", "closed_members", "changed_at"])
    _say(viewer, row, Kind.REOPENED, reason, {"why": "person"}, now=now)
    return row


@transaction.atomic
def snooze(viewer: Viewer, ref: str, *, days: int | None = None, reason: str = "", now: datetime) -> Incident:
    """Take it out of the queue until it grows or becomes worse, or for `days` at most. Raises NotPermitted, NotFound or NotPossible."""
    row = _to_put_away(viewer, ref, days)
    if len(reason) > LONGEST:
        _reason(reason)
    row.away, row.away_until = Incident.Away.SNOOZED, now + timedelta(days=days) if days else None
    row.away_members, row.away_rank = row.members, row.rank
    return _put_away(viewer, row, Kind.SNOOZED, reason.strip(), now=now)


@transaction.atomic
def suppress(viewer: Viewer, ref: str, *, days: int, reason: str, now: datetime) -> Incident:
    """Take it out of the queue for `days`, also where it grows. Raises NotPermitted, NotFound or NotPossible."""
    row = _to_put_away(viewer, ref, days)
    if not days:
        raise NotPossible("what is suppressed comes back on a day: expected after how many days")
    reason = _reason(reason)
    row.away, row.away_until, row.away_members, row.away_rank = (
        Incident.Away.SUPPRESSED, now + timedelta(days=days), None, None,
    )  # fmt: skip
    return _put_away(viewer, row, Kind.SUPPRESSED, reason, now=now)


@transaction.atomic
def bring_back(viewer: Viewer, ref: str, *, now: datetime) -> Incident:
    """Put it into the queue again. Raises NotPermitted, NotFound or NotPossible."""
    _no_desk(viewer)
    row = _locked(viewer, ref)
    if not is_away(row, now):
        raise NotPossible("it is in the queue already")
    row.away, row.away_until, row.away_members, row.away_rank = "", None, None, None
    return _put_away(viewer, row, Kind.RETURNED, "", now=now)


def _no_desk(viewer: Viewer) -> None:
    if viewer.role == Role.ABUSE:
        raise NotPermitted("a provider's desk takes nothing out of the queue of others")


def _to_put_away(viewer: Viewer, ref: str, days: int | None) -> Incident:
    _no_desk(viewer)
    row = _locked(viewer, ref)
    if days is not None and not 0 <= days <= LONGEST_AWAY:
        raise NotPossible(f"expected 1 to {LONGEST_AWAY} days, found {days}")
    if row.state != State.OPEN:
        raise NotPossible(f"only what is open is taken out of the queue: the incident is {row.state}")
    return row


def _put_away(viewer: Viewer, row: Incident, kind: str, reason: str, *, now: datetime) -> Incident:
    row.changed_at = now
    row.save(update_fields=["away", "away_until", "away_members", "away_rank", "changed_at"])
    until = row.away_until.isoformat() if row.away_until else ""
    _say(viewer, row, kind, reason, {"until": until} if until else {}, now=now)
    return row


@transaction.atomic
def merge(viewer: Viewer, ref: str, *, other: str, reason: str, now: datetime) -> Incident:
    """Make two incidents one, of one principal: the older reference stays. Returns it. Raises NotPermitted, NotFound, NotPossible."""
    if viewer.role == Role.ABUSE:
        raise NotPermitted("a provider's desk sees a part of an incident, and does not say what belongs to it")
    row, second = _locked(viewer, ref, whole=True), _locked(viewer, other, whole=True)
    reason = _reason(reason)
    if row.pk == second.pk:
        raise NotPossible("an incident cannot be merged with itself")
    if row.principal != second.principal:
        raise NotPossible("two principals have two incidents, whatever links them")
    first = [_standing(each) for each in (row, second)]
    if not all(first):
        raise NotPossible("a withdrawn incident has no findings that could be put into another")
    older, newer = sorted((row, second), key=lambda each: each.number)
    step = _say(viewer, older, Kind.NOTE, reason, {"merge": newer.ref}, now=now)
    mine, theirs = set(first[0]), set(first[1])
    for hand in IncidentHand.objects.filter(tenant=viewer.tenant, kind=IncidentHand.Kind.APART, is_lifted=False):
        if (mine & set(hand.one) and theirs & set(hand.other)) or (theirs & set(hand.one) and mine & set(hand.other)):
            hand.is_lifted = True
            hand.save(update_fields=["is_lifted"])
    IncidentHand.objects.create(
        tenant=viewer.tenant, kind=IncidentHand.Kind.TOGETHER, one=[min(mine)], other=[min(theirs)], step=step
    )
    _regather(viewer, older, newer, now=now)
    return _now(older)


@transaction.atomic
def split(viewer: Viewer, ref: str, *, findings: Collection[int], reason: str, now: datetime) -> Incident:
    """Take findings out of an incident into one of their own, for good. Returns the new one. Raises NotPermitted, NotFound, NotPossible."""
    if viewer.role == Role.ABUSE:
        raise NotPermitted("a provider's desk sees a part of an incident, and does not say what belongs to it")
    row = _locked(viewer, ref, whole=True)
    reason = _reason(reason)
    standing = _standing(row)
    out, rest = sorted(set(findings)), sorted(set(standing) - set(findings))
    if len(standing) > MOST_BY_HAND:
        raise NotPossible(f"an incident of more than {MOST_BY_HAND:,} findings is not taken apart by hand")
    if not out or not set(out) <= set(standing):
        raise NotPossible("expected findings that are in the incident and stand")
    if not rest:
        raise NotPossible("all of it cannot be taken out of it: leave one finding at least")
    step = _say(viewer, row, Kind.NOTE, reason, {"split": out[:50]}, now=now)
    # What somebody once put together goes apart again where this takes it apart.
    for hand in IncidentHand.objects.filter(tenant=viewer.tenant, kind=IncidentHand.Kind.TOGETHER, is_lifted=False):
        if (hand.one[0] in out) != (hand.other[0] in out) and {hand.one[0], hand.other[0]} <= set(standing):
            hand.is_lifted = True
            hand.save(update_fields=["is_lifted"])
    IncidentHand.objects.create(tenant=viewer.tenant, kind=IncidentHand.Kind.APART, one=out, other=rest, step=step)
    _regather(viewer, row, now=now)
    return Incident.objects.get(places__finding=out[0])


def _regather(viewer: Viewer, *rows: Incident, now: datetime) -> None:
    Incident.objects.filter(pk__in=[row.pk for row in rows]).update(is_by_hand=True)
    regather(viewer.tenant, [row.pk for row in rows], now=now)


def _locked(viewer: Viewer, ref: str, *, whole: bool = False) -> Incident:
    """The row, locked. `whole`: a provider's desk may do it only where all of the incident is its own."""
    viewer.must("triage")
    lock(viewer.tenant)  # gathering writes the same rows
    seen = find_incident(viewer, ref)
    row = Incident.objects.select_for_update(of=("self",)).get(pk=seen.pk)
    if row.state == State.MERGED:
        raise NotPossible(f"{row.ref} was merged into {row.merged_into.ref if row.merged_into else '?'}: act on that")
    if whole and viewer.role == Role.ABUSE and not _is_whole(row, viewer.provider):
        raise NotPermitted("a provider's desk may write to an incident, and decide only of one that is all its own")
    return row


def _is_whole(row: Incident, provider: str) -> bool:
    return (
        not IncidentFinding.objects.filter(tenant=row.tenant_id, incident=row, stands=True)
        .exclude(finding__provider=provider)
        .exists()
    )


def _standing(row: Incident) -> list[int]:
    places = IncidentFinding.objects.filter(tenant=row.tenant_id, incident=row, stands=True).order_by("finding_id")
    return list(places.values_list("finding_id", flat=True)[: MOST_BY_HAND + 1])


def _reason(text: str, missing: str = "a reason is needed: somebody will ask for it later") -> str:
    if not text.strip():
        raise NotPossible(missing)
    if len(text) > LONGEST:
        raise NotPossible(f"expected at most {LONGEST:,} characters, found {len(text):,}")
    return text.strip()


def _say(viewer: Viewer, row: Incident, kind: str, reason: str, data: dict[str, Any], *, now: datetime) -> IncidentStep:
    return IncidentStep.objects.create(
        tenant=viewer.tenant, incident=row, at=now, kind=kind, by=viewer.name, person=person_of(viewer)[:170], role=viewer.role,
        desk=viewer.provider if viewer.role == Role.ABUSE else "", user_id=viewer.user_id, reason=reason, data=data,
    )  # fmt: skip


def _now(row: Incident) -> Incident:
    row.refresh_from_db()
    if row.merged_into is not None:
        return row.merged_into
    return row
