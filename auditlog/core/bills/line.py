"""A line of a bill, whatever export it came from."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from auditlog.core.amount import places_of
from auditlog.core.errors import AnswerableError

KINDS = ("usage", "purchase", "tax", "credit", "refund", "fee", "rounding", "transfer")
# What is no price of anything done: told apart, and matched with no charge.
APART = frozenset({"tax", "credit", "fee", "rounding", "transfer"})


class BadBill(AnswerableError):
    """A file that is not the export it is said to be. Nothing of it is imported."""


@dataclass(frozen=True, slots=True)
class Line:
    """`key`: what it is known by, so that it is imported once. Times are UTC; `until` is exclusive; `at` where it is a moment."""

    key: str
    at: datetime
    until: datetime
    amount: Decimal  # minor units of `currency`, exact; negative is given back
    currency: str
    kind: str
    provider: str = ""
    account: str = ""
    resource: str = ""
    service: str = ""
    operation: str = ""
    invoice: str = ""
    agent: str = ""
    api_key: str = ""  # a name or hash, never a key
    refs: frozenset[str] = field(
        default_factory=frozenset
    )  # charge, request, idempotency key: whatever names one payment or call
    description: str = ""


def minor_of(text: str, currency: str, *, where: str) -> Decimal:
    """Major units as text, in minor units. Raises BadBill."""
    try:
        amount = Decimal(
            str(text).strip().replace(",", "") if str(text).count(",") and "." in str(text) else str(text).strip()
        )
    except InvalidOperation:
        raise BadBill(f"{where}: {str(text)[:60]!r} is not an amount") from None
    if not amount.is_finite() or abs(amount) > Decimal("1e15"):
        raise BadBill(f"{where}: {str(text)[:60]!r} is not an amount that is billed")
    # Beyond the eighteenth decimal nobody is billed: some exports print a float there.
    return round(amount, 18).scaleb(places_of(currency)).normalize() + 0


def currency_of(text: str, *, where: str) -> str:
    found = str(text).strip().upper()
    if len(found) != 3 or not found.isascii() or not found.isalpha():
        raise BadBill(f"{where}: {str(text)[:20]!r} is not a currency of three letters (ISO 4217)")
    return found


def time_of(text: object, *, where: str) -> datetime:
    """ISO 8601, with a space or a T, UTC where it names no zone; or seconds or milliseconds since 1970."""
    said = str(text).strip()
    try:
        if said.replace(".", "", 1).isdigit():
            seconds = float(said)
            return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
        at = datetime.fromisoformat(said)
    except (ValueError, OverflowError, OSError):
        raise BadBill(f"{where}: {said[:40]!r} is not a time (ISO 8601, or seconds since 1970)") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
