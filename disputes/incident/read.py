"""Incidents with the case about them: what must be done, by whom and by when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case as When_
from django.db.models import DateTimeField, Min, OuterRef, Q, QuerySet, Subquery, When
from django.db.models.functions import Coalesce, Least

from auditlog.detectors import is_sum
from auditlog.incidents.read import IncidentReading, find_incident, of_desk, read_incidents, visible_incidents
from auditlog.models import Incident, IncidentFinding, Role
from auditlog.reads.access import Viewer
from auditlog.reads.sight import Sight
from disputes.models import Assessment, Case, ContestedAct
from disputes.models import Reading as CaseReading

PAGE = 50
PLACE = r"^(\d{1,18}|[0-9T:.+-]{19,40}_\d{1,38}_-?\d_\d{1,18})\Z"  # where the next page begins: by number, or by what is due
NAMED = 200  # acts of a finding by which a case about them is found
MOST_OF_A_DESK = 500  # incidents of an abuse desk that a filter by date looks through
_ENDED = ("closed", "withdrawn", "merged", "settled")


@dataclass(frozen=True, slots=True)
class Told:
    """An incident as read, with the newest case about it that goes on, else the newest."""

    incident: IncidentReading
    case: Case | None = None

    def due(self, now: datetime) -> datetime | None:
        """The first date by which something has to be done; None: there is none, or all are over."""
        return self.awaiting(now)["by"]

    def awaiting(self, now: datetime) -> dict[str, Any]:
        """{who, by}: whose move it is, and by when. Both None where nobody has to do anything."""
        undo = self.incident.next_undo(now)
        if self.case is not None and self.case.state not in _ENDED:
            dates = [at for at in (self.case.due_at, undo if self.incident.is_open else None) if at is not None]
            return {"who": self.case.awaiting, "by": min(dates, default=None)}
        if not self.incident.is_open:
            return {"who": None, "by": None}
        return {"who": self.incident.owner or " or ".join(self.incident.desks), "by": undo}


def is_place(after: str, *, order: str) -> bool:
    """Whether what PLACE describes is a place of this order."""
    if ("_" in after) != (order == "due"):
        return False
    try:
        return "_" not in after or bool(datetime.fromisoformat(after.partition("_")[0]))
    except ValueError:
        return False


def list_incidents(
    viewer: Viewer,
    *,
    now: datetime,
    state: str = "",
    owner: str = "",
    desk: str = "",
    principal: str = "",
    due_before: datetime | None = None,
    since: datetime | None = None,
    order: str = "newest",
    away: str = "",
    after: str = "",
    limit: int = PAGE,
) -> tuple[list[Told], str]:
    """A page of incidents, and where the next begins; "" after the last. `order`: newest, or due: the first date, then money.

    `away`: "yes" for those that somebody took out of the queue, "no" for the others.

    For an abuse desk always newest first: what comes first otherwise tells of others' findings. Nothing is away for it.
    """  # fmt: skip
    incidents = visible_incidents(viewer).select_related("merged_into")
    if principal:
        if not Sight.of(viewer, {principal}).sees(principal):
            return [], ""
        incidents = incidents.filter(principal=principal)
    if state:
        incidents = incidents.filter(state__in=("open", "resolved") if state == "unclosed" else (state,))
    if owner:
        incidents = incidents.filter(owner={"none": "", "me": viewer.name}.get(owner, owner))
    if since is not None:
        incidents = incidents.filter(opened_at__gte=since)
    if desk:
        incidents = of_desk(viewer, incidents, desk)
    if away and viewer.role != Role.ABUSE:
        gone = ~Q(away="") & (Q(away_until=None) | Q(away_until__gt=now))
        incidents = incidents.filter(gone if away == "yes" else ~gone)
    if viewer.role == Role.ABUSE:
        if away == "yes":
            return [], ""
        return _of_desk(viewer, incidents, now=now, due_before=due_before, after=after, limit=limit)
    if due_before is not None or order == "due":
        incidents = _with_due(incidents, now=now)
    if due_before is not None:
        incidents = incidents.filter(due__lt=due_before)
    if order != "due":
        if after:
            incidents = incidents.filter(number__lt=int(after))
        rows = list(incidents[: limit + 1])
        return with_cases(viewer, rows[:limit]), str(rows[limit - 1].number) if len(rows) > limit else ""
    incidents = incidents.order_by("due", "-over_minor", "-rank", "-number")
    if after:
        at, over, rank, number = after.split("_")
        due = datetime.fromisoformat(at)
        same, money = Q(due=due), Q(due=due, over_minor=int(over))
        incidents = incidents.filter(
            Q(due__gt=due)
            | (same & Q(over_minor__lt=int(over)))
            | (money & Q(rank__lt=int(rank)))
            | (money & Q(rank=int(rank), number__lt=int(number)))
        )
    rows = list(incidents[: limit + 1])
    if len(rows) <= limit:
        return with_cases(viewer, rows), ""
    last: Any = rows[limit - 1]
    return with_cases(viewer, rows[:limit]), f"{last.due.isoformat()}_{last.over_minor}_{last.rank}_{last.number}"


NEVER = datetime.fromisoformat("9999-12-30T00:00:00+00:00")


def _with_due(incidents: QuerySet[Incident], *, now: datetime) -> QuerySet[Incident]:
    """With `due`: the first date by which something has to be done, of its acts or of a case that goes on; NEVER if none is."""
    cases = (
        Case.objects.filter(
            tenant=OuterRef("tenant"),
            opened_from__place_in_incident__tenant=OuterRef("tenant"),
            opened_from__place_in_incident__incident=OuterRef("pk"),
        )
        .exclude(state__in=_ENDED)
        .order_by()
        .values("tenant")
        .annotate(first=Min("due_at"))
        .values("first")
    )
    ends = IncidentFinding.objects.filter(tenant=OuterRef("tenant"), incident=OuterRef("pk"), stands=True)
    first = (
        ends.filter(undo_until__gt=now).order_by().values("tenant").annotate(first=Min("undo_until")).values("first")
    )
    # Only where an end is ahead are the findings asked which of them comes first.
    undo = When_(When(undo_until__gt=now, then=Subquery(first)), output_field=DateTimeField())
    return incidents.annotate(due=Least(Coalesce(undo, NEVER), Coalesce(Subquery(cases), NEVER)))


def _of_desk(
    viewer: Viewer, incidents: QuerySet[Incident], *, now: datetime, due_before: datetime | None, after: str, limit: int
) -> tuple[list[Told], str]:
    if after:
        incidents = incidents.filter(number__lt=int(after))
    if due_before is None:
        rows = list(incidents[: limit + 1])
        return with_cases(viewer, rows[:limit]), str(rows[limit - 1].number) if len(rows) > limit else ""
    told = with_cases(viewer, list(incidents[:MOST_OF_A_DESK]))
    due = [each for each in told if (at := each.due(now)) is not None and at < due_before]
    return due[:limit], ""


def one_incident(viewer: Viewer, ref: str) -> tuple[Incident, Told | None]:
    """The row, and what the viewer reads of it: nothing of one that was merged. Raises NotFound."""
    row = find_incident(viewer, ref)
    if row.state == Incident.State.MERGED:
        return row, None
    [told] = with_cases(viewer, [row])
    return row, told


def with_cases(viewer: Viewer, rows: Sequence[Incident]) -> list[Told]:
    readings = read_incidents(viewer, rows)
    return [Told(reading, case) for reading, case in zip(readings, _cases_of(viewer, readings), strict=True)]


def _cases_of(viewer: Viewer, readings: Sequence[IncidentReading]) -> list[Case | None]:
    """By incident, the case that was opened from one of its findings or contests one of the acts that caused it."""
    by_finding = {each.id: n for n, reading in enumerate(readings) for each in (*reading.findings, *reading.withdrawn)}
    by_event = {
        event_id: n
        for n, reading in enumerate(readings)
        for each in reading.findings
        if not is_sum(each.rule)
        for event_id in each.events[:NAMED]
    }
    found: list[list[Case]] = [[] for _ in readings]
    if by_finding:
        contested = ContestedAct.objects.filter(
            tenant=viewer.tenant, event_id__in=[UUID(event_id) for event_id in by_event]
        )
        mine = contested.filter(case=OuterRef("pk")).values("event_id")
        cases = Case.objects.filter(tenant=viewer.tenant).filter(
            Q(opened_from__in=list(by_finding)) | Q(pk__in=contested.values("case"))
        )
        if viewer.role == Role.ABUSE:
            cases = cases.filter(provider=viewer.provider)
        found_cases: Any = cases.exclude(state="merged").annotate(about=ArraySubquery(mine)).order_by("id")
        for case in found_cases:
            about = {by_event[str(event_id)] for event_id in case.about}
            if case.opened_from_id in by_finding:
                about.add(by_finding[case.opened_from_id])
            for n in about:
                found[n].append(case)
    return [max(many, key=lambda case: (case.state not in _ENDED, case.pk), default=None) for many in found]


def verdicts_of(case: Case) -> Assessment | CaseReading | None:
    """What the engine says of a case as it was last asked; None: it was not asked yet."""
    assessed = case.assessments.filter(reason="").order_by("-number").first()
    return assessed or CaseReading.objects.filter(case=case).first()
