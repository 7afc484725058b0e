"""An incident: findings that have one cause. Who belongs to whom is a function of the set of findings, in any order.

Two findings belong together when they are of one principal, at the root of the chain, and their acts are linked:

- they rest on one act, or their acts tell of one payment, purchase or request (a key that identifies it);
- most of their acts were done for one task, within a week (in one session, where the acts state no task);
- they are about the end of one grant or token.

One principal, agent, grant, provider or host alone joins nothing. What a source merely claims to be somebody's joins by the act
itself and by nothing else. A finding about a *sum* (a month's spend over a limit, an hour's rate) rests on acts of many causes: it
belongs where most of its acts do, and joins nobody else through itself. What a source itself does wrong stands by itself.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from auditlog.core.finding import SEVERITIES

GAP = timedelta(days=7)  # two things that were done for one task, and yet are not one
FEW = 50  # acts, each of whose keys count: of more, a key counts that most of them share
ENDED = frozenset({"authority.used_after_revocation", "authority.used_after_expiry"})
BY_THE_HOUR = frozenset(
    {"integrity.signature_failed", "integrity.duplicate_conflict", "integrity.source_gap", "integrity.clock_skew"}
)
OF_EVENTS = frozenset({"integrity.sources_disagree"})  # of integrity, what is about acts
KEYS = ("charge", "payment", "invoice", "request_id", "idempotency_key")
_AT_PROVIDER = frozenset({"request_id", "idempotency_key"})  # identify something there, and nothing elsewhere


class ActKeys(NamedTuple):
    """What an act states that can link it. `claimed`: that it is the principal's, only its source says."""

    leaf_index: int
    principal: str
    claimed: bool
    task: str
    session: str
    provider: str
    charge: str = ""
    payment: str = ""
    invoice: str = ""
    request_id: str = ""
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Linked:
    """What gathering looks at of one finding. `links` that begin with `t` hold only within GAP of its acts."""

    id: int
    principal: str
    first_at: datetime
    last_at: datetime
    leaves: frozenset[int] = frozenset()  # of the acts that it names
    links: frozenset[str] = frozenset()
    is_sum: bool = False


def linked(
    id: int,
    rule: str,
    anchor: str,
    principal: str,
    acts: Sequence[ActKeys],
    first_at: datetime,
    last_at: datetime,
    *,
    is_sum: bool,
) -> Linked:
    """What can link this finding, by the acts that it names."""
    if rule.startswith("integrity.") and rule not in OF_EVENTS:
        links = {_link("t", "", "source", rule, anchor.rpartition(" ")[0])} if rule in BY_THE_HOUR else set()
        return Linked(id, principal, first_at, last_at, links=frozenset(links))
    links = set()
    own = [act for act in acts if principal and act.principal == principal and not act.claimed]
    task = _of_most([act.task for act in own], len(acts))
    session = _of_most([act.session for act in own], len(acts))
    if task:
        links.add(_link("t", principal, "task", task))
    elif session and not any(act.task for act in acts):
        links.add(_link("t", principal, "session", session))
    if rule in ENDED:
        links.add(_link("t", principal, "ended", anchor))
    for key in KEYS:
        stated = [
            f"{act.provider if key in _AT_PROVIDER else ''}\x1f{value}" if (value := getattr(act, key)) else ""
            for act in acts
        ]
        if len(acts) <= FEW and not is_sum:
            links |= {_link("k", principal, key, each) for each in stated if each}
        elif most := _of_most(stated, len(acts)):
            links.add(_link("k", principal, key, most))
    return Linked(id, principal, first_at, last_at, frozenset(act.leaf_index for act in acts), frozenset(links), is_sum)


def _of_most(values: Iterable[str], total: int) -> str:
    counts: dict[str, int] = defaultdict(int)
    for value in values:
        counts[value] += bool(value)
    return next((value for value, count in counts.items() if count * 2 > total), "")


def _link(kind: str, *words: str) -> str:
    return kind + blake2b("\x1f".join(words).encode(), digest_size=16).hexdigest()


def share_acts(one: Linked, other: Linked) -> bool:
    """Whether what two findings rest on joins them: any act of two causes, most acts of a sum, never two sums."""
    if one.principal != other.principal or (one.is_sum and other.is_sum):
        return False
    common = len(one.leaves & other.leaves)
    if one.is_sum or other.is_sum:
        return common * 2 > len(one.leaves if one.is_sum else other.leaves)
    return common > 0


# --- gathering ----------------------------------------------------------------------------------------------------------


class Apart(NamedTuple):
    """What a person took apart: no finding of `one` is in an incident with one of `other`."""

    one: frozenset[int]
    other: frozenset[int]


def gather(
    findings: Iterable[Linked], *, together: Iterable[tuple[int, int]] = (), apart: Sequence[Apart] = ()
) -> list[tuple[int, ...]]:
    """Findings by incident: ids in order, the incident of the lowest id first. `together`: what people put into one.

    A finding that links both sides of what was taken apart goes with the side that has the lowest id.
    """
    nodes = {each.id: each for each in sorted(findings, key=lambda each: each.id)}
    groups = _Groups(nodes, apart)
    for pair in sorted(tuple(sorted(pair)) for pair in together):
        groups.join(id for id in pair if id in nodes)
    for ids in _runs(nodes):
        groups.join(ids)
    return groups.told()


class _Groups:
    """Disjoint sets of ids, of which some may not be joined."""

    def __init__(self, nodes: Mapping[int, Linked], apart: Sequence[Apart]) -> None:
        self.parent = {id: id for id in nodes}
        self.sides: dict[int, set[tuple[int, int]]] = {}  # by root: (what was taken apart, the side)
        for number, (one, other) in enumerate(apart):
            for side, ids in enumerate((one, other)):
                for id in ids & nodes.keys():
                    self.sides.setdefault(id, set()).add((number, side))

    def root(self, id: int) -> int:
        while self.parent[id] != id:
            self.parent[id] = id = self.parent[self.parent[id]]
        return id

    def join(self, ids: Iterable[int]) -> None:
        """Join all that may be: each with the first, and where it may not, with the next of those before it."""
        roots: list[int] = []
        for id in ids:
            for other in roots:
                self._union(self.root(other), self.root(id))
            roots = sorted({self.root(each) for each in (*roots, id)})

    def _union(self, one: int, other: int) -> None:
        if one == other or self._are_apart(one, other):
            return
        first, second = min(one, other), max(one, other)
        self.parent[second] = first
        if mine := self.sides.pop(second, None):
            self.sides[first] = self.sides.get(first, set()) | mine

    def _are_apart(self, one: int, other: int) -> bool:
        mine, theirs = self.sides.get(one), self.sides.get(other)
        return bool(mine and theirs and any((number, 1 - side) in theirs for number, side in mine))

    def told(self) -> list[tuple[int, ...]]:
        found: dict[int, list[int]] = defaultdict(list)
        for id in self.parent:
            found[self.root(id)].append(id)
        return sorted(map(tuple, map(sorted, found.values())))


def _runs(nodes: Mapping[int, Linked]) -> Iterable[list[int]]:
    """Ids that belong together, each run in order; a finding may be in several."""
    by_link: dict[str, list[Linked]] = defaultdict(list)
    by_leaf: dict[tuple[str, int], list[int]] = defaultdict(list)
    for each in nodes.values():
        for link in each.links:
            by_link[link].append(each)
        if not each.is_sum:
            for leaf in each.leaves:
                by_leaf[each.principal, leaf].append(each.id)
    for link in sorted(by_link):
        yield from _near(by_link[link]) if link.startswith("t") else [[each.id for each in by_link[link]]]
    for place in sorted(by_leaf):
        if len(by_leaf[place]) > 1:
            yield by_leaf[place]
    for each in nodes.values():
        if each.is_sum:
            counts: dict[int, int] = defaultdict(int)
            for leaf in each.leaves:
                for id in by_leaf.get((each.principal, leaf), ()):
                    counts[id] += 1
            for id in sorted(counts):
                if counts[id] * 2 > len(each.leaves):
                    yield sorted((id, each.id))


def _near(many: Sequence[Linked]) -> Iterable[list[int]]:
    """Those of one link whose acts lie within GAP of one another, or are connected by others that do."""
    run: list[int] = []
    until: datetime | None = None
    for each in sorted(many, key=lambda each: (each.first_at, each.id)):
        if until is not None and each.first_at > until + GAP:
            yield sorted(run)
            run, until = [], None
        run.append(each.id)
        until = each.last_at if until is None else max(until, each.last_at)
    yield sorted(run)


# --- what an incident comes to ------------------------------------------------------------------------------------------

AHEAD = frozenset({"spend.forecast_breach", "spend.uncapped"})  # money that may be spent, and was not
DESKS = ("security", "finance", "abuse", "auditor")
_DESKS = {
    "squatting": ("security", "abuse"), "intent": ("security", "finance"), "spend": ("finance",), "authority": ("security",),
    "integrity": ("auditor", "security"),
}  # fmt: skip


def desks_of(rules: Iterable[str]) -> list[str]:
    """Whose morning it is on."""
    wanted = {desk for rule in rules for desk in _DESKS.get(rule.partition(".")[0], ("security",))}
    return [desk for desk in DESKS if desk in wanted]


def rules_of(desk: str) -> list[str]:
    """What the rules that concern a desk begin with."""
    return [f"{family}." for family, desks in _DESKS.items() if desk in desks]


class Stake(NamedTuple):
    """Money that a finding puts at risk, and the acts that it is about."""

    rule: str
    leaves: frozenset[int]
    amount_minor: int
    currency: str
    is_sum: bool = False


def over_of(stakes: Iterable[Stake], same: Iterable[Collection[int]] = ()) -> dict[str, int]:
    """By currency, the money that was too much. Several findings about the same acts tell of the same money: of those the largest
    counts. Findings about different acts add up; and no sum over all of them is counted beside its parts.

    `same`: leaves that tell of one payment, such as an order and the charge for it. They count as one act.
    """
    one_for = {leaf: min(leaves) for leaves in same for leaf in leaves}
    by_currency: dict[str, list[Stake]] = defaultdict(list)
    for stake in stakes:
        if stake.rule not in AHEAD:
            told = frozenset(one_for.get(leaf, leaf) for leaf in stake.leaves)
            by_currency[stake.currency].append(stake._replace(leaves=told))
    return {currency: _over(of) for currency, of in sorted(by_currency.items())}


def _over(stakes: Sequence[Stake]) -> int:
    parts: list[tuple[set[int], int]] = []  # of acts that are connected: all of them, and the largest amount
    for stake in stakes:
        if stake.is_sum:
            continue
        leaves, most = set(stake.leaves), stake.amount_minor
        apart = []
        for others, amount in parts:
            if leaves & others:
                leaves |= others
                most = max(most, amount)
            else:
                apart.append((others, amount))
        parts = [*apart, (leaves, most)]
    return max([sum(amount for _, amount in parts), *(stake.amount_minor for stake in stakes if stake.is_sum)])


def rank_of(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1
