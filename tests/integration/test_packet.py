# ruff: noqa: F811  (fixtures)
"""The packet of a case: what it holds, that the same case gives the same bytes, and that nothing in it can be changed."""

import base64
import hashlib
import io
import json
import subprocess
import sys
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, NotPermitted, NotPossible
from auditlog.custody.erase import erase, held_now, release
from auditlog.custody.security import Asked, read
from auditlog.ledger.proofs import NotCovered
from auditlog.ledger.publish import announce_key, publish, take_fence
from auditlog.models import Leaf, Payload
from auditlog.verifier.answerable_verify import Unusable, verify
from disputes.case.imported import MOST_BYTES, read_packet
from disputes.decide import approve
from disputes.packet import write_packet
from tests.integration.test_api import Api, problem
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_disputes_cases import assessed, buys, decider, handler, opened, person, proposed, shop  # noqa: F401
from tests.integration.test_erase import BY
from tests.integration.test_proofs import KEY

pytestmark = pytest.mark.usefixtures("database")


def packet(world, case, viewer):
    file = io.BytesIO()
    digest = write_packet(case, viewer, file, now=world.now)
    return digest, file.getvalue()


def signs(world):
    if not hasattr(world, "fence"):
        world.fence = take_fence(world.row)
        announce_key(world.row, key=KEY, now=world.now)
    publish(world.row, key=KEY, fence=world.fence, now=world.now)


@pytest.fixture
def decided(shop, handler, decider):
    signs(shop)  # the log's key is on record before the case
    case = proposed(shop, handler, [buys(shop, "superseal.cc"), buys(shop, "superseal.club")])
    approve(case, viewer=decider, reason="agreed", now=shop.now)
    signs(shop)
    return case


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    out.seek(0)
    return out


def test_the_packet_holds_acts_authority_steps_verdicts_and_the_decision_and_verifies_offline(
    shop, decided, handler, tmp_path
):
    digest, data = packet(shop, decided, handler)
    files = members(data)
    (tmp_path / "p.zip").write_bytes(data)
    (tmp_path / "answerable_verify.py").write_bytes(files["answerable_verify.py"])
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "answerable_verify.py", tmp_path / "p.zip"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )

    assert (
        done.returncode == 0
        and f'"{decided.ref}": {decided.transitions.count()} steps as the log states them' in done.stdout
        and "2 verdicts" in done.stdout
        and digest in done.stdout
    )
    assert hashlib.sha256(files["manifest.json"]).hexdigest() == digest
    said = {
        name: json.loads(content)
        for name, content in files.items()
        if name.startswith("case/") and name.endswith(".json")
    }
    assert said["case/case.json"]["ref"] == decided.ref and len(said["case/case.json"]["acts"]) == 2
    assert said["case/decision.json"]["proposals"][0]["answer"]["result"] == "approved"
    assert [step["to"] for step in said["case/custody.json"]["steps"]][-1] == "decided"
    assert "not law" in files["README.txt"].decode() and "902(13)" in files["case/certificate.txt"].decode()
    kinds = [json.loads(base64.b64decode(json.loads(line)["leaf"]))[1] for line in files["leaves.jsonl"].splitlines()]
    assert (
        kinds.count("event") == 3 and "key" in kinds
    )  # the two purchases and the grant, as signed, and whose keys they bear


def test_the_same_state_of_a_case_gives_the_same_bytes_whatever_came_later(shop, decided, handler):
    first = packet(shop, decided, handler)
    buys(shop, "unrelated.example")
    signs(shop)

    assert packet(shop, decided, handler) == first


def test_the_log_states_the_digest_once(shop, decided, handler):
    digest, _ = packet(shop, decided, handler)
    packet(shop, decided, handler)
    bodies = [json.loads(bytes(p.raw)) for p in Payload.objects.filter(tenant=shop.row, source_event_id="")]
    [stated] = [body for body in bodies if body.get("change") == "case.packet"]
    decided.refresh_from_db()

    assert stated["sha256"] == digest == decided.packet_digest and stated["case"] == decided.ref


def test_no_bit_of_any_file_can_be_flipped(shop, decided, handler):
    _, data = packet(shop, decided, handler)
    files = members(data)
    assert verify(packed(files))["problem"] is None
    unseen = []
    for name, content in files.items():
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1} - {-1}:
            changed = bytearray(content)
            changed[place] ^= 1
            try:
                problem_found = verify(packed(files | {name: bytes(changed)}))["problem"]
            except Unusable:
                continue
            if problem_found is None:
                unseen.append((name, place))
    assert unseen == []


@pytest.mark.parametrize(
    "name",
    [
        "case/case.json",
        "case/criteria.json",
        "case/decision.json",
        "case/custody.json",
        "case/missing.json",
        "case/certificate.txt",
        "vkeys",
    ],
)
def test_a_file_that_is_taken_out_is_missed(shop, decided, handler, name):
    files = members(packet(shop, decided, handler)[1])
    del files[name]
    assert verify(packed(files))["problem"] is not None


def remade(files, name, content):
    """What a forger does who also writes the manifest anew."""
    manifest = json.loads(files["manifest.json"])
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    said = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    return packed(
        files
        | {
            name: content,
            "manifest.json": said,
            "manifest.sha256": f"{hashlib.sha256(said).hexdigest()}  manifest.json\n".encode(),
        }
    )


def test_a_forged_history_or_assessment_is_caught_by_the_log_though_the_manifest_was_written_anew(
    shop, decided, handler
):
    files = members(packet(shop, decided, handler)[1])
    steps = json.loads(files["case/custody.json"])
    for change in ("reason", "by", "to", "digest"):
        forged = json.loads(json.dumps(steps))
        forged["steps"][-1][change] = "x" * 64
        assert "leaf" in verify(remade(files, "case/custody.json", json.dumps(forged).encode()))["problem"]["what"]
    shorter = {"steps": steps["steps"][1:]}
    assert (
        "does not follow" in verify(remade(files, "case/custody.json", json.dumps(shorter).encode()))["problem"]["what"]
    )
    criteria = json.loads(files["case/criteria.json"])
    criteria["verdicts"][0]["digest"] = "0" * 64
    assert (
        "its digest is of"
        in verify(remade(files, "case/criteria.json", json.dumps(criteria).encode()))["problem"]["what"]
    )
    criteria["digest"] = hashlib.sha256(
        json.dumps(sorted(v["digest"] for v in criteria["verdicts"]), separators=(",", ":")).encode()
    ).hexdigest()
    assert (
        "another assessment"
        in verify(remade(files, "case/criteria.json", json.dumps(criteria).encode()))["problem"]["what"]
    )
    for nonsense in (
        b"[]",
        b'{"steps": 5}',
        b'{"steps": [5]}',
        b'{"steps": [{}]}',
        b"\xff",
        b'{"steps":[{"leaf_index":1e400}]}',
    ):
        assert verify(remade(files, "case/custody.json", nonsense))["problem"] is not None


def test_who_may_take_a_packet_and_when(shop, handler, decider):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    with pytest.raises(NotPossible, match="not assessed"):
        packet(shop, case, handler)
    case = assessed(shop, handler, [buys(shop, "two.example")])
    with pytest.raises(NotCovered):
        packet(shop, case, handler)
    from tests.integration.test_disputes_cases import person

    with pytest.raises(NotPermitted):
        packet(shop, case, person(shop, "abuse", 1, provider="registrar"))
    signs(shop)
    answer = Api(shop.row, "auditor").get(f"cases/{case.ref}/packet")
    assert (
        answer.status_code == 200
        and answer["Content-Type"] == "application/zip"
        and case.ref in answer["Content-Disposition"]
    )
    assert (
        verify(io.BytesIO(b"".join(answer.streaming_content)))["problem"] is None
        and len(answer["Answerable-Packet-Digest"]) == 64
    )
    problem(Api(shop.row, "abuse", provider="registrar").get(f"cases/{case.ref}/packet"), 403)
    problem(Api(shop.row, "admin").get("cases/D-2026-999999/packet"), 404)
    [noted] = [n for n in read(shop.row, Asked(kind="record.exported"), before=None, limit=9)[0]]
    assert case.ref in noted.what


def test_the_page_offers_it_and_shows_the_digest_that_the_log_states(shop, decided, handler):
    client = signed_in(shop, "finance")
    assert "Download the packet" in text_of(client.get(f"/cases/{decided.ref}/"))
    answer = client.get(f"/api/v1/cases/{decided.ref}/packet")
    assert answer.status_code == 200
    assert answer["Answerable-Packet-Digest"] in text_of(client.get(f"/cases/{decided.ref}/"))


def test_what_was_erased_after_the_decision_leaves_a_packet_that_says_so(shop, decided, handler):
    before, _ = packet(shop, decided, handler)
    [leaf] = Leaf.objects.filter(tenant=shop.row, event_id=decided.acts.first().event_id).values_list(
        "leaf_index", flat=True
    )
    with pytest.raises(NotPossible, match="legal hold"):
        erase(shop.row, [leaf], why="asked", now=shop.now, **BY)
    for held in held_now(shop.row):
        release(shop.row, held.leaf_index, who="dpo", reason="a court said so", now=shop.now)
    erase(shop.row, [leaf], why="asked", now=shop.now, **BY)
    with pytest.raises(NotCovered):
        packet(shop, decided, handler)  # until a checkpoint covers the tombstone
    signs(shop)
    digest, data = packet(shop, decided, handler)
    report = verify(io.BytesIO(data))

    assert report["problem"] is None and report["counts"]["erased"] == 1 and digest != before


# --- somebody else's packet --------------------------------------------------------------------------------------------


def test_another_organisations_packet_says_what_it_proves_and_what_it_leaves_out(shop, decided, handler):
    _, data = packet(shop, decided, handler)
    found = read_packet(handler, data)

    assert found.problem is None and (found.ref, found.title, found.state) == (decided.ref, "Wrong name", "decided")
    assert [act["verdict"] for act in found.acts] == ["within_scope_unanticipated", "within_scope"]
    assert [(one["outcome"], one["answer"].split()[0]) for one in found.proposals] == [("upheld", "approved")]
    assert any("steps of the case" in said for said in found.proves)
    assert any("agrees with itself" in said for said in found.leaves_out) and any(
        "witness" in said for said in found.leaves_out
    )
    trusted = read_packet(
        handler, data, vkeys=[Client().get(f"/log/{shop.tenant}/vkey").content.decode().split("\n")[0]]
    )
    assert any("key that you gave" in said for said in trusted.proves)


def test_of_a_packet_that_does_not_hold_nothing_is_shown(shop, decided, handler):
    files = members(packet(shop, decided, handler)[1])
    bad = read_packet(
        handler,
        packed(files | {"case/decision.json": files["case/decision.json"].replace(b"upheld", b"denied")}).getvalue(),
    )
    assert bad.problem["where"] == "case/decision.json" and not bad.acts and not bad.title and not bad.proves
    for body, error in (
        (b"no zip", MalformedEvent),
        (b"", MalformedEvent),
        (b"x" * (MOST_BYTES + 1), DeliveryTooLarge),
        (bomb(), DeliveryTooLarge),
    ):
        with pytest.raises(error):
            read_packet(handler, body)
    with pytest.raises(NotPermitted):
        read_packet(person(shop, "auditor", 1), packed(files).getvalue())


def bomb():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("leaves.jsonl", bytes(300 * 1024 * 1024))
    return made.getvalue()


def test_a_packet_is_checked_on_its_page_and_over_the_api(shop, decided, handler):
    _, data = packet(shop, decided, handler)
    client = signed_in(shop, "finance")
    shown = client.post("/packets/", {"file": SimpleUploadedFile("D.zip", data)})
    assert shown.status_code == 200 and "It holds" in text_of(shown) and "What it leaves out" in text_of(shown)
    assert client.post("/packets/", {"file": SimpleUploadedFile("D.zip", b"x")}).status_code == 422
    answer = client.post("/api/v1/packets", data, content_type="application/zip")
    assert answer.status_code == 200 and answer.json()["ref"] == decided.ref
    assert client.post("/api/v1/packets", b"x", content_type="application/zip").status_code == 400
