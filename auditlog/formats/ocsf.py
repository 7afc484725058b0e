"""OCSF events (1.1 to 1.9-dev) as JSON: what Keycard exports, and any source that speaks the SIEM's tongue.

Verified: class and activity numbers, field names, against published samples and the schema. Not verified: which
fields Keycard fills for sessions and delegation; its own export is Parquet, so what comes here was turned into JSON
by somebody else. It was fetched from a bucket, not sent by the one who wrote it: grade E.

Chain order: OCSF's `delegation` is a graph of parent pointers (`uid`, `parent_uid`), not a list: it becomes our
grant and parent grant, and the chain is built from those. With `ai_agent`, the agent acts and `actor.user` is who it
acts for; without, `actor.user` acts. 1.7 has no place for either, so both are looked for under `unmapped` as well.

What another Answerable wrote (core/ocsf_out.py) says under `unmapped.answerable` what OCSF has no words for, and is
read from there: the same type, outcome, parties with their issuers, and money.
"""

from typing import Any, get_args

import msgspec
from msgspec import Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Actor, Event, GrantObject, Kind, Money, Outcome, Party, Payload
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    digest_id,
    event,
    fitted,
    inner,
    is_denial,
    outcome_of,
    party,
    seconds,
    told_at,
    type_or_other,
    verb_of,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical

# class_uid, activity_id: ours. The classes our own export uses, read the other way round.
_TYPES: dict[tuple[int, int], str] = {
    (3002, 1): "session.started",
    (3002, 2): "session.ended",
    (3002, 3): "token.issued",  # authentication ticket
    (3002, 4): "token.issued",  # service ticket
    (3001, 1): "account.created",
    (3003, 1): "delegation.granted",
    (3003, 2): "delegation.granted",
    (3005, 1): "delegation.granted",
    (3005, 2): "delegation.revoked",
}
_DENIED = {"delegation.granted": "delegation.denied", "action.performed": "action.denied"}
_AUTHENTICATION, _API_ACTIVITY = 3002, 6003
_OUTCOMES = {1: "success", 2: "failure"}
_DENIED_ACTION = 2
_DENIED_DISPOSITIONS, _ERROR_DISPOSITION = (2, 6, 25, 26), 27  # blocked, dropped, rejected, unauthorized
_WORDS = {"success": "success", "succeeded": "success", "failure": "failure", "failed": "failure", "denied": "denied"}

ABOUT = About(
    title="OCSF (Keycard's export, SIEM exports)",
    sent="POST of OCSF events as JSON: one, JSON lines or an array; Parquet has to be turned into JSON first",
    authentication="a static token in the Authorization header",
    grade="E",
    carries="API activity, logins, privileges granted and revoked, accounts created; other classes as other.*",
    chains="delegation.uid and parent_uid become grants with parents; ai_agent acts for actor.user",
    lacks="money (OCSF has no class for payments); a signature; before 1.9 a field for agents and delegation",
    tested="OCSF's published samples: API activity, account change, authentication",
    against=("ocsf/examples, 2026-11", "ocsf-json-schema 1.2.0"),
    connect=(
        "Where the export lands (Keycard: your S3 bucket), run a job on each new file that turns it into JSON lines.",
        "Have it POST them to {address}, up to 20,000 a time, gzip if you like (Content-Encoding: gzip).",
        "Send the header Authorization: Bearer <the value of {secret}>.",
    ),
)


class Ocsf(Struct):
    class_uid: int
    time: int | float | str | None = None
    time_dt: str | None = None  # the same, of the datetime profile
    activity_id: int | None = None
    activity_name: str | None = None
    type_name: str | None = None
    # What says how it went: of another type it is not absent, but not understood.
    status_id: Any = None
    status: Any = None
    status_code: str | None = None
    status_detail: str | None = None
    action_id: Any = None
    disposition_id: Any = None
    disposition: Any = None
    metadata: dict[str, Any] | None = None
    actor: dict[str, Any] | None = None
    user: dict[str, Any] | None = None
    api: dict[str, Any] | None = None
    src_endpoint: dict[str, Any] | None = None
    http_request: dict[str, Any] | None = None
    resources: list[Any] | None = None
    session: dict[str, Any] | None = None
    ai_agent: dict[str, Any] | None = None
    delegation: dict[str, Any] | None = None
    unmapped: Any = None


_ocsf = msgspec.json.Decoder(Ocsf).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(
        delivery,
        sender,
        lambda raw: records.stated(raw, sender, parse=parse, grade="E"),
        wrappers=("events",),
        carried=True,
    )


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_ocsf, raw, "an OCSF event")
    if said.class_uid <= 0:
        raise MalformedEvent(f"expected a class_uid, found {said.class_uid}")
    own = inner(said.unmapped, "answerable") if inner(said.metadata, "product", "vendor_name") == "Answerable" else None
    if isinstance(own, dict) and isinstance(own.get("type"), str):
        return _own(raw, said, own, sender)
    native, outcome = _meaning(said, sender)
    actor, principal = _who(said, sender)
    session = inner(said.actor, "session", "uid") or inner(said.session, "uid")
    operation = inner(said.api, "operation") or said.activity_name
    target, resource = _target(said)
    payload = Payload(
        outcome=outcome,
        mode="delegation" if principal and actor and principal.key != actor.key else "direct",
        actor=actor,
        action=action(verb_of(native, operation), provider=sender.provider,
                      account=inner(said.actor, "user", "account", "uid"),
                      target=target, resource=resource),
        grant=_grant(said, native, principal, actor),
        session=fitted(session),
        call=called(operation),
        request_id=fitted(inner(said.api, "request", "uid")),
        trace_id=fitted(inner(said.metadata, "correlation_uid")),
        client=client(inner(said.src_endpoint, "ip"), inner(said.http_request, "user_agent")),
    )  # fmt: skip
    id = fitted(inner(said.metadata, "uid")) or digest_id(raw)
    # What states when a delegation was made is not itself the making of it: a change or a later export may say it
    # again.
    dated = not (isinstance(payload.grant, GrantObject) and payload.grant.not_before is not None)
    return event(
        sender,
        id=id,
        type=native,
        at=told_at(said.time if said.time not in (None, "") else said.time_dt),
        payload=payload,
        principal=principal,
        dated=dated,
    )


def _own(raw: bytes, said: Ocsf, own: dict[str, Any], sender: Sender) -> Event:
    """Of our own making: OCSF's fields say the same with fewer words."""
    actor, principal = _party_of(own.get("actor")), _party_of(own.get("principal"))
    native = own["type"] if own["type"].startswith("other.") else type_or_other(own["type"], sender, own["type"])
    delegated = own.get("delegated")
    grant: GrantObject | str | None = fitted(own.get("via_grant") or own.get("grant")) or None
    dated = True
    if native == "delegation.granted" and inner(delegated, "grant"):
        subject, receiver = _party_of(inner(delegated, "subject")), _party_of(inner(delegated, "actor"))
        graph = inner(said.unmapped, "delegation")
        grant = GrantObject(
            id=fitted(inner(delegated, "grant")), parent=fitted(inner(graph, "parent_uid")) or None, subject=subject, actor=receiver,
            not_before=seconds(inner(delegated, "not_before")), expires_at=seconds(inner(graph, "expiration_time")),
        )  # fmt: skip
        dated = inner(graph, "created_time") is not None  # where nobody had said when it was given, we do not either
    payload = Payload(
        outcome=own["outcome"] if own.get("outcome") in get_args(Outcome) else "unknown",
        environment="test" if own.get("environment") == "test" else "live",
        mode=own["mode"] if own.get("mode") in ("delegation", "impersonation", "direct") else "delegation",
        actor=acting([actor]),
        action=action(own.get("verb"), provider=own.get("provider") or sender.provider, account=own.get("account"),
                      target=(own.get("target_type"), own.get("target")), resource=own.get("resource")),
        grant=grant,
        token=fitted(own.get("token")) or None,
        session=fitted(own.get("session")),
        task=fitted(own.get("task")),
        project=fitted(own.get("project")),
        call=called(own.get("operation"), idempotency_key=own.get("idempotency_key")),
        request_id=fitted(own.get("request_id")),
        trace_id=fitted(own.get("trace_id")),
        client=client(inner(said.src_endpoint, "ip"), inner(said.http_request, "user_agent")),
        money=_money(own.get("money")),
    )  # fmt: skip
    id = fitted(inner(said.metadata, "uid")) or digest_id(raw)
    return event(
        sender,
        id=id,
        type=native[:200],
        at=told_at(said.time),
        payload=payload,
        txn=fitted(own.get("txn")),
        principal=principal,
        dated=dated,
    )


def _party_of(said: Any) -> Party | None:
    kind = inner(said, "kind")
    return party(inner(said, "iss"), inner(said, "sub"), kind if kind in get_args(Kind) else "unknown")


def _money(said: Any) -> Money | None:
    """Raises MalformedEvent: an amount that cannot be read is not left out."""
    if said is None:
        return None
    try:
        return msgspec.convert(said, Money)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"unmapped.answerable.money: {error}"[:300]) from None


def _meaning(said: Ocsf, sender: Sender) -> tuple[str, str]:
    outcome = _outcome(said)
    native = (
        "action.performed"
        if said.class_uid == _API_ACTIVITY
        else _TYPES.get((said.class_uid, said.activity_id or 0), "")
    )
    if not native:
        return type_or_other("", sender, said.type_name or f"{said.class_uid}.{said.activity_id}"), outcome
    if outcome in ("failure", "denied") and native in _DENIED:
        return _DENIED[native], "denied" if native.startswith("delegation") else outcome
    return native, outcome


def _outcome(said: Ocsf) -> str:
    """By `status_id`, which is only recommended; else by `status`, its caption, else by the response of a call. What the
    security control profile says was not let through was denied, whatever its status.

    `status_id` 0 is Unknown and 99 is Other, whose word is the sender's own.
    """
    if _number(said.action_id) == _DENIED_ACTION or _number(said.disposition_id) in _DENIED_DISPOSITIONS:
        return "denied"
    if said.disposition_id is None and outcome_of(said.disposition) == "denied":
        return "denied"
    found = _OUTCOMES.get(_number(said.status_id) or 0) or _WORDS.get(str(said.status or "").strip().lower())
    if found in (None, "failure") and said.class_uid == _API_ACTIVITY and _is_refused(said):
        return "denied"
    if found is None and said.class_uid == _API_ACTIVITY and said.status_id is None and said.status in (None, ""):
        # CloudTrail's mapping gives no status, and says `error: null` where there was none.
        error, code = inner(said.api, "response", "error"), inner(said.api, "response", "code")
        number = 200 if code is None else _number(code)
        found = "failure" if error or (number or 0) >= 400 else "unknown" if number is None else "success"
    unread = any(given is not None and _number(given) is None for given in (said.action_id, said.disposition_id))
    if found == "success" and (unread or _number(said.disposition_id) == _ERROR_DISPOSITION):
        return "unknown" if unread else "failure"
    return found or "unknown"


def _number(value: Any) -> int | None:
    """An enumeration's number, which some exporters write as text or as a float."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _is_refused(said: Ocsf) -> bool:
    """Whether a call's response has the service's word for it that the caller may not.

    OCSF has no status for that: a refused call is a Failure with its reason beside it. An HTTP code alone says less.
    """
    response = inner(said.api, "response")
    words = (inner(response, "error"), inner(response, "message"), said.status_code, said.status_detail)
    return any(map(is_denial, words))


def _who(said: Ocsf, sender: Sender) -> tuple[Actor | None, Party | None]:
    """The current actor, and the principal where somebody else acts for it. Of a sign-in `user` is who signs in, and
    `actor`, where there is one, who asked for it.
    """
    user = asked = _user(inner(said.actor, "user"), sender)
    if said.class_uid == _AUTHENTICATION:
        user = _user(said.user, sender) or user
    agent = said.ai_agent or inner(said.unmapped, "ai_agent")
    acts = party(sender.issuer, inner(agent, "uid"), "agent")
    if acts is not None:
        return acting([acts]), user
    return acting([asked or user]), user if user and user.kind == "human" else None


def _user(user: Any, sender: Sender) -> Party | None:
    """Kinds by `type_id` (1 user, 2 admin, 3 system, 4 service); a bare type name is no proof that it is a human."""
    number = inner(user, "type_id")
    kind: Kind = "human" if number in (1, 2) else "service" if number in (3, 4) else "unknown"
    return party(sender.issuer, inner(user, "uid") or inner(user, "name"), kind)


def _grant(said: Ocsf, native: str, principal: Party | None, actor: Actor | None) -> GrantObject | str | None:
    delegation = said.delegation or inner(said.unmapped, "delegation")
    uid = fitted(inner(delegation, "uid"))
    if not uid or native != "delegation.granted":
        return uid or None
    return GrantObject(
        id=uid,
        parent=fitted(inner(delegation, "parent_uid")) or None,
        subject=principal,
        actor=actor.party if actor else None,
        not_before=seconds(inner(delegation, "created_time")),
        expires_at=seconds(inner(delegation, "expiration_time")),
    )


def _target(said: Ocsf) -> tuple[tuple[Any, Any], Any]:
    first = said.resources[0] if said.resources else None
    if isinstance(first, dict) and (first.get("uid") or first.get("name")):
        return (first.get("type") or "resource", first.get("uid") or first.get("name")), first.get("name")
    if said.user:
        return ("user", said.user.get("name") or said.user.get("uid")), ""
    return ("service", inner(said.api, "service", "name")), ""
