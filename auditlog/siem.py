"""SIEM: a tenant's events and findings as lines, from a cursor on, in an order that stays. Read by the webhook, the API
and the command alike; whoever goes on from the cursor it was given misses nothing.

A cursor of events is the number of leaves that were gone through: only what is projected is given, and its chain as it
is known then. A cursor of findings is the number of the last change that was given: a finding that changes comes again,
as it stands, under the same `finding_info.uid`. What changes several times between two looks comes once.
"""

from dataclasses import dataclass
from functools import lru_cache

from django.db import connection, transaction

from auditlog.append import EPOCH
from auditlog.core import finding as core
from auditlog.core.cef import event_line, finding_line
from auditlog.core.errors import NotPossible
from auditlog.core.ocsf_out import event_object, finding_object, line
from auditlog.core.request import Request
from auditlog.detectors import every_detector
from auditlog.models import ExportStream, Finding, FindingChanges, ProjectionState, Tenant
from auditlog.queries import chains_of, select_acts

FORMATS = ("ocsf", "cef")
STREAMS = ("events", "findings")


@dataclass(frozen=True, slots=True)
class Page:
    lines: list[bytes]
    next: int  # the cursor to go on from
    more: bool  # there is more already


def read_page(tenant: Tenant, what: str, *, format: str = "ocsf", after: int = 0, size: int) -> Page:
    """Up to `size` lines that come after a cursor. Raises NotPossible for a cursor that was never given out."""
    return (_events if what == "events" else _findings)(tenant, format, after, size)


def _events(tenant: Tenant, format: str, after: int, size: int) -> Page:
    end = _projected(tenant)
    _check(after, end)
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
            "SELECT leaf_index, source_event_id FROM ledger_payload WHERE tenant_id = %s AND epoch = %s AND leaf_index = ANY(%s)",
            [tenant.pk, EPOCH, leaves],
        )
        return dict(cursor.fetchall())


def _findings(tenant: Tenant, format: str, after: int, size: int) -> Page:
    _check(after, number_changes(tenant))
    rows = list(Finding.objects.filter(tenant=tenant, change__gt=after).order_by("change")[: size + 1])
    shown, comments = rows[:size], _last_reasons(tenant, [row.pk for row in rows[:size]])
    lines = []
    for row in shown:
        kept = _kept(row, comments.get(row.pk, ""))
        if format == "cef":
            lines.append(finding_line(kept, tenant=tenant.name))
        else:
            lines.append(line(finding_object(kept, tenant=tenant.name, runbook=_runbooks().get(row.rule, ""))))
    return Page(lines, shown[-1].change if shown else after, len(rows) > size)


@transaction.atomic
def number_changes(tenant: Tenant) -> int:
    """Give every change of a finding that has none its number, in the order in which they are seen here. Returns the last.

    Only what is committed is seen, and only one at a time gives numbers: none is ever given behind a reader's back.
    """
    FindingChanges.objects.get_or_create(tenant=tenant)
    counter = FindingChanges.objects.select_for_update().get(tenant=tenant)
    with connection.cursor() as cursor:
        # A finding that somebody is changing right now is left for the next look.
        cursor.execute(
            "WITH changed AS (SELECT id FROM finding WHERE tenant_id = %(tenant)s AND change IS NULL ORDER BY id FOR UPDATE SKIP LOCKED),"
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
            "SELECT DISTINCT ON (t.finding_id) t.finding_id, t.reason FROM finding_triage t JOIN finding f ON f.id = t.finding_id"
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


@lru_cache(maxsize=1)
def _runbooks() -> dict[str, str]:
    return {detector.rule: detector.runbook for detector in every_detector()}


def _check(after: int, last: int) -> None:
    if not 0 <= after <= last:
        raise NotPossible(f"expected a cursor that was given out here, at most {last}, found {after}: was an older copy restored?")


def behind(tenant: Tenant, what: str, position: int) -> int:
    """How much a reader at this cursor has not been given: leaves, or changed findings."""
    if what == "findings":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM finding WHERE tenant_id = %s AND (change IS NULL OR change > %s)", [tenant.pk, position])
            return cursor.fetchone()[0]
    return max(0, _projected(tenant) - position)


def end_of(tenant: Tenant, what: str) -> int:
    """The cursor of a reader that was given all there is."""
    return number_changes(tenant) if what == "findings" else _projected(tenant)


def _projected(tenant: Tenant) -> int:
    return ProjectionState.objects.values_list("position", flat=True).get(tenant=tenant, is_current=True)


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One stream of an export, for the page."""

    name: str
    kind: str
    host: str
    state: str
    stream: ExportStream
    behind: int


def exports_of(tenant: Tenant) -> list[StreamHealth]:
    streams = ExportStream.objects.filter(tenant=tenant).select_related("export").order_by("export__name", "what")
    return [
        StreamHealth(s.export.name, s.export.kind, Request(s.export.url).host, s.export.state, s, behind(tenant, s.what, s.position))
        for s in streams
    ]
