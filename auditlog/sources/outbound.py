"""Outbound: the one way in which this service calls other hosts.

https only. The name is resolved once, the addresses are judged, and the connection goes to the very address that was
judged, so a name that answers differently the second time (DNS rebinding) gains nothing. No redirect is followed, no
proxy of the environment is used, every wait is bounded and so is every byte read. A private certificate authority is
trusted by `SSL_CERT_FILE`, or by `authorities` here.
"""

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from auditlog.core.errors import AddressRefused, AnswerTooLarge, AnswerTooLate, HostUnreachable, UnexpectedAnswer
from auditlog.core.wire.request import Request, Response

Call = Callable[
    ..., Response
]  # (request, *, allow_private, bounds); what verbs take, so that tests can add `authorities`
Resolve = Callable[[str, int], list[str]]
MAX_HEAD = 256 * 1024  # bytes of status line, headers and framing beside the body
MAX_TRIED = 3  # addresses of one host

# IANA special-purpose registries (RFC 6890). What an operator may open for a source is the first group only: nobody
# has a reason to call a cloud's metadata service (link-local), a group of hosts, or a translation of another address.
_PRIVATE = [IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8")]
_NEVER = [
    IPv4Network(n)
    for n in ("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
              "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
]  # fmt: skip
_PRIVATE_6 = [IPv6Network("fc00::/7"), IPv6Network("::1/128")]
_GLOBAL_6 = IPv6Network("2000::/3")
_NEVER_6 = [
    IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]  # Teredo and 6to4 among them


MOST_ASKED = 3_600  # seconds that another host may ask to be left alone for


def wait_after(attempts: int, error: Exception, waits: Sequence[int]) -> timedelta:
    """How long to wait after so many failed tries: later each time, and as long as the other side asks for."""
    asked = getattr(error, "retry_after", None) or 0
    return timedelta(seconds=max(waits[min(attempts, len(waits)) - 1], min(asked, MOST_ASKED)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds and bytes. `total` is for all of it, from the name to the last byte."""

    connect: float = 5.0
    read: float = 10.0
    total: float = 20.0
    size: int = 1024 * 1024


def call(
    request: Request,
    *,
    allow_private: bool = False,
    bounds: Bounds = Bounds(),
    authorities: str | None = None,
    resolve: Resolve | None = None,
) -> Response:
    """Carry out one request. Any status is an answer, a redirect too. Raises OutboundError, which names the host only.

    `authorities`: certificates in PEM to trust instead of the system's.
    """
    deadline = time.monotonic() + bounds.total
    parts = _checked(request)
    host, port = parts.hostname, parts.port or 443
    addresses = permitted(host, _resolved(host, port, resolve or _lookup, deadline), allow_private=allow_private)
    line = _connected(host, port, addresses, ssl.create_default_context(cadata=authorities), bounds, deadline)
    try:
        return _exchanged(request, parts, _Bounded(line, bounds, deadline), bounds)
    except TimeoutError:
        raise AnswerTooLate(f"{host} did not answer within {bounds.read:g} s, or {bounds.total:g} s in all") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        # Of what the host sent, a broken first line could be anything: only the kind is told.
        raise HostUnreachable(f"{host} broke off: {type(error).__name__}") from None
    finally:
        line.close()


def check_url(url: str) -> None:
    """Whether `url` is one that `call` could be given; its host is not looked up. Raises AddressRefused."""
    _checked(Request(url))


def permitted(host: str, addresses: Iterable[str], *, allow_private: bool) -> list[str]:
    """Those of the host's addresses that may be called. Raises AddressRefused when none is."""
    found = list(addresses)
    good = [address for address in found if _why_not(address, allow_private=allow_private) is None]
    if good:
        return good
    whys = sorted({_why_not(address, allow_private=allow_private) or "" for address in found})
    raise AddressRefused(f"{host} is at {', '.join(whys) or 'no address'}, which this service does not call")


def _why_not(text: str, *, allow_private: bool) -> str | None:
    """What is wrong with an address, or None."""
    if "%" in text:
        return "a link-local address"
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return "an IPv4 address written as an IPv6 one"
    private = _PRIVATE if isinstance(address, IPv4Address) else _PRIVATE_6
    if any(address in network for network in private):
        return None if allow_private else "a private or loopback address"
    if isinstance(address, IPv4Address):
        wrong = any(address in network for network in _NEVER)
    else:  # NAT64 (64:ff9b::/96), link-local and multicast lie outside of global unicast
        wrong = address not in _GLOBAL_6 or any(address in network for network in _NEVER_6)
    return "a link-local, multicast, translated or reserved address" if wrong else None


def _checked(request: Request) -> SplitResult:
    """Everything that http.client would refuse with the value in its message is refused here without it."""
    url = request.url
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for what is no port
    except ValueError:
        raise AddressRefused("expected an https address, found one that cannot be read") from None
    if parts.scheme != "https":
        raise AddressRefused(f"expected an https address, found scheme {parts.scheme[:20]!r}")
    if not parts.hostname:
        raise AddressRefused("expected an https address with a host")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(
            f"the address of {parts.hostname[:253]} holds a user name: credentials come from the environment"
        )
    if parts.fragment:
        raise AddressRefused(f"the address of {parts.hostname[:253]} has a fragment")
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url or len(url) > 4000:
        raise AddressRefused("expected an https address in printable ASCII, without spaces")
    for name, value in request.headers.items():
        if not (value.isascii() and value.isprintable()):
            raise UnexpectedAnswer(f"the value of header {name} cannot be sent: expected printable ASCII")
    return parts


def _lookup(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _resolved(host: str, port: int, resolve: Resolve, deadline: float) -> list[str]:
    """The host's addresses. The system's resolver knows no deadline, so it is waited for from outside."""
    found: list[list[str] | OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found.append(resolve(host, port))
        except (OSError, UnicodeError) as error:
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(max(0.0, min(5.0, deadline - time.monotonic())))
    if not found:
        raise AnswerTooLate(f"the name {host} was not resolved in time")
    if isinstance(found[0], Exception):
        raise HostUnreachable(f"no such host: {host}")
    return found[0]


def _connected(
    host: str, port: int, addresses: list[str], context: ssl.SSLContext, bounds: Bounds, deadline: float
) -> ssl.SSLSocket:
    """A TLS connection to one of the addresses, whose certificate is for `host`. Raises OutboundError."""
    late, last, ended = False, "no address", threading.Event()
    for address in addresses[:MAX_TRIED]:
        left = min(bounds.connect, deadline - time.monotonic())
        if left <= 0:
            late = True
            break
        line = None
        try:
            line = socket.create_connection((address, port), timeout=left)
            line = context.wrap_socket(line, server_hostname=host, do_handshake_on_connect=False)
            # A handshake has a time limit for each read only, so the whole of it is ended from outside.
            with _ended_at(line, min(deadline, time.monotonic() + bounds.connect)) as ended:
                line.do_handshake()
                return line
        except ssl.SSLCertVerificationError as error:
            line.close()
            raise HostUnreachable(f"the certificate of {host} is not trusted: {error.verify_message}") from None
        except TimeoutError:
            late, last = True, "timed out"
        except OSError as error:
            late = late or ended.is_set()
            last = type(error).__name__
        if line is not None:
            line.close()
    if late:
        raise AnswerTooLate(f"{host} did not connect within {bounds.connect:g} s")
    raise HostUnreachable(f"{host} cannot be reached: {last}")


class _ended_at:
    """Shuts a socket down at a time, unless what is done with it is over by then."""

    def __init__(self, line: socket.socket, deadline: float) -> None:
        self.line, self.happened = line, threading.Event()
        self.timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._end)
        self.timer.daemon = True

    def _end(self) -> None:
        self.happened.set()
        with suppress(OSError):
            socket.socket.shutdown(self.line, socket.SHUT_RDWR)  # TLS's own would wait for the other side

    def __enter__(self) -> threading.Event:
        self.timer.start()
        return self.happened

    def __exit__(self, *_) -> None:
        self.timer.cancel()


class _Bounded:
    """A socket as http.client uses one: each wait ends at the deadline at the latest, and so does what may be read."""

    def __init__(self, line: ssl.SSLSocket, bounds: Bounds, deadline: float) -> None:
        self.line, self.bounds, self.deadline = line, bounds, deadline
        self.room = bounds.size + MAX_HEAD

    def _wait(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.line.settimeout(min(self.bounds.read, left))

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._wait()
            view = view[self.line.send(view) :]

    def makefile(self, mode: str, *_) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        pass  # the caller's


class _Reader(io.RawIOBase):
    def __init__(self, line: _Bounded) -> None:
        self.of = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self.of._wait()
        count = self.of.line.recv_into(buffer)
        self.of.room -= count
        if self.of.room < 0:
            raise AnswerTooLarge(f"the answer is longer than {self.of.bounds.size:,} bytes and its headers")
        return count


def _exchanged(request: Request, parts: SplitResult, line: _Bounded, bounds: Bounds) -> Response:
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 443)
    connection.default_port = 443
    connection.sock = line  # connected already, and over TLS: nothing is looked up again
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"User-Agent": "answerable", "Accept-Encoding": "identity", "Connection": "close", **request.headers}
    connection.request(request.method, target, request.body or (b"" if request.method == "POST" else None), headers)
    answer = connection.getresponse()
    if (answer.length or 0) > bounds.size:
        raise AnswerTooLarge(f"{parts.hostname} answers with {answer.length:,} bytes, expected at most {bounds.size:,}")
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnexpectedAnswer(f"{parts.hostname} sent a compressed answer, which was not asked for")
    body = answer.read(bounds.size + 1)
    if len(body) > bounds.size:
        raise AnswerTooLarge(f"{parts.hostname} answers with more than {bounds.size:,} bytes")
    if answer.length:
        raise HostUnreachable(f"{parts.hostname} broke off {answer.length:,} bytes before the end of its answer")
    return Response(answer.status, body, {name.lower(): value for name, value in answer.headers.items()})
