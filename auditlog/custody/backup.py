"""Back up and restore: every table in one consistent dump, with the checkpoints it belongs to.

A backup is a zip of PostgreSQL's own COPY text, one member a table, made in one snapshot. It holds what the tables
hold: payloads, salts and the tenants' peppers, hashes of passwords and tokens. Keep it as secret as the database.
Sessions are left out, because a session's key is a live credential, and so is what was tried at the door lately. The
log's signing key is not in the database, so not in here.

A restore loads everything in one transaction, derives every log again from the stored bytes, and holds it against the
signed checkpoints and against the independent head, all before anybody can see a row. A database that is older than
what was signed must not sign on as if nothing had happened (the Venafi log, 2017): see `heads.py` and `publish.py`.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psycopg
from django.db import DatabaseError, connections, transaction
from psycopg import sql

from auditlog.core.errors import AnswerableError, LedgerCorrupt, NotPossible
from auditlog.core.log.checkpoint import Checkpoint, opened, public_key_of
from auditlog.core.log.merkle import EMPTY
from auditlog.custody.bundle import read_in_steps
from auditlog.custody.verify_ledger import verify
from auditlog.ledger.append import EPOCH
from auditlog.ledger.publish import origin_of
from auditlog.models import Checkpoint as CheckpointRow
from auditlog.models import LogHead, LogKey, Tenant

FORMAT = "answerable-backup/1"
LEFT_OUT = ("django_session", "usersessions_usersession", "answerable_cache", "signin_attempt")
REMADE = ("django_migrations",)  # made by `setup_database`: compared, not loaded
PREFILLED = (
    "auth_permission",
    "django_content_type",
)  # filled by `setup_database`, replaced so that ids are those dumped
BLOCK = 1 << 20
HEADER = 64 << 20  # bytes of the header, at most
Progress = Callable[[str], None]


class BadBackup(AnswerableError):
    """The file is no backup, is damaged, or does not fit this database. Nothing was restored."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    tables: int
    rows: int
    logs: dict[str, int]  # tenant -> leaves


@dataclass(frozen=True, slots=True)
class Restored:
    rows: int
    logs: dict[str, int]
    behind: dict[str, int]  # tenant -> leaves that were signed after this backup was made
    warnings: list[str]


# --- backup -----------------------------------------------------------------------------------------------------------


def back_up(file: IO[bytes], *, now: datetime) -> BackedUp:
    """Write a backup of all tables, as the owner, in one read-only snapshot. Raises NotPossible."""
    try:
        return _back_up(file, now=now)
    except (DatabaseError, psycopg.Error) as error:
        raise NotPossible(
            f"the database does not give everything out: {str(error).splitlines()[0]}. Nothing was backed up"
        ) from None


def _back_up(file: IO[bytes], *, now: datetime) -> BackedUp:
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tables = []
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            for name, columns in _tables(cursor).items():
                if name not in (*LEFT_OUT, *REMADE):
                    tables.append({"name": name, "columns": columns, **_dump(cursor, archive, name, columns)})
            header = {
                "format": FORMAT,
                "made_at": now.isoformat(),
                "migrations": _migrations(cursor),
                "logs": _logs(cursor),
                "tables": tables,
                "sequences": _sequences(cursor),
                "left_out": LEFT_OUT,
            }
            archive.writestr("header.json", json.dumps(header, indent=1))
    return BackedUp(
        len(tables), sum(table["rows"] for table in tables), {log["tenant"]: log["size"] for log in header["logs"]}
    )


def _dump(cursor, archive: zipfile.ZipFile, name: str, columns: list[str]) -> dict[str, Any]:
    digest, statement = (
        hashlib.sha256(),
        sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(name), _names(columns)),
    )
    with archive.open(_member(name), "w", force_zip64=True) as stream, cursor.copy(statement) as copy:
        rows = 0
        for block in copy:
            digest.update(block)
            stream.write(block)
            rows += bytes(block).count(b"\n")  # COPY text writes a newline inside a value as \n
    return {"rows": rows, "sha256": digest.hexdigest()}


def _logs(cursor) -> list[dict[str, Any]]:
    """Of every tenant: leaves, and the newest signed checkpoint in the same snapshot."""
    cursor.execute(
        "SELECT t.name, h.size, (SELECT c.note FROM ledger_checkpoint c WHERE c.tenant_id = h.tenant_id AND c.epoch ="
        " h.epoch"
        " ORDER BY c.size DESC LIMIT 1) FROM ledger_head h JOIN auditlog_tenant t ON t.id = h.tenant_id"
        " WHERE h.epoch = %s ORDER BY t.name",
        [EPOCH],
    )
    return [{"tenant": name, "size": size, "checkpoint": note} for name, size, note in cursor.fetchall()]


# --- restore ----------------------------------------------------------------------------------------------------------


def restore(
    path: Path,
    *,
    heads: Sequence[Path] = (),
    vkeys: Sequence[str] = (),
    own_key: bytes | None = None,
    accept_behind: bool = False,
    progress: Progress = lambda _: None,
) -> Restored:
    """Load a backup into an empty database, verify every log, then commit. All of it or nothing.

    `heads` are notes signed after the backup may have been made, or folders of them; `vkeys` the logs' verifier keys
    where they are known from elsewhere, `own_key` the public half of the key that signs here. Raises BadBackup,
    LedgerCorrupt, or NotPossible when a log is behind its head.
    """
    notes = _head_notes(heads)
    try:
        with zipfile.ZipFile(path) as archive:
            header = _header(archive)
            with _as_owner() as cursor, transaction.atomic(using="owner"):
                # As `verify` wants it; it cannot ask for it within our transaction.
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                _check_fit(cursor, header)
                rows = _load(cursor, archive, header, progress)
                warnings = _verify_all(header, vkeys, own_key, progress)
                behind = _measure(notes, vkeys, warnings, accept_behind=accept_behind)
                _set_sequences(cursor, header["sequences"])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadBackup(f"{path.name} is damaged or no backup: {error}") from None
    except OSError as error:
        raise BadBackup(f"cannot read {path}: {error.strerror or error}") from None
    except DatabaseError as error:
        raise BadBackup(f"the database refused a row: {str(error).splitlines()[0]}") from None
    return Restored(rows, {log["tenant"]: log["size"] for log in header["logs"]}, behind, warnings)


def _header(archive: zipfile.ZipFile) -> dict[str, Any]:
    names = archive.namelist()
    if "header.json" not in names or archive.getinfo("header.json").file_size > HEADER:
        raise BadBackup("this archive is no backup: it has no header.json")
    try:
        header = json.loads(archive.read("header.json"))
        wanted = sorted(["header.json", *(_member(table["name"]) for table in header["tables"])])
        known = header["format"] == FORMAT and {"migrations", "logs", "sequences"} <= header.keys()
    except (ValueError, KeyError, TypeError):
        raise BadBackup("the backup's header is damaged") from None
    if not known:
        raise BadBackup(f"expected a backup of format {FORMAT!r}, found {str(header['format'])[:40]!r}")
    if sorted(names) != wanted:
        raise BadBackup("the backup's members are not those that its header names")
    return header


def _check_fit(cursor, header: Mapping[str, Any]) -> None:
    """An empty database with exactly the tables of the backup. Raises BadBackup or NotPossible."""
    if _migrations(cursor) != header["migrations"]:
        mine, theirs = ({tuple(one) for one in many} for many in (_migrations(cursor), header["migrations"]))
        odd = sorted(mine ^ theirs)[:3]
        raise BadBackup(
            f"the backup was made by another version of this service (migrations differ: {odd}): restore with that"
            " version, then update"
        )
    here = {name: columns for name, columns in _tables(cursor).items() if name not in (*LEFT_OUT, *REMADE)}
    there = {table["name"]: table["columns"] for table in header["tables"]}
    if here.keys() != there.keys() or any(sorted(here[name]) != sorted(there[name]) for name in here):
        raise BadBackup("the backup's tables and columns are not those of this database")
    for name in here:
        if name in PREFILLED:
            continue
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(name)))
        if cursor.fetchone()[0]:
            raise NotPossible(
                f"this database is not empty: {name} has rows. Make a new one and run setup_database on it"
            )


def _load(cursor, archive: zipfile.ZipFile, header: Mapping[str, Any], progress: Progress) -> int:
    tables, rows = {table["name"]: table for table in header["tables"]}, 0
    cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    cursor.execute("SET LOCAL answerable.restoring TO 'on'")
    for name in PREFILLED:
        cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
    for name in _load_order(cursor, tables):
        table, digest = tables[name], hashlib.sha256()
        progress(f"loading {name}: {table['rows']:,} rows")
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(name), _names(table["columns"]))
        with archive.open(_member(name)) as stream, cursor.copy(statement) as copy:
            while block := stream.read(BLOCK):
                digest.update(block)
                copy.write(block)
        if digest.hexdigest() != table["sha256"] or cursor.rowcount != table["rows"]:
            raise BadBackup(f"table {name} is not what the backup's header says: the file was damaged or changed")
        rows += cursor.rowcount
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return rows


def _verify_all(
    header: Mapping[str, Any], vkeys: Sequence[str], own_key: bytes | None, progress: Progress
) -> list[str]:
    """Derive every log again and check every signature. Raises LedgerCorrupt; returns what a person should know."""
    warnings, expected = [], {log["tenant"]: log for log in header["logs"]}
    tenants = list(Tenant.objects.order_by("name"))
    if sorted(tenant.name for tenant in tenants) != sorted(expected):
        raise BadBackup("the logs in the backup are not those that its header names")
    for tenant in tenants:
        progress(f"verifying the log of {tenant.name}: {expected[tenant.name]['size']:,} leaves")
        verified = verify(tenant, public_key=None)
        newest = CheckpointRow.objects.filter(tenant=tenant, epoch=EPOCH).order_by("-size").first()
        note = newest.note if newest else None
        if (verified.leaves, note) != (expected[tenant.name]["size"], expected[tenant.name]["checkpoint"]):
            raise BadBackup(f"log {tenant.name!r} is not at the checkpoint that the backup's header names")
        if newest is None:
            warnings.append(f"log {tenant.name!r} has no signed checkpoint: nothing outside shows that it is whole")
            continue
        for row in CheckpointRow.objects.filter(tenant=tenant, epoch=EPOCH).order_by("size").iterator(1_000):
            checkpoint = _opened(tenant, row.note, _known_keys(tenant))
            if (checkpoint.size, checkpoint.root) != (row.size, bytes(row.root)):
                raise LedgerCorrupt(f"log {tenant.name!r}: checkpoint {row.size} was signed for another head")
        given = [key for name, key in map(public_key_of, vkeys) if name == origin_of(tenant)]
        if given:
            _opened(tenant, newest.note, given)
        elif own_key is None or not _opens(tenant, newest.note, own_key):
            warnings.append(
                f"log {tenant.name!r}: its signatures were checked against the keys in the backup itself; compare"
                " them with the log's published verifier key, or give it with --vkey"
            )
        if verified.leaves > newest.size:
            warnings.append(
                f"log {tenant.name!r}: {verified.leaves - newest.size:,} leaves after its last checkpoint were not"
                " signed yet"
            )
    return warnings


def _measure(
    notes: Mapping[str, str], vkeys: Sequence[str], warnings: list[str], *, accept_behind: bool
) -> dict[str, int]:
    """How many leaves each log lacks of what was signed since. Raises NotPossible or LedgerCorrupt."""
    behind: dict[str, int] = {}
    for name, note in notes.items():
        origin = note.split("\n", 1)[0]
        tenant = next((one for one in Tenant.objects.all() if origin_of(one) == origin), None)
        if tenant is None:
            warnings.append(f"the head {name!r} is of log {origin[:80]!r}, which is not in this backup")
            continue
        given = [key for vkey_name, key in map(public_key_of, vkeys) if vkey_name == origin]
        head = _opened(tenant, note, [*given, *_known_keys(tenant)])
        size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
        if head.size > size:
            behind[tenant.name] = head.size - size
        elif head.root != _root_of(tenant, head.size):
            raise LedgerCorrupt(
                f"log {tenant.name!r}: its first {head.size:,} leaves are not those that the head {name!r} was signed"
                " for"
            )
    if behind and not accept_behind:
        lacks = "; ".join(f"{tenant} lacks {count:,} signed leaves" for tenant, count in sorted(behind.items()))
        raise NotPossible(
            f"the backup is behind the independent head: {lacks}. Nothing was restored. Look for a newer backup; if"
            " there is none,"
            " --accept-behind restores this one (erasures made since must then be made again)"
        )
    for tenant_name, count in sorted(behind.items()):
        warnings.append(
            f"log {tenant_name!r} lacks {count:,} leaves that were signed and may have been shown to others. The"
            " publisher will not"
            " sign it until a person has set the independent head aside; erasures made since must be made again"
        )
    return behind


def _known_keys(tenant: Tenant) -> list[bytes]:
    return [public_key_of(key.vkey)[1] for key in LogKey.objects.filter(tenant=tenant, epoch=EPOCH)]


def _opened(tenant: Tenant, note: str, keys: Sequence[bytes]) -> Checkpoint:
    """The checkpoint in `note`, signed by one of `keys`. Raises LedgerCorrupt."""
    reason = "no key to check it with"
    for key in keys:
        try:
            return opened(note, origin=origin_of(tenant), public_key=key)
        except ValueError as error:
            reason = str(error)
    raise LedgerCorrupt(f"log {tenant.name!r}: a checkpoint does not hold: {reason}")


def _opens(tenant: Tenant, note: str, key: bytes) -> bool:
    try:
        return bool(_opened(tenant, note, [key]))
    except LedgerCorrupt:
        return False


def _root_of(tenant: Tenant, size: int) -> bytes:
    edge, hashes = EMPTY, []
    for row in read_in_steps(tenant, range(size)):
        hashes.append(row.checked_hash())
        if len(hashes) == 4_096:
            edge, hashes = edge.extended(hashes), []
    return edge.extended(hashes).root()


def _head_notes(heads: Sequence[Path]) -> dict[str, str]:
    """Notes by where they lie: files given, and the files of folders given. Raises NotPossible."""
    notes = {}
    for head in heads:
        for file in sorted(head.iterdir()) if head.is_dir() else [head]:
            if file.name.startswith(".") or file.suffix == ".set-aside":
                continue  # heads.py: one that is being written, and one that a person put away
            try:
                notes[file.name] = file.read_text()
            except (OSError, ValueError) as error:
                raise NotPossible(f"the head {file} cannot be read: {error}") from None
    return notes


@contextmanager
def _as_owner() -> Iterator[Any]:
    """The owner's cursor, with every query of this process going the same way.

    Verification must see rows that are not committed yet, and they are visible on one connection only.
    """
    usual = connections["default"]
    connections["default"] = connections["owner"]
    try:
        with connections["owner"].cursor() as cursor:
            yield cursor
    finally:
        connections["default"] = usual


# --- the catalogue
# ------------------------------------------------------------------------------------------------------


def _tables(cursor) -> dict[str, list[str]]:
    """Our tables and their stored columns."""
    cursor.execute(
        "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON"
        " a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        " AND a.attgenerated = '' GROUP BY c.relname ORDER BY c.relname"
    )
    return dict(cursor.fetchall())


def _load_order(cursor, tables: Mapping[str, Any]) -> list[str]:
    """Referenced tables before those that refer to them by a constraint that cannot wait."""
    cursor.execute(
        "SELECT DISTINCT c.conrelid::regclass::text, c.confrelid::regclass::text FROM pg_constraint c"
        " WHERE c.contype = 'f' AND NOT c.condeferrable AND c.conrelid <> c.confrelid"
    )
    needs: dict[str, set[str]] = {name: set() for name in tables}
    for child, parent in cursor.fetchall():
        needs[child].add(parent)
    order: list[str] = []
    while needs:
        ready = sorted(name for name, parents in needs.items() if parents.isdisjoint(needs))
        if not ready:
            raise BadBackup(f"these tables refer to each other in a circle: {sorted(needs)}")
        order += ready
        for name in ready:
            del needs[name]
    return order


def _migrations(cursor) -> list[list[str]]:
    cursor.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
    return [list(row) for row in cursor.fetchall()]


def _sequences(cursor) -> dict[str, int]:
    cursor.execute(
        "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"
    )
    return dict(cursor.fetchall())


def _set_sequences(cursor, dumped: Mapping[str, int]) -> None:
    """Let every sequence go on after what is in its column, and after what it had given out (rows may be gone since)."""
    cursor.execute(
        "SELECT s.relname, t.relname, a.attname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN"
        " ('a', 'i')"
        " AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
        " JOIN pg_class t ON t.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid"
        " WHERE s.relkind = 'S' AND s.relnamespace = 'public'::regnamespace ORDER BY s.relname"
    )
    for sequence, table, column in cursor.fetchall():
        cursor.execute(
            sql.SQL(
                "SELECT setval(%s::regclass, greatest(1, %s, coalesce(max({}), 0)), greatest(%s, coalesce(max({}), 0))"
                " > 0) FROM {}"
            ).format(sql.Identifier(column), sql.Identifier(column), sql.Identifier(table)),
            [sequence, dumped.get(sequence, 0), dumped.get(sequence, 0)],
        )


def _member(table: str) -> str:
    return f"tables/{table}.copy"


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
