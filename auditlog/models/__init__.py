"""Tables, in four kinds: directory (who uses the service), ledger (insert-only), projections (disposable), findings."""

from auditlog.models.directory import (
    ApiToken,
    Heartbeat,
    Membership,
    Organisation,
    OwnedName,
    RetentionPolicy,
    Role,
    Source,
    SourceKey,
    Tenant,
    Witness,
)
from auditlog.models.findings import Finding, RefusalCount, Triage, Verification
from auditlog.models.ledger import (
    Checkpoint,
    Cosignature,
    Edge,
    Hold,
    Leaf,
    LedgerEntry,
    LogHead,
    LogKey,
    Payload,
    PublisherState,
    Release,
    Tile,
)
from auditlog.models.projections import (
    Charge,
    Dirty,
    Event,
    Grant,
    LimitStatement,
    Party,
    ProjectionState,
    Token,
)

__all__ = [
    "ApiToken", "Charge", "Checkpoint", "Cosignature", "Dirty", "Edge", "Event", "Finding", "Grant", "Heartbeat", "Hold", "Leaf", "LedgerEntry", "LimitStatement",
    "LogHead", "LogKey", "Membership", "Organisation", "OwnedName", "Party", "Payload", "ProjectionState", "PublisherState", "RefusalCount", "Release", "RetentionPolicy", "Role",
    "Source", "SourceKey", "Tenant", "Tile", "Token", "Triage",
    "Verification", "Witness",
]  # fmt: skip
