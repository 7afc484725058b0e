"""`supply hashes|check|sbom|audit`: what this service is built of. No database, and no index host, is named or asked.

`config/hashes.txt` holds, for each distribution that production installs, the hashes of the files that are good:
`uv pip install --require-hashes -r config/hashes.txt` takes no others. `check` holds the resolution that was just
installed against it, `sbom` lists all of it (CycloneDX 1.5), `audit` looks it up in a database of advisories (OSV)
where one is at hand, and says so where none is.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[3]
HASHES = ROOT / "config" / "hashes.txt"
LOCK = ROOT / "uv.lock"
EXPORT = ("uv", "export", "-q", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate")


class Command(BaseCommand):
    help = "Hashes of what is installed, a bill of materials, and known vulnerabilities where a database is at hand."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser):
        commands = parser.add_subparsers(dest="command", required=True)
        commands.add_parser("hashes", help="write config/hashes.txt from the resolution at hand")
        commands.add_parser("check", help="exit 1 when what was resolved is not what config/hashes.txt says")
        commands.add_parser("sbom", help="write a bill of materials (CycloneDX 1.5, JSON)").add_argument(
            "file", type=Path
        )
        audit = commands.add_parser("audit", help="look for known vulnerabilities in a folder or zip of OSV advisories")
        audit.add_argument("--advisories", default=os.environ.get("ANSWERABLE_ADVISORIES", ""))

    def handle(self, *args, **options):
        getattr(self, options["command"])(options)

    def hashes(self, options):
        HASHES.write_text(exported())
        self.stdout.write(f"{len(pinned(HASHES.read_text()))} distributions")

    def check(self, options):
        good = pinned(HASHES.read_text())
        wrong = differences(good, locked(LOCK))
        for line in wrong:
            self.stderr.write(line)
        if wrong:
            sys.exit(1)
        self.stdout.write(f"{len(good)} distributions, each with the hashes of config/hashes.txt")

    def sbom(self, options):
        made = bill_of_materials(
            json.loads(_run("uv", "export", "-q", "--frozen", "--no-dev", "--format", "cyclonedx1.5"))
        )
        options["file"].write_text(json.dumps(made, indent=1))
        self.stdout.write(f"{len(made['components'])} components in {options['file']}")

    def audit(self, options):
        where = Path(options["advisories"]) if options["advisories"] else None
        if where is None or not where.exists():
            self.stdout.write(
                "not run: no database of advisories is at hand. Give a folder or zip of OSV files for PyPI with"
                " --advisories or ANSWERABLE_ADVISORIES"
            )
            return
        here = installed()
        found = vulnerable(here, advisories(where))
        for line in found:
            self.stderr.write(line)
        if found:
            sys.exit(1)
        self.stdout.write(f"{len(here)} distributions, none with a known vulnerability in {where}")


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CommandError(f"{' '.join(command[:2])}: {getattr(error, 'stderr', '') or error}") from None


def exported() -> str:
    """The resolution as requirements with hashes, for `uv pip install --require-hashes`."""
    text = _run(*EXPORT)
    if "://" in text:
        raise CommandError("the export names a host, which must not stand in this project")
    return text


def pinned(text: str) -> dict[str, set[str]]:
    """`name==version` to the hashes of its good files."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name = entry.split()[0] if entry.split() else ""
        if "==" in name:
            found[name] = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))
    return found


def locked(file: Path) -> dict[str, set[str]]:
    """The same of the resolution that was just installed: uv refuses a file with another hash than its own."""
    try:
        packages = tomllib.loads(file.read_text())["package"]
    except OSError as error:
        raise CommandError(f"{file.name}: {error.strerror}: run `uv sync` first") from None
    return {
        f"{one['name']}=={one['version']}": {
            each["hash"] for each in [*one.get("wheels", ()), *([one["sdist"]] if "sdist" in one else [])]
        }
        for one in packages
        if "version" in one
    }  # fmt: skip


def differences(good: dict[str, set[str]], here: dict[str, set[str]]) -> list[str]:
    """What is resolved otherwise. Files that were published since are left to the install, which refuses them."""
    wrong = [f"{name}: config/hashes.txt has it, the resolution has not" for name in sorted(good.keys() - here.keys())]
    wrong += [f"{name}: no hash is written down" for name in sorted(good) if not good[name]]
    wrong += [
        f"{name}: not one file has a hash of config/hashes.txt"
        for name in sorted(good.keys() & here.keys())
        if good[name] and not here[name] & good[name]
    ]
    return wrong


def bill_of_materials(export: dict[str, Any]) -> dict[str, Any]:
    """uv's own, with licences, and without the addresses of files."""
    for component in export.get("components", []):
        component.pop("externalReferences", None)
        try:
            said = metadata.metadata(component["name"])
        except metadata.PackageNotFoundError:  # of another platform
            continue
        licence = said.get("License-Expression") or said.get("License") or ""
        if licence and len(licence) < 100:
            component["licenses"] = [{"license": {"name": licence}}]
    return export


def installed() -> dict[str, str]:
    return {_plain(one.metadata["Name"]): one.version for one in metadata.distributions() if one.metadata["Name"]}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def advisories(where: Path) -> Iterator[dict[str, Any]]:
    """Every advisory (OSV 1.x) of a folder or a zip; what cannot be read is no advisory."""
    if where.is_dir():
        texts = (file.read_bytes() for file in sorted(where.rglob("*.json")))
    else:
        archive = zipfile.ZipFile(where)
        texts = (archive.read(name) for name in archive.namelist() if name.endswith(".json"))
    for text in texts:
        try:
            one = json.loads(text)
        except ValueError:
            continue
        if isinstance(one, dict) and not one.get("withdrawn"):
            yield one


def vulnerable(here: dict[str, str], known: Iterator[dict[str, Any]]) -> list[str]:
    """One line for each distribution here that an advisory is about."""
    found = []
    for advisory in known:
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = _plain(str(package.get("name", "")))
            if package.get("ecosystem") != "PyPI" or name not in here:
                continue
            if here[name] in affected.get("versions", ()) or any(
                _within(here[name], one) for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"
            ):
                found.append(f"{name} {here[name]}: {advisory.get('id', '?')} {str(advisory.get('summary', ''))[:100]}")
    return sorted(set(found))


def _within(version: str, span: dict[str, Any]) -> bool:
    """Whether a version lies in a range of events: introduced, fixed, last_affected, in order."""
    inside = False
    try:
        here = Version(version)
        for event in span.get("events", ()):
            if "introduced" in event and here >= Version(event["introduced"]):
                inside = True
            elif ("fixed" in event and here >= Version(event["fixed"])) or (
                "last_affected" in event and here > Version(event["last_affected"])
            ):
                inside = False
    except InvalidVersion:
        return False
    return inside
