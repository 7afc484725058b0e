"""A database that is not this version's is refused, with what to do; nothing answers 500 on it."""

import os
import subprocess
import sys

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
