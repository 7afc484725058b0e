"""Tell: a tenant's cases as lines for a SIEM, one for each step that a case takes. The settings name it
(`SIEM_STREAMS`).

A cursor is the first leaf that was not looked at. A step's leaf is appended under the log's lock, which is held until
the step is committed, so no step ever comes in below a cursor. A step is told as the case was after it: with the
verdicts of the assessment that there was by then, and of what people wrote, what stands in the case.
"""

from collections.abc import Sequence
from typing import Any

from django.db import connection

from auditlog.core.siem.case_step import CaseStep, Contested, Standing
from auditlog.core.siem.cef import case_line
from auditlog.core.siem.ocsf_out import case_object, line
from auditlog.export.stream import Page, Stream, check_cursor
from auditlog.models import Tenant
from disputes.core.status import AWAITING
from disputes.models import ContestedAct, Proposal, Transition

_STANDINGS: dict[str, Standing] = {
    "draft": "new", "filed": "new", "deficient": "on_hold", "suspended": "on_hold",
    "decided": "resolved", "decided_final": "resolved", "final": "resolved", "remedy_pending": "resolved",
    "not_eligible": "closed", "closed": "closed", "withdrawn": "closed", "settled": "closed", "merged": "closed",
}  # fmt: skip


def _read(tenant: Tenant, format: str, after: int, size: int) -> Page:
    check_cursor(after, _end(tenant))
    steps = list(
        Transition.objects.filter(tenant=tenant, leaf_index__gte=after)
        .select_related("case__opened_from")
        .order_by("leaf_index")[: size + 1]
    )
    shown = steps[:size]
    write = case_line if format == "cef" else lambda *said, **more: line(case_object(*said, **more))
    lines = [write(step, tenant=tenant.name) for step in _steps(tenant, shown)]
    return Page(lines, shown[-1].leaf_index + 1 if shown else after, len(steps) > size)


def _steps(tenant: Tenant, steps: Sequence[Transition]) -> list[CaseStep]:
    """Four queries, however many steps."""
    cases = sorted({step.case_id for step in steps})
    acts: dict[int, list[ContestedAct]] = {}
    for act in ContestedAct.objects.filter(tenant=tenant, case_id__in=cases).order_by("case_id", "position"):
        acts.setdefault(act.case_id, []).append(act)
    verdicts, decided = _verdicts(tenant, cases), _decided(tenant, cases)
    found = []
    for step in steps:
        case = step.case
        standing = _STANDINGS.get(step.to_state, "in_progress")
        judged = next((said for at, said in reversed(verdicts.get(case.pk, [])) if at <= step.at), {})
        found.append(
            CaseStep(
                uid=case.ref, step=step.position, leaf_index=step.leaf_index, at=step.at, opened_at=case.opened_at, kind=case.kind,
                state=step.to_state, standing=standing, awaiting=AWAITING[step.to_state], title=case.title, complaint=case.complaint,
                by=step.actor, role=step.role, reason=step.reason,
                acts=tuple(
                    Contested(str(act.event_id), act.amount_minor, act.currency, judged.get(str(act.event_id), ""))
                    for act in acts.get(case.pk, ())
                ),
                principal=case.principal, actor=case.respondent, provider=case.provider,
                claimed_minor=case.claimed_minor, claimed_currency=case.claimed_currency,
                outcome=next((said for at, said in reversed(decided.get(case.pk, [])) if at <= step.at and standing in ("resolved", "closed")), ""),
                merged_into=case.merged_into if step.to_state == "merged" else "",
                finding=case.opened_from_id, finding_title=case.opened_from.title if case.opened_from else "",
                severity=case.opened_from.severity if case.opened_from else "",
            )
        )  # fmt: skip
    return found


def _verdicts(tenant: Tenant, cases: Sequence[int]) -> dict[int, list[tuple[Any, dict[str, str]]]]:
    """By case, its assessments in order: when, and the verdict by event. Of a verdict, which is long, its one word."""
    found: dict[int, list[tuple[Any, dict[str, str]]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.case_id, a.at, coalesce((SELECT string_agg((v->>'event_id') || ' ' || (v->>'verdict'), E'\\n')"
            " FROM jsonb_array_elements(a.verdicts) v), '')"
            " FROM dispute_assessment a WHERE a.tenant_id = %s AND a.case_id = ANY(%s) ORDER BY a.case_id, a.number",
            [tenant.pk, list(cases)],
        )
        for case_id, at, said in cursor.fetchall():
            found.setdefault(case_id, []).append((at, dict(row.split(" ", 1) for row in said.splitlines())))
    return found


def _decided(tenant: Tenant, cases: Sequence[int]) -> dict[int, list[tuple[Any, str]]]:
    """By case, what was decided and when: proposals that a second person approved."""
    found: dict[int, list[tuple[Any, str]]] = {}
    approved = Proposal.objects.filter(tenant=tenant, case_id__in=list(cases), approval__result="approved").order_by(
        "case_id", "number"
    )
    for case_id, outcome, at in approved.values_list("case_id", "outcome", "approval__at"):
        found.setdefault(case_id, []).append((at, outcome))
    return found


def _end(tenant: Tenant) -> int:
    last = Transition.objects.filter(tenant=tenant).order_by("-leaf_index").values_list("leaf_index", flat=True).first()
    return 0 if last is None else last + 1


def _behind(tenant: Tenant, position: int) -> int:
    return Transition.objects.filter(tenant=tenant, leaf_index__gte=position).count()


CASES = Stream(
    "cases", "step,steps", _read, _end, _behind,
    has_more="EXISTS (SELECT 1 FROM dispute_transition t WHERE t.tenant_id = s.tenant_id AND t.leaf_index >= s.position)",
)  # fmt: skip
