"""squatting.campaign: names close to marks of others, by one principal, agent or key.

Each name is close to a mark, and all are of one hand: two signs that have nothing to do with each other. What is shared by
chance, a parking page or a network, is none.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from auditlog.core.advice import Facts, for_long
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.names.cluster import Cluster, campaigns
from auditlog.detectors import bulk_registration
from auditlog.detectors.bulk_registration import cluster_finding, money_of, named_of, undo_of

rule = "squatting.campaign"
version = 1
title = "Names close to marks of others come from one hand"
runbook = (
    "Stop the grant, and look at the names as one: tell the registrar and the owners of the marks about all of them. Most "
    "can be deleted inside the add grace period; ask the human before the clock runs out."
)
false_positives = (
    "An agency or a reseller that registers in its clients' names, where no configuration says whose the marks are."
)
of_events = frozenset({"money_at_risk", "names", "undo_until"})  # the marks are the tenant's papers
of_marks = frozenset({"title", "marks"})
types = bulk_registration.types
partition = ("environment",)  # a campaign may be of several principals
waits = False


def advise(facts: Facts, now: datetime | None) -> str:
    return bulk_registration.advise(facts, now)


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    named = [row for act in acts if (row := named_of(act, record)) is not None]
    return [finding_of(cluster) for cluster in campaigns(named)]


def finding_of(cluster: Cluster) -> Finding:
    rows = cluster.rows
    marks = sorted({row.brand for row in rows})
    span = for_long(rows[-1].at - rows[0].at + timedelta(seconds=59))
    _, price = money_of(rows)
    of = f"{len(marks)} marks of others" if len(marks) > 1 else f"{marks[0]}, a mark of others,"
    return cluster_finding(
        rule,
        rows,
        severity="high",
        title=f"{len(rows)} names close to {of} were registered within {span}{price}",
        evidence={
            "names": [row.name for row in rows[:200]],
            "marks": marks[:200],
            "signs": dict(cluster.signs),
        }
        | undo_of(rows),
    )
