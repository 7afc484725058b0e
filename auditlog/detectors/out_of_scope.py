"""authority.out_of_scope: an act that the grants on its path do not allow: not this act, not yet, or not to this actor."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import (
    Judgement,
    before_its_time,
    expired_before,
    judge_act,
    surely,
)
from auditlog.core.chain.other_grant import other_grant
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES, is_use
from auditlog.core.event import GRANTED, TOKEN_STATED
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "authority.out_of_scope"
version = 1
title = "An act outside its grants"
runbook = "Undo the act where it can be undone; ask who let it through, since the scope was known before it."
false_positives = (
    "A verb or resource that the sender names otherwise than the grant does; align the two vocabularies. Or a source that"
    " gives as the time of a grant (`toe`) when it told of it."
)
of_events = frozenset({"money_at_risk", "verb", "object"})
types = USE_TYPES - TOKEN_STATED - GRANTED
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not act.path.grants or not is_use(act, record):
            continue
        judged = _failed(act, record)
        if outsider := judged is None:
            judged = surely(act, _outsider)
        if judged is None:
            continue
        other = None if outsider else other_grant(act, record)
        # Who acted, and was let by nobody on record, may hold a grant that is not: of that the verdict is unsure too.
        sure = not outsider and other is None and act.path.grants[judged.hop - 1].standing == "proven"
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="critical" if sure else "low" if other else "medium",
            title=judged.reason + (f"; grant {other.grants[-1].id} would have allowed it" if other else ""),
            grant=judged.grant,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={
                "hop": judged.hop,
                "leaf": judged.leaf_index,
                "verb": act.verb,
                "object": act.object,
                "other_grant": other.grants[-1].id if other else None,
            },
        )


def _failed(act: Act, record: Record) -> Judgement | None:
    """What the act fails for certain. Each fault is asked by itself: two statements of one grant that forbid the act for
    different reasons leave each of them in doubt.
    """
    token, tokens, at = record.tokens.get(act.token), record.token_path(act.token), act.occurred_at
    return surely(act, _action) or surely(act, _resource) or surely(
        act, lambda act: before_its_time(act.path, token, at), otherwise=lambda act: expired_before(act.path, tokens, at)
    )  # fmt: skip


def _action(act: Act) -> Judgement | None:
    return _if_failed(judge_act(act.path, act)[0])


def _resource(act: Act) -> Judgement | None:
    return _if_failed(judge_act(act.path, act)[1])


def _if_failed(judged: Judgement) -> Judgement | None:
    return judged if judged.result == "fail" else None


def _outsider(act: Act) -> Judgement | None:
    """The actor, where the path ends at a root and does not name it."""
    last = act.path.grants[-1]
    if act.actor and act.path.ends_at_root and last.actor is not None and act.actor not in act.path.parties:
        reason = f"grant {last.id} lets {last.actor.key} act, and {act.actor} did"
        return Judgement("fail", reason, len(act.path.grants), last.id, last.leaf_index)
    return None
