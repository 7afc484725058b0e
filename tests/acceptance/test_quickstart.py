"""The quickstart as a person runs it: in a process of its own, with nothing said but a state folder and a port.

Most tests share one running service; those that end it come last, in the order of this file.
"""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest

from auditlog.simulator.signing import Signer, StripeSigner

ROOT = Path(__file__).resolve().parents[2]
ROLES = {"admin", "security", "finance", "abuse", "auditor"}
OURS = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "CELERY_BROKER_URL",
    "ANSWERABLE_STATE_DIR",
    "ANSWERABLE_SECRET_KEY",
    "DJANGO_SETTINGS_MODULE",
)


def environment(**more):
    """What a shell has: nothing of the test run's own servers."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("SECRET_")
    }
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(os.path.isdir, sys.path[1:]))} | more


def manage(*arguments, state=None, timeout=90, **variables):
    """Run a command to its end."""
    if state is not None:
        variables["ANSWERABLE_STATE_DIR"] = str(state)
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *map(str, arguments)], cwd="/", env=environment(**variables), capture_output=True,
        text=True, timeout=timeout,
    )  # fmt: skip


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid):
    """Every process below `pid`, with its start time: pids come again."""
    parents, found = {}, {pid}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = (int(fields[1]), fields[19])
    grown = True
    while grown:
        below = {child for child, (parent, _) in parents.items() if parent in found}
        grown = not below <= found
        found |= below
    return {(child, parents[child][1]) for child in found - {pid} if child in parents}


def alive(processes):
    still = set()
    for pid, began in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[19] == began and fields[0] != "Z":
            still.add(pid)
    return still


def eventually(is_so, seconds):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"did not happen in {seconds} s"
        time.sleep(0.05)


class Quickstart:
    """A quickstart in a process of its own, in one state folder, started and ended as often as a test likes."""

    def __init__(self, folder):
        self.state = folder / "state"
        self.output = folder / "output.txt"
        self.port = free_port()
        self.process = None
        self.took = 0.0

    def start(self, *more, seconds=60):
        began = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "quickstart", "--state-dir", str(self.state), "--port", str(self.port), *more],
                cwd="/", env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        eventually(lambda: "Ctrl-C" in self.said() or self.process.poll() is not None, seconds)
        assert self.process.poll() is None, self.said()
        self.took = time.monotonic() - began
        self.processes = descendants(self.process.pid)
        return self

    def said(self):
        return self.output.read_text()

    def end(self, number=signal.SIGINT, seconds=30):
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def facts(self):
        return json.loads((self.state / "quickstart.json").read_text())

    def ask(self, path, body=None, **headers):
        """(status, headers, body) of one request."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def api(self, path):
        status, _, body = self.ask(f"/api/v1/{path}", Authorization=f"Bearer {self.facts()['api_token']}")
        assert status == 200, body
        return json.loads(body)

    def command(self, *arguments, **variables):
        """A command beside it, told nothing but where the state folder is."""
        return manage(*arguments, state=self.state, **variables)


@pytest.fixture(scope="module")
def running(tmp_path_factory, migrated):
    found = Quickstart(tmp_path_factory.mktemp("quickstart"))
    migrated(found.state)
    found.start("--no-demo")
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.wait()


# --- the check ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks(tmp_path_factory, migrated):
    """Two checks, side by side to save time: one as it is, from nothing, one with a detector that is blind."""
    blind = tmp_path_factory.mktemp("blind")
    (blind / "sitecustomize.py").write_text(
        "import auditlog.detectors as d\n"
        "d.ACT_DETECTORS = tuple(each for each in d.ACT_DETECTORS if each.rule != 'intent.domain_mismatch')\n"
    )
    path = environment()["PYTHONPATH"]
    started = {
        name: subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "quickstart", "--check", *given], cwd="/", text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(PYTHONPATH=more + path), start_new_session=True,
        )
        for name, more, given in (
            ("whole", "", []),
            ("blind", f"{blind}{os.pathsep}{ROOT}{os.pathsep}", ["--state-dir", str(migrated(blind / "state"))]),
        )
    }  # fmt: skip
    try:
        yield {name: (*process.communicate(timeout=150), process.returncode) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


def test_the_check_plays_the_story_finds_what_must_be_found_and_says_so(checks):
    out, err, status = checks["whole"]

    assert status == 0, out + err
    assert re.search(r"^check passed: \d+ expectations, \d+ findings", out, re.MULTILINE)


def test_a_check_that_misses_a_finding_fails_and_names_it(checks):
    out, err, status = checks["blind"]

    assert status == 1, out + err
    assert "missing: intent.domain_mismatch" in err and "check failed" in out


# --- while it runs --------------------------------------------------------------------------------------------------


def test_the_facts_are_private_and_exactly_the_documented_ones(running):
    file = running.state / "quickstart.json"
    facts = running.facts()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(running.state.stat().st_mode) == 0o700
    assert set(facts) == {"url", "api_token", "tenant", "users"}
    assert (facts["url"], facts["tenant"]) == (f"http://127.0.0.1:{running.port}", "default")
    assert set(facts["users"]) == ROLES
    assert all(
        set(user) == {"username", "password"} and len(user["password"]) >= 12 for user in facts["users"].values()
    )
    assert facts["url"] in running.said() and facts["api_token"] not in running.said()


def test_the_token_is_an_admins_and_the_service_is_ready(running):
    assert running.api("events") == {"results": [], "next": None}
    assert running.ask("/readyz")[0] == 200
    assert running.ask("/api/v1/events")[0] == 401


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_user_can_log_in(running, role):
    user = running.facts()["users"][role]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies := CookieJar()))
    url = running.facts()["url"]
    browser.open(f"{url}/login/", timeout=20).read()
    token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")

    page = browser.open(f"{url}/login/", urlencode(user | {"csrfmiddlewaretoken": token}).encode(), timeout=20)

    assert page.status == 200 and page.geturl() == f"{url}/"
    assert "sessionid" in {cookie.name for cookie in cookies}
    assert browser.open(f"{url}/api/v1/events", timeout=20).status == 200


def test_a_source_added_beside_it_is_accepted_at_once_and_its_event_is_projected(running, tmp_path):
    signer = Signer("https://orders.example", "k1", seed=4)
    (tmp_path / "jwks.json").write_text(json.dumps(signer.jwks()))
    claims = {
        "iss": "https://orders.example", "iat": int(time.time()), "jti": "one", "aud": "urn:answerable:default",
        "events": {"urn:answerable:event:action.performed:v1": {"outcome": "success"}},
    }  # fmt: skip
    compact = signer.sign_set(claims)
    send = {"Content-Type": "application/secevent+jwt"}

    before = running.ask("/ingest/orders", compact, **send)[0]
    added = running.command(
        "source",
        "add",
        "orders",
        "--format",
        "set",
        "--issuer",
        "https://orders.example",
        "--jwks",
        tmp_path / "jwks.json",
    )
    status, headers, body = running.ask("/ingest/orders", compact, **send)

    assert added.returncode == 0, added.stderr
    assert (before, status, body) == (404, 202, b"")
    path = headers["Location"].removeprefix("/api/v1/")
    assert running.api(path)["source_event_id"] == "one"
    eventually(lambda: running.api(path)["projected"], 2)
    assert "orders\tset\tactive" in running.command("source", "list").stdout
    assert running.command("source", "suspend", "orders").returncode == 0
    assert running.ask("/ingest/orders", compact, **send)[0] == 403
    assert running.command("source", "resume", "orders").returncode == 0
    assert running.ask("/ingest/orders", compact, **send)[1]["Location"] == headers["Location"]


def test_a_webhook_source_has_its_secret_from_the_commands_own_environment(running):
    body = json.dumps({"id": "evt_1", "object": "event", "created": int(time.time()), "livemode": True, "type": "charge.succeeded",
                       "data": {"object": {"id": "ch_1", "object": "charge", "amount": 900, "currency": "usd"}}}).encode()  # fmt: skip
    signed = StripeSigner("whsec_of_the_command").headers(body, t=int(time.time()))
    forged = StripeSigner("whsec_of_somebody_else").headers(body, t=int(time.time()))

    added = running.command(
        "source", "add", "payments", "--format", "stripe", "--issuer", "https://stripe.example", "--secret-env", "MY_HOOK_SECRET",
        MY_HOOK_SECRET="whsec_of_the_command",
    )  # fmt: skip

    assert added.returncode == 0, added.stderr
    assert running.ask("/ingest/payments", body, **{"Content-Type": "application/json"} | signed)[0] in (200, 202)
    assert running.ask("/ingest/payments", body, **{"Content-Type": "application/json"} | forged)[0] == 400
    assert "whsec" not in added.stdout + added.stderr


def test_commands_beside_it_find_its_database(running):
    done = {
        name: running.command(*name.split())
        for name in ("tenant add second", "tenant list", "verify_ledger", "rebuild")
    }

    assert {
        name: (each.returncode, each.stderr if each.returncode else "") for name, each in done.items()
    } == dict.fromkeys(done, (0, ""))
    assert done["tenant list"].stdout.split() == ["answerable", "default", "second"]  # the first states the accounts
    assert "default: " in done["verify_ledger"].stdout and "checkpoints hold" in done["verify_ledger"].stdout
    assert (
        "second: 1 leaves projected anew" in done["rebuild"].stdout
        or "second: 2 leaves projected anew" in done["rebuild"].stdout
    )
    assert len(running.api("events")["results"]) == 2  # the same as before the rebuild


def test_a_second_quickstart_on_the_same_folder_or_port_is_refused_clearly(running):
    same_folder = manage("quickstart", "--state-dir", running.state, "--port", free_port())
    same_port = manage("quickstart", "--state-dir", running.state.parent / "other", "--port", running.port)
    fresh = manage("quickstart", "--state-dir", running.state, "--fresh", "--port", free_port())

    assert all(each.returncode == 1 and "Traceback" not in each.stderr for each in (same_folder, same_port, fresh))
    assert f"in use by process {running.process.pid}" in same_folder.stderr
    assert f"port {running.port} is taken" in same_port.stderr and not (running.state.parent / "other").exists()
    assert "stop it first" in fresh.stderr
    assert running.ask("/readyz")[0] == 200


# --- ending and coming back -----------------------------------------------------------------------------------------


def test_ctrl_c_stops_everything_and_a_second_start_continues(running):
    first = running.facts()
    events = running.api("events")["results"]

    status = running.end(signal.SIGINT)

    assert status == 0 and "stopping" in running.said() and "Traceback" not in running.said()
    assert alive(running.processes) == set()
    assert not [path for path in running.state.rglob("*") if path.is_socket()]
    assert not (running.state / "services.json").exists()

    running.start("--no-demo")

    second = running.facts()
    assert running.took < 20
    assert second["users"] == first["users"] and second["url"] == first["url"]
    assert running.api("events")["results"] == events
    assert running.ask("/api/v1/events", Authorization=f"Bearer {first['api_token']}")[0] == 401  # replaced


def test_a_killed_quickstart_leaves_no_process_behind(running):
    assert len(running.processes) >= 6  # publisher, web and its workers, worker, beat, PostgreSQL, broker

    running.process.kill()
    running.process.wait()

    eventually(lambda: not alive(running.processes), 15)


def test_a_check_on_a_folder_that_holds_events_is_a_clear_error_also_after_a_kill(running):
    done = manage("quickstart", "--check", "--state-dir", running.state, timeout=60)

    assert done.returncode == 1
    assert "holds events already" in done.stderr and "Traceback" not in done.stderr


def test_fresh_begins_anew_and_throws_away_nothing_of_others(running):
    (running.state / "mine.txt").write_text("not yours to throw away")

    running.start("--no-demo", "--fresh")

    assert running.api("events")["results"] == []
    assert [source["name"] for source in running.api("sources")["results"]] == []
    assert (running.state / "mine.txt").exists()
    assert running.end(signal.SIGTERM) == 0
    eventually(lambda: not alive(running.processes), 1)


def test_fresh_never_touches_a_database_that_was_given(running):
    done = manage("quickstart", "--fresh", "--state-dir", running.state, DATABASE_URL="postgresql://nobody@/nothing")

    assert done.returncode == 1 and "DATABASE_URL is set" in done.stderr
    assert (running.state / "postgres").exists()
