"""The demo: the story's sources in a tenant, and what was found held against what had to be."""

import os
from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from auditlog.core.amount import minor
from auditlog.models import Finding, Tenant
from auditlog.simulator.story import Story
from auditlog.sources.configure import add_organisation, add_source
from auditlog.sources.source_secrets import keep_source_secret


def configure_story(tenant: Tenant, story: Story, *, now: datetime) -> None:
    """Organisations with their names, and every source with its key."""
    for owner in story.owned_names:
        add_organisation(tenant, owner.organisation, issuers=[owner.issuer], owned_names=list(owner.names), now=now)
    owned = {owner.issuer for owner in story.owned_names}
    for spec in story.sources:
        if spec.issuer not in owned:  # so that the pages can say who gains by its own word
            add_organisation(tenant, spec.name, issuers=[spec.issuer], now=now)
        variable = ""
        if spec.secret:
            variable = f"ANSWERABLE_DEMO_{spec.name}".upper()
            os.environ[variable] = spec.secret
            keep_source_secret(variable, spec.secret.encode())
        add_source(
            tenant, spec.name, format=spec.format, issuer=spec.issuer, jwks=spec.jwks, secret_env=variable,
            provider=spec.provider or "", layers=list(spec.layers), speaks_for=list(spec.speaks_for), now=now,
        )  # fmt: skip


def settled(tenant: Tenant) -> bool:
    """Whether everything was projected and looked at, grace periods included."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT h.size = s.position AND s.position = s.detected AND NOT EXISTS"
            " (SELECT 1 FROM projection_dirty d WHERE d.tenant_id = h.tenant_id)"
            " FROM ledger_head h JOIN projection_state s ON s.tenant_id = h.tenant_id AND s.is_current"
            " WHERE h.tenant_id = %s",
            [tenant.pk],
        )
        return cursor.fetchone()[0]


def compare(story: Story, findings: Sequence[Finding], tenant: Tenant) -> list[str]:
    """What is missing and what is too much, in words; empty when the story was understood."""
    given = _source_ids(tenant, {event_id for finding in findings for event_id in finding.event_ids})
    wrong = []
    matched: set[int] = set()
    for expected in story.expected:
        principal = "|".join(expected.principal) if expected.principal else ""
        wanted = set(expected.jtis)
        fitting = [
            finding
            for finding in findings
            if finding.rule == expected.rule
            and finding.principal == principal
            and (not finding.event_ids or not wanted or {given.get(e) for e in finding.event_ids} & wanted)
        ]
        matched |= {finding.pk for finding in fitting}
        if not fitting:
            wrong.append(f"missing: {expected.rule} of {principal or 'nobody'}: {expected.why}")
        elif expected.count is not None and len(fitting) != expected.count:
            wrong.append(
                f"expected {expected.count} of {expected.rule} for {principal or 'nobody'}, found {len(fitting)}"
            )
    for spend in story.spends:
        found = _spent(tenant, "|".join(spend.principal), spend.provider, spend.currency)
        if found != (spend.amount_minor, spend.amount_minor):
            wrong.append(
                f"spend of {spend.principal[1]} at {spend.provider}: expected {spend.amount_minor}, found {found[0]} to {found[1]}: {spend.why}"
            )
    for finding in findings:
        party = tuple(finding.principal.split("|", 1)) if finding.principal else None
        if finding.pk not in matched and not story.allows(finding.rule, party):
            wrong.append(f"too much: {finding.rule} of {finding.principal or 'nobody'}: {finding.title}")
    return wrong


def _spent(tenant: Tenant, principal: str, provider: str, currency: str) -> tuple[int, int]:
    """What is certain to have been spent, and what at most, in minor units."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(spent), 0), coalesce(sum(at_most), 0) FROM projection_charge c JOIN projection_state s"
            " ON s.tenant_id = c.tenant_id AND s.generation = c.generation AND s.is_current"
            " WHERE c.tenant_id = %s AND principal = %s AND provider = %s AND currency = %s",
            [tenant.pk, principal, provider, currency],
        )
        low, most = cursor.fetchone()
        return minor(low), minor(most)


def _source_ids(tenant: Tenant, event_ids: set) -> dict:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT event_id, source_event_id FROM projection_event WHERE tenant_id = %s AND event_id = ANY(%s)",
            [tenant.pk, list(event_ids)],
        )
        return dict(cursor.fetchall())
