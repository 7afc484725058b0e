"""Criteria: sixteen tri-state questions about one act, answered from the record alone.

`judge` answers them in their fixed order, C0 to C13, then I1 and I2. A grant that the record lacks can only take
authority away, never add any. So with a missing parent a `fail` stays a `fail`, while a `pass` becomes `unknown`.
"""

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from disputes.core.criteria.base import (
    NAMES,
    Contested,
    CriterionResult,
    Evidence,
    Integrity,
    Policy,
    by_path,
    contested,
)
from disputes.core.criteria.binding import actor_binding
from disputes.core.criteria.chain import chain_complete
from disputes.core.criteria.foreseen import foreseeable
from disputes.core.criteria.gate import gates
from disputes.core.criteria.integrity import integrity_of
from disputes.core.criteria.intent import intent
from disputes.core.criteria.limits import limits
from disputes.core.criteria.replay import own_power, replay
from disputes.core.criteria.scope import action, attenuation, audience, depth, resource
from disputes.core.criteria.validity import revocation, window

__all__ = ["NAMES", "Contested", "CriterionResult", "Evidence", "Integrity", "Policy", "contested", "judge"]


def judge(act: Act, record: Record, integrity: Integrity | None, policy: Policy) -> tuple[CriterionResult, ...]:
    """Answer every criterion for one act, in order C0 to C13, I1, I2. `integrity` None: the leaf was not checked."""
    it = contested(act, record, policy)
    chain, asked = chain_complete(it), intent(it)
    return (
        integrity_of(act, integrity),
        chain,
        *(by_path(it, chain, answer) for answer in (attenuation, action, resource, limits, window, audience, gates)),
        *(by_path(it, chain, answer) for answer in (revocation, depth)),
        actor_binding(it),
        own_power(it),
        replay(it),
        asked,
        foreseeable(it, asked),
    )
