"""squatting.bulk_registration: more names than this principal could be expected to register.

People buy names in small batches at irregular times, so counts are modelled as compound Poisson: batches arrive at a
rate learned from the principal's own past (Gamma prior of one batch a week, so that day one works), and batch sizes
are geometric with a mean learned the same way. A window whose count has a tail probability below the threshold is
more than that. Several windows are tried, so the threshold is divided among them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import exp, log, sqrt

from auditlog.core.advice import Facts, for_long, left_until
from auditlog.core.chain.act import Act
from auditlog.core.chain.intent import stated_intent
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.core.names import domain
from auditlog.detectors.base import finding

rule = "squatting.bulk_registration"
version = 2
title = "Far more names were registered than expected"
runbook = (
    "Stop the grant, then look at the names as one cluster: shared tokens, templates, marks of others. Most can be "
    "deleted inside the add grace period; ask the human before the clock runs out."
)
false_positives = "A portfolio move or a planned defensive purchase that no approved plan lists."
of_events = frozenset({"title", "money_at_risk", "names", "undo_until"})
types = frozenset({"domain.registered"})
partition = ("principal",)
waits = False

WINDOWS = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(days=30))
THRESHOLD = 1e-5 / len(WINDOWS)
SAME_BATCH = timedelta(minutes=30)
ADD_GRACE = timedelta(days=5)  # ICANN Add Grace Period
PRIOR_PERIOD = timedelta(days=7)  # one batch in this time, before anything is known
PRIOR_BATCHES, PRIOR_NAMES = 4.0, 8.0  # as if four batches of two names had been seen


def advise(facts: Facts, now: datetime | None) -> str:
    """Each name can be given back within its own grace: the last one's is the last chance."""
    last = facts.time("undo_until")
    stop = "Stop the grant, then look at the names as one cluster: shared tokens, templates, marks of others."
    if last is None:
        return runbook
    if now is not None and now >= last:
        return f"{stop} None can be deleted for its price back any more: the add grace period ran {left_until(last, now)}. Let them expire, or hand them over."
    return f"{stop} Ask the human, and have what is not wanted deleted: the last of them can be given back {left_until(last, now)} (add grace period)."


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    bought = sorted((act for act in acts if _counts(act, record)), key=lambda act: (act.occurred_at, act.leaf_index))
    flagged = _flagged(bought)
    group: list[int] = []
    for place in sorted(flagged):
        if group and bought[place].occurred_at - bought[group[-1]].occurred_at > max(
            SAME_BATCH, min(flagged[place], flagged[group[-1]])
        ):
            yield _finding([bought[i] for i in group])
            group = []
        group.append(place)
    if group:
        yield _finding([bought[i] for i in group])


def _counts(act: Act, record: Record) -> bool:
    """Own marks under other endings and names that the intent lists are planned, and do not count."""
    if act.environment != "live" or act.outcome != "success":
        return False
    try:
        name = domain.parse(act.object)
    except ValueError:
        return True
    stated = stated_intent(act)
    if stated and not stated.by_actor and any(_is(target, name) for target in stated.intent.targets):
        return False
    return not any(owned.belongs_to(act.principal) and _is_mark(owned.name, name) for owned in record.owned)


def _is(target: str, name: domain.Name) -> bool:
    try:
        return domain.parse(target).registrable == name.registrable
    except ValueError:
        return False


def _is_mark(owned: str, name: domain.Name) -> bool:
    try:
        return domain.parse(owned).label == name.label
    except ValueError:
        return False


def _flagged(bought: Sequence[Act]) -> dict[int, timedelta]:
    """Places of the acts inside any window that holds more than expected, with the shortest such window: a burst hangs
    together by minutes, and a slow drip by the day or month in which it is too much.
    """
    flagged: dict[int, timedelta] = {}
    for window in WINDOWS:
        start = 0
        for end in range(len(bought)):
            while bought[end].occurred_at - bought[start].occurred_at > window:
                start += 1
            count = end - start + 1
            if count >= 3 and tail(count, bought[:start], bought[start], window) < THRESHOLD:
                for place in range(start, end + 1):
                    flagged.setdefault(place, window)
    return flagged


def tail(count: int, before: Sequence[Act], first: Act, window: timedelta) -> float:
    """Probability of at least `count` names in `window`, given the principal's past before it."""
    batches, names = 0, len(before)
    for place, act in enumerate(before):
        if place == 0 or act.occurred_at - before[place - 1].occurred_at > SAME_BATCH:
            batches += 1
    past = first.occurred_at - before[0].occurred_at if before else timedelta()
    rate = (1 + batches) / (PRIOR_PERIOD + past).total_seconds()
    mean_size = (PRIOR_NAMES + names) / (PRIOR_BATCHES + batches)
    # The window begins with a purchase, so one batch is certain; more arrive at the rate.
    return compound_tail(count, rate * window.total_seconds(), min(0.9, 1 - 1 / mean_size)) + geometric_tail(
        count, min(0.9, 1 - 1 / mean_size)
    ) * min(1.0, rate * window.total_seconds())


def geometric_tail(count: int, more: float) -> float:
    """P(one batch has at least `count` names), each name being followed by another with probability `more`."""
    return more ** (count - 1)


def compound_tail(count: int, batches: float, more: float) -> float:
    """Bound on P(at least `count` names) when batches are Poisson and sizes geometric (Chernoff, at its best point).

    A bound, not the exact sum: it errs towards silence, and costs the same for four names and for four thousand.
    """
    if batches <= 0 or more <= 0:
        return 0.0 if batches <= 0 else 1.0
    middle = 2 * count * more + batches * (1 - more)
    point = (middle - sqrt(middle * middle - (2 * count * more) ** 2)) / (2 * count * more * more)
    if point <= 1:
        return 1.0  # so many are expected
    grown = (1 - more) * point / (1 - more * point)
    return min(1.0, exp(batches * (grown - 1) - count * log(point)))


def _finding(group: Sequence[Act]) -> Finding:
    anchor = min(group, key=lambda act: act.leaf_index)
    currencies = {act.currency for act in group if act.amount_minor is not None}
    total = sum(act.amount_minor or 0 for act in group) if len(currencies) == 1 else None
    span = for_long(group[-1].occurred_at - group[0].occurred_at + timedelta(seconds=59))
    price = f" for {amount_text(total, next(iter(currencies)))}" if total is not None else ""
    return finding(
        rule,
        f"{anchor.principal} {anchor.event_id}",
        group,
        severity="high" if len(group) >= 20 else "medium",
        title=f"{len(group)} name{'s were' if len(group) > 1 else ' was'} registered within {span}{price}",
        money_at_risk_minor=total,
        currency=next(iter(currencies)) if total is not None else None,
        evidence={
            "names": [act.object for act in group[:200]],
            "undo_until": (group[-1].occurred_at + ADD_GRACE).isoformat(),
        },
    )
