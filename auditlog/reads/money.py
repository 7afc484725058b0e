"""Money on record: spend, limits, ceilings, and what could still be charged."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from auditlog.core.chain.chain import NO_PATH
from auditlog.core.chain.statement import Statement, stated_by
from auditlog.core.errors import NotPossible
from auditlog.core.event import GrantObject
from auditlog.core.money.limits import LimitFact, Spent, Terms, restated_in_grants
from auditlog.core.money.money import CREDIT_RAIL, minor, whole
from auditlog.core.money.payment_authority import Ceiling
from auditlog.core.party import split_party
from auditlog.database.bulk import named_rows
from auditlog.models import Charge, Role, Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from auditlog.reads.acts import decode_payload
from auditlog.reads.chains import histories, paths_to


def spending_of(tenant: Tenant, principals: Collection[str]) -> list[Spent]:
    """Every line of the books in the principals' names, with the parties and grants it counts against, in time order."""
    return spending_where(tenant, "principal = ANY(%s)", [list(principals)]) if principals else []


def spending_in(tenant: Tenant, events: Collection[UUID]) -> list[Spent]:
    """The lines in somebody's name in which any of these statements is counted."""
    if not events:
        return []
    found = spending_where(tenant, "lead = ANY(%s) AND principal <> ''", [list(events)])
    joined = spending_where(tenant, "is_joined AND events && %s AND principal <> ''", [list(events)])
    return list({(s.event_id, s.book, s.currency, s.unit): s for s in (*found, *joined)}.values())


def spending_where(tenant: Tenant, condition: str, params: Sequence) -> list[Spent]:
    """Lines by a condition on `projection_charge`, in time order. Two queries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lead, leaf_index, at, provider, currency, spent, at_most, held, held_from, held_until, returned_at, returned_parts, rail,"
            ' principal, actor, payee, authority, "grant", session, task, project, events, book, charge FROM projection_charge'
            # A refund of what nobody told of was never spent: it fills no limit, and gives no room.
            f" WHERE tenant_id = %s AND generation = %s AND ({condition}) AND book <> 'returned' ORDER BY at, leaf_index",
            [tenant.pk, generation_of(tenant), *params],
        )
        rows = cursor.fetchall()
    paths = paths_to(tenant, {row[17] for row in rows})
    spent = []
    for (lead, leaf, at, provider, currency, low, most, held, held_from, held_until, back_at, back, rail, principal, actor, payee, authority,
         grant, *scope, events, book, unit) in rows:  # fmt: skip
        path = paths.get(grant, NO_PATH)
        spent.append(
            Spent(str(lead), leaf, at, provider, currency, whole(low), whole(held), rail, frozenset({principal, actor, *path.parties} - {""}),
                  frozenset(g.id for g in path.grants), *scope, frozenset(map(str, events)), whole(most),
                  tuple(zip(back_at, map(whole, back), strict=True)), held_from, held_until, payee, authority, book,
                  "" if unit.startswith("event:") else unit, principal, actor)
        )  # fmt: skip
    return spent


def limits_bound_to(tenant: Tenant, *, parties: Collection[str], grants: Collection[str]) -> list[LimitFact]:
    """What was said of limits that these parties hold, or that these grants carry, by sources that may say so or not."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT l.leaf_index, l.event_id, l.verb, l.holder, l."grant", l.scope, l.scope_id, l.provider, l.currency,'
            ' l."interval", l.zone, l.max_minor, l.enforcement, l.set_by, l.occurred_at, l.limit_id, l.session, l.task, l.project, l.counts,'
            " coalesce(e.issuer, ''), coalesce(e.actor, ''), '', coalesce(e.principal, '')"
            " FROM projection_limit l LEFT JOIN projection_event e ON e.tenant_id = l.tenant_id AND e.generation = l.generation"
            " AND e.event_id = l.event_id"
            ' WHERE l.tenant_id = %s AND l.generation = %s AND (l.holder = ANY(%s) OR (l."grant" = ANY(%s) AND l."grant" <> \'\'))'
            " ORDER BY l.leaf_index, l.position",
            [tenant.pk, generation_of(tenant), list(parties), list(grants)],
        )
        facts = [LimitFact(row[0], str(row[1]), *row[2:]) for row in cursor.fetchall()]
    in_grants = [fact for fact in facts if fact.verb == "grant"]
    wanted = {fact.grant for fact in in_grants}
    stated = {
        grant_id: stated_by(history) for grant_id, history in histories(tenant, wanted).items() if grant_id in wanted
    }
    versions, rivals = ({grant_id: [_terms(s) for s in said[n]] for grant_id, said in stated.items()} for n in (0, 1))
    return [*(fact for fact in facts if fact.verb != "grant"), *restated_in_grants(in_grants, versions, rivals)]


def _terms(statement: Statement[GrantObject]) -> Terms:
    return Terms(statement.event_id, statement.leaf_index, statement.at, statement.said.limits is not None)


def lines_with(tenant: Tenant, events: Collection[UUID]) -> list[Charge]:
    """Lines of the books in which any of these statements is counted, in order of time."""
    lines = Charge.objects.filter(tenant=tenant, generation=generation_of(tenant))
    found = {line.pk: line for line in lines.filter(lead__in=events)}
    found |= {line.pk: line for line in lines.filter(is_joined=True, events__overlap=list(events))}
    return sorted(found.values(), key=lambda line: (line.at, line.leaf_index, line.pk))


def ceilings_of(tenant: Tenant, authorities: Collection[str]) -> dict[str, tuple[Ceiling, ...]]:
    """By payment authority: its ceilings and its end, as sources say that may say so."""
    wanted = [authority for authority in authorities if authority]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT payment_authority, event_id, leaf_index, occurred_at, amount, currency, type, provider, principal, actor, issuer, detail"
            " FROM projection_event"
            " WHERE tenant_id = %s AND generation = %s AND payment_authority = ANY(%s) AND payment_authority <> '' AND within_remit"
            " AND environment = 'live' AND outcome = 'success' AND type IN ('payment.authority_granted', 'payment.authority_ended')"
            " ORDER BY occurred_at, leaf_index",
            [tenant.pk, generation_of(tenant), wanted],
        )
        rows = cursor.fetchall()
    found: dict[str, list[Ceiling]] = {}
    for authority, event_id, leaf, at, amount, currency, kind, provider, principal, actor, issuer, detail in rows:
        ended = kind.endswith("ended")
        limit = decode_payload(bytes(detail)).limit
        set_by = limit.set_by.key if limit and limit.set_by else actor
        found.setdefault(authority, []).append(
            Ceiling(authority, str(event_id), leaf, at, None if ended or amount is None else whole(amount), currency, ended,
                    limit.interval if limit else "once", provider, principal, set_by, issuer)
        )  # fmt: skip
    return {authority: tuple(said) for authority, said in found.items()}


SPENDERS = 1_000  # parties that spend under one payment authority; more would not make a raise clearer


def spenders_under(tenant: Tenant, authorities: Collection[str]) -> dict[tuple[str, str], frozenset[str]]:
    """By principal and payment authority: who spends under it."""
    wanted = [authority for authority in authorities if authority]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT principal, authority, actor FROM projection_charge WHERE tenant_id = %s AND generation = %s"
            " AND authority = ANY(%s) AND authority <> '' AND actor <> '' LIMIT %s",
            [tenant.pk, generation_of(tenant), wanted, SPENDERS * len(wanted)],
        )
        found: dict[tuple[str, str], set[str]] = {}
        for principal, authority, actor in cursor.fetchall():
            found.setdefault((principal, authority), set()).add(actor)
    return {key: frozenset(actors) for key, actors in found.items()}


# How far anybody answers for a charge: through a chain proven to its root, by a thing that an agent made, by somebody's
# word, or not at all. Of the event that leads its line.
STANDINGS = ("proven", "through the thing", "claimed", "nobody")


def standing_of(charge: str) -> str:
    """SQL for the standing of a charge, whose table is called so."""
    return f"""(
        SELECT CASE WHEN e.through IS NOT NULL THEN 'through the thing' WHEN e.chain_proven AND e.chain_complete THEN 'proven'
                    WHEN {charge}.principal <> '' OR {charge}.actor <> '' THEN 'claimed' ELSE 'nobody' END
        FROM (SELECT 1) one LEFT JOIN projection_event e
          ON e.tenant_id = {charge}.tenant_id AND e.generation = {charge}.generation AND e.event_id = {charge}.lead)"""


SPEND_KEYS = {
    "agent": "actor",
    "provider": "provider",
    "principal": "principal",
    "rail": "rail",
    "session": "session",
    "task": "task",
    "project": "project",
    "grant": '"grant"',
    "day": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "month": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM')",
    "standing": standing_of("c"),
}


def spend_by(
    viewer: Viewer,
    keys: Sequence[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    most: int | None = None,
) -> list[dict]:
    """Spend grouped by `keys` (of SPEND_KEYS), one row a currency: currencies are never added up. Credits apart.

    `spent_minor` is what is certain; `at_most_minor` is more where two statements are perhaps of the same money. Raises
    NotPossible where there are more rows than `most`.
    """
    columns = ", ".join(f"{SPEND_KEYS[key]} AS k{number}" for number, key in enumerate(keys))
    grouping = ", ".join(str(number + 1) for number in range(len(keys) + 2))
    conditions = ["tenant_id = %s", "generation = %s", "has_spend"]
    params: list = [viewer.tenant.pk, generation_of(viewer.tenant)]
    for condition, value in (("at >= %s", since), ("at < %s", until)):
        if value is not None:
            conditions.append(condition)
            params.append(value)
    if viewer.role == Role.ABUSE:
        conditions.append("provider = %s")
        params.append(viewer.provider)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns + ', ' if columns else ''}currency, rail = '{CREDIT_RAIL}', sum(spent), sum(at_most), sum(returned), count(*)"
            f" FROM projection_charge c WHERE {' AND '.join(conditions)} GROUP BY {grouping} ORDER BY {grouping} LIMIT %s",
            [*params, most + 1 if most is not None else None],
        )
        rows = cursor.fetchall()
    if most is not None and len(rows) > most:
        raise NotPossible(f"{' by '.join(keys)}: more than {most:,} groups. Ask for a shorter time, or for fewer keys.")
    return [
        dict(zip(keys, row[: len(keys)], strict=True))
        | {
            "currency": row[-6],
            "credits": row[-5],
            "spent_minor": minor(row[-4]),
            "at_most_minor": minor(row[-3]),
            "returned_minor": minor(row[-2]),
            "charges": row[-1],
        }
        for row in rows
    ]


def exposure_facts(viewer: Viewer) -> tuple[list[tuple], list[tuple], list[tuple]]:
    """What exposure over time is made of: ceilings (authority, currency, amount, at, ended), uses of them (authority,
    currency, amount, at), holds (authority, currency, amount, opened, closed: as the books have them). Live and successful
    statements only.
    """
    only = " AND provider = %(provider)s" if viewer.role == Role.ABUSE else ""
    params = {
        "tenant": viewer.tenant.pk,
        "generation": generation_of(viewer.tenant),
        "provider": viewer.provider,
    }
    base = (
        "FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND environment = 'live'"
        f" AND outcome = 'success'{only}"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH ended AS (SELECT payment_authority, min(occurred_at) AS at"
            f" {base} AND type = 'payment.authority_ended' AND payment_authority <> '' GROUP BY 1)"
            " SELECT g.payment_authority, g.currency, g.amount_minor, g.occurred_at, ended.at FROM"
            " (SELECT payment_authority, upper(currency) AS currency, max(amount_minor) AS amount_minor,"
            f" min(occurred_at) AS occurred_at {base} AND type = 'payment.authority_granted'"
            " AND amount_minor IS NOT NULL GROUP BY 1, 2) g LEFT JOIN ended USING (payment_authority)",
            params,
        )
        ceilings = cursor.fetchall()
        cursor.execute(
            "SELECT payment_authority, upper(currency), max(amount_minor), min(occurred_at)"
            f" {base} AND payment_authority = ANY(%(authorities)s) AND phase IN ('captured', 'settled')"
            " AND payment_authority <> '' GROUP BY payment_authority, upper(currency), rail,"
            " CASE WHEN charge = '' THEN event_id::text ELSE charge END",
            params | {"authorities": [row[0] for row in ceilings]},
        )
        uses = cursor.fetchall()
        cursor.execute(
            "SELECT authority, currency, held, held_from, held_until FROM projection_charge"
            f" WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND held > 0 AND held_from IS NOT NULL{only}",
            params,
        )
        holds = [
            (authority, currency, minor(held), opened, closed)
            for authority, currency, held, opened, closed in cursor.fetchall()
        ]
    return ceilings, uses, holds


def limits_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    """What was said of limits, oldest first. The cursor is `leaf-position`."""
    leaf, _, position = (after or "-1-0").rpartition("-")
    rows = named_rows(
        "SELECT leaf_index || '-' || position AS cursor, leaf_index, event_id AS event, verb, holder, nullif(\"grant\", '')"
        " AS \"grant\", scope, nullif(scope_id, '') AS scope_id, nullif(provider, '') AS provider, currency, \"interval\","
        " nullif(zone, '') AS zone, max_minor, enforcement, set_by, occurred_at FROM projection_limit"
        " WHERE tenant_id = %s AND generation = %s AND (leaf_index, position) > (%s, %s)"
        " ORDER BY leaf_index, position LIMIT %s",
        [tenant.pk, generation_of(tenant), _number(leaf), _number(position), size],
    )
    for row in rows:
        row |= {"holder": split_party(row["holder"]), "set_by": split_party(row["set_by"])}
    return rows


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1
