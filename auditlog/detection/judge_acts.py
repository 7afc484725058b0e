"""Rules that judge each act by itself: all of them share one look at the ground of the acts, and each act is read once.

Of rules about absence the acts that something is missing of come again when their grace is over. Those of which nothing is
missing do not: what could be missing later is asked for by what comes then.
"""

from collections.abc import Sequence
from datetime import datetime

from auditlog.core.chain.act import Act
from auditlog.core.event import GrantObject
from auditlog.core.finding import Finding
from auditlog.detection.findings.gather import keep_gathered
from auditlog.detection.findings.keep import keep_events
from auditlog.detection.grace import is_ripe
from auditlog.detection.ground import ground_of, judged_with
from auditlog.detectors import ACT_DETECTORS, Detector
from auditlog.models import Tenant
from auditlog.reads.acts import select_acts


def judge_acts(
    tenant: Tenant, changed: Sequence[Act], graced: Sequence[Act], *, withdrawn_by: int, now: datetime
) -> dict[int, Act]:
    """Judge what is new or changed, what that can change the judgement of, and what has waited for its grace. Returns what
    waits from now on, by leaf.
    """
    detectors = [detector for detector in ACT_DETECTORS if detector.partition == ("event_id",)]
    types = frozenset().union(*(detector.types for detector in detectors))
    again = {act.leaf_index: act for detector in detectors for act in _settled(tenant, detector, changed)}
    around = judged_with(tenant, [*changed, *again.values()], types)
    # A payment is judged through the act it pays for, and the other way round: those are looked at again too.
    judged = again | {act.leaf_index: act for act in (*around, *graced, *changed)}
    members = [judged[leaf] for leaf in sorted(judged) if judged[leaf].type in types]
    if not members:
        return {}
    record = ground_of(tenant, members)
    waiting: dict[int, Act] = {}
    single: list[tuple[Detector, list[Act], list[Finding]]] = []
    for detector in detectors:
        mine = [act for act in members if act.type in detector.types]
        found: list[Finding] = []
        if detector.waits:
            young = [act for act in mine if not is_ripe(act.received_at, now)]
            mine = [act for act in mine if is_ripe(act.received_at, now)]
            waiting |= {act.leaf_index: act for act in young if any(True for _ in detector.find([act], record))}
        for act in mine:
            found += detector.find([act], record)
        if getattr(detector, "gathers", False):
            keep_gathered(tenant, detector, found, [act.leaf_index for act in mine], withdrawn_by=withdrawn_by, now=now)
        else:
            single.append((detector, mine, found))
    keep_events(tenant, single, withdrawn_by=withdrawn_by, now=now)
    return waiting


def _settled(tenant: Tenant, detector: Detector, changed: Sequence[Act]) -> list[Act]:
    """Acts with open findings of this rule that an event of this round may settle, to be judged again; and acts that a
    refusal of this round may be about: it takes back an approval that had cleared them.
    """
    settling = [act for act in changed if act.type in getattr(detector, "settled_by", ())]
    if not settling:
        return []
    principals = {act.principal for act in settling} | {
        act.payload.gate.by.key for act in settling if act.payload.gate and act.payload.gate.by
    }
    granted = {
        act.payload.grant.actor.key
        for act in settling
        if isinstance(act.payload.grant, GrantObject) and act.payload.grant.actor
    }
    acts = select_acts(
        tenant,
        "leaf_index IN (SELECT m.leaf_index FROM finding f JOIN finding_member m ON m.finding_id = f.id AND m.tenant_id = f.tenant_id"
        " WHERE f.tenant_id = %s AND f.rule = %s AND (f.principal = ANY(%s) OR f.evidence->>'initiator' = ANY(%s)) AND f.state IN ('open', 'acknowledged'))",
        [tenant.pk, detector.rule, list(principals - {""}), list(granted)],
    )
    # An answer under the same request may be meant for this act, in whosever name it is told.
    if answered := {act.request_id for act in settling if act.type.startswith("approval.")} - {""}:
        acts += select_acts(
            tenant,
            "request_id = ANY(%s) AND request_id <> '' AND leaf_index <> ALL(%s) AND leaf_index IN (SELECT m.leaf_index FROM finding f"
            " JOIN finding_member m ON m.finding_id = f.id AND m.tenant_id = f.tenant_id"
            " WHERE f.tenant_id = %s AND f.rule = %s AND f.state IN ('open', 'acknowledged'))",
            [list(answered), [act.leaf_index for act in acts], tenant.pk, detector.rule],
        )
    refusals = [act for act in settling if act.type == "approval.decided" and act.outcome != "success"]
    requests, targets = (
        {act.request_id for act in refusals} - {""},
        {thing for act in refusals for thing in (act.target, act.resource)} - {""},
    )
    if requests or targets:
        acts += select_acts(
            tenant,
            "type = ANY(%s) AND ((request_id = ANY(%s) AND request_id <> '') OR ((target = ANY(%s) OR resource = ANY(%s)) AND principal = ANY(%s)"
            " AND principal <> '')) AND leaf_index <> ALL(%s)",
            [
                list(detector.types),
                list(requests),
                list(targets),
                list(targets),
                list(principals - {""}),
                [act.leaf_index for act in acts],
            ],
        )
    return acts
