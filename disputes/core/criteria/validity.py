"""C6, C9: was the authority in its time, and not taken back."""

from auditlog.core.chain.authority import (
    Judgement,
    ended_before,
    expired_before,
    judge_window,
    revocation_text,
    seconds_before_issue,
    seconds_early,
    told_later,
    utc_text,
)
from auditlog.core.chain.statement import CLOCKS, Token
from disputes.core.criteria.base import Contested, CriterionResult, of_path, token_fail
from disputes.core.criteria.limits import beyond_authority, own_lines


def window(it: Contested) -> CriterionResult:
    """C6: every grant on the path, and every token that was used or exchanged, in its time."""
    at, skew = it.at, it.policy.skew_seconds
    judged = judge_window(it.path, at, skew_seconds=skew)
    cure = ""
    if judged.result == "fail":
        grant = it.path.grants[judged.hop - 1]
        gap = seconds_early(grant, at, skew_seconds=skew) or (at - grant.expires_at).total_seconds()
        cure = f"outside the window of grant {grant.id} by {gap:.3f} s, {skew:g} s of it allowed for clocks"
    later = told_later(it.path, at, skew_seconds=max(skew, CLOCKS))
    if judged.result == "pass" and later is not None:
        hop, told = it.path.grants.index(later) + 1, utc_text(later.granted_at)
        if later.dated:  # it states its window, which the act is in; that it was given afterwards has to be seen
            judged = Judgement(
                "pass",
                f"{judged.reason}; grant {later.id} was given only at {told}, and says that it held before",
                hop,
                later.id,
                later.leaf_index,
            )
        else:
            judged = Judgement(
                "unknown",
                f"grant {later.id} was told of only at {told}, and nobody says since when it held",
                hop,
                later.id,
                later.leaf_index,
            )
            cure = f"when grant {later.id} was given, from {later.attester}, would decide"
    if judged.result != "fail":
        for token in it.tokens.tokens[-1:]:
            if early := seconds_before_issue(token, at, skew_seconds=skew):
                return token_fail(
                    it,
                    "C6",
                    f"token {token.jti} was issued {early:.3f} s after the act",
                    "outside_window",
                    token,
                    token.leaf_index,
                )
        if (ended := _authority_ended(it)) is not None:
            return ended
        expired = expired_before(it.path, it.tokens, at, skew_seconds=skew)
        if expired is not None and isinstance(expired.link, Token):
            return token_fail(it, "C6", expired.reason, "outside_window", expired.link, expired.link.leaf_index)
    return of_path(it, "C6", judged, "outside_window", cure=cure)


def _authority_ended(it: Contested) -> CriterionResult | None:
    """A payment authority that had ended when the money was taken, or held where it was held first. What
    `spend.authority_exceeded` finds, of the act's own lines.
    """
    if not it.act.spends:
        return None
    record, own = own_lines(it)
    late = [each for each in beyond_authority(record, own) if each.ended is not None]
    found = next((each for each in late if not each.doubt), late[0] if late else None)
    if found is None or found.ended is None:
        return None
    end, authority = found.ended, found.ended.authority
    evidence = ({"event_id": end.event_id, "leaf": end.leaf_index},)
    if found.doubt:
        return CriterionResult(
            "C6", "unknown", f"payment authority {authority} had ended, and {found.doubt}", evidence,
            cure=f"who granted payment authority {authority} again would decide",
        )  # fmt: skip
    seconds = ((found.spent.held_from or found.spent.at) - end.at).total_seconds()
    return CriterionResult(
        "C6", "fail", f"payment authority {authority} had ended {seconds:.0f} s before the money was taken",
        evidence, ("outside_window",),
        f"within scope if taken before payment authority {authority} ended", len(it.path.grants), True,
    )  # fmt: skip


_CODES = {"race": "revocation_race", "known": "revoked", "not_passed_on": "revocation_not_passed_on"}


def revocation(it: Contested) -> CriterionResult:
    """C9, of every grant and every token behind the act. Between the issuer's revocation and the provider's notice and
    grace lies a race: a fail, borne differently. Without a notice the race is over once it could have been passed on.
    """
    found = ended_before(
        it.path, it.tokens, it.at, provider=it.provider, unstated=it.unstated_token, grace_seconds=it.policy.grace_seconds,
        race_seconds=it.policy.race_seconds,
    )  # fmt: skip
    if found is None:
        return of_path(it, "C9", Judgement("pass", "nothing on the path had been revoked"))
    reason = revocation_text(found, it.provider)
    if found.link.revoked_known_at is not None and found.link.revoked_known_at > it.done.received_at:
        reason += "; learned later"
    if isinstance(found.link, Token):
        return token_fail(it, "C9", reason, _CODES[found.state], found.link, found.link.revoked_leaf)
    judged = Judgement("fail", reason, found.hop, found.link.id, found.link.revoked_leaf)
    cure = f"within scope if done {found.seconds_late:.3f} s earlier, before grant {found.link.id} was revoked"
    return of_path(it, "C9", judged, _CODES[found.state], cure=cure)
