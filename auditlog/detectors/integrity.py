"""integrity.*: what the road itself saw. Counted per source, key and hour, so that a flood is one finding."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from auditlog.core.finding import Finding
from auditlog.core.log.absence import Absence

SIGNATURE_FAILED = "integrity.signature_failed"
DUPLICATE_CONFLICT = "integrity.duplicate_conflict"
EVIDENCE_DESTROYED = "integrity.evidence_destroyed"
GRADE_UNEARNED = "integrity.grade_unearned"
CONFIGURATION_CHANGED = "integrity.configuration_changed"
VERSION = 1


@dataclass(frozen=True, slots=True)
class RoadRule:
    """What the road itself finds, in words for people; no detector is run for it."""

    rule: str
    title: str
    runbook: str
    false_positives: str
    version: int = VERSION
    of_events: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    partition: tuple[str, ...] = ()
    waits: bool = False


ROAD_RULES = (
    RoadRule(
        SIGNATURE_FAILED, "Deliveries with a wrong signature",
        "Somebody sends in this source's name without its key, or the source signs with one we do not know. Ask its operator;"
        " compare with its JWKS; nothing of it was taken.",
        "A sender whose key was changed and not told here, or whose body something on the way rewrites.",
    ),
    RoadRule(
        DUPLICATE_CONFLICT, "Two statements under one id",
        "The source signed two different statements under one id. Both are kept: compare them, and ask which one it stands by."
        " Until then its word on this event is worth little.",
        "A sender that numbers its events anew after a restart: its operator can say so.",
    ),
    RoadRule(
        EVIDENCE_DESTROYED, "Stored evidence was destroyed",
        "Somebody with rights on the database took bytes away that nobody had erased. Keep its logs and its backups as they are;"
        " look for the payload in a backup or in a bundle that was handed out; ask who had these rights.",
        "None: erasing leaves a tombstone, and a legal hold forbids it.",
    ),
    RoadRule(
        GRADE_UNEARNED, "A leaf claims a signature that it does not have",
        "Somebody who can write into the ledger wrote an event that its source did not sign. Do not rest anything on these events;"
        " ask the source whether they are its own, and find out who had rights on the database.",
        "None known: what was received is checked under the same keys before it is written.",
    ),
    RoadRule(
        CONFIGURATION_CHANGED, "Configuration was changed behind the log's back",
        "What is configured is not what the log states: somebody changed it in the database itself. Until it is as stated, or an"
        " admin configures it anew, it is refused wherever it is used. Find out who had rights on the database.",
        "A database that was put together from parts of two backups.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RefusalFact:
    """Refused deliveries of one source, key, reason and hour."""

    source: str
    key: str
    err: str
    hour: datetime
    count: int
    first_at: datetime
    last_at: datetime
    sample: str


@dataclass(frozen=True, slots=True)
class ConflictFact:
    """A conflict leaf: other content under the identity of `event_id`."""

    leaf_index: int
    source: str
    key: str
    received_at: datetime
    event_id: str
    original_leaf: int | None


def signature_findings(refusals: Iterable[RefusalFact]) -> Iterable[Finding]:
    """One finding a source, key and hour in which signatures did not fit, or were of an algorithm that is not the key's."""
    grouped: dict[tuple[str, str, datetime], list[RefusalFact]] = {}
    for fact in refusals:
        if fact.err == "authentication_failed" or (fact.err == "invalid_key" and fact.key):
            grouped.setdefault((fact.source, fact.key, fact.hour), []).append(fact)
    for facts in grouped.values():
        fact, count = facts[0], sum(each.count for each in facts)
        yield Finding(
            rule=SIGNATURE_FAILED,
            anchor=f"{fact.source} {fact.key} {fact.hour.isoformat()}",
            severity="high" if count >= 10 else "medium",
            title=f"{count} deliver{'y' if count == 1 else 'ies'} in the name of {fact.source} had a wrong signature",
            events=(),
            leaves=(),
            first_at=min(each.first_at for each in facts),
            last_at=max(each.last_at for each in facts),
            evidence={"source": fact.source, "key": fact.key, "count": count, "sample": fact.sample},
        )


def destroyed_finding(absence: Absence, *, event_id: str | None, now: datetime) -> Finding:
    return Finding(
        rule=EVIDENCE_DESTROYED,
        anchor=f"leaf {absence.leaf_index}",
        severity="critical",
        title=f"Leaf {absence.leaf_index}: {absence.words()}"[:400],
        events=(event_id,) if event_id else (),
        leaves=(absence.leaf_index,),
        first_at=now,
        last_at=now,
        evidence={"tombstone": absence.tombstone, "hold": absence.hold},
    )


def unearned_finding(
    leaf_index: int, *, source: str, key: str, grade: str, reason: str, event_id: str | None, at: datetime
) -> Finding:
    return Finding(
        rule=GRADE_UNEARNED,
        anchor=f"leaf {leaf_index}",
        severity="critical",
        title=f"Leaf {leaf_index} of {source} claims grade {grade}, and does not earn it: {reason}"[:400],
        events=(event_id,) if event_id else (),
        leaves=(leaf_index,),
        first_at=at,
        last_at=at,
        evidence={"source": source, "key": key, "grade": grade, "reason": reason},
    )


def changed_finding(
    kind: str, id: int, *, words: str, leaf_index: int | None, fields: tuple[str, ...], now: datetime
) -> Finding:
    return Finding(
        rule=CONFIGURATION_CHANGED,
        anchor=f"{kind} {id}",
        severity="critical",
        title=words[:400],
        events=(),
        leaves=(leaf_index,) if leaf_index is not None else (),
        first_at=now,
        last_at=now,
        evidence={"kind": kind, "id": id, "fields": list(fields), "leaf": leaf_index},
    )


def conflict_findings(conflicts: Iterable[ConflictFact]) -> Iterable[Finding]:
    """One finding a source, key and hour with conflicting statements."""
    grouped: dict[tuple[str, str, datetime], list[ConflictFact]] = {}
    for fact in conflicts:
        hour = fact.received_at.replace(minute=0, second=0, microsecond=0)
        grouped.setdefault((fact.source, fact.key, hour), []).append(fact)
    for (source, key, hour), facts in grouped.items():
        facts.sort(key=lambda fact: fact.leaf_index)
        leaves = {fact.leaf_index for fact in facts} | {f.original_leaf for f in facts if f.original_leaf is not None}
        yield Finding(
            rule=DUPLICATE_CONFLICT,
            anchor=f"{source} {key} {hour.isoformat()}",
            severity="high",
            title=f"{source} signed other content under {len({f.event_id for f in facts})} event id(s) it had used before",
            events=tuple(dict.fromkeys(fact.event_id for fact in facts)),
            leaves=tuple(sorted(leaves)),
            first_at=facts[0].received_at,
            last_at=facts[-1].received_at,
            evidence={"source": source, "key": key, "conflict_leaves": [fact.leaf_index for fact in facts]},
        )
