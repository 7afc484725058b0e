"""Erase: a privacy duty that leaves its own trace. Payload and salt go, the leaf stays and stays provable.

The tombstone is appended and the payloads are deleted in one transaction, by the one database function that may; it
looks at legal holds itself, so no code path around this module can erase what is held. Projections are rebuilt from
what is left, which is how the erased content leaves them too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, connection, transaction

from auditlog.append import EPOCH, append_note
from auditlog.core.errors import NotFound, NotPossible
from auditlog.models import Hold, Leaf, LogHead, Release, RetentionPolicy, Tenant
from auditlog.project import rebuild

log = structlog.get_logger()
AT_ONCE = 1_000
OBJECT_IN_USE = "55006"  # SQLSTATE of ledger_erase when a hold covers the leaf


@dataclass(frozen=True, slots=True)
class Erased:
    tombstone: int
    count: int


def erase(tenant: Tenant, leaves: Sequence[int], *, who: str, why: str, policy: str, now: datetime) -> Erased:
    """Erase the payloads of event leaves. Raises NotPossible when one is under a legal hold; nothing is erased then."""
    if not why.strip():
        raise NotPossible("an erasure needs a reason: it stands in the log for ever")
    wanted = sorted(set(leaves))
    if not wanted or len(wanted) > AT_ONCE:
        raise NotPossible(f"expected 1 to {AT_ONCE:,} leaves, found {len(wanted):,}")
    known = set(
        Leaf.objects.filter(tenant=tenant, epoch=EPOCH, leaf_index__in=wanted, event_id__isnull=False).values_list(
            "leaf_index", flat=True
        )
    )
    if missing := [index for index in wanted if index not in known]:
        raise NotFound(f"leaf {missing[0]} is no event of this log")
    body = {"change": "erased", "leaves": wanted, "who": who, "why": why, "policy": policy}
    try:
        with transaction.atomic():
            tombstone = append_note(tenant, "tombstone", body, now=now)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FILTER (WHERE ledger_erase(%s, %s::smallint, leaf, %s)) FROM unnest(%s::bigint[]) leaf",
                    [tenant.pk, EPOCH, tombstone, wanted],
                )
                [count] = cursor.fetchone()
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", "") == OBJECT_IN_USE:
            raise NotPossible(str(error.__cause__).splitlines()[0]) from None
        raise
    rebuild(tenant, now=now)
    log.info("payloads erased", tenant=tenant.name, count=count, tombstone=tombstone, policy=policy)
    return Erased(tombstone, count)


@transaction.atomic
def hold(
    tenant: Tenant, *, first: int, last: int, who: str, reason: str, case: str = "", now: datetime
) -> int:
    """Put leaves [first, last] under a legal hold. Returns the hold's leaf, which is also its name."""
    head = LogHead.objects.select_for_update().get(tenant=tenant, epoch=EPOCH)
    if not 0 <= first <= last < head.size:
        raise NotPossible(f"expected leaves between 0 and {head.size - 1}, found {first} to {last}")
    if not reason.strip():
        raise NotPossible("a hold needs a reason")
    body = {"change": "held", "first": first, "last": last, "case": case, "who": who, "why": reason}
    index = append_note(tenant, "hold", body, now=now)
    Hold.objects.create(
        tenant=tenant, epoch=EPOCH, leaf_index=index, first_leaf=first, last_leaf=last, case=case, reason=reason
    )
    return index


@transaction.atomic
def release(tenant: Tenant, hold_leaf: int, *, who: str, reason: str, now: datetime) -> int:
    """End a hold. Returns the release's leaf. Raises NotFound or NotPossible."""
    LogHead.objects.select_for_update().get(tenant=tenant, epoch=EPOCH)
    if not Hold.objects.filter(tenant=tenant, epoch=EPOCH, leaf_index=hold_leaf).exists():
        raise NotFound(f"leaf {hold_leaf} is no hold")
    if Release.objects.filter(tenant=tenant, epoch=EPOCH, hold_leaf=hold_leaf).exists():
        raise NotPossible(f"the hold of leaf {hold_leaf} was released already")
    if not reason.strip():
        raise NotPossible("a release needs a reason")
    index = append_note(tenant, "release", {"change": "released", "hold": hold_leaf, "who": who, "why": reason}, now=now)
    Release.objects.create(tenant=tenant, epoch=EPOCH, leaf_index=index, hold_leaf=hold_leaf)
    return index


def held_now(tenant: Tenant) -> list[Hold]:
    """The holds that are in force, oldest first."""
    released = Release.objects.filter(tenant=tenant, epoch=EPOCH).values_list("hold_leaf", flat=True)
    return list(Hold.objects.filter(tenant=tenant, epoch=EPOCH).exclude(leaf_index__in=list(released)).order_by("leaf_index"))


def due(policy: RetentionPolicy, *, now: datetime, limit: int | None = AT_ONCE) -> list[int]:
    """Leaves whose payload the policy has let go, oldest first: not erased yet, and under no hold."""
    sql = """
        SELECT e.leaf_index FROM projection_event e
        JOIN projection_state s ON s.tenant_id = e.tenant_id AND s.generation = e.generation AND s.is_current
        JOIN ledger_payload p ON p.tenant_id = e.tenant_id AND p.epoch = %(epoch)s AND p.leaf_index = e.leaf_index
        WHERE e.tenant_id = %(tenant)s AND e.received_at < %(before)s AND (%(type)s = '' OR e.type = %(type)s)
          AND NOT EXISTS (
            SELECT 1 FROM ledger_hold h WHERE h.tenant_id = e.tenant_id AND h.epoch = %(epoch)s
            AND e.leaf_index BETWEEN h.first_leaf AND h.last_leaf AND NOT EXISTS (
              SELECT 1 FROM ledger_release r WHERE r.tenant_id = h.tenant_id AND r.epoch = h.epoch AND r.hold_leaf = h.leaf_index))
        ORDER BY e.leaf_index LIMIT %(limit)s
    """
    with connection.cursor() as cursor:
        cursor.execute(
            sql,
            {"tenant": policy.tenant_id, "epoch": EPOCH, "type": policy.event_type, "limit": limit,
             "before": now - timedelta(days=policy.keep_days)},
        )  # fmt: skip
        return [index for (index,) in cursor.fetchall()]


def retain(policy: RetentionPolicy, *, now: datetime) -> int:
    """Run a retention policy: erase what it has let go if it is armed, else only count it. Returns the number."""
    indexes = due(policy, now=now, limit=None)
    if policy.is_armed:
        for at in range(0, len(indexes), AT_ONCE):
            erase(
                policy.tenant, indexes[at : at + AT_ONCE], who="retention",
                why=f"kept for {policy.keep_days} days", policy=policy.name, now=now,
            )  # fmt: skip
    policy.last_run_at, policy.last_count = now, len(indexes)
    policy.save(update_fields=["last_run_at", "last_count"])
    return len(indexes)
