"""The same call: what of a charged call says that it is the same as another, and what only changes from try to try. Pure.

What nobody stated is unknown and never equal: calls without arguments are not the same call.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from statistics import median
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import rfc8785

from auditlog.core.chain.act import Act

SCHEDULE = timedelta(minutes=10)  # evenly spaced at least so far apart: a clock calls, and no loop
EVEN, EVEN_SHARE = 0.1, 0.8  # how far from the beat, and how many of the calls must keep it

# What changes from try to try of one thing and says nothing about the thing.
_NOISE = frozenset(
    "_ attempt attempt_id attempt_no attempt_number attempts cache_buster cachebuster call_id client_request_id client_token "
    "correlation_id dedup_key function_call_id generation_id hmac idempotency_key invocation_id nonce rand random request_id "
    "retries retry retry_attempt retry_count retry_id retry_number salt sig signature span span_id tool_call_id tool_use_id trace "
    "trace_id traceparent tries try_count try_number x_request_id".split()
)
# Whose turn it is, not what is done: noise where what is left still names the thing.
_CONTEXT = frozenset(
    "agent_id conversation_id run_id session_id step step_id subtask_id task_id thread_id turn turn_id worker_id".split()
)
_CLOCK = frozenset(
    "at call_time client_time created created_at current_time issued_at now request_time request_timestamp requested_at sent sent_at "
    "time timestamp timestamp_ms ts ts_ms".split()
)
_NOW = timedelta(minutes=10)
# Inside a longer text: which try it is, when it was written, and ids that are made up for each call.
_TRY = re.compile(r"[(\[]?\b(?:attempt|retry|try|take)(?: no\.?)? ?[#:]?\d+(?: of \d+)?[)\]]?", re.IGNORECASE)
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_WHEN = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
_LEFT = 12  # characters that must be left for a text to name anything by itself
# What a meter of a thing that simply runs counts in.
_MEASURES = frozenset(
    "bytes gb gib gibibytes hours kb kwh mb minutes quantity seconds units usage usage_quantity vcpu_hours".split()
)


def fingerprint(act: Act, *, keyed: bool = False) -> str | None:
    """What was called, with what, on what. None where nobody stated the arguments: such calls are not known to be the same."""
    body = called(act)
    return (
        None if body is None else sha256(rfc8785.dumps([*body, act.idempotency_key if keyed else ""])).hexdigest()[:32]
    )


def called(act: Act) -> list[str | dict[str, str]] | None:
    """What a fingerprint is made of; the arguments in the order of their names."""
    call = act.payload.call
    if call is None or not (call.args or call.args_digest):
        return None
    digest = "" if call.args else call.args_digest
    return [act.provider, call.operation, _thing(act), *_for_whom(act), said(act), digest]


def _for_whom(act: Act) -> list[str]:
    """What else a sender may name the work by: the account it was done in, its resource, who pays for it."""
    mine = {act.charge, act.idempotency_key, act.request_id} - {""}
    money = act.payload.money
    resource = "" if any(each in act.resource for each in mine) else act.resource
    return [act.account, resource, (money.payer or "") if money else ""]


def other_work(one: Act, other: Act) -> bool:
    """Whether the sender says that these are two pieces of work: one agent names another task under the same grant. What
    sub-agents call their own tasks is part of their giver's, and says nothing.
    """
    if not one.task or not other.task or one.task == other.task:
        return False
    return one.via_grant == other.via_grant and one.actor == other.actor


def _thing(act: Act) -> str:
    """What the call was done to, where that names a thing and not the call itself."""
    target = act.payload.action.target if act.payload.action else None
    if target is None or not target.id or target.type.lower() in ("call", "charge", "payment", "request", "invocation"):
        return ""
    mine = {act.charge, act.idempotency_key, act.request_id} - {""}
    return "" if target.id in mine else f"{target.type} {target.id}"


def said(act: Act) -> dict[str, str]:
    """The stated arguments, as text, without the noise of trying."""
    mine = {act.charge, act.request_id, act.txn, act.payload.trace_id} - {""}
    kept = {name: value for name, value in stated_args(act).items() if not _is_noise(name, value, act, mine)}
    content = {name: value for name, value in kept.items() if snake(name) not in _CONTEXT}
    # Without its context, what is left must still name the thing: several arguments, or one and what it was done to.
    names_it = len(content) > 1 or (content and _thing(act))
    return {name: _text(value, act, mine) for name, value in sorted((content if names_it else kept).items())}


def stated_args(act: Act) -> dict[str, object]:
    call = act.payload.call
    return {name: msgspec.json.decode(value) for name, value in (call.args or {}).items()} if call else {}


def _is_noise(name: str, value: object, act: Act, mine: set[str]) -> bool:
    plain = snake(name)
    if plain in _NOISE or (isinstance(value, str) and value in mine):
        return True
    return plain in _CLOCK and _is_now(value, act.occurred_at)


def _text(value: object, act: Act, mine: set[str]) -> str:
    def strip(inner: object) -> object:
        if isinstance(inner, dict):
            return {name: strip(each) for name, each in sorted(inner.items()) if not _is_noise(name, each, act, mine)}
        if isinstance(inner, str):
            return _plain(inner, act, mine)
        return [strip(each) for each in inner] if isinstance(inner, list) else inner

    return msgspec.json.encode(strip(value)).decode()


def _plain(text: str, act: Act, mine: set[str]) -> str:
    """A text or address without what is made up for each call, where enough is left to name the thing."""
    if "://" in text and "?" in text:
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        query = [(name, v) for name, v in parse_qsl(parts.query, True) if not _is_noise(name, _number(v), act, mine)]
        return urlunsplit(parts._replace(query=urlencode(query)))
    if len(text) <= _LEFT:
        return text
    plain = _TRY.sub("", text)
    for when in set(_WHEN.findall(plain)):
        if _is_now(when.replace(" ", "T"), act.occurred_at):
            plain = plain.replace(when, "")
    for each in mine:
        plain = plain.replace(each, "") if len(each) >= 6 else plain
    # An id in a sentence is made up for this try only where the sentence says enough without it.
    if len(plain) > 80:
        plain = _UUID.sub("", plain)
    plain = " ".join(plain.split())
    return plain if len(plain) >= _LEFT else text


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _is_now(value: object, at: datetime) -> bool:
    """Whether this is the time of the call, in seconds, milliseconds or as text; or a counter no clock ever showed."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        if 0 <= value < 1e8:
            return True
        seconds = value / 1000 if value > 1e11 else value
        return abs(seconds - at.timestamp()) <= _NOW.total_seconds()
    if isinstance(value, str):
        try:
            told = datetime.fromisoformat(value)
        except ValueError:
            return False
        return abs((told if told.tzinfo else told.replace(tzinfo=UTC)) - at) <= _NOW
    return False


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")


def is_scheduled(acts: Sequence[Act]) -> bool:
    """Whether a clock made these: evenly spaced and far apart; or readings of a running thing, which no call asks for."""
    return _is_even(acts, SCHEDULE) or (
        all(is_reading(act) for act in acts) and (_is_even(acts, timedelta(0)) or all(_measures(act) for act in acts))
    )


def is_reading(act: Act) -> bool:
    """A meter's line about a thing, with nothing in it that a call has: no try, no key, no request."""
    call = act.payload.call
    names_call = act.idempotency_key or act.request_id or (call is not None and call.attempt is not None)
    asks = act.payload.actor is not None and not _measures(act)
    return act.type == "usage.metered" and bool(_thing(act)) and not names_call and not asks


def _measures(act: Act) -> bool:
    words = {snake(name) for name in stated_args(act)} | set(re.split(r"[^a-z]+", act.operation.lower()))
    return not words.isdisjoint(_MEASURES)


def _is_even(acts: Sequence[Act], at_least: timedelta) -> bool:
    gaps = [(after.occurred_at - before.occurred_at).total_seconds() for before, after in pairwise(acts)]
    gaps = [gap for gap in gaps if gap > 0]
    if len(gaps) < 3 or len(gaps) < len(acts) // 2:
        return False
    beat = median(gaps)
    if beat < at_least.total_seconds():
        return False
    # A reading that is missing makes a gap of several beats.
    kept = sum(abs(gap - max(1, round(gap / beat)) * beat) <= EVEN * beat for gap in gaps)
    return kept >= EVEN_SHARE * len(gaps)
