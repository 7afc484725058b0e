"""What every page of the dashboard knows: the viewer, where they can go, how much is open."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from auditlog.access import WHOLE
from dashboard import queries

_PLACES = (
    ("overview", "Overview"),
    ("findings", "Findings"),
    ("events", "Events"),
    ("sessions", "Sessions"),
    ("charges", "Spend"),
    ("parties", "Parties"),
    ("permissions", "Permissions"),
    ("inventory", "Inventory"),
    ("cases", "Cases"),
    ("integrity", "Integrity"),
)
_OF_WHOLE = {"permissions", "integrity"}  # of no use to an abuse desk, which may not see them
_CONFIGURED = (("sources", "Sources"),)


def desk(request: HttpRequest) -> dict[str, Any]:
    viewer = getattr(request, "viewer", None)
    if viewer is None:
        return {}
    places = [place for place in _PLACES if place[0] not in _OF_WHOLE or viewer.may(WHOLE)]
    here, known = request.path, places + (list(_CONFIGURED) if viewer.may("configure") else [])
    places = [
        {"name": label, "href": (href := reverse(f"dashboard:{name}")), "here": here == href or (href != "/" and here.startswith(href))}
        for name, label in known
    ]
    return {"viewer": viewer, "nav": places, "open_findings": queries.open_findings(viewer)}
