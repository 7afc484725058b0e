"""Intent: what was asked for, compared with what was done. Structured fields only; free text decides nothing.

An intent counts as a human's when a human gave the grant that states it, or when an act carries it by the word of a source
that is not the acting agent's own. What an agent restates on the way down neither widens nor fulfils it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import resource_matches
from auditlog.core.chain.statement import Grant
from auditlog.core.event import Intent
from auditlog.core.names import domain

_AGENTS = ("agent", "workload", "service")


@dataclass(frozen=True, slots=True)
class Stated:
    """An intent and who put it on record. `by_actor`: an agent stated it, and no human's is on record."""

    intent: Intent
    by_actor: bool
    grant: str | None
    leaf_index: int
    event_id: str
    by_approval: bool = False  # what a human approved, said later and closer to the act than what was asked for


@dataclass(frozen=True, slots=True)
class Comparison:
    """`relation`: equal | tld_swap | hyphen | confusable | token_added | token_dropped | edit | unrelated | not_stated."""

    relation: str
    nearest: str  # the intended target that comes closest
    stated: Stated | None


def stated_intent(act: Act) -> Stated | None:
    """The intent an act answers to: the nearest on its path that a human stated, else the act's own; failing both, what
    an agent stated.
    """
    stating = [grant for grant in reversed(act.path.grants) if grant.intent is not None]
    for grant in stating:
        if not _of_agent(grant, act):
            return Stated(grant.intent, False, grant.id, grant.leaf_index, grant.event_id)
    own = act.payload.intent
    if own is not None and not _by_acting_side(act):
        return Stated(own, False, None, act.leaf_index, act.event_id)
    if stating:
        return Stated(stating[0].intent, True, stating[0].id, stating[0].leaf_index, stating[0].event_id)
    return Stated(own, True, None, act.leaf_index, act.event_id) if own is not None else None


def _of_agent(grant: Grant, act: Act) -> bool:
    giver = grant.subject
    return giver is not None and (giver.key == act.actor or giver.kind in _AGENTS)


def _by_acting_side(act: Act) -> bool:
    """Whether the source that tells of the act is the actor's own, and issued none of its authority (section 4.3)."""
    issuer, _, subject = act.actor.partition("|")
    if not act.actor or act.issuer not in (issuer, subject):
        return False
    return act.issuer not in {grant.attester for grant in act.path.grants}


# From the closest miss to the farthest.
_ORDER = ("equal", "hyphen", "confusable", "tld_swap", "edit", "token_added", "token_dropped", "unrelated")


def compare_domain(act: Act, stated: Stated | None) -> Comparison:
    """Compare a registered name with every name in a stated intent; the closest one speaks for it."""
    if stated is None:
        return Comparison("not_stated", "", None)
    relation, nearest = closest(act.object, stated.intent.targets)
    return Comparison(relation, nearest, stated)


def closest(bought: str, asked: Iterable[str]) -> tuple[str, str]:
    """How a name relates to the one that it comes closest to, and that one; `not_stated` where none of them is a name."""
    relations = []
    for target in asked:
        try:
            relations.append((_ORDER.index(domain.relation(target, bought)), target))
        except ValueError:
            continue  # not a name: says nothing about names
    if not relations:
        return "not_stated", ""
    rank, nearest = min(relations)
    return _ORDER[rank], nearest


def is_listed(act: Act, intent: Intent) -> bool:
    """Whether what the act was done to is one of the targets that were asked for."""
    if act.verb.startswith("domain."):
        return closest(act.object, intent.targets)[0] == "equal"
    return bool(act.object) and any(resource_matches(target, act.object) for target in intent.targets)


_TIERS = frozenset(["plan", "tier"])
_OPAQUE = re.compile(
    r"(price|prod|plan|tier|sku|sub)_[A-Za-z0-9]{8,}\Z"
)  # a provider's own id tells nobody which plan it is


def other_tier(act: Act, intent: Intent) -> str:
    """The plan or tier that was taken, where other ones were asked for by name; "" where nothing says so."""
    target = act.payload.action.target if act.payload.action else None
    if target is None or target.type.lower() not in _TIERS or not target.id or _OPAQUE.match(target.id):
        return ""
    asked = [each for each in intent.targets if not _is_name(each) and not _OPAQUE.match(each)]
    if not asked or any(resource_matches(each, value) for each in intent.targets for value in (target.id, act.object)):
        return ""
    return target.id


def _is_name(text: str) -> bool:
    try:
        return bool(domain.parse(text).suffix)
    except ValueError:
        return False
