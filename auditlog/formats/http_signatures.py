"""Requests signed by RFC 9421 whose body is covered by Content-Digest (Web Bot Auth, Trusted Agent style senders).

Verified: the signature base against Web Bot Auth's published vectors. The signature must cover `content-digest`:
without it the body is anybody's. Parameters `created` is required, `expires`, `nonce` and `tag` are kept and not
judged: an event's identity makes a replay harmless. What was signed is stored with the event, request line included,
so a third party can check it again: grade B.

Chain order: that of the payload: nested `act`, outermost current. The key's holder is the sender, not an actor.
"""

from collections.abc import Mapping
from contextlib import suppress

from auditlog.core.errors import BadSignature, Refused, WrongContentType
from auditlog.core.event import ARRIVAL, Event
from auditlog.core.wire.http_signature import (
    Signed,
    as_several_lines,
    check_content_digest,
    check_signature,
    signatures,
)
from auditlog.core.wire.keys import Key
from auditlog.formats import About, Delivery, Received, Sender
from auditlog.formats.envelope import message_in, opened, untyped
from auditlog.formats.records import refuse_charset, stated, told
from auditlog.formats.values import canonical, digest_id, event, instant, told_at

CONTENT_TYPES = ("application/json",)
content = canonical
_LINE = {"@method": (":method",), "@scheme": (":scheme",), "@authority": (":authority", ":scheme"), "@path": (":path",),
         "@query": (":path",), "@query-param": (":path",), "@request-target": (":path",),
         "@target-uri": (":scheme", ":authority", ":path")}  # fmt: skip

ABOUT = About(
    title="Signed HTTP requests (RFC 9421)",
    sent="POST of one event, {id, type, time, data}, with Content-Digest, Signature-Input and Signature",
    authentication="the request's signature with the sender's own key: Ed25519, ECDSA P-256, RSA-PSS or RSA",
    grade="B; D where a secret had to be removed from the body",
    carries="any type of the published format, as data; other types are kept as other.*",
    chains="the payload's nested act, outermost is the current actor",
    lacks="several events in one request",
    tested="Web Bot Auth's published vectors; every signed part changed",
    against=("http-message-signatures 3.0.0", "cloudflare/web-bot-auth vectors v1 and v2, 2026-11"),
    connect=(
        "Give the sender's public keys as a JWKS when you add the source; keyid is the key's kid or its thumbprint.",
        "POST to {address} with Content-Digest: sha-256=:...:",
        'Sign at least "content-digest", better also "@method", "@authority" and "@path", with created and keyid.',
    ),
)


def receive(delivery: Delivery, sender: Sender) -> Received:
    if delivery.content_type not in CONTENT_TYPES:
        raise WrongContentType(f"expected application/json, found {delivery.content_type[:80] or 'none'!r}")
    refuse_charset(delivery)
    signed, key, as_signed = _verify(delivery, sender)
    check_content_digest(delivery.body, as_signed.get("content-digest", ""))
    kept = {name for component in signed.names for name in _LINE.get(component, (component,))}
    headers = {name: as_signed[name] for name in kept if name in as_signed} | signed.headers
    statement = stated(delivery.body, sender, parse=parse, grade="B", key=key.thumbprint, headers=headers)
    return Received({statement.source_event_id: statement})


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = message_in(raw, "{id, type, time, data}")
    native, payload, txn, principal = opened(said.type, said.data, sender) if said.type else untyped(raw, sender)
    [signed] = signatures(told(headers))  # only the one that was checked is stored
    created = instant(int(signed.parameters["created"]))
    at = told_at(next((given for given in (said.time, said.timestamp) if given not in (None, "")), None))
    dated = at != ARRIVAL
    return event(sender, id=said.id or digest_id(raw), type=native, at=at if dated else created, issued_at=created,
                 payload=payload, txn=txn, principal=principal, dated=dated)  # fmt: skip


def _verify(delivery: Delivery, sender: Sender) -> tuple[Signed, Key, Mapping[str, str]]:
    """The first signature of ours that covers the body, and the headers as it signed them. Proxies add their own
    signatures, so one that fits is enough."""
    refusal: Refused = BadSignature("no signature covers content-digest, with created and keyid")
    for signed in signatures(delivery.headers):
        if not _covers(signed):
            continue
        try:
            return signed, check_signature(signed, delivery.headers, sender.keys), delivery.headers
        except BadSignature as refused:
            refusal = refused
        except Refused as refused:
            refusal = refused
            continue
        for joined in as_several_lines(signed, delivery.headers):
            with suppress(BadSignature):
                return signed, check_signature(signed, joined, sender.keys), joined
    raise refusal


def _covers(signed: Signed) -> bool:
    created = signed.parameters.get("created", "")
    return "content-digest" in signed.names and created.isascii() and created.isdigit() and len(created) <= 11
