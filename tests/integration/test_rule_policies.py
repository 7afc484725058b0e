# ruff: noqa: F811  (fixtures)
"""How a rule is set: versioned, stated by the log, applied to the past, and tried before."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client

from auditlog.core.errors import ConfigurationDiffers, ConfigurationError, NotPermitted, NotPossible
from auditlog.core.policy import read_policy
from auditlog.database import clock
from auditlog.database.policies import RULES, policies_of, policy_of, settings_of
from auditlog.detection import tune
from auditlog.detection.findings.triage import triage
from auditlog.models import Backtest, Finding, Payload, RulePolicy
from auditlog.reads.access import issue_token
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_disputes_cases import person
from tests.integration.test_whose_money import DAY, HOUR, MINUTE, Stage, stage  # noqa: F401  fixtures among them

pytestmark = pytest.mark.usefixtures("database")
STRANDED, TWICE = "spend.stranded", "spend.duplicate_charge"


@pytest.fixture
def admin(world):
    return person(world, "admin", 1)


def twice(stage, *, amount=4_900, order="o"):
    grant = stage.grant()
    for n in range(2):
        stage.tell(stage.bank, "payment.captured", HOUR + n * DAY, amount=amount, grant=grant, actor=stage.bot, principal=None, verb="order.pay",
                   target=("order", order), money={"charge": f"{order}{n}", "rail": "card"})  # fmt: skip
    return stage.settled()


def found(stage, rule=TWICE):
    return Finding.objects.filter(tenant=stage.world.row, rule=rule)


def put(stage, admin, said, rule=TWICE, reason="noise"):
    return tune.set_by(admin, rule, said, reason=reason, now=stage.world.now)


@pytest.mark.parametrize(
    "said",
    [
        {"enabled": False},
        {"least_minor": 10_000},
        {"exempt": [{"principal": "https://id.one.example|mara", "why": "told so"}]},
    ],
)
def test_what_a_policy_makes_silent_is_withdrawn_by_its_leaf_and_comes_back(stage, admin, said):
    twice(stage)
    [finding] = found(stage)
    made = put(stage, admin, said)
    stage.settled()
    finding.refresh_from_db()
    assert (finding.state, finding.withdrawn_by_leaf) == ("withdrawn", made.leaf_index)

    put(stage, admin, {})
    stage.settled()
    finding.refresh_from_db()
    assert finding.state == "open" and policy_of(stage.world.row, TWICE).version == 2


def test_a_policy_makes_a_rule_milder_and_an_exemption_ends(stage, admin):
    twice(stage)
    assert found(stage).get().severity == "high"
    put(stage, admin, {"severity": "low"})
    stage.settled()
    assert found(stage).get().severity == "low"
    over = (stage.world.now - timedelta(days=1)).isoformat()
    put(stage, admin, {"exempt": [{"principal": "https://id.one.example|mara", "why": "for a month", "until": over}]})
    stage.settled()
    assert found(stage).get().state == "open"


def test_a_setting_is_read_by_its_rule(stage, admin):
    grant = stage.grant()
    stage.tell(
        stage.desk, "session.started", MINUTE, grant=grant, session="S", provider=None, principal=None, actor=stage.bot
    )
    stage.tell(
        stage.desk, "session.ended", HOUR, grant=grant, session="S", provider=None, principal=None, actor=stage.bot
    )
    stage.tell(stage.desk, "usage.metered", 4 * HOUR, amount=242, grant=grant, actor=stage.bot, principal=None, session="S",
               target=("vm", "a"), call={"operation": "vm.hour"})  # fmt: skip
    stage.settled()
    assert not found(stage, STRANDED).exists()
    put(stage, admin, {"settings": {"after_hours": 2}}, STRANDED)
    stage.settled()
    assert found(stage, STRANDED).get().state == "open"


def test_a_policy_is_stated_by_the_log_and_stays(stage, admin):
    made = put(stage, admin, {"severity": "low"}, reason="too loud")
    said = json.loads(bytes(Payload.objects.get(tenant=stage.world.row, leaf_index=made.leaf_index).raw))
    assert (
        said["change"] == "rule policy.set" and said["reason"] == "too loud" and '"severity": "low"' in said["policy"]
    )
    row = RulePolicy.objects.get(tenant=stage.world.row)
    with pytest.raises(DatabaseError), transaction.atomic():
        RulePolicy.objects.filter(pk=row.pk).update(data={})
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM rule_policy")


def test_a_policy_that_no_leaf_states_is_not_followed(stage, admin):
    made = put(stage, admin, {})
    unstated = RulePolicy(tenant=stage.world.row, rule=TWICE, version=2, data={"enabled": False}, reason="", set_by="", person="",
                          at=stage.world.now, leaf_index=made.leaf_index)  # fmt: skip
    with pytest.raises(DatabaseError, match=r"policy 2 of .* is not what leaf"):
        unstated.save()
    unstated.pk = None
    with (
        transaction.atomic(using="owner"),
        connections["owner"].cursor() as cursor,
    ):  # by whoever takes the triggers away
        cursor.execute("ALTER TABLE rule_policy DISABLE TRIGGER rule_policy_stated")
        unstated.save(using="owner", force_insert=True)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # foreign keys
        cursor.execute("ALTER TABLE rule_policy ENABLE TRIGGER rule_policy_stated")
    with pytest.raises(ConfigurationDiffers, match="policy 2"):
        policies_of(stage.world.row)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ([], "an object"),
        ({"colour": 1}, "colour"),
        ({"enabled": "no"}, "enabled"),
        ({"severity": "loud"}, "severity"),
        ({"least_minor": -1}, "least_minor"),
        ({"least_minor": True}, "least_minor"),
        ({"settings": {"after": 1}}, "no such setting"),
        ({"settings": {"after_hours": 0}}, "1 to 720 hours"),
        ({"settings": {"after_hours": "2"}}, "1 to 720 hours"),
        ({"exempt": [{"why": "x"}]}, "at least one of"),
        ({"exempt": [{"actor": "a"}]}, "why"),
        ({"exempt": [{"actor": "a", "why": "x", "until": "soon"}]}, "until"),
        ({"exempt": {"actor": "a"}}, "a list"),
        ({"tests": [{"finding": "1", "raised": True}]}, "tests"),
        ({"runbook": 5}, "runbook"),
    ],
)
def test_what_is_no_policy_is_refused_with_what_was_expected(said, what):
    with pytest.raises(ConfigurationError, match=what):
        read_policy(STRANDED, said, settings_of(STRANDED))


def test_a_policy_reads_as_it_is_written():
    for rule in RULES:
        policy = read_policy(rule, {"exempt": [{"actor": "a", "why": "x"}], "severity": "low"}, settings_of(rule))
        assert read_policy(rule, policy.as_json(), settings_of(rule)) == policy


def test_who_may_set_a_rule_and_with_what(stage, admin):
    with pytest.raises(NotPermitted):
        tune.set_by(person(stage.world, "finance", 1), TWICE, {}, reason="r", now=stage.world.now)
    with pytest.raises(ConfigurationError, match="reason"):
        put(stage, admin, {}, reason=" ")
    with pytest.raises(ConfigurationError, match="no rule"):
        put(stage, admin, {}, "spend.nothing")
    with pytest.raises(ConfigurationError, match="adds up"):
        put(stage, admin, {"least_minor": 5}, STRANDED)


def test_a_policy_that_fails_its_own_tests_is_not_set(stage, admin):
    twice(stage)
    number = found(stage).get().pk
    said = {"least_minor": 10_000, "tests": [{"finding": number, "raised": True}]}
    with pytest.raises(NotPossible, match=f"finding {number} is silent"):
        put(stage, admin, said)
    with pytest.raises(NotPossible, match="no finding 999999"):
        put(stage, admin, {"tests": [{"finding": 999_999, "raised": True}]})
    put(stage, admin, said | {"least_minor": 100})
    assert policy_of(stage.world.row, TWICE).version == 1


# --- tried before -----------------------------------------------------------------------------------------------------


def test_a_back_test_says_what_would_be_gone_and_keeps_nothing(stage, admin):
    twice(stage)
    twice(stage, amount=20_000, order="p")
    before = list(found(stage).values_list("pk", "state", "title", "events_total").order_by("pk"))
    result = tune.try_policy(stage.world.row, TWICE, {"least_minor": 10_000}, days=30, now=stage.world.now)

    assert (result["raised"], result["raised_now"], result["gone_total"], result["added_total"]) == (1, 2, 1, 0)
    assert "49.00" in result["gone"][0]["title"] or "98.00" in result["gone"][0]["title"]
    assert list(found(stage).values_list("pk", "state", "title", "events_total").order_by("pk")) == before
    assert not RulePolicy.objects.filter(tenant=stage.world.row).exists()


def test_a_back_test_says_what_would_be_added(stage, admin):
    grant = stage.grant()
    stage.tell(
        stage.desk, "session.started", MINUTE, grant=grant, session="S", provider=None, principal=None, actor=stage.bot
    )
    stage.tell(
        stage.desk, "session.ended", HOUR, grant=grant, session="S", provider=None, principal=None, actor=stage.bot
    )
    stage.tell(stage.desk, "usage.metered", 4 * HOUR, amount=242, grant=grant, actor=stage.bot, principal=None, session="S",
               target=("vm", "a"), call={"operation": "vm.hour"})  # fmt: skip
    stage.settled()
    result = tune.try_policy(stage.world.row, STRANDED, {"settings": {"after_hours": 2}}, days=30, now=stage.world.now)
    assert (result["added_total"], result["gone_total"]) == (1, 0) and not found(stage, STRANDED).exists()
    assert tune.try_policy(stage.world.row, STRANDED, {}, days=1, now=stage.world.now)["raised"] == 0


@pytest.mark.parametrize("share", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_every_rule_that_can_be_tried_finds_what_detection_found(told, share):
    """On the demo story, under the policy in force: what the back-test finds is what stands."""
    wrong = {}
    for rule in [rule for rule in RULES if rule not in tune.NOT_TRIED][::share]:
        result = tune.try_policy(told.row, rule, {}, days=366, now=told.now + 5 * MINUTE)
        stands = Finding.objects.filter(tenant=told.row, rule=rule).exclude(state="withdrawn").count()
        if not (result["raised"] == result["raised_now"] == stands and result["left_out"] == 0):
            wrong[rule] = (result["raised"], stands, result["left_out"])
    assert wrong == {}


@pytest.mark.parametrize("rule", sorted(tune.NOT_TRIED & set(RULES)))
def test_what_is_counted_as_it_happens_is_not_tried(stage, rule):
    with pytest.raises(ConfigurationError, match="cannot be tried"):
        tune.try_policy(stage.world.row, rule, {}, days=30, now=stage.world.now)


def test_a_worker_runs_what_was_asked_for_once(stage, admin):
    twice(stage)
    asked = tune.ask(admin, TWICE, {"enabled": False}, days=30, now=stage.world.now)
    assert tune.waiting() is not None
    tune.run(asked.pk, now=lambda: stage.world.now)
    asked.refresh_from_db()
    assert asked.state == Backtest.State.DONE and asked.result["gone_total"] == 1 and asked.done == asked.total > 0
    tune.run(asked.pk, now=lambda: stage.world.now)
    with pytest.raises(NotPermitted):
        tune.ask(person(stage.world, "auditor", 1), TWICE, {}, days=30, now=stage.world.now)
    for _ in range(tune.MOST_OPEN):
        tune.ask(admin, TWICE, {}, days=30, now=stage.world.now)
    with pytest.raises(NotPossible, match="wait already"):
        tune.ask(admin, TWICE, {}, days=30, now=stage.world.now)
    Backtest.objects.filter(tenant=stage.world.row).delete()


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_make_the_precision_of_a_rule_and_no_threshold(stage, admin):
    twice(stage)
    twice(stage, order="p")
    twice(stage, order="q")
    numbers = list(found(stage).order_by("pk").values_list("pk", flat=True))
    triage(admin, numbers[0], state="resolved", reason="it was", label="true", now=stage.world.now)
    triage(admin, numbers[1], state="false_positive", reason="no", now=stage.world.now)
    triage(admin, numbers[2], state="acknowledged", reason="hm", now=stage.world.now)
    [said] = [each for each in tune.precisions(admin) if each.rule == TWICE]
    assert (said.raised, said.true, said.false, said.share) == (3, 1, 1, 0.5) and said.low < 0.5 < said.high
    assert policies_of(stage.world.row) == {}
    with pytest.raises(NotPossible, match="label"):
        triage(admin, numbers[2], state="resolved", reason="x", label="maybe", now=stage.world.now)
    with pytest.raises(NotPermitted):
        tune.precisions(person(stage.world, "abuse", 1, provider="shop"))


def test_wilsons_bounds():
    assert tune.wilson(0, 0) == (None, None)
    low, high = tune.wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)  # Newcombe 1998, method 3


# --- by command and over HTTP -----------------------------------------------------------------------------------------


def test_by_command(stage, admin, tmp_path):
    twice(stage)
    tenant = {"tenant": stage.world.tenant, "stdout": StringIO(), "stderr": StringIO()}
    file = tmp_path / "p.json"
    file.write_text('{"least_minor": 10000}')
    call_command("backtest", TWICE, policy=str(file), **tenant)
    assert "0 raised (1 as it is set now): 0 more, 1 no more" in tenant["stdout"].getvalue()
    call_command("policy", "set", TWICE, str(file), **tenant)
    assert "version 1, stated by leaf" in tenant["stdout"].getvalue()
    call_command("policy", "show", TWICE, **tenant)
    assert '"least_minor": 10000' in tenant["stdout"].getvalue()
    call_command("policy", "show", **tenant)
    assert "spend.velocity  version 0" in tenant["stdout"].getvalue()
    file.write_text("{")
    with pytest.raises(CommandError, match="no JSON"):
        call_command("policy", "set", TWICE, str(file), **tenant)
    with pytest.raises(CommandError, match="no rule"):
        call_command("policy", "show", "nothing", **tenant)


def test_over_http(stage, admin):
    twice(stage)
    token = {}
    for role in ("admin", "finance", "auditor", "abuse"):
        user = User.objects.create(username=f"{role}-{stage.world.tenant}")
        token[role] = Client(headers={"authorization": "Bearer " + issue_token(
            stage.world.row, name=role, role=role, expires_at=clock.now() + DAY, owner=user, provider="shop" if role == "abuse" else "")})  # fmt: skip
    listed = token["auditor"].get("/api/v1/policies").json()["results"]
    assert len(listed) == len(RULES) and {"rule", "version", "policy", "settings"} <= set(listed[0])
    assert token["abuse"].get("/api/v1/policies").status_code == 403
    body = {"policy": {"least_minor": 10_000}, "reason": "small"}
    assert token["finance"].post(f"/api/v1/policies/{TWICE}", body, content_type="application/json").status_code == 403
    asked = token["finance"].post(
        "/api/v1/backtests", {"rule": TWICE, "policy": body["policy"]}, content_type="application/json"
    )
    assert asked.status_code == 202, asked.content
    tune.run(asked.json()["id"], now=lambda: stage.world.now)
    assert token["auditor"].get(f"/api/v1/backtests/{asked.json()['id']}").json()["result"]["gone_total"] == 1
    assert (
        token["auditor"]
        .post("/api/v1/backtests", {"rule": TWICE, "policy": {}}, content_type="application/json")
        .status_code
        == 403
    )
    made = token["admin"].post(f"/api/v1/policies/{TWICE}", body, content_type="application/json")
    assert (made.status_code, made.json()["version"]) == (201, 1)
    wrong = token["admin"].post(
        f"/api/v1/policies/{TWICE}", {"policy": {"loud": 1}, "reason": "r"}, content_type="application/json"
    )
    assert wrong.status_code == 400 and "loud" in wrong.json()["detail"]
    assert token["admin"].get("/api/v1/policies/spend.nothing").status_code == 400
    for odd in ("\\u0000", "\\ud800"):
        for field in ('{"policy": {"runbook": "%s"}, "reason": "r"}', '{"policy": {}, "reason": "%s"}',
                      '{"policy": {"exempt": [{"actor": "%s", "why": "w"}]}, "reason": "r"}'):  # fmt: skip
            answer = token["admin"].post(f"/api/v1/policies/{TWICE}", field % odd, content_type="application/json")
            assert answer.status_code in (201, 400), (odd, field, answer.content)


# --- on pages ---------------------------------------------------------------------------------------------------------


def test_a_rule_is_tried_and_set_on_its_page(stage, admin):
    twice(stage)
    browser, number = signed_in(stage.world, "admin"), found(stage).get().pk
    assert TWICE in browser.get("/rules/").content.decode()
    page = browser.get(f"/rules/{TWICE}/").content.decode()
    assert "Try it on the past" in page and "it works as it comes" in page
    form = {"enabled": "on", "least_minor": "10000", "days": "30", "severity": ""}
    tried = browser.post(f"/rules/{TWICE}/", form | {"do": "try"})
    assert tried.status_code == 302
    pk = Backtest.objects.get(tenant=stage.world.row).pk
    assert "every 1s" in browser.get(f"/rules/{TWICE}/?tried={pk}").content.decode()
    tune.run(pk, now=lambda: stage.world.now)
    shown = browser.get(f"/rules/{TWICE}/?tried={pk}", headers={"hx-request": "true"}).content.decode()
    assert "Raised no more" in shown and "every 1s" not in shown and "<html" not in shown

    assert "somebody will ask why" in browser.post(f"/rules/{TWICE}/", form | {"do": "set"}).content.decode()
    more = {
        "do": "set",
        "reason": "small ones",
        "who": "provider",
        "value": "<b>shop</b>",
        "why": "a test shop",
        "finding": str(number),
        "raised": "silent",
    }
    assert browser.post(f"/rules/{TWICE}/", form | more).status_code == 302
    policy = policy_of(stage.world.row, TWICE)
    assert (
        policy.least_minor == 10_000
        and policy.exempt[0].provider == "<b>shop</b>"
        and policy.tests[0].finding == number
    )
    page = browser.get(f"/rules/{TWICE}/").content.decode()
    assert "&lt;b&gt;shop&lt;/b&gt;" in page and "small ones" in page and f"finding #{number} is silent" in page
    assert (
        browser.post(
            f"/rules/{TWICE}/", {"enabled": "on", "days": "30", "do": "set", "reason": "as it was"}
        ).status_code
        == 302
    )
    assert policy_of(stage.world.row, TWICE).exempt == ()


@pytest.mark.parametrize(("role", "reads", "sets"), [("auditor", 200, 422), ("finance", 200, 422), ("abuse", 403, 403)])
def test_who_reads_and_sets_rules_on_pages(stage, role, reads, sets):
    browser = signed_in(stage.world, role, "shop" if role == "abuse" else "")
    assert browser.get("/rules/").status_code == browser.get(f"/rules/{TWICE}/").status_code == reads
    assert browser.post(f"/rules/{TWICE}/", {"do": "set", "reason": "r", "days": "30"}).status_code == sets
    assert policy_of(stage.world.row, TWICE).version == 0
    assert browser.get("/rules/no.such/").status_code in (403, 404)


def test_the_page_of_a_finding_shows_our_words_and_takes_a_label(stage, admin):
    twice(stage)
    put(stage, admin, {"runbook": "Call <Mia>.", "false_positives": "Fridays"})
    stage.settled()
    browser, number = signed_in(stage.world, "finance"), found(stage).get().pk
    page = browser.get(f"/findings/{number}/").content.decode()
    assert "Call &lt;Mia&gt;." in page and "Fridays" in page
    browser.post(f"/findings/{number}/", {"state": "resolved", "reason": "was", "label": "true"})
    assert [each.true for each in tune.precisions(admin) if each.rule == TWICE] == [1]
