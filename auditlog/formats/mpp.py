"""Machine Payments Protocol (the "Payment" HTTP authentication scheme): challenge, credential and receipt of one
payment, as their recorder saw them: {at?, challenge?, credential?, receipt?}, each as its header's value or its object.

Verified: header grammar and fields in the draft, and vectors that others published. Not verified: the challenge's own
MAC (its slots are the server's business) and any method's proof; the core draft signs no receipt. Grade D.

A credential's `payload` is the proof of payment, so the recorder's word for it is its digest: it is replaced before
anything is stored, and the digest of what was received is kept. Unknown methods and fields are taken as they are.

A WWW-Authenticate header may hold several challenges (RFC 9110 section 11.6.1), of other schemes too. Of several
Payment challenges the one counts that the credential answers, else the only one of the receipt's method; where neither
tells, only what all of them ask for is known.

Chain order: none. `source` is the payer, where it is said. An amount is in the currency's minor units; a currency that
is no ISO 4217 code (a token's address) makes no money of it, nor does the price of a session's unit.
"""

import re
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.amount import CURRENCIES
from auditlog.core.document import dumped, read_document
from auditlog.core.errors import MalformedEvent
from auditlog.core.event import ARRIVAL, Event, Id, Money, Payload
from auditlog.core.wire.jws import b64url_bytes, json_object
from auditlog.core.wire.keys import b64url
from auditlog.formats import About, Delivery, Received, Sender, Statement, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    decoded,
    digest_id,
    event,
    fitted,
    minor_units,
    party,
    told_at,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
RAIL = "mpp"
MAX_HEADER = 8192
MAX_CHALLENGES = 20
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|\Z)')
# A scheme, and what it has in the place of parameters (token68), if it has that.
_SCHEME = re.compile(
    rf"[\s,]*({_TOKEN})(?:[ \t]+(?={_TOKEN}\s*=[^=])|[ \t]+([A-Za-z0-9._~+/-]+=*)\s*(?:,|\Z)|\s*(?:,|\Z))"
)
_REQUIRED = ("id", "realm", "method", "intent", "request")

ABOUT = About(
    title="Machine Payments Protocol",
    sent="POST of records as JSON: one, lines or an array; headers as they were, or their objects",
    authentication="a static token in the Authorization header; receipts are not signed",
    grade="D",
    carries="payments asked for and paid by HTTP: amount, currency, method, recipient, payer, reference",
    chains="none: the payer (source) acts, where it is said. Joined by the receipt's reference and the challenge's id",
    lacks="signatures, agents; the proof of payment is kept as its digest only",
    tested="headers that its authors' Python SDK writes; published vectors of challenges, credentials and receipts, valid and hostile",
    against=(
        "pympp 0.16.0",
        "peacprotocol/peac vectors, 2026-11",
        "tempoxyz/mpp-specs, draft-httpauth-payment-00, 2026-11",
    ),
    connect=(
        "Put a recorder beside your MPP client or server.",
        'POST {{"at": "<RFC 3339>", "challenge": "<WWW-Authenticate>", "receipt": "<Payment-Receipt>"}} to {address}.',
        "Send the header Authorization: Bearer <the value of {secret}>.",
    ),
)


class Record(Struct):
    id: Id = ""
    at: str | int | float | None = None
    challenge: str | dict[str, Any] | list[Any] | None = None
    credential: str | dict[str, Any] | None = None
    receipt: str | dict[str, Any] | None = None
    environment: str = "live"


_record = msgspec.json.Decoder(Record).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(delivery, sender, lambda raw: _statement(raw, sender))


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_record, raw, "a record of challenge, credential or receipt")
    challenges = read_challenges(said.challenge) if said.challenge is not None else []
    credential = read_credential(said.credential) if said.credential is not None else {}
    receipt = read_receipt(said.receipt) if said.receipt is not None else {}
    if not (challenges or credential or receipt):
        raise MalformedEvent("expected a challenge, a credential or a receipt")
    presented = credential.get("challenge") if isinstance(credential.get("challenge"), dict) else {}
    if challenges and presented and presented.get("id") not in [one["id"] for one in challenges]:
        raise MalformedEvent("the credential answers another challenge")
    terms = _terms(challenges, presented, receipt)
    if receipt and terms.get("method") not in (None, receipt["method"]):
        raise MalformedEvent(f"the receipt is for method {receipt['method'][:40]!r}, the challenge for another")
    at = told_at(said.at)
    at = told_at(receipt.get("timestamp")) if at == ARRIVAL else at
    request, reference = _request(terms), fitted(receipt.get("reference"))
    payload = Payload(
        outcome="success",
        environment="test" if said.environment == "test" else "live",
        mode="direct",
        actor=acting([party(sender.issuer, credential.get("source"))]),
        action=action(
            account=request.get("recipient"), target=("realm", terms.get("realm")), resource=terms.get("realm")
        ),
        request_id=fitted(terms.get("id")),
        call=called(
            f"{fitted(terms.get('method') or receipt.get('method'), 200)} {fitted(terms.get('intent'), 200)}".strip()
        ),
        money=None if _is_rate(terms, request) else _money(request, reference, paid=bool(receipt)),
    )
    native = "payment.settled" if receipt else "payment.quoted"
    return event(sender, id=said.id or digest_id(raw), type=native, at=at, payload=payload)


def _statement(raw: bytes, sender: Sender) -> Statement:
    records.bounded(raw)
    said = decoded(_record, raw, "a record of challenge, credential or receipt")
    if said.credential is None:
        return records.stated(raw, sender, parse=parse, grade="D", opens=True)
    credential = read_credential(said.credential)
    if "payload" not in credential:
        return records.stated(raw, sender, parse=parse, grade="D", opens=True)
    proof = dumped(credential.pop("payload"), sort=True)
    kept = read_document(raw) | {"credential": credential | {"payload_sha256": b64url(sha256(proof).digest())}}
    headers = {"received-sha256": sha256(raw).hexdigest(), "removed": "credential.payload"}
    return records.stated(dumped(kept), sender, parse=parse, grade="D", headers=headers, opens=True)


def _terms(challenges: list[dict[str, Any]], presented: dict[str, Any], receipt: dict[str, Any]) -> dict[str, Any]:
    """The challenge that was answered, or what all those have in common that may have been."""
    if not challenges:
        return presented
    fit = [one for one in challenges if one["id"] == presented.get("id")] if presented else challenges
    if len(fit) > 1 and receipt:
        fit = [one for one in fit if one["method"] == receipt["method"]] or fit
    common = {name: value for name, value in fit[0].items() if all(one.get(name) == value for one in fit)}
    if len(fit) > 1:
        asked = [_request(one) for one in fit]
        common["request"] = {
            name: value for name, value in asked[0].items() if all(one.get(name) == value for one in asked)
        }
    return common


def read_challenges(given: str | dict[str, Any] | list[Any]) -> list[dict[str, Any]]:
    """The Payment challenges of a header's value, of its lines, or of what a recorder made of it. Raises MalformedEvent."""
    found: list[dict[str, Any]] = []
    for each in given[:MAX_CHALLENGES] if isinstance(given, list) else [given]:
        if isinstance(each, dict):
            found.append(_needed(each))
        elif isinstance(each, str):
            told = _challenges(_bounded(each, "challenge").strip())
            found += [_needed(parameters) for scheme, parameters in told if scheme == "payment"]
    if not found and given != []:
        raise MalformedEvent("the challenge does not begin with the scheme Payment, nor does one after it")
    return found


def _challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """Every challenge: its scheme in lower case, and its parameters."""
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while at < len(header):
        match = _PARAMETER.match(header, at) if found else None
        if match is not None:
            name, parameters = match[1].lower(), found[-1][1]
            if name in parameters:
                raise MalformedEvent(f"the challenge gives {name[:40]!r} twice")
            parameters[name] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        else:
            match = _SCHEME.match(header, at)
            if match is None or len(found) == MAX_CHALLENGES:
                raise MalformedEvent(f"the challenge cannot be read at character {at}")
            found.append((match[1].lower(), {}))
        at = match.end()
    return found


def _needed(found: dict[str, Any]) -> dict[str, Any]:
    for name in _REQUIRED:
        if not found.get(name) or not isinstance(found[name], str | dict):
            raise MalformedEvent(f"a challenge needs {name}")
    return found


def read_challenge(given: str | dict[str, Any]) -> dict[str, Any]:
    """`Payment id="..", realm="..", ..`: the auth-params of one challenge. Raises MalformedEvent."""
    if isinstance(given, dict):
        return _needed(given)
    [found, *more] = read_challenges(given)
    if more:
        raise MalformedEvent(f"expected one challenge, found {1 + len(more)}")
    return found


def read_credential(given: str | dict[str, Any]) -> dict[str, Any]:
    """`Payment <base64url of JSON>`: {challenge, source?, payload}. Raises MalformedEvent."""
    return given if isinstance(given, dict) else _object(_after_scheme(given, "credential"), "the credential")


def read_receipt(given: str | dict[str, Any]) -> dict[str, Any]:
    """base64url of {status, method, timestamp, reference}; other fields are the method's. Raises MalformedEvent."""
    found = given if isinstance(given, dict) else _object(_bounded(given, "receipt").strip(), "the receipt")
    for name in ("status", "method", "timestamp"):
        if not isinstance(found.get(name), str) or not found[name]:
            raise MalformedEvent(f"a receipt needs {name}")
    if found["status"] != "success":
        raise MalformedEvent(f"expected a receipt of status success, found {found['status'][:40]!r}")
    return found


def _after_scheme(header: str, what: str) -> str:
    scheme, _, rest = _bounded(header, what).strip().partition(" ")
    if scheme.lower() != "payment":
        raise MalformedEvent(f"the {what} does not begin with the scheme Payment")
    return rest.strip()


def _bounded(header: str, what: str) -> str:
    if len(header) > MAX_HEADER:
        raise MalformedEvent(f"the {what} has at most {MAX_HEADER:,} characters, found {len(header):,}")
    return header


def _object(segment: str, what: str) -> dict[str, Any]:
    return json_object(b64url_bytes(segment), what)


def _request(terms: dict[str, Any]) -> dict[str, Any]:
    """What is asked for: base64url of JSON in the challenge's header, an object where the recorder opened it."""
    request = terms.get("request")
    if isinstance(request, str):
        return _object(request, "the challenge's request")
    return request if isinstance(request, dict) else {}


def _is_rate(terms: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether the amount is the price of one unit: how many of them a session took its receipt does not say in money."""
    return str(terms.get("intent")).lower() == "session" or any(request.get(name) for name in ("unitType", "unit_type"))


def _money(request: dict[str, Any], reference: str, *, paid: bool) -> Money | None:
    amount, currency = request.get("amount"), request.get("currency")
    if amount is None or not isinstance(currency, str) or currency.upper() not in CURRENCIES:
        return None  # a token's name or a unit: of what it is worth nobody says anything
    return Money(minor_units(amount), currency.upper(), "settled" if paid else "quoted", rail=RAIL, charge=reference)
