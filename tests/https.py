"""A small real https server with a certificate authority of its own, for what the service fetches from outside."""

import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from auditlog.sources import outbound

NAMES = ("localhost", "outside.example")


@lru_cache(maxsize=1)
def authority() -> tuple[str, str]:
    """PEM of an authority, and of a certificate with its key for NAMES and 127.0.0.1."""
    now = datetime.now(UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' authority")])

    def made(name, issuer, public, signer, extensions):
        builder = (
            x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    root = made(root_name, root_name, root_key.public_key(), root_key, [
        (x509.BasicConstraints(True, None), True), (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), False)])  # fmt: skip
    leaf = made(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), root_name, key.public_key(), root_key, [
        (x509.SubjectAlternativeName([*map(x509.DNSName, NAMES), x509.IPAddress(ip_address("127.0.0.1"))]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)])  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return root, leaf + private.decode()


class Outside:
    """Answers by `answer(method, path, headers, body)` -> (status, headers, body); keeps what it was asked.

    A body that is a callable writes to the line itself, to misbehave.
    """

    def __init__(self, folder: Path, answer: Callable | None = None) -> None:
        self.answer = answer or (lambda method, path, headers, body: (200, {}, b"{}"))
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        root, chain = authority()
        (folder / "chain.pem").write_text(chain)
        self.authority_file = folder / "authority.pem"
        self.authority_file.write_text(root)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "chain.pem")
        outside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                self.request = context.wrap_socket(
                    self.request, server_side=True
                )  # in this thread, not the accepting one
                super().setup()

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = (self.command, self.path, {n.lower(): v for n, v in self.headers.items()}, body)
                outside.asked.append(asked)
                status, headers, body = outside.answer(*asked)
                if callable(body):
                    self.close_connection = True
                    body(self.wfile)
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that hangs up is what many tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"https://localhost:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def call(self) -> outbound.Call:
        """`outbound.call` that trusts this server's authority. The address is still judged."""
        return partial(outbound.call, authorities=authority()[0])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def dripping(text: bytes, every: float = 0.05):
    """A body that comes byte by byte."""

    def write(line):
        for n in range(len(text)):
            line.write(text[n : n + 1])
            line.flush()
            time.sleep(every)

    return write
