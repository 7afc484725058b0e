"""What the generated description of the API says beside its bodies: what each parameter means, how errors are answered,
and the door for deliveries, which no serializer describes.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object


class BearerTokenScheme(OpenApiAuthenticationExtension):
    """How it tells of our bearer tokens. Registers itself, once the apps are ready (auditlog/apps.py)."""

    target_class = "auditlog.reads.access.BearerToken"
    name = "bearer"

    def get_security_definition(self, auto_schema):
        return build_bearer_security_scheme_object(header_name="Authorization", token_prefix="Bearer")


PARAMETERS = {
    "account": "The account at the provider, exactly.",
    "actor": "Who acts, as `iss|sub`.",
    "after": "The cursor that `next` of the page before carries.",
    "agent": "An agent, as `iss|sub`.",
    "at": "As of when: ISO 8601 with a zone, or seconds since 1970.",
    "awaiting": "Whose step a case waits for.",
    "before": "The cursor that `next` of the page before carries.",
    "by": "What to group by, several separated by commas.",
    "chain": "Acts whose chain is `proven`, or `unproven`.",
    "charge": "The charge that statements of money name.",
    "environment": "`live` or `test`.",
    "event_id": "The event's id, as the answer to its delivery gave it.",
    "finding_id": "The finding's number.",
    "format": "How the answer is written.",
    "grant": "A grant, by its id.",
    "id": "A thing, by its id.",
    "invoice": "The invoice that statements of money name.",
    "ip": "The client's address, exactly.",
    "key": "A key, by its thumbprint (RFC 7638).",
    "kind": "The kind of thing.",
    "layer": "`authority`, `orchestration`, `domains`, `provider`, `money`, `dispute` or `other`.",
    "limit": "How many rows a page has, at most.",
    "live": "Whether it is still there.",
    "one": "A grant, by its id.",
    "other": "The grant to compare with, by its id.",
    "outcome": "`success`, `failure`, `denied`, `pending` or `unknown`.",
    "party": "A party, as `iss|sub`.",
    "principal": "On whose behalf, as `iss|sub`.",
    "provider": "The provider, exactly.",
    "ref": "The case's reference.",
    "number": "Its number in the case.",
    "request_id": "The request that statements name.",
    "rule": "The rule, exactly.",
    "session": "A session, by its id.",
    "severity": "`critical`, `high`, `medium`, `low` or `info`.",
    "since": "From this time on: ISO 8601 with a zone, or seconds since 1970.",
    "source": "The source, by its name.",
    "source_event_id": "The id that the source gave its event.",
    "state": "The state, exactly.",
    "target": "What was acted on, exactly.",
    "task": "A task, by its id.",
    "token": "A token, by its `jti`.",
    "txn": "A transaction, by its id.",
    "type": "The event's type.",
    "until": "Before this time: ISO 8601 with a zone, or seconds since 1970.",
    "verb": "What was done, exactly.",
    "what": "Which stream.",
}
_PROBLEM = {
    "type": "object",
    "description": "An error (RFC 9457): what was found and what was expected.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["title", "status"],
}
_ERRORS = {
    "400": "What was asked is not understood; `detail` says what was found and expected.",
    "401": "No token, or one that is unknown or has expired.",
    "403": "The caller's role does not allow this.",
    "404": "There is no such thing, or none that the caller may see.",
}
_BATCH = {
    "type": "object",
    "description": "Of a batch: what was kept and what was refused, by the sender's own ids.",
    "properties": {
        "ack": {"type": "array", "items": {"type": "string"}},
        "setErrs": {"type": "object", "additionalProperties": {"type": "object"}},
        "leaves": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}


def _error(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def describe(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular's hook after the schema is made."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    for operations in result["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter.setdefault("description", PARAMETERS.get(parameter["name"], ""))
            for status, description in _ERRORS.items():
                operation["responses"].setdefault(status, _error(description))
    if any(path.startswith("/api/v1/events") for path in result["paths"]):
        result["paths"]["/ingest/{tenant}/{source}"] = {"post": _ingest()}
    return result


def _ingest() -> dict[str, Any]:
    named = {"in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "operationId": "ingest",
        "description": "Take one delivery of a source, or a batch, signed as its format says. Of the tenant `default` the"
        " address is `/ingest/{source}`. 202 is answered only after the leaf is durable.",
        "tags": ["ingest"],
        "security": [],  # the delivery's own signature
        "parameters": [
            named | {"name": "tenant", "description": "The tenant, by its name."},
            named | {"name": "source", "description": "The source, by its name."},
        ],
        "requestBody": {"required": True, "content": {"application/secevent+jwt": {"schema": {"type": "string"}},
                                                       "application/json": {"schema": {}}, "*/*": {"schema": {}}}},
        "responses": {
            "200": {"description": "A batch was read.", "content": {"application/json": {"schema": _BATCH}}},
            "202": {"description": "Kept: it is in the log, exactly once. `Location` is the event's address."},
            "400": {"description": "Refused, as RFC 8935 answers: `err` and `description`."},
            "404": _error("There is no such source."),
            "409": _error("Other content under an id that was used before; both are kept."),
            "413": _error("The body is too long."),
            "429": _error("Too many at once: `Retry-After` says when to come again."),
            "503": _error("Not now, nothing was taken: come again."),
        },
    }  # fmt: skip
