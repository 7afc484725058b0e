"""Security Event Tokens: compact JWS (RFC 7515) of RFC 8417 claims, pushed singly (RFC 8935) or in batches (the
shapes of RFC 8936). Grade A: the signature travels with the event and anybody can check it.

The signature is checked over the received bytes before any claim is decoded. Only the JOSE header is read first,
because it names the key.
"""

from binascii import a2b_base64
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from auditlog.core.errors import (
    BadSignature,
    DeliveryTooLarge,
    MalformedEvent,
    Refused,
    UnknownKey,
    UnknownKid,
    WrongAudience,
    WrongContentType,
    WrongIssuer,
)
from auditlog.core.event import (
    LAYER_OF_TYPE,
    UNREADABLE,
    Event,
    Id,
    Issuer,
    Payload,
    Seconds,
    decode_payload,
    encode_payload,
    moment,
)
from auditlog.core.wire.cards import refuse_card_numbers
from auditlog.core.wire.keys import ALGORITHMS
from auditlog.core.wire.redaction import has_repeated_names, refuse_secrets
from auditlog.formats import About, Delivery, Received, Sender, Statement
from auditlog.formats.envelope import URN, SubjectId
from auditlog.formats.set_polling import (  # noqa: F401  what `poll.py` asks this format for
    POLL_NEEDS_KEY,
    poll_closing,
    poll_request,
    poll_response,
    poll_settled,
    poll_state,
)
from auditlog.formats.values import decoded, noting

CONTENT_TYPES = ("application/secevent+jwt", "application/json")
ABOUT = About(
    title="Native events (Security Event Tokens)",
    sent='POST of one compact JWS (application/secevent+jwt, RFC 8935), or of up to 1,000 as {"sets": {jti: SET}}; or polled (RFC 8936)',
    authentication="each event is signed with the sender's own key; no header is needed",
    grade="A",
    carries="every type of the published format: authority, orchestration, domains, provider acts, money, disputes",
    chains="nested act, outermost is the current actor; grants and tokens with their parents",
    lacks="nothing of ours; types of others (CAEP) are kept as other.*",
    tested="RFC 7515 and RFC 8037 examples, Wycheproof signatures, every claim mutated",
    against=("RFC 7515, 8037 and 8417, examples", "Wycheproof testvectors_v1, 2026-11", "joserfc 1.8.0"),
    connect=(
        "Publish your public keys as a JWKS, or have the file at hand.",
        "Sign each event as a SET with typ secevent+jwt and aud urn:answerable:<tenant>.",
        "POST it to {address} with Content-Type: application/secevent+jwt; 202 means it is in the ledger.",
        "Or give the address of an RFC 8936 endpoint to poll: what is in the ledger is acknowledged there, what is"
        " refused is said.",
    ),
)
MAX_SET = 256 * 1024
MAX_BATCH = 1_000
_COMPACT = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_EMBEDDED = ("jwk", "jku", "x5u", "x5c")


class Claims(Struct):
    iss: Issuer
    iat: Seconds
    jti: Id
    aud: str | list[str]
    events: dict[str, msgspec.Raw]
    toe: Seconds | None = None
    txn: Id = ""
    sub_id: SubjectId | None = None
    sub: Any = msgspec.UNSET
    exp: Any = msgspec.UNSET


_claims = msgspec.json.Decoder(Claims).decode
_sets = msgspec.json.Decoder(dict[str, dict[str, str]]).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    """Verify and parse one SET or a batch of them. A bad SET in a batch does not hurt the others."""
    return received(delivery, sender, _event)


def received(delivery: Delivery, sender: Sender, read: Callable[[bytes, Sender], Event]) -> Received:
    """The same for SETs of any profile: `read` makes an event of verified claims."""
    if delivery.content_type == "application/secevent+jwt":
        if len(delivery.body) > MAX_SET:
            raise DeliveryTooLarge(f"a SET has at most {MAX_SET:,} bytes, found {len(delivery.body):,}")
        statement = _statement(delivery.body.strip(), sender, read)
        return Received({statement.source_event_id: statement})
    if delivery.content_type != "application/json":
        raise WrongContentType(f"expected {' or '.join(CONTENT_TYPES)}, found {delivery.content_type or 'none'!r}")
    try:
        document = _sets(delivery.body)
    except UNREADABLE as error:
        raise MalformedEvent(f'expected {{"sets": {{jti: SET}}}}: {error}') from None
    if set(document) != {"sets"}:
        raise MalformedEvent(f'expected {{"sets": {{jti: SET}}}}, found members {sorted(document)[:5]}')
    sets = document["sets"]
    # A name that is there twice would be acknowledged, and one of its SETs be gone. No compact JWS holds a quote.
    if delivery.body.count(b'"') != 2 + 4 * len(sets) and has_repeated_names(delivery.body):
        raise MalformedEvent("a name is there twice in `sets`, so that one of its SETs would be lost")
    if len(sets) > MAX_BATCH:
        raise DeliveryTooLarge(f"a batch has at most {MAX_BATCH:,} SETs, found {len(sets):,}")
    statements: dict[str, Statement | Refused] = {}
    for jti, compact in sets.items():
        try:
            statement = _statement(compact.encode(), sender, read)
            if statement.source_event_id != jti:
                raise MalformedEvent(f"the SET under {jti[:80]!r} has jti {statement.source_event_id[:80]!r}")
            statements[jti] = statement
        except Refused as refused:
            statements[jti] = refused
    return Received(statements, batch=True)


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    """The event in stored bytes, whose signature was checked when they were received."""
    return _event(claims_in(raw), sender)


def claims_in(raw: bytes) -> bytes:
    return _decoded(raw.split(b".")[1])


def content(raw: bytes, headers: bytes) -> bytes:
    """JWS header and payload: an ES256 retry carries another signature of the same statement."""
    return raw[: raw.rindex(b".")]


def _statement(compact: bytes, sender: Sender, read: Callable[[bytes, Sender], Event]) -> Statement:
    if len(compact) > MAX_SET:
        raise DeliveryTooLarge(f"a SET has at most {MAX_SET:,} bytes, found {len(compact):,}")
    parts = compact.split(b".")
    if len(parts) != 3 or not all(parts) or compact.translate(None, _COMPACT):
        raise MalformedEvent("expected a compact JWS: three base64url parts joined by dots")
    header, payload, signature = parts
    signing_input = compact[: -len(signature) - 1]
    algorithm, kid = _header(header)
    key = sender.keys.get(kid)
    if key is None:
        if kid in sender.retired:
            raise UnknownKey(f"key {kid[:80]!r} was retired")
        if algorithm not in ALGORITHMS:
            raise UnknownKey(f"expected alg {', '.join(ALGORITHMS)}, found {algorithm!r}"[:200])
        raise UnknownKid(f"key {kid[:80]!r} is not one of this source's keys")
    try:
        key.check_for(algorithm)(signing_input, _decoded(signature))
    except BadSignature as refused:
        refused.key = key.thumbprint
        raise

    claims = _decoded(payload)
    refuse_card_numbers(claims)
    _look_for_secrets(claims)
    with noting() as notes:
        event = read(claims, sender)
    if event.issuer != sender.issuer:
        raise WrongIssuer(f"expected iss {sender.issuer!r}, found {event.issuer[:300]!r}")
    return Statement(event.source_event_id, compact, b"", "A", key.thumbprint, event, tuple(notes))


# Parts of the secrets' names and looks, as names are compared: most SETs cost a few scans.
_AS_NAMES = bytes(range(256)).lower()
_SECRET_HINTS = (b"spt", b"bearer", b"eyj", b"access", b"refresh", b"secret")


def _look_for_secrets(claims: bytes) -> None:
    plain = claims.translate(_AS_NAMES, b"_-. 0123456789{}[],")
    if any([hint in plain for hint in _SECRET_HINTS]) or (b"\\" in claims and b"\\u00" in claims):
        refuse_secrets(claims)


@lru_cache(maxsize=1024)
def _type_of(uri: str) -> str:
    """The event type that one of our URNs names, else ""."""
    match = URN.match(uri)
    return match[1] if match else ""


@lru_cache(maxsize=4096)
def _header(segment: bytes) -> tuple[str, str]:
    """`alg` and `kid` of a JOSE header (RFC 7515 section 4). A sender's headers repeat, so they are cached."""
    try:
        header = msgspec.json.decode(_decoded(segment), type=dict[str, Any])
    except UNREADABLE as error:
        raise MalformedEvent(f"the JOSE header is not a JSON object: {error}") from None
    media_type = str(header.get("typ", "")).lower().removeprefix("application/")
    if media_type != "secevent+jwt":
        raise MalformedEvent(f"expected header typ 'secevent+jwt', found {header.get('typ')!r}"[:200])
    algorithm = header.get("alg")  # judged with the key that is named: under a known one it is a forgery
    for name in _EMBEDDED:
        if name in header:
            raise UnknownKey(f"the header carries a key of its own ({name}); keys come from the source's configuration")
    if "crit" in header:
        raise MalformedEvent(f"the header marks {header['crit']!r} as critical, which we do not know"[:200])
    if "b64" in header:
        raise MalformedEvent("unencoded payloads (RFC 7797) are not taken")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise UnknownKey("the header names no key: kid is missing")
    return algorithm if isinstance(algorithm, str) else "", kid


def _event(claims_json: bytes, sender: Sender) -> Event:
    """Claims to an event: RFC 8417 section 2.2, and what the profile adds. Raises Refused."""
    claims = decoded(_claims, claims_json, "claims of a SET")
    if claims.sub is not msgspec.UNSET or claims.exp is not msgspec.UNSET:
        raise MalformedEvent("a SET has neither `sub` nor `exp`: use `sub_id`, and mind not to send access tokens")
    audience = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    wanted = f"urn:answerable:{sender.tenant}"
    if wanted not in audience:
        raise WrongAudience(f"expected aud to contain {wanted!r}, found {list(audience)[:5]!r}"[:400])
    if not claims.jti:
        raise MalformedEvent("claims: jti is empty")
    if len(claims.events) != 1:
        raise MalformedEvent(f"expected exactly one event in `events`, found {len(claims.events)}")
    [(uri, raw_payload)] = claims.events.items()
    event_type = _type_of(uri)
    if event_type in LAYER_OF_TYPE:
        payload = decode_payload(raw_payload)
    else:
        event_type = f"other.{sender.name}.{(event_type or uri)[:120]}"
        try:
            payload = decode_payload(raw_payload)
        except MalformedEvent:
            payload = Payload(outcome="unknown")  # kept whole in the signed bytes
    principal = claims.sub_id.party if claims.sub_id else None
    if b"\\u0000" in claims_json:  # in what we read: no name or text has it, and the database takes none
        read = (claims.jti, claims.txn, event_type, principal.key if principal else "")
        if any("\x00" in text for text in read) or _has_nul(encode_payload(payload)):
            raise MalformedEvent("a string holds U+0000, which no name or text has")
    issued_at = moment(claims.iat)
    return Event(
        source_event_id=claims.jti,
        type=event_type,
        issuer=claims.iss,
        occurred_at=issued_at if claims.toe is None else moment(claims.toe),
        issued_at=issued_at,
        payload=payload,
        txn=claims.txn,
        principal_claim=principal,
        dated=claims.toe is not None,
    )


def _decoded(segment: bytes) -> bytes:
    try:
        return a2b_base64(segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4))
    except ValueError as error:
        raise MalformedEvent(f"not base64url: {error}") from None


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def _has_nul(document: bytes) -> bool:
    """Whether an escaped U+0000 is really in a string, and not a backslash followed by those letters."""
    pending = [msgspec.json.decode(document)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and "\x00" in value:
            return True
    return False
