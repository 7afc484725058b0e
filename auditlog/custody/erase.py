"""Erase: a privacy duty that leaves its own trace. Payload and salt go, the leaf stays and stays provable.

The tombstone is appended and the payloads are deleted in one transaction, by the one database function that may; it
looks at legal holds itself, so no code path around this module can erase what is held. In the same transaction the
erased content leaves the projections (unproject.py), at the cost of what it touched, and findings lose what they told
of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, connection, transaction

from auditlog.core.errors import NotFound, NotPossible, Refused
from auditlog.ledger.append import EPOCH, append_note, identity
from auditlog.models import Hold, Leaf, LogHead, Payload, ProjectionState, Release, RetentionPolicy, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.projection.project import rebuild
from auditlog.projection.unproject import unproject
from auditlog.sources.configuration import refuse_unless_in_force

log = structlog.get_logger()
AT_ONCE = 1_000
OBJECT_IN_USE = "55006"  # SQLSTATE of ledger_erase when a hold covers the leaf


@dataclass(frozen=True, slots=True)
class Erased:
    tombstone: int
    count: int


def erase(tenant: Tenant, leaves: Sequence[int], *, who: str, why: str, policy: str, now: datetime) -> Erased:
    """Erase the payloads of event leaves. Raises NotPossible when one is under a legal hold; nothing is erased then."""
    erased = _bury(tenant, leaves, who=who, why=why, policy=policy, now=now)
    forget(tenant, now=now)
    return erased


def _bury(tenant: Tenant, leaves: Sequence[int], *, who: str, why: str, policy: str, now: datetime) -> Erased:
    """The erasure itself. A generation that an older version wrote cannot be told apart, and stays marked until
    `forget`.
    """
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
            # What projects, detects or rebuilds waits for these rows. Before the log's lock: a batch being projected
            # may hold
            # them for seconds, and appending must not wait for it.
            generations = ProjectionState.objects.filter(tenant=tenant)
            for state in generations.select_for_update().order_by("generation"):
                if state.has_mentions:
                    unproject(tenant, state, wanted)
            generations.filter(has_mentions=False).update(is_stale=True)
            tombstone = append_note(tenant, "tombstone", body, now=now)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FILTER (WHERE ledger_erase(%s, %s::smallint, leaf, %s)) FROM unnest(%s::bigint[])"
                    " leaf",
                    [tenant.pk, EPOCH, tombstone, wanted],
                )
                [count] = cursor.fetchone()
            _redact_findings(tenant, wanted)
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", "") == OBJECT_IN_USE:
            raise NotPossible(str(error.__cause__).splitlines()[0]) from None
        raise
    log.info("payloads erased", tenant=tenant.name, count=count, tombstone=tombstone, policy=policy)
    return Erased(tombstone, count)


def forget(tenant: Tenant, *, now: datetime) -> bool:
    """Build the projections anew as long as they may say what was erased. Returns False when another process is at it:
    beat comes back to it, as it does after whoever erased died before this.
    """
    while ProjectionState.objects.filter(tenant=tenant, is_current=True, is_stale=True).exists():
        try:
            rebuild(tenant, now=now)
        except Refused:
            return False
        _redact_findings(tenant)  # those that detection wrote meanwhile, of the old projections
    return True


def _redact_findings(tenant: Tenant, leaves: Sequence[int] | None = None) -> None:
    """Take out of findings what they tell of erased leaves: of these, or of any. What was found, by which rule, of
    which leaves and what people decided stays; who it was about goes when nothing that it rests on is left.
    """
    with connection.cursor() as cursor:
        cursor.execute(_REDACT, {"tenant": tenant.pk, "epoch": EPOCH, "leaves": leaves})
        cursor.execute(_REDACT_MEMBERS, {"tenant": tenant.pk, "epoch": EPOCH, "leaves": leaves})
        # Alerts on their way are put anew from what is left (alerts/send.py).
        cursor.execute(
            "UPDATE alert SET body = '' WHERE tenant_id = %s AND incident_id IS NOT NULL AND body <> ''", [tenant.pk]
        )
        cursor.execute(
            "UPDATE alert SET body = '' WHERE tenant_id = %s AND kind = 'summary' AND body <> ''", [tenant.pk]
        )


_REDACT = """
    UPDATE finding f SET title = 'Erased: what this rested on is gone, in whole or in part', evidence = jsonb_build_object('erased', r.gone),
        principal = CASE WHEN r.is_all THEN '' ELSE f.principal END, actor = CASE WHEN r.is_all THEN '' ELSE f.actor END,
        "grant" = CASE WHEN r.is_all THEN '' ELSE f."grant" END
    FROM (
      SELECT o.id, array_agg(o.leaf ORDER BY o.leaf) FILTER (WHERE p.raw IS NULL) AS gone, bool_and(p.raw IS NULL) AS is_all
      FROM (
        SELECT m.finding_id AS id, m.leaf_index AS leaf FROM finding_member m WHERE m.tenant_id = %(tenant)s
          AND (%(leaves)s::bigint[] IS NULL OR m.finding_id IN (
            SELECT n.finding_id FROM finding_member n WHERE n.tenant_id = %(tenant)s AND n.leaf_index = ANY(%(leaves)s::bigint[])))
        UNION
        SELECT s.id, leaf FROM finding s CROSS JOIN unnest(s.leaves) leaf WHERE s.tenant_id = %(tenant)s
          AND (%(leaves)s::bigint[] IS NULL OR s.leaves && %(leaves)s::bigint[])
      ) o
      LEFT JOIN ledger_payload p ON p.tenant_id = %(tenant)s AND p.epoch = %(epoch)s AND p.leaf_index = o.leaf
      GROUP BY o.id
    ) r
    WHERE f.id = r.id AND f.tenant_id = %(tenant)s AND r.gone IS NOT NULL AND f.evidence -> 'erased' IS DISTINCT FROM to_jsonb(r.gone)
"""
_REDACT_MEMBERS = """
    UPDATE finding_member m SET told = NULL, severity = NULL, late = NULL
    WHERE m.tenant_id = %(tenant)s AND m.told IS NOT NULL AND (%(leaves)s::bigint[] IS NULL OR m.leaf_index = ANY(%(leaves)s::bigint[]))
      AND NOT EXISTS (SELECT 1 FROM ledger_payload p WHERE p.tenant_id = m.tenant_id AND p.epoch = %(epoch)s
        AND p.leaf_index = m.leaf_index AND p.raw IS NOT NULL)
"""


@transaction.atomic
def hold(tenant: Tenant, *, first: int, last: int, who: str, reason: str, case: str = "", now: datetime) -> int:
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
    index = append_note(
        tenant, "release", {"change": "released", "hold": hold_leaf, "who": who, "why": reason}, now=now
    )
    Release.objects.create(tenant=tenant, epoch=EPOCH, leaf_index=index, hold_leaf=hold_leaf)
    return index


def held_now(tenant: Tenant) -> list[Hold]:
    """The holds that are in force, oldest first."""
    released = Release.objects.filter(tenant=tenant, epoch=EPOCH).values_list("hold_leaf", flat=True)
    return list(
        Hold.objects.filter(tenant=tenant, epoch=EPOCH).exclude(leaf_index__in=list(released)).order_by("leaf_index")
    )


def due(policy: RetentionPolicy, *, now: datetime) -> list[int]:
    """Leaves whose payload the policy has let go, oldest first: not erased yet, and under no hold.

    A policy of every type takes also what no longer parses and what was refused as a conflict; one of a single type the
    conflicts of the events that it takes, or that are erased already.
    """
    before = now - timedelta(days=policy.keep_days)
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"tenant": policy.tenant_id, "epoch": EPOCH, "type": policy.event_type, "before": before})
        rows = cursor.fetchall()
    conflicts = [(index, *its) for index, kind, *its in rows if kind == KIND_NUMBERS["conflict"] and policy.event_type]
    indexes = [index for index, kind, *_ in rows if kind != KIND_NUMBERS["conflict"] or not policy.event_type]
    return sorted([*indexes, *_of_these(policy.tenant, conflicts, set(indexes))])


_DUE = """
    SELECT l.leaf_index, l.kind, s.name, p.source_event_id FROM ledger_leaf l
    JOIN ledger_payload p USING (tenant_id, epoch, leaf_index) JOIN auditlog_source s ON s.id = l.source_id
    WHERE l.tenant_id = %(tenant)s AND l.epoch = %(epoch)s AND l.received_at < %(before)s AND l.event_id IS NOT NULL
      AND (%(type)s = '' OR l.kind = 2 OR EXISTS (
        SELECT 1 FROM projection_event e JOIN projection_state g ON g.tenant_id = e.tenant_id AND g.generation = e.generation
        WHERE g.is_current AND e.tenant_id = l.tenant_id AND e.event_id = l.event_id AND e.type = %(type)s))
      AND NOT EXISTS (
        SELECT 1 FROM ledger_hold h WHERE h.tenant_id = l.tenant_id AND h.epoch = l.epoch
        AND l.leaf_index BETWEEN h.first_leaf AND h.last_leaf AND NOT EXISTS (
          SELECT 1 FROM ledger_release r WHERE r.tenant_id = h.tenant_id AND r.epoch = h.epoch AND r.hold_leaf = h.leaf_index))
"""


def _of_these(tenant: Tenant, conflicts: Sequence[tuple[int, str, str]], going: set[int]) -> list[int]:
    """The conflicts whose event is among those going, or gone."""
    event_of = {index: identity(bytes(tenant.pepper), source, given) for index, source, given in conflicts}
    leaves = Leaf.objects.filter(tenant=tenant, epoch=EPOCH, event_id__in=set(event_of.values()))
    leaf_of = dict(leaves.values_list("event_id", "leaf_index"))
    there = set(
        Payload.objects.filter(tenant=tenant, epoch=EPOCH, leaf_index__in=leaf_of.values()).values_list(
            "leaf_index", flat=True
        )
    )
    return [index for index, event in event_of.items() if leaf_of[event] in going or leaf_of[event] not in there]


def retain(policy: RetentionPolicy, *, now: datetime) -> int:
    """Run a retention policy: erase what it has let go if it is armed, else only count it. Returns the number."""
    refuse_unless_in_force(policy.tenant, ("policy", policy.pk))
    indexes = due(policy, now=now)
    if policy.is_armed:
        for at in range(0, len(indexes), AT_ONCE):
            batch, why = indexes[at : at + AT_ONCE], f"kept for {policy.keep_days} days"
            try:
                _bury(policy.tenant, batch, who="retention", why=why, policy=policy.name, now=now)
            except NotPossible as held:  # by somebody who was quicker: the others of this batch go the next night
                log.warning("not erased", tenant=policy.tenant.name, policy=policy.name, reason=str(held))
                indexes = [index for index in indexes if index not in set(batch)]
        forget(policy.tenant, now=now)
    policy.last_run_at, policy.last_count = now, len(indexes)
    policy.save(update_fields=["last_run_at", "last_count"])
    return len(indexes)
