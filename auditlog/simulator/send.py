"""Send prepared requests over many connections in one thread, as cheaply as Python can.

For measuring: what the sender of a load spends is taken from the service beside it, and `http.client` spends as much on a
small request as the service does.
"""

import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BETWEEN = 0.01  # seconds from one connection to the next


class Unexpected(Exception):
    """An answer other than the one that acknowledges all that was sent."""


@dataclass(slots=True)
class Sent:
    """What came of it: seconds in all, and of each request from its first byte to its answer's last."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Line:
    """One connection with one request on its way."""

    socket: socket.socket
    began: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: bytearray = field(default_factory=bytearray)


def send_all(port: int, path: str, bodies: Iterable[bytes], *, content_type: str, connections: int) -> Sent:
    """POST every body to a service on this machine, at most one at a time on each connection.

    The connections come one after another, each sending at once, as those of many senders do: of a burst, or of idle
    ones, a single worker of the service may take nearly all.

    Raises Unexpected with the first answer that is not 202, nor 200 with an empty `setErrs` (RFC 8935, a batch).
    """
    sent, pending = Sent(), iter(bodies)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: {content_type}\r\nContent-Length: "
    selector = selectors.DefaultSelector()
    began = opening = time.perf_counter()
    try:
        while connections or selector.get_map():
            if connections and time.perf_counter() >= opening:
                connections, opening = connections - 1, opening + BETWEEN
                line = _Line(socket.create_connection(("127.0.0.1", port), timeout=60))
                line.socket.setblocking(False)
                line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(line.socket, selectors.EVENT_READ, line)
                _next(selector, line, head, pending)
            ready = selector.select(timeout=BETWEEN if connections else 60)
            if not ready and not connections:
                raise Unexpected("no answer for 60 s")
            for key, events in ready:
                line: _Line = key.data
                if events & selectors.EVENT_WRITE:
                    _write(selector, line)
                if events & selectors.EVENT_READ and _read(line):
                    sent.latencies.append(time.perf_counter() - line.began)
                    _next(selector, line, head, pending)
    finally:
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()
    sent.seconds = time.perf_counter() - began
    return sent


def _next(selector: selectors.BaseSelector, line: _Line, head: str, pending: Iterator[bytes]) -> None:
    body = next(pending, None)
    if body is None:
        selector.unregister(line.socket)
        line.socket.close()
        return
    line.unsent = memoryview(f"{head}{len(body)}\r\n\r\n".encode() + body)
    line.began = time.perf_counter()
    _write(selector, line)


def _write(selector: selectors.BaseSelector, line: _Line) -> None:
    """Send what the other side takes; wait for room only where there was none."""
    try:
        while line.unsent:
            line.unsent = line.unsent[line.socket.send(line.unsent) :]
    except BlockingIOError:
        pass
    wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.unsent else 0)
    if selector.get_key(line.socket).events != wanted:
        selector.modify(line.socket, wanted, line)


def _read(line: _Line) -> bool:
    """Whether the answer is whole. One that is not an acknowledgement ends everything."""
    got = line.socket.recv(65536)
    if not got:
        raise Unexpected(f"the connection was closed after {bytes(line.answer[:300])!r}")
    line.answer += got
    headers, found, rest = line.answer.partition(b"\r\n\r\n")
    if not found or len(rest) < _length(headers):
        return False
    status = line.answer[9:12]
    if status != b"202" and not (status == b"200" and b'"setErrs": {}' in rest):
        raise Unexpected(f"{status.decode()}: {bytes(rest[:300])!r}")
    line.answer.clear()
    return True


def _length(headers: bytes) -> int:
    for name, _, value in (header.partition(b":") for header in headers.split(b"\r\n")):
        if name.lower() == b"content-length":
            return int(value)
    raise Unexpected(f"an answer without Content-Length: {bytes(headers[:300])!r}")
