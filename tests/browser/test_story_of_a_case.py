"""The story of one case, as people walk it: from the finding on superseal.cc to a packet that verifies on a bare machine."""

import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.db import connections

from tests.browser.conftest import PASSWORD
from tests.browser.test_pages import SHOTS, Watch, open_as
from tests.integration.test_proofs import KEY


def signed_in_again(site, browser, name):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(8_000)
    page = context.new_page()
    page.goto(f"{site.url}/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")
    return page


def beside(django_db_blocker, do):
    """In a thread of its own: the browser's driver runs an event loop in this one."""

    def run():
        try:
            return do()
        finally:
            connections.close_all()

    with django_db_blocker.unblock(), ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def step(page, button, reason="as agreed"):
    page.get_by_label("Reason", exact=True).first.fill(reason)
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_load_state()


def shot(page, name):
    if SHOTS:
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=Path(SHOTS) / f"story-{name}-{width}-{scheme}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})


def test_a_case_goes_from_its_finding_to_a_packet_that_verifies(site, browser, cookies, django_db_blocker, tmp_path):
    from django.contrib.auth.models import User

    from auditlog.ledger.publish import announce_key, publish, take_fence
    from auditlog.models import Finding, Membership
    from disputes.models import Case

    second = f"second-{os.getpid()}"
    now = site.case.opened_at

    def announced():
        fence = take_fence(site.tenant)
        announce_key(site.tenant, key=KEY, now=now)
        user = User.objects.create_user(second, password=PASSWORD)
        Membership.objects.create(tenant=site.tenant, user=user, role="finance")
        return fence

    fence = beside(django_db_blocker, announced)
    superseal = beside(
        django_db_blocker,
        lambda: (
            Finding.objects.get(tenant=site.tenant, rule="intent.domain_mismatch", title__contains="superseal.cc").pk
        ),
    )

    context = open_as(browser, cookies, "admin", width=1280)
    page = context.new_page()
    watch, asked, yes = Watch(page, site), [], [True]
    page.on("dialog", lambda one: (asked.append(one.message), one.accept() if yes[0] else one.dismiss()))
    page.goto(f"{site.url}/cases/open/?finding={site.finding.pk}")
    assert page.locator("#similar").get_by_text(site.case.ref).is_visible()  # the first case is offered
    shot(page, "opening")
    page.get_by_role("button", name="Open the case").click()
    assert page.get_by_text("Go on with that one").is_visible()  # and no second one is opened unasked
    watch.heard.clear()  # a browser notes the refusal
    page.goto(f"{site.url}/cases/open/?finding={superseal}")
    page.get_by_label("Title").fill("superseal.cc instead of superseal.club")
    page.get_by_role("button", name="Open the case").click()
    page.wait_for_url(f"{site.url}/cases/D-*/")
    ref = page.url.rstrip("/").rpartition("/")[2]
    step(page, "Take it in")
    step(page, "Open for evidence")
    yes[0] = False
    step(page, "Seal the record")
    assert page.get_by_text("evidence open").first.is_visible()  # who is not sure seals nothing
    yes[0] = True
    step(page, "Seal the record")
    step(page, "Begin the assessment")
    page.get_by_label("Outcome").select_option("upheld")
    step(page, "Propose this outcome", "another name than the one that was asked for")
    assert page.get_by_role("button", name="Approve the proposal").count() == 0  # not by who proposed it
    assert [question.partition("?")[0] for question in asked] == ["Seal the record"] * 2

    other = signed_in_again(site, browser, second)
    other.on("dialog", lambda one: one.accept())
    other.goto(f"{site.url}/cases/{ref}/")
    step(other, "Take it under review")
    step(other, "Approve the proposal", "agreed")
    assert beside(django_db_blocker, lambda: Case.objects.get(tenant=site.tenant, ref=ref).state) == "decided"
    beside(django_db_blocker, lambda: publish(site.tenant, key=KEY, fence=fence, now=now))
    page.goto(f"{site.url}/cases/{ref}/")
    shot(page, "decided")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download the packet").click()
    packet = tmp_path / "case.zip"
    coming.value.save_as(packet)
    page.goto(f"{site.url}/cases/{ref}/outside/")
    shot(page, "outside")
    page.goto(f"{site.url}/complaints/")
    shot(page, "complaints")
    assert watch.heard == []
    with zipfile.ZipFile(packet) as archive:
        (tmp_path / "v.py").write_bytes(archive.read("answerable_verify.py"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "v.py", packet], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and ref in done.stdout, done.stdout + done.stderr
    context.close()
    other.context.close()
