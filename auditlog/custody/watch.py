"""Watch: hold what is stored against what the log itself says, all the time and a little at once.

New leaves: does each earn its grade (earned.py), is each payload there (absence.py). All payloads, every few minutes.
Configuration: is it what the leaves state (configuration.py). What is found stays found until a person closes it:
whoever puts things back as they were has not undone having changed them.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice

from django.db import connection, transaction

from auditlog.core.finding import Finding
from auditlog.custody.earned import unearned
from auditlog.detection.findings.keep import keep_found
from auditlog.detectors import integrity
from auditlog.ledger.absence import destroyed
from auditlog.ledger.append import EPOCH
from auditlog.models import LogHead, Tenant, Watch
from auditlog.sources import configuration

AT_ONCE = 2_000  # leaves between two looks at the clock
SLICE = 0.5  # seconds of one look at a tenant
WHOLE = timedelta(minutes=10)  # between two looks at all payloads
MOST = 200  # findings of one look: what is wrong with more than these is wrong altogether


def watch(tenant: Tenant, *, now: datetime, for_at_most: float = SLICE) -> int:
    """One look at a tenant. Returns how many leaves it covered. Does nothing while somebody else is at it."""
    with transaction.atomic():
        state, _ = Watch.objects.get_or_create(tenant=tenant, defaults={"at": now - WHOLE})
        state = Watch.objects.select_for_update(skip_locked=True).filter(pk=state.pk).first()
        if state is None:
            return 0
        size, start, ends = (
            LogHead.objects.get(tenant=tenant, epoch=EPOCH).size,
            state.position,
            time.monotonic() + for_at_most,
        )
        if size < start:  # an older copy was put back
            state.position = start = 0
        while state.position < size and (state.position == start or time.monotonic() < ends):
            end = min(size, state.position + AT_ONCE)
            _look_at_leaves(tenant, state.position, end, now=now)
            state.position = end
        if not state.at <= now < state.at + WHOLE:
            _look_for_payloads(tenant, 0, size, now=now)
            state.at = now
        state.save()
    watch_configuration(tenant, now=now)
    return state.position - start


def watch_configuration(tenant: Tenant, *, now: datetime) -> None:
    """Rows that differ from their leaves: this tenant's, and of accounts, which every tenant's admins have to know."""
    found = [*configuration.differences(tenant).values(), *configuration.differences(None, fresh=False).values()]
    _keep(
        tenant,
        integrity.CONFIGURATION_CHANGED,
        [
            integrity.changed_finding(
                each.kind, each.id, words=each.words(), leaf_index=each.leaf_index, fields=each.fields, now=now
            )
            for each in found[:MOST]
        ],
        now=now,
    )


def _look_at_leaves(tenant: Tenant, start: int, end: int, *, now: datetime) -> None:
    wrong = list(islice(unearned(tenant, start, end), MOST))
    events = _events(tenant, [leaf.leaf_index for leaf in wrong])
    _keep(
        tenant,
        integrity.GRADE_UNEARNED,
        [
            integrity.unearned_finding(
                leaf.leaf_index, source=leaf.source, key=leaf.key, grade=leaf.grade, reason=leaf.reason,
                event_id=events.get(leaf.leaf_index), at=leaf.received_at,
            )
            for leaf in wrong
        ],
        now=now,
    )  # fmt: skip
    _look_for_payloads(tenant, start, end, now=now)


def _look_for_payloads(tenant: Tenant, start: int, end: int, *, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.kind FROM ledger_leaf l LEFT JOIN ledger_payload p ON p.tenant_id = l.tenant_id"
            " AND p.epoch = l.epoch"
            " AND p.leaf_index = l.leaf_index WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index >= %s AND"
            " l.leaf_index < %s"
            " AND p.leaf_index IS NULL ORDER BY l.leaf_index",
            [tenant.pk, EPOCH, start, end],
        )
        gone = destroyed(tenant, dict(cursor.fetchall()))[:MOST]
    events = _events(tenant, [absence.leaf_index for absence in gone])
    found = [integrity.destroyed_finding(absence, event_id=events.get(absence.leaf_index), now=now) for absence in gone]
    _keep(tenant, integrity.EVIDENCE_DESTROYED, found, now=now)


def _events(tenant: Tenant, leaves: list[int]) -> dict[int, str]:
    if not leaves:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT leaf_index, event_id::text FROM ledger_leaf WHERE tenant_id = %s AND epoch = %s AND leaf_index ="
            " ANY(%s)"
            " AND event_id IS NOT NULL",
            [tenant.pk, EPOCH, leaves],
        )
        return dict(cursor.fetchall())


def _keep(tenant: Tenant, rule: str, findings: Iterable[Finding], *, now: datetime) -> None:
    """What was found before keeps its first time, and is not written again."""
    keep_found(tenant, rule, integrity.VERSION, {finding.anchor: finding for finding in findings}, now=now)
