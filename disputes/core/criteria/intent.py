"""I1: was it what had been asked for, over the task so far, by structured fields only."""

from collections.abc import Sequence

from auditlog.core.acts.repeat import is_of_past, past_of
from auditlog.core.acts.task import Cost, tasks_of
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import Assent, asked_for, assent_to, assent_to_task
from auditlog.core.chain.intent import Stated, compare_domain, is_listed, other_tier
from auditlog.core.money.money import amount_text
from disputes.core.criteria.base import Contested, CriterionResult, Evidence


def told_around(it: Contested) -> tuple[str, list[Act]]:
    """The principal of the act, and all on record of what was done for them: the act itself at least."""
    principal = it.act.principal or it.done.principal
    history = it.record.history_of(principal)
    known = it.record.memory.get(("known", principal))
    if known is None:
        known = it.record.memory["known", principal] = {act.event_id for act in history}
    near = [it.act, it.done]
    if it.act.charge:
        near += [
            o
            for o in it.record.siblings_of(it.act)
            if (o.rail, o.charge) == (it.act.rail, it.act.charge) and o.principal in ("", principal)
        ]
    if all(act.event_id in known or not is_of_past(act) for act in near):
        return principal, history
    # An act that the history does not hold is judged with what is known around it, and remembered by itself.
    return f"{principal} {it.act.event_id}", list({act.event_id: act for act in (*history, *near)}.values())


def intent(it: Contested) -> CriterionResult:
    """I1: was it what had been asked for: target, tier, quantity, price of the task so far, and not the same thing again.

    What a human approved by name, or up to a price, is what was asked for, whatever was said before. An agent's own word
    never makes a match. Metered calls are judged by the task's total only.
    """
    done, stated, said_yes = it.done, asked_for(it.done, it.record), _assents(it)
    evidence: list[Evidence] = [{"event_id": done.event_id, "leaf": done.leaf_index}]
    if stated is not None:
        evidence.insert(
            0,
            {"event_id": stated.event_id, "leaf": stated.leaf_index}
            | ({"grant": stated.grant} if stated.grant else {}),
        )
    evidence += ({"event_id": yes.approval.event_id, "leaf": yes.approval.leaf_index} for yes in said_yes)
    differs, codes, cure, over = _differences(it, stated, said_yes)
    again, doubt, first = _again(it)
    if again:
        differs.append(again)
        codes.append("repeat")
        cure = cure or "anticipated once"
        over = None
    if first:
        evidence.append({"event_id": first.event_id, "leaf": first.leaf_index})
    if differs:
        return CriterionResult(
            "I1", "fail", "; ".join(differs), tuple(evidence), tuple(dict.fromkeys(codes)), cure, over_minor=over
        )
    if stated is None and not any(yes.names_it or yes.max_minor is not None for yes in said_yes):
        if doubt:
            return CriterionResult("I1", "unknown", f"{doubt}, and no total was asked for", tuple(evidence), ("loop",),
                                   cure="what the calls were to cost together would decide")  # fmt: skip
        return CriterionResult("I1", "na", "no intent was stated")
    return _kept(it, stated, said_yes, tuple(evidence), doubt)


def _assents(it: Contested) -> list[Assent]:
    """What humans said yes to: this act, by whichever statement of it, and its task."""
    own = assent_to(it.done, it.record) or assent_to(it.act, it.record)
    of_task = assent_to_task(it.done, it.record)
    return [yes for yes in (own, of_task) if yes is not None]


_NAMING = frozenset({"domain.registered", "domain.transferred"})  # a search, or a record that is set, buys no name


def _kept(
    it: Contested, stated: Stated | None, said_yes: Sequence[Assent], evidence: tuple[Evidence, ...], doubt: str
) -> CriterionResult:
    """Nothing differs: whether that is a match, or only all that can be said."""
    done, cost = it.done, _cost(it)
    yes = next((yes for yes in said_yes if yes.names_it), None)
    matches = yes is not None or (stated is not None and is_listed(done, stated.intent))
    counted = _count(it)
    if cost is not None and cost.unknown:
        return CriterionResult("I1", "unknown", f"{cost.said}, {cost.unknown} was taken, and no rate "
                               "is on record", evidence, cure=f"a recorded rate from {cost.unknown} to {cost.currency} would decide")  # fmt: skip
    if cost is not None and cost.doubt:
        return CriterionResult("I1", "unknown", cost.doubt, evidence,
                               cure="whether a later approval of the task adds to the one before it would decide")  # fmt: skip
    if doubt and cost is None:
        return CriterionResult("I1", "unknown", f"{doubt}, and no total was asked for", evidence, ("loop",),
                               cure="what the calls were to cost together would decide")  # fmt: skip
    if not (matches or cost or counted):
        if (
            stated is not None
            and stated.intent.quantity is not None
            and it.act.spends
            and it.act.type != "usage.metered"
        ):
            # Whether this is one of the things of which so many were asked for, nobody says.
            return CriterionResult(
                "I1", "unknown", f"{stated.intent.quantity} were asked for, and whether this is one of them is not stated",
                evidence, cure="what was bought, from whoever sold it, would decide",
            )  # fmt: skip
        return CriterionResult(
            "I1", "na", "the stated intent names nothing that this act could be compared with", evidence
        )
    if stated is not None and stated.by_actor and yes is None and not (cost and cost.asked == "approved"):
        return CriterionResult("I1", "unknown", "it equals an intent that an agent itself supplied", evidence,
                               cure="the intent as the human stated it would decide")  # fmt: skip
    said: list[str] = []
    if yes is not None:
        said.append(f"{yes.approval.by} approved it")
    elif matches:
        said.append(f"{done.object} is what was asked for")
    if cost is not None:
        so_far = amount_text(cost.before_minor + cost.own_minor, cost.currency)
        said.append(f"the task has cost {so_far} of {amount_text(cost.max_minor, cost.currency)}")
    if counted is not None:
        said.append(f"it is number {counted.number} of {counted.wanted}")
    return CriterionResult("I1", "pass", "; ".join([*said, doubt] if doubt else said), evidence)


def _differences(
    it: Contested, stated: Stated | None, said_yes: Sequence[Assent]
) -> tuple[list[str], list[str], str, int | None]:
    """Sentences on what differs from what was asked, their codes, what would have been anticipated, and the excess."""
    differs: list[str] = []
    codes: list[str] = []
    cure, over = "", None
    done = it.done
    # An agent's own estimate is no price or number that a human set.
    is_humans = stated is not None and not stated.by_actor
    if stated is not None and not any(yes.names_it for yes in said_yes):
        asked = stated.intent
        if done.verb.startswith("domain.") and (
            done.type in _NAMING or done.verb in ("domain.register", "domain.transfer")
        ):
            compared = compare_domain(done, stated)
            if compared.relation not in ("equal", "not_stated"):
                differs.append(f"{compared.nearest} was asked for, {done.object} was the target ({compared.relation})")
                codes.append("intent_divergent")
                cure = f"anticipated if the target had been {compared.nearest}, as asked"
        elif tier := other_tier(done, asked):
            differs.append(f"{', '.join(asked.targets[:3])} was asked for, {tier} was taken")
            codes.append("intent_divergent")
            cure = f"anticipated if {asked.targets[0]} had been taken, as asked"
    counted = _count(it) if is_humans else None
    if counted is not None and counted.is_over:
        differs.append(
            f"{counted.wanted} {'was' if counted.wanted == 1 else 'were'} asked for, and this is number {counted.number}"
        )
        codes += ["intent_divergent", "quantity_exceeded"]
        cure = cure or f"anticipated if {counted.wanted} at most had been bought"
    cost = _cost(it)
    if cost is not None and cost.is_over and (is_humans or cost.asked == "approved"):
        differs.append(cost.words)
        codes += ["intent_divergent", "price_exceeded"]
        cure = cure or (
            f"anticipated at {amount_text(cost.max_minor, cost.currency)} or less"
            if cost.max_minor
            else "anticipated for nothing"
        )
        over = cost.over_minor if len(differs) == 1 else None
    return differs, codes, cure, over


def _cost(it: Contested) -> Cost | None:
    """What the task had cost with this act. A hold is in no book: of it there is nothing to hold against a price."""
    principal, acts = told_around(it)
    found = tasks_of(it.record, principal, acts)
    return found.cost_of(it.act) or found.cost_of(it.done)


def _count(it: Contested):
    principal, acts = told_around(it)
    found = tasks_of(it.record, principal, acts)
    return found.count_of(it.act) or found.count_of(it.done)


def _again(it: Contested) -> tuple[str, str, Act | None]:
    """Whether it was for the same thing again: in words where it was, in words where that is all one can say, and the
    act that came first.
    """
    principal, acts = told_around(it)
    past = past_of(it.record, principal, acts)
    repeat = past.repeat_of(it.act)
    if repeat is not None and not repeat.by_provider:
        first = repeat.first.first
        return f"{repeat.words}, by {first.event_id}: this is number {repeat.number}", "", first
    found = past.loop_of(it.act)
    # What is a loop only by what it may cost is worth a finding, and moves no verdict.
    if found is None or found[1] == 0 or not found[0].is_sure:
        return "", "", None
    loop, place = found
    first = loop.acts[0]
    words = f"it is call {place + 1} of {len(loop.acts)} that repeat {first.event_id}"
    return ("", words, first) if loop.is_metered else (words, "", first)
