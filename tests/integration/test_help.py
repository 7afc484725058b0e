"""Help inside the product: the files of dashboard/help, for whoever may sign in."""

import re
from pathlib import Path

import pytest
from django.test import Client

from dashboard.context import HELP_ON
from dashboard.pages.help import TOPICS
from tests.integration.test_dashboard_pages import signed_in, source_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_is_shown_and_leads_to_others_that_there_are(world, topic):
    page = source_of(signed_in(world, "abuse", "registrar").get(f"/help/{topic}/"))

    assert f"<h1>{TOPICS[topic].read_text().partition(chr(10))[0].removeprefix('# ')}".split("'")[0] in page
    assert set(re.findall(r'href="/help/([\w-]+)/"', page)) <= set(TOPICS)
    assert '.md"' not in page and "<script>" not in page.partition("<main")[2]


def test_the_list_names_every_topic_and_a_page_the_one_that_explains_it(world):
    client = signed_in(world, "admin")

    listed = source_of(client.get("/help/"))
    assert all(f'href="/help/{topic}/"' in listed for topic in TOPICS)
    assert 'href="/help/finance/"' in source_of(client.get("/spend/"))
    assert set(HELP_ON.values()) <= set(TOPICS)
    assert client.get("/help/no-such/").status_code == 404
    assert Client().get("/help/").status_code == 302


def test_the_readme_is_short_and_names_every_topic():
    readme = (ROOT / "README.md").read_text()

    assert len(readme.splitlines()) <= 150
    assert set(re.findall(r"\(dashboard/help/([\w-]+)\.md\)", readme)) == set(TOPICS)
