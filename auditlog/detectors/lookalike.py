"""squatting.lookalike: a registered name stands close to a name or mark that its principal does not own.

The tenant's own names are the index (`core.lookalike`); how close is close is a matter of how surprising the likeness is
among names that people really register, so a short or common word is no mark at all until its whole look is copied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Owned, Record
from auditlog.core.finding import Finding
from auditlog.core.names import domain
from auditlog.core.names.background import bundled
from auditlog.core.names.lookalike import ALERT, CERTAIN, REVIEW_BELOW, Index, Likeness
from auditlog.detectors.base import finding

rule = "squatting.lookalike"
version = 2
title = "A registered name looks like somebody else's"
runbook = (
    "Look at what the name serves and at the other names of the same principal and grant. Tell the registrar with "
    "proof of the mark; a UDRP needs bad faith, so keep the chain and the stated intent."
)
false_positives = "Common words used as marks; resellers, fan or review sites that the owner tolerates."
of_events = frozenset({"money_at_risk"})  # the brand and its owner are the tenant's papers
of_marks = frozenset({"title", "brand", "owner", "relation", "score", "span"})
types = frozenset({"domain.registered"})
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if act.environment != "live" or act.outcome != "success":
            continue
        nearest = nearest_of_others(act, record.owned)
        if nearest is None:
            continue
        index = _book(tuple(record.owned)).index
        owner = _book(tuple(record.owned)).owners[nearest.mark.line]
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="low" if nearest.tier == "review" else "high" if nearest.score >= SURE else "medium",
            title=f"{act.object} stands close to {owner.name} of {owner.organisation}: {_WORDS[nearest.relation]}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={
                "brand": owner.name,
                "owner": owner.organisation,
                "relation": nearest.relation,
                "score": round(nearest.score, 2),
                "threshold": round(nearest.alert - (0 if nearest.tier == "alert" else REVIEW_BELOW), 2),
                "span": nearest.span,
                "index": index.version,
                "suffix_list": domain.SUFFIX_LIST,
            },
        )


SURE = (ALERT + CERTAIN) / 2
_WORDS = {
    "equal": "it is that very name",
    "tld_swap": "the same name under another ending",
    "confusable": "it looks the same",
    "token": "the mark with words added",
    "prefix": "the mark at its beginning",
    "suffix": "the mark at its end",
    "inner": "the mark inside it",
    "dropped_word": "the mark without some of its words",
    "typo": "a letter away",
}


@dataclass(frozen=True, slots=True)
class _Book:
    """All names and marks of a tenant, made ready once."""

    index: Index
    owners: dict[str, Owned]


@lru_cache(maxsize=64)
def _book(owned: tuple[Owned, ...]) -> _Book:
    return _Book(Index(sorted(o.name for o in owned), bundled()), {o.name.strip(): o for o in owned})


def nearest_of_others(act: Act, owned: Sequence[Owned]) -> Likeness | None:
    """The brand that a name comes closest to, of those that are not its principal's; None where it is close to none, or
    is its principal's own: close to a mark of theirs, and to no other any closer.
    """
    own, others = _likenesses(act, owned)
    if others is None or (own is not None and own.score >= others.score):
        return None
    return others


def is_own(act: Act, owned: Sequence[Owned]) -> bool:
    """Whether a name is one that its principal keeps for his own mark: it is that, or looks like it."""
    own, others = _likenesses(act, owned)
    return own is not None and (others is None or own.score >= others.score)


def _likenesses(act: Act, owned: Sequence[Owned]) -> tuple[Likeness | None, Likeness | None]:
    """The closest of its principal's own marks, and of those of others, that it is no chance to be like."""
    if not owned:
        return None, None
    book = _book(tuple(owned))
    index, owners = book.index, book.owners
    try:
        found = list(index.likenesses(domain.parse(act.object)))
    except ValueError:
        return None, None
    found = [like._replace(score=CERTAIN) if like.relation == "equal" else like for like in found]
    found = [like for like in found if like.relation == "equal" or like.tier != "none"]
    best: dict[bool, Likeness] = {}
    for like in found:
        mine = owners[like.mark.line].belongs_to(act.principal)
        known = best.get(mine)
        if known is None or (like.score, len(like.mark.shape)) > (known.score, len(known.mark.shape)):
            best[mine] = like
    return best.get(True), best.get(False)
