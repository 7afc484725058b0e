"""Liability: who bears an act by default, once it is judged. An allocation under policy, not legal advice.

Separate from the verdict on purpose: that an act was out of scope does not say whose fault it was. What a provider
could see in the grant it was shown is the provider's; what only the operator or orchestrator could see is theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auditlog.core.acts.repeat import past_of
from auditlog.core.amount import minor
from auditlog.core.chain.use import paid_together
from auditlog.core.money.limits import Minor
from disputes.core.criteria import Contested, CriterionResult
from disputes.core.criteria.intent import told_around

# A grant that the last hop itself exceeds was in front of the provider when it acted.
_SHOWN = ("C3", "C4", "C6", "C7")


@dataclass(frozen=True, slots=True)
class Liability:
    """`bearer`: principal | provider | orchestrator | agent_operator | gate_runner | fraud_track | record_keeper | nobody."""

    bearer: str
    basis: str  # a sentence
    amount_minor: int | None  # minor units of `currency`; None: nothing is allocated
    currency: str | None
    # The first statement of the money that this is of: an act and its payment, or two sources' word for one charge, are
    # one line, and are added once.
    line: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "bearer": self.bearer,
            "basis": self.basis,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
        }


def allocate(verdict: str, results: Mapping[str, CriterionResult], it: Contested) -> Liability:
    """The default bearer of one act. `results` by criterion id."""
    act = it.act
    if not act.happened:
        return Liability(
            "nobody", f"the act had no effect (outcome {act.outcome}), so there is nothing to bear", None, None
        )
    if (
        verdict == "indeterminate"
        and it.done is act
        and not (act.grant or act.token or act.actor)
        and (together := paid_together(act, it.record))
    ):
        return Liability(
            "nobody", f"it is the money of {len(together)} acts: each of them is borne by itself", None, None
        )
    if verdict == "indeterminate":
        return Liability(*_missing(results), None, None)
    bearer, basis = _within(verdict, results) if verdict.startswith("within") else _outside(results, it)
    if not act.spends or act.amount_minor is None:
        return Liability(bearer, basis, None, None)
    failed = [result.id for result in results.values() if result.result == "fail" and result.id.startswith("C")]
    part = (
        results["C5"].over_minor
        if failed == ["C5"]
        else results["I1"].over_minor
        if not failed and bearer == "agent_operator"
        else None
    )
    net, line = _net(it)
    return Liability(bearer, basis, minor(net if part is None else min(part, net)), act.currency, line)


def _net(it: Contested) -> tuple[Minor, str]:
    """What the act took, less what came back of it; and the line that it is of."""
    principal, acts = told_around(it)
    taking = past_of(it.record, principal, acts).taking_of(it.act)
    amount = it.act.exact_minor or 0
    if taking is None or taking.currency != it.act.currency:
        return amount, it.act.event_id
    return min(amount, taking.net_minor), taking.first.event_id


def _within(verdict: str, results: Mapping[str, CriterionResult]) -> tuple[str, str]:
    """What nobody was asked for twice nobody owes twice: the excess is the operator's, and what was asked the principal's."""
    codes = results["I1"].codes
    if "repeat" in codes:
        return "agent_operator", "the same thing was charged again: the agent's operator sent it again"
    if "price_exceeded" in codes and results["I1"].over_minor is not None:
        return (
            "agent_operator",
            "above the price that was asked for: the excess only; what lies within it is the principal's",
        )
    if "price_exceeded" in codes or "quantity_exceeded" in codes:
        return "agent_operator", "more than was asked for: the agent's operator answers for the excess"
    if "loop" in codes:
        return "agent_operator", "a repeat of a loop, allowed one by one: the agent's operator answers for repeats"
    if verdict == "within_scope":
        return "principal", "within scope: the charge stands"
    return (
        "principal",
        "within scope, not anticipated: the principal bears it towards the provider; an operator that hid the choice shares",
    )


def _missing(results: Mapping[str, CriterionResult]) -> tuple[str, str]:
    unknown = next((r for r in results.values() if r.result == "unknown" and r.cure and r.id not in ("I1", "I2")), None)
    if results["C0"].result == "fail":
        return "record_keeper", "the record of the act is not what was signed: its keeper answers for that"
    if unknown is None:
        return "nobody", "what is missing is nobody's to keep"
    return "record_keeper", f"{unknown.reason}; if it stays missing, whoever had to keep it bears it"


def _outside(results: Mapping[str, CriterionResult], it: Contested) -> tuple[str, str]:
    """The first row that fits. What the provider was shown comes first: it could have refused."""
    failed = {result.id: result for result in results.values() if result.result == "fail"}
    last = len(it.path.grants)
    if "C1" in failed:
        return "fraud_track", "no authority: freeze, and the network's fraud process"
    if "C13" in failed:
        return (
            "provider",
            f"{it.provider or 'the provider'} charged one idempotency key twice, and should have answered with the first charge",
        )
    shown = next((failed[c] for c in _SHOWN if c in failed and failed[c].hop == last), None)
    if shown is not None:
        return "provider", f"{shown.id} was visible in the grant that {it.provider or 'the provider'} was shown"
    hidden = next((failed[c] for c in ("C2", *_SHOWN, "C10") if c in failed), None)
    if hidden is not None:
        return (
            "agent_operator",
            f"{hidden.id} was not visible outside: {_operator(it, failed.get('C2') or hidden)} answers for the hop",
        )
    if "C9" in failed and "revoked" in failed["C9"].codes:
        return "provider", f"{it.provider or 'the provider'} had notice of the revocation, and grace was over"
    if "C9" in failed and "revocation_not_passed_on" in failed["C9"].codes:
        return (
            it.policy.passes_on,
            f"the revocation was not passed on to {it.provider or 'the provider'} in time: whoever had to pass it on answers",
        )
    if "C8" in failed and "refused" in failed["C8"].codes:
        return "agent_operator", "it was refused, and done all the same: the operator of the acting agent answers"
    if "C8" in failed:
        return "gate_runner", "the gate was not answered by a human: whoever ran it answers"
    if "C5" in failed and "authority_exceeded" in failed["C5"].codes:
        return (
            "provider",
            f"the ceiling was in the payment authority that {it.provider or 'whoever took the payment'} was shown: the excess only",
        )
    if "C5" in failed:
        return "orchestrator", "over a limit that the orchestrator keeps: the overrun only"
    return (
        "principal",
        "revocation race: before notice the principal bears it, or the operator where a contract says so",
    )


def _operator(it: Contested, failed: CriterionResult) -> str:
    """Who gave too much: the giver of the grant at the failing hop."""
    if failed.hop is None or not 1 <= failed.hop <= len(it.path.grants):
        return "the operator"
    giver = it.path.grants[failed.hop - 1].subject
    return f"the operator of {giver.key}" if giver and failed.hop > 1 else "the operator of the acting agent"
