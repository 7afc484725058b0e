"""authority.used_after_expiry: an act under a grant or token whose time was over."""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.finding import Finding
from auditlog.core.record import Record
from auditlog.core.use import USE_TYPES, is_use
from auditlog.detectors import finding
from auditlog.detectors.used_after_revocation import ago

rule = "authority.used_after_expiry"
version = 1
title = "Expired authority was used"
runbook = "The expiry was visible to whoever took the token: ask the provider why it was accepted."
false_positives = "Clocks that differ by more than the gap, or work that was queued before the expiry."
of_events = frozenset({"money_at_risk"})  # when authority ended, the grant says
types = USE_TYPES
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not is_use(act, record):
            continue
        ended = [
            (grant.expires_at, hop, f"grant {grant.id}", grant.leaf_index)
            for hop, grant in enumerate(act.path.grants, start=1)
            if grant.expires_at is not None
        ]
        # Only the token that was shown: one that it was exchanged from may end when the exchange is done.
        token = record.tokens.get(act.token)
        if token is not None and token.expires_at is not None:
            ended.append((token.expires_at, 0, f"token {token.jti}", token.leaf_index))
        if not ended or min(ended)[0] > act.occurred_at:
            continue
        at, hop, what, leaf = min(ended)
        late = (act.occurred_at - at).total_seconds()
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high",
            title=f"{act.verb or act.type} was done {ago(late)} after {what} expired",
            grant=act.via_grant or None,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"hop": hop or None, "expired_at": at.isoformat(), "leaf": leaf, "seconds_late": late},
        )
