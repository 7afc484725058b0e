"""authority.used_after_revocation: acts under a grant or token that had been revoked before them.

One finding a revoked grant or token, however many acts there are below it: it grows with each, and shrinks when the
ground of one is gone.
"""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import Ended, ended_before
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES, is_use
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding
from auditlog.detectors.gathered import span

rule = "authority.used_after_revocation"
version = 2
title = "Revoked authority was used"
runbook = (
    "Check when the provider was told: before that it is a race, after it the provider let it through. Undo the acts "
    "where they can be undone, and make sure that tokens under the grant are dead."
)
false_positives = "The provider's clock runs ahead of the token server's by more than the gap."
of_events = frozenset({"money_at_risk"})  # when authority ended, others say
types = USE_TYPES
partition = ("event_id",)
waits = False
gathers = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        ended = revoked_before(act, record) if is_use(act, record) else None
        if ended is None:
            continue
        link, notice = ended.link, ended.notice
        yield finding(
            rule,
            ended.name,
            [act],
            severity="high" if ended.is_race else "critical",
            title=f"{act.verb or act.type} was done {span(ended.seconds_late)} after {ended.name} was revoked",
            grant=act.via_grant or None,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"hop": ended.hop, "revoked_at": link.revoked_at.isoformat(), "revocation_leaf": link.revoked_leaf,
                      "seconds_late": ended.seconds_late, "race": ended.is_race, "state": ended.state,
                      "provider_notified_at": notice.isoformat() if notice else None, "ended": ended.name,
                      "learned_later": link.revoked_known_at is not None and link.revoked_known_at > act.received_at},
        )  # fmt: skip


def revoked_before(act: Act, record: Record) -> Ended | None:
    tokens = record.token_path(act.token)
    unstated = record.tokens.get(tokens.missing) if tokens.missing else None
    return ended_before(act.path, tokens, act.occurred_at, provider=act.provider, unstated=unstated)
