"""Trust comes from the log, not from a table, and a grade is earned: swapped keys, forged leaves, edited organisations."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client
from django.utils import timezone

from auditlog.core.errors import ConfigurationDiffers, LedgerCorrupt
from auditlog.core.wire.keys import thumbprint
from auditlog.custody.earned import unearned
from auditlog.custody.verify_ledger import verify
from auditlog.custody.watch import watch
from auditlog.formats import Statement, named
from auditlog.ledger.append import append_statements
from auditlog.ledger.publish import announce_key, publish, take_fence
from auditlog.models import ApiToken, Finding, Leaf, LogHead, Membership, Payload, Source, Tenant
from auditlog.reads.access import issue_token
from auditlog.simulator.signing import Signer
from auditlog.sources import configuration
from auditlog.sources.configure import add_key, add_organisation, give_role, retire_key
from auditlog.sources.sender import sender_of
from auditlog.work.health import checks
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.oracle import KEY

User = get_user_model()
MALLORY = Signer("https://conductor.example", "conductor-1", seed=66)


def behind(log, *statements):
    """Somebody with the owner's rights changes configuration without its triggers."""
    tables = ("auditlog_source", "auditlog_sourcekey", "auditlog_organisation", "auditlog_membership", "auditlog_apitoken", "auth_user",
              "auditlog_retentionpolicy")  # fmt: skip
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement, params in statements:
            cursor.execute(statement, params)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # foreign keys
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    configuration._logs.clear()  # what was read may be a second old


def source_of(log):
    return Source.objects.select_related("tenant").get(tenant=log.row, name="conductor")


def found(log, rule):
    watch(log.row, now=log.now)
    return Finding.objects.filter(tenant=log.row, rule=rule).order_by("id")


def verified(log):
    return verify(log.row, public_key=KEY.verify_key)


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_the_application_role_cannot_replace_a_key_nor_take_one_away(log):
    swap = "UPDATE auditlog_sourcekey SET jwk = %s WHERE source_id = %s"
    for statement, params in (
        (swap, [json.dumps(MALLORY.jwk), source_of(log).pk]),
        ("DELETE FROM auditlog_sourcekey WHERE source_id = %s", [source_of(log).pk]),
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, params)
    with (
        pytest.raises(DatabaseError, match="not replaced"),
        transaction.atomic(using="owner"),
        connections["owner"].cursor() as cursor,
    ):
        cursor.execute(swap, [json.dumps(MALLORY.jwk), source_of(log).pk])


def test_under_a_key_that_was_swapped_in_the_table_nothing_is_taken_and_the_swap_is_found(log):
    behind(
        log,
        ("UPDATE auditlog_sourcekey SET jwk = %s WHERE source_id = %s", [json.dumps(MALLORY.jwk), source_of(log).pk]),
    )
    claims = log.event("action.performed").claims

    answer = Client().post(
        f"/ingest/{log.tenant}/conductor", MALLORY.sign_set(claims), content_type="application/secevent+jwt"
    )

    assert answer.status_code == 503 and "jwk" in answer.json()["description"]
    [finding] = found(log, "integrity.configuration_changed")
    assert finding.severity == "critical" and finding.evidence["fields"] == ["jwk"]
    said = next(check for check in checks(now=log.now) if check.name == "configuration")
    assert not said.ok and log.tenant in said.detail
    Finding.objects.filter(tenant=log.row).delete()


def test_a_key_row_that_no_leaf_states_signs_nothing(log):
    behind(log, (
        "INSERT INTO auditlog_sourcekey (source_id, kid, thumbprint, jwk, added_at, from_url, left_url) VALUES (%s, 'm', %s, %s, now(), false, false)",
        [source_of(log).pk, thumbprint(MALLORY.jwk), json.dumps(MALLORY.jwk)],
    ))  # fmt: skip

    with pytest.raises(ConfigurationDiffers, match="no leaf states it"):
        log.send(log.event("action.performed"))


def test_a_key_that_was_retired_and_is_put_back_behind_the_log_signs_nothing(log):
    key = source_of(log).keys.get()
    add_key(source_of(log), Signer("https://conductor.example", "second", seed=9).jwk, now=log.now)
    retire_key(key, now=log.now)
    behind(log, ("UPDATE auditlog_sourcekey SET retired_at = NULL WHERE id = %s", [key.pk]))

    with pytest.raises(ConfigurationDiffers, match="is_retired"):
        log.send(log.event("action.performed"))


def test_whoever_adds_a_key_by_sql_has_a_leaf_appended_that_every_verifier_reads(log):
    second = Signer("https://conductor.example", "second", seed=9)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM configure('mallory', 'insert', 'auditlog_sourcekey', jsonb_build_array(jsonb_build_object('source_id', %s::bigint,"
            " 'kid', 'second', 'thumbprint', %s::text, 'jwk', %s::jsonb, 'added_at', now(), 'from_url', false, 'left_url', false)))",
            [source_of(log).pk, thumbprint(second.jwk), json.dumps(second.jwk)],
        )

    leaf = Leaf.objects.filter(tenant=log.row).latest("leaf_index")
    body = json.loads(bytes(Payload.objects.get(tenant=log.row, leaf_index=leaf.leaf_index).raw))
    assert (body["change"], body["source"], body["kid"]) == (
        "key.added",
        "conductor",
        "second",
    ) and body["by"] == "mallory"
    log.oracle.sign()
    log.oracle.check_from_outside()
    assert verified(log).leaves == leaf.leaf_index + 1


# --- grades -------------------------------------------------------------------------------------------------------------


def forged(log, **how):
    """A leaf written with the application role's INSERT alone, past `ingest`."""
    signed = log.event("action.performed")
    raw = how.pop("raw", None) or MALLORY.sign_set(signed.claims)
    event = named("set").parse(raw, b"", sender_of(source_of(log)))
    given = {
        "source_event_id": event.source_event_id,
        "grade": "A",
        "key": source_of(log).keys.first().thumbprint,
    } | how
    [appended] = append_statements(source_of(log), [Statement(raw=raw, headers=b"", event=event, **given)], now=log.now)
    return appended.leaf_index


FORGERIES = {
    "another's signature": {},
    "no key": {"key": "-"},
    "a key that is on no record": {"key": "A" * 43},
    "no signature at all": {"grade": "D", "key": "-"},
    "a grade below": {"grade": "B"},
}


@pytest.mark.parametrize("how", FORGERIES.values(), ids=FORGERIES)
def test_a_leaf_that_did_not_earn_its_grade_fails_verification_and_is_found(log, how):
    index = forged(log, **how)

    with pytest.raises(LedgerCorrupt, match=f"leaf {index}: grade . is not earned"):
        verified(log)
    [finding] = found(log, "integrity.grade_unearned")
    assert finding.leaves == [index] and finding.severity == "critical" and len(finding.event_ids) == 1


def test_what_was_signed_under_another_name_is_not_earned(log):
    signed = log.event("action.performed")
    index = forged(log, raw=signed.raw, source_event_id="another")

    with pytest.raises(LedgerCorrupt, match=f"leaf {index}: .*stands under 'another'"):
        verified(log)


def test_what_a_key_signs_long_after_it_was_retired_is_not_earned(log):
    add_key(source_of(log), Signer("https://conductor.example", "second", seed=9).jwk, now=log.now)
    retire_key(source_of(log).keys.get(kid="conductor-1"), now=log.now)
    signed = log.event("action.performed")
    log.now += timedelta(minutes=1)
    forged(log, raw=signed.raw)  # it may have been under way
    assert list(unearned(log.row, 0, LogHead.objects.get(tenant=log.row).size)) == []

    log.now += timedelta(days=1)
    index = forged(log, raw=log.event("action.performed").raw)
    with pytest.raises(LedgerCorrupt, match=f"leaf {index}: .*had retired its key"):
        verified(log)


# --- organisations, roles, tokens, accounts -----------------------------------------------------------------------------


def test_an_organisation_that_was_edited_in_the_table_answers_for_nobody(log):
    organisation = add_organisation(log.row, "Acme", issuers=["https://idp.example"], now=log.now)
    log.project()
    behind(
        log,
        ("UPDATE auditlog_organisation SET issuers = '{https://conductor.example}' WHERE id = %s", [organisation.pk]),
    )
    log.send(log.event("action.performed"))

    with pytest.raises(ConfigurationDiffers, match=r"'Acme' is not what leaf .* issuers"):
        log.project()
    [finding] = found(log, "integrity.configuration_changed")
    assert finding.evidence["kind"] == "organisation"
    Finding.objects.filter(tenant=log.row).delete()


def test_a_role_and_a_token_that_were_raised_in_the_table_are_refused(log):
    token = issue_token(log.row, name="t", role="auditor", expires_at=timezone.now() + timedelta(hours=1))
    client = signed_in(log, "auditor")
    ask = {"authorization": f"Bearer {token}"}
    assert Client().get("/api/v1/findings", headers=ask).status_code == 200
    assert client.get("/findings/").status_code == 200
    behind(
        log,
        ("UPDATE auditlog_apitoken SET role = 'admin' WHERE tenant_id = %s", [log.row.pk]),
        ("UPDATE auditlog_membership SET role = 'admin' WHERE tenant_id = %s", [log.row.pk]),
    )

    answer = Client().get("/api/v1/findings", headers=ask)
    assert answer.status_code == 403 and "role differ" in answer.json()["detail"]
    assert client.get("/findings/").status_code == 403


def test_an_account_that_was_made_superuser_in_the_table_is_refused_and_every_tenant_hears(log):
    client = signed_in(log, "auditor")
    user = Membership.objects.get(tenant=log.row).user
    behind(log, ("UPDATE auth_user SET is_superuser = true, is_staff = true WHERE id = %s", [user.pk]))

    assert client.get("/findings/").status_code == 403
    assert client.get("/admin/").status_code == 403
    assert found(log, "integrity.configuration_changed").filter(evidence__kind="user").exists()
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])  # a sign-in does not state the row anew
    assert ("user", user.pk) in configuration.differences(None)
    behind(log, ("UPDATE auth_user SET is_superuser = false, is_staff = false WHERE id = %s", [user.pk]))
    Finding.objects.filter(rule="integrity.configuration_changed").delete()


def last_note(tenant):
    leaf = Leaf.objects.filter(tenant=tenant, event_id=None).latest("leaf_index")
    return json.loads(bytes(Payload.objects.get(tenant=tenant, leaf_index=leaf.leaf_index).raw))


def test_every_path_by_which_rights_change_appends_a_leaf_that_names_who(log):
    user = User.objects.create_user("ann", password="x" * 12)
    service = Tenant.objects.get(name="answerable")
    assert last_note(service)["change"] == "user.added" and last_note(service)["row"]["username"] == "ann"
    call_command("createsuperuser", username="root", email="", interactive=False, verbosity=0)
    assert last_note(service)["row"]["is_superuser"] and last_note(service)["by"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM configure('mallory', 'insert', 'auditlog_membership', jsonb_build_array(jsonb_build_object('tenant_id', %s::bigint,"
            " 'user_id', %s::bigint, 'role', 'auditor', 'provider', '', 'changes_seen', 0)))",
            [log.row.pk, user.pk],
        )
    assert (last_note(log.row)["change"], last_note(log.row)["row"]["role"]) == ("membership.added", "auditor")
    Membership.objects.filter(user=user).update(role="admin")
    assert (last_note(log.row)["change"], last_note(log.row)["row"]["role"]) == ("membership.changed", "admin")
    issue_token(log.row, name="t", role="auditor", expires_at=timezone.now())
    assert last_note(log.row)["row"]["name"] == "t" and "digest" in last_note(log.row)["row"]
    ApiToken.objects.filter(tenant=log.row).delete()
    assert last_note(log.row)["change"] == "token.removed"
    user.delete()
    assert last_note(log.row)["change"] == "membership.removed" and last_note(service)["change"] == "user.removed"
    assert configuration.differences(log.row) == {}
    log.oracle.sign()
    log.oracle.check_from_outside()
    verified(log)


def test_a_verbs_own_leaf_is_the_only_one(log):
    before = LogHead.objects.get(tenant=log.row).size
    give_role(Membership(tenant=log.row, user=User.objects.create_user(f"u-{log.tenant}"), role="auditor"), now=log.now)

    assert LogHead.objects.get(tenant=log.row).size == before + 1
    assert last_note(log.row)["change"] == "role.given" and last_note(log.row)["by"].startswith("operator ")


def test_the_services_own_log_states_its_accounts_and_nothing_in_it_differs(log):
    User.objects.create_user(f"u-{log.tenant}")
    service = Tenant.objects.get(name="answerable")
    watch(service, now=log.now)

    assert configuration.differences(service) == configuration.differences(None) == {}
    assert not Finding.objects.filter(tenant=service).exists()


def test_what_is_taken_back_states_nothing(log):
    before = LogHead.objects.get(tenant=log.row).size
    with pytest.raises(RuntimeError), transaction.atomic():
        give_role(
            Membership(tenant=log.row, user=User.objects.create_user(f"u-{log.tenant}"), role="auditor"), now=log.now
        )
        raise RuntimeError

    assert LogHead.objects.get(tenant=log.row).size == before and configuration.differences(log.row) == {}


# --- in force -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def log_in_force(world, unpublished):
    """A log whose source's key a published checkpoint covers."""
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    announce_key(world.row, key=KEY, now=world.now)
    publish(world.row, key=KEY, fence=take_fence(world.row), now=world.now)
    return world


def test_a_key_binds_once_a_published_checkpoint_covers_it(log_in_force):
    log, second = log_in_force, Signer("https://conductor.example", "second", seed=9)
    add_key(source_of(log), second.jwk, now=log.now)
    raw = second.sign_set(log.event("action.performed").claims)

    def post(body):
        return Client().post(f"/ingest/{log.tenant}/conductor", body, content_type="application/secevent+jwt")

    waiting = post(raw)
    assert (
        waiting.status_code == 503
        and waiting.headers["Retry-After"]
        and "next published checkpoint" in waiting.json()["description"]
    )
    assert post(log.event("action.performed").raw).status_code == 202  # the others go on
    batch = json.dumps({"sets": {"x": raw.decode()}})
    assert Client().post(f"/ingest/{log.tenant}/conductor", batch, content_type="application/json").status_code == 503

    publish(log.row, key=KEY, fence=take_fence(log.row), now=log.now)

    assert post(raw).status_code == 202


def test_a_role_and_a_token_bind_once_a_published_checkpoint_covers_them(log_in_force):
    log = log_in_force
    token = issue_token(log.row, name="t", role="auditor", expires_at=timezone.now() + timedelta(hours=1))
    client = signed_in(log, "auditor")
    ask = {"authorization": f"Bearer {token}"}

    answer = Client().get("/api/v1/findings", headers=ask)
    assert answer.status_code == 403 and "waits for the next published checkpoint" in answer.json()["detail"]
    assert client.get("/findings/").status_code == 403

    publish(log.row, key=KEY, fence=take_fence(log.row), now=log.now)

    assert Client().get("/api/v1/findings", headers=ask).status_code == 200
    assert client.get("/findings/").status_code == 200


def test_an_admin_is_told_of_every_change_until_they_have_looked(log):
    client = signed_in(log, "admin")
    client.get("/changes/")
    add_key(source_of(log), Signer("https://conductor.example", "second", seed=9).jwk, now=log.now)

    assert "1 change of configuration" in text_of(client.get("/"))
    page = text_of(client.get("/changes/"))
    assert "key.added" in page and "operator " in page
    assert "change of configuration" not in text_of(client.get("/"))
    assert signed_in(log, "finance").get("/changes/").status_code == 403
