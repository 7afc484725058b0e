"""Sealed secrets: they verify what senders send, and nobody finds one in the database, a log, a page or a backup."""

import base64
import io
import json
import os
import sys

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from structlog.testing import capture_logs

from auditlog.core.errors import ConfigurationError
from auditlog.custody.security import Asked, read
from auditlog.models import SealedSecret
from auditlog.sources import sealed
from auditlog.sources.configure import add_tenant
from auditlog.sources.source_secrets import source_secret
from tests.deliveries import SAMPLES
from tests.integration.test_sender_formats import post

SECRET = b"whsec_c2VjcmV0LW9mLXRoZS1zZW5kZXI="


def new_key():
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture(autouse=True)
def key(monkeypatch):
    sealed._opened.clear()
    given = new_key()
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", given)
    return given


def put(tenant, name, secret, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(secret)))
    call_command("secret", "set", name, tenant=tenant.name)


def test_a_delivery_is_taken_under_a_secret_that_was_sealed_by_command(source, tenant, monkeypatch, capsys):
    row, sample = source("stripe"), SAMPLES["stripe"]
    secret = sample.known.secret()
    monkeypatch.delenv("TEST_SENDER_SECRET", raising=False)
    assert post(tenant, row.name, sample.deliver(sample.bodies[0])).status_code >= 400

    with capture_logs() as said:
        put(tenant, "TEST_SENDER_SECRET", secret + b"\n", monkeypatch)
        call_command("secret", "list", tenant=tenant.name)

    assert post(tenant, row.name, sample.deliver(sample.bodies[0])).status_code in (200, 202)
    out = capsys.readouterr()
    assert "TEST_SENDER_SECRET" in out.out and secret.decode() not in out.out + out.err + json.dumps(said, default=str)
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT string_agg(s::text, '') FROM sealed_secret s")
        assert secret.hex() not in cursor.fetchone()[0]
    [noted] = read(tenant, Asked(kind="secret.changed"), before=None, limit=9)[0]
    assert "TEST_SENDER_SECRET" in noted.what and noted.who.startswith("operator ")


def test_the_secret_before_is_good_until_the_sender_has_switched(tenant, now):
    sealed.seal(tenant, "HOOK", b"first", now=now)
    sealed.seal(tenant, "HOOK", b"second", now=now)

    assert (source_secret("HOOK", tenant), source_secret("HOOK_OLD", tenant)) == (b"second", b"first")
    sealed.remove(tenant, "HOOK_OLD")
    assert source_secret("HOOK_OLD", tenant) is None


def test_the_environment_comes_first(tenant, now, monkeypatch):
    sealed.seal(tenant, "HOOK", b"sealed", now=now)
    monkeypatch.setenv("HOOK", "given")

    assert source_secret("HOOK", tenant) == b"given"


def test_a_box_that_was_moved_to_another_tenant_or_name_opens_for_nobody(tenant, now):
    other = add_tenant(f"{tenant.name}-other", now=now)
    sealed.seal(tenant, "HOOK", b"of the first", now=now)
    row = SealedSecret.objects.get(tenant=tenant)

    SealedSecret.objects.create(tenant=other, name="HOOK", box=row.box, key_id=row.key_id, changed_at=now)
    SealedSecret.objects.create(tenant=tenant, name="OTHER", box=row.box, key_id=row.key_id, changed_at=now)

    assert (
        source_secret("HOOK", other) is None
        and source_secret("OTHER", tenant) is None
        and source_secret("HOOK", tenant) == b"of the first"
    )


def test_a_key_is_changed_by_putting_the_new_one_first_and_sealing_anew(tenant, now, key, monkeypatch):
    sealed.seal(tenant, "HOOK", b"kept", now=now)
    newer = new_key()
    SealedSecret.objects.exclude(tenant=tenant).delete()  # other tests' are sealed with keys that are gone

    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", newer)
    sealed._opened.clear()
    assert source_secret("HOOK", tenant) is None
    with pytest.raises(ConfigurationError, match="not among the keys"):
        sealed.reseal()
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", f"{newer},{key}")
    assert sealed.reseal() == 1
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", newer)
    sealed._opened.clear()

    assert source_secret("HOOK", tenant) == b"kept"


def test_the_key_may_come_from_a_file_or_a_command_and_a_bad_one_is_never_said(tenant, now, key, monkeypatch, tmp_path):
    monkeypatch.delenv("ANSWERABLE_SEAL_KEY")
    (tmp_path / "key").write_text(key + "\n")
    for variable, value in (
        ("ANSWERABLE_SEAL_KEY_FILE", str(tmp_path / "key")),
        ("ANSWERABLE_SEAL_KEY_COMMAND", f"cat {tmp_path / 'key'}"),
    ):
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            sealed.seal(tenant, "HOOK", b"x", now=now)
            assert SealedSecret.objects.get(tenant=tenant, name="HOOK").key_id == sealed.key_id(base64.b64decode(key))
    for variable, value in (
        ("ANSWERABLE_SEAL_KEY", "c2hvcnQ="), ("ANSWERABLE_SEAL_KEY_COMMAND", "false"), ("ANSWERABLE_SEAL_KEY_FILE", str(tmp_path / "none")),
    ):  # fmt: skip
        with monkeypatch.context() as patched, pytest.raises(ConfigurationError) as told:
            patched.setenv(variable, value)
            sealed.seal(tenant, "HOOK", b"x", now=now)
        assert "c2hvcnQ" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("hook", b"x"),
        ("A B", b"x"),
        ("", b"x"),
        ("HOOK", b""),
        ("HOOK", b"\n"),
        ("HOOK", b"x" * 20_000),
        ("H" * 200, b"x"),
    ],
)
def test_what_is_no_name_or_no_secret_is_refused(tenant, name, secret, monkeypatch):
    with pytest.raises(CommandError):
        put(tenant, name, secret, monkeypatch)
    assert not SealedSecret.objects.filter(tenant=tenant).exists()
