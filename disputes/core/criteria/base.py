"""What every criterion shares: its answer, the policy, and the act with what it is judged by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import (
    GRACE_SECONDS,
    RACE_SECONDS,
    Initiator,
    Judgement,
    Result,
    as_disputed,
    judge_initiators,
)
from auditlog.core.chain.chain import NO_TOKENS, Path, TokenPath
from auditlog.core.chain.record import Record
from auditlog.core.chain.statement import Token
from auditlog.core.chain.use import answers_for, done_in_person

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
    grace_seconds: float = GRACE_SECONDS  # between a provider's notice of a revocation and its duty to act on it
    race_seconds: float = RACE_SECONDS  # after a revocation of which the provider was not told
    passes_on: str = "orchestrator"  # who bears what is done later than that, since nobody passed the revocation on


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
    """An act with what it is judged by. A statement of money is judged through the act that it pays for, at that act's
    time and by its path and token; it brings its own where that act names none.
    """

    act: Act
    record: Record
    policy: Policy
    path: Path
    done: Act  # what it is judged through: the act paid for, else the act itself
    tokens: TokenPath = NO_TOKENS  # of the authority used: what was shown, and what that was exchanged from
    in_person: bool | None = False  # the principal's own act; None: told so, and cannot be taken for it

    @property
    def at(self) -> datetime:
        """When it was done: what pays for it comes later, and changes nothing of it."""
        return self.done.occurred_at

    @property
    def shown(self) -> Token | None:
        """The token that was shown, as far as any source spoke of it."""
        return self.tokens.tokens[-1] if self.tokens.tokens and self.tokens.missing != self.tokens.jti else None

    @property
    def unstated_token(self) -> Token | None:
        """A token of the path of which only the end is known."""
        return self.record.tokens.get(self.tokens.missing) if self.tokens.missing else None

    @property
    def initiators(self) -> list[Initiator]:
        """Whom the actor acted for under authority that does not pass through them, and what their own grants say."""
        return judge_initiators(self.done, self.path, self.record.held, self.record.kind_of)

    @property
    def complete(self) -> bool:
        return self.path.ends_at_root

    @property
    def provider(self) -> str:
        return self.done.provider or self.act.provider

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
    done = answers_for(act, record)
    own = done is act or bool(done.grant or done.token or done.path.grants)
    authority = done if own else act
    return Contested(
        act, record, policy, authority.path, done, record.token_path(authority.token), done_in_person(done, record)
    )


def by_path(it: Contested, chain: CriterionResult, answer: Callable[[Contested], CriterionResult]) -> CriterionResult:
    """Answer one criterion; a `pass` that a missing grant could still take back is `unknown`, and so is one that rests on
    terms which were stated anew, wider, when the act was on record already.
    """
    found = answer(it)
    if it.in_person:
        reason = "the principal did it in person: no grant is needed"
        if (
            found.id == "C5" and found.result == "fail"
        ):  # which a finding says too: of the limit, and not against the act
            reason += f", and nobody's leave to spend; {found.reason}"
        return replace(found, result="na", reason=reason, evidence=(), codes=(), cure="")
    if (doubted := as_others_state(it, answer, found)) is not None:
        return doubted
    if (
        found.result == "pass"
        and (before := as_known(it.path)) is not None
        and (known := answer(replace(it, path=before))).result == "fail"
    ):
        reason = f"{known.reason}; it was stated otherwise only when the act was on record, and as of before it"
        return replace(
            known,
            result="unknown",
            reason=reason,
            codes=(),
            cure="a statement from before the act, of what it allowed, would decide",
        )
    if found.result == "fail" or it.complete:
        return found
    if not it.path.grants and it.path.missing is None and chain.result == "fail":
        return (
            found
            if found.result == "na"
            else replace(found, result="na", reason="there is no grant to judge it by", cure="")
        )
    if found.result == "unknown" or (found.result == "na" and found.id != "C8"):
        return found
    return replace(found, result="unknown", reason=f"nothing known forbids it, but {it.absent}")


def as_others_state(
    it: Contested, answer: Callable[[Contested], CriterionResult], found: CriterionResult
) -> CriterionResult | None:
    """Unknown, where a grant of the path is stated in two ways by sources that may say so, and the answer hangs on which."""
    for rival, path in as_disputed(it.path, it.at):
        other = answer(replace(it, path=path))
        if (found.result == "fail") != (other.result == "fail"):
            reason = f"{found.reason}; {rival.attester} states grant {rival.id} otherwise, and by that: {other.reason}"
            here = (*found.evidence, {"grant": rival.id, "leaf": rival.leaf_index, "event_id": rival.event_id})
            return CriterionResult(
                found.id,
                "unknown",
                reason,
                here,
                cure=f"which statement of grant {rival.id} holds, from who gave it, would decide",
            )
    return None


def as_known(path: Path) -> Path | None:
    """The path as it was known when the act was told, where a grant on it was stated anew after that; else None."""
    if not any(grant.known_before for grant in path.grants):
        return None
    return replace(path, grants=tuple(grant.known_before or grant for grant in path.grants))


def of_path(
    it: Contested, criterion: str, judged: Judgement, *codes: str, cure: str = "", whole: bool = False
) -> CriterionResult:
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


def token_fail(
    it: Contested, criterion: str, reason: str, code: str, token: Token, leaf: int | None
) -> CriterionResult:
    """A fail of the token that was shown, or of one that it was made from. It stands at the hop of whoever showed it."""
    last = len(it.path.grants)
    shown = it.tokens.jti or token.jti
    return CriterionResult(criterion, "fail", reason, ({"event_id": it.done.event_id, "leaf": leaf},), (code,),
                           f"within scope with a token that was good at the time, in place of {shown}", last,
                           it.proven_at(last) and token.standing != "claimed")  # fmt: skip
