"""A reading: what one viewer reads of a finding. The only form in which a finding reaches the API and the pages.

Whoever reads whole logs reads a finding whole. A provider's abuse desk reads what its own provider's events say:
detectors write for those who read everything, and quote grants, limits, brands and events elsewhere. No name is ever
looked for in a text. A part of a finding is read because its rule declares that part as made of the events found alone
(`of_events`) and because all of those are the desk's own; what no rule declares is not read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Own:
    """An event that a finding rests on and that the viewer may see."""

    event_id: str
    leaf_index: int
    at: datetime
    grant: str  # as the event itself states it, "" for none; not one that a token leads to
    about: str  # what it was done to, "" where that is not stated


@dataclass(frozen=True, slots=True)
class Reading:
    """A finding as one viewer reads it. Texts are "" where nothing was found or where it is withheld."""

    id: int
    rule: str
    rule_version: int
    severity: str
    state: str
    title: str
    principal: str  # party key, or a stub, which has no bar in it
    actor: str
    grant: str
    provider: str
    events: tuple[str, ...]  # event ids that the viewer may see, oldest first; of very many the first
    others: int  # how many more it rests on
    leaves: tuple[int, ...]
    money_at_risk_minor: int | None
    currency: str
    first_at: datetime | None  # of `events`; None: there is none among them
    last_at: datetime | None
    detected_at: datetime
    withdrawn_by_leaf: int | None
    evidence: Mapping[str, Any]
    total: int = 0  # how many events it rests on that the viewer may see
    about: tuple[str, ...] = ()  # beside a general title: what the first of `events` were done to
    withheld: tuple[str, ...] = ()  # of the fields above, those that tell less than the finding does, or may


def read_by_desk(
    whole: Reading,
    *,
    own: Sequence[Own],
    own_total: int | None = None,
    withdrawn_by_own: bool,
    title: str,
    of_events: frozenset[str],
    written: Callable[[str], str],
) -> Reading:
    """What a provider's abuse desk reads of a finding.

    `own` are the finding's events at that provider, of very many the first, `own_total` how many there are, `title` the
    rule's general one, `of_events` what the rule makes of its events alone. `written` gives a party as the desk reads
    it: by name or as a stub. Fields are withheld by what the desk could read, not by what there is: that a field is
    withheld says nothing.
    """
    mine, leaves = {event.event_id for event in own}, {event.leaf_index for event in own}
    rest = max(0, whole.total - len(whole.events))  # of very many, those that it does not name
    own_total = len(mine & set(whole.events)) if own_total is None else own_total
    all_own = (
        bool(mine)
        and own_total >= len(set(whole.events)) + rest
        and mine.issuperset(whole.events)
        and leaves.issuperset(whole.leaves)
    )
    said = of_events if all_own else frozenset()
    names_only_seen = all(written(key) == key for key in (whole.principal, whole.actor))
    reads_title = "title" in said and names_only_seen
    reads_money = "money_at_risk" in said
    reads_grant = bool(whole.grant) and any(event.grant == whole.grant for event in own)
    evidence = {name: value for name, value in whole.evidence.items() if name in said}
    is_withheld = {
        "title": not reads_title,
        "grant": not reads_grant,
        "event_ids": not all_own,
        "leaves": not all_own,
        "money_at_risk": not reads_money,
        "first_at": not all_own,
        "last_at": not all_own,
        "withdrawn_by_leaf": whole.state == "withdrawn" and not withdrawn_by_own,
        "evidence": not all_own or len(evidence) < len(whole.evidence),
    }
    return Reading(
        id=whole.id,
        rule=whole.rule,
        rule_version=whole.rule_version,
        severity=whole.severity,
        state=whole.state,
        title=whole.title if reads_title else title,
        principal=written(whole.principal),
        actor=written(whole.actor),
        grant=whole.grant if reads_grant else "",
        provider=whole.provider,
        events=tuple(event_id for event_id in whole.events if event_id in mine),
        total=own_total,
        others=len(set(whole.events)) + rest - own_total,
        leaves=tuple(leaf for leaf in whole.leaves if leaf in leaves),
        money_at_risk_minor=whole.money_at_risk_minor if reads_money else None,
        currency=whole.currency if reads_money else "",
        first_at=min((event.at for event in own), default=None),
        last_at=max((event.at for event in own), default=None),
        detected_at=whole.detected_at,
        withdrawn_by_leaf=whole.withdrawn_by_leaf if withdrawn_by_own else None,
        evidence=evidence,
        about=() if reads_title else tuple(dict.fromkeys(event.about for event in own if event.about))[:3],
        withheld=tuple(name for name, withheld in is_withheld.items() if withheld),
    )
