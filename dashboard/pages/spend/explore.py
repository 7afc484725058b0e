"""Explore: spend by any two of its keys, as a table, a picture and a file. Every number leads to its charges."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.bills.statement import next_month
from auditlog.core.bills.table import csv_text, major
from auditlog.core.errors import NotPossible
from auditlog.core.money.money import amount_text
from auditlog.core.money.pivot import REST, Cell, Pivot, pivots
from auditlog.core.text import visible
from auditlog.custody.security import note
from auditlog.reads.access import WHOLE
from auditlog.reads.money import SPEND_KEYS, STANDINGS, spend_by
from dashboard.pages.spend.charges import STANDING_WORDS
from dashboard.parts.access import page
from dashboard.parts.forms import Filters, Instant
from dashboard.pictures import charts
from dashboard.pictures.plotly_css import guard_ids

MOST_GROUPS = 20_000
USUAL = timedelta(days=30)
KEYS = {
    "principal": "Principal", "agent": "Agent", "provider": "Provider", "grant": "Grant", "task": "Task",
    "session": "Session", "project": "Project", "rail": "Rail", "standing": "Who answers", "day": "Day",
    "month": "Month",
}  # fmt: skip
assert KEYS.keys() == SPEND_KEYS.keys()
_TIMES = ("day", "month")


class ExploreForm(Filters):
    by = forms.ChoiceField(choices=KEYS.items(), label="Rows", required=False)
    across = forms.ChoiceField(choices=[("", "none"), *KEYS.items()], label="Columns", required=False)
    since = Instant(label="Since (UTC)")
    until = Instant(label="Until (UTC), exclusive")

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        data["by"] = data.get("by") or "provider"
        if data.get("across") == data["by"]:
            self.add_error("across", "Rows and columns are the same: choose another, or none.")
        since, until = data.get("since"), data.get("until")
        if since and until and since >= until:
            self.add_error("until", "This is not after the beginning.")
        return data


@page
@require_GET
def explore(request: HttpRequest) -> HttpResponse:
    viewer = request.viewer
    viewer.must(WHOLE)
    form = ExploreForm(request.GET)
    tables: list[Pivot] = []
    by, across, span = "provider", "", (timezone.now() - USUAL, None)
    if form.is_valid():
        data = form.cleaned_data
        by, across = data["by"], data["across"]
        span = (data["since"] or _since(data["until"]), data["until"])
        try:
            rows = spend_by(viewer, [by, *([across] if across else [])], since=span[0], until=span[1], most=MOST_GROUPS)
            tables = pivots((row for row in rows if not row["credits"]), by, across, in_order=_TIMES.__contains__)
        except NotPossible as error:
            form.add_error(None, str(error))
    if request.GET.get("csv") and not form.errors:
        what = f"spend by {by} {across}".strip()
        note(viewer.tenant, "record.exported", who=viewer.name, what=what, now=timezone.now())
        return _file(tables, by, across)
    context = {
        "form": form,
        "since": span[0],
        "until": span[1],
        "by": KEYS[by],
        "across": KEYS.get(across, ""),
        "tables": [_told(table, by, across, span) for table in tables],
        "guard_ids": guard_ids(),
        "csv": f"?{urlencode({**request.GET.dict(), 'csv': 1})}",
    }
    return render(request, "dashboard/explore.html", context, status=400 if form.errors else 200)


def _since(until: datetime | None) -> datetime:
    """Whole days, so that one day's link says the same all day."""
    day = ((until or timezone.now()) - USUAL).astimezone(UTC)
    return day.replace(hour=0, minute=0, second=0, microsecond=0)


Span = tuple[datetime, datetime | None]


def _told(table: Pivot, by: str, across: str, span: Span) -> dict[str, Any]:
    """One table for the page: cells as (text, address, note)."""

    def cell(found: Cell | None, row: str | None, column: str | None) -> dict[str, str]:
        if found is None:
            return {"text": "", "href": "", "note": ""}
        filters: dict[str, str] | None = {"currency": table.currency, **_span(span)}
        for key, value in ((by, row), (across, column)):
            filters = _narrowed(filters, key, value)
        return {
            "text": amount_text(found.spent, table.currency),
            "href": f"{reverse('dashboard:charges')}?{urlencode(filters)}" if filters is not None else "",
            "note": f"at most {amount_text(found.at_most, table.currency)}" if found.at_most > found.spent else "",
        }

    columns = table.columns if across else ()
    names, heads = _names(by, table.rows, table.left_over[0]), _names(across, columns, table.left_over[1])
    lines = [
        {
            "name": name,
            "cells": [
                cell(table.cells.get((row, column)), row, column) | {"label": head}
                for column, head in zip(columns, heads, strict=True)
            ],
            "total": cell(table.row_totals[row], row, ALL),
            "charges": table.row_totals[row].charges,
            "share": _share(table.row_totals[row].spent, table.total.spent),
        }
        for row, name in zip(table.rows, names, strict=True)
    ]
    return {
        "currency": table.currency,
        "columns": heads,
        "lines": lines,
        "totals": [
            cell(table.column_totals[column], ALL, column) | {"label": head}
            for column, head in zip(columns, heads, strict=True)
        ],
        "total": cell(table.total, ALL, ALL),
        "charges": table.total.charges,
        "chart": charts.spend_by(
            table.currency,
            names,
            heads or ["spent"],
            [[table.cells.get((row, column), Cell()).spent for row in table.rows] for column in columns or ("",)],
            [[each["href"] for each in (line["cells"] or [line["total"]])] for line in lines],
            by=KEYS[by], across=KEYS.get(across, ""), is_time=by in _TIMES,
        ),
    }  # fmt: skip


ALL = "\x00"  # of a total: no filter by that key


def _narrowed(filters: dict[str, str] | None, key: str, value: str | None) -> dict[str, str] | None:
    """The filters of the list of charges for one value of a key; None where no filter says it."""
    if filters is None or value is REST:
        return None
    if not key or value == ALL:
        return filters
    if key in _TIMES:
        first = date.fromisoformat(value if key == "day" else f"{value}-01")
        after = first + timedelta(days=1) if key == "day" else next_month(first)
        since = max(filters["since"], first.isoformat())
        until = min(filters.get("until") or after.isoformat(), after.isoformat())
        return {**filters, "since": since, "until": until}
    name = {"agent": "actor"}.get(key, key)
    if not value:
        return {**filters, "without": ", ".join([*filter(None, [filters.get("without")]), name])}
    return {**filters, name: value}


def _span(span: Span) -> dict[str, str]:
    """Times as the list of charges takes them, which compare as text."""
    told = {"since": span[0], "until": span[1]}
    return {name: at.astimezone(UTC).isoformat()[:19] for name, at in told.items() if at is not None}


def _names(key: str, values: Sequence[str | None], left_over: int) -> list[str]:
    """What they are called: of a party the part after its issuer, unless that names two."""
    found = [_name(key, value, left_over) for value in values]
    return [
        visible(value)[:120] if value and found.count(name) > 1 else name
        for value, name in zip(values, found, strict=True)
    ]


def _name(key: str, value: str | None, left_over: int) -> str:
    if value is REST:
        return f"{left_over:,} more"
    if not value:
        return "none stated"
    if key == "standing":
        return STANDING_WORDS[value] if value in STANDINGS else value
    return visible(value.partition("|")[2] or value)[:80]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole > 0 else "–"


def _file(tables: list[Pivot], by: str, across: str) -> HttpResponse:
    """One line a cell, in major units, unrounded."""
    rows: list[list[Any]] = [
        [
            _exact(row), *([_exact(column)] if across else []), table.currency, major(cell.spent, table.currency),
            major(cell.at_most, table.currency), cell.charges,
        ]
        for table in tables
        for row in table.rows
        for column in table.columns
        if (cell := table.cells.get((row, column))) is not None
    ]  # fmt: skip
    names = [by, *([across] if across else []), "currency", "spent", "at_most", "charges"]
    answer = HttpResponse(csv_text(names, rows), content_type="text/csv")
    answer["Content-Disposition"] = f'attachment; filename="spend-by-{by}{"-" + across if across else ""}.csv"'
    return answer


def _exact(value: str | None) -> str:
    return "all others" if value is REST else value
