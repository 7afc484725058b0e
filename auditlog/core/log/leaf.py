"""The leaf: what the tree commits to for each place in a tenant's log.

A leaf is the JCS form (RFC 8785) of one array, at most 250 bytes and free of personal data:

    ["answerable-leaf/1", kind, source, received_at, grade, key, commitment]

- `kind`: event, key, conflict, tombstone, hold, release, config or case
- `source`: the source's name; "-" for leaves that the service itself writes
- `received_at`: microseconds since 1970-01-01T00:00:00Z
- `grade`: evidence grade A to F of the bytes
- `key`: RFC 7638 thumbprint of the key that signed them, "-" when none did
- `commitment`: base64url without padding of
  SHA-256(salt || len32(event id) || event id || len32(headers) || headers || bytes),
  `salt` being 32 random bytes, len32 a big-endian 32-bit length, `headers` the signed headers ("" when the
  signature lies inside the bytes). Without the salt the commitment says nothing of the bytes, so a payload can be
  erased while its leaf stays provable.
"""

from hashlib import sha256

from auditlog.core.wire.keys import b64url

MAX_BYTES = 250
KINDS = ("event", "key", "conflict", "tombstone", "hold", "release", "config", "case", "security")


def commitment(salt: bytes, event_id: bytes, headers: bytes, raw: bytes) -> bytes:
    return sha256(
        salt + len(event_id).to_bytes(4, "big") + event_id + len(headers).to_bytes(4, "big") + headers + raw
    ).digest()


def leaf_bytes(*, kind: str, source: str, received_us: int, grade: str, key: str, committed: bytes) -> bytes:
    """The canonical form. Names and keys are of a character set that needs no escaping in JSON."""
    return f'["answerable-leaf/1","{kind}","{source}",{received_us},"{grade}","{key}","{b64url(committed)}"]'.encode()
