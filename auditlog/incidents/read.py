"""Read incidents: as a viewer may, from the findings that they may see, as they read those (reads/read_findings.py).

What an incident comes to is made here of its findings, each time: an abuse desk gets what its own findings come to, and an
incident that none of its own findings is in does not exist for it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from auditlog.core.amount import minor
from auditlog.core.errors import NotFound
from auditlog.core.incident import Stake, desks_of, over_of, rank_of, rules_of
from auditlog.core.reading import Reading
from auditlog.database.bulk import fetch_rows
from auditlog.detectors import is_sum
from auditlog.incidents.gather import undo_until
from auditlog.models import Finding, Incident, IncidentFinding, IncidentStep, Role
from auditlog.projection.generation import generation_of, reading
from auditlog.reads.access import Viewer
from auditlog.reads.money import spending_where
from auditlog.reads.read_findings import read_findings
from auditlog.reads.sight import Sight, visible_findings

MOST_ACTS = 5_000  # of one incident that are added up
LISTED = 500  # findings of one incident that are read
TOO_MANY = f"it has more than {MOST_ACTS:,} acts, which are not added up here: its findings say what each puts at risk"
TO_NO_DESK = "not shown to an abuse desk"
NO_LINE = "no line of the books is about its acts"


@dataclass(frozen=True, slots=True)
class Share:
    """What one agent had of it. `share` is of the money where there is some in one currency, else of the acts; None: unknown."""

    actor: str  # party key or stub
    acts: int
    spent_minor: int | None
    share: float | None


@dataclass(frozen=True, slots=True)
class Money:
    """In minor units. None is unknown, and `unknown` says why, by field. `by_currency`: currency, spent, at most, over."""

    currency: str | None = None
    spent_minor: int | None = None
    at_most_minor: int | None = None  # where it is not sure that two lines are about one payment
    over_minor: int | None = None
    recoverable_until: datetime | None = None
    by_currency: tuple[tuple[str, int | None, int | None, int | None], ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IncidentReading:
    """An incident as one viewer reads it."""

    ref: str
    state: str
    outcome: str
    title: str
    severity: str
    desks: tuple[str, ...]
    principal: str
    actors: tuple[Share, ...]
    findings: tuple[Reading, ...]  # that stand, the worst first
    withdrawn: tuple[Reading, ...]
    more_findings: int  # that are counted and not read
    rules: tuple[str, ...]
    events_total: int
    first_at: datetime | None
    last_at: datetime | None
    opened_at: datetime
    money: Money
    undo_until: datetime | None  # the last of `undo_ends`
    undo_ends: tuple[datetime, ...]  # until when each of its findings can be undone, in order
    owner: str
    away: str  # snoozed or suppressed: not in the queue now
    away_until: datetime | None
    merged_into: str
    is_whole: bool  # False: others' findings may be in it too

    @property
    def is_open(self) -> bool:
        return self.state in ("open", "resolved")

    @property
    def total(self) -> int:
        """Findings that stand, also those that are not listed."""
        return len(self.findings) + self.more_findings

    def next_undo(self, now: datetime) -> datetime | None:
        """The first end that is still ahead: after it, not all of it can be undone any more."""
        return next((end for end in self.undo_ends if end > now), None)

    @property
    def providers(self) -> list[str]:
        return sorted({each.provider for each in self.findings if each.provider})


def visible_incidents(viewer: Viewer) -> QuerySet[Incident]:
    """Those that a viewer may see, newest first; one that was merged is no incident of its own any more."""
    incidents = Incident.objects.filter(tenant=viewer.tenant).exclude(state=Incident.State.MERGED).order_by("-number")
    if viewer.role != Role.ABUSE:
        return incidents
    return incidents.filter(Exists(_own(viewer, OuterRef("pk"))))


def _own(viewer: Viewer, incident: OuterRef) -> QuerySet[IncidentFinding]:
    mine = IncidentFinding.objects.filter(tenant=viewer.tenant, incident=incident, finding__provider=viewer.provider)
    return mine.filter(Q(stands=True) | Q(incident__state=Incident.State.WITHDRAWN))


def is_away(row: Incident | IncidentReading, now: datetime) -> bool:
    """Whether somebody took it out of the queue, and it has not come back."""
    return bool(row.away) and (row.away_until is None or row.away_until > now)


def of_desk(viewer: Viewer, incidents: QuerySet[Incident], desk: str) -> QuerySet[Incident]:
    """Those on a desk, by the rules of the findings that the viewer may see."""
    family = Q()
    for begins in rules_of(desk):
        family |= Q(finding__rule__startswith=begins)
    places = IncidentFinding.objects.filter(family, tenant=viewer.tenant, incident=OuterRef("pk"), stands=True)
    if viewer.role == Role.ABUSE:
        places = places.filter(finding__provider=viewer.provider)
    return incidents.filter(Exists(places))


def find_incident(viewer: Viewer, ref: str) -> Incident:
    """By its reference, also of one that was merged. Raises NotFound, also for one that the viewer may not see."""
    row = Incident.objects.select_related("merged_into").filter(tenant=viewer.tenant, ref=ref[:20]).first()
    if row is not None:
        target = row.merged_into or row
        if viewer.role != Role.ABUSE or visible_incidents(viewer).filter(pk=target.pk).exists():
            return row
    raise NotFound(f"no incident {ref[:20]}")


def incidents_of(viewer: Viewer, findings: Collection[int]) -> dict[int, str]:
    """By finding, the reference of its incident; of findings that the viewer may see. One query."""
    placed = IncidentFinding.objects.filter(tenant=viewer.tenant, finding__in=findings).exclude(incident=None)
    return dict(placed.values_list("finding_id", "incident__ref"))


def read_incidents(viewer: Viewer, rows: Sequence[Incident]) -> list[IncidentReading]:
    """What the viewer reads of these rows, in their order. The rows are those of `visible_incidents`."""
    if not rows:
        return []
    with reading(viewer.tenant, generation_of(viewer.tenant)):
        return _read_all(viewer, rows)


def _read_all(viewer: Viewer, rows: Sequence[Incident]) -> list[IncidentReading]:
    named = fetch_rows(
        _WORST.format(only="AND f.provider = %(provider)s" if viewer.role == Role.ABUSE else ""),
        {
            "tenant": viewer.tenant.pk,
            "incidents": [row.pk for row in rows],
            "provider": viewer.provider,
            "most": LISTED,
        },
    )
    of = dict(named)
    kept: dict[int, list[Finding]] = defaultdict(list)
    for found in visible_findings(viewer).filter(pk__in=list(of)).order_by("id"):
        kept[of[found.pk]].append(found)
    more = {
        row.pk: max(0, row.findings - sum(each.state != "withdrawn" for each in kept[row.pk]))
        if viewer.role != Role.ABUSE
        else 0
        for row in rows
    }
    every = [row for many in kept.values() for row in many]
    readings = {each.id: each for each in read_findings(viewer, every)}
    acts = _acts_of(viewer, rows, kept, readings)
    lines = _lines_of(viewer, acts)
    sight = Sight.of(viewer, {actor for of in acts.values() if of for _, actor in of.values()})
    return [
        _read(viewer, row, kept[row.pk], readings, acts.get(row.pk), lines.get(row.pk, []), sight, more[row.pk])
        for row in rows
    ]


def steps_of(viewer: Viewer, row: Incident) -> list[IncidentStep]:
    """The log, oldest first, with what people wrote to incidents that became part of it. An abuse desk reads what its own
    people wrote, and that it is open or closed.
    """
    by_people = Q(incident__merged_into=row) & ~Q(by="")
    found = IncidentStep.objects.filter(Q(incident=row) | by_people, tenant=viewer.tenant).select_related("incident")
    steps = list(found.order_by("-id")[:LISTED])[::-1]
    if viewer.role != Role.ABUSE:
        return steps
    told = []
    for step in steps:
        if step.desk == viewer.provider:
            told.append(step)
        elif step.incident_id == row.pk and step.kind in (
            IncidentStep.Kind.OPENED,
            IncidentStep.Kind.CLOSED,
            IncidentStep.Kind.REOPENED,
        ):
            step.reason, step.data, step.by = "", {}, ""
            told.append(step)
    return told


_WORST = """
    SELECT l.finding_id, i.id FROM unnest(%(incidents)s::bigint[]) AS i(id) CROSS JOIN LATERAL (
        SELECT p.finding_id FROM incident_finding p JOIN finding f ON f.id = p.finding_id
        WHERE p.tenant_id = %(tenant)s AND f.tenant_id = %(tenant)s AND p.incident_id = i.id {only}
        ORDER BY p.stands DESC, array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], f.severity::text), p.finding_id
        LIMIT %(most)s
    ) l
"""
# --- what it comes to ---------------------------------------------------------------------------------------------------

_Acts = dict[UUID, tuple[int, str]]  # by event: its leaf and its agent


def _acts_of(
    viewer: Viewer, rows: Sequence[Incident], kept: Mapping[int, Sequence[Finding]], readings: Mapping[int, Reading]
) -> dict[int, _Acts | None]:
    """By incident, its acts: of its causes; of its sums only where there is nothing else. None: too many to read."""
    wanted: dict[int, list[int]] = {}
    found: dict[int, _Acts | None] = {}
    for row in rows:
        stand = [each for each in kept[row.pk] if each.state != "withdrawn"] or list(kept[row.pk])
        causes = [each for each in stand if not is_sum(each.rule)] or stand
        total = sum(max(each.events_total, len(each.event_ids)) for each in causes)
        found[row.pk] = {} if total <= MOST_ACTS else None
        if total <= MOST_ACTS:
            wanted[row.pk] = [each.pk for each in causes]
    of = {finding: incident for incident, findings in wanted.items() for finding in findings}
    if not of:
        return found
    only = " AND e.provider = %(provider)s" if viewer.role == Role.ABUSE else ""
    members = fetch_rows(
        "SELECT m.finding_id, e.event_id, e.leaf_index, e.actor FROM finding_member m JOIN projection_event e"
        " ON e.tenant_id = m.tenant_id AND e.generation = %(generation)s AND e.leaf_index = m.leaf_index"
        f" WHERE m.tenant_id = %(tenant)s AND m.finding_id = ANY(%(findings)s) AND m.event_id IS NOT NULL{only}",
        {
            "tenant": viewer.tenant.pk,
            "generation": generation_of(viewer.tenant),
            "findings": list(of),
            "provider": viewer.provider,
        },
    )
    for finding, event_id, leaf, actor in members:
        into = found[of[finding]]
        if into is not None:
            into[event_id] = (leaf, actor)
    return found


def _lines_of(viewer: Viewer, acts: Mapping[int, _Acts | None]) -> dict[int, list]:
    """By incident, the lines of the books that its acts are counted in: each once. Of an abuse desk, none."""
    if viewer.role == Role.ABUSE:
        return {}
    of: dict[str, set[int]] = defaultdict(set)
    for incident, many in acts.items():
        for event_id in many or ():
            of[str(event_id)].add(incident)
    found: dict[int, list] = defaultdict(list)
    if not of:
        return {}
    events = [UUID(event_id) for event_id in of]
    counted = (
        "principal <> '' AND (lead = ANY(%s) OR (is_joined AND events && %s))"  # as reads.money.spending_in, at once
    )
    for line in spending_where(viewer.tenant, counted, [events, events]):
        for incident in {incident for event_id in line.events for incident in of.get(event_id, ())}:
            found[incident].append(line)
    return found


def _read(
    viewer: Viewer, row: Incident, kept: Sequence[Finding], readings: Mapping[int, Reading], acts: _Acts | None,
    lines: Sequence, sight: Sight, more: int,
) -> IncidentReading:  # fmt: skip
    stand = [readings[each.pk] for each in kept if each.state != "withdrawn"]
    gone = [readings[each.pk] for each in kept if each.state == "withdrawn"]
    shown = sorted(
        stand or gone,
        key=lambda each: (-rank_of(each.severity), is_sum(each.rule), -(each.money_at_risk_minor or 0), each.id),
    )
    ends = tuple(sorted({at for each in stand if (at := undo_until(each.evidence))}))
    undo = ends[-1] if ends else None
    is_desk = viewer.role == Role.ABUSE
    money = _money(shown if stand else [], lines, acts, undo, is_desk=is_desk)
    times = [at for each in shown for at in (each.first_at, each.last_at) if at is not None]
    worst = shown[0] if shown else None
    return IncidentReading(
        ref=row.ref,
        state=row.state,
        outcome=row.outcome,
        title=worst.title if worst else "",
        severity=worst.severity if worst else "info",
        desks=tuple(desks_of(each.rule for each in shown)),
        principal=worst.principal if worst else "",
        actors=_shares(acts, lines, money, sight),
        findings=tuple(shown if stand else ()),
        withdrawn=tuple(gone),
        more_findings=more,
        rules=tuple(dict.fromkeys(each.rule for each in shown)),
        # Where they are too many to read, and where none is an event: as many as one finding rests on at least.
        events_total=len(acts) if acts else max((each.total for each in shown), default=0),
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        opened_at=row.opened_at,
        money=money,
        undo_until=undo,
        undo_ends=ends,
        owner=row.owner,
        away="" if is_desk else row.away,
        away_until=None if is_desk else row.away_until,
        merged_into=row.merged_into.ref if row.merged_into_id and row.merged_into else "",
        is_whole=not is_desk,
    )


def _money(
    shown: Sequence[Reading], lines: Sequence, acts: _Acts | None, undo: datetime | None, *, is_desk: bool
) -> Money:
    stakes = [
        Stake(each.rule, frozenset(each.leaves), each.money_at_risk_minor, each.currency, is_sum(each.rule))
        for each in shown
        if each.money_at_risk_minor is not None and each.currency
    ]
    told_of = ([acts[UUID(event)][0] for event in line.events if UUID(event) in acts] for line in lines) if acts else ()
    over = over_of(stakes, [leaves for leaves in told_of if leaves])
    spent: dict[str, int] = defaultdict(int)
    most: dict[str, int] = defaultdict(int)
    exact: dict[str, list] = defaultdict(list)
    for line in lines:
        exact[line.currency].append(line)
    for currency, of in exact.items():
        spent[currency] = minor(sum(line.spent_minor for line in of))
        most[currency] = minor(
            sum(line.spent_minor if line.at_most_minor is None else line.at_most_minor for line in of)
        )
    unknown: dict[str, str] = {}
    if is_desk:
        unknown["spent_minor"] = TO_NO_DESK
    elif acts is None:
        unknown["spent_minor"] = TOO_MANY
    elif not lines:
        unknown["spent_minor"] = NO_LINE
    if any("money_at_risk" in each.withheld for each in shown):
        unknown["over_minor"] = TO_NO_DESK
        over = {}
    elif not over:
        unknown["over_minor"] = "no finding in it states an amount"
    if undo is None:
        unknown["recoverable_until"] = "nothing on record says until when it can be had back"
    currencies = sorted({*spent, *over})
    rows = tuple((each, spent.get(each), most.get(each), over.get(each)) for each in currencies)
    if len(currencies) != 1:
        for name in ("spent_minor", "over_minor") if currencies else ():
            unknown.setdefault(name, "in several currencies, each by itself")
        return Money(recoverable_until=undo, by_currency=rows, unknown=unknown)
    [(currency, sure, at_most, too_much)] = rows
    return Money(currency, sure, at_most, too_much, undo, rows, unknown)


def _shares(acts: _Acts | None, lines: Sequence, money: Money, sight: Sight) -> tuple[Share, ...]:
    """All agents, the one with the most first. Agents that a desk may not name are one line for each stub."""
    if not acts:
        return ()
    counts: dict[str, int] = defaultdict(int)
    for _, actor in acts.values():
        if actor:
            counts[actor] += 1
    spent: dict[str, list] = defaultdict(list)
    for line in lines:
        if line.actor and line.currency == money.currency:
            spent[line.actor].append(line.spent_minor)
    told = {actor: minor(sum(spent[actor])) for actor in spent} if money.currency else {}
    whole_money, whole_acts = sum(told.values()), sum(counts.values())
    shares = [
        Share(
            sight.text(actor), counts.get(actor, 0), told.get(actor) if told else None,
            told.get(actor, 0) / whole_money if whole_money > 0 else counts.get(actor, 0) / whole_acts if whole_acts else None,
        )
        for actor in {*counts, *told}
    ]  # fmt: skip
    return tuple(sorted(shares, key=lambda each: (-(each.share or 0), -each.acts, each.actor)))
