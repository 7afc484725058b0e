"""Storms of refused attempts to pay: many within an hour, one after the other. Pure.

A card that is declined is tried again some days later, a few times. A hundred tries in an hour are a loop that costs nothing
yet, a stolen card that is tried out, or an agent that does not read what it is told.
"""

from collections.abc import Iterable
from datetime import timedelta

from auditlog.core.chain.act import Act

REFUSED_TYPES = frozenset(
    {"payment.failed", "payment.authorized", "payment.captured", "action.denied", "invoice.failed"}
)
WITHIN = timedelta(hours=1)


def is_refused(act: Act) -> bool:
    """An attempt to pay that somebody refused."""
    if act.type not in REFUSED_TYPES or act.environment != "live" or not act.principal:
        return False
    if act.type in ("payment.failed", "invoice.failed"):
        return True
    if act.type == "action.denied":
        return act.amount_minor is not None
    return act.outcome in ("failure", "denied")


def storms(acts: Iterable[Act], most: int) -> list[list[Act]]:
    """Attempts of one principal at one provider that follow each other within WITHIN, with `most` in one such stretch."""
    by_provider: dict[str, list[Act]] = {}
    for act in sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index)):
        if is_refused(act):
            by_provider.setdefault(act.provider, []).append(act)
    return [run for many in by_provider.values() for run in _runs(many) if _is_storm(run, most)]


def _runs(acts: list[Act]) -> Iterable[list[Act]]:
    run: list[Act] = []
    for act in acts:
        if run and act.occurred_at - run[-1].occurred_at > WITHIN:
            yield run
            run = []
        run.append(act)
    if run:
        yield run


def _is_storm(run: list[Act], most: int) -> bool:
    """By attempts: what two sources tell of one charge or request is one."""
    times = [act.occurred_at for act in _once(run)]
    return any(last - first <= WITHIN for first, last in zip(times, times[most - 1 :], strict=False))


def _once(run: Iterable[Act]) -> list[Act]:
    """The first statement of each charge or request."""
    first: dict[str, Act] = {}
    for act in run:
        first.setdefault(act.charge or act.request_id or act.event_id, act)
    return list(first.values())


def attempts_of(run: Iterable[Act]) -> int:
    return len(_once(run))
