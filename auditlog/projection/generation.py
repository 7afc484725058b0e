"""The generation of the projections: rebuilt beside the one in use, and swapped in one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from auditlog.models import ProjectionState, Tenant

_reading: ContextVar[tuple[int, int] | None] = ContextVar("generation", default=None)


def generation_of(tenant: Tenant) -> int:
    """The generation that reads are served from."""
    known = _reading.get()
    if known is not None and known[0] == tenant.pk:
        return known[1]
    return ProjectionState.objects.values_list("generation", flat=True).get(tenant=tenant, is_current=True)


@contextmanager
def reading(tenant: Tenant, generation: int) -> Iterator[None]:
    """For whoever has the generation's row locked: it is not asked for again, since it cannot change meanwhile."""
    token = _reading.set((tenant.pk, generation))
    try:
        yield
    finally:
        _reading.reset(token)
