"""What this service is built of: hashes, a bill of materials, known vulnerabilities."""

import io
import json
import zipfile
from contextlib import redirect_stderr

import pytest
from django.core.management import call_command

from config.management.commands import supply

GOOD = {"a==1": {"sha256:" + "0" * 64}}


def test_what_is_written_down_is_what_is_resolved_and_names_no_host():
    text = supply.HASHES.read_text()

    assert "://" not in text and "--index" not in text
    pinned = supply.pinned(text)
    assert len(pinned) > 50 and all(pinned.values())
    if supply.LOCK.exists():
        assert supply.differences(pinned, supply.locked(supply.LOCK)) == []
        resolved = {name.split("==")[0] for name in supply.pinned(supply.exported())}
        assert resolved == {name.split("==")[0] for name in pinned}


@pytest.mark.parametrize(
    ("here", "wrong"),
    [
        (GOOD, 0), ({}, 1), ({"a==2": GOOD["a==1"]}, 1), ({"a==1": {"sha256:" + "1" * 64}}, 1),
        ({"a==1": GOOD["a==1"] | {"sha256:" + "2" * 64}}, 0), (GOOD | {"dev==1": set()}, 0),
    ],
)  # fmt: skip
def test_another_version_or_another_file_is_told(here, wrong):
    assert len(supply.differences(GOOD, here)) == wrong


def test_a_line_without_a_hash_is_told():
    assert supply.differences({"a==1": set()}, {"a==1": set()}) == ["a==1: no hash is written down"]


def test_the_bill_lists_every_distribution_with_its_hashes_and_no_host(tmp_path):
    if not supply.LOCK.exists():
        pytest.skip("nothing was resolved here")
    call_command("supply", "sbom", str(tmp_path / "sbom.json"), stdout=io.StringIO())

    text = (tmp_path / "sbom.json").read_text()
    bill = json.loads(text)
    names = {one["name"] for one in bill["components"]}
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert {"django", "django-allauth", "psycopg"} <= names and "pytest" not in names
    assert {name.split("==")[0] for name in supply.pinned(supply.HASHES.read_text())} <= names
    assert all(one["purl"].startswith("pkg:pypi/") for one in bill["components"]) and '"url"' not in text


def advisory(name, *, versions=(), events=(), ecosystem="PyPI", **more):
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = {"package": {"name": name, "ecosystem": ecosystem}, "versions": list(versions), "ranges": ranges}
    return {"id": "X-1", "summary": "it breaks", "affected": [affected], **more}


@pytest.mark.parametrize(
    ("known", "is_found"),
    [
        (advisory("Some_Thing", versions=["1.5"]), True),
        (advisory("some-thing", versions=["1.4"]), False),
        (advisory("some-thing", events=[{"introduced": "0"}, {"fixed": "1.5.1"}]), True),
        (advisory("some-thing", events=[{"introduced": "0"}, {"fixed": "1.5"}]), False),
        (advisory("some-thing", events=[{"introduced": "1.6"}]), False),
        (advisory("some-thing", events=[{"introduced": "0"}, {"last_affected": "1.5"}]), True),
        (advisory("some-thing", events=[{"introduced": "not a version"}]), False),
        (advisory("some-thing", versions=["1.5"], ecosystem="npm"), False),
        (advisory("other", versions=["1.5"]), False),
    ],
)
def test_known_vulnerabilities_are_found_by_version_and_range(known, is_found):
    assert bool(supply.vulnerable({"some-thing": "1.5"}, iter([known]))) is is_found


def test_the_check_runs_on_a_folder_or_a_zip_and_says_when_it_cannot(tmp_path):
    version = supply.installed()["django"]
    (tmp_path / "one.json").write_text(json.dumps(advisory("django", versions=[version])))
    (tmp_path / "two.json").write_text(json.dumps(advisory("django", versions=[version], withdrawn="2026-01-01")))
    (tmp_path / "bad.json").write_text("{")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "one.json", "one.json")

    for where in (tmp_path, tmp_path / "all.zip"):
        said = io.StringIO()
        with pytest.raises(SystemExit) as ended, redirect_stderr(said):
            call_command("supply", "audit", advisories=str(where), stderr=said)
        assert ended.value.code == 1 and said.getvalue().count("X-1") == 1
    (tmp_path / "one.json").unlink()
    said = io.StringIO()
    call_command("supply", "audit", advisories=str(tmp_path), stdout=said)
    assert "none with a known vulnerability" in said.getvalue()
    said = io.StringIO()
    call_command("supply", "audit", advisories=str(tmp_path / "gone"), stdout=said)
    assert said.getvalue().startswith("not run")
