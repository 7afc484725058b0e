"""The front door: passwords, second factors, sessions, proofs, links, and that every door counts its tries."""

import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from allauth.usersessions.models import UserSession
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone

import auditlog.api.urls
import dashboard.urls
import disputes.urls
from auditlog.core.errors import NotFound, NotPermitted
from auditlog.custody.security import Asked, read
from auditlog.database import throttle
from auditlog.models import Membership, OneTimeLink, Tenant
from auditlog.people import links
from auditlog.reads.access import Viewer, issue_token
from auditlog.sources import sealed
from auditlog.sources.configure import add_tenant, give_role

PASSWORD = "seven green lamps at noon"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def fresh(database):
    """No other test's tries from the same address."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM signin_attempt")


@pytest.fixture
def strict(settings):
    settings.SECOND_FACTOR_REQUIRED = True


def member(tenant, role="auditor", name="", **more):
    user = get_user_model().objects.create_user(name or f"{role}-{tenant.name}", password=PASSWORD, **more)
    give_role(
        Membership(tenant=tenant, user=user, role=role, provider="x" if role == "abuse" else ""), now=timezone.now()
    )
    return user


def sign_in(user, password=PASSWORD, *, client=None, **more):
    client = client or Client(REMOTE_ADDR="198.51.100.7", **more)
    answer = client.post("/login/", {"username": user.username, "password": password})
    return client, answer


def code(at=0):
    return format_hotp_value(hotp_value(SECRET, int(time.time()) // 30 + at))


def with_app(user):
    TOTP.activate(user, SECRET)
    return user


def noted(tenant, **asked):
    return read(tenant, Asked(**asked), before=None, limit=1_000)[0]


def text_of(answer):
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


# --- passwords --------------------------------------------------------------------------------------------------------


def test_a_password_signs_in_under_the_names_that_the_form_always_had(tenant):
    user = member(tenant)

    client, answer = sign_in(user)

    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    form = Client().get("/login/").content.decode()
    assert 'name="username"' in form and 'name="password"' in form and "<script>" not in form


def test_where_one_wanted_to_go_is_where_one_gets_and_nowhere_else(tenant):
    user = member(tenant)
    for asked, got in (("/events/", "/events/"), ("https://evil.example/", "/"), ("//evil.example", "/")):
        answer = Client().post("/login/", {"username": user.username, "password": PASSWORD, "next": asked})
        assert answer["Location"] == got


def test_a_wrong_one_is_told_no_more_than_an_unknown_name(tenant):
    user = member(tenant)

    _, wrong = sign_in(user, "not this one")
    unknown = Client(REMOTE_ADDR="198.51.100.8").post("/login/", {"username": "nobody-here", "password": "x"})

    said = [" ".join(re.findall(r'role="alert">([^<]*)', answer.content.decode())) for answer in (wrong, unknown)]
    assert said[0] == said[1] != "" and wrong.status_code == 200
    assert [n.kind for n in noted(tenant, who=user.username)] == ["signin.failed"]


def test_sixty_wrong_passwords_in_a_row_are_noticed_slowed_and_in_the_log(tenant):
    user = member(tenant)
    client = Client(REMOTE_ADDR="203.0.113.5")

    answers = [client.post("/login/", {"username": user.username, "password": f"wrong {n}"}) for n in range(60)]

    codes = [answer.status_code for answer in answers]
    assert codes[:6] == [200] * 6 and codes.count(429) >= 50
    shut = next(answer for answer in answers if answer.status_code == 429)
    assert int(shut["Retry-After"]) >= 1 and "Too many tries" in text_of(shut)
    kinds = [n.kind for n in noted(tenant, who=user.username)]
    assert kinds.count("signin.failed") >= 6 and "signin.slowed" in kinds
    # The right one has to wait there as well, and is let in from elsewhere: nobody is locked out by a stranger.
    assert sign_in(user, client=client)[1].status_code == 429
    elsewhere, answer = sign_in(user)
    assert answer.status_code == 302
    assert "sign-ins with your name failed just before this one" in elsewhere.get("/").content.decode()


def test_tries_count_for_all_processes_and_under_many_at_once(tenant):
    from threading import Thread

    user, got = member(tenant), []

    def guess(number):
        try:
            got.append(throttle.attempt("password", account=user.username, address="203.0.113.6").wait)
        finally:
            connections.close_all()

    many = [Thread(target=guess, args=[number]) for number in range(40)]
    for one in many:
        one.start()
    for one in many:
        one.join()

    assert got.count(0) == throttle.PAIR.free + 1  # with the one that shuts the door behind it


def test_whoever_is_right_is_told_of_the_tries_that_were_not_his(tenant):
    user = member(tenant)
    for _ in range(3):
        sign_in(user, "wrong")

    client, _ = sign_in(user)

    assert "3 sign-ins with your name failed" in client.get("/").content.decode()
    assert throttle.attempt("password", account=user.username, address="198.51.100.7").tries == 1


def test_many_names_from_one_address_are_slowed_too(tenant):
    codes = [
        Client(REMOTE_ADDR="203.0.113.9").post("/login/", {"username": f"guess-{n}", "password": "x"}).status_code
        for n in range(throttle.ADDRESS.free + 5)
    ]

    assert codes[0] == 200 and codes[-1] == 429


def test_addresses_of_one_ipv6_network_are_one(tenant):
    for n in range(throttle.PAIR.free + 1):
        assert throttle.attempt("password", account="ada", address=f"2001:db8:1:2::{n:x}").wait == 0

    assert throttle.attempt("password", account="ada", address="2001:db8:1:2:ffff::1").wait > 0
    assert throttle.attempt("password", account="ada", address="2001:db8:1:3::1").wait == 0


def test_the_wait_is_forgotten_after_a_quiet_while_and_a_clock_set_back_shuts_nobody_out(tenant):
    user = member(tenant)
    for n in range(10):
        sign_in(user, f"wrong {n}")
    assert sign_in(user)[1].status_code == 429

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE signin_attempt SET open_at = open_at + interval '2 hours', last_at = last_at + interval '2 hours'"
        )
    assert sign_in(user)[1].status_code == 302


@pytest.mark.parametrize(
    "bad",
    ["short", "password1234", "qwertyuiop123", "Answerable2026!", "answerable answerable", "x" * 300, "123456789012"],
)
def test_bad_passwords_are_refused(tenant, bad):
    with pytest.raises(ValidationError):
        validate_password(bad, member(tenant))


def test_words_of_the_place_do_not_make_a_password(tenant, now):
    user = member(tenant, name="mirabelle-stone")
    tenant.title = "Hesperides Bank"
    Tenant.objects.filter(pk=tenant.pk).update(title=tenant.title)

    for bad in ("hesperides2026", "Mirabelle-Stone-1", "H3sperides-b4nk-24", "mirabelle hesperides"):
        with pytest.raises(ValidationError):
            validate_password(bad, user)
    validate_password("lanterns over hesperides at midnight", user)
    validate_password(PASSWORD, user)


def test_an_account_that_is_switched_off_does_not_sign_in(tenant):
    user = member(tenant, is_active=False)

    client, answer = sign_in(user)

    assert answer.status_code == 200 and client.get("/").status_code == 302


def test_sessions_of_an_account_end_when_it_is_switched_off(tenant):
    user = member(tenant)
    client, _ = sign_in(user)
    get_user_model().objects.filter(pk=user.pk).update(is_active=False)

    assert client.get("/").status_code == 302


def test_a_sign_in_and_a_proof_give_the_session_a_new_name(tenant):
    user, client = member(tenant), Client()
    client.get("/login/")
    names = {client.cookies["sessionid"].value} if "sessionid" in client.cookies else set()
    sign_in(user, client=client)
    names.add(first := client.cookies["sessionid"].value)
    client.post("/account/confirm/", {"_password": PASSWORD})

    assert client.cookies["sessionid"].value not in names and client.get("/account/").content.count(b"this one") == 1
    old = Client()
    old.cookies["sessionid"] = first
    assert old.get("/").status_code == 302


def test_a_changed_password_ends_every_other_session(tenant):
    user = member(tenant)
    here, _ = sign_in(user)
    there, _ = sign_in(user, client=Client(REMOTE_ADDR="192.0.2.4"))
    new = "nine blue kettles in a row"

    assert (
        here.post("/account/password/", {"oldpassword": "wrong", "password1": new, "password2": new}).status_code == 200
    )
    assert (
        here.post(
            "/account/password/", {"oldpassword": PASSWORD, "password1": "password1234", "password2": "password1234"}
        ).status_code
        == 200
    )
    assert (
        here.post("/account/password/", {"oldpassword": PASSWORD, "password1": new, "password2": new}).status_code
        == 302
    )

    assert here.get("/").status_code == 200 and there.get("/").status_code == 302
    assert "factor.changed" in [n.kind for n in noted(tenant)]
    assert sign_in(user, new)[1].status_code == 302 and sign_in(user)[1].status_code == 200


def test_without_a_mail_server_the_page_says_whom_to_ask(tenant):
    assert "Ask an admin" in text_of(Client().get("/account/password/forgot/"))
    assert "Ask an admin" in text_of(Client().post("/account/password/forgot/", {"email": "x@example.org"}))


def test_with_one_a_link_is_sent_and_nobody_learns_who_has_an_account(tenant, settings):
    from django.core import mail

    settings.EMAIL_HOST, settings.EMAIL_BACKEND = "mail.example", "django.core.mail.backends.locmem.EmailBackend"
    user = member(tenant, email=f"me@{tenant.name}.example")
    mail.outbox = []

    known, unknown = (
        Client().post("/account/password/forgot/", {"email": address}) for address in (user.email, "no@such.example")
    )

    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    [sent] = [one for one in mail.outbox if one.to == [user.email]]
    path = re.search(r"https?://[^/]+(/account/password/forgot/\S+)", sent.body)[1]
    client = Client()
    page = client.get(path, follow=True)
    where = page.redirect_chain[-1][0]
    new = "nine blue kettles in a row"
    assert client.post(where, {"password1": new, "password2": new}).status_code == 302
    assert sign_in(user, new)[1].status_code == 302


# --- second factors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "security", "finance"])
def test_whoever_decides_or_configures_adds_a_second_factor_first(tenant, strict, role):
    user = member(tenant, role)
    client, answer = sign_in(user)
    assert answer.status_code == 302

    assert client.get("/findings/")["Location"] == "/account/2fa/"
    assert client.get("/admin/")["Location"] == "/account/2fa/"
    assert client.get("/api/v1/findings").status_code == 403
    page = client.get("/account/2fa/totp/activate/")
    secret = page.context["form"].secret
    right = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    assert (
        client.post("/account/2fa/totp/activate/", {"code": "000000" if right != "000000" else "1"}).status_code == 200
    )
    assert client.post("/account/2fa/totp/activate/", {"code": right}).status_code == 302

    assert client.get("/findings/").status_code == 200
    assert "factor.changed" in [n.kind for n in noted(tenant)]
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT string_agg(data::text, '') FROM mfa_authenticator WHERE user_id = %s", [user.pk])
        assert secret not in cursor.fetchone()[0]


def test_a_new_factor_ends_the_sessions_that_were_begun_without_it(tenant):
    user = member(tenant)
    here, there = (sign_in(user, client=Client(REMOTE_ADDR=f"192.0.2.{n}"))[0] for n in (1, 2))
    secret = here.get("/account/2fa/totp/activate/").context["form"].secret
    right = format_hotp_value(hotp_value(secret, int(time.time()) // 30))

    assert here.post("/account/2fa/totp/activate/", {"code": right}).status_code == 302

    assert here.get("/").status_code == 200 and there.get("/").status_code == 302


@pytest.mark.parametrize("role", ["auditor", "abuse"])
def test_others_may_have_one_and_need_not(tenant, strict, role):
    client, _ = sign_in(member(tenant, role))

    assert client.get("/findings/").status_code == 200


def test_a_superuser_of_no_tenant_comes_in_adds_a_factor_and_proves_it(tenant, strict):
    user = get_user_model().objects.create_superuser(f"root-{tenant.name}", password=PASSWORD)
    client, _ = sign_in(user)
    assert client.get("/admin/")["Location"] == "/account/2fa/" and client.get("/account/").status_code == 200
    secret = client.get("/account/2fa/totp/activate/").context["form"].secret
    right = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    assert client.post("/account/2fa/totp/activate/", {"code": right}).status_code == 302

    assert client.get("/admin/").status_code == 200
    assert client.post("/account/confirm/", {"_password": PASSWORD, "next": "/admin/"})["Location"] == "/admin/"


@pytest.mark.parametrize("path", ["/account/2fa/webauthn/login/", "/account/2fa/authenticate/"])
@pytest.mark.parametrize(
    "sent", ["{}", "[]", '{"id": "x", "response": {"userHandle": "AAAA"}}', "not json", '"x"', "null"]
)
def test_a_passkey_that_is_none_signs_nobody_in(tenant, strict, path, sent):
    client, _ = sign_in(with_app(member(tenant, "admin")))

    answer = client.post(path, {"credential": sent})

    assert answer.status_code in (200, 302) and client.get("/").status_code == 302


def test_a_session_that_no_door_began_needs_none(tenant, strict):
    client = Client()
    client.force_login(member(tenant, "admin"))

    assert client.get("/sources/").status_code == 200


def test_demo_users_are_spared_and_their_page_says_so(tenant, strict, settings):
    user = member(tenant, "admin")
    settings.SECOND_FACTOR_SPARES = frozenset({user.username})

    client, _ = sign_in(user)

    assert client.get("/sources/").status_code == 200
    assert "A demo user" in text_of(client.get("/account/"))


def test_the_second_factor_is_asked_after_the_password_and_a_code_is_good_once(tenant, strict):
    user = with_app(member(tenant, "admin"))
    client, answer = sign_in(user)
    assert answer["Location"] == "/account/2fa/authenticate/" and client.get("/").status_code == 302

    used = code()
    assert client.post("/account/2fa/authenticate/", {"code": used}).status_code == 302
    assert client.get("/sources/").status_code == 200

    again, _ = sign_in(user)
    assert again.post("/account/2fa/authenticate/", {"code": used}).status_code == 200
    assert again.get("/").status_code == 302
    failed = [n for n in noted(tenant, kind="signin.failed")]
    assert failed and failed[0].result == "second factor"


def test_codes_are_not_guessed(tenant, strict):
    client, _ = sign_in(with_app(member(tenant, "admin")))

    pages = [text_of(client.post("/account/2fa/authenticate/", {"code": f"{n:06}"})) for n in range(12)]

    assert "Too many tries" in pages[-1] and "signin.slowed" in [n.kind for n in noted(tenant)]


def test_a_recovery_code_is_good_once(tenant, strict):
    user = with_app(member(tenant, "admin"))
    spare = RecoveryCodes.activate(user).get_unused_codes()[0]

    client, _ = sign_in(user)
    assert client.post("/account/2fa/authenticate/", {"code": spare}).status_code == 302
    again, _ = sign_in(user)
    assert again.post("/account/2fa/authenticate/", {"code": spare}).status_code == 200


def test_the_last_factor_of_an_admin_stays(tenant, strict):
    user = with_app(member(tenant, "admin"))
    client, _ = sign_in(user)
    client.post("/account/2fa/authenticate/", {"code": code()})

    client.post("/account/2fa/totp/deactivate/")

    assert Authenticator.objects.filter(user=user, type="totp").exists()


def test_a_factor_added_elsewhere_is_asked_of_a_session_that_began_without(tenant, strict):
    user = member(tenant, "admin")
    client, _ = sign_in(user)
    with_app(user)

    asked = client.get("/findings/")["Location"]

    assert asked.startswith("/account/confirm/?") and "second" in asked
    assert client.get("/api/v1/findings").status_code == 403
    assert (
        client.post(asked, {"_password": PASSWORD, "next": "/findings/"}).status_code == 403
    )  # the password was known
    assert client.post(asked, {"_code": code(), "next": "/findings/"})["Location"] == "/findings/"
    assert client.get("/findings/").status_code == 200


def test_secrets_of_factors_are_sealed_anew_with_the_others(tenant, monkeypatch):
    import base64
    import os

    from auditlog.people import factors

    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    Authenticator.objects.exclude(type="webauthn").delete()
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", old)
    user = with_app(member(tenant))
    RecoveryCodes.activate(user)

    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", f"{new},{old}")
    assert factors.reseal() == 2 and factors.reseal() == 0
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", new)

    assert Authenticator.objects.get(user=user, type="totp").wrap().validate_code(code())
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", old)
    with pytest.raises(sealed.ConfigurationError):
        factors.unlock(Authenticator.objects.get(user=user, type="totp").data["secret"])


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_and_ended_one_by_one_or_all(tenant):
    user = member(tenant)
    here, _ = sign_in(user, HTTP_USER_AGENT="Firefox <b>here")
    others = [sign_in(user, client=Client(REMOTE_ADDR=f"192.0.2.{n}"))[0] for n in (1, 2, 3)]
    page = here.get("/account/").content.decode()
    assert "192.0.2.3" in page and "Firefox &lt;b&gt;here" in page and page.count("End it") == 3

    row = UserSession.objects.get(user=user, ip="192.0.2.1")
    here.post("/account/", {"session": row.pk})
    assert [client.get("/").status_code for client in others] == [302, 200, 200]
    here.post("/account/", {"others": "1"})
    assert [client.get("/").status_code for client in others] == [302, 302, 302] and here.get("/").status_code == 200
    assert [n.kind for n in noted(tenant)].count("session.ended") == 2


def test_nobody_ends_the_session_of_another(tenant):
    mine, other = member(tenant), member(tenant, "finance")
    there, _ = sign_in(other)
    here, _ = sign_in(mine)

    here.post("/account/", {"session": UserSession.objects.get(user=other).pk})

    assert there.get("/").status_code == 200


@pytest.mark.parametrize(("field", "setting"), [("seen", "SESSION_IDLE_SECONDS"), ("began", "SESSION_LONGEST_SECONDS")])
def test_a_session_ends_when_nobody_is_seen_and_in_any_case_some_day(tenant, settings, field, setting):
    client, _ = sign_in(member(tenant))
    session = client.session
    session[field] -= getattr(settings, setting) - 5
    session.save()
    assert client.get("/").status_code == 200

    session = client.session
    session[field] -= 65 if field == "began" else settings.SESSION_IDLE_SECONDS
    session.save()
    assert client.get("/").status_code == 302
    assert "session.ended" in [n.kind for n in noted(tenant)]


def test_a_clock_that_is_set_back_ends_no_session_and_makes_none_longer(tenant, settings):
    client, _ = sign_in(member(tenant))
    session = client.session
    for name in ("began", "seen", "proved"):
        session[name] += 7_200  # as it looks after the clock went back
    session["began"] -= settings.SESSION_LONGEST_SECONDS - 60
    session.save()

    assert client.get("/").status_code == 200
    session = client.session
    assert "proved" not in session and session["began"] < session["seen"] - settings.SESSION_LONGEST_SECONDS + 120


# --- proofs -----------------------------------------------------------------------------------------------------------


def grown_old(client):
    session = client.session
    session["proved"] -= 16 * 60
    session.save()


def test_what_matters_most_wants_a_proof_that_is_fresh_and_what_was_written_goes_along(tenant):
    client, _ = sign_in(member(tenant, "admin"))
    grown_old(client)

    asked = client.post("/people/", {"do": "invite", "username": "newcomer", "role": "auditor"})
    assert asked.status_code == 401 and not OneTimeLink.objects.filter(tenant=tenant).exists()
    kept = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', asked.content.decode()))
    assert kept["username"] == "newcomer" and kept["do"] == "invite"
    wrong = client.post("/people/", kept | {"_password": "not this"})
    assert wrong.status_code == 403 and not OneTimeLink.objects.filter(tenant=tenant).exists()

    done = client.post("/people/", kept | {"_password": PASSWORD})
    assert done.status_code == 200 and OneTimeLink.objects.filter(tenant=tenant, username="newcomer").exists()
    kinds = [n.kind for n in noted(tenant)]
    assert "proof.failed" in kinds and "proof.asked" in kinds


@pytest.mark.parametrize(
    ("method", "path", "data"),
    [
        ("post", "/api/v1/cases/C-1/transitions", {"to": "decided"}),
        ("post", "/api/v1/cases/C-1/approvals", {}),
        ("post", "/cases/C-1/", {"to": "decided"}),
        ("post", "/cases/C-1/evidence/1/let-in/", {}),
        ("post", "/cases/C-1/bank/", {}),
        ("post", "/api/v1/cases/C-1/bank-answer", {}),
        ("post", "/rules/spend.velocity/", {"do": "set"}),
        ("post", "/api/v1/policies/spend.velocity", {}),
        ("post", "/stops/new/", {}),
        ("post", "/api/v1/stops", {}),
        ("post", "/api/v1/responses", {}),
        ("post", "/receivers/policies/x/", {"mode": "live"}),
        ("post", "/alerts/", {"name": "x"}),
        ("post", "/alerts/x/", {"do": "test"}),
        ("post", "/secrets/", {"name": "HOOK", "secret": "x"}),
        ("post", "/admin/auditlog/apitoken/add/", {}),
        ("get", "/api/v1/export/ocsf?what=events", {}),
        ("get", "/api/v1/cases/C-1/packet", {}),
        ("get", "/api/v1/events/00000000-0000-0000-0000-000000000000/raw", {}),
    ],
)
def test_deciding_approving_revealing_exporting_stopping_and_issuing_want_it(tenant, method, path, data):
    client, _ = sign_in(member(tenant, "admin", is_staff=True, is_superuser=True))
    grown_old(client)

    answer = getattr(client, method)(path, data)
    assert answer.status_code in (401, 403, 302)
    assert answer.status_code != 302 or answer["Location"].startswith("/account/confirm/")
    if path.startswith("/api/"):
        assert "prove again" in answer.json()["detail"]

    assert client.post("/account/confirm/", {"_password": PASSWORD, "next": "/"}).status_code == 302
    again = getattr(client, method)(path, data)
    assert again.status_code != 401 and b"Is it you?" not in again.content
    assert not (again.status_code == 403 and b"prove again" in again.content)


def test_a_token_is_a_proof_of_its_own_and_looking_needs_none(tenant):
    user = member(tenant, "admin")
    client, _ = sign_in(user)
    grown_old(client)
    token = issue_token(tenant, name="t", role="admin", expires_at=timezone.now() + timedelta(days=1), owner=user)

    assert client.get("/").status_code == client.get("/people/").status_code == 200
    bearer = {"authorization": f"Bearer {token}"}
    assert client.get("/api/v1/export/ocsf?what=events", headers=bearer).status_code == 200
    assert client.get("/api/v1/export/ocsf?what=events", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_the_proof_leads_on_within_the_house_only(tenant):
    client, _ = sign_in(member(tenant))

    for asked, got in (("/spend/", "/spend/"), ("https://evil.example/x", "/"), ("//evil.example", "/")):
        answer = client.post("/account/confirm/", {"_password": PASSWORD, "next": asked})
        assert answer["Location"] == got


@pytest.mark.parametrize("sent", ["{}", '{"id": "x"}', "nonsense", "[1]"])
def test_a_credential_that_is_none_proves_nothing(tenant, sent):
    client, _ = sign_in(with_app(member(tenant)))
    client.post("/account/2fa/authenticate/", {"code": code()})

    assert client.post("/account/confirm/", {"_credential": sent}).status_code == 403


def test_proofs_are_not_guessed(tenant):
    client, _ = sign_in(member(tenant))

    codes = [client.post("/account/confirm/", {"_password": f"wrong {n}"}).status_code for n in range(10)]

    assert codes[0] == 403 and codes[-1] == 429


# --- links ------------------------------------------------------------------------------------------------------------


def admin_of(tenant):
    client, _ = sign_in(member(tenant, "admin"))
    return client


def url_in(answer):
    return re.search(r"http://[^/]+(/join/[\w-]+/)", answer.content.decode())[1]


def test_an_admin_invites_and_whoever_has_the_link_makes_the_account_once(tenant):
    client = admin_of(tenant)
    made = client.post("/people/", {"do": "invite", "username": f"new-{tenant.name}", "role": "finance", "email": ""})
    path = url_in(made)

    guest = Client(REMOTE_ADDR="192.0.2.77")
    assert "Join" in text_of(guest.get(path))
    assert guest.post(path, {"password": "short", "again": "short"}).status_code == 422
    assert guest.post(path, {"password": PASSWORD, "again": "other"}).status_code == 422
    assert guest.post(path, {"password": PASSWORD, "again": PASSWORD}).status_code == 302
    assert (
        guest.get(path).status_code == 404
        and guest.post(path, {"password": PASSWORD, "again": PASSWORD}).status_code == 404
    )

    user = get_user_model().objects.get(username=f"new-{tenant.name}")
    assert user.memberships.get().role == "finance" and not user.is_staff
    assert sign_in(user)[1].status_code == 302
    with connections["owner"].cursor() as cursor:
        secret = path.split("/")[2]
        cursor.execute("SELECT string_agg(o::text, '') FROM one_time_link o WHERE tenant_id = %s", [tenant.pk])
        assert secret not in cursor.fetchone()[0]
    assert [n for n in noted(tenant) if secret in n.what + n.result] == []
    assert {"link.made", "link.used"} <= {n.kind for n in noted(tenant)}


def test_a_new_password_by_link_ends_sessions_and_takes_factors_off_only_when_asked(tenant):
    client, user = admin_of(tenant), with_app(member(tenant, "security"))
    there, _ = sign_in(user)
    there.post("/account/2fa/authenticate/", {"code": code()})
    new = "nine blue kettles in a row"

    path = url_in(client.post("/people/", {"do": "reset", "user": user.pk}))
    assert Client().post(path, {"password": new, "again": new}).status_code == 302
    assert there.get("/").status_code == 302 and Authenticator.objects.filter(user=user).exists()
    path = url_in(client.post("/people/", {"do": "reset", "user": user.pk, "drops_factors": "1"}))
    assert Client().post(path, {"password": PASSWORD, "again": PASSWORD}).status_code == 302
    assert not Authenticator.objects.filter(user=user).exists()


def test_a_link_ends_by_time_and_by_hand(tenant):
    client = admin_of(tenant)
    first, second = (
        url_in(client.post("/people/", {"do": "invite", "username": f"g{n}-{tenant.name}", "role": "auditor"}))
        for n in (1, 2)
    )
    row = OneTimeLink.objects.get(username=f"g1-{tenant.name}")
    client.post("/people/", {"do": "withdraw", "link": row.pk})
    OneTimeLink.objects.filter(username=f"g2-{tenant.name}").update(ends_at=timezone.now())

    assert Client().get(first).status_code == Client().get(second).status_code == 404


def test_links_are_not_guessed(tenant):
    codes = [Client(REMOTE_ADDR="203.0.113.8").get(f"/join/guess-{n}/").status_code for n in range(65)]

    assert codes[0] == 404 and codes[-1] == 429


@pytest.mark.parametrize("role", ["security", "finance", "abuse", "auditor"])
def test_only_admins_see_people_and_secrets(tenant, role):
    client, _ = sign_in(member(tenant, role))

    for path in ("/people/", "/secrets/"):
        assert client.get(path).status_code == client.post(path, {}).status_code == 403
        assert Client().get(path).status_code == 302


def test_an_admin_has_no_power_over_accounts_that_reach_beyond_his_tenant(tenant, now):
    other = add_tenant(f"{tenant.name}-other", now=now)
    boss = member(tenant, "security", name=f"boss-{tenant.name}", is_superuser=True, is_staff=True)
    both = member(tenant, "finance", name=f"both-{tenant.name}")
    give_role(Membership(tenant=other, user=both, role="auditor"), now=now)
    stranger = member(other, "auditor", name=f"stranger-{tenant.name}")
    admin = member(tenant, "admin")
    viewer = Viewer(tenant, "admin", "admin", admin.pk)

    for user in (boss, both, stranger, admin):
        with pytest.raises(NotPermitted):
            links.reset(viewer, user, drops_factors=False, is_superuser=False, now=now)
    assert links.reset(viewer, both, drops_factors=False, is_superuser=True, now=now)
    with pytest.raises(NotFound):
        links.find("no such", now=now)


def test_a_name_that_is_taken_or_none_is_not_invited(tenant):
    client, taken = admin_of(tenant), member(tenant, "finance")

    for username, role, provider in (
        (taken.username.upper(), "auditor", ""),
        ("a b", "auditor", ""),
        ("ok", "abuse", ""),
        ("ok", "auditor", "x"),
    ):
        answer = client.post("/people/", {"do": "invite", "username": username, "role": role, "provider": provider})
        assert answer.status_code == 422 and not OneTimeLink.objects.filter(tenant=tenant).exists()


def test_what_is_over_is_taken_out_at_night_and_nothing_else(tenant):
    from auditlog.people.tidy import tidy

    client = admin_of(tenant)
    for n in (1, 2):
        client.post("/people/", {"do": "invite", "username": f"g{n}-{tenant.name}", "role": "auditor"})
    OneTimeLink.objects.filter(username=f"g1-{tenant.name}").update(ends_at=timezone.now() - timedelta(days=31))
    gone, _ = sign_in(get_user_model().objects.get(username=f"admin-{tenant.name}"))
    Session.objects.filter(session_key=gone.session.session_key).update(expire_date=timezone.now() - timedelta(1))
    throttle.attempt("password", account="long-ago")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE signin_attempt SET last_at = last_at - interval '1 day'")

    tidy(now=timezone.now())

    assert client.get("/").status_code == 200
    assert [one.username for one in OneTimeLink.objects.filter(tenant=tenant)] == [f"g2-{tenant.name}"]
    assert UserSession.objects.filter(user__username=f"admin-{tenant.name}").count() == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM signin_attempt WHERE last_at < now() - interval '1 hour'")
        assert cursor.fetchone()[0] == 0


# --- the rest of the door -----------------------------------------------------------------------------------------------


def test_wrong_tokens_are_counted_and_a_right_one_still_works(tenant):
    token = issue_token(tenant, name="t", role="auditor", expires_at=timezone.now() + timedelta(days=1))
    client = Client(REMOTE_ADDR="203.0.113.20")

    codes = [
        client.get("/api/v1/events", headers={"authorization": f"Bearer guess-{n}"}).status_code for n in range(65)
    ]

    assert codes[0] == 401 and codes[-1] == 429
    assert client.get("/api/v1/events", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_the_admin_site_has_no_door_and_no_table_of_its_own(database):
    from django.contrib import admin

    assert [m for m in admin.site._registry if m._meta.app_config.name.startswith("allauth.")] == []
    assert Client().get("/admin/login/?next=/admin/")["Location"] == "/login/?next=/admin/"


def views_of_allauth():
    def walk(patterns):
        for one in patterns:
            if hasattr(one, "url_patterns"):
                yield from walk(one.url_patterns)
            elif one.callback.__module__.startswith("allauth."):
                yield one.callback

    return list(walk(get_resolver().url_patterns))


def test_every_page_of_allauth_is_made_of_our_templates():
    from django.template.loader import get_template

    names = {
        "account/account_inactive.html", "account/signup_closed.html", "socialaccount/authentication_error.html",
        "socialaccount/login.html", *(v.view_class.template_name for v in views_of_allauth() if getattr(getattr(v, "view_class", None), "template_name", None)),
    }  # fmt: skip
    never_shown = {"mfa/reauthenticate.html", "mfa/webauthn/reauthenticate.html", "mfa/recovery_codes/download.txt"}
    assert len(names) > 15
    for name in names - never_shown:
        origin = get_template(name).origin.name
        assert "/dashboard/templates/" in origin, name
        text = Path(origin).read_text()
        assert "onclick" not in text and "style=" not in text and not re.search(r"<script(?![^>]*\bsrc=)", text), name


def test_pages_that_ours_replace_lead_to_ours(tenant):
    client, _ = sign_in(member(tenant))

    for name in ("mfa_reauthenticate", "mfa_reauthenticate_webauthn"):
        assert client.get(reverse(name))["Location"].startswith("/account/confirm/")
    assert Client().get("/account/signup/").status_code == 404


# What a session may send without a fresh proof: it adds words, files or bills under one's name, or asks us to work.
PLAIN = {
    "adjudications", "case_opening", "complaint", "incident-bring-back", "incident-snooze", "incident-suppress", "incidents_many",
    "backtest-list", "bills", "case", "case-assessments", "case-deadlines", "case-evidence", "case-evidence-submit",
    "case_again", "case_deadline", "case_evidence", "case_evidence_submit", "cases", "domain-score", "finding", "finding-triage",
    "incident", "incident-assign", "incident-close", "incident-merge", "incident-note", "incident-reopen", "incident-split",
    "integrity", "name_report", "names", "packet-check", "packets",
}  # fmt: skip
DUMMY = {"finding_id": "1", "number": "1", "pk": "1", "event_id": "00000000-0000-0000-0000-000000000000"}


# Of people without an account: they have no session of ours, and a code or a link of their own.
FROM_OUTSIDE = ("complain", "complaint-report", "party_case", "party_hand_in", "party_leave")


def addresses():
    """(name, path) of every address of the pages and the API, but for the door itself and old addresses that lead on."""
    for prefix, urls in (("/", dashboard.urls), ("/api/v1/", auditlog.api.urls), ("/api/v1/", disputes.urls)):
        for each in urls.urlpatterns:
            if each.name not in (None, "login", "logout", "join", *FROM_OUTSIDE):
                path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: DUMMY.get(found[1], "x"), str(each.pattern))
                yield each.name, prefix + path


def test_whatever_can_be_sent_wants_a_fresh_proof_or_is_known_to_need_none(tenant):
    client, _ = sign_in(member(tenant, "admin", is_staff=True, is_superuser=True))
    grown_old(client)

    plain = set()
    for name, path in addresses():
        answer = client.post(path)
        if answer.status_code != 405 and b"Is it you?" not in answer.content and b"prove again" not in answer.content:
            plain.add(name)

    assert plain == PLAIN
