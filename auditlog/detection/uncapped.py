"""Fleets without a budget: judged from the days of a principal at a provider that balances say were dear enough."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from django.db import connection

from auditlog.core.chain.act import Act
from auditlog.core.finding import Finding
from auditlog.core.policy import setting_of
from auditlog.database.policies import policies_of
from auditlog.detection.findings.keep import keep_keys
from auditlog.detectors import uncapped
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts
from auditlog.reads.money import limits_bound_to, spending_where

DAY = timedelta(days=1)
LINES = 20_000  # of one day, at most: more change nothing but its sum


def judge_uncapped(
    tenant: Tenant, changed: Sequence[Act], principals: Collection[str], *, withdrawn_by: int, now: datetime
) -> None:
    """Judge the months in which these acts lie, and all of these principals, whose limits may have changed."""
    asked: dict[str, set[date] | None] = {principal: None for principal in principals if principal}
    for act in changed:
        if act.type.startswith("limit.") or act.type in ("delegation.granted", "mandate.issued"):
            asked[act.principal] = None
        elif act.type in uncapped.types and act.principal and asked.setdefault(act.principal, set()) is not None:
            asked[act.principal].add(act.occurred_at.astimezone(UTC).date().replace(day=1))  # type: ignore[union-attr]
    asked.pop("", None)
    if not asked:
        return
    by_month: dict[tuple[str, ...], list[date]] = defaultdict(list)
    for principal, provider, currency, day in _dear_days(tenant, asked):
        by_month[principal, provider, currency, f"{day:%Y-%m}"].append(day)
    found: dict[tuple[str, ...], list[Finding]] = {key: [] for key in _standing(tenant, asked)}
    for key, days in by_month.items():
        found[key] = []
        for day in sorted(days):
            if (raised := _judge(tenant, *key[:3], day)) is not None:
                found[key] = [raised]
                break
    keep_keys(tenant, uncapped.rule, uncapped.version, found, withdrawn_by=withdrawn_by, now=now)


def _dear_days(tenant: Tenant, asked: Mapping[str, set[date] | None]) -> list[tuple[str, str, str, date]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT principal, provider, currency, start FROM projection_balance WHERE tenant_id = %s AND generation = %s"
            " AND principal = ANY(%s) AND level = 'day' GROUP BY 1, 2, 3, 4 HAVING sum(gross) >= %s",
            [
                tenant.pk,
                generation_of(tenant),
                list(asked),
                setting_of(policies_of(tenant), uncapped.rule, uncapped.DAY_MINOR),
            ],
        )
        rows = cursor.fetchall()
    return [row for row in rows if (months := asked[row[0]]) is None or row[3].replace(day=1) in months]


def _standing(tenant: Tenant, asked: Mapping[str, set[date] | None]) -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT principal, provider, currency, to_char(first_at AT TIME ZONE 'UTC', 'YYYY-MM') FROM finding WHERE tenant_id = %s"
            " AND rule = %s AND principal = ANY(%s) AND state IN ('open', 'acknowledged')",
            [tenant.pk, uncapped.rule, list(asked)],
        )
        return cursor.fetchall()


def _judge(tenant: Tenant, principal: str, provider: str, currency: str, day: date) -> Finding | None:
    begins = datetime.combine(day, time(), UTC)
    lines = spending_where(
        tenant,
        "principal = %s AND provider = %s AND currency = %s AND at >= %s AND at < %s",
        [principal, provider, currency, begins, begins + DAY],
    )[:LINES]
    leads = [UUID(line.event_id) for line in lines[: uncapped.READ]]
    acts = select_acts(tenant, "event_id = ANY(%s) AND type = ANY(%s)", [leads, list(uncapped.types)])
    limits = limits_bound_to(
        tenant,
        parties={party for line in lines for party in line.parties},
        grants={grant for line in lines for grant in line.grants},
    )
    return uncapped.judge_day(principal, lines, {act.event_id: act for act in acts}, limits, policies_of(tenant))
