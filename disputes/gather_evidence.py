"""Gather evidence: the acts, the record around them, and whether their bytes hold. A fixed number of queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.errors import NotFound
from auditlog.models import Tenant
from auditlog.reads import acts as acts_on_record
from auditlog.reads.leaves import integrity_of
from auditlog.reads.record import record_around
from disputes.core.criteria import Integrity


@dataclass(frozen=True, slots=True)
class Evidence:
    acts: tuple[Act, ...]  # in the order asked for
    record: Record
    integrity: dict[str, Integrity]


def gather(tenant: Tenant, event_ids: Sequence[str | UUID], *, provider: str = "") -> Evidence:
    """Everything the engine looks at. Raises NotFound, naming every event that there is not (at `provider`, if given)."""
    acts = load_acts(tenant, event_ids, provider=provider)
    distinct = list({act.event_id: act for act in acts}.values())
    checks = integrity_of(tenant, distinct)
    integrity = {
        event_id: Integrity(c.leaf_index, c.commitment_ok, c.signature_ok, c.checkpoint_size, c.grade, c.reason)
        for event_id, c in checks.items()
    }
    return Evidence(acts, record_around(tenant, distinct, with_history=True), integrity)


def load_acts(tenant: Tenant, event_ids: Sequence[str | UUID], *, provider: str = "") -> tuple[Act, ...]:
    """The acts in the order asked for. Another provider's event is as unknown to `provider` as one that never was."""
    wanted = [str(event_id) for event_id in event_ids]
    found = acts_on_record.load_acts(tenant, wanted) if wanted else {}
    known = {event_id: act for event_id, act in found.items() if not provider or act.provider == provider}
    missing = [event_id for event_id in dict.fromkeys(wanted) if event_id not in known]
    if missing:
        raise NotFound(f"no such event, or not projected yet: {', '.join(missing[:20])}")
    return tuple(known[event_id] for event_id in wanted)
