"""Findings on lines of the books name every statement that those lines count, as verdicts judge each of them."""

from dataclasses import replace
from uuid import UUID

from django.db import connection

from auditlog.core.finding import Finding
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of


def with_joined(tenant: Tenant, found: dict[tuple[str, ...], list[Finding]]) -> dict[tuple[str, ...], list[Finding]]:
    """The findings by key, with the statements that their events were counted with."""
    leads = {event_id for findings in found.values() for finding in findings for event_id in finding.events}
    if not leads:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.lead, e.event_id, e.leaf_index FROM projection_charge c CROSS JOIN unnest(c.events) AS told(event_id)"
            " JOIN projection_event e ON e.tenant_id = c.tenant_id AND e.generation = c.generation AND e.event_id = told.event_id"
            " WHERE c.tenant_id = %s AND c.generation = %s AND c.lead = ANY(%s) AND c.is_joined",
            [tenant.pk, generation_of(tenant), [UUID(event_id) for event_id in leads]],
        )
        joined: dict[str, dict[str, int]] = {}
        for lead, event_id, leaf in cursor.fetchall():
            joined.setdefault(str(lead), {})[str(event_id)] = leaf
    return {key: [_widened(finding, joined) for finding in findings] for key, findings in found.items()}


def _widened(finding: Finding, joined: dict[str, dict[str, int]]) -> Finding:
    events: dict[str, int] = {}
    for event_id, leaf in zip(finding.events, finding.leaves, strict=True):
        events |= {event_id: leaf} | joined.get(event_id, {})
    return replace(finding, events=tuple(events), leaves=tuple(events.values()))
