"""The stand-alone verifier: against published vectors, against our own tree, and against bundles that lie."""

import ast
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import zipfile
from base64 import b64decode, b64encode, urlsafe_b64encode
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from auditlog.core.log import leaf as leaves
from auditlog.core.log import merkle
from auditlog.core.log.checkpoint import Checkpoint, signed, vkey
from auditlog.core.wire.keys import thumbprint
from auditlog.verifier import answerable_verify as verifier
from tests import vectors

FILE = Path(verifier.__file__)


# --- published vectors
# --------------------------------------------------------------------------------------------------


def test_published_inclusion_proofs():
    files = vectors.files("merkle/inclusion/**/*.json")
    for file in files:
        case = json.loads(file.read_text())
        proof = [b64decode(part) for part in case["proof"] or []]
        try:
            root = verifier.root_from_inclusion(
                case["leafIdx"], case["treeSize"], b64decode(case["leafHash"] or ""), proof
            )
            right = root == b64decode(case["root"] or "")
        except ValueError:
            right = False
        assert right is not case["wantErr"], file
    assert len(files) > 80


def test_published_consistency_proofs():
    files = vectors.files("merkle/consistency/**/*.json")
    for file in files:
        case = json.loads(file.read_text())
        old, new = (b64decode(case[name] or "") for name in ("root1", "root2"))
        proof = [b64decode(part) for part in case["proof"] or []]
        try:
            verifier.check_consistency(case["size1"], case["size2"], old, new, proof)
            right = True
        except ValueError:
            right = False
        assert right is not case["wantErr"], file
    assert len(files) > 50


def test_published_ed25519_signatures():
    seen = 0
    for group in vectors.read("wycheproof/ed25519_test.json")["testGroups"]:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            fits = verifier.ed25519(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert fits is (case["result"] == "valid"), case
            seen += 1
    assert seen > 100


def test_published_es256_signatures():
    seen = 0
    for group in vectors.read("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json")["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
        for case in group["tests"]:
            fits = verifier.es256(x, y, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert fits is (case["result"] == "valid"), case
            seen += 1
    assert seen > 200


def test_published_canonical_json_is_what_our_own_leaves_are_written_with():
    files = vectors.files("jcs/input/*.json")
    for file in files:
        wanted = (file.parent.parent / "output" / file.name).read_bytes()
        assert rfc8785.dumps(json.loads(file.read_bytes())) == wanted, file
    assert files
    made = leaves.leaf_bytes(
        kind="event", source="a-b", received_us=17, grade="A", key="k" * 43, committed=b"\xff" * 32
    )
    assert made == rfc8785.dumps(json.loads(made)) and verifier.LEAF.match(made)


# --- against the libraries
# ------------------------------------------------------------------------------------------------


def _libsodium(public, message, signature):
    try:
        crypto_sign_open(signature + message, public)
    except (BadSignatureError, ValueError):
        return False
    return True


def _encoded(point):
    inverse = pow(point[2], -1, verifier.P)
    x, y = point[0] * inverse % verifier.P, point[1] * inverse % verifier.P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _torsion():
    """A point of order 8."""
    for y in range(2, 100):
        point = verifier.ed_point(y.to_bytes(32, "little"))
        if point is None:
            continue
        part = verifier.Comb(verifier.ed_add, verifier.ZERO, point).times(verifier.L)
        four = verifier.ed_add(verifier.ed_add(part, part), verifier.ed_add(part, part))
        if _encoded(four) != _encoded(verifier.ZERO):
            return part
    raise AssertionError("no point of order 8 below y = 100")


def test_ed25519_says_what_libsodium_says_of_crafted_and_damaged_signatures():
    rng = random.Random(5)
    torsion = _torsion()
    base, message = verifier.ed_base(), b"the same answer offline as at the door"
    small = [verifier.ZERO]
    for _ in range(7):
        small.append(verifier.ed_add(small[-1], torsion))
    cases = []
    for a_off in small:
        for r_off in small:
            a, r = rng.randrange(1, verifier.L), rng.randrange(1, verifier.L)
            public = _encoded(verifier.ed_add(base.times(a), a_off))
            big_r = _encoded(verifier.ed_add(base.times(r), r_off))
            k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little")
            s = (r + k * a) % verifier.L
            cases.append((public, message, big_r + s.to_bytes(32, "little")))
            cases.append((public, message, big_r + (s + verifier.L).to_bytes(32, "little")))
    for a in (
        0,
        rng.randrange(1, verifier.L),
    ):  # a key of small order, and an honest one whose R is: the equation holds
        public = _encoded(small[2] if a == 0 else base.times(a))
        for j in range(8):
            s = rng.randrange(verifier.L)
            off = verifier.Comb(verifier.ed_add, verifier.ZERO, small[2]).times(j)
            big_r = _encoded(verifier.ed_add(base.times(s), off) if a == 0 else verifier.ZERO)
            k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little")
            cases.append((public, message, big_r + (s if a == 0 else k * a % verifier.L).to_bytes(32, "little")))
    encodings = [_encoded(point) for point in small]
    encodings += [(verifier.P + n).to_bytes(32, "little") for n in range(3)] + [b"\x01" + b"\x00" * 30 + b"\x80"]
    for public in encodings:  # keys and R of small order, canonical or not: S = 0 fits some of them
        cases += [(public, bytes([n]), big_r + b"\x00" * 32) for big_r in encodings for n in range(4)]
    key = SigningKey(bytes(range(32)))
    good = key.sign(message).signature
    public = bytes(key.verify_key)
    for position in range(0, 512, 3):
        flipped = bytearray(good)
        flipped[position // 8] ^= 1 << position % 8
        cases.append((public, message, bytes(flipped)))
    cases += [(public, message, good), (public, message, good[:-1]), (public, message, b""), (b"", message, good)]

    answers = [verifier.ed25519(*case) for case in cases]

    assert answers == [_libsodium(*case) for case in cases]
    assert any(answers) and not all(answers)


def test_points_have_one_encoding_and_lie_on_their_curve():
    assert [verifier.ed_point((verifier.P + n).to_bytes(32, "little")) for n in range(19)] == [None] * 19
    assert verifier.ed_point(b"\x01" + b"\x00" * 30 + b"\x80") is None and verifier.ed_point(b"\x01" + b"\x00" * 31)
    x, y = verifier.GENERATOR
    assert (
        verifier.p256_key(x, y) and verifier.p256_key(x, y - 1) is None and verifier.p256_key(x + verifier.Q, y) is None
    )


def test_a_pss_signature_with_another_trailer_or_padding_is_refused():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    numbers, secret, message = key.public_key().public_numbers(), key.private_numbers().d, b"bytes"
    good = key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    encoded = pow(int.from_bytes(good, "big"), numbers.e, numbers.n)

    assert verifier.rsa("PS256", numbers.n, numbers.e, message, good)
    for bit in (0, 5, 9, 270, 600, 1500, 2040):
        forged = pow(encoded ^ 1 << bit, secret, numbers.n).to_bytes(256, "big")
        assert not verifier.rsa("PS256", numbers.n, numbers.e, message, forged), bit


def test_es256_and_rsa_say_what_cryptography_says():
    rng = random.Random(6)
    for bits in (2048, 2049, 2055, 3072):
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        numbers, message = key.public_key().public_numbers(), rng.randbytes(40)
        v15 = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        pss = key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        short = key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
        other = key.sign(message, padding.PKCS1v15(), hashes.SHA512())
        check = lambda name, m, s: verifier.rsa(name, numbers.n, numbers.e, m, s)  # noqa: B023, E731

        assert check("RS256", message, v15) and check("PS256", message, pss)
        assert not check("PS256", message, v15) and not check("RS256", message, pss)
        assert not check("PS256", message, short) and not check("RS256", message, other)
        assert not check("RS256", message + b"!", v15) and not check("PS256", message + b"!", pss)
        assert not check("RS256", message, b"\x00" + v15) and not check("RS256", message, v15[:-1])
        assert not check("RS256", message, (int.from_bytes(v15, "big") + numbers.n).to_bytes(len(v15) + 1, "big")[1:])
    for _ in range(20):
        key = ec.generate_private_key(ec.SECP256R1())
        point, message = key.public_key().public_numbers(), rng.randbytes(30)
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")

        assert verifier.es256(point.x, point.y, message, signature)
        assert not verifier.es256(point.x, point.y, message + b"!", signature)
        assert not verifier.es256(point.y, point.x, message, signature)


def test_every_tree_up_to_300_leaves_gives_the_same_roots_and_proofs_as_ours():
    rng = random.Random(7)
    hashed = [merkle.leaf_hash(rng.randbytes(20)) for _ in range(300)]
    roots, tree = [], verifier.Tree()
    for leaf in hashed:
        roots.append(tree.root())
        tree.add(leaf)
    roots.append(tree.root())
    memo = {}

    def node(level, index):
        if (level, index) not in memo:
            memo[level, index] = merkle.EMPTY.extended(hashed[index << level : (index + 1) << level]).root()
        return memo[level, index]

    for size in range(301):
        assert roots[size] == merkle.EMPTY.extended(hashed[:size]).root()
        for index in {rng.randrange(size) for _ in range(6)} | {0, size - 1} if size else ():
            proof = merkle.inclusion_proof(index, size, node)
            assert verifier.root_from_inclusion(index, size, hashed[index], proof) == roots[size]
            for wrong in (proof[1:], [*proof, roots[0]], [*proof[1:], *proof[:1]]):
                assert _root(index, size, hashed[index], wrong, verifier) == _root(
                    index, size, hashed[index], wrong, merkle
                )
        for old in {rng.randrange(size + 1) for _ in range(4)} | {0, size}:
            proof = merkle.consistency_proof(old, size, node)
            verifier.check_consistency(old, size, roots[old], roots[size], proof)
            for wrong in (proof[1:], [*proof, roots[0]], [*proof[:-1], roots[0]]):
                arguments = old, size, roots[old], roots[size], wrong
                assert _consistent(verifier, *arguments) == _consistent(merkle, *arguments)


def _root(index, size, leaf, proof, module):
    try:
        return module.root_from_inclusion(index, size, leaf, proof)
    except ValueError:
        return None


def _consistent(module, *arguments):
    try:
        module.check_consistency(*arguments)
    except ValueError:
        return False
    return True


def test_it_imports_the_standard_library_only_and_reads_as_python_3_8():
    for node in ast.walk(ast.parse(FILE.read_text(), feature_version=(3, 8))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names), names


# --- bundles made here, by hand
# ------------------------------------------------------------------------------------------

LOG = SigningKey(b"\x07" * 32)
SOURCE = SigningKey(b"\x08" * 32)
ORIGIN = "answerable.example/log/default"


def b64(value):
    return b64encode(value).decode()


def b64url(value):
    return urlsafe_b64encode(value).rstrip(b"=").decode()


JWK = {"crv": "Ed25519", "kid": "k1", "kty": "OKP", "x": b64url(bytes(SOURCE.verify_key))}
STAMP = thumbprint(JWK)


class Bundle:
    """A log of one source, told as a bundle. Change its parts before `write`, and see what the verifier says."""

    def __init__(self, whole=False, events=5):
        self.whole, self.leaves, self.tenant = whole, [], "default"
        self.own(
            "config", {"change": "source.added", "source": "conductor", "format": "set", "issuer": "https://c.example"}
        )
        self.own("key", {"change": "key.added", "source": "conductor", "thumbprint": STAMP, "jwk": JWK})
        for n in range(events):
            self.event(f"e{n}")
        self.members = {}

    def own(self, kind, body):
        self.append(kind, "-", "F", "-", rfc8785.dumps(body), "")

    def set(self, jti, key=SOURCE, **claims):
        header = b64url(json.dumps({"typ": "secevent+jwt", "alg": "Ed25519", "kid": "k1"}).encode())
        claims = {"jti": jti, "iss": "https://c.example", "aud": "urn:answerable:default", **claims}
        body = f"{header}.{b64url(json.dumps(claims).encode())}"
        return f"{body}.{b64url(key.sign(body.encode()).signature)}".encode()

    def event(self, jti, raw=None):
        self.append("event", "conductor", "A", STAMP, raw or self.set(jti), jti)

    def append(self, kind, source, grade, key, raw, event_id):
        salt = hashlib.sha256(b"salt%d" % len(self.leaves)).digest()
        committed = leaves.commitment(salt, event_id.encode(), b"", raw)
        leaf = leaves.leaf_bytes(kind=kind, source=source, received_us=17, grade=grade, key=key, committed=committed)
        payload = {"salt": b64(salt), "source_event_id": event_id, "headers": "", "raw": b64(raw)}
        self.leaves.append({"index": len(self.leaves), "leaf": b64(leaf), "payload": payload})

    def sign(self):
        """Fill in checkpoints, proofs and the rest, over the leaves as they now are."""
        hashed = [merkle.leaf_hash(b64decode(line["leaf"])) for line in self.leaves]

        def node(level, index):
            return merkle.EMPTY.extended(hashed[index << level : (index + 1) << level]).root()

        size, old = len(hashed), len(hashed) - 2
        if not self.whole:
            for line in self.leaves:
                line["proof"] = [b64(part) for part in merkle.inclusion_proof(line["index"], size, node)]
        earlier = {"note": signed(Checkpoint(ORIGIN, old, merkle.EMPTY.extended(hashed[:old]).root()), LOG)}
        if not self.whole:
            earlier["consistency"] = [b64(part) for part in merkle.consistency_proof(old, size, node)]
        self.earlier = [earlier]
        self.note = signed(Checkpoint(ORIGIN, size, merkle.EMPTY.extended(hashed).root()), LOG)
        self.manifest = {
            "format": verifier.FORMAT, "tenant": self.tenant, "origin": ORIGIN, "scope": "whole" if self.whole else "part",
            "size": size, "leaves": size,
        }  # fmt: skip
        return self

    def write(self, path):
        lines = lambda records: "".join(json.dumps(record) + "\n" for record in records)  # noqa: E731
        members = {
            "checkpoint": self.note, "checkpoints.jsonl": lines(self.earlier), "leaves.jsonl": lines(self.leaves),
            "manifest.json": json.dumps(self.manifest), "vkeys": vkey(ORIGIN, bytes(LOG.verify_key)) + "\n", **self.members,
        }  # fmt: skip
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                if content is not None:
                    archive.writestr(name, content)
        return path


VKEY = vkey(ORIGIN, bytes(LOG.verify_key))


def run(path, *arguments):
    """As a stranger would: no site-packages, no current folder, no environment."""
    command = [sys.executable, "-I", "-S", str(FILE), str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={})


def problem(path, *vkeys):
    report = verifier.verify(str(path), vkeys or (VKEY,))
    assert report["result"] == "bad"
    return f"{report['problem']['where']}: {report['problem']['what']}"


@pytest.mark.parametrize("whole", [True, False])
def test_a_sound_bundle_holds_on_a_bare_machine(tmp_path, whole):
    path = Bundle(whole).sign().write(tmp_path / "b.zip")

    text, as_json = run(path, "--vkey", VKEY), run(path, "--vkey", VKEY, "--json")

    assert (text.returncode, text.stderr) == (0, "") and text.stdout.startswith("OK: ")
    report = json.loads(as_json.stdout)
    assert report["result"] == "ok" and report["key_given"] and not report["notes"]
    assert report["counts"] == {
        "leaves": 7, "events": 5, "payloads_checked": 7, "erased": 0, "withheld": 0, "signatures_good": 5
    }  # fmt: skip
    assert report["earlier_checkpoints"] == 1


def test_without_a_key_from_elsewhere_it_says_what_that_is_worth(tmp_path):
    answer = run(Bundle().sign().write(tmp_path / "b.zip"))

    assert answer.returncode == 0 and "agrees with itself" in answer.stdout


def flip(text, at=10):
    """Standard base64 with one bit of one byte turned."""
    value = bytearray(b64decode(text))
    value[at] ^= 1
    return b64(bytes(value))


def spoil(what, bundle):
    event = bundle.leaves[4]
    if what in ("raw", "salt"):
        event["payload"][what] = flip(event["payload"][what])
    elif what == "event id":
        event["payload"]["source_event_id"] = "another"
    elif what == "headers":
        event["payload"]["headers"] = b64(b"{}")
    elif what == "leaf":
        leaf = b64decode(event["leaf"])
        event["leaf"] = b64(leaf.replace(b'"A"', b'"B"'))
    elif what == "path":
        event["proof"][0] = flip(event["proof"][0])
    elif what == "index":
        event["index"], bundle.leaves[5]["index"] = 5, 4
    elif what == "signature on the checkpoint":
        head, _, line = bundle.note.rpartition(" ")
        bundle.note = f"{head} {flip(line.strip(), 40)}\n"
    elif what == "root":
        lines = bundle.note.split("\n")
        bundle.note = "\n".join([*lines[:2], flip(lines[2]), *lines[3:]])
    elif what == "key leaf":
        bundle.leaves[1]["payload"]["raw"] = b64(b64decode(bundle.leaves[1]["payload"]["raw"]).replace(b"k1", b"k2"))
    elif what == "key leaf left out":
        del bundle.leaves[1]
        bundle.manifest["leaves"] -= 1
    elif what == "a leaf left out unsaid":
        del bundle.leaves[3]
    elif what == "consistency":
        bundle.earlier[0]["consistency"][0] = flip(bundle.earlier[0]["consistency"][0])
    elif what == "earlier checkpoint":
        bundle.earlier[0]["note"] = signed(Checkpoint(ORIGIN, 5, b"\x01" * 32), LOG)


@pytest.mark.parametrize(
    "what, reason",
    [
        ("raw", "leaf 4: its bytes, headers, source event id or salt are not what the leaf commits to"),
        ("salt", "leaf 4: its bytes, headers, source event id or salt are not what the leaf commits to"),
        ("event id", "leaf 4: its bytes, headers, source event id or salt are not what the leaf commits to"),
        ("headers", "leaf 4: its bytes, headers, source event id or salt are not what the leaf commits to"),
        ("leaf", "leaf 4: its audit path does not lead to the checkpoint's root"),
        ("path", "leaf 4: its audit path does not lead to the checkpoint's root"),
        ("index", "leaf 5: its audit path does not lead to the checkpoint's root"),
        ("signature on the checkpoint", "checkpoint: the log's signature on it is wrong"),
        ("root", "checkpoint: the log's signature on it is wrong"),
        ("key leaf", "leaf 1: its bytes, headers, source event id or salt are not what the leaf commits to"),
        ("key leaf left out", "leaf 2: no key leaf before it gives source"),
        ("a leaf left out unsaid", "leaves.jsonl: has 6 leaves, the manifest says 7"),
        ("consistency", "checkpoint of 5 leaves: the signed checkpoint does not extend it"),
        ("earlier checkpoint", "checkpoint of 5 leaves: the signed checkpoint does not extend it"),
    ],
)
def test_one_change_is_refused_and_named(tmp_path, what, reason):
    bundle = Bundle().sign()
    spoil(what, bundle)
    path = bundle.write(tmp_path / "b.zip")

    answer = run(path, "--vkey", VKEY)

    assert reason in problem(path)
    assert answer.returncode == 1 and answer.stderr == "" and answer.stdout.startswith("BAD: ")


@pytest.mark.parametrize(
    "what, reason",
    [
        ("leaf", "do not lead to the root"),
        ("earlier checkpoint", "do not lead to the root signed for 5 leaves"),
        ("key leaf left out", "leaf 2: it is out of order"),
        ("raw", "leaf 4"),
    ],
)
def test_in_a_whole_log_too(tmp_path, what, reason):
    bundle = Bundle(whole=True).sign()
    spoil(what, bundle)

    assert reason in problem(bundle.write(tmp_path / "b.zip"))


def test_a_change_after_the_last_earlier_checkpoint_is_found_by_the_signed_root(tmp_path):
    bundle = Bundle(whole=True).sign()
    bundle.earlier = []
    spoil("leaf", bundle)

    assert "leaves.jsonl: the leaves do not lead to the root that was signed" in problem(
        bundle.write(tmp_path / "b.zip")
    )


def test_a_log_that_ends_before_its_checkpoint_is_refused(tmp_path):
    bundle = Bundle(whole=True).sign()
    bundle.leaves.pop()
    bundle.manifest["leaves"] -= 1

    assert "has 6 leaves, the signed checkpoint has 7" in problem(bundle.write(tmp_path / "b.zip"))


@pytest.mark.parametrize(
    "claims, reason",
    [
        ({"key": SigningKey(b"\x09" * 32)}, "the source's signature does not fit the bytes"),
        ({"aud": "urn:answerable:other"}, "it was signed for another audience"),
        ({"iss": "https://other.example"}, "its signed iss"),
        ({"jti": "elsewhere"}, "its signed jti"),
    ],
)
def test_what_the_log_took_in_wrongly_is_found_although_its_tree_is_sound(tmp_path, claims, reason):
    bundle = Bundle()
    raw = (
        bundle.set("e9", key=claims.pop("key", SOURCE))
        if "key" in claims
        else bundle.set(claims.pop("jti", "e9"), **claims)
    )
    bundle.event("e9", raw)

    assert f"leaf 7: {reason}" in problem(bundle.sign().write(tmp_path / "b.zip"))


def test_a_key_that_an_insider_put_on_record_is_refused_by_whoever_has_the_sources_own(tmp_path):
    """The tree is sound, the log's key is real, and so is the signature: by a key that the source never had."""
    theirs = SigningKey(b"\x09" * 32)
    jwk = {**JWK, "x": b64url(bytes(theirs.verify_key))}
    bundle = Bundle()
    bundle.own("key", {"change": "key.added", "source": "conductor", "thumbprint": thumbprint(jwk), "jwk": jwk})
    bundle.append("event", "conductor", "A", thumbprint(jwk), bundle.set("e9", key=theirs), "e9")
    path, keys = str(bundle.sign().write(tmp_path / "b.zip")), tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [JWK]}))

    alone, pinned = run(path, "--vkey", VKEY), run(path, "--vkey", VKEY, "--source-key", f"conductor={keys}")

    assert (
        alone.returncode == 0 and f"conductor: key {thumbprint(jwk)}, on record in the log; compare it" in alone.stdout
    )
    assert pinned.returncode == 1 and "leaf 8: its key" in pinned.stdout and "none of those given" in pinned.stdout
    assert (
        run(Bundle().sign().write(tmp_path / "c.zip"), "--vkey", VKEY, "--source-key", f"conductor={keys}").returncode
        == 0
    )


def test_with_a_sources_key_given_none_of_its_events_may_come_unsigned(tmp_path):
    bundle = Bundle()
    bundle.own("config", {"change": "source.added", "source": "odd", "format": "stripe", "issuer": "https://c.example"})
    bundle.append("event", "odd", "A", STAMP, b"{}", "e9")
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(JWK))

    answer = run(bundle.sign().write(tmp_path / "b.zip"), "--vkey", VKEY, "--source-key", f"odd={keys}")

    assert answer.returncode == 1 and "leaf 8: a key was given" in answer.stdout


def test_a_key_leaf_whose_key_is_not_the_one_it_names_is_refused(tmp_path):
    bundle = Bundle()
    bundle.own("key", {"change": "key.added", "source": "conductor", "thumbprint": STAMP, "jwk": {**JWK, "x": "AA"}})

    assert "leaf 7: the key in it does not have the thumbprint" in problem(bundle.sign().write(tmp_path / "b.zip"))


def test_bytes_that_carry_no_signature_are_said_to_be_unchecked_never_good(tmp_path):
    bundle = Bundle()
    bundle.own(
        "config", {"change": "source.added", "source": "stripe", "format": "stripe", "issuer": "https://s.example"}
    )
    bundle.append("event", "stripe", "C", "stripe-endpoint-secret", b'{"id":"evt_1"}', "evt_1")

    report = verifier.verify(str(bundle.sign().write(tmp_path / "b.zip")), (VKEY,))

    assert report["result"] == "ok" and report["counts"]["signatures_good"] == 5
    assert report["signatures_not_checked"] == {"grade C, format stripe: no signature that this verifier knows": 1}


def test_bytes_of_a_source_that_signs_must_be_signed(tmp_path):
    bundle = Bundle()
    bundle.event("e9", b'{"jti":"e9"}')

    assert "leaf 7: source" in problem(bundle.sign().write(tmp_path / "b.zip"))


@pytest.mark.parametrize("whole", [True, False])
def test_an_erased_payload_is_told_and_its_leaf_stays_proven(tmp_path, whole):
    bundle = Bundle(whole)
    bundle.own("tombstone", {"change": "erased", "leaves": [4]})
    bundle.leaves[4]["payload"] = None

    report = verifier.verify(str(bundle.sign().write(tmp_path / "b.zip")), (VKEY,))

    assert report["result"] == "ok"
    assert (report["counts"]["leaves"], report["counts"]["erased"], report["counts"]["withheld"]) == (8, 1, 0)


@pytest.mark.parametrize("whole", [False, True], ids=["part", "whole"])
def test_a_payload_left_out_without_a_tombstone_is_refused_in_a_part_and_in_the_whole(tmp_path, whole):
    bundle = Bundle(whole=whole)
    bundle.leaves[4]["payload"] = None

    assert "no tombstone in the log says" in problem(bundle.sign().write(tmp_path / "b.zip"))


def test_another_logs_key_is_not_taken(tmp_path):
    path = Bundle().sign().write(tmp_path / "b.zip")

    assert "carries no signature by a key" in problem(path, vkey(ORIGIN, bytes(SOURCE.verify_key)))
    assert "the verifier keys are for" in problem(path, vkey("elsewhere/log", bytes(LOG.verify_key)))
    assert run(path, "--vkey", "nonsense").returncode == 2


# --- hostile archives
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "a\\..\\b", "a/../../b", "C:evil", "bell\x07", "a//b"]
)
def test_an_unsafe_name_is_refused(tmp_path, name):
    bundle = Bundle().sign()
    bundle.members = {name: "x"}
    answer = run(bundle.write(tmp_path / "b.zip"), "--vkey", VKEY)

    assert answer.returncode == 1 and "unsafe name" in answer.stdout and answer.stderr == ""
    assert sorted(os.listdir(tmp_path)) == ["b.zip"]


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = Bundle().sign().write(tmp_path / "b.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("checkpoint", "another")

    assert "two members named" in problem(path)


def test_a_symbolic_link_is_refused(tmp_path):
    path = Bundle().sign().write(tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")

    assert "symbolic link" in problem(path)


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("leaves.jsonl", '{"index": ' + "9" * 5000 + "}\n", "a number of 5000 digits"),
        ("leaves.jsonl", '{"index": 0, "index": 1}\n', "a name stands twice"),
        ("leaves.jsonl", "[" * 100_000 + "\n", "nested too deeply"),
        ("leaves.jsonl", '{"index": true}\n', "'index' is missing or of the wrong type"),
        ("leaves.jsonl", '{"index": -1}\n', "leaf -1: it is out of order"),
        ("leaves.jsonl", '{"index": 0, "leaf": 7}\n', "leaf 0: the leaf is not base64 text"),
        ("leaves.jsonl", '{"index": 0, "leaf": "e30="}\n', "leaf 0: its bytes are no leaf"),
        ("leaves.jsonl", b"\xff\xfe\n", "line 1: the line is not JSON"),
        ("leaves.jsonl", "[]\n", "not a JSON object"),
        ("leaves.jsonl", "NaN\n", "NaN is not JSON"),
        ("leaves.jsonl", None, "leaves.jsonl: is not in the archive"),
        ("checkpoint", "x\n" + "9" * 30 + "\nAA==\n\n\u2014 x y\n", "is not a number of at most 19 digits"),
        ("checkpoint", b"\xff", "utf-8"),
        ("checkpoint", "", "a checkpoint has three lines"),
        ("checkpoint", "a" * 2_000_000, "larger than"),
        ("manifest.json", "{}", None),
        ("manifest.json", "[]", "not a JSON object"),
        ("vkeys", "nonsense", "expected an Ed25519 verifier key"),
        ("checkpoints.jsonl", '{"note": 1}\n', "checkpoints.jsonl, line 1"),
        ("checkpoints.jsonl", '{"note": "\\u001b[31m\\n1\\nAA==\\n\\n\\n"}\n', "checkpoints.jsonl, line 1"),
    ],
)
def test_malformed_members_are_refused_without_a_traceback(tmp_path, name, content, reason):
    bundle = Bundle().sign()
    bundle.members = {name: content}
    answer = run(bundle.write(tmp_path / "b.zip"))

    assert answer.returncode == (1 if reason else 2) and answer.stderr == "", answer
    assert (reason or "expected format") in answer.stdout
    assert "\x1b" not in answer.stdout


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"not a zip", b"PK\x03\x04" + b"\x00" * 100])
def test_what_is_no_archive_is_unusable(tmp_path, content):
    path = tmp_path / "b.zip"
    path.write_bytes(content)

    assert [run(p).returncode for p in (path, tmp_path / "absent", tmp_path)] == [2, 2, 2]


def test_an_archive_of_something_else_is_unusable(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("holiday.txt", "sun")

    assert run(tmp_path / "b.zip").returncode == 2


def test_any_flipped_byte_is_refused_or_changes_nothing_that_is_read(tmp_path):
    path = Bundle().sign().write(tmp_path / "b.zip")
    whole = path.read_bytes()
    wanted = verifier.verify(str(path), (VKEY,))
    rng, bad = random.Random(11), 0
    for _ in range(600):
        at = rng.randrange(len(whole))
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.randrange(8)
        try:
            report = verifier.verify(io.BytesIO(bytes(changed)), (VKEY,))
        except verifier.Unusable:
            bad += 1
            continue
        bad += report["result"] == "bad"
        if report["result"] == "ok":  # the archive's dates and the like; or a member's name, which is then told
            assert {**report, "notes": [], "earlier_checkpoints": 1} == wanted, at
    assert bad > 500


def test_a_small_file_that_unpacks_to_a_huge_line_is_refused_at_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(verifier, "LINE", 1 << 16)
    bundle = Bundle().sign()
    bundle.members = {"leaves.jsonl": " " * (1 << 20)}

    assert "a line longer than 65536 bytes" in problem(bundle.write(tmp_path / "b.zip"))


def test_a_member_that_is_encrypted_or_oddly_compressed_is_refused(tmp_path):
    path = Bundle().sign().write(tmp_path / "b.zip")
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    struct.pack_into("<H", data, central + 8, 1)
    path.write_bytes(bytes(data))

    assert "encrypted" in problem(path)
