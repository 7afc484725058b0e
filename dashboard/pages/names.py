"""Names: a box that scores any pasted list, a cluster told name by name, and what else the same hand bought."""

import csv
import io
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog.core.errors import NotFound
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
    finding = _finding(request.viewer, finding_id)
    [reading] = read_findings(request.viewer, [finding])
    now = timezone.now()
    context = {
        "finding": reading,
        "rows": [_shown(row, now) for row in cluster_of(request.viewer, finding)],
        "others": [_shown(row, now) for row in associated_with(request.viewer, finding)],
    }
    return render(request, "dashboard/name_cluster.html", context)


def _shown(row: Bought, now) -> dict[str, Any]:
    return {"row": row, "is_over": row.until is not None and now >= row.until}


@page
@require_GET
def cluster_csv(request: HttpRequest, finding_id: int) -> HttpResponse:
    """All of it as a table: the names of the finding first, then those associated with them, each with why."""
    finding = _finding(request.viewer, finding_id)
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(_CELLS)
    for row in cluster_of(request.viewer, finding):
        table.writerow(_cells(row, "in the finding"))
    for row in associated_with(request.viewer, finding):
        table.writerow(_cells(row, "; ".join(row.reasons)))
    return HttpResponse(
        out.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="names-of-finding-{finding.pk}.csv"'},
    )


_CELLS = (
    "name registered_at can_be_undone_until reasons mark principal agent grant provider account approved_by_a_human"
    " authority_findings event_id"
).split()


def _cells(row: Bought, why: str) -> list[str]:
    return [
        _safe(cell)
        for cell in (
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
        )
    ]


def _safe(cell: str) -> str:
    """What a sender wrote is no formula, whichever program opens the table."""
    return f"'{cell}" if cell[:1] in "=+-@\t\r" and cell else cell
