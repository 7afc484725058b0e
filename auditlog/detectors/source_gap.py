"""integrity.source_gap: numbers are missing in a stream that its source numbers one by one, or whose statements name the one
before them (CloudTrail's digest files).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from auditlog.core.finding import Finding
from auditlog.core.sequence import Gap, in_words

rule = "integrity.source_gap"
version = 2
title = "Statements of a source are missing"
runbook = (
    "Ask the source's operator for the statements with these numbers and have them sent again: late is as good as in time,"
    " and the finding goes when they arrive. If they do not exist, its numbering or its outbox loses statements. A digest file of"
    " CloudTrail is named by the time in its file name: look for it, and for who deleted it, in the trail's bucket."
)
false_positives = (
    "The source drew a number and gave the statement up, or counts over several of its senders. Numbers of payloads that"
    " were erased are no longer known, and look missing. A digest file that is still to be fetched looks removed until it comes."
)
of_events = frozenset()
partition = ("source", "stream")
waits = True
LINKED_GRACE = timedelta(
    hours=1
)  # what names the one before it (digest files of an hour) is fetched, and may come out of order


@dataclass(frozen=True, slots=True)
class Fact:
    """A gap that outlived the grace period."""

    source: str
    stream: str
    gap: Gap
    event_id: str  # of the leaf that revealed it
    reused: int  # numbers of the stream that more than one statement had
    erased: int  # payloads of the source that were erased, whose numbers nobody knows


def find(facts: Sequence[Fact]) -> Iterable[Finding]:
    """One finding a source, stream and hour in which gaps came to light. `facts` are in order of their numbers."""
    hours: dict[tuple[str, str, datetime], list[Fact]] = {}
    for fact in facts:
        hour = fact.gap.revealed_at.replace(minute=0, second=0, microsecond=0)
        hours.setdefault((fact.source, fact.stream, hour), []).append(fact)
    for (source, stream, hour), many in hours.items():
        missing, named = sum(fact.gap.count for fact in many), in_words([fact.gap for fact in many])
        at_least = "at least " if any(fact.gap.is_linked and fact.gap.first < fact.gap.last for fact in many) else ""
        # As many as were erased may have been among those: that is not known, and not a loss.
        may_be_erased = missing <= many[0].erased
        revealing = {fact.gap.leaf_index: fact.event_id for fact in sorted(many, key=lambda fact: fact.gap.leaf_index)}
        yield Finding(
            rule=rule,
            anchor=f"{source} {stream} {hour.isoformat()}",
            severity="info" if may_be_erased else "medium",
            title=f"{source} has not sent {'number' if missing == 1 else f'{at_least}{missing} numbers'}"
            f" {named}{f' of {stream}' if stream else ''}" + (" (or they are among its erased payloads)" if may_be_erased else ""),
            events=tuple(event_id for event_id in revealing.values() if event_id),
            leaves=tuple(revealing),
            first_at=min(fact.gap.revealed_at for fact in many),
            last_at=max(fact.gap.revealed_at for fact in many),
            evidence={
                "source": source, "stream": stream, "missing": missing, "erased": many[0].erased, "reused": many[0].reused,
                "numbers": [[fact.gap.first, fact.gap.last] for fact in many[:1000]],
            },
        )  # fmt: skip
