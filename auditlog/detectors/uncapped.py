"""spend.uncapped: a fleet runs up a bill in a day, and no limit of any kind binds it.

Most agents have no limit, and need none for what they spend. Found is what nobody would have stopped: several things metered at
one provider for one principal, for so much in one day that somebody should have set one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import LimitFact, Minor, Spent
from auditlog.core.money.money import amount_text, minor
from auditlog.core.policy import Policy, Setting, setting_of
from auditlog.detectors.base import common_grant, finding, spent_most

rule = "spend.uncapped"
version = 1
title = "A fleet spends, and no limit binds it"
runbook = (
    "Set a limit that its provider enforces, and a budget for the human in whose name it runs. Ask who wanted that many things, and remove "
    "those that nobody did."
)
false_positives = "A budget that is kept where no source tells of it."
of_events = frozenset[str]()  # that there is no limit, the whole record says
types = frozenset({"usage.metered"})
partition = ("principal",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False

DAY_MINOR = Setting(
    "day_minor", 100_000, 100, 10**12, "minor units", "spent at one provider on one day (UTC), in whatever currency"
)
THINGS = Setting("things", 3, 1, 1_000, "things", "metered side by side")
settings = (DAY_MINOR, THINGS)
READ = 2_000  # lines of the day, the first; of more, these are enough to see what it is


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    """One a principal, provider, currency and month: on the first day of it that is such a day."""
    known = {act.event_id: act for act in acts}
    [principal] = {act.principal for act in acts}
    days: dict[tuple[str, str, date], list[Spent]] = defaultdict(list)
    for line in record.spent_for(principal):
        if line.gross_minor:
            days[line.provider, line.currency, line.at.astimezone(UTC).date()].append(line)
    found: set[tuple[str, str, date]] = set()
    for provider, currency, day in sorted(days, key=lambda each: (each[2], each[:2])):
        lines = days[provider, currency, day]
        month = (provider, currency, day.replace(day=1))
        if month in found or sum(line.gross_minor for line in lines) < record.setting(rule, DAY_MINOR):
            continue
        raised = judge_day(principal, lines, known, record.limits, record.policies)
        if raised is not None:
            found.add(month)
            yield raised


def judge_day(
    principal: str,
    lines: Sequence[Spent],
    known: dict[str, Act],
    limits: Iterable[LimitFact],
    policies: Mapping[str, Policy],
) -> Finding | None:
    """All lines of one principal, provider, currency and day; `known`: the acts of (at least) the first READ of them."""
    lines = sorted(lines, key=lambda line: (line.at, line.leaf_index))
    acts = [known[line.event_id] for line in lines[:READ] if line.event_id in known]
    # What runs is read again and again; the name of a call is read once.
    read = Counter(act.target for act in acts if act.target and act.target not in (act.charge, act.request_id))
    things = {thing for thing, times in read.items() if times > 1}
    total: Minor = sum(line.gross_minor for line in lines)
    dear = setting_of(policies, rule, DAY_MINOR)
    if (
        len(things) < setting_of(policies, rule, THINGS)
        or total < dear
        or any(_is_bound(line, limits) for line in lines)
    ):
        return None
    if any(
        grant.intent is not None and grant.intent.max_price_minor is not None
        for act in acts
        for grant in act.path.grants
    ):
        return None
    first, day = lines[0], lines[0].at.astimezone(UTC).date()
    return finding(
        rule,
        f"{principal} {first.provider} {first.currency} {day:%Y-%m}",
        acts,
        severity="high" if total >= 5 * dear else "medium",
        title=f"{amount_text(total, first.currency)} was spent at {first.provider or 'an unnamed provider'} on {day.isoformat()} by "
        f"{len(things)} things side by side, and no limit binds it",
        actor=spent_most(acts),
        grant=common_grant(acts),
        money_at_risk_minor=minor(total),
        currency=first.currency,
        evidence={"day": day.isoformat(), "things": len(things), "readings": len(lines), "spent_minor": minor(total)},
    )


def _is_bound(line: Spent, limits: Iterable[LimitFact]) -> bool:
    """Whether any limit was on record for it by the end of its day, however high."""
    if line.authority:
        return True
    ends = datetime.combine(line.at.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    return any(
        limit.counts
        and limit.max_minor is not None
        and limit.verb != "reached"
        and limit.at < ends
        and (limit.grant in line.grants if limit.grant else limit.holder in line.parties)
        and limit.may_be_of(line.principal)
        and (not limit.provider or limit.provider in (line.provider, line.payee))
        for limit in limits
    )
