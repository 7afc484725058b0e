"""integrity.*: what the road itself saw. Counted per source, key and hour, so that a flood is one finding."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from auditlog.core.finding import Finding

SIGNATURE_FAILED = "integrity.signature_failed"
DUPLICATE_CONFLICT = "integrity.duplicate_conflict"
VERSION = 1
RUNBOOKS = {
    SIGNATURE_FAILED: "Somebody sends in this source's name without its key, or the source signs with one we do not "
    "know. Ask its operator; compare with its JWKS; nothing of it was taken.",
    DUPLICATE_CONFLICT: "The source signed two different statements under one id. Both are kept: compare them, and ask "
    "which one it stands by. Until then its word on this event is worth little.",
}


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
