"""Card numbers are refused at the door: an audit log must not become a place where they lie.

A card number is a whole string value of 13 to 19 digits (spaces and dashes removed) with an issuer's prefix at that
issuer's lengths and a valid Luhn digit (ISO/IEC 7812-1), outside id fields and numbers of devices, parcels, orders,
goods and telephones.
"""

import json
import re
from typing import Any

from auditlog.core.errors import MalformedEvent
from auditlog.core.wire.redaction import BASE64, from_base64

# JSON may stand in a text once more, with its quotes escaped.
_SUSPECT = re.compile(rb'"[0-9\-](?:[ \-]*[0-9]){12,19}[ \-]*\\*"')
_SUSPECT_BEHIND = re.compile(rb'"[ \-]+[0-9](?:[ \-]*[0-9]){12,18}[ \-]*\\*"')  # apart: it costs five times as much
# A number of JSON has many meanings: only under these names it is a card's.
_NUMBERS = frozenset(
    "number card creditcard debitcard cardnumber cardno ccnumber pan fpan dpan primaryaccountnumber".split()
)
_LONG_NUMBER = re.compile(rb'"[ \t\r\n]*:[ \t\r\n]*[2-9][0-9]{12}')  # a time in milliseconds begins with 1
_SUSPECT_NUMBER = re.compile(rb'(?i:number|pan|card|cardno)\\*"[ \t\r\n]*:[ \t\r\n]*[0-9]{13,19}(?![0-9.])')
# A digit, a space or a dash may be written as an escape; `&` and `<`, which many encoders escape, are none of those.
_ESCAPED = re.compile(rb"\\u00(?:3[0-9]|2[0dD])")
# Thirteen digits in a row, spaces and dashes aside: all that is looked for above has them, and most documents have
# none.
_AS_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_LONG_RUN = b"0" * 13
_BASE64_INSIDE = re.compile(r"(?<![A-Za-z0-9+/_-])eyJ[A-Za-z0-9+/_-]{8,}")
# Prefixes at the lengths that their issuers use, a line each: Visa; Mastercard; American Express; Diners; JCB, its
# oldest too;
# Discover, RuPay, UnionPay; Maestro, Verve, Elo, Hipercard; Troy, Mir, Dankort, InterPayment.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}"
    r"|(?:30[0-5]|309|36\d|3[89]\d)\d{11}(?:\d{2,5})?"
    r"|35(?:2[89]|[3-8]\d)\d{12}(?:\d{3})?|(?:1800|2131)\d{11}"
    r"|(?:6011|64[4-9]\d|65\d{2}|60\d{2}|81\d{2}|508\d|62\d{2})\d{12}(?:\d{3})?"
    r"|(?:50\d{2}|5[678]\d{2}|6[0-9]\d{2})\d{8,15}"
    r"|(?:9792|220[0-4]|5019|636\d)\d{12}"
)
# Numbers of devices and SIM cards end in the same check digit (3GPP TS 23.003, ITU-T E.118), and whole logs are full of
# them.
_DEVICE_FIELDS = frozenset("imei imeisv imei1 imei2 imeilist meid iccid eid serial serialnumber deviceid imsi".split())
# Numbers of parcels, orders, goods and telephones have a check digit too, or one in ten of them looks as if.
_OTHER_NUMBERS = frozenset(
    "trackingnumber trackingcode trackingid ordernumber orderno ean ean13 gtin gtin13 gtin14 upc isbn isbn13 barcode "
    "sscc waybill waybillnumber airwaybill awb consignmentnumber shipmentnumber phone phonenumber mobile mobilenumber "
    "msisdn telephone tel fax".split()
)
_LONGER_NAMES = ("trackingnumber", "ordernumber", "phonenumber", "waybillnumber")  # `carrier_tracking_number`
_ID_FIELDS = frozenset(
    "id jti sub iss txn grant parent parent_jti token session task project request_id trace_id charge authority "
    "invoice idempotency_key account ray_id uid key kid".split()
)


def is_card_number(value: str) -> bool:
    digits = value.replace(" ", "").replace("-", "")
    if not (13 <= len(digits) <= 19 and digits.isascii() and digits.isdigit() and _CARD.fullmatch(digits)):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def refuse_card_numbers(document: bytes, *, opens: bool = False) -> None:
    """Raises MalformedEvent naming the field, never the number. Costs a few scans when nothing looks like one.
    `opens`: every text may be base64 of JSON, and not only where a name or the text's beginning says so."""
    opaque = opens or b"\\" in document or b"eyJ" in document or b"base64" in document
    if not opaque and _LONG_RUN not in document.translate(_AS_DIGITS, b" -"):
        return
    if not (
        _SUSPECT.search(document)
        or (b'" ' in document and _SUSPECT_BEHIND.search(document))
        or (b"\\" in document and (_ESCAPED.search(document) or _SUSPECT_NUMBER.search(document)))
        or (_LONG_NUMBER.search(document) and _SUSPECT_NUMBER.search(document))
        or opens
        or b"eyJ" in document
        or b"base64" in document
    ):
        return
    try:
        found = _find(_read(document), "")
    except (ValueError, RecursionError):
        # Not passed on: a decoder that skips what it does not know reads more than we can search.
        raise MalformedEvent("expected JSON that can be searched for card numbers") from None
    if found is not None:
        raise MalformedEvent(f"field {found[:200]!r} holds a card number; send a token or the last four digits instead")


def _read(document: bytes | str) -> Any:
    """As pairs: a name that is there twice must not hide its first value. Nor may a number too long for Python."""
    return json.loads(
        document, object_pairs_hook=_Pairs, parse_int=lambda digits: int(digits) if len(digits) < 40 else 0
    )


class _Pairs(list[tuple[str, Any]]):
    """An object's members as they stand in the document."""


def _find(root: Any, name: str, texts: int = 3) -> str | None:
    """The field that holds one; `texts` deep in JSON that stands in a text."""
    pending = [(root, name)]
    while pending:
        value, name = pending.pop()
        if isinstance(value, _Pairs):
            pending.extend((inner, key) for key, inner in value)
        elif isinstance(value, list):
            pending.extend((inner, name) for inner in value)
        elif isinstance(value, str):
            if is_card_number(value) and not _is_no_card(name):
                return name
            for document in _documents(value) if texts else ():
                if (found := _find_in_text(document, texts - 1)) is not None:
                    return found
        elif isinstance(value, int) and _plain(name) in _NUMBERS and is_card_number(str(value)):
            return name
    return None


def _is_no_card(name: str) -> bool:
    """Whether a field of this name holds long numbers of another kind."""
    plain = _plain(name)
    return (
        name in _ID_FIELDS
        or name.endswith(("_id", "Id", "ID"))
        or plain in _DEVICE_FIELDS
        or plain in _OTHER_NUMBERS
        or plain.endswith(_LONGER_NAMES)
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _documents(value: str) -> list[str | bytes]:
    """What may be JSON in a text: the text itself, or base64 in it."""
    if value.lstrip()[:1] in ("{", "["):
        return [value]
    blobs = [value] if BASE64.match(value) else _BASE64_INSIDE.findall(value)[:20] if "eyJ" in value else []
    return [document for blob in blobs if (document := from_base64(blob)) is not None]


def _find_in_text(text: str | bytes, texts: int) -> str | None:
    try:
        return _find(_read(text), "", texts)
    except (ValueError, RecursionError):
        return None
