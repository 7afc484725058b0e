"""Cases: the list, opening one, and one with its acts and moves."""

from collections.abc import Callable
from datetime import UTC, datetime, time

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from auditlog.core.errors import AnswerableError, ConfigurationError, NotFound, NotPermitted
from auditlog.incidents.read import incidents_of
from auditlog.reads.access import WHOLE
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE
from disputes.case.deadline import set_deadline
from disputes.case.hand_in import MOST_BYTES, let_in, stage, submit
from disputes.case.imported import MOST_BYTES as PACKET_BYTES
from disputes.case.imported import read_packet
from disputes.core.deadlines import PRESETS
from disputes.core.status import AWAITING, OPEN, STATES
from disputes.decide import OF_APPEAL, OF_DECISION, assess_again, move, refuse_settlement
from disputes.jobs.assess import AT_ONCE, ask, is_for_a_worker
from disputes.models import Case, EvidenceItem, Proposal
from disputes.open_case import contested_acts, open_case
from disputes.outside.complain import complaints_of
from disputes.queries import CasePage, Move, case_page, cases_about, find_case, find_finding, list_cases


class OpenCaseForm(forms.Form):
    finding = forms.IntegerField(widget=forms.HiddenInput)
    kind = forms.ChoiceField(label="About", choices=Case.Kind.choices)
    title = forms.CharField(label="Title", max_length=200)
    complaint = forms.CharField(
        label="Complaint", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 2})
    )


class MoveForm(forms.Form):
    """What is said with a step of a case: which step, the button says."""

    outcome = forms.ChoiceField(label="Outcome", required=False, help_text="When you propose one.")
    assessment = forms.IntegerField(
        label="Run that it rests on", required=False, min_value=1, help_text="Else the sealed one."
    )
    amount_minor = forms.IntegerField(
        label="To be paid back", required=False, min_value=0, help_text="In minor units: 4.50 is 450."
    )
    currency = forms.RegexField(r"^[A-Za-z]{3}\Z", label="Currency", required=False, max_length=3)
    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept for ever with your name; most steps need one. Of a settlement: its terms.",
    )
    merged_into = forms.CharField(label="Merged into", required=False, max_length=20)

    def __init__(self, *args, moves, runs=1, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        steps = {move.to for move in moves}
        outcomes = OF_APPEAL if "appeal_proposed" in steps else OF_DECISION
        self.fields["outcome"].choices = [("", "–"), *((one.value, one.label) for one in outcomes)]
        proposes = steps & {"proposed", "appeal_proposed"}
        if not proposes:
            del self.fields["outcome"]
        if not proposes or runs < 2:
            del self.fields["assessment"]
        if not proposes and "settled" not in steps:
            del self.fields["amount_minor"], self.fields["currency"]
        if "merged" not in steps:
            del self.fields["merged_into"]


class DeadlineForm(forms.Form):
    preset = forms.ChoiceField(
        label="Rule",
        required=False,
        choices=[("", "another date"), *((name, one.basis) for name, one in PRESETS.items())],
    )
    begins_at = forms.DateField(
        label="It began on",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="UTC; else today.",
    )
    due = forms.DateField(
        label="Or: due on",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The end of that day, UTC.",
    )
    basis = forms.CharField(label="On what it rests", required=False, max_length=300)


class EvidenceForm(forms.Form):
    side = forms.ChoiceField(label="For", choices=EvidenceItem.Side.choices)
    title = forms.CharField(label="What it is", max_length=200)
    file = forms.FileField(label="File", required=False, help_text=f"At most {MOST_BYTES // 1024 // 1024} MiB.")
    event_id = forms.UUIDField(label="Or an event on record", required=False)


# What a step is called on its button.
_WORDS = {
    "intake": "Take it in",
    "deficient": "Ask for what is lacking",
    "not_eligible": "Not eligible",
    "evidence_open": "Open for evidence",
    "record_sealed": "Seal the record",
    "assessment": "Begin the assessment",
    "proposed": "Propose this outcome",
    "review": "Take it under review",
    "decided": "Approve the proposal",
    "appealed": "Appeal",
    "final": "Make it final",
    "appeal_review": "Take up the appeal",
    "appeal_proposed": "Propose this on the appeal",
    "decided_final": "Agree to the proposal",
    "remedy_pending": "Begin the remedy",
    "closed": "Close",
    "reopened": "Reopen",
    "withdrawn": "Withdraw",
    "settled": "Offer this settlement",
    "suspended": "Suspend",
    "merged": "Merge into another",
    "filed": "File",
}
_SPECIAL = {
    ("review", "assessment"): "Send it back",
    ("appeal_proposed", "appeal_review"): "Send it back",
    ("appeal_proposed", "evidence_open"): "Agree: send it back for evidence",
}
# What is asked before a step that nobody takes back.
_SURE = {
    "record_sealed": "Seal the record? The engine judges it as it stands now. What is handed in later is late.",
    "decided": "Approve the proposal? The case is decided by it, and the window for an appeal begins.",
    "decided_final": "Agree to the proposal? It decides the appeal for good.",
    "not_eligible": "Say that it is not eligible? The case ends here.",
    "final": "Make it final? No appeal can be made any more.",
    "closed": "Close the case? It is reopened once only, for evidence that could not be had before.",
    "withdrawn": "Withdraw the case? It ends here, without a decision.",
    "settled": "Settle on these terms? Once both sides have agreed, the case ends by it.",
    "merged": "Merge it into the other case? This one ends here.",
}
ASIDE = ("withdrawn", "settled", "suspended", "merged", "not_eligible")


def _named(move: Move, state: str, *, is_offered: bool) -> dict[str, str]:
    words = _SPECIAL.get((state, move.to)) or (
        f"Go on: {_WORDS[move.to].lower()}" if state == "suspended" and move.to in OPEN else _WORDS[move.to]
    )
    if move.to == "settled" and is_offered:
        words = "Accept the settlement"
    sure = "" if state == "suspended" and move.to in OPEN else _SURE.get(move.to, "")
    return {"to": move.to, "words": words, "sure": sure}


@page
@require_http_methods(["GET", "POST"])
def cases(request: HttpRequest) -> HttpResponse:
    """The list; a POST opens a case about a finding."""
    if request.method == "POST":
        return _open_case(request)
    state, awaiting = request.GET.get("state", ""), request.GET.get("awaiting", "")
    order = "due" if request.GET.get("order") == "due" else "newest"
    rows, following = list_cases(
        request.viewer, state=state, awaiting=awaiting, before=request.GET.get("before", ""), limit=PAGE, order=order
    )
    context = {
        "may_handle": request.viewer.may("case"),
        "waiting": complaints_of(request.viewer).filter(state="waiting").count() if request.viewer.may("case") else 0,
        "order": order,
        "rows": rows,
        "next": following,
        "state": state,
        "awaiting": awaiting,
        "states": STATES,
        "awaited": sorted(set(AWAITING.values())),
    }
    return render(request, "dashboard/cases.html", context)


def _open_case(request: HttpRequest) -> HttpResponse:
    request.viewer.must("case")
    form = OpenCaseForm(request.POST)
    if not form.is_valid():
        wrong = "; ".join(f"{name}: {' '.join(errors)}" for name, errors in form.errors.items())
        raise ConfigurationError(f"the case was not opened: {wrong}")
    data = form.cleaned_data
    finding = find_finding(request.viewer, data.pop("finding"))
    if similar := cases_about(request.viewer, [act.event_id for act in contested_acts(request.viewer, [], finding)]):
        messages.warning(request, f"{similar[0].ref} is about these acts already.")
        return redirect(f"{reverse('dashboard:case_opening')}?finding={finding.pk}")
    opened = open_case(request.viewer, finding=finding, now=timezone.now(), **data)
    messages.success(request, f"Case {opened.ref} was opened.")
    return redirect("dashboard:case", ref=opened.ref)


ACTS_A_PAGE = 25


@page
@require_http_methods(["GET", "POST"])
def case(request: HttpRequest, ref: str) -> HttpResponse:
    shown = case_page(request.viewer, ref, now=timezone.now())
    allowed = [move for move in shown.moves if move.allowed]
    form, status = MoveForm(moves=allowed, runs=len(shown.assessments)), 200
    if request.method == "POST":
        to = request.POST.get("to", "")
        form = MoveForm(request.POST, moves=allowed, runs=len(shown.assessments))
        status = 422
        if not allowed:
            raise NotPermitted("your role may take no step here")
        if to not in {move.to for move in allowed}:
            form.add_error(
                None, f"Select a valid choice. {to[:40] or 'No step'} is not one of the steps that you may take."
            )
        elif form.is_valid():
            try:
                if is_for_a_worker(shown.case, to):
                    ask(shown.case, request.viewer, to=to, reason=form.cleaned_data["reason"], now=timezone.now())
                    return HttpResponseRedirect(request.path)
                done = move(shown.case, to, viewer=request.viewer, now=timezone.now(), **form.cleaned_data)
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                said = (
                    "moved on"
                    if done.state == to or to not in ("settled",)
                    else "has an offer: another person accepts or refuses it"
                )
                messages.success(request, f"Case {ref} {said}.")
                return HttpResponseRedirect(request.path)
    return _shown(request, shown, status=status, form=form)


def _shown(request: HttpRequest, shown: CasePage, *, status: int = 200, **forms_given: forms.Form) -> HttpResponse:
    verdict_of, case = shown.verdict_of, shown.case
    allowed = [move for move in shown.moves if move.allowed]
    acts = Paginator(shown.acts, ACTS_A_PAGE).get_page(request.GET.get("acts"))
    offered = any(
        one.outcome == Proposal.Outcome.SETTLED and getattr(one, "approval", None) is None for one in shown.proposals
    )
    named = [_named(move, case.state, is_offered=offered) for move in allowed]
    goes_on, may = case.state in OPEN, request.viewer.may
    context = {
        "may_take_out": may(WHOLE),
        "may_handle": goes_on and may("case"),
        "may_decide": goes_on and may("decide"),
        "may_run_again": goes_on and may("case") and case.sealed_at is not None,
        "is_offered": offered,
        "proposals": [(one, getattr(one, "approval", None)) for one in shown.proposals],
        "page": shown,
        "case": case,
        "incident": incidents_of(request.viewer, [case.opened_from_id]).get(case.opened_from_id, "")
        if case.opened_from_id
        else "",
        "allowed": allowed,
        "form": MoveForm(moves=allowed, runs=len(shown.assessments)),
        "deadline_form": DeadlineForm(),
        "evidence_form": EvidenceForm(),
        "forward": [one for one in named if one["to"] not in ASIDE],
        "aside": [one for one in named if one["to"] in ASIDE],
        "refused": [one for one in shown.moves if not one.allowed],
        "acts": acts,
        "verdicts": [(act, verdict_of.get(str(act.event_id))) for act in acts],
    } | forms_given
    form = context["form"]
    proposes = "outcome" in form.fields
    beside = ("merged_into",) if proposes else ("merged_into", "amount_minor", "currency")
    context |= {
        "said": [field for field in form if field.name not in beside],
        "said_aside": [field for field in form if field.name in beside],
        "running": [one for one in shown.deadlines if one.state in ("running", "paused")],
        "over": [one for one in shown.deadlines if one.state not in ("running", "paused")],
    }
    return render(request, "dashboard/case.html", context, status=status)


def _said(request: HttpRequest, ref: str, do: Callable[[Case], str]) -> HttpResponse:
    """One thing done with a case beside its steps; what is wrong with it is said on the case's page."""
    try:
        messages.success(request, do(find_case(request.viewer, ref)))
    except NotFound:
        raise
    except AnswerableError as error:
        messages.error(request, str(error))
    return redirect("dashboard:case", ref=ref)


def _wrong(form: forms.Form) -> ConfigurationError:
    said = "; ".join(f"{name}: {' '.join(errors)}" for name, errors in form.errors.items())
    return ConfigurationError(f"nothing was kept: {said}")


@page
@require_POST
def case_deadline(request: HttpRequest, ref: str) -> HttpResponse:
    def do(case: Case) -> str:
        form = DeadlineForm(request.POST)
        if not form.is_valid():
            raise _wrong(form)
        said = form.cleaned_data
        begins = datetime.combine(said["begins_at"], time(), UTC) if said["begins_at"] else None
        due = datetime.combine(said["due"], time(23, 59, 59), UTC) if said["due"] else None
        made = set_deadline(
            case,
            request.viewer,
            preset=said["preset"],
            begins_at=begins,
            due=due,
            basis=said["basis"],
            now=timezone.now(),
        )
        return f"A deadline was set: {made.due_at:%Y-%m-%d %H:%M} UTC."

    return _said(request, ref, do)


@page
@require_POST
def case_evidence(request: HttpRequest, ref: str) -> HttpResponse:
    def do(case: Case) -> str:
        form = EvidenceForm(request.POST, request.FILES)
        if not form.is_valid():
            raise _wrong(form)
        file, said = form.cleaned_data.pop("file"), form.cleaned_data
        if file and file.size > MOST_BYTES:
            raise ConfigurationError(f"a file has at most {MOST_BYTES:,} bytes, found {file.size:,}")
        body = file.read() if file else None
        name, kind = (file.name, file.content_type or "") if file else ("", "")
        item = stage(case, request.viewer, body=body, name=name, media_type=kind, now=timezone.now(), **said)
        return f"Item {item.number} was staged. It counts once it is submitted."

    return _said(request, ref, do)


@page
@require_POST
def case_evidence_submit(request: HttpRequest, ref: str, number: int) -> HttpResponse:
    def do(case: Case) -> str:
        item = submit(case, number, request.viewer, now=timezone.now())
        return f"Item {number} was submitted{', late: the record was sealed' if item.is_late else ''}."

    return _said(request, ref, do)


@page
@require_POST
def case_evidence_let_in(request: HttpRequest, ref: str, number: int) -> HttpResponse:
    def do(case: Case) -> str:
        eligible, reason = bool(request.POST.get("eligible")), request.POST.get("reason", "")[:4000]
        let_in(case, number, request.viewer, eligible=eligible, reason=reason, now=timezone.now())
        return f"Item {number} was {'let in' if eligible else 'left out'}."

    return _said(request, ref, do)


@page
@require_POST
def case_again(request: HttpRequest, ref: str) -> HttpResponse:
    def do(case: Case) -> str:
        if case.acts.count() > AT_ONCE:
            ask(case, request.viewer, reason=request.POST.get("reason", "")[:4000], now=timezone.now())
            return "The engine runs again, in the background."
        run = assess_again(
            case, viewer=request.viewer, reason=request.POST.get("reason", "")[:4000], now=timezone.now()
        )
        return f"The engine was run again: run {run.number}."

    return _said(request, ref, do)


@page
@require_POST
def case_refuse(request: HttpRequest, ref: str) -> HttpResponse:
    def do(case: Case) -> str:
        refuse_settlement(case, viewer=request.viewer, reason=request.POST.get("reason", "")[:4000], now=timezone.now())
        return "The settlement was refused; the case goes on."

    return _said(request, ref, do)


class PacketForm(forms.Form):
    file = forms.FileField(label="Packet", help_text=f"A zip archive of at most {PACKET_BYTES // 1024 // 1024} MiB.")
    vkey = forms.CharField(
        label="The log's verifier key",
        required=False,
        max_length=2_000,
        help_text="From elsewhere than the packet: without it, the packet shows only that it agrees with itself.",
    )


@page
@require_http_methods(["GET", "POST"])
def packets(request: HttpRequest) -> HttpResponse:
    """Another organisation's packet: what it proves, and what it leaves out. Nothing of it is kept."""
    request.viewer.must("case")
    form, found = PacketForm(), None
    if request.method == "POST":
        form = PacketForm(request.POST, request.FILES)
        if form.is_valid():
            try:
                file = form.cleaned_data["file"]
                if file.size > PACKET_BYTES:
                    raise ConfigurationError(f"a packet has at most {PACKET_BYTES:,} bytes here, found {file.size:,}")
                found = read_packet(request.viewer, file.read(), vkeys=[form.cleaned_data["vkey"]])
            except AnswerableError as error:
                form.add_error("file", str(error))
    status = 422 if form.errors else 200
    return render(request, "dashboard/packets.html", {"form": form, "found": found}, status=status)
