"""spend.cap_exceeded: spend over one limit in its interval."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Crossing, Ledger, crossings_of
from auditlog.core.money.money import amount_text, minor

rule = "spend.cap_exceeded"
version = 2
title = "Spend went over a limit"
runbook = "Look at the charge that crossed the limit and at who enforces it: the overrun is what to reclaim."
false_positives = "The limit was raised by a human in a system that does not report to us."
of_events = frozenset()  # a limit's terms, and spend that other statements may have joined
types = frozenset(
    "domain.registered domain.renewed domain.transferred action.performed resource.provisioned resource.updated "
    "payment.authorized payment.captured payment.settled payment.refunded usage.metered subscription.started "
    "subscription.changed subscription.renewed invoice.issued invoice.paid invoice.voided invoice.credited deployment.completed "
    "account.created project.created credential.issued dispute.funds_withdrawn dispute.funds_reinstated "
    "limit.set limit.raised limit.lowered delegation.granted mandate.issued".split()
)
partition = ("principal",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False
of_lines = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    [principal] = {act.principal for act in acts}
    ledgers = record.ledgers_on(record.spent_for(principal))
    found: dict[str, Finding] = {}
    for ledger in ledgers:
        for crossing in crossings_of(ledger):
            if crossing.limit.scope == "global" and each_within_own_limit(crossing, ledgers):
                continue  # the sum over providers is another finding
            raised = crossing_finding(rule, principal, crossing, title=_title(crossing), severity=severity_of(crossing))
            before = found.get(raised.anchor)
            # One limit is often said twice, in a grant and by an event: the larger overrun speaks for both.
            if before is None or raised.money_at_risk_minor > before.money_at_risk_minor:
                found[raised.anchor] = raised
    yield from found.values()


def each_within_own_limit(crossing: Crossing, ledgers: Sequence[Ledger]) -> bool:
    """Whether every provider that the crossed sum comes from has a limit of its own, and kept to it."""
    providers = {spent.provider for spent in crossing.counted}
    if len(providers) < 2:
        return False
    last = max(spent.at for spent in crossing.counted)
    own: set[str] = set()
    for ledger in ledgers:
        standing = ledger.limit.in_force(last).limit
        if standing is None or standing.max_minor is None or not (standing.provider or standing.scope == "provider"):
            continue
        if any(c.counted[0].at <= last and providers & {s.provider for s in c.counted} for c in crossings_of(ledger)):
            return False
        own |= {standing.provider} if standing.provider else providers
    return providers <= own


def crossing_finding(rule: str, principal: str, crossing: Crossing, *, title: str, severity: str) -> Finding:
    limit, by = crossing.limit, crossing.crossed_by
    holder = limit.holder if limit.scope not in ("global", "provider") else ""
    window = crossing.start.isoformat() if crossing.start else "ever"
    back = sum((amount for spent in crossing.counted for _, amount in spent.returns), 0)
    bound = [value for value in limit.bound if value] if limit.verb != "grant" else []
    return Finding(
        rule=rule,
        anchor=" ".join((principal, holder, limit.scope, limit.scope_id, crossing.provider, limit.currency, limit.interval, window,
                         *bound, *([crossing.each] if crossing.each != crossing.provider else []))),
        severity=severity,
        title=title,
        events=tuple(spent.event_id for spent in (*crossing.counted, *crossing.also_held)),
        leaves=tuple(spent.leaf_index for spent in (*crossing.counted, *crossing.also_held)),
        first_at=min(spent.held_from or spent.at for spent in crossing.counted),
        last_at=max(spent.at for spent in crossing.counted),
        principal=principal,
        provider=crossing.provider or None,
        grant=limit.grant or None,
        money_at_risk_minor=minor(crossing.over_minor),
        currency=limit.currency,
        evidence={"limit_leaf": limit.leaf_index, "limit_minor": limit.max_minor, "spent_minor": minor(crossing.spent_minor),
                  "returned_since_minor": minor(back), "in_flight_minor": minor(crossing.in_flight_minor), "each": crossing.each,
                  "interval": limit.interval, "scope": limit.scope, "enforcement": limit.enforcement,
                  "crossed_by": by.event_id, "crossed_at": (by.held_from or by.at).isoformat()},
    )  # fmt: skip


def where(crossing: Crossing) -> str:
    limit = crossing.limit
    if crossing.provider:
        return f" at {crossing.provider}"
    return f" in {limit.scope} {crossing.each}" if crossing.each else ""


def per(crossing: Crossing) -> str:
    return "" if crossing.limit.interval == "once" else f" a {crossing.limit.interval}"


def _title(crossing: Crossing) -> str:
    limit = crossing.limit
    back = sum((amount for spent in crossing.counted for _, amount in spent.returns), 0)
    given = f"; {amount_text(back, limit.currency)} of it came back" if back else ""
    return (
        f"{amount_text(crossing.spent_minor, limit.currency)} was spent{where(crossing)}, over the limit of "
        f"{amount_text(limit.max_minor or 0, limit.currency)}{per(crossing)}{given}"
    )


def severity_of(crossing: Crossing) -> str:
    """What only warns grows with the excess: a budget that is passed many times over is no small matter."""
    if crossing.limit.enforcement != "alert_only":
        return "high" if crossing.limit.enforcement == "hard" else "medium"
    times = crossing.spent_minor / (crossing.limit.max_minor or 1)
    return "critical" if times >= 20 else "high" if times >= 3 else "medium" if times >= 1.5 else "low"
