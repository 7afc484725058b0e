"""Cloudflare Audit Logs v2, in its two shapes: pushed by Logpush (NDJSON, gzip) and as the API lists it; and what
Logpush still sends of v1.

Verified: both lists of field names, read in Cloudflare's documentation and SDK types. Not verified: a real Logpush
payload; the `resource.type` strings of tokens, so the request's path is looked at too. Logpush first sends a
validation request, one gzipped object with `content`, which holds no event and is answered with 200.

There is no agent and no delegation in these logs, so no chain: who acts is the e-mail or the token. They are joined
to the agent by the token's id (`token`), the Ray ID, the e-mail. Logpush is grade D (a static header, no signature);
a page of the API, polled by us or posted by somebody, is grade E.

Polled, each round asks for the time since the last one and OVERLAP before it, page by page (`cursor`): an entry that
shows late is found, and what is known already is a repeat. Not verified against Cloudflare: `direction`, and that a
window's last page has no cursor (an empty page ends it too).
"""

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import orjson
from msgspec import Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Actor, Event, Outcome, Payload
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.core.wire.request import Request
from auditlog.formats import About, Delivery, Polled, Received, Sender, Statement, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    event,
    exactly,
    fitted,
    inner,
    instant,
    outcome_of,
    party,
    told_at,
    verb_of,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
# A made token's value lies in the response under `value`.
REMOVED = NEVER_STORED | {"value"}
REMOVED_OLD = REMOVED | {"metadata", "newvalue", "newvaluejson", "oldvalue", "oldvaluejson"}

ABOUT = About(
    title="Cloudflare Audit Logs v2",
    sent="Logpush to an HTTP destination (NDJSON, gzip), or pages of GET /accounts/{id}/logs/audit, polled or posted as they are; v1 by Logpush too",
    authentication="a static Authorization header that you set in the destination; Cloudflare does not sign",
    grade="D pushed by Logpush, E from the API",
    carries="what was created, changed and deleted: tokens, DNS, domains, Workers, zones; with actor, IP and Ray ID",
    chains="none: no agent and no delegation in the log. Joined by token id, Ray ID, e-mail and time",
    lacks="agents, delegation, money, webhooks of the registrar",
    tested="records made to the documented field names in both shapes; no samples are published",
    against=("developers.cloudflare.com/logs (audit_logs, audit_logs_v2), 2026-11",),
    connect=(
        "In Cloudflare open Analytics & Logs > Logpush and create a job for the dataset Audit Logs v2.",
        "Destination HTTP: {address}?header_Authorization=Bearer%20<the value of {secret}>",
        "Cloudflare sends a test request first; it is answered with 200 and nothing is stored.",
        "Timestamps: RFC 3339. All fields, ActorTokenDetails and Raw among them.",
        "Or have it polled: https://api.cloudflare.com/client/v4/accounts/<account id>/logs/audit, with a token that"
        " may read it.",
        "If you take both, add a second source for the API: the same entry has other bytes there.",
    ),
)

_OURS = {
    ("token", "create"): "credential.issued",
    ("token", "update"): "credential.rotated",
    ("token", "delete"): "credential.revoked",
    ("registrar", "create"): "domain.registered",
    ("registrar", "delete"): "domain.deleted",
}
_CREATED = {"create": "create", "delete": "delete", "view": "read", "update": "update"}


class Entry(Struct):
    """One entry under our own names, whichever shape it came in."""

    id: Any
    verb: str
    result: Outcome
    at: Any
    actor: dict[str, Any]
    account: Any
    zone: Any
    resource: dict[str, Any]
    raw: dict[str, Any]
    thing: str = ""  # what a verb of v1 says beside what was done: `rec` of `rec_add`
    token: str = ""  # which v1 says it is about


class Pushed(Struct):
    AuditLogID: str = ""
    ActionTimestamp: int | float | str | None = None
    ActionType: str = ""
    ActionResult: Any = None
    ActorEmail: str | None = None
    ActorID: str | None = None
    ActorIPAddress: str | None = None
    ActorTokenDetails: dict[str, Any] | str | None = None
    ActorType: str | None = None
    AccountID: str | None = None
    ResourceID: str | None = None
    ResourceProduct: str | None = None
    ResourceType: str | None = None
    ResourceValue: Any = None
    Raw: dict[str, Any] | str | None = None
    ZoneID: str | None = None
    ZoneName: str | None = None


class Old(Struct):
    """Audit Logs v1, by Logpush. `Metadata`, `NewValue` and `OldValue` are whatever the product wrote: they may be
    secrets.
    """

    ID: str = ""
    When: int | float | str | None = None
    ActionType: str = ""
    ActionResult: Any = None
    ActorEmail: str | None = None
    ActorID: str | None = None
    ActorIP: str | None = None
    ActorType: str | None = None
    OwnerID: str | None = None
    ResourceID: str | None = None
    ResourceType: str | None = None


class Listed(Struct):
    """An entry as an API lists it: v2, or v1 with `when`, `owner` and `metadata`."""

    id: str = ""
    action: dict[str, Any] = {}
    actor: dict[str, Any] | None = None
    account: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None
    raw: dict[str, Any] | None = None
    zone: dict[str, Any] | None = None
    when: int | float | str | None = None
    owner: dict[str, Any] | None = None


class Names(Struct):
    """What tells the shapes apart: the name under which each has its id, and what only v1 has, whatever stands there."""

    AuditLogID: Any = None
    ID: Any = None
    id: Any = None
    When: Any = msgspec.UNSET
    when: Any = msgspec.UNSET
    owner: Any = msgspec.UNSET
    interface: Any = msgspec.UNSET
    Metadata: Any = None
    metadata: Any = None

    @property
    def is_pushed(self) -> bool:
        return self.AuditLogID is not None

    @property
    def is_old(self) -> bool:
        only_v1 = (self.When, self.when, self.owner, self.interface)
        return not self.is_pushed and (self.ID is not None or any(one is not msgspec.UNSET for one in only_v1))


class Info(Struct):
    cursor: str | None = None


class Page(Struct):
    success: bool | None = None
    result: list[msgspec.Raw] | None = None
    result_info: Info | None = None


_page = msgspec.json.Decoder(Page).decode
_pushed = msgspec.json.Decoder(Pushed).decode
_old = msgspec.json.Decoder(Old).decode
_listed = msgspec.json.Decoder(Listed).decode
_names = msgspec.json.Decoder(Names).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    if _is_validation(delivery):
        records.check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
        return Received({}, batch=True)
    return records.received(
        delivery,
        sender,
        lambda raw: _statement(raw, sender),
        wrappers=("result",),
        carried=True,
    )


def _statement(raw: bytes, sender: Sender, *, grade: str = "") -> Statement:
    """Of v1 what the product wrote is not stored, but for the name of the token that it is about."""
    records.bounded(raw)
    names = decoded(_names, raw, "an entry of Cloudflare's audit logs")
    grade = grade or ("D" if names.is_pushed or names.ID is not None else "E")
    if not names.is_old:
        return records.stated(raw, sender, parse=parse, grade=grade, names=REMOVED)
    about = _object(names.Metadata if names.Metadata is not None else names.metadata)
    token = fitted(about.get("token_tag") or about.get("token_id"))
    return records.stated(
        raw, sender, parse=parse, grade=grade, names=REMOVED_OLD, headers={"token-tag": token} if token else None
    )


# --- asked for by us: GET /accounts/{id}/logs/audit ---

FIRST = timedelta(days=7)  # how far back the first request goes
KEPT = timedelta(days=29)  # Cloudflare answers for 30 days
OVERLAP = timedelta(minutes=30)
PAGE = 500


def poll_state(state: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """`since`, `before` and `cursor` of a request made now. A window that was begun is asked for to its end."""
    if state.get("cursor"):
        return state
    since = max(instant(state["since"]), now - KEPT) if state.get("since") else now - FIRST
    return {"since": _written(since), "before": _written(now)}


def poll_request(state: dict[str, Any], url: str) -> Request:
    asked = {"since": state["since"], "before": state["before"], "limit": PAGE, "direction": "asc"}
    if state.get("cursor"):
        asked["cursor"] = state["cursor"]
    return Request(f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}", headers={"Accept": "application/json"})


def poll_response(body: bytes, state: dict[str, Any]) -> Polled:
    """Raises MalformedEvent when it is no page of a list."""
    page = exactly(_page, body, "a page of Audit Logs v2")
    if page.success is not True or page.result is None:
        raise MalformedEvent("expected a page with success true and a result")
    cursor = page.result_info.cursor if page.result_info else None
    if cursor and not (cursor.isascii() and cursor.isprintable() and len(cursor) <= 2000):
        raise MalformedEvent("expected a cursor of at most 2,000 printable characters")
    if cursor and cursor == state.get("cursor") and page.result:
        raise MalformedEvent("the page after this cursor has the same cursor again")
    deliveries = (Delivery(body, "application/json", {}),) if page.result else ()
    if cursor and page.result:
        return Polled(deliveries, state | {"cursor": cursor}, more=True)
    return Polled(deliveries, {"since": _written(instant(state["before"]) - OVERLAP)})


def poll_restart(state: dict[str, Any]) -> dict[str, Any]:
    """A cursor that is no longer known: the window is asked for from its beginning."""
    return {"since": state["since"]} if state.get("cursor") else state


def receive_polled(delivery: Delivery, sender: Sender) -> Received:
    found, _ = records.split(delivery, wrappers=("result",))
    return records.each(found, lambda raw: _statement(raw, sender, grade="E"))


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    entry = _entry(raw, records.told(headers))
    if not entry.id:
        raise MalformedEvent("expected an AuditLogID or an id")
    failed = entry.result in ("failure", "denied")
    about = _about(entry)
    ours = _OURS.get((about, entry.verb))
    if ours and failed:
        ours = "domain.registration_failed" if ours == "domain.registered" else None
    native = ours or ("action.denied" if failed else "action.performed")
    token = fitted(entry.actor.get("token_id"))
    name = entry.resource.get("value") if about == "registrar" else None
    operation = f"{about or entry.thing or entry.resource.get('product') or 'account'}.{_CREATED.get(entry.verb, entry.verb)}".lower()
    payload = Payload(
        outcome=entry.result,
        mode="direct",
        actor=_actor(entry, sender),
        action=action(
            verb_of(native, operation),
            provider=sender.provider, account=entry.account,
            target=("token", entry.token) if entry.token else (entry.resource.get("type") or about, entry.resource.get("id") or entry.zone),
            resource=name or entry.zone,
        ),
        call=called(operation),
        token=token or None,
        request_id=fitted(entry.raw.get("cf_ray_id")),
        client=client(entry.actor.get("ip_address"), entry.raw.get("user_agent"), entry.raw.get("cf_ray_id")),
    )  # fmt: skip
    return event(sender, id=fitted(entry.id), type=native, at=told_at(entry.at), payload=payload)


def _actor(entry: Entry, sender: Sender) -> Actor | None:
    """The e-mail is the one name that other systems know too; a token acts where no person is named."""
    said = entry.actor
    kind = "service" if said.get("type") in ("system", "cloudflare_admin") else "unknown"
    return acting([party(sender.issuer, said.get("email") or said.get("id") or said.get("token_id"), kind)])


_TOKENS_AT = re.compile(r"(?:/client/v4)?/(?:user|accounts/[^/]+)/tokens(?:/|\Z)")
_REGISTRAR_AT = re.compile(r"(?:/client/v4)?/accounts/[^/]+/registrar/")
_A_TOKEN = re.compile(r"(?:.*[ ._-])?tokens?")
_THE_REGISTRAR = re.compile(r"registrar(?:[ ._-].*)?")


def _about(entry: Entry) -> str:
    """Whether it is about a token or a domain: by type and product, else by the path of the request."""
    path = str(entry.raw.get("uri") or "").partition("?")[0]
    kinds = [
        str(kind or "").lower() for kind in (entry.resource.get("type"), entry.resource.get("product"), entry.thing)
    ]
    # By whole words and places: a key of somebody's own naming may hold any of these.
    if _TOKENS_AT.match(path) or any(_A_TOKEN.fullmatch(kind) for kind in kinds):
        return "token"
    if _REGISTRAR_AT.match(path) or any(_THE_REGISTRAR.fullmatch(kind) for kind in kinds):
        return "registrar"
    return ""


def _entry(raw: bytes, told: dict[str, str]) -> Entry:
    names = decoded(_names, raw, "an entry of Cloudflare's audit logs")
    if names.is_pushed:
        said = decoded(_pushed, raw, "a Logpush record of Audit Logs v2")
        token = _object(said.ActorTokenDetails)
        actor = {
            "email": said.ActorEmail, "id": said.ActorID, "ip_address": said.ActorIPAddress, "type": said.ActorType,
            "token_id": token.get("id") or token.get("token_id") or token.get("TokenID"),
        }  # fmt: skip
        request = {_snake(name): value for name, value in _object(said.Raw).items()}
        value = _object(said.ResourceValue).get("name") if isinstance(said.ResourceValue, dict) else said.ResourceValue
        resource = {"id": said.ResourceID, "product": said.ResourceProduct, "type": said.ResourceType, "value": value}
        return Entry(said.AuditLogID, said.ActionType, outcome_of(said.ActionResult), said.ActionTimestamp, actor, said.AccountID,
                     said.ZoneName or said.ZoneID, resource, request)  # fmt: skip
    if names.is_old and names.ID is not None:
        old = decoded(_old, raw, "a Logpush record of Audit Logs v1")
        actor = {"email": old.ActorEmail, "id": old.ActorID, "ip_address": old.ActorIP, "type": old.ActorType}
        thing, verb = _of_old(old.ActionType)
        return Entry(old.ID, verb, outcome_of(old.ActionResult), old.When, actor, old.OwnerID, None,
                     {"id": old.ResourceID, "type": old.ResourceType}, {}, thing, told.get("token-tag", ""))  # fmt: skip
    said = decoded(_listed, raw, "an entry of Audit Logs v2")
    if not said.action:
        raise MalformedEvent("expected an action")
    resource = said.resource or {}
    if names.is_old:
        thing, verb = _of_old(fitted(said.action.get("type"), 120))
        actor = (said.actor or {}) | {"ip_address": inner(said.actor, "ip")}
        return Entry(said.id, verb, outcome_of(said.action.get("result")), said.when, actor, inner(said.owner, "id"), None, resource, {},
                     thing, told.get("token-tag", ""))  # fmt: skip
    name = inner(resource, "request", "name") or inner(resource, "request", "domain_name")
    zone = said.zone or {}
    return Entry(
        said.id, fitted(said.action.get("type"), 120), outcome_of(said.action.get("result")), said.action.get("time"),
        said.actor or {}, inner(said.account, "id"), zone.get("name") or zone.get("id"), resource | {"value": name},
        said.raw or {},
    )  # fmt: skip


def _object(value: Any) -> dict[str, Any]:
    """Logpush gives objects, or the same as text."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _snake(name: str) -> str:
    return {"CfRayID": "cf_ray_id", "RayID": "cf_ray_id", "URI": "uri", "UserAgent": "user_agent"}.get(
        name, name.lower()
    )


_OLD_VERBS = {
    "add": "create", "new": "create", "create": "create", "issue": "create", "set": "update", "upd": "update", "update": "update", "edit": "update",
    "change": "update", "roll": "update", "rotate": "update", "del": "delete", "rem": "delete", "remove": "delete", "delete": "delete",
    "revoke": "delete", "view": "view", "read": "view", "purge": "purge", "login": "login", "logout": "logout", "enable": "enable", "disable": "disable",
}  # fmt: skip
_OLD_THINGS = {"rec": "dns_record", "tok": "token", "api_token": "token"}


def _of_old(theirs: str) -> tuple[str, str]:
    """What a verb of v1 says it was done to, and what was done: `rec_add` is a DNS record that was created. Products
    differ in which comes first (`token_create`, `add_member`); a word that names nothing done stands as it is.
    """
    words = theirs.lower().replace("-", "_").split("_")
    if words[-1] in _OLD_VERBS:
        thing, verb = "_".join(words[:-1]), _OLD_VERBS[words[-1]]
    elif words[0] in _OLD_VERBS:
        thing, verb = "_".join(words[1:]), _OLD_VERBS[words[0]]
    else:
        thing, verb = "", theirs.lower()
    return _OLD_THINGS.get(thing, thing), verb


def _is_validation(delivery: Delivery) -> bool:
    """Logpush's test of a destination: `{"content": "tests"}` or the word alone, gzipped."""
    if len(delivery.body) > 1024:
        return False
    try:
        body = records.unpacked(delivery).strip()
        if body.strip(b'"') in (b"test", b"tests"):
            return True
        document = orjson.loads(body)
    except (orjson.JSONDecodeError, records.Refused):
        return False
    return (
        isinstance(document, dict) and set(document) <= {"content", "filename"} and document.get("content") == "tests"
    )
