"""What a rule finds of single events that have one cause is one finding, which grows by what comes (detectors.gathered).

What was found of each event is kept with its member, so that a member that is new, changed or gone costs what it costs
alone: the finding tells of the worst, which is looked up, and of sums, which are added to. Only where a member goes or
changes are all of them counted again, by the database.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from psycopg.types.json import Jsonb

from auditlog.core.amount import minor
from auditlog.core.finding import SEVERITIES, Finding
from auditlog.database.bulk import copy_rows
from auditlog.detection.findings.keep import collected, followed, write_finding
from auditlog.detectors import Detector
from auditlog.models import Tenant
from auditlog.models.findings import SHOWN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHO = ("principal", "actor", "grant", "provider")


class Totals(NamedTuple):
    """What there is of all members of one finding, but the worst of them."""

    count: int
    money: dict[str, int]
    first: int  # microseconds
    last: int
    who: tuple[str | None, ...]  # what all of them share, by _WHO


def keep_gathered(
    tenant: Tenant,
    detector: Detector,
    found: Sequence[Finding],
    judged: Sequence[int],
    *,
    withdrawn_by: int,
    now: datetime,
) -> None:
    """Keep what was found of the judged events (leaves): each in the finding of its anchor."""
    found = followed(tenant, detector.rule, found, now=now)
    if collected(found):
        return
    told = {(each.anchor, each.leaves[0]): each for each in found}
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, {"tenant": tenant.pk, "rule": detector.rule, "leaves": list(judged)})
        before = {
            (anchor, leaf): (pk, json.loads(said) if said else None) for pk, anchor, leaf, said in cursor.fetchall()
        }
    changed = {key for key, each in told.items() if key not in before or before[key][1] != _said(each)}
    gone = before.keys() - told.keys()
    anchors = {anchor for anchor, _ in changed | gone}
    if not anchors:
        return
    lost = {anchor for anchor, _ in gone | (changed & before.keys())}
    rows = _rows_of(tenant, detector.rule, anchors)
    _drop(tenant, [(before[key][0], key[1]) for key in gone | (changed & before.keys())])
    order = {key[0]: key[1] for key in sorted(changed | gone, key=lambda key: -key[1])}  # of their first events
    for anchor in sorted(anchors, key=lambda anchor: (order[anchor], anchor)):
        new = [told[key] for key in sorted(changed, key=lambda key: key[1]) if key[0] == anchor]
        row = rows.get(anchor)
        if row is None or row.is_withdrawn:
            if row is not None:
                _drop_all(tenant, row.pk)
            if not new:
                continue
            pk = (
                row.pk
                if row is not None
                else write_finding(tenant, detector.version, ("anchor", anchor), new[0], total=1, now=now)
            )
            totals = _totals(new)
        else:
            pk = row.pk
            totals = None if anchor in lost or row.totals is None else _plus(row.totals, _totals(new))
        _add(tenant, pk, new)
        totals = totals or _counted(tenant, pk)
        if totals.count == 0:
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE finding SET state = 'withdrawn', withdrawn_by_leaf = %s WHERE tenant_id = %s AND id = %s"
                    " AND state IN ('open', 'acknowledged')",
                    [withdrawn_by, tenant.pk, pk],
                )
            continue
        finding, shown = _finding(tenant, detector.rule, anchor, pk, totals)
        write_finding(tenant, detector.version, ("anchor", anchor), finding, total=totals.count, now=now, shown=shown)


_STANDING = """
    SELECT f.id, f.anchor, m.leaf_index, m.told::text FROM finding_member m
    JOIN finding f ON f.id = m.finding_id AND f.tenant_id = m.tenant_id
    WHERE m.tenant_id = %(tenant)s AND m.leaf_index = ANY(%(leaves)s) AND f.rule = %(rule)s AND f.state <> 'withdrawn'
"""


class _Row(NamedTuple):
    pk: int
    is_withdrawn: bool
    totals: Totals | None  # None: of a time when members told nothing, or erased in part


def _rows_of(tenant: Tenant, rule: str, anchors: set[str]) -> dict[str, _Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT id, anchor, state, events_total, money_at_risk_minor, currency, first_at, last_at, principal, actor, "grant", provider,'
            " evidence::text FROM finding WHERE tenant_id = %s AND rule = %s AND anchor = ANY(%s) FOR UPDATE",
            [tenant.pk, rule, list(anchors)],
        )
        found = {}
        for pk, anchor, state, total, money, currency, first, last, *who, evidence in cursor.fetchall():
            said = json.loads(evidence)
            sums = said.get("money_by_currency") or ({currency: int(money)} if currency and money is not None else {})
            totals = Totals(total, sums, _micros(first), _micros(last), tuple(each or None for each in who))
            found[anchor] = _Row(pk, state == "withdrawn", None if "erased" in said else totals)
        return found


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _said(each: Finding) -> dict[str, Any]:
    """What is kept of what was found of one event."""
    return json.loads(
        json.dumps(
            {
                "title": each.title,
                "evidence": each.evidence,
                "money": None if each.money_at_risk_minor is None else minor(each.money_at_risk_minor),
                "currency": each.currency,
                "severity": each.severity,
                **{name: getattr(each, name) for name in _WHO},
            },
            default=minor,
        )
    )


def _totals(found: Sequence[Finding]) -> Totals:
    money: dict[str, int] = defaultdict(int)
    for each in found:
        if each.money_at_risk_minor is not None and each.currency:
            money[each.currency] += minor(each.money_at_risk_minor)
    times = [_micros(each.first_at) for each in found]
    who = tuple(_common([getattr(each, name) for each in found]) for name in _WHO)
    return Totals(len(found), dict(money), min(times, default=2**62), max(times, default=-(2**62)), who)


def _plus(one: Totals, other: Totals) -> Totals:
    if not other.count or not one.count:
        return one if one.count else other
    money = {
        currency: one.money.get(currency, 0) + other.money.get(currency, 0) for currency in one.money | other.money
    }
    who = tuple(mine if mine == theirs else None for mine, theirs in zip(one.who, other.who, strict=True))
    return Totals(one.count + other.count, money, min(one.first, other.first), max(one.last, other.last), who)


def _common(values: Sequence[str | None]) -> str | None:
    return values[0] if values and len(set(values)) == 1 else None


def _counted(tenant: Tenant, pk: int) -> Totals:
    """The same, counted by the database over all members."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), min(place), max(place), "
            + ", ".join(
                f"CASE WHEN count(DISTINCT coalesce(told->>'{name}', '')) = 1 THEN min(told->>'{name}') END"
                for name in _WHO
            )
            + " FROM finding_member WHERE tenant_id = %s AND finding_id = %s AND severity IS NOT NULL",
            [tenant.pk, pk],
        )
        count, first, last, *who = cursor.fetchone()
        cursor.execute(
            "SELECT told->>'currency', sum((told->>'money')::numeric) FROM finding_member WHERE tenant_id = %s AND finding_id = %s"
            " AND severity IS NOT NULL AND told->>'money' IS NOT NULL AND coalesce(told->>'currency', '') <> '' GROUP BY 1",
            [tenant.pk, pk],
        )
        return Totals(
            count, {currency: int(total) for currency, total in cursor.fetchall()}, first or 0, last or 0, tuple(who)
        )


def _finding(tenant: Tenant, rule: str, anchor: str, pk: int, totals: Totals) -> tuple[Finding, list[tuple[int, UUID]]]:
    """The finding of all members, as detectors.gathered makes it of all that was found; and its first members."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT told::text, leaf_index, event_id FROM finding_member WHERE tenant_id = %s AND finding_id = %s AND severity IS NOT NULL"
            " ORDER BY severity DESC, late DESC, place DESC, leaf_index DESC LIMIT 1",
            [tenant.pk, pk],
        )
        [(said, _, _)] = cursor.fetchall()
        cursor.execute(
            "SELECT leaf_index, event_id FROM finding_member WHERE tenant_id = %s AND finding_id = %s ORDER BY place, leaf_index LIMIT %s",
            [tenant.pk, pk, SHOWN],
        )
        shown = cursor.fetchall()
    worst: Mapping[str, Any] = json.loads(said)
    sums = dict(sorted(totals.money.items()))
    currency, amount = next(iter(sums.items())) if len(sums) == 1 else (None, None)
    more: dict[str, Any] = {"acts": totals.count} | ({"money_by_currency": sums} if len(sums) > 1 else {})
    alone = totals.count == 1
    return Finding(
        rule=rule,
        anchor=anchor,
        severity=worst["severity"],
        title=worst["title"] if alone else f"{totals.count} acts: the worst, {worst['title']}",
        events=tuple(str(event_id) for _, event_id in shown),
        leaves=tuple(leaf for leaf, _ in shown),
        first_at=_EPOCH + timedelta(microseconds=totals.first),
        last_at=_EPOCH + timedelta(microseconds=totals.last),
        money_at_risk_minor=worst["money"] if alone else amount,
        currency=worst["currency"] if alone else currency,
        evidence=worst["evidence"] if alone else worst["evidence"] | more,
        **dict(zip(_WHO, totals.who, strict=True)),
    ), shown


# --- members ----------------------------------------------------------------------------------------------------------


def _drop(tenant: Tenant, members: Sequence[tuple[int, int]]) -> None:
    if members:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM finding_member m USING unnest(%s::bigint[], %s::bigint[]) AS g(finding_id, leaf_index)"
                " WHERE m.tenant_id = %s AND m.finding_id = g.finding_id AND m.leaf_index = g.leaf_index",
                [[pk for pk, _ in members], [leaf for _, leaf in members], tenant.pk],
            )


def _drop_all(tenant: Tenant, pk: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM finding_member WHERE tenant_id = %s AND finding_id = %s", [tenant.pk, pk])


def _add(tenant: Tenant, pk: int, found: Sequence[Finding]) -> None:
    types = {"tenant_id": "int8", "finding_id": "int8", "leaf_index": "int8", "event_id": "uuid", "place": "int8", "told": "jsonb",
             "severity": "int2", "late": "float8"}  # fmt: skip
    rows = [
        (tenant.pk, pk, each.leaves[0], UUID(each.events[0]), _micros(each.first_at), Jsonb(_said(each)),
         SEVERITIES.index(each.severity), float(each.evidence.get("seconds_late") or 0))
        for each in found
    ]  # fmt: skip
    if rows:
        copy_rows("finding_member", types, rows)
