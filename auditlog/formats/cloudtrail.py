"""AWS CloudTrail records (JSON): one, lines, an array, or a log file's `{"Records": [...]}`; EventBridge's `detail` too.

Verified: the shape of `userIdentity`, in AWS's reference and published samples (eventVersion 1.05 to 1.08). Not
verified: which of AWS's own agents fill `onBehalfOf`. CloudTrail's digest files, which are signed, are not read: the
records were posted by somebody who fetched them (grade E).

Chain order: a role session acts. `sourceIdentity`, set when the first role was assumed and carried through every
later one, is the oldest hop; then the identity that assumed the role, where the record is the AssumeRole itself. The
session's access key id is the token: an AssumeRole states it with its parent, the caller's key, and so sessions link.
"""

from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Event, Kind, Party, Payload, TokenObject
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    event,
    fitted,
    inner,
    instant,
    party,
    seconds,
    shown,
    verb_of,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
_ASSUMES = frozenset(
    "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity GetFederationToken GetSessionToken AssumeRoot".split()
)
_DENIALS = ("AccessDenied", "UnauthorizedOperation", "Client.UnauthorizedOperation", "AccessDeniedException")
_DOMAINS = {
    "RegisterDomain": "domain.registered",
    "RenewDomain": "domain.renewed",
    "TransferDomain": "domain.transferred",
    "DeleteDomain": "domain.deleted",
    "CheckDomainAvailability": "domain.checked",
}
_CREDENTIALS = {"CreateAccessKey": "credential.issued", "DeleteAccessKey": "credential.revoked"}

ABOUT = About(
    title="AWS CloudTrail",
    sent='POST of records as JSON: a log file ({"Records": [...]}), lines, an array, or EventBridge events; gzip',
    authentication="a static token in the Authorization header",
    grade="E",
    carries="every API call with who made it; role sessions, domains at Route 53, access keys",
    chains="sourceIdentity is the oldest hop, the role session acts; AssumeRole links a session's key to its caller's",
    lacks="money; a check of CloudTrail's signed digest files; the agent inside a session unless it set sourceIdentity",
    tested="records made to AWS's reference of userIdentity",
    connect=(
        "Create an EventBridge rule for 'AWS API Call via CloudTrail', or a job on your trail's bucket.",
        "Target: an API destination with {address}, method POST.",
        "Connection: API key, name Authorization, value: Bearer <the value of {secret}>.",
        "Have agents set a source identity when they assume a role, so that the human is in every record.",
    ),
)


class Identity(Struct):
    type: str | None = None
    principalId: str | None = None
    arn: str | None = None
    accountId: str | None = None
    accessKeyId: str | None = None
    userName: str | None = None
    invokedBy: str | None = None
    sessionContext: dict[str, Any] | None = None
    onBehalfOf: dict[str, Any] | None = None


class Call(Struct):
    eventID: str
    eventTime: str
    eventName: str
    eventSource: str = ""
    userIdentity: Identity | None = None
    sourceIPAddress: str | None = None
    userAgent: str | None = None
    requestParameters: dict[str, Any] | None = None
    responseElements: dict[str, Any] | None = None
    errorCode: str | None = None
    errorMessage: str | None = None
    requestID: str | None = None
    recipientAccountId: str | None = None
    resources: list[Any] | None = None
    sharedEventID: str | None = None


class Notified(Struct):
    """An EventBridge event around one record."""

    detail: Call


_call = msgspec.json.Decoder(Call).decode
_notified = msgspec.json.Decoder(Notified).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(
        delivery, sender, lambda raw: records.stated(raw, sender, parse=parse, grade="E"), wrappers=("Records",)
    )


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    wrapped = b'"detail-type"' in raw
    said = (
        decoded(_notified, raw, "an EventBridge event of CloudTrail").detail
        if wrapped
        else decoded(_call, raw, "a CloudTrail record")
    )
    if not said.eventID or not said.eventName:
        raise MalformedEvent("expected an eventID and an eventName")
    identity = said.userIdentity or Identity()
    caller, source = _caller(identity, sender), _source_identity(said, identity, sender)
    outcome = "success" if not said.errorCode else "denied" if said.errorCode in _DENIALS else "failure"
    native, token = _type(said, outcome), fitted(identity.accessKeyId) or None
    actor = acting([source, caller])
    if native == "token.exchanged":
        token = _session_token(said, identity, caller, source, sender) or token
    service = said.eventSource.partition(".")[0]
    operation = f"{service}.{said.eventName}"
    payload = Payload(
        outcome=outcome,
        mode="delegation" if source else "direct",
        actor=actor,
        action=action(verb_of(native, operation), provider=sender.provider,
                      account=said.recipientAccountId or identity.accountId,
                      target=_target(said, service), resource=_domain(said)),
        token=token,
        session=fitted(inner(identity.sessionContext, "sessionIssuer", "principalId") and identity.principalId),
        call=called(operation, error=said.errorCode),
        request_id=fitted(said.requestID),
        client=client(said.sourceIPAddress, said.userAgent),
    )  # fmt: skip
    return event(sender, id=fitted(said.eventID), type=native, at=instant(said.eventTime), payload=payload,
                 principal=source or (caller if caller and caller.kind == "human" else None))  # fmt: skip


def _type(said: Call, outcome: str) -> str:
    if said.eventSource == "sts.amazonaws.com" and said.eventName in _ASSUMES:
        return "token.exchanged" if outcome == "success" else "token.exchange_failed"
    if said.eventSource == "signin.amazonaws.com" and said.eventName == "ConsoleLogin":
        return "session.started"
    if said.eventSource == "route53domains.amazonaws.com" and said.eventName in _DOMAINS:
        registers = said.eventName == "RegisterDomain"
        return "domain.registration_failed" if registers and outcome != "success" else _DOMAINS[said.eventName]
    if said.eventSource == "iam.amazonaws.com" and said.eventName in _CREDENTIALS and outcome == "success":
        return _CREDENTIALS[said.eventName]
    return "action.performed" if outcome == "success" else "action.denied"


def _caller(identity: Identity, sender: Sender) -> Party | None:
    """The identity of the credentials. A user may be a person or a program: AWS does not say, so neither do we."""
    kind: Kind = "unknown"
    if identity.type in ("AssumedRole", "Role", "WebIdentityUser", "SAMLUser", "FederatedUser"):
        kind = "workload"
    elif identity.type in ("AWSService", "AWSAccount"):
        kind = "service"
    elif identity.type == "IdentityCenterUser":
        kind = "human"
    name = (
        identity.arn
        or inner(identity.onBehalfOf, "userId")
        or identity.invokedBy
        or identity.principalId
        or identity.userName
    )
    return party(sender.issuer, name, kind)


def _source_identity(said: Call, identity: Identity, sender: Sender) -> Party | None:
    """Who first assumed a role: in the session, or asked for by this very AssumeRole."""
    name = inner(identity.sessionContext, "sourceIdentity") or inner(identity.onBehalfOf, "userId")
    if not name and said.eventName in _ASSUMES:
        name = inner(said.requestParameters, "sourceIdentity")
    return party(sender.issuer, name) if identity.type != "IdentityCenterUser" else None


def _session_token(
    said: Call, identity: Identity, caller: Party | None, source: Party | None, sender: Sender
) -> TokenObject | None:
    """The session's credentials by their access key id; the secret parts were removed before this."""
    made = inner(said.responseElements, "credentials")
    key = fitted(inner(made, "accessKeyId"))
    if not key:
        return None
    session = inner(said.responseElements, "assumedRoleUser", "arn") or inner(
        said.responseElements, "federatedUser", "arn"
    )
    return TokenObject(
        jti=key,
        parent_jti=fitted(identity.accessKeyId) or None,
        subject=source or caller,
        actor=acting([source, caller, party(sender.issuer, session, "workload")]),
        scope=shown(inner(said.requestParameters, "roleArn")) or None,
        issued_at=seconds(said.eventTime),
        expires_at=seconds(inner(made, "expiration")),
    )


def _target(said: Call, service: str) -> tuple[Any, Any]:
    first = said.resources[0] if said.resources else None
    if isinstance(first, dict) and (arn := first.get("ARN") or first.get("arn")):
        return first.get("type") or service, arn
    for name in ("roleArn", "domainName", "bucketName", "functionName", "userName", "instanceId", "tableName", "name"):
        if isinstance(value := inner(said.requestParameters, name), str):
            return name.removesuffix("Name").removesuffix("Arn").removesuffix("Id") or service, value
    return service, ""


def _domain(said: Call) -> Any:
    return inner(said.requestParameters, "domainName") if said.eventSource.startswith("route53domains") else ""
