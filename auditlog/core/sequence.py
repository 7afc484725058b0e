"""Numbers that a source gives its statements, so that a missing one can be told from silence: runs and gaps.

A stream counts up by one, or each statement names the number before its own: then nothing is between the two. Where it
began before we listened is unknown, so what lies below the lowest number received is not missing; nor is what lies
below the one that says the stream begins with it. Runs are a function of the set of statements received, whatever their
order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Run:
    """Numbers `first` to `last` of a stream, all received or not in use, by `events` statements (more than numbers:
    some were reused).
    """

    first: int
    last: int
    events: int
    leaf_index: int  # the lowest leaf of them
    received_at: datetime  # of that leaf
    is_linked: bool = False  # some of them name the number before theirs: the numbers do not count
    begins: bool = False  # the stream begins (anew) with `first`


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers `first` to `last` are missing since `leaf_index`: with it, lower and higher numbers were there.

    Where numbers are linked, `last` is missing, and of those below it nobody knows which are in use.
    """

    first: int
    last: int
    leaf_index: int
    revealed_at: datetime  # receipt of that leaf
    is_linked: bool = False

    @property
    def count(self) -> int:
        """How many statements are missing, at least."""
        return 1 if self.is_linked else self.last - self.first + 1


def run_of(number: int, *, previous: int | None, begins: bool, leaf_index: int, received_at: datetime) -> Run:
    """The run of one statement. A `previous` that is not below its number says nothing."""
    is_linked = begins or (previous is not None and previous < number)
    first = previous + 1 if previous is not None and is_linked and not begins else number
    return Run(first, number, 1, leaf_index, received_at, is_linked, begins)


def merged(runs: Iterable[Run]) -> list[Run]:
    """Runs that touch or overlap become one. In order of their numbers."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: run.first):
        if found and run.first <= found[-1].last + 1:
            before = found[-1]
            earliest = min(before, run, key=lambda each: each.leaf_index)
            found[-1] = replace(
                earliest, first=before.first, last=max(before.last, run.last), events=before.events + run.events,
                is_linked=before.is_linked or run.is_linked, begins=before.begins or (run.begins and run.first == before.first),
            )  # fmt: skip
        else:
            found.append(run)
    return found


def gaps(runs: Sequence[Run]) -> list[Gap]:
    """What is missing between `runs`, which are merged and in order."""
    above: list[Run] = []  # by position: the earliest of that run and all above it, up to where the stream begins anew
    begins = False
    for run in reversed(runs):
        above.append(min(above[-1], run, key=lambda each: each.leaf_index) if above and not begins else run)
        begins = run.begins
    above.reverse()
    found, below = [], runs[0] if runs else None
    for position in range(1, len(runs)):
        if not runs[position].begins:
            revealed = max(below, above[position], key=lambda each: each.leaf_index)
            found.append(
                Gap(
                    runs[position - 1].last + 1,
                    runs[position].first - 1,
                    revealed.leaf_index,
                    revealed.received_at,
                    runs[position].is_linked,
                )
            )
        below = (
            runs[position] if runs[position].begins else min(below, runs[position], key=lambda each: each.leaf_index)
        )
    return found


def in_words(gaps: Sequence[Gap], *, most: int = 20) -> str:
    """`7, 9 to 12 and 3 more places`; of linked ones `20 (and whatever lies between it and 10)`."""
    named = [_in_words(gap) for gap in gaps[:most]]
    left = len(gaps) - len(named)
    return ", ".join(named) + (f" and {left} more places" if left else "")


def _in_words(gap: Gap) -> str:
    if gap.first == gap.last:
        return str(gap.last)
    return (
        f"{gap.last} (and whatever lies between it and {gap.first - 1})"
        if gap.is_linked
        else f"{gap.first} to {gap.last}"
    )
