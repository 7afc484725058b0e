"""Bank answer: what a case gives a card network that asks about a payment, field by field. Pure.

Every sentence is one of the record: what was allowed, by whom it was approved, what was done, and what the engine says
of it, against the merchant too. What the record does not hold is left out, and said to be.

Field names and their bounds: Stripe's Dispute evidence (docs.stripe.com/api/disputes/update, as stripe-python 16.1.0
has it). Compelling Evidence 3.0: docs.stripe.com/disputes/api/visa-ce3 (2026-11).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from auditlog.core.text import visible

MOST = 150_000  # characters of all fields together
LONG, SHORT = 20_000, 5_000
# Fields that hold text, and how much of it. The others of Stripe's list name files.
TEXTS: dict[str, int] = {
    "access_activity_log": LONG,
    "billing_address": SHORT,
    "cancellation_rebuttal": LONG,
    "customer_email_address": SHORT,
    "customer_name": SHORT,
    "customer_purchase_ip": SHORT,
    "duplicate_charge_explanation": LONG,
    "duplicate_charge_id": SHORT,
    "product_description": LONG,
    "refund_refusal_explanation": LONG,
    "service_date": SHORT,
    "uncategorized_text": LONG,
}
_ALWAYS = ("product_description", "service_date", "access_activity_log", "uncategorized_text")
_WHO = ("customer_name", "customer_email_address", "customer_purchase_ip")
# By Stripe's reason: what an answer should have. Categories of docs.stripe.com/disputes/reason-codes-defense-requirements.
ASKED: dict[str, tuple[str, ...]] = {
    "fraudulent": (*_ALWAYS, *_WHO, "billing_address"),
    "unrecognized": (*_ALWAYS, *_WHO),
    "duplicate": (*_ALWAYS, "duplicate_charge_id", "duplicate_charge_explanation"),
    "subscription_canceled": (*_ALWAYS, "cancellation_rebuttal"),
    "credit_not_processed": (*_ALWAYS, "refund_refusal_explanation"),
    "product_not_received": (*_ALWAYS, "customer_name", "customer_email_address"),
    "product_unacceptable": (*_ALWAYS, "customer_name", "customer_email_address"),
}
GENERAL = _ALWAYS
CE3 = "visa_compelling_evidence_3"
CE3_NEW, CE3_OLD = timedelta(days=120), timedelta(days=365)
Speaks = Literal["for_the_charge", "against_the_charge", "unknown"]


@dataclass(frozen=True, slots=True)
class Deed:
    """One contested act: what was done for the money. Texts are "" where nobody states them."""

    event_id: str
    leaf_index: int
    at: datetime
    verb: str
    target: str
    provider: str
    amount: str  # "20.00 USD"
    agent: str
    principal: str
    ip: str
    user_agent: str
    account: str
    verdict: str
    failed: tuple[str, ...]  # reasons of criteria that failed
    unknown: tuple[str, ...]
    path: tuple[str, ...] = ()  # a sentence for each grant from the human down
    approvals: tuple[str, ...] = ()
    charge: str = ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier act of the same grant and agent that nobody disputes."""

    event_id: str
    leaf_index: int
    at: datetime
    verb: str
    target: str
    amount: str


@dataclass(frozen=True, slots=True)
class CardPayment:
    """A payment by card as Stripe told of it, with what the record knows of who made it. "" is not stated."""

    charge: str
    at: datetime
    card: str  # the card's fingerprint
    network: str = ""
    name: str = ""
    email: str = ""
    address: str = ""
    ip: str = ""
    account: str = ""
    product: str = ""
    is_disputed: bool = False
    is_refunded: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The network's dispute, as it was told last."""

    id: str
    reason: str
    network_reason: str
    status: str
    due: datetime | None
    opened_at: datetime
    eligible: tuple[str, ...] = ()
    submissions: int = 0
    payment: CardPayment | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`evidence` as Stripe takes it. `missing`: asked for by the reason and not on record. `ce3`: why it is in or not."""

    evidence: dict[str, Any]
    missing: tuple[str, ...]
    asked: tuple[str, ...]
    speaks: Speaks
    says: str
    ce3: str
    shortened: tuple[str, ...] = field(default=())

    @property
    def readiness(self) -> int:
        """Percent of what the reason asks for."""
        return 100 * (len(self.asked) - len(self.missing)) // len(self.asked) if self.asked else 100


def answer_to(
    asked: Asked,
    deeds: Sequence[Deed],
    *,
    case: str,
    earlier: Sequence[Earlier] = (),
    prior: Sequence[CardPayment] = (),
    duplicates: Mapping[str, str] | None = None,
    returned: Sequence[str] = (),
    ended: Sequence[str] = (),
) -> Answer:
    """What the record gives. `duplicates`: other charges -> how each differs from the disputed one; `returned`: a
    sentence for each refund on record; `ended`: for each revocation of a grant on the path.
    """
    speaks, says = _speaks(deeds)
    texts = {
        "product_description": _lines(_what(deed) for deed in deeds),
        "service_date": ", ".join(dict.fromkeys(f"{deed.at.day} {deed.at:%B %Y}" for deed in deeds)),
        "access_activity_log": _log(deeds),
        "uncategorized_text": _argument(case, deeds, earlier, says),
        "customer_purchase_ip": _only(deed.ip for deed in deeds),
    }
    if (paid := asked.payment) is not None:
        texts |= {
            "customer_name": paid.name,
            "customer_email_address": paid.email,
            "billing_address": paid.address,
        }
    if asked.reason == "duplicate" and duplicates:
        texts["duplicate_charge_id"] = next(iter(duplicates))
        texts["duplicate_charge_explanation"] = _lines(f"{charge}: {how}" for charge, how in duplicates.items())
    if asked.reason == "credit_not_processed":
        texts["refund_refusal_explanation"] = _lines(returned) or "No refund of this payment is on record."
    if asked.reason == "subscription_canceled":
        texts["cancellation_rebuttal"] = (
            _lines(ended) or "No revocation of the authority behind this payment is on record."
        )
    cut = {name: _cut(text, TEXTS[name]) for name, text in texts.items() if text}
    evidence: dict[str, Any] = dict(cut)
    wants = ASKED.get(asked.reason, GENERAL)
    enhanced, why = compelling(asked, deeds, prior)
    if enhanced is not None:
        evidence["enhanced_evidence"] = {CE3: enhanced}
    return Answer(
        evidence,
        tuple(name for name in wants if name not in evidence),
        wants,
        speaks,
        says,
        why,
        tuple(name for name in cut if cut[name] != texts[name]),
    )


def characters(evidence: Any) -> int:
    """Of all texts in it, as the bound of 150,000 counts them."""
    if isinstance(evidence, dict):
        return sum(characters(value) for value in evidence.values())
    if isinstance(evidence, list):
        return sum(characters(value) for value in evidence)
    return len(str(evidence))


def faults_of(evidence: Mapping[str, Any]) -> list[str]:
    """What Stripe would refuse: a field that there is not, one that is too long, all of them together too long."""
    found = []
    for name, value in evidence.items():
        if name == "enhanced_evidence":
            continue
        if name not in TEXTS:
            found.append(f"{visible(name[:60])} is no text field of a dispute's evidence")
        elif not isinstance(value, str):
            found.append(f"{name}: expected text")
        elif len(value) > TEXTS[name]:
            found.append(f"{name}: at most {TEXTS[name]:,} characters, found {len(value):,}")
    if (size := characters(evidence)) > MOST:
        found.append(f"all fields together have at most {MOST:,} characters, found {size:,}")
    return found


def compelling(asked: Asked, deeds: Sequence[Deed], prior: Sequence[CardPayment]) -> tuple[dict[str, Any] | None, str]:
    """Visa's Compelling Evidence 3.0, or None, and why. It takes two payments of the same card that nobody disputed, 120
    to 365 days before the dispute, each with two data points of this one: its IP address (or device) and its account.
    """
    if CE3 not in asked.eligible:
        return None, "Stripe does not offer Compelling Evidence 3.0 for this dispute"
    if asked.reason != "fraudulent" or (asked.network_reason and asked.network_reason != "10.4"):
        return None, "Compelling Evidence 3.0 answers fraud by a card that was not present (10.4) only"
    paid = asked.payment
    ip, account = _only(deed.ip for deed in deeds), _only(deed.account for deed in deeds)
    if paid is None or not paid.card:
        return None, "which card was charged is not on record"
    if not ip or not account:
        lacking = " and ".join(name for name, said in (("IP address", ip), ("account", account)) if not said)
        return (
            None,
            f"of the disputed payment the {lacking} is not on record: two data points are needed, one of them IP",
        )
    fitting = [
        one
        for one in prior
        if one.card == paid.card
        and one.charge != paid.charge
        and CE3_NEW <= asked.opened_at - one.at <= CE3_OLD
        and not one.is_disputed
        and not one.is_refunded
        and (one.ip, one.account) == (ip, account)
        and one.product
    ]
    if len(fitting) < 2:
        return None, (
            f"{len(fitting)} of the two earlier payments that it takes are on record: same card, 120 to 365 days before, "
            "undisputed, with the same IP address and account"
        )
    used = sorted(fitting, key=lambda one: (one.at, one.charge), reverse=True)[:2]
    shared = {"customer_purchase_ip": ip, "customer_account_id": account}
    disputed = shared | {
        "merchandise_or_services": "services",
        "product_description": _cut(_lines(_what(deed) for deed in deeds), SHORT),
    }
    earlier = [shared | {"charge": one.charge, "product_description": _cut(one.product, SHORT)} for one in used]
    return {"disputed_transaction": disputed, "prior_undisputed_transactions": earlier}, (
        f"{used[0].charge} and {used[1].charge}: same card, undisputed, same IP address and account"
    )


def _speaks(deeds: Sequence[Deed]) -> tuple[Speaks, str]:
    """For whom the record speaks. Only where all acts were within scope does it speak for the charge."""
    outside = [deed for deed in deeds if deed.verdict == "out_of_scope"]
    unclear = [
        deed for deed in deeds if deed.verdict not in ("out_of_scope", "within_scope", "within_scope_unanticipated")
    ]
    if outside:
        return "against_the_charge", (
            f"The record says that {_count(len(outside), len(deeds))} outside the authority that was given: "
            + "; ".join(dict.fromkeys(reason for deed in outside for reason in deed.failed))
        )
    if unclear or not deeds:
        return "unknown", (
            f"Of {_count(len(unclear), len(deeds))} not known whether authority was given for it: "
            + "; ".join(dict.fromkeys(reason for deed in unclear for reason in deed.unknown))
        )
    unforeseen = [deed for deed in deeds if deed.verdict == "within_scope_unanticipated"]
    if unforeseen:
        return "for_the_charge", (
            f"Each act was within the authority that was given; {_count(len(unforeseen), len(deeds))} not what was asked for: "
            + "; ".join(dict.fromkeys(reason for deed in unforeseen for reason in deed.failed))
        )
    return "for_the_charge", "Each act was within the authority that was given."


def _count(some: int, all_: int) -> str:
    if all_ == 1:
        return "the act was" if some else "no act it is"
    return f"{some} of {all_} acts {'was' if some == 1 else 'were'}"


def _what(deed: Deed) -> str:
    at = f" at {deed.provider}" if deed.provider else ""
    price = f", {deed.amount}" if deed.amount else ""
    return f"{deed.verb or 'an act whose kind nobody states'} {deed.target}".rstrip() + at + price


def _log(deeds: Sequence[Deed]) -> str:
    """Who did it from where; "" where nobody says from where or by whom."""
    if not any(deed.ip or deed.agent for deed in deeds):
        return ""
    return _lines(
        f"{deed.at:%Y-%m-%d %H:%M:%S} UTC  {deed.ip or 'IP not stated'}  {deed.agent or 'agent not stated'}  {_what(deed)}"
        f"  (event {deed.event_id}, log entry {deed.leaf_index})"
        for deed in deeds
    )


def _argument(case: str, deeds: Sequence[Deed], earlier: Sequence[Earlier], says: str) -> str:
    """The authority behind the payment, from the human down, and the history of the same grant and agent."""
    parts = [says, ""]
    said: set[tuple[str, ...]] = set()
    for deed in deeds:
        if deed.path and deed.path not in said:
            said.add(deed.path)
            parts += [
                "Authority behind the payment, from the person it was done for down:",
                *(f"- {line}" for line in deed.path),
                "",
            ]
    approvals = list(dict.fromkeys(line for deed in deeds for line in deed.approvals))
    if approvals:
        parts += ["Approved by a person before the act:", *(f"- {line}" for line in approvals), ""]
    if earlier:
        parts += [
            f"{len(earlier)} earlier acts under the same authority by the same agent that nobody disputes, among them:",
            *(
                f"- {one.at:%Y-%m-%d} {one.verb} {one.target} {one.amount}".rstrip() + f" (log entry {one.leaf_index})"
                for one in earlier[:10]
            ),
            "",
        ]
    parts.append(
        f"Each statement was signed by its sender and is kept in a public, append-only log; case {case} can be handed over as "
        "one archive that is checked offline."
    )
    return "\n".join(parts)


def _only(said: Iterable[str]) -> str:
    """What all agree on; "" where they do not, or one states nothing."""
    found = set(said)
    return found.pop() if len(found) == 1 else ""


def _lines(said: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(line for line in said if line))


def _cut(text: str, most: int) -> str:
    """At most so many characters, whole lines where it has them, and said to be cut."""
    text = "\n".join(visible(line) for line in text.split("\n"))
    if len(text) <= most:
        return text
    more = "\n[shortened: the rest is in the record]"
    kept = text[: most - len(more)]
    return (kept.rsplit("\n", 1)[0] if "\n" in kept else kept) + more
