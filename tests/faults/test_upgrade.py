"""A database of the released state, from before there was one way to configure, is taken over with what stands in it."""

import json

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction

from auditlog.custody.verify_ledger import insert_only_faults, verify
from auditlog.models import LogHead, Membership, Organisation, OwnedName, Payload, Tenant
from auditlog.reads.parties import organisations_of
from auditlog.sources import configuration
from auditlog.sources.configure import add_source
from config import embedded
from tests.faults.conftest import at

BEFORE = "0025_unasked"
OLD_GRANTS = (
    "GRANT USAGE ON SCHEMA public TO {app}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app}",
    "REVOKE UPDATE, DELETE ON auditlog_sourcekey FROM {app}",
    "GRANT UPDATE (kid, retired_at, from_url, left_url) ON auditlog_sourcekey TO {app}",
)
AS_IT_WAS = (
    "INSERT INTO auditlog_tenant (name, title, pepper, witness_quorum, created_at) VALUES ('old', '', '\\x01', 0, now())",
    "INSERT INTO ledger_head (tenant_id, epoch, size, edge, fence) SELECT id, 1, 0, '', 0 FROM auditlog_tenant WHERE name = 'old'",
    "INSERT INTO auditlog_organisation (tenant_id, name, issuers, parties) SELECT id, 'Acme', '{https://a.example}', '{}'"
    " FROM auditlog_tenant WHERE name = 'old'",
    "INSERT INTO auditlog_organisation (tenant_id, name, issuers, parties) SELECT id, 'Globex', '{}', '{}' FROM auditlog_tenant WHERE name = 'old'",
    "INSERT INTO auditlog_ownedname (tenant_id, organisation_id, name, is_private) SELECT o.tenant_id, o.id, lower(o.name), o.name = 'Globex'"
    " FROM auditlog_organisation o",
    "INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)"
    " VALUES ('ann', '!', false, '', '', '', false, true, now())",
    "INSERT INTO auditlog_membership (tenant_id, user_id, role, provider, changes_seen) SELECT t.id, u.id, 'auditor', '', 0"
    " FROM auditlog_tenant t, auth_user u WHERE t.name = 'old'",
)


@pytest.fixture
def released(tmp_path, database):
    """A server with the tables, rights and rows of the version before."""
    with embedded.start(tmp_path / "state", broker=False) as services, at(services):
        configuration._logs.clear()
        call_command("migrate", "auditlog", BEFORE, database="owner", interactive=False, verbosity=0)
        app = connections["default"].settings_dict["USER"]
        with connections["owner"].cursor() as cursor:
            for statement in OLD_GRANTS:
                cursor.execute(statement.format(app=app))
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in AS_IT_WAS:
                cursor.execute(statement)
        yield
        configuration._logs.clear()


@pytest.mark.slow
def test_what_was_configured_before_stands_in_leaves_and_is_changed_one_way_from_then_on(released, now):
    call_command("setup_database", verbosity=0)

    tenant = Tenant.objects.get(name="old")
    assert configuration.differences(tenant) == configuration.differences(None) == {} and insert_only_faults() == []
    last = json.loads(bytes(Payload.objects.filter(tenant=tenant).latest("leaf_index").raw))
    assert (last["change"], last["row"]["name"], last["row"]["private_names"]) == (
        "organisation.found",
        "Globex",
        ["globex"],
    )
    assert organisations_of(tenant).by_issuer == {"https://a.example": "Acme"}
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE auditlog_membership SET role = 'admin'")
    Membership.objects.filter(tenant=tenant).update(role="admin")
    OwnedName.objects.filter(tenant=tenant).update(is_private=False)
    Organisation.objects.filter(name="Globex").delete()
    add_source(tenant, "new", format="stripe", issuer="stripe", now=now)
    assert configuration.differences(tenant) == {}
    assert verify(tenant, public_key=None).leaves == LogHead.objects.get(tenant=tenant).size
