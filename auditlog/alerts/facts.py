"""Facts: an incident as an alert may tell it, read like a page reads it."""

from collections.abc import Iterable

from auditlog.core.alert.news import Facts
from auditlog.core.incident import rank_of
from auditlog.incidents.read import IncidentReading, read_incidents
from auditlog.models import Incident, Role, Tenant
from auditlog.reads.access import Viewer


def facts_of(tenant: Tenant, incidents: Iterable[Incident]) -> dict[int, Facts]:
    """By incident. One that was merged is told as it was, and no longer open."""
    rows = list(incidents)
    whole = Viewer(tenant, Role.AUDITOR, "alerts")  # reads all of it, and may nothing else
    live = [row for row in rows if row.state != Incident.State.MERGED]
    found = {row.pk: _facts(row, reading) for row, reading in zip(live, read_incidents(whole, live), strict=True)}
    for row in rows:
        if row.state == Incident.State.MERGED:
            found[row.pk] = Facts(
                row.ref, row.severity, row.findings, row.members, is_open=False, has_owner=bool(row.owner)
            )
    return found


def _facts(row: Incident, read: IncidentReading) -> Facts:
    over = {
        currency: too_much
        for currency, _, _, too_much in read.money.by_currency
        if too_much is not None and too_much > 0
    }
    return Facts(
        ref=row.ref,
        severity=read.severity if rank_of(read.severity) >= 0 else "info",
        findings=row.findings,
        events=read.events_total,
        is_open=row.state == Incident.State.OPEN,
        has_owner=bool(row.owner),
        over=over,
        rules=read.rules,
        desks=read.desks,
        undo_until=read.undo_until,
        undo_ends=read.undo_ends,
        is_away=bool(row.away),
        away_until=row.away_until,
        title=read.title,
        principal=read.principal,
        actors=tuple(share.actor for share in read.actors),
    )
