"""spend.velocity: an agent spends at a provider as fast as it never does (core.money.velocity), and nothing approved covers it.

One finding a rise, however many hours it lasts. Whoever is new has no usual rate, and is not found by this.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from auditlog.core.advice import Facts, last_charge
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Spent
from auditlog.core.money.money import amount_text, minor
from auditlog.core.money.velocity import Episode
from auditlog.core.policy import Setting

rule = "spend.velocity"
version = 1
title = "Money is spent faster than ever"
runbook = "Ask whoever runs the agent what changed. If nobody knows, lower its limit at the provider to its usual rate until somebody does."
false_positives = (
    "A launch, a migration, a yearly purchase: work that somebody wanted, and approved where no source tells of it."
)
of_events = frozenset[str]()  # what is usual, other events say
types = frozenset[str]()  # it looks at the hours of the books, and at no single event
partition = ("principal", "actor", "provider", "currency", "week")
sums = True  # of many acts: no cause by itself (core.incident)
waits = False

BUDGET = Setting("budget", 0.02, 0.001, 10, "false alarms", "for each who spends, a month")
FLOOR_MINOR = Setting("floor_minor", 1_000, 1, 10**12, "minor units", "spent in an hour at least")
settings = (BUDGET, FLOOR_MINOR)


class Spender(NamedTuple):
    principal: str
    actor: str
    provider: str
    currency: str


def advise(facts: Facts, now: datetime | None) -> str:
    return f"{last_charge(facts, now)} {runbook}"


def find(spender: Spender, rise: Episode, lines: Sequence[Spent], *, budget: float) -> Finding:
    """`lines`: of the hours of the rise, the first of them at least."""
    begins, ends = (datetime.fromtimestamp(n * 3600, UTC) for n in (rise.first, rise.last + 1))
    hours = rise.last - rise.first + 1
    ordered = sorted(lines, key=lambda line: (line.at, line.leaf_index))
    times = f"{rise.spent / rise.usual:.0f} times what is usual" if rise.usual >= 1 else "where nothing is usual"
    return Finding(
        rule=rule,
        anchor=" ".join((*spender, begins.isoformat()))[:900],
        severity="high" if rise.usual >= 1 and rise.spent >= 10 * rise.usual else "medium",
        title=f"{amount_text(round(rise.spent), spender.currency)} was spent at {spender.provider or 'an unnamed provider'} within "
        f"{hours} hour{'s' if hours > 1 else ''}, {times}",
        events=tuple(line.event_id for line in ordered),
        leaves=tuple(line.leaf_index for line in ordered),
        first_at=ordered[0].at if ordered else begins,
        last_at=ordered[-1].at if ordered else ends - timedelta(seconds=1),
        principal=spender.principal,
        actor=spender.actor or None,
        provider=spender.provider or None,
        money_at_risk_minor=minor(round(max(0.0, rise.spent - rise.usual))),
        currency=spender.currency,
        evidence={
            "from": begins.isoformat(),
            "until": ends.isoformat(),
            "spent_minor": round(rise.spent),
            "usual_minor": round(rise.usual),
            "alarm_budget": budget,
        },
    )
