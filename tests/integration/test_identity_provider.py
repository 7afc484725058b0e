"""Signing in by an identity provider (OpenID Connect), against a small one of our own; and who is one person by it."""

import json
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test import Client
from django.utils import timezone

from auditlog.core.errors import ConfigurationError, NotPermitted
from auditlog.core.person import are_one
from auditlog.custody.security import Asked, read
from auditlog.models import Identity, OneTimeLink
from auditlog.people import identities, links
from auditlog.reads.access import Viewer, person_of
from config import env
from tests.https import Outside
from tests.integration.test_signing_in import PASSWORD, fresh, member, sign_in, with_app  # noqa: F401  fixtures among them

KEY, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
START, BACK = "/account/oidc/sso/login/", "/account/oidc/sso/login/callback/"

pytestmark = pytest.mark.usefixtures("database")


class Provider:
    """Says who somebody is: `sub`, `email`. Keeps the code challenge, as a real one does, and misbehaves on request."""

    def __init__(self, outside: Outside) -> None:
        self.outside, self.issuer = outside, outside.url
        self.sub, self.email, self.verified = "u-1", "", False
        self.said: dict = {}  # instead of what an ID token would say
        self.said_elsewhere: dict = {}  # the same of the user info
        self.signs_by: tuple | None = None  # another key and algorithm
        self.metadata: dict = {}
        self.challenge = ""
        outside.answer = self.answer

    def answer(self, method, path, headers, body):
        if path == "/.well-known/openid-configuration":
            told = {
                name: f"{self.issuer}/{name}"
                for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
            }
            told |= {"issuer": self.issuer, "token_endpoint_auth_methods_supported": ["client_secret_post"]}
            return self._json(told | self.metadata)
        if path == "/jwks_uri":
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            return self._json({"keys": [public | {"kid": "k1", "alg": "RS256"}]})
        if path == "/token_endpoint":
            given = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            proof = urlsafe_b64encode(sha256(given.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
            if given.get("client_secret") != "s3cret" or given.get("code") != "good" or proof != self.challenge:
                return self._json({"error": "invalid_grant"}, 400)
            return self._json({"access_token": "at", "token_type": "Bearer", "id_token": self.id_token()})
        if path == "/userinfo_endpoint" and headers.get("authorization") == "Bearer at":
            return self._json(
                {"sub": self.sub, "email": self.email, "email_verified": self.verified} | self.said_elsewhere
            )
        return self._json({}, 404)

    def id_token(self) -> str:
        now = int(time.time())
        said = {"iss": self.issuer, "aud": "client-1", "sub": self.sub, "iat": now, "exp": now + 300} | self.said
        key, algorithm = self.signs_by or (KEY, "RS256")
        return jwt.encode(said, key, algorithm=algorithm, headers={"kid": "k1"})

    def _json(self, value, status=200):
        return status, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def visit(self, client, *, process="login", code="good", state=None, next="/"):
        """Go there and come back, as a browser would."""
        there = client.post(f"{START}?process={process}&next={next}")
        if there.status_code != 302:  # it was not even asked
            return there
        asked = {name: values[0] for name, values in parse_qs(urlsplit(there["Location"]).query).items()}
        assert there["Location"].startswith(f"{self.issuer}/authorization_endpoint?")
        assert asked["code_challenge_method"] == "S256" and asked["response_type"] == "code"
        self.challenge = asked["code_challenge"]
        return client.get(BACK, {"code": code, "state": state or asked["state"]})


@pytest.fixture
def provider(tmp_path, settings, monkeypatch):
    outside = Outside(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))
    settings.OIDC_ALLOW_PRIVATE = True
    made = Provider(outside)
    app = {
        "provider_id": "sso",
        "name": "Acme SSO",
        "client_id": "client-1",
        "secret": "s3cret",
        "settings": {"server_url": made.issuer},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
    SocialAccount.objects.filter(provider="sso").delete()
    yield made
    outside.close()


def connected(user, provider, sub="u-1"):
    client, _ = sign_in(user)
    provider.sub = sub
    assert provider.visit(client, process="connect").status_code == 302
    assert SocialAccount.objects.get(user=user).uid == sub
    return client


def test_whoever_connected_an_identity_signs_in_by_it(tenant, provider):
    user = member(tenant)
    connected(user, provider)
    guest = Client(REMOTE_ADDR="192.0.2.50")
    page = guest.get("/login/")
    assert "Sign in by Acme SSO" in page.content.decode()
    assert f"form-action 'self' {provider.issuer}" in page["Content-Security-Policy"]

    back = provider.visit(guest, next="/spend/")

    assert (back.status_code, back["Location"]) == (302, "/spend/") and guest.get("/spend/").status_code == 200
    last = read(tenant, Asked(kind="signin.succeeded"), before=None, limit=1)[0][0]
    assert (last.who, last.address, last.what) == (user.username, "192.0.2.50", BACK)


def test_an_identity_that_nobody_connected_is_nobody(tenant, provider):
    provider.sub = "stranger"
    before = get_user_model().objects.count()
    guest = Client()

    answer = provider.visit(guest)

    assert "No account is connected" in answer.content.decode()
    assert get_user_model().objects.count() == before and guest.get("/").status_code == 302


def test_an_invitation_may_be_taken_up_by_an_identity(tenant, provider):
    admin = member(tenant, "admin")
    viewer = Viewer(tenant, "admin", "admin", admin.pk)
    secret = links.invite(viewer, links.Invited(f"by-sso-{tenant.name}", "auditor"), now=timezone.now())
    provider.sub, guest = "u-new", Client()
    assert "Or join by Acme SSO" in guest.get(f"/join/{secret}/").content.decode()

    provider.visit(guest)

    user = get_user_model().objects.get(username=f"by-sso-{tenant.name}")
    assert guest.get("/").status_code == 200 and not user.has_usable_password()
    assert user.memberships.get().role == "auditor" and OneTimeLink.objects.get(username=user.username).used_at
    assert Identity.objects.filter(user_id=user.pk, issuer=provider.issuer, subject="u-new").exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"aud": "another"}, {"iss": "https://evil.example"}, {"exp": 1}, {"code": "bad"}, {"state": "made-up"},
        {"signs_by": (OTHER, "RS256")}, {"signs_by": ("x" * 40, "HS256")}, {"signs_by": (None, "none")},
        {"said_elsewhere": {"sub": "somebody else"}}, {"metadata": {"issuer": "https://evil.example"}},
        {"metadata": {"issuer": "https://evil.example"}, "iss": "https://evil.example"},
        {"metadata": {"token_endpoint": "http://localhost/"}}, {"metadata": {"jwks_uri": "https://localhost:1/"}},
    ],
)  # fmt: skip
def test_answers_that_are_not_for_us_sign_nobody_in(tenant, provider, bad):
    connected(member(tenant), provider)
    guest = Client()
    provider.said = {name: value for name, value in bad.items() if name in ("aud", "iss", "exp")}
    for name in ("signs_by", "said_elsewhere", "metadata"):
        setattr(provider, name, bad.get(name, getattr(provider, name)))

    answer = provider.visit(guest, code=bad.get("code", "good"), state=bad.get("state"))

    assert "did not sign you in" in answer.content.decode() and guest.get("/").status_code == 302


def test_the_second_factor_is_asked_of_identities_too(tenant, provider, settings):
    settings.SECOND_FACTOR_REQUIRED = True
    user = member(tenant)
    connected(user, provider)
    with_app(user)
    guest = Client()

    assert provider.visit(guest)["Location"] == "/account/2fa/authenticate/"
    assert guest.get("/").status_code == 302


@pytest.mark.parametrize("allowed", [True, False])
def test_what_is_asked_of_a_provider_goes_out_by_the_guard(tenant, provider, settings, allowed):
    settings.OIDC_ALLOW_PRIVATE = allowed  # it is at a loopback address

    answer = Client().post(START)

    assert (answer.status_code == 302) is allowed and bool(provider.outside.asked) is allowed
    if not allowed:
        assert "did not sign you in" in answer.content.decode()


def test_the_guard_follows_no_redirect_and_takes_no_plain_http(provider):
    import requests

    from config.signin.guarded import session

    provider.outside.answer = lambda *_: (302, {"Location": "https://localhost:1/"}, b"")
    with pytest.raises(requests.TooManyRedirects):
        session().get(provider.issuer)
    with pytest.raises(requests.ConnectionError):
        session().get("http://localhost:1/")


def test_settings_of_a_provider_come_from_the_environment_and_are_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("ANSWERABLE_OIDC_ISSUER", "https://id.example/")
    with pytest.raises(ImproperlyConfigured):
        env.oidc_apps()
    (tmp_path / "secret").write_text("s3\n")
    monkeypatch.setenv("ANSWERABLE_OIDC_CLIENT_ID", "c")
    monkeypatch.setenv("ANSWERABLE_OIDC_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    [app] = env.oidc_apps()
    assert app["settings"] == {"server_url": "https://id.example"} and app["secret"] == "s3"
    monkeypatch.setenv("ANSWERABLE_OIDC_ISSUER", "http://id.example")
    with pytest.raises(ImproperlyConfigured):
        env.oidc_apps()


# --- one person -------------------------------------------------------------------------------------------------------


def person(tenant, user, role="security"):
    return person_of(Viewer(tenant, role, user.username, user.pk))


def test_two_accounts_that_one_identity_used_are_one_person(tenant, provider):
    one, other = member(tenant, "security"), member(tenant, "finance")
    assert not are_one(person(tenant, one), person(tenant, other))
    connected(one, provider, "u-7")

    client, _ = sign_in(other)
    provider.visit(client, process="connect")  # refused, since it is another's: but shown to be theirs

    assert not SocialAccount.objects.filter(user=other).exists()
    assert are_one(person(tenant, one), person(tenant, other))


def test_an_address_that_the_provider_verified_joins_and_one_that_it_did_not_does_not(tenant, provider):
    written = member(tenant, "finance", email=f"Ada@{tenant.name}.example")
    one, other = member(tenant, "security"), member(tenant, "auditor")
    provider.email, provider.verified = f"ada@{tenant.name}.example", False
    connected(one, provider, "u-8")
    assert not are_one(person(tenant, one), person(tenant, written))

    provider.verified = True
    connected(other, provider, "u-9")
    assert are_one(person(tenant, other), person(tenant, written))


def test_an_admin_links_two_accounts_for_good_and_everybody_reads_it(tenant, now):
    admin, one, other = member(tenant, "admin"), member(tenant, "security"), member(tenant, "finance")
    client, _ = sign_in(admin)

    form = {"do": "link", "link-one": one.pk, "link-other": other.pk}
    assert client.post("/people/", form | {"link-reason": ""}).status_code == 422
    assert client.post("/people/", form | {"link-reason": "they told me"}).status_code == 302

    assert are_one(person(tenant, one), person(tenant, other))
    assert "person.linked" in client.get("/changes/").content.decode()
    with pytest.raises(ProgrammingError), transaction.atomic():
        Identity.objects.filter(user_id=one.pk).delete()
    with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE person_identity SET user_id = 0 WHERE user_id = %s", [one.pk])


def test_links_are_of_one_tenant_and_for_admins(tenant, now):
    from auditlog.sources.configure import add_tenant

    other = add_tenant(f"{tenant.name}-b", now=now)
    one, stranger = member(tenant, "security"), member(other, "security")
    for viewer, pair, error in (
        (Viewer(tenant, "admin", "a", 1), (one, stranger), NotPermitted),
        (Viewer(tenant, "security", "a", 1), (one, one), NotPermitted),
        (Viewer(tenant, "admin", "a", 1), (one, one), ConfigurationError),
    ):
        with pytest.raises(error):
            identities.link(viewer, *pair, reason="x", now=now)


def test_joining_goes_on_over_a_third_account(tenant, now):
    one = member(tenant, "security", email=f"x@{tenant.name}.example")
    two = member(tenant, "finance", email=f"X@{tenant.name}.example")
    three = member(tenant, "auditor")
    for user in (two, three):
        identities.told_by_provider(user.pk, issuer="https://id.example", subject=f"s-{tenant.name}", now=now)

    assert are_one(person(tenant, one), person(tenant, three))


def test_two_may_not_be_one_by_an_insert_twice(tenant, now):
    identities.told_by_provider(5_000_000, issuer="i", subject="s", now=now)
    identities.told_by_provider(5_000_000, issuer="i", subject="s", now=now)

    with pytest.raises(IntegrityError), transaction.atomic():
        Identity.objects.create(user_id=5_000_000, issuer="i", subject="s", said_by="x", at=now)
