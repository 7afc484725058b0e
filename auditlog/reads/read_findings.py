"""Read findings: the rows that a viewer may see, as that viewer reads them (core.reading). The API, the pages and the
cases get findings from here and nowhere else, so that what an abuse desk reads is decided once.
"""

from collections.abc import Sequence

from django.db import connection

from auditlog.core.reading import Own, Reading, read_by_desk
from auditlog.detectors import detectors_of
from auditlog.models import Event, Finding, OwnedName, Role
from auditlog.models.findings import SHOWN
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from auditlog.reads.sight import Sight, visible_events


def read_findings(viewer: Viewer, rows: Sequence[Finding]) -> list[Reading]:
    """What the viewer reads of these rows, in their order. The rows are those of `queries.visible_findings`. Two queries
    for an abuse desk, however many rows; none for others.
    """
    whole = [_whole(row) for row in rows]
    if viewer.role != Role.ABUSE or not rows:
        return whole
    own = _own_events(viewer, rows)
    totals = _own_totals(viewer, [row.pk for row in rows if row.events_total > len(row.event_ids)])
    own_leaves = {event.leaf_index for event in own.values()}
    sight = Sight.of(viewer, {key for row in rows for key in (row.principal, row.actor)})
    told = _told_of_marks(viewer, rows)
    return [
        read_by_desk(
            each,
            own=[own[event_id] for event_id in dict.fromkeys(each.events) if event_id in own],
            own_total=totals.get(each.id),
            withdrawn_by_own=each.withdrawn_by_leaf in own_leaves,
            title=_general(each.rule)[0],
            of_events=_general(each.rule)[1] | told.get(each.id, frozenset()),
            written=sight.text,
        )
        for each in whole
    ]


def _told_of_marks(viewer: Viewer, rows: Sequence[Finding]) -> dict[int, frozenset[str]]:
    """By finding: the parts that speak of marks, where the tenant keeps none of those private. Who is to act on a name has to
    know whose it imitates.
    """
    marks = {row.pk: {*row.evidence.get("marks", ()), *filter(None, [row.evidence.get("brand")])} for row in rows}
    named = set().union(*marks.values())
    if not named:
        return {}
    names = OwnedName.objects.filter(tenant=viewer.tenant)
    public = {name.strip() for name in names.filter(is_private=False).values_list("name", flat=True)}
    return {
        row.pk: frozenset().union(*(getattr(detector, "of_marks", ()) for detector in detectors_of(row.rule)))
        for row in rows
        if marks[row.pk] and {mark.strip() for mark in marks[row.pk]} <= public
    }


def title_for_every_reader(row: Finding) -> str:
    """What the finding is called before all who may see it: as the abuse desk of its provider reads it. For texts that
    are made from a finding and go on without it, such as the title of a case.
    """
    desk = Viewer(row.tenant, Role.ABUSE, name="", provider=row.provider)
    return read_findings(desk, [row])[0].title


def _whole(row: Finding) -> Reading:
    return Reading(
        id=row.pk,
        rule=row.rule,
        rule_version=row.rule_version,
        severity=row.severity,
        state=row.state,
        title=row.title,
        principal=row.principal,
        actor=row.actor,
        grant=row.grant,
        provider=row.provider,
        events=tuple(map(str, row.event_ids)),
        total=max(row.events_total, len(row.event_ids)) if len(row.event_ids) >= SHOWN else len(row.event_ids),
        others=0,
        leaves=tuple(row.leaves),
        money_at_risk_minor=row.money_at_risk_minor,
        currency=row.currency,
        first_at=row.first_at,
        last_at=row.last_at,
        detected_at=row.detected_at,
        withdrawn_by_leaf=row.withdrawn_by_leaf,
        evidence=row.evidence,
    )


def _own_events(viewer: Viewer, rows: Sequence[Finding]) -> dict[str, Own]:
    """By event id: the events of these findings, and of the leaves that withdrew them, that are the viewer's to see."""
    ids = list({event_id for row in rows for event_id in row.event_ids})
    leaves = list({row.withdrawn_by_leaf for row in rows if row.withdrawn_by_leaf is not None})
    found = (
        visible_events(viewer)
        .order_by()
        .extra(where=["(event_id = ANY(%s) OR leaf_index = ANY(%s))"], params=[ids, leaves])
    )
    stated = found.values_list("event_id", "leaf_index", "occurred_at", "grant", "resource", "target")
    return {
        str(event_id): Own(str(event_id), leaf, at, grant, resource or target)
        for event_id, leaf, at, grant, resource, target in stated
    }


def _own_totals(viewer: Viewer, findings: Sequence[int]) -> dict[int, int]:
    """Of findings that rest on more events than they name: how many of all are the viewer's to see."""
    if not findings:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT m.finding_id, count(*) FROM finding_member m JOIN projection_event e ON e.tenant_id = m.tenant_id"
            " AND e.leaf_index = m.leaf_index WHERE m.tenant_id = %s AND e.generation = %s AND m.finding_id = ANY(%s) AND e.provider = %s"
            " GROUP BY 1",
            [viewer.tenant.pk, generation_of(viewer.tenant), list(findings), viewer.provider],
        )
        return dict.fromkeys(findings, 0) | dict(cursor.fetchall())


def members_of(
    viewer: Viewer, finding: Finding, *, after: tuple[int, int] | None, size: int
) -> list[tuple[tuple[int, int], Event]]:
    """Events that a finding rests on and that the viewer may see, in its own order, from a cursor on, each with its own."""
    only = " AND e.provider = %(provider)s" if viewer.role == Role.ABUSE else ""
    params = {"tenant": viewer.tenant.pk, "generation": generation_of(viewer.tenant), "finding": finding.pk, "provider": viewer.provider,
              "after": list(after or (-(2**62), -1)), "size": size}  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT m.place, m.leaf_index FROM finding_member m JOIN projection_event e ON e.tenant_id = m.tenant_id"
            " AND e.generation = %(generation)s AND e.leaf_index = m.leaf_index WHERE m.tenant_id = %(tenant)s"
            f" AND m.finding_id = %(finding)s AND (m.place, m.leaf_index) > (%(place)s, %(leaf)s){only}"
            " ORDER BY m.place, m.leaf_index LIMIT %(size)s",
            params | {"place": params["after"][0], "leaf": params["after"][1]},
        )
        places = cursor.fetchall()
    events = visible_events(viewer).filter(leaf_index__in=[leaf for _, leaf in places]).defer("detail")
    by_leaf = {event.leaf_index: event for event in events}
    return [(place, by_leaf[place[1]]) for place in places if place[1] in by_leaf]


def _general(rule: str) -> tuple[str, frozenset[str]]:
    """A rule's general title, and what it makes of its events alone. Of a rule without a detector, its name and nothing."""
    detectors = detectors_of(rule)
    if not detectors:
        return rule, frozenset()
    return detectors[0].title, frozenset.intersection(*(detector.of_events for detector in detectors))
