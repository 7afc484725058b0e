"""A small delivery of every format that says it is a test: what a person sends first to see that a source is connected.

As bytes, signed with the secret that sender and service share, where there is one; and as the shell command that sends
the same. Where only the sender holds the key (a private one), nobody here can sign for it: then there are no bytes.
"""

import hmac
import json
import re
import shlex
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auditlog.core.errors import UnknownKey
from auditlog.formats import Delivery

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,119}\Z")
_NATIVE = {"outcome": "success", "environment": "test", "action": {"verb": "connection.test"}}


@dataclass(frozen=True, slots=True)
class Trial:
    """`by`: what authenticates it: token, mac, webhook, or sender (a key that only the sender has)."""

    by: str
    body: Callable[[str, datetime], Any] = lambda name, now: None  # of an event called `name`
    header: str = "Authorization"
    content_type: str = "application/json"
    why: str = ""  # of `sender`: why we cannot, and what to do


TRIALS: dict[str, Trial] = {
    "set": Trial("sender", content_type="application/secevent+jwt",
                 why="Each event is signed with the sender's private key, which never comes here, so only the sender can send a test. "
                     "auditlog/emit.py signs and sends one, or event.jwt is a SET that you signed otherwise."),
    "stripe": Trial("mac", lambda name, now: {
        "id": f"evt_{name}", "object": "event", "type": "connection.test", "created": int(now.timestamp()), "livemode": False,
        "data": {"object": {"id": name, "object": "connection"}}}, header="Stripe-Signature"),
    "app": Trial("mac", lambda name, now: {
        "id": name, "at": _iso(now), "side": "provider",
        "request": {"method": "GET", "path": "/provisioning/health", "headers": {"API-Version": "0.1d"}},
        "response": {"status": 200, "body": {"status": "ok"}}}, header="Recorder-Signature"),
    "projects_cli": Trial("token", lambda name, now: {
        "at": _iso(now), "argv": ["stripe", "projects", "status", "--json"], "session": name,
        "output": {"ok": True, "command": "projects status", "version": "0", "data": {}}}),
    "auth0": Trial("token", lambda name, now: {"log_id": name, "data": {"log_id": name, "type": "connection_test", "date": _iso(now)}}),
    "keycloak": Trial("token", lambda name, now: {"id": name, "time": int(now.timestamp() * 1000), "type": "CONNECTION_TEST", "realmId": "test"}),
    "ocsf": Trial("token", lambda name, now: {
        "class_uid": 9999, "activity_id": 99, "activity_name": "connection test", "type_uid": 999999,
        "time": int(now.timestamp() * 1000), "metadata": {"version": "1.7.0", "uid": name, "product": {"vendor_name": "test"}}}),
    "cloudflare": Trial("token", lambda name, now: {
        "AuditLogID": name, "ActionType": "connection_test", "ActionResult": "success", "ActionTimestamp": _iso(now),
        "ActorType": "system", "ResourceType": "test", "ResourceID": name}),
    "cloudtrail": Trial("token", lambda name, now: {
        "eventVersion": "1.08", "userIdentity": {"type": "AWSService", "invokedBy": "test"}, "eventTime": _iso(now),
        "eventSource": "test.amazonaws.com", "eventName": "ConnectionTest", "awsRegion": "us-east-1", "eventID": name,
        "eventType": "AwsServiceEvent", "readOnly": True}),
    "standard_webhooks": Trial("webhook", lambda name, now: {"type": "action.performed", "timestamp": _iso(now), "data": _NATIVE}),
    "cloudevents": Trial("token", lambda name, now: {
        "specversion": "1.0", "id": name, "source": "/connection-test", "type": "action.performed", "time": _iso(now),
        "datacontenttype": "application/json", "data": _NATIVE}, content_type="application/cloudevents+json"),
    "http_signatures": Trial("sender", why="Each request is signed with the sender's private key (RFC 9421), which never comes here, and "
                                           "curl cannot sign so: send one from the sender itself."),
    "caep": Trial("sender", content_type="application/secevent+jwt",
                  why="Each token is signed with the transmitter's private key. Ask it for a verification event: it is taken as a heartbeat."),
    "ap2": Trial("sender", content_type="text/plain",
                 why="A mandate carries the signatures of those who gave it. Send one that was exchanged."),
    "peac": Trial("token", lambda name, now: {
        "event_kind": "provisioning-catalog-observed", "observed_at": _iso(now), "catalog": {"service_id": f"connection-test/{name}"}}),
    "acp": Trial("mac", lambda name, now: {
        "type": "order_create", "data": {"id": name, "checkout_session_id": name, "currency": "usd", "status": "created"}},
        header="Merchant-Signature"),
    "x402": Trial("token", lambda name, now: {
        "id": name, "at": int(now.timestamp()),
        "required": {"x402Version": 2, "resource": {"url": f"https://test.example/{name}"},
                     "accepts": [{"scheme": "exact", "network": "eip155:84532", "asset": "test", "payTo": "0x0", "amount": "0"}]}}),
    "mpp": Trial("token", lambda name, now: {
        "id": name, "at": _iso(now), "challenge": {"id": name, "realm": "test.example", "method": "test", "intent": "charge",
                                                   "request": {"amount": "0", "currency": "usd", "recipient": "test"}}}),
    "github": Trial("token", lambda name, now: {
        "_document_id": name, "@timestamp": int(now.timestamp() * 1000), "action": "connection.test", "actor": "test", "actor_is_bot": True, "org": "test"}),
    "okta": Trial("token", lambda name, now: {
        "uuid": name, "published": _iso(now), "eventType": "connection.test", "outcome": {"result": "SUCCESS"}, "actor": {"id": "test", "type": "SystemPrincipal"}}),
    "otlp": Trial("token", lambda name, now: {
        "resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "connection-test"}}]}, "scopeSpans": [{"spans": [{
            "traceId": f"{int(now.timestamp()):032x}", "spanId": f"{int(now.timestamp()):016x}", "name": name, "startTimeUnixNano": f"{int(now.timestamp())}000000000",
            "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "connection_test"}}]}]}]}]}),
    "litellm": Trial("token", lambda name, now: {
        "request_id": name, "call_type": "connection_test", "startTime": _iso(now), "spend": 0, "model": "test", "status": "success"}),
}  # fmt: skip


def trial_delivery(format: str, secret: bytes | None, *, now: datetime) -> Delivery | None:
    """The test delivery, signed with `secret`; None where only the sender can sign. Raises UnknownKey without a secret."""
    trial = TRIALS[format]
    if trial.by == "sender":
        return None
    if not secret:
        raise UnknownKey("this source's secret is not set where the service runs")
    name, seconds = _name(now), str(int(now.timestamp()))
    body = json.dumps(trial.body(name, now), separators=(",", ":")).encode()
    if trial.by == "token":
        headers = {"authorization": f"Bearer {secret.decode('utf-8', 'replace')}"}
    elif trial.by == "mac":
        mac = hmac.new(secret, f"{seconds}.".encode() + body, "sha256").hexdigest()
        headers = {trial.header.lower(): f"t={seconds},v1={mac}"}
    else:
        try:
            key = a2b_base64(secret.strip().removeprefix(b"whsec_"), strict_mode=True)
        except (Error, ValueError):
            raise UnknownKey(
                "this source's secret is not one of Standard Webhooks: expected whsec_ and base64"
            ) from None
        mac = b64encode(hmac.digest(key, f"{name}.{seconds}.".encode() + body, "sha256")).decode()
        headers = {"webhook-id": name, "webhook-timestamp": seconds, "webhook-signature": f"v1,{mac}"}
    return Delivery(body, trial.content_type, headers | {"content-type": trial.content_type})


def trial_command(
    format: str, address: str, variable: str, *, issuer: str = "", tenant: str = "default", now: datetime
) -> str:
    """A shell command that sends it: POSIX sh, curl, and openssl where a signature is made. "" where curl cannot.

    The secret is read from the environment variable that the source's is kept in, so it stands in no history.
    """
    trial, name = TRIALS[format], _name(now)
    # Names come from a configuration that others may have written, and this is pasted into a shell.
    secret = variable if VARIABLE.match(variable) else "SOURCE_SECRET"
    send = f"curl -sS -i {shlex.quote(address)} \\\n  -H 'Content-Type: {trial.content_type}' \\\n"
    if trial.by == "sender":
        file = {"set": "event.jwt", "caep": "event.jwt", "ap2": "mandate.txt"}.get(format)
        emit = (
            f"python3 -m auditlog.emit test {shlex.quote(address)} \\\n  --issuer {shlex.quote(issuer)} --tenant"
            f" {shlex.quote(tenant)}"
            " --key key.jwk\n\n# or a SET of your own:\n"
        )
        return f"{emit if format == 'set' else ''}{send}  --data-binary @{file}" if file else ""
    body = shlex.quote(json.dumps(trial.body(name, now), separators=(",", ":")))
    if trial.by == "token":
        return f'{send}  -H "Authorization: Bearer ${secret}" \\\n  --data-binary {body}'
    if trial.by == "mac":
        return (
            f"body={body}\nt=$(date +%s)\n"
            f'mac=$(printf %s "$t.$body" | openssl dgst -sha256 -hmac "${secret}" | sed "s/.* //")\n'
            f'{send}  -H "{trial.header}: t=$t,v1=$mac" \\\n  --data-binary "$body"'
        )
    return (
        f"body={body}\nt=$(date +%s)\n"
        f"key=$(printf %s \"${{{secret}#whsec_}}\" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \\n')\n"
        f'mac=$(printf %s "{name}.$t.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)\n'
        f'{send}  -H \'webhook-id: {name}\' -H "webhook-timestamp: $t" -H "webhook-signature: v1,$mac" \\\n'
        '  --data-binary "$body"'
    )


def _name(now: datetime) -> str:
    return f"connection-test-{int(now.timestamp())}"


def _iso(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
