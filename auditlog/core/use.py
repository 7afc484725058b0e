"""A use of authority: what must lie within what was in force when it happened."""

from auditlog.core.act import Act
from auditlog.core.gates import paid_by
from auditlog.core.record import Record

USE_TYPES = frozenset(
    "project.created provider.linked account.requested account.created account.linked terms.accepted "
    "resource.requested resource.provisioned resource.updated resource.removed credential.issued "
    "credential.rotated domain.registered domain.renewed domain.transferred domain.deleted action.performed "
    "deployment.completed payment.authority_granted payment.authorized payment.captured subscription.started "
    "subscription.changed usage.metered token.issued token.exchanged delegation.granted mandate.issued".split()
)


def is_use(act: Act, record: Record) -> bool:
    """Whether this is a use of authority, and not the payment system's later word on one."""
    if not act.happened or act.environment != "live":
        return False
    if not act.is_payment:
        return True
    return paid_by(act, record) is None and bool(act.grant or act.token)
