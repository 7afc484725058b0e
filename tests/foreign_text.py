"""Where templates write foreign text (what `shown` and its like write out), and whether a `<bdi>` isolates its direction."""

import re

_TOKEN = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<!--.*?-->|<[/!]?[a-zA-Z]|[>\"']", re.S)
_FOREIGN = re.compile(r"\|\s*(shown|shown_lines|safe_text)\b")
PLAIN = (
    "title",
    "option",
    "textarea",
    "script",
    "style",
    "text",
    "tspan",
    "desc",
)  # elements that hold text and no elements


def foreign_texts(template: str) -> list[tuple[int, int, bool]]:
    """(start, end, is inside a `<bdi>`) of each foreign text that stands in content: not in an attribute, not in an element
    that holds no other.
    """
    found, is_tag, quote, name, bdi, plain = [], False, "", "", 0, ""
    for token in _TOKEN.finditer(template):
        text = token.group()
        if text.startswith("{%") and re.match(r"\{%\s*(block title|endblock)", text):
            plain = "block" if "title" in text else "" if plain == "block" else plain
        if text.startswith(("{#", "{%", "<!--")):
            continue
        if text.startswith("{{"):
            if not is_tag and not plain and _FOREIGN.search(text):
                found.append((token.start(), token.end(), bdi > 0))
        elif text.startswith("<") and not is_tag:
            is_tag, name = True, re.match(r"</?[!]?([a-zA-Z0-9]*)", template[token.start() :]).group(0).lower()
        elif is_tag and quote:
            quote = "" if text == quote else quote
        elif is_tag and text in "\"'":
            quote = text
        elif is_tag and text == ">":
            is_tag = False
            if name == "<bdi":
                bdi += 1
            elif name == "</bdi":
                bdi -= 1
            elif name.lstrip("<") in PLAIN and template[token.start() - 1] != "/":
                plain = name.lstrip("<")
            elif name == f"</{plain}":
                plain = ""
    return found


def isolated(template: str) -> str:
    """The template with a `<bdi>` around each of them that has none."""
    for start, end, is_inside in reversed(foreign_texts(template)):
        if not is_inside:
            template = f"{template[:start]}<bdi>{template[start:end]}</bdi>{template[end:]}"
    return template
