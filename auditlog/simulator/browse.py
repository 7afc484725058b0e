"""People who read pages while events arrive: each opens a page, thinks, and opens the next, over one connection.

For measuring: `bench browse`. What a person opens are the pages of the menu, and now and then the first finding, event
or source that the last list showed.
"""

import http.client
import random
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

PAGES = (
    "/", "/findings/", "/events/", "/spend/", "/parties/", "/sessions/", "/inventory/", "/integrity/", "/cases/", "/search/?q=agent-0001",
    "/sources/", "/rules/", "/changes/", "/?days=7",
)  # fmt: skip
THINKS = 1.0  # seconds between two pages
_DETAIL = re.compile(rb'href="(/(?:findings/\d+|events/[0-9a-f-]{36}|sources/[a-z0-9._-]+)/)"')


@dataclass(slots=True)
class Browsed:
    """What one person saw: (path, seconds until the page was whole), and paths that were no page, with their status."""

    pages: list[tuple[str, float]] = field(default_factory=list)
    failed: list[tuple[str, int]] = field(default_factory=list)


def browse(port: int, cookie: str, *, until: float, seed: int) -> Browsed:
    """Read pages until `until` of the monotonic clock. A page that the role may not see (403) is answered, too."""
    chance, told, detail = random.Random(seed), Browsed(), ""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.monotonic() < until:
        path = detail or chance.choice(PAGES)
        began = time.perf_counter()
        try:
            line.request("GET", path, headers={"Cookie": cookie, "Host": f"localhost:{port}"})
            answer = line.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            told.failed.append((path, 0))
            line.close()
            continue
        told.pages.append((path, time.perf_counter() - began))
        if answer.status not in (200, 403):
            told.failed.append((path, answer.status))
        found = _DETAIL.findall(body) if not detail else []
        detail = chance.choice(found).decode() if found and chance.random() < 0.3 else ""
        time.sleep(THINKS * (0.5 + chance.random()))
    line.close()
    return told


def paced(bodies: Iterable[bytes], *, every: float) -> Iterator[bytes]:
    """The bodies, each when it is due: one `every` so many seconds from now on, at once where one is late."""
    due = time.monotonic()
    for body in bodies:
        time.sleep(max(0.0, due - time.monotonic()))
        due += every
        yield body
