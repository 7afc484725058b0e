"""What kind a party is, when several sources say so. A bit mask, so that order of arrival cannot matter.

A kind said by a source that may speak for the party's issuer counts before any other's word; within one standing the
more restrictive kind wins, so that an agent cannot become human by being called one.
"""

from auditlog.core.event import Kind

_BITS: dict[str, int] = {"agent": 1, "workload": 2, "service": 4, "human": 8}
_PROVEN = 4  # shift


def said(kind: str, *, proven: bool) -> int:
    bit = _BITS.get(kind, 0)
    return bit << _PROVEN if proven else bit


def kind_of(mask: int) -> Kind:
    for half in (mask >> _PROVEN, mask & 0b1111):
        for kind, bit in _BITS.items():
            if half & bit:
                return kind  # type: ignore[return-value]  # the keys are the kinds
    return "unknown"


def split_party(key: str) -> dict[str, str] | None:
    if not key:
        return None
    issuer, _, subject = key.partition("|")
    return {"iss": issuer, "sub": subject}
