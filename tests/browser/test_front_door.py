"""Passkeys in a real browser, with an authenticator that Chromium makes up; and the pages before anybody is signed in."""

import os
from threading import Thread
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connections

from auditlog.models import Membership
from tests.browser.conftest import PASSWORD
from tests.browser.test_pages import SHOTS, Watch


@pytest.fixture
def person(site):
    made = []

    def make():  # in a thread of its own: the browser's loop runs in this one
        try:
            user = User.objects.create_user(f"keyed-{os.getpid()}", password=PASSWORD)
            Membership.objects.create(tenant=site.tenant, user=user, role="security")
            made.append(user)
        finally:
            connections.close_all()

    thread = Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture
def door(site, browser):
    """A page at http://localhost, and an authenticator in it: passkeys know no IP addresses."""
    context = browser.new_context()
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
               "isUserVerified": True, "automaticPresenceSimulation": True}  # fmt: skip
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.home = f"http://localhost:{urlsplit(site.url).port}"
    yield page
    context.close()


def sign_in(page, user):
    page.goto(f"{page.home}/login/")
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_a_passkey_is_added_signs_in_is_a_second_factor_and_a_proof(site, door, person):
    watch = Watch(door, site)
    watch.heard.clear()
    sign_in(door, person)
    door.wait_for_url(f"{door.home}/")
    door.goto(f"{door.home}/account/2fa/webauthn/add/")
    door.get_by_label("Passwordless").check()
    door.get_by_role("button", name="Add it").click()
    door.wait_for_url("**/recovery-codes/")
    assert "shown only now" in door.content()

    door.get_by_role("button", name="Sign out").click()  # by itself
    door.wait_for_url("**/login/")
    door.get_by_role("button", name="Sign in with a passkey").click()
    door.wait_for_url(f"{door.home}/")

    door.get_by_role("button", name="Sign out").click()  # after the password
    sign_in(door, person)
    door.wait_for_url("**/2fa/authenticate/")
    door.get_by_role("button", name="Use a passkey").click()
    door.wait_for_url(f"{door.home}/")

    door.goto(f"{door.home}/account/confirm/?next=/events/")  # again, before what matters
    door.get_by_role("button", name="Use a passkey").click()
    door.wait_for_url(f"{door.home}/events/")
    assert [line for line in watch.heard if not line.startswith(f"foreign: {door.home}")] == []


def test_at_an_ip_address_the_page_says_why_there_are_no_passkeys(site, browser, cookies):
    context = browser.new_context()
    context.add_cookies(cookies["auditor"])
    page = context.new_page()
    page.goto(f"{site.url}/account/2fa/webauthn/add/")

    assert page.get_by_text("Passkeys know no IP addresses").is_visible()
    assert not page.get_by_role("button", name="Add it").is_visible()
    page.goto(f"{site.url}/login/")
    context.close()


@pytest.mark.parametrize("path", ["/login/", "/account/password/forgot/", "/join/no-such/"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_before_the_door_fit_and_are_silent(site, browser, path, width):
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if width == 390 else "light"
    )
    page = context.new_page()
    watch = Watch(page, site)
    page.goto(f"{site.url}{path}")

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [line for line in watch.heard if "404" not in line] == []
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/door-{path.strip('/').replace('/', '-')}-{width}.png", full_page=True)
    context.close()
