"""What the fault tests share: a log with an oracle beside it, and database servers of their own to be killed."""

from contextlib import contextmanager

import pytest
from django.db import connections

from auditlog.models import PublisherState
from config import env
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


@pytest.fixture
def server_folder(migrated, database):
    """Copies the state folder of a stopped server with our tables to a place, ready to be started there."""
    return migrated
