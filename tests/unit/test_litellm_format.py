"""LiteLLM's spend: both shapes of one call, exact money, no prompt and no key. Fields after LiteLLM's documentation
(StandardLoggingPayload, Generic API, spend tracking, read 2026-11)."""

import json

import pytest

from auditlog.core.errors import Refused
from tests.deliveries import LITELLM, LITELLM_CALLBACK, event_in, received


def test_a_call_is_a_meters_reading_of_the_keys_user():
    event = event_in("litellm", LITELLM)

    assert (event.type, event.payload.money.amount, event.payload.money.currency) == ("usage.metered", "0.0021", "USD")
    assert (event.payload.actor.sub, event.payload.actor.kind, event.principal_claim.sub) == (
        "shop-agent",
        "workload",
        "ada",
    )
    assert (
        event.payload.action.provider,
        event.payload.action.target.id,
        event.payload.session,
        event.payload.request_id,
    ) == ("openai", "gpt-x", "sess-7", "chatcmpl-1")
    assert event.payload.token == "a" * 64 and event.occurred_at.isoformat() == "2026-11-20T10:30:00.250000+00:00"


def test_the_callbacks_payload_says_the_same_under_its_own_names():
    event = event_in("litellm", [LITELLM_CALLBACK])

    assert (event.type, event.payload.money.amount, event.payload.trace_id) == ("usage.metered", "0.000042", "tr-1")
    assert (event.payload.actor.sub, event.principal_claim.sub, event.payload.token) == ("b" * 64, "ada", "b" * 64)


@pytest.mark.parametrize(
    ("cost", "amount"),
    [(4.2e-05, "0.000042"), ("0.1", "0.1"), (0, "0"), (12, "12"), (1e-13, "0"), (0.1 + 0.2, "0.3"), (1234.5, "1234.5")],
)
def test_money_is_exact_to_a_millionth_of_a_millionth(cost, amount):
    assert event_in("litellm", LITELLM | {"spend": cost}).payload.money.amount == amount


@pytest.mark.parametrize("cost", [-1, "free", 1e300, "NaN", "sNaN", "Infinity", "-inf", "1e400", "1e999999999"])
def test_what_is_no_amount_is_refused(cost):
    with pytest.raises(Refused):
        event_in("litellm", LITELLM | {"spend": cost})


def test_a_cost_that_nobody_states_is_not_nothing():
    assert event_in("litellm", {k: v for k, v in LITELLM.items() if k != "spend"}).payload.money is None


def test_prompts_answers_and_keys_are_not_stored():
    [statement] = received(
        "litellm",
        LITELLM
        | {
            "messages": "hunter2",
            "response": {"a": "hunter2"},
            "proxy_server_request": {"body": "hunter2"},
            "api_key": "sk-hunter2",
        },
    ).values()

    assert b"hunter2" not in statement.raw and statement.event.payload.token is None


def test_a_call_that_failed_did_not_go_well_and_an_agent_is_one_where_it_is_named():
    failed = event_in("litellm", LITELLM | {"status": "failure"})
    agent = event_in("litellm", LITELLM | {"agent_id": "agent-7", "user": "default_user_id"})

    assert failed.payload.outcome == "failure"
    assert (agent.payload.actor.sub, agent.payload.actor.kind, agent.principal_claim) == ("agent-7", "agent", None)


def test_metadata_may_be_an_object_or_its_json_in_a_text():
    about = {"user_api_key_alias": "crawler", "user_api_key_user_id": "ada"}

    for metadata in (about, json.dumps(about)):
        event = event_in("litellm", LITELLM | {"metadata": metadata, "user": None, "agent_id": None})
        assert (event.payload.actor.sub, event.principal_claim.sub) == ("crawler", "ada")


@pytest.mark.parametrize("write", [dict, json.dumps])
def test_a_key_itself_is_never_kept_wherever_it_stands(write):
    [statement] = received(
        "litellm", LITELLM | {"metadata": write({"user_api_key": "sk-abcdefghijklmnopqrstuvwxyz"})}
    ).values()

    assert b"sk-abc" not in statement.raw


@pytest.mark.parametrize("more", [
    {"model_parameters": {"api_key": "sk-hunter2"}}, {"litellm_params": {"api_key": "hunter2"}}, {"metadata": {"user_api_key": "a" * 64, "model_info": {"api_key": "hunter2"}}},
    {"metadata": json.dumps({"user_api_key": "a" * 64, "litellm_params": {"api_key": "hunter2"}})}, {"model_parameters": {"user_api_key": "b" * 64 + "hunter2"}},
    {"prompt": "hunter2"}, {"completion": "hunter2"}, {"guardrail_information": {"guardrail_request": {"text": "hunter2"}, "guardrail_response": "hunter2"}},
    {"metadata": {"mcp_tool_call_metadata": {"arguments": {"q": "hunter2"}}, "vector_store_request_metadata": [{"query": "hunter2"}]}},
])  # fmt: skip
def test_beside_the_hash_of_the_virtual_key_no_other_key_and_no_prompt_is_stored(more):
    [statement] = received("litellm", LITELLM | more).values()

    assert b"hunter2" not in statement.raw and statement.event.payload.token == "a" * 64


def test_another_key_that_looks_like_a_hash_is_not_stored_either():
    [statement] = received("litellm", LITELLM | {"model_parameters": {"api_key": "c" * 64}}).values()

    assert b"c" * 64 not in statement.raw and b"a" * 64 in statement.raw
