"""The security log: what is kept of who came in, was refused or took something out, who reads it, and that nothing is lost."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone
from nacl.signing import SigningKey
from structlog.testing import capture_logs

from auditlog.custody import security
from auditlog.custody.security import Asked, log_of, note, read
from auditlog.custody.verify_ledger import verify
from auditlog.export.siem import end_of, read_page
from auditlog.ingest.receive import Strangers
from auditlog.ledger.publish import publish, take_fence
from auditlog.models import Membership, Tenant
from auditlog.reads.access import issue_token
from auditlog.sources.configure import add_tenant, give_role
from auditlog.work.health import work
from config import door
from tests.integration.test_dashboard_pages import signed_in
from tests.ocsf_schema import problems

KEY = SigningKey(b"\x07" * 32)
PASSWORD = "a long passphrase of tests"


@pytest.fixture
def people(tenant):
    """A client for each role, signed in by the page."""
    clients = {}
    for role in ("admin", "auditor", "security", "finance", "abuse"):
        user = get_user_model().objects.create_user(f"{role}-{tenant.name}", password=PASSWORD)
        give_role(
            Membership(tenant=tenant, user=user, role=role, provider="x" if role == "abuse" else ""), now=timezone.now()
        )
        clients[role] = Client(REMOTE_ADDR="198.51.100.7")
        assert clients[role].post("/login/", {"username": user.username, "password": PASSWORD}).status_code == 302
    return clients


def noted(tenant, **asked):
    return read(tenant, Asked(**asked), before=None, limit=1_000)[0]


def test_signing_in_failing_to_and_signing_out_are_noted_with_who_and_from_where(tenant, people):
    name = f"admin-{tenant.name}"
    Client(REMOTE_ADDR="203.0.113.9").post("/login/", {"username": name, "password": "hunter2-wrong"})
    people["admin"].post("/logout/")

    out, failed, *_ = noted(tenant, who=name)
    assert (out.kind, out.who, out.address) == ("signout", name, "198.51.100.7")
    assert (failed.kind, failed.address) == ("signin.failed", "203.0.113.9")
    assert {n.kind for n in noted(tenant)} == {"signin.succeeded", "signin.failed", "signout"}


def test_no_password_token_or_query_is_ever_kept(tenant, people):
    service = Tenant.objects.get(name="answerable")
    Client().post("/login/", {"username": "MyPassw0rd-in-the-wrong-field", "password": "hunter2-wrong"})
    Client().get("/api/v1/events?secret=s3cr3t", headers={"authorization": "Bearer ans_stolen"})
    people["abuse"].get("/api/v1/grants?secret=s3cr3t")

    with connection.cursor() as cursor:
        owns = [log_of(one).pk for one in (tenant, service)]
        cursor.execute(
            "SELECT string_agg(encode(raw, 'escape'), '') FROM ledger_payload WHERE tenant_id = ANY(%s)", [owns]
        )
        kept = cursor.fetchone()[0]
    assert "signin.failed" in kept and "access.refused" in kept
    for secret in ("Passw0rd", "hunter2", "ans_stolen", "s3cr3t", PASSWORD):
        assert secret not in kept


def test_refusals_say_who_wanted_what(tenant, people):
    assert people["abuse"].get("/integrity/").status_code == 403
    token = issue_token(tenant, name="of finance", role="finance", expires_at=timezone.now() + timedelta(days=1))
    assert (
        Client().get("/api/v1/export/ocsf?what=security", headers={"authorization": f"Bearer {token}"}).status_code
        == 403
    )

    api, page, *_ = noted(tenant, kind="access.refused")
    assert (page.who, page.what, page.result) == (f"abuse-{tenant.name}", "GET /integrity/", "403")
    assert (api.who, api.what) == ("token of finance", "GET /api/v1/export/ocsf")


def test_what_is_taken_out_is_noted(world):
    world.source("conductor", "https://conductor.example")
    [placed] = world.send(world.event("action.performed"))
    world.settle()
    token = {
        "authorization": f"Bearer {issue_token(world.row, name='t', role='admin', expires_at=timezone.now() + timedelta(days=1))}"
    }
    assert Client().get(f"/api/v1/events/{placed.event_id}/raw", headers=token).status_code == 200
    assert Client().get("/api/v1/export/ocsf?what=events", headers=token).status_code == 200

    assert [n.kind for n in noted(world.row)] == ["record.exported", "record.revealed"]


def test_it_is_a_log_of_its_own_that_is_signed_and_verified_like_any_other(tenant, people):
    own = log_of(tenant)
    publish(own, key=KEY, fence=take_fence(own), now=timezone.now())

    assert own.pk != tenant.pk and verify(own, public_key=KEY.verify_key).leaves >= 5


def test_what_is_rolled_back_happened_all_the_same(tenant):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        note(tenant, "record.exported", who="sam", now=timezone.now())
        raise ZeroDivisionError

    assert [n.who for n in noted(tenant)] == ["sam"]


def test_only_admins_and_auditors_read_it_and_nobody_another_tenants(tenant, people, now):
    other = add_tenant(f"{tenant.name}-other", now=now)
    note(other, "signin.failed", who="of-the-other-tenant", now=now)
    note(None, "signin.failed", who="of-the-service", now=now)

    assert {role: client.get("/security-log/").status_code for role, client in people.items()} == {
        "admin": 200, "auditor": 200, "security": 403, "finance": 403, "abuse": 403,
    }  # fmt: skip
    page = people["admin"].get("/security-log/").content.decode()
    assert f"auditor-{tenant.name}" in page and "of-the-other-tenant" not in page and "of-the-service" not in page
    assert (
        people["admin"].get("/security-log/?of=service").status_code == 403
    )  # an admin of one tenant, and no superuser
    assert Client().get("/security-log/").status_code == 302


def test_its_page_is_filtered_and_paged(tenant, people, now):
    for number in range(120):
        note(tenant, "access.refused", who=f"<i>who-{number}", what="GET /x\u202e", address="192.0.2.1", now=now)

    first = people["auditor"].get("/security-log/?kind=access.refused").content.decode()
    assert (
        first.count("<tr>") == 51
        and "who-119" in first
        and "who-69" not in first
        and "signed in</td>" not in first
        and "<i>who" not in first
    )
    older = first.split('href="?')[-1].split('"')[0].replace("&amp;", "&")
    second = people["auditor"].get(f"/security-log/?{older}").content.decode()
    assert "who-69" in second and "who-119" not in second
    assert "who-7<" in people["auditor"].get("/security-log/?who=WHO-7&address=192.0.2.1").content.decode()
    for odd in ("before=x", "before=9999999999999999999", "kind=%00", "who=%00", "address=%27"):
        assert people["auditor"].get(f"/security-log/?{odd}").status_code == 200


def test_it_goes_into_a_siem_by_the_way_that_everything_goes(tenant, people, now):
    note(tenant, "access.refused", who="ev|il=\n", what="GET /x", address="192.0.2.1", result="403", now=now)
    note(tenant, "configuration.changed", who="sam", what="POST /admin/", address="not an address", now=now)

    lines = read_page(tenant, "security", after=0, size=100).lines
    objects = [json.loads(line) for line in lines]
    assert [problem for one in objects for problem in problems(one)] == []
    assert {one["class_uid"] for one in objects} == {3002, 6003} and len(
        {one["metadata"]["uid"] for one in objects}
    ) == len(lines) == 7
    page = read_page(tenant, "security", after=0, size=3)
    assert page.more and read_page(tenant, "security", after=page.next, size=100).lines == lines[3:]
    assert read_page(tenant, "security", after=end_of(tenant, "security"), size=3).lines == []
    cef = read_page(tenant, "security", format="cef", after=0, size=100).lines
    assert all(line.startswith(b"CEF:0|") and line.count(b"\n") == 1 for line in cef)


def test_that_it_cannot_be_written_is_told_and_stops_nobody(tenant, people, monkeypatch):
    def full(*_, **__):
        raise DatabaseError("disk full")

    with monkeypatch.context() as patched, capture_logs() as said:
        patched.setattr(security, "append_note", full)
        assert people["abuse"].get("/integrity/").status_code == 403
        assert people["admin"].get("/").status_code == 200
        [check] = [c for c in work(now=timezone.now(), broker_ok=True) if c.name == "security log"]
        assert not check.ok and "DatabaseError" in check.detail
        assert "could not be written" in people["admin"].get("/security-log/").content.decode()
    [told] = [one for one in said if one["event"] == "security event not written"]
    assert told["log_level"] == "critical" and told["what"] == "GET /integrity/"

    people["abuse"].get("/integrity/")
    [check] = [c for c in work(now=timezone.now(), broker_ok=True) if c.name == "security log"]
    assert check.ok


def test_a_flood_of_strangers_is_counted_and_not_written_one_by_one(tenant, monkeypatch):
    with connection.cursor() as cursor:
        cursor.execute("SELECT service_tenant()")
    service = Tenant.objects.get(name="answerable")
    monkeypatch.setattr(security, "_of_strangers", Strangers(1, most=10))  # one a second: no machine is as slow as that
    note(None, "signout", who="before", now=timezone.now())
    before = noted(service)[0].leaf_index

    for _ in range(300):
        Client(REMOTE_ADDR="203.0.113.77").get("/api/v1/events")
    note(None, "signout", who="after", now=timezone.now())

    rows = [n for n in noted(service) if n.leaf_index > before]
    assert len(rows) < 250 and sum(n.left_out for n in rows) + len(rows) == 301


def test_the_admin_site_signs_in_by_the_same_door(database):
    answer = Client().get("/admin/login/?next=/admin/")

    assert answer.status_code == 302 and answer["Location"].startswith("/login/?next=")
    assert Client().post("/admin/login/", {"username": "x", "password": "y"}).status_code in (302, 405)


def test_bytes_that_a_page_shows_are_noted_with_who_looked(world):
    world.source("conductor", "https://conductor.example")
    [placed] = world.send(world.event("action.performed"))
    world.settle()
    client = signed_in(world, "auditor")
    client.get(f"/events/{placed.event_id}/")
    client.get("/events/")

    [shown] = noted(world.row, kind="record.revealed")
    assert shown.who.startswith("auditor-") and shown.what == f"GET /events/{placed.event_id}/"


def test_packets_and_evidence_that_are_taken_out_are_noted():
    assert "case-packet" in door.EXPORTED and "case-evidence-file" in door.EXPORTED


def test_a_sender_that_does_not_prove_itself_is_noted_and_one_that_only_errs_is_not(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    good = world.event("action.performed")
    for body in (good.raw[:-8] + b"AAAAAAAA", b"not a jws", good.raw):
        Client(REMOTE_ADDR="203.0.113.31").post(
            f"/ingest/{world.tenant}/conductor", body, content_type="application/secevent+jwt"
        )

    [refused] = noted(world.row, kind="delivery.refused")
    assert (refused.address, refused.result) == ("203.0.113.31", "400") and refused.what in door.UNPROVEN
    assert refused.who == f"a sender at /ingest/{world.tenant}/conductor"


def test_what_is_changed_by_command_is_noted_with_the_operator(world, capsys):
    world.source("conductor", "https://conductor.example")
    [placed] = world.send(world.event("action.performed"))
    world.settle()
    name = world.row.name
    call_command("source", "suspend", "conductor", tenant=name)
    call_command("source", "list", tenant=name)
    call_command("hold", "add", "0", "1", tenant=name, who="sam", reason="a case")
    leaf = noted(world.row)[0]
    call_command("hold", "list", tenant=name)
    call_command("tenant", "add", f"{name}-x")

    changed = noted(world.row, kind="configuration.changed")
    assert [one.what for one in changed] == ["hold add, said by sam", "source suspend conductor"]
    assert all(one.who.startswith("operator ") for one in changed) and leaf.kind == "configuration.changed"
    assert noted(Tenant.objects.get(name=f"{name}-x"))[0].what == f"tenant add {name}-x" and placed
