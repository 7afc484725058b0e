"""Clusters: things registered together, found by who had them made and by what they have in common.

Two signs have to come together. One is who: the same principal, agent or key. The other is either a likeness that
people do not give their names by chance (a digit template, a shared word, one brand), or a rate that nobody would have
expected of them. What such a window holds is joined, and what shares a member is one cluster (union-find).

Rates are compound Gamma-Poisson: people buy in small batches at irregular times, so batches arrive at a rate learned
from what the same party did before (shrunk to what is usual among parties, so that day one works), and batch sizes are
geometric with a mean learned the same way. Whether a row is in a cluster hangs on rows no more than `REACH` away.
"""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from math import exp, lgamma, log

from auditlog.core.names.background import bundled
from auditlog.core.names.domain import skeleton

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WINDOWS = (5 * MINUTE, HOUR, DAY, 7 * DAY, 30 * DAY)
THRESHOLD = 1e-5  # of each window: of a party that buys often, some hundred are looked at in a month
SAME_BATCH = 30 * MINUTE
SITTING = 5 * MINUTE  # what is bought within it may have been one decision: one cart
PAST = 90 * DAY  # what a party's usual rate is learned from
APART = 7 * DAY  # between neighbours of one cluster; what comes later is another
REACH = PAST + 30 * DAY
PRIOR_PERIOD = 7 * DAY  # one batch in this time, before anything is known
PRIOR_SHAPE = 0.5  # of that rate among parties: most buy far less, and agencies far more
PRIOR_BATCHES, PRIOR_NAMES = 20.0, 40.0  # as if twenty batches of two names had been seen
# How many of one likeness are too many within a window. Numbers in a template are a machine's; words that several names
# of one buyer share are often his own.
TEMPLATE = {DAY: 4, 7 * DAY: 8, 30 * DAY: 16}
TOKEN = {DAY: 10, 7 * DAY: 16, 30 * DAY: 30}
BRAND = {DAY: 4, 7 * DAY: 5, 30 * DAY: 6}
IN_A_SITTING = 6
# Of things that a provider numbers itself, and that a task may need some of.
PROVISIONED = {DAY: 12, 7 * DAY: 24, 30 * DAY: 48}
FEWEST, FEWEST_PROVISIONED = 4, 12  # that a rate can be too many of
BY_CHANCE = 1e-5  # of so many names of one party, that as many share a likeness that is this common
NUMBERED = 0.05  # of names, those that have a number
ONLY_NUMBERS = 0.02  # and those that are nothing else
SHORTEST_TOKEN = 4
MOST_OF_ONE = 2 / 3
RATE = "rate"
LEVELS = ("principal", "actor", "jkt")


@dataclass(frozen=True, slots=True)
class Named:
    """One thing made under a name of its own. `label`: what of the name its buyer chose; `what`: the kind of thing."""

    event_id: str
    leaf_index: int
    at: datetime
    what: str
    name: str
    label: str
    brand: str  # somebody else's mark that it stands close to, or ""
    principal: str
    actor: str
    jkt: str
    grant: str
    provider: str
    amount_minor: int | None
    currency: str

    @property
    def place(self) -> tuple[datetime, int]:
        return self.at, self.leaf_index


Run = tuple[list[Named], str]  # what belongs together, and why
Finder = Callable[[Sequence[Named], str], list[Run]]


class _Flagged:
    """Places that some window flagged. Windows are told in order, so that each place is added once."""

    def __init__(self) -> None:
        self.places: set[int] = set()
        self._upto = -1

    def add(self, first: int, last: int) -> None:
        self.places.update(range(max(first, self._upto + 1), last + 1))
        self._upto = last

    def again(self) -> None:
        self._upto = -1


@dataclass(frozen=True, slots=True)
class Cluster:
    """`rows` in order of time. `signs`: what joined them, in words, with how many of them bear it."""

    rows: tuple[Named, ...]
    signs: Mapping[str, int]


@lru_cache(maxsize=65_536)
def template_of(label: str) -> str:
    """The label with its numbers left blank; "" where it has none."""
    blank = re.sub(r"\d+", "#", label)
    return blank if "#" in blank else ""


@lru_cache(maxsize=65_536)
def tokens_of(label: str) -> tuple[str, ...]:
    """Its words, as far as hyphens and numbers part them."""
    return tuple({token for token in re.split(r"[-_.\d]+", label) if len(token) >= SHORTEST_TOKEN})


def signs_of(row: Named) -> Iterator[tuple[str, str]]:
    """What it may have in common with others: (kind, value)."""
    if template := template_of(row.label):
        yield "template", template
    if row.brand:
        yield "brand", row.brand
    for token in tokens_of(row.label):
        yield "word", token


_LIMITS = {"template": TEMPLATE, "word": TOKEN, "brand": BRAND}


@lru_cache(maxsize=65_536)
def _commonness(kind: str, value: str) -> float:
    """How many of random names bear this sign, about."""
    if kind == "brand":
        return 1e-3
    expected = bundled().expected
    if kind == "word":
        return expected(skeleton(value))
    runs = [run for run in re.split(r"[#-]+", value) if run]
    if not runs:
        return ONLY_NUMBERS
    longest = skeleton(max(runs, key=len))
    if value.startswith(max(runs, key=len)):
        longest = f"^{longest}"
    return NUMBERED * expected(longest)


def poisson_tail(count: int, mean: float) -> float:
    """Bound on P(at least `count`) (Chernoff)."""
    if count <= mean:
        return 1.0
    return exp(count - mean - count * log(count / mean)) if mean > 0 else 0.0


def clusters(rows: Iterable[Named]) -> list[Cluster]:
    """All clusters of these rows, which are of one kind of thing."""
    return _by_level(sorted(rows, key=lambda row: row.place), runs_of)


def runs_of(rows: Sequence[Named], level: str) -> list[Run]:
    """What is too much or too alike among the rows of one principal, agent or key, in order of time."""
    return _beyond_one_principal([*_alike(rows), *_too_many(rows)], level)


def _beyond_one_principal(runs: list[Run], level: str) -> list[Run]:
    """Of an agent and of a key only what goes beyond one principal: the rest is the principal's. Where nothing but the
    rate joins them, one principal who buys too much is no sign against the others whom that agent serves.
    """
    if level == "principal":
        return runs
    found = []
    for run, why in runs:
        of_each = Counter(row.principal for row in run)
        if len(of_each) > 1 and (why != RATE or max(of_each.values()) <= MOST_OF_ONE * len(run)):
            found.append((run, why))
    return found


def _by_level(rows: Sequence[Named], find: Finder) -> list[Cluster]:
    found: list[Run] = []
    for level in LEVELS:
        by_key: dict[str, list[Named]] = defaultdict(list)
        for row in rows:
            if key := getattr(row, level):
                by_key[key].append(row)
        for many in by_key.values():
            found += find(many, level)
    return joined(found)


def joined(runs: Iterable[Run]) -> list[Cluster]:
    """Runs that share a row are one cluster."""
    parent: dict[int, int] = {}
    members: dict[int, Named] = {}
    told: list[tuple[int, str, int]] = []

    def root(leaf: int) -> int:
        while parent[leaf] != leaf:
            parent[leaf] = parent[parent[leaf]]
            leaf = parent[leaf]
        return leaf

    for run, why in runs:
        first = run[0].leaf_index
        for row in run:
            members[row.leaf_index] = row
            parent.setdefault(row.leaf_index, row.leaf_index)
            one, other = root(first), root(row.leaf_index)
            parent[max(one, other)] = min(one, other)
        told.append((first, why, len(run)))
    rows: dict[int, list[Named]] = defaultdict(list)
    for leaf, row in members.items():
        rows[root(leaf)].append(row)
    signs: dict[int, dict[str, int]] = defaultdict(dict)
    for leaf, why, count in told:
        known = signs[root(leaf)]
        known[why] = max(known.get(why, 0), count)
    return [
        Cluster(tuple(sorted(many, key=lambda row: row.place)), dict(sorted(signs[leaf].items())))
        for leaf, many in sorted(rows.items())
    ]


# --- alike ------------------------------------------------------------------------------------------------------------


def _alike(rows: Sequence[Named]) -> Iterator[Run]:
    by_sign: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        for sign in signs_of(row):
            by_sign[sign].append(place)
    times = [row.at for row in rows]
    for (kind, value), places in by_sign.items():
        limits = _LIMITS[kind] if rows[0].what == "domain" else PROVISIONED
        if len(places) < min(limits.values()):
            continue
        flagged = _Flagged()
        mine = [rows[place] for place in places]
        for window, limit in limits.items():
            flagged.again()
            for first, last, count in _windows(mine, window):
                is_sitting = mine[last].at - mine[first].at <= SITTING
                if count < (max(limit, IN_A_SITTING) if is_sitting else limit):
                    continue
                among = places[last] - bisect_left(times, mine[last].at - window) + 1
                # The first may be any; as many more share its likeness.
                if poisson_tail(count - 1, among * _commonness(kind, value)) < BY_CHANCE:
                    flagged.add(first, last)
        for run in _parted(mine, flagged):
            yield run, f"{kind} {value}"


def _windows(rows: Sequence[Named], window: timedelta) -> Iterator[tuple[int, int, int]]:
    """For each row the window that ends with it: the numbers of its first and last, and how many labels it has."""
    labels: Counter[str] = Counter()
    first = 0
    for last, row in enumerate(rows):
        labels[row.label] += 1
        while row.at - rows[first].at > window:
            gone = rows[first].label
            labels[gone] -= 1
            if not labels[gone]:
                del labels[gone]
            first += 1
        yield first, last, len(labels)


def _parted(rows: Sequence[Named], flagged: _Flagged, apart: timedelta = APART) -> Iterator[list[Named]]:
    """The flagged rows, parted where nothing was bought for so long that it is another story."""
    run: list[Named] = []
    for place in sorted(flagged.places):
        if run and rows[place].at - run[-1].at > apart:
            yield run
            run = []
        run.append(rows[place])
    if run:
        yield run


# --- too many ---------------------------------------------------------------------------------------------------------


def _too_many(rows: Sequence[Named]) -> Iterator[Run]:
    """Any window that holds more labels than this party's past lets expect."""
    times = [row.at for row in rows]
    begins = [place == 0 or times[place] - times[place - 1] > SAME_BATCH for place in range(len(rows))]
    batches = [0]
    for is_first in begins:
        batches.append(batches[-1] + is_first)
    fewest = FEWEST if not rows or rows[0].what == "domain" else FEWEST_PROVISIONED
    flagged = _Flagged()
    for window in WINDOWS:
        flagged.again()
        for first, last, count in _windows(rows, window):
            if count < fewest:
                continue
            past = bisect_left(times, times[first] - PAST)
            before = first - past
            many = batches[first] - batches[past] + (before > 0 and not begins[past])
            span = times[first] - times[past] if before else timedelta()
            own = batches[last + 1] - batches[first] + (not begins[first])
            if rate_tail(own, count, window, batches=many, names=before, span=span) < THRESHOLD:
                flagged.add(first, last)
    for run in _parted(rows, flagged):
        yield run, RATE


def rate_tail(own: int, count: int, window: timedelta, *, batches: int, names: int, span: timedelta) -> float:
    """How improbable `count` names in `own` batches are in a window that begins with one, after `names` in `batches`
    over `span`: the probability of so many batches times that of so many names in them, as Fisher combines two.
    """
    shape = PRIOR_SHAPE + batches
    mean = shape * window / (PRIOR_SHAPE * PRIOR_PERIOD + span)
    both = gamma_poisson_tail(own - 1, shape, mean) * sizes_tail(
        count, own, PRIOR_BATCHES + batches, PRIOR_NAMES - PRIOR_BATCHES + max(0, names - batches)
    )
    return both * (1 - log(both)) if both > 0 else 0.0


def gamma_poisson_tail(count: int, shape: float, mean: float) -> float:
    """Bound on P(at least `count`), where the rate is known as a Gamma of this shape (negative binomial, Chernoff)."""
    if count <= mean:
        return 1.0
    return exp((shape + count) * log((shape + count) / (shape + mean)) - count * log(count / mean))


def sizes_tail(count: int, batches: int, stops: float, goes: float) -> float:
    """Bound on P(at least `count` names in so many batches), each name being followed by another in its batch with a
    probability that `stops` and `goes` were seen of (beta-binomial).
    """
    trials, ends = count - 1, batches - 1  # no more than `ends` batches are over within the first `trials` names
    if trials <= ends or ends >= trials * stops / (stops + goes):
        return 1.0
    rest = trials - ends
    told = lgamma(trials + 1) - lgamma(ends + 1) - lgamma(rest + 1)
    told += lgamma(ends + stops) + lgamma(rest + goes) - lgamma(trials + stops + goes)
    told += lgamma(stops + goes) - lgamma(stops) - lgamma(goes)
    return min(1.0, (ends + 1) * exp(told))


# --- campaigns --------------------------------------------------------------------------------------------------------

CAMPAIGN = 30 * DAY
MARKS, NAMES = 3, 4  # so many marks of others within that time, or so many names close to one


def campaigns(rows: Iterable[Named]) -> list[Cluster]:
    """Names close to marks of others, by the same principal, agent or key: of several marks, or several of one."""
    return _by_level(sorted((row for row in rows if row.brand), key=lambda row: row.place), campaigns_of)


def campaigns_of(rows: Sequence[Named], level: str) -> list[Run]:
    """Those of one principal, agent or key, whose rows these are, in order of time."""
    close = [row for row in rows if row.brand]
    flagged = _Flagged()
    labels_of: dict[str, Counter[str]] = defaultdict(Counter)
    first = 0
    for last, row in enumerate(close):
        labels_of[row.brand][row.label] += 1
        while row.at - close[first].at > CAMPAIGN:
            gone = labels_of[close[first].brand]
            gone[close[first].label] -= 1
            if not gone[close[first].label]:
                del gone[close[first].label]
            if not gone:
                del labels_of[close[first].brand]
            first += 1
        if len(labels_of) >= MARKS or max(map(len, labels_of.values())) >= NAMES:
            flagged.add(first, last)
    return _beyond_one_principal(
        [(run, f"{level} near {len({row.brand for row in run})} marks") for run in _parted(close, flagged, CAMPAIGN)],
        level,
    )
