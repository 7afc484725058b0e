#!/usr/bin/env python3
"""Check evidence of Answerable, offline, with nothing but Python (3.8 or newer) and this one file: a bundle, or one event.

    python3 answerable_verify.py BUNDLE [--vkey KEY]... [--witness KEY]... [--quorum N] [--source-key NAME=FILE]...
                                 [--digest SHA256] [--json]
    python3 answerable_verify.py --event RAW --proof PROOF --vkey KEY --source-key NAME=FILE [--witness KEY]... [--json]

It exits 0 when all holds, 1 when something is wrong (and names the first thing), 2 when it was not given a bundle.
Get KEY, the log's verifier key, from somewhere else than the bundle: without it the bundle vouches for itself. RAW and PROOF
are what `/api/v1/events/<id>/raw` and `/proof` answer; FILE is the JWK Set that source NAME publishes.

What is checked, from the bytes up:

1. bytes, signed headers, source event id and salt give the commitment that the leaf carries;
2. the leaf is in the tree: its audit path leads to the checkpoint's root, or the whole tree is derived again (RFC 6962);
3. the checkpoint is signed by the log (C2SP signed-note), by the key that the log had then, and extends every earlier
   checkpoint in the bundle (RFC 9162);
4. with --witness: N of the witnesses given (all, when N is not said) cosigned the checkpoint or an earlier one that it
   extends (C2SP tlog-cosignature), so that whoever holds the log's key did not show you a history of your own;
5. a Security Event Token is signed by its source's key (Ed25519, ES256, RS256, PS256), that key being in a `key` leaf of
   the same log, before the event, proven like the event; and it was meant for this tenant, by that source's issuer. With
   --source-key every event of that source must be signed by a key in FILE: whoever holds the log's database and its key
   could have put a key of their own on record;
6. a payload that is not there was erased by a tombstone leaf, and no legal hold covered it then: else it was destroyed.
   Or the manifest says that this copy leaves it out: then its leaf is proven, and what was said is not shown;
7. of a case's packet: each file is what the manifest states, and what leaves of the log say of the case is what its papers
   say: steps, contested acts, verdicts, proposals and answers, evidence, keys. What only the manifest binds is bound by
   --digest, the SHA-256 of the manifest that the log states: get that from the log's operator.

Nothing is imported from the project, and no signature library is used: what you read here is all there is.
"""

import argparse
import calendar
import hashlib
import io
import json
import re
import sys
import time
import zipfile
import zlib
from base64 import b64decode, b64encode
from binascii import a2b_base64
from functools import lru_cache

FORMAT = "answerable-bundle/1"
SMALL = 1 << 20  # bytes, of any member but the streamed ones
LINE = 64 << 20  # bytes, of one line of a streamed member
PAPER = 512 << 20  # bytes, of one paper of a case
MEMBERS = 10_000
DETAILS = 10_000  # leaves listed one by one in the report
NEEDED = ("checkpoint", "leaves.jsonl", "manifest.json")
OURS = (*NEEDED, "checkpoints.jsonl", "vkeys", "README.txt", "answerable_verify.py", "manifest.sha256")


class Bad(Exception):
    """Something in the bundle is wrong: `where`, and what was found and expected."""

    def __init__(self, where, what):
        super().__init__(f"{where}: {what}")
        self.where, self.what = where, what


class Unusable(Exception):
    """This is no bundle, or not one of a version we know, or the arguments make no sense."""


def shown(value):
    """Foreign text, safe for a terminal: escaped, in quotes, and short."""
    return json.dumps(str(value)[:80])


# --- Ed25519 (RFC 8032), as strict as libsodium: cofactorless, S below L, no small-order and no non-canonical points

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_M1 = pow(2, (P - 1) // 4, P)
ZERO = (0, 1, 1, 0)  # extended coordinates: x = X/Z, y = Y/Z, xy = T/Z


def ed_add(a, b):
    """Complete addition on the twisted Edwards curve (RFC 8032 section 5.1.4): doubling and zero included."""
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    m, n = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def ed_point(encoded):
    """Decode a point (section 5.1.3). None when it is not the one canonical encoding of a point on the curve."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * ROOT_M1 % P
        if v * x * x % P != u:
            return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def is_small_order(point):
    for _ in range(3):
        point = ed_add(point, point)
    return point[0] == 0 and point[1] == point[2]


class Comb:
    """Multiples of one point, 4 bits at a time: 960 additions once, then at most 64 for each product."""

    def __init__(self, add, zero, point):
        self.add, self.zero, self.rows = add, zero, []
        for _ in range(64):
            row = [zero, point]
            for _ in range(14):
                row.append(add(row[-1], point))
            self.rows.append(row)
            point = add(row[-1], point)

    def times(self, number):
        total = self.zero
        for row in self.rows:
            if number & 15:
                total = self.add(total, row[number & 15])
            number >>= 4
        return total


@lru_cache(maxsize=1)
def ed_base():
    y = 4 * pow(5, -1, P) % P
    return Comb(ed_add, ZERO, ed_point(y.to_bytes(32, "little")))


@lru_cache(maxsize=64)
def ed_key(public):
    """The negated public key, ready to be multiplied. None for a key that nobody should use."""
    point = ed_point(public) if len(public) == 32 else None
    if point is None or is_small_order(point):
        return None
    x, y, z, t = point
    return Comb(ed_add, ZERO, (P - x, y, z, P - t))


def ed25519(public, message, signature):
    """Whether `signature` is one of `message` under `public`."""
    key = ed_key(public)
    if key is None or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    point = ed_add(ed_base().times(s), key.times(k))
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32] and not is_small_order(point)


# --- ECDSA on P-256 with SHA-256 (FIPS 186-4, RFC 7518 section 3.4) -----------------------------------------

Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
GENERATOR = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
INFINITY = (1, 1, 0)  # Jacobian coordinates: x = X/Z^2, y = Y/Z^3


def p256_add(a, b):
    x1, y1, z1 = a
    x2, y2, z2 = b
    if not z1:
        return b
    if not z2:
        return a
    zz1, zz2 = z1 * z1 % Q, z2 * z2 % Q
    u1, u2, s1, s2 = x1 * zz2 % Q, x2 * zz1 % Q, y1 * z2 * zz2 % Q, y2 * z1 * zz1 % Q
    h, r = (u2 - u1) % Q, (s2 - s1) % Q
    if not h:
        if r:
            return INFINITY
        yy = y1 * y1 % Q
        m, s = 3 * (x1 - zz1) * (x1 + zz1) % Q, 4 * x1 * yy % Q
        x = (m * m - 2 * s) % Q
        return x, (m * (s - x) - 8 * yy * yy) % Q, 2 * y1 * z1 % Q
    hh = h * h % Q
    hhh, v = h * hh % Q, u1 * hh % Q
    x = (r * r - hhh - 2 * v) % Q
    return x, (r * (v - x) - s1 * hhh) % Q, z1 * z2 * h % Q


@lru_cache(maxsize=1)
def p256_base():
    return Comb(p256_add, INFINITY, (*GENERATOR, 1))


@lru_cache(maxsize=64)
def p256_key(x, y):
    if x >= Q or y >= Q or (y * y - (x * x * x - 3 * x + B)) % Q:
        return None
    return Comb(p256_add, INFINITY, (x, y, 1))


def es256(x, y, message, signature):
    """Whether `signature` (r || s, 64 bytes) is one of `message` under the public point (x, y)."""
    key = p256_key(x, y)
    if key is None or len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N):
        return False
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    w = pow(s, -1, N)
    px, _, pz = p256_add(p256_base().times(digest * w % N), key.times(r * w % N))
    return bool(pz) and px * pow(pz, -2, Q) % Q % N == r


# --- RSA with SHA-256 (RFC 8017): PKCS #1 v1.5 and PSS with a salt of 32 bytes ------------------------------

SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def rsa(algorithm, modulus, exponent, message, signature):
    bits = modulus.bit_length()
    size = (bits + 7) // 8
    if not 2048 <= bits <= 8192 or not 3 <= exponent < 1 << 64 or len(signature) != size:
        return False
    number = int.from_bytes(signature, "big")
    if number >= modulus:
        return False
    encoded = pow(number, exponent, modulus).to_bytes(size, "big")
    digest = hashlib.sha256(message).digest()
    if algorithm == "RS256":
        return encoded == b"\x00\x01" + b"\xff" * (size - 54) + b"\x00" + SHA256_INFO + digest
    if bits % 8 == 1:  # the encoded message is then one byte shorter than the modulus
        if encoded[0]:
            return False
        encoded = encoded[1:]
    masked, h = encoded[:-33], encoded[-33:-1]
    spare = 8 * len(encoded) - (bits - 1)
    if encoded[-1] != 0xBC or masked[0] >> (8 - spare):
        return False
    mask = b"".join(hashlib.sha256(h + n.to_bytes(4, "big")).digest() for n in range(len(masked) // 32 + 1))
    block = bytearray(a ^ b for a, b in zip(masked, mask))  # noqa: B905  the mask may be longer; Python 3.8 has no strict
    block[0] &= 0xFF >> spare
    if bytes(block[:-32]) != b"\x00" * (len(block) - 33) + b"\x01":
        return False
    return hashlib.sha256(b"\x00" * 8 + digest + bytes(block[-32:])).digest() == h


# --- the tree (RFC 6962, RFC 9162) --------------------------------------------------------------------------


def leaf_hash(leaf):
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def climb(index, size, proof, take):
    """Walk from leaf `index` to the root of `size` leaves. `take(part, is_left)` combines. Raises ValueError."""
    first, last = index, size - 1
    for part in proof:
        if len(part) != 32:
            raise ValueError("a hash of the proof is not 32 bytes")
        if last == 0:
            raise ValueError("the proof is too long")
        is_left = bool(first & 1) or first == last
        take(part, is_left)
        while is_left and first and not first & 1:
            first, last = first >> 1, last >> 1
        first, last = first >> 1, last >> 1
    if last:
        raise ValueError("the proof is too short")


def root_from_inclusion(index, size, leaf, proof):
    """RFC 9162 section 2.1.3.2. Raises ValueError when the proof does not have the tree's shape."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    if len(leaf) != 32:
        raise ValueError("a leaf hash is 32 bytes")
    root = [leaf]

    def take(part, is_left):
        root[0] = node_hash(part, root[0]) if is_left else node_hash(root[0], part)

    climb(index, size, proof, take)
    return root[0]


def check_consistency(old_size, new_size, old_root, new_root, proof):
    """RFC 9162 section 2.1.4.2. Raises ValueError saying what does not fit."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"sizes run backwards: {old_size} to {new_size}")
    if old_size in (0, new_size):
        if proof:
            raise ValueError("the proof must be empty")
        if old_size == new_size and old_root != new_root:
            raise ValueError("same size, other root")
        return
    if not proof:
        raise ValueError("the proof is empty")
    parts = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    if len(parts[0]) != 32:
        raise ValueError("a hash of the proof is not 32 bytes")
    roots = [parts[0], parts[0]]

    def take(part, is_left):
        if is_left:
            roots[:] = node_hash(part, roots[0]), node_hash(part, roots[1])
        else:
            roots[1] = node_hash(roots[1], part)

    climb(first, last + 1, parts[1:], take)
    if roots[0] != old_root:
        raise ValueError("the proof does not lead to the old root")
    if roots[1] != new_root:
        raise ValueError("the proof does not lead to the new root")


class Tree:
    """A tree that grows by one leaf: the roots of its perfect subtrees, largest first."""

    def __init__(self):
        self.size, self.parts = 0, []

    def add(self, leaf):
        carry = self.size
        while carry & 1:
            leaf = node_hash(self.parts.pop(), leaf)
            carry >>= 1
        self.parts.append(leaf)
        self.size += 1

    def root(self):
        if not self.parts:
            return hashlib.sha256(b"").digest()
        root = self.parts[-1]
        for left in reversed(self.parts[:-1]):
            root = node_hash(left, root)
        return root


# --- signed notes (C2SP signed-note, tlog-checkpoint) -------------------------------------------------------


def parse_vkey(text, kind=b"\x01", what="an Ed25519"):
    """Name, key id and public key of `<name>+<hex id>+<base64(kind || key)>`. Raises ValueError."""
    name, _, rest = text.strip().partition("+")
    identifier, _, encoded = rest.partition("+")
    try:
        blob = b64decode(encoded, validate=True)
    except ValueError:
        blob = b""
    if not name or len(blob) != 33 or blob[:1] != kind:
        raise ValueError(f"expected {what} verifier key, <name>+<id>+<base64>, found {shown(text)}")
    wanted = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
    if wanted.hex() != identifier:
        raise ValueError(f"the id in verifier key {shown(text)} does not fit its name and key")
    return name, wanted, blob[1:]


def open_note(note, keys):
    """Origin, size, root and the key that signed. `keys` is what parse_vkey gave. Raises ValueError."""
    text, separator, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) < 3 or not signatures.endswith("\n"):
        raise ValueError("a checkpoint has three lines, an empty one, and signatures")
    if not re.match(r"(0|[1-9][0-9]{0,18})\Z", lines[1]):
        raise ValueError(f"the tree size {shown(lines[1])} is not a number of at most 19 digits")
    root = strict_base64(lines[2], "the root hash")
    if len(root) != 32:
        raise ValueError("the root hash is not 32 bytes")
    mine = [key for key in keys if key[0] == lines[0]]
    if not mine:
        names = ", ".join(sorted({shown(name) for name, _, _ in keys})) or "none"
        raise ValueError(f"it is of log {shown(lines[0])}, and the verifier keys are for: {names}")
    for line in signatures.split("\n")[:-1][:100]:
        mark, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if mark != "\u2014" or name != lines[0]:
            continue
        blob = strict_base64(value, "a signature line")
        for _, identifier, public in mine:
            if blob[:4] == identifier:
                if not ed25519(public, (text + "\n").encode(), blob[4:]):
                    raise ValueError("the log's signature on it is wrong")
                return lines[0], int(lines[1]), root, public
    raise ValueError("it carries no signature by a key it is checked against")


def cosigners(note, witnesses):
    """The names of `witnesses` whose lines on `note` hold, each with its time in seconds. Raises ValueError at a false line."""
    text, _, signatures = note.partition("\n\n")
    found = {}
    for line in signatures.split("\n")[:-1][:100]:
        mark, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        for witness, identifier, public in witnesses:
            if mark != "\u2014" or name != witness:
                continue
            blob = strict_base64(value, "a signature line")
            if blob[:4] != identifier or len(blob) != 76:
                continue  # by another key of that name, as after a rotation
            seen = int.from_bytes(blob[4:12], "big")
            if not ed25519(public, f"cosignature/v1\ntime {seen}\n{text}\n".encode(), blob[12:]):
                raise ValueError(f"the line of witness {shown(name)} on it is wrong")
            found[name] = seen
    return found


# --- reading what strangers wrote ---------------------------------------------------------------------------


def strict_base64(text, what):
    """Raises ValueError unless `text` is the one standard base64 form of some bytes."""
    if not isinstance(text, str):
        raise ValueError(f"{what} is not base64 text")
    try:
        value = b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise ValueError(f"{what} is not base64") from None
    if b64encode(value).decode() != text:
        raise ValueError(f"{what} is not canonical base64")
    return value


def from_base64url(text):
    """Lenient about spare bits, as JWS libraries are. Raises ValueError."""
    data = text if isinstance(text, bytes) else str(text).encode("ascii")
    return a2b_base64(data.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(data) % 4))


def _whole(digits):
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _once(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return made


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def parse_json(data, what, strict=True):
    """A JSON object. `strict` is for what our own exporter writes; signed claims may hold any JSON. Raises ValueError."""
    try:
        value = json.loads(
            data.decode("utf-8") if isinstance(data, bytes) else data,
            parse_int=_whole if strict else lambda digits: int(digits) if len(digits) <= 20 else 0,
            object_pairs_hook=_once if strict else dict,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a JSON object")
    return value


def field(record, name, kind):
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name!r} is missing or of the wrong type")
    return value


def hashes(record, name):
    parts = field(record, name, list)
    if len(parts) > 64:
        raise ValueError(f"{name!r} has {len(parts)} hashes, at most 64 are possible")
    return [strict_base64(part, f"a hash of {name!r}") for part in parts]


class Archive:
    """The bundle's members. Nothing is ever written to disk, so names are only judged, not followed."""

    def __init__(self, file):
        try:
            self.zip = zipfile.ZipFile(file)
            members = self.zip.infolist()
        except OSError as error:
            raise Unusable(f"cannot read {shown(file)}: {error.strerror or error}") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, IndexError) as error:
            raise Unusable(f"this is not a zip archive that can be read: {error}") from None
        if len(members) > MEMBERS:
            raise Bad("archive", f"has {len(members)} members, at most {MEMBERS} are taken")
        self.names = set()
        for member in members:
            name = member.filename
            if name in self.names:
                raise Bad("archive", f"has two members named {shown(name)}")
            parts = name.split("/")
            if re.search(r"[\x00-\x1f\x7f\\:]", name) or name.startswith("/") or ".." in parts or "" in parts[:-1]:
                raise Bad("archive", f"has a member with the unsafe name {shown(name)}")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Bad("archive", f"member {shown(name)} is encrypted or compressed in an unusual way")
            if member.external_attr >> 16 & 0o170000 == 0o120000:
                raise Bad("archive", f"member {shown(name)} is a symbolic link")
            self.names.add(name)

    def small(self, name):
        data = b"".join(self._read(name, lambda stream: [stream.read(SMALL + 1)]))
        if len(data) > SMALL:
            raise Bad(name, f"is larger than {SMALL} bytes")
        return data

    def whole(self, name):
        return b"".join(self.blocks(name))

    def blocks(self, name):
        def read(stream):
            total = 0
            while True:
                block = stream.read(1 << 16)
                if not block:
                    return
                total += len(block)
                if total > PAPER:
                    raise Bad(name, f"is larger than {PAPER} bytes")
                yield block

        return self._read(name, read)

    def lines(self, name):
        def read(stream):
            while True:
                line = stream.readline(LINE + 1)
                if not line:
                    return
                if len(line) > LINE:
                    raise Bad(name, f"has a line longer than {LINE} bytes")
                yield line

        return self._read(name, read)

    def _read(self, name, read):
        if name not in self.names:
            raise Bad(name, "is not in the archive")
        try:
            with self.zip.open(name) as member, io.BufferedReader(member, 1 << 16) as stream:
                yield from read(stream)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise Bad(name, f"is damaged: {error}") from None


# --- leaves, payloads, keys, signatures ---------------------------------------------------------------------

LEAF = re.compile(
    rb'\["answerable-leaf/1","([a-z]{1,20})","([a-z0-9._-]{1,48})",(0|-?[1-9][0-9]{0,17}),"([A-F])","([A-Za-z0-9_-]{1,43})"'
    rb',"([A-Za-z0-9_-]{43})"\]\Z'
)
COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
KEY_TYPES = {"Ed25519": "OKP", "EdDSA": "OKP", "ES256": "EC", "RS256": "RSA", "PS256": "RSA"}
MEMBERS_OF_KEY = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}


def commitment(salt, event_id, headers, raw):
    lengths = len(event_id).to_bytes(4, "big"), len(headers).to_bytes(4, "big")
    return hashlib.sha256(salt + lengths[0] + event_id + lengths[1] + headers + raw).digest()


def thumbprint(jwk):
    """RFC 7638. Raises ValueError for what is no public key we know."""
    names = MEMBERS_OF_KEY.get(jwk.get("kty"), ()) if isinstance(jwk.get("kty"), str) else ()
    if not names or not all(isinstance(jwk.get(name), str) for name in names):
        raise ValueError("the key is no public JWK of type OKP, EC or RSA")
    text = "{{{}}}".format(",".join(f'"{name}":"{jwk[name]}"' for name in names))
    return b64encode(hashlib.sha256(text.encode()).digest(), b"-_").rstrip(b"=").decode()


def signature_fits(jwk, algorithm, message, signature):
    """Whether `signature` is one of `message` under `jwk` with the JWS algorithm. Raises ValueError."""
    if KEY_TYPES.get(algorithm) != jwk["kty"]:
        raise ValueError("alg {} does not go with a key of type {}".format(shown(algorithm), shown(jwk["kty"])))
    if jwk["kty"] == "RSA":
        n, e = (int.from_bytes(from_base64url(jwk[name]), "big") for name in "ne")
        return rsa(algorithm, n, e, message, signature)
    x = from_base64url(jwk["x"])
    if jwk["kty"] == "OKP":
        if jwk["crv"] != "Ed25519":
            raise ValueError("expected curve Ed25519, found {}".format(shown(jwk["crv"])))
        return ed25519(x, message, signature)
    y = from_base64url(jwk["y"])
    if jwk["crv"] != "P-256" or len(x) != 32 or len(y) != 32:
        raise ValueError("expected a point of curve P-256")
    return es256(int.from_bytes(x, "big"), int.from_bytes(y, "big"), message, signature)


class Keys:
    """What the log itself says of its sources and their keys, in leaves that are proven like all others."""

    def __init__(self):
        self.jwks, self.retired, self.sources = {}, {}, {}
        self.holds, self.released = (
            {},
            {},
        )  # first and last leaf held, by the hold's leaf; the leaf that ended a hold, by it
        self.log = []  # (leaf, public key) of the log itself, oldest first
        self.cases, self.times = {}, {}  # by leaf: what is said of a case; when it was received, microseconds
        self.added = {}  # by source and thumbprint: the leaf that first gave the key
        self.events = set()  # leaves of kind event

    def learn(self, index, kind, raw, received):
        body = parse_json(raw, "what the service wrote", strict=False)
        change, source, stamp = body.get("change"), body.get("source"), body.get("thumbprint")
        if kind == "key" and change == "key.added":
            jwk = field(body, "jwk", dict)
            if thumbprint(jwk) != stamp:
                raise ValueError("the key in it does not have the thumbprint it states")
            self.jwks[source, stamp] = jwk
            self.retired.pop((source, stamp), None)
            self.added.setdefault((source, stamp), index)
        elif kind == "key" and change == "key.retired":
            self.retired[source, stamp] = index
        elif kind == "key" and change == "log.key.added":
            self.log.append((index, parse_vkey(field(body, "vkey", str))[2]))
        elif kind == "config" and change == "source.added":
            self.sources[source] = body.get("format"), body.get("issuer")
        elif kind == "case":
            self.cases[index], self.times[index] = body, received
        elif kind == "hold":
            self.holds[index] = field(body, "first", int), field(body, "last", int)
        elif kind == "release":
            self.released.setdefault(field(body, "hold", int), index)
        elif kind == "tombstone" and change == "erased" and isinstance(body.get("leaves"), list):
            return [leaf for leaf in body["leaves"] if isinstance(leaf, int)]
        return []


def hold_over(keys, leaf, at):
    """The hold that covers `leaf` when leaf `at` is written, or None."""
    for hold, (first, last) in sorted(keys.holds.items()):
        if hold < at and first <= leaf <= last and not hold < keys.released.get(hold, at + 1) < at:
            return hold
    return None


def check_signers(keys, runs):
    """A checkpoint is signed by the log's key of its time. One that was rotated away may be stolen, and signs nothing more."""
    for first, last, public in runs:
        for size in (first, last):
            mine = [key for index, key in keys.log if index < size]
            if mine and mine[-1] != public:
                raise Bad(
                    f"checkpoint of {size} leaves",
                    "it is signed by a key that the log had rotated away from, or did not have yet",
                )


def check_signature(keys, source, stamp, grade, event_id, headers, raw, tenant):
    """ "good", or why it cannot be told from here. Raises ValueError when the signature is wrong or its key is missing."""
    form, issuer = keys.sources.get(source, (None, None))
    if form not in (None, "set", "caep") or headers or not COMPACT.match(raw):
        if form in ("set", "caep"):
            raise ValueError(f"source {shown(source)} sends Security Event Tokens, and these bytes are none")
        return "grade {}, format {}: no signature that this verifier knows".format(grade, form or "unknown")
    signing_input, _, signature = raw.rpartition(b".")
    header_part, _, claims_part = signing_input.partition(b".")
    header = parse_json(from_base64url(header_part), "the JOSE header", strict=False)
    media_type = str(header.get("typ", "")).lower()
    if form is None and media_type not in ("secevent+jwt", "application/secevent+jwt"):
        return f"grade {grade}, format unknown: no signature that this verifier knows"
    jwk = keys.jwks.get((source, stamp))
    if jwk is None:
        raise ValueError(f"no key leaf before it gives source {shown(source)} the key {shown(stamp)}")
    if not signature_fits(jwk, header.get("alg"), signing_input, from_base64url(signature)):
        raise ValueError("the source's signature does not fit the bytes")
    claims = parse_json(from_base64url(claims_part), "what was signed", strict=False)
    audience = claims.get("aud")
    # A CAEP stream has the audience that its transmitter was told, which is its source's configuration.
    if form != "caep" and "urn:answerable:" + tenant not in (audience if isinstance(audience, list) else [audience]):
        raise ValueError(f"it was signed for another audience: {shown(audience)}")
    if claims.get("jti") != event_id:
        raise ValueError(
            "its signed jti is {}, and it stands under {}".format(shown(claims.get("jti")), shown(event_id))
        )
    if issuer is not None and claims.get("iss") != issuer:
        raise ValueError("its signed iss is {}, and the source's is {}".format(shown(claims.get("iss")), shown(issuer)))
    return "good"


# --- the bundle ---------------------------------------------------------------------------------------------


def verify(file, vkeys=(), witnesses=(), quorum=None, source_keys=None, digest=None):
    """Check a bundle. Returns the report, whose `problem` is None when all holds; raises Unusable.

    `quorum` is how many of the witnesses must have cosigned; None: all of them. `source_keys`: by source, the JWK Sets
    (as text) that its events must be signed by. `digest`: the manifest's SHA-256 in hex, from elsewhere.
    """
    if digest is not None and not re.match(r"[0-9a-f]{64}\Z", digest):
        raise Unusable(f"expected a SHA-256 of 64 lower-case hex digits, found {shown(digest)}")
    trusted, witnessed, pinned = _given(vkeys, witnesses, quorum, source_keys)

    def check(report):
        archive = Archive(file)
        with archive.zip:
            _verify(archive, trusted, witnessed, pinned, report, digest)

    return _reported(check)


def verify_event(raw, proof, vkeys, witnesses=(), quorum=None, source_keys=None):
    """Check one event's exact bytes against its proof, as the API gives both. Returns the report; raises Unusable."""
    trusted, witnessed, pinned = _given(vkeys, witnesses, quorum, source_keys)
    if not trusted:
        raise Unusable("a proof of one event carries no key: give the log's with --vkey")
    return _reported(lambda report: _verify_event(raw, proof, trusted, witnessed, pinned, report))


def _given(vkeys, witnesses, quorum, source_keys):
    try:
        trusted = [parse_vkey(text) for text in vkeys]
        watching = [parse_vkey(text, b"\x04", "a witness's (cosignature/v1)") for text in witnesses]
        names = {name for name, _, _ in watching}
        if quorum is not None and not 1 <= quorum <= len(names):
            raise ValueError(f"expected a quorum from 1 to the number of witnesses given, {len(names)}, found {quorum}")
    except ValueError as error:
        raise Unusable(str(error)) from None
    pinned = {}
    for name, text in (source_keys or {}).items():
        try:
            found = parse_json(text, "the file", strict=False)
            keys = found["keys"] if isinstance(found.get("keys"), list) else [found]
            pinned[name] = {
                thumbprint(jwk): jwk for jwk in keys if isinstance(jwk, dict) and jwk.get("kty") in ("OKP", "EC", "RSA")
            }
        except ValueError as error:
            raise Unusable(f"the keys of source {shown(name)}: {error}") from None
        if not pinned[name]:
            raise Unusable(f"the keys of source {shown(name)}: there is no public key in them")
    return trusted, Witnessed(watching, quorum or len(names)), pinned


def _reported(check):
    report = {"result": "bad", "problem": None, "notes": []}
    try:
        check(report)
        report["result"] = "ok"
    except Bad as bad:
        report["problem"] = {"where": bad.where, "what": bad.what}
    except (Unusable, KeyboardInterrupt):
        raise
    except Exception as error:  # a hostile file found a hole: that is a refusal, not a traceback
        report["problem"] = {"where": "bundle", "what": f"cannot be read ({type(error).__name__})"}
    return report


def _verify_event(raw, text, trusted, witnessed, pinned, report):
    try:
        proof = parse_json(text, "the proof")
        note = field(proof, "checkpoint", str)
        origin, size, root, public = open_note(note, trusted)
        tenant = origin.rpartition("/")[2]
        report.update(
            origin=origin,
            tenant=tenant,
            size=size,
            root=root.hex(),
            scope="event",
            signed_by=public.hex(),
            key_given=True,
        )
        report.update(earlier_checkpoints=0)
        leaf, index = strict_base64(proof.get("leaf"), "the leaf"), field(proof, "leaf_index", int)
        parts = LEAF.match(leaf)
        if parts is None:
            raise ValueError("its leaf is not in canonical form")
        kind, source, received, grade, stamp, committed = (part.decode() for part in parts.groups())
        if root_from_inclusion(index, size, leaf_hash(leaf), hashes(proof, "hashes")) != root:
            raise ValueError("the audit path does not lead to the checkpoint's root")
        event_id, headers = (
            proof.get("source_event_id") or "",
            strict_base64(proof.get("signed_headers") or "", "signed_headers"),
        )
        salt = strict_base64(proof.get("salt"), "the salt")
        if len(salt) != 32 or not isinstance(event_id, str):
            raise ValueError("its salt is not 32 bytes, or its source event id no text")
        if commitment(salt, event_id.encode(), headers, raw) != from_base64url(committed):
            raise ValueError("the event's bytes, headers, source event id or salt are not what the leaf commits to")
        keys = Keys()
        keys.jwks = {(name, stamp): jwk for name, known in pinned.items() for stamp, jwk in known.items()}
        said = "no key of its source was given: see --source-key"
        if kind in ("event", "conflict") and source in pinned:
            said = _signed(keys, pinned, source, stamp, grade, event_id, headers, raw, tenant, report)
    except ValueError as error:
        raise Bad("proof", str(error)) from None
    witnessed.saw(size, note)
    report["witnessed"] = witnessed.newest()
    good = said == "good"
    report["counts"] = {
        "leaves": 1,
        "events": 1,
        "payloads_checked": 1,
        "erased": 0,
        "withheld": 0,
        "signatures_good": int(good),
    }
    report["signatures_not_checked"] = {} if good else {said: 1}
    report["leaves"] = [
        {"index": index, "kind": kind, "source": source, "received_us": int(received), "grade": grade, "key": stamp,
         "payload": "checked", "signature": said}
    ]  # fmt: skip


def _signed(keys, pinned, source, stamp, grade, event_id, headers, raw, tenant, report):
    """What check_signature says, held against the keys that were given for the source."""
    known = pinned.get(source)
    if known is not None and stamp not in known:
        raise ValueError(f"its key {shown(stamp)} is none of those given for source {shown(source)}")
    said = check_signature(keys, source, stamp, grade, event_id, headers, raw, tenant)
    if known is not None and said != "good":
        raise ValueError(
            f"a key was given for source {shown(source)}, and this carries no signature that can be checked"
        )
    if said == "good":
        used = report.setdefault("source_keys", {})
        used.setdefault(source, {})[stamp] = "given" if known is not None else "on record in the log"
    return said


def _verify(archive, trusted, witnessed, pinned, report, digest=None):
    manifest = _manifest(archive)
    report["digest_given"] = digest is not None
    if digest is not None and hashlib.sha256(archive.small("manifest.json")).hexdigest() != digest:
        raise Bad(
            "manifest.json", "is not the one whose digest was given: this is another packet, or one that was changed"
        )
    whole = manifest["scope"] == "whole"
    try:
        listed = archive.small("vkeys").decode().splitlines()[:100] if "vkeys" in archive.names else []
        listed = [parse_vkey(line) for line in listed]
        note = archive.small("checkpoint").decode()
    except ValueError as error:
        raise Bad("vkeys", str(error)) from None
    try:
        origin, size, root, public = open_note(note, trusted or listed)
    except ValueError as error:
        raise Bad("checkpoint", str(error)) from None
    tenant = manifest["tenant"]
    if manifest["origin"] != origin or origin.rpartition("/")[2] != tenant or manifest["size"] != size:
        raise Bad("manifest.json", "speaks of another log or size than the checkpoint")
    report.update(origin=origin, tenant=tenant, size=size, root=root.hex(), scope=manifest["scope"])
    report.update(signed_by=public.hex(), key_given=bool(trusted))
    if not trusted:
        report["notes"].append(
            "No verifier key was given: the checkpoint was checked against the bundle's own key. That shows only that the"
            " bundle agrees with itself. Get the log's key from elsewhere and give it with --vkey."
        )
    runs = []  # of checkpoints signed by one key: [first size, last size, key]
    earlier = _earlier(archive, origin, trusted + listed, trusted, report, runs, witnessed)
    if not whole:
        for old_size, old_root, proof in earlier:
            try:
                check_consistency(old_size, size, old_root, root, proof)
            except ValueError as error:
                raise Bad(
                    f"checkpoint of {old_size} leaves", f"the signed checkpoint does not extend it: {error}"
                ) from None
        earlier = iter(())
    keys = _leaves(archive, manifest, size, root, earlier, pinned, report)
    check_signers(keys, [*runs, [size, size, public]])
    witnessed.saw(size, note)
    report["witnessed"] = witnessed.newest()
    if witnessed.keys and report["witnessed"]["size"] < size:
        report["notes"].append(
            "{:,} leaves stand after the last witnessed checkpoint, of {:,}: nobody but the log vouches yet that all are"
            " shown the same ones".format(size - report["witnessed"]["size"], report["witnessed"]["size"])
        )
    if not witnessed.keys and witnessed.named:
        report["notes"].append(
            "It carries lines of witnesses, not checked here: {}. Give their keys with --witness.".format(
                ", ".join(shown(name) for name in sorted(witnessed.named)[:20])
            )
        )
    papers = _papers(archive, manifest, keys, report)
    others = sorted(archive.names.difference(OURS, papers))
    if others:
        report["notes"].append(
            "In the archive, and covered by no proof: {}".format(", ".join(shown(name) for name in others[:20]))
        )


def _papers(archive, manifest, keys, report):
    """The files that the manifest binds by their digest; of a case also that its steps are those that the log states."""
    if "manifest.sha256" in archive.names:
        digest = hashlib.sha256(archive.small("manifest.json")).hexdigest()
        if archive.small("manifest.sha256") != f"{digest}  manifest.json\n".encode():
            raise Bad("manifest.sha256", "is not the digest of manifest.json")
        report["manifest_sha256"] = digest
    bound = manifest.get("files", {})
    if not isinstance(bound, dict):
        raise Bad("manifest.json", "files is not an object")
    for name in sorted(bound):
        content = hashlib.sha256()
        for block in archive.blocks(name):
            content.update(block)
        if content.hexdigest() != bound[name]:
            raise Bad(name, "is not what the manifest states: its SHA-256 differs")
    if "case" in manifest:
        _case(archive, manifest, bound, keys, report)
    return bound


# --- the papers of a case, against what the log says of it ---------------------------------------------------


def _case(archive, manifest, bound, keys, report):
    """Each paper against the leaves. One that a packet must have is looked for; who leaves it out has something to hide."""
    stated = {leaf: body for leaf, body in keys.cases.items() if body.get("case") == manifest["case"]}
    loose = set()  # papers that no leaf binds
    said = {}
    for name, check in (("custody", _steps), ("case", _contested), ("criteria", _assessed), ("decision", _decided), ("evidence", _handed_in),
                        ("keys", _keys_then)):  # fmt: skip
        where = f"case/{name}.json"
        if where not in bound:
            raise Bad(where, "the manifest does not state it")
        try:
            paper = parse_json(archive.whole(where), "the paper")
            loose.update(check(paper, said, stated, keys, archive) or ())
        except ValueError as error:
            raise Bad(where, str(error)) from None
    report["case"] = {"ref": manifest["case"], "steps": len(said["steps"]), "verdicts": said["verdicts"]}
    report["case"]["loose"] = sorted(loose | {
        name for name in bound
        if name.startswith("case/") and not name.startswith(("case/evidence/", "case/chains/")) and name[5:-5] not in _BOUND
    })  # fmt: skip


_BOUND = frozenset("custody case criteria decision evidence keys chains limits gates".split())


def _steps(paper, said, stated, keys, archive):
    """Every step stands in a leaf that says the same, in its order; and so does all else that was done with the case."""
    steps, before = field(paper, "steps", list), ""
    if not steps:
        raise ValueError("there are no steps in it")
    for number, step in enumerate(steps):
        if not isinstance(step, dict):
            raise ValueError(f"step {number} is not an object")
        leaf = field(step, "leaf_index", int)
        body = stated.get(leaf)
        if body is None or body.get("change") != "case.moved":
            raise ValueError(f"step {number} stands in leaf {leaf}, and no leaf of kind case of that number is in here")
        for name in ("from", "to", "by", "role", "reason", "digest"):
            if body.get(name) != step.get(name):
                raise ValueError(f"step {number} says another {name} than leaf {leaf} of the log")
        if microseconds(step.get("at")) != keys.times[leaf]:
            raise ValueError(f"step {number} says another time than leaf {leaf} of the log")
        if step.get("position") != number or step.get("previous") != before:
            raise ValueError(f"step {number} does not follow the one before it")
        if number and steps[number - 1]["leaf_index"] >= leaf:
            raise ValueError(f"step {number} stands before the one before it in the log")
        before = step["digest"]
    if steps[0]["from"] != "draft":
        raise ValueError("the first step is not the one that opened the case")
    told = {step["leaf_index"] for step in steps}
    for entry in paper.get("entries") or []:
        leaf = field(entry, "leaf_index", int)
        if stated.get(leaf) != entry.get("said") or microseconds(entry.get("at")) != keys.times[leaf]:
            raise ValueError(f"leaf {leaf} of the log says something else than the entry of that number")
        told.add(leaf)
    unsaid = sorted(leaf for leaf, body in stated.items() if leaf not in told and body.get("change") != "case.packet")
    if unsaid:
        raise ValueError(f"leaf {unsaid[0]} of the log says something of the case that is not in it")
    said["steps"] = steps
    said["bodies"] = [stated[step["leaf_index"]] for step in steps]


def _contested(paper, said, stated, keys, archive):
    """What is contested, and what was said when the case was opened, as the log states it since."""
    if paper.get("state") != said["steps"][-1]["to"]:
        raise ValueError("it says another state than the last step")
    acts, opened = field(paper, "acts", list), said["bodies"][0]
    said["acts"] = [(field(act, "event_id", str), act.get("leaf_index")) for act in acts]
    if microseconds(paper.get("opened_at")) != keys.times[said["steps"][0]["leaf_index"]]:
        raise ValueError("it says another time of opening than the log")
    if (paper.get("merged_into") or None) != next(
        (body["into"] for body in reversed(said["bodies"]) if "into" in body), None
    ):
        raise ValueError("it was merged into another case than the log says")
    for event, leaf in said["acts"]:
        if leaf not in keys.events:
            raise ValueError(f"act {shown(event)} stands in leaf {shown(leaf)}, and no event of that number is in here")
    if "events" in opened and opened["events"] != [event for event, _ in said["acts"]]:
        raise ValueError("it names other acts than the leaf that opened the case")
    if "leaves" in opened and opened["leaves"] != [leaf for _, leaf in said["acts"]]:
        raise ValueError("it names other leaves for the acts than the leaf that opened the case")
    if "acts" in opened and opened["acts"] != words([[event, leaf] for event, leaf in said["acts"]]):
        raise ValueError("it names other acts than the leaf that opened the case")
    if "about" in opened and opened["about"] != words(paper.get("about")):
        raise ValueError("it says something else of the case than was said when it was opened")
    return [] if "about" in opened else ["case/case.json"]


def words(said):
    """SHA-256 over what was said, in one form for everybody: sorted names, no blanks, UTF-8."""
    return hashlib.sha256(
        json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


_OF_RUN = ("engine", "policy", "number", "assessed_at", "leaves_before")


def _assessed(paper, said, stated, keys, archive):
    """The verdicts are those of the run that was decided on, word for word, with their chains, limits and gates."""
    verdicts = field(paper, "verdicts", list)
    if not all(isinstance(verdict, dict) for verdict in verdicts):
        raise ValueError("a verdict in it is not an object")
    digest = words(sorted(field(verdict, "digest", str) for verdict in verdicts))
    if field(paper, "digest", str) != digest:
        raise ValueError("it does not hold the verdicts that its digest is of")
    runs = [body for body in said["bodies"] if isinstance(body.get("assessment"), str)]
    if runs and runs[-1]["assessment"] != digest:
        raise ValueError("the log states another assessment than it holds")
    if [verdict.get("event_id") for verdict in verdicts] != [event for event, _ in said["acts"]]:
        raise ValueError("its verdicts are not of the contested acts")
    said["verdicts"] = len(verdicts)
    if not runs or not runs[-1].get("words"):
        return ["case/criteria.json", *(f"case/{name}.json" for name in ("chains", "limits", "gates"))]
    grounds = {}
    for name in ("chains", "limits", "gates"):
        grounds[name] = json.loads(archive.whole(f"case/{name}.json").decode(), object_pairs_hook=_once)
    if (
        words({"run": {name: paper.get(name) for name in _OF_RUN}, "verdicts": verdicts, **grounds})
        != runs[-1]["words"]
    ):
        raise ValueError("the log states other words of the verdicts, or of chains.json, limits.json or gates.json")
    for chain in grounds["chains"]["chains"]:
        if archive.whole(f"case/chains/{chain['number']}.svg").decode() != chain["svg"]:
            raise ValueError(f"chains/{chain['number']}.svg is not the picture of that chain")
    return []


def _decided(paper, said, stated, keys, archive):
    """Every proposal and every answer stands in a leaf that says the same; and none that the log states is left out."""
    told = set()
    for one in field(paper, "proposals", list):
        leaf = field(one, "leaf_index", int)
        body = stated.get(leaf, {})
        number = "proposal {}".format(shown(one.get("number")))
        paid = one.get("to_pay_back") or {}
        settles = body.get("change") == "case.settlement_offered"
        outcome, reason = ("settled", "terms") if settles else (body.get("outcome"), "reason")
        if not settles and body.get("to") not in ("proposed", "appeal_proposed"):
            raise ValueError(f"{number} stands in leaf {leaf}, which is no proposal")
        if (one.get("outcome"), one.get("reason"), one.get("by"), microseconds(one.get("at"))) != (outcome, body.get(reason), body.get("by"), keys.times[leaf]):  # fmt: skip
            raise ValueError(f"{number} says another outcome, reason, name or time than leaf {leaf} of the log")
        if (body.get("amount_minor"), body.get("currency")) != (
            str(paid["amount_minor"]) if paid else None,
            paid.get("currency"),
        ):
            raise ValueError(f"{number} says another sum than leaf {leaf} of the log")
        if any(name in body and one.get(name) != body[name] for name in ("role", "assessment")):
            raise ValueError(f"{number} says another role or assessment than leaf {leaf} of the log")
        told.add(leaf)
        answer = one.get("answer")
        if answer is not None:
            at = field(answer, "leaf_index", int)
            reply = stated.get(at, {})
            refused = reply.get("change") == "case.settlement_refused"
            result = "returned" if refused else "approved" if settles else reply.get("result")
            why = reply.get("why" if refused else "reason")
            if (answer.get("result"), answer.get("reason"), answer.get("by"), microseconds(answer.get("at"))) != (result, why, reply.get("by"), keys.times.get(at)):  # fmt: skip
                raise ValueError(f"the answer to {number} says something else than leaf {at} of the log")
            if "role" in reply and answer.get("role") != reply["role"]:
                raise ValueError(f"the answer to {number} says another role than leaf {at} of the log")
            if settles and str(reply.get("proposal")) != str(one.get("number")):
                raise ValueError(f"leaf {at} answers another proposal than {number}")
            told.add(at)
    for leaf, body in sorted(stated.items()):
        proposes = body.get("to") in ("proposed", "appeal_proposed") and "outcome" in body
        if leaf not in told and (proposes or "result" in body or body.get("change") in ("case.settlement_offered", "case.settlement_refused")):  # fmt: skip
            raise ValueError(f"leaf {leaf} of the log states a proposal or an answer that is not in it")


def _handed_in(paper, said, stated, keys, archive):
    """Every item is what was staged and submitted, its file byte for byte; and none that was submitted is left out."""
    let_in, submitted = {}, set()
    for leaf in sorted(stated):
        change, number = stated[leaf].get("change"), stated[leaf].get("number")
        if change in ("case.evidence_let_in", "case.evidence_left_out"):
            let_in[number] = change == "case.evidence_let_in", stated[leaf].get("why")
        elif change == "case.evidence_submitted":
            submitted.add(number)
    for item in field(paper, "items", list):
        number, sha = field(item, "number", int), field(item, "sha256", str)
        first, then = (stated.get(field(item, name, int), {}) for name in ("staged_leaf", "submitted_leaf"))
        if (first.get("change"), then.get("change")) != ("case.evidence_staged", "case.evidence_submitted"):
            raise ValueError(f"item {number} names leaves in which nothing was staged and submitted")
        if {first.get("number"), then.get("number")} != {number} or {first.get("sha256"), then.get("sha256")} != {sha}:
            raise ValueError(f"item {number} is not what the log says was staged and submitted")
        if (first.get("side"), first.get("title"), first.get("by"), then.get("late")) != tuple(item.get(name) for name in ("side", "title", "by", "late")):  # fmt: skip
            raise ValueError(f"item {number} says another side, title, name or lateness than the log")
        if any(
            name in first and item.get(name) != first[name]
            for name in ("event_id", "name", "media_type", "upstream_valid", "role")
        ):
            raise ValueError(f"item {number} says something else of what was handed in than the log")
        if microseconds(item.get("submitted_at")) != keys.times[item["submitted_leaf"]]:
            raise ValueError(f"item {number} says another time than the log")
        counts = let_in.get(number, (None if item["late"] else True, None))
        if (item.get("eligible"), item.get("why")) != counts:
            raise ValueError(f"item {number} says otherwise than the log whether it counts, or why")
        if item.get("file") is not None:
            content = hashlib.sha256(archive.whole(f"case/evidence/{number}.bin")).hexdigest()
            if item["file"] != f"case/evidence/{number}.bin" or content != sha:
                raise ValueError(f"the file of item {number} is not what was handed in")
        submitted.discard(number)
    if submitted:
        raise ValueError(f"item {min(submitted)} was submitted and is not in it")


def _keys_then(paper, said, stated, keys, archive):
    """The keys and when they were retired, as the leaves in here say."""
    for key in field(paper, "keys", list):
        of = key.get("source"), key.get("thumbprint")
        if of not in keys.added or (key.get("added_leaf"), key.get("retired_leaf")) != (
            keys.added[of],
            keys.retired.get(of),
        ):
            raise ValueError(f"key {shown(of[1])} of source {shown(of[0])} was added or retired otherwise")
        if key.get("jwk") != keys.jwks[of] or (key.get("state") == "retired") != (of in keys.retired):
            raise ValueError(f"key {shown(of[1])} of source {shown(of[0])} is another, or stood otherwise")
    named = {(key.get("source"), key.get("thumbprint")) for key in paper["keys"]}
    unnamed = sorted(keys.added.keys() - named)
    if unnamed:
        raise ValueError(f"key {shown(unnamed[0][1])} of source {shown(unnamed[0][0])} is not in it")
    own = [(key.get("added_leaf"), parse_vkey(field(key, "vkey", str))[2]) for key in field(paper, "log_keys", list)]
    if own != [(leaf, public) for leaf, public in keys.log if leaf < field(paper, "before_leaf", int)]:
        raise ValueError("the log's own keys were others")


def microseconds(text):
    """Since 1970, of a time as the papers write it, in UTC; None for what is none."""
    parts = (
        re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{6}))?\+00:00\Z", text)
        if isinstance(text, str)
        else None
    )
    if parts is None:
        return None
    whole = calendar.timegm(tuple(int(part) for part in parts.groups()[:6]))
    return whole * 1_000_000 + int(parts[7] or 0)


class Witnessed:
    """What witnesses say of the checkpoints as they go by: only the newest that enough of them cosigned is of interest."""

    def __init__(self, keys, quorum):
        self.keys, self.quorum, self.waiting, self.named = keys, quorum, [], set()

    def saw(self, size, note):
        text, _, signatures = note.partition("\n\n")
        signers = {line.split(" ")[1] for line in signatures.split("\n")[:100] if line.count(" ") == 2}
        self.named.update(sorted(signers - {text.partition("\n")[0]})[: 100 - len(self.named)])
        if self.keys and len(signers & {name for name, _, _ in self.keys}) >= self.quorum:
            self.waiting = [*self.waiting[-9:], (size, note)]

    def newest(self):
        """Size, and each witness with the time at which it saw it. None without witnesses; raises Bad when too few cosigned."""
        if not self.keys:
            return None
        for size, note in reversed(self.waiting):
            try:
                found = cosigners(note, self.keys)
            except ValueError as error:
                raise Bad(f"checkpoint of {size} leaves", str(error)) from None
            if len(found) >= self.quorum:
                return {"size": size, "by": found}
        raise Bad(
            "witnesses", f"no checkpoint in here is cosigned by {self.quorum} of the {len(self.keys)} witnesses given"
        )


def _manifest(archive):
    if not set(NEEDED) & archive.names:
        raise Unusable("this archive is no bundle: it has none of {}".format(", ".join(NEEDED)))
    try:
        manifest = parse_json(archive.small("manifest.json"), "the manifest")
        if manifest.get("format") != FORMAT:
            raise Unusable("expected format {}, found {}".format(FORMAT, shown(manifest.get("format"))))
        for name, kind in (("tenant", str), ("origin", str), ("scope", str), ("size", int), ("leaves", int)):
            field(manifest, name, kind)
        if manifest["scope"] not in ("whole", "part"):
            raise ValueError("scope is neither whole nor part")
    except ValueError as error:
        raise Bad("manifest.json", str(error)) from None
    return manifest


def _earlier(archive, origin, keys, trusted, report, runs, witnessed):
    """Earlier checkpoints, oldest first: (size, root, consistency proof or [])."""
    report["earlier_checkpoints"], before, foreign = 0, -1, 0
    if "checkpoints.jsonl" not in archive.names:
        return
    for number, line in enumerate(archive.lines("checkpoints.jsonl"), 1):
        try:
            record = parse_json(line, "the line")
            note = field(record, "note", str)
            name, size, root, public = open_note(note, keys)
            proof = hashes(record, "consistency") if "consistency" in record else []
        except ValueError as error:
            raise Bad(f"checkpoints.jsonl, line {number}", str(error)) from None
        if name != origin or size <= before:
            raise Bad(f"checkpoints.jsonl, line {number}", "is of another log, or out of order")
        foreign += bool(trusted) and public not in [key for _, _, key in trusted]
        before = size
        if runs and runs[-1][2] == public:
            runs[-1][1] = size
        else:
            runs.append([size, size, public])
        report["earlier_checkpoints"] += 1
        witnessed.saw(size, note)
        yield size, root, proof
    if foreign:
        report["notes"].append(f"{foreign} earlier checkpoints are signed by keys of the bundle that were not given")


def _leaves(archive, manifest, size, root, earlier, pinned, report):
    whole, tenant = manifest["scope"] == "whole", manifest["tenant"]
    tree, keys, missing, buried = Tree(), Keys(), {}, {}
    counts = {"leaves": 0, "events": 0, "payloads_checked": 0, "erased": 0, "withheld": 0, "signatures_good": 0}
    left_out = _left_out(manifest)
    unchecked, late = {}, 0
    details = []
    report.update(counts=counts, signatures_not_checked=unchecked)
    report.update({} if whole else {"leaves": details})
    mark = next(earlier, None) if whole else None
    before = -1
    for number, line in enumerate(archive.lines("leaves.jsonl")):
        where = f"leaves.jsonl, line {number + 1}"
        try:
            record = parse_json(line, "the line")
            index = field(record, "index", int)
            where = f"leaf {index}"
            if not before < index < size or (whole and index != number):
                raise ValueError(f"it is out of order, or beyond the checkpoint's {size} leaves")
            before = index
            leaf = strict_base64(record.get("leaf"), "the leaf")
            parts = LEAF.match(leaf)
            if parts is None:
                raise ValueError("its bytes are no leaf in canonical form")
            kind, source, received, grade, stamp, committed = (part.decode() for part in parts.groups())
            seen, event_id, headers, raw = _payload(record, from_base64url(committed))
            if whole:
                while mark and mark[0] == tree.size:
                    mark = _passed(tree, mark, earlier)
                tree.add(leaf_hash(leaf))
            elif root_from_inclusion(index, size, leaf_hash(leaf), hashes(record, "proof")) != root:
                raise ValueError("its audit path does not lead to the checkpoint's root")

            counts["leaves"] += 1
            is_event = kind in ("event", "conflict")
            counts["events"] += is_event
            if kind == "event":
                keys.events.add(index)
            said = ""
            if not seen:
                missing[index] = kind
            elif is_event:
                said = _signed(keys, pinned, source, stamp, grade, event_id, headers, raw, tenant, report)
                late += said == "good" and (source, stamp) in keys.retired
                if said == "good":
                    counts["signatures_good"] += 1
                else:
                    unchecked[said] = unchecked.get(said, 0) + 1
            elif source == "-":
                for buried_leaf in keys.learn(index, kind, raw, int(received)):
                    buried.setdefault(buried_leaf, index)
        except ValueError as error:
            raise Bad(where, str(error)) from None
        counts["payloads_checked"] += seen
        if not whole and len(details) < DETAILS:
            details.append(
                {"index": index, "kind": kind, "source": source, "received_us": int(received), "grade": grade, "key": stamp,
                 "payload": "checked" if seen else "missing", "signature": said}
            )  # fmt: skip
    if counts["leaves"] != manifest["leaves"]:
        raise Bad("leaves.jsonl", f"has {counts['leaves']} leaves, the manifest says {manifest['leaves']}")
    if whole:
        while mark and mark[0] == tree.size:
            mark = _passed(tree, mark, earlier)
        if mark:
            raise Bad("checkpoints.jsonl", f"a checkpoint of {mark[0]} leaves, and the log has {tree.size}")
        if tree.size != size:
            raise Bad("leaves.jsonl", f"has {tree.size} leaves, the signed checkpoint has {size}")
        if tree.root() != root:
            raise Bad("leaves.jsonl", "the leaves do not lead to the root that was signed for them")
    shown_all_the_same = sorted(left_out - missing.keys())
    if shown_all_the_same:
        raise Bad(f"leaf {shown_all_the_same[0]}", "the manifest says that its payload is left out, and it is not")
    graves = {
        index: buried[index]
        for index, kind in missing.items()
        if kind in ("event", "conflict") and buried.get(index, -1) > index
    }
    hidden = {index for index in left_out - graves.keys() if missing[index] in ("event", "conflict")}
    counts["erased"], counts["withheld"] = len(graves), len(missing) - len(graves) - len(hidden)
    if hidden:
        counts["left_out"] = len(hidden)
        report["notes"].append(
            f"This copy leaves out the payloads of {len(hidden)} leaves, by its maker's choice: {_some(hidden)}. That they are"
            " in the log is proven; what they say, and who signed it, is not shown. Ask for them if they matter"
        )
    if counts["withheld"]:
        index = min(missing.keys() - graves.keys() - hidden)
        raise Bad(
            f"leaf {index}",
            "its payload is left out, and no tombstone in the log says that it was erased: it is destroyed evidence, or kept back here",
        )
    for index, grave in sorted(graves.items()):
        hold = hold_over(keys, index, grave)
        if hold is not None:
            raise Bad(
                f"leaf {index}",
                f"leaf {grave} erased its payload while leaf {hold} held it for a legal case: destroyed evidence",
            )
    for entry in details:
        if entry["payload"] == "missing":
            grave = graves.get(entry["index"])
            entry["payload"] = "left out of this copy" if grave is None else f"erased, by leaf {grave}"
    if late:
        report["notes"].append(
            f"{late} events stand after the leaf that retired their key; a sender may have been under way"
        )
    return keys


def _left_out(manifest):
    said = manifest.get("left_out", [])
    if not isinstance(said, list) or not all(isinstance(leaf, int) and not isinstance(leaf, bool) for leaf in said):
        raise Bad("manifest.json", "left_out is not a list of leaves")
    return set(said)


def _some(leaves):
    listed = ", ".join(str(leaf) for leaf in sorted(leaves)[:20])
    return listed + (" and others" if len(leaves) > 20 else "")


def _passed(tree, mark, earlier):
    if tree.root() != mark[1]:
        raise ValueError(f"the leaves before it do not lead to the root signed for {mark[0]} leaves")
    return next(earlier, None)


def _payload(record, committed):
    """Whether the payload is there, source event id, headers, bytes: after checking them against the commitment."""
    payload = record.get("payload")
    if payload is None:
        return False, "", b"", b""
    if not isinstance(payload, dict):
        raise ValueError("its payload is not an object")
    salt, headers, raw = (strict_base64(payload.get(name), name) for name in ("salt", "headers", "raw"))
    event_id = field(payload, "source_event_id", str)
    if len(salt) != 32:
        raise ValueError("its salt is not 32 bytes")
    if commitment(salt, event_id.encode(), headers, raw) != committed:
        raise ValueError("its bytes, headers, source event id or salt are not what the leaf commits to")
    return True, event_id, headers, raw


# --- telling it ---------------------------------------------------------------------------------------------


def told(report):
    """The report as text."""
    lines = []
    if report["problem"]:
        lines.append("BAD: {}: {}".format(report["problem"]["where"], report["problem"]["what"]))
    else:
        counts = report["counts"]
        what, whose = {"whole": "the whole", "part": "a part", "event": "an event"}[report["scope"]], "the key you gave"
        if not report["key_given"]:
            whose = "a key from the bundle"
        lines.append(f"OK: {what} of log {shown(report['origin'])}")
        lines.append(f"  checkpoint   {report['size']} leaves, root {report['root']}")
        lines.append(f"  signed by    {report['signed_by']} ({whose})")
        lines.append(f"  consistent   with {report['earlier_checkpoints']} earlier checkpoints")
        if report["witnessed"]:
            times = (
                (name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)))
                for name, at in sorted(report["witnessed"]["by"].items())
            )
            by = ", ".join(f"{shown(name)} at {at}" for name, at in times)
            lines.append(f"  witnessed    {report['witnessed']['size']} leaves, by {by}")
        if report.get("case"):
            case = report["case"]
            lines.append(
                f"  case         {shown(case['ref'])}: {case['steps']} steps as the log states them, {case['verdicts']} verdicts"
            )
            if report.get("digest_given"):
                lines.append(f"  manifest     SHA-256 {report['manifest_sha256']}, as you gave it")
            else:
                lines.append(
                    f"  manifest     SHA-256 {report['manifest_sha256']}: the log states it in a leaf of kind case; compare"
                )
                lines.append(
                    "               until then, these rest on whoever sent it: "
                    + ", ".join(shown(name) for name in case["loose"])
                )
        lines.append(f"  leaves       {counts['leaves']} proven, {counts['events']} of them events")
        lines.append(
            f"  payloads     {counts['payloads_checked']} checked, {counts['erased']} erased, {counts.get('left_out', 0)} left out of this copy"
        )
        lines.append(f"  signatures   {counts['signatures_good']} of sources good")
        for source, used in sorted(report.get("source_keys", {}).items()):
            for stamp, how in sorted(used.items())[:20]:
                advice = "; compare it with what the source publishes" if how != "given" else ""
                lines.append(f"               {source}: key {stamp}, {how}{advice}")
        for why, count in sorted(report["signatures_not_checked"].items()):
            lines.append(f"               {count} not checked here: {shown(why)}")
        for leaf in report.get("leaves", [])[:50]:
            signature = f", signature {leaf['signature']}" if leaf["signature"] else ""
            origin = f"{leaf['kind']} from {leaf['source']}, grade {leaf['grade']}"
            lines.append(f"  leaf {leaf['index']:<8} {origin}, payload {leaf['payload']}{signature}")
    return "\n".join(lines + ["NOTE: " + note for note in report["notes"]])


def _read(file):
    try:
        with open(file, "rb") as stream:
            return stream.read(LINE)
    except OSError as error:
        raise Unusable(f"cannot read {shown(file)}: {error.strerror or error}") from None


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Check an evidence bundle of Answerable offline.")
    parser.add_argument("bundle", nargs="?", help="the bundle, a zip archive")
    parser.add_argument("--event", help="in the place of a bundle: the exact bytes of one event")
    parser.add_argument("--proof", help="its proof, as JSON")
    parser.add_argument(
        "--source-key", action="append", default=[], metavar="NAME=FILE", help="a source's JWK Set, from the source"
    )
    parser.add_argument(
        "--vkey", action="append", default=[], help="the log's verifier key, from elsewhere than the bundle"
    )
    parser.add_argument(
        "--witness", action="append", default=[], help="a witness's verifier key, from elsewhere than the bundle"
    )
    parser.add_argument("--quorum", type=int, help="how many of the witnesses must have cosigned (default: all)")
    parser.add_argument("--digest", metavar="SHA256", help="of a packet's manifest.json, as the log states it")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    options = parser.parse_args(arguments)
    try:
        if bool(options.bundle) == bool(options.event) or bool(options.event) != bool(options.proof):
            raise Unusable("expected a bundle, or --event and --proof")
        sources = {name: _read(file) for name, _, file in (given.partition("=") for given in options.source_key)}
        more = options.vkey, options.witness, options.quorum, sources
        if options.event:
            report = verify_event(_read(options.event), _read(options.proof), *more)
        else:
            report = verify(options.bundle, *more, digest=options.digest)
    except Unusable as error:
        report = {"result": "unusable", "problem": {"where": "input", "what": str(error)}, "notes": []}
    if options.json:
        print(json.dumps(report, indent=2))
    elif report["result"] == "unusable":
        print("UNUSABLE: " + report["problem"]["what"])
    else:
        print(told(report))
    return {"ok": 0, "bad": 1, "unusable": 2}[report["result"]]


if __name__ == "__main__":
    sys.exit(main())
