"""Secrets on a page: entered once, sealed, rotated, never shown; and a delivery is taken under one."""

import base64
import os
import re

import pytest
from django.db import connections
from django.test import Client

from auditlog.custody.security import Asked, read
from auditlog.models import SealedSecret
from auditlog.sources import sealed
from auditlog.sources.configure import add_tenant
from auditlog.sources.source_secrets import source_secret
from tests.deliveries import SAMPLES
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_sender_formats import post


@pytest.fixture(autouse=True)
def key(monkeypatch):
    sealed._opened.clear()
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", base64.b64encode(os.urandom(32)).decode())


def test_a_secret_is_entered_once_and_a_delivery_is_taken_under_it(source, world, monkeypatch):
    tenant, row, sample = world.row, source("stripe"), SAMPLES["stripe"]
    monkeypatch.delenv("TEST_SENDER_SECRET", raising=False)
    client = signed_in(world, "admin")
    secret = sample.known.secret().decode()
    before = text_of(client.get("/secrets/"))
    assert "TEST_SENDER_SECRET" in before and "not here" in before and f"source {row.name}" in before

    assert client.post("/secrets/", {"name": "TEST_SENDER_SECRET", "secret": secret}).status_code == 302

    assert post(tenant, row.name, sample.deliver(sample.bodies[0])).status_code in (200, 202)
    for path in ("/secrets/", "/sources/", f"/sources/{row.name}/", "/changes/", "/security-log/"):
        assert secret not in client.get(path).content.decode()
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT string_agg(s::text, '') FROM sealed_secret s")
        assert secret.encode().hex() not in cursor.fetchone()[0]
    [noted] = read(tenant, Asked(kind="secret.changed"), before=None, limit=9)[0]
    assert noted.what == "secret: set TEST_SENDER_SECRET" and noted.who.startswith("admin-")


def test_it_is_rotated_and_the_one_before_removed_when_the_sender_has_switched(world):
    client = signed_in(world, "admin")
    for value in ("first", "second"):
        client.post("/secrets/", {"name": "HOOK", "secret": value})
    assert (source_secret("HOOK", world.row), source_secret("HOOK_OLD", world.row)) == (b"second", b"first")
    assert "HOOK_OLD" in client.get("/secrets/").content.decode()

    client.post("/secrets/", {"remove": "HOOK_OLD"})

    sealed.forget()
    assert source_secret("HOOK_OLD", world.row) is None and source_secret("HOOK", world.row) == b"second"
    noted = read(world.row, Asked(kind="secret.changed"), before=None, limit=9)[0]
    assert [one.what for one in noted] == ["secret: removed HOOK_OLD", "secret: rotated HOOK", "secret: set HOOK"]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("hook", "x"),
        ("", "x"),
        ("HOOK", ""),
        ("A B", "x"),
        ("ANSWERABLE_SEAL_KEY", "x"),
        ("H" * 200, "x"),
        ("HOOK", "x" * 20_000),
    ],
)
def test_what_is_no_name_or_no_secret_is_refused_and_not_shown_again(world, name, secret):
    client = signed_in(world, "admin")

    answer = client.post("/secrets/", {"name": name, "secret": secret})

    assert answer.status_code == 422 and not SealedSecret.objects.filter(tenant=world.row).exists()
    [field] = re.findall(r'<input[^>]*name="secret"[^>]*>', answer.content.decode())
    assert "value=" not in field


def test_an_admin_sees_and_removes_those_of_his_own_tenant_only(world, now):
    other = add_tenant(f"{world.tenant}-other", now=now)
    sealed.seal(other, "THEIRS", b"x", now=now)
    client = signed_in(world, "admin")

    assert "THEIRS" not in client.get("/secrets/").content.decode()
    assert client.post("/secrets/", {"remove": "THEIRS"}).status_code == 422
    assert SealedSecret.objects.filter(tenant=other, name="THEIRS").exists()
    assert Client().post("/secrets/", {"name": "HOOK", "secret": "x"}).status_code == 302
    assert not SealedSecret.objects.filter(tenant=world.row).exists()
