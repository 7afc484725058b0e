"""How fast somebody spends: judged from hourly sums that the database keeps, a week of one spender at a time.

What is found in a week hangs on the hours from READ before it to AFTER it, and on no other: so the cost does not grow with the
record, and a late line has the weeks judged again that it bears on.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from django.db import connection

from auditlog.core.chain.act import Act
from auditlog.core.finding import Finding
from auditlog.core.money.velocity import READ, WEEK, Episode, episodes
from auditlog.core.policy import setting_of
from auditlog.database.policies import policies_of
from auditlog.detection.findings.keep import keep_keys
from auditlog.detectors import velocity
from auditlog.detectors.velocity import Spender
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import decode_payload
from auditlog.reads.money import spending_where

BEFORE = WEEK + 24  # hours before a week in which a rise may have begun that is still going on in it
AFTER = WEEK  # hours after it that a rise of it is followed
LATE = 2 * WEEK  # hours after a line on which it bears: what is usual is one week, and the same hours of ten days
SHOWN = 200  # lines of a rise that are its members
APPROVED = timedelta(days=30)  # an approval covers what is spent within it


def judge_rates(tenant: Tenant, changed: Sequence[Act], *, withdrawn_by: int, now: datetime) -> None:
    """Judge the weeks of the spenders of these acts, where an hour is dear enough or something was found."""
    touched: dict[Spender, set[int]] = defaultdict(set)
    for act in changed:
        if act.principal and act.currency and act.spends:
            touched[Spender(act.principal, act.actor, act.provider, act.currency)].add(_hour(act.occurred_at))
    approved = {act.principal for act in changed if act.type == "approval.decided"} - {""}
    if not touched and not approved:
        return
    asked = _worth_looking_at(tenant, touched, approved)
    found: dict[tuple[str, ...], list[Finding]] = {}
    for spender, weeks in asked.items():
        for week in sorted(weeks):
            found[*velocity.partition, *spender, str(week)] = _judge(tenant, spender, week)
    keep_keys(tenant, velocity.rule, velocity.version, found, withdrawn_by=withdrawn_by, now=now)


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // 3600


def _time(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * 3600, UTC)


def _worth_looking_at(
    tenant: Tenant, touched: dict[Spender, set[int]], approved: Collection[str]
) -> dict[Spender, set[int]]:
    """By spender, the weeks with a dear hour that was touched, or with a finding that these hours or an approval bear on."""
    rows = [(*spender, _time(hour)) for spender, hours in touched.items() for hour in hours]
    columns = [[row[place] for row in rows] for place in range(5)]
    asked: dict[Spender, set[int]] = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.principal, r.actor, r.provider, r.currency, r.hour FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::timestamptz[]) AS v(principal, actor, provider, currency, hour) JOIN projection_rate r"
            " USING (principal, actor, provider, currency, hour) WHERE r.tenant_id = %s AND r.generation = %s AND r.gross >= %s",
            [
                *columns,
                tenant.pk,
                generation_of(tenant),
                setting_of(policies_of(tenant), velocity.rule, velocity.FLOOR_MINOR),
            ],
        )
        for *who, at in cursor.fetchall():
            asked[Spender(*who)].add(_hour(at) // WEEK)
        cursor.execute(
            "SELECT DISTINCT principal, actor, provider, currency, first_at FROM finding WHERE tenant_id = %s AND rule = %s"
            " AND principal = ANY(%s) AND state IN ('open', 'acknowledged')",
            [tenant.pk, velocity.rule, list({spender.principal for spender in touched} | set(approved))],
        )
        for *who, at in cursor.fetchall():
            hours = touched.get(Spender(*who), ())
            if who[0] in approved or any(-AFTER <= _hour(at) - hour <= LATE for hour in hours):
                asked[Spender(*who)].add(_hour(at) // WEEK)
    return asked


def _judge(tenant: Tenant, spender: Spender, week: int) -> list[Finding]:
    begins = week * WEEK
    bins = _bins(tenant, spender, begins - BEFORE - READ, begins + WEEK + AFTER)
    found, policies = [], policies_of(tenant)
    budget, floor = (setting_of(policies, velocity.rule, each) for each in velocity.settings)
    for rise in episodes(bins, begins=begins - BEFORE, ends=begins + WEEK + AFTER, budget=budget, floor=floor):
        if rise.first // WEEK == week and not _is_approved(tenant, spender, rise):
            found.append(velocity.find(spender, rise, _lines(tenant, spender, rise), budget=budget))
    return found


def _bins(tenant: Tenant, spender: Spender, begins: int, ends: int) -> dict[int, float]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT hour, gross FROM projection_rate WHERE tenant_id = %s AND generation = %s AND principal = %s AND actor = %s"
            " AND provider = %s AND currency = %s AND hour >= %s AND hour < %s",
            [tenant.pk, generation_of(tenant), *spender, _time(begins), _time(ends)],
        )
        return {_hour(at): float(gross) for at, gross in cursor.fetchall() if gross > 0}


def _lines(tenant: Tenant, spender: Spender, rise: Episode):
    lines = spending_where(
        tenant,
        "principal = %s AND actor = %s AND provider = %s AND currency = %s AND at >= %s AND at < %s AND has_spend",
        [*spender, _time(rise.first), _time(rise.last + 1)],
    )
    return lines[:SHOWN]


def _is_approved(tenant: Tenant, spender: Spender, rise: Episode) -> bool:
    """Whether a human said yes to as much within a month before the end of it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT detail FROM projection_event WHERE tenant_id = %s AND generation = %s"
            " AND type = 'approval.decided' AND principal = %s AND outcome = 'success' AND within_remit AND environment = 'live'"
            " AND occurred_at BETWEEN %s AND %s",
            [tenant.pk, generation_of(tenant), spender.principal, _time(rise.first) - APPROVED, _time(rise.last + 1)],
        )
        intents = [decode_payload(bytes(detail)).intent for (detail,) in cursor.fetchall()]
    return any(
        intent is not None
        and intent.max_price_minor is not None
        and (intent.currency or spender.currency).upper() == spender.currency
        and intent.max_price_minor >= rise.spent
        for intent in intents
    )


def rises(bins_of: Iterable[tuple[Spender, dict[int, float]]]) -> Iterable[tuple[Spender, Episode]]:
    """All of whole histories, for measuring."""
    for spender, bins in bins_of:
        for rise in episodes(
            bins,
            begins=min(bins),
            ends=max(bins) + 1,
            budget=velocity.BUDGET.default,
            floor=velocity.FLOOR_MINOR.default,
        ):
            yield spender, rise
