"""Sender formats, one file each: verify received bytes, then parse them into native events. Pure.

A format module offers

    receive(delivery, sender) -> Received      verify, then parse: every statement of one delivery
    parse(raw, headers, sender) -> Event       the same parse of stored bytes, for the projector
    content(raw, headers) -> bytes             what makes two deliveries of one event the same statement
    ABOUT                                      what it is, for the person who connects it
    check_stored(raw, headers, sender)         only where `receive` cannot check stored bytes again
    CONTENT_TYPES, ENCODINGS                   media types it takes; content encodings (none when absent)
    handshake(headers, per_second) -> headers  what an OPTIONS request is answered with, where the protocol has one; None: not

    verification(headers) -> object            what a GET request is answered with, by which a sender sees that the address is ours; None: not
    is_rendering(before, now) -> bool          whether other content is the same event in another version of the sender's API

Where a sender announces more than it sends (`fetch.py` asks for it):

    API                                        the address of its API
    announced(raw, headers) -> [Announced]     what a stored statement says is there to be fetched
    fetch_request(asks, base) -> Request       how to ask for it; our key is added by whoever asks
    fetched(body, asks, sender) -> Statement   what came back

Where a sender is asked for its events (`poll.py` asks). A state is a JSON object, {} at first:

    poll_state(state, now) -> state            the state of a request made now
    poll_request(state, url) -> Request
    poll_response(body, state) -> Polled       the deliveries in an answer, and the state once they are durable
    receive_polled(delivery, sender)           in the place of `receive`, where what is polled is not signed
    poll_settled(state, appended, refused)     the state that also tells what became of each, by the names it had
    poll_closing(state, url) -> Request | None what is still to be said at the end; it leaves the state {}
    poll_restart(state) -> state               where the sender no longer knows the place we were at
    POLL_NEEDS_KEY                             False where it may be asked without a key

`receive` raises Refused when the delivery as a whole is no good; a bad statement among good ones is a Refused value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from auditlog.core.errors import ConfigurationError, Refused
from auditlog.core.event import Event
from auditlog.core.wire.keys import Key

NAMES = (
    "set", "stripe", "app", "projects_cli", "auth0", "keycloak", "ocsf", "cloudflare", "cloudtrail",
    "standard_webhooks", "cloudevents", "http_signatures", "caep", "ap2", "acp", "x402", "mpp", "peac",
    "github", "okta", "otlp", "litellm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delivery:
    """One HTTP request's worth of bytes, exactly as received. Header names are lower case."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]

    @property
    def encoding(self) -> str:
        """The content codings in lower case, "" for none: `identity` is none, and `x-gzip` is gzip (RFC 9110 8.4.1)."""
        given = (coding.strip().lower() for coding in self.headers.get("content-encoding", "").split(","))
        return ", ".join("gzip" if coding == "x-gzip" else coding for coding in given if coding not in ("", "identity"))


@dataclass(frozen=True, slots=True)
class Sender:
    """What a format may know of the source that sends."""

    tenant: str
    name: str
    issuer: str
    provider: str = ""
    audience: str = ""  # what its tokens are for, where that is not the tenant's name
    keys: Mapping[str, Key] = field(default_factory=dict)  # by kid
    retired: frozenset[str] = frozenset()  # kids that were good once
    secret: Callable[[], bytes | None] = lambda: None  # asked for only by formats with a shared secret
    old_secret: Callable[[], bytes | None] = lambda: None  # good beside it while a sender is switched over

    def secrets(self) -> list[bytes]:
        """Those that are set, without the line's end that pasting or a file leaves behind a secret."""
        return [clean for secret in (self.secret(), self.old_secret()) if secret and (clean := secret.rstrip(b"\r\n"))]


@dataclass(slots=True)
class Statement:
    """One verified statement of one event, ready to be appended."""

    source_event_id: str
    raw: bytes
    headers: bytes  # JCS of the signed headers; empty when the signature lies in the bytes
    grade: str
    key: str  # thumbprint, "-" for none
    event: Event
    notes: tuple[str, ...] = ()  # what was left out of it, because it was not what its field should hold


@dataclass(slots=True)
class Received:
    """`statements` by the name the sender gave each (a batch's `jti`), in order. `batch` asks for an RFC 8936 answer.

    `answer`: it was no delivery but the sender's question whether the address is ours, and this is what it is answered
    with.
    """

    statements: dict[str, Statement | Refused]
    batch: bool = False
    answer: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """Something to be fetched. The same `name` is fetched once; `asks` is what the request is made of, as JSON."""

    name: str
    asks: dict[str, str]


@dataclass(frozen=True, slots=True)
class Polled:
    """One answer of a source that is asked. `state` holds once the deliveries are durable; `more`: ask again at once."""

    deliveries: tuple[Delivery, ...]
    state: dict[str, Any]
    more: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """A format in words for users: the connect page and the table in the docs are made of it."""

    title: str
    sent: str  # how it is sent, with which content types
    authentication: str
    grade: str
    carries: str
    chains: str  # how its delegation chains are built, and in which order it gives them
    lacks: str
    tested: str
    against: tuple[
        str, ...
    ]  # what of the sender's own it was tested with: `library version`, or a page and when it was read
    connect: tuple[str, ...]  # steps, for str.format with `address` (of ingest) and `secret` (its variable's name)


def named(name: str) -> ModuleType:
    """The module of a format. Raises ConfigurationError for a name we do not have."""
    if name not in NAMES:
        raise ConfigurationError(f"no format {name!r}; there are: {', '.join(NAMES)}")
    return import_module(f"auditlog.formats.{name}")
