"""Detectors on the real road: each with what it must catch, and an ordinary day on which it must stay silent."""

from datetime import timedelta

import pytest

from auditlog.core.errors import NotPermitted
from auditlog.detection.detect import detect
from auditlog.detection.findings.triage import triage
from auditlog.detectors import runbook_of
from auditlog.models import Finding, Role
from auditlog.projection.project import project, rebuild
from auditlog.reads.access import Viewer
from auditlog.simulator.world import registration
from auditlog.sources.configure import add_organisation

ID, BOTS = "https://id.acme.example", "https://bots.example"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def desk(world):
    world.source("conductor", "https://conductor.example")
    add_organisation(world.row, "acme", issuers=[ID], owned_names=["acme", "acme.io"], now=world.now)
    add_organisation(
        world.row, "globex", issuers=["https://id.globex.example"], owned_names=["globex.com"], now=world.now
    )
    world.ada = world.human("ada", issuer=ID)
    world.lead, world.helper = world.agent("lead", issuer=BOTS), world.agent("helper", issuer=BOTS)
    world.at = world.now - timedelta(days=3)
    world.root = world.grant(
        world.ada, world.lead, actions=["**"], resources=["**"], redelegate=True, at=world.at - timedelta(days=60)
    )
    world.send(world.root)
    return world


def found(world, rule=None, **after):
    world.settle(**after)
    findings = Finding.objects.filter(tenant=world.row).exclude(state="withdrawn").order_by("id")
    if rule is None:
        return [f.rule for f in findings]
    assert {f.rule for f in findings} <= {rule}, [f.title for f in findings]
    return list(findings)


def names(world, count, *, every, at=None, pattern="shop{}.top", **event):
    at = at or world.at
    return [
        world.registers(pattern.format(n), price_minor=150, grant=world.root, at=at + every * n, **event)
        for n in range(count)
    ]


# --- intent and squatting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bought", "relation"),
    [
        ("wonder.cc", "tld_swap"),
        ("won-der.club", "hyphen"),
        ("w0nder.club", "confusable"),
        ("wonder-shop.club", "token_added"),
        ("wonded.club", "edit"),
        ("other.club", "unrelated"),
    ],
)
def test_another_name_than_the_intended_one_is_found_with_how_long_it_can_be_undone(desk, bought, relation):
    desk.send(
        desk.registers(bought, price_minor=1100, grant=desk.root, intent={"targets": ["wonder.club"]}, at=desk.at)
    )

    [finding] = found(desk, "intent.domain_mismatch")

    assert finding.evidence["relation"] == relation
    assert finding.evidence["undo_until"] == (desk.at + timedelta(days=5)).isoformat()
    assert (finding.principal, finding.money_at_risk_minor) == (desk.ada.iss + "|ada", 1100)


@pytest.mark.parametrize("bought", ["wonder.club", "WONDER.club.", "Wonder.Club"])
def test_the_intended_name_in_other_spelling_is_no_mismatch(desk, bought):
    desk.send(
        desk.registers(bought, price_minor=1100, grant=desk.root, intent={"targets": ["wonder.club"]}, at=desk.at)
    )

    assert found(desk) == []


def test_an_intent_on_the_grant_counts_and_no_intent_at_all_is_no_mismatch(desk):
    asked = desk.grant(desk.ada, desk.lead, intent={"targets": ["wonder.club"]}, at=desk.at - MINUTE)
    desk.send(
        asked,
        desk.registers("wonder.cc", price_minor=1, grant=asked, at=desk.at),
        desk.registers("free.choice.example", price_minor=1, grant=desk.root, at=desk.at),
    )

    assert len(found(desk, "intent.domain_mismatch")) == 1


def test_a_name_is_compared_with_what_was_approved_and_where_no_human_spoke_with_what_was_quoted(desk):
    approved = {"principal": desk.ada, "actor": desk.ada, "gate": {"kind": "purchase", "by": desk.ada.full}}
    told = {"verb": "domain.register", "provider": "registrar"}

    def bought(name, request, **more):
        return desk.registers(name, price_minor=1100, grant=desk.root, request_id=request, at=desk.at, **more)

    def approval(name, request):
        return desk.event("approval.decided", request_id=request, at=desk.at - MINUTE, **approved,
                          action=told | {"target": {"type": "domain", "id": name}})  # fmt: skip

    def quote(name, request):
        return desk.event("payment.quoted", request_id=request, at=desk.at - MINUTE, grant=desk.root,
                          action=told | {"target": {"type": "domain", "id": name}},
                          money={"amount_minor": 1100, "currency": "USD", "phase": "quoted", "rail": "r", "charge": request})  # fmt: skip

    desk.send(
        bought("quill-works.club", "rq-1"), approval("quillworks.club", "rq-1"),
        bought("brightforge.club", "rq-2"), approval("brightforge.club", "rq-2"),
        bought("tallow.cc", "rq-3"), quote("tallow.club", "rq-3"),
        bought("lantern.cc", "rq-4", intent={"targets": ["lantern.club"]}), approval("lantern.cc", "rq-4"),
        bought("kelp.cc", "rq-5", intent={"targets": ["kelp.club"]}), quote("kelp.cc", "rq-5"),
    )  # fmt: skip

    findings = found(desk, "intent.domain_mismatch")
    said = {f.title.split()[0]: (f.evidence["relation"], f.evidence["stated_in"]) for f in findings}
    assert said == {
        "quill-works.club": ("hyphen", "approval"),
        "tallow.cc": ("tld_swap", "quote"),
        "kelp.cc": ("tld_swap", "intent"),
    }


def test_how_long_is_left_is_not_said_of_an_ending_whose_rule_is_not_known(desk):
    desk.send(
        desk.registers("wonder.de", price_minor=1100, grant=desk.root, intent={"targets": ["wonder.club"]}, at=desk.at)
    )

    [finding] = found(desk, "intent.domain_mismatch")
    assert "undo_until" not in finding.evidence and "not known of this ending" in runbook_of(finding, desk.now)


@pytest.mark.parametrize(
    "name", ["globex.net", "gl0bex.com", "globex-login.com", "gobex.com", "globeх.com", "glóbex.net", "myglobex.shop"]
)
def test_a_name_close_to_somebody_elses_mark_is_found(desk, name):
    desk.send(desk.registers(name, price_minor=900, grant=desk.root, at=desk.at))

    assert len(found(desk, "squatting.lookalike")) == 1


@pytest.mark.parametrize("name", ["acme.net", "acme-shop.io", "weather.club", "box.com"])
def test_own_marks_and_ordinary_names_are_no_lookalikes(desk, name):
    desk.send(desk.registers(name, price_minor=900, grant=desk.root, at=desk.at))

    assert found(desk) == []


def test_many_names_in_minutes_are_one_finding_that_grows(desk):
    first, second = names(desk, 40, every=timedelta(seconds=15))[:20], names(desk, 40, every=timedelta(seconds=15))[20:]
    desk.send(*first)
    [before] = found(desk, "squatting.bulk_registration")
    desk.send(*second)
    [after] = found(desk, "squatting.bulk_registration")

    assert before.pk == after.pk and len(after.event_ids) == 40
    assert after.money_at_risk_minor == 40 * 150


def test_a_few_names_now_and_then_and_a_small_batch_are_ordinary(desk):
    desk.send(*names(desk, 12, every=timedelta(days=2), at=desk.at - timedelta(days=30), pattern="daily{}.example"))
    desk.send(*names(desk, 5, every=MINUTE, pattern="launch{}.example"))

    assert found(desk) == []


def test_names_that_the_plan_lists_do_not_count(desk):
    plan = {"targets": [f"shop{n}.top" for n in range(40)], "quantity": 40}
    desk.send(*names(desk, 40, every=timedelta(seconds=15), intent=plan))

    assert found(desk) == []


# --- spend ----------------------------------------------------------------------------------------------------------


def calls(world, count, *, args=lambda n: {"scene": "sea", "request_id": f"r{n}", "ts": n}, every=MINUTE, **event):
    return [
        world.metered(
            "video.render", args(n), amount_minor=500, at=world.at + every * n, **({"grant": world.root} | event)
        )
        for n in range(count)
    ]


def test_the_same_call_charged_again_and_again_is_a_loop_whatever_changes_in_it(desk):
    child = desk.grant(desk.lead, desk.helper, parent=desk.root, at=desk.at - MINUTE)
    looping = calls(desk, 12)
    looping[6:] = calls(desk, 12, grant=child)[6:]  # a fresh sub-agent does not start the count anew
    desk.send(child, *looping)

    [finding] = found(desk, "spend.retry_loop")

    assert len(finding.event_ids) == 12 and finding.evidence["agents"] == 2


def test_a_loop_of_three_calls_in_turn_is_seen(desk):
    desk.send(*calls(desk, 30, args=lambda n: {"scene": ["a", "b", "c"][n % 3]}))

    [loop] = found(desk, "spend.retry_loop")
    assert loop.evidence["kind"] == "in_turn" and loop.evidence["charges"] == 30


def test_different_work_and_a_retry_under_one_key_are_no_loop(desk):
    desk.send(*calls(desk, 40, args=lambda n: {"scene": f"take {n}"}))
    desk.send(*calls(desk, 3, key="one-key", charge="one-charge"))
    desk.send(*calls(desk, 10, every=timedelta(hours=7), args=lambda n: {"report": "weekly"}))

    assert found(desk) == []


def test_a_loop_is_noticed_earlier_when_it_is_beyond_what_the_task_may_cost(desk):
    desk.send(*calls(desk, 5, intent={"text": "one film", "max_price_minor": 500, "currency": "USD"}))

    assert sorted(found(desk)) == ["intent.price_exceeded", "spend.retry_loop"]
    assert {f.money_at_risk_minor for f in Finding.objects.filter(tenant=desk.row)} == {2500 - 500}


def limited(world, provider, amount, *, scope="provider", holder=None, **more):
    return world.limit("set", amount, id=f"l-{provider}-{scope}", holder=holder or world.lead, set_by=world.ada, provider=provider,
                       scope=scope, at=world.at - 500 * MINUTE, **more)  # fmt: skip


def paid(world, amount, provider="cloud", *, at=None, **event):
    return world.payment("captured", amount, provider=provider, at=at or world.at, **({"grant": world.root} | event))


def test_spend_over_a_limit_is_found_with_its_overrun_and_the_charge_that_crossed(desk):
    last = paid(desk, 3000, at=desk.at + MINUTE)
    desk.send(limited(desk, "cloud", 10_000), paid(desk, 8000), last)

    [finding] = found(desk, "spend.cap_exceeded")

    assert finding.money_at_risk_minor == 1000
    crossing = [e for e in finding.event_ids if str(e) == finding.evidence["crossed_by"]]
    assert len(crossing) == 1 and len(finding.event_ids) == 2


def test_spend_up_to_a_limit_in_another_month_at_another_provider_or_refunded_is_within_it(desk):
    before = desk.at - timedelta(days=40)
    desk.send(
        limited(desk, "cloud", 10_000),
        paid(desk, 9000, at=before),
        paid(desk, 4000, charge="back"),
        desk.payment("refunded", 4000, charge="back", provider="cloud", grant=desk.root, at=desk.at + MINUTE),
        paid(desk, 10_000, at=desk.at + 2 * MINUTE),  # what came back before gives room
        paid(desk, 5000, "meter"),
    )

    assert found(desk) == []


def test_a_human_who_raises_the_limit_in_time_makes_the_spend_fine(desk):
    desk.send(
        limited(desk, "cloud", 10_000),
        desk.limit("raised", 20_000, id="l", holder=desk.lead, set_by=desk.ada, provider="cloud", at=desk.at - MINUTE),
        paid(desk, 15_000),
    )

    assert found(desk) == []


def test_the_sum_over_providers_above_the_humans_limit_is_found_though_each_keeps_its_own(desk):
    desk.send(
        limited(desk, None, 15_000, scope="global", holder=desk.ada),
        limited(desk, "cloud", 10_000), limited(desk, "meter", 10_000),
        paid(desk, 9000), paid(desk, 9000, "meter", at=desk.at + MINUTE),
    )  # fmt: skip

    [finding] = found(desk, "spend.cross_provider_cap")

    assert finding.money_at_risk_minor == 3000


def test_a_sum_within_the_humans_limit_is_fine(desk):
    desk.send(
        limited(desk, None, 15_000, scope="global", holder=desk.ada), limited(desk, "cloud", 10_000),
        limited(desk, "meter", 10_000), paid(desk, 7000), paid(desk, 8000, "meter"),
    )  # fmt: skip

    assert found(desk) == []


def test_an_agent_that_raises_its_own_limit_or_its_parents_is_found(desk):
    child = desk.grant(desk.lead, desk.helper, parent=desk.root, at=desk.at - 2 * MINUTE)
    desk.send(
        child, limited(desk, "cloud", 10_000),
        desk.limit("raised", 20_000, id="l", holder=desk.lead, set_by=desk.lead, provider="cloud", at=desk.at),
        desk.limit("raised", 30_000, id="l", holder=desk.lead, set_by=desk.helper, provider="cloud", at=desk.at + MINUTE),
    )  # fmt: skip

    assert sorted(f.actor for f in found(desk, "spend.self_raise")) == [f"{BOTS}|helper", f"{BOTS}|lead"]


def test_a_human_may_raise_and_an_agent_may_lower(desk):
    desk.send(
        limited(desk, "cloud", 10_000),
        desk.limit("raised", 20_000, id="l", holder=desk.lead, set_by=desk.ada, provider="cloud", at=desk.at),
        desk.limit("set", 5_000, id="l", holder=desk.lead, set_by=desk.lead, provider="cloud", at=desk.at + MINUTE),
    )

    assert found(desk) == []


def reached_and_raised(world, by, times):
    told = []
    for n in range(times):
        at = world.at + timedelta(hours=n)
        said = {"id": "l", "holder": world.ada, "provider": "cloud", "principal": world.ada}
        told.append(world.limit("reached", 1000, set_by=world.ada, at=at, **said))
        told.append(world.limit("raised", 2000 + n, set_by=by, at=at + MINUTE, **said))
    return told


def test_raises_after_each_reaching_with_no_human_deciding_are_creep(desk):
    stranger = desk.agent("controller", issuer="https://elsewhere.example")  # not below the holder: no self-raise
    desk.send(limited(desk, "cloud", 1000, holder=desk.ada), *reached_and_raised(desk, stranger, 3))

    [finding] = found(desk, "spend.cap_creep")

    assert len(finding.evidence["raises"]) == 3


def test_one_raise_or_raises_by_a_human_are_no_creep(desk):
    stranger = desk.agent("controller", issuer="https://elsewhere.example")
    desk.send(*reached_and_raised(desk, stranger, 1), *reached_and_raised(desk, desk.ada, 3))

    assert found(desk) == []


# --- authority ------------------------------------------------------------------------------------------------------


def test_a_scope_that_the_parent_never_had_is_found_at_its_hop(desk):
    narrow = desk.grant(desk.ada, desk.lead, actions=["dns.*"], resources=["acme.io"], redelegate=True, at=desk.at)
    wide = desk.grant(desk.lead, desk.helper, parent=narrow, actions=["dns.*", "worker.deploy"], at=desk.at)
    desk.send(narrow, wide)

    [finding] = found(desk, "authority.scope_widened")

    assert finding.grant == wide.id and finding.evidence["hop"] == 2


def test_narrower_equal_and_inherited_scopes_are_fine(desk):
    parent = desk.grant(desk.ada, desk.lead, actions=["dns.*"], resources=["*.acme.io"], redelegate=True, at=desk.at)
    desk.send(
        parent,
        desk.grant(desk.lead, desk.helper, parent=parent, actions=["dns.read"], resources=["www.acme.io"], at=desk.at),
        desk.grant(desk.lead, desk.helper, parent=parent, actions=["dns.*"], resources=["*.ACME.io."], at=desk.at),
        desk.grant(desk.lead, desk.helper, parent=parent, at=desk.at),
    )

    assert found(desk) == []


def test_a_widened_child_that_comes_before_its_parent_is_found_when_the_parent_comes(desk):
    narrow = desk.grant(desk.ada, desk.lead, actions=["dns.*"], redelegate=True, at=desk.at)
    wide = desk.grant(desk.lead, desk.helper, parent=narrow, actions=["worker.deploy"], at=desk.at)
    desk.send(wide)
    assert found(desk) == []

    desk.send(narrow)

    assert len(found(desk, "authority.scope_widened")) == 1


def test_a_revoked_grant_used_300_ms_later_is_found_as_a_race(desk):
    desk.send(
        desk.revoke(desk.root, at=desk.at),
        desk.event("action.performed", grant=desk.root, at=desk.at + timedelta(milliseconds=300)),
    )

    [finding] = found(desk, "authority.used_after_revocation")

    assert finding.evidence["seconds_late"] == pytest.approx(0.3)
    assert finding.evidence["race"] and not finding.evidence["learned_later"]


def test_a_revocation_above_stops_everything_below_and_may_be_learned_later(desk):
    child = desk.grant(desk.lead, desk.helper, parent=desk.root, at=desk.at - MINUTE)
    desk.send(child, desk.event("action.performed", grant=child, at=desk.at + MINUTE))
    assert found(desk) == []

    desk.send(desk.revoke(desk.root, at=desk.at), now=desk.now + MINUTE)

    [finding] = found(desk, "authority.used_after_revocation")
    assert finding.evidence["learned_later"]


def test_use_before_the_revocation_and_a_denied_use_after_it_are_fine(desk):
    desk.send(
        desk.event("action.performed", grant=desk.root, at=desk.at - MINUTE),
        desk.revoke(desk.root, at=desk.at),
        desk.event("action.performed", outcome="denied", grant=desk.root, at=desk.at + MINUTE),
    )

    assert found(desk) == []


def test_an_expired_grant_or_token_used_is_found_and_one_in_time_is_not(desk):
    short = desk.grant(desk.ada, desk.lead, at=desk.at, expires_in=timedelta(minutes=5))
    token = desk.token(desk.root, at=desk.at, expires_in=timedelta(minutes=5))
    desk.send(
        short, token,
        desk.event("action.performed", grant=short, at=desk.at + 4 * MINUTE),
        desk.event("action.performed", token=token, at=desk.at + 4 * MINUTE),
    )  # fmt: skip
    assert found(desk) == []

    desk.send(
        desk.event("action.performed", grant=short, at=desk.at + 5.5 * MINUTE),  # half a minute two clocks may differ
        desk.event("action.performed", token=token, at=desk.at + 6 * MINUTE),
    )

    assert len(found(desk, "authority.used_after_expiry")) == 2


@pytest.fixture
def gated(desk):
    desk.gate_grant = desk.grant(desk.ada, desk.lead, gates=["purchase"], at=desk.at - 60 * MINUTE)
    desk.send(desk.gate_grant)
    return desk


def buys(world, name="wonder.club", price=900, *, at=None, **event):
    return world.registers(
        name, price_minor=price, grant=world.gate_grant, at=at or world.at, request_id="req-1", **event
    )


def approves(world, by=None, name="wonder.club", price=900, *, at=None, **event):
    return world.approval(by or world.ada, action=registration(name), max_price_minor=price, currency="USD",
                          at=at or world.at - MINUTE, **event)  # fmt: skip


def test_a_purchase_that_nobody_approved_is_found_after_the_grace_period_only(gated):
    gated.send(buys(gated))

    assert found(gated, after=timedelta(seconds=5)) == []
    [finding] = found(gated, "authority.gate_missing", after=timedelta(seconds=11))
    assert finding.evidence["gates"] == ["purchase"]


@pytest.mark.parametrize("joined", ["over", "request", "inline"])
def test_an_approval_by_the_human_before_the_act_answers_the_gate(gated, joined):
    if joined == "inline":
        gate = gated.gate(
            gated.ada, action=registration("wonder.club"), max_price_minor=900, currency="USD", at=gated.at - MINUTE
        )
        gated.send(buys(gated, gate=gate))
    elif joined == "over":
        gated.send(approves(gated), buys(gated))
    else:
        gate = {"kind": "purchase", "by": gated.ada.ref, "at": (gated.at - MINUTE).timestamp()}
        gated.send(
            gated.event(
                "approval.decided",
                actor=gated.ada,
                principal=gated.ada,
                gate=gate,
                request_id="req-1",
                at=gated.at - MINUTE,
            ),
            buys(gated),
        )

    assert found(gated) == []


def test_an_approval_that_comes_after_the_finding_takes_its_ground_away(gated):
    gated.send(buys(gated))
    assert len(found(gated, "authority.gate_missing")) == 1

    [late] = gated.send(approves(gated))

    assert found(gated) == []
    withdrawn = Finding.objects.get(tenant=gated.row)
    assert withdrawn.state == "withdrawn" and withdrawn.withdrawn_by_leaf == late.leaf_index


@pytest.mark.parametrize("wrong", ["by an agent", "after the act", "for another name", "for less money", "used before"])
def test_an_approval_that_does_not_count_leaves_the_gate_open(gated, wrong):
    sent = {
        "by an agent": lambda: [approves(gated, by=gated.lead, principal=gated.ada), buys(gated)],
        "after the act": lambda: [approves(gated, at=gated.at + MINUTE), buys(gated)],
        "for another name": lambda: [approves(gated, name="other.club"), buys(gated)],
        "for less money": lambda: [approves(gated, price=500), buys(gated)],
        "used before": lambda: [approves(gated), buys(gated, at=gated.at), buys(gated, at=gated.at + MINUTE)],
    }
    gated.send(*sent[wrong]())

    # The same name bought twice is a repeat besides.
    assert sorted(found(gated)) == [
        "authority.gate_missing",
        *(["spend.duplicate_charge"] if wrong == "used before" else []),
    ]


def test_an_act_that_names_nobody_is_found_and_one_that_names_anything_is_not(desk):
    desk.send(
        desk.event("action.performed", at=desk.at, action={"verb": "bucket.delete", "provider": "cloud"}),
        desk.event("action.performed", at=desk.at, actor=desk.lead),
        desk.event("action.performed", at=desk.at, outcome="denied"),
        desk.event("action.performed", at=desk.at, environment="test"),
        desk.event("limit.reached", at=desk.at, limit={"id": "l", "scope": "global"}),
    )

    [finding] = found(desk, "authority.unattributed")

    assert len(finding.event_ids) == 1


def test_a_webhooks_charge_is_attributed_by_the_act_that_it_pays_for(desk):
    desk.stripe_source("stripe")
    bought = desk.registers("wonder.club", price_minor=900, grant=desk.root, at=desk.at)
    charge = {
        "id": bought.id,
        "object": "charge",
        "amount": 900,
        "amount_captured": 900,
        "captured": True,
        "currency": "usd",
    }
    webhook = desk.stripe_event("charge.succeeded", charge, at=desk.at)
    alone = desk.stripe_event("charge.succeeded", charge | {"id": "ch_alone"}, at=desk.at)
    desk.send(webhook, alone)
    assert len(found(desk, "authority.unattributed")) == 2

    desk.send(bought)

    [finding] = found(desk, "authority.unattributed")
    assert finding.title.startswith("payment.capture on ch_alone")


# --- keeping --------------------------------------------------------------------------------------------------------


def test_a_principal_that_changes_moves_its_findings(desk):
    """Events with a claimed principal get their true one when the parent comes; what was found of the claim goes."""
    root = desk.grant(desk.ada, desk.lead, redelegate=True, at=desk.at - MINUTE)
    child = desk.grant(desk.lead, desk.helper, parent=root, at=desk.at)
    eve = desk.human("eve", issuer="https://id.eve.example")
    many = [
        desk.registers(f"shop{n}.top", price_minor=1, grant=child, principal=eve, at=desk.at + timedelta(seconds=9) * n)
        for n in range(30)
    ]
    desk.send(child, *many)
    assert found(desk) == [
        "squatting.bulk_registration",
        "authority.orphan_token",
    ]  # the parent of its grant is unknown
    before = Finding.objects.get(tenant=desk.row, rule="squatting.bulk_registration")

    desk.send(root)

    [after] = found(desk, "squatting.bulk_registration")
    assert (before.principal, after.principal) == ("https://id.eve.example|eve", f"{ID}|ada")
    assert before.pk == after.pk  # one cluster is one finding, whoever's it turns out to be


def test_findings_are_once_each_also_after_a_rebuild_and_keep_what_people_said(desk):
    desk.send(
        desk.registers("wonder.cc", price_minor=1, grant=desk.root, intent={"targets": ["wonder.club"]}, at=desk.at)
    )
    [before] = found(desk, "intent.domain_mismatch")
    viewer = Viewer(desk.row, Role.SECURITY, "sam")
    triage(viewer, before.pk, state="false_positive", reason="wanted after all", now=desk.now)

    rebuild(desk.row, now=desk.now)

    [after] = found(desk, "intent.domain_mismatch")
    assert (after.pk, after.state) == (before.pk, "false_positive")


def test_a_providers_own_desk_does_not_call_a_finding_at_it_false(desk):
    desk.send(
        desk.registers("wonder.cc", price_minor=1, grant=desk.root, intent={"targets": ["wonder.club"]}, at=desk.at)
    )
    [finding] = found(desk, "intent.domain_mismatch")
    viewer = Viewer(desk.row, Role.ABUSE, "desk", None, finding.provider)

    with pytest.raises(NotPermitted, match="own desk"):
        triage(viewer, finding.pk, state="false_positive", reason="nothing here", now=desk.now)
    triage(viewer, finding.pk, state="acknowledged", reason="looking", now=desk.now)

    finding.refresh_from_db()
    assert finding.state == "acknowledged"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_batch_size_does_not_change_what_is_found(desk, size):
    desk.send(
        limited(desk, "cloud", 10_000), *calls(desk, 12), paid(desk, 8000), paid(desk, 3000, at=desk.at + MINUTE),
        *names(desk, 20, every=timedelta(seconds=15)), desk.revoke(desk.root, at=desk.at + timedelta(days=1)),
        desk.event("action.performed", grant=desk.root, at=desk.at + timedelta(days=1, seconds=1)),
    )  # fmt: skip
    later = desk.now + MINUTE
    while project(desk.row, now=later, limit=size) or detect(desk.row, now=later, limit=size):
        pass

    findings = Finding.objects.filter(tenant=desk.row).exclude(state="withdrawn")
    assert sorted((f.rule, len(f.event_ids)) for f in findings) == [
        ("authority.used_after_revocation", 1),
        ("spend.cap_exceeded", 2),
        ("spend.retry_loop", 12),
        ("squatting.bulk_registration", 20),
    ]


def test_two_detectors_at_once_do_not_double_anything(desk):
    """The second finds the first at work and leaves; beat or the first sees the rest."""
    import threading

    from django.db import connections

    desk.send(*calls(desk, 12))

    def settle():
        desk.settle()
        connections.close_all()

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found(desk, "spend.retry_loop")) == 1


# --- credentials ----------------------------------------------------------------------------------------------------


def at_work(
    world, count, *, token=None, at=None, ip="203.0.113.7", agent="atlas/1.2 (linux)", build="sha256:one", **event
):
    """An agent's acts from one place, an hour apart."""
    return [
        world.event(
            "action.performed", grant=world.root, token=token, at=(at or world.at) + timedelta(hours=n),
            client={"ip": ip, "user_agent": agent}, attestation={"type": "image", "digest": build}, **event,
        )
        for n in range(count)
    ]  # fmt: skip


def test_grants_that_point_at_each_other_are_one_finding_whatever_comes_first(desk):
    one = desk.grant(desk.lead, desk.helper, id="ring-a", parent="ring-b", root=False, at=desk.at)
    two = desk.grant(desk.helper, desk.lead, id="ring-b", parent="ring-a", root=False, at=desk.at)
    below = desk.grant(desk.lead, desk.helper, parent="ring-b", root=False, at=desk.at)
    desk.send(below, two, one)

    [finding] = found(desk, "authority.cycle")

    assert (finding.anchor, finding.evidence["members"]) == ("grant ring-a", ["ring-b", "ring-a"])


def test_tokens_exchanged_from_each_other_are_a_circle_too(desk):
    for jti, parent in (("t-a", "t-b"), ("t-b", "t-a")):
        desk.send(desk.event("token.exchanged", token={"jti": jti, "parent_jti": parent}, at=desk.at))

    [finding] = found(desk, "authority.cycle")

    assert finding.anchor == "token t-a"


def test_one_key_bound_to_two_agents_is_found_and_a_key_renewed_for_one_is_not(desk):
    shared, own = {"cnf": {"jkt": "K-shared"}}, {"cnf": {"jkt": "K-own"}}
    desk.send(
        desk.grant(desk.ada, desk.lead, actions=["**"], at=desk.at, **shared),
        desk.grant(desk.ada, desk.lead, actions=["**"], at=desk.at + MINUTE, **own),
        desk.grant(desk.ada, desk.lead, actions=["**"], at=desk.at + 2 * MINUTE, **own),
    )
    assert found(desk) == []

    desk.send(desk.grant(desk.ada, desk.helper, actions=["**"], at=desk.at + MINUTE, **shared))

    [finding] = found(desk, "authority.shared_key")
    assert finding.evidence["agents"] == [f"{BOTS}|helper", f"{BOTS}|lead"]


def test_a_token_used_by_another_agent_than_its_holder_is_found_and_by_its_own_chain_is_not(desk):
    child = desk.grant(desk.lead, desk.helper, parent=desk.root, at=desk.at - MINUTE)
    token = desk.token(child, at=desk.at)
    use = {"at": desk.at + MINUTE, "action": {"verb": "file.read", "provider": "disk", "resource": "a"}}
    desk.send(child, token, desk.event("action.performed", token=token, actor=[desk.lead, desk.helper], **use))
    assert found(desk) == []

    thief = desk.agent("thief", issuer=BOTS)
    desk.send(desk.event("action.performed", token=token, actor=thief, **use))

    desk.settle()
    rules = set(Finding.objects.filter(tenant=desk.row).values_list("rule", flat=True))
    assert rules == {"authority.shared_key", "authority.out_of_scope"}


def test_a_token_used_from_where_its_holder_never_was_is_found(desk):
    token = desk.token(desk.root, at=desk.at - MINUTE)
    desk.send(
        token,
        *at_work(desk, 8, token=token),
        *at_work(desk, 1, token=token, at=desk.at + 9 * 60 * MINUTE, ip="198.51.100.9", agent="curl/8"),
    )

    [finding] = found(desk, "authority.token_elsewhere")

    assert len(finding.event_ids) == 1 and "198.51.100.0/24" in finding.title


def test_another_build_of_the_runtime_alone_is_elsewhere(desk):
    desk.send(*at_work(desk, 8), *at_work(desk, 1, at=desk.at + 9 * 60 * MINUTE, build="sha256:two"))

    [finding] = found(desk, "authority.token_elsewhere")

    assert "sha256:two" in finding.title


def test_a_new_address_a_new_version_and_a_first_week_are_an_ordinary_day(desk):
    desk.send(
        *at_work(desk, 8),
        *at_work(desk, 3, at=desk.at + 9 * 60 * MINUTE, ip="203.0.114.1"),
        *at_work(desk, 3, at=desk.at + 13 * 60 * MINUTE, agent="atlas/1.3 (linux)"),
        *at_work(desk, 2, at=desk.at, actor=desk.agent("new", issuer=BOTS), ip="192.0.2.1"),
    )

    assert [rule for rule in found(desk) if rule == "authority.token_elsewhere"] == []


def elsewhere(world, count, *, every=timedelta(hours=1), **place):
    at = world.at + timedelta(hours=9)
    place = {"ip": "198.51.100.9", "agent": "atlas on arm"} | place
    return [act for n in range(count) for act in at_work(world, 1, at=at + every * n, **place)]


def test_a_thief_who_stays_is_never_at_home(desk):
    desk.send(
        *at_work(desk, 8), *elsewhere(desk, 12), *elsewhere(desk, 10, ip="192.0.2.77", every=timedelta(minutes=50))
    )

    [finding] = found(desk, "authority.token_elsewhere")

    assert len(finding.event_ids) == 22 and len(finding.evidence["places"]) == 2


def test_a_holder_who_moved_for_good_is_found_once_and_is_then_at_home(desk):
    """All acts come from the new place for a week, and the old one is silent."""
    desk.at -= timedelta(days=20)
    desk.send(*at_work(desk, 8), *elsewhere(desk, 60, every=timedelta(hours=6)))

    [finding] = found(desk, "authority.token_elsewhere")

    assert len(finding.event_ids) == 28 and finding.last_at - finding.first_at == timedelta(hours=27 * 6)


def test_while_the_old_place_is_at_work_too_nobody_has_moved(desk):
    desk.at -= timedelta(days=20)
    at_home = [act for n in range(20) for act in at_work(desk, 1, at=desk.at + timedelta(days=n))]
    desk.send(*at_work(desk, 8), *at_home, *elsewhere(desk, 60, every=timedelta(hours=6)))

    [finding] = found(desk, "authority.token_elsewhere")

    assert len(finding.event_ids) == 60


def test_a_token_that_nobody_spoke_of_is_one_finding_until_its_issuer_speaks(desk):
    token = desk.token(desk.root, at=desk.at - MINUTE)
    desk.send(
        *(desk.event("action.performed", token=token, actor=desk.lead, at=desk.at + n * MINUTE) for n in range(4))
    )

    assert found(desk, after=timedelta(seconds=5)) == []  # its issuer may only be slow
    [finding] = found(desk, "authority.orphan_token")
    assert len(finding.event_ids) == 4
    desk.send(token)
    assert found(desk) == []


def test_a_deputy_that_acts_for_an_agent_without_the_right_is_found_until_that_agents_own_grant_arrives(desk):
    asker, bob = desk.agent("asker", issuer="https://asker.example"), desk.human("bob", issuer="https://id.bob.example")
    act = {"verb": "dns.write", "provider": "cloud", "resource": "acme.io"}
    desk.send(desk.event("action.performed", actor=[asker, desk.lead], grant=desk.root, at=desk.at, action=act))
    [finding] = found(desk, "authority.confused_deputy")
    assert finding.evidence["initiator"] == "https://asker.example|asker"

    desk.send(desk.grant(bob, asker, actions=["mail.*"], resources=["acme.io"], at=desk.at - MINUTE))
    assert len(found(desk, "authority.confused_deputy")) == 1
    desk.send(desk.grant(bob, asker, actions=["dns.*"], resources=["acme.io"], at=desk.at - MINUTE))

    assert found(desk) == []


def test_a_deputy_that_acts_for_whoever_granted_to_it_is_fine(desk):
    child = desk.grant(desk.lead, desk.helper, parent=desk.root, at=desk.at - MINUTE)
    act = {"verb": "dns.write", "provider": "cloud", "resource": "acme.io"}
    desk.send(
        child, desk.event("action.performed", actor=[desk.lead, desk.helper], grant=child, at=desk.at, action=act)
    )

    assert found(desk) == []
