"""authority.scope_widened, limit_widened, outlives_parent, depth_exceeded: a hop gave more than it had.

Each grant and each token answers for itself: what it exceeds may stand anywhere above it, and may arrive after it.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import Widening, given_by_a_stranger, judge_depth, named, token_widenings, widenings
from auditlog.core.chain.record import Record
from auditlog.core.chain.statement import Grant, Token
from auditlog.core.event import GRANTED, TOKEN_STATED
from auditlog.core.finding import Finding
from auditlog.detectors.base import Pattern, finding

TYPES = GRANTED | TOKEN_STATED
_KINDS = {
    "scope": "authority.scope_widened",
    "limit": "authority.limit_widened",
    "expiry": "authority.outlives_parent",
    "depth": "authority.depth_exceeded",
}


def find(kind: str, acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if act.outcome != "success" or act.environment != "live":
            continue
        link, found = _said_by(act, record)
        if link is None:
            continue
        first = next((w for w in found if w.by is link and w.kind == kind), None)
        if first is not None:
            yield _finding(kind, act, first)
        elif isinstance(link, Grant):
            yield from _of_grants(kind, act, link)


def _said_by(act: Act, record: Record) -> tuple[Grant | Token | None, list[Widening]]:
    """The grant or token that this event states and that stands, with every widening on the way to it."""
    if act.payload.token and not isinstance(act.payload.token, str):
        tokens = record.token_path(act.token)
        shown = tokens.tokens[-1] if tokens.tokens else None
        if shown is None or shown.event_id != act.event_id:
            return None, []
        return shown, token_widenings(tokens, act.path)
    last = act.path.grants[-1] if act.path.grants else None
    if last is None or last.event_id != act.event_id:
        return None, []
    return last, widenings(act.path)


def _of_grants(kind: str, act: Act, grant: Grant) -> Iterable[Finding]:
    """What only a path of grants can do: be given by a stranger, or be passed on further than allowed."""
    place = len(act.path.grants)
    above = act.path.grants[-2] if place > 1 else None
    if above is None:
        return
    if kind == "scope" and given_by_a_stranger(act.path) == place:
        giver = grant.subject.key if grant.subject else "nobody named"
        yield _finding(
            kind,
            act,
            Widening(kind, place, grant, above, "what its giver never had", f"gone to {_who(above)}, not to {giver}"),
        )
    if kind == "depth":
        judged = judge_depth(act.path)
        if judged.result == "fail" and judged.hop == place:
            yield _finding(kind, act, Widening(kind, place, grant, above, "authority one hop further", judged.reason))


def _finding(kind: str, act: Act, widening: Widening) -> Finding:
    by, above = widening.by, widening.above
    severity = "medium" if by.standing != "proven" else "critical" if kind == "scope" else "high"
    return finding(
        _KINDS[kind],
        named(by),
        [act],
        severity=severity,
        title=f"{_who(by)} was given {widening.found} by {named(by)}; {named(above)} has {widening.allowed}",
        grant=act.via_grant or None,
        actor=by.subject.key if by.subject else None,
        evidence={"hop": widening.hop, "found": widening.found, "allowed": widening.allowed, "leaf": by.leaf_index,
                  "parent": named(above), "parent_leaf": above.leaf_index, "standing": by.standing},
    )  # fmt: skip


def _who(link: Grant | Token) -> str:
    party = link.actor if isinstance(link, Grant) else link.holder
    return party.sub if party else "an unnamed party"


_RUNBOOK = "Revoke the child and look at every act under it; the token server that issued it did not attenuate."
_FALSE = "The parent was widened by a statement that no source has reported yet."
PATTERNS = tuple(
    Pattern(
        rule=_KINDS[kind],
        title=title,
        runbook=_RUNBOOK,
        false_positives=_FALSE,
        types=TYPES,
        find=partial(find, kind),
        of_events=frozenset(),  # terms of grants and tokens
    )
    for kind, title in (
        ("scope", "A grant or token allows what its parent does not"),
        ("limit", "A grant allows more money than its parent"),
        ("expiry", "A grant or token reaches beyond its parent's time"),
        ("depth", "Authority was passed on further than allowed"),
    )
)
