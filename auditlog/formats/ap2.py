"""AP2 v0.2: mandates (chains of SD-JWTs) and receipts (JWTs), as dispute evidence. Grade A: anybody can check them.

A delivery is one artifact as text, or {"artifacts": [..]} in JSON; each is kept as its very characters.

Verified: claims against AP2's published JSON Schemas; chain form, hop types and binding in its documentation and SDK.
Not verified: the shape of the merchant's checkout inside `checkout_jwt`, so what its lines allow stays unknown.

Chain order: oldest first. An open mandate is a grant of the user to the agent whose key stands in `cnf`; a later hop
is a grant below it; a closed mandate is an act under the last of them. The user is named only where the first token
has a `sub`. The checkout's hash is the `txn` of all.

A mandate goes by `ap2:` and the hash of its last token's JWT alone, which is what AP2's SDK and all its samples put
into receipts ("Canonical receipt reference") and what no choice of disclosures changes. The specification's text has
receipts refer "as sd_hash", the disclosures included: that name the mandate states too, as its token, and a receipt may
give either. A mandate needs no `iat`: without one it is dated by its arrival.

`check_dispute` is AP2's own check at dispute time, step by step as its specification lists them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auditlog.core.document import dumped
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, Refused, UnknownKey, WrongContentType
from auditlog.core.event import Confirmation, Event, GrantObject, Intent, Limit, Money, Party, Payload
from auditlog.core.wire.cards import refuse_card_numbers
from auditlog.core.wire.jws import check_jws, json_object, key_of, open_jws
from auditlog.core.wire.keys import Key, public_jwk, thumbprint
from auditlog.core.wire.redaction import refuse_secrets
from auditlog.core.wire.sd_jwt import MAX_CHAIN, Token, check_chain, hashed, open_chain
from auditlog.formats import About, Delivery, Received, Sender, Statement
from auditlog.formats.records import bounded, each, refuse_charset
from auditlog.formats.values import (
    acting,
    action,
    called,
    event,
    fitted,
    inner,
    instant,
    minor_units,
    party,
    seconds,
    told_at,
)

CONTENT_TYPES = (
    "text/plain",
    "application/sd-jwt",
    "application/kb+sd-jwt",
    "application/dc+sd-jwt",
    "application/jwt",
    "application/json",
)
MAX_ARTIFACTS = 100
RAIL = "ap2"
CLOCK_SKEW = 300  # seconds between the clocks of a wallet and an agent
KEPT = frozenset({"checkoutjwt"})  # the merchant's signed checkout, which looks like a credential and is none
_OPEN = ("mandate.payment.open.1", "mandate.checkout.open.1")
_CLOSED = ("mandate.payment.1", "mandate.checkout.1")
_MANDATES = _OPEN + _CLOSED

ABOUT = About(
    title="AP2 mandates and receipts (v0.2)",
    sent='POST of one mandate chain or receipt as text, or of {"artifacts": [..]} as JSON',
    authentication="each artifact's own signatures, from the first issuer's configured key down the chain",
    grade="A",
    carries="open mandates as grants with their limits, closed mandates, checkout and payment receipts",
    chains="the SD-JWT chain, oldest first: user, agent, sub-agents by the keys they name; hashes bind each hop",
    lacks="the user's name unless the first token has one; what was settled (receipts hold no amount)",
    tested="claims made to AP2's JSON Schemas, signed as chains; every hop and binding broken",
    against=(
        "google-agentic-commerce/AP2 v0.2, JSON Schemas and what its SDK made (e1ea56d; its authors publish it on no"
        " registry)",
    ),
    connect=(
        "Give the public keys of the issuers (credential issuer or agent provider, merchant, processor) as a JWKS.",
        "POST each mandate and receipt to {address} with Content-Type: text/plain, as it was exchanged.",
        "Keep the disclosures in it: without them neither the limits nor a receipt's reference can be checked.",
    ),
)


def receive(delivery: Delivery, sender: Sender) -> Received:
    if delivery.content_type not in CONTENT_TYPES:
        raise WrongContentType(
            f"expected {' or '.join(CONTENT_TYPES[:2])}, found {delivery.content_type[:80] or 'none'!r}"
        )
    refuse_charset(delivery)
    body = delivery.body.strip()
    if body[:1] != b"{":
        statement = _statement(body, sender)
        return Received({statement.source_event_id: statement})
    artifacts = json_object(body, "the delivery").get("artifacts")
    if not isinstance(artifacts, list) or not artifacts or not all(isinstance(one, str) for one in artifacts):
        raise MalformedEvent('expected {"artifacts": [compact, ..]}')
    if len(artifacts) > MAX_ARTIFACTS:
        raise DeliveryTooLarge(f"a delivery has at most {MAX_ARTIFACTS} artifacts, found {len(artifacts)}")
    return each([one.encode("utf-8", "replace") for one in artifacts], lambda raw: _statement(raw, sender))


def content(raw: bytes, headers: bytes) -> bytes:
    return raw


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    text = _text(raw)
    if "~" not in text:
        return _receipt_event(text, sender)
    tokens = open_chain(text)
    return _mandate_event(tokens, sender)


def _statement(raw: bytes, sender: Sender) -> Statement:
    bounded(raw, limit=MAX_CHAIN)
    text = _text(raw)
    if "~" in text:
        tokens = open_chain(text)
        key = check_chain(tokens, sender.keys)
        said = [token.claims for token in tokens]
    else:
        jws = open_jws(text)
        key = check_jws(jws, key_of(jws, sender.keys))
        said = [jws.claims]
    document = dumped([said, [list(token.contents) for token in tokens] if "~" in text else []])
    refuse_card_numbers(document)
    refuse_secrets(document, keep=KEPT)
    event = parse(raw, b"", sender)
    return Statement(event.source_event_id, raw, b"", "A", key.thumbprint, event)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedEvent("expected a compact SD-JWT chain or JWT, in ASCII") from None


# --- mandates -------------------------------------------------------------------------------------------------------


def mandate_of(token: Token) -> dict[str, Any] | None:
    """The mandate's content in a token, by its `vct` matched exactly."""
    return next((c for c in token.contents if c.get("vct") in _MANDATES), None)


def reference(token: Token) -> str:
    """What receipts of AP2's SDK refer to: the hash of the JWT alone."""
    return hashed(token.compact.partition("~")[0], token.hash_name)


def references(token: Token) -> tuple[str, str]:
    """Both ways to refer to it: the SDK's, and the specification's text."""
    return reference(token), token.sd_hash


def _mandate_event(tokens: tuple[Token, ...], sender: Sender) -> Event:
    last = tokens[-1]
    said = mandate_of(last)
    if said is None:
        found = [str(content.get("vct"))[:60] for content in last.contents][:3]
        raise MalformedEvent(f"expected a mandate with vct {', '.join(_MANDATES)}, found {found}")
    missing = [name for name in _REQUIRED[said["vct"]] if name not in said]
    if missing:
        raise MalformedEvent(f"a mandate of vct {said['vct']} needs {', '.join(missing)}")
    issued = last.claims.get("iat", said.get("iat"))
    if issued is not None and (isinstance(issued, bool) or not isinstance(issued, int | float)):
        raise MalformedEvent(f"expected iat to be a number of seconds, found {str(issued)[:40]!r}")
    principal = party(tokens[0].claims.get("iss") or sender.issuer, tokens[0].claims.get("sub"), "human")
    holders = [_holder(token, sender) for token in tokens]
    parent = next((f"ap2:{reference(t)}" for t in reversed(tokens[:-1]) if mandate_of(t) is not None), None)
    id = f"ap2:{reference(last)}"
    is_open = said["vct"] in _OPEN
    acts = acting(holders)  # a closed mandate names no further key
    checkout = said.get("checkout_hash") or said.get("transaction_id")
    given, amount = constraints(said), said.get("payment_amount")
    intent, caps = _intent(given), _caps(given, amount)
    payload = Payload(
        outcome="success",
        mode="delegation" if acts else "direct",
        actor=None if is_open else acts,
        action=action(target=("checkout" if "checkout" in said["vct"] else "payment", checkout),
                      resource=inner(said, "payee", "website") or inner(said, "payee", "id")),
        grant=_grant(last, said, id, parent, holders, principal, caps, intent) if is_open else parent,
        token=f"ap2:{last.sd_hash}",
        money=Money(*caps[0], "ceiling", rail=RAIL, authority=id) if len(caps) == 1 else None,
        intent=intent,
    )  # fmt: skip
    native = "payment.authority_granted" if said["vct"] == "mandate.payment.1" else "mandate.issued"
    return event(
        sender, id=id, type=native, at=told_at(issued), payload=payload, txn=fitted(checkout), principal=principal
    )


_REQUIRED = {
    "mandate.payment.open.1": ("constraints", "cnf"),
    "mandate.checkout.open.1": ("constraints", "cnf"),
    "mandate.payment.1": ("transaction_id", "payee", "payment_amount", "payment_instrument"),
    "mandate.checkout.1": ("checkout_jwt", "checkout_hash"),
}


def _holder(token: Token, sender: Sender) -> Party | None:
    """Who may use the token: known by the thumbprint of its key alone (RFC 9278)."""
    jwk = token.next_jwk
    if jwk is None:
        return None
    try:
        stamp = thumbprint(public_jwk(jwk))
    except (Refused, KeyError):
        return None
    except Exception as error:  # a malformed key is the sender's, and must not be ours
        raise MalformedEvent(f"cnf.jwk is not a usable key: {str(error)[:120]}") from None
    return party(sender.issuer, f"urn:ietf:params:oauth:jwk-thumbprint:sha-256:{stamp}", "agent")


def _grant(
    last: Token,
    said: dict,
    id: str,
    parent: str | None,
    holders: list[Party | None],
    principal: Party | None,
    caps: list[tuple[int, str]],
    intent: Intent | None,
) -> GrantObject:
    """Token and mandate may both say when it ends, and so does the last day on which a payment may be executed: the
    earliest holds. When a payment may be executed at the earliest is no bound: it may be ordered before.
    """
    holder = holders[-1]
    ends = [seconds(claims.get("exp")) for claims in (last.claims, said)]
    ends += [_moment(one.get("not_after"), ends=True) for one in constraints(said).get("payment.execution_date", ())]
    return GrantObject(
        id=id,
        parent=parent,
        root=parent is None,
        subject=holders[-2] if len(holders) > 1 and parent else principal,
        actor=holder,
        limits=[Limit(scope="grant", max_minor=most, currency=currency, interval="once") for most, currency in caps]
        or None,
        not_before=seconds(said.get("iat")),
        expires_at=min((end for end in ends if end is not None), default=None),
        intent=intent,
        cnf=Confirmation(jkt=holder.sub.rpartition(":")[2]) if holder else None,
    )


Constraints = dict[str, list[dict[str, Any]]]


def constraints(said: dict) -> Constraints:
    """An open mandate's constraints, by their type."""
    found: Constraints = {}
    for one in _list(said.get("constraints")):
        if isinstance(one, dict) and isinstance(kind := one.get("type"), str):
            found.setdefault(kind, []).append(one)
    return found


def _caps(given: Constraints, amount: Any) -> list[tuple[int, str]]:
    """The most that a mandate allows in all, by currency: its budgets, and what one payment may be where it is for one
    payment only. All constraints bind, so the least of them counts.
    """
    binding = list(given.get("payment.budget", ()))
    if "payment.agent_recurrence" not in given:
        binding += given.get("payment.amount_range", ())
        binding += [amount | {"max": amount.get("amount")}] if isinstance(amount, dict) else []
    caps: dict[str, int] = {}
    for one in binding:
        if isinstance(currency := one.get("currency"), str) and one.get("max") is not None:
            most = _minor(one["max"])
            caps[currency.upper()] = min(most, caps.get(currency.upper(), most))
    return [(most, currency) for currency, most in caps.items()]


_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z")


def _moment(value: Any, *, ends: bool = False) -> float | None:
    """A time, or the beginning or the end of a day: AP2 has "ISO8601 date", and examples of both."""
    if isinstance(value, str) and _DAY.match(value):
        value = f"{value}T23:59:59.999999Z" if ends else f"{value}T00:00:00Z"
    return seconds(value)


def _minor(value: Any) -> int:
    """AP2 declares a budget as a JSON number, amounts elsewhere as integers: 50.0 is fifty, 50.5 is refused."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return minor_units(value)


def _intent(given: Constraints) -> Intent | None:
    """What was allowed to be bought, from whom, and for how much at most."""
    targets, quantity = [], 0
    for allowed in given.get("payment.allowed_payees", []) + given.get("checkout.allowed_merchants", []):
        targets += [fitted(inner(one, "website") or inner(one, "id")) for one in _list(allowed.get("allowed"))]
    for lines in given.get("checkout.line_items", []):
        for line in _list(lines.get("items")):
            targets += [fitted(inner(item, "id")) for item in _list(inner(line, "acceptable_items"))]
            count = inner(line, "quantity")
            quantity += count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0
    [first, *_] = ranges = given.get("payment.amount_range") or [{}]
    currency = first.get("currency") if isinstance(first.get("currency"), str) else None
    most = [_minor(one["max"]) for one in ranges if one.get("max") is not None and one.get("currency") == currency]
    price = min(most, default=None)
    targets = [target for target in targets if target][:1000]
    if not targets and price is None:
        return None
    return Intent(targets=targets, quantity=min(quantity, 2**31) or None, max_price_minor=price, currency=currency)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# --- receipts -------------------------------------------------------------------------------------------------------


def _receipt_event(compact: str, sender: Sender) -> Event:
    said = open_jws(compact).claims
    _check_receipt(said)
    paid, good = "payment_id" in said, said["status"] == "Success"
    if paid:
        native = "payment.captured" if good else "payment.failed"
    else:
        native = "action.performed" if good else "action.denied"
    payload = Payload(
        outcome="success" if good else "failure",
        mode="direct",
        action=action(
            "" if paid else "checkout.complete",
            target=("payment", said["payment_id"]) if paid else ("order", said.get("order_id")),
        ),
        grant=fitted(f"ap2:{said['reference']}"),
        token=fitted(f"ap2:{said['reference']}"),
        request_id=fitted(said.get("psp_confirmation_id")),
        trace_id=fitted(said.get("network_confirmation_id")),
        call=called("", error=said.get("error") or said.get("error_description")),
    )
    return event(sender, id=f"ap2:{hashed(compact)}", type=native, at=instant(said["iat"]), payload=payload)


def _check_receipt(said: dict[str, Any]) -> None:
    """What the schemas require of a receipt, as far as something rests on it."""
    for name, kind in (("status", str), ("iss", str), ("iat", int | float), ("reference", str)):
        if not isinstance(said.get(name), kind) or isinstance(said.get(name), bool):
            raise MalformedEvent(f"a receipt needs {name}")
    if said["status"] not in ("Success", "Error"):
        raise MalformedEvent(f"expected status Success or Error, found {said['status'][:40]!r}")
    if said["status"] == "Error":
        wanted = ("error",)  # its description is for people
    else:
        wanted = ("psp_confirmation_id", "network_confirmation_id") if "payment_id" in said else ("order_id",)
    if missing := [name for name in wanted if not isinstance(said.get(name), str)]:
        raise MalformedEvent(f"a receipt with status {said['status']} needs {', '.join(missing)}")


# --- the check at dispute time --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One step of AP2's dispute check. `holds` None: it cannot be known from what is there."""

    name: str
    holds: bool | None
    reason: str


def check_dispute(
    checkout_mandate: str, checkout_receipt: str, payment_mandate: str, payment_receipt: str, keys: Mapping[str, Key]
) -> tuple[Step, ...]:
    """AP2 v0.2, verification at a dispute, in the specification's order. Only when every step holds may the contents
    be used as evidence of what each party saw."""
    checkout, why = _verified(checkout_mandate, keys, "mandate.checkout.1")
    steps = [Step("checkout mandate verified", *_conforms(checkout, why, keys))]

    said = mandate_of(checkout[-1]) if checkout else None
    computed = hashed(str(said["checkout_jwt"]), checkout[-1].hash_name) if checkout and said else None
    same = computed is not None and said is not None and computed == said.get("checkout_hash")
    reason = f"checkout_hash is {'' if same else 'not '}the hash of checkout_jwt"
    steps.append(Step("checkout hash recomputed", same, reason))

    steps.append(_receipt_step("checkout receipt refers to it", checkout_receipt, checkout, keys))

    payment, why = _verified(payment_mandate, keys, "mandate.payment.1")
    paid = mandate_of(payment[-1]) if payment else None
    if paid is not None and paid.get("transaction_id") != computed:
        steps.append(Step("payment mandate verified", False, "transaction_id is not the checkout's hash"))
    else:
        open_checkout = _openers(checkout)
        steps.append(Step("payment mandate verified", *_conforms(payment, why, keys, open_checkout=open_checkout)))

    steps.append(_receipt_step("payment receipt refers to it", payment_receipt, payment, keys))
    return tuple(steps)


def _verified(chain: str, keys: Mapping[str, Key], vct: str) -> tuple[tuple[Token, ...], str]:
    """The chain when its signatures hold and it ends in a mandate of `vct`; else nothing, and why."""
    try:
        tokens = open_chain(chain)
        check_chain(tokens, keys)
    except Refused as refused:
        return (), str(refused)
    said = mandate_of(tokens[-1])
    if said is None or said["vct"] != vct or any(name not in said for name in _REQUIRED[vct]):
        return (), f"the chain does not end in a whole {vct}"
    return tokens, ""


def _openers(tokens: tuple[Token, ...]) -> list[Token]:
    return [t for t in tokens[:-1] if (mandate_of(t) or {}).get("vct") in _OPEN]


def _conforms(
    tokens: tuple[Token, ...], why: str, keys: Mapping[str, Key], *, open_checkout: list[Token] | None = None
) -> tuple[bool | None, str]:
    """Signatures, and the closed mandate against every constraint of every open one. An unknown constraint fails."""
    if not tokens:
        return False, why
    closed = mandate_of(tokens[-1]) or {}
    unknown = []
    if "checkout_jwt" in closed:
        try:
            merchant = open_jws(str(closed["checkout_jwt"]))
            check_jws(merchant, key_of(merchant, keys))
        except UnknownKey as refused:
            unknown.append(f"the merchant's signature cannot be checked: {refused}")
        except Refused as refused:
            return False, f"checkout_jwt: {refused}"
    used = seconds(tokens[-1].claims.get("iat", closed.get("iat")))
    if used is None and any(
        c.get("exp") is not None for t in _openers(tokens) for c in (t.claims, mandate_of(t) or {})
    ):
        unknown.append(
            "the closed mandate does not say when it was made (iat), so whether the open one had ended is not known"
        )
    for token in _openers(tokens):
        given = mandate_of(token) or {}
        for claims in (token.claims, given):  # both may name times, and the narrower holds
            since, until = seconds(claims.get("iat")), seconds(claims.get("exp"))
            if used is not None and until is not None and used >= until:
                return False, "the open mandate had expired when it was used"
            if used is not None and since is not None and used < since - CLOCK_SKEW:
                return False, "the open mandate was given after it was used"
        for name in ("payee", "payment_amount", "payment_instrument", "pisp", "execution_date"):
            if name in given and given[name] != closed.get(name):
                return False, f"{name} differs from what the open mandate fixed"
        for constraint in _list(given.get("constraints")):
            holds, reason = _holds(constraint, closed, open_checkout or [])
            if holds is False:
                return False, reason
            if holds is None:
                unknown.append(reason)
    return (None, "; ".join(unknown)[:500]) if unknown else (True, "signatures, bindings and constraints hold")


def _holds(constraint: Any, closed: dict, open_checkout: list[Token]) -> tuple[bool | None, str]:
    kind = inner(constraint, "type")
    amount, currency = inner(closed, "payment_amount", "amount"), inner(closed, "payment_amount", "currency")
    match kind:
        case "payment.amount_range" | "payment.budget":
            if constraint.get("currency") != currency or not isinstance(amount, int):
                return False, f"{kind} is in {constraint.get('currency')}, the payment in {currency}"
            low, high = constraint.get("min") or 0, constraint.get("max")
            if not isinstance(high, int | float) or not isinstance(low, int | float) or not low <= amount <= high:
                return False, f"{amount} is outside {kind} of {low} to {high}"
            if kind == "payment.budget":
                return None, "what was spent of payment.budget before is not in the mandate"
            return True, ""
        case "payment.agent_recurrence":
            return None, "how often the mandate was used before is not in it"
        case "payment.allowed_payees":
            return _among(closed.get("payee"), constraint, kind)
        case "payment.allowed_payment_instruments":
            return _among(closed.get("payment_instrument"), constraint, kind)
        case "payment.allowed_pisps":
            return _among(closed.get("pisp"), constraint, kind)
        case "payment.execution_date":
            day = closed.get("execution_date")
            begins, ends = _moment(day), _moment(day, ends=True)
            bounds = constraint.get("not_before"), constraint.get("not_after")
            first, last = _moment(bounds[0]), _moment(bounds[1], ends=True)
            if begins is None or ends is None:
                return None, "no execution_date: when it was to be executed is not in the mandate"
            if (first is not None and ends < first) or (last is not None and begins > last):
                return False, "execution_date is outside what was allowed"
            if (first is None and bounds[0] is not None) or (last is None and bounds[1] is not None):
                return None, f"a bound of {kind} cannot be read"
            return True, ""
        case "payment.reference":
            wanted = constraint.get("conditional_transaction_id")
            if not open_checkout:
                return None, "the open checkout mandate that payment.reference names is not there"
            held = any(
                wanted in (token.sd_hash, hashed(token.compact.partition("~")[0], token.hash_name))
                for token in open_checkout
            )
            return held, "" if held else "payment.reference names another open checkout mandate"
        case "checkout.allowed_merchants" | "checkout.line_items":
            return None, f"{kind} is judged against the merchant's checkout, whose shape AP2 does not fix"
    return False, f"constraint {str(kind)[:80]!r} is not known, and counts as failing"


def _among(value: Any, constraint: dict, kind: str) -> tuple[bool, str]:
    """By id where both have one: descriptions are for people."""
    allowed = _list(constraint.get("allowed"))
    held = any(
        value == one or (inner(value, "id") is not None and inner(value, "id") == inner(one, "id")) for one in allowed
    )
    return held, "" if held else f"not among {kind}"


def _receipt_step(name: str, receipt: str, tokens: tuple[Token, ...], keys: Mapping[str, Key]) -> Step:
    try:
        jws = open_jws(receipt)
        check_jws(jws, key_of(jws, keys))
        _check_receipt(jws.claims)
    except Refused as refused:
        return Step(name, False, str(refused))
    held = bool(tokens) and jws.claims["reference"] in references(tokens[-1])
    return Step(name, held, f"its reference is {'' if held else 'not '}the closed mandate's hash")
