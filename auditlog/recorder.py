"""Record an agent's provisioning requests where they arrive: middleware for WSGI and ASGI, standard library only.

    from auditlog.recorder import Recorder, RecordWSGI

    recorder = Recorder("https://log.example/ingest/provisioning", secret=os.environ["RECORDER_SECRET"],
                        spool="/var/spool/provisioning")
    application = RecordWSGI(application, recorder)          # RecordASGI for Starlette, FastAPI, Django under ASGI

What goes by under `/provisioning/` and `/oauth/` (Agentic Provisioning Protocol 0.1d) is kept as pairs {id, at, side,
request: {method, path, headers, body, body_sha256}, response: {status, body}} and posted, each signed with the shared
secret (`Recorder-Signature`), as the service's format `app` takes them. Secrets are taken out before a pair touches the
disk: of a body that is not JSON only the digest is kept, of headers only those that say what was asked and by whom.

It never changes, delays or breaks what it records: bodies stream through, an application's exception goes on its way, and
when a pair cannot be kept (a full disk, a full spool) that is logged and counted in `lost`. Delivery, spool and retries
are those of `auditlog.emit`, which lies beside this file.
"""

import hmac
import json
import logging
import re
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from auditlog.emit import Courier

log = logging.getLogger(__name__)
MAX_BODY = 256 * 1024  # bytes of a body that are kept; a longer one is known by its digest
PATHS = ("/provisioning/", "/oauth/")
HEADERS = (
    "api-version",
    "idempotency-key",
    "stripe-signature",
    "stripe-signature-v2",
    "content-type",
    "request-id",
    "user-agent",
)
REMOVED = "[removed]"
# Names whose values never leave this process, in lower case without `_`, `-`, dots and spaces: as the service's own list.
SECRETS = frozenset(
    "accesstoken refreshtoken idtoken sessiontoken securitytoken subjecttoken actortoken bearertoken authtoken "
    "authorization proxyauthorization cookie setcookie password passwd passphrase secret clientsecret secretkey "
    "secretaccesskey privatekey apikey assertion clientassertion samlassertion samlresponse codeverifier "
    "confirmationsecret accessconfiguration resourceaccessconfiguration cvc cvv cvv2 trackdata cryptogram "
    "xapikey xauthtoken xamzsecuritytoken".split()
)
ENDINGS = (
    "accesstoken", "refreshtoken", "bearertoken", "clientsecret", "confirmationsecret", "accessconfiguration",
    "password", "passphrase", "privatekey",
)  # fmt: skip
# Who holds one can charge it: what it paid for is joined by its digest, as the service makes it.
PAYMENT_TOKEN = re.compile(r"(spt)_(?!sha256_)[A-Za-z0-9_]+\Z|(vt)_[A-Z0-9]{10,}\Z")
CREDENTIAL = re.compile(
    r"(?i:bearer|dpop) +(?=[^ ]*[0-9])[A-Za-z0-9_.~+/=-]{8,}\Z|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\Z"
)
# The same inside of a text, but for base64, written once more: this file has the standard library only. A command line, an address with a query, a form, JSON that was cut off.
INSIDE = re.compile(
    r"(?<![A-Za-z0-9])(?P<token>spt_(?!sha256_)[A-Za-z0-9_]+)"
    r"|(?<![A-Za-z0-9])(?P<scheme>(?i:bearer|dpop) +)(?:(?=[A-Za-z_.~+/=-]*[0-9])[A-Za-z0-9_.~+/=-]{8,}|[A-Za-z_.~+/=-]{32,})"
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+"
    r"|(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{8,}"
    r"|(?<![A-Za-z0-9_-])sk-(?:(?:proj|ant|svcacct|admin|or|lf|live)-[A-Za-z0-9_-]{8,}|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,})"
    r"|(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,})"
    r"|(?P<user>://[^\s/:@\"'<>]{0,200}:)[^\s/@\"'<>]{1,500}(?=@)"
    r"""|(?<![A-Za-z0-9_.-])(?P<name>[A-Za-z][A-Za-z0-9_.-]{1,60})(?P<is>=["']?|\\?"\s*:\s*\\?")(?P<value>[^\s"'&;,<>#\\=]+=*)"""
)


class Recorder(Courier):
    """Posts recorded pairs, one in a request, so that each can be checked again by its own signature."""

    batch = 1

    def __init__(self, address: str, *, secret: str | bytes, side: str = "provider", **delivery: Any) -> None:
        """`secret`: shared with the source. `side`: "provider", or "orchestrator" behind an orchestrator's client.
        `delivery`: spool, max_spool_bytes, patience and the rest, as for an Emitter.
        """
        if not secret:
            raise ValueError("expected the secret that the source at the service has too, found none")
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self.side, self.lost = side, 0
        super().__init__(address, **delivery)

    def record(
        self,
        *,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: "Kept | bytes",
        status: int | None,
        answer: "Kept | bytes" = b"",
        at: float,
    ) -> str:
        """Keep one pair for delivery. Returns its id; "" when it could not be kept, which is logged and never raised.

        `at`: Unix seconds. `status` None: the request was not answered.
        """
        id = str(uuid.uuid4())
        try:
            asked, told = (Kept.of(each) if isinstance(each, bytes) else each for each in (body, answer))
            names = (
                SECRETS | {"code"} if "/oauth/" in path else SECRETS
            )  # an authorization code is a secret for its minute
            request: dict[str, Any] = {
                "method": method, "path": path.partition("?")[0],
                "headers": {name.lower(): value for name, value in headers.items() if name.lower() in HEADERS},
            }  # fmt: skip
            if asked.size:
                request |= {"body": asked.document(names)} | ({"body_sha256": asked.digest()} if asked.is_whole else {})
            pair: dict[str, Any] = {"id": id, "at": at, "side": self.side, "request": request}
            if status is not None:
                pair["response"] = {"status": status, "body": told.document(names)}
            self._keep(json.dumps(pair, separators=(",", ":")).encode())
        except Exception:
            self.lost += 1
            log.exception("a pair of %s %s was not recorded", method, path.partition("?")[0])
            return ""
        return id

    def _id(self, line: bytes) -> str:
        return json.loads(line)["id"]

    def _send(self, lines: list[bytes]) -> dict[str, tuple[str, str]] | None:
        [line] = lines
        now = str(int(time.time()))
        mac = hmac.new(self._secret, now.encode() + b"." + line, "sha256").hexdigest()
        status, body, retry_after = self._post(line, **{"Recorder-Signature": f"t={now},v1={mac}"})
        return {} if status in (200, 202) else self._judged(status, body, retry_after, [self._id(line)])


class Kept:
    """A body as it goes by: its digest, and its first bytes."""

    def __init__(self) -> None:
        self.size, self.is_whole = 0, True
        self._first, self._hash = bytearray(), sha256()

    @classmethod
    def of(cls, body: bytes) -> "Kept":
        kept = cls()
        kept.saw(body)
        return kept

    def saw(self, part: bytes) -> None:
        self.size += len(part)
        self._hash.update(part)
        if self.size <= MAX_BODY:
            self._first += part

    def digest(self) -> str:
        return self._hash.hexdigest()

    def document(self, names: frozenset[str] = SECRETS) -> Any:
        """The body without its secrets; None when it is no JSON that we saw to its end, since nothing can be taken out of it."""
        if not self.size or self.size > MAX_BODY or not self.is_whole:
            return None
        try:
            return without_secrets(json.loads(self._first), names)
        except (ValueError, RecursionError):
            return None


def without_secrets(document: Any, names: frozenset[str] = SECRETS) -> Any:
    """A copy without the values under secret names, without bearer credentials, and with payment tokens as digests."""
    if isinstance(document, dict):
        return {
            name: REMOVED if _is_secret(name, names) and value and value is not True else without_secrets(value, names)
            for name, value in document.items()
        }
    if isinstance(document, list):
        return [without_secrets(value, names) for value in document]
    if isinstance(document, str):
        if CREDENTIAL.match(document):
            return REMOVED
        if PAYMENT_TOKEN.match(document):
            return _digest(document)
        return _text_without(document, names)
    return document


def _digest(token: str) -> str:
    return (
        f"{token.partition('_')[0]}_sha256_{urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b'=').decode()}"
    )


def _text_without(text: str, names: frozenset[str]) -> str:
    if text.lstrip()[:1] in ("{", "["):
        repeated: list[bool] = []

        def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            repeated.append(len(found) < len(pairs))
            return found

        try:
            inside = json.loads(text, object_pairs_hook=members)
            if any(repeated):
                return REMOVED  # of a name that is there twice we see the last value only
            clean = without_secrets(inside, names)
            return text if clean == inside else json.dumps(clean, separators=(",", ":"))
        except (ValueError, RecursionError):
            pass  # cut off, or no JSON
    parts, at = [], 0
    while match := INSIDE.search(text, at):
        end = match.end()
        if match["token"]:
            clean = _digest(match[0])
        elif match["scheme"]:
            clean = match["scheme"] + REMOVED
        elif match["user"]:
            clean = match["user"] + REMOVED
        elif match["name"] is None:
            clean = REMOVED
        elif _is_secret(match["name"], names) and match["value"] not in ("null", "true", "false"):
            clean = match["name"] + match["is"] + REMOVED
        else:  # the name is harmless; what stands behind it need not be
            end = match.end("is")
            clean = text[match.start() : end]
        parts += [text[at : match.start()], clean]
        at = end
    return "".join(parts) + text[at:]


def _is_secret(name: str, names: frozenset[str]) -> bool:
    plain = name.lower().replace("_", "").replace("-", "").replace(" ", "").replace(".", "")
    return plain in names or plain.endswith(ENDINGS)


class RecordWSGI:
    """WSGI middleware (PEP 3333). `paths`: prefixes of what is recorded; everything else is passed on untouched."""

    def __init__(self, application: Callable, recorder: Recorder, *, paths: Iterable[str] = PATHS) -> None:
        self.application, self.recorder, self.paths = application, recorder, tuple(paths)

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if not path.startswith(self.paths):
            return self.application(environ, start_response)
        at, asked, told, status = time.time(), Kept(), Kept(), []
        length = environ.get("CONTENT_LENGTH") or ""
        environ["wsgi.input"] = _Listening(environ["wsgi.input"], asked)

        def started(line: str, headers: list, *more: Any) -> Callable:
            status[:] = [int(line[:3])]
            write = start_response(line, headers, *more)
            return lambda part: (told.saw(part), write(part))[1]

        def done(*, whole: bool) -> None:
            asked.is_whole = not length or str(asked.size) == length  # the application may not have read all of it
            told.is_whole = whole
            headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
            headers["Content-Type"] = environ.get("CONTENT_TYPE", "")
            self.recorder.record(
                method=environ["REQUEST_METHOD"], path=path, headers=headers, body=asked,
                status=status[0] if status else None, answer=told, at=at,
            )  # fmt: skip

        try:
            return _Answer(self.application(environ, started), told, done)
        except BaseException:
            done(whole=False)
            raise


class _Listening:
    """`wsgi.input`, listened to."""

    def __init__(self, stream: Any, kept: Kept) -> None:
        self._stream, self._kept = stream, kept

    def _heard(self, part: bytes) -> bytes:
        self._kept.saw(part)
        return part

    def read(self, *size: int) -> bytes:
        return self._heard(self._stream.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._heard(self._stream.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        return [self._heard(line) for line in self._stream.readlines(*hint)]

    def __iter__(self) -> Iterator[bytes]:
        return map(self._heard, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Answer:
    """The application's iterable, listened to; recorded once, when the server closes it."""

    def __init__(self, parts: Iterable[bytes], kept: Kept, done: Callable[..., None]) -> None:
        self._parts, self._kept, self._done, self._whole = parts, kept, done, False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._kept.saw(part)
            yield part
        self._whole = True

    def close(self) -> None:
        done, self._done = self._done, lambda **_: None
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            done(whole=self._whole)


class RecordASGI:
    """ASGI middleware (ASGI 3, HTTP). `paths` as for RecordWSGI."""

    def __init__(self, application: Callable, recorder: Recorder, *, paths: Iterable[str] = PATHS) -> None:
        self.application, self.recorder, self.paths = application, recorder, tuple(paths)

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict]], send: Callable[[dict], Awaitable[None]]
    ) -> None:
        path = scope.get("path", "")  # with `root_path` in it, ASGI "HTTP connection scope"
        if scope["type"] != "http" or not path.startswith(self.paths):
            await self.application(scope, receive, send)
            return
        at, asked, told, status = time.time(), Kept(), Kept(), []
        asked.is_whole = told.is_whole = False

        async def listened() -> dict:
            message = await receive()
            if message["type"] == "http.request":
                asked.saw(message.get("body", b""))
                asked.is_whole = not message.get("more_body", False)
            return message

        async def said(message: dict) -> None:
            if message["type"] == "http.response.start":
                status[:] = [message["status"]]
            elif message["type"] == "http.response.body":
                told.saw(message.get("body", b""))
                told.is_whole = not message.get("more_body", False)
            await send(message)

        try:
            await self.application(scope, listened, said)
        finally:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            self.recorder.record(
                method=scope["method"], path=path, headers=headers, body=asked,
                status=status[0] if status else None, answer=told, at=at,
            )  # fmt: skip
