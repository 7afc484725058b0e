"""Numbers that a source gives its statements, so that a missing one can be told from silence: runs and gaps.

A stream counts up by one. Where it began before we listened is unknown, so what lies below the lowest number received
is not missing. Runs are a function of the set of numbers received, whatever their order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Run:
    """Numbers `first` to `last` of a stream, all received, by `events` statements (more than numbers: some were reused)."""

    first: int
    last: int
    events: int
    leaf_index: int  # the lowest leaf of them
    received_at: datetime  # of that leaf


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers `first` to `last` are missing since `leaf_index`: with it, lower and higher numbers were there."""

    first: int
    last: int
    leaf_index: int
    revealed_at: datetime  # receipt of that leaf

    @property
    def count(self) -> int:
        return self.last - self.first + 1


def merged(runs: Iterable[Run]) -> list[Run]:
    """Runs that touch or overlap become one. In order of their numbers."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: run.first):
        if found and run.first <= found[-1].last + 1:
            before = found[-1]
            earliest = min(before, run, key=lambda each: each.leaf_index)
            found[-1] = replace(earliest, first=before.first, last=max(before.last, run.last), events=before.events + run.events)
        else:
            found.append(run)
    return found


def gaps(runs: Sequence[Run]) -> list[Gap]:
    """What is missing between `runs`, which are merged and in order."""
    above: list[Run] = []  # by position: the earliest of that run and all above it
    for run in reversed(runs):
        above.append(min(above[-1], run, key=lambda each: each.leaf_index) if above else run)
    above.reverse()
    found, below = [], runs[0] if runs else None
    for position in range(1, len(runs)):
        revealed = max(below, above[position], key=lambda each: each.leaf_index)
        found.append(Gap(runs[position - 1].last + 1, runs[position].first - 1, revealed.leaf_index, revealed.received_at))
        below = min(below, runs[position], key=lambda each: each.leaf_index)
    return found


def in_words(gaps: Sequence[Gap], *, most: int = 20) -> str:
    """`7, 9 to 12 and 3 more places`."""
    named = [str(gap.first) if gap.count == 1 else f"{gap.first} to {gap.last}" for gap in gaps[:most]]
    left = len(gaps) - len(named)
    return ", ".join(named) + (f" and {left} more places" if left else "")
