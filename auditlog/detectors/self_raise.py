"""spend.self_raise: a limit is raised by its holder or by somebody below the holder; one finding a limit and raiser."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import LimitFact, filled, widens
from auditlog.core.money.money import amount_text
from auditlog.detectors.base import finding

rule = "spend.self_raise"
version = 2
title = "An agent raised its own limit"
runbook = (
    "Set the limit back, and find out why the enforcing side took the agent's word. The raise is nobody's authority."
)
false_positives = "The agent only passed on a human's raise, and its sender did not name the human in `set_by`."
of_events = frozenset()  # what the limit was before, and who stands where
types = frozenset({"limit.set", "limit.raised", "payment.authority_granted"})
partition = ("event_id",)
waits = False
gathers = True


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if act.type == "payment.authority_granted":
            yield from _of_authority(act, record)
            continue
        limit = record.limit_of(act.event_id)
        if limit is None or act.outcome != "success" or not limit.counts:
            continue
        before = record.before(limit)
        limit = filled(limit, before) if before else limit
        if not widens(limit, before) or record.raise_standing(limit, before) != "refused":
            continue  # a first limit raises nothing
        yield finding(
            rule,
            " ".join((act.principal, limit.set_by, *limit.terms)),
            [act],
            severity="critical",
            title=f"{limit.set_by.partition('|')[2]} {_what(limit, before)}",
            actor=limit.set_by,
            provider=limit.provider or act.provider or None,
            money_at_risk_minor=_difference(limit, before),
            currency=limit.currency,
            evidence={
                "holder": limit.holder,
                "set_by": limit.set_by,
                "before_leaf": before.leaf_index if before else None,
            },
        )


def _of_authority(act: Act, record: Record) -> Iterable[Finding]:
    """A payment authority that whoever spends under it widened."""
    raised = record.raised_authority(act)
    if raised is None:
        return
    fact, before = raised
    name = fact.set_by.partition("|")[2]
    yield finding(
        rule,
        " ".join((act.principal, fact.set_by, "payment authority", fact.id)),
        [act],
        severity="critical",
        title=f"{name} raised payment authority {fact.id}, under which it spends, to {_amount(fact)} from {_amount(before)}",
        actor=fact.set_by,
        provider=act.provider or None,
        money_at_risk_minor=_difference(fact, before),
        currency=fact.currency,
        evidence={"authority": fact.id, "set_by": fact.set_by, "before_leaf": before.leaf_index},
    )


def _what(limit: LimitFact, before: LimitFact | None) -> str:
    """What was done, in words: a limit may be widened by more than its amount."""
    at = f" at {limit.provider}" if limit.provider else ""
    if (
        before is None
        or limit.max_minor is None
        or (before.max_minor is not None and limit.max_minor > before.max_minor)
    ):
        return f"raised a limit that binds it{at} to {_amount(limit)}" + (f" from {_amount(before)}" if before else "")
    if limit.terms == before.terms:
        return f"made a limit that binds it{at} a mere warning: {_amount(limit)}, which was {before.enforcement}"
    return f"changed what a limit counts that binds it{at}: {_terms(limit)}, which was {_terms(before)}"


def _terms(limit: LimitFact) -> str:
    per = "" if limit.interval == "once" else f" a {limit.interval}"
    return f"{_amount(limit)}{per} for {limit.provider or limit.scope}"


def _amount(limit: LimitFact) -> str:
    return "no limit" if limit.max_minor is None else amount_text(limit.max_minor, limit.currency)


def _difference(limit: LimitFact, before: LimitFact | None) -> int | None:
    if before is None or before.max_minor is None or limit.max_minor is None or limit.currency != before.currency:
        return None
    return max(limit.max_minor - before.max_minor, 0) or None
