"""The admin site obeys tenants: every page, action and field of every model, for staff of one tenant against another's rows."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from auditlog.export.configure_export import add_export
from auditlog.models import ApiToken, Finding, LedgerEntry, Membership, RefusalCount
from auditlog.reads.access import issue_token
from auditlog.sources.configure import add_organisation, add_tenant
from tests.world import TenantWorld

MODELS = [(model._meta.app_label, model._meta.model_name) for model in admin.site._registry]
ROLES = ("admin", "security", "finance", "auditor", "")


@pytest.fixture
def theirs(tenant, now):
    """Another tenant with a row of every kind, each of which has a name that is nowhere else."""
    world = TenantWorld(add_tenant(f"theirs-{tenant.name}", now=now), now=now)
    world.source("conductor", "https://theirs.example")
    world.send(world.event("action.performed"))
    row, mark = world.row, f"secret-{tenant.name}"
    add_organisation(row, mark, issuers=["https://theirs.example"], now=now)
    user = User.objects.create_user(mark, password="x" * 12)
    Membership.objects.create(tenant=row, user=user, role="auditor")
    issue_token(row, name=mark, role="auditor", expires_at=timezone.now() + timedelta(days=1))
    add_export(
        row,
        mark.replace("_", "-"),
        kind="ocsf",
        what="events",
        url="https://siem.theirs.example/x",
        secret_env="",
        token_env="T",
        now=now,
    )
    Finding.objects.create(tenant=row, rule="x", rule_version=1, anchor=mark, partition="[]", severity="high", title=mark, event_ids=[], leaves=[], first_at=now,
                           last_at=now, detected_at=now, evidence={})  # fmt: skip
    RefusalCount.objects.create(
        tenant=row, source=mark, key="", err="x", hour=now, count=1, first_at=now, last_at=now, sample=mark
    )
    return world, mark


def staff(tenant, role):
    """Staff with every permission that Django knows, short of being a superuser."""
    user = User.objects.create_user(f"staff-{role}-{tenant.name}", password="x" * 12, is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    if role:
        Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def rows_of(app, model, world):
    """Ids of the other tenant's rows of a model."""
    site = next(
        site
        for kind, site in admin.site._registry.items()
        if (kind._meta.app_label, kind._meta.model_name) == (app, model)
    )
    if not hasattr(site, "tenant_path"):
        return list(site.model._default_manager.values_list("pk", flat=True)[:3])
    return list(site.model._default_manager.filter(**{site.tenant_path: world.row.pk}).values_list("pk", flat=True)[:3])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("app", "model"), MODELS)
def test_no_page_action_or_field_shows_or_takes_another_tenants_rows(tenant, theirs, app, model, role):
    world, mark = theirs
    client, ids = staff(tenant, role), rows_of(app, model, world)
    assert ids or model == "group", "the other tenant has a row to be protected"

    listed = client.get(reverse(f"admin:{app}_{model}_changelist"))
    assert listed.status_code in (200, 403)
    if role != "admin" or model in ("user", "group"):
        assert listed.status_code == 403
    pages = [listed, client.get(reverse(f"admin:{app}_{model}_add"))]
    for id in ids:
        for page in ("change", "delete", "history"):
            answer = client.get(reverse(f"admin:{app}_{model}_{page}", args=[id]))
            assert answer.status_code in (302, 403, 404), (page, answer.status_code)
            pages.append(answer)
            changed = client.post(
                reverse(f"admin:{app}_{model}_{page}", args=[id]), {"post": "yes", "title": "stolen", "name": "stolen"}
            )
            assert changed.status_code in (302, 403, 404), (page, changed.status_code)
    acted = client.post(
        reverse(f"admin:{app}_{model}_changelist"),
        {"action": "delete_selected", "_selected_action": ids, "post": "yes"},
    )
    pages.append(acted)
    for answer in pages:
        text = answer.content.decode()
        assert mark not in text and world.tenant not in text and "theirs.example" not in text, re.findall(
            f".*{mark}.*", text
        )[:1]
    assert rows_of(app, model, world) == ids


def test_the_index_of_whoever_administers_nothing_is_empty(tenant, theirs):
    assert "Sources" not in staff(tenant, "finance").get("/admin/").content.decode()
    assert "Sources" in staff(tenant, "admin").get("/admin/").content.decode()


def test_an_admin_of_one_tenant_issues_no_token_of_another(tenant, theirs):
    world, _ = theirs
    client = staff(tenant, "admin")
    owner = User.objects.get(pk=client.session["_auth_user_id"])
    ends = timezone.now() + timedelta(days=30)
    form = {"name": "mine", "role": "admin", "owner": owner.pk, "expires_at_0": ends.date(), "expires_at_1": "00:00:00"}

    for of, wanted in ((world.row, 0), (tenant, 1)):
        client.post("/admin/auditlog/apitoken/add/", form | {"tenant": of.pk})
        assert ApiToken.objects.filter(tenant=of, name="mine").count() == wanted


def test_an_admin_gives_a_role_only_to_members_of_their_own_and_in_their_own_tenant(tenant, theirs):
    world, mark = theirs
    client, stranger = staff(tenant, "admin"), User.objects.get(username=mark)
    me = User.objects.get(username=f"staff-admin-{tenant.name}")

    client.post("/admin/auditlog/membership/add/", {"tenant": tenant.pk, "user": stranger.pk, "role": "admin"})
    client.post("/admin/auditlog/membership/add/", {"tenant": world.row.pk, "user": me.pk, "role": "admin"})

    assert not Membership.objects.filter(tenant=tenant, user=stranger).exists()
    assert not Membership.objects.filter(tenant=world.row, user=me).exists()


def test_an_organisation_of_another_tenant_is_no_choice(tenant, theirs):
    world, mark = theirs
    assert mark not in staff(tenant, "admin").get("/admin/auditlog/source/add/").content.decode()
    assert LedgerEntry.objects.filter(tenant=world.row).exists()


def test_deleting_an_account_works_and_its_triage_stays(tenant, theirs, now):
    world, mark = theirs
    finding = Finding.objects.get(tenant=world.row)
    user = User.objects.get(username=mark)
    finding.triage.create(by=mark, user=user, from_state="open", to_state="resolved", reason="seen")
    client = Client()
    client.force_login(User.objects.create_superuser(f"root-{tenant.name}", password="x" * 12))

    answer = client.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"})

    assert answer.status_code == 302 and not User.objects.filter(pk=user.pk).exists()
    assert (finding.triage.get().by, finding.triage.get().user_id) == (mark, user.pk)
