"""spend.stranded: something is still paid for a day after its task or session ended, or after its grant was revoked.

A meter's line that itself names a session or task says what it is for: once that is over, and not begun again, it is for
nothing. A line that names only a thing is another matter: what was built is meant to stay when the work is done, so of those
only a revocation of the authority under which the thing was made counts. A use that names the revoked grant is
authority.used_after_revocation.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from auditlog.core.advice import Facts, last_charge
from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import ended_before
from auditlog.core.chain.chain import NO_TOKENS
from auditlog.core.chain.record import Record, Turn
from auditlog.core.finding import Finding
from auditlog.core.policy import Setting
from auditlog.detectors.base import finding
from auditlog.detectors.gathered import span

rule = "spend.stranded"
version = 1
title = "Something is still paid for after its work was over"
runbook = (
    "Ask whoever ran the task whether the thing is still wanted. If not, remove it: every hour costs the same again. If it is, have its "
    "charges name the work that they are now for."
)
false_positives = (
    "A sender that goes on to name the session in which a thing was made; work that goes on in another session."
)
of_events = frozenset[str]()  # when the work ended, others say
types = frozenset({"usage.metered", "subscription.renewed"})
partition = ("event_id",)
waits = False
gathers = True

AFTER = Setting("after_hours", 24, 1, 720, "hours", "so long after the end a charge is no last reading of it")
settings = (AFTER,)


def advise(facts: Facts, now: datetime | None) -> str:
    return f"{last_charge(facts, now)} {runbook}"


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not act.spends or not act.exact_minor:
            continue
        ended = _ended(act, record)
        if ended is None:
            continue
        at, what, leaf = ended
        late = (act.occurred_at - at).total_seconds()
        thing = act.target or act.resource or act.operation or act.type
        yield finding(
            rule,
            f"{act.principal} {act.provider} {act.account} {thing} {what}"[:900],
            [act],
            severity="medium",
            title=f"{thing} at {act.provider or 'an unnamed provider'} was paid for {span(late)} after {what} had ended",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={
                "thing": thing,
                "ended": what,
                "ended_at": at.isoformat(),
                "ended_leaf": leaf,
                "seconds_late": late,
            },
        )


def _ended(act: Act, record: Record) -> tuple[datetime, str, int] | None:
    """When what this is for was over, what that was, and the leaf that says so; None while it may still be wanted."""
    after = timedelta(hours=record.setting(rule, AFTER))
    for kind, name in (("session", act.session), ("task", act.task)):
        turn = last_turn(record.turns.get((kind, name), ()), act)
        if name and turn is not None:
            # Work that goes on in a session is not over because its task was also named elsewhere, nor the other way round.
            return (
                (turn.at, f"its {kind}", turn.leaf_index) if turn.ended and act.occurred_at - turn.at > after else None
            )
    if act.through:
        gone = ended_before(act.path, NO_TOKENS, act.occurred_at, provider=act.provider)
        if gone is not None and gone.link.revoked_at is not None and gone.seconds_late > after.total_seconds():
            return (
                gone.link.revoked_at,
                f"{gone.name}, under which it was made,",
                gone.link.revoked_leaf or gone.link.leaf_index,
            )
    return None


def last_turn(turns: Iterable[Turn], act: Act) -> Turn | None:
    """The last beginning or end before this act, of those that are of its principal as far as anybody says."""
    mine = [t for t in turns if t.at <= act.occurred_at and (not t.principal or t.principal == act.principal)]
    return max(mine, key=lambda t: (t.at, not t.ended, t.leaf_index)) if mine else None
