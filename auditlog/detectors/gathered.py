"""Gathered findings: what a rule finds of single events that have one cause is one finding with all of them as members.

A detector with `gathers = True` anchors what it finds on the cause (a revoked grant, a refusal). `detect.py` judges every
member again when one of them is touched, and gathers what is found here: order of arrival and batches do not matter.
"""

from collections.abc import Sequence

from auditlog.core.finding import SEVERITIES, Finding


def gather(found: Sequence[Finding]) -> Finding:
    """One finding of those with one anchor. It tells of the worst member, and of all their money."""
    ordered = sorted(found, key=lambda f: (f.first_at, f.leaves))
    if len(ordered) == 1:
        return ordered[0]
    worst = max(
        ordered, key=lambda f: (SEVERITIES.index(f.severity), f.evidence.get("seconds_late") or 0, f.last_at, f.leaves)
    )
    sums: dict[str, int] = {}
    for one in ordered:
        if one.money_at_risk_minor is not None and one.currency:
            sums[one.currency] = sums.get(one.currency, 0) + one.money_at_risk_minor
    currency, amount = next(iter(sums.items())) if len(sums) == 1 else (None, None)
    more = {"acts": len(ordered)} | ({"money_by_currency": dict(sorted(sums.items()))} if len(sums) > 1 else {})
    return Finding(
        rule=worst.rule,
        anchor=worst.anchor,
        severity=worst.severity,
        title=f"{len(ordered)} acts: the worst, {worst.title}",
        events=tuple(event for one in ordered for event in one.events),
        leaves=tuple(leaf for one in ordered for leaf in one.leaves),
        first_at=ordered[0].first_at,
        last_at=max(one.last_at for one in ordered),
        principal=_common([one.principal for one in ordered]),
        actor=_common([one.actor for one in ordered]),
        grant=_common([one.grant for one in ordered]),
        provider=_common([one.provider for one in ordered]),  # acts at several providers are no single desk's to read
        money_at_risk_minor=amount,
        currency=currency,
        evidence=worst.evidence | more,
    )


def _common(values: Sequence[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None


def span(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
