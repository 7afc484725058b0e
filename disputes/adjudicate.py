"""Adjudicate: run the pure engine over what the record holds. It recommends; people decide."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import rfc8785
from django.db.models import Q

from auditlog.models import Event, Finding, FindingMember, ProjectionState, Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.chains import chains_of
from disputes.case.papers import of_run
from disputes.core.beside import JUDGED_BY, Found, beside
from disputes.core.criteria import Policy
from disputes.core.grounds import events_in, grounds, words_digest
from disputes.core.verdict import ENGINE, reach
from disputes.gather_evidence import Evidence, gather
from disputes.models import Assessment, Case, Reading

POLICY = Policy()
MANY = 1_000
TOLD_EVERY = 500  # acts
# Of a run in a worker: who is told how many acts were judged.
PROGRESS: ContextVar[Callable[[int], None] | None] = ContextVar("progress", default=None)


def adjudicate(tenant: Tenant, event_ids: Sequence[str | UUID], *, provider: str = "") -> list[dict[str, Any]]:
    """Verdicts in the order asked for, stored nowhere, each with the findings on its act beside it. `provider`: the only one
    whose acts the caller may see; findings are not that one's to read.

    Raises NotFound, naming the events there are not.
    """
    return _judged(tenant, gather(tenant, event_ids, provider=provider), provider=provider)


def _judged(tenant: Tenant, evidence: Evidence, *, provider: str = "") -> list[dict[str, Any]]:
    found = {} if provider else _findings_on(tenant, [act.leaf_index for act in evidence.acts])
    verdicts, tell = [], PROGRESS.get()
    for number, act in enumerate(evidence.acts):
        if tell is not None and number % TOLD_EVERY == 0:
            tell(number)
        reached = reach(act, evidence.record, evidence.integrity.get(act.event_id), POLICY)
        verdict = reached.as_json()
        said = {"line": reached.liability.line, "beside": beside(verdict, found.get(act.leaf_index, ()))}
        verdicts.append(verdict | said)
    return verdicts


def _findings_on(tenant: Tenant, leaves: Sequence[int]) -> dict[int, list[Found]]:
    """By leaf, the findings that rest on it and that a criterion judges too."""
    found: dict[int, list[Found]] = {}
    members = (
        FindingMember.objects.filter(tenant=tenant, leaf_index__in=leaves, finding__rule__in=JUDGED_BY)
        .exclude(finding__state=Finding.State.WITHDRAWN)
        .order_by("leaf_index", "finding_id")
        .values_list("leaf_index", "finding_id", "finding__rule", "finding__severity", "finding__state", "finding__evidence__crossed_by",
                     "finding__evidence__enforcement")
    )  # fmt: skip
    for leaf, id, rule, severity, state, crossed_by, enforcement in members:
        found.setdefault(leaf, []).append(
            Found(id, rule, severity, state, crossed_by or "", enforcement == "alert_only")
        )
    return found


def assess(case: Case, *, now: datetime, person: str = "", actor: str = "", reason: str = "") -> Assessment:
    """Judge every contested act of a case and keep the verdicts as they came out. `reason`: why it was run again."""
    position = position_of(
        case.tenant
    )  # before the record is read: what comes meanwhile makes it stale, and is not missed
    evidence = gather(case.tenant, list(case.acts.values_list("event_id", flat=True)))
    verdicts = _judged(case.tenant, evidence)
    distinct = list({act.event_id: act for act in evidence.acts}.values())
    rests_on = grounds(
        distinct, evidence.record, chains_of(case.tenant, distinct), POLICY, frozenset(events_in(verdicts))
    )
    run = Assessment(
        tenant=case.tenant, case=case, number=case.assessments.count() + 1, at=now, engine=ENGINE,
        policy_version=POLICY.version, verdicts=verdicts, digest=_digest_of(verdicts), position=position,
        grounds=rests_on, person=person, actor=actor, reason=reason,
    )  # fmt: skip
    run.words = words_digest(of_run(run), verdicts, rests_on)
    run.save(force_insert=True)
    return run


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
