"""Send a story through the real HTTP ingest, in order of arrival: batches, single SETs and webhooks.

Everything may be sent again after a lost answer, because a delivery has an identity; so a broken connection, 429 and
503 are waited out. Anything the story does not foresee is a PlayError: a demo that half arrived must not look whole.
"""

import http.client
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from auditlog.simulator.story import Story
from auditlog.simulator.world import Signed

SET_TYPE = "application/secevent+jwt"
MAX_BATCH = 200
MAX_TRIES = 40
REFUSALS = {"signature_failed": (400, 401, 403), "duplicate_conflict": (409,)}


class PlayError(Exception):
    """The service answered something that the story does not foresee."""


@dataclass(slots=True)
class Played:
    accepted: int = 0  # deliveries acknowledged for the first time in this play
    repeated: int = 0  # acknowledged again
    refused: Counter[str] = field(default_factory=Counter)  # by `err`
    requests: int = 0
    waited: int = 0  # times the service asked us to come back later


def play(
    story: Story, base_url: str, *, progress: Callable[[int, int], None] | None = None, timeout: float = 30
) -> Played:
    """Send every delivery of `story` to `base_url`. `progress` is called with (sent, all) after each request."""
    played, seen, sent = Played(), set(), 0
    prefix = "/ingest" if story.tenant == "default" else f"/ingest/{story.tenant}"
    refusals = {refusal.position: refusal.kind for refusal in story.refusals}
    with _Line(base_url, timeout, played) as line:
        for first, group in _groups(story, refusals):
            path = f"{prefix}/{group[0].source}"
            kinds = {signed.jti: refusals.get(first + n) for n, signed in enumerate(group)}
            if group[0].content_type != SET_TYPE or _goes_alone(group, kinds):
                _send_one(line, path, group[0], kinds[group[0].jti], seen)
            else:
                _send_batch(line, path, group, kinds, seen)
            sent += len(group)
            if progress:
                progress(sent, len(story.deliveries))
    return played


def _groups(story: Story, refusals: dict[int, str]) -> Iterator[tuple[int, list[Signed]]]:
    """Runs of SETs from one source, with the position of the first. Webhooks and refusals of their own go alone."""
    first, group = 0, []
    for position, signed in enumerate(story.deliveries):
        fits = (
            group
            and signed.content_type == group[0].content_type == SET_TYPE
            and signed.source == group[0].source
            and len(group) < MAX_BATCH
            and all(signed.jti != other.jti for other in group)
            # A forged SET may travel among good ones, for that must not hurt them; a conflict is asked about singly.
            and "duplicate_conflict" not in (refusals.get(position), refusals.get(position - 1))
        )
        if group and not fits:
            yield first, group
            first, group = position, []
        group.append(signed)
    if group:
        yield first, group


def _goes_alone(group: list[Signed], kinds: dict[str, str | None]) -> bool:
    return len(group) == 1 or "duplicate_conflict" in kinds.values()


def _send_one(line: "_Line", path: str, signed: Signed, expected: str | None, seen: set[tuple[str, str]]) -> None:
    status, body = line.post(path, signed.raw, {"Content-Type": signed.content_type, **signed.headers})
    if status in (200, 202):
        _acknowledged(line.played, signed, expected, seen)
    else:
        _refused(line.played, signed, expected, status, _json(body))


def _send_batch(
    line: "_Line", path: str, group: list[Signed], kinds: dict[str, str | None], seen: set[tuple[str, str]]
) -> None:
    document = {"sets": {signed.jti: signed.raw.decode() for signed in group}}
    status, body = line.post(path, orjson.dumps(document), {"Content-Type": "application/json"})
    answer = _json(body)
    if status != 200:
        raise PlayError(f"a batch of {len(group)} to {path}: expected 200, found {status} {body[:300]!r}")
    acknowledged, errors = set(answer.get("ack", ())), answer.get("setErrs", {})
    for signed in group:
        if signed.jti in acknowledged:
            _acknowledged(line.played, signed, kinds[signed.jti], seen)
        elif signed.jti in errors:
            _refused(line.played, signed, kinds[signed.jti], None, errors[signed.jti])
        else:
            raise PlayError(f"{signed.jti} ({signed.type}) is neither in ack nor in setErrs of {path}")


def _acknowledged(played: Played, signed: Signed, expected: str | None, seen: set[tuple[str, str]]) -> None:
    if expected:
        raise PlayError(f"{signed.jti} ({signed.type}, {signed.source}) was accepted, expected {expected}")
    if (signed.source, signed.jti) in seen:
        played.repeated += 1
    else:
        seen.add((signed.source, signed.jti))
        played.accepted += 1


def _refused(played: Played, signed: Signed, expected: str | None, status: int | None, answer: dict) -> None:
    """`status` is None inside a batch, where only `err` tells a conflict from a bad signature."""
    err = answer.get("err", "")
    is_foreseen = bool(expected) and (status is None or status in REFUSALS[expected])
    if not is_foreseen or (expected == "duplicate_conflict") != (err == "duplicate_conflict"):
        found = f"{status or 'setErrs'} {err}: {answer.get('description', '')}"[:400]
        raise PlayError(
            f"{signed.jti} ({signed.type}, {signed.source}): expected {expected or 'success'}, found {found}"
        )
    played.refused[err] += 1


def _json(body: bytes) -> dict:
    try:
        answer = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return {"description": body[:300].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {}


class _Line:
    """One kept-alive connection that comes back after a break and waits when asked to."""

    def __init__(self, base_url: str, timeout: float, played: Played) -> None:
        url = urlsplit(base_url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(url.hostname, url.port, timeout=timeout)
        self.root = url.path.rstrip("/")
        self.played = played

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        for attempt in range(MAX_TRIES):
            self.played.requests += 1
            try:
                self.connection.request("POST", self.root + path, body, headers)
                response = self.connection.getresponse()
                answer = response.read()
            except (http.client.HTTPException, OSError) as error:
                self.connection.close()
                if attempt >= 5:
                    raise PlayError(f"no answer from {path} after {attempt + 1} tries: {error!r}") from error
                time.sleep(0.1 * 2**attempt)
                continue
            if response.status not in (429, 503):
                return response.status, answer
            self.played.waited += 1
            time.sleep(_seconds(response.headers.get("Retry-After")))
        raise PlayError(f"{path} still answers {response.status} after {MAX_TRIES} tries")


def _seconds(retry_after: str | None) -> float:
    """Retry-After in seconds (RFC 9110 section 10.2.3); a date or nothing means one second. Never more than 30."""
    return min(float(retry_after), 30.0) if retry_after and retry_after.isdigit() else 1.0
