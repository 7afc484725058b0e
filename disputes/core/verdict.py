"""Verdict: what the criteria come to, in a fixed order. A recommendation with reasons; people decide.

1. C0 not passed, or C1 unknown: `indeterminate`. C1 failed: `out_of_scope`, no authority.
2. Any of C2 to C13 failed: `out_of_scope`.
3. Any of them unknown: `indeterminate`.
4. I1 or I2 failed: `within_scope_unanticipated`. I1 and I2 move an act between the two outcomes within scope only.
5. Else `within_scope`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import msgspec
import rfc8785

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import Path
from auditlog.core.chain.gates import answers_looked_at
from auditlog.core.chain.other_grant import other_grant
from auditlog.core.chain.record import Approval, Record
from auditlog.core.chain.statement import Grant, Token
from auditlog.core.event import encode_payload
from disputes.core.criteria import Contested, CriterionResult, Integrity, Policy, contested, judge
from disputes.core.criteria.limits import money_inputs
from disputes.core.liability import Liability, allocate

ENGINE = "answerable-engine/1"
VERDICTS = ("within_scope", "within_scope_unanticipated", "out_of_scope", "indeterminate")
Outcome = Literal["within_scope", "within_scope_unanticipated", "out_of_scope", "indeterminate"]
_INTENT = frozenset({"I1", "I2"})
_OF_GRANTS = frozenset({"C2", "C3", "C4", "C6", "C7", "C8", "C9", "C10"})
_SCOPE = tuple(f"C{number}" for number in range(2, 14))


@dataclass(frozen=True, slots=True)
class Verdict:
    event_id: str
    verdict: Outcome
    decisive: tuple[str, ...] | None  # criteria that failed for good, beside an `indeterminate`
    codes: tuple[str, ...]
    criteria: tuple[CriterionResult, ...]
    liability: Liability
    would_change: tuple[str, ...]
    digest: str  # hex SHA-256

    def as_json(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "verdict": self.verdict,
            "decisive": list(self.decisive) if self.decisive else None,
            "codes": list(self.codes),
            "criteria": [result.as_json() for result in self.criteria],
            "liability": self.liability.as_json(),
            "would_change": list(self.would_change),
            "digest": self.digest,
        }


WITHHELD = "not shown to an abuse desk"


def outline(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict's JSON as a provider's abuse desk reads it: what each criterion came to, and not why. Reasons, evidence,
    cures and the amount over a limit quote grants, limits and parties that are not the desk's to see.
    """
    return {
        "event_id": verdict["event_id"],
        "verdict": verdict["verdict"],
        "decisive": verdict["decisive"],
        "codes": verdict["codes"],
        "criteria": [
            {"id": each["id"], "name": each["name"], "result": each["result"], "reason": WITHHELD, "evidence": []}
            for each in verdict["criteria"]
        ],
        "liability": {
            "bearer": verdict["liability"]["bearer"],
            "basis": WITHHELD,
            "amount_minor": None,
            "currency": None,
        },
        "would_change": [],
        "digest": verdict["digest"],
    }


def reach(act: Act, record: Record, integrity: Integrity | None, policy: Policy) -> Verdict:
    """Judge one act and order the answers into a verdict."""
    it = contested(act, record, policy)
    results = judge(act, record, integrity, policy)
    by_id = {result.id: result for result in results}
    outcome = order(results)
    decisive = decisive_of(results) if outcome == "indeterminate" else None
    failed = (
        r for r in results if r.result == "fail" and (r.id not in _INTENT or outcome == "within_scope_unanticipated")
    )
    codes = tuple(dict.fromkeys(code for result in failed for code in result.codes))
    # The criteria that made the outcome speak; what lies behind them would not have changed it.
    cures = tuple(
        dict.fromkeys(by_id[name].cure for name in decisive or _deciding(outcome, results) if by_id[name].cure)
    )
    other = _allowed_by_another(it, outcome, results)
    if other is not None:
        outcome, codes = "within_scope_unanticipated", (*codes, "other_grant")
        cures = (f"within scope if it had been done under grant {other.grants[-1].id}", *cures)
    liability = allocate(outcome, by_id, it)
    digest = digest_of(it, outcome, decisive, codes, results, liability)
    return Verdict(act.event_id, outcome, decisive, codes, results, liability, cures, digest)


def _allowed_by_another(it: Contested, outcome: Outcome, results: Sequence[CriterionResult]) -> Path | None:
    """The path of a grant that the act did not cite and that would have allowed it, where only the terms of the grant
    that it cites put it out of scope: no token, no limit and no word of anybody else does.
    """
    failed = [result for result in results if result.result == "fail" and result.id in _SCOPE]
    unknown = any(result.result == "unknown" and result.id in _SCOPE for result in results)
    if (
        outcome != "out_of_scope"
        or unknown
        or not all(r.id in _OF_GRANTS and r.hop and "grant" in r.evidence[0] for r in failed)
    ):
        return None
    return other_grant(it.done, it.record)


def order(results: Sequence[CriterionResult]) -> Outcome:
    found = {result.id: result.result for result in results}
    if found["C0"] != "pass" or found["C1"] == "unknown":
        return "indeterminate"
    scope = {found[name] for name in _SCOPE}
    if found["C1"] == "fail" or "fail" in scope:
        return "out_of_scope"
    if "unknown" in scope:
        return "indeterminate"
    return "within_scope_unanticipated" if "fail" in (found["I1"], found["I2"]) else "within_scope"


def decisive_of(results: Sequence[CriterionResult]) -> tuple[str, ...] | None:
    """Fails on proven hops: a missing grant can only narrow, so none could cure them. None while C0 is in doubt."""
    if any(result.id == "C0" and result.result != "pass" for result in results):
        return None
    return tuple(r.id for r in results if r.id in _SCOPE and r.result == "fail" and r.stands) or None


def _deciding(outcome: Outcome, results: Sequence[CriterionResult]) -> list[str]:
    found = {result.id: result.result for result in results}
    if outcome == "out_of_scope":
        return ["C1"] if found["C1"] == "fail" else [name for name in _SCOPE if found[name] == "fail"]
    if outcome == "indeterminate":
        first = [name for name in ("C0", "C1") if found[name] not in ("pass", "na")]
        return first or [name for name in _SCOPE if found[name] == "unknown"]
    return [name for name in ("I1", "I2") if found[name] == "fail"] or ["I1"]


def digest_of(
    it: Contested,
    outcome: Outcome,
    decisive: tuple[str, ...] | None,
    codes: tuple[str, ...],
    results: Sequence[CriterionResult],
    liability: Liability,
) -> str:
    """Hex SHA-256 over the JCS (RFC 8785) of policy, engine, what was said of act and grants, and the results.

    Event ids and leaf indexes are left out: they are made with a tenant's own secret and by order of arrival, so
    another machine has others for the same statements. Sentences are left out too: they may be put better.
    """
    body = {
        "engine": ENGINE,
        "policy": it.policy.version,
        "act": statement_digest(it.act),
        "pays_for": statement_digest(it.done) if it.done is not it.act else None,
        "grants": [grant_digest(grant) for grant in it.path.grants],
        "missing": it.path.missing,
        "tokens": [
            token_digest(token) for token in (*([it.unstated_token] if it.unstated_token else ()), *it.tokens.tokens)
        ],
        "missing_token": it.tokens.missing,
        "answers": sorted(answer_digest(answer) for answer in answers_looked_at(it.done, it.record, it.path)),
        "held": [[grant_digest(grant) for grant in path.grants] for path in _looked_at(it)],
        "money": money_digest(it),
        "results": [[result.id, result.result] for result in results],
        "verdict": outcome,
        "decisive": list(decisive) if decisive else None,
        "codes": list(codes),
        "bearer": liability.bearer,
        # As text: JCS has no integers beyond 2**53.
        "amount": str(liability.amount_minor),
        "currency": liability.currency,
    }
    return sha256(rfc8785.dumps(body)).hexdigest()


def statement_digest(act: Act) -> str:
    """Hex SHA-256 of what the act's source said, without what only this ledger knows of it."""
    head = [act.type, act.source, act.issuer, act.occurred_at, act.txn, act.principal]
    return sha256(msgspec.json.encode(head) + b"\n" + encode_payload(act.payload)).hexdigest()


def grant_digest(grant: Grant) -> str:
    """Hex SHA-256 of a grant as it stands at the act's time, with its revocation, and with what had been known of it
    where it was stated anew after the act.
    """
    before = grant_digest(grant.known_before) if grant.known_before else None
    return _digest(
        grant,
        "id parent root subject actor details limits not_before expires_at audience max_depth redelegate gates intent jkt granted_at"
        " attester standing revoked_at",
        notified=dict(grant.notified),
        known_before=before,
        disputed=[[since, grant_digest(rival)] for since, rival in grant.disputed],
    )


def token_digest(token: Token) -> str:
    """Hex SHA-256 of a token as it stands, with its revocation."""
    return _digest(
        token,
        "jti standing parent grant subject actors audience scope issued_at expires_at jkt attester revoked_at disputed_by",
        notified=dict(token.notified),
    )


def answer_digest(answer: Approval) -> str:
    """Hex SHA-256 of an approval or refusal, without what only this ledger knows of it."""
    return _digest(
        answer, "kind by by_kind at over request_id max_price_minor currency answer principal issuer verb target"
    )


def _digest(of: object, names: str, **more: Any) -> str:
    """Hex SHA-256 of these fields and `more`, as JSON with sorted keys."""
    fields = {name: getattr(of, name) for name in names.split()}
    return sha256(msgspec.json.encode(fields | more, order="sorted")).hexdigest()


def _looked_at(it: Contested) -> list[Path]:
    """Grants beside those cited that a criterion looked at: whom the actor acted for puts its own on the path."""
    return [path for one in it.initiators for path in it.record.held.get(one.party.key, ())]


def money_digest(it: Contested) -> Any:
    """What C5 and liability looked at of money: limits and what was spent under them, by content, no ids of ours."""
    return money_inputs(it)
