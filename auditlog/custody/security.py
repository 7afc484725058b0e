"""The security log: who signed in or could not, was refused, took something out or changed how things are set up.

A log of its own for each tenant, with its own leaves, which the publisher signs and `verify_ledger` checks like any
other. What belongs to no tenant (an account that nobody has) is in the service's own. It says who, what, from where and
what came of it, and never a password, a token or a query: what was typed as a user name is kept only where an account
has it.

Writing it never fails what it tells of; what could not be written is told on stderr, counted, and makes `/workz` say
so.
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.db import connection, connections, transaction
from prometheus_client import Counter as Metric

from auditlog.core.errors import TooManyRequests
from auditlog.core.siem.security import KINDS, Noted, cef, ocsf
from auditlog.core.text import visible
from auditlog.database.acting import acting
from auditlog.export.stream import Page, Stream, check_cursor
from auditlog.ingest.receive import Strangers
from auditlog.ledger.append import EPOCH, append_note
from auditlog.models import SecurityLog, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.sources.configuration import SERVICE
from auditlog.sources.configure import add_tenant

log = structlog.get_logger()
UNWRITTEN = Metric("answerable_security_unwritten", "Security events that could not be written")
MOST = 300  # characters of each text
FLOOD = 20  # a second and address that are written one by one; the others are counted
_of_strangers = Strangers(FLOOD, most=10_000)
_left_out = {"count": 0}
_lock = threading.Lock()
_failed: dict[str, Any] = {"at": None, "why": ""}


def note(
    tenant: Tenant | None,
    kind: str,
    *,
    who: str,
    what: str = "",
    address: str = "",
    result: str = "",
    user_id: int | None = None,
    is_known: bool = True,
    now: datetime,
) -> None:
    """Write one event, durable once this returns, whatever becomes of the transaction that is open. Never raises.

    `is_known`: it is told of somebody who proved who they are. What strangers do is counted where it is too much.
    """
    assert kind in KINDS, kind
    body = {
        "security": kind,
        "who": _text(who),
        "what": _text(what),
        "address": _text(address),
        "result": _text(result),
    }
    if user_id is not None:
        body["account"] = user_id
    if not is_known:
        try:
            _of_strangers.look(address or "-")
        except TooManyRequests:
            with _lock:
                _left_out["count"] += 1
            return
        _of_strangers.charge(address or "-")
    with _lock:
        left_out, _left_out["count"] = _left_out["count"], 0
    if left_out:
        body["left_out"] = left_out  # of strangers, by this process, since it wrote last
    try:
        if connection.in_atomic_block:  # what is rolled back happened all the same
            _elsewhere(tenant, body, now)
        else:
            _write(tenant, body, now)
    except Exception as error:
        UNWRITTEN.inc()
        _failed.update(at=time.monotonic(), why=type(error).__name__)
        log.critical(
            "security event not written", error=type(error).__name__, tenant=tenant.name if tenant else SERVICE, **body
        )
    else:
        _failed.update(at=None, why="")


def by_command(tenant: Tenant | None, what: str, *, now: datetime) -> None:
    """That somebody at this machine changed how things are set up."""
    note(tenant, "configuration.changed", who=acting(), what=what, now=now)


def fault() -> str:
    """Why the last event could not be written; "" when it was."""
    return _failed["why"]


def _text(value: str) -> str:
    return visible(value.replace("\x00", ""))[:MOST].encode("utf-8", "replace").decode()


def _elsewhere(tenant: Tenant | None, body: dict[str, Any], now: datetime) -> None:
    failed: list[Exception] = []

    def write() -> None:
        try:
            _write(tenant, body, now)
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _write(tenant: Tenant | None, body: dict[str, Any], now: datetime) -> None:
    of = tenant if tenant is not None else Tenant.objects.get(name=SERVICE)
    append_note(_log_of(of, now=now), "security", body, now=now)


def _log_of(tenant: Tenant, *, now: datetime) -> Tenant:
    found = log_of(tenant)
    if found is not None:
        return found
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('answerable.security'), %s)", [tenant.pk])
        found = log_of(tenant)
        if found is None:
            name = f"{tenant.name[:36]}.security"
            if Tenant.objects.filter(name=name).exists():  # somebody has a tenant of that name
                name = f"{tenant.name[:20]}.security-{tenant.pk}"
            found = add_tenant(name, title=f"Security log of {tenant.name}", now=now)
            SecurityLog.objects.create(tenant=tenant, log=found)
    return found


def log_of(tenant: Tenant) -> Tenant | None:
    """The log that says what happened at this tenant's doors; None before anything did."""
    row = SecurityLog.objects.filter(tenant=tenant).select_related("log").first()
    return row.log if row is not None else None


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the log is looked for; empty: all of it."""

    kind: str = ""
    who: str = ""
    address: str = ""


def read(tenant: Tenant, asked: Asked, *, before: int | None, limit: int) -> tuple[list[Noted], bool]:
    """The newest first, and whether there are older ones."""
    own = log_of(tenant)
    if own is None:
        return [], False
    found = _rows(own, "DESC", before=before, limit=limit + 1, asked=asked)
    return found[:limit], len(found) > limit


_READ = """
    SELECT leaf_index, received_at, body FROM (
        SELECT l.leaf_index, l.received_at, convert_from(p.raw, 'UTF8')::jsonb AS body
        FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
        WHERE l.tenant_id = %(tenant)s AND l.epoch = %(epoch)s AND l.event_id IS NULL AND l.kind = %(kind)s
          AND (%(before)s::bigint IS NULL OR l.leaf_index < %(before)s) AND (%(after)s::bigint IS NULL OR l.leaf_index >= %(after)s)
    ) told
    WHERE (%(what)s = '' OR body->>'security' = %(what)s) AND (%(address)s = '' OR body->>'address' = %(address)s)
      AND (%(who)s = '' OR position(lower(%(who)s) IN lower(body->>'who')) > 0)
    ORDER BY leaf_index {order} LIMIT %(limit)s
"""


def _rows(
    own: Tenant, order: str, *, limit: int, before: int | None = None, after: int | None = None, asked: Asked = Asked()
) -> list[Noted]:
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(order=order), {
            "tenant": own.pk, "epoch": EPOCH, "kind": KIND_NUMBERS["security"], "before": before, "after": after, "limit": limit,
            "what": asked.kind, "who": asked.who.replace("\x00", ""), "address": asked.address.replace("\x00", ""),
        })  # fmt: skip
        rows = cursor.fetchall()
    return [_noted(index, at, json.loads(body) if isinstance(body, str) else body) for index, at, body in rows]


def _noted(index: int, at: datetime, body: dict[str, Any]) -> Noted:
    return Noted(
        index, at, body["security"], body.get("who", ""), body.get("what", ""), body.get("address", ""), body.get("result", ""),
        body.get("account"), body.get("left_out", 0),
    )  # fmt: skip


_ABOUT = """
    SELECT l.leaf_index, l.received_at, convert_from(p.raw, 'UTF8')::jsonb AS body
    FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = %s AND l.received_at <= %s
      AND position(%s::bytea IN p.raw) > 0
    ORDER BY l.leaf_index LIMIT %s
"""


def told_of(tenant: Tenant, text: str, *, until: datetime, limit: int) -> list[Noted]:
    """What was written down up to a time in which `text` stands, oldest first."""
    own = log_of(tenant)
    if own is None:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_ABOUT, [own.pk, EPOCH, KIND_NUMBERS["security"], until, text.encode(), limit])
        rows = cursor.fetchall()
    return [_noted(index, at, json.loads(body) if isinstance(body, str) else body) for index, at, body in rows]


# --- into a SIEM ----------------------------------------------------------------------------------------------------


def _page(tenant: Tenant, format: str, after: int, size: int) -> Page:
    check_cursor(after, _end(tenant))
    own = log_of(tenant)
    rows: Sequence[Noted] = _rows(own, "ASC", after=after, limit=size + 1) if own else []
    shown = rows[:size]
    write = cef if format == "cef" else ocsf
    return Page(
        [write(one, tenant=tenant.name) for one in shown],
        shown[-1].leaf_index + 1 if shown else after,
        len(rows) > size,
    )


def _end(tenant: Tenant) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(max(l.leaf_index) + 1, 0) FROM security_log s JOIN ledger_leaf l ON l.tenant_id ="
            " s.log_id AND l.epoch = %s"
            " AND l.event_id IS NULL AND l.kind = %s WHERE s.tenant_id = %s",
            [EPOCH, KIND_NUMBERS["security"], tenant.pk],
        )
        return cursor.fetchone()[0]


def _behind(tenant: Tenant, position: int) -> int:
    return max(0, _end(tenant) - position)


SECURITY = Stream(
    "security", "event,events", _page, _end, _behind,
    has_more="EXISTS (SELECT 1 FROM security_log g JOIN ledger_leaf l ON l.tenant_id = g.log_id"
    f" AND l.epoch = {EPOCH} AND l.event_id IS NULL"
    f" AND l.kind = {KIND_NUMBERS['security']} WHERE g.tenant_id = s.tenant_id AND l.leaf_index >= s.position)",
)  # fmt: skip
