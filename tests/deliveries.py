"""A good delivery of every sender format, and how to make another of the same kind around any bytes.

`deliver` signs or authenticates whatever body it is given, so that a test can reach the parser with hostile bytes.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from auditlog.core.errors import Refused
from auditlog.core.wire.keys import b64url, load
from auditlog.formats import Delivery, Sender, Statement, named
from auditlog.simulator.signing import Signer

TOKEN = "a-static-token-of-the-tests"
ISSUER = "https://sender.example"


def sender_of(format: str, **changes: Any) -> Sender:
    return Sender(**{"tenant": "default", "name": format, "issuer": ISSUER, "secret": TOKEN.encode} | changes)


def with_token(body: bytes, content_type: str = "application/json", **headers: str) -> Delivery:
    return Delivery(body, content_type, {"authorization": TOKEN, "content-type": content_type} | headers)


@dataclass(frozen=True)
class Sample:
    format: str
    bodies: list[bytes]
    deliver: Callable[[bytes], Delivery] = with_token
    sender: Sender | None = None

    @property
    def known(self) -> Sender:
        return self.sender or sender_of(self.format)


def received(format: str, body: Any, *, sender: Sender | None = None, deliver=with_token, **headers: str) -> dict:
    """What a format makes of a body; checks that the stored bytes give the same events again."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    module, sender = named(format), sender or sender_of(format)
    statements = module.receive(deliver(raw, **headers), sender).statements
    for statement in statements.values():
        if isinstance(statement, Statement):
            assert module.parse(statement.raw, statement.headers, sender) == statement.event
            assert module.content(statement.raw, statement.headers)
    return statements


def event_in(format: str, body: Any, **how: Any):
    [statement] = received(format, body, **how).values()
    if isinstance(statement, Refused):
        raise statement
    return statement.event


AUTH0 = {
    "log_id": "90020260101000000000000000000000001",
    "data": {
        "log_id": "90020260101000000000000000000000001",
        "type": "success_on_behalf_of_token_exchange",
        "date": "2026-11-20T10:30:00.250Z",
        "description": "",
        "tenant_name": "acme",
        "environment_name": "prod-eu-1",
        "client_id": "app1",
        "client_name": "Deploy helper",
        "user_id": "auth0|ada",
        "organization_id": "org_1",
        "audience": "https://api.provider.example/",
        "scope": ["worker:write", "domain:register"],
        "ip": "203.0.113.7",
        "user_agent": "agent/1",
        "agent_id": "agt_7",
        "details": {
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "access_token_jti": "jti-3",
            "actor": {"sub": "agt_7", "act": {"sub": "agt_2", "act": {"sub": "assistant"}}},
        },
    },
}

KEYCLOAK = {
    "id": "kc-1",
    "time": 1_795_000_000_123,
    "type": "TOKEN_EXCHANGE",
    "realmId": "acme",
    "realmName": "acme",
    "clientId": "deployer",
    "userId": "user-ada",
    "sessionId": "sess-1",
    "ipAddress": "203.0.113.7",
    "details": {
        "audience": "provider-api",
        "scope": "openid deploy",
        "username": "ada",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_client_id": "assistant",
        "token_id": "tok-9",
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "auth_method": "token_exchange",
    },
}
OCSF = {
    "class_uid": 6003,
    "category_uid": 6,
    "activity_id": 1,
    "activity_name": "Create",
    "type_uid": 600301,
    "type_name": "API Activity: Create",
    "time": 1_795_000_000_123,
    "severity_id": 1,
    "status_id": 1,
    "metadata": {
        "version": "1.9.0-dev",
        "uid": "ocsf-1",
        "correlation_uid": "corr-1",
        "product": {"vendor_name": "Keycard"},
    },
    "actor": {"user": {"uid": "user-ada", "type_id": 1, "account": {"uid": "zone-1"}}, "session": {"uid": "sess-1"}},
    "ai_agent": {"uid": "agent-7", "name": "deployer"},
    "delegation": {"uid": "dlg-2", "parent_uid": "dlg-1", "scopes": ["deploy"], "created_time": 1_794_999_000_000},
    "api": {"operation": "resources.create", "request": {"uid": "req-1"}, "service": {"name": "provisioning"}},
    "resources": [{"type": "database", "uid": "db-1", "name": "primary"}],
    "src_endpoint": {"ip": "203.0.113.7"},
    "http_request": {"user_agent": "agent/1"},
}
CLOUDFLARE_PUSHED = {
    "AuditLogID": "cf-1",
    "ActionType": "create",
    "ActionResult": "success",
    "ActionTimestamp": "2026-11-20T10:30:00Z",
    "ActionDescription": "Create record",
    "ActorContext": "api_token",
    "ActorEmail": "ada@acme.example",
    "ActorID": "user-1",
    "ActorIPAddress": "203.0.113.7",
    "ActorTokenDetails": {"id": "tok-1", "name": "agent token"},
    "ActorType": "user",
    "AccountID": "acc-1",
    "AccountName": "Acme",
    "Raw": {
        "cf_ray_id": "8f00",
        "method": "POST",
        "status_code": 200,
        "uri": "/zones/z1/dns_records",
        "user_agent": "agent/1",
    },
    "ResourceID": "rec-1",
    "ResourceProduct": "dns_records",
    "ResourceType": "dns_record",
    "ZoneID": "z1",
    "ZoneName": "acme.example",
}
CLOUDFLARE_LISTED = {
    "id": "cf-1",
    "account": {"id": "acc-1", "name": "Acme"},
    "action": {"type": "create", "result": "success", "time": "2026-11-20T10:30:00Z", "description": "Create record"},
    "actor": {"id": "user-1", "type": "user", "context": "api_token", "email": "ada@acme.example",
              "ip_address": "203.0.113.7", "token_id": "tok-1", "token_name": "agent token"},
    "raw": {"cf_ray_id": "8f00", "method": "POST", "status_code": 200, "uri": "/zones/z1/dns_records", "user_agent": "agent/1"},
    "resource": {"id": "rec-1", "type": "dns_record", "product": "dns_records"},
    "zone": {"id": "z1", "name": "acme.example"},
}  # fmt: skip
CLOUDTRAIL = {
    "eventVersion": "1.08",
    "userIdentity": {
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLE:agent-run-7",
        "arn": "arn:aws:sts::123456789012:assumed-role/Deployer/agent-run-7",
        "accountId": "123456789012",
        "accessKeyId": "ASIASESSIONEXAMPLE2",
        "sessionContext": {
            "sessionIssuer": {"type": "Role", "principalId": "AROAEXAMPLE", "arn": "arn:aws:iam::123456789012:role/Deployer",
                              "accountId": "123456789012", "userName": "Deployer"},
            "attributes": {"creationDate": "2026-11-20T10:00:00Z", "mfaAuthenticated": "false"},
            "sourceIdentity": "ada@acme.example",
        },
    },
    "eventTime": "2026-11-20T10:30:00Z",
    "eventSource": "route53domains.amazonaws.com",
    "eventName": "RegisterDomain",
    "awsRegion": "us-east-1",
    "sourceIPAddress": "203.0.113.7",
    "userAgent": "aws-sdk/2",
    "requestParameters": {"domainName": "new.example", "durationInYears": 1},
    "responseElements": {"operationId": "op-1"},
    "requestID": "req-1",
    "eventID": "ct-1",
    "eventType": "AwsApiCall",
    "recipientAccountId": "123456789012",
}  # fmt: skip
SIGNER = Signer(ISSUER, "k1", seed=1)
KEYS = {"k1": load(SIGNER.jwk, "k1")}

SET = {
    "iss": ISSUER,
    "iat": 1_795_000_000,
    "jti": "e1",
    "aud": ["urn:answerable:default"],
    "sub_id": {"format": "iss_sub", "iss": "https://id.example", "sub": "ada"},
    "events": {
        "urn:answerable:event:payment.captured:v1": {
            "outcome": "success",
            "actor": {"iss": ISSUER, "sub": "agent-1", "kind": "agent", "act": {"iss": ISSUER, "sub": "agent-0"}},
            "money": {"amount_minor": 1200, "currency": "USD", "phase": "captured", "rail": "stripe", "charge": "ch_1"},
        }
    },
}
STRIPE = {
    "id": "evt_1",
    "object": "event",
    "api_version": "2026-04-22",
    "created": 1_795_000_000,
    "type": "charge.succeeded",
    "livemode": True,
    "pending_webhooks": 1,
    "request": {"id": "req_1", "idempotency_key": "key-1"},
    "data": {
        "object": {
            "id": "ch_1",
            "object": "charge",
            "amount": 1200,
            "amount_captured": 1200,
            "captured": True,
            "currency": "usd",
        }
    },
}


def timestamped_mac(body: bytes, secret: bytes = TOKEN.encode(), at: int = 1_795_000_000) -> str:
    return f"t={at},v1={hmac.new(secret, f'{at}.'.encode() + body, 'sha256').hexdigest()}"


NATIVE = {"type": "payment.captured", "timestamp": "2026-11-20T10:30:00Z", "data": {
    "outcome": "success", "txn": "txn-1", "sub_id": {"format": "iss_sub", "iss": "https://id.example", "sub": "ada"},
    "actor": {"iss": ISSUER, "sub": "agent-1", "kind": "agent", "act": {"iss": ISSUER, "sub": "agent-0"}},
    "money": {"amount_minor": 1200, "currency": "USD", "phase": "captured", "rail": "stripe", "charge": "ch_1"},
}}  # fmt: skip
WHSEC = "whsec_" + b64encode(TOKEN.encode()).decode()


def standard_webhook(body: bytes, id: str = "msg_1", at: str = "1795000000") -> Delivery:
    mac = b64encode(hmac.digest(TOKEN.encode(), f"{id}.{at}.".encode() + body, "sha256")).decode()
    return Delivery(
        body, "application/json", {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{mac}"}
    )


CLOUDEVENT = {"specversion": "1.0", "id": "ce-1", "source": "https://orchestrator.example/runs", "type": NATIVE["type"],
              "time": NATIVE["timestamp"], "subject": "db-1", "datacontenttype": "application/json", "data": NATIVE["data"]}  # fmt: skip


SIGNED_BODY = {"id": "rs-1", "type": NATIVE["type"], "time": NATIVE["timestamp"], "data": NATIVE["data"]}


def signed_request(
    body: bytes, components: str = '"@method" "@authority" "@path" "content-digest"', **changes: str
) -> Delivery:
    """RFC 9421 by hand, Ed25519."""
    digest = "sha-256=:" + b64encode(sha256(body).digest()).decode() + ":"
    headers = {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "log.example",
        ":path": "/ingest/robot",
        "content-digest": digest,
    }
    values = {"@method": "POST", "@authority": "log.example", "@path": "/ingest/robot", "content-digest": digest}
    params = f'({components});created=1795000000;keyid="k1"'
    base = "".join(f"{name}: {values[name[1:-1]]}\n" for name in components.split()) + f'"@signature-params": {params}'
    signature = b64encode(SIGNER._key.sign(base.encode()).signature).decode()
    headers |= {"signature-input": f"sig1={params}", "signature": f"sig1=:{signature}:"}
    return Delivery(body, "application/json", headers | changes)


CLI = {
    "at": "2026-11-20T10:30:00Z",
    "argv": ["stripe", "projects", "add", "provider-x/managed-database", "--json"],
    "actor": {"iss": ISSUER, "sub": "agent-1", "kind": "agent"},
    "session": "sess-1",
    "output": {
        "ok": True,
        "command": "projects add",
        "version": "0.41",
        "data": {"service": {"key": "res_1", "name": "primary-db", "provider": "provider-x", "provider_id": "prvdr_1",
                             "service_id": "managed-database", "status": "complete"}},
        "warnings": [],
        "next_steps": [],
        "meta": {"authenticated": True, "project_initialized": True},
    },
}  # fmt: skip
POLLED = {
    "at": "2026-11-20T10:31:00Z",
    "polled": {"object": "v2.provisioning.resource", "id": "res_1", "status": "complete", "environment": "prod",
               "provider": "prvdr_1", "provider_name": "provider-x", "livemode": True, "service_ref": {"service_id": "managed-database"}},
}  # fmt: skip
AP2_MANDATE = {
    "iss": "https://wallet.example",
    "sub": "ada",
    "vct": "mandate.payment.open.1",
    "iat": 1_795_000_000,
    "exp": 1_795_086_400,
    "cnf": {
        "jwk": {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        }
    },
    "constraints": [
        {"type": "payment.amount_range", "max": 20000, "currency": "USD"},
        {
            "type": "payment.allowed_payees",
            "allowed": [{"id": "merchant_1", "name": "Acme", "website": "https://acme.example"}],
        },
    ],
}
AP2_RECEIPT = {"status": "Success", "iss": "https://psp.example", "iat": 1_795_000_100, "reference": "abc", "payment_id": "pay_1",
               "psp_confirmation_id": "psp_1", "network_confirmation_id": "net_1"}  # fmt: skip


def ap2_artifact(body: bytes) -> Delivery:
    """Signed whatever it is: a mandate where it names a `vct`, else a receipt."""
    return Delivery(compact_jws(body) + (b"~" if b'"vct"' in body else b""), "text/plain", {})


ACP_ORDER = {"type": "order_create", "data": {"id": "ord_1", "checkout_session_id": "cs_1", "permalink_url": "https://acme.example/o/1",
             "currency": "usd", "totals": [{"type": "total", "amount": 10766}]}}  # fmt: skip


def merchant_signed(body: bytes, **headers: str) -> Delivery:
    return Delivery(body, "application/json", {"merchant-signature": timestamped_mac(body)} | headers)


MPP_REQUEST = {"amount": "1000", "currency": "usd", "recipient": "acct_123"}
MPP = {
    "challenge": {
        "id": "chl_1",
        "realm": "api.example.com",
        "method": "example",
        "intent": "charge",
        "request": MPP_REQUEST,
    },
    "receipt": {
        "status": "success",
        "method": "example",
        "timestamp": "2025-01-15T12:00:00Z",
        "reference": "inv_12345",
    },
}
X402_TERMS = {"scheme": "exact", "network": "eip155:8453", "asset": "USD", "payTo": "0x742d", "amount": "100000"}
X402 = {
    "at": 1_741_900_060,
    "required": {"x402Version": 2, "resource": {"url": "https://api.example.com/weather"}, "accepts": [X402_TERMS]},
    "settlement": {"success": True, "transaction": "0xdeadbeef", "network": "eip155:8453", "payer": "0xabc1"},
}

APP = {
    "id": "rec-1",
    "at": "2026-11-20T10:30:00Z",
    "side": "provider",
    "request": {
        "method": "POST",
        "path": "/api/provisioning/resources",
        "headers": {"API-Version": "0.1d", "Idempotency-Key": "idem-1", "Stripe-Signature": "t=1795000000,v1=00"},
        "body": {
            "service_id": "postgres/small",
            "project_id": "proj_1",
            "orchestrator_resource_id": "res_orch_1",
            "environment": "prod",
            "actor": {"email": "ada@acme.example", "ip_address": "203.0.113.7"},
            "payment_credentials": {"type": "stripe_payment_token", "stripe_payment_token": "spt_123abc"},
            "orchestrator": {"type": "stripe", "stripe": {"organization": "org_1", "account": "acct_1"}},
        },
    },
    "response": {
        "status": 200,
        "body": {"id": "db-1", "status": "complete", "complete": {"access_configuration": {"url": "postgres://u:p@h"}}},
    },
}


def recorded(body: bytes, **headers: str) -> Delivery:
    return Delivery(body, "application/json", {"recorder-signature": timestamped_mac(body)} | headers)


def compact_jws(payload: bytes, **header: Any) -> bytes:
    """Any bytes as an EdDSA-signed compact JWS of SIGNER."""
    head = b64url(json.dumps({"alg": "EdDSA", "kid": "k1"} | header).encode())
    message = f"{head}.{b64url(payload)}".encode()
    return message + b"." + b64url(SIGNER._key.sign(message).signature).encode()


def _signed_set(body: bytes) -> Delivery:
    """The hostile part of a SET is inside its signature."""
    return Delivery(compact_jws(body, typ="secevent+jwt"), "application/secevent+jwt", {})


CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
SESSION_REVOKED = {
    "iss": ISSUER,
    "iat": 1_795_000_010,
    "jti": "signal-1",
    "aud": "urn:answerable:default",
    "txn": "8675309",
    "sub_id": {
        "format": "complex",
        "user": {"format": "iss_sub", "iss": "https://id.example", "sub": "ada"},
        "session": {"format": "opaque", "id": "session-7"},
        "device": {"format": "opaque", "id": "laptop-1"},
    },
    "events": {
        f"{CAEP}session-revoked": {
            "initiating_entity": "policy",
            "reason_admin": {"en": "Landspeed Policy Violation: C076E82F"},
            "event_timestamp": 1_795_000_000,
        }
    },
}
STREAM_UPDATED = {
    "iss": ISSUER, "iat": 1_795_000_020, "jti": "signal-2", "aud": ["urn:answerable:default"],
    "sub_id": {"format": "opaque", "id": "stream-1"},
    "events": {"https://schemas.openid.net/secevent/ssf/event-type/stream-updated": {"status": "paused", "reason": "License is not valid"}},
}  # fmt: skip


PEAC = {
    "event_kind": "provisioning-payment-authorization-observed", "observed_at": "2026-11-20T10:25:00Z", "observed_by_ref": "urn:x:observer",
    "provider": {"provider_ref": "urn:x:provider", "account_ref": "urn:x:account"},
    "payment_authorization_observation": {"scheme_id": "card", "authorization_ref": "urn:x:auth-1", "currency": "USD", "max_amount_minor": "5000",
                                          "sub_event": "granted"},
}  # fmt: skip
PEAC_AGENT = {
    "type": "peac/agent-identity", "issuer": "https://assistant.example", "issued_at": "2026-11-20T10:00:00Z",
    "evidence": {"agent_id": "agent:1", "control_type": "user-delegated", "delegation_chain": ["user:a"], "capabilities": ["search"],
                 "proof": {"method": "mtls", "key_id": "k"}},
}  # fmt: skip
PEAC_ACTOR = {
    "id": "agent:7",
    "proof_type": "spiffe",
    "origin": "https://agents.example",
    "proof_ref": "spiffe://agents.example/7",
}
PEAC_RECORD = {
    "peac_version": "0.2", "kind": "evidence", "type": "org.peacprotocol/provisioning-payment-authorization-observed", "iss": ISSUER,
    "iat": 1_795_000_000, "jti": "rec-1", "actor": PEAC_ACTOR, "extensions": {"org.peacprotocol/provisioning-lifecycle": PEAC},
}  # fmt: skip


def _peac(body: bytes) -> Delivery:
    """A record of PEAC's is signed, the rest comes by token."""
    if b'"peac_version"' in body:
        return Delivery(compact_jws(body, typ="interaction-record+jwt"), "application/interaction-record+jwt", {})
    return with_token(body)


GITHUB = {
    "_document_id": "gh-1", "@timestamp": 1_795_000_000_123, "created_at": 1_795_000_000_123, "action": "pull_request.create", "actor": "copilot-swe-agent",
    "actor_id": 198982749, "actor_is_agent": True, "actor_is_bot": True, "agent_session_id": "sess-7", "user": "ada", "user_id": 7, "org": "acme", "org_id": 1,
    "business": "acme-inc", "repo": "acme/shop", "repository": "acme/shop", "operation_type": "create", "pull_request_id": 12, "request_id": "req-1",
    "pull_request_url": "https://github.com/acme/shop/pull/12", "user_agent": "agent/1", "actor_ip": "203.0.113.7", "programmatic_access_type": "GitHub App server-to-server token",
}  # fmt: skip
GITHUB_MERGE = GITHUB | {"_document_id": "gh-2", "action": "pull_request.merge", "actor": "ada", "actor_is_agent": False, "actor_is_bot": False, "programmatic_access_type": None,
                         "agent_session_id": None}  # fmt: skip
OKTA = {
    "uuid": "okta-1", "published": "2026-11-20T10:30:00.250Z", "eventType": "app.oauth2.as.token.grant.access_token", "version": "0", "severity": "INFO",
    "displayMessage": "OAuth2 access token is granted", "outcome": {"result": "SUCCESS", "reason": None},
    "actor": {"id": "0oa1", "type": "PublicClientApp", "alternateId": "unknown", "displayName": "Deploy helper"},
    "client": {"ipAddress": "203.0.113.7", "userAgent": {"rawUserAgent": "agent/1"}, "zone": "null"},
    "target": [{"id": "AT.1", "type": "access_token", "alternateId": None}, {"id": "00u1", "type": "User", "alternateId": "ada@acme.example"}],
    "transaction": {"id": "tx-1", "type": "WEB", "detail": {}}, "authenticationContext": {"externalSessionId": "s-1", "rootSessionId": "s-0"},
    "debugContext": {"debugData": {"grantType": "urn:ietf:params:oauth:grant-type:token-exchange", "grantedScopes": "worker:write"}},
}  # fmt: skip
OKTA_HOOK = {"eventType": "com.okta.event_hook", "eventTypeVersion": "1.0", "cloudEventsVersion": "0.1", "source": "https://acme.okta.com/api/v1/eventHooks/who1",
             "eventId": "hook-1", "eventTime": "2026-11-20T10:30:01Z", "data": {"events": [OKTA | {"uuid": "okta-2"}, OKTA | {"uuid": "okta-3", "eventType": "user.session.start"}]}}  # fmt: skip


def _otlp(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in attributes.items()
    ]


OTLP = {"resourceSpans": [{"resource": {"attributes": _otlp({"service.name": "shop-agent"})}, "scopeSpans": [{"scope": {"name": "agents"}, "spans": [{
    "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "parentSpanId": "eee19b7ec3c1b173", "name": "execute_tool domain.register", "kind": 1,
    "startTimeUnixNano": "1795000000123000000", "endTimeUnixNano": "1795000001123000000", "status": {"code": 1},
    "attributes": _otlp({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "domain.register", "gen_ai.agent.id": "agent-1", "gen_ai.conversation.id": "sess-7",
                         "gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 7, "user.id": "ada", "gen_ai.tool.call.arguments": '{"name": "acme.io"}'})}]}]}]}  # fmt: skip
OTLP_LOGS = {"resourceLogs": [{"resource": {"attributes": _otlp({"service.name": "shop-agent"})}, "scopeLogs": [{"logRecords": [{
    "timeUnixNano": "1795000000123000000", "observedTimeUnixNano": "1795000000124000000", "severityText": "INFO", "body": {"stringValue": "said"}, "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174", "eventName": "gen_ai.client.inference.operation.details",
    "attributes": _otlp({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-x", "gen_ai.response.id": "resp-1"})}]}]}]}  # fmt: skip
LITELLM = {
    "request_id": "chatcmpl-1", "call_type": "acompletion", "api_key": "a" * 64, "spend": 0.0021, "total_tokens": 300, "prompt_tokens": 100, "completion_tokens": 200,
    "startTime": "2026-11-20T10:30:00.250000", "endTime": "2026-11-20T10:30:02Z", "model": "gpt-x", "custom_llm_provider": "openai", "user": "ada", "team_id": "shop",
    "session_id": "sess-7", "status": "success", "end_user": "", "messages": [{"role": "user", "content": "hello"}], "response": {"x": 1}, "cache_hit": "False",
    "metadata": {"user_api_key_alias": "shop-agent", "requester_ip_address": "203.0.113.7"}, "request_tags": ["a"],
}  # fmt: skip
LITELLM_CALLBACK = {
    "id": "chatcmpl-2", "trace_id": "tr-1", "call_type": "completion", "stream": False, "response_cost": 4.2e-05, "status": "success", "startTime": 1_795_000_000.25,
    "endTime": 1_795_000_001.5, "model": "gpt-x", "model_map_information": {}, "custom_llm_provider": "openai", "end_user": None, "requester_ip_address": None,
    "metadata": {"user_api_key_hash": "b" * 64, "user_api_key_alias": None, "user_api_key_user_id": "ada", "user_api_key_team_id": None},
}  # fmt: skip


SAMPLES: dict[str, Sample] = {
    "github": Sample("github", [json.dumps(GITHUB).encode(), json.dumps(GITHUB_MERGE).encode()]),
    "okta": Sample("okta", [json.dumps(OKTA).encode(), json.dumps(OKTA_HOOK).encode()]),
    "otlp": Sample("otlp", [json.dumps(OTLP).encode(), json.dumps(OTLP_LOGS).encode()]),
    "litellm": Sample("litellm", [json.dumps(LITELLM).encode(), json.dumps([LITELLM_CALLBACK]).encode()]),
    "caep": Sample("caep", [json.dumps(SESSION_REVOKED).encode(), json.dumps(STREAM_UPDATED).encode()], _signed_set,
                   sender_of("caep", keys=KEYS, audience="urn:answerable:default")),
    "set": Sample("set", [json.dumps(SET).encode()], _signed_set, sender_of("set", keys=KEYS)),
    "stripe": Sample("stripe", [json.dumps(STRIPE).encode()],
                     lambda body: Delivery(body, "application/json", {"stripe-signature": timestamped_mac(body)})),
    "auth0": Sample("auth0", [json.dumps(AUTH0).encode(), b"\n".join(json.dumps(AUTH0 | {"log_id": i}).encode() for i in "ab")]),
    "keycloak": Sample("keycloak", [json.dumps(KEYCLOAK).encode()]),
    "ocsf": Sample("ocsf", [json.dumps(OCSF).encode()]),
    "cloudflare": Sample("cloudflare", [json.dumps(CLOUDFLARE_PUSHED).encode(), json.dumps({"success": True, "result": [CLOUDFLARE_LISTED | {"id": "cf-2"}]}).encode()]),
    "cloudtrail": Sample("cloudtrail", [json.dumps(CLOUDTRAIL).encode(), json.dumps({"Records": [CLOUDTRAIL]}).encode()]),
    "standard_webhooks": Sample("standard_webhooks", [json.dumps(NATIVE).encode()], standard_webhook,
                                sender_of("standard_webhooks", secret=WHSEC.encode)),
    "cloudevents": Sample("cloudevents", [json.dumps(CLOUDEVENT).encode(), json.dumps([CLOUDEVENT, CLOUDEVENT | {"id": "ce-2"}]).encode()]),
    "http_signatures": Sample("http_signatures", [json.dumps(SIGNED_BODY).encode()], signed_request, sender_of("http_signatures", keys=KEYS)),
    "app": Sample("app", [json.dumps(APP).encode()], recorded),
    "projects_cli": Sample("projects_cli", [json.dumps(CLI).encode(), json.dumps(POLLED).encode()]),
    "ap2": Sample("ap2", [json.dumps(AP2_MANDATE).encode(), json.dumps(AP2_RECEIPT).encode()], ap2_artifact, sender_of("ap2", keys=KEYS)),
    "acp": Sample("acp", [json.dumps(ACP_ORDER).encode()], merchant_signed),
    "x402": Sample("x402", [json.dumps(X402).encode()], sender=sender_of("x402", keys=KEYS)),
    "mpp": Sample("mpp", [json.dumps(MPP).encode()]),
    "peac": Sample("peac", [json.dumps(body).encode() for body in (PEAC, PEAC_AGENT, PEAC_RECORD, {"at": "2026-11-20T10:00:00Z", "actor": PEAC_ACTOR})],
                   _peac, sender_of("peac", keys=KEYS)),
}  # fmt: skip
