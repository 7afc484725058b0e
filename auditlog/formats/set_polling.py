"""Polling for Security Event Tokens (RFC 8936): what is asked, what came, and what became of each, said with the next
request. A SET is acknowledged only when it is durable in our ledger, so a transmitter keeps what we did not keep.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.errors import MalformedEvent, Refused
from auditlog.core.event import UNREADABLE
from auditlog.core.wire.request import Request
from auditlog.formats import Delivery, Polled

POLL_NEEDS_KEY = False  # a transmitter may know us otherwise (RFC 8936 section 4.2 leaves it open)
ASKED_FOR = 100  # SETs a request
_CODES = (
    "invalid_request",
    "invalid_key",
    "invalid_issuer",
    "invalid_audience",
    "authentication_failed",
    "access_denied",
)
MAX_PART = 1_000  # as many as one delivery may hold


class PolledSets(Struct):
    """An RFC 8936 answer; members we do not know are ignored."""

    sets: dict[str, str] = {}
    moreAvailable: bool = False


_polled = msgspec.json.Decoder(PolledSets).decode


def poll_state(state: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    return state


def poll_request(state: dict[str, Any], url: str) -> Request:
    """RFC 8936 section 2.2, with what is to be said of the SETs from before; an answer at once, also an empty one."""
    return _asking(state, url, ASKED_FOR)


def poll_closing(state: dict[str, Any], url: str) -> Request | None:
    """An acknowledge-only request (RFC 8936 section 2.4): it asks for no SETs."""
    return _asking(state, url, 0) if state.get("ack") or state.get("setErrs") else None


def _asking(state: dict[str, Any], url: str, most: int) -> Request:
    said = {name: state[name] for name in ("ack", "setErrs") if state.get(name)}
    body = msgspec.json.encode({"maxEvents": most, "returnImmediately": True} | said)
    return Request(url, "POST", body, {"Content-Type": "application/json", "Accept": "application/json"})


def poll_response(body: bytes, state: dict[str, Any]) -> Polled:
    """Section 2.3. That it answers at all says that it has heard what we said. Raises MalformedEvent."""
    try:
        said = _polled(body)
    except UNREADABLE as error:
        raise MalformedEvent(f'expected {{"sets": {{jti: SET}}}}: {error}'[:500]) from None
    # A name that holds U+0000 could be kept in no text column, so not acknowledged later: it stays where it is.
    sets = [(jti, compact) for jti, compact in said.sets.items() if "\x00" not in jti]
    parts = [dict(sets[start : start + MAX_PART]) for start in range(0, len(sets), MAX_PART)]
    deliveries = tuple(Delivery(msgspec.json.encode({"sets": part}), "application/json", {}) for part in parts)
    return Polled(deliveries, {}, more=said.moreAvailable)


def poll_settled(state: dict[str, Any], appended: Sequence[str], refused: Mapping[str, Refused]) -> dict[str, Any]:
    """What the next request says: those that are durable, and why the others were not taken (section 2.6)."""
    errors = {
        jti: {
            "err": one.err if one.err in _CODES else "invalid_request",
            "description": str(one).replace("\x00", "")[:500],
        }
        for jti, one in refused.items()
    }
    return {"ack": [*state.get("ack", []), *appended], "setErrs": state.get("setErrs", {}) | errors}
