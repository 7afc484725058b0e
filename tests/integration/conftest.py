"""What several files of integration tests start from."""

import itertools
import os
from datetime import UTC, datetime

import pytest
from django.db import connections

from auditlog.simulator.story import demo_story
from auditlog.sources.configure import add_source, add_tenant
from tests.deliveries import ISSUER, SAMPLES, SIGNER
from tests.world import TenantWorld


@pytest.fixture
def source(tenant, now, monkeypatch):
    """A source of the format, with the samples' secret and keys."""

    def add(format):
        sample = SAMPLES[format]
        monkeypatch.setenv("TEST_SENDER_SECRET", sample.known.secret().decode())
        keys = {"keys": [SIGNER.jwk]} if sample.known.keys else None
        return add_source(
            tenant,
            format.replace("_", "-"),
            format=format,
            issuer=ISSUER,
            jwks=keys,
            secret_env="TEST_SENDER_SECRET",
            audience=sample.known.audience,
            now=now,
        )

    return add


@pytest.fixture
def told(world):
    """The demo story, settled."""
    return _play(world)


@pytest.fixture(scope="module")
def told_once(django_db_setup, django_db_blocker):
    """The same for all tests of a module, which read it and change nothing: `told(database, told_once)`."""
    now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    with django_db_blocker.unblock():
        world = _play(TenantWorld(add_tenant(f"once{os.getpid()}-{next(_numbers)}", now=now), now=now))
        connections.close_all()
    return world


_numbers = itertools.count(1)


def _play(world):
    story = demo_story(seed=7, now=world.now, tenant=world.tenant)
    world.sources |= {spec.name: spec for spec in story.sources}
    bad = {refusal.position for refusal in story.refusals}
    world.send(*(signed for position, signed in enumerate(story.deliveries) if position not in bad))
    world.settle()
    return world
