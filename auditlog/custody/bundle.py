"""Export a log, or a part of it, in an open form that anybody checks offline: nobody is locked in.

The bundle is a zip of plain files: the events as received, their proofs, the keys and configuration that explain them,
the signed checkpoints, and the verifier itself (`verifier/answerable_verify.py`), whose README says how to run it. The
same log at the same checkpoint gives the same bytes on every machine with the same zlib. Leaves are streamed, so a
large log needs little memory.
"""

import json
import os
import zipfile
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.db import connection, transaction

from auditlog.core.errors import NotFound, NotPossible
from auditlog.core.log.absence import Absence
from auditlog.custody.witness import COSIGNED, cosigned_note
from auditlog.ledger.absence import absences
from auditlog.ledger.append import EPOCH
from auditlog.ledger.proofs import NotCovered, newest_checkpoint, prove_consistency, prove_inclusion
from auditlog.ledger.publish import origin_of
from auditlog.ledger.stored import LeafRow, read_leaves
from auditlog.models import Leaf, LogKey, Tenant
from auditlog.models.ledger import KIND_NUMBERS

FORMAT = "answerable-bundle/1"
AT_ONCE = 250  # leaves read at once: payloads can have a mebibyte each
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the only time in the archive, so that equal content gives equal bytes
EXPLAINING = tuple(KIND_NUMBERS[kind] for kind in ("key", "config", "tombstone", "hold", "release"))


@dataclass(frozen=True, slots=True)
class Exported:
    size: int  # of the checkpoint
    leaves: int
    erased: int
    is_whole: bool
    destroyed: tuple[Absence, ...] = ()  # payloads that nothing authorised to be gone: the verifier says so too
    digest: str = ""  # hex SHA-256 of the manifest


@transaction.atomic
def export_log(
    tenant: Tenant, file: IO[bytes], *, events: Sequence[UUID] = (), leaves: range | None = None, also: Sequence[int] = (),
    papers: Mapping[str, bytes] | None = None, about: Mapping[str, str] | None = None, earliest: bool = False,
    left_out: Collection[int] = (), readme: str = "",
) -> Exported:  # fmt: skip
    """Write a bundle of the whole log, or of some events or leaves and all that is needed to check those.

    Everything is of one snapshot, at its newest checkpoint; `earliest`: at the first that covers what was asked for, so
    that the same question has the same answer later. `also`: leaves beside the events. `papers`: files that come with
    it, each bound by its digest in the manifest, which says what `about` says. `left_out`: events whose payloads this copy
    does not show, which the manifest names; their leaves and proofs stay. `readme` stands before the bundle's own. Raises
    NotCovered, NotFound or NotPossible.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    size, _ = newest_checkpoint(tenant)
    chosen = _chosen(tenant, size, events, leaves, also)
    whole = chosen is None
    if earliest and chosen:
        size = _first_over(tenant, _last_needed(tenant, chosen))
    rows = read_in_steps(tenant, range(size)) if whole else _each(tenant, _with_context(tenant, chosen, size))
    counts, missing = {"leaves": 0}, {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:  # members in the order of their names
        keys = LogKey.objects.filter(tenant=tenant, epoch=EPOCH, from_size__lte=size).order_by("from_size", "id")
        bound = {  # what a proof does not cover is held by its digest
            "README.txt": (readme + _readme(tenant, size, whole=whole)).encode(),
            "answerable_verify.py": (files("auditlog.verifier") / "answerable_verify.py").read_bytes(),
            "vkeys": "".join(f"{key.vkey}\n" for key in keys).encode(),
            **(papers or {}),
        }
        for name in ("README.txt", "answerable_verify.py", *sorted(papers or {})):
            _put(archive, name, bound[name])
        _put(archive, "checkpoint", cosigned_note(tenant, size).encode())
        earlier = _all_notes(tenant, size) if whole else _notes_around(tenant, size, chosen)
        _put_lines(archive, "checkpoints.jsonl", earlier)
        _put_lines(
            archive,
            "leaves.jsonl",
            _records(tenant, rows, counts, missing, frozenset(left_out), size=None if whole else size),
        )
        gone = absences(tenant, missing)
        if late := [absence for absence in gone.values() if absence.is_authorised and (absence.tombstone or 0) >= size]:
            raise NotCovered(
                f"leaf {late[0].tombstone}, which erased leaf {late[0].leaf_index}, is not covered yet: the last"
                f" checkpoint has {size} leaves"
            )
        destroyed = tuple(gone[index] for index in sorted(gone) if not gone[index].is_authorised)
        manifest = {
            "format": FORMAT,
            "tenant": tenant.name,
            "origin": origin_of(tenant),
            "scope": "whole" if whole else "part",
            "size": size,
            "leaves": counts["leaves"],
        }
        if not whole:
            manifest["asked"] = chosen
        if left_out:
            manifest["left_out"] = sorted(left_out)
        if destroyed:
            manifest["destroyed"] = [absence.leaf_index for absence in destroyed]
        if papers is not None:
            manifest |= {
                "files": {name: sha256(content).hexdigest() for name, content in bound.items()},
                **(about or {}),
            }
        said = _json(manifest)
        digest = sha256(said).hexdigest()
        _put(archive, "manifest.json", said)
        if papers is not None:
            _put(archive, "manifest.sha256", f"{digest}  manifest.json\n".encode())
        _put(archive, "vkeys", bound["vkeys"])
    return Exported(size, counts["leaves"], len(gone) - len(destroyed), whole, destroyed, digest)


def _last_needed(tenant: Tenant, chosen: list[int]) -> int:
    """The last leaf that has to be covered: of what was asked for, and of what erased any of that since."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.kind FROM ledger_leaf l LEFT JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index = ANY(%s) AND p.raw IS NULL",
            [tenant.pk, EPOCH, chosen],
        )
        gone = absences(tenant, dict(cursor.fetchall())).values()
    return max([chosen[-1], *(absence.tombstone for absence in gone if absence.is_authorised and absence.tombstone)])


def _first_over(tenant: Tenant, leaf: int) -> int:
    """The size of the first checkpoint that covers a leaf. Raises NotCovered."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(size) FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s AND size > %s",
            [tenant.pk, EPOCH, leaf],
        )
        [size] = cursor.fetchone()
    if size is None:
        raise NotCovered(f"leaf {leaf} is not covered by a checkpoint yet")
    return size


def _chosen(
    tenant: Tenant, size: int, events: Sequence[UUID], leaves: range | None, also: Sequence[int]
) -> list[int] | None:
    """The leaves asked for, in order; None for all of them."""
    if not events and leaves is None and not also:
        return None
    chosen = {*(leaves or ()), *also}
    if leaves is not None and not chosen:
        raise NotPossible(f"there are no leaves from {leaves.start} to {leaves.stop - 1}")
    if events:
        found = dict(
            Leaf.objects.filter(tenant=tenant, epoch=EPOCH, event_id__in=events).values_list("event_id", "leaf_index")
        )
        if missing := [event for event in events if event not in found]:
            raise NotFound(f"this log has no event {missing[0]}")
        chosen.update(found.values())
    if max(chosen) >= size:
        raise NotCovered(f"leaf {max(chosen)} is not covered yet: the last checkpoint has {size} leaves")
    return sorted(chosen)


def _with_context(tenant: Tenant, chosen: list[int], size: int) -> list[int]:
    """The chosen leaves, those that configure their sources and keys before them, and what erased, holds or releases
    them.
    """
    sources = {row.source for row in _each(tenant, chosen)}
    wanted, last = set(chosen), chosen[-1]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.kind, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch,"
            " leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.kind = ANY(%s) ORDER BY l.leaf_index",
            [tenant.pk, EPOCH, list(EXPLAINING)],
        )
        while found := cursor.fetchmany(1_000):
            for index, kind, raw in found:
                body = json.loads(bytes(raw))
                if kind == KIND_NUMBERS["tombstone"]:
                    names_one = not wanted.isdisjoint(body.get("leaves", ()))
                elif kind == KIND_NUMBERS["hold"]:
                    names_one = any(body["first"] <= leaf <= body["last"] for leaf in chosen)
                elif kind == KIND_NUMBERS["release"]:
                    names_one = body["hold"] in wanted
                else:
                    # Every key of the log, so that a checkpoint by one that was rotated away is seen to be.
                    names_one = (index < last and body.get("source") in sources) or body["change"] == "log.key.added"
                if names_one:
                    wanted.add(index)
    return sorted(index for index in wanted if index < size)


def read_in_steps(tenant: Tenant, leaves: range) -> Iterator[LeafRow]:
    """Leaves in order, holding few payloads at a time."""
    for start in range(leaves.start, leaves.stop, AT_ONCE):
        yield from read_leaves(tenant, start, min(start + AT_ONCE, leaves.stop))


def _each(tenant: Tenant, indexes: Sequence[int]) -> Iterator[LeafRow]:
    """Leaves at sorted `indexes`; neighbours are read together."""
    start = 0
    for at in range(1, len(indexes) + 1):
        if at == len(indexes) or indexes[at] != indexes[at - 1] + 1:
            yield from read_in_steps(tenant, range(indexes[start], indexes[at - 1] + 1))
            start = at


def _records(
    tenant: Tenant, rows: Iterable[LeafRow], counts: dict[str, int], missing: dict[int, int], left_out: frozenset[int], *,
    size: int | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    for row in rows:
        row.checked_hash()  # a corrupt ledger is not handed on as if it were sound
        counts["leaves"] += 1
        if row.raw is None:
            missing[row.index] = KIND_NUMBERS[row.kind]
        record: dict[str, Any] = {"index": row.index, "leaf": _b64(row.encoded()), "payload": None}
        if row.raw is not None and row.salt is not None and row.index not in left_out:
            record["payload"] = {
                "salt": _b64(row.salt),
                "source_event_id": row.source_event_id,
                "headers": _b64(row.headers),
                "raw": _b64(row.raw),
            }
        if size is not None:
            record["proof"] = [_b64(part) for part in prove_inclusion(tenant, row.index, size=size).hashes]
        yield record


def _all_notes(tenant: Tenant, size: int) -> Iterator[dict[str, Any]]:
    """Every earlier checkpoint; each is checked on the way through the whole tree, without a proof."""
    below = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT size, {COSIGNED} FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s AND size > %s AND"
                " size < %s"
                " ORDER BY size LIMIT 1000",
                [tenant.pk, EPOCH, below, size],
            )
            found = cursor.fetchall()
        if not found:
            return
        for below, note in found:  # noqa: B007
            yield {"note": note}


def _notes_around(tenant: Tenant, size: int, chosen: list[int]) -> Iterator[dict[str, Any]]:
    """The last checkpoint before the chosen leaves and the first after each end, when the log came to hold them; and
    the newest that any number of witnesses cosigned.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT size, {COSIGNED} FROM ledger_checkpoint WHERE tenant_id = %(t)s AND epoch = %(e)s AND size < %(s)s"
            " AND size IN ((SELECT max(size) FROM ledger_checkpoint WHERE tenant_id = %(t)s AND epoch = %(e)s AND size"
            " <= %(first)s),"
            " (SELECT min(size) FROM ledger_checkpoint WHERE tenant_id = %(t)s AND epoch = %(e)s AND size > %(first)s),"
            " (SELECT min(size) FROM ledger_checkpoint WHERE tenant_id = %(t)s AND epoch = %(e)s AND size > %(last)s))"
            " OR tenant_id = %(t)s AND epoch = %(e)s AND size < %(s)s AND size IN (SELECT max(size) FROM (SELECT size,"
            " count(*) AS"
            " witnesses FROM ledger_cosignature WHERE tenant_id = %(t)s AND epoch = %(e)s AND size < %(s)s GROUP BY"
            " size) cosigned"
            " GROUP BY witnesses)"
            " ORDER BY size",
            {"t": tenant.pk, "e": EPOCH, "s": size, "first": chosen[0], "last": chosen[-1]},
        )
        found = cursor.fetchall()
    for old, note in found:
        yield {"note": note, "consistency": [_b64(part) for part in prove_consistency(tenant, old, size)]}


def _readme(tenant: Tenant, size: int, *, whole: bool) -> str:
    what = "the whole log" if whole else "a part of the log"
    proof = (
        "The whole tree is derived again from the leaves, so they carry no proofs of their own."
        if whole
        else "`proof` is the audit path from the leaf to the checkpoint's root, nearest sibling first (RFC 6962)."
    )
    return f"""This bundle holds {what} {origin_of(tenant)!r} at {size:,} leaves, in open form.

Check it, offline, with Python 3.8 or newer and nothing else:

    python3 answerable_verify.py THIS_FILE.zip --vkey KEY --witness KEY

The first KEY is the log's verifier key. Get it from the log's operator or from whoever watches the log, not from in here:
without --vkey the check uses the bundle's own keys and shows only that the bundle agrees with itself. The second is that of
a witness that you trust to have looked (there may be several, and `--quorum N` of them): without one, whoever holds the
log's key could have signed a history for you alone. And `--source-key NAME=FILE` with the JWK Set that source NAME publishes
holds its events against the source's own keys: without it they are checked against those on record in the log. Better still, take the verifier from somewhere else too; it is one
readable file.

manifest.json       what this is
checkpoint          the signed head (C2SP tlog-checkpoint): origin, number of leaves, root hash, signature; then the
                    lines of the witnesses that cosigned it (C2SP tlog-cosignature)
checkpoints.jsonl   earlier signed heads, which this one extends
vkeys               the keys that signed them, as the log states them (C2SP signed-note verifier keys)
leaves.jsonl        one leaf a line, in order. `leaf` is what the tree commits to. `payload` has the bytes as received (`raw`),
                    the signed headers, the sender's event id, and the salt; it is null when the payload is gone: erased, where a leaf of
                    kind tombstone says so and none of kind hold forbade it; else destroyed, which the check reports.
                    {proof}
                    Leaves of kind key and config hold the sources' public keys and configuration.
answerable_verify.py  the check; its first page says what it does. It exits 0 when all holds.

All binary values are standard base64. A leaf is the JSON array ["answerable-leaf/1", kind, source, received at
(microseconds since 1970), grade, key, commitment]; the commitment is
SHA-256(salt || len32(event id) || event id || len32(headers) || headers || raw), base64url.

The payloads may hold personal data. Erasing one in the service does not erase it in this file.
"""


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_member(name), content)


def _put_lines(archive: zipfile.ZipFile, name: str, records: Iterable[dict[str, Any]]) -> None:
    with archive.open(_member(name), "w", force_zip64=True) as stream:
        for record in records:
            stream.write(_json(record))


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, LONG_AGO)
    member.compress_type, member.create_system, member.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
    return member


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _b64(value: bytes) -> str:
    return b64encode(value).decode()


@contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file of mode 0600 that is there whole, on disk, or not at all. Raises NotPossible when there is one
    already.
    """
    if path.exists():
        raise NotPossible(f"{path} is there already, and is not overwritten")
    draft = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise NotPossible(f"cannot write {draft}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, this never replaces a file that came between
    finally:
        draft.unlink(missing_ok=True)
