"""C6, C9: was the authority in its time, and not taken back."""

from dataclasses import replace
from datetime import timedelta

from auditlog.core.authority import (
    Judgement,
    first_revocation,
    judge_revocation,
    judge_window,
    seconds_before_issue,
    seconds_early,
    told_later,
    utc_text,
)
from auditlog.core.statement import CLOCKS, Token
from disputes.core.criteria.base import Contested, CriterionResult, of_path


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
    return of_path(it, "C6", judged, "outside_window", cure=cure)


def _token_fail(it: Contested, criterion: str, reason: str, code: str, token: Token) -> CriterionResult:
    """A fail of the token that was shown. It stands at the hop of whoever showed it."""
    last = len(it.path.grants)
    return CriterionResult(criterion, "fail", reason, ({"event_id": it.act.event_id, "leaf": token.leaf_index},), (code,),
                           f"within scope with a token that was good at the time, in place of {token.jti}", last, it.proven_at(last))  # fmt: skip


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
        return of_path(it, "C9", judged)
    _, grant = found
    notice = grant.notified.get(it.provider)
    raced = notice is None or at - notice <= timedelta(seconds=it.policy.grace_seconds)
    cure = f"within scope if done {(at - grant.revoked_at).total_seconds():.3f} s earlier, before grant {grant.id} was revoked"
    result = of_path(it, "C9", judged, "revocation_race" if raced else "revoked", cure=cure)
    if grant.revoked_known_at is not None and grant.revoked_known_at > it.act.received_at:
        result = replace(result, reason=result.reason + "; learned later")
    return replace(result, evidence=({**result.evidence[0], "leaf": grant.revoked_leaf},))
