"""Velocity: whether what is spent in an hour is more than this spender ever spends. Pure.

Two statistics under one alarm budget (false alarms a month): a fast one, of one hour, and slower ones, of two and three hours
together, each against the mean and spread of the week before; and the hour must also stand out from the same hours of the days
before, and of the weeks before once three are known, so that a nightly batch or a Monday is no news. A spender who is mostly idle
has no spread to speak of: there a burst has to be several times the largest before. Measured on the hourly production series of
the development data (Microsoft's): see `bench spend`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10, sqrt

DAY, WEEK = 24, 168  # bins of an hour
FAST, PAIR, SLOW = 3.8, 2.9, 2.4  # spreads above the mean, at a budget of one false alarm a month
STRICTER = 0.35  # for each tenth of the budget
RATIO = 1.5  # times the mean at least: less is no news to whoever pays
LAG = 2  # the latest bins may be part of what is found, and are no part of what is usual
KNOWN = 2 * DAY  # bins since the first spending before anything can be unusual
DAYS, WEEKS = 10, 4  # looked back for the same hour
IDLE, BURST, BUSY = (
    0.8,
    3.0,
    10,
)  # share of empty bins of an idle spender; times its largest; bins with spending it must have had
QUIET = DAY  # bins without an alarm that part one episode from the next
READ = WEEKS * WEEK + 2  # bins before one that its judgement looks at


@dataclass(frozen=True, slots=True)
class Episode:
    """Bins `first` to `last` (numbers of hours) of one rise; `usual` and `spent` are sums over them."""

    first: int
    last: int
    spent: float
    usual: float


def episodes(
    bins: Mapping[int, float], *, begins: int, ends: int, budget: float, floor: float = 0.0
) -> Iterator[Episode]:
    """Rises among the bins from `begins` to before `ends`; what is not in `bins` is empty. `floor`: spent in one bin at least."""
    if not bins:
        return
    earliest = min(bins)
    series = _Series(bins, max(begins - READ, earliest), ends, earliest)
    alarms = [n for n in range(begins, ends) if bins.get(n, 0.0) >= max(floor, 1e-12) and series.is_unusual(n, budget)]
    episode: list[int] = []
    for n in [*alarms, None]:
        if episode and (n is None or n - episode[-1] > QUIET):
            first, last = episode[0], episode[-1]
            spent = sum(bins.get(each, 0.0) for each in range(first, last + 1))
            yield Episode(first, last, spent, series.mean_before(first) * (last - first + 1))
            episode = []
        if n is not None:
            episode.append(n)


class _Series:
    def __init__(self, bins: Mapping[int, float], start: int, end: int, earliest: int) -> None:
        self.start, self.earliest = start, earliest
        self.values = [float(bins.get(n, 0.0)) for n in range(start, end)]
        self.sums, self.squares = [0.0], [0.0]
        for value in self.values:
            self.sums.append(self.sums[-1] + value)
            self.squares.append(self.squares[-1] + value * value)

    def at(self, n: int) -> float:
        return self.values[n - self.start] if 0 <= n - self.start < len(self.values) else 0.0

    def _before(self, n: int) -> tuple[int, int]:
        last = n - LAG - self.start
        return max(self.earliest - self.start, last - WEEK, 0), last

    def mean_before(self, n: int) -> float:
        first, last = self._before(n)
        return (self.sums[last] - self.sums[first]) / (last - first) if last > first else 0.0

    def is_unusual(self, n: int, budget: float) -> bool:
        first, last = self._before(n)
        if n - self.earliest < KNOWN or last - first < DAY:
            return False
        value, size = self.at(n), last - first
        past = self.values[first:last]
        busy = sorted(each for each in past if each > 0)
        if not busy:
            return False
        mean = (self.sums[last] - self.sums[first]) / size
        spread = sqrt(max(0.0, (self.squares[last] - self.squares[first]) / size - mean * mean))
        idle = 1 - len(busy) / size
        spread = max(spread, busy[len(busy) // 2] * idle, mean / 20)
        if idle > IDLE and (len(busy) < BUSY or value < BURST * busy[-1]):
            return False
        if value < RATIO * mean or value <= self._same_hour(n):
            return False
        stricter = 1 + STRICTER * log10(1 / budget)
        pair, three = (value + self.at(n - 1)) / 2, (value + self.at(n - 1) + self.at(n - 2)) / 3
        return any(
            (each - mean) / spread > most * stricter for each, most in ((value, FAST), (pair, PAIR), (three, SLOW))
        )

    def _same_hour(self, n: int) -> float:
        """What the same hour, or the one before or after it, came to on nine of ten days before, or ever in the weeks before."""
        days = self._around(n, DAY, DAYS)
        weeks = self._around(n, WEEK, WEEKS) if n - self.earliest >= 3 * WEEK else []
        usual = days[int(0.9 * (len(days) - 1))] if days else 0.0
        return max(usual, weeks[-1] if weeks else 0.0)

    def _around(self, n: int, step: int, many: int) -> Sequence[float]:
        places = (n - step * k + near for k in range(1, many + 1) for near in (-1, 0, 1))
        return sorted(self.at(place) for place in places if self.earliest <= place < n - LAG)
