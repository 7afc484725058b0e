"""The published format, for those who write another implementation: its JSON Schema, examples and signed test vectors.

All of it is made from the code that ingest runs: the schema from the structs that decode a payload, the vectors by
signing with fixed keys. `/schema/event.json` and `/schema/vectors.json` serve it. No Django, no clock.
"""

import json
from functools import cache
from typing import Any

import msgspec
from nacl.signing import SigningKey

from auditlog.core.event import LAYER_OF_TYPE, LAYERS, Payload
from auditlog.core.wire.keys import b64url
from auditlog.formats.envelope import SubjectId

SCHEMA_ID = "urn:answerable:schema:event:v1"
URN = "urn:answerable:event:{}:v1"


@cache
def event_schema() -> bytes:
    """JSON Schema (2020-12) of the claims of one SET. What it refuses is refused; ingest knows a little more (see
    `$comment`).
    """
    _, definitions = msgspec.json.schema_components([Payload, SubjectId], ref_template="#/$defs/{name}")
    text = {"type": "string", "maxLength": 500}
    seconds = {"type": "number", "minimum": 0, "maximum": 32_503_680_000}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Claims of an Answerable event",
        "description": "A Security Event Token (RFC 8417) with exactly one event. Unknown members are allowed and kept in the "
        "signed bytes.",
        "$comment": "Beyond this schema: aud contains urn:answerable:<tenant>; iss is the source's; actor.act nests at most 64 deep; "
        "no string holds U+0000; the SET is at most 256 KiB; JOSE header typ is secevent+jwt, alg one of Ed25519,"
        " EdDSA, "
        "ES256, RS256, PS256, kid a key of the source, and no jwk, jku, x5u, x5c, crit or b64.",
        "type": "object",
        "required": ["iss", "iat", "jti", "aud", "events"],
        "properties": {
            "iss": {"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[^|]+$"},
            "iat": seconds | {"description": "When it was signed (NumericDate)."},
            "jti": text | {"minLength": 1, "description": "The event's id at its source; sending it again is a no-op."},
            "aud": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "toe": {"anyOf": [seconds, {"type": "null"}], "description": "When it happened. Absent: at iat as far as anybody knows; whether a grant told of so was given before stays open."},
            "txn": text | {"description": "What belongs to one transaction has the same."},
            "sub_id": {"anyOf": [{"$ref": "#/$defs/SubjectId"}, {"type": "null"}], "description": "The principal (RFC 9493 iss_sub)."},
            "events": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "properties": {URN.format(name): {"$ref": "#/$defs/Payload", "description": f"Layer {layer}."} for name, layer in LAYER_OF_TYPE.items()},
                "additionalProperties": {"description": "A type we do not know: kept as other.<source>.<type>."},
            },
            "sub": False,
            "exp": False,
        },
        "$defs": _portable(definitions),
        "examples": [claims for _, claims in _examples()],
    }  # fmt: skip
    return _document(schema)


def _portable(node: Any) -> Any:
    """Python's end of text (`\\Z`) in a pattern is unknown to the regular expressions of JSON Schema (ECMA-262)."""
    if isinstance(node, dict):
        return {key: value.replace("\\Z", "$") if key == "pattern" else _portable(value) for key, value in node.items()}
    return [_portable(each) for each in node] if isinstance(node, list) else node


# --- vectors ---------------------------------------------------------------------------------------------------

ISSUER, TENANT, KID, AT = "https://sender.example", "default", "vectors-1", 1_795_000_000
_SEED = bytes(range(32))  # public on purpose: whoever implements a signer must get the same bytes
_PARTY = {"iss": "https://id.example", "sub": "ada"}
_AGENT = {"iss": ISSUER, "sub": "agent-1", "kind": "agent"}


def _claims(event_type: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "iss": ISSUER, "iat": AT, "jti": f"vector-{event_type}", "aud": [f"urn:answerable:{TENANT}"],
        "sub_id": {"format": "iss_sub", **_PARTY}, "events": {URN.format(event_type): payload},
    } | more  # fmt: skip


def _examples() -> list[tuple[str, dict[str, Any]]]:
    grant = {
        "id": "grant-1", "root": True, "subject": {**_PARTY, "kind": "human"}, "actor": _AGENT,
        "authorization_details": [{"type": "agent_action", "actions": ["domain.register", "payment.*"], "resources": ["acme.example"]}],
        "limits": [{"scope": "grant", "max_minor": 2000, "currency": "USD", "interval": "once"}],
        "expires_at": AT + 86_400, "max_depth": 1, "redelegate": True, "gates": ["purchase"],
        "intent": {"text": "Buy acme.example", "targets": ["acme.example"], "quantity": 1},
    }  # fmt: skip
    return [
        ("a root grant: a human lets an agent register one domain", _claims("delegation.granted", {"outcome": "success", "grant": grant})),
        ("an act under it by a sub-agent: nested act, the outermost is the current actor", _claims(
            "domain.registered",
            {"outcome": "success", "grant": "grant-1", "session": "run-7",
             "actor": {"iss": ISSUER, "sub": "agent-2", "kind": "agent", "act": _AGENT},
             "action": {"verb": "domain.register", "provider": "registrar", "target": {"type": "domain", "id": "acme.example"}, "irreversible": True},
             "money": {"amount_minor": 1200, "currency": "USD", "phase": "captured", "rail": "card", "charge": "ch-1"}},
            toe=AT - 2.5, txn="txn-1")),
        ("a numbered heartbeat", _claims("source.heartbeat", {"outcome": "success", "sequence": {"number": 17, "stream": "eu-1"}})),
        ("a type of the sender's own", _claims("acme.thing", {"outcome": "success", "anything": [1, {"else": None}]})),
    ]  # fmt: skip


@cache
def vectors() -> bytes:
    """SETs that must be taken, and SETs that must be refused with their `err` (RFC 8935 section 2.4)."""
    key = SigningKey(_SEED)
    examples = _examples()
    valid = [
        {"name": name, "claims": claims, "set": _signed(key, claims, alg="Ed25519" if number % 2 else "EdDSA"),
         "type": next(iter(claims["events"])), "act_chain": _oldest_first(claims)}
        for number, (name, claims) in enumerate(examples)
    ]  # fmt: skip
    good = examples[1][1]
    payload = next(iter(good["events"].values()))
    head, body, signature = _signed(key, good).split(".")
    other = b64url(_packed(good | {"jti": "another"}))
    broken = [
        ("the payload was changed after signing", f"{head}.{other}.{signature}", "authentication_failed", True),
        ("the signature is cut short", f"{head}.{body}.{signature[:-4]}", "authentication_failed", True),
        ("alg none", b64url(_packed({"alg": "none", "typ": "secevent+jwt", "kid": KID})) + f".{body}.{signature}", "invalid_key", True),
        ("an HMAC alg", _signed(key, good, alg="HS256"), "invalid_key", True),
        ("a key that is not configured", _signed(key, good, kid="another"), "invalid_key", True),
        ("no kid", _signed(key, good, kid=None), "invalid_key", True),
        ("a key embedded in the header", _signed(key, good, jwk={"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes(key.verify_key))}), "invalid_key", True),
        ("an unknown critical header", _signed(key, good, crit=["x"], x=1), "invalid_request", True),
        ("another typ", _signed(key, good, typ="JWT"), "invalid_request", True),
        ("another tenant's audience", _signed(key, good | {"aud": ["urn:answerable:another"]}), "invalid_audience", True),
        ("another issuer", _signed(key, good | {"iss": "https://another.example"}), "invalid_issuer", True),
        ("an access token's sub", _signed(key, good | {"sub": "ada"}), "invalid_request", False),
        ("an access token's exp", _signed(key, good | {"exp": AT + 60}), "invalid_request", False),
        ("no jti", _signed(key, {name: value for name, value in good.items() if name != "jti"}), "invalid_request", False),
        ("two events", _signed(key, good | {"events": good["events"] | {URN.format("domain.renewed"): payload}}), "invalid_request", False),
        ("no outcome", _signed(key, _claims("domain.renewed", {})), "invalid_request", False),
        ("money as a float", _signed(key, _claims("payment.captured", {"outcome": "success", "money": {"amount_minor": 12.5, "currency": "USD", "phase": "captured"}})), "invalid_request", False),
        ("an amount below zero", _signed(key, _claims("payment.captured", {"outcome": "success", "money": {"amount_minor": -1, "currency": "USD", "phase": "captured"}})), "invalid_request", False),
        ("an issuer with a bar in it", _signed(key, _claims("domain.renewed", {"outcome": "success", "actor": {"iss": "a|b", "sub": "x"}})), "invalid_request", False),
    ]  # fmt: skip
    x = b64url(bytes(key.verify_key))
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": KID, "use": "sig"}
    return _document({
        "description": "Test vectors of the Answerable event format. Signatures are Ed25519 over the exact compact JWS; JSON was "
        "written without spaces and with sorted names, which a verifier must not rely on. `fits_schema` says whether"
        " the claims "
        "fit event.json: what a schema cannot say is refused all the same.",
        "schema": SCHEMA_ID, "tenant": TENANT, "issuer": ISSUER, "jwks": {"keys": [jwk]},
        "private_jwk": {**jwk, "d": b64url(_SEED)},
        "valid": valid,
        "refused": [{"name": name, "set": compact, "err": err, "fits_schema": fits} for name, compact, err, fits in broken],
        "types": {layer: sorted(name for name, its in LAYER_OF_TYPE.items() if its == layer) for layer in LAYERS},
    })  # fmt: skip


def _signed(key: SigningKey, claims: dict[str, Any], **header: Any) -> str:
    given = {
        name: value
        for name, value in ({"alg": "EdDSA", "kid": KID, "typ": "secevent+jwt"} | header).items()
        if value is not None
    }
    signing_input = f"{b64url(_packed(given))}.{b64url(_packed(claims))}"
    return f"{signing_input}.{b64url(key.sign(signing_input.encode()).signature)}"


def _oldest_first(claims: dict[str, Any]) -> list[str]:
    [payload] = claims["events"].values()
    actor, found = payload.get("actor"), []
    while actor:
        found.append(f"{actor['iss']}|{actor['sub']}")
        actor = actor.get("act")
    return found[::-1]


def _packed(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _document(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
