"""Parties, the organisations that answer for them, and the sources that speak."""

from collections.abc import Collection

from django.db import connection

from auditlog.core import party as kinds
from auditlog.core.chain.organisation import Organisations
from auditlog.core.chain.record import Owned
from auditlog.core.party import split_party
from auditlog.database.bulk import named_rows
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.sources.configuration import in_force, refuse_if_judgement_differs


def kinds_of(tenant: Tenant, generation: int, parties: Collection[str]) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, kinds FROM projection_party WHERE tenant_id = %s AND generation = %s AND key = ANY(%s)",
            [tenant.pk, generation, list(parties)],
        )
        return {key: kinds.kind_of(mask) for key, mask in cursor.fetchall()}


def owned_names(tenant: Tenant) -> tuple[Owned, ...]:
    """The names and marks that organisations own, by name."""
    owned = [
        Owned(name, row["name"], frozenset(row["issuers"]), frozenset(row["parties"]))
        for row in in_force(tenant, "organisation").values()
        for name in row["names"]
    ]
    return tuple(sorted(owned, key=lambda one: one.name))


def organisations_of(tenant: Tenant) -> Organisations:
    """Who answers for whom, as configured and published. Where two organisations claim one issuer, the first by name has it. Raises
    ConfigurationDiffers where that is not what the log states.
    """
    refuse_if_judgement_differs(tenant)
    organisations, told = in_force(tenant, "organisation"), in_force(tenant, "source").values()
    rows = sorted(((o["name"], o["issuers"], o["parties"]) for o in organisations.values()), reverse=True)
    sources = [(s["issuer"], s["provider"], organisations.get(s["organisation_id"], {}).get("name")) for s in told]
    speakers: dict[str, set[str]] = {}
    for issuer, provider, _ in sources:
        if provider:
            speakers.setdefault(provider, set()).add(issuer)
    return Organisations(
        {issuer: name for issuer, _, name in sources if name}
        | {issuer: name for name, issuers, _ in rows for issuer in issuers},
        {key: name for name, _, parties in rows for key in parties},
        {provider: frozenset(issuers) for provider, issuers in speakers.items()},
    )


def remits_of(tenant: Tenant) -> dict[str, frozenset[str]]:
    """By source: the issuers that it is confined to."""
    rows = in_force(tenant, "source").values()
    return {row["name"]: frozenset(row["speaks_for"]) for row in rows if row["speaks_for"]}


def parties_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    rows = named_rows(
        "SELECT key AS cursor, kinds, first_at, last_at FROM projection_party"
        " WHERE tenant_id = %s AND generation = %s AND key > %s ORDER BY key LIMIT %s",
        [tenant.pk, generation_of(tenant), after, size],
    )
    return [
        {"cursor": r["cursor"], **split_party(r["cursor"]), "kind": kinds.kind_of(r["kinds"]),
         "first_at": r["first_at"], "last_at": r["last_at"]}
        for r in rows
    ]  # fmt: skip


def sources_page(tenant: Tenant) -> list[dict]:
    """Every source, what it may speak for, its keys, and when it was last heard."""
    rows = named_rows(
        "SELECT s.name, s.format, s.issuer, nullif(s.provider, '') AS provider, s.layers, s.speaks_for, s.state, s.heartbeat_seconds,"
        " (SELECT array_agg(k.kid ORDER BY k.id) FROM auditlog_sourcekey k WHERE k.source_id = s.id AND k.retired_at IS NULL)"
        " AS keys, (SELECT a.received_at FROM projection_source a WHERE a.tenant_id = s.tenant_id AND a.generation = %s"
        " AND a.source = s.name) AS last_received_at"
        " FROM auditlog_source s WHERE s.tenant_id = %s ORDER BY s.name",
        [generation_of(tenant), tenant.pk],
    )
    return [row | {"keys": row["keys"] or []} for row in rows]
