"""Publish: sign the log's head, at least every second while a log grows (third step of the road, beside it).

One process does this: the leader, by advisory lock for liveness and by fence for safety (a paused leader that wakes
finds a newer fence and stops). It is the only one that reads the log's signing key.

A head is signed only when committed, only after re-reading the new leaves and their payloads, recomputing every
commitment and leaf hash, and arriving at the same root by the publisher's own tiles: a flipped bit anywhere on that
way is found before it is signed (what killed the Yeti 2022 log).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerBehind, LedgerCorrupt, Superseded
from auditlog.core.log.checkpoint import Checkpoint, opened, signed, vkey
from auditlog.core.log.merkle import EMPTY, Edge
from auditlog.core.log.tlog import TILE, subtree_root
from auditlog.database.bulk import copy_rows, upsert_rows
from auditlog.ledger.append import EPOCH, append_note
from auditlog.ledger.heads import read_head, write_head
from auditlog.ledger.stored import read_leaves, source_names, stored_hashes
from auditlog.models import Heartbeat, LogHead, LogKey, PublisherState, Tenant

log = structlog.get_logger()
AT_ONCE = 50_000  # leaves re-read in one stream
EVERY = 0.25  # seconds between looks; a growing log is signed well within the second promised
TAKEOVER = 60.0  # seconds without a sign of life before the next in line ends the leader's session
ALIVE = "publisher"  # the leader's heartbeat


def signing_key() -> SigningKey:
    """The log's Ed25519 key from its file, made on first use by whoever may write there."""
    return SigningKey(settings.LOG_KEY_FILE.read_bytes())


def origin_of(tenant: Tenant) -> str:
    """The log's name in checkpoints: configured, never taken from host or port."""
    return f"{settings.LOG_ORIGIN}/{tenant.name}"


def publish(tenant: Tenant, *, key: SigningKey, fence: int, now: datetime) -> str | None:
    """Sign the committed head of one log. Returns the note, or None when nothing is new.

    Raises LedgerCorrupt when stored leaves do not lead to the head's root, LedgerBehind when the independent head knows
    more or other leaves, Superseded when another publisher took over; nothing is signed then.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(
                "SELECT size, edge, fence FROM ledger_head WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH]
            )
            size, edge, stored_fence = cursor.fetchone()
            cursor.execute(
                "SELECT size, edge FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s ORDER BY size DESC LIMIT"
                " 1",
                [tenant.pk, EPOCH],
            )
            last = cursor.fetchone()
        before = Edge.unpacked(last[0], bytes(last[1])) if last else EMPTY
        if stored_fence != fence:
            raise Superseded(f"another publisher holds fence {stored_fence}, ours is {fence}: stop")
        if size < before.size:
            raise LedgerCorrupt(f"the head has {size} leaves, and {before.size} were signed: the database is behind")
        _check_head_file(tenant, size)
        if size == before.size:
            return None
        names = source_names(tenant)
        hashes = []
        for start in range(before.size, size, AT_ONCE):
            hashes += stored_hashes(tenant, start, min(size, start + AT_ONCE), names)[0]
        derived = before.extended(hashes)
        if derived.root() != Edge.unpacked(size, bytes(edge)).root():
            for row in read_leaves(tenant, before.size, size):
                row.checked_hash()  # a payload that does not fit its leaf says so by name
            raise LedgerCorrupt(f"leaves {before.size} to {size - 1} do not lead to the root that was committed")
        _write_tiles(tenant, before, hashes)
        note = signed(Checkpoint(origin_of(tenant), size, derived.root()), key)
        # Read as others will read it: a bit that flipped since in our own memory is not shown to anybody.
        try:
            shown = opened(note, origin=origin_of(tenant), public_key=bytes(key.verify_key))
        except ValueError as error:
            raise LedgerCorrupt(f"the checkpoint made for {size} leaves does not hold: {error}") from None
        if (shown.size, shown.root) != (size, Edge.unpacked(size, bytes(edge)).root()):
            raise LedgerCorrupt(f"the checkpoint made for {size} leaves says something else")
        write_head(tenant.name, note)  # before anybody can see the checkpoint
        copy_rows(
            "ledger_checkpoint",
            {"tenant_id": "int8", "epoch": "int2", "size": "int8", "root": "bytea", "edge": "bytea", "note": "text",
             "signed_at": "timestamptz"},
            [(tenant.pk, EPOCH, size, derived.root(), derived.packed(), note, now)],
        )  # fmt: skip
    return note


def _check_head_file(tenant: Tenant, size: int) -> None:
    """Refuse when the database is behind, or beside, what was signed last. Raises LedgerBehind."""
    try:
        head = read_head(tenant.name)
    except (ValueError, OSError) as error:
        raise LedgerBehind(f"the independent head of log {tenant.name!r} cannot be read: {error}") from None
    if head is None:
        return
    if head.size > size:
        raise LedgerBehind(
            f"{head.size} leaves were signed and the database has {size}: it was restored from an older copy"
        )
    if head.size and _root_at(tenant, head.size) != head.root:
        raise LedgerBehind(f"the database's first {head.size} leaves are not those that were signed")


def _root_at(tenant: Tenant, size: int) -> bytes:
    """The root over the first `size` leaves: from its checkpoint, else from the leaves after the one before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT size, edge FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s AND size <= %s"
            " ORDER BY size DESC LIMIT 1",
            [tenant.pk, EPOCH, size],
        )
        row = cursor.fetchone()
    edge = Edge.unpacked(row[0], bytes(row[1])) if row else EMPTY
    return edge.extended([leaf.checked_hash() for leaf in read_leaves(tenant, edge.size, size)]).root()


def _write_tiles(tenant: Tenant, before: Edge, hashes: list[bytes]) -> None:
    """Write the tiles that the new leaves fill, level by level (C2SP tlog-tiles: 256 hashes each, insert-only), and
    keep what is left over of each level as the log's right edge.
    """
    edge = right_edge(tenant)
    _check_partial_tiles(before, edge)
    level, first, new = 0, before.size, hashes
    while new:
        number, held = edge.get(level, (first // TILE, []))
        if (number, len(held)) != (first // TILE, first % TILE):
            raise LedgerCorrupt(
                f"the edge at level {level} holds {len(held)} hashes of tile {number}, not those before {first}"
            )
        row = held + new
        tiles = [(number + n, row[n * TILE : (n + 1) * TILE]) for n in range(len(row) // TILE)]
        copy_rows(
            "ledger_tile",
            {"tenant_id": "int8", "epoch": "int2", "level": "int2", "number": "int8", "hashes": "bytea"},
            [(tenant.pk, EPOCH, level, full, b"".join(part)) for full, part in tiles],
        )
        edge[level] = (number + len(tiles), row[len(tiles) * TILE :])
        first, new = number, [subtree_root(part) for _, part in tiles]
        level += 1
    upsert_rows(
        "ledger_edge",
        {"tenant_id": "int8", "epoch": "int2", "level": "int2", "number": "int8", "hashes": "bytea"},
        [(tenant.pk, EPOCH, at, number, b"".join(held)) for at, (number, held) in edge.items() if at < max(level, 1)],
        key=("tenant_id", "epoch", "level"),
    )


def _check_partial_tiles(before: Edge, edge: Mapping[int, tuple[int, list[bytes]]]) -> None:
    """Hold the tiles that are not full against the edge that was signed: a flipped bit there would fill a tile for
    ever.

    A level's hashes fold into the part of the signed edge between its own tree levels and the next tile level's.
    """
    for level in range((max(before.size, 1).bit_length() - 1) // 8 + 1):
        number, held = edge.get(level, (before.size >> 8 * (level + 1), []))
        higher, own = (before.size >> 8 * (level + 1)).bit_count(), (before.size >> 8 * level & TILE - 1).bit_count()
        if (
            number != before.size >> 8 * (level + 1)
            or EMPTY.extended(held).hashes != before.hashes[higher : higher + own]
        ):
            first = number * TILE ** (level + 1)
            raise LedgerCorrupt(
                f"leaf {first}: the partial tile {level}/{number} from there on is not what was signed for"
                f" {before.size} leaves"
            )


def check_right_edge(tenant: Tenant) -> None:
    """Hold the partial tiles, which proofs are made from, against the newest checkpoint. Raises LedgerCorrupt."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT size, edge FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s ORDER BY size DESC LIMIT 1",
            [tenant.pk, EPOCH],
        )
        row = cursor.fetchone()
    if row is not None:
        _check_partial_tiles(Edge.unpacked(row[0], bytes(row[1])), right_edge(tenant))


def right_edge(tenant: Tenant) -> dict[int, tuple[int, list[bytes]]]:
    """By level: the number of the tile that is not full yet, and its hashes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT level, number, hashes FROM ledger_edge WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH]
        )
        rows = cursor.fetchall()
    return {
        level: (number, [bytes(packed)[at : at + 32] for at in range(0, len(packed), 32)])
        for level, number, packed in rows
    }


def lead(
    tenants: Callable[[], Iterable[Tenant]],
    *,
    now: Callable[[], datetime],
    stop: Callable[[], bool],
    takeover: float = TAKEOVER,
) -> None:
    """Be the publisher until told to stop; wait in line while another process leads.

    Back into the line go a leader whose place was taken while it slept, and one that the database left: the session
    that held the lock is gone with it. `takeover` is in seconds.
    """
    key = signing_key()
    broken: set[int] = set()  # never signed again by this process
    while not stop():
        try:
            if _wait_in_line(stop, now=now, takeover=takeover):
                _sign_all(tenants, key=key, broken=broken, now=now, stop=stop)
        except Superseded as superseded:
            log.warning("another publisher took over", reason=str(superseded))
        except (OperationalError, InterfaceError) as error:
            # A server that restarts, a full disk: as soon as it answers again, signing goes on.
            log.error("publisher waits for the database", error=type(error).__name__)
            time.sleep(1.0)
        finally:
            connection.close()  # and with it the lock


def _wait_in_line(stop: Callable[[], bool], *, now: Callable[[], datetime], takeover: float) -> bool:
    """Wait until no other process leads. Returns False when told to stop.

    A leader that is frozen keeps its session, and its lock, for ever. So its sign of life is watched, by our own clock
    only; when it stands still for too long the session is ended. Should it wake up, it finds another fence.
    """
    seen, since = None, time.monotonic()
    while not stop():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(hashtext('answerable.publish'), 0)")
            if cursor.fetchone()[0]:
                return True
            alive = Heartbeat.objects.filter(name=ALIVE).values_list("at", flat=True).first()
            if alive != seen:
                seen, since = alive, time.monotonic()
            elif time.monotonic() - since > takeover:
                log.warning("the leading publisher gives no sign of life: its session is ended", last_seen=str(alive))
                cursor.execute(_END_LEADER)
                since = time.monotonic()
        time.sleep(min(1.0, takeover / 4))
    return False


# A role may end its own sessions.
_END_LEADER = """
    SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database() AND l.objid = 0 AND l.objsubid = 2
      AND l.classid = hashtext('answerable.publish')::oid AND l.pid <> pg_backend_pid()
"""


def _sign_all(
    tenants: Callable[[], Iterable[Tenant]],
    *,
    key: SigningKey,
    broken: set[int],
    now: Callable[[], datetime],
    stop: Callable[[], bool],
) -> None:
    """Sign round after round. Raises Superseded when another publisher took over."""
    fences: dict[int, int] = {}
    told: dict[int, str] = {}
    beat = -1.0
    while not stop():
        began = time.monotonic()
        if began - beat >= 1.0:
            beat = began
            Heartbeat.objects.update_or_create(name=ALIVE, defaults={"at": now()})
        for tenant in tenants():
            if tenant.pk in broken:
                continue
            try:
                if tenant.pk not in fences:
                    fences[tenant.pk] = take_fence(tenant)
                    announce_key(tenant, key=key, now=now())
                publish(tenant, key=key, fence=fences[tenant.pk], now=now())
                _say(tenant, "", told, now=now())
            except LedgerBehind as behind:
                # Asked again at every round: a person may have decided meanwhile.
                _say(tenant, str(behind), told, now=now())
            except OSError as error:
                # Of the independent head: without it on disk nothing may be signed. Its disk may get room again.
                _say(tenant, f"the independent head cannot be written: {error.strerror or error}", told, now=now())
            except LedgerCorrupt as corrupt:
                # Somebody must look first. The other logs go on.
                broken.add(tenant.pk)
                _say(tenant, str(corrupt), told, now=now())
        time.sleep(max(0.0, EVERY - (time.monotonic() - began)))


def _say(tenant: Tenant, reason: str, told: dict[int, str], *, now: datetime) -> None:
    """Put on record, for /readyz and the pages, whether this log is signed; only when that changed."""
    if told.get(tenant.pk) == reason:
        return
    told[tenant.pk] = reason
    PublisherState.objects.update_or_create(
        tenant=tenant, defaults={"is_signing": not reason, "reason": reason, "at": now}
    )
    if reason:
        log.critical("log not signed", tenant=tenant.name, reason=reason)


def announce_key(tenant: Tenant, *, key: SigningKey, now: datetime) -> None:
    """Put the signing key's public half on record, in the log itself too, when it is new to this log.

    Raises LedgerCorrupt for a key that the log had before another one.
    """
    verifier_key = vkey(origin_of(tenant), bytes(key.verify_key))
    with transaction.atomic():
        head = LogHead.objects.select_for_update().get(tenant=tenant, epoch=EPOCH)
        known = list(
            LogKey.objects.filter(tenant=tenant, epoch=EPOCH).order_by("from_size", "id").values_list("vkey", flat=True)
        )
        if verifier_key in known[-1:]:
            return
        if verifier_key in known:
            # Whoever has a key that was rotated away must not be able to sign on with it, and nor must we.
            raise LedgerCorrupt(
                f"the key {verifier_key} was rotated away from: sign with the newest one, or with a fresh one"
            )
        LogKey.objects.create(tenant=tenant, epoch=EPOCH, vkey=verifier_key, from_size=head.size, added_at=now)
        append_note(tenant, "key", {"change": "log.key.added", "vkey": verifier_key}, now=now)


def take_fence(tenant: Tenant) -> int:
    """A new fence: every earlier publisher of this log finds its own outdated, even if it only slept."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE ledger_head SET fence = fence + 1 WHERE tenant_id = %s AND epoch = %s RETURNING fence",
            [tenant.pk, EPOCH],
        )
        return cursor.fetchone()[0]
