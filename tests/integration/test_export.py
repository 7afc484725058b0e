"""Exports of real logs, checked by the stand-alone verifier with Python alone."""

import json
import os
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerCorrupt, NotFound, NotPossible, Refused
from auditlog.core.log.checkpoint import Checkpoint as Head
from auditlog.core.log.checkpoint import vkey
from auditlog.custody.bundle import export_log
from auditlog.custody.erase import erase
from auditlog.custody.witness import submit_all
from auditlog.formats import Delivery
from auditlog.ingest.receive import ingest
from auditlog.ledger.append import append_note
from auditlog.ledger.proofs import NotCovered
from auditlog.ledger.publish import announce_key, origin_of, publish, take_fence
from auditlog.models import Checkpoint, Leaf
from auditlog.simulator.demo import configure_story
from auditlog.simulator.story import demo_story
from auditlog.verifier import answerable_verify as verifier
from tests.integration.test_publish import vandalise
from tests.integration.test_witness import SmallWitness
from tests.integration.test_witness import add as add_witness

KEY = SigningKey(b"\x07" * 32)


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    world.fence = take_fence(world.row)
    announce_key(world.row, key=KEY, now=world.now)
    return world


def sign(log):
    publish(log.row, key=KEY, fence=log.fence, now=log.now)


def exported(log, path, **what):
    with path.open("w+b") as file:
        done = export_log(log.row, file, **what)
    return done


def verified(log, path, *more):
    """By the verifier that lies in the bundle, run as a stranger would."""
    with zipfile.ZipFile(path) as archive:
        program = archive.read("answerable_verify.py")
    script = path.parent / "taken_out.py"
    script.write_bytes(program)
    command = [
        sys.executable,
        "-I",
        "-S",
        str(script),
        str(path),
        "--vkey",
        vkey(origin_of(log.row), bytes(KEY.verify_key)),
        "--json",
        *more,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={})
    assert answer.stderr == ""
    return answer.returncode, json.loads(answer.stdout)


@pytest.mark.slow
def test_the_demo_story_is_exported_whole_and_holds(world, tmp_path):
    story = demo_story(seed=7, now=world.now, tenant=world.tenant)
    configure_story(world.row, story, now=world.now)
    world.fence = take_fence(world.row)
    announce_key(world.row, key=KEY, now=world.now)
    halfway = len(story.deliveries) // 2
    for number, signed in enumerate(story.deliveries):
        delivery = Delivery(
            signed.raw, signed.content_type, {name.lower(): value for name, value in signed.headers.items()}
        )
        with suppress(Refused):  # the story has some that must be
            ingest(world.tenant, signed.source, delivery, now=world.now)
        if number == halfway:
            sign(world)
    sign(world)

    done = exported(world, tmp_path / "b.zip")
    code, report = verified(world, tmp_path / "b.zip")

    assert code == 0, report["problem"]
    assert done.is_whole and report["size"] == done.size == done.leaves and report["earlier_checkpoints"] >= 1
    assert report["counts"]["events"] == Leaf.objects.filter(tenant=world.row, event_id__isnull=False).count()
    assert report["counts"]["signatures_good"] == Leaf.objects.filter(tenant=world.row, grade="A").count() > 50


def test_some_events_come_with_all_that_is_needed_to_check_them_and_no_other_event(log, tmp_path):
    log.send(*(log.event("action.performed") for _ in range(30)))
    sign(log)
    wanted = log.send(*(log.event("action.performed") for _ in range(3)))
    log.send(*(log.event("action.performed") for _ in range(30)))
    sign(log)
    log.send(log.event("action.performed"))
    sign(log)

    exported(log, tmp_path / "b.zip", events=[one.event_id for one in wanted])
    code, report = verified(log, tmp_path / "b.zip")

    assert code == 0, report["problem"]
    events = [leaf for leaf in report["leaves"] if leaf["kind"] == "event"]
    assert [leaf["index"] for leaf in events] == [one.leaf_index for one in wanted]
    assert {(leaf["payload"], leaf["signature"]) for leaf in events} == {("checked", "good")}
    assert report["earlier_checkpoints"] == 2  # the one before, and the first that holds them
    assert {leaf["kind"] for leaf in report["leaves"]} == {"config", "key", "event"}


@pytest.mark.parametrize("whole", [True, False])
def test_who_witnessed_the_log_is_checked_offline_and_what_nobody_has_witnessed_yet_is_told(log, tmp_path, whole):
    one, two = SmallWitness("one.example", 1), SmallWitness("two.example", 2)
    add_witness(log, one, f"https://w/{one.name}")
    add_witness(log, two, f"https://w/{two.name}")
    [event] = log.send(log.event("action.performed"))
    sign(log)
    submit_all(log.row, now=lambda: log.now, post=_each(one, two))
    both = Checkpoint.objects.get(tenant=log.row).size
    log.send(log.event("action.performed"))
    sign(log)
    two.lie = "signature"
    submit_all(log.row, now=lambda: log.now, post=_each(one, two))
    exported(log, tmp_path / "b.zip", events=[] if whole else [event.event_id])

    both_say = verified(log, tmp_path / "b.zip", "--witness", one.vkey, "--witness", two.vkey)
    either_says = verified(log, tmp_path / "b.zip", "--witness", one.vkey, "--witness", two.vkey, "--quorum", "1")
    nobody_asked = verified(log, tmp_path / "b.zip")
    stranger = verified(log, tmp_path / "b.zip", "--witness", SmallWitness("three.example", 3).vkey)
    namesake = verified(log, tmp_path / "b.zip", "--witness", SmallWitness("one.example", 3).vkey)

    assert both_say[0] == 0 and both_say[1]["witnessed"] == {
        "size": both,
        "by": dict.fromkeys(("one.example", "two.example"), 1_795_000_000),
    }
    assert "1 leaves stand after the last witnessed checkpoint" in both_say[1]["notes"][0]
    assert either_says[0] == 0 and either_says[1]["witnessed"] == {
        "size": both + 1,
        "by": {"one.example": 1_795_000_000},
    }
    assert nobody_asked[0] == 0 and '"one.example", "two.example"' in nobody_asked[1]["notes"][0]
    assert {answer[1]["problem"]["what"] for answer in (stranger, namesake) if answer[0] == 1} == {
        "no checkpoint in here is cosigned by 1 of the 1 witnesses given"
    }


def test_a_witness_line_that_is_false_is_refused_and_a_quorum_nobody_can_reach_is_no_question(log, tmp_path):
    witness = SmallWitness("one.example")
    add_witness(log, witness)
    log.send(log.event("action.performed"))
    sign(log)
    submit_all(log.row, now=lambda: log.now, post=witness.post)
    vandalise("UPDATE ledger_cosignature SET line = %s WHERE tenant_id = %s", _forged(witness).strip(), log.row.pk)
    exported(log, tmp_path / "b.zip")

    code, report = verified(log, tmp_path / "b.zip", "--witness", witness.vkey)
    unusable, asked = verified(log, tmp_path / "b.zip", "--witness", witness.vkey, "--quorum", "2")

    assert code == 1 and 'the line of witness "one.example" on it is wrong' in report["problem"]["what"]
    assert unusable == 2 and "expected a quorum from 1 to" in asked["problem"]["what"]


def _each(*witnesses):
    """Posts to each witness at its own address."""

    def post(url, body):
        [one] = [witness for witness in witnesses if f"/{witness.name}/" in url]
        return one.post(url, body)

    return post


def _forged(witness):
    witness.lie = "signature"
    return witness.cosign(Head("another.example/log", 1, b"\0" * 32))


def test_a_span_of_leaves(log, tmp_path):
    log.send(*(log.event("action.performed") for _ in range(30)))
    sign(log)

    exported(log, tmp_path / "b.zip", leaves=range(10, 20))
    code, report = verified(log, tmp_path / "b.zip")

    assert code == 0 and {leaf["index"] for leaf in report["leaves"]} >= set(range(10, 20))


def test_equal_logs_give_equal_bytes(log, tmp_path):
    log.send(*(log.event("action.performed") for _ in range(5)))
    sign(log)

    files = [BytesIO(), BytesIO()]
    for file in files:
        export_log(log.row, file)

    assert files[0].getvalue() == files[1].getvalue()


@pytest.mark.parametrize("whole", [True, False])
def test_an_erased_payload_is_told_with_its_tombstone(log, tmp_path, whole):
    appended = log.send(*(log.event("action.performed") for _ in range(5)))
    gone = erase(log.row, [appended[2].leaf_index], who="privacy@acme.example", why="asked", policy="", now=log.now)
    sign(log)

    exported(log, tmp_path / "b.zip", **({} if whole else {"events": [one.event_id for one in appended]}))
    code, report = verified(log, tmp_path / "b.zip")

    assert code == 0, report["problem"]
    assert (report["counts"]["erased"], report["counts"]["withheld"], report["counts"]["signatures_good"]) == (1, 0, 4)
    if not whole:
        [entry] = [leaf for leaf in report["leaves"] if leaf["index"] == appended[2].leaf_index]
        assert entry["payload"] == f"erased, by leaf {gone.tombstone}"


def test_two_thousand_leaves_with_checkpoints_inside_are_derived_again(log, tmp_path):
    for _ in range(4):
        log.send(*(log.event("action.performed") for _ in range(50)))
        for n in range(450):
            append_note(log.row, "case", {"change": "noted", "n": n}, now=log.now)
        sign(log)

    done = exported(log, tmp_path / "b.zip")
    code, report = verified(log, tmp_path / "b.zip")

    assert code == 0 and done.leaves > 2_000, report["problem"]
    assert report["earlier_checkpoints"] == 3 and report["counts"]["signatures_good"] == 200


@pytest.mark.slow
def test_a_thousand_events_are_checked_in_a_moment(log, tmp_path, capsys):
    appended = [one for _ in range(10) for one in log.send(*(log.event("action.performed") for _ in range(100)))]
    sign(log)
    log.send(log.event("action.performed"))
    sign(log)
    exported(log, tmp_path / "b.zip", events=[one.event_id for one in appended])

    began = time.perf_counter()
    code, report = verified(log, tmp_path / "b.zip")
    took = time.perf_counter() - began

    assert code == 0 and report["counts"]["signatures_good"] == 1_000
    with capsys.disabled():
        print(f"\n  the stand-alone verifier, pure Python, 1,000 events with proofs: {took:.2f} s with its start")


def test_a_key_that_was_retired_and_a_second_one_still_explain_what_they_signed(log, tmp_path):
    from auditlog.models import SourceKey
    from auditlog.sources.configure import retire_key

    log.send(*(log.event("action.performed") for _ in range(3)))
    retire_key(SourceKey.objects.get(source__tenant=log.row), now=log.now)
    sign(log)
    second = SigningKey(b"\x09" * 32)
    announce_key(log.row, key=second, now=log.now)
    publish(log.row, key=second, fence=log.fence, now=log.now)

    exported(log, tmp_path / "b.zip")
    newest = verifier.verify(str(tmp_path / "b.zip"), [vkey(origin_of(log.row), bytes(second.verify_key))])

    assert newest["result"] == "ok" and newest["counts"]["signatures_good"] == 3
    assert any("earlier checkpoints are signed by keys of the bundle" in note for note in newest["notes"])
    assert verifier.verify(str(tmp_path / "b.zip"))["result"] == "ok"  # its own two keys open both


def test_what_no_checkpoint_covers_or_nobody_has_is_not_exported(log, tmp_path):
    [before] = log.send(log.event("action.performed"))
    with pytest.raises(NotCovered):
        exported(log, tmp_path / "b.zip")
    sign(log)
    [after] = log.send(log.event("action.performed"))

    with pytest.raises(NotCovered, match="not covered yet"):
        exported(log, tmp_path / "b.zip", events=[after.event_id])
    with pytest.raises(NotFound):
        exported(log, tmp_path / "b.zip", events=[before.event_id.__class__(int=1)])
    with pytest.raises(NotPossible):
        exported(log, tmp_path / "b.zip", leaves=range(3, 3))


def test_a_corrupt_ledger_is_not_exported_as_if_it_were_sound(log, tmp_path):
    log.send(*(log.event("action.performed") for _ in range(5)))
    sign(log)
    vandalise(
        "UPDATE ledger_payload SET raw = set_byte(raw, 9, (get_byte(raw, 9) + 1) %% 256) WHERE tenant_id = %s AND leaf_index = 4",
        log.row.pk,
    )

    with pytest.raises(LedgerCorrupt, match="leaf 4"):
        exported(log, tmp_path / "b.zip")


def test_the_commands_export_and_check(log, tmp_path, capsys):
    log.send(*(log.event("action.performed") for _ in range(3)))
    sign(log)
    out = tmp_path / "b.zip"

    call_command("export_log", "--tenant", log.tenant, "--out", str(out))
    call_command("verify_packet", str(out), f"--vkey={vkey(origin_of(log.row), bytes(KEY.verify_key))}")

    assert "OK: the whole of log" in capsys.readouterr().out
    assert oct(out.stat().st_mode)[-3:] == "600" and [file.name for file in tmp_path.iterdir()] == ["b.zip"]
    with pytest.raises(CommandError, match="not overwritten"):
        call_command("export_log", "--tenant", log.tenant, "--out", str(out))
    for wrong in (
        ["--events", "x"],
        ["--from", "1"],
        ["--from", "2", "--to", "1"],
        ["--tenant", "nobody"],
        ["--from", "1", "--to", "99"],
    ):
        with pytest.raises(CommandError):
            call_command("export_log", "--tenant", log.tenant, "--out", str(tmp_path / "c.zip"), *wrong)
    assert [file.name for file in tmp_path.iterdir()] == ["b.zip"]
    damaged = bytearray(out.read_bytes())
    with zipfile.ZipFile(out) as archive:
        damaged[archive.getinfo("leaves.jsonl").header_offset + 300] ^= 1
    out.write_bytes(damaged)
    with pytest.raises(SystemExit):
        call_command("verify_packet", str(out))


def test_verify_packet_needs_no_database(log, tmp_path):
    log.send(log.event("action.performed"))
    sign(log)
    exported(log, tmp_path / "b.zip")
    manage = Path(__file__).resolve().parents[2] / "manage.py"
    nowhere = {
        "DATABASE_URL": "postgresql://u@/none?host=/nowhere",
        "DATABASE_OWNER_URL": "postgresql://o@/none?host=/nowhere",
    }
    answer = subprocess.run(
        [sys.executable, str(manage), "verify_packet", str(tmp_path / "b.zip")],
        capture_output=True, text=True, check=False,
        env=os.environ | nowhere | {"CELERY_BROKER_URL": "redis://nowhere", "DJANGO_SETTINGS_MODULE": "config.settings"},
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("OK: ")
