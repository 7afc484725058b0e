"""Spend: charges, and what they come to; bills, with what goes with what; months, closed and their tables."""

from collections.abc import Mapping
from datetime import date, datetime

from django import forms
from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from auditlog.bills.import_bill import import_bill
from auditlog.bills.statement import body_of, close_month, focus_csv, journal_csv
from auditlog.bills.tell import STATES, bill_of, done_by, lines_of, totals_of
from auditlog.core.bills.read import FORMATS
from auditlog.core.bills.table import csv_text, major
from auditlog.core.errors import AnswerableError
from auditlog.core.money.exposure import is_open
from auditlog.core.text import number
from auditlog.custody.security import note
from auditlog.database import clock
from auditlog.models import Bill, Statement
from auditlog.reads.access import IMPORT, WHOLE, Viewer
from dashboard.parts.access import page
from dashboard.parts.forms import Filters, Instant
from dashboard.parts.queries import PAGE, Page, conceal, guesses, spent_by, visible_charges


class ChargeFilters(Filters):
    since = Instant(label="Since (UTC)")
    until = Instant(label="Until (UTC), exclusive")
    after = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, label in CHARGE_KEYS.items():
            self.fields[name] = forms.CharField(required=False, max_length=700, label=label)
        self.order_fields(("principal", "actor", "provider", "currency", "since", "until"))

    def clean_currency(self) -> str:
        return self.cleaned_data["currency"].upper()

    def clean_after(self):
        value = self.cleaned_data["after"]
        if not value:
            return None
        at, _, leaf_index = value.rpartition("_")
        try:
            return datetime.fromisoformat(at), int(leaf_index)
        except ValueError:
            raise forms.ValidationError("This is not a place in the list.") from None


CHARGE_KEYS = {
    "principal": "Principal", "actor": "Actor", "provider": "Provider", "grant": "Grant", "currency": "Currency",
    "rail": "Rail", "session": "Session", "task": "Task", "project": "Project",
}  # fmt: skip


def list_charges(
    viewer: Viewer,
    filters: Mapping[str, str],
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int = PAGE,
) -> tuple[Page, list[dict]]:
    """Charges, the latest first, and what all that fit come to, by currency and rail. Held is what is held `now`."""
    charges = visible_charges(viewer).filter(**filters)
    if guesses(viewer, filters):
        charges = charges.none()
    if since:
        charges = charges.filter(at__gte=since)
    if until:
        charges = charges.filter(at__lt=until)
    totals = spent_by(charges, "currency", now=now)
    if after:
        charges = charges.filter(Q(at__lt=after[0]) | Q(at=after[0], leaf_index__lt=after[1]))
    rows = list(charges.order_by("-at", "-leaf_index")[: limit + 1])
    for row in rows:
        row.held = row.held if is_open(row.held_from, row.held_until, now) else 0
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(conceal(viewer, rows[:limit]), f"{last.at.isoformat()}_{last.leaf_index}" if last else ""), totals


@page
@require_GET
def charges(request: HttpRequest) -> HttpResponse:
    form = ChargeFilters(request.GET)
    listed, totals = Page([]), []
    if form.is_valid():
        data = form.cleaned_data
        listed, totals = list_charges(
            request.viewer,
            form.chosen(),
            now=timezone.now(),
            since=data["since"],
            until=data["until"],
            after=data["after"],
        )
    common = ("principal", "actor", "provider", "currency", "since", "until")
    more = [form[name] for name in form.fields if name not in common and name != "after"]
    context = {
        "may_contest": request.viewer.may("case"),
        "form": form, "page": listed, "totals": totals, "common": [form[name] for name in common], "more": more,
        "more_open": any(request.GET.get(field.name) for field in more),
    }  # fmt: skip
    return render(request, "dashboard/charges.html", context)


# --- bills and months ------------------------------------------------------------------------------------------------

MOST_UPLOADED = 64 * 2**20  # bytes; of what is larger the command says more
_FORMAT_NAMES = {
    "focus": "FOCUS cost export",
    "stripe_balance": "Stripe balance transactions",
    "litellm": "LiteLLM spend logs",
    "csv": "CSV",
}


class BillForm(forms.Form):
    file = forms.FileField(label="File", allow_empty_file=True)
    format = forms.ChoiceField(label="What it is", choices=[(name, _FORMAT_NAMES[name]) for name in FORMATS])
    provider = forms.CharField(
        label="Whose bill it is", max_length=120, required=False, help_text="Empty: as each line says."
    )


class MonthForm(forms.Form):
    month = forms.RegexField(
        r"\A\d{4}-(0[1-9]|1[0-2])\Z", label="Month", help_text="As 2026-10.", error_messages={"invalid": "As 2026-10."}
    )


@page
@require_http_methods(["GET", "POST"])
def bills(request: HttpRequest) -> HttpResponse:
    viewer = request.viewer
    viewer.must(WHOLE)
    form = BillForm()
    if request.method == "POST":
        viewer.must(IMPORT)
        form = BillForm(request.POST, request.FILES)
        if form.is_valid() and (told := _import(request, form)) is not None:
            return told
    rows = Bill.objects.filter(tenant=viewer.tenant).defer("raw").order_by("-number")[:PAGE]
    statements = Statement.objects.filter(tenant=viewer.tenant).order_by("-month").defer("body", "signed")
    context = {
        "form": form,
        "month": MonthForm(),
        "rows": rows,
        "statements": statements,
        "may_import": viewer.may(IMPORT),
    }
    return render(request, "dashboard/bills.html", context, status=400 if form.errors else 200)


def _import(request: HttpRequest, form: BillForm) -> HttpResponse | None:
    """Where it went, or None with what is wrong in the form."""
    upload = form.cleaned_data["file"]
    if upload.size > MOST_UPLOADED:
        form.add_error(
            "file", f"It has {upload.size:,} bytes, and at most {MOST_UPLOADED:,} are taken here: use import_bill."
        )
        return None
    try:
        imported = import_bill(
            request.viewer.tenant, upload.read(), file_name=upload.name, format=form.cleaned_data["format"],
            provider=form.cleaned_data["provider"].strip(), now=clock.now(),
        )  # fmt: skip
    except AnswerableError as error:
        form.add_error("file", str(error))
        return None
    bill = imported.bill
    messages.success(request, f"{bill.ref}: {bill.lines:,} lines, {bill.new_lines:,} of them new.")
    return HttpResponseRedirect(reverse("dashboard:bill", args=[bill.ref]))


@page
@require_GET
def bill(request: HttpRequest, ref: str) -> HttpResponse:
    request.viewer.must(WHOLE)
    found = bill_of(request.viewer.tenant, ref)
    if found is None:
        raise Http404(f"no bill {ref[:40]}")
    state = request.GET.get("state", "")
    state = state if state in STATES else ""
    if request.GET.get("csv"):
        return _lines_csv(request, found, state)
    after = number(request.GET.get("after", "")) or 0
    rows, following = lines_of(found, state=state, after=after, size=PAGE)
    context = {
        "bill": found,
        "totals": totals_of(found),
        "rows": rows,
        "next": following,
        "state": state,
        "states": STATES,
        "done_by": done_by(found),
    }
    return render(request, "dashboard/bill.html", context)


_COLUMNS = (
    "state",
    "reason",
    "at",
    "until",
    "currency",
    "kind",
    "provider",
    "account",
    "resource",
    "operation",
    "api_key",
)


def _lines_csv(request: HttpRequest, found: Bill, state: str) -> HttpResponse:
    rows, _ = lines_of(found, state=state, size=200_000)
    table = csv_text((*_COLUMNS, *_MORE), (_csv_row(row) for row in rows))
    return _file(request, f"{found.ref}-{state or 'lines'}.csv", table)


_MORE = ("amount", "difference", "events", "agents", "principals", "description")


def _csv_row(row: dict) -> tuple:
    agents, principals = ({charge[name] for charge in row["charges"]} for name in ("agent", "principal"))
    return (
        *(row[name] for name in _COLUMNS),
        major(row["amount_minor"], row["currency"]),
        major(row["difference_minor"], row["currency"]),
        " ".join(charge["event"] for charge in row["charges"]),
        " ".join(sorted(agents)),
        " ".join(sorted(principals)),
        row["description"],
    )


@page
@require_POST
def close(request: HttpRequest) -> HttpResponse:
    request.viewer.must(IMPORT)
    form = MonthForm(request.POST)
    if not form.is_valid():
        messages.error(request, "The month is not given as 2026-10.")
        return HttpResponseRedirect(reverse("dashboard:bills"))
    month = date.fromisoformat(f"{form.cleaned_data['month']}-01")
    try:
        close_month(request.viewer.tenant, month, now=clock.now())
    except AnswerableError as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(reverse("dashboard:bills"))
    return HttpResponseRedirect(reverse("dashboard:statement", args=[f"{month:%Y-%m}"]))


@page
@require_GET
def statement(request: HttpRequest, month: str) -> HttpResponse:
    """A month as it was stated, or as it stands; `?as=` journal, focus or signed is a file."""
    viewer = request.viewer
    viewer.must(WHOLE)
    form = MonthForm({"month": month})
    if not form.is_valid() or month[:4] < "1971":
        raise Http404(f"no month {month[:20]}")
    first = date.fromisoformat(f"{month}-01")
    closed = Statement.objects.filter(tenant=viewer.tenant, month=first).first()
    match request.GET.get("as", ""):
        case "journal":
            return _file(request, f"journal-{month}.csv", journal_csv(viewer.tenant, first))
        case "focus":
            return _file(request, f"focus-{month}.csv", focus_csv(viewer.tenant, first))
        case "signed" if closed is not None:
            return _file(request, f"statement-{month}.jws", closed.signed, "application/jose")
    body = closed.body if closed is not None else body_of(viewer.tenant, first)
    return render(request, "dashboard/statement.html", {"closed": closed, "body": body, "month": month})


def _file(request: HttpRequest, name: str, text: str, kind: str = "text/csv; charset=utf-8") -> HttpResponse:
    note(request.viewer.tenant, "record.exported", who=request.viewer.name, what=name, now=clock.now())
    return HttpResponse(text, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
