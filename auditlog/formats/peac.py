"""PEAC: a neutral third party's records of a provisioning life cycle, attestations of agents' identities, and the actor
that a record is bound to; as JSON (grade D), or as PEAC's own signed record (a compact JWS, grade A).

Verified: the published samples (peacprotocol/peac: ten observations; attestations, actor bindings and identity sets,
valid and not), and the form of the signed record as that repository's WIRE-0.2 has it (sections 2, 3, 5, 8 and 10: typ
`interaction-record+jwt`, EdDSA, `kid`, no embedded keys; observations under
`extensions["org.peacprotocol/provisioning-lifecycle"]`, the binding under `actor`). Not verified: a record that PEAC's
own code signed. Not read: the older record (`peac-receipt/0.1`), and what other extensions say (kept in the bytes; so
money in `org.peacprotocol/commerce` counts nowhere). No proof that a binding or an attestation names (certificate, DID,
SPIFFE, Sigstore, EAT) is fetched or checked: an actor is as good as the record that names it, and no better.

An observer tells what it saw; who did it is known only where the record is bound to an actor: the pair of the binding's
`origin` and `id`. Digests stand where terms, scopes and limits would, so a budget says nothing that can be counted. A
payment authorization's amount is a ceiling, never a charge. A binding by itself says neither when nor of what: it comes
in its record, or as {at, actor}.

Chain order: none. An attestation's `delegation_chain` names parties without issuers; it is kept in the bytes.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, UnknownKey, WrongIssuer
from auditlog.core.event import Actor, Event, Money, Payload
from auditlog.core.wire.cards import refuse_card_numbers
from auditlog.core.wire.jws import Jws, check_jws, key_of, open_jws
from auditlog.core.wire.redaction import refuse_secrets
from auditlog.formats import About, Delivery, Received, Sender, Statement, records
from auditlog.formats.values import (
    acting,
    action,
    canonical,
    decoded,
    digest_id,
    event,
    exactly,
    fitted,
    inner,
    instant,
    minor_units,
    party,
    told_in_text,
    type_or_other,
)

SIGNED = "application/interaction-record+jwt"
CONTENT_TYPES, ENCODINGS = (*records.CONTENT_TYPES, SIGNED), records.ENCODINGS
MAX_SIGNED = 256 * 1024  # WIRE-0.2 section 10
LIFECYCLE = "org.peacprotocol/provisioning-lifecycle"
LONGEST_VALIDITY = timedelta(days=36_525)
_EMBEDDED = ("jwk", "jku", "x5u", "x5c")
# The part of a record that an event kind is about, the reference in it, and ours by its `sub_event`.
_KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "provider-link": ("provider", "account_ref", {"": "provider.linked"}),
    "account": ("account", "account_ref", {"created": "account.created", "linked": "account.linked"}),
    "resource": ("resource", "resource_ref", {
        "requested": "resource.requested", "provisioned": "resource.provisioned", "updated": "resource.updated", "removed": "resource.removed"}),
    "credential": ("credential", "subject_ref", {"issued": "credential.issued", "rotated": "credential.rotated", "revoked": "credential.revoked"}),
    "payment-authorization": ("payment_authorization_observation", "authorization_ref", {
        "granted": "payment.authority_granted", "revoked": "payment.authority_ended", "expired": "payment.authority_ended",
        "consumed": "payment.authority_ended"}),
    "subscription": ("subscription", "subscription_ref", {
        "started": "subscription.started", "updated": "subscription.changed", "cancelled": "subscription.ended"}),
    "domain": ("domain", "domain_ref", {"registered": "domain.registered", "transferred": "domain.transferred", "released": "domain.deleted"}),
    "deployment": ("deployment", "deployment_ref", {"completed": "deployment.completed"}),
}  # fmt: skip

ABOUT = About(
    title="PEAC observations",
    sent="POST of records as JSON (one, lines or an array), or of one signed record (application/interaction-record+jwt)",
    authentication="a static token in the Authorization header; a signed record by the source's keys",
    grade="D; A for a signed record",
    carries="provider links, accounts, resources, credentials, payment ceilings, subscriptions, domains, deployments; "
    "identities and actor bindings as other.*",
    chains="none: a record may be bound to one actor, whose proof is not checked here",
    lacks="names (references stand for them); amounts of budgets; money of other PEAC records; records of the older form (0.1)",
    tested="PEAC's published provisioning life cycle, agent identities and actor bindings, each valid and invalid sample; "
    "signed records made to its specification",
    against=("peacprotocol/peac vectors and fixtures, 2026-11",),
    connect=(
        "POST PEAC's signed records, as they were issued, to {address} with Content-Type:"
        " application/interaction-record+jwt,",
        "and give the issuer's public keys as a JWKS.",
        "Or where they are verified before, POST the payload of each as JSON with the header Authorization: Bearer"
        " <the value of {secret}>.",
    ),
)

Name = Annotated[str, Meta(min_length=1)]


class Observed(Struct):
    event_kind: Name
    observed_at: str | None = None
    observed_by_ref: str | None = None
    provider: dict[str, Any] | None = None
    account: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None
    credential: dict[str, Any] | None = None
    payment_authorization_observation: dict[str, Any] | None = None
    subscription: dict[str, Any] | None = None
    domain: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None


class Binding(Struct, forbid_unknown_fields=True):
    method: Name
    target: Name
    headers_included: list[str]
    signed_at: datetime
    body_hash: str | None = None


class Proof(Struct, forbid_unknown_fields=True):
    method: Literal["http-message-signature", "dpop", "mtls", "jwk-thumbprint"]
    key_id: Name
    alg: str | None = None
    signature: str | None = None
    dpop_proof: str | None = None
    cert_thumbprint: str | None = None
    binding: Binding | None = None


class Evidence(Struct, forbid_unknown_fields=True):
    agent_id: Annotated[str, Meta(min_length=1, max_length=256)]
    control_type: Literal["operator", "user-delegated"]
    operator: str | None = None
    user_id: str | None = None
    capabilities: Annotated[list[str], Meta(max_length=32)] = []
    delegation_chain: Annotated[list[str], Meta(max_length=8)] = []
    proof: Proof | None = None
    key_directory_url: str | None = None
    metadata: dict[str, Any] | None = None


class Attested(Struct, forbid_unknown_fields=True):
    type: Literal["peac/agent-identity"]
    issuer: Name
    issued_at: datetime
    evidence: Evidence
    expires_at: datetime | None = None
    ref: str | None = None


class Bound(Struct, forbid_unknown_fields=True):
    """An actor binding: who a record is about, and by what kind of proof somebody knows that."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    proof_type: Literal[
        "ed25519-cert-chain",
        "eat-passport",
        "eat-background-check",
        "sigstore-oidc",
        "did",
        "spiffe",
        "x509-pki",
        "custom",
    ]
    origin: Annotated[str, Meta(max_length=2048)]
    proof_ref: Annotated[str, Meta(max_length=2048)] | None = None
    intent_hash: Annotated[str, Meta(pattern=r"\Asha256:[a-f0-9]{64}\Z")] | None = None


class BoundAt(Struct, forbid_unknown_fields=True):
    at: str | int | float
    actor: Bound


class TimeBounds(Struct, forbid_unknown_fields=True):
    not_before: datetime
    not_after: datetime


class ReplayProtection(Struct, forbid_unknown_fields=True):
    jti: Annotated[str, Meta(min_length=1, max_length=256)]
    nonce: Annotated[str, Meta(max_length=256)] | None = None


class IdentitySet(Struct, forbid_unknown_fields=True):
    """PEAC's minimum viable identity set: what every statement of an identity must say."""

    issuer: Annotated[str, Meta(min_length=1, max_length=2048)]
    subject: Annotated[str, Meta(min_length=1, max_length=256)]
    key_binding: Annotated[str, Meta(min_length=1, max_length=256)]
    time_bounds: TimeBounds
    replay_protection: ReplayProtection


class Record(Struct, forbid_unknown_fields=True):
    """The claims of a record of version 0.2."""

    peac_version: Literal["0.2"]
    kind: Literal["evidence", "challenge"]
    type: Annotated[str, Meta(min_length=1, max_length=256)]
    iss: Annotated[str, Meta(min_length=1, max_length=2048)]
    iat: int
    jti: Annotated[str, Meta(min_length=1, max_length=256)]
    sub: str | None = None
    pillars: list[str] | None = None
    actor: msgspec.Raw = msgspec.Raw()
    policy: dict[str, Any] | None = None
    representation: dict[str, Any] | None = None
    occurred_at: str | None = None
    purpose_declared: str | None = None
    extensions: dict[str, msgspec.Raw] = {}


_observed = msgspec.json.Decoder(Observed).decode
_attested = msgspec.json.Decoder(Attested).decode
_bound = msgspec.json.Decoder(Bound).decode
_bound_at = msgspec.json.Decoder(BoundAt).decode
_identity_set = msgspec.json.Decoder(IdentitySet).decode
_record = msgspec.json.Decoder(Record).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    if delivery.content_type == SIGNED:
        statement = _signed(delivery.body.strip(), sender)
        return Received({statement.source_event_id: statement})
    return records.received(delivery, sender, lambda raw: records.stated(raw, sender, parse=parse, grade="D"))


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    if raw[:1] != b"{":
        return _recorded(open_jws(raw.decode("ascii", "replace"), limit=MAX_SIGNED).payload, sender)
    members = decoded(_members, raw, "a PEAC record")
    if "peac_version" in members:
        return _recorded(raw, sender)
    if "event_kind" in members:
        return _observation(raw, sender, id=digest_id(raw))
    if "evidence" in members or "type" in members:
        return _attestation(raw, sender)
    if "at" in members and "actor" in members:
        said = exactly(_bound_at, raw, "an actor binding and its time")
        return _binding(said.actor, sender, id=digest_id(raw), at=instant(said.at))
    if "proof_type" in members:
        actor_of(exactly(_bound, raw, "an actor binding"))
        raise MalformedEvent(
            "expected the record that the actor is bound to, or {at, actor}: a binding alone says not when"
        )
    if "time_bounds" in members or "replay_protection" in members:
        return _identity(exactly(_identity_set, raw, "an identity set"), sender)
    return _attestation(raw, sender)


def content(raw: bytes, headers: bytes) -> bytes:
    return canonical(raw) if raw[:1] == b"{" else raw[: raw.rindex(b".")]


def check_stored(raw: bytes, headers: bytes, sender: Sender) -> None:
    """Check a stored record's signature again. Raises Refused."""
    _signed(raw, sender)


def _signed(compact: bytes, sender: Sender) -> Statement:
    """One signed record. Raises Refused."""
    if len(compact) > MAX_SIGNED:
        raise DeliveryTooLarge(f"a signed record has at most {MAX_SIGNED:,} bytes, found {len(compact):,}")
    if not compact.isascii():
        raise MalformedEvent("expected a compact JWS, in ASCII")
    jws = open_jws(compact.decode("ascii"), limit=MAX_SIGNED)
    _check_header(jws)
    key = check_jws(jws, key_of(jws, sender.keys))
    records.bounded(jws.payload)
    refuse_card_numbers(jws.payload)
    refuse_secrets(jws.payload)
    event = _recorded(jws.payload, sender)
    if jws.claims["iss"] != sender.issuer:
        raise WrongIssuer(f"expected iss {sender.issuer!r}, found {jws.claims['iss'][:300]!r}")
    return Statement(event.source_event_id, compact, b"", "A", key.thumbprint, event)


def _check_header(jws: Jws) -> None:
    media_type = str(jws.header.get("typ", "")).lower().removeprefix("application/")
    if media_type != "interaction-record+jwt":
        raise MalformedEvent(f"expected header typ 'interaction-record+jwt', found {jws.header.get('typ')!r}"[:200])
    for name in _EMBEDDED:
        if name in jws.header:
            raise UnknownKey(f"the header carries a key of its own ({name}); keys come from the source's configuration")
    if jws.header.get("alg") not in ("EdDSA", "Ed25519"):
        raise UnknownKey(f"expected alg EdDSA, found {jws.header.get('alg')!r}"[:200])
    for name in ("b64", "zip"):
        if name in jws.header:
            raise MalformedEvent(f"the header says {name}, which no record may")
    if not 0 < len(jws.kid) <= 256:
        raise UnknownKey("the header names no key: kid is missing, or longer than 256 characters")


def _recorded(claims: bytes, sender: Sender) -> Event:
    """A record of version 0.2: an observation where it carries one, else kept under its own type. By its actor, if
    bound.
    """
    said = decoded(_record, claims, "a PEAC record")
    if said.occurred_at is not None and said.kind == "challenge":
        raise MalformedEvent("occurred_at: a challenge has not occurred")
    actor = (
        actor_of(exactly(_bound, said.actor, "an actor binding")) if bytes(said.actor) not in (b"", b"null") else None
    )
    if observed := said.extensions.get(LIFECYCLE):
        return _observation(bytes(observed), sender, id=said.jti, actor=actor)
    at = instant(said.iat if said.occurred_at is None else said.occurred_at)
    payload = Payload(outcome="unknown", actor=actor)
    return event(
        sender,
        id=said.jti,
        type=f"other.{sender.name}.{said.type}"[:200],
        at=at,
        issued_at=instant(said.iat),
        payload=payload,
    )


def actor_of(bound: Bound) -> Actor:
    """The party that a binding names, as it says itself. Raises MalformedEvent for an origin that is more than one."""
    if not _is_origin(bound.origin):
        raise MalformedEvent("origin must be an origin-only URL: scheme, host and port, nothing more")
    actor = acting(
        [party(bound.origin.rstrip("/").lower(), bound.id, "workload" if bound.proof_type == "spiffe" else "unknown")]
    )
    assert actor is not None  # neither part is empty
    return actor


def _binding(bound: Bound, sender: Sender, *, id: str, at: datetime) -> Event:
    """That somebody is bound to something: kept, and no act."""
    payload = Payload(outcome="unknown", actor=actor_of(bound))
    return event(sender, id=id, type=f"other.{sender.name}.actor-binding"[:200], at=at, payload=payload)


def _identity(said: IdentitySet, sender: Sender) -> Event:
    begins, ends = said.time_bounds.not_before, said.time_bounds.not_after
    if begins.tzinfo is None or ends.tzinfo is None:
        raise MalformedEvent("time_bounds: expected times with a zone")
    if begins >= ends:
        raise MalformedEvent("time_bounds: not_before must be before not_after")
    if ends - begins > LONGEST_VALIDITY:
        raise MalformedEvent("time_bounds: expected at most 100 years")
    payload = Payload(outcome="unknown", action=action(target=("agent", said.subject)))
    id = fitted(f"{said.issuer} {said.replay_protection.jti}")
    return event(
        sender, id=id, type=f"other.{sender.name}.identity-set"[:200], at=instant(begins.isoformat()), payload=payload
    )


def _observation(raw: bytes, sender: Sender, *, id: str, actor: Actor | None = None) -> Event:
    said = decoded(_observed, raw, "a PEAC observation")
    kind = said.event_kind.removeprefix("provisioning-").removesuffix("-observed")
    part, reference, types = _KINDS.get(kind, ("", "", {}))
    about = getattr(said, part) if part else None
    if part and about is None:
        raise MalformedEvent(f"expected {part} in {said.event_kind[:80]}")
    sub_event = inner(about, "sub_event") or ""
    native = type_or_other(types.get(sub_event, "") if isinstance(sub_event, str) else "", sender, said.event_kind)
    is_linked = native == "provider.linked"
    payload = Payload(
        outcome="success" if not native.startswith("other.") else "unknown",
        actor=actor,
        action=action(
            provider=inner(said.provider, "provider_ref") or sender.provider,
            account=inner(said.account, "account_ref") or inner(said.provider, "account_ref"),
            target=(
                "provider_account" if is_linked else inner(about, "kind") or kind,
                inner(about, reference) if reference else "",
            ),
        ),
        money=_ceiling(about) if native == "payment.authority_granted" else None,
    )
    return event(sender, id=id, type=native, at=told_in_text(said.observed_at, "observed_at"), payload=payload)


def _ceiling(about: Any) -> Money | None:
    """At most this may be charged; nothing was. Raises MalformedEvent for an amount or a currency that is none."""
    if inner(about, "max_amount_minor") is None:
        return None
    said = {
        "amount_minor": minor_units(inner(about, "max_amount_minor")), "currency": inner(about, "currency"), "phase": "ceiling",
        "rail": fitted(inner(about, "scheme_id"), 120), "authority": fitted(inner(about, "authorization_ref")),
    }  # fmt: skip
    try:
        return msgspec.convert(said, Money)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"payment_authorization_observation: {error}"[:300]) from None


def _attestation(raw: bytes, sender: Sender) -> Event:
    """Who somebody says an agent is: kept, and no act of anybody. Whether it is in force is not asked: no event has an
    age.
    """
    said = exactly(_attested, raw, "a PEAC observation, record, actor binding or agent identity")
    url = said.evidence.key_directory_url
    if url is not None and not _is_url(url):
        raise MalformedEvent("evidence.key_directory_url: expected an http or https address")
    if said.issued_at.tzinfo is None:
        raise MalformedEvent("issued_at: expected a time with a zone")
    payload = Payload(outcome="unknown", action=action(target=("agent", said.evidence.agent_id)))
    return event(
        sender,
        id=digest_id(raw),
        type=f"other.{sender.name}.agent-identity"[:200],
        at=instant(said.issued_at.isoformat()),
        payload=payload,
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_origin(text: str) -> bool:
    """Scheme, host and port: no user, path, query or fragment, no zone, no dot at the end (AGENT-IDENTITY-PROFILE
    2.3.4).
    """
    if any(c in text for c in "#?@%\\") or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and not host.endswith(".") and parts.path in ("", "/")
