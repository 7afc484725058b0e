"""Keycloak user events and admin events, as its admin API lists them and as the HTTP listeners that people run send
them:

- Keycloak's own names (`id`, `time`, `type`, `clientId`, `userId`), one event, lines or an array;
- Phase Two's keycloak-events: `uid`, a type with the prefix `access.` or `admin.`, and who in `authDetails`; signed
with
  `X-Keycloak-Signature` (HMAC in hex of the body, SHA-256 or SHA-1) or with a JWT of the realm's key whose claim
  `request_body_sha256` names the body;
- vymalo's keycloak-webhook: an admin event is `RESOURCE-OPERATION` in `type`, and its `userId` is the administrator;
- snake case, an event inside of `event`, `adminEvent`, `data` or `payload`, and its type as `eventType` or `event`.

Verified in Keycloak's source: event types, field names, the `details` of a token exchange; in the listeners' sources
their shapes and signatures. Not verified: a running listener. The core has no signed webhook.

Chain order: a standard exchange reads no actor token, so a chain has to be linked from events. `clientId` is the new
actor, `subject_token_client_id` the one before it, `sessionId` and `userId` are the thread. One event gives its two
hops, oldest first; longer chains join through the session. Here, and only here, a client *is* who acts: in Keycloak
the exchange is between clients.
"""

import hmac
import re
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.document import dumped
from auditlog.core.errors import BadSignature, MalformedEvent, UnknownKey, WrongIssuer
from auditlog.core.event import Actor, Event, Party, Payload, TokenObject
from auditlog.core.wire.jws import check_jws, key_of, open_jws
from auditlog.core.wire.keys import Key
from auditlog.core.wire.redaction import NEVER_STORED
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
    inner,
    party,
    shown,
    told_at,
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
    authentication="a static token in the Authorization header; Phase Two's listener signs: X-Keycloak-Signature (HMAC) or a JWT of the realm's key",
    grade="B with the realm's JWT, C with X-Keycloak-Signature, else D; D where a secret had to be removed",
    carries="logins, tokens issued, token exchanges and their failures, consents, impersonation, admin changes",
    chains="clientId acts for subject_token_client_id, for userId; longer chains are linked by sessionId",
    lacks="actor tokens, and the id of the token that was exchanged",
    tested="events made to the field names in the sources of Keycloak and of three listeners, signed as Phase Two's signs",
    against=(
        "keycloak/keycloak sources, 2026-11",
        "p2-inc/keycloak-events and vymalo/keycloak-webhook sources, 2026-11",
    ),
    connect=(
        "Install an HTTP event listener in Keycloak and enable it under Realm settings > Events.",
        "Set its address to {address}.",
        "Have it send the header Authorization: Bearer <the value of {secret}>; or give Phase Two's listener that"
        " value as its secret.",
        "For its signature by JWT give the realm's JWKS (/realms/<realm>/protocol/openid-connect/certs) when you add"
        " the source.",
        "Save TOKEN_EXCHANGE, JWT_BEARER and consent events; switch on admin events too.",
    ),
)


class KeycloakEvent(Struct):
    """A user event, or an admin event (`operationType`). Ids are absent from older listeners' events."""

    time: int | float | str | None = None
    type: str = ""
    id: str | None = None
    uid: str | None = None
    realmId: str | None = None
    realmName: str | None = None
    clientId: str | None = None
    userId: str | None = None
    sessionId: str | None = None
    ipAddress: str | None = None
    error: Any = None  # of another type it is an error all the same
    details: dict[str, Any] | None = None
    operationType: str = ""
    resourceType: str | None = None
    resourcePath: str | None = None
    authDetails: dict[str, Any] | None = None
    event: Any = None  # the event, or its type
    adminEvent: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    eventType: Any = None
    # the same in snake case
    created_timestamp: int | float | str | None = None
    user_id: str | None = None
    client_id: str | None = None
    session_id: str | None = None
    user_ip: str | None = None
    realm: Any = None
    timestamp: int | float | str | None = None

    def by(self, name: str, other: str | None = None) -> Any:
        """What it says itself, else what its `authDetails` do (Phase Two's listener, and every admin event)."""
        return getattr(self, name) or (self.authDetails or {}).get(name) or other


_event = msgspec.json.Decoder(KeycloakEvent).decode
_ADMIN = re.compile(r"(?:admin\.)?([A-Z][A-Z0-9_]*)-(CREATE|UPDATE|DELETE|ACTION)\Z")
KEY_NAME = "keycloak-webhook-secret"
JWT = "request-jwt"  # as it is stored: it signs this body and lets nobody in


def receive(delivery: Delivery, sender: Sender) -> Received:
    signature = delivery.headers.get("x-keycloak-signature", "")
    bearer = delivery.headers.get("authorization", "").partition(" ")[2].strip()
    if signature:
        _check_mac(delivery.body, signature, sender)
        return _signed(delivery, sender, grade="C", key=KEY_NAME, headers={"x-keycloak-signature": signature})
    if sender.keys and bearer.count(".") == 2:
        key = _check_jwt(delivery.body, bearer, sender)
        return _signed(delivery, sender, grade="B", key=key.thumbprint, proofs={JWT: bearer})
    return records.received(
        delivery,
        sender,
        lambda raw: records.stated(raw, sender, parse=parse, grade="D", names=REMOVED),
        wrappers=("events",),
    )


def check_stored(raw: bytes, headers: bytes, sender: Sender) -> None:
    """Check a stored event's signature again. Raises Refused."""
    told = records.told(headers)
    if JWT in told:
        _check_jwt(raw, told[JWT], sender)
    else:
        _check_mac(raw, told.get("x-keycloak-signature", ""), sender)


def _signed(delivery: Delivery, sender: Sender, *, grade: str, key: str, headers: dict[str, str] | None = None,
            proofs: dict[str, str] | None = None) -> Received:  # fmt: skip
    """The events of a signed body. Of several none can be checked by itself, so each is worth its channel."""
    found, alone = records.split(delivery, wrappers=("events",))
    if found != [delivery.body]:
        grade, key, headers, proofs = "D", records.NO_KEY, None, None
    return records.each(found, lambda raw: records.stated(raw, sender, parse=parse, grade=grade, key=key, names=REMOVED,
                                                          headers=headers, proofs=proofs), batch=not alone)  # fmt: skip


def _check_mac(body: bytes, given: str, sender: Sender) -> None:
    """Hexadecimal HMAC of the body, by SHA-256, or by SHA-1 where the listener is told so."""
    secrets = sender.secrets()
    if not secrets:
        raise UnknownKey("this source's secret is not set where the service runs")
    sent = given.strip().lower().removeprefix("sha256=").encode()
    hash = "sha1" if len(sent) == 40 else "sha256"
    if not any([hmac.compare_digest(hmac.new(secret, body, hash).hexdigest().encode(), sent) for secret in secrets]):
        raise BadSignature("X-Keycloak-Signature does not fit the received bytes")


def _check_jwt(body: bytes, compact: str, sender: Sender) -> Key:
    """The realm's key that signed this body. Its age is not judged: it can be replayed with nothing but the same event."""
    try:
        jws = open_jws(compact)
    except MalformedEvent as error:
        raise BadSignature(f"the JWT in Authorization cannot be read: {error}") from None
    key = check_jws(jws, key_of(jws, sender.keys))
    if jws.claims.get("iss") != sender.issuer:
        raise WrongIssuer(f"expected iss {sender.issuer!r}, found {str(jws.claims.get('iss'))[:200]!r}")
    given = str(jws.claims.get("request_body_sha256", ""))
    if not hmac.compare_digest(given.lower().encode(), sha256(body).hexdigest().encode()):
        raise BadSignature("the JWT's request_body_sha256 is not that of the received bytes")
    return key


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_event, raw, "a Keycloak event")
    if not (said.type or said.operationType):
        inside = said.adminEvent or (said.event if isinstance(said.event, dict) else None) or said.data or said.payload
        if inside:
            said = decoded(_event, dumped({"error": said.error} | inside), "a Keycloak event")
        if not (said.type or said.operationType):
            said.type = next((word for word in (said.eventType, said.event) if isinstance(word, str)), "")
    id = fitted(said.id or said.uid) or digest_id(raw)
    admin = _ADMIN.match(said.type)
    if admin and not said.operationType:
        said.operationType, said.resourceType = admin[2], said.resourceType or admin[1]
    if said.operationType:
        return _admin_event(said, id, sender)
    if not said.type:
        raise MalformedEvent("expected a type or an operationType")
    details = said.details or {}
    type = said.type.removeprefix("access.")
    base = type.removesuffix("_ERROR")
    failed = base != type or bool(said.error)
    native = _TYPES[base][failed] if base in _TYPES else type_or_other("", sender, said.type)
    known = base in _TYPES
    now = fitted(said.by("clientId", said.client_id))
    # A client that signs in as itself does so as the user that Keycloak made for it (service accounts).
    is_client = base == "CLIENT_LOGIN" or str(details.get("username") or "").startswith("service-account-")
    principal = party(sender.issuer, said.by("userId", said.user_id), "service" if is_client else "human")
    actor = _actor(now, base, details, sender)
    audience = details.get("audience")
    payload = Payload(
        outcome=("failure" if failed else "success") if known else "unknown",
        mode="impersonation" if base == "IMPERSONATE" else "delegation" if actor else "direct",
        actor=actor,
        action=action(
            verb_of(native, type),
            provider=sender.provider,
            account=_realm(said),
            target=("client", now),
            resource=audience,
        ),
        token=_token(said, native, principal, actor, details),
        session=fitted(said.by("sessionId", said.session_id)),
        call=called(type, error=said.error),
        client=client(said.by("ipAddress", said.user_ip), details.get("user_agent")),
    )
    return event(sender, id=id, type=native, at=_at(said), payload=payload, principal=principal)


def _realm(said: KeycloakEvent) -> Any:
    named = inner(said.realm, "name") or inner(said.realm, "id") or said.realm
    return said.realmName or said.realmId or (named if isinstance(named, str) else "")


def _at(said: KeycloakEvent) -> datetime:
    return told_at(next((at for at in (said.time, said.created_timestamp, said.timestamp) if at is not None), None))


def _actor(now: str, base: str, details: dict[str, Any], sender: Sender) -> Actor | None:
    """Who acts by the event: of an exchange its two clients, of an impersonation the impersonator."""
    issuer = sender.issuer
    if base in _EXCHANGES:
        before = details.get("subject_token_client_id")
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
    failed = bool(said.error)
    payload = Payload(
        outcome="failure" if failed else "success",
        mode="direct",
        actor=acting([party(sender.issuer, said.by("userId", said.user_id))]),
        action=action(
            f"{said.resourceType or 'realm'}.{said.operationType}".lower(), provider=sender.provider,
            account=_realm(said), target=(said.resourceType, said.resourcePath),
        ),
        session=fitted(said.by("sessionId", said.session_id)),
        call=called("", error=said.error),
        client=client(said.by("ipAddress", said.user_ip)),
    )  # fmt: skip
    native = "action.denied" if failed else "action.performed"
    return event(sender, id=id, type=native, at=_at(said), payload=payload)
