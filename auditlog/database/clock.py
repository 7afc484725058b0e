"""The clock of the service: the database's, so that whatever is due is due by one clock, whichever host asks.

Between two looks at it the process's monotonic clock carries it on, which nobody sets. A clock that is set back makes
what was planned lie hours ahead: `follow` moves that by as much. Order never comes from a clock, but from positions.
"""

import threading
import time
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, InterfaceError, connection, transaction

AGAIN = 1.0  # seconds until the database is asked again
STEP = timedelta(seconds=5)  # a clock that is this far behind what it was has been set back
_lock = threading.Lock()
_asked: tuple[datetime, float] | None = None  # what the database said, and when by the monotonic clock
# What is planned, by table. Columns that only tell people when something was are left as they were told.
PLANNED = (
    ("projection_dirty", "due_at", ""),
    ("source_pull", "due_at", ""),
    ("source_pull", "asked_at", ""),
    ("source_pull", "succeeded_at", ""),  # a reading that began before it is out of date (fetch_keys.py)
    ("export_stream", "due_at", ""),
    ("pending_fetch", "due_at", "AND state = 'due'"),
    ("response_signal", "due_at", "AND state IN ('waiting', 'failed')"),
    ("alert", "due_at", "AND state IN ('waiting', 'failed', 'held')"),
    ("alert_look", "due_at", ""),
)


def now() -> datetime:
    """The database's time. Without a database, as it was last known; never known, this host's."""
    global _asked
    with _lock:
        asked = _asked
    if asked is None or time.monotonic() - asked[1] > AGAIN:
        try:
            asked = (_of_database(), time.monotonic())
        except (DatabaseError, InterfaceError):
            if asked is None:
                return datetime.now(UTC)
        else:
            with _lock:
                _asked = asked
    return asked[0] + timedelta(seconds=time.monotonic() - asked[1])


def _of_database() -> datetime:
    if connection.in_atomic_block and connection.needs_rollback:
        raise InterfaceError("the transaction is broken")
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


@transaction.atomic
def follow(*, at: datetime) -> timedelta:
    """Note the time, and where it has gone back since it was last noted, move what is planned back by as much.

    Returns by how much. Whoever comes first after a step moves all of it; others find it done.
    """
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO auditlog_heartbeat (name, at) VALUES ('clock', %s) ON CONFLICT DO NOTHING", [at])
        cursor.execute("SELECT at FROM auditlog_heartbeat WHERE name = 'clock' FOR UPDATE")
        [last] = cursor.fetchone()
        back = last - at
        if back > STEP:
            for table, column, more in PLANNED:
                cursor.execute(f"UPDATE {table} SET {column} = {column} - %s WHERE {column} > %s {more}", [back, at])
        if back > STEP or back < timedelta():
            cursor.execute("UPDATE auditlog_heartbeat SET at = %s WHERE name = 'clock'", [at])
    return back if back > STEP else timedelta()


@transaction.atomic
def its_night(name: str, *, hour: int, minute: int, at: datetime) -> bool:
    """Whether a nightly task is due, and then it counts as begun: once a day of the database's clock, over all
    processes.

    Kept in a row, so that a night in which nothing ran is caught up on.
    """
    night = at.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if night > at:
        night -= timedelta(days=1)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO auditlog_heartbeat (name, at) VALUES (%s, %s) ON CONFLICT DO NOTHING", [name, at])
        if cursor.rowcount:
            return False  # of a service that begins there is nothing to catch up on
        cursor.execute(
            "UPDATE auditlog_heartbeat SET at = %s WHERE name = %s AND (at < %s OR at > %s)",
            [at, name, night, at + timedelta(days=1)],
        )
        return cursor.rowcount == 1
