# ruff: noqa: F811  (fixtures)
"""Cases of more acts than a request has time for: the engine runs in a worker, and the page says how far it is."""

import pytest

from auditlog.core.errors import NotPermitted, NotPossible
from auditlog.models import Membership
from disputes import adjudicate, queries
from disputes.core.grounds import words_digest
from disputes.decide import move
from disputes.jobs import assess as jobs
from disputes.models import AssessmentJob
from tests.integration.test_api import Api
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_disputes_cases import buys, handler, opened, person, shop  # noqa: F401

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def large(shop, handler, monkeypatch):
    """Three acts are many here."""
    for module in (jobs, queries):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr("disputes.views.AT_ONCE", 2)
    monkeypatch.setattr("dashboard.pages.cases.case.AT_ONCE", 2)
    monkeypatch.setattr(adjudicate, "TOLD_EVERY", 1)
    case = opened(shop, handler, [buys(shop, f"name-{n}.example") for n in range(3)])
    for to in ("intake", "evidence_open"):
        move(case, to, viewer=handler, now=shop.now)
    return case


def test_sealing_a_large_case_is_done_in_a_worker_and_its_progress_is_seen_meanwhile(shop, large, monkeypatch):
    client = signed_in(shop, "security")
    shown = client.get(f"/cases/{large.ref}/")
    assert shown.status_code == 200  # nothing is judged while somebody waits for a page
    assert (
        client.post(f"/cases/{large.ref}/", {"to": "record_sealed", "reason": "both sides are done"}).status_code == 302
    )
    large.refresh_from_db()
    assert large.state == "evidence_open"
    assert "0 done" in text_of(client.get(f"/cases/{large.ref}/"))
    told, tell = [], jobs._tell
    monkeypatch.setattr(jobs, "_tell", lambda *said: (tell(*said), told.append(AssessmentJob.objects.get().judged)))
    assert jobs.run_jobs(now=lambda: shop.now) == 1
    large.refresh_from_db()
    assert (large.state, told) == ("record_sealed", [0, 1, 2])
    run = large.assessments.get()
    assert len(run.verdicts) == 3 and run.words == words_digest(
        {"engine": run.engine, "policy": run.policy_version, "number": 1, "assessed_at": run.at.isoformat(), "leaves_before": run.position},
        run.verdicts, run.grounds,
    )  # fmt: skip
    assert 'id="job"' not in client.get(f"/cases/{large.ref}/").content.decode()
    assert jobs.run_jobs(now=lambda: shop.now) == 0


def test_one_run_at_a_time_and_only_for_who_may(shop, large, handler):
    with pytest.raises(NotPermitted):
        jobs.ask(large, person(shop, "auditor", 1), to="record_sealed", now=shop.now)
    with pytest.raises(NotPossible):
        jobs.ask(large, handler, to="decided", reason="x", now=shop.now)
    with pytest.raises(NotPossible, match="needs a reason"):
        jobs.ask(large, handler, now=shop.now)
    jobs.ask(large, handler, to="record_sealed", reason="done", now=shop.now)
    with pytest.raises(NotPossible, match="wait until it is done"):
        jobs.ask(large, handler, to="record_sealed", reason="done", now=shop.now)


def test_what_fails_says_why_and_a_worker_that_died_is_followed_by_another(shop, large, handler):
    client = signed_in(shop, "security")
    client.post(f"/cases/{large.ref}/", {"to": "record_sealed", "reason": "done"})
    user = AssessmentJob.objects.get(case=large).user_id
    Membership.objects.filter(user_id=user).update(role="auditor")
    jobs.run_jobs(now=lambda: shop.now)
    job = AssessmentJob.objects.get(case=large)
    assert job.state == "failed" and "has that role no more" in job.error
    assert large.assessments.count() == 0

    again = jobs.ask(large, handler, to="record_sealed", reason="done", now=shop.now)
    AssessmentJob.objects.filter(pk=again.pk).update(state="running", touched_at=shop.now)
    assert jobs.run_jobs(now=lambda: shop.now) == 0  # somebody is at it
    later = shop.now + 2 * jobs.GIVEN_UP
    assert jobs.run_jobs(now=lambda: later) == 1
    large.refresh_from_db()
    assert large.state == "record_sealed"


def test_by_program_the_answer_is_that_it_is_under_way(shop, large):
    answer = Api(shop.row, "admin").post(f"cases/{large.ref}/transitions", {"to": "record_sealed", "reason": "done"})
    assert answer.status_code == 202 and answer.json()["job"]["state"] == "waiting"
    jobs.run_jobs(now=lambda: shop.now)
    again = Api(shop.row, "admin").post(f"cases/{large.ref}/assessments", {"reason": "later"})
    assert again.status_code == 202
    jobs.run_jobs(now=lambda: shop.now)
    assert large.assessments.count() == 2
