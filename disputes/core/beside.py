"""What findings say of an act, held beside its verdict: never an input of it, outside its digest, and never silent.

A rule and its criterion share one function, so they agree where both judge one act of one record. They still may differ: a
finding is of everything it counts, was raised on the record of its time, and people triage it. Then that is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# By rule, the criteria that judge the same. A rule that is not here has none: it is about more than one act's scope.
JUDGED_BY: dict[str, tuple[str, ...]] = {
    "authority.used_after_revocation": ("C9",),
    "authority.used_after_expiry": ("C6",),
    "authority.audience_mismatch": ("C7",),
    "authority.out_of_scope": ("C3", "C4", "C6"),
    "authority.gate_missing": ("C8",),
    "authority.refused_and_done": ("C8",),
    "authority.key_mismatch": ("C11",),
    "authority.confused_deputy": ("C3", "C4"),
    "authority.unattributed": ("C1",),
    "spend.authority_exceeded": ("C5", "C6"),
    "spend.cap_exceeded": ("C5",),
    "spend.cross_provider_cap": ("C5",),
    "spend.concurrency_overshoot": ("C5",),
    "spend.duplicate_charge": ("C13", "I1"),
    "spend.retry_loop": ("I1", "I2"),
    "intent.domain_mismatch": ("I1",),
    "intent.price_exceeded": ("I1",),
    "intent.quantity_exceeded": ("I1",),
    "intent.unforeseen": ("I1", "I2"),
}
# Rules about a sum or a run: an act that is counted in one did not have to be the one that went over.
_OF_ONE_ACT = ("intent.domain_mismatch", "intent.unforeseen")
_COUNTING = frozenset(rule for rule in JUDGED_BY if rule.startswith(("spend.", "intent.")) and rule not in _OF_ONE_ACT)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding that rests on the act. `crossed_by`: the act that went over, where the rule names one."""

    id: int
    rule: str
    severity: str
    state: str
    crossed_by: str = ""
    only_alerts: bool = False  # the limit that it is about blocks nothing


def beside(verdict: Mapping[str, Any], findings: Iterable[Found]) -> list[dict[str, Any]]:
    """Each finding with the criteria that judge the same, and how the two stand: agrees | counted | unknown | differs."""
    criteria = {each["id"]: each for each in verdict["criteria"]}
    return [_held(found, JUDGED_BY[found.rule], criteria, verdict) for found in findings if found.rule in JUDGED_BY]


def _held(
    found: Found, names: Sequence[str], criteria: Mapping[str, Mapping[str, Any]], verdict: Mapping[str, Any]
) -> dict[str, Any]:
    results = {name: criteria[name]["result"] for name in names}
    failed = [name for name, result in results.items() if result == "fail"]
    unknown = [name for name, result in results.items() if result == "unknown"]
    if failed:
        reads, words = "agrees", f"{_and(failed)} fails for the same reason"
    elif found.only_alerts:
        reads, words = "counted", "the limit only alerts: to pass it puts no act out of scope"
    elif found.rule in _COUNTING and found.crossed_by != verdict["event_id"]:
        reads, words = "counted", "the act is counted in it, and is not the one that went over"
    elif unknown or criteria["C1"]["result"] == "unknown":
        reads, words = "unknown", f"whether it holds of this act is not known to {_and(unknown or ['C1'])}"
    elif found.rule == "intent.unforeseen":
        reads = "differs"
        words = "nobody asked for the act by name, which the finding says; I2 asks for two signs that nobody foresaw it"
    else:
        reads, words = "differs", f"{_and(names)} does not fail: the finding and the verdict differ on this act"
    return {
        "finding": found.id, "rule": found.rule, "severity": found.severity, "state": found.state, "criteria": list(names),
        "reads": reads, "words": words,
    }  # fmt: skip


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)
