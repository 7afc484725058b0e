"""Auth0 log streams (Custom Webhook): JSON lines, an array, or an object; each record `{log_id, data}` or bare.

Verified: field names and types, against Auth0's published JSON Schemas; that delivery carries a static
`Authorization` value and no signature, and tries again. Not verified: the name under which the "JSON object" content
format wraps several records (`logs` is taken).

Chain order: `details.actor` is the current actor, each `act` inside it an earlier one, the deepest the original
caller; as in RFC 8693, and as in our own event, so nothing is turned round. The human is `user_id`, outside of it.
`client_id` is an application and never an actor. An actor's kind is known only where Auth0 says `agent_id`.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import MAX_ACT_DEPTH, Actor, Event, Party, Payload, TokenObject
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    event,
    fitted,
    note,
    party,
    shown,
    told_in_utc,
    type_or_other,
    verb_of,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical

# log type: ours, outcome. Codes not read in a schema come from Auth0's list of log event type codes.
_TYPES: dict[str, tuple[str, str]] = {
    "success_on_behalf_of_token_exchange": ("token.exchanged", "success"),
    "failed_on_behalf_of_token_exchange": ("token.exchange_failed", "failure"),
    "secte": ("token.exchanged", "success"),
    "fecte": ("token.exchange_failed", "failure"),
    "idjag_exchange_succeeded": ("token.exchanged", "success"),
    "jwt_bearer_exchange_failed": ("token.exchange_failed", "failure"),
    "seta": ("token.exchanged", "success"),
    "feta": ("token.exchange_failed", "failure"),
    "seacft": ("token.issued", "success"),
    "feacft": ("token.issued", "failure"),
    "sertft": ("token.issued", "success"),
    "fertft": ("token.issued", "failure"),
    "seccft": ("token.issued", "success"),
    "feccft": ("token.issued", "failure"),
    "sede": ("token.issued", "success"),  # device code
    "fede": ("token.issued", "failure"),
    "sepft": ("token.issued", "success"),  # password
    "fepft": ("token.issued", "failure"),
    "seotpft": ("token.issued", "success"),  # password and one-time code
    "feotpft": ("token.issued", "failure"),
    "seoobft": ("token.issued", "success"),  # password and out-of-band challenge
    "feoobft": ("token.issued", "failure"),
    "sercft": ("token.issued", "success"),  # recovery code
    "fercft": ("token.issued", "failure"),
    "sepkft": ("token.issued", "success"),  # passkey
    "fepkft": ("token.issued", "failure"),
    "sens": ("token.issued", "success"),  # native social login
    "fens": ("token.issued", "failure"),
    "ssa": ("token.issued", "success"),  # silent authentication
    "fsa": ("token.issued", "failure"),
    # A human is asked on another device (CIBA): what is answered comes as the exchange, or not.
    "ciba_start_succeeded": ("approval.requested", "pending"),
    "ciba_start_failed": ("approval.requested", "failure"),
    "ciba_exchange_succeeded": ("token.issued", "success"),
    "ciba_exchange_failed": ("token.issued", "failure"),
    "limit_delegation": ("delegation.denied", "denied"),
    "s": ("session.started", "success"),
    "f": ("session.started", "failure"),
    "fp": ("session.started", "failure"),
    "fu": ("session.started", "failure"),
    "slo": ("session.ended", "success"),
    "srrt": ("token.revoked", "success"),
}

ABOUT = About(
    title="Auth0 log streams",
    sent="Custom Webhook stream: JSON lines, JSON array or JSON object, application/json or application/x-ndjson",
    authentication="the stream's Authorization token, the same each time; Auth0 does not sign",
    grade="D",
    carries="token exchanges (on behalf of, custom, token vault, ID-JAG), tokens issued, logins, agent_id",
    chains="details.actor: outermost is the current actor, deepest the original caller; the human is user_id",
    lacks="a signature; the parent token's id, so an exchange is linked by its actors and not by its subject token",
    tested="records made to Auth0's JSON Schemas and checked against them",
    against=("auth0/auth0-log-schemas, JSON Schemas, 2026-11", "auth0.com/docs/tenant-logs, 2026-11"),
    connect=(
        "In Auth0 open Monitoring > Streams, create a stream of type Custom Webhook.",
        "Payload URL: {address}",
        "Authorization Token: the value of {secret}, as it is.",
        "Content Type: application/json. Content Format: JSON Lines.",
        "Filter by the category of token exchange and login events, or send all: unknown types are kept too.",
    ),
)


class Log(Struct):
    """What every schema requires, and what we read. Scope is a list or one string."""

    type: str
    log_id: str | None = None
    date: Any = None
    description: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    audience: str | list[str] | None = None
    scope: str | list[str] | None = None
    ip: str | None = None
    user_agent: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    details: Any = None


class Record(Struct):
    log_id: str | None = None
    data: Raw = Raw()
    detail: Raw = Raw()  # of EventBridge, around a record


_record = msgspec.json.Decoder(Record).decode
_log = msgspec.json.Decoder(Log).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(
        delivery,
        sender,
        lambda raw: records.stated(raw, sender, parse=parse, grade="D"),
        wrappers=("logs",),
        carried=True,
    )


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    """One log record as an event. Raises MalformedEvent."""
    record = decoded(_record, raw, "an Auth0 log record")
    if not record.log_id and bytes(record.detail)[:1] == b"{":
        raw = bytes(record.detail)
        record = decoded(_record, raw, "an Auth0 log record")
    log = decoded(_log, record.data or raw, "an Auth0 log record")
    log_id = record.log_id or log.log_id
    if not log_id or not log.type:
        raise MalformedEvent("expected a log_id and a type")
    native, outcome = _TYPES.get(log.type, (type_or_other("", sender, log.type), "unknown"))
    details = log.details if isinstance(log.details, dict) else {}
    principal = _user(log.user_id, sender)
    actor = _actor(details.get("actor"), log, sender)
    audience = [log.audience] if isinstance(log.audience, str) else log.audience or []
    payload = Payload(
        outcome=outcome,
        mode=_mode(actor, principal, native),
        actor=actor,
        action=action(
            verb_of(native, log.type),
            provider=sender.provider,
            account=log.organization_id,
            target=("agent", log.agent_id) if log.agent_id else ("client", log.client_id),
            resource=audience[0] if audience else "",
        ),
        token=_token(details, principal, actor, audience, log, native),
        session=fitted(log.session_id),
        call=called(log.type, error=log.description if outcome in ("failure", "denied") else ""),
        client=client(log.ip, log.user_agent),
    )
    return event(
        sender, id=fitted(log_id), type=native, at=told_in_utc(_text(log.date)), payload=payload, principal=principal
    )


def _text(date: Any) -> Any:
    """RFC 3339 text; a number there could mean anything, so it counts as none."""
    if date is None or isinstance(date, str):
        return date
    note(f"not read: date, expected RFC 3339 text, found {type(date).__name__}")
    return None


def _user(user_id: str | None, sender: Sender) -> Party | None:
    """`user_id` of a machine-to-machine flow is empty, or the application's id with `@clients`."""
    kind = "service" if user_id and user_id.endswith("@clients") else "human"
    return party(sender.issuer, user_id, kind)


def _actor(actor: Any, log: Log, sender: Sender) -> Actor | None:
    newest_first: list[Party | None] = []
    while isinstance(actor, dict):
        kind = "agent" if not newest_first and log.agent_id else "unknown"
        newest_first.append(party(actor.get("iss") or sender.issuer, actor.get("sub"), kind))  # `sub` may be null
        if len(newest_first) > MAX_ACT_DEPTH:
            raise MalformedEvent(f"details.actor is nested deeper than {MAX_ACT_DEPTH}")
        actor = actor.get("act")
    return acting(reversed(newest_first)) or acting([party(sender.issuer, log.agent_id, "agent")])


def _mode(actor: Actor | None, principal: Party | None, native: str) -> str:
    """RFC 8693 section 1.1: an exchange without an actor is impersonation."""
    if actor is not None:
        return "delegation"
    return "impersonation" if native.startswith("token.exchange") and principal else "direct"


def _token(details: dict, principal: Party | None, actor: Actor | None, audience: list[str], log: Log, native: str):
    jti = fitted(details.get("access_token_jti"))
    if not jti or not native.startswith("token."):
        return jti or None
    scope = log.scope if isinstance(log.scope, str) else " ".join(log.scope or ())
    return TokenObject(
        jti=jti, subject=principal, actor=actor, audience=[fitted(a) for a in audience[:500]] or None,
        scope=shown(scope) or None,
    )  # fmt: skip
