"""A stream: something that a SIEM is told line by line, from a cursor on. `siem.py` has those of the record; a package
that stands on this one offers its own, and the settings name it (`SIEM_STREAMS`), so that nothing here knows of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from auditlog.core.errors import NotPossible
from auditlog.models import Tenant


@dataclass(frozen=True, slots=True)
class Page:
    lines: list[bytes]
    next: int  # the cursor to go on from
    more: bool  # there is more already


@dataclass(frozen=True, slots=True)
class Stream:
    """A cursor counts up, and nothing ever comes in below one that was given out: who goes on from it misses nothing."""

    name: str  # of ExportStream.What
    unit: str  # what `behind` counts: one, several
    read: Callable[[Tenant, str, int, int], Page]  # of a tenant, in a format, after a cursor, so many lines at most
    end: Callable[[Tenant], int]  # the cursor of a reader that was given all there is
    behind: Callable[[Tenant, int], int]  # how much a reader at this cursor has not been given
    has_more: str  # SQL, over a row `s` of export_stream: whether there is any. Asked for all tenants at once.


def check_cursor(after: int, last: int) -> None:
    """Raises NotPossible for a cursor that was never given out: to read it as the end would leave out what comes."""
    if not 0 <= after <= last:
        raise NotPossible(
            f"expected a cursor that was given out here, at most {last}, found {after}: was an older copy restored?"
        )
