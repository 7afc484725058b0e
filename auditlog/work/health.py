"""Health: does the road work, and how far behind is it. Numbers come from PostgreSQL, so every process tells the same."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, connection
from django.db.utils import InterfaceError

from auditlog.custody import security
from auditlog.custody.verify_ledger import insert_only_faults
from auditlog.models import Finding, Heartbeat, PublisherState

WORKER_SILENT = timedelta(seconds=15)
LAG = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


def beat(name: str, *, now: datetime) -> None:
    """Say that this kind of process is at work."""
    Heartbeat.objects.update_or_create(name=name, defaults={"at": now})


def checks(*, now: datetime) -> list[Check]:
    """What serving needs: that deliveries are taken and pages told the truth. A backlog is no part of it: a load
    balancer that took a busy service away would only make it longer. A database that does not answer hides the rest.
    """
    try:
        found = [_ledger(), _configuration(), _signing()]
    except (DatabaseError, InterfaceError) as error:
        return [Check("database", False, type(error).__name__)]
    return [Check("database", True, "answers"), *found]


def work(*, now: datetime, broker_ok: bool) -> list[Check]:
    """What projecting and detecting need: a worker at work, a broker to wake it, and no backlog that has grown old."""
    try:
        found = [_worker(now), _lag(now), _security()]
    except (DatabaseError, InterfaceError) as error:
        return [Check("database", False, type(error).__name__), _broker(broker_ok)]
    return [_broker(broker_ok), *found]


def lags(*, now: datetime) -> list[dict[str, object]]:
    """How far behind each tenant is that is behind: leaves not projected, not looked at by detectors, and since when."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.name, h.size - s.position, h.size - s.detected, extract(epoch FROM %s - l.received_at)::float8"
            " FROM ledger_head h"
            " JOIN auditlog_tenant t ON t.id = h.tenant_id JOIN projection_state s ON s.tenant_id = h.tenant_id AND"
            " s.is_current"
            " JOIN ledger_leaf l ON l.tenant_id = h.tenant_id AND l.epoch = h.epoch AND l.leaf_index = s.detected"
            " WHERE h.size > s.detected ORDER BY 3 DESC, 1 LIMIT 100",
            [now],
        )
        return [
            {"tenant": name, "not_projected": unprojected, "not_detected": undetected, "oldest_s": round(age, 1)}
            for name, unprojected, undetected, age in cursor.fetchall()
        ]


def _broker(ok: bool) -> Check:
    return Check("broker", ok, "answers" if ok else "does not answer; beat and workers wait for it")


def _ledger() -> Check:
    faults = insert_only_faults()
    return Check("ledger", not faults, "; ".join(faults) or "insert-only for this role")


def _configuration() -> Check:
    """Whether what is configured is what the logs state, as the background check last found it."""
    rows = Finding.objects.filter(rule="integrity.configuration_changed", state__in=("open", "acknowledged"))
    found = list(rows.order_by("id").values_list("tenant__name", "title")[:5])
    return Check(
        "configuration", not found, "; ".join(f"{tenant}: {title}" for tenant, title in found) or "as the logs state it"
    )


def _security() -> Check:
    why = security.fault()
    return Check("security log", not why, f"an event could not be written: {why}" if why else "is written")


def _worker(now: datetime) -> Check:
    seen = Heartbeat.objects.filter(name="worker").values_list("at", flat=True).first()
    if seen is None:
        return Check("worker", False, "no worker was seen yet")
    age = now - seen
    return Check("worker", age < WORKER_SILENT, f"seen {age.total_seconds():.1f} s ago")


def _signing() -> Check:
    """Whether every log may be signed: a database that came back older than its signed head may not."""
    refused = (
        PublisherState.objects.filter(is_signing=False).values_list("tenant__name", "reason").order_by("tenant__name")
    )
    return Check("signing", not refused, "; ".join(f"{name}: {reason}" for name, reason in refused) or "every log")


def _lag(now: datetime) -> Check:
    """Age of the oldest leaf that is not projected, over all tenants."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(l.received_at), sum(h.size - s.position) FROM ledger_head h"
            " JOIN projection_state s ON s.tenant_id = h.tenant_id AND s.is_current"
            " JOIN ledger_leaf l ON l.tenant_id = h.tenant_id AND l.epoch = h.epoch AND l.leaf_index = s.position"
            " WHERE h.size > s.position"
        )
        oldest, behind = cursor.fetchone()
    if oldest is None:
        return Check("projection", True, "caught up")
    age = now - oldest
    return Check("projection", age < LAG, f"{behind} leaves behind, the oldest for {age.total_seconds():.1f} s")


def gauges(now: datetime) -> list[tuple[str, str, dict[str, str], float]]:
    """Metrics as (name, help, labels, value), for whoever scrapes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.name, h.size, h.size - s.position, s.position - s.detected, extract(epoch FROM %s - c.signed_at),"
            " greatest(0, extract(epoch FROM %s - l.received_at)),"
            " (SELECT count(*) FROM projection_dirty d WHERE d.tenant_id = t.id AND d.due_at <= %s)"
            " FROM auditlog_tenant t JOIN ledger_head h ON h.tenant_id = t.id"
            " JOIN projection_state s ON s.tenant_id = t.id AND s.is_current"
            " LEFT JOIN ledger_leaf l ON l.tenant_id = h.tenant_id AND l.epoch = h.epoch AND l.leaf_index = s.detected"
            " LEFT JOIN LATERAL (SELECT signed_at FROM ledger_checkpoint c WHERE c.tenant_id = t.id AND c.epoch ="
            " h.epoch"
            "   ORDER BY size DESC LIMIT 1) c ON true ORDER BY t.name",
            [now, now, now],
        )
        rows = cursor.fetchall()
        cursor.execute(
            "SELECT t.name, f.state, f.severity, count(*) FROM finding f JOIN auditlog_tenant t ON t.id = f.tenant_id"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        findings = cursor.fetchall()
        cursor.execute(
            "SELECT t.name, r.source, r.err, sum(r.count) FROM refusal_count r JOIN auditlog_tenant t ON t.id ="
            " r.tenant_id"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        refusals = cursor.fetchall()
        cursor.execute(
            "SELECT t.name, u.source, count(*) FROM projection_unparsed u JOIN auditlog_tenant t ON t.id = u.tenant_id"
            " JOIN projection_state s ON s.tenant_id = u.tenant_id AND s.generation = u.generation AND s.is_current"
            " GROUP BY 1, 2 ORDER BY 1, 2"
        )
        unparsed = cursor.fetchall()
    found = []
    for tenant, size, unprojected, undetected, age, late, waiting in rows:
        labels = {"tenant": tenant}
        found.append(("answerable_log_leaves", "Leaves in the log", labels, size))
        found.append(("answerable_projection_lag_leaves", "Leaves not projected yet", labels, unprojected))
        found.append(("answerable_detection_lag_leaves", "Leaves not looked at by detectors yet", labels, undetected))
        found.append(
            (
                "answerable_detection_lag_seconds",
                "Age of the oldest leaf not looked at by detectors yet",
                labels,
                float(late or 0),
            )
        )
        found.append(
            (
                "answerable_detection_waiting",
                "What detectors are asked to look at again, and have not yet",
                labels,
                waiting,
            )
        )
        if age is not None:
            found.append(("answerable_checkpoint_age_seconds", "Age of the last signed checkpoint", labels, float(age)))
    for tenant, state, severity, count in findings:
        found.append(("answerable_findings", "Findings by state and severity",
                      {"tenant": tenant, "state": state, "severity": severity}, count))  # fmt: skip
    for tenant, source, err, count in refusals:
        found.append(("answerable_refused_events", "Refused events by source and reason",
                      {"tenant": tenant, "source": source, "err": err}, int(count)))  # fmt: skip
    for tenant, source, count in unparsed:
        found.append(("answerable_unparsed_leaves", "Event leaves that no longer parse and are left out of every page",
                      {"tenant": tenant, "source": source}, count))  # fmt: skip
    return found
