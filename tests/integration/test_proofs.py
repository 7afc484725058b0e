"""Proofs and tiles over HTTP, checked by an outsider's arithmetic only."""

import json
import subprocess
import sys
from base64 import b64decode, urlsafe_b64encode
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from nacl.signing import SigningKey

from auditlog.core.log.checkpoint import opened, public_key_of, vkey
from auditlog.core.log.leaf import MAX_BYTES, commitment
from auditlog.core.log.merkle import check_consistency, leaf_hash, root_from_inclusion
from auditlog.ledger.append import append_note
from auditlog.ledger.proofs import prove_consistency, prove_inclusion
from auditlog.ledger.publish import announce_key, publish, take_fence
from auditlog.models import Checkpoint
from auditlog.reads.access import issue_token
from auditlog.verifier import answerable_verify as verifier

KEY = SigningKey(b"\x07" * 32)


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.fence = take_fence(world.row)
    announce_key(world.row, key=KEY, now=world.now)
    token = issue_token(world.row, name="t", role="auditor", expires_at=timezone.now() + timedelta(hours=1))
    world.client = Client(headers={"Authorization": f"Bearer {token}"})
    return world


def sign(log):
    publish(log.row, key=KEY, fence=log.fence, now=log.now)


def public(path):
    return Client().get(path)


def test_an_outsider_checks_bytes_leaf_path_and_signature_with_what_we_serve(log):
    signed = log.event("action.performed")
    log.send(*(log.event("action.performed") for _ in range(300)))
    [appended] = log.send(signed)
    sign(log)

    proof = log.client.get(f"/api/v1/events/{appended.event_id}/proof").json()
    raw = log.client.get(f"/api/v1/events/{appended.event_id}/raw").content
    name, key = public_key_of(public(f"/log/{log.tenant}/vkey").content.decode().split("\n")[0])
    head = opened(proof["checkpoint"], origin=name, public_key=key)

    leaf = b64decode(proof["leaf"])
    kind, source, _, grade, thumb, committed = json.loads(leaf)[1:]
    assert raw == signed.raw
    made = commitment(b64decode(proof["salt"]), signed.jti.encode(), b"", raw)
    assert b64decode(committed + "=", altchars=b"-_") == made
    assert (kind, source, grade, len(thumb)) == ("event", "conductor", "A", 43)
    assert leaf_hash(leaf) == b64decode(proof["leaf_hash"])
    path = [b64decode(part) for part in proof["hashes"]]
    assert root_from_inclusion(proof["leaf_index"], head.size, leaf_hash(leaf), path) == head.root
    assert len(leaf) <= MAX_BYTES


@pytest.fixture
def outsider(log, tmp_path):
    """Somebody with the verifier, an event, its proof, the log's public key and what the source publishes. Nothing else."""
    log.send(*(log.event("action.performed") for _ in range(300)))
    signed = log.event("action.performed")
    [appended] = log.send(signed)
    sign(log)
    files = {
        "raw": log.client.get(f"/api/v1/events/{appended.event_id}/raw").content,
        "proof": log.client.get(f"/api/v1/events/{appended.event_id}/proof").content,
        "jwks": json.dumps(log.sources["conductor"].jwks).encode(),
    }
    vkey = public(f"/log/{log.tenant}/vkey").content.decode().split("\n")[0]

    def check(*more, vkey=vkey, **changed):
        for name, content in (files | changed).items():
            (tmp_path / name).write_bytes(content)
        command = [
            sys.executable,
            "-I",
            "-S",
            verifier.__file__,
            "--event",
            tmp_path / "raw",
            "--proof",
            tmp_path / "proof",
            *more,
        ]
        answer = subprocess.run(
            [*command, *(["--vkey", vkey] if vkey else [])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={},
        )
        assert answer.stderr == ""
        return answer.returncode, answer.stdout

    check.files, check.pin = files, ("--source-key", f"conductor={tmp_path / 'jwks'}")
    return check


def test_an_event_and_its_proof_convince_whoever_has_the_verifier_and_the_keys(outsider):
    code, told = outsider(*outsider.pin)

    assert code == 0 and told.startswith("OK: an event of log") and "1 of sources good" in told and ", given" in told
    code, told = outsider()
    assert code == 0 and "0 of sources good" in told and "no key of its source was given" in told
    assert outsider(vkey="")[0] == 2


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("leaf", None, "the leaf"), ("salt", "AAAA", "32 bytes"), ("leaf_index", 3, "proof"), ("leaf_index", 10**9, "is not in a tree"),
        ("leaf_index", -1, "is not in a tree"), ("leaf_index", True, "leaf_index"), ("hashes", [], "too short"), ("source_event_id", "other", "commits to"),
        ("signed_headers", "e30=", "commits to"), ("checkpoint", "x", "checkpoint"), ("leaf", "WyJhIl0=", "canonical form"),
    ],
)  # fmt: skip
def test_a_proof_with_one_thing_changed_convinces_nobody(outsider, name, value, reason):
    changed = json.loads(outsider.files["proof"]) | {name: value}

    code, told = outsider(*outsider.pin, proof=json.dumps(changed).encode())

    assert code == 1 and reason in told


def test_other_bytes_another_log_and_another_sources_key_convince_nobody(outsider):
    other = SigningKey(b"\x09" * 32)
    x = urlsafe_b64encode(bytes(other.verify_key)).rstrip(b"=").decode()

    assert outsider(*outsider.pin, raw=outsider.files["raw"] + b"\n")[0] == 1
    assert outsider(*outsider.pin, vkey=vkey("answerable.example/log/default", bytes(other.verify_key)))[0] == 1
    code, told = outsider(*outsider.pin, jwks=json.dumps({"kty": "OKP", "crv": "Ed25519", "x": x}).encode())
    assert code == 1 and "none of those given" in told
    for broken in (b"", b"[]", b'{"keys": []}', b"\xff", b'{"kty": "OKP"}'):
        assert outsider(*outsider.pin, jwks=broken)[0] == 2
    for broken in (b"", b"[" * 100_000, b'{"leaf": 1, "leaf": 2}', b"\xff"):
        assert outsider(*outsider.pin, proof=broken)[0] == 1


def test_the_same_proof_as_c2sp_text(log):
    [appended] = log.send(log.event("action.performed"))
    sign(log)

    answer = log.client.get(f"/api/v1/events/{appended.event_id}/proof", headers={"Accept": "text/plain"})

    lines, _, note = answer.content.decode().partition("\n\n")
    header, index, *hashes = lines.split("\n")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert (header, index) == ("c2sp.org/tlog-proof@v1", f"index {appended.leaf_index}")
    assert note == Checkpoint.objects.get(tenant=log.row).note and len(hashes) >= 1


def test_until_a_checkpoint_covers_it_a_leaf_has_no_proof_yet(log):
    [appended] = log.send(log.event("action.performed"))

    answer = log.client.get(f"/api/v1/events/{appended.event_id}/proof")

    assert answer.status_code == 404 and int(answer.headers["Retry-After"]) >= 1


def test_a_proof_takes_at_most_four_tile_reads_and_every_leaf_has_one(log):
    for count in (255, 1, 1, 400):
        for _ in range(count):
            append_note(log.row, "config", {"n": 1}, now=log.now)
        sign(log)
    size = Checkpoint.objects.filter(tenant=log.row).order_by("-size").first().size

    for index in [*range(0, size, 37), size - 1]:
        proof = prove_inclusion(log.row, index)
        assert proof.tile_reads <= 4


def test_any_two_checkpoints_are_consistent_by_the_tiles_alone(log):
    for count in (3, 253, 5, 600):
        for _ in range(count):
            append_note(log.row, "config", {"n": 1}, now=log.now)
        sign(log)
    notes = list(Checkpoint.objects.filter(tenant=log.row).order_by("size"))

    for old in notes:
        for new in notes:
            if old.size <= new.size:
                proof = prove_consistency(log.row, old.size, new.size)
                check_consistency(old.size, new.size, bytes(old.root), bytes(new.root), proof)


def test_tiles_and_entries_are_served_to_anybody_for_ever(log):
    log.send(*(log.event("action.performed") for _ in range(270)))
    sign(log)
    size = Checkpoint.objects.get(tenant=log.row).size

    full, partial = public(f"/log/{log.tenant}/tile/0/000"), public(f"/log/{log.tenant}/tile/0/001.p/{size - 256}")
    entries, top = public(f"/log/{log.tenant}/tile/entries/000"), public(f"/log/{log.tenant}/tile/1/000.p/1")

    assert (len(full.content), len(partial.content), len(top.content)) == (8192, 32 * (size - 256), 32)
    assert "immutable" in full.headers["Cache-Control"]
    at, hashes = 0, []
    while at < len(entries.content):
        length = int.from_bytes(entries.content[at : at + 2], "big")
        hashes.append(leaf_hash(entries.content[at + 2 : at + 2 + length]))
        at += 2 + length
    assert b"".join(hashes) == full.content


@pytest.mark.parametrize("path", ["tile/0/001", "tile/0/000.p/200", "tile/9/000", "tile/0/1", "tile/entries/001"])
def test_what_is_not_there_is_not_found(log, path):
    log.send(*(log.event("action.performed") for _ in range(3)))
    sign(log)

    answer = public(f"/log/{log.tenant}/{path}")

    assert answer.status_code == 404 and answer.headers["Content-Type"] == "application/problem+json"


def test_a_log_that_nobody_has_is_not_found(database):
    assert public("/log/nobody/checkpoint").status_code == 404


def test_a_rotated_key_signs_on_and_the_old_checkpoints_stay_verifiable(log):
    from auditlog.core.log.checkpoint import opened
    from auditlog.ledger.publish import origin_of

    sign(log)
    second = SigningKey(b"\x09" * 32)
    announce_key(log.row, key=second, now=log.now)
    announce_key(log.row, key=second, now=log.now)
    publish(log.row, key=second, fence=log.fence, now=log.now)

    old, new = Checkpoint.objects.filter(tenant=log.row).order_by("size")
    assert opened(old.note, origin=origin_of(log.row), public_key=bytes(KEY.verify_key)).size == old.size
    assert opened(new.note, origin=origin_of(log.row), public_key=bytes(second.verify_key)).size == new.size
    assert len(public(f"/log/{log.tenant}/vkey").content.splitlines()) == 2
