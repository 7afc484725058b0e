"""An act: one projected event with its chain, as detectors and the verdict engine see it."""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from auditlog.core.chain.chain import Path
from auditlog.core.event import Payload
from auditlog.core.money.money import book_of

# Which types are acts of an agent. Statements about authority, limits, invoices and disputes are not.
ACT_TYPES = frozenset(
    "project.created provider.linked provider.unlinked account.requested account.created account.linked "
    "terms.accepted resource.requested resource.provisioned resource.updated resource.removed credential.issued "
    "credential.rotated credential.revoked domain.registered domain.renewed domain.transferred domain.deleted "
    "action.performed deployment.completed payment.authority_granted payment.authorized payment.captured "
    "subscription.started subscription.changed usage.metered".split()
)
# The payment system's word on an act, told after it: judged through the act with the same charge.
PAYMENT_TYPES = frozenset(
    [
        "payment.quoted",
        "payment.authorized",
        "payment.captured",
        "payment.failed",
        "payment.settled",
        "payment.refunded",
    ]
)
# Words that name the paying itself, in whatever vocabulary: `payment.capture`, `charges.create`, `invoices.pay`.
_PAYING = frozenset(
    "pay pays paid payment payments charge charges charged capture captures captured settle settled settlement refund "
    "refunds refunded authorise authorised authorize authorized topup recharge recharged invoice invoices debit card "
    "wallet balance credits funds".split()
)
# Words that may name it, or the order that was paid for.
_BUYING = frozenset(
    "buy bought purchase purchases purchased order orders ordered checkout sale sales billing renew renewal".split()
)
# Of a thing that is itself of the payment system: `payment_intent`, `issuing.transaction`, `checkout.session`.
_PAID_WITH = _PAYING | frozenset(
    "authorization bank bill checkout credit dispute issuing prepaid receipt transaction".split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+")
_VERBS = {
    "domain.registered": "domain.register",
    "domain.renewed": "domain.renew",
    "domain.transferred": "domain.transfer",
    "domain.deleted": "domain.delete",
    "terms.accepted": "terms.accept",
    "payment.captured": "payment.capture",
    "payment.authorized": "payment.authorize",
    "payment.settled": "payment.settle",
    "payment.refunded": "payment.refund",
    "account.created": "account.create",
    "account.linked": "account.link",
    "project.created": "project.create",
    "provider.linked": "provider.link",
    "resource.requested": "resource.request",
    "resource.provisioned": "resource.provision",
    "resource.updated": "resource.update",
    "resource.removed": "resource.remove",
    "credential.issued": "credential.issue",
    "credential.rotated": "credential.rotate",
    "subscription.started": "subscription.start",
    "subscription.changed": "subscription.change",
    "deployment.completed": "deployment.complete",
}


def verb_of(event_type: str, stated: str, operation: str = "") -> str:
    """What was done; from the type when the sender did not say, of a meter what it counted. "" is unknown."""
    return stated or _VERBS.get(event_type, "") or (operation if event_type == "usage.metered" else "")


def pays(verb: str) -> bool | None:
    """Whether a verb names the paying itself; None: it may, or name the order that was paid for."""
    words = _words(verb)
    return True if words & _PAYING else None if words & _BUYING else False


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORDS.findall(text)}


@dataclass(frozen=True, slots=True)
class Act:
    """Keys are text, "" where nothing was stated. `path` is the grant path at the time of asking, not of receipt."""

    event_id: str
    leaf_index: int
    type: str
    source: str
    issuer: str
    grade: str
    occurred_at: datetime
    received_at: datetime
    outcome: str
    environment: str
    principal: str
    principal_claimed: bool
    actor: str
    provider: str
    account: str
    target: str
    resource: str
    stated_verb: str
    operation: str
    grant: str  # as stated
    token: str
    via_grant: str  # the grant that answers
    txn: str
    session: str
    task: str
    project: str
    request_id: str
    idempotency_key: str
    phase: str
    amount_minor: int | None
    currency: str
    rail: str
    charge: str
    within_remit: bool
    jkt: str  # the key that a grant or token of this event is bound to; of an act, the one it says it was done with
    payload: Payload
    path: Path
    through: str = ""  # names nobody, and a thing: the event by which an agent made that thing

    @property
    def verb(self) -> str:
        """What was done; from the type when the sender did not say. "" is unknown."""
        return verb_of(self.type, self.stated_verb, self.operation)

    @property
    def object(self) -> str:
        """What it was done to: `action.resource`, else `action.target.id`."""
        return self.resource or self.target

    @property
    def happened(self) -> bool:
        """Whether it took effect, as far as its source knows. A denied act is the system working."""
        return self.outcome in ("success", "pending", "unknown")

    @property
    def is_act(self) -> bool:
        return self.type in ACT_TYPES and self.environment == "live"

    @property
    def is_payment(self) -> bool:
        return self.type in PAYMENT_TYPES

    @property
    def is_on_a_payment(self) -> bool:
        """A payment that names nothing but what it is paid with or by: a charge, an invoice, a balance."""
        action = self.payload.action
        kind = action.target.type if action and action.target else ""
        return (
            self.is_payment
            and self.resource in ("", self.charge)
            and (not self.target or bool(_words(kind) & _PAID_WITH))
        )

    @property
    def book(self) -> str:
        """The book that its money counts in; "" where it counts in none, also where its source may not say so."""
        if (
            self.amount_minor is None
            or self.outcome != "success"
            or self.environment != "live"
            or not self.within_remit
        ):
            return ""
        return book_of(self.type, self.phase)

    @property
    def exact_minor(self) -> Decimal | int | None:
        """The amount as stated, also where it is less than a minor unit; `amount_minor` is rounded."""
        stated = self.payload.money.exact if self.payload.money else None
        return self.amount_minor if stated is None else stated

    @property
    def spends(self) -> bool:
        return self.book in ("incurred", "billed", "paid", "held")
