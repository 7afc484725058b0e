"""The generation of the projections: rebuilt beside the one in use, and swapped in one transaction."""

from auditlog.models import ProjectionState, Tenant


def generation_of(tenant: Tenant) -> int:
    """The generation that reads are served from."""
    return ProjectionState.objects.values_list("generation", flat=True).get(tenant=tenant, is_current=True)
