"""A story as the API gives it and the pages show it. Of an abuse desk: its own provider's part, and how much more there
is.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from auditlog.core.acts.story import Story, disagreements, keys_of
from auditlog.core.amount import minor
from auditlog.models import Role
from auditlog.reads.access import Viewer
from auditlog.reads.acts import load_acts
from auditlog.reads.money import lines_with
from auditlog.reads.sight import visible_events
from auditlog.reads.stories import possibly_same, stories_around

SHOWN = 200


def story_json(viewer: Viewer, event_id: UUID, *, events: Callable[[list], list]) -> dict[str, Any]:
    """The story of one event that the viewer may see. `events` writes rows of events."""
    act = load_acts(viewer.tenant, [event_id])[str(event_id)]
    told_of = stories_around(viewer.tenant, [act])
    [story] = told_of.stories
    rows = {
        str(row.event_id): row
        for row in visible_events(viewer).filter(event_id__in=[a.event_id for a in story.acts]).defer("detail")
    }
    seen = [a for a in story.acts if a.event_id in rows]
    shown = seen[:SHOWN]
    told = {row["id"]: row for row in events([rows[a.event_id] for a in shown])}
    desk = viewer.role == Role.ABUSE
    mine = {a.source for a in seen}
    stated = {key for a in seen for key in keys_of(a)}

    def named(sources: tuple[str, ...]) -> list[str]:
        return [source if not desk or source in mine else "another source" for source in sources]

    return {
        "event": str(event_id),
        "sources": named(story.sources),
        "members": [
            told[a.event_id] | {"claimed": a.event_id in story.claimed, "keys": [key._asdict() for key in keys_of(a)]} for a in shown
        ],
        "hidden": len(story.acts) - len(seen),
        "more": len(seen) - len(shown),
        "cut": told_of.is_cut,  # keys lead further than they were followed: there may be more of it
        "keys": [
            {**shared.key._asdict(), "said_by": named(shared.sources), "claimed_by": named(shared.claimed_by), "corroborated": shared.is_corroborated}
            for shared in story.shared if shared.key in stated
        ],
        "disagreements": [
            {"kind": each.kind, "words": each.words, "events": list(each.events), "minor": each.is_minor}
            for each in disagreements(story) if set(each.events) <= rows.keys()
        ],
        "money": money_of(viewer, story, visible=set(rows)),
        "possibly_same": [
            {"event": each.other, "source": each.other_source, "confidence": each.confidence,
             "words": "may be the same money: same amount, a party in common, near in time; it is counted apart"}
            for each in (() if desk else possibly_same(viewer.tenant, act))
        ],
    }  # fmt: skip


def money_of(viewer: Viewer, story: Story, *, visible: set[str]) -> list[dict[str, Any]]:
    """The lines of the books that the story's statements are counted in. For a desk, those whose statements are all
    seen.
    """
    asked = [UUID(act.event_id) for act in story.acts if act.amount_minor is not None]
    if not asked:
        return []
    found = []
    for line in lines_with(viewer.tenant, asked):
        counted = [str(event_id) for event_id in line.events]
        if viewer.role == Role.ABUSE and not visible.issuperset(counted):
            continue
        found.append(
            {"rail": line.rail, "charge": None if line.charge.startswith(("event:", "invoice:")) else line.charge, "currency": line.currency,
             "book": line.book, "spent_minor": minor(line.spent), "at_most_minor": minor(line.at_most), "authorized_minor": minor(line.held),
             "returned_minor": minor(line.returned), "counted": counted, "once": len(counted) > 1}
        )  # fmt: skip
    return found
