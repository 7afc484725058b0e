"""C5: spending with this act against every limit in force, and against its payment authority."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from auditlog.core.chain.record import Record
from auditlog.core.money.limits import Ledger, LimitFact, Spent, Step
from auditlog.core.money.money import CREDIT_RAIL, amount_text, minor
from auditlog.core.money.payment_authority import OverAuthority
from disputes.core.criteria.base import Contested, CriterionResult, Evidence


def limits(it: Contested) -> CriterionResult:
    """C5: what had been spent and was authorized with this act, against every limit in force when it was done.

    The same ledgers as `spend.cap_exceeded` reads. What only warns (`alert_only`) makes nothing out of scope. A raise by
    the limit's holder, or by anybody below it, is not the human's: what stood before it stands.
    """
    act = it.act
    if not act.spends:
        return CriterionResult("C5", "na", "the act spent nothing")
    if act.rail == CREDIT_RAIL:
        return CriterionResult("C5", "na", "credits are not counted against limits in money")
    record, own = own_lines(it)
    if not own:
        return CriterionResult("C5", "na", "its money is counted where it was incurred, and judged there")
    beyond = [each for each in beyond_authority(record, own) if each.ended is None]
    over_authority = [each for each in beyond if not each.doubt]
    ledgers = record.ledgers_on(own)
    steps = [
        step for ledger in ledgers for line in own for step in ledger.of(line) if not _only_warns(step.standing.limit)
    ]
    over = [step for step in steps if step.is_over]
    if over:
        return _overrun(it, own, over)
    if over_authority:
        return _over_authority(it, over_authority)
    return _unknown(own, ledgers, steps) or _authority_unknown(beyond) or _within(steps)


def _only_warns(limit: LimitFact | None) -> bool:
    return limit is not None and limit.enforcement == "alert_only"


def own_lines(it: Contested) -> tuple[Record, list[Spent]]:
    """The lines in which the act is counted. An act of which the books say nothing (nobody knows whose it is) is a line of
    its own; an invoice that only covers what others incurred has none.
    """
    act, record = it.act, it.record
    own = record.lines_of(act.event_id)
    if own or act.type.startswith("invoice."):
        return record, own
    held = act.book == "held"
    line = Spent(
        act.event_id, act.leaf_index, act.occurred_at, it.provider, act.currency, 0 if held else act.amount_minor or 0,
        act.amount_minor or 0 if held else 0, act.rail, frozenset({*it.path.parties, act.actor, act.principal} - {""}),
        frozenset(g.id for g in it.path.grants), act.session, act.task, act.project, held_from=act.occurred_at if held else None,
        authority=act.payload.money.authority if act.payload.money else "", principal=act.principal,
        actor=act.actor,
    )  # fmt: skip
    return replace(record, spending=(*record.spending, line)), [line]


def _within(steps: list[Step]) -> CriterionResult:
    standing = [step.standing.limit for step in steps if step.max_minor is not None]
    refused = [fact for step in steps for fact in step.standing.refused]
    if not standing:
        return CriterionResult("C5", "pass", "no limit bound this spending", limit_evidence(refused))
    count = len({fact.key for fact in standing})
    return CriterionResult(
        "C5",
        "pass",
        f"with this act, spending stays within {count} limit{'s' if count > 1 else ''}",
        limit_evidence(standing),
    )


def _unknown(own: list[Spent], ledgers: list[Ledger], steps: list[Step]) -> CriterionResult | None:
    """What would have to be known: a raise that is in doubt, whether two statements are one payment, a rate, a name."""
    for step in steps:
        if step.standing.limit is None and step.standing.refused:
            return CriterionResult("C5", "unknown", f"{raise_text(step.standing.refused[-1])}, and what stood before is not in the record",
                                   limit_evidence(step.standing.refused), cure="the limit before that raise would decide")  # fmt: skip
        if not step.is_in_doubt:
            continue
        limit, currency = step.standing.limit, step.spent.currency
        passed = next((n for n in step.standing.narrower if n.max_minor is not None and step.total > n.max_minor), None)
        if passed is not None and not step.over_minor:
            return CriterionResult("C5", "unknown", f"{amount_text(step.total, currency)} against a limit of {amount_text(passed.max_minor, currency)} "
                                   f"of which it is not known whether it holds: {passed.doubt}", limit_evidence([passed]),
                                   cure="which statement of the limit holds would decide")  # fmt: skip
        allowed = amount_text(step.max_minor or 0, currency)
        if step.over_minor > 0:
            doubted = step.standing.doubtful[-1]
            return CriterionResult("C5", "unknown", f"{amount_text(step.total, currency)} against a limit of {allowed}, which {raise_text(doubted)}: "
                                   "whether that counts for this act is not known", limit_evidence([limit, doubted]),
                                   cure="who made the raise, and that it was made before the act, would decide")  # fmt: skip
        return CriterionResult("C5", "unknown", f"{amount_text(step.total, currency)} to {amount_text(step.at_most, currency)} against a limit of "
                               f"{allowed}: two statements are perhaps of the same money", limit_evidence([limit]),
                               cure="a key that both statements share, or the payment's own record, would decide")  # fmt: skip
    mine = {id(line) for line in own}
    for ledger in ledgers:
        line = next((line for line in ledger.unknown if id(line) in mine), None)
        if line is None:
            continue
        standing = ledger.limit.in_force(line.held_from or line.at, leaf_index=line.leaf_index)
        limit = standing.limit
        if limit is None or limit.max_minor is None or _only_warns(limit):
            continue
        if line.currency != limit.currency:
            if any(_in_our_money(step, limit) for step in steps):
                continue  # whoever set both meant each for its own money
            return CriterionResult("C5", "unknown", f"the limit is in {limit.currency}, the act spent {line.currency}, and no rate is on record",
                                   limit_evidence([limit]), cure=f"a recorded rate from {line.currency} to {limit.currency} would decide")  # fmt: skip
        return CriterionResult("C5", "unknown", f"a limit holds for each {limit.scope}, and the act does not say which {limit.scope} it belongs to",
                               limit_evidence([limit]), cure=f"the {limit.scope}, from the act's source, would decide")  # fmt: skip
    return None


def _in_our_money(step: Step, limit: LimitFact) -> bool:
    """Whether there is the same limit in the money that was spent."""
    other = step.standing.limit
    return (
        other is not None
        and other.max_minor is not None
        and (
            (other.holder, other.bound, other.scope, other.provider, other.interval)
            == (limit.holder, limit.bound, limit.scope, limit.provider, limit.interval)
        )
    )


def _overrun(it: Contested, own: list[Spent], over: list[Step]) -> CriterionResult:
    over.sort(key=lambda step: (-step.over_minor, step.limit.first.key))
    most = over[0]
    limit, currency = most.standing.limit, most.spent.currency
    by = amount_text(most.over_minor, currency)
    each = most.bucket[0]
    name = f"{limit.scope} limit" + (
        f" at {limit.provider or each}" if limit.provider or (each and limit.scope in ("provider", "merchant")) else ""
    )
    flight = f", {amount_text(most.in_flight, currency)} of it authorized and not captured" if most.in_flight else ""
    reason = f"{amount_text(most.total, currency)}{flight} against the {name} of {amount_text(most.max_minor or 0, currency)}: over by {by}"
    evidence: list[Evidence] = []
    for step in over:
        evidence += limit_evidence([step.standing.limit])
        evidence.append({"event_id": step.spent.event_id, "leaf": step.spent.leaf_index})
    if most.standing.refused:
        reason += f"; {raise_text(most.standing.refused[-1])}, which is no authority of the human's"
        evidence += limit_evidence(most.standing.refused)
    hop = _hop_of(it, limit)
    mine = sum(line.gross_minor or line.authorized_minor for line in own if line.currency == currency)
    return CriterionResult(
        "C5", "fail", reason, tuple(dict(pair) for pair in dict.fromkeys(tuple(item.items()) for item in evidence)),
        ("over_limit",), f"out of scope by {by} on the {name}", hop, hop is None or hop == 0 or it.proven_at(hop),
        minor(min(mine, most.over_minor)),
    )  # fmt: skip


def beyond_authority(record: Record, own: list[Spent]) -> list[OverAuthority]:
    """What was beyond a payment authority of the lines of one act, or is not known to be within."""
    mine = {id(line) for line in own}
    authorities = sorted({(line.principal, line.authority) for line in own if line.authority})
    return [each for one in authorities for each in record.beyond_authority(*one) if id(each.spent) in mine]


def _authority_unknown(beyond: list[OverAuthority]) -> CriterionResult | None:
    if not beyond:
        return None
    first = beyond[0]
    ceiling, taken = first.ceiling, amount_text(first.total, first.spent.currency)
    return CriterionResult(
        "C5", "unknown", f"{taken} under payment authority {ceiling.authority}, whose ceiling is "
        f"{amount_text(ceiling.max_minor or 0, ceiling.currency)}: {first.doubt}",
        ({"event_id": ceiling.event_id, "leaf": ceiling.leaf_index},),
        cure=f"what payment authority {ceiling.authority} allowed then would decide",
    )  # fmt: skip


def _over_authority(it: Contested, over: list[OverAuthority]) -> CriterionResult:
    most = max(over, key=lambda each: each.over_minor)
    currency, ceiling = most.spent.currency, most.ceiling
    by = amount_text(most.over_minor, currency)
    return CriterionResult(
        "C5", "fail", f"{amount_text(most.total, currency)} under payment authority {ceiling.authority}, whose ceiling is "
        f"{amount_text(ceiling.max_minor or 0, currency)}: over by {by}",
        ({"event_id": ceiling.event_id, "leaf": ceiling.leaf_index}, {"event_id": most.spent.event_id, "leaf": most.spent.leaf_index}),
        ("authority_exceeded",), f"within scope if {by} less had been taken under payment authority {ceiling.authority}", None, True,
        minor(most.over_minor),
    )  # fmt: skip


def money_inputs(it: Contested) -> list[Any]:
    """What was looked at of money, by what it says and no ids of ours: the act's own lines, every limit that binds them with
    what had been spent under it, and its payment authority.
    """
    if not it.act.spends or it.act.rail == CREDIT_RAIL:
        return []
    record, own = own_lines(it)
    steps = [step for ledger in record.ledgers_on(own) for line in own for step in ledger.of(line)]
    ceilings = [
        c
        for principal, authority in sorted({(line.principal, line.authority) for line in own})
        for c in record.ceilings.get(authority, ())
        if c.principal in ("", principal)
    ]
    return [
        sorted([str(line.spent_minor), str(line.at_most_minor), str(line.authorized_minor), line.currency, line.at.isoformat(),
                *(f"{at.isoformat()} {amount}" for at, amount in line.returns)] for line in own),
        sorted([*_said(step.standing.limit), str(step.total), str(step.in_flight), str(step.at_most), step.bucket[0],
                *(" ".join(_said(fact)) for fact in (*step.standing.refused, *step.standing.doubtful))] for step in steps),
        [[c.authority, str(c.max_minor), c.currency, str(c.ended), c.set_by, c.at.isoformat()] for c in ceilings],
    ]  # fmt: skip


def _said(fact: LimitFact | None) -> list[str]:
    if fact is None:
        return []
    return [fact.verb, *fact.key, str(fact.max_minor), fact.enforcement, fact.set_by, fact.at.isoformat()]


def raise_text(fact: LimitFact) -> str:
    if fact.doubt:
        return (
            f"may have ended, since {fact.doubt}" if fact.max_minor is None else f"may be another, since {fact.doubt}"
        )
    to = "no limit" if fact.max_minor is None else amount_text(fact.max_minor, fact.currency)
    return f"{fact.set_by or 'somebody who is not named'} raised to {to}"


def limit_evidence(facts: Iterable[LimitFact]) -> tuple[Evidence, ...]:
    return tuple(
        {"event_id": f.event_id, "leaf": f.leaf_index} | ({"grant": f.grant} if f.verb == "grant" else {})
        for f in facts
    )


def _hop_of(it: Contested, limit: LimitFact) -> int | None:
    if limit.grant:
        return next((n for n, grant in enumerate(it.path.grants, start=1) if grant.id == limit.grant), None)
    held = (n for n, grant in enumerate(it.path.grants, start=1) if grant.actor and grant.actor.key == limit.holder)
    return next(held, 0)
