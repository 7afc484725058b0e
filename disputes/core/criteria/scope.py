"""C2, C3, C4, C7, C10: what the path of grants allowed, for whom, and how far."""

from dataclasses import replace

from auditlog.core.chain.authority import (
    judge_act,
    judge_audience,
    judge_depth,
    judge_token_audience,
    widenings,
)
from disputes.core.criteria.base import Contested, CriterionResult, of_path, token_fail

_WIDENED = {"scope": "scope_widened", "limit": "limit_widened", "expiry": "outlives_parent", "depth": "depth_widened"}


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
    judged = judge_act(it.path, it.done, provider=it.provider)[0]
    cure = (
        f"within scope if grant {judged.grant} allowed {verb}"
        if verb
        else "what was done, from the act's source, would decide"
    )
    return _or_of_initiators(it, of_path(it, "C3", judged, "action_not_allowed", cure=cure))


def resource(it: Contested) -> CriterionResult:
    """C4. Domains are compared as names; deny wins."""
    done = it.done
    judged = judge_act(it.path, done, provider=it.provider)[1]
    cure = (
        f"within scope if grant {judged.grant} allowed {done.object}"
        if done.object
        else "the act's target, from its source, would decide"
    )
    return _or_of_initiators(it, of_path(it, "C4", judged, "resource_not_allowed", cure=cure))


def _or_of_initiators(it: Contested, found: CriterionResult) -> CriterionResult:
    """Whom the actor acted for puts its own grants on the path: what they do not allow, the deputy may not do for it."""
    if found.result != "pass":
        return found
    lent = next((i for i in it.initiators if i.result == "fail" and i.criterion == found.id), None)
    if lent is None:
        return found
    what = it.done.verb if found.id == "C3" else it.done.object
    own = ", ".join(lent.grants[:5])
    return replace(
        found, result="fail", reason=f"done for {lent.party.key}, whose own grants ({own}) do not allow {what}", codes=("confused_deputy",),
        evidence=tuple({"grant": grant} for grant in lent.grants[:5]), cure=f"within scope if a grant to {lent.party.key} allowed {what}",
        hop=None, stands=it.proven_to(None),
    )  # fmt: skip


def audience(it: Contested) -> CriterionResult:
    judged = judge_audience(it.path, it.provider)
    if judged.result != "fail" and it.shown is not None and isinstance(it.done.payload.token, str):
        of_token = judge_token_audience(it.tokens, it.provider, it.done.issuer)
        if of_token.result == "fail":
            return token_fail(it, "C7", of_token.reason, "audience", it.shown, it.shown.leaf_index)
    cure = (
        f"within scope if grant {judged.grant} were for {it.provider}"
        if it.provider
        else "the provider's name, from the act's source, would decide"
    )
    return of_path(it, "C7", judged, "audience", cure=cure)


def depth(it: Contested) -> CriterionResult:
    judged = judge_depth(it.path)
    return of_path(
        it, "C10", judged, "depth", cure=f"within scope if grant {judged.grant} need not have been given", whole=True
    )
