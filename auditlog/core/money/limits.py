"""Limits in force, and spending counted against them (`DESIGN.md` section 4.2). Rules and criterion C5 share `Ledger`.

A limit is what several statements say of one cap, in order of their times. It binds its grant or holder, at its
provider, in its money; scopes without a name hold for each session, task, project, merchant or provider separately.
Spending counts when it was done, authorizations while they are open, and what comes back gives room from then on.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from auditlog.core.amount import interval_start
from auditlog.core.money.exposure import is_open
from auditlog.core.money.money import CREDIT_RAIL

Minor = int | Decimal  # minor units, exact
RaiseStanding = Literal["counts", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class LimitFact:
    """One thing said of a limit, by an event or inside a grant. `verb`: set | raised | lowered | reached | grant."""

    leaf_index: int
    event_id: str
    verb: str
    holder: str  # party key; "" unknown
    grant: str
    scope: str
    scope_id: str
    provider: str
    currency: str
    interval: str
    zone: str
    max_minor: int | None
    enforcement: str
    set_by: str
    at: datetime
    id: str = ""
    session: str = ""
    task: str = ""
    project: str = ""
    counts: bool = True  # its source may say so
    issuer: str = ""  # whose word it is
    actor: str = ""  # who did it, as the event says; "" where it only says who set the limit
    doubt: str = ""  # why it is not known whether this holds, in words; such a statement never stands
    principal: str = ""  # in whose name it was said; "" where nobody says

    def may_be_of(self, principal: str) -> bool:
        """Whether it can be about what is spent in this name. A grant's is of its path; one about the principal itself may
        be made in another's name; any other is about whom it was made for.
        """
        return bool(self.grant) or self.principal in ("", principal) or self.holder == principal

    @property
    def terms(self) -> tuple[str, ...]:
        """What is counted against it, and over what: all but its amount and what becomes of it."""
        return (
            "" if self.grant else self.holder,
            *self.bound,
            self.scope,
            self.scope_id,
            self.provider,
            self.currency,
            self.interval,
            self.zone,
        )

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two statements speak of one limit where no id does."""
        return (self.holder, *self.bound, self.scope, self.scope_id, self.provider, self.currency, self.interval)

    @property
    def kind(self) -> tuple[str, ...]:
        """The same without what it is bound to."""
        return (self.holder, self.scope, self.provider, self.currency, self.interval)

    @property
    def bound(self) -> tuple[str, str, str, str]:
        """The grant, session, task and project that it names, and so binds."""
        return (self.grant, self.session, self.task, self.project)


@dataclass(frozen=True, slots=True)
class Spent:
    """One line of the books as limits see it (core.books.Line), with all that it is attributed to."""

    event_id: str
    leaf_index: int
    at: datetime
    provider: str
    currency: str
    spent_minor: Minor  # the lower bound, net of what came back
    authorized_minor: Minor  # held beyond it, while the hold is open
    rail: str
    parties: frozenset[str]  # keys of all parties on its chain
    grants: frozenset[str]  # ids of all grants on its path
    session: str = ""
    task: str = ""
    project: str = ""
    joined: frozenset[str] = frozenset()  # all events counted in it
    at_most_minor: Minor | None = None  # the upper bound; None: as `spent_minor`
    returns: tuple[tuple[datetime, Minor], ...] = ()
    held_from: datetime | None = None
    held_until: datetime | None = None
    payee: str = ""
    authority: str = ""
    book: str = ""  # incurred | billed | paid | held
    unit: str = ""  # charge or invoice; "" where it has no name of its own
    principal: str = ""  # in whose name
    actor: str = ""

    @property
    def tie(self) -> tuple:
        """What orders lines of one time: what they say, so that it is not the order of arrival."""
        scope = (self.provider, self.payee, self.session, self.task, self.project)
        return (self.unit, self.gross_minor, self.authorized_minor, *scope, self.event_id)

    @property
    def events(self) -> frozenset[str]:
        return self.joined or frozenset({self.event_id})

    @property
    def returned_minor(self) -> Minor:
        return sum((amount for _, amount in self.returns), 0)

    @property
    def gross_minor(self) -> Minor:
        """What was spent before anything came back."""
        return self.spent_minor + self.returned_minor

    @property
    def doubt_minor(self) -> Minor:
        return 0 if self.at_most_minor is None else self.at_most_minor - self.spent_minor

    @property
    def merchant(self) -> str:
        return self.payee or self.provider


@lru_cache(maxsize=512)
def zone_of(name: str) -> tzinfo:
    """The limit's zone; UTC when it states none, or one that nobody knows."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, KeyError, OSError):
        return UTC


def window_of(limit: LimitFact, at: datetime) -> datetime | None:
    """UTC start of the limit's interval that holds `at`; None for `once`."""
    start = interval_start(at.astimezone(zone_of(limit.zone)), limit.interval)
    return start.astimezone(UTC) if start else None


def binds(limit: LimitFact, spent: Spent) -> bool | None:
    """Whether a line counts against a limit. None: what the line does not say would decide, or a rate."""
    if spent.rail == CREDIT_RAIL:
        return False
    if (limit.grant not in spent.grants) if limit.grant else (limit.holder not in spent.parties):
        return False
    unnamed = False
    if limit.provider:
        named = {spent.provider, spent.payee} - {""}
        if named and limit.provider not in named:
            return False
        unnamed = not named
    for name in ("session", "task", "project"):
        wanted = getattr(limit, name) or (limit.scope_id if limit.scope == name else "")
        stated = getattr(spent, name)
        if wanted and stated and stated != wanted:
            return False
        unnamed = unnamed or bool((wanted or limit.scope == name) and not stated)
    if limit.scope in ("merchant", "provider") and not spent.merchant:
        unnamed = True
    if unnamed or spent.currency != limit.currency:
        return None
    return True


def each_of(limit: LimitFact, spent: Spent) -> str:
    """Which of the separate things a limit without a name counts this line for; "" where it counts all together."""
    if limit.scope in ("session", "task", "project"):
        return "" if limit.scope_id or getattr(limit, limit.scope) else getattr(spent, limit.scope)
    if limit.scope in ("merchant", "provider") and not limit.provider:
        return spent.merchant if limit.scope == "merchant" else spent.provider or spent.payee
    return ""


# --- one limit from its statements ----------------------------------------------------------------------------------


SHOWN = 20  # raises that count for nothing, of all that there may be


class Standing(NamedTuple):
    """What holds of a limit for one line: its statement in force, the raises that count for nothing, those in doubt."""

    limit: LimitFact | None
    refused: tuple[LimitFact, ...] = ()
    doubtful: tuple[LimitFact, ...] = ()  # wider; who made them, or that they came before the act, is not known
    narrower: tuple[LimitFact, ...] = ()  # than what stands, where it is not known whether they hold

    def is_passed_by(self, total: Minor) -> bool:
        """Whether a total is over for certain: whatever is in doubt would not have been enough."""
        most = self.limit.max_minor if self.limit else None
        return (
            most is not None
            and total > most
            and all(d.max_minor is not None and total > d.max_minor for d in self.doubtful)
        )


@dataclass(frozen=True)
class Limit:
    """All statements of one limit, in order of time."""

    versions: tuple[LimitFact, ...]
    judged: Callable[[LimitFact, LimitFact | None], RaiseStanding]

    @property
    def first(self) -> LimitFact:
        return self.versions[0]

    def in_force(self, at: datetime, *, leaf_index: int | None = None) -> Standing:
        """The statement that held at `at`. `leaf_index`: of the act; what widens and came after it is in doubt.

        A raise counts from its own time if somebody made it who may; whatever is narrower counts from its time.
        """
        said = bisect_right(self._times, at)
        if leaf_index is None or not said or self._last_leaves[said - 1] <= leaf_index:
            return self._states[said]
        state = Standing(None)
        for fact in self.versions[:said]:
            state = self._after(state, fact, leaf_index)
        return state

    def _after(self, state: Standing, fact: LimitFact, leaf_index: int | None) -> Standing:
        stands = state.limit
        wider = widens(fact, stands)
        if fact.doubt and not wider:
            return state._replace(narrower=(*(n for n in state.narrower if not widens(n, fact)), fact))
        if not wider:
            narrower = tuple(n for n in state.narrower if widens(fact, n))
            return Standing(fact, state.refused, tuple(d for d in state.doubtful if widens(d, fact)), narrower)
        standing = self.judged(fact, stands)
        if fact.doubt and standing == "counts":
            standing = "unknown"
        if standing == "refused":
            return state._replace(refused=(*state.refused[1 - SHOWN :], fact))
        if standing == "unknown" or (stands is not None and leaf_index is not None and fact.leaf_index > leaf_index):
            # What allows no more than another that is in doubt changes nothing.
            return state._replace(doubtful=(*(d for d in state.doubtful if widens(d, fact)), fact))
        return Standing(fact, state.refused, (), state.narrower)

    @cached_property
    def _states(self) -> list[Standing]:
        """What stood after none, one, two .. of the statements, whoever knew of them."""
        return list(
            accumulate(self.versions, lambda state, fact: self._after(state, fact, None), initial=Standing(None))
        )

    @cached_property
    def _times(self) -> list[datetime]:
        return [fact.at for fact in self.versions]

    @cached_property
    def _last_leaves(self) -> list[int]:
        return list(accumulate((fact.leaf_index for fact in self.versions), max))

    @cached_property
    def all_terms(self) -> list[LimitFact]:
        """One statement for each set of terms that ever stood, or the first."""
        stood = {state.limit.terms: state.limit for state in reversed(self._states) if state.limit is not None}
        return list(reversed(stood.values())) or [self.first]


def widens(fact: LimitFact, before: LimitFact | None) -> bool:
    """Any statement that allows more is a raise, whatever its verb; so is one of other terms, which may allow more, and one
    that only warns where what stood forbade.
    """
    if before is None:
        return fact.verb == "raised"
    if before.max_minor is None:
        return False
    if fact.terms != before.terms or (fact.enforcement == "alert_only" != before.enforcement):
        return True
    return fact.max_minor is None or fact.max_minor > before.max_minor


_VERBS = ("grant", "set", "lowered", "raised")


def _in_time(fact: LimitFact) -> tuple:
    """In order of time; of one time what allows most comes last: which of the two holds is not known, and doubt never convicts."""
    verb = _VERBS.index(fact.verb) if fact.verb in _VERBS else 0
    return fact.at, verb, fact.max_minor is None, fact.max_minor or 0, fact.leaf_index, fact.key


def limits_of(
    facts: Iterable[LimitFact], judged: Callable[[LimitFact, LimitFact | None], RaiseStanding]
) -> list[Limit]:
    """Limits from all that was said of them. A statement restates the limit of the same id; failing that, each with the
    same holder, scope, provider, currency, interval and bound thing, if it names one.
    """
    found: list[list[LimitFact]] = []
    places: dict[tuple, set[int]] = {}  # in `found`, by what a statement of one of them says
    for fact in sorted((f for f in facts if f.counts and f.verb != "reached"), key=_in_time):
        by_id = places.get(_id_of(fact), ()) if fact.id else ()
        same = [n for n in sorted(by_id) if any(_same_id(fact, v) for v in found[n])]
        same = same or [n for n in sorted(places.get(_asked(fact), ())) if any(_same_limit(fact, v) for v in found[n])]
        if not same:
            found.append([])
            same = [len(found) - 1]
        for n in same:
            found[n].append(filled(fact, found[n][-1]) if found[n] else fact)
            for mark in _marks(fact):
                places.setdefault(mark, set()).add(n)
    return [Limit(tuple(versions), judged) for versions in found]


def filled(fact: LimitFact, before: LimitFact) -> LimitFact:
    """A restatement with what it leaves out as it was: whom and what the limit binds."""
    absent = {name: getattr(before, name) for name in ("holder", "grant", *_NARROW, "zone") if not getattr(fact, name)}
    return replace(fact, **absent) if any(absent.values()) else fact


def _id_of(fact: LimitFact) -> tuple[str, ...]:
    return ("id of a grant", fact.id, fact.grant) if fact.grant else ("id", fact.id, fact.holder)


def _marks(fact: LimitFact) -> list[tuple]:
    """What statements that may restate it look it up by: see `_asked` and `_same_id`."""
    narrow = [(name, value, fact.kind) for name in _NARROW if (value := getattr(fact, name))]
    ids = [("id", fact.id, fact.holder), ("id of a grant", fact.id, fact.grant)] if fact.id else []
    return [("grant", fact.grant), ("kind", fact.kind), *narrow, *ids]


def _asked(fact: LimitFact) -> tuple:
    """The narrowest thing that `_same_limit` wants of another statement."""
    if fact.grant or fact.verb == "grant":
        return ("grant", fact.grant)
    return next(((name, value, fact.kind) for name in _NARROW if (value := getattr(fact, name))), ("kind", fact.kind))


_NARROW = ("scope_id", "session", "task", "project")


def _same_id(fact: LimitFact, other: LimitFact) -> bool:
    """The same id means the same limit only of one holder or grant: ids are their senders' own."""
    return fact.id == other.id and (fact.holder == other.holder if not fact.grant else fact.grant == other.grant)


def _same_limit(fact: LimitFact, other: LimitFact) -> bool:
    same = (
        fact.kind[1:] == other.kind[1:] if fact.grant and not fact.holder else fact.kind == other.kind
    )  # default: the grant's actor
    if not same or (fact.scope_id and fact.scope_id != other.scope_id):
        return False
    if fact.verb == "grant" or other.verb == "grant":
        # Two grants' limits are two; an event that names no grant speaks of each.
        if fact.verb == "grant" and other.verb == "grant":
            return fact.grant == other.grant
        if fact.verb == "grant":
            return other.grant == fact.grant
    return all(not mine or mine == theirs for mine, theirs in zip(fact.bound, other.bound, strict=True)) and (
        any(fact.bound) or other.verb == "grant" or not any(other.bound)
    )


class Terms(NamedTuple):
    """One statement of a grant, as far as its limits go."""

    event_id: str
    leaf_index: int
    at: datetime
    states_limits: bool


def restated_in_grants(
    facts: Iterable[LimitFact], versions: Mapping[str, Sequence[Terms]], rivals: Mapping[str, Sequence[Terms]]
) -> list[LimitFact]:
    """Limits of grants as their statements leave them: what a later version does not repeat is gone from then on, and what
    somebody else states of the grant, who may say so too, is in doubt. By grant id: its versions in order, and the rivals.
    """
    said: dict[tuple[str, str], list[LimitFact]] = {}
    for fact in facts:
        said.setdefault((fact.grant, fact.event_id), []).append(fact)
    found: list[LimitFact] = []
    for grant, many in versions.items():
        standing: list[LimitFact] = []
        for version in many:
            mine = said.get((grant, version.event_id), [])
            doubt = "" if version.states_limits else f"grant {grant} was stated anew without it"
            found += [*mine, *(_gone(fact, version, doubt) for fact in _left_out(standing, mine))]
            standing = [*mine, *_left_out(standing, mine)] if doubt else mine
        for rival in rivals.get(grant, ()):
            mine = said.get((grant, rival.event_id), [])
            doubt = f"grant {grant} is stated otherwise by somebody else who may say so"
            found += [replace(fact, doubt=doubt) for fact in mine]
            found += [_gone(fact, rival, doubt) for fact in _left_out(standing, mine)]
    return found


def _left_out(standing: Iterable[LimitFact], mine: Sequence[LimitFact]) -> list[LimitFact]:
    ids, kinds = {fact.id for fact in mine} - {""}, {fact.kind for fact in mine}
    return [fact for fact in standing if fact.id not in ids and fact.kind not in kinds]


def _gone(fact: LimitFact, terms: Terms, doubt: str) -> LimitFact:
    return replace(fact, event_id=terms.event_id, leaf_index=terms.leaf_index, at=terms.at, max_minor=None, doubt=doubt)


# --- spending against limits ----------------------------------------------------------------------------------------


class Bucket(NamedTuple):
    """What is counted together."""

    each: str  # what it is counted for separately
    start: datetime | None  # of the interval
    terms: tuple[str, ...]  # of the limit, which may be restated


class Step(NamedTuple):
    """One line against one limit when it was done. `total` with it and all that was spent or open then."""

    spent: Spent
    limit: Limit
    standing: Standing
    bucket: Bucket
    at: datetime
    total: Minor
    in_flight: Minor  # of `total`: authorized and not captured
    at_most: Minor  # with what is perhaps counted twice

    @property
    def max_minor(self) -> int | None:
        return self.standing.limit.max_minor if self.standing.limit else None

    @property
    def over_minor(self) -> Minor:
        return max(self.total - self.max_minor, 0) if self.max_minor is not None else 0

    @property
    def is_over(self) -> bool:
        """Over for certain: whatever raises are in doubt would not have been enough."""
        return self.standing.is_passed_by(self.total)

    @property
    def is_in_doubt(self) -> bool:
        """Over, if the raise in doubt does not count, or if what is perhaps counted twice is not."""
        if self.is_over:
            return False
        if any(n.max_minor is not None and self.at_most > n.max_minor for n in self.standing.narrower):
            return True
        return self.max_minor is not None and (self.over_minor > 0 or self.at_most > self.max_minor)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A limit and interval in which spending went over. `crossed_by` is the line that did it."""

    limit: LimitFact
    provider: str  # of the bucket, for `provider` limits that hold for each provider separately
    start: datetime | None
    spent_minor: Minor  # the most that it came to
    crossed_by: Spent
    counted: tuple[Spent, ...]
    each: str = ""
    in_flight_minor: Minor = 0
    also_held: tuple[Spent, ...] = ()  # authorized when it was over already, or so that it was; not spent

    @property
    def over_minor(self) -> Minor:
        return self.spent_minor - (self.limit.max_minor or 0)


@dataclass
class Ledger:
    """One limit's run over all spending that it binds: made once, asked often."""

    limit: Limit
    steps: list[Step] = field(default_factory=list)
    unknown: list[Spent] = field(default_factory=list)  # lines of which it is not known whether it binds them
    counted: dict[Bucket, list[Spent]] = field(default_factory=dict)
    perhaps_taken: dict[int, datetime] = field(default_factory=dict)

    def of(self, spent: Spent) -> list[Step]:
        return self._by_line.get(id(spent), [])

    @cached_property
    def _by_line(self) -> dict[int, list[Step]]:
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            found.setdefault(id(step.spent), []).append(step)
        return found


def run(limit: Limit, spending: Iterable[Spent]) -> Ledger:
    """Count every line that the limit binds, in order of time. A line is judged when it was first committed: when its
    authorization was opened, else when it was spent; and again for what was taken beyond the authorization.
    """
    spending = list(spending)
    perhaps_taken = _perhaps_taken(spending)
    ledger = Ledger(limit, perhaps_taken=perhaps_taken)
    moves: list[tuple[datetime, int, tuple, int, str, Spent, Minor]] = []
    bound_by: dict[int, list[LimitFact]] = {}  # by place of a line: the terms under which the limit binds it
    for number, spent in enumerate(spending):
        since = spent.held_from or spent.at
        bound = {terms.terms: binds(terms, spent) for terms in limit.all_terms}
        then = limit.in_force(since).limit if len(bound) > 1 else None
        if bound[(then or limit.all_terms[0]).terms] is None:
            ledger.unknown.append(spent)
        bound_by[number] = [terms for terms in limit.all_terms if bound[terms.terms]]
        if not bound_by[number] or since < limit.first.at:
            continue  # what was spent before there was a limit does not count against it
        held, tie = spent.authorized_minor if spent.held_from else 0, spent.tie
        if held:
            moves.append((spent.held_from, 1, tie, number, "hold", spent, held))
            taken_at = perhaps_taken.get(id(spent))
            if until := min(filter(None, (taken_at, spent.held_until)), default=None):
                moves.append((until, 0, tie, number, "release", spent, held))
            if taken_at and (spent.held_until is None or taken_at < spent.held_until):
                moves.append((taken_at, 0, tie, number, "doubt", spent, held))
                if spent.held_until:
                    moves.append((spent.held_until, 0, tie, number, "doubt", spent, -held))
        if spent.gross_minor or spent.doubt_minor:
            moves.append((spent.at, 2, tie, number, "spend", spent, spent.gross_minor))
        moves += [(at, 3, tie, number, "return", spent, amount) for at, amount in spent.returns]
    taken: dict[Bucket, Minor] = {}
    open_: dict[Bucket, Minor] = {}
    doubt: dict[Bucket, Minor] = {}
    for at, _, _, number, what, spent, amount in sorted(moves, key=lambda move: move[:4]):
        when = spent.held_from if what in ("hold", "release", "doubt") else spent.at
        buckets = [Bucket(each_of(terms, spent), window_of(terms, when), terms.terms) for terms in bound_by[number]]
        for bucket in buckets:
            if what == "doubt":
                doubt[bucket] = doubt.get(bucket, 0) + amount
            elif what in ("hold", "release"):
                open_[bucket] = open_.get(bucket, 0) + (amount if what == "hold" else -amount)
            else:
                taken[bucket] = taken.get(bucket, 0) + (amount if what == "spend" else -amount)
            if what == "spend":
                doubt[bucket] = doubt.get(bucket, 0) + spent.doubt_minor
                ledger.counted.setdefault(bucket, []).append(spent)
        if what in ("release", "return", "doubt"):
            continue
        if what == "spend" and spent.held_from and spent.held_from < spent.at and amount <= spent.authorized_minor:
            continue  # judged when it was authorized
        standing = limit.in_force(at, leaf_index=spent.leaf_index)
        in_force = (standing.limit or limit.all_terms[0]).terms
        for bucket in buckets:
            if bucket.terms == in_force:
                total = taken.get(bucket, 0) + open_.get(bucket, 0)
                ledger.steps.append(
                    Step(spent, limit, standing, bucket, at, total, open_.get(bucket, 0), total + doubt.get(bucket, 0))
                )
    return ledger


def _perhaps_taken(spending: Sequence[Spent]) -> dict[int, datetime]:
    """By id of a hold that nobody closed: when a payment of its amount, that shares no key with it, was taken at the same
    seller while it was open. Card networks number the two apart. Perhaps it is the same money, and doubt never convicts: the
    hold counts no more from then. One to one, the oldest hold first.
    """
    holds = sorted((s for s in spending if s.book == "held" and s.held_from), key=lambda s: (s.held_from, s.tie))
    loose: dict[tuple[str, Minor], list[Spent]] = {}
    if holds:
        for spent in spending:
            if spent.book == "paid" and not spent.held_from and not spent.authority:
                loose.setdefault((spent.currency, spent.gross_minor), []).append(spent)
    found: dict[int, datetime] = {}
    taken: set[int] = set()
    for hold in holds:
        alike = [
            spent
            for spent in loose.get((hold.currency, hold.authorized_minor), ())
            if id(spent) not in taken
            and hold.held_from <= spent.at
            and (hold.held_until is None or spent.at < hold.held_until)
            and _one_seller(hold, spent)
        ]
        if alike:
            first = min(alike, key=lambda s: (s.at, s.tie))
            taken.add(id(first))
            found[id(hold)] = first.at
    return found


def _one_seller(one: Spent, other: Spent) -> bool:
    mine, theirs = {one.payee, one.provider} - {""}, {other.payee, other.provider} - {""}
    return not mine or not theirs or not mine.isdisjoint(theirs)


def crossings_of(ledger: Ledger) -> list[Crossing]:
    """Every interval in which what was spent went over what was in force, open authorizations aside, earliest first."""
    found: list[Crossing] = []
    beyond: dict[Bucket, dict[int, Spent]] = {}
    for step in ledger.steps:
        if step.is_over:
            beyond.setdefault(step.bucket, {})[id(step.spent)] = step.spent
    for bucket, lines in ledger.counted.items():
        moves = [(s.at, 0, s.tie, n, s, s.gross_minor) for n, s in enumerate(lines)]
        moves += [(at, 1, s.tie, n, s, -amount) for n, s in enumerate(lines) for at, amount in s.returns]
        total: Minor = 0
        counted: list[Spent] = []
        worst: tuple[Minor, LimitFact, int] | None = None
        crossed_by: Spent | None = None
        last_over: Spent | None = None
        for at, kind, _, _, spent, amount in sorted(moves, key=lambda move: move[:4]):
            total += amount
            if kind:
                continue
            counted.append(spent)
            # Who captures no more than was authorized crosses nothing: the line that found no room left beside it did.
            last_over = beyond.get(bucket, {}).get(id(spent), last_over)
            standing = ledger.limit.in_force(at, leaf_index=spent.leaf_index)
            limit = standing.limit
            if (
                not amount
                or limit is None
                or limit.terms != bucket.terms
                or last_over is None
                or not standing.is_passed_by(total)
            ):
                continue
            crossed_by = crossed_by or last_over
            if worst is None or total - limit.max_minor >= worst[0]:
                worst = (total - limit.max_minor, limit, len(counted))
        if worst is not None and crossed_by is not None:
            over, limit, upto = worst
            each, start, _ = bucket
            provider = each if limit.scope in ("provider", "merchant") and each else limit.provider
            mine = {id(spent) for spent in counted[:upto]}
            held = tuple(spent for key, spent in beyond.get(bucket, {}).items() if key not in mine)
            found.append(
                Crossing(
                    limit,
                    provider,
                    start,
                    over + (limit.max_minor or 0),
                    crossed_by,
                    tuple(counted[:upto]),
                    each,
                    also_held=held,
                )
            )
    return sorted(found, key=lambda c: (c.crossed_by.at, c.limit.leaf_index))


def overshoots_of(ledger: Ledger) -> list[Crossing]:
    """Intervals in which spend and open authorizations together went over, at their worst; those spent over are left out."""
    spent_over = {(c.each, c.start, c.limit.terms) for c in crossings_of(ledger)}
    worst: dict[Bucket, tuple[Step, Step]] = {}
    for step in ledger.steps:
        if step.bucket in spent_over or not step.in_flight or not step.is_over:
            continue
        first, most = worst.get(step.bucket, (step, step))
        worst[step.bucket] = (first, step if step.over_minor >= most.over_minor else most)
    found = []
    for bucket, (first, most) in worst.items():
        each, start, _ = bucket
        lines = [
            s.spent
            for s in ledger.steps
            if s.bucket == bucket
            and is_open(s.spent.held_from, s.spent.held_until, most.at)
            and not (id(s.spent) in ledger.perhaps_taken and ledger.perhaps_taken[id(s.spent)] <= most.at)
        ]
        lines += [s for s in ledger.counted.get(bucket, ()) if s.at <= most.at]
        counted = tuple(sorted({id(s): s for s in lines}.values(), key=lambda s: (s.held_from or s.at, s.leaf_index)))
        limit = most.standing.limit
        found.append(Crossing(limit, each if limit.scope in ("provider", "merchant") and each else limit.provider, start, most.total,
                              first.spent, counted, each, most.in_flight))  # fmt: skip
    return found
