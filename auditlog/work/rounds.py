"""Rounds: what the service asks of others and what it sends them, whenever it is due. Beat calls; what there is to do
is read from PostgreSQL.

Each source is asked, and each stream of an export sent, in a thread of its own: a host that is slow holds up neither
the worker, which has projections to make, nor the other hosts.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog
from django.db import DatabaseError, connection, connections

from auditlog import formats
from auditlog.alerts import send as alerts
from auditlog.alerts.notice import is_due as may_be_news
from auditlog.alerts.notice import notice
from auditlog.detection import tune
from auditlog.export.deliver import deliver, due_streams
from auditlog.ingest.fetch import fetch
from auditlog.ingest.poll import poll
from auditlog.models import ExportStream, Pull, Source
from auditlog.response.deliver import deliver as deliver_signals
from auditlog.response.deliver import due_receivers, put_off
from auditlog.response.policy import respond_to_findings
from auditlog.sources import outbound
from auditlog.sources.fetch_keys import fetch_keys
from auditlog.sources.pull import alone, failed, pull_of

log = structlog.get_logger()
AT_ONCE = 4  # of one process, of each: sources asked, streams sent
EXPORT, SIGNAL, ALERT, NOTICE = "export", "signal", "alert", "notice"
_running: set[tuple[int, str]] = set()
_lock = threading.Lock()
_FETCHING = [name for name in formats.NAMES if hasattr(formats.named(name), "fetch_request")]
_DUE = """
    SELECT s.id, k.kind FROM auditlog_source s CROSS JOIN (VALUES ('keys'), ('poll'), ('fetch')) k (kind)
    LEFT JOIN source_pull p ON p.tenant_id = s.tenant_id AND p.source_id = s.id AND p.kind = k.kind
    WHERE s.state = 'active' AND (p.due_at IS NULL OR p.due_at <= %(now)s) AND CASE k.kind
      WHEN 'keys' THEN s.jwks_url <> ''
      WHEN 'poll' THEN s.poll_url <> ''
      ELSE s.api_key_env <> '' AND s.format = ANY(%(fetching)s) AND (
        coalesce(p.position, 0) < (SELECT h.size FROM ledger_head h WHERE h.tenant_id = s.tenant_id AND h.epoch = 1)
        OR EXISTS (SELECT 1 FROM pending_fetch f WHERE f.tenant_id = s.tenant_id AND f.source_id = s.id AND f.state = 'due'
          AND f.due_at <= %(now)s)) END
    ORDER BY p.due_at NULLS FIRST, s.id
"""


def due(*, now: datetime) -> list[tuple[int, str]]:
    """Sources and what to ask of them, longest due first."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"now": now, "fetching": _FETCHING})
        return cursor.fetchall()


def ask(source_id: int, kind: str, *, now: Callable[[], datetime], call: outbound.Call = outbound.call) -> bool:
    """One of them. Returns whether there may be new leaves. Nothing happens when somebody else is at it, or just was."""
    source = Source.objects.select_related("tenant").get(pk=source_id)
    if kind == Pull.Kind.POLL:
        return poll(source, now=now, call=call) > 0
    if kind == Pull.Kind.FETCH:
        return fetch(source, now=now, call=call) > 0
    with alone(source, kind) as mine:
        pull = pull_of(source, kind)
        return mine and (pull.due_at is None or pull.due_at <= now()) and fetch_keys(source, now=now(), call=call)


def start_due(*, now: Callable[[], datetime], done: Callable[[str], None]) -> list[threading.Thread]:
    """Start what is due and not under way in this process. `done` is told the tenant when there may be new leaves."""
    streams = [(stream_id, EXPORT) for stream_id in due_streams(now=now())]
    return [
        *start_signals(now=now),
        *start_alerts(now=now),
        *_start(due(now=now()), now, done),
        *_start(streams, now, done),
    ]


def start_signals(*, now: Callable[[], datetime]) -> list[threading.Thread]:
    """Do what response policies say of new findings, and start sending what receivers are owed."""
    respond_to_findings(now=now)
    return _start([(receiver_id, SIGNAL) for receiver_id in due_receivers(now=now())], now, lambda _: None)


def start_alerts(*, now: Callable[[], datetime]) -> list[threading.Thread]:
    """Look at incidents that may be news, and start sending what channels are owed."""
    jobs = [(0, NOTICE)] if may_be_news(now=now()) else []
    return _start([*jobs, *((channel_id, ALERT) for channel_id in alerts.due_channels(now=now()))], now, lambda _: None)


BACKTEST = "backtest"


def start_backtest(*, now: Callable[[], datetime]) -> list[threading.Thread]:
    """Run the back-test that waits longest, in a thread of its own."""
    waiting = tune.waiting()
    return _start([(waiting, BACKTEST)], now, lambda _: None) if waiting is not None else []


def _start(
    jobs: list[tuple[int, str]], now: Callable[[], datetime], done: Callable[[str], None]
) -> list[threading.Thread]:
    started = []
    for one in jobs:
        with _lock:
            alike = sum(_room(kind) == _room(one[1]) for _, kind in _running)
            if alike >= AT_ONCE:
                break
            if one in _running:
                continue
            _running.add(one)
        thread = threading.Thread(target=_run, args=(*one, now, done), daemon=True)
        thread.start()
        started.append(thread)
    return started


def _room(kind: str) -> str:
    """What shares its threads: signals never wait for an export that hangs."""
    return kind if kind in (EXPORT, SIGNAL, BACKTEST, ALERT, NOTICE) else ""


def _run(row_id: int, kind: str, now: Callable[[], datetime], done: Callable[[str], None]) -> None:
    try:
        if kind == BACKTEST:
            tune.run(row_id, now=now)
        elif kind == EXPORT:
            deliver(row_id, now=now)
        elif kind == SIGNAL:
            deliver_signals(row_id, now=now)
        elif kind == ALERT:
            alerts.send(row_id, now=now)
        elif kind == NOTICE:
            while notice(now=now()):
                pass
        elif ask(row_id, kind, now=now):
            done(Source.objects.select_related("tenant").get(pk=row_id).tenant.name)
    except Exception as error:
        what = {EXPORT: "not sent", ALERT: "not sent", BACKTEST: "not tried", NOTICE: "not looked for news"}.get(
            kind, "source not asked"
        )
        log.exception(what, row=row_id, kind=kind)
        with suppress(DatabaseError):  # or it would be due again at once, for ever
            if kind == BACKTEST:
                tune.failed(row_id, now=now())
                return
            if kind == NOTICE:
                return  # what it took is as it was, and comes again in the next round
            fault = f"a fault of ours, which is in our log: {type(error).__name__}"
            if kind == SIGNAL:
                put_off(row_id, fault, now=now())
                return
            if kind == ALERT:
                alerts.put_off(row_id, fault, now=now())
                return
            row = (
                ExportStream.objects.get(pk=row_id) if kind == EXPORT else pull_of(Source.objects.get(pk=row_id), kind)
            )
            failed(row, fault, now=now())
    finally:
        connections.close_all()  # of this thread
        with _lock:
            _running.discard((row_id, kind))
