"""What is handed in is scanned where there is a scanner: a small server that speaks clamd's INSTREAM."""

import socket
import threading

import pytest

from auditlog.core.errors import NotPossible, NotScanned
from auditlog.sources import scan as scanner
from auditlog.sources.scan import scan

BAD = b"X5O!P%@AP-what-the-scanner-knows"


class Clamd:
    """Answers what it was given; `answer` overrides the verdict. None: it says nothing."""

    def __init__(self, family, address):
        self.taken, self.answer = [], ""
        self._server = socket.socket(family, socket.SOCK_STREAM)
        self._server.bind(address)
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self):
        return self._server.getsockname()[1]

    def close(self):
        self._server.close()

    def _serve(self):
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            with line, line.makefile("rb") as file:
                if file.read(10) != b"zINSTREAM\0":
                    continue
                body = b""
                while length := int.from_bytes(file.read(4), "big"):
                    body += file.read(length)
                self.taken.append(body)
                if self.answer is not None:
                    said = self.answer or ("stream: Eicar-Test\n<b>Signature FOUND" if BAD in body else "stream: OK")
                    line.sendall(said.encode() + b"\0")


@pytest.fixture(params=["tcp", "unix"])
def clamd(request, tmp_path, monkeypatch):
    path = str(tmp_path / "clamd.sock")
    server = Clamd(socket.AF_INET, ("127.0.0.1", 0)) if request.param == "tcp" else Clamd(socket.AF_UNIX, path)
    monkeypatch.setenv("ANSWERABLE_CLAMD", f"127.0.0.1:{server.port}" if request.param == "tcp" else path)
    yield server
    server.close()


def test_a_file_is_given_to_the_scanner_whole(clamd):
    body = bytes(range(256)) * 1_000
    scan(body)
    assert clamd.taken == [body]


def test_a_file_in_which_something_was_found_is_not_taken_and_its_name_is_no_markup(clamd):
    with pytest.raises(NotPossible, match=r"found Eicar-Test\?\?b\?Signature in this file"):
        scan(b"a" * 100_000 + BAD)


@pytest.mark.parametrize("answer", ["INSTREAM size limit exceeded. ERROR", "stream: OK then", "", None])
def test_a_scanner_without_a_verdict_lets_nothing_in(clamd, answer, monkeypatch):
    clamd.answer = "nonsense" if answer == "" else answer
    with pytest.raises(NotScanned):
        scan(b"harmless")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "/nothing/there", "nonsense"])
def test_a_scanner_that_is_away_lets_nothing_in(address, monkeypatch):
    monkeypatch.setenv("ANSWERABLE_CLAMD", address)
    with pytest.raises(NotScanned):
        scan(b"harmless")


def test_one_that_says_nothing_is_not_waited_for_for_long(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ANSWERABLE_CLAMD", f"127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(scanner, "WAIT", 0.2)
        with pytest.raises(NotScanned, match="TimeoutError"):
            scan(b"harmless")


def test_without_a_scanner_nothing_is_asked(monkeypatch):
    monkeypatch.delenv("ANSWERABLE_CLAMD", raising=False)
    scan(BAD)
