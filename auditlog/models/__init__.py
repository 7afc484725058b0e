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
)
from auditlog.models.findings import Finding, RefusalCount, Triage
from auditlog.models.ledger import Checkpoint, Edge, Hold, Leaf, LedgerEntry, LogHead, LogKey, Payload, Release, Tile
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
    "ApiToken", "Charge", "Checkpoint", "Dirty", "Edge", "Event", "Finding", "Grant", "Heartbeat", "Hold", "Leaf", "LedgerEntry", "LimitStatement",
    "LogHead", "LogKey", "Membership", "Organisation", "OwnedName", "Party", "Payload", "ProjectionState", "RefusalCount", "Release", "RetentionPolicy", "Role",
    "Source", "SourceKey", "Tenant", "Tile", "Token", "Triage",
]  # fmt: skip
