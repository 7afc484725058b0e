"""Card numbers are refused at the door: an audit log must not become a place where they lie.

A card number is a whole string value of 13 to 19 digits (spaces and dashes removed) with an issuer prefix and a
valid Luhn digit (ISO/IEC 7812-1), outside id fields.
"""

import re
from typing import Any

import orjson

from auditlog.core.errors import MalformedEvent

_SUSPECT = re.compile(rb'"[0-9](?:[ \-]*[0-9]){12,18}"|\\u00[23]')
_PREFIX = re.compile(r"4|5[0-8]|6[0-9]|3[0-9]|2[2-7]|1800|2131|9792")
_ID_FIELDS = frozenset(
    "id jti sub iss txn grant parent parent_jti token session task project request_id trace_id charge authority "
    "invoice idempotency_key account ray_id uid key kid".split()
)


def is_card_number(value: str) -> bool:
    digits = value.replace(" ", "").replace("-", "")
    if not (13 <= len(digits) <= 19 and digits.isascii() and digits.isdigit() and _PREFIX.match(digits)):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def refuse_card_numbers(document: bytes) -> None:
    """Raises MalformedEvent naming the field, never the number. Costs one scan when nothing looks like one."""
    if not _SUSPECT.search(document):
        return
    try:
        found = _find(orjson.loads(document), "")
    except orjson.JSONDecodeError:
        return  # whoever parses the document says so
    if found is not None:
        raise MalformedEvent(f"field {found!r} holds a card number; send a token or the last four digits instead")


def _find(root: Any, name: str) -> str | None:
    pending = [(root, name)]
    while pending:
        value, name = pending.pop()
        if isinstance(value, dict):
            pending.extend((inner, key) for key, inner in value.items())
        elif isinstance(value, list):
            pending.extend((inner, name) for inner in value)
        elif isinstance(value, str) and is_card_number(value):
            if name in _ID_FIELDS or name.endswith(("_id", "Id", "ID")):
                continue
            return name
    return None
