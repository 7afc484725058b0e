"""What the service shows to whom, and what its answers and connections ask of the other side."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from auditlog.models import Membership
from auditlog.reads.access import issue_token
from auditlog.sources.configure import add_tenant, give_role
from config import env
from tests.foreign_text import foreign_texts, isolated
from tests.https import authority

ROOT = Path(__file__).resolve().parents[2]


def token_of(tenant, role="auditor", **more):
    return {
        "authorization": f"Bearer {issue_token(tenant, name=f't-{role}', role=role, expires_at=timezone.now() + timedelta(days=1), **more)}"
    }


def signed_in(tenant, role, **more):
    user = get_user_model().objects.create_user(f"{role}-{tenant.name}", password="a long passphrase", **more)
    give_role(
        Membership(tenant=tenant, user=user, role=role, provider="x" if role == "abuse" else ""), now=timezone.now()
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("path", ["/metrics", "/api/schema", "/api/docs"])
def test_numbers_schema_and_docs_are_not_for_strangers(tenant, path):
    assert Client().get(path).status_code in (401, 403)
    assert Client().get(path, headers={"authorization": "Bearer nonsense"}).status_code in (401, 403)
    assert Client().get(path, headers=token_of(tenant)).status_code == 200
    assert signed_in(tenant, "security").get(path).status_code == 200


def test_a_token_or_member_of_one_tenant_reads_no_numbers_of_another(tenant, now, monkeypatch):
    other = add_tenant(f"{tenant.name}-other", now=now)
    monkeypatch.setenv("ANSWERABLE_METRICS_TOKEN", "scrape")

    for answer in (Client().get("/metrics", headers=token_of(tenant)), signed_in(tenant, "admin").get("/metrics")):
        text = answer.content.decode()
        assert f'tenant="{tenant.name}"' in text and other.name not in text
    assert other.name in Client().get("/metrics", headers={"authorization": "Bearer scrape"}).content.decode()
    assert Client().get("/metrics", headers=token_of(tenant, "abuse", provider="x")).status_code == 403
    assert signed_in(tenant, "abuse").get("/metrics").status_code == 403


def test_an_empty_metrics_token_opens_nothing(tenant, monkeypatch):
    monkeypatch.setenv("ANSWERABLE_METRICS_TOKEN", "")

    assert Client().get("/metrics", headers={"authorization": "Bearer "}).status_code == 401


@pytest.mark.parametrize(
    "path", ["/api/v1/events", "/api/v1/nothing", "/api/schema", "/metrics", "/login/", "/", "/readyz", "/admin/login/"]
)
def test_what_is_not_published_is_kept_by_no_cache(tenant, path):
    for headers in ({}, token_of(tenant)):
        assert "no-store" in Client().get(path, headers=headers)["Cache-Control"], path


def settings_of(*names, **variables):
    code = (
        f"import json; from config import settings; print(json.dumps([getattr(settings, n, None) for n in {names!r}]))"
    )
    environment = (
        {k: v for k, v in os.environ.items() if not k.startswith("ANSWERABLE_H")}
        | {"ANSWERABLE_SECRET_KEY": "x" * 50}
        | variables
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_with_tls_cookies_belong_to_this_host_and_browsers_come_by_tls_only():
    names = (
        "SESSION_COOKIE_NAME",
        "CSRF_COOKIE_NAME",
        "SESSION_COOKIE_SECURE",
        "CSRF_COOKIE_SECURE",
        "SESSION_COOKIE_DOMAIN",
        "SECURE_HSTS_SECONDS",
    )

    session, csrf, *secure, domain, hsts = settings_of(*names, ANSWERABLE_HTTPS="1")

    assert (
        session.startswith("__Host-")
        and csrf.startswith("__Host-")
        and secure == [True, True]
        and domain is None
        and hsts >= 31_536_000
    )
    assert settings_of(*names)[:4] == [None, None, False, False]  # by plain HTTP no browser would send them back


def test_the_hosts_that_are_served_by_default_are_this_machine_and_no_name_of_tests():
    [hosts] = settings_of("ALLOWED_HOSTS")

    assert set(hosts) == {"localhost", "127.0.0.1", "[::1]"}


# --- the database's TLS ---------------------------------------------------------------------------------------------


@pytest.fixture
def pretender(tmp_path):
    """Something that answers PostgreSQL's request for TLS, with a certificate of an authority of its own."""
    root, chain = authority()
    (tmp_path / "root.pem").write_text(root)
    (tmp_path / "chain.pem").write_text(chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                try:
                    line.recv(8)
                    line.sendall(b"S")
                    with context.wrap_socket(line, server_side=True) as safe:
                        heard.append(safe.recv(100))
                except (OSError, ssl.SSLError):
                    line.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], tmp_path / "root.pem", heard


@pytest.mark.parametrize(("said", "is_heard"), [
    ("sslmode=verify-full&sslrootcert={root}", True), ("sslmode=verify-full&sslrootcert=/dev/null", False), ("sslmode=verify-ca&sslrootcert=system", False),
    ("sslmode=verify-full&sslrootcert=system", False), ("sslmode=require&sslrootcert=/dev/null&gssencmode=disable", False),
])  # fmt: skip
def test_a_database_that_cannot_prove_its_name_hears_no_password_when_the_url_asks_for_that(pretender, said, is_heard):
    import psycopg
    from django.db.backends.postgresql.base import DatabaseWrapper

    port, root, heard = pretender
    made = env.database(
        f"postgresql://app:secret@localhost:{port}/x?{said.format(root=root)}&connect_timeout=5&hostaddr=127.0.0.1"
    )
    wrapper = DatabaseWrapper(
        {
            **made,
            "TIME_ZONE": None,
            "CONN_HEALTH_CHECKS": False,
            "AUTOCOMMIT": True,
            "ATOMIC_REQUESTS": False,
            "TEST": {},
        }
    )

    with pytest.raises(psycopg.OperationalError):
        params = wrapper.get_connection_params()
        psycopg.connect(
            **{name: params[name] for name in params if name not in ("context", "cursor_factory", "prepare_threshold")}
        )

    assert bool(heard) == is_heard


# --- foreign text ---------------------------------------------------------------------------------------------------


def test_every_foreign_text_of_a_page_stands_in_a_bdi():
    wrong = []
    for file in [
        *ROOT.glob("dashboard/templates/**/*.html"),
        *ROOT.glob("config/templates/**/*.html"),
        *ROOT.glob("auditlog/**/*.html"),
    ]:
        text = file.read_text()
        wrong += [
            f"{file.relative_to(ROOT)}: {text[start:end]}"
            for start, end, is_inside in foreign_texts(text)
            if not is_inside
        ]

    assert wrong == []


def test_what_is_foreign_in_a_template_is_recognised():
    assert (
        isolated('<p title="{{ a|shown }}">{{ b|shown }} {{ c }}</p>')
        == '<p title="{{ a|shown }}"><bdi>{{ b|shown }}</bdi> {{ c }}</p>'
    )
    assert (
        isolated(
            "<title>{{ a|shown }}</title>{% block title %}{{ a|shown }}{% endblock %}<i>{{ b|safe_text|default:'>' }}</i>"
        ).count("<bdi>")
        == 1
    )
    assert isolated("<bdi class=id>{{ a|shown }}</bdi><option>{{ a|shown }}</option>").count("<bdi>") == 0
