"""Keycloak user events and admin events, as its listener writes them or its admin API lists them.

Verified in Keycloak's source: event types, field names, the `details` of a token exchange. Not verified: how a given
HTTP listener wraps several events (lines, an array, one object are taken); the core has no signed webhook.

Chain order: a standard exchange reads no actor token, so a chain has to be linked from events. `clientId` is the new
actor, `subject_token_client_id` the one before it, `sessionId` and `userId` are the thread. One event gives its two
hops, oldest first; longer chains join through the session. Here, and only here, a client *is* who acts: in Keycloak
the exchange is between clients.
"""

from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Actor, Event, Party, Payload, TokenObject
from auditlog.core.redaction import NEVER_STORED
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    digest_id,
    event,
    fitted,
    instant,
    party,
    shown,
    type_or_other,
    verb_of,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
# An admin event's `representation` is the whole object as text, a client's secret and all.
REMOVED = NEVER_STORED | {"representation"}

# type: ours when it went well, ours when it failed
_TYPES: dict[str, tuple[str, str]] = {
    "LOGIN": ("session.started", "session.started"),
    "LOGOUT": ("session.ended", "session.ended"),
    "CODE_TO_TOKEN": ("token.issued", "token.issued"),
    "REFRESH_TOKEN": ("token.issued", "token.issued"),
    "CLIENT_LOGIN": ("token.issued", "token.issued"),
    "PERMISSION_TOKEN": ("token.issued", "token.issued"),
    "TOKEN_EXCHANGE": ("token.exchanged", "token.exchange_failed"),
    "JWT_BEARER": ("token.exchanged", "token.exchange_failed"),
    "OAUTH2_EXTENSION_GRANT": ("token.exchanged", "token.exchange_failed"),
    "GRANT_CONSENT": ("consent.granted", "consent.granted"),
    "UPDATE_CONSENT": ("consent.granted", "consent.granted"),
    "REVOKE_GRANT": ("consent.withdrawn", "consent.withdrawn"),
    "IMPERSONATE": ("session.started", "session.started"),
}
_EXCHANGES = ("TOKEN_EXCHANGE", "JWT_BEARER", "OAUTH2_EXTENSION_GRANT")

ABOUT = About(
    title="Keycloak events",
    sent="POST by an HTTP event listener, or by a script that polls the admin API: one event, JSON lines or an array",
    authentication="a static token in the Authorization header; Keycloak's core does not sign events",
    grade="D",
    carries="logins, tokens issued, token exchanges and their failures, consents, impersonation, admin changes",
    chains="clientId acts for subject_token_client_id, for userId; longer chains are linked by sessionId",
    lacks="a signature, actor tokens, and the id of the token that was exchanged",
    tested="events made to the field names in Keycloak's source; no samples are published",
    connect=(
        "Install an HTTP event listener in Keycloak and enable it under Realm settings > Events.",
        "Set its address to {address}.",
        "Have it send the header Authorization: Bearer <the value of {secret}>.",
        "Save TOKEN_EXCHANGE, JWT_BEARER and consent events; switch on admin events too.",
    ),
)


class KeycloakEvent(Struct):
    """A user event, or an admin event (`operationType`). Ids are absent from older listeners' events."""

    time: int
    type: str = ""
    id: str | None = None
    realmId: str | None = None
    realmName: str | None = None
    clientId: str | None = None
    userId: str | None = None
    sessionId: str | None = None
    ipAddress: str | None = None
    error: str | None = None
    details: dict[str, Any] | None = None
    operationType: str = ""
    resourceType: str | None = None
    resourcePath: str | None = None
    authDetails: dict[str, Any] | None = None


_event = msgspec.json.Decoder(KeycloakEvent).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(
        delivery,
        sender,
        lambda raw: records.stated(raw, sender, parse=parse, grade="D", names=REMOVED),
        wrappers=("events",),
    )


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_event, raw, "a Keycloak event")
    id = fitted(said.id) or digest_id(raw)
    if said.operationType:
        return _admin_event(said, id, sender)
    if not said.type:
        raise MalformedEvent("expected a type or an operationType")
    details = said.details or {}
    base = said.type.removesuffix("_ERROR")
    failed = base != said.type or bool(said.error)
    native = _TYPES[base][failed] if base in _TYPES else type_or_other("", sender, said.type)
    known = base in _TYPES
    principal = party(sender.issuer, said.userId, "human")
    actor = _actor(said, base, details, sender)
    audience = details.get("audience")
    payload = Payload(
        outcome=("failure" if failed else "success") if known else "unknown",
        mode="impersonation" if base == "IMPERSONATE" else "delegation" if actor else "direct",
        actor=actor,
        action=action(verb_of(native, said.type), provider=sender.provider, account=said.realmName or said.realmId,
                      target=("client", said.clientId), resource=audience),
        token=_token(said, native, principal, actor, details),
        session=fitted(said.sessionId),
        call=called(said.type, error=said.error),
        client=client(said.ipAddress, details.get("user_agent")),
    )  # fmt: skip
    return event(sender, id=id, type=native, at=instant(said.time), payload=payload, principal=principal)


def _actor(said: KeycloakEvent, base: str, details: dict[str, Any], sender: Sender) -> Actor | None:
    """Who acts by the event: of an exchange its two clients, of an impersonation the impersonator."""
    issuer = sender.issuer
    if base in _EXCHANGES:
        before, now = details.get("subject_token_client_id"), said.clientId
        hops = [party(issuer, before), party(issuer, now)] if before != now else [party(issuer, now)]
        return acting(hops)
    if base == "IMPERSONATE":
        return acting([party(issuer, details.get("impersonator"), "human")])
    return None


def _token(
    said: KeycloakEvent, native: str, principal: Party | None, actor: Actor | None, details: dict[str, Any]
) -> TokenObject | str | None:
    jti = fitted(details.get("token_id"))
    if not jti or not native.startswith("token."):
        return jti or None
    audience = details.get("audience")
    return TokenObject(
        jti=jti, subject=principal, actor=actor, audience=[fitted(audience)] if isinstance(audience, str) else None,
        scope=shown(details.get("scope")) or None,
    )  # fmt: skip


def _admin_event(said: KeycloakEvent, id: str, sender: Sender) -> Event:
    by = said.authDetails or {}
    failed = bool(said.error)
    payload = Payload(
        outcome="failure" if failed else "success",
        mode="direct",
        actor=acting([party(sender.issuer, by.get("userId"))]),
        action=action(
            f"{said.resourceType or 'realm'}.{said.operationType}".lower(), provider=sender.provider,
            account=said.realmName or said.realmId, target=(said.resourceType, said.resourcePath),
        ),
        client=client(by.get("ipAddress")),
    )  # fmt: skip
    native = "action.denied" if failed else "action.performed"
    return event(sender, id=id, type=native, at=instant(said.time), payload=payload)
