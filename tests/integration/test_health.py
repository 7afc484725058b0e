"""/healthz, /readyz, /metrics and the log: what is missing is named, and no secret is ever said."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from django.db.utils import InterfaceError, OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from auditlog.models import Heartbeat, Leaf
from auditlog.work import health
from config import embedded
from config import health as edges
from config.celery import app

METRICS = {"authorization": "Bearer of-the-tests"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scraper(monkeypatch):
    monkeypatch.setenv("ANSWERABLE_METRICS_TOKEN", "of-the-tests")


@pytest.fixture
def well(quiet):
    """A service with a worker that was just seen, and nothing left to do."""
    health.beat("worker", now=timezone.now())
    edges._broker["at"] = -10.0
    yield
    edges._broker["at"] = -10.0


def ready(path="/readyz", name="ready"):
    """The status, and the checks that failed with what they say."""
    edges._broker["at"] = -10.0
    answer = Client().get(path)
    body = answer.json()
    assert body[name] == (answer.status_code == 200)
    return answer.status_code, {name: check["detail"] for name, check in body["checks"].items() if not check["ok"]}


def working():
    """The same of the work behind."""
    return ready("/workz", "working")


def test_a_process_that_answers_is_healthy_whatever_else_is_down(monkeypatch):
    monkeypatch.setattr(health, "checks", lambda **_: 1 / 0)

    answer = Client().get("/healthz")

    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_a_service_with_a_worker_at_work_is_ready(well):
    ready, work = Client().get("/readyz"), Client().get("/workz")

    assert (ready.status_code, work.status_code) == (200, 200)
    assert set(ready.json()["checks"]) == {"database", "ledger", "configuration", "signing"}
    assert (
        set(work.json()["checks"]) == {"broker", "worker", "projection", "security log"} and work.json()["behind"] == []
    )


def test_a_service_whose_work_is_behind_serves_all_the_same(well, world):
    Heartbeat.objects.filter(name="worker").delete()
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"), now=timezone.now() - timedelta(minutes=5))

    assert ready() == (200, {})
    assert set(working()[1]) == {"worker", "projection"}
    [behind] = [one for one in Client().get("/workz").json()["behind"] if one["tenant"] == world.tenant]
    assert behind["not_projected"] == behind["not_detected"] > 0
    world.project()


def test_no_worker_or_a_silent_one_is_named(well):
    Heartbeat.objects.filter(name="worker").delete()
    never = working()
    health.beat("worker", now=timezone.now() - timedelta(seconds=16))
    silent = working()
    health.beat("worker", now=timezone.now())

    assert (never[0], list(never[1]), never[1]["worker"]) == (503, ["worker"], "no worker was seen yet")
    assert (silent[0], list(silent[1])) == (503, ["worker"]) and "16." in silent[1]["worker"]
    assert working() == (200, {})


def test_a_broker_that_is_down_is_named_and_the_answer_does_not_wait_for_it(well, tmp_path):
    before = app.conf.broker_url, app.conf.broker_write_url
    broker = embedded.start(tmp_path / "state", database=False)
    app.conf.broker_url = app.conf.broker_write_url = broker.broker_url
    try:
        up = working()
        broker.servers[0].process.kill()
        broker.servers[0].process.wait()
        began = time.monotonic()
        down = working()
        took = time.monotonic() - began
    finally:
        app.conf.broker_url, app.conf.broker_write_url = before
        broker.stop()

    assert up == (200, {})
    assert (down[0], list(down[1])) == (503, ["broker"]) and took < 1.5
    assert working() == (200, {})


def test_a_projection_that_lags_is_named_and_one_that_has_just_begun_is_not(well, world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.project()  # what was written at the world's time, which is not the clock's
    world.send(world.event("action.performed"), now=timezone.now())
    young = working()
    world.project()
    world.send(world.event("action.performed"), now=timezone.now() - timedelta(seconds=31))
    old = working()
    world.project()

    assert young == (200, {})
    assert (old[0], list(old[1])) == (503, ["projection"]) and "1 leaves behind" in old[1]["projection"]
    assert working() == (200, {})


@pytest.mark.parametrize("table", ["ledger_leaf", "ledger_payload"])
def test_a_disabled_trigger_of_the_ledger_is_named(well, table):
    def owner(statement):
        with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as own:
            own.execute(statement)

    owner(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    try:
        found = ready()
    finally:
        owner(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    assert (found[0], list(found[1])) == (503, ["ledger"]) and table in found[1]["ledger"]
    assert ready() == (200, {})


def test_a_right_to_change_the_ledger_is_named(well):
    def owner(statement):
        with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as own:
            own.execute(statement)

    owner("GRANT UPDATE ON ledger_leaf TO answerable_app")
    try:
        found = ready()
    finally:
        owner("REVOKE UPDATE ON ledger_leaf FROM answerable_app")

    assert (found[0], list(found[1])) == (503, ["ledger"]) and "may UPDATE ledger_leaf" in found[1]["ledger"]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_is_down_is_named_and_so_are_metrics_and_ingest(well, monkeypatch, error):
    def down(*_, **__):
        raise error("the password is hunter2")

    monkeypatch.setattr(connection, "cursor", down)
    monkeypatch.setattr(connection, "ensure_connection", down)

    answer = Client().get("/readyz")
    ingest = Client().post("/ingest/anything", b"x", content_type="application/secevent+jwt")
    metrics = Client().get("/metrics", headers=METRICS)

    assert answer.status_code == 503 and answer.json()["checks"]["database"] == {"ok": False, "detail": error.__name__}
    assert ingest.status_code == 503 and ingest.json()["err"] == "unavailable" and ingest.headers["Retry-After"]
    assert metrics.status_code == 503
    assert b"hunter2" not in answer.content + ingest.content + metrics.content


SERVED = """
import json, os, signal, sys
from pathlib import Path
from config import embedded
services = embedded.start(Path(sys.argv[1]))
os.environ["DATABASE_URL"], os.environ["DATABASE_OWNER_URL"] = services.database_url, services.database_owner_url
os.environ["CELERY_BROKER_URL"] = services.broker_url
import django, django.db
django.setup()
from django.core.management import call_command
from django.test import Client
def asked():
    django.db.close_old_connections()  # as a server does at each request; the test client does not
    ready, event = Client().get("/readyz"), Client().post("/ingest/x", b"x", content_type="application/secevent+jwt")
    return [ready.status_code, ready.json()["checks"]["database"]["ok"], event.status_code]
found = [asked()]
[postgres] = [s for s in services.servers if s.name == "PostgreSQL"]
postgres.process.send_signal(signal.SIGQUIT)
postgres.process.wait()
found.append(asked())
services.stop()
services = embedded.start(Path(sys.argv[1]))
found.append(asked())
services.stop()
print(json.dumps(found))
"""


def test_a_real_database_that_went_down_answers_503_and_is_found_again_when_it_is_back(tmp_path, migrated):
    migrated(tmp_path / "state")
    environment = {
        k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "DATABASE_OWNER_URL", "CELERY_BROKER_URL")
    }
    environment |= {
        "ANSWERABLE_HOSTS": "testserver",
        "DJANGO_SETTINGS_MODULE": "config.settings", "ANSWERABLE_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(os.path.isdir, sys.path[1:])]),
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(tmp_path / "state")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    # No worker runs here, so it is never ready; the unknown source is a 404 as long as somebody can know it.
    assert done.stdout.strip() == "[[200, true, 404], [503, false, 503], [200, true, 404]]"


# --- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_are_prometheus_text_with_the_numbers_of_every_tenant(world):
    world.source("conductor", "https://conductor.example")
    world.send(world.event("action.performed"), world.event("action.performed"))
    world.refused(world.tampered(world.event("action.performed")))
    size = Leaf.objects.filter(tenant=world.row).count()

    answer = Client().get("/metrics", headers=METRICS)

    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.content.decode()))
    mine = {
        (sample.name, sample.labels.get("err")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("tenant") == world.tenant
    }
    assert mine["answerable_log_leaves", None] == mine["answerable_projection_lag_leaves", None] == size
    assert mine["answerable_refused_events", "authentication_failed"] == 1
    assert any(sample.name == "answerable_wakeups_unsent_total" for family in families for sample in family.samples)
    world.settle()
    after = Client().get("/metrics", headers=METRICS).content.decode()
    assert f'answerable_projection_lag_leaves{{tenant="{world.tenant}"}} 0.0' in after
    assert 'answerable_findings{severity="' in after


def test_a_label_cannot_break_out_of_its_quotes(world):
    from auditlog.models import RefusalCount

    RefusalCount.objects.create(
        tenant=world.row,
        source="s",
        err='x"} 1\nevil{a="',
        hour=world.now,
        count=1,
        first_at=world.now,
        last_at=world.now,
        sample="",
    )

    text = Client().get("/metrics", headers=METRICS).content.decode()
    RefusalCount.objects.filter(tenant=world.row).delete()

    assert not [line for line in text.splitlines() if line.startswith("evil")]
    list(text_string_to_metric_families(text))


# --- what is logged -------------------------------------------------------------------------------------------------


def test_a_refused_delivery_leaves_no_secret_token_or_payload_in_any_log_or_answer(world, capfd, caplog):
    world.stripe_source("stripe", secret="whsec_do_not_say_this")
    world.source("conductor", "https://conductor.example")
    for name in ("stripe", "conductor"):
        world.configure(name)
    secretive = world.event("action.performed", source="conductor", note="payload-do-not-say-this")
    charge = world.stripe_event(
        "charge.succeeded", {"id": "ch_1", "object": "charge", "note": "payload-do-not-say-this"}
    )
    forged = world.tampered(charge, note="payload-do-not-say-this")

    answers = [
        Client().post(f"/ingest/{world.tenant}/conductor", world.tampered(secretive).raw, content_type="application/secevent+jwt",
                      headers={"Authorization": "Bearer token-do-not-say-this"}),
        Client().post(f"/ingest/{world.tenant}/conductor", b"payload-do-not-say-this", content_type="application/secevent+jwt"),
        Client().post(f"/ingest/{world.tenant}/stripe", forged.raw, content_type="application/json", headers=forged.headers),
        Client().post(f"/ingest/{world.tenant}/stripe", charge.raw, content_type="application/json",
                      headers={"Stripe-Signature": "t=1,v1=signature-do-not-say-this"}),
        Client().get("/api/v1/events", headers={"Authorization": "Bearer ans_token-do-not-say-this"}),
    ]  # fmt: skip

    assert [answer.status_code for answer in answers[:4]] == [400] * 4 and answers[4].status_code == 401
    said = "".join(capfd.readouterr()) + caplog.text + "".join(answer.content.decode() for answer in answers)
    assert "do-not-say-this" not in said and "do_not_say_this" not in said


def test_logs_are_one_json_object_a_line():
    code = (
        "import os; os.environ.update(DATABASE_URL='', ANSWERABLE_STATE_DIR='/nonexistent');"
        "import django; django.setup(); import structlog, logging;"
        "structlog.get_logger().warning('one', tenant='t'); logging.getLogger('x').error('two %s', 'words')"
    )
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(os.path.isdir, sys.path[1:])]),
    }

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("one", "warning"), ("two words", "error")]
