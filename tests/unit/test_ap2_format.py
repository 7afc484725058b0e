"""AP2 v0.2: chains of mandates as grants, receipts, and the dispute check step by step."""

import json

import jsonschema
import pytest
from referencing import Registry, Resource

from auditlog.core.errors import Refused
from auditlog.core.event import GrantObject, act_chain
from auditlog.core.wire.sd_jwt import open_chain
from auditlog.formats import Delivery, ap2
from tests import vectors
from tests.deliveries import sender_of
from tests.sd_jwts import P256, chain, digest, disclosure, hop, token

WALLET, AGENT, SUB_AGENT = P256("wallet", 11), P256("agent", 12), P256("sub", 13)
MERCHANT, PSP = P256("merchant", 14), P256("psp", 15)
KEYS = {key.kid: key.loaded for key in (WALLET, MERCHANT, PSP)}
SENDER = sender_of("ap2", keys=KEYS)
ACME = {"id": "merchant_1", "name": "Acme", "website": "https://acme.example"}
CARD = {"id": "card_1", "type": "card"}

CHECKOUT_JWT = MERCHANT.jwt({"id": "chk_1", "total": 15000})
CHECKOUT = {"vct": "mandate.checkout.1", "checkout_jwt": CHECKOUT_JWT, "checkout_hash": digest(CHECKOUT_JWT)}
PAYMENT = {"vct": "mandate.payment.1", "transaction_id": digest(CHECKOUT_JWT), "payee": ACME,
           "payment_amount": {"amount": 15000, "currency": "USD"}, "payment_instrument": CARD}  # fmt: skip


def opened(*constraints, to=AGENT, kind="payment", **more):
    return {
        "vct": f"mandate.{kind}.open.1",
        "constraints": list(constraints),
        "cnf": {"jwk": to.jwk},
        "iat": 1_795_000_000,
        "exp": 1_795_086_400,
    } | more


RANGE = {"type": "payment.amount_range", "max": 20000, "currency": "USD"}
PAYEES = {"type": "payment.allowed_payees", "allowed": [ACME]}


def root(content, key=WALLET, **claims):
    return token(key, content, **({"iss": "https://wallet.example", "sub": "ada", "iat": 1_795_000_000} | claims))


OPEN = root(opened(RANGE, PAYEES))
OPEN_CHECKOUT = root(opened(kind="checkout"))
CLOSED = chain(OPEN, hop(AGENT, OPEN, PAYMENT))
CLOSED_CHECKOUT = chain(OPEN_CHECKOUT, hop(AGENT, OPEN_CHECKOUT, CHECKOUT))


def receipt(key, closed, **claims):
    body = {
        "status": "Success",
        "iss": "https://psp.example",
        "iat": 1_795_000_100,
        "reference": open_chain(closed)[-1].sd_hash,
    }
    return key.jwt({name: value for name, value in (body | claims).items() if value is not None})


PAYMENT_RECEIPT = receipt(PSP, CLOSED, payment_id="pay_1", psp_confirmation_id="psp_1", network_confirmation_id="net_1")
CHECKOUT_RECEIPT = receipt(MERCHANT, CLOSED_CHECKOUT, iss="https://acme.example", order_id="ord_1")


def push(artifact, sender=SENDER):
    [statement] = ap2.receive(Delivery(artifact.encode(), "text/plain", {}), sender).statements.values()
    assert ap2.parse(statement.raw, b"", sender) == statement.event and statement.raw == artifact.encode()
    return statement


def refusal(artifact, sender=SENDER):
    with pytest.raises(Refused) as caught:
        push(artifact, sender)
    return caught.value


def schema(name):
    """AP2's schema with its relative references resolved to the files beside it."""
    files = {file.name: json.loads(file.read_text()) for file in vectors.files("ap2/types/*.json")}
    registry = Registry().with_resources(
        (f"types/{name}", Resource.from_contents(made | {"$id": f"types/{name}"})) for name, made in files.items()
    )
    return jsonschema.Draft202012Validator(
        {k: v for k, v in vectors.read(f"ap2/{name}.json").items() if k != "$id"}, registry=registry
    )


def test_the_tests_mandates_and_receipts_are_as_the_published_schemas_want_them():
    schema("payment_mandate").validate(PAYMENT)
    schema("checkout_mandate").validate(CHECKOUT)
    schema("payment_receipt").validate(open_claims(PAYMENT_RECEIPT))
    schema("checkout_receipt").validate(open_claims(CHECKOUT_RECEIPT))
    reference = {"type": "payment.reference", "conditional_transaction_id": "x"}
    schema("open_payment_mandate").validate(opened(RANGE, PAYEES, reference))


def test_a_published_open_checkout_mandate_is_a_grant_with_the_intent_of_its_lines():
    lines = {
        "type": "checkout.line_items",
        "items": [{"id": "line-1", "quantity": 1, "acceptable_items": [{"id": "sku-7", "title": "Shoes"}]}],
    }
    content = opened({"type": "checkout.allowed_merchants", "allowed": [ACME]}, lines, kind="checkout")
    schema("open_checkout_mandate").validate(content)
    assert list(schema("open_checkout_mandate").iter_errors(opened(kind="checkout")))  # it wants lines

    event = push(root(content)).event

    assert event.type == "mandate.issued" and event.payload.grant.root
    assert (event.payload.grant.intent.targets, event.payload.grant.intent.quantity) == (
        ["https://acme.example", "sku-7"],
        1,
    )


def open_claims(jwt):
    from auditlog.core.wire.jws import open_jws

    return open_jws(jwt).claims


def test_an_open_mandate_is_a_grant_of_the_user_to_the_agents_key():
    statement = push(OPEN)
    event, grant = statement.event, statement.event.payload.grant

    assert (statement.grade, statement.key, event.type) == ("A", KEYS["wallet"].thumbprint, "mandate.issued")
    assert isinstance(grant, GrantObject) and grant.root and grant.parent is None
    assert (grant.subject.key, grant.subject.kind) == ("https://wallet.example|ada", "human")
    assert grant.actor.sub.endswith(AGENT.loaded.thumbprint) and grant.cnf.jkt == AGENT.loaded.thumbprint
    assert (grant.limits[0].max_minor, grant.limits[0].currency, grant.expires_at) == (20000, "USD", 1_795_086_400)
    assert (grant.intent.targets, grant.intent.max_price_minor) == (["https://acme.example"], 20000)
    assert (event.payload.money.phase, event.payload.money.amount_minor, event.payload.money.authority) == (
        "ceiling",
        20000,
        event.source_event_id,
    )


def test_a_closed_mandate_is_an_act_of_the_agent_under_the_open_one():
    grant = push(OPEN).event.payload.grant.id
    event = push(CLOSED).event

    assert (event.type, event.payload.grant) == ("payment.authority_granted", grant)
    assert [p.sub.rpartition(":")[2] for p in act_chain(event.payload.actor)] == [AGENT.loaded.thumbprint]
    assert (event.payload.money.amount_minor, event.payload.action.resource, event.txn) == (
        15000,
        "https://acme.example",
        digest(CHECKOUT_JWT),
    )


def test_three_hops_are_two_grants_with_a_parent_and_an_act():
    second = hop(AGENT, OPEN, opened(RANGE, to=SUB_AGENT))
    closed = chain(OPEN, second, hop(SUB_AGENT, second, PAYMENT))

    first, child, act = push(OPEN).event, push(chain(OPEN, second)).event, push(closed).event

    assert child.payload.grant.parent == first.payload.grant.id and not child.payload.grant.root
    assert child.payload.grant.subject == first.payload.grant.actor
    assert act.payload.grant == child.payload.grant.id
    assert [p.sub.rpartition(":")[2] for p in act_chain(act.payload.actor)] == [
        AGENT.loaded.thumbprint,
        SUB_AGENT.loaded.thumbprint,
    ]


def test_a_human_present_mandate_is_closed_by_the_user_and_direct():
    event = push(root(PAYMENT)).event

    assert (event.type, event.payload.mode, event.payload.actor, event.payload.grant) == (
        "payment.authority_granted",
        "direct",
        None,
        None,
    )


def test_a_receipt_leads_to_the_closed_mandate_whichever_way_it_refers_to_it():
    """By the hash of its JWT alone, as AP2's SDK and samples do, or with the disclosures, as the specification's text
    has it.
    """
    mandate = push(CLOSED).event
    for by in ap2.references(open_chain(CLOSED)[-1]):
        paid = push(
            receipt(
                PSP,
                CLOSED,
                reference=by,
                payment_id="pay_1",
                psp_confirmation_id="psp_1",
                network_confirmation_id="net_1",
            )
        ).event

        assert paid.type == "payment.captured" and paid.payload.money is None
        assert mandate.source_event_id == paid.payload.grant or mandate.payload.token == paid.payload.token
        checkout = receipt(
            MERCHANT,
            CLOSED_CHECKOUT,
            reference=ap2.reference(open_chain(CLOSED_CHECKOUT)[-1]),
            iss="https://acme.example",
            order_id="ord_1",
        )
        payment = receipt(
            PSP, CLOSED, reference=by, payment_id="pay_1", psp_confirmation_id="psp_1", network_confirmation_id="net_1"
        )
        steps = {
            step.name: step.holds for step in ap2.check_dispute(CLOSED_CHECKOUT, checkout, CLOSED, payment, SENDER.keys)
        }
        assert steps["payment receipt refers to it"] and steps["checkout receipt refers to it"]


def test_a_mandate_without_iat_is_taken_and_dated_by_its_arrival():
    closed = chain(OPEN, hop(AGENT, OPEN, PAYMENT, iat=None))

    event = push(closed).event

    assert not event.dated and event.type == "payment.authority_granted" and event.payload.money.amount_minor


def test_whether_a_mandate_had_ended_is_unknown_where_nobody_says_when_it_was_used():
    given = root(opened(RANGE, PAYEES), exp=1_795_086_400)
    closed = chain(given, hop(AGENT, given, PAYMENT, iat=None))

    steps = {
        step.name: step.holds
        for step in ap2.check_dispute(CLOSED_CHECKOUT, CHECKOUT_RECEIPT, closed, PAYMENT_RECEIPT, SENDER.keys)
    }

    assert steps["payment mandate verified"] is None


@pytest.mark.parametrize(("most", "limit"), [(50000, 50000), (50000.0, 50000)])
def test_a_budget_is_a_json_number_and_counts_in_minor_units(most, limit):
    budget = {"type": "payment.budget", "max": most, "currency": "usd"}
    recurs = {"type": "payment.agent_recurrence", "frequency": "MONTHLY"}

    assert push(root(opened(budget, recurs, RANGE))).event.payload.grant.limits[0].max_minor == limit
    assert push(root(opened(recurs, RANGE))).event.payload.grant.limits is None  # a cap a payment, none in all


def test_a_fraction_of_a_cent_is_refused():
    assert "minor units" in str(refusal(root(opened({"type": "payment.budget", "max": 12.5, "currency": "USD"}))))


@pytest.mark.parametrize("vct", ["mandate.payment.2", "mandate.payment", "Mandate.Payment.1", None])
def test_vct_is_matched_exactly(vct):
    assert "vct" in str(refusal(root(PAYMENT | {"vct": vct})))


@pytest.mark.parametrize("name", ["transaction_id", "payee", "payment_amount", "payment_instrument"])
def test_what_the_schema_requires_is_required(name):
    assert name in str(refusal(root({k: v for k, v in PAYMENT.items() if k != name})))


def test_every_hop_and_binding_is_checked():
    stranger = chain(OPEN, hop(SUB_AGENT, OPEN, PAYMENT))  # not the key that the open mandate names
    rebound = chain(OPEN, hop(AGENT, OPEN_CHECKOUT, PAYMENT))  # bound to another open mandate
    unbound = chain(OPEN, hop(AGENT, OPEN, PAYMENT, sd_hash=None))
    unknown_root = chain(root(opened(RANGE), key=AGENT), hop(AGENT, OPEN, PAYMENT))
    tampered = CLOSED.replace(CLOSED.split("~")[0].split(".")[2][:4], "AAAA", 1)
    wrong_typ = chain(OPEN, hop(AGENT, OPEN, PAYMENT, typ="JWT"))
    terminal_with_key = chain(OPEN, hop(AGENT, OPEN, opened(RANGE), typ="kb+sd-jwt"))

    assert [refusal(one).err for one in (stranger, rebound, unbound, unknown_root, tampered, wrong_typ, terminal_with_key)] == [
        "authentication_failed", "authentication_failed", "invalid_request", "invalid_key", "authentication_failed", "invalid_request",
        "invalid_request",
    ]  # fmt: skip


def test_the_issuer_jwts_hash_binds_too():
    push(chain(OPEN, hop(AGENT, OPEN, PAYMENT, sd_hash=None, issuer_jwt_hash=digest(OPEN.partition("~")[0]))))


def test_a_hidden_or_changed_disclosure_is_noticed():
    assert "delegate" in str(refusal(OPEN.partition("~")[0] + "~")) or "vct" in str(
        refusal(OPEN.partition("~")[0] + "~")
    )
    assert "disclosures" in str(refusal(OPEN + disclosure("extra", 1) + "~"))
    assert "twice" in str(
        refusal(
            token(
                WALLET,
                PAYMENT,
                hide=False,
                iat=1,
                a=[{"...": digest(disclosure(7))}],
                b=[{"...": digest(disclosure(7))}],
            )
            + disclosure(7)
            + "~"
        )
    )


def test_wallets_that_put_bare_digests_there_are_read():
    shown = disclosure(PAYMENT)
    jwt = WALLET.jwt({"iat": 1_795_000_000, "delegate_payload": [digest(shown)]})

    assert push(f"{jwt}~{shown}~").event.payload.money.amount_minor == 15000


def test_artifacts_of_one_delivery_are_kept_beside_a_bad_one():
    body = json.dumps({"artifacts": [OPEN, "nonsense", CLOSED, PAYMENT_RECEIPT]}).encode()

    statements = ap2.receive(Delivery(body, "application/json", {}), SENDER).statements

    assert [isinstance(s, Refused) for s in statements.values()] == [False, True, False, False]


def test_a_card_number_in_a_mandate_is_refused():
    assert "card number" in str(
        refusal(root(PAYMENT | {"payment_instrument": {"type": "card", "pan": "4242424242424242"}}))
    )


@pytest.mark.parametrize(
    "claims",
    [{"status": "Maybe"}, {"reference": None}, {"iat": "now"}, {"psp_confirmation_id": None}, {"status": "Error"}],
)
def test_receipts_that_the_schema_refuses_are_refused(claims):
    good = {"payment_id": "p", "psp_confirmation_id": "a", "network_confirmation_id": "b"}

    assert refusal(receipt(PSP, CLOSED, **(good | claims))).err == "invalid_request"


# --- the dispute check ----------------------------------------------------------------------------------------------


def dispute(
    checkout=CLOSED_CHECKOUT,
    checkout_receipt=CHECKOUT_RECEIPT,
    payment=CLOSED,
    payment_receipt=PAYMENT_RECEIPT,
    keys=KEYS,
):
    return ap2.check_dispute(checkout, checkout_receipt, payment, payment_receipt, keys)


def test_all_five_steps_hold_for_a_whole_record():
    steps = dispute()

    assert [(step.name, step.holds) for step in steps] == [
        ("checkout mandate verified", True), ("checkout hash recomputed", True), ("checkout receipt refers to it", True),
        ("payment mandate verified", True), ("payment receipt refers to it", True),
    ]  # fmt: skip


def failing(**changes):
    return [number for number, step in enumerate(dispute(**changes), start=1) if step.holds is not True]


def test_each_step_fails_by_itself():
    other_jwt = MERCHANT.jwt({"id": "chk_2", "total": 1})
    wrong_hash = hop(AGENT, OPEN_CHECKOUT, CHECKOUT | {"checkout_jwt": other_jwt})
    wrong_hash_chain = chain(OPEN_CHECKOUT, wrong_hash)
    elsewhere = hop(AGENT, OPEN, PAYMENT | {"transaction_id": digest(other_jwt)})
    elsewhere_chain = chain(OPEN, elsewhere)
    too_much = hop(AGENT, OPEN, PAYMENT | {"payment_amount": {"amount": 20001, "currency": "USD"}})
    too_much_chain = chain(OPEN, too_much)
    good = {"payment_id": "pay_1", "psp_confirmation_id": "psp_1", "network_confirmation_id": "net_1"}

    assert failing(checkout=CLOSED_CHECKOUT[:-8] + "AAAAAAA~") == [1, 2, 3, 4]
    assert failing(checkout=wrong_hash_chain, checkout_receipt=receipt(MERCHANT, wrong_hash_chain, order_id="o")) == [
        2,
        4,
    ]
    assert failing(checkout_receipt=receipt(MERCHANT, CLOSED, order_id="o")) == [3]
    assert failing(payment=elsewhere_chain, payment_receipt=receipt(PSP, elsewhere_chain, **good)) == [4]
    assert failing(payment=too_much_chain, payment_receipt=receipt(PSP, too_much_chain, **good)) == [4]
    assert failing(payment_receipt=receipt(PSP, CLOSED_CHECKOUT, **good)) == [5]
    assert failing(payment_receipt=receipt(AGENT, CLOSED, **good)) == [5]


def closed_under(*constraints, **payment):
    first = root(opened(*constraints))
    made = chain(first, hop(AGENT, first, PAYMENT | payment))
    good = {"payment_id": "pay_1", "psp_confirmation_id": "psp_1", "network_confirmation_id": "net_1"}
    return dispute(payment=made, payment_receipt=receipt(PSP, made, **good))[3]


@pytest.mark.parametrize(
    ("constraint", "payment", "holds"),
    [
        (RANGE, {}, True),
        (RANGE | {"min": 16000}, {}, False),
        (RANGE | {"currency": "EUR"}, {}, False),
        (PAYEES, {"payee": ACME | {"id": "other"}}, False),
        ({"type": "payment.allowed_payment_instruments", "allowed": [CARD]}, {}, True),
        ({"type": "payment.allowed_payment_instruments", "allowed": []}, {}, False),
        (
            {
                "type": "payment.allowed_pisps",
                "allowed": [{"legal_name": "P", "brand_name": "P", "domain_name": "p.example"}],
            },
            {},
            False,
        ),
        (
            {"type": "payment.execution_date", "not_after": "2026-01-01T00:00:00Z"},
            {"execution_date": "2026-06-01T00:00:00Z"},
            False,
        ),
        (
            {"type": "payment.execution_date", "not_after": "2026-12-01T00:00:00Z"},
            {"execution_date": "2026-06-01T00:00:00Z"},
            True,
        ),
        ({"type": "payment.reference", "conditional_transaction_id": digest(OPEN_CHECKOUT)}, {}, True),
        ({"type": "payment.reference", "conditional_transaction_id": "another"}, {}, False),
        ({"type": "payment.budget", "max": 14999, "currency": "USD"}, {}, False),
        ({"type": "payment.budget", "max": 15000, "currency": "USD"}, {}, None),
        ({"type": "payment.agent_recurrence", "frequency": "DAILY"}, {}, None),
        ({"type": "payment.something_new"}, {}, False),
        ("text", {}, False),
    ],
)
def test_each_constraint_is_held_to_and_what_a_mandate_cannot_know_is_unknown(constraint, payment, holds):
    assert closed_under(constraint, **payment).holds is holds


def test_a_field_that_the_open_mandate_fixed_may_not_change():
    first = root(opened(RANGE, payee=ACME))
    made = chain(first, hop(AGENT, first, PAYMENT | {"payee": ACME | {"name": "Acme Inc"}}))

    assert dispute(payment=made)[3].holds is False


@pytest.mark.parametrize(
    ("claims", "content", "holds"),
    [
        ({"exp": 1_794_999_000}, {}, False), ({}, {"exp": 1_795_000_000}, False), ({"iat": 1_795_009_000}, {}, False),
        ({}, {"iat": 1_795_009_000}, False), ({"exp": 1_795_086_400}, {"exp": 1_795_086_400}, True), ({"iat": 1_795_000_200}, {}, True),
    ],
)  # fmt: skip
def test_an_open_mandate_holds_only_while_it_was_good(claims, content, holds):
    given = root(opened(RANGE, PAYEES) | content, **claims)
    closed = chain(given, hop(AGENT, given, PAYMENT, iat=1_795_000_010))

    step = dispute(
        payment=closed,
        payment_receipt=receipt(
            PSP, closed, payment_id="pay_1", psp_confirmation_id="psp_1", network_confirmation_id="net_1"
        ),
    )[3]

    assert step.holds is holds, step.reason


def test_a_secret_in_a_mandate_is_refused_since_it_cannot_be_taken_out():
    for secret in ({"access_token": "hunter2"}, {"note": "spt_hunter2"}):
        refused = refusal(root(opened(RANGE, PAYEES, risk_data=secret)))
        assert "secret" in str(refused) and "hunter2" not in str(refused)


def test_an_unknown_merchant_key_is_unknown_and_not_false():
    step = dispute(keys={kid: key for kid, key in KEYS.items() if kid != "merchant"})[0]

    assert step.holds is None and "merchant" in step.reason


@pytest.mark.parametrize("hostile", ["", "~", "~~~~", "a.b.c", "~~".join(["a.b.c"] * 50), "x" * 200_000, "é"])
def test_hostile_chains_are_refused(hostile):
    assert refusal(hostile).err in ("invalid_request", "invalid_key")
    assert all(step.holds is not True for step in dispute(hostile, hostile, hostile, hostile))


def test_deep_claims_are_refused():
    deep: dict = {}
    for _ in range(80):
        deep = {"a": deep}

    assert refusal(root(PAYMENT | {"risk_data": deep})).err == "invalid_request"


def test_a_receipt_of_an_error_is_a_failure_and_one_of_a_checkout_names_the_order():
    failed = push(
        receipt(PSP, CLOSED, status="Error", payment_id="pay_1", error="invalid_mandate", error_description="no")
    ).event

    assert (failed.type, failed.payload.call.error) == ("payment.failed", "invalid_mandate")
    assert push(CHECKOUT_RECEIPT).event.payload.action.target.id == "ord_1"


# --- what binds ------------------------------------------------------------------------------------------------------

BUDGET = {"type": "payment.budget", "max": 100000, "currency": "USD"}
RECURS = {"type": "payment.agent_recurrence", "frequency": "MONTHLY"}


@pytest.mark.parametrize(("constraints", "limit"), [
    ((RANGE | {"max": 50000}, RANGE), 20000), ((RANGE, RANGE | {"max": 50000}), 20000), ((RANGE, BUDGET), 20000), ((BUDGET, RANGE), 20000),
    ((RANGE | {"max": 50000}, BUDGET | {"max": 30000}), 30000), ((BUDGET, BUDGET | {"max": 90000}, RECURS, RANGE), 90000),
])  # fmt: skip
def test_all_constraints_bind_so_the_least_counts(constraints, limit):
    """open_payment_mandate.json: constraints "that the future checkout action must abide by"; a budget is for recurrence."""
    payload = push(root(opened(*constraints))).event.payload

    assert [one.max_minor for one in payload.grant.limits] == [limit] and payload.money.amount_minor == limit
    assert payload.intent.max_price_minor <= 50000


def test_two_ranges_bound_the_price_of_the_intent_by_the_lesser():
    assert push(root(opened(RANGE | {"max": 50000}, RANGE))).event.payload.intent.max_price_minor == 20000


def test_limits_in_two_currencies_bind_each():
    payload = push(root(opened(RANGE, RANGE | {"currency": "EUR", "max": 500}))).event.payload

    assert {one.currency: one.max_minor for one in payload.grant.limits} == {"USD": 20000, "EUR": 500}
    assert payload.money is None  # neither is what it allows in all


def test_an_amount_that_the_user_fixed_bounds_the_one_payment_and_not_what_recurs():
    fixed = {"payment_amount": {"amount": 15000, "currency": "USD"}}

    assert push(root(opened(RANGE, **fixed))).event.payload.grant.limits[0].max_minor == 15000
    assert push(root(opened(RANGE, RECURS, BUDGET, **fixed))).event.payload.grant.limits[0].max_minor == 100000


@pytest.mark.parametrize(("token", "content", "window", "ends"), [
    (1_795_000_500, 1_795_999_999, None, 1_795_000_500), (1_795_999_999, 1_795_000_500, None, 1_795_000_500), (1_795_000_500, None, None, 1_795_000_500),
    (None, 1_795_999_999, "2026-11-20T00:00:00Z", 1_795_132_800), (None, None, "2026-11-20", 1_795_219_199.999999), (None, 1_795_000_500, "2026-11-20", 1_795_000_500),
    (None, 1_795_000_500, "some day", 1_795_000_500),
])  # fmt: skip
def test_a_grant_ends_at_the_earliest_of_what_its_token_and_mandate_say(token, content, window, ends):
    window = [{"type": "payment.execution_date", "not_after": window}] if window else []

    grant = push(root(opened(RANGE, *window) | {"exp": content}, exp=token)).event.payload.grant

    assert grant.expires_at == ends


@pytest.mark.parametrize(("bounds", "day", "holds"), [
    ({"not_after": "2026-06-01"}, "2026-06-01", True), ({"not_after": "2026-06-01"}, "2026-06-02", False), ({"not_before": "2026-06-01"}, "2026-05-31", False),
    ({"not_before": "2026-06-01T12:00:00Z"}, "2026-06-01", True), ({"not_after": "one day"}, "2026-06-01", None),
])  # fmt: skip
def test_days_without_a_time_are_held_to_too(bounds, day, holds):
    assert closed_under({"type": "payment.execution_date"} | bounds, execution_date=day).holds is holds


def test_what_nothing_rests_on_refuses_no_receipt():
    dated = push(
        receipt(PSP, CLOSED, payment_id="p", psp_confirmation_id="a", network_confirmation_id="b", iat=1_795_000_100.5)
    )
    failed = push(receipt(PSP, CLOSED, payment_id="p", status="Error", error="declined"))

    assert (dated.event.payload.outcome, failed.event.payload.outcome) == ("success", "failure")
