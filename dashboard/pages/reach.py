"""Blast radius: what a grant, a token, a party or a key led to."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.core.errors import NotFound
from auditlog.reads import reach
from auditlog.reads.access import Viewer
from dashboard.parts import explorer
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE, ROW, visible_events


class ReachForm(forms.Form):
    kind = forms.ChoiceField(label="Of", choices=[(kind, kind) for kind in reach.KINDS])
    key = forms.CharField(label="Id, party or key", max_length=700, error_messages={"required": "Say which one."})
    before = forms.IntegerField(required=False, min_value=0, max_value=2**62, widget=forms.HiddenInput)


def events_at(viewer: Viewer, leaves: Sequence[int]) -> list[dict[str, Any]]:
    """These events as rows of a list, newest leaf first."""
    return list(visible_events(viewer).filter(leaf_index__in=leaves).order_by("-leaf_index").values(*ROW))


@page
@require_GET
def blast_radius(request: HttpRequest) -> HttpResponse:
    """What a grant, token, party or key touched. Its grants unfold one level at a time."""
    form = ReachForm(request.GET or None)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        start = reach.Start(form.cleaned_data["kind"], form.cleaned_data["key"])
        found = reach.blast_radius(request.viewer, start)
        for name in ("agents", "principals"):
            found[name] = [f"{party['iss']}|{party['sub']}" for party in found[name]]
        leaves = reach.leaves_under(request.viewer, start, before=form.cleaned_data["before"], size=PAGE + 1)
        events = events_at(request.viewer, leaves[:PAGE])
        context |= {"start": start, "found": found, "events": events, "now": timezone.now(),
                    "next": leaves[PAGE - 1] if len(leaves) > PAGE else None}  # fmt: skip
        if start.kind == "grant":
            context |= _explorer(request, start.key, request.GET.get("later", ""))
    return render(request, "dashboard/reach.html", context)


@page
@require_GET
def explore(request: HttpRequest) -> HttpResponse:
    """The explorer standing at a grant, to be put into a page."""
    if not request.GET.get("grant"):
        raise NotFound("no grant is named: the explorer stands at one (?grant=...)")
    context = _explorer(request, request.GET["grant"], request.GET.get("after", ""), must_be=True)
    return render(request, "dashboard/parts/explorer.html", context)


def _explorer(request: HttpRequest, grant_id: str, after: str, *, must_be: bool = False) -> dict[str, Any]:
    try:
        tree = explorer.explore(request.viewer, grant_id[:500], after=after[:600], now=timezone.now())
    except NotFound:
        if must_be:
            raise
        return {}
    return {"tree": tree, "tree_svg": explorer.picture(tree)}
