"""JSON documents as senders write them, also what strict decoders refuse though RFC 8259 allows it: half of a surrogate
pair in a text that somebody cut, a number beyond what a float holds. Pure.

The bytes are what was signed, and stay as they are; this is only how we read them.
"""

import json
import re
from contextlib import suppress
from typing import Any

import orjson

LARGEST = 2**63 - 1
# Escapes one by one, so that `\\ud83d` (a backslash and five letters) is none.
_ESCAPE = re.compile(
    rb"\\(?:u(?P<first>[dD][89abAB][0-9a-fA-F]{2})(?P<second>\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u(?P<alone>[dD][c-fC-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def whole_escapes(raw: bytes) -> bytes:
    """The document with each half surrogate replaced by U+FFFD. As long as it was: what stands where does not change."""
    if b"\\u" not in raw:
        return raw
    return _ESCAPE.sub(lambda e: b"\\ufffd" if e["alone"] or (e["first"] and not e["second"]) else e[0], raw)


def read_document(raw: bytes) -> Any:
    """The document as Python values. A half surrogate reads as U+FFFD, a number out of range as None. Raises
    ValueError.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        refused = error
    try:
        found = json.loads(raw.decode(), parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError):
        raise refused from None
    return _clean(found)


def dumped(value: Any, *, sort: bool = False) -> bytes:
    """What `read_document` read, as JSON again: whole numbers of any size too."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else None)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=sort, ensure_ascii=False).encode("utf-8", "replace")


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


_PLACE = re.compile(r" - at `\$(.*)`\Z")
_STEPS = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_JSON_TYPES = {"null": type(None), "bool": bool, "int": int, "float": float, "str": str, "object": dict, "array": list}
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,37})\Z")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?\Z")


def place_of(said: str) -> str | None:
    """Where a decoder says that something does not fit: `.user.id`, `.list[0]`, `.map[...]`. None: it names no place."""
    place = _PLACE.search(said)
    return place[1] if place else None


def make_whole(document: Any, said: str) -> bool:
    """Make a whole number of what a decoder (msgspec) says is none, where it says one: `6003.0`, `"6003"`. Whether it
    did.
    """
    types = _EXPECTED.search(said)
    return types is not None and types[1] == "int" and leave_out(document, said, only_if_it_says_the_same=True)


def leave_out(document: Any, said: str, *, only_if_it_says_the_same: bool = False) -> bool:
    """Take what a decoder (msgspec) says does not fit out of the document, or give it the type that was expected where
    it says the same. Whether there was anything to take out.
    """
    path = place_of(said)
    if path is None or not isinstance(document, dict | list):
        return False
    steps = [int(number) if number and number != "..." else name or None for name, number in _STEPS.findall(path)]
    *way, last = steps or [None]
    holder = document
    for depth, step in enumerate(way):
        if step is None:  # any of an object's values: which one is not said
            way, last = way[:depth], None
            break
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return False
    types = _EXPECTED.search(said)
    if last is None:
        if not isinstance(holder, dict | list) or types is None:
            return False
        kind = _JSON_TYPES.get(types[2])
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        wrong = [place for place in places if kind is not None and type(holder[place]) is kind]
    else:
        wrong = [last]
    for place in reversed(wrong):
        if not (place in holder if isinstance(holder, dict) else isinstance(holder, list) and place < len(holder)):
            return False
        fit = _as_expected(holder[place], types[1]) if types else None
        if fit is not None:
            holder[place] = fit
        elif only_if_it_says_the_same:
            return False
        else:
            del holder[place]
    return bool(wrong)


def _as_expected(value: Any, expected: str) -> Any:
    """A number for its digits, digits for their number, JSON in a text: the same thing in another type. Else None."""
    kinds = {kind.strip() for kind in expected.split("|")}
    if isinstance(value, bool):
        return None
    if "str" in kinds and isinstance(value, int) and abs(value) < 10**40:
        return str(value)
    if "int" in kinds and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, str):
        if "int" in kinds and INTEGER.match(value):
            return int(value)
        if "float" in kinds and _DECIMAL.match(value):
            return float(value)
        for kind, opening in (("object", "{"), ("array", "[")):
            if kind in kinds and value.lstrip()[:1] == opening:
                with suppress(ValueError):
                    return read_document(value.encode())
    return None
