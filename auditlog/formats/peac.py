"""PEAC: a neutral third party's records of a provisioning life cycle, and attestations of agents' identities, as JSON.

Verified: the published samples of both (peacprotocol/peac: ten observations, attestations valid and not). Not verified:
the signed envelope that PEAC puts around its records; so what comes here was unwrapped by whoever sends it (grade D).
An observer tells what it saw, not who did it: actor and principal are unknown. Digests stand where terms, scopes and
limits would, so a budget says nothing that can be counted. A payment authorization's amount is a ceiling, never a charge.

Chain order: none. An attestation's `delegation_chain` names parties without issuers; it is kept in the bytes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import Event, Money, Payload
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    action,
    canonical,
    decoded,
    digest_id,
    event,
    fitted,
    inner,
    instant,
    minor_units,
    type_or_other,
)

CONTENT_TYPES, ENCODINGS, content = records.CONTENT_TYPES, records.ENCODINGS, canonical
# The part of a record that an event kind is about, the reference in it, and ours by its `sub_event`.
_KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "provider-link": ("provider", "account_ref", {"": "provider.linked"}),
    "account": ("account", "account_ref", {"created": "account.created", "linked": "account.linked"}),
    "resource": ("resource", "resource_ref", {
        "requested": "resource.requested", "provisioned": "resource.provisioned", "updated": "resource.updated", "removed": "resource.removed"}),
    "credential": ("credential", "subject_ref", {"issued": "credential.issued", "rotated": "credential.rotated", "revoked": "credential.revoked"}),
    "payment-authorization": ("payment_authorization_observation", "authorization_ref", {"granted": "payment.authority_granted"}),
    "subscription": ("subscription", "subscription_ref", {
        "started": "subscription.started", "updated": "subscription.changed", "cancelled": "subscription.ended"}),
    "domain": ("domain", "domain_ref", {"registered": "domain.registered"}),
    "deployment": ("deployment", "deployment_ref", {"completed": "deployment.completed"}),
}  # fmt: skip

ABOUT = About(
    title="PEAC observations",
    sent="POST of records as JSON: one, lines or an array",
    authentication="a static token in the Authorization header",
    grade="D",
    carries="provider links, accounts, resources, credentials, payment ceilings, subscriptions, domains, deployments; attestations as other.*",
    chains="none: an observer does not say who acted",
    lacks="actors; names (references stand for them); amounts of budgets; the signed envelope of PEAC's receipts",
    tested="PEAC's published provisioning life cycle and agent identities, each valid and invalid sample",
    connect=(
        "Where PEAC's records are verified, take the payload out of each.",
        "POST it to {address} with the header Authorization: Bearer <the value of {secret}>.",
    ),
)

Name = Annotated[str, Meta(min_length=1)]


class Observed(Struct):
    event_kind: Name
    observed_at: str
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
    method: Literal["http-message-signature", "dpop", "mtls"]
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
    capabilities: list[str] = []
    delegation_chain: list[str] = []
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


_observed = msgspec.json.Decoder(Observed).decode
_attested = msgspec.json.Decoder(Attested).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    return records.received(delivery, sender, lambda raw: records.stated(raw, sender, parse=parse, grade="D"))


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    return _observation(raw, sender) if b'"event_kind"' in raw else _attestation(raw, sender)


def _observation(raw: bytes, sender: Sender) -> Event:
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
        action=action(
            provider=inner(said.provider, "provider_ref") or sender.provider,
            account=inner(said.account, "account_ref") or inner(said.provider, "account_ref"),
            target=("provider_account" if is_linked else inner(about, "kind") or kind, inner(about, reference) if reference else ""),
        ),
        money=_ceiling(about) if native == "payment.authority_granted" else None,
    )
    return event(sender, id=digest_id(raw), type=native, at=instant(said.observed_at), payload=payload)


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
    """Who somebody says an agent is: kept, and no act of anybody. Whether it is in force is not asked: no event has an age."""
    said = decoded(_attested, raw, "a PEAC observation or agent identity")
    url = said.evidence.key_directory_url
    if url is not None and not _is_url(url):
        raise MalformedEvent("evidence.key_directory_url: expected an http or https address")
    if said.issued_at.tzinfo is None:
        raise MalformedEvent("issued_at: expected a time with a zone")
    payload = Payload(outcome="unknown", action=action(target=("agent", said.evidence.agent_id)))
    return event(sender, id=digest_id(raw), type=f"other.{sender.name}.agent-identity"[:200], at=instant(said.issued_at.isoformat()), payload=payload)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
