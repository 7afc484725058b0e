"""Configuration: the rows that judgements rest on, held against the leaves that state them.

Every change of a source, key, organisation, role, token, policy, witness, export or account is stated by a leaf, with
the whole row as it then is and who changed it (`sql/configuration.sql` sees to it, on every path). So the log says what
the tables must hold. A row that differs was changed by somebody who took that away from the database: it is refused
where it is loaded, found (`integrity.configuration_changed`), and /readyz says so.

What is configured binds once a published checkpoint covers its leaf: until then it can still be taken back without
anybody outside having seen it. A source, an organisation or a rule that was changed goes on as its last covered leaf
says; a right, a key or a receiver that is new waits. What takes something away (a retired key, a suspension, a role that
was taken) holds at once.
"""

import json
import threading
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, models

from auditlog.core.errors import ConfigurationDiffers, NotInForce
from auditlog.database import configured, published
from auditlog.database.acting import acting
from auditlog.database.dirty import look_again
from auditlog.ledger.append import EPOCH, append_note
from auditlog.models import (
    AlertChannel,
    ApiToken,
    Export,
    Membership,
    Organisation,
    Receiver,
    ResponsePolicy,
    RetentionPolicy,
    Source,
    SourceKey,
    Tenant,
    Witness,
)
from auditlog.models.ledger import KIND_NUMBERS

SERVICE = "answerable"  # the tenant whose log states the accounts
FRESH = 1.0  # seconds that what was read may be used again where it is asked for with every request
OF: dict[type[models.Model], str] = {
    Tenant: "tenant", Source: "source", SourceKey: "key", Organisation: "organisation", Membership: "membership",
    ApiToken: "token", RetentionPolicy: "policy", Witness: "witness", Export: "export",
    Receiver: "receiver", ResponsePolicy: "response policy", AlertChannel: "alert channel",
}  # fmt: skip
ACCOUNTS = ("user", "user permission", "user group", "group permission")  # of the whole service, stated in its own log
Row = tuple[str, int]  # kind and id


@dataclass(frozen=True, slots=True)
class Stated:
    """What the last leaf about a row says it is; `row` is None where it says that it was removed."""

    leaf_index: int
    row: Mapping[str, Any] | None
    by: str
    at: datetime
    change: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what its last leaf says."""

    kind: str
    id: int
    name: str
    leaf_index: int | None  # of its last leaf; None where no leaf states it
    fields: tuple[str, ...]  # that differ; none where one of both is missing

    def words(self) -> str:
        what = f"{self.kind} {self.name!r}"
        if self.leaf_index is None:
            return f"{what} is configured, and no leaf states it"
        if not self.fields:
            return f"{what} was removed, or put back, without a leaf: leaf {self.leaf_index} says otherwise"
        return f"{what} is not what leaf {self.leaf_index} states: {', '.join(self.fields)} differ"


@dataclass(slots=True)
class _Log:
    """What one log states, folded as far as `position`; and what was found at `read_at`, by the monotonic clock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    position: int = 0
    mark: bytes = b""  # the commitment of the last leaf before `position`
    stated: dict[Row, Stated] = field(default_factory=dict)
    earlier: dict[Row, list[Stated]] = field(default_factory=dict)  # oldest first: from the last that is covered on
    differences: dict[Row, Difference] = field(default_factory=dict)
    covered: int = 0  # leaves that a published checkpoint covers
    read_at: float = -10.0
    change: int = 0  # of this process, before which it was read

    def copy(self) -> "_Log":
        earlier = {row: list(versions) for row, versions in self.earlier.items()}
        return _Log(position=self.position, mark=self.mark, stated=dict(self.stated), earlier=earlier)

    def binding(self, row: Row) -> Stated | None:
        """What the last leaf about a row that a checkpoint covers says; None where none is covered."""
        said = self.stated.get(row)
        if said is not None and said.leaf_index < self.covered:
            return said
        return next((one for one in reversed(self.earlier.get(row, ())) if one.leaf_index < self.covered), None)


_logs: dict[tuple, _Log] = {}


def state_of(kind: str, id: int, tenant_id: int | None) -> dict[str, Any] | None:
    """A row as its leaf states it; None when it is not there. `tenant_id` None: of accounts."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT r."row" FROM configuration_rows(%s, %s, %s) r', [tenant_id, kind, id])
        found = cursor.fetchone()
    return None if found is None else json.loads(found[0]) if isinstance(found[0], str) else found[0]


def state(
    tenant: Tenant,
    row: models.Model,
    body: Mapping[str, Any],
    *,
    now: datetime,
    kind: str = "config",
    id: int | None = None,
) -> int:
    """Append the leaf that states a change of `row`, after it was saved or (with its `id`) deleted. Returns its index."""
    of = OF[type(row)]
    row_id = id or row.pk
    if of == "organisation":  # who answers for whom, and which names are whose: all that was judged is judged by it
        look_again(tenant.pk, "all", "-1")
    said = {"by": acting(), **body, "of": of, "id": row_id, "row": state_of(of, row_id, tenant.pk)}
    return append_note(tenant, kind, said, now=now)


def read_anew() -> None:
    """Use nothing more of what this process has read of configuration: it is about to judge by what binds now."""
    configured.note_change()


def differences(tenant: Tenant | None, *, fresh: bool = True) -> dict[Row, Difference]:
    """Rows of a tenant (None: accounts) that differ from their leaves. `fresh` False: as it was at most a second ago."""
    return _read(tenant, fresh=fresh).differences


def stated(tenant: Tenant | None, *, fresh: bool = True) -> dict[Row, Stated]:
    """The last leaf about each row."""
    return _read(tenant, fresh=fresh).stated


def refuse_if_differs(tenant: Tenant | None, *rows: Row, fresh: bool = False) -> None:
    """Raises ConfigurationDiffers where one of these rows is not what its leaf says."""
    log = _read(tenant, fresh=fresh)
    if any(row not in log.stated for row in rows):  # new since it was read, or never stated
        log = _read(tenant, fresh=True)
    for row in rows:
        if row in log.differences:
            raise ConfigurationDiffers(log.differences[row].words())


def refuse_if_judgement_differs(tenant: Tenant) -> None:
    """Raises ConfigurationDiffers where a row differs that says who may speak for whom, or who answers for whom."""
    for difference in differences(tenant, fresh=False).values():
        if difference.kind in ("tenant", "source", "key", "organisation"):
            raise ConfigurationDiffers(difference.words())


def binds(tenant: Tenant | None, row: Row, *, fresh: bool = False) -> int | None:
    """None when what the row's last leaf says is in force; else that leaf's index, which no published checkpoint
    covers.
    """
    log = _read(tenant, fresh=fresh)
    said = log.stated.get(row)
    if said is not None and said.leaf_index >= log.covered:
        log = _read(tenant, fresh=True)  # perhaps by now
        said = log.stated.get(row)
    return said.leaf_index if said is not None and said.leaf_index >= log.covered else None


def refuse_unless_in_force(tenant: Tenant, row: Row) -> None:
    """Raises ConfigurationDiffers where this row is not what its leaf says, NotInForce where that binds nobody yet."""
    refuse_if_differs(tenant, row)
    if (leaf := binds(tenant, row)) is not None:
        raise NotInForce(f"leaf {leaf} states it, and the next published checkpoint has to cover that")


def in_force(tenant: Tenant, kind: str, *, fresh: bool = False) -> dict[int, Mapping[str, Any]]:
    """The rows of a kind that bind, by id, as their last covered leaf says; whatever the table says meanwhile."""
    log = _read(tenant, fresh=fresh)
    if not fresh and any(row[0] == kind and said.leaf_index >= log.covered for row, said in list(log.stated.items())):
        log = _read(tenant, fresh=True)  # perhaps by now
    found = {row[1]: log.binding(row) for row in list(log.stated) if row[0] == kind}
    return {id: said.row for id, said in found.items() if said is not None and said.row is not None}


def source_in_force(source: Source, *, fresh: bool = False) -> tuple[Source | None, int | None]:
    """The source as it binds, None where it does not yet; and the leaf that waits to be covered, None where none does.

    Suspended it is at once.
    """
    log, row = _read(source.tenant, fresh=fresh), ("source", source.pk)
    if row not in log.stated or log.stated[row].leaf_index >= log.covered:
        log = _read(source.tenant, fresh=True)
    said, newest = log.binding(row), log.stated.get(row)
    waits = newest.leaf_index if newest is not None and newest.leaf_index >= log.covered else None
    if said is None or said.row is None:
        return None, waits
    return _as_stated(source, said.row) if waits is not None else source, waits


def _as_stated(source: Source, row: Mapping[str, Any]) -> Source:
    """A source as a leaf states it; what was suspended meanwhile is suspended."""
    stated = copy(source)
    for column in Source._meta.concrete_fields:
        if column.column in row:
            setattr(stated, column.attname, row[column.column])
    if source.state != Source.State.ACTIVE:
        stated.state = source.state
    return stated


def sources_in_force(tenant: Tenant) -> dict[int, Source]:
    """Every source of a tenant as it binds, by id. One that no covered leaf states, and of which there are leaves
    nevertheless, is as it was configured.
    """
    binding = in_force(tenant, "source")
    sources = Source.objects.select_related("tenant").filter(tenant=tenant)
    return {source.pk: _as_stated(source, binding[source.pk]) if source.pk in binding else source for source in sources}


def await_in_force(tenant: Tenant, *kinds: str, patience: float) -> bool:
    """Wait until a published checkpoint covers what these kinds of rows say, for so many seconds at most. Returns
    whether one does.
    """
    ends = time.monotonic() + patience
    while True:
        log = _read(tenant, fresh=True)
        if all(said.leaf_index < log.covered for row, said in list(log.stated.items()) if row[0] in kinds):
            return True
        if time.monotonic() >= ends:
            return False
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Change:
    """One leaf about configuration, for people."""

    leaf_index: int
    at: datetime
    change: str
    about: str
    by: str
    in_force: bool  # a published checkpoint covers it


def changes(tenant: Tenant, *, limit: int = 200) -> list[Change]:
    """The newest changes of a tenant's configuration, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.received_at, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id,"
            " epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = ANY(%s) ORDER BY"
            " l.leaf_index DESC LIMIT %s",
            [tenant.pk, EPOCH, _KINDS, limit],
        )
        rows, end = cursor.fetchall(), published.covered(tenant.pk)
    return [_change(index, at, bytes(raw), index < end) for index, at, raw in rows]


def unseen_changes(tenant: Tenant, user_id: int) -> int:
    """How many changes of configuration an admin has not looked at."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM ledger_leaf l JOIN auditlog_membership m ON m.tenant_id = l.tenant_id AND m.user_id"
            " = %s"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = ANY(%s) AND l.leaf_index >="
            " m.changes_seen",
            [user_id, tenant.pk, EPOCH, _KINDS],
        )
        return cursor.fetchone()[0]


def seen(tenant: Tenant, user_id: int, *, upto: int) -> None:
    """This admin has looked at the changes before leaf `upto`."""
    Membership.objects.filter(tenant=tenant, user_id=user_id, changes_seen__lt=upto).update(changes_seen=upto)


_KINDS = [KIND_NUMBERS["key"], KIND_NUMBERS["config"]]
_ABOUT = ("source", "kid", "organisation", "export", "user", "role", "provider", "tenant", "stream", "host", "stop")


def _change(index: int, at: datetime, raw: bytes, in_force: bool) -> Change:
    try:
        body = json.loads(raw)
        assert isinstance(body, dict)
    except (ValueError, AssertionError, RecursionError):
        return Change(index, at, "cannot be read", "", "", in_force)
    row = body.get("row") if isinstance(body.get("row"), dict) else {}
    told = {
        **{name: row[name] for name in ("name", "username", "kid", "role", "user_id") if row.get(name)},
        **{n: body[n] for n in _ABOUT if body.get(n)},
    }
    about = ", ".join(f"{name.replace('_', ' ')} {str(value)[:120]}" for name, value in told.items())
    return Change(index, at, str(body.get("change", ""))[:80], about, str(body.get("by", ""))[:200], in_force)


def _read(tenant: Tenant | None, *, fresh: bool) -> _Log:
    tenant_id = _service_id() if tenant is None else tenant.pk
    place = connection.settings_dict
    log = _logs.setdefault((place["HOST"], place["PORT"], place["NAME"], tenant is None, tenant_id), _Log())
    if not fresh and time.monotonic() - log.read_at < FRESH and log.change == configured.last_change():
        return log
    if connection.in_atomic_block:  # what is not committed is for nobody else, and may be taken back
        with log.lock:
            log = log.copy()
    with log.lock:
        began, log.change = time.monotonic(), configured.last_change()
        for _ in range(3):  # a change that commits between two looks is seen by one of them only
            rows = _rows(None if tenant is None else tenant_id)
            if tenant_id is not None:
                _fold(log, tenant_id)
            mine = {row: said for row, said in log.stated.items() if (row[0] in ACCOUNTS) == (tenant is None)}
            log.differences = _compared(mine, rows)
            if not log.differences:
                break
        log.covered = published.covered(tenant_id) if tenant_id is not None else 0
        for row, versions in list(log.earlier.items()):
            needed = [one for one in versions if one.leaf_index >= log.covered]
            if log.stated[row].leaf_index >= log.covered:  # else it binds, and what was before it is of no use
                needed = [one for one in versions if one.leaf_index < log.covered][-1:] + needed
                log.earlier[row] = needed
            else:
                del log.earlier[row]
        log.read_at = began
    return log


def _service_id() -> int | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM auditlog_tenant WHERE name = %s", [SERVICE])
        found = cursor.fetchone()
    return found[0] if found else None


def _rows(tenant_id: int | None) -> dict[Row, dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute('SELECT kind, id, "row"::text FROM configuration_rows(%s)', [tenant_id])
        return {(kind, id): json.loads(row) for kind, id, row in cursor.fetchall()}


def _fold(log: _Log, tenant_id: int) -> None:
    """Take up the leaves after those that were read. Only leaves that state a row count; what cannot be read states
    nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HEAD, {"tenant": tenant_id, "epoch": EPOCH, "last": log.position - 1})
        size, mark, newest = cursor.fetchone() or (0, None, None)
        if log.position and bytes(mark or b"") != log.mark:  # not the log that was read: an older copy was put back
            log.position = 0
            log.stated.clear()
            log.earlier.clear()
        cursor.execute(
            "SELECT l.leaf_index, l.received_at, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id,"
            " epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = ANY(%s) AND l.leaf_index >="
            " %s AND l.leaf_index < %s"
            " ORDER BY l.leaf_index",
            [tenant_id, EPOCH, [KIND_NUMBERS["key"], KIND_NUMBERS["config"]], log.position, size],
        )
        for leaf_index, at, raw in cursor.fetchall():
            try:
                body = json.loads(bytes(raw))
                row = (str(body["of"]), int(body["id"]))
                said = body["row"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if row in log.stated:
                log.earlier.setdefault(row, []).append(log.stated[row])
            log.stated[row] = Stated(
                leaf_index,
                said if isinstance(said, dict) else None,
                str(body.get("by", "")),
                at,
                str(body.get("change", "")),
            )
    log.position, log.mark = size, bytes(newest or b"")


_HEAD = """
    SELECT h.size, (SELECT l.commitment FROM ledger_leaf l WHERE l.tenant_id = h.tenant_id AND l.epoch = h.epoch AND l.leaf_index = %(last)s),
        (SELECT l.commitment FROM ledger_leaf l WHERE l.tenant_id = h.tenant_id AND l.epoch = h.epoch AND l.leaf_index = h.size - 1)
    FROM ledger_head h WHERE h.tenant_id = %(tenant)s AND h.epoch = %(epoch)s
"""


def _compared(stated: Mapping[Row, Stated], rows: Mapping[Row, dict[str, Any]]) -> dict[Row, Difference]:
    found = {}
    for row in {**stated, **rows}:
        said, here = stated.get(row), rows.get(row)
        wanted = said.row if said else None
        if wanted == here and said is not None:
            continue
        names = (
            tuple(sorted(name for name in {**wanted, **here} if wanted.get(name) != here.get(name)))
            if wanted and here
            else ()
        )
        shown = here or wanted or {}
        name = str(shown.get("name") or shown.get("kid") or shown.get("username") or shown.get("user_id") or row[1])
        found[row] = Difference(*row, name, said.leaf_index if said else None, names)
    return found
