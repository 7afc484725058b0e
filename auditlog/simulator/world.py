"""The builder: a world has sources, parties, grants and money, and says everything as a signed delivery.

    world = World(now=datetime(2026, 5, 1, 12, tzinfo=UTC))
    ada = world.human("ada", issuer="https://id.acme.example")
    shopper = world.agent("shopper", issuer="https://conductor.example")
    grant = world.grant(ada, shopper, actions=["domain.register"], resources=["acme.io"])
    bought = world.registers("acme-corp.io", grant=grant, price_minor=900)
    world.tampered(bought), world.equivocated(bought, outcome="failure"), world.resigned(bought)

Payload fields are those of the native event and pass straight through as keyword arguments. What a grant already says
(principal, actor and its `act` chain) is filled in from it; pass the field, or None, to say otherwise.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import rfc8785

from auditlog.simulator.signing import Signer, StripeSigner, b64url, unb64url

EVENT_URN = "urn:answerable:event:{}:v1"
AUTO: Any = object()  # "not said": fill in from the grant; None means "leave it out"


@dataclass(frozen=True, slots=True)
class Party:
    """Anyone who acts, identified by (`iss`, `sub`)."""

    iss: str
    sub: str
    kind: str

    @property
    def key(self) -> tuple[str, str]:
        return self.iss, self.sub

    @property
    def ref(self) -> dict[str, str]:
        return {"iss": self.iss, "sub": self.sub}

    @property
    def full(self) -> dict[str, str]:
        return {"iss": self.iss, "sub": self.sub, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What a receiver must know of a sender: public keys, or the shared secret of a webhook."""

    name: str
    format: str  # `set` or `stripe`
    issuer: str
    layers: tuple[str, ...] = ()  # empty: all
    provider: str | None = None
    speaks_for: tuple[str, ...] = ()  # issuers; empty: all
    jwks: dict[str, Any] | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """One delivery: the exact bytes, how they travel, and what they say."""

    source: str
    jti: str
    type: str  # of the event; for a webhook the sender's own type
    raw: bytes
    content_type: str
    headers: dict[str, str]
    claims: dict[str, Any]

    @property
    def payload(self) -> dict[str, Any]:
        """The value under the event URN; of a webhook its whole body."""
        events = self.claims.get("events")
        return next(iter(events.values())) if events else self.claims

    @property
    def at(self) -> datetime:
        """When it happened."""
        seconds = self.claims.get("toe", self.claims.get("iat", self.claims.get("created")))
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=round(seconds * 1_000_000))

    @property
    def id(self) -> str:
        """The id of what it is about: a grant's, a token's, a limit's, a charge's, else its own."""
        payload = self.payload
        if isinstance(payload.get("grant"), dict):
            return payload["grant"]["id"]
        if isinstance(payload.get("token"), dict):
            return payload["token"]["jti"]
        if "limit" in payload:
            return payload["limit"]["id"]
        return payload.get("money", {}).get("charge") or self.jti


def numeric(at: datetime) -> int | float:
    """NumericDate (RFC 7519 section 2): whole when it can be, else with microseconds."""
    return int(at.timestamp()) if not at.microsecond else round(at.timestamp(), 6)


def over(
    *, verb: str, provider: str, account: str, target: dict, resource: str, max_price_minor: int, currency: str
) -> str:
    """What an approval approves: base64url SHA-256 of the JCS (RFC 8785) of the act's parameters."""
    fields = {
        "verb": verb,
        "provider": provider,
        "account": account,
        "target": target,
        "resource": resource,
        "max_price_minor": max_price_minor,
        "currency": currency,
    }
    return b64url(hashlib.sha256(rfc8785.dumps(fields)).digest())


def act_chain(actors: Sequence[Party]) -> dict[str, Any]:
    """The nested `act` claim of RFC 8693 section 4.1 from actors given oldest first: the outermost is current."""
    nested: dict[str, Any] | None = None
    for party in actors:
        nested = party.full | ({"act": nested} if nested else {})
    assert nested is not None, "an act chain needs an actor"
    return nested


@dataclass(frozen=True, slots=True)
class _Granted:
    principal: Party
    actors: tuple[Party, ...]  # oldest first
    id: str


class World:
    """Builds signed deliveries. `now` is the default time of every event and never moves by itself.

    `issued_at` is when the sources sign (`iat`); by default they sign when the event happens.
    """

    def __init__(
        self, *, seed: int = 1, tenant: str = "default", now: datetime, issued_at: datetime | None = None
    ) -> None:
        self.seed = seed
        self.tenant = tenant
        self.now = now
        self.issued_at = issued_at
        self.sources: dict[str, SourceSpec] = {}
        self._signers: dict[str, Signer | StripeSigner] = {}
        self._granted: dict[str, _Granted] = {}
        self._counters: dict[str, int] = {}

    # -- who is there

    def source(
        self,
        name: str,
        issuer: str,
        *,
        layers: Sequence[str] = (),
        speaks_for: Sequence[str] = (),
        provider: str | None = None,
        kid: str | None = None,
    ) -> SourceSpec:
        """A sender of Security Event Tokens. The first one is the default source of every event."""
        signer = Signer(issuer, kid or f"{name}-1", self.seed)
        spec = SourceSpec(name, "set", issuer, tuple(layers), provider, tuple(speaks_for), jwks=signer.jwks())
        self.sources[name], self._signers[name] = spec, signer
        return spec

    def stripe_source(
        self, name: str = "stripe", *, secret: str | None = None, issuer: str = "https://stripe.example"
    ) -> SourceSpec:
        secret = secret or "whsec_" + hashlib.sha256(f"{self.seed}|{name}".encode()).hexdigest()[:32]
        spec = SourceSpec(name, "stripe", issuer, ("money", "dispute"), None, (issuer,), secret=secret)
        self.sources[name], self._signers[name] = spec, StripeSigner(secret)
        return spec

    def human(self, sub: str, *, issuer: str) -> Party:
        return Party(issuer, sub, "human")

    def agent(self, sub: str, *, issuer: str) -> Party:
        """An agent; a sub-agent is an agent that another one grants to."""
        return Party(issuer, sub, "agent")

    def new_id(self, prefix: str) -> str:
        """The next id of its kind, the same in every run with this seed."""
        n = self._counters[prefix] = self._counters.get(prefix, 0) + 1
        return f"{prefix}_{hashlib.sha256(f'{self.seed}|{self.tenant}|{prefix}|{n}'.encode()).hexdigest()[:20]}"

    # -- one event

    def event(
        self,
        type: str,
        *,
        at: datetime | None = None,
        source: SourceSpec | str | None = None,
        principal: Party | None = AUTO,
        actor: Party | Sequence[Party] | dict | None = AUTO,
        grant: Signed | str | dict | None = None,
        token: Signed | str | dict | None = None,
        txn: str | None = None,
        jti: str | None = None,
        told_at: datetime | None = None,
        **payload: Any,
    ) -> Signed:
        """Sign one event. `actor` may be a party, parties oldest first, or the object itself.

        With `told_at` the sender says only that: the event has an `iat`, and no `toe`.
        """
        spec = self._spec(source)
        granted = self._granted.get(_ref(grant)) if grant is not None and not isinstance(grant, dict) else None
        if principal is AUTO:
            principal = granted.principal if granted else None
        if actor is AUTO:
            actor = granted.actors if granted else None
        if isinstance(actor, Party):
            actor = (actor,)
        body = {
            "outcome": payload.pop("outcome", "success"),
            "actor": actor if isinstance(actor, dict) or actor is None else act_chain(actor),
            "grant": grant if isinstance(grant, dict) else _ref(grant),
            "token": token if isinstance(token, dict) else _ref(token),
            **payload,
        }
        happened = at or self.now
        claims = {
            "iss": spec.issuer,
            "iat": numeric(told_at or self.issued_at or happened),
            "jti": jti or self.new_id(spec.name),
            "aud": [f"urn:answerable:{self.tenant}"],
            "toe": None if told_at else numeric(happened),
            "txn": txn,
            "sub_id": {"format": "iss_sub", **principal.ref} if principal else None,
            "events": {EVENT_URN.format(type): _said(body)},
        }
        return self._sign(spec, type, _said(claims))

    def stripe_event(
        self,
        type: str,
        obj: dict[str, Any],
        *,
        at: datetime | None = None,
        source: SourceSpec | str = "stripe",
        idempotency_key: str | None = None,
        previous: dict[str, Any] | None = None,
        sent_at: datetime | None = None,
    ) -> Signed:
        """A Stripe snapshot event around `obj`, with the signature header over its exact body."""
        happened = at or self.now
        body = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": "2026-04-22",
            "created": int(happened.timestamp()),
            "data": {"object": obj} | ({"previous_attributes": previous} if previous else {}),
            "livemode": True,
            "pending_webhooks": 1,
            "request": {"id": self.new_id("req") if idempotency_key else None, "idempotency_key": idempotency_key},
            "type": type,
        }
        sent = sent_at or self.issued_at or happened
        return self._sign(self._spec(source), type, body, sent_at=sent)

    # -- authority

    def grant(
        self,
        subject: Party,
        actor: Party,
        *,
        actions: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
        resources: Sequence[str] | None = None,
        deny: dict | None = None,
        details: Sequence[dict] | None = None,
        limits: Sequence[dict] | None = None,
        gates: Sequence[str] | None = None,
        audience: Sequence[str] | None = None,
        parent: Signed | str | None = None,
        root: bool | None = None,
        states_beginning: bool = True,
        expires_in: timedelta | None = None,
        intent: dict | None = None,
        max_depth: int | None = None,
        redelegate: bool | None = None,
        cnf: dict | None = None,
        id: str | None = None,
        at: datetime | None = None,
        source: SourceSpec | str | None = None,
        **payload: Any,
    ) -> Signed:
        """`subject` lets `actor` act. Without a `parent` it is a root, unless `root=False` says otherwise.

        `details` gives several `authorization_details` at once, in place of actions, providers and resources.
        """
        happened = at or self.now
        parent_id = _ref(parent)
        above = self._granted.get(parent_id) if parent_id else None
        grant_id = id or self.new_id("grant")
        actors = (*above.actors, actor) if above else (actor,)
        self._granted[grant_id] = _Granted(above.principal if above else subject, actors, grant_id)
        scope = _said({"actions": actions, "providers": providers, "resources": resources, "deny": deny})
        details = details or ([scope] if scope else None)
        obj = {
            "id": grant_id,
            "parent": parent_id,
            "root": parent_id is None if root is None else root,
            "subject": subject.full,
            "actor": actor.full,
            "authorization_details": [{"type": "agent_action", **d} for d in details] if details else None,
            "limits": limits,
            "not_before": numeric(happened) if states_beginning else None,
            "expires_at": numeric(happened + expires_in) if expires_in is not None else None,
            "audience": audience,
            "max_depth": max_depth,
            "redelegate": redelegate,
            "gates": gates,
            "intent": intent,
            "cnf": cnf,
        }
        principal = payload.pop("principal", self._granted[grant_id].principal)
        granting = payload.pop("actor", above.actors if above else subject)
        return self.event(
            "delegation.granted",
            at=happened,
            source=source,
            principal=principal,
            actor=granting,
            grant=_said(obj),
            **payload,
        )

    def revoke(self, grant: Signed | str, *, by: Party | None = None, **event: Any) -> Signed:
        """Revoke a grant; by its principal unless said otherwise."""
        granted = self._granted[_ref(grant)]
        event.setdefault("principal", granted.principal)
        return self.event("delegation.revoked", actor=by or granted.principal, grant={"id": granted.id}, **event)

    def token(
        self,
        grant: Signed | str,
        *,
        parent: Signed | str | None = None,
        audience: Sequence[str] | None = None,
        scope: str | None = None,
        expires_in: timedelta = timedelta(hours=12),
        cnf: dict | None = None,
        at: datetime | None = None,
        **event: Any,
    ) -> Signed:
        """Issue a token under a grant; with a `parent` token it is exchanged (RFC 8693)."""
        happened = at or self.now
        granted = self._granted[_ref(grant)]
        obj = {
            "jti": self.new_id("tok"),
            "parent_jti": _ref(parent),
            "grant": granted.id,
            "subject": granted.principal.full,
            "actor": act_chain(granted.actors),
            "audience": audience,
            "scope": scope,
            "issued_at": numeric(happened),
            "expires_at": numeric(happened + expires_in),
            "cnf": cnf,
        }
        event.setdefault("principal", granted.principal)
        event.setdefault("actor", granted.actors)
        return self.event("token.exchanged" if parent else "token.issued", at=happened, token=_said(obj), **event)

    def revoke_token(self, token: Signed | str, **event: Any) -> Signed:
        return self.event("token.revoked", token={"jti": _ref(token)}, **event)

    def approval(
        self, by: Party, *, kind: str = "purchase", action: dict, max_price_minor: int, currency: str, **event: Any
    ) -> Signed:
        """A human's yes to exactly this act: `over` binds it to the action, its price and its currency."""
        return self.event(
            "approval.decided",
            principal=event.pop("principal", by),
            actor=by,
            gate=self.gate(
                by, kind=kind, action=action, max_price_minor=max_price_minor, currency=currency, at=event.get("at")
            ),
            mode="direct",
            **event,
        )

    def gate(
        self,
        by: Party,
        *,
        kind: str = "purchase",
        action: dict,
        max_price_minor: int,
        currency: str,
        at: datetime | None = None,
    ) -> dict[str, Any]:
        """The answer to a gate, as an act carries it or an approval says it."""
        fields = {name: action[name] for name in ("verb", "provider", "account", "target", "resource")}
        bound = over(**fields, max_price_minor=max_price_minor, currency=currency)
        return {"kind": kind, "by": by.ref, "at": numeric(at or self.now), "over": bound}

    # -- limits and money

    def limit(
        self,
        change: str,
        max_minor: int | None,
        *,
        holder: Party,
        set_by: Party,
        scope: str = "provider",
        provider: str | None = None,
        interval: str = "month",
        currency: str = "USD",
        id: str,
        enforcement: str = "hard",
        **event: Any,
    ) -> Signed:
        """`change` is set, raised, lowered or reached."""
        obj = limit_object(
            id, max_minor, holder=holder, set_by=set_by, scope=scope, provider=provider, interval=interval,
            currency=currency, enforcement=enforcement,
        )  # fmt: skip
        if "grant" not in event:
            event.setdefault("actor", set_by)
            event.setdefault("mode", "direct" if set_by.kind == "human" else "delegation")
        verb = {"set": "limit.set", "raised": "limit.raise", "lowered": "limit.lower", "reached": "limit.reach"}[change]
        action = {"verb": verb, "provider": provider, "target": {"type": "limit", "id": id}, "resource": f"limit/{id}"}
        event.setdefault("action", _said(action))
        return self.event(f"limit.{change}", limit=obj, **event)

    def payment(
        self,
        phase: str,
        amount_minor: int,
        *,
        charge: str | None = None,
        key: str | None = None,
        rail: str = "stripe",
        currency: str = "USD",
        provider: str | None = None,
        action: dict | None = None,
        authority: str | None = None,
        **event: Any,
    ) -> Signed:
        """`payment.authorized|captured|settled|refunded`; `key` is the idempotency key."""
        charge = charge or self.new_id("ch")
        verbs = {"authorized": "authorize", "captured": "capture", "settled": "settle", "refunded": "refund"}
        verb = f"payment.{verbs.get(phase, phase)}"
        default = {"verb": verb, "provider": provider, "target": {"type": "charge", "id": charge}}
        call = {"idempotency_key": key or f"key-{charge}"} | event.pop("call", {})
        money = {"amount_minor": amount_minor, "currency": currency, "phase": phase, "rail": rail, "charge": charge}
        money |= {"authority": authority} if authority else {}
        return self.event(f"payment.{phase}", action=action or _said(default), money=money, call=call, **event)

    def metered(
        self,
        operation: str,
        args: dict,
        *,
        amount_minor: int,
        key: str | None = None,
        charge: str | None = None,
        provider: str = "meter",
        rail: str = "mpp",
        currency: str = "USD",
        attempt: int | None = None,
        **event: Any,
    ) -> Signed:
        """One call of a metered service, charged at once."""
        charge = charge or self.new_id("mtr")
        call = {
            "operation": operation,
            "args": args,
            "idempotency_key": key or f"key-{charge}",
            "attempt": attempt,
        }
        action = {"verb": operation, "provider": provider, "target": {"type": "call", "id": charge}}
        action["resource"] = f"{provider}/{operation}"
        money = {"amount_minor": amount_minor, "currency": currency, "phase": "captured", "rail": rail}
        return self.event("usage.metered", action=action, call=_said(call), money=money | {"charge": charge}, **event)

    def registers(
        self,
        name: str,
        *,
        price_minor: int,
        provider: str = "registrar",
        account: str = "acct-main",
        charge: str | None = None,
        key: str | None = None,
        rail: str = "stripe",
        currency: str = "USD",
        **event: Any,
    ) -> Signed:
        """A domain bought."""
        charge = charge or self.new_id("ch")
        money = {"amount_minor": price_minor, "currency": currency, "phase": "captured", "rail": rail}
        return self.event(
            "domain.registered",
            action=registration(name, provider=provider, account=account),
            money=money | {"charge": charge},
            call={"idempotency_key": key or f"key-{charge}"},
            **event,
        )

    # -- one act, told by several

    def told_by_three(
        self,
        thing: str,
        *,
        orchestrator: SourceSpec | str,
        provider: SourceSpec,
        rail: SourceSpec,
        amount_minor: int,
        grant: Signed | str,
        key: str,
        charge: str,
        request_id: str | None = None,
        currency: str = "USD",
        at: datetime | None = None,
        rail_says_minor: int | None = None,
        rail_name: str = "rb",
        **thread: Any,
    ) -> tuple[Signed, Signed, Signed]:
        """A resource bought: its orchestrator asks and says what it paid, without knowing the charge; its provider's audit
        log says `create`; the rail says that the charge succeeded. None of them has to be Stripe.

        Joined by the idempotency key (orchestrator and rail, orchestrator and provider). `thread` is the orchestrator's.
        """
        happened = at or self.now
        action = {"provider": provider.provider, "target": {"type": "database", "id": thing}}
        money = {"amount_minor": amount_minor, "currency": currency, "phase": "captured", "rail": rail_name}
        call = {"idempotency_key": key}
        asked = self.event(
            "resource.requested",
            source=orchestrator,
            at=happened,
            grant=grant,
            action=action | {"verb": "database.create"},
            money=money,
            call=call,
            request_id=request_id,
            **thread,
        )
        done = self.event(
            "action.performed",
            source=provider,
            at=happened + timedelta(seconds=3),
            grant=grant,
            action=action | {"verb": "create"},
            call=call,
            request_id=request_id,
        )
        paid = self.event(
            "payment.captured",
            source=rail,
            at=happened + timedelta(seconds=5),
            action={"target": {"type": "charge", "id": charge}},
            money=money
            | {"amount_minor": amount_minor if rail_says_minor is None else rail_says_minor, "charge": charge},
            call=call,
        )
        return asked, done, paid

    # -- misbehaviour

    def tampered(self, signed: Signed, **changes: Any) -> Signed:
        """The payload changed in transit, the signature kept."""
        changes = changes or {"outcome": "unknown"}
        claims = _with(signed.claims, changes)
        if signed.content_type != "application/secevent+jwt":
            return replace(signed, raw=orjson.dumps(claims), claims=claims)
        header, _, signature = signed.raw.split(b".")
        raw = b".".join((header, b64url(orjson.dumps(claims)).encode(), signature))
        return replace(signed, raw=raw, claims=claims)

    def equivocated(self, signed: Signed, **changes: Any) -> Signed:
        """The same id, other content, validly signed: the sender says two things at once."""
        changes = changes or {"outcome": "unknown"}
        return self._sign(self._spec(signed.source), signed.type, _with(signed.claims, changes))

    def resigned(self, signed: Signed) -> Signed:
        """The same signed content under another valid signature: still the same statement."""
        signer = self._signers[signed.source]
        if isinstance(signer, StripeSigner):
            return replace(signed, headers=signer.headers(signed.raw, t=int(signed.at.timestamp()) + 60))
        return replace(signed, raw=signer.sign_again(signed.raw))

    # --

    def _spec(self, source: SourceSpec | str | None) -> SourceSpec:
        if source is None:
            if not self.sources:
                self.source("world", "https://world.example")
            return next(iter(self.sources.values()))
        return self.sources[source if isinstance(source, str) else source.name]

    def _sign(self, spec: SourceSpec, type: str, claims: dict, *, sent_at: datetime | None = None) -> Signed:
        signer = self._signers[spec.name]
        if isinstance(signer, StripeSigner):
            raw = orjson.dumps(claims)
            sent = int(sent_at.timestamp()) if sent_at else claims["created"]
            return Signed(spec.name, claims["id"], type, raw, "application/json", signer.headers(raw, t=sent), claims)
        raw = signer.sign_set(claims)
        return Signed(spec.name, claims["jti"], type, raw, "application/secevent+jwt", {}, claims)


def registration(name: str, *, provider: str = "registrar", account: str = "acct-main") -> dict[str, Any]:
    """The action of registering `name`, as approvals and acts both state it."""
    target = {"type": "domain", "id": name}
    return {
        "verb": "domain.register",
        "provider": provider,
        "account": account,
        "target": target,
        "resource": name,
        "irreversible": True,
    }


def limit_object(
    id: str,
    max_minor: int | None,
    *,
    holder: Party,
    set_by: Party,
    scope: str = "provider",
    provider: str | None = None,
    interval: str = "month",
    currency: str = "USD",
    enforcement: str = "hard",
) -> dict[str, Any]:
    obj = {
        "id": id,
        "holder": holder.ref,
        "scope": scope,
        "provider": provider,
        "currency": currency,
        "interval": interval,
        "enforcement": enforcement,
        "set_by": set_by.ref,
    }
    return _said(obj) | {"max_minor": max_minor}  # null says "no limit", so it is kept


def payload_of(compact: bytes) -> dict[str, Any]:
    """The claims inside a compact JWS, unverified."""
    return orjson.loads(unb64url(compact.split(b".")[1]))


def _ref(thing: Signed | str | None) -> str | None:
    return thing.id if isinstance(thing, Signed) else thing


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _with(claims: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of a SET go into its one event payload; of a webhook, into the body."""
    if "events" not in claims:
        return claims | changes
    [(urn, payload)] = claims["events"].items()
    return claims | {"events": {urn: payload | changes}}
