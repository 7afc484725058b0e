"""Tally: how cases went: how long a decision took, what was decided, and how often an appeal changed it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Literal

from django.db.models import QuerySet

from disputes.models import Case, Proposal

By = Literal["kind", "provider", "operator", "all"]
BYS: tuple[By, ...] = ("kind", "provider", "operator")


@dataclass
class Tally:
    """Of the cases that share one value. `upheld` in whole or in part. Days are of those decided."""

    value: str
    opened: int = 0
    decided: int = 0
    upheld: int = 0
    rejected: int = 0
    settled: int = 0
    withdrawn: int = 0
    appealed: int = 0
    overturned: int = 0
    took: list[timedelta] = field(default_factory=list)

    @property
    def days(self) -> float | None:
        """The median of the days from filing to the decision."""
        return round(median(each.total_seconds() for each in self.took) / 86_400, 1) if self.took else None

    @property
    def open(self) -> int:
        return self.opened - self.decided - self.settled - self.withdrawn


def tally(cases: QuerySet[Case], *, since: datetime | None = None) -> dict[By, list[Tally]]:
    """By each of BYS, and `all`; the most cases first. `since`: of cases opened from then on."""
    if since is not None:
        cases = cases.filter(opened_at__gte=since)
    rows = list(cases.values_list("pk", "kind", "provider", "respondent", "opened_at", "state"))
    steps: dict[int, dict[str, datetime]] = defaultdict(dict)
    for case, to, at in (
        cases.model.objects.filter(pk__in=[row[0] for row in rows])
        .order_by("transitions__position")
        .values_list("pk", "transitions__to_state", "transitions__at")
    ):
        if to is not None:
            steps[case].setdefault(to, at)  # the first time
    approved: dict[int, list[str]] = defaultdict(list)
    for case, outcome in (
        Proposal.objects.filter(case__in=[row[0] for row in rows], approval__result="approved")
        .order_by("number")
        .values_list("case_id", "outcome")
    ):
        approved[case].append(outcome)
    found: dict[By, dict[str, Tally]] = {by: {} for by in (*BYS, "all")}
    for pk, kind, provider, respondent, opened_at, state in rows:
        values: dict[By, str] = {
            "kind": kind,
            "provider": provider,
            "operator": respondent.partition("|")[0],
            "all": "",
        }
        for by, value in values.items():
            _count(found[by].setdefault(value, Tally(value)), opened_at, state, steps[pk], approved[pk])
    return {by: sorted(of.values(), key=lambda each: (-each.opened, each.value)) for by, of in found.items()}


def _count(into: Tally, opened_at: datetime, state: str, steps: dict[str, datetime], approved: Iterable[str]) -> None:
    into.opened += 1
    outcomes = list(approved)
    if "decided" in steps:
        into.decided += 1
        into.took.append(steps["decided"] - steps.get("filed", opened_at))
        into.upheld += any(each in (Proposal.Outcome.UPHELD, Proposal.Outcome.PARTLY_UPHELD) for each in outcomes)
        into.rejected += Proposal.Outcome.REJECTED in outcomes
    elif state in ("settled", "withdrawn"):
        into.settled += state == "settled"
        into.withdrawn += state == "withdrawn"
    into.appealed += "appealed" in steps
    into.overturned += any(each in (Proposal.Outcome.VARIED, Proposal.Outcome.REMITTED) for each in outcomes)
