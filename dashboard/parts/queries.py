"""What several page families read: plain reads over the projection tables, by tenant and current generation.

The abuse desk sees its own provider's events and nothing else; every function here takes the `Viewer` for that reason.
Lists are read a page at a time by key (leaf index, finding id), never by offset, and never a query a row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Sum, Value, When

from auditlog.core.event import LAYERS
from auditlog.models import Charge, Role
from auditlog.projection.generation import generation_of
from auditlog.reads import sight
from auditlog.reads.access import Viewer
from auditlog.reads.sight import Sight

PAGE = 50
LAYER_NAMES = (*LAYERS, "other")
ROW = (
    "leaf_index", "event_id", "type", "source", "source_event_id", "occurred_at", "received_at", "outcome",
    "environment", "principal", "principal_claimed", "actor", "provider", "target", "verb", "amount_minor", "currency",
    "phase", "book", "grade", "via_grant", "chain_complete", "chain_proven", "chain_depth",
)  # fmt: skip
SEVERITIES = ("critical", "high", "medium", "low", "info")
RANK = Case(
    *(When(severity=name, then=Value(rank)) for rank, name in enumerate(reversed(SEVERITIES))),
    output_field=IntegerField(),
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, and the key to ask for the next one with; "" when this is the last."""

    rows: list
    next: str = ""


def is_desk(viewer: Viewer) -> bool:
    """Whether the viewer is a provider's abuse desk, which sees only that provider's events."""
    return viewer.role == Role.ABUSE


def stub(viewer: Viewer, key: str) -> str:
    """A party that the viewer may not see, under a name that is the same everywhere and tells nothing."""
    return Sight(bytes(viewer.tenant.pepper), frozenset()).text(key)


def seen_parties(viewer: Viewer, keys: Iterable[str]) -> frozenset[str]:
    """Those of `keys` that the viewer may see by name. One query for an abuse desk, none for others."""
    wanted = frozenset(keys) - {""}
    seen = Sight.of(viewer, wanted).seen if wanted else frozenset()
    return wanted if seen is None else seen


def conceal(viewer: Viewer, rows: list, columns: tuple[str, ...] = ("principal", "actor")) -> list:
    """The rows (dicts or models), parties outside the viewer's sight under their stubs."""
    if not is_desk(viewer):
        return rows
    read = (lambda row, name: row[name]) if rows and isinstance(rows[0], dict) else getattr
    write = (lambda row, name, value: row.__setitem__(name, value)) if rows and isinstance(rows[0], dict) else setattr
    sight = Sight.of(viewer, {read(row, name) for row in rows for name in columns})
    for row in rows:
        for name in columns:
            write(row, name, sight.text(read(row, name)))
    return rows


def guesses(viewer: Viewer, filters: Mapping[str, str]) -> bool:
    """Whether the viewer asks by a name that it may not see: a guess must not be confirmed by what is found."""
    keys = {filters[name] for name in ("principal", "actor") if filters.get(name)}
    return not keys <= seen_parties(viewer, keys)


def named_parties(viewer: Viewer) -> QuerySet:
    """Keys of the parties an abuse desk may see, as a subquery."""
    own = visible_events(viewer)
    return own.values("actor").union(own.values("claimed_principal"))


def visible_events(viewer: Viewer) -> QuerySet:
    return sight.visible_events(viewer).order_by()


def events_by_id(viewer: Viewer, ids: Iterable[UUID]) -> dict[UUID, dict]:
    rows = conceal(viewer, list(visible_events(viewer).filter(event_id__in=list(ids)).values(*ROW)))
    return {row["event_id"]: row for row in rows}


def visible_findings(viewer: Viewer) -> QuerySet:
    return sight.visible_findings(viewer).order_by()


def visible_charges(viewer: Viewer) -> QuerySet:
    charges = Charge.objects.filter(tenant=viewer.tenant, generation=generation_of(viewer.tenant))
    return charges.filter(provider=viewer.provider) if is_desk(viewer) else charges


def is_held(at: datetime) -> Q:
    """`core.exposure.is_open`, as the database asks it of all rows at once."""
    return Q(held_from__lte=at) & (Q(held_until=None) | Q(held_until__gt=at))


def spent_by(charges: QuerySet, *columns: str, now: datetime) -> list[dict]:
    """Spend and open authorizations by the given columns; always with the currency among them, largest first."""
    rows = (
        charges.values(*columns)
        .annotate(
            sum_spent=Sum("spent"),
            sum_most=Sum("at_most"),
            sum_returned=Sum("returned"),
            sum_held=Sum("held", filter=is_held(now)),
            count=Count("lead"),
        )
        .order_by()
    )
    found = [
        row
        | {
            "spent": row["sum_spent"],
            "at_most": row["sum_most"],
            "returned": row["sum_returned"],
            "held": row["sum_held"] or 0,
        }
        for row in rows
    ]
    return sorted(found, key=lambda row: (row["currency"], -row["spent"]))
