"""Open case: a complaint or a finding becomes a dispute over named acts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from auditlog.core.chain.act import Act
from auditlog.core.chain.use import answers_for
from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted
from auditlog.models import Finding, Role, Tenant
from auditlog.reads import acts as acts_on_record
from auditlog.reads.access import Viewer
from auditlog.reads.read_findings import read_findings
from auditlog.reads.record import record_around
from disputes.adjudicate import POLICY
from disputes.case.bank import bank_disputes
from disputes.case.deadline import set_deadline
from disputes.case.keep import hold_acts
from disputes.case.papers import about
from disputes.case.record_step import hand_of, record_step
from disputes.core.grounds import digest_of_words
from disputes.core.status import AWAITING
from disputes.gather_evidence import load_acts
from disputes.models import Case, ContestedAct

MAX_ACTS = 20_000
_TAKEN = ("payment.captured", "payment.settled")


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
    parts: Mapping[str, int] | None = None,
) -> Case:
    """File a case. Without `event_ids` it is about the acts that the finding rests on; of an abuse desk, about its own.

    `parts`: by event, how much of its amount is contested, in its minor units. A dispute that a bank tells of is about
    the acts of its charge.

    Raises NotPermitted, NotFound naming unknown events, ConfigurationError when there is nothing to contest. The abuse
    desk may contest acts at its own provider only.
    """
    viewer.must("case")
    if finding is not None and finding.tenant_id != viewer.tenant.pk:
        raise NotFound(f"no finding {finding.pk}")
    if kind not in Case.Kind.values:
        raise ConfigurationError(f"no kind of case {kind!r}; there are: {', '.join(Case.Kind.values)}")
    acts = contested_acts(viewer, event_ids, finding)
    contested = _parts(acts, parts or {})
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
                     amount_minor=contested.get(act.event_id, act.amount_minor), currency=act.currency)
        for position, act in enumerate(acts)
    )  # fmt: skip
    noted = {
        "events": [act.event_id for act in acts],
        "leaves": [act.leaf_index for act in acts],
        "about": digest_of_words(about(case)),
    }
    record_step(case, "filed", hand=hand_of(viewer), reason="", policy_version=POLICY.version, now=now, **noted)
    hold_acts(case, who=viewer.name, now=now)
    _external_deadlines(case, viewer, event_ids, now=now)
    return case


def _parts(acts: Sequence[Act], parts: Mapping[str, int]) -> dict[str, int]:
    """Raises ConfigurationError for a part of what is not contested, or of more than there is."""
    by_id = {act.event_id: act for act in acts}
    for event_id, amount in parts.items():
        act = by_id.get(event_id)
        if act is None:
            raise ConfigurationError(f"a part is contested of {event_id}, which is not among the acts")
        if act.amount_minor is None or not 0 < amount <= act.amount_minor:
            raise ConfigurationError(
                f"of {event_id} between 1 and {act.amount_minor or 0} minor units can be contested, found {amount}"
            )
    return dict(parts)


def _external_deadlines(case: Case, viewer: Viewer, event_ids: Sequence[str | UUID], *, now: datetime) -> None:
    """By when a bank's dispute that the case was opened from has to be answered, where it says so."""
    for told in bank_disputes(case.tenant, event_ids):
        if told.due is not None and told.due > now:
            why = f", reason {told.reason}" if told.reason else ""
            basis = f"the network's own date for dispute {told.id or told.event_id}{why}"
            set_deadline(case, viewer, now=now, due=told.due, basis=basis)


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


def contested_acts(viewer: Viewer, event_ids: Sequence[str | UUID], finding: Finding | None) -> list[Act]:
    """The acts that a case opened from these would be about. Raises as `open_case` does."""
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
    acts = _through_disputes(viewer.tenant, acts)
    # A finding also rests on grants and notices; a person who names one means it.
    done = [act for act in acts if act.is_act or act.is_payment]
    return done or acts if not event_ids else acts


def _through_disputes(tenant: Tenant, acts: list[Act]) -> list[Act]:
    """In the place of a bank's dispute the act that its charge paid for, else the payment, else itself."""
    disputes = [act for act in acts if act.type.startswith("dispute.")]
    if not disputes:
        return acts
    around = record_around(tenant, disputes)
    found: dict[str, Act] = {}
    for act in acts:
        through = answers_for(act, around) if act in disputes else act
        if through.type.startswith("dispute.") and through.charge:
            same = (through.rail, through.charge)
            paid = [one for one in around.siblings if one.type in _TAKEN and (one.rail, one.charge) == same]
            through = min(paid, key=lambda one: (one.occurred_at, one.leaf_index), default=through)
        found[through.event_id] = through
    return list(found.values())


def _ground(viewer: Viewer, finding: Finding | None) -> list[str]:
    """The events that a finding rests on, as far as the viewer may see them."""
    if finding is None:
        return []
    [reading] = read_findings(viewer, [finding])
    return list(reading.events)


def _agreed(values) -> str:
    found = set(values)
    return found.pop() if len(found) == 1 else ""
