"""Scan: a file that somebody hands in, looked at by a malware scanner before it is kept (ClamAV's clamd, INSTREAM).

`ANSWERABLE_CLAMD` names the scanner: `host:port`, or the path of its socket. Without one nothing is scanned: files are
never opened here, and go out as attachments that no browser shows (help/asvs.md, 5.4.3). With one that does not answer,
nothing is taken.
"""

import os
import re
import socket
import time
from contextlib import closing

from auditlog.core.errors import NotPossible, NotScanned

WAIT = 10.0  # seconds for all of it
CHUNK = 64 * 1024
LONGEST = 4_096  # bytes of an answer
_FOUND = re.compile(r"stream: (.{1,200}) FOUND\Z", re.DOTALL)


def scan(body: bytes) -> None:
    """Raises NotPossible where the scanner found something, NotScanned where it did not answer."""
    address = os.environ.get("ANSWERABLE_CLAMD", "")
    if not address:
        return
    try:
        answer = _asked(address, body)
    except (OSError, ValueError) as error:
        raise NotScanned(f"the malware scanner does not answer ({type(error).__name__}): nothing was taken") from None
    if answer == "stream: OK":
        return
    if found := _FOUND.match(answer):
        name = re.sub(r"[^\w.:+-]", "?", found[1])[:100]
        raise NotPossible(f"the malware scanner found {name} in this file: it is not taken")
    raise NotScanned("the malware scanner gave no verdict on this file: nothing was taken")


def _asked(address: str, body: bytes) -> str:
    """clamd's answer. A chunk goes behind its length in four bytes, an empty one ends. Raises OSError, ValueError."""
    ends = time.monotonic() + WAIT
    with closing(_connected(address)) as line:
        line.sendall(b"zINSTREAM\0")
        for at in range(0, len(body), CHUNK):
            chunk = body[at : at + CHUNK]
            line.settimeout(_left(ends))
            line.sendall(len(chunk).to_bytes(4, "big") + chunk)
        line.sendall(bytes(4))
        answer = b""
        while b"\0" not in answer and len(answer) < LONGEST:
            line.settimeout(_left(ends))
            got = line.recv(LONGEST)
            if not got:
                break
            answer += got
    return answer.partition(b"\0")[0].decode("utf-8", "replace").strip()


def _connected(address: str) -> socket.socket:
    if address.startswith("/"):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(WAIT)
        line.connect(address)
        return line
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT)


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
