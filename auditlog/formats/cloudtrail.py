"""AWS CloudTrail records (JSON): one, lines, an array, or a log file's `{"Records": [...]}`; EventBridge's `detail`
too.

Verified: the shape of `userIdentity`, in AWS's reference and published samples (eventVersion 1.05 to 1.08); the string
that a digest file's signature is over, in AWS's "Custom implementations of CloudTrail log file integrity validation".
Not verified: which of AWS's own agents fill `onBehalfOf`; a digest that AWS signed.

Records are posted by somebody who fetched them: grade E. Posted together with the digest file that names their log
files, {digest, signature, logs: {<S3 object>: <text>}}, they are proven by AWS's signature: the digest's RSA signature
is checked, and each log file by its SHA-256 (grade B). A log file that the digest names and the delivery lacks is told
by the digest's own event. Digest files of one trail and region are a stream: each is numbered by the time in its file
name (20261120T110000Z is 20261120110000), and names the one before it under AWS's signature, so one that was removed
between two is noticed. What is stored of a record shows the signature and the file's digest; that the record stands in
that file can be checked by whoever has the file.

Chain order: a role session acts. `sourceIdentity`, set when the first role was assumed and carried through every
later one, is the oldest hop; then the identity that assumed the role, where the record is the AssumeRole itself. The
session's access key id is the token: an AssumeRole states it with its parent, the caller's key, and so sessions link.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from auditlog.core.document import read_document
from auditlog.core.errors import BadSignature, MalformedEvent, Refused, UnknownKey, UnknownKid
from auditlog.core.event import UNREADABLE, Event, Kind, Party, Payload, Sequence, TokenObject
from auditlog.core.wire.keys import Key
from auditlog.core.wire.redaction import NEVER_STORED
from auditlog.core.wire.static_token import check_static_token
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
    inner,
    is_denial,
    outcome_of,
    party,
    seconds,
    shown,
    told_in_utc,
    type_or_other,
    verb_of,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
# Secrets Manager's values, a one-time code, what an instance is started with, decrypted data: AWS leaves most of them out.
REMOVED = NEVER_STORED | {"secretstring", "secretbinary", "tokencode", "userdata", "plaintext"}
_ASSUMES = frozenset(
    "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity GetFederationToken GetSessionToken AssumeRoot".split()
)
# AWS's name of a digest file: whose and which trail's, when it ends, and whether it is one for log files that came
# late.
_DIGEST_NAME = re.compile(
    r"(?:\A|/)(?P<trail>[^/]{1,400})_(?P<day>\d{8})T(?P<time>\d{6})Z(?P<kind>_backfill)?(?:\.json)?(?:\.gz)?\Z",
    re.ASCII,
)
_JAVA_DATE = re.compile(r"([A-Z][a-z]{2}) (\d{1,2}), (\d{4}),? (\d{1,2}):(\d\d):(\d\d) ([AP])M\Z")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
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
    sent='POST of records as JSON: a log file ({"Records": [...]}), lines, an array, EventBridge events, what'
    " lookup-events prints, rows of CloudTrail Lake, a subscription of CloudWatch Logs; gzip",
    authentication="a static token in the Authorization header",
    grade="E; B with the signed digest file that names the log file",
    carries="every API call with who made it; role sessions, domains at Route 53, access keys; Insights as other.*",
    chains="sourceIdentity is the oldest hop, the role session acts; AssumeRole links a session's key to its caller's",
    lacks="money; the agent inside a session unless it set sourceIdentity; digest files removed before the first that was posted, after"
    " the last, or right before the trail was started anew",
    tested="records made to AWS's reference of userIdentity; digests signed as AWS describes it",
    against=("docs.aws.amazon.com/awscloudtrail (userIdentity, log file validation), 2026-11",),
    connect=(
        "Create an EventBridge rule for 'AWS API Call via CloudTrail', or a job on your trail's bucket.",
        "Target: an API destination with {address}, method POST.",
        "Connection: API key, name Authorization, value: Bearer <the value of {secret}>.",
        "Have agents set a source identity when they assume a role, so that the human is in every record.",
        'To prove that no log file was changed or removed, post each hourly digest file with the log files that it names: {{"digest": "<its text>", '
        '"signature": "<its x-amz-meta-signature>", "logs": {{"<S3 object>": "<its text>"}}}}, and give the keys of ListPublicKeys as JWKs (kid: the fingerprint).',
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
    eventID: str = ""
    eventTime: str | None = None
    eventName: str = ""
    eventType: str = ""
    eventCategory: str = ""
    eventSource: str = ""
    userIdentity: Identity | None = None
    sourceIPAddress: str | None = None
    userAgent: str | None = None
    requestParameters: dict[str, Any] | None = None
    responseElements: dict[str, Any] | None = None
    serviceEventDetails: dict[str, Any] | None = None
    # An error of another type is an error all the same.
    errorCode: Any = None
    errorMessage: Any = None
    requestID: str | None = None
    recipientAccountId: str | None = None
    resources: list[Any] | None = None
    sharedEventID: str | None = None


class Record(Call):
    """A record, or an EventBridge event around one; of a digest file what tells it from both."""

    detail: Call | None = None
    digestS3Object: str = ""


class Digest(Struct):
    """A digest file: the log files of an hour with their hashes, signed over the digest before it."""

    digestEndTime: str
    digestS3Bucket: str
    digestS3Object: str
    digestPublicKeyFingerprint: str = ""
    previousDigestS3Object: str | None = None
    previousDigestSignature: str | None = None
    awsAccountId: str | None = None
    logFiles: list[dict[str, Any]] = []


class Proven(Struct):
    """A delivery of a digest file with the log files that it names. All three as they lie in the bucket, unpacked."""

    digest: str
    signature: str
    logs: dict[str, str] = {}


class Row(Struct):
    """A record inside of a row: as LookupEvents gives it (a text beside a summary), as CloudTrail Lake does."""

    CloudTrailEvent: str = ""
    eventData: msgspec.Raw = msgspec.Raw()


_record = msgspec.json.Decoder(Record).decode
_row = msgspec.json.Decoder(Row).decode
_digest = msgspec.json.Decoder(Digest).decode
_proven = msgspec.json.Decoder(Proven).decode
_CAMEL = {name.lower(): name for struct in (Call, Identity) for name in struct.__struct_fields__}


def receive(delivery: Delivery, sender: Sender) -> Received:
    body = records.unpacked(delivery)
    if body[:1] == b"{" and _is_proven(body):
        check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
        return _with_digest(body, sender)
    return records.received(
        Delivery(body, delivery.content_type, delivery.headers),
        sender,
        lambda raw: records.stated(_inside(raw), sender, parse=parse, grade="E", names=REMOVED),
        wrappers=("Records", "Events"),
        carried=True,
    )


def _inside(raw: bytes) -> bytes:
    """The record of a row, or the record as it is."""
    if b'"CloudTrailEvent"' not in raw and b'"eventData"' not in raw:
        return raw
    try:
        row = _row(raw)
    except UNREADABLE:
        return raw
    data = bytes(row.eventData)
    return row.CloudTrailEvent.encode() or (data if data[:1] == b"{" else records.text_of(data)) or raw


def check_stored(raw: bytes, headers: bytes, sender: Sender) -> None:
    """Check the digest's signature again, by which a stored record or digest is proven. Raises Refused."""
    told = records.told(headers)
    if "digest-string" not in told:
        raise UnknownKey("no digest file came with this record")
    _check_signature(told["digest-string"], told.get("digest-signature", ""), told.get("digest-key", ""), sender)


def _is_proven(body: bytes) -> bool:
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return False
    return "digest" in members and "signature" in members


def _with_digest(body: bytes, sender: Sender) -> Received:
    """The digest's own statement, and each record of its log files. Raises BadSignature for a forged digest or log
    file.
    """
    given = decoded(_proven, body, "{digest, signature, logs}")
    raw = given.digest.encode()
    digest = decoded(_digest, raw, "a CloudTrail digest file")
    string = "\n".join((
        digest.digestEndTime, f"{digest.digestS3Bucket}/{digest.digestS3Object}", sha256(raw).hexdigest(), digest.previousDigestSignature or "null",
    ))  # fmt: skip
    key = _check_signature(string, given.signature, digest.digestPublicKeyFingerprint, sender)
    proof = {
        "digest-string": string,
        "digest-signature": given.signature.strip().lower(),
        "digest-key": digest.digestPublicKeyFingerprint,
    }
    named = {str(one.get("s3Object")): str(one.get("hashValue", "")).lower() for one in digest.logFiles}
    if strange := sorted(given.logs.keys() - named.keys()):
        raise MalformedEvent(f"the digest names no log file {strange[0][:200]!r}")
    missing = sorted(named.keys() - given.logs.keys())
    about = proof | ({"missing": ", ".join(missing)[:4000], "missing-count": str(len(missing))} if missing else {})
    stated = records.stated(raw, sender, parse=parse, grade="B", key=key.thumbprint, headers=about)
    statements: dict[str, Statement | Refused] = {stated.source_event_id: stated}
    # Every file is held to its hash before one is read: a changed file is a forgery, an unreadable one hurts no other.
    for name, text in given.logs.items():
        if sha256(text.encode()).hexdigest() != named[name]:
            raise BadSignature(f"the SHA-256 of log file {name[:200]!r} is not the one that its digest file names")
    for name, text in given.logs.items():
        file = proof | {"log-file": name[:1000], "log-file-sha256": named[name]}
        try:
            found, _ = records.split(Delivery(text.encode(), "application/json", {}), wrappers=("Records",))
            received = records.each(
                found,
                lambda raw, file=file: records.stated(
                    raw, sender, parse=parse, grade="B", key=key.thumbprint, names=REMOVED, headers=file
                ),
            )
        except Refused as refused:
            statements[f"log file {name[:400]}"] = refused
        else:
            statements |= received.statements
    return Received(statements, batch=True)


def _check_signature(string: str, signature: str, fingerprint: str, sender: Sender) -> Key:
    key = sender.keys.get(fingerprint) or (next(iter(sender.keys.values())) if len(sender.keys) == 1 else None)
    if key is None:
        raise UnknownKid(f"key {fingerprint[:80]!r} is not one of this source's keys (CloudTrail's ListPublicKeys)")
    try:
        key.check_for("RS256")(string.encode(), bytes.fromhex(signature.strip()))
    except ValueError:
        raise BadSignature("the digest file's signature is not hexadecimal") from None
    except BadSignature:
        raise BadSignature("the digest file's signature does not fit it") from None
    return key


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said: Call = decoded(_record, raw, "a CloudTrail record")
    if isinstance(said, Record) and not said.eventID:
        if said.digestS3Object:
            return _digest_event(raw, records.told(headers), sender)
        said = said.detail or _lower_case(raw)
    if not said.eventID:
        raise MalformedEvent("expected an eventID")
    if not said.eventName:
        return _nameless(said, sender)
    identity = said.userIdentity or Identity()
    caller, source = _caller(identity, sender), _source_identity(said, identity, sender)
    outcome = _outcome(said)
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
        call=called(operation, error=said.errorCode or said.errorMessage),
        request_id=fitted(said.requestID),
        client=client(said.sourceIPAddress, said.userAgent),
    )  # fmt: skip
    return event(sender, id=fitted(said.eventID), type=native, at=told_in_utc(said.eventTime), payload=payload,
                 principal=source or (caller if caller and caller.kind == "human" else None))  # fmt: skip


def _outcome(said: Call) -> str:
    """By `errorCode`; a sign-in has none, and says `Failure` under its own name (IAM Identity Center's in
    `serviceEventDetails`). Only then may there be a message alone. A sign-in that says neither is unknown. What a service
    did by itself says by its name or its state that it failed (Secrets Manager's RotationFailed, a backup job's FAILED),
    and EC2 answers `_return: false`.
    """
    if said.errorCode:
        return "denied" if is_denial(said.errorCode) else "failure"
    answered = inner(said.responseElements, said.eventName) or inner(said.serviceEventDetails, said.eventName)
    if isinstance(answered, str) and (word := outcome_of(answered)) in ("failure", "denied"):
        return word
    if said.errorMessage or (said.eventType == "AwsServiceEvent" and said.eventName.endswith(_WENT_WRONG)):
        return "failure"
    for told in (
        inner(said.responseElements, "_return"),
        *(inner(said.serviceEventDetails, name) for name in ("state", "status")),
    ):
        if told is not None and (word := outcome_of(told)) != "success":
            return word
    return "unknown" if said.eventName == "ConsoleLogin" and not isinstance(answered, str) else "success"


_WENT_WRONG = ("Failed", "Failure", "Abandoned", "Aborted", "TimedOut")


def _nameless(said: Call, sender: Sender) -> Event:
    """An Insights record, or another that is no call: kept under the name that CloudTrail has for its kind."""
    kind = said.eventType or said.eventCategory
    if not kind:
        raise MalformedEvent("expected an eventName, or an eventType of what is no call")
    payload = Payload(outcome="unknown", mode="direct", action=action(provider=sender.provider, account=said.recipientAccountId),
                      request_id=fitted(said.sharedEventID))  # fmt: skip
    return event(
        sender,
        id=fitted(said.eventID),
        type=type_or_other("", sender, kind),
        at=told_in_utc(said.eventTime),
        payload=payload,
    )


def _digest_event(raw: bytes, told: dict[str, str], sender: Sender) -> Event:
    """The digest file's own event: a failure where it names log files that did not come with it."""
    digest = decoded(_digest, raw, "a CloudTrail digest file")
    missing, count = told.get("missing", ""), told.get("missing-count", "0")
    payload = Payload(
        outcome="failure" if missing else "success",
        mode="direct",
        action=action(
            "log.digest",
            provider=sender.provider,
            account=digest.awsAccountId,
            target=("log_digest", digest.digestS3Object),
        ),
        call=called(
            "log.digest", error=f"{count} of {len(digest.logFiles)} log files are missing: {missing}" if missing else ""
        ),
    )
    if "digest-string" in told:  # of others anybody with the token could fill a gap
        payload = msgspec.structs.replace(payload, sequence=_in_chain(digest))
    id = fitted(f"{digest.digestS3Bucket}/{digest.digestS3Object}{'#incomplete' if missing else ''}")
    return event(
        sender,
        id=id,
        type=type_or_other("", sender, "log_digest"),
        at=told_in_utc(digest.digestEndTime),
        payload=payload,
    )


def _in_chain(digest: Digest) -> Sequence | None:
    """Where it stands in its trail's chain of digest files. None where the names of the files do not say."""
    own, before = _DIGEST_NAME.search(digest.digestS3Object), _DIGEST_NAME.search(digest.previousDigestS3Object or "")
    if own is None or (before is None and digest.previousDigestSignature):
        return None
    if before and (before["trail"], before["kind"]) != (own["trail"], own["kind"]):
        return None
    stream = fitted(f"{own['trail']}{own['kind'] or ''}", 120)
    return Sequence(
        int(own["day"] + own["time"]),
        stream,
        previous=int(before["day"] + before["time"]) if before else None,
        begins=before is None,
    )


def _lower_case(raw: bytes) -> Call:
    """A row of a table over the log (Athena), whose columns are in lower case."""
    document = read_document(raw)
    if not isinstance(document, dict) or "eventid" not in document:
        return Call()
    named = {_CAMEL.get(name, name): value for name, value in document.items()}
    if isinstance(identity := named.get("userIdentity"), dict):
        named["userIdentity"] = {_CAMEL.get(name, name): value for name, value in identity.items()}
    return decoded(_record, orjson.dumps(named), "a CloudTrail record")


def _expiry(value: Any) -> float | None:
    """When session credentials end: as Java writes a date for Americans, in UTC, or as everybody does."""
    if isinstance(value, str) and (match := _JAVA_DATE.match(" ".join(value.split()))) and match[1] in _MONTHS:
        month, hour = _MONTHS.index(match[1]) + 1, int(match[4]) % 12 + 12 * (match[7] == "P")
        with suppress(ValueError):
            return datetime(
                int(match[3]), month, int(match[2]), hour, int(match[5]), int(match[6]), tzinfo=UTC
            ).timestamp()
    return seconds(value)


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
    return "action.denied" if outcome in ("failure", "denied") else "action.performed"


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
        expires_at=_expiry(inner(made, "expiration")),
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
