"""A database that is not this version's is refused, with what to do; nothing answers 500 on it."""

import io
import os
import subprocess
import sys
import time
import zipfile

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from config.schema import schema_faults

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def taken_back():
    """What the owner does to the tables is undone."""
    statements = []
    yield statements
    with connections["owner"].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def by_owner(statement):
    with connections["owner"].cursor() as cursor:
        cursor.execute(statement)


def started():
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}  # on the database of these tests
    done = subprocess.run(
        [sys.executable, "-c", "import config.wsgi"], capture_output=True, text=True, timeout=60, env=environment
    )
    return done.returncode, done.stderr


def test_our_own_schema_is_taken():
    assert schema_faults() == "" and started()[0] == 0


def test_one_that_lacks_a_migration_is_refused_with_the_command_to_run(taken_back):
    row = MigrationRecorder.Migration.objects.using("owner").filter(app="auditlog").order_by("-id").first()
    row.delete(using="owner")
    try:
        code, said = started()
        assert code == 4 and "setup_database" in said and row.name in said
    finally:
        MigrationRecorder.Migration.objects.using("owner").create(app=row.app, name=row.name, applied=row.applied)


def test_one_of_a_later_version_is_refused():
    later = MigrationRecorder.Migration.objects.using("owner").create(app="auditlog", name="9999_later")
    try:
        code, said = started()
        assert code == 4 and "later version" in said and "9999_later" in said
    finally:
        later.delete(using="owner")


def test_one_whose_migrations_were_edited_after_they_were_applied_is_refused(taken_back):
    by_owner("ALTER TABLE finding RENAME COLUMN evidence TO proof")
    taken_back.append("ALTER TABLE finding RENAME COLUMN proof TO evidence")

    code, said = started()

    assert code == 4 and "finding.evidence is missing" in said


def test_quickstart_backs_up_what_an_older_version_wrote_before_it_changes_it(database, tmp_path, monkeypatch):
    from config.management.commands import quickstart

    def keep(waiting):
        monkeypatch.setattr(quickstart, "waiting_migrations", lambda alias: waiting)
        command = quickstart.Command(stdout=io.StringIO())
        command.began = time.monotonic()
        command._keep_before_update(tmp_path)

    keep([])
    assert not (tmp_path / "backups").exists()
    keep(["auditlog.9998_x", "auditlog.9999_y"])

    [made] = (tmp_path / "backups").iterdir()
    assert made.name.startswith("before-auditlog.9999_y-") and zipfile.is_zipfile(made)
    assert made.stat().st_mode & 0o777 == 0o600 and (tmp_path / "backups").stat().st_mode & 0o777 == 0o700
    with zipfile.ZipFile(made) as archive:
        assert "tables/ledger_leaf.copy" in archive.namelist()
        assert "tables/django_session.copy" not in archive.namelist()
        assert "tables/usersessions_usersession.copy" not in archive.namelist()
