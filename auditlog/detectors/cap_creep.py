"""spend.cap_creep: after limits were reached they keep being raised, or new authority is made, with no human deciding.

One raise after a limit was reached is how limits are meant to work. Two or more within three cycles, since a human
last decided, is a limit that limits nothing.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "spend.cap_creep"
version = 1
title = "A limit creeps upward each time it is reached"
runbook = "Ask the human for a figure, set it as a hard limit that only they can raise, and check what was spent above the first one."
false_positives = "Raises that a human approved where no source reports it."
of_events = frozenset({"title", "raises"})
types = frozenset(
    {"limit.set", "limit.raised", "limit.lowered", "limit.reached", "payment.authority_granted", "delegation.granted"}
)
partition = ("principal",)
waits = False

CYCLES = timedelta(days=93)  # three months
STEPS = 2


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    reached: dict[str, Act] = {}  # provider -> the reaching that nothing has answered yet
    steps: list[Act] = []
    for act in sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index)):
        if act.outcome != "success" or act.environment != "live":
            continue
        limit = record.limit_of(act.event_id)
        place = limit.provider if limit else act.provider
        if act.type == "limit.reached":
            reached[place] = act
            continue
        by = limit.set_by if limit else act.actor
        if record.kind_of(by) == "human":
            if act.type.startswith("limit."):
                yield from _raised(steps)
                steps = []
            continue
        if act.type == "limit.raised" or (act.type == "limit.set" and place in reached):
            before = reached.pop(place, None)
            if before is not None:
                steps.extend((before, act))
        elif act.type in ("payment.authority_granted", "delegation.granted") and place in reached and place:
            steps.extend((reached.pop(place), act))
        steps = [step for step in steps if act.occurred_at - step.occurred_at <= CYCLES]
    yield from _raised(steps)


def _raised(steps: Sequence[Act]) -> Iterable[Finding]:
    raises = [step for step in steps if step.type != "limit.reached"]
    if len(raises) < STEPS:
        return
    first = min(steps, key=lambda act: act.leaf_index)
    places = sorted({step.provider for step in raises if step.provider})
    yield finding(
        rule,
        f"{first.principal} {first.event_id}",
        steps,
        severity="high",
        title=f"Limits were raised {len(raises)} times after being reached"
        + (f" at {', '.join(places)}" if places else "")
        + ", with no human deciding",
        evidence={"raises": [step.event_id for step in raises]},
    )
