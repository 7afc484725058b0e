"""The key that signs our signals: RSA, since receivers of the CAEP interoperability profile verify RS256.

It is sealed in the database (sources/sealed.py), so that every process signs with the same one and nobody reads it there.
"""

from functools import lru_cache
from typing import Any

from django.db import connection, transaction
from joserfc import jws
from joserfc.jwk import RSAKey

from auditlog.database import clock
from auditlog.models import Tenant
from auditlog.sources import sealed

NAME = "SIGNAL_KEY"
TYP = "secevent+jwt"  # RFC 8417 section 2.3


def signed(claims: bytes, *, typ: str = TYP) -> str:
    """One SET, or another statement of ours, in compact form. Raises ConfigurationError where no key can be opened."""
    key = _key()
    header = {"alg": "RS256", "typ": typ, "kid": key.thumbprint()}
    return jws.serialize_compact(header, claims, key, algorithms=["RS256"])


def public_jwks() -> list[dict[str, Any]]:
    """Our public keys, the one before the last too; none before the first signal."""
    tenant = Tenant.objects.filter(name="answerable").first()
    found = [sealed.opened(tenant, name) for name in (NAME, f"{NAME}_OLD")] if tenant else []
    return [_public(pem) for pem in found if pem]


@lru_cache(maxsize=4)
def _public(pem: bytes) -> dict[str, Any]:
    """Anybody may ask for it, and reading a private key takes long."""
    key = RSAKey.import_key(pem)
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "alg": "RS256", "use": "sig"}


def _key() -> RSAKey:
    with connection.cursor() as cursor:
        cursor.execute("SELECT service_tenant()")
        tenant = Tenant.objects.get(pk=cursor.fetchone()[0])
        pem = sealed.opened(tenant, NAME)
        if pem is None:
            with transaction.atomic():
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('answerable.signal-key'))")
                sealed.forget()
                pem = sealed.opened(tenant, NAME)
                if pem is None:
                    pem = RSAKey.generate_key(3072).as_pem(private=True)
                    sealed.seal(tenant, NAME, pem, now=clock.now())
    return _private(pem)


@lru_cache(maxsize=2)
def _private(pem: bytes) -> RSAKey:
    return RSAKey.import_key(pem)
