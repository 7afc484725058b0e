"""A request to another host and its answer, as formats compose and read them. `outbound.py` carries one out.

What may hold a secret (header values, bodies, a query) stands in no `repr`, so it reaches no log and no traceback.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

LONGEST_WAIT = 24 * 3600  # seconds; a host that says "in a year" is asked again tomorrow


@dataclass(frozen=True, slots=True)
class Request:
    url: str = field(repr=False)
    method: str = "GET"
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """What may be shown of the address: a path or a query can be a secret."""
        try:
            return (urlsplit(self.url).hostname or "")[:253]
        except ValueError:
            return ""

    def with_headers(self, **more: str) -> "Request":
        """The same with more headers; `_` in a name stands for `-`."""
        return Request(
            self.url, self.method, self.body, {**self.headers, **{n.replace("_", "-"): v for n, v in more.items()}}
        )


@dataclass(frozen=True, slots=True)
class Response:
    """Header names are lower case; the body is whole."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def retry_after(self, *, now: datetime) -> int | None:
        """Whole seconds that the host asks to be left alone (RFC 9110 section 10.2.3), or None when it does not say."""
        said = self.headers.get("retry-after", "").strip()
        if said.isascii() and said.isdigit():
            return min(int(said[:9]), LONGEST_WAIT)
        try:
            at = parsedate_to_datetime(said)
        except (TypeError, ValueError, IndexError):
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return min(max(0, round((at - now).total_seconds())), LONGEST_WAIT)
