"""Help: what lies in dashboard/help/*.md, which is read on the repository as well."""

from functools import cache
from pathlib import Path

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_GET
from markdown_it import MarkdownIt

from dashboard.parts.access import page

FOLDER = Path(__file__).parent.parent / "help"
TOPICS = {file.stem: file for file in sorted(FOLDER.glob("*.md"))}


@page
@require_GET
def help_page(request: HttpRequest, topic: str = "") -> HttpResponse:
    """One topic; without a name, the list of them."""
    if topic and topic not in TOPICS:
        raise Http404(f"there is no help on {topic}")
    titles = [(name, title_of(name)) for name in TOPICS]
    shown = {"title": title_of(topic) if topic else "Help", "text": html_of(topic) if topic else "", "topics": titles}
    return render(request, "dashboard/help.html", shown)


@cache
def title_of(topic: str) -> str:
    return TOPICS[topic].read_text().partition("\n")[0].removeprefix("# ")


@cache
def html_of(topic: str) -> SafeString:
    """Its text below the title. Raw HTML in it is shown as text; a link to another topic's file leads to that topic."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(TOPICS[topic].read_text().partition("\n")[2])
    for token in (each for block in tokens for each in block.children or ()):
        if token.type == "link_open" and (target := str(token.attrs["href"])).removesuffix(".md") in TOPICS:
            token.attrs["href"] = f"/help/{target.removesuffix('.md')}/"
    return mark_safe(markdown.renderer.render(tokens, markdown.options, {}))
