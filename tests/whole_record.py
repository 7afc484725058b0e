"""The oracle of detection: judge the complete set of leaves once, from nothing.

It asks every detector for all acts of each of its keys, with one look at the record around all of them, and shares nothing
with the engine that judges batches as they come but the detectors themselves.
"""

import json
from datetime import datetime
from typing import Any

from auditlog.core.amount import minor
from auditlog.core.chain.act import Act
from auditlog.core.finding import Finding
from auditlog.detection.detect import GRACE
from auditlog.detection.findings.joined import with_joined
from auditlog.detectors import ACT_DETECTORS, STORY_DETECTORS
from auditlog.detectors.gathered import gather
from auditlog.models import Finding as Row
from auditlog.models import Tenant
from auditlog.reads.acts import select_acts
from auditlog.reads.record import record_around
from auditlog.reads.stories import stories_around

# Rules about how sources are heard, and about sums that the database keeps, have their own tests; what sources say of each other is
# here.
ROAD = ("integrity.", "spend.velocity", "spend.forecast_breach")


def judged_at_once(tenant: Tenant, *, now: datetime) -> dict[tuple[str, str], dict[str, Any]]:
    """By rule and anchor: what there is to find in the whole record, when the grace of all of it is over."""
    acts = select_acts(tenant, "true", [])
    assert all(now - act.received_at >= GRACE for act in acts), "the oracle judges when no rule waits any more"
    record = record_around(tenant, acts)
    found: dict[tuple[str, str], Finding] = {}
    for detector in ACT_DETECTORS:
        grouped: dict[tuple[str, ...], list[Act]] = {}
        for act in acts:
            key = tuple(getattr(act, name) for name in detector.partition)
            if act.type in detector.types and all(key):
                grouped.setdefault(key, []).append(act)
        here = {key: list(detector.find(many, record)) for key, many in grouped.items()}
        if getattr(detector, "of_lines", False):
            here = with_joined(tenant, here)
        if getattr(detector, "gathers", False):
            by_anchor: dict[str, list[Finding]] = {}
            for findings in here.values():
                for each in findings:
                    by_anchor.setdefault(each.anchor, []).append(each)
            here = {(anchor,): [gather(many)] for anchor, many in by_anchor.items()}
        for findings in here.values():
            found |= {(each.rule, each.anchor): each for each in findings}
    told = stories_around(tenant, acts, of_several=True).stories
    for detector in STORY_DETECTORS:
        found |= {(each.rule, each.anchor): each for each in detector.find(told)}
    return {key: _said(each) for key, each in found.items()}


def kept(tenant: Tenant) -> dict[tuple[str, str], dict[str, Any]]:
    """The same of what the engine keeps and holds for true."""
    rows = Row.objects.filter(tenant=tenant).exclude(state="withdrawn")
    return {
        (row.rule, row.anchor): {
            "severity": row.severity,
            "title": row.title,
            "events": sorted(map(str, row.event_ids)),
            "leaves": sorted(row.leaves),
            "who": (row.principal, row.actor, row.grant, row.provider),
            "money": (row.money_at_risk_minor, row.currency),
            "times": (row.first_at, row.last_at),
            "evidence": row.evidence,
        }
        for row in rows
        if not row.rule.startswith(ROAD) or row.rule == "integrity.sources_disagree"
    }


def _said(each: Finding) -> dict[str, Any]:
    money = each.money_at_risk_minor
    return {
        "severity": each.severity,
        "title": each.title,
        "events": sorted(each.events),
        "leaves": sorted(each.leaves),
        "who": (each.principal or "", each.actor or "", each.grant or "", each.provider or ""),
        "money": (None if money is None else minor(money), each.currency or ""),
        "times": (each.first_at, each.last_at),
        "evidence": json.loads(json.dumps(each.evidence, default=minor)),
    }


def differences(tenant: Tenant, *, now: datetime) -> list[str]:
    """What the engine keeps and the oracle does not say, and the other way round, in words."""
    expected, found = judged_at_once(tenant, now=now), kept(tenant)
    told = [f"not found: {key} {expected[key]['title']}" for key in sorted(expected.keys() - found.keys())]
    told += [f"not withdrawn: {key} {found[key]['title']}" for key in sorted(found.keys() - expected.keys())]
    for key in sorted(expected.keys() & found.keys()):
        for name, value in expected[key].items():
            if found[key][name] != value:
                told.append(f"{key} {name}: kept {found[key][name]}, expected {value}")
    return told
