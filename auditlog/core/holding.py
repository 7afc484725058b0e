"""Holdings: what agents made or linked and somebody now has: accounts, domains, subscriptions, resources, credentials.

A holding is folded from statements of its making and its end, which may come in any order; what nobody said stays
unknown.
"""

from collections.abc import Iterable, Sequence
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


def lives(told: Iterable[tuple[datetime, UUID, bool]]) -> list[Life]:
    """The lives of one thing, from statements (time, event, whether of its end) in any order.

    What was made again while it was there is the same thing, told of twice.
    """
    found: list[Life] = []
    for at, event_id, is_end in sorted(
        told, key=lambda one: (one[0], not one[2], one[1])
    ):  # an end before what follows it
        if is_end and found:
            found[-1] = found[-1]._replace(ended=at)
        elif not is_end and (not found or found[-1].ended is not None):
            found.append(Life(at, event_id, None))
    return found


def life_at(found: Sequence[Life], at: datetime, *, before: timedelta) -> Life:
    """The life that a line of this time is of: the last that had begun, or began within `before` of it.

    The one before must have ended by then. A line after an end, long before what came next, is of what ended.
    """
    for earlier, life in zip(reversed(found[:-1]), reversed(found), strict=False):
        if at >= life.began - before and earlier.ended is not None and at > earlier.ended:
            return life
    return found[0]


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
