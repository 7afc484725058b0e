"""Witnesses and the independent head, against a small witness of our own (C2SP tlog-witness)."""

import time
from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from django.db import connections, transaction
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerBehind
from auditlog.core.log.checkpoint import check_cosignature, cosigned_message, opened
from auditlog.core.log.merkle import check_consistency
from auditlog.custody.witness import cosigned_note, https_post, submit_all, witnessed_size
from auditlog.ledger.append import append_note
from auditlog.ledger.heads import forget_head, head_file, read_head
from auditlog.ledger.proofs import newest_checkpoint
from auditlog.ledger.publish import origin_of, publish, take_fence
from auditlog.models import Checkpoint, Cosignature, Witness

KEY = SigningKey(b"\x07" * 32)


class SmallWitness:
    """Remembers one head a log, cosigns what extends it, and misbehaves on request."""

    def __init__(self, name, seed=1):
        self.name, self.key = name, SigningKey(bytes([seed]) * 32)
        self.size, self.root, self.lie, self.delay = 0, b"", "", 0.0
        blob = b"\x04" + bytes(self.key.verify_key)
        self.key_id = sha256(name.encode() + b"\n" + blob).digest()[:4]
        self.vkey = f"{name}+{self.key_id.hex()}+{b64encode(blob).decode()}"

    def post(self, url, body):
        time.sleep(self.delay)
        assert url.endswith("/add-checkpoint")
        head, _, note = body.decode().partition("\n\n")
        old, *proof = head.split("\n")
        checkpoint = opened(note, origin=note.split("\n")[0], public_key=bytes(KEY.verify_key))
        if int(old.removeprefix("old ")) != self.size:
            return 409, f"{self.size}\n".encode()
        try:
            check_consistency(self.size, checkpoint.size, self.root, checkpoint.root, [b64decode(p) for p in proof])
        except ValueError:
            return 422, b"bad proof"
        self.size, self.root = checkpoint.size, checkpoint.root
        return 200, self.cosign(checkpoint).encode()

    def cosign(self, checkpoint):
        now = 1_795_000_000
        message = cosigned_message(checkpoint, now)
        signature = self.key.sign(message + (b"x" if self.lie == "signature" else b"")).signature
        return f"\u2014 {self.name} {b64encode(self.key_id + now.to_bytes(8) + signature).decode()}\n"


@pytest.fixture
def log(world):
    world.fence = take_fence(world.row)
    return world


def sign(log, more=3):
    for n in range(more):
        append_note(log.row, "config", {"n": n}, now=log.now)
    return publish(log.row, key=KEY, fence=log.fence, now=log.now)


def add(log, witness, url="http://localhost:1/w"):
    return Witness.objects.create(tenant=log.row, name=witness.name, url=url, vkey=witness.vkey)


def submit(log, post):
    return submit_all(log.row, now=lambda: log.now, post=post)


def test_a_witness_cosigns_every_head_and_its_line_is_served_with_the_checkpoint(log):
    witness = SmallWitness("w.example")
    add(log, witness)

    for _ in range(3):
        sign(log)
        assert submit(log, witness.post) == 1

    row = Checkpoint.objects.filter(tenant=log.row).order_by("-size").first()
    note = cosigned_note(log.row, row.size)
    head = opened(note, origin=origin_of(log.row), public_key=bytes(KEY.verify_key))
    assert check_cosignature(note.strip().split("\n")[-1], head, witness.vkey) == 1_795_000_000
    assert Cosignature.objects.filter(tenant=log.row).count() == 3 and witness.size == row.size


def test_a_witness_that_knows_another_size_is_given_the_proof_from_there(log):
    witness = SmallWitness("w.example")
    add(log, witness)
    sign(log)
    submit(log, witness.post)
    Witness.objects.update(last_size=0)  # we forgot what it knows
    sign(log)

    assert submit(log, witness.post) == 1


@pytest.mark.parametrize("wrong", ["lies", "down", "garbage", "ahead", "error"])
def test_a_bad_witness_gives_no_cosignature_and_its_reason_is_kept(log, wrong):
    witness = SmallWitness("w.example")
    witness.lie = "signature" if wrong == "lies" else ""
    row = add(log, witness)
    posts = {
        "lies": witness.post,
        "down": lambda url, body: (_ for _ in ()).throw(ConnectionRefusedError("refused")),
        "garbage": lambda url, body: (200, b"\xff\xfe nothing"),
        "ahead": lambda url, body: (409, b"999999\n"),
        "error": lambda url, body: (500, b"sorry"),
    }
    sign(log)

    assert submit(log, posts[wrong]) == 0

    row.refresh_from_db()
    assert row.last_error and not Cosignature.objects.filter(tenant=log.row).exists()


def test_a_slow_witness_delays_no_other_and_a_quorum_counts_those_that_answered(log):
    fast, other, slow = SmallWitness("a.example", 1), SmallWitness("b.example", 2), SmallWitness("c.example", 3)
    by_name = {w.name: w for w in (fast, other, slow)}
    for witness in by_name.values():
        add(log, witness, url=f"http://localhost/{witness.name}")
    log.row.witness_quorum = 2
    log.row.save()
    sign(log)

    def post(url, body):
        name = url.split("/")[3]
        if name == "c.example":
            raise TimeoutError("timed out")
        return by_name[name].post(url, body)

    assert submit(log, post) == 2
    assert witnessed_size(log.row) == newest_checkpoint(log.row)[0]


def test_no_quorum_is_reached_by_one_of_two(log):
    witness = SmallWitness("a.example")
    add(log, witness)
    log.row.witness_quorum = 2
    log.row.save()
    sign(log)
    submit(log, witness.post)

    assert witnessed_size(log.row) == 0


def test_a_witness_is_reached_over_real_https(log, outside, monkeypatch):
    witness = SmallWitness("w.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))

    def answer(method, path, headers, body):
        status, text = witness.post(path, body)
        return status, {}, text

    outside.answer = answer
    row = add(log, witness, url=f"{outside.url}/prefix")
    sign(log)

    assert submit(log, None) == 0  # it is at a loopback address, and nobody allowed that
    row.refresh_from_db()
    assert "private or loopback" in row.last_error and outside.asked == []
    Witness.objects.filter(pk=row.pk).update(allow_private=True)
    assert submit(log, None) == 1
    assert [path for _, path, *_ in outside.asked] == ["/prefix/add-checkpoint"]


def test_a_witness_whose_answer_has_no_end_gives_no_cosignature(log, outside):
    outside.answer = lambda *_: (200, {}, b"x" * 20_000)
    row = add(log, SmallWitness("w.example"), url=outside.url)
    row.allow_private = True
    sign(log)

    assert submit(log, lambda url, body: https_post(row, url, body, call=outside.call)) == 0
    row.refresh_from_db()
    assert "expected at most 16,384" in row.last_error


def test_plain_http_is_refused(log):
    row = add(log, SmallWitness("w.example"), url="http://witness.example/w")
    sign(log)

    assert submit(log, None) == 0
    row.refresh_from_db()
    assert "https" in row.last_error


# --- the independent head -------------------------------------------------------------------------------------------


def roll_back(log, size):
    """What restoring an older copy does: leaves, checkpoints and head of then."""
    old = Checkpoint.objects.get(tenant=log.row, size=size)
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        tables = ("ledger_leaf", "ledger_payload", "ledger_checkpoint", "ledger_tile", "ledger_head")
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for table in ("ledger_leaf", "ledger_payload"):
            cursor.execute(f"DELETE FROM {table} WHERE tenant_id = %s AND leaf_index >= %s", [log.row.pk, size])
        cursor.execute("DELETE FROM ledger_checkpoint WHERE tenant_id = %s AND size > %s", [log.row.pk, size])
        cursor.execute(
            "UPDATE ledger_head SET size = %s, edge = %s WHERE tenant_id = %s", [size, bytes(old.edge), log.row.pk]
        )
        cursor.execute(
            "UPDATE ledger_edge SET hashes = substr(hashes, 1, %s) WHERE tenant_id = %s AND level = 0",
            [size % 256 * 32, log.row.pk],
        )
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_the_head_is_on_file_before_the_checkpoint_is_seen(log):
    note = sign(log)

    assert head_file(log.tenant).read_text() == note
    assert read_head(log.tenant).size == newest_checkpoint(log.row)[0]
    assert head_file(log.tenant).stat().st_mode & 0o777 == 0o600


def test_a_restored_older_copy_is_not_signed_even_when_it_has_grown_past_the_head(log):
    sign(log)
    old = newest_checkpoint(log.row)[0]
    sign(log)
    roll_back(log, old)

    with pytest.raises(LedgerBehind, match="restored from an older copy"):
        publish(log.row, key=KEY, fence=log.fence, now=log.now)
    for _ in range(9):
        append_note(log.row, "config", {"other": "history"}, now=log.now)
    with pytest.raises(LedgerBehind, match="not those that were signed"):
        publish(log.row, key=KEY, fence=log.fence, now=log.now)


def test_it_goes_on_refusing_until_a_person_decides(log):
    sign(log)
    old = newest_checkpoint(log.row)[0]
    sign(log)
    roll_back(log, old)
    for _ in range(3):
        with pytest.raises(LedgerBehind):
            publish(log.row, key=KEY, fence=log.fence, now=log.now)

    kept = forget_head(log.tenant)

    assert kept.exists() and sign(log)


def test_a_head_that_cannot_be_read_stops_the_publisher_too(log):
    sign(log)
    head_file(log.tenant).write_text("nonsense")

    with pytest.raises(LedgerBehind, match="cannot be read"):
        sign(log)


def test_a_refusal_is_said_in_readyz_and_taken_back(log):
    from auditlog.ledger.publish import _say
    from auditlog.work.health import checks

    told = {}
    _say(log.row, "the database is behind", told, now=log.now)
    said = {c.name: c for c in checks(now=log.now)}["signing"]
    _say(log.row, "", told, now=log.now)
    after = {c.name: c for c in checks(now=log.now)}["signing"]

    assert not said.ok and log.tenant in said.detail
    assert after.ok
