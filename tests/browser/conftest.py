"""A real browser against the real application: the demo story in a fresh tenant, served by a thread of this process.

Skipped with one line where no Chromium is installed. Tests share one server, one story and one browser.
"""

import os
import shutil
from datetime import timedelta
from socketserver import ThreadingMixIn
from threading import Thread
from types import SimpleNamespace
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from django.db import connections

from tests.support.needs import cannot

PASSWORD = "correct horse battery"
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def process_request_thread(self, request, client_address):
        """A thread a request: each would keep a connection to the database of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            connections.close_all()


@pytest.fixture(scope="session")
def site(django_db_setup, django_db_blocker):
    """The address of a running service, the ids its pages need, and people who may log in."""
    if chromium() is None:
        cannot("browser", "no Chromium found: install it or set CHROMIUM to run the browser tests")
    from django.contrib.auth.models import User
    from django.utils import timezone

    from auditlog.models import Event, Finding, Grant, Incident, Membership
    from auditlog.reads.access import Viewer
    from auditlog.sources.configure import add_tenant
    from disputes.open_case import open_case
    from tests.browser.stage import set_stage

    with django_db_blocker.unblock():
        now = timezone.now()
        tenant = add_tenant(f"browser-{os.getpid()}", now=now)
        set_stage(tenant, now=now - timedelta(minutes=5))
        people = {}
        for role in ("admin", "auditor", "abuse"):
            name = f"{role}-{os.getpid()}"
            user = User.objects.create_user(
                name, password=PASSWORD, is_staff=role == "admin", is_superuser=role == "admin"
            )
            provider = ""
            if role == "abuse":
                provider = (
                    Event.objects.filter(tenant=tenant).exclude(provider="").values_list("provider", flat=True)[0]
                )
            Membership.objects.create(tenant=tenant, user=user, role=role, provider=provider)
            people[role] = name
        bought = Event.objects.filter(tenant=tenant, type="domain.registered").order_by("-leaf_index").first()
        webhook = Event.objects.filter(tenant=tenant, source__startswith="stripe").order_by("-leaf_index").first()
        finding = Finding.objects.filter(tenant=tenant, rule="intent.domain_mismatch").order_by("-id").first()
        desk = Viewer(tenant, "security", "case desk")
        case = open_case(
            desk, kind="scope", title=finding.title, complaint="I never asked for this.", finding=finding, now=now
        )
        told = finding.place_in_incident.incident
        _exports(tenant, now=now)
        _alerts(tenant, now=now)
        from config.wsgi import application

        server = make_server("127.0.0.1", 0, application, server_class=_Server, handler_class=_Quiet)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield SimpleNamespace(
            url=f"http://127.0.0.1:{server.server_port}", tenant=tenant, people=people, bought=bought, webhook=webhook,
            finding=finding, case=case, told=told, incident=Incident.objects.get(tenant=tenant, places__finding__rule="spend.retry_loop"), source=tenant.source_set.first(), grant=Grant.objects.filter(tenant=tenant).order_by("-depth").first(),
        )  # fmt: skip
        server.shutdown()
        thread.join()
        server.server_close()


def _alerts(tenant, *, now) -> None:
    """Two channels, of which one escalates to the other; and alerts in several states."""
    from datetime import time

    from auditlog.alerts import channels
    from auditlog.models import Alert, Incident

    boss = channels.add(tenant, "boss", kind="mail", address="boss@acme.example", severity="critical", now=now)
    oncall = channels.add(
        tenant, "oncall", kind="mail", address="oncall@acme.example", severity="medium", desks=["security", "finance"], least_minor=10_000,
        currency="EUR", with_texts=True, quiet_zone="Europe/Berlin", quiet_from=time(22), quiet_to=time(7), quiet_days=[0, 1, 2, 3, 4],
        escalate_minutes=30, escalate_to=boss, now=now,
    )  # fmt: skip
    told = {
        "tenant": tenant,
        "channel": oncall,
        "incident": Incident.objects.filter(tenant=tenant).first(),
        "created_at": now,
    }
    Alert.objects.create(
        **told,
        kind="news",
        state="sent",
        news=["New incident"],
        sent_at=now,
        attempts=1,
        answer="the mail server took it for 1 address",
    )
    Alert.objects.create(
        **told,
        kind="news",
        state="dead",
        news=["Now 1,234.00 EUR too much, was 40.00 EUR"],
        attempts=9,
        answer="the mail server answered 451",
    )
    Alert.objects.create(**told, kind="news", state="held", due_at=now + timedelta(hours=5))
    Alert.objects.create(
        tenant=tenant, channel=boss, kind="test", state="sent", sent_at=now, created_at=now, attempts=1, answer="taken"
    )


def _exports(tenant, *, now) -> None:
    """One that goes well, one that fails, one that is suspended."""
    from auditlog.export.configure_export import add_export, change_export
    from auditlog.models import ExportStream

    add_export(
        tenant,
        "security-lake",
        kind="ocsf",
        what="all",
        url="https://collector.lake.example/v1",
        secret_env="LAKE_SECRET",
        from_now=True,
        now=now,
    )
    failing = add_export(tenant, "splunk", kind="ocsf", what="both", url="https://http-inputs-acme.splunkcloud.example/services/collector/raw",
                         token_env="SPLUNK_TOKEN", token_scheme="Splunk", now=now)  # fmt: skip
    ExportStream.objects.filter(export=failing, what="events").update(
        position=40, sent=38, failures=3, last_at=now, succeeded_at=now - timedelta(hours=2), due_at=now + timedelta(minutes=4),
        error="http-inputs-acme.splunkcloud.example answered 503 to 500 events, expected 2xx",
    )  # fmt: skip
    off = add_export(
        tenant,
        "arcsight",
        kind="cef",
        what="findings",
        url="https://arcsight.example/in",
        secret_env="ARCSIGHT_SECRET",
        now=now,
    )
    off.state = "suspended"
    change_export(off, now=now)


@pytest.fixture(scope="package")
def browser(site):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=ARGS)
        yield running
        running.close()


@pytest.fixture(scope="package")
def cookies(site, browser) -> dict[str, list]:
    """Session cookies by role, each from one real login."""
    found = {}
    for role, name in site.people.items():
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{site.url}/login/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{site.url}/")
        found[role] = context.cookies()
        context.close()
    return found
