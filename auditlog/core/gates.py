"""Gates: points where a human must decide, and whether one did.

An approval joins its act by `over`, else by `request_id`. It counts only if a human gave it, before the act, and it
is used once. A gate answered by an agent is not answered. Of two answers by humans the later one counts.
"""

from dataclasses import dataclass
from typing import Literal

from auditlog.core.act import Act
from auditlog.core.authority import gates_required, over_digests
from auditlog.core.event import moment
from auditlog.core.record import Approval, Record


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One required gate of one act: the approval that answers it, or why none does, and what there is in its place."""

    kind: str
    approval: Approval | None
    reason: str
    answer: Approval | None = None  # a refusal, an answer that does not count, or that it was asked for; None: nothing

    @property
    def state(self) -> Literal["approved", "refused", "not_counted", "asked", "unknown"]:
        if self.approval is not None:
            return "approved"
        if self.answer is None:
            return "unknown"
        return "not_counted" if self.answer.answer == "approved" else self.answer.answer


def check_gates(act: Act, record: Record) -> list[GateCheck]:
    """Every gate that the act's path lists for what it did. Empty when it needed none.

    A payment that pays for an act with the same charge is judged through that act.
    """
    required = gates_required(act)
    if not required or (act.is_payment and paid_by(act, record) is not None):
        return []
    return [_check(kind, act, record) for kind in sorted(required)]


def paid_by(payment: Act, record: Record) -> Act | None:
    if not payment.charge:
        return None
    for other in record.siblings_of(payment):
        if other.charge == payment.charge and other.rail == payment.rail and not other.is_payment:
            return other
    return None


def _check(kind: str, act: Act, record: Record) -> GateCheck:
    fitting = [a for a in _approvals(act, record) if a.kind == kind and _joins(a, act)]
    others = sorted((a for a in record.refusals if a.kind in (kind, "") and _joins(a, act)), key=lambda a: (a.at, a.leaf_index))
    said_no = [a for a in others if a.answer == "refused"]
    if not fitting:
        if said_no:
            return GateCheck(kind, None, f"the grant asks for a {kind} approval, and {_who(said_no[-1])} refused it", said_no[-1])
        # That it was asked for is not in the reason: it may come late, and nothing about the act is settled by it.
        reason = f"the grant asks for a {kind} approval, and none for this act is in the record"
        return GateCheck(kind, None, reason, others[-1] if others else None)
    refused = []
    for approval in sorted(fitting, key=lambda a: (a.at, a.leaf_index)):
        if approval.by_kind != "human":
            who = "an agent" if approval.by_kind == "agent" else f"a party of kind {approval.by_kind}"
            refused.append((f"{_who(approval)} answered the {kind} gate, and is {who}", approval))
        elif approval.at > act.occurred_at:
            refused.append((f"the {kind} approval was given after the act", approval))
        elif no := next((a for a in said_no if a.by_kind == "human" and approval.at < a.at <= act.occurred_at), None):
            refused.append((f"{_who(no)} refused the {kind} approval after it had been given, and before the act", no))
        elif _price_exceeds(approval, act):
            refused.append((f"the {kind} approval covers {approval.max_price_minor} minor units, the act took {act.amount_minor}", approval))
        elif (user := _used_by(approval, act, record)) is not None:
            refused.append((f"the {kind} approval was used by act {user.event_id} already", approval))
        else:
            return GateCheck(kind, approval, f"{approval.by} approved it")
    return GateCheck(kind, None, *refused[-1])


def _who(approval: Approval) -> str:
    return approval.by or "nobody named"


def _approvals(act: Act, record: Record) -> list[Approval]:
    own = own_approval(act, record)
    return [*record.approvals, *([own] if own else [])]


def own_approval(act: Act, record: Record) -> Approval | None:
    """The gate that the act itself carries, with its kind of party as the record knows it."""
    gate = act.payload.gate
    if gate is None or gate.by is None:
        return None
    known = record.kind_of(gate.by.key)
    intent = act.payload.intent
    return Approval(
        event_id=act.event_id,
        leaf_index=act.leaf_index,
        kind=gate.kind,
        by=gate.by.key,
        by_kind=known if known != "unknown" else gate.by.kind,
        at=moment(gate.at) if gate.at is not None else act.occurred_at,
        over=gate.over,
        request_id=act.request_id,
        max_price_minor=intent.max_price_minor if intent else None,
        currency=intent.currency if intent else None,
    )


def _joins(approval: Approval, act: Act) -> bool:
    if approval.over:
        return approval.over in _digests(act, approval)
    if approval.event_id == act.event_id:
        return True
    return bool(approval.request_id) and approval.request_id == act.request_id


def _digests(act: Act, approval: Approval) -> set[str]:
    """All that this act's parameters can hash to: the price may be the approval's, the intent's or the act's own."""
    prices = {(approval.max_price_minor, approval.currency), (None, None), (None, act.currency or None)}
    intents = [act.payload.intent, *(grant.intent for grant in act.path.grants)]
    prices |= {(intent.max_price_minor, intent.currency) for intent in intents if intent}
    if act.amount_minor is not None:
        prices.add((act.amount_minor, act.currency))
    return set().union(*(over_digests(act, price, currency) for price, currency in prices))


def _price_exceeds(approval: Approval, act: Act) -> bool:
    return (
        approval.max_price_minor is not None
        and act.amount_minor is not None
        and (approval.currency or act.currency).upper() == act.currency
        and act.amount_minor > approval.max_price_minor
    )


def _used_by(approval: Approval, act: Act, record: Record) -> Act | None:
    """The earlier act that this approval was used up by, if there is one."""
    if approval.event_id == act.event_id:
        return None
    for other in record.siblings_of(act):
        if other.event_id == act.event_id or not other.happened or other.is_payment:
            continue
        earlier = (other.occurred_at, other.leaf_index) < (act.occurred_at, act.leaf_index)
        own = other.payload.gate
        if earlier and other.occurred_at >= approval.at and not (own and own.by) and approval.kind in gates_required(other) and _joins(approval, other):
            return other
    return None
