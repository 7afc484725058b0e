"""C1: every hop proven, from a human down to whoever acted."""

from collections.abc import Iterable

from auditlog.core.chain.authority import Result, disputed_party, given_by_a_stranger
from auditlog.core.chain.chain import MAX_DEPTH
from auditlog.core.chain.use import paid_together
from auditlog.core.event import act_chain
from disputes.core.criteria.base import Contested, CriterionResult, Evidence


def chain_complete(it: Contested) -> CriterionResult:
    """C1: every hop proven, from a root grant by a human down to whoever acted.

    `fail` is authority proven absent: none was claimed, the root is no human's, or a grant was given by a stranger.
    """
    act, path = it.done, it.path
    here: Evidence = {"event_id": act.event_id, "leaf": act.leaf_index}
    if it.in_person:
        return _c1("pass", f"{act.actor} did it in person", [here])
    if it.in_person is None:
        return _c1("unknown", "it is told as done in person, and by what else it says, or by who tells it, cannot be taken for that", [here],
                   "who acted, from a source that is not the agent's, would decide")  # fmt: skip
    if not act.within_remit:
        return _c1(
            "unknown",
            f"it is told by {act.source}, which may not speak of it",
            [here],
            "the same, from a source that may speak of it, would decide",
        )
    if not path.grants and path.missing is None:
        if not (act.grant or act.token or act.actor) and (together := paid_together(act, it.record)):
            told = [{"event_id": other.event_id, "leaf": other.leaf_index} for other in together[:20]]
            return _c1(
                "unknown",
                f"it is the money of {len(together)} acts, each of which is judged by itself",
                [here, *told],
                "the verdicts on those acts decide",
            )
        if not (act.grant or act.token or act.actor):
            return _c1(
                "unknown",
                "the act names no grant, no token and no actor",
                [here],
                "who did it, and under which grant, would decide",
            )
        named = f"token {act.token}" if act.token else f"grant {act.grant}" if act.grant else ""
        reason = (
            f"no source ever spoke of {named}" if named else f"{act.actor} acted, and named neither grant nor token"
        )
        wanted = f"the issuing event of {named}" if named else "the grant or token that the actor used"
        return _c1("unknown", reason, [here], f"{wanted} would decide")
    hops = [
        {"grant": g.id, "leaf": g.leaf_index, "event_id": g.event_id, "hop": n}
        for n, g in enumerate(path.grants, start=1)
    ]
    if path.cycle:
        return _circle(it, hops)
    if (rival := disputed_party(path, it.at)) is not None:
        here = {"grant": rival.id, "leaf": rival.leaf_index, "event_id": rival.event_id}
        return _c1("unknown", f"{rival.attester} states otherwise whose grant {rival.id} is, and nothing says which of the two holds", [here, *hops],
                   f"which statement of grant {rival.id} holds, from who gave it, would decide")  # fmt: skip
    stranger = given_by_a_stranger(it.path)
    if stranger is not None and it.proven_to(stranger):
        grant = path.grants[stranger - 1]
        return _c1("fail", f"grant {grant.id} was given by {grant.subject.key}, whom nobody on the path above had let act",
                   hops[stranger - 1 : stranger], f"grant {grant.id} given by a party on its own chain")  # fmt: skip
    if path.missing is not None:
        return _c1(
            "unknown",
            it.absent,
            [*hops, {"grant": path.missing}],
            f"grant {path.missing}, from its issuer, would decide",
        )
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
        return _c1(
            "unknown",
            f"root grant {root.id} does not say who gave it",
            hops[:1],
            f"who gave grant {root.id} would decide",
        )
    known = it.record.kind_of(root.subject.key)
    kind = known if known != "unknown" else root.subject.kind
    if kind == "unknown":
        return _c1("unknown", f"whether {root.subject.key}, at the root, is human is not in the record", hops[:1],
                   f"what kind of party {root.subject.key} is would decide")  # fmt: skip
    if kind != "human":
        return _c1("fail", f"the root is given by {root.subject.key}, of kind {kind}: no human stands behind it", hops[:1],
                   "a root grant by a human")  # fmt: skip
    if it.tokens.jti and (it.tokens.missing is not None or it.tokens.cycle):
        name = it.tokens.missing or it.tokens.jti
        reason = (
            f"no source ever spoke of token {name}"
            if it.tokens.missing
            else f"the tokens behind {name} point at each other in a circle"
        )
        return _c1("unknown", reason, [here, *hops], f"the issuing event of token {name} would decide")
    if claimed_token := next((token for token in it.tokens.tokens if token.standing == "claimed"), None):
        return _c1("unknown", f"token {claimed_token.jti} is claimed by {claimed_token.attester}, which may not speak of it", [here, *hops],
                   f"token {claimed_token.jti}, stated by a source that may speak of it, would decide")  # fmt: skip
    if (token := next((token for token in it.tokens.tokens if token.disputed_by), None)) is not None:
        return _c1("unknown", f"token {token.jti} is stated otherwise by {token.disputed_by}, and nothing says which of the two holds", [here, *hops],
                   f"which statement of token {token.jti} holds would decide")  # fmt: skip
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
        return _c1(
            "fail", "the grants point at each other in a circle, and reach no human", hops, "a root above the circle"
        )
    return _c1("unknown", "the grants point at each other in a circle, or further than we follow", hops[:8],
               "proven statements of the grants in the circle would decide")  # fmt: skip


def _not_granted(it: Contested) -> str | None:
    """A party of the act's own `act` claim that acted, and whom nobody let: the last of it, where the path does not hold
    it; one before it, for whom that one acted, where no grants of its own are on record (they are asked by C3 and C4).
    """
    actor = it.done.payload.actor
    if actor is None:
        return None
    held = set(it.path.parties)
    *before, last = act_chain(actor)
    asked = {i.party.key for i in it.initiators if i.result != "unknown"}
    return next((party.key for party in (last, *before) if party.key not in held and party.key not in asked), None)
