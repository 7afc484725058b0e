"""Agentic Provisioning Protocol 0.1d, recorded: one request of an orchestrator and the provider's answer to it.

APP has no webhooks, so a recorder in front of the provider's endpoints (or behind the orchestrator's client) posts
each pair: {at, side, request: {method, path, headers, body, body_sha256}, response: {status, body}}. It should leave
out secrets; what it forgets is removed here before anything is stored.

Verified in two public provider implementations: endpoints, headers, bodies, status values, both signatures. Not
verified: `htu` in Stripe-Signature-V2, so the path is not bound by it; no specification is published. Versions other
than 0.1d are kept under their source and not interpreted.

The recorder proves itself by `Recorder-Signature` (t, v1 HMAC over its post: grade C when one pair comes unchanged)
or by a static token (D). `Stripe-Signature-V2` is an EdDSA JWT over the digest of the request's body, and the only
part that a third party can check without the shared secret: when one of the source's keys made it, it had not expired
when the request came, and the body is here whole, a pair without a response is grade B; a response, or a body without
its secrets, is the recorder's word. Unknown keys are tolerated (the roll-out is not complete), a wrong signature under
a known key is not. The recorded HMAC `Stripe-Signature` is tried with the source's secret too.

Chain order: none. APP carries the human (`actor.email`) and no agent; hops are joined from the token server.
"""

import re
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw, Struct

from auditlog.core.errors import BadSignature, MalformedEvent, UnknownKey
from auditlog.core.event import ARRIVAL, Attestation, Event, Payload
from auditlog.core.wire.jws import check_jws, open_jws
from auditlog.core.wire.keys import b64url
from auditlog.core.wire.mac import check_timestamped_mac
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.core.wire.static_token import check_static_token
from auditlog.formats import About, Delivery, Received, Sender, Statement, records
from auditlog.formats.values import (
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
    told_at,
    type_or_other,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
VERSION = "0.1d"
KEY_NAME = "app-recorder-secret"
DRIFT = 300  # seconds, as for the other signature
SIGNATURE, SIGNATURE_V2 = "stripe-signature", "stripe-signature-v2"
# The V2 JWT looks like a credential and is evidence: it says nothing but the body's digest, and ends by itself.
KEPT = frozenset({"stripesignaturev2"})
# An authorization code is a secret for its minute; elsewhere `code` is that of an error.
WITH_CODES = NEVER_STORED | {"code"}
_PATH = re.compile(r"/(provisioning|oauth)/([a-z_]+)(?:/([A-Za-z0-9_.:-]+))?(?:/([a-z_]+))?/?\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z|[A-Za-z0-9_-]{43}\Z")

ABOUT = About(
    title="Agentic Provisioning Protocol recorder (0.1d)",
    sent="POST of request and response pairs as JSON, one, lines or an array; from the provider's or orchestrator's side",
    authentication="Recorder-Signature (t, v1 HMAC-SHA256 over the post) or a static token in the Authorization header",
    grade="C signed by the recorder; B for a request alone with a valid Stripe-Signature-V2; else D",
    carries="account requests, tokens issued, resources asked for, provisioned, changed, removed, credentials rotated",
    chains="none: APP names the human (actor.email) and no agent. Joined by idempotency key and resource ids",
    lacks="the agent, amounts; the shared payment token is kept as its digest only",
    tested="pairs made to the fields of two public providers; JWTs and MACs, each part changed",
    against=("the code of two public providers, 2026-11",),
    connect=(
        "Put auditlog.recorder (RecordWSGI or RecordASGI) in front of your /provisioning and /oauth/token endpoints.",
        "Give it {address}, the secret {secret} and a folder for its spool.",
        "Another recorder signs each POST: Recorder-Signature: t=<seconds>,v1=<hex HMAC-SHA256 of '<t>.<body>'>.",
        "For Stripe-Signature-V2 give the orchestrator's public keys (/v2/provisioning/public_keys) as a JWKS.",
    ),
)


class Request(Struct):
    method: str
    path: str
    headers: dict[str, str] = {}
    body: Raw = Raw()
    body_sha256: str = ""


class Response(Struct):
    status: int
    body: Any = None


class Pair(Struct):
    request: Request
    at: str | int | float | None = None
    response: Response | None = None
    id: str = ""

    def header(self, name: str) -> str:
        return next((value for given, value in self.request.headers.items() if given.lower() == name), "")


_pair = msgspec.json.Decoder(Pair).decode
_body = msgspec.json.Decoder(dict[str, Any]).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    header, secrets = delivery.headers.get("recorder-signature", ""), sender.secrets()
    if header:
        check_timestamped_mac(delivery.body, header, secrets, name="Recorder-Signature")
    else:
        check_static_token(delivery.headers.get("authorization", ""), secrets)
    found, alone = records.split(delivery)
    # The recorder's MAC can be checked again only where its post is stored as it came.
    signed = {"recorder-signature": header} if header and alone and found == [delivery.body] else {}
    return records.each(found, lambda raw: _statement(raw, signed, sender), batch=not alone)


def check_stored(raw: bytes, headers: bytes, sender: Sender) -> None:
    """Check a stored pair again: the recorder's MAC, or the orchestrator's JWT. Raises Refused."""
    told = records.told(headers)
    if "recorder-signature" in told:
        check_timestamped_mac(raw, told["recorder-signature"], sender.secrets(), name="Recorder-Signature")
    elif _proof(decoded(_pair, raw, "a recorded pair"), sender)[0] != SIGNATURE_V2:
        raise UnknownKey("no key of this source made the recorded Stripe-Signature-V2")


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_pair, raw, "a recorded pair: {at, request, response}")
    asked = _object(said.request.body)
    answered = said.response.body if said.response and isinstance(said.response.body, dict) else {}
    native, outcome = _meaning(said, asked, answered, sender)
    match = _PATH.search(said.request.path.partition("?")[0])
    resource_id = fitted(answered.get("id")) or (match[3] if match and match[2] == "resources" else "") or ""
    human = inner(asked, "actor")
    told = records.told(headers)
    payload = Payload(
        outcome=outcome,
        environment="test" if asked.get("environment") in ("test", "testing", "sandbox") else "live",
        mode="delegation",
        action=action(
            "" if not native.startswith("action.") else f"{match[2]}.read" if match else "",
            provider=sender.provider,
            account=inner(asked, "orchestrator", "stripe", "account"),
            target=("resource", resource_id) if resource_id else ("account_request", asked.get("id")),
            resource=asked.get("service_id"),
        ),
        project=fitted(asked.get("project_id")),
        request_id=fitted(asked.get("orchestrator_resource_id") or asked.get("id")),
        client=client(inner(human, "ip_address")),
        attestation=Attestation(told["request-proof"], _digest(said)) if "request-proof" in told else None,
        call=called(f"{said.request.method.upper()} {said.request.path.partition('?')[0]}",
                    idempotency_key=said.header("idempotency-key"), error=_error(answered)),
    )  # fmt: skip
    id = fitted(said.id) or digest_id(raw)
    principal = party(sender.issuer, inner(human, "email"), "human")
    return event(sender, id=id, type=native, at=told_at(said.at), payload=payload, principal=principal)


def _statement(raw: bytes, signed: dict[str, str], sender: Sender) -> Statement:
    records.bounded(raw)
    said = decoded(_pair, raw, "a recorded pair: {at, request, response}")
    proof, thumbprint = _proof(said, sender)
    headers = {"request-proof": proof} if proof else {}
    if proof == SIGNATURE_V2 and said.response is None and _digest(said) == _own_digest(said):
        grade, key = "B", thumbprint
    else:
        grade, key = ("C", KEY_NAME) if signed else ("D", records.NO_KEY)
        headers |= signed
    names = WITH_CODES if _holds_codes(said) else NEVER_STORED
    if bytes(said.request.body)[:1] == b'"':
        names |= {"body"}  # a form as text, codes and tokens in it: nothing of it is kept
    return records.stated(raw, sender, parse=parse, grade=grade, key=key, names=names, keep=KEPT, headers=headers)


def _holds_codes(said: Pair) -> bool:
    """Whether `code` is an authorization code here, and not what went wrong: at the token endpoint, and in an answer
    that sends the human there.
    """
    answered = said.response.body if said.response and isinstance(said.response.body, dict) else {}
    return (
        "oauth" in said.request.path.lower()
        or answered.get("type") == "oauth"
        or "oauth" in answered
        or "grant_type" in _object(said.request.body)
    )


def _proof(said: Pair, sender: Sender) -> tuple[str, str]:
    """Which of the orchestrator's two signatures fits the recorded request, and the key. Raises for a forged V2."""
    compact = said.header(SIGNATURE_V2)
    if compact:
        jws = open_jws(compact)
        key = sender.keys.get(jws.kid)
        if key is not None:
            check_jws(jws, key)
            if jws.header.get("alg") not in ("EdDSA", "Ed25519") or jws.claims.get("version") != 1:
                raise BadSignature("expected Stripe-Signature-V2 with alg EdDSA and version 1")
            if jws.claims.get("htm") != said.request.method.upper():
                raise BadSignature(f"Stripe-Signature-V2 is for method {str(jws.claims.get('htm'))[:20]!r}")
            if jws.claims.get("digest") != _digest(said):
                raise BadSignature("the digest in Stripe-Signature-V2 is not that of the recorded body")
            # A late one was taken from an earlier request, or lay about: what the provider did with it is still told.
            expires = jws.claims.get("exp")
            at = told_at(said.at)
            if isinstance(expires, int | float) and at != ARRIVAL and at.timestamp() <= expires + DRIFT:
                return SIGNATURE_V2, key.thumbprint
    try:
        check_timestamped_mac(_whole(said), said.header(SIGNATURE), sender.secrets(), name="Stripe-Signature")
    except (BadSignature, UnknownKey):
        return "", ""  # none, or over a body with its secrets, or under a secret that is the provider's alone
    return SIGNATURE, ""


def _whole(said: Pair) -> bytes:
    """The body's bytes as they stand in the record; a GET has none, and is signed so."""
    body = bytes(said.request.body)
    return b"" if body == b"null" else body


def _own_digest(said: Pair) -> str:
    return b64url(sha256(_whole(said)).digest())


def _digest(said: Pair) -> str:
    """SHA-256 of the body as the provider received it, base64url: as the recorder says, else of the body here."""
    given = said.request.body_sha256
    if not given:
        return _own_digest(said)
    if not _DIGEST.match(given):
        raise MalformedEvent("expected body_sha256 as 64 hexadecimal digits or as base64url")
    return b64url(bytes.fromhex(given)) if len(given) == 64 else given


_ENDPOINTS: dict[tuple[str, str, str | None], str] = {
    ("POST", "account_requests", None): "account",
    ("POST", "token", None): "token.issued",
    ("POST", "resources", None): "resource",
    ("GET", "resources", None): "read",
    ("POST", "resources", "update_service"): "resource.updated",
    ("POST", "resources", "remove"): "resource.removed",
    ("POST", "resources", "rotate_credentials"): "credential.rotated",
    ("POST", "deep_links", None): "action.performed",
    ("GET", "services", None): "action.performed",
    ("GET", "health", None): "action.performed",
}
# status of a resource: ours, outcome
_RESOURCES = {
    "pending": ("resource.requested", "pending"),
    "needs_information": ("resource.requested", "pending"),
    "complete": ("resource.provisioned", "success"),
    "pending_removal": ("resource.removed", "pending"),
    "removed": ("resource.removed", "success"),
    "error": ("resource.failed", "failure"),
}
_ACCOUNTS = {
    "credentials": ("account.created", "success"),
    "oauth": ("account.created", "success"),
    "requires_auth": ("account.requested", "pending"),  # a human has to log in: the gate
    "error": ("account.requested", "failure"),
}


def _meaning(said: Pair, asked: dict, answered: dict, sender: Sender) -> tuple[str, str]:
    path = said.request.path.partition("?")[0]
    match, method = _PATH.search(path), said.request.method.upper()
    other = type_or_other("", sender, f"{method} {path[-100:]}"), "unknown"
    if match is None or said.header("api-version") not in ("", VERSION):
        return other
    kind = _ENDPOINTS.get((method, match[2], match[4]))
    if kind is None or (match[2] == "resources" and match[3] == "link"):
        return other
    status = said.response.status if said.response else None
    if status is not None and status >= 400:
        failed = "denied" if status in (401, 403) else "failure"
        return {"account": "account.requested", "resource": "resource.failed", "read": "action.performed"}.get(
            kind, kind
        ), failed
    state = answered.get("status") if isinstance(answered.get("status"), str) else None
    match kind:
        case "account":
            answer = answered.get("type") if isinstance(answered.get("type"), str) else ""
            return _ACCOUNTS.get(answer, ("account.requested", "pending"))
        case "resource":
            return _RESOURCES.get(state or "", ("resource.requested", "pending"))
        case "read":
            return _RESOURCES[state] if state in ("complete", "removed", "error") else ("action.performed", "success")
    if status is None:
        return kind, "pending"
    if state in _RESOURCES:
        return kind, _RESOURCES[state][1]
    unclear = answered.get("error") or (
        answered.get("status") is not None and kind.startswith(("resource.", "credential."))
    )
    return kind, "unknown" if unclear else "success"


def _error(answered: dict) -> Any:
    error = answered.get("error")
    return inner(error, "code") or inner(error, "message") or error


def _object(body: Raw) -> dict[str, Any]:
    """The request's body where it is a JSON object; a form body (`/oauth/token`) comes as text and stays unread."""
    raw = bytes(body)
    return decoded(_body, raw, "a JSON body") if raw[:1] == b"{" else {}
