"""squatting.lookalike: a registered name stands close to a name or mark that its principal does not own.

The tenant's own names are the index. Nearness is judged on the registrable label, in this order: the same label under
another ending, the same look (UTS 39 skeleton), the mark as a whole token, at either end, or a letter or two away. How
far is near grows with the mark's length: fixed distances on short names are the classic false alarm (ice ~ live).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from auditlog.core import domain
from auditlog.core.act import Act
from auditlog.core.finding import Finding
from auditlog.core.record import Owned, Record
from auditlog.detectors import finding

rule = "squatting.lookalike"
version = 1
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


@dataclass(frozen=True, slots=True)
class Likeness:
    brand: Owned
    relation: str
    score: float  # 0 to 1; alert from 0.7
    severity: str


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if act.environment != "live" or act.outcome != "success":
            continue
        nearest = nearest_brand(act.object, [o for o in record.owned if not o.belongs_to(act.principal)])
        if nearest is None or any(o.belongs_to(act.principal) and _same(o, act.object) for o in record.owned):
            continue
        yield finding(
            rule,
            act.event_id,
            [act],
            severity=nearest.severity,
            title=f"{act.object} stands close to {nearest.brand.name} of {nearest.brand.organisation}: "
            f"{_WORDS[nearest.relation]}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"brand": nearest.brand.name, "owner": nearest.brand.organisation, "relation": nearest.relation,
                      "score": nearest.score},
        )  # fmt: skip


_WORDS = {
    "tld_swap": "the same name under another ending",
    "confusable": "it looks the same",
    "token": "the mark with words added",
    "affix": "the mark at one end of it",
    "edit": "a letter or two away",
}


def nearest_brand(name: str, brands: Iterable[Owned]) -> Likeness | None:
    """The brand that `name` comes closest to, or None when it is close to none of them."""
    try:
        label = domain.parse(name).label
    except ValueError:
        return None
    found = [likeness for brand in brands if (likeness := _likeness(label, brand)) is not None]
    return max(found, key=lambda likeness: (likeness.score, len(likeness.brand.name)), default=None)


def _likeness(label: str, brand: Owned) -> Likeness | None:
    mark = _mark(brand)
    if not mark:
        return None
    if label == mark:
        return Likeness(brand, "tld_swap", 0.95, "high")
    shape, mark_shape = domain.skeleton(label), domain.skeleton(mark)
    if shape == mark_shape:
        return Likeness(brand, "confusable", 0.97, "high")
    if len(mark) < 4:
        return None
    if mark_shape in [domain.skeleton(token) for token in label.split("-")]:
        return Likeness(brand, "token", 0.9, "high")
    if len(mark) >= 5 and (shape.startswith(mark_shape) or shape.endswith(mark_shape)):
        return Likeness(brand, "affix", 0.8, "medium")
    reach = 0 if len(mark) < 5 else 1 if len(mark) < 9 else 2
    if reach and OSA.distance(shape, mark_shape, score_cutoff=reach) <= reach:
        return Likeness(brand, "edit", 0.75, "medium")
    return None


def _mark(brand: Owned) -> str:
    try:
        return domain.parse(brand.name).label if "." in brand.name else brand.name.lower().replace(" ", "")
    except ValueError:
        return ""


def _same(brand: Owned, name: str) -> bool:
    try:
        return domain.parse(name).label == _mark(brand)
    except ValueError:
        return False
