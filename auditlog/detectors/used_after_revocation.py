"""authority.used_after_revocation: an act under a grant or token that had been revoked before it."""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.authority import first_revocation
from auditlog.core.finding import Finding
from auditlog.core.gates import paid_by
from auditlog.core.record import Record
from auditlog.detectors import finding

rule = "authority.used_after_revocation"
version = 1
title = "Revoked authority was used"
runbook = (
    "Check when the provider was told: before that it is a race, after it the provider let it through. Undo the act "
    "where it can be undone, and make sure that tokens under the grant are dead."
)
false_positives = "The provider's clock runs ahead of the token server's by more than the gap."
types = frozenset(
    ["project.created", "provider.linked", "account.requested", "account.created", "account.linked", "terms.accepted", "resource.requested", "resource.provisioned", "resource.updated", "resource.removed", "credential.issued", "credential.rotated", "domain.registered", "domain.renewed", "domain.transferred", "domain.deleted", "action.performed", "deployment.completed", "payment.authority_granted", "payment.authorized", "payment.captured", "subscription.started", "subscription.changed", "usage.metered", "token.issued", "token.exchanged"]
)
partition = ("event_id",)
waits = False


def is_use(act: Act, record: Record) -> bool:
    """Whether this is a use of authority, and not the payment system's later word on one."""
    if not act.happened or act.environment != "live":
        return False
    if not act.is_payment:
        return True
    return paid_by(act, record) is None and bool(act.grant or act.token)


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not is_use(act, record):
            continue
        on_path = first_revocation(act.path, act.occurred_at)
        token = record.tokens.get(act.token)
        if on_path is not None:
            hop, grant = on_path
            what, at, leaf, known_at = f"grant {grant.id}", grant.revoked_at, grant.revoked_leaf, grant.revoked_known_at
            notice = grant.notified.get(act.provider)
        elif token is not None and token.revoked_at is not None and token.revoked_at <= act.occurred_at:
            hop, what, at, leaf = None, f"token {token.jti}", token.revoked_at, token.leaf_index
            known_at, notice = token.revoked_known_at, None
        else:
            continue
        late = (act.occurred_at - at).total_seconds()
        race = notice is None or notice > act.occurred_at
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="high" if race and late < 60 else "critical",
            title=f"{act.verb or act.type} was done {_ago(late)} after {what} was revoked",
            grant=act.via_grant or None,
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"hop": hop, "revoked_at": at.isoformat(), "revocation_leaf": leaf, "seconds_late": late,
                      "race": race, "provider_notified_at": notice.isoformat() if notice else None,
                      "learned_later": known_at is not None and known_at > act.received_at},
        )  # fmt: skip


def _ago(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
