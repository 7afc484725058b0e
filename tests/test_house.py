"""The house keeps its shape: imports run one way, the pure parts stay pure, and what must not be here is not."""

import ast
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "dashboard", "disputes", "auditlog")  # a package may import those to its right
PURE = ("auditlog/core", "auditlog/formats", "auditlog/detectors", "disputes/core")
# Within a package, from the edge inward; a step may import its own rank and what stands to its right.
CLOCKS = re.compile(r"\b(datetime\.now|timezone\.now|time\.time|date\.today|utcnow)\b")


def modules(*folders):
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in file.parts:
                yield file


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_between_packages_run_one_way(package):
    outer = PACKAGES[: PACKAGES.index(package)]
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in modules(package)
        for name in imports(file)
        if name.split(".")[0] in outer
    ]

    assert wrong == []


def test_pure_packages_know_no_django_no_database_no_clock_and_no_settings():
    wrong = []
    for file in modules(*PURE):
        for name in imports(file):
            if name.split(".")[0] in ("django", "rest_framework", "celery", "psycopg", "config", "structlog"):
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
            if name.startswith(
                ("auditlog.models", "auditlog.reads.queries", "auditlog.ledger.append", "disputes.models")
            ):
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
        if CLOCKS.search(file.read_text()):
            wrong.append(f"{file.relative_to(ROOT)} asks the clock")

    assert wrong == []


def test_models_import_no_verbs_and_verbs_no_edges():
    wrong = []
    for file in modules("auditlog/models"):
        wrong += [
            f"{file.name} imports {n}"
            for n in imports(file)
            if n.startswith("auditlog.") and n.split(".")[1] not in ("models", "core")
        ]
    edges = ("auditlog.api", "auditlog.work", "dashboard")
    for file in modules(
        *(f"auditlog/{room}" for room in ("ingest", "ledger", "projection", "detection", "reads", "sources"))
    ):
        wrong += [f"{file.name} imports {n}" for n in imports(file) if n.startswith(edges)]

    assert wrong == []


def test_every_detector_says_what_to_do_and_when_it_is_wrong():
    from auditlog.detectors import every_detector

    for detector in every_detector():
        assert detector.title and len(detector.runbook) > 40 and len(detector.false_positives) > 20, detector.rule
        # A file is one pattern, or a family of them whose first line names its rules.
        file = sys.modules[
            detector.find.func.__module__ if isinstance(detector.find, partial) else detector.find.__module__
        ]
        assert detector.rule.removeprefix("authority.") in file.__doc__.partition(":")[0], detector.rule


def test_no_third_party_file_no_lock_file_and_no_signal_handler_is_tracked():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")

    assert [f for f in tracked if f.endswith((".min.js", ".min.css", "uv.lock", "package-lock.json"))] == []
    assert {f.split("/")[0] for f in tracked} <= {
        "manage.py", "pyproject.toml", "README.md", "auditlog", "disputes", "dashboard", "config", "tests", ".ci", ".gitignore",
        ".git-blame-ignore-revs",
    }  # fmt: skip
    assert [f for f in modules(*PACKAGES) if "django.db.models.signals" in f.read_text()] == []


def test_migrations_say_what_the_models_say(database):
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_every_query_on_a_tenants_table_names_the_tenant():
    """Raw SQL that reads a tenant's table without `tenant_id` would read everybody's."""
    tables = re.compile(r"\b(ledger|projection|dispute)_(?!state\b|erase\b)[a-z]+|\bFROM finding\b|\brefusal_count\b")
    # Gauges and sizes are over all tenants, by design.
    exempt = {"auditlog/work/health.py", "auditlog/database/planner.py", "config/management/commands/bench.py"}
    wrong = []
    for file in modules(*PACKAGES):
        if str(file.relative_to(ROOT)) in exempt:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if re.search(r"\b(SELECT|UPDATE|DELETE)\b", text) and tables.search(text) and "tenant_id" not in text:
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
