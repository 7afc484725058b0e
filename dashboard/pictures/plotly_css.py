"""The style rules that plotly.js would inject at run time, read from plotly's own packaged file.

A strict CSP forbids the injection. The bundle skips it when an element `#plotly.js-style-global` with the class
`no-inline-styles` exists, so we serve the same rules as a style sheet: taken from the installed package, neither
copied nor kept in step by hand. Libraries inside the bundle inject their own sheets (maps, which we do not draw) unless
an element with a certain id exists; the page carries empty ones.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

import plotly

PACKAGE_DATA = Path(plotly.__file__).parent / "package_data"
_GUARD = re.compile(r'document\.getElementById\("(\w{20,80})"\)\)\{var \w+=document\.createElement\("style"\)')
_RULE = re.compile(r""",?("(?:[^"\\]|\\.)*"):("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")


class NoRulesError(Exception):
    """The installed bundle keeps its rules in a way we do not know."""


def _bundle() -> str:
    return (PACKAGE_DATA / "plotly.min.js").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def guard_ids() -> tuple[str, ...]:
    """Ids that the bundle looks for before it injects a style element of a library it contains."""
    return tuple(dict.fromkeys(_GUARD.findall(_bundle())))


@lru_cache(maxsize=1)
def style_sheet() -> str:
    """Raises NoRulesError. In the bundle `X` stands for a plot and `Y` for its notifier."""
    bundle = _bundle()
    place = bundle.find('"X,X div":')
    rules = []
    while place >= 0 and (found := _RULE.match(bundle, place)):
        selector, body = json.loads(found[1]), found[2][1:-1].replace("\\'", "'")
        selector = selector.replace("X", ".js-plotly-plot .plotly").replace("Y", ".plotly-notifier")
        rules.append(f"{selector}{{{body}}}")
        place = found.end()
    if len(rules) < 20:
        raise NoRulesError(f"found {len(rules)} style rules in plotly's bundle, expected 20 or more")
    return "\n".join(rules)
