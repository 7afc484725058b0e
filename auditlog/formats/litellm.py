"""LiteLLM's spend: rows of its spend logs (`GET /spend/logs`, its database) and the payload of its Generic API
callback.

Verified: field names in LiteLLM's documentation (StandardLoggingPayload, Generic API, spend tracking, read 2026-11).
Not verified: a running proxy. Each record is one call: what it cost by LiteLLM's own price list, in US dollars. That is
a meter of the gateway's, and no bill.

Prompts and answers (`messages`, `response`, `proxy_server_request`, those of guardrails and tools) are not stored; of a virtual key its hash is, and
nothing else.

Chain order: none. The key acts (its agent, where one is named), for the user whom LiteLLM knows it by.
"""

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.document import read_document
from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Event, Money, Outcome, Party, Payload
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.formats import About, Delivery, Received, Sender, Statement, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    event,
    fitted,
    note,
    outcome_of,
    party,
    told_in_utc,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
# Keys, and what was asked and answered: of guardrails, tools and vector stores too (StandardLoggingPayload).
REMOVED = NEVER_STORED | frozenset(
    "userapikey messages response proxyserverrequest errorstr errorinformation prompt prompts completion choices input output "
    "guardrailrequest guardrailresponse mcptoolcallmetadata vectorstorerequestmetadata promptvariables tools functions systemprompt".split()
)
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_NOBODY = ("default_user_id", "default_user", "")
_GRAIN = Decimal("1e-12")

ABOUT = About(
    title="LiteLLM spend logs",
    sent="POST of records as JSON: the Generic API callback's arrays, lines or single objects, or rows of /spend/logs; gzip",
    authentication="a static token in the Authorization header",
    grade="D",
    carries="each call of a model with its cost in US dollars, key, user, team, session and provider",
    chains="none: the key, or its agent, acts for the user it belongs to. Joined by session and request",
    lacks="a signature; what the provider will bill; prompts and answers, which are not stored",
    tested="records made to LiteLLM's documentation and types of both shapes (2026-11)",
    against=(
        "docs.litellm.ai, logging_spec, generic_api and cost_tracking, 2026-11",
        "the types in LiteLLM's release 1.110.2, read (140 MB, so not installed)",
    ),
    connect=(
        "In the proxy's config.yaml: callbacks: [answerable], and under callback_settings.answerable: callback_type:"
        " generic_api, endpoint: {address}.",
        "headers: Authorization: Bearer <the value of {secret}>.",
        "Or have a job POST what GET /spend/logs answers. Choose one of the two: a call told twice under two sources"
        " is two meters of it.",
    ),
)


class Record(Struct):
    """A row of the spend logs; `id`, `response_cost`, `trace_id` are the callback's names for the same."""

    request_id: str | None = None
    id: str | None = None
    call_type: str | None = None
    spend: int | float | str | None = None
    response_cost: int | float | str | None = None
    startTime: int | float | str | None = None
    endTime: int | float | str | None = None
    model: str | None = None
    custom_llm_provider: str | None = None
    api_key: str | None = None
    user: str | None = None
    end_user: str | None = None
    team_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None
    status: Any = None
    metadata: dict[str, Any] | str | None = None
    requester_ip_address: str | None = None


_record = msgspec.json.Decoder(Record).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(
        delivery, sender, lambda raw: _statement(raw, sender), wrappers=("data", "logs"), carried=True
    )


def _statement(raw: bytes, sender: Sender) -> Statement:
    """A virtual key's hash is kept, by which calls are told apart; whatever else stands under such a name, here or
    deeper (`model_parameters`, `litellm_params`), would be a key.
    """
    records.bounded(raw)
    said = decoded(_record, raw, "a record of LiteLLM's spend")
    given = (said.api_key, _about(said.metadata).get("user_api_key"))
    hashes = frozenset(key for key in given if isinstance(key, str) and _HASH.match(key))
    return records.stated(raw, sender, parse=parse, grade="D", names=REMOVED, keep=hashes)


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_record, raw, "a record of LiteLLM's spend")
    id = fitted(said.request_id or said.id)
    if not id:
        raise MalformedEvent("expected a request_id or an id")
    about = _about(said.metadata)
    key = _key(said, about)
    agent = said.agent_id or about.get("agent_id")
    actor = party(sender.issuer, agent, "agent") or party(
        sender.issuer, about.get("user_api_key_alias") or key, "workload"
    )
    principal = _user(said, about, sender)
    payload = Payload(
        outcome=_outcome(said.status, about.get("status")),
        mode="delegation" if actor and principal else "direct",
        actor=acting([actor]),
        action=action(provider=said.custom_llm_provider or sender.provider, account=said.team_id or about.get("user_api_key_team_id"),
                      target=("model", said.model)),
        token=key or None,
        session=fitted(said.session_id or about.get("session_id")),
        project=fitted(said.team_id or about.get("user_api_key_team_id")),
        request_id=id,
        trace_id=fitted(said.trace_id),
        call=called(said.call_type or "completion"),
        client=client(said.requester_ip_address or about.get("requester_ip_address")),
        money=_money(said.spend if said.spend is not None else said.response_cost),
    )  # fmt: skip
    return event(sender, id=id, type="usage.metered", at=_at(said), payload=payload, principal=principal)


def _outcome(*told: Any) -> Outcome:
    """The worst that its status and its metadata's say. Rows of older versions say neither: each is a call that was made."""
    found = {outcome_of(one) for one in told if one not in (None, "")} or {"success"}
    worst: tuple[Outcome, ...] = ("failure", "denied", "unknown", "pending", "success")
    return next(one for one in worst if one in found)


def _about(metadata: dict[str, Any] | str | None) -> dict[str, Any]:
    """An object, or, as the table holds it, an object's JSON in a text."""
    if isinstance(metadata, str):
        try:
            metadata = read_document(metadata.encode())
        except (ValueError, UnicodeError):
            note("not read: metadata, expected JSON")
    return metadata if isinstance(metadata, dict) else {}


def _at(said: Record) -> Any:
    """When the call began. LiteLLM's times are UTC, in text without a zone at times."""
    began = said.startTime if said.startTime not in (None, "") else said.endTime
    return told_in_utc(began)


def _key(said: Record, about: dict[str, Any]) -> str:
    """The virtual key by its hash."""
    found = said.api_key or about.get("user_api_key_hash") or about.get("user_api_key")
    return found if isinstance(found, str) and _HASH.match(found) else ""


def _user(said: Record, about: dict[str, Any], sender: Sender) -> Party | None:
    """Whom the key belongs to, else the end user that the caller names. LiteLLM does not say whether that is a person."""
    for name in (said.user, about.get("user_api_key_user_id"), said.end_user, about.get("user_api_key_end_user_id")):
        if isinstance(name, str) and name not in _NOBODY:
            return party(sender.issuer, name)
    return None


def _money(cost: Any) -> Money | None:
    """US dollars as a decimal, to a millionth of a millionth. Raises MalformedEvent for what is no amount."""
    if cost is None or cost == "":
        return None
    try:
        amount = Decimal(str(cost)).quantize(_GRAIN, ROUND_HALF_EVEN)
    except ArithmeticError:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount < 10**15:
        raise MalformedEvent(f"expected a cost in US dollars, found {str(cost)[:40]!r}")
    return Money(currency="USD", amount=f"{amount:f}".rstrip("0").rstrip("."))
