"""authority.used_after_expiry: acts under a grant or token whose time was over, one finding a grant or token."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import Expired, before_its_time, expired_before, named, surely
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES, is_use
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding
from auditlog.detectors.gathered import span

rule = "authority.used_after_expiry"
version = 2
title = "Expired authority was used"
runbook = "The expiry was visible to whoever took the token: ask the provider why it was accepted."
false_positives = "Clocks that differ by more than half a minute, or work that was queued before the expiry."
of_events = frozenset({"money_at_risk"})  # when authority ended, the grant says
types = USE_TYPES
partition = ("event_id",)
waits = False
gathers = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not is_use(act, record):
            continue
        expired = _expired(act, record)
        if expired is None:
            continue
        yield finding(
            rule,
            named(expired.link),
            [act],
            severity="high",
            title=f"{act.verb or act.type} was done {span(expired.seconds_late)} after {named(expired.link)} expired",
            grant=act.via_grant or None,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"hop": expired.hop, "expired_at": expired.at.isoformat(), "leaf": expired.link.leaf_index,
                      "seconds_late": expired.seconds_late, "reason": expired.reason},
        )  # fmt: skip


def _expired(act: Act, record: Record) -> Expired | None:
    token, tokens, at = record.tokens.get(act.token), record.token_path(act.token), act.occurred_at
    return surely(
        act,
        lambda act: expired_before(act.path, tokens, at),
        otherwise=lambda act: before_its_time(act.path, token, at),
    )
