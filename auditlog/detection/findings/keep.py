"""Keep what the rules find: upserted by (rule, anchor), with its members as rows; what lost its ground is withdrawn.

A finding that comes back is open again; one that people have judged keeps their judgement.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from auditlog.core.amount import minor
from auditlog.core.chain.act import Act
from auditlog.core.finding import Finding
from auditlog.database.bulk import copy_rows
from auditlog.database.policies import policies_of
from auditlog.detectors import sources_disagree
from auditlog.detectors.base import Detector
from auditlog.models import Finding as FindingRow
from auditlog.models import Tenant
from auditlog.models.findings import SHOWN

_collected: ContextVar[list[Finding] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[list[Finding]]:
    """For who judges without keeping anything (a back-test): what would be kept is given instead."""
    found: list[Finding] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def collected(findings: Iterable[Finding]) -> bool:
    """Whether findings are collected, and not kept."""
    if (into := _collected.get()) is None:
        return False
    into += findings
    return True


def followed(tenant: Tenant, rule: str, findings: Sequence[Finding], *, now: datetime) -> list[Finding]:
    """What the tenant's policy of the rule leaves of what it found. What it makes silent is withdrawn by the policy's leaf."""
    policy = policies_of(tenant).get(rule)
    if policy is None or not findings:
        return list(findings)
    kept = policy.kept(findings, now=now)
    silent = {each.anchor for each in findings} - {each.anchor for each in kept}
    if silent and _collected.get() is None:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE finding SET state = 'withdrawn', withdrawn_by_leaf = %s WHERE tenant_id = %s AND rule = %s"
                " AND anchor = ANY(%s) AND state IN ('open', 'acknowledged')",
                [policy.leaf_index, tenant.pk, rule, list(silent)],
            )
    return kept


def keep(
    tenant: Tenant, detector: Detector, found: dict[tuple[str, ...], list[Finding]], *, withdrawn_by: int, now: datetime
) -> None:
    """Keep what a detector found for these keys of its partition. One rule may have several partitions."""
    named = {(*detector.partition, *key): findings for key, findings in found.items()}
    keep_keys(tenant, detector.rule, detector.version, named, withdrawn_by=withdrawn_by, now=now)


def keep_found(tenant: Tenant, rule: str, version: int, found: Mapping[str, Finding], *, now: datetime) -> None:
    """Keep findings by their anchors that no later look takes back: those that stand already are left as they are."""
    if not found:
        return
    stand = set(
        FindingRow.objects.filter(tenant=tenant, rule=rule, anchor__in=list(found))
        .exclude(state="withdrawn")
        .values_list("anchor", flat=True)
    )
    new = {(anchor,): [finding] for anchor, finding in found.items() if anchor not in stand}
    with transaction.atomic():
        keep_keys(tenant, rule, version, new, withdrawn_by=0, now=now)


def keep_keys(
    tenant: Tenant,
    rule: str,
    version: int,
    found: Mapping[tuple[str, ...], Sequence[Finding]],
    *,
    withdrawn_by: int,
    now: datetime,
) -> None:
    """Upsert what was found for these keys of one rule, and withdraw what was found for them before and is not now."""
    if not found:
        return
    all_ = [finding for findings in found.values() for finding in findings]
    left = {each.anchor: each for each in followed(tenant, rule, all_, now=now)}
    if collected(left.values()):
        return
    rows = [
        (json.dumps(key), left[finding.anchor])
        for key, findings in found.items()
        for finding in findings
        if finding.anchor in left
    ]
    upsert(tenant, version, rows, now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE finding SET state = 'withdrawn', withdrawn_by_leaf = %s WHERE tenant_id = %s AND rule = %s"
            " AND partition = ANY(%s) AND anchor <> ALL(%s) AND state IN ('open', 'acknowledged')",
            [withdrawn_by, tenant.pk, rule, [json.dumps(key) for key in found], [f.anchor for _, f in rows]],
        )


def keep_events(
    tenant: Tenant,
    judged: Sequence[tuple[Detector, Sequence[Act], Sequence[Finding]]],
    *,
    withdrawn_by: int,
    now: datetime,
) -> None:
    """Keep what was found of single events, and withdraw what was found of any of them before and is not now."""
    judged = [(by, acts, followed(tenant, by.rule, found, now=now)) for by, acts, found in judged]
    if collected(each for _, _, found in judged for each in found):
        return
    leaves = list({act.leaf_index for _, acts, _ in judged for act in acts})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT f.rule, f.anchor, f.id, m.leaf_index FROM finding_member m JOIN finding f ON f.id = m.finding_id AND f.tenant_id = m.tenant_id"
            " WHERE m.tenant_id = %s AND m.leaf_index = ANY(%s) AND f.rule = ANY(%s) AND f.state IN ('open', 'acknowledged')",
            [tenant.pk, leaves, [detector.rule for detector, _, _ in judged]],
        )
        standing = cursor.fetchall()
        gone: list[int] = []
        for detector, acts, found in judged:
            upsert(tenant, detector.version, [(json.dumps(("event_id", f.events[0])), f) for f in found], now=now)
            anchors, mine = {f.anchor for f in found}, {act.leaf_index for act in acts}
            gone += [
                pk
                for rule, anchor, pk, leaf in standing
                if rule == detector.rule and leaf in mine and anchor not in anchors
            ]
        if gone:
            cursor.execute(
                "UPDATE finding SET state = 'withdrawn', withdrawn_by_leaf = %s WHERE tenant_id = %s AND id = ANY(%s)",
                [withdrawn_by, tenant.pk, gone],
            )


def keep_among(
    tenant: Tenant,
    detectors: Iterable[Detector],
    found: Sequence[tuple[Detector, Finding]],
    standing: Collection[int],
    *,
    withdrawn_by: int,
    now: datetime,
) -> None:
    """Upsert what was found, and withdraw those of the standing findings (by id) that were not found again."""
    kept: set[int] = set()
    for detector in detectors:
        mine = followed(tenant, detector.rule, [finding for by, finding in found if by is detector], now=now)
        if collected(mine):
            continue
        rows = [(json.dumps((*detector.partition, finding.principal or "")), finding) for finding in mine]
        kept |= set(upsert(tenant, detector.version, rows, now=now))
    if _collected.get() is None and (gone := set(standing) - kept):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE finding SET state = 'withdrawn', withdrawn_by_leaf = %s WHERE tenant_id = %s AND id = ANY(%s)"
                " AND state IN ('open', 'acknowledged')",
                [withdrawn_by, tenant.pk, list(gone)],
            )


def upsert(tenant: Tenant, version: int, rows: Sequence[tuple[str, Finding]], *, now: datetime) -> list[int]:
    """Keep findings, each with the key that it came from as JSON. Returns their ids, in order."""
    ids = []
    members: dict[int, list[tuple[int, UUID | None]]] = {}
    for partition, finding in rows:
        told = _members(finding)
        total = len(told) if len(finding.events) == len(finding.leaves) else len(finding.events)
        finding_id = write_finding(tenant, version, json.loads(partition), finding, total=total, now=now)
        ids.append(finding_id)
        members[finding_id] = list(told.items())
    _write_members(tenant, members)
    return ids


def _members(finding: Finding) -> dict[int, UUID | None]:
    """By leaf, its event. What the road itself saw rests on leaves that are no events, and names events that are elsewhere."""
    of_the_road = finding.rule.startswith("integrity.") and finding.rule != sources_disagree.rule
    if of_the_road or len(finding.events) != len(finding.leaves):
        return dict.fromkeys(finding.leaves)
    return dict(zip(finding.leaves, map(UUID, finding.events), strict=True))


def write_finding(
    tenant: Tenant,
    version: int,
    key: Sequence[str],
    finding: Finding,
    *,
    total: int,
    now: datetime,
    shown: Sequence[tuple[int, UUID]] | None = None,
) -> int:
    """Upsert one finding without its members: `total` in number, the first of which are `shown`. Returns its id."""
    if shown is None:
        leaves, events = list(finding.leaves[:SHOWN]), [UUID(event_id) for event_id in finding.events[:SHOWN]]
    else:
        leaves, events = [leaf for leaf, _ in shown], [event_id for _, event_id in shown]
    with connection.cursor() as cursor:
        cursor.execute(
            _KEEP,
            {
                "tenant": tenant.pk,
                "rule": finding.rule,
                "version": version,
                "anchor": finding.anchor,
                "partition": json.dumps(key),
                "severity": finding.severity,
                "title": finding.title,
                "principal": finding.principal or "",
                "actor": finding.actor or "",
                "grant": finding.grant or "",
                "provider": finding.provider or "",
                "event_ids": events,
                "leaves": leaves,
                "total": total,
                "money": None if finding.money_at_risk_minor is None else minor(finding.money_at_risk_minor),
                "currency": finding.currency or "",
                "first_at": finding.first_at,
                "last_at": finding.last_at,
                "now": now,
                # Amounts below a minor unit are rounded only here.
                "evidence": json.dumps(finding.evidence, default=minor),
            },
        )
        [finding_id] = cursor.fetchone()
    return finding_id


def _write_members(tenant: Tenant, members: Mapping[int, Sequence[tuple[int, UUID | None]]]) -> None:
    """Add what is new behind what there is; where the order is another one, all are written anew."""
    if not members:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT finding_id, array_agg(leaf_index ORDER BY place, leaf_index) FROM finding_member WHERE tenant_id = %s AND finding_id = ANY(%s)"
            " GROUP BY finding_id",
            [tenant.pk, list(members)],
        )
        there = dict(cursor.fetchall())
        is_prefix = {
            finding: there.get(finding, []) == [leaf for leaf, _ in many[: len(there.get(finding, ()))]]
            for finding, many in members.items()
        }
        if anew := [finding for finding, fits in is_prefix.items() if not fits]:
            cursor.execute(
                "DELETE FROM finding_member WHERE tenant_id = %s AND finding_id = ANY(%s)", [tenant.pk, anew]
            )
    rows = [
        (tenant.pk, finding, leaf, event_id, place)
        for finding, many in members.items()
        for place, (leaf, event_id) in enumerate(many)
        if not is_prefix[finding] or place >= len(there.get(finding, ()))
    ]
    if rows:
        types = {"tenant_id": "int8", "finding_id": "int8", "leaf_index": "int8", "event_id": "uuid", "place": "int8"}
        copy_rows("finding_member", types, rows)


def standing_with(tenant: Tenant, rules: Collection[str], leaves: Collection[int]) -> dict[int, list[int]]:
    """Findings of these rules that rest on any of these leaves, with all leaves that they rest on."""
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, {"tenant": tenant.pk, "rules": list(rules), "leaves": list(leaves)})
        return dict(cursor.fetchall())


_STANDING = """
    SELECT f.id, array_agg(a.leaf_index) FROM finding f JOIN finding_member a ON a.finding_id = f.id AND a.tenant_id = f.tenant_id
    WHERE f.tenant_id = %(tenant)s AND f.rule = ANY(%(rules)s) AND f.state <> 'withdrawn' AND f.id IN (
        SELECT m.finding_id FROM finding_member m WHERE m.tenant_id = %(tenant)s AND m.leaf_index = ANY(%(leaves)s))
    GROUP BY f.id
"""
_KEEP = """
    INSERT INTO finding AS f (tenant_id, rule, rule_version, anchor, partition, severity, state, title, principal, actor,
        "grant", provider, event_ids, leaves, events_total, money_at_risk_minor, currency, first_at, last_at, detected_at, evidence)
    VALUES (%(tenant)s, %(rule)s, %(version)s, %(anchor)s, %(partition)s, %(severity)s, 'open', %(title)s, %(principal)s,
        %(actor)s, %(grant)s, %(provider)s, %(event_ids)s, %(leaves)s, %(total)s, %(money)s, %(currency)s, %(first_at)s,
        %(last_at)s, %(now)s, %(evidence)s)
    ON CONFLICT ON CONSTRAINT finding_once DO UPDATE SET
        rule_version = excluded.rule_version, partition = excluded.partition, severity = excluded.severity,
        title = excluded.title, principal = excluded.principal, actor = excluded.actor, "grant" = excluded."grant",
        provider = excluded.provider, event_ids = excluded.event_ids, leaves = excluded.leaves,
        events_total = excluded.events_total,
        money_at_risk_minor = excluded.money_at_risk_minor, currency = excluded.currency,
        first_at = excluded.first_at, last_at = excluded.last_at, evidence = excluded.evidence,
        state = CASE WHEN f.state = 'withdrawn' THEN 'open' ELSE f.state END, withdrawn_by_leaf = NULL
    RETURNING f.id
"""
