"""Read a bill: FOCUS 1.2 cost exports, Stripe balance transactions, LiteLLM spend logs, any CSV by a mapping.

FOCUS: columns of the specification 1.2 (FinOps Open Cost and Usage Specification), 1.0 exports read alike; what is billed is
`BilledCost`. Stripe: objects of `/v1/balance_transactions` as JSON, or the dashboard's CSV. LiteLLM: rows of `/spend/logs`.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from auditlog.core.bills.line import BadBill, Line, currency_of, minor_of, time_of

FORMATS = ("focus", "stripe_balance", "litellm", "csv")
MOST_BYTES = 512 * 2**20
# What a column of a CSV may be: the fields of a line, in words of ours. `amount`, `currency` and `at` have to be there.
FIELDS = (
    "at",
    "until",
    "amount",
    "currency",
    "kind",
    "account",
    "resource",
    "service",
    "operation",
    "invoice",
    "agent",
    "api_key",
    "ref",
    "description",
    "id",
)
# Headers that name a field by themselves, lower case with _ for blanks.
KNOWN = {
    "at": ("date", "at", "time", "timestamp", "created", "usage_date", "start", "start_time", "starttime", "charge_date", "usage_start_date"),
    "until": ("until", "end", "end_time", "usage_end_date"),
    "amount": ("amount", "cost", "total", "price", "billed_cost", "spend", "charge", "total_cost", "cost_usd", "amount_usd"),
    "currency": ("currency", "billing_currency", "currency_code"),
    "kind": ("kind", "type", "category", "charge_type", "line_item_type"),
    "account": ("account", "account_id", "project", "project_id", "workspace"),
    "resource": ("resource", "resource_id"),
    "service": ("service", "service_name", "product", "product_name"),
    "operation": ("operation", "sku", "model", "usage_type", "endpoint"),
    "invoice": ("invoice", "invoice_id", "invoice_number"),
    "agent": ("agent", "agent_id"),
    "api_key": ("api_key", "api_key_name", "key_name"),
    "ref": ("ref", "reference", "charge_id", "request_id", "transaction_id", "idempotency_key", "order_id"),
    "description": ("description", "memo", "details"),
    "id": ("id", "line_id", "line_item_id"),
}  # fmt: skip


def read_bill(raw: bytes, *, format: str, provider: str = "", mapping: Mapping[str, str] | None = None) -> list[Line]:
    """The lines, in order. Raises BadBill, saying what was found where, and what was expected."""
    if format not in FORMATS:
        raise BadBill(f"{format!r} is no format of bills: one of {', '.join(FORMATS)}")
    if len(raw) > MOST_BYTES:
        raise BadBill(f"the file has {len(raw):,} bytes, at most {MOST_BYTES:,} are read")
    if not raw.strip():
        raise BadBill("the file is empty")
    if format == "csv":
        header, rows = _csv(raw)
        told = dict(mapping) if mapping else mapping_of(header)
        lines = [_mapped(row, told, where) for where, row in rows]
    elif format == "focus":
        header, rows = _csv(raw)
        if missing := {"BilledCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory"} - set(
            header
        ):
            raise BadBill(
                f"no FOCUS export: it has no column {', '.join(sorted(missing))}; it has {', '.join(header)[:300]}"
            )
        lines = [_focus(row, where) for where, row in rows]
    else:
        rows = _objects(raw)
        read: Callable[[dict[str, Any], str], Iterator[Line]] = _stripe if format == "stripe_balance" else _litellm
        lines = [line for where, row in rows for line in read(row, where)]
    if not lines:
        raise BadBill("the file has no line")
    return _once(lines, provider)


def mapping_of_file(raw: bytes) -> dict[str, str]:
    return mapping_of(_csv(raw)[0])


def mapping_of(header: list[str]) -> dict[str, str]:
    """Which column is which, by their names. Raises BadBill where amount, currency or time cannot be told."""
    by_name = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in header}
    found = {field: by_name[name] for field, names in KNOWN.items() for name in reversed(names) if name in by_name}
    if missing := {"at", "amount"} - found.keys():
        raise BadBill(
            f"nothing says which column is {' and '.join(sorted(missing))}: give a mapping of {', '.join(FIELDS)} to columns; "
            f"the file has {', '.join(header)[:300]}"
        )
    if "currency" not in found:
        if not any(name.endswith("usd") for name in by_name):
            raise BadBill(
                'nothing says which currency it is: map it to a column, or to a constant as in {"currency": "=USD"}'
            )
        found["currency"] = "=USD"
    return found


def _once(lines: list[Line], provider: str) -> list[Line]:
    """With the provider, and a key of its own for each of lines that say the same: the first, second .. of them."""
    seen: Counter[str] = Counter()
    found = []
    for line in lines:
        whose = provider or line.provider
        seen[line.key] += 1
        key = sha256(f"{whose.casefold()}\x1f{line.key}\x1f{seen[line.key]}".encode()).hexdigest()
        found.append(Line(**{name: getattr(line, name) for name in Line.__slots__} | {"key": key, "provider": whose}))
    return found


def _csv(raw: bytes) -> tuple[list[str], Iterator[tuple[str, dict[str, str]]]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadBill(f"byte {error.start:,} is no UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except (StopIteration, csv.Error) as error:
        raise BadBill(f"no CSV: {error}") from None
    if len(set(header)) != len(header):
        raise BadBill(f"a column is there twice: {', '.join(sorted(n for n, c in Counter(header).items() if c > 1))}")

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        try:
            for values in reader:
                where = f"line {reader.line_num}"
                if not values or not any(values):
                    continue
                if len(values) != len(header):
                    raise BadBill(f"{where}: {len(values)} values, and {len(header)} columns")
                yield where, {n: "" if v in ("NULL", "null") else v for n, v in zip(header, values, strict=True)}
        except csv.Error as error:
            raise BadBill(f"line {reader.line_num}: {error}") from None

    return header, rows()


def _objects(raw: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of JSON: an array, `{"data": [..]}`, a line each, or the rows of a CSV."""
    head = raw.lstrip()[:1]
    if head not in (b"[", b"{"):
        yield from _csv(raw)[1]
        return
    try:
        whole = json.loads(raw, parse_float=Decimal)
        rows = whole.get("data", [whole]) if isinstance(whole, dict) else whole
    except ValueError:
        try:
            rows = [json.loads(line, parse_float=Decimal) for line in raw.splitlines() if line.strip()]
        except ValueError as error:
            raise BadBill(f"neither JSON nor a JSON object a line: {error}") from None
    if not isinstance(rows, list):
        raise BadBill("`data` is no array")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadBill(f"object {number}: {type(row).__name__}, and an object was expected")
        yield f"object {number}", row


# --- formats ----------------------------------------------------------------------------------------------------------

_FOCUS_KINDS = {"usage": "usage", "purchase": "purchase", "tax": "tax", "credit": "credit", "adjustment": "fee"}
_FOCUS_REFS = ("x_ChargeId", "x_RequestId", "x_IdempotencyKey", "x_EventId")


def _focus(row: Mapping[str, str], where: str) -> Line:
    currency = currency_of(row["BillingCurrency"], where=f"{where}, BillingCurrency")
    amount = minor_of(row["BilledCost"], currency, where=f"{where}, BilledCost")
    category = row["ChargeCategory"].strip().lower()
    if category not in _FOCUS_KINDS:
        raise BadBill(
            f"{where}, ChargeCategory: {row['ChargeCategory'][:40]!r}, expected {', '.join(sorted(_FOCUS_KINDS))}"
        )
    kind = _FOCUS_KINDS[category]
    if kind in ("usage", "purchase") and amount < 0:
        kind = "refund"
    if kind == "fee" and "round" in row.get("ChargeDescription", "").lower():
        kind = "rounding"
    tags = _tags(row.get("Tags", ""))
    at = time_of(row["ChargePeriodStart"], where=f"{where}, ChargePeriodStart")
    until = time_of(row["ChargePeriodEnd"], where=f"{where}, ChargePeriodEnd")
    if until < at:
        raise BadBill(f"{where}: its period ends before it begins")
    return Line(
        key=_digest(row), at=at, until=until, amount=amount, currency=currency, kind=kind,
        provider=row.get("ProviderName", "") or row.get("ServiceProviderName", ""),
        account=row.get("SubAccountId", "") or row.get("BillingAccountId", ""), resource=row.get("ResourceId", ""),
        service=row.get("ServiceName", ""), operation=row.get("x_Operation", "") or row.get("SkuMeter", "") or row.get("SkuId", ""),
        invoice=row.get("InvoiceId", ""), agent=row.get("x_Agent", "") or tags.get("agent", "") or tags.get("agent_id", ""),
        api_key=row.get("x_ApiKey", "") or tags.get("api_key", ""),
        refs=frozenset({row.get(name, "") for name in _FOCUS_REFS} | {tags.get(n, "") for n in ("charge", "charge_id", "request_id")}) - {""},
        description=row.get("ChargeDescription", "")[:500],
    )  # fmt: skip


def _tags(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(name).lower(): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


_STRIPE_KINDS = {
    "charge": "purchase", "payment": "purchase", "issuing_transaction": "purchase", "refund": "refund", "payment_refund": "refund",
    "payment_failure_refund": "refund", "stripe_fee": "fee", "application_fee": "fee", "stripe_fx_fee": "fee", "tax_fee": "tax",
    "adjustment": "credit", "contribution": "fee",
}  # fmt: skip


def _stripe(row: Mapping[str, Any], where: str) -> Iterator[Line]:
    """One of the transaction, and one of its fee. Amounts of the API are in minor units; of the CSV, in major ones."""
    name = str(row.get("id") or row.get("balance_transaction_id") or row.get("Balance Transaction ID") or "")
    if not name:
        raise BadBill(f"{where}: no `id` of a balance transaction; it has {', '.join(map(str, row))[:200]}")
    kind_said = str(row.get("type") or row.get("reporting_category") or row.get("Type") or "")
    currency = currency_of(row.get("currency") or row.get("Currency") or "", where=f"{where}, currency")
    is_api = isinstance(row.get("amount"), int)

    def amount_of(field: str) -> Decimal:
        value = row.get(field) if row.get(field) not in (None, "") else row.get(field.capitalize(), 0) or 0
        return (
            Decimal(value)
            if is_api and isinstance(value, int)
            else minor_of(str(value), currency, where=f"{where}, {field}")
        )

    if "amount" not in row and "Amount" not in row and "gross" not in row:
        raise BadBill(f"{where}: no `amount`")
    amount = amount_of("amount" if "amount" in row or "Amount" in row else "gross")
    at = time_of(
        row.get("created") or row.get("Created (UTC)") or row.get("created_utc") or "", where=f"{where}, created"
    )
    kind = _STRIPE_KINDS.get(kind_said, "transfer")
    signed = -abs(amount) if kind in ("refund", "credit") else abs(amount)
    source = row.get("source") or row.get("source_id") or row.get("Source") or ""
    refs = {str(source.get("id", "")) if isinstance(source, dict) else str(source), *_metadata(row)}
    common: dict[str, Any] = {
        "at": at,
        "until": at,
        "currency": currency,
        "provider": "stripe",
        "description": str(row.get("description") or "")[:500],
    }
    if amount:
        yield Line(key=f"{name}", amount=signed, kind=kind, refs=frozenset(refs - {""}), operation=kind_said, **common)
    fee = amount_of("fee") if "fee" in row or "Fee" in row else Decimal(0)
    if fee:
        yield Line(key=f"{name} fee", amount=fee, kind="fee", operation="fee", **common)


def _metadata(row: Mapping[str, Any]) -> set[str]:
    found = row.get("metadata")
    return (
        {str(v) for n, v in found.items() if n in ("charge", "request_id", "order_id")}
        if isinstance(found, dict)
        else set()
    )


def _litellm(row: Mapping[str, Any], where: str) -> Iterator[Line]:
    """Costs are US dollars by LiteLLM's own price list; a call that cost nothing is no line."""
    name = str(row.get("request_id") or row.get("id") or "")
    cost = row.get("spend") if row.get("spend") not in (None, "") else row.get("response_cost")
    if not name or cost is None:
        raise BadBill(f"{where}: a spend log has `request_id` and `spend`; this has {', '.join(map(str, row))[:200]}")
    began = row.get("startTime") or row.get("start_time") or row.get("endTime") or ""
    at = time_of(began, where=f"{where}, startTime")
    amount = minor_of(str(cost), "USD", where=f"{where}, spend")
    if not amount:
        return
    yield Line(
        key=name, at=at, until=at, amount=amount, currency="USD", kind="usage", provider=str(row.get("custom_llm_provider") or "litellm"),
        account=str(row.get("team_id") or ""), operation=str(row.get("model") or row.get("model_group") or ""), service="llm",
        agent=str(row.get("agent_id") or ""), api_key=str(row.get("api_key") or "")[:80], refs=frozenset({name}),
    )  # fmt: skip


_KIND_WORDS = {
    "tax": "tax", "vat": "tax", "gst": "tax", "credit": "credit", "discount": "credit", "promotion": "credit", "refund": "refund", "fee": "fee",
    "rounding": "rounding", "round": "rounding", "payout": "transfer", "transfer": "transfer", "topup": "transfer", "purchase": "purchase",
}  # fmt: skip


def _mapped(row: Mapping[str, str], mapping: Mapping[str, str], where: str) -> Line:
    def said(field: str) -> str:
        column = mapping.get(field, "")
        if column.startswith("="):
            return column[1:]
        if column and column not in row:
            raise BadBill(
                f"the mapping says that {field} is in column {column!r}, which the file has not: {', '.join(row)[:300]}"
            )
        return row.get(column, "").strip() if column else ""

    currency = currency_of(said("currency"), where=f"{where}, currency")
    amount = minor_of(said("amount").lstrip("$€£ "), currency, where=f"{where}, amount")
    at = time_of(said("at"), where=f"{where}, at")
    until = time_of(said("until"), where=f"{where}, until") if said("until") else at
    if not said("until") and len(said("at")) == 10:
        until = at + timedelta(days=1)
    words = said("kind").lower().replace("-", " ").replace("_", " ").split()
    kind = next((_KIND_WORDS[word] for word in words if word in _KIND_WORDS), "refund" if amount < 0 else "usage")
    refs = {part for name in ("ref", "id") for part in said(name).split() if part}
    return Line(
        key=f"id {said('id')}" if said("id") else _digest(row), at=at, until=until, amount=amount, currency=currency, kind=kind,
        refs=frozenset(refs), description=said("description")[:500],
        **{name: said(name) for name in ("account", "resource", "service", "operation", "invoice", "agent", "api_key")},
    )  # fmt: skip


def _digest(row: Mapping[str, str]) -> str:
    return sha256("\x1f".join(f"{name}\x1e{row[name]}" for name in sorted(row)).encode()).hexdigest()
