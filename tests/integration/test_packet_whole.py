# ruff: noqa: F811  (fixtures)
"""The whole packet: each paper that a reader looks for, bound to the log, so that not even who writes it anew can change it."""

import base64
import hashlib
import json
import subprocess
import sys
from io import BytesIO

import pytest

from auditlog.core.errors import ConfigurationError, NotFound
from auditlog.custody.erase import erase, held_now, release
from auditlog.models import Leaf
from auditlog.verifier.answerable_verify import Unusable, told, verify
from disputes.case.hand_in import let_in, stage, submit
from disputes.decide import approve, assess_again, move, settle
from disputes.packet import CONTENTS, write_packet
from tests.integration.test_api import Api, problem
from tests.integration.test_disputes_cases import assessed, buys, decider, handler, opened, person, proposed, shop  # noqa: F401
from tests.integration.test_erase import BY
from tests.integration.test_packet import members, packed, packet, remade, signs

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def loop(shop, handler, decider):
    """Three purchases of 9 USD under a limit of 20, a file handed in, proposed and approved."""
    signs(shop)
    bought = [buys(shop, name) for name in ("superseal.club", "superseal.cc", "superseal.net")]
    case = opened(shop, handler, bought)
    item = stage(case, handler, side="claimant", title="The order", body=b"%PDF the order", name="o.pdf", now=shop.now)
    submit(case, item.number, handler, now=shop.now)
    for to in ("intake", "evidence_open", "record_sealed", "assessment"):
        move(case, to, viewer=handler, now=shop.now)
    stated = {"outcome": "partly_upheld", "amount_minor": 700, "currency": "USD"}
    move(case, "proposed", viewer=handler, reason="over the limit", now=shop.now, **stated)
    approve(case, viewer=decider, reason="agreed", now=shop.now)
    signs(shop)
    return case


def paper(files, name):
    return json.loads(files[f"case/{name}.json"])


def found_in(files, name, said):
    """What the check says of a packet in which one paper was changed, and the manifest written anew."""
    return verify(remade(files, f"case/{name}.json", json.dumps(said).encode()))["problem"]


def test_the_packet_holds_every_paper_that_its_readme_names(shop, loop, handler):
    files = members(packet(shop, loop, handler)[1])
    readme = files["README.txt"].decode()

    assert {f"case/{name}" for name in CONTENTS} <= set(files)
    assert all(f"case/{name}" in readme for name in CONTENTS) and "--digest" in readme
    [ledger] = paper(files, "limits")["ledgers"]
    assert [line["total_minor"] for line in ledger["lines"]] == [900, 1800, 2700]
    assert [line["crosses"] for line in ledger["lines"]] == [False, False, True] and ledger["crossed_at_line"] == 3
    assert ledger["lines"][2]["over_minor"] == 700 and ledger["max_minor"] == 2000
    [chain] = paper(files, "chains")["chains"]
    assert [hop["party"]["sub"] for hop in chain["hops"]] == ["ada", "shopper"] and len(chain["acts"]) == 3
    assert b"<svg" in files["case/chains/1.svg"] and b"class=" not in files["case/chains/1.svg"]
    [made] = paper(files, "decision")["proposals"]
    assert made["to_pay_back"] == {"amount_minor": 700, "currency": "USD"} and made["answer"]["result"] == "approved"
    assert {key["state"] for key in paper(files, "keys")["keys"]} == {"in use"} and paper(files, "keys")["log_keys"]
    assert [one["said"]["change"] for one in paper(files, "custody")["entries"]] == [
        "case.evidence_staged",
        "case.evidence_submitted",
    ]
    certificate = files["case/certificate.txt"].decode()
    assert (
        loop.ref in certificate
        and "902(14)" in certificate
        and hashlib.sha256(b"%PDF the order").hexdigest() in certificate
    )


def test_it_verifies_with_the_clock_seven_years_on_and_says_which_digest_to_compare(shop, loop, handler, tmp_path):
    digest, data = packet(shop, loop, handler)
    (tmp_path / "p.zip").write_bytes(data)
    (tmp_path / "v.py").write_bytes(members(data)["answerable_verify.py"])
    late = (
        "import runpy, sys, time; real = time.time, time.gmtime; time.time = lambda: real[0]() + 7 * 366 * 86400;"
        " time.gmtime = lambda at=None: real[1](time.time() if at is None else at); sys.argv = ['v.py', *sys.argv[1:]];"
        " runpy.run_path('v.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", late, "p.zip", "--digest", digest], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0 and "as you gave it" in done.stdout, done.stdout + done.stderr

    report = verify(tmp_path / "p.zip")
    assert report["case"]["loose"] == [
        f"case/{name}" for name in ("access.json", "assessments.json", "certificate.txt", "deadlines.json", "missing.json", "notices.json", "redaction.json")
    ]  # fmt: skip
    assert "case/notices.json" in told(report)
    assert verify(tmp_path / "p.zip", digest="0" * 64)["problem"]["where"] == "manifest.json"
    with pytest.raises(Unusable, match="64 lower-case hex"):
        verify(tmp_path / "p.zip", digest="abc")


def test_no_bit_of_any_file_can_be_flipped_where_a_file_was_handed_in(shop, loop, handler):
    files = members(packet(shop, loop, handler)[1])
    assert "case/evidence/1.bin" in files and "case/chains/1.svg" in files
    unseen = []
    for name, content in files.items():
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        try:
            if verify(packed(files | {name: bytes(changed)}))["problem"] is None:
                unseen.append(name)
        except Unusable:
            continue
    assert unseen == []


def change(said, path, value):
    for step in path[:-1]:
        said = said[step]
    said[path[-1]] = value


FORGED = (
    ("case", ("acts", 0, "leaf_index"), 1),
    ("case", ("acts", 0, "event_id"), "00000000-0000-8000-8000-000000000000"),
    ("case", ("about", "title"), "Another title"),
    ("case", ("about", "claimed"), {"amount_minor": 1, "currency": "USD"}),
    ("case", ("state",), "final"),
    ("case", ("opened_at",), "2020-01-01T00:00:00+00:00"),
    ("criteria", ("verdicts", 0, "verdict"), "forged"),
    ("criteria", ("verdicts", 2, "liability", "bearer"), "forged"),
    ("criteria", ("verdicts", 0, "criteria", 3, "reason"), "because"),
    ("criteria", ("policy",), "2020-1"),
    ("chains", ("chains", 0, "hops", 0, "party", "sub"), "eve"),
    ("limits", ("ledgers", 0, "lines", 2, "over_minor"), 0),
    ("limits", ("ledgers", 0, "crossed_at_line"), None),
    ("decision", ("proposals", 0, "outcome"), "rejected"),
    ("decision", ("proposals", 0, "reason"), "other"),
    ("decision", ("proposals", 0, "by"), "eve"),
    ("decision", ("proposals", 0, "to_pay_back"), {"amount_minor": 70000, "currency": "USD"}),
    ("decision", ("proposals", 0, "answer"), None),
    ("decision", ("proposals", 0, "answer", "by"), "eve"),
    ("decision", ("proposals", 0, "answer", "at"), "2020-01-01T00:00:00+00:00"),
    ("decision", ("proposals",), []),
    ("custody", ("steps", 2, "at"), "2020-01-01T00:00:00+00:00"),
    ("custody", ("entries", 0, "said", "title"), "Another"),
    ("custody", ("entries",), []),
    ("evidence", ("items", 0, "side"), "provider"),
    ("evidence", ("items", 0, "late"), True),
    ("evidence", ("items", 0, "eligible"), False),
    ("evidence", ("items", 0, "media_type"), "text/html"),
    ("evidence", ("items",), []),
    ("keys", ("keys", 0, "state"), "retired"),
    ("keys", ("keys", 0, "retired_leaf"), 3),
    ("keys", ("keys",), []),
    ("keys", ("log_keys",), []),
)


def test_who_writes_the_manifest_anew_can_change_nothing_that_the_log_states(shop, loop, handler):
    files = members(packet(shop, loop, handler)[1])
    unseen = []
    for name, path, value in FORGED:
        said = paper(files, name)
        change(said, path, value)
        if found_in(files, name, said) is None:
            unseen.append((name, path))
    assert unseen == []
    swapped = remade(files, "case/evidence/1.bin", b"%PDF another")
    assert "not what was handed in" in verify(swapped)["problem"]["what"]
    assert "not the picture" in verify(remade(files, "case/chains/1.svg", b"<svg/>"))["problem"]["what"]


def test_a_paper_cannot_be_dropped_with_its_line_in_the_manifest(shop, loop, handler):
    files = members(packet(shop, loop, handler)[1])
    for name in ("case", "criteria", "decision", "custody", "evidence", "keys", "chains", "limits"):
        fewer = {each: content for each, content in files.items() if each != f"case/{name}.json"}
        manifest = json.loads(fewer["manifest.json"])
        del manifest["files"][f"case/{name}.json"]
        fewer["manifest.json"] = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode() + b"\n"
        fewer["manifest.sha256"] = f"{hashlib.sha256(fewer['manifest.json']).hexdigest()}  manifest.json\n".encode()
        assert verify(packed(fewer))["problem"] is not None, name


def test_payloads_left_out_of_a_copy_leave_every_proof_whole_and_are_told(shop, loop, handler):
    hidden = str(loop.acts.first().event_id)
    leaf = Leaf.objects.get(tenant=shop.row, event_id=hidden).leaf_index
    with pytest.raises(ConfigurationError, match="needs a reason"):
        cut(shop, loop, handler, [hidden], "")
    with pytest.raises(NotFound, match="holds no event"):
        cut(shop, loop, handler, [buys(shop, "unrelated.example")], "not theirs")
    with pytest.raises(ConfigurationError, match="ids of events"):
        cut(shop, loop, handler, ["x"], "not theirs")
    first = cut(shop, loop, handler, [hidden], "a customer's name")
    assert cut(shop, loop, handler, [hidden], "a customer's name") == first
    files = members(first[1])
    report = verify(packed(files))

    assert report["problem"] is None and report["counts"]["left_out"] == 1 and report["counts"]["withheld"] == 0
    assert f"leaves out the payloads of 1 leaves, by its maker's choice: {leaf}" in " ".join(report["notes"])
    assert paper(files, "redaction")["left_out_of_this_copy"] == [{"leaf_index": leaf, "why": "a customer's name"}]
    [line] = [json.loads(one) for one in files["leaves.jsonl"].splitlines() if json.loads(one)["index"] == leaf]
    assert line["payload"] is None and line["proof"]
    assert any("left out of this copy" in said for said in paper(files, "missing")["beside"])

    shown = members(packet(shop, loop, handler)[1])  # the same leaf, shown later, is what was proven
    [whole] = [json.loads(one) for one in shown["leaves.jsonl"].splitlines() if json.loads(one)["index"] == leaf]
    assert whole["leaf"] == line["leaf"] and whole["payload"]

    manifest = json.loads(files["manifest.json"])
    del manifest["left_out"]  # who drops more than the manifest names is caught
    said = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    bare = files | {
        "manifest.json": said,
        "manifest.sha256": f"{hashlib.sha256(said).hexdigest()}  manifest.json\n".encode(),
    }
    assert verify(packed(bare))["problem"]["where"] == f"leaf {leaf}"


def cut(shop, case, viewer, left_out, why):
    file = BytesIO()
    return write_packet(case, viewer, file, now=shop.now, left_out=left_out, why=why), file.getvalue()


def test_a_key_or_a_step_cannot_be_left_out_by_the_manifest(shop, loop, handler):
    """Only what others sent can be left out; what explains it stays, or nothing could be checked."""
    files = members(packet(shop, loop, handler)[1])
    lines = [json.loads(one) for one in files["leaves.jsonl"].splitlines()]
    for kind in ("key", "case", "config"):
        index = next(one["index"] for one in lines if json.loads(base64.b64decode(one["leaf"]))[1] == kind)
        without = [one | {"payload": None} if one["index"] == index else one for one in lines]
        manifest = json.loads(files["manifest.json"]) | {"left_out": [index]}
        said = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode() + b"\n"
        forged = files | {
            "leaves.jsonl": b"".join(json.dumps(one).encode() + b"\n" for one in without),
            "manifest.json": said,
            "manifest.sha256": f"{hashlib.sha256(said).hexdigest()}  manifest.json\n".encode(),
        }
        assert verify(packed(forged))["problem"] is not None, kind


def test_what_was_erased_says_by_whom_and_why_in_the_redaction_log(shop, loop, handler):
    leaf = Leaf.objects.get(tenant=shop.row, event_id=loop.acts.first().event_id).leaf_index
    for held in held_now(shop.row):
        release(shop.row, held.leaf_index, who="dpo", reason="a court said so", now=shop.now)
    erase(shop.row, [leaf], why="asked", now=shop.now, **BY)
    signs(shop)
    files = members(packet(shop, loop, handler)[1])
    [gone] = paper(files, "redaction")["erased"]
    assert verify(packed(files))["problem"] is None and (gone["leaf_index"], gone["why"]) == (leaf, "asked")


def test_late_evidence_a_second_run_a_refused_and_an_accepted_settlement_verify(shop, handler, decider):
    signs(shop)
    case = assessed(shop, handler, [buys(shop, "superseal.cc")])
    late = stage(case, handler, side="operator", title="A late log", body=b"log", now=shop.now)
    submit(case, late.number, handler, now=shop.now)
    let_in(case, late.number, decider, eligible=True, reason="could not be had before", now=shop.now)
    assess_again(case, viewer=handler, reason="the late log", now=shop.now)
    settle(case, viewer=handler, reason="half", amount_minor=450, currency="USD", now=shop.now)
    settle(case, viewer=decider, reason="taken", now=shop.now)
    signs(shop)
    files = members(packet(shop, case, handler)[1])
    report = verify(packed(files))

    assert report["problem"] is None, report["problem"]
    assert paper(files, "evidence")["items"][0]["eligible"] is True
    assert len(paper(files, "assessments")["runs"]) == 2
    [offer] = paper(files, "decision")["proposals"]
    assert (offer["outcome"], offer["answer"]["result"], offer["to_pay_back"]["amount_minor"]) == (
        "settled",
        "approved",
        450,
    )
    offer["to_pay_back"]["amount_minor"] = 4
    assert "another sum" in found_in(files, "decision", {"proposals": [offer]})["what"]


def test_a_copy_without_payloads_comes_over_the_api_with_a_reason_only(shop, loop):
    api, hidden = Api(shop.row, "auditor"), str(loop.acts.first().event_id)
    problem(api.get(f"cases/{loop.ref}/packet?left_out={hidden}"), 400)
    problem(api.get(f"cases/{loop.ref}/packet?left_out=x&why=y"), 400)
    answer = api.get(f"cases/{loop.ref}/packet?left_out={hidden}&why=a+name")
    report = verify(BytesIO(b"".join(answer.streaming_content)))
    assert report["problem"] is None and report["counts"]["left_out"] == 1
