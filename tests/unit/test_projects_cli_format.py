"""The Projects CLI's output, its state file, and objects polled from the Provisioning API."""

import copy
import json

import pytest

from auditlog.core.errors import Refused
from tests import vectors
from tests.deliveries import CLI, POLLED, event_in, received

AT = "2026-11-20T10:30:00Z"


def ran(command="projects add", ok=True, argv=(), **data):
    made = copy.deepcopy(CLI)
    made["output"] |= {"command": command, "ok": ok, "data": data or made["output"]["data"]}
    made["argv"] += list(argv)
    return made


def polled(kind, **fields):
    return {"at": AT, "polled": {"object": f"v2.provisioning.{kind}", "id": "obj_1", "livemode": True} | fields}


def capture(name):
    return {"at": AT, "output": vectors.read(f"peac/agent-provisioning-demo/{name}.json")}


def test_published_captures_are_read():
    added, rotated = (
        event_in("projects_cli", capture("cli-add-response")),
        event_in("projects_cli", capture("cli-rotate-response")),
    )
    context = event_in("projects_cli", capture("cli-llm-context-response"))

    assert (added.type, added.payload.action.provider, added.payload.action.resource) == (
        "resource.provisioned",
        "provider-x",
        "managed-database",
    )
    assert added.payload.action.target.id == "res_SANITIZED_RESOURCE_KEY"
    assert (rotated.type, rotated.payload.action.target.id, rotated.payload.action.provider) == (
        "credential.rotated",
        "res_SANITIZED_RESOURCE_KEY",
        "provider-x",
    )
    assert context.type == "other.projects_cli.provision llm-context"


@pytest.mark.parametrize("name", ["meta", "env-keys"])
def test_what_lies_beside_the_captures_is_no_event(name):
    with pytest.raises(Refused):
        event_in("projects_cli", vectors.read(f"peac/agent-provisioning-demo/{name}.json"))
    with pytest.raises(Refused):
        event_in("projects_cli", capture(name))


def test_published_state_files_are_kept():
    for name in ("state-after-init", "state-after-add"):
        event = event_in("projects_cli", {"at": AT, "state": vectors.read(f"peac/agent-provisioning-demo/{name}.json")})
        assert event.type == "other.projects_cli.state"


def test_who_ran_it_is_the_wrappers_word_and_the_grade_says_so():
    [statement] = received("projects_cli", CLI).values()

    assert (statement.grade, statement.key) == ("F", "-")
    assert (statement.event.payload.actor.sub, statement.event.payload.session) == ("agent-1", "sess-1")


@pytest.mark.parametrize(
    ("command", "native"),
    [
        ("projects init", "project.created"),
        ("projects link cloudflare", "provider.linked"),
        ("projects unlink cloudflare", "provider.unlinked"),
        ("projects upgrade primary-db", "resource.updated"),
        ("projects remove primary-db", "resource.removed"),
        ("projects billing show", "other.projects_cli.projects billing show"),
    ],
)
def test_each_command_is_ours_or_kept_under_its_source(command, native):
    assert event_in("projects_cli", ran(command)).type == native


@pytest.mark.parametrize(
    ("code", "gate"),
    [
        ("BROWSER_AUTH_REQUIRED", "login"),
        ("TOS_ACCEPTANCE_REQUIRED", "terms"),
        ("PLAN_REQUIRED", "billing"),
        ("JSON_REQUIRES_CONFIRMATION", "purchase"),
    ],
)
def test_a_failure_that_waits_for_a_human_is_an_approval_asked_for(code, gate):
    event = event_in("projects_cli", ran(ok=False, error={"code": code}))

    assert (event.type, event.payload.outcome, event.payload.gate.kind, event.payload.call.error) == (
        "approval.requested",
        "pending",
        gate,
        code,
    )


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("ACCOUNT_NOT_ELIGIBLE", "denied"),
        ("INVALID_API_KEY", "denied"),
        ("PROVIDER_NOT_LINKED", "denied"),
        ("MERCHANT_MISMATCH", "denied"),
        ("SOMETHING_NEW", "failure"),
    ],
)
def test_what_the_service_denied_is_denied_and_other_failures_are_failures(code, outcome):
    event = event_in("projects_cli", ran(ok=False, error={"code": code}))

    assert (event.type, event.payload.outcome, event.payload.gate) == ("resource.failed", outcome, None)


def test_a_flag_that_answers_a_gate_names_who_passed_it():
    gate = event_in("projects_cli", ran(argv=["--confirm-paid-service"])).payload.gate

    assert (gate.kind, gate.by.sub, gate.by.kind) == ("purchase", "agent-1", "agent")


@pytest.mark.parametrize("command", ["projects env", "projects env list", "projects variables show", "projects pull"])
def test_the_environments_values_are_never_stored(command):
    [statement] = received("projects_cli", ran(command, DATABASE_URL="hunter2")).values()

    assert b"hunter2" not in statement.raw and b"data" in statement.headers


def test_a_variable_given_on_the_command_line_is_never_stored():
    for command, argv in (("projects variables set", []), ("projects", ["variables", "set"])):
        [statement] = received("projects_cli", ran(command, argv=[*argv, "NAME=hunter2"])).values()
        assert b"hunter2" not in statement.raw and b"argv" in statement.headers
    [statement] = received("projects_cli", ran(argv=["--api-key", "sk_live_hunter2hunter2"])).values()
    assert b"hunter2" not in statement.raw and b"argv.6" in statement.headers


def test_the_yes_flag_answers_a_gate_too():
    assert event_in("projects_cli", ran(argv=["--yes"])).payload.gate.kind == "purchase"
    assert event_in("projects_cli", ran(argv=["--yes", "--accept-tos"])).payload.gate.kind == "terms"


def test_the_vault_is_never_taken_for_a_state_file():
    with pytest.raises(Refused, match="vault"):
        event_in("projects_cli", {"at": AT, "state": {"version": 1, "DATABASE_URL": "hunter2"}})
    [statement] = received(
        "projects_cli", {"at": AT, "state": {"version": 1, "resources": {}, "Vault": {"DATABASE_URL": "hunter2"}}}
    ).values()
    assert b"hunter2" not in statement.raw


def test_a_polled_access_configuration_is_never_taken():
    with pytest.raises(Refused, match="secret") as refused:
        event_in("projects_cli", polled("resource_access_configuration", DATABASE_URL="hunter2"))
    assert "hunter2" not in str(refused.value)


def test_a_polled_object_is_one_statement_whenever_it_is_polled():
    from auditlog.formats import projects_cli

    first, again = (
        next(iter(received("projects_cli", POLLED | {"at": at}).values())) for at in (AT, "2026-11-21T00:00:00Z")
    )

    assert (first.grade, first.event.type) == ("E", "resource.provisioned")
    assert first.source_event_id == again.source_event_id
    assert projects_cli.content(first.raw, b"") == projects_cli.content(again.raw, b"")
    changed = event_in("projects_cli", polled("resource", status="removed"))
    assert changed.source_event_id != first.source_event_id and changed.type == "resource.removed"


@pytest.mark.parametrize(
    ("kind", "fields", "native", "outcome"),
    [
        ("project", {}, "project.created", "success"),
        ("resource", {"status": "errored"}, "resource.failed", "failure"),
        ("resource", {"status": "new-status"}, "other.projects_cli.v2.provisioning.resource", "unknown"),
        (
            "provider_connection",
            {"status": "active", "provider_account_details": {"link_action": "created"}},
            "account.created",
            "success",
        ),
        (
            "provider_connection",
            {"status": "active", "provider_account_details": {"link_action": "linked_existing"}},
            "account.linked",
            "success",
        ),
        ("provider_connection_request", {"request_status": "pending_auth"}, "account.requested", "pending"),
    ],
)
def test_polled_objects_have_their_meaning(kind, fields, native, outcome):
    event = event_in("projects_cli", polled(kind, **fields))

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_a_payment_profile_states_one_limit_a_provider():
    caps = {"currency": "usd", "max_amount": "10000", "recurring_interval": "month"}
    body = polled("payment_profile", usage_limits=caps | {"max_amount": "50000"},
                  providers=[{"provider": "prvdr_1", "usage_limits": caps}, {"provider": "prvdr_2", "usage_limits": caps | {"max_amount": "2000"}}])  # fmt: skip

    limits = [s.event.payload.limit for s in received("projects_cli", body).values()]

    assert [(one.scope, one.provider, one.max_minor, one.currency, one.interval) for one in limits] == [
        ("global", "", 50000, "USD", "month"), ("provider", "prvdr_1", 10000, "USD", "month"), ("provider", "prvdr_2", 2000, "USD", "month"),
    ]  # fmt: skip


def test_test_mode_is_marked():
    assert event_in("projects_cli", polled("project", livemode=False)).payload.environment == "test"


@pytest.mark.parametrize(
    "changes",
    [
        {"output": None},
        {"output": {}},
        {"state": {}},
        {"output": {"ok": "yes", "command": "add"}},
    ],
)
def test_records_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("projects_cli", CLI | changes)


def test_an_amount_that_is_no_integer_is_refused():
    body = polled("payment_profile", usage_limits={"currency": "usd", "max_amount": "12.50"})

    with pytest.raises(Refused, match="integer minor units"):
        received("projects_cli", json.dumps(body).encode())
