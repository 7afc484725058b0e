"""Leaves: the exact bytes behind an event, and whether they are what the log and the sender say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from django.db import connection

from auditlog import formats
from auditlog.core.chain.act import Act
from auditlog.core.errors import AnswerableError, NotFound
from auditlog.core.log import leaf as leaves
from auditlog.core.log.absence import Absence
from auditlog.core.wire.keys import load
from auditlog.ledger.absence import absence_of
from auditlog.ledger.append import EPOCH, OWN, microseconds
from auditlog.models import Role, Source, Tenant
from auditlog.reads.access import Viewer
from auditlog.reads.sight import visible_events
from auditlog.sources.sender import sender_of


@dataclass(frozen=True, slots=True)
class LeafCheck:
    """Whether an event's stored bytes are what its leaf commits to and what its source signed."""

    leaf_index: int
    commitment_ok: bool
    signature_ok: bool | None  # None: the format's check needs what we do not keep, or the payload is erased
    checkpoint_size: int | None  # of the newest signed checkpoint that covers the leaf
    grade: str
    reason: str


def integrity_of(tenant: Tenant, acts: Sequence[Act]) -> dict[str, LeafCheck]:
    """Check each act's bytes against its leaf and its source's key, by event id. Three queries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.event_id, l.leaf_index, l.source_id, l.grade, l.key, l.commitment, p.salt, p.source_event_id,"
            " p.headers, p.raw FROM ledger_leaf l LEFT JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index = ANY(%s)",
            [tenant.pk, EPOCH, [act.leaf_index for act in acts]],
        )
        rows = cursor.fetchall()
        cursor.execute(
            "SELECT max(size) FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH]
        )
        [signed] = cursor.fetchone()
    sources = {s.pk: s for s in Source.objects.select_related("tenant").prefetch_related("keys").filter(tenant=tenant)}
    checks = {}
    for event_id, index, source_id, grade, key, committed, salt, source_event_id, headers, raw in rows:
        covered = signed if signed is not None and signed > index else None
        if raw is None:
            absence = absence_of(tenant, index)
            checks[str(event_id)] = LeafCheck(index, absence.is_authorised, None, covered, grade, absence.words())
            continue
        commitment = leaves.commitment(bytes(salt), source_event_id.encode(), bytes(headers), bytes(raw))
        signature_ok, reason = _signature(sources[source_id], key, bytes(raw), bytes(headers))
        checks[str(event_id)] = LeafCheck(index, commitment == bytes(committed), signature_ok, covered, grade, reason)
    return checks


def _signature(source: Source, stamp: str, raw: bytes, headers: bytes) -> tuple[bool | None, str]:
    """Check a stored signature again, under the very key that the leaf names, retired or not."""
    if stamp == OWN:
        return None, "no key signed these bytes"
    keys = {key.kid: load(key.jwk, key.kid) for key in source.keys.all() if key.thumbprint == stamp}
    signed_headers: Mapping[str, str] = msgspec.json.decode(headers) if headers else {}
    module = formats.named(source.format)
    try:
        if hasattr(module, "check_stored"):
            module.check_stored(raw, headers, sender_of(source, keys))
        else:
            module.receive(formats.Delivery(raw, module.CONTENT_TYPES[0], signed_headers), sender_of(source, keys))
    except AnswerableError as error:
        if source.secret_env and not keys:
            return None, f"the shared secret cannot confirm it now: {error}"
        return False, str(error)
    return True, f"signature and commitment hold, key {stamp}"


def leaf_bytes_of(kind: str, source: str, received_at: datetime, grade: str, key: str, committed: bytes) -> bytes:
    return leaves.leaf_bytes(
        kind=kind, source=source, received_us=microseconds(received_at), grade=grade, key=key, committed=committed
    )


@dataclass(frozen=True, slots=True)
class Raw:
    """An event's exact bytes, and its place in the log."""

    leaf_index: int
    source: str
    format: str
    received_at: datetime
    grade: str
    key: str
    commitment: bytes
    source_event_id: str
    headers: bytes
    raw: bytes | None  # None: gone, and `absence` says how
    salt: bytes | None
    absence: Absence | None = None

    def encoded_leaf(self) -> bytes:
        """The leaf's canonical bytes (core.leaf)."""
        return leaf_bytes_of("event", self.source, self.received_at, self.grade, self.key, self.commitment)


def raw_event(viewer: Viewer, event_id: UUID) -> Raw:
    """The bytes behind an event, projected or not. Raises NotFound, also for what the caller may not see."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, s.name, s.format, l.received_at, l.grade, l.key, l.commitment, p.source_event_id,"
            " p.headers, p.raw, p.salt FROM ledger_leaf l JOIN auditlog_source s ON s.id = l.source_id"
            " LEFT JOIN ledger_payload p ON p.tenant_id = l.tenant_id AND p.epoch = l.epoch AND p.leaf_index = l.leaf_index"
            " WHERE l.tenant_id = %s AND l.event_id = %s",
            [viewer.tenant.pk, event_id],
        )
        row = cursor.fetchone()
    if row is None or (viewer.role == Role.ABUSE and not visible_events(viewer).filter(event_id=event_id).exists()):
        raise NotFound(f"there is no event {event_id}")
    index, source, fmt, received_at, grade, key, committed, given, headers, raw, salt = row
    return Raw(
        index, source, fmt, received_at, grade, key, bytes(committed), given or "", bytes(headers or b""),
        bytes(raw) if raw is not None else None, bytes(salt) if salt is not None else None,
        absence_of(viewer.tenant, index) if raw is None else None,
    )  # fmt: skip
