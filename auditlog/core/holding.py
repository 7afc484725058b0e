"""Holdings: what agents made or linked and somebody now has: accounts, domains, subscriptions, resources, credentials.

A holding is folded from statements of its making and its end, which may come in any order; what nobody said stays
unknown.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from auditlog.core.event import Event

_MADE = {
    "account.created": ("account", "created"),
    "account.linked": ("account", "linked"),
    "project.created": ("project", "created"),
    "provider.linked": ("link", "linked"),
    "resource.provisioned": ("resource", "created"),
    "domain.registered": ("domain", "created"),
    "subscription.started": ("subscription", "created"),
    "credential.issued": ("credential", "created"),
    "payment.authority_granted": ("payment authority", "created"),
}
_ENDED = {
    "provider.unlinked": "link",
    "resource.removed": "resource",
    "domain.deleted": "domain",
    "domain.transferred": "domain",
    "subscription.ended": "subscription",
    "credential.revoked": "credential",
    "payment.authority_ended": "payment authority",
}
MADE_TYPES, ENDED_TYPES = frozenset(_MADE), frozenset(_ENDED)
KIND_OF = {type: kind for type, (kind, _) in _MADE.items()} | _ENDED
KINDS = ("account", "project", "link", "resource", "domain", "subscription", "credential", "payment authority")


@dataclass(frozen=True, slots=True)
class Told:
    """One statement of a holding's making (`how` is created or linked) or end (`how` is "")."""

    provider: str
    kind: str
    id: str
    how: str
    account: str  # customer of record, as stated
    matched_by: str  # by what a linked account was matched: e-mail, domain; "" unknown
    at: datetime


def told_of(event: Event, provider: str) -> Told | None:
    """What this event says of a holding; None when it says nothing, failed, or was only a test."""
    made, ended = _MADE.get(event.type), _ENDED.get(event.type)
    payload = event.payload
    if (made is None and ended is None) or payload.outcome != "success" or payload.environment != "live":
        return None
    kind, how = made or (ended, "")
    action, money = payload.action, payload.money
    account = action.account if action else ""
    named = (action.target.id if action and action.target else "") or (action.resource if action else "")
    if kind == "account":
        named = account or named
    if kind == "payment authority" and money and money.authority:
        named = money.authority
    if not named:
        return None
    return Told(
        provider, kind, named, how, account, _matched_by(payload.call.args if payload.call else None), event.occurred_at
    )


class Life(NamedTuple):
    """A time during which a thing was there: who made it, and when it ended, as far as anybody said."""

    began: datetime
    made_by: UUID  # event
    ended: datetime | None
    is_passed_on: bool = False  # it ended because somebody else has it now: whose it is after that, nobody says


class Said(NamedTuple):
    """One statement of a thing's making or end."""

    at: datetime
    event_id: UUID
    type: str
    account: str  # "" where it states none

    @property
    def is_end(self) -> bool:
        return self.type in ENDED_TYPES


def lives(told: Iterable[Said]) -> list[Life]:
    """The lives of one thing, from statements in any order.

    What was made again while it was there is the same thing, told of twice.
    """
    found: list[Life] = []
    for said in sorted(told, key=lambda one: (one.at, not one.is_end, one.event_id)):  # an end before what follows it
        if said.is_end and found:
            found[-1] = found[-1]._replace(ended=said.at, is_passed_on=said.type == "domain.transferred")
        elif not said.is_end and (not found or found[-1].ended is not None):
            found.append(Life(said.at, said.event_id, None))
    return found


def lives_by_account(told: Collection[Said]) -> dict[str, list[Life]]:
    """The same for a name that means another thing in each account: by account, "" where makings state one at most."""
    accounts = {said.account for said in told if said.account and not said.is_end}
    if len(accounts) < 2:
        return {"": found} if (found := lives(told)) else {}
    return {account: lives(said for said in told if said.account == account) for account in sorted(accounts)}


def life_at(found: Sequence[Life], at: datetime, *, before: timedelta) -> Life | None:
    """The life that a line of this time is of: the last that had begun, or began within `before` of it.

    The one before must have ended by then. A line after an end, long before what came next, is of what ended; of what
    was passed on it is of nobody known, but for a last line within `before` of that.
    """
    for earlier, life in zip(reversed(found[:-1]), reversed(found), strict=False):
        if at >= life.began - before and earlier.ended is not None and at > earlier.ended:
            return _unless_passed_on(life, at, before)
    return _unless_passed_on(found[0], at, before)


def _unless_passed_on(life: Life, at: datetime, before: timedelta) -> Life | None:
    return None if life.is_passed_on and life.ended is not None and at > life.ended + before else life


def _matched_by(args: dict[str, msgspec.Raw] | None) -> str:
    said = args.get("matched_by") if args else None
    try:
        return msgspec.json.decode(said, type=str)[:120] if said is not None else ""
    except msgspec.MsgspecError:
        return ""


def recoverable(kind: str, *, is_live: bool) -> str:
    """What can be had back, in a word; who can do it decides."""
    if not is_live:
        return "ended"
    return {
        "domain": "deletable in its grace period, else until its transfer or expiry",
        "subscription": "cancellable",
        "credential": "revocable",
        "payment authority": "revocable",
        "link": "unlinkable",
        "resource": "removable",
        "account": "unknown",
        "project": "unknown",
    }[kind]
