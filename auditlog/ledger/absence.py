"""Absence: payloads that are not there, and what the log itself says of it.

A payload goes in one way only: a tombstone leaf names its leaf, and no legal hold covered it then. Any other absence is
destroyed evidence, whoever did it and whatever a table says: only leaves are asked here. The leaves that the service
writes itself (keys, configuration, holds, tombstones) are never erased, so of those every absence is one.
"""

import json
from collections.abc import Iterator, Mapping

from django.db import connection

from auditlog.core.log.absence import Absence, covering
from auditlog.ledger.append import EPOCH
from auditlog.models import Tenant
from auditlog.models.ledger import KIND_NAMES, KIND_NUMBERS

ERASABLE = (KIND_NUMBERS["event"], KIND_NUMBERS["conflict"])


def absences(tenant: Tenant, missing: Mapping[int, int]) -> dict[int, Absence]:
    """By leaf index: what the log says of these leaves (their kinds, as numbers) without a payload."""
    if not missing:
        return {}
    graves: dict[int, list[int]] = {}
    holds: dict[int, tuple[int, int]] = {}
    ends: dict[int, int] = {}
    for index, kind, body in _said(tenant):
        if kind == "tombstone":
            for leaf in body.get("leaves", ()):
                if leaf in missing:
                    graves.setdefault(leaf, []).append(index)
        elif kind == "hold":
            holds[index] = (body["first"], body["last"])
        else:
            ends.setdefault(body["hold"], index)
    return {
        leaf: covering(leaf, graves.get(leaf, ()) if kind in ERASABLE else (), holds, ends)
        for leaf, kind in missing.items()
    }


def absence_of(tenant: Tenant, leaf_index: int, kind: int = ERASABLE[0]) -> Absence:
    """The same of one."""
    return absences(tenant, {leaf_index: kind})[leaf_index]


def destroyed(tenant: Tenant, missing: Mapping[int, int]) -> list[Absence]:
    """Those of them that nothing authorised, in order."""
    found = absences(tenant, missing)
    return [found[leaf] for leaf in sorted(found) if not found[leaf].is_authorised]


def erased_count(tenant: Tenant) -> int:
    """How many leaves the tombstones of a log name."""
    return len({leaf for _, _, body in _said(tenant, "tombstone") for leaf in body["leaves"]})


def _said(tenant: Tenant, *kinds: str) -> Iterator[tuple[int, str, dict]]:
    """Tombstones, holds and releases in the order of the log. One that cannot be read says nothing: it authorises
    nothing.
    """
    wanted = [KIND_NUMBERS[kind] for kind in kinds or ("tombstone", "hold", "release")]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.kind, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch,"
            " leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = ANY(%s) ORDER BY"
            " l.leaf_index",
            [tenant.pk, EPOCH, wanted],
        )
        rows = cursor.fetchall()
    for index, kind, raw in rows:
        body = _body(bytes(raw), KIND_NAMES[kind])
        if body is not None:
            yield index, KIND_NAMES[kind], body


_NUMBERS = {"tombstone": (), "hold": ("first", "last"), "release": ("hold",)}


def _body(raw: bytes, kind: str) -> dict | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not all(isinstance(body.get(name), int) for name in _NUMBERS[kind]):
        return None
    return body if kind != "tombstone" or _are_leaves(body.get("leaves")) else None


def _are_leaves(leaves: object) -> bool:
    return isinstance(leaves, list) and all(isinstance(leaf, int) for leaf in leaves)
