"""Adjudicate: run the pure engine over what the record holds. It recommends; people decide."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import rfc8785
from django.db.models import Q

from auditlog.models import Event, ProjectionState, Tenant
from auditlog.projection.generation import generation_of
from disputes.core.criteria import Policy
from disputes.core.verdict import ENGINE, reach
from disputes.gather_evidence import gather
from disputes.models import Assessment, Case, Reading

POLICY = Policy()
MANY = 1_000


def adjudicate(tenant: Tenant, event_ids: Sequence[str | UUID], *, provider: str = "") -> list[dict[str, Any]]:
    """Verdicts in the order asked for, stored nowhere. `provider`: the only one whose acts the caller may see.

    Raises NotFound, naming the events there are not.
    """
    evidence = gather(tenant, event_ids, provider=provider)
    return [
        reach(act, evidence.record, evidence.integrity.get(act.event_id), POLICY).as_json() for act in evidence.acts
    ]


def assess(case: Case, *, now: datetime) -> Assessment:
    """Judge every contested act of a case and keep the verdicts as they came out."""
    position = position_of(
        case.tenant
    )  # before the record is read: what comes meanwhile makes it stale, and is not missed
    verdicts = adjudicate(case.tenant, [act.event_id for act in case.acts.all()])
    return Assessment.objects.create(
        tenant=case.tenant, case=case, number=case.assessments.count() + 1, at=now, engine=ENGINE,
        policy_version=POLICY.version, verdicts=verdicts, digest=_digest_of(verdicts), position=position,
    )  # fmt: skip


def read(case: Case, *, now: datetime) -> Reading:
    """What the engine says of a case that was not assessed: as kept, where nothing that bears on it has come since."""
    kept = Reading.objects.filter(case=case).first()
    if (
        kept
        and (kept.engine, kept.policy_version) == (ENGINE, POLICY.version)
        and not newer_events(case, kept.position)
    ):
        return kept
    position = position_of(case.tenant)
    verdicts = adjudicate(case.tenant, [act.event_id for act in case.acts.all()])
    kept, _ = Reading.objects.update_or_create(
        case=case,
        defaults={"tenant": case.tenant, "at": now, "engine": ENGINE, "policy_version": POLICY.version, "verdicts": verdicts,
                  "digest": _digest_of(verdicts), "position": position},
    )  # fmt: skip
    return kept


def newer_events(case: Case, position: int) -> int:
    """How many events that may bear on the case (its principals', or under its grants, tokens or charges) were
    projected since; counted up to MANY.
    """
    acts = Event.objects.filter(tenant=case.tenant, generation=generation_of(case.tenant))
    mine = acts.filter(event_id__in=case.acts.values("event_id"))
    found = Q(pk__in=[])
    for name in ("principal", "via_grant", "token", "charge"):
        values = set(mine.exclude(**{name: ""}).values_list(name, flat=True))
        if values:
            found |= Q(**{f"{name}__in": values})
    return len(acts.filter(found, leaf_index__gte=position).values_list("leaf_index")[:MANY])


def position_of(tenant: Tenant) -> int:
    return ProjectionState.objects.values_list("position", flat=True).get(tenant=tenant, is_current=True)


def _digest_of(verdicts: Sequence[dict[str, Any]]) -> str:
    return sha256(rfc8785.dumps(sorted(verdict["digest"] for verdict in verdicts))).hexdigest()
