"""Backup and restore, between databases of their own beside the test one."""

import io
import itertools
import json
import os
import random
import zipfile
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, connections
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerCorrupt, NotPossible
from auditlog.core.log.checkpoint import vkey
from auditlog.custody import backup
from auditlog.custody.backup import BadBackup, restore
from auditlog.custody.verify_ledger import insert_only_faults, verify
from auditlog.ledger.append import append_note
from auditlog.ledger.publish import announce_key, origin_of, publish, take_fence
from auditlog.models import Checkpoint, Event, Leaf, Membership, Tenant
from auditlog.projection.project import rebuild
from auditlog.sources import configuration
from auditlog.sources.configure import add_tenant
from tests.integration.test_publish import vandalise
from tests.world import TenantWorld

KEY = SigningKey(b"\x07" * 32)
_numbers = itertools.count(1)


@contextmanager
def at(name):
    """Every connection of this process goes to database `name`."""
    before = [(alias, connections[alias].settings_dict["NAME"]) for alias in ("default", "owner")]
    connections.close_all()
    for alias, _ in before:
        connections[alias].settings_dict["NAME"] = name
    try:
        yield
    finally:
        connections.close_all()
        for alias, usual in before:
            connections[alias].settings_dict["NAME"] = usual


@pytest.fixture(scope="module")
def template(django_db_setup, django_db_blocker):
    """An empty database with our tables, to be copied: faster than migrating for every test."""
    if django_db_setup is not None:
        yield django_db_setup
        return
    name = f"restore_{os.getpid()}_template"
    with django_db_blocker.unblock():
        own(f'CREATE DATABASE "{name}"')
        with at(name):
            call_command("setup_database", verbosity=0)
        connections.close_all()
        yield name
        own(f'DROP DATABASE "{name}"')
        connections.close_all()


def own(statement):
    with connections["owner"].cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def make_database(database, template):
    """Makes empty databases with our tables; they are dropped at the end."""
    made = []

    def make():
        name = f"restore_{os.getpid()}_{next(_numbers)}"
        own(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        made.append(name)
        return name

    yield make
    for name in made:
        own(f'DROP DATABASE "{name}"')


@pytest.fixture
def here(make_database, now, tmp_path, monkeypatch):
    """A database with a log of its own, and heads of its own."""
    monkeypatch.setattr(settings, "HEADS_DIR", tmp_path / "heads")
    with at(make_database()):
        tenant = add_tenant(f"b{os.getpid()}-{next(_numbers)}", now=now)
        world = TenantWorld(tenant, now=now)
        world.source("conductor", "https://conductor.example")
        world.configure("conductor")
        announce_key(tenant, key=KEY, now=now)
        yield world


def grow(world, count=5):
    world.send(*(world.event("action.performed") for _ in range(count)))
    publish(world.row, key=KEY, fence=take_fence(world.row), now=world.now)


def backed_up(path):
    call_command("backup", "--out", str(path), verbosity=0)
    return path


def rows_of(*tables):
    """Everything in the tables, as text."""
    with connection.cursor() as cursor:
        found = {}
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = [row for (row,) in cursor.fetchall()]
        return found


def all_tables():
    with connection.cursor() as cursor:
        return [name for name in backup._tables(cursor) if name not in (*backup.LEFT_OUT, *backup.REMADE)]


def is_empty():
    return not any(rows for name, rows in rows_of(*all_tables()).items() if name not in backup.PREFILLED)


def test_everything_comes_back_and_the_log_goes_on(here, make_database, tmp_path):
    user = get_user_model().objects.create_user("ada", password="a long pass phrase")
    Membership.objects.create(tenant=here.row, user=user, role="admin")
    grow(here, 20)
    grow(here, 300)
    append_note(here.row, "case", {"text": "tabs\tand\nnew lines \\N 'quotes'"}, now=here.now)
    here.settle()
    tables = all_tables()
    wanted, root = rows_of(*tables), verify(here.row, public_key=KEY.verify_key).root
    path = backed_up(tmp_path / "b.backup")

    with at(make_database()):
        done = restore(path, heads=[settings.HEADS_DIR], vkeys=[vkey(origin_of(here.row), bytes(KEY.verify_key))])

        assert rows_of(*tables) == wanted
        assert Event.objects.count() == 320 and Checkpoint.objects.count() == 2
        # The accounts are stated in a log of their own, which nobody signed here.
        assert done.behind == {} and done.logs == {
            name: Leaf.objects.filter(tenant__name=name).count() for name in (here.tenant, "answerable")
        }
        assert ["not signed yet" in warning for warning in done.warnings] == [
            False,
            True,
        ] and "'answerable'" in done.warnings[0]
        assert verify(Tenant.objects.get(name=here.tenant), public_key=KEY.verify_key).root == root
        assert configuration.differences(here.row) == configuration.differences(None) == {}
        assert insert_only_faults() == []
        before = rows_of("projection_event", "projection_party")
        rebuild(here.row, now=here.now)
        after = rows_of("projection_event", "projection_party")
        assert {name: len(rows) for name, rows in after.items()} == {name: len(rows) for name, rows in before.items()}
        get_user_model().objects.create_user("bea")  # its sequence goes on
        grow(here, 5)
        assert verify(here.row, public_key=KEY.verify_key).checkpoints == 3
        with pytest.raises(NotPossible, match="not empty"):
            restore(path)


def test_a_backup_is_private_and_says_where_each_log_was(here, tmp_path):
    grow(here)
    path = backed_up(tmp_path / "b.backup")

    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        names = archive.namelist()

    assert oct(path.stat().st_mode)[-3:] == "600"
    [log] = header["logs"]
    assert log == {"tenant": here.tenant, "size": Leaf.objects.count(), "checkpoint": Checkpoint.objects.get().note}
    assert "tables/ledger_payload.copy" in names and "tables/django_session.copy" not in names
    with pytest.raises(CommandError, match="not overwritten"):
        backed_up(path)


def test_a_flipped_byte_is_refused_and_nothing_is_left(here, make_database, tmp_path):
    grow(here)
    path = backed_up(tmp_path / "b.backup")
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info.header_offset + 30 + len(info.filename) for info in archive.infolist()}

    with at(make_database()):
        rng = random.Random(3)
        for name in (
            "tables/ledger_payload.copy",
            "tables/auth_permission.copy",
            "tables/ledger_leaf.copy",
            "header.json",
        ):
            damaged = bytearray(sound)
            damaged[members[name] + 60 + rng.randrange(40)] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises((BadBackup, LedgerCorrupt)):
                restore(path)
            assert is_empty(), name
        path.write_bytes(sound[: len(sound) // 2])
        with pytest.raises(BadBackup):
            restore(path)
        path.write_bytes(sound)
        restore(path)  # the same database takes the sound one


def rewritten(path, change, *, header_too=True):
    """The backup with tables changed by `change(name, content)`, and a header that fits them if asked: a forger's work."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members.pop("header.json"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for table in header["tables"]:
            name = f"tables/{table['name']}.copy"
            content = change(table["name"], members[name])
            if header_too:
                table.update(rows=content.count(b"\n"), sha256=backup.hashlib.sha256(content).hexdigest())
            archive.writestr(name, content)
        archive.writestr("header.json", json.dumps(header))
    path.write_bytes(made.getvalue())


def test_a_table_that_is_not_the_one_in_the_header_is_refused_although_the_archive_is_sound(
    here, make_database, tmp_path
):
    user = get_user_model().objects.create_user("ada")
    Membership.objects.create(tenant=here.row, user=user, role="auditor")
    path = backed_up(tmp_path / "b.backup")
    rewritten(path, lambda name, content: content.replace(b"auditor", b"admin"), header_too=False)

    with at(make_database()):
        with pytest.raises(BadBackup, match="auditlog_membership is not what"):
            restore(path)
        assert is_empty()


@pytest.mark.parametrize(
    "table, old, new, said",
    [
        ("ledger_leaf", b"\tA\t", b"\tB\t", "is not the one in tile"),
        ("ledger_payload", b"\\\\x65", b"\\\\x66", "not what the leaf commits to"),
        ("ledger_checkpoint", b"\\n\\n\xe2\x80\x94", b"x\\n\\n\xe2\x80\x94", "checkpoint"),
        ("auditlog_membership", b"auditor", b"admin", None),
    ],
)
def test_a_forged_log_is_refused_by_its_own_tree_although_the_file_is_whole(
    here, make_database, tmp_path, table, old, new, said
):
    user = get_user_model().objects.create_user("ada")
    Membership.objects.create(tenant=here.row, user=user, role="auditor")
    grow(here)
    path = backed_up(tmp_path / "b.backup")
    changed = []

    def change(name, content):
        if name != table:
            return content
        changed.append(old in content)
        return content.replace(old, new, 1)

    rewritten(path, change)

    assert changed == [True]
    with at(make_database()):
        if said is None:  # what no tree covers is only as good as the file's keeper: the limit of this check
            restore(path)
            assert Membership.objects.get().role == "admin"
        else:
            with pytest.raises((LedgerCorrupt, BadBackup), match=said):
                restore(path)
            assert is_empty()


def test_an_older_backup_than_the_head_is_told_and_taken_only_on_request(here, make_database, tmp_path):
    grow(here)
    path = backed_up(tmp_path / "b.backup")
    size = Leaf.objects.count()
    grow(here, 7)

    with at(make_database()):
        with pytest.raises(CommandError, match=r"lacks 7 signed leaves.*Nothing was restored"):
            call_command("restore", str(path))
        assert is_empty()
        called = io.StringIO()
        call_command("restore", str(path), "--accept-behind", stderr=called)
        assert "lacks 7 leaves that were signed" in called.getvalue()
        assert Leaf.objects.count() == size


def test_another_history_than_the_head_is_never_taken(here, make_database, tmp_path):
    grow(here)
    path = backed_up(tmp_path / "b.backup")
    other = publish_elsewhere(here, tmp_path)

    with at(make_database()):
        with pytest.raises(LedgerCorrupt, match="not those that the head"):
            restore(path, heads=[other], accept_behind=True)
        assert is_empty()


def publish_elsewhere(here, tmp_path):
    """A note by the right key for as many leaves, with another root."""
    from auditlog.core.log.checkpoint import Checkpoint as Note
    from auditlog.core.log.checkpoint import signed

    file = tmp_path / "other-head"
    file.write_text(signed(Note(origin_of(here.row), Leaf.objects.count(), b"\x05" * 32), KEY))
    return file


def test_a_head_that_the_log_did_not_sign_is_refused(here, make_database, tmp_path):
    from auditlog.core.log.checkpoint import Checkpoint as Note
    from auditlog.core.log.checkpoint import signed

    grow(here)
    path = backed_up(tmp_path / "b.backup")
    forged = tmp_path / "forged"
    forged.write_text(signed(Note(origin_of(here.row), 99, b"\x05" * 32), SigningKey(b"\x01" * 32)))

    with at(make_database()):
        with pytest.raises(LedgerCorrupt, match="does not hold"):
            restore(path, heads=[forged], accept_behind=True)
        with pytest.raises(LedgerCorrupt, match="does not hold"):
            restore(path, vkeys=[vkey(origin_of(here.row), bytes(SigningKey(b"\x01" * 32).verify_key))])
        assert is_empty()


def test_a_backup_of_a_ledger_that_is_corrupt_already_is_not_restored(here, make_database, tmp_path):
    grow(here)
    vandalise("UPDATE ledger_leaf SET grade = 'F' WHERE tenant_id = %s AND leaf_index = 4", here.row.pk)
    path = backed_up(tmp_path / "b.backup")

    with at(make_database()):
        with pytest.raises(LedgerCorrupt, match="leaf"):
            restore(path)
        assert is_empty()


def test_a_backup_of_another_version_is_refused(here, make_database, tmp_path):
    grow(here)
    path = backed_up(tmp_path / "b.backup")

    with at(make_database()):
        with connections["owner"].cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('auditlog', '9999_later', now())"
            )
        with pytest.raises(BadBackup, match="another version"):
            restore(path)


def test_what_is_no_backup_is_refused_before_anything_is_touched(make_database, tmp_path):
    path = tmp_path / "b.backup"
    with at(make_database()):
        for content in (b"", b"not a zip", b"PK\x05\x06" + b"\x00" * 18):
            path.write_bytes(content)
            with pytest.raises(CommandError):
                call_command("restore", str(path))
        with pytest.raises(CommandError):
            call_command("restore", str(tmp_path / "absent"))
        with zipfile.ZipFile(path, "w") as archive:
            header = {"format": backup.FORMAT, "tables": [{"name": "x; DROP TABLE auth_user"}]}
            archive.writestr("header.json", json.dumps(header))
        with pytest.raises(CommandError):
            call_command("restore", str(path))
        assert is_empty()


def test_a_write_while_the_backup_runs_is_not_half_in_it(here, make_database, tmp_path, monkeypatch):
    grow(here)
    inner, seen = backup._dump, []

    def dump(cursor, archive, name, columns):
        if name == "ledger_payload":
            here.send(here.event("action.performed"))
            seen.append(True)
        return inner(cursor, archive, name, columns)

    monkeypatch.setattr(backup, "_dump", dump)
    leaves = Leaf.objects.count()
    path = backed_up(tmp_path / "b.backup")

    with at(make_database()):
        restore(path)
        assert seen and Leaf.objects.count() == leaves


def test_a_backup_beside_tables_that_are_not_ours_says_so(here, tmp_path):
    owner = connections["owner"]
    with owner.cursor() as cursor:
        cursor.execute("CREATE TABLE somebody_elses (id int)")
        cursor.execute("REVOKE ALL ON somebody_elses FROM CURRENT_USER")
    try:
        with pytest.raises(CommandError, match="somebody_elses"):
            call_command("backup", out=tmp_path / "b.backup")
        assert not (tmp_path / "b.backup").exists()
    finally:
        with owner.cursor() as cursor:
            cursor.execute("DROP TABLE somebody_elses")
