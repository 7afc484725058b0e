"""Play the demo story into a tenant without HTTP: ingest in batches, project, detect where that exists."""

import os
from datetime import datetime, timedelta

import orjson

from auditlog.core.errors import Refused
from auditlog.formats import Delivery
from auditlog.ingest.receive import ingest
from auditlog.models import Tenant
from auditlog.simulator.play import _groups
from auditlog.simulator.story import demo_story
from auditlog.sources.configure import add_organisation, add_source
from auditlog.work.drive import drive_tenant
from tests import joined
from tests.world import TenantWorld


def set_stage(tenant: Tenant, *, now: datetime) -> None:
    story = demo_story(seed=7, now=now, tenant=tenant.name)
    for spec in story.sources:
        variable = ""
        if spec.secret:
            variable = f"SECRET_{tenant.name}_{spec.name}".upper().replace("-", "_")
            os.environ[variable] = spec.secret
        add_source(
            tenant, spec.name, format=spec.format, issuer=spec.issuer, jwks=spec.jwks, secret_env=variable,
            provider=spec.provider or "", layers=list(spec.layers), speaks_for=list(spec.speaks_for), now=now,
        )  # fmt: skip
    for owned in story.owned_names:
        add_organisation(tenant, owned.organisation, issuers=[owned.issuer], owned_names=list(owned.names), now=now)
    refusals = {refusal.position: refusal.kind for refusal in story.refusals}
    for _, group in _groups(story, refusals):
        for delivery in _deliveries(group):
            try:
                ingest(tenant.name, group[0].source, delivery, now=now)
            except Refused:  # the story's own forgeries
                continue
    world = TenantWorld(tenant, now=now, seed=11)
    events = joined.set_up(world, prefix="next-")
    lies = world.told_by_three("db-7", orchestrator=world.maestro, provider=world.cloud, rail=world.rail, amount_minor=900, rail_says_minor=1_500,
                               grant=world.over, key="key-7", charge="rb-7", at=world.at + timedelta(minutes=9), session="joined-b")  # fmt: skip
    world.send(*events, *lies)
    drive_tenant(tenant.name, now=lambda: now)


def _deliveries(group):
    if len(group) > 1:
        body = orjson.dumps({"sets": {signed.jti: signed.raw.decode() for signed in group}})
        return [Delivery(body, "application/json", {})]
    return [
        Delivery(signed.raw, signed.content_type, {k.lower(): v for k, v in signed.headers.items()}) for signed in group
    ]
