"""A story: one act as several sources tell it. Evidence is never merged; a story only says which statements belong together.

Statements belong together when they share a key (core.join). To a source that itself tells several acts apart under it (an
invoice of a month, a token's worth of calls, a request that made five things) a key says nothing, and takes it from
nobody else. Two stories are not one because somebody names the keys of both: where the whole would hold two acts that one
source tells apart, the weaker kinds of keys give way. A source that speaks outside its layers is *claimed*: it is shown
beside the story it names and bridges nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from auditlog.core.chain.act import Act
from auditlog.core.event import act_chain, layer_of
from auditlog.core.money.join import KINDS, MANY, Key, call_keys, scopes, thing_key
from auditlog.core.money.money import CREDIT_RAIL, SPENT, amount_text

# Two honest clocks: each may be wrong by what integrity.clock_skew lets pass, ahead or behind.
TOLERANCE = timedelta(minutes=6)
FEES = 0.27  # the highest rate of VAT in the EU: within it, one side may state an amount without tax or fees


def keys_of(act: Act) -> tuple[Key, ...]:
    """The keys by which this statement may be of the same act as another source's."""
    found = []
    if act.charge:
        found.append(Key("charge", f"rail:{act.rail}", act.charge))
    client, money = act.payload.client, act.payload.money
    found += call_keys(
        scopes(act.provider, act.rail, act.issuer), idempotency_key=act.idempotency_key, request_id=act.request_id,
        ray_id=client.ray_id if client else "",
    )  # fmt: skip
    if money and money.invoice and act.rail:
        found.append(Key("invoice", f"rail:{act.rail}", money.invoice))
    thing = thing_key(act.type, act.stated_verb, act.provider, act.target or act.resource or act.account)
    if thing and act.account:
        found.append(thing._replace(scope=f"{thing.scope} in {act.account}"))  # a name means one thing in one account
    return tuple([*found, thing] if thing else found)


class Shared(NamedTuple):
    """A key that holds a story together, and who states it."""

    key: Key
    sources: tuple[str, ...]  # within their layers
    claimed_by: tuple[str, ...]  # outside of them

    @property
    def is_corroborated(self) -> bool:
        """Whether two sources that may say so both do."""
        return len(self.sources) > 1


class Disagreement(NamedTuple):
    """`kind`: amount | time | actor | principal | outcome. `events` are the two statements that contradict each other."""

    kind: str
    words: str
    events: tuple[str, str]
    is_minor: bool = False  # tax or fees may be all there is to it
    amount_minor: int | None = None  # what the two differ by
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """`acts` in the order in which they happened, those of `claimed` (event ids) among them."""

    acts: tuple[Act, ...]
    shared: tuple[Shared, ...] = ()
    claimed: frozenset[str] = frozenset()

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted({act.source for act in self.acts if act.event_id not in self.claimed}))

    @property
    def first(self) -> Act:
        return self.acts[0]

    @property
    def anchor(self) -> str:
        """The statement that came first: later ones change nothing about that."""
        return min(self.acts, key=lambda act: act.leaf_index).event_id


def grouped(acts: Iterable[Act]) -> dict[Key, list[Act]]:
    found: dict[Key, list[Act]] = {}
    for act in acts:
        for key in keys_of(act):
            found.setdefault(key, []).append(act)
    return found


def usable(key: Key, acts: Iterable[Act]) -> list[Act]:
    """Of the acts that state a key, those for whose source it names one act. A source that itself tells two apart under
    it, or states it more than MANY times, is left out, and takes the key from nobody else. But a thing that somebody tells
    of as made twice, or that was made in two accounts, was made twice: then nobody's word says which one is meant.
    """
    acts = list(acts)
    if key.kind == "thing" and len({act.account for act in acts if act.within_remit} - {""}) > 1:
        return []
    by_source: dict[tuple[str, bool], list[Act]] = {}
    for act in acts:
        by_source.setdefault((act.source, act.within_remit), []).append(act)
    found = []
    for (_, within), own in by_source.items():
        if len(own) > MANY or (within and _told_apart(own, things=key.kind == "thing")):
            if key.kind == "thing" and within:
                return []
        else:
            found += own
    return found


def stories(acts: Iterable[Act]) -> list[Story]:
    """The acts by story, in the order of their first act. A function of the set of acts."""
    acts = sorted({act.event_id: act for act in acts}.values(), key=_in_time)
    by_key = {
        key: sharing for key, many in grouped(acts).items() if len(many) > 1 and len(sharing := usable(key, many)) > 1
    }
    own = [act for act in acts if act.within_remit]
    parts = _parted(own, {key: [act for act in many if act.within_remit] for key, many in by_key.items()}, KINDS)
    place = {act.event_id: number for number, part in enumerate(parts) for act in part}
    claimed: dict[int, list[Act]] = {}
    for act in acts:
        if act.within_remit:
            continue
        stated = [many for key in keys_of(act) if act in (many := by_key.get(key, ()))]
        named = {place[other.event_id] for many in stated for other in many if other.event_id in place}
        if len(named) == 1:  # of two stories it names, it belongs to neither
            claimed.setdefault(named.pop(), []).append(act)
        else:
            parts.append([act])
    found = [_story(part, claimed.get(number, []), by_key) for number, part in enumerate(parts)]
    return sorted(found, key=lambda story: _in_time(story.first))


def _story(part: list[Act], claimed: list[Act], by_key: dict[Key, list[Act]]) -> Story:
    members = sorted([*part, *claimed], key=_in_time)
    shared = []
    for key, stating in grouped(members).items():
        stating = [act for act in stating if act in by_key.get(key, ())]
        if len(stating) > 1:
            within = tuple(sorted({act.source for act in stating if act.within_remit}))
            shared.append(Shared(key, within, tuple(sorted({act.source for act in stating if not act.within_remit}))))
    return Story(
        tuple(members),
        tuple(sorted(shared, key=lambda s: (KINDS.index(s.key.kind), s.key))),
        frozenset(a.event_id for a in claimed),
    )


def _parted(acts: list[Act], by_key: dict[Key, list[Act]], kinds: Sequence[str]) -> list[list[Act]]:
    """Connected by keys of these kinds; where somebody tells a part's acts apart, by all kinds but the weakest."""
    above = {act.event_id: act.event_id for act in acts}

    def top(event_id: str) -> str:
        while above[event_id] != event_id:
            above[event_id] = event_id = above[above[event_id]]
        return event_id

    for key, many in by_key.items():
        members = [act for act in many if act.event_id in above] if key.kind in kinds else []
        for other in members[1:]:
            above[top(other.event_id)] = top(members[0].event_id)
    parts: dict[str, list[Act]] = {}
    for act in acts:
        parts.setdefault(top(act.event_id), []).append(act)
    found = []
    for part in parts.values():
        if len(part) > 1 and _told_apart(part):
            found += _parted(part, by_key, kinds[:-1]) if kinds else [[act] for act in part]
        else:
            found.append(part)
    return found


def _told_apart(acts: Iterable[Act], *, things: bool = False) -> bool:
    """Whether some source says of two of these that they are two acts: one type done to two objects, two charges of a
    rail; of a thing, made by two requests.
    """
    marks: dict[tuple[str, ...], str] = {}
    for act in acts:
        said = [(act.source, act.type, "object", _object(act))]
        if act.charge:
            said.append((act.source, "charge", act.rail, act.charge))
        if things:
            said += [
                (act.source, act.type, "request", act.request_id),
                (act.source, act.type, "key", act.idempotency_key),
            ]
        for *mark, value in said:
            if value and marks.setdefault(tuple(mark), value) != value:
                return True
    return False


def _object(act: Act) -> str:
    """What tells two acts of one type apart. Of money that is its charge: a rail names the same one in several ways."""
    if layer_of(act.type) in ("money", "dispute") and (
        act.charge or act.type.startswith(("payment.", "invoice.", "dispute."))
    ):
        return ""
    return act.target or act.resource


def _in_time(act: Act) -> tuple[datetime, int]:
    return act.occurred_at, act.leaf_index


# --- where they contradict one another ------------------------------------------------------------------------------


def disagreements(story: Story) -> list[Disagreement]:
    """What two sources within their layers say differently of this act, at most one of a kind and pair of sources.

    A quote is no capture, a request is no result, another currency cannot be compared, and an agent may be known to a
    provider by another name: none of these is a disagreement.
    """
    acts = [act for act in story.acts if act.event_id not in story.claimed and act.environment == "live"]
    found: dict[tuple[str, str, str], Disagreement] = {}
    spent = _amounts(acts, _units(acts))
    for number, one in enumerate(acts):
        for other in acts[number + 1 :]:
            if one.source == other.source:
                continue
            for each in (_time(one, other), _actor(one, other), _principal(one, other), _outcome(one, other, acts)):
                if each:
                    found.setdefault((each.kind, *sorted((one.source, other.source))), each)
    for (unit, source, currency), one in spent.items():
        for (same, another, money), other in spent.items():
            if unit == same and source < another and currency == money and one.amount_minor != other.amount_minor:
                by = abs(one.amount_minor - other.amount_minor)
                minor = by <= FEES * min(one.amount_minor, other.amount_minor)
                words = f"{source} says {amount_text(one.amount_minor, currency)}, {another} says {amount_text(other.amount_minor, currency)}"
                found["amount", source, another] = Disagreement(
                    "amount", words, (one.event_id, other.event_id), minor, by, currency
                )
    return [found[key] for key in sorted(found)]


def _units(acts: Sequence[Act]) -> dict[str, str]:
    """By event, what its amount is the amount of: statements of one charge or call are of one, and an invoice is another
    book. What only an invoice joins (a call and the month's bill) has no amount in common.
    """
    above = {act.event_id: act.event_id for act in acts}

    def top(event_id: str) -> str:
        while above[event_id] != event_id:
            event_id = above[event_id]
        return event_id

    first: dict[tuple, str] = {}
    for act in acts:
        billed = act.type.startswith("invoice.")
        for key in keys_of(act):
            if billed == (key.kind == "invoice"):
                above[top(act.event_id)] = top(first.setdefault((billed, key), act.event_id))
    return {act.event_id: top(act.event_id) for act in acts}


def _amounts(acts: Iterable[Act], units: Mapping[str, str]) -> dict[tuple[str, str, str], Act]:
    """By unit, source and currency, the statement of the greatest amount: captured and settled are one payment's phases."""
    found: dict[tuple[str, str, str], Act] = {}
    for act in acts:
        if act.phase in SPENT and act.amount_minor is not None and act.outcome == "success" and act.rail != CREDIT_RAIL:
            key = (units[act.event_id], act.source, act.currency)
            if key not in found or found[key].amount_minor < act.amount_minor:
                found[key] = act
    return found


def _time(one: Act, other: Act) -> Disagreement | None:
    # A settlement is booked when each side books it; a meter reports when it has counted.
    if (
        one.type != other.type
        or one.type in ("payment.settled", "usage.metered", "payment.refunded")
        or one.outcome != other.outcome
    ):
        return None
    apart = abs(one.occurred_at - other.occurred_at)
    if apart <= TOLERANCE:
        return None
    words = f"{one.source} says {one.type} happened at {_clock(one)}, {other.source} at {_clock(other)}: {apart} apart"
    return Disagreement("time", words, (one.event_id, other.event_id))


def _clock(act: Act) -> str:
    return act.occurred_at.strftime("%Y-%m-%d %H:%M:%S UTC")


def _actor(one: Act, other: Act) -> Disagreement | None:
    # Only names of one issuer can be compared, and a sub-agent acts for those above it.
    if (
        not one.actor
        or not other.actor
        or one.actor == other.actor
        or one.actor.partition("|")[0] != other.actor.partition("|")[0]
    ):
        return None
    if layer_of(one.type) == "authority" or layer_of(other.type) == "authority":
        return None  # who asks and who approves are not who acts
    if one.actor in _parties(other) or other.actor in _parties(one):
        return None
    words = f"{one.source} says {_bare(one.actor)} did it, {other.source} says {_bare(other.actor)}"
    return Disagreement("actor", words, (one.event_id, other.event_id))


def _principal(one: Act, other: Act) -> Disagreement | None:
    if not one.principal or not other.principal or one.principal == other.principal:
        return None
    if one.principal.partition("|")[0] != other.principal.partition("|")[0]:
        return None
    words = f"{one.source} says it was for {_bare(one.principal)}, {other.source} says for {_bare(other.principal)}"
    return Disagreement("principal", words, (one.event_id, other.event_id))


def _outcome(one: Act, other: Act, acts: Sequence[Act]) -> Disagreement | None:
    """What took effect by one source's last word and did not by the other's."""
    if _result(one) is None or _result(one) != _result(other):
        return None
    last = [
        max((a for a in acts if a.source == each.source and _result(a) == _result(one)), key=_in_time)
        for each in (one, other)
    ]
    said = [act.outcome == "success" and not act.type.endswith(("failed", "denied")) for act in last]
    known = all(act.outcome in ("success", "failure", "denied") for act in last)
    if not known or said[0] == said[1]:
        return None
    took, failed = last if said[0] else reversed(last)
    if failed.occurred_at < took.occurred_at and not _is_one_attempt(took, failed):
        return None  # it was tried again
    words = " but ".join(
        f"{act.source} says it {'took effect' if took else 'did not'} ({act.type}, {act.outcome})"
        for act, took in zip(last, said, strict=True)
    )
    return Disagreement("outcome", words, (last[0].event_id, last[1].event_id))


def _is_one_attempt(one: Act, other: Act) -> bool:
    """Whether an id says that both tell of the same attempt, and not only of the same thing."""
    return any(
        getattr(one, name) and getattr(one, name) == getattr(other, name)
        for name in ("charge", "idempotency_key", "request_id")
    )


_RESULTS = {
    "payment": ("payment.captured", "payment.settled", "payment.failed"),
    "act": ("resource.provisioned", "resource.failed", "action.performed", "action.denied", "domain.registered",
            "domain.registration_failed", "account.created", "deployment.completed"),
}  # fmt: skip


def _result(act: Act) -> str | None:
    return next((name for name, types in _RESULTS.items() if act.type in types), None)


def _parties(act: Act) -> set[str]:
    stated = act_chain(act.payload.actor) if act.payload.actor else ()
    return {party.key for party in stated} | set(act.path.parties)


def _bare(party: str) -> str:
    return party.partition("|")[2] or party


# --- what may be the same, and nobody says so -----------------------------------------------------------------------

WINDOW = timedelta(minutes=10)
BACKGROUND = timedelta(days=1)


class Possible(NamedTuple):
    """Two statements that may be of the same money: never counted as one. `confidence` 0 to 1; None: ambiguous."""

    event_id: str
    other: str
    other_source: str
    confidence: float | None


def possible_same(act: Act, others: Sequence[Act]) -> list[Possible]:
    """Statements of other sources with the same amount, currency and a party in common, near in time.

    `others` are those of BACKGROUND around the act. Confidence is what is left to this one candidate against chance:
    how many such statements would lie in the window anyhow, at the rate at which they came on the day around. More than
    one candidate is ambiguous.
    """
    if act.amount_minor is None or act.phase not in SPENT or act.outcome != "success":
        return []
    mine = set(keys_of(act))
    alike = [
        other for other in others
        if other.source != act.source and other.phase in SPENT and other.outcome == "success"
        and (other.amount_minor, other.currency) == (act.amount_minor, act.currency)
        and not mine.intersection(keys_of(other)) and {act.principal, act.actor, act.account} & ({other.principal, other.actor, other.account} - {""})
        and not (act.charge and other.charge and act.rail == other.rail)
    ]  # fmt: skip
    near = [other for other in alike if abs(other.occurred_at - act.occurred_at) <= WINDOW]
    if len(near) != 1:
        return [Possible(act.event_id, other.event_id, other.source, None) for other in near]
    by_chance = len(alike) * (WINDOW / BACKGROUND)  # the candidate itself is counted: one event is no rate of nothing
    return [Possible(act.event_id, near[0].event_id, near[0].source, round(1 / (1 + by_chance), 2))]
