"""I2: could the principal have foreseen it, by what they did before."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta

from auditlog.core.acts.repeat import past_of
from auditlog.core.acts.task import tasks_of
from auditlog.core.chain.gates import asked_for, assent_to, check_gates
from auditlog.core.chain.intent import is_listed
from auditlog.core.money.money import amount_text
from disputes.core.criteria.base import Contested, CriterionResult
from disputes.core.criteria.intent import told_around

ENOUGH = 20  # earlier acts, before anything can be called unusual
OCCASION = timedelta(hours=1)  # what lies within it is one occasion: the fortieth of a burst is as new as the first
BURST = 10  # acts of a kind within an occasion
PERCENTILE = 0.95
RECENT = 1_000  # amounts that are compared with


@dataclass(frozen=True, slots=True)
class Habits:
    """What a principal's agents did, as lookups by time."""

    times: list[datetime]
    by_verb: dict[str, list[datetime]]
    busiest: dict[str, list[int]]  # by verb: the most of the first n that lay within one occasion
    providers: dict[str, datetime]  # when each was first used
    amounts: dict[str, list[tuple[datetime, int]]]  # by currency


def foreseeable(it: Contested, asked: CriterionResult) -> CriterionResult:
    """I2: two independent signs that nobody saw it coming, one of them by comparison with at least ENOUGH earlier acts.

    `asked` is I1's answer: what equals an explicit target within the intent was foreseen, and so was what a human approved.
    """
    done, stated = it.done, asked_for(it.done, it.record)
    if not it.act.happened:
        return CriterionResult("I2", "na", f"it had no effect (outcome {it.act.outcome})")
    if stated is not None and not stated.by_actor and asked.result != "fail" and is_listed(done, stated.intent):
        return CriterionResult("I2", "na", f"{done.object} was asked for by name")
    if _approved(it):
        return CriterionResult("I2", "na", "a human approved this very act")
    irreversible = any(act.payload.action is not None and act.payload.action.irreversible for act in (it.act, done))
    if not irreversible and not it.act.spends:
        return CriterionResult("I2", "pass", "it cost nothing, and nothing says that it cannot be undone")
    habits = _habits(it)
    since = done.occurred_at - OCCASION
    before = bisect_left(habits.times, since)
    if before < ENOUGH:
        return CriterionResult("I2", "unknown", f"{before} earlier acts of this principal are on record, and {ENOUGH} are needed to tell",
                               cure=f"{ENOUGH} earlier acts of the principal would decide")  # fmt: skip
    signs = [sign for sign in (_first_use(it, habits, since), _amount(it, habits), _burst(it, habits, since)) if sign]
    if signs and irreversible:
        signs.append("it cannot be undone")
    here = ({"event_id": done.event_id, "leaf": done.leaf_index},)
    if len(signs) > 1:
        return CriterionResult(
            "I2",
            "fail",
            "; ".join(signs),
            here,
            ("unforeseen",),
            "anticipated if a human had approved this act, or named it",
        )
    reason = (
        signs[0] + ", and nothing else was unusual" if signs else f"nothing was unusual against {before:,} earlier acts"
    )
    return CriterionResult("I2", "pass", reason, here)


def _approved(it: Contested) -> bool:
    checks = check_gates(it.done, it.record)
    if checks and all(check.approval is not None for check in checks):
        return True
    yes = assent_to(it.done, it.record)
    return yes is not None and yes.by_digest


def _habits(it: Contested) -> Habits:
    principal, acts = told_around(it)
    found = it.record.memory.get(("habits", principal))
    if found is None:
        done = sorted(
            (act for act in acts if act.is_act and act.happened), key=lambda act: (act.occurred_at, act.leaf_index)
        )
        by_verb: dict[str, list[datetime]] = {}
        providers: dict[str, datetime] = {}
        for act in done:
            by_verb.setdefault(act.verb or act.operation, []).append(act.occurred_at)
            providers.setdefault(act.provider, act.occurred_at)
        amounts: dict[str, list[tuple[datetime, int]]] = {}
        for taking in past_of(it.record, principal, acts).takings:
            amounts.setdefault(taking.currency, []).append((taking.at, taking.amount_minor))
        found = it.record.memory["habits", principal] = Habits(
            [act.occurred_at for act in done],
            by_verb,
            {verb: _busiest(times) for verb, times in by_verb.items()},
            providers,
            amounts,
        )
    return found


def _first_use(it: Contested, habits: Habits, since: datetime) -> str:
    verb, provider = it.done.verb or it.done.operation, it.provider
    if (
        verb
        and not _names(it.path.grants[0].details if it.path.grants else None, verb)
        and _first(habits.by_verb.get(verb), since)
    ):
        return f"{verb} had never been done for this principal"
    first = habits.providers.get(provider)
    return (
        f"{provider} had never been used for this principal" if provider and (first is None or first >= since) else ""
    )


def _first(times: list[datetime] | None, since: datetime) -> bool:
    return not times or times[0] >= since


def _names(details, verb: str) -> bool:
    """Whether the human's own grant allows exactly this, by name: then it was foreseen."""
    return any(verb in detail.actions for detail in details or ())


def _amount(it: Contested, habits: Habits) -> str:
    act = it.act
    if act.amount_minor is None or not act.spends:
        return ""
    earlier = habits.amounts.get(act.currency, [])
    known = [amount for _, amount in earlier[: bisect_left(earlier, (it.done.occurred_at, -1))]][-RECENT:]
    if len(known) < ENOUGH:
        return ""
    most = sorted(known)[int(PERCENTILE * (len(known) - 1))]
    return (
        f"{amount_text(act.amount_minor, act.currency)} is more than {PERCENTILE:.0%} of what was spent before"
        if act.amount_minor > most
        else ""
    )


def _burst(it: Contested, habits: Habits, since: datetime) -> str:
    done = it.done
    verb = done.verb or done.operation
    # Calls come in bursts by nature, and what a human asked for in number was asked for.
    counted = tasks_of(it.record, *told_around(it)).count_of(it.act)
    if done.type == "usage.metered" or not verb or (counted is not None and not counted.is_over):
        return ""
    times = habits.by_verb.get(verb, [])
    start, end = bisect_left(times, since), bisect_left(times, done.occurred_at + timedelta(microseconds=1))
    number = end - start
    usual = habits.busiest[verb][start] if verb in habits.busiest else 0
    return (
        f"{number} of them within {int(OCCASION.total_seconds() // 60)} minutes"
        if number >= BURST and number > 3 * usual
        else ""
    )


def _busiest(times: list[datetime]) -> list[int]:
    """For each n, the most of the first n times that lay within one occasion."""
    found, begin = [0], 0
    for end, at in enumerate(times):
        while at - times[begin] > OCCASION:
            begin += 1
        found.append(max(found[-1], end - begin + 1))
    return found
