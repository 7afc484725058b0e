"""Reads of the argument: for the API and the dashboard alike. The abuse desk sees cases at its own provider only."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

from auditlog.core.errors import NotFound
from auditlog.models import Finding, Role
from auditlog.reads.access import WHOLE, Viewer, person_of
from auditlog.reads.sight import Sight, visible_findings
from disputes.adjudicate import newer_events, read
from disputes.case.answer_bank import Draft, bank_dispute_of, draft
from disputes.case.bank import BankDispute
from disputes.case.record_step import refusal_of, standing_of
from disputes.core.compare import Rollup, changes, roll_up
from disputes.core.history import Taken, first_break
from disputes.core.status import BY_VERB, OPEN, nexts
from disputes.core.verdict import outline
from disputes.jobs.assess import AT_ONCE
from disputes.models import (
    Assessment,
    AssessmentJob,
    Case,
    ContestedAct,
    Deadline,
    EvidenceItem,
    Proposal,
    Reading,
    Transition,
)

MOST_SIMILAR = 20

_REF = re.compile(r"D-[0-9]{4}-[0-9]{6,10}\Z")


def visible_cases(viewer: Viewer) -> QuerySet[Case]:
    cases = Case.objects.filter(tenant=viewer.tenant).select_related("tenant")
    return cases.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else cases


def find_case(viewer: Viewer, ref: str) -> Case:
    """Raises NotFound, also for a case that the viewer may not see."""
    case = visible_cases(viewer).filter(ref=ref).first() if _REF.match(ref) else None
    if case is None:
        raise NotFound(f"no case {ref}")
    return case


def find_finding(viewer: Viewer, finding_id: int) -> Finding:
    """The row, to open a case from; what of it may be read, `read_findings` says. Raises NotFound."""
    finding = visible_findings(viewer).filter(pk=finding_id).first()
    if finding is None:
        raise NotFound(f"no finding {finding_id}")
    return finding


def _as_read(viewer: Viewer, cases: list[Case]) -> list[Case]:
    """The cases with what an abuse desk may not read taken out: parties that its own events do not name become stubs,
    and the number of a finding that it may not see is gone. Not to be saved.
    """
    if viewer.role != Role.ABUSE:
        return cases
    sight = Sight.of(viewer, {key for case in cases for key in (case.principal, case.respondent)})
    seen = set(
        visible_findings(viewer).filter(pk__in=[case.opened_from_id for case in cases]).values_list("pk", flat=True)
    )
    for case in cases:
        case.principal, case.respondent = sight.text(case.principal), sight.text(case.respondent)
        if case.opened_from_id not in seen:
            case.opened_from_id = None
    return cases


def list_cases(
    viewer: Viewer, *, state: str = "", awaiting: str = "", before: str = "", limit: int = 50, order: str = "newest"
) -> tuple[list[Case], str | None]:
    """Cases newest first, and the ref to continue before; None when these were the last. `due`: those with a deadline
    that runs, the first one first, as many as fit.
    """
    cases = visible_cases(viewer)
    if order == "due":
        if state:
            cases = cases.filter(state=state)
        if awaiting:
            cases = cases.filter(awaiting=awaiting)
        return _as_read(viewer, list(cases.filter(due_at__isnull=False).order_by("due_at", "id")[:limit])), None
    if state:
        cases = cases.filter(state=state)
    if awaiting:
        cases = cases.filter(awaiting=awaiting)
    if before:
        cases = cases.filter(id__lt=find_case(viewer, before).id)
    page = list(cases.order_by("-id")[: limit + 1])
    return _as_read(viewer, page[:limit]), page[limit - 1].ref if len(page) > limit else None


def cases_about(viewer: Viewer, event_ids: Collection[str]) -> list[Case]:
    """Cases about any of these acts that the viewer may see: those that go on first, then the newest."""
    acts = ContestedAct.objects.filter(tenant=viewer.tenant, event_id__in=list(event_ids))
    found = visible_cases(viewer).filter(id__in=acts.values("case_id")).exclude(state="merged").order_by("-id")
    return sorted(found[:MOST_SIMILAR], key=lambda case: case.state not in OPEN)


def cases_of_event(viewer: Viewer, event_id: str) -> list[Case]:
    acts = ContestedAct.objects.filter(tenant=viewer.tenant, event_id=event_id)
    return list(visible_cases(viewer).filter(id__in=acts.values("case_id")).order_by("-id"))


@dataclass(frozen=True, slots=True)
class Move:
    """A step that the case could take, and whether the viewer may take it. `verb`: move, propose or approve."""

    to: str
    verb: str
    who: str  # which right it takes: case or decide
    needs_reason: bool
    why_not: str  # "" when the viewer may

    @property
    def allowed(self) -> bool:
        return not self.why_not


class Total(NamedTuple):
    """What the verdicts of a case come to: so many acts with one verdict, borne by one party, in one currency."""

    verdict: str
    bearer: str
    acts: int
    amount_minor: int | None
    currency: str


def totals_of(verdicts: list[dict[str, Any]]) -> list[Total]:
    """Money is added once a line, however many statements of it are contested: the greatest that one of them came to."""
    sums: dict[tuple[str, str, str], list[int | None]] = {}
    most: dict[tuple[str, str], dict[str, Any]] = {}  # by line and currency
    for verdict in verdicts:
        liability = verdict["liability"]
        sums.setdefault((verdict["verdict"], liability["bearer"], liability["currency"] or ""), [0, None])[0] += 1
        if liability["amount_minor"] is not None:
            line = (verdict.get("line") or verdict["event_id"], liability["currency"] or "")
            if line not in most or liability["amount_minor"] > most[line]["liability"]["amount_minor"]:
                most[line] = verdict
    for verdict in most.values():
        liability = verdict["liability"]
        into = sums[verdict["verdict"], liability["bearer"], liability["currency"] or ""]
        into[1] = (into[1] or 0) + liability["amount_minor"]
    return sorted((Total(verdict, bearer, acts, amount, currency) for (verdict, bearer, currency), (acts, amount) in sums.items()),
                  key=lambda total: (total.verdict, -(total.amount_minor or 0), total.bearer))  # fmt: skip


class CaseParty(NamedTuple):
    """`role`: claimant | respondent | operator | provider. `name`: a party's key, an issuer or a provider."""

    role: str
    side: str
    name: str
    words: str


class Run(NamedTuple):
    """One run of the engine over a case. `changes`: against the run on the sealed record."""

    number: int
    at: datetime
    is_sealed: bool
    actor: str
    reason: str
    engine: str
    policy_version: str
    position: int
    digest: str
    changes: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CasePage:
    case: Case
    acts: list[ContestedAct]
    verdicts: list[dict[str, Any]]  # in the order of `acts`
    is_assessed: bool  # False: nobody has assessed the case; the verdicts are a reading of the record
    as_of: datetime
    newer: int  # events that may bear on the case and came after it was assessed: the verdicts are stale
    totals: list[Total]
    transitions: list[Transition]
    broken_at: int | None  # position of the first transition that its hash chain does not fit
    proposals: list[Proposal]  # each with `.approval`, where there is one
    moves: list[Move]
    rollup: Rollup
    parties: list[CaseParty]
    deadlines: list[Deadline]
    evidence: list[EvidenceItem]
    assessments: list[Run]
    job: AssessmentJob | None  # the newest run in a worker that is not done
    bank: BankDispute | None  # a bank's question about a payment of the case; of an abuse desk None

    @property
    def verdict_of(self) -> dict[str, dict[str, Any]]:
        return {verdict["event_id"]: verdict for verdict in self.verdicts}


def case_page(viewer: Viewer, ref: str, *, now: datetime) -> CasePage:
    """A case with everything that its page shows, and what may be done next and by whom."""
    case = find_case(viewer, ref)
    acts = list(case.acts.all())
    last, said = _said_of(case, now=now)
    transitions = list(case.transitions.all())
    [as_read] = _as_read(viewer, [case])
    return CasePage(
        case=as_read,
        acts=acts,
        verdicts=read_verdicts(viewer, said.verdicts),
        is_assessed=last is not None,
        as_of=said.at,
        newer=newer_events(case, said.position) if last else 0,
        totals=totals_of(said.verdicts) if viewer.role != Role.ABUSE else [],
        transitions=transitions,
        broken_at=first_break((_taken(case, row), row.digest) for row in transitions),
        proposals=list(case.proposals.select_related("approval")),
        moves=next_moves(viewer, case),
        rollup=roll_up(said.verdicts),
        parties=_parties(viewer, as_read),
        deadlines=list(case.deadlines.all()),
        evidence=evidence_of(viewer, case),
        assessments=runs_of(viewer, case),
        job=case.jobs.exclude(state="done").order_by("-id").first(),
        bank=bank_dispute_of(case) if viewer.may(WHOLE) else None,
    )


def _said_of(case: Case, *, now: datetime) -> tuple[Assessment | None, Assessment | Reading]:
    """The run that is decided on, if there is one, and what the engine says of the case: that run, else a reading."""
    last = case.assessments.filter(reason="").order_by("-number").first()
    if last is None and case.acts.count() > AT_ONCE and not Reading.objects.filter(case=case).exists():
        # Of so many acts nothing is judged while somebody waits for a page.
        return None, Reading(case=case, at=now, verdicts=[], position=0)
    return last, last or read(case, now=now)


def bank_draft(viewer: Viewer, ref: str, *, now: datetime) -> tuple[Case, Draft]:
    """What the case gives a bank that asks about its payment. Raises NotFound where none asks."""
    case = find_case(viewer, ref)
    return case, draft(case, viewer, verdicts=_said_of(case, now=now)[1].verdicts, now=now)


def _parties(viewer: Viewer, case: Case) -> list[CaseParty]:
    """Who is on which side, of a case as the viewer reads it. The operator is known by the issuer of the agent that acted."""
    operator = case.respondent.partition("|")[0] if viewer.role != Role.ABUSE else ""
    found = [
        CaseParty("claimant", "claimant", case.principal, "for whom it was done"),
        CaseParty("respondent", "respondent", case.respondent, "who acted"),
        CaseParty("operator", "respondent", operator, "who runs the agent that acted"),
        CaseParty("provider", "provider", case.provider, "where it was done"),
    ]
    return [one for one in found if one.name]


def evidence_item(viewer: Viewer, case: Case, number: int) -> EvidenceItem:
    """One item with its bytes. Raises NotFound, also for what the viewer may not see or what is no file."""
    if number not in {item.number for item in evidence_of(viewer, case)}:
        raise NotFound(f"no item {number} in {case.ref}")
    item = case.evidence.get(number=number)
    if item.body is None:
        raise NotFound(f"item {number} of {case.ref} is an event, and no file")
    return item


def evidence_of(viewer: Viewer, case: Case) -> list[EvidenceItem]:
    """What was handed in, without the bytes. Of others an abuse desk sees what was submitted."""
    items = case.evidence.defer("body")
    if viewer.role == Role.ABUSE:
        items = items.filter(Q(submitted_at__isnull=False) | Q(person=person_of(viewer)))
    return list(items)


def runs_of(viewer: Viewer, case: Case) -> list[Run]:
    """Every run of the engine, with what it says differently than the sealed one. Of an abuse desk without the reasons."""
    runs = list(case.assessments.order_by("number").defer("verdicts"))
    sealed = next((run for run in reversed(runs) if run.digest == case.sealed_digest and not run.reason), None)
    # They are large, and needed only where there is something to compare.
    verdicts = dict(case.assessments.values_list("number", "verdicts")) if sealed is not None and len(runs) > 1 else {}
    found = []
    for run in runs:
        differs = []
        if sealed is not None and run is not sealed:
            differs = changes(verdicts[sealed.number], verdicts[run.number])
        if viewer.role == Role.ABUSE:
            differs = [one._replace(criteria=[]) for one in differs]
        found.append(Run(run.number, run.at, run is sealed, run.actor, run.reason, run.engine, run.policy_version, run.position, run.digest,
                         [one._asdict() for one in differs]))  # fmt: skip
    return found


def read_verdicts(viewer: Viewer, verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts as the viewer reads them."""
    return [outline(verdict) for verdict in verdicts] if viewer.role == Role.ABUSE else verdicts


def next_moves(viewer: Viewer, case: Case) -> list[Move]:
    """Every step out of the case's state, with the reason when the viewer may not take it."""
    standing, person = standing_of(case), person_of(viewer)
    moves = []
    for step in nexts(standing):
        refusal = refusal_of(case, step.after, viewer=viewer, reason=None, standing=standing, person=person)
        verb = BY_VERB.get(step.after, "approve" if step.before in ("review", "appeal_proposed") else "move")
        verb = (
            "settle"
            if step.after == "settled"
            else verb
            if step.after not in ("withdrawn", "suspended", "merged")
            else "move"
        )
        moves.append(Move(step.after, verb, step.who, step.needs_reason, refusal.reason if refusal else ""))
    return moves


def _taken(case: Case, row: Transition) -> Taken:
    return Taken(
        case.ref, row.position, row.from_state, row.to_state, row.person, row.actor, row.role, row.reason,
        row.policy_version, row.at, row.previous,
    )  # fmt: skip
