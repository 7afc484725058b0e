"""The recorder before a provider's endpoints, and its pairs through the real front door: nothing changed, nothing leaked."""

import asyncio
import json
import logging
import re
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog import recorder as recording
from auditlog.core.wire import redaction
from auditlog.core.wire.redaction import NEVER_STORED, payment_token, redact
from auditlog.models import Event, Leaf, Payload
from auditlog.projection.project import project
from auditlog.recorder import MAX_BODY, RecordASGI, Recorder, RecordWSGI, without_secrets
from auditlog.sources.configure import add_source
from tests.integration.test_emit import ROOT, Service, in_ledger

SECRET = "recorder-secret-of-the-tests"
ISSUER = "https://provider.example"
ASKED = {
    "service_id": "postgres/small",
    "actor": {"email": "ada@acme.example"},
    "confirmation_secret": "cs_1",
    "payment": "spt_1Qabcdefgh",
}
ANSWERED = {
    "id": "res_1",
    "status": "complete",
    "access_configuration": {"password": "hunter2", "url": "postgres://u:p@h/db"},
}


@pytest.fixture
def service(tenant, now, monkeypatch):
    monkeypatch.setenv("RECORDER_SECRET_OF_TESTS", SECRET)
    add_source(
        tenant,
        "orchestrator",
        format="app",
        issuer=ISSUER,
        secret_env="RECORDER_SECRET_OF_TESTS",
        provider="dbco",
        now=now,
    )
    running = Service()
    running.tenant = tenant
    running.address = f"http://127.0.0.1:{running.port}/ingest/{tenant.name}/orchestrator"
    running.start()
    yield running
    running.stop()


@pytest.fixture
def recorder(service, tmp_path):
    made = Recorder(service.address, secret=SECRET, spool=tmp_path / "spool", pause=0.05, longest_pause=0.2)
    yield made
    made.close(1)


class Provider:
    """A WSGI application that answers as it is told, reading what it is sent as some do: whole, by lines, or not at all."""

    def __init__(self, status="200 OK", answer=ANSWERED, reads="whole"):
        self.status, self.answer, self.reads = (
            status,
            answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
            reads,
        )

    def __call__(self, environ, start_response):
        stream = environ["wsgi.input"]
        self.got = {"whole": lambda: stream.read(int(environ["CONTENT_LENGTH"])), "lines": lambda: b"".join(iter(stream.readline, b"")),
                    "some": lambda: stream.read(2), "nothing": lambda: b""}[self.reads]()  # fmt: skip
        if self.status == "raises":
            raise RuntimeError("the provider's own fault")
        start_response(self.status, [("Content-Type", "application/json"), ("Content-Length", str(len(self.answer)))])
        return [self.answer[:5], self.answer[5:]]


def ask(application, body=ASKED, *, path="/provisioning/resources", method="POST", **headers):
    """One request as a server would make it. Returns (status, body)."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "REQUEST_METHOD": method, "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(raw)),
               "wsgi.input": BytesIO(raw), "HTTP_API_VERSION": "0.1d", "HTTP_AUTHORIZATION": "Bearer t0ps3cret", **headers}  # fmt: skip
    setup_testing_defaults(environ)
    said = []
    answer = application(environ, lambda status, headers, *_: said.append(status))
    try:
        return said, b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()


def pairs(service):
    return [json.loads(bytes(raw)) for raw in Payload.objects.filter(tenant=service.tenant, source_event_id__in=in_ledger(service))
            .order_by("leaf_index").values_list("raw", flat=True)]  # fmt: skip


@pytest.mark.parametrize("reads", ["whole", "lines"])
def test_a_provisioned_resource_becomes_an_event_of_grade_c_and_the_provider_notices_nothing(
    service, recorder, now, reads
):
    provider = Provider(reads=reads)

    said, body = ask(RecordWSGI(provider, recorder), HTTP_IDEMPOTENCY_KEY="idem-1")
    assert recorder.flush(10)

    assert (said, json.loads(body), json.loads(provider.got)) == (["200 OK"], ANSWERED, ASKED)
    assert Leaf.objects.get(tenant=service.tenant, kind=0).grade == "C"
    [pair] = pairs(service)
    assert pair["request"]["body_sha256"] == sha256(json.dumps(ASKED).encode()).hexdigest()
    project(service.tenant, now=now)
    event = Event.objects.get(tenant=service.tenant)
    assert (event.type, event.outcome, event.target, event.idempotency_key) == (
        "resource.provisioned",
        "success",
        "res_1",
        "idem-1",
    )
    assert event.principal == f"{ISSUER}|ada@acme.example"


def test_no_secret_reaches_the_spool_or_the_ledger(service, tmp_path):
    spool = tmp_path / "spool"
    service.stop()
    recorder = Recorder(service.address, secret=SECRET, spool=spool, pause=0.05, longest_pause=0.2)
    ask(RecordWSGI(Provider(), recorder))
    ask(RecordWSGI(Provider(answer={"code": "ac_1", "type": "oauth", "access_token": "at_1"}), recorder), b"grant_type=x&code=ac_9",
        path="/oauth/token")  # fmt: skip

    spooled = b"".join(file.read_bytes() for file in spool.glob("*.sets"))
    service.start()
    assert recorder.close(10)

    stored = b"".join(bytes(raw) for raw in Payload.objects.filter(tenant=service.tenant).values_list("raw", flat=True))
    assert spooled.count(b"\n") == 2
    for secret in (b"cs_1", b"hunter2", b"postgres://", b"t0ps3cret", b"spt_1Q", b"ac_1", b"ac_9", b"at_1"):
        assert secret not in spooled and secret not in stored, secret
    assert payment_token("spt_1Qabcdefgh").encode() in spooled


def test_what_stands_elsewhere_is_not_recorded(recorder, service):
    ask(RecordWSGI(Provider(), recorder), path="/login")
    ask(RecordWSGI(Provider(), recorder, paths=["/v2/provisioning/"]), path="/v2/provisioning/resources")

    assert recorder.flush(10)
    assert [pair["request"]["path"] for pair in pairs(service)] == ["/v2/provisioning/resources"]


def test_an_application_that_fails_fails_as_before_and_is_recorded_unanswered(recorder, service):
    with pytest.raises(RuntimeError, match="the provider's own fault"):
        ask(RecordWSGI(Provider("raises"), recorder))

    assert recorder.flush(10)
    [pair] = pairs(service)
    assert "response" not in pair and pair["request"]["body"]["service_id"] == "postgres/small"


def test_a_body_that_was_not_read_to_its_end_and_one_too_long_to_keep_are_not_half_kept(recorder, service):
    long = json.dumps({"note": "x" * MAX_BODY}).encode()
    ask(RecordWSGI(Provider(reads="nothing"), recorder))
    ask(RecordWSGI(Provider(reads="some"), recorder), b"{}  ")  # what was read of it is JSON, and not what was sent
    ask(RecordWSGI(Provider(answer=long), recorder), long)

    assert recorder.flush(10)
    *unread, too_long = pairs(service)
    assert [(pair["request"].get("body"), "body_sha256" in pair["request"]) for pair in unread] == [
        (None, False),
        (None, False),
    ]
    assert too_long["request"]["body"] is None and too_long["response"]["body"] is None
    assert too_long["request"]["body_sha256"] == sha256(long).hexdigest()


def test_a_recorder_that_cannot_keep_a_pair_breaks_nothing_and_says_so(service, tmp_path, caplog):
    recorder = Recorder(service.address, secret=SECRET, spool=tmp_path, max_spool_bytes=10)

    with caplog.at_level(logging.ERROR, "auditlog.recorder"):
        said, body = ask(RecordWSGI(Provider(), recorder))

    assert (said, json.loads(body), recorder.lost) == (["200 OK"], ANSWERED, 1)
    assert "was not recorded" in caplog.text and "hunter2" not in caplog.text
    recorder.close(0)


def test_a_wrong_secret_is_refused_by_the_service_and_set_aside(service, tmp_path):
    refused = []
    recorder = Recorder(service.address, secret="another", spool=tmp_path, pause=0.05, longest_pause=0.2, patience=0.1,
                        on_refused=lambda *said: refused.append(said))  # fmt: skip
    ask(RecordWSGI(Provider(), recorder))

    recorder.flush(10)
    recorder.close(1)
    assert len(refused) == 1 and "fits" in refused[0][2]
    assert in_ledger(service) == []


def test_a_pair_sent_again_because_its_answer_was_lost_is_there_once(service, recorder):
    service.losing = 2
    ask(RecordWSGI(Provider(), recorder))

    assert recorder.flush(10)
    assert len(in_ledger(service)) == 1


def test_the_middleware_keeps_to_the_rules_of_wsgi(recorder):
    application = validator(RecordWSGI(validator(Provider()), recorder))

    said, body = ask(application, HTTP_HOST="provider.example", QUERY_STRING="")

    assert said == ["200 OK"] and json.loads(body) == ANSWERED


# --- ASGI ---------------------------------------------------------------------------------------------------------------


def ask_async(application, parts, *, path="/provisioning/resources", type="http"):
    messages = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    said = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        said.append(message)

    scope = {
        "type": type,
        "path": path,
        "method": "POST",
        "headers": [(b"api-version", b"0.1d"), (b"authorization", b"Bearer t0ps3cret")],
    }
    asyncio.run(application(scope, receive, send))
    return said


async def provider(scope, receive, send):
    got = b""
    while True:
        message = await receive()
        got += message.get("body", b"")
        if not message.get("more_body"):
            break
    assert json.loads(got) == ASKED
    await send({"type": "http.response.start", "status": 201, "headers": []})
    raw = json.dumps(ANSWERED).encode()
    await send({"type": "http.response.body", "body": raw[:7], "more_body": True})
    await send({"type": "http.response.body", "body": raw[7:]})


def test_asgi_is_recorded_as_wsgi_is(service, recorder):
    raw = json.dumps(ASKED).encode()

    said = ask_async(RecordASGI(provider, recorder), [raw[:9], raw[9:]])

    assert recorder.flush(10)
    assert b"".join(m.get("body", b"") for m in said) == json.dumps(ANSWERED).encode() and said[0]["status"] == 201
    [pair] = pairs(service)
    assert (pair["response"]["status"], pair["response"]["body"]["id"]) == (201, "res_1")
    assert (
        pair["request"]["body_sha256"] == sha256(raw).hexdigest() and "authorization" not in pair["request"]["headers"]
    )


def test_an_asgi_application_that_fails_or_speaks_websocket_goes_on_as_before(service, recorder):
    async def fails(scope, receive, send):
        await receive()
        raise RuntimeError("its own fault")

    async def socket(scope, receive, send):
        await send({"type": "websocket.accept"})

    with pytest.raises(RuntimeError, match="its own fault"):
        ask_async(RecordASGI(fails, recorder), [b"{}"])
    assert ask_async(RecordASGI(socket, recorder), [b""], type="websocket") == [{"type": "websocket.accept"}]
    assert recorder.flush(10) and ["response" in pair for pair in pairs(service)] == [False]


# --- what it takes out ----------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["id", "access_token", "Client-Secret", "cvc", "note", "password", "authorization", "items"])
VALUES = st.recursive(
    st.sampled_from(["x", "s3cret-1", "Bearer abcdefgh12345", "spt_1Qabcdefgh", 7, None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(WORDS, VALUES, max_size=5))
def test_what_it_leaves_the_service_has_nothing_to_take_out_of(document):
    left = without_secrets(document)

    assert redact(json.dumps(left, separators=(",", ":")).encode()).headers == {}


@pytest.mark.parametrize(
    "text",
    ["curl -H 'Authorization: Bearer hunter2hunter2'", "/cb?code=1&refresh_token=hunter2", "a=b=access_token=hunter2", "cannot charge spt_hunter2",
     '{"a": {"access_token": "hunter2"}}', '{"password":"hunter2","password":null}', '{"access_token": "hunter2", "cut of', "sk_live_hunter2hunter2", "bad eyJhbGciOiJFUzI1NiJ9.e30.hunter2"],
)  # fmt: skip
def test_a_secret_inside_of_a_text_never_touches_its_disk(text):
    left = json.dumps(without_secrets({"error": {"message": text}, "github_access_token": "hunter2"}))

    assert "hunter2" not in left and redact(left.encode()).headers == {}


def test_its_list_of_secret_names_is_the_services():
    assert recording.SECRETS == NEVER_STORED and recording.ENDINGS == redaction._ENDINGS


def test_what_it_looks_for_inside_of_a_text_is_what_the_service_looks_for_but_for_base64():
    theirs = redaction._INSIDE.pattern
    base64 = re.search(r"\|[^|]*\(\?P<base64>[^|]*", theirs)[0]

    assert recording.INSIDE.pattern == theirs.replace(base64, "")


def test_it_needs_the_standard_library_and_the_emitter_only():
    code = (
        "import sys; import auditlog.recorder; foreign = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names);"
        "assert foreign <= {'auditlog', '__main__'} or not {'django', 'msgspec', 'orjson', 'nacl', 'config'} & foreign, foreign"
    )

    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr


def test_the_lines_of_its_docstring_are_python():
    text = Path(recording.__file__).read_text()

    compile(
        "import os\n" + "\n".join(line[4:] for line in text.split('"""')[1].splitlines() if line.startswith("    ")),
        "docstring",
        "exec",
    )
