"""Open case: a complaint or a finding becomes a dispute over named acts."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from auditlog.core.chain.act import Act
from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted
from auditlog.models import Finding, Role, Tenant
from auditlog.reads import acts as acts_on_record
from auditlog.reads.access import Viewer
from auditlog.reads.read_findings import read_findings
from disputes.adjudicate import POLICY
from disputes.core.status import AWAITING
from disputes.gather_evidence import load_acts
from disputes.models import Case, ContestedAct
from disputes.record_step import record_step

MAX_ACTS = 1_000


@transaction.atomic
def open_case(
    viewer: Viewer,
    *,
    kind: str,
    title: str,
    now: datetime,
    event_ids: Sequence[str | UUID] = (),
    complaint: str = "",
    finding: Finding | None = None,
    claimed_minor: int | None = None,
    claimed_currency: str = "",
) -> Case:
    """File a case. Without `event_ids` it is about the acts that the finding rests on; of an abuse desk, about its own.

    Raises NotPermitted, NotFound naming unknown events, ConfigurationError when there is nothing to contest. The abuse
    desk may contest acts at its own provider only.
    """
    viewer.must("case")
    if finding is not None and finding.tenant_id != viewer.tenant.pk:
        raise NotFound(f"no finding {finding.pk}")
    if kind not in Case.Kind.values:
        raise ConfigurationError(f"no kind of case {kind!r}; there are: {', '.join(Case.Kind.values)}")
    acts = _contested(viewer, event_ids, finding)
    case = Case.objects.create(
        tenant=viewer.tenant,
        ref=next_ref(viewer.tenant, year=now.year),
        kind=kind,
        title=title.strip(),
        complaint=complaint.strip(),
        claimed_minor=claimed_minor,
        claimed_currency=claimed_currency.upper(),
        state="draft",
        awaiting=AWAITING["draft"],
        principal=_agreed(act.principal for act in acts),
        respondent=_agreed(act.actor for act in acts),
        provider=_agreed(act.provider for act in acts),
        policy_version=POLICY.version,
        opened_from=finding,
        opened_by=viewer.name,
        opened_at=now,
    )
    ContestedAct.objects.bulk_create(
        ContestedAct(tenant=viewer.tenant, case=case, position=position, event_id=act.event_id,
                     amount_minor=act.amount_minor, currency=act.currency)
        for position, act in enumerate(acts)
    )  # fmt: skip
    record_step(case, "filed", viewer=viewer, reason="", policy_version=POLICY.version, now=now,
                events=[act.event_id for act in acts])  # fmt: skip
    return case


def next_ref(tenant: Tenant, *, year: int) -> str:
    """`D-2026-000001`, then the next. The row's lock is held until commit, so no two cases get one number."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO dispute_number (tenant_id, year, last) VALUES (%s, %s, 1)"
            " ON CONFLICT (tenant_id, year) DO UPDATE SET last = dispute_number.last + 1 RETURNING last",
            [tenant.pk, year],
        )
        [number] = cursor.fetchone()
    return f"D-{year}-{number:06}"


def _contested(viewer: Viewer, event_ids: Sequence[str | UUID], finding: Finding | None) -> list[Act]:
    wanted = [str(event_id) for event_id in event_ids] or _ground(viewer, finding)
    if not wanted:
        raise ConfigurationError("a case is about at least one act: name its events, or a finding")
    if len(set(wanted)) > MAX_ACTS:
        raise ConfigurationError(f"a case is about at most {MAX_ACTS:,} acts, found {len(set(wanted)):,}")
    if viewer.role == Role.ABUSE:
        known = acts_on_record.load_acts(viewer.tenant, wanted)
        if any(act.provider != viewer.provider for act in known.values()):
            raise NotPermitted(f"the abuse desk of {viewer.provider} may contest acts at {viewer.provider} only")
    acts = list({act.event_id: act for act in load_acts(viewer.tenant, wanted)}.values())
    # A finding also rests on grants and notices; a person who names one means it.
    done = [act for act in acts if act.is_act or act.is_payment]
    return done or acts if not event_ids else acts


def _ground(viewer: Viewer, finding: Finding | None) -> list[str]:
    """The events that a finding rests on, as far as the viewer may see them."""
    if finding is None:
        return []
    [reading] = read_findings(viewer, [finding])
    return list(reading.events)


def _agreed(values) -> str:
    found = set(values)
    return found.pop() if len(found) == 1 else ""
