"""Stripe Projects: the CLI's `--json` output and `.projects/state.json` (grade F, whoever ran it says so), and objects
polled from the Provisioning API (`v2.provisioning.*`, grade E).

None of these names a time, so each comes in a wrapper: {at, output} | {at, state} | {at, polled}, beside which a
wrapper may say who ran it: argv, actor (our nested form), session, task, project.

Verified: the envelope and its `add` and `rotate` data in captures that others published, the state file, the failure
codes, the SDK's object fields and status values. Not verified: polling against Stripe (the preview is private, and the
`Stripe-Context` of a connected account is not sent); where a failed envelope puts its code (`error.code` and
`data.error.code` are looked at); the command set, which drifts between versions, so unknown ones are kept.

Chain order: the wrapper's `actor` is nested as in RFC 8693, outermost current; the CLI itself names nobody.
"""

import re
from datetime import datetime
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Raw, Struct

from auditlog.core.document import read_document
from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Actor, Event, Gate, Id, Limit, Party, Payload
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.core.wire.request import Request
from auditlog.formats import About, Delivery, Polled, Received, Sender, Statement, records
from auditlog.formats.values import (
    action,
    called,
    canonical,
    decoded,
    digest_id,
    event,
    exactly,
    fitted,
    inner,
    minor_units,
    told_at,
    type_or_other,
)

CONTENT_TYPES, ENCODINGS = records.CONTENT_TYPES, records.ENCODINGS
# These commands print the values of the project's environment.
_PRINTS_SECRETS = ("env", "variables", "pull", "vault")
# And are given them: `variables set NAME=value`.
WITHOUT_DATA = NEVER_STORED | {"data", "argv"}
# The vault is never taken: what of a state file could be it, is not kept.
STATE_FILE = NEVER_STORED | {"vault", "secrets", "env", "variables", "values", "credentials"}

_COMMANDS = {
    "init": "project.created",
    "link": "provider.linked",
    "unlink": "provider.unlinked",
    "update": "resource.updated",
    "upgrade": "resource.updated",
    "downgrade": "resource.updated",
    "remove": "resource.removed",
    "rotate": "credential.rotated",
}
_STATUS = {
    "complete": ("resource.provisioned", "success"),
    "pending": ("resource.requested", "pending"),
    "needs_information": ("resource.requested", "pending"),
    "pending_removal": ("resource.removed", "pending"),
    "removed": ("resource.removed", "success"),
    "error": ("resource.failed", "failure"),
    "errored": ("resource.failed", "failure"),
}
# A failure that waits for a human, and the gate it waits at.
_GATES = {
    "BROWSER_AUTH_REQUIRED": "login",
    "BROWSER_AUTH_TIMEOUT": "login",
    "PROJECTS_SESSION_UNUSABLE": "login",
    "TOS_ACCEPTANCE_REQUIRED": "terms",
    "PLAN_REQUIRED": "billing",
    "JSON_REQUIRES_CONFIRMATION": "purchase",
}
# Those that a human has to change: the service said no.
_DENIED = ("ACCOUNT_NOT_ELIGIBLE", "INVALID_API_KEY", "PROVIDER_NOT_LINKED", "MERCHANT_MISMATCH")
# The weightiest first: an event names one gate. `--yes` answers whatever was asked.
_FLAGS = {"--confirm-paid-service": "purchase", "--accept-tos": "terms", "--yes": "purchase"}
_REQUESTS = {
    "requested": "pending",
    "pending_auth": "pending",
    "needs_information": "pending",
    "complete": "success",
    "error": "failure",
}

ABOUT = About(
    title="Stripe Projects CLI and Provisioning API",
    sent="POST of {at, output | state | polled} as JSON: one, lines or an array; a list of the Provisioning API is polled",
    authentication="a static token in the Authorization header",
    grade="F for the CLI's output and state file, E for polled objects",
    carries="projects, providers linked, resources, credentials, accounts created or linked, limits, gates met",
    chains="the wrapper's nested actor, outermost is the current actor; the CLI names nobody",
    lacks="a signature, times, the agent unless the wrapper says it; values of the environment are never kept",
    tested="published captures of the envelope and the state file; objects made to the SDK's fields",
    against=("stripe/stripe-python, v2.provisioning classes, 2026-11",),
    connect=(
        "Run the CLI with --json through a wrapper that posts each result to {address}.",
        'Body: {{"at": "<RFC 3339>", "argv": [..], "actor": {{..}}, "session": "..", "output": <the JSON>}}',
        "Send the header Authorization: Bearer <the value of {secret}>.",
        "Have a list of https://api.stripe.com/v2/provisioning/... polled, one source a list: its objects change"
        " without any webhook.",
        'Or poll it yourself and post each object as {{"at": .., "polled": <the object>}}.',
    ),
)


class Envelope(Struct):
    ok: bool
    command: Id
    data: Any = None
    error: Any = None


class Recorded(Struct):
    at: str | int | float | None = None
    id: Id = ""
    argv: list[str] | Literal["[removed]"] = []
    actor: Actor | None = None
    session: Id = ""
    task: Id = ""
    project: Id = ""
    output: Envelope | None = None
    state: dict[str, Any] | None = None
    polled: dict[str, Any] | None = None


_recorded = msgspec.json.Decoder(Recorded).decode


class Listed(Struct):
    data: list[Raw] | None = None
    next_page_url: str | None = None
    object: str = ""


_listed = msgspec.json.Decoder(Listed).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    records.check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
    found, alone = records.split(delivery)
    spread = [one for raw in found for one in _spread(raw)]
    return records.each(spread, lambda raw: _statement(raw, sender), batch=not alone or len(spread) > 1)


def content(raw: bytes, headers: bytes) -> bytes:
    """Of a polled object the object alone: it is the same statement whenever it is polled."""
    try:
        polled = orjson.loads(raw).get("polled")
    except (orjson.JSONDecodeError, AttributeError):
        polled = None
    return canonical(raw) if polled is None else orjson.dumps(polled, option=orjson.OPT_SORT_KEYS)


# --- asked for by us: a list of the Provisioning API, /v2/provisioning/... ---

VERSION = "2026-09-30.preview"
_QUERY = re.compile(r"[A-Za-z0-9_.~%=&+-]{0,2000}\Z")


def poll_state(state: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Each round reads the whole list: its objects have no time, and what did not change is a repeat."""
    return state | {"at": now.strftime("%Y-%m-%dT%H:%M:%SZ")}


def poll_request(state: dict[str, Any], url: str) -> Request:
    return Request(
        _page_of(url, state.get("page", "")), headers={"Stripe-Version": VERSION, "Accept": "application/json"}
    )


def _page_of(url: str, page: str) -> str:
    """The next page lies at our own address: of what the host says only the query counts."""
    return f"{url.partition('?')[0]}?{page}" if page else url


def poll_response(body: bytes, state: dict[str, Any]) -> Polled:
    """A v2 list (`data`, `next_page_url`), or one object. Raises MalformedEvent."""
    found = exactly(_listed, body, "a list of the Provisioning API")
    items, following = found.data, found.next_page_url or ""
    if items is None:
        if not found.object:
            raise MalformedEvent("expected a list (`data`) or an object of the Provisioning API")
        items, following = [Raw(body)], ""
    page = following.partition("?")[2]
    if not _QUERY.match(page):
        raise MalformedEvent("expected next_page_url to be an address with a query")
    if page and page == state.get("page"):
        raise MalformedEvent("the page after this one is itself")
    at = orjson.dumps(state["at"])
    posted = b",".join(b'{"at":' + at + b',"polled":' + bytes(item) + b"}" for item in items)
    deliveries = (Delivery(b"[" + posted + b"]", "application/json", {}),) if items else ()
    return Polled(deliveries, {"page": page} if page else {}, more=bool(page))


def poll_restart(state: dict[str, Any]) -> dict[str, Any]:
    return {}


def receive_polled(delivery: Delivery, sender: Sender) -> Received:
    found, _ = records.split(delivery)
    return records.each([one for raw in found for one in _spread(raw)], lambda raw: _statement(raw, sender))


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_recorded, raw, "{at, output | state | polled}")
    given = [part for part in (said.output, said.state, said.polled) if part is not None]
    if len(given) != 1:
        raise MalformedEvent(f"expected one of output, state and polled, found {len(given)}")
    if said.output is not None:
        native, payload = _from_output(said, said.output, sender)
    elif said.polled is not None:
        native, payload = _from_polled(said.polled, sender)
    else:
        native, payload = type_or_other("", sender, "state"), Payload(outcome="success")
    payload = msgspec.structs.replace(
        payload, actor=said.actor, session=said.session, task=said.task, project=payload.project or said.project
    )
    if said.polled is not None:
        id = fitted(f"{said.polled.get('id')} {digest_id(content(raw, headers))}")
    else:
        id = said.id or digest_id(raw)
    return event(sender, id=id, type=native, at=told_at(said.at), payload=payload)


def _statement(raw: bytes, sender: Sender) -> Statement:
    records.bounded(raw)
    said = decoded(_recorded, raw, "{at, output | state | polled}")
    words = re.split(r"[^a-z]+", said.output.command.lower()) if said.output else []
    words += [word.lower() for word in said.argv[1:]] if isinstance(said.argv, list) else []  # the first may be env(1)
    names = WITHOUT_DATA if any(word in _PRINTS_SECRETS for word in words) else NEVER_STORED
    if said.polled is not None and "access_configuration" in str(said.polled.get("object")):
        raise MalformedEvent("a resource's access configuration is a secret, and is not taken")
    if said.state is not None:
        if not isinstance(said.state.get("resources"), dict) and not isinstance(
            said.state.get("providers"), dict | list
        ):
            raise MalformedEvent("expected a state file with resources or providers; the vault is never taken")
        names = STATE_FILE
    return records.stated(raw, sender, parse=parse, grade="F" if said.polled is None else "E", names=names)


def _spread(raw: bytes) -> list[bytes]:
    """A payment profile states a limit for each provider: one record a limit."""
    if len(raw) > records.MAX_RECORD:
        return [raw]
    try:
        document = read_document(raw)
    except ValueError:
        return [raw]
    profile = document.get("polled") if isinstance(document, dict) else None
    is_profile = isinstance(profile, dict) and profile.get("object") == "v2.provisioning.payment_profile"
    providers = profile.get("providers") if is_profile else None
    if not isinstance(providers, list) or not providers or (len(providers) == 1 and not profile.get("usage_limits")):
        return [raw]
    overall = [profile | {"providers": []}] if profile.get("usage_limits") else []
    each = [profile | {"usage_limits": None, "providers": [provider]} for provider in providers[:200]]
    return [orjson.dumps(document | {"polled": one}) for one in overall + each]


def _from_output(said: Recorded, output: Envelope, sender: Sender) -> tuple[str, Payload]:
    words = [word for word in output.command.split() if not word.startswith("-")]
    command = next((word for word in words if word in _COMMANDS or word == "add"), words[-1] if words else "")
    data = output.data if isinstance(output.data, dict) else {}
    service = data.get("service") if isinstance(data.get("service"), dict) else {}
    code = fitted(inner(output.error, "code") or inner(data, "error", "code") or inner(data, "code"), 120)
    status = service.get("status") or data.get("status")
    if command == "add":
        native, outcome = _STATUS.get(status if isinstance(status, str) else "", ("resource.requested", "pending"))
    else:
        native, outcome = _COMMANDS.get(command) or type_or_other("", sender, output.command), "success"
        if output.error or (isinstance(status, str) and _STATUS.get(status, ("", outcome))[1] != "success"):
            # `ok`, and yet an error, or not there yet
            outcome = "unknown" if output.error else _STATUS[str(status)][1]
    gate = None
    if not output.ok:
        waits = _GATES.get(code)
        native = "approval.requested" if waits else "resource.failed" if command == "add" else native
        outcome, gate = ("pending", Gate(waits)) if waits else ("denied" if code in _DENIED else "failure", None)
    elif flag := next((flag for flag in _FLAGS if isinstance(said.argv, list) and flag in said.argv), None):
        # Who passed the flag answered for the human: an agent that did is what a reader must see.
        gate = Gate(_FLAGS[flag], by=Party(said.actor.iss, said.actor.sub, said.actor.kind) if said.actor else None)
    name = data.get("service") if isinstance(data.get("service"), str) else ""
    provider, _, named = name.partition("/")
    return native, Payload(
        outcome=outcome,
        action=action(
            provider=service.get("provider") or provider or sender.provider,
            target=("resource", service.get("key") or data.get("resource_id") or data.get("name")),
            resource=service.get("service_id") or named,
        ),
        gate=gate,
        call=called(output.command, error=code),
    )


def _from_polled(polled: dict[str, Any], sender: Sender) -> tuple[str, Payload]:
    kind, status = fitted(polled.get("object"), 120), polled.get("status")
    status = status if isinstance(status, str) else ""
    native, outcome, limit = type_or_other("", sender, kind or "polled"), "unknown", None
    match kind.removeprefix("v2.provisioning."):
        case "project":
            native, outcome = "project.created", "success"
        case "resource" if status in _STATUS:
            native, outcome = _STATUS[status]
        case "provider_connection" if status == "active":
            made = inner(polled, "provider_account_details", "link_action")
            native = {"created": "account.created", "linked_existing": "account.linked"}.get(
                str(made), "provider.linked"
            )
            outcome = "success"
        case "provider_connection_request":
            wanted = polled.get("request_status")
            native, outcome = "account.requested", _REQUESTS.get(wanted if isinstance(wanted, str) else "", "unknown")
        case "payment_profile":
            limit = _limit(polled)
            native, outcome = ("limit.set", "success") if limit else (native, outcome)
    return native, Payload(
        outcome=outcome,
        environment="test" if polled.get("livemode") is False else "live",
        action=action(
            provider=polled.get("provider_name") or polled.get("provider") or sender.provider,
            account=polled.get("provider_account"),
            target=(kind.rpartition(".")[2], polled.get("id")),
            resource=inner(polled, "service_ref", "service_id") or polled.get("service_ref"),
        ),
        project=fitted(polled.get("project")),
        limit=limit,
        call=called(kind, error=polled.get("error_message")),
    )


def _limit(profile: dict[str, Any]) -> Limit | None:
    """The overall cap, or one provider's. `max_amount` is an int64 sent as a string."""
    providers = profile.get("providers")
    provider = providers[0] if isinstance(providers, list) and providers and not profile.get("usage_limits") else None
    caps = inner(provider, "usage_limits") or profile.get("usage_limits")
    if not isinstance(caps, dict) or caps.get("max_amount") is None:
        return None
    interval = caps.get("recurring_interval")
    return Limit(
        id=fitted(profile.get("id")),
        scope="provider" if provider else "global",
        provider=fitted(inner(provider, "provider_name") or inner(provider, "provider"), 120),
        max_minor=minor_units(caps["max_amount"]),
        currency=fitted(caps.get("currency"), 3).upper(),
        interval=interval if interval in ("day", "week", "month", "year") else "once",
        enforced_by="stripe",
    )
