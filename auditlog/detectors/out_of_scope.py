"""authority.out_of_scope: an act that the grants on its path do not allow: not this act, not yet, or not to this actor."""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.authority import (
    CLOCKS,
    Judgement,
    judge_action,
    judge_resource,
    seconds_before_issue,
    seconds_early,
    surely,
)
from auditlog.core.event import GRANTED, TOKEN_STATED
from auditlog.core.finding import Finding
from auditlog.core.other_grant import other_grant
from auditlog.core.record import Record
from auditlog.core.statement import Token
from auditlog.core.use import USE_TYPES, is_use
from auditlog.detectors import finding

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
        judged = surely(act, lambda act: _failed(act, record) or _outsider(act))
        if judged is None:
            continue
        outsider = _failed(act, record) is None
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
            evidence={"hop": judged.hop, "leaf": judged.leaf_index, "verb": act.verb, "object": act.object,
                      "other_grant": other.grants[-1].id if other else None},
        )


def _failed(act: Act, record: Record) -> Judgement | None:
    return next((j for j in _judgements(act, record.tokens.get(act.token)) if j.result == "fail"), None)


def _judgements(act: Act, token: Token | None) -> Iterable[Judgement]:
    yield judge_action(act.path, verb=act.verb, provider=act.provider, payment=act.is_payment)
    yield judge_resource(act.path, verb=act.verb, provider=act.provider, resource=act.object, payment=act.is_payment)
    for hop, grant in enumerate(act.path.grants, start=1):
        if early := seconds_early(grant, act.occurred_at, skew_seconds=CLOCKS):
            begun = "began" if grant.not_before else "was given"
            yield Judgement("fail", f"grant {grant.id} {begun} {early:.0f} s after the act", hop, grant.id, grant.leaf_index)
    last = act.path.grants[-1]
    if token is not None and (early := seconds_before_issue(token, act.occurred_at)):
        reason = f"token {token.jti} was issued {early:.0f} s after the act"
        yield Judgement("fail", reason, len(act.path.grants), last.id, token.leaf_index)


def _outsider(act: Act) -> Judgement | None:
    """The actor, where the path ends at a root and does not name it."""
    last = act.path.grants[-1]
    if act.actor and act.path.ends_at_root and last.actor is not None and act.actor not in act.path.parties:
        reason = f"grant {last.id} lets {last.actor.key} act, and {act.actor} did"
        return Judgement("fail", reason, len(act.path.grants), last.id, last.leaf_index)
    return None
