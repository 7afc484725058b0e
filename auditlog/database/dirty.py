"""What detection is asked to look at again: asked for once, however often, and never lost to a round that is under way."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from django.db import connection

from auditlog.database.bulk import copy_rows

AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)  # due by every clock, however it was set


_only_looking: ContextVar[list[str] | None] = ContextVar("only_looking", default=None)


@contextmanager
def only_looking() -> Iterator[list[str]]:
    """For who judges without keeping anything (a back-test): nothing is asked to be looked at again. Gives the keys that were."""
    put_off: list[str] = []
    token = _only_looking.set(put_off)
    try:
        yield put_off
    finally:
        _only_looking.reset(token)


def look_again(tenant_id: int, kind: str, key: str, *, due_at: datetime = AT_ONCE) -> None:
    """Have this key looked at, at once or at `due_at`; one row is enough for all who ask before it is taken.

    Call it after what there is to see was written. A round that is under way has perhaps read before that, and its row
    is still there for everybody else until it commits: that row is locked, so it is passed over here, and a new one is
    written for the next round. A row that is not taken stays where it is until we commit, so whoever takes it sees what
    we wrote.
    """
    if (put_off := _only_looking.get()) is not None:
        put_off.append(key)
        return
    with connection.cursor() as cursor:
        cursor.execute(_ASK, {"tenant": tenant_id, "kind": kind, "key": key, "due_at": due_at})


_ASK = """
    WITH waiting AS (
        SELECT 1 FROM projection_dirty WHERE tenant_id = %(tenant)s AND kind = %(kind)s AND key = %(key)s AND due_at <= %(due_at)s
        LIMIT 1 FOR KEY SHARE SKIP LOCKED
    )
    INSERT INTO projection_dirty (tenant_id, kind, key, leaf_index, due_at)
    SELECT %(tenant)s, %(kind)s, %(key)s, -1, %(due_at)s WHERE NOT EXISTS (SELECT 1 FROM waiting)
"""


def look_at_leaves(tenant_id: int, kind: str, leaves: Iterable[tuple[int, datetime]]) -> None:
    """Have these leaves looked at, each when it is due. By the row: whoever asks holds the round, and asks once."""
    rows = [(tenant_id, kind, str(leaf), leaf, due_at) for leaf, due_at in leaves]
    if (put_off := _only_looking.get()) is not None:
        put_off += [key for _, _, key, _, _ in rows]
    elif rows:
        copy_rows("projection_dirty", _TYPES, rows)


_TYPES = {"tenant_id": "int8", "kind": "varchar", "key": "text", "leaf_index": "int8", "due_at": "timestamptz"}
