"""Templates: a name that nothing has is found by whoever renders it, and each is laid out one element a line."""

from pathlib import Path

import pytest
from django.template import engines

TEMPLATES = sorted((Path(__file__).parents[2] / "dashboard/templates").rglob("*.html"))
LONGEST = 370  # an address put together from several filters, and the settings of htmx, cannot be broken


def test_a_misspelt_name_in_a_page_fails_whoever_renders_it():
    template = engines["django"].from_string("{{ fnding.title }}")
    template.template.name = "dashboard/finding.html"

    with pytest.raises(LookupError, match=r"dashboard/finding.html names fnding.title"):
        template.render({"finding": {"title": "x"}})
    assert engines["django"].from_string("{{ fnding.title }}").render({}) == ""  # of the admin's own


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_a_template_is_laid_out_one_element_a_line(file):
    lines = file.read_text().splitlines()

    assert [number for number, line in enumerate(lines, 1) if len(line) > LONGEST] == []
    assert [number for number, line in enumerate(lines, 1) if line.count("<section") + line.count("<tr") > 1] == []
