"""Join keys: by which ids two sources may be speaking of one act. Pure; nothing here merges evidence.

A key *identifies* one act or one payment: a charge at its rail, an idempotency key or a request id where the call went,
an invoice at its rail, a thing made or ended at its provider. It is scoped, so that one sender's id never meets
another's. What is shared by many acts (session, task, `txn`, token, grant, trace) is a *context*: it groups and
confirms, and never makes two statements one.

Which keys turn out to be shared by several acts is not a matter of their kind alone: see `core.story.usable` and
`core.money.usable`. What one source makes of a key never takes it from the others.
"""

from typing import NamedTuple

from auditlog.core.holding import ENDED_TYPES, MADE_TYPES

# The strongest first: where keys contradict one another, the weaker one gives way.
KINDS = ("charge", "idempotency", "thing", "request", "invoice")  # of stories
MADE = "made "  # how the value of a `thing` key begins that is of a making
MANY = 50  # statements of one source; a value that it states more often names nothing to it
_MAKING = frozenset({"create", "register", "provision", "issue"})
_ENDING = frozenset({"delete", "remove", "deregister", "revoke"})


class Key(NamedTuple):
    """`scope` says where the value means something: `rail:stripe`, `provider:cloud`, `issuer:https://..`."""

    kind: str
    scope: str
    value: str

    @property
    def words(self) -> str:
        kind = {"idempotency": "idempotency key", "request": "request id"}.get(self.kind, self.kind)
        return f"{kind} {self.value} at {self.scope.partition(':')[2] or 'an unnamed rail'}"


def scopes(provider: str, rail: str, issuer: str = "") -> list[str]:
    """Where a call went: to the provider, and for money to the rail. Failing both, its ids are its issuer's own."""
    found = [f"{name}:{value}" for name, value in (("provider", provider), ("rail", rail)) if value]
    return found or ([f"issuer:{issuer}"] if issuer else [])


def call_keys(places: list[str], *, idempotency_key: str, request_id: str, ray_id: str) -> list[Key]:
    found = [Key("idempotency", place, idempotency_key) for place in places if idempotency_key]
    return found + [Key("request", place, value) for place in places for value in {request_id, ray_id} - {""}]


def money_keys(
    provider: str,
    rail: str,
    *,
    idempotency_key: str,
    request_id: str,
    ray_id: str,
    invoice: str,
    subscription: str = "",
    payment: str = "",
    made: Key | None = None,
) -> tuple[Key, ...]:
    """By what a statement about money may be of the same obligation as another's, beside their charge. `made`: what it
    made (`thing_key`).
    """
    places = scopes(provider, rail)
    found = call_keys(places, idempotency_key=idempotency_key, request_id=request_id, ray_id=ray_id)
    found += [Key("invoice", place, invoice) for place in places if invoice]
    if payment and rail:  # an id of the rail's own
        found.append(Key("payment", f"rail:{rail}", payment))
    if made and made.value.startswith(MADE):
        found.append(made)
    return tuple(found + [Key("subscription", place, subscription) for place in places if subscription])


def thing_key(event_type: str, verb: str, provider: str, thing: str) -> Key | None:
    """The making or the end of one thing at a provider, however the source calls it."""
    if not provider or not thing:
        return None
    done = verb.rpartition(".")[2].lower() if event_type in ("action.performed", "action.denied") else ""
    if (
        event_type in MADE_TYPES
        or event_type in ("resource.requested", "resource.failed", "account.requested")
        or done in _MAKING
    ):
        return Key("thing", f"provider:{provider}", f"{MADE}{thing}")
    if event_type in ENDED_TYPES or done in _ENDING:
        return Key("thing", f"provider:{provider}", f"ended {thing}")
    return None
