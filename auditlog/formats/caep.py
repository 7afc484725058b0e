"""Shared Signals: Security Event Tokens of CAEP 1.0, RISC 1.0 and SSF 1.0, as identity providers send them, pushed
(RFC 8935) or polled (RFC 8936). Grade A: each is signed by its transmitter.

Verified: event names and fields as the specifications have them, and the forms of subject identifiers (RFC 9493), those
of older drafts too (`subject` in the event, `subject_type`, complex subjects without a `format`). Not verified: a live
transmitter. What has no native type is kept as other.<source>.<profile>.<event>.

`aud` is the source's configured audience, which the stream was given; without one it is the tenant's URN, as for
native events. A verification event says that the stream lives: it is a heartbeat.

Chain order: none. A signal says what happened to a subject and who began it (`initiating_entity`), no delegation. The
subject is the principal; a subject without an issuer of its own is one of the transmitter's.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from auditlog.core.errors import MalformedEvent, WrongAudience, WrongIssuer
from auditlog.core.event import ARRIVAL, Actor, Event, Id, Issuer, Party, Payload, Seconds, moment
from auditlog.formats import About, Delivery, Received, Sender
from auditlog.formats import set as native
from auditlog.formats.set_polling import (  # noqa: F401  what `poll.py` asks this format for
    POLL_NEEDS_KEY,
    poll_closing,
    poll_request,
    poll_response,
    poll_settled,
    poll_state,
)
from auditlog.formats.values import (
    acting,
    action,
    called,
    client,
    decoded,
    event,
    fitted,
    note,
    party,
    told_at,
    type_or_other,
    verb_of,
)

CONTENT_TYPES, content = native.CONTENT_TYPES, native.content
ABOUT = About(
    title="Shared Signals (CAEP, RISC)",
    sent="POST of one Security Event Token (application/secevent+jwt, RFC 8935); or polled (RFC 8936)",
    authentication="each token is signed by its transmitter; its keys are read from its JWKS address",
    grade="A",
    carries="sessions begun, presented and ended, credentials changed, assurance, device compliance, risk, accounts disabled",
    chains="none: a signal is about a subject, not about who acts for whom",
    lacks="agents, delegation, money; of an `admin` who began something, the name",
    tested="the examples' forms of CAEP, RISC, SSF and RFC 9493, old drafts too; every claim mutated",
    against=("CAEP 1.0, RISC 1.0, SSF 1.0 and RFC 9493, examples",),
    connect=(
        "At the transmitter create a stream for this receiver, with the audience that you give this source.",
        "Choose push delivery to {address}, or poll delivery, and give its endpoint as the address to poll.",
        "Give the jwks_uri of its /.well-known/ssf-configuration as the address of its keys.",
        "Ask it for a verification event: it shows here as a heartbeat.",
    ),
)
_URI = re.compile(r"https://schemas\.openid\.net/secevent/(caep|risc|ssf|sse|oauth)/event-type/([a-z0-9-]{1,80})\Z")
_OURS = {
    "caep.session-revoked": "session.ended",
    "caep.session-established": "session.started",
    "risc.sessions-revoked": "session.ended",
    "oauth.token-revoked": "token.revoked",
    "oauth.tokens-revoked": "token.revoked",
    "ssf.verification": "source.heartbeat",
    "sse.verification": "source.heartbeat",
    "risc.verification": "source.heartbeat",
}
_CREDENTIAL = {
    "create": "credential.issued",
    "update": "credential.rotated",
    "revoke": "credential.revoked",
    "delete": "credential.revoked",
}


class Identifier(Struct):
    """A subject identifier of RFC 9493, simple or complex, under its own names and those of older drafts."""

    iss: str = ""
    sub: str = ""
    email: str = ""
    phone_number: str = ""
    phone: str = ""
    uri: str = ""
    url: str = ""
    id: str = ""
    jti: str = ""
    token: str = ""
    identifiers: "list[Identifier]" = []
    user: "Identifier | None" = None
    session: "Identifier | None" = None
    device: "Identifier | None" = None
    tenant: "Identifier | None" = None


class Signal(Struct):
    """The value under an event's URI."""

    subject: Identifier | None = None  # before SSF 1.0, `sub_id` stood here
    event_timestamp: int | float | str | None = None
    initiating_entity: str = ""
    change_type: str = ""
    credential_type: str = ""
    friendly_name: str = ""
    x509_serial: str = ""
    fido2_aaguid: str = ""
    ips: list[str] = []


class Claims(Struct):
    iss: Issuer
    iat: Seconds
    jti: Id
    aud: str | list[str]
    events: dict[str, Raw]
    toe: Seconds | None = None
    txn: Id = ""
    sub_id: Identifier | None = None
    sub: Any = msgspec.UNSET
    exp: Any = msgspec.UNSET


_claims = msgspec.json.Decoder(Claims).decode
_signal = msgspec.json.Decoder(Signal).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return native.received(delivery, sender, _event)


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    return _event(native.claims_in(raw), sender)


def _event(document: bytes, sender: Sender) -> Event:
    """Verified claims as an event. Raises Refused."""
    claims = decoded(_claims, document, "claims of a Security Event Token")
    if claims.iss != sender.issuer:
        raise WrongIssuer(f"expected iss {sender.issuer!r}, found {claims.iss!r}")
    if claims.sub is not msgspec.UNSET or claims.exp is not msgspec.UNSET:
        raise MalformedEvent("a SET has neither `sub` nor `exp` (SSF 1.0): this is another kind of token")
    wanted = sender.audience or f"urn:answerable:{sender.tenant}"
    if wanted not in ((claims.aud,) if isinstance(claims.aud, str) else claims.aud):
        raise WrongAudience(f"expected aud to contain {wanted!r}, found {str(claims.aud)[:200]!r}")
    if len(claims.events) != 1:
        raise MalformedEvent(f"expected exactly one event in `events` (SSF 1.0), found {len(claims.events)}")
    [(uri, raw)] = claims.events.items()
    said = Signal()
    if bytes(raw) != b"null":
        said = decoded(_signal, raw, "a CAEP, RISC or SSF event")
    else:  # its name and the subject say what happened to whom
        note("not read: the event's value, which is null")
    match = _URI.match(uri)
    name = f"{match[1]}.{match[2]}" if match else uri[:120]
    subject = claims.sub_id or said.subject or Identifier()
    principal, session, token = _whom(subject, sender), _session(subject), _token(subject)
    kind = _OURS.get(name, "")
    if name == "caep.credential-change":
        kind = _CREDENTIAL.get(said.change_type, "")
    kind = kind or type_or_other("", sender, name)
    payload = Payload(
        outcome="success" if match else "unknown",
        mode="direct",
        actor=_actor(said.initiating_entity, principal, sender),
        action=action(verb_of(kind, name), provider=sender.provider, target=_target(kind, said, subject, session)),
        session=session,
        token=token or None,
        call=called(name),
        client=client(said.ips[0] if said.ips else ""),
    )
    issued = moment(claims.iat)
    at = told_at(said.event_timestamp)
    stated = at != ARRIVAL
    if not stated:
        at = issued if claims.toe is None else moment(claims.toe)
    return event(sender, id=claims.jti, type=kind, at=at, payload=payload, issued_at=issued, txn=claims.txn, principal=principal,
                 dated=stated or claims.toe is not None)  # fmt: skip


def _whom(subject: Identifier, sender: Sender) -> Party | None:
    """The party that a subject names: of a complex one its user, of aliases the first that names one."""
    if subject.user is not None:
        found = _whom(subject.user, sender) if subject.user.user is None else None
        return Party(found.iss, found.sub, "human") if found else None
    for alias in subject.identifiers[:10]:
        if not alias.identifiers and (found := _whom(alias, sender)):
            return found
    if subject.sub:
        return party(subject.iss or sender.issuer, subject.sub)
    if subject.jti or subject.token or subject.session or subject.device:  # a token, a session, a device: nobody
        return None
    name = subject.email or subject.phone_number or subject.phone or subject.uri or subject.url or subject.id
    return party(sender.issuer, name)


def _session(subject: Identifier) -> str:
    given = subject.session
    return fitted(given.id or given.sub or given.uri) if given else ""


def _token(subject: Identifier) -> str:
    """The `jti` of RFC 9493's and SSF's `jwt_id`; of a revoked OAuth token the part or digest that is told of it."""
    return fitted(subject.jti or subject.token)


def _actor(initiating: str, principal: Party | None, sender: Sender) -> Actor | None:
    """Who began it, where that is somebody: the user, or the transmitter's policy or system. Of an admin nobody says
    who.
    """
    if initiating == "user":
        return acting([principal])
    return acting([party(sender.issuer, initiating, "service")]) if initiating in ("policy", "system") else None


def _target(kind: str, said: Signal, subject: Identifier, session: str) -> tuple[str, str]:
    if kind.startswith("credential."):
        return said.credential_type or "credential", said.x509_serial or said.fido2_aaguid or said.friendly_name
    if session:
        return "session", session
    if subject.device is not None:
        return "device", subject.device.id or subject.device.sub or subject.device.uri
    return "", ""
