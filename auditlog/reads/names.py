"""Names that were registered, for the abuse desk: a pasted list scored, one cluster told name by name, and what else was
bought by the same hand.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db.models import Q

from auditlog.core.names.background import bundled
from auditlog.core.names.grace import undo_until
from auditlog.core.names.lookalike import Index, popular_brands, told
from auditlog.models import Finding, FindingMember, NameRow, OwnedName, Role
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from auditlog.reads.parties import owned_names
from auditlog.reads.sight import Sight, visible_events, visible_findings

MOST_SCORED = 10_000  # names of one request
MOST_SHOWN = 500  # names of a cluster, and names associated with it
BURST = timedelta(hours=1)
_COLUMNS = (
    "event_id", "leaf_index", "occurred_at", "resource", "target", "principal", "actor", "provider", "account", "grant",
    "via_grant", "jkt", "request_id", "outcome",
)  # fmt: skip


def score_list(viewer: Viewer, names: Iterable[str], brands: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each name beside the brand that it comes closest to. Brands: those that are given; failing that the bundled popular
    names, and for whoever reads the tenant's papers its own names and marks.
    """
    own = () if brands or viewer.role == Role.ABUSE else tuple(owned.name for owned in owned_names(viewer.tenant))
    index = _index(tuple(brands) or (*own, *popular_brands()))
    return [told(index, name) for name in names]


@lru_cache(maxsize=8)
def _index(brands: tuple[str, ...]) -> Index:
    return Index(brands, bundled())


@dataclass(frozen=True, slots=True)
class Bought:
    """One registered name as a viewer reads it. `reasons`: how it belongs to others; `found`: rules about its authority."""

    event_id: str
    name: str
    at: datetime
    until: datetime | None  # it can be given back; None: not known
    brand: str  # somebody else's mark; "" none, or not for the viewer to read
    principal: str
    actor: str
    provider: str
    account: str
    grant: str
    is_approved: bool  # a human approved its request, as far as the viewer sees
    found: tuple[str, ...]
    reasons: tuple[str, ...] = ()


def cluster_of(viewer: Viewer, finding: Finding) -> list[Bought]:
    """The names that a finding rests on and that the viewer may see, in order of time."""
    leaves = FindingMember.objects.filter(tenant=viewer.tenant, finding=finding).values("leaf_index")
    return _bought(viewer, _registered(viewer).filter(leaf_index__in=leaves).order_by("occurred_at", "leaf_index"))


def associated_with(viewer: Viewer, finding: Finding) -> list[Bought]:
    """ICANN's associated-domain check: all names bought under the same human, grant, key or agent, or in the same burst, as
    those of a finding, each with the reasons. Of very many the latest.
    """
    leaves = list(
        FindingMember.objects.filter(tenant=viewer.tenant, finding=finding)
        .order_by("place")
        .values_list("leaf_index", flat=True)[:5_000]
    )
    seeds = list(_registered(viewer).filter(leaf_index__in=leaves).values(*_COLUMNS))
    held = {name: {row[name] for row in seeds} - {""} for name in ("principal", "actor", "jkt", _grant(viewer))}
    if not any(held.values()):
        return []
    asked = Q()
    for name, values in held.items():
        if values:
            asked |= Q(**{f"{name}__in": values})
    rows = _registered(viewer).filter(asked).exclude(leaf_index__in=leaves).order_by("-occurred_at", "-leaf_index")
    times: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for row in seeds:
        for name in ("principal", "actor"):
            if row[name]:
                times[name, row[name]].append(row["occurred_at"])
    words = {"principal": "same human", "actor": "same agent", "jkt": "same key", _grant(viewer): "same grant"}

    def reasons(row: dict[str, Any]) -> tuple[str, ...]:
        found = [words[name] for name, values in held.items() if row[name] in values]
        near = [at for name in ("principal", "actor") for at in times.get((name, row[name]), ())]
        return (*found, *(["same burst"] if any(abs(at - row["occurred_at"]) <= BURST for at in near) else []))

    return _bought(viewer, rows, reasons)


def _registered(viewer: Viewer):
    return visible_events(viewer).filter(type="domain.registered", outcome="success", environment="live")


def _grant(viewer: Viewer) -> str:
    """An abuse desk knows of a grant what its own events state, not where their tokens lead."""
    return "grant" if viewer.role == Role.ABUSE else "via_grant"


def _bought(viewer: Viewer, events, reasons=lambda row: ()) -> list[Bought]:
    rows = list(events.values(*_COLUMNS)[:MOST_SHOWN])
    leaves = [row["leaf_index"] for row in rows]
    sight = Sight.of(viewer, {row[name] for row in rows for name in ("principal", "actor")})
    brands: dict[int, str] = {}
    if rows:
        told_of = NameRow.objects.filter(
            tenant=viewer.tenant, generation=generation_of(viewer.tenant), leaf_index__in=leaves
        )
        brands = dict(told_of.values_list("leaf_index", "brand"))
        if viewer.role == Role.ABUSE:
            public = OwnedName.objects.filter(tenant=viewer.tenant, is_private=False).values_list("name", flat=True)
            readable = {name.strip() for name in public}
            brands = {leaf: brand for leaf, brand in brands.items() if brand in readable}
    approved = set(
        visible_events(viewer)
        .filter(type="approval.decided", outcome="success", request_id__in={r["request_id"] for r in rows} - {""})
        .order_by()
        .values_list("request_id", flat=True)
    )
    found: dict[int, set[str]] = defaultdict(set)
    about = visible_findings(viewer).filter(rule__startswith="authority.").exclude(state="withdrawn").order_by()
    members = FindingMember.objects.filter(tenant=viewer.tenant, leaf_index__in=leaves, finding__in=about)
    for leaf, rule in members.values_list("leaf_index", "finding__rule"):
        found[leaf].add(rule)
    return [
        Bought(
            event_id=str(row["event_id"]),
            name=row["resource"] or row["target"],
            at=row["occurred_at"],
            until=undo_until(row["resource"] or row["target"], row["occurred_at"]),
            brand=brands.get(row["leaf_index"], ""),
            principal=sight.text(row["principal"]),
            actor=sight.text(row["actor"]),
            provider=row["provider"],
            account=row["account"],
            grant=row[_grant(viewer)],
            is_approved=row["request_id"] in approved,
            found=tuple(sorted(found[row["leaf_index"]])),
            reasons=reasons(row),
        )
        for row in rows
    ]
