"""authority.used_after_revocation: an act under a grant or token that had been revoked before it."""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.authority import first_revocation
from auditlog.core.finding import Finding
from auditlog.core.record import Record
from auditlog.core.statement import Token
from auditlog.core.use import USE_TYPES, is_use
from auditlog.detectors import finding

rule = "authority.used_after_revocation"
version = 1
title = "Revoked authority was used"
runbook = (
    "Check when the provider was told: before that it is a race, after it the provider let it through. Undo the act "
    "where it can be undone, and make sure that tokens under the grant are dead."
)
false_positives = "The provider's clock runs ahead of the token server's by more than the gap."
of_events = frozenset({"money_at_risk"})  # when authority ended, others say
types = USE_TYPES
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not is_use(act, record):
            continue
        on_path = first_revocation(act.path, act.occurred_at)
        token = next((t for t in _tokens(act, record) if t.revoked_at is not None and t.revoked_at <= act.occurred_at), None)
        if on_path is not None:
            hop, ended = on_path
            what = f"grant {ended.id}"
        elif token is not None:
            hop, ended, what = None, token, f"token {token.jti}"
        else:
            continue
        at, leaf, known_at = ended.revoked_at, ended.revoked_leaf, ended.revoked_known_at
        notice = ended.notified.get(act.provider)
        late = (act.occurred_at - at).total_seconds()
        race = notice is None or notice > act.occurred_at
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high" if race and late < 60 else "critical",
            title=f"{act.verb or act.type} was done {ago(late)} after {what} was revoked",
            grant=act.via_grant or None,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"hop": hop, "revoked_at": at.isoformat(), "revocation_leaf": leaf, "seconds_late": late,
                      "race": race, "provider_notified_at": notice.isoformat() if notice else None,
                      "learned_later": known_at is not None and known_at > act.received_at},
        )  # fmt: skip


def _tokens(act: Act, record: Record) -> Sequence[Token]:
    """What was shown and what it was exchanged from; a token of which only the end is known is one too."""
    path = record.token_path(act.token)
    unstated = [record.tokens[path.missing]] if path.missing in record.tokens else []
    return [*unstated, *path.tokens]


def ago(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
