"""C5: spending with this act against every limit in force."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from auditlog.core.limits import Crossing, LimitFact, Spent, binds, crossings, in_force, window_of
from auditlog.core.money import CREDIT_RAIL, amount_text
from auditlog.core.record import Record
from disputes.core.criteria.base import Contested, CriterionResult, Evidence


def limits(it: Contested) -> CriterionResult:
    """C5: the running sum with this act against every limit in force when its money moved.

    Sums are those of the one spend function, over the limit's own interval. A raise by the limit's holder or by
    anybody below it is not the human's: what stood before it stands.
    """
    own = _own_spending(it)
    if own is None:
        return CriterionResult("C5", "na", "the act spent nothing")
    if own.rail == CREDIT_RAIL:
        return CriterionResult("C5", "na", "credits are not counted against limits in money")
    applicable = _applicable(it)
    facts, refused = _authorised(applicable, it.record)
    standing = [fact for fact in in_force(facts, own.at).values() if fact.max_minor is not None]
    if not standing:
        if refused and not facts:
            return CriterionResult("C5", "unknown", f"{_raise_text(refused[-1])}, and what stood before is not in the record",
                                   _limit_evidence(refused), cure="the limit before that raise would decide")  # fmt: skip
        return CriterionResult("C5", "pass", "no limit bound this spending")
    if all(fact.currency != own.currency for fact in standing):
        others = ", ".join(sorted({fact.currency for fact in standing}))
        return CriterionResult("C5", "unknown", f"the limits are in {others}, the act spent {own.currency}, and no rate is on record",
                               _limit_evidence(standing), cure=f"a recorded rate from {own.currency} to {others} would decide")  # fmt: skip
    since = _since(standing, own)
    before = [s for s in it.record.spending if s.at >= since and (s.at, s.leaf_index) < (own.at, own.leaf_index)]
    over = [c for c in crossings(facts, [*before, own]) if own in c.counted]
    if not over:
        return CriterionResult("C5", "pass", f"with this act, spending stays within {len(standing)} limit{'s' if len(standing) > 1 else ''}", _limit_evidence(standing))
    return _overrun(it, own, over, refused)


def _overrun(it: Contested, own: Spent, over: list[Crossing], refused: list[LimitFact]) -> CriterionResult:
    over.sort(key=lambda c: (-c.over_minor, c.limit.key))
    most = over[0]
    by, sums = amount_text(most.over_minor, own.currency), amount_text(most.spent_minor, own.currency)
    name = f"{most.limit.scope} limit" + (f" at {most.provider}" if most.provider else "")
    reason = f"{sums} against the {name} of {amount_text(most.limit.max_minor or 0, own.currency)}: over by {by}, crossed by {most.crossed_by.event_id}"
    evidence: list[Evidence] = []
    for crossing in over:
        evidence += _limit_evidence([crossing.limit])
        evidence.append({"event_id": crossing.crossed_by.event_id, "leaf": crossing.crossed_by.leaf_index})
    if refused:
        reason += f"; {_raise_text(refused[-1])}, which is no authority of the human's"
        evidence += _limit_evidence(refused)
    hop = _hopof_path(it, most.limit)
    return CriterionResult(
        "C5", "fail", reason, tuple(dict(pair) for pair in dict.fromkeys(tuple(item.items()) for item in evidence)),
        ("over_limit",), f"out of scope by {by} on the {name}", hop, hop == 0 or it.proven_at(hop),
        min(own.spent_minor, most.over_minor),
    )  # fmt: skip


def _since(standing: Iterable[LimitFact], own: Spent) -> datetime:
    """Nothing spent before this counts in any interval that holds the act; a day to spare where zones changed."""
    starts = [window_of(fact, own.at) for fact in standing if binds(fact, own)]
    if not starts or None in starts:
        return datetime.min.replace(tzinfo=UTC)
    return min(starts) - timedelta(days=1)


def _own_events(it: Contested) -> set[str]:
    """The act and what else tells of its charge: they are one spending."""
    act = it.act
    same = {o.event_id for o in it.record.siblings_of(act) if act.charge and (o.rail, o.charge) == (act.rail, act.charge)}
    joined = [spent.joined for spent in it.record.spending if act.event_id in spent.joined]
    return {act.event_id} | same.union(*joined)


def _own_spending(it: Contested) -> Spent | None:
    """What the act spent: its charge as the spend function counts it; for an authorization still open, the hold."""
    act = it.act
    if not act.spends:
        return None
    mine = _own_events(it)
    told = [s for s in it.record.spending if s.event_id in mine and s.currency == act.currency]
    charge = min(told, key=lambda spent: (spent.at, spent.leaf_index), default=None)
    if charge is None:
        parties = {*it.path.parties, act.actor, act.principal} - {""}
        charge = Spent(
            act.event_id, act.leaf_index, act.occurred_at, it.provider, act.currency, act.amount_minor or 0,
            0, act.rail, frozenset(parties), frozenset(g.id for g in it.path.grants), act.session, act.task, act.project,
        )  # fmt: skip
    elif act.phase == "authorized" and charge.spent_minor == 0:
        charge = replace(charge, spent_minor=charge.authorized_minor or act.amount_minor or 0)
    return charge


def _applicable(it: Contested) -> list[LimitFact]:
    """Limits of the path's grants, and those said on their own of anybody on the path or of the principal."""
    grants = {grant.id for grant in it.path.grants}
    holders = {*it.path.parties, it.act.principal} - {""}
    facts = [f for f in it.record.limits if (f.grant in grants if f.verb == "grant" else f.holder in holders)]
    return sorted(facts, key=lambda fact: (fact.at, fact.leaf_index, fact.key))


def _authorised(facts: Iterable[LimitFact], record: Record) -> tuple[list[LimitFact], list[LimitFact]]:
    """Facts that count, and the raises that do not: those by the holder or one of its descendants."""
    counted: list[LimitFact] = []
    refused: list[LimitFact] = []
    stands: dict[tuple[str, ...], LimitFact] = {}
    for fact in facts:
        before = stands.get(fact.key)
        if fact.verb != "grant" and _raises(fact, before) and _by_holder(fact, record):
            refused.append(fact)
            continue
        counted.append(fact)
        if fact.verb != "reached":
            stands[fact.key] = fact
    return counted, refused


def _raises(fact: LimitFact, before: LimitFact | None) -> bool:
    if before is None:
        return fact.verb == "raised"
    if before.max_minor is None or fact.verb == "reached":
        return False
    return fact.max_minor is None or fact.max_minor > before.max_minor


def _by_holder(fact: LimitFact, record: Record) -> bool:
    """Whether a raise came from below. A human who raises a budget of their own gives authority by it."""
    if not fact.set_by or record.kind_of(fact.set_by) == "human":
        return False
    return fact.set_by == fact.holder or fact.holder in record.lineage.get(fact.set_by, frozenset())


def _raise_text(fact: LimitFact) -> str:
    to = "no limit" if fact.max_minor is None else amount_text(fact.max_minor, fact.currency)
    return f"{fact.set_by} raised it to {to}"


def _limit_evidence(facts: Iterable[LimitFact]) -> tuple[Evidence, ...]:
    return tuple(
        {"event_id": f.event_id, "leaf": f.leaf_index} | ({"grant": f.grant} if f.verb == "grant" else {}) for f in facts
    )


def _hopof_path(it: Contested, limit: LimitFact) -> int | None:
    if limit.verb == "grant":
        return next((n for n, grant in enumerate(it.path.grants, start=1) if grant.id == limit.grant), None)
    held = (n for n, grant in enumerate(it.path.grants, start=1) if grant.actor and grant.actor.key == limit.holder)
    return next(held, 0)
