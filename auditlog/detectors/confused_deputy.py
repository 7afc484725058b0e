"""authority.confused_deputy: the right was the deputy's alone, not its initiator's.

An agent that acts for another must not lend it rights that the other does not hold (Hardy, 1988). The act names who
acted for whom (`act`, RFC 8693 section 4.1); where the authority used does not pass through the one it acted for,
that one must itself hold a grant which allowed the act at the time. What a human may do in person is not on record,
so humans are not asked.
"""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import judge_initiators
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import is_use
from auditlog.core.event import GRANTED, act_chain
from auditlog.core.finding import Finding
from auditlog.detectors import out_of_scope
from auditlog.detectors.base import finding

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
        lent = [
            i
            for i in judge_initiators(act, act.path, record.held, record.kind_of)
            if i.result == "fail" or not i.grants
        ]
        if not lent:
            continue
        initiator, deputy = next((i for i in lent if i.result == "fail"), lent[0]), act_chain(act.payload.actor)[-1]
        own = "whose own grants do not allow it" if initiator.grants else "of which no grant is on record"
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high" if initiator.result == "fail" else "medium",
            title=f"{deputy.sub} did {act.verb or act.type} on {act.object or 'something unnamed'} for {initiator.party.sub}, {own}",
            actor=deputy.key,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"initiator": initiator.party.key, "deputy": deputy.key, "grant": act.via_grant,
                      "leaf": act.path.grants[-1].leaf_index, "initiator_grants": list(initiator.grants[:20])},
        )  # fmt: skip
