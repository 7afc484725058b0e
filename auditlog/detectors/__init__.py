"""Detectors: pure, one file a pattern, each with its rule text, runbook and false-positive note.

A detector names the event types it looks at and its partition key (fields of an act). It is given all acts of one key
in leaf order, with the record around them, and returns the findings of that key: the same ones however the acts were
batched, because it always sees the whole key. `detect.py` keeps what it returns: findings that it no longer returns
lost their ground and are withdrawn.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from auditlog.core.advice import Facts, advice
from auditlog.detectors import (
    attenuation,
    audience_mismatch,
    authority_exceeded,
    bill_differs,
    bulk_provisioning,
    bulk_registration,
    campaign,
    cap_creep,
    cap_exceeded,
    clock_skew,
    concurrency_overshoot,
    confused_deputy,
    cross_provider_cap,
    cycle,
    declined_storm,
    domain_mismatch,
    duplicate_charge,
    forecast_breach,
    gate_missing,
    integrity,
    key_mismatch,
    key_missing,
    lookalike,
    orphan_token,
    out_of_scope,
    price_exceeded,
    quantity_exceeded,
    refused_and_done,
    retry_loop,
    self_raise,
    shared_key,
    source_gap,
    source_silent,
    sources_disagree,
    stranded,
    token_elsewhere,
    unattributed,
    uncapped,
    unforeseen,
    used_after_expiry,
    used_after_revocation,
    velocity,
)
from auditlog.detectors.base import Detector, RateDetector, SourceDetector, StoryDetector

# Every rule, in the order of the design's table. A rule with two partition keys has two detectors.
ACT_DETECTORS: tuple[Detector, ...] = (
        lookalike, bulk_registration, bulk_provisioning, campaign, domain_mismatch, quantity_exceeded, price_exceeded, unforeseen, retry_loop, duplicate_charge, authority_exceeded,
        cap_exceeded, cross_provider_cap, concurrency_overshoot, bill_differs, self_raise, cap_creep, declined_storm, uncapped, key_missing, stranded, *attenuation.PATTERNS, cycle, used_after_revocation,
        used_after_expiry, audience_mismatch, out_of_scope, gate_missing, refused_and_done, key_mismatch, *orphan_token.PATTERNS, unattributed,
        confused_deputy,
        *shared_key.PATTERNS, token_elsewhere,
)  # fmt: skip
SOURCE_DETECTORS: tuple[SourceDetector, ...] = (source_gap, source_silent, clock_skew)
STORY_DETECTORS: tuple[StoryDetector, ...] = (sources_disagree,)
RATE_DETECTORS: tuple[RateDetector, ...] = (velocity, forecast_breach)
DETECTORS = (*ACT_DETECTORS, *RATE_DETECTORS, *SOURCE_DETECTORS, *STORY_DETECTORS, *integrity.ROAD_RULES)


@lru_cache(maxsize=256)
def detectors_of(
    rule: str,
) -> "tuple[Detector | RateDetector | SourceDetector | StoryDetector | integrity.RoadRule, ...]":
    """Those of one rule, which may have one a partition key; none where this installation does not have it."""
    return tuple(detector for detector in DETECTORS if detector.rule == rule)


@lru_cache(maxsize=256)
def is_sum(rule: str) -> bool:
    """Whether findings of the rule rest on acts of many causes."""
    return any(getattr(detector, "sums", False) for detector in detectors_of(rule))


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
