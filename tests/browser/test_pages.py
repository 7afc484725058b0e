"""Every page in a real browser: nothing refused by the CSP, nothing in the console, readable, reachable by keyboard."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from auditlog.simulator.signing import Signer
from tests.support.needs import cannot

SHOTS = os.environ.get("SCREENSHOTS")  # a folder to leave pictures of every page in


def pages(site) -> dict[str, str]:
    return {
        "overview": "/",
        "incidents": "/incidents/?state=any",
        "incidents-none": "/incidents/?state=withdrawn&owner=me",
        "incident": f"/incidents/{site.incident.ref}/",
        "incident-of-a-case": f"/incidents/{site.told.ref}/",
        "incident-verdicts": f"/incidents/{site.incident.ref}/verdicts/",
        "findings": "/findings/",
        "finding": f"/findings/{site.finding.pk}/",
        "events": "/events/",
        "events-none": "/events/?type=no.such",
        "event": f"/events/{site.bought.event_id}/",
        "webhook": f"/events/{site.webhook.event_id}/",
        "sessions": "/sessions/",
        "timeline": "/timeline/?session=" + quote(site.bought.session),
        "timeline-task": "/timeline/?task=task-ada-film",
        "timeline-joined": "/timeline/?session=joined-a",
        "spend": "/spend/",
        "parties": "/parties/",
        "human": "/parties/?key=" + quote(site.bought.principal),
        "agent": "/parties/?key=" + quote(site.bought.actor),
        "grant": f"/grants/{quote(site.grant.id)}/",
        "reach": f"/reach/?kind=grant&key={quote(site.grant.id)}",
        "permissions": "/permissions/",
        "compare": f"/compare/?one={quote(site.grant.id)}&other={quote(site.grant.parent or site.grant.id)}",
        "inventory": "/inventory/",
        "integrity": "/integrity/",
        "sources": "/sources/",
        "changes": "/changes/",
        "security-log": "/security-log/",
        "source": f"/sources/{site.source.name}/",
        "source-shared": "/sources/stripe/",
        "formats": "/formats/",
        "account": "/account/",
        "people": "/people/",
        "secrets": "/secrets/",
        "factors": "/account/2fa/",
        "factor-app": "/account/2fa/totp/activate/",
        "factor-passkey": "/account/2fa/webauthn/add/",
        "password": "/account/password/",
        "proof": "/account/confirm/",
        "help": "/help/",
        "help-incidents": "/help/incidents/",
        "alerts": "/alerts/",
        "alert-channel": "/alerts/oncall/",
        "help-alerts": "/help/alerts/",
        "help-asvs": "/help/asvs/",
        "help-signing-in": "/help/signing-in/",
        "help-crypto": "/help/crypto/",
        "help-connect": "/help/connect/",
        "help-production": "/help/production/",
        "search": "/search/?q=no-such-thing",
        "cases": "/cases/",
        "case": f"/cases/{site.case.ref}/",
        "missing": "/events/00000000-0000-0000-0000-000000000000/",
        "admin": "/admin/",
        "admin-sources": "/admin/auditlog/source/",
        "admin-ledger": "/admin/auditlog/ledgerentry/",
        "admin-source": "/admin/auditlog/source/add/",
        "admin-source-change": f"/admin/auditlog/source/{site.source.pk}/change/",
        "admin-organisation": "/admin/auditlog/organisation/add/",
        "admin-export": "/admin/auditlog/export/add/",
        "admin-token": "/admin/auditlog/apitoken/add/",
    }


class Watch:
    """Console errors, page errors, failed and foreign requests of one page."""

    def __init__(self, page, site) -> None:
        self.heard: list[str] = []
        page.on("console", lambda m: m.type in ("error", "warning") and self.heard.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        page.on(
            "request",
            lambda r: r.url.startswith(("data:", "blob:", site.url)) or self.heard.append(f"foreign: {r.url}"),
        )


def open_as(browser, cookies, role: str, *, width: int):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.add_cookies(cookies[role])
    context.set_default_timeout(8_000)
    return context


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_quiet_fits_and_can_be_read(site, browser, cookies, width):
    context = open_as(browser, cookies, "admin", width=width)
    page = context.new_page()
    watch = Watch(page, site)
    problems = []
    for name, path in pages(site).items():
        watch.heard.clear()
        page.emulate_media(color_scheme="light")
        response = page.goto(site.url + path, wait_until="load")
        if name != "missing" and response.status != 200:
            problems.append(f"{name}: {response.status}")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_selector(f"[data-chart]:not([data-drawn={scheme}])", state="detached")
            if SHOTS:
                page.wait_for_timeout(300)
                page.screenshot(path=Path(SHOTS) / f"{name}-{width}-{scheme}.png", full_page=True)
            if not name.startswith("admin"):
                problems += [f"{name}, {scheme}: {found}" for found in page.evaluate(CONTRAST)]
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0 and not name.startswith("admin"):
            problems.append(f"{name}: {over} px wider than the window: " + page.evaluate(WIDEST))
        problems += [f"{name}: {heard}" for heard in watch.heard if not (response.status == 404 and "404" in heard)]
    context.close()

    assert not problems, "\n".join(problems)


WIDEST = """() => [...document.querySelectorAll('main *, header *')].filter((e) =>
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest('.scroll, svg'))
  .slice(0, 4).map((e) => e.tagName + '.' + e.className).join(', ')"""

# WCAG 2.2 contrast of every piece of text against the nearest painted background (1.4.3, normal size: 4.5).
CONTRAST = """() => {
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (text) => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = text; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c[3] > 250) return c; } return [255, 255, 255, 255]; };
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), e = walk.currentNode.parentElement;
    if (!text || !e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || e.closest('script, .away')) continue;
    const style = getComputedStyle(e), ink = rgb(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const back = e.closest('svg') ? behind(e.closest('svg').parentElement) : behind(e);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.add(`contrast ${ratio.toFixed(2)} of ${e.tagName}.${e.getAttribute('class') || ''} "${text.slice(0, 30)}"`);
  }
  return [...found].slice(0, 8);
}"""


def test_charts_are_drawn_and_a_bar_leads_to_its_events(site, browser, cookies):
    context = open_as(browser, cookies, "admin", width=1280)
    page = context.new_page()
    page.goto(site.url + "/")
    page.wait_for_selector("[data-chart='events-per-day-data'] .main-svg .trace")

    bars = page.locator("[data-chart='events-per-day-data'] .bars .point path").all()
    box = max((bar.bounding_box() for bar in bars), key=lambda box: box["height"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"/events/\?.*since="))

    assert page.locator("#list tbody tr").count() > 0
    context.close()


def test_overview_tells_its_numbers_without_javascript(site, browser, cookies):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    context.add_cookies(cookies["admin"])
    page = context.new_page()
    page.goto(site.url + "/")

    page.locator(".twin summary").first.click()

    assert page.locator(".twin table tbody tr").first.is_visible()
    page.locator(".twin table tbody a").first.click()
    assert page.locator("#list tbody tr").count() > 0
    context.close()


def test_keyboard_focus_is_seen_and_reaches_the_content(site, browser, cookies):
    context = open_as(browser, cookies, "admin", width=1280)
    page = context.new_page()
    page.goto(site.url + "/findings/")
    unseen = []
    for _ in range(25):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "() => { const s = getComputedStyle(document.activeElement);"
            " return [document.activeElement.outerHTML.slice(0, 80), s.outlineStyle, parseFloat(s.outlineWidth)]; }"
        )
        if style[1] == "none" or style[2] < 2:
            unseen.append(style[0])
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")

    assert not unseen
    assert page.evaluate("document.activeElement.id") == "search"
    context.close()


def test_filter_and_triage_work_in_place(site, browser, cookies):
    context = open_as(browser, cookies, "admin", width=1280)
    page = context.new_page()
    watch = Watch(page, site)
    page.goto(site.url + "/events/")
    page.evaluate("window.stayed = true")
    page.get_by_label("Type").fill("domain.registered")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile(r"/events/\?.*type=domain.registered"))
    assert page.evaluate("window.stayed") is True
    assert set(page.locator("#list td[data-label=Event] a").all_inner_texts()) == {"domain.registered"}

    page.goto(f"{site.url}/findings/{site.finding.pk}/")
    page.evaluate("window.stayed = true")
    page.get_by_label("Reason").fill("Seen with Ada; she did not ask for it.")
    page.get_by_role("button", name="Record").click()
    page.wait_for_selector(".notice-success")

    assert page.evaluate("window.stayed") is True
    assert "she did not ask for it" in page.locator("#triage .steps").inner_text()
    assert not watch.heard
    context.close()


def test_the_explorer_walks_the_tree_in_place_by_mouse_and_by_keyboard(site, browser, cookies):
    context = open_as(browser, cookies, "auditor", width=1280)
    page = context.new_page()
    watch = Watch(page, site)
    page.goto(f"{site.url}/reach/?kind=grant&key={quote(site.grant.id)}")
    page.evaluate("window.stayed = true")
    standing = page.locator("#explorer > p a").first
    stood = [standing.inner_text()]
    box = page.locator("#explorer svg a").first

    box.focus()
    page.keyboard.press("Enter")
    for go_on in (lambda: page.locator("#explorer svg a[aria-label*='stand at grant']").last.click(), lambda: None):
        page.wait_for_function("(was) => document.querySelector('#explorer > p a').innerText !== was", arg=stood[-1])
        stood.append(standing.inner_text())
        page.wait_for_function("() => document.activeElement.id === 'explorer'")  # the keyboard goes on from here
        go_on()

    assert page.evaluate("window.stayed") is True and not watch.heard
    with context.expect_page() as opened:
        box.click(modifiers=["Control"])
    assert "/reach/?kind=grant" in opened.value.url
    context.close()


def test_a_source_is_added_tested_and_its_key_rotated_without_javascript(site, browser, cookies, monkeypatch):
    monkeypatch.setenv("BROWSER_TEST_TOKEN", "a-token-of-the-tests")
    name, signer = f"new-{os.getpid()}", Signer("https://new.example", "k1", seed=5)
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    context.add_cookies(cookies["admin"])
    page = context.new_page()
    page.goto(f"{site.url}/formats/#cloudevents")
    page.locator("#cloudevents").get_by_role("link", name="Add a source of this format").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Issuer", exact=True).fill("https://new.example")
    page.get_by_role("button", name="Add the source").click()
    assert "name its variable" in page.locator(".has-error").inner_text()

    page.get_by_label("Variable of the shared secret").fill("BROWSER_TEST_TOKEN")
    page.get_by_role("button", name="Add the source").click()
    page.wait_for_url(re.compile(f"/sources/{name}/"))
    assert "Nothing has arrived yet" in page.locator("#deliveries").inner_text()
    page.get_by_role("button", name="Test delivery").click()
    assert "✓ would be taken" in page.locator("#result").inner_text()

    for kid in ("k1", "k2"):
        page.get_by_text("Add a key", exact=True).click()
        page.get_by_label("A public key to add").fill(json.dumps(Signer(signer.issuer, kid, seed=5).jwk))
        page.get_by_role("button", name="Add the key").click()
    page.locator("#keys tr", has_text="k1").get_by_text("Retire", exact=True).click()
    page.get_by_role("button", name="Retire this key").click()

    assert "Key k1 is retired" in page.locator(".notice-success").inner_text()
    assert page.locator("#keys details", has_text="Retire this key").count() == 1
    context.close()


def test_a_source_is_connected_by_the_very_command_its_page_shows(site, browser, cookies, monkeypatch):
    """Create it, run the curl as it stands there in a shell, see the delivery; rotate the secret with both good meanwhile."""
    if shutil.which("curl") is None or shutil.which("openssl") is None:
        cannot("curl", "no curl or openssl found")
    context = open_as(browser, cookies, "admin", width=1280)
    page = context.new_page()
    watch = Watch(page, site)
    for format, secret, other in (
        ("acp", "an-old-shared-secret", "a-new-shared-secret"), ("cloudevents", "an-old-token", "a-new-token"),
        ("standard_webhooks", "whsec_b2xkLXNlY3JldC1vbGQtc2VjcmV0LW9sZA==", "whsec_bmV3LXNlY3JldC1uZXctc2VjcmV0LW5ldw=="),
    ):  # fmt: skip
        name, variable = f"by-curl-{format.replace('_', '-')}-{os.getpid()}", f"CURL_{format.upper()}"
        monkeypatch.setenv(variable, secret)
        page.goto(f"{site.url}/sources/?format={format}")
        if not page.get_by_label("Name", exact=True).is_visible():
            page.get_by_text("Add a source", exact=True).first.click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Issuer", exact=True).fill(f"https://{format.replace('_', '-')}.example")
        page.get_by_label("Variable of the shared secret").fill(variable)
        page.get_by_role("button", name="Add the source").click()
        page.wait_for_url(re.compile(f"/sources/{name}/"))
        command = page.locator("pre.bytes").first.inner_text()

        def send(value, command=command, variable=variable):
            done = subprocess.run(
                ["sh", "-c", command],
                env=os.environ | {variable: value},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            return done.stdout.splitlines()[0], done.stdout + done.stderr

        assert " 202" in send(secret)[0] or " 200" in send(secret)[0], send(secret)
        assert (
            " 401" in send("somebody-elses")[0] or " 400" in send("whsec_c29tZWJvZHktZWxzZXMtc2VjcmV0LXNlY3JldA==")[0]
        )
        monkeypatch.setenv(variable, other)  # the service has the new one, and the old one beside it
        monkeypatch.setenv(f"{variable}_OLD", secret)
        again = [send(value)[0] for value in (secret, other)]
        assert all(" 202" in line or " 200" in line for line in again), (format, again)
        page.reload()
        shown = page.locator("#deliveries").inner_text()
        assert (
            "taken" in shown and "authentication_failed" in shown and "all of it is in the ledger already" in shown
        ), shown
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / f"connected-{format}.png", full_page=True)
    assert not watch.heard, watch.heard
    context.close()
