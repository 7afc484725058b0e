"""The web application as the server runs it: what is slow outside never holds a thread inside.

A request gets a thread once all of it has arrived, and gives it back before its answer has left. Until then, and after,
it costs a connection and the bytes that it holds: a body has a deadline that moves with what arrives, a size, and a
share of what all bodies together may hold. The server (granian) ends headers that do not come to their end.

What a client says of itself in the place of a proxy is dropped, unless it is one (`ANSWERABLE_PROXIES`).
"""

import asyncio
import io
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from config.wsgi import application as django

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
THREADS = 16
LARGEST = (
    17 * 1024 * 1024
)  # bytes of a body: a delivery's 16 MiB and a little, so that the door says what is wrong with it
ROOM = (
    int(os.environ.get("ANSWERABLE_BODY_ROOM_MB", "128")) * 1024 * 1024
)  # of all bodies of this process that wait or are worked on
BEFORE = 10.0  # seconds for the first bytes of a body; then one more for every
SLOWEST = 32 * 1024  # bytes
LONGEST = 300.0  # seconds for all of it
UNREAD = 30.0  # seconds that a part of an answer waits for its reader
PART = 64 * 1024
CROWDED = "too many bodies are arriving at once: send it again in a moment"
# What says who asks, or where the application lies: a proxy's to say, and nobody else's.
OF_PROXIES = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-prefix x-forwarded-server x-forwarded-ssl"
    b" x-forwarded-user x-real-ip x-client-ip x-scheme".split()
)
OF_NOBODY = frozenset(
    b"script-name path-info remote-user remote-addr x-script-name x-remote-user x-original-url x-rewrite-url proxy transfer-encoding".split()
)


class Cut(Exception):
    """A body that is not read on."""

    def __init__(self, status: int, err: str, said: str) -> None:
        super().__init__(said)
        self.status, self.err = status, err


@dataclass(eq=False, slots=True)
class Body:
    """One body while it arrives and is worked on."""

    began: float = field(default_factory=time.monotonic)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    is_whole: bool = False
    is_cut: bool = False
    reader: asyncio.Task | None = None

    def deadline(self) -> float:
        """When it is too slow, by the monotonic clock, which the event loop goes by too."""
        return self.began + min(LONGEST, BEFORE + self.size / SLOWEST)

    def cut(self) -> None:
        """End the reading of it, from elsewhere."""
        if not self.is_cut and self.reader is not None:
            self.is_cut = True
            self.reader.cancel()


class Room:
    """What all bodies of this process hold. Where one more byte has none, the largest body that is still arriving is
    cut: whoever holds much for long makes room for who sends little.
    """

    def __init__(self, size: int) -> None:
        self.size, self.held = size, 0
        self._bodies: set[Body] = set()

    def take(self, body: Body, part: bytes) -> None:
        """Raises Cut where this body is the one."""
        self._bodies.add(body)
        while self.held + len(part) > self.size:
            arriving = [each for each in self._bodies if not each.is_whole and each.size]
            largest = max(arriving, key=lambda each: (each.size, -each.began), default=None)
            if largest is None or largest is body or largest.size < body.size + len(part):
                raise Cut(503, "unavailable", CROWDED)
            largest.cut()
            self.free(largest)
        self.held += len(part)
        body.size += len(part)
        body.parts.append(part)

    def free(self, body: Body) -> None:
        if body in self._bodies:
            self._bodies.discard(body)
            self.held -= body.size
            body.parts.clear()


class Application:
    """The WSGI application `app` behind ASGI."""

    def __init__(self, app: Callable, *, threads: int = THREADS, room: int = ROOM, proxies: str | None = None) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._room = Room(room)
        self._proxies = [
            ip_network(each.strip(), strict=False)
            for each in (_proxies() if proxies is None else proxies).split(",")
            if each.strip()
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        body = Body()
        try:
            try:
                await self._read(scope, receive, body)
            except Cut as cut:
                self._room.free(body)
                await _refuse(send, cut)
                return
            environ = self.environ(scope, b"".join(body.parts))
            body.parts.clear()  # one copy; its size stays counted until it was worked on
            await self._answer(environ, send)
        except (TimeoutError, ConnectionError):
            pass  # nobody to tell
        finally:
            self._room.free(body)

    async def _read(self, scope: Message, receive: Receive, body: Body) -> None:
        """All of the body. Raises Cut."""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value[:19]) > LARGEST:
                raise Cut(413, "invalid_request", f"a request has at most {LARGEST:,} bytes, found {int(value[:19]):,}")
        body.reader = asyncio.current_task()
        try:
            async with asyncio.timeout(BEFORE) as patience:
                is_more = True
                while is_more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        # So granian tells of who hung up, and of chunks whose end it cannot tell: the latter waits for
                        # an answer.
                        raise Cut(
                            400,
                            "invalid_request",
                            "the body is cut short, or its chunks cannot be read: expected as many bytes as they say",
                        )
                    part, is_more = message.get("body", b""), message.get("more_body", False)
                    if body.size + len(part) > LARGEST:
                        raise Cut(413, "invalid_request", f"a request has at most {LARGEST:,} bytes, found more")
                    if part:
                        self._room.take(body, bytes(part))
                        patience.reschedule(body.deadline())
        except TimeoutError:
            raise Cut(
                408,
                "invalid_request",
                f"the body comes too slowly: {body.size:,} bytes in {time.monotonic() - body.began:.0f} s",
            ) from None
        except asyncio.CancelledError:
            if not body.is_cut:
                raise
            body.reader.uncancel()
            raise Cut(503, "unavailable", CROWDED) from None
        finally:
            body.reader = None
        body.is_whole = True

    async def _answer(self, environ: Message, send: Send) -> None:
        loop = asyncio.get_running_loop()
        started, content, rest = await loop.run_in_executor(self._pool, partial(_work, self._app, environ))
        status, headers = started
        await send({
            "type": "http.response.start", "status": int(status[:3]),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        })  # fmt: skip
        try:
            if rest is None and len(content) <= PART:
                await send({"type": "http.response.body", "body": content, "more_body": False})
                return
            for at in range(0, len(content), PART):
                is_last = rest is None and at + PART >= len(content)
                await asyncio.wait_for(
                    send({"type": "http.response.body", "body": content[at : at + PART], "more_body": not is_last}),
                    UNREAD,
                )
            while rest is not None:
                # Only files come in parts: what reads them holds nothing that belongs to a thread.
                part = await loop.run_in_executor(self._pool, next, rest, None)
                await asyncio.wait_for(
                    send({"type": "http.response.body", "body": part or b"", "more_body": part is not None}), UNREAD
                )
                if part is None:
                    break
        finally:
            if rest is not None:
                await loop.run_in_executor(self._pool, rest.close)

    def environ(self, scope: Message, body: bytes) -> Message:
        """The request as WSGI has it (PEP 3333). Nothing in it that names the application or the asker comes from a
        header, but from a proxy's.
        """
        peer = (scope.get("client") or ("", 0))[0] or ""
        is_proxy = self._is_proxy(peer)
        path = scope.get("raw_path") or scope["path"].encode()
        query = scope.get("query_string", b"").decode("latin-1")
        host, port = scope.get("server") or ("localhost", 80)
        environ: Message = {
            "REQUEST_METHOD": scope["method"], "SCRIPT_NAME": "", "PATH_INFO": unquote_to_bytes(path.partition(b"?")[0]).decode("latin-1"),
            "QUERY_STRING": query, "RAW_URI": path.partition(b"?")[0].decode("latin-1") + (f"?{query}" if query else ""),
            "SERVER_NAME": str(host), "SERVER_PORT": str(port), "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}", "REMOTE_ADDR": peer,
            "wsgi.version": (1, 0), "wsgi.url_scheme": scope.get("scheme", "http"), "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
            "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
        }  # fmt: skip
        for raw_name, raw_value in scope["headers"]:
            name = raw_name.lower()
            # An underscore would be read as a hyphen: nobody's header is another's.
            if b"_" in name or name in OF_NOBODY or (name in OF_PROXIES and not is_proxy):
                continue
            key, value = name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1").strip()
            if key == "CONTENT_TYPE":
                environ[key] = value
            elif key != "CONTENT_LENGTH":
                key = f"HTTP_{key}"
                environ[key] = (
                    f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}" if key in environ else value
                )
        environ["CONTENT_LENGTH"] = str(len(body))
        if is_proxy and (said := environ.get("HTTP_X_FORWARDED_FOR")):
            environ["REMOTE_ADDR"] = self._client(said, peer)
        return environ

    def _is_proxy(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self._proxies)
        except ValueError:  # a unix socket: whoever may open it is let
            return bool(self._proxies) and not address

    def _client(self, said: str, peer: str) -> str:
        """The last address of the list that no proxy of ours has: what stands before it anybody can write."""
        for address in reversed([each.strip() for each in said.split(",")]):
            try:
                ip_address(address)
            except ValueError:
                return peer
            if not self._is_proxy(address):
                return address
        return peer


def _proxies() -> str:
    """Addresses and networks of the proxies in front: given, else this host where TLS ends in front of us, else none."""
    given = os.environ.get("ANSWERABLE_PROXIES")
    return given if given is not None else "127.0.0.0/8,::1" if os.environ.get("ANSWERABLE_HTTPS") == "1" else ""


async def _refuse(send: Send, cut: Cut) -> None:
    content = orjson.dumps(
        {"err": cut.err, "description": str(cut), "title": "Request refused", "status": cut.status, "detail": str(cut)}
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    if cut.status == 503:
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": cut.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def _work(app: Callable, environ: Message) -> tuple[tuple[str, list], bytes, Iterator[bytes] | None]:
    """Run the application, in one thread: what was started, the content, and what comes in parts after it."""
    started: list = []
    answer = app(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
    if getattr(answer, "streaming", True):
        return started[0], b"", _Parts(answer)
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    return started[0], b"" if environ["REQUEST_METHOD"] == "HEAD" else content, None


class _Parts:
    """An answer in parts, with its end."""

    def __init__(self, answer: Iterable[bytes]) -> None:
        self._answer, self._parts = answer, iter(answer)

    def __next__(self) -> bytes:
        return next(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def close(self) -> None:
        if hasattr(self._answer, "close"):
            self._answer.close()


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def die_with(parent: int) -> None:
    """End when the process that started this one has: a worker without one would hold the port for good."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if os.environ.get("ANSWERABLE_SERVER") == str(os.getppid()):
    die_with(os.getppid())
    # One thread does the talking and the others the work: at Python's 5 ms each word waits for every one of them.
    sys.setswitchinterval(0.0005)
application = Application(django)
