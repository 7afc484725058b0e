"""What several files of integration tests start from."""

import pytest

from auditlog.simulator.story import demo_story
from auditlog.sources.configure import add_source
from tests.deliveries import ISSUER, SAMPLES, SIGNER


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
    story = demo_story(seed=7, now=world.now, tenant=world.tenant)
    world.sources |= {spec.name: spec for spec in story.sources}
    bad = {refusal.position for refusal in story.refusals}
    world.send(*(signed for position, signed in enumerate(story.deliveries) if position not in bad))
    world.settle()
    return world
