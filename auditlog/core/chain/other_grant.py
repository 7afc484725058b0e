"""Another grant: an act is judged under the grant it cites, and may have been allowed by one that it did not cite."""

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import allows
from auditlog.core.chain.chain import Path
from auditlog.core.chain.gates import check_gates, standing_refusal
from auditlog.core.chain.record import Record


def other_grant(act: Act, record: Record) -> Path | None:
    """The path of another proven grant of the same principal and actor, on record before the act, that would have
    allowed it with its limits and gates. None where that is not certain.
    """
    if not act.path.ends_at_root or act.path.principal is None or standing_refusal(act, record) is not None:
        return None
    for path in record.others.get(act.actor, ()):
        last = path.grants[-1] if path.grants else None
        if (
            last is None
            or last.id == act.path.grants[-1].id
            or path.principal is None
            or path.principal.key != act.path.principal.key
        ):
            continue
        known = all(
            g.known_leaf is not None and g.known_leaf < act.leaf_index and g.known_at is not None and g.known_at <= act.received_at
            and g.granted_at <= act.occurred_at for g in path.grants
        )  # fmt: skip
        if not (known and allows(path, act, surely=True) and _has_room(path, act, record)):
            continue
        if all(check.result == "pass" for check in check_gates(act, record, path)):
            return path
    return None


def _has_room(path: Path, act: Act, record: Record) -> bool:
    """Whether all that was ever spent under a limit of these grants leaves room for the act. Stricter than the limits
    themselves, which count an interval: what is not certain to fit does not.
    """
    limits = [(grant.id, limit) for grant in path.grants for limit in grant.limits or () if limit.max_minor is not None]
    if not limits or act.amount_minor is None:
        return True
    for grant, limit in limits:
        if limit.currency.upper() != act.currency:
            return False
        spent = sum(
            s.spent_minor + s.authorized_minor
            for s in record.spending
            if grant in s.grants and s.event_id != act.event_id
        )
        if spent + act.amount_minor > limit.max_minor:
            return False
    return True
