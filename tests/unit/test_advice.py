"""Runbooks that know the facts of their finding and the clock."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from auditlog.core.advice import for_long
from auditlog.detectors import DETECTORS, detectors_of, runbook_of

THEN = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Found:
    rule: str
    first_at: datetime | None = THEN
    last_at: datetime | None = THEN
    evidence: dict = field(default_factory=lambda: {"undo_until": (THEN + 5 * DAY).isoformat()})
    withheld: tuple = ()


@pytest.mark.parametrize("rule", ["intent.domain_mismatch", "squatting.bulk_registration", "intent.quantity_exceeded"])
def test_a_deadline_is_told_with_what_is_left_and_when_it_is_over(rule):
    before, after = runbook_of(Found(rule), THEN + DAY), runbook_of(Found(rule), THEN + 26 * DAY)

    assert "until 2026-11-06 09:00 UTC, 4 days from now" in before
    assert "which was 21 days ago" in after and "from now" not in after


def test_a_loop_of_three_weeks_ago_is_not_still_spending():
    assert "The last charge in it was 21 days ago" in runbook_of(Found("spend.retry_loop"), THEN + 21 * DAY)
    assert "now, before the next one" in runbook_of(Found("spend.retry_loop"), THEN + timedelta(minutes=3))
    assert "now" not in runbook_of(Found("spend.retry_loop"), THEN + 21 * DAY).split(". ", 1)[1]


def test_who_may_not_read_the_time_gets_the_general_text_and_a_kept_text_says_no_ago():
    [loop] = detectors_of("spend.retry_loop")

    assert runbook_of(Found("spend.retry_loop", withheld=("last_at",)), THEN) == loop.runbook
    for detector in DETECTORS:
        assert not {"ago", "now,"} & set(runbook_of(Found(detector.rule), None).split()), detector.rule
    assert runbook_of(Found("no.such_rule"), THEN) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "less than a minute"), (61, "1 minute"), (7300, "2 hours"), (100_000, "27 hours"), (2 * 86_400, "2 days")],
)
def test_time_in_words(seconds, words):
    assert for_long(timedelta(seconds=seconds)) == words
