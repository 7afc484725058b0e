"""Standard Webhooks (Svix and many others): `webhook-id`, `webhook-timestamp`, `webhook-signature` over
`<id>.<timestamp>.<raw body>`; `v1` is HMAC-SHA256 (grade C), `v1a` is Ed25519 (grade B). Svix sends the same three
under `svix-`, from before the specification.

Verified: the specification's text and its worked example. Unlike Stripe's, the secret is decoded: `whsec_` and then
base64. The age of the timestamp is not judged: the id makes a replay harmless.

Chain order: that of the payload, if it is ours: nested `act`, outermost current. Of any other data no chain is known.
"""

import hmac
from base64 import b64encode
from binascii import Error, a2b_base64

from auditlog.core.errors import BadSignature, UnknownKey, WrongContentType
from auditlog.core.event import ARRIVAL, Event
from auditlog.core.wire.keys import Key
from auditlog.formats import About, Delivery, Received, Sender
from auditlog.formats.envelope import message_in, opened, untyped
from auditlog.formats.records import NO_KEY, refuse_charset, stated, told
from auditlog.formats.values import canonical, event, instant, told_at

CONTENT_TYPES = ("application/json",)
KEY_NAME = "standard-webhooks-secret"
content = canonical

ABOUT = About(
    title="Standard Webhooks (Svix)",
    sent="POST of one event, application/json: {type, timestamp, data}, which the specification recommends; other bodies are kept",
    authentication="webhook-signature or svix-signature: v1 (HMAC with a shared secret) or v1a (the sender's Ed25519 key)",
    grade="B with v1a, C with v1; D where a secret had to be removed from the body",
    carries="any type of the published format, as data; other types are kept as other.*",
    chains="the payload's nested act, outermost is the current actor",
    lacks="several events in one request",
    tested="the specification's own example; every signed part changed",
    against=("standardwebhooks 1.1.0", "svix 2.9.1"),
    connect=(
        "In the sender's webhook settings add the endpoint {address}.",
        "v1: copy its signing secret (whsec_...) and set it as {secret} where the service runs.",
        "v1a: give its public key (whpk_...) as an Ed25519 JWK when you add the source.",
        "Put a payload of our published format into data; without one the event is kept, but not understood.",
    ),
)


def receive(delivery: Delivery, sender: Sender) -> Received:
    if delivery.content_type not in CONTENT_TYPES:
        raise WrongContentType(f"expected application/json, found {delivery.content_type[:80] or 'none'!r}")
    refuse_charset(delivery)
    prefix = (
        "webhook" if "webhook-signature" in delivery.headers or "svix-signature" not in delivery.headers else "svix"
    )
    signed = {
        f"webhook-{name}": delivery.headers.get(f"{prefix}-{name}", "") for name in ("id", "timestamp", "signature")
    }
    grade, key = _verify(delivery.body, signed, sender)
    body = delivery.body.removeprefix(b"\xef\xbb\xbf")  # which no JSON has: without it no signature fits any more
    if body != delivery.body:
        grade, key = "D", NO_KEY
    statement = stated(body, sender, parse=parse, grade=grade, key=key, headers=signed)
    return Received({statement.source_event_id: statement})


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    signed = told(headers)
    said = message_in(raw, "a JSON object, as {type, timestamp, data}")
    native, payload, txn, principal = opened(said.type, said.data, sender) if said.type else untyped(raw, sender)
    sent = instant(int(signed["webhook-timestamp"]))
    at = told_at(said.timestamp)
    return event(
        sender,
        id=signed["webhook-id"],
        type=native,
        at=sent if at == ARRIVAL else at,
        issued_at=sent,
        payload=payload,
        txn=txn,
        principal=principal,
        dated=at != ARRIVAL,
    )


def _verify(body: bytes, signed: dict[str, str], sender: Sender) -> tuple[str, str]:
    """Grade and key of the strongest signature that fits. Raises BadSignature or UnknownKey."""
    id, at = signed["webhook-id"], signed["webhook-timestamp"]
    if not id or len(id) > 500 or not (at.isascii() and at.isdigit() and len(at) <= 11):
        raise BadSignature("expected the headers webhook-id and webhook-timestamp (seconds)")
    given = [entry.partition(",")[::2] for entry in signed["webhook-signature"].split(" ")[:20]]
    message = f"{id}.{at}.".encode() + body
    asymmetric = [said for version, said in given if version == "v1a"]
    for key in sender.keys.values() if asymmetric else ():
        if any(_fits(key, message, said) for said in asymmetric):
            return "B", key.thumbprint
    shared = [said.encode() for version, said in given if version == "v1"]
    secrets = sender.secrets()
    for secret in secrets if shared else ():
        wanted = signature(secret, id, at, body).encode()
        if any([hmac.compare_digest(wanted, given) for given in shared]):
            return "C", KEY_NAME
    if not secrets and not sender.keys:
        raise UnknownKey("this source has neither a public key, nor is its secret set where the service runs")
    raise BadSignature("no v1 or v1a signature in webhook-signature fits the received bytes")


def signature(secret: bytes, id: str, at: str, body: bytes) -> str:
    """The `v1` signature, base64, without its prefix. Raises UnknownKey for a secret of another kind."""
    return b64encode(hmac.digest(_key_of(secret), f"{id}.{at}.".encode() + body, "sha256")).decode()


def _fits(key: Key, message: bytes, said: str) -> bool:
    check = key.checks.get("EdDSA")
    if check is None:
        return False
    try:
        check(message, a2b_base64(said.encode()))
    except (BadSignature, Error, ValueError):
        return False
    return True


def _key_of(secret: bytes) -> bytes:
    try:
        return a2b_base64(secret.strip().removeprefix(b"whsec_"), strict_mode=True)
    except (Error, ValueError):
        raise UnknownKey("this source's secret is not one of Standard Webhooks: expected whsec_ and base64") from None
