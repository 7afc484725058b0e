"""authority.unattributed: an act with neither actor nor grant nor token. Nobody can be asked about it."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import ACT_TYPES, Act
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import answers_for, follows_an_act
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "authority.unattributed"
version = 1
title = "An act that nobody answers for"
runbook = "Ask the source which credential was used; have it send actor, grant or token with every act."
false_positives = "A human acted directly and the source does not say so."
of_events = frozenset({"title", "money_at_risk"})
# A meter line names a thing, and seldom anybody; a bank that tells of a payment authority tells of no agent's act.
types = ACT_TYPES - {"usage.metered", "payment.authority_granted"}
partition = ("event_id",)
waits = True  # a charge may be attributed by the act it pays for, which can arrive later


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not act.is_act or not act.happened or _named(act):
            continue
        if _named(answers_for(act, record)) or _is_counted_with_others(act, record):
            continue
        if act.charge and any(
            s.charge == act.charge and (s.rail == act.rail or "" in (s.rail, act.rail)) and _named(s)
            for s in record.siblings_of(act)
        ):
            continue
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="medium",
            title=f"{act.verb or act.type} on {act.object or 'something unnamed'}"
            + (f" at {act.provider}" if act.provider else "")
            + " names no actor, no grant and no token",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
        )


def _is_counted_with_others(act: Act, record: Record) -> bool:
    """Whether the books know what a payment is of, or may: it names an invoice, is counted in a line with what others told,
    or is perhaps what an act was paid with. A payment is judged through what it pays for (`DESIGN.md` 4.3).
    """
    if not follows_an_act(act):
        return False
    return bool(act.payload.money and act.payload.money.invoice) or any(
        len(line.events) > 1 or line.doubt_minor for line in record.lines_of(act.event_id)
    )


def _named(act: Act) -> bool:
    return bool(act.actor or act.grant or act.token)
