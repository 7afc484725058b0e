"""The chain of an act as the API gives it: hops oldest first, what was in force, and where it breaks."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import (
    as_disputed,
    first_revocation,
    judge_window,
    told_later,
)
from auditlog.core.chain.breaks import authority_breaks, clocks_of, gain_of, recorded_when
from auditlog.core.chain.chain import Break, Chain
from auditlog.core.chain.gates import GateCheck
from auditlog.core.chain.organisation import NONE_MAPPED, Organisations
from auditlog.core.chain.statement import Grant
from auditlog.core.event import Party
from auditlog.core.party import split_party
from auditlog.reads.sight import Sight


def chain_json(
    chain: Chain,
    act: Act,
    *,
    at: datetime,
    sight: Sight = Sight(),  # noqa: B008  frozen
    organisations: Organisations = NONE_MAPPED,
    gates: Iterable[GateCheck] = (),
) -> dict[str, Any]:
    """An abuse desk gets the shape of the chain: hops of others as stubs, and no grant but what its own events name."""
    whole = _whole_json(chain, act, organisations, at=at) | {"gates": [gate_json(gate, act) for gate in gates]}
    return whole if sight.seen is None else _stubbed(whole, sight, act)


def _stubbed(whole: dict[str, Any], sight: Sight, act: Act) -> dict[str, Any]:
    terms = dict.fromkeys(
        ("delegated_by", "attester", "attester_gains", "attester_gains_why", "recorded_at", "recorded", "recorded_before_act",
         "dated", "organisation", "scopes", "limits", "granted_at", "expires_at")
    )  # fmt: skip

    def party(shown: dict | None) -> dict | None:
        more = {k: v for k, v in (shown or {}).items() if k not in ("iss", "sub")}
        return shown and sight.party(f"{shown['iss']}|{shown['sub']}", **more)

    def hop(shown: dict) -> dict:
        mine = sight.sees(f"{shown['party']['iss']}|{shown['party']['sub']}")
        hidden = {} if mine and shown["grant"] == act.grant else {"grant": None, "leaf_index": None}
        hidden |= {} if mine and shown["token"] == act.token else {"token": None}
        return shown | terms | hidden | {"party": party(shown["party"]), "breaks": [quiet(b) for b in shown["breaks"]]}

    def quiet(found: dict) -> dict:
        return found | {"reason": None, "leaf_index": None, "supplier": None}  # it names grants and parties

    effective = whole["effective"] and {name: whole["effective"][name] for name in ("in_force", "known", "revoked_at")}
    elsewhere = {"reason": None, "event": None, "leaf_index": None, "at": None}
    gates = [
        gate | {"by": party(gate["by"])} | ({"reason": None} if gate["own"] else elsewhere) for gate in whole["gates"]
    ]
    return whole | {
        "principal": party(whole["principal"]),
        "gates": gates,
        "hops": [hop(each) for each in whole["hops"]],
        "effective": effective,
        "breaks": [quiet(each) for each in whole["breaks"]],
    }


def _whole_json(chain: Chain, act: Act, organisations: Organisations, *, at: datetime) -> dict[str, Any]:
    grants = {grant.id: grant for grant in chain.path.grants}
    breaks = [*chain.breaks, *authority_breaks(chain, act, at)]
    return {
        "complete": chain.complete,
        "proven": chain.proven,
        "mode": chain.mode,
        "principal": _party(chain.principal, claimed=chain.principal_claimed) if chain.principal else None,
        "at": at,
        "hops": [
            {
                "position": hop.position,
                "party": _party(hop.party),
                "delegated_by": split_party(hop.delegated_by or ""),
                "attester": hop.attester,
                "grant": hop.grant,
                "token": hop.token,
                "scopes": _details(grants.get(hop.grant or "")),
                "limits": _limits(grants.get(hop.grant or "")),
                "granted_at": hop.granted_at,
                "dated": hop.dated,
                "expires_at": hop.expires_at,
                "standing": hop.standing,
                "derived_from": hop.derived_from,
                "grade": hop.grade,
                "leaf_index": hop.leaf_index,
                "attester_gains": (gain := gain_of(hop, chain, act, organisations)).gains,
                "attester_gains_why": gain.why or None,
                "organisation": organisations.of_party(hop.party.key),
                "recorded_at": hop.known_at,
                "recorded_before_act": None if (recorded := recorded_when(hop, act)) is None else recorded == "before",
                "recorded": recorded,
                "breaks": [_break(b) for b in breaks if b.hop == hop.position],
            }
            for hop in chain.hops
        ],
        "effective": effective_json(chain, act, at) if chain.path.grants else None,
        "breaks": [_break(b) for b in breaks],
    }


def gate_json(gate: GateCheck, act: Act) -> dict[str, Any]:
    """One approval that the act needed: `approved`, `refused`, `not_counted` (answered, and why that is none), `asked`
    (and nobody is on record as having answered), or `unknown` (nothing is on record)."""
    answer = gate.approval or gate.answer
    return {
        "kind": gate.kind,
        "state": gate.state,
        "by": _party(answer.party) if answer and answer.party else None,
        "at": answer.at if answer else None,
        "event": answer.event_id if answer else None,
        "leaf_index": answer.leaf_index if answer else None,
        "own": answer is not None and answer.event_id == act.event_id,
        "reason": gate.reason,
    }


def effective_json(chain: Chain, act: Act, at: datetime) -> dict[str, Any]:
    """What all grants together allowed at `at`: every hop's own terms, whose intersection counts.

    `in_force` is None, unknown, where a grant was told of only later, by a source that does not say when it was given;
    or where it began later than the act by no more than two clocks may differ (`within_clocks`).
    """
    grants = chain.path.grants
    ends = [g.expires_at for g in grants if g.expires_at is not None]
    begins = [g.begins_at for g in grants if g.begins_at is not None]
    audiences = [set(g.audience) for g in grants if g.audience is not None]
    revoked = first_revocation(chain.path, at)
    clocks = clocks_of(act, at)
    window = judge_window(chain.path, at, skew_seconds=clocks, early_seconds=clocks)
    in_force: bool | None = revoked is None and window.result == "pass" and chain.complete
    as_others = {
        judge_window(path, at, skew_seconds=clocks, early_seconds=clocks).result
        for _, path in as_disputed(chain.path, at)
    }
    if revoked is None and chain.complete and as_others - {window.result}:
        in_force = None  # two who may say so state another time
    later = told_later(chain.path, at, skew_seconds=clocks)
    # What two clocks may differ by is not held against an act; nor is it said to have been in force before it began.
    near = bool(in_force and not later and begins and at < max(begins))
    return {
        "in_force": None if in_force and (later or near) else in_force,
        "within_clocks": near,
        "told_later": later and {"grant": later.id, "told_at": later.granted_at, "dated": later.dated},
        "scopes": [{"grant": g.id, "authorization_details": _details(g)} for g in grants if g.details is not None],
        "known": grants[0].details is not None,
        "limits": [limit for g in grants for limit in _limits(g) or ()],
        "not_before": max(begins, default=None),
        "expires_at": min(ends, default=None),
        "audience": sorted(set.intersection(*audiences)) if audiences else None,
        "gates": sorted({kind for g in grants for kind in g.gates or ()}),
        "revoked_at": revoked[1].revoked_at if revoked else None,
    }


def _break(found: Break) -> dict[str, Any]:
    return {"hop": found.hop, "code": found.code, "reason": found.reason, "leaf_index": found.leaf_index,
            "supplier": found.supplier}  # fmt: skip


def _party(party: Party, **more: Any) -> dict[str, Any]:
    return {"iss": party.iss, "sub": party.sub, "kind": party.kind, **more}


def _details(grant: Grant | None) -> list | None:
    return None if grant is None or grant.details is None else msgspec.to_builtins(grant.details)


def _limits(grant: Grant | None) -> list | None:
    return None if grant is None or grant.limits is None else msgspec.to_builtins(grant.limits)
