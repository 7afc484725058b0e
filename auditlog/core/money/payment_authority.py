"""Payment authorities (`DESIGN.md` section 4.2.4): a ceiling for what is taken under one, and its end.

An authority is a limit of one principal: two customers may name theirs alike. What widens it, or opens it again after its
end, is a raise, and counts only where somebody made it who may.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from auditlog.core.money.limits import Limit, LimitFact, Minor, RaiseStanding, Spent, run, widens

Judged = Callable[[LimitFact, LimitFact | None], RaiseStanding]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One statement of a payment authority: granted up to an amount, or ended (`max_minor` None and `ended`)."""

    authority: str
    event_id: str
    leaf_index: int
    at: datetime
    max_minor: Minor | None
    currency: str
    ended: bool = False
    interval: str = "once"  # a ceiling is for the authority's life unless it states one
    provider: str = ""
    principal: str = ""  # in whose name; "" where nobody says
    set_by: str = ""  # who granted it, as the event says
    issuer: str = ""  # whose word it is

    def as_limit(self, principal: str) -> LimitFact:
        most = self.max_minor  # of the smallest units of a coin it may be a fraction, which no limit of an event is
        return LimitFact(
            self.leaf_index, self.event_id, "set", principal, "", "global", "", "", self.currency, self.interval, "",
            most, "hard", self.set_by, self.at, self.authority, issuer=self.issuer,  # type: ignore[arg-type]
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OverAuthority:
    """A line beyond a payment authority: above its ceiling (`over_minor`), or after its end (`ended`). `doubt`: why it is
    not known whether it was, in words; "" where it is.
    """

    spent: Spent
    ceiling: Ceiling
    total: Minor
    over_minor: Minor
    ended: Ceiling | None = None
    doubt: str = ""


def beyond_authority(
    ceilings: Sequence[Ceiling], spending: Iterable[Spent], *, principal: str = "", judged: Judged | None = None
) -> list[OverAuthority]:
    """Every line of one principal under one authority that was above its ceiling or after its end, in order of time, and
    every one of which that is not known. What comes back gives room in the interval that it was taken in.
    """
    mine = sorted((c for c in ceilings if c.principal in ("", principal)), key=_in_time)
    lines = sorted((s for s in spending if s.principal == principal), key=lambda s: (s.at, s.leaf_index))
    if not mine:
        return []
    judge = judged or (lambda fact, before: "counts")
    found = [each for spent in lines if (each := _after_end(mine, spent, principal, judge)) is not None]
    return sorted([*found, *_above(mine, lines, principal, judge)], key=lambda o: (o.spent.at, o.spent.leaf_index))


def refused_raise(
    ceilings: Sequence[Ceiling], event_id: str, *, principal: str, judged: Judged
) -> tuple[LimitFact, LimitFact] | None:
    """A statement that widens, by somebody whose raise counts for nothing, with what stood before it; None for any other."""
    stands: LimitFact | None = None
    for said in sorted((c for c in ceilings if c.principal in ("", principal)), key=_in_time):
        if said.ended or said.max_minor is None:
            continue
        fact = said.as_limit(principal)
        if stands is not None and widens(fact, stands):
            standing = judged(fact, stands)
            if said.event_id == event_id:
                return (fact, stands) if standing == "refused" else None
            if standing != "counts":
                continue
        stands = fact
    return None


def _in_time(ceiling: Ceiling) -> tuple[datetime, int]:
    return (ceiling.at, ceiling.leaf_index)


def _above(mine: Sequence[Ceiling], lines: Sequence[Spent], principal: str, judge: Judged) -> list[OverAuthority]:
    granted = {c.event_id: c for c in mine if not c.ended and c.max_minor is not None}
    if not granted:
        return []
    # As a limit in the principal's name: holds that are open together count, and other money is unknown.
    limit = Limit(tuple(c.as_limit(principal) for c in granted.values()), judge)
    bound = [line if principal in line.parties else _in_name_of(line, principal) for line in lines]
    ledger = run(limit, bound)
    found = []
    for line, counted in zip(lines, bound, strict=True):
        steps = [(step, said) for step in ledger.of(counted) if (said := step.standing.limit) is not None]
        over = max((each for each in steps if each[0].is_over), key=lambda each: each[0].over_minor, default=None)
        doubted = next((each for each in steps if each[0].is_in_doubt), None)
        taken = line.gross_minor or line.authorized_minor
        if over is not None:
            step, said = over
            found.append(OverAuthority(line, granted[said.event_id], step.total, min(step.over_minor, taken)))
        elif doubted is not None:
            step, said = doubted
            raised = bool(step.standing.doubtful) and step.over_minor > 0
            doubt = (
                "whether it was raised by somebody who may is not known"
                if raised
                else "two statements are perhaps of the same money"
            )
            at_risk = min(step.over_minor, taken)
            found.append(OverAuthority(line, granted[said.event_id], step.total, at_risk, None, doubt))
        elif any(one is counted for one in ledger.unknown) and taken and line.at >= limit.first.at:
            standing = limit.in_force(line.held_from or line.at, leaf_index=line.leaf_index).limit
            if standing is not None:
                doubt = f"it is in {standing.currency}, the act spent {line.currency}, and no rate is on record"
                found.append(OverAuthority(line, granted[standing.event_id], taken, 0, None, doubt))
    return found


def _in_name_of(line: Spent, principal: str) -> Spent:
    return replace(line, parties=line.parties | {principal})


def _after_end(mine: Sequence[Ceiling], spent: Spent, principal: str, judge: Judged) -> OverAuthority | None:
    """A line that was taken, or held where it was held first, after the end: one granted again afterwards is open again."""
    at = spent.held_from or spent.at
    ended: Ceiling | None = None
    reopened: Ceiling | None = None
    last: Ceiling | None = None
    for said in mine:
        if said.at > at:
            break
        if said.ended:
            ended, reopened = said, None
            continue
        if ended is not None:
            standing = judge(said.as_limit(principal), last.as_limit(principal) if last else None)
            if standing == "refused":
                continue
            if standing == "counts" and said.leaf_index <= spent.leaf_index:
                ended, reopened = None, None
            else:
                reopened = said
        last = said
    if ended is None or not (spent.gross_minor or spent.authorized_minor):
        return None
    doubt = "whether it was granted again by somebody who may is not known" if reopened else ""
    return OverAuthority(spent, last or ended, spent.gross_minor, 0, ended, doubt)
