"""Ties: what an act has in common with others of its principal that no column of an event says. Pure.

Where a rule asks for what was bought twice or called again, it finds those acts by their ties, among a million others. A tie
is a hash, so that a name or argument is not kept twice; what it leads to is judged by what the acts themselves say.
"""

from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

import msgspec

from auditlog.core.acts.call import called
from auditlog.core.acts.loop import may_loop
from auditlog.core.acts.refused import is_refused
from auditlog.core.acts.repeat import bill_names, ended_name, things
from auditlog.core.acts.taking import Taking, takes
from auditlog.core.chain.act import Act
from auditlog.core.event import GrantObject, TokenObject


class Tie(NamedTuple):
    """`value`: of a call, what was called with what; its `tie` is then where it went. So of a refused attempt to pay, which is
    like any other at its provider.
    """

    tie: UUID
    value: UUID | None = None


def ties_of(act: Act) -> list[Tie]:
    if act.environment != "live":
        return []
    bound = [tie for _, tie in holder_ties(act)]
    if not act.principal:
        return bound
    found = bound + [Tie(hashed("thing", act.principal, *thing)) for thing in _things_of(act)]
    if (call := call_of(act)) is not None:
        found.append(call)
    if is_refused(act):
        found.append(Tie(hashed("refused", act.principal, act.provider), hashed("refused")))
    return list(dict.fromkeys(found))


def call_of(act: Act) -> Tie | None:
    """Where a charged call went, and what was called: whether it is the same try after try is not looked at here."""
    if not may_loop(act):
        return None
    body = called(act)
    if body is None:
        return None
    return Tie(hashed("calls", act.principal, act.provider), hashed("call", msgspec.json.encode(body).decode()))


def holder_ties(act: Act) -> list[tuple[str, Tie]]:
    """By holder: the key that a grant or token of this event is bound to."""
    if not act.jkt or not act.happened:
        return []
    said = (act.payload.grant, act.payload.token)
    return [
        (each.actor.key, Tie(hashed("key", act.jkt), hashed("holder", each.actor.key)))
        for each in said
        if isinstance(each, (GrantObject, TokenObject)) and each.actor and each.cnf and each.cnf.jkt
    ]


def _things_of(act: Act) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [("invoice", act.provider, name) for name in bill_names(act)]
    if name := ended_name(act):
        found.append(("name", name))
    if takes(act) and act.type != "usage.metered":
        found += [thing for thing in things(Taking([act])) if thing[0] != "key"]  # a key is a column
    return found


def hashed(*words: str) -> UUID:
    return UUID(bytes=blake2b("\x1f".join(words).encode(), digest_size=16).digest())
