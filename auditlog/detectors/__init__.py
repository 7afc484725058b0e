"""Detectors: pure, one file a pattern, each with its rule text, runbook and false-positive note.

A detector names the event types it looks at and its partition key (fields of an act). It is given all acts of one key
in leaf order, with the record around them, and returns the findings of that key: the same ones however the acts were
batched, because it always sees the whole key. `detect.py` keeps what it returns: findings that it no longer returns
lost their ground and are withdrawn.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from auditlog.core.acts.story import Story
from auditlog.core.acts.taking import Taking
from auditlog.core.advice import Facts, advice
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
    # Optional `advise(facts, now)`: the runbook of one finding (core.advice), where its facts or the clock change it.
    # Optional `settled_by`: types whose arrival can take the ground from findings already made for the same principal.
    # Optional `of_lines`: its events are leads of lines of the books; it is about all statements counted in those.
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


def all_detectors() -> tuple[Detector, ...]:
    """Every detector, in the order of the design's table. A rule with two partition keys has two."""
    from auditlog.detectors import (
        attenuation,
        audience_mismatch,
        authority_exceeded,
        bill_differs,
        bulk_registration,
        cap_creep,
        cap_exceeded,
        concurrency_overshoot,
        confused_deputy,
        cross_provider_cap,
        cycle,
        domain_mismatch,
        duplicate_charge,
        gate_missing,
        key_mismatch,
        lookalike,
        orphan_token,
        out_of_scope,
        price_exceeded,
        quantity_exceeded,
        refused_and_done,
        retry_loop,
        self_raise,
        shared_key,
        token_elsewhere,
        unattributed,
        used_after_expiry,
        used_after_revocation,
    )

    return (
        lookalike, bulk_registration, domain_mismatch, quantity_exceeded, price_exceeded, retry_loop, duplicate_charge, authority_exceeded,
        cap_exceeded, cross_provider_cap, concurrency_overshoot, bill_differs, self_raise, cap_creep, *attenuation.PATTERNS, cycle, used_after_revocation,
        used_after_expiry, audience_mismatch, out_of_scope, gate_missing, refused_and_done, key_mismatch, *orphan_token.PATTERNS, unattributed,
        confused_deputy,
        *shared_key.PATTERNS, token_elsewhere,
    )  # fmt: skip


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


def source_detectors() -> tuple[SourceDetector, ...]:
    """Those of the integrity of sources, in the order of the design's table."""
    from auditlog.detectors import clock_skew, source_gap, source_silent

    return source_gap, source_silent, clock_skew


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


def story_detectors() -> tuple[StoryDetector, ...]:
    from auditlog.detectors import sources_disagree

    return (sources_disagree,)


def every_detector() -> "tuple[Detector | SourceDetector | StoryDetector, ...]":
    """All detectors, whatever it is that they look at."""
    return (*all_detectors(), *source_detectors(), *story_detectors())


@lru_cache(maxsize=256)
def detectors_of(rule: str) -> "tuple[Detector | SourceDetector | StoryDetector, ...]":
    """Those of one rule, which may have one a partition key; none where this installation does not have it."""
    from auditlog.detectors.integrity import ROAD_RULES

    return tuple(detector for detector in (*every_detector(), *ROAD_RULES) if detector.rule == rule)


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


class Found(Protocol):
    """A finding as somebody reads it: whole (core.finding), or as far as they may (core.reading)."""

    rule: str
    first_at: datetime | None
    last_at: datetime | None
    evidence: Any


def runbook_of(found: Found, now: datetime | None) -> str:
    """What to do about this finding, as of now (core.advice); "" where the installation no longer has its rule. Whoever does
    not read the finding's time gets the rule's general text.
    """
    detector = next(iter(detectors_of(found.rule)), None)
    if detector is None:
        return ""
    if "last_at" in getattr(found, "withheld", ()):
        return detector.runbook
    return advice(detector, Facts(found.first_at, found.last_at, found.evidence), now)


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
