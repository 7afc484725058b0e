"""Okta's System Log: events as an event hook sends them, as EventBridge's log stream does, and as the API lists them.

Verified: the LogEvent object and the delivery of event hooks in Okta's reference (read 2026-11); its one-time
verification (GET with x-okta-verification-challenge). Not verified: a live organisation; under which `actor.type` it
logs AI agents ("AIAgent" is taken for one, anything else that is no user, client or system is unknown).

What was done with an API token (`transaction.detail.requestApiTokenId`) is its token's: Okta names the human who made
it as the actor, and who holds it, a person or an agent, nobody says.

Chain order: none is stated. The client that got a token acts, for the user among the event's targets; in anything else
the actor acts. A token is known by the id of the target that it is.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.document import whole_escapes
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent
from auditlog.core.event import UNREADABLE, Event, Kind, Party, Payload, TokenObject
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.core.wire.static_token import check_static_token
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
    inner,
    party,
    shown,
    told_in_utc,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
REMOVED = NEVER_STORED | {"code"}  # an authorization code in an address
_OUTCOMES = {"SUCCESS": "success", "ALLOW": "success", "FAILURE": "failure", "DENY": "denied", "CHALLENGE": "pending",
             "DEFERRED": "pending", "RATE_LIMIT": "failure"}  # fmt: skip
_TYPES = {
    "user.session.start": "session.started", "user.session.end": "session.ended", "user.session.clear": "session.ended",
    "user.session.impersonation.initiate": "session.started", "user.session.impersonation.end": "session.ended",
    "app.oauth2.as.consent.grant": "consent.granted",
    "system.api_token.create": "credential.issued", "system.api_token.revoke": "credential.revoked",
    "user.lifecycle.create": "account.created",
}  # fmt: skip
_GRANTS = ("app.oauth2.token.grant", "app.oauth2.as.token.grant")
# Whoever revoked it and why: `app.oauth2.as.consent.revoke.user`, `app.oauth2.token.revoke.implicit.client` and more.
_REVOKES = {"app.oauth2.as.consent.revoke": "consent.withdrawn", "app.oauth2.consent.revoke": "consent.withdrawn",
            "app.oauth2.as.token.revoke": "token.revoked", "app.oauth2.token.revoke": "token.revoked"}  # fmt: skip
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_KINDS: dict[str, Kind] = {"user": "human", "systemprincipal": "service", "publicclientapp": "service", "confidentialclientapp": "service",
                           "oauth2 client": "service", "aiagent": "agent"}  # fmt: skip

ABOUT = About(
    title="Okta System Log",
    sent="POST of events as JSON: an event hook, a log stream's EventBridge event, one, lines, an array; gzip",
    authentication="a static value in the Authorization header; Okta does not sign",
    grade="D",
    carries="sessions, tokens granted, exchanged and revoked, consents, API tokens, accounts made; everything else as what was done",
    chains="the client that got a token acts for the user among the targets; else the actor alone. Joined by session and transaction",
    lacks="a signature, who holds an API token that was used, actor chains, the token that one was exchanged for",
    tested="events made to Okta's reference of LogEvent and of event hooks (2026-11)",
    against=("developer.okta.com, System Log and event hooks, 2026-11",),
    connect=(
        "In the Admin Console open Workflow > Event Hooks, and create one with the address {address}.",
        "Authentication field: Authorization; secret: the value of {secret}.",
        "Verify it: the one-time request is answered.",
        "Or create a log stream to EventBridge, with an API destination at that address and the same header.",
    ),
)


class Outcome(Struct):
    result: str | None = None
    reason: str | None = None


class LogEvent(Struct):
    uuid: str = ""
    eventType: str = ""
    published: str | None = None
    displayMessage: str | None = None
    outcome: Outcome | None = None
    actor: dict[str, Any] | None = None
    client: dict[str, Any] | None = None
    target: list[Any] | None = None
    transaction: dict[str, Any] | None = None
    authenticationContext: dict[str, Any] | None = None
    debugContext: dict[str, Any] | None = None
    detail: "LogEvent | None" = None  # of EventBridge, around an event
    event: "LogEvent | None" = None  # of Splunk's event collector


class Hooked(Struct):
    events: msgspec.Raw = msgspec.Raw()


class Hook(Struct):
    """An event hook's request; the events stand under `data`."""

    data: Hooked | None = None


_log = msgspec.json.Decoder(LogEvent).decode
_hook = msgspec.json.Decoder(Hook).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
    body = records.unpacked(delivery)
    found, alone = records.split(Delivery(body, "application/json", delivery.headers))
    rows: list[bytes] = []
    for raw in found:
        events = _events(raw)  # collectors batch hooks, and put each on a line
        rows += [raw] if events is raw else records.split(Delivery(events, "application/json", {}))[0]
    if len(rows) > records.MAX_RECORDS:
        raise DeliveryTooLarge(f"a delivery has at most {records.MAX_RECORDS:,} records")
    return records.each(
        rows,
        lambda raw: records.stated(raw, sender, parse=parse, grade="D", names=REMOVED),
        batch=not alone or rows != found,
    )


def _events(body: bytes) -> bytes:
    """The list of an event hook's events; of anything else the record as it is."""
    whole = whole_escapes(body)  # as long as it was
    try:
        hook = _hook(whole)
    except UNREADABLE:
        return body
    events = bytes(hook.data.events) if hook.data else b""
    if events[:1] != b"[":
        return body
    begins = whole.index(events)
    return body[begins : begins + len(events)]


def verification(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The one-time verification of an event hook: the challenge is sent back. It lets nobody in."""
    challenge = headers.get("x-okta-verification-challenge", "")
    return (
        {"verification": challenge}
        if 0 < len(challenge) <= 500 and challenge.isascii() and challenge.isprintable()
        else None
    )


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_log, raw, "an event of Okta's System Log")
    said = said if said.uuid else said.detail or said.event or said
    if not said.uuid or not said.eventType:
        raise MalformedEvent("expected a uuid and an eventType")
    outcome = _OUTCOMES.get((said.outcome.result or "").upper() if said.outcome else "", "unknown")
    native = _type(said, outcome)
    targets = [one for one in said.target or () if isinstance(one, dict)]
    used = fitted(inner(said.transaction, "detail", "requestApiTokenId"))
    actor, user = _party(said.actor, sender), _of_kind(targets, "User", sender)
    if used and actor and actor.kind == "human":
        actor = Party(actor.iss, actor.sub, "unknown")
    is_token = native.startswith("token.")
    principal = user if is_token and user else actor if actor and actor.kind == "human" else None
    acts = (
        actor
        if not (is_token and principal and actor and actor.key == principal.key)
        else _party(_client(said), sender)
    )
    token = next((fitted(one.get("id")) for one in targets if "token" in str(one.get("type")).lower()), "")
    about = next((one for one in targets if one.get("type") != "User"), targets[0] if targets else {})
    payload = Payload(
        outcome=outcome,
        mode="delegation" if principal and acts and principal.key != acts.key else "direct",
        actor=acting([acts]),
        action=action(said.eventType if native.startswith("action.") else "", provider=sender.provider,
                      target=(about.get("type"), about.get("id")), resource=about.get("alternateId")),
        token=TokenObject(jti=token, subject=principal, actor=acting([acts]), scope=_scope(said)) if is_token and token else used or token or None,
        session=_session(said),
        request_id=fitted(inner(said.transaction, "id")),
        call=called(said.eventType, error=said.outcome.reason if said.outcome and outcome in ("failure", "denied") else ""),
        client=client(inner(said.client, "ipAddress"), inner(said.client, "userAgent", "rawUserAgent")),
    )  # fmt: skip
    return event(
        sender, id=fitted(said.uuid), type=native, at=told_in_utc(said.published), payload=payload, principal=principal
    )


def _type(said: LogEvent, outcome: str) -> str:
    failed = outcome in ("failure", "denied")
    if said.eventType.startswith(_GRANTS):
        if inner(said.debugContext, "debugData", "grantType") == _EXCHANGE:
            return "token.exchange_failed" if failed else "token.exchanged"
        return "token.issued"
    native = _TYPES.get(said.eventType) or next(
        (
            ours
            for theirs, ours in _REVOKES.items()
            if said.eventType == theirs or said.eventType.startswith(f"{theirs}.")
        ),
        None,
    )
    if native is None or (failed and native.startswith(("credential.", "account."))):
        return "action.denied" if failed else "action.performed"
    return native


def _party(said: Any, sender: Sender) -> Party | None:
    kind = _KINDS.get(str(inner(said, "type")).lower(), "unknown")
    return party(sender.issuer, inner(said, "id") or inner(said, "alternateId"), kind)


def _session(said: LogEvent) -> str:
    """The session, of which Okta writes `unknown` where there is none."""
    given = (inner(said.authenticationContext, name) for name in ("rootSessionId", "externalSessionId"))
    return next((fitted(id) for id in given if id and id != "unknown"), "")


def _of_kind(targets: list[dict[str, Any]], kind: str, sender: Sender) -> Party | None:
    return next((found for one in targets if one.get("type") == kind and (found := _party(one, sender))), None)


def _client(said: LogEvent) -> dict[str, Any]:
    """The client of an event whose actor is the user, where it is named."""
    return {
        "id": inner(said.debugContext, "debugData", "clientId") or inner(said.client, "id"),
        "type": "PublicClientApp",
    }


def _scope(said: LogEvent) -> str | None:
    return (
        shown(
            inner(said.debugContext, "debugData", "grantedScopes")
            or inner(said.debugContext, "debugData", "requestedScopes")
        )
        or None
    )
