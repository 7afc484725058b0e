"""Send signed events, from an orchestrator or anything else that acts: five lines, PyNaCl, no Django.

    from auditlog.emit import Emitter

    emitter = Emitter("https://log.example/ingest/conductor", issuer="https://conductor.example",
                      key="conductor.jwk", spool="/var/spool/conductor")
    emitter.emit("domain.registered", {"outcome": "success", "actor": {"iss": "https://conductor.example", "sub": "agent-7"},
                 "action": {"verb": "domain.register", "provider": "registrar", "target": {"type": "domain", "id": "acme.io"}}})

`emit` signs the event (RFC 8417, Ed25519), writes it to the spool and returns: it never waits for the network. A thread
sends in order, up to 500 in one request, and sends again with growing pauses while the service is away. A process that
was killed leaves its spool behind; the next Emitter on the folder sends it. Sending twice is safe, because the service
keeps an event once by its `jti`, so each is there exactly once. What the service refuses is not sent for ever: it
goes to a `.refused` file beside the spool, with the reason, and to `on_refused`. At exit the rest is flushed.

Several processes may share a folder: each locks a file of its own. The spool survives a killed process; `fsync=True`
makes it survive a power cut too. Without a folder it lives in an unnamed temporary file and dies with the process.

    python -m auditlog.emit new-key conductor.jwk        writes a private key, prints the public JWKS for the source
    python -m auditlog.emit test ADDRESS --issuer ISS --key conductor.jwk        sends one heartbeat and says what came back
"""

import argparse
import atexit
import fcntl
import http.client
import json
import logging
import os
import random
import ssl
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger(__name__)
MAX_SET = 256 * 1024
MAX_BATCH, MAX_BATCH_BYTES = 500, 4 * 1024 * 1024
LOCAL = ("localhost", "127.0.0.1", "::1")
# Not the fault of any event: the source is suspended, not made yet, or of another format. Somebody may be at it.
MISCONFIGURED = (401, 403, 404, 405, 415)
TRANSIENT = (408, 425, 429)


class SpoolFull(Exception):
    """The spool has its full size: the service was away for long. The event was not kept."""


class _Later(Exception):
    """Nothing was decided: send the same again. `misconfigured` says that waiting alone may not help."""

    def __init__(self, reason: str, *, wait: float = 0, misconfigured: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.misconfigured = wait, misconfigured


class Courier(ABC):
    """Delivers what was kept in a spool, in order, from one thread. Safe to use from many threads and after a fork.

    Who inherits says how some lines are sent (`_send`) and by what one is known (`_id`).
    """

    batch = MAX_BATCH  # lines sent in one request

    def __init__(
        self,
        address: str,
        *,
        spool: str | os.PathLike | None = None,
        max_spool_bytes: int = 1 << 30,
        fsync: bool = False,
        pause: float = 0.5,
        longest_pause: float = 60.0,
        patience: float = 3600.0,
        timeout: float = 10.0,
        exit_timeout: float = 5.0,
        on_refused: Callable[[str, str, str], None] | None = None,
    ) -> None:
        """`patience`: seconds that a service may answer that it does not know us (401, 403, 404) before its answer is taken
        for good. `on_refused(id, err, description)` is called from the sending thread.
        """
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL):
            raise ValueError(f"expected an https address, found {address!r}: what is sent is not secret without TLS")
        self.pause, self.longest_pause, self.patience, self.timeout = pause, longest_pause, patience, timeout
        self.on_refused = on_refused
        self._parts, self._connection = parts, None
        self._folder, self._most, self._fsync = spool and Path(spool), max_spool_bytes, fsync
        self._exit_timeout = exit_timeout
        self._starting = threading.Lock()
        self._start()
        atexit.register(self._at_exit)

    @abstractmethod
    def _id(self, line: bytes) -> str: ...

    @abstractmethod
    def _send(self, lines: list[bytes]) -> dict[str, tuple[str, str]] | None:
        """What was refused of a batch, by id, each with err and description. None: the batch as a whole is no good, so send
        less of it. Raises _Later when nothing was decided."""

    def _start(self) -> None:
        self._closing = self._hurry = False
        self._changed = threading.Condition()
        self._connection = None
        # Those that died before us first: theirs is the older news.
        self._spools = [*_Spool.left_behind(self._folder), _Spool(self._folder)]
        self._thread = threading.Thread(target=self._run, name="answerable-emit", daemon=True)
        self._thread.start()
        self._pid = os.getpid()

    def _keep(self, line: bytes) -> None:
        """Spool one line. Raises SpoolFull, or OSError when the disk does not take it."""
        if (
            os.getpid() != self._pid
        ):  # a fork: its parent sends what was spooled before, this process what it keeps itself
            with self._starting:
                if os.getpid() != self._pid:
                    self._start()
        with self._changed:
            if self._closing:
                raise RuntimeError("this emitter is closed")
            if sum(spool.size - spool.sent for spool in self._spools) + len(line) > self._most:
                raise SpoolFull(f"{self._most:,} bytes of events wait for {self._parts.netloc}")
            self._spools[-1].append(line, fsync=self._fsync)
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything emitted so far was answered. False when it was not in time; it stays in the spool."""
        with self._changed:
            self._hurry = True  # whoever waits wants to know now: no pause is slept out
            self._changed.notify_all()
            return self._changed.wait_for(self._is_empty, timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Flush and stop. What was not delivered stays in the folder for the next Emitter."""
        if (
            os.getpid() != self._pid
        ):  # a fork that emitted nothing has no thread, and its parent's files are not its own
            return True
        done = self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(1)  # a request under way holds nobody up: what it does not confirm is sent again
        atexit.unregister(self._at_exit)
        return done

    def __enter__(self) -> "Emitter":
        return self

    def __exit__(self, *args: object) -> None:
        self.close(self._exit_timeout)

    def _at_exit(self) -> None:
        self.close(self._exit_timeout)

    def _is_empty(self) -> bool:
        return all(spool.sent == spool.size for spool in self._spools)

    # --- the sending thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._send_all()
        finally:
            for spool in self._spools:
                spool.close()

    def _send_all(self) -> None:
        failures, refused_since, limit = 0, None, self.batch
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or not self._is_empty())
                if self._closing:
                    return
                spool = next(spool for spool in self._spools if spool.sent < spool.size)
            try:
                lines = spool.read(limit, self._id)
                verdicts = self._send(lines)
            except _Later as later:
                failures += 1
                if later.misconfigured:
                    refused_since = refused_since or time.monotonic()
                    if time.monotonic() - refused_since >= self.patience:
                        self._settle(spool, lines, {self._id(line): ("access_denied", str(later)) for line in lines})
                        continue
                else:
                    refused_since = None
                wait = max(later.wait, min(self.longest_pause, self.pause * 2 ** min(failures - 1, 20)))
                log.warning("%s; sending again in %.1f s", later, wait)
                self._sleep(wait * random.uniform(0.75, 1.25))  # many emitters must not come back in step
                continue
            except Exception:  # a spool that cannot be read, a defect: the host's thread must not die of it unheard
                failures += 1
                log.exception("the emitter cannot send")
                self._sleep(self.longest_pause)
                continue
            failures, refused_since = 0, None
            if verdicts is None:  # one of them, or their sum, is no good: halve until it stands alone
                limit = max(1, len(lines) // 2)
                continue
            self._settle(spool, lines, verdicts)
            limit = min(self.batch, limit * 2)

    def _sleep(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._hurry, seconds)
            self._hurry = False

    def _settle(self, spool: "_Spool", lines: list[bytes], verdicts: dict[str, tuple[str, str]]) -> None:
        """Remember the refused ones, then move on. A crash in between repeats the request, which changes nothing."""
        for line in lines:
            if (refusal := verdicts.get(id := self._id(line))) is not None:
                err, description = refusal
                log.error("%s was refused: %s: %s", id, err, description)
                spool.keep_refused(line, id, err, description)
                if self.on_refused:
                    try:
                        self.on_refused(id, err, description)
                    except Exception:  # the host's own code: its fault must not stop the sending
                        log.exception("on_refused failed")
        with self._changed:
            spool.advance(sum(len(line) + 1 for line in lines))
            if spool is not self._spools[-1] and spool.sent == spool.size:
                spool.close()
                self._spools.remove(spool)
            self._changed.notify_all()

    def _judged(
        self, status: int, body: bytes, retry_after: float, ids: list[str]
    ) -> dict[str, tuple[str, str]] | None:
        """What an answer that takes nothing means for these. Raises _Later when it may be another one next time."""
        said = f"{self._parts.netloc} answered {status}: {body[:300].decode('utf-8', 'replace')}"
        if status in MISCONFIGURED:
            raise _Later(said, misconfigured=True)
        if 400 <= status < 500 and status not in TRANSIENT:
            return None if len(ids) > 1 else dict.fromkeys(ids, ("invalid_request", said))
        raise _Later(said, wait=retry_after)

    def _post(self, body: bytes, **headers: str) -> tuple[int, bytes, float]:
        path = self._parts.path + (f"?{self._parts.query}" if self._parts.query else "")
        for attempt in (1, 2):
            fresh = self._connection is None
            if fresh:
                secure = self._parts.scheme == "https"
                more = {"context": ssl.create_default_context()} if secure else {}
                kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
                self._connection = kind(self._parts.hostname, self._parts.port, timeout=self.timeout, **more)
            try:
                self._connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
                answer = self._connection.getresponse()
                said = answer.read(8 * 1024 * 1024)
                if answer.will_close or not answer.isclosed():
                    self._hang_up()
                wait = answer.headers.get("Retry-After", "")
                # A service may ask for patience, not for ever.
                return answer.status, said, min(float(wait), 3600.0) if wait.isascii() and wait.isdigit() else 0.0
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                if (
                    fresh or attempt == 2
                ):  # a kept connection may have been closed while it was idle: that is no failure
                    raise _Later(f"{self._parts.netloc} cannot be reached: {type(error).__name__}: {error}") from None
        raise AssertionError("unreachable")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Emitter(Courier):
    """Signs events and delivers them."""

    def __init__(
        self,
        address: str,
        *,
        issuer: str,
        key: str | os.PathLike | Mapping[str, str],
        tenant: str = "default",
        **delivery: Any,
    ) -> None:
        """`key`: a private Ed25519 JWK (OKP), or the file that holds one; its `kid` is what the source knows it by.
        `delivery`: as for a Courier.
        """
        from nacl.signing import SigningKey  # here: the recorder, which signs nothing, needs no PyNaCl

        jwk = key if isinstance(key, Mapping) else json.loads(Path(key).read_text())
        if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or "d" not in jwk or not jwk.get("kid"):
            raise ValueError("expected a private Ed25519 JWK: kty OKP, crv Ed25519, d and kid")
        self.issuer, self.audience = issuer, f"urn:answerable:{tenant}"
        self._key = SigningKey(_unb64(jwk["d"]))
        self._header = _b64(_json({"alg": "EdDSA", "kid": jwk["kid"], "typ": "secevent+jwt"}))
        super().__init__(address, **delivery)

    def emit(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        principal: tuple[str, str] | None = None,
        at: float | None = None,
        txn: str = "",
        jti: str = "",
    ) -> str:
        """Sign one event and keep it for delivery. Returns its `jti`, under which the service knows it.

        `principal`: (iss, sub) of whose act it was. `at`: when it happened, Unix seconds; absent: now. Raises SpoolFull,
        OSError when the disk does not take it, or ValueError for an event that no service would take.
        """
        jti = jti or str(uuid.uuid4())
        now = round(time.time(), 6)
        claims: dict[str, Any] = {
            "iss": self.issuer, "iat": now, "toe": now if at is None else at, "jti": jti, "aud": [self.audience],
            "events": {f"urn:answerable:event:{event_type}:v1": dict(payload)},
        }  # fmt: skip
        if principal:
            claims["sub_id"] = {"format": "iss_sub", "iss": principal[0], "sub": principal[1]}
        if txn:
            claims["txn"] = txn
        signing_input = self._header + b"." + _b64(_json(claims))
        line = signing_input + b"." + _b64(self._key.sign(signing_input).signature)
        if len(line) > MAX_SET:
            raise ValueError(f"a signed event has at most {MAX_SET:,} bytes, found {len(line):,}")
        self._keep(line)
        return jti

    def _id(self, line: bytes) -> str:
        return _jti(line)

    def _send(self, lines: list[bytes]) -> dict[str, tuple[str, str]] | None:
        sets = {_jti(line): line.decode() for line in lines}
        status, body, retry_after = self._post(_json({"sets": sets}))
        if status == 200:
            try:
                answer = json.loads(body)
                taken = set(answer["ack"])
                refused = {
                    jti: (str(said.get("err", "")), str(said.get("description", "")))
                    for jti, said in answer["setErrs"].items()
                }
            except (ValueError, KeyError, TypeError, AttributeError):
                raise _Later("the answer is not one of an ingest address") from None
            if missing := sets.keys() - taken - refused.keys():
                raise _Later(f"the answer says nothing of {len(missing)} events")
            return refused
        return self._judged(status, body, retry_after, list(sets))


class _Spool:
    """Signed events, one a line, in a file locked by its process; beside it how many bytes of it were answered."""

    def __init__(self, folder: Path | None, path: Path | None = None, file=None) -> None:
        if folder is not None and path is None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.sets"
            file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b", buffering=0)  # noqa: SIM115 held open: it is the lock
            fcntl.flock(file, fcntl.LOCK_EX)
        self.path, self.file = path, file or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 open as long as the spool
        self.sent = self._answered()
        self.size = self._whole_lines()

    @classmethod
    def left_behind(cls, folder: Path | None) -> list["_Spool"]:
        """The spools whose processes are gone, oldest first."""
        found = []
        for path in sorted(folder.glob("*.sets")) if folder and folder.is_dir() else []:
            try:
                file = open(path, "r+b", buffering=0)  # noqa: SIM115 kept by the spool that adopts it
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process lives
                file.close()
                continue
            # Empty: its process made it this moment and has not locked it yet, or was killed with nothing to say.
            # No link: its process finished and removed it between our two calls.
            state = os.fstat(file.fileno())
            if state.st_size and state.st_nlink:
                found.append(cls(folder, path, file))
                continue
            if state.st_nlink and time.time() - state.st_mtime > 60:
                path.unlink(missing_ok=True)
                path.with_suffix(".sent").unlink(missing_ok=True)
            file.close()
        return found

    def _answered(self) -> int:
        try:
            return int(self.path.with_suffix(".sent").read_text()) if self.path else 0
        except (
            FileNotFoundError,
            ValueError,
        ):  # killed before the first answer, or while it was written: send all again
            return 0

    def _whole_lines(self) -> int:
        """The size without a last line that was cut off: its `emit` never returned."""
        size, end = os.fstat(self.file.fileno()).st_size, 0
        self.file.seek(0)
        while chunk := self.file.read(1 << 20):
            if (last := chunk.rfind(b"\n")) >= 0:
                end = self.file.tell() - len(chunk) + last + 1
        if end < size:
            self.file.truncate(end)
        self.sent = min(self.sent, end)
        return end

    def append(self, line: bytes, *, fsync: bool) -> None:
        data = line + b"\n"
        written = os.pwrite(self.file.fileno(), data, self.size)
        if written < len(data):  # the disk is full: the rest of the line must not stay
            self.file.truncate(self.size)
            raise OSError(28, "no space left for the event", str(self.path or "spool"))
        if fsync:
            os.fsync(self.file.fileno())
        self.size += len(data)

    def read(self, most: int, identify: Callable[[bytes], str]) -> list[bytes]:
        """The next lines to send, no id twice among them."""
        data = os.pread(self.file.fileno(), min(self.size - self.sent, MAX_BATCH_BYTES), self.sent)
        lines, seen = [], set()
        for line in data[: data.rfind(b"\n") + 1].splitlines()[:most]:
            if (id := identify(line)) in seen:
                break
            seen.add(id)
            lines.append(line)
        return lines

    def advance(self, by: int) -> None:
        self.sent += by
        if self.sent == self.size:  # nothing waits: begin again, so that the file does not grow for ever
            self.file.truncate(0)
            self.sent = self.size = 0
        if self.path:
            # By renaming, so that a kill leaves the old number or the new one. Truncated first: the old one is then too
            # large, and is cut to the size.
            _replace(self.path.with_suffix(".sent"), str(self.sent))

    def keep_refused(self, line: bytes, id: str, err: str, description: str) -> None:
        if self.path:
            with open(self.path.with_suffix(".refused"), "ab") as file:
                file.write(
                    _json(
                        {
                            "jti": id,
                            "err": err,
                            "description": description[:1000],
                            "set": line.decode("utf-8", "replace"),
                        }
                    )
                    + b"\n"
                )

    def close(self) -> None:
        if self.path and self.sent == self.size:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".sent").unlink(missing_ok=True)
        self.file.close()  # and with it the lock


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)


def _jti(line: bytes) -> str:
    """Of a line of the spool; bytes that are none of ours go by their digest, and the service refuses them."""
    try:
        return str(json.loads(_unb64(line.split(b".")[1].decode()))["jti"])
    except (ValueError, IndexError, KeyError, TypeError):
        return sha256(line).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def new_key(kid: str = "") -> dict[str, str]:
    """A private Ed25519 JWK. Its public part, without `d`, is what the service is given."""
    from nacl.signing import SigningKey

    key = SigningKey.generate()
    x = _b64(bytes(key.verify_key))
    kid = kid or _b64(sha256(b'{"crv":"Ed25519","kty":"OKP","x":"' + x + b'"}').digest()).decode()  # RFC 7638
    return {"kty": "OKP", "crv": "Ed25519", "x": x.decode(), "d": _b64(bytes(key)).decode(), "kid": kid, "use": "sig"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m auditlog.emit", description="Make a key, or send one heartbeat.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("new-key", help="write a private key, print the public JWKS")
    make.add_argument("file", type=Path)
    test = commands.add_parser("test", help="send one signed heartbeat")
    test.add_argument("address")
    test.add_argument("--issuer", required=True)
    test.add_argument("--key", type=Path, required=True)
    test.add_argument("--tenant", default="default")
    given = parser.parse_args(arguments)
    if given.command == "new-key":
        jwk = new_key()
        with open(os.open(given.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(jwk, file)
        print(json.dumps({"keys": [{name: value for name, value in jwk.items() if name != "d"}]}, indent=1))
        return 0
    refused: list[str] = []
    emitter = Emitter(
        given.address, issuer=given.issuer, key=given.key, tenant=given.tenant, patience=0,
        on_refused=lambda jti, err, description: refused.append(f"{err}: {description}"),
    )  # fmt: skip
    jti = emitter.emit("source.heartbeat", {"outcome": "success"})
    done = emitter.close(15)
    print(
        "refused: " + refused[0]
        if refused
        else f"{jti} is in the ledger"
        if done
        else "not delivered: see the warnings above"
    )
    return 0 if done and not refused else 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(main())
