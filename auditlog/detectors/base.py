"""The contract of detectors: what each says of itself, and the findings that they are built with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from auditlog.core.acts.story import Story
from auditlog.core.acts.taking import Taking
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding


class Detector(Protocol):
    rule: str
    version: int
    title: str
    runbook: str  # what to do about it, in words
    false_positives: str  # when it is wrong
    # What of its findings is made of the events that they name, and of nothing else on record: "title", "money_at_risk",
    # names of evidence. An abuse desk whose own these events are may read that (core.reading); when in doubt, leave it out.
    of_events: frozenset[str]
    types: frozenset[str]  # event types it looks at
    partition: tuple[str, ...]  # columns of an event that make one key
    waits: bool  # about absence: looks only when the grace period after receipt is over
    # Optional `of_marks`: what an abuse desk may read besides, where the tenant keeps none of the marks in it private.
    # Optional `advise(facts, now)`: the runbook of one finding (core.advice), where its facts or the clock change it.
    # Optional `settled_by`: types whose arrival can take the ground from findings already made for the same principal.
    # Optional `of_lines`: its events are leads of lines of the books; it is about all statements counted in those.
    # Optional `sums`: its findings rest on acts of many causes (a month's spend), and join no incident by them (core.incident).
    # Optional `gathers`: what it finds of single events is one finding for each anchor (detectors.gathered).

    def find(self, acts: Sequence[Act], record: Record) -> Iterable[Finding]: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """A detector that shares its file with others of its family. Same fields as Detector."""

    rule: str
    title: str
    runbook: str
    false_positives: str
    types: frozenset[str]
    find: Callable[[Sequence[Act], Record], Iterable[Finding]]
    of_events: frozenset[str]
    partition: tuple[str, ...] = ("event_id",)
    version: int = 1
    waits: bool = False
    sums: bool = False


class SourceDetector(Protocol):
    """A detector that looks at how a source is heard, not at what it says: its facts are counted by the projection.

    `detect.py` gives it all facts of one key that are older than the grace period, where the rule waits for that.
    """

    rule: str
    version: int
    title: str
    runbook: str
    false_positives: str
    of_events: frozenset[str]
    partition: tuple[str, ...]  # fields of a fact that make one key
    waits: bool

    def find(self, facts: Sequence) -> Iterable[Finding]: ...


class RateDetector(Protocol):
    """A detector that looks at the sums of a spender by the hour (detection.rates), and at no single event."""

    rule: str
    version: int
    title: str
    runbook: str
    false_positives: str
    of_events: frozenset[str]
    partition: tuple[str, ...]
    waits: bool

    find: Callable[..., Finding]


class StoryDetector(Protocol):
    """A detector that looks at acts as several sources tell them (core.story). `detect.py` gives it whole stories."""

    rule: str
    version: int
    title: str
    runbook: str
    false_positives: str
    of_events: frozenset[str]
    partition: tuple[str, ...]
    waits: bool

    def find(self, stories: Iterable[Story]) -> Iterable[Finding]: ...


def spent_most(acts: Sequence[Act]) -> str | None:
    """The agent that spent most of it: whom a finding about money of several agents names."""
    spent: dict[str, int] = {}
    for act in acts:
        spent[act.actor] = spent.get(act.actor, 0) + (act.amount_minor or 0)
    return max(sorted(spent), key=lambda agent: spent[agent]) or None


def common_grant(acts: Sequence[Act]) -> str | None:
    """The last grant that all of them were done under: to revoke it ends all of it."""
    paths = [[grant.id for grant in act.path.grants] for act in acts]
    common = [ids[0] for ids in zip(*paths, strict=False) if len(set(ids)) == 1]
    return common[-1] if common else None


def told_of(takings: Iterable[Taking]) -> dict[str, tuple]:
    """`events` and `leaves` of a finding on takings: every statement of each, since a verdict on any of them says the same."""
    acts = {act.event_id: act for taking in takings for act in taking.acts}
    ordered = sorted(acts.values(), key=lambda act: (act.occurred_at, act.leaf_index))
    return {"events": tuple(act.event_id for act in ordered), "leaves": tuple(act.leaf_index for act in ordered)}


def finding(rule: str, anchor: str, acts: Sequence[Act], *, severity: str, title: str, **more) -> Finding:
    """A finding on these acts, which give its times, principal, actor, grant and provider unless said otherwise."""
    ordered = sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index))
    last = ordered[-1]
    return Finding(
        **{
            "rule": rule,
            "anchor": anchor,
            "severity": severity,
            "title": title,
            "events": tuple(act.event_id for act in ordered),
            "leaves": tuple(act.leaf_index for act in ordered),
            "first_at": ordered[0].occurred_at,
            "last_at": last.occurred_at,
            "principal": last.principal or None,
            "actor": last.actor or None,
            "grant": last.via_grant or None,
            "provider": last.provider or None,
        }
        | more
    )
