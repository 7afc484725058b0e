"""A static token: what a sender without signatures puts into a header, the same each time (evidence grade D)."""

import hmac
from collections.abc import Sequence

from auditlog.core.errors import BadSignature, UnknownKey


def check_static_token(given: str, secrets: Sequence[bytes], *, header: str = "Authorization") -> None:
    """Raises unless the header holds one of the secrets, as it is or after `Bearer` (or `Splunk`, as its event
    collector has it). Takes the same time either way.
    """
    if not secrets:
        raise UnknownKey("this source's secret is not set where the service runs")
    sent = given.strip().encode()
    bare = sent[7:].strip() if sent[:7].lower() in (b"bearer ", b"splunk ") else sent
    if not any([hmac.compare_digest(sent, secret) | hmac.compare_digest(bare, secret) for secret in secrets]):
        raise BadSignature(
            f"expected the source's secret in the {header} header, found {'another' if given else 'none'}"
        )
