"""What a viewer may read: whom they see by name, and the stub in its place for everybody else."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import digest
from typing import Any

from django.db.models import Q, QuerySet

from auditlog.models import Event, Finding, Role
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer


@dataclass(frozen=True, slots=True)
class Sight:
    """Whom a caller sees by name. An abuse desk: those whom its own provider's events name as actor or principal."""

    pepper: bytes = b""
    seen: frozenset[str] | None = None  # None: everybody

    @classmethod
    def of(cls, viewer: Viewer, keys: Iterable[str]) -> "Sight":
        if viewer.role != Role.ABUSE:
            return cls()
        wanted = frozenset(keys) - {""}
        named = visible_events(viewer).filter(Q(actor__in=wanted) | Q(claimed_principal__in=wanted)).order_by()
        pairs = named.values_list("actor", "claimed_principal").distinct()
        return cls(bytes(viewer.tenant.pepper), wanted & {key for pair in pairs for key in pair})

    def sees(self, key: str) -> bool:
        return self.seen is None or key in self.seen

    def text(self, key: str) -> str:
        """`iss|sub`, or the stub in its place."""
        return key if not key or self.sees(key) else self.party(key)["sub"]

    def party(self, key: str, **more: Any) -> dict[str, Any] | None:
        """`iss|sub`, split at the first bar; None for nobody; a stub, the same everywhere, for whom it may not name."""
        if not key:
            return None
        if not self.sees(key):
            stub = digest(self.pepper, b"stub:" + key.encode(), sha256).hex()[:8]  # as the pages write it
            return {"iss": None, "sub": f"hidden-{stub}", "hidden": True, **more}
        issuer, _, subject = key.partition("|")
        return {"iss": issuer, "sub": subject, **more}


def visible_events(viewer: Viewer) -> QuerySet[Event]:
    """The events a caller may see, newest leaf first: its tenant's; of the abuse role, its own provider's only."""
    events = Event.objects.filter(tenant=viewer.tenant, generation=generation_of(viewer.tenant)).order_by("-leaf_index")
    return events.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else events


def under_grant(viewer: Viewer, events: QuerySet[Event], grant_id: str) -> QuerySet[Event]:
    """Those that this grant answers for; of an abuse desk, those that state it themselves: that a token leads to it is
    not the desk's to find out.
    """
    events = events.filter(via_grant=grant_id)
    return events.filter(grant=grant_id) if viewer.role == Role.ABUSE else events


def visible_findings(viewer: Viewer) -> QuerySet[Finding]:
    """The findings a caller may see, newest first."""
    findings = Finding.objects.filter(tenant=viewer.tenant).order_by("-id")
    return findings.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else findings
