"""Commands: what they do, what they print, and how they refuse."""

import json
import os
import time
from datetime import timedelta
from functools import partial
from io import StringIO
from threading import Thread
from uuid import uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client

from auditlog.custody.inspect_log import verify_window
from auditlog.ledger.publish import publish, take_fence
from auditlog.models import Event, Finding, Leaf, ProjectionState, Source, Tenant, Verification
from auditlog.simulator.signing import Signer
from auditlog.sources import source_secrets
from tests.oracle import KEY

ID, BOTS = "https://id.acme.example", "https://bots.example"


def run(*arguments, **options):
    """What a command prints."""
    out = StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


# --- tenant and source ----------------------------------------------------------------------------------------------


def test_a_tenant_is_added_once_with_a_log_of_its_own(database):
    name = f"new-{uuid4().hex[:8]}"

    assert f"urn:answerable:{name}" in run("tenant", "add", name)

    assert name in run("tenant", "list").split()
    assert Leaf.objects.filter(tenant__name=name).count() == 1
    with pytest.raises(CommandError, match="already"):
        run("tenant", "add", name)
    for bad in ("Upper", "with space", "", "-dash", "x" * 49, "a/b"):
        with pytest.raises(CommandError):
            run("tenant", "add", "--", bad)
        assert not Tenant.objects.filter(name=bad).exists()


@pytest.fixture
def keys(tmp_path):
    """A signer, and its public keys in a file."""
    signer = Signer("https://orders.example", "k1", seed=3)
    (tmp_path / "jwks.json").write_text(json.dumps(signer.jwks()))
    signer.file = tmp_path / "jwks.json"
    return signer


def add(tenant, name, *more, format="set", issuer="https://orders.example"):
    return run("source", "add", name, "--format", format, "--issuer", issuer, "--tenant", tenant.name, *more)


def post(tenant, source, body):
    return Client().post(f"/ingest/{tenant.name}/{source}", body, content_type="application/secevent+jwt").status_code


def statement(world, type="action.performed"):
    return world.event(type).claims | {"iss": "https://orders.example"}


def test_a_source_is_accepted_as_soon_as_the_command_returns_refused_once_suspended_and_taken_when_resumed(world, keys):
    sets = [keys.sign_set(statement(world)) for _ in range(4)]
    before = post(world.row, "orders", sets[0])

    said = add(
        world.row, "orders", "--jwks", keys.file, "--layer", "orchestration", "--speaks-for", BOTS, "--provider", "shop"
    )
    added = post(world.row, "orders", sets[0])
    run("source", "suspend", "orders", "--tenant", world.tenant)
    suspended = post(world.row, "orders", sets[1])
    run("source", "resume", "orders", "--tenant", world.tenant)
    resumed = post(world.row, "orders", sets[1])

    assert (before, added, suspended, resumed) == (404, 202, 403, 202)
    assert f"POST /ingest/{world.tenant}/orders" in said
    source = Source.objects.get(tenant=world.row, name="orders")
    assert (source.layers, source.speaks_for, source.provider) == (["orchestration"], [BOTS], "shop")


def test_adding_a_source_waits_for_the_checkpoint_that_puts_its_keys_in_force(world, keys, unpublished):
    publish(world.row, key=KEY, fence=(fence := take_fence(world.row)), now=world.now)  # somebody signs here

    def sign_soon():
        time.sleep(0.6)
        publish(world.row, key=KEY, fence=fence, now=world.now)
        connections.close_all()

    publisher = Thread(target=sign_soon)
    publisher.start()
    add(world.row, "orders", "--jwks", keys.file)
    publisher.join()

    assert post(world.row, "orders", keys.sign_set(statement(world))) == 202


def test_the_list_of_sources_names_state_layers_and_keys_and_no_secret(world, keys, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", "whsec_not_shown")
    add(world.row, "orders", "--jwks", keys.file)
    add(world.row, "hook", "--secret-env", "HOOK_SECRET", format="stripe", issuer="https://stripe.example")
    run("source", "suspend", "hook", "--tenant", world.tenant)

    listed = run("source", "list", "--tenant", world.tenant)

    assert [line.split("\t") for line in listed.splitlines()] == [
        ["hook", "stripe", "suspended", "https://stripe.example", "all layers", "no keys"],
        ["orders", "set", "active", "https://orders.example", "all layers", "k1"],
    ]
    assert "whsec" not in listed


def test_a_shared_secret_is_kept_for_the_running_service_in_a_file_of_0600_and_never_in_the_database(
    world, monkeypatch
):
    variable = f"HOOK_{world.tenant}".upper().replace("-", "_")
    monkeypatch.setenv(variable, "whsec_kept_in_a_file")
    add(world.row, "hook", "--secret-env", variable, format="stripe", issuer="https://stripe.example")
    monkeypatch.delenv(variable)  # the service was started without it

    from django.conf import settings

    file = settings.STATE_DIR / "secrets" / variable
    assert source_secrets.source_secret(variable, world.row) == b"whsec_kept_in_a_file"
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM auditlog_source s WHERE s::text LIKE '%whsec_kept%'")
        assert cursor.fetchone() == (0,)


def test_a_source_that_cannot_work_is_not_added(world, keys, tmp_path):
    add(world.row, "orders", "--jwks", keys.file)
    (tmp_path / "text.json").write_text("not json")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty.json").write_text('{"keys": []}')
    (tmp_path / "private.json").write_text(
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}]})
    )
    other = partial(add, world.row, "other", issuer="https://other.example")
    cases = {
        "name taken": lambda: add(world.row, "orders", "--jwks", keys.file, issuer="https://another.example"),
        "issuer taken": lambda: add(world.row, "other", "--jwks", keys.file),
        "no keys": other,
        "no file": lambda: other("--jwks", tmp_path / "missing.json"),
        "not json": lambda: other("--jwks", tmp_path / "text.json"),
        "no key set": lambda: other("--jwks", tmp_path / "list.json"),
        "empty": lambda: other("--jwks", tmp_path / "empty.json"),
        "symmetric": lambda: other("--jwks", tmp_path / "private.json"),
        "format": lambda: add(world.row, "other", format="nonsense"),
        "layer": lambda: other("--jwks", keys.file, "--layer", "nonsense"),
        "tenant": lambda: run(
            "source", "add", "x", "--format", "set", "--issuer", "https://x.example", "--tenant", "nobody"
        ),
        "two places": lambda: other("--jwks", keys.file, "--jwks-url", "https://keys.example/jwks"),
        "plain http": lambda: other("--jwks-url", "http://keys.example/jwks"),
        "a file by url": lambda: other("--jwks-url", f"file://{keys.file}"),
        "suspend nobody": lambda: run("source", "suspend", "nobody", "--tenant", world.tenant),
    }

    for name, attempt in cases.items():
        with pytest.raises(CommandError):
            attempt()
            pytest.fail(name)
    assert list(Source.objects.filter(tenant=world.row).values_list("name", flat=True)) == ["orders"]


def test_keys_are_read_from_an_address(world, keys, outside, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    outside.answer = lambda method, path, *_: (200, {}, keys.file.read_bytes()) if path == "/jwks" else (404, {}, b"")

    with pytest.raises(CommandError, match="answered 404"):
        add(world.row, "orders", "--jwks-url", f"{outside.url}/missing", "--allow-private")
    with pytest.raises(CommandError, match="private or loopback"):
        add(world.row, "orders", "--jwks-url", f"{outside.url}/jwks")
    said = add(world.row, "orders", "--jwks-url", f"{outside.url}/jwks", "--allow-private")

    assert "1 keys read" in str(said)
    assert post(world.row, "orders", keys.sign_set(statement(world))) == 202


# --- replay ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(world, tmp_path):
    """A world with two sources, and a way to write what they signed into a file."""
    world.source("conductor", "https://conductor.example")
    world.source("registrar", "https://registrar.example")
    for name in world.sources:
        world.configure(name)
    world.ada, world.bot = world.human("ada", issuer=ID), world.agent("bot", issuer=BOTS)
    world.root = world.grant(world.ada, world.bot, actions=["**"], resources=["**"], at=world.now - timedelta(days=1))
    world.bad = world.registers("won-der.club", price_minor=900, grant=world.root, intent={"targets": ["wonder.club"]})

    def write(*lines):
        file = tmp_path / f"{uuid4()}.txt"
        file.write_bytes(b"\n".join(getattr(line, "raw", line) for line in lines) + b"\n")
        return file

    world.write = write
    return world


def replay(world, file, *more):
    return json.loads(run("replay", file, "--tenant", world.tenant, *more))


def test_a_replay_takes_each_line_by_its_issuer_and_tells_what_was_found(recorded):
    theirs = recorded.event("domain.renewed", source="registrar")
    file = recorded.write(recorded.root, b"", recorded.bad, theirs)

    summary = replay(recorded, file)

    assert summary == {"taken": 3, "repeated": 0, "refused": {}, "errors": [], "findings": summary["findings"]}
    assert summary["findings"]["intent.domain_mismatch"] == 1
    assert dict(Event.objects.filter(tenant=recorded.row).values_list("source_event_id", "source")) == {
        recorded.root.jti: "conductor", recorded.bad.jti: "conductor", theirs.jti: "registrar",
    }  # fmt: skip


def test_a_replay_again_repeats_everything_and_changes_nothing(recorded):
    file = recorded.write(recorded.root, recorded.bad)
    first = replay(recorded, file)
    leaves = Leaf.objects.filter(tenant=recorded.row).count()

    again = replay(recorded, file)

    assert again == first | {"taken": 0, "repeated": 2}
    assert Leaf.objects.filter(tenant=recorded.row).count() == leaves


def test_a_bad_line_is_told_by_its_number_and_the_rest_is_taken(recorded):
    good = recorded.event("action.performed")
    stranger = Signer("https://stranger.example", "s", seed=5).sign_set(
        good.claims | {"iss": "https://stranger.example"}
    )
    file = recorded.write(
        recorded.root,
        recorded.tampered(good),
        b"not a jws",
        good,
        recorded.equivocated(good),
        stranger,
        b"{",
        b'{"a": 1}',
        b"a.b.c",
    )

    summary = replay(recorded, file)

    assert summary["taken"] == 2
    assert [(e["line"], e["err"]) for e in summary["errors"]] == [
        (2, "authentication_failed"), (3, "invalid_request"), (5, "duplicate_conflict"), (6, "invalid_issuer"),
        (7, "invalid_request"), (8, "invalid_request"), (9, "invalid_request"),
    ]  # fmt: skip
    assert summary["refused"] == {
        "authentication_failed": 1,
        "duplicate_conflict": 1,
        "invalid_issuer": 1,
        "invalid_request": 4,
    }
    assert all(error["description"] for error in summary["errors"])
    assert {"integrity.signature_failed", "integrity.duplicate_conflict"} <= set(summary["findings"])


def test_the_issuer_in_a_line_only_chooses_whose_key_must_fit(recorded):
    forged = Signer("https://conductor.example", "conductor-1", seed=99).sign_set(
        recorded.event("action.performed").claims
    )

    summary = replay(recorded, recorded.write(forged))

    assert (summary["taken"], summary["refused"]) == (0, {"authentication_failed": 1})


def test_a_named_source_gets_every_line(recorded):
    file = recorded.write(recorded.root, recorded.event("domain.renewed", source="registrar"))

    summary = replay(recorded, file, "--source", "conductor")

    assert summary["taken"] == 1 and [e["line"] for e in summary["errors"]] == [2]
    with pytest.raises(CommandError, match="nobody"):
        replay(recorded, file, "--source", "nobody")


def test_webhooks_and_batches_are_replayed_too(recorded):
    recorded.stripe_source("stripe")
    recorded.configure("stripe")
    charge = recorded.stripe_event(
        "charge.succeeded", {"id": "ch_1", "object": "charge", "amount": 5, "currency": "usd"}
    )
    webhook = json.dumps({"body": charge.raw.decode(), "headers": charge.headers}).encode()
    one, two = recorded.event("action.performed"), recorded.event("action.denied")
    batch = json.dumps({"sets": {s.jti: s.raw.decode() for s in (one, recorded.tampered(two))}}).encode()

    assert replay(recorded, recorded.write(webhook), "--source", "stripe")["taken"] == 1
    summary = replay(recorded, recorded.write(batch))

    assert (summary["taken"], summary["refused"]) == (1, {"authentication_failed": 1})


def test_findings_of_other_events_are_not_counted(recorded):
    replay(recorded, recorded.write(recorded.root, recorded.bad))

    assert replay(recorded, recorded.write(recorded.event("action.performed", grant=recorded.root)))["findings"] == {}


def test_an_empty_file_is_an_empty_replay_and_a_missing_one_an_error(recorded, tmp_path):
    assert replay(recorded, recorded.write())["taken"] == 0
    for unreadable in (tmp_path / "missing", tmp_path):
        with pytest.raises(CommandError, match="cannot be read"):
            replay(recorded, unreadable)
    with pytest.raises(CommandError, match="no tenant"):
        run("replay", recorded.write(), "--tenant", "nobody")


# --- verify_ledger and rebuild --------------------------------------------------------------------------------------


def vandalise(statement, *params):
    """As a superuser would: past the triggers."""
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"]) as own:
        table = statement.split()[1]
        own.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        own.execute(statement, params)
        own.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_a_good_ledger_is_told_leaf_by_leaf(recorded):
    recorded.send(recorded.root, recorded.bad)

    said = run("verify_ledger", "--tenant", recorded.tenant)

    assert f"{recorded.tenant}: " in said
    assert f"{Leaf.objects.filter(tenant=recorded.row).count():,} leaves" in said


def test_the_first_bad_leaf_is_named_and_the_exit_is_1(recorded, capfd):
    *_, first, second = recorded.send(*(recorded.event("action.performed") for _ in range(3)))
    for leaf in (first, second):
        vandalise(
            "UPDATE ledger_payload SET raw = 'forged' WHERE tenant_id = %s AND leaf_index = %s",
            recorded.row.pk,
            leaf.leaf_index,
        )
    err = StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("verify_ledger", "--tenant", recorded.tenant, stdout=StringIO(), stderr=err)

    assert ended.value.code == 1
    assert f"{recorded.tenant}: leaf {first.leaf_index}:" in err.getvalue()
    assert f"leaf {second.leaf_index}:" not in err.getvalue()


def test_a_verification_that_was_stopped_is_gone_on_with_and_one_that_found_something_begins_anew(recorded):
    recorded.send_together([recorded.event("action.performed") for _ in range(700)])
    size = Leaf.objects.filter(tenant=recorded.row).count()
    verify_window(recorded.row, start=0, limit=512, now=lambda: recorded.now)  # and there it was stopped

    assert f"{recorded.tenant}: {size - 512:,} leaves after the first 512 and" in run(
        "verify_ledger", "--tenant", recorded.tenant, "--resume"
    )
    assert f"{recorded.tenant}: {size:,} leaves and" in run(
        "verify_ledger", "--tenant", recorded.tenant, "--resume"
    )  # its end was reached
    vandalise("UPDATE ledger_payload SET raw = 'forged' WHERE tenant_id = %s AND leaf_index = 600", recorded.row.pk)
    verify_window(recorded.row, start=0, limit=512, now=lambda: recorded.now)
    for _ in range(2):
        with pytest.raises(SystemExit):
            run("verify_ledger", "--tenant", recorded.tenant, "--resume")
    last = Verification.objects.filter(tenant=recorded.row).latest("id")
    assert last.first_leaf == 0 and last.problem.startswith("leaf 600:")


@pytest.mark.parametrize("command", ["verify_ledger", "rebuild"])
def test_a_tenant_that_is_not_there_is_no_good_answer(database, command):
    with pytest.raises(CommandError, match="no tenant"):
        run(command, "--tenant", "nobody")


def test_a_rebuild_gives_the_same_findings_triage_and_rows_in_a_new_generation(recorded):
    from tests.integration.test_project import snapshot

    recorded.send(recorded.root, recorded.bad)
    recorded.settle()
    Finding.objects.filter(tenant=recorded.row, rule="intent.domain_mismatch").update(state="resolved")
    before = snapshot(recorded.row, ignoring={"generation"})
    findings = list(Finding.objects.filter(tenant=recorded.row).values("id", "rule", "state", "title"))
    generation = ProjectionState.objects.get(tenant=recorded.row, is_current=True).generation

    said = run("rebuild", "--tenant", recorded.tenant)

    assert f"{recorded.tenant}: {Leaf.objects.filter(tenant=recorded.row).count():,} leaves" in said
    assert snapshot(recorded.row, ignoring={"generation"}) == before
    assert list(Finding.objects.filter(tenant=recorded.row).values("id", "rule", "state", "title")) == findings
    assert ProjectionState.objects.get(tenant=recorded.row, is_current=True).generation > generation


# --- setup_database -------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(monkeypatch):
    """Sets the role of the owner's or the application's connection."""

    def set_role(alias, user):
        monkeypatch.setitem(connections[alias].settings_dict, "USER", user)

    return set_role


def test_one_role_for_owner_and_application_is_refused(database, roles):
    roles("owner", connections["default"].settings_dict["USER"])

    with pytest.raises(CommandError, match="must not own the ledger"):
        run("setup_database")


def test_without_an_owner_nothing_is_set_up(database, roles):
    roles("owner", "")

    with pytest.raises(CommandError, match="DATABASE_OWNER_URL"):
        run("setup_database")


def test_setting_up_twice_changes_nothing(recorded):
    recorded.send(recorded.root)

    assert "tables are up to date" in run("setup_database")

    assert "leaves" in run("verify_ledger", "--tenant", recorded.tenant)
