"""I1: was it what had been asked for, by structured fields only."""

from auditlog.core.act import Act
from auditlog.core.authority import resource_matches
from auditlog.core.intent import compare_domain, price_exceeded, stated_intent
from auditlog.core.money import amount_text
from disputes.core.criteria.base import Contested, CriterionResult, Evidence


def intent(it: Contested) -> CriterionResult:
    """I1: was it what had been asked for, by structured fields only. The acting agent's own word never makes a match."""
    done = it.done
    stated = stated_intent(done)
    if stated is None:
        return CriterionResult("I1", "na", "no intent was stated")
    said: Evidence = {"event_id": stated.event_id, "leaf": stated.leaf_index} | ({"grant": stated.grant} if stated.grant else {})
    evidence = (said, {"event_id": done.event_id, "leaf": done.leaf_index})
    priced = it.act if it.act.amount_minor is not None else done
    differs, matches, cure = _differences(it, priced)
    if differs:
        return CriterionResult("I1", "fail", "; ".join(differs), evidence, ("intent_divergent",), cure)
    if not matches:
        return CriterionResult("I1", "na", "the stated intent names nothing that this act could be compared with", evidence)
    if stated.by_actor:
        return CriterionResult("I1", "unknown", "it equals an intent that the acting agent itself supplied", evidence,
                               cure="the intent as the human stated it would decide")  # fmt: skip
    return CriterionResult("I1", "pass", f"{done.object} is what was asked for", evidence)


def _differences(it: Contested, priced: Act) -> tuple[list[str], bool, str]:
    """Sentences on what differs, whether the target is one asked for, and what would have been anticipated."""
    done, stated = it.done, stated_intent(it.done)
    asked = stated.intent
    differs, cure = [], ""
    if done.verb.startswith("domain."):
        compared = compare_domain(done)
        matches = compared.relation == "equal"
        if not matches and compared.relation != "not_stated":
            differs.append(f"{compared.nearest} was asked for, {done.object} was the target ({compared.relation})")
            cure = f"anticipated if the target had been {compared.nearest}, as asked"
    else:
        matches = bool(done.object) and any(resource_matches(target, done.object) for target in asked.targets)
    if price_exceeded(priced, asked):
        most = amount_text(asked.max_price_minor or 0, priced.currency)
        differs.append(f"at most {most} was asked for, {amount_text(priced.amount_minor or 0, priced.currency)} was taken")
        cure = cure or f"anticipated at {most} or less"
    return differs, matches, cure
