"""Adjudicate: run the pure engine over what the record holds. It recommends; people decide."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import rfc8785

from auditlog.models import Tenant
from disputes.core.criteria import Policy
from disputes.core.verdict import ENGINE, reach
from disputes.gather_evidence import gather
from disputes.models import Assessment, Case

POLICY = Policy()


def adjudicate(tenant: Tenant, event_ids: Sequence[str | UUID], *, provider: str = "") -> list[dict[str, Any]]:
    """Verdicts in the order asked for, stored nowhere. `provider`: the only one whose acts the caller may see.

    Raises NotFound, naming the events there are not.
    """
    evidence = gather(tenant, event_ids, provider=provider)
    return [reach(act, evidence.record, evidence.integrity.get(act.event_id), POLICY).as_json() for act in evidence.acts]


def assess(case: Case, *, now: datetime) -> Assessment:
    """Judge every contested act of a case and keep the verdicts as they came out."""
    verdicts = adjudicate(case.tenant, [act.event_id for act in case.acts.all()])
    digests = sorted(verdict["digest"] for verdict in verdicts)
    return Assessment.objects.create(
        tenant=case.tenant,
        case=case,
        number=case.assessments.count() + 1,
        at=now,
        engine=ENGINE,
        policy_version=POLICY.version,
        verdicts=verdicts,
        digest=sha256(rfc8785.dumps(digests)).hexdigest(),
    )
