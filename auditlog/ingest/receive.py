"""Receive and verify: the first two steps of the road.

The source's format checks the signature over the received bytes and then parses them; `append.py` makes the result
durable. Nothing here trusts a claim before its signature, and nothing is written for a refused event but a count.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network
from threading import Lock
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from prometheus_client import Counter as Metric

from auditlog import formats
from auditlog.core.errors import (
    ConflictingEvent,
    DeliveryTooLarge,
    MalformedEvent,
    NotInForce,
    Refused,
    SourceSuspended,
    TooManyRequests,
    UnknownKid,
    UnknownSource,
    WrongContentType,
)
from auditlog.core.wire.keys import load
from auditlog.core.wire.redaction import clean_text
from auditlog.database import published
from auditlog.database.dirty import look_again
from auditlog.database.gather import Gathering, Take
from auditlog.ledger.append import Appended, append_statements
from auditlog.models import NotedDelivery, Source
from auditlog.sources import configuration, outbound
from auditlog.sources.fetch_keys import fetch_unknown
from auditlog.sources.sender import sender_of

log = structlog.get_logger()
Read = TypeVar("Read")
# In the process, not in the database: a row for each would make the flood worse.
THROTTLED = Metric("answerable_throttled", "Deliveries answered 429", ["tenant", "source"])
MAX_BODY = 16 * 1024 * 1024
LOOKS = 100  # sources in one query
STRANGERS_PER_SECOND = 100  # deliveries of one address, of which nothing was taken
NOTES_PER_SECOND = 5  # a source and process: of a flood of bad deliveries a sample is enough


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one delivery. `appended` and `refused` go by the names the sender gave its statements."""

    batch: bool
    appended: Mapping[str, Appended]
    refused: Mapping[str, Refused]
    answer: Mapping[str, str] | None = None  # to a question that was no delivery


def ingest(
    tenant: str,
    name: str,
    delivery: formats.Delivery,
    *,
    now: datetime,
    call: outbound.Call = outbound.call,
    address: str = "",
) -> Taken:
    """Verify one delivery and append what is good in it. Durable once this returns.

    Raises UnknownSource, TooManyRequests, or Refused when the delivery as a whole is no good. Refusals are counted.
    What proves to be a source's is charged to that source. What proves nothing is charged to the `address` that it came
    from, and never to the source that it names: else anybody could use up what a source may send.
    """
    strangers.look(address)
    try:
        taken = _ingested(tenant, name, delivery, now=now, call=call)
    except (Refused, UnknownSource):
        strangers.charge(address)
        raise
    if not taken.appended:
        strangers.charge(address)
    return taken


def _ingested(tenant: str, name: str, delivery: formats.Delivery, *, now: datetime, call: outbound.Call) -> Taken:
    known = _source(tenant, name)
    if known.source.state != Source.State.ACTIVE:
        raise SourceSuspended(f"source {name!r} is suspended")
    if len(delivery.body) > MAX_BODY:
        raise DeliveryTooLarge(f"a delivery has at most {MAX_BODY:,} bytes, found {len(delivery.body):,}")
    try:
        try:
            received = _received(known.source, delivery, known.sender)
            _await_keys(known, received.statements.values())
        except UnknownKid as unknown_kid:
            _await_keys(known, [unknown_kid])
            if not _fetched_keys(known.source, now=now, call=call):
                raise
            known = _source(tenant, name)
            received = _received(known.source, delivery, known.sender)
    except Refused as refused:
        count_refusals(known.source, [refused], now=now)
        _note(known, refused=[refused], now=now)
        raise
    if not all(isinstance(statement, Refused) for statement in received.statements.values()):
        _spend(known.requests, 1, known.source)
    if received.answer is not None:
        return Taken(False, {}, {}, received.answer)
    taken = _settle(known, received, now=now)
    unknown = [given for given, refused in taken.refused.items() if isinstance(refused, UnknownKid)]
    # What is under known keys is durable by now: it never waits for somebody's key set.
    if unknown and _fetched_keys(known.source, now=now, call=call):
        known = _source(tenant, name)
        again = _received(known.source, delivery, known.sender).statements
        late = _settle(known, formats.Received({given: again[given] for given in unknown}, received.batch), now=now)
        refused = {given: one for given, one in taken.refused.items() if given not in unknown} | late.refused
        taken = Taken(received.batch, {**taken.appended, **late.appended}, refused)
    return _told(known, taken, now=now, notes=_notes_of(received))


def _await_keys(known: "_Known", statements: Iterable[object]) -> None:
    """Raises NotInForce where a delivery may be under a key that is on record, and that no published checkpoint covers
    yet.
    """
    if known.waiting and any(isinstance(one, UnknownKid) for one in statements):
        said = ", ".join(f"{kid[:80]!r} (leaf {leaf})" for kid, leaf in sorted(known.waiting.items()))
        raise NotInForce(
            f"keys of this source wait for the next published checkpoint: {said}; send it again in a moment"
        )


def take(source: Source, received: formats.Received, *, now: datetime) -> Taken:
    """Append statements that we fetched ourselves: the road of a delivery from where it has been verified.

    One that brings nothing new is not noted: what is asked for again and again is mostly known.
    """
    known = _source(source.tenant.name, source.name)
    taken = _settle(known, received, now=now)
    notes = _notes_of(received)
    return _told(known, taken, now=now, notes=notes) if taken.refused or notes else taken


def refuse(source: Source, refused: Refused, *, now: datetime) -> None:
    """Count and note what we fetched ourselves and could not take."""
    count_refusals(source, [refused], now=now)
    _note(_source(source.tenant.name, source.name), refused=[refused], now=now)


def _fetched_keys(source: Source, *, now: datetime, call: outbound.Call) -> bool:
    """Whether the source's key set, read again for a key that we do not know, has changed. Never in a transaction."""
    return not connection.in_atomic_block and fetch_unknown(source, now=now, call=call)


def _settle(known: "_Known", received: formats.Received, *, now: datetime) -> Taken:
    """Append the good statements of a delivery."""
    good = {given: s for given, s in received.statements.items() if not isinstance(s, Refused)}
    bad = {given: s for given, s in received.statements.items() if isinstance(s, Refused)}
    _spend(known.events, len(good), known.source)
    appended = dict(zip(good, append_statements(known.source, list(good.values()), now=now), strict=True))
    for given, result in list(appended.items()):
        if result.conflict:
            bad[given] = ConflictingEvent(
                f"event {given[:200]!r} is in the ledger with other content, at leaf {result.leaf_index}"
            )
            del appended[given]
    return Taken(received.batch, appended, bad)


def _notes_of(received: formats.Received) -> str:
    """What was left out of the statements that were taken: the first few, as one text."""
    said = {note: None for s in received.statements.values() if not isinstance(s, Refused) for note in s.notes}
    return "; ".join(list(said)[:3])


def _told(known: "_Known", taken: Taken, *, now: datetime, notes: str = "") -> Taken:
    """Count what was refused, and note a delivery that brought nothing new, or of which something was not read."""
    if taken.refused:
        count_refusals(known.source, taken.refused.values(), now=now)
    repeated = sum(result.repeated for result in taken.appended.values())
    new = len(taken.appended) - repeated
    if taken.refused or not new or notes:
        _note(known, taken=new, repeated=repeated, refused=list(taken.refused.values()), notes=notes, now=now)
    return taken


def handshake(tenant: str, name: str, headers: Mapping[str, str]) -> dict[str, str] | None:
    """What an OPTIONS request is answered with, where the source's format has a handshake; None where it has none.

    It says that deliveries may be made, not that they will be taken: those still need the source's secret.
    """
    answer = _answering(tenant, name, "handshake")
    return answer(headers, _source(tenant, name).source.requests_per_second) if answer else None


def verification(tenant: str, name: str, headers: Mapping[str, str]) -> dict[str, str] | None:
    """What a GET request is answered with, where the source's format proves so that the address is ours. None: it has
    none.
    """
    answer = _answering(tenant, name, "verification")
    return answer(headers) if answer else None


def _answering(tenant: str, name: str, function: str) -> Callable | None:
    try:
        source = _source(tenant, name).source
    except UnknownSource:
        return None
    return getattr(formats.named(source.format), function, None) if source.state == Source.State.ACTIVE else None


def rehearse(tenant: str, name: str, delivery: formats.Delivery) -> formats.Received:
    """What would become of a delivery, up to the ledger: verified and parsed, nothing written, nothing counted.

    Raises UnknownSource, or Refused when the delivery as a whole is no good.
    """
    known = _source(tenant, name)
    if len(delivery.body) > MAX_BODY:
        raise DeliveryTooLarge(f"a delivery has at most {MAX_BODY:,} bytes, found {len(delivery.body):,}")
    return _received(known.source, delivery, known.sender)


def _received(source: Source, delivery: formats.Delivery, sender: formats.Sender) -> formats.Received:
    """What the format makes of the delivery. Bytes that its parser falls over are the sender's fault, and said to be."""
    module = formats.named(source.format)
    encoding, known = delivery.encoding, getattr(module, "ENCODINGS", ())
    if encoding and encoding not in known:
        expected = f"Content-Encoding {' or '.join(known)}, or none," if known else "no Content-Encoding"
        raise WrongContentType(f"expected {expected} for format {source.format!r}, found {encoding[:40]!r}")
    return read_by_format(source, lambda: module.receive(delivery, sender))


def read_by_format(source: Source, read: Callable[[], Read]) -> Read:
    """What a format makes of somebody's bytes. Raises Refused, also where the parser falls over them."""
    try:
        return read()
    except (ValueError, ArithmeticError, RecursionError, LookupError) as error:
        log.exception(
            "format fell over a delivery", tenant=source.tenant.name, source=source.name, format=source.format
        )
        raise MalformedEvent(f"cannot be read as {source.format}: {type(error).__name__}") from None


def _spend(bucket: "Bucket", amount: int, source: Source) -> None:
    try:
        bucket.spend(amount)
    except TooManyRequests:
        THROTTLED.labels(source.tenant.name, source.name).inc()
        raise


@dataclass(slots=True)
class Bucket:
    """A token bucket of this process: `rate` a second, and as much at once. `rate` 0 is no limit."""

    rate: float
    level: float = field(init=False)
    at: float = field(init=False)
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.level, self.at = self.rate, time.monotonic()

    def wait(self) -> int:
        """Seconds until there is something to spend; 0 when there is."""
        with self.lock:
            level = min(self.rate, self.level + (time.monotonic() - self.at) * self.rate)
        return 0 if level >= 1 or not self.rate else max(1, round((1 - level) / self.rate + 0.5))

    def spend(self, amount: int) -> None:
        """Raises TooManyRequests, saying when to come back. One delivery may overdraw; the next then waits for it."""
        if not self.rate:
            return
        with self.lock:
            now = time.monotonic()
            self.level = min(self.rate, self.level + (now - self.at) * self.rate)
            self.at = now
            if self.level < min(1, amount):
                wait = max(1, round((1 - self.level) / self.rate + 0.5))
                raise TooManyRequests(f"this source sends faster than {self.rate:g} a second", retry_after=wait)
            self.level -= amount


class Strangers:
    """What each address may send that proves nothing. In the process, bounded, the longest silent forgotten first."""

    def __init__(self, rate: float, *, most: int) -> None:
        self.rate, self._most = rate, most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._lock = Lock()

    def look(self, address: str) -> None:
        """Raises TooManyRequests where this address has sent too much of it: nothing more of it is looked at for now."""
        bucket = self._buckets.get(_network(address)) if address else None
        if bucket is not None and (wait := bucket.wait()):
            THROTTLED.labels("", "").inc()
            raise TooManyRequests("this address sends too much that is refused", retry_after=wait)

    def forget(self) -> None:
        with self._lock:
            self._buckets.clear()

    def charge(self, address: str) -> None:
        if not address:
            return
        with self._lock:
            network = _network(address)
            bucket = self._buckets.setdefault(network, Bucket(self.rate / max(1, getattr(settings, "WEB_WORKERS", 1))))
            self._buckets.move_to_end(network)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        with suppress(TooManyRequests):
            bucket.spend(1)


def _network(address: str) -> str:
    """An address as one asker has it: of IPv6 the network, in which he can choose any."""
    if ":" not in address:
        return address
    try:
        return str(ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


strangers = Strangers(STRANGERS_PER_SECOND, most=10_000)


@dataclass(slots=True)
class _Known:
    """A source as this process remembers it, good for as long as `version` is what the database says."""

    version: tuple
    source: Source
    sender: formats.Sender
    requests: Bucket
    events: Bucket
    notes: Bucket
    waiting: Mapping[str, int]  # keys by name that are not in force yet, with their leaf
    until: int | None  # the first leaf that is to be covered by a checkpoint; then it is read again


_remembered: dict[tuple[str, str], _Known] = {}
_VERSIONS = """
    SELECT t.name, s.name, s.id, s.xmin::text, (SELECT string_agg(k.xmin::text, ',' ORDER BY k.id)
      FROM auditlog_sourcekey k WHERE k.source_id = s.id)
    FROM auditlog_source s JOIN auditlog_tenant t ON t.id = s.tenant_id
    WHERE (t.name, s.name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


def _source(tenant: str, name: str) -> _Known:
    """The source with its keys. One indexed query, for all deliveries that wait just now, sees a new key or a
    suspension at once.
    """
    if "\x00" in name or "\x00" in tenant:  # which the database does not take
        version = None
    elif connection.in_atomic_block:
        [version] = _versions(lambda: [(tenant, name)])
    else:
        [version] = _looks.ask([(tenant, name)])
    if version is None:
        _remembered.pop((tenant, name), None)
        raise UnknownSource(f"no source {name[:60]!r} in tenant {tenant[:60]!r}")
    known = _remembered.get((tenant, name))
    if known is None or known.version != version or _is_covered(known):
        known = _remembered[tenant, name] = _loaded(version)
    return known


def _is_covered(known: "_Known") -> bool:
    return known.until is not None and published.covered(known.source.tenant_id) > known.until


def _versions(take: Take[tuple[str, str]]) -> list[tuple | None]:
    """What the database says of each (tenant, source): its id and the row versions of it and its keys; None if unknown."""
    wanted = take()
    tenants, names = zip(*sorted(set(wanted)), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_VERSIONS, [list(tenants), list(names)])
        found = {(tenant, name): tuple(version) for tenant, name, *version in cursor.fetchall()}
    return [found.get(each) for each in wanted]


_looks: Gathering[tuple[str, str], tuple | None] = Gathering(_versions, most=LOOKS)


def _loaded(version: tuple) -> _Known:
    """Raises ConfigurationDiffers, and NotInForce for a source of which no published checkpoint knows yet."""
    row = Source.objects.select_related("tenant").get(pk=version[0])
    keys = list(row.keys.all())
    rows = [("tenant", row.tenant_id), ("source", row.pk), *(("key", key.pk) for key in keys)]
    if row.organisation_id:
        rows.append(("organisation", row.organisation_id))
    # What is stated by the log itself, whatever the tables say: a key that was swapped signs nothing.
    configuration.refuse_if_differs(row.tenant, *rows, fresh=True)
    source, waits = configuration.source_in_force(row)
    if source is None:
        raise NotInForce(
            f"source {row.name!r} waits for the next published checkpoint, which covers leaf {waits}: send it again in"
            " a moment"
        )
    leaves = {key.kid: configuration.binds(source.tenant, ("key", key.pk)) for key in keys if key.retired_at is None}
    waiting = {kid: leaf for kid, leaf in leaves.items() if leaf is not None}
    share = max(1, getattr(settings, "WEB_WORKERS", 1))  # every worker has its own bucket
    return _Known(
        version,
        source,
        sender_of(source, {key.kid: load(key.jwk, key.kid) for key in keys if key.retired_at is None and key.kid not in waiting},
                  frozenset(key.kid for key in keys if key.retired_at)),
        Bucket(source.requests_per_second / share),
        Bucket(source.events_per_second / share),
        Bucket(NOTES_PER_SECOND),
        waiting,
        min([*waiting.values(), *([waits] if waits is not None else [])], default=None),
    )  # fmt: skip


_COUNT = """
    INSERT INTO refusal_count AS r (tenant_id, source, key, err, hour, count, first_at, last_at, sample)
    VALUES (%(tenant)s, %(source)s, %(key)s, %(err)s, %(hour)s, %(count)s, %(now)s, %(now)s, %(sample)s)
    ON CONFLICT ON CONSTRAINT refusal_count_once
    DO UPDATE SET count = r.count + excluded.count, last_at = greatest(r.last_at, excluded.last_at)
"""

_NOTE = """
    WITH gone AS (
      DELETE FROM noted_delivery WHERE tenant_id = %(tenant)s AND source = %(source)s AND id <= (
        SELECT id FROM noted_delivery WHERE tenant_id = %(tenant)s AND source = %(source)s ORDER BY id DESC OFFSET %(others)s LIMIT 1)
    )
    INSERT INTO noted_delivery (tenant_id, source, at, taken, repeated, refused, err, reason)
    VALUES (%(tenant)s, %(source)s, %(now)s, %(taken)s, %(repeated)s, %(refused)s, %(err)s, %(reason)s)
"""


def _note(
    known: _Known, *, taken: int = 0, repeated: int = 0, refused: Sequence[Refused] = (), notes: str = "", now: datetime
) -> None:
    """Keep a delivery that left no leaf of its own for every statement, for the page of its source; bounded.

    One that brought only new events, all of them read whole, is not noted: its leaves tell of it, and the fast path
    pays nothing.
    """
    try:
        known.notes.spend(1)
    except TooManyRequests:
        return
    first = refused[0] if refused else None
    row = {
        "tenant": known.source.tenant_id, "source": known.source.name, "now": now, "taken": taken, "repeated": repeated,
        "refused": len(refused), "err": first.err if first else "", "others": NotedDelivery.KEPT - 1,
        "reason": _said(str(first)) if first else _said(notes),
    }  # fmt: skip
    try:
        with connection.cursor() as cursor:
            cursor.execute(_NOTE, row)
    except DatabaseError as error:
        if connection.in_atomic_block:  # an outer transaction is broken now, whoever opened it has to know
            raise
        # A full disk must not turn a repeat, which is durable, into a failure.
        log.warning("delivery not noted", source=known.source.name, error=type(error).__name__)


def _said(text: str) -> str:
    """Why it was refused, or what was not read of it, as we keep it: the text may quote what was sent, where a secret
    may stand in a wrong place.
    """
    return clean_text(text.replace("\x00", "")[:500])


def count_refusals(source: Source, refusals: Collection[Refused], *, now: datetime) -> None:
    """Count refusals by source, key, reason and hour, and ask detection to look. One row a reason, however many."""
    reasons = {(refused.key, refused.err): _said(str(refused)) for refused in refusals}
    counts = Counter((refused.key, refused.err) for refused in refusals)
    with connection.cursor() as cursor:
        for (key, err), sample in reasons.items():
            row = {
                "tenant": source.tenant_id,
                "source": source.name,
                "key": key,
                "err": err,
                "hour": now.replace(minute=0, second=0, microsecond=0),
                "count": counts[key, err],
                "now": now,
                "sample": sample,
            }
            cursor.execute(_COUNT, row)
    look_again(source.tenant_id, "refusal", source.name)
