"""Connecting a sender: the pages, who may not, and that what they say to do works, for every format."""

import html
import json
import os
import re
import shlex
import shutil
import subprocess
from base64 import b64encode
from datetime import timedelta
from io import StringIO
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import make_server

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from auditlog import formats
from auditlog.formats.trial import TRIALS, trial_command, trial_delivery
from auditlog.ingest.receive import ingest
from auditlog.models import Leaf, Membership, NotedDelivery, Source, SourceKey
from auditlog.reads.source_facts import recent_deliveries
from auditlog.simulator.signing import Signer
from auditlog.sources.configure import add_source
from tests.browser.conftest import _Quiet, _Server
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.support.needs import cannot

pytestmark = pytest.mark.usefixtures("database")
SECRET = "whsec_" + b64encode(b"a secret of the tests, long enough").decode()


@pytest.fixture
def now():
    return timezone.now() - timedelta(minutes=5)


@pytest.fixture
def conductor(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    return world


@pytest.fixture
def shared(tenant, now, monkeypatch):
    """A source of any format, whose secret is set."""
    monkeypatch.setenv("TEST_SHARED_SECRET", SECRET)

    def add(format, **more):
        keys = {"keys": [Signer("https://sender.example", "k1", seed=1).jwk]} if TRIALS[format].by == "sender" else None
        return add_source(tenant, format.replace("_", "-"), format=format, issuer="https://sender.example", jwks=keys,
                          secret_env=more.get("secret_env", "TEST_SHARED_SECRET"), now=now)  # fmt: skip

    return add


def post(world, signed):
    return Client().post(f"/ingest/{world.tenant}/conductor", signed.raw, content_type="application/secevent+jwt")


def leaves(tenant):
    """How many there are, but for those that state who may do what here."""
    return Leaf.objects.filter(tenant=tenant).count() - Membership.objects.filter(tenant=tenant).count()


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["security", "finance", "auditor", "abuse"])
def test_only_who_may_configure_sees_or_changes_sources(conductor, role):
    client = signed_in(conductor, role, provider="p" if role == "abuse" else "")
    key = SourceKey.objects.get(source__tenant=conductor.row)
    before = leaves(conductor.row)

    answers = [
        client.get("/sources/"), client.get("/sources/conductor/"), client.post("/sources/", {"name": "x"}),
        client.post("/sources/conductor/", {"act": "suspend"}),
        client.post("/sources/conductor/", {"act": "retire_key", "key": key.pk}),
    ]  # fmt: skip

    assert {answer.status_code for answer in answers} == {403}
    assert "/sources/" not in client.get("/").content.decode()
    assert leaves(conductor.row) == before
    assert client.get("/formats/").status_code == 200  # what a format is, everybody may read


def test_anonymous_is_sent_to_login(conductor):
    for path in ("/sources/", "/sources/conductor/", "/formats/"):
        assert Client().get(path)["Location"].startswith("/login/?next="), path


def test_another_tenants_source_and_key_are_not_there(conductor, now):
    from auditlog.sources.configure import add_tenant
    from tests.world import TenantWorld

    other = TenantWorld(add_tenant(conductor.tenant + "-b", now=now), now=now)
    other.source("theirs", "https://theirs.example")
    other.configure("theirs")
    client = signed_in(conductor, "admin")
    key = SourceKey.objects.get(source__tenant=other.row)

    assert client.get("/sources/theirs/").status_code == 404
    assert client.post("/sources/conductor/", {"act": "retire_key", "key": key.pk}).status_code == 404
    assert "theirs" not in text_of(client.get("/sources/"))
    key.refresh_from_db()
    assert key.retired_at is None


@pytest.mark.parametrize(
    "act", [{}, {"act": "no-such"}, {"act": "retire_key", "key": "x"}, {"act": "retire_key", "key": "9" * 30}]
)
def test_nonsense_is_a_page_that_is_not_there(conductor, act):
    assert signed_in(conductor, "admin").post("/sources/conductor/", act).status_code == 404


# --- the formats ----------------------------------------------------------------------------------------------------


def test_every_format_is_described_as_its_code_says(conductor):
    page = text_of(signed_in(conductor, "admin").get("/formats/"))

    for name in formats.NAMES:
        about = formats.named(name).ABOUT
        for said in (
            about.title,
            about.sent,
            about.authentication,
            about.carries,
            about.chains,
            about.lacks,
            about.tested,
            *about.against,
        ):
            assert said in page, (name, said)


def test_pages_carry_no_inline_script_style_or_handler(conductor):
    client = signed_in(conductor, "admin")

    for path in ("/sources/", "/sources/conductor/", "/formats/"):
        page = client.get(path).content.decode()
        assert "<script>" not in page and " style=" not in page and " onclick=" not in page, path


# --- adding ---------------------------------------------------------------------------------------------------------


def test_a_source_is_added_by_form_and_may_send_at_once(world):
    signer = Signer("https://new.example", "k1", seed=3)
    client = signed_in(world, "admin")
    empty = text_of(client.get("/sources/"))
    before = leaves(world.row)

    answer = client.post("/sources/", {
        "format": "set", "name": "new", "issuer": "https://new.example", "keys": json.dumps(signer.jwks()),
        "layers": ["orchestration", "money"], "speaks_for": "https://new.example\n\nhttps://other.example", "heartbeat_seconds": "60",
    })  # fmt: skip

    assert "No source is configured yet" in empty
    assert (answer.status_code, answer["Location"]) == (302, "/sources/new/")
    source = Source.objects.get(tenant=world.row, name="new")
    assert (source.layers, source.speaks_for, source.heartbeat_seconds) == (
        ["orchestration", "money"], ["https://new.example", "https://other.example"], 60,
    )  # fmt: skip
    assert leaves(world.row) == before + 2  # the source and its key
    assert f"/ingest/{world.tenant}/new" in text_of(client.get("/sources/new/"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format": "set"}, "signed with the sender's own key"),
        ({"format": "stripe"}, "name its variable"),
        ({"format": "standard_webhooks"}, "needs a shared secret (v1) or the sender's public key"),
        ({"format": "stripe", "secret_env": "lower; rm -rf"}, "capital letters"),
        ({"format": "stripe", "secret_env": "S", "name": "Not A Slug"}, "1 to 48"),
        ({"format": "nope"}, "not one of the available choices"),
        ({"format": "set", "keys": "{"}, "not JSON"),
        ({"format": "set", "keys": '{"kty": "oct", "k": "x"}'}, "expected a JWK of kty"),
        ({"format": "stripe", "secret_env": "S", "issuer": "a|b"}, "contains no '|'"),
        ({"format": "stripe", "secret_env": "S", "name": "conductor"}, "already"),
    ],
)
def test_a_bad_source_is_refused_in_words_and_changes_nothing(conductor, given, said):
    before = leaves(conductor.row)

    answer = signed_in(conductor, "admin").post("/sources/", {"name": "x", "issuer": "https://x.example"} | given)

    assert answer.status_code == 422 and said in text_of(answer)
    assert leaves(conductor.row) == before and not Source.objects.filter(tenant=conductor.row, name="x").exists()


# --- deliveries -----------------------------------------------------------------------------------------------------


def test_the_last_deliveries_say_what_was_taken_repeated_and_refused_and_why(conductor):
    good = conductor.event("action.performed")
    post(conductor, good)
    post(conductor, good)
    post(conductor, conductor.tampered(conductor.event("action.denied")))

    [refused, repeated, taken] = recent_deliveries(Source.objects.get(tenant=conductor.row))

    assert (refused.refused, refused.err) == (1, "authentication_failed") and "does not fit" in refused.reason
    assert (repeated.taken, repeated.repeated) == (0, 1)
    assert (taken.taken, taken.refused) == (1, 0) and taken.event_id
    page = text_of(signed_in(conductor, "admin").get("/sources/conductor/"))
    assert "authentication_failed" in page and "all of it is in the ledger already" in page


def test_a_mixed_batch_is_one_delivery(conductor):
    one, bad = conductor.event("action.performed"), conductor.tampered(conductor.event("action.denied"))
    body = json.dumps({"sets": {s.jti: s.raw.decode() for s in (one, bad)}})
    Client().post(f"/ingest/{conductor.tenant}/conductor", body, content_type="application/json")

    [seen] = recent_deliveries(Source.objects.get(tenant=conductor.row))

    assert (seen.taken, seen.refused) == (1, 1) and seen.event_id


def test_notes_are_bounded_and_new_events_cost_none(conductor, monkeypatch):
    monkeypatch.setattr("auditlog.ingest.receive.NOTES_PER_SECOND", 0)  # no limit
    for _ in range(5):
        post(conductor, conductor.event("action.performed"))
    assert not NotedDelivery.objects.filter(tenant=conductor.row).exists()

    for _ in range(15):
        post(conductor, conductor.tampered(conductor.event("action.denied")))

    assert NotedDelivery.objects.filter(tenant=conductor.row).count() == NotedDelivery.KEPT
    assert len(recent_deliveries(Source.objects.get(tenant=conductor.row))) == 10


def test_a_repeat_is_acknowledged_though_it_cannot_be_noted(conductor, monkeypatch):
    signed = conductor.event("action.performed")
    post(conductor, signed)
    monkeypatch.setattr("auditlog.ingest.receive._NOTE", "SELECT 1 / 0")

    assert post(conductor, signed).status_code == 202
    assert post(conductor, conductor.tampered(signed)).status_code == 400


def test_a_flood_of_bad_deliveries_is_sampled_and_counted_whole(conductor):
    bad = conductor.tampered(conductor.event("action.denied"))
    from auditlog.ingest import receive as road

    post(conductor, bad)
    road._remembered[conductor.tenant, "conductor"].notes.rate = 0.001
    road._remembered[conductor.tenant, "conductor"].notes.level = 0
    for _ in range(4):
        post(conductor, bad)

    assert NotedDelivery.objects.filter(tenant=conductor.row).count() == 1
    assert (
        "5"
        in text_of(signed_in(conductor, "admin").get("/sources/conductor/")).split("Refused in the last 24 hours")[1]
    )


def test_what_senders_wrote_is_escaped(conductor):
    hostile = '<img src=x onerror="alert(1)">'
    body = json.dumps({"sets": {hostile: "a.b.c"}})
    Client().post(f"/ingest/{conductor.tenant}/conductor", body, content_type="application/json")
    post(conductor, conductor.event("action.performed"))
    client = signed_in(conductor, "admin")

    pages = [
        client.get("/sources/conductor/"),
        client.post("/sources/conductor/", {"act": "try", "body": body, "content_type": "application/json"}),
    ]

    for page in pages:
        assert page.status_code == 200
        assert "<img src=x" not in page.content.decode()
    assert hostile in html.unescape(pages[1].content.decode())


# --- test deliveries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [name for name in formats.NAMES if TRIALS[name].by != "sender"])
def test_a_test_delivery_is_checked_and_writes_nothing(shared, world, format):
    source = shared(format)
    before = leaves(world.row)

    page = signed_in(world, "admin").post(f"/sources/{source.name}/", {"act": "test"})

    assert page.status_code == 200 and "✓ would be taken" in text_of(page)
    assert SECRET not in page.content.decode()
    assert leaves(world.row) == before and not NotedDelivery.objects.filter(tenant=world.row).exists()


@pytest.mark.parametrize("format", formats.NAMES)
def test_what_the_page_says_to_send_is_taken(shared, world, format):
    """The shell command, run by a shell against the real front door."""
    if not all(map(shutil.which, ("sh", "curl", "openssl", "od"))):
        cannot("curl", "needs curl and openssl")
    source, now = shared(format), timezone.now()
    trial = TRIALS[format]
    if trial.by == "sender":
        assert trial.why and trial_delivery(format, SECRET.encode(), now=now) is None
        return
    from config.wsgi import application

    server = make_server("127.0.0.1", 0, application, server_class=_Server, handler_class=_Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/ingest/{world.tenant}/{source.name}"
        command = trial_command(format, address, "TEST_SHARED_SECRET", now=now)
        ran = subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            env={**os.environ, "no_proxy": "*"},
            timeout=30,
            check=False,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert ran.stdout.startswith(("HTTP/1.0 202", "HTTP/1.0 200")), ran.stdout + ran.stderr
    [seen] = recent_deliveries(source)
    assert (seen.taken, seen.refused) == (1, 0)


def test_a_secret_that_is_not_set_is_said_and_never_shown(shared, world):
    source = shared("stripe", secret_env="TEST_UNSET_SECRET")
    client = signed_in(world, "admin")

    assert "not set where these pages run" in text_of(client.get(f"/sources/{source.name}/"))
    assert "secret is not set" in text_of(client.post(f"/sources/{source.name}/", {"act": "test"}))


def test_a_hostile_variable_name_never_reaches_the_shell(now):
    command = trial_command("stripe", "https://log.example/ingest/s", 'X"; rm -rf ~; "', now=now)

    assert "rm -rf" not in command and "$SOURCE_SECRET" in command


def test_a_native_sender_is_shown_the_emitters_command_quoted(world, now):
    add_source(
        world.row,
        "mine",
        format="set",
        issuer="https://x.example/'; id #",
        now=now,
        jwks=Signer("x", "k", seed=1).jwks(),
    )

    page = text_of(signed_in(world, "admin").get("/sources/mine/"))

    assert f"python3 -m auditlog.emit test http://testserver/ingest/{world.tenant}/mine" in page
    assert """--issuer 'https://x.example/'"'"'; id #' --tenant""" in page


def test_bytes_of_the_senders_own_can_be_tried(conductor):
    client = signed_in(conductor, "admin")
    signed = conductor.event("action.performed")
    before = leaves(conductor.row)

    def tried(raw, **more):
        return client.post(
            "/sources/conductor/", {"act": "try", "content_type": "application/secevent+jwt", "body": raw} | more
        )

    assert "✓ would be taken" in text_of(tried(signed.raw.decode()))
    assert "authentication_failed" in text_of(tried(conductor.tampered(signed).raw.decode()))
    wrong = tried("x", headers="no colon here")
    assert wrong.status_code == 422 and "Expected Name: value" in text_of(wrong)
    assert leaves(conductor.row) == before


def test_a_trial_says_what_of_a_delivery_would_not_be_read_and_makes_up_no_time(shared, world):
    shared("cloudevents")
    body = {"specversion": "1.0", "id": "x", "source": "/s", "type": "t", "subject": 7}
    sent = {
        "act": "try",
        "content_type": "application/cloudevents+json",
        "headers": f"Authorization: Bearer {SECRET}",
        "body": json.dumps(body),
    }

    page = text_of(signed_in(world, "admin").post("/sources/cloudevents/", sent))

    assert (
        "✓ would be taken" in page
        and "without a time of its own" in page
        and "not read:" in page
        and "$.subject" in page
    )
    assert "1970" not in page


# --- keys and state -------------------------------------------------------------------------------------------------


def test_a_key_is_rotated_with_overlap(conductor):
    client = signed_in(conductor, "admin")
    old = SourceKey.objects.get(source__tenant=conductor.row)
    new = Signer("https://conductor.example", "k-new", seed=9)
    before = leaves(conductor.row)

    added = client.post("/sources/conductor/", {"act": "add_key", "key": json.dumps(new.jwk)})
    during = post(conductor, conductor.event("action.performed")).status_code
    retired = [client.post("/sources/conductor/", {"act": "retire_key", "key": old.pk}) for _ in range(2)]
    after = post(conductor, conductor.event("action.denied"))

    assert (added.status_code, during, [r.status_code for r in retired]) == (302, 202, [302, 302])
    assert (after.status_code, after.json()["err"]) == (400, "invalid_key")
    assert leaves(conductor.row) == before + 3  # key added, event, key retired (once)


def test_a_jwks_with_one_bad_key_adds_none(conductor):
    keys = {
        "keys": [
            Signer("https://conductor.example", "k2", seed=2).jwk,
            {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "bad"},
        ]
    }

    answer = signed_in(conductor, "admin").post("/sources/conductor/", {"act": "add_key", "key": json.dumps(keys)})

    assert answer.status_code == 422 and "expected curve Ed25519" in text_of(answer)
    assert SourceKey.objects.filter(source__tenant=conductor.row).count() == 1


def test_a_source_is_suspended_and_resumed(conductor):
    client = signed_in(conductor, "admin")

    client.post("/sources/conductor/", {"act": "suspend"})
    refused = post(conductor, conductor.event("action.performed"))
    client.post("/sources/conductor/", {"act": "resume"})

    assert refused.status_code == 403
    assert post(conductor, conductor.event("action.performed")).status_code == 202


def test_rate_and_lag_stand_in_the_list(conductor):
    post(conductor, conductor.event("action.performed"))
    conductor.project()

    page = text_of(signed_in(conductor, "admin").get("/sources/"))

    assert "under 1 / h" in page and "min" in page


def test_a_rehearsal_of_a_delivery_the_ledger_has_writes_nothing(shared, world, now):
    source = shared("cloudevents")
    delivery = trial_delivery("cloudevents", SECRET.encode(), now=now)
    ingest(world.tenant, source.name, delivery, now=now)
    before = leaves(world.row)

    signed_in(world, "admin").post(f"/sources/{source.name}/", {"act": "test"})

    assert leaves(world.row) == before


# --- the published format -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/schema/event.json", "/schema/vectors.json"])
def test_the_published_format_is_public_cacheable_and_linked(conductor, path):
    answer = Client().get(path)

    assert answer.status_code == 200 and json.loads(answer.content)
    assert "public" in answer["Cache-Control"] and answer["Access-Control-Allow-Origin"] == "*"
    assert "Set-Cookie" not in answer
    assert Client().post(path).status_code == 405
    assert f'href="{path}"' in signed_in(conductor, "auditor").get("/formats/").content.decode()


# --- the help -------------------------------------------------------------------------------------------------------

HELP = (Path(__file__).resolve().parents[2] / "dashboard/help/connect.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| ([A-F, ]+) \| `(\S+ --format (\S+) .+)` \|$", HELP, re.MULTILINE)


def test_the_help_names_every_format_once():
    assert sorted(format for *_, format in ROWS) == sorted(formats.NAMES)


@pytest.mark.parametrize(
    ("what", "grades", "command", "format"), ROWS, ids=lambda value: value if "--" not in value else ""
)
def test_what_the_help_says_of_a_format_works(world, tmp_path, what, grades, command, format):
    (tmp_path / "jwks.json").write_text(json.dumps(Signer("https://sender.example", "k1", seed=1).jwks()))
    given = shlex.split(command.replace("jwks.json", str(tmp_path / "jwks.json")))

    call_command("source", "add", *given, "--tenant", world.tenant, stdout=StringIO(), stderr=StringIO())

    added = Source.objects.get(tenant=world.row, name=given[0])
    assert added.format == format
    said = re.findall(r"\b([A-F])\b", formats.named(format).ABOUT.grade)
    assert set(grades.replace(" ", "").split(",")) <= set(said), what
    assert signed_in(world, "admin").get(f"/sources/{added.name}/").status_code == 200
