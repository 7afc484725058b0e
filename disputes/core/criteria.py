"""Criteria: sixteen tri-state questions about one act, answered from the record alone.

`judge` answers them in their fixed order, C0 to C13, then I1 and I2. A grant that the record lacks can only take
authority away, never add any. So with a missing parent a `fail` stays a `fail`, while a `pass` becomes `unknown`.
C12, C13 and I2 are not judged by this engine yet and say so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from auditlog.core.act import Act
from auditlog.core.authority import (
    Judgement,
    Result,
    first_revocation,
    given_by_a_stranger,
    judge_action,
    judge_audience,
    judge_depth,
    judge_resource,
    judge_revocation,
    judge_window,
    key_bound,
    key_bound_by,
    key_shown,
    resource_matches,
    seconds_before_issue,
    seconds_early,
    told_later,
    utc_text,
    widenings,
)
from auditlog.core.chain import MAX_DEPTH, Path
from auditlog.core.event import act_chain
from auditlog.core.gates import check_gates
from auditlog.core.intent import compare_domain, price_exceeded, stated_intent
from auditlog.core.limits import Crossing, LimitFact, Spent, binds, crossings, in_force, window_of
from auditlog.core.money import CREDIT_RAIL, amount_text
from auditlog.core.record import Record
from auditlog.core.statement import CLOCKS, Token

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
_WIDENED = {"scope": "scope_widened", "limit": "limit_widened", "expiry": "outlives_parent", "depth": "depth_widened"}


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
    over_minor: int | None = None  # C5: this act's part of the overrun, minor units of its currency

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
        return _is_payment(self.done)

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


def judge(act: Act, record: Record, integrity: Integrity | None, policy: Policy) -> tuple[CriterionResult, ...]:
    """Answer every criterion for one act, in order C0 to C13, I1, I2. `integrity` None: the leaf was not checked."""
    it = contested(act, record, policy)
    chain = chain_complete(it)
    return (
        integrity_of(act, integrity),
        chain,
        *(_by_path(it, chain, answer) for answer in (attenuation, action, resource, limits, window, audience, gates)),
        *(_by_path(it, chain, answer) for answer in (revocation, depth)),
        actor_binding(it),
        _not_yet("C12", "what the principal could have done in person"),
        _not_yet("C13", "whether a key or nonce was used again"),
        intent(it),
        _not_yet("I2", "whether the principal could have foreseen the act"),
    )


def contested(act: Act, record: Record, policy: Policy) -> Contested:
    names_authority = bool(act.grant or act.token or act.path.grants)
    done = _told_by(act, record, with_authority=not names_authority) or act
    return Contested(act, record, policy, act.path if names_authority else done.path, done)


def _is_payment(act: Act) -> bool:
    return act.type.startswith("payment.")


def _told_by(act: Act, record: Record, *, with_authority: bool) -> Act | None:
    """What a payment is judged through: the act with its charge. `with_authority`: failing that, the agent's own side
    of the payment, since a payment system names no grant. The earliest, whatever order the record lists them in.
    """
    if not _is_payment(act) or not act.charge:
        return None
    same = [o for o in record.siblings_of(act) if (o.rail, o.charge) == (act.rail, act.charge) and o.event_id != act.event_id]
    paid_for = [other for other in same if not _is_payment(other)]
    ours = [other for other in same if with_authority and (other.grant or other.token)]
    return min(paid_for or ours, key=lambda other: (other.occurred_at, other.leaf_index), default=None)


def _not_yet(criterion: str, question: str) -> CriterionResult:
    return CriterionResult(criterion, "na", f"not judged by this engine yet: {question}")


# --- the record itself ----------------------------------------------------------------------------------------------


def integrity_of(act: Act, check: Integrity | None) -> CriterionResult:
    """C0: are the stored bytes those that were signed and that the tree commits to. No checkpoint yet is no failure."""
    here = ({"event_id": act.event_id, "leaf": act.leaf_index},)
    if check is None:
        return CriterionResult("C0", "unknown", "the act's leaf was not checked", here, cure="a check of the act's leaf would decide")
    if not check.commitment_ok or check.signature_ok is False:
        what = "the bytes are not those that the leaf commits to" if not check.commitment_ok else "the signature does not fit the bytes"
        return CriterionResult("C0", "fail", check.reason or what, here, ("integrity",), "the original bytes would decide")
    if not act.within_remit:
        return CriterionResult(
            "C0", "unknown", f"source {act.source} may not speak for {act.type}: the act is claimed, not proven", here,
            cure="a statement of the act by a source that may speak for it would decide",
        )  # fmt: skip
    signed = "signature fits" if check.signature_ok else "signature was checked on receipt, not again"
    covered = f"checkpoint {check.checkpoint_size:,} covers it" if check.checkpoint_size is not None else "no checkpoint covers it yet"
    return CriterionResult("C0", "pass", f"leaf {check.leaf_index}, grade {check.grade}: {signed}, {covered}", here)


# --- the chain ------------------------------------------------------------------------------------------------------


def chain_complete(it: Contested) -> CriterionResult:
    """C1: every hop proven, from a root grant by a human down to whoever acted.

    `fail` is authority proven absent: none was claimed, the root is no human's, or a grant was given by a stranger.
    """
    act, path = it.act, it.path
    here: Evidence = {"event_id": act.event_id, "leaf": act.leaf_index}
    if not path.grants and path.missing is None:
        if not (act.grant or act.token or act.actor):
            return _c1("fail", "the act names no grant, no token and no actor", [here], "a grant that covers the act, named by it")
        named = f"token {act.token}" if act.token else f"grant {act.grant}" if act.grant else ""
        reason = f"no source ever spoke of {named}" if named else f"{act.actor} acted, and named neither grant nor token"
        wanted = f"the issuing event of {named}" if named else "the grant or token that the actor used"
        return _c1("unknown", reason, [here], f"{wanted} would decide")
    hops = [{"grant": g.id, "leaf": g.leaf_index, "event_id": g.event_id, "hop": n} for n, g in enumerate(path.grants, start=1)]
    if path.cycle:
        return _circle(it, hops)
    stranger = given_by_a_stranger(it.path)
    if stranger is not None and it.proven_to(stranger):
        grant = path.grants[stranger - 1]
        return _c1("fail", f"grant {grant.id} was given by {grant.subject.key}, whom nobody on the path above had let act",
                   hops[stranger - 1 : stranger], f"grant {grant.id} given by a party on its own chain")  # fmt: skip
    if path.missing is not None:
        return _c1("unknown", it.absent, [*hops, {"grant": path.missing}], f"grant {path.missing}, from its issuer, would decide")
    root = path.grants[0]
    if not root.root:
        return _c1("unknown", f"grant {root.id} names no parent and does not say it is a root", hops[:1],
                   f"the parent of grant {root.id}, or its issuer's word that it is a root, would decide")  # fmt: skip
    claimed = next((n for n, grant in enumerate(path.grants) if grant.standing != "proven"), None)
    if claimed is not None:
        grant = path.grants[claimed]
        return _c1("unknown", f"grant {grant.id} is claimed by {grant.attester}, which may not speak for who gave it",
                   hops[claimed : claimed + 1], f"grant {grant.id}, stated by a source that may speak for its giver, would decide")  # fmt: skip
    if root.subject is None:
        return _c1("unknown", f"root grant {root.id} does not say who gave it", hops[:1], f"who gave grant {root.id} would decide")
    known = it.record.kind_of(root.subject.key)
    kind = known if known != "unknown" else root.subject.kind
    if kind == "unknown":
        return _c1("unknown", f"whether {root.subject.key}, at the root, is human is not in the record", hops[:1],
                   f"what kind of party {root.subject.key} is would decide")  # fmt: skip
    if kind != "human":
        return _c1("fail", f"the root is given by {root.subject.key}, of kind {kind}: no human stands behind it", hops[:1],
                   "a root grant by a human")  # fmt: skip
    token = it.record.tokens.get(act.token)
    if act.token and (token is None or not token.stated):
        return _c1("unknown", f"no source ever spoke of token {act.token}", [here, *hops],
                   f"the issuing event of token {act.token} would decide")  # fmt: skip
    outsider = _not_granted(it)
    if outsider is None:
        count = f"{len(hops)} proven hops" if len(hops) > 1 else "one proven hop"
        return _c1("pass", f"{count} from {root.subject.key}, a human", hops)
    return _c1("unknown", f"{outsider} acted, and no grant on the path names it", [here, *hops],
               f"a grant to {outsider} under grant {path.grants[-1].id} would decide")  # fmt: skip


def _c1(result: Result, reason: str, evidence: Iterable[Evidence], cure: str = "") -> CriterionResult:
    codes = ("no_authority",) if result == "fail" else ()
    return CriterionResult("C1", result, reason, tuple(evidence), codes, cure)


def _circle(it: Contested, hops: list[Evidence]) -> CriterionResult:
    """Grants that point at each other never reach a human. A path that is only too long to follow is unknown."""
    if it.proven_to(None) and len(it.path.grants) < MAX_DEPTH:
        return _c1("fail", "the grants point at each other in a circle, and reach no human", hops, "a root above the circle")
    return _c1("unknown", "the grants point at each other in a circle, or further than we follow", hops[:8],
               "proven statements of the grants in the circle would decide")  # fmt: skip


def _not_granted(it: Contested) -> str | None:
    """A party of the act's own `act` claim that the path does not hold: it says it acted, nobody let it."""
    actor = it.act.payload.actor
    if actor is None:
        return None
    held = set(it.path.parties)
    return next((party.key for party in act_chain(actor) if party.key not in held), None)


# --- scope, by the path ---------------------------------------------------------------------------------------------


def _by_path(it: Contested, chain: CriterionResult, answer: Callable[[Contested], CriterionResult]) -> CriterionResult:
    """Answer one criterion; a `pass` that a missing grant could still take back is `unknown`."""
    found = answer(it)
    if found.result == "fail" or it.complete:
        return found
    if not it.path.grants and it.path.missing is None and chain.result == "fail":
        return found if found.result == "na" else replace(found, result="na", reason="there is no grant to judge it by", cure="")
    if found.result == "unknown" or (found.result == "na" and found.id != "C8"):
        return found
    return replace(found, result="unknown", reason=f"nothing known forbids it, but {it.absent}")


def _of(it: Contested, criterion: str, judged: Judgement, *codes: str, cure: str = "", whole: bool = False) -> CriterionResult:
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


def attenuation(it: Contested) -> CriterionResult:
    """C2: did every hop give no more than it had. The first that did is named; all of them are in the evidence."""
    found = widenings(it.path)
    if not found:
        return CriterionResult("C2", "pass", "no hop gave more than it had")
    first = found[0]
    return CriterionResult(
        "C2", "fail", first.reason,
        tuple({"grant": w.by.id, "hop": w.hop, "leaf": w.by.leaf_index, "event_id": w.by.event_id} for w in found),
        tuple(dict.fromkeys(_WIDENED[w.kind] for w in found)),
        f"within scope if grant {first.by.id} gave no more than {first.allowed}", first.hop, it.proven_to(first.hop),
    )  # fmt: skip


def action(it: Contested) -> CriterionResult:
    verb = it.done.verb
    judged = judge_action(it.path, verb=verb, provider=it.done.provider or it.provider, payment=it.is_bare_payment)
    cure = f"within scope if grant {judged.grant} allowed {verb}" if verb else "what was done, from the act's source, would decide"
    return _of(it, "C3", judged, "action_not_allowed", cure=cure)


def resource(it: Contested) -> CriterionResult:
    """C4. Domains are compared as names; deny wins."""
    done = it.done
    judged = judge_resource(
        it.path, verb=done.verb, provider=done.provider or it.provider, resource=done.object, payment=it.is_bare_payment
    )
    cure = f"within scope if grant {judged.grant} allowed {done.object}" if done.object else "the act's target, from its source, would decide"
    return _of(it, "C4", judged, "resource_not_allowed", cure=cure)


def window(it: Contested) -> CriterionResult:
    """C6: every grant on the path, and the token used, in its time."""
    judged = judge_window(it.path, it.act.occurred_at, skew_seconds=it.policy.skew_seconds)
    cure = ""
    if judged.result == "fail":
        grant, at = it.path.grants[judged.hop - 1], it.act.occurred_at
        gap = seconds_early(grant, at, skew_seconds=it.policy.skew_seconds) or (at - grant.expires_at).total_seconds()
        cure = f"outside the window of grant {grant.id} by {gap:.3f} s, {it.policy.skew_seconds:g} s of it allowed for clocks"
    later = told_later(it.path, it.act.occurred_at, skew_seconds=max(it.policy.skew_seconds, CLOCKS))
    if judged.result == "pass" and later is not None:
        hop, told = it.path.grants.index(later) + 1, utc_text(later.granted_at)
        if later.dated:  # it states its window, which the act is in; that it was given afterwards has to be seen
            judged = Judgement("pass", f"{judged.reason}; grant {later.id} was given only at {told}, and says that it held before", hop, later.id, later.leaf_index)
        else:
            judged = Judgement("unknown", f"grant {later.id} was told of only at {told}, and nobody says since when it held", hop, later.id, later.leaf_index)
            cure = f"when grant {later.id} was given, from {later.attester}, would decide"
    token = it.record.tokens.get(it.act.token)
    if judged.result != "fail" and token is not None and (early := seconds_before_issue(token, it.act.occurred_at, skew_seconds=it.policy.skew_seconds)):
        return _token_fail(it, "C6", f"token {token.jti} was issued {early:.3f} s after the act", "outside_window", token)
    if judged.result != "fail" and token is not None and token.expires_at is not None:
        late = (it.act.occurred_at - token.expires_at).total_seconds()
        if late >= it.policy.skew_seconds:
            return _token_fail(it, "C6", f"token {token.jti} had expired {late:.3f} s before the act", "outside_window", token)
    return _of(it, "C6", judged, "outside_window", cure=cure)


def _token_fail(it: Contested, criterion: str, reason: str, code: str, token: Token) -> CriterionResult:
    """A fail of the token that was shown. It stands at the hop of whoever showed it."""
    last = len(it.path.grants)
    return CriterionResult(criterion, "fail", reason, ({"event_id": it.act.event_id, "leaf": token.leaf_index},), (code,),
                           f"within scope with a token that was good at the time, in place of {token.jti}", last, it.proven_at(last))  # fmt: skip


def audience(it: Contested) -> CriterionResult:
    judged = judge_audience(it.path, it.provider)
    cure = f"within scope if grant {judged.grant} were for {it.provider}" if it.provider else "the provider's name, from the act's source, would decide"
    return _of(it, "C7", judged, "audience", cure=cure)


def gates(it: Contested) -> CriterionResult:
    """C8: did a human answer every gate that the path lists for such an act, before it, for it, once."""
    if it.done is not it.act:
        return CriterionResult("C8", "na", f"asked of {it.done.event_id}, which has the same charge", ({"event_id": it.done.event_id, "leaf": it.done.leaf_index},))
    checks = check_gates(it.act, it.record)
    if not checks:
        return CriterionResult("C8", "na", "no grant on the path lists a gate for such an act")
    missing = [check for check in checks if check.approval is None]
    if not missing:
        answered = tuple({"event_id": c.approval.event_id, "leaf": c.approval.leaf_index} for c in checks if c.approval)
        return CriterionResult("C8", "pass", "; ".join(f"{c.kind}: {c.reason}" for c in checks), answered)
    kinds = ", ".join(check.kind for check in missing)
    hop = next(n for n, g in enumerate(it.path.grants, start=1) if missing[0].kind in (g.gates or ()))
    grant = it.path.grants[hop - 1]
    answers = tuple({"event_id": c.answer.event_id, "leaf": c.answer.leaf_index} for c in missing if c.answer and c.state != "asked")
    return CriterionResult(
        "C8", "fail", "; ".join(check.reason for check in missing),
        ({"grant": grant.id, "hop": hop, "leaf": grant.leaf_index}, *answers), ("gate_missing",),
        f"within scope with a {kinds} approval by a human, for this act, before it", hop, it.proven_at(hop),
    )  # fmt: skip


def revocation(it: Contested) -> CriterionResult:
    """C9. Between the issuer's revocation and the provider's notice and grace lies a race: a fail, borne differently."""
    at = it.act.occurred_at
    judged = judge_revocation(it.path, at, provider=it.provider, grace_seconds=it.policy.grace_seconds)
    found = first_revocation(it.path, at)
    if found is None:
        token = it.record.tokens.get(it.act.token)
        if token is not None and token.revoked_at is not None and token.revoked_at <= at:
            late = (at - token.revoked_at).total_seconds()
            reason = f"race: token {token.jti} was revoked {late:.3f} s before the act; no notice to {it.provider or 'the provider'} is in the record"
            return _token_fail(it, "C9", reason, "revocation_race", token)
        return _of(it, "C9", judged)
    _, grant = found
    notice = grant.notified.get(it.provider)
    raced = notice is None or at - notice <= timedelta(seconds=it.policy.grace_seconds)
    cure = f"within scope if done {(at - grant.revoked_at).total_seconds():.3f} s earlier, before grant {grant.id} was revoked"
    result = _of(it, "C9", judged, "revocation_race" if raced else "revoked", cure=cure)
    if grant.revoked_known_at is not None and grant.revoked_known_at > it.act.received_at:
        result = replace(result, reason=result.reason + "; learned later")
    return replace(result, evidence=({**result.evidence[0], "leaf": grant.revoked_leaf},))


def actor_binding(it: Contested) -> CriterionResult:
    """C11: was the act done with the key that its last grant or token is bound to (`cnf`). Without `cnf` it is `na`.

    Where the act does not say which key was used, the token that was taken does: it could not be used without its own.
    """
    tokens = it.record.token_path(it.act.token)
    bound, shown = key_bound(it.act, tokens), key_shown(it.act, tokens)
    if bound is None:
        return CriterionResult("C11", "na", "neither the token nor the last grant is bound to a key")
    here = ({"event_id": it.act.event_id, "leaf": bound.leaf_index},)
    last = it.path.grants[-1] if it.path.grants else None
    if not shown and bound.name.startswith("token "):
        shown, bound = bound.jkt, key_bound_by(last) or bound
    if not shown:
        return CriterionResult("C11", "unknown", f"{bound.name} is bound to key {bound.jkt}, and the act does not say which key was used",
                               here, cure="which key the act was done with, from whoever took it, would decide")  # fmt: skip
    if shown == bound.jkt:
        return CriterionResult("C11", "pass", f"done with the key that {bound.name} is bound to", here)
    return CriterionResult("C11", "fail", f"done with key {shown}, and {bound.name} is bound to {bound.jkt}", here, ("key_mismatch",),
                           f"within scope if done with key {bound.jkt}", len(it.path.grants) or None, bound.standing == "proven")  # fmt: skip


def depth(it: Contested) -> CriterionResult:
    """C10. Below a missing parent, an unstated `redelegate` is inherited from it, and so not known to be false."""
    path = it.path
    first = path.grants[0] if path.grants else None
    if first is not None and not it.complete and first.redelegate is None:
        path = replace(path, grants=(replace(first, redelegate=True), *path.grants[1:]))
    judged = judge_depth(path)
    return _of(it, "C10", judged, "depth", cure=f"within scope if grant {judged.grant} need not have been given", whole=True)


# --- limits ---------------------------------------------------------------------------------------------------------


def limits(it: Contested) -> CriterionResult:
    """C5: the running sum with this act against every limit in force when its money moved.

    Sums are those of the one spend function, over the limit's own interval. A raise by the limit's holder or by
    anybody below it is not the human's: what stood before it stands.
    """
    own = _own_spending(it)
    if own is None:
        return CriterionResult("C5", "na", "the act spent nothing")
    if own.rail == CREDIT_RAIL:
        return CriterionResult("C5", "na", "credits are not counted against limits in money")
    applicable = _applicable(it)
    facts, refused = _authorised(applicable, it.record)
    standing = [fact for fact in in_force(facts, own.at).values() if fact.max_minor is not None]
    if not standing:
        if refused and not facts:
            return CriterionResult("C5", "unknown", f"{_raise_text(refused[-1])}, and what stood before is not in the record",
                                   _limit_evidence(refused), cure="the limit before that raise would decide")  # fmt: skip
        return CriterionResult("C5", "pass", "no limit bound this spending")
    if all(fact.currency != own.currency for fact in standing):
        others = ", ".join(sorted({fact.currency for fact in standing}))
        return CriterionResult("C5", "unknown", f"the limits are in {others}, the act spent {own.currency}, and no rate is on record",
                               _limit_evidence(standing), cure=f"a recorded rate from {own.currency} to {others} would decide")  # fmt: skip
    since = _since(standing, own)
    before = [s for s in it.record.spending if s.at >= since and (s.at, s.leaf_index) < (own.at, own.leaf_index)]
    over = [c for c in crossings(facts, [*before, own]) if own in c.counted]
    if not over:
        return CriterionResult("C5", "pass", f"with this act, spending stays within {len(standing)} limit{'s' if len(standing) > 1 else ''}", _limit_evidence(standing))
    return _overrun(it, own, over, refused)


def _overrun(it: Contested, own: Spent, over: list[Crossing], refused: list[LimitFact]) -> CriterionResult:
    over.sort(key=lambda c: (-c.over_minor, c.limit.key))
    most = over[0]
    by, sums = amount_text(most.over_minor, own.currency), amount_text(most.spent_minor, own.currency)
    name = f"{most.limit.scope} limit" + (f" at {most.provider}" if most.provider else "")
    reason = f"{sums} against the {name} of {amount_text(most.limit.max_minor or 0, own.currency)}: over by {by}, crossed by {most.crossed_by.event_id}"
    evidence: list[Evidence] = []
    for crossing in over:
        evidence += _limit_evidence([crossing.limit])
        evidence.append({"event_id": crossing.crossed_by.event_id, "leaf": crossing.crossed_by.leaf_index})
    if refused:
        reason += f"; {_raise_text(refused[-1])}, which is no authority of the human's"
        evidence += _limit_evidence(refused)
    hop = _hop_of(it, most.limit)
    return CriterionResult(
        "C5", "fail", reason, tuple(dict(pair) for pair in dict.fromkeys(tuple(item.items()) for item in evidence)),
        ("over_limit",), f"out of scope by {by} on the {name}", hop, hop == 0 or it.proven_at(hop),
        min(own.spent_minor, most.over_minor),
    )  # fmt: skip


def _since(standing: Iterable[LimitFact], own: Spent) -> datetime:
    """Nothing spent before this counts in any interval that holds the act; a day to spare where zones changed."""
    starts = [window_of(fact, own.at) for fact in standing if binds(fact, own)]
    if not starts or None in starts:
        return datetime.min.replace(tzinfo=UTC)
    return min(starts) - timedelta(days=1)


def _own_events(it: Contested) -> set[str]:
    """The act and what else tells of its charge: they are one spending."""
    act = it.act
    same = {o.event_id for o in it.record.siblings_of(act) if act.charge and (o.rail, o.charge) == (act.rail, act.charge)}
    joined = [spent.joined for spent in it.record.spending if act.event_id in spent.joined]
    return {act.event_id} | same.union(*joined)


def _own_spending(it: Contested) -> Spent | None:
    """What the act spent: its charge as the spend function counts it; for an authorization still open, the hold."""
    act = it.act
    if not act.spends:
        return None
    mine = _own_events(it)
    told = [s for s in it.record.spending if s.event_id in mine and s.currency == act.currency]
    charge = min(told, key=lambda spent: (spent.at, spent.leaf_index), default=None)
    if charge is None:
        parties = {*it.path.parties, act.actor, act.principal} - {""}
        charge = Spent(
            act.event_id, act.leaf_index, act.occurred_at, it.provider, act.currency, act.amount_minor or 0,
            0, act.rail, frozenset(parties), frozenset(g.id for g in it.path.grants), act.session, act.task, act.project,
        )  # fmt: skip
    elif act.phase == "authorized" and charge.spent_minor == 0:
        charge = replace(charge, spent_minor=charge.authorized_minor or act.amount_minor or 0)
    return charge


def _applicable(it: Contested) -> list[LimitFact]:
    """Limits of the path's grants, and those said on their own of anybody on the path or of the principal."""
    grants = {grant.id for grant in it.path.grants}
    holders = {*it.path.parties, it.act.principal} - {""}
    facts = [f for f in it.record.limits if (f.grant in grants if f.verb == "grant" else f.holder in holders)]
    return sorted(facts, key=lambda fact: (fact.at, fact.leaf_index, fact.key))


def _authorised(facts: Iterable[LimitFact], record: Record) -> tuple[list[LimitFact], list[LimitFact]]:
    """Facts that count, and the raises that do not: those by the holder or one of its descendants."""
    counted: list[LimitFact] = []
    refused: list[LimitFact] = []
    stands: dict[tuple[str, ...], LimitFact] = {}
    for fact in facts:
        before = stands.get(fact.key)
        if fact.verb != "grant" and _raises(fact, before) and _by_holder(fact, record):
            refused.append(fact)
            continue
        counted.append(fact)
        if fact.verb != "reached":
            stands[fact.key] = fact
    return counted, refused


def _raises(fact: LimitFact, before: LimitFact | None) -> bool:
    if before is None:
        return fact.verb == "raised"
    if before.max_minor is None or fact.verb == "reached":
        return False
    return fact.max_minor is None or fact.max_minor > before.max_minor


def _by_holder(fact: LimitFact, record: Record) -> bool:
    """Whether a raise came from below. A human who raises a budget of their own gives authority by it."""
    if not fact.set_by or record.kind_of(fact.set_by) == "human":
        return False
    return fact.set_by == fact.holder or fact.holder in record.lineage.get(fact.set_by, frozenset())


def _raise_text(fact: LimitFact) -> str:
    to = "no limit" if fact.max_minor is None else amount_text(fact.max_minor, fact.currency)
    return f"{fact.set_by} raised it to {to}"


def _limit_evidence(facts: Iterable[LimitFact]) -> tuple[Evidence, ...]:
    return tuple(
        {"event_id": f.event_id, "leaf": f.leaf_index} | ({"grant": f.grant} if f.verb == "grant" else {}) for f in facts
    )


def _hop_of(it: Contested, limit: LimitFact) -> int | None:
    if limit.verb == "grant":
        return next((n for n, grant in enumerate(it.path.grants, start=1) if grant.id == limit.grant), None)
    held = (n for n, grant in enumerate(it.path.grants, start=1) if grant.actor and grant.actor.key == limit.holder)
    return next(held, 0)


# --- intent ---------------------------------------------------------------------------------------------------------


def intent(it: Contested) -> CriterionResult:
    """I1: was it what had been asked for, by structured fields only. The acting agent's own word never makes a match."""
    done = it.done
    stated = stated_intent(done)
    if stated is None:
        return CriterionResult("I1", "na", "no intent was stated")
    said: Evidence = {"event_id": stated.event_id, "leaf": stated.leaf_index} | ({"grant": stated.grant} if stated.grant else {})
    evidence = (said, {"event_id": done.event_id, "leaf": done.leaf_index})
    priced = it.act if it.act.amount_minor is not None else done
    differs, matches, cure = _differences(it, priced)
    if differs:
        return CriterionResult("I1", "fail", "; ".join(differs), evidence, ("intent_divergent",), cure)
    if not matches:
        return CriterionResult("I1", "na", "the stated intent names nothing that this act could be compared with", evidence)
    if stated.by_actor:
        return CriterionResult("I1", "unknown", "it equals an intent that the acting agent itself supplied", evidence,
                               cure="the intent as the human stated it would decide")  # fmt: skip
    return CriterionResult("I1", "pass", f"{done.object} is what was asked for", evidence)


def _differences(it: Contested, priced: Act) -> tuple[list[str], bool, str]:
    """Sentences on what differs, whether the target is one asked for, and what would have been anticipated."""
    done, stated = it.done, stated_intent(it.done)
    asked = stated.intent
    differs, cure = [], ""
    if done.verb.startswith("domain."):
        compared = compare_domain(done)
        matches = compared.relation == "equal"
        if not matches and compared.relation != "not_stated":
            differs.append(f"{compared.nearest} was asked for, {done.object} was the target ({compared.relation})")
            cure = f"anticipated if the target had been {compared.nearest}, as asked"
    else:
        matches = bool(done.object) and any(resource_matches(target, done.object) for target in asked.targets)
    if price_exceeded(priced, asked):
        most = amount_text(asked.max_price_minor or 0, priced.currency)
        differs.append(f"at most {most} was asked for, {amount_text(priced.amount_minor or 0, priced.currency)} was taken")
        cure = cure or f"anticipated at {most} or less"
    return differs, matches, cure
