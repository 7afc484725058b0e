"""Names: a box that scores any pasted list, a cluster told name by name, and what else the same hand bought."""

import json
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from auditlog.core.bills.table import csv_text
from auditlog.core.errors import NotFound, NotPossible
from auditlog.export.abuse_report import Reporter, notice, statement_of_reasons, xarf_reports
from auditlog.models import Finding
from auditlog.reads.access import Viewer
from auditlog.reads.names import MOST_SCORED, Bought, associated_with, cluster_of, score_list
from auditlog.reads.read_findings import read_findings
from dashboard.pages.findings import ABOUT_NAMES
from dashboard.parts.access import page
from dashboard.parts.queries import visible_findings

SHOWN = 1_000  # of a pasted list


def _box(rows: int) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows, "spellcheck": "false"})


class PasteForm(forms.Form):
    names = forms.CharField(
        label="Names, one a line",
        max_length=400_000,
        widget=_box(8),
        error_messages={"required": "Paste at least one name."},
    )
    brands = forms.CharField(
        label="Brands, one a line",
        required=False,
        max_length=400_000,
        widget=_box(3),
        help_text="Names, marks or domains. Left empty: popular names, and your own where you may read them.",
    )

    def clean_names(self) -> list[str]:
        return _lines(self.cleaned_data["names"])

    def clean_brands(self) -> list[str]:
        return _lines(self.cleaned_data["brands"])


def _lines(text: str) -> list[str]:
    lines = [line.strip()[:253] for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_SCORED:
        raise forms.ValidationError(
            f"At most {MOST_SCORED:,} lines, found {len(lines):,}. `score_domains` takes any number."
        )
    return lines


@page
@require_http_methods(["GET", "POST"])
def names(request: HttpRequest) -> HttpResponse:
    form, scored, status = PasteForm(), None, 200
    if request.method == "POST":
        form = PasteForm(request.POST)
        if form.is_valid():
            scored = score_list(request.viewer, form.cleaned_data["names"], form.cleaned_data["brands"])
        else:
            status = 422
    order = {"alert": 0, "review": 1, "none": 2}
    rows = sorted(scored or [], key=lambda row: (order[row["tier"]], -row["score"]))
    counts = {tier: sum(row["tier"] == tier for row in rows) for tier in order}
    context = {
        "form": form,
        "is_scored": scored is not None,
        "rows": rows[:SHOWN],
        "more": max(0, len(rows) - SHOWN),
        "counts": counts,
    }
    return render(request, "dashboard/names.html", context, status=status)


def _finding(viewer: Viewer, finding_id: int) -> Finding:
    finding = visible_findings(viewer).filter(pk=finding_id, rule__in=ABOUT_NAMES).first()
    if finding is None:
        raise NotFound(f"no finding {finding_id} about names")
    return finding


@page
@require_GET
def cluster(request: HttpRequest, finding_id: int) -> HttpResponse:
    return _cluster_page(request, _finding(request.viewer, finding_id), ReportForm())


def _cluster_page(request: HttpRequest, finding: Finding, form: forms.Form, status: int = 200) -> HttpResponse:
    [reading] = read_findings(request.viewer, [finding])
    now = timezone.now()
    context = {
        "form": form,
        "finding": reading,
        "rows": [_shown(row, now) for row in cluster_of(request.viewer, finding)],
        "others": [_shown(row, now) for row in associated_with(request.viewer, finding)],
    }
    return render(request, "dashboard/name_cluster.html", context, status=status)


def _shown(row: Bought, now) -> dict[str, Any]:
    return {"row": row, "is_over": row.until is not None and now >= row.until}


class ReportForm(forms.Form):
    what = forms.ChoiceField(
        label="What",
        choices=[
            ("xarf", "XARF v4 reports"),
            ("notice", "Notice in plain words"),
            ("reasons", "Statement of reasons (DSA art. 17)"),
        ],
    )
    org = forms.CharField(label="Your organisation", max_length=200)
    contact = forms.EmailField(label="Your address for answers", max_length=254)
    domain = forms.RegexField(r"^[a-z0-9.-]{3,253}\Z", label="Your organisation's domain", max_length=253)


@page
@require_POST
def report(request: HttpRequest, finding_id: int) -> HttpResponse:
    """A report on the names of a finding, as a file: nothing is sent anywhere."""
    finding = _finding(request.viewer, finding_id)
    form = ReportForm(request.POST)
    if not form.is_valid():
        return _cluster_page(request, finding, form, status=422)
    [reading] = read_findings(request.viewer, [finding])
    rows, data, now = cluster_of(request.viewer, finding), form.cleaned_data, timezone.now()
    by = Reporter(data["org"], data["contact"], data["domain"])
    title = reading.title.rstrip(".")
    try:
        if data["what"] == "notice":
            return _file(notice(rows, title=title, by=by, now=now), "text/plain", f"notice-{finding.pk}.txt")
        if data["what"] == "reasons":
            said = statement_of_reasons(rows, rule=finding.rule, title=title, now=now)
            return _file(json.dumps(said, indent=2), "application/json", f"reasons-{finding.pk}.json")
        reports = xarf_reports(rows, rule=finding.rule, title=title, by=by, now=now)
    except NotPossible as error:
        form.add_error(None, str(error))
        return _cluster_page(request, finding, form, status=422)
    return _file(json.dumps(reports, indent=2), "application/json", f"xarf-{finding.pk}.json")


def _file(text: str, kind: str, name: str) -> HttpResponse:
    return HttpResponse(
        text,
        content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@page
@require_GET
def cluster_csv(request: HttpRequest, finding_id: int) -> HttpResponse:
    """All of it as a table: the names of the finding first, then those associated with them, each with why."""
    finding = _finding(request.viewer, finding_id)
    rows = [_cells(row, "in the finding") for row in cluster_of(request.viewer, finding)]
    rows += [_cells(row, "; ".join(row.reasons)) for row in associated_with(request.viewer, finding)]
    return _file(csv_text(_CELLS, rows), "text/csv", f"names-of-finding-{finding.pk}.csv")


_CELLS = (
    "name registered_at can_be_undone_until reasons mark principal agent grant provider account approved_by_a_human"
    " authority_findings event_id"
).split()


def _cells(row: Bought, why: str) -> list[str]:
    return [
        row.name,
        row.at.isoformat(),
        row.until.isoformat() if row.until else "not known",
        why,
        row.brand,
        row.principal,
        row.actor,
        row.grant,
        row.provider,
        row.account,
        "yes" if row.is_approved else "not on record",
        "; ".join(row.found),
        row.event_id,
    ]
