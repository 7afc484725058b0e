"""authority.orphan_token: a token or grant was used that no source ever spoke of. Who gave it, and what, is unknown.

The missing one may be what the act named, or stand above it. One finding a named token or grant, however often it was
used. It is withdrawn when its issuer speaks.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES
from auditlog.core.finding import Finding
from auditlog.detectors.base import Pattern, finding

RULE = "authority.orphan_token"
MEMBERS = 1_000  # of many uses the first ones are named, and the count is said


def find(word: str, acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    used = [act for act in acts if act.happened and act.environment == "live" and missing(word, act, record)]
    if not used:
        return
    name, shown = missing(word, used[0], record), used[0].token if word == "token" else used[0].grant
    above = "" if name == shown else f", above {word} {shown},"
    currencies = {act.currency for act in used if act.amount_minor}
    currency = currencies.pop() if len(currencies) == 1 else ""
    yield finding(
        RULE,
        f"{word} {name} {shown}",
        used[:MEMBERS],
        severity="high" if any(act.amount_minor for act in used) else "medium",
        title=f"{word} {name}{above} was used {len(used)} time{'s' if len(used) > 1 else ''}, and no source ever spoke of it",
        grant=name if word == "grant" else None,
        money_at_risk_minor=sum(act.amount_minor or 0 for act in used) if currency else None,
        currency=currency or None,
        evidence={
            word: name,
            "shown": shown,
            "uses": len(used),
            "providers": sorted({act.provider for act in used} - {""}),
        },
    )


def missing(word: str, act: Act, record: Record) -> str | None:
    """The id that no source ever spoke of: what the act named, or something above it. An event that states a grant or
    token uses none.
    """
    if word == "grant":
        return act.path.missing if isinstance(act.payload.grant, str) else None
    return record.token_path(act.token).missing if isinstance(act.payload.token, str) else None


PATTERNS = tuple(
    Pattern(
        rule=RULE,
        title="Authority that no source ever spoke of",
        runbook="Ask the token server named in the credential for its record; without one treat the acts as unauthorized.",
        false_positives="A token server that is not connected here, or reports late.",
        of_events=frozenset({"shown"}),  # what is missing may stand above it, and be used by more acts than are named
        types=USE_TYPES,
        find=partial(find, word),
        partition=(word,),
        waits=True,
    )
    for word in ("token", "grant")
)
