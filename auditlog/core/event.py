"""The native event: what a source says happened, typed and bounded. Payload fields are those of the published format.

Everything here was written by a sender, so every string has a length and every number a range: what passes can be
indexed, compared and shown. Unknown fields are ignored here and stay in the signed bytes.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
import orjson
from msgspec import Meta, Struct

from auditlog.core.amount import places_of, whole
from auditlog.core.document import leave_out, read_document
from auditlog.core.errors import MalformedEvent

# Byte-wise these stay under a B-tree's 2,704 even when every character takes four bytes.
Id = Annotated[str, Meta(max_length=500)]
Issuer = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^[^|]+\Z")]
Subject = Annotated[str, Meta(min_length=1, max_length=300)]
Short = Annotated[str, Meta(max_length=120)]
Text = Annotated[str, Meta(max_length=4000)]
Amount = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Currency = Annotated[str, Meta(pattern=r"^[A-Za-z]{3}\Z")]
Seconds = Annotated[float, Meta(ge=0, le=32_503_680_000)]  # NumericDate (RFC 7519 section 2), up to the year 3000

Kind = Literal["human", "agent", "workload", "service", "unknown"]
Outcome = Literal["success", "failure", "denied", "pending", "unknown"]
Phase = Literal["ceiling", "quoted", "authorized", "captured", "settled", "refunded", "reversed", "disputed"]
Scope = Literal["global", "provider", "agent", "session", "task", "project", "merchant", "grant"]
Interval = Literal["once", "day", "week", "month", "year"]
MAX_ACT_DEPTH = 64
MAX_NULLS = 100  # in one payload


class Party(Struct, frozen=True):
    """Anyone who acts. Identity is the pair (`iss`, `sub`), never `sub` alone (RFC 8693 section 4.1)."""

    iss: Issuer
    sub: Subject
    kind: Kind = "unknown"

    @property
    def key(self) -> str:
        """`iss|sub`, to be split at the first `|`; an issuer never contains one."""
        return f"{self.iss}|{self.sub}"

    @classmethod
    def of(cls, key: str) -> "Party":
        issuer, _, subject = key.partition("|")
        return cls(issuer, subject)


class Actor(Struct, frozen=True):
    """Who acts now; `act` inside is who it acts for in turn: outermost current, deepest earliest (RFC 8693 4.1)."""

    iss: Issuer
    sub: Subject
    kind: Kind = "unknown"
    act: "Actor | None" = None

    @property
    def key(self) -> str:
        return f"{self.iss}|{self.sub}"

    @property
    def party(self) -> Party:
        return Party(self.iss, self.sub, self.kind)


class Target(Struct, frozen=True):
    type: Short = ""
    id: Id = ""


class Action(Struct, frozen=True, omit_defaults=True):
    verb: Short = ""
    provider: Short = ""
    account: Id = ""
    target: Target | None = None
    resource: Id = ""
    irreversible: bool = False


class Period(Struct, frozen=True, rename={"begins": "from", "ends": "to"}):
    """What an invoice or a subscription's price is for: from, inclusive, to, exclusive."""

    begins: Seconds
    ends: Seconds


class Money(Struct, frozen=True, omit_defaults=True):
    """An amount, in integer minor units or as a decimal string of major units ("0.004" is 0.4 cents), and what it is
    for.

    The type of the event decides which book it belongs to (core.money.book_of); `phase` says more where the type does
    not.
    """

    amount_minor: Amount | None = None  # minor units of `currency`
    currency: Currency = ""  # ISO 4217
    phase: Phase | None = None
    rail: Short = ""
    charge: Id = ""
    payment: Id = (
        ""  # what the charge is part of at its rail: a payment intent, an authorization of which several are captured
    )
    authority: Id = ""
    invoice: Id = ""
    subscription: Id = ""
    period: Period | None = None
    payee: Id = ""  # the seller; the provider when absent
    payer: Id = ""
    amount: Annotated[str, Meta(pattern=r"^[0-9]{1,15}(\.[0-9]{1,12})?\Z")] | None = None  # major units, exact

    def __post_init__(self) -> None:
        if (self.amount is not None or self.amount_minor is not None) and not self.currency:
            raise MalformedEvent("payload: `money` states an amount, and no `currency`")
        if self.amount is not None and self.amount_minor is not None and self._decimal != self.amount_minor:
            raise MalformedEvent(
                f"payload: `money.amount_minor` {self.amount_minor} and `money.amount` {self.amount} are not the same"
                f" amount of {self.currency}"
            )
        if self.amount is not None and self._decimal > 2**63 - 1:
            raise MalformedEvent(f"payload: `money.amount` {self.amount} is more than can be counted")

    @property
    def _decimal(self) -> Decimal:
        return Decimal(self.amount or 0).scaleb(places_of(self.currency))

    @property
    def exact(self) -> int | Decimal | None:
        """Minor units, exact: an integer where it is one. None: no amount is stated."""
        return self.amount_minor if self.amount is None else whole(self._decimal)


class Limit(Struct, frozen=True, omit_defaults=True):
    """A cap. `max_minor` None says "no limit". Intervals are calendar, in `zone` (UTC when absent)."""

    id: Id = ""
    holder: Party | None = None
    scope: Scope = "global"
    provider: Short = ""
    max_minor: Amount | None = None
    currency: Currency = "USD"
    interval: Interval = "once"
    zone: Short = ""
    enforcement: Literal["hard", "soft", "alert_only"] = "hard"
    enforced_by: Short = ""
    set_by: Party | None = None


class Intent(Struct, frozen=True, omit_defaults=True):
    text: Text = ""
    targets: Annotated[list[Id], Meta(max_length=1000)] = []
    quantity: Annotated[int, Meta(ge=0, le=2**31)] | None = None
    max_price_minor: Amount | None = None
    currency: Currency | None = None
    interval: Interval | None = None  # the price is for each of these; None or `once`: for the whole task


class Gate(Struct, frozen=True, omit_defaults=True):
    kind: Short
    by: Party | None = None
    at: Seconds | None = None
    over: Short = ""


class Call(Struct, frozen=True, omit_defaults=True):
    operation: Id = ""
    args: dict[str, msgspec.Raw] | None = None
    args_digest: Short = ""
    idempotency_key: Id = ""
    attempt: int | None = None
    error: Text = ""


class Client(Struct, frozen=True, omit_defaults=True):
    ip: Short = ""
    user_agent: Text = ""
    ray_id: Short = ""


class Attestation(Struct, frozen=True, omit_defaults=True):
    type: Short = ""
    digest: Id = ""


class Deny(Struct, frozen=True, omit_defaults=True):
    actions: list[Id] = []
    resources: list[Id] = []


class Detail(Struct, frozen=True, omit_defaults=True):
    """One entry of `authorization_details` (RFC 9396 section 2) of type `agent_action`. Empty lists allow all."""

    type: Short = "agent_action"
    actions: Annotated[list[Id], Meta(max_length=500)] = []
    providers: Annotated[list[Short], Meta(max_length=500)] = []
    resources: Annotated[list[Id], Meta(max_length=5000)] = []
    deny: Deny | None = None


class Confirmation(Struct, frozen=True, omit_defaults=True):
    jkt: Short = ""


class GrantObject(Struct, frozen=True, omit_defaults=True):
    """What one party allowed another. None is "not stated": inherited, or in a root unknown or unbounded."""

    id: Annotated[str, Meta(min_length=1, max_length=500)]
    parent: Id | None = None
    root: bool = False
    subject: Party | None = None
    actor: Party | None = None
    authorization_details: Annotated[list[Detail], Meta(max_length=500)] | None = None
    limits: Annotated[list[Limit], Meta(max_length=100)] | None = None
    not_before: Seconds | None = None
    expires_at: Seconds | None = None
    audience: Annotated[list[Short], Meta(max_length=500)] | None = None
    max_depth: Annotated[int, Meta(ge=0, le=1000)] | None = None
    redelegate: bool | None = None
    gates: Annotated[list[Short], Meta(max_length=50)] | None = None
    intent: Intent | None = None
    cnf: Confirmation | None = None


class TokenObject(Struct, frozen=True, omit_defaults=True):
    jti: Annotated[str, Meta(min_length=1, max_length=500)]
    parent_jti: Id | None = None
    grant: Id | None = None
    subject: Party | None = None
    actor: Actor | None = None
    audience: Annotated[list[Id], Meta(max_length=500)] | None = None  # URLs, of token servers
    scope: Text | None = None
    issued_at: Seconds | None = None
    expires_at: Seconds | None = None
    cnf: Confirmation | None = None


class Sequence(Struct, frozen=True, omit_defaults=True):
    """The statement's number in a stream of its source, so that a missing one is noticed.

    A source numbers the statements of a stream one by one, each number once, from whichever it likes; several streams
    (one a process or partition) have names. A `source.heartbeat` that takes the next number also shows what was lost
    last. Where numbers do not count up by one, each names the one before it; where a stream begins anew, it says so.
    """

    number: Annotated[int, Meta(ge=0, le=2**53 - 1)]  # what every JSON reader keeps exactly (RFC 8259 section 6)
    stream: Annotated[str, Meta(max_length=120)] = ""
    previous: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None  # below `number`; None: the one below it
    begins: bool = False  # nothing was before it, or nobody says what was


class Payload(Struct, frozen=True, omit_defaults=True):
    """The value under the event's URN: all optional but `outcome`."""

    outcome: Outcome
    environment: Literal["live", "test"] = "live"
    mode: Literal["delegation", "impersonation", "direct"] = "delegation"
    actor: Actor | None = None
    action: Action | None = None
    grant: Id | GrantObject | None = None
    token: Id | TokenObject | None = None
    session: Id = ""
    task: Id = ""
    project: Id = ""
    request_id: Id = ""
    trace_id: Id = ""
    client: Client | None = None
    attestation: Attestation | None = None
    call: Call | None = None
    money: Money | None = None
    limit: Limit | None = None
    intent: Intent | None = None
    gate: Gate | None = None
    sequence: Sequence | None = None


# Stands where the sender says no time at all, until the time of receipt is put in its place (`received`): a parser
# knows none.
ARRIVAL = datetime(1970, 1, 1, tzinfo=UTC)


class Event(Struct, frozen=True):
    """One statement of one act, as parsed from the bytes that its source signed."""

    source_event_id: str
    type: str
    issuer: str
    occurred_at: datetime  # UTC, microseconds: `toe`, else `iat`
    issued_at: datetime
    payload: Payload
    txn: str = ""
    principal_claim: Party | None = None  # `sub_id`: whose act the sender says it was
    dated: bool = True  # the sender says when it happened; else `occurred_at` is only when it was told

    def received(self, at: datetime) -> "Event":
        """The same as it was received `at`: that is its time where the sender says none."""
        if self.dated or ARRIVAL not in (self.occurred_at, self.issued_at):
            return self
        issued = at if self.issued_at == ARRIVAL else self.issued_at
        return msgspec.structs.replace(
            self, occurred_at=issued if self.occurred_at == ARRIVAL else self.occurred_at, issued_at=issued
        )


_TYPES: dict[str, tuple[str, ...]] = {
    "authority": (
        "session.started session.ended delegation.granted delegation.denied delegation.revoked token.issued "
        "token.exchanged token.exchange_failed token.revoked consent.granted consent.withdrawn mandate.issued "
        "mandate.revoked approval.requested approval.decided"
    ).split(),
    "orchestration": (
        "project.created provider.linked provider.unlinked account.requested account.created account.linked "
        "terms.accepted resource.requested resource.provisioned resource.failed resource.updated resource.removed "
        "credential.issued credential.rotated credential.revoked limit.set limit.raised limit.lowered limit.reached"
    ).split(),
    "domains": (
        "domain.searched domain.checked domain.registered domain.registration_failed domain.renewed "
        "domain.transferred domain.deleted"
    ).split(),
    "provider": "action.performed action.denied deployment.completed".split(),
    "money": (
        "payment.authority_granted payment.authority_ended payment.quoted payment.authorized payment.captured "
        "payment.failed payment.settled payment.refunded invoice.issued invoice.paid invoice.failed invoice.voided "
        "invoice.credited subscription.started subscription.changed subscription.renewed subscription.ended"
        " usage.metered "
        "budget.alerted"
    ).split(),
    "dispute": (
        "dispute.opened dispute.updated dispute.closed dispute.funds_withdrawn dispute.funds_reinstated"
    ).split(),
    # What a source says of itself, which every source may: "I am here", at least as often as it promised.
    "source": ["source.heartbeat"],
}
GRANTED = frozenset({"delegation.granted", "mandate.issued"})  # what states a grant
TOKEN_STATED = frozenset({"token.issued", "token.exchanged"})
LAYERS = tuple(_TYPES)
LAYER_OF_TYPE = {event_type: layer for layer, types in _TYPES.items() for event_type in types}


def layer_of(event_type: str) -> str:
    """The layer a type belongs to; "other" for types we do not know."""
    return LAYER_OF_TYPE.get(event_type, "other")


def moment(seconds: float) -> datetime:
    """NumericDate to aware UTC, rounded to microseconds."""
    return datetime.fromtimestamp(round(seconds * 1_000_000) / 1_000_000, tz=UTC)


# What the decoder raises for bytes it cannot read: a name that is not UTF-8 escapes it as UnicodeDecodeError.
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_decode_payload = msgspec.json.Decoder(Payload).decode
encode_payload = msgspec.json.Encoder().encode


def decode_payload(raw: bytes | msgspec.Raw) -> Payload:
    """Decode and validate a payload. Raises MalformedEvent naming the field."""
    try:
        payload = _decode_payload(raw)
    except msgspec.ValidationError as error:
        payload = _without_nulls(bytes(raw), error)
    except UNREADABLE as error:
        raise MalformedEvent(f"payload is not JSON we can read: {error}") from None
    if payload.actor is not None and payload.actor.act is not None:
        act_chain(payload.actor)
    return payload


def _without_nulls(raw: bytes, refused: msgspec.ValidationError) -> Payload:
    """The payload with what is null taken for absent, where the format has no null. Raises MalformedEvent for all else."""
    try:
        document = read_document(raw)
    except ValueError:
        raise MalformedEvent(f"payload: {refused}") from None
    for _ in range(MAX_NULLS):
        if "got `null`" not in str(refused) or not leave_out(document, str(refused)):
            break
        try:
            return _decode_payload(orjson.dumps(document))
        except msgspec.ValidationError as error:
            refused = error
        except UNREADABLE as error:
            raise MalformedEvent(f"payload is not JSON we can read: {error}") from None
    raise MalformedEvent(f"payload: {refused}")


def act_chain(actor: Actor) -> tuple[Party, ...]:
    """The parties of a nested `act` claim, oldest first (RFC 8693 4.1 nests newest outermost)."""
    parties = []
    current: Actor | None = actor
    while current is not None:
        parties.append(current.party)
        if len(parties) > MAX_ACT_DEPTH:
            raise MalformedEvent(f"payload: `actor.act` is nested deeper than {MAX_ACT_DEPTH}")
        current = current.act
    return tuple(reversed(parties))
