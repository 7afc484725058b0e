"""spend.cap_exceeded: spend over one limit in its interval."""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.finding import Finding
from auditlog.core.limits import Crossing, LimitFact, crossings, in_force
from auditlog.core.money import amount_text
from auditlog.core.record import Record

rule = "spend.cap_exceeded"
version = 1
title = "Spend went over a limit"
runbook = "Look at the charge that crossed the limit and at who enforces it: the overrun is what to reclaim."
false_positives = "The limit was raised by a human in a system that does not report to us."
of_events = frozenset()  # a limit's terms, and spend that other statements may have joined
types = frozenset(
    "domain.registered domain.renewed domain.transferred action.performed resource.provisioned resource.updated "
    "payment.authorized payment.captured payment.settled payment.refunded usage.metered subscription.started "
    "subscription.changed invoice.paid deployment.completed limit.set limit.raised limit.lowered "
    "delegation.granted mandate.issued".split()
)
partition = ("principal",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    [principal] = {act.principal for act in acts}
    mine = record.spending_of(principal)
    limits = record.limits_on(mine)
    found: dict[str, Finding] = {}
    for crossing in crossings(limits, mine):
        if crossing.limit.scope == "global" and each_within_own_limit(crossing, limits):
            continue  # the sum over providers is another finding
        raised = crossing_finding(rule, principal, crossing, title=_title(crossing), severity=_severity(crossing))
        before = found.get(raised.anchor)
        # One limit is often said twice, in a grant and by an event: the larger overrun speaks for both.
        if before is None or raised.money_at_risk_minor > before.money_at_risk_minor:
            found[raised.anchor] = raised
    yield from found.values()


def each_within_own_limit(crossing: Crossing, limits: Sequence[LimitFact]) -> bool:
    """Whether every provider that the crossed sum comes from has a limit of its own, and kept to it."""
    over = {c.provider for c in crossings(limits, crossing.counted) if c.limit.provider or c.limit.scope == "provider"}
    standing = [limit for limit in in_force(limits, crossing.counted[-1].at).values() if limit.max_minor is not None]
    own = {limit.provider for limit in standing if limit.provider}
    each = any(limit.scope == "provider" and not limit.provider for limit in standing)
    providers = {spent.provider for spent in crossing.counted}
    return len(providers) > 1 and not over and (each or providers <= own)


def crossing_finding(rule: str, principal: str, crossing: Crossing, *, title: str, severity: str) -> Finding:
    limit, by = crossing.limit, crossing.crossed_by
    holder = limit.holder if limit.scope not in ("global", "provider") else ""
    window = crossing.start.isoformat() if crossing.start else "ever"
    return Finding(
        rule=rule,
        anchor=" ".join((principal, holder, limit.scope, limit.scope_id, crossing.provider, limit.currency, limit.interval, window)),
        severity=severity,
        title=title,
        events=tuple(spent.event_id for spent in crossing.counted),
        leaves=tuple(spent.leaf_index for spent in crossing.counted),
        first_at=crossing.counted[0].at,
        last_at=crossing.counted[-1].at,
        principal=principal,
        provider=crossing.provider or None,
        grant=limit.grant or None,
        money_at_risk_minor=crossing.over_minor,
        currency=limit.currency,
        evidence={"limit_leaf": limit.leaf_index, "limit_minor": limit.max_minor, "spent_minor": crossing.spent_minor,
                  "interval": limit.interval, "scope": limit.scope, "enforcement": limit.enforcement,
                  "crossed_by": by.event_id, "crossed_at": by.at.isoformat()},
    )  # fmt: skip


def _title(crossing: Crossing) -> str:
    limit = crossing.limit
    where = f" at {crossing.provider}" if crossing.provider else ""
    per = "" if limit.interval == "once" else f" a {limit.interval}"
    return (
        f"{amount_text(crossing.spent_minor, limit.currency)} was spent{where}, over the limit of "
        f"{amount_text(limit.max_minor or 0, limit.currency)}{per}"
    )


def _severity(crossing: Crossing) -> str:
    if crossing.limit.enforcement == "alert_only":
        return "low"
    return "high" if crossing.limit.enforcement == "hard" else "medium"
