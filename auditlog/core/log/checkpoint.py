"""Checkpoints: the log's head as a signed note (C2SP tlog-checkpoint and signed-note, both v1.0.0).

<origin>\n<tree size>\n<root hash, base64>\n\n— <origin> <base64(4-byte key id || Ed25519 signature)>\n
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

_ED25519 = b"\x01"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def key_id(name: str, public_key: bytes) -> bytes:
    """The four bytes that name a key in a note's signature line (signed-note, "Ed25519")."""
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def vkey(name: str, public_key: bytes) -> str:
    """A verifier key: `<name>+<hex key id>+<base64(0x01 || public key)>`."""
    return f"{name}+{key_id(name, public_key).hex()}+{b64encode(_ED25519 + public_key).decode()}"


_COSIGNATURE = b"\x04"  # algorithm byte of cosignature/v1 keys (C2SP tlog-cosignature)


def cosigner_of(verifier_key: str) -> tuple[str, bytes, bytes]:
    """Name, public key and key id of a witness's cosignature/v1 key. Raises ValueError."""
    name, _, rest = verifier_key.partition("+")
    identifier, _, encoded = rest.partition("+")
    blob = b64decode(encoded, validate=True)
    if blob[:1] != _COSIGNATURE or len(blob) != 33:
        raise ValueError("expected a cosignature/v1 verifier key")
    key = sha256(name.encode() + b"\n" + blob).digest()[:4]
    if key.hex() != identifier:
        raise ValueError("the verifier key's id does not fit its name and key")
    return name, blob[1:], key


def cosigned_message(checkpoint: Checkpoint, timestamp: int) -> bytes:
    """What a witness signs: the time it saw the head (seconds since 1970), and the head."""
    return f"cosignature/v1\ntime {timestamp}\n{checkpoint.body()}".encode()


def check_cosignature(line: str, checkpoint: Checkpoint, verifier_key: str) -> int:
    """Check a witness's signature line on a checkpoint. Returns its timestamp; raises ValueError."""
    name, public, key = cosigner_of(verifier_key)
    mark, _, rest = line.partition(" ")
    signer, _, value = rest.partition(" ")
    if mark != "\u2014" or signer != name:
        raise ValueError(f"expected a signature line of {name!r}, found {line[:80]!r}")
    blob = b64decode(value, validate=True)
    if blob[:4] != key or len(blob) != 4 + 8 + 64:
        raise ValueError("the cosignature is by another key, or is no cosignature/v1")
    timestamp = int.from_bytes(blob[4:12])
    try:
        VerifyKey(public).verify(cosigned_message(checkpoint, timestamp), blob[12:])
    except BadSignatureError:
        raise ValueError("the cosignature does not fit the checkpoint") from None
    return timestamp


def public_key_of(verifier_key: str) -> tuple[str, bytes]:
    """Name and public key of a verifier key. Raises ValueError when it is malformed or not Ed25519."""
    name, _, rest = verifier_key.partition("+")
    identifier, _, encoded = rest.partition("+")
    blob = b64decode(encoded, validate=True)
    if blob[:1] != _ED25519 or len(blob) != 33:
        raise ValueError("expected an Ed25519 verifier key")
    if key_id(name, blob[1:]).hex() != identifier:
        raise ValueError("the verifier key's id does not fit its name and key")
    return name, blob[1:]


def signed(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The note. Ed25519 is deterministic, so signing the same head again gives the same bytes."""
    signature = key.sign(checkpoint.body().encode()).signature
    line = b64encode(key_id(checkpoint.origin, bytes(key.verify_key)) + signature).decode()
    return f"{checkpoint.body()}\n\u2014 {checkpoint.origin} {line}\n"


def opened(note: str, *, origin: str, public_key: bytes) -> Checkpoint:
    """Parse a note and check our signature on it. Raises ValueError."""
    body, separator, signatures = note.partition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) < 3:
        raise ValueError("a checkpoint has three lines, an empty one, and signatures")
    if lines[0] != origin:
        raise ValueError(f"checkpoint is of log {lines[0]!r}, expected {origin!r}")
    if not lines[1].isascii() or not lines[1].isdigit() or (lines[1] != "0" and lines[1].startswith("0")):
        raise ValueError(f"tree size {lines[1]!r} is not a decimal number")
    root = b64decode(lines[2], validate=True)
    if len(root) != 32:
        raise ValueError("root hash is not 32 bytes")
    wanted = key_id(origin, public_key)
    for line in signatures.split("\n"):
        mark, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if mark != "\u2014" or name != origin:
            continue
        blob = b64decode(value, validate=True)
        if blob[:4] != wanted:
            continue
        try:
            VerifyKey(public_key).verify(body.encode() + b"\n", blob[4:])
        except BadSignatureError:
            raise ValueError("the log's signature on the checkpoint is wrong") from None
        return Checkpoint(origin, int(lines[1]), root)
    raise ValueError("the checkpoint carries no signature by the log's key")
