# ruff: noqa: F811  (fixtures)
"""A case carried to its end: a seal that holds, deadlines that run, evidence of the sides, an appeal by three people."""

import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from auditlog.core.errors import ConfigurationError, DeliveryTooLarge, NotFound, NotPermitted, NotPossible
from auditlog.custody.erase import erase, held_now
from auditlog.models import Leaf, Membership, Payload
from auditlog.reads.access import Viewer
from config import env
from disputes import mind, queries
from disputes.case.deadline import set_deadline
from disputes.case.hand_in import MOST_BYTES, let_in, stage, submit
from disputes.case.tally import tally
from disputes.core.deadlines import OF_STATES, due_at
from disputes.core.status import OPEN, TABLE, nexts
from disputes.decide import approve, assess_again, effects, move, propose, refuse_settlement
from disputes.mind import mind_deadlines
from disputes.models import Case, Deadline, EvidenceItem
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_disputes_cases import (  # noqa: F401  fixtures among them
    assessed,
    buys,
    decider,
    handler,
    opened,
    person,
    proposed,
    shop,
)

DAY = timedelta(days=1)


@pytest.fixture
def panel(world):
    """A third person."""
    return person(world, "admin", 1)


def decided(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "decided", viewer=decider, reason="yes", now=shop.now)
    return case


def page(viewer, case):
    return queries.case_page(viewer, case.ref, now=timezone.now())


# --- the seal ---------------------------------------------------------------------------------------------------------


def test_what_comes_after_the_seal_changes_no_assessment_and_is_shown(shop, handler, decider):
    bought = buys(shop, "superseal.cc")
    case = opened(shop, handler, [bought])
    for to in ("intake", "evidence_open", "record_sealed"):
        move(case, to, viewer=handler, now=shop.now)
    sealed = case.sealed_digest
    assert sealed and case.sealed_position

    shop.send(shop.revoke(shop.grant_of_shop, at=shop.now - timedelta(minutes=30)))  # dated before the act
    shop.project()
    move(case, "assessment", viewer=handler, now=shop.now)

    seen = page(handler, case)
    assert [v["verdict"] for v in seen.verdicts] == ["within_scope_unanticipated"] and seen.newer == 1
    assert [run.digest for run in seen.assessments] == [sealed]

    run = assess_again(case, viewer=handler, reason="a revocation came", now=shop.now)
    seen = page(handler, case)
    [first, again] = seen.assessments
    assert (first.is_sealed, again.is_sealed, again.reason) == (True, False, "a revocation came")
    [change] = again.changes
    assert (change["event_id"], change["before"], change["after"]) == (
        bought,
        "within_scope_unanticipated",
        "out_of_scope",
    )
    assert {"id": "C9", "before": "pass", "after": "fail"}.items() <= next(
        c for c in change["criteria"] if c["id"] == "C9"
    ).items()
    assert [v["verdict"] for v in seen.verdicts] == ["within_scope_unanticipated"]  # decided on is what was sealed

    # A proposal rests on the seal, unless it names the later run: the second person sees which.
    move(case, "proposed", viewer=handler, outcome="upheld", reason="revoked", assessment=run.number, now=shop.now)
    assert case.proposals.get().assessment_digest == run.digest
    with pytest.raises(ConfigurationError, match="assessment 9"):
        approve(case, viewer=decider, reason="look", result="returned", now=shop.now)
        case.refresh_from_db()
        propose(case, viewer=handler, outcome="upheld", reason="r", assessment=9, now=shop.now)


def test_the_engine_is_run_again_only_after_the_seal_and_with_a_reason(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    with pytest.raises(NotPossible, match="sealed"):
        assess_again(case, viewer=handler, reason="r", now=shop.now)
    for to in ("intake", "evidence_open", "record_sealed"):
        move(case, to, viewer=handler, now=shop.now)
    with pytest.raises(NotPossible, match="reason"):
        assess_again(case, viewer=handler, reason=" ", now=shop.now)
    with pytest.raises(NotPermitted):
        assess_again(case, viewer=person(shop, "auditor", 1), reason="r", now=shop.now)


def test_the_seal_stands_in_the_log(shop, handler):
    case = assessed(shop, handler, [buys(shop, "superseal.cc")])
    sealed = case.transitions.get(to_state="record_sealed")
    said = bytes(Payload.objects.get(tenant=shop.row, leaf_index=sealed.leaf_index).raw).decode()
    assert case.sealed_digest in said and f'"sealed_before_leaf":"{case.sealed_position}"' in said


# --- an appeal that three people can finish --------------------------------------------------------------------------


def test_three_people_bring_an_appeal_to_its_end_with_an_outcome(shop, handler, decider, panel):
    case = decided(shop, handler, decider)
    move(case, "appealed", viewer=handler, reason="the price was agreed", now=shop.now)
    for one in (handler, decider):
        with pytest.raises(NotPermitted):
            move(case, "appeal_review", viewer=one, now=shop.now)
    move(case, "appeal_review", viewer=panel, now=shop.now)
    with pytest.raises(ConfigurationError, match="confirmed, varied, remitted"):
        move(case, "appeal_proposed", viewer=panel, outcome="upheld", reason="r", now=shop.now)
    move(
        case,
        "appeal_proposed",
        viewer=panel,
        outcome="varied",
        reason="half",
        amount_minor=450,
        currency="usd",
        now=shop.now,
    )
    with pytest.raises(NotPermitted):
        move(case, "decided_final", viewer=panel, reason="mine", now=shop.now)
    with pytest.raises(NotPossible, match="varied"):
        move(case, "evidence_open", viewer=decider, reason="no", now=shop.now)
    move(case, "decided_final", viewer=decider, reason="agreed", now=shop.now)
    move(case, "final", viewer=decider, now=shop.now)
    move(case, "closed", viewer=handler, reason="paid", now=shop.now)

    last = case.proposals.order_by("-number").first()
    assert (last.outcome, last.amount_minor, last.currency, last.approval.approver) == (
        "varied",
        450,
        "USD",
        decider.name,
    )
    assert page(handler, case).broken_at is None


def test_an_appeal_is_sent_back_or_returned(shop, handler, decider, panel):
    case = decided(shop, handler, decider)
    move(case, "appealed", viewer=handler, reason="r", now=shop.now)
    move(case, "appeal_review", viewer=panel, now=shop.now)
    move(case, "appeal_proposed", viewer=panel, outcome="confirmed", reason="r", now=shop.now)
    move(case, "appeal_review", viewer=decider, reason="look again", now=shop.now)
    move(case, "appeal_proposed", viewer=panel, outcome="remitted", reason="more evidence", now=shop.now)
    with pytest.raises(NotPossible, match="remitted"):
        move(case, "decided_final", viewer=decider, reason="no", now=shop.now)
    move(case, "evidence_open", viewer=decider, reason="yes", now=shop.now)

    assert case.state == "evidence_open"
    shop.send(shop.registers("other.cc", grant=shop.grant_of_shop, price_minor=1))
    shop.project()
    move(case, "record_sealed", viewer=handler, now=shop.now)
    move(case, "assessment", viewer=handler, now=shop.now)
    with pytest.raises(ConfigurationError, match="sealed last"):
        propose(case, viewer=handler, outcome="upheld", reason="r", assessment=1, now=shop.now)
    assert case.assessments.count() == 2 and case.sealed_digest == case.assessments.order_by("-number").first().digest


def test_whoever_a_case_is_about_does_not_judge_it(shop, handler):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    ada = User.objects.create_user("somebody", email="Ada")  # her address is the principal's name
    with pytest.raises(NotPermitted, match="about them"):
        approve(case, viewer=Viewer(shop.row, "finance", "somebody", ada.pk), reason="mine", now=shop.now)


# --- a settlement takes two ------------------------------------------------------------------------------------------


def test_one_person_settles_nothing_alone(shop, handler, decider):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "settled", viewer=handler, reason="half back", amount_minor=450, currency="USD", now=shop.now)
    assert case.state == "filed"
    with pytest.raises(NotPermitted, match="another person"):
        move(case, "settled", viewer=handler, reason="again", now=shop.now)
    with pytest.raises(NotPermitted):
        refuse_settlement(case, viewer=handler, reason="mine", now=shop.now)
    refuse_settlement(case, viewer=decider, reason="too little", now=shop.now)
    with pytest.raises(NotPossible):
        refuse_settlement(case, viewer=decider, reason="again", now=shop.now)
    move(case, "settled", viewer=handler, reason="all back", amount_minor=900, currency="USD", now=shop.now)
    move(case, "settled", viewer=decider, reason="good", now=shop.now)

    assert case.state == "settled" and case.due_at is None
    assert [(p.outcome, p.amount_minor, p.approval.result) for p in case.proposals.all()] == [
        ("settled", 450, "returned"),
        ("settled", 900, "approved"),
    ]


def test_the_other_sides_desk_accepts_what_was_offered_and_offers_nothing(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    desk = person(shop, "abuse", 1, "registrar")
    with pytest.raises(NotPermitted):
        move(case, "settled", viewer=desk, reason="nothing back", now=shop.now)
    move(case, "settled", viewer=handler, reason="all back", now=shop.now)
    move(case, "settled", viewer=desk, reason="agreed", now=shop.now)
    assert case.state == "settled"


def test_a_proposal_is_not_taken_for_the_offer_beside_it(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "settled", viewer=handler, reason="half", now=shop.now)
    move(case, "decided", viewer=decider, reason="yes", now=shop.now)
    assert case.state == "decided" and case.proposals.filter(approval=None).get().outcome == "settled"
    # What was decided without it is not settled by it: the offer has lapsed, and would have to be made anew.
    move(case, "settled", viewer=decider, reason="I take the half", now=shop.now + DAY)
    assert case.state == "decided" and case.proposals.count() == 3


# --- merging ---------------------------------------------------------------------------------------------------------


def test_cases_are_not_merged_in_a_circle(shop, handler):
    one, two, three = (opened(shop, handler, [buys(shop, f"superseal.{end}")]) for end in ("cc", "net", "org"))
    move(one, "merged", viewer=handler, reason="same", merged_into=two.ref, now=shop.now)
    with pytest.raises(NotPossible, match="each other"):
        move(two, "merged", viewer=handler, reason="same", merged_into=one.ref, now=shop.now)
    move(three, "merged", viewer=handler, reason="same", merged_into=one.ref, now=shop.now)
    assert three.merged_into == two.ref  # into the one that goes on
    move(two, "withdrawn", viewer=handler, reason="done", now=shop.now)
    four = opened(shop, handler, [buys(shop, "superseal.io")])
    with pytest.raises(NotPossible, match="goes on"):
        move(four, "merged", viewer=handler, reason="same", merged_into=one.ref, now=shop.now)


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_each_state_has_its_deadline_and_the_first_one_is_the_cases(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    [one] = case.deadlines.all()
    assert (one.kind, one.source, one.state, case.due_at) == ("acknowledge", "internal", "running", one.due_at)
    move(case, "intake", viewer=handler, now=shop.now)
    move(case, "evidence_open", viewer=handler, now=shop.now)
    assert [(d.kind, d.state) for d in case.deadlines.order_by("id")] == [
        ("acknowledge", "met"),
        ("intake", "met"),
        ("response", "running"),
    ]
    assert case.due_at == shop.now + 20 * DAY
    bank = set_deadline(case, handler, preset="amex_response", begins_at=shop.now - 5 * DAY, now=shop.now)
    case.refresh_from_db()
    assert case.due_at == bank.due_at == shop.now + 15 * DAY and bank.source == "network"
    assert [c.ref for c in queries.list_cases(handler, order="due")[0]] == [case.ref]
    move(case, "withdrawn", viewer=handler, reason="r", now=shop.now)
    assert not case.deadlines.filter(state="running").exists() and queries.list_cases(handler, order="due")[0] == []


def test_a_deadline_that_is_missed_decides_on_the_record_and_for_nobody(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "intake", viewer=handler, now=shop.now)
    move(case, "evidence_open", viewer=handler, now=shop.now)
    later = shop.now + 20 * DAY + timedelta(minutes=1)
    mind_deadlines(now=shop.now + 20 * DAY - timedelta(minutes=1))
    case.refresh_from_db()
    assert case.state == "evidence_open"
    for _ in range(2):
        mind_deadlines(now=later)
    case.refresh_from_db()
    step = case.transitions.order_by("-position").first()
    assert (case.state, step.actor, step.role) == ("record_sealed", "a deadline", "system") and case.sealed_digest
    assert not case.proposals.exists() and page(handler, case).broken_at is None
    assert case.deadlines.get(kind="response").state == Deadline.State.MISSED


def test_what_is_lacking_and_never_comes_ends_a_case_and_an_appeal_window_closes(shop, handler, decider):
    lacking, done = opened(shop, handler, [buys(shop, "superseal.net")]), decided(shop, handler, decider)
    move(lacking, "intake", viewer=handler, now=shop.now)
    move(lacking, "deficient", viewer=handler, reason="which name?", now=shop.now)
    mind_deadlines(now=shop.now + 30 * DAY)
    lacking.refresh_from_db(), done.refresh_from_db()
    assert (lacking.state, done.state) == ("closed", "final")
    assert [one.case for one in held_now(shop.row)] == [done.ref]


def test_each_warning_is_given_once(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "intake", viewer=handler, now=shop.now)
    move(case, "evidence_open", viewer=handler, now=shop.now)
    one = case.deadlines.get(state="running")
    for days, warned in (
        (9, []),
        (11, ["half"]),
        (12, ["half"]),
        (18, ["half", "three_days"]),
        (19.5, ["half", "three_days", "one_day"]),
    ):
        mind_deadlines(now=shop.now + days * DAY)
        one.refresh_from_db()
        assert one.warned == warned
    assert one.next_at == one.due_at


def test_a_suspended_case_keeps_what_was_left(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "intake", viewer=handler, now=shop.now)
    move(case, "evidence_open", viewer=handler, now=shop.now)
    move(case, "suspended", viewer=handler, reason="court", now=shop.now + 5 * DAY)
    mind_deadlines(now=shop.now + 90 * DAY)
    case.refresh_from_db()
    assert (case.due_at, case.state) == (None, "suspended")
    move(case, "evidence_open", viewer=handler, reason="court is done", now=shop.now + 100 * DAY)
    assert case.due_at == shop.now + 115 * DAY and case.deadlines.get(of_state="evidence_open").state == "running"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"preset": "mars_law"},
        {"due": datetime(2020, 1, 1, tzinfo=UTC), "basis": "b"},
        {"due": datetime(2030, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_deadline_rests_on_something(shop, handler, more):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    with pytest.raises(ConfigurationError):
        set_deadline(case, handler, now=shop.now, **more)
    with pytest.raises(NotPermitted):
        set_deadline(case, person(shop, "auditor", 1), now=shop.now, preset="ach_return")


# --- evidence --------------------------------------------------------------------------------------------------------


def test_evidence_is_staged_submitted_once_and_never_changed(shop, handler, decider):
    case = opened(shop, handler, [bought := buys(shop, "superseal.cc")])
    item = stage(
        case,
        handler,
        side="claimant",
        title="The order",
        body=b"I asked for .club",
        name="../order.txt",
        media_type="text/plain",
        now=shop.now,
    )
    assert (item.sha256, item.name, item.submitted_at) == (
        sha256(b"I asked for .club").hexdigest(),
        ".._order.txt",
        None,
    )
    told = stage(case, handler, side="provider", title="The registration", event_id=bought, now=shop.now)
    assert told.upstream_valid is True and told.sha256
    for number in (1, 2):
        assert submit(case, number, handler, now=shop.now).eligible is True
    with pytest.raises(NotPossible, match="already"):
        submit(case, 1, handler, now=shop.now)
    leaves = [item.staged_leaf, submit_leaf] = [item.staged_leaf, case.evidence.get(number=1).submitted_leaf]
    assert all(
        item.sha256 in bytes(Payload.objects.get(tenant=shop.row, leaf_index=leaf).raw).decode()
        for leaf in (leaves[0], submit_leaf)
    )
    for change in (
        "UPDATE dispute_evidence SET body = 'x'",
        "UPDATE dispute_evidence SET submitted_at = NULL",
        "DELETE FROM dispute_evidence",
    ):
        with (
            pytest.raises(Exception, match=r"not changed|refused|append|never"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"{change} WHERE tenant_id = %s", [shop.row.pk])


def test_what_comes_after_the_seal_is_late_and_is_let_in_by_another_who_may_decide(shop, handler, decider):
    case = assessed(shop, handler, [buys(shop, "superseal.cc")])
    stage(case, handler, side="claimant", title="Late", body=b"more", now=shop.now)
    with pytest.raises(NotPossible, match="submitted"):
        let_in(case, 1, decider, eligible=True, reason="r", now=shop.now)
    item = submit(case, 1, handler, now=shop.now)
    assert item.is_late and item.eligible is None
    for viewer, reason, error in (
        (handler, "mine", NotPermitted),
        (person(shop, "abuse", 1, "registrar"), "r", NotPermitted),
        (decider, " ", NotPossible),
    ):
        with pytest.raises(error):
            let_in(case, 1, viewer, eligible=True, reason=reason, now=shop.now)
    assert let_in(case, 1, decider, eligible=False, reason="it could be had before", now=shop.now).eligible is False


@pytest.mark.parametrize(
    ("more", "error"),
    [({"side": "judge", "body": b"x"}, ConfigurationError), ({"title": " ", "body": b"x"}, ConfigurationError), ({}, ConfigurationError), ({"body": b""}, ConfigurationError),
     ({"body": b"x" * (MOST_BYTES + 1)}, DeliveryTooLarge), ({"event_id": "00000000-0000-8000-8000-000000000000"}, NotFound)],
)  # fmt: skip
def test_what_cannot_be_handed_in_is_refused(shop, handler, more, error):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    with pytest.raises(error):
        stage(case, handler, **({"side": "claimant", "title": "t", "now": shop.now} | more))
    assert not EvidenceItem.objects.filter(tenant=shop.row).exists()


def test_an_abuse_desk_reads_what_was_submitted_and_a_stranger_nothing(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    stage(case, handler, side="claimant", title="Draft", body=b"x", now=shop.now)
    desk, other = person(shop, "abuse", 1, "registrar"), person(shop, "abuse", 2, "cloud")
    assert queries.evidence_of(desk, case) == []
    with pytest.raises(NotFound):
        queries.evidence_item(desk, case, 1)
    with pytest.raises(NotPermitted):
        set_deadline(case, other, preset="ach_return", now=shop.now)
    with pytest.raises(NotPermitted):
        stage(case, other, side="provider", title="t", body=b"x", now=shop.now)
    with pytest.raises(NotPermitted):
        stage(case, desk, side="operator", title="t", body=b"x", now=shop.now)
    submit(case, 1, handler, now=shop.now)
    assert [item.number for item in queries.evidence_of(desk, case)] == [1]


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_part_of_an_amount_is_contested(shop, handler):
    bought = buys(shop, "superseal.cc", 900)
    case = opened(shop, handler, [bought], parts={bought: 400})
    assert case.acts.get().amount_minor == 400
    for parts in ({bought: 901}, {bought: 0}, {"00000000-0000-8000-8000-000000000000": 1}):
        with pytest.raises(ConfigurationError):
            opened(shop, handler, [bought], parts=parts)


def test_what_a_case_is_about_is_not_erased_until_it_has_ended(shop, handler):
    bought = buys(shop, "superseal.cc")
    case = opened(shop, handler, [bought])
    leaf = Leaf.objects.get(tenant=shop.row, event_id=bought).leaf_index
    with pytest.raises(NotPossible, match="legal hold"):
        erase(shop.row, [leaf], who="dpo", why="asked", policy="gdpr-17", now=shop.now)
    assert [one.case for one in held_now(shop.row)] == [case.ref]
    move(case, "withdrawn", viewer=handler, reason="a mistake", now=shop.now)
    assert held_now(shop.row) == []
    erase(shop.row, [leaf], who="dpo", why="asked", policy="gdpr-17", now=shop.now)


def test_the_case_in_one_line(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.club", 500), buys(shop, "superseal.cc", 500)])
    seen = page(handler, case)
    assert (
        seen.rollup.verdict == "mixed"
        and seen.rollup.words == "2 acts: 1 within scope, 1 within scope, not anticipated"
    )
    assert {(p.role, p.side) for p in seen.parties} == {
        ("claimant", "claimant"),
        ("respondent", "respondent"),
        ("operator", "respondent"),
        ("provider", "provider"),
    }


# --- no dead end -----------------------------------------------------------------------------------------------------


def test_random_walks_lose_no_step_are_decided_by_two_and_end(shop, handler, decider, panel):
    """Three people do whatever the table lets them, at random; from wherever they are, they come to an end."""
    rng, people = random.Random(5), [handler, decider, panel]
    for walk in range(12):
        case = opened(shop, handler, [buys(shop, f"walk{walk}.cc")])
        for _ in range(25):
            ends = [] if rng.random() < 0.9 else ["withdrawn", "settled"]
            choices = [
                step.after
                for step in nexts(queries.standing_of(case))
                if step.after not in ("withdrawn", "settled", "merged")
            ] + ends
            if not choices:
                break
            to, who = rng.choice(choices), rng.choice(people)
            outcome = {"proposed": "upheld", "appeal_proposed": rng.choice(["confirmed", "varied", "remitted"])}.get(
                to, ""
            )
            try:
                move(case, to, viewer=who, outcome=outcome, reason="because", now=shop.now)
            except (NotPermitted, NotPossible):
                continue
        steps = list(case.transitions.order_by("position"))
        assert [s.position for s in steps] == list(range(len(steps))) and page(handler, case).broken_at is None
        for approval in case.approvals.all():
            assert approval.person != approval.proposer
        assert case.deadlines.filter(state="running").exclude(of_state=case.state).count() == 0
        if case.state in OPEN or case.state == "suspended":
            if case.state == "suspended":
                move(case, case.suspended_from, viewer=handler, reason="on", now=shop.now)
            move(case, "settled", viewer=handler, reason="enough", now=shop.now) if not case.proposals.filter(
                approval=None, outcome="settled"
            ).exists() else None
            offered = case.proposals.filter(approval=None, outcome="settled").get()
            move(
                case,
                "settled",
                viewer=next(p for p in people if p.name != offered.proposer),
                reason="enough",
                now=shop.now,
            )
        assert case.state not in OPEN


def test_from_every_state_three_people_reach_an_end(shop):
    ends = {"closed", "withdrawn", "settled", "merged", "not_eligible"}
    reach = set(ends)
    while more := {step.before for step in TABLE if step.after in reach and step.before not in reach}:
        reach |= more
    assert reach >= set(
        Case._meta.get_field("state").choices and [value for value, _ in Case._meta.get_field("state").choices]
    )


# --- the edges -------------------------------------------------------------------------------------------------------


def test_over_http_a_case_takes_parts_deadlines_evidence_and_another_run(shop):
    import base64

    from tests.integration.test_disputes_api import client, post

    api, other = client(shop, "security"), client(shop, "finance")
    bought = buys(shop, "superseal.cc", 900)
    made = post(api, "cases", acts=[{"event_id": bought, "amount_minor": 300}], title="t")
    assert made.status_code == 201, made.content
    ref = made.json()["ref"]
    assert made.json()["acts"][0]["amount_minor"] == 300 and made.json()["due_at"] and made.json()["rollup"]["words"]
    assert post(api, "cases", acts=[{"event_id": bought}], event_ids=[bought], title="t").status_code == 400
    assert post(api, f"cases/{ref}/deadlines", preset="visa_response").status_code == 201
    assert post(api, f"cases/{ref}/deadlines").status_code == 400
    item = post(
        api,
        f"cases/{ref}/evidence",
        side="claimant",
        title="Order",
        file=base64.b64encode(b"<script>").decode(),
        media_type="text/html",
    )
    assert item.status_code == 201 and item.json()["sha256"] == sha256(b"<script>").hexdigest()
    assert post(api, f"cases/{ref}/evidence", side="claimant", title="x", file="%%%").status_code == 400
    assert post(api, f"cases/{ref}/evidence/1/submit").json()["eligible"] is True
    file = api.get(f"/api/v1/cases/{ref}/evidence/1/file")
    assert (file.content, file["Content-Type"], file["X-Content-Type-Options"]) == (
        b"<script>",
        "application/octet-stream",
        "nosniff",
    )
    assert file["Content-Disposition"].startswith("attachment")
    for to in ("intake", "evidence_open", "record_sealed", "assessment"):
        assert post(api, f"cases/{ref}/transitions", to=to).status_code == 201
    again = post(api, f"cases/{ref}/assessments", reason="to be sure")
    assert again.status_code == 201 and [run["changes"] for run in again.json()["results"]] == [[], []]
    assert (
        post(api, f"cases/{ref}/transitions", to="settled", reason="half", amount_minor=150, currency="USD").json()[
            "state"
        ]
        == "assessment"
    )
    assert post(other, f"cases/{ref}/settlement/refuse", reason="no").status_code == 200
    assert post(api, f"cases/{ref}/evidence/1/eligible", eligible=True, reason="mine").status_code == 403


def test_the_page_of_a_case_shows_seal_deadlines_evidence_and_a_later_run(shop, handler):
    user = User.objects.create_user(f"mia-{shop.tenant}", password="x" * 12)
    Membership.objects.create(tenant=shop.row, user=user, role="security")
    browser = Client()
    browser.force_login(user)
    case = assessed(shop, handler, [buys(shop, "superseal.cc")])
    stage(case, handler, side="claimant", title="<b>Order</b>", body=b"x", name="o.txt", now=shop.now)
    set_deadline(case, handler, preset="visa_response", now=timezone.now())
    assess_again(case, viewer=handler, reason="to be sure", now=shop.now)
    shown = browser.get(f"/cases/{case.ref}/").content.decode()
    for words in (
        "Sealed",
        "Visa: response",
        "&lt;b&gt;Order&lt;/b&gt;",
        "to be sure",
        "1 act: 1 within scope, not anticipated",
    ):
        assert words in shown, words
    assert "due" in browser.get("/cases/?order=due").content.decode()


def test_business_days_are_counted_in_the_cases_zone_and_a_zone_that_there_is_not_is_refused(monkeypatch):
    friday = datetime(2026, 11, 27, 23, 30, tzinfo=UTC)  # Saturday morning in Tokyo
    assert due_at(OF_STATES["filed"][0], friday, "UTC") == datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    assert due_at(OF_STATES["filed"][0], friday, "Asia/Tokyo") == datetime(2026, 11, 30, 14, 59, 59, tzinfo=UTC)
    assert due_at(OF_STATES["intake"][0], friday, "America/New_York") == datetime(2026, 12, 2, 4, 59, 59, tzinfo=UTC)
    monkeypatch.setenv("A_ZONE", "Mars/Olympus")
    with pytest.raises(ImproperlyConfigured, match="Mars/Olympus"):
        env.zone("A_ZONE", "UTC")
    monkeypatch.delenv("A_ZONE")
    assert env.zone("A_ZONE", "UTC") == "UTC"


def test_a_case_that_an_older_version_called_sealed_is_sealed_before_it_is_assessed(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    Case.objects.filter(pk=case.pk).update(state="record_sealed")
    case.refresh_from_db()
    move(case, "assessment", viewer=handler, now=shop.now)
    assert case.sealed_digest == case.assessments.get().digest
    move(case, "proposed", viewer=handler, outcome="upheld", reason="r", now=shop.now)


def test_a_case_that_cannot_be_moved_holds_up_no_other(shop, handler, monkeypatch):
    stuck, other = (opened(shop, handler, [buys(shop, f"superseal.{end}")]) for end in ("cc", "net"))
    for case in (stuck, other):
        move(case, "intake", viewer=handler, now=shop.now)
        move(case, "evidence_open", viewer=handler, now=shop.now)

    def broken(case, to, **more):
        if case.pk == stuck.pk:
            raise RuntimeError("its record cannot be read")
        return effects(case, to, **more)

    monkeypatch.setattr(mind, "effects", broken)
    mind_deadlines(now=shop.now + 21 * DAY)
    stuck.refresh_from_db(), other.refresh_from_db()
    assert (stuck.state, other.state) == ("evidence_open", "record_sealed")


# --- how cases went ---------------------------------------------------------------------------------------------------


def test_how_cases_went_is_told_by_kind_provider_and_operator(shop, handler, decider, panel):
    case = decided(shop, handler, decider)
    move(case, "appealed", viewer=handler, reason="no", now=shop.now)
    move(case, "appeal_review", viewer=panel, now=shop.now)
    propose(case, viewer=panel, outcome="varied", reason="half", now=shop.now)
    case.refresh_from_db()
    other = opened(shop, handler, [buys(shop, "superseal.io")])
    move(other, "withdrawn", viewer=handler, reason="paid", now=shop.now)

    found = tally(Case.objects.filter(tenant=shop.row))
    [whole] = found["all"]
    assert (whole.opened, whole.decided, whole.upheld, whole.withdrawn, whole.appealed, whole.overturned) == (
        2,
        1,
        1,
        1,
        1,
        0,
    )
    assert whole.open == 0 and whole.days == 0.0
    assert [each.value for each in found["operator"]] == ["https://conductor.example"]
    assert tally(Case.objects.filter(tenant=shop.row), since=shop.now + DAY)["all"] == []


def test_how_cases_went_has_a_page_and_a_sheet(shop, handler, decider):
    empty = signed_in(shop, "auditor")
    assert "No case was opened yet" in empty.get("/cases/outcomes/").content.decode()
    decided(shop, handler, decider)
    page = empty.get("/cases/outcomes/").content.decode()
    assert "1 upheld in whole or in part" in page and "By who runs the agent" in page
    sheet = empty.get("/cases/outcomes/?format=csv").content.decode()
    assert sheet.startswith("by,value,opened") and "all,,1,0,1,1,0" in sheet
    desk = signed_in(shop, "abuse", "registrar").get("/cases/outcomes/").content.decode()
    assert "By who runs the agent" not in desk and "conductor.example" not in desk
