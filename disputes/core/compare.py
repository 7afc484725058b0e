"""Compare: what one run of the engine says differently than another, and what all verdicts of a case come to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Change(NamedTuple):
    """`criteria`: each that came out otherwise, as {id, before, after, reason}."""

    event_id: str
    before: str | None
    after: str | None
    criteria: list[dict[str, Any]]


def changes(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[Change]:
    """By act, what `other` says differently than `one`; acts that both say the same of are left out."""
    before = {verdict["event_id"]: verdict for verdict in one}
    after = {verdict["event_id"]: verdict for verdict in other}
    found = []
    for event_id in dict.fromkeys([*before, *after]):
        was, is_now = before.get(event_id), after.get(event_id)
        results = {each["id"]: each["result"] for each in was["criteria"]} if was else {}
        criteria = [
            {"id": each["id"], "before": results.get(each["id"]), "after": each["result"], "reason": each["reason"]}
            for each in (is_now["criteria"] if is_now else ())
            if results.get(each["id"]) != each["result"]
        ]
        if criteria or (was or {}).get("verdict") != (is_now or {}).get("verdict"):
            found.append(
                Change(event_id, was["verdict"] if was else None, is_now["verdict"] if is_now else None, criteria)
            )
    return found


class Rollup(NamedTuple):
    """The case in one line. `verdict`: what all acts share, else `mixed`; `acts` by verdict; `words` says it."""

    verdict: str
    acts: dict[str, int]
    words: str


_SAID = {
    "within_scope": "within scope",
    "within_scope_unanticipated": "within scope, not anticipated",
    "out_of_scope": "out of scope",
    "indeterminate": "indeterminate",
}


def roll_up(verdicts: Sequence[Mapping[str, Any]]) -> Rollup:
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict["verdict"]] = counts.get(verdict["verdict"], 0) + 1
    said = {name: counts[name] for name in _SAID if name in counts}
    words = ", ".join(f"{count} {_SAID[name]}" for name, count in said.items())
    whole = f"{len(verdicts):,} act{'' if len(verdicts) == 1 else 's'}"
    return Rollup(
        next(iter(said)) if len(said) == 1 else "mixed" if said else "none",
        said,
        f"{whole}: {words}" if said else whole,
    )
