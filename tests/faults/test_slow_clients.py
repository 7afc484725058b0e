"""Fault: clients that are slow or hostile on purpose. Whoever is honest is served meanwhile, and what they hold is bounded."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MANY = 80
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def server(django_db_setup, tmp_path_factory):
    """The web server as quickstart runs it, with one worker."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("web") / "web.log"
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ANSWERABLE_BODY_ROOM_MB": "48",
        "ANSWERABLE_SECRET_KEY": "tests only",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "serve", "--port", str(port), "--workers", "1"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    for _ in range(300):
        try:
            if ask(port, "/healthz")[0] == 200:
                break
        except OSError:
            time.sleep(0.1)
    else:
        process.kill()
        pytest.fail(log.read_text())
    yield port, process
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def ask(port, path, body=None, headers=(), method=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(
            method or ("POST" if body is not None else "GET"),
            path,
            body=body,
            headers=dict(headers),
            encode_chunked=not isinstance(body, (bytes, type(None))),
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def opened(port, first=b""):
    line = socket.create_connection(("127.0.0.1", port), timeout=30)
    line.sendall(first)
    return line


HALF = {
    "a header that never ends": (b"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a"),
    "silence": (b"", b""),
    "a body a byte at a time": (
        b"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
        b"x",
    ),
    "a chunked body a byte at a time": (
        b"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
    ),
    "an answer that is not read": (b"GET /static/plotly/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3, b""),
}


@pytest.mark.parametrize("kind", HALF)
def test_while_many_clients_drip_everybody_else_is_served(server, kind):
    port, _ = server
    first, drip = HALF[kind]
    with ExitStack() as undo:
        lines = [undo.enter_context(closing(opened(port, first))) for _ in range(MANY)]
        stop = threading.Event()
        undo.callback(stop.set)
        threading.Thread(target=_drip, args=(lines, drip, stop), daemon=True).start()
        time.sleep(0.5)

        answers = [ask(port, "/healthz")[0] for _ in range(20)]
        posted = [ask(port, "/ingest/nobody", b"{}", {"Content-Type": "application/json"})[0] for _ in range(5)]

    assert answers == [200] * 20 and posted == [404] * 5


def _drip(lines, drip, stop):
    while drip and not stop.wait(0.3):
        for line in lines:
            try:
                line.sendall(drip)
            except OSError:
                continue


@pytest.mark.parametrize(
    "kind",
    [
        "a header that never ends",
        *(pytest.param(f"a {body} a byte at a time", marks=pytest.mark.slow) for body in ("body", "chunked body")),
    ],
)
def test_who_drips_is_cut_off(server, kind):
    port, _ = server
    first, drip = HALF[kind]
    with closing(opened(port, first)) as line:
        stop = threading.Event()
        threading.Thread(target=_drip, args=([line], drip, stop), daemon=True).start()
        line.settimeout(40)
        said = b""
        try:
            while part := line.recv(65536):
                said += part
        except ConnectionError:
            pass
        stop.set()

    assert not said or b" 408 " in said.split(b"\r\n")[0], said


def test_many_large_bodies_at_once_hold_no_more_than_their_room_and_a_small_one_comes_through(server):
    port, process = server
    before = resident(process.pid)
    head = b"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n"
    with ExitStack() as undo:
        lines = [undo.enter_context(closing(opened(port, head))) for _ in range(24)]
        senders = [threading.Thread(target=_send_most, args=(line,), daemon=True) for line in lines]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(15)

        assert ask(port, "/ingest/nobody", b"{}", {"Content-Type": "application/json"})[0] == 404
        assert resident(process.pid) - before < 48 * 1024 * 1024 * 4  # of 384 MB that they sent


def _send_most(line):
    """All of a body but its end, then nothing."""
    try:
        for _ in range(15):
            line.sendall(b"x" * 1_000_000)
    except OSError:
        pass


def resident(pid):
    """Bytes of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in [str(pid), *children])
    return pages * resource.getpagesize()


def test_a_body_larger_than_any_delivery_is_refused_before_it_is_read_whatever_its_framing(server):
    port, _ = server
    huge = 64 * 1024 * 1024

    with closing(
        opened(port, f"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nContent-Length: {huge}\r\n\r\n".encode())
    ) as line:
        assert b" 413 " in line.recv(65536).split(b"\r\n")[0]
    with closing(
        opened(port, b"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    ) as line:
        said = []
        reader = threading.Thread(target=lambda: said.append(line.recv(65536)))
        reader.start()
        try:
            for _ in range(huge // 1_000_000):
                line.sendall(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
        except OSError:
            pass
        reader.join(10)
        assert not said or b" 413 " in said[0].split(b"\r\n")[0]


def test_a_chunked_body_is_read_as_one_with_a_length(server):
    port, _ = server

    status, content = ask(
        port, "/ingest/nobody", iter([b"{", b"}"]), {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    )

    assert status == 404 and json.loads(content)["err"]


@pytest.mark.parametrize("body", [b"ZZ\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n"])
def test_chunks_that_cannot_be_read_are_the_senders_fault(server, body):
    port, _ = server
    line = opened(
        port, b"POST /ingest/conductor HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    )
    with closing(line):
        answer = line.recv(4096)

    assert answer.startswith(b"HTTP/1.1 400")


def test_pages_files_and_heads_are_whole(server):
    port, _ = server

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/static/plotly/plotly.min.js") as answer:
        content = answer.read()
        assert len(content) == int(answer.headers["Content-Length"]) > 1_000_000
    assert b"<form" in ask(port, "/login/")[1] and ask(port, "/login/", method="HEAD") == (200, b"")
    assert ask(port, "/static/plotly/plotly.min.js", method="HEAD") == (200, b"")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/static/../manage.py")
