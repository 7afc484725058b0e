"""How cases went: by what they are about, provider and operator."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from auditlog.core.bills.table import csv_text
from dashboard.parts.access import page
from dashboard.parts.queries import is_desk
from disputes.case.tally import BYS, Tally, tally
from disputes.queries import visible_cases

_COLUMNS = ("opened", "open", "decided", "upheld", "rejected", "settled", "withdrawn", "appealed", "overturned", "days")
_TITLES = {"kind": "By what they are about", "provider": "By provider", "operator": "By who runs the agent"}


@page
@require_GET
def outcomes(request: HttpRequest) -> HttpResponse:
    found = tally(visible_cases(request.viewer))
    # Who runs the agents of others is not a desk's to read.
    shown = [by for by in BYS if by != "operator" or not is_desk(request.viewer)]
    if request.GET.get("format") == "csv":
        return _csv([(by, each) for by in (*shown, "all") for each in found[by]])
    tables = [{"by": by, "title": _TITLES[by], "rows": found[by]} for by in shown]
    [whole] = found["all"] or [None]
    return render(request, "dashboard/outcomes.html", {"tables": tables, "whole": whole})


def _csv(rows: list[tuple[str, Tally]]) -> HttpResponse:
    lines = [(by, each.value, *(getattr(each, name) for name in _COLUMNS)) for by, each in rows]
    response = HttpResponse(csv_text(["by", "value", *_COLUMNS], lines), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="case-outcomes.csv"'
    return response
