"""The emitter against the real front door: what it was given arrives once, in order, whatever happens in between."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from io import BytesIO
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import make_server

import pytest

from auditlog import emit as emitting
from auditlog.emit import Emitter, SpoolFull, new_key
from auditlog.models import Leaf, Payload
from auditlog.sources.configure import add_source, set_source_state
from tests.browser.conftest import _Quiet, _Server

ROOT = Path(__file__).resolve().parent.parent.parent
ISSUER = "https://orchestrator.example"
DONE = {"outcome": "success"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """The application on a port of its own, which can go away, come back, and answer something else for a while."""

    def __init__(self) -> None:
        self.port, self.requests, self.answers, self.losing, self.server = free_port(), [], [], 0, None

    def __call__(self, environ, start_response):
        from config.wsgi import application

        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        self.requests.append(len(json.loads(body).get("sets", [0])))
        if self.answers:
            status, headers = self.answers.pop(0)
            start_response(status, [("Content-Type", "application/json"), *headers])
            return [b"{}"]
        environ["wsgi.input"] = BytesIO(body)
        if self.losing:  # the service takes it, and its answer never arrives
            self.losing -= 1
            b"".join(application(environ, lambda *status: None))
            start_response("503 Service Unavailable", [])
            return [b""]
        return application(environ, start_response)

    def start(self):
        self.server = make_server("127.0.0.1", self.port, self, server_class=_Server, handler_class=_Quiet)
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()
            self.server = None


@pytest.fixture
def service(tenant, now):
    key = new_key("k1")
    source = add_source(tenant, "orchestrator", format="set", issuer=ISSUER, now=now,
                        jwks={"keys": [{name: value for name, value in key.items() if name != "d"}]})  # fmt: skip
    running = Service()
    running.tenant, running.key, running.source = tenant, key, source
    running.address = f"http://127.0.0.1:{running.port}/ingest/{tenant.name}/orchestrator"
    running.start()
    yield running
    running.stop()


def emitter(service, **more) -> Emitter:
    return Emitter(service.address, **{"issuer": ISSUER, "key": service.key, "tenant": service.tenant.name, "pause": 0.05,
                                       "longest_pause": 0.2} | more)  # fmt: skip


def in_ledger(service) -> list[str]:
    indexes = Leaf.objects.filter(tenant=service.tenant, kind=0).values_list("leaf_index", flat=True)
    return list(
        Payload.objects.filter(tenant=service.tenant, leaf_index__in=indexes)
        .order_by("leaf_index")
        .values_list("source_event_id", flat=True)
    )


def test_it_needs_no_django():
    code = "import sys; from auditlog.emit import Emitter; assert not [m for m in sys.modules if m.split('.')[0] in ('django', 'msgspec', 'config')]"

    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr


def test_the_file_works_alone(tmp_path):
    shutil.copy(ROOT / "auditlog" / "emit.py", tmp_path)

    subprocess.run([sys.executable, "-c", "from emit import Emitter"], cwd=tmp_path, capture_output=True, check=True)


@pytest.mark.parametrize(
    "text", [(ROOT / "dashboard/help/native-events.md").read_text(), emitting.__doc__], ids=["help", "docstring"]
)
def test_the_five_lines_work_as_they_are_written(service, tmp_path, text):
    """As printed, but for the address, the tenant and the places of the files."""
    lines = textwrap.dedent(
        re.search(
            r"^ *from auditlog.emit import Emitter\n.*?(?=\n```|\n\n(?! *emitter))", text, re.DOTALL | re.MULTILINE
        )[0]
    )
    (tmp_path / "conductor.jwk").write_text(json.dumps(service.key))
    lines = lines.replace("https://log.example/ingest/conductor", service.address).replace(
        "https://conductor.example", ISSUER
    )
    lines = lines.replace("/var/spool/conductor", str(tmp_path / "spool")).replace(
        '"conductor.jwk"', repr(str(tmp_path / "conductor.jwk"))
    )
    lines = lines.replace("spool=", f"tenant={service.tenant.name!r}, spool=")

    subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, timeout=30, check=True)

    assert len(in_ledger(service)) == 1


def test_events_arrive_in_order_in_batches(service):
    with emitter(service) as sender:
        sent = [
            sender.emit("action.performed", DONE, principal=("https://id.example", "ada"), at=1_795_000_000 + n)
            for n in range(1200)
        ]
        assert sender.flush(20)

    assert in_ledger(service) == sent
    assert len(service.requests) < 60 and max(service.requests) <= emitting.MAX_BATCH


def test_many_threads_share_one_emitter(service):
    sent = []
    with emitter(service) as sender:
        threads = [
            Thread(target=lambda: sent.extend([sender.emit("action.performed", DONE) for _ in range(50)]))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.flush(20)

    assert sorted(in_ledger(service)) == sorted(sent)


def test_a_service_that_is_away_is_waited_for(service, tmp_path):
    service.stop()
    with emitter(service, spool=tmp_path) as sender:
        sent = [sender.emit("action.performed", DONE) for _ in range(5)]
        assert not sender.flush(0.3)
        service.start()
        sent.append(sender.emit("action.denied", {"outcome": "denied"}))
        assert sender.flush(10)

    assert in_ledger(service) == sent
    assert list(tmp_path.iterdir()) == []  # nothing is left of what was delivered


def test_an_answer_that_was_lost_makes_no_second_event(service):
    service.losing = 2
    with emitter(service) as sender:
        sent = [sender.emit("action.performed", DONE) for _ in range(3)]
        assert sender.flush(10)

    assert in_ledger(service) == sent and sum(service.requests) > len(sent)


@pytest.mark.parametrize(
    "answer", [("429 Too Many", [("Retry-After", "0")]), ("500 Oops", []), ("408 Slow", []), ("200 OK", [])]
)
def test_what_may_pass_is_sent_again(service, answer):
    service.answers = [answer, answer]
    with emitter(service) as sender:
        sent = [sender.emit("action.performed", DONE)]
        assert sender.flush(10)

    assert in_ledger(service) == sent and service.requests == [1, 1, 1]


def test_a_bad_event_is_set_aside_with_its_reason_and_the_others_arrive(service, tmp_path):
    told = []
    with emitter(service, spool=tmp_path, on_refused=lambda *a: told.append(a)) as sender:
        first = sender.emit("action.performed", DONE)
        bad = sender.emit(
            "payment.captured",
            {"outcome": "success", "money": {"amount_minor": 1.5, "currency": "USD", "phase": "captured"}},
        )
        last = sender.emit("action.performed", DONE)
        assert sender.flush(10)

    assert in_ledger(service) == [first, last]
    assert [(jti, err) for jti, err, _ in told] == [(bad, "invalid_request")]
    [kept] = [json.loads(line) for line in next(tmp_path.glob("*.refused")).read_text().splitlines()]
    assert (kept["jti"], kept["set"].count(".")) == (bad, 2) and "amount_minor" in kept["description"]


def test_a_4xx_for_the_whole_is_halved_down_and_not_repeated_for_ever(service):
    service.stop()
    told = []
    with emitter(service, on_refused=lambda *a: told.append(a)) as sender:
        sent = [sender.emit("action.performed", DONE) for _ in range(4)]
        assert not sender.flush(0.2)
        service.answers = [("400 Bad Request", [])] * 3  # of four, of two, of one; then it is taken
        service.start()
        assert sender.flush(10)

    assert service.requests[:3] == [4, 2, 1]
    assert [jti for jti, _, _ in told] == sent[:1] and in_ledger(service) == sent[1:]


def test_a_suspended_source_is_waited_for_and_in_the_end_given_up(service, now, tmp_path):
    set_source_state(service.source, "suspended", now=now)
    with emitter(service) as sender:
        waited = sender.emit("action.performed", DONE)
        assert not sender.flush(0.3)
        set_source_state(service.source, "active", now=now)
        assert sender.flush(10)
    set_source_state(service.source, "suspended", now=now)
    told = []
    with emitter(service, spool=tmp_path, patience=0.3, on_refused=lambda *a: told.append(a)) as sender:
        given_up = sender.emit("action.performed", DONE)
        assert sender.flush(10)
    requests = len(service.requests)

    time.sleep(0.5)

    assert in_ledger(service) == [waited]
    assert told[0][:2] == (given_up, "access_denied") and "403" in told[0][2]
    assert len(service.requests) == requests and len(list(tmp_path.glob("*.refused"))) == 1


def test_a_killed_process_leaves_a_spool_that_the_next_one_sends(service, tmp_path):
    service.stop()
    (tmp_path / "key.jwk").write_text(json.dumps(service.key))
    code = textwrap.dedent(f"""
        import time
        from auditlog.emit import Emitter
        emitter = Emitter({service.address!r}, issuer={ISSUER!r}, key={str(tmp_path / "key.jwk")!r},
                          tenant={service.tenant.name!r}, spool={str(tmp_path / "spool")!r})
        for n in range(20):
            print(emitter.emit("action.performed", {{"outcome": "success"}}), flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    sent = [process.stdout.readline().strip() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    [spool] = (tmp_path / "spool").glob("*.sets")
    with spool.open("ab") as file:
        file.write(b"eyJhbGciOi")  # killed in the middle of a line

    service.start()
    with emitter(service, spool=tmp_path / "spool") as sender:
        sent.append(sender.emit("action.performed", DONE))
        assert sender.flush(10)

    assert in_ledger(service) == sent
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_kill_after_some_answers_sends_the_rest_only(service, tmp_path):
    service.stop()
    sender = emitter(service, spool=tmp_path)
    sent = [sender.emit("action.performed", DONE) for _ in range(5)]
    [path] = tmp_path.glob("*.sets")
    lines = path.read_bytes().splitlines(keepends=True)
    assert not sender.close(0)
    path.with_suffix(".sent").write_text(str(len(lines[0] + lines[1])))

    service.start()
    with emitter(service, spool=tmp_path) as sender:
        assert sender.flush(10)

    assert in_ledger(service) == sent[2:]


def test_two_emitters_share_a_folder_and_a_full_one_says_so(service, tmp_path):
    service.stop()
    with (
        emitter(service, spool=tmp_path, exit_timeout=0) as one,
        emitter(service, spool=tmp_path, max_spool_bytes=1500, exit_timeout=0) as two,
    ):
        kept = [one.emit("action.performed", DONE), two.emit("action.performed", DONE)]
        with pytest.raises(SpoolFull):
            for _ in range(5):
                kept.append(two.emit("action.performed", DONE))
    service.start()
    with emitter(service, spool=tmp_path) as sender:
        assert sender.flush(10)

    assert sorted(in_ledger(service)) == sorted(kept)


def test_what_is_left_is_flushed_at_exit(service, tmp_path):
    (tmp_path / "key.jwk").write_text(json.dumps(service.key))
    code = f"from auditlog.emit import Emitter; print(Emitter({service.address!r}, issuer={ISSUER!r}, key={str(tmp_path / 'key.jwk')!r}, tenant={service.tenant.name!r}).emit('action.performed', {{'outcome': 'success'}}))"

    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)

    assert in_ledger(service) == [ran.stdout.strip()]


def test_a_forked_process_sends_its_own_once(service, tmp_path):
    sender = emitter(service, spool=tmp_path)
    before = sender.emit("action.performed", DONE)
    assert sender.flush(10)
    child = os.fork()
    if child == 0:
        try:
            sender.emit("action.denied", {"outcome": "denied"}, jti="of-the-child")
            os._exit(0 if sender.close(10) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    after = sender.emit("action.performed", DONE)
    assert sender.close(10)

    assert in_ledger(service) == [before, "of-the-child", after]


def test_bad_settings_and_events_are_refused_at_once(service):
    with pytest.raises(ValueError, match="https"):
        Emitter("http://log.example/ingest/x", issuer=ISSUER, key=service.key)
    with pytest.raises(ValueError, match="private Ed25519"):
        Emitter(service.address, issuer=ISSUER, key={name: v for name, v in service.key.items() if name != "d"})
    with emitter(service) as sender:
        with pytest.raises(ValueError, match="at most"):
            sender.emit("action.performed", {"outcome": "success", "session": "x" * 300_000})
        with pytest.raises(ValueError):
            sender.emit("action.performed", {"outcome": float("nan")})


def test_the_commands_make_a_key_and_send_a_heartbeat(service, tmp_path, capsys):
    assert emitting.main(["new-key", str(tmp_path / "new.jwk")]) == 0
    printed = json.loads(capsys.readouterr().out)
    (tmp_path / "key.jwk").write_text(json.dumps(service.key))
    given = ["test", service.address, "--issuer", ISSUER, "--tenant", service.tenant.name]

    good = emitting.main([*given, "--key", str(tmp_path / "key.jwk")])
    said = capsys.readouterr().out
    bad = emitting.main([*given, "--key", str(tmp_path / "new.jwk")])

    assert (good, bad) == (0, 1) and "is in the ledger" in said
    assert "refused: invalid_key" in capsys.readouterr().out
    assert "d" not in printed["keys"][0] and (tmp_path / "new.jwk").stat().st_mode & 0o777 == 0o600
    assert len(in_ledger(service)) == 1
