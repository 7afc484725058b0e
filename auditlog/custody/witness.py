"""Witnesses: others who see every head of a log (C2SP tlog-witness), so that nobody can be shown another history.

Submitting is beside the road: a slow, broken or lying witness delays nobody, and its line is kept only when it is a
valid cosignature of our checkpoint.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import structlog
from django.db import connection, connections

from auditlog.core.errors import AnswerableError
from auditlog.core.log.checkpoint import Checkpoint, check_cosignature
from auditlog.core.wire.request import Request
from auditlog.ledger.append import EPOCH
from auditlog.ledger.proofs import prove_consistency
from auditlog.ledger.publish import origin_of
from auditlog.models import Checkpoint as CheckpointRow
from auditlog.models import Cosignature, Tenant, Witness
from auditlog.sources import outbound
from auditlog.sources.configuration import refuse_unless_in_force

log = structlog.get_logger()
BOUNDS = outbound.Bounds(read=5.0, total=10.0, size=16 * 1024)
# A checkpoint with the lines of its witnesses.
COSIGNED = """note || coalesce((SELECT string_agg(line || E'\\n', '' ORDER BY witness) FROM ledger_cosignature s
    WHERE s.tenant_id = ledger_checkpoint.tenant_id AND s.epoch = ledger_checkpoint.epoch AND s.size = ledger_checkpoint.size), '')"""
Post = Callable[[str, bytes], tuple[int, bytes]]


class WitnessRefused(AnswerableError):
    """The witness did not cosign. The message says what it answered."""


def submit_all(tenant: Tenant, *, now: Callable[[], datetime], post: Post | None = None) -> int:
    """Submit the newest checkpoint to every witness that has not cosigned it. Returns how many have, in all."""
    row = CheckpointRow.objects.filter(tenant=tenant, epoch=EPOCH).order_by("-size").first()
    if row is None:
        return 0
    done = set(Cosignature.objects.filter(tenant=tenant, epoch=EPOCH, size=row.size).values_list("witness", flat=True))
    waiting = [w for w in Witness.objects.filter(tenant=tenant, is_active=True) if w.name not in done]
    if waiting:
        with ThreadPoolExecutor(len(waiting)) as pool:
            done |= {name for name in pool.map(lambda w: _try(tenant, w, row, now(), post), waiting) if name}
    return len(done)


def _try(tenant: Tenant, witness: Witness, row: CheckpointRow, now: datetime, post: Post | None) -> str | None:
    try:
        refuse_unless_in_force(tenant, ("witness", witness.pk))
        line = submit(tenant, witness, row, post=post or partial(https_post, witness))
        Cosignature.objects.get_or_create(
            tenant=tenant, epoch=EPOCH, size=row.size, witness=witness.name, defaults={"line": line, "received_at": now}
        )
        Witness.objects.filter(pk=witness.pk).update(last_size=row.size, last_error="")
        return witness.name
    except (AnswerableError, OSError, ValueError) as error:
        Witness.objects.filter(pk=witness.pk).update(last_error=str(error)[:500])
        log.warning("not cosigned", tenant=tenant.name, witness=witness.name, reason=str(error)[:200])
        return None
    finally:
        connections.close_all()  # of this thread


def submit(tenant: Tenant, witness: Witness, row: CheckpointRow, *, post: Post) -> str:
    """One add-checkpoint. Returns the cosignature line. Raises WitnessRefused, OSError or ValueError.

    The witness says with 409 which size it knows; the proof is then made from there, once.
    """
    known = witness.last_size
    for _ in range(2):
        proof = prove_consistency(tenant, known, row.size) if 0 < known < row.size else []
        lines = [f"old {known}", *(b64encode(part).decode() for part in proof)]
        status, answer = post(
            f"{witness.url.rstrip('/')}/add-checkpoint", ("\n".join(lines) + f"\n\n{row.note}").encode()
        )
        if status != 409:
            break
        size = answer.decode("ascii", "replace").strip()
        if not size.isdigit() or int(size) > row.size:
            raise WitnessRefused(f"it says it knows a log of {size[:20]!r} leaves, and ours has {row.size}")
        known = int(size)
    if status != 200:
        raise WitnessRefused(f"it answered {status}: {answer[:200].decode('utf-8', 'replace')}")
    checkpoint = Checkpoint(origin_of(tenant), row.size, bytes(row.root))
    for line in answer.decode("utf-8", "replace").split("\n"):
        if line.startswith("\u2014 "):
            check_cosignature(line, checkpoint, witness.vkey)
            return line
    raise WitnessRefused("its answer holds no signature line")


def https_post(witness: Witness, url: str, body: bytes, *, call: outbound.Call = outbound.call) -> tuple[int, bytes]:
    request = Request(url, "POST", body, {"Content-Type": "text/plain; charset=utf-8"})
    answer = call(request, allow_private=witness.allow_private, bounds=BOUNDS)
    return answer.status, answer.body


def cosigned_note(tenant: Tenant, size: int) -> str:
    """The note of the checkpoint of this size, with the lines of all witnesses that cosigned it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COSIGNED} FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s AND size = %s",
            [tenant.pk, EPOCH, size],
        )
        return cursor.fetchone()[0]


def witnessed_size(tenant: Tenant) -> int | None:
    """The newest size that as many witnesses as the tenant's quorum have cosigned; None when there is no quorum to
    reach.
    """
    if not tenant.witness_quorum:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(max(size), 0) FROM (SELECT size FROM ledger_cosignature WHERE tenant_id = %s AND epoch ="
            " %s"
            " GROUP BY size HAVING count(*) >= %s) reached",
            [tenant.pk, EPOCH, tenant.witness_quorum],
        )
        return cursor.fetchone()[0]


def watch(tenants: Iterable[Tenant], *, now: Callable[[], datetime]) -> None:
    """One round over all tenants that have witnesses."""
    for tenant in tenants:
        if Witness.objects.filter(tenant=tenant, is_active=True).exists():
            submit_all(tenant, now=now)
