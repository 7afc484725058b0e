"""Fixtures: a fresh tenant for every test, on the real servers that `tests/settings.py` starts.

Tests run as the application role, so what it may not do fails here too. Nothing is rolled back or truncated: the
ledger forbids it. A test's rows lie under its own tenant instead.
"""

import itertools
import os
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import psycopg
import pytest
from hypothesis import settings

from tests.support.state import copy_migrated

# A landing is judged by the same streams each time; `--hypothesis-profile explore` looks at new ones.
settings.register_profile("explore", derandomize=False)
settings.register_profile("landing", derandomize=True)
settings.load_profile("landing")


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker):
    """Tables are made once, as the owner; the application role gets its grants and nothing more. On servers of our own an
    empty copy is kept for tests that want a database to themselves.
    """
    from django.core.management import call_command
    from django.db import connections

    with django_db_blocker.unblock():
        call_command("setup_database", verbosity=0)
        connections.close_all()
        if "ANSWERABLE_TESTS_STARTED" not in os.environ:
            return None
        name = connections["default"].settings_dict["NAME"]
        with psycopg.connect(os.environ["DATABASE_OWNER_URL"], dbname="postgres", autocommit=True) as owner:
            owner.execute(f'CREATE DATABASE "{name}_empty" TEMPLATE "{name}"')
        return f"{name}_empty"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """Copies a state folder with migrated tables, and nothing in them, to a place; made once in a run."""
    own = tmp_path_factory.getbasetemp()
    run = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return partial(copy_migrated, run)


@pytest.fixture
def database(django_db_setup, django_db_blocker):
    """Real commits, as the application role."""
    from django.db import connections

    with django_db_blocker.unblock():
        yield
        for connection in connections.all():
            connection.close()


@pytest.fixture(autouse=True, scope="session")
def published():
    """Rights bind at once: no publisher runs beside most tests. Those about that ask for `unpublished`."""
    from auditlog.database import published

    with pytest.MonkeyPatch.context() as patch:
        real = published.covered
        patch.setattr(published, "covered", lambda tenant_id: 1 << 62)
        yield real


@pytest.fixture(autouse=True)
def unknown_to_the_door():
    """What an earlier test sent from this address and was refused is no other test's."""
    from auditlog.custody import security
    from auditlog.ingest import receive as ingest

    ingest.strangers.forget()
    security._failed.update(at=None, why="")  # a test in a database of its own could not write there


@pytest.fixture
def unpublished(published, monkeypatch):
    """Only what a checkpoint covers is in force, as in life."""
    from auditlog.database import published as of_log
    from auditlog.sources import configuration

    monkeypatch.setattr(of_log, "covered", published)
    configuration._logs.clear()
    yield
    configuration._logs.clear()


@pytest.fixture
def quiet(database):
    """No other test left anything to do: a service that walks every tenant's road finds only this test's."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM projection_dirty")
        cursor.execute("DELETE FROM incident_dirty")
        cursor.execute("DELETE FROM publisher_state")
        cursor.execute(
            "UPDATE projection_state s SET position = h.size, detected = h.size FROM ledger_head h"
            " WHERE h.tenant_id = s.tenant_id AND (s.position, s.detected) <> (h.size, h.size)"
        )


def pytest_terminal_summary(terminalreporter):
    """Tests that could not run here are told of: a green run that left them out is not the whole."""
    left_out = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in sorted(left_out.items()):
        terminalreporter.write_line(f"did not run here: {count} x {reason.removeprefix('Skipped: ')}")


_numbers = itertools.count(1)


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def tenant(database, now):
    from auditlog.sources.configure import add_tenant

    return add_tenant(f"t{os.getpid()}-{next(_numbers)}", now=now)


@pytest.fixture
def world(tenant, now):
    """The simulator, tied to a fresh tenant; see tests/world.py."""
    from tests.world import TenantWorld

    return TenantWorld(tenant, now=now)


@pytest.fixture
def outside(tmp_path):
    """A host outside: a real https server; see tests/https.py."""
    from tests.https import Outside

    server = Outside(tmp_path)
    yield server
    server.close()
