"""One way to configure: as the application role, by SQL, no row of configuration changes but through `configure`, which
names a person and has a leaf state the change; and what it says binds once a published checkpoint covers that leaf.
"""

import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from auditlog.core.errors import NotInForce
from auditlog.custody.erase import retain
from auditlog.custody.verify_ledger import verify
from auditlog.custody.witness import submit_all
from auditlog.database.configured import FIXED, REMEMBERED
from auditlog.database.policies import policies_of
from auditlog.detection.tune import set_policy
from auditlog.export.configure_export import add_export
from auditlog.export.deliver import deliver
from auditlog.ledger.publish import announce_key, publish, take_fence
from auditlog.models import (
    Export,
    ExportStream,
    Leaf,
    LogHead,
    Membership,
    Organisation,
    OwnedName,
    Payload,
    ResponsePolicy,
    RetentionPolicy,
    RulePolicy,
    Source,
    Tenant,
    Witness,
)
from auditlog.projection.project import project
from auditlog.reads.access import issue_token
from auditlog.reads.parties import organisations_of, owned_names, remits_of
from auditlog.response import policy as response_policy
from auditlog.response import receivers
from auditlog.response.deliver import deliver as signal
from auditlog.sources import configuration
from auditlog.sources.configure import add_organisation, add_source, note_source_change, set_source_state
from tests.oracle import KEY

User = get_user_model()


def by_sql(statement, *params):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.rowcount


def configured(who, what, table, *rows):
    return by_sql("SELECT FROM configure(%s, %s, %s, %s)", who, what, table, json.dumps(rows))


def bodies(tenant):
    raws = (
        Payload.objects.filter(tenant=tenant, source_event_id="").order_by("leaf_index").values_list("raw", flat=True)
    )
    return [json.loads(bytes(raw)) for raw in raws]


# --- no other way -------------------------------------------------------------------------------------------------------


def test_the_tables_of_configuration_are_those_whose_changes_leaves_state(database):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname IN ('configuration_stated', 'rule_policy_stated')"
        )
        assert {table for (table,) in cursor.fetchall()} == REMEMBERED.keys()


@pytest.mark.parametrize("table", [*REMEMBERED, *FIXED])
def test_the_application_role_may_not_write_a_table_of_configuration(database, table):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [table],
        )
        columns = [name for (name,) in cursor.fetchall()]
    for statement in (
        f"INSERT INTO {table} DEFAULT VALUES",
        f"DELETE FROM {table} WHERE false",
        f"TRUNCATE {table}",
        *(
            f'UPDATE {table} SET "{name}" = DEFAULT WHERE false'
            for name in columns
            if name not in REMEMBERED.get(table, ())
        ),
    ):
        with pytest.raises(DatabaseError, match="permission denied"):
            by_sql(statement)
    for name in REMEMBERED.get(table, ()):
        by_sql(f'UPDATE {table} SET "{name}" = DEFAULT WHERE false')


def test_what_is_written_through_the_one_way_names_who_did_it(tenant):
    added = {"tenant_id": tenant.pk, "name": "acme", "issuers": ["https://idp.example"], "parties": []}
    assert configured("mallory", "insert", "auditlog_organisation", added) == 1
    row = Organisation.objects.get(tenant=tenant)
    assert row.issuers == ["https://idp.example"]
    assert configured("mallory", "update", "auditlog_organisation", {"id": row.pk, "name": "Acme"}) == 1
    assert configured("eve", "delete", "auditlog_organisation", {"id": row.pk}) == 1

    said = [(body["by"], body["change"]) for body in bodies(tenant) if body["of"] == "organisation"]
    assert said == [
        ("mallory", "organisation.added"),
        ("mallory", "organisation.changed"),
        ("eve", "organisation.removed"),
    ]
    assert configuration.differences(tenant) == {}


@pytest.mark.parametrize("who", ["", "  ", None])
def test_nobody_configures_namelessly(tenant, who):
    with pytest.raises(DatabaseError, match="nobody is named"):
        configured(who, "update", "auditlog_tenant", {"id": tenant.pk, "title": "x"})


@pytest.mark.parametrize(
    "table", ["ledger_leaf", "ledger_checkpoint", "pg_authid", "nothing", "auditlog_source; DROP TABLE x"]
)
def test_the_one_way_writes_nothing_but_configuration(tenant, table):
    with pytest.raises(DatabaseError, match="no table of configuration"):
        configured("mallory", "delete", table, {"id": 1})


def test_columns_that_are_none_are_refused_whole(tenant):
    with pytest.raises(DatabaseError, match="does not exist"):
        configured("mallory", "update", "auditlog_tenant", {"id": tenant.pk, "title = (SELECT 1), name": "x"})


def test_whoever_says_that_a_backup_is_loaded_is_stated_all_the_same(tenant):
    """Only the owner's own session may load rows without stating them."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL answerable.restoring TO 'on'")
        Tenant.objects.filter(pk=tenant.pk).update(title="quiet")

    assert bodies(tenant)[-1]["row"]["title"] == "quiet" and configuration.differences(tenant) == {}


def test_the_orm_goes_the_one_way_whatever_it_is_asked(tenant, now):
    """Values of every type, several rows, expressions, conditions over other tables, cascades."""
    acme, other = (
        Organisation(tenant=tenant, name=name, issuers=["a,b", '"{}'], parties=[]) for name in ("acme", "other")
    )
    Organisation.objects.bulk_create([acme, other])
    OwnedName.objects.create(tenant=tenant, organisation=acme, name="acme.io", is_private=True)
    assert acme.pk and other.pk and Organisation.objects.get(pk=acme.pk).issuers == ["a,b", '"{}']
    assert bodies(tenant)[-1]["row"]["private_names"] == ["acme.io"]
    assert OwnedName.objects.filter(organisation=acme).update(is_private=False) == 1
    assert "private_names" not in bodies(tenant)[-1]["row"]
    source = add_source(tenant, "s", format="stripe", issuer="stripe", organisation=acme, heartbeat_seconds=60, now=now)
    assert (
        Source.objects.filter(organisation=acme, tenant__name=tenant.name).update(provider="x", heartbeat_since=None)
        == 1
    )
    acme.delete()  # takes its names along, and leaves its source to nobody
    source.refresh_from_db()
    assert (source.organisation_id, source.provider, source.heartbeat_since) == (None, "x", None)
    assert Organisation.objects.filter(name="nobody's").delete()[0] == 0

    user = User.objects.create_user(f"u-{tenant.name}", password="x" * 12)
    user.user_permissions.add(*Permission.objects.all()[:2])
    user.user_permissions.add(*Permission.objects.all()[:3])
    group = Group.objects.create(name=tenant.name)
    user.groups.add(group)
    group.permissions.add(Permission.objects.first())
    user.set_password("y" * 12)
    user.save()
    token = issue_token(tenant, name="t", role="auditor", expires_at=now + timedelta(days=1), owner=user)
    assert token and User.objects.get(pk=user.pk).check_password("y" * 12) and user.user_permissions.count() == 3
    group.delete()
    user.delete()
    assert not Membership.objects.filter(tenant=tenant).exists() and Group.objects.filter(name=tenant.name).count() == 0
    assert configuration.differences(tenant) == configuration.differences(None) == {}


def test_a_name_that_is_too_long_is_refused_and_not_cut(tenant):
    with pytest.raises(DatabaseError, match="too long"), transaction.atomic():
        Organisation.objects.create(tenant=tenant, name="x" * 121)


def test_a_rules_policy_that_no_leaf_states_is_not_written(tenant, now):
    made = {"tenant_id": tenant.pk, "rule": "spend.uncapped", "version": 1, "data": {"is_off": True}, "reason": "x", "set_by": "m",
            "person": "m", "at": now.isoformat(), "leaf_index": 0}  # fmt: skip
    with pytest.raises(DatabaseError, match="not what leaf 0 states"):
        configured("mallory", "insert", "rule_policy", made)


# --- in force -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(world, unpublished):
    announce_key(world.row, key=KEY, now=world.now)
    world.publish = lambda: publish(world.row, key=KEY, fence=take_fence(world.row), now=world.now)
    return world


def post(log, name, signed):
    return Client().post(f"/ingest/{log.tenant}/{name}", signed.raw, content_type=signed.content_type)


def test_a_source_sends_once_a_published_checkpoint_covers_it(log):
    log.source("conductor", "https://conductor.example")
    log.configure("conductor")
    signed = log.event("action.performed")

    waiting = post(log, "conductor", signed)
    assert waiting.status_code == 503 and waiting.headers["Retry-After"]
    assert "source 'conductor' waits for the next published checkpoint" in waiting.json()["description"]
    assert not Leaf.objects.filter(tenant=log.row, event_id__isnull=False).exists()

    log.publish()
    assert post(log, "conductor", signed).status_code == 202


def test_a_source_with_a_shared_secret_waits_too(log, monkeypatch):
    monkeypatch.setenv("STRIPE_SECRET", "whsec_x")
    add_source(log.row, "stripe", format="stripe", issuer="stripe", secret_env="STRIPE_SECRET", now=log.now)

    answer = Client().post(f"/ingest/{log.tenant}/stripe", b"{}", content_type="application/json")
    assert answer.status_code == 503

    log.publish()
    assert Client().post(f"/ingest/{log.tenant}/stripe", b"{}", content_type="application/json").status_code == 400


def test_layers_that_were_changed_bind_once_they_are_published_and_the_source_goes_on_until_then(log):
    log.source("conductor", "https://conductor.example", layers=("orchestration",))
    log.configure("conductor")
    log.publish()
    source = Source.objects.select_related("tenant").get(tenant=log.row)
    source.layers, source.speaks_for = ["money"], ["https://conductor.example"]
    source.save(update_fields=["layers", "speaks_for"])
    note_source_change(source, ["layers", "speaks_for"], now=log.now)

    assert post(log, "conductor", log.event("action.performed")).status_code == 202
    assert configuration.sources_in_force(log.row)[source.pk].layers == ["orchestration"] and remits_of(log.row) == {}
    while project(log.row, now=log.now):
        pass

    log.publish()
    assert post(log, "conductor", log.event("action.performed")).status_code == 202
    assert configuration.sources_in_force(log.row)[source.pk].layers == ["money"]
    assert remits_of(log.row) == {"conductor": frozenset({"https://conductor.example"})}


def test_a_source_is_suspended_at_once(log):
    log.source("conductor", "https://conductor.example")
    log.configure("conductor")
    log.publish()
    assert post(log, "conductor", log.event("action.performed")).status_code == 202
    set_source_state(Source.objects.get(tenant=log.row), Source.State.SUSPENDED, now=log.now)

    assert post(log, "conductor", log.event("action.performed")).status_code == 403


def test_an_organisation_answers_for_its_issuers_once_it_is_published_and_until_its_end_is(log):
    log.publish()
    row = add_organisation(log.row, "Acme", issuers=["https://a.example"], owned_names=["acme.io"], now=log.now)
    assert organisations_of(log.row).by_issuer == {} and owned_names(log.row) == ()
    log.publish()
    assert organisations_of(log.row).by_issuer == {"https://a.example": "Acme"}
    assert [one.name for one in owned_names(log.row)] == ["acme.io"]

    Organisation.objects.filter(pk=row.pk).update(issuers=["https://b.example"])
    assert organisations_of(log.row).by_issuer == {"https://a.example": "Acme"}
    log.publish()
    assert organisations_of(log.row).by_issuer == {"https://b.example": "Acme"}

    Organisation.objects.get(pk=row.pk).delete()
    assert organisations_of(log.row).by_issuer == {"https://b.example": "Acme"}
    log.publish()
    assert organisations_of(log.row).by_issuer == {} and owned_names(log.row) == ()


def test_the_record_is_judged_anew_once_what_was_configured_binds_and_not_before(log):
    from auditlog.detection.detect import detect

    def asked():
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM projection_dirty WHERE tenant_id = %s AND kind = 'all'", [log.row.pk])
            return cursor.fetchone()[0]

    log.publish()
    add_organisation(log.row, "Acme", issuers=["https://a.example"], now=log.now)
    project(log.row, now=log.now)
    while detect(log.row, now=log.now):
        pass
    assert asked() == 1  # it waits

    log.publish()
    while detect(log.row, now=log.now + timedelta(seconds=2)):
        pass
    assert asked() == 0


def test_a_rules_policy_is_followed_once_it_is_published(log):
    log.publish()
    set_policy(log.row, "spend.uncapped", {"enabled": False}, reason="test", who="ann", person="user:1", now=log.now)
    assert policies_of(log.row) == {}
    log.publish()
    assert (
        policies_of(log.row)["spend.uncapped"].version == 1 and RulePolicy.objects.filter(tenant=log.row).count() == 1
    )


def test_nothing_goes_out_by_what_is_not_published(log, monkeypatch):
    """An export, a receiver, a response policy, a retention policy and a witness wait for the next checkpoint."""
    monkeypatch.setenv("EXPORT_TOKEN", "t")
    log.publish()
    calls = []

    def call(request, **how):
        calls.append(request.url)
        raise AssertionError("nothing is called")

    export = add_export(
        log.row,
        "siem",
        kind=Export.Kind.OCSF,
        url="https://siem.example/",
        token_env="EXPORT_TOKEN",
        what="events",
        now=log.now,
    )
    stream = ExportStream.objects.get(export=export)
    receiver, _ = receivers.add(log.row, "gate", kind="push", url="https://gate.example/", now=log.now)
    policy = ResponsePolicy.objects.create(
        tenant=log.row, name="p", rule="spend.uncapped", subject="grant", mode="dry_run", severity="high"
    )
    kept = RetentionPolicy.objects.create(tenant=log.row, name="year", keep_days=365)
    Witness.objects.create(tenant=log.row, name="w", url="https://w.example/", vkey="w+x+y")

    assert (
        deliver(stream.pk, now=lambda: log.now, call=call) == 0
        and signal(receiver.pk, now=lambda: log.now, call=call) == 0
    )
    stream.refresh_from_db()
    assert not stream.error
    monkeypatch.setattr(response_policy, "_respond", lambda *args, **how: call(type("R", (), {"url": "policy"})))
    assert policy.pk and response_policy.respond_to_findings(now=lambda: log.now) == []
    with pytest.raises(NotInForce):
        retain(kept, now=log.now)
    assert submit_all(log.row, now=lambda: log.now, post=lambda *given: call(given)) == 0
    assert "next published checkpoint" in Witness.objects.get(tenant=log.row).last_error and calls == []
    log.publish()
    assert retain(kept, now=log.now) == 0
    assert verify(log.row, public_key=KEY.verify_key).leaves == LogHead.objects.get(tenant=log.row).size
    assert timezone.now()
