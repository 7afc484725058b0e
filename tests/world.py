"""The simulator tied to a tenant of the test database: what it signs goes through the real verbs."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from auditlog.core.errors import Refused
from auditlog.formats import Delivery
from auditlog.ingest import receive as road
from auditlog.ledger.append import Appended
from auditlog.models import Tenant
from auditlog.projection.project import project
from auditlog.simulator.world import Signed, World
from auditlog.sources.configure import add_source


class TenantWorld(World):
    """`send` ingests, `settle` walks the rest of the road. Sources are configured when they first send."""

    def __init__(self, tenant: Tenant, *, now: datetime, seed: int = 1) -> None:
        super().__init__(seed=seed, tenant=tenant.name, now=now)
        self.row = tenant
        self._configured: set[str] = set()

    def configure(self, name: str, **overrides) -> None:
        spec = self.sources[name]
        if name in self._configured:
            return
        self._configured.add(name)
        variable = ""
        if spec.secret:
            variable = f"SECRET_{self.tenant}_{name}".upper().replace("-", "_")
            os.environ[variable] = spec.secret
        add_source(
            self.row, name, format=spec.format, issuer=spec.issuer, jwks=spec.jwks, secret_env=variable,
            provider=spec.provider or "", layers=list(spec.layers), speaks_for=list(spec.speaks_for), now=self.now,
            **overrides,
        )  # fmt: skip

    def deliver(self, signed: Signed, *, now: datetime | None = None) -> road.Taken:
        self.configure(signed.source)
        headers = {name.lower(): value for name, value in signed.headers.items()}
        delivery = Delivery(signed.raw, signed.content_type, headers)
        return road.ingest(self.tenant, signed.source, delivery, now=now or self.now)

    def send(self, *many: Signed, now: datetime | None = None) -> list[Appended]:
        """Ingest each delivery by itself; raises what the sender would be told."""
        results = []
        for signed in many:
            taken = self.deliver(signed, now=now)
            for refused in taken.refused.values():
                raise refused
            results += taken.appended.values()
        return results

    def send_together(self, many: Sequence[Signed], *, now: datetime | None = None) -> list[Appended]:
        """Ingest them as batches of one source's deliveries (RFC 8936 shape), in order."""
        results = []
        for source, some in groupby(many, key=lambda signed: signed.source):
            for together in batched(list(some), 1000):
                body = json.dumps({"sets": {signed.jti: signed.raw.decode() for signed in together}}).encode()
                self.configure(source)
                taken = road.ingest(self.tenant, source, Delivery(body, "application/json", {}), now=now or self.now)
                assert not taken.refused, next(iter(taken.refused.values()))
                results += taken.appended.values()
        return results

    def refused(self, signed: Signed) -> Refused:
        """The refusal of a delivery that must be refused."""
        try:
            taken = self.deliver(signed)
        except Refused as refused:
            return refused
        [refused] = taken.refused.values()
        return refused

    def project(self) -> None:
        while project(self.row, now=self.now):
            pass

    def settle(self, *, after: timedelta = timedelta(minutes=1)) -> None:
        """Project and detect everything, as of `after` the world's now, when grace periods are over."""
        from auditlog.work.drive import drive_tenant

        drive_tenant(self.tenant, now=lambda: self.now + after)


def batched(many: Sequence[Signed], size: int) -> Iterator[Sequence[Signed]]:
    for start in range(0, len(many), size):
        yield many[start : start + size]
