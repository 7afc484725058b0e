"""Message authentication with a shared secret: `t=<unix>,v1=<hex>`, HMAC-SHA256 of `<t>.<raw body>` (Stripe's
webhooks, ACP's Merchant-Signature, our recorder). It shows that one of the two who hold the secret wrote it.

The age of `t` is not judged: an event's identity makes a replay harmless, and a late delivery is evidence too.
"""

import hmac
from collections.abc import Sequence

from auditlog.core.errors import BadSignature, UnknownKey


def check_timestamped_mac(body: bytes, header: str, secrets: Sequence[bytes], *, name: str) -> None:
    """Any `v1` that fits any secret will do (two overlap while one is rolled, on either side); other schemes are
    ignored.
    """
    if not secrets:
        raise UnknownKey("this source's secret is not set where the service runs")
    time, given = "", []
    for part in header.split(","):
        scheme, _, value = part.strip().partition("=")
        if scheme == "t":
            time = value
        elif scheme == "v1":
            given.append(value)
    if not time.isascii() or not time.isdigit() or not given:
        raise BadSignature(f"expected a {name} header of t=<seconds>,v1=<hex>")
    wanted = [hmac.new(secret, time.encode() + b"." + body, "sha256").hexdigest().encode() for secret in secrets]
    if not any(hmac.compare_digest(one, value.encode()) for one in wanted for value in given[:20]):
        raise BadSignature(f"no v1 signature in {name} fits the received bytes")
