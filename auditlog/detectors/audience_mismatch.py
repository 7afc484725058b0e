"""authority.audience_mismatch: authority for one provider was used at another."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import Judgement, judge_audience, judge_token_audience, surely
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES, is_use
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "authority.audience_mismatch"
version = 1
title = "Authority was used where it was not for"
runbook = "The audience was visible to whoever took it: ask the provider why it was accepted, and replace the token."
false_positives = "A provider that goes by two names; map both to one in its source."
of_events = frozenset({"money_at_risk", "provider"})
types = USE_TYPES
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not is_use(act, record):
            continue
        judged = surely(act, lambda act: _failed(act, record))
        if judged is None:
            continue
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high",
            title=judged.reason,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"hop": judged.hop, "leaf": judged.leaf_index, "provider": act.provider},
        )


def _failed(act: Act, record: Record) -> Judgement | None:
    judged = judge_audience(act.path, act.provider)
    shown = not act.payload.token or isinstance(act.payload.token, str)  # and not the event that issued it
    if judged.result != "fail" and shown:
        judged = judge_token_audience(record.token_path(act.token), act.provider, act.issuer)
    return judged if judged.result == "fail" else None
