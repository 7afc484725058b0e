"""Tables out: CSV that a spreadsheet does not run, a general-ledger journal, FOCUS 1.2. Pure."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from auditlog.core.amount import places_of

_RUN = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_RUN) else value
    return str(value)


def major(amount: Decimal | int, currency: str) -> str:
    """Minor units as a plain decimal of major ones, exact."""
    places = places_of(currency)
    moved = Decimal(amount).scaleb(-places)
    exponent = moved.normalize().as_tuple().exponent
    return f"{moved:.{max(places, -exponent if isinstance(exponent, int) else 0)}f}"


JOURNAL = ("date", "account", "debit", "credit", "currency", "provider", "principal", "agent", "memo")


def journal(month: date, sums: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Two entries for each provider, principal, agent and currency: the expense, and what is owed for it. What came back more
    than was spent is entered the other way round.
    """
    entries: list[tuple[object, ...]] = []
    for each in sums:
        amount = Decimal(each["amount"])
        if not amount:
            continue
        told = major(abs(amount), each["currency"])
        memo = f"spend of {month:%Y-%m} as recorded"
        who = (each["currency"], each["provider"], each["principal"], each["agent"], memo)
        expense, payable = ((told, ""), ("", told)) if amount > 0 else (("", told), (told, ""))
        entries.append((month, f"expense:{each['provider'] or 'unnamed'}", *expense, *who))
        entries.append((month, f"payable:{each['provider'] or 'unnamed'}", *payable, *who))
    return entries


FOCUS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory",
    "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus", "CommitmentDiscountType",
    "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName",
    "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags",
    "x_Principal", "x_Agent", "x_Grant", "x_Standing", "x_ChargeId", "x_EventId",
)  # fmt: skip


def focus_row(charge: Mapping[str, Any]) -> tuple[str | None, ...]:
    """One charge on record as a row of FOCUS 1.2: what the record does not know is null, and never made up."""
    cost = major(charge["amount"], charge["currency"])
    begins, ends = charge["at"], charge["until"]
    month = begins.date().replace(day=1)
    after = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    provider = charge["provider"] or "unnamed"
    known = {
        "BilledCost": cost, "ContractedCost": cost, "EffectiveCost": cost, "ListCost": cost, "BillingAccountId": charge["account"] or provider,
        "BillingCurrency": charge["currency"], "BillingPeriodStart": f"{month}T00:00:00Z", "BillingPeriodEnd": f"{after}T00:00:00Z",
        "ChargeCategory": "Usage" if charge["is_usage"] else "Purchase", "ChargeDescription": charge["operation"] or charge["resource"] or "charge",
        "ChargeFrequency": "Usage-Based" if charge["is_usage"] else "One-Time", "ChargePeriodStart": f"{begins:%Y-%m-%dT%H:%M:%SZ}",
        "ChargePeriodEnd": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "InvoiceIssuerName": provider, "ProviderName": provider, "PublisherName": provider,
        "PricingCategory": "Standard", "PricingQuantity": "1", "PricingUnit": "Charges", "ConsumedQuantity": "1" if charge["is_usage"] else None,
        "ConsumedUnit": "Charges" if charge["is_usage"] else None, "ResourceId": charge["resource"], "ServiceCategory": "Other",
        "ServiceSubcategory": "Other (Other)", "ServiceName": charge["operation"] or provider, "SubAccountId": charge["account"],
        "x_Principal": charge["principal"], "x_Agent": charge["agent"], "x_Grant": charge["grant"], "x_Standing": charge["standing"],
        "x_ChargeId": charge["charge"], "x_EventId": charge["event"],
    }  # fmt: skip
    return tuple(known.get(name) or None for name in FOCUS)
