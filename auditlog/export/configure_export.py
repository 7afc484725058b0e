"""Configure exports: who is sent the tenant's record. Every change appends a leaf, so nobody is added unseen."""

from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import transaction

from auditlog.core.errors import AddressRefused, ConfigurationError, NotFound, NotPossible
from auditlog.core.wire.request import Request
from auditlog.export.siem import end_of
from auditlog.export.stream import check_cursor
from auditlog.models import Export, ExportStream, Tenant
from auditlog.sources import outbound
from auditlog.sources.configuration import state
from auditlog.sources.configure import OURS, checked
from auditlog.sources.pull import alone

_STREAMS = {Export.What.BOTH: ("events", "findings"), Export.What.ALL: ("events", "findings", "cases")}


@transaction.atomic
def add_export(
    tenant: Tenant, name: str, *, kind: str, what: str, url: str, now: datetime, secret_env: str = "", token_env: str = "",
    token_scheme: str = Export.Scheme.BEARER, allow_private: bool = False, from_now: bool = False,
) -> Export:  # fmt: skip
    """Send the tenant's events, findings, cases to `url`, from the first on, or only what comes `from_now`.

    Raises ConfigurationError; nothing is changed then.
    """
    export = Export(
        tenant=tenant, name=name, kind=kind, what=what, url=url, secret_env=secret_env, token_env=token_env, token_scheme=token_scheme,
        allow_private=allow_private,
    )  # fmt: skip
    check_export(export)
    if Export.objects.filter(tenant=tenant, name=name).exists():
        raise ConfigurationError(f"there is an export {name!r} already in tenant {tenant.name!r}")
    export.save()
    for stream in ExportStream.What.values:
        if stream in _STREAMS.get(what, (what,)):
            position = end_of(tenant, stream) if from_now else 0
            ExportStream.objects.create(tenant=tenant, export=export, what=stream, position=position)
    _note_export(export, "added", now=now)
    return export


def check_export(export: Export) -> None:
    """Whether an export can be sent as it is configured. Raises ConfigurationError."""
    checked(export)
    for name in ("secret_env", "token_env"):
        if OURS.match(getattr(export, name)):
            raise ConfigurationError(f"{name}: {getattr(export, name)} is the service's own")
    if not (export.secret_env or export.token_env):
        raise ConfigurationError(
            "secret_env: expected a variable with a secret to sign with, or one with a token (token_env)"
        )
    try:
        outbound.check_url(export.url)
    except AddressRefused as error:
        raise ConfigurationError(f"url: {error}") from None


@transaction.atomic
def change_export(export: Export, *, now: datetime) -> None:
    """Keep what was changed of an export: where to, under which secrets, whether at all. It goes on from its position,
    at once.

    Raises ConfigurationError.
    """
    check_export(export)
    export.save(update_fields=["url", "secret_env", "token_env", "token_scheme", "allow_private", "state"])
    ExportStream.objects.filter(tenant_id=export.tenant_id, export=export).update(due_at=None)
    _note_export(export, "changed", now=now)


@transaction.atomic
def remove_export(export: Export, *, now: datetime) -> None:
    id = export.pk
    export.delete()
    _note_export(export, "removed", now=now, id=id)


def set_cursor(
    export: Export, what: str, position: int | None, *, now: datetime, may_skip: bool = False
) -> tuple[int, int]:
    """Have one stream of an export go on from `position` (None: from the end), at once. Returns where it was, and is
    now.

    Back: what lies between is sent again, under the same ids. Forward: it is never sent, so that takes `may_skip`.
    Raises NotFound where it does not send that, NotPossible for a cursor beyond the end, or while a delivery is under
    way.
    """
    stream = ExportStream.objects.filter(tenant_id=export.tenant_id, export=export, what=what).first()
    if stream is None:
        raise NotFound(f"export {export.name} sends no {what}")
    with alone(stream, "export") as mine:
        if not mine:  # its end would put the old position back
            raise NotPossible(f"{export.name} is sending {what} right now: suspend it or try again")
        with transaction.atomic():
            stream = ExportStream.objects.select_for_update().get(pk=stream.pk)
            end = end_of(export.tenant, what)
            wanted = end if position is None else position
            check_cursor(wanted, end)
            if wanted > stream.position and not may_skip:
                raise NotPossible(
                    f"{what} from {stream.position:,} up to {wanted:,} would never be sent: that takes --skip"
                )
            before, stream.position, stream.due_at, stream.failures, stream.error = stream.position, wanted, None, 0, ""
            stream.save(update_fields=["position", "due_at", "failures", "error"])
            _note_export(export, "moved", now=now, stream=what, before=before, after=wanted)
    return before, wanted


def _note_export(export: Export, change: str, *, now: datetime, id: int | None = None, **more: Any) -> None:
    """Who gets the tenant's record is a leaf. Of the address the host and a digest: a path may be a secret after all."""
    state(
        export.tenant,
        export,
        {"change": f"export.{change}", "export": export.name, "kind": export.kind, "what": export.what, "state": export.state,
         "host": Request(export.url).host, "url_sha256": sha256(export.url.encode()).hexdigest(),
         "secret_env": export.secret_env, "token_env": export.token_env, "token_scheme": str(export.token_scheme),
         "allow_private": export.allow_private, **more},
        now=now, id=id,
    )  # fmt: skip
