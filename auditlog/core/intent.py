"""Intent: what was asked for, compared with what was done. Structured fields only; free text decides nothing."""

from dataclasses import dataclass

from auditlog.core import domain
from auditlog.core.act import Act
from auditlog.core.event import Intent


@dataclass(frozen=True, slots=True)
class Stated:
    """An intent and who put it on record. `by_actor`: the acting agent itself supplied it."""

    intent: Intent
    by_actor: bool
    grant: str | None
    leaf_index: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`relation`: equal | tld_swap | hyphen | confusable | token_added | edit | unrelated | not_stated."""

    relation: str
    nearest: str  # the intended target that comes closest
    stated: Stated | None
    price_exceeded: bool = False


def stated_intent(act: Act) -> Stated | None:
    """The intent an act answers to: the nearest grant's on its path, else the act's own.

    A grant that an agent gives to itself, or an act signed by the agent under its own issuer, is the agent's word.
    """
    for grant in reversed(act.path.grants):
        if grant.intent is not None:
            by_actor = grant.subject is not None and grant.subject.key == act.actor
            return Stated(grant.intent, by_actor, grant.id, grant.leaf_index, grant.event_id)
    if act.payload.intent is not None:
        by_actor = bool(act.actor) and act.issuer == act.actor.partition("|")[2]
        return Stated(act.payload.intent, by_actor, None, act.leaf_index, act.event_id)
    return None


# From the closest miss to the farthest.
_ORDER = ("equal", "hyphen", "confusable", "tld_swap", "edit", "token_added", "unrelated")


def compare_domain(act: Act) -> Comparison:
    """Compare a registered name with every name in the stated intent; the closest one speaks for it."""
    stated = stated_intent(act)
    if stated is None:
        return Comparison("not_stated", "", None)
    relations = []
    for target in stated.intent.targets:
        try:
            relations.append((_ORDER.index(domain.relation(target, act.object)), target))
        except ValueError:
            continue  # not a name: says nothing about names
    if not relations:
        return Comparison("not_stated", "", stated, price_exceeded(act, stated.intent))
    rank, nearest = min(relations)
    return Comparison(_ORDER[rank], nearest, stated, price_exceeded(act, stated.intent))


def price_exceeded(act: Act, intent: Intent) -> bool:
    return (
        intent.max_price_minor is not None
        and act.amount_minor is not None
        and (intent.currency is None or intent.currency.upper() == act.currency)
        and act.amount_minor > intent.max_price_minor
    )
