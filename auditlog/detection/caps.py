"""Limits, payment authorities and bills: judged where balances say that one can have been passed, or that one was.

Balances are upper bounds of what a limit counts: all that was spent or held under its grant or holder on the days it is
about. Where they stay below every amount that was ever stated of it nothing was passed, whatever else is on record; only
where they do not are the lines themselves read.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from django.db import connection

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import NO_PATH, Path
from auditlog.core.chain.record import Record
from auditlog.core.event import GRANTED, GrantObject
from auditlog.core.finding import Finding
from auditlog.core.money.forecast import BEGUN, forecast
from auditlog.core.money.limits import LimitFact, Minor, Spent
from auditlog.database.dirty import look_again
from auditlog.database.policies import policies_of
from auditlog.detection.findings.joined import with_joined
from auditlog.detection.findings.keep import keep, keep_keys
from auditlog.detectors import (
    Detector,
    authority_exceeded,
    bill_differs,
    cap_exceeded,
    concurrency_overshoot,
    cross_provider_cap,
    forecast_breach,
)
from auditlog.models import Finding as FindingRow
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.chains import lineage_of, paths_to
from auditlog.reads.money import ceilings_of, limits_bound_to, spending_of, spending_where
from auditlog.reads.parties import kinds_of, organisations_of, remits_of

RULES: tuple[Detector, ...] = (
    cap_exceeded, cross_provider_cap, concurrency_overshoot, authority_exceeded, bill_differs,
)  # fmt: skip
TYPES = authority_exceeded.types
BIG = 5_000  # lines: what is larger is judged again only so often that it delays nothing else
COST = timedelta(milliseconds=1)  # of one line of a large one, many times what it takes
WEEK = timedelta(days=8)  # around a day: every interval of at most a week, in whatever zone


class Sum(NamedTuple):
    """What some lines of one principal come to; see models.Balance."""

    principal: str
    level: str
    start: date
    actor: str
    grant: str
    provider: str
    payee: str
    currency: str
    gross: Minor
    held: Minor
    lines: int
    billed: int
    authorities: int

    @property
    def most(self) -> Minor:
        return self.gross + self.held


@dataclass
class Touched:
    """By principal, the days of what changed; None: any day can have."""

    days: dict[str, set[date] | None] = field(default_factory=dict)

    def at(self, principal: str, at: datetime) -> None:
        if principal and self.days.setdefault(principal, set()) is not None:
            self.days[principal].add(at.astimezone(UTC).date())

    def wholly(self, principals: Iterable[str]) -> None:
        self.days |= dict.fromkeys(set(principals) - {""}, None)


def judge_caps(
    tenant: Tenant, changed: Sequence[Act], principals: Collection[str], *, withdrawn_by: int, now: datetime, big: Collection[str] = ()
) -> None:  # fmt: skip
    """Judge what these acts can have changed, and all of these principals. `big`: of large ones, those whose turn it is."""
    touched = Touched()
    for act in changed:
        if act.type in TYPES:
            touched.at(act.principal, act.occurred_at)
    touched.wholly(principals)
    touched.wholly(_of_limits(tenant, changed))
    touched.wholly(_of_authorities(tenant, changed))
    if not touched.days:
        return
    ever = _sums(tenant, touched.days, "ever")
    paths = paths_to(tenant, {each.grant for each in ever})
    facts = _facts(tenant, ever, paths)
    _judge_forecasts(tenant, touched, ever, paths, facts, withdrawn_by=withdrawn_by, now=now)
    asked = _can_be_passed(tenant, touched, ever, paths, facts) | _with_other_questions(ever)
    asked |= _with_findings(tenant, touched.days)
    lines: dict[str, int] = defaultdict(int)
    for each in ever:
        lines[each.principal] += each.lines
    for principal in [p for p in asked if lines[p] > BIG and p not in big]:
        look_again(tenant.pk, "caps", principal, due_at=now + COST * lines[principal])
        asked.discard(principal)
    if asked:
        judge_principals(tenant, asked, withdrawn_by=withdrawn_by, now=now)


def judge_principals(tenant: Tenant, principals: Collection[str], *, withdrawn_by: int, now: datetime) -> None:
    """Judge all that these principals spent."""
    record = _record(tenant, principals)
    for detector in RULES:
        found: dict[tuple[str, ...], list[Finding]] = {
            (p,): list(detector.find([_Of(p)], record)) if record.spent_for(p) else [] for p in sorted(principals)
        }
        keep(tenant, detector, with_joined(tenant, found), withdrawn_by=withdrawn_by, now=now)


class _Of(NamedTuple):
    """All that these rules ask of a principal's acts: whose they are."""

    principal: str


def _record(tenant: Tenant, principals: Collection[str]) -> Record:
    """The books of these principals, with every limit that binds them. Each is judged by itself (`Record.ledgers_on`)."""
    spending = spending_of(tenant, principals)
    parties = {key for spent in spending for key in spent.parties}
    limits = limits_bound_to(tenant, parties=parties, grants={grant for spent in spending for grant in spent.grants})
    ceilings = ceilings_of(tenant, {spent.authority for spent in spending})
    setters = {party for limit in limits for party in (limit.set_by, limit.holder, limit.actor)} - {""}
    setters |= {said.set_by for many in ceilings.values() for said in many} - {""}
    setters |= {spent.actor for spent in spending if spent.authority} - {""}
    lineage, attesters = lineage_of(tenant, setters)
    parties |= setters | {party for above in lineage.values() for party in above}
    return Record(
        limits=tuple(limits),
        spending=tuple(spending),
        ceilings=ceilings,
        kinds=kinds_of(tenant, generation_of(tenant), parties - {""}),
        lineage=lineage,
        attesters=attesters,
        policies=policies_of(tenant),
        organisations=organisations_of(tenant),
        remits=remits_of(tenant),
    )


# --- what is about to be passed ---------------------------------------------------------------------------------------

SHOWN = 50  # lines of the last day that a forecast names


def _judge_forecasts(
    tenant: Tenant, touched: Touched, ever: Sequence[Sum], paths: Mapping[str, Path], facts: Sequence[LimitFact], *,
    withdrawn_by: int, now: datetime,
) -> None:  # fmt: skip
    """Monthly limits of which enough is spent: from the days of the month, and of the week before it."""
    counted = _Counted(ever, paths)
    monthly = [
        f for f in facts if f.interval == "month" and f.max_minor and f.scope in PLAIN and not (f.session or f.task or f.project)
    ]  # fmt: skip
    standing = _standing_forecasts(tenant, touched.days.keys())
    worth = [f for f in monthly if _total(counted.under(f)) >= BEGUN * (f.max_minor or 0)]
    if not worth and not standing:
        return
    principals = {each.principal for f in worth for each in counted.under(f)}
    months = {(int(key[-1][:4]), int(key[-1][5:])) for key in standing}
    for principal in principals & touched.days.keys():
        days = touched.days[principal]
        # What was spent in a month's last week is the rate of the next month's first days.
        for day in _months_of(tenant, principal) if days is None else {d + n * WEEK for d in days for n in (0, 1)}:
            months.add((day.year, day.month))
    sums = _days_of(tenant, principals, months)
    counted = _Counted(sums, paths)
    found: dict[tuple[str, ...], list[Finding]] = {key: [] for key in standing}
    limits: dict[tuple[str, ...], list[LimitFact]] = defaultdict(list)
    for fact in worth:
        # One agent may serve two customers, each with a limit of the same kind.
        whose = () if fact.grant or fact.holder == fact.principal else (fact.principal,)
        limits[*fact.key, *whose].append(fact)
    for key, said in limits.items():
        for year, month in months:
            start = date(year, month, 1)
            fact = max(said, key=lambda f: f.max_minor or 0)  # raised since: what allows most
            mine = counted.under(fact)
            days: dict[date, float] = defaultdict(float)
            for each in mine:
                days[each.start] += float(each.gross)
            end = date(year + month // 12, month % 12 + 1, 1)
            told = forecast(days, start=start, end=end, limit=float(fact.max_minor or 0))
            name = ("limit", *key, "month", f"{start:%Y-%m}")
            found[name] = []
            if told is not None:
                who = sorted({each.principal for each in mine if each.start == told.day})
                lines = _lines_on(tenant, who, told.day, fact)
                found[name] = [forecast_breach.find(who[0] if len(who) == 1 else "", fact, told, lines)]
    keep_keys(tenant, forecast_breach.rule, forecast_breach.version, found, withdrawn_by=withdrawn_by, now=now)


PLAIN = ("global", "provider", "agent", "grant", "")


def _standing_forecasts(tenant: Tenant, principals: Collection[str]) -> set[tuple[str, ...]]:
    """Keys of what is found of these principals, or of several together."""
    rows = FindingRow.objects.filter(
        tenant=tenant, rule=forecast_breach.rule, principal__in=[*principals, ""], state__in=("open", "acknowledged")
    )
    return {tuple(json.loads(partition)) for partition in rows.values_list("partition", flat=True)}


def _months_of(tenant: Tenant, principal: str) -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT start FROM projection_balance WHERE tenant_id = %s AND generation = %s AND principal = %s"
            " AND level = 'month' ORDER BY start DESC LIMIT 36",
            [tenant.pk, generation_of(tenant), principal],
        )
        return [day for (day,) in cursor.fetchall()]


def _days_of(tenant: Tenant, principals: Collection[str], months: Collection[tuple[int, int]]) -> list[Sum]:
    first = min(date(year, month, 1) for year, month in months) - WEEK
    last = max(date(year + month // 12, month % 12 + 1, 1) for year, month in months)
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT principal, level, start, actor, "grant", provider, payee, currency, gross, held, lines, billed, authorities'
            " FROM projection_balance WHERE tenant_id = %s AND generation = %s AND principal = ANY(%s) AND level = 'day'"
            " AND start >= %s AND start < %s",
            [tenant.pk, generation_of(tenant), list(principals), first, last],
        )
        return [Sum(*row) for row in cursor.fetchall()]


def _lines_on(tenant: Tenant, principals: Sequence[str], day: date, fact: LimitFact) -> list[Spent]:
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
    lines = spending_where(
        tenant,
        "principal = ANY(%s) AND currency = %s AND at >= %s AND at < %s AND has_spend",
        [list(principals), fact.currency, begins, begins + timedelta(days=1)],
    )
    mine = [line for line in lines if (fact.grant in line.grants if fact.grant else fact.holder in line.parties)]
    return [line for line in mine if not fact.provider or fact.provider in (line.provider, line.payee)][:SHOWN]


# --- whom it concerns -------------------------------------------------------------------------------------------------


def _of_limits(tenant: Tenant, changed: Sequence[Act]) -> set[str]:
    """Whose spending is bound by limits that something new was said of."""
    holders: set[str] = set()
    found: set[str] = set()
    for act in changed:
        if act.type.startswith("limit.") and act.payload.limit:
            found.add(act.principal)
            if act.payload.limit.holder:
                holders.add(act.payload.limit.holder.key)
            if act.path.grants:
                holders |= {act.path.parties[-1], act.path.parties[0]}
        elif act.type in GRANTED and isinstance(act.payload.grant, GrantObject):
            found.add(act.principal)
            holders |= {limit.holder.key for limit in act.payload.grant.limits or () if limit.holder}
    return found | holders | _principals_of(tenant, holders) if holders else found


def _of_authorities(tenant: Tenant, changed: Sequence[Act]) -> set[str]:
    return _principals_under(
        tenant, {act.payload.money.authority for act in changed if act.payload.money and act.payload.money.authority}
    )


def _principals_under(tenant: Tenant, authorities: Collection[str]) -> set[str]:
    if not authorities:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT principal FROM projection_charge WHERE tenant_id = %s AND generation = %s AND authority = ANY(%s)"
            " AND authority <> '' AND principal <> ''",
            [tenant.pk, generation_of(tenant), list(authorities)],
        )
        return {principal for (principal,) in cursor.fetchall()}


def _principals_of(tenant: Tenant, parties: Collection[str]) -> set[str]:
    """In whose names these parties spend, or whoever acts under them."""
    if not parties:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_UNDER, {"tenant": tenant.pk, "generation": generation_of(tenant), "parties": list(parties)})
        return {principal for (principal,) in cursor.fetchall()}


_UNDER = """
    WITH RECURSIVE down AS (
        SELECT g.id FROM projection_grant g WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
          AND g.actor = ANY(%(parties)s)
        UNION
        SELECT g.id FROM projection_grant g JOIN down d ON g.parent = d.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    )
    SELECT DISTINCT b.principal FROM projection_balance b JOIN down d ON b."grant" = d.id
    WHERE b.tenant_id = %(tenant)s AND b.generation = %(generation)s AND b.level = 'ever' AND b."grant" <> '' AND b.principal <> ''
    UNION
    SELECT DISTINCT b.principal FROM projection_balance b
    WHERE b.tenant_id = %(tenant)s AND b.generation = %(generation)s AND b.level = 'ever' AND b.actor = ANY(%(parties)s) AND b.principal <> ''
"""


# --- what can have been passed ----------------------------------------------------------------------------------------


def _sums(
    tenant: Tenant, days: Mapping[str, set[date] | None], *levels: str, principals: Collection[str] | None = None
) -> list[Sum]:
    """Balances of the principals: altogether, or around the days that were touched."""
    asked = [p for p in days if principals is None or p in principals]
    bounds = [(min(some) - WEEK, max(some) + WEEK) if (some := days[p]) else (date.min, date.max) for p in asked]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT b.principal, b.level, b.start, b.actor, b.\"grant\", b.provider, b.payee, b.currency, b.gross, b.held, b.lines, b.billed,"
            " b.authorities FROM unnest(%s::text[], %s::date[], %s::date[]) AS t(principal, first, last)"
            " JOIN projection_balance b ON b.principal = t.principal WHERE b.tenant_id = %s AND b.generation = %s AND b.level = ANY(%s)"
            " AND (b.level = 'ever' OR b.start BETWEEN CASE WHEN b.level = 'month' THEN t.first - 366 ELSE t.first END AND"
            " CASE WHEN b.level = 'month' THEN t.last + 366 ELSE t.last END)",
            [asked, [max(first, date(1, 1, 1) + timedelta(days=400)) for first, _ in bounds],
             [min(last, date(9998, 1, 1)) for _, last in bounds], tenant.pk, generation_of(tenant), list(levels)],
        )  # fmt: skip
        return [Sum(*row) for row in cursor.fetchall()]


def _facts(tenant: Tenant, ever: Iterable[Sum], paths: Mapping[str, Path]) -> list[LimitFact]:
    """What was said of limits that bind any of these, by sources that may say so."""
    parties: set[str] = set()
    grants: set[str] = set()
    for each in ever:
        path = paths.get(each.grant, NO_PATH)
        parties |= {each.principal, each.actor, *path.parties}
        grants |= {grant.id for grant in path.grants}
    facts = limits_bound_to(tenant, parties=parties - {""}, grants=grants)
    return [fact for fact in facts if fact.counts and fact.verb != "reached" and fact.max_minor is not None]


def _can_be_passed(
    tenant: Tenant, touched: Touched, ever: Sequence[Sum], paths: Mapping[str, Path], facts: Sequence[LimitFact]
) -> set[str]:
    """Principals with a limit below what was spent or held under it, in any of its intervals that was touched."""
    counted = _Counted(ever, paths)
    over = [fact for fact in facts if _total(counted.under(fact)) > fact.max_minor]
    found = {each.principal for fact in over if fact.interval == "once" for each in counted.under(fact)}
    some = [fact for fact in over if fact.interval != "once"]
    asked = {each.principal for fact in some for each in counted.under(fact)} - found
    if not asked:
        return found
    sums = _sums(tenant, touched.days, "day", "month", principals=asked)
    counted = _Counted(sums, paths)
    for fact in some:
        level = "day" if fact.interval in ("day", "week") else "month"
        mine = [each for each in counted.under(fact) if each.level == level]
        by_start: dict[date, Minor] = defaultdict(int)
        for each in mine:
            by_start[each.start] += each.most
        if any(total > fact.max_minor for total in _windows(by_start, fact.interval)):
            found |= {each.principal for each in mine}
    return found


class _Counted:
    """Balances by what they count for: the grants on their path, and all parties."""

    def __init__(self, sums: Iterable[Sum], paths: Mapping[str, Path]) -> None:
        self.by_grant: dict[str, list[Sum]] = defaultdict(list)
        self.by_party: dict[str, list[Sum]] = defaultdict(list)
        for each in sums:
            path = paths.get(each.grant, NO_PATH)
            for grant in path.grants:
                self.by_grant[grant.id].append(each)
            for party in {each.principal, each.actor, *path.parties}:
                self.by_party[party].append(each)

    def under(self, fact: LimitFact) -> list[Sum]:
        """Those that may count against a limit."""
        mine = self.by_grant.get(fact.grant, []) if fact.grant else self.by_party.get(fact.holder, [])
        return [
            each
            for each in mine
            if each.currency == fact.currency
            and fact.may_be_of(each.principal)
            and (not fact.provider or fact.provider in (each.provider, each.payee) or not (each.provider or each.payee))
        ]


def _windows(by_start: Mapping[date, Minor], interval: str) -> Iterable[Minor]:
    """At most what any interval holds, in whatever zone: with the days or months beside it."""
    wide = {"day": 1, "week": 7, "month": 31, "year": 366}[interval]
    starts = sorted(by_start)
    for first in starts:
        last = first + timedelta(days=wide)
        yield sum(by_start[start] for start in starts if first <= start <= last)


def _total(sums: Iterable[Sum]) -> Minor:
    return sum((each.most for each in sums), 0)


def _with_other_questions(ever: Iterable[Sum]) -> set[str]:
    """Principals who paid under an authority, or were billed for what may be in other money."""
    currencies: dict[str, set[str]] = defaultdict(set)
    billed: set[str] = set()
    found: set[str] = set()
    for each in ever:
        currencies[each.principal].add(each.currency)
        if each.billed:
            billed.add(each.principal)
        if each.authorities:
            found.add(each.principal)
    return found | {principal for principal in billed if len(currencies[principal]) > 1}


def _with_findings(tenant: Tenant, principals: Collection[str]) -> set[str]:
    """Those of whom something is found already, and may have lost its ground."""
    rows = FindingRow.objects.filter(
        tenant=tenant,
        rule__in=[d.rule for d in RULES],
        principal__in=list(principals),
        state__in=("open", "acknowledged"),
    )
    return set(rows.values_list("principal", flat=True).distinct())
