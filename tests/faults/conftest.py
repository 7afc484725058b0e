"""What the fault tests share: a log with an oracle beside it, and database servers of their own to be killed."""

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import connections

from auditlog.models import PublisherState
from config import embedded, env
from tests.oracle import Oracle


@pytest.fixture
def log(world):
    """A log with one source and one event, its head signed."""
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.oracle = Oracle(world)
    world.oracle.send(world.event("action.performed"))
    world.oracle.sign()
    yield world
    PublisherState.objects.filter(tenant=world.row).delete()  # /readyz speaks of every log, also to other tests


@contextmanager
def at(services):
    """Every connection of this process goes to these servers."""
    urls = {"default": services.database_url, "owner": services.database_owner_url}
    connections.close_all()
    before = {alias: dict(connections[alias].settings_dict) for alias in urls}
    for alias, url in urls.items():
        connections[alias].settings_dict.update(env.database(url))
    try:
        yield
    finally:
        connections.close_all()
        for alias, usual in before.items():
            connections[alias].settings_dict.clear()
            connections[alias].settings_dict.update(usual)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, django_db_setup, django_db_blocker):
    """The state folder of a stopped server with our tables, to be copied: faster than making one for every test."""
    folder = tmp_path_factory.mktemp("servers") / "template"
    with django_db_blocker.unblock(), embedded.start(folder, broker=False) as services, at(services):
        call_command("setup_database", verbosity=0)
    return folder


@pytest.fixture
def server_folder(made_once, database):
    """Copies the state folder to a place, ready to be started there."""

    def copy(place):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["cp", "-a", made_once, place], check=True)  # with owners and modes, as root too
        return place

    return copy
