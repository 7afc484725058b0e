"""The table of transitions, all of it: who may, with a reason or without, and whose hands it must not be."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest

from disputes.core.history import Taken, first_break
from disputes.core.status import AWAITING, OPEN, STATES, TABLE, Standing, check_transition, nexts

EVERYBODY = frozenset({"case", "decide"})
STEPS = {(step.before, step.after): step for step in TABLE}


def standing(state, **more):
    return Standing(state, suspended_from=more.pop("suspended_from", "intake" if state == "suspended" else ""), **more)


def check(case, to, *, person="p2", may=EVERYBODY, reason="because"):
    return check_transition(case, to, person=person, may=may, reason=reason)


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_only_steps_of_the_table_are_allowed(before, after):
    refusal = check(standing(before), after)

    allowed = (before, after) in STEPS and not (before == "suspended" and after in OPEN and after != "intake")
    assert (refusal is None) == allowed
    if refusal is not None:
        assert refusal.permitted and before in refusal.reason


@pytest.mark.parametrize("step", TABLE, ids=lambda s: f"{s.before}-{s.after}")
def test_every_step_asks_for_its_right_its_reason_and_its_second_person(step):
    case = standing(
        step.before,
        suspended_from=step.after if step.after in OPEN else "intake",
        proposer="p1",
        took_part={"p1", "p3"},
    )

    assert check(case, step.after) is None
    assert check(case, step.after, may=EVERYBODY - {step.who}).permitted is False
    assert (check(case, step.after, reason="  ") is None) is not step.needs_reason
    assert check(case, step.after, reason=None) is None
    assert (check(case, step.after, person="p1") is None) is (step.four_eyes == "")
    assert (check(case, step.after, person="p3") is None) is (step.four_eyes != "earlier")


def test_nobody_decides_what_they_proposed():
    assert "another person" in check(standing("review", proposer="p1"), "decided", person="p1").reason


def test_a_decision_and_its_review_need_the_right_to_decide():
    for before, after in [("proposed", "review"), ("review", "decided"), ("review", "assessment")]:
        assert STEPS[before, after].who == "decide" and STEPS[before, after].four_eyes == "proposer"


def test_a_case_is_reopened_once():
    assert check(standing("closed"), "reopened") is None
    assert check(standing("closed", was_reopened=True), "reopened") is not None
    assert "reopened" not in [step.after for step in nexts(standing("closed", was_reopened=True))]


def test_a_suspended_case_goes_back_to_where_it_was():
    case = standing("suspended", suspended_from="review")

    assert [step.after for step in nexts(case)] == ["withdrawn", "settled", "merged", "review"]
    assert check(case, "filed") is not None


def test_every_state_is_reached_left_or_an_end_and_awaits_somebody():
    reached, left = {step.after for step in TABLE}, {step.before for step in TABLE}

    assert reached | {"draft"} == set(STATES) == set(AWAITING)
    assert set(STATES) - left == {"not_eligible", "withdrawn", "settled", "merged"}
    assert len(STEPS) == len(TABLE)


# --- history --------------------------------------------------------------------------------------------------------


def taken(position, previous="", **more):
    base = dict(
        case="D-2026-000001",
        position=position,
        from_state="a",
        to_state="b",
        person="user:1",
        actor="ada",
        role="security",
        reason="",
        policy_version="1",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        previous=previous,
    )
    return Taken(**(base | more))


def test_a_whole_history_holds_and_a_changed_one_does_not():
    first = taken(0)
    second = taken(1, first.digest())
    whole = [(first, first.digest()), (second, second.digest())]

    assert first_break(whole) is None
    assert first_break([(replace(first, actor="eve"), first.digest()), whole[1]]) == 0
    assert first_break([whole[0], (replace(second, reason="other"), second.digest())]) == 1
    assert first_break(whole[1:]) == 0
