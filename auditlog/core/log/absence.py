"""A payload that is not there: erased by a tombstone, or destroyed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Absence:
    """What the log says of one leaf without its payload."""

    leaf_index: int
    tombstone: int | None  # the leaf that erased it
    hold: int | None  # a legal hold over it, in force when it was erased, or now where nothing erased it

    @property
    def is_authorised(self) -> bool:
        return self.tombstone is not None and self.hold is None

    @property
    def state(self) -> str:
        return "erased" if self.is_authorised else "destroyed"

    def words(self) -> str:
        """What became of it, as a sentence without its full stop."""
        if self.tombstone is None:
            held = f", and leaf {self.hold} holds it for a legal case" if self.hold is not None else ""
            return f"destroyed evidence: the payload is gone, and no tombstone in the log says that it was erased{held}"
        if self.hold is not None:
            return f"destroyed evidence: leaf {self.tombstone} erased the payload while leaf {self.hold} held it for a legal case"
        return f"the payload was erased, by leaf {self.tombstone}; its leaf stays provable"


def covering(
    leaf: int, tombstones: Iterable[int], holds: Mapping[int, tuple[int, int]], ends: Mapping[int, int]
) -> Absence:
    """What tombstones that name `leaf`, holds (first and last leaf, by their own leaf) and the ends of holds say of it.

    The first tombstone counts: what it erased, no later one erases again.
    """
    tombstone = min((index for index in tombstones if index > leaf), default=None)
    over = [index for index, (first, last) in sorted(holds.items()) if first <= leaf <= last]
    if tombstone is None:
        return Absence(leaf, None, next((index for index in over if index not in ends), None))
    held = (index for index in over if index < tombstone and not index < ends.get(index, tombstone + 1) < tombstone)
    return Absence(leaf, tombstone, next(held, None))
