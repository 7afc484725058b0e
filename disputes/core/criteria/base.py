"""What every criterion shares: its answer, the policy, and the act with what it is judged by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from auditlog.core.act import Act
from auditlog.core.authority import Judgement, Result
from auditlog.core.chain import Path
from auditlog.core.record import Record

NAMES: Mapping[str, str] = {
    "C0": "record integrity",
    "C1": "chain complete",
    "C2": "attenuation",
    "C3": "action scope",
    "C4": "resource scope",
    "C5": "limits",
    "C6": "time window",
    "C7": "audience",
    "C8": "human gate",
    "C9": "revocation",
    "C10": "delegation depth",
    "C11": "actor binding",
    "C12": "principal's own power",
    "C13": "uses and replay",
    "I1": "intent match",
    "I2": "foreseeability",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds are data with a version: a verdict names the version it was reached under."""

    version: str = "2026-1"
    skew_seconds: float = 30  # how far two honest clocks may differ
    grace_seconds: float = 60  # between a provider's notice of a revocation and its duty to act on it


@dataclass(frozen=True, slots=True)
class Integrity:
    """What a check of one act's leaf against its stored bytes found."""

    leaf_index: int
    commitment_ok: bool  # the bytes are those that the leaf commits to
    signature_ok: bool | None  # None: nothing here to check it with
    checkpoint_size: int | None  # of the signed checkpoint that covers the leaf; None: none yet
    grade: str
    reason: str = ""


Evidence = dict[str, Any]  # any of event_id, leaf, grant, hop


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One answer. `codes`, `cure` and the rest below `evidence` are for the verdict, and not part of the answer's JSON."""

    id: str
    result: Result
    reason: str
    evidence: tuple[Evidence, ...] = ()
    codes: tuple[str, ...] = ()  # short names of what failed
    cure: str = ""  # a sentence: what would have changed the answer
    hop: int | None = None  # of the grant that failed; 1 is the root grant, 0 the principal
    stands: bool = True  # a fail that rests on proven statements only
    over_minor: int | None = None  # C5 and I1: this act's part of what went over, minor units of its currency

    @property
    def name(self) -> str:
        return NAMES[self.id]

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "result": self.result,
            "reason": self.reason,
            "evidence": [dict(item) for item in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Contested:
    """An act with what it is judged by. A payment borrows action, resource and provider from the act with its charge,
    and that act's path when it names no grant of its own.
    """

    act: Act
    record: Record
    policy: Policy
    path: Path
    done: Act  # what it is judged through: the act paid for, else the act itself

    @property
    def complete(self) -> bool:
        return self.path.ends_at_root

    @property
    def provider(self) -> str:
        return self.act.provider or self.done.provider

    @property
    def is_bare_payment(self) -> bool:
        return is_payment(self.done)

    @property
    def absent(self) -> str:
        """Who is missing above the known grants, for a sentence."""
        if self.path.missing:
            return f"no source ever spoke of grant {self.path.missing}"
        if self.path.grants:
            return "the known grants do not end at a root"
        return "no grant for this act is in the record"

    def proven_to(self, hop: int | None) -> bool:
        known = self.path.grants[: hop if hop is not None else len(self.path.grants)]
        return bool(known) and all(grant.standing == "proven" for grant in known)

    def proven_at(self, hop: int | None) -> bool:
        if hop is None or not 1 <= hop <= len(self.path.grants):
            return False
        return self.path.grants[hop - 1].standing == "proven"


def contested(act: Act, record: Record, policy: Policy) -> Contested:
    names_authority = bool(act.grant or act.token or act.path.grants)
    done = _told_by(act, record, with_authority=not names_authority) or act
    return Contested(act, record, policy, act.path if names_authority else done.path, done)


def is_payment(act: Act) -> bool:
    return act.type.startswith("payment.")


def _told_by(act: Act, record: Record, *, with_authority: bool) -> Act | None:
    """What a payment is judged through: the act with its charge. `with_authority`: failing that, the agent's own side
    of the payment, since a payment system names no grant. The earliest, whatever order the record lists them in.
    """
    if not is_payment(act) or not act.charge:
        return None
    same = [o for o in record.siblings_of(act) if (o.rail, o.charge) == (act.rail, act.charge) and o.event_id != act.event_id]
    paid_for = [other for other in same if not is_payment(other)]
    ours = [other for other in same if with_authority and (other.grant or other.token)]
    return min(paid_for or ours, key=lambda other: (other.occurred_at, other.leaf_index), default=None)


def by_path(it: Contested, chain: CriterionResult, answer: Callable[[Contested], CriterionResult]) -> CriterionResult:
    """Answer one criterion; a `pass` that a missing grant could still take back is `unknown`."""
    found = answer(it)
    if found.result == "fail" or it.complete:
        return found
    if not it.path.grants and it.path.missing is None and chain.result == "fail":
        return found if found.result == "na" else replace(found, result="na", reason="there is no grant to judge it by", cure="")
    if found.result == "unknown" or (found.result == "na" and found.id != "C8"):
        return found
    return replace(found, result="unknown", reason=f"nothing known forbids it, but {it.absent}")


def of_path(it: Contested, criterion: str, judged: Judgement, *codes: str, cure: str = "", whole: bool = False) -> CriterionResult:
    """A judgement of a path as a result. `whole`: it compares grants, so it stands only if all down to it are proven."""
    here: Evidence = {}
    if judged.grant is not None:
        here = {"grant": judged.grant, "hop": judged.hop, "leaf": judged.leaf_index}
    failed = judged.result == "fail"
    return CriterionResult(
        criterion, judged.result, judged.reason, (here,) if here else (), codes if failed else (),
        cure if judged.result in ("fail", "unknown") else "", judged.hop,
        not failed or (it.proven_to(judged.hop) if whole else it.proven_at(judged.hop)),
    )  # fmt: skip
