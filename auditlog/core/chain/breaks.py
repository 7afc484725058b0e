"""Breaks: where an act is outside what its chain allowed, and where a hop gave more than it had."""

from dataclasses import replace
from datetime import datetime

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import (
    CLOCKS,
    Judgement,
    as_disputed,
    expired_before,
    first_revocation,
    judge_act,
    judge_audience,
    judge_depth,
    judge_window,
    key_bound,
    key_shown,
    notice_text,
    seconds_before_issue,
    token_widenings,
    utc_text,
    widenings,
)
from auditlog.core.chain.chain import Break, Chain, Hop, Path, build_chain, when_recorded
from auditlog.core.chain.organisation import Gain, Organisations
from auditlog.core.chain.statement import Token
from auditlog.core.chain.use import follows_an_act


def gain_of(hop: Hop, chain: Chain, act: Act | None, organisations: Organisations) -> Gain:
    """Whether the hop's attester gains by it: through who received it, who acts below it, or who took the act. `act`
    None: the chain to a grant, under which nothing was done.
    """
    taken = act is not None and (act.is_act or act.is_payment or act.amount_minor is not None)
    return organisations.gain_of(hop, below=chain.hops[hop.position + 1 :], provider=act.provider if taken else None)


def recorded_when(hop: Hop, act: Act) -> str | None:
    return when_recorded(hop, occurred_at=act.occurred_at, leaf_index=act.leaf_index)


def clocks_of(act: Act, at: datetime) -> float:
    """How many seconds outside a grant's time count as within it, as rules and criteria have it: the act was told by
    another clock than the grant. A time that was asked for was not.
    """
    return CLOCKS if at == act.occurred_at or follows_an_act(act) else 0


_WIDENED = {"scope": "scope_widened", "limit": "limit_widened", "expiry": "outlives_parent", "depth": "depth_exceeded"}


def widened_breaks(chain: Chain) -> list[Break]:
    """The hops that gave more than they had, at whatever time."""
    root = _root_hop(chain)
    return [
        Break(None if w.hop is None else w.hop - 1 + root, _WIDENED[w.kind], w.reason, w.by.leaf_index)
        for w in (*widenings(chain.path), *token_widenings(chain.tokens, chain.path))
    ]


def chain_to(path: Path) -> Chain:
    """The chain to a grant, with what any hop gave beyond what it had."""
    chain = build_chain(path=path)
    return replace(chain, breaks=(*chain.breaks, *widened_breaks(chain)))


_ENDINGS = frozenset({"delegation.revoked", "mandate.revoked", "token.revoked", "delegation.denied"})


def authority_breaks(chain: Chain, act: Act, at: datetime) -> list[Break]:
    """Where the act is outside what its chain allowed at `at`, each at the hop that did not allow it. What ended the authority,
    and what was refused because it had ended, is outside of nothing.
    """
    if not act.happened or act.type in _ENDINGS:
        return []
    found = _breaks(chain, act, at)
    for _, path in as_disputed(
        chain.path, at
    ):  # doubt accuses nobody: that the grant is stated in two ways is a break of its own
        codes = {each.code for each in _breaks(replace(chain, path=path), act, at)}
        found = [each for each in found if each.code in codes]
    return found


def _breaks(chain: Chain, act: Act, at: datetime) -> list[Break]:
    path, found = chain.path, widened_breaks(chain)
    bound, shown = key_bound(act, chain.tokens), key_shown(act, chain.tokens)
    if bound is not None and shown and shown != bound.jkt:
        found.append(
            Break(
                len(chain.hops) - 1,
                "key_mismatch",
                f"key {shown} was used, and {bound.name} is bound to {bound.jkt}",
                bound.leaf_index,
            )
        )
    for token in chain.tokens.tokens:
        if token.revoked_at is not None and token.revoked_at <= at:
            found.append(
                Break(
                    None,
                    "revoked",
                    f"token {token.jti} was revoked at {utc_text(token.revoked_at)}",
                    token.revoked_leaf,
                )
            )
    used = chain.tokens.tokens[-1] if chain.tokens.tokens else None
    if used is not None and seconds_before_issue(used, at):
        found.append(
            Break(
                None,
                "outside_window",
                f"token {used.jti} was issued only at {utc_text(used.issued_at)}",
                used.leaf_index,
            )
        )
    expired = expired_before(path, chain.tokens, at, skew_seconds=clocks_of(act, at))
    if expired is not None and isinstance(expired.link, Token):
        found.append(Break(None, "outside_window", expired.reason, expired.link.leaf_index))
    judgements: list[tuple[str, Judgement]] = [
        ("outside_window", judge_window(path, at, skew_seconds=clocks_of(act, at), early_seconds=clocks_of(act, at))),
        ("depth_exceeded", judge_depth(path)),
        ("audience_mismatch", judge_audience(path, act.provider)),
    ]
    if act.is_act and not act.is_payment:
        judgements += zip(("action_not_allowed", "resource_not_allowed"), judge_act(path, act), strict=True)
    for code, judgement in judgements:
        if judgement.result == "fail" and judgement.hop is not None:
            hop = judgement.hop - 1 + _root_hop(chain)
            found.append(Break(hop, code, judgement.reason, judgement.leaf_index))
    if (revoked := first_revocation(path, at)) is not None:
        hop, grant = revoked
        reason = f"grant {grant.id} was revoked at {utc_text(grant.revoked_at)}; {notice_text(grant, act.provider, at)}"
        found.append(Break(hop - 1 + _root_hop(chain), "revoked", reason, grant.revoked_leaf))
    return found


def _root_hop(chain: Chain) -> int:
    """Where the first grant's actor stands: after the principal, when the path knows one."""
    return 1 if chain.path.grants and chain.path.grants[0].subject is not None else 0
