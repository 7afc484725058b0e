"""Configuration in the admin: every change that could shift blame leaves a leaf; ledger rows are only looked at."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from auditlog.models import ApiToken, LedgerEntry, Membership, Organisation, Payload, Source, Tenant
from auditlog.reads.access import BearerToken
from auditlog.simulator.signing import Signer

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def staff(tenant) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(f"root-{tenant.name}", password="x" * 12))
    return client


def notes(tenant) -> list[str]:
    """What our own leaves say, oldest first."""
    rows = Payload.objects.filter(tenant=tenant, source_event_id="").order_by("leaf_index")
    return [json.loads(bytes(row.raw))["change"] for row in rows]


def source_form(tenant, **more) -> dict:
    return {
        "tenant": tenant.pk, "name": "conductor", "format": "set", "issuer": "https://conductor.example",
        "requests_per_second": 10, "events_per_second": 100, "new_key": json.dumps(key("c-1")),
    } | more  # fmt: skip


def key(kid: str) -> dict:
    return Signer("https://conductor.example", kid, len(kid) + ord(kid[-1])).jwks()["keys"][0]


def change_form(**more) -> dict:
    return {
        "state": "active", "requests_per_second": 10, "events_per_second": 100,
        "poll_seconds": 60, "keys-TOTAL_FORMS": 0, "keys-INITIAL_FORMS": 0, "pulls-TOTAL_FORMS": "0", "pulls-INITIAL_FORMS": "0",
    } | more  # fmt: skip


def test_only_staff_come_in(tenant):
    client = Client()
    client.force_login(User.objects.create_user(f"plain-{tenant.name}", password="x" * 12))

    assert client.get("/admin/auditlog/source/").status_code == 302


def test_a_source_is_added_with_its_key_and_both_are_in_the_log(staff, tenant):
    answer = staff.post("/admin/auditlog/source/add/", source_form(tenant))

    assert answer.status_code == 302, answer.context["errors"]
    assert Source.objects.get(tenant=tenant).keys.get().kid == "c-1"
    assert notes(tenant)[-2:] == ["source.added", "key.added"]


@pytest.mark.parametrize(
    ("more", "word"),
    [({"new_key": ""}, "needs at least one public key"), ({"new_key": "{"}, "not JSON"),
     ({"new_key": '{"kty": "OKP", "d": "x"}'}, "private"), ({"issuer": "a|b"}, "contains no")],
)  # fmt: skip
def test_a_source_that_cannot_be_is_refused_in_words_and_leaves_nothing(staff, tenant, more, word):
    before = notes(tenant)
    answer = staff.post("/admin/auditlog/source/add/", source_form(tenant, **more))

    assert answer.status_code == 200
    assert word in answer.content.decode()
    assert not Source.objects.filter(tenant=tenant).exists()
    assert notes(tenant) == before


def test_a_sources_name_and_issuer_never_change_and_it_is_never_deleted(staff, tenant):
    staff.post("/admin/auditlog/source/add/", source_form(tenant))
    source = Source.objects.get(tenant=tenant)

    staff.post(f"/admin/auditlog/source/{source.pk}/change/", change_form(name="other", issuer="https://evil.example"))

    source.refresh_from_db()
    assert (source.name, source.issuer) == ("conductor", "https://conductor.example")
    assert staff.post(f"/admin/auditlog/source/{source.pk}/delete/", {"post": "yes"}).status_code == 403


def test_keys_are_added_and_retired_and_states_changed_in_the_log(staff, tenant):
    staff.post("/admin/auditlog/source/add/", source_form(tenant))
    source = Source.objects.get(tenant=tenant)
    first = source.keys.get()
    path = f"/admin/auditlog/source/{source.pk}/change/"

    added = staff.post(path, change_form(new_key=json.dumps({"keys": [key("c-2")]}), retire=[first.pk]))
    staff.post(path, change_form(state="suspended", provider="registrar", layers=["money"]))

    assert added.status_code == 302
    first.refresh_from_db()
    source.refresh_from_db()
    assert first.retired_at is not None
    assert (source.state, source.provider, source.layers) == ("suspended", "registrar", ["money"])
    assert notes(tenant)[-4:] == ["key.added", "key.retired", "source.changed", "source.suspended"]


def test_a_promise_to_be_heard_is_made_and_taken_back_in_the_log(staff, tenant):
    staff.post("/admin/auditlog/source/add/", source_form(tenant, heartbeat_seconds="60"))
    source = Source.objects.get(tenant=tenant)
    path = f"/admin/auditlog/source/{source.pk}/change/"
    made = source.heartbeat_seconds, source.heartbeat_since

    refused = staff.post(path, change_form(heartbeat_seconds="0"))
    staff.post(path, change_form(heartbeat_seconds=""))

    assert made[0] == 60 and made[1] is not None
    assert refused.status_code == 200 and "greater than or equal to 1" in refused.content.decode()
    source.refresh_from_db()
    assert source.heartbeat_seconds is None and source.heartbeat_since is None
    assert notes(tenant)[-1] == "source.heartbeat"


def test_a_tenant_starts_with_a_log(staff, tenant):
    staff.post("/admin/auditlog/tenant/add/", {"name": f"{tenant.name}-two", "title": "Two"})

    assert notes(Tenant.objects.get(name=f"{tenant.name}-two")) == ["tenant.added"]


def test_an_organisation_and_its_names_are_in_the_log(staff, tenant):
    staff.post(
        "/admin/auditlog/organisation/add/",
        {"tenant": tenant.pk, "name": "Acme", "issuers": "https://id.acme.example", "owned_names-TOTAL_FORMS": 1,
         "owned_names-INITIAL_FORMS": 0, "owned_names-0-name": "acme.io"},
    )  # fmt: skip

    assert Organisation.objects.get(tenant=tenant).owned_names.get().name == "acme.io"
    assert notes(tenant)[-2:] == ["organisation.added", "organisation.changed"]


def test_roles_given_and_taken_are_in_the_log(staff, tenant):
    user = User.objects.create_user(f"ada-{tenant.name}", password="x" * 12)
    asked = {"tenant": tenant.pk, "user": user.pk, "role": "abuse", "provider": ""}

    refused = staff.post("/admin/auditlog/membership/add/", asked)
    staff.post("/admin/auditlog/membership/add/", asked | {"provider": "registrar"})
    membership = Membership.objects.get(tenant=tenant)
    staff.post(f"/admin/auditlog/membership/{membership.pk}/delete/", {"post": "yes"})

    assert "name the provider" in refused.content.decode()
    assert notes(tenant)[-2:] == ["role.given", "role.taken"]


def test_a_token_is_shown_once_and_works(staff, tenant, rf):
    expires = timezone.now() + timedelta(days=1)
    answer = staff.post(
        "/admin/auditlog/apitoken/add/",
        {"tenant": tenant.pk, "name": "ci", "role": "auditor", "provider": "", "owner": staff.session["_auth_user_id"], "expires_at_0": expires.date(),
         "expires_at_1": "12:00:00"},
    )  # fmt: skip
    [token] = {word.split('"')[0] for word in answer.content.decode().split('value="') if word.startswith("ans_")}

    viewer, _ = BearerToken().authenticate(rf.get("/", headers={"Authorization": f"Bearer {token}"}))

    assert viewer.tenant == tenant
    assert "no-store" in answer["Cache-Control"]
    stored = ApiToken.objects.get(tenant=tenant)
    assert token not in staff.get(f"/admin/auditlog/apitoken/{stored.pk}/change/").content.decode()


@pytest.mark.parametrize("model", ["ledgerentry", "finding", "refusalcount"])
def test_what_happened_is_only_looked_at(staff, tenant, model):
    assert staff.get(f"/admin/auditlog/{model}/").status_code == 200
    assert staff.get(f"/admin/auditlog/{model}/add/").status_code == 403


def test_a_ledger_entry_offers_no_change(staff, tenant):
    entry = LedgerEntry.objects.filter(tenant=tenant).first()
    path = f"/admin/auditlog/ledgerentry/{entry.pk.replace('/', '_2F')}"

    page = staff.get(f"{path}/change/")

    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert staff.post(f"{path}/change/", {"grade": "A"}).status_code == 403
    assert staff.post(f"{path}/delete/", {"post": "yes"}).status_code == 403


def test_what_is_called_for_a_source_is_configured_checked_and_in_the_log(staff, tenant):
    refused = staff.post("/admin/auditlog/source/add/", source_form(tenant, jwks_url="http://keys.example/jwks"))
    added = staff.post("/admin/auditlog/source/add/", source_form(tenant))
    source = Source.objects.get(tenant=tenant)
    change = f"/admin/auditlog/source/{source.pk}/change/"
    wrong = staff.post(change, change_form(poll_url="https://u:secret@poll.example/"))
    changed = staff.post(change, change_form(jwks_url="https://keys.example/jwks", allow_private="on"))

    assert refused.status_code == 200 and "expected an https address" in refused.content.decode()
    assert (added.status_code, wrong.status_code, changed.status_code) == (302, 200, 302)
    source.refresh_from_db()
    assert (source.jwks_url, source.allow_private, source.poll_url, source.poll_seconds) == (
        "https://keys.example/jwks",
        True,
        "",
        60,
    )
    said = json.loads(bytes(Payload.objects.filter(tenant=tenant).order_by("-leaf_index").first().raw))
    assert (said["jwks_url"], said["allow_private"], said["fields"]) == (
        "https://keys.example/jwks",
        True,
        ["allow_private", "jwks_url"],
    )


def test_the_admin_shows_how_asking_went(staff, tenant):
    from auditlog.models import Pull
    from auditlog.sources.pull import failed

    staff.post("/admin/auditlog/source/add/", source_form(tenant, jwks_url="https://keys.example/jwks"))
    source = Source.objects.get(tenant=tenant)
    failed(
        Pull.objects.create(tenant=tenant, source=source, kind="keys"),
        "keys.example answered <b>503</b>",
        now=timezone.now(),
    )

    page = staff.get(f"/admin/auditlog/source/{source.pk}/change/").content.decode()

    assert "https://keys.example/jwks" in page and "keys.example answered &lt;b&gt;503&lt;/b&gt;" in page
