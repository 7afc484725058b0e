"""Values in senders' JSON, read strictly: times, ids, texts, amounts, parties. And the one way to make an event of
them.

An id that is too long to be stored is cut and given its digest, so that it stays the same for the same thing and
another for another; a text that is only shown is cut.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
import orjson
from msgspec import Raw

from auditlog.core.document import INTEGER, dumped, leave_out, make_whole, place_of, read_document
from auditlog.core.errors import MalformedEvent
from auditlog.core.event import (
    ARRIVAL,
    LAYER_OF_TYPE,
    UNREADABLE,
    Action,
    Actor,
    Call,
    Client,
    Event,
    Kind,
    Outcome,
    Party,
    Payload,
    Target,
    decode_payload,
    encode_payload,
    moment,
)
from auditlog.core.wire.keys import b64url
from auditlog.formats import Sender

Decoded = TypeVar("Decoded")
_LATEST = 32_503_680_000  # the year 3000, as for NumericDate
_NO_ZONE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?\Z")
_LEAP_SECOND = re.compile(r"(.{10}[T ]\d{2}:\d{2}:)60(.*)\Z")


def _without_nul(encoded: bytes) -> bytes:
    """A payload whose texts hold no U+0000, which no column takes: U+FFFD stands in its place, and a note says so. Whoever
    acts often writes such text (a user agent), and must not keep the event off the record by it.
    """
    document = orjson.loads(encoded)
    holders: list[Any] = [document]
    found = False
    while holders:
        holder = holders.pop()
        for place, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, str) and "\x00" in value:
                holder[place] = value.replace("\x00", "\ufffd")
                found = True
            elif isinstance(value, dict | list):
                holders.append(value)
    if found:
        note("a text held U+0000, which stands as U+FFFD")
    return orjson.dumps(document)


def event(
    sender: Sender,
    *,
    id: str,
    type: str,
    at: datetime,
    payload: Payload,
    issued_at: datetime | None = None,
    txn: str = "",
    principal: Party | None = None,
    dated: bool = True,
) -> Event:
    """An event with the bounds that hold for everybody's. Raises MalformedEvent naming the field."""
    if not 0 < len(id) <= 500:
        raise MalformedEvent(f"expected an event id of 1 to 500 characters, found {len(id)}")
    dated = dated and at is not ARRIVAL
    encoded = encode_payload(payload)
    if b"\\u0000" in encoded:
        encoded = _without_nul(encoded)
    if "\x00" in id or "\x00" in type or "\x00" in txn:
        raise MalformedEvent("a string holds U+0000, which no name or text has")
    if principal is not None and "\x00" in principal.key:
        raise MalformedEvent("a string holds U+0000, which no name or text has")
    return Event(id, type, sender.issuer, at, issued_at or at, decode_payload(encoded), fitted(txn), principal, dated)


def decoded(decode: Callable[[bytes | Raw], Decoded], raw: bytes | Raw, what: str) -> Decoded:
    """The document as the decoder's type. An optional field that is null or of another type counts as absent, with a
    note.

    Raises MalformedEvent saying what was expected, where it is no JSON or a field that has to be there is not.
    """
    try:
        return decode(raw)
    except UNREADABLE as error:
        return _mended(decode, bytes(raw), what, error)


def exactly(decode: Callable[[bytes | Raw], Decoded], raw: bytes | Raw, what: str) -> Decoded:
    """The same without leniency: of an answer to our own request, where a field of another type is a broken answer."""
    try:
        return decode(raw)
    except UNREADABLE as error:
        raise MalformedEvent(f"expected {what}: {error}"[:500]) from None


_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)
MOST_NOTES = 20  # of one document
# So many fields of a document are left out, each at the cost of reading it again: of a small one more than of a large one.
MOST_MENDED, MENDED_BYTES = 500, 4_000_000


@contextmanager
def noting() -> Iterator[list[str]]:
    """What is left out of the documents that are read meanwhile, one text each."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(text: str) -> None:
    """Say that something was left out, to whoever listens (`noting`)."""
    notes = _notes.get()
    if notes is not None and len(notes) < MOST_NOTES:
        notes.append(text[:300])


def _mended(decode: Callable[[bytes | Raw], Decoded], raw: bytes, what: str, first: Exception) -> Decoded:
    """Read it again without what does not fit, field by field, as the decoder names them. Only where it did not fit."""
    try:
        document = read_document(raw)
    except ValueError:
        raise MalformedEvent(f"expected {what}: {first}"[:500]) from None
    left_out: list[str] = []
    most = max(MOST_NOTES, min(MOST_MENDED, MENDED_BYTES // max(1, len(raw))))
    needed = _required(decode.__self__.type)  # type: ignore[attr-defined]  # a decoder's own method: Callable does not say so
    for _ in range(most + 1):
        try:
            found = decode(dumped(document))
        except (*UNREADABLE, TypeError) as error:
            said, place = str(error), place_of(str(error))
            if place is None or not (make_whole(document, said) if place in needed else leave_out(document, said)):
                # What was taken out may be what is missing now: then that is what was wrong with it.
                named = re.search(r"missing required field `([^`]+)`", said)
                wrong = next((one for one in left_out if named and f"{one}`".find(f".{named[1]}`") >= 0), said)
                raise MalformedEvent(f"expected {what}: {wrong}"[:500]) from None
            left_out.append(said)
            continue
        for one in left_out:
            note(f"not read: {one}")
        return found
    raise MalformedEvent(f"expected {what}, found one in which more than {most} fields do not fit: {left_out[0]}"[:500])


@lru_cache(maxsize=128)
def _required(type: Any) -> frozenset[str]:
    """Paths of what has to be there: what stands in its place in another type is not mended."""
    try:
        return frozenset(f".{field.encode_name}" for field in msgspec.structs.fields(type) if field.required)
    except TypeError:
        return frozenset()


def type_or_other(native: str, sender: Sender, theirs: str) -> str:
    """`native` when it is one of ours, else the sender's own word under its name: kept, never dropped."""
    return native if native in LAYER_OF_TYPE else f"other.{sender.name}.{theirs}"[:200]


def fitted(value: Any, limit: int = 500) -> str:
    """An id as text. Too long: cut, and its digest added."""
    if type(value) is int:
        value = str(value) if abs(value) < 10**40 else ""
    if not isinstance(value, str):
        return ""
    if len(value) <= limit:
        return value
    return f"{value[: limit - 44]}~{b64url(sha256(value.encode()).digest())}"


def shown(value: Any, limit: int = 4000) -> str:
    """A text for people. Too long: cut."""
    return value[:limit] if isinstance(value, str) else ""


# Services have their own words for a refusal; throttling, quotas and malformed requests are failures.
# `Authorization...` alone is none: AWS's security groups have an AuthorizationAlreadyExists.
_DENIAL = re.compile(
    r"Access[ _-]?Denied|AccessDenial|Unauthorized|Not[ _-]?Authorized|AuthorizationError|AuthFailure|Forbidden"
    r"|Permission[ _-]?Denied|NotPermitted|InsufficientPrivileges",
    re.IGNORECASE,
)


def is_denial(error: Any) -> bool:
    """Whether a sender's code or word for an error says that the caller may not."""
    return isinstance(error, str) and _DENIAL.search(error) is not None


_WORDS: dict[str, Outcome] = {
    **dict.fromkeys("success succeeded successful ok true complete completed allow allowed".split(), "success"),
    **dict.fromkeys("failure failed fail error errored false aborted expired timeout timed_out cancelled canceled startup_failure".split(), "failure"),
    **dict.fromkeys("denied deny blocked block rejected forbidden refused unauthorized".split(), "denied"),
    **dict.fromkeys("pending queued created running started in_progress waiting action_required".split(), "pending"),
}  # fmt: skip


def outcome_of(told: Any) -> Outcome:
    """What a sender's own word for how it went means, or its boolean, or a status of HTTP. What is not understood is
    unknown, and never a success.
    """
    if isinstance(told, bool):
        return "success" if told else "failure"
    if isinstance(told, int) and 200 <= told < 600:
        return "success" if told < 300 else "unknown" if told < 400 else "denied" if told in (401, 403) else "failure"
    if not isinstance(told, str):
        return "unknown"
    word = told.strip().lower().replace("-", "_").replace(" ", "_")
    return _WORDS.get(word) or ("denied" if is_denial(told) else "unknown")


def inner(document: Any, *names: str) -> Any:
    """`document[a][b][c]`, or None where something on the way is absent or no object."""
    for name in names:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def party(issuer: Any, subject: Any, kind: Kind = "unknown") -> Party | None:
    """Nobody when there is no subject. An issuer never holds a `|`, which divides the two in a party's key."""
    issuer, subject = fitted(issuer, 300).replace("|", "%7C"), fitted(subject, 300)
    return Party(issuer, subject, kind) if issuer and subject else None


def acting(oldest_first: Iterable[Party | None]) -> Actor | None:
    """An `act` chain of parties given oldest first: the last is the outermost, the current actor (RFC 8693 4.1)."""
    actor = None
    for one in oldest_first:
        if one is not None:
            actor = Actor(one.iss, one.sub, one.kind, actor)
    return actor


def action(
    verb: Any = "", *, provider: Any = "", account: Any = "", target: tuple[Any, Any] = ("", ""), resource: Any = ""
) -> Action:
    kind, id = fitted(target[0], 120), fitted(target[1])
    return Action(
        verb=fitted(verb, 120),
        provider=fitted(provider, 120),
        account=fitted(account),
        target=Target(kind, id) if kind or id else None,
        resource=fitted(resource),
    )


def verb_of(native: str, theirs: Any) -> Any:
    """A sender's own verb, where the type does not say what was done: grants speak of `domain.register`."""
    return theirs if native.startswith(("action.", "other.")) else ""


def called(operation: Any, *, idempotency_key: Any = "", error: Any = "") -> Call | None:
    operation, key, error = fitted(operation), fitted(idempotency_key), shown(error)
    return Call(operation=operation, idempotency_key=key, error=error) if operation or key or error else None


def client(ip: Any = "", user_agent: Any = "", ray_id: Any = "") -> Client | None:
    ip, user_agent, ray_id = fitted(ip, 120), shown(user_agent), fitted(ray_id, 120)
    return Client(ip, user_agent, ray_id) if ip or user_agent or ray_id else None


def instant(value: Any) -> datetime:
    """RFC 3339 text with a zone, or a number of seconds, milliseconds, microseconds or nanoseconds by its size."""
    if isinstance(value, str) and 10 <= len(value) <= 40:
        text = value.upper() if "t" in value or "z" in value else value  # RFC 3339 section 5.6
        leap = _LEAP_SECOND.match(text)
        try:
            at = datetime.fromisoformat(f"{leap[1]}59{leap[2]}" if leap else text)
            at += timedelta(
                seconds=bool(leap)
            )  # a leap second is the one before the next minute, and we have no other name for it
        except (ValueError, OverflowError):
            at = None
        if at is not None and at.tzinfo is not None:
            try:
                at = at.astimezone(UTC)
            except OverflowError:
                at = None
            if at is not None and 1970 <= at.year < 3000:
                return at
        if value.isdigit() and value.isascii():
            value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        for scale in (1, 1_000, 1_000_000, 1_000_000_000):
            if value / scale <= _LATEST / 3:  # seconds up to the year 2313, so that the units cannot overlap
                return moment(value / scale) if isinstance(value, float) or scale == 1 else _exact(value, scale)
    raise MalformedEvent(f"expected a time (RFC 3339 with zone, or a Unix time), found {str(value)[:60]!r}")


def told_at(value: Any) -> datetime:
    """The time that a sender says, or ARRIVAL where it says none that can be read: then the event is dated by its receipt,
    and says so.
    """
    if value is None or value == "":
        return ARRIVAL
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        note(f"not read: a time, expected text or a number, found {type(value).__name__}")
        return ARRIVAL
    try:
        return instant(value)
    except MalformedEvent as error:
        note(f"not read: a time: {error}")
        return ARRIVAL


def told_in_text(value: Any, name: str) -> datetime:
    """The same where only RFC 3339 text is a time: a number there could mean anything, so it counts as none."""
    if value is not None and not isinstance(value, str):
        note(f"not read: {name}, expected RFC 3339 text, found {type(value).__name__}")
        return ARRIVAL
    return told_at(value)


def told_in_utc(value: Any) -> datetime:
    """The same of a sender whose times are UTC by its documentation, and come without a zone at times (out of a table)."""
    return told_at(f"{value}Z" if isinstance(value, str) and _NO_ZONE.match(value) else value)


def _exact(value: int, scale: int) -> datetime:
    seconds, rest = divmod(value, scale)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1_000_000 // scale)


def seconds(value: Any) -> float | None:
    """A time as NumericDate, or None for what is no time."""
    try:
        return instant(value).timestamp()
    except MalformedEvent:
        return None


def minor_units(value: Any) -> int:
    """Integer minor units, also as a decimal string (Stripe v2 sends int64 so); a fraction is never money."""
    if isinstance(value, str) and INTEGER.match(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise MalformedEvent(f"expected an amount in integer minor units, found {str(value)[:40]!r}")


def digest_id(raw: bytes) -> str:
    """An id for a record that has none: the digest of its JSON, so that a redelivery has the same."""
    return "sha256:" + b64url(sha256(canonical(raw)).digest())


def canonical(raw: bytes, headers: bytes = b"") -> bytes:
    """What makes two deliveries of a record the same statement: its JSON, however it was spaced or ordered."""
    try:
        return orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return raw  # a lone surrogate in a field that nobody reads, which is not to become the same as another
