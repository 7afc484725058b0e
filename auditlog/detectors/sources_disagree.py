"""integrity.sources_disagree: two sources tell of one act, and contradict each other in amount, time, actor or outcome."""

from collections.abc import Iterable

from auditlog.core.acts.story import Story, disagreements
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "integrity.sources_disagree"
version = 1
title = "Two sources contradict each other about one act"
runbook = (
    "Open both events and compare the signed bytes. Ask the one whose word is second-hand first: an orchestrator about "
    "money, a provider about who called it. Until it is settled, spend counts the greatest of captured and settled."
)
false_positives = (
    "An amount stated without tax, fees or a tip; a provider that stamps when its job ended and not when it began; a "
    "retry that succeeded at one side after the other had given up; an id that a source uses again."
)
of_events = frozenset({"money_at_risk"})  # names all sources of the story, and principals that grants lead to
partition = ("story",)
waits = False


def find(stories: Iterable[Story]) -> Iterable[Finding]:
    """At most one finding a story: what is contradicted, in words, and by whom."""
    for story in stories:
        if not (said := disagreements(story)):
            continue
        events = {event_id for each in said for event_id in each.events}
        acts = [act for act in story.acts if act.event_id in events]
        amounts = [each for each in said if each.kind == "amount"]
        worst = max(amounts, key=lambda each: each.amount_minor or 0, default=None)
        named = next((act for act in acts if act.principal), acts[0])
        yield finding(
            rule,
            story.anchor,
            acts,
            severity="low" if all(each.is_minor for each in said) else "medium",
            title=f"{' and '.join(story.sources)} disagree: {said[0].words}"
            + (f", and {len(said) - 1} more" if len(said) > 1 else ""),
            principal=named.principal or None,
            money_at_risk_minor=worst.amount_minor if worst else None,
            currency=worst.currency if worst else None,
            evidence={
                "disagreements": [
                    {"kind": each.kind, "words": each.words, "events": list(each.events)} for each in said
                ],
                "joined_by": [
                    {"key": shared.key.words, "said_by": list(shared.sources)}
                    for shared in story.shared
                    if shared.is_corroborated
                ],
            },
        )
