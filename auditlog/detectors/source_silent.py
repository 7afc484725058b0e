"""integrity.source_silent: a source promised to be heard at least every so often, and is not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from auditlog.core.finding import Finding

rule = "integrity.source_silent"
version = 1
title = "A source has gone silent"
runbook = (
    "Find out whether the source or the way to us is down. What it saw meanwhile is unknown, not absent: hold back"
    " judgements that rest on it, and have it send what it kept. The finding is withdrawn when it is heard again."
)
false_positives = "A quiet source that sends no heartbeats: let it send `source.heartbeat`, or promise less."
of_events = frozenset()
partition = ("source",)
waits = True


@dataclass(frozen=True, slots=True)
class Fact:
    """A source that has been silent for longer than it promised, grace included."""

    source: str
    every: timedelta
    since: datetime  # receipt of its last statement; when it was promised, if there is none
    leaf_index: int | None  # of that statement
    event_id: str = ""


def find(facts: Sequence[Fact]) -> Iterable[Finding]:
    for fact in facts:
        seconds = int(fact.every.total_seconds())
        heard = f"since leaf {fact.leaf_index}" if fact.leaf_index is not None else "ever"
        yield Finding(
            rule=rule,
            anchor=f"{fact.source} {fact.since.isoformat()}",
            severity="high",
            title=f"{fact.source} promised to be heard every {seconds:,} s, and nothing came from it {heard}",
            events=(fact.event_id,) if fact.event_id else (),
            leaves=(fact.leaf_index,) if fact.leaf_index is not None else (),
            first_at=fact.since,
            last_at=fact.since + fact.every,
            evidence={"source": fact.source, "every_s": seconds, "last_leaf": fact.leaf_index},
        )
