"""The queue of incidents in a real browser: emptied by keys, and on a phone two lines a row."""

import os
from pathlib import Path

from tests.browser.test_pages import open_as


def seen(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_keys_move_choose_assign_snooze_and_go_elsewhere(site, browser, cookies):
    context = open_as(browser, cookies, "admin", width=1280)
    page, errors = context.new_page(), []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(site.url + "/incidents/")
    refs = page.locator("tr[data-ref]").evaluate_all("rows => rows.map(row => row.dataset.ref)")
    seen(page, "queue-1280")

    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator("tr.at").get_attribute("data-ref") == refs[1]
    assert page.evaluate("document.activeElement.textContent") == refs[1]
    page.keyboard.press("x")
    page.keyboard.press("k")
    page.keyboard.press("x")
    assert page.locator("input[name=ref]:checked").count() == 2
    with page.expect_navigation():
        page.keyboard.press("a")
    assert "2 incidents assigned to you" in page.locator("main").inner_text()
    assert page.locator("tr.at").get_attribute("data-ref") == refs[0]
    with page.expect_navigation():
        page.keyboard.press("e")

    assert page.locator(f"tr[data-ref={refs[0]}]").count() == 0
    assert page.locator("tr.at").get_attribute("data-ref") == refs[1]  # the next one is where the last one was
    page.keyboard.press("?")
    assert page.locator("dialog#keys").is_visible()
    seen(page, "keys-1280")
    page.keyboard.press("Escape")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url.endswith(f"/incidents/{refs[1]}/")
    seen(page, "incident-1280")
    with page.expect_navigation():
        page.keyboard.press("g")
        page.keyboard.press("f")
    assert page.url.endswith("/findings/")
    page.locator("#search").fill("")
    page.locator("#search").type("jx?ge")
    assert page.locator("#search").input_value() == "jx?ge" and page.url.endswith("/findings/")
    page.goto(site.url + f"/incidents/{refs[0]}/")
    assert "Snoozed: not in the queue" in page.locator("main").inner_text()
    page.get_by_role("button", name="Put back into the queue").click()
    assert "It is in the queue again." in page.locator("main").inner_text()
    assert errors == []
    context.close()


def test_on_a_phone_a_row_has_two_lines_and_the_queue_is_four_screens_at_most(site, browser, cookies):
    context = open_as(browser, cookies, "admin", width=390)
    page = context.new_page()
    page.emulate_media(color_scheme="dark")
    page.goto(site.url + "/incidents/")
    seen(page, "queue-390")

    heights = page.locator("tr[data-ref]").evaluate_all("rows => rows.map(row => row.getBoundingClientRect().height)")
    assert len(heights) >= 10 and max(heights) <= 72
    assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto(site.url + f"/incidents/{site.incident.ref}/")
    page.wait_for_selector("#verdicts b")
    seen(page, "incident-390")
    context.close()
