"""A static token: what a sender without signatures puts into a header, the same each time (evidence grade D)."""

import hmac

from auditlog.core.errors import BadSignature, UnknownKey


def check_static_token(given: str, secret: bytes | None, *, header: str = "Authorization") -> None:
    """Raises unless the header holds the secret, as it is or after `Bearer`. Takes the same time either way."""
    if not secret:
        raise UnknownKey("this source's secret is not set where the service runs")
    sent = given.strip().encode()
    bare = sent[7:].strip() if sent[:7].lower() == b"bearer " else sent
    if not hmac.compare_digest(sent, secret) | hmac.compare_digest(bare, secret):
        raise BadSignature(
            f"expected the source's secret in the {header} header, found {'another' if given else 'none'}"
        )
