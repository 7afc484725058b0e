"""Configure exports: who is sent the tenant's record. Every change appends a leaf, so nobody is added unseen."""

from datetime import datetime
from hashlib import sha256

from django.db import transaction

from auditlog import outbound
from auditlog.append import append_note
from auditlog.configure import OURS, checked
from auditlog.core.errors import AddressRefused, ConfigurationError
from auditlog.core.request import Request
from auditlog.models import Export, ExportStream, Tenant
from auditlog.siem import end_of


@transaction.atomic
def add_export(
    tenant: Tenant, name: str, *, kind: str, what: str, url: str, secret_env: str, now: datetime, allow_private: bool = False,
    from_now: bool = False,
) -> Export:  # fmt: skip
    """Send the tenant's events, findings or both to `url`, from the first on, or only what comes `from_now`.

    Raises ConfigurationError; nothing is changed then.
    """
    export = Export(tenant=tenant, name=name, kind=kind, what=what, url=url, secret_env=secret_env, allow_private=allow_private)
    check_export(export)
    if Export.objects.filter(tenant=tenant, name=name).exists():
        raise ConfigurationError(f"there is an export {name!r} already in tenant {tenant.name!r}")
    export.save()
    for stream in ExportStream.What.values:
        if what in (stream, Export.What.BOTH):
            position = end_of(tenant, stream) if from_now else 0
            ExportStream.objects.create(tenant=tenant, export=export, what=stream, position=position)
    _note_export(export, "added", now=now)
    return export


def check_export(export: Export) -> None:
    """Whether an export can be sent as it is configured. Raises ConfigurationError."""
    checked(export)
    if OURS.match(export.secret_env):
        raise ConfigurationError(f"secret_env: {export.secret_env} is the service's own")
    try:
        outbound.check_url(export.url)
    except AddressRefused as error:
        raise ConfigurationError(f"url: {error}") from None


@transaction.atomic
def change_export(export: Export, *, now: datetime) -> None:
    """Keep what was changed of an export: where to, under which secret, whether at all. It goes on from its position, at once.

    Raises ConfigurationError.
    """
    check_export(export)
    export.save(update_fields=["url", "secret_env", "allow_private", "state"])
    ExportStream.objects.filter(tenant_id=export.tenant_id, export=export).update(due_at=None)
    _note_export(export, "changed", now=now)


@transaction.atomic
def remove_export(export: Export, *, now: datetime) -> None:
    _note_export(export, "removed", now=now)
    export.delete()


def _note_export(export: Export, change: str, *, now: datetime) -> None:
    """Who gets the tenant's record is a leaf. Of the address the host and a digest: a path may be a secret after all."""
    append_note(
        export.tenant,
        "config",
        {"change": f"export.{change}", "export": export.name, "kind": export.kind, "what": export.what, "state": export.state,
         "host": Request(export.url).host, "url_sha256": sha256(export.url.encode()).hexdigest(),
         "secret_env": export.secret_env, "allow_private": export.allow_private},
        now=now,
    )  # fmt: skip
