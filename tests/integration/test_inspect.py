"""The Integrity page and the nightly verification behind it."""

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.test import Client

from auditlog.custody.inspect_log import verify_next, verify_window
from auditlog.models import Membership, Verification
from tests.integration.test_publish import sign, vandalise


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.send(*(world.event("action.performed") for _ in range(5)))
    world.project()
    return world


def desk(log, role, **more):
    user = get_user_model().objects.create_user(f"{role}-{log.tenant}", password="x")
    Membership.objects.create(tenant=log.row, user=user, role=role, **more)
    client = Client()
    client.force_login(user)
    return client


def test_the_page_shows_the_log_its_sources_and_what_nobody_has_said_yet(log):
    text = desk(log, "auditor").get("/integrity/").content.decode()

    assert "conductor" in text and "Not verified yet" in text and "No witness watches" in text
    assert "the publisher has not signed this log yet" in text


def test_a_verification_is_shown_with_what_it_covered_and_a_bad_leaf_by_name(log):
    sign(log)
    verify_next(log.row, now=lambda: log.now)
    good = desk(log, "security").get("/integrity/").content.decode()
    vandalise("UPDATE ledger_leaf SET grade = 'F' WHERE tenant_id = %s AND leaf_index = 4", log.row.pk)
    verify_next(log.row, now=lambda: log.now)
    bad = desk(log, "finance").get("/integrity/").content.decode()

    assert "all of it holds" in good and "✗" not in good
    assert "✗ leaf" in bad


def test_a_run_goes_on_where_the_last_one_ended_and_begins_anew_at_the_end(log, monkeypatch):
    from auditlog.custody import inspect_log
    from auditlog.ledger.append import append_note

    for n in range(600):
        append_note(log.row, "config", {"n": n}, now=log.now)
    sign(log)
    monkeypatch.setattr(inspect_log, "WINDOW", 256)

    runs = [verify_next(log.row, now=lambda: log.now) for _ in range(4)]

    size = runs[2].end_leaf
    assert [(r.first_leaf, r.end_leaf) for r in runs] == [(0, 256), (256, 512), (512, size), (0, 256)]
    assert not any(run.problem for run in runs)


def test_leaves_that_nobody_signed_yet_are_no_fault_of_a_window_and_a_signed_tile_that_is_gone_is(log, monkeypatch):
    from auditlog.custody import inspect_log
    from auditlog.ledger.append import append_note

    monkeypatch.setattr(inspect_log, "WINDOW", 256)
    for n in range(600):
        append_note(log.row, "config", {"n": n}, now=log.now)

    assert not any(verify_next(log.row, now=lambda: log.now).problem for _ in range(3))
    sign(log)
    verify_next(log.row, now=lambda: log.now)
    vandalise("DELETE FROM ledger_tile WHERE tenant_id = %s AND level = 0 AND number = 0", log.row.pk)
    assert verify_next(log.row, now=lambda: log.now).problem == "leaf 0: tile 0/0 is missing"


def test_the_auditor_asks_for_a_look_and_the_abuse_desk_does_not(log):
    assert desk(log, "auditor").post("/integrity/").status_code == 302
    abuse = desk(log, "abuse", provider="registrar")
    assert abuse.post("/integrity/").status_code == 403 == abuse.get("/integrity/").status_code
    assert Client().get("/integrity/").status_code == 302


def test_asking_for_a_verification_answers_with_the_page(log):
    assert desk(log, "security").post("/integrity/").status_code == 302


def test_a_verification_that_was_cut_off_leaves_no_word_that_anything_holds(log, monkeypatch):
    def cut(*_, **__):
        raise OperationalError("the connection is gone")

    monkeypatch.setattr("auditlog.custody.inspect_log.verify", cut)
    before = Verification.objects.filter(tenant=log.row).count()

    with pytest.raises(OperationalError):
        verify_window(log.row, start=0, now=lambda: log.now)

    assert Verification.objects.filter(tenant=log.row).count() == before
