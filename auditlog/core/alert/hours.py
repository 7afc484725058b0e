"""Quiet hours: when a channel is not to be written to, by the clock on its people's wall."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begins` to `ends` on the wall of `zone`, on the days on which they begin (0: Monday). Where `ends` is not
    later than `begins` they end on the day after: 22:00 to 07:00; 00:00 to 00:00 is the whole day.
    """

    zone: ZoneInfo
    begins: time
    ends: time
    days: frozenset[int] = frozenset(range(7))

    @property
    def never_end(self) -> bool:
        return self.begins == self.ends and len(self.days) == 7


def quiet_until(hours: QuietHours | None, at: datetime) -> datetime | None:
    """When the quiet hours around `at` end, UTC; None where it is not quiet. Hours that touch are one.

    Where clocks are put back and an hour comes twice, quiet lasts over both; where they are put forward, an hour that
    does not exist is the one after it.
    """
    if hours is None:
        return None
    until = None
    while (
        (end := _end(hours, until or at)) is not None
        and (until is None or end > until)
        and end < at + timedelta(days=14)
    ):
        until = end
    return until


def _end(hours: QuietHours, at: datetime) -> datetime | None:
    today = at.astimezone(hours.zone).date()
    ends = []
    for back in (0, 1):
        day = today - timedelta(days=back)
        if day.weekday() not in hours.days:
            continue
        last = day if hours.ends > hours.begins else day + timedelta(days=1)
        begins = datetime.combine(day, hours.begins, hours.zone).astimezone(UTC)
        # Of an hour that comes twice the second; of one that is skipped the one after it: in both cases the later.
        end = max(datetime.combine(last, hours.ends.replace(fold=n), hours.zone).astimezone(UTC) for n in (0, 1))
        if begins <= at < end:
            ends.append(end)
    return max(ends, default=None)
