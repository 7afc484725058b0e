"""Sessions, tasks and transactions: the list, and one across all sources."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_GET

from auditlog.core.acts.story import Story, disagreements
from auditlog.core.chain import svg
from auditlog.core.chain.act import ACT_TYPES
from auditlog.core.errors import NotFound
from auditlog.models import Source
from auditlog.reads import threads
from auditlog.reads.access import Viewer
from auditlog.reads.acts import load_acts
from auditlog.reads.stories import stories_around
from auditlog.reads.threads import Linked, Thread, linked_to, thread_exposure
from dashboard.parts.access import page
from dashboard.parts.queries import PAGE, ROW, conceal, is_desk


class ThreadForm(forms.Form):
    kind = forms.ChoiceField(
        required=False, label="Kind", choices=[("session", "sessions"), ("task", "tasks"), ("txn", "transactions")]
    )
    beginning = forms.CharField(required=False, max_length=500, label="Begins with")
    before = forms.IntegerField(required=False, min_value=0, max_value=2**62, widget=forms.HiddenInput)

    def clean_kind(self) -> str:
        return self.cleaned_data["kind"] or "session"


ACTS_SHOWN = 200  # of a thread, on one page


def timeline_view(viewer: Viewer, thread: Thread, *, after: str, now: datetime) -> dict[str, Any]:
    """One page of a thread: what each act is, who tells of it, what they contradict, and what nobody says. Raises
    NotFound.
    """
    linked = linked_to(viewer, thread)
    rows = threads.timeline(viewer, thread, linked)
    if not rows.exists():
        raise NotFound(f"no {thread.kind} {thread.value}")
    at, _, leaf = after.partition(" ")
    try:
        place = (datetime.fromisoformat(at), int(leaf)) if after else None
    except ValueError:
        place = None
    if place and place[0].tzinfo:
        rows = rows.extra(where=["(occurred_at, leaf_index) > (%s, %s)"], params=place)
    listed = conceal(viewer, list(rows.values(*ROW)[: ACTS_SHOWN + 1]))
    more = len(listed) > ACTS_SHOWN
    listed = listed[:ACTS_SHOWN]
    by_id = {str(row["event_id"]): row for row in listed}
    acts = [act for act in load_acts(viewer.tenant, by_id).values() if act.event_id in by_id]
    speaking = {
        name: provider for name, provider in Source.objects.filter(tenant=viewer.tenant).values_list("name", "provider")
    }
    told = []
    around = stories_around(viewer.tenant, acts)
    for story in around.stories:
        mine = [by_id[act.event_id] for act in story.acts if act.event_id in by_id]
        if mine:
            told.append(_told(viewer, story, mine, speaking, by_id, linked))
    told.sort(key=lambda one: (one["first"]["occurred_at"], one["first"]["leaf_index"]))
    last = listed[-1] if more else None
    names = sorted({row["source"] for row in listed}, key=lambda name: (speaking.get(name, "") != "", name))
    return {
        "told": told,
        "lanes": [(name, speaking.get(name, "")) for name in names],
        "exposure": thread_exposure(viewer, thread, linked, at=now),
        "linked": linked,
        "cut": around.is_cut,
        "more": f"{last['occurred_at'].isoformat()} {last['leaf_index']}" if last else "",
        "is_first": not after,
        "unattributed": sum(
            1
            for one in told
            if one["main"]["type"] in ACT_TYPES and not any(row["actor"] or row["via_grant"] for row in one["rows"])
        ),
        "several": sum(1 for one in told if len(one["sources"]) > 1),
        "hidden": is_desk(viewer),
    }


def _told(
    viewer: Viewer,
    story: Story,
    mine: list[dict],
    speaking: Mapping[str, str],
    by_id: Mapping[str, dict],
    linked: Linked,
) -> dict[str, Any]:
    """One act of a thread as its rows say it."""
    sources = sorted({row["source"] for row in mine})
    provider = next((row["provider"] for row in mine if row["provider"]), "")
    own = [name for name, of in speaking.items() if of and of == provider]
    main = next((row for row in mine if row["type"] in ACT_TYPES), mine[0])
    seen = {str(row["event_id"]) for row in mine}
    spent = [row for row in mine if row["amount_minor"] is not None and row["book"] and row["type"] != "payment.failed"]
    return {
        "first": mine[0],
        "main": main,
        "rows": mine,
        "sources": sources,
        "keys": []
        if is_desk(viewer)
        else [shared for shared in story.shared if len(shared.sources) + len(shared.claimed_by) > 1][:4],
        "claimed": [row for row in mine if str(row["event_id"]) in story.claimed],
        "disagreements": [each for each in disagreements(story) if set(each.events) <= seen],
        "elsewhere": len(story.acts) - len(mine),
        "money": max(
            spent, key=lambda row: (row["book"] in ("paid", "incurred", "billed"), row["amount_minor"]), default=None
        ),
        "silent": own
        if own and not set(own) & set(sources) and main["type"] in ACT_TYPES and not is_desk(viewer)
        else [],
        "why": "" if is_desk(viewer) else next((why for row in mine if (why := linked.why.get(row["leaf_index"]))), ""),
        "joined_in": all(row["leaf_index"] in linked.why for row in mine),
    }


@page
@require_GET
def sessions(request: HttpRequest) -> HttpResponse:
    """Sessions, tasks or transactions, whose last act was told last first."""
    form = ThreadForm(request.GET)
    rows, kind, more = [], "session", None
    if form.is_valid():
        data = form.cleaned_data
        kind = data["kind"]
        rows = threads.threads_page(
            request.viewer, kind, beginning=data["beginning"], before=data["before"], size=PAGE + 1
        )
        more = rows[PAGE - 1]["last_leaf"] if len(rows) > PAGE else None
    return render(request, "dashboard/sessions.html", {"form": form, "kind": kind, "rows": rows[:PAGE], "more": more})


@page
@require_GET
def timeline(request: HttpRequest) -> HttpResponse:
    """One session, task or transaction: lanes by source, one row an act however many tell of it, one exposure figure."""
    named = [(kind, request.GET[kind][:500]) for kind in threads.KINDS if request.GET.get(kind)]
    if len(named) != 1:
        return redirect("dashboard:sessions")
    thread = threads.Thread(*named[0])
    shown = timeline_view(request.viewer, thread, after=request.GET.get("after", ""), now=timezone.now())
    shown["lanes_svg"] = mark_safe(
        svg.draw_lanes(shown["lanes"], shown["told"], link=lambda event_id: reverse("dashboard:event", args=[event_id]))
    )
    return render(request, "dashboard/timeline.html", {"thread": thread, **shown})
