"""Locked: a case's row, held until commit: two people who do something with it at once take turns."""

from auditlog.core.errors import NotFound, NotPermitted
from auditlog.models import Role
from auditlog.reads.access import Viewer
from disputes.models import Case


def locked(case: Case, viewer: Viewer) -> Case:
    """Raises NotPermitted for whoever may not handle it, NotFound in another tenant. Only inside a transaction."""
    viewer.must("case")
    held = Case.objects.select_for_update().select_related("tenant").filter(tenant=viewer.tenant, pk=case.pk).first()
    if held is None:
        raise NotFound(f"no case {case.ref}")
    if viewer.role == Role.ABUSE and held.provider != viewer.provider:
        raise NotPermitted(f"the abuse desk of {viewer.provider} may act on cases at {viewer.provider} only")
    return held
