"""The sheet of ASVS 5.0 level 2 (dashboard/help/asvs.md) names tests that exist; and what it claims that no other test
shows, is shown here.
"""

import ast
import re
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import identify_hasher, make_password
from django.test import Client
from django.utils import timezone

from auditlog.reads.access import issue_token
from tests.integration.test_signing_in import PASSWORD, fresh, member, sign_in  # noqa: F401  fixtures among them
from tests.test_house import PACKAGES, modules

ROOT = Path(__file__).parents[2]
SHEET = (ROOT / "dashboard/help/asvs.md").read_text()
INVENTORY = (ROOT / "dashboard/help/crypto.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in SHEET.splitlines() if re.match(r"\| \d", line)
]
# Clauses of levels 1 and 2 in each section of ASVS 5.0.0, as its list counts them.
SECTIONS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1, "3.2": 2, "3.3": 4,
    "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4, "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
    "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 2, "10.2": 2, "10.3": 4,
    "10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3, "17.1": 1, "17.2": 4,
    "17.3": 2,
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("database")


def test_the_sheet_covers_every_clause_once():
    clauses = [row[0] for row in ROWS]
    found: dict[str, int] = {}
    for clause in clauses:
        found[clause.rpartition(".")[0]] = found.get(clause.rpartition(".")[0], 0) + 1

    assert len(clauses) == len(set(clauses)) == 253 and found == SECTIONS


def test_every_clause_is_met_by_a_test_that_exists_or_says_why_not_or_is_open_in_an_issue():
    there = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    counts = {"met": 0, "not applicable": 0, "**open**": 0}
    for clause, words, here in ROWS:
        [status] = [one for one in counts if here.startswith(one)]
        counts[status] += 1
        named = re.findall(r"`(test_\w+)`", here)
        assert words and set(named) <= there, (clause, set(named) - there)
        if status == "met":
            assert named, clause
        elif status == "**open**":
            assert re.search(r"issue \d+: \w", here), clause
        else:
            assert len(here.partition(": ")[2]) > 3, clause
    said = "{met} are met, {not applicable} are not applicable, {**open**} are open".format_map(counts)
    assert said in SHEET


def test_the_inventory_names_every_algorithm_that_the_code_imports():
    words = {
        "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512", "blake2b": "BLAKE2b", "hmac": "HMAC-SHA-256",
        "SecretBox": "XSalsa20-Poly1305", "SigningKey": "Ed25519", "VerifyKey": "Ed25519", "ec": "ECDSA P-256",
        "rsa": "RSA", "padding": "PKCS#1 v1.5", "ssl": "TLS 1.2", "secrets": "`secrets`", "jws": "JWS", "RSAKey": "RSA",
        "digest": "HMAC-SHA-256",
    }  # fmt: skip
    beside = {"hashlib", "hashes", "InvalidSignature", "BadSignatureError", "CryptoError", "bindings", "crypto_sign_open",
              "encode_dss_signature", "PyJWTError", "get_unverified_header"}  # fmt: skip
    of = ("hashlib", "hmac", "nacl", "cryptography", "joserfc", "secrets", "ssl", "jwt")
    used = set()
    for file in modules(*PACKAGES):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in of:
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names if alias.name.split(".")[0] in of}
            elif isinstance(node, ast.Attribute) and node.attr in ("md5", "sha1"):
                used.add(node.attr)

    assert used - beside <= set(words), used - beside - set(words)
    assert [word for name, word in words.items() if name in used and word not in INVENTORY] == []


def test_no_random_number_is_guessable():
    found = [
        str(file.relative_to(ROOT))
        for file in modules(*PACKAGES)
        if not {"simulator", "commands"} & {*file.parts}
        and re.search(r"^\s*(import random|from random import)", file.read_text(), re.M)
    ]

    # Only to spread out when something is tried again: nobody gains by knowing it.
    assert sorted(found) == ["auditlog/emit.py", "auditlog/sources/pull.py"]
    assert configured.SESSION_ENGINE == "django.contrib.sessions.backends.db"


def test_passwords_are_hashed_slowly():
    assert identify_hasher(make_password("x")).algorithm == "scrypt"


def test_what_we_call_speaks_tls_1_2_at_least():
    assert ssl.create_default_context().minimum_version >= ssl.TLSVersion.TLSv1_2
    outbound = (ROOT / "auditlog/sources/outbound.py").read_text()
    assert "ssl.create_default_context(" in outbound and "minimum_version" not in outbound


def test_no_command_is_run_from_a_request():
    """Code, commands and templates that are made while running: only where an operator's command or start does it."""
    makes = re.compile(
        r"(?<![\w.])(eval|exec|__import__)\(|\bpickle\b|\bmarshal\b|os\.system|subprocess\.|Template\(|yaml\.load"
    )
    may = (
        "config/children.py",
        "config/embedded",
        "config/management",
        "config/settings.py",
        "auditlog/sources/sealed.py",
        "auditlog/simulator",
        "auditlog/management",
    )
    found = [str(f.relative_to(ROOT)) for f in modules(*PACKAGES) if makes.search(f.read_text())]

    assert [name for name in found if not name.startswith(may)] == []


def test_no_pattern_is_made_of_a_request():
    """Regular expressions are constants of a module, or made of constants."""
    found = []
    for file in modules("dashboard", "disputes", "config", "auditlog/api", "auditlog/reads"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.args
                and not isinstance(node.args[0], ast.Constant)
            ):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_every_event_and_finding_links_are_quoted(tenant):
    """An id with everything in it leads to itself, and to no other scheme."""
    from django.urls import reverse

    odd = "javascript:alert(1)//?x=1&y=<b>#z"
    path = reverse("dashboard:grant", args=[odd])

    assert path.startswith("/grants/") and not set('<>"#?') & set(path)


def test_the_headers_of_every_answer(tenant):
    user = member(tenant)
    client, _ = sign_in(user)
    token = issue_token(tenant, name="t", role="auditor", expires_at=timezone.now() + timedelta(days=1))
    bearer = {"authorization": f"Bearer {token}"}
    asked = [
        client.get("/"), client.get("/account/"), client.get("/no-such/"), Client().get("/login/"), Client().get("/healthz"),
        Client().get("/api/v1/events", headers=bearer), Client().get("/api/v1/events", headers={"origin": "https://evil.example"}),
        Client().get("/account/2fa/authenticate/"), Client().get("/static/dashboard/signin.js"),
    ]  # fmt: skip
    for answer in asked:
        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer["X-Content-Type-Options"] == "nosniff" and answer["Referrer-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer and "Server" not in answer
        if answer.status_code == 200:
            assert re.match(r"text/(html|javascript); charset=|text/plain|application/json", answer["Content-Type"])
        assert not answer.get("Location", "").startswith("https://")


def test_no_script_writes_html():
    """Scripts of ours write text, keep nothing in the browser, merge nothing and listen to no other window."""
    never = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|sessionStorage|indexedDB|Object\.assign|__proto__|postMessage|onmessage"
    )
    for file in (ROOT / "dashboard/static/dashboard").glob("*.js"):
        assert never.findall(file.read_text()) == [], file.name


def test_a_get_changes_nothing_at_the_door(tenant):
    """Signing out, ending sessions, making links and starting out to a provider of identities take a POST with a token."""
    user = member(tenant, "admin")
    client, _ = sign_in(user)
    for path in ("/logout/", "/account/logout/", "/account/?others=1", "/people/?do=invite&username=x&role=auditor"):
        client.get(path)
    assert client.get("/").status_code == 200
    assert not get_user_model().objects.filter(username="x").exists()

    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/login/", {"username": user.username, "password": PASSWORD}).status_code == 403
    strict.force_login(user)
    for path in ("/logout/", "/people/", "/secrets/", "/account/", "/account/confirm/"):
        assert strict.post(path, {"do": "invite"}).status_code == 403


def test_a_file_of_evidence_goes_out_under_a_name_that_breaks_no_header():
    text = (ROOT / "disputes/views.py").read_text()
    made = re.findall(r"Content-Disposition[^\n]*\n?[^\n]*", text)

    assert made and all("attachment" in one and "item.name" not in one for one in made)


def test_password_fields_hide_and_take_what_managers_fill_in(tenant):
    client, _ = sign_in(member(tenant))
    for page, words in (
        (Client().get("/login/"), {"current-password"}),
        (client.get("/account/password/"), {"current-password", "new-password"}),
        (client.get("/account/confirm/"), {"current-password"}),
    ):
        fields = [one for one in re.findall(r"<input[^>]+>", page.content.decode()) if "password" in one]
        assert fields and all('type="password"' in one and "onpaste" not in one for one in fields)
        assert {re.search(r'autocomplete="([^"]+)"', one)[1] for one in fields} == words


@pytest.mark.parametrize(
    "password", ["  spaces at both ends  ", "ünïcödé and ☃ snow", "y" * 3 + " long" * 12, "all lower case here"]
)
def test_a_password_is_taken_exactly_as_it_was_typed(tenant, password):
    user = member(tenant)
    client, _ = sign_in(user)
    changed = client.post("/account/password/", {"oldpassword": PASSWORD, "password1": password, "password2": password})
    assert changed.status_code == 302

    assert sign_in(user, password)[1].status_code == 302
    for other in (password.strip() if password != password.strip() else password[:-1], password.swapcase()):
        assert sign_in(user, other)[1].status_code == 200
    get_user_model().objects.filter(pk=user.pk).update(date_joined=timezone.now() - timedelta(days=4_000))
    assert sign_in(user, password)[1].status_code == 302  # it never has to be changed


def test_setting_up_makes_no_account(database):
    made = (ROOT / "config/management/commands/setup_database.py").read_text()

    assert "User" not in made
    assert not get_user_model().objects.filter(username__in=["root", "sa", "administrator", "test", "guest"]).exists()


def test_signing_out_is_on_every_page_and_ends_the_session(tenant):
    client, _ = sign_in(member(tenant))
    for path in ("/", "/account/", "/account/2fa/", "/account/password/", "/help/"):
        assert "Sign out" in client.get(path).content.decode(), path
    before = client.cookies["sessionid"].value

    client.post("/logout/")

    old = Client()
    old.cookies["sessionid"] = before
    assert old.get("/").status_code == 302 and client.get("/").status_code == 302


def test_an_admin_ends_the_sessions_of_a_member(tenant):
    user, stranger = member(tenant), get_user_model().objects.create_user(f"s-{tenant.name}", password=PASSWORD)
    there, _ = sign_in(user)
    admin, _ = sign_in(member(tenant, "admin"))
    elsewhere, _ = sign_in(stranger)

    assert admin.post("/people/", {"do": "end", "user": user.pk}).status_code == 302
    assert admin.post("/people/", {"do": "end", "user": stranger.pk}).status_code == 422

    assert there.get("/").status_code == 302 and elsewhere.get("/").status_code == 403


def test_factors_and_passwords_change_after_a_proof_only(tenant):
    client, _ = sign_in(member(tenant))
    session = client.session
    session["proved"] -= 16 * 60
    session.save()

    for path in ("/account/2fa/totp/activate/", "/account/2fa/webauthn/add/", "/account/2fa/recovery-codes/generate/"):
        assert client.get(path)["Location"].startswith("/account/confirm/"), path
    assert client.post("/account/", {"others": "1"}).status_code == 401


def test_nothing_is_served_that_should_not_be(database):
    for path in (
        "/.git/config",
        "/static/",
        "/static/../config/settings.py",
        "/pyproject.toml",
        "/static/dashboard/",
        "/manage.py",
    ):
        assert Client().get(path).status_code == 404, path
    for path in ("/login/", "/", "/healthz"):
        answer = Client().generic("TRACE", path, headers={"x-secret": "s3cret"})
        assert answer.status_code in (302, 405) or b"s3cret" not in answer.content
    assert configured.DEBUG is False
