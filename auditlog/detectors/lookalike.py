"""squatting.lookalike: a registered name stands close to a name or mark that its principal does not own.

The tenant's own names are the index (`core.lookalike`); how close is close is a matter of how surprising the likeness is
among names that people really register, so a short or common word is no mark at all until its whole look is copied.
"""

from collections.abc import Iterable, Sequence
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
types = frozenset({"domain.registered"})
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    if not record.owned:
        return
    index, owners = _index(tuple(sorted(o.name for o in record.owned))), {o.name.strip(): o for o in record.owned}
    for act in acts:
        if act.environment != "live" or act.outcome != "success":
            continue
        nearest = _nearest(act, index, owners)
        if nearest is None:
            continue
        owner = owners[nearest.mark.line]
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="low" if nearest.tier == "review" else "high" if nearest.score >= SURE else "medium",
            title=f"{act.object} stands close to {owner.name} of {owner.organisation}: {_WORDS[nearest.relation]}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"brand": owner.name, "owner": owner.organisation, "relation": nearest.relation, "score": round(nearest.score, 2),
                      "threshold": round(nearest.alert - (0 if nearest.tier == "alert" else REVIEW_BELOW), 2), "span": nearest.span, "index": index.version,
                      "suffix_list": domain.SUFFIX_LIST},
        )  # fmt: skip


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


@lru_cache(maxsize=64)
def _index(names: tuple[str, ...]) -> Index:
    return Index(names, bundled())


def _nearest(act: Act, index: Index, owners: dict[str, Owned]) -> Likeness | None:
    """The brand it comes closest to, of those that are not its principal's; None where it is close to none, or to its
    principal's own too.
    """
    try:
        found = list(index.likenesses(domain.parse(act.object)))
    except ValueError:
        return None
    own = [like for like in found if owners[like.mark.line].belongs_to(act.principal)]
    if any(like.relation in ("equal", "tld_swap", "confusable") for like in own):
        return None
    others = [like._replace(score=CERTAIN) if like.relation == "equal" else like for like in found if like not in own]
    others = [like for like in others if like.relation == "equal" or like.tier != "none"]
    return max(others, key=lambda like: (like.score, len(like.mark.shape)), default=None)
