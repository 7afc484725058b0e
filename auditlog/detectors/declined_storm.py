"""spend.declined_storm: many refused attempts to pay, one after the other (core.acts.refused)."""

from collections.abc import Iterable, Sequence

from auditlog.core.acts.refused import REFUSED_TYPES, WITHIN, attempts_of, storms
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.policy import Setting
from auditlog.detectors.base import common_grant, finding, spent_most
from auditlog.detectors.gathered import span

rule = "spend.declined_storm"
version = 1
title = "Many attempts to pay were refused"
runbook = (
    "Stop the agent before one of them goes through: find out whether it heeds refusals, and whether the card or account is its own. Tell "
    "whoever issued the card; many refusals can have it closed."
)
false_positives = "A biller that tries many customers' cards in one night, told in one principal's name."
of_events = frozenset({"title", "attempts", "charges"})
types = REFUSED_TYPES
partition = ("principal",)
waits = False

ATTEMPTS = Setting("attempts", 20, 3, 10_000, "attempts", "refused within an hour")
settings = (ATTEMPTS,)


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for run in storms(acts, int(record.setting(rule, ATTEMPTS))):
        first = min(run, key=lambda act: act.leaf_index)
        currencies = {act.currency for act in run} - {""}
        seconds = (run[-1].occurred_at - run[0].occurred_at).total_seconds()
        number = attempts_of(run)
        yield finding(
            rule,
            f"{first.principal} {first.provider} {first.event_id}",
            run,
            severity="high" if number >= 100 else "medium",
            title=f"{number} attempts to pay at {first.provider or 'an unnamed provider'} were refused within {span(seconds)}",
            actor=spent_most(run),
            grant=common_grant(run),
            # Nothing was taken: what is at risk is what one more try would cost.
            money_at_risk_minor=max((act.amount_minor or 0 for act in run), default=0)
            if len(currencies) == 1
            else None,
            currency=currencies.pop() if len(currencies) == 1 else None,
            evidence={"attempts": number, "within_seconds": WITHIN.total_seconds()},
        )
