"""First acts of their kind that nobody asked for by name: each that counts is kept as a row under its kind, so that which one
came first costs one look at an index, however many there are.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

from django.db import connection

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.database.bulk import copy_rows
from auditlog.detection.findings.keep import keep_keys
from auditlog.detection.past import leaves_answered
from auditlog.detectors import unforeseen
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts
from auditlog.reads.record import answered, answers_about, with_what_they_pay_for

_COLUMNS = {"tenant_id": "int8", "generation": "int4", "leaf_index": "int8", "kind": "uuid", "at": "timestamptz"}


def judge_unforeseen(tenant: Tenant, changed: Sequence[Act], *, withdrawn_by: int, now: datetime) -> None:
    """Judge the kinds of the acts that are new or changed, and of those that an answer may be about."""
    acts = {act.leaf_index: act for act in changed if unforeseen.is_final(act)}
    known = [act.leaf_index for act in changed if act.type in unforeseen.types]
    answers = [act for act in changed if act.type == "approval.decided"]
    if told := leaves_answered(tenant, answers, types=unforeseen.types) - acts.keys() if answers else set():
        acts |= {act.leaf_index: act for act in select_acts(tenant, "leaf_index = ANY(%s)", [list(told)])}
        known += told
    unasked = _unasked(tenant, [acts[leaf] for leaf in sorted(acts)])
    _judge(tenant, _keep(tenant, known, unasked), withdrawn_by=withdrawn_by, now=now)


def judge_kept(tenant: Tenant, acts: Sequence[Act], *, now: datetime) -> None:
    """Judge the kinds of these acts as they are kept, and keep nothing anew."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT kind FROM projection_unasked WHERE tenant_id = %s AND generation = %s AND leaf_index = ANY(%s)",
            [tenant.pk, generation_of(tenant), [act.leaf_index for act in acts]],
        )
        kinds = {kind for (kind,) in cursor.fetchall()}
    _judge(tenant, kinds, withdrawn_by=0, now=now)


def _judge(tenant: Tenant, kinds: Collection[UUID], *, withdrawn_by: int, now: datetime) -> None:
    if kinds:
        found = {
            (str(kind),): [unforeseen.finding_of(act)] if act else [] for kind, act in _first(tenant, kinds).items()
        }
        keep_keys(tenant, unforeseen.rule, unforeseen.version, found, withdrawn_by=withdrawn_by, now=now)


def _unasked(tenant: Tenant, acts: Sequence[Act]) -> list[Act]:
    asking = [act for act in acts if unforeseen.is_unasked(act, Record())]  # by grant and intent alone
    if not asking:
        return []
    around, siblings = with_what_they_pay_for(tenant, asking)
    told = [*around, *siblings]
    record = Record(**answered(tenant, told, answers_about(tenant, told)) | {"siblings": tuple(siblings)})
    return [act for act in asking if unforeseen.is_unasked(act, record)]


def _kind(act: Act) -> UUID:
    return UUID(bytes=blake2b(json.dumps(unforeseen.kind_of(act)).encode(), digest_size=16).digest())


def _keep(tenant: Tenant, known: Collection[int], unasked: Sequence[Act]) -> set[UUID]:
    """Write what is unasked, over what was kept of these leaves before. Returns the kinds in which something has changed."""
    rows = {act.leaf_index: (_kind(act), act.occurred_at) for act in unasked}
    before: dict[int, tuple[UUID, datetime]] = {}
    if known:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM projection_unasked WHERE tenant_id = %s AND generation = %s AND leaf_index = ANY(%s)"
                " RETURNING leaf_index, kind, at",
                [tenant.pk, generation_of(tenant), list(known)],
            )
            before = {leaf: (kind, at) for leaf, kind, at in cursor.fetchall()}
    if rows:
        copy_rows(
            "projection_unasked",
            _COLUMNS,
            ((tenant.pk, generation_of(tenant), leaf, *row) for leaf, row in rows.items()),
        )
    return {row[0] for row in (*rows.values(), *before.values())}


def _first(tenant: Tenant, kinds: Collection[UUID]) -> dict[UUID, Act | None]:
    """Of each kind the first act; None where none is left."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, {"tenant": tenant.pk, "generation": generation_of(tenant), "kinds": list(kinds)})
        leaf_of = dict(cursor.fetchall())
    acts = {act.leaf_index: act for act in select_acts(tenant, "leaf_index = ANY(%s)", [list(leaf_of.values())])}
    return {kind: acts.get(leaf_of.get(kind, -1)) for kind in kinds}


_FIRST = """
    SELECT k.kind, o.leaf_index FROM unnest(%(kinds)s::uuid[]) AS k(kind) CROSS JOIN LATERAL (
        SELECT u.leaf_index FROM projection_unasked u WHERE u.tenant_id = %(tenant)s AND u.generation = %(generation)s AND u.kind = k.kind
        ORDER BY u.at, u.leaf_index LIMIT 1) o
"""
