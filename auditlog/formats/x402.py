"""x402 v2 and v1: what was asked for, offered, settled and receipted, as one record of its recorder:
{at, required?, offer?, accepts?, accepted?, settlement?, receipt?}, or the headers as they were: {at, headers: {...}};
v1 calls PAYMENT-RESPONSE X-PAYMENT-RESPONSE, and writes networks without CAIP-2.

A server offers several ways to pay. Of them the one counts that was settled: the terms in the settlement itself
(`requirements`), else those that the buyer `accepted`, else the one offer on the network, in the asset, to the payee
and of the amount that the settlement names. Where that leaves several, only what they have in common is known.

Verified: header names and fields, in the protocol's repository; the offer-and-receipt rules against vectors that others
published. A JWS offer or receipt is checked when its key is one of the source's (an unknown key is tolerated, and the
grade stays). EIP-712 signatures are looked at for their form only: nothing here recovers an Ethereum key. So a record
is grade D (a static token), and A where it is a signed receipt alone. `PAYMENT-SIGNATURE` lets its holder be paid: it
is removed.

Amounts are atomic units of a token. They become money only where the asset is an ISO 4217 code; a stablecoin is not
taken for its currency. Chain order: none. The payer is an address, and acts.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from auditlog.core.document import read_document
from auditlog.core.errors import BadSignature, MalformedEvent, UnknownKey
from auditlog.core.event import Event, Id, Money, Payload
from auditlog.core.wire.jws import check_jws, open_jws
from auditlog.core.wire.keys import Key
from auditlog.core.wire.redaction import NEVER_STORED, from_base64
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
    inner,
    note,
    party,
    told_at,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
RAIL = "x402"
MAX_ACCEPTS = 128
MAX_JWS = 64 * 1024
RECENT = 300 + 60  # seconds between a receipt and the exchange it belongs to, with a minute of skew
_SKEW = 60
# The payment itself, which its holder can settle: as v2 calls its header, and v1; and as a recorder may, who opened it.
REMOVED = NEVER_STORED | {"paymentsignature", "xpayment", "payment", "paymentpayload"}
# Signed statements, not credentials: they stay.
KEPT = frozenset({"signature"})
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,77})\Z")
_NETWORK = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,64}\Z")  # CAIP-2
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\Z")
_EIP712 = re.compile(r"0x[0-9a-fA-F]{130}\Z")
_TERMS = ("scheme", "network", "asset", "payTo", "amount")

ABOUT = About(
    title="x402 (v2, v1)",
    sent="POST of records as JSON: one, lines or an array; the objects, or the base64 headers as they were",
    authentication="a static token in the Authorization header; JWS offers and receipts by the source's keys",
    grade="D; A for a JWS receipt alone under a known key",
    carries="payments asked for, settled or failed, signed offers and receipts with network, asset, payer",
    chains="none: the payer's address acts. Joined by transaction and resource",
    lacks="agents and humans; money in a currency, unless the asset is one; EIP-712 signatures are not recovered",
    tested="headers and objects that the official Python SDK writes; published vectors of offers and receipts, valid and hostile",
    against=(
        "x402 2.25.0",
        "peacprotocol/peac vectors, 2026-11",
        "x402-foundation/x402 specification v1 and v2, 2026-11",
    ),
    connect=(
        "Put a recorder beside your x402 client or server.",
        'POST {{"at": "<RFC 3339>", "headers": {{"PAYMENT-REQUIRED": .., "PAYMENT-RESPONSE": ..}}}} to {address}.',
        "Send the header Authorization: Bearer <the value of {secret}>, and leave PAYMENT-SIGNATURE out.",
        "For JWS receipts give the server's public keys as a JWKS.",
    ),
)


class Record(Struct):
    at: str | int | float | None = None
    id: Id = ""
    headers: dict[str, str | list[str]] = {}
    accepted: dict[str, Any] | None = None
    required: dict[str, Any] | None = None
    accepts: list[Any] | None = None
    offer: dict[str, Any] | None = None
    settlement: dict[str, Any] | None = None
    receipt: dict[str, Any] | None = None
    environment: str = ""


_record = msgspec.json.Decoder(Record).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(delivery, sender, lambda raw: _statement(raw, sender))


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = _opened(raw)
    offer, receipt = _payload(said.offer), _payload(said.receipt)
    settled = said.settlement or {}
    if not (offer or receipt or settled or said.required or said.accepts):
        raise MalformedEvent("expected required, accepts, offer, settlement or receipt")
    terms = offer if offer and _is_settled_there(offer, settled) else _accepted(said, settled)
    paid, failed = receipt is not None or settled.get("success") is True, settled.get("success") is False
    # A settlement that does not say true or false settled something, or did not: nobody can say.
    unclear = bool(settled) and not (paid or failed)
    transaction = settled.get("transaction") or (receipt or {}).get("transaction")
    network = settled.get("network") or (receipt or terms).get("network")
    payer = settled.get("payer") or (receipt or {}).get("payer")
    amount = _v2(settled)["amount"] or terms.get("amount")
    phase = "settled" if paid or unclear else "quoted"
    resource = (receipt or terms).get("resourceUrl") or inner(said.required, "resource", "url") or terms.get("resource")
    scheme, asset = fitted(terms.get("scheme"), 60), fitted(terms.get("asset"), 80)
    payload = Payload(
        outcome="failure" if failed else "unknown" if unclear else "success",
        environment=_environment(said, network),
        mode="direct",
        actor=acting([party(network, payer)]),
        action=action(account=terms.get("payTo"), target=("resource", resource)),
        call=called(f"x402 {scheme} {fitted(network, 80)} {asset}", error=settled.get("errorReason")),
        money=None if failed else _money(amount, terms.get("asset"), phase, transaction),
    )  # fmt: skip
    native = "payment.failed" if failed else "payment.settled" if paid or unclear else "payment.quoted"
    id = said.id or fitted(f"{fitted(transaction, 200)}:{digest_id(raw)}")
    return event(sender, id=id, type=native, at=told_at(said.at), payload=payload)


# CAIP-2 names of the networks that v1 calls by words of its own.
_NETWORKS = {
    "base": "eip155:8453", "base-sepolia": "eip155:84532", "ethereum": "eip155:1", "polygon": "eip155:137", "polygon-amoy": "eip155:80002",
    "avalanche": "eip155:43114", "avalanche-fuji": "eip155:43113", "arbitrum": "eip155:42161", "optimism": "eip155:10", "sei": "eip155:1329",
    "sei-testnet": "eip155:1328", "iotex": "eip155:4689", "peaq": "eip155:3338", "abstract": "eip155:2741",
    "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
}  # fmt: skip


# Networks whose coins are given away.
_TESTNETS = frozenset(
    f"eip155:{chain}" for chain in (11155111, 84532, 80002, 43113, 421614, 11155420, 1328, 10143, 338, 11124)
) | {
    _NETWORKS["solana-devnet"],
    "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z",
}
_TESTNET_NAME = re.compile(r"(?:testnet|devnet|sepolia|fuji|amoy|goerli|mumbai)")


def _environment(said: Record, network: Any) -> Literal["live", "test"]:
    """As the recorder says; where it does not, money on a network for tests is none."""
    if said.environment:
        return "test" if said.environment.lower() == "test" else "live"
    named = str(network or "")
    return "test" if _NETWORKS.get(named, named) in _TESTNETS or _TESTNET_NAME.search(named.lower()) else "live"


def _accepted(said: Record, settled: dict[str, Any]) -> dict[str, Any]:
    """The terms on which it was settled, or is asked for: what nobody can tell is left out."""
    settled = _v2(settled)
    for told in (settled.get("requirements"), said.accepted):
        if isinstance(told, dict) and _is_settled_there(chosen := _v2(told), settled):
            return chosen
    offered = [_v2(one) for one in said.accepts or () if isinstance(one, dict)]
    for name in ("network", "asset", "payTo", "amount"):
        if settled.get(name):
            fit = [one for one in offered if str(one.get(name)).lower() == str(settled[name]).lower()]
            if name == "network" or fit:  # an amount may be less than was offered; a network may not be another
                offered = fit
    return {
        name: value
        for name, value in (offered[0] if offered else {}).items()
        if all(one.get(name) == value for one in offered)
    }


def _is_settled_there(terms: dict[str, Any], settled: dict[str, Any]) -> bool:
    """What was accepted or offered on one network is not what was settled on another."""
    networks = [_v2(one)["network"] for one in (terms, settled)]
    return not all(networks) or str(networks[0]).lower() == str(networks[1]).lower()


def _v2(terms: dict[str, Any]) -> dict[str, Any]:
    """Terms under the names of v2. An amount is text, which some recorders write as a number."""
    network, amount = terms.get("network"), terms.get("amount", terms.get("maxAmountRequired"))
    amount = str(amount) if type(amount) is int else amount
    return terms | {"network": _NETWORKS.get(network, network) if isinstance(network, str) else None, "amount": amount}


def _statement(raw: bytes, sender: Sender) -> Statement:
    records.bounded(raw)
    said = _opened(raw)
    at = told_at(said.at).timestamp() or None
    if problems := check_offer(said.offer, said.accepts, at=at) + check_receipt(said.receipt, at=at):
        raise MalformedEvent(f"x402: {'; '.join(problems)[:500]}")
    offer, receipt = _payload(said.offer), _payload(said.receipt)
    if offer and receipt and (problems := check_consistency(offer, receipt)):
        raise MalformedEvent(f"x402: {'; '.join(problems)[:500]}")
    proven = [_signed(part, sender.keys) for part in (said.offer, said.receipt) if part is not None]
    alone = said.receipt is not None and said.offer is said.settlement is said.required is said.accepts is None
    grade, key = ("A", proven[0].thumbprint) if alone and proven[0] is not None else ("D", records.NO_KEY)
    return records.stated(raw, sender, parse=parse, grade=grade, key=key, names=REMOVED, keep=KEPT, opens=True)


def check_stored(raw: bytes, headers: bytes, sender: Sender) -> None:
    """Check a stored receipt's signature again. Raises Refused."""
    if _signed(_opened(raw).receipt or {}, sender.keys) is None:
        raise UnknownKey("no key of this source made the receipt's signature")


def check_offer(offer: Any, accepts: Any, *, at: float | None) -> list[str]:
    """What is wrong with an offer and the terms it stands for, by code. `acceptIndex` is unsigned, so only a hint.
    Without `at` nobody can say whether it had expired.
    """
    if accepts is not None and len(accepts) > MAX_ACCEPTS:
        return [f"accept_too_many_entries: at most {MAX_ACCEPTS}, found {len(accepts)}"]
    if offer is None:  # then nothing rests on each of the terms: those that are none are passed over
        return []
    if accepts is not None and (not isinstance(accepts, list) or not all(isinstance(one, dict) for one in accepts)):
        return ["accept_invalid"]
    payload, problem = _read(offer, "offer")
    if problem:
        return [problem]
    missing = [
        f"payload_missing_field: {name}"
        for name in ("network", "asset", "amount", "payTo", "resourceUrl", "scheme")
        if not payload.get(name)
    ]
    if payload.get("version") != 1 or isinstance(payload.get("version"), bool):
        missing.append(f"offer_version_unsupported: {str(payload.get('version'))[:20]}")
    if missing:
        return missing
    problems = []
    if not isinstance(payload["amount"], str) or not _AMOUNT.match(payload["amount"]):
        problems.append("amount_invalid: expected a non-negative integer as a string")
    if not isinstance(payload["network"], str) or not _NETWORK.match(payload["network"]):
        problems.append("network_invalid: expected CAIP-2")
    until = payload.get("validUntil")
    if until and (
        not isinstance(until, int | float) or (at is not None and until + _SKEW < at)
    ):  # 0 says that it does not expire
        problems.append("offer_expired")
    return problems or _match(payload, offer.get("acceptIndex"), accepts)


def check_receipt(receipt: Any, *, at: float | None) -> list[str]:
    """What is wrong with a receipt, by code; `at` is when the exchange took place."""
    if receipt is None:
        return []
    payload, problem = _read(receipt, "receipt")
    if problem:
        return [problem]
    problems = []
    if payload.get("version") != 1 or isinstance(payload.get("version"), bool):
        problems.append(f"receipt_version_unsupported: {str(payload.get('version'))[:20]}")
    if not isinstance(payload.get("payer"), str) or not payload["payer"]:
        problems.append("receipt_payer_invalid")
    if not isinstance(payload.get("network"), str) or not _NETWORK.match(payload["network"]):
        problems.append("network_invalid: expected CAIP-2")
    if not isinstance(payload.get("resourceUrl"), str) or not payload["resourceUrl"]:
        problems.append("payload_missing_field: resourceUrl")
    issued = payload.get("issuedAt")
    if (
        not isinstance(issued, int | float)
        or isinstance(issued, bool)
        or (at is not None and abs(issued - at) > RECENT)
    ):
        problems.append("receipt_issuedAt_stale")
    return problems


def check_consistency(offer: Mapping[str, Any], receipt: Mapping[str, Any]) -> list[str]:
    """Whether a receipt can be for an offer."""
    problems = []
    if receipt.get("resourceUrl") != offer.get("resourceUrl"):
        problems.append("receipt_resource_mismatch")
    if receipt.get("network") != offer.get("network"):
        problems.append("receipt_network_mismatch")
    until, issued = offer.get("validUntil"), receipt.get("issuedAt")
    if isinstance(until, int | float) and until and isinstance(issued, int | float) and issued > until + _SKEW:
        problems.append("receipt_after_offer_expired")
    return problems


def _match(payload: dict[str, Any], index: Any, accepts: list[dict] | None) -> list[str]:
    if accepts is None:
        return []

    def same(one: dict) -> bool:
        return all(one.get(name) == payload.get(name) for name in _TERMS)

    if index is not None:
        if not isinstance(index, int) or not 0 <= index < len(accepts):
            return ["accept_index_out_of_range"]
        return [] if same(accepts[index]) else ["accept_term_mismatch"]
    count = sum(map(same, accepts))
    return [] if count == 1 else ["accept_ambiguous" if count else "accept_no_match"]


def _read(part: Any, what: str) -> tuple[dict[str, Any], str]:
    """The signed payload, and what is wrong with its signature's form."""
    if not isinstance(part, dict) or not isinstance(part.get("signature"), str):
        return {}, f"{what}_signature_invalid"
    if part.get("format") == "jws":
        compact = part["signature"]
        if len(compact) > MAX_JWS:
            return {}, "jws_too_large"
        if compact.count(".") != 2:
            return {}, "jws_malformed: expected 3 segments"
        if "=" in compact:
            return {}, "jws_padded_base64url"
        try:
            return open_jws(compact).claims, ""
        except MalformedEvent as error:
            return {}, f"jws_payload_not_object: {error}"
    if part.get("format") != "eip712":
        return {}, f"{what}_format_unknown: {str(part.get('format'))[:20]}"
    if not _EIP712.match(part["signature"]):
        return {}, f"{what}_signature_invalid: expected 65 bytes as 0x and hexadecimal digits"
    payload = part.get("payload")
    return (payload, "") if isinstance(payload, dict) else ({}, "payload_missing")


def _payload(part: Any) -> dict[str, Any] | None:
    return None if part is None else _read(part, "part")[0]


def _signed(part: dict[str, Any], keys: Mapping[str, Key]) -> Key | None:
    """The source's key that made a JWS; nothing for other keys and forms. Raises BadSignature for a forged one."""
    if part.get("format") != "jws":
        return None
    jws = open_jws(part["signature"])
    key = keys.get(jws.kid)
    if key is None:
        return None
    try:
        return check_jws(jws, key)
    except UnknownKey as error:
        raise BadSignature(str(error)) from None


def _money(amount: Any, asset: Any, phase: str, transaction: Any) -> Money | None:
    if (
        not isinstance(asset, str)
        or asset.upper() not in _CURRENCIES
        or not isinstance(amount, str)
        or not _AMOUNT.match(amount)
    ):
        return None
    number = int(amount)
    return Money(number, asset.upper(), phase, rail=RAIL, charge=fitted(transaction)) if number < 2**63 else None


# The currencies that settle so today; a code that nobody uses here is a token's name.
_CURRENCIES = frozenset("USD EUR GBP JPY CHF CAD AUD SGD HKD INR BRL MXN SEK NOK DKK PLN CZK KRW".split())


def _opened(raw: bytes) -> Record:
    """The record, with the headers it has put in their places: each is base64 of JSON."""
    said = decoded(_record, raw, "an x402 record")
    for name, value in said.headers.items():
        place = {
            "payment-required": "required",
            "payment-response": "settlement",
            "x-payment-response": "settlement",
        }.get(name.lower())
        if isinstance(value, list):  # a recorder's list of lines; of several nobody knows which counted
            if len(value) != 1:
                note(f"not read: the header {name[:40]}, expected one line, found {len(value)}")
                continue
            value = value[0]
        if place is None or value == "[removed]":
            continue
        document = _header(value)
        if document is not None:
            setattr(said, place, document)
        elif place == "required":  # what was asked for; what became of it stands in the other
            note(f"not read: the header {name[:40]}, expected base64 of a JSON object")
        else:
            raise MalformedEvent(f"the header {name[:40]} is not base64 of a JSON object")
    if said.required is not None and said.accepts is None and isinstance(said.required.get("accepts"), list):
        said.accepts = said.required["accepts"]
    return said


def _header(value: str) -> dict[str, Any] | None:
    """base64 of a JSON object, in either alphabet, padded or not."""
    raw = from_base64(value) if _BASE64.match(value) else None
    try:
        document = read_document(raw) if raw is not None else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
