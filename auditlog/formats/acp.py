"""Agentic Commerce Protocol (2026-04-17, and orders of the versions before): the merchant's order webhooks, and
delegated payments as their recorder saw them. {type: order_create | order_update, data: order} | {type:
delegate_payment, at, idempotency_key, data: {request, response}}.

Up to 2026-01-30 an order has no id, and is known by its checkout session; its `refunds` have neither ids nor a currency
and stand in every later webhook again, so that none of them can be counted.

Verified: the specification's examples of orders and delegated payments, the signature header. Not verified: which
clock a merchant uses for an order that names no time; the time in the signature stands for it.

`Merchant-Signature` (t, v1 HMAC-SHA256) makes it grade C; a recorder without it sends a static token (D). A body with
a card number is refused at the door: a recorder must leave `payment_method.number` out, as must `cvc`. A delegated
payment token is kept as its digest.

An order's total is a quote, never a charge: what was charged, the payment system says. Chain order: none; ACP names
no agent. An allowance is a ceiling, joined by checkout session, merchant and idempotency key.
"""

from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import ARRIVAL, Event, Id, Money, Payload
from auditlog.core.wire.mac import check_timestamped_mac
from auditlog.core.wire.static_token import check_static_token
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    action,
    called,
    canonical,
    decoded,
    digest_id,
    event,
    fitted,
    inner,
    minor_units,
    note,
    told_at,
    type_or_other,
    verb_of,
)

CONTENT_TYPES = ("application/json",)
KEY_NAME = "acp-merchant-secret"
RAIL = "acp"
content = canonical

ABOUT = About(
    title="Agentic Commerce Protocol",
    sent="POST of one order webhook or one recorded delegated payment, application/json",
    authentication="Merchant-Signature (t, v1): HMAC-SHA256 with the shared secret; a recorder may use a static token",
    grade="C signed, D by static token or where a secret had to be removed",
    carries="orders created and changed, refunds, cancellations and disputes on them, delegated payment allowances",
    chains="none: ACP names no agent. Joined by checkout session, order and idempotency key",
    lacks="charges (an order's total is a quote), the agent, and often a time of its own",
    tested="the specification's examples: five orders and a delegated payment, the one with a card number refused; orders as before 2026-04-17",
    against=("agentic-commerce-protocol, examples of 2026-04-17 and schema of 2026-01-30",),
    connect=(
        "Have the merchant send its order webhooks to {address}.",
        "Set the secret of Merchant-Signature as {secret} where the service runs.",
        'Delegated payments: post {{"type": "delegate_payment", "at": .., "idempotency_key": .., "data": {{..}}}} '
        "without payment_method.number and cvc, signed the same way or with Authorization: Bearer <the secret>.",
    ),
)


class Message(Struct):
    type: Id
    data: dict[str, Any]
    at: str | int | float | None = None
    idempotency_key: Id = ""


_message = msgspec.json.Decoder(Message).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    body = records.unpacked(delivery)
    signature = delivery.headers.get("merchant-signature", "")
    if signature:
        check_timestamped_mac(body, signature, sender.secrets(), name="Merchant-Signature")
        headers, grade, key = {"merchant-signature": signature}, "C", KEY_NAME
    else:
        check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
        headers, grade, key = {}, "D", records.NO_KEY
    for name in ("request-id", "timestamp"):
        if value := delivery.headers.get(name):
            headers[name] = value[:500]
    statement = records.stated(body, sender, parse=parse, grade=grade, key=key, headers=headers)
    return Received({statement.source_event_id: statement})


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said, told = decoded(_message, raw, "{type, data}"), records.told(headers)
    if said.type == "delegate_payment":
        native, payload, subject = _delegated(said, sender)
    elif said.type.startswith("order"):
        native, payload, subject = _order(said, sender, told)
    else:
        native, payload, subject = type_or_other("", sender, said.type), Payload(outcome="unknown"), said.type
    # Neither has an id of its own; a redelivery has the same body.
    return event(sender, id=fitted(f"{subject}:{digest_id(raw)}"), type=native, at=_at(said, told), payload=payload)


def _at(said: Message, told: dict[str, str]) -> Any:
    """The first time that is said and can be read: the signature's before the header's, which nobody signed."""
    signed = (part.strip().partition("=") for part in told.get("merchant-signature", "").split(","))
    given = [
        said.at,
        inner(said.data, "response", "created"),
        *(value for name, _, value in signed if name == "t"),
        told.get("timestamp"),
    ]
    return next((at for at in map(told_at, given) if at != ARRIVAL), ARRIVAL)


_RETURNS = ("refund", "credit", "return", "price_adjustment", "cancellation")


def _when(adjustment: dict) -> tuple[bool, float]:
    """Its time, to tell which came last; one that states none is not the last where another does."""
    at = told_at(adjustment.get("occurred_at"))
    return at != ARRIVAL, at.timestamp() if at != ARRIVAL else 0.0


def _order(said: Message, sender: Sender, told: dict[str, str]) -> tuple[str, Payload, str]:
    order = said.data
    subject = next(
        (found for name in ("id", "checkout_session_id", "permalink_url") if (found := fitted(order.get(name)))), ""
    )
    if not subject:
        raise MalformedEvent("expected an order with an id, a checkout_session_id or a permalink_url")
    given = order.get("adjustments")
    adjustments = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    last = max(adjustments, key=_when, default=None)
    native, outcome, money = "action.performed", "success", _total(order)
    verb = {"order_create": "order.create", "order_update": "order.update"}.get(said.type, said.type)
    if last is not None and said.type != "order_create":
        outcome = {"completed": "success", "pending": "pending", "failed": "failure"}.get(
            str(last.get("status")), "unknown"
        )
        if last.get("type") == "dispute":
            native = {"success": "dispute.closed", "failure": "dispute.closed", "pending": "dispute.opened"}.get(
                outcome, "dispute.updated"
            )
            outcome, money = "success" if outcome == "pending" else outcome, None
        elif last.get("type") in _RETURNS:
            native, money = "payment.refunded", _adjustment(last)
    payload = Payload(
        outcome=outcome,
        action=action(verb_of(native, verb), provider=sender.provider, target=("order", subject),
                      resource=order.get("permalink_url")),
        session=fitted(order.get("checkout_session_id")),
        request_id=fitted(told.get("request-id")),
        call=called(said.type, idempotency_key=said.idempotency_key),
        money=money,
    )  # fmt: skip
    return native, payload, subject


def _total(order: dict[str, Any]) -> Money | None:
    """Only where the order says its currency: the examples' totals do not."""
    currency, totals = order.get("currency"), order.get("totals")
    total = next((t for t in totals if inner(t, "type") == "total"), None) if isinstance(totals, list) else None
    if not isinstance(currency, str) or len(currency) != 3 or inner(total, "amount") is None:
        return None
    number = _integer(inner(total, "amount"))
    return (
        None if number is None else Money(number, currency.upper(), "quoted", rail=RAIL, charge=fitted(order.get("id")))
    )


def _integer(amount: Any) -> int | None:
    """Of what is only quoted, or stands in every later webhook again: left out where it is no integer."""
    try:
        return minor_units(amount)
    except MalformedEvent as error:
        note(f"not read: {error}")
        return None


def _adjustment(last: dict[str, Any]) -> Money | None:
    """Every later webhook repeats it, so it goes by its own id."""
    amount, currency = last.get("amount"), last.get("currency")
    if amount is None or not isinstance(currency, str) or len(currency) != 3:
        return None
    number = _integer(amount)
    return (
        None
        if number is None
        else Money(abs(number), currency.upper(), "refunded", rail=RAIL, charge=fitted(last.get("id")))
    )


def _delegated(said: Message, sender: Sender) -> tuple[str, Payload, str]:
    """A delegated payment: what the agent's platform may have the merchant charge at most."""
    allowance = inner(said.data, "request", "allowance")
    if not isinstance(allowance, dict):
        raise MalformedEvent("expected data.request.allowance")
    answer = said.data.get("response")
    failed = (
        isinstance(answer, dict)
        and "id" not in answer
        and any(name in answer for name in ("code", "type", "message", "error"))
    )
    token = fitted(inner(answer, "id"))
    currency = allowance.get("currency")
    if not isinstance(currency, str):
        raise MalformedEvent("expected the allowance's currency")
    money = Money(minor_units(allowance.get("max_amount")), currency.upper(), "ceiling", rail=RAIL, authority=token)
    payload = Payload(
        outcome="failure" if failed else "success" if token else "pending",
        action=action(provider=sender.provider, account=allowance.get("merchant_id"), target=("payment_token", token)),
        session=fitted(allowance.get("checkout_session_id")),
        call=called("delegate_payment",
                    idempotency_key=said.idempotency_key or inner(answer, "metadata", "idempotency_key"),
                    error=inner(answer, "code") or inner(answer, "type") or inner(answer, "message") if failed else ""),
        money=None if failed else money,
    )  # fmt: skip
    subject = token or fitted(allowance.get("checkout_session_id")) or "delegate_payment"
    return "payment.failed" if failed else "payment.authority_granted", payload, subject
