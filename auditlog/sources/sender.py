"""A sender as its format sees it: who it is, its keys, and its secrets, read only when a format asks for them."""

from collections.abc import Mapping

from auditlog import formats
from auditlog.core.wire.keys import Key
from auditlog.models import Source
from auditlog.sources.source_secrets import source_secret


def sender_of(
    source: Source, keys: Mapping[str, Key] | None = None, retired: frozenset[str] = frozenset()
) -> formats.Sender:
    return formats.Sender(
        tenant=source.tenant.name,
        name=source.name,
        issuer=source.issuer,
        provider=source.provider,
        audience=source.audience,
        keys=keys or {},
        retired=retired,
        secret=lambda: source_secret(source.secret_env, source.tenant) if source.secret_env else None,
        old_secret=lambda: source_secret(f"{source.secret_env}_OLD", source.tenant) if source.secret_env else None,
    )
