"""How a finding and a verdict on one act stand: said in words, and never in silence."""

import pytest

from disputes.core.beside import JUDGED_BY, Found, beside


def verdict(**results):
    criteria = [
        {"id": name, "result": results.get(name, "pass")} for name in [f"C{n}" for n in range(14)] + ["I1", "I2"]
    ]
    return {"event_id": "e1", "criteria": criteria}


@pytest.mark.parametrize(
    ("found", "results", "reads"),
    [
        (Found(1, "authority.used_after_revocation", "high", "open"), {"C9": "fail"}, "agrees"),
        (Found(1, "authority.used_after_revocation", "high", "open"), {}, "differs"),
        (Found(1, "authority.used_after_revocation", "high", "open"), {"C1": "unknown"}, "unknown"),
        (Found(1, "authority.used_after_revocation", "high", "open"), {"C9": "unknown"}, "unknown"),
        (Found(1, "spend.cap_exceeded", "high", "open", crossed_by="e2"), {}, "counted"),
        (Found(1, "spend.cap_exceeded", "high", "open", crossed_by="e1"), {}, "differs"),
        (Found(1, "spend.cap_exceeded", "low", "open", crossed_by="e1", only_alerts=True), {}, "counted"),
        (Found(1, "spend.authority_exceeded", "high", "open", crossed_by="e1"), {"C6": "fail"}, "agrees"),
        (Found(1, "intent.domain_mismatch", "high", "open"), {}, "differs"),
    ],
)
def test_a_finding_and_the_criteria_that_judge_the_same(found, results, reads):
    [held] = beside(verdict(**results), [found])
    assert (held["reads"], held["criteria"]) == (reads, list(JUDGED_BY[found.rule]))
    assert held["words"]


def test_a_rule_that_no_criterion_judges_says_nothing_of_the_verdict():
    assert beside(verdict(), [Found(1, "squatting.lookalike", "high", "open")]) == []
