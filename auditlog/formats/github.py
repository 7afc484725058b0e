"""GitHub's audit log: events as it is streamed (Splunk's event collector, JSON lines of a bucket) and as its API lists
them.

Verified: field names in GitHub's documentation ("Audit log events for your enterprise", "Audit log events for agents",
read 2026-11). Not verified: a live stream; which fields a stream fills for a given event.

Who acts: `actor`. Where `actor_is_agent` says so it is an agent, and acts for `user`, who "initiated the agentic
event"; the agent's session is `agent_session_id`. A bot is a service. An account that used a token or an app
(`programmatic_access_type`) is unknown: whoever holds the token, a person or an agent, acts so. Only one that GitHub
says is neither bot nor agent, in a session of its own, is taken for a person: a merge by it is that person's answer at
the merge gate (verb `deployment.merge`); a merge by anybody else says nothing of a gate.

Chain order: two hops at most, the human (`user`) outside of the actor. There are no grants in this log.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import ARRIVAL, Event, Gate, Kind, Party, Payload
from auditlog.core.wire.redaction import NEVER_STORED
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
    outcome_of,
    party,
    told_in_utc,
    type_or_other,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
# Of a record of Copilot's use `body` is the whole prompt or answer.
REMOVED = NEVER_STORED | {"body"}
_CREDENTIALS = (
    "personal_access_token.",
    "oauth_access.",
    "public_key.",
    "deploy_key.",
    "ssh_certificate_authority.",
    "integration_installation.",
)
_ENDS = {"create": "credential.issued", "access_granted": "credential.issued", "regenerate": "credential.rotated", "credential_regenerated": "credential.rotated",
         "credential_revoked": "credential.revoked", "update": "credential.rotated",
         "destroy": "credential.revoked", "revoke": "credential.revoked", "access_revoked": "credential.revoked", "delete": "credential.revoked"}  # fmt: skip

ABOUT = About(
    title="GitHub audit log",
    sent="POST of events as JSON: Splunk's event collector ({event: ..}), one, lines, an array; gzip",
    authentication="a static token in the Authorization header (Splunk <token> or Bearer <token>); GitHub does not sign",
    grade="D",
    carries="merges, pull requests, repositories, branch protection and its overrides, credentials; what agents did, with their session",
    chains="an agent (actor_is_agent) acts for user; else the actor alone. Joined by agent_session_id and request_id",
    lacks="a signature, grants, money; who holds a token that was used",
    tested="events made to the field names of GitHub's documentation (2026-11); no samples are published",
    against=("docs.github.com, audit log events for your enterprise and for agents, 2026-11",),
    connect=(
        "In the enterprise's settings open Audit log > Log streaming, and stream to a bucket (S3, GCS, Azure).",
        "Have a job on the bucket POST each file to {address}, with Authorization: Bearer <the value of {secret}>.",
        "Or choose Splunk, with the value of {secret} as its token, and have a proxy hand /services/collector on to"
        " that address.",
        "Switch on the disclosure of source IP addresses, if those who are logged may be told apart by them.",
    ),
)


class Entry(Struct, rename={"document_id": "_document_id", "timestamp": "@timestamp"}):
    document_id: int | str | None = None
    timestamp: int | float | str | None = None
    created_at: int | float | str | None = None
    action: str = ""
    actor: str | None = None
    actor_is_agent: bool | None = None
    actor_is_bot: bool | None = None
    agent_session_id: str | None = None
    user: str | None = None
    org: Any = None
    business: Any = None
    repo: str | None = None
    repository: str | None = None
    pull_request_url: str | None = None
    pull_request_id: int | str | None = None
    # Signs of a token or an app. Whatever stands in them, it was not done by hand in the browser.
    programmatic_access_type: Any = None
    token_id: Any = None
    hashed_token: Any = None
    token_scopes: Any = None
    oauth_application_id: Any = None
    actor_ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    github_request_id: str | None = None
    event_id: str | None = None
    type: str = ""  # of a record of Copilot's use: request or response
    conclusion: Any = None  # of a workflow's run
    endpoint: str | None = None
    user_id: int | str | None = None


class Collected(Struct):
    """Splunk's event collector puts an event under `event`; of an event itself that is no field."""

    event: msgspec.Raw = msgspec.Raw()


_entry = msgspec.json.Decoder(Entry).decode
_collected = msgspec.json.Decoder(Collected).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(
        delivery,
        sender,
        lambda raw: records.stated(raw, sender, parse=parse, grade="D", names=REMOVED),
        wrappers=("entries", "data", "records"),
    )


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    inside = bytes(decoded(_collected, raw, "an event of GitHub's audit log").event)
    said = decoded(_entry, inside if inside[:1] == b"{" else raw, "an event of GitHub's audit log")
    at = told_in_utc(said.timestamp if said.timestamp is not None else said.created_at)
    id = fitted(said.document_id or said.event_id) or digest_id(raw)
    if not said.action:
        return _usage(said, id, at, sender)
    actor = party(sender.issuer, said.actor, _kind(said))
    principal = _principal(said, actor, sender)
    native = _type(said)
    merged = said.action == "pull_request.merge"
    gate = (
        Gate("merge", by=actor, at=None if at == ARRIVAL else at.timestamp())
        if merged and actor and actor.kind == "human"
        else None
    )
    payload = Payload(
        outcome=_OUTCOMES.get(said.action.rpartition(".")[2]) or ("success" if said.conclusion is None else outcome_of(said.conclusion)),
        mode="delegation" if principal and actor and principal.key != actor.key else "direct",
        actor=acting([principal if actor and actor.kind == "agent" else None, actor]),
        action=action(
            ("deployment.merge" if merged else said.action) if native == "action.performed" else "", provider=sender.provider, account=_name(said.org) or _name(said.business),
            target=_target(said),
            resource=said.repo or said.repository,
        ),
        token=fitted(said.token_id) or None,
        session=fitted(said.agent_session_id),
        request_id=fitted(said.request_id),
        call=called(said.action),
        client=client(said.actor_ip, said.user_agent),
        gate=gate,
    )  # fmt: skip
    return event(sender, id=id, type=native, at=at, payload=payload, principal=principal)


# What GitHub logs because it did not happen.
_OUTCOMES: dict[str, Literal["denied", "failure"]] = {
    "rejected_ref_update": "denied",
    "failed_login": "failure",
    "verification_failure": "failure",
}


def _target(said: Entry) -> tuple[str, int | str]:
    for kind, id in (("pull_request", said.pull_request_url or said.pull_request_id), ("repository", said.repo or said.repository), ("organization", _name(said.org)),
                     ("enterprise", _name(said.business))):  # fmt: skip
        if id:
            return kind, id
    return "", ""


def _kind(said: Entry) -> Kind:
    if said.actor_is_agent:
        return "agent"
    if said.actor_is_bot:
        return "service"
    in_person = (
        said.actor_is_agent is False
        and said.actor_is_bot is False
        and said.agent_session_id is None
        and all(sign in (None, "") for sign in _signs(said))
    )
    return "human" if in_person else "unknown"


def _signs(said: Entry) -> tuple[Any, ...]:
    """Of an access token or an app (GitHub: identifying audit log events performed by an access token)."""
    return (
        said.programmatic_access_type,
        said.token_id,
        said.hashed_token,
        said.token_scopes,
        said.oauth_application_id,
    )


def _principal(said: Entry, actor: Party | None, sender: Sender) -> Party | None:
    """Of an agent the user who began its session; of a person itself. `user` is else whom the event is about."""
    if actor is not None and actor.kind == "agent":
        return party(sender.issuer, said.user, "human") if said.user != said.actor else None
    return actor if actor is not None and actor.kind == "human" else None


def _type(said: Entry) -> str:
    if said.action.startswith(_CREDENTIALS) and (native := _ENDS.get(said.action.rpartition(".")[2])):
        return native
    return "action.performed"


def _usage(said: Entry, id: str, at: Any, sender: Sender) -> Event:
    """A record of Copilot's use: kept under its own name, without the prompt."""
    if not said.endpoint and not said.type:
        raise MalformedEvent("expected an action")
    payload = Payload(
        outcome="unknown",
        action=action(provider=sender.provider, resource=said.endpoint),
        request_id=fitted(said.github_request_id),
    )
    native = type_or_other("", sender, f"usage.{said.type or 'record'}")
    return event(sender, id=id, type=native, at=at, payload=payload, principal=party(sender.issuer, said.user_id))


def _name(value: Any) -> str:
    """An organisation; of an event about several, none of them."""
    return fitted(value) if isinstance(value, str) else ""
