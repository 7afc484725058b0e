"""Earned: does each leaf carry what its grade claims, under the key that its source had on record at that time.

A grade is our claim. Whoever can write into the ledger can write a leaf that claims grade A over bytes that nobody
signed, and the tree will hold: so `verify_ledger` and the background check hold every event against the key leaf before
it. Grades D to F claim no signature.

Shared secrets (grade C) are not in the log. A MAC is checked under the secrets that the source has now; it earns its
grade where one fits. Where none does, it is an alarm only if the secret of that time is still there: sealed before, and
proven by an earlier event that it fits. Else the secret may have been rotated away, and the leaf counts as one that
cannot be checked any more.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import msgspec
from django.db import connection

from auditlog import formats
from auditlog.core.errors import AnswerableError, ConfigurationError, MalformedEvent, WrongAudience, WrongIssuer
from auditlog.core.wire.jws import b64url_bytes, json_object
from auditlog.core.wire.keys import Key, load, thumbprint
from auditlog.ledger.append import EPOCH, OWN, identity
from auditlog.models import SealedSecret, Source, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.sources.source_secrets import is_from_outside

JWS_FORMATS = ("set", "caep")  # a statement is one signed SET, and nothing else is taken: grade A always
READ_AT_ONCE = 1_000
UNDER_WAY = timedelta(minutes=5)  # a delivery that was verified before its key was retired may be appended after
LOOKED_BACK = 20  # events before one that does not fit, among which one has to
_EVENTS = (KIND_NUMBERS["event"], KIND_NUMBERS["conflict"])


@dataclass(frozen=True, slots=True)
class Unearned:
    """A leaf whose bytes are not what its grade and key say of them."""

    leaf_index: int
    source: str
    key: str
    grade: str
    reason: str
    received_at: datetime

    def words(self) -> str:
        return f"grade {self.grade} is not earned: {self.reason}"


@dataclass(slots=True)
class _Keys:
    """The keys of sources by the leaves that state them: (source, thumbprint) -> the key, and by which leaf and when it
    ended.
    """

    added: dict[tuple[str, str], Key] = field(default_factory=dict)
    retired: dict[tuple[str, str], tuple[int, datetime]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    secrets: dict[int, str] = field(default_factory=dict)  # by source: the name under which its shared secret is kept

    def learn(self, index: int, at: datetime, body: Mapping[str, Any]) -> None:
        change, source, stamp = body.get("change"), body.get("source"), body.get("thumbprint")
        if body.get("of") == "source" and isinstance(row := body.get("row"), dict):
            self.secrets[body.get("id")] = str(row.get("secret_env", ""))
        if change == "key.added" and isinstance(body.get("jwk"), dict):
            try:
                jwk = body["jwk"]
                key = load(jwk, str(body.get("kid") or jwk.get("kid") or stamp))
                if thumbprint(jwk) != stamp:
                    return  # whatever it is, it is not the key that leaves name
            except (ConfigurationError, KeyError, TypeError):
                return
            self.added.setdefault((source, stamp), key)
            self.retired.pop((source, stamp), None)
        elif change == "key.retired":
            self.retired[source, stamp] = (index, at)
        elif change == "source.added":
            self.formats[source] = str(body.get("format", ""))


def unearned(tenant: Tenant, start: int, end: int, *, unchecked: Counter[str] | None = None) -> Iterator[Unearned]:
    """The leaves in [start, end) that did not earn their grade, in order. Costs a signature check for each event.

    `unchecked` is given how many of each source cannot be checked any more, because their shared secret is gone.
    """
    unchecked = Counter() if unchecked is None else unchecked
    keys = _keys_before(tenant, start)
    sources = {source.pk: source for source in Source.objects.select_related("tenant").filter(tenant=tenant)}
    for first in range(start, end, READ_AT_ONCE):
        with connection.cursor() as cursor:
            cursor.execute(_READ, [tenant.pk, EPOCH, first, min(end, first + READ_AT_ONCE)])
            rows = cursor.fetchall()
        for index, kind, event_id, source_id, received_at, grade, stamp, given, headers, raw in rows:
            if raw is None:
                continue  # whether that was authorised is another question (absence.py)
            if kind not in _EVENTS:
                if kind in (KIND_NUMBERS["key"], KIND_NUMBERS["config"]) and (body := _body(bytes(raw))) is not None:
                    keys.learn(index, received_at, body)
                continue
            source = sources.get(source_id)
            if source is None:
                yield Unearned(index, "?", stamp, grade, "its source is none of this log's", received_at)
                continue
            stored = _Stored(index, received_at, given, bytes(headers), bytes(raw))
            reason = (
                _wrong_mac(keys, source, stored, unchecked)
                if grade == "C"
                else _wrong(keys, source, index, received_at, grade, stamp, given, stored.headers, stored.raw)
            )
            if (
                not reason
                and kind == KIND_NUMBERS["event"]
                and event_id != identity(bytes(tenant.pepper), source.name, given)
            ):
                reason = "its event id is not that of its source and source event id"
            if reason:
                yield Unearned(index, source.name, stamp, grade, reason, received_at)


_READ = """
    SELECT l.leaf_index, l.kind, l.event_id, l.source_id, l.received_at, l.grade, l.key, p.source_event_id, p.headers, p.raw
    FROM ledger_leaf l LEFT JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index >= %s AND l.leaf_index < %s ORDER BY l.leaf_index
"""


def _keys_before(tenant: Tenant, start: int) -> _Keys:
    keys = _Keys()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.received_at, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id,"
            " epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = ANY(%s) AND l.leaf_index <"
            " %s ORDER BY l.leaf_index",
            [tenant.pk, EPOCH, [KIND_NUMBERS["key"], KIND_NUMBERS["config"]], start],
        )
        for index, at, raw in cursor.fetchall():
            if (body := _body(bytes(raw))) is not None:
                keys.learn(index, at, body)
    return keys


def _body(raw: bytes) -> Mapping[str, Any] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _wrong(
    keys: _Keys,
    source: Source,
    index: int,
    received_at: datetime,
    grade: str,
    stamp: str,
    given: str,
    headers: bytes,
    raw: bytes,
) -> str:
    """Why these bytes do not earn their grade; "" when they do, or when the grade claims no signature."""
    form = keys.formats.get(source.name, source.format)
    if form in JWS_FORMATS and grade != "A":
        return f"a source of format {form} signs each statement, and this one is kept as signed by nobody"
    if grade not in ("A", "B"):
        return ""
    if stamp == OWN:
        return "it names no key"
    key = keys.added.get((source.name, stamp))
    if key is None:
        return f"no key leaf before it gives source {source.name!r} the key {stamp}"
    if (ended := keys.retired.get((source.name, stamp))) and received_at > ended[1] + UNDER_WAY:
        return f"leaf {ended[0]} had retired its key"
    module = formats.named(form)
    sender = _sender(source, key)
    try:
        if form in JWS_FORMATS:
            _check_set(raw, key)
        elif hasattr(module, "check_stored"):
            module.check_stored(raw, headers, sender)
        else:
            signed = msgspec.json.decode(headers) if headers else {}
            module.receive(formats.Delivery(raw, module.CONTENT_TYPES[0], signed), sender)
    except (AnswerableError, ValueError, KeyError, TypeError, RecursionError) as error:
        return str(error)[:200] or type(error).__name__
    return _moved(module, raw, headers, sender, given)


@dataclass(frozen=True, slots=True)
class _Stored:
    leaf_index: int
    received_at: datetime
    source_event_id: str
    headers: bytes
    raw: bytes


def _wrong_mac(keys: _Keys, source: Source, stored: _Stored, unchecked: Counter[str]) -> str:
    """Why these bytes do not earn grade C; "" when they do, or when that cannot be told any more."""
    if keys.formats.get(source.name, source.format) in JWS_FORMATS:
        return f"a source of format {source.format} signs each statement, and this one is kept as signed by nobody"
    module, sender = formats.named(source.format), _sender(source, None)
    if not (error := _mac_error(module, sender, stored)):
        return _moved(module, stored.raw, stored.headers, sender, stored.source_event_id)
    if keys.secrets.get(source.pk) == source.secret_env and _is_secret_of_then(source, module, sender, stored):
        return f"no secret that this source has had since before fits it: {error}"
    unchecked[source.name] += 1
    return ""


def _mac_error(module: ModuleType, sender: formats.Sender, stored: _Stored) -> str:
    """ "" where the MAC fits one of the sender's secrets."""
    if not sender.secrets():
        return "the secret is not here"
    try:
        if hasattr(module, "check_stored"):
            module.check_stored(stored.raw, stored.headers, sender)
        else:
            signed = msgspec.json.decode(stored.headers) if stored.headers else {}
            read = module.receive(formats.Delivery(stored.raw, module.CONTENT_TYPES[0], signed), sender)
            [statement] = read.statements.values()
            if isinstance(statement, Exception):
                raise statement
            if statement.grade > "C":
                return "nothing signs it"
    except (AnswerableError, ValueError, KeyError, TypeError, RecursionError) as error:
        return str(error)[:200] or type(error).__name__
    return ""


def _is_secret_of_then(source: Source, module: ModuleType, sender: formats.Sender, stored: _Stored) -> bool:
    """Whether the secret that is here was the source's when these bytes came: it was sealed before, and an event that
    came after that, and before these bytes, fits it. What the environment holds says nothing of when it was put there.
    """
    if not source.secret_env or is_from_outside(source.secret_env):
        return False
    since = (
        SealedSecret.objects.filter(tenant=source.tenant, name=source.secret_env)
        .values_list("changed_at", flat=True)
        .first()
    )
    if since is None or stored.received_at < since + UNDER_WAY:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE, [source.tenant_id, EPOCH, source.pk, stored.leaf_index, since, LOOKED_BACK])
        before = [
            _Stored(index, at, given, bytes(headers), bytes(raw))
            for index, at, given, headers, raw in cursor.fetchall()
        ]
    return any(not _mac_error(module, sender, each) for each in before)


_BEFORE = """
    SELECT l.leaf_index, l.received_at, p.source_event_id, p.headers, p.raw
    FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.source_id = %s AND l.leaf_index < %s AND l.received_at >= %s AND l.grade = 'C'
    ORDER BY l.leaf_index DESC LIMIT %s
"""


def _check_set(raw: bytes, key: Key) -> None:
    """The signature of a SET, and that it is one: whoever holds a token of another kind cannot pass it off as an event."""
    signing_input, _, signature = raw.rpartition(b".")
    header = json_object(b64url_bytes(signing_input.partition(b".")[0].decode("ascii")), "the JOSE header")
    if str(header.get("typ", "")).lower().removeprefix("application/") != "secevent+jwt":
        raise MalformedEvent("what was signed is no Security Event Token")
    key.check_for(str(header.get("alg")))(signing_input, b64url_bytes(signature.decode("ascii")))


def _moved(module: ModuleType, raw: bytes, headers: bytes, sender: formats.Sender, given: str) -> str:
    """Whether what was signed stands under another name, or was signed for another log: it was taken from elsewhere
    then.
    """
    try:
        event = module.parse(raw, headers, sender)
    except Exception as error:  # taken once, by another version of the parser: projected by nobody, and said elsewhere
        wrong = isinstance(error, (WrongIssuer, WrongAudience))
        return str(error)[:200] if wrong else ""
    if event.source_event_id != given:
        return f"what was signed is event {event.source_event_id[:80]!r}, and it stands under {given[:80]!r}"
    return ""


def _sender(source: Source, key: Key | None) -> formats.Sender:
    from auditlog.sources.sender import sender_of

    return sender_of(source, {key.kid: key} if key else {})
