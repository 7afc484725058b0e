"""JSON documents as senders write them, also what strict decoders refuse though RFC 8259 allows it: half of a surrogate
pair in a text that somebody cut, a number beyond what a float holds. Pure.

The bytes are what was signed, and stay as they are; this is only how we read them.
"""

import json
import re
from typing import Any

import orjson

LARGEST = 2**63 - 1
# Escapes one by one, so that `\\ud83d` (a backslash and five letters) is none.
_ESCAPE = re.compile(
    rb"\\(?:u(?P<first>[dD][89abAB][0-9a-fA-F]{2})(?P<second>\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u(?P<alone>[dD][c-fC-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def whole_escapes(raw: bytes) -> bytes:
    """The document with each half surrogate replaced by U+FFFD. As long as it was: what stands where does not change."""
    if b"\\u" not in raw:
        return raw
    return _ESCAPE.sub(lambda e: b"\\ufffd" if e["alone"] or (e["first"] and not e["second"]) else e[0], raw)


def read_document(raw: bytes) -> Any:
    """The document as Python values. A half surrogate reads as U+FFFD, a number out of range as None. Raises ValueError."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        refused = error
    try:
        found = json.loads(raw.decode(), parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError):
        raise refused from None
    return _clean(found)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) < 40 else None


def _clean(root: Any) -> Any:
    """The document in values that every encoder takes. Not recursive: depth is bounded by the reader alone."""
    top = [root]
    pending: list[Any] = [top]
    while pending:
        holder = pending.pop()
        if isinstance(holder, dict):
            if any(not _is_whole(name) for name in holder):
                items = {_text(name): value for name, value in holder.items()}
                holder.clear()
                holder.update(items)
            places = list(holder.items())
        else:
            places = list(enumerate(holder))
        for place, value in places:
            if isinstance(value, dict | list):
                pending.append(value)
            elif isinstance(value, str):
                if not _is_whole(value):
                    holder[place] = _text(value)
            elif isinstance(value, float) and value in (float("inf"), float("-inf")):
                holder[place] = None
            elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
                holder[place] = float(value)  # as the strict decoder reads it
    return top[0]


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
