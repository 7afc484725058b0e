"""Read findings: the rows that a viewer may see, as that viewer reads them (core.reading). The API, the pages and the
cases get findings from here and nowhere else, so that what an abuse desk reads is decided once.
"""

from collections.abc import Sequence

from auditlog.core.reading import Own, Reading, read_by_desk
from auditlog.detectors import detectors_of
from auditlog.models import Finding, Role
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
    own_leaves = {event.leaf_index for event in own.values()}
    sight = Sight.of(viewer, {key for row in rows for key in (row.principal, row.actor)})
    return [
        read_by_desk(
            each,
            own=[own[event_id] for event_id in dict.fromkeys(each.events) if event_id in own],
            withdrawn_by_own=each.withdrawn_by_leaf in own_leaves,
            title=_general(each.rule)[0],
            of_events=_general(each.rule)[1],
            written=sight.text,
        )
        for each in whole
    ]


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


def _general(rule: str) -> tuple[str, frozenset[str]]:
    """A rule's general title, and what it makes of its events alone. Of a rule without a detector, its name and nothing."""
    detectors = detectors_of(rule)
    if not detectors:
        return rule, frozenset()
    return detectors[0].title, frozenset.intersection(*(detector.of_events for detector in detectors))
