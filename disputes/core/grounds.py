"""Grounds: what verdicts rest on, in the form that is kept with them and goes into the packet.

Three things: the chains behind the acts, each with its picture; each limit that the acts were counted against, as a
ledger with its running balance and the line that crossed it; and the answers at gates that the verdicts cite. They are
kept when the engine runs, since the record moves on and a packet must say what the engine saw.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import Chain
from auditlog.core.chain.record import Approval, Record
from auditlog.core.chain.svg import draw
from auditlog.core.money.limits import Step
from disputes.core.criteria import Policy, contested
from disputes.core.criteria.limits import own_lines

MOST_CHAINS = 200  # different ones of one case, that are written out and drawn
MOST_LINES = 20_000  # of all limits together


def grounds(acts: Sequence[Act], record: Record, chains: Mapping[str, Chain], policy: Policy, cited: frozenset[str]) -> dict[str, Any]:  # fmt: skip
    """`cited`: the events that the verdicts name, of which the answers at gates are kept."""
    return {"chains": _chains(acts, chains), "limits": _limits(acts, record, policy), "gates": _gates(record, cited)}


def plain(said: Any) -> Any:
    """JSON whose numbers every reader reads alike: a whole number beyond 2^53 is written as text (RFC 8785 section
    3.2.2.3), and one without a fraction as a whole one.
    """
    if isinstance(said, dict):
        return {name: plain(value) for name, value in said.items()}
    if isinstance(said, list):
        return [plain(value) for value in said]
    if isinstance(said, float):
        return int(said) if said.is_integer() and abs(said) <= 2**53 else said
    return str(said) if isinstance(said, int) and not isinstance(said, bool) and abs(said) > 2**53 - 1 else said


def canonical(said: Any) -> bytes:
    """The canonical form (RFC 8785) of what we write: our names are ASCII, so that sorting them is sorting them for
    everybody. By the standard library, which is twenty times as fast as a library of that form, and is what the
    stand-alone verifier has.
    """
    return json.dumps(plain(said), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def words_digest(run: dict[str, Any], verdicts: Any, grounds: Any) -> str:
    """SHA-256 over every word of a run: what it was, its verdicts and their grounds. The log states it, so that a packet whose
    words were changed is known by it, whatever else was written anew.
    """
    return digest_of_words({"run": run, "verdicts": verdicts, **grounds})


def digest_of_words(said: Any) -> str:
    return sha256(canonical(said)).hexdigest()


def _chains(acts: Sequence[Act], chains: Mapping[str, Chain]) -> dict[str, Any]:
    """Each different chain once, with the acts behind which it stands."""
    found: dict[bytes, tuple[Chain, list[str]]] = {}
    for act in acts:
        chain = chains[act.event_id]
        key = canonical(_chain(chain))
        found.setdefault(key, (chain, []))[1].append(act.event_id)
    kept = list(found.values())[:MOST_CHAINS]
    return {
        "chains": [
            {"number": number, "acts": events, **_chain(chain), "svg": draw(chain, standalone=True)}
            for number, (chain, events) in enumerate(kept, start=1)
        ],
        "left_out": len(found) - len(kept),
    }


def _chain(chain: Chain) -> dict[str, Any]:
    return {
        "complete": chain.complete, "proven": chain.proven, "mode": chain.mode,
        "principal": {"iss": chain.principal.iss, "sub": chain.principal.sub, "claimed": chain.principal_claimed} if chain.principal else None,
        "hops": [
            {"position": hop.position, "party": {"iss": hop.party.iss, "sub": hop.party.sub, "kind": hop.party.kind}, "delegated_by": hop.delegated_by,
             "attester": hop.attester, "grant": hop.grant, "token": hop.token, "standing": hop.standing, "derived_from": hop.derived_from,
             "grade": hop.grade, "granted_at": _time(hop.granted_at), "expires_at": _time(hop.expires_at), "leaf_index": hop.leaf_index}
            for hop in chain.hops
        ],
        "breaks": [{"hop": one.hop, "code": one.code, "reason": one.reason, "leaf_index": one.leaf_index, "supplier": one.supplier} for one in chain.breaks],
    }  # fmt: skip


def _limits(acts: Sequence[Act], record: Record, policy: Policy) -> dict[str, Any]:
    """Each limit, and in it each interval, that a contested act was counted in: every line up to the last contested one."""
    wanted: dict[tuple[Any, ...], tuple[list[Step], set[int]]] = {}
    for act in acts:
        if not act.spends:
            continue
        around, own = own_lines(contested(act, record, policy))
        mine = {id(line) for line in own}
        for ledger in around.ledgers_on(own):
            for step in (step for line in own for step in ledger.of(line)):
                key = (ledger.limit.first.key, step.bucket)
                wanted.setdefault(key, (ledger.steps, set()))[1].update(mine)
    left = MOST_LINES
    found, dropped = [], 0
    for (_, bucket), (steps, mine) in sorted(wanted.items(), key=lambda each: repr(each[0])):
        inside = [step for step in steps if step.bucket == bucket]
        last = max(place for place, step in enumerate(inside) if id(step.spent) in mine)
        lines = inside[: last + 1][:left]
        dropped += last + 1 - len(lines)
        left -= len(lines)
        if lines:
            found.append(_ledger(lines, mine))
    return {"ledgers": found, "lines_left_out": dropped}


def _ledger(steps: Sequence[Step], mine: set[int]) -> dict[str, Any]:
    limit = next((step.standing.limit for step in reversed(steps) if step.standing.limit), steps[-1].limit.first)
    crossed = next((place for place, step in enumerate(steps) if step.is_over), None)
    return {
        "scope": limit.scope, "provider": limit.provider or None, "holder": limit.holder or None, "grant": limit.grant or None,
        "each": steps[-1].bucket.each or None, "interval": limit.interval or None, "begins_at": _time(steps[-1].bucket.start),
        "currency": limit.currency or None, "max_minor": _whole(limit.max_minor), "enforcement": limit.enforcement or None, "set_by": limit.set_by or None,
        "event_id": limit.event_id, "leaf_index": limit.leaf_index, "crossed_at_line": crossed + 1 if crossed is not None else None,
        "lines": [
            {"line": place + 1, "event_id": step.spent.event_id, "leaf_index": step.spent.leaf_index, "at": _time(step.at),
             "amount_minor": _whole(step.spent.gross_minor or step.spent.authorized_minor), "total_minor": _whole(step.total),
             "in_flight_minor": _whole(step.in_flight), "at_most_minor": _whole(step.at_most), "max_minor": _whole(step.max_minor),
             "over_minor": _whole(step.over_minor), "contested": id(step.spent) in mine, "crosses": place == crossed}
            for place, step in enumerate(steps)
        ],
    }  # fmt: skip


def _gates(record: Record, cited: frozenset[str]) -> list[dict[str, Any]]:
    answers = {one.event_id: one for one in (*record.approvals, *record.refusals) if one.event_id in cited}
    return [_gate(one) for one in sorted(answers.values(), key=lambda one: one.leaf_index)]


def _gate(one: Approval) -> dict[str, Any]:
    return {
        "event_id": one.event_id, "leaf_index": one.leaf_index, "kind": one.kind, "answer": one.answer, "by": one.by, "by_kind": one.by_kind,
        "at": _time(one.at), "over": one.over or None, "issuer": one.issuer or None, "within_remit": one.within_remit,
    }  # fmt: skip


def events_in(said: Any) -> Iterable[str]:
    """Every event that a verdict names."""
    if isinstance(said, dict):
        for name, value in said.items():
            if name == "event_id" and isinstance(value, str):
                yield value
            else:
                yield from events_in(value)
    elif isinstance(said, list):
        for value in said:
            yield from events_in(value)


def _time(at: Any) -> str | None:
    return at.isoformat() if at is not None else None


def _whole(minor: Any) -> Any:
    """Minor units: a whole number, or where a price had more digits its exact text."""
    return minor if minor is None or isinstance(minor, int) else int(minor) if minor == int(minor) else str(minor)
