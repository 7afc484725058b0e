"""authority.confused_deputy: the right was the deputy's alone, not its initiator's.

An agent that acts for another must not lend it rights that the other does not hold (Hardy, 1988). The act names who
acted for whom (`act`, RFC 8693 section 4.1); where the authority used does not pass through the one it acted for,
that one must itself hold a grant which allowed the act at the time. What a human may do in person is not on record,
so humans are not asked.
"""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.authority import first_revocation, judge_action, judge_audience, judge_resource, judge_window
from auditlog.core.chain import Path
from auditlog.core.event import GRANTED, act_chain
from auditlog.core.finding import Finding
from auditlog.core.record import Record
from auditlog.core.use import is_use
from auditlog.detectors import finding, out_of_scope

rule = "authority.confused_deputy"
version = 1
title = "A deputy lent its right to somebody without it"
runbook = "Have the deputy act under a grant of whoever asks, never its own; look at what else was asked of it."
false_positives = "An initiator whose grant no source has reported yet."
of_events = frozenset({"money_at_risk"})  # the rest tells who holds which grant
types = out_of_scope.types
partition = ("event_id",)
waits = True  # the initiator's own grant may arrive a moment later
settled_by = GRANTED  # or much later


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if act.payload.actor is None or not act.path.grants or not is_use(act, record):
            continue
        *initiators, deputy = act_chain(act.payload.actor)
        for initiator in initiators:
            kind = record.kind_of(initiator.key)
            if (kind if kind != "unknown" else initiator.kind) not in ("agent", "workload", "service"):
                continue
            if initiator.key in act.path.parties or deputy.key not in act.path.parties:
                continue
            if any(allows(path, act) for path in record.held.get(initiator.key, ())):
                continue
            yield finding(
                rule,
                act.event_id,
                [act],
                severity="high",
                title=f"{deputy.sub} did {act.verb or act.type} on {act.object or 'something unnamed'} for {initiator.sub},"
                " which holds no grant for it",
                actor=deputy.key,
                money_at_risk_minor=act.amount_minor,
                currency=act.currency or None,
                evidence={"initiator": initiator.key, "deputy": deputy.key, "grant": act.via_grant,
                          "leaf": act.path.grants[-1].leaf_index,
                          "initiator_grants": [path.grants[-1].id for path in record.held.get(initiator.key, ()) if path.grants][:20]},
            )  # fmt: skip
            break


def allows(path: Path, act: Act) -> bool:
    """Whether this path would have allowed the act. What is unknown is given the benefit of the doubt."""
    return first_revocation(path, act.occurred_at) is None and "fail" not in (
        judge_action(path, verb=act.verb, provider=act.provider).result,
        judge_resource(path, verb=act.verb, provider=act.provider, resource=act.object).result,
        judge_window(path, act.occurred_at).result,
        judge_audience(path, act.provider).result,
    )
