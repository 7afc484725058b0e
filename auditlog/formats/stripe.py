"""Stripe webhooks, v1 snapshot events and v2 thin events: `Stripe-Signature: t=..,v1=..` is HMAC-SHA256 of
`<t>.<raw body>` under the endpoint secret as given (header and event names read in Stripe's SDK and fixtures).

Grade C: a shared secret shows that Stripe or we wrote it, to us only. The age of `t` is not judged: an event's
identity makes a replay harmless, and a late delivery is evidence too. A body with a shared payment token in it is
kept with the token's digest in its place, so no signature fits it any more: grade D.

Amounts are integers in the currency's minor unit, zero- and three-decimal currencies included, so they pass through
(but for the ariary, the króna and the Ugandan shilling, see _WHOLE and _HUNDREDTHS).
A charge is named by several events (`charge.succeeded`, `payment_intent.succeeded`, `invoice_payment.paid`); all carry
its id or its payment intent's (`money.payment`), so it counts once. Refund money is taken from `charge.refunded` alone,
whose `previous_attributes` say what was new in it; `refund.*` events carry none, so that one refund is not two, but
where a refund has failed: then the money is taken again (outcome failure, phase captured). What happened is what the
object's own status says, whatever the event's type; a status that Stripe did not have when this was written is unknown,
and so is what a thin event leaves to its object. The limit of a shared payment token or of an issued card is a
ceiling, never a charge; what is drawn on it counts where the charge says so.

Issuing: a transaction is the charge. An authorization only holds, and its captures and refunds name it as their
payment; it may be captured after it expired. Disputes run the other way round: what is reinstated is the cardholder's
again, as what is withdrawn from a seller is its customer's.

An invoice bills what is due, so nothing of what the customer's balance pays: that is a credit. A credit note lowers it
by what it takes off before payment; what it gives back after payment is a refund, or goes to the balance.

Versions (`api_version`; docs.stripe.com/changelog): before 2025-03-31.basil Stripe makes a Refund of what was
authorized and never captured, and tells of it by `charge.refunded`; since then a cancelled authorization comes as
`payment_intent.canceled` alone, and a charge no longer names its invoice. Before 2022-11-15 a payment intent has its
charges in `charges.data`. While an endpoint is moved to another version, each event comes twice under one id: another
rendering, no other event (`is_rendering`).

A thin event holds its type and the related object's id. What it announces is fetched: the event as the API has it,
which alone says who did it (an API key, a person at the dashboard, or Stripe), then the object. Each is a statement of
its own (grade E) beside the thin one. The object is what it was when it was read, so it has no refund, reversal or
dispute money (how much of it this event was about, it cannot say) and no money without a charge or an authority to
count it by. v1 types come in thin form as `v1.<type>`.

Verified: SDK classes and published fixtures. Not verified: fetching against Stripe itself; the names of the
`shared_payment.*` events, which are documented but not in the SDK's tables, and the previews
(`v2.orchestrated_commerce.*`, approval requests, access grants). No chain: Stripe names no agent.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from auditlog.core.document import read_document
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, WrongContentType
from auditlog.core.event import Action, Actor, Event, Id, Money, Payload, Seconds, Target
from auditlog.core.wire.mac import check_timestamped_mac
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.core.wire.request import Request
from auditlog.formats import About, Announced, Delivery, Received, Sender, Statement, records
from auditlog.formats.values import (
    acting,
    called,
    client,
    decoded,
    digest_id,
    event,
    fitted,
    inner,
    minor_units,
    note,
    party,
    told_at,
    type_or_other,
)

CONTENT_TYPES = ("application/json",)
MAX_BODY = 1024 * 1024
ABOUT = About(
    title="Stripe webhooks",
    sent="POST of one event, application/json: v1 snapshots and v2 thin events, as a webhook endpoint gets them",
    authentication="Stripe-Signature (t, v1): HMAC-SHA256 with the endpoint's secret",
    grade="C; D where a secret had to be removed from the body; E for what a thin event announced and we fetched",
    carries="charges, refunds, invoices, credit notes, subscriptions, disputes, issued cards, billing alerts, shared payment tokens",
    chains="none: Stripe names no agent. Joined by charge, invoice, idempotency key and payment token",
    lacks="provisioning (Stripe has no webhooks for it); of a thin event all but its object, until it is fetched",
    tested="Stripe's own library signs and verifies the tests' events; all published fixture objects are read",
    against=(
        "stripe 16.1.0",
        "stripe/openapi fixtures3 and its private preview, 2026-11",
        "docs.stripe.com/changelog, 2026-11",
    ),
    connect=(
        "In the Stripe dashboard open Developers > Webhooks and add an endpoint at {address}.",
        "Choose the events of charges, refunds, invoices, subscriptions, disputes, issuing and billing.",
        "Reveal the signing secret (whsec_...) and set it, as it is, as {secret} where the service runs.",
        "For thin events name a variable of a restricted API key too, which may read events and their objects.",
    ),
)
KEY_NAME = "stripe-endpoint-secret"

# our type, outcome, phase; the money of a type without phase is not counted
_TYPES: dict[str, tuple[str, str, str]] = {
    "charge.succeeded": ("payment.captured", "success", "captured"),
    "charge.captured": ("payment.captured", "success", "captured"),
    "charge.pending": ("payment.captured", "pending", "captured"),
    "charge.failed": ("payment.failed", "failure", ""),
    "charge.refunded": ("payment.refunded", "success", "refunded"),
    "refund.created": ("payment.refunded", "success", ""),
    "refund.updated": ("payment.refunded", "success", ""),
    "refund.failed": ("payment.refunded", "failure", ""),
    "charge.refund.updated": ("payment.refunded", "success", ""),
    "charge.expired": ("payment.refunded", "success", "reversed"),
    "payment_intent.created": ("payment.quoted", "success", "quoted"),
    "payment_intent.succeeded": ("payment.captured", "success", "captured"),
    "payment_intent.payment_failed": ("payment.failed", "failure", ""),
    "payment_intent.processing": ("payment.captured", "pending", "captured"),
    "payment_intent.canceled": ("payment.failed", "failure", ""),
    "payment_intent.requires_action": ("approval.requested", "pending", ""),
    "payment_intent.amount_capturable_updated": ("payment.authorized", "success", "authorized"),
    "invoice.created": ("invoice.issued", "success", "quoted"),
    "invoice.finalized": ("invoice.issued", "success", "quoted"),
    "invoice.paid": ("invoice.paid", "success", "settled"),
    "invoice.payment_failed": ("invoice.failed", "failure", ""),
    "invoice.voided": ("invoice.voided", "success", "quoted"),
    "invoice.marked_uncollectible": ("invoice.failed", "failure", ""),
    "invoice.overdue": ("invoice.failed", "pending", ""),
    "invoice_payment.paid": ("invoice.paid", "success", "settled"),
    "credit_note.created": ("invoice.credited", "success", "refunded"),
    "credit_note.voided": ("invoice.credited", "failure", "captured"),  # what it took off is owed again
    "customer.subscription.created": ("subscription.started", "success", ""),
    "customer.subscription.updated": ("subscription.changed", "success", ""),
    "customer.subscription.paused": ("subscription.changed", "success", ""),
    "customer.subscription.resumed": ("subscription.changed", "success", ""),
    "customer.subscription.deleted": ("subscription.ended", "success", ""),
    "charge.dispute.created": ("dispute.opened", "success", "disputed"),
    "charge.dispute.updated": ("dispute.updated", "success", ""),
    "charge.dispute.closed": (
        "dispute.closed",
        "unknown",
        "",
    ),  # an inquiry that came to nothing is neither won nor lost
    "charge.dispute.funds_withdrawn": ("dispute.funds_withdrawn", "success", "disputed"),
    "charge.dispute.funds_reinstated": ("dispute.funds_reinstated", "success", "disputed"),
    "issuing_dispute.created": ("dispute.opened", "success", "disputed"),
    "issuing_dispute.submitted": ("dispute.updated", "success", ""),
    "issuing_dispute.updated": ("dispute.updated", "success", ""),
    "issuing_dispute.closed": ("dispute.closed", "unknown", ""),
    "issuing_dispute.funds_reinstated": ("dispute.funds_withdrawn", "success", "disputed"),
    "issuing_dispute.funds_rescinded": ("dispute.funds_reinstated", "success", "disputed"),
    "issuing_authorization.request": ("payment.authorized", "pending", "authorized"),  # seen, never in its path
    "issuing_authorization.created": ("payment.authorized", "success", "authorized"),
    "issuing_authorization.updated": ("payment.authorized", "success", "authorized"),
    "issuing_transaction.created": ("payment.captured", "success", "captured"),
    "issuing_transaction.updated": ("payment.captured", "success", "captured"),
    "issuing_card.created": ("payment.authority_granted", "success", "ceiling"),
    "issuing_card.updated": ("", "success", "ceiling"),
    "issuing_token.created": ("credential.issued", "success", ""),
    "billing.alert.triggered": ("budget.alerted", "success", ""),
    "billing.credit_grant.created": ("payment.authority_granted", "success", "ceiling"),
    "shared_payment.issued_token.created": ("payment.authority_granted", "success", "ceiling"),
    "shared_payment.granted_token.created": ("payment.authority_granted", "success", "ceiling"),
    # The limit said again is no new authority; what was drawn on it counts through its charge.
    "shared_payment.issued_token.used": ("", "success", "ceiling"),
    "shared_payment.granted_token.used": ("", "success", "ceiling"),
    "shared_payment.issued_token.deactivated": ("payment.authority_ended", "success", ""),
    "shared_payment.granted_token.deactivated": ("payment.authority_ended", "success", ""),
    "v2.orchestrated_commerce.agreement.created": ("approval.requested", "pending", ""),
    "v2.orchestrated_commerce.agreement.confirmed": ("mandate.issued", "success", ""),
    "v2.orchestrated_commerce.agreement.terminated": ("mandate.revoked", "success", ""),
    "v2.core.approval_request.created": ("approval.requested", "pending", ""),
    "v2.core.approval_request.approved": ("approval.decided", "success", ""),
    "v2.core.approval_request.rejected": ("approval.decided", "denied", ""),
    "v2.core.approval_request.canceled": ("approval.decided", "denied", ""),
    "v2.core.approval_request.expired": ("approval.decided", "denied", ""),
    "v2.iam.api_key.created": ("credential.issued", "success", ""),
    "v2.iam.api_key.rotated": ("credential.rotated", "success", ""),
    "v2.iam.api_key.expired": ("credential.revoked", "success", ""),
    "v2.iam.stripe_access_grant.requested": ("approval.requested", "pending", ""),
    "v2.iam.stripe_access_grant.approved": ("delegation.granted", "success", ""),
    "v2.iam.stripe_access_grant.denied": ("delegation.denied", "denied", ""),
    "v2.iam.stripe_access_grant.removed": ("delegation.revoked", "success", ""),
}
# What became of it, by the object's own status. Of any other status it is not known.
_STATUS: dict[str, dict[str, str]] = {
    "refund": {
        "pending": "pending",
        "requires_action": "pending",
        "succeeded": "success",
        "failed": "failure",
        "canceled": "failure",
    },
    "dispute": {"won": "success", "lost": "failure"},
    "issuing.dispute": {"won": "success", "lost": "failure", "expired": "failure"},
    "charge": {"succeeded": "success", "paid": "success", "pending": "pending", "failed": "failure"},
    "subscription": {"incomplete": "pending", "incomplete_expired": "failure"}
    | dict.fromkeys(("trialing", "active", "past_due", "canceled", "unpaid", "paused"), "success"),
    "invoice": {"draft": "pending"} | dict.fromkeys(("open", "paid", "uncollectible", "void"), "success"),
}
_STATUS_COUNTS = (
    "refund.created", "refund.updated", "refund.failed", "charge.refund.updated", "charge.dispute.closed", "issuing_dispute.closed", "charge.succeeded",
    "customer.subscription.created", "customer.subscription.updated", "invoice.created",
)  # fmt: skip
# Their type alone does not say whether it came about.
_TYPE_SAYS_NOTHING = (
    "refund.created", "refund.updated", "charge.refund.updated", "issuing_authorization.created", "issuing_authorization.updated",
)  # fmt: skip
BASIL = "2025-03-31"
_DATED = re.compile(r"20\d\d-\d\d-\d\d(\.|\Z)")
_OF_A_CHARGE = ("radar.", "review.")  # which have no native type, and are found by their charge
_GRANTS = ("v2.iam.stripe_access_grant.", "v2.orchestrated_commerce.agreement.")
# `client_secret`, `authorization` and `api_key` stay, as parts of what Stripe signed: the first confirms a payment in a
# browser with a public key, the second is the id of an authorization, the third an object that has no secret.
REMOVED = NEVER_STORED - {"clientsecret", "authorization", "apikey"}
# The ariary's fifths do not exist for Stripe, which sends it without decimals (docs.stripe.com/currencies); here it has
# two places, as ISO 4217 says.
_WHOLE = frozenset({"MGA"})
# Without decimals by ISO 4217, and sent with two all the same, for compatibility (docs.stripe.com/currencies, "Special
# cases").
_HUNDREDTHS = frozenset({"ISK", "UGX"})
THIN = "v2.core.event"
API = "https://api.stripe.com"
VERSION = "2026-10-28.endive"  # /v2 answers no request without one
_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,200}\Z")
_OBJECT_PATH = re.compile(r"/v[12](?:/[A-Za-z0-9_-]+)+\Z")  # no dots, no query: it is put behind our own address
_CONTEXT = re.compile(r"[A-Za-z0-9_/]{1,300}\Z")
_BEYOND_DOUBT = ("ceiling", "quoted", "authorized", "captured", "settled")  # true of an object whenever it is read


class Client(Struct):
    """Who did it, as a fetched v2 event says."""

    type: str = ""
    api_key: dict[str, Any] | None = None
    dashboard_user: dict[str, Any] | None = None


class ApiRequest(Struct):
    id: Id | None = None
    idempotency_key: Id | None = None
    client: Client | None = None


class Reason(Struct):
    request: ApiRequest | None = None


class Related(Struct):
    id: Id = ""
    type: Id = ""
    url: str = ""


class Body(Struct):
    """A snapshot (`data.object`) or a thin event (`related_object`), fetched or not."""

    id: Id
    type: Id
    created: Seconds | str | None = None
    object: str = "event"
    api_version: str | None = None
    data: dict[str, Any] | None = None
    livemode: Any = True
    account: Id | None = None
    context: Id | None = None
    request: ApiRequest | str | None = None
    related_object: Related | None = None
    reason: Reason | None = None


_body = msgspec.json.Decoder(Body).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    if delivery.content_type not in CONTENT_TYPES:
        raise WrongContentType(f"expected application/json, found {delivery.content_type or 'none'!r}")
    if len(delivery.body) > MAX_BODY:
        raise DeliveryTooLarge(f"a webhook has at most {MAX_BODY:,} bytes, found {len(delivery.body):,}")
    header = delivery.headers.get("stripe-signature", "")
    check_timestamped_mac(delivery.body, header, sender.secrets(), name="Stripe-Signature")
    statement = records.stated(
        delivery.body, sender, parse=parse, grade="C", key=KEY_NAME, names=REMOVED, limit=MAX_BODY,
        headers={"stripe-signature": header},
    )  # fmt: skip
    return Received({statement.source_event_id: statement})


def announced(raw: bytes, headers: bytes) -> list[Announced]:
    """Of a thin event the event itself, and of that the related object."""
    fetched_as = records.told(headers).get("fetched")
    if fetched_as == "object":
        return []
    body = decoded(_body, raw, "a Stripe event")
    if body.object != THIN or not _EVENT_ID.match(body.id):
        return []
    asks = {"event": body.id, "context": body.context if body.context and _CONTEXT.match(body.context) else ""}
    if fetched_as is None:
        return [Announced(body.id, asks)]
    path = body.related_object.url if body.related_object else ""
    if len(path) > 300 or not _OBJECT_PATH.match(path) or "spt_sha256_" in path:  # whose name we do not know any more
        return []
    asks |= {
        "path": path,
        "type": body.type,
        "created": str(body.created),
        "livemode": "1" if _is_live(body, {}) else "",
    }
    return [Announced(f"{body.id} {path}", asks)]


def fetch_request(asks: Mapping[str, str], base: str) -> Request:
    path = asks.get("path") or f"/v2/core/events/{asks['event']}"
    context = {"Stripe-Context": asks["context"]} if asks.get("context") else {}
    return Request(base.rstrip("/") + path, headers={"Stripe-Version": VERSION, "Accept": "application/json"} | context)


def fetched(body: bytes, asks: Mapping[str, str], sender: Sender) -> Statement:
    """What was read from Stripe's API, to be kept beside the thin event that announced it. Raises Refused."""
    if "path" in asks:
        headers = {"fetched": "object", **{name: asks[name] for name in ("event", "type", "created", "livemode")}}
        return records.stated(body, sender, parse=parse, grade="E", limit=MAX_BODY, headers=headers)
    if (found := decoded(_body, body, "a Stripe event").id) != asks["event"]:
        raise MalformedEvent(f"asked for event {asks['event']}, got {found[:100]!r}")
    return records.stated(
        body, sender, parse=parse, grade="E", names=REMOVED, limit=MAX_BODY, headers={"fetched": "event"}
    )


def content(raw: bytes, headers: bytes) -> bytes:
    """The body without `pending_webhooks`: Stripe signs a retry afresh, and counts that number down between retries."""
    try:
        document = read_document(raw)
        document.pop("pending_webhooks", None)
    except (ValueError, AttributeError):
        return raw
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


# What no version of the API renders otherwise.
_SAME = ("id", "object", "type", "created", "account", "context", "livemode")
_SAME_THING = (
    "id", "object", "amount", "amount_captured", "amount_capturable", "amount_due", "amount_refunded", "amount_received", "amount_paid", "total",
    "currency", "status", "captured", "paid", "approved", "charge", "customer",
)  # fmt: skip
# What older versions called the same (docs.stripe.com/changelog: 2015-02-18, 2017-04-06, 2017-05-25, 2019-02-11).
_RENAMED = {
    "object": {"transfer": "payout"},
    "status": {"paid": "succeeded", "requires_source": "requires_payment_method", "requires_source_action": "requires_action"},
}  # fmt: skip


def is_rendering(before: bytes, now: bytes) -> bool:
    """Whether these are one event in two versions of the API: `api_version` differs, and nothing that all versions
    render alike.
    """
    try:
        one, other = read_document(before), read_document(now)
    except ValueError:
        return False
    if not isinstance(one, dict) or not isinstance(other, dict) or one.get("api_version") == other.get("api_version"):
        return False
    things = inner(one, "data", "object") or {}, inner(other, "data", "object") or {}
    if not all(isinstance(thing, dict) for thing in things) or any(_told(one, n) != _told(other, n) for n in _SAME):
        return False
    changed = [inner(body, "data", "previous_attributes") or {} for body in (one, other)]
    return _agree(*things) and all(isinstance(before, dict) for before in changed) and _agree(*changed)


def _told(body: dict[str, Any], name: str) -> Any:
    """A part of the event; the account was called `user_id` before 2017-05-25."""
    return body.get(name, body.get("user_id") if name == "account" else None)


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether what both of them say, of what all versions render alike, is the same."""
    names = (*_SAME_THING, "type") if one.get("object") == "issuing.transaction" else _SAME_THING
    return all(_rendered(one, name) == _rendered(other, name) for name in names if name in one and name in other)


def _rendered(thing: dict[str, Any], name: str) -> Any:
    """A value as the newest version has it; of an expanded object its id."""
    value = thing[name]
    if isinstance(value, dict):
        return _id(value)
    return _RENAMED.get(name, {}).get(value, value) if isinstance(value, str) else value


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    """A Stripe event as a native one. Raises MalformedEvent."""
    told = records.told(headers)
    if told.get("fetched") == "object":
        body = _around(raw, told)
        id = f"{told['event']}#object {digest_id(raw)}"  # read twice, it may be another: both are what it was
    else:
        body = decoded(_body, raw, "a Stripe event")
        id = f"{body.id}#fetched" if "fetched" in told else body.id
    if not body.id or not body.type:
        raise MalformedEvent("expected an id and a type")
    thing = body.data.get("object") if body.data else None
    if body.object != THIN and not isinstance(thing, dict):
        raise MalformedEvent("expected data.object")
    thing = thing if isinstance(thing, dict) else {}
    native, outcome, phase = _meaning(body, thing, sender)
    request = body.request if isinstance(body.request, ApiRequest) else ApiRequest(id=body.request)
    if body.reason and body.reason.request:
        request = body.reason.request
    related = body.related_object or Related(_id(thing.get("id")), fitted(thing.get("object"), 120))
    target = related.id
    payload = Payload(
        outcome=outcome,
        environment="live" if _is_live(body, thing) else "test",
        mode="direct" if request.client else "delegation",
        actor=_actor(request.client, sender),
        action=Action(
            account=body.account or body.context or "",
            target=Target(related.type[:120], target),
            resource=_id(thing.get("charge")) if body.type.removeprefix("v1.").startswith(_OF_A_CHARGE) else "",
        ),
        grant=target if native.startswith(("delegation.", "mandate.")) and body.type.startswith(_GRANTS) else None,
        request_id=target if native.startswith("approval.") else request.id or "",
        client=client(inner(request.client and request.client.dashboard_user, "ip_address")),
        call=called("", idempotency_key=request.idempotency_key),
        money=_money_of(body, thing, phase, told),
    )
    return event(sender, id=id, type=native, at=told_at(body.created), payload=payload)


def _around(raw: bytes, told: Mapping[str, str]) -> Body:
    """The event that an object was fetched for, with the object in it."""
    thing = decoded(_object, raw, "an object of Stripe's API")
    if not thing:
        raise MalformedEvent("expected an object of Stripe's API, found an empty one")
    live = thing.get("livemode")
    return Body(
        told["event"], told["type"], told["created"], data={"object": thing},
        livemode=live if isinstance(live, bool) else bool(told["livemode"]),
    )  # fmt: skip


def _is_live(body: Body, thing: dict[str, Any]) -> bool:
    """As the event says, else as its object does. Odd words for no are no too: test money is never counted as live."""
    told = body.livemode if isinstance(body.livemode, bool) else thing.get("livemode")
    if isinstance(told, bool):
        return told
    note(f"not read: livemode, expected true or false, found {str(body.livemode)[:20]}")
    return str(body.livemode).strip().lower() not in ("false", "0", "no", "test")


def _money_of(body: Body, thing: dict[str, Any], phase: str, told: Mapping[str, str]) -> Money | None:
    if not phase:
        return None
    if told.get("fetched") != "object":
        return _money(body, thing, phase)
    money = _money(body, thing, phase) if phase in _BEYOND_DOUBT else None
    return money if money and (money.charge or money.authority) else None


def _meaning(body: Body, thing: dict[str, Any], sender: Sender) -> tuple[str, str, str]:
    """Our type, what became of it, and the money's phase."""
    kind, status = body.type.removeprefix("v1."), thing.get("status")
    native, outcome, phase = _TYPES.get(kind, ("", "unknown", ""))
    native = native or type_or_other("", sender, body.type)
    if kind in _STATUS_COUNTS and status is not None:
        outcome = _outcome_of(thing)
    elif kind in _TYPE_SAYS_NOTHING or (kind in _STATUS_COUNTS and not thing):
        outcome = "success" if thing.get("approved") is True else "unknown"
    match kind:
        case "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" if outcome == "failure":
            return (
                native,
                outcome,
                "captured",
            )  # it was told of when it was made (charge.refunded), and is the seller's again
        case "charge.refunded" if (given := _given_back(body, thing)) is not None and not given[0]:
            # Nothing of it had been taken: it releases a hold, whose rest a capture has released already.
            return native, outcome, "" if thing.get("captured") else "reversed"
        case "payment_intent.canceled" if _charge_of(thing) and not thing.get("last_payment_error"):
            return "payment.refunded", "success", "reversed"
        case "issuing_authorization.request" if isinstance(thing.get("pending_request"), dict):
            return native, "pending", "authorized"
        case "charge.succeeded" if thing.get("captured") is False:
            return "payment.authorized", outcome, "authorized"
        case "charge.succeeded" if not isinstance(thing.get("captured", True), bool | None):
            return native, "unknown", phase
        case "issuing_transaction.created" | "issuing_transaction.updated" if thing.get("type") == "refund":
            # A transaction that is updated is the same refund, and refunds are summed.
            return "payment.refunded", outcome, "refunded" if kind.endswith("created") else ""
        case "issuing_transaction.created" | "issuing_transaction.updated" if thing.get("type") not in (
            "capture",
            None,
        ):
            return native, "unknown", phase
        case "issuing_authorization.created" | "issuing_authorization.updated" if thing.get("approved") is False:
            return "payment.failed", "denied", ""
        case "issuing_authorization.updated" if status in ("reversed", "expired"):
            return "payment.refunded", outcome, "reversed"
        case "issuing_card.updated" if thing.get("status") in ("inactive", "canceled"):
            return "payment.authority_ended", outcome, ""
        case "issuing_token.updated" if thing.get("status") == "deleted":
            return "credential.revoked", "success", ""
        case "billing.credit_grant.updated" if thing.get("voided_at"):
            return "payment.authority_ended", "success", ""
        case "invoice.paid" if not _id(thing.get("charge")):
            return native, outcome, "quoted"  # the charge's own event carries the money
        case "invoice_payment.paid" if not (
            _id(inner(thing, "payment", "charge")) or _id(inner(thing, "payment", "payment_intent"))
        ):
            return native, outcome, ""
    return native, outcome, phase


def _outcome_of(thing: dict[str, Any]) -> str:
    status = thing.get("status")
    return _STATUS.get(str(thing.get("object")), {}).get(status, "unknown") if isinstance(status, str) else "unknown"


def _actor(said: Client | None, sender: Sender) -> Actor | None:
    """An API key acts as a workload: whose agent holds it, Stripe does not know."""
    if said is None:
        return None
    if said.type == "dashboard_user":
        return acting([party(sender.issuer, inner(said.dashboard_user, "email"), "human")])
    if said.type == "api_key":
        return acting([party(sender.issuer, inner(said.api_key, "id"), "workload")])
    return acting([party(sender.issuer, said.type, "service")])


def _money(body: Body, thing: dict[str, Any], phase: str) -> Money | None:
    kind = str(thing.get("object"))
    if phase == "ceiling":
        return _ceiling(kind, thing)
    # What is only authorized was captured for nothing yet; its whole amount is held.
    event_type = body.type.removeprefix("v1.")
    names = _AMOUNTS.get(event_type, ("amount",)) if phase != "authorized" or event_type in _HELD else ("amount",)
    amount = next((thing[name] for name in names if thing.get(name) is not None), None)
    if event_type == "charge.refunded" and (given := _given_back(body, thing)) is not None:
        amount = given[0] or given[1]
    elif event_type == "charge.captured" and thing.get("amount_captured") is None and amount is not None:
        amount = minor_units(amount) - minor_units(
            thing.get("amount_refunded") or 0
        )  # before that field: the rest is given back at once
    elif kind == "issuing.authorization":
        amount = _held(event_type, body, thing, amount)
    elif event_type.startswith("credit_note."):
        amount = _credited(thing, amount)
    asked = thing.get("pending_request") if event_type == "issuing_authorization.request" else None
    currency = inner(asked, "currency") or thing.get("currency")
    if amount is None or not isinstance(currency, str) or len(currency) != 3:
        return None
    number = minor_units(amount)
    if (
        number < 0
    ):  # an issuing transaction takes from the balance; an invoice below zero puts the rest on the customer's
        number = -number if kind == "issuing.transaction" else 0
    charge = {
        "charge": thing.get("id"),
        "issuing.authorization": thing.get("id"),
        "issuing.transaction": thing.get("id"),
        "issuing.dispute": thing.get("transaction"),
        "payment_intent": _charge_of(thing),
        "invoice_payment": inner(thing, "payment", "charge"),
    }.get(kind, thing.get("charge"))
    payment = {
        "payment_intent": thing.get("id"),
        "issuing.authorization": thing.get("id"),
        "issuing.transaction": thing.get("authorization"),
        "invoice_payment": inner(thing, "payment", "payment_intent"),
    }.get(kind, thing.get("payment_intent"))
    return Money(
        **_amount(number, currency),
        phase=phase,
        rail="card_issuing" if kind.startswith("issuing.") else "stripe",
        charge=_id(charge),
        payment=_id(payment),
        authority=_id(thing.get("card")) if kind.startswith("issuing.") else "",
        invoice=_id(thing.get("id") if kind == "invoice" else thing.get("invoice")) or _invoice_of(thing),
    )


def _given_back(body: Body, thing: dict[str, Any]) -> tuple[int, int] | None:
    """What `charge.refunded` newly gave back of what had been taken, and of what was authorized only; None: it does not
    say.

    Before basil a refund is also made of what was never captured: the first of all, when the rest was captured or all
    of it voided. Since then `amount_refunded` is of what was taken.
    """
    after = thing.get("amount_refunded")
    if after is None:
        return None
    previous = inner(body.data, "previous_attributes")
    after, before = minor_units(after), minor_units(inner(previous, "amount_refunded") or 0)
    if _DATED.match(version := body.api_version or "") and version[:10] >= BASIL:
        return after - before, 0
    amount, taken = thing.get("amount"), thing.get("amount_captured")
    if taken is None:
        never = after - before if inner(previous, "captured") is False or thing.get("captured") is False else 0
    else:
        never = max(minor_units(amount) - minor_units(taken), 0) if amount is not None else 0
    taken_back = max(after - never, 0) - max(before - never, 0)
    return taken_back, after - before - taken_back


def _held(event_type: str, body: Body, thing: dict[str, Any], amount: Any) -> Any:
    """What an authorization of an issued card holds. While it awaits its answer, what is asked for; of a closed one
    nothing.
    """
    if event_type == "issuing_authorization.request" and isinstance(asked := thing.get("pending_request"), dict):
        return asked.get("amount", amount)
    if thing.get("status") == "closed":
        return 0
    if thing.get("status") in ("reversed", "expired"):
        # Where something was captured, what was given back of it are transactions of their own.
        return 0 if thing.get("transactions") != [] else inner(body.data, "previous_attributes", "amount") or amount
    return amount


def _credited(thing: dict[str, Any], amount: Any) -> Any:
    """What a credit note takes off its invoice before payment. Before that had a field: all of it, or nothing."""
    if thing.get("pre_payment_amount") is not None:
        return thing["pre_payment_amount"]
    return 0 if thing.get("type") == "post_payment" else amount


def _charge_of(intent: dict[str, Any]) -> str:
    """The charge of a payment intent: `latest_charge`, before 2022-11-15 the one in `charges` that took the money."""
    charges = inner(intent, "charges", "data")
    charges = [one for one in charges if isinstance(one, dict)] if isinstance(charges, list) else []
    took = next((one for one in charges if one.get("status") == "succeeded"), charges[0] if charges else None)
    return _id(intent.get("latest_charge")) or _id(took)


_INVOICE_ID = re.compile(r"in_[A-Za-z0-9]{1,100}\Z")


def _invoice_of(thing: dict[str, Any]) -> str:
    """Since basil an invoice's payment names it as its order, where the seller did not put an order's name of its own
    there.
    """
    order = inner(thing, "payment_details", "order_reference")
    return order if isinstance(order, str) and _INVOICE_ID.match(order) else ""


def _ceiling(kind: str, thing: dict[str, Any]) -> Money | None:
    """What a shared payment token, an issued card or a credit grant allows at most."""
    rail, limits = "stripe", thing.get("usage_limits")
    if kind == "issuing.card":
        rail = "card_issuing"
        caps = inner(thing, "spending_controls", "spending_limits")
        cap = caps[0] if isinstance(caps, list) and caps and isinstance(caps[0], dict) else {}
        currency = inner(thing, "spending_controls", "spending_limits_currency") or thing.get("currency")
        limits = {"max_amount": cap.get("amount"), "currency": currency}
    elif kind == "billing.credit_grant":
        rail = "credits"
        monetary = inner(thing, "amount", "monetary")
        limits = {"max_amount": inner(monetary, "value"), "currency": inner(monetary, "currency")}
    amount, currency = inner(limits, "max_amount"), inner(limits, "currency")
    if amount is None or not isinstance(currency, str) or len(currency) != 3:
        return None
    authority = _id(thing.get("id"))  # of a payment token its digest: it was redacted before this
    return Money(**_amount(minor_units(amount), currency), phase="ceiling", rail=rail, authority=authority)


def _amount(number: int, currency: str) -> dict[str, Any]:
    """In ISO 4217 minor units; as a decimal where Stripe's hundredths are no whole króna or shilling."""
    currency = currency.upper()
    if currency in _HUNDREDTHS and number >= 0:
        whole, rest = divmod(number, 100)
        return (
            {"currency": currency, "amount": f"{whole}.{rest:02d}"}
            if rest
            else {"currency": currency, "amount_minor": whole}
        )
    return {"currency": currency, "amount_minor": number * (100 if currency in _WHOLE else 1)}


_HELD = ("payment_intent.amount_capturable_updated",)
_AMOUNTS = {
    "charge.succeeded": ("amount_captured", "amount"),
    "charge.captured": ("amount_captured", "amount"),
    "charge.refunded": ("amount_refunded",),
    "payment_intent.succeeded": ("amount_received", "amount"),
    "payment_intent.amount_capturable_updated": ("amount_capturable",),
    "invoice.created": ("amount_due", "total"),
    "invoice.finalized": ("amount_due", "total"),
    "invoice.voided": ("amount_due", "total"),
    "invoice.paid": ("amount_paid",),
    "invoice_payment.paid": ("amount_paid",),
}


def _id(value: Any) -> str:
    """An id, or the id of an expanded object."""
    if isinstance(value, dict):
        value = value.get("id")
    return fitted(value) if isinstance(value, str) else ""
