"""Small things that answered 500, named the wrong leaf, or ended in a traceback."""

import io
import json
import os
import sys
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.test import Client
from django.utils import timezone
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerCorrupt
from auditlog.core.log.checkpoint import vkey
from auditlog.custody.verify_ledger import verify
from auditlog.ledger.publish import announce_key, origin_of, publish, take_fence
from auditlog.reads.access import issue_token
from config import children, env
from config.management.commands import quickstart
from tests.faults.insider import by_force
from tests.integration.test_dashboard_pages import signed_in
from tests.oracle import KEY


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.send(*(world.event("action.performed") for _ in range(5)))
    announce_key(world.row, key=KEY, now=world.now)
    publish(world.row, key=KEY, fence=take_fence(world.row), now=world.now)
    return world


@pytest.mark.parametrize("asked", ["", "?grant=", "?grant=nobody", "?after=x", "?grant=%00"])
def test_the_explorer_without_a_grant_is_told_so(world, asked):
    answer = signed_in(world, "auditor").get(f"/reach/explorer/{asked}")

    assert answer.status_code in (400, 404)


@pytest.mark.parametrize("path", ["adjudications", "cases", "findings/1/triage"])
@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 200_000, b'{"event_ids": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"]
)
def test_json_that_is_too_deep_is_a_bad_request(world, path, body):
    token = issue_token(
        world.row,
        name="t",
        role="security",
        expires_at=timezone.now() + timedelta(hours=1),
        owner=User.objects.create_user(world.tenant),
    )

    answer = Client().post(
        f"/api/v1/{path}", body, content_type="application/json", headers={"authorization": f"Bearer {token}"}
    )

    assert answer.status_code == 400 and "too deeply" in json.loads(answer.content)["detail"]


@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_change_in_the_tile_that_is_not_full_yet_names_its_leaf(log, at):
    by_force((
        "UPDATE ledger_edge SET hashes = set_byte(hashes, %s, get_byte(hashes, %s) # 1) WHERE tenant_id = %s AND level = 0",
        [32 * at, 32 * at, log.row.pk],
    ))  # fmt: skip

    with pytest.raises(LedgerCorrupt, match=rf"leaf {at}\b"):
        verify(log.row, public_key=KEY.verify_key)


def test_verify_ledger_checks_against_a_key_that_was_had_from_elsewhere(log, capsys):
    good, bad = (vkey(origin_of(log.row), bytes(key.verify_key)) for key in (KEY, SigningKey(b"\x55" * 32)))

    call_command("verify_ledger", tenant=log.tenant, vkey=[good])
    assert "hold" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_command("verify_ledger", tenant=log.tenant, vkey=[bad])
    assert "signature" in capsys.readouterr().err
    for nonsense in ("nonsense", vkey("another.example/log", bytes(KEY.verify_key))):
        with pytest.raises(CommandError):
            call_command("verify_ledger", tenant=log.tenant, vkey=[nonsense])


def test_several_workers_without_a_key_of_their_own_do_not_start(monkeypatch, tmp_path):
    monkeypatch.delenv("ANSWERABLE_SECRET_KEY", raising=False)
    monkeypatch.setenv("ANSWERABLE_STATE_DIR", str(tmp_path))

    assert env.secret_key()
    with pytest.raises(ImproperlyConfigured, match="2 workers"):
        env.secret_key(workers=2)
    (tmp_path / "secret_key").write_text("kept")
    assert env.secret_key(workers=2) == "kept"


def test_a_child_of_quickstart_that_died_starts_again_later_each_time_and_says_so(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(quickstart.time, "sleep", waits.append)
    command, fallen, errors = quickstart.Command(), {}, io.StringIO()
    command.stderr = OutputWrapper(errors)
    child = children.start(
        "worker",
        [sys.executable, "-c", "print('the last word'); raise SystemExit(3)"],
        environment=dict(os.environ),
        logs=tmp_path,
    )
    for _ in range(7):
        child.process.wait()
        child = command._again(child, fallen)
    child.process.wait()

    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert "worker ended with 3" in errors.getvalue() and "the last word" in errors.getvalue()
