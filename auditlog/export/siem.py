"""SIEM: a tenant's events and findings as lines, from a cursor on, in an order that stays. Read by the webhook, the API
and the command alike; whoever goes on from the cursor it was given misses nothing. What else there is to tell comes
from the packages that stand on this one, by the names that the settings give (`SIEM_STREAMS`; see stream.py).

A cursor of events is the number of leaves that were gone through: only what is projected is given, and its chain as it
is known then. A cursor of findings is the number of the last change that was given: a finding that changes comes again,
as it stands, under the same `finding_info.uid`. What changes several times between two looks comes once.
"""

from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.db import connection, transaction
from django.utils.module_loading import import_string

from auditlog.core import finding as core
from auditlog.core.siem.cef import event_line, finding_line
from auditlog.core.siem.ocsf_out import event_object, finding_object, line
from auditlog.core.wire.request import Request
from auditlog.detectors import runbook_of
from auditlog.export.stream import Page, Stream, check_cursor
from auditlog.ledger.append import EPOCH
from auditlog.models import ExportStream, Finding, FindingChanges, ProjectionState, Tenant
from auditlog.reads.acts import select_acts
from auditlog.reads.chains import chains_of

FORMATS = ("ocsf", "cef")
STREAMS = tuple(ExportStream.What.values)


@lru_cache(maxsize=1)
def streams() -> dict[str, Stream]:
    """Every stream by its name: ours, and those that the settings name."""
    found = {stream.name: stream for stream in (EVENTS, FINDINGS, *map(import_string, settings.SIEM_STREAMS))}
    assert found.keys() == set(STREAMS), f"expected streams {STREAMS}, found {tuple(found)}"
    return found


def read_page(tenant: Tenant, what: str, *, format: str = "ocsf", after: int = 0, size: int) -> Page:
    """Up to `size` lines that come after a cursor. Raises NotPossible for a cursor that was never given out."""
    return streams()[what].read(tenant, format, after, size)


def _events(tenant: Tenant, format: str, after: int, size: int) -> Page:
    end = _projected(tenant)
    check_cursor(after, end)
    acts = select_acts(tenant, "leaf_index >= %s AND leaf_index < %s", [after, end], limit=size + 1)
    shown, more = acts[:size], len(acts) > size
    chains, given = chains_of(tenant, shown), _given_ids(tenant, [act.leaf_index for act in shown])
    lines = []
    for act in shown:
        said = {"tenant": tenant.name, "original_uid": given.get(act.leaf_index, "")}
        chain = chains[act.event_id]
        lines.append(event_line(act, chain, **said) if format == "cef" else line(event_object(act, chain, **said)))
    return Page(lines, shown[-1].leaf_index + 1 if more else max(after, end), more)


def _given_ids(tenant: Tenant, leaves: list[int]) -> dict[int, str]:
    """By leaf index: the id that its source gave an event; none when it was erased."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT leaf_index, source_event_id FROM ledger_payload WHERE tenant_id = %s AND epoch = %s AND leaf_index"
            " = ANY(%s)",
            [tenant.pk, EPOCH, leaves],
        )
        return dict(cursor.fetchall())


def _findings(tenant: Tenant, format: str, after: int, size: int) -> Page:
    check_cursor(after, number_changes(tenant))
    rows = list(Finding.objects.filter(tenant=tenant, change__gt=after).order_by("change")[: size + 1])
    shown, comments = rows[:size], _last_reasons(tenant, [row.pk for row in rows[:size]])
    lines = []
    for row in shown:
        kept = _kept(row, comments.get(row.pk, ""))
        if format == "cef":
            lines.append(finding_line(kept, tenant=tenant.name))
        else:
            lines.append(line(finding_object(kept, tenant=tenant.name, runbook=runbook_of(kept.finding, None))))
    return Page(lines, shown[-1].change if shown else after, len(rows) > size)


@transaction.atomic
def number_changes(tenant: Tenant) -> int:
    """Give every change of a finding that has none its number, in the order in which they are seen here. Returns the
    last.

    Only what is committed is seen, and only one at a time gives numbers: none is ever given behind a reader's back.
    """
    FindingChanges.objects.get_or_create(tenant=tenant)
    counter = FindingChanges.objects.select_for_update().get(tenant=tenant)
    with connection.cursor() as cursor:
        # A finding that somebody is changing right now is left for the next look.
        cursor.execute(
            "WITH changed AS (SELECT id FROM finding WHERE tenant_id = %(tenant)s AND change IS NULL ORDER BY id FOR"
            " UPDATE SKIP LOCKED),"
            " numbered AS (SELECT id, %(last)s + row_number() OVER (ORDER BY id) AS number FROM changed)"
            " UPDATE finding f SET change = n.number, first_change = coalesce(f.first_change, n.number)"
            " FROM numbered n WHERE f.id = n.id AND f.tenant_id = %(tenant)s",
            {"tenant": tenant.pk, "last": counter.last},
        )
        if cursor.rowcount:
            counter.last += cursor.rowcount
            counter.save(update_fields=["last"])
    return counter.last


def _last_reasons(tenant: Tenant, findings: list[int]) -> dict[int, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (t.finding_id) t.finding_id, t.reason FROM finding_triage t JOIN finding f ON f.id ="
            " t.finding_id"
            " WHERE f.tenant_id = %s AND t.finding_id = ANY(%s) ORDER BY t.finding_id, t.id DESC",
            [tenant.pk, findings],
        )
        return dict(cursor.fetchall())


def _kept(row: Finding, comment: str) -> core.Kept:
    finding = core.Finding(
        row.rule, row.anchor, row.severity, row.title, tuple(map(str, row.event_ids)), tuple(row.leaves), row.first_at, row.last_at,
        row.principal or None, row.actor or None, row.grant or None, row.provider or None, row.money_at_risk_minor,
        row.currency or None, row.evidence,
    )  # fmt: skip
    return core.Kept(
        row.pk, finding, row.rule_version, row.state, row.detected_at, row.withdrawn_by_leaf, row.change,
        row.change == row.first_change, comment,
    )  # fmt: skip


def behind(tenant: Tenant, what: str, position: int) -> int:
    """How much a reader at this cursor has not been given, in the stream's unit."""
    return streams()[what].behind(tenant, position)


def end_of(tenant: Tenant, what: str) -> int:
    """The cursor of a reader that was given all there is."""
    return streams()[what].end(tenant)


def _events_behind(tenant: Tenant, position: int) -> int:
    return max(0, _projected(tenant) - position)


def _findings_behind(tenant: Tenant, position: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM finding WHERE tenant_id = %s AND (change IS NULL OR change > %s)",
            [tenant.pk, position],
        )
        return cursor.fetchone()[0]


def _projected(tenant: Tenant) -> int:
    return ProjectionState.objects.values_list("position", flat=True).get(tenant=tenant, is_current=True)


EVENTS = Stream(
    "events", "leaf,leaves", _events, _projected, _events_behind,
    has_more="s.position < (SELECT p.position FROM projection_state p WHERE p.tenant_id = s.tenant_id AND p.is_current)",
)  # fmt: skip
FINDINGS = Stream(
    "findings", "change,changes", _findings, number_changes, _findings_behind,
    has_more="EXISTS (SELECT 1 FROM finding f WHERE f.tenant_id = s.tenant_id AND (f.change IS NULL OR f.change > s.position))",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One stream of an export, for the page."""

    name: str
    kind: str
    host: str
    state: str
    stream: ExportStream
    behind: int
    unit: str  # of `behind`: one, several


def exports_of(tenant: Tenant) -> list[StreamHealth]:
    rows = ExportStream.objects.filter(tenant=tenant).select_related("export").order_by("export__name", "what")
    return [
        StreamHealth(s.export.name, s.export.kind, Request(s.export.url).host, s.export.state, s, behind(tenant, s.what, s.position),
                     streams()[s.what].unit)
        for s in rows
    ]  # fmt: skip
